/*
 * Reading by queue and seq: from the tail cache, from extents read before, else by a job. Nothing here blocks. What is let go
 * in a turn of the loop is freed at its end, for the engine may have borrowed from it.
 */
#include "extent.h"
#include "log.h"

/* ---- extents -------------------------------------------------------------------------------------------------------------- */

static void extent_free(struct extent *e)
{
    free(e->places);
    free(e->bytes);
    free(e);
}

/* Out of its queue. A loading one is freed when its job is done. */
static void extent_drop(struct store *s, struct queue_index *q, struct extent *e)
{
    TAILQ_REMOVE(&q->extents, e, in_queue);
    if (TAILQ_EMPTY(&q->extents))
        s->reads.queues--;
    if (e->loading) {
        e->orphan = true;
        return;
    }
    s->reads.bytes -= e->size;
    TAILQ_REMOVE(&s->reads.by_use, e, by_use);
    TAILQ_INSERT_TAIL(&s->reads.gone, e, by_use);
}

void extent_drop_all(struct store *s, struct queue_index *q)
{
    struct extent *e;
    while ((e = TAILQ_FIRST(&q->extents)))
        extent_drop(s, q, e);
}

void reader_forget(struct store *s, struct queue_index *q, uint64_t last)
{
    struct extent *e;
    while ((e = TAILQ_FIRST(&q->extents)) && !e->loading && e->first + e->n - 1 <= last)
        extent_drop(s, q, e);
}

void reader_free_gone(struct store *s)
{
    struct extent *e;
    while ((e = TAILQ_FIRST(&s->reads.gone))) {
        TAILQ_REMOVE(&s->reads.gone, e, by_use);
        extent_free(e);
    }
}

void reader_release(struct store *s)
{
    reader_free_gone(s); /* the queues are gone already */
}

static struct extent *extent_find(const struct queue_index *q, uint64_t seq)
{
    struct extent *e;
    TAILQ_FOREACH(e, &q->extents, in_queue)
    {
        if (e->first > seq)
            return NULL;
        if (seq - e->first < e->n)
            return e;
    }
    return NULL;
}

static void extent_insert(struct store *s, struct queue_index *q, struct extent *e)
{
    struct extent *after;
    if (TAILQ_EMPTY(&q->extents))
        s->reads.queues++;
    TAILQ_FOREACH(after, &q->extents, in_queue)
    if (after->first > e->first)
        break;
    if (after)
        TAILQ_INSERT_BEFORE(after, e, in_queue);
    else
        TAILQ_INSERT_TAIL(&q->extents, e, in_queue);
}

/* ---- starting a read --------------------------------------------------------------------------------------------------------- */

static void read_done(struct job *job);

/* The more queues are read at once, the less of each at a time. */
static uint64_t extent_target(const struct store *s)
{
    uint64_t share = s->options.read_cache_bytes / (4 * ((uint64_t)s->reads.queues + 1));
    return share > EXTENT_BYTES ? EXTENT_BYTES : share < EXTENT_MIN_BYTES ? EXTENT_MIN_BYTES : share;
}

static bool make_room(struct store *s, uint64_t bytes, bool demanded)
{
    struct extent *e;
    while (s->reads.bytes + bytes > s->options.read_cache_bytes) {
        if (!demanded || !(e = TAILQ_FIRST(&s->reads.by_use)))
            return demanded && s->reads.jobs == 0; /* one message may be larger than the cache */
        struct queue_index *q = index_find(s, e->queue);
        extent_drop(s, q, e);
        index_drop_if_empty(s, q);
    }
    return true;
}

/* Of an open run the last messages are in memory; holes between them count as such. */
static bool is_in_tail(struct store *s, const struct run *r, uint64_t seq)
{
    if (!run_is_open(r))
        return false;
    const struct entry *e = &r->detail->entries[seq - r->first];
    return e->length == 0 || tail_find(s, r->segment, (uint64_t)e->place * 8);
}

static uint32_t plan(struct store *s, const struct queue_index *q, const struct run *r, uint64_t seq, uint64_t *bytes)
{
    uint64_t average = r->live ? r->bytes / r->live : 1;
    average = average < RECORD_HEAD_BYTES ? RECORD_HEAD_BYTES : average;
    uint64_t n = extent_target(s) / average;
    n = n ? n : 1;
    if (n > run_last(r) - seq + 1)
        n = run_last(r) - seq + 1;
    struct extent *e;
    TAILQ_FOREACH(e, &q->extents, in_queue)
    {
        if (e->first > seq && e->first - seq < n)
            n = e->first - seq;
    }
    while (n > 1 && is_in_tail(s, r, seq + n - 1)) /* it need not be read, and may not be written yet */
        n--;
    *bytes = n * (average + sizeof(uint32_t));
    return (uint32_t)n;
}

/* false: there is no memory or no room for it now. */
static bool start_read(struct store *s, struct queue_index *q, const struct run *r, uint64_t seq, bool demanded)
{
    uint64_t bytes;
    uint32_t n = plan(s, q, r, seq, &bytes);
    bool waiting = q->waiting;
    q->waiting = true; /* making room must not take q away */
    bool room = make_room(s, bytes, demanded);
    q->waiting = waiting;
    struct read_job *j = room ? calloc(1, sizeof *j) : NULL;
    struct extent *e = j ? calloc(1, sizeof *e) : NULL;
    if (e && run_is_open(r) && (j->entries = malloc(n * sizeof *j->entries)))
        memcpy(j->entries, r->detail->entries + (seq - r->first), n * sizeof *j->entries);
    if (!e || (run_is_open(r) && !j->entries)) {
        free(e);
        free(j);
        return false;
    }
    struct segment *g = segment_find(s, r->segment);
    *e = (struct extent){.queue = q->queue, .loading = true, .first = seq, .n = n, .size = bytes};
    extent_insert(s, q, e);
    j->extent = e;
    j->queue = q->queue;
    j->segment = r->segment;
    j->kind = g->kind;
    j->first = seq;
    j->n = n;
    j->sealed = !run_is_open(r);
    j->entry = r->entry + (uint32_t)(seq - r->first);
    j->data_end = g->data_end;
    g->pins++;
    s->reads.bytes += bytes;
    s->reads.jobs++;
    job_begin(s, &j->j, read_job_run, read_done);
    return true;
}

static void starve(struct store *s, struct queue_index *q)
{
    q->waiting = true;
    if (q->starved)
        return;
    q->starved = true;
    TAILQ_INSERT_TAIL(&s->reads.starved, q, starved_link);
    if (s->reads.jobs == 0 && !s->reads.retry_ms) /* no job's end will wake it */
        s->reads.retry_ms = s->now.mono.ms + IDLE_MS;
}

/* The engine asks again, so the queue need not be remembered here; it may be gone after the call. */
static void wake(struct store *s, struct queue_index *q)
{
    uint32_t queue = q->queue;
    if (q->starved)
        TAILQ_REMOVE(&s->reads.starved, q, starved_link);
    q->starved = q->waiting = false;
    index_drop_if_empty(s, q);
    engine_readable(s->engine, s->now, queue);
}

void reader_tick(struct store *s)
{
    if (!s->reads.retry_ms || s->now.mono.ms < s->reads.retry_ms)
        return;
    s->reads.retry_ms = 0;
    struct queue_index *q = TAILQ_FIRST(&s->reads.starved);
    if (q)
        wake(s, q);
    if (!TAILQ_EMPTY(&s->reads.starved) && !s->reads.retry_ms)
        s->reads.retry_ms = s->now.mono.ms + 1;
}

static void extent_ready(struct store *s, struct read_job *j)
{
    struct extent *e = j->extent;
    s->reads.bytes -= e->size;
    e->size = j->size + j->n * sizeof *e->places + sizeof *e;
    s->reads.bytes += e->size;
    e->n = j->n;
    e->places = j->places;
    e->bytes = j->bytes;
    j->places = NULL;
    j->bytes = NULL;
    e->loading = false;
    TAILQ_INSERT_TAIL(&s->reads.by_use, e, by_use);
}

static void read_done(struct job *job)
{
    struct read_job *j = (struct read_job *)job;
    struct store *s = j->j.store;
    struct extent *e = j->extent;
    struct segment *g = segment_find(s, j->segment);
    bool go_on = job_end(&j->j);
    struct queue_index *q = e->orphan ? NULL : index_find(s, j->queue);
    g->pins--;
    s->reads.jobs--;
    if (j->footer_damaged && !g->unclean) {
        log_warning("the footer of segment %u is damaged; its messages are found by reading all of it", g->number);
        g->unclean = true;
    }
    if (!q || j->j.error) {
        s->reads.bytes -= e->size;
        if (q) {
            TAILQ_REMOVE(&q->extents, e, in_queue);
            s->reads.queues -= TAILQ_EMPTY(&q->extents);
        }
        extent_free(e);
    } else {
        extent_ready(s, j);
    }
    if (q && j->j.error && q->waiting && go_on) {
        starve(s, q);
        s->reads.retry_ms = s->now.mono.ms + IDLE_MS;
    } else if (q && q->waiting && go_on) {
        wake(s, q);
    } else if (q) {
        index_drop_if_empty(s, q);
    }
    free(j->entries);
    free(j->places);
    free(j->bytes);
    free(j);
    /* One job's room is one job's; but if nobody starts one, the next has no other end to wait for. */
    while (go_on && !s->reads.retry_ms && (q = TAILQ_FIRST(&s->reads.starved))) {
        wake(s, q);
        if (s->reads.jobs)
            break;
    }
}

/* ---- reading -------------------------------------------------------------------------------------------------------------------- */

struct request {
    uint64_t seq, to;
    uint32_t max, count;
    uint64_t max_bytes, bytes;
    struct stored_message *out;
};

enum step { STEP_ON, STEP_ENOUGH, STEP_ABSENT, STEP_LOADING, STEP_DAMAGED };

static enum step take(struct request *w, uint64_t seq, const uint8_t *record)
{
    uint32_t padded = record_padded(record);
    if (w->count == w->max || (w->count && w->bytes + padded > w->max_bytes))
        return STEP_ENOUGH;
    w->out[w->count++] = (struct stored_message){seq, record, padded};
    w->bytes += padded;
    w->seq = seq + 1;
    return STEP_ON;
}

static enum step take_from_extent(struct store *s, struct queue_index *q, struct request *w, uint64_t last)
{
    struct extent *e = extent_find(q, w->seq);
    if (!e || e->loading)
        return e ? STEP_LOADING : STEP_ABSENT;
    TAILQ_REMOVE(&s->reads.by_use, e, by_use);
    TAILQ_INSERT_TAIL(&s->reads.by_use, e, by_use);
    uint32_t i = (uint32_t)(w->seq - e->first);
    uint32_t end = last - e->first < e->n ? (uint32_t)(last - e->first) + 1 : e->n;
    for (; i < end; i++) {
        if (e->places[i] == PLACE_HOLE)
            continue;
        w->seq = e->first + i;
        if (e->places[i] == PLACE_BAD)
            return STEP_DAMAGED;
        if (take(w, e->first + i, e->bytes + (uint64_t)e->places[i] * 8) == STEP_ENOUGH)
            return STEP_ENOUGH;
    }
    w->seq = e->first + end;
    return STEP_ON;
}

/* What of an open run is in the tail cache; stops at the first that is not. */
static enum step take_from_tail(struct store *s, const struct run *r, struct request *w, uint64_t last)
{
    for (; w->seq <= last; w->seq++) {
        const struct entry *e = &r->detail->entries[w->seq - r->first];
        if (e->length == 0 || (e->length & ENTRY_DEAD))
            continue;
        const uint8_t *record = tail_find(s, r->segment, (uint64_t)e->place * 8);
        if (!record)
            return STEP_ABSENT;
        if (take(w, w->seq, record) == STEP_ENOUGH)
            return STEP_ENOUGH;
        w->seq--; /* take went past it, and so does the loop */
    }
    return STEP_ON;
}

static enum step read_run(struct store *s, struct queue_index *q, const struct run *r, struct request *w)
{
    uint64_t last = run_last(r) < w->to ? run_last(r) : w->to;
    enum step step = STEP_ON;
    while (step == STEP_ON && w->seq <= last) {
        step = run_is_open(r) ? take_from_tail(s, r, w, last) : STEP_ABSENT;
        if (step == STEP_ABSENT)
            step = take_from_extent(s, q, w, last);
    }
    return step;
}

/* Whoever reads on within an extent is likely to want the next: keep READ_AHEAD of them coming. */
static void read_ahead(struct store *s, struct queue_index *q, uint64_t from, uint64_t seq)
{
    struct extent *e = extent_find(q, from);
    if (!e || e->first == from)
        return;
    if ((e = extent_find(q, seq)))
        seq = e->first + e->n;
    for (int ahead = 0; ahead < READ_AHEAD; ahead++) {
        uint32_t i = index_search(q, seq);
        while (i < q->run_len && queue_run(q, i)->live == 0)
            i++;
        if (i == q->run_len)
            return;
        const struct run *r = queue_run(q, i);
        seq = seq > r->first ? seq : r->first;
        e = extent_find(q, seq);
        if (!e && run_is_open(r)) {
            const struct entry *entry = &r->detail->entries[seq - r->first];
            if (entry->length == 0 || tail_find(s, r->segment, (uint64_t)entry->place * 8))
                return;
        }
        if (!e && start_read(s, q, r, seq, false))
            e = extent_find(q, seq);
        if (!e)
            return;
        seq = e->first + e->n;
    }
}

enum read_status reader_read(struct store *s, uint32_t queue, uint64_t from, uint64_t to, uint32_t max_messages,
                             uint64_t max_bytes, struct stored_message *out, uint32_t *count, uint64_t *damaged_seq)
{
    struct queue_index *q = index_find(s, queue);
    struct request w = {.seq = from, .to = to, .max = max_messages, .max_bytes = max_bytes, .out = out};
    enum step step = STEP_ON;
    *count = 0;
    uint32_t i = q ? index_search(q, from) : 0;
    for (; q && step == STEP_ON && i < q->run_len && w.count < w.max; i++) {
        const struct run *r = queue_run(q, i);
        if (r->live == 0)
            continue;
        w.seq = w.seq > r->first ? w.seq : r->first;
        if (w.seq > to)
            break;
        step = read_run(s, q, r, &w);
        if (step == STEP_ABSENT && !start_read(s, q, r, w.seq, w.count == 0) && w.count == 0) {
            starve(s, q);
            return READ_PENDING;
        }
    }
    *count = w.count;
    if (w.count) {
        read_ahead(s, q, from, w.seq);
        return READ_OK;
    }
    if (step == STEP_DAMAGED) {
        *damaged_seq = w.seq;
        return READ_DAMAGED;
    }
    if (step == STEP_ABSENT || step == STEP_LOADING) {
        q->waiting = true;
        return READ_PENDING;
    }
    return READ_END;
}
