/* What a message says of itself besides body and headers, and publishing by topic. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "fake_broker.h"

struct confirm {
    int count;
    broker_error error;
    broker_publish_result result;
};

static void on_confirm(void *arg, broker_error error, const broker_publish_result *result)
{
    struct confirm *c = arg;

    c->count++;
    c->error = error;
    c->result = *result;
}

static void wait_confirm(struct fake *f, broker *b, struct confirm *c)
{
    for (int turns = 0; c->count == 0 && turns < 1000; turns++)
        fake_turn(f, b);
    assert_int_equal(c->count, 1);
}

/* Record number `index` of a PUBLISH. */
static struct record_view record_of(const struct fake_frame *frame, uint32_t index)
{
    uint32_t at = pad8(2u + get_u16(frame->body));
    struct record_view v;

    while (index-- > 0)
        at += record_padded(frame->body + at);
    assert_int_equal(record_view_get(frame->body + at, frame->head.length - at, &v), BROKER_OK);
    return v;
}

static void each_field_has_its_place(void **state)
{
    struct fake f;
    broker_message m = {.size = sizeof(m),
                        .body = "b",
                        .body_len = 1,
                        .key = "k",
                        .topic = "orders.eu",
                        .id = "order-17",
                        .priority = 9,
                        .delay_ms = 5000,
                        .ttl_ms = 60000};
    broker_message at = {.size = sizeof(at), .at_ms = 1700000000000, .id = "\0\1\2", .id_len = 3};

    fake_open(&f);
    broker *b = client_open(&f, NULL);
    assert_int_equal(broker_publish_async(b, "q", &m, NULL, NULL, NULL), BROKER_OK);
    assert_int_equal(broker_publish_async(b, "q", &at, NULL, NULL, NULL), BROKER_OK);
    fake_greet(&f, b);
    struct fake_frame frame = fake_expect(&f, b, FRAME_PUBLISH);
    struct record_view v = record_of(&frame, 0);
    assert_int_equal(v.head.flags, RECORD_HAS_DUE | RECORD_HAS_EXPIRE | RECORD_ID_PRODUCER | RECORD_DUE_IS_DELAY |
                                       RECORD_EXPIRE_IS_TTL);
    assert_int_equal(v.due_ms, 5000);
    assert_int_equal(v.expire_ms, 60000);
    assert_int_equal(v.head.priority, 9);
    assert_int_equal(v.number, 1);
    assert_int_equal(v.producer, b->producer);
    assert_int_equal(v.message_id_len, 8);
    assert_memory_equal(v.message_id, "order-17", 8);
    assert_int_equal(v.head.topic_len, 9);
    assert_memory_equal(v.topic, "orders.eu", 9);
    assert_int_equal(v.head.key_len, 1);
    assert_int_equal(v.body[0], 'b');
    v = record_of(&frame, 1);
    assert_int_equal(v.head.flags, RECORD_HAS_DUE | RECORD_ID_PRODUCER);
    assert_int_equal(v.due_ms, 1700000000000);
    assert_int_equal(v.number, 2);
    assert_int_equal(v.message_id_len, 3);
    assert_memory_equal(v.message_id, "\0\1\2", 3);
    fake_frame_free(&frame);
    broker_close(b);
    fake_close(&f);
}

static void refused_at_once(void **state)
{
    struct fake f;
    char long_id[300] = {0};
    static const char *const topics[] = {"", ".a", "a.", "a..b", "a b", "*", "a.>"};
    broker_message m;
#define REFUSED(queue, ...)                                                                                            \
    m = (broker_message){.size = sizeof(m), __VA_ARGS__};                                                              \
    assert_int_equal(broker_publish_async(b, queue, &m, NULL, NULL, NULL), BROKER_INVALID_ARGUMENT)

    fake_open(&f);
    broker *b = client_open(&f, NULL);
    memset(long_id, 'i', 240);
    REFUSED("q", .priority = 10);
    assert_non_null(strstr(broker_error_text(b), "10"));
    REFUSED("q", .delay_ms = 1, .at_ms = 1);
    REFUSED("q", .delay_ms = TIME_SPAN_MAX_MS + 1);
    REFUSED("q", .ttl_ms = TIME_SPAN_MAX_MS + 1);
    REFUSED("q", .id = long_id);
    REFUSED("q", .id = "x", .id_len = 240);
    REFUSED("q", .id = "");
    for (size_t i = 0; i < sizeof(topics) / sizeof(topics[0]); i++) {
        REFUSED("q", .topic = topics[i]);
        REFUSED(NULL, .topic = topics[i]);
    }
    REFUSED(NULL, .topic = NULL);
    assert_non_null(strstr(broker_error_text(b), "topic"));
    m = (broker_message){.size = sizeof(m), .topic = "a"};
    assert_int_equal(broker_publish_async(b, NULL, &m, NULL, NULL, NULL), BROKER_OK);
    REFUSED("", .topic = "a"); /* the topics' space has no name that a program could give */
    assert_int_equal(broker_outbox(b), 1);
    m = (broker_message){.size = sizeof(m), .delay_ms = TIME_SPAN_MAX_MS, .ttl_ms = TIME_SPAN_MAX_MS};
    assert_int_equal(broker_publish_async(b, "q", &m, NULL, NULL, NULL), BROKER_OK);
    long_id[239] = '\0';
    m = (broker_message){.size = sizeof(m), .id = long_id};
    assert_int_equal(broker_publish_async(b, "q", &m, NULL, NULL, NULL), BROKER_OK);
    broker_close(b);
    fake_close(&f);
}

/* A program built when the structs ended earlier: what lies behind its end is not looked at. */
static void older_structs(void **state)
{
    struct fake f;
    broker_message m = {
        .size = offsetof(broker_message, topic), .topic = ".", .priority = 200, .delay_ms = 1, .at_ms = 1};
    broker_publish_options o = {.size = offsetof(broker_publish_options, unroutable_ok), .unroutable_ok = true};

    fake_open(&f);
    broker *b = client_open(&f, NULL);
    assert_int_equal(broker_publish_async(b, "q", &m, &o, NULL, NULL), BROKER_OK);
    fake_greet(&f, b);
    struct fake_frame frame = fake_expect(&f, b, FRAME_PUBLISH);
    struct record_view v = record_of(&frame, 0);
    assert_int_equal(v.head.flags, RECORD_ID_PRODUCER);
    assert_int_equal(v.head.priority, 0);
    assert_int_equal(v.head.topic_len, 0);
    assert_int_equal(frame.head.flags, 0);
    o.size--;
    assert_int_equal(broker_publish_async(b, "q", &m, &o, NULL, NULL), BROKER_INVALID_ARGUMENT);
    fake_frame_free(&frame);
    broker_close(b);
    fake_close(&f);
}

/* By topic: frames without a queue's name, numbered by themselves, apart by unroutable_ok, in order. */
static void by_topic_is_a_queue_of_its_own(void **state)
{
    struct fake f;
    broker_message m = {.size = sizeof(m), .topic = "a.b"};
    broker_publish_options drop = {.size = sizeof(drop), .unroutable_ok = true};
    static const struct {
        uint8_t name_len, flags;
        uint32_t records, first;
    } expected[] = {{1, 0, 4, 1}, {0, 0, 2, 1}, {0, FRAME_FLAG_UNROUTABLE_OK, 1, 3}, {0, 0, 1, 4}};
    const char *const queues[] = {"q", NULL, "q", NULL, "q"};

    fake_open(&f);
    broker *b = client_open(&f, NULL);
    for (int i = 0; i < 5; i++)
        assert_int_equal(broker_publish_async(b, queues[i], &m, NULL, NULL, NULL), BROKER_OK);
    assert_int_equal(broker_publish_async(b, NULL, &m, &drop, NULL, NULL), BROKER_OK);
    assert_int_equal(broker_publish_async(b, "q", &m, &drop, NULL, NULL), BROKER_OK); /* means nothing there */
    assert_int_equal(broker_publish_async(b, NULL, &m, NULL, NULL, NULL), BROKER_OK);
    fake_greet(&f, b);
    for (int i = 0; i < 4; i++) {
        struct fake_frame frame = fake_expect(&f, b, FRAME_PUBLISH);
        uint64_t first = 0;
        assert_int_equal(get_u16(frame.body), expected[i].name_len);
        assert_int_equal(frame.head.flags, expected[i].flags);
        assert_int_equal(fake_publish_records(&frame, &first, NULL), expected[i].records);
        assert_int_equal(first, expected[i].first);
        struct record_view v = record_of(&frame, 0);
        assert_int_equal((v.head.flags & RECORD_BY_TOPIC) != 0, expected[i].name_len == 0);
        fake_frame_free(&frame);
    }
    broker_close(b);
    fake_close(&f);
}

static void routed_and_unroutable(void **state)
{
    struct fake f;
    struct confirm c[3] = {0};
    static const char *const topics[] = {"a", "nobody.listens", "c"};
    const struct publish_range ranges[3] = {
        {.first_seq = 3, .first_index = 0, .count = 1, .flags = PUBLISH_RANGE_ROUTED},
        {.first_index = 1, .count = 1, .code = BROKER_UNROUTABLE},
        {.first_seq = 1, .first_index = 2, .count = 1, .flags = PUBLISH_RANGE_ROUTED | PUBLISH_RANGE_DUPLICATE},
    };
    uint8_t body[3 * PUBLISH_RANGE_BYTES];

    fake_open(&f);
    broker *b = client_open(&f, NULL);
    for (int i = 0; i < 3; i++) {
        broker_message m = {.size = sizeof(m), .topic = topics[i]};
        assert_int_equal(broker_publish_async(b, NULL, &m, NULL, i == 1 ? NULL : on_confirm, &c[i]), BROKER_OK);
        publish_range_put(body + i * PUBLISH_RANGE_BYTES, &ranges[i]);
    }
    fake_greet(&f, b);
    struct fake_frame frame = fake_expect(&f, b, FRAME_PUBLISH);
    fake_send(&f, FRAME_PUBLISH | FRAME_RESPONSE, frame.head.correlation, 0, body, sizeof(body));
    wait_confirm(&f, b, &c[2]);
    assert_int_equal(c[0].result.queues, 3);
    assert_int_equal(c[0].result.seq, 0);
    assert_int_equal(c[2].result.queues, 1);
    assert_true(c[2].result.duplicate);
    assert_int_equal(broker_flush(b), BROKER_UNROUTABLE);
    assert_non_null(strstr(broker_error_text(b), "nobody.listens"));
    fake_frame_free(&frame);
    broker_close(b);
    fake_close(&f);
}

/* Unconfirmed ones go out again with their numbers, as those to queues do. */
static void resent_by_topic(void **state)
{
    struct fake f;
    struct confirm c = {0};
    broker_message m = {.size = sizeof(m), .topic = "a"};
    uint64_t first = 0, last = 0;

    fake_open(&f);
    broker *b = client_open(&f, NULL);
    fake_greet(&f, b);
    assert_int_equal(broker_publish_async(b, NULL, &m, NULL, NULL, NULL), BROKER_OK);
    assert_int_equal(broker_publish_async(b, NULL, &m, NULL, on_confirm, &c), BROKER_OK);
    struct fake_frame frame = fake_expect(&f, b, FRAME_PUBLISH);
    fake_frame_free(&frame);
    fake_greet(&f, b); /* drops the connection */
    frame = fake_expect(&f, b, FRAME_PUBLISH);
    assert_int_equal(fake_publish_records(&frame, &first, &last), 2);
    assert_int_equal(first, 1);
    assert_int_equal(last, 2);
    fake_answer_publish(&f, &frame, 7);
    wait_confirm(&f, b, &c);
    fake_frame_free(&frame);
    broker_close(b);
    fake_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_field_has_its_place),
        cmocka_unit_test(refused_at_once),
        cmocka_unit_test(older_structs),
        cmocka_unit_test(by_topic_is_a_queue_of_its_own),
        cmocka_unit_test(routed_and_unroutable),
        cmocka_unit_test(resent_by_topic),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
