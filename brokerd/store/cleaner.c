/*
 * The cleaner: what is still wanted of mostly dead segments is copied into a cold one, so that a few old messages never keep
 * much disk. The engine says what is wanted; the index is switched when the copy is complete; the next checkpoints make it true
 * and free the old segments. One cleaning at a time.
 */
#include "clean.h"
#include "log.h"

enum { LOOK_MS = 250, SMALL_COLD_MAX = 4, SMALL_PART = 8 };

static void clean_over(struct store *s, struct clean_job *j, uint64_t pause_ms)
{
    for (uint32_t i = 0; i < j->victim_count; i++) {
        struct segment *g = segment_find(s, j->victims[i].number);
        g->pins--;
        g->cleaning = false;
        if (j->victims[i].damaged && !g->unclean) {
            log_warning("segment %u is damaged and cannot be cleaned; stop the broker and run fsck", g->number);
            g->unclean = true;
        }
        segment_check_dead(s, g);
    }
    s->cleaning = false;
    s->clean_retry_ms = s->now.mono.ms + pause_ms;
    clean_job_free(j);
}

/* ---- second step done: switch the index -------------------------------------------------------------------------------- */

struct recount {
    const struct clean_job *j;
    const struct clean_run *run;
    uint32_t live;
    uint64_t bytes;
};

static void recount_range(void *arg, uint64_t first, uint64_t last)
{
    struct recount *c = arg;
    for (uint64_t seq = first; seq <= last; seq++) {
        const struct entry *e = &c->j->entries[c->run->run.entry + (seq - c->run->run.first)];
        c->live += e->length != 0;
        c->bytes += pad8(entry_length(e));
    }
}

static void remove_runs(struct store *s, uint32_t queue, uint32_t segment, uint64_t first, uint64_t last)
{
    struct queue_index *q = index_find(s, queue);
    if (!q)
        return;
    uint32_t i = index_search(q, first);
    while (i < q->run_len && queue_run(q, i)->first <= last) {
        if (queue_run(q, i)->segment == segment)
            index_remove(s, q, i);
        else
            i++;
    }
}

/* Room for the new runs first, so that the switch itself cannot fail half-way. */
static bool reserve_runs(struct store *s, const struct clean_job *j)
{
    for (uint32_t i = 0; i < j->run_count;) {
        uint32_t queue = j->runs[i].run.queue, n = 0;
        while (i < j->run_count && j->runs[i].run.queue == queue)
            i++, n++;
        struct queue_index *q = index_find(s, queue);
        if (!q)
            continue;
        if (q->run_cap - q->run_len >= n) {
            memmove(q->runs, q->runs + q->run_at, q->run_len * sizeof *q->runs);
            q->run_at = 0;
            continue;
        }
        uint32_t cap = q->run_len + n;
        struct run *runs = malloc(cap * sizeof *runs);
        if (!runs)
            return false;
        if (q->run_len)
            memcpy(runs, q->runs + q->run_at, q->run_len * sizeof *runs);
        free(q->runs);
        q->runs = runs;
        q->run_at = 0;
        q->run_cap = cap;
    }
    return true;
}

static void insert_run(struct store *s, struct segment *g, const struct clean_job *j, const struct clean_run *run)
{
    struct recount c = {.j = j, .run = run};
    struct queue_index *q = index_find(s, run->run.queue);
    if (!q) /* deleted meanwhile */
        return;
    engine_live(s->engine, q->queue, run->run.first, run->run.first + run->run.count - 1, recount_range, &c);
    if (c.live == 0)
        return;
    struct run *r = index_insert(q, index_search(q, run->run.first)); /* reserved: cannot fail */
    r->first = run->run.first;
    r->count = run->run.count;
    r->live = c.live;
    r->bytes = c.bytes;
    r->segment = g->number;
    r->entry = run->run.entry;
    q->messages += c.live;
    q->bytes += c.bytes;
    g->live_bytes += c.bytes;
    g->runs++;
}

static bool switch_index(struct store *s, struct clean_job *j)
{
    struct segment *g = reserve_runs(s, j) ? segment_add(s, j->cold, SEGMENT_COLD, SEGMENT_SEALED) : NULL;
    if (!g)
        return false;
    g->file_bytes = j->file_bytes;
    g->data_end = j->data_end;
    g->first_index = 1;
    g->last_index = j->batches;
    g->max_time_ms = j->max_time_ms;
    s->space.disk_bytes += j->file_bytes;
    for (uint32_t v = 0; v < j->victim_count; v++) {
        const struct footer *f = &j->victims[v].footer;
        for (uint32_t i = 0; i < f->trailer.runs; i++)
            remove_runs(s, f->runs[i].queue, j->victims[v].number, f->runs[i].first,
                        f->runs[i].first + f->runs[i].count - 1);
    }
    for (uint32_t i = 0; i < j->run_count; i++)
        insert_run(s, g, j, &j->runs[i]);
    for (uint32_t v = 0; v < j->victim_count; v++) { /* queues left with nothing */
        const struct footer *f = &j->victims[v].footer;
        for (uint32_t i = 0; i < f->trailer.runs; i++) {
            struct queue_index *q = index_find(s, f->runs[i].queue);
            if (q)
                index_drop_if_empty(s, q);
        }
    }
    segment_check_dead(s, g);
    return true;
}

static void remove_cold(struct store *s, const struct clean_job *j)
{
    char name[FILE_NAME_BYTES];
    segment_name(name, SEGMENT_COLD, j->cold);
    s->host.disk_ops->remove(s->host.disk, name); /* if not, the next start frees it */
}

static void copy_done(struct job *job)
{
    struct clean_job *j = (struct clean_job *)job;
    struct store *s = j->j.store;
    uint64_t pause_ms = 0;
    if (!job_end(&j->j)) {
        clean_over(s, j, 0);
        return;
    }
    if (j->j.error) {
        pause_ms = RETRY_MS;
        if ((j->j.error == ENOSPC || j->j.error == EDQUOT) && space_drop_spare(s))
            pause_ms = 0;
        else if (j->j.error != EBADMSG && !error_is_transient(j->j.error))
            log_warning("cannot clean segments into cold segment %u: %s", j->cold, strerror(j->j.error));
    } else if (!switch_index(s, j)) {
        remove_cold(s, j);
        pause_ms = RETRY_MS;
    }
    clean_over(s, j, pause_ms);
}

/* ---- first step done: ask the engine ------------------------------------------------------------------------------------- */

struct ask {
    struct clean_job *j;
    uint32_t queue, victim, run;
};

static void add_range(void *arg, uint64_t first, uint64_t last)
{
    struct ask *a = arg;
    struct clean_job *j = a->j;
    if (j->range_count == j->range_cap) {
        uint32_t cap = j->range_cap ? j->range_cap * 2 : 64;
        struct clean_range *ranges = realloc(j->ranges, cap * sizeof *ranges);
        if (!ranges) {
            j->no_memory = true;
            return;
        }
        j->ranges = ranges;
        j->range_cap = cap;
    }
    j->ranges[j->range_count++] = (struct clean_range){a->queue, a->victim, a->run, false, first, last};
}

static int range_order(const void *a, const void *b)
{
    const struct clean_range *x = a, *y = b;
    if (x->queue != y->queue)
        return x->queue < y->queue ? -1 : 1;
    return x->first < y->first ? -1 : x->first > y->first;
}

static void order_ranges(struct store *s, struct clean_job *j)
{
    if (j->range_count)
        qsort(j->ranges, j->range_count, sizeof *j->ranges, range_order);
    for (uint32_t i = 1; i < j->range_count; i++) {
        struct clean_range *before = &j->ranges[i - 1], *range = &j->ranges[i];
        struct queue_index *q = index_find(s, range->queue);
        range->joins =
            before->queue == range->queue && index_search(q, range->first) - index_search(q, before->last) <= 1;
    }
}

static bool index_has(struct store *s, uint32_t segment, const struct directory_run *run)
{
    struct queue_index *q = index_find(s, run->queue);
    if (!q)
        return false;
    uint32_t i = index_search(q, run->first);
    return i < q->run_len && queue_run(q, i)->segment == segment && queue_run(q, i)->live;
}

static void directories_done(struct job *job)
{
    struct clean_job *j = (struct clean_job *)job;
    struct store *s = j->j.store;
    bool go_on = job_end(&j->j) && !j->j.error;
    for (uint32_t v = 0; v < j->victim_count && go_on; v++)
        go_on = !j->victims[v].damaged;
    for (uint32_t v = 0; v < j->victim_count && go_on; v++) {
        const struct footer *f = &j->victims[v].footer;
        for (uint32_t i = 0; i < f->trailer.runs; i++) {
            const struct directory_run *run = &f->runs[i];
            struct ask a = {j, run->queue, v, i};
            if (index_has(s, j->victims[v].number, run))
                engine_live(s->engine, run->queue, run->first, run->first + run->count - 1, add_range, &a);
        }
    }
    if (!go_on || j->no_memory) {
        clean_over(s, j, RETRY_MS);
        return;
    }
    order_ranges(s, j);
    j->cold = s->space.next_number++;
    j->epoch = s->log.epoch;
    j->segment_bytes = s->options.segment_bytes;
    job_begin(s, &j->j, clean_job_copy, copy_done);
}

/* ---- choosing ------------------------------------------------------------------------------------------------------------- */

static bool is_low(const struct store *s, const struct segment *g)
{
    uint64_t heads = (g->last_index - g->first_index + 1) * BATCH_HEAD_BYTES;
    uint64_t data = g->data_end - SEGMENT_DATA_START - heads;
    return g->live_bytes * 100 < data * s->options.clean_below_percent;
}

static bool is_small_cold(const struct store *s, const struct segment *g)
{
    return g->kind == SEGMENT_COLD && g->file_bytes < s->options.segment_bytes / SMALL_PART;
}

static void add_victim(struct clean_job *j, struct segment *g, uint64_t *bytes, uint64_t limit)
{
    /* A footer's worth more is room enough: cold segments are as large as they need to be. */
    if (j->victim_count == CLEAN_VICTIMS_MAX || (j->victim_count && *bytes + g->live_bytes > limit))
        return;
    j->victims[j->victim_count++] =
        (struct clean_victim){.number = g->number, .kind = g->kind, .data_end = g->data_end};
    *bytes += g->live_bytes;
    g->cleaning = true;
    g->pins++;
}

static uint32_t choose(struct store *s, struct clean_job *j)
{
    uint64_t now = s->now.mono.ms, bytes = 0, limit = s->options.segment_bytes / 2;
    uint32_t small = 0;
    struct segment *g, *next;
    HASH_ITER(hh, s->segments, g, next)
    {
        if (g->state != SEGMENT_SEALED || g->unclean || g->cleaning)
            continue;
        small += is_small_cold(s, g);
        if (!is_low(s, g)) {
            g->low_since_ms = 0;
            continue;
        }
        if (!g->low_since_ms)
            g->low_since_ms = now ? now : 1;
        /* A queue that is being drained would be through before the copy is: wait a little, unless the disk is full. */
        if (now >= g->low_since_ms + CLEAN_AFTER_MS || s->space.full)
            add_victim(j, g, &bytes, limit);
    }
    if (j->victim_count || small > SMALL_COLD_MAX) { /* small ones are merged along, or when there are many */
        HASH_ITER(hh, s->segments, g, next)
        {
            if (g->state == SEGMENT_SEALED && !g->unclean && !g->cleaning && is_small_cold(s, g))
                add_victim(j, g, &bytes, limit);
        }
    }
    return j->victim_count;
}

void cleaner_tick(struct store *s)
{
    uint64_t now = s->now.mono.ms;
    if (s->cleaning || s->failed || now < s->clean_retry_ms || now < s->clean_look_ms)
        return;
    s->clean_look_ms = now + LOOK_MS;
    struct clean_job *j = calloc(1, sizeof *j);
    if (!j)
        return;
    if (choose(s, j) == 0) {
        free(j);
        return;
    }
    s->cleaning = true;
    job_begin(s, &j->j, clean_job_directories, directories_done);
}
