/* A double of the engine: which messages exist and which are settled, and nothing else. */
#include "rig.h"

#include <assert.h>

struct engine *engine_new(const struct engine_options *options, const struct store_ops *store_ops, void *store,
                          const struct sink_ops *sink_ops, void *sink)
{
    struct engine *e = calloc(1, sizeof *e);
    if (e) {
        e->ops = store_ops;
        e->store = store;
    }
    return e;
}

void engine_free(struct engine *e)
{
    for (int i = 0; e && i < TEST_QUEUES; i++)
        free(e->queues[i].settled);
    if (e)
        free(e->route);
    free(e);
}

static void reserve(struct test_queue *q, uint64_t seq)
{
    if (seq < q->cap)
        return;
    uint64_t cap = seq * 2 + 64;
    q->settled = realloc(q->settled, cap);
    assert(q->settled);
    memset(q->settled + q->cap, 0, cap - q->cap);
    q->cap = cap;
}

static void add(struct engine *e, uint32_t queue, uint64_t seq)
{
    struct test_queue *q = &e->queues[queue];
    reserve(q, seq);
    for (uint64_t gap = q->exists ? q->next : 1; gap < seq; gap++) /* never published, or lost */
        q->settled[gap] = 1;
    q->exists = true;
    q->next = seq + 1;
    q->settled[seq] = 0;
}

bool test_engine_live(const struct engine *e, uint32_t queue, uint64_t seq)
{
    const struct test_queue *q = &e->queues[queue];
    return q->exists && seq >= 1 && seq < q->next && !q->settled[seq];
}

void test_engine_settle(struct engine *e, uint32_t queue, uint64_t first, uint64_t last)
{
    struct test_queue *q = &e->queues[queue];
    for (uint64_t seq = first; seq <= last && seq < q->next; seq++) {
        uint64_t from = seq;
        while (seq <= last && seq < q->next && !q->settled[seq])
            q->settled[seq++] = 1;
        if (seq > from)
            e->ops->dead(e->store, queue, from, seq - 1);
    }
}

broker_error engine_replay(struct engine *e, const uint8_t *record, const char **text)
{
    uint32_t queue = record_queue(record);
    uint8_t *before = e->route;
    struct route route = before ? route_get(before, record_length(before)) : (struct route){0, NULL};
    e->route = NULL;
    e->replayed++;
    if (queue >= TEST_QUEUES || (before && record_type_of(record) != RECORD_MESSAGE)) {
        *text = before ? "a route leads nowhere" : "no such queue";
        free(before);
        return BROKER_MALFORMED;
    }
    switch (record_type_of(record)) {
    case RECORD_ROUTE:
        e->route = malloc(record_padded(record));
        memcpy(e->route, record, record_length(record));
        break;
    case RECORD_MESSAGE:
        add(e, queue, record_seq(record));
        for (uint32_t i = 0; i < route.n; i++)
            add(e, route_queue(&route, i), route_seq(&route, i));
        break;
    case RECORD_SETTLE:
        test_engine_settle(e, queue, get_u64(record + RECORD_HEAD_BYTES), get_u64(record + RECORD_HEAD_BYTES + 8));
        break;
    case RECORD_QUEUE_DELETE:
        e->ops->queue_gone(e->store, queue);
        free(e->queues[queue].settled);
        e->queues[queue] = (struct test_queue){0};
        break;
    default: break;
    }
    free(before);
    return BROKER_OK;
}

bool engine_snapshot(const struct engine *e, struct buf *out)
{
    for (uint32_t i = 0; i < TEST_QUEUES; i++) {
        const struct test_queue *q = &e->queues[i];
        if (!q->exists)
            continue;
        if (!buf_put_u32(out, i) || !buf_put_u64(out, q->next) || !buf_append(out, q->settled + 1, q->next - 1))
            return false;
    }
    return true;
}

broker_error engine_restore(struct engine *e, const uint8_t *snapshot, size_t len, const char **text)
{
    while (len >= 12) {
        uint32_t queue = get_u32(snapshot);
        uint64_t next = get_u64(snapshot + 4);
        if (queue >= TEST_QUEUES || next == 0 || next - 1 > len - 12) {
            *text = "impossible numbers";
            return BROKER_MALFORMED;
        }
        struct test_queue *q = &e->queues[queue];
        reserve(q, next);
        q->exists = true;
        q->next = next;
        memcpy(q->settled + 1, snapshot + 12, next - 1);
        snapshot += 12 + next - 1;
        len -= 12 + next - 1;
    }
    return BROKER_OK;
}

void engine_recovered(struct engine *e, struct now now, uint32_t epoch)
{
    e->recovered = true;
    e->epoch = epoch;
}

void engine_committed(struct engine *e, struct now now, uint64_t written, uint64_t durable)
{
    assert(written >= e->written && durable >= e->durable && durable <= written);
    e->written = written;
    e->durable = durable;
}

void engine_readable(struct engine *e, struct now now, uint32_t queue)
{
    e->readable++;
}

void engine_live(const struct engine *e, uint32_t queue, uint64_t first, uint64_t last,
                 void (*fn)(void *arg, uint64_t first, uint64_t last), void *arg)
{
    for (uint64_t seq = first; seq <= last; seq++) {
        uint64_t from = seq;
        while (seq <= last && test_engine_live(e, queue, seq))
            seq++;
        if (seq > from)
            fn(arg, from, seq - 1);
    }
}

const char *engine_queue_name(const struct engine *e, uint32_t queue)
{
    static const char *const names[] = {"zero", "one", "two", "three", "four"};
    return queue < 5 && e->queues[queue].exists ? names[queue] : NULL;
}
