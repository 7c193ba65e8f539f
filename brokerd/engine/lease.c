/* Leases, in blocks: handing out is in dispatch.c, settling by receipt in settle.c; here they end. */
#include <stdlib.h>
#include <string.h>

#include "engine_internal.h"

enum { SPARE_BLOCKS_MAX = 1024, RETRY_MS = 100 };

struct lease_block *block_new(struct engine *e, struct group *g, struct consumer *consumer, uint32_t count)
{
    struct lease_block *b = TAILQ_FIRST(&e->spare_blocks);
    uint32_t cap = count;
    if (count == BLOCK_MESSAGES && b) {
        TAILQ_REMOVE(&e->spare_blocks, b, of_group);
        e->spare_block_count--;
    } else {
        b = malloc(sizeof *b + cap * sizeof b->entries[0]);
        if (!b) {
            return NULL;
        }
    }
    memset(b, 0, sizeof *b);
    b->cap = cap;
    b->number = e->next_block++;
    b->group = g;
    b->consumer = consumer;
    HASH_ADD(hh, e->blocks, number, sizeof b->number, b);
    if (!b->hh.tbl) {
        free(b);
        return NULL;
    }
    TAILQ_INSERT_TAIL(&g->blocks, b, of_group);
    if (consumer) {
        TAILQ_INSERT_TAIL(&consumer->blocks, b, of_consumer);
    }
    return b;
}

void block_free(struct engine *e, struct lease_block *b)
{
    HASH_DEL(e->blocks, b);
    TAILQ_REMOVE(&b->group->blocks, b, of_group);
    if (b->consumer) {
        TAILQ_REMOVE(&b->consumer->blocks, b, of_consumer);
    }
    heap_remove(&e->lease_timers, &b->timer);
    if (b->cap == BLOCK_MESSAGES && e->spare_block_count < SPARE_BLOCKS_MAX) {
        TAILQ_INSERT_HEAD(&e->spare_blocks, b, of_group);
        e->spare_block_count++;
    } else {
        free(b);
    }
}

/* n leases of b have ended: its consumer has room again. */
static void entries_left(struct engine *e, struct lease_block *b, uint32_t n)
{
    b->group->leased -= n;
    e->stats.leased -= n;
    if (b->consumer) {
        b->consumer->unsettled -= n;
        if (b->consumer->max_unsettled) {
            consumer_check(e, b->consumer);
        }
    }
}

void entries_end(struct engine *e, struct lease_block *b, uint64_t bits)
{
    uint64_t ended = b->live & bits;
    b->live &= ~bits;
    entries_left(e, b, (uint32_t)__builtin_popcountll(ended));
    for (uint64_t left = b->group->keys ? ended : 0; left; left &= left - 1) {
        const struct lease_entry *entry = &b->entries[__builtin_ctzll(left)];
        key_release(e, b->group, entry->key, entry->seq);
    }
    if (!b->live) {
        block_free(e, b);
    }
}

bool entries_return(struct engine *e, struct lease_block *b, uint64_t bits, uint64_t due_wall_ms,
                    enum comeback comeback)
{
    struct group *g = b->group;
    for (uint64_t left = bits & b->live; left; left &= left - 1) {
        uint32_t i = (uint32_t)__builtin_ctzll(left);
        const struct lease_entry *entry = &b->entries[i];
        uint64_t due =
            comeback == COMEBACK_NACKED && !due_wall_ms ? backoff_due(e, g, entry->seq, entry->attempts) : due_wall_ms;
        if (!(comeback == COMEBACK_REJECT ? message_reject(e, g, entry) : message_came_back(e, g, entry, due))) {
            return false;
        }
        b->live &= ~(1ull << i);
        entries_left(e, b, 1);
    }
    if (!b->live) {
        block_free(e, b);
    }
    return true;
}

bool block_return_all(struct engine *e, struct lease_block *b)
{
    return entries_return(e, b, UINT64_MAX, 0, COMEBACK_RETURN);
}

void leases_drop(struct engine *e, struct group *g, uint64_t first, uint64_t last)
{
    struct lease_block *b = TAILQ_FIRST(&g->blocks);
    while (b) {
        struct lease_block *next = TAILQ_NEXT(b, of_group);
        uint64_t bits = 0;
        for (uint32_t i = 0; i < b->count; i++) {
            bits |= (uint64_t)(b->entries[i].seq >= first && b->entries[i].seq <= last) << i;
        }
        if (bits & b->live) {
            entries_end(e, b, bits);
        }
        b = next;
    }
}

void leases_expire(struct engine *e)
{
    struct heap_node *n;
    while ((n = heap_min(&e->lease_timers)) && n->key <= e->now.mono.ms) {
        struct lease_block *b = container_of(n, struct lease_block, timer);
        uint64_t due = 0, next = UINT64_MAX;
        for (uint64_t left = b->live; left; left &= left - 1) {
            uint32_t i = (uint32_t)__builtin_ctzll(left);
            if (b->entries[i].deadline_ms <= e->now.mono.ms) {
                due |= 1ull << i;
            } else if (b->entries[i].deadline_ms < next) {
                next = b->entries[i].deadline_ms;
            }
        }
        if (next != UINT64_MAX) {
            heap_set(&e->lease_timers, n, next); /* re-keyed in place: needs no memory */
        }
        if (due && !entries_return(e, b, due, 0, COMEBACK_RETURN)) {
            heap_set(&e->lease_timers, n, e->now.mono.ms + RETRY_MS);
        }
    }
}
