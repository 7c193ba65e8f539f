/* The front as such: greeting, frames, deliveries, deadlines, the end. Requests that came later: front_requests_test.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "test/rig.h"

/* ---- greeting ------------------------------------------------------------------------------------------------------- */

static void hello_is_answered(void **state)
{
    const uint8_t *body;
    uint64_t value = 0;
    struct wire_map m;
    put(PREAMBLE, 8);
    put_map(FRAME_HELLO, 1, 0, "82a6636c69656e74a464656d6fac6865617274626561745f6d73cd0190"); /* heartbeat 400 */
    struct frame_head head = next_frame(&body);
    assert_int_equal(head.type, FRAME_HELLO | FRAME_RESPONSE);
    assert_int_equal(wire_map_open(&m, body, head.length), BROKER_OK);
    assert_true(wire_map_u64(&m, "epoch", 0, 99, &value) && value == 5);
    assert_true(wire_map_u64(&m, "heartbeat_ms", 0, 9999, &value) && value == 400);
    assert_true(wire_map_u64(&m, "max_frame", 0, 1 << 30, &value) && value == 100000);
    assert_true(wire_map_u64(&m, "max_message", 0, 1 << 30, &value) && value == 65536);
    wire_map_close(&m);
    put_map(FRAME_HELLO, 2, 0, "80");
    expect_error(2, BROKER_INVALID_ARGUMENT, "request", "second HELLO");
    put_frame(FRAME_PING, 3, 0, NULL, 0);
    expect_answer(FRAME_PING, 3);
    put_frame(FRAME_STATS, 4, 0, NULL, 0);
    head = next_frame(&body);
    assert_int_equal(wire_map_open(&m, body, head.length), BROKER_OK);
    assert_true(wire_map_u64(&m, "published", 0, 99, &value) && value == 77);
    assert_true(wire_map_u64(&m, "connections", 0, 99, &value) && value == 1);
    wire_map_close(&m);
}

static void greetings_that_fail(void **state)
{
    put("GET / HTTP/1.1\r\n\r\n", 18);
    expect_error(0, BROKER_MALFORMED, "connection", "BRKD");
    expect_end();
    dial();
    put("X", 1); /* one wrong byte is enough */
    expect_error(0, BROKER_MALFORMED, "connection", "BRKD");
    expect_end();
    dial();
    put("BRKD\2\0\0\0", 8);
    expect_error(0, BROKER_UNSUPPORTED_VERSION, "connection", "version 2");
    expect_end();
    dial();
    put("BRKD\1\0\0\1", 8);
    expect_error(0, BROKER_MALFORMED, "connection", "reserved");
    expect_end();
    dial();
    put(PREAMBLE, 8);
    put_frame(FRAME_PING, 9, 0, NULL, 0);
    expect_error(9, BROKER_UNAUTHENTICATED, "connection", "HELLO first");
    expect_end();
    dial();
    put(PREAMBLE, 8);
    uint8_t head[FRAME_HEAD_BYTES];
    frame_head_put(head, &(struct frame_head){.length = 8193, .type = FRAME_HELLO, .correlation = 1});
    put(head, sizeof(head));
    expect_error(1, BROKER_TOO_LARGE, "connection", "8193 bytes");
    expect_end();
    dial();
    put(PREAMBLE, 8);
    put_map(FRAME_HELLO, 1, 0, "81ac6865617274626561745f6d7363"); /* heartbeat 99 */
    expect_error(1, BROKER_INVALID_ARGUMENT, "request", "heartbeat_ms");
    put_map(FRAME_HELLO, 2, 0, "81a86665617475726573c0"); /* features nil */
    expect_error(2, BROKER_INVALID_ARGUMENT, "request", "features");
    put_map(FRAME_HELLO, 3, 0, "80");
    expect_answer(FRAME_HELLO, 3);
    assert_int_equal(seen.count, 0);
}

static void byte_by_byte(void **state)
{
    uint8_t all[8 + 16 + 16 + 16 + 8 + 48] = {0};
    memcpy(all, PREAMBLE, 8);
    frame_head_put(all + 8, &(struct frame_head){.type = FRAME_HELLO, .correlation = 1});
    frame_head_put(all + 24, &(struct frame_head){.type = FRAME_PING, .correlation = 2});
    frame_head_put(all + 40, &(struct frame_head){.length = 56, .type = FRAME_PUBLISH, .correlation = 3});
    memcpy(all + 56, "\4\0jobs\0\0", 8);
    memset(all + 64, 'r', 48);
    for (size_t i = 0; i < sizeof(all); i++) {
        put(all + i, 1);
        turn(false);
    }
    expect_answer(FRAME_HELLO, 1);
    expect_answer(FRAME_PING, 2);
    expect_answer(FRAME_PUBLISH, 3);
    assert_string_equal(seen.queue, "jobs");
    assert_int_equal(seen.last.u.publish.len, 48);
}

/* ---- requests ------------------------------------------------------------------------------------------------------- */

static void publish_reaches_the_engine_in_place(void **state)
{
    uint8_t body[8 + 96] = "\4\0jobs\0\0";
    const uint8_t *answer;
    for (size_t i = 8; i < sizeof(body); i++)
        body[i] = (uint8_t)i;
    greet();
    put_frame(FRAME_PUBLISH, 7, 0, body, sizeof(body));
    struct frame_head head = next_frame(&answer);
    assert_int_equal(head.type, FRAME_PUBLISH | FRAME_RESPONSE);
    assert_int_equal(head.length, PUBLISH_RANGE_BYTES);
    assert_int_equal(get_u64(answer), 1);
    assert_int_equal(seen.last.u.publish.len, 96);
    assert_memory_equal(seen.records, body + 8, 96);
    assert_string_equal(seen.queue, "jobs");
}

static void publishes_that_are_wrong(void **state)
{
    uint8_t body[70000] = {0};
    greet();
    put_frame(FRAME_PUBLISH, 2, 0, body, 0);
    expect_error(2, BROKER_MALFORMED, "request", "0 bytes");
    put_frame(FRAME_PUBLISH, 3, 0, body, 1);
    expect_error(3, BROKER_MALFORMED, "request", "1 bytes");
    put_u16(body, 60000); /* a name longer than the frame */
    put_frame(FRAME_PUBLISH, 4, 0, body, 100);
    expect_error(4, BROKER_MALFORMED, "request", "60000");
    put_u16(body, 65535); /* and one of 64 KiB that is there */
    put_frame(FRAME_PUBLISH, 5, 0, body, sizeof(body));
    expect_error(5, BROKER_INVALID_ARGUMENT, "request", "65535 bytes");
    put_u16(body, 4);
    memcpy(body + 2, "jobs", 4);
    put_frame(FRAME_PUBLISH, 6, 0, body, 8);
    expect_error(6, BROKER_INVALID_ARGUMENT, "request", "no messages");
    uint8_t head[FRAME_HEAD_BYTES];
    frame_head_put(head, &(struct frame_head){.length = 56, .type = FRAME_PUBLISH, .flags = 8, .correlation = 7});
    put(head, sizeof(head));
    put(body, 56);
    expect_error(7, BROKER_INVALID_ARGUMENT, "request", "flags 0x08");
    assert_int_equal(seen.count, 0);
    put_frame(FRAME_PING, 8, 0, NULL, 0); /* and the connection is fine */
    expect_answer(FRAME_PING, 8);
}

static void settles(void **state)
{
    uint8_t body[8 + 17 * 16] = {0};
    greet();
    put_u64(body, 100);
    put_u32(body + 8, 5);
    put_frame(FRAME_ACK, 2, 0, body, 16);
    expect_answer(FRAME_ACK, 2);
    assert_int_equal(seen.last.u.settle.count, 1);
    assert_int_equal(seen.ranges[0].first, 100);
    assert_int_equal(seen.ranges[0].count, 5);
    put_frame(FRAME_ACK, 3, 0, body, 15);
    expect_error(3, BROKER_MALFORMED, "request", "15 bytes");
    put_frame(FRAME_ACK, 4, 0, body, 0);
    expect_error(4, BROKER_INVALID_ARGUMENT, "request", "no receipts");
    put_frame(FRAME_ACK, 5, 0, body, 17 * 16);
    expect_error(5, BROKER_TOO_LARGE, "request", "17 receipt ranges");
    put_frame(FRAME_NACK, 6, 0, body, 4);
    expect_error(6, BROKER_MALFORMED, "request", "4 bytes");
    body[13] = 1;
    put_frame(FRAME_ACK, 7, 0, body, 16);
    expect_error(7, BROKER_MALFORMED, "request", "reserved");
    memset(body, 0, sizeof(body));
    put_u32(body, 2500);
    put_u64(body + 8, 7);
    put_u32(body + 16, 1);
    put_frame(FRAME_NACK, 8, 0, body, 24);
    expect_answer(FRAME_NACK, 8);
    assert_int_equal(seen.last.u.settle.delay_ms, 2500);
    put_frame(FRAME_EXTEND, 9, 0, body, 24);
    expect_answer(FRAME_EXTEND, 9);
    assert_int_equal(seen.last.u.settle.lease_ms, 2500);

    const uint8_t *answer;
    uint64_t stale[] = {9, 10};
    struct completion done = {.type = COMMAND_ACK, .token = {.conn = seen.last.token.conn, .correlation = 10}};
    done.u.settle.settled = 1;
    done.u.settle.stale = 2;
    done.u.settle.stale_receipts = stale;
    done.u.settle.stale_listed = 2;
    clients_sink_ops.complete(clients, &done);
    struct frame_head head = next_frame(&answer);
    assert_int_equal(head.length, 24);
    assert_int_equal(get_u32(answer + 4), 2);
    assert_int_equal(get_u64(answer + 16), 10);
}

static void control_requests(void **state)
{
    greet();
    /* {"queue":"jobs","retention":"log","sync":"interval","lease_ms":500,"later":[1]} */
    put_map(FRAME_QUEUE_CREATE, 2, 0,
            "85a57175657565a46a6f6273a9726574656e74696f6ea36c6f67a473796e63a8696e74657276616ca86c656173655f6d73cd01f4"
            "a56c617465729101");
    expect_answer(FRAME_QUEUE_CREATE, 2);
    assert_string_equal(seen.queue, "jobs");
    assert_int_equal(seen.settings.set, BROKER_SET_RETENTION | BROKER_SET_SYNC | BROKER_SET_LEASE_MS);
    assert_int_equal(seen.settings.retention, BROKER_RETENTION_LOG);
    assert_int_equal(seen.settings.sync, BROKER_SYNC_INTERVAL);
    assert_int_equal(seen.settings.lease_ms, 500);
    put_map(FRAME_QUEUE_CREATE, 3, 0, "82a57175657565a46a6f6273a473796e63a36f6674"); /* sync "oft" */
    expect_error(3, BROKER_INVALID_ARGUMENT, "request", "\"oft\"; give one of always interval none");
    put_map(FRAME_QUEUE_CREATE, 4, 0, "80");
    expect_error(4, BROKER_INVALID_ARGUMENT, "request", "\"queue\" is missing");
    put_map(FRAME_QUEUE_DELETE, 5, 0, "81a5717565756501"); /* a number */
    expect_error(5, BROKER_INVALID_ARGUMENT, "request", "\"queue\" is not a string");
    put_map(FRAME_QUEUE_DELETE, 6, 0, "c1");
    expect_error(6, BROKER_MALFORMED, "request", "QUEUE_DELETE");
    put_map(FRAME_QUEUE_PURGE, 7, 0, "81a57175657565a46a6f6273");
    expect_answer(FRAME_QUEUE_PURGE, 7);
    /* GROUP_CREATE {"queue":"jobs","group":"g","start":"seq","value":9} */
    put_map(FRAME_GROUP_CREATE, 8, 0, "84a57175657565a46a6f6273a567726f7570a167a57374617274a3736571a576616c756509");
    expect_answer(FRAME_GROUP_CREATE, 8);
    assert_string_equal(seen.group, "g");
    assert_int_equal(seen.last.u.group.start, BROKER_START_SEQ);
    assert_int_equal(seen.last.u.group.value, 9);
    put_map(FRAME_GROUP_SEEK, 9, 0, "83a57175657565a46a6f6273a567726f7570a167a57374617274a3736571");
    expect_error(9, BROKER_INVALID_ARGUMENT, "request", "\"value\" is missing");
    put_map(FRAME_LEASE, 10, 0, "82a57175657565a46a6f6273a36d6178cd0401"); /* max 1025 */
    expect_error(10, BROKER_INVALID_ARGUMENT, "request", "max is 1025");
    put_map(FRAME_QUEUE_LIST, 11, 0, "81a56c696d697400");
    expect_error(11, BROKER_INVALID_ARGUMENT, "request", "limit is 0");
    put_map(0x2f, 12, 0, "");
    expect_error(12, BROKER_UNKNOWN_COMMAND, "request", "0x2f");
    put_map(FRAME_PING | FRAME_RESPONSE, 13, 0, "");
    expect_error(13, BROKER_UNKNOWN_COMMAND, "request", "0x82");
    uint8_t head[FRAME_HEAD_BYTES];
    frame_head_put(head, &(struct frame_head){.type = FRAME_PING, .flags = 1, .correlation = 14});
    put(head, sizeof(head));
    expect_error(14, BROKER_INVALID_ARGUMENT, "request", "flags");
}

static void broken_frames_end_the_connection(void **state)
{
    uint8_t head[FRAME_HEAD_BYTES];
    greet();
    frame_head_put(head, &(struct frame_head){.length = 100001, .type = FRAME_PUBLISH, .correlation = 3});
    put(head, sizeof(head));
    expect_error(3, BROKER_TOO_LARGE, "connection", "100001 bytes");
    expect_end();
    assert_int_equal(seen.by_type[COMMAND_CLOSE], 1);
    dial();
    greet();
    frame_head_put(head, &(struct frame_head){.type = FRAME_PING, .correlation = 3});
    head[6] = 1;
    put(head, sizeof(head));
    expect_error(0, BROKER_MALFORMED, "connection", "reserved");
    expect_end();
    dial();
    greet();
    put_frame(FRAME_PING, 0, 0, NULL, 0);
    expect_error(0, BROKER_MALFORMED, "connection", "correlation");
    expect_end();
    dial();
    greet();
    put_frame(FRAME_CREDIT, 0, 1, "12345678", 8);
    expect_error(0, BROKER_MALFORMED, "connection", "CREDIT");
    expect_end();
    assert_int_equal(seen.by_type[COMMAND_CLOSE], 4);
}

/* ---- deliveries ------------------------------------------------------------------------------------------------------ */

static uint8_t memory[1 << 20];
static struct stored_message messages[64];
static uint32_t attempts[64];

static struct delivery make_delivery(uint32_t count, uint32_t len, uint32_t gap)
{
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *at = memory + i * (len + gap);
        memset(at, (int)('a' + i % 26), len);
        put_u64(at + 16, i + 1); /* where a record has its seq */
        messages[i] = (struct stored_message){.seq = i + 1, .record = at, .padded_len = len};
        attempts[i] = 1;
    }
    return (struct delivery){.token = {.conn = seen.last.token.conn, .stream = 7},
                             .first_receipt = 1000,
                             .messages = messages,
                             .attempts = attempts,
                             .count = count};
}

static void subscribe(void)
{
    greet();
    put_map(FRAME_SUBSCRIBE, 2, 7, "82a57175657565a46a6f6273a76f6e5f73656e64c3"); /* on_send */
    expect_answer(FRAME_SUBSCRIBE, 2);
    assert_int_equal(seen.last.token.stream, 7);
    assert_true(seen.last.u.subscribe.settle_on_send);
    uint8_t credit[16] = {0};
    put_u32(credit, 10);
    put_u64(credit + 8, 1 << 20);
    put_frame(FRAME_CREDIT, 0, 7, credit, 16);
    while (seen.last.type != COMMAND_CREDIT)
        turn(true);
    assert_int_equal(seen.last.u.credit.messages, 10);
    assert_int_equal(seen.last.u.credit.bytes, 1 << 20);
}

static void check_batch(const uint8_t *body, uint32_t length, uint32_t first, uint32_t count, uint32_t len)
{
    uint32_t at = get_u32(body + 4) & DELIVER_ATTEMPTS ? 16 + pad8(4 * count) : 16;
    assert_int_equal(get_u32(body), count);
    assert_int_equal(get_u64(body + 8), 1000 + first);
    assert_int_equal(length, at + count * len);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(body[at + i * len], 'a' + (first + i) % 26);
        assert_int_equal(body[at + i * len + len - 1], 'a' + (first + i) % 26);
    }
}

static void deliveries(void **state)
{
    static const uint32_t shapes[][3] = {{1, 48, 0},   {64, 48, 0},  {64, 48, 8},
                                         {10, 600, 0}, {10, 600, 8}, {3, 4096, 64}};
    const uint8_t *body;
    subscribe();
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        struct delivery d = make_delivery(shapes[i][0], shapes[i][1], shapes[i][2]);
        assert_true(clients_sink_ops.deliver(clients, &d));
        attempts[0] = 3;
        assert_true(clients_sink_ops.deliver(clients, &d));
        turn(false);
        memset(memory, '!', sizeof(memory)); /* lent to the turn's end only */
        struct frame_head head = next_frame(&body);
        assert_int_equal(head.type, FRAME_DELIVER);
        assert_int_equal(head.stream, 7);
        assert_int_equal(head.correlation, 0);
        check_batch(body, head.length, 0, shapes[i][0], shapes[i][1]);
        assert_int_equal(get_u32(body + 4), 0);
        head = next_frame(&body);
        check_batch(body, head.length, 0, shapes[i][0], shapes[i][1]);
        assert_int_equal(get_u32(body + 16), 3);
        if (shapes[i][0] > 1)
            assert_int_equal(get_u32(body + 20), 1);
    }
}

static void large_deliveries_are_split(void **state)
{
    const uint8_t *body;
    subscribe();
    struct delivery d = make_delivery(10, 40000, 0); /* two fit into a frame of 100,000 */
    attempts[9] = 2;
    assert_true(clients_sink_ops.deliver(clients, &d));
    for (uint32_t i = 0; i < 10; i += 2) {
        struct frame_head head = next_frame(&body);
        assert_true(head.length <= options.max_frame_bytes);
        check_batch(body, head.length, i, 2, 40000);
        assert_int_equal(get_u32(body + 4), i == 8 ? DELIVER_ATTEMPTS : 0);
    }
}

static void lease_answers_and_ends(void **state)
{
    const uint8_t *body;
    greet();
    seen.answer = false;
    put_map(FRAME_LEASE, 5, 0, "81a57175657565a46a6f6273");
    while (seen.last.type != COMMAND_LEASE)
        turn(true);
    struct completion done = {.type = COMMAND_LEASE, .token = seen.last.token};
    done.u.lease = make_delivery(3, 48, 0);
    clients_sink_ops.complete(clients, &done);
    struct frame_head head = next_frame(&body);
    assert_int_equal(head.type, FRAME_LEASE | FRAME_RESPONSE);
    assert_int_equal(head.correlation, 5);
    check_batch(body, head.length, 0, 3, 48);
    done.u.lease.count = 0;
    clients_sink_ops.complete(clients, &done);
    head = next_frame(&body);
    assert_int_equal(head.length, 16);
    done.error = BROKER_QUEUE_NOT_FOUND;
    done.text = "no queue \"jobs\"";
    clients_sink_ops.complete(clients, &done);
    expect_error(5, BROKER_QUEUE_NOT_FOUND, "request", "no queue");
    clients_sink_ops.ended(clients, (struct token){.conn = seen.last.token.conn, .stream = 7}, BROKER_QUEUE_NOT_FOUND,
                           "deleted");
    head = next_frame(&body);
    assert_int_equal(head.type, FRAME_SUBSCRIPTION_ENDED);
    assert_int_equal(head.stream, 7);
    done.token.conn += 1u << 24; /* a connection that is no more: nothing happens */
    clients_sink_ops.complete(clients, &done);
    done.token.conn = 12345678;
    clients_sink_ops.complete(clients, &done);
    turns(3);
    assert_int_equal(got_len, 0);
}

static void a_slow_reader_is_held_and_released(void **state)
{
    options.output_bytes = 64 << 10;
    again(state);
    subscribe();
    struct delivery d = make_delivery(64, 8192, 0);
    unsigned batches = 1;
    while (clients_sink_ops.deliver(clients, &d)) {
        batches++;
        net_turn(net, false);
        assert_true(batches < 1000);
    }
    net_turn(net, false);
    net_turn(net, false);
    assert_int_equal(seen.by_type[COMMAND_UNHOLD], 0);
    size_t want = batches * (64 * 8192 + (size_t)6 * 32); /* 512 KiB in frames of 100,000 */
    static uint8_t sink[1 << 16];
    for (size_t total = 0; total < want;) {
        ssize_t n = recv(fd, sink, sizeof(sink), MSG_DONTWAIT);
        if (n > 0)
            total += (size_t)n;
        net_turn(net, false);
    }
    for (int i = 0; i < 5; i++)
        net_turn(net, false);
    assert_int_equal(seen.by_type[COMMAND_UNHOLD], 1);
    assert_true(clients_sink_ops.deliver(clients, &(struct delivery){.token = d.token}));
}

/* ---- deadlines ------------------------------------------------------------------------------------------------------- */

static void no_hello_in_time(void **state)
{
    options.hello_ms = 30;
    again(state);
    put(PREAMBLE, 8);
    put_map(FRAME_HELLO, 1, 0, "c0"); /* a wrong one gains no time */
    expect_error(1, BROKER_MALFORMED, "request", "HELLO");
    expect_error(0, BROKER_TIMEOUT, "connection", "no HELLO within 30 ms");
    expect_end();
}

/* One byte a millisecond, at most. */
static size_t put_now_and_then(const char *byte)
{
    static uint64_t last_ms;
    bool due = net_now(net).mono.ms != last_ms;
    if (due)
        put(byte, 1);
    last_ms = net_now(net).mono.ms;
    turn(true);
    return due;
}

static void half_a_frame_for_ever(void **state)
{
    options.frame_ms = 60;
    options.heartbeat_ms = 0;
    again(state);
    greet();
    uint8_t head[FRAME_HEAD_BYTES];
    frame_head_put(head, &(struct frame_head){.length = 5000, .type = FRAME_PUBLISH, .correlation = 1});
    put(head, sizeof(head));
    while (got_len == 0) { /* a byte now and then does not help */
        put_now_and_then("x");
    }
    expect_error(0, BROKER_TIMEOUT, "connection", "not complete within 60 ms");
    expect_end();
}

static void heartbeats_both_ways(void **state)
{
    const uint8_t *body;
    put(PREAMBLE, 8);
    put_map(FRAME_HELLO, 1, 0, "81ac6865617274626561745f6d7364"); /* 100 ms */
    expect_answer(FRAME_HELLO, 1);
    for (int i = 0; i < 4; i++) { /* as long as we are heard, only heartbeats come */
        struct frame_head head = next_frame(&body);
        assert_int_equal(head.type, FRAME_HEARTBEAT);
        put_frame(FRAME_HEARTBEAT, 0, 0, NULL, 0);
    }
    for (;;) {
        while (got_len < 5)
            turn(true);
        if (got[4] != FRAME_HEARTBEAT)
            break;
        next_frame(&body);
    }
    expect_error(0, BROKER_TIMEOUT, "connection", "nothing was heard for 300 ms");
    expect_end();
}

/* Any bytes count, also those of a frame that takes longer than the silence allowed. */
static void a_slow_large_frame_is_heard(void **state)
{
    uint8_t body[50000] = {0};
    uint8_t head[FRAME_HEAD_BYTES];
    put(PREAMBLE, 8);
    put_map(FRAME_HELLO, 1, 0, "81ac6865617274626561745f6d7364"); /* 100 ms: silence of 300 ms ends it */
    expect_answer(FRAME_HELLO, 1);
    frame_head_put(head, &(struct frame_head){.length = sizeof(body), .type = FRAME_PUBLISH, .correlation = 2});
    put(head, sizeof(head));
    uint64_t start_ms = net_now(net).mono.ms;
    size_t sent = 0;
    while (net_now(net).mono.ms < start_ms + 600)
        sent += put_now_and_then((const char *)body);
    put(body, sizeof(body) - sent);
    for (;;) {
        while (got_len < 5)
            turn(true);
        if (got[4] != FRAME_HEARTBEAT)
            break;
        const uint8_t *unused;
        next_frame(&unused);
    }
    expect_answer(FRAME_PUBLISH, 2);
}

static void who_takes_nothing_is_cut(void **state)
{
    options.stall_ms = 50;
    options.output_bytes = 64 << 10;
    again(state);
    subscribe();
    struct delivery d = make_delivery(64, 8192, 0);
    while (clients_sink_ops.deliver(clients, &d))
        net_turn(net, false);
    while (front_tcp_connections(front) > 0) {
        net_timer_set(net, &tick, (monotime){net_now(net).mono.ms + 5});
        net_turn(net, true);
    }
    assert_int_equal(seen.by_type[COMMAND_CLOSE], 1);
}

/* ---- the end --------------------------------------------------------------------------------------------------------- */

static void shutdown_in_order(void **state)
{
    const uint8_t *body;
    subscribe();
    seen.answer = false;
    put_frame(FRAME_PUBLISH, 5, 0, "\4\0jobs\0\0aaaaaaaa", 16);
    while (seen.last.type != COMMAND_PUBLISH)
        turn(true);
    struct command pending = seen.last;
    door_drain(door);
    front_tcp_goaway(front, "bye");
    assert_int_equal(seen.by_type[COMMAND_HOLD], 1);
    struct frame_head head = next_frame(&body);
    assert_int_equal(head.type, FRAME_GOAWAY);
    put_frame(FRAME_PUBLISH, 6, 0, "\4\0jobs\0\0aaaaaaaa", 16);
    expect_error(6, BROKER_SHUTTING_DOWN, "request", "shutting down");
    turns(3);
    assert_false(front_tcp_is_idle(front));
    answer_ok(&pending);
    expect_answer(FRAME_PUBLISH, 5);
    turns(3);
    assert_true(front_tcp_is_idle(front));
    front_tcp_finish(front);
    expect_end();
    assert_int_equal(seen.by_type[COMMAND_CLOSE], 1);
}

static void numbers_are_never_reused(void **state)
{
    uint64_t last = 0;
    for (int i = 0; i < 50; i++) {
        greet();
        put_map(FRAME_QUEUE_PURGE, 7, 0, "81a57175657565a46a6f6273");
        expect_answer(FRAME_QUEUE_PURGE, 7);
        assert_true(seen.last.token.conn > last);
        last = seen.last.token.conn;
        close(fd);
        while (front_tcp_connections(front) > 0) {
            net_timer_set(net, &tick, (monotime){net_now(net).mono.ms + 5});
            net_turn(net, true);
        }
        dial();
    }
    assert_true(sizeof(struct conn) <= 256);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, start, stop)
    const struct CMUnitTest tests[] = {
        T(hello_is_answered),
        T(greetings_that_fail),
        T(byte_by_byte),
        T(publish_reaches_the_engine_in_place),
        T(publishes_that_are_wrong),
        T(settles),
        T(control_requests),
        T(broken_frames_end_the_connection),
        T(deliveries),
        T(large_deliveries_are_split),
        T(lease_answers_and_ends),
        T(a_slow_reader_is_held_and_released),
        T(no_hello_in_time),
        T(half_a_frame_for_ever),
        T(heartbeats_both_ways),
        T(a_slow_large_frame_is_heard),
        T(who_takes_nothing_is_cut),
        T(shutdown_in_order),
        T(numbers_are_never_reused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
