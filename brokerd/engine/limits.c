/* How much a queue takes, what goes when it is more, and queues that nobody uses. */
#include <stdlib.h>
#include <string.h>

#include "engine_internal.h"

enum {
    STEP_MESSAGES = 256,    /* what goes is measured message by message up to this ... */
    STEP_BYTES = 1 << 20,   /* ... and this; above, in the store's whole runs */
    ROUNDS = 4,             /* of one limits_enforce; the next one goes on */
    UNUSED_STEP = 256,      /* queues looked at in one unused_run */
    DELETE_RETRY_MS = 1000, /* an unused queue could not be deleted */
};

static bool has_limit(const struct queue *q)
{
    return q->settings.max_messages || q->settings.max_bytes;
}

broker_error limits_check(struct engine *e, struct queue *q, uint64_t messages, uint64_t bytes)
{
    const struct queue_settings *s = &q->settings;
    if (!has_limit(q)) {
        return BROKER_OK;
    }
    bool reject = s->overflow == BROKER_OVERFLOW_REJECT;
    if (s->max_bytes && bytes > s->max_bytes && (reject || messages <= 1)) {
        return BROKER_TOO_LARGE; /* not even an empty queue has room for it */
    }
    if (!reject) {
        return BROKER_OK;
    }
    if (s->max_messages && messages > s->max_messages) {
        return BROKER_TOO_LARGE;
    }
    uint64_t have_messages, have_bytes, oldest;
    e->ops->usage(e->store, q->id, &have_messages, &have_bytes, &oldest);
    bool full = (s->max_messages && (have_messages >= s->max_messages || messages > s->max_messages - have_messages)) ||
                (s->max_bytes && (have_bytes >= s->max_bytes || bytes > s->max_bytes - have_bytes));
    return full ? BROKER_QUEUE_FULL : BROKER_OK;
}

/* ---- the oldest go ------------------------------------------------------------------------------------------------------- */

struct live_walk {
    uint64_t at;   /* what is before was looked at */
    uint64_t want; /* live messages still to be passed; at least 1 */
    uint64_t last; /* the one that fulfils it; 0: not found yet */
};

static void pass_live(struct live_walk *w, uint64_t to) /* w->at .. to - 1 is live */
{
    if (to - w->at >= w->want) {
        w->last = w->at + w->want - 1;
        w->want = 0;
    } else {
        w->want -= to - w->at;
    }
}

static bool pass_dead(void *arg, uint64_t first, uint64_t end)
{
    struct live_walk *w = arg;
    pass_live(w, first);
    w->at = end + 1;
    return !w->last;
}

/* The seq of the n-th live message from `oldest` on. */
static uint64_t nth_live(const struct queue *q, uint64_t oldest, uint64_t n)
{
    struct live_walk w = {.at = oldest, .want = n};
    queue_each_dead(q, oldest, q->next_seq - 1, pass_dead, &w);
    if (!w.last && w.at < q->next_seq) {
        pass_live(&w, q->next_seq);
    }
    return w.last;
}

static bool found_dead(void *arg, uint64_t first, uint64_t end)
{
    *(bool *)arg = true;
    return false;
}

/* How far to go for `over` bytes; 0: what is there cannot be read now. */
static uint64_t nth_byte(struct engine *e, const struct queue *q, uint64_t oldest, uint64_t over)
{
    struct stored_message messages[STEP_MESSAGES];
    uint32_t count = 0;
    uint64_t damaged = 0, last = 0;
    if (oldest > q->visible) {
        return 0;
    }
    enum read_status status =
        e->ops->read(e->store, q->id, oldest, q->visible, STEP_MESSAGES, over + STEP_BYTES, messages, &count, &damaged);
    if (status == READ_DAMAGED) {
        return damaged; /* nobody will read it either */
    }
    for (uint32_t i = 0; status == READ_OK && over && i < count; i++) {
        bool dead = false;
        queue_each_dead(q, messages[i].seq, messages[i].seq, found_dead, &dead);
        if (!dead) {
            over -= messages[i].padded_len < over ? messages[i].padded_len : over;
        }
        last = messages[i].seq;
    }
    return last;
}

/* Everything up to this goes; 0: nothing, or nothing yet. */
static uint64_t drop_point(struct engine *e, const struct queue *q, uint64_t messages, uint64_t bytes, uint64_t oldest)
{
    const struct queue_settings *s = &q->settings;
    uint64_t over_messages = s->max_messages && messages > s->max_messages ? messages - s->max_messages : 0;
    uint64_t over_bytes = s->max_bytes && bytes > s->max_bytes ? bytes - s->max_bytes : 0;
    uint64_t last = 0;
    if (over_messages > STEP_MESSAGES || over_bytes > STEP_BYTES) {
        last = e->ops->trim_point(e->store, q->id, 0, s->max_bytes, s->max_messages);
    }
    if (last < oldest) {
        last = over_messages ? nth_live(q, oldest, over_messages < STEP_MESSAGES ? over_messages : STEP_MESSAGES) : 0;
        uint64_t for_bytes = over_bytes ? nth_byte(e, q, oldest, over_bytes) : 0;
        last = for_bytes > last ? for_bytes : last;
    }
    uint64_t most = q->visible < q->next_seq - 1 ? q->visible : q->next_seq - 2; /* the newest always stays */
    last = last < most ? last : most;
    return (over_messages || over_bytes) && last >= oldest ? last : 0;
}

void limits_enforce(struct engine *e, struct queue *q)
{
    if (!has_limit(q) || q->settings.overflow != BROKER_OVERFLOW_DROP_OLDEST) {
        return;
    }
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t messages, bytes, oldest, left, index;
        e->ops->usage(e->store, q->id, &messages, &bytes, &oldest);
        uint64_t last = messages > 1 ? drop_point(e, q, messages, bytes, oldest) : 0;
        if (!last) {
            return;
        }
        bool is_log = q->settings.retention == BROKER_RETENTION_LOG;
        uint8_t body[8];
        put_u64(body, last);
        if (engine_append(e, is_log ? RECORD_TRIM : RECORD_PURGE, q->id, 0, body, sizeof body, DURABILITY_LAZY,
                          &index) != BROKER_OK) {
            return;
        }
        if (is_log) {
            queue_apply_trim(e, q, last);
        } else {
            queue_apply_purge(e, q, last);
        }
        e->ops->usage(e->store, q->id, &left, &bytes, &oldest);
        q->counters.dropped += messages - left;
        e->stats.dropped += messages - left;
    }
}

/* ---- unused queues --------------------------------------------------------------------------------------------------------- */

void queue_used(struct engine *e, struct queue *q)
{
    q->used_ms = e->now.mono.ms; /* the timer finds out when it fires */
    if (q->settings.unused_ms && !heap_has(&q->unused) && !e->replaying) {
        heap_set(&e->unused, &q->unused, q->used_ms + q->settings.unused_ms); /* there was no memory for it before */
    }
}

void unused_arm(struct engine *e, struct queue *q)
{
    if (e->replaying) {
        return;
    }
    if (!q->settings.unused_ms) {
        heap_remove(&e->unused, &q->unused);
        return;
    }
    queue_used(e, q);
    heap_set(&e->unused, &q->unused,
             q->used_ms + q->settings.unused_ms); /* no memory: the queue stays a while longer */
}

static bool is_in_use(const struct queue *q)
{
    const struct group *g;
    LIST_FOREACH(g, &q->groups, of_queue)
    {
        if (g->consumer_count || g->leased) {
            return true;
        }
    }
    return q->read_count > 0;
}

void unused_run(struct engine *e)
{
    struct heap_node *n;
    uint32_t left = UNUSED_STEP;
    while (left-- && (n = heap_min(&e->unused)) && n->key <= e->now.mono.ms) {
        struct queue *q = container_of(n, struct queue, unused);
        uint64_t index;
        if (is_in_use(q)) {
            queue_used(e, q);
        }
        uint64_t until = q->used_ms + q->settings.unused_ms;
        if (until > e->now.mono.ms) {
            heap_set(&e->unused, n, until);
        } else if (engine_append(e, RECORD_QUEUE_DELETE, q->id, 0, NULL, 0, DURABILITY_LAZY, &index) == BROKER_OK) {
            queue_apply_delete(e, q);
        } else {
            heap_set(&e->unused, n, e->now.mono.ms + DELETE_RETRY_MS);
        }
    }
}
