/*
 * Message ids seen of late, by queue: exact, within a window of time and number.
 *
 * An id counts while it is both young enough (the wall clock against the time it was accepted at) and among the last
 * dedup_count accepted. What counts is decided when it is looked up; forgetting what does not count any more is only about
 * memory, and goes in small steps: two for each new id, more from dedup_expire, which also finds the queues that nobody
 * touches. So neither a clock that jumps nor a window made smaller costs much at once.
 */
#include <stdlib.h>
#include <string.h>

#include "engine_internal.h"

enum {
    STEP = 2,           /* forgotten at most for each new id */
    EXPIRE_STEP = 2048, /* and in one dedup_expire */
    PAUSE_MS = 1000,    /* a window is looked at no more often */
};

struct seen {
    UT_hash_handle hh; /* dedup->ids */
    STAILQ_ENTRY(seen) next;
    uint64_t seq, time_ms;
    uint64_t number; /* ids of a queue are counted; this one's count */
    uint8_t len;
    uint8_t id[];
};
STAILQ_HEAD(seen_list, seen);

struct dedup {
    struct heap_node look; /* engine->dedups, by monotonic time */
    struct queue *queue;
    struct seen *ids;
    struct seen_list by_age; /* as accepted */
    uint64_t last_number;
    uint64_t newest_ms; /* the greatest time noted: the clock while the log is replayed */
};

static uint64_t clock_of(const struct engine *e, const struct dedup *d)
{
    return e->replaying ? d->newest_ms : e->now.wall.ms;
}

static bool counts(const struct engine *e, const struct dedup *d, const struct seen *s)
{
    const struct queue_settings *settings = &d->queue->settings;
    uint64_t now = clock_of(e, d);
    bool young = now < s->time_ms || now - s->time_ms < settings->dedup_ms;
    return young && d->last_number - s->number < settings->dedup_count;
}

static void forget_oldest(struct dedup *d)
{
    struct seen *s = STAILQ_FIRST(&d->by_age);
    STAILQ_REMOVE_HEAD(&d->by_age, next);
    if (s->hh.tbl) { /* else the same id came again since, and took its place */
        HASH_DEL(d->ids, s);
    }
    free(s);
}

/* Forget up to `most` from the old end that count no more. */
static uint32_t forget_some(const struct engine *e, struct dedup *d, uint32_t most)
{
    uint32_t n = 0;
    struct seen *s;
    while (n < most && (s = STAILQ_FIRST(&d->by_age)) && (!s->hh.tbl || !counts(e, d, s))) {
        forget_oldest(d);
        n++;
    }
    return n;
}

void dedup_free(struct engine *e, struct queue *q)
{
    struct dedup *d = q->dedup;
    if (!d) {
        return;
    }
    heap_remove(&e->dedups, &d->look);
    HASH_CLEAR(hh, d->ids);
    struct seen *s;
    while ((s = STAILQ_FIRST(&d->by_age))) {
        STAILQ_REMOVE_HEAD(&d->by_age, next);
        free(s);
    }
    free(d);
    q->dedup = NULL;
}

/* ---- finding and noting -------------------------------------------------------------------------------------------------- */

uint64_t dedup_find(struct engine *e, struct queue *q, const uint8_t *id, size_t len)
{
    struct dedup *d = q->dedup;
    struct seen *s = NULL;
    if (d) {
        HASH_FIND(hh, d->ids, id, len, s);
    }
    return s && counts(e, d, s) ? s->seq : 0;
}

/* When it may hold something old: the oldest's time. During replay: at the first look after it. */
static void arm(struct engine *e, struct dedup *d)
{
    const struct seen *s = STAILQ_FIRST(&d->by_age);
    uint64_t at = 0;
    if (!e->replaying && s) {
        uint64_t now = e->now.wall.ms, end = s->time_ms + d->queue->settings.dedup_ms;
        at = e->now.mono.ms + (end > now + PAUSE_MS ? end - now : PAUSE_MS);
    }
    heap_set(&e->dedups, &d->look, at); /* no memory: the next id arms it */
}

static struct dedup *dedup_of(struct queue *q)
{
    if (!q->dedup && (q->dedup = calloc(1, sizeof *q->dedup))) {
        q->dedup->queue = q;
        STAILQ_INIT(&q->dedup->by_age);
    }
    return q->dedup;
}

void dedup_note(struct engine *e, struct queue *q, const uint8_t *id, size_t len, uint64_t seq, uint64_t time_ms)
{
    if (!q->settings.dedup_ms || !q->settings.dedup_count || !len || len > UINT8_MAX) {
        return;
    }
    struct dedup *d = dedup_of(q);
    struct seen *s = d ? malloc(sizeof *s + len) : NULL;
    if (!s) { /* stored without protection against a second one */
        return;
    }
    *s = (struct seen){.seq = seq, .time_ms = time_ms, .number = d->last_number + 1, .len = (uint8_t)len};
    memcpy(s->id, id, len);
    struct seen *old;
    HASH_FIND(hh, d->ids, id, len, old);
    if (old) { /* it counts no more; it leaves the list when it is the oldest */
        HASH_DEL(d->ids, old);
        old->hh.tbl = NULL;
    }
    HASH_ADD_KEYPTR(hh, d->ids, s->id, len, s);
    if (!s->hh.tbl) {
        free(s);
        return;
    }
    STAILQ_INSERT_TAIL(&d->by_age, s, next);
    d->last_number++;
    d->newest_ms = time_ms > d->newest_ms ? time_ms : d->newest_ms;
    forget_some(e, d, STEP);
    if (!heap_has(&d->look)) {
        arm(e, d);
    }
}

void dedup_settings_changed(struct engine *e, struct queue *q)
{
    if (q->dedup) {                  /* a smaller window: what is outside of it now goes in steps */
        if (!q->settings.dedup_ms) { /* and with none, all of it, whatever window comes next */
            q->dedup->last_number += DEDUP_COUNT_MAX;
        }
        heap_set(&e->dedups, &q->dedup->look, e->now.mono.ms);
    }
}

void dedup_expire(struct engine *e)
{
    struct heap_node *n;
    uint32_t left = EXPIRE_STEP;
    while (left && (n = heap_min(&e->dedups)) && n->key <= e->now.mono.ms) {
        struct dedup *d = container_of(n, struct dedup, look);
        left -= forget_some(e, d, left);
        if (STAILQ_EMPTY(&d->by_age)) {
            dedup_free(e, d->queue);
        } else if (left) {
            arm(e, d);
        }
    }
}

uint64_t dedup_next(const struct engine *e)
{
    const struct heap_node *n = heap_min(&e->dedups);
    return n ? n->key : UINT64_MAX;
}

/* ---- what survives: u32 n, then n * (u64 seq, u64 time, u32 length, id), as accepted -------------------------------------- */

bool dedup_save(const struct queue *q, struct buf *out)
{
    const struct dedup *d = q->dedup;
    size_t count_at = out->len;
    uint32_t n = 0;
    if (!buf_put_u32(out, 0)) {
        return false;
    }
    const struct seen *s;
    for (s = d && q->settings.dedup_ms ? STAILQ_FIRST(&d->by_age) : NULL; s; s = STAILQ_NEXT(s, next)) {
        if (!s->hh.tbl || d->last_number - s->number >= q->settings.dedup_count) {
            continue;
        }
        if (!buf_put_u64(out, s->seq) || !buf_put_u64(out, s->time_ms) || !buf_put_u32(out, s->len) ||
            !buf_append(out, s->id, s->len)) {
            return false;
        }
        n++;
    }
    put_u32(out->bytes + count_at, n);
    return true;
}

bool dedup_load(struct engine *e, struct queue *q, struct reader *r)
{
    uint32_t n = reader_u32(r);
    if (n > q->settings.dedup_count) {
        return reader_refuse(r, BROKER_MALFORMED, "a queue remembers more message ids than its settings allow");
    }
    for (uint32_t i = 0; i < n && !r->error; i++) {
        uint64_t seq = reader_u64(r), time_ms = reader_u64(r);
        uint32_t len = reader_u32(r);
        const uint8_t *id = reader_bytes(r, len);
        if (!id || !len || len > UINT8_MAX || !seq) {
            return reader_refuse(r, BROKER_MALFORMED, "a message id that a queue remembers is malformed");
        }
        dedup_note(e, q, id, len, seq, time_ms);
    }
    return !r->error;
}
