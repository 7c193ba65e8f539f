/* What may be delivered to whom, and when. */
#include <inttypes.h>
#include <wire.h>

#include "model.h"

struct handing { /* one delivery, and whom it goes to */
    uint32_t queue, incarnation, group;
    bool settle_on_send;
    uint64_t conn;
    uint32_t stream, lease_ms;
};

void check_durable(struct model *m, const struct model_queue *q, uint64_t seq, struct model_message *msg)
{
    /* Nobody gets what a crash could still take back: unless the publish asked for less than the disk. */
    if (msg->index != 0 && msg->asked == SURVIVES_POWER && m->platter_index < msg->index)
        model_fail(m,
                   "delivered too early: %s seq %" PRIu64 " in batch %" PRIu64 ", on disk is %" PRIu64
                   ", said to be %" PRIu64,
                   q->name, seq, msg->index, m->platter_index, m->reported_index);
    if (msg->index != 0 && m->system_index < msg->index)
        model_fail(m, "delivered too early: %s seq %" PRIu64 " in batch %" PRIu64 ", written is %" PRIu64, q->name, seq,
                   msg->index, m->system_index);
    enum survives how = msg->index == 0 || msg->asked == SURVIVES_POWER ? SURVIVES_POWER : SURVIVES_KILL;
    if (q->settings.sync != BROKER_SYNC_ALWAYS || q->settings_was.sync != BROKER_SYNC_ALWAYS)
        how = SURVIVES_KILL;
    if (msg->survives < how)
        msg->survives = how;
}

static void check_attempts(struct model *m, const struct model_queue *q, const struct model_group *g, uint64_t seq,
                           const struct slot *s, uint32_t attempts)
{
    uint32_t promised = s->nacked_kill; /* after a crash: what survived it */
    if (s->attempts != 0 && attempts != s->attempts + 1)
        model_fail(m, "attempts: %s/%s seq %" PRIu64 " comes as attempt %u after %u", q->name, g->name, seq, attempts,
                   s->attempts);
    else if (attempts <= promised)
        model_fail(m, "attempts: %s/%s seq %" PRIu64 " comes as attempt %u, a nack of attempt %u was confirmed",
                   q->name, g->name, seq, attempts, promised);
    else if (attempts > s->deliveries + 1)
        model_fail(m, "attempts: %s/%s seq %" PRIu64 " comes as attempt %u, there were only %u before", q->name,
                   g->name, seq, attempts, s->deliveries);
    else if (q->settings.max_attempts && attempts > q->settings.max_attempts && !q->altered)
        model_fail(m, "attempts: %s/%s seq %" PRIu64 " comes as attempt %u of at most %u", q->name, g->name, seq,
                   attempts, q->settings.max_attempts);
}

/* Does it go out in the order of seqs, whatever is under way? */
static bool is_in_order(const struct model_queue *q, uint64_t seq)
{
    const struct model_message *msg = &q->messages[seq - 1];
    return message_is_plain(msg) &&
           (msg->traits.key == 0 || (!q->settings.ordered_keys && !q->settings.fair_keys && !q->altered));
}

static void check_slot(struct model *m, const struct model_queue *q, const struct model_group *g, uint64_t seq,
                       const struct slot *s)
{
    if (s->state == SLOT_SETTLED)
        model_fail(m, "delivered again: %s/%s seq %" PRIu64 " was settled (%s)", q->name, g->name, seq,
                   s->settled == SURVIVES_NOTHING ? "not confirmed yet" : "confirmed");
    if (s->leased && m->now.mono.ms < s->deadline_ms)
        model_fail(m, "delivered twice: %s/%s seq %" PRIu64 " is leased for %" PRIu64 " ms more", q->name, g->name, seq,
                   s->deadline_ms - m->now.mono.ms);
    if (s->state == SLOT_BARRED)
        model_fail(m, "filter: %s/%s seq %" PRIu64 " is kept away by its filter", q->name, g->name, seq);
    if (s->rejected)
        model_fail(m, "delivered again: %s/%s seq %" PRIu64 " was rejected", q->name, g->name, seq);
    check_times(m, q, g, seq);
    check_key(m, q, g, seq);
    /* What retention let go comes back if a crash takes the note of it. */
    if (!s->first_done && s->deliveries == 0 && seq <= g->top_first && is_in_order(q, seq) &&
        !q->messages[seq - 1].maybe_gone)
        model_fail(m, "order: %s/%s seq %" PRIu64 " comes for the first time after %" PRIu64, q->name, g->name, seq,
                   g->top_first);
}

static void slot_delivered(struct model *m, const struct handing *h, uint64_t seq, uint32_t attempts, uint64_t receipt)
{
    struct model_queue *q = &m->queues[h->queue];
    struct model_group *g = &q->groups[h->group];
    struct slot *s = &g->slots[seq - 1];
    check_slot(m, q, g, seq, s);
    check_attempts(m, q, g, seq, s, attempts);
    check_durable(m, q, seq, &q->messages[seq - 1]);
    if (!s->first_done && seq > g->top_first && is_in_order(q, seq))
        g->top_first = seq;
    s->first_done = true;
    s->attempts = attempts;
    s->deliveries++;
    s->due = s->due_kill = s->due_power = (struct moment){0};
    s->leased = s->due_unsure = s->rejected = s->rejected_perhaps = false;
    if (h->settle_on_send) {
        slot_settle(s, SURVIVES_NOTHING);
        return;
    }
    if (s->state == SLOT_FREE)
        s->state = SLOT_WANTED;
    s->leased = true;
    s->receipt = receipt;
    s->conn = h->conn;
    s->stream = h->stream;
    s->deadline_ms = m->now.mono.ms + (h->lease_ms ? h->lease_ms : q->settings.lease_ms);
    m->held[m->held_count++ % MODEL_HELD] = (struct held){receipt, seq, h->queue, h->incarnation, h->group};
}

/* A receipt names one delivery, for ever: across restarts too. */
static void check_receipt(struct model *m, const struct model_queue *q, uint64_t receipt)
{
    for (uint64_t i = 0; i < MODEL_HELD && i < m->held_count; i++) {
        if (m->held[i].receipt == receipt)
            model_fail(m, "receipt %" PRIx64 " of %s was handed out before", receipt, q->name);
    }
}

static void handed_out(struct model *m, const struct handing *h, const struct delivery *d)
{
    struct model_queue *q = &m->queues[h->queue];
    queue_touched(m, h->queue);
    if (!q->exists || q->incarnation != h->incarnation || !q->groups[h->group].exists) {
        model_fail(m, "delivered from %s/%s, which is not there", q->name, q->groups[h->group].name);
        return;
    }
    if (q->paused && q->paused_was)
        model_fail(m, "delivered from %s, which is paused", q->name);
    if ((d->first_receipt == 0) != h->settle_on_send)
        model_fail(m, "delivered from %s with receipt %" PRIx64 ", settled on send: %d", q->name, d->first_receipt,
                   h->settle_on_send);
    for (uint32_t i = 0; i < d->count && !model_failed(m); i++) {
        uint64_t seq = d->messages[i].seq;
        model_trace(m, "delivered %s/%s seq %" PRIu64 " attempt %u receipt %" PRIx64, q->name, q->groups[h->group].name,
                    seq, d->attempts[i], d->first_receipt + i);
        model_check_bytes(m, q, seq, d->messages[i].record);
        if (model_failed(m))
            return;
        if (d->messages[i].padded_len != q->messages[seq - 1].padded)
            model_fail(m, "delivered %s seq %" PRIu64 " as %u bytes", q->name, seq, d->messages[i].padded_len);
        if (!h->settle_on_send)
            check_receipt(m, q, d->first_receipt + i);
        slot_delivered(m, h, seq, d->attempts[i], d->first_receipt + i);
        m->delivered++;
    }
    if (!model_failed(m))
        check_batch(m, q, &q->groups[h->group], d);
}

void model_delivered(struct model *m, const struct delivery *d)
{
    struct subscription *s = model_subscription(m, d->token.conn, d->token.stream);
    if (!s) {
        model_fail(m, "delivered to a subscription that is not there");
        return;
    }
    if (m->conn_held[s->conn % CONNS_MAX])
        model_fail(m, "delivered to connection %" PRIu64 ", which is held", s->conn);
    if (d->count == 0 || d->count > s->credit)
        model_fail(m, "delivered %u messages, the credit is %" PRIu64, d->count, s->credit);
    s->credit -= d->count;
    struct handing h = {.queue = s->queue,
                        .incarnation = s->incarnation,
                        .group = s->group,
                        .settle_on_send = s->settle_on_send,
                        .conn = s->conn,
                        .stream = s->stream,
                        .lease_ms = s->lease_ms};
    for (uint32_t i = 0; i < d->count; i++)
        s->credit_bytes -= d->messages[i].padded_len;
    handed_out(m, &h, d);
    if (!model_failed(m))
        check_consumer(m, s);
}

void model_leased(struct model *m, struct op *op, const struct delivery *d)
{
    struct handing h = {
        .queue = op->queue, .incarnation = op->incarnation, .group = op->group, .lease_ms = op->u.lease.lease_ms};
    if (d->count > op->u.lease.max_messages)
        model_fail(m, "leased %u messages, asked for at most %u", d->count, op->u.lease.max_messages);
    if (d->count > 0)
        handed_out(m, &h, d);
}

void model_ended(struct model *m, struct token token, const char *text)
{
    struct subscription *s = model_subscription(m, token.conn, token.stream);
    if (!s) {
        model_fail(m, "a subscription ended that is not there");
        return;
    }
    const struct model_queue *q = &m->queues[s->queue];
    bool going = m->current && (m->current->type == COMMAND_QUEUE_DELETE || m->current->type == COMMAND_GROUP_DELETE);
    if (!going && q->exists && q->groups[s->group].exists)
        model_fail(m, "the subscription to %s/%s ended: %s", q->name, q->groups[s->group].name, text);
    model_subscription_over(m, s);
}
