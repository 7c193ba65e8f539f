/* Requests whose body is a map: greeting, ping and statistics here, all that the broker does through the room control. */
#include <string.h>

#include "front_internal.h"

enum {
    CLIENT_NAME_MAX = 255,
    CLIENT_VERSION_MAX = 63,
    HEARTBEAT_MS_MIN = 100,
    HEARTBEAT_MS_MAX = 3600000,
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
        control_pack_stats(body_begin(f), &s);
        body_send(c, FRAME_STATS | FRAME_RESPONSE, head->correlation, head->stream);
    }
    wire_map_close(&m);
}

/* ---- what the broker does ------------------------------------------------------------------------------------------------ */

/* Which request a frame is; the frames that are none of control's are not led here. */
static enum control_kind kind_of(uint8_t frame)
{
    static const uint8_t kinds[] = {
        [FRAME_QUEUE_CREATE] = CONTROL_QUEUE_CREATE,
        [FRAME_QUEUE_ALTER] = CONTROL_QUEUE_ALTER,
        [FRAME_QUEUE_DELETE] = CONTROL_QUEUE_DELETE,
        [FRAME_QUEUE_PAUSE] = CONTROL_QUEUE_PAUSE,
        [FRAME_QUEUE_RESUME] = CONTROL_QUEUE_RESUME,
        [FRAME_QUEUE_PURGE] = CONTROL_QUEUE_PURGE,
        [FRAME_QUEUE_LIST] = CONTROL_QUEUE_LIST,
        [FRAME_QUEUE_DESCRIBE] = CONTROL_QUEUE_DESCRIBE,
        [FRAME_GROUP_CREATE] = CONTROL_GROUP_CREATE,
        [FRAME_GROUP_DELETE] = CONTROL_GROUP_DELETE,
        [FRAME_GROUP_SEEK] = CONTROL_GROUP_SEEK,
        [FRAME_GROUP_ALTER] = CONTROL_GROUP_ALTER,
        [FRAME_BIND] = CONTROL_BIND,
        [FRAME_UNBIND] = CONTROL_UNBIND,
        [FRAME_SCAN] = CONTROL_SCAN,
        [FRAME_RESCHEDULE] = CONTROL_RESCHEDULE,
        [FRAME_SUBSCRIBE] = CONTROL_SUBSCRIBE,
        [FRAME_UNSUBSCRIBE] = CONTROL_UNSUBSCRIBE,
        [FRAME_LEASE] = CONTROL_LEASE,
        [FRAME_PEEK] = CONTROL_PEEK,
    };
    return (enum control_kind)kinds[frame];
}

void control_request(struct conn *c, const struct frame_head *head, uint8_t *body)
{
    struct control_request r;
    char text[CONTROL_TEXT_BYTES];
    broker_error error = control_parse(&r, kind_of(head->type), body, head->length, text);
    if (error) {
        refuse_request(c, head, error, "%s: %s", frame_type_name(head->type), text);
    } else {
        r.command.token.correlation = head->correlation;
        r.command.token.stream = head->stream;
        conn_submit(c, &r.command);
    }
    control_release(&r);
}
