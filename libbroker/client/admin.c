/* Queues, groups, ping and statistics: one request, one answer, waited for. */
#include "client_internal.h"

/* ---- asking ------------------------------------------------------------------------------------------------------------ */

broker_error call_scratch(broker *b, struct call *c, uint8_t type)
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

static broker_error settings_call(broker *b, uint8_t type, const char *queue, const broker_queue_settings *given)
{
    broker_queue_settings s;
    struct call c = {0};
    msgpack_packer pk;
    size_t len;
    broker_error error = check_name(b, "queue", queue, &len);

    if (error == BROKER_OK)
        error = queue_settings_copy(b, given, &s);
    if (error != BROKER_OK)
        return error;
    scratch_pack(b, &pk);
    msgpack_pack_map(&pk, 1 + queue_settings_keys(&s));
    pack_key_str(&pk, "queue", queue, len);
    queue_settings_pack(&pk, &s);
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

/* start and settings: NULL where the request has none. */
static broker_error group_call(broker *b, uint8_t type, const char *queue, const char *group, const char *start,
                               uint64_t value, const broker_group_settings *settings)
{
    static const broker_group_settings none;
    const broker_group_settings *s = settings ? settings : &none;
    struct call c = {0};
    msgpack_packer pk;
    size_t len, group_len;
    broker_error error = check_name(b, "queue", queue, &len);

    if (error == BROKER_OK)
        error = check_name(b, "group", group, &group_len);
    if (error != BROKER_OK)
        return error;
    scratch_pack(b, &pk);
    msgpack_pack_map(&pk, (start ? 4 : 2) + group_settings_keys(s));
    pack_key_str(&pk, "queue", queue, len);
    pack_key_str(&pk, "group", group, group_len);
    if (start) {
        pack_key_str(&pk, "start", start, strlen(start));
        pack_key_u64(&pk, "value", value);
    }
    group_settings_pack(&pk, s);
    return call_scratch(b, &c, type);
}

static broker_error start_call(broker *b, uint8_t type, const char *queue, const char *group, broker_start start,
                               uint64_t value, const broker_group_settings *settings)
{
    static const char *const names[] = {[BROKER_START_BEGINNING] = "beginning",
                                        [BROKER_START_END] = "end",
                                        [BROKER_START_SEQ] = "seq",
                                        [BROKER_START_TIME] = "time"};

    if ((unsigned)start >= sizeof(names) / sizeof(names[0]))
        return set_error(b, BROKER_INVALID_ARGUMENT, "start is %d; give a broker_start", (int)start);
    return group_call(b, type, queue, group, names[start], value, settings);
}

broker_error broker_group_create(broker *b, const char *queue, const char *group, broker_start start, uint64_t value,
                                 const broker_group_settings *settings)
{
    broker_group_settings s;
    broker_error error = group_settings_copy(b, settings, &s);

    return error != BROKER_OK ? error : start_call(b, FRAME_GROUP_CREATE, queue, group, start, value, &s);
}

broker_error broker_group_alter(broker *b, const char *queue, const char *group, const broker_group_settings *settings)
{
    broker_group_settings s;
    broker_error error = group_settings_copy(b, settings, &s);

    return error != BROKER_OK ? error : group_call(b, FRAME_GROUP_ALTER, queue, group, NULL, 0, &s);
}

broker_error broker_group_seek(broker *b, const char *queue, const char *group, broker_start start, uint64_t value)
{
    return start_call(b, FRAME_GROUP_SEEK, queue, group, start, value, NULL);
}

broker_error broker_group_delete(broker *b, const char *queue, const char *group)
{
    return group_call(b, FRAME_GROUP_DELETE, queue, group, NULL, 0, NULL);
}

/* ---- topics --------------------------------------------------------------------------------------------------------------- */

static broker_error bind_call(broker *b, uint8_t type, const char *queue, const char *pattern)
{
    struct call c = {0};
    msgpack_packer pk;
    size_t len, pattern_len = pattern ? strnlen(pattern, TOPIC_MAX_BYTES + 1) : 0;
    broker_error error = check_name(b, "queue", queue, &len);

    if (error != BROKER_OK)
        return error;
    if (!pattern || !topic_pattern_is_valid(pattern, pattern_len))
        return set_error(
            b, BROKER_INVALID_ARGUMENT,
            "\"%.64s\" is no pattern for topics: tokens of A-Z a-z 0-9 _ - with dots between, '*' for one, "
            "'>' at the end for the rest",
            pattern ? pattern : "");
    scratch_pack(b, &pk);
    msgpack_pack_map(&pk, 2);
    pack_key_str(&pk, "queue", queue, len);
    pack_key_str(&pk, "pattern", pattern, pattern_len);
    return call_scratch(b, &c, type);
}

broker_error broker_bind(broker *b, const char *queue, const char *pattern)
{
    return bind_call(b, FRAME_BIND, queue, pattern);
}

broker_error broker_unbind(broker *b, const char *queue, const char *pattern)
{
    return bind_call(b, FRAME_UNBIND, queue, pattern);
}

/* ---- answers that say something ----------------------------------------------------------------------------------------- */

broker_error malformed_answer(broker *b, const char *type, const struct wire_map *m)
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
        {"scheduled", &s->scheduled},
        {"redelivered", &s->redelivered},
        {"dead_lettered", &s->dead_lettered},
        {"expired", &s->expired},
        {"dropped", &s->dropped},
        {"duplicates", &s->duplicates},
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
