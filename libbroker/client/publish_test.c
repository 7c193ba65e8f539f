/* Publishing: coalescing, confirms, refusals, lost connections, limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "fake_broker.h"

struct confirms {
    int count, failed;
    uint64_t last_seq;
    bool in_order, duplicate;
    broker_error error;
};

static void on_confirm(void *arg, broker_error error, const broker_publish_result *result)
{
    struct confirms *c = arg;

    if (c->count + c->failed == 0)
        c->in_order = true;
    if (error != BROKER_OK) {
        c->failed++;
        c->error = error;
        return;
    }
    c->in_order = c->in_order && result->seq == c->last_seq + 1;
    c->last_seq = result->seq;
    c->duplicate = result->duplicate;
    c->count++;
}

static broker_error publish(broker *b, const char *queue, const char *body, struct confirms *c)
{
    broker_message m = BROKER_OPTIONS_INIT(broker_message);

    m.body = body;
    m.body_len = strlen(body);
    return broker_publish_async(b, queue, &m, NULL, c ? on_confirm : NULL, c);
}

static void publish_n(broker *b, const char *queue, int n, struct confirms *c)
{
    for (int i = 0; i < n; i++)
        assert_int_equal(publish(b, queue, "hello", c), BROKER_OK);
}

static void wait_confirms(struct fake *f, broker *b, struct confirms *c, int n)
{
    for (int turns = 0; c->count + c->failed < n && turns < 1000; turns++)
        fake_turn(f, b);
    assert_int_equal(c->count + c->failed, n);
}

static void many_become_one_frame(void **state)
{
    struct fake f;
    struct confirms c = {0};
    uint64_t first, last;

    fake_open(&f);
    broker *b = client_open(&f, NULL);
    publish_n(b, "jobs", 100, &c); /* before the connection is there */
    assert_int_equal(broker_outbox(b), 100);
    fake_greet(&f, b);
    struct fake_frame frame = fake_expect(&f, b, FRAME_PUBLISH);
    assert_int_equal(fake_publish_records(&frame, &first, &last), 100);
    assert_int_equal(first, 1);
    assert_int_equal(last, 100);
    assert_memory_equal(frame.body, "\4\0jobs\0\0", 8);
    assert_int_equal(c.count, 0);
    fake_answer_publish(&f, &frame, 1);
    wait_confirms(&f, b, &c, 100);
    assert_true(c.in_order);
    assert_int_equal(c.last_seq, 100);
    assert_int_equal(broker_outbox(b), 0);
    fake_frame_free(&frame);
    broker_close(b);
    fake_close(&f);
}

static void queues_and_syncs_apart(void **state)
{
    struct fake f;
    struct confirms c = {0};
    broker_publish_options none = BROKER_OPTIONS_INIT(broker_publish_options);
    broker_message m = BROKER_OPTIONS_INIT(broker_message);
    static const struct {
        const char *queue;
        uint32_t records;
        uint8_t flags;
    } expected[] = {{"a", 2, 0}, {"b", 1, 0}, {"a", 1, BROKER_SYNC_NONE}, {"a", 1, 0}};

    fake_open(&f);
    broker *b = client_open(&f, NULL);
    none.sync = BROKER_SYNC_NONE;
    publish_n(b, "a", 1, &c);
    publish_n(b, "b", 1, &c);
    publish_n(b, "a", 1, &c);
    assert_int_equal(broker_publish_async(b, "a", &m, &none, on_confirm, &c), BROKER_OK);
    publish_n(b, "a", 1, &c);
    fake_greet(&f, b);
    for (size_t i = 0; i < 4; i++) {
        struct fake_frame frame = fake_expect(&f, b, FRAME_PUBLISH);
        assert_memory_equal(frame.body + 2, expected[i].queue, 1);
        assert_int_equal(fake_publish_records(&frame, NULL, NULL), expected[i].records);
        assert_int_equal(frame.head.flags, expected[i].flags);
        fake_answer_publish(&f, &frame, 1);
        fake_frame_free(&frame);
    }
    wait_confirms(&f, b, &c, 5);
    broker_close(b);
    fake_close(&f);
}

static void ranges_of_every_kind(void **state)
{
    struct fake f;
    struct confirms c[4] = {0};
    uint8_t body[4 * PUBLISH_RANGE_BYTES];
    const struct publish_range ranges[4] = {
        {.first_seq = 7, .first_index = 0, .count = 1},
        {.first_index = 1, .count = 1, .code = BROKER_QUEUE_FULL, .retry_ms = 99},
        {.first_seq = 3, .first_index = 2, .count = 1, .flags = PUBLISH_RANGE_DUPLICATE},
        {.first_seq = 0, .first_index = 3, .count = 1, .code = 9999},
    };

    fake_open(&f);
    broker *b = client_open(&f, NULL);
    for (int i = 0; i < 4; i++)
        publish_n(b, "q", 1, &c[i]);
    fake_greet(&f, b);
    struct fake_frame frame = fake_expect(&f, b, FRAME_PUBLISH);
    for (int i = 0; i < 4; i++)
        publish_range_put(body + i * PUBLISH_RANGE_BYTES, &ranges[i]);
    fake_send(&f, FRAME_PUBLISH | FRAME_RESPONSE, frame.head.correlation, 0, body, sizeof(body));
    wait_confirms(&f, b, &c[3], 1);
    assert_int_equal(c[0].last_seq, 7);
    assert_int_equal(c[1].error, BROKER_QUEUE_FULL);
    assert_int_equal(c[2].last_seq, 3);
    assert_true(c[2].duplicate);
    assert_int_equal(c[3].error, BROKER_INTERNAL); /* a code of a newer broker */
    fake_frame_free(&frame);
    broker_close(b);
    fake_close(&f);
}

static void whole_frame_refused(void **state)
{
    struct fake f;
    struct confirms c = {0};

    fake_open(&f);
    broker *b = client_open(&f, NULL);
    publish_n(b, "missing", 3, &c);
    publish_n(b, "missing", 1, NULL);
    fake_greet(&f, b);
    struct fake_frame frame = fake_expect(&f, b, FRAME_PUBLISH);
    fake_send_error(&f, frame.head.correlation, BROKER_QUEUE_NOT_FOUND, "no queue \"missing\"", "request");
    wait_confirms(&f, b, &c, 3);
    assert_int_equal(c.error, BROKER_QUEUE_NOT_FOUND);
    assert_string_equal(broker_error_text(b), "no queue \"missing\"");
    assert_int_equal(broker_error_retry_ms(b), 250);
    assert_true(broker_is_connected(b));
    assert_int_equal(broker_flush(b), BROKER_QUEUE_NOT_FOUND); /* of the one without a callback */
    assert_int_equal(broker_flush(b), BROKER_OK);
    fake_frame_free(&frame);
    broker_close(b);
    fake_close(&f);
}

/* The confirm is lost: the same numbers go out again, in the same order, before anything new. */
static void lost_connection_resends(void **state)
{
    struct fake f;
    struct confirms c = {0};
    uint64_t first, last;
    uint32_t correlations[2];

    fake_open(&f);
    broker *b = client_open(&f, NULL);
    fake_greet(&f, b);
    for (int i = 0; i < 2; i++) {
        publish_n(b, "jobs", 10, &c);
        struct fake_frame frame = fake_expect(&f, b, FRAME_PUBLISH);
        correlations[i] = frame.head.correlation;
        fake_frame_free(&frame);
    }
    publish_n(b, "jobs", 5, &c);
    fake_drop(&f);
    fake_greet(&f, b);
    static const uint64_t firsts[] = {1, 11, 21};
    for (int i = 0; i < 3; i++) {
        struct fake_frame frame = fake_expect(&f, b, FRAME_PUBLISH);
        fake_publish_records(&frame, &first, &last);
        assert_int_equal(first, firsts[i]);
        if (i < 2)
            assert_int_equal(frame.head.correlation, correlations[i]);
        fake_answer_publish(&f, &frame, first);
        fake_frame_free(&frame);
    }
    wait_confirms(&f, b, &c, 25);
    assert_true(c.in_order);
    assert_int_equal(c.failed, 0);
    broker_close(b);
    fake_close(&f);
}

static void half_written_frame_is_written_again(void **state)
{
    struct fake f;
    struct confirms c = {0};
    static char body[700000];
    broker_message m = BROKER_OPTIONS_INIT(broker_message);
    int small = 16384;

    fake_open(&f);
    setsockopt(f.listener, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    broker *b = client_open(&f, NULL);
    fake_greet(&f, b);
    memset(body, 'x', sizeof(body));
    m.body = body;
    m.body_len = sizeof(body);
    for (int i = 0; i < 12; i++) /* more than the socket's buffers take */
        assert_int_equal(broker_publish_async(b, "big", &m, NULL, on_confirm, &c), BROKER_OK);
    for (int i = 0; i < 20; i++)
        broker_process(b, 0);
    assert_true(broker_events(b) & BROKER_EVENT_WRITE);
    fake_drop(&f);
    fake_greet(&f, b);
    for (uint64_t i = 1; i <= 12; i++) {
        uint64_t number;
        struct fake_frame frame = fake_expect(&f, b, FRAME_PUBLISH);
        assert_int_equal(fake_publish_records(&frame, &number, NULL), 1);
        assert_int_equal(number, i);
        fake_answer_publish(&f, &frame, i);
        fake_frame_free(&frame);
    }
    wait_confirms(&f, b, &c, 12);
    assert_true(c.in_order);
    broker_close(b);
    fake_close(&f);
}

static void outbox_has_bounds(void **state)
{
    struct fake f;
    struct confirms c = {0};
    broker_options o = BROKER_OPTIONS_INIT(broker_options);
    broker_message big = {.size = sizeof(big), .body = calloc(1, 5000), .body_len = 5000};

    fake_open(&f);
    o.outbox_messages = 10;
    o.outbox_bytes = 4096;
    broker *b = client_open(&f, &o);
    publish_n(b, "q", 10, &c);
    assert_int_equal(publish(b, "q", "one more", &c), BROKER_OUTBOX_FULL);
    assert_int_equal(broker_publish_async(b, "q", &big, NULL, on_confirm, &c), BROKER_TOO_LARGE);
    fake_greet(&f, b);
    struct fake_frame frame = fake_expect(&f, b, FRAME_PUBLISH);
    fake_answer_publish(&f, &frame, 1);
    wait_confirms(&f, b, &c, 10);
    big.body_len = 3000;
    assert_int_equal(broker_publish_async(b, "q", &big, NULL, on_confirm, &c), BROKER_OK);
    assert_int_equal(broker_publish_async(b, "q", &big, NULL, on_confirm, &c), BROKER_OUTBOX_FULL); /* by bytes */
    free((void *)big.body);
    fake_frame_free(&frame);
    broker_close(b);
    assert_int_equal(c.failed, 1);
    assert_int_equal(c.error, BROKER_CANCELLED);
    fake_close(&f);
}

static void bad_arguments(void **state)
{
    struct fake f;
    broker_message m = BROKER_OPTIONS_INIT(broker_message);
    broker_publish_options o = BROKER_OPTIONS_INIT(broker_publish_options);
    broker_header header = {.name = "a", .value = NULL};
    char long_name[300];

    fake_open(&f);
    broker *b = client_open(&f, NULL);
    memset(long_name, 'a', 299);
    long_name[299] = '\0';
    assert_int_equal(broker_publish_async(b, "", &m, NULL, NULL, NULL), BROKER_INVALID_ARGUMENT);
    assert_int_equal(broker_publish_async(b, NULL, &m, NULL, NULL, NULL), BROKER_INVALID_ARGUMENT);
    assert_int_equal(broker_publish_async(b, ".x", &m, NULL, NULL, NULL), BROKER_INVALID_ARGUMENT);
    assert_int_equal(broker_publish_async(b, long_name, &m, NULL, NULL, NULL), BROKER_INVALID_ARGUMENT);
    assert_int_equal(broker_publish_async(b, "q", NULL, NULL, NULL, NULL), BROKER_INVALID_ARGUMENT);
    m.key = "k";
    m.key_len = 65536;
    assert_int_equal(broker_publish_async(b, "q", &m, NULL, NULL, NULL), BROKER_INVALID_ARGUMENT);
    m.key = NULL;
    m.raw_headers = "\xc0";
    m.raw_headers_len = 1;
    assert_int_equal(broker_publish_async(b, "q", &m, NULL, NULL, NULL), BROKER_INVALID_ARGUMENT);
    m.raw_headers = NULL;
    m.headers = &header;
    m.header_count = 1;
    assert_int_equal(broker_publish_async(b, "q", &m, NULL, NULL, NULL), BROKER_INVALID_ARGUMENT);
    m.header_count = 0;
    m.body_len = 1;
    assert_int_equal(broker_publish_async(b, "q", &m, NULL, NULL, NULL), BROKER_INVALID_ARGUMENT);
    m.body_len = 0;
    m.size = 0;
    assert_int_equal(broker_publish_async(b, "q", &m, NULL, NULL, NULL), BROKER_INVALID_ARGUMENT);
    m.size = sizeof(m);
    o.sync = (broker_sync)17;
    assert_int_equal(broker_publish_async(b, "q", &m, &o, NULL, NULL), BROKER_INVALID_ARGUMENT);
    m.body = "x";
    m.body_len = RECORD_MAX_BYTES;
    assert_int_equal(broker_publish_async(b, "q", &m, NULL, NULL, NULL), BROKER_TOO_LARGE);
    assert_int_equal(broker_outbox(b), 0);
    broker_close(b);
    fake_close(&f);
}

/* A frame made before the broker said how large one may be. */
static void frame_over_the_brokers_limit(void **state)
{
    struct fake f;
    struct confirms c = {0}, small = {0};
    broker_message m = {.size = sizeof(m), .body = calloc(1, 9000), .body_len = 9000};

    fake_open(&f);
    f.max_frame = 4096;
    broker *b = client_open(&f, NULL);
    assert_int_equal(broker_publish_async(b, "q", &m, NULL, on_confirm, &c), BROKER_OK);
    publish_n(b, "other", 1, &small);
    fake_greet(&f, b);
    wait_confirms(&f, b, &c, 1);
    assert_int_equal(c.error, BROKER_TOO_LARGE);
    assert_int_equal(broker_publish_async(b, "q", &m, NULL, on_confirm, &c), BROKER_TOO_LARGE);
    struct fake_frame frame = fake_expect(&f, b, FRAME_PUBLISH);
    fake_answer_publish(&f, &frame, 1);
    wait_confirms(&f, b, &small, 1);
    free((void *)m.body);
    fake_frame_free(&frame);
    broker_close(b);
    fake_close(&f);
}

static void more_queues_than_are_remembered(void **state)
{
    struct fake f;
    struct confirms c = {0};
    char name[16];
    uint64_t number = 0;

    fake_open(&f);
    broker *b = client_open(&f, NULL);
    fake_greet(&f, b);
    publish_n(b, "q0", 7, &c);
    for (int i = 0; i < OUT_QUEUES_MAX + 10; i++) {
        snprintf(name, sizeof(name), "q%d", i);
        if (i > 0)
            publish_n(b, name, 1, &c);
        struct fake_frame frame = fake_expect(&f, b, FRAME_PUBLISH);
        fake_answer_publish(&f, &frame, 1);
        fake_frame_free(&frame);
        wait_confirms(&f, b, &c, 7 + i);
    }
    publish_n(b, "q0", 1, &c); /* forgotten: it must not begin at 1 again */
    struct fake_frame frame = fake_expect(&f, b, FRAME_PUBLISH);
    fake_publish_records(&frame, &number, NULL);
    assert_true(number > 7);
    assert_true(HASH_COUNT(b->queues) <= OUT_QUEUES_MAX);
    fake_frame_free(&frame);
    broker_close(b);
    fake_close(&f);
}

struct chain {
    broker *b;
    int left;
};

static void publish_next(void *arg, broker_error error, const broker_publish_result *result)
{
    struct chain *c = arg;
    broker_message m = BROKER_OPTIONS_INIT(broker_message);

    assert_int_equal(error, BROKER_OK);
    assert_int_equal(broker_wait(c->b, 0), BROKER_INVALID_ARGUMENT); /* no waiting in a callback */
    assert_int_equal(broker_flush(c->b), BROKER_INVALID_ARGUMENT);
    if (c->left-- > 0)
        assert_int_equal(broker_publish_async(c->b, "chain", &m, NULL, publish_next, c), BROKER_OK);
}

static void callbacks_may_publish(void **state)
{
    struct fake f;
    broker_message m = BROKER_OPTIONS_INIT(broker_message);

    fake_open(&f);
    struct chain c = {.b = client_open(&f, NULL), .left = 5};
    fake_greet(&f, c.b);
    assert_int_equal(broker_publish_async(c.b, "chain", &m, NULL, publish_next, &c), BROKER_OK);
    for (int i = 0; i < 6; i++) {
        struct fake_frame frame = fake_expect(&f, c.b, FRAME_PUBLISH);
        fake_answer_publish(&f, &frame, 1);
        fake_frame_free(&frame);
    }
    while (broker_outbox(c.b) > 0)
        fake_turn(&f, c.b);
    assert_int_equal(c.left, -1);
    broker_close(c.b);
    fake_close(&f);
}

static void shutdown_answers_are_sent_again(void **state)
{
    struct fake f;
    struct confirms c = {0};
    uint64_t number;

    fake_open(&f);
    broker *b = client_open(&f, NULL);
    fake_greet(&f, b);
    publish_n(b, "q", 2, &c);
    struct fake_frame frame = fake_expect(&f, b, FRAME_PUBLISH);
    fake_send_error(&f, frame.head.correlation, BROKER_SHUTTING_DOWN, "shutting down", "request");
    fake_frame_free(&frame);
    assert_true(fake_closed(&f, b)); /* nothing is awaited: the client leaves */
    publish_n(b, "q", 1, &c);
    fake_greet(&f, b);
    for (uint64_t first = 1; first <= 3; first += 2) {
        frame = fake_expect(&f, b, FRAME_PUBLISH);
        fake_publish_records(&frame, &number, NULL);
        assert_int_equal(number, first);
        fake_answer_publish(&f, &frame, first);
        fake_frame_free(&frame);
    }
    wait_confirms(&f, b, &c, 3);
    assert_int_equal(c.failed, 0);
    broker_close(b);
    fake_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_become_one_frame),
        cmocka_unit_test(queues_and_syncs_apart),
        cmocka_unit_test(ranges_of_every_kind),
        cmocka_unit_test(whole_frame_refused),
        cmocka_unit_test(lost_connection_resends),
        cmocka_unit_test(half_written_frame_is_written_again),
        cmocka_unit_test(outbox_has_bounds),
        cmocka_unit_test(bad_arguments),
        cmocka_unit_test(frame_over_the_brokers_limit),
        cmocka_unit_test(more_queues_than_are_remembered),
        cmocka_unit_test(callbacks_may_publish),
        cmocka_unit_test(shutdown_answers_are_sent_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
