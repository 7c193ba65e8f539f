/* What happens when memory runs out at any point. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "fake_broker.h"

static struct fake f;

/* ---- allocations that fail: the linker sends the client's to these (--wrap) ------------------------------------------ */

static _Thread_local long allocations_left = -1; /* -1: no limit. Of this thread: the fake broker's do not fail */

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);

static bool may_allocate(void)
{
    if (allocations_left < 0)
        return true;
    if (allocations_left == 0)
        return false;
    allocations_left--;
    return true;
}

void *__wrap_malloc(size_t n)
{
    return may_allocate() ? __real_malloc(n) : NULL;
}

void *__wrap_calloc(size_t n, size_t size)
{
    return may_allocate() ? __real_calloc(n, size) : NULL;
}

void *__wrap_realloc(void *p, size_t n)
{
    return may_allocate() ? __real_realloc(p, n) : NULL;
}

/* ---- publishing and consuming -------------------------------------------------------------------------------------------- */

struct counts {
    int confirmed, refused, messages;
};

static void on_confirm(void *arg, broker_error error, const broker_publish_result *result)
{
    struct counts *c = arg;

    if (error == BROKER_OK)
        c->confirmed++;
    else
        c->refused++;
}

static void on_message(void *arg, broker_subscription *s, const broker_msg *m)
{
    struct counts *c = arg;
    c->messages++;
}

/* ---- a broker that answers whatever comes ----------------------------------------------------------------------------- */

static void pack_describe(msgpack_packer *pk)
{
    broker_header header = {.name = "x", .value = "1"};
    broker_filter filter = {.topic = "a.>", .headers = &header, .header_count = 1};

    msgpack_pack_map(pk, 2);
    pack_str(pk, "queue", 5);
    msgpack_pack_map(pk, 1);
    pack_key_str(pk, "name", "q", 1);
    pack_str(pk, "groups", 6);
    msgpack_pack_array(pk, 1);
    msgpack_pack_map(pk, 2);
    pack_key_str(pk, "name", "g", 1);
    filter_pack(pk, &filter);
}

static void pack_files(msgpack_packer *pk)
{
    msgpack_pack_map(pk, 1);
    pack_str(pk, "files", 5);
    msgpack_pack_array(pk, 2);
    for (int i = 0; i < 2; i++) {
        msgpack_pack_map(pk, 3);
        pack_key_str(pk, "name", i ? "a" : "b", 1);
        pack_key_u64(pk, "size", 8);
        pack_key_u64(pk, "data_end", 4);
    }
}

static _Atomic uint64_t last_number; /* of the messages that came in transactions */

static void answer_transact(struct fake *fake, const struct fake_frame *frame)
{
    const uint8_t *part = frame->body, *record = part + TRANSACT_PART_BYTES + pad8(get_u16(part + 2));
    uint8_t seqs[8] = {0};
    struct record_view v;

    if (record_view_get(record, get_u32(part + 4), &v) != BROKER_OK || v.number <= last_number)
        abort(); /* no cmocka in this thread */
    last_number = v.number;
    fake_send(fake, FRAME_TRANSACT | FRAME_RESPONSE, frame->head.correlation, 0, seqs, sizeof(seqs));
}

/* False: a frame of another kind. */
static bool answer_call(struct fake *fake, const struct fake_frame *frame)
{
    static const uint8_t zeros[PEEK_HEAD_BYTES];
    uint8_t type = frame->head.type;
    msgpack_sbuffer sb;
    msgpack_packer pk;

    msgpack_sbuffer_init(&sb);
    msgpack_packer_init(&pk, &sb, msgpack_sbuffer_write);
    if (type == FRAME_TRANSACT)
        answer_transact(fake, frame);
    else if (type == FRAME_PEEK)
        fake_send(fake, type | FRAME_RESPONSE, frame->head.correlation, 0, zeros, sizeof(zeros));
    else if (type == FRAME_BACKUP_READ)
        fake_send(fake, type | FRAME_RESPONSE, frame->head.correlation, 0, zeros, 4);
    else if (type == FRAME_QUEUE_DESCRIBE)
        pack_describe(&pk);
    else if (type == FRAME_BACKUP_BEGIN)
        pack_files(&pk);
    else
        return false;
    if (sb.size > 0)
        fake_send(fake, type | FRAME_RESPONSE, frame->head.correlation, 0, sb.data, sb.size);
    msgpack_sbuffer_destroy(&sb);
    return true;
}

/* Answers whatever comes, on as many connections as the client makes, until one says UNSUBSCRIBE. */
static void answer_everything(struct fake *fake)
{
    for (bool over = false; !over;) {
        struct frame_head head;
        fake_accept(fake, NULL);
        uint8_t preamble[WIRE_PREAMBLE_BYTES], bytes[FRAME_HEAD_BYTES];
        if (recv(fake->conn, preamble, sizeof(preamble), MSG_WAITALL) != (ssize_t)sizeof(preamble))
            continue;
        while (!over && recv(fake->conn, bytes, sizeof(bytes), MSG_WAITALL) == (ssize_t)sizeof(bytes)) {
            frame_head_get(bytes, &head);
            struct fake_frame frame = {.head = head, .body = __real_malloc(head.length + 1u)};
            if (head.length > 0 && recv(fake->conn, frame.body, head.length, MSG_WAITALL) != (ssize_t)head.length) {
                fake_frame_free(&frame);
                break;
            }
            if (head.type == FRAME_HELLO)
                fake_send_hello(fake, head.correlation);
            else if (head.type == FRAME_PUBLISH)
                fake_answer_publish(fake, &frame, 1);
            else if (answer_call(fake, &frame))
                ;
            else if (head.type == FRAME_ACK)
                fake_answer_settle(fake, &frame, 1, 0);
            else if (head.type == FRAME_CREDIT)
                fake_deliver(fake, head.stream, 100, 1, 3);
            else if (head.type != FRAME_HEARTBEAT)
                fake_answer_empty(fake, &frame);
            over = head.type == FRAME_UNSUBSCRIBE;
            fake_frame_free(&frame);
        }
    }
}

/* The k-th allocation and all after it fail, for every k: each call says so or succeeds, each callback comes once, nothing
   leaks (AddressSanitizer looks), and with memory again everything goes on. */
static void memory_runs_out(void **state)
{
    broker_options o = BROKER_OPTIONS_INIT(broker_options);
    broker_header header = {.name = "name", .value = "value"};
    char key[3000];
    bool all_went_well = false;

    memset(key, 'k', sizeof(key));
    for (long k = 0; !all_went_well; k++) {
        struct counts c = {0};
        int accepted = 0;
        broker *b = NULL;
        broker_subscription *s = NULL;
        broker_message m = {
            .size = sizeof(m), .key = key, .key_len = sizeof(key), .headers = &header, .header_count = 1};
        assert_true(k < 1000);
        fake_open(&f);
        fake_start(&f, answer_everything);
        o.url = f.url;
        o.timeout_ms = 300;
        o.reconnect_max_ms = 1;

        allocations_left = k;
        if (broker_open(&b, &o) != BROKER_OK) {
            assert_null(b);
            allocations_left = -1;
            assert_int_equal(broker_open(&b, &o), BROKER_OK);
            allocations_left = 0;
        }
        for (int i = 0; i < 20; i++) {
            broker_error error = broker_publish_async(b, i % 2 ? "a" : "b", &m, NULL, on_confirm, &c);
            assert_true(error == BROKER_OK || error == BROKER_NO_MEMORY);
            accepted += error == BROKER_OK;
        }
        for (int i = 0; i < 30; i++)
            broker_wait(b, 1);
        broker_error error = broker_subscribe(b, "a", NULL, on_message, NULL, &c, &s);
        all_went_well = allocations_left > 0 && error == BROKER_OK && accepted == 20;

        allocations_left = -1;
        b->options.timeout_ms = 10000;
        if (!s)
            assert_int_equal(broker_subscribe(b, "a", NULL, on_message, NULL, &c, &s), BROKER_OK);
        assert_int_equal(broker_publish(b, "a", &m, NULL, NULL), BROKER_OK);
        assert_int_equal(broker_flush(b), BROKER_OK);
        while (c.messages < 3)
            assert_int_equal(broker_wait(b, 10000), BROKER_OK);
        assert_int_equal(c.confirmed, accepted);
        assert_int_equal(c.refused, 0);
        assert_int_equal(broker_unsubscribe(s), BROKER_OK);
        broker_close(b);
        fake_join(&f);
        fake_close(&f);
    }
}

/* ---- calls ----------------------------------------------------------------------------------------------------------------- */

static char directory[64];

static broker_error do_transact(broker *b)
{
    broker_message m = {.size = sizeof(m), .body = "x", .body_len = 1};
    broker_msg received = {.receipt = 5, .attempt = 1};
    broker_transaction *t;
    uint64_t seq;

    broker_error error = broker_transaction_begin(b, &t);
    if (error != BROKER_OK)
        return error;
    error = broker_transaction_publish(t, "q", &m);
    if (error == BROKER_OK)
        error = broker_transaction_ack(t, &received);
    if (error == BROKER_OK)
        return broker_transaction_commit(t, NULL, &seq);
    broker_transaction_abort(t);
    return error;
}

static broker_error do_describe(broker *b)
{
    return broker_queue_describe(b, "q", NULL, NULL, NULL);
}

static broker_error do_create(broker *b)
{
    static const broker_queue_settings s = {.size = sizeof(s), .set = BROKER_SET_TTL_MS, .ttl_ms = 1};
    return broker_queue_create(b, "q", &s);
}

static broker_error do_group(broker *b)
{
    static const broker_group_settings s = {.size = sizeof(s), .set = BROKER_GROUP_SET_FILTER, .filter.topic = "a"};
    return broker_group_create(b, "q", "g", BROKER_START_END, 0, &s);
}

static broker_error do_bind(broker *b)
{
    return broker_bind(b, "q", "a.>");
}

static broker_error do_peek(broker *b)
{
    return broker_peek(b, "q", NULL, NULL, NULL, NULL);
}

static broker_error do_scan(broker *b)
{
    return broker_scan(b, "q", BROKER_SCAN_COUNT, NULL, NULL, NULL, NULL);
}

static broker_error do_backup(broker *b)
{
    return broker_backup(b, directory, NULL, NULL);
}

/* The k-th allocation of each call and all after it fail: the call says so, nothing leaks, and the next one goes well. */
static void memory_runs_out_in_calls(void **state)
{
    static broker_error (*const calls[])(broker *) = {do_transact, do_describe, do_create, do_group,
                                                      do_bind,     do_peek,     do_scan,   do_backup};
    char name[80];
    broker_subscription *s;

    fake_open(&f);
    fake_start(&f, answer_everything);
    snprintf(directory, sizeof(directory), "/tmp/memory_test.%d", (int)getpid());
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        broker_error error = BROKER_NO_MEMORY;
        long k = 0;
        for (; error != BROKER_OK; k++) {
            assert_true(k < 100);
            broker *b = client_open(&f, NULL); /* a new handle has no memory left from the call before */
            assert_int_equal(broker_connect(b), BROKER_OK);
            last_number = 0;
            allocations_left = k;
            error = calls[i](b);
            allocations_left = -1;
            assert_true(error == BROKER_OK || error == BROKER_NO_MEMORY);
            if (error != BROKER_OK)
                assert_string_equal(broker_error_text(b), "out of memory");
            if (calls[i] == do_backup && error == BROKER_OK) {
                for (int file = 0; file < 2; file++) {
                    snprintf(name, sizeof(name), "%s/%c", directory, 'a' + file);
                    assert_int_equal(unlink(name), 0);
                }
                assert_int_equal(rmdir(directory), 0);
            }
            assert_int_equal(access(directory, F_OK), -1);
            assert_int_equal(do_transact(b), BROKER_OK);
            broker_close(b);
        }
        assert_true(k > 1); /* something was allocated at all */
    }
    broker *b = client_open(&f, NULL);
    assert_int_equal(broker_subscribe(b, "q", NULL, NULL, NULL, NULL, &s), BROKER_OK);
    assert_int_equal(broker_unsubscribe(s), BROKER_OK); /* ends the broker's script */
    fake_join(&f);
    broker_close(b);
    fake_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_runs_out),
        cmocka_unit_test(memory_runs_out_in_calls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
