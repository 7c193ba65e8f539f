/* Priorities and times: the order in which messages go, and what a start, a lack of room and a moved group make of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "feature_rig.h"

static const struct record_spec PLAIN;

static struct record_spec priority(uint8_t p)
{
    return (struct record_spec){.priority = p};
}

static struct record_spec later(uint64_t ms, uint8_t p)
{
    return (struct record_spec){.due_ms = ms, .due_is_delay = true, .priority = p};
}

static uint64_t scheduled(struct feature *f)
{
    struct engine_stats stats;
    engine_get_stats(f->r.e, &stats);
    return stats.scheduled;
}

static broker_error to_another_time(struct feature *f, uint64_t seq, uint64_t delay)
{
    struct command c = {.type = COMMAND_RESCHEDULE, .token = {.conn = 9}, .queue = rig_name("q")};
    c.u.reschedule.seq = seq;
    c.u.reschedule.due_ms = delay;
    c.u.reschedule.is_delay = true;
    rig_submit(&f->r, &c);
    rig_settle(&f->r);
    return f->r.error;
}

static void group(struct feature *f, enum command_type type, const char *name, uint64_t seq)
{
    struct command c = {.type = type, .token = {.conn = 9}, .queue = rig_name("q"), .group = rig_name(name)};
    c.u.group.start = BROKER_START_SEQ;
    c.u.group.value = seq;
    rig_submit(&f->r, &c);
    rig_settle(&f->r);
    assert_int_equal(f->r.error, BROKER_OK);
}

static void test_priorities(void **state)
{
    struct feature *f = *state;
    rig_create(&f->r, COMMAND_QUEUE_CREATE, "q", NULL);
    put_all(f, "q", "ab", PLAIN);
    put_all(f, "q", "55", priority(5));
    put_all(f, "q", "99", priority(9));
    put_all(f, "q", "c", PLAIN);
    step(f);
    take_just(f, "q", NULL, 1, "9");
    settle_got(f, COMMAND_NACK, 0, 1, false);
    step(f);
    take_just(f, "q", NULL, 3, "995");
    assert_int_equal(f->got[0].attempts, 2);
    settle_got(f, COMMAND_ACK, 0, 3, false);
    step(f);
    drain_just(f, "q", NULL, "5abc");
    step(f);
    assert_int_equal(rig_stored(&f->r, "q"), 0);
}

static void test_times(void **state)
{
    struct feature *f = *state;
    rig_create(&f->r, COMMAND_QUEUE_CREATE, "q", NULL);
    put_all(f, "q", "1", later(1000, 0));
    put_all(f, "q", "2", later(2000, 3));
    put_all(f, "q", "3", later(3000, 0));
    put_all(f, "q", "a", PLAIN);
    assert_int_equal(scheduled(f), 3);
    step(f);
    assert_int_equal(scheduled(f), 3);
    assert_int_equal(to_another_time(f, 1, 5000), BROKER_OK);
    assert_int_equal(to_another_time(f, 3, 0), BROKER_OK);
    assert_int_equal(to_another_time(f, 4, 10), BROKER_MESSAGE_NOT_FOUND);
    assert_int_equal(to_another_time(f, 1, UINT64_MAX - 5), BROKER_INVALID_ARGUMENT);
    step(f);
    drain_just(f, "q", NULL, "3a");
    step(f);
    rig_pass(&f->r, 1999);
    take_just(f, "q", NULL, 4, "");
    rig_pass(&f->r, 1);
    take_just(f, "q", NULL, 4, "2");
    step(f); /* it was due: not again */
    if (f->restart) {
        take_just(f, "q", NULL, 4, "2");
        assert_int_equal(f->got[0].attempts, 2);
    }
    settle_got(f, COMMAND_ACK, 0, 4, false);
    assert_int_equal(scheduled(f), 1);
    rig_pass(&f->r, 3000);
    drain_just(f, "q", NULL, "1");
    assert_int_equal(scheduled(f), 0);
    step(f);
    assert_int_equal(scheduled(f), 0);
    drain_just(f, "q", NULL, "");
}

static void test_groups(void **state)
{
    struct feature *f = *state;
    broker_queue_settings s = {.size = sizeof s, .set = BROKER_SET_RETENTION, .retention = BROKER_RETENTION_LOG};
    rig_create(&f->r, COMMAND_QUEUE_CREATE, "q", &s);
    put_all(f, "q", "ab", PLAIN);
    put_all(f, "q", "7", priority(7));
    put_all(f, "q", "t", later(1000, 2));
    put_all(f, "q", "c", PLAIN);
    drain_just(f, "q", NULL, "7abc");
    group(f, COMMAND_GROUP_CREATE, "new", 2);
    step(f);
    drain_just(f, "q", "new", "7bc");
    rig_pass(&f->r, 1000);
    drain_just(f, "q", NULL, "t");
    take_just(f, "q", "new", 1, "t");
    group(f, COMMAND_GROUP_SEEK, "new", 1);
    step(f);
    drain_just(f, "q", "new", "7tabc");
    group(f, COMMAND_GROUP_SEEK, "default", 4);
    step(f);
    drain_just(f, "q", NULL, "tc");
}

/* The log has no room for a hand-out: nothing goes, nothing is lost. */
static void test_no_room(void **state)
{
    struct feature *f = *state;
    rig_create(&f->r, COMMAND_QUEUE_CREATE, "q", NULL);
    put_all(f, "q", "a", PLAIN);
    put_all(f, "q", "3", priority(3));
    f->r.store.refuse = BROKER_DISK_FULL;
    take_just(f, "q", NULL, 4, "");
    f->r.store.refuse = BROKER_OK;
    step(f);
    rig_pass(&f->r, 100);
    drain_just(f, "q", NULL, "3a");
}

/* A special that the store lost, while the log takes nothing: the engine comes to rest, and then goes on. */
static void test_hole(void **state)
{
    struct feature *f = *state;
    rig_create(&f->r, COMMAND_QUEUE_CREATE, "q", NULL);
    put_all(f, "q", "3", priority(3));
    struct test_record *lost = &f->r.store.records[f->r.store.count - 1];
    put_u32(lost->bytes + 12, 77);
    f->r.store.refuse = BROKER_DISK_FULL;
    take_just(f, "q", NULL, 4, "");
    f->r.store.refuse = BROKER_OK;
    put_all(f, "q", "a", PLAIN);
    rig_pass(&f->r, 100);
    drain_just(f, "q", NULL, "a");
    put_u32(lost->bytes + 12, 1);
}

/* Thousands of them come and go: what is known of them goes too. */
static void test_forgotten(void **state)
{
    struct feature *f = *state;
    rig_create(&f->r, COMMAND_QUEUE_CREATE, "q", NULL);
    for (int i = 0; i < 60; i++) {
        put_all(f, "q", "123456789012345", priority(1));
        put_all(f, "q", "x", later(1, 0));
        rig_pass(&f->r, 1);
        drain_just(f, "q", NULL, "123456789012345x");
    }
    put_all(f, "q", "x", later(1000, 0));
    step(f);
    assert_int_equal(scheduled(f), 1);
    rig_pass(&f->r, 1000);
    drain_just(f, "q", NULL, "x");
    assert_int_equal(scheduled(f), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {FEATURE_TEST(test_priorities), FEATURE_TEST(test_times),
                                       FEATURE_TEST(test_groups),     FEATURE_TEST(test_no_room),
                                       FEATURE_TEST(test_hole),       FEATURE_TEST(test_forgotten)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
