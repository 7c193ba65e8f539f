/* Messages without callbacks: the inbox behind broker_receive, and broker_lease. */
#include "client_internal.h"

#include <stdlib.h>

enum { INBOX_BATCH_BYTES = 16 << 10, INBOX_SPARE_BYTES = 1 << 20 };

/* ---- the inbox: copies of DELIVER bodies, bounded by the credit ------------------------------------------------------ */

static void batch_done(broker_subscription *s, struct inbox_batch *batch)
{
    if (!batch)
        return;
    if (s->spare || batch->cap > INBOX_SPARE_BYTES) {
        free(batch);
        return;
    }
    s->spare = batch;
}

static struct inbox_batch *batch_room(broker_subscription *s, size_t len)
{
    struct inbox_batch *batch = s->spare;

    if (batch && batch->cap >= len) {
        s->spare = NULL;
        return batch;
    }
    size_t cap = len < INBOX_BATCH_BYTES ? INBOX_BATCH_BYTES : len;
    batch = malloc(sizeof(*batch) + cap);
    if (batch)
        batch->cap = cap;
    return batch;
}

broker_error inbox_put(broker_subscription *s, const struct batch *batch, const uint8_t *body, size_t len)
{
    struct inbox_batch *copy = batch_room(s, len);

    if (!copy)
        return set_error(s->b, BROKER_NO_MEMORY, "no memory for a batch of %zu bytes", len);
    memcpy(copy->bytes, body, len);
    copy->batch = *batch;
    copy->batch.p = copy->bytes + (batch->p - body);
    copy->batch.end = copy->bytes + len;
    copy->batch.attempts = batch->attempts ? copy->bytes + (batch->attempts - body) : NULL;
    copy->batch.seqs = batch->seqs ? copy->bytes + (batch->seqs - body) : NULL;
    STAILQ_INSERT_TAIL(&s->inbox, copy, link);
    return BROKER_OK;
}

/* Everything but the message that the program holds. */
void inbox_clear(broker_subscription *s)
{
    struct inbox_batch *batch;

    while ((batch = STAILQ_FIRST(&s->inbox)) != NULL) {
        STAILQ_REMOVE_HEAD(&s->inbox, link);
        if (batch != s->current_batch || !s->has_msg)
            batch_done(s, batch);
    }
    if (!s->has_msg)
        s->current_batch = NULL;
    s->current_in_inbox = false;
}

/* ---- broker_receive ---------------------------------------------------------------------------------------------------- */

void receive_done(broker_subscription *s)
{
    if (!s->has_msg)
        return;
    s->has_msg = false;
    subscription_taken(s, &s->msg, s->current_in_inbox);
    if (!s->current_in_inbox) {
        batch_done(s, s->current_batch);
        s->current_batch = NULL;
    }
}

/* The next message of the inbox into s->msg: OK, TIMEOUT if there is none, or MALFORMED. */
static broker_error inbox_take(broker_subscription *s)
{
    struct inbox_batch *batch;

    while ((batch = STAILQ_FIRST(&s->inbox)) != NULL) {
        if (batch->batch.index < batch->batch.count) {
            s->current_batch = batch;
            s->current_in_inbox = true;
            s->msg_settled = false;
            return batch_next(s->b, &batch->batch, &s->msg);
        }
        broker_error error = batch_end(s->b, &batch->batch);
        if (error != BROKER_OK)
            return error;
        STAILQ_REMOVE_HEAD(&s->inbox, link);
        batch_done(s, batch);
    }
    s->current_batch = NULL;
    s->current_in_inbox = false;
    return BROKER_TIMEOUT;
}

/* A batch that makes no sense: as with any malformed frame, the connection goes; it is late because it was kept. */
static void batch_malformed(broker *b)
{
    b->in_process = true;
    connection_failed(b);
    b->in_process = false;
}

broker_error broker_receive(broker_subscription *s, int timeout_ms, const broker_msg **out)
{
    broker *b = s->b;
    broker_error error = refuse_in_callback(b, "broker_receive");

    *out = NULL;
    if (error != BROKER_OK)
        return error;
    if (s->on_message)
        return set_error(b, BROKER_INVALID_ARGUMENT, "broker_receive: this subscription has an on_message callback");
    uint64_t now = client_now_ms();
    uint64_t deadline = timeout_ms < 0 ? UINT64_MAX : now + (uint64_t)timeout_ms;
    receive_done(s);
    /* While the inbox feeds the program nothing else makes settles, credit and heartbeats go out. */
    if (now >= b->last_process_ms + SETTLE_DELAY_MS)
        broker_process(b, 0);
    bool last_look = timeout_ms == 0, interrupted = false;
    for (;;) {
        error = inbox_take(s);
        if (error == BROKER_OK) {
            s->has_msg = true;
            *out = &s->msg;
            return BROKER_OK;
        }
        if (error != BROKER_TIMEOUT)
            batch_malformed(b);
        if (s->state == SUBSCRIPTION_ENDED)
            return set_error(b, s->end_error, "%s", s->end_text);
        if (interrupted)
            return set_error(b, BROKER_TIMEOUT, "a signal came before a message of \"%s\"", s->queue);
        enum step step = client_poll(b, last_look ? now : deadline);
        if (last_look || (step == STEP_DEADLINE && client_now_ms() >= deadline)) {
            error = inbox_take(s);
            if (error != BROKER_OK)
                return set_error(b, BROKER_TIMEOUT, "no message of \"%s\" came within %d ms", s->queue, timeout_ms);
            s->has_msg = true;
            *out = &s->msg;
            return BROKER_OK;
        }
        interrupted = step == STEP_SIGNAL; /* the program may want to look at what its handler noted */
    }
}

/* ---- broker_lease ------------------------------------------------------------------------------------------------------- */

struct lease_call {
    struct call call;
    broker_message_cb *on_message;
    void *arg;
    uint32_t count;
};

static broker_error lease_answered(broker *b, struct call *c, const uint8_t *body, size_t len)
{
    struct lease_call *lease = (struct lease_call *)c;
    struct batch batch;
    struct broker_msg m = {0};
    broker_error error = batch_open(b, &batch, body, len);

    while (error == BROKER_OK && batch.index < batch.count) {
        error = batch_next(b, &batch, &m);
        if (error != BROKER_OK) {
            b->final_error = BROKER_OK; /* this call fails, not the connection */
            break;
        }
        lease->count++;
        if (lease->on_message)
            lease->on_message(lease->arg, NULL, &m);
    }
    return error == BROKER_OK ? batch_end(b, &batch) : error;
}

broker_error broker_lease(broker *b, const char *queue, const char *group, uint32_t max, uint32_t lease_ms,
                          uint32_t wait_ms, broker_message_cb *on_message, void *arg, uint32_t *count)
{
    struct lease_call lease = {.call.on_answer = lease_answered, .on_message = on_message, .arg = arg};
    broker_error error = may_block(b, "broker_lease");
    msgpack_packer pk;
    size_t len, group_len;

    *count = 0;
    if (error == BROKER_OK)
        error = check_name(b, "queue", queue, &len);
    if (error == BROKER_OK)
        error = check_name(b, "group", group ? group : "default", &group_len);
    if (error == BROKER_OK && (max < 1 || max > LEASE_MESSAGES_MAX || lease_ms > LEASE_MS_MAX || wait_ms > WAIT_MS_MAX))
        error = set_error(b, BROKER_INVALID_ARGUMENT,
                          "broker_lease: max %u, lease_ms %u, wait_ms %u; give 1 to %d, up to %d, up to %d", max,
                          lease_ms, wait_ms, LEASE_MESSAGES_MAX, LEASE_MS_MAX, WAIT_MS_MAX);
    if (error != BROKER_OK)
        return error;
    scratch_pack(b, &pk);
    msgpack_pack_map(&pk, 5);
    pack_key_str(&pk, "queue", queue, len);
    pack_key_str(&pk, "group", group ? group : "default", group_len);
    pack_key_u64(&pk, "max", max);
    pack_key_u64(&pk, "lease_ms", lease_ms);
    pack_key_u64(&pk, "wait_ms", wait_ms);
    error = scratch_good(b);
    if (error == BROKER_OK)
        error = call_begin(b, &lease.call, false, FRAME_LEASE, 0, b->scratch.data, b->scratch.size);
    if (error == BROKER_OK)
        error = call_wait(b, &lease.call, wait_ms + b->options.timeout_ms, "LEASE");
    *count = lease.count;
    return error;
}
