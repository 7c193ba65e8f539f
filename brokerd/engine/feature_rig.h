/* On top of test_rig.h: messages of one letter, leases by command, and an engine that starts anew at each step() of a test:
   not at all, from the log, from a snapshot, or from the step before's snapshot and the log since. */
#ifndef ENGINE_FEATURE_RIG_H
#define ENGINE_FEATURE_RIG_H

#include "heap.h"
#include "test_rig.h"

enum restart { RESTART_NONE, RESTART_LOG, RESTART_SNAPSHOT, RESTART_SNAPSHOT_AND_LOG, RESTARTS };

struct got {
    uint64_t seq, receipt;
    uint32_t attempts;
    char letter;
    uint32_t number; /* if the body has 4 bytes */
    char reason[16]; /* dead-reason */
};

struct feature {
    struct rig r; /* the first: the rig's functions take it */
    enum restart restart;
    uint32_t epoch;
    struct buf snapshot;
    size_t snapshot_at;
    struct got got[256];
    uint32_t got_count;
    uint64_t seqs[64]; /* of a transaction, or one result of a publish */
    size_t seq_count;
    bool duplicate;
};

static inline void feature_note(struct feature *f, const struct delivery *d)
{
    for (uint32_t i = 0; i < d->count; i++) {
        struct got *got = &f->got[f->got_count++];
        struct record_view view;
        assert_int_equal(record_view_get(d->messages[i].record, d->messages[i].padded_len, &view), 0);
        *got = (struct got){.seq = d->messages[i].seq,
                            .receipt = d->first_receipt + i,
                            .attempts = d->attempts[i],
                            .letter = *(const char *)view.body,
                            .number = view.body_len == 4 ? get_u32(view.body) : 0};
        uint32_t pairs = 0;
        const uint8_t *end = view.headers + view.head.headers_len;
        const uint8_t *p = view.head.headers_len ? wire_skip_map(view.headers, end, &pairs) : NULL;
        for (; p && pairs; pairs--) {
            const char *name, *value;
            size_t name_len, value_len;
            p = wire_skip_text(p, end, &name, &name_len);
            p = wire_skip_text(p, end, &value, &value_len);
            if (name_len == 11 && memcmp(name, "dead-reason", 11) == 0) {
                memcpy(got->reason, value, value_len);
            }
        }
    }
}

static inline void feature_on_complete(void *sink, const struct completion *c)
{
    struct feature *f = sink;
    rig_on_complete(sink, c);
    if (c->type == COMMAND_LEASE && !c->error) {
        feature_note(f, &c->u.lease);
    } else if (c->type == COMMAND_TRANSACT && !c->error) {
        f->seq_count = c->u.transact.count;
        f->duplicate = c->u.transact.duplicate;
        memcpy(f->seqs, c->u.transact.seqs, f->seq_count * sizeof f->seqs[0]);
    } else if (c->type == COMMAND_PUBLISH && !c->error) {
        f->r.error = c->u.publish.results[0].error;
        f->seqs[0] = c->u.publish.results[0].first_seq;
        f->duplicate = c->u.publish.results[0].duplicate;
    }
}

static inline bool feature_on_deliver(void *sink, const struct delivery *d)
{
    feature_note(sink, d);
    return true;
}

static const struct sink_ops FEATURE_SINK = {
    .complete = feature_on_complete, .deliver = feature_on_deliver, .ended = rig_on_ended};

static inline void feature_start(struct feature *f, size_t from)
{
    const char *text = "";
    f->r.e = engine_new(&(struct engine_options){0}, &f->r.ops, &f->r.store, &FEATURE_SINK, f);
    assert_non_null(f->r.e);
    if (from) {
        assert_int_equal(engine_restore(f->r.e, f->snapshot.bytes, f->snapshot.len, &text), BROKER_OK);
    }
    for (size_t i = from; i < f->r.store.count; i++) {
        assert_int_equal(engine_replay(f->r.e, f->r.store.records[i].bytes, &text), BROKER_OK);
    }
    engine_recovered(f->r.e, f->r.now, ++f->epoch);
}

static inline void feature_snapshot(struct feature *f)
{
    buf_clear(&f->snapshot);
    assert_true(engine_snapshot(f->r.e, &f->snapshot));
    f->snapshot_at = f->r.store.count;
}

/* Leases of before are over. */
static inline void step(struct feature *f)
{
    if (f->restart == RESTART_NONE) {
        return;
    }
    if (f->restart == RESTART_SNAPSHOT) {
        feature_snapshot(f);
    }
    if (f->restart == RESTART_LOG) {
        test_store_forget_dead(&f->r.store); /* it is told anew */
    }
    engine_free(f->r.e);
    feature_start(f, f->restart == RESTART_LOG ? 0 : f->snapshot_at);
    if (f->restart == RESTART_SNAPSHOT_AND_LOG) {
        feature_snapshot(f);
    }
    f->r.store.dead_twice = 0;
    rig_settle(&f->r);
}

static inline int feature_setup(void **state)
{
    struct feature *f = calloc(1, sizeof *f);
    f->restart = (enum restart)(uintptr_t)*state;
    f->r.now = (struct now){.mono = {RIG_START_MS}, .wall = {1700000000000}};
    test_store_init(&f->r.store);
    buf_init(&f->snapshot, 0);
    f->r.ops = test_store_ops;
    f->r.ops.read = rig_read;
    feature_start(f, 0);
    *state = f;
    return 0;
}

static inline int feature_teardown(void **state)
{
    struct feature *f = *state;
    engine_free(f->r.e);
    if (f->restart == RESTART_NONE) {
        assert_int_equal(f->r.store.dead_twice, 0);
    }
    test_store_release(&f->r.store);
    buf_release(&f->snapshot);
    free(f);
    return 0;
}

#define FEATURE_TEST(t)                                                                                                \
    {#t, t, feature_setup, feature_teardown, (void *)RESTART_NONE},                                                    \
        {#t " (log)", t, feature_setup, feature_teardown, (void *)RESTART_LOG},                                        \
        {#t " (snapshot)", t, feature_setup, feature_teardown, (void *)RESTART_SNAPSHOT},                              \
    {                                                                                                                  \
#t " (snapshot and log)", t, feature_setup, feature_teardown, (void *)RESTART_SNAPSHOT_AND_LOG                 \
    }

static inline void put(struct feature *f, const char *queue, char letter, struct record_spec spec)
{
    spec.body = &letter;
    spec.body_len = 1;
    rig_publish(&f->r, queue, spec);
}

/* One message per letter, and everything committed. */
static inline void put_all(struct feature *f, const char *queue, const char *letters, struct record_spec spec)
{
    for (; *letters; letters++) {
        put(f, queue, *letters, spec);
        assert_int_equal(f->r.error, BROKER_OK);
    }
    rig_settle(&f->r);
}

/* Lease up to `max`; what comes is in f->got. */
static inline void take(struct feature *f, const char *queue, const char *group, uint32_t max)
{
    struct command c = {
        .type = COMMAND_LEASE, .token = {.conn = 9}, .queue = rig_name(queue), .group = rig_name(group)};
    c.u.lease.max_messages = max;
    f->got_count = 0;
    f->r.error = BROKER_OK; /* it may have to wait for a read */
    rig_submit(&f->r, &c);
    rig_settle(&f->r);
    assert_int_equal(f->r.error, BROKER_OK);
}

static inline void check_got(struct feature *f, const char *letters)
{
    char got[257] = {0};
    for (uint32_t i = 0; i < f->got_count; i++) {
        got[i] = f->got[i].letter;
    }
    assert_string_equal(got, letters);
}

static inline void take_just(struct feature *f, const char *queue, const char *group, uint32_t max, const char *letters)
{
    take(f, queue, group, max);
    check_got(f, letters);
}

/* Settle those of the last take (all: count 256). */
static inline void settle_got(struct feature *f, enum command_type type, uint32_t from, uint32_t count, bool dead)
{
    for (uint32_t i = from; i < f->got_count && i - from < count; i++) {
        struct receipt_range range = {.first = f->got[i].receipt, .count = 1};
        struct command c = {.type = type, .token = {.conn = 9}};
        c.u.settle.ranges = &range;
        c.u.settle.count = 1;
        c.u.settle.dead_letter = dead;
        rig_submit(&f->r, &c);
    }
    rig_settle(&f->r);
    assert_int_equal(f->r.error, BROKER_OK);
}

/* All that the queue still has, acked as it comes. */
static inline void drain_just(struct feature *f, const char *queue, const char *group, const char *letters)
{
    char all[512] = {0};
    for (size_t n = 0; n < sizeof all - 1;) {
        take(f, queue, group, 16);
        if (!f->got_count) {
            break;
        }
        for (uint32_t i = 0; i < f->got_count; i++) {
            all[n++] = f->got[i].letter;
        }
        settle_got(f, COMMAND_ACK, 0, 256, false);
    }
    assert_string_equal(all, letters);
}

#endif
