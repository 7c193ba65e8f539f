/* Queues, groups, ping and statistics: one request, one answer, waited for. */
#include "client_internal.h"

/* ---- asking ------------------------------------------------------------------------------------------------------------ */

/* Sends what stands in `scratch`. */
static broker_error call_scratch(broker *b, struct call *c, uint8_t type)
{
    broker_error error = scratch_good(b);

    return error != BROKER_OK ? error : call_do(b, c, type, b->scratch.data, b->scratch.size);
}

static broker_error queue_call(broker *b, uint8_t type, const char *queue, struct call *c)
{
    msgpack_packer pk;
    size_t len;
    broker_error error = check_name(b, "queue", queue, &len);

    if (error != BROKER_OK)
        return error;
    scratch_pack(b, &pk);
    msgpack_pack_map(&pk, 1);
    pack_key_str(&pk, "queue", queue, len);
    return call_scratch(b, c, type);
}

static const char *const retention_names[] = {[BROKER_RETENTION_WORK] = "work", [BROKER_RETENTION_LOG] = "log"};
static const char *const sync_names[] = {
    [BROKER_SYNC_ALWAYS] = "always", [BROKER_SYNC_INTERVAL] = "interval", [BROKER_SYNC_NONE] = "none"};

static broker_error check_settings(broker *b, const broker_queue_settings *s)
{
    if ((s->set & BROKER_SET_RETENTION) && s->retention != BROKER_RETENTION_WORK &&
        s->retention != BROKER_RETENTION_LOG)
        return set_error(b, BROKER_INVALID_ARGUMENT, "queue settings: retention is %d; give a broker_retention",
                         (int)s->retention);
    if ((s->set & BROKER_SET_SYNC) && (s->sync < BROKER_SYNC_ALWAYS || s->sync > BROKER_SYNC_NONE))
        return set_error(b, BROKER_INVALID_ARGUMENT, "queue settings: sync is %d; give always, interval or none",
                         (int)s->sync);
    if ((s->set & BROKER_SET_LEASE_MS) && (s->lease_ms < 1 || s->lease_ms > LEASE_MS_MAX))
        return set_error(b, BROKER_INVALID_ARGUMENT, "queue settings: lease_ms is %u; give 1 to %d", s->lease_ms,
                         LEASE_MS_MAX);
    return BROKER_OK;
}

static void pack_settings(msgpack_packer *pk, const broker_queue_settings *s)
{
    if (s->set & BROKER_SET_RETENTION)
        pack_key_str(pk, "retention", retention_names[s->retention], strlen(retention_names[s->retention]));
    if (s->set & BROKER_SET_SYNC)
        pack_key_str(pk, "sync", sync_names[s->sync], strlen(sync_names[s->sync]));
    if (s->set & BROKER_SET_LEASE_MS)
        pack_key_u64(pk, "lease_ms", s->lease_ms);
    if (s->set & BROKER_SET_MAX_MESSAGE_BYTES)
        pack_key_u64(pk, "max_message_bytes", s->max_message_bytes);
    if (s->set & BROKER_SET_LOG_MAX_AGE_MS)
        pack_key_u64(pk, "log_max_age_ms", s->log_max_age_ms);
    if (s->set & BROKER_SET_LOG_MAX_BYTES)
        pack_key_u64(pk, "log_max_bytes", s->log_max_bytes);
    if (s->set & BROKER_SET_LOG_MAX_MESSAGES)
        pack_key_u64(pk, "log_max_messages", s->log_max_messages);
}

static broker_error settings_call(broker *b, uint8_t type, const char *queue, const broker_queue_settings *given)
{
    enum { SETTINGS_KNOWN = 0x7f };
    broker_queue_settings s;
    struct call c = {0};
    msgpack_packer pk;
    size_t len;
    broker_error error = check_name(b, "queue", queue, &len);

    if (error == BROKER_OK && !copy_options(&s, sizeof(s), given, offsetof(broker_queue_settings, retention)))
        error = set_error(b, BROKER_INVALID_ARGUMENT, "queue settings: use BROKER_OPTIONS_INIT(broker_queue_settings)");
    if (error == BROKER_OK)
        error = check_settings(b, &s);
    if (error != BROKER_OK)
        return error;
    s.set &= SETTINGS_KNOWN;
    scratch_pack(b, &pk);
    msgpack_pack_map(&pk, 1 + (size_t)__builtin_popcount(s.set));
    pack_key_str(&pk, "queue", queue, len);
    pack_settings(&pk, &s);
    return call_scratch(b, &c, type);
}

broker_error broker_queue_create(broker *b, const char *queue, const broker_queue_settings *settings)
{
    return settings_call(b, FRAME_QUEUE_CREATE, queue, settings);
}

broker_error broker_queue_alter(broker *b, const char *queue, const broker_queue_settings *settings)
{
    return settings_call(b, FRAME_QUEUE_ALTER, queue, settings);
}

broker_error broker_queue_delete(broker *b, const char *queue)
{
    struct call c = {0};
    return queue_call(b, FRAME_QUEUE_DELETE, queue, &c);
}

broker_error broker_queue_pause(broker *b, const char *queue)
{
    struct call c = {0};
    return queue_call(b, FRAME_QUEUE_PAUSE, queue, &c);
}

broker_error broker_queue_resume(broker *b, const char *queue)
{
    struct call c = {0};
    return queue_call(b, FRAME_QUEUE_RESUME, queue, &c);
}

/* ---- groups -------------------------------------------------------------------------------------------------------------- */

static broker_error group_call(broker *b, uint8_t type, const char *queue, const char *group, const char *start,
                               uint64_t value)
{
    struct call c = {0};
    msgpack_packer pk;
    size_t len, group_len;
    broker_error error = check_name(b, "queue", queue, &len);

    if (error == BROKER_OK)
        error = check_name(b, "group", group, &group_len);
    if (error != BROKER_OK)
        return error;
    scratch_pack(b, &pk);
    msgpack_pack_map(&pk, start ? 4 : 2);
    pack_key_str(&pk, "queue", queue, len);
    pack_key_str(&pk, "group", group, group_len);
    if (start) {
        pack_key_str(&pk, "start", start, strlen(start));
        pack_key_u64(&pk, "value", value);
    }
    return call_scratch(b, &c, type);
}

static broker_error start_call(broker *b, uint8_t type, const char *queue, const char *group, broker_start start,
                               uint64_t value)
{
    static const char *const names[] = {[BROKER_START_BEGINNING] = "beginning",
                                        [BROKER_START_END] = "end",
                                        [BROKER_START_SEQ] = "seq",
                                        [BROKER_START_TIME] = "time"};

    if ((unsigned)start >= sizeof(names) / sizeof(names[0]))
        return set_error(b, BROKER_INVALID_ARGUMENT, "start is %d; give a broker_start", (int)start);
    return group_call(b, type, queue, group, names[start], value);
}

broker_error broker_group_create(broker *b, const char *queue, const char *group, broker_start start, uint64_t value)
{
    return start_call(b, FRAME_GROUP_CREATE, queue, group, start, value);
}

broker_error broker_group_seek(broker *b, const char *queue, const char *group, broker_start start, uint64_t value)
{
    return start_call(b, FRAME_GROUP_SEEK, queue, group, start, value);
}

broker_error broker_group_delete(broker *b, const char *queue, const char *group)
{
    return group_call(b, FRAME_GROUP_DELETE, queue, group, NULL, 0);
}

/* ---- answers that say something ----------------------------------------------------------------------------------------- */

static broker_error malformed_answer(broker *b, const char *type, const struct wire_map *m)
{
    return set_error(b, BROKER_MALFORMED, "the broker's answer to %s is malformed: %s", type,
                     m->error[0] ? m->error : "a key is missing or of a wrong type");
}

static broker_error purge_answered(broker *b, struct call *c, const uint8_t *body, size_t len)
{
    struct wire_map m;
    broker_error error = BROKER_OK;

    if (wire_map_open(&m, body, len) != BROKER_OK || !wire_map_u64(&m, "purged", 0, UINT64_MAX, c->arg))
        error = malformed_answer(b, "QUEUE_PURGE", &m);
    wire_map_close(&m);
    return error;
}

broker_error broker_queue_purge(broker *b, const char *queue, uint64_t *purged)
{
    uint64_t count = 0;
    struct call c = {.on_answer = purge_answered, .arg = &count};
    broker_error error = queue_call(b, FRAME_QUEUE_PURGE, queue, &c);

    if (purged)
        *purged = count;
    return error;
}

static broker_error stats_answered(broker *b, struct call *c, const uint8_t *body, size_t len)
{
    broker_stats *s = c->arg;
    struct wire_map m;
    const char *version = "";
    size_t version_len = 0;
    broker_error error = BROKER_OK;
    const struct {
        const char *key;
        uint64_t *value;
    } numbers[] = {
        {"uptime_ms", &s->uptime_ms},
        {"cpu_us", &s->cpu_us},
        {"rss_bytes", &s->rss_bytes},
        {"connections", &s->connections},
        {"queues", &s->queues},
        {"subscriptions", &s->subscriptions},
        {"published", &s->published},
        {"delivered", &s->delivered},
        {"acked", &s->acked},
        {"syncs", &s->syncs},
        {"bytes_written", &s->bytes_written},
        {"log_index", &s->log_index},
        {"disk_bytes", &s->disk_bytes},
        {"segments", &s->segments},
    };

    bool good = wire_map_open(&m, body, len) == BROKER_OK &&
                wire_map_str(&m, "version", sizeof(s->version) - 1, &version, &version_len);
    for (size_t i = 0; good && i < sizeof(numbers) / sizeof(numbers[0]); i++)
        good = wire_map_u64(&m, numbers[i].key, 0, UINT64_MAX, numbers[i].value);
    if (good)
        memcpy(s->version, version, version_len);
    else
        error = malformed_answer(b, "STATS", &m);
    wire_map_close(&m);
    return error;
}

broker_error broker_get_stats(broker *b, broker_stats *stats)
{
    broker_stats s = {0};
    struct call c = {.on_answer = stats_answered, .arg = &s};
    size_t size = stats->size;

    if (size < sizeof(size))
        return set_error(b, BROKER_INVALID_ARGUMENT, "stats: use BROKER_OPTIONS_INIT(broker_stats)");
    broker_error error = call_do(b, &c, FRAME_STATS, NULL, 0);
    if (error != BROKER_OK)
        return error;
    s.size = size;
    memcpy(stats, &s, size < sizeof(s) ? size : sizeof(s));
    return BROKER_OK;
}

broker_error broker_ping(broker *b, uint64_t *rtt_us)
{
    struct call c = {0};
    broker_error error = broker_connect(b); /* the round trip alone is what counts */
    uint64_t start = client_now_us();

    if (error == BROKER_OK)
        error = call_do(b, &c, FRAME_PING, NULL, 0);
    if (error == BROKER_OK && rtt_us)
        *rtt_us = client_now_us() - start;
    return error;
}
