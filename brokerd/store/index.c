/*
 * Where messages lie: per queue its runs by seq, one or few for each segment. Entries (place and length of each message)
 * are in memory only for segments without a footer yet.
 */
#include "store_internal.h"

struct queue_index *index_find(struct store *s, uint32_t queue)
{
    struct queue_index *q = s->last_queue;
    if (q && q->queue == queue)
        return q;
    HASH_FIND(hh, s->queues, &queue, sizeof queue, q);
    if (q)
        s->last_queue = q;
    return q;
}

struct queue_index *index_get(struct store *s, uint32_t queue)
{
    struct queue_index *q = index_find(s, queue);
    if (q || !(q = calloc(1, sizeof *q)))
        return q;
    q->queue = queue;
    TAILQ_INIT(&q->extents);
    HASH_ADD(hh, s->queues, queue, sizeof q->queue, q);
    if (!q->hh.tbl) {
        free(q);
        return NULL;
    }
    s->last_queue = q;
    return q;
}

static void queue_free(struct store *s, struct queue_index *q)
{
    if (s->last_queue == q)
        s->last_queue = NULL;
    if (q->starved)
        TAILQ_REMOVE(&s->reads.starved, q, starved_link);
    HASH_DELETE(hh, s->queues, q);
    free(q->runs);
    free(q);
}

void index_drop_if_empty(struct store *s, struct queue_index *q)
{
    if (q->run_len == 0 && TAILQ_EMPTY(&q->extents) && !q->waiting && !q->starved)
        queue_free(s, q);
}

uint32_t index_search(const struct queue_index *q, uint64_t seq)
{
    uint32_t low = 0, high = q->run_len;
    if (high && seq >= queue_run(q, high - 1)->first) /* consumers at the head */
        low = high - 1;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (run_last(queue_run(q, mid)) >= seq)
            high = mid;
        else
            low = mid + 1;
    }
    return low;
}

struct run *index_insert(struct queue_index *q, uint32_t at)
{
    if (q->run_at + q->run_len == q->run_cap) {
        if (q->run_at > q->run_cap / 2) {
            memmove(q->runs, q->runs + q->run_at, q->run_len * sizeof *q->runs);
        } else {
            uint32_t cap = q->run_cap ? q->run_cap * 2 : 1;
            struct run *runs = malloc(cap * sizeof *runs);
            if (!runs)
                return NULL;
            if (q->run_len)
                memcpy(runs, q->runs + q->run_at, q->run_len * sizeof *runs);
            free(q->runs);
            q->runs = runs;
            q->run_cap = cap;
        }
        q->run_at = 0;
    }
    struct run *r = queue_run(q, at);
    memmove(r + 1, r, (q->run_len - at) * sizeof *r);
    q->run_len++;
    memset(r, 0, sizeof *r);
    return r;
}

void detail_free(struct run_detail *d)
{
    if (!d)
        return;
    free(d->entries);
    free(d->times);
    free(d);
}

/* ---- add ----------------------------------------------------------------------------------------------------------- */

static struct run *run_begin(struct queue_index *q, struct segment *g, uint64_t seq)
{
    enum { ENTRIES_FIRST = 4 };
    struct run_detail *d = calloc(1, sizeof *d);
    struct run *r = NULL;
    if (d && (d->entries = malloc(ENTRIES_FIRST * sizeof *d->entries)))
        r = index_insert(q, q->run_len);
    if (!r) {
        detail_free(d);
        return NULL;
    }
    d->cap = ENTRIES_FIRST;
    d->queue = q->queue;
    d->first = seq;
    r->first = seq;
    r->segment = g->number;
    r->detail = d;
    TAILQ_INSERT_TAIL(&g->open, d, link);
    g->runs++;
    g->added++;
    return r;
}

/* Everything in it is dead: it can as well begin here. Keeps a queue that is drained again and again small. */
static void run_restart(struct segment *g, struct run *r, uint64_t seq)
{
    g->entries -= r->count;
    r->count = 0;
    r->bytes = 0;
    r->first = r->detail->first = seq;
    r->detail->time_len = 0;
}

static bool entries_reserve(struct run_detail *d, uint32_t n)
{
    if (n <= d->cap)
        return true;
    uint32_t cap = d->cap * 2 > n ? d->cap * 2 : n;
    struct entry *entries = realloc(d->entries, cap * sizeof *entries);
    if (!entries)
        return false;
    d->entries = entries;
    d->cap = cap;
    return true;
}

bool index_add(struct store *s, struct segment *g, uint32_t queue, uint64_t seq, uint64_t time_ms, uint64_t offset,
               uint32_t length)
{
    struct queue_index *q = index_get(s, queue);
    if (!q)
        return false;
    assert(seq > q->last_seq);
    struct run *r = q->run_len ? queue_run(q, q->run_len - 1) : NULL;
    bool goes_on = r && r->segment == g->number && run_is_open(r);
    if (goes_on && r->live == 0)
        run_restart(g, r, seq);
    else if (!goes_on || seq - r->first - r->count > HOLES_MAX)
        r = run_begin(q, g, seq);
    uint32_t at = r ? (uint32_t)(seq - r->first) : 0;
    if (!r || !entries_reserve(r->detail, at + 1) || !times_reserve(r->detail)) {
        index_drop_if_empty(s, q);
        return false;
    }
    for (uint32_t hole = r->count; hole < at; hole++)
        r->detail->entries[hole] = (struct entry){0, 0};
    r->detail->entries[at] = (struct entry){(uint32_t)(offset / 8), length};
    times_add(r->detail, at, time_ms);
    g->entries += at + 1 - r->count;
    r->count = at + 1;
    uint32_t padded = pad8(length & ENTRY_LENGTH_MASK);
    r->live++;
    r->bytes += padded;
    g->live_bytes += padded;
    if (time_ms > g->max_time_ms)
        g->max_time_ms = time_ms;
    if (q->messages++ == 0)
        q->oldest = seq;
    q->bytes += padded;
    q->last_seq = seq;
    return true;
}

/* Entries from `seq` on, none of them dead; the run then ends with the last one before that is no hole. */
static void run_cut(struct queue_index *q, struct segment *g, struct run *r, uint64_t seq)
{
    struct run_detail *d = r->detail;
    uint32_t keep = r->count == 0 || seq <= r->first ? 0 : (uint32_t)(seq - r->first);
    for (uint32_t i = keep; i < r->count; i++) {
        uint32_t padded = pad8(entry_length(&d->entries[i]));
        if (!padded)
            continue;
        r->live--;
        r->bytes -= padded;
        g->live_bytes -= padded;
        q->messages--;
        q->bytes -= padded;
    }
    while (keep && d->entries[keep - 1].length == 0)
        keep--;
    g->entries -= r->count - keep;
    r->count = keep;
    while (d->time_len && d->times[d->time_len - 1].entry >= keep)
        d->time_len--;
}

void index_cut(struct store *s, struct segment *g, uint32_t queue, uint64_t seq)
{
    struct queue_index *q = index_find(s, queue);
    if (!q || q->last_seq < seq)
        return;
    while (q->run_len) {
        uint32_t at = q->run_len - 1;
        struct run *r = queue_run(q, at);
        if (r->segment != g->number || (r->count && run_last(r) < seq))
            break;
        run_cut(q, g, r, seq);
        if (r->count)
            break;
        g->added--;
        index_remove(s, q, at);
    }
    q->last_seq = seq - 1;
    index_drop_if_empty(s, q);
}

/* ---- remove ------------------------------------------------------------------------------------------------------- */

/* Let go of what a run has elsewhere; its place in the array is the caller's business. */
static void run_release(struct store *s, struct queue_index *q, struct run *r)
{
    struct segment *g = segment_find(s, r->segment);
    q->messages -= r->live;
    q->bytes -= r->bytes;
    g->live_bytes -= r->bytes;
    g->runs--;
    if (r->detail) {
        if (r->detail->entries)
            TAILQ_REMOVE(&g->open, r->detail, link);
        if (r->detail->frozen)
            r->detail->orphan = true;
        else
            detail_free(r->detail);
    }
    segment_check_dead(s, g);
}

static void runs_close_gap(struct queue_index *q, uint32_t from, uint32_t to)
{
    if (from == 0) {
        q->run_at += to;
    } else {
        memmove(queue_run(q, from), queue_run(q, to), (q->run_len - to) * sizeof *q->runs);
    }
    q->run_len -= to - from;
    if (q->run_len == 0)
        q->run_at = 0;
}

void index_remove(struct store *s, struct queue_index *q, uint32_t at)
{
    run_release(s, q, queue_run(q, at));
    runs_close_gap(q, at, at + 1);
}

static void run_kill(struct store *s, struct queue_index *q, struct run *r, uint64_t first, uint64_t last)
{
    uint32_t from = first > r->first ? (uint32_t)(first - r->first) : 0;
    uint32_t to = last < run_last(r) ? (uint32_t)(last - r->first) : r->count - 1;
    uint32_t n = 0;
    uint64_t bytes = 0;
    if (run_is_open(r)) {
        for (uint32_t i = from; i <= to; i++) {
            struct entry *e = &r->detail->entries[i];
            if (e->length == 0 || (e->length & ENTRY_DEAD))
                continue;
            n++;
            bytes += pad8(entry_length(e));
            if (!r->detail->frozen)
                e->length |= ENTRY_DEAD;
        }
        if (n >= r->live) { /* a frozen run's dead are not marked one by one */
            n = r->live;
            bytes = r->bytes;
        }
        bytes = bytes > r->bytes ? r->bytes : bytes;
    } else {
        n = to - from + 1 < r->live ? to - from + 1 : r->live;
        bytes = n == r->live ? r->bytes : r->bytes / r->live * n;
    }
    struct segment *g = segment_find(s, r->segment);
    r->live -= n;
    r->bytes -= bytes;
    g->live_bytes -= bytes;
    q->messages -= n;
    q->bytes -= bytes;
}

/* The last run of the active segment stays, empty: the queue's next message goes on there. */
static bool run_is_over(const struct store *s, const struct run *r)
{
    return r->live == 0 && !(run_is_open(r) && r->segment == s->log.active->number);
}

void index_dead(struct store *s, uint32_t queue, uint64_t first, uint64_t last)
{
    struct queue_index *q = index_find(s, queue);
    if (!q)
        return;
    uint32_t from = index_search(q, first), kept = from, i = from;
    for (; i < q->run_len && queue_run(q, i)->first <= last; i++) {
        struct run *r = queue_run(q, i);
        if (r->live)
            run_kill(s, q, r, first, last);
        if (run_is_over(s, r)) {
            run_release(s, q, r);
        } else {
            if (kept != i)
                *queue_run(q, kept) = *r;
            kept++;
        }
    }
    runs_close_gap(q, kept, i);
    if (first <= q->oldest && last >= q->oldest) {
        q->oldest = last + 1;
        reader_forget(s, q, last);
    }
    index_drop_if_empty(s, q);
}

void index_queue_gone(struct store *s, uint32_t queue)
{
    struct queue_index *q = index_find(s, queue);
    if (!q)
        return;
    for (uint32_t i = 0; i < q->run_len; i++)
        run_release(s, q, queue_run(q, i));
    extent_drop_all(s, q);
    queue_free(s, q);
}

void index_release(struct store *s)
{
    struct queue_index *q, *next;
    HASH_ITER(hh, s->queues, q, next)
    {
        for (uint32_t i = 0; i < q->run_len; i++)
            detail_free(queue_run(q, i)->detail);
        extent_drop_all(s, q);
        queue_free(s, q);
    }
}
