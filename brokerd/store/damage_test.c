/* What damaged bytes, old bytes and repeated starts do. */
#include "test/rig.h"

static void checkpoint_fallback_loses_nothing(void **state)
{
    struct rig r;
    rig_init(&r, NULL);
    rig_must_open(&r);
    rig_publish_many(&r, 1, 3000);
    rig_settle(&r, 1, 1, 1000);
    rig_wait(&r, 5000);
    rig_checkpoint(&r);
    rig_publish_many(&r, 1, 50);
    rig_checkpoint(&r);
    rig_publish_many(&r, 1, 7);
    rig_idle(&r);
    rig_drop(&r);
    int found = 0;
    struct test_file *newest = NULL;
    for (int i = 0; i < TEST_FILES_MAX; i++) {
        struct test_file *f = &r.disk->files[i];
        if (f->used && strncmp(f->name, "checkpoint-", 11) == 0) {
            found++;
            if (!newest || strcmp(f->name, newest->name) > 0)
                newest = f;
        }
    }
    assert_int_equal(found, 2);
    newest->bytes[200] ^= 1;
    rig_must_open(&r);
    assert_int_equal(r.problems, 1);
    assert_int_equal(r.engine->queues[1].next, 3058);
    rig_check_all(&r);
    rig_close(&r);
    rig_must_open(&r);
    assert_int_equal(r.problems, 0);
    rig_check_all(&r);
    rig_release(&r);
}

/* Damage in the log's unsealed part, in a batch that was acknowledged: whichever byte it is, a start refuses and changes
   nothing. The last batch is the exception: it only claims the one before. */
static void acknowledged_damage_is_refused(void **state)
{
    struct rig r;
    rig_init(&r, NULL);
    r.options.segment_bytes = 16 << 10;
    rig_must_open(&r);
    rig_publish_many(&r, 1, 10);
    rig_checkpoint(&r);
    rig_publish_many(&r, 1, 10);
    rig_wait(&r, 200); /* the idle mark */
    struct test_file *f = test_disk_find(r.disk, "segment-0000000001.log");
    uint64_t end = SEGMENT_DATA_START;
    struct batch_head head;
    while (batch_head_get(f->bytes + end, 1, &head))
        end += head.length;
    end -= BATCH_HEAD_BYTES;
    rig_drop(&r);
    for (uint64_t at = SEGMENT_DATA_START; at < end; at += getenv("STORE_ALL") ? 1 : 1 + at % 9) {
        struct rig damaged;
        rig_init(&damaged, test_disk_copy(r.disk));
        damaged.options.segment_bytes = 16 << 10;
        f = test_disk_find(damaged.disk, "segment-0000000001.log");
        f->bytes[at] ^= (uint8_t)(1u << at % 8);
        uint8_t *before = malloc(f->size);
        memcpy(before, f->bytes, f->size);
        broker_error error = rig_open(&damaged);
        bool padding = error == BROKER_OK && rig_read(&damaged, 1, 1, 20, NULL) == 20; /* carries nothing */
        if (!padding && (error != BROKER_DAMAGED || damaged.problems == 0))
            fail_msg("byte %llu: %s", (unsigned long long)at, broker_error_name(error));
        if (error)
            assert_memory_equal(before, f->bytes, f->size);
        free(before);
        rig_release(&damaged);
    }
    rig_release(&r);
}

/* In a sealed segment damage shows when the message is read: that one, and no other. */
static void damaged_message_is_passed_over(void **state)
{
    struct rig r;
    struct segment_trailer trailer;
    rig_init(&r, NULL);
    r.options.segment_bytes = 16 << 10;
    rig_must_open(&r);
    rig_publish_many(&r, 1, 300);
    rig_checkpoint(&r);
    rig_drop(&r);
    struct test_file *f = rig_sealed_segment(&r, &trailer);
    for (uint64_t at = SEGMENT_DATA_START; at < trailer.data_end; at += 1 + at % 97) {
        uint64_t damaged;
        f->bytes[at] ^= 4;
        rig_must_open(&r);
        uint64_t n = rig_read(&r, 1, 1, 300, &damaged); /* checks what it reads */
        if (n + damaged != 300 || damaged > 1)
            fail_msg("byte %llu: %llu read, %llu damaged", (unsigned long long)at, (unsigned long long)n,
                     (unsigned long long)damaged);
        rig_drop(&r);
        f->bytes[at] ^= 4;
    }
    rig_release(&r);
}

static void damaged_footer_costs_no_message(void **state)
{
    struct rig r;
    struct segment_trailer trailer;
    rig_init(&r, NULL);
    r.options.segment_bytes = 16 << 10;
    rig_must_open(&r);
    rig_publish_many(&r, 1, 100);
    rig_publish_many(&r, 2, 100);
    rig_checkpoint(&r);
    rig_drop(&r);
    struct test_file *f = rig_sealed_segment(&r, &trailer);
    for (uint64_t at = trailer.footer_at; at < f->size; at += 1 + at % 61) {
        bool free_space = f->bytes[at] == 0 && at > trailer.footer_at + 1200 && at < f->size - SEGMENT_TRAILER_BYTES;
        if (free_space)
            continue;
        f->bytes[at] ^= 0x20;
        rig_must_open(&r);
        rig_check_all(&r);
        rig_drop(&r);
        f->bytes[at] ^= 0x20;
    }
    rig_release(&r);
}

static void epoch_rises_with_each_start(void **state)
{
    struct rig r;
    rig_init(&r, NULL);
    for (uint32_t epoch = 1; epoch < 20; epoch++) { /* nothing is ever appended */
        rig_must_open(&r);
        assert_int_equal(r.engine->epoch, epoch);
        rig_drop(&r);
        test_disk_cut(r.disk, epoch % 2);
    }
    rig_release(&r);
}

/* Batches 3, 4, 5 were never synced; a power cut keeps only 5. What is written afterwards ends exactly where 5 begins, and
   would be followed by it. */
static void stale_batch_never_passes(void **state)
{
    enum { BODY = 4096 - RECORD_HEAD_BYTES - BATCH_HEAD_BYTES };
    struct rig r;
    struct batch_head head;
    rig_init(&r, NULL);
    rig_must_open(&r);
    /* The mark, then one batch that ends at a sector's end: 1, 2. */
    rig_publish_sized(&r, 1, BODY - BATCH_HEAD_BYTES);
    rig_step(&r);
    struct test_file *f = test_disk_find(r.disk, "segment-0000000001.log");
    uint64_t three = SEGMENT_DATA_START + 4096;
    assert_int_equal(r.engine->durable, 2);
    for (int i = 0; i < 3; i++) {
        rig_publish_sized(&r, 1, BODY);
        store_flush(r.store, r.now);
    }
    for (struct log_write *w = r.writes; w; w = w->next)
        test_disk_ops.write(r.disk, w->file, w->offset, w->bytes, w->len); /* written, not synced */
    assert_true(batch_head_get(f->bytes + three + 8192, 1, &head) && head.index == 5);
    rig_drop(&r);
    memcpy(f->bytes + three, f->synced + three, 8192);
    test_disk_cut(r.disk, 1);
    rig_must_open(&r); /* its mark is batch 3 */
    assert_int_equal(r.engine->queues[1].next, 2);
    rig_publish_sized(&r, 1, 8192 - 2 * BATCH_HEAD_BYTES - RECORD_HEAD_BYTES); /* batch 4 */
    rig_step(&r);
    assert_int_equal(r.engine->durable, 4);
    assert_true(batch_head_get(f->bytes + three + 8192, 1, &head) && head.index == 5);
    rig_drop(&r);
    rig_must_open(&r);
    assert_int_equal(r.problems, 0);
    assert_int_equal(r.engine->queues[1].next, 3);
    rig_check_all(&r);
    rig_release(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(checkpoint_fallback_loses_nothing), cmocka_unit_test(acknowledged_damage_is_refused),
        cmocka_unit_test(damaged_message_is_passed_over),    cmocka_unit_test(damaged_footer_costs_no_message),
        cmocka_unit_test(epoch_rises_with_each_start),       cmocka_unit_test(stale_batch_never_passes),
    };
    return cmocka_run_group_tests_name("store damage", tests, NULL, NULL);
}
