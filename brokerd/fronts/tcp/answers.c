/* The way out: completions, deliveries and errors to frames. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "front_internal.h"
#include "log.h"

/* ---- frames --------------------------------------------------------------------------------------------------------- */

/* Room for a frame of `body` bytes, its head filled in; NULL: the connection is closing. */
static uint8_t *frame_begin(struct conn *c, uint8_t type, uint32_t correlation, uint32_t stream, uint32_t body,
                            uint32_t borrowed)
{
    uint8_t *bytes = net_conn_reserve(c->net, FRAME_HEAD_BYTES + (size_t)body);
    if (!bytes)
        return NULL;
    c->last_out_ms = net_now(c->front->net).mono.ms;
    frame_head_put(bytes, &(struct frame_head){
                              .length = body + borrowed, .type = type, .correlation = correlation, .stream = stream});
    return bytes + FRAME_HEAD_BYTES;
}

void send_one_way(struct conn *c, uint8_t type)
{
    frame_begin(c, type, 0, 0, 0, 0);
}

int body_write(void *front, const char *bytes, size_t n)
{
    struct front_tcp *f = front;
    int status = msgpack_sbuffer_write(&f->body, bytes, n);
    f->body_failed |= status != 0;
    return status;
}

msgpack_packer *body_begin(struct front_tcp *f)
{
    f->body_failed = false;
    if (f->body.alloc > PACKER_KEEP_BYTES) {
        msgpack_sbuffer_destroy(&f->body);
        msgpack_sbuffer_init(&f->body);
    }
    msgpack_sbuffer_clear(&f->body);
    return &f->packer;
}

void body_send(struct conn *c, uint8_t type, uint32_t correlation, uint32_t stream)
{
    const msgpack_sbuffer *b = &c->front->body;
    if (c->front->body_failed) { /* half an answer would be a lie */
        answer_error(c, correlation, stream, BROKER_NO_MEMORY, "no memory for the answer; try again", "request", 1000);
        return;
    }
    uint8_t *to = frame_begin(c, type, correlation, stream, (uint32_t)b->size, 0);
    if (to && b->size)
        memcpy(to, b->data, b->size);
}

void answer_empty_map(struct conn *c, uint8_t type, uint32_t correlation, uint32_t stream)
{
    uint8_t *to = frame_begin(c, type, correlation, stream, 1, 0);
    if (to)
        *to = 0x80; /* msgpack: a map of nothing */
}

void answer_error(struct conn *c, uint32_t correlation, uint32_t stream, broker_error code, const char *text,
                  const char *scope, uint32_t retry_ms)
{
    body_begin(c->front);
    wire_error_put(&c->front->body, code, text, scope, retry_ms);
    body_send(c, FRAME_ERROR, correlation, stream);
}

void refuse_request(struct conn *c, const struct frame_head *head, broker_error code, const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    answer_error(c, head->correlation, head->stream, code, text, "request", 0);
}

/* ---- batches of messages -------------------------------------------------------------------------------------------- */

/* Records that follow each other in memory leave as one piece. Only large pieces are lent to the system call: for small
   ones an entry of its own costs more than the copy. */
static bool write_records(struct conn *c, const struct stored_message *m, uint32_t count)
{
    for (uint32_t i = 0; i < count;) {
        const uint8_t *first = m[i].record;
        size_t len = m[i].padded_len;
        for (i++; i < count && m[i].record == first + len; i++)
            len += m[i].padded_len;
        if (!(len < COPY_BELOW ? net_conn_write(c->net, first, len) : net_conn_write_borrowed(c->net, first, len)))
            return false;
    }
    return true;
}

static bool write_batch(struct conn *c, uint8_t type, uint32_t correlation, uint32_t stream, const struct delivery *d,
                        uint32_t from, uint32_t count)
{
    uint32_t records = 0, attempts = 0;
    for (uint32_t i = from; i < from + count; i++) {
        records += d->messages[i].padded_len;
        if (d->attempts[i] != 1)
            attempts = pad8(4 * count);
    }
    uint8_t *to = frame_begin(c, type, correlation, stream, DELIVER_HEAD_BYTES + attempts, records);
    if (!to)
        return false;
    put_u32(to, count);
    put_u32(to + 4, attempts ? DELIVER_ATTEMPTS : 0);
    put_u64(to + 8, d->first_receipt ? d->first_receipt + from : 0);
    if (attempts) {
        memset(to + DELIVER_HEAD_BYTES, 0, attempts);
        for (uint32_t i = 0; i < count; i++)
            put_u32(to + DELIVER_HEAD_BYTES + 4 * i, d->attempts[from + i]);
    }
    return count == 0 || write_records(c, d->messages + from, count);
}

/* How many messages from `from` on fit into one frame: one at least. */
static uint32_t fitting(const struct front_tcp *f, const struct delivery *d, uint32_t from)
{
    uint64_t bytes = DELIVER_HEAD_BYTES + 8;
    uint32_t i = from;
    do
        bytes += d->messages[i++].padded_len + 4ull;
    while (i < d->count && bytes + d->messages[i].padded_len + 4 <= f->options.max_frame_bytes);
    return i - from;
}

bool front_deliver(void *sink, const struct delivery *d)
{
    struct front_tcp *f = sink;
    struct conn *c = front_find(f, d->token.conn);
    if (!c)
        return true; /* closing: its leases go back with it */
    for (uint32_t from = 0; from < d->count;) {
        uint32_t n = fitting(f, d, from);
        if (!write_batch(c, FRAME_DELIVER, 0, d->token.stream, d, from, n))
            return true;
        from += n;
    }
    if (!net_conn_is_full(c->net))
        return true;
    c->held = true;
    return false;
}

/* Damage concerns the operator as much as the client who ran into it. */
static void tell_damage(broker_error error, const char *text)
{
    if (error == BROKER_DAMAGED)
        log_error("%s", text);
}

void front_ended(void *sink, struct token token, broker_error error, const char *text)
{
    struct front_tcp *f = sink;
    struct conn *c = front_find(f, token.conn);
    if (!c)
        return;
    door_ended(&c->session);
    tell_damage(error, text ? text : broker_strerror(error));
    msgpack_packer *pk = body_begin(f);
    msgpack_pack_map(pk, 2);
    pack_key_u64(pk, "code", error);
    pack_key_str(pk, "text", text ? text : broker_strerror(error), strlen(text ? text : broker_strerror(error)));
    body_send(c, FRAME_SUBSCRIPTION_ENDED, 0, token.stream);
}

/* ---- bodies of completions ------------------------------------------------------------------------------------------ */

static void answer_empty(struct conn *c, uint8_t type, const struct completion *done)
{
    answer_empty_map(c, type, done->token.correlation, done->token.stream);
}

static void answer_publish(struct conn *c, uint8_t type, const struct completion *done)
{
    size_t n = done->u.publish.count;
    uint8_t *to = frame_begin(c, type, done->token.correlation, 0, (uint32_t)(n * PUBLISH_RANGE_BYTES), 0);
    for (size_t i = 0; to && i < n; i++, to += PUBLISH_RANGE_BYTES) {
        const struct publish_result *r = &done->u.publish.results[i];
        publish_range_put(to, &(struct publish_range){.first_seq = r->first_seq,
                                                      .first_index = r->first_index,
                                                      .count = r->count,
                                                      .code = (uint16_t)r->error,
                                                      .flags = r->duplicate ? PUBLISH_RANGE_DUPLICATE : 0,
                                                      .retry_ms = r->retry_ms});
    }
}

static void answer_settle(struct conn *c, uint8_t type, const struct completion *done)
{
    uint32_t listed = done->u.settle.stale_listed;
    uint8_t *to = frame_begin(c, type, done->token.correlation, 0, 8 + 8 * listed, 0);
    if (!to)
        return;
    put_u32(to, done->u.settle.settled);
    put_u32(to + 4, done->u.settle.stale);
    for (uint32_t i = 0; i < listed; i++)
        put_u64(to + 8 + 8 * i, done->u.settle.stale_receipts[i]);
}

static void answer_lease(struct conn *c, uint8_t type, const struct completion *done)
{
    write_batch(c, type, done->token.correlation, done->token.stream, &done->u.lease, 0, done->u.lease.count);
}

static void answer_purge(struct conn *c, uint8_t type, const struct completion *done)
{
    msgpack_packer *pk = body_begin(c->front);
    msgpack_pack_map(pk, 1);
    pack_key_u64(pk, "purged", done->u.purge.purged);
    body_send(c, type, done->token.correlation, done->token.stream);
}

static void pack_queue(msgpack_packer *pk, const broker_queue_info *q)
{
    static const char *const syncs[] = {"default", "always", "interval", "none"};
    const broker_queue_settings *s = &q->settings;
    const char *retention = s->retention == BROKER_RETENTION_LOG ? "log" : "work", *sync = syncs[s->sync & 3];
    msgpack_pack_map(pk, 16);
    pack_key_str(pk, "name", q->name, strlen(q->name));
    pack_key_u64(pk, "id", q->id);
    pack_key_str(pk, "retention", retention, strlen(retention));
    pack_key_str(pk, "sync", sync, strlen(sync));
    pack_key_u64(pk, "lease_ms", s->lease_ms);
    pack_key_u64(pk, "max_message_bytes", s->max_message_bytes);
    pack_key_u64(pk, "log_max_age_ms", s->log_max_age_ms);
    pack_key_u64(pk, "log_max_bytes", s->log_max_bytes);
    pack_key_u64(pk, "log_max_messages", s->log_max_messages);
    pack_key_bool(pk, "paused", q->paused);
    pack_key_u64(pk, "first_seq", q->first_seq);
    pack_key_u64(pk, "last_seq", q->last_seq);
    pack_key_u64(pk, "messages", q->messages);
    pack_key_u64(pk, "bytes", q->bytes);
    pack_key_u64(pk, "groups", q->groups);
    pack_key_u64(pk, "consumers", q->consumers);
}

static void answer_list(struct conn *c, uint8_t type, const struct completion *done)
{
    msgpack_packer *pk = body_begin(c->front);
    msgpack_pack_map(pk, 2);
    pack_str(pk, "queues", 6);
    msgpack_pack_array(pk, done->u.list.count);
    for (size_t i = 0; i < done->u.list.count; i++)
        pack_queue(pk, &done->u.list.queues[i]);
    pack_key_bool(pk, "more", done->u.list.more);
    body_send(c, type, done->token.correlation, done->token.stream);
}

static void answer_describe(struct conn *c, uint8_t type, const struct completion *done)
{
    msgpack_packer *pk = body_begin(c->front);
    msgpack_pack_map(pk, 2);
    pack_str(pk, "queue", 5);
    pack_queue(pk, done->u.describe.queue);
    pack_str(pk, "groups", 6);
    msgpack_pack_array(pk, done->u.describe.group_count);
    for (size_t i = 0; i < done->u.describe.group_count; i++) {
        const broker_group_info *g = &done->u.describe.groups[i];
        msgpack_pack_map(pk, 7);
        pack_key_str(pk, "name", g->name, strlen(g->name));
        pack_key_u64(pk, "floor_seq", g->floor_seq);
        pack_key_u64(pk, "cursor_seq", g->cursor_seq);
        pack_key_u64(pk, "ready", g->ready);
        pack_key_u64(pk, "leased", g->leased);
        pack_key_u64(pk, "delayed", g->delayed);
        pack_key_u64(pk, "consumers", g->consumers);
    }
    body_send(c, type, done->token.correlation, done->token.stream);
}

/* ---- the table ------------------------------------------------------------------------------------------------------ */

static const struct {
    uint8_t type; /* of the request */
    void (*answer)(struct conn *c, uint8_t type, const struct completion *done);
} ANSWERS[COMMAND_TYPES] = {
    [COMMAND_PUBLISH] = {FRAME_PUBLISH, answer_publish},
    [COMMAND_SUBSCRIBE] = {FRAME_SUBSCRIBE, answer_empty},
    [COMMAND_UNSUBSCRIBE] = {FRAME_UNSUBSCRIBE, answer_empty},
    [COMMAND_LEASE] = {FRAME_LEASE, answer_lease},
    [COMMAND_ACK] = {FRAME_ACK, answer_settle},
    [COMMAND_NACK] = {FRAME_NACK, answer_settle},
    [COMMAND_EXTEND] = {FRAME_EXTEND, answer_settle},
    [COMMAND_QUEUE_CREATE] = {FRAME_QUEUE_CREATE, answer_empty},
    [COMMAND_QUEUE_ALTER] = {FRAME_QUEUE_ALTER, answer_empty},
    [COMMAND_QUEUE_DELETE] = {FRAME_QUEUE_DELETE, answer_empty},
    [COMMAND_QUEUE_PAUSE] = {FRAME_QUEUE_PAUSE, answer_empty},
    [COMMAND_QUEUE_RESUME] = {FRAME_QUEUE_RESUME, answer_empty},
    [COMMAND_QUEUE_PURGE] = {FRAME_QUEUE_PURGE, answer_purge},
    [COMMAND_QUEUE_LIST] = {FRAME_QUEUE_LIST, answer_list},
    [COMMAND_QUEUE_DESCRIBE] = {FRAME_QUEUE_DESCRIBE, answer_describe},
    [COMMAND_GROUP_CREATE] = {FRAME_GROUP_CREATE, answer_empty},
    [COMMAND_GROUP_DELETE] = {FRAME_GROUP_DELETE, answer_empty},
    [COMMAND_GROUP_SEEK] = {FRAME_GROUP_SEEK, answer_empty},
};

void front_complete(void *sink, const struct completion *done)
{
    struct front_tcp *f = sink;
    struct conn *c = front_find(f, done->token.conn);
    if (!c)
        return;
    door_completed(&c->session, done);
    if (c->outstanding > 0)
        c->outstanding--;
    tell_damage(done->error, done->text ? done->text : broker_strerror(done->error));
    if (done->error)
        answer_error(c, done->token.correlation, done->token.stream, done->error,
                     done->text ? done->text : broker_strerror(done->error), "request", done->retry_ms);
    else if (ANSWERS[done->type].answer)
        ANSWERS[done->type].answer(c, ANSWERS[done->type].type | FRAME_RESPONSE, done);
}
