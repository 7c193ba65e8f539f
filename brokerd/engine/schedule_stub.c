/* A stand-in until the schedule is there: all of it in memory. */
#include <stdlib.h>

#include "engine_internal.h"

struct entry {
    struct heap_node node;
    uint64_t seq;
    uint32_t queue;
    enum schedule_kind kind;
};
struct schedule {
    struct heap h;
};
struct schedule *schedule_new(void)
{
    struct schedule *s = calloc(1, sizeof *s);
    if (s)
        heap_init(&s->h);
    return s;
}
void schedule_free(struct schedule *s)
{
    struct heap_node *n;
    while (s && (n = heap_min(&s->h))) {
        heap_remove(&s->h, n);
        free(container_of(n, struct entry, node));
    }
    if (s)
        heap_release(&s->h);
    free(s);
}
bool schedule_add(struct engine *e, enum schedule_kind kind, uint32_t queue, uint64_t seq, uint64_t at)
{
    struct entry *x = calloc(1, sizeof *x);
    if (!x)
        return false;
    x->seq = seq;
    x->queue = queue;
    x->kind = kind;
    return heap_push(&e->schedule->h, &x->node, at) || (free(x), false);
}
void schedule_run(struct engine *e)
{
    struct heap_node *n;
    while ((n = heap_min(&e->schedule->h)) && n->key <= e->now.wall.ms) {
        struct entry *x = container_of(n, struct entry, node);
        uint64_t at = n->key;
        heap_remove(&e->schedule->h, n);
        schedule_fired(e, x->kind, x->queue, x->seq, at);
        free(x);
    }
}
uint64_t schedule_next(const struct engine *e)
{
    struct heap_node *n = heap_min(&e->schedule->h);
    return n ? e->now.mono.ms + (n->key > e->now.wall.ms ? n->key - e->now.wall.ms : 0) : UINT64_MAX;
}
void schedule_readable(struct engine *e) {}
bool schedule_save(const struct engine *e, struct buf *out)
{
    const struct heap *h = &e->schedule->h;
    bool ok = buf_put_u32(out, (uint32_t)h->len);
    for (size_t i = 0; ok && i < h->len; i++) {
        struct entry *x = container_of(h->nodes[i], struct entry, node);
        ok = buf_put_u64(out, x->node.key) && buf_put_u64(out, x->seq) && buf_put_u32(out, x->queue) &&
             buf_put_u32(out, x->kind);
    }
    return ok;
}
bool schedule_load(struct engine *e, struct reader *r)
{
    uint32_t n = reader_u32(r);
    for (uint32_t i = 0; i < n && !r->error; i++) {
        uint64_t at = reader_u64(r), seq = reader_u64(r);
        uint32_t queue = reader_u32(r), kind = reader_u32(r);
        if (!r->error && !schedule_add(e, kind, queue, seq, at))
            return reader_refuse(r, BROKER_NO_MEMORY, "out of memory");
    }
    return !r->error;
}
broker_error schedule_replay(struct engine *e, const uint8_t *record, const char **text)
{
    return BROKER_OK;
}
void schedule_recovered(struct engine *e) {}
void schedule_live(const struct engine *e, uint64_t first, uint64_t last,
                   void (*fn)(void *arg, uint64_t first, uint64_t last), void *arg)
{
}
