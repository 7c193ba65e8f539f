/* The engine's promises, one by one, over a store in memory and a clock that the test moves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine.h"
#include "test_store.h"
#include "wire.h"

enum { GOT_MAX = 4096 };

struct got { /* a delivered message */
    uint64_t conn, seq, receipt;
    uint32_t stream, attempt;
};

struct fixture {
    struct engine *e;
    struct test_store store;
    struct now now;
    uint64_t committed; /* batches already reported durable */
    struct got got[GOT_MAX];
    uint32_t got_count;
    broker_error error; /* of the last completion */
    char text[512];
    uint32_t completions, settled, stale, lease_count;
    uint64_t purged;
    struct publish_result results[64];
    size_t result_count;
    broker_error ended;
    uint32_t ended_count;
    broker_queue_info queue;
    broker_group_info groups[8];
    size_t group_count, listed;
    char last_listed[256];
    bool more, refuse_delivery;
};

static void note(struct fixture *f, const struct delivery *d)
{
    for (uint32_t i = 0; i < d->count; i++) {
        assert_true(f->got_count < GOT_MAX);
        f->got[f->got_count++] = (struct got){.conn = d->token.conn,
                                              .stream = d->token.stream,
                                              .seq = d->messages[i].seq,
                                              .attempt = d->attempts[i],
                                              .receipt = d->first_receipt ? d->first_receipt + i : 0};
        assert_int_equal(record_seq(d->messages[i].record), d->messages[i].seq);
    }
}

static void on_complete(void *sink, const struct completion *c)
{
    struct fixture *f = sink;
    f->completions++;
    f->error = c->error;
    f->text[0] = 0;
    if (c->error) {
        assert_non_null(c->text);
        strncpy(f->text, c->text, sizeof f->text - 1);
        return;
    }
    switch (c->type) {
    case COMMAND_PUBLISH:
        f->result_count = c->u.publish.count;
        memcpy(f->results, c->u.publish.results, c->u.publish.count * sizeof *f->results);
        break;
    case COMMAND_LEASE:
        f->lease_count = c->u.lease.count;
        note(f, &c->u.lease);
        break;
    case COMMAND_ACK:
    case COMMAND_NACK:
    case COMMAND_EXTEND:
        f->settled = c->u.settle.settled;
        f->stale = c->u.settle.stale;
        break;
    case COMMAND_QUEUE_PURGE: f->purged = c->u.purge.purged; break;
    case COMMAND_QUEUE_LIST:
        f->listed = c->u.list.count;
        f->more = c->u.list.more;
        if (f->listed) {
            strncpy(f->last_listed, c->u.list.queues[f->listed - 1].name, sizeof f->last_listed - 1);
        }
        break;
    case COMMAND_QUEUE_DESCRIBE:
        f->queue = *c->u.describe.queue;
        f->group_count = c->u.describe.group_count;
        memcpy(f->groups, c->u.describe.groups, (f->group_count < 8 ? f->group_count : 8) * sizeof f->groups[0]);
        break;
    default: break;
    }
}

static bool on_deliver(void *sink, const struct delivery *d)
{
    struct fixture *f = sink;
    note(f, d);
    return !f->refuse_delivery;
}

static void on_ended(void *sink, struct token token, broker_error error, const char *text)
{
    struct fixture *f = sink;
    f->ended = error;
    f->ended_count++;
    assert_non_null(text);
}

static const struct sink_ops SINK = {.complete = on_complete, .deliver = on_deliver, .ended = on_ended};

static void tick(struct fixture *f)
{
    engine_tick(f->e, f->now);
}

static void commit(struct fixture *f)
{
    f->committed = f->store.count;
    engine_committed(f->e, f->now, f->committed, f->committed);
    tick(f);
}

static void later(struct fixture *f, uint64_t ms)
{
    f->now.mono.ms += ms;
    f->now.wall.ms += ms;
    tick(f);
}

static struct name named(const char *s)
{
    return (struct name){.bytes = s, .len = s ? strlen(s) : 0};
}

static void command(struct fixture *f, struct command c)
{
    engine_submit(f->e, f->now, &c);
}

static struct token tok(uint64_t conn, uint32_t stream)
{
    return (struct token){.conn = conn, .correlation = 1, .stream = stream};
}

static void simple(struct fixture *f, enum command_type type, const char *queue, const char *group)
{
    command(f, (struct command){.type = type, .token = tok(1, 0), .queue = named(queue), .group = named(group)});
    commit(f);
}

static void create(struct fixture *f, const char *queue)
{
    simple(f, COMMAND_QUEUE_CREATE, queue, NULL);
    assert_int_equal(f->error, BROKER_OK);
}

/* n messages of 3 bytes; producer 0: not numbered. Not committed. */
static void publish_raw(struct fixture *f, const char *queue, uint32_t n, uint64_t producer, uint64_t number,
                        broker_sync sync)
{
    struct buf frame;
    buf_init(&frame, 0);
    for (uint32_t i = 0; i < n; i++) {
        struct record_spec spec = {.body = "abc", .body_len = 3, .producer = producer, .number = number + i};
        uint32_t bytes = record_spec_bytes(&spec);
        record_spec_put(buf_reserve(&frame, bytes), &spec);
        frame.len += bytes;
    }
    struct command c = {.type = COMMAND_PUBLISH, .token = tok(1, 0), .queue = named(queue)};
    c.u.publish.records = frame.bytes;
    c.u.publish.len = frame.len;
    c.u.publish.sync = sync;
    command(f, c);
    buf_release(&frame);
}

static void publish(struct fixture *f, const char *queue, uint32_t n)
{
    publish_raw(f, queue, n, 0, 0, BROKER_SYNC_DEFAULT);
    commit(f);
    assert_int_equal(f->error, BROKER_OK);
}

static void subscribe(struct fixture *f, uint64_t conn, uint32_t stream, const char *queue, const char *group,
                      uint32_t lease_ms, uint32_t credit)
{
    struct command c = {
        .type = COMMAND_SUBSCRIBE, .token = tok(conn, stream), .queue = named(queue), .group = named(group)};
    c.u.subscribe.lease_ms = lease_ms;
    command(f, c);
    assert_int_equal(f->error, BROKER_OK);
    c = (struct command){.type = COMMAND_CREDIT, .token = tok(conn, stream)};
    c.u.credit.messages = credit;
    c.u.credit.bytes = 1 << 20;
    command(f, c);
    tick(f);
}

static void settle(struct fixture *f, enum command_type type, uint64_t receipt, uint32_t count, uint32_t ms)
{
    struct receipt_range range = {.first = receipt, .count = count};
    struct command c = {.type = type, .token = tok(1, 0)};
    c.u.settle.ranges = &range;
    c.u.settle.count = 1;
    c.u.settle.delay_ms = c.u.settle.lease_ms = ms;
    command(f, c);
    commit(f);
}

static void describe(struct fixture *f, const char *queue)
{
    simple(f, COMMAND_QUEUE_DESCRIBE, queue, NULL);
    assert_int_equal(f->error, BROKER_OK);
}

static void start_engine(struct fixture *f, uint32_t epoch, const struct buf *snapshot, size_t from)
{
    const char *text = "";
    struct engine_options options = {0};
    f->e = engine_new(&options, &test_store_ops, &f->store, &SINK, f);
    assert_non_null(f->e);
    if (snapshot) {
        assert_int_equal(engine_restore(f->e, snapshot->bytes, snapshot->len, &text), BROKER_OK);
    }
    for (size_t i = from; i < f->store.count; i++) {
        assert_int_equal(engine_replay(f->e, f->store.records[i].bytes, &text), BROKER_OK);
    }
    engine_recovered(f->e, f->now, epoch);
    f->got_count = 0;
    commit(f);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    f->now = (struct now){.mono = {1000}, .wall = {1700000000000}};
    test_store_init(&f->store);
    start_engine(f, 1, NULL, 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    engine_free(f->e);
    assert_int_equal(f->store.dead_twice, 0);
    test_store_release(&f->store);
    free(f);
    return 0;
}

/* Stop as by kill -9 and start again: from the log alone, or from a snapshot. */
static void restart(struct fixture *f, bool snapshot)
{
    struct buf b;
    buf_init(&b, 0);
    if (snapshot) {
        assert_true(engine_snapshot(f->e, &b));
    }
    engine_free(f->e);
    if (!snapshot) {
        for (size_t i = 0; i < f->store.count; i++) {
            f->store.records[i].dead = false; /* the replay reports them anew */
        }
    }
    static uint32_t epoch = 1;
    start_engine(f, ++epoch, snapshot ? &b : NULL, snapshot ? f->store.count : 0);
    buf_release(&b);
}

static void test_publish_is_visible_once_durable(void **state)
{
    struct fixture *f = *state;
    create(f, "q");
    subscribe(f, 1, 1, "q", NULL, 0, 10);
    publish_raw(f, "q", 3, 0, 0, BROKER_SYNC_DEFAULT);
    uint32_t before = f->completions;
    engine_committed(f->e, f->now, f->store.count, f->committed); /* written, not synced */
    tick(f);
    assert_int_equal(f->got_count, 0);
    assert_int_equal(f->completions, before);
    commit(f);
    assert_int_equal(f->got_count, 3);
    assert_int_equal(f->results[0].first_seq, 1);
    assert_int_equal(f->results[0].count, 3);
    publish_raw(f, "q", 1, 0, 0, BROKER_SYNC_ALWAYS); /* what asked for less does not overtake what asked for more */
    publish_raw(f, "q", 1, 0, 0, BROKER_SYNC_NONE);
    engine_committed(f->e, f->now, f->store.count, f->committed);
    tick(f);
    assert_int_equal(f->got_count, 3);
    commit(f);
    assert_int_equal(f->got_count, 5);
    publish_raw(f, "q", 1, 0, 0, BROKER_SYNC_NONE);
    engine_committed(f->e, f->now, f->store.count, f->committed);
    tick(f);
    assert_int_equal(f->got_count, 6);
}

static void test_ack_stale_and_double(void **state)
{
    struct fixture *f = *state;
    create(f, "q");
    subscribe(f, 1, 1, "q", NULL, 0, 1000);
    publish(f, "q", 200);
    assert_int_equal(f->got_count, 200);
    settle(f, COMMAND_ACK, f->got[0].receipt, 200, 0);
    assert_int_equal(f->settled, 200);
    describe(f, "q");
    assert_int_equal(f->groups[0].floor_seq, 200);
    assert_int_equal(f->queue.messages, 0);
    settle(f, COMMAND_ACK, f->got[5].receipt, 1, 0);
    assert_int_equal(f->settled, 0);
    assert_int_equal(f->stale, 1);
    publish(f, "q", 2);
    struct receipt_range twice[2] = {{f->got[200].receipt, 2}, {f->got[200].receipt, 1}};
    struct command c = {.type = COMMAND_ACK, .token = tok(1, 0)};
    c.u.settle.ranges = twice;
    c.u.settle.count = 2;
    command(f, c);
    commit(f);
    assert_int_equal(f->settled, 2);
    assert_int_equal(f->stale, 1);
}

static void test_lease_runs_out_and_attempts_count(void **state)
{
    struct fixture *f = *state;
    create(f, "q");
    subscribe(f, 1, 1, "q", NULL, 100, 10);
    publish(f, "q", 2);
    later(f, 50);
    settle(f, COMMAND_EXTEND, f->got[1].receipt, 1, 1000);
    assert_int_equal(f->settled, 1);
    later(f, 50);
    assert_int_equal(f->got_count, 3); /* seq 1 again; seq 2 was extended */
    assert_int_equal(f->got[2].seq, 1);
    assert_int_equal(f->got[2].attempt, 2);
    settle(f, COMMAND_ACK, f->got[0].receipt, 1, 0);
    assert_int_equal(f->stale, 1); /* the first receipt is over, the second works */
    settle(f, COMMAND_ACK, f->got[2].receipt, 1, 0);
    assert_int_equal(f->settled, 1);
}

static void test_nack_with_and_without_delay(void **state)
{
    struct fixture *f = *state;
    create(f, "q");
    subscribe(f, 1, 1, "q", NULL, 0, 10);
    publish(f, "q", 2);
    settle(f, COMMAND_NACK, f->got[0].receipt, 1, 0);
    assert_int_equal(f->got_count, 3);
    assert_int_equal(f->got[2].seq, 1);
    settle(f, COMMAND_NACK, f->got[2].receipt, 1, 500);
    later(f, 499);
    assert_int_equal(f->got_count, 3);
    f->now.wall.ms += 3600000; /* a jump of the wall clock fires nothing early */
    tick(f);
    assert_int_equal(f->got_count, 3);
    later(f, 1);
    assert_int_equal(f->got_count, 4);
    assert_int_equal(f->got[3].attempt, 3);
}

static void test_attempts_and_delay_survive(void **state)
{
    struct fixture *f = *state;
    for (int snapshot = 0; snapshot < 2; snapshot++) {
        const char *queue = snapshot ? "b" : "a";
        create(f, queue);
        f->got_count = 0;
        subscribe(f, 1, 1, queue, NULL, 0, 10);
        publish(f, queue, 3);
        settle(f, COMMAND_NACK, f->got[0].receipt, 1, 0);
        settle(f, COMMAND_NACK, f->got[3].receipt, 1, 1000);
        settle(f, COMMAND_ACK, f->got[1].receipt, 1, 0);
        uint64_t old = f->got[2].receipt;
        restart(f, snapshot);
        subscribe(f, 1, 1, queue, NULL, 0, 10);
        assert_int_equal(f->got_count, 1);
        assert_int_equal(f->got[0].seq, 3);
        assert_int_equal(f->got[0].attempt, 2);
        settle(f, COMMAND_ACK, old, 1, 0);
        assert_int_equal(f->stale, 1);
        later(f, 1000);
        assert_int_equal(f->got_count, 2);
        assert_int_equal(f->got[1].seq, 1);
        assert_int_equal(f->got[1].attempt, 3);
        settle(f, COMMAND_ACK, f->got[0].receipt, 1, 0);
        settle(f, COMMAND_ACK, f->got[1].receipt, 1, 0);
        describe(f, queue);
        assert_int_equal(f->queue.messages, 0);
        simple(f, COMMAND_CLOSE, NULL, NULL);
    }
}

static void test_close_returns_leases(void **state)
{
    struct fixture *f = *state;
    create(f, "q");
    subscribe(f, 1, 1, "q", NULL, 0, 10);
    publish(f, "q", 4);
    simple(f, COMMAND_CLOSE, NULL, NULL);
    subscribe(f, 2, 1, "q", NULL, 0, 10);
    assert_int_equal(f->got_count, 8);
    assert_int_equal(f->got[4].conn, 2);
    assert_int_equal(f->got[4].attempt, 2);
    assert_int_equal(f->got[4].seq, 1);
}

static void test_competing_consumers_share(void **state)
{
    struct fixture *f = *state;
    create(f, "q");
    subscribe(f, 1, 1, "q", NULL, 0, 100);
    subscribe(f, 2, 1, "q", NULL, 0, 100);
    publish(f, "q", 10);
    uint32_t first = 0;
    for (uint32_t i = 0; i < f->got_count; i++) {
        first += f->got[i].conn == 1;
    }
    assert_int_equal(f->got_count, 10);
    assert_in_range(first, 4, 6); /* about half each: what is left is divided again, rounding up */
}

static void test_credit_in_messages_and_bytes(void **state)
{
    struct fixture *f = *state;
    create(f, "q");
    subscribe(f, 1, 1, "q", NULL, 0, 3);
    publish(f, "q", 10);
    assert_int_equal(f->got_count, 3);
    struct command c = {.type = COMMAND_SUBSCRIBE, .token = tok(1, 2), .queue = named("q")};
    command(f, c);
    c = (struct command){.type = COMMAND_CREDIT, .token = tok(1, 2)};
    c.u.credit.messages = 100;
    c.u.credit.bytes = 1; /* at least one message, whatever its size, and then no more */
    command(f, c);
    tick(f);
    assert_int_equal(f->got_count, 4);
}

static void test_hold(void **state)
{
    struct fixture *f = *state;
    create(f, "q");
    f->refuse_delivery = true;
    publish(f, "q", 200);
    subscribe(f, 1, 1, "q", NULL, 0, 1000);
    assert_int_equal(f->got_count, 64);
    f->refuse_delivery = false;
    command(f, (struct command){.type = COMMAND_UNHOLD, .token = {.conn = 1}});
    tick(f);
    assert_int_equal(f->got_count, 200);
    command(f, (struct command){.type = COMMAND_HOLD, .token = {.conn = 2}}); /* before it subscribes */
    subscribe(f, 2, 1, "q", NULL, 0, 1000);
    command(f, (struct command){.type = COMMAND_CLOSE, .token = {.conn = 1}});
    tick(f);
    assert_int_equal(f->got_count, 200);
    command(f, (struct command){.type = COMMAND_UNHOLD, .token = {.conn = 2}});
    tick(f);
    assert_int_equal(f->got_count, 400);
}

static void test_groups_fan_out_and_dead_when_all_settled(void **state)
{
    struct fixture *f = *state;
    create(f, "q");
    simple(f, COMMAND_GROUP_CREATE, "q", "g");
    subscribe(f, 1, 1, "q", NULL, 0, 100);
    subscribe(f, 1, 2, "q", "g", 0, 100);
    publish(f, "q", 10);
    assert_int_equal(f->got_count, 20);
    for (uint32_t i = 0; i < 20; i += 2) { /* out of order, in both groups */
        settle(f, COMMAND_ACK, f->got[i].receipt, 1, 0);
    }
    describe(f, "q");
    assert_int_equal(f->queue.messages, 5);
    restart(f, true);
    describe(f, "q");
    assert_int_equal(f->queue.messages, 5);
    simple(f, COMMAND_GROUP_DELETE, "q", "g");
    simple(f, COMMAND_GROUP_DELETE, "q", "default");
    assert_int_equal(f->error, BROKER_INVALID_ARGUMENT); /* the last one stays */
    subscribe(f, 1, 1, "q", NULL, 0, 100);
    assert_int_equal(f->got_count, 5);
    for (uint32_t i = 0; i < 5; i++) {
        settle(f, COMMAND_ACK, f->got[i].receipt, 1, 0);
    }
    describe(f, "q");
    assert_int_equal(f->queue.messages, 0);
}

static void test_new_group_on_work_queue_gets_what_is_left(void **state)
{
    struct fixture *f = *state;
    create(f, "q");
    subscribe(f, 1, 1, "q", NULL, 0, 100);
    publish(f, "q", 10);
    settle(f, COMMAND_ACK, f->got[0].receipt, 3, 0);
    settle(f, COMMAND_ACK, f->got[5].receipt, 2, 0);
    f->got_count = 0;
    simple(f, COMMAND_GROUP_CREATE, "q", "late");
    subscribe(f, 1, 2, "q", "late", 0, 100);
    assert_int_equal(f->got_count, 5); /* 4 5 8 9 10: the dead ones still lie in the store and stay dead */
    assert_int_equal(f->got[0].seq, 4);
    assert_int_equal(f->got[2].seq, 8);
}

static void test_new_group_on_a_settled_queue(void **state)
{
    struct fixture *f = *state;
    create(f, "q");
    subscribe(f, 1, 1, "q", NULL, 0, 4000);
    for (int i = 0; i < 3; i++) {
        publish(f, "q", 1000);
    }
    for (int i = 0; i < 3000; i++) {
        settle(f, COMMAND_ACK, f->got[i].receipt, 1, 0);
    }
    simple(f, COMMAND_GROUP_CREATE, "q", "late");
    describe(f, "q");
    assert_int_equal(f->group_count, 2);
    assert_int_equal(f->groups[1].floor_seq, 3000);
    assert_int_equal(f->groups[1].ready, 0);
}

static void test_seek_replays_a_log_queue(void **state)
{
    struct fixture *f = *state;
    broker_queue_settings s = {.size = sizeof s, .set = BROKER_SET_RETENTION, .retention = BROKER_RETENTION_LOG};
    struct command c = {.type = COMMAND_QUEUE_CREATE, .token = tok(1, 0), .queue = named("log")};
    c.u.queue.settings = &s;
    command(f, c);
    commit(f);
    subscribe(f, 1, 1, "log", NULL, 0, 100);
    publish(f, "log", 5);
    settle(f, COMMAND_ACK, f->got[0].receipt, 5, 0);
    later(f, 1000);
    publish(f, "log", 5);
    c = (struct command){.type = COMMAND_GROUP_SEEK, .token = tok(1, 0), .queue = named("log")};
    c.u.group.start = BROKER_START_SEQ;
    c.u.group.value = 4;
    command(f, c);
    commit(f);
    assert_int_equal(f->got_count, 17); /* 5 + 5, then 4..10 */
    assert_int_equal(f->got[10].seq, 4);
    assert_int_equal(f->got[10].attempt, 1);
    settle(f, COMMAND_ACK, f->got[6].receipt, 1, 0);
    assert_int_equal(f->stale, 1); /* leases from before the seek are over */
    c.u.group.start = BROKER_START_TIME;
    c.u.group.value = f->now.wall.ms;
    command(f, c);
    commit(f);
    assert_int_equal(f->got[17].seq, 6);
    restart(f, false);
    subscribe(f, 1, 1, "log", NULL, 0, 100);
    assert_int_equal(f->got[0].seq, 6);
}

static void test_log_limits_and_change_of_retention(void **state)
{
    struct fixture *f = *state;
    create(f, "q");
    subscribe(f, 1, 1, "q", NULL, 0, 100);
    publish(f, "q", 10);
    settle(f, COMMAND_ACK, f->got[0].receipt, 2, 0);
    settle(f, COMMAND_ACK, f->got[4].receipt, 2, 0);
    broker_queue_settings s = {.size = sizeof s,
                               .set = BROKER_SET_RETENTION | BROKER_SET_LOG_MAX_MESSAGES,
                               .retention = BROKER_RETENTION_LOG,
                               .log_max_messages = 3};
    struct command c = {.type = COMMAND_QUEUE_ALTER, .token = tok(1, 0), .queue = named("q")};
    c.u.queue.settings = &s;
    command(f, c);
    commit(f);
    later(f, 100);
    describe(f, "q");
    assert_int_equal(f->queue.messages, 3);
    assert_int_equal(f->queue.first_seq, 8);
    s.retention = BROKER_RETENTION_WORK;
    command(f, c);
    commit(f);
    settle(f, COMMAND_ACK, f->got[7].receipt, 3, 0);
    describe(f, "q");
    assert_int_equal(f->queue.messages, 0);
    restart(f, false);
    describe(f, "q");
    assert_int_equal(f->queue.messages, 0);
}

static void test_retries_are_duplicates(void **state)
{
    struct fixture *f = *state;
    create(f, "q");
    publish_raw(f, "q", 5, 77, 1, BROKER_SYNC_DEFAULT);
    commit(f);
    assert_int_equal(f->results[0].first_seq, 1);
    for (int round = 0; round < 3; round++) {
        publish_raw(f, "q", 3, 77, 2, BROKER_SYNC_DEFAULT);
        commit(f);
        assert_int_equal(f->result_count, 1);
        assert_true(f->results[0].duplicate);
        assert_int_equal(f->results[0].first_seq, 2);
        restart(f, round == 1);
    }
    publish_raw(f, "q", 4, 77, 4, BROKER_SYNC_DEFAULT); /* 4, 5 known; 6, 7 new */
    commit(f);
    assert_int_equal(f->result_count, 2);
    assert_true(f->results[0].duplicate);
    assert_false(f->results[1].duplicate);
    assert_int_equal(f->results[1].first_seq, 6);
}

static void test_refused_number_is_no_duplicate(void **state)
{
    struct fixture *f = *state;
    create(f, "q");
    publish_raw(f, "q", 2, 77, 1, BROKER_SYNC_DEFAULT);
    f->store.refuse = BROKER_DISK_FULL;
    publish_raw(f, "q", 3, 77, 3, BROKER_SYNC_DEFAULT); /* 3..5 refused, and the answer lost */
    f->store.refuse = BROKER_OK;
    publish_raw(f, "q", 2, 77, 6, BROKER_SYNC_DEFAULT);
    commit(f);
    for (int round = 0; round < 3; round++) {
        restart(f, round == 0);
        publish_raw(f, "q", 3 - (uint32_t)round, 77, 3 + (uint32_t)round, BROKER_SYNC_DEFAULT);
        commit(f);
        assert_int_equal(f->results[0].duplicate, round > 0);
        assert_int_equal(f->results[0].first_seq, 5 + round);
    }
}

static void test_disk_full_refuses_in_order(void **state)
{
    struct fixture *f = *state;
    create(f, "q");
    subscribe(f, 1, 1, "q", NULL, 0, 10);
    f->store.refuse = BROKER_OVERLOADED;
    publish_raw(f, "q", 3, 0, 0, BROKER_SYNC_DEFAULT);
    commit(f);
    assert_int_equal(f->error, BROKER_OK);
    assert_int_equal(f->results[0].error, BROKER_OVERLOADED);
    assert_int_equal(f->results[0].count, 3);
    assert_true(f->results[0].retry_ms > 0);
    f->store.refuse = BROKER_OK;
    publish(f, "q", 1);
    assert_int_equal(f->got[0].seq, 1);
    f->store.refuse = BROKER_DISK_FULL; /* not even the reserve: the ack is refused and the lease stays */
    settle(f, COMMAND_ACK, f->got[0].receipt, 1, 0);
    assert_int_equal(f->error, BROKER_DISK_FULL);
    f->store.refuse = BROKER_OK;
    settle(f, COMMAND_ACK, f->got[0].receipt, 1, 0);
    assert_int_equal(f->settled, 1);
}

static void test_hand_out_waits_while_nothing_can_be_logged(void **state)
{
    struct fixture *f = *state;
    create(f, "q");
    publish(f, "q", 3);
    f->store.refuse = BROKER_DISK_FULL;
    subscribe(f, 1, 1, "q", NULL, 0, 10);
    assert_int_equal(f->got_count, 0);
    f->store.refuse = BROKER_OK;
    later(f, 200);
    assert_int_equal(f->got_count, 3);
}

static void test_malformed_frame_stores_nothing(void **state)
{
    struct fixture *f = *state;
    create(f, "q");
    uint8_t frame[96] = {0};
    struct record_spec spec = {.body = "abc", .body_len = 3};
    record_spec_put(frame, &spec);
    put_u32(frame + 48, 4096); /* the second record claims more than there is */
    struct command c = {.type = COMMAND_PUBLISH, .token = tok(1, 0), .queue = named("q")};
    c.u.publish.records = frame;
    c.u.publish.len = sizeof frame;
    command(f, c);
    commit(f);
    assert_int_equal(f->error, BROKER_MALFORMED);
    describe(f, "q");
    assert_int_equal(f->queue.last_seq, 0);
}

static void test_waiting_lease(void **state)
{
    struct fixture *f = *state;
    create(f, "q");
    struct command c = {.type = COMMAND_LEASE, .token = tok(9, 0), .queue = named("q")};
    c.u.lease.max_messages = 1000;
    c.u.lease.wait_ms = 500;
    command(f, c);
    tick(f);
    uint32_t before = f->completions;
    publish(f, "q", 300);
    assert_int_equal(f->lease_count, 300);
    assert_int_equal(f->completions, before + 2);
    settle(f, COMMAND_ACK, f->got[0].receipt, 300, 0); /* receipts run on across blocks */
    assert_int_equal(f->settled, 300);
    command(f, c);
    later(f, 499);
    assert_int_equal(f->completions, before + 3);
    later(f, 1);
    assert_int_equal(f->lease_count, 0);
    assert_int_equal(f->completions, before + 4);
    command(f, c); /* the client goes: what comes later is not leased to it */
    command(f, (struct command){.type = COMMAND_CLOSE, .token = {.conn = 9}});
    publish(f, "q", 1);
    describe(f, "q");
    assert_int_equal(f->groups[0].leased, 0);
    assert_int_equal(f->groups[0].ready, 1);
}

static void test_pause_purge_delete(void **state)
{
    struct fixture *f = *state;
    create(f, "q");
    subscribe(f, 1, 1, "q", NULL, 0, 2);
    simple(f, COMMAND_QUEUE_PAUSE, "q", NULL);
    publish(f, "q", 5);
    assert_int_equal(f->got_count, 0);
    restart(f, false);
    subscribe(f, 1, 1, "q", NULL, 0, 2);
    assert_int_equal(f->got_count, 0); /* a pause persists */
    simple(f, COMMAND_QUEUE_RESUME, "q", NULL);
    assert_int_equal(f->got_count, 2);
    simple(f, COMMAND_QUEUE_PURGE, "q", NULL);
    assert_int_equal(f->purged, 5);
    settle(f, COMMAND_ACK, f->got[0].receipt, 2, 0);
    assert_int_equal(f->stale, 2);
    simple(f, COMMAND_QUEUE_DELETE, "q", NULL);
    assert_int_equal(f->ended, BROKER_QUEUE_NOT_FOUND);
    create(f, "q");
    describe(f, "q");
    assert_int_equal(f->queue.last_seq, 0);
}

static void test_holes_are_passed(void **state)
{
    struct fixture *f = *state;
    create(f, "q");
    publish(f, "q", 5);
    uint32_t id = record_queue(f->store.records[1].bytes);
    put_u32(f->store.records[2].bytes + 12, 999); /* seq 2 and 5 are lost (quarantined) */
    put_u32(f->store.records[5].bytes + 12, 999);
    subscribe(f, 1, 1, "q", NULL, 0, 100);
    assert_int_equal(f->got_count, 3);
    settle(f, COMMAND_ACK, f->got[0].receipt, 1, 0);
    settle(f, COMMAND_ACK, f->got[1].receipt, 2, 0);
    describe(f, "q");
    assert_int_equal(f->groups[0].floor_seq, 5);
    put_u32(f->store.records[2].bytes + 12, id);
    put_u32(f->store.records[5].bytes + 12, id);
}

static void test_damage_is_told(void **state)
{
    struct fixture *f = *state;
    create(f, "q");
    publish(f, "q", 3);
    f->store.damaged = 2;
    subscribe(f, 1, 1, "q", NULL, 0, 100);
    assert_int_equal(f->got_count, 1);
    assert_int_equal(f->ended, BROKER_DAMAGED);
    f->store.damaged = 0; /* quarantined meanwhile */
    put_u32(f->store.records[2].bytes + 12, 999);
    subscribe(f, 1, 1, "q", NULL, 0, 100);
    assert_int_equal(f->got[f->got_count - 1].seq, 3);
}

static void test_pending_read(void **state)
{
    struct fixture *f = *state;
    create(f, "q");
    publish(f, "q", 3);
    f->store.pending = true;
    subscribe(f, 1, 1, "q", NULL, 0, 100);
    assert_int_equal(f->got_count, 0);
    f->store.pending = false;
    engine_readable(f->e, f->now, record_queue(f->store.records[1].bytes));
    tick(f);
    assert_int_equal(f->got_count, 3);
}

static void test_list_in_pages(void **state)
{
    struct fixture *f = *state;
    char name[16];
    for (int i = 0; i < 25; i++) {
        snprintf(name, sizeof name, "%s%02d", i < 15 ? "a" : "b", i);
        create(f, name);
    }
    struct command c = {.type = COMMAND_QUEUE_LIST, .token = tok(1, 0)};
    c.u.list.prefix = named("a");
    c.u.list.limit = 10;
    command(f, c);
    assert_int_equal(f->listed, 10);
    assert_true(f->more);
    char after[256];
    memcpy(after, f->last_listed, sizeof after);
    c.u.list.after = named(after);
    command(f, c);
    assert_int_equal(f->listed, 5);
    assert_false(f->more);
    assert_string_equal(f->last_listed, "a14");
}

static void test_errors_name_the_value(void **state)
{
    struct fixture *f = *state;
    simple(f, COMMAND_QUEUE_PURGE, "nope", NULL);
    assert_int_equal(f->error, BROKER_QUEUE_NOT_FOUND);
    assert_non_null(strstr(f->text, "nope"));
    create(f, "q");
    simple(f, COMMAND_GROUP_SEEK, "q", "gone");
    assert_int_equal(f->error, BROKER_GROUP_NOT_FOUND);
    assert_non_null(strstr(f->text, "gone"));
    simple(f, COMMAND_GROUP_CREATE, "q", "default");
    assert_int_equal(f->error, BROKER_GROUP_EXISTS);
    simple(f, COMMAND_QUEUE_CREATE, "sp ace", NULL);
    assert_int_equal(f->error, BROKER_INVALID_ARGUMENT);
    settle(f, COMMAND_ACK, 1, UINT32_MAX, 0);
    assert_int_equal(f->error, BROKER_INVALID_ARGUMENT);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_publish_is_visible_once_durable),
        TEST(test_ack_stale_and_double),
        TEST(test_lease_runs_out_and_attempts_count),
        TEST(test_nack_with_and_without_delay),
        TEST(test_attempts_and_delay_survive),
        TEST(test_close_returns_leases),
        TEST(test_competing_consumers_share),
        TEST(test_credit_in_messages_and_bytes),
        TEST(test_hold),
        TEST(test_groups_fan_out_and_dead_when_all_settled),
        TEST(test_new_group_on_work_queue_gets_what_is_left),
        TEST(test_new_group_on_a_settled_queue),
        TEST(test_seek_replays_a_log_queue),
        TEST(test_log_limits_and_change_of_retention),
        TEST(test_retries_are_duplicates),
        TEST(test_refused_number_is_no_duplicate),
        TEST(test_disk_full_refuses_in_order),
        TEST(test_hand_out_waits_while_nothing_can_be_logged),
        TEST(test_malformed_frame_stores_nothing),
        TEST(test_waiting_lease),
        TEST(test_pause_purge_delete),
        TEST(test_holes_are_passed),
        TEST(test_damage_is_told),
        TEST(test_pending_read),
        TEST(test_list_in_pages),
        TEST(test_errors_name_the_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
