/* Requests whose body is a map: greeting, statistics, consuming. Keys are those of docs/PROTOCOL.md. */
#include <string.h>

#include "front_internal.h"

enum {
    CLIENT_NAME_MAX = 255,
    CLIENT_VERSION_MAX = 63,
    HEARTBEAT_MS_MIN = 100,
    HEARTBEAT_MS_MAX = 3600000,
    PRIORITY_MAX = 9
};

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
            c->client.lingers =
                true; /* leases without a wait are its own, too: the engine hears of its end in any case */
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
            {"uptime_ms", s.uptime_ms},
            {"cpu_us", s.cpu_us},
            {"rss_bytes", s.rss_bytes},
            {"connections", s.connections},
            {"queues", s.queues},
            {"subscriptions", s.subscriptions},
            {"published", s.published},
            {"delivered", s.delivered},
            {"acked", s.acked},
            {"syncs", s.syncs},
            {"log_index", s.log_index},
            {"bytes_written", s.bytes_written},
            {"disk_bytes", s.disk_bytes},
            {"segments", s.segments},
            {"scheduled", s.scheduled},
            {"redelivered", s.redelivered},
            {"dead_lettered", s.dead_lettered},
            {"expired", s.expired},
            {"dropped", s.dropped},
            {"duplicates", s.duplicates},
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

/* ---- consuming ------------------------------------------------------------------------------------------------------ */

void control_subscribe(struct conn *c, const struct frame_head *head, uint8_t *body)
{
    struct command command = {.type = COMMAND_SUBSCRIBE};
    uint32_t priority = 0;
    struct wire_map m;
    if (open_map(c, head, body, &m)) {
        if (!require(&m, "queue") || !get_name(&m, "queue", &command.queue) || !get_name(&m, "group", &command.group) ||
            !get_u32_key(&m, "lease_ms", 0, UINT32_MAX, &command.u.subscribe.lease_ms) ||
            !wire_map_bool(&m, "on_send", &command.u.subscribe.settle_on_send) ||
            !get_u32_key(&m, "priority", 0, PRIORITY_MAX, &priority) ||
            !get_u32_key(&m, "max_unsettled", 0, UINT32_MAX, &command.u.subscribe.max_unsettled)) {
            refuse_key(c, head, &m);
        } else {
            command.u.subscribe.priority = (uint8_t)priority;
            submit(c, head, &command);
        }
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
