/* Dead letters and expiry: nothing is lost, nothing is there twice, whatever fails or starts anew between. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "feature_rig.h"

static void create(struct feature *f, broker_queue_settings s)
{
    s.size = sizeof s;
    rig_create(&f->r, COMMAND_QUEUE_CREATE, "q", &s);
}

static void check_reasons(struct feature *f, const char *reason)
{
    for (uint32_t i = 0; i < f->got_count; i++) {
        assert_string_equal(f->got[i].reason, reason);
    }
}

static void test_max_attempts(void **state)
{
    struct feature *f = *state;
    create(f, (broker_queue_settings){.set = BROKER_SET_MAX_ATTEMPTS, .max_attempts = 2});
    put_all(f, "q", "ab", (struct record_spec){0});
    take_just(f, "q", NULL, 16, "ab");
    settle_got(f, COMMAND_NACK, 0, 2, false);
    step(f);
    take_just(f, "q", NULL, 16, "ab");
    assert_int_equal(f->got[0].attempts, 2);
    f->r.store.refuse = BROKER_OVERLOADED; /* the move has to wait; a nack does not */
    settle_got(f, COMMAND_NACK, 0, 2, false);
    take_just(f, "q", NULL, 16, "");
    step(f);
    take_just(f, "q", NULL, 16, "");
    f->r.store.refuse = BROKER_OK;
    rig_pass(&f->r, 1000);
    take_just(f, "q", NULL, 16, "");
    step(f);
    take_just(f, "q.dead", NULL, 16, "ab");
    check_reasons(f, "max_attempts");
    settle_got(f, COMMAND_ACK, 0, 2, false);
    step(f);
    drain_just(f, "q.dead", NULL, "");
    drain_just(f, "q", NULL, "");
}

static void test_reject(void **state)
{
    struct feature *f = *state;
    create(f, (broker_queue_settings){.set = BROKER_SET_BACKOFF, .backoff = BROKER_BACKOFF_FIXED, .backoff_ms = 500});
    put_all(f, "q", "abc", (struct record_spec){.priority = 3});
    take_just(f, "q", NULL, 16, "abc");
    f->r.store.pending = true;
    settle_got(f, COMMAND_NACK, 0, 1, true);
    step(f); /* b and c come back by their backoff; a is rejected */
    f->r.store.pending = false;
    engine_readable(f->r.e, f->r.now, 1);
    rig_pass(&f->r, 1000);
    take_just(f, "q", NULL, 16, f->restart ? "bc" : "");
    take_just(f, "q.dead", NULL, 16, "a");
    check_reasons(f, "rejected");
}

/* A last attempt with a backoff is a last attempt after a start too. */
static void test_last_attempt(void **state)
{
    struct feature *f = *state;
    create(f, (broker_queue_settings){.set = BROKER_SET_BACKOFF | BROKER_SET_MAX_ATTEMPTS,
                                      .max_attempts = 1,
                                      .backoff = BROKER_BACKOFF_EXPONENTIAL,
                                      .backoff_ms = 500,
                                      .backoff_max_ms = 600});
    put_all(f, "q", "a", (struct record_spec){0});
    take_just(f, "q", NULL, 1, "a");
    f->r.store.refuse = BROKER_OVERLOADED;
    settle_got(f, COMMAND_NACK, 0, 1, false);
    step(f);
    f->r.store.refuse = BROKER_OK;
    rig_pass(&f->r, 2000);
    take_just(f, "q", NULL, 1, "");
    drain_just(f, "q.dead", NULL, "a");
}

static void test_backoff(void **state)
{
    struct feature *f = *state;
    create(f, (broker_queue_settings){.set = BROKER_SET_BACKOFF,
                                      .backoff = BROKER_BACKOFF_EXPONENTIAL,
                                      .backoff_ms = 100,
                                      .backoff_max_ms = 350});
    put_all(f, "q", "a", (struct record_spec){0});
    static const uint32_t wait[] = {100, 200, 350, 350};
    for (int i = 0; i < 4; i++) {
        take_just(f, "q", NULL, 1, "a");
        size_t before = f->r.store.count;
        settle_got(f, COMMAND_NACK, 0, 1, false);
        assert_int_equal(f->r.store.count, before + 1); /* one record says both */
        step(f);
        rig_pass(&f->r, wait[i] - 1);
        take_just(f, "q", NULL, 1, "");
        rig_pass(&f->r, 1);
    }
    drain_just(f, "q", NULL, "a");
}

static const struct record_spec SOON = {.expire_ms = 1000, .expire_is_ttl = true};

static void test_expiry(void **state)
{
    struct feature *f = *state;
    create(f, (broker_queue_settings){.set = BROKER_SET_DEAD_LETTER_EXPIRED, .dead_letter_expired = true});
    rig_create(&f->r, COMMAND_QUEUE_CREATE, "plain", NULL);
    put_all(f, "q", "ab", SOON);
    put_all(f, "q", "c", (struct record_spec){0});
    put_all(f, "plain", "xy", SOON);
    step(f);
    f->r.store.refuse = BROKER_DISK_FULL;
    rig_pass(&f->r, 1000);
    take_just(f, "plain", NULL, 4, "");
    f->r.store.refuse = BROKER_OK;
    step(f);
    rig_pass(&f->r, 1000);
    step(f);
    drain_just(f, "plain", NULL, "");
    drain_just(f, "q", NULL, "c");
    take_just(f, "q.dead", NULL, 16, "ab");
    check_reasons(f, "expired");
    assert_int_equal(rig_stored(&f->r, "plain"), 0);
}

static void group(struct feature *f, const char *name)
{
    struct command c = {
        .type = COMMAND_GROUP_CREATE, .token = {.conn = 9}, .queue = rig_name("q"), .group = rig_name(name)};
    c.u.group.start = BROKER_START_BEGINNING;
    rig_submit(&f->r, &c);
    rig_settle(&f->r);
    assert_int_equal(f->r.error, BROKER_OK);
}

static void held(struct feature *f, broker_retention retention, bool two, bool acked, const char *dead)
{
    create(f,
           (broker_queue_settings){.set = BROKER_SET_DEAD_LETTER_EXPIRED | BROKER_SET_RETENTION | BROKER_SET_LEASE_MS,
                                   .retention = retention,
                                   .lease_ms = 5000,
                                   .dead_letter_expired = true});
    if (two) {
        group(f, "other");
    }
    put_all(f, "q", "a", SOON);
    take_just(f, "q", NULL, 1, "a");
    rig_pass(&f->r, 2000);
    for (int i = 0; i < 3; i++) { /* each makes the queue be looked at */
        put_all(f, "q", "z", (struct record_spec){0});
        engine_readable(f->r.e, f->r.now, 1);
        rig_settle(&f->r);
    }
    if (acked) {
        settle_got(f, COMMAND_ACK, 0, 1, false);
    }
    step(f);
    rig_pass(&f->r, 10000);
    drain_just(f, "q", NULL, "zzz");
    if (two) {
        drain_just(f, "q", "other", "zzz");
    }
    step(f);
    rig_pass(&f->r, 10000);
    if (retention == BROKER_RETENTION_WORK) {
        assert_int_equal(rig_stored(&f->r, "q"), 0);
    }
    if (*dead) {
        drain_just(f, "q.dead", NULL, dead);
    } else {
        struct command c = {.type = COMMAND_QUEUE_DESCRIBE, .token = {.conn = 9}, .queue = rig_name("q.dead")};
        rig_submit(&f->r, &c);
        assert_int_equal(f->r.error, BROKER_QUEUE_NOT_FOUND);
    }
}

static void test_held_and_returned(void **state)
{
    held(*state, BROKER_RETENTION_WORK, false, false, "a");
}

static void test_held_and_acked(void **state)
{
    held(*state, BROKER_RETENTION_WORK, false, true, "");
}

static void test_held_by_one_of_two(void **state)
{
    held(*state, BROKER_RETENTION_WORK, true, false, "a");
}

static void test_held_in_a_log(void **state)
{
    held(*state, BROKER_RETENTION_LOG, true, false, "a");
}

/* What waits for its backoff when it expires is not handed out again. */
static void test_expires_while_delayed(void **state)
{
    struct feature *f = *state;
    create(f, (broker_queue_settings){.set = BROKER_SET_BACKOFF | BROKER_SET_DEAD_LETTER_EXPIRED,
                                      .dead_letter_expired = true,
                                      .backoff = BROKER_BACKOFF_FIXED,
                                      .backoff_ms = 3000});
    put_all(f, "q", "a", SOON);
    take_just(f, "q", NULL, 1, "a");
    settle_got(f, COMMAND_NACK, 0, 1, false);
    step(f);
    rig_pass(&f->r, 4000);
    take_just(f, "q", NULL, 1, "");
    drain_just(f, "q.dead", NULL, "a");
}

int main(void)
{
    const struct CMUnitTest tests[] = {FEATURE_TEST(test_max_attempts),   FEATURE_TEST(test_reject),
                                       FEATURE_TEST(test_last_attempt),   FEATURE_TEST(test_backoff),
                                       FEATURE_TEST(test_expiry),         FEATURE_TEST(test_held_and_returned),
                                       FEATURE_TEST(test_held_and_acked), FEATURE_TEST(test_held_by_one_of_two),
                                       FEATURE_TEST(test_held_in_a_log),  FEATURE_TEST(test_expires_while_delayed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
