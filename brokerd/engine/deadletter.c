/*
 * What becomes of a message that was handed out and not acked, or whose time is over: back to its group after a while, to
 * the dead letters, or away. Moves to the dead letters need the message's bytes, which may have to come from the disk: they
 * are done in steps, by dying_run.
 */
#include <stdlib.h>
#include <string.h>

#include "engine_internal.h"

enum { RETRY_MS = 100, STEP = 256 /* moves, or looks at expired ones, of one turn */, BACKOFF_MAX_MS = 86400000 };

bool group_holds(const struct group *g, uint64_t seq)
{
    if (group_has_settled(g, seq) || seqset_has(&g->passed, seq)) {
        return false;
    }
    if (!is_special(g->queue, seq)) {
        return seq < g->cursor && !lanes_have(g, seq);
    }
    if (g->queue->replaying) {
        return replay_has(g, seq);
    }
    return seq <= g->queue->visible && !seqset_has(&g->queue->specials->waiting, seq) && !lanes_have(g, seq) &&
           !g->refill;
}

/* ---- coming back -------------------------------------------------------------------------------------------------------- */

/* A number that is the same for the same delivery and otherwise as good as chance (splitmix64's finish). */
static uint64_t mixed(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

uint64_t backoff_due(const struct engine *e, const struct group *g, uint64_t seq, uint32_t attempts)
{
    const struct queue_settings *s = &g->queue->settings;
    uint64_t most = s->backoff_max_ms ? s->backoff_max_ms : BACKOFF_MAX_MS, ms = s->backoff_ms;
    if (s->backoff == BROKER_BACKOFF_NONE || !ms) {
        return 0;
    }
    if (s->backoff == BROKER_BACKOFF_EXPONENTIAL) {
        for (uint32_t i = 1; i < attempts && ms < most; i++) {
            ms *= 2;
        }
        ms = ms < most ? ms : most;
    }
    uint64_t off = ms * s->backoff_jitter_percent / 100;
    uint64_t chance = mixed(seq * 0x9e3779b97f4a7c15u + attempts + ((uint64_t)g->id << 32));
    ms -= off ? chance % (off + 1) : 0;
    return e->now.wall.ms + (ms ? ms : 1);
}

/* Settle one message for g, durably in time. */
static bool settle_one(struct engine *e, struct group *g, uint64_t seq, uint32_t key)
{
    if (!group_settle_lazily(e, g, seq, seq)) {
        return false;
    }
    key_release(e, g, key, seq);
    return true;
}

bool is_over(const struct queue *q, uint64_t seq)
{
    return (!seqset_empty(&q->expired) && seqset_has(&q->expired, seq)) ||
           (!seqset_empty(&q->ended) && seqset_has(&q->ended, seq));
}

bool message_over(struct engine *e, struct group *g, uint64_t seq, uint32_t key)
{
    struct queue *q = g->queue;
    if (seqset_has(&q->ended, seq)) {
        return settle_one(e, g, seq, key);
    }
    if (!seqset_add(&g->passed, seq, seq)) { /* not held any more: it expires as if it had never been handed out */
        return false;
    }
    key_release(e, g, key, seq);
    expiring_wake(e, q, seq);
    return true;
}

static void dying_wake(struct engine *e, struct group *g)
{
    if (!g->is_dying && !TAILQ_EMPTY(&g->dying)) {
        TAILQ_INSERT_TAIL(&e->dying, g, in_dying);
        g->is_dying = true;
    }
}

static bool dying_add(struct engine *e, struct group *g, const struct lease_entry *entry, const char *reason)
{
    struct dying *d = malloc(sizeof *d);
    if (!d) {
        return false;
    }
    *d = (struct dying){.seq = entry->seq, .attempts = entry->attempts, .key = entry->key, .reason = reason};
    TAILQ_INSERT_TAIL(&g->dying, d, link);
    g->unlooked += d->key == KEY_UNKNOWN;
    dying_wake(e, g);
    return true;
}

/* What the backoff decided on survives a restart, if there is room for it. */
static void note_due(struct engine *e, const struct group *g, const struct lease_entry *entry, uint64_t due_wall_ms)
{
    uint8_t body[32] = {0};
    uint64_t index;
    put_u32(body, g->id);
    put_u32(body + 4, 1);
    put_u64(body + 8, entry->seq);
    put_u64(body + 16, due_wall_ms);
    put_u32(body + 24, entry->attempts);
    engine_append(e, RECORD_RETURN, g->queue->id, 0, body, sizeof body, DURABILITY_LAZY, &index);
}

bool message_came_back(struct engine *e, struct group *g, const struct lease_entry *entry, uint64_t due_wall_ms)
{
    struct queue *q = g->queue;
    if (group_has_settled(g, entry->seq)) {
        key_release(e, g, entry->key, entry->seq);
        return true;
    }
    if (is_over(q, entry->seq)) {
        return message_over(e, g, entry->seq, entry->key);
    }
    if (q->settings.max_attempts && entry->attempts >= q->settings.max_attempts) {
        return dying_add(e, g, entry, "max_attempts");
    }
    if (!due_wall_ms && (due_wall_ms = backoff_due(e, g, entry->seq, entry->attempts))) {
        note_due(e, g, entry, due_wall_ms);
    }
    return group_return(e, g, entry, due_wall_ms);
}

bool message_reject(struct engine *e, struct group *g, const struct lease_entry *entry)
{
    if (group_has_settled(g, entry->seq)) {
        key_release(e, g, entry->key, entry->seq);
        return true;
    }
    return dying_add(e, g, entry, "rejected");
}

/* ---- to the dead letters -------------------------------------------------------------------------------------------------- */

static void dying_free(struct group *g, struct dying *d)
{
    TAILQ_REMOVE(&g->dying, d, link);
    g->unlooked -= d->key == KEY_UNKNOWN;
    free(d);
}

void dying_drop(struct engine *e, struct group *g, uint64_t first, uint64_t last)
{
    struct dying *d = TAILQ_FIRST(&g->dying);
    while (d) {
        struct dying *next = TAILQ_NEXT(d, link);
        if (d->seq >= first && d->seq <= last) {
            key_release(e, g, d->key, d->seq);
            dying_free(g, d);
        }
        d = next;
    }
    if (g->is_dying && TAILQ_EMPTY(&g->dying)) {
        TAILQ_REMOVE(&e->dying, g, in_dying);
        g->is_dying = false;
    }
}

enum step { STEP_DONE, STEP_WAIT /* for a read */, STEP_LATER /* no room, no memory */ };

static enum step bury(struct engine *e, struct group *g, struct dying *d)
{
    struct queue *q = g->queue;
    struct stored_message message;
    uint32_t got = 0;
    uint64_t damaged, index;
    enum read_status status = group_has_settled(g, d->seq) ? READ_END
                                                           : e->ops->read(e->store, q->id, d->seq, d->seq, 1,
                                                                          UINT64_MAX, &message, &got, &damaged);
    struct lease_entry entry = {.seq = d->seq, .attempts = d->attempts, .key = d->key};
    if (status == READ_PENDING) {
        return STEP_WAIT;
    }
    if (status == READ_DAMAGED) { /* back to the group: its consumers are told */
        return group_return(e, g, &entry, 0) ? STEP_DONE : STEP_LATER;
    }
    if (status == READ_END) {
        return settle_one(e, g, d->seq, d->key) ? STEP_DONE : STEP_LATER;
    }
    broker_error error;
    struct queue *to = dead_letter_queue(e, q, &error);
    uint8_t body[ONE_RANGE_BYTES];
    put_one_range(body, g->id, d->seq, d->seq);
    struct dead_note note = {.reason = d->reason, .group = g, .attempts = d->attempts};
    struct move move = {.from = q,
                        .to = to,
                        .message = &message,
                        .note = &note,
                        .end_type = RECORD_SETTLE,
                        .end_body = body,
                        .end_len = sizeof body};
    if (!to || (error = message_move(e, &move, &index))) {
        return STEP_LATER;
    }
    group_settle(e, g, d->seq, d->seq);
    key_release(e, g, d->key, d->seq);
    q->counters.dead_lettered++;
    e->stats.dead_lettered++;
    return STEP_DONE;
}

static void group_bury(struct engine *e, struct group *g, uint32_t *left)
{
    struct dying *d;
    while (*left && (d = TAILQ_FIRST(&g->dying))) {
        enum step step = bury(e, g, d);
        if (step == STEP_WAIT) {
            return; /* dying_readable wakes it */
        }
        if (step == STEP_LATER) {
            e->retry_ms = e->now.mono.ms + RETRY_MS;
            --*left;
            return;
        }
        dying_free(g, d);
        --*left;
    }
    dying_wake(e, g);
}

/* ---- expired ---------------------------------------------------------------------------------------------------------------- */

void expiring_wake(struct engine *e, struct queue *q, uint64_t from)
{
    q->expire_at = from < q->expire_at ? from : q->expire_at;
    if (!q->is_expiring) {
        TAILQ_INSERT_TAIL(&e->expiring, q, in_expiring);
        q->is_expiring = true;
    }
}

static bool is_for_somebody(const struct queue *q, uint64_t seq)
{
    const struct group *g;
    LIST_FOREACH(g, &q->groups, of_queue)
    {
        if (!group_has_settled(g, seq) && !group_holds(g, seq)) {
            return true;
        }
    }
    return q->settings.retention == BROKER_RETENTION_LOG && seq > q->trimmed && !seqset_has(&q->gone, seq);
}

/* One expired message: its copy among the dead letters if that is wanted, and its end. */
static enum step expire_one(struct engine *e, struct queue *q, uint64_t seq)
{
    uint8_t body[ONE_RANGE_BYTES];
    uint64_t index, damaged;
    put_one_range(body, 0, seq, seq);
    struct stored_message message;
    uint32_t got = 0;
    enum read_status status = READ_END;
    if (q->settings.dead_letter_expired) {
        status = e->ops->read(e->store, q->id, seq, seq, 1, UINT64_MAX, &message, &got, &damaged);
    }
    broker_error error;
    if (status == READ_PENDING) {
        return STEP_WAIT;
    }
    if (status == READ_OK) {
        struct queue *to = dead_letter_queue(e, q, &error);
        struct dead_note note = {.reason = "expired"};
        struct move move = {.from = q,
                            .to = to,
                            .message = &message,
                            .note = &note,
                            .end_type = RECORD_EXPIRE,
                            .end_body = body,
                            .end_len = sizeof body};
        error = to ? message_move(e, &move, &index) : error;
        q->counters.dead_lettered += !error;
        e->stats.dead_lettered += !error;
    } else { /* not wanted; or there is nothing to be read: then only its end is left */
        error = engine_append(e, RECORD_EXPIRE, q->id, 0, body, sizeof body, DURABILITY_LAZY, &index);
    }
    if (error) {
        return STEP_LATER;
    }
    queue_apply_expire_range(e, q, seq, seq);
    q->counters.expired++;
    e->stats.expired++;
    return STEP_DONE;
}

/* What every group has behind it need not be known as expired any more. */
static void prune_expired(struct queue *q)
{
    uint64_t floor = queue_floor(q);
    if (q->settings.retention == BROKER_RETENTION_WORK) {
        seqset_drop_to(&q->expired, floor);
    }
    seqset_drop_to(&q->ended, floor);
}

static void queue_expire(struct engine *e, struct queue *q, uint32_t *left)
{
    uint64_t seq;
    prune_expired(q);
    while (*left && (seq = seqset_next(&q->expired, q->expire_at)) <= q->visible) {
        enum step step = is_for_somebody(q, seq) ? expire_one(e, q, seq) : STEP_DONE;
        if (step == STEP_WAIT) {
            return; /* dying_readable wakes it */
        }
        if (step == STEP_LATER) {
            e->retry_ms = e->now.mono.ms + RETRY_MS;
            --*left;
            return;
        }
        q->expire_at = seq + 1;
        --*left;
    }
    if (!*left) { /* go on next turn, from where it is */
        expiring_wake(e, q, q->expire_at);
    } else { /* the next time from the first: what somebody held may be free by then */
        q->expire_at = 1;
    }
}

/* ---- in turns ----------------------------------------------------------------------------------------------------------------- */

static void wake_all(struct engine *e)
{
    for (struct queue *q = e->by_id; q; q = q->by_id.next) {
        dying_readable(e, q);
    }
}

void dying_run(struct engine *e)
{
    uint32_t left = STEP;
    struct group *g;
    struct queue *q;
    if (e->retry_ms && e->now.mono.ms >= e->retry_ms) {
        e->retry_ms = 0;
        wake_all(e);
    }
    if (e->retry_ms) {
        return;
    }
    while (left && (g = TAILQ_FIRST(&e->dying))) { /* whoever cannot go on leaves the list: nobody waits behind it */
        TAILQ_REMOVE(&e->dying, g, in_dying);
        g->is_dying = false;
        group_bury(e, g, &left);
    }
    left = STEP;
    while (left && (q = TAILQ_FIRST(&e->expiring))) {
        TAILQ_REMOVE(&e->expiring, q, in_expiring);
        q->is_expiring = false;
        queue_expire(e, q, &left);
    }
}

void dying_readable(struct engine *e, struct queue *q)
{
    struct group *g;
    LIST_FOREACH(g, &q->groups, of_queue)
    {
        dying_wake(e, g);
    }
    if (!seqset_empty(&q->expired)) {
        expiring_wake(e, q, q->expire_at);
    }
}

bool dying_waiting(const struct engine *e)
{
    return !e->retry_ms && (!TAILQ_EMPTY(&e->dying) || !TAILQ_EMPTY(&e->expiring));
}

/* ---- deleted ------------------------------------------------------------------------------------------------------------------- */

broker_error queue_delete_ranges(struct engine *e, struct queue *q, const uint64_t (*ranges)[2], uint32_t n,
                                 enum durability durability, uint64_t *index)
{
    uint8_t body[8 + SETTLE_ITEMS_MAX * 16];
    assert(n && n <= SETTLE_ITEMS_MAX);
    put_u32(body, 0);
    put_u32(body + 4, n);
    for (uint32_t i = 0; i < n; i++) {
        put_u64(body + 8 + i * 16, ranges[i][0]);
        put_u64(body + 16 + i * 16, ranges[i][1]);
    }
    broker_error error = engine_append(e, RECORD_DELETE, q->id, 0, body, 8 + n * 16, durability, index);
    for (uint32_t i = 0; i < n && !error; i++) {
        queue_apply_delete_range(e, q, ranges[i][0], ranges[i][1]);
    }
    return error;
}
