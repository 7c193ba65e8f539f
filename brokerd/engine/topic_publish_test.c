/* What the answer to a publish by topic waits for: as much as its message, and a retry for the first copy. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "heap.h"
#include "test_rig.h"

static void publish(struct rig *r, uint64_t number, broker_sync sync)
{
    struct record_spec spec = {.body = "abc",
                               .body_len = 3,
                               .topic = "a.b",
                               .topic_len = 3,
                               .by_topic = true,
                               .producer = 7,
                               .number = number};
    uint8_t record[256];
    assert_true(record_spec_bytes(&spec) <= sizeof record);
    record_spec_put(record, &spec);
    struct command c = {.type = COMMAND_PUBLISH, .token = {.conn = 1}};
    c.u.publish.records = record;
    c.u.publish.len = record_spec_bytes(&spec);
    c.u.publish.sync = sync;
    rig_submit(r, &c);
}

static int setup(void **state)
{
    int error = rig_setup(state);
    struct rig *r = *state;
    for (int i = 0; i < 2; i++) {
        const char *queue = i ? "two" : "one";
        rig_simple(r, COMMAND_QUEUE_CREATE, queue, NULL);
        struct command c = {.type = COMMAND_BIND, .token = {.conn = 1}, .queue = rig_name(queue)};
        c.u.bind.pattern = rig_name("a.*");
        rig_submit(r, &c);
    }
    rig_settle(r);
    r->completions = 0;
    return error;
}

static void test_written_is_enough_if_asked_for(void **state)
{
    struct rig *r = *state;
    uint64_t before = r->store.count;
    publish(r, 1, BROKER_SYNC_INTERVAL);
    assert_int_equal(r->completions, 0);
    engine_committed(r->e, r->now, r->store.count, before);
    assert_int_equal(r->completions, 1);
    assert_int_equal(r->error, BROKER_OK);
}

static void test_synced_if_asked_for(void **state)
{
    struct rig *r = *state;
    uint64_t before = r->store.count;
    publish(r, 1, BROKER_SYNC_ALWAYS);
    engine_committed(r->e, r->now, r->store.count, before);
    assert_int_equal(r->completions, 0);
    engine_committed(r->e, r->now, r->store.count, r->store.count);
    assert_int_equal(r->completions, 1);
}

/* A queue's messages are seen in order, so what asked for less waits for what asked for more before it, and its answer too. */
static void test_waits_for_what_came_before(void **state)
{
    struct rig *r = *state;
    uint64_t before = r->store.count;
    publish(r, 1, BROKER_SYNC_ALWAYS);
    uint64_t first = r->store.count;
    publish(r, 2, BROKER_SYNC_INTERVAL);
    engine_committed(r->e, r->now, r->store.count, before);
    assert_int_equal(r->completions, 0);
    engine_committed(r->e, r->now, r->store.count, first);
    assert_int_equal(r->completions, 2);
}

static void test_a_retry_waits_for_the_first_copy(void **state)
{
    struct rig *r = *state;
    uint64_t before = r->store.count;
    publish(r, 1, BROKER_SYNC_ALWAYS);
    uint64_t after = r->store.count;
    publish(r, 1, BROKER_SYNC_ALWAYS);
    assert_int_equal(r->store.count, after); /* stored once */
    engine_committed(r->e, r->now, after, before);
    assert_int_equal(r->completions, 0);
    engine_committed(r->e, r->now, after, after);
    assert_int_equal(r->completions, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_written_is_enough_if_asked_for, setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_synced_if_asked_for, setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_waits_for_what_came_before, setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_a_retry_waits_for_the_first_copy, setup, rig_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
