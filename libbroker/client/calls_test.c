/* Calls that wait for one answer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "fake_broker.h"

static struct fake f;

/* ---- administration ----------------------------------------------------------------------------------------------------- */

static void pack_queue(msgpack_packer *pk, const char *name, const char *sync)
{
    msgpack_pack_map(pk, 8);
    pack_key_str(pk, "name", name, strlen(name));
    pack_key_u64(pk, "id", 9);
    pack_key_str(pk, "retention", "log", 3);
    pack_key_str(pk, "sync", sync, strlen(sync));
    pack_key_u64(pk, "lease_ms", 1234);
    pack_key_bool(pk, "paused", true);
    pack_key_u64(pk, "last_seq", 1ull << 40);
    pack_key_str(pk, "of a newer broker", "x", 1);
}

static void answer_sbuffer(const struct fake_frame *frame, msgpack_sbuffer *sb)
{
    fake_send(&f, frame->head.type | FRAME_RESPONSE, frame->head.correlation, 0, sb->data, sb->size);
    msgpack_sbuffer_clear(sb);
}

static void answer_list(msgpack_packer *pk, msgpack_sbuffer *sb, const char *after, const char *a, const char *b,
                        bool more)
{
    struct fake_frame frame = fake_expect(&f, NULL, FRAME_QUEUE_LIST);
    struct wire_map map;
    const char *text = "";
    size_t len = 0;

    assert_int_equal(wire_map_open(&map, frame.body, frame.head.length), BROKER_OK);
    assert_true(wire_map_str(&map, "after", 255, &text, &len));
    assert_int_equal(len, strlen(after));
    assert_memory_equal(text, after, len);
    wire_map_close(&map);
    msgpack_pack_map(pk, 2);
    pack_str(pk, "queues", 6);
    msgpack_pack_array(pk, 2);
    pack_queue(pk, a, "none");
    pack_queue(pk, b, "of a newer broker");
    pack_key_bool(pk, "more", more);
    answer_sbuffer(&frame, sb);
    fake_frame_free(&frame);
}

static void script_admin(struct fake *fake)
{
    msgpack_sbuffer sb;
    msgpack_packer pk;

    msgpack_sbuffer_init(&sb);
    msgpack_packer_init(&pk, &sb, msgpack_sbuffer_write);
    fake_greet(fake, NULL);
    answer_list(&pk, &sb, "", "a", "b", true);
    answer_list(&pk, &sb, "b", "c", "d", false);
    answer_list(&pk, &sb, "", "b", "a", true); /* goes round in circles */

    struct fake_frame frame = fake_expect(fake, NULL, FRAME_QUEUE_DESCRIBE);
    msgpack_pack_map(&pk, 2);
    pack_str(&pk, "queue", 5);
    pack_queue(&pk, "a", "interval");
    pack_str(&pk, "groups", 6);
    msgpack_pack_array(&pk, 1);
    msgpack_pack_map(&pk, 2);
    pack_key_str(&pk, "name", "default", 7);
    pack_key_u64(&pk, "floor_seq", 17);
    answer_sbuffer(&frame, &sb);
    fake_frame_free(&frame);

    frame = fake_expect(fake, NULL, FRAME_QUEUE_PURGE);
    msgpack_pack_map(&pk, 1);
    pack_key_u64(&pk, "purged", 5);
    answer_sbuffer(&frame, &sb);
    fake_frame_free(&frame);

    frame = fake_expect(fake, NULL, FRAME_STATS);
    msgpack_pack_map(&pk, 2);
    pack_key_u64(&pk, "syncs", 3);
    pack_key_str(&pk, "version", "9.9", 3);
    answer_sbuffer(&frame, &sb);
    fake_frame_free(&frame);
    frame = fake_expect(fake, NULL, FRAME_STATS);
    msgpack_pack_map(&pk, 1);
    pack_key_str(&pk, "syncs", "many", 4);
    answer_sbuffer(&frame, &sb);
    fake_frame_free(&frame);

    frame = fake_expect(fake, NULL, FRAME_QUEUE_CREATE);
    static const uint8_t create[] = {0x83, 0xa5, 'q', 'u',  'e', 'u', 'e', 0xa1, 'a', 0xa4, 's',
                                     'y',  'n',  'c', 0xa8, 'i', 'n', 't', 'e',  'r', 'v',  'a',
                                     'l',  0xa8, 'l', 'e',  'a', 's', 'e', '_',  'm', 's',  5};
    assert_int_equal(frame.head.length, sizeof(create));
    assert_memory_equal(frame.body, create, sizeof(create));
    fake_answer_empty(fake, &frame);
    fake_frame_free(&frame);
    frame = fake_expect(fake, NULL, FRAME_GROUP_SEEK);
    fake_send_error(fake, frame.head.correlation, BROKER_GROUP_NOT_FOUND, "no group \"g\"", "request");
    fake_frame_free(&frame);
    frame = fake_expect(fake, NULL, FRAME_QUEUE_DELETE);
    fake_frame_free(&frame);
    fake_drop(fake);
    msgpack_sbuffer_destroy(&sb);
}

struct listed {
    int count;
    char names[8];
    broker_queue_info last;
    uint64_t floor_seq;
};

static bool on_queue(void *arg, const broker_queue_info *q)
{
    struct listed *l = arg;

    if (l->count < 8)
        l->names[l->count++] = q->name[0];
    l->last = *q;
    return true;
}

static bool on_group(void *arg, const broker_group_info *g)
{
    struct listed *l = arg;

    assert_string_equal(g->queue, "a");
    assert_string_equal(g->name, "default");
    l->floor_seq = g->floor_seq;
    return true;
}

static void administration(void **state)
{
    struct listed l = {0};
    broker_stats stats = BROKER_OPTIONS_INIT(broker_stats);
    broker_queue_settings settings = BROKER_OPTIONS_INIT(broker_queue_settings);
    uint64_t purged = 0;

    fake_open(&f);
    broker *b = client_open(&f, NULL);
    fake_start(&f, script_admin);
    assert_int_equal(broker_queue_list(b, NULL, on_queue, &l), BROKER_OK);
    assert_int_equal(l.count, 4);
    assert_memory_equal(l.names, "abcd", 4);
    assert_int_equal(l.last.settings.retention, BROKER_RETENTION_LOG);
    assert_int_equal(l.last.settings.sync, 0); /* a word this library does not know */
    assert_int_equal(l.last.settings.set,
                     BROKER_SET_RETENTION | BROKER_SET_SYNC | BROKER_SET_LEASE_MS); /* what was told */
    assert_null(l.last.settings.dead_letter);
    assert_int_equal(l.last.last_seq, 1ull << 40);
    assert_true(l.last.paused);
    assert_int_equal(broker_queue_list(b, NULL, on_queue, &l), BROKER_MALFORMED);
    assert_int_equal(broker_queue_describe(b, "a", on_queue, on_group, &l), BROKER_OK);
    assert_int_equal(l.last.settings.sync, BROKER_SYNC_INTERVAL);
    assert_int_equal(l.floor_seq, 17);
    assert_int_equal(broker_queue_purge(b, "a", &purged), BROKER_OK);
    assert_int_equal(purged, 5);
    assert_int_equal(broker_get_stats(b, &stats), BROKER_OK);
    assert_int_equal(stats.syncs, 3);
    assert_string_equal(stats.version, "9.9");
    assert_int_equal(broker_get_stats(b, &stats), BROKER_MALFORMED);
    settings.set = BROKER_SET_SYNC | BROKER_SET_LEASE_MS;
    settings.sync = BROKER_SYNC_INTERVAL;
    settings.lease_ms = 5;
    assert_int_equal(broker_queue_create(b, "a", &settings), BROKER_OK);
    settings.lease_ms = 0;
    assert_int_equal(broker_queue_create(b, "a", &settings), BROKER_INVALID_ARGUMENT);
    assert_int_equal(broker_queue_pause(b, "no/name"), BROKER_INVALID_ARGUMENT);
    assert_int_equal(broker_group_seek(b, "a", "g", BROKER_START_END, 0), BROKER_GROUP_NOT_FOUND);
    assert_string_equal(broker_error_text(b), "no group \"g\"");
    assert_int_equal(broker_group_seek(b, "a", "g", (broker_start)7, 0), BROKER_INVALID_ARGUMENT);
    assert_int_equal(broker_queue_delete(b, "a"), BROKER_CONNECTION_LOST);
    assert_non_null(strstr(broker_error_text(b), "QUEUE_DELETE"));
    fake_join(&f);
    broker_close(b);
    fake_close(&f);
}

/* ---- a publish that waits ----------------------------------------------------------------------------------------------- */

static void script_overloaded(struct fake *fake)
{
    uint8_t bytes[PUBLISH_RANGE_BYTES];
    const struct publish_range busy = {.count = 1, .code = BROKER_OVERLOADED, .retry_ms = 20};
    uint64_t number;

    fake_greet(fake, NULL);
    for (uint64_t i = 1; i <= 3; i++) {
        struct fake_frame frame = fake_expect(fake, NULL, FRAME_PUBLISH);
        fake_publish_records(&frame, &number, NULL);
        assert_int_equal(number, i); /* a refused number is not used again */
        if (i < 3) {
            publish_range_put(bytes, &busy);
            fake_send(fake, FRAME_PUBLISH | FRAME_RESPONSE, frame.head.correlation, 0, bytes, sizeof(bytes));
        } else {
            fake_answer_publish(fake, &frame, 42);
        }
        fake_frame_free(&frame);
    }
    struct fake_frame frame = fake_expect(fake, NULL, FRAME_PUBLISH); /* never answered */
    fake_frame_free(&frame);
}

static void a_publish_that_waits(void **state)
{
    broker_message m = BROKER_OPTIONS_INIT(broker_message);
    broker_publish_result result = {0};

    fake_open(&f);
    broker *b = client_open(&f, NULL);
    fake_start(&f, script_overloaded);
    assert_int_equal(broker_publish(b, "q", &m, NULL, &result), BROKER_OK);
    assert_int_equal(result.seq, 42);
    b->options.timeout_ms = 100;
    assert_int_equal(broker_publish(b, "q", &m, NULL, &result), BROKER_TIMEOUT);
    assert_non_null(strstr(broker_error_text(b), "may yet be stored"));
    assert_int_equal(broker_outbox(b), 1);
    assert_int_equal(broker_flush(b), BROKER_TIMEOUT);
    fake_join(&f);
    broker_close(b);
    fake_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(administration),
        cmocka_unit_test(a_publish_that_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
