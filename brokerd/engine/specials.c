/*
 * Specials: messages that do not go out in the order of their seqs, for they have a priority or wait for their time. Cursors
 * pass over them. A group's lanes hold, by priority, those that can be handed out; and the plain messages that a start found
 * passed over and never handed out.
 */
#include <stdlib.h>
#include <string.h>

#include "engine_internal.h"

enum { PRUNE_EVERY = 1024 /* specials noted */ };

bool message_is_special(const struct record_view *view)
{
    return view->head.priority || view->due_ms > view->head.time_ms;
}

bool is_special(const struct queue *q, uint64_t seq)
{
    return q->specials && seqset_has(&q->specials->all, seq);
}

static bool is_waiting(const struct queue *q, uint64_t seq)
{
    return q->specials && seqset_has(&q->specials->waiting, seq);
}

uint8_t specials_priority(const struct queue *q, uint64_t seq)
{
    for (uint8_t p = PRIORITIES - 1; q->specials && p > 0; p--) {
        if (seqset_has(&q->specials->by_priority[p], seq)) {
            return p;
        }
    }
    return 0;
}

static struct specials *specials_of(struct queue *q)
{
    if (!q->specials && (q->specials = calloc(1, sizeof *q->specials))) {
        seqset_init(&q->specials->all);
        seqset_init(&q->specials->waiting);
        for (int p = 0; p < PRIORITIES; p++) {
            seqset_init(&q->specials->by_priority[p]);
        }
    }
    return q->specials;
}

/* What every group has behind it need not be known as special any more. */
static void specials_prune(struct engine *e, struct queue *q)
{
    if (!q->specials) {
        return;
    }
    uint64_t floor = queue_floor(q);
    if (q->settings.retention == BROKER_RETENTION_LOG && floor > q->trimmed) {
        floor = q->trimmed; /* a group may go back there */
    }
    struct specials *s = q->specials;
    e->stats.scheduled -= seqset_empty(&s->waiting) ? 0 : seqset_count(&s->waiting, 1, floor);
    seqset_drop_to(&s->all, floor);
    seqset_drop_to(&s->waiting, floor);
    for (int p = 1; p < PRIORITIES; p++) {
        seqset_drop_to(&s->by_priority[p], floor);
    }
}

bool specials_note(struct engine *e, struct queue *q, const struct record_view *view, uint64_t seq)
{
    struct specials *s = specials_of(q);
    uint8_t priority = view->head.priority;
    if (s && s->all.adds % PRUNE_EVERY == PRUNE_EVERY - 1) {
        specials_prune(e, q);
    }
    if (!s || !seqset_add(&s->all, seq, seq)) {
        return false;
    }
    bool waits = view->due_ms > view->head.time_ms;
    if ((priority && !seqset_add(&s->by_priority[priority], seq, seq)) ||
        (waits && !seqset_add(&s->waiting, seq, seq))) {
        seqset_remove(&s->all, seq, seq);
        seqset_remove(&s->by_priority[priority], seq, seq);
        seqset_remove(&s->waiting, seq, seq);
        return false;
    }
    e->stats.scheduled += waits;
    return true;
}

static struct rescheduled *rescheduled_find(const struct specials *s, uint64_t seq)
{
    struct rescheduled *r;
    HASH_FIND(hh, s->rescheduled, &seq, sizeof seq, r);
    return r;
}

static void rescheduled_forget(struct specials *s, struct rescheduled *r)
{
    HASH_DEL(s->rescheduled, r);
    free(r);
}

void specials_forget(struct engine *e, struct queue *q, uint64_t first, uint64_t last)
{
    struct specials *s = q->specials;
    if (!s || seqset_next(&s->all, first) > last) {
        return;
    }
    e->stats.scheduled -= seqset_count(&s->waiting, first, last);
    seqset_remove(&s->all, first, last);
    seqset_remove(&s->waiting, first, last);
    for (int p = 1; p < PRIORITIES; p++) {
        seqset_remove(&s->by_priority[p], first, last);
    }
    struct rescheduled *r, *next;
    if (first == last) {
        if ((r = rescheduled_find(s, first))) {
            rescheduled_forget(s, r);
        }
        return;
    }
    HASH_ITER(hh, s->rescheduled, r, next)
    {
        if (r->seq >= first && r->seq <= last) {
            rescheduled_forget(s, r);
        }
    }
}

void specials_free(struct queue *q)
{
    struct specials *s = q->specials;
    if (!s) {
        return;
    }
    seqset_release(&s->all);
    seqset_release(&s->waiting);
    for (int p = 0; p < PRIORITIES; p++) {
        seqset_release(&s->by_priority[p]);
    }
    struct rescheduled *r, *next;
    HASH_ITER(hh, s->rescheduled, r, next)
    {
        rescheduled_forget(s, r);
    }
    free(s);
    q->specials = NULL;
}

/* ---- lanes --------------------------------------------------------------------------------------------------------- */

bool lane_add(struct group *g, uint8_t priority, uint64_t seq)
{
    if (group_has_settled(g, seq)) {
        return true;
    }
    if (!g->lanes && (g->lanes = calloc(1, sizeof *g->lanes))) {
        for (int p = 0; p < PRIORITIES; p++) {
            seqset_init(&g->lanes->ready[p]);
        }
    }
    if (!g->lanes || !seqset_add(&g->lanes->ready[priority], seq, seq)) {
        g->refill = true;
        return false;
    }
    return true;
}

void lane_remove(struct group *g, uint64_t first, uint64_t last)
{
    for (int p = 0; g->lanes && p < PRIORITIES; p++) {
        seqset_remove(&g->lanes->ready[p], first, last);
    }
}

void lanes_free(struct group *g)
{
    for (int p = 0; g->lanes && p < PRIORITIES; p++) {
        seqset_release(&g->lanes->ready[p]);
    }
    free(g->lanes);
    g->lanes = NULL;
}

bool lanes_have(const struct group *g, uint64_t seq)
{
    for (int p = 0; g->lanes && p < PRIORITIES; p++) {
        if (seqset_has(&g->lanes->ready[p], seq)) {
            return true;
        }
    }
    return false;
}

void specials_visible(struct engine *e, struct queue *q, uint64_t from, uint64_t to)
{
    struct specials *s = q->specials;
    for (uint64_t seq = seqset_next(&s->all, from); seq <= to; seq = seqset_next(&s->all, seq + 1)) {
        if (seqset_has(&s->waiting, seq)) {
            continue;
        }
        uint8_t priority = specials_priority(q, seq);
        struct group *g;
        LIST_FOREACH(g, &q->groups, of_queue)
        {
            lane_add(g, priority, seq);
            group_wake(e, g);
        }
    }
}

/* Lane p gets `from` without what waits, is settled, or cannot be seen yet. */
static bool fill_lane(struct group *g, int p, const struct seqset *from)
{
    struct seqset *lane = &g->lanes->ready[p];
    if (!seqset_add_all(lane, from)) {
        return false;
    }
    if (g->queue->specials) {
        seqset_remove_all(lane, &g->queue->specials->waiting);
    }
    seqset_remove_all(lane, &g->settled);
    seqset_drop_to(lane, g->floor);
    seqset_remove(lane, g->queue->visible + 1, UINT64_MAX);
    return true;
}

static void take_out_returned(struct group *g, const struct heap *h)
{
    for (size_t i = 0; i < h->len; i++) {
        uint64_t seq = container_of(h->nodes[i], struct returned, node)->seq;
        lane_remove(g, seq, seq);
    }
}

/* What is handed out, came back or dies is no lane's. None of it is there at a start or after a move; at a refill it is. */
static void take_out_held(struct group *g)
{
    const struct lease_block *b;
    const struct dying *d;
    TAILQ_FOREACH(b, &g->blocks, of_group)
    {
        for (uint64_t left = b->live; left; left &= left - 1) {
            uint64_t seq = b->entries[__builtin_ctzll(left)].seq;
            lane_remove(g, seq, seq);
        }
    }
    TAILQ_FOREACH(d, &g->dying, link)
    {
        lane_remove(g, d->seq, d->seq);
    }
    take_out_returned(g, &g->ready);
    take_out_returned(g, &g->delayed);
}

bool specials_fill(struct group *g)
{
    struct specials *s = g->queue->specials;
    bool special = s && !seqset_empty(&s->all);
    lanes_free(g);
    g->refill = false;
    if (!special && seqset_empty(&g->passed)) {
        return true;
    }
    g->lanes = calloc(1, sizeof *g->lanes);
    bool ok = g->lanes && fill_lane(g, 0, &g->passed) && (!special || fill_lane(g, 0, &s->all));
    for (int p = 1; ok && special && p < PRIORITIES; p++) {
        if (!seqset_empty(&s->by_priority[p])) {
            seqset_remove_all(&g->lanes->ready[0], &s->by_priority[p]);
            ok = fill_lane(g, p, &s->by_priority[p]);
        }
    }
    if (ok) {
        take_out_held(g);
    }
    g->refill = !ok;
    return ok;
}

/* ---- times ----------------------------------------------------------------------------------------------------------- */

static bool is_wanted(const struct queue *q, uint64_t seq)
{
    if (seq >= q->next_seq || seq <= q->trimmed || seqset_has(&q->gone, seq)) {
        return false;
    }
    const struct group *g;
    LIST_FOREACH(g, &q->groups, of_queue)
    {
        if (!group_has_settled(g, seq)) {
            return true;
        }
    }
    return q->settings.retention == BROKER_RETENTION_LOG;
}

bool schedule_wanted(const struct engine *e, enum schedule_kind kind, uint32_t queue, uint64_t seq, uint64_t at_wall_ms)
{
    const struct queue *q = queue_by_id(e, queue);
    if (!q) {
        return false;
    }
    if (kind == SCHEDULE_EXPIRE) {
        return seq >= q->next_seq /* being stored right now */ || is_wanted(q, seq);
    }
    const struct rescheduled *r = is_waiting(q, seq) ? rescheduled_find(q->specials, seq) : NULL;
    return is_waiting(q, seq) && (!r || r->due_ms == at_wall_ms);
}

void specials_due(struct engine *e, struct queue *q, uint64_t seq)
{
    struct rescheduled *r = rescheduled_find(q->specials, seq);
    if (r) {
        rescheduled_forget(q->specials, r);
    }
    seqset_remove(&q->specials->waiting, seq, seq);
    e->stats.scheduled--;
    if (seq <= q->visible && !e->replaying) {
        specials_visible(e, q, seq, seq);
    }
}

void message_expired(struct engine *e, struct queue *q, uint64_t seq)
{
    if (seqset_has(&q->ended, seq)) { /* it was before the start */
        return;
    }
    if (!seqset_add(&q->expired, seq, seq)) {
        schedule_add(e, SCHEDULE_EXPIRE, q->id, seq, e->now.wall.ms + 1000); /* no memory: later */
        return;
    }
    expiring_wake(e, q, seq);
}

void schedule_fired(struct engine *e, enum schedule_kind kind, uint32_t queue, uint64_t seq, uint64_t at_wall_ms)
{
    if (schedule_wanted(e, kind, queue, seq, at_wall_ms)) {
        struct queue *q = queue_by_id(e, queue);
        if (kind == SCHEDULE_DUE) {
            specials_due(e, q, seq);
        } else if (seq < q->next_seq) {
            message_expired(e, q, seq);
        }
    }
}

/* A waiting message gets another time. The old entry of the schedule is a hint that no longer matches. */
static bool apply_reschedule(struct engine *e, struct queue *q, uint64_t seq, uint64_t due_ms)
{
    struct rescheduled *r = rescheduled_find(q->specials, seq);
    if (!r) {
        r = calloc(1, sizeof *r);
        if (!r) {
            return false;
        }
        r->seq = seq;
        HASH_ADD(hh, q->specials->rescheduled, seq, sizeof r->seq, r);
        if (!r->hh.tbl) {
            free(r);
            return false;
        }
    }
    r->due_ms = due_ms;
    return true;
}

void reschedule(struct engine *e, const struct command *c)
{
    struct queue *q = queue_of(e, c);
    uint64_t seq = c->u.reschedule.seq, index;
    if (!q) {
        return;
    }
    if (!is_waiting(q, seq) || seq > q->visible || !is_wanted(q, seq)) {
        engine_fail(e, c, BROKER_MESSAGE_NOT_FOUND, 0,
                    "message %llu of queue '%s' does not wait for its time: it is due already, or gone",
                    (unsigned long long)seq, q->name);
        return;
    }
    uint64_t now = e->now.wall.ms, due = c->u.reschedule.due_ms + (c->u.reschedule.is_delay ? now : 0);
    if (c->u.reschedule.due_ms > FAR_MS + (c->u.reschedule.is_delay ? 0 : now)) {
        engine_fail(e, c, BROKER_INVALID_ARGUMENT, 0, "a message cannot wait for %llu: at most 100 years from now",
                    (unsigned long long)c->u.reschedule.due_ms);
        return;
    }
    due = due > now ? due : now;
    uint8_t body[8];
    put_u64(body, due);
    broker_error error = pending_reserve(&e->synced) ? engine_append(e, RECORD_RESCHEDULE, q->id, seq, body,
                                                                     sizeof body, DURABILITY_SYNCED, &index)
                                                     : BROKER_NO_MEMORY;
    if (error) {
        engine_append_failed(e, c, error);
        return;
    }
    if (!apply_reschedule(e, q, seq, due) || !schedule_add(e, SCHEDULE_DUE, q->id, seq, due)) {
        specials_due(e, q, seq); /* no memory: rather now than never */
    }
    pending_push(e, DURABILITY_SYNCED, &(struct pending){.index = index, .token = c->token, .type = c->type});
}

broker_error reschedule_replay(struct engine *e, struct queue *q, uint64_t seq, const uint8_t *body, size_t len,
                               const char **text)
{
    if (len < 8 || seq >= q->next_seq) {
        *text = "a reschedule names a message its queue does not have";
        return BROKER_MALFORMED;
    }
    if (is_waiting(q, seq) &&
        (!apply_reschedule(e, q, seq, get_u64(body)) || !schedule_add(e, SCHEDULE_DUE, q->id, seq, get_u64(body)))) {
        *text = "out of memory";
        return BROKER_NO_MEMORY;
    }
    return BROKER_OK;
}

/* ---- snapshot ---------------------------------------------------------------------------------------------------------- */

/* u32 has (0: nothing follows), u32 rescheduled, sets all, waiting, by_priority[1..9], rescheduled * (u64 seq, u64 due) */
bool specials_save(const struct queue *q, struct buf *out)
{
    const struct specials *s = q->specials;
    if (!s || seqset_empty(&s->all)) {
        return buf_put_u32(out, 0);
    }
    bool ok = buf_put_u32(out, 1) && buf_put_u32(out, HASH_COUNT(s->rescheduled)) && seqset_save(&s->all, out) &&
              seqset_save(&s->waiting, out);
    for (int p = 1; ok && p < PRIORITIES; p++) {
        ok = seqset_save(&s->by_priority[p], out);
    }
    for (const struct rescheduled *r = s->rescheduled; ok && r; r = r->hh.next) {
        ok = buf_put_u64(out, r->seq) && buf_put_u64(out, r->due_ms);
    }
    return ok;
}

bool specials_load(struct engine *e, struct queue *q, struct reader *r)
{
    uint32_t has = reader_u32(r), rescheduled = has ? reader_u32(r) : 0;
    if (!has) {
        return !r->error;
    }
    struct specials *s = specials_of(q);
    if (!s) {
        return reader_refuse(r, BROKER_NO_MEMORY, "out of memory");
    }
    bool ok = reader_seqset(r, &s->all) && reader_seqset(r, &s->waiting);
    for (int p = 1; ok && p < PRIORITIES; p++) {
        ok = reader_seqset(r, &s->by_priority[p]);
    }
    if (ok && s->all.most >= q->next_seq) {
        return reader_refuse(r, BROKER_MALFORMED, "a queue's special messages are outside it");
    }
    for (uint32_t i = 0; ok && !r->error && i < rescheduled; i++) {
        uint64_t seq = reader_u64(r), due = reader_u64(r);
        ok = !r->error && (!is_waiting(q, seq) || apply_reschedule(e, q, seq, due) ||
                           reader_refuse(r, BROKER_NO_MEMORY, "out of memory"));
    }
    e->stats.scheduled += seqset_empty(&s->waiting) ? 0 : seqset_count(&s->waiting, 1, q->next_seq);
    return ok && !r->error;
}
