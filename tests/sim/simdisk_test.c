/* What the simulated disk forgets and what it keeps: if it is wrong, no simulation means anything. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "simdisk.h"

static const struct disk_ops *const ops = &simdisk_ops;

static struct file *file_open(struct simdisk *d, const char *name)
{
    struct file *f;
    assert_int_equal(ops->open(d, name, true, &f), 0);
    return f;
}

static void file_fill(struct simdisk *d, struct file *f, uint64_t offset, uint8_t byte, size_t n)
{
    uint8_t bytes[4096];
    memset(bytes, byte, n);
    assert_int_equal(ops->write(d, f, offset, bytes, n), 0);
}

/* The byte at `offset` after a cut in which every undecided thing has its first (0) or last (1) version; -1: no such byte. */
static int byte_after(struct simdisk *d, const char *name, uint64_t offset, int newest)
{
    struct cut c;
    cut_list(d, &c);
    uint32_t *choice = calloc(c.count + 1, sizeof(*choice));
    for (uint32_t i = 0; i < c.count; i++)
        choice[i] = newest ? c.units[i].versions - 1 : 0;
    struct simdisk *after = cut_apply(d, &c, choice);
    cut_release(&c);
    free(choice);
    struct file *f;
    uint8_t byte = 0;
    size_t got = 0;
    if (ops->open(after, name, false, &f) == 0) {
        assert_int_equal(ops->read(after, f, offset, &byte, 1, &got), 0);
        ops->close(after, f);
    }
    simdisk_free(after);
    return got == 1 ? byte : -1;
}

static void test_unsynced_is_undecided(void **state)
{
    struct simdisk *d = simdisk_new(0);
    struct file *f = file_open(d, "a");
    assert_int_equal(ops->sync_dir(d), 0);
    file_fill(d, f, 0, 1, 1024);
    assert_int_equal(byte_after(d, "a", 0, 0), -1);
    assert_int_equal(byte_after(d, "a", 0, 1), 1);
    assert_false(simdisk_is_durable(f, 0, 1024));
    assert_int_equal(ops->sync(d, f), 0);
    assert_int_equal(byte_after(d, "a", 1023, 0), 1);
    assert_true(simdisk_is_durable(f, 0, 1024));
    file_fill(d, f, 600, 2, 10);
    assert_int_equal(byte_after(d, "a", 605, 0), 1);
    assert_int_equal(byte_after(d, "a", 605, 1), 2);
    assert_true(simdisk_is_durable(f, 0, 600));
    assert_false(simdisk_is_durable(f, 0, 601));
    ops->close(d, f);
    simdisk_free(d);
}

static void test_sectors_are_decided_apart(void **state)
{
    struct simdisk *d = simdisk_new(0);
    struct file *f = file_open(d, "a");
    assert_int_equal(ops->allocate(d, f, 4096), 0);
    assert_int_equal(ops->sync(d, f), 0);
    assert_int_equal(ops->sync_dir(d), 0);
    file_fill(d, f, 0, 1, 2048);
    file_fill(d, f, 512, 2, 512);
    file_fill(d, f, 3000, 0, 512); /* zeros over zeros: nothing to decide */
    struct cut c;
    cut_list(d, &c);
    assert_int_equal(c.count, 4);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(c.units[i].versions, c.units[i].sector == 1 ? 3 : 2);
    cut_release(&c);
    ops->close(d, f);
    simdisk_free(d);
}

static void test_names_need_sync_dir(void **state)
{
    struct simdisk *d = simdisk_new(0);
    struct file *f = file_open(d, "a");
    file_fill(d, f, 0, 1, 100);
    assert_int_equal(ops->sync(d, f), 0);
    assert_false(simdisk_is_durable(f, 0, 100)); /* its name is not */
    assert_int_equal(byte_after(d, "a", 0, 0), -1);
    assert_int_equal(ops->sync_dir(d), 0);
    assert_int_equal(byte_after(d, "a", 0, 0), 1);
    assert_int_equal(ops->rename(d, "a", "b"), 0);
    assert_int_equal(byte_after(d, "a", 0, 0), 1);
    assert_int_equal(byte_after(d, "b", 0, 0), -1);
    assert_int_equal(byte_after(d, "b", 0, 1), 1);
    assert_int_equal(byte_after(d, "a", 0, 1), -1);
    assert_int_equal(ops->remove(d, "b"), 0);
    assert_int_equal(ops->sync_dir(d), 0);
    assert_int_equal(byte_after(d, "a", 0, 0), -1);
    ops->close(d, f);
    simdisk_free(d);
}

static void test_cut_freezes_at_a_call(void **state)
{
    struct simdisk *d = simdisk_new(0);
    struct file *f = file_open(d, "a");
    d->cut_after = d->changing_calls + 2;
    uint8_t byte = 7;
    assert_int_equal(ops->write(d, f, 0, &byte, 1), 0);
    assert_int_equal(ops->sync(d, f), EIO); /* it was synced, but nobody learns of it */
    assert_true(d->frozen);
    assert_int_equal(ops->write(d, f, 1, &byte, 1), EIO);
    assert_int_equal(ops->sync_dir(d), EIO);
    ops->close(d, f);
    simdisk_process_gone(d);
    assert_int_equal(byte_after(d, "a", 0, 1), 7);
    assert_int_equal(byte_after(d, "a", 1, 1), -1);
    simdisk_free(d);
}

static void test_faults_and_capacity(void **state)
{
    struct simdisk *d = simdisk_new(1000);
    struct file *f = file_open(d, "a");
    uint8_t byte = 7;
    d->fault = (struct disk_fault){.call = DISK_CALL_SYNC, .nth = 2, .error = EIO};
    assert_int_equal(ops->sync(d, f), 0);
    assert_int_equal(ops->sync(d, f), EIO);
    assert_int_equal(ops->sync(d, f), 0);
    assert_int_equal(ops->allocate(d, f, 1001), ENOSPC);
    assert_int_equal(ops->allocate(d, f, 1000), 0);
    assert_int_equal(ops->write(d, f, 1000, &byte, 1), ENOSPC);
    assert_int_equal(ops->write(d, f, 999, &byte, 1), 0);
    ops->close(d, f);
    simdisk_free(d);
}

static void test_copies_and_hashes(void **state)
{
    struct simdisk *d = simdisk_new(0);
    struct file *f = file_open(d, "a");
    file_fill(d, f, 0, 1, 1000);
    struct simdisk *copy = simdisk_copy(d);
    assert_int_equal(simdisk_hash(d), simdisk_hash(copy));
    assert_int_equal(byte_after(copy, "a", 0, 0), -1);
    assert_int_equal(byte_after(copy, "a", 0, 1), 1);
    file_fill(d, f, 0, 2, 1);
    assert_int_not_equal(simdisk_hash(d), simdisk_hash(copy));
    assert_int_equal(byte_after(copy, "a", 0, 1), 1);
    ops->close(d, f);
    simdisk_free(copy);
    simdisk_free(d);
}

static void test_planted_bug_syncs_nothing(void **state)
{
    struct simdisk *d = simdisk_new(0);
    d->plant_skip_sync = true;
    struct file *f = file_open(d, "a");
    assert_int_equal(ops->sync_dir(d), 0);
    file_fill(d, f, 0, 1, 100);
    assert_int_equal(ops->sync(d, f), 0);
    assert_int_equal(byte_after(d, "a", 0, 0), -1);
    ops->close(d, f);
    simdisk_free(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unsynced_is_undecided),     cmocka_unit_test(test_sectors_are_decided_apart),
        cmocka_unit_test(test_names_need_sync_dir),       cmocka_unit_test(test_cut_freezes_at_a_call),
        cmocka_unit_test(test_faults_and_capacity),       cmocka_unit_test(test_copies_and_hashes),
        cmocka_unit_test(test_planted_bug_syncs_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
