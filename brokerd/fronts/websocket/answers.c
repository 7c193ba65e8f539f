/* The way out: completions to answers. */
#include <string.h>

#include "log.h"
#include "websocket_internal.h"

/* ---- answers --------------------------------------------------------------------------------------------------------- */

void ws_answer_begin(struct ws *c, struct writer *w, const char *op, uint64_t id, uint32_t pairs)
{
    *w = (struct writer){.format = c->format, .out = &c->front->answer};
    w->failed = !ws_frame_begin(c->front);
    w->format->map(w, pairs + 1 + (id != ID_NONE));
    ws_write_key_text(w, "op", op);
    if (id != ID_NONE)
        ws_write_key_u64(w, "id", id);
}

void ws_answer_send(struct ws *c, struct writer *w)
{
    size_t len;
    w->format->end(w, '}');
    if (w->failed) { /* half an answer would be a lie, and no answer a riddle */
        ws_drop(c, "there is no memory for an answer");
        return;
    }
    if (ws_may_send(c)) {
        const uint8_t *frame = ws_frame_end(c, &len);
        net_conn_write(c->net, frame, len);
    }
    ws_frame_trim(c->front);
}

void ws_answer_ok(struct ws *c, uint64_t id)
{
    struct writer w;
    if (id == ID_NONE)
        return;
    ws_answer_begin(c, &w, "ok", id, 0);
    ws_answer_send(c, &w);
}

uint32_t ws_error_pairs(uint32_t retry_ms)
{
    return retry_ms ? 4 : 3;
}

void ws_write_error(struct writer *w, broker_error error, const char *text, uint32_t retry_ms)
{
    ws_write_key_text(w, "code", broker_error_name(error));
    ws_write_key_u64(w, "status", (uint64_t)http_status_of(error));
    ws_write_key_text(w, "text", text && *text ? text : broker_strerror(error));
    if (retry_ms)
        ws_write_key_u64(w, "retry_ms", retry_ms);
}

void ws_answer_error(struct ws *c, uint64_t id, broker_error error, const char *text, uint32_t retry_ms)
{
    struct writer w;
    ws_answer_begin(c, &w, "error", id, ws_error_pairs(retry_ms));
    ws_write_error(&w, error, text, retry_ms);
    ws_answer_send(c, &w);
}

/* Damage concerns the operator as much as the client who ran into it. */
void ws_tell_damage(broker_error error, const char *text)
{
    if (error == BROKER_DAMAGED)
        log_error("%s", text ? text : broker_strerror(error));
}

/* ---- publishes --------------------------------------------------------------------------------------------------------- */

static uint32_t stored_pairs(const struct publish_result *r)
{
    return (r->first_seq > 0 || r->routed) + r->duplicate;
}

/* The i-th record of a range. */
static void write_stored(struct writer *w, const struct publish_result *r, uint32_t i)
{
    if (r->routed)
        ws_write_key_u64(w, "queues", r->first_seq);
    else if (r->first_seq) /* 0: a duplicate whose seq is no longer known */
        ws_write_key_u64(w, "seq", r->first_seq + i);
    if (r->duplicate)
        ws_write_key_true(w, "duplicate");
}

static void answer_one(struct ws *c, const struct completion *done, uint64_t id)
{
    const struct publish_result *r = done->u.publish.results;
    struct writer w;
    if (r->error) {
        ws_answer_error(c, id, r->error, NULL, r->retry_ms);
        return;
    }
    if (id == ID_NONE)
        return;
    ws_answer_begin(c, &w, "ok", id, stored_pairs(r));
    write_stored(&w, r, 0);
    ws_answer_send(c, &w);
}

static void answer_publish(struct ws *c, const struct completion *done, uint64_t id)
{
    const struct publish_result *r = done->u.publish.results;
    size_t ranges = done->u.publish.count;
    uint32_t count = 0;
    struct writer w;
    if (ws_token_form(done->token) == ANSWER_ONE && ranges == 1) {
        answer_one(c, done, id);
        return;
    }
    for (size_t i = 0; i < ranges; i++) {
        count += r[i].count;
        if (id == ID_NONE && r[i].error) { /* it wants to hear of errors alone: of the first */
            ws_answer_error(c, id, r[i].error, NULL, r[i].retry_ms);
            return;
        }
    }
    if (id == ID_NONE)
        return;
    ws_answer_begin(c, &w, "ok", id, 1);
    w.format->key(&w, "results");
    w.format->array(&w, count);
    for (size_t i = 0; i < ranges; i++) {
        for (uint32_t j = 0; j < r[i].count; j++) {
            w.format->map(&w, r[i].error ? ws_error_pairs(r[i].retry_ms) : stored_pairs(&r[i]));
            if (r[i].error)
                ws_write_error(&w, r[i].error, NULL, r[i].retry_ms);
            else
                write_stored(&w, &r[i], j);
            w.format->end(&w, '}');
        }
    }
    w.format->end(&w, ']');
    ws_answer_send(c, &w);
}

static void answer_transact(struct ws *c, const struct completion *done, uint64_t id)
{
    struct writer w;
    ws_answer_begin(c, &w, "ok", id, 1 + done->u.transact.duplicate);
    w.format->key(&w, "seqs");
    w.format->array(&w, (uint32_t)done->u.transact.count);
    for (size_t i = 0; i < done->u.transact.count; i++)
        w.format->u64(&w, done->u.transact.seqs[i]);
    w.format->end(&w, ']');
    if (done->u.transact.duplicate)
        ws_write_key_true(&w, "duplicate");
    ws_answer_send(c, &w);
}

static void answer_settle(struct ws *c, const struct completion *done, uint64_t id)
{
    struct writer w;
    ws_answer_begin(c, &w, "ok", id, 3);
    ws_write_key_u64(&w, "settled", done->u.settle.settled);
    ws_write_key_u64(&w, "stale_count", done->u.settle.stale);
    w.format->key(&w, "stale");
    w.format->array(&w, done->u.settle.stale_listed);
    for (uint32_t i = 0; i < done->u.settle.stale_listed; i++)
        w.format->receipt(&w, done->u.settle.stale_receipts[i]);
    w.format->end(&w, ']');
    ws_answer_send(c, &w);
}

/* ---- messages as a result ------------------------------------------------------------------------------------------------ */

static void write_messages(struct writer *w, const struct stored_message *m, const struct delivery *d, uint32_t count)
{
    w->format->key(w, "messages");
    w->format->array(w, count);
    for (uint32_t i = 0; i < count; i++) {
        bool leased = d && d->first_receipt;
        w->format->message(w, &(struct form_message){.record = m[i].record,
                                                     .seq = m[i].seq,
                                                     .receipt = leased ? d->first_receipt + i : 0,
                                                     .attempt = leased ? d->attempts[i] : 0});
    }
    w->format->end(w, ']');
}

static void write_lease(struct writer *w, const struct completion *done)
{
    w->format->map(w, 1);
    write_messages(w, done->u.lease.messages, &done->u.lease, done->u.lease.count);
    w->format->end(w, '}');
}

static void write_peek(struct writer *w, const struct completion *done)
{
    w->format->map(w, 2);
    write_messages(w, done->u.scan.messages, NULL, done->u.scan.count);
    ws_write_key_u64(w, "next_seq", done->u.scan.next_seq);
    w->format->end(w, '}');
}

static void write_read(struct writer *w, const struct completion *done)
{
    w->format->map(w, 4u + done->u.read.trimmed + done->u.read.beyond);
    write_messages(w, done->u.read.messages, NULL, done->u.read.count);
    ws_write_key_u64(w, "next", done->u.read.next_seq);
    ws_write_key_u64(w, "first", done->u.read.first_seq);
    ws_write_key_u64(w, "last", done->u.read.last_seq);
    if (done->u.read.trimmed)
        ws_write_key_true(w, "trimmed");
    if (done->u.read.beyond)
        ws_write_key_true(w, "beyond");
    w->format->end(w, '}');
}

struct packing {
    msgpack_sbuffer *body;
    bool failed;
};

static int pack_more(void *packing, const char *bytes, size_t len)
{
    struct packing *p = packing;
    p->failed = p->failed || msgpack_sbuffer_write(p->body, bytes, len) != 0;
    return 0;
}

static void write_control(struct writer *w, msgpack_sbuffer *body, const struct completion *done)
{
    struct packing packing = {.body = body};
    msgpack_packer pk;
    msgpack_sbuffer_clear(body);
    msgpack_packer_init(&pk, &packing, pack_more);
    control_answer(&pk, done);
    w->failed = w->failed || packing.failed;
    if (!packing.failed)
        w->format->packed(w, body);
    if (body->alloc > KEEP_BYTES) {
        msgpack_sbuffer_destroy(body);
        msgpack_sbuffer_init(body);
    }
}

static void answer_result(struct ws *c, const struct completion *done, uint64_t id)
{
    struct writer w;
    ws_answer_begin(c, &w, "ok", id, 1);
    w.format->key(&w, "result");
    if (done->type == COMMAND_LEASE)
        write_lease(&w, done);
    else if (done->type == COMMAND_READ)
        write_read(&w, done);
    else if (done->type == COMMAND_SCAN && done->u.scan.peek)
        write_peek(&w, done);
    else
        write_control(&w, &c->front->body, done);
    ws_answer_send(c, &w);
}

/* ---- completions ------------------------------------------------------------------------------------------------------- */

static void answer(struct ws *c, const struct completion *done)
{
    uint64_t id = ws_token_id(done->token);
    if (done->error)
        ws_answer_error(c, id, done->error, done->text, done->retry_ms);
    else if (done->type == COMMAND_PUBLISH)
        answer_publish(c, done, id);
    else if (id == ID_NONE)
        return; /* it wants to hear of errors alone */
    else if (done->type == COMMAND_TRANSACT)
        answer_transact(c, done, id);
    else if (ws_token_form(done->token) & ANSWER_RESULT)
        answer_result(c, done, id);
    else
        answer_settle(c, done, id);
}

void ws_answer_complete(struct client *client, const struct completion *done)
{
    struct ws *c = ws_of(client);
    ws_tell_damage(done->error, done->text);
    if (done->type == COMMAND_SUBSCRIBE || done->type == COMMAND_UNSUBSCRIBE) {
        ws_sub_answered(c, done);
    } else {
        if (ws_token_form(done->token) & ANSWER_WAITS)
            c->waiting--;
        if (c->state == WS_OPEN)
            answer(c, done);
    }
    ws_settled(c);
}
