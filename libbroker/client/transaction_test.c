/* Transactions: what is sent, in which order and with which numbers, and what becomes of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "fake_broker.h"

static struct fake f; /* for the scripts, which run in a thread */

static const broker_message small = {.size = sizeof(small), .body = "hello", .body_len = 5};

/* Messages with receipts, as a subscription gives them. */
static broker_msg leased(uint64_t receipt)
{
    return (broker_msg){.receipt = receipt, .seq = receipt, .attempt = 1};
}

/* ---- a TRANSACT's body taken apart ---------------------------------------------------------------------------------------- */

struct part {
    const uint8_t *head, *body;
    uint32_t length;
    char queue[32];
};

/* The part at *at; moves behind it. */
static struct part part_at(const struct fake_frame *frame, size_t *at)
{
    struct part p = {.head = frame->body + *at};
    uint16_t name_len = get_u16(p.head + 2);

    assert_true(*at + TRANSACT_PART_BYTES <= frame->head.length && name_len < sizeof(p.queue));
    memcpy(p.queue, p.head + TRANSACT_PART_BYTES, name_len);
    p.body = p.head + TRANSACT_PART_BYTES + pad8(name_len);
    p.length = get_u32(p.head + 4);
    *at = (size_t)(p.body - frame->body) + pad8(p.length);
    assert_true(*at <= frame->head.length);
    return p;
}

static void expect_publish_part(const struct fake_frame *frame, size_t *at, const char *queue, uint32_t records,
                                uint64_t first_number)
{
    struct part p = part_at(frame, at);
    uint32_t offset = 0, count = 0;

    assert_int_equal(p.head[0], TRANSACT_PUBLISH);
    assert_string_equal(p.queue, queue);
    for (; offset < p.length; count++) {
        struct record_view v;
        assert_int_equal(record_view_get(p.body + offset, p.length - offset, &v), BROKER_OK);
        assert_int_equal(v.number, first_number ? first_number + count : 0);
        assert_int_equal((v.head.flags & RECORD_BY_TOPIC) != 0, queue[0] == '\0');
        offset += record_padded(p.body + offset);
    }
    assert_int_equal(count, records);
}

static void expect_settle_part(const struct fake_frame *frame, size_t *at, enum transact_kind kind, uint32_t delay_ms,
                               uint32_t flags, uint64_t first, uint32_t count)
{
    struct part p = part_at(frame, at);

    assert_int_equal(p.head[0], kind);
    assert_int_equal(get_u16(p.head + 2), 0);
    assert_int_equal(get_u32(p.head + 8), delay_ms);
    assert_int_equal(get_u32(p.head + 12), flags);
    assert_int_equal(p.length, SETTLE_RANGE_BYTES);
    assert_int_equal(get_u64(p.body), first);
    assert_int_equal(get_u32(p.body + 8), count);
}

static void answer_seqs(const struct fake_frame *frame, uint32_t count, const uint64_t *seqs)
{
    uint8_t body[64];

    for (uint32_t i = 0; i < count; i++)
        put_u64(body + 8u * i, seqs[i]);
    fake_send(&f, FRAME_TRANSACT | FRAME_RESPONSE, frame->head.correlation, 0, body, 8u * count);
}

/* ---- one that goes well ------------------------------------------------------------------------------------------------------ */

static void script_all_kinds(struct fake *fake)
{
    static const uint64_t seqs[] = {11, 12, 21, 13, 3};
    uint64_t first = 0, last = 0;

    fake_greet(fake, NULL);
    /* What was published before goes out before; what comes after does not join it. */
    struct fake_frame frame = fake_expect(fake, NULL, FRAME_PUBLISH);
    assert_int_equal(fake_publish_records(&frame, &first, &last), 2);
    assert_int_equal(first, 1);
    fake_answer_publish(fake, &frame, 9);
    fake_frame_free(&frame);

    frame = fake_expect(fake, NULL, FRAME_TRANSACT);
    size_t at = 0;
    assert_int_equal(frame.head.flags, BROKER_SYNC_ALWAYS | FRAME_FLAG_UNROUTABLE_OK);
    expect_publish_part(&frame, &at, "a", 2, 3);
    expect_publish_part(&frame, &at, "b", 1, 1);
    expect_publish_part(&frame, &at, "a", 1, 5);
    expect_publish_part(&frame, &at, "", 1, 1);
    expect_settle_part(&frame, &at, TRANSACT_ACK, 0, 0, 100, 3);
    expect_settle_part(&frame, &at, TRANSACT_NACK, 0, 0, 103, 1);
    expect_settle_part(&frame, &at, TRANSACT_NACK, 0, NACK_DEAD_LETTER, 104, 1);
    expect_settle_part(&frame, &at, TRANSACT_NACK, 50, 0, 105, 1);
    assert_int_equal(at, frame.head.length);
    answer_seqs(&frame, 5, seqs);
    fake_frame_free(&frame);

    frame = fake_expect(fake, NULL, FRAME_PUBLISH);
    assert_int_equal(fake_publish_records(&frame, &first, &last), 1);
    assert_int_equal(first, 6);
    fake_answer_publish(fake, &frame, 14);
    fake_frame_free(&frame);
}

static void all_kinds_of_parts(void **state)
{
    broker_transaction *t = NULL;
    broker_publish_options o = {.size = sizeof(o), .sync = BROKER_SYNC_ALWAYS, .unroutable_ok = true};
    broker_message timed = {
        .size = sizeof(timed), .delay_ms = 10, .ttl_ms = 20, .id = "id"}; /* number behind the times */
    broker_message topic = {.size = sizeof(topic), .topic = "t"};
    uint64_t seqs[5] = {0};

    fake_open(&f);
    broker *b = client_open(&f, NULL);
    assert_int_equal(broker_publish_async(b, "a", &small, NULL, NULL, NULL), BROKER_OK);
    assert_int_equal(broker_transaction_begin(b, &t), BROKER_OK);
    assert_int_equal(broker_transaction_publish(t, "a", &small), BROKER_OK);
    assert_int_equal(broker_transaction_publish(t, "a", &timed), BROKER_OK);
    assert_int_equal(broker_transaction_publish(t, "b", &small), BROKER_OK);
    assert_int_equal(broker_transaction_publish(t, "a", &small), BROKER_OK);
    assert_int_equal(broker_transaction_publish(t, NULL, &topic), BROKER_OK);
    for (uint64_t receipt = 100; receipt < 103; receipt++) {
        broker_msg m = leased(receipt);
        assert_int_equal(broker_transaction_ack(t, &m), BROKER_OK);
    }
    broker_msg n = leased(103), r = leased(104), d = leased(105), sent = leased(0), seen = {0};
    assert_int_equal(broker_transaction_nack(t, &n, 0), BROKER_OK);
    assert_int_equal(broker_transaction_reject(t, &r), BROKER_OK);
    assert_int_equal(broker_transaction_nack(t, &d, 50), BROKER_OK);
    assert_int_equal(broker_transaction_ack(t, &sent), BROKER_OK);
    assert_int_equal(broker_transaction_nack(t, &sent, 0), BROKER_INVALID_ARGUMENT);
    assert_int_equal(broker_transaction_ack(t, &seen), BROKER_INVALID_ARGUMENT);
    assert_int_equal(broker_transaction_publish(t, "no/name", &small), BROKER_INVALID_ARGUMENT);
    assert_int_equal(broker_transaction_publish(t, NULL, &small), BROKER_INVALID_ARGUMENT);
    assert_int_equal(broker_publish_async(b, "a", &small, NULL, NULL, NULL), BROKER_OK);
    fake_start(&f, script_all_kinds);
    assert_int_equal(broker_transaction_commit(t, &o, seqs), BROKER_OK);
    assert_int_equal(seqs[0], 11);
    assert_int_equal(seqs[3], 13);
    assert_int_equal(seqs[4], 3); /* queues reached */
    assert_int_equal(broker_publish_async(b, "a", &small, NULL, NULL, NULL), BROKER_OK);
    assert_int_equal(broker_flush(b), BROKER_OK);
    fake_join(&f);
    broker_close(b);
    fake_close(&f);
}

/* ---- no number out of order ---------------------------------------------------------------------------------------------- */

static void script_order(struct fake *fake)
{
    static const uint64_t seqs[] = {2};
    uint64_t first = 0, last = 0;
    size_t at = 0;

    fake_greet(fake, NULL);
    for (uint64_t number = 1; number <= 3; number += 2) {
        struct fake_frame frame = fake_expect(fake, NULL, FRAME_PUBLISH);
        assert_int_equal(fake_publish_records(&frame, &first, &last), 1);
        assert_int_equal(first, number);
        fake_answer_publish(fake, &frame, number);
        fake_frame_free(&frame);
        if (number == 3)
            break;
        frame = fake_expect(fake, NULL, FRAME_TRANSACT);
        expect_publish_part(&frame, &at, "a", 1, 2);
        answer_seqs(&frame, 1, seqs);
        fake_frame_free(&frame);
    }
}

static void publish_more(void *arg, broker_error error, const broker_publish_result *result)
{
    assert_int_equal(error, BROKER_TOO_LARGE);
    assert_int_equal(broker_publish_async(arg, "a", &small, NULL, NULL, NULL), BROKER_OK);
}

/* What a callback publishes during the commit does not join a frame that goes out before it. */
static void publishes_during_the_commit(void **state)
{
    broker_transaction *t = NULL;
    broker_message big = {.size = sizeof(big), .body = calloc(1, 5000), .body_len = 5000};

    fake_open(&f);
    f.max_frame = 4096;
    broker *b = client_open(&f, NULL);
    assert_int_equal(broker_publish_async(b, "z", &big, NULL, publish_more, b), BROKER_OK);
    assert_int_equal(broker_publish_async(b, "a", &small, NULL, NULL, NULL), BROKER_OK);
    assert_int_equal(broker_transaction_begin(b, &t), BROKER_OK);
    assert_int_equal(broker_transaction_publish(t, "a", &small), BROKER_OK);
    fake_start(&f, script_order);
    assert_int_equal(broker_transaction_commit(t, NULL, NULL), BROKER_OK);
    assert_int_equal(broker_flush(b), BROKER_OK);
    fake_join(&f);
    broker_close(b);
    fake_close(&f);
    free((void *)big.body);
}

/* ---- refusals ------------------------------------------------------------------------------------------------------------------ */

static broker_error commit_one(broker *b, const char *queue, uint64_t receipt, uint64_t *seq)
{
    broker_transaction *t = NULL;
    broker_msg m = leased(receipt);

    assert_int_equal(broker_transaction_begin(b, &t), BROKER_OK);
    if (queue)
        assert_int_equal(broker_transaction_publish(t, queue, &small), BROKER_OK);
    if (receipt)
        assert_int_equal(broker_transaction_ack(t, &m), BROKER_OK);
    return broker_transaction_commit(t, NULL, seq);
}

static void script_refusals(struct fake *fake)
{
    static const uint64_t seqs[] = {5, 6};
    size_t at = 0;

    fake_greet(fake, NULL);
    struct fake_frame frame = fake_expect(fake, NULL, FRAME_TRANSACT);
    fake_send_error(fake, frame.head.correlation, BROKER_STALE_RECEIPT, "part 2: receipt 7 is stale", "request");
    fake_frame_free(&frame);
    /* Busy twice: tried again, with new numbers, as refused ones are not used again. */
    for (uint64_t number = 2; number <= 4; number++) {
        frame = fake_expect(fake, NULL, FRAME_TRANSACT);
        at = 0;
        expect_publish_part(&frame, &at, "q", 1, number);
        if (number < 4)
            fake_send_error(fake, frame.head.correlation, BROKER_OVERLOADED, "busy", "request");
        else
            answer_seqs(&frame, 1, seqs);
        fake_frame_free(&frame);
    }
    frame = fake_expect(fake, NULL, FRAME_TRANSACT);
    answer_seqs(&frame, 2, seqs); /* two for one */
    fake_frame_free(&frame);
    frame = fake_expect(fake, NULL, FRAME_TRANSACT); /* never answered */
    fake_frame_free(&frame);
}

static void refusals(void **state)
{
    uint64_t seq = 0;
    broker_transaction *t = NULL;
    broker_publish_options bad = {.size = sizeof(bad), .sync = (broker_sync)9};

    fake_open(&f);
    broker *b = client_open(&f, NULL);
    assert_int_equal(commit_one(b, NULL, 0, NULL), BROKER_OK); /* an empty one, and no broker was needed */
    fake_start(&f, script_refusals);
    assert_int_equal(commit_one(b, "q", 7, &seq), BROKER_STALE_RECEIPT);
    assert_string_equal(broker_error_text(b), "part 2: receipt 7 is stale");
    assert_int_equal(commit_one(b, "q", 0, &seq), BROKER_OK);
    assert_int_equal(seq, 5);
    assert_int_equal(commit_one(b, "q", 0, &seq), BROKER_MALFORMED);
    b->options.timeout_ms = 100;
    assert_int_equal(commit_one(b, "q", 0, &seq), BROKER_TIMEOUT);
    assert_non_null(strstr(broker_error_text(b), "may yet be done"));
    assert_int_equal(broker_transaction_begin(b, &t), BROKER_OK);
    assert_int_equal(broker_transaction_publish(t, "q", &small), BROKER_OK);
    assert_int_equal(broker_transaction_commit(t, &bad, NULL), BROKER_INVALID_ARGUMENT);
    assert_int_equal(broker_transaction_begin(b, &t), BROKER_OK);
    assert_int_equal(broker_transaction_publish(t, "q", &small), BROKER_OK);
    broker_transaction_abort(t);
    broker_transaction_abort(NULL);
    fake_join(&f);
    broker_close(b);
    fake_close(&f);
}

/* As large as the broker's frames and no larger; what was refused leaves the rest as it was. */
static void script_large(struct fake *fake)
{
    static const uint64_t seqs[] = {1};
    size_t at = 0;

    fake_greet(fake, NULL);
    struct fake_frame frame = fake_expect(fake, NULL, FRAME_TRANSACT);
    expect_publish_part(&frame, &at, "q", 1, 1);
    expect_settle_part(&frame, &at, TRANSACT_ACK, 0, 0, 1, 1);
    assert_int_equal(at, frame.head.length);
    answer_seqs(&frame, 1, seqs);
    fake_frame_free(&frame);
}

static void too_large(void **state)
{
    broker_transaction *t = NULL, *early = NULL;
    broker_message big = {.size = sizeof(big), .body = calloc(1, 3000), .body_len = 3000};
    broker_msg m = leased(1);

    fake_open(&f);
    f.max_frame = 4096;
    broker *b = client_open(&f, NULL);
    assert_int_equal(broker_transaction_begin(b, &early), BROKER_OK); /* before the limit is known */
    assert_int_equal(broker_transaction_publish(early, "q", &big), BROKER_OK);
    assert_int_equal(broker_transaction_publish(early, "q", &big), BROKER_OK);
    fake_start(&f, script_large);
    assert_int_equal(broker_connect(b), BROKER_OK);
    assert_int_equal(broker_transaction_commit(early, NULL, NULL), BROKER_TOO_LARGE);
    assert_int_equal(broker_transaction_begin(b, &t), BROKER_OK);
    assert_int_equal(broker_transaction_publish(t, "q", &big), BROKER_OK);
    assert_int_equal(broker_transaction_publish(t, "q", &big), BROKER_TOO_LARGE);
    assert_int_equal(broker_transaction_publish(t, "another", &big), BROKER_TOO_LARGE);
    assert_int_equal(broker_transaction_ack(t, &m), BROKER_OK);
    assert_int_equal(broker_transaction_commit(t, NULL, NULL), BROKER_OK);
    fake_join(&f);
    broker_close(b);
    fake_close(&f);
    free((void *)big.body);
}

/* Made before the limit was known, sent by a commit that waits for the connection. */
static void script_greet_only(struct fake *fake)
{
    fake_greet(fake, NULL);
    assert_true(fake_closed(fake, NULL));
}

static void too_large_for_the_next_broker(void **state)
{
    broker_transaction *t = NULL;
    broker_message big = {.size = sizeof(big), .body = calloc(1, 5000), .body_len = 5000};

    fake_open(&f);
    f.max_frame = 4096;
    broker *b = client_open(&f, NULL);
    assert_int_equal(broker_transaction_begin(b, &t), BROKER_OK);
    assert_int_equal(broker_transaction_publish(t, "q", &big), BROKER_OK);
    fake_start(&f, script_greet_only);
    assert_int_equal(broker_transaction_commit(t, NULL, NULL), BROKER_TOO_LARGE);
    assert_non_null(strstr(broker_error_text(b), "4096"));
    broker_close(b);
    fake_join(&f);
    fake_close(&f);
    free((void *)big.body);
}

/* ---- lost connections ------------------------------------------------------------------------------------------------------------ */

static void script_lost(struct fake *fake)
{
    static const uint64_t seqs[] = {8};
    struct fake_frame frame;
    uint64_t first = 0;
    size_t at;

    fake_greet(fake, NULL);
    for (int i = 0; i < 2;
         i++) { /* the second connection gets the same again: unconfirmed publishes, then the transaction */
        frame = fake_expect(fake, NULL, FRAME_PUBLISH);
        fake_publish_records(&frame, &first, NULL);
        assert_int_equal(first, 1);
        if (i == 1)
            fake_answer_publish(fake, &frame, 1);
        fake_frame_free(&frame);
        frame = fake_expect(fake, NULL, FRAME_TRANSACT);
        at = 0;
        expect_publish_part(&frame, &at, "q", 1, 2);
        expect_settle_part(&frame, &at, TRANSACT_ACK, 0, 0, 50, 1);
        if (i == 1)
            answer_seqs(&frame, 1, seqs);
        else
            fake_greet(fake, NULL);
        fake_frame_free(&frame);
    }
    frame = fake_expect(fake, NULL, FRAME_TRANSACT); /* acks only */
    at = 0;
    expect_settle_part(&frame, &at, TRANSACT_ACK, 0, 0, 51, 1);
    fake_frame_free(&frame);
    fake_greet(fake, NULL);
    frame = fake_expect(fake, NULL, FRAME_PING); /* it is not sent again */
    fake_answer_empty(fake, &frame);
    fake_frame_free(&frame);
    frame = fake_expect(fake, NULL, FRAME_TRANSACT); /* a broker that goes down refuses it: the next one gets it */
    fake_send_error(fake, frame.head.correlation, BROKER_SHUTTING_DOWN, "going down", "request");
    fake_frame_free(&frame);
    assert_true(fake_closed(fake, NULL));
    fake_greet(fake, NULL);
    frame = fake_expect(fake, NULL, FRAME_TRANSACT);
    at = 0;
    expect_publish_part(&frame, &at, "q", 1, 3);
    answer_seqs(&frame, 1, seqs);
    fake_frame_free(&frame);
}

static void lost_connections(void **state)
{
    uint64_t seq = 0;

    fake_open(&f);
    broker *b = client_open(&f, NULL);
    fake_start(&f, script_lost);
    assert_int_equal(broker_publish_async(b, "q", &small, NULL, NULL, NULL), BROKER_OK);
    assert_int_equal(commit_one(b, "q", 50, &seq), BROKER_OK);
    assert_int_equal(seq, 8);
    assert_int_equal(commit_one(b, NULL, 51, NULL), BROKER_CONNECTION_LOST);
    assert_non_null(strstr(broker_error_text(b), "may have been done or not"));
    assert_int_equal(broker_ping(b, NULL), BROKER_OK);
    assert_int_equal(commit_one(b, "q", 0, &seq), BROKER_OK);
    fake_join(&f);
    broker_close(b);
    fake_close(&f);
}

static void script_unnumbered(struct fake *fake)
{
    size_t at = 0;

    fake_greet(fake, NULL);
    struct fake_frame frame = fake_expect(fake, NULL, FRAME_TRANSACT);
    expect_publish_part(&frame, &at, "q", 1, 0);
    fake_frame_free(&frame);
    fake_drop(fake);
}

/* Without numbers a second time could not be told from the first. */
static void unnumbered_is_not_sent_again(void **state)
{
    broker_options o = {.size = sizeof(o), .no_dedup = true};

    fake_open(&f);
    broker *b = client_open(&f, &o);
    fake_start(&f, script_unnumbered);
    assert_int_equal(commit_one(b, "q", 0, NULL), BROKER_CONNECTION_LOST);
    fake_join(&f);
    broker_close(b);
    fake_close(&f);
}

/* ---- with a subscription --------------------------------------------------------------------------------------------------------- */

struct consumer {
    broker *b;
    broker_transaction *t;
    int messages;
};

static void on_message(void *arg, broker_subscription *s, const broker_msg *m)
{
    struct consumer *c = arg;
    broker_transaction *never = NULL;

    c->messages++;
    assert_int_equal(broker_transaction_publish(c->t, "out", &small), BROKER_OK);
    assert_int_equal(broker_transaction_ack(c->t, m), BROKER_OK);
    assert_int_equal(broker_transaction_begin(c->b, &never), BROKER_OK);
    assert_int_equal(broker_transaction_commit(never, NULL, NULL), BROKER_INVALID_ARGUMENT); /* it waits */
}

static void script_transform(struct fake *fake)
{
    static const uint64_t seqs[] = {1, 2};
    size_t at = 0;

    fake_greet(fake, NULL);
    struct fake_frame frame = fake_expect(fake, NULL, FRAME_SUBSCRIBE);
    uint32_t stream = frame.head.stream;
    fake_answer_empty(fake, &frame);
    fake_frame_free(&frame);
    frame = fake_expect(fake, NULL, FRAME_CREDIT);
    fake_frame_free(&frame);
    fake_deliver(fake, stream, 70, 1, 2);
    frame = fake_expect(fake, NULL, FRAME_TRANSACT); /* and no ACK before it */
    expect_publish_part(&frame, &at, "out", 2, 1);
    expect_settle_part(&frame, &at, TRANSACT_ACK, 0, 0, 70, 2);
    answer_seqs(&frame, 2, seqs);
    fake_frame_free(&frame);
    frame = fake_expect(fake, NULL, FRAME_UNSUBSCRIBE);
    fake_answer_empty(fake, &frame);
    fake_frame_free(&frame);
}

static void consume_transform_produce(void **state)
{
    struct consumer c = {0};
    broker_subscribe_options o = {.size = sizeof(o), .ack = BROKER_ACK_AUTO};
    broker_subscription *s = NULL;

    fake_open(&f);
    c.b = client_open(&f, NULL);
    fake_start(&f, script_transform);
    assert_int_equal(broker_transaction_begin(c.b, &c.t), BROKER_OK);
    assert_int_equal(broker_subscribe(c.b, "in", &o, on_message, NULL, &c, &s), BROKER_OK);
    while (c.messages < 2)
        assert_int_equal(broker_wait(c.b, 10000), BROKER_OK);
    assert_int_equal(broker_transaction_commit(c.t, NULL, NULL), BROKER_OK);
    assert_int_equal(broker_unsubscribe(s), BROKER_OK);
    fake_join(&f);
    broker_close(c.b);
    fake_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_kinds_of_parts),
        cmocka_unit_test(publishes_during_the_commit),
        cmocka_unit_test(refusals),
        cmocka_unit_test(too_large),
        cmocka_unit_test(too_large_for_the_next_broker),
        cmocka_unit_test(lost_connections),
        cmocka_unit_test(unnumbered_is_not_sent_again),
        cmocka_unit_test(consume_transform_produce),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
