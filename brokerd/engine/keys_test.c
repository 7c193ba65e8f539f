/* Ordered keys: one message of a key at a time, in order, whatever fails or changes meanwhile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "feature_rig.h"

static const struct record_spec A = {.key = "a", .key_len = 1}, B = {.key = "b", .key_len = 1};

static void create(struct feature *f, broker_queue_settings s)
{
    s.size = sizeof s;
    rig_create(&f->r, COMMAND_QUEUE_CREATE, "q", &s);
}

static void test_one_at_a_time(void **state)
{
    struct feature *f = *state;
    create(f, (broker_queue_settings){.set = BROKER_SET_ORDERED_KEYS, .ordered_keys = true});
    put_all(f, "q", "123", A);
    put_all(f, "q", "xy", B);
    put_all(f, "q", "p", (struct record_spec){0});
    take_just(f, "q", NULL, 16, "1xp");
    step(f);
    if (f->restart) {
        take_just(f, "q", NULL, 16, "1xp");
    }
    settle_got(f, COMMAND_NACK, 0, 1, false); /* 1 comes back and keeps its key */
    struct got x = f->got[1];
    take_just(f, "q", NULL, 16, "1");
    assert_int_equal(f->got[0].attempts, f->restart ? 3 : 2);
    settle_got(f, COMMAND_ACK, 0, 1, false);
    take_just(f, "q", NULL, 16, "2");
    settle_got(f, COMMAND_ACK, 0, 1, false);
    f->got[0] = x;
    f->got_count = 1;
    settle_got(f, COMMAND_ACK, 0, 1, false);
    take_just(f, "q", NULL, 16, "3y");
    settle_got(f, COMMAND_ACK, 0, 2, false);
    step(f);
    drain_just(f, "q", NULL, f->restart ? "p" : "");
}

/* A hand-out that fails: the same messages come in the same order, each once. */
static void test_failed_hand_out(void **state)
{
    struct feature *f = *state;
    create(f, (broker_queue_settings){.set = BROKER_SET_ORDERED_KEYS, .ordered_keys = true});
    put_all(f, "q", "1x234", A);
    f->r.store.refuse = BROKER_DISK_FULL;
    take_just(f, "q", NULL, 16, "");
    f->r.store.refuse = BROKER_OK;
    step(f);
    rig_pass(&f->r, 1000);
    drain_just(f, "q", NULL, "1x234");
    put_all(f, "q", "5", A);
    put_all(f, "q", "6", B);
    put_all(f, "q", "78", A);
    take_just(f, "q", NULL, 1, "5");
    struct got five = f->got[0];
    f->r.store.refuse = BROKER_DISK_FULL;
    take_just(f, "q", NULL, 16, "");
    f->r.store.refuse = BROKER_OK;
    rig_pass(&f->r, 1000);
    take_just(f, "q", NULL, 16, "6");
    settle_got(f, COMMAND_ACK, 0, 1, false);
    f->got[0] = five;
    f->got_count = 1;
    settle_got(f, COMMAND_ACK, 0, 1, false);
    drain_just(f, "q", NULL, "78");
}

/* Keys cease to matter, or a filter comes, while messages are parked. */
static void test_changed_settings(void **state)
{
    struct feature *f = *state;
    create(f, (broker_queue_settings){.set = BROKER_SET_ORDERED_KEYS, .ordered_keys = true});
    put_all(f, "q", "123", A);
    take_just(f, "q", NULL, 16, "1");
    broker_queue_settings off = {.size = sizeof off, .set = BROKER_SET_ORDERED_KEYS};
    rig_create(&f->r, COMMAND_QUEUE_ALTER, "q", &off);
    settle_got(f, COMMAND_ACK, 0, 1, false);
    step(f);
    take_just(f, "q", NULL, 16, "23");
    settle_got(f, COMMAND_ACK, 0, 2, false);
    off.ordered_keys = true;
    rig_create(&f->r, COMMAND_QUEUE_ALTER, "q", &off);
    put_all(f, "q", "45", A);
    put_all(f, "q", "67", B);
    take_just(f, "q", NULL, 16, "46");
    struct command c = {.type = COMMAND_GROUP_ALTER, .token = {.conn = 9}, .queue = rig_name("q")};
    broker_group_settings gs = {.size = sizeof gs, .set = BROKER_GROUP_SET_FILTER, .filter = {.key = "b"}};
    c.u.group.settings = &gs;
    rig_submit(&f->r, &c);
    rig_settle(&f->r);
    assert_int_equal(f->r.error, BROKER_OK);
    settle_got(f, COMMAND_ACK, 0, 2, false);
    step(f);
    drain_just(f, "q", NULL, "7");
}

/* Specials of a key wait for it in their order, then go by priority. */
static void test_keys_and_priorities(void **state)
{
    struct feature *f = *state;
    create(f, (broker_queue_settings){.set = BROKER_SET_ORDERED_KEYS, .ordered_keys = true});
    put_all(f, "q", "1", A);
    put_all(f, "q", "23", (struct record_spec){.key = "a", .key_len = 1, .priority = 5});
    put_all(f, "q", "4", A);
    put_all(f, "q", "9", (struct record_spec){.priority = 9});
    take_just(f, "q", NULL, 16, "92");
    settle_got(f, COMMAND_ACK, 0, 2, false);
    step(f);
    drain_just(f, "q", NULL, "314");
}

/* One whose time comes while younger ones of its free key are parked goes before them, in its lane. */
static void test_due_before_parked(void **state)
{
    struct feature *f = *state;
    create(f, (broker_queue_settings){.set = BROKER_SET_ORDERED_KEYS, .ordered_keys = true});
    put_all(f, "q", "1", A);
    put_all(f, "q", "2",
            (struct record_spec){.key = "a", .key_len = 1, .priority = 5, .due_ms = 100, .due_is_delay = true});
    put_all(f, "q", "3", A);
    put_all(f, "q", "4", (struct record_spec){0});
    take_just(f, "q", NULL, 16, "1");
    struct got one = f->got[0];
    take_just(f, "q", NULL, 16, "4");
    settle_got(f, COMMAND_NACK, 0, 1, false);
    f->got[0] = one;
    settle_got(f, COMMAND_ACK, 0, 1, false);
    rig_pass(&f->r, 100);
    take_just(f, "q", NULL, 16, "24");
    settle_got(f, COMMAND_ACK, 0, 2, false);
    step(f);
    drain_just(f, "q", NULL, "3");
}

int main(void)
{
    const struct CMUnitTest tests[] = {FEATURE_TEST(test_one_at_a_time), FEATURE_TEST(test_failed_hand_out),
                                       FEATURE_TEST(test_changed_settings), FEATURE_TEST(test_keys_and_priorities),
                                       FEATURE_TEST(test_due_before_parked)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
