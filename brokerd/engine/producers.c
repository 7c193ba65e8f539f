/*
 * Retries are recognised by (producer, number), after Kafka's idempotent producer: numbers of one producer rise per
 * queue, so what is not above the last is a duplicate, and a few remembered runs tell of which seq. Unlike there, a
 * number may be refused (disk full, too large) while later ones are stored: such holes are remembered, or the retry of a
 * refused message would be taken for a duplicate and lost. Publishing by topic counts as a queue of its own, 0.
 */
#include <stdlib.h>
#include <string.h>

#include "engine_internal.h"

struct producer *producer_find(struct engine *e, uint32_t queue, uint64_t producer)
{
    struct producer_key key = {.producer = producer, .queue = queue};
    struct producer *p;
    HASH_FIND(hh, e->producers, &key, sizeof key, p);
    return p;
}

static void producer_forget(struct engine *e, struct producer *p)
{
    HASH_DEL(e->producers, p);
    TAILQ_REMOVE(&e->producers_by_use, p, by_use);
    free(p->holes);
    free(p);
}

struct producer *producer_make(struct engine *e, uint32_t queue, uint64_t producer)
{
    if (HASH_COUNT(e->producers) >= e->options.max_producers) {
        producer_forget(e, TAILQ_FIRST(&e->producers_by_use));
    }
    struct producer *p = calloc(1, sizeof *p);
    if (!p) {
        return NULL;
    }
    p->key = (struct producer_key){.producer = producer, .queue = queue};
    HASH_ADD(hh, e->producers, key, sizeof p->key, p);
    if (!p->hh.tbl) { /* uthash's sign of having had no memory */
        free(p);
        return NULL;
    }
    p->used_ms = e->now.mono.ms;
    TAILQ_INSERT_TAIL(&e->producers_by_use, p, by_use);
    return p;
}

static void producer_touch(struct engine *e, struct producer *p)
{
    p->used_ms = e->now.mono.ms;
    TAILQ_REMOVE(&e->producers_by_use, p, by_use);
    TAILQ_INSERT_TAIL(&e->producers_by_use, p, by_use);
}

struct producer *producer_use(struct engine *e, uint32_t queue, uint64_t producer)
{
    struct producer *p = producer_find(e, queue, producer);
    if (!p) {
        return producer_make(e, queue, producer);
    }
    producer_touch(e, p);
    return p;
}

static uint32_t hole_at_or_after(const struct producer *p, uint64_t number)
{
    uint32_t low = 0, high = p->hole_count; /* the first hole whose end is not below number */
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (p->holes[middle].last < number) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* false: no memory */
static bool hole_insert(struct producer *p, uint32_t at, struct producer_hole hole)
{
    if (p->hole_count == PRODUCER_HOLES_MAX) {
        memmove(p->holes, p->holes + 1, --p->hole_count * sizeof *p->holes);
        at -= at > 0;
    }
    if (p->hole_count == p->hole_cap) {
        uint32_t cap = p->hole_cap ? p->hole_cap * 2 : 4;
        struct producer_hole *holes = realloc(p->holes, cap * sizeof *holes);
        if (!holes) {
            return false;
        }
        p->holes = holes;
        p->hole_cap = cap;
    }
    memmove(&p->holes[at + 1], &p->holes[at], (p->hole_count - at) * sizeof *p->holes);
    p->holes[at] = hole;
    p->hole_count++;
    return true;
}

static void hole_fill(struct producer *p, uint64_t number)
{
    uint32_t i = hole_at_or_after(p, number);
    struct producer_hole *hole = &p->holes[i];
    if (i == p->hole_count || hole->first > number) {
        return;
    }
    if (hole->first == hole->last) {
        memmove(hole, hole + 1, (--p->hole_count - i) * sizeof *hole);
    } else if (number == hole->first) {
        hole->first++;
    } else if (number == hole->last) {
        hole->last--;
    } else {
        struct producer_hole upper = {.first = number + 1, .last = hole->last};
        hole->last = number - 1;
        hole_insert(p, i + 1, upper);
    }
}

bool producer_has(const struct producer *p, uint64_t number)
{
    if (number > p->last_number) {
        return false;
    }
    uint32_t i = hole_at_or_after(p, number);
    return i == p->hole_count || p->holes[i].first > number;
}

void producer_note(struct producer *p, uint64_t number, uint64_t seq)
{
    struct producer_run *last = &p->runs[(p->next_run + PRODUCER_RUNS - 1) % PRODUCER_RUNS];
    if (number <= p->last_number) {
        hole_fill(p, number);
    } else {
        if (number > p->last_number + 1) {
            hole_insert(p, p->hole_count, (struct producer_hole){.first = p->last_number + 1, .last = number - 1});
        }
        p->last_number = number;
    }
    if (last->count && number == last->number + last->count && seq == last->seq + last->count) {
        last->count++;
        return;
    }
    p->runs[p->next_run] = (struct producer_run){.number = number, .seq = seq, .count = 1};
    p->next_run = (p->next_run + 1) % PRODUCER_RUNS;
}

uint64_t producer_seq(const struct producer *p, uint64_t number)
{
    for (uint32_t i = 0; i < PRODUCER_RUNS; i++) {
        const struct producer_run *run = &p->runs[i];
        if (number >= run->number && number - run->number < run->count) {
            return run->seq + (number - run->number);
        }
    }
    return 0;
}

void publish_note_producer(struct engine *e, uint32_t queue, uint64_t producer, uint64_t number, uint64_t seq)
{
    struct producer *p = producer_find(e, queue, producer);
    if (!p) {
        p = producer_make(e, queue, producer);
    }
    if (p && !producer_has(p, number)) {
        producer_note(p, number, seq);
    }
}

void producers_expire(struct engine *e)
{
    struct producer *p;
    while ((p = TAILQ_FIRST(&e->producers_by_use)) && p->used_ms + e->options.producer_ttl_ms < e->now.mono.ms) {
        producer_forget(e, p);
    }
}

void producers_forget_queue(struct engine *e, uint32_t queue)
{
    struct producer *p = TAILQ_FIRST(&e->producers_by_use);
    while (p) {
        struct producer *next = TAILQ_NEXT(p, by_use);
        if (p->key.queue == queue) {
            producer_forget(e, p);
        }
        p = next;
    }
}

void producers_free(struct engine *e)
{
    struct producer *p;
    while ((p = TAILQ_FIRST(&e->producers_by_use))) {
        producer_forget(e, p);
    }
}
