/* Requests whose body is a map: read with bounds, made into commands. Keys are those of docs/PROTOCOL.md. */
#include <string.h>

#include "front_internal.h"

enum {
    CLIENT_NAME_MAX = 255,
    CLIENT_VERSION_MAX = 63,
    HEARTBEAT_MS_MIN = 100,
    HEARTBEAT_MS_MAX = 3600000,
    LIST_DEFAULT = 100
};

/* A name of any length reaches the door, which has the better error; what is bounded is the frame. */
static bool get_name(struct wire_map *m, const char *key, struct name *out)
{
    return wire_map_str(m, key, UINT32_MAX, &out->bytes, &out->len);
}

static bool get_u32_key(struct wire_map *m, const char *key, uint64_t min, uint64_t max, uint32_t *out)
{
    uint64_t value = *out;
    if (!wire_map_u64(m, key, min, max, &value))
        return false;
    *out = (uint32_t)value;
    return true;
}

/* One of `words`; *out becomes first + index. */
static bool get_word(struct wire_map *m, const char *key, const char *const *words, int first, int *out)
{
    const char *text = NULL;
    size_t len = 0;
    if (!wire_map_str(m, key, 32, &text, &len))
        return false;
    if (!wire_map_has(m, key))
        return true;
    for (int i = 0; words[i]; i++) { /* text may be NULL if it is empty */
        if (strlen(words[i]) == len && memcmp(words[i], text, len) == 0) {
            *out = first + i;
            return true;
        }
    }
    size_t n = (size_t)snprintf(m->error, sizeof(m->error), "\"%s\" is \"", key);
    for (size_t i = 0; i < len; i++)
        m->error[n++] = text[i] >= 0x20 && text[i] < 0x7f ? text[i] : '?';
    n += (size_t)snprintf(m->error + n, sizeof(m->error) - n, "\"; give one of");
    for (int i = 0; words[i]; i++)
        n += (size_t)snprintf(m->error + n, sizeof(m->error) - n, " %s", words[i]);
    return false;
}

static bool require(struct wire_map *m, const char *key)
{
    if (wire_map_has(m, key))
        return true;
    snprintf(m->error, sizeof(m->error), "\"%s\" is missing; give it", key);
    return false;
}

/* Open the body, or refuse the request. The map is closed by the caller in either case. */
static bool open_map(struct conn *c, const struct frame_head *head, const uint8_t *body, struct wire_map *m)
{
    broker_error error = wire_map_open(m, body, head->length);
    if (error)
        refuse_request(c, head, error, "%s: %s", frame_type_name(head->type), m->error);
    return error == BROKER_OK;
}

static void refuse_key(struct conn *c, const struct frame_head *head, const struct wire_map *m)
{
    refuse_request(c, head, BROKER_INVALID_ARGUMENT, "%s: %s", frame_type_name(head->type), m->error);
}

static void submit(struct conn *c, const struct frame_head *head, struct command *command)
{
    command->token.correlation = head->correlation;
    command->token.stream = head->stream;
    c->outstanding++;
    conn_submit(c, command);
}

/* ---- greeting, ping, statistics ------------------------------------------------------------------------------------- */

static bool features_are_text(struct wire_map *m)
{
    const msgpack_object *o = wire_map_find(m, "features");
    bool good = !o || o->type == MSGPACK_OBJECT_ARRAY;
    for (uint32_t i = 0; o && good && i < o->via.array.size; i++)
        good = o->via.array.ptr[i].type == MSGPACK_OBJECT_STR;
    if (!good)
        snprintf(m->error, sizeof(m->error), "\"features\" is not an array of strings");
    return good;
}

static bool read_hello(struct wire_map *m, uint32_t *heartbeat_ms)
{
    const char *text = NULL;
    size_t len;
    if (!wire_map_str(m, "client", CLIENT_NAME_MAX, &text, &len) ||
        !wire_map_str(m, "version", CLIENT_VERSION_MAX, &text, &len) || !features_are_text(m))
        return false;
    if (!get_u32_key(m, "heartbeat_ms", 0, HEARTBEAT_MS_MAX, heartbeat_ms))
        return false;
    if (*heartbeat_ms == 0 || *heartbeat_ms >= HEARTBEAT_MS_MIN)
        return true;
    snprintf(m->error, sizeof(m->error), "\"heartbeat_ms\" is %u; give 0 or %d to %d", *heartbeat_ms, HEARTBEAT_MS_MIN,
             HEARTBEAT_MS_MAX);
    return false;
}

static void welcome(struct conn *c, const struct frame_head *head)
{
    struct front_tcp *f = c->front;
    broker_stats stats = {0};
    uint64_t epoch = 0;
    f->host.stats(f->host.arg, &stats, &epoch);
    msgpack_packer *pk = body_begin(f);
    msgpack_pack_map(pk, 7);
    pack_key_str(pk, "server", "brokerd", 7);
    pack_key_str(pk, "version", BROKER_VERSION_STRING, strlen(BROKER_VERSION_STRING));
    pack_key_u64(pk, "epoch", epoch);
    pack_key_u64(pk, "heartbeat_ms", c->heartbeat_ms);
    pack_key_u64(pk, "max_frame", f->options.max_frame_bytes);
    pack_key_u64(pk, "max_message", f->options.max_message_bytes);
    pack_str(pk, "features", 8);
    msgpack_pack_array(pk, 0);
    body_send(c, FRAME_HELLO | FRAME_RESPONSE, head->correlation, 0);
}

void control_hello(struct conn *c, const struct frame_head *head, uint8_t *body)
{
    struct wire_map m;
    uint32_t heartbeat_ms = c->front->options.heartbeat_ms;
    if (c->phase == PHASE_OPEN) {
        refuse_request(c, head, BROKER_INVALID_ARGUMENT, "a second HELLO on this connection");
        return;
    }
    if (open_map(c, head, body, &m)) {
        if (read_hello(&m, &heartbeat_ms)) {
            c->phase = PHASE_OPEN;
            c->heartbeat_ms = heartbeat_ms;
            welcome(c, head);
            if (heartbeat_ms)
                conn_arm(c, c->last_out_ms + heartbeat_ms);
            if (c->front->going_away)
                conn_goaway(c);
        } else {
            refuse_key(c, head, &m); /* it may try again, within its time to greet */
        }
    }
    wire_map_close(&m);
}

void control_ping(struct conn *c, const struct frame_head *head, uint8_t *body)
{
    struct wire_map m;
    if (open_map(c, head, body, &m))
        answer_empty_map(c, FRAME_PING | FRAME_RESPONSE, head->correlation, head->stream);
    wire_map_close(&m);
}

void control_stats(struct conn *c, const struct frame_head *head, uint8_t *body)
{
    struct front_tcp *f = c->front;
    struct wire_map m;
    if (open_map(c, head, body, &m)) {
        broker_stats s = {.size = sizeof(s)};
        uint64_t epoch = 0;
        f->host.stats(f->host.arg, &s, &epoch);
        s.connections = f->count;
        const struct {
            const char *key;
            uint64_t value;
        } numbers[] = {
            {"uptime_ms", s.uptime_ms},   {"cpu_us", s.cpu_us},
            {"rss_bytes", s.rss_bytes},   {"connections", s.connections},
            {"queues", s.queues},         {"subscriptions", s.subscriptions},
            {"published", s.published},   {"delivered", s.delivered},
            {"acked", s.acked},           {"syncs", s.syncs},
            {"log_index", s.log_index},   {"bytes_written", s.bytes_written},
            {"disk_bytes", s.disk_bytes}, {"segments", s.segments},
        };
        size_t n = sizeof(numbers) / sizeof(numbers[0]);
        msgpack_packer *pk = body_begin(f);
        msgpack_pack_map(pk, n + 1);
        for (size_t i = 0; i < n; i++)
            pack_key_u64(pk, numbers[i].key, numbers[i].value);
        pack_key_str(pk, "version", BROKER_VERSION_STRING, strlen(BROKER_VERSION_STRING));
        body_send(c, FRAME_STATS | FRAME_RESPONSE, head->correlation, head->stream);
    }
    wire_map_close(&m);
}

/* ---- queues and groups ---------------------------------------------------------------------------------------------- */

static bool get_settings(struct wire_map *m, broker_queue_settings *s)
{
    static const char *const retentions[] = {"work", "log", NULL}, *const syncs[] = {"always", "interval", "none",
                                                                                     NULL};
    int retention = 0, sync = 0;
    *s = BROKER_OPTIONS_INIT(broker_queue_settings);
    if (!get_word(m, "retention", retentions, BROKER_RETENTION_WORK, &retention) ||
        !get_word(m, "sync", syncs, BROKER_SYNC_ALWAYS, &sync) ||
        !get_u32_key(m, "lease_ms", 0, UINT32_MAX, &s->lease_ms) ||
        !get_u32_key(m, "max_message_bytes", 0, UINT32_MAX, &s->max_message_bytes) ||
        !wire_map_u64(m, "log_max_age_ms", 0, UINT64_MAX, &s->log_max_age_ms) ||
        !wire_map_u64(m, "log_max_bytes", 0, UINT64_MAX, &s->log_max_bytes) ||
        !wire_map_u64(m, "log_max_messages", 0, UINT64_MAX, &s->log_max_messages))
        return false;
    s->retention = (broker_retention)retention;
    s->sync = (broker_sync)sync;
    const struct {
        const char *key;
        uint32_t bit;
    } bits[] = {
        {"retention", BROKER_SET_RETENTION},
        {"sync", BROKER_SET_SYNC},
        {"lease_ms", BROKER_SET_LEASE_MS},
        {"max_message_bytes", BROKER_SET_MAX_MESSAGE_BYTES},
        {"log_max_age_ms", BROKER_SET_LOG_MAX_AGE_MS},
        {"log_max_bytes", BROKER_SET_LOG_MAX_BYTES},
        {"log_max_messages", BROKER_SET_LOG_MAX_MESSAGES},
    };
    for (size_t i = 0; i < sizeof(bits) / sizeof(bits[0]); i++)
        if (wire_map_has(m, bits[i].key))
            s->set |= bits[i].bit;
    return true;
}

void control_queue(struct conn *c, const struct frame_head *head, uint8_t *body)
{
    static const enum command_type types[] = {
        COMMAND_QUEUE_CREATE, COMMAND_QUEUE_ALTER, COMMAND_QUEUE_DELETE, COMMAND_QUEUE_PAUSE,
        COMMAND_QUEUE_RESUME, COMMAND_QUEUE_PURGE, COMMAND_QUEUE_LIST,   COMMAND_QUEUE_DESCRIBE,
    };
    struct command command = {.type = types[head->type - FRAME_QUEUE_CREATE]};
    broker_queue_settings settings;
    bool sets = command.type == COMMAND_QUEUE_CREATE || command.type == COMMAND_QUEUE_ALTER;
    struct wire_map m;
    if (open_map(c, head, body, &m)) {
        if (!require(&m, "queue") || !get_name(&m, "queue", &command.queue) || (sets && !get_settings(&m, &settings))) {
            refuse_key(c, head, &m);
        } else {
            if (sets)
                command.u.queue.settings = &settings;
            submit(c, head, &command);
        }
    }
    wire_map_close(&m);
}

void control_list(struct conn *c, const struct frame_head *head, uint8_t *body)
{
    struct command command = {.type = COMMAND_QUEUE_LIST, .u.list.limit = LIST_DEFAULT};
    struct wire_map m;
    if (open_map(c, head, body, &m)) {
        if (!get_name(&m, "prefix", &command.u.list.prefix) || !get_name(&m, "after", &command.u.list.after) ||
            !get_u32_key(&m, "limit", 0, UINT32_MAX, &command.u.list.limit))
            refuse_key(c, head, &m);
        else
            submit(c, head, &command);
    }
    wire_map_close(&m);
}

void control_group(struct conn *c, const struct frame_head *head, uint8_t *body)
{
    static const enum command_type types[] = {COMMAND_GROUP_CREATE, COMMAND_GROUP_DELETE, COMMAND_GROUP_SEEK};
    static const char *const starts[] = {"beginning", "end", "seq", "time", NULL};
    struct command command = {.type = types[head->type - FRAME_GROUP_CREATE]};
    int start = BROKER_START_BEGINNING;
    struct wire_map m;
    if (open_map(c, head, body, &m)) {
        bool good = require(&m, "queue") && require(&m, "group") && get_name(&m, "queue", &command.queue) &&
                    get_name(&m, "group", &command.group);
        if (good && command.type != COMMAND_GROUP_DELETE) {
            good = get_word(&m, "start", starts, BROKER_START_BEGINNING, &start) &&
                   (start < BROKER_START_SEQ || require(&m, "value")) &&
                   wire_map_u64(&m, "value", 0, UINT64_MAX, &command.u.group.value);
            command.u.group.start = (broker_start)start;
        }
        if (good)
            submit(c, head, &command);
        else
            refuse_key(c, head, &m);
    }
    wire_map_close(&m);
}

/* ---- consuming ------------------------------------------------------------------------------------------------------ */

void control_subscribe(struct conn *c, const struct frame_head *head, uint8_t *body)
{
    struct command command = {.type = COMMAND_SUBSCRIBE};
    struct wire_map m;
    if (open_map(c, head, body, &m)) {
        if (!require(&m, "queue") || !get_name(&m, "queue", &command.queue) || !get_name(&m, "group", &command.group) ||
            !get_u32_key(&m, "lease_ms", 0, UINT32_MAX, &command.u.subscribe.lease_ms) ||
            !wire_map_bool(&m, "on_send", &command.u.subscribe.settle_on_send))
            refuse_key(c, head, &m);
        else
            submit(c, head, &command);
    }
    wire_map_close(&m);
}

void control_unsubscribe(struct conn *c, const struct frame_head *head, uint8_t *body)
{
    struct command command = {.type = COMMAND_UNSUBSCRIBE};
    struct wire_map m;
    if (open_map(c, head, body, &m))
        submit(c, head, &command);
    wire_map_close(&m);
}

void control_lease(struct conn *c, const struct frame_head *head, uint8_t *body)
{
    struct command command = {.type = COMMAND_LEASE, .u.lease.max_messages = 1};
    struct wire_map m;
    if (open_map(c, head, body, &m)) {
        if (!require(&m, "queue") || !get_name(&m, "queue", &command.queue) || !get_name(&m, "group", &command.group) ||
            !get_u32_key(&m, "max", 0, UINT32_MAX, &command.u.lease.max_messages) ||
            !get_u32_key(&m, "max_bytes", 0, UINT32_MAX, &command.u.lease.max_bytes) ||
            !get_u32_key(&m, "lease_ms", 0, UINT32_MAX, &command.u.lease.lease_ms) ||
            !get_u32_key(&m, "wait_ms", 0, UINT32_MAX, &command.u.lease.wait_ms))
            refuse_key(c, head, &m);
        else
            submit(c, head, &command);
    }
    wire_map_close(&m);
}
