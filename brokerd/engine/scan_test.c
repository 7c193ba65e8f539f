/* Scans: what they find, what they do with it, and how they end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "engine_internal.h"
#include "test_rig.h"

#define HEADERS(text) .headers = (text), .headers_len = sizeof(text) - 1

static struct command command_of(const char *queue, enum scan_action action)
{
    return (struct command){
        .type = COMMAND_SCAN, .token = {.conn = 1}, .queue = rig_name(queue), .u.scan = {.action = action}};
}

static void run(struct rig *r, struct command c)
{
    uint32_t before = r->completions;
    r->matched = r->skipped = r->next_seq = r->peeked_count = 12345;
    rig_submit(r, &c);
    rig_settle(r);
    assert_int_equal(r->completions, before + 1);
}

static void expect(struct rig *r, uint64_t matched, uint64_t skipped, uint64_t next_seq)
{
    assert_string_equal(r->text, "");
    assert_int_equal(r->error, BROKER_OK);
    assert_int_equal(r->matched, matched);
    assert_int_equal(r->skipped, skipped);
    assert_int_equal(r->next_seq, next_seq);
}

static void expect_error(struct rig *r, broker_error error, const char *part)
{
    assert_int_equal(r->error, error);
    if (!strstr(r->text, part)) {
        fail_msg("'%s' does not say '%s'", r->text, part);
    }
}

static struct rig *begin(void **state)
{
    struct rig *r = *state;
    rig_create(r, COMMAND_QUEUE_CREATE, "q", NULL);
    rig_create(r, COMMAND_QUEUE_CREATE, "to", NULL);
    return r;
}

static void an_empty_queue(void **state)
{
    struct rig *r = begin(state);
    for (int action = SCAN_PEEK; action <= SCAN_REDRIVE; action++) {
        struct command c = command_of("q", (enum scan_action)action);
        c.u.scan.target = rig_name(action == SCAN_MOVE ? "to" : "");
        run(r, c);
        expect(r, 0, 0, 0);
    }
}

static void count_in_ranges(void **state)
{
    struct rig *r = begin(state);
    struct command c = command_of("q", SCAN_COUNT);
    rig_fill(r, "q", 20, NULL);
    run(r, c);
    expect(r, 20, 0, 0);
    c.u.scan.from_seq = 5;
    c.u.scan.to_seq = 14;
    run(r, c);
    expect(r, 10, 0, 0);
    c.u.scan.max_messages = 4;
    run(r, c);
    expect(r, 4, 0, 9);
    c.u.scan.from_seq = 9;
    c.u.scan.max_messages = 6;
    run(r, c);
    expect(r, 6, 0, 0);
    c = command_of("q", SCAN_COUNT);
    c.u.scan.max_scanned = 7;
    c.u.scan.from_seq = 10;
    run(r, c);
    expect(r, 7, 0, 17);
    c.u.scan.filter.key = "nobody's";
    run(r, c);
    expect(r, 0, 0, 17);
    c.u.scan.from_seq = 21;
    c.u.scan.to_seq = 1000;
    run(r, c);
    expect(r, 0, 0, 0);
    assert_int_equal(r->store.dead_twice, 0);
}

static void only_what_is_there(void **state)
{
    struct rig *r = begin(state);
    rig_simple(r, COMMAND_GROUP_CREATE, "q", "other");
    rig_fill(r, "q", 30, "k");
    rig_create(r, COMMAND_QUEUE_ALTER, "q", NULL);
    struct command c = command_of("q", SCAN_DELETE), look = command_of("q", SCAN_PEEK);
    c.u.scan.from_seq = c.u.scan.to_seq = 7;
    run(r, c);
    c.u.scan.from_seq = 1;
    c.u.scan.to_seq = 3;
    run(r, c);
    expect(r, 3, 0, 0);
    c.u.scan.from_seq = 6;
    c.u.scan.to_seq = 8;
    run(r, c);
    expect(r, 2, 0, 0); /* 7 was gone */
    run(r, command_of("q", SCAN_COUNT));
    expect(r, 24, 0, 0);
    look.u.scan.filter.key = "k";
    run(r, look);
    expect(r, 24, 0, 0);
    assert_int_equal(r->peeked[0], 4);
    assert_int_equal(r->peeked[2], 9);
    assert_int_equal(rig_stored(r, "q"), 24);
    look.u.scan.max_messages = 1;
    look.u.scan.from_seq = 6;
    run(r, look);
    expect(r, 1, 0, 10);
    assert_int_equal(r->peeked[0], 9);
}

static void of_a_log(void **state)
{
    struct rig *r = *state;
    broker_queue_settings s = {.size = sizeof s, .set = BROKER_SET_RETENTION, .retention = BROKER_RETENTION_LOG};
    rig_create(r, COMMAND_QUEUE_CREATE, "q", &s);
    rig_fill(r, "q", 10, NULL);
    struct command c = command_of("q", SCAN_DELETE);
    c.u.scan.from_seq = 4;
    c.u.scan.to_seq = 5;
    run(r, c);
    expect(r, 2, 0, 0);
    run(r, c);
    expect(r, 0, 0, 0);
    run(r, command_of("q", SCAN_COUNT));
    expect(r, 8, 0, 0);
    run(r, command_of("q", SCAN_PEEK));
    expect(r, 8, 0, 0);
    assert_int_equal(r->peeked[3], 6);
}

static void filters(void **state)
{
    struct rig *r = begin(state);
    const broker_header is_a[] = {{"type", "a"}};
    for (int i = 0; i < 10; i++) {
        struct record_spec spec = {.body = "x", .body_len = 1, .topic = i % 5 ? "t.x" : "t.y", .topic_len = 3};
        if (i % 2) {
            spec.headers = "\x81\xa4type\xa1"
                           "a";
            spec.headers_len = 8;
        }
        rig_publish(r, "q", spec);
    }
    rig_settle(r);
    struct command c = command_of("q", SCAN_PEEK);
    c.u.scan.filter = (broker_filter){.headers = is_a, .header_count = 1};
    run(r, c);
    expect(r, 5, 0, 0);
    assert_int_equal(r->peeked[1], 4);
    c.u.scan.filter.topic = "*.y";
    run(r, c);
    expect(r, 1, 0, 0);
    assert_int_equal(r->peeked[0], 6);
    c.u.scan.action = SCAN_DELETE;
    run(r, c);
    expect(r, 1, 0, 0);
    run(r, c);
    expect(r, 0, 0, 0);
    run(r, command_of("q", SCAN_COUNT));
    expect(r, 9, 0, 0);
    c.u.scan.filter.topic = "..";
    run(r, c);
    expect_error(r, BROKER_INVALID_ARGUMENT, "topic");
}

static void by_time(void **state)
{
    struct rig *r = begin(state);
    for (int i = 0; i < 10; i++) { /* seq i + 1 at RIG_WALL_MS + 10 * i */
        rig_fill(r, "q", 1, NULL);
        rig_pass(r, 10);
    }
    struct command c = command_of("q", SCAN_PEEK);
    c.u.scan.from_ms = RIG_WALL_MS + 25;
    run(r, c);
    expect(r, 7, 0, 0);
    assert_int_equal(r->peeked[0], 4);
    c.u.scan.to_ms = RIG_WALL_MS + 50;
    run(r, c);
    expect(r, 3, 0, 0);
    assert_int_equal(r->peeked[2], 6);
    c.u.scan.from_ms = 0;
    c.u.scan.action = SCAN_COUNT;
    run(r, c);
    expect(r, 6, 0, 0);
    c.u.scan.from_ms = RIG_WALL_MS + 1000;
    c.u.scan.to_ms = 0;
    run(r, c);
    expect(r, 0, 0, 0);
    r->now.wall.ms -= 95; /* the wall clock jumps back: seq 11 is older than 2 */
    rig_fill(r, "q", 1, NULL);
    c.u.scan.from_ms = RIG_WALL_MS + 10;
    run(r, c);
    expect(r, 9, 0, 0);
    c.u.scan.from_ms = 0;
    c.u.scan.to_ms = RIG_WALL_MS + 5;
    run(r, c);
    expect(r, 2, 0, 0);
}

static void by_state(void **state)
{
    struct rig *r = begin(state);
    for (int i = 0; i < 9; i++) {
        rig_publish(r, "q",
                    (struct record_spec){.body = "x", .body_len = 1, .due_ms = i % 3 ? 0 : RIG_WALL_MS + 3600000});
    }
    rig_settle(r);
    struct command c = command_of("q", SCAN_PEEK);
    c.u.scan.state = BROKER_SCAN_SCHEDULED;
    run(r, c);
    expect(r, 3, 0, 0);
    assert_int_equal(r->peeked[1], 4);
    c.u.scan.state = BROKER_SCAN_AVAILABLE;
    run(r, c);
    expect(r, 6, 0, 0);
    assert_int_equal(r->peeked[2], 5);
    c.u.scan.action = SCAN_COUNT;
    run(r, c);
    expect(r, 6, 0, 0);
    c.u.scan.action = SCAN_DELETE;
    c.u.scan.state = BROKER_SCAN_SCHEDULED;
    c.u.scan.from_seq = 2;
    run(r, c);
    expect(r, 2, 0, 0);
    run(r, command_of("q", SCAN_COUNT));
    expect(r, 7, 0, 0);
    run(r, c);
    expect(r, 0, 0, 0);
}

static void peek_limits(void **state)
{
    struct rig *r = begin(state);
    rig_fill(r, "q", 10, NULL);
    struct command c = command_of("q", SCAN_PEEK);
    c.u.scan.max_messages = 3;
    run(r, c);
    expect(r, 3, 0, 4);
    assert_int_equal(r->peeked_count, 3);
    c.u.scan.max_messages = 10;
    c.u.scan.max_bytes = 100; /* two records of 48 */
    c.u.scan.from_seq = 4;
    run(r, c);
    expect(r, 2, 0, 6);
    c.u.scan.max_bytes = 1;
    run(r, c);
    expect(r, 1, 0, 5);
    c.u.scan.from_seq = 10;
    run(r, c);
    expect(r, 1, 0, 0);
    rig_subscribe(r, 2, "q", NULL, 3); /* leased messages are shown too */
    run(r, command_of("q", SCAN_PEEK));
    expect(r, 10, 0, 0);
}

/* Pointers last one turn: what is found is given before a read that must wait. */
static void peek_and_the_disk(void **state)
{
    struct rig *r = begin(state);
    rig_fill(r, "q", 10, NULL);
    struct command c = command_of("q", SCAN_PEEK);
    r->store.pending = true;
    uint32_t before = r->completions;
    rig_submit(r, &c);
    rig_tick(r);
    rig_tick(r);
    assert_int_equal(r->completions, before);
    assert_true(r->next.ms > r->now.mono.ms); /* it does not spin */
    r->store.pending = false;
    rig_tick(r);
    assert_int_equal(r->completions, before);
    engine_readable(r->e, r->now, record_queue(r->store.records[r->store.count - 1].bytes));
    rig_tick(r);
    assert_int_equal(r->completions, before + 1);
    expect(r, 10, 0, 0);
    r->pending_from = 7;
    run(r, c);
    expect(r, 6, 0, 7);
    assert_int_equal(r->peeked[5], 6);
}

static void in_slices(void **state)
{
    struct rig *r = begin(state);
    rig_fill(r, "q", 5000, "k");
    struct command c = command_of("q", SCAN_COUNT), other = c;
    c.u.scan.filter.key = "k";
    other.u.scan.filter.key = "k";
    other.u.scan.to_seq = 10;
    uint32_t before = r->completions;
    int turns = 0, other_done = 0;
    rig_submit(r, &c);
    rig_submit(r, &other);
    for (; r->completions < before + 2; turns++) {
        uint64_t reads = r->reads;
        rig_tick(r);
        assert_true(r->reads - reads <= 1024 + 256);
        if (r->completions == before + 1 && !other_done) {
            other_done = turns + 1;
            assert_int_equal(r->matched, 10);
        }
        assert_true(r->completions == before + 2 || r->next.ms == r->now.mono.ms);
    }
    expect(r, 5000, 0, 0);
    assert_true(turns >= 5 && turns <= 7);
    assert_int_equal(other_done, 2); /* it did not wait for the long one */
}

static void delete_answers_once_durable(void **state)
{
    struct rig *r = begin(state);
    rig_fill(r, "q", 4000, "k");
    struct command c = command_of("q", SCAN_DELETE);
    c.u.scan.filter.key = "k";
    uint32_t before = r->completions;
    uint64_t committed = r->store.count;
    rig_submit(r, &c);
    for (int i = 0; i < 10; i++) {
        rig_tick(r);
    }
    assert_int_equal(r->completions, before);
    engine_committed(r->e, r->now, r->store.count, committed); /* written is not durable */
    assert_int_equal(r->completions, before);
    engine_committed(r->e, r->now, r->store.count, r->store.count);
    assert_int_equal(r->completions, before + 1);
    expect(r, 4000, 0, 0);
    assert_int_equal(rig_stored(r, "q"), 0);
    rig_subscribe(r, 2, "q", NULL, 10);
    assert_int_equal(r->got_count, 0);
}

static void delete_what_is_leased(void **state)
{
    struct rig *r = begin(state);
    rig_subscribe(r, 2, "q", NULL, 5);
    rig_fill(r, "q", 8, NULL);
    assert_int_equal(r->got_count, 5);
    run(r, command_of("q", SCAN_DELETE));
    expect(r, 8, 0, 0);
    assert_int_equal(rig_stored(r, "q"), 0);
    rig_pass(r, 60000);
    assert_int_equal(r->got_count, 5);
}

static void damage(void **state)
{
    struct rig *r = begin(state);
    rig_fill(r, "q", 10, "k");
    r->store.damaged = 4;
    run(r, command_of("q", SCAN_PEEK));
    expect(r, 3, 0, 4);
    struct command c = command_of("q", SCAN_PEEK);
    c.u.scan.from_seq = 4;
    run(r, c);
    expect_error(r, BROKER_DAMAGED, "message 4 of queue 'q'");
    c = command_of("q", SCAN_COUNT);
    run(r, c);
    expect(r, 10, 0, 0); /* counted without being read */
    c.u.scan.filter.key = "x";
    run(r, c);
    expect_error(r, BROKER_DAMAGED, "go on from 5");
    c.u.scan.filter.key = "k";
    run(r, c);
    expect(r, 3, 0, 4);
    c.u.scan.action = SCAN_MOVE;
    c.u.scan.target = rig_name("to");
    c.u.scan.from_seq = 3;
    run(r, c);
    expect(r, 1, 0, 4);
    c.u.scan.action = SCAN_DELETE;
    c.u.scan.from_seq = 2;
    run(r, c);
    expect(r, 1, 0, 4);
    c = command_of("q", SCAN_DELETE);
    c.u.scan.from_seq = c.u.scan.to_seq = 4;
    run(r, c);
    expect(r, 1, 0, 0);
    run(r, command_of("q", SCAN_PEEK));
    expect(r, 7, 0, 0);
}

static void move(void **state)
{
    struct rig *r = begin(state);
    rig_fill(r, "q", 10, "k");
    rig_subscribe(r, 2, "q", NULL, 1); /* one message of the key is leased */
    struct command c = command_of("q", SCAN_MOVE);
    c.u.scan.target = rig_name("to");
    c.u.scan.max_messages = 4;
    run(r, c);
    expect(r, 4, 1, 6);
    c.u.scan.from_seq = 6;
    c.u.scan.max_messages = 0;
    run(r, c);
    expect(r, 5, 0, 0);
    assert_int_equal(rig_stored(r, "q"), 1);
    assert_int_equal(rig_stored(r, "to"), 9);
    r->got_count = 0;
    rig_create(r, COMMAND_QUEUE_ALTER, "to", NULL);
    run(r, command_of("to", SCAN_PEEK));
    expect(r, 9, 0, 0);
    rig_ack(r, r->receipts[0], 1);
    assert_int_equal(rig_stored(r, "q"), 0);
}

static void move_answers_once_durable(void **state)
{
    struct rig *r = begin(state);
    rig_fill(r, "q", 3, NULL);
    struct command c = command_of("q", SCAN_MOVE);
    c.u.scan.target = rig_name("to");
    uint32_t before = r->completions;
    uint64_t committed = r->store.count;
    rig_submit(r, &c);
    rig_tick(r);
    rig_tick(r);
    engine_committed(r->e, r->now, r->store.count, committed);
    assert_int_equal(r->completions, before);
    rig_settle(r);
    expect(r, 3, 0, 0);
}

static void move_that_cannot(void **state)
{
    struct rig *r = begin(state);
    rig_fill(r, "q", 10, NULL);
    struct command c = command_of("q", SCAN_MOVE);
    run(r, c);
    expect_error(r, BROKER_INVALID_ARGUMENT, "target");
    c.u.scan.target = rig_name("q");
    run(r, c);
    expect_error(r, BROKER_INVALID_ARGUMENT, "'q' is the queue itself");
    c.u.scan.target = rig_name("nowhere");
    run(r, c);
    expect_error(r, BROKER_QUEUE_NOT_FOUND, "'nowhere'");
    c.u.scan.action = SCAN_REDRIVE;
    run(r, c);
    expect_error(r, BROKER_QUEUE_NOT_FOUND, "'nowhere'");
    c.u.scan.target = rig_name("to");
    c.u.scan.action = SCAN_MOVE;
    r->store.refuse = BROKER_OVERLOADED;
    run(r, c);
    expect_error(r, BROKER_OVERLOADED, "disk");
    assert_int_equal(r->retry_ms, 100);
    r->store.refuse = BROKER_OK;
    run(r, command_of("q", SCAN_COUNT));
    expect(r, 10, 0, 0);
    broker_queue_settings s = {.size = sizeof s, .set = BROKER_SET_MAX_MESSAGES, .max_messages = 4};
    rig_create(r, COMMAND_QUEUE_ALTER, "to", &s);
    run(r, c);
    expect(r, 4, 0, 5); /* as many as fit */
    c.u.scan.from_seq = 5;
    run(r, c);
    expect_error(r, BROKER_QUEUE_FULL, "full");
    assert_int_equal(rig_stored(r, "q"), 6);
}

static void target_goes_midway(void **state)
{
    struct rig *r = begin(state);
    rig_fill(r, "q", 1000, NULL);
    struct command c = command_of("q", SCAN_MOVE);
    c.u.scan.target = rig_name("to");
    rig_submit(r, &c);
    rig_tick(r);
    uint32_t before = r->completions;
    struct command gone = {.type = COMMAND_QUEUE_DELETE, .queue = rig_name("to")};
    rig_submit(r, &gone);
    rig_settle(r);
    assert_int_equal(r->completions, before + 1);
    assert_int_equal(r->error, BROKER_OK);
    assert_true(r->matched > 0 && r->matched < 1000);
    assert_int_equal(r->next_seq, r->matched + 1);
}

static void redrive(void **state)
{
    struct rig *r = begin(state);
    rig_publish(r, "q",
                (struct record_spec){.body = "a",
                                     .body_len = 1,
                                     HEADERS("\x81\xaa"
                                             "dead-queue\xa2to")});
    rig_publish(r, "q",
                (struct record_spec){.body = "b",
                                     .body_len = 1,
                                     HEADERS("\x81\xaa"
                                             "dead-queue\xa4gone")});
    rig_publish(r, "q",
                (struct record_spec){.body = "c",
                                     .body_len = 1,
                                     HEADERS("\x81\xaa"
                                             "dead-queue\xa1q")});
    rig_publish(r, "q",
                (struct record_spec){.body = "d",
                                     .body_len = 1,
                                     HEADERS("\x81\xaa"
                                             "dead-queue\x05")});
    rig_publish(r, "q",
                (struct record_spec){.body = "e",
                                     .body_len = 1,
                                     HEADERS("\x82\x05\xc0\xaa"
                                             "dead-queue\xa2to")});
    rig_publish(r, "q", (struct record_spec){.body = "f", .body_len = 1, HEADERS("\x82\x05")});
    rig_publish(r, "q", (struct record_spec){.body = "g", .body_len = 1});
    rig_settle(r);
    run(r, command_of("q", SCAN_REDRIVE));
    expect(r, 2, 5, 0);
    assert_int_equal(rig_stored(r, "to"), 2);
    run(r, command_of("q", SCAN_PEEK));
    expect(r, 5, 0, 0);
    assert_int_equal(r->peeked[0], 2);
    struct command c = command_of("q", SCAN_REDRIVE);
    c.u.scan.target = rig_name("to");
    c.u.scan.from_seq = 7;
    run(r, c);
    expect(r, 1, 0, 0);
    assert_int_equal(rig_stored(r, "to"), 3);
}

static void no_room_for_the_delete(void **state)
{
    struct rig *r = begin(state);
    rig_fill(r, "q", 10, NULL);
    r->store.refuse = BROKER_DISK_FULL;
    run(r, command_of("q", SCAN_DELETE));
    expect_error(r, BROKER_DISK_FULL, "disk is full");
    r->store.refuse = BROKER_OK;
    run(r, command_of("q", SCAN_COUNT));
    expect(r, 10, 0, 0);
    rig_fill(r, "q", 2990, "k");
    struct command c = command_of("q", SCAN_DELETE);
    c.u.scan.filter.key = "k";
    rig_submit(r, &c);
    rig_tick(r);
    r->store.refuse = BROKER_DISK_FULL; /* after the first slice */
    rig_settle(r);
    assert_int_equal(r->error, BROKER_OK);
    assert_true(r->matched > 0 && r->matched < 2990);
    assert_int_equal(r->next_seq, 11 + r->matched);
    r->store.refuse = BROKER_OK;
    assert_int_equal(rig_stored(r, "q"), 3000 - r->matched);
}

static void queue_and_connection_go(void **state)
{
    struct rig *r = begin(state);
    rig_fill(r, "q", 3000, "k");
    struct command c = command_of("q", SCAN_COUNT), gone = {.type = COMMAND_QUEUE_DELETE, .queue = rig_name("q")};
    c.u.scan.filter.key = "k";
    c.token.conn = 7;
    rig_submit(r, &c);
    rig_tick(r);
    uint32_t before = r->completions;
    struct command closed = {.type = COMMAND_CLOSE, .token = {.conn = 7}};
    rig_submit(r, &closed);
    rig_settle(r);
    assert_int_equal(r->completions, before);
    c.token.conn = 8;
    rig_submit(r, &c);
    rig_submit(r, &c);
    rig_tick(r);
    rig_submit(r, &gone);
    assert_int_equal(r->completions, before + 2);
    expect_error(r, BROKER_QUEUE_NOT_FOUND, "'q' was deleted");
    rig_settle(r);
    run(r, command_of("q", SCAN_COUNT));
    expect_error(r, BROKER_QUEUE_NOT_FOUND, "'q'");
    rig_create(r, COMMAND_QUEUE_CREATE, "q", NULL);
    rig_fill(r, "q", 2000, "k");
    rig_submit(r, &c);
    rig_tick(r); /* under way when the engine ends */
}

static void limits_and_nonsense(void **state)
{
    struct rig *r = begin(state);
    rig_fill(r, "q", 10, "k");
    struct command c = command_of("q", SCAN_COUNT);
    c.u.scan.from_seq = 9;
    c.u.scan.to_seq = 3;
    run(r, c);
    expect_error(r, BROKER_INVALID_ARGUMENT, "seq 9, after its end 3");
    c = command_of("q", SCAN_COUNT);
    c.u.scan.from_ms = 9;
    c.u.scan.to_ms = 3;
    run(r, c);
    expect_error(r, BROKER_INVALID_ARGUMENT, "time 9");
    run(r, command_of("q", (enum scan_action)99));
    expect_error(r, BROKER_INVALID_ARGUMENT, "99");
    c = command_of("q", SCAN_COUNT);
    c.u.scan.state = (broker_scan_state)7;
    run(r, c);
    expect_error(r, BROKER_INVALID_ARGUMENT, "7");
    c = command_of("q", SCAN_COUNT);
    uint32_t before = r->completions;
    for (int i = 0; i < 65; i++) {
        rig_submit(r, &c);
    }
    assert_int_equal(r->completions, before + 1);
    expect_error(r, BROKER_LIMIT_REACHED, "64");
    assert_int_equal(r->retry_ms, 100);
    rig_settle(r);
    assert_int_equal(r->completions, before + 65);
    expect(r, 10, 0, 0);
    c.token.conn = 0; /* nobody waits */
    c.u.scan.action = SCAN_DELETE;
    rig_submit(r, &c);
    rig_settle(r);
    assert_int_equal(rig_stored(r, "q"), 0);
}

static void a_growing_queue_ends(void **state)
{
    struct rig *r = begin(state);
    rig_fill(r, "q", 2000, "k");
    struct command c = command_of("q", SCAN_COUNT);
    c.u.scan.filter.key = "k";
    rig_submit(r, &c);
    rig_tick(r);
    rig_fill(r, "q", 5, "k");
    expect(r, 2000, 0, 0);
    rig_publish(r, "q", (struct record_spec){.body = "x", .body_len = 1}); /* not durable yet */
    c = command_of("q", SCAN_COUNT);
    rig_submit(r, &c);
    rig_tick(r);
    expect(r, 2005, 0, 0);
}

/* Against a plain list: random deletes by several groups, and every action's numbers. */
static void at_random(void **state)
{
    struct rig *r = begin(state);
    uint64_t seed = 11;
    enum { N = 400 };
    bool there[N + 1] = {false}, key[N + 1];
    rig_simple(r, COMMAND_GROUP_CREATE, "q", "other");
    for (int i = 1; i <= N; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        key[i] = seed >> 63;
        there[i] = true;
        rig_fill(r, "q", 1, key[i] ? "a" : "b");
    }
    for (int round = 0; round < 400; round++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        struct command c = command_of("q", round % 4 == 0 ? SCAN_DELETE : round % 4 == 1 ? SCAN_PEEK : SCAN_COUNT);
        c.u.scan.from_seq = 1 + (seed >> 33) % N;
        c.u.scan.to_seq = c.u.scan.from_seq + (seed >> 20) % (round % 4 ? N : 6);
        c.u.scan.filter.key = seed >> 50 & 1 ? "a" : NULL;
        c.u.scan.max_messages = seed >> 51 & 1 ? 1 + (seed >> 52) % 20 : 0;
        uint64_t matched = 0, next = 0;
        for (uint64_t i = c.u.scan.from_seq; i <= N && i <= c.u.scan.to_seq; i++) {
            if (c.u.scan.max_messages && matched == c.u.scan.max_messages) {
                next = i;
                break;
            }
            if (there[i] && (!c.u.scan.filter.key || key[i])) {
                matched++;
                there[i] = there[i] && c.u.scan.action != SCAN_DELETE;
            }
        }
        run(r, c);
        expect(r, matched, 0, next);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        TEST(an_empty_queue),
        TEST(count_in_ranges),
        TEST(only_what_is_there),
        TEST(of_a_log),
        TEST(filters),
        TEST(by_time),
        TEST(by_state),
        TEST(peek_limits),
        TEST(peek_and_the_disk),
        TEST(in_slices),
        TEST(delete_answers_once_durable),
        TEST(delete_what_is_leased),
        TEST(damage),
        TEST(move),
        TEST(move_answers_once_durable),
        TEST(move_that_cannot),
        TEST(target_goes_midway),
        TEST(redrive),
        TEST(no_room_for_the_delete),
        TEST(queue_and_connection_go),
        TEST(limits_and_nonsense),
        TEST(a_growing_queue_ends),
        TEST(at_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
