/* The engine's life, and the table that leads from a command to the function that applies it. */
#include "engine.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine_internal.h"

enum {
    DEFAULT_MAX_MESSAGE_BYTES = 8 << 20,
    DEFAULT_LEASE_MS = 30000,
    DEFAULT_MAX_QUEUES = 1000000,
    DEFAULT_MAX_GROUPS = 1000,
    DEFAULT_MAX_PRODUCERS = 100000,
    DEFAULT_PRODUCER_TTL_MS = 3600000,
};

#define SET_DEFAULT(field, value)                                                                                      \
    do {                                                                                                               \
        if (!(field)) {                                                                                                \
            (field) = (value);                                                                                         \
        }                                                                                                              \
    } while (0)

struct engine *engine_new(const struct engine_options *options, const struct store_ops *store_ops, void *store,
                          const struct sink_ops *sink_ops, void *sink)
{
    struct engine *e = calloc(1, sizeof *e);
    if (!e) {
        return NULL;
    }
    e->options = *options;
    SET_DEFAULT(e->options.max_message_bytes, DEFAULT_MAX_MESSAGE_BYTES);
    SET_DEFAULT(e->options.default_lease_ms, DEFAULT_LEASE_MS);
    SET_DEFAULT(e->options.max_queues, DEFAULT_MAX_QUEUES);
    SET_DEFAULT(e->options.max_groups_per_queue, DEFAULT_MAX_GROUPS);
    SET_DEFAULT(e->options.max_producers, DEFAULT_MAX_PRODUCERS);
    SET_DEFAULT(e->options.producer_ttl_ms, DEFAULT_PRODUCER_TTL_MS);
    e->ops = store_ops;
    e->store = store;
    e->sink_ops = sink_ops;
    e->sink = sink;
    e->next_queue_id = 1;
    e->replaying = true;
    TAILQ_INIT(&e->dispatch);
    TAILQ_INIT(&e->dying);
    TAILQ_INIT(&e->expiring);
    TAILQ_INIT(&e->scans);
    TAILQ_INIT(&e->compactions);
    TAILQ_INIT(&e->spare_blocks);
    TAILQ_INIT(&e->producers_by_use);
    heap_init(&e->lease_timers);
    heap_init(&e->waits);
    heap_init(&e->delays);
    heap_init(&e->trims);
    heap_init(&e->unused);
    heap_init(&e->dedups);
    buf_init(&e->scratch, 0);
    buf_init(&e->route, 0);
    e->schedule = schedule_new();
    e->topics = topics_new();
    e->reads = reads_new();
    if (!e->schedule || !e->topics || !e->reads) {
        engine_free(e);
        return NULL;
    }
    return e;
}

void engine_free(struct engine *e)
{
    if (!e) {
        return;
    }
    consumers_free(e);
    scans_free(e);
    reads_free(e);
    struct queue *q, *next;
    HASH_ITER(by_id, e->by_id, q, next)
    {
        queue_remove(e, q);
    }
    producers_free(e);
    struct lease_block *b;
    while ((b = TAILQ_FIRST(&e->spare_blocks))) {
        TAILQ_REMOVE(&e->spare_blocks, b, of_group);
        free(b);
    }
    pending_free(&e->written);
    pending_free(&e->synced);
    heap_release(&e->lease_timers);
    heap_release(&e->waits);
    heap_release(&e->delays);
    heap_release(&e->trims);
    heap_release(&e->unused);
    heap_release(&e->dedups);
    schedule_free(e->schedule);
    topics_free(e->topics);
    buf_release(&e->scratch);
    buf_release(&e->route);
    free(e->results);
    free(e->sorted);
    free(e);
}

void engine_answer(struct engine *e, const struct command *c, broker_error error)
{
    if (c->token.conn) {
        struct completion done = {.type = c->type, .token = c->token, .error = error, .text = error ? e->text : NULL};
        e->sink_ops->complete(e->sink, &done);
    }
}

void engine_fail(struct engine *e, const struct command *c, broker_error error, uint32_t retry_ms, const char *format,
                 ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(e->text, sizeof e->text, format, args);
    va_end(args);
    if (c->token.conn) {
        struct completion done = {
            .type = c->type, .token = c->token, .error = error, .text = e->text, .retry_ms = retry_ms};
        e->sink_ops->complete(e->sink, &done);
    }
}

uint8_t *engine_put_record(const struct engine *e, struct buf *out, uint8_t type, uint32_t queue, uint64_t seq,
                           const void *body, size_t len)
{
    uint32_t length = RECORD_HEAD_BYTES + (uint32_t)len;
    uint8_t *record = buf_reserve(out, pad8(length));
    if (!record) {
        return NULL;
    }
    struct record_head head = {.length = length, .type = type, .queue = queue, .seq = seq, .time_ms = e->now.wall.ms};
    record_head_put(record, &head);
    if (len) {
        memcpy(record + RECORD_HEAD_BYTES, body, len);
    }
    memset(record + length, 0, pad8(length) - length);
    out->len += pad8(length);
    return record;
}

broker_error engine_append(struct engine *e, uint8_t type, uint32_t queue, uint64_t seq, const void *body, size_t len,
                           enum durability durability, uint64_t *index)
{
    buf_clear(&e->scratch);
    const uint8_t *record = engine_put_record(e, &e->scratch, type, queue, seq, body, len);
    return record ? e->ops->append(e->store, record, record_length(record), durability, index) : BROKER_NO_MEMORY;
}

void engine_append_failed(struct engine *e, const struct command *c, broker_error error)
{
    switch (error) {
    case BROKER_DISK_FULL:
        engine_fail(e, c, error, 1000,
                    "the disk is full, down to the reserve kept for acks: free space or raise store.max_disk_bytes");
        break;
    case BROKER_OVERLOADED: engine_fail(e, c, error, 100, "too many bytes wait for the disk: try again"); break;
    case BROKER_NO_MEMORY: engine_fail(e, c, error, 100, "the broker is out of memory: try again"); break;
    default: engine_fail(e, c, error, 0, "the log refused the record: %s", broker_strerror(error)); break;
    }
}

broker_error engine_append_barrier(struct engine *e, uint64_t *index)
{
    static const uint8_t nothing[8]; /* a settle of no ranges: carries no meaning but its place in the log */
    return engine_append(e, RECORD_SETTLE, 0, 0, nothing, sizeof nothing, DURABILITY_SYNCED, index);
}

static void barrier(struct engine *e, const struct command *c)
{
    uint64_t index;
    if (!pending_reserve(&e->synced)) {
        engine_append_failed(e, c, BROKER_NO_MEMORY);
        return;
    }
    broker_error error = engine_append_barrier(e, &index);
    if (error) {
        engine_append_failed(e, c, error);
        return;
    }
    pending_push(e, DURABILITY_SYNCED, &(struct pending){.index = index, .token = c->token, .type = c->type});
}

typedef void command_fn(struct engine *e, const struct command *c);

static command_fn *const COMMANDS[COMMAND_TYPES] = {
    [COMMAND_PUBLISH] = publish,
    [COMMAND_SUBSCRIBE] = subscribe,
    [COMMAND_UNSUBSCRIBE] = unsubscribe,
    [COMMAND_CREDIT] = consumer_credit,
    [COMMAND_HOLD] = consumer_hold,
    [COMMAND_UNHOLD] = consumer_hold,
    [COMMAND_LEASE] = lease,
    [COMMAND_ACK] = settle,
    [COMMAND_NACK] = settle,
    [COMMAND_EXTEND] = settle,
    [COMMAND_QUEUE_CREATE] = queue_create,
    [COMMAND_QUEUE_ALTER] = queue_alter,
    [COMMAND_QUEUE_DELETE] = queue_delete,
    [COMMAND_QUEUE_PAUSE] = queue_pause,
    [COMMAND_QUEUE_RESUME] = queue_pause,
    [COMMAND_QUEUE_PURGE] = queue_purge,
    [COMMAND_QUEUE_LIST] = queue_list,
    [COMMAND_QUEUE_DESCRIBE] = queue_describe,
    [COMMAND_GROUP_CREATE] = group_create,
    [COMMAND_GROUP_DELETE] = group_delete,
    [COMMAND_GROUP_SEEK] = group_seek,
    [COMMAND_GROUP_ALTER] = group_alter,
    [COMMAND_BIND] = bind_or_unbind,
    [COMMAND_UNBIND] = bind_or_unbind,
    [COMMAND_TRANSACT] = transact,
    [COMMAND_SCAN] = scan,
    [COMMAND_RESCHEDULE] = reschedule,
    [COMMAND_READ] = read_queue,
    [COMMAND_BARRIER] = barrier,
    [COMMAND_CLOSE] = connection_close,
};

void engine_submit(struct engine *e, struct now now, const struct command *c)
{
    e->now = now;
    if ((unsigned)c->type >= COMMAND_TYPES) {
        engine_fail(e, c, BROKER_UNKNOWN_COMMAND, 0, "unknown command %d", (int)c->type);
        return;
    }
    e->commands += c->type != COMMAND_READ;
    COMMANDS[c->type](e, c);
}

static void earliest(const struct heap *h, uint64_t *at)
{
    const struct heap_node *n = heap_min(h);
    if (n && n->key < *at) {
        *at = n->key;
    }
}

monotime engine_tick(struct engine *e, struct now now)
{
    e->now = now;
    schedule_run(e);
    leases_expire(e);
    group_run_delays(e);
    dying_run(e); /* before the dispatch: what has expired is not handed out */
    reads_run(e); /* before what has just become visible may be let go again */
    queue_run_trims(e);
    unused_run(e);
    producers_expire(e);
    dedup_expire(e);
    compact_run(e);
    scans_run(e);
    dispatch_run(e);
    waits_expire(e); /* after the dispatch: what came at the last moment still counts */
    if (!TAILQ_EMPTY(&e->dispatch) || dying_waiting(e) || scans_waiting(e)) {
        return now.mono;
    }
    uint64_t at = e->retry_ms ? e->retry_ms : UINT64_MAX;
    const struct heap *timers[] = {&e->lease_timers, &e->delays, &e->trims, &e->waits, &e->unused};
    for (size_t i = 0; i < sizeof timers / sizeof timers[0]; i++) {
        earliest(timers[i], &at);
    }
    uint64_t others[] = {schedule_next(e), compact_next(e), dedup_next(e), reads_next(e)};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        at = others[i] < at ? others[i] : at;
    }
    return (monotime){at};
}

void engine_committed(struct engine *e, struct now now, uint64_t written, uint64_t durable)
{
    e->now = now;
    e->written_index = written;
    e->durable_index = durable;
    pending_release(e);
}

void engine_readable(struct engine *e, struct now now, uint32_t queue)
{
    e->now = now;
    if (queue == SCHEDULE_QUEUE) {
        schedule_readable(e);
        return;
    }
    struct queue *q = queue_by_id(e, queue);
    if (q) {
        dying_readable(e, q);
        scans_readable(e, q);
        reads_readable(e, q);
        compact_readable(e, q);
        limits_enforce(e, q);
        struct group *g;
        LIST_FOREACH(g, &q->groups, of_queue)
        {
            if (g->reading) {
                g->reading = false;
                group_wake(e, g);
            }
        }
    }
}

void engine_get_stats(const struct engine *e, struct engine_stats *out)
{
    *out = e->stats;
}

const char *engine_queue_name(const struct engine *e, uint32_t queue)
{
    const struct queue *q = queue_by_id(e, queue);
    return queue == SCHEDULE_QUEUE ? "(schedule)" : q ? q->name : NULL;
}
