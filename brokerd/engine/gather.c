/*
 * What a group hands out next: by priority, and within one: what came back, by seq; then specials; then, for priority 0, what
 * was parked for its key and has its turn; then the cursor moves on.
 */
#include "gather.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    LOOK_AHEAD = 64, /* messages read at once where some may not be for handing out */
    RETRY_MS = 100
};

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
    if (group_settle_lazily(e, g, first, last)) {
        return true;
    }
    heap_set(&e->delays, &g->delay, e->now.mono.ms + RETRY_MS); /* nothing else may wake the group */
    return false;
}

/* Room for one more message of this size? The first always fits. */
static bool fits(const struct batch *b, uint64_t bytes)
{
    return b->count == 0 || b->bytes + bytes <= b->max_bytes;
}

static void batch_add(struct batch *b, const struct stored_message *m, enum source source, uint32_t attempts,
                      uint32_t key)
{
    if (&b->messages[b->count] != m) {
        b->messages[b->count] = *m;
    }
    b->attempts[b->count] = attempts;
    b->keys[b->count] = key;
    b->sources[b->count] = (uint8_t)source;
    b->bytes += m->padded_len;
    b->fresh += source == SOURCE_FRESH;
    b->count++;
}

void batch_taken(struct group *g, struct batch *b)
{
    bool passed = !seqset_empty(&g->passed);
    for (uint32_t i = 0; i < b->count && b->fresh < b->count; i++) {
        if (b->sources[i] == SOURCE_RETURNED) {
            free(b->returned[i]);
        } else if (passed && b->sources[i] != SOURCE_FRESH) {
            seqset_remove(&g->passed, b->messages[i].seq, b->messages[i].seq);
        }
    }
    if (b->fresh) {
        g->cursor = b->cursor;
    }
}

void batch_undo(struct group *g, struct batch *b)
{
    for (uint32_t i = b->count; i > 0; i--) {
        uint64_t seq = b->messages[i - 1].seq;
        if (b->sources[i - 1] == SOURCE_RETURNED) {
            struct returned *r = b->returned[i - 1];
            heap_push(&g->ready, &r->node, returned_key(r)); /* its room is still there */
            continue;
        }
        if (b->sources[i - 1] == SOURCE_LANE || (b->sources[i - 1] == SOURCE_TURN && !b->keys[i - 1])) {
            lane_add(g, specials_priority(g->queue, seq), seq);
        }
        key_untake(g, b->keys[i - 1], seq);
    }
    if (b->fresh && g->keys) { /* else what was parked behind them would go before them, and then once more */
        keys_unpark_from(g, g->cursor);
    }
}

static bool has_expired(const struct queue *q, uint64_t seq)
{
    return !seqset_empty(&q->expired) && seqset_has(&q->expired, seq);
}

/* What one message is for this group. */
enum look { LOOK_GO, LOOK_PARKED, LOOK_EXPIRED, LOOK_FILTERED, LOOK_NO_MEMORY };

/* Is there nothing about it but its bytes? Most are like that: this is asked of every message handed out. */
static inline bool is_plain(const struct group *g, const struct stored_message *m)
{
    return !g->filter && seqset_empty(&g->queue->ended) && !(m->record[9] & RECORD_HAS_EXPIRE) &&
           !get_u16(m->record + 32); /* no key */
}

static enum look look_at(struct engine *e, struct group *g, const struct stored_message *m, uint32_t *key)
{
    *key = 0;
    if (is_plain(g, m)) {
        return LOOK_GO;
    }
    if (seqset_has(&g->queue->ended, m->seq)) {
        return LOOK_FILTERED; /* this group moved back to it */
    }
    struct record_view view;
    if (record_view_get(m->record, m->padded_len, &view)) {
        return LOOK_GO; /* the store has checked it: cannot be */
    }
    if (view.expire_ms && schedule_is_past(e, view.expire_ms)) { /* the schedule is late: its times are being read */
        message_expired(e, g->queue, m->seq);
        seqset_add(&g->passed, m->seq, m->seq);
        return LOOK_EXPIRED;
    }
    if (!filter_matches(g->filter, &view)) {
        return LOOK_FILTERED;
    }
    switch (key_take(g, &view, m->seq, key)) {
    case KEY_FREE: return LOOK_GO;
    case KEY_PARKED: seqset_add(&g->passed, m->seq, m->seq); return LOOK_PARKED;
    default: return LOOK_NO_MEMORY;
    }
}

/* Read one message of its own. false: not now (pending, damaged); *gone: there is no such message any more. */
static bool read_one(struct engine *e, struct group *g, const struct batch *b, uint64_t seq, struct stored_message *m,
                     bool *gone)
{
    uint32_t got = 0;
    uint64_t damaged;
    enum read_status status = e->ops->read(e->store, g->queue->id, seq, seq, 1, UINT64_MAX, m, &got, &damaged);
    *gone = status == READ_END;
    if (status == READ_DAMAGED && !b->count) {
        report_damage(e, g, seq);
    } else if (status == READ_PENDING && !b->count) {
        g->reading = true;
    }
    return status == READ_OK;
}

/* ---- messages that came back ----------------------------------------------------------------------------------------- */

static void drop_returned(struct engine *e, struct group *g, struct returned *r)
{
    heap_remove(&g->ready, &r->node);
    g->unlooked -= r->key == KEY_UNKNOWN;
    key_release(e, g, r->key, r->seq);
    free(r);
}

/* false: its read is pending, or there is no memory. */
static bool look_at_key(struct engine *e, struct group *g, const struct batch *b, uint64_t seq, uint32_t *number)
{
    struct stored_message m;
    struct record_view view;
    bool gone;
    uint32_t key = 0;
    if (*number != KEY_UNKNOWN) {
        return true;
    }
    if (is_over(g->queue, seq)) { /* it will not go out again, and its key was free before the start */
        gone = true;
    } else if (read_one(e, g, b, seq, &m, &gone)) {
        enum key_fate fate = record_view_get(m.record, m.padded_len, &view) ? KEY_FREE : key_take(g, &view, seq, &key);
        if (fate == KEY_NO_MEMORY) {
            return false;
        }
        if (fate == KEY_PARKED) { /* its key did not matter when it was handed out: it goes without */
            keys_drop(e, g, seq, seq);
        }
    } else if (!gone) {
        return false;
    }
    *number = key;
    g->unlooked--;
    return true;
}

/* What came back by a start holds its key again before anything else goes out. false: not yet. */
static bool look_at_keys(struct engine *e, struct group *g, const struct batch *b)
{
    const struct heap *heaps[] = {&g->ready, &g->delayed};
    struct dying *d;
    TAILQ_FOREACH(d, &g->dying, link)
    {
        if (!look_at_key(e, g, b, d->seq, &d->key)) {
            return false;
        }
    }
    for (int h = 0; h < 2; h++) {
        for (size_t i = 0; g->unlooked && i < heaps[h]->len; i++) {
            struct returned *r = container_of(heaps[h]->nodes[i], struct returned, node);
            if (!look_at_key(e, g, b, r->seq, &r->key)) {
                return false;
            }
        }
    }
    return true;
}

/* Those of at least this priority. false: something hinders going on. */
static bool take_returned(struct engine *e, struct group *g, struct batch *b, uint32_t max, uint8_t priority,
                          bool *moved)
{
    struct heap_node *n;
    while (b->count < max && (n = heap_min(&g->ready))) {
        struct returned *r = container_of(n, struct returned, node);
        struct stored_message *m = &b->messages[b->count];
        bool gone;
        if (r->priority < priority) {
            return true;
        }
        if (group_has_settled(g, r->seq)) {
            drop_returned(e, g, r);
            continue;
        }
        if (is_over(g->queue, r->seq)) {
            if (!message_over(e, g, r->seq, r->key)) {
                return false;
            }
            r->key = r->key == KEY_UNKNOWN ? r->key : 0; /* it is free already */
            drop_returned(e, g, r);
            *moved = true;
            continue;
        }
        if (!read_one(e, g, b, r->seq, m, &gone)) {
            if (!gone || !settle_hole(e, g, r->seq, r->seq)) {
                return false;
            }
            drop_returned(e, g, r);
            *moved = true;
            continue;
        }
        if (!fits(b, m->padded_len)) {
            return false;
        }
        b->returned[b->count] = r;
        if (r->key == KEY_UNKNOWN) { /* keys do not matter here */
            r->key = 0;
            g->unlooked--;
        }
        batch_add(b, m, SOURCE_RETURNED, r->attempts + 1, r->key);
        heap_remove(&g->ready, &r->node);
    }
    return b->count < max;
}

/* ---- specials -------------------------------------------------------------------------------------------------------- */

/* Settle what is not for this group, or not there; false: not possible now. */
static bool skip(struct engine *e, struct group *g, uint64_t seq, bool *moved)
{
    bool done = settle_hole(e, g, seq, seq);
    if (done && g->keys) {
        keys_drop(e, g, seq, seq); /* it may be the one that its key waits for */
    }
    *moved |= done;
    return done;
}

static bool take_lane(struct engine *e, struct group *g, struct batch *b, uint32_t max, uint8_t priority, bool *moved)
{
    struct seqset *lane = &g->lanes->ready[priority];
    uint64_t seq = 0;
    while (b->count < max && e->scan_budget && (seq = seqset_next(lane, seq + 1)) != UINT64_MAX) {
        struct stored_message *m = &b->messages[b->count];
        uint32_t key;
        bool gone;
        if (has_expired(g->queue, seq)) { /* about to go */
            e->scan_budget--;
            continue;
        }
        if (!read_one(e, g, b, seq, m, &gone)) {
            if (!gone || !skip(e, g, seq, moved)) {
                return false;
            }
            continue;
        }
        if (!fits(b, m->padded_len)) {
            return false;
        }
        enum look look = look_at(e, g, m, &key);
        if (look == LOOK_NO_MEMORY || (look == LOOK_FILTERED && !skip(e, g, seq, moved))) {
            return false;
        }
        seqset_remove(lane, seq, seq);
        e->scan_budget--;
        if (look == LOOK_GO) {
            batch_add(b, m, SOURCE_LANE, 1, key);
        } else {
            *moved = true;
        }
    }
    return b->count < max;
}

/* ---- what was parked --------------------------------------------------------------------------------------------------- */

/* false: something hinders going on. */
static bool take_turns(struct engine *e, struct group *g, struct batch *b, uint32_t max, bool *moved)
{
    uint64_t seq;
    while (b->count < max && keys_next(g, &seq)) {
        struct stored_message *m = &b->messages[b->count];
        uint32_t key;
        bool gone;
        if (group_has_settled(g, seq) || has_expired(g->queue, seq)) {
            keys_drop(e, g, seq, seq);
            *moved = true;
            continue;
        }
        if (!read_one(e, g, b, seq, m, &gone)) {
            if (!gone || !skip(e, g, seq, moved)) {
                return false;
            }
            continue;
        }
        if (!fits(b, m->padded_len)) {
            return false;
        }
        enum look look = look_at(e, g, m, &key);
        if (look == LOOK_EXPIRED || (look == LOOK_FILTERED && skip(e, g, seq, moved))) {
            continue; /* it is among the expired now, or the filter came after it was parked */
        }
        if (look != LOOK_GO) {
            return false;
        }
        if (!key) { /* keys do not matter any more: it was parked while they did */
            keys_drop(e, g, seq, seq);
        }
        batch_add(b, m, SOURCE_TURN, 1, key);
    }
    return b->count < max;
}

/* ---- from the cursor on ------------------------------------------------------------------------------------------------ */

/* From `at` past what is settled (dead before this group came or moved) and past specials. */
static uint64_t next_fresh(const struct group *g, uint64_t at)
{
    const struct specials *s = g->queue->specials;
    for (;;) {
        uint64_t was = at;
        at = at > g->floor ? at : g->floor + 1;
        if (!seqset_empty(&g->settled) && g->settled.most >= at) {
            at = group_next_unsettled(g, at);
        }
        if (s && !seqset_empty(&s->all)) {
            at = seqset_next_absent(&s->all, at);
        }
        if (at == was) {
            return at;
        }
    }
}

/* How far one read from `at` may go: to the next settled or special one. */
static uint64_t fresh_end(const struct group *g, uint64_t at)
{
    uint64_t to = g->queue->visible, settled = seqset_next(&g->settled, at);
    to = settled <= to ? settled - 1 : to;
    if (g->queue->specials) {
        uint64_t special = seqset_next(&g->queue->specials->all, at);
        to = special <= to ? special - 1 : to;
    }
    return to;
}

/* Take of the messages read what may go, in order; returns the seq after the last one looked at. *stop: it went no further
   because something hinders. */
static uint64_t pick_fresh(struct engine *e, struct group *g, struct batch *b, uint32_t max,
                           const struct stored_message *read, uint32_t got, bool *stop)
{
    uint64_t seq = read[0].seq;
    for (uint32_t i = 0; i < got && read[i].seq == seq && b->count < max; i++, seq++) {
        uint32_t key;
        *stop = !fits(b, read[i].padded_len);
        if (*stop) {
            return seq;
        }
        if (has_expired(g->queue, seq)) {
            *stop = !seqset_add(&g->passed, seq, seq);
            if (*stop) {
                return seq;
            }
            e->scan_budget -= e->scan_budget > 0;
            continue;
        }
        if (is_plain(g, &read[i])) {
            batch_add(b, &read[i], SOURCE_FRESH, 1, 0);
            continue;
        }
        enum look look = look_at(e, g, &read[i], &key);
        *stop = look == LOOK_NO_MEMORY || (look == LOOK_FILTERED && !settle_hole(e, g, seq, seq));
        if (*stop) {
            return seq;
        }
        if (look == LOOK_GO) {
            batch_add(b, &read[i], SOURCE_FRESH, 1, key);
        } else {
            e->scan_budget -= e->scan_budget > 0;
        }
    }
    return seq;
}

/* One read's worth. false: no further. */
static bool take_read(struct engine *e, struct group *g, struct batch *b, uint32_t max, uint64_t *at)
{
    struct stored_message read[LOOK_AHEAD];
    bool ahead = g->keys || g->filter || b->count;
    struct stored_message *into = ahead ? read : b->messages; /* plain ones are read where they stay */
    uint32_t got = 0, wanted = ahead ? LOOK_AHEAD : max;
    uint64_t to = fresh_end(g, *at), damaged, room = b->count ? b->max_bytes - b->bytes : b->max_bytes;
    enum read_status status = e->ops->read(e->store, g->queue->id, *at, to, wanted, room, into, &got, &damaged);
    if (status == READ_PENDING || status == READ_DAMAGED) {
        if (!b->count && status == READ_PENDING) {
            g->reading = true;
        } else if (!b->count) {
            report_damage(e, g, damaged);
        }
        return false;
    }
    uint64_t first = status == READ_END ? to + 1 : into[0].seq;
    if (first > *at) { /* a hole before it */
        if (!settle_hole(e, g, *at, first - 1)) {
            return false;
        }
        *at = first;
        if (status == READ_END) {
            return true;
        }
    }
    bool stop = false;
    uint32_t before = b->count;
    *at = pick_fresh(e, g, b, max, into, got, &stop);
    return !stop && b->count < max && b->count - before < got; /* all taken: the next turn reads on */
}

static void take_fresh(struct engine *e, struct group *g, struct batch *b, uint32_t max, bool *moved)
{
    uint64_t at = g->cursor = next_fresh(g, g->cursor);
    bool more = true;
    while (more && at <= g->queue->visible && b->count < max && e->scan_budget) {
        more = take_read(e, g, b, max, &at);
        at = next_fresh(g, at);
    }
    if (b->fresh) {
        b->cursor = at;
    } else if (at > g->cursor) {
        g->cursor = at;
        *moved = true;
    }
}

/* ---- all of it --------------------------------------------------------------------------------------------------------- */

/* What came back, and specials, by priority. false: do not look further. */
static bool gather_first(struct engine *e, struct group *g, struct batch *b, uint32_t max, bool *moved)
{
    bool go_on = true;
    for (int p = PRIORITIES - 1; p >= 0 && go_on && (g->lanes || heap_min(&g->ready)); p--) {
        go_on = take_returned(e, g, b, max, (uint8_t)p, moved);
        if (go_on && g->lanes && !seqset_empty(&g->lanes->ready[p])) {
            go_on = take_lane(e, g, b, max, (uint8_t)p, moved);
        }
    }
    return go_on && !b->count;
}

/* May more be looked for? Not if a read is pending, or damage has sent the consumers away. */
static bool may_go_on(const struct group *g, const struct batch *b, uint32_t max)
{
    return b->count < max && !g->reading && !TAILQ_EMPTY(&g->ready_consumers);
}

/* Keys take turns: what is new and what was parked go first alternately, so that neither starves the other. */
static void gather_fairly(struct engine *e, struct group *g, struct batch *b, uint32_t max, bool *moved)
{
    if (g->keys && !g->parked_served_last) {
        take_turns(e, g, b, (max + 1) / 2, moved);
    }
    g->parked_served_last = b->count > 0;
    if (may_go_on(g, b, max)) {
        take_fresh(e, g, b, max, moved);
    }
    if (g->keys && may_go_on(g, b, max)) {
        take_turns(e, g, b, max, moved);
    }
}

enum progress gather(struct engine *e, struct group *g, struct batch *b, uint32_t max)
{
    bool moved = false;
    if (g->unlooked && keys_matter(g->queue) && !look_at_keys(e, g, b)) {
        return PROGRESS_NONE;
    }
    if (gather_first(e, g, b, max, &moved)) {
        if (g->queue->settings.fair_keys) {
            gather_fairly(e, g, b, max, &moved);
        } else if (!g->keys || take_turns(e, g, b, max, &moved)) {
            take_fresh(e, g, b, max, &moved);
        }
    }
    return b->count ? PROGRESS_SOME : moved ? PROGRESS_AGAIN : PROGRESS_NONE;
}
