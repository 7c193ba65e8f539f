/* Whom messages go to: priorities of consumers, one active at a time, a bound to what is leased. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "feature_rig.h"

static void subscribe_as(struct feature *f, uint64_t conn, uint8_t priority, uint32_t max_unsettled, uint32_t credit)
{
    struct command c = {.type = COMMAND_SUBSCRIBE, .token = {.conn = conn, .stream = 1}, .queue = rig_name("q")};
    c.u.subscribe.priority = priority;
    c.u.subscribe.max_unsettled = max_unsettled;
    c.u.subscribe.lease_ms = 1000;
    rig_submit(&f->r, &c);
    assert_int_equal(f->r.error, BROKER_OK);
    c = (struct command){.type = COMMAND_CREDIT, .token = {.conn = conn, .stream = 1}};
    c.u.credit.messages = credit;
    c.u.credit.bytes = 1 << 20;
    rig_submit(&f->r, &c);
    f->got_count = 0;
    rig_settle(&f->r);
}

static void leave(struct feature *f, uint64_t conn)
{
    struct command c = {.type = COMMAND_CLOSE, .token = {.conn = conn}};
    f->got_count = 0;
    rig_submit(&f->r, &c);
    rig_settle(&f->r);
}

static uint64_t leased(struct feature *f)
{
    struct engine_stats stats;
    engine_get_stats(f->r.e, &stats);
    return stats.leased;
}

static void test_max_unsettled(void **state)
{
    struct feature *f = *state;
    rig_create(&f->r, COMMAND_QUEUE_CREATE, "q", NULL);
    put_all(f, "q", "abcdef", (struct record_spec){0});
    step(f);
    subscribe_as(f, 1, 0, 2, 100);
    check_got(f, "ab");
    uint64_t first = f->got[0].receipt;
    f->got_count = 0;
    rig_ack(&f->r, first, 1);
    check_got(f, "c");
    f->got_count = 0;
    rig_pass(&f->r, 1000); /* the leases run out: they make room, and come again */
    check_got(f, "bc");
    assert_int_equal(leased(f), 2);
    leave(f, 1);
    assert_int_equal(leased(f), 0);
    step(f);
    drain_just(f, "q", NULL, "bcdef");
}

static void test_priority(void **state)
{
    struct feature *f = *state;
    rig_create(&f->r, COMMAND_QUEUE_CREATE, "q", NULL);
    subscribe_as(f, 1, 0, 0, 10);
    subscribe_as(f, 2, 5, 0, 3);
    put_all(f, "q", "abcde", (struct record_spec){0});
    assert_int_equal(f->got_count, 5);
    leave(f, 1); /* what only the second one had stays with it */
    assert_int_equal(leased(f), 3);
    leave(f, 2);
    step(f);
    drain_just(f, "q", NULL, "abcde");
}

static void test_single_active(void **state)
{
    struct feature *f = *state;
    rig_create(&f->r, COMMAND_QUEUE_CREATE, "q", NULL);
    broker_group_settings gs = {.size = sizeof gs, .set = BROKER_GROUP_SET_SINGLE_ACTIVE, .single_active = true};
    struct command c = {.type = COMMAND_GROUP_ALTER, .token = {.conn = 9}, .queue = rig_name("q")};
    c.u.group.settings = &gs;
    rig_submit(&f->r, &c);
    rig_settle(&f->r);
    step(f);
    subscribe_as(f, 1, 0, 0, 10);
    subscribe_as(f, 2, 0, 0, 10);
    put_all(f, "q", "abc", (struct record_spec){0});
    check_got(f, "abc");
    leave(f, 2);
    check_got(f, "");
    subscribe_as(f, 2, 0, 0, 10);
    check_got(f, "");
    leave(f, 1); /* the other one gets all of it, in order */
    check_got(f, "abc");
    subscribe_as(f, 3, 7, 0, 10);
    put_all(f, "q", "d", (struct record_spec){0});
    check_got(f, "d");
    leave(f, 2);
    check_got(f, "abc");
    leave(f, 3);
    step(f);
    drain_just(f, "q", NULL, "abcd");
}

/* Damage ends the consumers from within a hand-out. */
static void test_damage(void **state)
{
    struct feature *f = *state;
    rig_create(&f->r, COMMAND_QUEUE_CREATE, "q", NULL);
    put_all(f, "q", "a", (struct record_spec){.priority = 4});
    put_all(f, "q", "b", (struct record_spec){.key = "k", .key_len = 1});
    f->r.store.damaged = 1;
    subscribe_as(f, 1, 0, 3, 10);
    subscribe_as(f, 2, 0, 3, 10);
    check_got(f, "");
    leave(f, 1);
    leave(f, 2);
    f->r.store.damaged = 0;
    step(f);
    drain_just(f, "q", NULL, "ab");
}

static void expect_counts(struct feature *f, uint64_t delivered, uint64_t acked, uint64_t redelivered, uint64_t ready,
                          uint64_t leased, uint64_t dead)
{
    rig_simple(&f->r, COMMAND_QUEUE_DESCRIBE, "q", NULL);
    assert_int_equal(f->r.queue.delivered, delivered);
    assert_int_equal(f->r.queue.acked, acked);
    assert_int_equal(f->r.queue.redelivered, redelivered);
    assert_int_equal(f->r.queue.ready, ready);
    assert_int_equal(f->r.queue.leased, leased);
    assert_int_equal(f->r.queue.dead, dead);
}

/* What a queue says of itself: all groups added up. */
static void test_counts(void **state)
{
    struct feature *f = *state;
    broker_queue_settings s = {.size = sizeof s, .set = BROKER_SET_MAX_ATTEMPTS, .max_attempts = 2};
    rig_create(&f->r, COMMAND_QUEUE_CREATE, "q", &s);
    rig_simple(&f->r, COMMAND_GROUP_CREATE, "q", "other");
    expect_counts(f, 0, 0, 0, 0, 0, 0);
    assert_int_equal(f->r.queue.oldest_ms, 0);
    uint64_t first_ms = f->r.now.wall.ms;
    put_all(f, "q", "1", (struct record_spec){0});
    rig_pass(&f->r, 7);
    put_all(f, "q", "23", (struct record_spec){0});
    expect_counts(f, 0, 0, 0, 6, 0, 0);
    assert_int_equal(f->r.queue.oldest_ms, first_ms);
    take_just(f, "q", NULL, 16, "123");
    expect_counts(f, 3, 0, 0, 3, 3, 0);
    struct got first = f->got[0];
    settle_got(f, COMMAND_ACK, 1, 1, false);
    expect_counts(f, 3, 1, 0, 3, 2, 0);
    f->got[0] = first;
    settle_got(f, COMMAND_NACK, 0, 1, false);
    take_just(f, "q", NULL, 16, "1");
    expect_counts(f, 4, 1, 1, 3, 2, 0);
    settle_got(f, COMMAND_NACK, 0, 1, false); /* its last attempt */
    expect_counts(f, 4, 1, 1, 3, 1, 1);
    take_just(f, "q", "other", 16, "123");
    settle_got(f, COMMAND_ACK, 0, 256, false);
    expect_counts(f, 7, 4, 1, 0, 1, 1);
    assert_int_equal(f->r.queue.oldest_ms, first_ms + 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {FEATURE_TEST(test_max_unsettled), FEATURE_TEST(test_priority),
                                       FEATURE_TEST(test_single_active), FEATURE_TEST(test_damage),
                                       FEATURE_TEST(test_counts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
