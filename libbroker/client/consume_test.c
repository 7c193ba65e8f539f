/* Consuming: credit, deliveries, settles merged, renewal, ends; against a fake broker in a thread or by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "fake_broker.h"

static struct fake f; /* for the scripts, which run in a thread */

struct seen {
    int count, ended;
    uint64_t last_seq;
    bool in_order;
    broker_error error;
    int nack_every;
    broker *b;
};

static void on_message(void *arg, broker_subscription *s, const broker_msg *m)
{
    struct seen *seen = arg;
    size_t len;
    const char *body = broker_msg_body(m, &len);
    char expected[32];

    assert_int_equal(len, snprintf(expected, sizeof(expected), "m%llu", (unsigned long long)broker_msg_seq(m)));
    assert_memory_equal(body, expected, len);
    seen->in_order = (seen->count == 0 || seen->in_order) && broker_msg_seq(m) == seen->last_seq + 1;
    seen->last_seq = broker_msg_seq(m);
    seen->count++;
    if (seen->nack_every && seen->count % seen->nack_every == 0)
        assert_int_equal(broker_nack(seen->b, m, 500), BROKER_OK);
}

static void on_end(void *arg, broker_subscription *s, broker_error error, const char *text)
{
    struct seen *seen = arg;

    seen->ended++;
    seen->error = error;
    assert_true(strlen(text) > 0);
}

/* HELLO, SUBSCRIBE, its answer, and the first credit, which must be what the test asked for. */
static void script_subscribe(uint32_t *stream, uint32_t credit)
{
    struct fake_frame frame;

    fake_greet(&f, NULL);
    frame = fake_expect(&f, NULL, FRAME_SUBSCRIBE);
    *stream = frame.head.stream;
    assert_int_not_equal(*stream, 0);
    fake_answer_empty(&f, &frame);
    fake_frame_free(&frame);
    frame = fake_expect(&f, NULL, FRAME_CREDIT);
    assert_int_equal(frame.head.stream, *stream);
    assert_int_equal(frame.head.correlation, 0);
    assert_int_equal(get_u32(frame.body), credit);
    fake_frame_free(&frame);
}

static broker_subscription *subscribe(broker *b, broker_ack_mode ack, uint32_t credit, broker_message_cb *cb, void *arg)
{
    broker_subscribe_options o = BROKER_OPTIONS_INIT(broker_subscribe_options);
    broker_subscription *s = NULL;

    o.ack = ack;
    o.credit_messages = credit;
    assert_int_equal(broker_subscribe(b, "jobs", &o, cb, on_end, arg, &s), BROKER_OK);
    return s;
}

/* Acks of `count` receipts from `first` on, in one range a frame; how many frames depends on the clock. */
static void expect_ack(uint64_t first, uint32_t count)
{
    while (count > 0) {
        struct fake_frame frame = fake_expect(&f, NULL, FRAME_ACK);
        uint32_t n = get_u32(frame.body + 8);
        assert_int_equal(frame.head.length, SETTLE_RANGE_BYTES);
        assert_int_equal(get_u64(frame.body), first);
        assert_true(n >= 1 && n <= count);
        fake_answer_settle(&f, &frame, n, 0);
        fake_frame_free(&frame);
        first += n;
        count -= n;
    }
}

static void expect_credit(uint32_t stream, uint32_t messages, uint64_t bytes)
{
    struct fake_frame frame = fake_expect(&f, NULL, FRAME_CREDIT);

    assert_int_equal(frame.head.stream, stream);
    assert_int_equal(get_u32(frame.body), messages);
    assert_int_equal(get_u64(frame.body + 8), bytes);
    fake_frame_free(&frame);
}

/* ---- callbacks, automatic acks ----------------------------------------------------------------------------------------- */

static void script_auto_ack(struct fake *fake)
{
    uint32_t stream;

    script_subscribe(&stream, 100);
    fake_deliver(fake, stream, 1000, 1, 40);
    expect_ack(1000, 40); /* one range, one frame */
    fake_deliver(fake, stream, 1040, 41, 10);
    struct fake_frame frame = fake_expect(fake, NULL, FRAME_ACK);
    assert_int_equal(get_u64(frame.body), 1040);
    fake_answer_settle(fake, &frame, 9, 1); /* one was stale */
    fake_frame_free(&frame);
    expect_credit(stream, 50, 50 * 48);
}

static void acks_and_credit_by_themselves(void **state)
{
    struct seen seen = {0};

    fake_open(&f);
    broker *b = client_open(&f, NULL);
    fake_start(&f, script_auto_ack);
    subscribe(b, BROKER_ACK_AUTO, 100, on_message, &seen);
    while (seen.count < 50)
        assert_int_equal(broker_wait(b, 10000), BROKER_OK);
    assert_int_equal(broker_flush(b), BROKER_OK);
    assert_true(seen.in_order);
    assert_int_equal(broker_settle_failures(b), 1);
    fake_join(&f);
    broker_close(b);
    fake_close(&f);
}

static void script_nacks(struct fake *fake)
{
    static const struct {
        uint8_t type;
        uint64_t first;
        uint32_t count;
    } expected[] = {{FRAME_ACK, 10, 2}, {FRAME_NACK, 12, 1}, {FRAME_ACK, 13, 2}, {FRAME_NACK, 15, 1}};
    uint32_t stream;

    script_subscribe(&stream, 100);
    fake_deliver(fake, stream, 10, 1, 6);
    for (size_t i = 0; i < 4; i++) {
        struct fake_frame frame = fake_expect(fake, NULL, expected[i].type);
        const uint8_t *range = frame.body + (expected[i].type == FRAME_NACK ? 8 : 0);
        if (expected[i].type == FRAME_NACK)
            assert_int_equal(get_u32(frame.body), 500);
        assert_int_equal(get_u64(range), expected[i].first);
        assert_int_equal(get_u32(range + 8), expected[i].count);
        fake_answer_settle(fake, &frame, 1, 0);
        fake_frame_free(&frame);
    }
}

static void a_nacked_message_is_not_acked(void **state)
{
    struct seen seen = {.nack_every = 3};

    fake_open(&f);
    seen.b = client_open(&f, NULL);
    fake_start(&f, script_nacks);
    subscribe(seen.b, BROKER_ACK_AUTO, 100, on_message, &seen);
    while (seen.count < 6)
        assert_int_equal(broker_wait(seen.b, 10000), BROKER_OK);
    assert_int_equal(broker_flush(seen.b), BROKER_OK);
    fake_join(&f);
    broker_close(seen.b);
    fake_close(&f);
}

/* ---- broker_receive ------------------------------------------------------------------------------------------------------ */

static void script_receive(struct fake *fake)
{
    uint32_t stream;

    script_subscribe(&stream, 4);
    fake_deliver(fake, stream, 7, 1, 3);
    expect_ack(7, 2);
    expect_credit(stream, 2, 2 * 48);
    expect_ack(9, 1); /* the program is done with it when it asks for a fourth, in vain */
    struct fake_frame frame = fake_expect(fake, NULL, FRAME_UNSUBSCRIBE);
    assert_int_equal(frame.head.stream, stream);
    fake_deliver(fake, stream, 10, 4, 1); /* crosses the UNSUBSCRIBE */
    fake_answer_empty(fake, &frame);
    fake_frame_free(&frame);
}

static void receive_one_by_one(void **state)
{
    const broker_msg *m;
    size_t len;

    fake_open(&f);
    broker *b = client_open(&f, NULL);
    fake_start(&f, script_receive);
    broker_subscription *s = subscribe(b, BROKER_ACK_AUTO, 4, NULL, NULL);
    if (broker_receive(s, 0, &m) == BROKER_TIMEOUT) {
        assert_null(m);
        assert_int_equal(broker_receive(s, 10000, &m), BROKER_OK);
    }
    for (uint64_t seq = 1; seq <= 3; seq++) {
        if (seq > 1)
            assert_int_equal(broker_receive(s, 10000, &m), BROKER_OK);
        assert_int_equal(broker_msg_seq(m), seq);
        assert_int_equal(broker_msg_receipt(m), 6 + seq);
        assert_int_equal(broker_msg_attempt(m), 1);
        broker_msg_body(m, &len);
        assert_int_equal(len, 2);
        if (seq == 3) { /* the message stays as it is whatever else the handle does */
            broker_msg *kept = broker_msg_keep(m);
            assert_int_equal(broker_flush(b), BROKER_OK);
            assert_memory_equal(broker_msg_body(m, &len), "m3", 2);
            assert_memory_equal(broker_msg_body(kept, &len), "m3", 2);
            broker_msg_free(kept);
        }
    }
    assert_int_equal(broker_receive(s, 20, &m), BROKER_TIMEOUT);
    assert_null(m);
    assert_int_equal(broker_flush(b), BROKER_OK);
    assert_int_equal(broker_unsubscribe(s), BROKER_OK);
    fake_join(&f);
    broker_close(b);
    fake_close(&f);
}

/* ---- a lost connection ------------------------------------------------------------------------------------------------------ */

static void script_lost(struct fake *fake)
{
    uint32_t stream;

    script_subscribe(&stream, 10);
    fake_deliver(fake, stream, 100, 1, 5);
    /* The client has the first of them in its hands when the connection goes: an ack of it is on its way. */
    struct fake_frame frame = fake_expect(fake, NULL, FRAME_PING);
    fake_answer_empty(fake, &frame);
    fake_frame_free(&frame);
    fake_drop(fake);
    fake_greet(fake, NULL);
    frame = fake_expect(fake, NULL, FRAME_ACK); /* given while there was no connection */
    assert_int_equal(get_u64(frame.body), 100);
    fake_answer_settle(fake, &frame, 0, 1);
    fake_frame_free(&frame);
    frame = fake_expect(fake, NULL, FRAME_SUBSCRIBE);
    assert_int_equal(frame.head.stream, stream);
    fake_answer_empty(fake, &frame);
    fake_frame_free(&frame);
    expect_credit(stream, 10, 8 << 20);
    fake_deliver(fake, stream, 200, 1, 5);
}

static void a_subscription_is_renewed(void **state)
{
    const broker_msg *m;
    size_t len;

    fake_open(&f);
    broker *b = client_open(&f, NULL);
    fake_start(&f, script_lost);
    broker_subscription *s = subscribe(b, BROKER_ACK_MANUAL, 10, NULL, NULL);
    assert_int_equal(broker_receive(s, 10000, &m), BROKER_OK);
    assert_int_equal(broker_ping(b, NULL), BROKER_OK);
    while (broker_is_connected(b))
        broker_wait(b, 100);
    assert_memory_equal(broker_msg_body(m, &len), "m1", 2); /* valid until the next receive, connection or not */
    assert_int_equal(broker_ack(b, m), BROKER_OK);
    assert_int_equal(broker_receive(s, 10000, &m), BROKER_OK); /* what was in the inbox comes again, not twice */
    assert_int_equal(broker_msg_receipt(m), 200);
    assert_int_equal(broker_flush(b), BROKER_OK);
    assert_int_equal(broker_settle_failures(b), 1);
    fake_join(&f);
    broker_close(b);
    fake_close(&f);
}

/* ---- ends and refusals ------------------------------------------------------------------------------------------------------ */

static void script_refused(struct fake *fake)
{
    fake_greet(fake, NULL);
    struct fake_frame frame = fake_expect(fake, NULL, FRAME_SUBSCRIBE);
    fake_send_error(fake, frame.head.correlation, BROKER_QUEUE_NOT_FOUND, "no queue \"jobs\"", "request");
    fake_frame_free(&frame);
}

static void a_refused_subscription(void **state)
{
    struct seen seen = {0};
    broker_subscription *s;

    fake_open(&f);
    broker *b = client_open(&f, NULL);
    fake_start(&f, script_refused);
    assert_int_equal(broker_subscribe(b, "jobs", NULL, on_message, on_end, &seen, &s), BROKER_QUEUE_NOT_FOUND);
    assert_null(s);
    assert_string_equal(broker_error_text(b), "no queue \"jobs\"");
    assert_int_equal(seen.ended, 0);
    fake_join(&f);
    broker_close(b);
    fake_close(&f);
}

static void script_ended(struct fake *fake)
{
    uint32_t stream;
    msgpack_sbuffer sb;

    script_subscribe(&stream, 10);
    msgpack_sbuffer_init(&sb);
    wire_error_put(&sb, BROKER_QUEUE_NOT_FOUND, "queue \"jobs\" was deleted", "subscription", 0);
    fake_send(fake, FRAME_SUBSCRIPTION_ENDED, 0, stream, sb.data, sb.size);
    msgpack_sbuffer_destroy(&sb);
}

static void an_ended_subscription(void **state)
{
    struct seen seen = {0};
    const broker_msg *m;

    fake_open(&f);
    broker *b = client_open(&f, NULL);
    fake_start(&f, script_ended);
    broker_subscription *s = subscribe(b, BROKER_ACK_MANUAL, 10, NULL, &seen);
    assert_int_equal(broker_receive(s, 10000, &m), BROKER_QUEUE_NOT_FOUND);
    assert_string_equal(broker_error_text(b), "queue \"jobs\" was deleted");
    assert_int_equal(seen.ended, 1);
    assert_int_equal(seen.error, BROKER_QUEUE_NOT_FOUND);
    assert_int_equal(broker_unsubscribe(s), BROKER_OK);
    fake_join(&f);
    broker_close(b);
    fake_close(&f);
}

static void script_overrun(struct fake *fake)
{
    uint32_t stream;

    script_subscribe(&stream, 2);
    fake_deliver(fake, stream, 1, 1, 3); /* one more than there is credit for */
    if (!fake_closed(fake, NULL))
        abort();
}

static void more_than_the_credit(void **state)
{
    struct seen seen = {0};

    fake_open(&f);
    broker *b = client_open(&f, NULL);
    fake_start(&f, script_overrun);
    subscribe(b, BROKER_ACK_MANUAL, 2, on_message, &seen);
    while (broker_is_connected(b))
        broker_wait(b, 100);
    assert_int_equal(seen.count, 0);
    fake_join(&f);
    broker_close(b);
    fake_close(&f);
}

static void script_too_late(struct fake *fake)
{
    fake_greet(fake, NULL);
    struct fake_frame subscribe_frame = fake_expect(fake, NULL, FRAME_SUBSCRIBE);
    struct fake_frame frame = fake_expect(fake, NULL, FRAME_PING); /* the client has given up by now */
    fake_answer_empty(fake, &subscribe_frame);
    fake_answer_empty(fake, &frame);
    fake_frame_free(&frame);
    frame = fake_expect(fake, NULL, FRAME_UNSUBSCRIBE);
    assert_int_equal(frame.head.stream, subscribe_frame.head.stream);
    fake_answer_empty(fake, &frame);
    fake_frame_free(&frame);
    fake_frame_free(&subscribe_frame);
}

static void an_answer_after_the_deadline(void **state)
{
    broker_options o = BROKER_OPTIONS_INIT(broker_options);
    broker_subscription *s;

    fake_open(&f);
    o.timeout_ms = 150;
    broker *b = client_open(&f, &o);
    fake_start(&f, script_too_late);
    assert_int_equal(broker_subscribe(b, "jobs", NULL, on_message, NULL, NULL, &s), BROKER_TIMEOUT);
    b->options.timeout_ms = 10000;
    assert_int_equal(broker_ping(b, NULL), BROKER_OK);
    while (io_has_output(b))
        broker_wait(b, 100);
    fake_join(&f);
    broker_close(b);
    fake_close(&f);
}

/* ---- lease ------------------------------------------------------------------------------------------------------------------- */

static void script_lease(struct fake *fake)
{
    uint8_t body[DELIVER_HEAD_BYTES + 8 + 2 * 48] = {0};
    struct record_spec spec = {.body = "m1", .body_len = 2};

    fake_greet(fake, NULL);
    struct fake_frame frame = fake_expect(fake, NULL, FRAME_LEASE);
    put_u32(body, 2);
    put_u32(body + 4, DELIVER_ATTEMPTS);
    put_u64(body + 8, 77);
    put_u32(body + 16, 5);
    put_u32(body + 20, 1);
    for (uint64_t i = 0; i < 2; i++) {
        spec.body = i ? "m2" : "m1";
        record_spec_put(body + 24 + 48 * i, &spec);
        put_u64(body + 24 + 48 * i + 16, i + 1);
    }
    fake_send(fake, FRAME_LEASE | FRAME_RESPONSE, frame.head.correlation, 0, body, sizeof(body));
    fake_frame_free(&frame);
    for (int i = 0; i < 2; i++) {
        frame = fake_expect(fake, NULL, FRAME_ACK);
        fake_answer_settle(fake, &frame, i == 0, i == 1);
        fake_frame_free(&frame);
    }
    /* Nobody waits for the second LEASE's answer: what it leased must come back. */
    struct fake_frame late = fake_expect(fake, NULL, FRAME_LEASE);
    frame = fake_expect(fake, NULL, FRAME_PING);
    fake_send(fake, FRAME_LEASE | FRAME_RESPONSE, late.head.correlation, 0, body, sizeof(body));
    fake_answer_empty(fake, &frame);
    fake_frame_free(&frame);
    fake_frame_free(&late);
    frame = fake_expect(fake, NULL, FRAME_NACK);
    assert_int_equal(get_u64(frame.body + 8), 77);
    assert_int_equal(get_u32(frame.body + 16), 2);
    fake_answer_settle(fake, &frame, 2, 0);
    fake_frame_free(&frame);
}

static void on_leased(void *arg, broker_subscription *s, const broker_msg *m)
{
    struct seen *seen = arg;

    assert_null(s);
    assert_int_equal(broker_msg_attempt(m), seen->count == 0 ? 5 : 1);
    on_message(arg, s, m);
}

static void lease_once(void **state)
{
    struct seen seen = {0};
    uint32_t count = 99;

    fake_open(&f);
    broker *b = client_open(&f, NULL);
    fake_start(&f, script_lease);
    assert_int_equal(broker_lease(b, "jobs", NULL, 2, 0, 0, on_leased, &seen, &count), BROKER_OK);
    assert_int_equal(count, 2);
    assert_int_equal(seen.count, 2);
    assert_int_equal(broker_ack_receipt(b, 77), BROKER_OK);
    assert_int_equal(broker_ack_receipt(b, 77), BROKER_STALE_RECEIPT);
    assert_int_equal(broker_lease(b, "jobs", NULL, 0, 0, 0, on_leased, &seen, &count), BROKER_INVALID_ARGUMENT);
    assert_int_equal(broker_extend_receipt(b, 77, 0), BROKER_INVALID_ARGUMENT);
    b->options.timeout_ms = 50;
    assert_int_equal(broker_lease(b, "jobs", NULL, 2, 0, 0, on_leased, &seen, &count), BROKER_TIMEOUT);
    assert_int_equal(count, 0);
    b->options.timeout_ms = 10000;
    assert_int_equal(broker_ping(b, NULL), BROKER_OK);
    assert_int_equal(broker_flush(b), BROKER_OK);
    fake_join(&f);
    broker_close(b);
    fake_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(acks_and_credit_by_themselves),
        cmocka_unit_test(a_nacked_message_is_not_acked),
        cmocka_unit_test(receive_one_by_one),
        cmocka_unit_test(a_subscription_is_renewed),
        cmocka_unit_test(a_refused_subscription),
        cmocka_unit_test(an_ended_subscription),
        cmocka_unit_test(more_than_the_credit),
        cmocka_unit_test(an_answer_after_the_deadline),
        cmocka_unit_test(lease_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
