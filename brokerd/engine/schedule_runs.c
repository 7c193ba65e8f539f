/*
 * The schedule's entries in the log. A run is in the heap `fire` by its next entry while that is in memory, and in the heap
 * `load` by the first entry that is not, while another block of it may be taken in. So firing an entry costs the logarithm
 * of the number of runs, and a run that is not due for long costs its firsts only.
 */
#include <stdlib.h>
#include <string.h>

#include "schedule_internal.h"

enum {
    KEEP_MS = 30000,     /* a block whose next entry is further than this may leave memory ... */
    HELD_ENOUGH = 768,   /* ... while more than so many are there */
    LOAD_RETRY_MS = 100, /* when there was no memory */
};

#define KEY_BIAS ((int64_t)1 << 62)

static uint64_t run_key(const struct schedule_run *r, uint64_t at_ms)
{
    return (uint64_t)(schedule_steady(at_ms, r->shift_ms) + KEY_BIAS);
}

static bool key_steady(const struct heap *h, int64_t *steady_ms)
{
    const struct heap_node *n = heap_min(h);
    if (n) {
        *steady_ms = (int64_t)n->key - KEY_BIAS;
    }
    return n != NULL;
}

/* Room for all runs at once, so that moving one from heap to heap cannot fail. */
static bool reserve(struct heap *h, size_t n)
{
    if (n <= h->cap) {
        return true;
    }
    size_t cap = h->cap ? h->cap : 8;
    while (cap < n) {
        cap *= 2;
    }
    struct heap_node **nodes = realloc(h->nodes, cap * sizeof(struct heap_node *));
    if (!nodes) {
        return false;
    }
    h->nodes = nodes;
    h->cap = cap;
    return true;
}

/* Into the heaps in which it belongs, at its place. */
static void run_place(struct schedule *s, struct schedule_run *r)
{
    bool ok = true;
    if (r->held_count) {
        ok = heap_set(&s->fire, &r->fire, run_key(r, r->next_ms));
    } else {
        heap_remove(&s->fire, &r->fire);
    }
    if (!r->waiting && r->held_count < SCHEDULE_HELD && r->block + r->held_count < r->blocks) {
        uint64_t first_ms = r->held_count ? r->firsts[r->block + r->held_count] : r->next_ms;
        ok = heap_set(&s->load, &r->load, run_key(r, first_ms)) && ok;
    } else {
        heap_remove(&s->load, &r->load);
    }
    assert(ok); /* room was made when it came */
    (void)ok;
}

/* ---- coming and going ------------------------------------------------------------------------------------------------ */

static struct schedule_run *run_new(uint32_t blocks)
{
    struct schedule_run *r = calloc(1, sizeof *r + blocks * sizeof r->firsts[0]);
    if (r) {
        r->blocks = blocks;
    }
    return r;
}

bool schedule_runs_make(struct schedule *s, uint64_t first_seq, const struct schedule_mark *marks, uint32_t n,
                        struct schedule_run_list *out)
{
    size_t made = 0;
    TAILQ_INIT(out);
    for (uint32_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && marks[end].run == marks[i].run;) {
            end++;
        }
        struct schedule_run *r = run_new(end - i);
        if (!r) {
            schedule_runs_discard(out);
            return false;
        }
        r->first_seq = first_seq + i;
        r->shift_ms = marks[i].shift_ms;
        r->next_ms = marks[i].first_ms;
        for (uint32_t k = i; k < end; k++) {
            r->firsts[k - i] = marks[k].first_ms;
        }
        TAILQ_INSERT_TAIL(out, r, by_seq);
        made++;
    }
    if (!reserve(&s->fire, s->run_count + made) || !reserve(&s->load, s->run_count + made)) {
        schedule_runs_discard(out);
        return false;
    }
    return true;
}

void schedule_runs_discard(struct schedule_run_list *made)
{
    struct schedule_run *r;
    while ((r = TAILQ_FIRST(made))) {
        TAILQ_REMOVE(made, r, by_seq);
        free(r);
    }
}

void schedule_runs_adopt(struct schedule *s, struct schedule_run_list *made)
{
    struct schedule_run *r;
    while ((r = TAILQ_FIRST(made))) {
        TAILQ_REMOVE(made, r, by_seq);
        TAILQ_INSERT_TAIL(&s->runs, r, by_seq);
        s->run_count++;
        run_place(s, r);
    }
}

static void let_go_of_blocks(struct schedule *s, struct schedule_run *r)
{
    for (; r->held_count; s->held_count--) {
        free(r->held[--r->held_count]);
    }
}

static void run_end(struct schedule *s, struct schedule_run *r)
{
    let_go_of_blocks(s, r);
    heap_remove(&s->fire, &r->fire);
    heap_remove(&s->load, &r->load);
    if (r->waiting) {
        TAILQ_REMOVE(&s->waiting, r, in_waiting);
        s->waiting_count--;
    }
    TAILQ_REMOVE(&s->runs, r, by_seq);
    s->run_count--;
    free(r);
}

void schedule_runs_free(struct schedule *s)
{
    struct schedule_run *r;
    while ((r = TAILQ_FIRST(&s->runs))) {
        run_end(s, r);
    }
    heap_release(&s->fire);
    heap_release(&s->load);
}

/* ---- blocks -------------------------------------------------------------------------------------------------------------- */

static const uint8_t *next_entry(const struct schedule_run *r)
{
    const struct schedule_block *b = r->held[0];
    return r->held_count && b && r->at < b->count ? b->entries + (size_t)r->at * SCHEDULE_ENTRY_BYTES : NULL;
}

/* After its position or its blocks changed: past what is used up, and to its place. false: the run was used up and is gone. */
static bool run_advance(struct engine *e, struct schedule_run *r)
{
    struct schedule *s = e->schedule;
    while (r->held_count && !next_entry(r)) {
        e->ops->dead(e->store, SCHEDULE_QUEUE, r->first_seq + r->block, r->first_seq + r->block);
        free(r->held[0]);
        r->held[0] = r->held[1];
        r->held_count--;
        s->held_count--;
        r->block++;
        r->at = 0;
        if (r->block == r->blocks) {
            run_end(s, r);
            return false;
        }
        r->next_ms = r->firsts[r->block];
    }
    if (r->held_count) {
        r->next_ms = schedule_entry_get(next_entry(r)).at_ms;
    }
    run_place(s, r);
    return true;
}

/* The entries of a record, copied; *block NULL: none. false: no memory. */
static bool copy_block(const struct stored_message *m, struct schedule_block **block)
{
    uint32_t count;
    const uint8_t *entries = schedule_block_entries(m->record, m->padded_len, &count);
    *block = NULL;
    if (!entries) {
        return true;
    }
    *block = malloc(sizeof **block + (size_t)count * SCHEDULE_ENTRY_BYTES);
    if (!*block) {
        return false;
    }
    (*block)->count = count;
    memcpy((*block)->entries, entries, (size_t)count * SCHEDULE_ENTRY_BYTES);
    return true;
}

/* Take in the next block that is not in memory. false: there is no memory. */
static bool run_load(struct engine *e, struct schedule_run *r)
{
    struct schedule *s = e->schedule;
    struct schedule_block *block = NULL;
    struct stored_message m;
    uint32_t count = 0;
    uint64_t damaged, seq = r->first_seq + r->block + r->held_count;
    enum read_status status =
        e->ops->read(e->store, SCHEDULE_QUEUE, seq, seq, 1, RECORD_MAX_BYTES, &m, &count, &damaged);
    if (status == READ_PENDING) {
        r->waiting = true;
        s->waiting_count++;
        TAILQ_INSERT_TAIL(&s->waiting, r, in_waiting);
        run_place(s, r);
        return true;
    }
    if (status == READ_OK && count && !copy_block(&m, &block)) {
        s->load_retry_ms = e->now.mono.ms + LOAD_RETRY_MS;
        return false;
    }
    s->lost += !block;
    r->held[r->held_count++] = block;
    s->held_count++;
    run_advance(e, r);
    return true;
}

bool schedule_runs_load(struct engine *e, int64_t until)
{
    struct schedule *s = e->schedule;
    int64_t steady;
    if (s->load_retry_ms > e->now.mono.ms || !schedule_runs_next_load(s, &steady) || steady > until) {
        return false;
    }
    s->load_retry_ms = 0;
    return run_load(e, container_of(heap_min(&s->load), struct schedule_run, load));
}

bool schedule_runs_next_load(const struct schedule *s, int64_t *steady_ms)
{
    return s->waiting_count < SCHEDULE_LOADING_MAX && key_steady(&s->load, steady_ms);
}

bool schedule_runs_peek(const struct schedule *s, int64_t *steady_ms)
{
    return key_steady(&s->fire, steady_ms);
}

struct schedule_entry schedule_runs_pop(struct engine *e, int64_t steady_now)
{
    struct schedule *s = e->schedule;
    struct schedule_run *r = container_of(heap_min(&s->fire), struct schedule_run, fire);
    struct schedule_entry entry = schedule_entry_get(next_entry(r));
    entry.steady_ms = schedule_steady(entry.at_ms, r->shift_ms);
    r->at++;
    if (run_advance(e, r) && r->held_count && s->held_count > HELD_ENOUGH &&
        schedule_steady(r->next_ms, r->shift_ms) > steady_now + KEEP_MS) {
        let_go_of_blocks(s, r);
        run_place(s, r);
    }
    return entry;
}

void schedule_readable(struct engine *e)
{
    struct schedule *s = e->schedule;
    struct schedule_run *r;
    while ((r = TAILQ_FIRST(&s->waiting))) {
        TAILQ_REMOVE(&s->waiting, r, in_waiting);
        s->waiting_count--;
        r->waiting = false;
        run_place(s, r);
    }
}

/* ---- what the cleaner asks ------------------------------------------------------------------------------------------------ */

struct live {             /* ranges that touch are told as one */
    uint64_t first, last; /* asked for */
    uint64_t from, to;    /* what may still grow; 0: nothing */
    void (*fn)(void *arg, uint64_t first, uint64_t last);
    void *arg;
};

static void live_add(struct live *l, uint64_t first, uint64_t last)
{
    first = first < l->first ? l->first : first;
    last = last > l->last ? l->last : last;
    if (first > last) {
        return;
    }
    if (!l->from || first != l->to + 1) {
        if (l->from) {
            l->fn(l->arg, l->from, l->to);
        }
        l->from = first;
    }
    l->to = last;
}

void schedule_live(const struct engine *e, uint64_t first, uint64_t last,
                   void (*fn)(void *arg, uint64_t first, uint64_t last), void *arg)
{
    const struct schedule *s = e->schedule;
    struct live l = {.first = first, .last = last, .fn = fn, .arg = arg};
    const struct schedule_run *r;
    TAILQ_FOREACH(r, &s->runs, by_seq)
    {
        live_add(&l, r->first_seq + r->block, r->first_seq + r->blocks - 1);
    }
    if (s->spill.seen) { /* its last block may come yet */
        live_add(&l, s->spill.first_seq, s->spill.first_seq + s->spill.seen - 1);
    }
    if (l.from) {
        fn(arg, l.from, l.to);
    }
}
