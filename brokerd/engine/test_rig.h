/* An engine over a store in memory, with what a test of looking and mending does to it: for scan_test.c and compact_test.c,
   which include cmocka.h first. */
#ifndef ENGINE_TEST_RIG_H
#define ENGINE_TEST_RIG_H

#include <stdlib.h>
#include <string.h>

#include "test_store.h"
#include "wire.h"

enum { RIG_START_MS = 1000000, RIG_WALL_MS = 100000 };

struct rig {
    struct engine *e;
    struct test_store store;
    struct store_ops ops; /* test_store_ops, and a look at each read */
    struct now now;
    monotime next;         /* what the last tick said */
    uint64_t reads;        /* messages read so far */
    uint64_t pending_from; /* seqs from here on must come from disk; 0: none */
    broker_error error;    /* of the last completion */
    char text[512];
    uint32_t completions, retry_ms;
    uint64_t matched, skipped, next_seq;
    uint64_t peeked[2048];
    uint32_t peeked_count;
    uint64_t publishes;                 /* messages published, for their bodies */
    uint64_t got[4096], receipts[4096]; /* delivered seqs */
    uint32_t got_count;
    broker_queue_info queue; /* as described */
    uint64_t lag;
};

static inline void rig_on_complete(void *sink, const struct completion *c)
{
    struct rig *r = sink;
    r->completions++;
    r->error = c->error;
    r->retry_ms = c->retry_ms;
    r->text[0] = '\0';
    if (c->error) {
        assert_non_null(c->text);
        assert_true(strlen(c->text) < sizeof r->text);
        memcpy(r->text, c->text, strlen(c->text) + 1);
    } else if (c->type == COMMAND_SCAN) {
        r->matched = c->u.scan.matched;
        r->skipped = c->u.scan.skipped;
        r->next_seq = c->u.scan.next_seq;
        r->peeked_count = c->u.scan.count;
        for (uint32_t i = 0; i < c->u.scan.count; i++) {
            r->peeked[i] = c->u.scan.messages[i].seq;
            assert_int_equal(record_seq(c->u.scan.messages[i].record), r->peeked[i]);
        }
    } else if (c->type == COMMAND_QUEUE_DESCRIBE) {
        r->queue = *c->u.describe.queue;
    }
}

static inline bool rig_on_deliver(void *sink, const struct delivery *d)
{
    struct rig *r = sink;
    for (uint32_t i = 0; i < d->count; i++) {
        r->receipts[r->got_count] = d->first_receipt + i;
        r->got[r->got_count++] = d->messages[i].seq;
    }
    return true;
}

static inline void rig_on_ended(void *sink, struct token token, broker_error error, const char *text) {}

static const struct sink_ops RIG_SINK = {.complete = rig_on_complete, .deliver = rig_on_deliver, .ended = rig_on_ended};

static inline enum read_status rig_read(void *store, uint32_t queue, uint64_t from, uint64_t to, uint32_t max_messages,
                                        uint64_t max_bytes, struct stored_message *out, uint32_t *count,
                                        uint64_t *damaged_seq)
{
    struct rig *r = container_of((struct test_store *)store, struct rig, store);
    if (r->pending_from && from >= r->pending_from) {
        return READ_PENDING;
    }
    to = r->pending_from && to >= r->pending_from ? r->pending_from - 1 : to;
    enum read_status status =
        test_store_ops.read(store, queue, from, to, max_messages, max_bytes, out, count, damaged_seq);
    r->reads += *count;
    return status;
}

static inline int rig_setup(void **state)
{
    struct rig *r = calloc(1, sizeof *r);
    struct engine_options options = {.max_compaction_keys = 1000};
    r->now = (struct now){.mono = {RIG_START_MS}, .wall = {RIG_WALL_MS}};
    test_store_init(&r->store);
    r->ops = test_store_ops;
    r->ops.read = rig_read;
    r->e = engine_new(&options, &r->ops, &r->store, &RIG_SINK, r);
    assert_non_null(r->e);
    engine_recovered(r->e, r->now, 1);
    *state = r;
    return 0;
}

static inline int rig_teardown(void **state)
{
    struct rig *r = *state;
    engine_free(r->e);
    assert_int_equal(r->store.dead_twice, 0);
    test_store_release(&r->store);
    free(r);
    return 0;
}

static inline void rig_tick(struct rig *r)
{
    r->next = engine_tick(r->e, r->now);
}

/* Everything is on disk; then turn as long as there is something to do at once. */
static inline void rig_settle(struct rig *r)
{
    for (int turns = 0; turns < 100000; turns++) {
        uint64_t before = r->store.count;
        engine_committed(r->e, r->now, before, before);
        rig_tick(r);
        if (r->next.ms > r->now.mono.ms && r->store.count == before) {
            return;
        }
    }
    fail_msg("the engine never comes to rest");
}

static inline void rig_pass(struct rig *r, uint64_t ms)
{
    r->now.mono.ms += ms;
    r->now.wall.ms += ms;
    rig_settle(r);
}

static inline struct name rig_name(const char *s)
{
    return (struct name){.bytes = s, .len = s ? strlen(s) : 0};
}

static inline void rig_submit(struct rig *r, const struct command *c)
{
    engine_submit(r->e, r->now, c);
}

static inline void rig_simple(struct rig *r, enum command_type type, const char *queue, const char *group)
{
    struct command c = {.type = type, .token = {.conn = 1}, .queue = rig_name(queue), .group = rig_name(group)};
    rig_submit(r, &c);
    rig_settle(r);
    assert_int_equal(r->error, BROKER_OK);
}

static inline void rig_create(struct rig *r, enum command_type type, const char *queue,
                              const broker_queue_settings *settings)
{
    struct command c = {.type = type, .token = {.conn = 1}, .queue = rig_name(queue)};
    c.u.queue.settings = settings;
    rig_submit(r, &c);
    rig_settle(r);
    assert_int_equal(r->error, BROKER_OK);
}

static inline void rig_publish(struct rig *r, const char *queue, struct record_spec spec)
{
    uint32_t bytes = record_spec_bytes(&spec);
    uint8_t *record = malloc(bytes);
    record_spec_put(record, &spec);
    struct command c = {.type = COMMAND_PUBLISH, .token = {.conn = 1}, .queue = rig_name(queue)};
    c.u.publish.records = record;
    c.u.publish.len = bytes;
    rig_submit(r, &c);
    free(record);
    r->publishes++;
}

/* n messages; key NULL: none. Committed. */
static inline void rig_fill(struct rig *r, const char *queue, uint32_t n, const char *key)
{
    for (uint32_t i = 0; i < n; i++) {
        rig_publish(r, queue,
                    (struct record_spec){.body = "abc", .body_len = 3, .key = key, .key_len = key ? strlen(key) : 0});
    }
    rig_settle(r);
    assert_int_equal(r->error, BROKER_OK);
}

static inline void rig_subscribe(struct rig *r, uint64_t conn, const char *queue, const char *group, uint32_t credit)
{
    struct command c = {.type = COMMAND_SUBSCRIBE,
                        .token = {.conn = conn, .stream = 1},
                        .queue = rig_name(queue),
                        .group = rig_name(group)};
    rig_submit(r, &c);
    assert_int_equal(r->error, BROKER_OK);
    c = (struct command){.type = COMMAND_CREDIT, .token = {.conn = conn, .stream = 1}};
    c.u.credit.messages = credit;
    c.u.credit.bytes = 1 << 20;
    rig_submit(r, &c);
    rig_settle(r);
}

static inline void rig_ack(struct rig *r, uint64_t receipt, uint32_t count)
{
    struct receipt_range range = {.first = receipt, .count = count};
    struct command c = {.type = COMMAND_ACK, .token = {.conn = 1}};
    c.u.settle.ranges = &range;
    c.u.settle.count = 1;
    rig_submit(r, &c);
    rig_settle(r);
}

/* Messages of a queue that the store still has to keep. */
static inline uint64_t rig_stored(struct rig *r, const char *queue)
{
    rig_simple(r, COMMAND_QUEUE_DESCRIBE, queue, NULL);
    return r->queue.messages;
}

#endif
