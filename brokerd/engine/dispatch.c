/*
 * Handing out: groups that have ready consumers take turns, a lease block (up to 64 messages; a COMMAND_LEASE may get
 * several blocks) at a time. gather.c finds the messages; here they are leased. What is handed out is in the log before it is sent.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gather.h"

enum {
    RETRY_MS = 100,
    BATCH_BYTES_MAX =
        1 << 20, /* of one hand-out, unless a single message is larger: what a slow reader makes the front copy */
    BATCH_BLOCKS = LEASE_MESSAGES_MAX / BLOCK_MESSAGES,
    SCAN_BUDGET = 16384 /* messages a turn may look at without handing them out */
};

/* A fair part of what waits: consumers that are ready share it, so that one with much credit does not take all of little. */
static uint32_t share(const struct group *g, const struct consumer *consumer)
{
    uint64_t most = consumer->one_shot ? LEASE_MESSAGES_MAX : BLOCK_MESSAGES, n = most;
    uint64_t parked;
    if (!g->lanes && !keys_next(g, &parked)) {
        n = (fresh_waiting(g) + g->ready.len + g->ready_count - 1) / g->ready_count;
    }
    n = n < consumer->credit_messages ? n : consumer->credit_messages;
    if (consumer->max_unsettled && n > consumer->max_unsettled - consumer->unsettled) {
        n = consumer->max_unsettled - consumer->unsettled;
    }
    return (uint32_t)(n < most ? n : most);
}

/* As ranges of seqs that follow each other, 16 bytes each from body + 8 on; how many. `fresh_only`: the others are left out. */
static uint32_t put_ranges(uint8_t *body, const struct batch *b, bool fresh_only)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < b->count; i++) {
        uint64_t seq = b->messages[i].seq;
        uint8_t *range = body + 8 + n * 16;
        if (fresh_only && b->sources[i] != SOURCE_FRESH) {
            continue;
        }
        if (n && get_u64(range - 8) + 1 == seq) {
            put_u64(range - 8, seq);
        } else {
            put_u64(range, seq);
            put_u64(range + 8, seq);
            n++;
        }
    }
    return n;
}

static bool append_lease(struct engine *e, const struct group *g, uint8_t *body, uint32_t n, uint32_t count)
{
    uint64_t index;
    put_u32(body, g->id);
    put_u32(body + 4, count);
    return engine_append(e, RECORD_LEASE, g->queue->id, 0, body, 8 + n * 16, DURABILITY_LAZY, &index) == BROKER_OK;
}

/* Write down that these are handed out: from the cursor on as ranges, the others one by one with their attempts. */
static bool log_lease(struct engine *e, struct group *g, const struct batch *b)
{
    uint8_t body[8 + LEASE_MESSAGES_MAX * 16];
    uint32_t n = 0;
    for (uint32_t i = 0; b->fresh < b->count && i < b->count; i++) {
        if (b->sources[i] != SOURCE_FRESH) {
            put_u64(body + 8 + n * 16, b->messages[i].seq);
            put_u32(body + 16 + n * 16, b->attempts[i]);
            put_u32(body + 20 + n * 16, 0);
            n++;
        }
    }
    if (n && !append_lease(e, g, body, n, n)) {
        return false;
    }
    if (!b->fresh) {
        return true;
    }
    uint64_t first = b->messages[0].seq, last = b->messages[b->count - 1].seq;
    if (b->fresh == b->count && last - first + 1 == b->count) { /* most are: one look tells */
        put_u64(body + 8, first);
        put_u64(body + 16, last);
        n = 1;
    } else {
        n = put_ranges(body, b, true);
    }
    return append_lease(e, g, body, n, n == 1 ? 0 : n | LEASE_RANGES);
}

static bool log_settle(struct engine *e, struct group *g, const struct batch *b)
{
    uint8_t body[8 + LEASE_MESSAGES_MAX * 16];
    uint32_t n = put_ranges(body, b, false);
    uint64_t index;
    put_u32(body, g->id);
    put_u32(body + 4, n);
    return engine_append(e, RECORD_SETTLE, g->queue->id, 0, body, 8 + n * 16, DURABILITY_WRITTEN, &index) == BROKER_OK;
}

/* A block for messages from..from + n - 1 of the batch. */
static struct lease_block *make_block(struct engine *e, struct group *g, struct consumer *consumer,
                                      const struct batch *b, uint32_t from, uint32_t n)
{
    struct lease_block *block = block_new(e, g, consumer->one_shot ? NULL : consumer, n);
    uint64_t deadline = e->now.mono.ms + (consumer->lease_ms ? consumer->lease_ms : g->queue->settings.lease_ms);
    if (!block || !heap_push(&e->lease_timers, &block->timer, deadline)) {
        if (block) {
            block_free(e, block);
        }
        return NULL;
    }
    for (uint32_t i = 0; i < n; i++) {
        block->entries[i] = (struct lease_entry){.seq = b->messages[from + i].seq,
                                                 .deadline_ms = deadline,
                                                 .attempts = b->attempts[from + i],
                                                 .key = b->keys[from + i]};
    }
    block->count = n;
    block->live = UINT64_MAX >> (BLOCK_MESSAGES - n);
    return block;
}

/* Blocks for the whole batch, numbered one after the other, so that its receipts are consecutive. 0: no memory, none made. */
static uint32_t make_blocks(struct engine *e, struct group *g, struct consumer *consumer, const struct batch *b,
                            struct lease_block *blocks[BATCH_BLOCKS])
{
    uint32_t n = 0;
    for (uint32_t from = 0; from < b->count; from += BLOCK_MESSAGES) {
        uint32_t left = b->count - from;
        blocks[n] = make_block(e, g, consumer, b, from, left < BLOCK_MESSAGES ? left : BLOCK_MESSAGES);
        if (!blocks[n]) {
            while (n > 0) {
                block_free(e, blocks[--n]);
            }
            return 0;
        }
        n++;
    }
    return n;
}

/* The batch becomes the consumer's: logged, leased (or settled), counted. false: nothing happened. */
static bool hand_out(struct engine *e, struct group *g, struct consumer *consumer, struct batch *b,
                     uint64_t *first_receipt)
{
    struct lease_block *blocks[BATCH_BLOCKS];
    uint32_t block_count = 0;
    if (!consumer->settle_on_send && !(block_count = make_blocks(e, g, consumer, b, blocks))) {
        return false;
    }
    if (consumer->settle_on_send ? !log_settle(e, g, b) : !log_lease(e, g, b)) {
        while (block_count > 0) {
            block_free(e, blocks[--block_count]);
        }
        return false;
    }
    struct queue_counters *counters = &g->queue->counters;
    batch_taken(g, b);
    for (uint32_t i = 0; b->fresh < b->count && i < b->count; i++) {
        e->stats.redelivered += b->attempts[i] > 1;
        counters->redelivered += b->attempts[i] > 1;
    }
    if (block_count) {
        g->leased += b->count;
        e->stats.leased += b->count;
        consumer->unsettled += consumer->one_shot ? 0 : b->count;
        *first_receipt = blocks[0]->number << BLOCK_SHIFT;
    } else {
        for (uint32_t i = 0; i < b->count; i++) {
            group_settle(e, g, b->messages[i].seq, b->messages[i].seq);
            key_release(e, g, b->keys[i], b->messages[i].seq);
        }
        e->stats.acked += b->count;
        counters->acked += b->count;
        *first_receipt = 0;
    }
    e->stats.delivered += b->count;
    counters->delivered += b->count;
    consumer->credit_messages -= b->count;
    consumer->credit_bytes -= (int64_t)b->bytes;
    return true;
}

static void send_batch(struct engine *e, struct consumer *consumer, const struct batch *b, uint64_t first_receipt)
{
    struct delivery d = {.token = consumer->token,
                         .first_receipt = first_receipt,
                         .messages = b->messages,
                         .attempts = b->attempts,
                         .count = b->count};
    if (consumer->one_shot) {
        struct completion done = {.type = COMMAND_LEASE, .token = consumer->token};
        done.u.lease = d;
        consumer_end(e, consumer, BROKER_OK, NULL);
        e->sink_ops->complete(e->sink, &done);
        return;
    }
    consumer_requeue(consumer); /* to the end of the line */
    if (!e->sink_ops->deliver(e->sink, &d)) {
        struct command hold = {.type = COMMAND_HOLD, .token = {.conn = consumer->token.conn}};
        consumer_hold(e, &hold);
    } else {
        consumer_check(e, consumer);
    }
}

/* One batch to the consumer whose turn it is. */
static enum progress serve_one(struct engine *e, struct group *g)
{
    struct consumer *consumer = TAILQ_FIRST(&g->ready_consumers);
    if (!consumer || g->queue->paused || g->reading) {
        return PROGRESS_NONE;
    }
    if (g->refill && !specials_fill(g)) {
        heap_set(&e->delays, &g->delay, e->now.mono.ms + RETRY_MS);
        return PROGRESS_NONE;
    }
    struct batch b; /* large: the arrays are not cleared */
    batch_init(&b, consumer->credit_bytes < BATCH_BYTES_MAX ? (uint64_t)consumer->credit_bytes : BATCH_BYTES_MAX);
    uint32_t max = share(g, consumer);
    if (!max) {
        return PROGRESS_NONE;
    }
    enum progress progress = gather(e, g, &b, max);
    if (progress != PROGRESS_SOME) {
        return progress;
    }
    uint64_t first_receipt;
    if (!hand_out(e, g, consumer, &b, &first_receipt)) { /* no memory, or not even the reserve has room */
        batch_undo(g, &b);
        heap_set(&e->delays, &g->delay, e->now.mono.ms + RETRY_MS); /* a nudge: no delayed message need be due */
        return PROGRESS_NONE;
    }
    send_batch(e, consumer, &b, first_receipt);
    return PROGRESS_SOME;
}

void dispatch_run(struct engine *e)
{
    struct group *g;
    e->scan_budget = SCAN_BUDGET;
    while (e->scan_budget && (g = TAILQ_FIRST(&e->dispatch))) {
        TAILQ_REMOVE(&e->dispatch, g, in_dispatch);
        g->dispatching = false;
        if (serve_one(e, g) != PROGRESS_NONE) {
            group_wake(e, g);
        }
    }
}
