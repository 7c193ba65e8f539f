/* Settling by receipt: acks, nacks, extensions. A command may name receipts of many groups; each group gets its own record. */
#include <stdlib.h>
#include <string.h>

#include "engine_internal.h"

enum { RETRY_MS = 100 };

static uint64_t bits_from_to(uint32_t first, uint32_t last) /* both within 0..63 */
{
    return (UINT64_MAX >> (63 - last)) & (UINT64_MAX << first);
}

struct settling {
    struct engine *e;
    const struct command *c;
    struct group *group; /* of the entries gathered in body */
    struct buf body;     /* of the record under way */
    uint32_t items;
    struct { /* the blocks those entries are in */
        struct lease_block *block;
        uint64_t bits;
    } * taken;
    size_t taken_count, taken_cap;
    uint32_t settled, stale, listed;
    uint64_t stale_receipts[STALE_LISTED_MAX];
    uint64_t index;             /* batch of the last record; 0: none */
    enum durability durability; /* the strongest that a record asked for */
};

static bool take(struct settling *s, struct lease_block *b, uint64_t bits)
{
    if (s->taken_count == s->taken_cap) {
        size_t cap = s->taken_cap ? s->taken_cap * 2 : 32;
        void *taken = realloc(s->taken, cap * sizeof *s->taken);
        if (!taken) {
            return false;
        }
        s->taken = taken;
        s->taken_cap = cap;
    }
    b->taken |= bits;
    s->taken[s->taken_count].block = b;
    s->taken[s->taken_count++].bits = bits;
    return true;
}

static bool put_ack(struct settling *s, uint64_t first, uint64_t last)
{
    uint8_t *tail = s->body.bytes + s->body.len;
    if (s->items && get_u64(tail - 8) + 1 == first) {
        put_u64(tail - 8, last);
        return true;
    }
    s->items++;
    return buf_put_u64(&s->body, first) && buf_put_u64(&s->body, last);
}

/* When a nacked message is due again. */
static uint64_t nack_due(const struct engine *e, const struct command *c, const struct group *g,
                         const struct lease_entry *entry)
{
    return c->u.settle.delay_ms ? e->now.wall.ms + c->u.settle.delay_ms
                                : backoff_due(e, g, entry->seq, entry->attempts);
}

static bool put_nack(struct settling *s, const struct group *g, const struct lease_entry *entry)
{
    s->items++;
    return buf_put_u64(&s->body, entry->seq) && buf_put_u64(&s->body, nack_due(s->e, s->c, g, entry)) &&
           buf_put_u32(&s->body, entry->attempts) &&
           buf_put_u32(&s->body, s->c->u.settle.dead_letter ? RETURN_REJECTED : 0);
}

/* Add the entries' seqs to the record's body: acks as ranges, nacks one by one. */
static bool put_entries(struct settling *s, const struct lease_block *b, uint64_t bits)
{
    while (bits) {
        uint32_t i = (uint32_t)__builtin_ctzll(bits);
        bool done;
        if (s->c->type == COMMAND_NACK) {
            done = put_nack(s, b->group, &b->entries[i]);
            bits &= bits - 1;
        } else {
            uint32_t j = i; /* neighbours with consecutive seqs are one range */
            while (j + 1 < b->count && (bits >> (j + 1) & 1) && b->entries[j + 1].seq == b->entries[j].seq + 1) {
                j++;
            }
            done = put_ack(s, b->entries[i].seq, b->entries[j].seq);
            bits &= ~bits_from_to(i, j);
        }
        if (!done) {
            return false;
        }
    }
    return true;
}

/* The record for the group under way is durable-to-be: make it so in memory. */
static void apply_taken(struct settling *s)
{
    struct engine *e = s->e;
    struct group *g = s->group;
    if (s->c->type == COMMAND_ACK) {
        for (uint32_t i = 0; i < s->items; i++) {
            const uint8_t *range = s->body.bytes + 8 + i * 16;
            group_settle(e, g, get_u64(range), get_u64(range + 8));
        }
    }
    for (size_t i = 0; i < s->taken_count; i++) {
        struct lease_block *b = s->taken[i].block;
        uint32_t n = (uint32_t)__builtin_popcountll(s->taken[i].bits);
        s->settled += n;
        if (s->c->type == COMMAND_ACK) {
            e->stats.acked += n;
            g->queue->counters.acked += n;
            entries_end(e, b, s->taken[i].bits);
        } else if (!entries_return(e, b, s->taken[i].bits,
                                   s->c->u.settle.delay_ms ? e->now.wall.ms + s->c->u.settle.delay_ms : 0,
                                   s->c->u.settle.dead_letter ? COMEBACK_REJECT : COMEBACK_NACKED)) {
            heap_set(&e->lease_timers, &b->timer, e->now.mono.ms + RETRY_MS); /* then it returns as expired */
        }
    }
}

static void forget_taken(struct settling *s)
{
    for (size_t i = 0; i < s->taken_count; i++) {
        s->taken[i].block->taken = 0;
    }
}

/* Append and apply what was gathered for one group. */
static broker_error finish_group(struct settling *s)
{
    forget_taken(s);
    if (!s->group) {
        return BROKER_OK;
    }
    struct engine *e = s->e;
    put_u32(s->body.bytes, s->group->id);
    put_u32(s->body.bytes + 4, s->items);
    struct queue *q = s->group->queue;
    enum durability durability = sync_durability(q->settings.sync);
    broker_error error = engine_append(e, s->c->type == COMMAND_ACK ? RECORD_SETTLE : RECORD_RETURN, q->id, 0,
                                       s->body.bytes, s->body.len, durability, &s->index);
    if (!error) {
        if (durability > s->durability) {
            s->durability = durability;
        }
        apply_taken(s);
    }
    s->group = NULL;
    s->items = 0;
    s->taken_count = 0;
    return error;
}

static broker_error start_group(struct settling *s, struct group *g)
{
    broker_error error = finish_group(s);
    buf_clear(&s->body);
    if (error || !buf_put_u64(&s->body, 0)) {
        return error ? error : BROKER_NO_MEMORY;
    }
    s->group = g;
    return BROKER_OK;
}

static void note_stale(struct settling *s, uint64_t first_receipt, uint64_t bits)
{
    for (; bits; bits &= bits - 1, s->stale++) {
        if (s->listed < STALE_LISTED_MAX) {
            s->stale_receipts[s->listed++] =
                (first_receipt & ~(uint64_t)(BLOCK_MESSAGES - 1)) + (uint32_t)__builtin_ctzll(bits);
        }
    }
}

static void extend_entries(struct settling *s, struct lease_block *b, uint64_t bits)
{
    uint32_t lease_ms = s->c->u.settle.lease_ms ? s->c->u.settle.lease_ms : b->group->queue->settings.lease_ms;
    uint64_t deadline = s->e->now.mono.ms + lease_ms;
    for (; bits; bits &= bits - 1, s->settled++) {
        b->entries[__builtin_ctzll(bits)].deadline_ms = deadline;
    }
    if (deadline < b->timer.key) {
        heap_set(&s->e->lease_timers, &b->timer, deadline);
    }
}

/* The part of a receipt range that lies in one block. */
static broker_error settle_in_block(struct settling *s, uint64_t receipt, uint64_t bits)
{
    struct lease_block *b;
    uint64_t number = receipt >> BLOCK_SHIFT;
    HASH_FIND(hh, s->e->blocks, &number, sizeof number, b);
    uint64_t live = b ? b->live & bits & ~b->taken : 0; /* named twice in one command: stale the second time */
    note_stale(s, receipt, bits & ~live);
    if (!live) {
        return BROKER_OK;
    }
    if (s->c->type == COMMAND_EXTEND) {
        extend_entries(s, b, live);
        return BROKER_OK;
    }
    bool fits = b->group == s->group && s->items + BLOCK_MESSAGES <= SETTLE_ITEMS_MAX;
    broker_error error = fits ? BROKER_OK : start_group(s, b->group);
    if (!error && (!take(s, b, live) || !put_entries(s, b, live))) {
        error = BROKER_NO_MEMORY;
    }
    return error;
}

static broker_error settle_range(struct settling *s, struct receipt_range range)
{
    uint64_t at = range.first, left = range.count;
    while (left) {
        uint32_t from = (uint32_t)(at & (BLOCK_MESSAGES - 1));
        uint32_t n = left < BLOCK_MESSAGES - from ? (uint32_t)left : BLOCK_MESSAGES - from;
        broker_error error = settle_in_block(s, at, bits_from_to(from, from + n - 1));
        if (error) {
            return error;
        }
        at += n;
        left -= n;
    }
    return BROKER_OK;
}

static void settle_answer(struct settling *s)
{
    struct engine *e = s->e;
    if (!s->c->token.conn) {
        return;
    }
    if (!s->index) { /* nothing for the disk */
        struct completion done = {.type = s->c->type, .token = s->c->token};
        done.u.settle.settled = s->settled;
        done.u.settle.stale = s->stale;
        done.u.settle.stale_receipts = s->stale_receipts;
        done.u.settle.stale_listed = s->listed;
        e->sink_ops->complete(e->sink, &done);
        return;
    }
    struct pending p = {.index = s->index, .token = s->c->token, .type = s->c->type};
    p.u.settle.settled = s->settled;
    p.u.settle.stale = s->stale;
    if (s->listed && (p.u.settle.receipts = malloc(s->listed * sizeof *s->stale_receipts))) {
        memcpy(p.u.settle.receipts, s->stale_receipts, s->listed * sizeof *s->stale_receipts);
        p.u.settle.listed = s->listed;
    }
    pending_push(e, s->durability, &p);
}

void settle(struct engine *e, const struct command *c)
{
    uint64_t receipts = 0;
    for (size_t i = 0; i < c->u.settle.count; i++) {
        receipts += c->u.settle.ranges[i].count;
    }
    if (!receipts || receipts > SETTLE_RECEIPTS_MAX) {
        engine_fail(e, c, BROKER_INVALID_ARGUMENT, 0, "a settle must name 1 to %d receipts, not %llu",
                    SETTLE_RECEIPTS_MAX, (unsigned long long)receipts);
        return;
    }
    if (!pending_reserve(&e->written) || !pending_reserve(&e->synced)) {
        engine_append_failed(e, c, BROKER_NO_MEMORY);
        return;
    }
    struct settling s = {.e = e, .c = c};
    buf_init(&s.body, 0);
    broker_error error = BROKER_OK;
    for (size_t i = 0; i < c->u.settle.count && !error; i++) {
        error = settle_range(&s, c->u.settle.ranges[i]);
    }
    if (!error) {
        error = finish_group(&s);
    }
    if (error) {
        forget_taken(&s);
        engine_append_failed(e, c, error);
    } else {
        settle_answer(&s);
    }
    buf_release(&s.body);
    free(s.taken);
}
