/* Several records at once, all or nothing, and messages that lie in several queues. */
#include "test/rig.h"

static void publish_routed_many(struct rig *r, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        assert_int_equal(rig_publish_routed(r, 1, 2, 3), BROKER_OK);
        if (i % 16 == 15)
            rig_step(r);
    }
    rig_step(r);
}

static void usage_is(struct rig *r, uint32_t queue, uint64_t expected)
{
    uint64_t messages, bytes, oldest;
    store_engine_ops.usage(r->store, queue, &messages, &bytes, &oldest);
    assert_int_equal(messages, expected);
}

static void all_are_in_one_batch(void **state)
{
    struct rig r;
    struct batch_head head;
    rig_init(&r, NULL);
    rig_must_open(&r);
    const struct rig_item items[] = {{1, {1}, 100, 0, 0}, {2, {2, 3}, 10, 0, 0}, {1, {1}, 0, 0, 0}, {1, {1}, 0, 1, 1}};
    assert_int_equal(rig_all(&r, items, 4), BROKER_OK);
    rig_idle(&r);
    rig_check_all(&r);
    usage_is(&r, 1, 1);
    usage_is(&r, 2, 1);
    usage_is(&r, 3, 1);
    struct test_file *f = test_disk_find(r.disk, "segment-0000000001.log");
    assert_true(batch_head_get(f->bytes + SEGMENT_DATA_START + BATCH_HEAD_BYTES, 1, &head));
    assert_int_equal(head.count, 5);
    rig_drop(&r);
    rig_must_open(&r);
    rig_check_all(&r);
    usage_is(&r, 3, 1);
    rig_release(&r);
}

/* Whatever the filling batch holds already, what is appended at once is not torn apart between two. */
static void no_batch_boundary_within(void **state)
{
    struct rig r;
    rig_init(&r, NULL);
    r.options.segment_bytes = 16 << 10;
    rig_must_open(&r);
    for (uint64_t i = 0; i < 300; i++) {
        struct rig_item items[10];
        struct store_stats before, after;
        for (uint32_t k = 0; k < 10; k++)
            items[k] = (struct rig_item){1, {k % 3}, (size_t)(rig_random(&r) % 300), 0, 0};
        if (rig_random(&r) % 3)
            rig_publish(&r, 1);
        broker_error error = rig_all(&r, items, 10);
        store_engine_ops.stats(r.store, &before);
        assert_int_equal(error, BROKER_OK);
        store_flush(r.store, r.now);
        store_engine_ops.stats(r.store, &after);
        assert_int_equal(after.log_index, before.log_index + 1);
        rig_settle(&r, 0, 1, r.engine->queues[0].next - 1);
        rig_settle(&r, 1, 1, r.engine->queues[1].next - 1);
        rig_step(&r);
    }
    rig_check_all(&r);
    rig_release(&r);
}

static void too_much_is_refused(void **state)
{
    struct rig r;
    struct rig_item items[8];
    rig_init(&r, NULL); /* segments of 64 KiB */
    rig_must_open(&r);
    for (int i = 0; i < 8; i++)
        items[i] = (struct rig_item){1, {1}, 10000, 0, 0};
    assert_int_equal(rig_all(&r, items, 8), BROKER_TOO_LARGE);
    usage_is(&r, 1, 0);
    assert_int_equal(rig_all(&r, items, 5), BROKER_OK);
    usage_is(&r, 1, 5);
    rig_idle(&r);
    rig_check_all(&r);
    rig_release(&r);
}

/* On a full disk acks go on; acks together with a message do not, not even in part. */
static void full_disk_refuses_all_or_none(void **state)
{
    struct rig r;
    rig_init(&r, NULL);
    r.options.max_disk_bytes = 256 << 10;
    rig_must_open(&r);
    broker_error error = BROKER_OK;
    for (int i = 0; i < 1000 && !error; i++) {
        error = rig_publish_sized(&r, 1, 2000);
        rig_step(&r);
    }
    assert_int_equal(error, BROKER_DISK_FULL);
    uint64_t next = r.engine->queues[1].next;
    const struct rig_item items[] = {{1, {1}, 0, 1, 3}, {1, {2}, 10, 0, 0}};
    assert_int_equal(rig_all(&r, items, 2), BROKER_DISK_FULL);
    assert_true(test_engine_live(r.engine, 1, 1));
    usage_is(&r, 1, next - 1);
    usage_is(&r, 2, 0);
    assert_int_equal(rig_all(&r, items, 1), BROKER_OK);
    usage_is(&r, 1, next - 4);
    rig_release(&r);
}

/* Each allocation on the way fails in turn: nothing is left behind, and the same again succeeds. */
static void failed_allocation_leaves_nothing(void **state)
{
    for (uint64_t n = 1;; n++) {
        struct rig r;
        rig_init(&r, NULL);
        rig_must_open(&r);
        rig_publish(&r, 1);
        rig_publish(&r, 2);
        rig_settle(&r, 2, 1, 1); /* an empty run */
        struct rig_item items[12];
        for (uint32_t i = 0; i < 12; i++)
            items[i] = (struct rig_item){3, {1 + i % 3, 10 + i, 30}, 500, 0, 0};
        uint64_t messages[TEST_QUEUES], bytes[TEST_QUEUES], m, b, oldest;
        for (uint32_t q = 0; q < TEST_QUEUES; q++)
            store_engine_ops.usage(r.store, q, &messages[q], &bytes[q], &oldest);
        test_alloc_calls = 0;
        test_alloc_fail_at = n;
        broker_error error = rig_all(&r, items, 12);
        test_alloc_fail_at = 0;
        for (uint32_t q = 0; q < TEST_QUEUES && error; q++) {
            store_engine_ops.usage(r.store, q, &m, &b, &oldest);
            assert_int_equal(m, messages[q]);
            assert_int_equal(b, bytes[q]);
        }
        if (error) {
            assert_int_equal(error, BROKER_NO_MEMORY);
            rig_check_all(&r);
            if (n % 2)
                rig_publish_many(&r, 30, 3);
            assert_int_equal(rig_all(&r, items, 12), BROKER_OK);
        }
        rig_idle(&r);
        rig_check_all(&r);
        rig_publish_many(&r, 1, 400); /* sealed, with a footer */
        rig_close(&r);
        rig_must_open(&r);
        assert_int_equal(r.problems, 0);
        rig_check_all(&r);
        rig_release(&r);
        if (!error) {
            assert_true(n > 20);
            break;
        }
    }
}

/* From the tail cache, from disk, from sealed segments, after a start, and when other places of the same messages are gone. */
static void routed_messages_are_in_all_their_queues(void **state)
{
    struct rig r;
    rig_init(&r, NULL);
    r.options.segment_bytes = 16 << 10;
    rig_must_open(&r);
    publish_routed_many(&r, 10);
    assert_int_equal(rig_read(&r, 3, 1, 10, NULL), 10);
    publish_routed_many(&r, 500);
    rig_publish_many(&r, 2, 5); /* seqs differ from here on */
    publish_routed_many(&r, 100);
    rig_check_all(&r);
    rig_settle(&r, 1, 1, 600);
    rig_check_all(&r);
    usage_is(&r, 1, 10);
    usage_is(&r, 2, 615);
    rig_checkpoint(&r);
    rig_drop(&r);
    rig_must_open(&r);
    rig_check_all(&r);
    usage_is(&r, 1, 10);
    usage_is(&r, 2, 615);
    usage_is(&r, 3, 610);
    rig_release(&r);
}

static int count_files(const struct rig *r, const char *prefix)
{
    int n = 0;
    for (int i = 0; i < TEST_FILES_MAX; i++)
        n += r->disk->files[i].used && !strncmp(r->disk->files[i].name, prefix, strlen(prefix));
    return n;
}

/* A segment is dead when no place in it is wanted, and not before. */
static void last_place_frees_the_segment(void **state)
{
    struct rig r;
    struct store_stats stats;
    rig_init(&r, NULL);
    r.options.segment_bytes = 16 << 10;
    r.options.spare_bytes = 16 << 10;
    rig_must_open(&r);
    publish_routed_many(&r, 600);
    rig_settle(&r, 1, 1, 600);
    rig_settle(&r, 2, 1, 600);
    rig_wait(&r, 6000);
    store_engine_ops.stats(r.store, &stats);
    assert_true(stats.segments > 5);
    rig_check_all(&r);
    rig_settle(&r, 3, 1, 600);
    rig_wait(&r, 8000);
    store_engine_ops.stats(r.store, &stats);
    assert_true(stats.segments <= 3);
    rig_release(&r);
}

/* Cleaned, each place that is still wanted is a message of its own. */
static void cleaner_moves_each_place(void **state)
{
    struct rig r;
    rig_init(&r, NULL);
    r.options.segment_bytes = 32 << 10;
    rig_must_open(&r);
    publish_routed_many(&r, 800);
    rig_settle(&r, 1, 1, 790);
    for (uint64_t seq = 1; seq < 790; seq += 20) { /* of every 20, one is left in queue 2, and another in queue 3 */
        rig_settle(&r, 2, seq, seq + 18);
        rig_settle(&r, 3, seq + 1, seq + 19);
    }
    rig_wait(&r, 8000);
    assert_true(count_files(&r, "cold-") > 0);
    rig_check_all(&r);
    rig_close(&r);
    rig_must_open(&r);
    assert_int_equal(r.problems, 0);
    rig_check_all(&r);
    for (int i = 0; i < TEST_FILES_MAX; i++) { /* a look into the cold segments: each record is of the queue it is in */
        const struct test_file *f = &r.disk->files[i];
        uint64_t number;
        struct batch_head head;
        if (!f->used || file_kind_of(f->name, &number) != FILE_COLD)
            continue;
        for (uint64_t at = SEGMENT_DATA_START; batch_head_get(f->bytes + at, (uint32_t)number, &head);
             at += head.length) {
            assert_true(batch_records_ok(f->bytes + at, &head));
            for (uint32_t k = BATCH_HEAD_BYTES; k < head.length; k += record_padded(f->bytes + at + k))
                assert_int_equal(record_type_of(f->bytes + at + k), RECORD_MESSAGE);
        }
    }
    rig_release(&r);
}

/* A damaged footer is made up for by the routes; a damaged message is damaged in each of its queues. */
static void damage_of_routed_messages(void **state)
{
    struct rig r;
    struct segment_trailer trailer;
    rig_init(&r, NULL);
    r.options.segment_bytes = 16 << 10;
    rig_must_open(&r);
    publish_routed_many(&r, 120);
    rig_checkpoint(&r);
    rig_drop(&r);
    struct test_file *f = rig_sealed_segment(&r, &trailer);
    for (uint64_t at = SEGMENT_DATA_START; at < f->size; at += 1 + at % 89) {
        uint64_t damaged[4], n[4];
        bool footer = at >= trailer.data_end;
        f->bytes[at] ^= 4;
        rig_must_open(&r);
        for (uint32_t q = 1; q <= 3; q++) {
            n[q] = rig_read(&r, q, 1, 120, &damaged[q]);
            if (n[q] + damaged[q] != 120 || damaged[q] > !footer || damaged[q] != damaged[1])
                fail_msg("byte %llu, queue %u: %llu read, %llu damaged", (unsigned long long)at, q,
                         (unsigned long long)n[q], (unsigned long long)damaged[q]);
        }
        rig_drop(&r);
        f->bytes[at] ^= 4;
    }
    rig_release(&r);
}

static void route_that_leads_nowhere_is_refused(void **state)
{
    struct rig r;
    uint8_t route[RECORD_HEAD_BYTES + 8 + ROUTE_PLACE_BYTES] = {0}, message[128];
    uint64_t index;
    rig_init(&r, NULL);
    rig_must_open(&r);
    record_head_put(route, &(struct record_head){.length = sizeof route, .type = RECORD_ROUTE});
    put_u32(route + RECORD_HEAD_BYTES, 1);
    put_u32(route + RECORD_HEAD_BYTES + 8, 2);
    put_u64(route + RECORD_HEAD_BYTES + 16, 1);
    uint32_t length = rig_record(message, sizeof message, 1, 1, 0, 10);
    struct append_item items[] = {{message, length}, {route, sizeof route}};
    assert_int_equal(store_engine_ops.append_all(r.store, items, 2, DURABILITY_SYNCED, &index), BROKER_INTERNAL);
    put_u32(route + RECORD_HEAD_BYTES, 2);
    items[0] = (struct append_item){route, sizeof route};
    items[1] = (struct append_item){message, length};
    assert_int_equal(store_engine_ops.append_all(r.store, items, 2, DURABILITY_SYNCED, &index), BROKER_INTERNAL);
    usage_is(&r, 1, 0);
    rig_idle(&r);
    rig_release(&r);
}

/* A start that refuses the log says of each queue what it would lose. */
static void start_names_each_queue(void **state)
{
    struct rig r;
    struct batch_head head;
    rig_init(&r, NULL);
    rig_must_open(&r);
    publish_routed_many(&r, 5);
    rig_publish_many(&r, 2, 5);
    rig_wait(&r, 200);
    rig_drop(&r);
    struct test_file *f = test_disk_find(r.disk, "segment-0000000001.log");
    uint64_t at = SEGMENT_DATA_START;
    while (batch_head_get(f->bytes + at, 1, &head) && head.count == 0)
        at += head.length;
    uint64_t route = at + BATCH_HEAD_BYTES, message = route + record_padded(f->bytes + route);
    for (int i = 0; i < 2; i++) {
        uint8_t *byte = f->bytes + (i ? route + 20 : message + 60);
        *byte ^= 1;
        assert_int_equal(rig_open(&r), BROKER_DAMAGED);
        assert_true(i == 1 || strstr(r.report, "is message 1 of queue 1"));
        assert_non_null(strstr(r.report, "is message 1 of queue 2"));
        assert_non_null(strstr(r.report, "is message 1 of queue 3"));
        rig_drop(&r);
        *byte ^= 1;
    }
    rig_must_open(&r);
    rig_release(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_are_in_one_batch),
        cmocka_unit_test(no_batch_boundary_within),
        cmocka_unit_test(too_much_is_refused),
        cmocka_unit_test(full_disk_refuses_all_or_none),
        cmocka_unit_test(failed_allocation_leaves_nothing),
        cmocka_unit_test(routed_messages_are_in_all_their_queues),
        cmocka_unit_test(last_place_frees_the_segment),
        cmocka_unit_test(cleaner_moves_each_place),
        cmocka_unit_test(damage_of_routed_messages),
        cmocka_unit_test(route_that_leads_nowhere_is_refused),
        cmocka_unit_test(start_names_each_queue),
    };
    return cmocka_run_group_tests_name("store batches", tests, NULL, NULL);
}
