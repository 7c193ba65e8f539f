/*
 * Transactions: publishes to several queues, and settles, in one batch of the log: all or nothing. Everything is checked
 * and built first, then appended at once, then applied.
 */
#include <stdlib.h>
#include <string.h>

#include "engine_internal.h"

enum { PARTS_MAX = 1024 };

struct transaction {
    struct engine *e;
    const struct command *c;
    struct arrivals arrivals;
    uint64_t *seqs; /* the answer: one per message */
    uint32_t seq_count, seq_cap;
    uint32_t numbered, known; /* messages with a producer's number; of these, seen before */
    struct queue **targets;   /* of the current message */
    uint32_t target_cap;
};

/* Refuse, naming the part. */
static bool refuse(struct transaction *t, size_t part, broker_error error, const char *what)
{
    engine_fail(t->e, t->c, error, broker_error_is_retryable(error) ? publish_retry_ms(error) : 0,
                "part %zu of the transaction: %s: nothing of it was done", part, what);
    return false;
}

static bool put_seq(struct transaction *t, uint64_t seq)
{
    if (t->seq_count == t->seq_cap) {
        uint32_t cap = t->seq_cap ? t->seq_cap * 2 : 16;
        uint64_t *seqs = realloc(t->seqs, cap * sizeof *seqs);
        if (!seqs) {
            return false;
        }
        t->seqs = seqs;
        t->seq_cap = cap;
    }
    t->seqs[t->seq_count++] = seq;
    return true;
}

/* ---- looking: nothing changes ------------------------------------------------------------------------------------------ */

static uint64_t in_block(uint64_t at, uint64_t left, uint32_t *n)
{
    uint32_t from = (uint32_t)(at & (BLOCK_MESSAGES - 1));
    *n = left < BLOCK_MESSAGES - from ? (uint32_t)left : BLOCK_MESSAGES - from;
    return (UINT64_MAX >> (BLOCK_MESSAGES - *n)) << from;
}

typedef bool block_fn(struct transaction *t, const struct transact_part *p, struct lease_block *b, uint64_t bits);

/* Call fn for each block that the part's receipts touch; b is NULL if there is none. */
static bool each_block(struct transaction *t, const struct transact_part *p, block_fn *fn)
{
    for (size_t i = 0; i < p->count; i++) {
        uint64_t at = p->ranges[i].first, left = p->ranges[i].count;
        while (left) {
            uint32_t n;
            uint64_t bits = in_block(at, left, &n), number = at >> BLOCK_SHIFT;
            struct lease_block *b;
            HASH_FIND(hh, t->e->blocks, &number, sizeof number, b);
            if (!fn(t, p, b, bits)) {
                return false;
            }
            at += n;
            left -= n;
        }
    }
    return true;
}

static bool is_leased(struct transaction *t, const struct transact_part *p, struct lease_block *b, uint64_t bits)
{
    if (!b || (bits & ~b->live) || (bits & b->taken)) {
        return false;
    }
    b->taken |= bits;
    return true;
}

static bool forget_taken(struct transaction *t, const struct transact_part *p, struct lease_block *b, uint64_t bits)
{
    if (b) {
        b->taken = 0;
    }
    return true;
}

static struct queue *queue_of_part(struct transaction *t, const struct transact_part *p)
{
    return p->queue.len ? queue_find(t->e, p->queue) : NULL;
}

static void look_at_numbers(struct transaction *t, const struct transact_part *p)
{
    const struct queue *q = queue_of_part(t, p);
    for (size_t at = 0; at < p->len; at += record_padded(p->records + at)) {
        struct record_view view;
        record_view_get(p->records + at, UINT32_MAX, &view);
        const struct producer *producer = view.producer ? producer_find(t->e, q ? q->id : 0, view.producer) : NULL;
        t->numbered += view.producer != 0;
        t->known += producer && producer_has(producer, view.number);
    }
}

static bool look_at_part(struct transaction *t, size_t i)
{
    struct engine *e = t->e;
    const struct transact_part *p = &t->c->u.transact.parts[i];
    if (p->kind != PART_PUBLISH) {
        return true; /* receipts are looked at once it is known that this is no retry */
    }
    if (p->queue.len && !queue_find(e, p->queue)) {
        engine_fail(e, t->c, BROKER_QUEUE_NOT_FOUND, 0,
                    "part %zu of the transaction: there is no queue '%.*s': nothing of it was done", i,
                    p->queue.len > 64 ? 64 : (int)p->queue.len, p->queue.bytes);
        return false;
    }
    if (!frame_is_sound(e, t->c, p->records, p->len, !p->queue.len)) {
        return false;
    }
    look_at_numbers(t, p);
    return true;
}

static bool look_at_receipts(struct transaction *t)
{
    const struct command *c = t->c;
    bool ok = true;
    size_t i = 0;
    for (; ok && i < c->u.transact.count; i++) {
        ok = c->u.transact.parts[i].kind == PART_PUBLISH || each_block(t, &c->u.transact.parts[i], is_leased);
    }
    for (size_t j = 0; j < c->u.transact.count; j++) {
        if (c->u.transact.parts[j].kind != PART_PUBLISH) {
            each_block(t, &c->u.transact.parts[j], forget_taken);
        }
    }
    return ok || refuse(t, i - 1, BROKER_STALE_RECEIPT, "the lease of a receipt is over, or it is named twice");
}

/* ---- building ------------------------------------------------------------------------------------------------------------ */

static bool add_message(struct transaction *t, size_t part, struct queue *q, uint8_t *record)
{
    struct record_view view;
    broker_error error = BROKER_OK;
    uint32_t count = 1, bound = 1;
    record_view_get(record, UINT32_MAX, &view);
    if (!q) {
        error = route_message(t->e, &view, &t->targets, &t->target_cap, &count, &bound);
        if (!error && !bound && !t->c->u.transact.unroutable_ok) {
            error = BROKER_UNROUTABLE;
        }
    } else {
        uint64_t seq =
            view.message_id && q->settings.dedup_ms ? dedup_find(t->e, q, view.message_id, view.message_id_len) : 0;
        if (seq) {
            q->counters.duplicates++;
            return put_seq(t, seq) || refuse(t, part, BROKER_NO_MEMORY, broker_strerror(BROKER_NO_MEMORY));
        }
        error = message_check(t->e, q, &view);
    }
    uint64_t answer = q ? q->next_seq : bound;
    if (!error && count) {
        error = arrivals_add(&t->arrivals, record, q ? &q : t->targets, count);
    }
    if (!error && !put_seq(t, answer)) {
        error = BROKER_NO_MEMORY;
    }
    return !error || refuse(t, part, error, broker_strerror(error));
}

static bool add_publish(struct transaction *t, size_t i, const struct transact_part *p)
{
    struct queue *q = queue_of_part(t, p);
    for (size_t at = 0; at < p->len;) {
        size_t padded = record_padded(p->records + at);
        if (!add_message(t, i, q, p->records + at)) {
            return false;
        }
        at += padded;
    }
    return true;
}

static uint64_t part_due(const struct engine *e, const struct transact_part *p, const struct group *g,
                         const struct lease_entry *entry)
{
    return p->delay_ms ? e->now.wall.ms + p->delay_ms : backoff_due(e, g, entry->seq, entry->attempts);
}

/* One record for what the part settles in one block. */
static bool add_settle(struct transaction *t, const struct transact_part *p, struct lease_block *b, uint64_t bits)
{
    uint8_t body[8 + BLOCK_MESSAGES * 24];
    uint32_t n = 0;
    bool ack = p->kind == PART_ACK;
    size_t len = 8;
    for (; bits; bits &= bits - 1, n++) {
        const struct lease_entry *entry = &b->entries[__builtin_ctzll(bits)];
        put_u64(body + len, entry->seq);
        put_u64(body + len + 8, ack ? entry->seq : part_due(t->e, p, b->group, entry));
        if (!ack) {
            put_u32(body + len + 16, entry->attempts);
            put_u32(body + len + 20, p->dead_letter ? RETURN_REJECTED : 0);
        }
        len += ack ? 16 : 24;
    }
    put_u32(body, b->group->id);
    put_u32(body + 4, n);
    return arrivals_add_record(&t->arrivals, ack ? RECORD_SETTLE : RECORD_RETURN, b->group->queue->id, body, len);
}

static bool build(struct transaction *t)
{
    for (size_t i = 0; i < t->c->u.transact.count; i++) {
        const struct transact_part *p = &t->c->u.transact.parts[i];
        if (p->kind == PART_PUBLISH
                ? !add_publish(t, i, p)
                : !each_block(t, p, add_settle) && !refuse(t, i, BROKER_NO_MEMORY, broker_strerror(BROKER_NO_MEMORY))) {
            return false;
        }
    }
    return true;
}

/* ---- done ------------------------------------------------------------------------------------------------------------------ */

static bool apply_settle(struct transaction *t, const struct transact_part *p, struct lease_block *b, uint64_t bits)
{
    struct engine *e = t->e;
    if (p->kind == PART_ACK) {
        for (uint64_t left = bits; left; left &= left - 1) {
            uint64_t seq = b->entries[__builtin_ctzll(left)].seq;
            group_settle(e, b->group, seq, seq);
        }
        uint64_t n = (uint64_t)__builtin_popcountll(bits);
        e->stats.acked += n;
        b->group->queue->counters.acked += n;
        entries_end(e, b, bits);
    } else if (!entries_return(e, b, bits, p->delay_ms ? e->now.wall.ms + p->delay_ms : 0,
                               p->dead_letter ? COMEBACK_REJECT : COMEBACK_NACKED)) {
        heap_set(&e->lease_timers, &b->timer, e->now.mono.ms + 100); /* no memory: then it returns as expired */
    }
    return true;
}

static void note_numbers(struct transaction *t)
{
    uint32_t message = 0;
    for (size_t i = 0; i < t->c->u.transact.count; i++) {
        const struct transact_part *p = &t->c->u.transact.parts[i];
        const struct queue *q = p->kind == PART_PUBLISH ? queue_of_part(t, p) : NULL;
        for (size_t at = 0; p->kind == PART_PUBLISH && at < p->len; at += record_padded(p->records + at), message++) {
            struct record_view view;
            record_view_get(p->records + at, UINT32_MAX, &view);
            if (view.producer) {
                publish_note_producer(t->e, q ? q->id : 0, view.producer, view.number, t->seqs[message]);
            }
        }
    }
}

/* Each queue once for the last of its messages; the marks' memory was got before the append. */
static void answer(struct transaction *t, struct visible_mark *marks, uint64_t index)
{
    struct pending p = {.index = index, .token = t->c->token, .type = COMMAND_TRANSACT};
    for (uint32_t i = 0; i < t->arrivals.count; i++) {
        const struct arrival *a = &t->arrivals.places[i];
        marks[i] = (struct visible_mark){.queue = a->queue->id, .last_seq = a->seq};
        a->queue->synced_index = index;
        a->queue->synced_pending++;
    }
    p.u.transact.marks = marks;
    p.u.transact.mark_count = t->arrivals.count;
    p.u.transact.seqs = t->seqs;
    p.u.transact.seq_count = t->seq_count;
    t->seqs = NULL;
    pending_push(t->e, DURABILITY_SYNCED, &p);
}

/* A retry of what was done: say so once that is durable. */
static void answer_known(struct transaction *t)
{
    struct pending p = {.token = t->c->token, .type = COMMAND_TRANSACT};
    uint64_t index;
    for (uint32_t i = 0; i < t->numbered; i++) {
        put_seq(t, 0);
    }
    broker_error error = engine_append_barrier(t->e, &index);
    if (error) {
        engine_append_failed(t->e, t->c, error);
        return;
    }
    p.index = index;
    p.u.transact.seqs = t->seqs;
    p.u.transact.seq_count = t->seq_count;
    p.u.transact.duplicate = true;
    t->seqs = NULL;
    pending_push(t->e, DURABILITY_SYNCED, &p);
}

static void commit(struct transaction *t)
{
    static const uint8_t nothing[8];
    uint64_t index;
    struct visible_mark *marks = calloc(t->arrivals.count + 1, sizeof *marks);
    bool some = marks && (t->arrivals.item_count || /* all known already, or for nobody: a barrier, as for a retry */
                          arrivals_add_record(&t->arrivals, RECORD_SETTLE, 0, nothing, sizeof nothing));
    broker_error error = some ? arrivals_commit(&t->arrivals, DURABILITY_SYNCED, &index)
                              : (arrivals_undo(&t->arrivals), BROKER_NO_MEMORY);
    if (error) {
        free(marks);
        engine_append_failed(t->e, t->c, error);
        return;
    }
    note_numbers(t);
    for (size_t i = 0; i < t->c->u.transact.count; i++) {
        if (t->c->u.transact.parts[i].kind != PART_PUBLISH) {
            each_block(t, &t->c->u.transact.parts[i], apply_settle);
        }
    }
    answer(t, marks, index);
    for (uint32_t i = 0; i < t->arrivals.count; i++) {
        struct queue *q = t->arrivals.places[i].queue;
        queue_grew(t->e, q);
    }
}

void transact(struct engine *e, const struct command *c)
{
    struct transaction t = {.e = e, .c = c};
    if (!c->u.transact.count || c->u.transact.count > PARTS_MAX) {
        engine_fail(e, c, BROKER_INVALID_ARGUMENT, 0, "a transaction has 1 to %d parts, not %zu", PARTS_MAX,
                    c->u.transact.count);
        return;
    }
    if (!pending_reserve_all(e, 1)) {
        engine_append_failed(e, c, BROKER_NO_MEMORY);
        return;
    }
    arrivals_init(&t.arrivals, e);
    bool ok = true;
    for (size_t i = 0; ok && i < c->u.transact.count; i++) {
        ok = look_at_part(&t, i);
    }
    if (ok && t.numbered && t.known == t.numbered) {
        answer_known(&t);
    } else if (ok && t.known) {
        refuse(&t, 0, BROKER_REFUSED, "some of its messages were published before, others not");
    } else if (ok && look_at_receipts(&t)) {
        if (build(&t)) {
            commit(&t);
        } else {
            arrivals_undo(&t.arrivals);
        }
    }
    arrivals_release(&t.arrivals);
    free(t.targets);
    free(t.seqs);
}
