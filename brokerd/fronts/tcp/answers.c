/* The way out: completions, deliveries and errors to frames. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "front_internal.h"
#include "log.h"

/* ---- frames --------------------------------------------------------------------------------------------------------- */

uint8_t *frame_begin(struct conn *c, const struct frame_head *head, uint32_t body, uint32_t borrowed)
{
    struct frame_head whole = *head;
    uint8_t *bytes = net_conn_reserve(c->net, FRAME_HEAD_BYTES + (size_t)body);
    if (!bytes)
        return NULL;
    c->last_out_ms = net_now(c->front->net).mono.ms;
    whole.length = body + borrowed;
    frame_head_put(bytes, &whole);
    return bytes + FRAME_HEAD_BYTES;
}

static uint8_t *frame_of(struct conn *c, uint8_t type, uint32_t correlation, uint32_t stream, uint32_t body)
{
    return frame_begin(c, &(struct frame_head){.type = type, .correlation = correlation, .stream = stream}, body, 0);
}

void send_one_way(struct conn *c, uint8_t type)
{
    frame_of(c, type, 0, 0, 0);
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
    uint8_t *to = frame_of(c, type, correlation, stream, (uint32_t)b->size);
    if (to && b->size)
        memcpy(to, b->data, b->size);
}

void answer_empty_map(struct conn *c, uint8_t type, uint32_t correlation, uint32_t stream)
{
    uint8_t *to = frame_of(c, type, correlation, stream, 1);
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
bool write_records(struct conn *c, const struct stored_message *m, uint32_t count)
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

/* What stands before the records of a batch: head, attempts, seqs; each of the latter two only if a message needs it. */
static bool write_batch(struct conn *c, const struct frame_head *head, const struct delivery *d, uint32_t from,
                        uint32_t count)
{
    uint32_t records = 0, attempts = 0, seqs = 0;
    for (uint32_t i = from; i < from + count; i++) {
        records += d->messages[i].padded_len;
        if (d->attempts[i] != 1)
            attempts = pad8(4 * count);
        if (d->messages[i].seq != record_seq(d->messages[i].record))
            seqs = 8 * count;
    }
    uint8_t *to = frame_begin(c, head, DELIVER_HEAD_BYTES + attempts + seqs, records);
    if (!to)
        return false;
    put_u32(to, count);
    put_u32(to + 4, (attempts ? DELIVER_ATTEMPTS : 0) | (seqs ? DELIVER_SEQS : 0));
    put_u64(to + 8, d->first_receipt ? d->first_receipt + from : 0);
    to += DELIVER_HEAD_BYTES;
    memset(to, 0, attempts);
    for (uint32_t i = 0; attempts && i < count; i++)
        put_u32(to + 4 * i, d->attempts[from + i]);
    for (uint32_t i = 0; seqs && i < count; i++)
        put_u64(to + attempts + 8 * i, d->messages[from + i].seq);
    return count == 0 || write_records(c, d->messages + from, count);
}

/* How many messages from `from` on fit into one frame: one at least. */
static uint32_t fitting(const struct front_tcp *f, const struct delivery *d, uint32_t from)
{
    enum { BESIDE = 4 + 8 }; /* a message's attempt and seq */
    uint64_t bytes = DELIVER_HEAD_BYTES + 8;
    uint32_t i = from;
    do
        bytes += d->messages[i++].padded_len + (uint64_t)BESIDE;
    while (i < d->count && bytes + d->messages[i].padded_len + BESIDE <= f->options.max_frame_bytes);
    return i - from;
}

static bool conn_deliver(struct client *client, const struct delivery *d)
{
    struct conn *c = conn_of(client);
    struct front_tcp *f = c->front;
    for (uint32_t from = 0; from < d->count;) {
        uint32_t n = fitting(f, d, from);
        if (!write_batch(c, &(struct frame_head){.type = FRAME_DELIVER, .stream = d->token.stream}, d, from, n))
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

static void conn_ended(struct client *client, struct token token, broker_error error, const char *text)
{
    struct conn *c = conn_of(client);
    struct front_tcp *f = c->front;
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
    uint8_t *to = frame_of(c, type, done->token.correlation, 0, (uint32_t)(n * PUBLISH_RANGE_BYTES));
    for (size_t i = 0; to && i < n; i++, to += PUBLISH_RANGE_BYTES) {
        const struct publish_result *r = &done->u.publish.results[i];
        publish_range_put(to, &(struct publish_range){.first_seq = r->first_seq,
                                                      .first_index = r->first_index,
                                                      .count = r->count,
                                                      .code = (uint16_t)r->error,
                                                      .flags = (r->duplicate ? PUBLISH_RANGE_DUPLICATE : 0) |
                                                               (r->routed ? PUBLISH_RANGE_ROUTED : 0),
                                                      .retry_ms = r->retry_ms});
    }
}

static void answer_settle(struct conn *c, uint8_t type, const struct completion *done)
{
    uint32_t listed = done->u.settle.stale_listed;
    uint8_t *to = frame_of(c, type, done->token.correlation, 0, 8 + 8 * listed);
    if (!to)
        return;
    put_u32(to, done->u.settle.settled);
    put_u32(to + 4, done->u.settle.stale);
    for (uint32_t i = 0; i < listed; i++)
        put_u64(to + 8 + 8 * i, done->u.settle.stale_receipts[i]);
}

static void answer_lease(struct conn *c, uint8_t type, const struct completion *done)
{
    struct frame_head head = {.type = type, .correlation = done->token.correlation, .stream = done->token.stream};
    write_batch(c, &head, &done->u.lease, 0, done->u.lease.count);
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
    [COMMAND_QUEUE_PURGE] = {FRAME_QUEUE_PURGE, answer_map},
    [COMMAND_QUEUE_LIST] = {FRAME_QUEUE_LIST, answer_map},
    [COMMAND_QUEUE_DESCRIBE] = {FRAME_QUEUE_DESCRIBE, answer_map},
    [COMMAND_GROUP_CREATE] = {FRAME_GROUP_CREATE, answer_empty},
    [COMMAND_GROUP_DELETE] = {FRAME_GROUP_DELETE, answer_empty},
    [COMMAND_GROUP_SEEK] = {FRAME_GROUP_SEEK, answer_empty},
    [COMMAND_GROUP_ALTER] = {FRAME_GROUP_ALTER, answer_empty},
    [COMMAND_BIND] = {FRAME_BIND, answer_empty},
    [COMMAND_UNBIND] = {FRAME_UNBIND, answer_empty},
    [COMMAND_TRANSACT] = {FRAME_TRANSACT, answer_transact},
    [COMMAND_SCAN] = {FRAME_SCAN, answer_map},
    [COMMAND_RESCHEDULE] = {FRAME_RESCHEDULE, answer_empty},
};

static void conn_complete(struct client *client, const struct completion *done)
{
    struct conn *c = conn_of(client);
    tell_damage(done->error, done->text ? done->text : broker_strerror(done->error));
    if (done->error)
        answer_error(c, done->token.correlation, done->token.stream, done->error,
                     done->text ? done->text : broker_strerror(done->error), "request", done->retry_ms);
    else if (ANSWERS[done->type].answer)
        ANSWERS[done->type].answer(c, ANSWERS[done->type].type | FRAME_RESPONSE, done);
}

const struct client_ops conn_client_ops = {
    .complete = conn_complete,
    .deliver = conn_deliver,
    .ended = conn_ended,
};
