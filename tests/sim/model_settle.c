/* Publishes and settles: what their answers may say, and what they promise. */
#include "model.h"

void model_confirm_index(struct model *m, enum survives how, uint64_t index)
{
    if (how == SURVIVES_POWER && index > m->durable_index)
        m->durable_index = index;
    if (how >= SURVIVES_KILL && index > m->written_index)
        m->written_index = index;
}

/* ---- publishes --------------------------------------------------------------------------------------------------------- */

static uint64_t stored_seq(const struct model_queue *q, const struct op_record *r)
{
    for (uint64_t i = 0; r->number != 0 && i < q->count; i++) {
        if (q->messages[i].producer == r->producer && q->messages[i].number == r->number)
            return i + 1;
    }
    return 0;
}

static void promise(struct model *m, struct model_queue *q, uint64_t seq, enum survives how)
{
    struct model_message *msg = &q->messages[seq - 1];
    if (msg->survives < how)
        msg->survives = how;
    if (msg->turn == 0)
        msg->turn = m->turn;
    model_confirm_index(m, how, msg->index);
}

static void record_refused(struct model *m, const struct op *op, const struct op_record *r, broker_error error)
{
    m->refused++;
    bool topic = r->queue == BY_TOPIC;
    const char *name = topic ? "a topic" : m->queues[r->queue].name;
    if (r->seq != 0)
        model_fail(m, "publish: %s seq %llu was stored, the answer is %s", name, (unsigned long long)r->seq,
                   broker_error_name(error));
    bool plain = error == BROKER_DISK_FULL || error == BROKER_OVERLOADED || error == BROKER_IO;
    bool right = (plain && m->may_refuse) ||
                 (error == BROKER_TOO_LARGE && (r->body_len >= BODY_TOO_LARGE || op->too_low)) ||
                 (error == BROKER_QUEUE_FULL && op->may_be_full) ||
                 (error == BROKER_UNROUTABLE && topic && !op->unroutable_ok && r->routes == 0);
    if (!right)
        model_fail(m, "publish to %s refused with %s", name, broker_error_name(error));
}

static void routed_answered(struct model *m, struct op *op, struct op_record *r, const struct publish_result *result,
                            uint64_t queues)
{
    uint64_t found = 0;
    bool forgotten = queues == 0; /* who knows where it went, if a queue was deleted since */
    m->routed += queues;
    for (uint32_t k = 0; k < MODEL_QUEUES; k++) {
        struct model_queue *q = &m->queues[k];
        forgotten |= q->incarnation > 0;
        for (uint64_t seq = 1; seq <= q->count; seq++) {
            if (q->messages[seq - 1].publish != r->publish || q->messages[seq - 1].copied)
                continue;
            promise(m, q, seq, op->asked);
            found++;
        }
    }
    if (result->duplicate ? (found == 0 && !forgotten) || r->seq != 0 : queues != r->seq)
        model_fail(m, "publish by topic %s: said to have reached %llu queues%s, reached %llu",
                   model_topic(r->traits.topic), (unsigned long long)queues, result->duplicate ? " before" : "",
                   (unsigned long long)(r->seq ? r->seq : found));
    if (!result->duplicate && queues == 0 && !op->unroutable_ok)
        model_fail(m, "publish by topic %s reached nobody, without an error", model_topic(r->traits.topic));
}

static bool is_known(const struct model *m, const struct op_record *r)
{
    for (uint32_t i = 0; r->number != 0 && i < MODEL_KNOWN; i++) {
        if (m->known[i].producer == r->producer && m->known[i].number == r->number)
            return true;
    }
    return false;
}

static void duplicate_answered(struct model *m, struct op *op, struct op_record *r, uint64_t seq)
{
    struct model_queue *q = &m->queues[r->queue];
    uint64_t stored = stored_seq(q, r);
    bool by_id = false;
    m->duplicates++;
    if (stored == 0 && r->traits.id != 0 && (id_perhaps_known(op, q, &r->traits, seq) || is_known(m, r))) {
        stored = seq <= q->count ? seq : 0; /* not by its number, but by its id */
        by_id = true;
        m->known[m->known_count++ % MODEL_KNOWN] = (struct known){r->producer, r->number};
    }
    if (r->seq == 0 && stored == 0 && seq == 0 && r->traits.id != 0) /* it was one by its id before */
        return;
    if (r->seq != 0 || stored == 0)
        model_fail(m, "duplicate: %s publish %llu/%llu (id %u) is called one (of %llu) and was %s", q->name,
                   (unsigned long long)r->producer, (unsigned long long)r->number, r->traits.id,
                   (unsigned long long)seq, r->seq ? "stored now" : "never stored");
    else if (seq != 0 && seq != stored)
        model_fail(m, "duplicate: %s seq %llu is called a copy of %llu", q->name, (unsigned long long)stored,
                   (unsigned long long)seq);
    else
        promise(m, q, stored, by_id ? SURVIVES_NOTHING : op->asked); /* the first one's promise counts */
}

void record_answered(struct model *m, struct op *op, struct op_record *r, const struct publish_result *result,
                     uint64_t seq)
{
    if (result->error) {
        record_refused(m, op, r, result->error);
        return;
    }
    if (r->queue == BY_TOPIC) {
        routed_answered(m, op, r, result, seq);
        return;
    }
    struct model_queue *q = &m->queues[r->queue];
    if (q->incarnation != r->incarnation)
        return;
    if (result->duplicate)
        duplicate_answered(m, op, r, seq);
    else if (r->seq == 0 || r->seq != seq)
        model_fail(m, "publish: %s confirmed seq %llu, stored was %llu", q->name, (unsigned long long)seq,
                   (unsigned long long)r->seq);
    else
        promise(m, q, seq, op->asked);
}

void publish_completed(struct model *m, struct op *op, const struct completion *c)
{
    if (c->error)
        return;
    uint32_t next = 0;
    for (size_t i = 0; i < c->u.publish.count; i++) {
        const struct publish_result *result = &c->u.publish.results[i];
        if (result->first_index != next || result->count == 0 || result->count > op->record_count - next) {
            model_fail(m, "publish #%u: result %zu covers %u+%u, expected from %u of %u", op->correlation, i,
                       result->first_index, result->count, next, op->record_count);
            return;
        }
        for (uint32_t k = 0; k < result->count; k++) {
            struct op_record *r = &op->records[next + k];
            bool by_seq = result->first_seq && r->queue != BY_TOPIC;
            record_answered(m, op, r, result, by_seq ? result->first_seq + k : result->first_seq);
        }
        next += result->count;
    }
    if (next != op->record_count)
        model_fail(m, "publish #%u: %u of %u records answered", op->correlation, next, op->record_count);
}

/* ---- settles ------------------------------------------------------------------------------------------------------------- */

struct slot *receipt_slot(struct model *m, const struct op_receipt *r)
{
    struct model_queue *q = &m->queues[r->queue];
    const struct model_group *g = &q->groups[r->group];
    bool there = r->seq != 0 && q->exists && q->incarnation == r->incarnation && g->exists && g->moves == r->moves;
    return there && r->seq <= q->count ? &q->groups[r->group].slots[r->seq - 1] : NULL;
}

struct op_receipt *settle_add(struct model *m, struct op *op, const struct held *h)
{
    for (uint32_t i = 0; i < op->receipt_count; i++) {
        if (op->receipts[i].receipt == h->receipt)
            return NULL;
    }
    struct op_receipt *r = &op->receipts[op->receipt_count++];
    *r = (struct op_receipt){.receipt = h->receipt,
                             .seq = h->seq,
                             .queue = h->queue,
                             .incarnation = h->incarnation,
                             .group = h->group,
                             .moves = m->queues[h->queue].groups[h->group].moves,
                             .fate = RECEIPT_STALE};
    struct slot *s = receipt_slot(m, r);
    if (s && s->leased && s->receipt == r->receipt) {
        /* After the deadline the lease ends with the next tick, whenever that is. */
        r->fate = m->now.mono.ms < s->deadline_ms ? RECEIPT_LIVE : RECEIPT_EITHER;
        r->attempts = s->attempts;
        /* One answer for all of them; what it waits for is the strictest's, what is relied on the laxest's. */
        enum survives asked = queue_survives(&m->queues[h->queue], BROKER_SYNC_DEFAULT);
        op->asked = op->asked == SURVIVES_NOTHING || asked < op->asked ? asked : op->asked;
    }
    return r;
}

static void nack_applied(struct model *m, const struct op *op, const struct op_receipt *r, struct slot *s)
{
    const struct model_queue *q = &m->queues[r->queue];
    uint64_t ms = op->u.settle.ms;
    if (ms == 0)
        ms = backoff_least(q, s->attempts);
    s->due = r->fate == RECEIPT_LIVE ? moment_after(m, ms) : (struct moment){0};
    s->due_unsure = r->fate != RECEIPT_LIVE;
    s->rejected = r->fate == RECEIPT_LIVE && op->u.settle.dead_letter;
    s->rejected_how = SURVIVES_NOTHING;
    s->rejected_perhaps = op->u.settle.dead_letter;
}

static void receipt_applied(struct model *m, const struct op *op, const struct op_receipt *r, struct slot *s)
{
    bool live = r->fate == RECEIPT_LIVE;
    if (op->type == COMMAND_EXTEND) {
        if (live)
            s->deadline_ms = m->now.mono.ms + op->u.settle.ms;
        return;
    }
    s->leased = false;
    if (op->type == COMMAND_NACK) {
        nack_applied(m, op, r, s);
        return;
    }
    if (live)
        slot_settle(s, SURVIVES_NOTHING);
    else
        s->state = SLOT_FREE; /* until the answer says */
    queue_mark_gone(m, &m->queues[r->queue]);
}

void settle_applied(struct model *m, struct op *op)
{
    if (op->applied)
        return;
    op->applied = true;
    for (uint32_t i = 0; i < op->receipt_count; i++) {
        const struct op_receipt *r = &op->receipts[i];
        struct slot *s = r->fate == RECEIPT_STALE ? NULL : receipt_slot(m, r);
        if (s)
            receipt_applied(m, op, r, s);
    }
}

static bool listed_as_stale(const struct completion *c, uint64_t receipt)
{
    for (uint32_t i = 0; i < c->u.settle.stale_listed; i++) {
        if (c->u.settle.stale_receipts[i] == receipt)
            return true;
    }
    return false;
}

static void nack_confirmed(struct slot *s, const struct op *op, const struct op_receipt *r, enum survives how)
{
    bool again = s->attempts != r->attempts; /* delivered since: the due time is history */
    if (op->u.settle.dead_letter && !again) {
        s->rejected = true;
        s->rejected_how = how > s->rejected_how ? how : s->rejected_how;
    }
    if (s->nacked_kill < r->attempts)
        s->nacked_kill = r->attempts;
    if (!again)
        s->due_kill = s->due;
    if (how != SURVIVES_POWER)
        return;
    if (s->nacked_power < r->attempts)
        s->nacked_power = r->attempts;
    if (!again)
        s->due_power = s->due;
}

static void receipt_answered(struct model *m, struct op *op, const struct op_receipt *r, bool stale)
{
    struct model_queue *q = &m->queues[r->queue];
    model_trace(m, "%s #%u of %s/%s seq %llu: %s", model_op_name(op->type), op->correlation, q->name,
                q->groups[r->group].name, (unsigned long long)r->seq, stale ? "stale" : "taken");
    if (r->fate == RECEIPT_LIVE && stale)
        model_fail(m, "%s: receipt %llx of %s seq %llu is live and was called stale", model_op_name(op->type),
                   (unsigned long long)r->receipt, q->name, (unsigned long long)r->seq);
    if (r->fate == RECEIPT_STALE && !stale)
        model_fail(m, "%s: receipt %llx of %s seq %llu is stale and was taken", model_op_name(op->type),
                   (unsigned long long)r->receipt, q->name, (unsigned long long)r->seq);
    struct slot *s = r->fate == RECEIPT_STALE ? NULL : receipt_slot(m, r);
    if (!s || op->type == COMMAND_EXTEND)
        return;
    enum survives how = queue_survives(q, BROKER_SYNC_DEFAULT);
    if (how > op->asked)
        how = op->asked;
    if (op->type == COMMAND_ACK && stale && s->state == SLOT_FREE && !q->messages[r->seq - 1].maybe_gone)
        s->state = SLOT_WANTED;
    if (stale)
        return;
    m->settled++;
    if (op->type == COMMAND_NACK)
        nack_confirmed(s, op, r, how);
    else if (s->state == SLOT_SETTLED || (r->fate == RECEIPT_EITHER && !s->leased))
        slot_settle(s, how);
}

/* It may have happened in part: nobody knows. */
static void settle_failed(struct model *m, struct op *op)
{
    for (uint32_t i = 0; i < op->receipt_count; i++) {
        struct slot *s = receipt_slot(m, &op->receipts[i]);
        if (!s || op->receipts[i].fate == RECEIPT_STALE)
            continue;
        if (op->type == COMMAND_ACK && s->state != SLOT_SETTLED)
            s->state = SLOT_FREE;
        s->deadline_ms = 0;
    }
}

void settle_completed(struct model *m, struct op *op, const struct completion *c)
{
    if (c->error) {
        settle_failed(m, op);
        return;
    }
    uint32_t stale = 0;
    for (uint32_t i = 0; i < op->receipt_count; i++) {
        bool is_stale = listed_as_stale(c, op->receipts[i].receipt);
        stale += is_stale;
        receipt_answered(m, op, &op->receipts[i], is_stale);
    }
    if (c->u.settle.settled + c->u.settle.stale != op->receipt_count || stale != c->u.settle.stale)
        model_fail(m, "%s #%u of %u receipts: %u settled, %u stale, %u of them listed", model_op_name(op->type),
                   op->correlation, op->receipt_count, c->u.settle.settled, c->u.settle.stale, stale);
    model_confirm_index(m, op->asked, op->asked == SURVIVES_POWER ? op->synced_index : op->index);
}
