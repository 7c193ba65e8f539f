/* The connection: addresses, greeting, heartbeats, GOAWAY, loss, and a broker that sends nonsense. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "fake_broker.h"

#define LENGTH(a) (sizeof(a) / sizeof((a)[0]))

static void on_confirm(void *arg, broker_error error, const broker_publish_result *result)
{
    broker_error *out = arg;
    *out = error;
}

static void urls(void **state)
{
    static const char *const bad[] = {
        "http://localhost",
        "broker://",
        "broker://:7440",
        "broker://[::1",
        "broker://a:0",
        "broker://a:65536",
        "broker://a:x",
        "broker://a:1/x",
        "unix:",
        "localhost:7440",
        "broker://host with spaces:1",
    };
    static const char *const good[] = {"broker://127.0.0.1", "broker://127.0.0.1:1", "broker://[::1]:7440/",
                                       "broker://[::1]",     "unix:/tmp/none",       "unix:///tmp/none"};
    char long_path[200] = "unix:/";
    broker_options o = BROKER_OPTIONS_INIT(broker_options);
    broker *b;

    for (size_t i = 0; i < LENGTH(bad); i++) {
        o.url = bad[i];
        assert_int_equal(broker_open(&b, &o), BROKER_INVALID_ARGUMENT);
        assert_null(b);
        assert_non_null(strstr(broker_error_text(NULL), bad[i]));
    }
    for (size_t i = 0; i < LENGTH(good); i++) {
        o.url = good[i];
        assert_int_equal(broker_open(&b, &o), BROKER_OK);
        broker_close(b);
    }
    memset(long_path + 6, 'x', 150);
    o.url = long_path;
    assert_int_equal(broker_open(&b, &o), BROKER_INVALID_ARGUMENT);
    setenv("BROKER_URL", "nonsense", 1);
    assert_int_equal(broker_open(&b, NULL), BROKER_INVALID_ARGUMENT);
    unsetenv("BROKER_URL");
    assert_int_equal(broker_open(&b, NULL), BROKER_OK);
    broker_close(b);
    broker_close(NULL);
}

static void options_out_of_range(void **state)
{
    broker_options o = BROKER_OPTIONS_INIT(broker_options);
    broker *b;

    o.timeout_ms = 3600001;
    assert_int_equal(broker_open(&b, &o), BROKER_INVALID_ARGUMENT);
    assert_string_equal(broker_error_text(NULL), "options: timeout_ms is 3600001; give 1 to 3600000");
    o.timeout_ms = 0;
    o.size = 4;
    assert_int_equal(broker_open(&b, &o), BROKER_INVALID_ARGUMENT);
    o.size = offsetof(broker_options, connect_ms); /* a program built against a shorter struct */
    o.heartbeat_ms = 1;                            /* not looked at */
    assert_int_equal(broker_open(&b, &o), BROKER_OK);
    assert_int_equal(b->options.heartbeat_ms, 10000);
    broker_close(b);
}

static void nobody_listens(void **state)
{
    struct fake f;
    broker_options o = BROKER_OPTIONS_INIT(broker_options);
    broker_message m = BROKER_OPTIONS_INIT(broker_message);
    broker_error confirmed = BROKER_OK;

    fake_open(&f);
    fake_close(&f);
    memset(&f.listener, 0xff, sizeof(f.listener));
    o.timeout_ms = 200;
    broker *b = client_open(&f, &o);
    assert_int_equal(broker_connect(b), BROKER_CONNECTION_REFUSED);
    assert_non_null(strstr(broker_error_text(b), "Connection refused"));
    assert_int_equal(broker_publish(b, "q", &m, NULL, NULL), BROKER_CONNECTION_REFUSED);
    assert_int_equal(broker_outbox(b), 0); /* not sent, so it is not kept behind the program's back */
    assert_int_equal(broker_ping(b, NULL), BROKER_CONNECTION_REFUSED);
    broker_close(b);

    o.no_reconnect = true;
    b = client_open(&f, &o);
    if (broker_publish_async(b, "q", &m, NULL, on_confirm, &confirmed) == BROKER_OK) {
        while (confirmed == BROKER_OK)
            broker_wait(b, 100);
        assert_int_equal(confirmed, BROKER_CONNECTION_REFUSED);
    }
    assert_int_equal(broker_connect(b), BROKER_CONNECTION_REFUSED);
    assert_int_equal(broker_process(b, 0), BROKER_CONNECTION_REFUSED);
    assert_int_equal(broker_wait(b, -1), BROKER_CONNECTION_REFUSED);
    assert_int_equal(broker_publish_async(b, "q", &m, NULL, NULL, NULL), BROKER_CONNECTION_REFUSED);
    assert_int_equal(broker_ack(b, &(struct broker_msg){.receipt = 1}), BROKER_CONNECTION_REFUSED);
    broker_close(b);
}

static void a_unix_socket(void **state)
{
    struct fake f;

    fake_open_unix(&f);
    broker *b = client_open(&f, NULL);
    fake_greet(&f, b);
    assert_true(broker_is_connected(b));
    broker_close(b);
    fake_close(&f);
}

static void a_silent_listener(void **state)
{
    struct fake f;
    broker_options o = BROKER_OPTIONS_INIT(broker_options);

    fake_open(&f);
    o.connect_ms = 100;
    o.timeout_ms = 150;
    broker *b = client_open(&f, &o);
    assert_int_equal(broker_connect(b), BROKER_CONNECTION_REFUSED);
    assert_non_null(strstr(broker_error_text(b), "cannot greet"));
    broker_close(b);
    fake_close(&f);
}

static void refused_for_good(void **state)
{
    struct fake f;

    fake_open(&f);
    broker *b = client_open(&f, NULL);
    fake_accept(&f, b);
    fake_send_error(&f, 0, BROKER_UNSUPPORTED_VERSION, "version 1 is not spoken here; 2 is", "connection");
    while (broker_process(b, 0) == BROKER_OK)
        fake_turn(&f, b);
    assert_int_equal(broker_connect(b), BROKER_UNSUPPORTED_VERSION);
    assert_string_equal(broker_error_text(b), "version 1 is not spoken here; 2 is");
    assert_int_equal(broker_timeout_ms(b), -1);
    assert_int_equal(broker_fd(b), -1);
    broker_close(b);
    fake_close(&f);
}

static void no_reconnect_is_final(void **state)
{
    struct fake f;
    broker_options o = BROKER_OPTIONS_INIT(broker_options);
    broker_message m = BROKER_OPTIONS_INIT(broker_message);
    broker_error confirmed = BROKER_OK;

    fake_open(&f);
    o.no_reconnect = true;
    broker *b = client_open(&f, &o);
    fake_greet(&f, b);
    assert_int_equal(broker_publish_async(b, "q", &m, NULL, on_confirm, &confirmed), BROKER_OK);
    fake_drop(&f);
    while (broker_process(b, 0) == BROKER_OK)
        fake_turn(&f, b);
    assert_int_equal(confirmed, BROKER_CONNECTION_LOST);
    assert_int_equal(broker_outbox(b), 0);
    assert_int_equal(broker_flush(b), BROKER_CONNECTION_LOST);
    broker_close(b);
    fake_close(&f);
}

/* Each byte of HELLO's answer and of a publish's answer by itself. */
static void byte_by_byte(void **state)
{
    struct fake f;
    broker_message m = BROKER_OPTIONS_INIT(broker_message);
    broker_error confirmed = BROKER_INTERNAL;
    uint8_t bytes[FRAME_HEAD_BYTES + PUBLISH_RANGE_BYTES];
    static const uint8_t hello[] = {0x0e, 0,    0,    0,   0x81, 0,   0,   0,   1,   0,   0,   0,   0,    0,    0,
                                    0,    0x81, 0xa9, 'm', 'a',  'x', '_', 'f', 'r', 'a', 'm', 'e', 0xcd, 0x10, 0};

    fake_open(&f);
    broker *b = client_open(&f, NULL);
    fake_accept(&f, b);
    assert_int_equal(broker_publish_async(b, "q", &m, NULL, on_confirm, &confirmed), BROKER_OK);
    while (b->state != CONN_GREETING)
        fake_turn(&f, b);
    for (size_t i = 0; i < sizeof(hello); i++) {
        assert_false(broker_is_connected(b));
        fake_send_bytes(&f, hello + i, 1);
        fake_turn(&f, b);
    }
    while (!broker_is_connected(b))
        fake_turn(&f, b);
    assert_int_equal(b->max_frame, 4096);
    while (TAILQ_EMPTY(&b->sent))
        fake_turn(&f, b);
    struct frame_head head = {.length = PUBLISH_RANGE_BYTES,
                              .type = FRAME_PUBLISH | FRAME_RESPONSE,
                              .correlation = TAILQ_FIRST(&b->sent)->correlation};
    frame_head_put(bytes, &head);
    publish_range_put(bytes + FRAME_HEAD_BYTES, &(struct publish_range){.first_seq = 1, .count = 1});
    for (size_t i = 0; i < sizeof(bytes); i++) {
        assert_int_equal(confirmed, BROKER_INTERNAL);
        fake_send_bytes(&f, bytes + i, 1);
        fake_turn(&f, b);
    }
    while (confirmed == BROKER_INTERNAL)
        fake_turn(&f, b);
    assert_int_equal(confirmed, BROKER_OK);
    broker_close(b);
    fake_close(&f);
}

static void heartbeats(void **state)
{
    struct fake f;

    fake_open(&f);
    f.heartbeat_ms = 100;
    broker *b = client_open(&f, NULL);
    fake_greet(&f, b);
    for (int i = 0; i < 3; i++) { /* the client's, while ours keep it */
        struct fake_frame frame = fake_expect(&f, b, FRAME_HEARTBEAT);
        assert_int_equal(frame.head.length, 0);
        fake_frame_free(&frame);
        fake_send(&f, FRAME_HEARTBEAT, 0, 0, NULL, 0);
    }
    uint64_t silent_since = client_now_ms();
    assert_true(fake_closed(&f, b)); /* now none of ours */
    assert_true(client_now_ms() - silent_since >= 250);
    assert_non_null(strstr(b->lost_text, "no sign of life"));
    fake_greet(&f, b); /* and it comes back */
    broker_close(b);
    fake_close(&f);
}

static void goaway(void **state)
{
    struct fake f;
    broker_message m = BROKER_OPTIONS_INIT(broker_message);
    broker_error first = BROKER_INTERNAL, second = BROKER_INTERNAL;

    fake_open(&f);
    broker *b = client_open(&f, NULL);
    fake_greet(&f, b);
    assert_int_equal(broker_publish_async(b, "q", &m, NULL, on_confirm, &first), BROKER_OK);
    struct fake_frame frame = fake_expect(&f, b, FRAME_PUBLISH);
    fake_send(&f, FRAME_GOAWAY, 0, 0,
              "\x82\xa4"
              "code\x15\xa4text\xa3"
              "bye",
              16);
    while (b->state != CONN_DRAINING)
        fake_turn(&f, b);
    assert_int_equal(broker_publish_async(b, "q", &m, NULL, on_confirm, &second), BROKER_OK); /* held back */
    broker_process(b, 0);
    fake_answer_publish(&f, &frame, 1);
    fake_frame_free(&frame);
    while (first == BROKER_INTERNAL)
        fake_turn(&f, b);
    assert_int_equal(first, BROKER_OK);
    assert_true(fake_closed(&f, b));
    fake_greet(&f, b);
    frame = fake_expect(&f, b, FRAME_PUBLISH);
    fake_answer_publish(&f, &frame, 2);
    fake_frame_free(&frame);
    while (second == BROKER_INTERNAL)
        fake_turn(&f, b);
    assert_int_equal(second, BROKER_OK);
    broker_close(b);
    fake_close(&f);
}

/* ---- nonsense ------------------------------------------------------------------------------------------------------- */

/* One publish waits with correlation 2; after each of these the client must have left, and come back with the same message. */
static void malformed_frames(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
    } bad[] = {
        {"\0\0\0\0\xb0\0\1\0\2\0\0\0\0\0\0\0", 16},          /* reserved not zero */
        {"\0\0\0\0\xb0\0\0\0\2\0\0\0\0\0\0\0", 16},          /* no ranges */
        {"\5\0\0\0\xb0\0\0\0\2\0\0\0\0\0\0\0hello", 21},     /* half a range */
        {"\0\0\0\0\xb0\0\0\0\3\0\0\0\0\0\0\0", 16},          /* an answer to nothing */
        {"\0\0\0\0\x82\0\0\0\2\0\0\0\0\0\0\0", 16},          /* PING's answer to a PUBLISH */
        {"\1\0\0\0\xff\0\0\0\2\0\0\0\0\0\0\0\xc0", 17},      /* an ERROR that is no map */
        {"\3\0\0\0\x42\0\0\0\0\0\0\0\0\0\0\0\x81\xa1k", 19}, /* a GOAWAY cut short */
        {"\x18\0\0\0\xb0\0\0\0\2\0\0\0\0\0\0\0"
         "\1\0\0\0\0\0\0\0"
         "\1\0\0\0"
         "\1\0\0\0"
         "\0\0\0\0\0\0\0\0",
         40}, /* from 1 */
        {"\x18\0\0\0\xb0\0\0\0\2\0\0\0\0\0\0\0"
         "\1\0\0\0\0\0\0\0"
         "\0\0\0\0"
         "\2\0\0\0"
         "\0\0\0\0\0\0\0\0",
         40}, /* two */
        {"\x18\0\0\0\xb0\0\0\0\2\0\0\0\0\0\0\0"
         "\1\0\0\0\0\0\0\0"
         "\0\0\0\0"
         "\0\0\0\0"
         "\0\0\0\0\0\0\0\0",
         40}, /* none */
    };
    struct fake f;
    broker_message m = BROKER_OPTIONS_INIT(broker_message);
    broker_error confirmed = BROKER_INTERNAL;

    fake_open(&f);
    broker *b = client_open(&f, NULL);
    b->options.reconnect_max_ms = 1;
    assert_int_equal(broker_publish_async(b, "q", &m, NULL, on_confirm, &confirmed), BROKER_OK);
    for (size_t i = 0; i < LENGTH(bad); i++) {
        fake_greet(&f, b);
        struct fake_frame frame = fake_expect(&f, b, FRAME_PUBLISH);
        assert_int_equal(frame.head.correlation, 2);
        fake_send_bytes(&f, bad[i].bytes, bad[i].len);
        assert_true(fake_closed(&f, b));
        assert_int_equal(confirmed, BROKER_INTERNAL);
        fake_frame_free(&frame);
    }
    fake_greet(&f, b);
    struct fake_frame frame = fake_expect(&f, b, FRAME_PUBLISH);
    fake_send_bytes(&f, "\0\0\0\0\x70\0\0\0\0\0\0\0\0\0\0\0", 16); /* a one-way frame of a newer broker: skipped */
    fake_answer_publish(&f, &frame, 1);
    while (confirmed == BROKER_INTERNAL)
        fake_turn(&f, b);
    fake_frame_free(&frame);
    broker_close(b);
    fake_close(&f);
}

static void a_frame_too_large(void **state)
{
    struct fake f;
    broker_options o = BROKER_OPTIONS_INIT(broker_options);

    fake_open(&f);
    o.max_message_bytes = 1 << 20;
    broker *b = client_open(&f, &o);
    fake_greet(&f, b);
    fake_send_bytes(&f, "\0\0\0\x10\x43\0\0\0\0\0\0\0\1\0\0\0", 16); /* 256 MiB */
    while (broker_process(b, 0) == BROKER_OK)
        fake_turn(&f, b);
    assert_int_equal(broker_connect(b),
                     BROKER_TOO_LARGE); /* it would come again: final, and the text says what to raise */
    assert_non_null(strstr(broker_error_text(b), "max_message_bytes"));
    assert_true(b->receive_cap <= RECEIVE_BYTES);
    broker_close(b);
    fake_close(&f);
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void on_message(void *arg, broker_subscription *s, const broker_msg *m)
{
    size_t len;
    const char *value = broker_msg_header(m, "name", &len);
    const uint8_t *body = broker_msg_body(m, &len);

    if (len > 0 && value)
        assert_true(body[len - 1] + value[0] < 512);
}

/* Frames that are nearly right, with anything in them, to a client that publishes, calls and subscribes. */
static void hostile_frames(void **state)
{
    static const uint8_t types[] = {0x81, 0x82, 0x97, 0xa0, 0xb0, 0xb1, 0x41, 0x42, 0x43, 0x43, 0x43, 0x44, 0xff};
    struct fake f;
    broker_message m = BROKER_OPTIONS_INIT(broker_message);
    uint64_t seed = 2024;
    broker_error confirmed;
    uint8_t bytes[FRAME_HEAD_BYTES + 256];

    fake_open(&f);
    broker *b = client_open(&f, NULL);
    b->options.reconnect_max_ms = 1;
    for (int round = 0; round < 300; round++) {
        fake_greet(&f, b);
        if (!b->subscriptions) { /* as if SUBSCRIBE had been answered */
            broker_subscription *s = calloc(1, sizeof(*s));
            STAILQ_INIT(&s->inbox);
            s->b = b;
            s->id = 1;
            s->queue = strdup("q");
            s->group = strdup("default");
            s->on_message = on_message;
            s->ack = BROKER_ACK_AUTO;
            s->credit_messages = 100;
            s->credit_bytes = 1 << 20;
            s->msg.subscription = s;
            HASH_ADD_INT(b->subscriptions, id, s);
        }
        b->subscriptions->state = SUBSCRIPTION_ACTIVE;
        b->subscriptions->granted_messages = 1000;
        broker_publish_async(b, "q", &m, NULL, on_confirm, &confirmed);
        broker_process(b, 0);
        for (int i = 0; i < 20; i++) {
            size_t len = next_random(&seed) % 200;
            struct frame_head head = {.length = (uint32_t)len,
                                      .type = types[next_random(&seed) % sizeof(types)],
                                      .correlation = next_random(&seed) % 2 ? b->last_correlation : 0,
                                      .stream = next_random(&seed) % 4 != 0};
            frame_head_put(bytes, &head);
            for (size_t at = 0; at < len; at++)
                bytes[FRAME_HEAD_BYTES + at] =
                    next_random(&seed) % 3 ? (uint8_t)(next_random(&seed) % 4) : (uint8_t)next_random(&seed);
            if (head.type == FRAME_DELIVER && len > 100) { /* a record that is nearly one */
                memset(bytes + FRAME_HEAD_BYTES, 0, 20);
                bytes[FRAME_HEAD_BYTES] = 1;
                put_u32(bytes + FRAME_HEAD_BYTES + 16, (uint32_t)(len - 16));
                bytes[FRAME_HEAD_BYTES + 24] = RECORD_MESSAGE;
                bytes[FRAME_HEAD_BYTES + 25] &= 7;
                put_u16(bytes + FRAME_HEAD_BYTES + 50, 0);
            }
            if (send(f.conn, bytes, FRAME_HEAD_BYTES + len, MSG_NOSIGNAL) < 0)
                break;
            broker_process(b, 0);
        }
        if (b->state == CONN_DEAD) { /* an ERROR that is final, by chance */
            broker_close(b);
            b = client_open(&f, NULL);
            b->options.reconnect_max_ms = 1;
        }
        fake_drop(&f);
        while (broker_is_connected(b))
            broker_process(b, 0);
    }
    broker_close(b);
    fake_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(urls),
        cmocka_unit_test(options_out_of_range),
        cmocka_unit_test(nobody_listens),
        cmocka_unit_test(a_unix_socket),
        cmocka_unit_test(a_silent_listener),
        cmocka_unit_test(refused_for_good),
        cmocka_unit_test(no_reconnect_is_final),
        cmocka_unit_test(byte_by_byte),
        cmocka_unit_test(heartbeats),
        cmocka_unit_test(goaway),
        cmocka_unit_test(malformed_frames),
        cmocka_unit_test(a_frame_too_large),
        cmocka_unit_test(hostile_frames),
    };
    unsetenv("BROKER_URL");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
