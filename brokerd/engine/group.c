/* A group's position on its queue: what is settled, what came back, and moving it. */
#include <stdlib.h>
#include <string.h>

#include "engine_internal.h"

struct group *group_find(const struct queue *q, struct name name)
{
    struct group *g;
    if (!name.len) {
        name = (struct name){.bytes = "default", .len = 7};
    }
    LIST_FOREACH(g, &q->groups, of_queue)
    {
        if (strlen(g->name) == name.len && memcmp(g->name, name.bytes, name.len) == 0) {
            return g;
        }
    }
    return NULL;
}

struct group *group_by_id(const struct queue *q, uint32_t id)
{
    struct group *g;
    LIST_FOREACH(g, &q->groups, of_queue)
    {
        if (g->id == id) {
            return g;
        }
    }
    return NULL;
}

struct group *group_of(struct engine *e, const struct command *c, struct queue *q)
{
    struct group *g = group_find(q, c->group);
    if (!g) {
        engine_fail(e, c, BROKER_GROUP_NOT_FOUND, 0, "queue '%s' has no group '%.*s': create it first", q->name,
                    c->group.len ? (int)c->group.len : 7, c->group.len ? c->group.bytes : "default");
    }
    return g;
}

struct group *group_add(struct engine *e, struct queue *q, uint32_t id, struct name name, uint64_t cursor)
{
    struct group *g = calloc(1, sizeof *g + name.len + 1);
    if (!g) {
        return NULL;
    }
    memcpy(g->name, name.bytes, name.len);
    g->queue = q;
    g->id = id;
    g->cursor = cursor;
    g->floor = cursor - 1;
    seqset_init(&g->settled);
    seqset_init(&g->passed);
    heap_init(&g->ready);
    heap_init(&g->delayed);
    TAILQ_INIT(&g->dying);
    TAILQ_INIT(&g->consumers);
    TAILQ_INIT(&g->ready_consumers);
    TAILQ_INIT(&g->blocks);
    LIST_INSERT_HEAD(&q->groups, g, of_queue);
    q->group_count++;
    if (id >= q->next_group_id) {
        q->next_group_id = id + 1;
    }
    e->stats.groups++;
    return g;
}

static void drop_all_returned(struct engine *e, struct group *g)
{
    group_drop_returned(e, g, 1, UINT64_MAX);
    dying_drop(e, g, 1, UINT64_MAX);
    keys_free(g);
    seqset_release(&g->passed);
    heap_release(&g->ready);
    heap_release(&g->delayed);
    heap_remove(&e->delays, &g->delay);
}

void group_remove(struct engine *e, struct group *g, broker_error why, const char *text)
{
    struct consumer *consumer;
    leases_drop(e, g, 1, UINT64_MAX); /* nothing comes back, so nothing more about this group goes to the log */
    while ((consumer = TAILQ_FIRST(&g->consumers))) {
        consumer_end(e, consumer, why, text);
    }
    drop_all_returned(e, g);
    lanes_free(g);
    g->queue->filtered -= g->filter != NULL;
    filter_free(g->filter);
    seqset_release(&g->settled);
    if (g->dispatching) {
        TAILQ_REMOVE(&e->dispatch, g, in_dispatch);
    }
    replay_free(g);
    LIST_REMOVE(g, of_queue);
    g->queue->group_count--;
    e->stats.groups--;
    free(g);
}

/* ---- settled ----------------------------------------------------------------------------------------------------- */

bool group_has_settled(const struct group *g, uint64_t seq)
{
    return seq <= g->floor || seqset_has(&g->settled, seq);
}

uint64_t group_next_settled(const struct group *g, uint64_t from)
{
    return from <= g->floor ? from : seqset_next(&g->settled, from);
}

uint64_t group_next_unsettled(const struct group *g, uint64_t from)
{
    return seqset_next_absent(&g->settled, from > g->floor ? from : g->floor + 1);
}

static void raise_floor(struct group *g)
{
    g->floor = seqset_next_absent(&g->settled, g->floor + 1) - 1;
    seqset_drop_to(&g->settled, g->floor);
    if (g->cursor <= g->floor) {
        g->cursor = g->floor + 1;
    }
}

struct dead_report {
    struct engine *e;
    struct queue *q;
};

static bool report(void *arg, uint64_t first, uint64_t last)
{
    struct dead_report *d = arg;
    queue_report_dead(d->e, d->q, first, last);
    return true;
}

/* [first, last] has just become settled for g and was not before. */
static void newly_settled(struct engine *e, struct group *g, uint64_t first, uint64_t last)
{
    struct queue *q = g->queue;
    if (q->settings.retention != BROKER_RETENTION_WORK) {
        return;
    }
    if (q->group_count == 1) {
        queue_report_dead(e, q, first, last);
        return;
    }
    queue_each_dead(q, first, last, report, &(struct dead_report){e, q});
}

bool group_settle(struct engine *e, struct group *g, uint64_t first, uint64_t last)
{
    if (!seqset_empty(&g->passed)) {
        seqset_remove(&g->passed, first, last);
    }
    if (g->lanes) {
        lane_remove(g, first, last);
    }
    for (;;) {
        uint64_t from = group_next_unsettled(g, first);
        if (from > last) {
            return true;
        }
        uint64_t next = seqset_next(&g->settled, from);
        uint64_t to = next <= last ? next - 1 : last;
        if (from == g->floor + 1) {
            g->floor = to;
            raise_floor(g);
        } else if (!seqset_add(&g->settled, from, to)) {
            return false;
        }
        newly_settled(e, g, from, to);
        if (to == UINT64_MAX) {
            return true;
        }
        first = to + 1;
    }
}

bool group_settle_lazily(struct engine *e, struct group *g, uint64_t first, uint64_t last)
{
    uint8_t body[ONE_RANGE_BYTES];
    uint64_t index;
    put_one_range(body, g->id, first, last);
    return engine_append(e, RECORD_SETTLE, g->queue->id, 0, body, sizeof body, DURABILITY_LAZY, &index) == BROKER_OK &&
           group_settle(e, g, first, last);
}

/* ---- returned messages ------------------------------------------------------------------------------------------- */

static void arm_delay(struct engine *e, struct group *g)
{
    struct heap_node *least = heap_min(&g->delayed);
    if (least) {
        heap_set(&e->delays, &g->delay, least->key);
    } else {
        heap_remove(&e->delays, &g->delay);
    }
}

bool group_return(struct engine *e, struct group *g, const struct lease_entry *entry, uint64_t due_wall_ms)
{
    if (group_has_settled(g, entry->seq)) {
        key_release(e, g, entry->key, entry->seq);
        return true;
    }
    struct returned *r = malloc(sizeof *r);
    if (!r) {
        return false;
    }
    *r = (struct returned){.seq = entry->seq,
                           .attempts = entry->attempts,
                           .key = entry->key,
                           .priority = specials_priority(g->queue, entry->seq),
                           .due_wall_ms = due_wall_ms};
    bool pushed;
    if (due_wall_ms > e->now.wall.ms) {
        pushed = heap_push(&g->delayed, &r->node, e->now.mono.ms + (due_wall_ms - e->now.wall.ms));
        arm_delay(e, g);
        if (pushed && !heap_has(&g->delay)) { /* no memory for the timer */
            heap_remove(&g->delayed, &r->node);
            pushed = false;
        }
    } else {
        pushed = heap_push(&g->ready, &r->node, returned_key(r));
        group_wake(e, g);
    }
    if (!pushed) {
        free(r);
    } else {
        g->unlooked += r->key == KEY_UNKNOWN;
    }
    return pushed;
}

/* Refill the heap, in its own memory, with those outside first..last. */
static void drop_from(struct engine *e, struct group *g, struct heap *h, uint64_t first, uint64_t last)
{
    size_t n = h->len;
    h->len = 0;
    for (size_t i = 0; i < n; i++) {
        struct heap_node *node = h->nodes[i];
        struct returned *r = container_of(node, struct returned, node);
        node->slot = 0;
        if (r->seq >= first && r->seq <= last) {
            g->unlooked -= r->key == KEY_UNKNOWN;
            key_release(e, g, r->key, r->seq);
            free(r);
        } else {
            heap_push(h, node, node->key);
        }
    }
}

void group_drop_returned(struct engine *e, struct group *g, uint64_t first, uint64_t last)
{
    drop_from(e, g, &g->ready, first, last);
    drop_from(e, g, &g->delayed, first, last);
    arm_delay(e, g);
}

void group_run_delays(struct engine *e)
{
    struct heap_node *timer;
    while ((timer = heap_min(&e->delays)) && timer->key <= e->now.mono.ms) {
        struct group *g = container_of(timer, struct group, delay);
        struct heap_node *n;
        while ((n = heap_min(&g->delayed)) && n->key <= e->now.mono.ms) {
            struct returned *r = container_of(n, struct returned, node);
            uint64_t due = n->key;
            heap_remove(&g->delayed, n);
            r->due_wall_ms = 0;
            if (!heap_push(&g->ready, n,
                           returned_key(r))) { /* no memory: the room in `delayed` is there, try again soon */
                heap_push(&g->delayed, n, due + 100);
                break;
            }
        }
        arm_delay(e, g);
        group_wake(e, g);
    }
}

void group_wake(struct engine *e, struct group *g)
{
    if (!g->dispatching && !g->reading && g->ready_count && !g->queue->paused) {
        TAILQ_INSERT_TAIL(&e->dispatch, g, in_dispatch);
        g->dispatching = true;
    }
}

/* ---- create, delete, move ------------------------------------------------------------------------------------------ */

struct dead_collect {
    struct seqset *set;
    bool failed;
};

static bool collect(void *arg, uint64_t first, uint64_t last)
{
    struct dead_collect *d = arg;
    d->failed = !seqset_add(d->set, first, last);
    return !d->failed;
}

/*
 * Put g at `cursor`. What is dead on the queue stays settled for it: it may still lie on disk, but its end was reported.
 * For that the dead ranges are taken before g's own state is forgotten.
 */
static bool place(struct group *g, uint64_t cursor)
{
    struct seqset dead;
    seqset_init(&dead);
    struct dead_collect d = {.set = &dead};
    if (cursor < g->queue->next_seq) {
        queue_each_dead(g->queue, cursor, g->queue->next_seq - 1, collect, &d);
    }
    if (d.failed) {
        seqset_release(&dead);
        return false;
    }
    seqset_release(&g->settled);
    g->settled = dead;
    g->floor = cursor - 1;
    g->cursor = cursor;
    raise_floor(g);
    return true;
}

void group_apply_seek(struct engine *e, struct group *g, uint64_t cursor)
{
    leases_drop(e, g, 1, UINT64_MAX);
    drop_all_returned(e, g);
    if (cursor > g->floor + 1) { /* what is jumped over is settled, and may be dead with that */
        group_settle(e, g, g->floor + 1, cursor - 1);
    }
    place(g, cursor);
    if (!e->replaying) {
        specials_fill(g);
    }
    group_wake(e, g);
}

void group_apply_delete(struct engine *e, struct group *g)
{
    if (g->queue->next_seq > 1) { /* what only this group still wanted is dead now */
        group_settle(e, g, g->floor + 1, g->queue->next_seq - 1);
    }
    group_remove(e, g, BROKER_GROUP_NOT_FOUND, "the group was deleted");
}

void group_apply_record(struct engine *e, struct queue *q, uint32_t id, struct name name, uint64_t cursor)
{
    struct group *g = group_by_id(q, id);
    if (g) {
        group_apply_seek(e, g, cursor);
    } else if ((g = group_add(e, q, id, name, q->next_seq))) {
        place(g, cursor);
    }
}
