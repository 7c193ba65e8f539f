/* What comes with a delivered message, and giving messages up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "fake_broker.h"

static struct fake f; /* for the scripts, which run in a thread */

/* A batch of two messages whose records were stored for another queue: with attempts and seqs of their own. */
static size_t foreign_batch(uint8_t *body, uint64_t receipt)
{
    const struct record_spec specs[2] = {
        {.body = "one",
         .body_len = 3,
         .topic = "a.b",
         .topic_len = 3,
         .priority = 7,
         .due_ms = 111,
         .expire_ms = 222,
         .id = "id-1",
         .id_len = 4,
         .producer = 5,
         .number = 6,
         .by_topic = true},
        {.body = "two", .body_len = 3},
    };
    size_t len = DELIVER_HEAD_BYTES;

    memset(body, 0, DELIVER_HEAD_BYTES);
    put_u32(body, 2);
    put_u32(body + 4, DELIVER_ATTEMPTS | DELIVER_SEQS);
    put_u64(body + 8, receipt);
    put_u32(body + len, 3);
    put_u32(body + len + 4, 4);
    put_u64(body + len + 8, 901);
    put_u64(body + len + 16, 905);
    len += 24;
    for (int i = 0; i < 2; i++) {
        record_spec_put(body + len, &specs[i]);
        put_u64(body + len + 16, 17); /* the seq in the other queue */
        len += record_spec_bytes(&specs[i]);
    }
    return len;
}

static void check_first(const broker_msg *m)
{
    size_t len;

    assert_int_equal(broker_msg_seq(m), 901);
    assert_int_equal(broker_msg_attempt(m), 3);
    assert_memory_equal(broker_msg_topic(m, &len), "a.b", 3);
    assert_int_equal(len, 3);
    assert_memory_equal(broker_msg_id(m, &len), "id-1", 4);
    assert_int_equal(len, 4);
    assert_int_equal(broker_msg_priority(m), 7);
    assert_int_equal(broker_msg_due_ms(m), 111);
    assert_int_equal(broker_msg_expire_ms(m), 222);
}

static void check_second(const broker_msg *m)
{
    size_t len = 1;

    assert_int_equal(broker_msg_seq(m), 905);
    assert_int_equal(broker_msg_attempt(m), 4);
    assert_null(broker_msg_topic(m, &len));
    assert_int_equal(len, 0);
    assert_null(broker_msg_id(m, &len));
    assert_int_equal(broker_msg_priority(m), 0);
    assert_int_equal(broker_msg_due_ms(m), 0);
    assert_int_equal(broker_msg_expire_ms(m), 0);
}

static uint32_t script_subscribe(const char *map)
{
    fake_greet(&f, NULL);
    struct fake_frame frame = fake_expect_map(&f, NULL, FRAME_SUBSCRIBE, map);
    uint32_t stream = frame.head.stream;
    fake_answer_empty(&f, &frame);
    fake_frame_free(&frame);
    frame = fake_expect(&f, NULL, FRAME_CREDIT);
    fake_frame_free(&frame);
    return stream;
}

static void expect_nack(uint32_t delay_ms, uint32_t flags, uint64_t first, uint32_t count)
{
    struct fake_frame frame = fake_expect(&f, NULL, FRAME_NACK);

    assert_int_equal(frame.head.length, 8 + SETTLE_RANGE_BYTES);
    assert_int_equal(get_u32(frame.body), delay_ms);
    assert_int_equal(get_u32(frame.body + 4), flags);
    assert_int_equal(get_u64(frame.body + 8), first);
    assert_int_equal(get_u32(frame.body + 16), count);
    fake_answer_settle(&f, &frame, count, 0);
    fake_frame_free(&frame);
}

/* ---- by callback, by broker_receive, kept, leased -------------------------------------------------------------------------- */

static void script_foreign(struct fake *fake)
{
    uint8_t body[512];
    uint32_t stream = script_subscribe("{\"queue\"=>\"q\", \"group\"=>\"g\", \"lease_ms\"=>0, \"on_send\"=>false, "
                                       "\"priority\"=>9, \"max_unsettled\"=>5}");

    fake_send(fake, FRAME_DELIVER, 0, stream, body, foreign_batch(body, 40));
    struct fake_frame frame = fake_expect(fake, NULL, FRAME_LEASE);
    fake_send(fake, FRAME_LEASE | FRAME_RESPONSE, frame.head.correlation, 0, body, foreign_batch(body, 60));
    fake_frame_free(&frame);
    frame = fake_expect(fake, NULL, FRAME_UNSUBSCRIBE);
    fake_answer_empty(fake, &frame);
    fake_frame_free(&frame);
}

static void on_leased(void *arg, broker_subscription *s, const broker_msg *m)
{
    int *count = arg;

    if (++*count == 1)
        check_first(m);
    else
        check_second(m);
    assert_int_equal(broker_msg_receipt(m), 59 + *count);
}

static void seqs_of_their_own(void **state)
{
    broker_subscribe_options o = {.size = sizeof(o), .group = "g", .priority = 9, .max_unsettled = 5};
    broker_subscription *s = NULL;
    const broker_msg *m = NULL;
    int leased = 0;
    uint32_t count = 0;

    fake_open(&f);
    broker *b = client_open(&f, NULL);
    fake_start(&f, script_foreign);
    o.priority = 10;
    assert_int_equal(broker_subscribe(b, "q", &o, NULL, NULL, NULL, &s), BROKER_INVALID_ARGUMENT);
    o.priority = 9;
    assert_int_equal(broker_subscribe(b, "q", &o, NULL, NULL, NULL, &s), BROKER_OK);
    assert_int_equal(broker_receive(s, 10000, &m), BROKER_OK);
    check_first(m);
    broker_msg *kept = broker_msg_keep(m);
    assert_non_null(kept);
    assert_int_equal(broker_receive(s, 10000, &m), BROKER_OK);
    check_second(m);
    check_first(kept);
    broker_msg_free(kept);
    assert_int_equal(broker_lease(b, "q", NULL, 10, 0, 0, on_leased, &leased, &count), BROKER_OK);
    assert_int_equal(count, 2);
    assert_int_equal(leased, 2);
    assert_int_equal(broker_unsubscribe(s), BROKER_OK);
    fake_join(&f);
    broker_close(b);
    fake_close(&f);
}

static void older_subscribe_options(void **state)
{
    broker_subscribe_options o = {
        .size = offsetof(broker_subscribe_options, priority), .priority = 77, .max_unsettled = 1};
    struct fake fake;

    fake_open(&fake);
    broker *b = client_open(&fake, NULL);
    broker_subscription *s = NULL;
    b->options.timeout_ms = 1; /* nobody answers: what counts is that the options are taken */
    assert_int_equal(broker_subscribe(b, "q", &o, NULL, NULL, NULL, &s), BROKER_CONNECTION_REFUSED);
    broker_close(b);
    fake_close(&fake);
}

/* A batch that claims more seqs than it has bytes for ends the connection. */
static void script_short_seqs(struct fake *fake)
{
    uint8_t body[DELIVER_HEAD_BYTES + 16] = {0};
    uint32_t stream =
        script_subscribe("{\"queue\"=>\"q\", \"group\"=>\"default\", \"lease_ms\"=>0, \"on_send\"=>false, "
                         "\"priority\"=>0, \"max_unsettled\"=>0}");

    put_u32(body, 3);
    put_u32(body + 4, DELIVER_SEQS);
    fake_send(fake, FRAME_DELIVER, 0, stream, body, sizeof(body));
    assert_true(fake_closed(fake, NULL));
}

static void seqs_missing(void **state)
{
    broker_options o = {.size = sizeof(o), .no_reconnect = true};
    broker_subscription *s = NULL;
    const broker_msg *m = NULL;

    fake_open(&f);
    broker *b = client_open(&f, &o);
    fake_start(&f, script_short_seqs);
    assert_int_equal(broker_subscribe(b, "q", NULL, NULL, NULL, NULL, &s), BROKER_OK);
    assert_int_equal(broker_receive(s, 10000, &m), BROKER_CONNECTION_LOST);
    assert_non_null(strstr(broker_error_text(b), "seqs"));
    fake_join(&f);
    broker_close(b);
    fake_close(&f);
}

/* ---- reject ------------------------------------------------------------------------------------------------------------------ */

static void script_reject(struct fake *fake)
{
    uint32_t stream =
        script_subscribe("{\"queue\"=>\"q\", \"group\"=>\"default\", \"lease_ms\"=>0, \"on_send\"=>false, "
                         "\"priority\"=>0, \"max_unsettled\"=>0}");

    fake_deliver(fake, stream, 10, 1, 6);
    expect_nack(0, 0, 10, 2);
    expect_nack(0, NACK_DEAD_LETTER, 12, 2);
    expect_nack(0, 0, 14, 1);
    expect_nack(7, 0, 15, 1);
    expect_nack(0, NACK_DEAD_LETTER, 99, 1);
    struct fake_frame frame = fake_expect(fake, NULL, FRAME_NACK);
    fake_answer_settle(fake, &frame, 0, 1);
    fake_frame_free(&frame);
}

struct rejecter {
    broker *b;
    int messages;
};

/* All in one turn, so that only what differs keeps them apart. */
static void on_message(void *arg, broker_subscription *s, const broker_msg *m)
{
    struct rejecter *r = arg;
    broker_error error;

    switch (r->messages++) {
    case 2:
    case 3: error = broker_reject(r->b, m); break;
    case 5: error = broker_nack(r->b, m, 7); break;
    default: error = broker_nack(r->b, m, 0); break;
    }
    assert_int_equal(error, BROKER_OK);
}

static void rejects_apart_from_nacks(void **state)
{
    struct rejecter r = {0};
    broker_subscription *s = NULL;

    fake_open(&f);
    r.b = client_open(&f, NULL);
    fake_start(&f, script_reject);
    assert_int_equal(broker_subscribe(r.b, "q", NULL, on_message, NULL, &r, &s), BROKER_OK);
    while (r.messages < 6)
        assert_int_equal(broker_wait(r.b, 10000), BROKER_OK);
    assert_int_equal(broker_flush(r.b), BROKER_OK);
    assert_int_equal(broker_reject_receipt(r.b, 99), BROKER_OK);
    assert_int_equal(broker_reject_receipt(r.b, 99), BROKER_STALE_RECEIPT);
    fake_join(&f);
    broker_close(r.b);
    fake_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(seqs_of_their_own),
        cmocka_unit_test(older_subscribe_options),
        cmocka_unit_test(seqs_missing),
        cmocka_unit_test(rejects_apart_from_nacks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
