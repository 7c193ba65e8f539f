/* The order in which messages go out, and to whom. */
#include <inttypes.h>
#include <wire.h>

#include "model.h"

/* Not one that overtakes or waits. */
bool message_is_plain(const struct model_message *msg)
{
    return msg->traits.priority == 0 && msg->due.wall_ms == 0 && !msg->rescheduled && msg->traits.due_ms == 0;
}

/* ---- keys ----------------------------------------------------------------------------------------------------------------- */

static void check_key_against(struct model *m, const struct model_queue *q, const struct model_group *g, uint64_t seq,
                              uint64_t other)
{
    const struct slot *s = &g->slots[other - 1];
    uint32_t key = q->messages[seq - 1].traits.key;
    if (s->leased && m->now.mono.ms < s->deadline_ms)
        model_fail(m, "keys: %s/%s seq %" PRIu64 " of key %u goes out while %" PRIu64 " is leased", q->name, g->name,
                   seq, key, other);
    bool plain = message_is_plain(&q->messages[seq - 1]) && message_is_plain(&q->messages[other - 1]);
    if (plain && other < seq && s->state == SLOT_WANTED && !message_is_perhaps_over(m, &q->messages[other - 1]))
        model_fail(m, "keys: %s/%s seq %" PRIu64 " of key %u goes out before %" PRIu64, q->name, g->name, seq, key,
                   other);
}

/* Of one key, one at a time, in order. */
void check_key(struct model *m, const struct model_queue *q, const struct model_group *g, uint64_t seq)
{
    uint32_t key = q->messages[seq - 1].traits.key;
    if (key == 0 || !q->settings.ordered_keys || q->altered)
        return;
    for (uint64_t other = 1; other <= q->count; other++) {
        if (other != seq && q->messages[other - 1].traits.key == key)
            check_key_against(m, q, g, seq, other);
    }
}

/* ---- priorities -------------------------------------------------------------------------------------------------------------- */

/* Is the key of `seq` certainly free, so that nothing holds it up? */
bool key_is_free(const struct model_queue *q, const struct model_group *g, uint64_t seq)
{
    uint32_t key = q->messages[seq - 1].traits.key;
    if (key != 0 && q->settings.compact) /* its mates may be on their way out */
        return false;
    for (uint64_t other = 1; key != 0 && other <= q->count; other++) {
        const struct slot *s = &g->slots[other - 1];
        if (other != seq && q->messages[other - 1].traits.key == key && s->state != SLOT_SETTLED)
            return false;
    }
    return true;
}

/* Could it certainly have been handed out instead, before this call of the engine began? */
static bool is_available(const struct model *m, const struct model_queue *q, const struct model_group *g, uint64_t seq)
{
    const struct model_message *msg = &q->messages[seq - 1];
    const struct slot *s = &g->slots[seq - 1];
    return s->state == SLOT_WANTED && s->deliveries == 0 && msg->turn != 0 && msg->turn < m->turn && !msg->maybe_gone &&
           msg->traits.due_ms == 0 && msg->due.wall_ms == 0 && !msg->rescheduled && !message_is_perhaps_over(m, msg) &&
           key_is_free(q, g, seq);
}

/* One of a batch holds its key while the batch is put together. */
static bool key_is_in(const struct model_queue *q, const struct delivery *d, uint64_t seq)
{
    uint32_t key = q->messages[seq - 1].traits.key;
    for (uint32_t i = 0; key != 0 && i < d->count; i++) {
        if (q->messages[d->messages[i].seq - 1].traits.key == key)
            return true;
    }
    return false;
}

/* Strict: priorities fall within a batch, and what is left behind is not above its last. */
void check_batch(struct model *m, const struct model_queue *q, const struct model_group *g, const struct delivery *d)
{
    uint32_t last = 9;
    for (uint32_t i = 0; i < d->count; i++) {
        uint32_t priority = q->messages[d->messages[i].seq - 1].traits.priority;
        bool parked = q->altered && q->messages[d->messages[i].seq - 1].traits.key != 0; /* under other settings */
        if (priority > last && !parked)
            model_fail(m, "priority: %s/%s seq %" PRIu64 " of priority %u comes after one of %u", q->name, g->name,
                       d->messages[i].seq, priority, last);
        last = priority;
    }
    for (uint64_t seq = 1; last < 9 && seq <= q->count; seq++) {
        uint32_t priority = q->messages[seq - 1].traits.priority;
        if (priority > last && is_available(m, q, g, seq) && !key_is_in(q, d, seq))
            model_fail(m, "priority: %s/%s seq %" PRIu64 " of priority %u stays behind one of %u", q->name, g->name,
                       seq, priority, last);
    }
}

/* ---- consumers ------------------------------------------------------------------------------------------------------------------ */

static uint32_t leased_to(const struct model *m, const struct subscription *s)
{
    const struct model_queue *q = &m->queues[s->queue];
    uint32_t n = 0;
    for (uint64_t i = 0; i < q->count; i++) {
        const struct slot *slot = &q->groups[s->group].slots[i];
        n += slot->leased && slot->conn == s->conn && slot->stream == s->stream && m->now.mono.ms < slot->deadline_ms;
    }
    return n;
}

static bool has_open_lease(const struct model *m, uint32_t queue, uint32_t group)
{
    for (uint32_t i = m->first_open; i < m->op_count; i++) {
        const struct op *op = m->ops[i];
        if (op && op->type == COMMAND_LEASE && op->queue == queue && op->group == group)
            return true;
    }
    return false;
}

/* Of two consumers that can both be served, may `other` be passed over? */
static bool goes_before(const struct model *m, const struct subscription *s, const struct subscription *other,
                        bool single_active)
{
    if (single_active)
        return s->priority > other->priority || (s->priority == other->priority && s->order < other->order);
    bool ready = other->credit > 0 && other->credit_bytes > 0 && other->turn != 0 && other->turn < m->turn &&
                 !m->conn_held[other->conn % CONNS_MAX] && (other->max_unsettled == 0);
    return s->priority >= other->priority || !ready;
}

/* After a delivery to it. */
void check_consumer(struct model *m, const struct subscription *s)
{
    const struct model_queue *q = &m->queues[s->queue];
    const struct model_group *g = &q->groups[s->group];
    if (s->max_unsettled && leased_to(m, s) > s->max_unsettled)
        model_fail(m, "unsettled: %s/%s has %u messages at one consumer, which wants at most %u", q->name, g->name,
                   leased_to(m, s), s->max_unsettled);
    bool single = g->single_active && !g->altering;
    if (g->altering || has_open_lease(m, s->queue, s->group))
        return;
    for (uint32_t i = 0; i < MODEL_SUBSCRIPTIONS; i++) {
        const struct subscription *other = &m->subscriptions[i];
        bool beside = other->live && other != s && other->queue == s->queue && other->group == s->group &&
                      other->incarnation == s->incarnation;
        if (beside && !goes_before(m, s, other, single))
            model_fail(m, "consumers: %s/%s serves the one of priority %u (%" PRIu64 ") and not %u (%" PRIu64 ")%s",
                       q->name, g->name, s->priority, s->order, other->priority, other->order,
                       single ? ", one at a time" : "");
    }
}

/* ---- nothing gets stuck ------------------------------------------------------------------------------------------------------- */

static bool takes_messages(const struct model *m, const struct subscription *s)
{
    const struct model_queue *q = &m->queues[s->queue];
    const struct model_group *g = &q->groups[s->group];
    return s->live && s->confirmed && s->credit > 0 && s->credit_bytes > 0 && s->max_unsettled == 0 && q->exists &&
           q->incarnation == s->incarnation && g->exists && !q->paused && !q->paused_was && !g->single_active &&
           !g->altering && !g->seeking && q->control == 0 && !m->conn_held[s->conn % CONNS_MAX];
}

static bool is_deliverable(const struct model *m, const struct model_queue *q, const struct model_group *g,
                           uint64_t seq)
{
    const struct model_message *msg = &q->messages[seq - 1];
    const struct slot *s = &g->slots[seq - 1];
    bool spent = q->settings.max_attempts != 0 && s->deliveries >= q->settings.max_attempts;
    bool waits = (m->clock_went_back || q->settings.backoff != BROKER_BACKOFF_NONE) && s->deliveries > 0;
    return s->state == SLOT_WANTED && !s->leased && !s->rejected_perhaps && !s->due_unsure && !msg->due_unsure &&
           !spent && !waits && !q->altered && msg->turn != 0 && !msg->maybe_gone && moment_is_long_due(m, &msg->due) &&
           moment_is_long_due(m, &s->due) && key_is_free(q, g, seq);
}

/* The machine came to rest: whoever takes messages has got what there was. */
void model_check_prompt(struct model *m)
{
    reads_check_prompt(m);
    for (uint32_t i = 0; i < MODEL_SUBSCRIPTIONS; i++) {
        const struct subscription *s = &m->subscriptions[i];
        if (!takes_messages(m, s))
            continue;
        struct model_queue *q = &m->queues[s->queue];
        queue_mark_gone(m, q);
        for (uint64_t seq = 1; seq <= q->count; seq++) {
            if (is_deliverable(m, q, &q->groups[s->group], seq))
                model_fail(m, "stuck: %s/%s seq %" PRIu64 " waits for nothing, and a consumer has credit for %" PRIu64,
                           q->name, q->groups[s->group].name, seq, s->credit);
        }
    }
}
