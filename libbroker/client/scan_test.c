/* Peek, scan, reschedule: what is asked for step by step, and what is made of the answers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "fake_broker.h"

static struct fake f; /* for the scripts, which run in a thread */

/* ---- scan ---------------------------------------------------------------------------------------------------------------------- */

static void answer_scan(uint8_t type, const char *map, uint64_t matched, uint64_t skipped, uint64_t next_seq)
{
    struct fake_frame frame = fake_expect_map(&f, NULL, type, map);
    msgpack_sbuffer sb;
    msgpack_packer pk;

    msgpack_sbuffer_init(&sb);
    msgpack_packer_init(&pk, &sb, msgpack_sbuffer_write);
    msgpack_pack_map(&pk, 3);
    pack_key_u64(&pk, "matched", matched);
    pack_key_u64(&pk, "skipped", skipped);
    pack_key_u64(&pk, "next_seq", next_seq);
    fake_send(&f, type | FRAME_RESPONSE, frame.head.correlation, 0, sb.data, sb.size);
    msgpack_sbuffer_destroy(&sb);
    fake_frame_free(&frame);
}

static void refuse_scan(const char *map, broker_error code)
{
    struct fake_frame frame = fake_expect_map(&f, NULL, FRAME_SCAN, map);

    fake_send_error(&f, frame.head.correlation, code, "refused", "request");
    fake_frame_free(&frame);
}

#define SCAN(action, from, to, messages, scanned)                                                                      \
    "{\"queue\"=>\"q\", \"action\"=>\"" action "\", \"state\"=>\"any\", \"from_seq\"=>" from ", \"to_seq\"=>" to       \
    ", \"from_ms\"=>0, \"to_ms\"=>0, \"max_messages\"=>" messages ", \"max_scanned\"=>" scanned

static void script_steps(struct fake *fake)
{
    fake_greet(fake, NULL);
    /* No limits: in steps until the range is done; a busy broker is asked again. */
    answer_scan(FRAME_SCAN, SCAN("count", "0", "0", "1000000", "200000") "}", 10, 1, 200001);
    refuse_scan(SCAN("count", "200001", "0", "1000000", "200000") "}", BROKER_OVERLOADED);
    answer_scan(FRAME_SCAN, SCAN("count", "200001", "0", "1000000", "200000") "}", 0, 0, 400001);
    answer_scan(FRAME_SCAN, SCAN("count", "400001", "0", "1000000", "200000") "}", 5, 2, 0);
    /* Both limits: what is left of them. */
    answer_scan(FRAME_SCAN, SCAN("delete", "100", "900000", "50", "200000") "}", 20, 0, 200100);
    answer_scan(FRAME_SCAN, SCAN("delete", "200100", "900000", "30", "50000") "}", 10, 0, 250100);
    answer_scan(FRAME_SCAN, SCAN("delete", "100", "900000", "50", "200000") "}", 50, 0, 300);
    /* Everything that can be said. */
    answer_scan(FRAME_SCAN,
                "{\"queue\"=>\"q\", \"action\"=>\"move\", \"state\"=>\"scheduled\", \"from_seq\"=>0, \"to_seq\"=>0, "
                "\"from_ms\"=>5, \"to_ms\"=>6, \"max_messages\"=>1000000, \"max_scanned\"=>200000, "
                "\"filter\"=>{\"topic\"=>\"a.*\", \"key\"=>\"k\", \"headers\"=>{\"n\"=>\"v\"}}, \"target\"=>\"other\"}",
                1, 0, 0);
    /* An error on the way: what was done until then is told. */
    answer_scan(FRAME_SCAN, SCAN("redrive", "0", "0", "1000000", "200000") "}", 7, 3, 200001);
    refuse_scan(SCAN("redrive", "200001", "0", "1000000", "200000") "}", BROKER_QUEUE_NOT_FOUND);
    /* Answers that go nowhere or backwards. */
    answer_scan(FRAME_SCAN, SCAN("count", "500", "0", "1000000", "200000") "}", 1, 0, 500);
    /* Stopped by the program. */
    answer_scan(FRAME_SCAN, SCAN("count", "0", "0", "1000000", "200000") "}", 2, 0, 200001);
    struct fake_frame frame = fake_expect(fake, NULL, FRAME_SCAN);
    fake_frame_free(&frame);
    fake_drop(fake);
}

struct steps {
    int count, stop_at;
    broker_scan_result last;
};

static bool on_step(void *arg, const broker_scan_result *so_far)
{
    struct steps *s = arg;

    s->last = *so_far;
    return ++s->count != s->stop_at;
}

static void in_steps(void **state)
{
    broker_scan_options o = {.size = sizeof(o)};
    broker_scan_result r = {0};
    struct steps s = {0};
    broker_header header = {.name = "n", .value = "v"};

    fake_open(&f);
    broker *b = client_open(&f, NULL);
    fake_start(&f, script_steps);
    assert_int_equal(broker_scan(b, "q", BROKER_SCAN_COUNT, NULL, on_step, &s, &r), BROKER_OK);
    assert_int_equal(s.count, 3);
    assert_int_equal(r.matched, 15);
    assert_int_equal(r.skipped, 3);
    assert_int_equal(r.next_seq, 0);

    o = (broker_scan_options){
        .size = sizeof(o), .from_seq = 100, .to_seq = 900000, .max_messages = 50, .max_scanned = 250000};
    assert_int_equal(broker_scan(b, "q", BROKER_SCAN_DELETE, &o, NULL, NULL, &r), BROKER_OK);
    assert_int_equal(r.matched, 30);
    assert_int_equal(r.next_seq, 250100); /* enough was looked at */
    assert_int_equal(broker_scan(b, "q", BROKER_SCAN_DELETE, &o, NULL, NULL, &r), BROKER_OK);
    assert_int_equal(r.next_seq, 300); /* enough matched */

    o = (broker_scan_options){
        .size = sizeof(o), .from_ms = 5, .to_ms = 6, .state = BROKER_SCAN_SCHEDULED, .target = "other"};
    o.filter = (broker_filter){.topic = "a.*", .key = "k", .headers = &header, .header_count = 1};
    assert_int_equal(broker_scan(b, "q", BROKER_SCAN_MOVE, &o, NULL, NULL, NULL), BROKER_OK);

    assert_int_equal(broker_scan(b, "q", BROKER_SCAN_REDRIVE, NULL, NULL, NULL, &r), BROKER_QUEUE_NOT_FOUND);
    assert_int_equal(r.matched, 7);
    assert_int_equal(r.next_seq, 200001);

    o = (broker_scan_options){.size = sizeof(o), .from_seq = 500};
    assert_int_equal(broker_scan(b, "q", BROKER_SCAN_COUNT, &o, NULL, NULL, &r), BROKER_MALFORMED);

    s = (struct steps){.stop_at = 1};
    assert_int_equal(broker_scan(b, "q", BROKER_SCAN_COUNT, NULL, on_step, &s, &r), BROKER_OK);
    assert_int_equal(r.next_seq, 200001);
    assert_int_equal(broker_scan(b, "q", BROKER_SCAN_COUNT, NULL, NULL, NULL, &r), BROKER_CONNECTION_LOST);
    fake_join(&f);
    broker_close(b);
    fake_close(&f);
}

static void refused_at_once(void **state)
{
    struct fake fake;
    broker_header nameless = {.name = NULL, .value = "v"}, many[33];
    broker_scan_options o;
#define REFUSED(action, ...)                                                                                           \
    o = (broker_scan_options){.size = sizeof(o), __VA_ARGS__};                                                         \
    assert_int_equal(broker_scan(b, "q", action, &o, NULL, NULL, NULL), BROKER_INVALID_ARGUMENT);                      \
    assert_true(strlen(broker_error_text(b)) > 10)

    fake_open(&fake);
    broker *b = client_open(&fake, NULL);
    for (int i = 0; i < 33; i++)
        many[i] = (broker_header){.name = "n", .value = "v"};
    REFUSED((broker_scan_action)4, .from_seq = 0);
    REFUSED(BROKER_SCAN_COUNT, .state = (broker_scan_state)3);
    REFUSED(BROKER_SCAN_COUNT, .from_seq = 2, .to_seq = 1);
    REFUSED(BROKER_SCAN_COUNT, .from_ms = 2, .to_ms = 1);
    REFUSED(BROKER_SCAN_COUNT, .target = "other");
    REFUSED(BROKER_SCAN_MOVE, .target = NULL);
    REFUSED(BROKER_SCAN_MOVE, .target = "no/name");
    REFUSED(BROKER_SCAN_COUNT, .filter.topic = "a..b");
    REFUSED(BROKER_SCAN_COUNT, .filter = {.headers = &nameless, .header_count = 1});
    REFUSED(BROKER_SCAN_COUNT, .filter = {.headers = many, .header_count = 33});
    REFUSED(BROKER_SCAN_COUNT, .filter = {.headers = NULL, .header_count = 1});
    o = (broker_scan_options){.size = 4};
    assert_int_equal(broker_peek(b, "q", &o, NULL, NULL, NULL), BROKER_INVALID_ARGUMENT);
    assert_int_equal(broker_peek(b, "no/name", NULL, NULL, NULL, NULL), BROKER_INVALID_ARGUMENT);
    assert_int_equal(broker_reschedule_delay(b, "q", 1, TIME_SPAN_MAX_MS + 1), BROKER_INVALID_ARGUMENT);
    assert_int_equal(broker_reschedule(b, "no/name", 1, 1), BROKER_INVALID_ARGUMENT);
    broker_close(b);
    fake_close(&fake);
}

/* ---- peek ----------------------------------------------------------------------------------------------------------------------- */

#define PEEK(from, messages)                                                                                           \
    "{\"queue\"=>\"q\", \"max_bytes\"=>1048576, \"state\"=>\"any\", \"from_seq\"=>" from                               \
    ", \"to_seq\"=>0, \"from_ms\"=>0, \"to_ms\"=>0, \"max_messages\"=>" messages ", \"max_scanned\"=>200000}"

/* `count` messages with seqs first_seq, first_seq + 10 …, in records that say another. */
static void answer_peek(const char *map, uint64_t first_seq, uint32_t count, uint64_t next_seq, size_t cut)
{
    struct fake_frame frame = fake_expect_map(&f, NULL, FRAME_PEEK, map);
    uint8_t body[1024] = {0};
    size_t len = PEEK_HEAD_BYTES + 8u * count;

    put_u32(body, count);
    put_u32(body + 4, next_seq ? PEEK_MORE : 0);
    put_u64(body + 8, next_seq);
    for (uint32_t i = 0; i < count; i++) {
        struct record_spec spec = {.body = "x", .body_len = 1};
        put_u64(body + PEEK_HEAD_BYTES + 8u * i, first_seq + 10u * i);
        record_spec_put(body + len, &spec);
        put_u64(body + len + 16, 7777);
        len += record_spec_bytes(&spec);
    }
    fake_send(&f, FRAME_PEEK | FRAME_RESPONSE, frame.head.correlation, 0, body, len - cut);
    fake_frame_free(&frame);
}

static void script_peek(struct fake *fake)
{
    fake_greet(fake, NULL);
    answer_peek(PEEK("0", "100"), 3, 2, 14, 0);
    answer_peek(PEEK("14", "98"), 0, 0, 200014, 0);
    answer_peek(PEEK("200014", "98"), 200020, 1, 0, 0);
    answer_peek(PEEK("0", "5"), 1, 5, 50, 0);   /* as many as wanted, and there are more */
    answer_peek(PEEK("0", "1000"), 1, 3, 0, 0); /* stopped at the second */
    answer_peek(PEEK("0", "100"), 1, 2, 0, 8);  /* cut off */
    answer_peek(PEEK("0", "100"), 1, 0, 0, 12); /* not even a head */
    struct fake_frame frame = fake_expect(fake, NULL, FRAME_PEEK);
    fake_send_error(fake, frame.head.correlation, BROKER_QUEUE_NOT_FOUND, "no queue \"q\"", "request");
    fake_frame_free(&frame);
    fake_expect_call(fake, NULL, FRAME_RESCHEDULE, "{\"queue\"=>\"q\", \"seq\"=>5, \"due_ms\"=>1700000000000}");
    frame = fake_expect_map(fake, NULL, FRAME_RESCHEDULE, "{\"queue\"=>\"q\", \"seq\"=>6, \"delay_ms\"=>1000}");
    fake_send_error(fake, frame.head.correlation, BROKER_MESSAGE_NOT_FOUND, "message 6 does not wait", "request");
    fake_frame_free(&frame);
}

struct seen {
    broker *b;
    int count, stop_at;
    uint64_t seqs[8];
};

static bool on_peeked(void *arg, const broker_msg *m)
{
    struct seen *s = arg;
    size_t len;

    assert_int_equal(broker_msg_receipt(m), 0);
    assert_int_equal(broker_msg_attempt(m), 0);
    assert_memory_equal(broker_msg_body(m, &len), "x", 1);
    assert_int_equal(broker_ack(s->b, m), BROKER_INVALID_ARGUMENT);
    assert_int_equal(broker_nack(s->b, m, 0), BROKER_INVALID_ARGUMENT);
    assert_int_equal(broker_reject(s->b, m), BROKER_INVALID_ARGUMENT);
    s->seqs[s->count++] = broker_msg_seq(m);
    return s->count != s->stop_at;
}

static void peeking(void **state)
{
    broker_scan_options o = {.size = sizeof(o), .max_messages = 5};
    broker_scan_result r = {0};

    fake_open(&f);
    broker *b = client_open(&f, NULL);
    struct seen s = {.b = b};
    fake_start(&f, script_peek);
    assert_int_equal(broker_peek(b, "q", NULL, on_peeked, &s, &r), BROKER_OK);
    assert_int_equal(s.count, 3);
    assert_int_equal(s.seqs[0], 3);
    assert_int_equal(s.seqs[1], 13);
    assert_int_equal(s.seqs[2], 200020);
    assert_int_equal(r.matched, 3);
    assert_int_equal(r.next_seq, 0);
    s.count = 0;
    assert_int_equal(broker_peek(b, "q", &o, on_peeked, &s, &r), BROKER_OK);
    assert_int_equal(r.matched, 5);
    assert_int_equal(r.next_seq, 50);
    o.max_messages = 5000;
    s.count = 0;
    s.stop_at = 2;
    assert_int_equal(broker_peek(b, "q", &o, on_peeked, &s, &r), BROKER_OK);
    assert_int_equal(s.count, 2);
    assert_int_equal(r.next_seq, 12);
    s = (struct seen){.b = b};
    assert_int_equal(broker_peek(b, "q", NULL, on_peeked, &s, &r), BROKER_MALFORMED);
    assert_int_equal(broker_peek(b, "q", NULL, on_peeked, &s, &r), BROKER_MALFORMED);
    assert_int_equal(broker_peek(b, "q", NULL, NULL, NULL, NULL), BROKER_QUEUE_NOT_FOUND);
    assert_true(broker_is_connected(b));
    assert_int_equal(broker_reschedule(b, "q", 5, 1700000000000), BROKER_OK);
    assert_int_equal(broker_reschedule_delay(b, "q", 6, 1000), BROKER_MESSAGE_NOT_FOUND);
    fake_join(&f);
    broker_close(b);
    fake_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_steps),
        cmocka_unit_test(refused_at_once),
        cmocka_unit_test(peeking),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
