/*
 * Handing out: groups that have ready consumers take turns, a lease block (up to 64 messages; a COMMAND_LEASE may get
 * several blocks) at a time. Messages that came back go first, by seq; then the cursor moves on. What is handed out is in the log before it is sent.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine_internal.h"

enum {
    RETRY_MS = 100,
    BATCH_BYTES_MAX =
        1 << 20, /* of one hand-out, unless a single message is larger: what a slow reader makes the front copy */
    BATCH_BLOCKS = LEASE_MESSAGES_MAX / BLOCK_MESSAGES
};

struct batch {
    uint32_t count, returned_count;
    uint64_t bytes, max_bytes;
    struct stored_message messages[LEASE_MESSAGES_MAX];
    uint32_t attempts[LEASE_MESSAGES_MAX];
    struct returned *returned[LEASE_MESSAGES_MAX]; /* taken out of group->ready */
};

enum progress {
    PROGRESS_NONE,  /* nothing to hand out, or it must be waited for */
    PROGRESS_SOME,  /* a batch was gathered */
    PROGRESS_AGAIN, /* nothing was gathered, but the position moved: look again */
};

static uint64_t fresh_waiting(const struct group *g)
{
    return g->queue->visible >= g->cursor ? g->queue->visible - g->cursor + 1 : 0;
}

/* A fair part of what waits: consumers that are ready share it, so that one with much credit does not take all of little. */
static uint32_t share(const struct group *g, const struct consumer *consumer)
{
    uint64_t waiting = fresh_waiting(g) + g->ready.len;
    uint64_t n = (waiting + g->ready_count - 1) / g->ready_count;
    uint32_t most = consumer->one_shot ? LEASE_MESSAGES_MAX : BLOCK_MESSAGES;
    n = n < consumer->credit_messages ? n : consumer->credit_messages;
    return n < most ? (uint32_t)n : most;
}

/* The message at `seq` cannot be read: whoever would get it is told, and stays away from it. */
static void report_damage(struct engine *e, struct group *g, uint64_t seq)
{
    snprintf(e->text, sizeof e->text,
             "message %llu of queue '%s' is damaged on disk: stop the broker and run broker fsck on its data directory",
             (unsigned long long)seq, g->queue->name);
    struct consumer *consumer;
    char text[TEXT_BYTES];
    memcpy(text, e->text, sizeof text);
    while ((consumer = TAILQ_FIRST(&g->consumers))) {
        consumer_end(e, consumer, BROKER_DAMAGED, text);
    }
}

/* A seq that is not there any more (quarantined, trimmed) is settled for this group, durably, so that it is not looked for again. */
static bool settle_hole(struct engine *e, struct group *g, uint64_t first, uint64_t last)
{
    uint8_t body[24];
    uint64_t index;
    put_u32(body, g->id);
    put_u32(body + 4, 1);
    put_u64(body + 8, first);
    put_u64(body + 16, last);
    return engine_append(e, RECORD_SETTLE, g->queue->id, 0, body, sizeof body, DURABILITY_LAZY, &index) == BROKER_OK &&
           group_settle(e, g, first, last);
}

static void drop_ready(struct group *g, struct returned *r)
{
    heap_remove(&g->ready, &r->node);
    free(r);
}

/* Room for one more message of this size? The first always fits. */
static bool fits(const struct batch *b, uint64_t bytes)
{
    return b->count == 0 || b->bytes + bytes <= b->max_bytes;
}

/* Gather messages that came back. They leave group->ready only when they are handed out. */
static enum progress gather_returned(struct engine *e, struct group *g, struct batch *b, uint32_t max)
{
    struct heap_node *n;
    bool moved = false;
    while (b->count < max && (n = heap_min(&g->ready))) {
        struct returned *r = container_of(n, struct returned, node);
        uint32_t got = 0;
        uint64_t damaged;
        if (group_has_settled(g, r->seq)) {
            drop_ready(g, r);
            continue;
        }
        struct stored_message *m = &b->messages[b->count];
        enum read_status status =
            e->ops->read(e->store, g->queue->id, r->seq, r->seq, 1, UINT64_MAX, m, &got, &damaged);
        if (status == READ_END) {
            uint64_t seq = r->seq;
            if (!settle_hole(e, g, seq, seq)) {
                break;
            }
            drop_ready(g, r);
            moved = true;
            continue;
        }
        if (status != READ_OK || !fits(b, m->padded_len)) {
            if (status == READ_DAMAGED && !b->count) {
                report_damage(e, g, r->seq);
            } else if (status == READ_PENDING && !b->count) {
                g->reading = true;
            }
            break;
        }
        b->attempts[b->count] = r->attempts + 1;
        b->bytes += m->padded_len;
        b->returned[b->returned_count++] = r;
        b->count++;
        heap_remove(&g->ready, &r->node); /* put back if the hand-out fails */
    }
    return b->count ? PROGRESS_SOME : moved ? PROGRESS_AGAIN : PROGRESS_NONE;
}

/* Gather from the cursor on. */
static enum progress gather_fresh(struct engine *e, struct group *g, struct batch *b, uint32_t max)
{
    if (!seqset_empty(&g->settled) &&
        g->settled.most >= g->cursor) { /* what was dead before this group came or moved */
        g->cursor = group_next_unsettled(g, g->cursor);
    }
    if (!fresh_waiting(g)) {
        return PROGRESS_NONE;
    }
    uint64_t to = g->queue->visible, settled = seqset_next(&g->settled, g->cursor), damaged;
    to = settled <= to ? settled - 1 : to;
    uint32_t got = 0;
    enum read_status status =
        e->ops->read(e->store, g->queue->id, g->cursor, to, max, b->max_bytes, b->messages, &got, &damaged);
    if (status == READ_PENDING) {
        g->reading = true;
        return PROGRESS_NONE;
    }
    if (status == READ_DAMAGED) {
        report_damage(e, g, damaged);
        return PROGRESS_NONE;
    }
    uint64_t first = status == READ_END ? to + 1 : b->messages[0].seq;
    if (first > g->cursor) { /* a hole before it */
        return settle_hole(e, g, g->cursor, first - 1) ? PROGRESS_AGAIN : PROGRESS_NONE;
    }
    for (b->count = 0; b->count < got && b->messages[b->count].seq == g->cursor + b->count; b->count++) {
        b->attempts[b->count] = 1; /* up to the next hole: a LEASE record tells one range */
        b->bytes += b->messages[b->count].padded_len;
    }
    return PROGRESS_SOME;
}

/* Write down that these are handed out: a range for the first time, or one by one with their attempts. */
static bool log_lease(struct engine *e, struct group *g, const struct batch *b)
{
    uint8_t body[8 + LEASE_MESSAGES_MAX * 16];
    size_t len = 8;
    uint64_t index;
    put_u32(body, g->id);
    put_u32(body + 4, b->returned_count);
    for (uint32_t i = 0; i < b->returned_count; i++, len += 16) {
        put_u64(body + len, b->messages[i].seq);
        put_u32(body + len + 8, b->attempts[i]);
        put_u32(body + len + 12, 0);
    }
    if (!b->returned_count) {
        put_u64(body + len, b->messages[0].seq);
        put_u64(body + len + 8, b->messages[b->count - 1].seq);
        len += 16;
    }
    return engine_append(e, RECORD_LEASE, g->queue->id, 0, body, len, DURABILITY_LAZY, &index) == BROKER_OK;
}

static bool log_settle(struct engine *e, struct group *g, const struct batch *b)
{
    uint8_t body[8 + LEASE_MESSAGES_MAX * 16];
    uint32_t n = 0;
    uint64_t index;
    for (uint32_t i = 0; i < b->count; i++) {
        uint64_t seq = b->messages[i].seq;
        uint8_t *range = body + 8 + n * 16;
        if (n && get_u64(range - 8) + 1 == seq) {
            put_u64(range - 8, seq);
        } else {
            put_u64(range, seq);
            put_u64(range + 8, seq);
            n++;
        }
    }
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
        block->entries[i] = (struct lease_entry){
            .seq = b->messages[from + i].seq, .deadline_ms = deadline, .attempts = b->attempts[from + i]};
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
    uint64_t last = b->messages[b->count - 1].seq;
    for (uint32_t i = 0; i < b->returned_count; i++) {
        free(b->returned[i]);
    }
    if (!b->returned_count) {
        g->cursor = last + 1;
    }
    if (block_count) {
        g->leased += b->count;
        e->stats.leased += b->count;
        *first_receipt = blocks[0]->number << BLOCK_SHIFT;
    } else {
        for (uint32_t i = 0; i < b->count; i++) {
            group_settle(e, g, b->messages[i].seq, b->messages[i].seq);
        }
        e->stats.acked += b->count;
        *first_receipt = 0;
    }
    e->stats.delivered += b->count;
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
    TAILQ_REMOVE(&consumer->group->ready_consumers, consumer, in_ready); /* to the end of the line */
    TAILQ_INSERT_TAIL(&consumer->group->ready_consumers, consumer, in_ready);
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
    struct batch b; /* large: the arrays are not cleared */
    b.count = b.returned_count = 0;
    b.bytes = 0;
    b.max_bytes = consumer->credit_bytes < BATCH_BYTES_MAX ? (uint64_t)consumer->credit_bytes : BATCH_BYTES_MAX;
    uint32_t max = share(g, consumer);
    if (!max) {
        return PROGRESS_NONE;
    }
    enum progress progress = gather_returned(e, g, &b, max);
    if (progress == PROGRESS_NONE && !g->reading && !heap_min(&g->ready)) {
        progress = gather_fresh(e, g, &b, max);
    }
    if (progress != PROGRESS_SOME) {
        return progress;
    }
    uint64_t first_receipt;
    if (!hand_out(e, g, consumer, &b, &first_receipt)) { /* no memory, or not even the reserve has room */
        for (uint32_t i = 0; i < b.returned_count; i++) {
            heap_push(&g->ready, &b.returned[i]->node, b.returned[i]->seq); /* its room is still there */
        }
        heap_set(&e->delays, &g->delay, e->now.mono.ms + RETRY_MS); /* a nudge: no delayed message need be due */
        return PROGRESS_NONE;
    }
    send_batch(e, consumer, &b, first_receipt);
    return PROGRESS_SOME;
}

void dispatch_run(struct engine *e)
{
    struct group *g;
    while ((g = TAILQ_FIRST(&e->dispatch))) {
        TAILQ_REMOVE(&e->dispatch, g, in_dispatch);
        g->dispatching = false;
        if (serve_one(e, g) != PROGRESS_NONE) {
            group_wake(e, g);
        }
    }
}
