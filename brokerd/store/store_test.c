/* The store in good weather and on a full disk: damage_test.c, crash_test.c and fsck_test.c have the rest. */
#include "test/rig.h"

static void reads_back_what_was_appended(void **state)
{
    struct rig r;
    rig_init(&r, NULL);
    rig_must_open(&r);
    assert_int_equal(r.engine->epoch, 1);
    rig_publish_many(&r, 1, 10);
    rig_publish_many(&r, 2, 5);
    rig_idle(&r);
    assert_int_equal(rig_read(&r, 1, 1, 100, NULL), 10);
    assert_int_equal(rig_read(&r, 1, 3, 5, NULL), 3);
    assert_int_equal(rig_read(&r, 2, 1, UINT64_MAX, NULL), 5);
    assert_int_equal(rig_read(&r, 3, 1, 100, NULL), 0);
    rig_check_all(&r);
    rig_release(&r);
}

static void confirms_nothing_before_the_sync(void **state)
{
    struct rig r;
    uint64_t index;
    uint8_t record[256];
    rig_init(&r, NULL);
    rig_must_open(&r);
    uint32_t length = rig_record(record, sizeof record, 1, 1, 1, 100);
    assert_int_equal(store_engine_ops.append(r.store, record, length, DURABILITY_SYNCED, &index), BROKER_OK);
    rig_turn(&r);
    assert_true(r.engine->durable < index);
    rig_write(&r);
    assert_int_equal(r.engine->durable, index);
    put_u64(record + 16, 2);
    assert_int_equal(store_engine_ops.append(r.store, record, length, DURABILITY_WRITTEN, &index), BROKER_OK);
    rig_turn(&r);
    rig_write(&r);
    assert_int_equal(r.engine->written, index);
    assert_true(r.engine->durable < index);
    rig_wait(&r, 1100); /* the interval sync */
    assert_true(r.engine->durable >= index);
    put_u64(record + 16, 3);
    assert_int_equal(store_engine_ops.append(r.store, record, length, DURABILITY_LAZY, &index), BROKER_OK);
    rig_turn(&r);
    rig_write(&r);
    assert_true(r.engine->written < index);
    rig_wait(&r, 50);
    assert_int_equal(r.engine->written, index);
    rig_release(&r);
}

static void rolls_and_recovers(void **state)
{
    struct rig r;
    struct store_stats stats;
    rig_init(&r, NULL);
    rig_must_open(&r);
    for (int i = 0; i < 40; i++) {
        rig_publish_many(&r, 1, 50);
        rig_publish_many(&r, 2 + i % 7, 3);
        rig_settle(&r, 1, i * 50 + 1, i * 50 + (i % 3 ? 10 : 30));
    }
    rig_idle(&r);
    store_engine_ops.stats(r.store, &stats);
    assert_true(stats.segments >= 5);
    rig_check_all(&r);
    rig_drop(&r);
    rig_must_open(&r); /* after a kill */
    assert_int_equal(r.engine->epoch, 2);
    rig_check_all(&r);
    rig_publish_many(&r, 1, 100);
    rig_check_all(&r);
    rig_close(&r);
    rig_must_open(&r); /* after an orderly end */
    assert_int_equal(r.engine->replayed, 0);
    rig_check_all(&r);
    rig_release(&r);
}

static void frees_what_is_dead(void **state)
{
    struct rig r;
    struct store_stats stats;
    rig_init(&r, NULL);
    rig_must_open(&r);
    for (int i = 0; i < 60; i++) {
        rig_publish_many(&r, 1, 100);
        assert_int_equal(rig_settle(&r, 1, i * 100 + 1, i * 100 + 100), BROKER_OK);
        rig_wait(&r, 100);
    }
    rig_wait(&r, 10000);
    store_engine_ops.stats(r.store, &stats);
    assert_true(stats.segments <= 2);
    assert_true(stats.disk_bytes <= 6 * (64 << 10));
    assert_int_equal(stats.disk_bytes, test_disk_used(r.disk));
    rig_check_all(&r);
    rig_drop(&r);
    rig_must_open(&r);
    rig_check_all(&r);
    rig_release(&r);
}

static void one_old_message_keeps_little(void **state)
{
    struct rig r;
    struct store_stats stats;
    rig_init(&r, NULL);
    rig_must_open(&r);
    rig_publish_many(&r, 1, 10000);
    assert_int_equal(rig_settle(&r, 1, 1, 4), BROKER_OK);
    assert_int_equal(rig_settle(&r, 1, 6, 5003), BROKER_OK);
    assert_int_equal(rig_settle(&r, 1, 5005, 10000), BROKER_OK);
    rig_wait(&r, 20000);
    store_engine_ops.stats(r.store, &stats);
    assert_true(stats.segments <= 3);
    assert_true(stats.disk_bytes <= 6 * (64 << 10));
    rig_check_all(&r);
    rig_drop(&r);
    rig_must_open(&r);
    rig_check_all(&r);
    assert_int_equal(rig_read(&r, 1, 1, 10000, NULL), 2);
    rig_settle(&r, 1, 5, 5);
    rig_wait(&r, 5000);
    rig_check_all(&r);
    rig_release(&r);
}

static void cleans_many_queues(void **state)
{
    struct rig r;
    struct store_stats stats;
    rig_init(&r, NULL);
    rig_must_open(&r);
    for (int i = 0; i < 4000; i++) {
        assert_int_equal(rig_publish(&r, 1 + (uint32_t)rig_random(&r) % 40), BROKER_OK);
        if (i % 10 == 0)
            rig_step(&r);
        if (i % 500 == 0)
            rig_wait(&r, 3000);
        uint32_t q = 1 + (uint32_t)rig_random(&r) % 40;
        uint64_t next = r.engine->queues[q].exists ? r.engine->queues[q].next : 1;
        if (next > 12)
            rig_settle(&r, q, 1 + rig_random(&r) % (next - 11), next - 2);
    }
    rig_wait(&r, 20000);
    rig_check_all(&r);
    store_engine_ops.stats(r.store, &stats);
    assert_true(stats.segments <= 8);
    rig_drop(&r);
    rig_must_open(&r);
    rig_check_all(&r);
    rig_release(&r);
}

static void deleted_queue_is_gone(void **state)
{
    struct rig r;
    uint64_t index;
    uint8_t record[RECORD_HEAD_BYTES] = {0};
    const char *text;
    rig_init(&r, NULL);
    rig_must_open(&r);
    rig_publish_many(&r, 1, 2000);
    rig_publish_many(&r, 2, 5);
    assert_int_equal(rig_read(&r, 1, 1, 500, NULL), 500);
    record_head_put(record, &(struct record_head){.length = sizeof record, .type = RECORD_QUEUE_DELETE, .queue = 1});
    assert_int_equal(store_engine_ops.append(r.store, record, sizeof record, DURABILITY_SYNCED, &index), BROKER_OK);
    engine_replay(r.engine, record, &text);
    assert_int_equal(rig_read(&r, 1, 1, 5000, NULL), 0);
    rig_wait(&r, 5000);
    rig_check_all(&r);
    rig_drop(&r);
    rig_must_open(&r);
    rig_check_all(&r);
    rig_release(&r);
}

static void full_disk_refuses_messages_but_not_settles(void **state)
{
    struct rig r;
    rig_init(&r, NULL);
    r.disk->capacity = 10 * (64 << 10);
    rig_must_open(&r);
    uint64_t n = 0;
    broker_error error;
    while ((error = rig_publish(&r, 1)) == BROKER_OK) {
        if (++n % 16 == 0)
            rig_step(&r);
        assert_true(n < 100000);
    }
    assert_int_equal(error, BROKER_DISK_FULL);
    rig_idle(&r);
    rig_wait(&r, 3000);
    assert_int_equal(rig_publish(&r, 1), BROKER_DISK_FULL);
    rig_check_all(&r);
    for (int start = 0; start < 30; start++) { /* each writes a mark and maybe a checkpoint */
        rig_drop(&r);
        rig_must_open(&r);
        rig_wait(&r, 300);
        if (start % 5 == 0)
            rig_checkpoint(&r);
    }
    rig_check_all(&r);
    for (uint64_t seq = 1; seq <= n; seq++) { /* one by one: the worst for the reserve */
        assert_int_equal(rig_settle(&r, 1, seq, seq), BROKER_OK);
        if (seq % 8 == 0)
            rig_wait(&r, 10);
    }
    rig_wait(&r, 3000);
    assert_int_equal(rig_publish(&r, 1), BROKER_OK);
    rig_step(&r);
    rig_check_all(&r);
    assert_false(r.fatal);
    rig_release(&r);
}

static void max_disk_bytes_is_kept(void **state)
{
    struct rig r;
    rig_init(&r, NULL);
    r.options.max_disk_bytes = 8 * (64 << 10);
    rig_must_open(&r);
    uint64_t n = 0;
    while (rig_publish(&r, 1) == BROKER_OK) {
        if (++n % 16 == 0)
            rig_step(&r);
        assert_true(n < 100000);
    }
    assert_true(test_disk_used(r.disk) <= r.options.max_disk_bytes + 8192); /* checkpoints are small */
    for (uint64_t seq = 1; seq <= n; seq += 10)
        assert_int_equal(rig_settle(&r, 1, seq, seq + 9), BROKER_OK);
    rig_wait(&r, 3000);
    assert_int_equal(rig_publish(&r, 1), BROKER_OK);
    rig_release(&r);
}

static void window_overloads(void **state)
{
    struct rig r;
    rig_init(&r, NULL);
    r.options.window_bytes = 4096;
    rig_must_open(&r);
    broker_error error = BROKER_OK;
    for (int i = 0; i < 100 && !error; i++)
        error = rig_publish_sized(&r, 1, 100);
    assert_int_equal(error, BROKER_OVERLOADED);
    assert_int_equal(rig_settle(&r, 1, 1, 1), BROKER_OK);
    rig_step(&r);
    assert_int_equal(rig_publish_sized(&r, 1, 100), BROKER_OK);
    rig_step(&r);
    assert_int_equal(rig_publish_sized(&r, 1, 20000), BROKER_OK); /* alone it may be larger than the window */
    assert_int_equal(rig_publish_sized(&r, 1, 70000), BROKER_TOO_LARGE);
    rig_release(&r);
}

static void failed_write_is_final(void **state)
{
    struct rig r;
    rig_init(&r, NULL);
    rig_must_open(&r);
    rig_publish_many(&r, 1, 3);
    uint64_t durable = r.engine->durable;
    assert_int_equal(rig_publish(&r, 1), BROKER_OK);
    rig_turn(&r);
    r.disk->fail_at = r.disk->calls + 2; /* the sync */
    r.disk->fail_error = EIO;
    rig_write(&r);
    assert_true(r.fatal);
    assert_int_equal(r.engine->durable, durable);
    assert_int_equal(rig_publish(&r, 1), BROKER_IO);
    rig_turn(&r);
    rig_write(&r);
    assert_int_equal(r.engine->durable, durable);
    rig_release(&r);
}

static void times_and_retention(void **state)
{
    struct rig r;
    rig_init(&r, NULL);
    rig_must_open(&r);
    uint64_t start = r.now.wall.ms;
    for (int i = 0; i < 100; i++) {
        assert_int_equal(rig_publish_sized(&r, 1, 24), BROKER_OK); /* 64 bytes each */
        r.now.wall.ms += 1000;
        rig_step(&r);
    }
    assert_int_equal(store_engine_ops.seq_at_time(r.store, 1, start), 1);
    assert_int_equal(store_engine_ops.seq_at_time(r.store, 1, start + 100 * 1000), UINT64_MAX);
    for (uint64_t seq = 2; seq <= 100; seq++) {
        uint64_t at = store_engine_ops.seq_at_time(r.store, 1, start + (seq - 1) * 1000);
        assert_true(at <= seq && at + 4 > seq); /* never too late */
    }
    assert_int_equal(store_engine_ops.trim_point(r.store, 1, 0, 0, 0), 0);
    assert_int_equal(store_engine_ops.trim_point(r.store, 1, 0, 0, 100), 0);
    assert_int_equal(store_engine_ops.trim_point(r.store, 1, 0, 0, 93), 7);
    assert_int_equal(store_engine_ops.trim_point(r.store, 1, 0, 64 * 90, 93), 10);
    assert_int_equal(store_engine_ops.trim_point(r.store, 1, 0, 64 * 90 + 1, 0), 9);
    assert_int_equal(store_engine_ops.trim_point(r.store, 1, start, 0, 0), 0);
    uint64_t trim = store_engine_ops.trim_point(r.store, 1, start + 50 * 1000, 0, 0);
    assert_true(trim <= 50 && trim >= 46);
    test_engine_settle(r.engine, 1, 1, 7);
    assert_int_equal(store_engine_ops.trim_point(r.store, 1, 0, 0, 93), 0);
    assert_int_equal(store_engine_ops.trim_point(r.store, 1, 0, 0, 92), 8);
    uint64_t messages, bytes, oldest;
    test_engine_settle(r.engine, 1, 9, 9);
    test_engine_settle(r.engine, 1, 8, 8);
    store_engine_ops.usage(r.store, 1, &messages, &bytes, &oldest);
    assert_int_equal(messages, 91);
    assert_int_equal(bytes, 91 * 64);
    assert_int_equal(oldest, 10);
    uint64_t oldest_ms = store_engine_ops.oldest_ms(r.store, 1);
    assert_true(oldest_ms >= start + 9 * 1000 && oldest_ms <= start + 12 * 1000);
    assert_int_equal(store_engine_ops.oldest_ms(r.store, 2), 0);
    rig_release(&r);
}

static void retention_over_sealed_segments(void **state)
{
    struct rig r;
    rig_init(&r, NULL);
    rig_must_open(&r);
    uint64_t start = r.now.wall.ms;
    for (int i = 0; i < 6000; i++) {
        assert_int_equal(rig_publish_sized(&r, 1, 24), BROKER_OK);
        r.now.wall.ms += 100;
        if (i % 16 == 0)
            rig_step(&r);
    }
    rig_wait(&r, 1000);
    assert_int_equal(store_engine_ops.trim_point(r.store, 1, 0, 0, 100), 5900);
    uint64_t at = store_engine_ops.seq_at_time(r.store, 1, start + 3000 * 100);
    assert_true(at <= 3001 && at > 2700);
    uint64_t trim = store_engine_ops.trim_point(r.store, 1, start + 3000 * 100, 0, 0);
    assert_true(trim <= 3000 && trim > 2700);
    test_engine_settle(r.engine, 1, 1, trim);
    uint64_t oldest_ms = store_engine_ops.oldest_ms(r.store, 1);
    assert_true(oldest_ms >= start + trim * 100 - 100 && oldest_ms < start + (trim + 300) * 100);
    rig_checkpoint(&r);
    rig_drop(&r);
    rig_must_open(&r);
    assert_true(store_engine_ops.seq_at_time(r.store, 1, start + 3500 * 100) <= 3501);
    assert_true(store_engine_ops.seq_at_time(r.store, 1, start + 3500 * 100) > 3200);
    rig_check_all(&r);
    rig_release(&r);
}

static void large_messages(void **state)
{
    struct rig r;
    rig_init(&r, NULL);
    rig_must_open(&r);
    for (int i = 0; i < 60; i++) {
        assert_int_equal(rig_publish_sized(&r, 1 + i % 2, 1000 + (size_t)i * 900), BROKER_OK);
        rig_step(&r);
    }
    rig_wait(&r, 100);
    rig_check_all(&r);
    rig_drop(&r);
    rig_must_open(&r);
    rig_check_all(&r);
    rig_release(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_back_what_was_appended),
        cmocka_unit_test(confirms_nothing_before_the_sync),
        cmocka_unit_test(rolls_and_recovers),
        cmocka_unit_test(frees_what_is_dead),
        cmocka_unit_test(one_old_message_keeps_little),
        cmocka_unit_test(cleans_many_queues),
        cmocka_unit_test(deleted_queue_is_gone),
        cmocka_unit_test(full_disk_refuses_messages_but_not_settles),
        cmocka_unit_test(max_disk_bytes_is_kept),
        cmocka_unit_test(window_overloads),
        cmocka_unit_test(failed_write_is_final),
        cmocka_unit_test(times_and_retention),
        cmocka_unit_test(retention_over_sealed_segments),
        cmocka_unit_test(large_messages),
    };
    return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
