/* What can be set of queues and groups, and what follows from it: limits, unused queues, bindings, what survives a start. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine.h"
#include "test_store.h"
#include "wire.h"

enum { GOT_MAX = 64, RESULTS_MAX = 8 };

struct fixture {
    struct engine *e;
    struct test_store store;
    struct now now;
    monotime next; /* what the last tick said */
    broker_error error;
    char text[512];
    uint32_t completions;
    struct publish_result results[RESULTS_MAX];
    size_t result_count;
    uint64_t got[GOT_MAX], receipts[GOT_MAX];
    uint32_t got_count, stale;
    broker_queue_info queue;
    char dead_letter[256];
    broker_group_info groups[4];
    char filter_key[64];
    size_t group_count;
    char bindings[8][256];
    size_t binding_count;
};

static void on_describe(struct fixture *f, const struct completion *c)
{
    f->queue = *c->u.describe.queue;
    snprintf(f->dead_letter, sizeof f->dead_letter, "%s",
             f->queue.settings.dead_letter ? f->queue.settings.dead_letter : "");
    f->group_count = c->u.describe.group_count;
    assert_true(f->group_count <= 4);
    memcpy(f->groups, c->u.describe.groups, f->group_count * sizeof f->groups[0]);
    f->filter_key[0] = 0;
    for (size_t i = 0; i < f->group_count; i++) {
        if (f->groups[i].settings.filter.key) {
            snprintf(f->filter_key, sizeof f->filter_key, "%s", f->groups[i].settings.filter.key);
        }
    }
    f->binding_count = c->u.describe.binding_count;
    for (size_t i = 0; i < f->binding_count && i < 8; i++) {
        snprintf(f->bindings[i], sizeof f->bindings[i], "%s", c->u.describe.bindings[i]);
    }
}

static bool on_deliver(void *sink, const struct delivery *d)
{
    struct fixture *f = sink;
    for (uint32_t i = 0; i < d->count; i++) {
        assert_true(f->got_count < GOT_MAX);
        f->receipts[f->got_count] = d->first_receipt + i;
        f->got[f->got_count++] = d->messages[i].seq;
    }
    return true;
}

static void on_complete(void *sink, const struct completion *c)
{
    struct fixture *f = sink;
    f->completions++;
    f->error = c->error;
    f->text[0] = 0;
    if (c->error) {
        assert_non_null(c->text);
        snprintf(f->text, sizeof f->text, "%s", c->text);
    } else if (c->type == COMMAND_QUEUE_DESCRIBE) {
        on_describe(f, c);
    } else if (c->type == COMMAND_PUBLISH) {
        f->result_count = c->u.publish.count;
        assert_true(f->result_count <= RESULTS_MAX);
        memcpy(f->results, c->u.publish.results, c->u.publish.count * sizeof *f->results);
    } else if (c->type == COMMAND_LEASE) {
        on_deliver(f, &c->u.lease);
    } else if (c->type == COMMAND_ACK) {
        f->stale = c->u.settle.stale;
    }
}

static void on_ended(void *sink, struct token token, broker_error error, const char *text) {}

static const struct sink_ops SINK = {.complete = on_complete, .deliver = on_deliver, .ended = on_ended};

static void commit(struct fixture *f)
{
    engine_committed(f->e, f->now, f->store.count, f->store.count);
    f->next = engine_tick(f->e, f->now);
}

static void later(struct fixture *f, uint64_t ms)
{
    f->now.mono.ms += ms;
    f->now.wall.ms += ms;
    commit(f);
}

static void start_engine(struct fixture *f, const struct buf *snapshot, size_t from)
{
    static uint32_t epoch;
    const char *text = "";
    struct engine_options options = {.max_bindings_per_queue = 3};
    f->e = engine_new(&options, &test_store_ops, &f->store, &SINK, f);
    assert_non_null(f->e);
    if (snapshot) {
        assert_int_equal(engine_restore(f->e, snapshot->bytes, snapshot->len, &text), BROKER_OK);
    }
    for (size_t i = from; i < f->store.count; i++) {
        assert_int_equal(engine_replay(f->e, f->store.records[i].bytes, &text), BROKER_OK);
    }
    engine_recovered(f->e, f->now, ++epoch);
    commit(f);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    f->now = (struct now){.mono = {1000}, .wall = {1700000000000}};
    test_store_init(&f->store);
    start_engine(f, NULL, 0);
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
    } else {
        for (size_t i = 0; i < f->store.count; i++) {
            f->store.records[i].dead = false; /* the replay reports them anew */
        }
    }
    engine_free(f->e);
    f->now.mono.ms = 50; /* another start, another monotonic clock */
    start_engine(f, snapshot ? &b : NULL, snapshot ? f->store.count : 0);
    buf_release(&b);
}

static struct name named(const char *s)
{
    return (struct name){.bytes = s, .len = s ? strlen(s) : 0};
}

/* Submit, and wait for the answer. */
static broker_error command(struct fixture *f, struct command c)
{
    uint32_t before = f->completions;
    c.token = (struct token){.conn = 1, .correlation = 1};
    engine_submit(f->e, f->now, &c);
    commit(f);
    assert_int_equal(f->completions, before + 1);
    return f->error;
}

static broker_error set(struct fixture *f, enum command_type type, const char *queue, broker_queue_settings settings)
{
    struct command c = {.type = type, .queue = named(queue)};
    c.u.queue.settings = &settings;
    return command(f, c);
}

static broker_error simple(struct fixture *f, enum command_type type, const char *queue)
{
    return command(f, (struct command){.type = type, .queue = named(queue)});
}

static void describe(struct fixture *f, const char *queue)
{
    assert_int_equal(simple(f, COMMAND_QUEUE_DESCRIBE, queue), BROKER_OK);
}

static broker_error bind_pattern(struct fixture *f, enum command_type type, const char *queue, const char *pattern)
{
    struct command c = {.type = type, .queue = named(queue)};
    c.u.bind.pattern = named(pattern);
    return command(f, c);
}

static broker_error publish_one(struct fixture *f, const char *queue, uint32_t body_len, const char *id)
{
    static const char body[4096];
    struct record_spec spec = {.body = body, .body_len = body_len, .id = id, .id_len = id ? strlen(id) : 0};
    uint8_t *record = malloc(record_spec_bytes(&spec));
    record_spec_put(record, &spec);
    struct command c = {.type = COMMAND_PUBLISH, .queue = named(queue)};
    c.u.publish.records = record;
    c.u.publish.len = record_spec_bytes(&spec);
    broker_error error = command(f, c);
    free(record);
    return error ? error : f->results[0].error;
}

static void publish(struct fixture *f, const char *queue, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        assert_int_equal(publish_one(f, queue, 8, NULL), BROKER_OK); /* 48 bytes stored */
    }
}

static void subscribe(struct fixture *f, uint64_t conn, const char *queue, uint32_t credit)
{
    struct command c = {.type = COMMAND_SUBSCRIBE, .token = {.conn = conn, .stream = 1}, .queue = named(queue)};
    engine_submit(f->e, f->now, &c);
    assert_int_equal(f->error, BROKER_OK);
    c = (struct command){.type = COMMAND_CREDIT, .token = {.conn = conn, .stream = 1}};
    c.u.credit.messages = credit;
    c.u.credit.bytes = 1 << 20;
    engine_submit(f->e, f->now, &c);
    commit(f);
}

/* ---- settings ---------------------------------------------------------------------------------------------------------- */

static const broker_queue_settings EVERYTHING = {.set = BROKER_SET_ALL,
                                                 .retention = BROKER_RETENTION_LOG,
                                                 .sync = BROKER_SYNC_INTERVAL,
                                                 .lease_ms = 1,
                                                 .max_message_bytes = 1000,
                                                 .log_max_age_ms = 1ull << 40,
                                                 .log_max_bytes = 1ull << 41,
                                                 .log_max_messages = 1ull << 42,
                                                 .max_attempts = 1000000,
                                                 .backoff = BROKER_BACKOFF_EXPONENTIAL,
                                                 .backoff_ms = 7,
                                                 .backoff_max_ms = 86400000,
                                                 .backoff_jitter_percent = 100,
                                                 .dead_letter = "other",
                                                 .ttl_ms = 3162240000000,
                                                 .unused_ms = 3162240000000,
                                                 .dedup_ms = 3162240000000,
                                                 .dedup_count = 10000000,
                                                 .max_messages = 1ull << 43,
                                                 .max_bytes = 1ull << 44,
                                                 .overflow = BROKER_OVERFLOW_DROP_OLDEST,
                                                 .dead_letter_expired = true,
                                                 .ordered_keys = false,
                                                 .fair_keys = true,
                                                 .compact = true};

/* The queue is as EVERYTHING says; and what describe says of it makes another one that is. */
static void check_everything(struct fixture *f, const char *queue)
{
    assert_int_equal(set(f, COMMAND_QUEUE_CREATE, queue, EVERYTHING), BROKER_OK);
    describe(f, queue);
    assert_int_equal(f->queue.settings.size, sizeof f->queue.settings);
    assert_int_equal(f->queue.settings.set, BROKER_SET_ALL);
    broker_queue_settings said = f->queue.settings;
    said.dead_letter = f->dead_letter;
    assert_int_equal(set(f, COMMAND_QUEUE_CREATE, "copy", said), BROKER_OK);
    assert_int_equal(set(f, COMMAND_QUEUE_CREATE, "copy", EVERYTHING), BROKER_OK);
    assert_int_equal(simple(f, COMMAND_QUEUE_DELETE, "copy"), BROKER_OK);
}

static void test_every_setting_survives(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(set(f, COMMAND_QUEUE_CREATE, "all", EVERYTHING), BROKER_OK);
    check_everything(f, "all");
    for (int snapshot = 0; snapshot < 2; snapshot++) {
        restart(f, snapshot);
        check_everything(f, "all");
    }
    assert_int_equal(simple(f, COMMAND_QUEUE_PAUSE, "all"), BROKER_OK); /* pausing keeps them */
    restart(f, false);
    check_everything(f, "all");
    assert_true(f->queue.paused);
    /* Each setting alone makes another queue. */
    for (uint32_t bit = 1; bit <= BROKER_SET_COMPACT; bit <<= 1) {
        broker_queue_settings other = {.set = bit, .retention = 1, .sync = 1, .lease_ms = 2, .dedup_count = 1};
        other.ordered_keys = true;
        assert_int_equal(set(f, COMMAND_QUEUE_CREATE, "all", other), BROKER_QUEUE_EXISTS);
    }
}

static void test_defaults(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(simple(f, COMMAND_QUEUE_CREATE, "q"), BROKER_OK);
    describe(f, "q");
    const broker_queue_settings *s = &f->queue.settings;
    assert_int_equal(s->set, BROKER_SET_ALL);
    assert_int_equal(s->retention, BROKER_RETENTION_WORK);
    assert_int_equal(s->dedup_ms, 120000);
    assert_int_equal(s->dedup_count, 100000);
    assert_true(s->ordered_keys);
    assert_false(s->fair_keys || s->compact || s->dead_letter_expired);
    assert_int_equal(s->max_messages + s->max_bytes + s->unused_ms + s->ttl_ms + s->max_attempts, 0);
    assert_string_equal(f->dead_letter, "");
}

/* A data directory of before: the queue's record has version 1. */
static void test_version_1_is_read(void **state)
{
    struct fixture *f = *state;
    uint8_t record[RECORD_HEAD_BYTES + 48 + 8] = {0}, *body = record + RECORD_HEAD_BYTES;
    struct record_head head = {.length = RECORD_HEAD_BYTES + 48 + 3, .type = RECORD_QUEUE, .queue = 9};
    record_head_put(record, &head);
    body[0] = 1;
    body[1] = BROKER_RETENTION_LOG;
    body[2] = BROKER_SYNC_NONE;
    body[3] = 1; /* paused */
    put_u32(body + 4, 4711);
    put_u64(body + 32, 12);
    put_u32(body + 44, 3);
    memcpy(body + 48, "old", 3);
    uint64_t index;
    assert_int_equal(test_store_ops.append(&f->store, record, head.length, DURABILITY_SYNCED, &index), BROKER_OK);
    restart(f, false);
    describe(f, "old");
    assert_int_equal(f->queue.id, 9);
    assert_true(f->queue.paused);
    assert_int_equal(f->queue.settings.retention, BROKER_RETENTION_LOG);
    assert_int_equal(f->queue.settings.lease_ms, 4711);
    assert_int_equal(f->queue.settings.log_max_messages, 12);
    assert_int_equal(f->queue.settings.dedup_ms, 120000);
    assert_true(f->queue.settings.ordered_keys);
    restart(f, true);
    describe(f, "old");
    assert_int_equal(f->queue.settings.lease_ms, 4711);
}

struct wrong {
    broker_queue_settings s;
    const char *says;
};

static void test_out_of_range_says_so(void **state)
{
    static const struct wrong wrong[] = {
        {{.set = BROKER_SET_RETENTION, .retention = 3}, "retention 3"},
        {{.set = BROKER_SET_SYNC, .sync = BROKER_SYNC_DEFAULT}, "sync 0"},
        {{.set = BROKER_SET_LEASE_MS, .lease_ms = 0}, "lease_ms 0"},
        {{.set = BROKER_SET_MAX_MESSAGE_BYTES, .max_message_bytes = UINT32_MAX}, "max_message_bytes 4294967295"},
        {{.set = BROKER_SET_MAX_ATTEMPTS, .max_attempts = 1000001}, "max_attempts 1000001"},
        {{.set = BROKER_SET_BACKOFF, .backoff = 3}, "backoff 3"},
        {{.set = BROKER_SET_BACKOFF, .backoff = BROKER_BACKOFF_FIXED, .backoff_ms = 86400001}, "backoff_ms 86400001"},
        {{.set = BROKER_SET_BACKOFF, .backoff = BROKER_BACKOFF_FIXED}, "backoff of 0 ms"},
        {{.set = BROKER_SET_BACKOFF, .backoff_jitter_percent = 101}, "backoff_jitter_percent 101"},
        {{.set = BROKER_SET_BACKOFF, .backoff = BROKER_BACKOFF_EXPONENTIAL, .backoff_ms = 10, .backoff_max_ms = 9},
         "backoff_max_ms 9 is below backoff_ms 10"},
        {{.set = BROKER_SET_DEAD_LETTER, .dead_letter = "no name"}, "dead_letter 'no name'"},
        {{.set = BROKER_SET_DEAD_LETTER, .dead_letter = "q"}, "its own dead_letter"},
        {{.set = BROKER_SET_TTL_MS, .ttl_ms = 3162240000001}, "ttl_ms 3162240000001"},
        {{.set = BROKER_SET_UNUSED_MS, .unused_ms = UINT64_MAX}, "unused_ms 18446744073709551615"},
        {{.set = BROKER_SET_DEDUP_MS, .dedup_ms = 3162240000001}, "dedup_ms"},
        {{.set = BROKER_SET_DEDUP_COUNT, .dedup_count = 10000001}, "dedup_count 10000001"},
        {{.set = BROKER_SET_DEDUP_COUNT, .dedup_count = 0}, "dedup_count 0"},
        {{.set = BROKER_SET_MAX_BYTES, .max_bytes = 63}, "max_bytes 63"},
        {{.set = BROKER_SET_OVERFLOW, .overflow = 2}, "overflow 2"},
        {{.set = BROKER_SET_COMPACT, .compact = true}, "retention"},
    };
    struct fixture *f = *state;
    assert_int_equal(simple(f, COMMAND_QUEUE_CREATE, "there"), BROKER_OK);
    size_t stored = f->store.count;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(set(f, COMMAND_QUEUE_CREATE, "q", wrong[i].s), BROKER_INVALID_ARGUMENT);
        if (!strstr(f->text, wrong[i].says)) {
            fail_msg("'%s' does not say '%s'", f->text, wrong[i].says);
        }
        if (!wrong[i].s.dead_letter || strcmp(wrong[i].s.dead_letter, "q") != 0) {
            broker_error error = set(f, COMMAND_QUEUE_ALTER, "there", wrong[i].s);
            assert_true(error == BROKER_INVALID_ARGUMENT || error == BROKER_REFUSED);
        }
        assert_int_equal(f->store.count, stored); /* nothing of it in the log */
    }
}

static void test_what_does_not_fit_says_why(void **state)
{
    struct fixture *f = *state;
    broker_queue_settings log = {
        .set = BROKER_SET_RETENTION | BROKER_SET_COMPACT, .retention = BROKER_RETENTION_LOG, .compact = true};
    assert_int_equal(set(f, COMMAND_QUEUE_CREATE, "log", log), BROKER_OK);
    broker_queue_settings work = {.set = BROKER_SET_RETENTION, .retention = BROKER_RETENTION_WORK};
    assert_int_equal(set(f, COMMAND_QUEUE_ALTER, "log", work), BROKER_REFUSED);
    assert_non_null(strstr(f->text, "compact off"));
    work.set |= BROKER_SET_COMPACT;
    assert_int_equal(set(f, COMMAND_QUEUE_ALTER, "log", work), BROKER_OK);
    describe(f, "log");
    assert_int_equal(f->queue.settings.retention, BROKER_RETENTION_WORK);
    char longest[252] = {0}; /* no room for .dead */
    memset(longest, 'x', 251);
    broker_queue_settings dead = {.set = BROKER_SET_MAX_ATTEMPTS, .max_attempts = 1};
    assert_int_equal(set(f, COMMAND_QUEUE_CREATE, longest, dead), BROKER_INVALID_ARGUMENT);
    assert_non_null(strstr(f->text, "251 bytes"));
    assert_int_equal(simple(f, COMMAND_QUEUE_CREATE, longest), BROKER_OK);
    assert_int_equal(set(f, COMMAND_QUEUE_ALTER, longest, dead), BROKER_REFUSED);
    dead.set |= BROKER_SET_DEAD_LETTER;
    dead.dead_letter = "d";
    assert_int_equal(set(f, COMMAND_QUEUE_ALTER, longest, dead), BROKER_OK);
    describe(f, longest);
    assert_string_equal(f->dead_letter, "d");
    dead = (broker_queue_settings){.set = BROKER_SET_DEAD_LETTER, .dead_letter = ""}; /* back to the default */
    assert_int_equal(set(f, COMMAND_QUEUE_ALTER, longest, dead), BROKER_REFUSED);
}

/* ---- limits ------------------------------------------------------------------------------------------------------------ */

static void test_full_queues_reject(void **state)
{
    struct fixture *f = *state;
    broker_queue_settings s = {.set = BROKER_SET_MAX_MESSAGES, .max_messages = 3};
    assert_int_equal(set(f, COMMAND_QUEUE_CREATE, "q", s), BROKER_OK);
    publish(f, "q", 3);
    assert_int_equal(publish_one(f, "q", 8, NULL), BROKER_QUEUE_FULL);
    assert_true(f->results[0].retry_ms > 0);
    subscribe(f, 2, "q", 1);
    struct command c = {.type = COMMAND_QUEUE_PURGE, .queue = named("q")};
    assert_int_equal(command(f, c), BROKER_OK);
    publish(f, "q", 1);
    s = (broker_queue_settings){.set = BROKER_SET_MAX_MESSAGES | BROKER_SET_MAX_BYTES, .max_bytes = 100};
    assert_int_equal(set(f, COMMAND_QUEUE_ALTER, "q", s), BROKER_OK);
    publish(f, "q", 1); /* 96 of 100 bytes */
    assert_int_equal(publish_one(f, "q", 8, NULL), BROKER_QUEUE_FULL);
    assert_int_equal(publish_one(f, "q", 100, NULL), BROKER_TOO_LARGE); /* no waiting helps */
    describe(f, "q");
    assert_int_equal(f->queue.messages, 2);
    assert_int_equal(f->queue.published, 5);
    assert_int_equal(f->queue.dropped, 0);
}

static void check_dropped(struct fixture *f, uint64_t first, uint64_t messages, uint64_t dropped)
{
    describe(f, "q");
    assert_int_equal(f->queue.first_seq, first);
    assert_int_equal(f->queue.messages, messages);
    assert_int_equal(f->queue.dropped, dropped);
}

static void drop_by_number(struct fixture *f, broker_retention retention)
{
    broker_queue_settings s = {.set = BROKER_SET_RETENTION | BROKER_SET_MAX_MESSAGES | BROKER_SET_OVERFLOW,
                               .retention = retention,
                               .max_messages = 5,
                               .overflow = BROKER_OVERFLOW_DROP_OLDEST};
    assert_int_equal(set(f, COMMAND_QUEUE_CREATE, "q", s), BROKER_OK);
    publish(f, "q", 5);
    check_dropped(f, 1, 5, 0);
    publish(f, "q", 3);
    check_dropped(f, 4, 5, 3);
    s = (broker_queue_settings){.set = BROKER_SET_MAX_MESSAGES, .max_messages = 2};
    assert_int_equal(set(f, COMMAND_QUEUE_ALTER, "q", s), BROKER_OK); /* a change counts at once */
    check_dropped(f, 7, 2, 6);
    restart(f, false);
    check_dropped(f, 7, 2, 0);
    restart(f, true);
    check_dropped(f, 7, 2, 0);
    struct engine_stats stats;
    publish(f, "q", 1);
    engine_get_stats(f->e, &stats);
    assert_int_equal(stats.dropped, 1);
    subscribe(f, 2, "q", 10);
    assert_int_equal(f->got_count, 2);
    assert_int_equal(f->got[0], 8);
}

static void test_the_oldest_go_from_work(void **state)
{
    drop_by_number(*state, BROKER_RETENTION_WORK);
}

static void test_the_oldest_go_from_log(void **state)
{
    drop_by_number(*state, BROKER_RETENTION_LOG);
}

/* Lease the first `n` of q and ack all of them but the first. */
static void settle_behind_the_first(struct fixture *f, uint32_t n)
{
    struct command c = {.type = COMMAND_LEASE, .queue = named("q")};
    c.u.lease.max_messages = n;
    c.u.lease.max_bytes = 1 << 20;
    f->got_count = 0;
    assert_int_equal(command(f, c), BROKER_OK);
    assert_int_equal(f->got_count, n);
    struct receipt_range range = {.first = f->receipts[0] + 1, .count = n - 1};
    c = (struct command){.type = COMMAND_ACK};
    c.u.settle.ranges = &range;
    c.u.settle.count = 1;
    assert_int_equal(command(f, c), BROKER_OK);
}

/* What is settled in the middle does not count, and leases on what goes end. */
static void drop_around_holes(struct fixture *f, broker_queue_settings eight, broker_queue_settings two)
{
    eight.set = two.set = BROKER_SET_MAX_MESSAGES | BROKER_SET_MAX_BYTES | BROKER_SET_OVERFLOW;
    eight.overflow = two.overflow = BROKER_OVERFLOW_DROP_OLDEST;
    assert_int_equal(set(f, COMMAND_QUEUE_CREATE, "q", eight), BROKER_OK);
    publish(f, "q", 8);
    settle_behind_the_first(f, 5);
    check_dropped(f, 1, 4, 0); /* 1 is leased; 6, 7, 8 */
    size_t stored = f->store.count;
    assert_int_equal(set(f, COMMAND_QUEUE_ALTER, "q", two), BROKER_OK);
    check_dropped(f, 7, 2, 2);
    assert_int_equal(f->store.count, stored + 2); /* the settings, and one record for all that went */
    struct receipt_range range = {.first = f->receipts[0], .count = 1};
    struct command ack = {.type = COMMAND_ACK};
    ack.u.settle.ranges = &range;
    ack.u.settle.count = 1;
    assert_int_equal(command(f, ack), BROKER_OK);
    assert_int_equal(f->stale, 1);
    publish(f, "q", 1);
    check_dropped(f, 8, 2, 3);
}

static void test_the_oldest_go_around_holes(void **state)
{
    drop_around_holes(*state, (broker_queue_settings){.max_messages = 8}, (broker_queue_settings){.max_messages = 2});
}

static void test_the_oldest_go_around_holes_by_bytes(void **state)
{
    drop_around_holes(*state, (broker_queue_settings){.max_bytes = 8 * 48},
                      (broker_queue_settings){.max_bytes = 2 * 48});
}

static void test_the_oldest_go_by_bytes(void **state)
{
    struct fixture *f = *state;
    broker_queue_settings s = {.set = BROKER_SET_MAX_BYTES | BROKER_SET_OVERFLOW,
                               .max_bytes = 48 * 4,
                               .overflow = BROKER_OVERFLOW_DROP_OLDEST};
    assert_int_equal(set(f, COMMAND_QUEUE_CREATE, "q", s), BROKER_OK);
    publish(f, "q", 4);
    check_dropped(f, 1, 4, 0);
    assert_int_equal(publish_one(f, "q", 8 + 48, NULL), BROKER_OK); /* as two */
    check_dropped(f, 3, 3, 2);
    assert_int_equal(publish_one(f, "q", 8 + 3 * 48 + 1, NULL), BROKER_TOO_LARGE);
    check_dropped(f, 3, 3, 2);
    assert_int_equal(publish_one(f, "q", 8 + 3 * 48, NULL), BROKER_OK); /* all the room there is */
    check_dropped(f, 6, 1, 5);
    f->store.pending = true; /* the sizes of the oldest must come from disk: they go at the next call */
    publish(f, "q", 1);
    check_dropped(f, 6, 2, 5);
    f->store.pending = false;
    publish(f, "q", 1);
    check_dropped(f, 7, 2, 6);
}

/* A limit set on a backlog: the store says how far, and the rest message by message. */
static void test_a_backlog_goes(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(simple(f, COMMAND_QUEUE_CREATE, "q"), BROKER_OK);
    publish(f, "q", 900);
    broker_queue_settings s = {.set = BROKER_SET_MAX_MESSAGES | BROKER_SET_MAX_BYTES | BROKER_SET_OVERFLOW,
                               .max_messages = 500,
                               .overflow = BROKER_OVERFLOW_DROP_OLDEST};
    assert_int_equal(set(f, COMMAND_QUEUE_ALTER, "q", s), BROKER_OK);
    check_dropped(f, 401, 500, 400);
    s = (broker_queue_settings){.set = BROKER_SET_MAX_MESSAGES | BROKER_SET_MAX_BYTES, .max_bytes = 100 * 48};
    assert_int_equal(set(f, COMMAND_QUEUE_ALTER, "q", s), BROKER_OK);
    check_dropped(f, 801, 100, 800);
}

/* What is not visible yet is not dropped. */
static void test_the_oldest_wait_for_their_confirm(void **state)
{
    struct fixture *f = *state;
    broker_queue_settings s = {.set = BROKER_SET_MAX_MESSAGES | BROKER_SET_OVERFLOW,
                               .max_messages = 1,
                               .overflow = BROKER_OVERFLOW_DROP_OLDEST};
    assert_int_equal(set(f, COMMAND_QUEUE_CREATE, "q", s), BROKER_OK);
    uint8_t frame[5 * 48];
    struct record_spec spec = {.body = "12345678", .body_len = 8};
    for (int i = 0; i < 5; i++) {
        record_spec_put(frame + i * 48, &spec);
    }
    struct command c = {.type = COMMAND_PUBLISH, .token = {.conn = 1}, .queue = named("q")};
    c.u.publish.records = frame;
    c.u.publish.len = sizeof frame;
    engine_submit(f->e, f->now, &c);
    engine_tick(f->e, f->now);
    uint64_t messages, bytes, oldest;
    test_store_ops.usage(&f->store, 1, &messages, &bytes, &oldest);
    assert_int_equal(messages, 5);
    commit(f);
    publish(f, "q", 1);
    check_dropped(f, 6, 1, 5);
    publish(f, "q", 1);
    check_dropped(f, 7, 1, 6);
    f->store.refuse = BROKER_DISK_FULL;
    assert_int_equal(publish_one(f, "q", 8, NULL), BROKER_DISK_FULL);
    f->store.refuse = BROKER_OK;
    check_dropped(f, 7, 1, 6);
}

/* ---- unused queues ----------------------------------------------------------------------------------------------------- */

static bool is_there(struct fixture *f, const char *queue)
{
    broker_error error = simple(f, COMMAND_QUEUE_DESCRIBE, queue); /* looking is no use */
    assert_true(error == BROKER_OK || error == BROKER_QUEUE_NOT_FOUND);
    return error == BROKER_OK;
}

static void test_unused_queues_go(void **state)
{
    struct fixture *f = *state;
    broker_queue_settings s = {.set = BROKER_SET_UNUSED_MS, .unused_ms = 1000};
    assert_int_equal(set(f, COMMAND_QUEUE_CREATE, "q", s), BROKER_OK);
    assert_int_equal(f->next.ms, f->now.mono.ms + 1000);
    later(f, 999);
    assert_true(is_there(f, "q"));
    publish(f, "q", 1); /* used */
    later(f, 999);
    assert_true(is_there(f, "q"));
    assert_true(f->next.ms <= f->now.mono.ms + 1);
    later(f, 1);
    assert_false(is_there(f, "q"));
    assert_int_equal(simple(f, COMMAND_QUEUE_CREATE, "q"), BROKER_OK); /* the name is free */
    later(f, 100000);
    assert_true(is_there(f, "q"));
    assert_int_equal(set(f, COMMAND_QUEUE_ALTER, "q", s), BROKER_OK);
    later(f, 999);
    restart(f, false);
    later(f, 999); /* the time counts from the start */
    assert_true(is_there(f, "q"));
    later(f, 1);
    assert_false(is_there(f, "q"));
    restart(f, false);
    assert_false(is_there(f, "q"));
}

static void test_queues_with_consumers_are_used(void **state)
{
    struct fixture *f = *state;
    broker_queue_settings s = {.set = BROKER_SET_UNUSED_MS, .unused_ms = 1000};
    assert_int_equal(set(f, COMMAND_QUEUE_CREATE, "q", s), BROKER_OK);
    subscribe(f, 7, "q", 1);
    for (int i = 0; i < 5; i++) {
        later(f, 900);
        assert_true(is_there(f, "q"));
    }
    struct command c = {.type = COMMAND_CLOSE, .token = {.conn = 7}};
    engine_submit(f->e, f->now, &c);
    later(f, 999); /* from its end on */
    assert_true(is_there(f, "q"));
    f->store.refuse = BROKER_DISK_FULL;
    later(f, 10);
    assert_true(is_there(f, "q")); /* not in the log: not done */
    f->store.refuse = BROKER_OK;
    later(f, 1000);
    assert_false(is_there(f, "q"));
}

/* ---- bindings ---------------------------------------------------------------------------------------------------------- */

static void test_bind_and_unbind(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(simple(f, COMMAND_QUEUE_CREATE, "q"), BROKER_OK);
    assert_int_equal(bind_pattern(f, COMMAND_BIND, "none", "a"), BROKER_QUEUE_NOT_FOUND);
    assert_int_equal(bind_pattern(f, COMMAND_BIND, "q", "a..b"), BROKER_INVALID_ARGUMENT);
    assert_non_null(strstr(f->text, "'a..b'"));
    assert_int_equal(bind_pattern(f, COMMAND_BIND, "q", ""), BROKER_INVALID_ARGUMENT);
    assert_int_equal(bind_pattern(f, COMMAND_BIND, "q", "b.>"), BROKER_OK);
    assert_int_equal(bind_pattern(f, COMMAND_BIND, "q", "a.*"), BROKER_OK);
    size_t stored = f->store.count;
    assert_int_equal(bind_pattern(f, COMMAND_BIND, "q", "a.*"), BROKER_OK);
    assert_int_equal(bind_pattern(f, COMMAND_UNBIND, "q", "c"), BROKER_OK);
    assert_int_equal(f->store.count, stored); /* nothing changed, nothing written */
    assert_int_equal(bind_pattern(f, COMMAND_BIND, "q", "c"), BROKER_OK);
    assert_int_equal(bind_pattern(f, COMMAND_BIND, "q", "d"), BROKER_LIMIT_REACHED);
    assert_int_equal(bind_pattern(f, COMMAND_BIND, "q", "a.*"), BROKER_OK); /* bound already: no room needed */
    assert_int_equal(bind_pattern(f, COMMAND_UNBIND, "q", "c"), BROKER_OK);
    for (int start = 0; start < 3; start++) {
        describe(f, "q");
        assert_int_equal(f->queue.bindings, 2);
        assert_int_equal(f->binding_count, 2);
        assert_string_equal(f->bindings[0], "a.*");
        assert_string_equal(f->bindings[1], "b.>");
        restart(f, start == 0);
    }
    f->store.refuse = BROKER_DISK_FULL;
    assert_int_equal(bind_pattern(f, COMMAND_BIND, "q", "d"), BROKER_DISK_FULL);
    assert_int_equal(bind_pattern(f, COMMAND_UNBIND, "q", "a.*"), BROKER_DISK_FULL);
    f->store.refuse = BROKER_OK;
    describe(f, "q");
    assert_int_equal(f->binding_count, 2);
    assert_int_equal(simple(f, COMMAND_QUEUE_DELETE, "q"), BROKER_OK);
    restart(f, false);
}

/* Binding again is answered only once the first is on disk. */
static void test_bound_means_durable(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(simple(f, COMMAND_QUEUE_CREATE, "q"), BROKER_OK);
    struct command c = {.type = COMMAND_BIND, .token = {.conn = 1, .correlation = 1}, .queue = named("q")};
    c.u.bind.pattern = named("a");
    uint32_t before = f->completions;
    engine_submit(f->e, f->now, &c);
    engine_submit(f->e, f->now, &c);
    engine_committed(f->e, f->now, f->store.count, f->store.count - 1); /* written, not synced */
    assert_int_equal(f->completions, before);
    commit(f);
    assert_int_equal(f->completions, before + 2);
}

/* ---- groups ------------------------------------------------------------------------------------------------------------ */

static const broker_group_info *group(struct fixture *f, const char *name)
{
    for (size_t i = 0; i < f->group_count; i++) {
        if (strcmp(f->groups[i].name, name) == 0) {
            return &f->groups[i];
        }
    }
    fail_msg("there is no group '%s'", name);
    return NULL;
}

static broker_error set_group(struct fixture *f, enum command_type type, const char *group, broker_group_settings s)
{
    struct command c = {.type = type, .queue = named("q"), .group = named(group)};
    c.u.group.settings = &s;
    return command(f, c);
}

static void test_group_settings_survive(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(simple(f, COMMAND_QUEUE_CREATE, "q"), BROKER_OK);
    publish(f, "q", 3);
    broker_group_settings s = {.set = BROKER_GROUP_SET_FILTER, .filter = {.key = "k"}};
    assert_int_equal(set_group(f, COMMAND_GROUP_CREATE, "g", s), BROKER_OK);
    s = (broker_group_settings){.set = BROKER_GROUP_SET_SINGLE_ACTIVE, .single_active = true};
    assert_int_equal(set_group(f, COMMAND_GROUP_ALTER, "g", s), BROKER_OK);
    assert_int_equal(set_group(f, COMMAND_GROUP_ALTER, "none", s), BROKER_GROUP_NOT_FOUND);
    for (int start = 0; start < 4; start++) {
        describe(f, "q");
        assert_int_equal(f->group_count, 2);
        assert_true(group(f, "g")->settings.single_active);
        assert_string_equal(f->filter_key, "k");
        assert_false(group(f, "default")->settings.single_active);
        assert_null(group(f, "default")->settings.filter.key);
        if (start == 1) { /* a seek keeps them, also when it is replayed */
            struct command c = {.type = COMMAND_GROUP_SEEK, .queue = named("q"), .group = named("g")};
            c.u.group.start = BROKER_START_END;
            assert_int_equal(command(f, c), BROKER_OK);
        }
        restart(f, start == 0);
    }
    broker_group_settings wrong = {.set = BROKER_GROUP_SET_FILTER, .filter = {.topic = "a..b"}};
    assert_int_equal(set_group(f, COMMAND_GROUP_ALTER, "g", wrong), BROKER_INVALID_ARGUMENT);
    assert_int_equal(set_group(f, COMMAND_GROUP_CREATE, "h", wrong), BROKER_INVALID_ARGUMENT);
    describe(f, "q");
    assert_int_equal(f->group_count, 2);
    assert_string_equal(f->filter_key, "k");
    s = (broker_group_settings){.set = BROKER_GROUP_SET_FILTER}; /* everything again */
    assert_int_equal(set_group(f, COMMAND_GROUP_ALTER, "g", s), BROKER_OK);
    describe(f, "q");
    assert_string_equal(f->filter_key, "");
}

static void test_lag_is_what_is_not_settled(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(simple(f, COMMAND_QUEUE_CREATE, "q"), BROKER_OK);
    publish(f, "q", 10);
    subscribe(f, 2, "q", 4);
    describe(f, "q");
    assert_int_equal(f->groups[0].lag, 10);
    assert_int_equal(f->groups[0].leased, 4);
    assert_int_equal(f->groups[0].ready, 6);
    struct receipt_range range = {.first = f->receipts[0], .count = 1}; /* of seq 1 */
    struct command c = {.type = COMMAND_NACK};
    c.u.settle.ranges = &range;
    c.u.settle.count = 1;
    c.u.settle.delay_ms = 5000;
    assert_int_equal(command(f, c), BROKER_OK);
    range.first++;
    range.count = 2;
    c.type = COMMAND_ACK;
    assert_int_equal(command(f, c), BROKER_OK);
    describe(f, "q");
    assert_int_equal(f->groups[0].lag, 8);
    assert_int_equal(f->groups[0].leased, 1);
    assert_int_equal(f->groups[0].delayed, 1);
    assert_int_equal(f->groups[0].ready, 6);
}

/* ---- message ids ------------------------------------------------------------------------------------------------------- */

static void expect_publish(struct fixture *f, const char *id, uint64_t seq, bool duplicate)
{
    assert_int_equal(publish_one(f, "q", 8, id), BROKER_OK);
    assert_int_equal(f->results[0].first_seq, seq);
    assert_int_equal(f->results[0].duplicate, duplicate);
}

static void test_ids_are_stored_once(void **state)
{
    struct fixture *f = *state;
    broker_queue_settings s = {.set = BROKER_SET_DEDUP_MS, .dedup_ms = 10000};
    assert_int_equal(set(f, COMMAND_QUEUE_CREATE, "q", s), BROKER_OK);
    expect_publish(f, "a", 1, false);
    expect_publish(f, "b", 2, false);
    expect_publish(f, "a", 1, true);
    describe(f, "q");
    assert_int_equal(f->queue.duplicates, 1);
    assert_int_equal(f->queue.published, 2);
    for (int snapshot = 0; snapshot < 2; snapshot++) {
        restart(f, snapshot);
        expect_publish(f, "b", 2, true);
    }
    later(f, 10000);
    expect_publish(f, "b", 3, false);
    expect_publish(f, "b", 3, true);
    s.dedup_ms = 0;
    assert_int_equal(set(f, COMMAND_QUEUE_ALTER, "q", s), BROKER_OK);
    expect_publish(f, "b", 4, false);
    s.dedup_ms = 10000;
    assert_int_equal(set(f, COMMAND_QUEUE_ALTER, "q", s), BROKER_OK);
    expect_publish(f, "b", 5, false); /* not what was seen before there was no window */
    expect_publish(f, "b", 5, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_every_setting_survives, setup, teardown),
        cmocka_unit_test_setup_teardown(test_defaults, setup, teardown),
        cmocka_unit_test_setup_teardown(test_version_1_is_read, setup, teardown),
        cmocka_unit_test_setup_teardown(test_out_of_range_says_so, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_does_not_fit_says_why, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full_queues_reject, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_oldest_go_from_work, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_oldest_go_from_log, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_oldest_go_around_holes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_oldest_go_around_holes_by_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_oldest_go_by_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_backlog_goes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_oldest_wait_for_their_confirm, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unused_queues_go, setup, teardown),
        cmocka_unit_test_setup_teardown(test_queues_with_consumers_are_used, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bind_and_unbind, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bound_means_durable, setup, teardown),
        cmocka_unit_test_setup_teardown(test_group_settings_survive, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lag_is_what_is_not_settled, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ids_are_stored_once, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
