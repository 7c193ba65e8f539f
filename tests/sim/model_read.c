/* Reading by position: what must be shown, what must not, and that nobody waits for what is there. */
#include <inttypes.h>

#include "model.h"

void read_begun(struct model *m, struct op *op)
{
    const struct model_queue *q = &m->queues[op->queue];
    op->u.read.count = q->count;
    op->u.read.confirmed = 0;
    for (uint64_t seq = q->count; seq > 0 && op->u.read.confirmed == 0; seq--)
        op->u.read.confirmed = q->messages[seq - 1].turn != 0 ? seq : 0;
}

/* Must whoever reads on from before it see it? */
static bool must_show(const struct model_queue *q, const struct op *op, uint64_t seq)
{
    const struct model_message *msg = &q->messages[seq - 1];
    return msg->turn != 0 && !msg->maybe_gone && msg->deleted_index == 0 && message_is_alive(q, seq) &&
           choice_takes(&op->u.read.choice, msg);
}

/* From here on all must be shown. A reader from a time may begin a little before or behind it. */
static uint64_t surely_from(const struct op *op, const struct completion *c)
{
    if (op->u.read.from_ms)
        return c && c->u.read.count ? c->u.read.messages[0].seq : UINT64_MAX;
    return op->u.read.from_end ? op->u.read.count + 1 : op->u.read.from ? op->u.read.from : 1;
}

static bool is_for_somebody(const struct model_queue *q, uint64_t seq)
{
    for (uint32_t g = 0; g < MODEL_GROUPS; g++) {
        const struct slot *s = &q->groups[g].slots[seq - 1];
        if (q->groups[g].exists && s->state == SLOT_WANTED && s->deliveries == 0)
            return true;
    }
    return false;
}

static void check_shown(struct model *m, const struct model_queue *q, const struct op *op, uint64_t seq)
{
    struct model_message *msg = &m->queues[op->queue].messages[seq - 1];
    const struct moment *looked = m->times_are_read ? &m->rested : &m->ticked;
    uint64_t from = op->u.read.from_end ? op->u.read.confirmed + 1 : op->u.read.from_ms ? 0 : op->u.read.from;
    check_durable(m, q, seq, msg);
    if (seq < from)
        model_fail(m, "read: %s seq %" PRIu64 " for who reads from %" PRIu64 " on", q->name, seq, from);
    if (!choice_takes(&op->u.read.choice, msg))
        model_fail(m, "read: %s seq %" PRIu64 " is not for this filter", q->name, seq);
    if (msg->deleted_index != 0 || message_is_dead(q, seq))
        model_fail(m, "read: %s seq %" PRIu64 " is gone for every group", q->name, seq);
    if (moment_is_past(m, &msg->expire) && msg->expire.mono_ms < looked->mono_ms && is_for_somebody(q, seq))
        model_fail(m, "read: %s seq %" PRIu64 " expired %" PRIu64 " ms ago", q->name, seq,
                   m->now.mono.ms - msg->expire.mono_ms);
}

static void check_messages(struct model *m, const struct model_queue *q, const struct op *op,
                           const struct completion *c)
{
    uint64_t before = 0, at = surely_from(op, c);
    for (uint32_t i = 0; i < c->u.read.count && !model_failed(m); i++) {
        uint64_t seq = c->u.read.messages[i].seq;
        model_trace(m, "read %s seq %" PRIu64, q->name, seq);
        model_check_bytes(m, q, seq, c->u.read.messages[i].record);
        if (model_failed(m))
            return;
        if (seq <= before || seq >= c->u.read.next_seq)
            model_fail(m, "read: %s seq %" PRIu64 " after %" PRIu64 ", and the next would be %" PRIu64, q->name, seq,
                       before, c->u.read.next_seq);
        check_shown(m, q, op, seq);
        for (; at < seq; at++) {
            if (must_show(q, op, at))
                model_fail(m, "read: %s seq %" PRIu64 " is left out before %" PRIu64, q->name, at, seq);
        }
        at = seq + 1 > at ? seq + 1 : at;
        before = seq;
    }
    for (; !c->u.read.beyond && at < c->u.read.next_seq && at <= q->count; at++) {
        if (must_show(q, op, at))
            model_fail(m, "read: %s seq %" PRIu64 " is left out, the next would be %" PRIu64, q->name, at,
                       c->u.read.next_seq);
    }
}

static void check_bounds(struct model *m, const struct model_queue *q, const struct op *op, const struct completion *c)
{
    uint64_t first = c->u.read.first_seq, last = c->u.read.last_seq, from = op->u.read.from;
    bool by_seq = !op->u.read.from_end && !op->u.read.from_ms;
    if (last > q->count || first > last + 1 || first == 0)
        model_fail(m, "read: %s is said to have %" PRIu64 " to %" PRIu64 " of %" PRIu64, q->name, first, last,
                   q->count);
    for (uint64_t seq = 1; seq < first && seq <= q->count; seq++) {
        if (must_show(q, op, seq))
            model_fail(m, "read: %s seq %" PRIu64 " is there, the oldest is said to be %" PRIu64, q->name, seq, first);
    }
    for (uint64_t seq = last + 1; seq <= q->count; seq++) {
        if (q->messages[seq - 1].turn != 0)
            model_fail(m, "read: %s seq %" PRIu64 " was confirmed, the newest is said to be %" PRIu64, q->name, seq,
                       last);
    }
    bool beyond = by_seq && from > op->u.read.count + 1, within = !by_seq || from <= op->u.read.confirmed + 1;
    if (c->u.read.beyond ? within : beyond)
        model_fail(m, "read: %s from %" PRIu64 " of %" PRIu64 " (%" PRIu64 " confirmed) is %sbeyond", q->name, from,
                   op->u.read.count, op->u.read.confirmed, c->u.read.beyond ? "" : "not ");
    if (c->u.read.trimmed && q->settings.retention != BROKER_RETENTION_LOG && !q->altered)
        model_fail(m, "read: %s is no log, and is said to be trimmed", q->name);
    if (c->u.read.trimmed && by_seq && first <= from && first <= last)
        model_fail(m, "read: %s is said to be trimmed at or after %" PRIu64 ", the oldest is %" PRIu64, q->name, from,
                   first);
}

void read_completed(struct model *m, struct op *op, const struct completion *c)
{
    struct model_queue *q = &m->queues[op->queue];
    if (c->error || q->incarnation != op->incarnation)
        return;
    queue_touched(m, op->queue);
    queue_mark_gone(m, q);
    m->read += c->u.read.count;
    q->read_next = c->u.read.next_seq;
    if (q->id != 0 && c->u.read.queue_id != q->id)
        model_fail(m, "read: %s is queue %u, said is %u", q->name, q->id, c->u.read.queue_id);
    if (c->u.read.count > op->u.read.max_messages)
        model_fail(m, "read: %u messages of %s, asked for at most %u", c->u.read.count, q->name,
                   op->u.read.max_messages);
    check_bounds(m, q, op, c);
    check_messages(m, q, op, c);
    uint64_t waited = m->now.mono.ms - op->begun.mono.ms;
    bool early = c->u.read.count == 0 && waited < op->u.read.wait_ms && !c->u.read.trimmed && !c->u.read.beyond;
    if (early)
        model_fail(m, "read: nothing of %s after %" PRIu64 " of %u ms", q->name, waited, op->u.read.wait_ms);
}

/* The machine came to rest: who reads waits only for what is not there yet, and not longer than asked for. */
void reads_check_prompt(struct model *m)
{
    for (uint32_t i = m->first_open; i < m->op_count; i++) {
        const struct op *op = m->ops[i];
        if (!op || op->type != COMMAND_READ)
            continue;
        struct model_queue *q = &m->queues[op->queue];
        if (!q->exists || q->incarnation != op->incarnation || q->control != 0)
            continue;
        queue_mark_gone(m, q);
        if (op->u.read.wait_ms != READ_WAIT_FOREVER && m->now.mono.ms - op->begun.mono.ms >= op->u.read.wait_ms)
            model_fail(m, "stuck: a read of %s waits for %" PRIu64 " ms, asked for were %u", q->name,
                       m->now.mono.ms - op->begun.mono.ms, op->u.read.wait_ms);
        for (uint64_t seq = surely_from(op, NULL); seq <= q->count; seq++) {
            if (must_show(q, op, seq))
                model_fail(m, "stuck: %s seq %" PRIu64 " is there, and read #%u waits for it", q->name, seq,
                           op->correlation);
        }
    }
}

bool model_is_read(const struct model *m, const struct model_queue *q)
{
    for (uint32_t i = m->first_open; i < m->op_count; i++) {
        const struct op *op = m->ops[i];
        if (op && op->type == COMMAND_READ && &m->queues[op->queue] == q && op->incarnation == q->incarnation)
            return true;
    }
    return false;
}
