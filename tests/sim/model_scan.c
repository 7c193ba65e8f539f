/* Looking at a queue, and mending it, without consuming. */
#include <inttypes.h>
#include <stdlib.h>

#include "model.h"

void scan_begun(struct model *m, struct op *op)
{
    struct model_queue *q = &m->queues[op->queue];
    queue_mark_gone(m, q);
    op->u.scan.last = q->count;
    op->u.scan.turn = m->turn;
    op->bytes = calloc(q->count + 1, 1);
    if (!op->bytes)
        abort();
    for (uint64_t seq = 1; seq <= q->count; seq++)
        op->bytes[seq - 1] = message_is_dead(q, seq);
    if (op->u.scan.action != SCAN_PEEK && op->u.scan.action != SCAN_COUNT)
        q->scan = op->correlation;
}

static bool is_meant(const struct op *op, const struct model_queue *q, uint64_t seq)
{
    return seq >= op->u.scan.from && (op->u.scan.to == 0 || seq <= op->u.scan.to) &&
           choice_takes(&op->u.scan.choice, &q->messages[seq - 1]);
}

/* May it be among what the scan found? */
bool scan_covers(const struct model *m, const struct op *op, const struct model_queue *q, uint64_t seq)
{
    const struct model_message *msg = &q->messages[seq - 1];
    bool delayed = msg->due.wall_ms != 0 || msg->rescheduled;
    bool state = op->u.scan.state == BROKER_SCAN_ANY || (op->u.scan.state == BROKER_SCAN_SCHEDULED && delayed) ||
                 (op->u.scan.state == BROKER_SCAN_AVAILABLE &&
                  (moment_is_due(m, &msg->due) || msg->was_due || msg->rescheduled));
    bool dead = seq <= op->u.scan.last && op->bytes[seq - 1];
    return is_meant(op, q, seq) && state && !dead;
}

/* Some group has had it and is not done: a move leaves it alone. */
static bool is_held(const struct model_queue *q, uint64_t seq)
{
    for (uint32_t g = 0; g < MODEL_GROUPS; g++) {
        if (q->groups[g].exists && q->groups[g].slots[seq - 1].deliveries > 0)
            return true;
    }
    return false;
}

/* Must it be among them? It was there before the scan began and is there still. */
static bool scan_must_find(const struct model *m, const struct op *op, const struct model_queue *q, uint64_t seq)
{
    const struct model_message *msg = &q->messages[seq - 1];
    if (seq > op->u.scan.last || msg->turn == 0 || msg->turn >= op->u.scan.turn || !is_meant(op, q, seq) ||
        msg->maybe_gone || msg->rescheduled)
        return false;
    if (op->u.scan.state == BROKER_SCAN_SCHEDULED && (moment_is_due(m, &msg->due) || msg->was_due || is_held(q, seq)))
        return false;
    if (op->u.scan.state == BROKER_SCAN_AVAILABLE && msg->due.wall_ms != 0)
        return false;
    return message_is_alive(q, seq);
}

/* A message may be too large for where it is to go. */
static bool may_not_fit(const struct model *m, const struct op *op)
{
    const struct model_queue *to = op->u.scan.target ? &m->queues[op->u.scan.target - 1] : NULL;
    return to && (to->settings.max_bytes != 0 || to->altered);
}

static bool is_redriven(const struct op *op)
{
    return op->u.scan.action == SCAN_REDRIVE;
}

static void check_found(struct model *m, const struct op *op, const struct model_queue *q, const struct completion *c)
{
    uint64_t end = c->u.scan.next_seq ? c->u.scan.next_seq - 1 : q->count, must = 0, may = 0;
    bool changes = op->u.scan.action != SCAN_PEEK && op->u.scan.action != SCAN_COUNT;
    for (uint64_t seq = 1; seq <= end && seq <= q->count; seq++) {
        bool skipped =
            op->u.scan.action != SCAN_DELETE && changes && (is_held(q, seq) || is_redriven(op) || may_not_fit(m, op));
        if (scan_must_find(m, op, q, seq)) {
            model_trace(m, "must find %s seq %" PRIu64, q->name, seq);
            must++;
            if (changes && !skipped)
                model_fail(m, "scan: %s seq %" PRIu64 " was meant and is still there", q->name, seq);
        }
        may += scan_covers(m, op, q, seq);
    }
    uint64_t matched = c->u.scan.matched;
    bool compacted = q->settings.compact || q->settings_was.compact || q->altered; /* which deletes by the way, too */
    bool went = matched == op->u.scan.seen || (compacted && matched < op->u.scan.seen);
    if (changes ? !went : matched < must || matched > may)
        model_fail(m, "scan: of %s %" PRIu64 " were found, %" PRIu64 " to %" PRIu64 " are there, %" PRIu64 " went",
                   q->name, matched, must, may, op->u.scan.seen);
    if (matched > op->u.scan.max_messages)
        model_fail(m, "scan: of %s %" PRIu64 " were found, at most %u were asked for", q->name, matched,
                   op->u.scan.max_messages);
}

static void check_peeked(struct model *m, const struct op *op, const struct model_queue *q, const struct completion *c)
{
    uint64_t before = 0;
    if (c->u.scan.count != c->u.scan.matched)
        model_fail(m, "peek: %u messages of %s for %" PRIu64, c->u.scan.count, q->name, c->u.scan.matched);
    for (uint32_t i = 0; i < c->u.scan.count && !model_failed(m); i++) {
        uint64_t seq = c->u.scan.messages[i].seq;
        model_trace(m, "peeked %s seq %" PRIu64, q->name, seq);
        model_check_bytes(m, q, seq, c->u.scan.messages[i].record);
        if (model_failed(m))
            return;
        if (seq <= before || !scan_covers(m, op, q, seq))
            model_fail(m, "peek: %s seq %" PRIu64 " after %" PRIu64 " is not meant", q->name, seq, before);
        before = seq;
    }
}

void scan_completed(struct model *m, struct op *op, const struct completion *c)
{
    struct model_queue *q = &m->queues[op->queue];
    if (q->scan == op->correlation)
        q->scan = 0;
    if (c->error || q->incarnation != op->incarnation)
        return;
    queue_mark_gone(m, q);
    m->scanned += c->u.scan.matched;
    model_trace(m, "scan %d of %s: %" PRIu64 " found, %" PRIu64 " skipped, next %" PRIu64, op->u.scan.action, q->name,
                c->u.scan.matched, c->u.scan.skipped, c->u.scan.next_seq);
    if (op->u.scan.action == SCAN_PEEK)
        check_peeked(m, op, q, c);
    check_found(m, op, q, c);
}
