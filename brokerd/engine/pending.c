/* Answers that wait for the disk: two queues, one for what must be synced and one for what must be written. */
#include <stdlib.h>

#include "engine_internal.h"

static bool ring_reserve(struct pending_ring *r, size_t more)
{
    size_t n = r->tail - r->head, cap = r->cap ? r->cap : 64;
    while (cap < n + more) {
        cap *= 2;
    }
    if (cap == r->cap) {
        return true;
    }
    struct pending *items = malloc(cap * sizeof *items);
    if (!items) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        items[i] = r->items[(r->head + i) & (r->cap - 1)];
    }
    free(r->items);
    *r = (struct pending_ring){.items = items, .head = 0, .tail = n, .cap = cap};
    return true;
}

bool pending_reserve(struct pending_ring *r)
{
    return r->tail - r->head < r->cap || ring_reserve(r, 1);
}

bool pending_reserve_all(struct engine *e, size_t n)
{
    return ring_reserve(&e->written, n) && ring_reserve(&e->synced, n);
}

static void item_free(struct pending *p)
{
    if (p->type == COMMAND_PUBLISH && p->result_count > 1) {
        free(p->u.many);
    } else if (p->type == COMMAND_ACK || p->type == COMMAND_NACK) {
        free(p->u.settle.receipts);
    } else if (p->type == COMMAND_TRANSACT) {
        free(p->u.transact.marks);
        free(p->u.transact.seqs);
    }
}

void pending_free(struct pending_ring *r)
{
    for (; r->head != r->tail; r->head++) {
        item_free(&r->items[r->head & (r->cap - 1)]);
    }
    free(r->items);
    *r = (struct pending_ring){0};
}

void pending_push(struct engine *e, enum durability durability, const struct pending *p)
{
    struct pending_ring *r = durability == DURABILITY_SYNCED ? &e->synced : &e->written;
    assert(r->tail - r->head < r->cap); /* pending_reserve came first */
    r->items[r->tail++ & (r->cap - 1)] = *p;
}

/* Messages of q up to last_seq can be seen from now on. */
static void make_visible(struct engine *e, struct queue *q, uint64_t last_seq)
{
    if (!q || last_seq <= q->visible) {
        return;
    }
    uint64_t from = q->visible + 1;
    q->visible = last_seq;
    if (q->specials) {
        specials_visible(e, q, from, last_seq);
    }
    if (!seqset_empty(&q->expired)) {
        expiring_wake(e, q, from);
    }
    struct group *g;
    LIST_FOREACH(g, &q->groups, of_queue)
    {
        group_wake(e, g);
    }
    reads_wake(e, q);
    limits_enforce(e, q); /* what could not be dropped before it was durable */
}

static void complete_transact(struct engine *e, struct pending *p, struct completion *c)
{
    for (uint32_t i = 0; i < p->u.transact.mark_count; i++) {
        make_visible(e, queue_by_id(e, p->u.transact.marks[i].queue), p->u.transact.marks[i].last_seq);
    }
    c->u.transact.seqs = p->u.transact.seqs;
    c->u.transact.count = p->u.transact.seq_count;
    c->u.transact.duplicate = p->u.transact.duplicate;
}

static void complete(struct engine *e, struct pending *p)
{
    struct completion c = {.type = p->type, .token = p->token};
    if (p->type == COMMAND_PUBLISH) {
        if (p->last_seq) {
            make_visible(e, queue_by_id(e, p->queue), p->last_seq);
        }
        c.u.publish.results = p->result_count > 1 ? p->u.many : &p->u.one;
        c.u.publish.count = p->result_count;
        c.u.publish.synced = p->index <= e->durable_index;
    } else if (p->type == COMMAND_ACK || p->type == COMMAND_NACK) {
        c.u.settle.settled = p->u.settle.settled;
        c.u.settle.stale = p->u.settle.stale;
        c.u.settle.stale_receipts = p->u.settle.receipts;
        c.u.settle.stale_listed = p->u.settle.listed;
    } else if (p->type == COMMAND_QUEUE_PURGE) {
        c.u.purge.purged = p->u.purged;
    } else if (p->type == COMMAND_TRANSACT) {
        complete_transact(e, p, &c);
    } else if (p->type == COMMAND_SCAN) {
        c.u.scan.matched = p->u.scan.matched;
        c.u.scan.skipped = p->u.scan.skipped;
        c.u.scan.next_seq = p->u.scan.next_seq;
    }
    if (p->token.conn) {
        e->sink_ops->complete(e->sink, &c);
    }
    item_free(p);
}

void pending_release(struct engine *e)
{
    struct pending_ring *r = &e->synced;
    while (r->head != r->tail) {
        struct pending p = r->items[r->head & (r->cap - 1)];
        if (p.index > e->durable_index || p.written_index > e->written_index) {
            break;
        }
        r->head++;
        struct queue *q = p.type == COMMAND_PUBLISH && p.last_seq ? queue_by_id(e, p.queue) : NULL;
        if (q) {
            q->synced_pending--;
        }
        for (uint32_t i = 0; p.type == COMMAND_TRANSACT && i < p.u.transact.mark_count; i++) {
            if ((q = queue_by_id(e, p.u.transact.marks[i].queue))) {
                q->synced_pending--;
            }
        }
        complete(e, &p);
    }
    r = &e->written;
    while (r->head != r->tail && r->items[r->head & (r->cap - 1)].index <= e->written_index) {
        struct pending p = r->items[r->head++ & (r->cap - 1)];
        complete(e, &p);
    }
}
