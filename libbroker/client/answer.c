/* Frames from the broker: each is an answer to a frame in `sent`, or says something by itself. */
#include "client_internal.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- which request an answer belongs to --------------------------------------------------------------------------- */

/* Answers mostly come in the order of the requests, so the wanted frame is mostly the first of its bucket. */
static struct out_frame **bucket_find(broker *b, uint32_t correlation)
{
    struct out_frame **f = &b->sent_buckets[correlation % SENT_BUCKETS];

    while (*f && (*f)->correlation != correlation)
        f = &(*f)->bucket_next;
    return f;
}

void frame_sent(broker *b, struct out_frame *f)
{
    struct out_frame **end = bucket_find(b, f->correlation);

    assert(*end == NULL);
    f->bucket_next = NULL;
    *end = f;
    TAILQ_INSERT_TAIL(&b->sent, f, link);
}

void sent_remove(broker *b, struct out_frame *f)
{
    *bucket_find(b, f->correlation) = f->bucket_next;
    TAILQ_REMOVE(&b->sent, f, link);
}

/* ---- errors ----------------------------------------------------------------------------------------------------------- */

broker_error known_error(uint64_t code)
{
    switch (code) {
#define KNOWN_ERROR(name, number, http, retry, text) case number:
        BROKER_ERROR_MAP(KNOWN_ERROR)
#undef KNOWN_ERROR
        return code ? (broker_error)code : BROKER_INTERNAL;
    default: return BROKER_INTERNAL;
    }
}

struct error_body {
    broker_error code;
    bool connection, subscription; /* scope; neither: request */
};

static broker_error error_body_read(broker *b, const uint8_t *body, size_t len, struct error_body *e)
{
    struct wire_map m;
    uint64_t code = BROKER_INTERNAL, retry_ms = 0;
    const char *text = "", *scope = "";
    size_t text_len = 0, scope_len = 0;

    bool good = wire_map_open(&m, body, len) == BROKER_OK && wire_map_u64(&m, "code", 0, UINT16_MAX, &code) &&
                wire_map_u64(&m, "retry_ms", 0, UINT32_MAX, &retry_ms) &&
                wire_map_str(&m, "text", SIZE_MAX, &text, &text_len) &&
                wire_map_str(&m, "scope", SIZE_MAX, &scope, &scope_len);
    if (good) {
        e->code = known_error(code);
        e->connection = scope_len == 10 && memcmp(scope, "connection", 10) == 0;
        e->subscription = scope_len == 12 && memcmp(scope, "subscription", 12) == 0;
        if (text_len == 0) {
            text = broker_strerror(e->code);
            text_len = strlen(text);
        }
        set_error(b, e->code, "%.*s", (int)(text_len < 255 ? text_len : 255), text);
        b->error_retry_ms = (uint32_t)retry_ms;
    }
    wire_map_close(&m);
    return good ? BROKER_OK : set_error(b, BROKER_MALFORMED, "the broker sent a malformed ERROR");
}

/* ---- calls ------------------------------------------------------------------------------------------------------------- */

static void call_done(broker *b, struct out_frame *f, broker_error error)
{
    if (!f->call)
        return;
    f->call->error = error;
    f->call->done = true;
    memcpy(f->call->text, b->error_text, sizeof(f->call->text));
    f->call->retry_ms = b->error_retry_ms;
}

/* The answer to a LEASE nobody waits for any more: what it leased goes back at once rather than when the leases run out. */
static void return_unwanted(broker *b, const uint8_t *body, size_t len)
{
    struct batch batch;

    if (batch_open(b, &batch, body, len) != BROKER_OK || batch.first_receipt == 0)
        return;
    for (uint32_t i = 0; i < batch.count; i++)
        settle_add(b, (struct settle_kind){.type = FRAME_NACK}, batch.first_receipt + i);
}

static void call_answered(broker *b, struct out_frame *f, const uint8_t *body, size_t len)
{
    sent_remove(b, f);
    if (f->call)
        call_done(b, f, f->call->on_answer ? f->call->on_answer(b, f->call, body, len) : BROKER_OK);
    else if (f->type == FRAME_LEASE)
        return_unwanted(b, body, len);
    frame_recycle(b, f);
}

/* ---- answers ------------------------------------------------------------------------------------------------------------ */

static void settle_done(broker *b, struct out_frame *f)
{
    sent_remove(b, f);
    b->settle_frames--;
    frame_recycle(b, f);
}

static broker_error answer_in(broker *b, struct out_frame *f, const uint8_t *body, size_t len)
{
    broker_error error = BROKER_OK;

    switch (f->kind) {
    case OUT_PUBLISH: return publish_answered(b, f, body, len);
    case OUT_SETTLE:
        error = settle_answered(b, body, len);
        if (error == BROKER_OK)
            settle_done(b, f);
        return error;
    case OUT_CALL:
    case OUT_TRANSACT: call_answered(b, f, body, len); return BROKER_OK;
    case OUT_SUBSCRIBE:
        if (f->subscription)
            error = subscription_answered(f->subscription, BROKER_OK);
        else
            error = call_begin(b, NULL, true, FRAME_UNSUBSCRIBE, f->stream, NULL, 0); /* it came too late */
        sent_remove(b, f);
        frame_recycle(b, f);
        return error;
    }
    return BROKER_OK;
}

static broker_error error_answer_in(broker *b, struct out_frame *f, const struct error_body *e)
{
    /* Not stored, not settled: it stays in `sent` and goes out again on the next connection, with the same numbers. */
    if (e->code == BROKER_SHUTTING_DOWN && f->kind != OUT_CALL && f->kind != OUT_SUBSCRIBE) {
        snprintf(b->lost_text, sizeof(b->lost_text), "%.250s", b->error_text);
        conn_event(b, CONN_EVENT_GOAWAY);
        f->refused = true;
        return BROKER_OK;
    }
    switch (f->kind) {
    case OUT_PUBLISH:
        sent_remove(b, f);
        publish_failed(b, f, e->code);
        break;
    case OUT_SETTLE:
        b->settle_failures += settle_frame_receipts(f);
        settle_done(b, f);
        break;
    case OUT_CALL:
    case OUT_TRANSACT:
        sent_remove(b, f);
        call_done(b, f, e->code);
        frame_recycle(b, f);
        break;
    case OUT_SUBSCRIBE:
        sent_remove(b, f);
        if (f->subscription)
            subscription_answered(f->subscription, e->code);
        frame_recycle(b, f);
        break;
    }
    return BROKER_OK;
}

static broker_subscription *find_subscription(broker *b, uint32_t stream)
{
    broker_subscription *s;

    HASH_FIND_INT(b->subscriptions, &stream, s);
    return s;
}

static broker_error error_in(broker *b, const struct frame_head *head, const uint8_t *body)
{
    struct error_body e = {0};

    if (error_body_read(b, body, head->length, &e) != BROKER_OK)
        return BROKER_MALFORMED;
    if (e.connection) {
        /* The same credentials will be refused again; anything else may work on a new connection. */
        if (e.code == BROKER_UNAUTHENTICATED || e.code == BROKER_FORBIDDEN || e.code == BROKER_UNSUPPORTED_VERSION)
            b->final_error = e.code;
        return e.code;
    }
    if (head->correlation != 0) {
        struct out_frame *f = *bucket_find(b, head->correlation);
        if (!f || f->refused)
            return set_error(b, BROKER_MALFORMED, "the broker answered request %u, which does not wait",
                             head->correlation);
        return error_answer_in(b, f, &e);
    }
    if (e.subscription) {
        broker_subscription *s = find_subscription(b, head->stream);
        if (s && s->state != SUBSCRIPTION_ENDED)
            subscription_end(s, e.code);
    }
    return BROKER_OK;
}

static broker_error ended_in(broker *b, const struct frame_head *head, const uint8_t *body)
{
    struct error_body e = {0};

    if (error_body_read(b, body, head->length, &e) != BROKER_OK)
        return BROKER_MALFORMED;
    broker_subscription *s = find_subscription(b, head->stream);
    if (s && s->state != SUBSCRIPTION_ENDED)
        subscription_end(s, e.code);
    return BROKER_OK;
}

static broker_error goaway_in(broker *b, const struct frame_head *head, const uint8_t *body)
{
    struct error_body e = {0};

    if (error_body_read(b, body, head->length, &e) != BROKER_OK)
        return BROKER_MALFORMED;
    snprintf(b->lost_text, sizeof(b->lost_text), "the broker is going away: %.200s", b->error_text);
    conn_event(b, CONN_EVENT_GOAWAY);
    return BROKER_OK;
}

static broker_error hello_in(broker *b, const struct frame_head *head, const uint8_t *body)
{
    struct wire_map m;
    uint64_t heartbeat_ms = 0, max_frame = 0, max_message = 0;

    bool good = wire_map_open(&m, body, head->length) == BROKER_OK &&
                wire_map_u64(&m, "heartbeat_ms", 0, 3600000, &heartbeat_ms) &&
                wire_map_u64(&m, "max_frame", 1024, UINT32_MAX, &max_frame) &&
                wire_map_u64(&m, "max_message", RECORD_HEAD_BYTES, UINT32_MAX, &max_message);
    if (!good)
        set_error(b, BROKER_MALFORMED, "the broker's answer to HELLO is malformed: %s", m.error);
    wire_map_close(&m);
    if (!good)
        return BROKER_MALFORMED;
    b->heartbeat_ms = (uint32_t)heartbeat_ms;
    b->max_frame = (uint32_t)max_frame;
    b->max_message = (uint32_t)max_message;
    conn_event(b, CONN_EVENT_GREETED);
    outbox_drop_oversize(b);
    return BROKER_OK;
}

static broker_error greeting_in(broker *b, const struct frame_head *head, const uint8_t *body)
{
    struct error_body e = {0};

    if (head->type == (FRAME_HELLO | FRAME_RESPONSE))
        return hello_in(b, head, body);
    if (head->type == FRAME_HEARTBEAT)
        return BROKER_OK;
    if (head->type != FRAME_ERROR)
        return set_error(b, BROKER_MALFORMED, "the broker answered HELLO with %s (0x%02x)", frame_type_name(head->type),
                         head->type);
    if (error_body_read(b, body, head->length, &e) != BROKER_OK)
        return BROKER_MALFORMED;
    if (!broker_error_is_retryable(e.code) && e.code != BROKER_INTERNAL)
        b->final_error = e.code;
    return e.code;
}

broker_error frame_in(broker *b, const struct frame_head *head, const uint8_t *body)
{
    if (b->state == CONN_GREETING)
        return greeting_in(b, head, body);
    b->backoff_ms = 0; /* this connection is good for something */
    switch (head->type) {
    case FRAME_DELIVER: return deliver_in(b, head->stream, body, head->length);
    case FRAME_HEARTBEAT: return BROKER_OK;
    case FRAME_GOAWAY: return goaway_in(b, head, body);
    case FRAME_SUBSCRIPTION_ENDED: return ended_in(b, head, body);
    case FRAME_ERROR: return error_in(b, head, body);
    default: break;
    }
    if (!(head->type & FRAME_RESPONSE))
        return BROKER_OK; /* a one-way frame of a newer broker */
    struct out_frame *f = *bucket_find(b, head->correlation);
    if (!f || f->refused || f->type != (head->type & ~FRAME_RESPONSE))
        return set_error(b, BROKER_MALFORMED, "the broker sent an answer to %s %u, which does not wait",
                         frame_type_name(head->type), head->correlation);
    return answer_in(b, f, body, head->length);
}

/* ---- a lost connection, and the end --------------------------------------------------------------------------------------- */

static void call_lost(broker *b, struct out_frame *f)
{
    if (f->call && f->call->lost_is_ok)
        call_done(b, f, BROKER_OK);
    else
        call_done(b, f,
                  set_error(b, BROKER_CONNECTION_LOST,
                            "%.150s before the answer to %s came: it may have been done or not", b->lost_text,
                            frame_type_name(f->type)));
    frame_recycle(b, f);
}

/* Puts one frame of the lost connection back in front of its list, or ends it. */
static void take_back(broker *b, struct out_frame *f)
{
    f->written = 0;
    f->refused = false;
    if (f->kind == OUT_SUBSCRIBE)
        frame_recycle(b, f);
    else if (f->kind == OUT_CALL)
        call_lost(b, f);
    else
        TAILQ_INSERT_HEAD(frame_list(b, f), f, link);
}

bool answer_awaited(const broker *b)
{
    const struct out_frame *f;

    TAILQ_FOREACH(f, &b->sent, link)
    {
        if (!f->refused)
            return true;
    }
    return false;
}

void answer_lost(broker *b)
{
    struct out_frame *f, *next;

    if (b->writing) {
        f = b->writing;
        b->writing = NULL;
        take_back(b, f);
    }
    while ((f = TAILQ_LAST(&b->sent, out_list)) != NULL) {
        TAILQ_REMOVE(&b->sent, f, link);
        take_back(b, f);
    }
    memset(b->sent_buckets, 0, sizeof(b->sent_buckets));
    /* What was not yet begun waits on, except what had a meaning for that connection only. */
    for (f = TAILQ_FIRST(&b->urgent); f; f = next) {
        next = TAILQ_NEXT(f, link);
        if (f->kind == OUT_SUBSCRIBE || (f->kind == OUT_CALL && f->call && f->call->lost_is_ok)) {
            TAILQ_REMOVE(&b->urgent, f, link);
            call_done(b, f, BROKER_OK);
            frame_recycle(b, f);
        }
    }
}

void frame_failed(broker *b, struct out_frame *f, broker_error error)
{
    switch (f->kind) {
    case OUT_PUBLISH: publish_failed(b, f, error); return;
    case OUT_SETTLE:
        if (b->settle_open == f)
            b->settle_open = NULL;
        b->settle_frames--;
        break;
    case OUT_CALL:
    case OUT_TRANSACT: call_done(b, f, error); break;
    case OUT_SUBSCRIBE: break;
    }
    frame_recycle(b, f);
}

void answer_cancel(broker *b, broker_error error)
{
    struct out_list *lists[] = {&b->urgent, &b->sent, &b->normal};
    struct out_frame *f;

    set_error(b, error, "%s",
              error == BROKER_CANCELLED ? "the handle was closed before the broker's answer" : b->lost_text);
    memset(b->sent_buckets, 0, sizeof(b->sent_buckets));
    if (b->writing) {
        f = b->writing;
        b->writing = NULL;
        frame_failed(b, f, error);
    }
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        while ((f = TAILQ_FIRST(lists[i])) != NULL) {
            TAILQ_REMOVE(lists[i], f, link);
            frame_failed(b, f, error);
        }
    }
}

static void forget_in(struct out_frame *f, const broker_subscription *s)
{
    if (f && f->subscription == s)
        f->subscription = NULL;
}

void answer_forget(broker *b, const broker_subscription *s)
{
    struct out_frame *f;

    forget_in(b->writing, s);
    TAILQ_FOREACH(f, &b->urgent, link)
    forget_in(f, s);
    TAILQ_FOREACH(f, &b->sent, link)
    forget_in(f, s);
}
