/* One message of a client: which op it is, and what all of them share. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "websocket_internal.h"

enum { RETRY_MS = 1000, OP_KEYS = 12 };

broker_error ws_refuse(struct request *r, broker_error error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(r->text, sizeof(r->text), format, args);
    va_end(args);
    return error;
}

/* ---- tokens: the request's id and how it is answered ------------------------------------------------------------------- */

enum { FORM_SHIFT = ID_BITS + 1 - 32 };

struct token ws_token_of(uint64_t id, unsigned form)
{
    return (struct token){.correlation = (uint32_t)id, .stream = (uint32_t)(id >> 32) | form << FORM_SHIFT};
}

uint64_t ws_token_id(struct token t)
{
    return t.correlation | (uint64_t)(t.stream & ((1u << FORM_SHIFT) - 1)) << 32;
}

unsigned ws_token_form(struct token t)
{
    return t.stream >> FORM_SHIFT;
}

void ws_request_submit(struct request *r, unsigned form, struct command *command)
{
    struct ws *c = r->c;
    command->token = ws_token_of(r->id, form);
    c->waiting += (form & ANSWER_WAITS) != 0;
    client_submit(c->front->clients, &c->client, net_now(c->front->net), command);
}

/* ---- the ops --------------------------------------------------------------------------------------------------------- */

static broker_error op_ping(struct request *r)
{
    ws_answer_ok(r->c, r->id);
    return BROKER_OK;
}

static const struct op {
    const char *name;
    op_fn *take;
    const char *keys[OP_KEYS]; /* beside "op" and "id"; NULL ends them. None: it looks itself */
} OPS[] = {
    {"publish", ws_op_publish, {"queue", "topic", "message", "messages", "sync", "unroutable"}},
    {"subscribe", ws_op_subscribe, {NULL}},
    {"credit", ws_op_credit, {"sub", "messages", "bytes"}},
    {"ack", ws_op_ack, {"receipt", "receipts"}},
    {"nack", ws_op_nack, {"receipt", "receipts", "delay_ms"}},
    {"reject", ws_op_reject, {"receipt", "receipts"}},
    {"extend", ws_op_extend, {"receipt", "receipts", "lease_ms"}},
    {"unsubscribe", ws_op_unsubscribe, {"sub"}},
    {"request", ws_op_request, {"name", "args"}},
    {"transact", ws_op_transact, {"publish", "ack", "nack", "reject", "sync", "unroutable"}},
    {"ping", op_ping, {"data"}},
};
enum { OP_COUNT = sizeof(OPS) / sizeof(OPS[0]) };

static broker_error no_such_op(struct request *r, const msgpack_object *op)
{
    const char *words[OP_COUNT + 1] = {NULL};
    char written[48], known[160] = "";
    size_t at = 0;
    for (size_t i = 0; i < OP_COUNT; i++) {
        words[i] = OPS[i].name;
        at += (size_t)snprintf(known + at, sizeof(known) - at, "%s%s", i ? ", " : "", OPS[i].name);
    }
    if (!op || op->type != MSGPACK_OBJECT_STR)
        return ws_refuse(r, BROKER_INVALID_ARGUMENT, "\"op\" is %s; give one of %s", op ? "no string" : "missing",
                         known);
    const char *near = ws_nearest_word(op->via.str.ptr, op->via.str.size, words);
    return ws_refuse(r, BROKER_UNKNOWN_COMMAND, "unknown op \"%s\"%s%s%s; known are %s",
                     ws_shown(op->via.str.ptr, op->via.str.size, written), near ? "; did you mean \"" : "",
                     near ? near : "", near ? "\"?" : "", known);
}

static broker_error dispatch(struct request *r)
{
    const msgpack_object *op = ws_field_find(r->map, "op");
    uint64_t id = ID_NONE;
    if (!ws_field_u64(r->map, "id", ID_NONE - 1, &id, r->text))
        return BROKER_INVALID_ARGUMENT;
    r->id = id;
    for (size_t i = 0; op && i < OP_COUNT; i++) {
        if (!ws_object_is(op, OPS[i].name))
            continue;
        if (OPS[i].keys[0] && !ws_fields_known(r->map, OPS[i].keys, CONTROL_KINDS, r->text))
            return BROKER_INVALID_ARGUMENT;
        return OPS[i].take(r);
    }
    return no_such_op(r, op);
}

static void trim(struct buf *b)
{
    if (b->cap > KEEP_BYTES)
        buf_release(b);
    buf_clear(b);
}

void ws_session_take(struct ws *c, const uint8_t *bytes, size_t len)
{
    struct websocket *w = c->front;
    struct request r = {.c = c, .id = ID_NONE, .map = &w->inbox.root};
    broker_error error = c->format->read(&w->inbox, bytes, len, r.text) ? dispatch(&r) : BROKER_MALFORMED;
    if (error)
        ws_answer_error(c, r.id, error, r.text, error == BROKER_NO_MEMORY ? RETRY_MS : 0);
    trim(&w->records);
    trim(&w->ranges);
    trim(&w->parts);
}

/* ---- publish --------------------------------------------------------------------------------------------------------- */

bool ws_publish_options(struct request *r, broker_sync *sync, bool *unroutable_ok)
{
    static const char *const syncs[] = {"default", "always", "interval", "none", NULL};
    static const char *const answers[] = {"refuse", "ok", NULL};
    int word = BROKER_SYNC_DEFAULT, ok = 0;
    if (!ws_field_word(r->map, "sync", syncs, &word, r->text) ||
        !ws_field_word(r->map, "unroutable", answers, &ok, r->text))
        return false;
    *sync = (broker_sync)word;
    *unroutable_ok = ok;
    return true;
}

broker_error ws_publish_record(struct request *r, const msgpack_object *message, const char *topic)
{
    struct buf *records = &r->c->front->records;
    if (message->type != MSGPACK_OBJECT_MAP)
        return ws_refuse(r, BROKER_INVALID_ARGUMENT, "a message is an object, as {\"body\":\"…\"}");
    return topic ? form_record_msgpack_to(records, message, topic, r->text)
                 : form_record_msgpack(records, message, r->text);
}

static broker_error publish_records(struct request *r, const char *topic, bool *one)
{
    const msgpack_object *message = ws_field_find(r->map, "message"), *many = ws_field_find(r->map, "messages");
    if (!message == !many)
        return ws_refuse(r, BROKER_INVALID_ARGUMENT,
                         "give either \"message\", an object, or \"messages\", an array of them");
    *one = message != NULL;
    if (message)
        return ws_publish_record(r, message, topic);
    if (many->type != MSGPACK_OBJECT_ARRAY || many->via.array.size == 0)
        return ws_refuse(r, BROKER_INVALID_ARGUMENT, "\"messages\" is no array of at least one message");
    for (uint32_t i = 0; i < many->via.array.size; i++) {
        char why[TEXT_BYTES];
        broker_error error = ws_publish_record(r, &many->via.array.ptr[i], topic);
        if (!error)
            continue;
        memcpy(why, r->text, sizeof(why));
        return ws_refuse(r, error, "messages[%u]: %.260s; none of them was published", i, why);
    }
    return BROKER_OK;
}

broker_error ws_op_publish(struct request *r)
{
    struct command command = {.type = COMMAND_PUBLISH};
    struct buf *records = &r->c->front->records;
    struct name topic = {0};
    char topic_text[TOPIC_MAX_BYTES + 1];
    bool one = false;
    if (!ws_field_name(r->map, "queue", &command.queue, r->text) || !ws_field_name(r->map, "topic", &topic, r->text) ||
        !ws_publish_options(r, &command.u.publish.sync, &command.u.publish.unroutable_ok))
        return BROKER_INVALID_ARGUMENT;
    if (!command.queue.len == !topic.len)
        return ws_refuse(r, BROKER_INVALID_ARGUMENT, "give either \"queue\" or \"topic\": where the message goes");
    if (topic.len > TOPIC_MAX_BYTES || (topic.len && memchr(topic.bytes, '\0', topic.len)))
        return ws_refuse(r, BROKER_INVALID_ARGUMENT,
                         "\"topic\" is no topic: tokens of A-Z a-z 0-9 _ - with dots between");
    if (topic.len) {
        memcpy(topic_text, topic.bytes, topic.len);
        topic_text[topic.len] = '\0';
    }
    broker_error error = publish_records(r, topic.len ? topic_text : NULL, &one);
    if (error)
        return error;
    command.u.publish.records = records->bytes;
    command.u.publish.len = records->len;
    ws_request_submit(r, one ? ANSWER_ONE : ANSWER_PLAIN, &command);
    return BROKER_OK;
}
