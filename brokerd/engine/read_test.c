/* COMMAND_READ: what it shows, how it waits, and what a sink may do while it is answered. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "heap.h"
#include "test_store.h"
#include "wire.h"

enum { START_MS = 1000000, WALL_MS = 100000, ANSWERS_MAX = 20000, SEQS_MAX = 1024 };

struct answer { /* the last one of a reader */
    uint32_t times, count, queue_id;
    broker_error error;
    uint64_t next, first, last;
    bool trimmed, beyond;
};

struct fixture {
    struct engine *e;
    struct test_store store;
    struct store_ops ops;
    struct now now;
    monotime next;
    struct answer answers[ANSWERS_MAX]; /* by correlation */
    uint64_t seqs[SEQS_MAX];            /* of the last answer of all */
    uint32_t completions, store_reads;
    uint64_t messages_read;
    uint64_t pending_from; /* seqs from here on must come from disk; 0: none */
    char text[512];
    broker_error error;
    broker_queue_info queue;
    void (*on_read)(struct fixture *f, const struct completion *c); /* NULL: nothing is done in the call */
    struct command again;
    uint64_t published;
};

static void on_complete(void *sink, const struct completion *c)
{
    struct fixture *f = sink;
    f->completions++;
    f->error = c->error;
    f->text[0] = '\0';
    if (c->error) {
        assert_true(strlen(c->text) < sizeof f->text);
        memcpy(f->text, c->text, strlen(c->text) + 1);
    }
    if (c->type == COMMAND_QUEUE_DESCRIBE && !c->error) {
        f->queue = *c->u.describe.queue;
    }
    if (c->type != COMMAND_READ) {
        return;
    }
    struct answer *a = &f->answers[c->token.correlation];
    a->times++;
    a->error = c->error;
    a->count = c->error ? 0 : c->u.read.count;
    a->queue_id = c->u.read.queue_id;
    a->next = c->u.read.next_seq;
    a->first = c->u.read.first_seq;
    a->last = c->u.read.last_seq;
    a->trimmed = c->u.read.trimmed;
    a->beyond = c->u.read.beyond;
    for (uint32_t i = 0; i < a->count; i++) {
        f->seqs[i] = c->u.read.messages[i].seq;
        assert_int_equal(record_seq(c->u.read.messages[i].record), f->seqs[i]);
        assert_true(i == 0 || f->seqs[i] > f->seqs[i - 1]);
    }
    if (f->on_read) {
        f->on_read(f, c);
    }
}

static bool on_deliver(void *sink, const struct delivery *d)
{
    return true;
}

static void on_ended(void *sink, struct token token, broker_error error, const char *text) {}

static const struct sink_ops SINK = {.complete = on_complete, .deliver = on_deliver, .ended = on_ended};

static enum read_status counted_read(void *store, uint32_t queue, uint64_t from, uint64_t to, uint32_t max_messages,
                                     uint64_t max_bytes, struct stored_message *out, uint32_t *count,
                                     uint64_t *damaged_seq)
{
    struct fixture *f = container_of((struct test_store *)store, struct fixture, store);
    f->store_reads++;
    if (f->pending_from && from >= f->pending_from) {
        return READ_PENDING;
    }
    to = f->pending_from && to >= f->pending_from ? f->pending_from - 1 : to;
    enum read_status status =
        test_store_ops.read(store, queue, from, to, max_messages, max_bytes, out, count, damaged_seq);
    f->messages_read += *count;
    return status;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct engine_options options = {0};
    f->now = (struct now){.mono = {START_MS}, .wall = {WALL_MS}};
    test_store_init(&f->store);
    f->ops = test_store_ops;
    f->ops.read = counted_read;
    f->e = engine_new(&options, &f->ops, &f->store, &SINK, f);
    assert_non_null(f->e);
    engine_recovered(f->e, f->now, 1);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    engine_free(f->e);
    test_store_release(&f->store);
    free(f);
    return 0;
}

static struct name named(const char *s)
{
    return (struct name){.bytes = s, .len = strlen(s)};
}

static void submit(struct fixture *f, const struct command *c)
{
    engine_submit(f->e, f->now, c);
}

static void tick(struct fixture *f)
{
    f->next = engine_tick(f->e, f->now);
}

static void commit(struct fixture *f)
{
    engine_committed(f->e, f->now, f->store.count, f->store.count);
}

/* Everything is on disk, and what is to be done at once is done. */
static void settle(struct fixture *f)
{
    for (int turns = 0; turns < 100000; turns++) {
        size_t before = f->store.count;
        commit(f);
        tick(f);
        if (f->next.ms > f->now.mono.ms && f->store.count == before) {
            return;
        }
    }
    fail_msg("the engine never comes to rest");
}

static void pass(struct fixture *f, uint64_t ms)
{
    f->now.mono.ms += ms;
    f->now.wall.ms += ms;
    settle(f);
}

static void simple(struct fixture *f, enum command_type type, const char *queue)
{
    struct command c = {.type = type, .token = {.conn = 99}, .queue = named(queue)};
    submit(f, &c);
    settle(f);
    assert_int_equal(f->error, BROKER_OK);
}

static void create(struct fixture *f, enum command_type type, const char *queue, broker_queue_settings s)
{
    struct command c = {.type = type, .token = {.conn = 99}, .queue = named(queue)};
    c.u.queue.settings = &s;
    submit(f, &c);
    settle(f);
    assert_int_equal(f->error, BROKER_OK);
}

static struct fixture *begin(void **state)
{
    struct fixture *f = *state;
    create(f, COMMAND_QUEUE_CREATE, "q",
           (broker_queue_settings){.set = BROKER_SET_RETENTION, .retention = BROKER_RETENTION_LOG});
    return f;
}

static void publish_spec(struct fixture *f, const char *queue, struct record_spec spec)
{
    if (!spec.body) {
        spec.body = "abcde";
        spec.body_len = 5;
    }
    uint32_t bytes = record_spec_bytes(&spec);
    uint8_t *record = malloc(bytes);
    record_spec_put(record, &spec);
    struct command c = {.type = COMMAND_PUBLISH, .token = {.conn = 99}, .queue = named(queue)};
    c.u.publish.records = record;
    c.u.publish.len = bytes;
    submit(f, &c);
    free(record);
    f->published++;
}

static void publish(struct fixture *f, const char *queue, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        publish_spec(f, queue, (struct record_spec){0});
    }
}

static void fill(struct fixture *f, const char *queue, uint32_t n)
{
    publish(f, queue, n);
    settle(f);
}

static struct command reading(uint32_t reader, const char *queue, uint64_t from, uint32_t max, uint32_t wait_ms)
{
    struct command c = {
        .type = COMMAND_READ, .token = {.conn = 1 + reader, .correlation = reader}, .queue = named(queue)};
    c.u.read.from_seq = from;
    c.u.read.max_messages = max;
    c.u.read.wait_ms = wait_ms;
    return c;
}

static void read_now(struct fixture *f, struct command c)
{
    uint32_t before = f->answers[c.token.correlation].times;
    submit(f, &c);
    settle(f);
    assert_int_equal(f->answers[c.token.correlation].times, before + 1);
}

static void expect(struct fixture *f, uint32_t reader, uint32_t count, uint64_t from, uint64_t next)
{
    struct answer *a = &f->answers[reader];
    assert_int_equal(a->error, BROKER_OK);
    assert_int_equal(a->count, count);
    assert_int_equal(a->next, next);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(f->seqs[i], from + i);
    }
}

/* ---- what is there --------------------------------------------------------------------------------------------------- */

static void what_is_there(void **state)
{
    struct fixture *f = begin(state);
    read_now(f, reading(0, "q", 0, 10, 0));
    expect(f, 0, 0, 0, 1);
    assert_int_equal(f->answers[0].first, 1);
    assert_int_equal(f->answers[0].last, 0);
    fill(f, "q", 20);
    read_now(f, reading(0, "q", 0, 10, 0));
    expect(f, 0, 10, 1, 11);
    assert_int_equal(f->answers[0].first, 1);
    assert_int_equal(f->answers[0].last, 20);
    assert_int_equal(f->answers[0].queue_id, 1);
    read_now(f, reading(0, "q", 11, 1024, 0));
    expect(f, 0, 10, 11, 21);
    read_now(f, reading(0, "q", 21, 1024, 0));
    expect(f, 0, 0, 0, 21);
    struct command c = reading(0, "q", 3, 1024, 0);
    c.u.read.max_bytes = 3 * 48; /* records of 5 bytes */
    read_now(f, c);
    expect(f, 0, 3, 3, 6);
    c.u.read.max_bytes = 1;
    read_now(f, c);
    expect(f, 0, 1, 3, 4);
    c = reading(0, "q", 3, 1024, 0);
    c.u.read.from_end = true;
    read_now(f, c);
    expect(f, 0, 0, 0, 21);
    c = reading(0, "none", 3, 1024, 0);
    submit(f, &c);
    assert_int_equal(f->answers[0].error, BROKER_QUEUE_NOT_FOUND);
}

static void nothing_before_it_is_on_disk(void **state)
{
    struct fixture *f = begin(state);
    struct command waits = reading(1, "q", 1, 10, 1000), asks = reading(2, "q", 1, 10, 0);
    submit(f, &waits);
    publish(f, "q", 2);
    submit(f, &asks);
    tick(f);
    expect(f, 2, 0, 0, 1);
    assert_int_equal(f->answers[1].times, 0);
    settle(f);
    expect(f, 1, 2, 1, 3);
}

static void a_work_queue(void **state)
{
    struct fixture *f = *state;
    create(f, COMMAND_QUEUE_CREATE, "q", (broker_queue_settings){0});
    fill(f, "q", 5000);
    struct command c = {.type = COMMAND_GROUP_CREATE, .token = {.conn = 99}, .queue = named("q"), .group = named("b")};
    submit(f, &c);
    settle(f);
    c = (struct command){.type = COMMAND_SCAN, .token = {.conn = 99}, .queue = named("q")};
    c.u.scan.action = SCAN_DELETE;
    c.u.scan.from_seq = 3;
    c.u.scan.to_seq = 4997;
    submit(f, &c);
    settle(f);
    simple(f, COMMAND_QUEUE_PAUSE, "q"); /* a paused queue can be read */
    read_now(f, reading(0, "q", 1, 1024, 0));
    assert_int_equal(f->answers[0].count, 5);
    assert_int_equal(f->seqs[1], 2);
    assert_int_equal(f->seqs[2], 4998);
    assert_int_equal(f->answers[0].next, 5001);
    assert_false(f->answers[0].trimmed);
    simple(f, COMMAND_QUEUE_PURGE, "q");
    read_now(f, reading(0, "q", 1, 1024, 0));
    expect(f, 0, 0, 0, 5001);
    assert_int_equal(f->answers[0].first, 5001);
    assert_int_equal(f->answers[0].last, 5000);
    assert_false(f->answers[0].trimmed);
}

static void times(void **state)
{
    struct fixture *f = begin(state);
    publish_spec(f, "q", (struct record_spec){.due_ms = 5000, .due_is_delay = true});
    publish_spec(f, "q", (struct record_spec){.expire_ms = 1000, .expire_is_ttl = true});
    fill(f, "q", 1);
    read_now(f, reading(0, "q", 1, 1024, 0)); /* what waits for its time is shown */
    expect(f, 0, 3, 1, 4);
    pass(f, 1000);
    read_now(f, reading(0, "q", 1, 1024, 0));
    assert_int_equal(f->answers[0].count, 2);
    assert_int_equal(f->seqs[0], 1);
    assert_int_equal(f->seqs[1], 3);
    read_now(f, reading(0, "q", 2, 1, 0));
    expect(f, 0, 1, 3, 4);
    struct command c = reading(0, "q", 0, 1024, 0);
    c.u.read.from_ms = WALL_MS + 500;
    fill(f, "q", 2);
    read_now(f, c);
    expect(f, 0, 2, 4, 6);
    c.u.read.from_ms = WALL_MS + 2000; /* in the future */
    c.u.read.wait_ms = 5000;
    submit(f, &c);
    fill(f, "q", 2);
    assert_int_equal(f->answers[0].next, 6);
    pass(f, 2000);
    fill(f, "q", 2);
    expect(f, 0, 2, 8, 10);
}

static void trimmed_and_beyond(void **state)
{
    struct fixture *f = begin(state);
    fill(f, "q", 10);
    struct command c = reading(1, "q", 12, 10, READ_WAIT_FOREVER);
    read_now(f, c);
    assert_true(f->answers[1].beyond);
    expect(f, 1, 0, 0, 1);
    c = reading(1, "q", 11, 10, READ_WAIT_FOREVER);
    submit(f, &c);
    settle(f);
    assert_int_equal(f->answers[1].times, 1);
    create(f, COMMAND_QUEUE_ALTER, "q",
           (broker_queue_settings){.set = BROKER_SET_LOG_MAX_MESSAGES, .log_max_messages = 4});
    fill(f, "q", 2);
    expect(f, 1, 2, 11, 13); /* before they can be let go again */
    pass(f, 1000);
    read_now(f, reading(0, "q", 5, 1024, 0));
    expect(f, 0, 4, 9, 13);
    assert_true(f->answers[0].trimmed);
    assert_int_equal(f->answers[0].first, 9);
    read_now(f, reading(0, "q", 9, 1024, 0));
    assert_false(f->answers[0].trimmed);
    read_now(f, reading(0, "q", 0, 1024, 0));
    expect(f, 0, 4, 9, 13);
    assert_false(f->answers[0].trimmed);
    simple(f, COMMAND_QUEUE_PURGE, "q");
    read_now(f,
             reading(0, "q", 9, 1024, READ_WAIT_FOREVER)); /* what it asked for is gone: it need not wait to hear it */
    expect(f, 0, 0, 0, 13);
    assert_true(f->answers[0].trimmed);
    assert_int_equal(f->answers[0].first, 13);
}

static void damage(void **state)
{
    struct fixture *f = begin(state);
    fill(f, "q", 5);
    f->store.damaged = 3;
    read_now(f, reading(0, "q", 1, 1024, 0));
    expect(f, 0, 2, 1, 3);
    struct command c = reading(0, "q", 3, 1024, 0);
    submit(f, &c);
    settle(f);
    assert_int_equal(f->answers[0].error, BROKER_DAMAGED);
    assert_non_null(strstr(f->text, "message 3 of queue 'q'"));
    assert_non_null(strstr(f->text, "go on from 4"));
    read_now(f, reading(0, "q", 4, 1024, 0));
    expect(f, 0, 2, 4, 6);
}

/* ---- filters ------------------------------------------------------------------------------------------------------------ */

static void filters(void **state)
{
    struct fixture *f = begin(state);
    struct command c = reading(1, "q", 1, 10, 2000);
    for (int i = 0; i < 9; i++) {
        publish_spec(f, "q", (struct record_spec){.key = i % 3 ? "a" : "b", .key_len = 1});
    }
    settle(f);
    c.u.read.filter.key = "b";
    read_now(f, c);
    assert_int_equal(f->answers[1].count, 3);
    assert_int_equal(f->seqs[1], 4);
    assert_int_equal(f->seqs[2], 7);
    assert_int_equal(f->answers[1].next, 10);
    c.u.read.from_seq = 1;
    c.u.read.max_messages = 2;
    read_now(f, c);
    assert_int_equal(f->answers[1].count, 2);
    assert_int_equal(f->answers[1].next, 5);
    c.u.read.filter.key = "c";
    submit(f, &c);
    pass(f, 1999);
    assert_int_equal(f->answers[1].times, 2);
    pass(f, 1);
    expect(f, 1, 0, 0, 10); /* it has passed over all of them */
    c.u.read.filter.key = "a\0b";
    c.u.read.filter.topic = "not > a topic";
    submit(f, &c);
    assert_int_equal(f->answers[1].error, BROKER_INVALID_ARGUMENT);
}

/* Many who pass over much take turns, and the others do not wait for them. */
static void bounded_steps(void **state)
{
    struct fixture *f = begin(state);
    enum { MANY = 3000, SEEKERS = 50 };
    fill(f, "q", MANY);
    publish_spec(f, "q", (struct record_spec){.key = "k", .key_len = 1});
    settle(f);
    for (uint32_t i = 0; i < SEEKERS; i++) {
        struct command c = reading(i, "q", 1, 10, READ_WAIT_FOREVER);
        c.u.read.filter.key = "k";
        submit(f, &c);
    }
    struct command plain = reading(SEEKERS, "q", 5, 1, 0);
    uint32_t turns = 0;
    do {
        uint64_t before = f->messages_read;
        uint32_t times = f->answers[SEEKERS].times;
        if (turns > 0) {
            submit(f, &plain);
        }
        tick(f);
        assert_true(f->messages_read - before < 10000);
        assert_true(turns == 0 || f->answers[SEEKERS].times == times + 1);
        turns++;
    } while (f->next.ms <= f->now.mono.ms && turns < 1000);
    assert_true(turns > SEEKERS * MANY / 10000);
    for (uint32_t i = 0; i < SEEKERS; i++) {
        assert_int_equal(f->answers[i].times, 1);
        assert_int_equal(f->answers[i].count, 1);
        assert_int_equal(f->answers[i].next, MANY + 2);
    }
}

/* The wait may end while there is more to look at: the answer says how far it came. */
static void deadline_while_looking(void **state)
{
    struct fixture *f = begin(state);
    fill(f, "q", 3000);
    struct command c = reading(1, "q", 1, 10, 5);
    c.u.read.filter.key = "k";
    submit(f, &c);
    f->now.mono.ms += 5;
    tick(f);
    assert_int_equal(f->answers[1].times, 0);
    tick(f);
    assert_int_equal(f->answers[1].times, 1);
    assert_int_equal(f->answers[1].count, 0);
    assert_true(f->answers[1].next > 1000 && f->answers[1].next < 3000);
}

/* ---- waiting ----------------------------------------------------------------------------------------------------------- */

static void deadlines(void **state)
{
    struct fixture *f = begin(state);
    struct command c = reading(1, "q", 1, 10, 100), forever = reading(2, "q", 1, 10, READ_WAIT_FOREVER);
    submit(f, &c);
    tick(f);
    assert_int_equal(f->next.ms, START_MS + 100);
    submit(f, &forever);
    tick(f);
    assert_int_equal(f->next.ms, START_MS + 100);
    pass(f, 99);
    assert_int_equal(f->answers[1].times, 0);
    pass(f, 1);
    expect(f, 1, 0, 0, 1);
    assert_int_equal(f->next.ms, MONOTIME_NEVER.ms);
    submit(f, &c);
    publish(f, "q", 1);
    f->now.mono.ms += 100; /* at the last moment */
    settle(f);
    expect(f, 1, 1, 1, 2);
    expect(f, 2, 1, 1, 2);
    assert_int_equal(f->answers[1].times, 2);
}

static void close_while_waiting(void **state)
{
    struct fixture *f = begin(state);
    struct command close = {.type = COMMAND_CLOSE};
    fill(f, "q", 1);
    for (uint32_t i = 0; i < 200; i++) { /* at the head, due, and on disk */
        struct command c = reading(i, "q", i % 3 == 1 ? 1 : 2, 10, i % 2 ? 1000 : READ_WAIT_FOREVER);
        c.token.conn = 1 + i % 20;
        submit(f, &c);
        if (i == 100) {
            f->pending_from = 1;
            tick(f);
        }
    }
    for (uint64_t conn = 1; conn <= 20; conn += 2) {
        close.token.conn = conn;
        submit(f, &close);
    }
    close.token.conn = 12345; /* unknown */
    submit(f, &close);
    f->pending_from = 0;
    engine_readable(f->e, f->now, 1);
    fill(f, "q", 1);
    for (uint32_t i = 0; i < 200; i++) {
        assert_int_equal(f->answers[i].times, i % 20 % 2);
    }
}

static void delete_while_waiting(void **state)
{
    struct fixture *f = begin(state);
    fill(f, "q", 1);
    f->pending_from = 1;
    for (uint32_t i = 0; i < 30; i++) {
        struct command c = reading(i, "q", i % 3 ? 1 : 2, 10, READ_WAIT_FOREVER);
        submit(f, &c);
        if (i == 20) {
            tick(f);
        }
    }
    simple(f, COMMAND_QUEUE_DELETE, "q");
    for (uint32_t i = 0; i < 30; i++) {
        assert_int_equal(f->answers[i].times, 1);
        assert_int_equal(f->answers[i].error, BROKER_QUEUE_NOT_FOUND);
    }
    begin(state);
    f->pending_from = 0;
    struct command c = reading(0, "q", 0, 10, 0);
    read_now(f, c);
    assert_int_equal(f->answers[0].queue_id, 2); /* another one */
}

static void from_disk(void **state)
{
    struct fixture *f = begin(state);
    fill(f, "q", 10);
    f->pending_from = 4;
    read_now(f, reading(1, "q", 1, 10, 0));
    expect(f, 1, 3, 1, 4);
    struct command c = reading(1, "q", 4, 10, 0), later = reading(2, "q", 5, 10, 50);
    submit(f, &c);
    submit(f, &later);
    settle(f);
    pass(f, 100);
    assert_int_equal(f->answers[1].times, 1); /* it is there, and waited for */
    assert_int_equal(f->answers[2].times, 0);
    uint32_t reads = f->store_reads;
    fill(f, "q", 1);
    assert_int_equal(f->store_reads, reads); /* what becomes visible does not wake them */
    f->pending_from = 6;
    engine_readable(f->e, f->now, 1);
    settle(f);
    assert_int_equal(f->answers[1].count, 2);
    assert_int_equal(f->answers[1].next, 6);
    assert_int_equal(f->answers[2].count, 1);
    assert_int_equal(f->answers[2].next, 6);
}

static void ten_thousand(void **state)
{
    struct fixture *f = begin(state);
    enum { MANY = 10000 };
    for (uint32_t i = 0; i < MANY; i++) {
        struct command c = reading(i, "q", 1, 10, i % 2 ? 1000 : READ_WAIT_FOREVER);
        submit(f, &c);
    }
    settle(f);
    uint32_t reads = f->store_reads;
    fill(f, "q", 3);
    for (uint32_t i = 0; i < MANY; i++) {
        assert_int_equal(f->answers[i].times, 1);
        assert_int_equal(f->answers[i].count, 3);
    }
    assert_int_equal(f->store_reads, reads + 1); /* one look for all */
    for (uint32_t i = 0; i < MANY; i++) {        /* spread over three places */
        struct command c = reading(i, "q", 1 + i % 3, 10, 0);
        submit(f, &c);
    }
    settle(f);
    for (uint32_t i = 0; i < MANY; i++) {
        assert_int_equal(f->answers[i].times, 2);
        assert_int_equal(f->answers[i].count, 3 - i % 3);
    }
}

/* ---- the sink is called, and calls ----------------------------------------------------------------------------------- */

static void go_on(struct fixture *f, const struct completion *c)
{
    struct command next = f->again;
    if (!c->error) {
        next.token = c->token;
        next.u.read.from_seq = c->u.read.next_seq;
        submit(f, &next);
    }
}

static void a_stream(void **state)
{
    struct fixture *f = begin(state);
    enum { STREAMS = 100 };
    f->on_read = go_on;
    f->again = reading(0, "q", 1, 2, READ_WAIT_FOREVER);
    fill(f, "q", 5);
    for (uint32_t i = 0; i < STREAMS; i++) {
        struct command c = f->again;
        c.token = (struct token){.conn = 1 + i, .correlation = i};
        submit(f, &c);
    }
    tick(f);
    assert_int_equal(f->answers[0].times, 1); /* once a turn */
    settle(f);
    for (uint32_t i = 0; i < STREAMS; i++) {
        assert_int_equal(f->answers[i].times, 3);
        assert_int_equal(f->answers[i].next, 6);
    }
    publish(f, "q", 2);
    commit(f);
    tick(f);
    for (uint32_t i = 0; i < STREAMS; i++) {
        assert_int_equal(f->answers[i].times, 4);
        assert_int_equal(f->answers[i].next, 8);
    }
    assert_true(f->next.ms > f->now.mono.ms); /* they wait again, without another turn */
}

static void poll_again(struct fixture *f, const struct completion *c)
{
    struct command next = reading(c->token.correlation, "q", 1, 1, 0);
    submit(f, &next);
}

/* Who always asks for what is there is answered once a turn. */
static void no_endless_loop(void **state)
{
    struct fixture *f = begin(state);
    fill(f, "q", 1);
    f->on_read = poll_again;
    for (uint32_t i = 0; i < 3; i++) {
        poll_again(f, &(struct completion){.token = {.correlation = i}});
    }
    for (uint32_t turn = 1; turn <= 10; turn++) {
        tick(f);
        for (uint32_t i = 0; i < 3; i++) {
            assert_int_equal(f->answers[i].times, turn);
        }
    }
}

static void wait_again(struct fixture *f, const struct completion *c)
{
    struct command next = reading(c->token.correlation, "q", 2, 1, 1);
    submit(f, &next);
}

static void timeouts_that_ask_again(void **state)
{
    struct fixture *f = begin(state);
    fill(f, "q", 1);
    f->on_read = wait_again;
    wait_again(f, &(struct completion){.token = {.correlation = 1}});
    for (uint32_t turn = 1; turn <= 10; turn++) {
        f->now.mono.ms++;
        tick(f);
        assert_int_equal(f->answers[1].times, turn);
    }
}

/* A stream ends itself and all others, and deletes the queue it came from. */
static void close_all(struct fixture *f, const struct completion *c)
{
    for (uint32_t i = 0; i < 10; i++) {
        struct command close = {.type = COMMAND_CLOSE, .token = {.conn = 1 + i}};
        submit(f, &close);
    }
}

static void delete_it(struct fixture *f, const struct completion *c)
{
    struct command gone = {.type = COMMAND_QUEUE_DELETE, .queue = named("q")};
    struct command next = reading(50 + c->token.correlation, "q", 1, 1, READ_WAIT_FOREVER);
    if (c->error && c->token.correlation < 50) {
        submit(f, &next); /* refused at once: it cannot be found any more */
    } else if (!c->error) {
        submit(f, &gone);
    }
}

static void purge_it(struct fixture *f, const struct completion *c)
{
    struct command purge = {.type = COMMAND_QUEUE_PURGE, .queue = named("q")};
    submit(f, &purge);
}

static void others_go_midway(void **state)
{
    struct fixture *f = begin(state);
    void (*const dos[])(struct fixture *, const struct completion *) = {close_all, purge_it, delete_it};
    for (int what = 0; what < 3; what++) {
        f->on_read = NULL;
        memset(f->answers, 0, sizeof f->answers);
        fill(f, "q", 1);
        for (uint32_t i = 0; i < 10; i++) { /* due, and waiting */
            struct command c = reading(i, "q", i < 5 ? 1 : f->published + 1, 1, READ_WAIT_FOREVER);
            submit(f, &c);
        }
        f->on_read = dos[what];
        tick(f);
        assert_int_equal(f->answers[0].times, 1);
        for (uint32_t i = 1; i < 10; i++) {
            assert_int_equal(f->answers[i].times, what == 2 || (what == 1 && i < 5));
            assert_true(what < 1 || i >= 5 || f->answers[i].count == 0); /* not what is gone since */
            assert_int_equal(f->answers[i].error, what == 2 ? BROKER_QUEUE_NOT_FOUND : BROKER_OK);
            assert_int_equal(f->answers[50 + i].times, what == 2);
        }
        close_all(f, NULL);
    }
}

/* A queue that is read is in use. */
static void unused_queues(void **state)
{
    struct fixture *f = *state;
    create(f, COMMAND_QUEUE_CREATE, "q", (broker_queue_settings){.set = BROKER_SET_UNUSED_MS, .unused_ms = 1000});
    struct command c = reading(1, "q", 1, 1, 2500);
    submit(f, &c);
    pass(f, 1000);
    pass(f, 1000);
    pass(f, 499);
    assert_int_equal(f->answers[1].times, 0);
    pass(f, 1);
    assert_int_equal(f->answers[1].error, BROKER_OK);
    pass(f, 999);
    simple(f, COMMAND_QUEUE_DESCRIBE, "q");
    pass(f, 2000);
    c = (struct command){.type = COMMAND_QUEUE_DESCRIBE, .token = {.conn = 99}, .queue = named("q")};
    submit(f, &c);
    assert_int_equal(f->error, BROKER_QUEUE_NOT_FOUND);
}

/* What is due, is passed over, waits or comes from disk when the engine ends is freed: the sanitizer looks. */
static void the_end(void **state)
{
    struct fixture *f = begin(state);
    fill(f, "q", 2000);
    for (uint32_t i = 0; i < 10; i++) {
        struct command c = reading(i, "q", 1 + i * 200, 10, 1000);
        c.u.read.filter.key = "k";
        f->pending_from = i == 5 ? 1000 : 0;
        submit(f, &c);
        if (i == 5) {
            tick(f);
        }
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(what_is_there),
        TEST(nothing_before_it_is_on_disk),
        TEST(a_work_queue),
        TEST(times),
        TEST(trimmed_and_beyond),
        TEST(damage),
        TEST(filters),
        TEST(bounded_steps),
        TEST(deadline_while_looking),
        TEST(deadlines),
        TEST(close_while_waiting),
        TEST(delete_while_waiting),
        TEST(from_disk),
        TEST(ten_thousand),
        TEST(a_stream),
        TEST(no_endless_loop),
        TEST(timeouts_that_ask_again),
        TEST(others_go_midway),
        TEST(unused_queues),
        TEST(the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
