/* Compaction: what stays, what goes and when, and that it never takes the newest of a key. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>

#include "engine_internal.h"
#include "test_rig.h"

static const broker_queue_settings COMPACTED = {.size = sizeof COMPACTED,
                                                .set = BROKER_SET_RETENTION | BROKER_SET_COMPACT,
                                                .retention = BROKER_RETENTION_LOG,
                                                .compact = true};

static struct rig *begin(void **state)
{
    struct rig *r = *state;
    rig_create(r, COMMAND_QUEUE_CREATE, "log", &COMPACTED);
    return r;
}

static void put(struct rig *r, const char *key, const char *body)
{
    rig_publish(r, "log",
                (struct record_spec){.key = key, .key_len = strlen(key), .body = body, .body_len = strlen(body)});
    rig_settle(r);
    assert_int_equal(r->error, BROKER_OK);
}

/* The seqs that are there must be these, as "1 5 7". */
static void holds(struct rig *r, const char *expected)
{
    char got[512] = "";
    size_t at = 0;
    struct command c = {.type = COMMAND_SCAN, .token = {.conn = 1}, .queue = rig_name("log")};
    c.u.scan.action = SCAN_PEEK;
    rig_submit(r, &c);
    engine_tick(r->e, r->now); /* one turn, whatever else is to be done */
    assert_int_equal(r->error, BROKER_OK);
    for (uint32_t i = 0; i < r->peeked_count; i++) {
        at += (size_t)snprintf(got + at, sizeof got - at, i ? " %d" : "%d", (int)r->peeked[i]);
    }
    assert_string_equal(got, expected);
}

static void the_last_of_each_key_stays(void **state)
{
    struct rig *r = begin(state);
    put(r, "a", "1");
    put(r, "b", "2");
    put(r, "a", "3");
    put(r, "", "4"); /* no key */
    put(r, "a", "5");
    put(r, "", "6");
    put(r, "c", "7");
    rig_pass(r, 15000);
    holds(r, "2 4 5 6 7");
    put(r, "b", "8");
    put(r, "c", "9");
    put(r, "c", "10");
    rig_pass(r, 15000);
    holds(r, "4 5 6 8 10");
    assert_int_equal(rig_stored(r, "log"), 5);
    uint64_t reads = r->reads;
    rig_pass(r, 100000); /* nothing came: nothing is read */
    assert_int_equal(r->reads, reads);
    assert_int_equal(r->next.ms, UINT64_MAX);
}

static void not_other_queues(void **state)
{
    struct rig *r = *state;
    broker_queue_settings log = COMPACTED;
    log.compact = false;
    rig_create(r, COMMAND_QUEUE_CREATE, "log", &log);
    put(r, "a", "1");
    put(r, "a", "2");
    rig_pass(r, 100000);
    holds(r, "1 2");
    rig_create(r, COMMAND_QUEUE_ALTER, "log", &COMPACTED); /* what is there counts from then on */
    rig_pass(r, 2000);
    rig_pass(r, 10000);
    holds(r, "2");
}

static void when(void **state)
{
    struct rig *r = begin(state);
    for (int i = 0; i < 10; i++) {
        put(r, i % 2 ? "a" : "b", "x");
    }
    rig_pass(r, 999);
    assert_int_equal(r->reads, 0);
    rig_pass(r, 1); /* all of it is dirty: a second is enough */
    holds(r, "9 10");
    for (int i = 0; i < 30; i++) {
        char key[16];
        snprintf(key, sizeof key, "k%d", i);
        put(r, key, "x");
    }
    rig_pass(r, 1000);
    uint64_t reads = r->reads;
    put(r, "k0", "y");            /* 1 of 33 */
    for (int i = 0; i < 9; i++) { /* as long as publishes go on, it is not worth it */
        rig_pass(r, 5000);
        assert_int_equal(r->reads, reads);
        put(r, "", "y");
    }
    rig_pass(r, 9999);
    assert_int_equal(r->reads, reads);
    rig_pass(r, 1001);
    assert_true(r->reads > reads);
}

static void never_beyond_what_is_visible(void **state)
{
    struct rig *r = begin(state);
    put(r, "a", "1");
    uint64_t committed = r->store.count;
    struct record_spec spec = {.key = "a", .key_len = 1, .body = "2", .body_len = 1};
    rig_publish(r, "log", spec);
    r->now.mono.ms += 60000;
    for (int i = 0; i < 10; i++) {
        rig_tick(r);
    }
    assert_int_equal(r->store.count, committed + 1); /* 2 may yet be lost: 1 is the newest */
    rig_pass(r, 15000);
    holds(r, "2");
}

static void empty_bodies(void **state)
{
    struct rig *r = begin(state);
    put(r, "a", "1");
    put(r, "b", "2");
    put(r, "a", "");
    put(r, "", "");
    rig_pass(r, 15000);
    holds(r, "2 3 4"); /* it stays for a while, for those that follow the log */
    rig_pass(r, 40000);
    holds(r, "2 3 4");
    rig_pass(r, 10000);
    holds(r, "2 4");
    put(r, "b", "");
    rig_pass(r, 15000);
    put(r, "b", "6"); /* back again */
    rig_pass(r, 100000);
    holds(r, "4 6");
    put(r, "c", "7");
    r->now.wall.ms += 1000000; /* the wall clock jumps: old as soon as it comes */
    put(r, "c", "");
    rig_pass(r, 1000);
    rig_pass(r, 75000);
    holds(r, "4 6");
    assert_int_equal(r->next.ms, UINT64_MAX);
}

static uint64_t scan_range(struct rig *r, enum scan_action action, uint64_t from, uint64_t to)
{
    struct command c = {.type = COMMAND_SCAN, .token = {.conn = 1}, .queue = rig_name("log")};
    c.u.scan.action = action;
    c.u.scan.from_seq = from;
    c.u.scan.to_seq = to;
    rig_submit(r, &c);
    rig_settle(r);
    assert_int_equal(r->error, BROKER_OK);
    return r->matched;
}

static void the_newest_goes_meanwhile(void **state)
{
    struct rig *r = begin(state);
    for (int i = 0; i < 600; i++) { /* more than two turns read */
        put(r, "", "x");
    }
    put(r, "a", "601");
    put(r, "a", "");
    put(r, "a", "603");
    put(r, "b", "604");
    put(r, "b", "605");
    put(r, "b", "606");
    for (int i = 0; i < 300; i++) {
        put(r, "", "x");
    }
    r->now.mono.ms += 61000;
    r->now.wall.ms += 61000;
    while (r->reads < 906 + 100) { /* into the second walk, not to the keys yet */
        rig_tick(r);
    }
    struct command c = {.type = COMMAND_SCAN, .token = {.conn = 1}, .queue = rig_name("log")};
    c.u.scan.action = SCAN_DELETE;
    c.u.scan.from_seq = c.u.scan.to_seq = 603;
    rig_submit(r, &c);
    c.u.scan.from_seq = c.u.scan.to_seq = 606;
    rig_submit(r, &c);
    rig_settle(r);
    uint64_t value = scan_range(r, SCAN_COUNT, 601, 601), empty = scan_range(r, SCAN_COUNT, 602, 602);
    assert_true(value <= empty); /* never the value without the empty body behind it */
    assert_int_equal(scan_range(r, SCAN_COUNT, 605, 605), 1);
    rig_pass(r, 30000); /* the next pass makes it good */
    assert_int_equal(scan_range(r, SCAN_COUNT, 601, 603), 0);
    assert_int_equal(scan_range(r, SCAN_COUNT, 604, 606), 1);
    assert_int_equal(scan_range(r, SCAN_COUNT, 605, 605), 1);
}

static void what_waits_for_its_time(void **state)
{
    struct rig *r = begin(state);
    put(r, "a", "1");
    put(r, "a", "2");
    rig_publish(
        r, "log",
        (struct record_spec){.key = "a", .key_len = 1, .body = "3", .body_len = 1, .due_ms = RIG_WALL_MS + 1000000000});
    put(r, "b", "4");
    put(r, "b", "5");
    rig_pass(r, 15000);
    holds(r, "2 3 5");
}

static void more_keys_than_fit(void **state)
{
    struct rig *r = begin(state); /* max_compaction_keys is 1000 */
    char key[16];
    for (int i = 0; i < 5000; i++) {
        snprintf(key, sizeof key, "key-%d", i % 2500);
        rig_publish(r, "log", (struct record_spec){.key = key, .key_len = strlen(key), .body = "x", .body_len = 1});
    }
    rig_settle(r);
    for (int i = 0; i < 20; i++) {
        rig_pass(r, 10000);
    }
    assert_int_equal(rig_stored(r, "log"), 2500);
    struct command c = {.type = COMMAND_SCAN, .token = {.conn = 1}, .queue = rig_name("log")};
    c.u.scan.action = SCAN_COUNT;
    c.u.scan.to_seq = 2500;
    rig_submit(r, &c);
    rig_settle(r);
    assert_int_equal(r->matched, 0);
}

static void in_slices(void **state)
{
    struct rig *r = begin(state);
    for (int i = 0; i < 2000; i++) {
        rig_publish(r, "log", (struct record_spec){.key = "k", .key_len = 1, .body = "x", .body_len = 1});
    }
    rig_settle(r);
    r->now.mono.ms += 1000;
    int turns = 0;
    do {
        uint64_t reads = r->reads;
        rig_tick(r);
        assert_true(r->reads - reads <= 256);
        turns++;
    } while (r->next.ms == r->now.mono.ms);
    assert_true(turns >= 16);
    rig_settle(r);
    assert_int_equal(rig_stored(r, "log"), 1);
}

static void reads_that_wait_and_damage(void **state)
{
    struct rig *r = begin(state);
    put(r, "a", "1");
    put(r, "b", "2");
    put(r, "a", "3");
    put(r, "a", "4");
    put(r, "b", "5");
    r->store.damaged = 4;
    r->store.pending = true;
    rig_pass(r, 1000);
    assert_true(r->next.ms > r->now.mono.ms); /* it does not spin */
    r->store.pending = false;
    rig_pass(r, 1000);
    assert_int_equal(rig_stored(r, "log"), 5);
    engine_readable(r->e, r->now, record_queue(r->store.records[r->store.count - 1].bytes));
    rig_settle(r);
    assert_int_equal(rig_stored(r, "log"), 3); /* of what can be read, 3 is the newest */
    r->store.damaged = 0;
    holds(r, "3 4 5");
}

static void changes_under_way(void **state)
{
    struct rig *r = begin(state);
    broker_queue_settings off = COMPACTED, work = COMPACTED;
    off.compact = false;
    work.retention = BROKER_RETENTION_WORK;
    work.compact = false;
    for (int turn = 0; turn < 3; turn++) {
        for (int i = 0; i < 1000; i++) {
            rig_publish(r, "log", (struct record_spec){.key = "k", .key_len = 1, .body = "x", .body_len = 1});
        }
        rig_settle(r);
        r->now.mono.ms += 1000;
        rig_tick(r);
        rig_tick(r);
        assert_int_equal(r->next.ms, r->now.mono.ms);
        if (turn == 0) {
            rig_create(r, COMMAND_QUEUE_ALTER, "log", &off);
            assert_int_equal(rig_stored(r, "log"), 1000);
            rig_create(r, COMMAND_QUEUE_ALTER, "log", &COMPACTED);
            rig_pass(r, 1000);
            assert_int_equal(rig_stored(r, "log"), 1);
        } else if (turn == 1) {
            rig_simple(r, COMMAND_QUEUE_PURGE, "log", NULL);
            assert_int_equal(rig_stored(r, "log"), 0);
        } else {
            rig_create(r, COMMAND_QUEUE_ALTER, "log", &work);
            rig_pass(r, 60000);
            rig_create(r, COMMAND_QUEUE_ALTER, "log", &COMPACTED);
            r->now.mono.ms += 1000;
            rig_tick(r);
        }
    }
    rig_simple(r, COMMAND_QUEUE_DELETE, "log", NULL);
    rig_create(r, COMMAND_QUEUE_CREATE, "log", &COMPACTED);
    for (int i = 0; i < 1000; i++) {
        rig_publish(r, "log", (struct record_spec){.key = "k", .key_len = 1, .body = "x", .body_len = 1});
    }
    rig_settle(r);
    r->now.mono.ms += 1000;
    rig_tick(r); /* under way when the engine ends */
}

static void a_full_disk(void **state)
{
    struct rig *r = begin(state);
    put(r, "a", "1");
    put(r, "a", "2");
    r->store.refuse = BROKER_DISK_FULL;
    rig_pass(r, 15000);
    assert_true(r->next.ms > r->now.mono.ms + 1000);
    r->store.refuse = BROKER_OK;
    holds(r, "1 2");
    rig_pass(r, 15000);
    holds(r, "2");
    put(r, "a", "");
    rig_pass(r, 15000);
    holds(r, "3");
    r->store.refuse = BROKER_DISK_FULL;
    rig_pass(r, 60000);
    r->store.refuse = BROKER_OK;
    holds(r, "3");
    rig_pass(r, 30000);
    holds(r, "");
}

static void newest_was_deleted(void **state)
{
    struct rig *r = begin(state);
    put(r, "a", "1");
    put(r, "a", "2");
    put(r, "b", "3");
    put(r, "b", "4");
    struct command c = {.type = COMMAND_SCAN, .token = {.conn = 1}, .queue = rig_name("log")};
    c.u.scan.action = SCAN_DELETE;
    c.u.scan.from_seq = c.u.scan.to_seq = 2;
    rig_submit(r, &c);
    rig_settle(r);
    rig_pass(r, 15000);
    holds(r, "1 4");
}

/* Any mixture: after a pass each key has its newest message, and nothing older. */
static void at_random(void **state)
{
    struct rig *r = begin(state);
    uint64_t seed = 17, newest[20] = {0}, published = 0;
    bool is_empty[20] = {false};
    for (int round = 0; round < 60; round++) {
        for (int i = 0; i < 40; i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            char key[16];
            unsigned k = (seed >> 33) % 20;
            bool empty = seed >> 40 & 1 && seed >> 41 & 1;
            snprintf(key, sizeof key, "k%u", k);
            rig_publish(
                r, "log",
                (struct record_spec){.key = key, .key_len = strlen(key), .body = "x", .body_len = empty ? 0 : 1});
            newest[k] = ++published;
            is_empty[k] = empty;
            if (seed >> 50 & 1 && seed >> 51 & 1) {
                rig_settle(r);
            }
        }
        rig_settle(r);
        bool all_old = round % 3 == 0;
        rig_pass(r, 15000);
        if (all_old) {
            rig_pass(r, 100000);
        }
        struct command c = {.type = COMMAND_SCAN, .token = {.conn = 1}, .queue = rig_name("log")};
        rig_submit(r, &c);
        rig_tick(r);
        uint32_t at = 0;
        for (uint64_t seq = 1; seq <= published; seq++) {
            for (int k = 0; k < 20; k++) {
                if (newest[k] != seq) {
                    continue;
                }
                if (at < r->peeked_count && r->peeked[at] == seq) {
                    at++;
                    assert_false(all_old && is_empty[k]);
                } else {
                    assert_true(is_empty[k]);
                }
            }
        }
        assert_int_equal(at, r->peeked_count);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        TEST(the_last_of_each_key_stays),   TEST(not_other_queues),   TEST(when),
        TEST(never_beyond_what_is_visible), TEST(empty_bodies),       TEST(the_newest_goes_meanwhile),
        TEST(what_waits_for_its_time),      TEST(more_keys_than_fit), TEST(in_slices),
        TEST(reads_that_wait_and_damage),   TEST(changes_under_way),  TEST(a_full_disk),
        TEST(newest_was_deleted),           TEST(at_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
