#include "tar.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *at(const struct buf *b, size_t offset)
{
    return (const char *)b->bytes + offset;
}

static unsigned long octal(const struct buf *b, size_t offset)
{
    return strtoul(at(b, offset), NULL, 8);
}

/* The sum of a block's bytes, its own field taken as blanks. */
static void check_sum(const struct buf *b, size_t block)
{
    unsigned long sum = 0;
    for (size_t i = 0; i < TAR_BLOCK_BYTES; i++)
        sum += i >= 148 && i < 156 ? ' ' : b->bytes[block + i];
    assert_int_equal(octal(b, block + 148), sum);
    assert_memory_equal(at(b, block + 257), "ustar\00000", 8);
}

static void a_small_file(void **state)
{
    struct buf b;
    buf_init(&b, 0);
    assert_true(tar_head(&b, "segment-1", 1000, 1700000000));
    assert_int_equal(b.len, TAR_BLOCK_BYTES);
    check_sum(&b, 0);
    assert_string_equal(at(&b, 0), "segment-1");
    assert_string_equal(at(&b, 100), "0000600");
    assert_int_equal(octal(&b, 124), 1000);
    assert_int_equal(octal(&b, 136), 1700000000);
    assert_int_equal(b.bytes[156], '0');
    buf_release(&b);
}

static void padding(void **state)
{
    assert_int_equal(tar_padding(0), 0);
    assert_int_equal(tar_padding(1), 511);
    assert_int_equal(tar_padding(512), 0);
    assert_int_equal(tar_padding(513), 511);
    assert_int_equal(tar_padding((1ull << 40) + 500), 12);
}

static void the_largest_that_needs_no_extension(void **state)
{
    struct buf b;
    buf_init(&b, 0);
    assert_true(tar_head(&b, "a", 8589934591ull, 0));
    assert_int_equal(b.len, TAR_BLOCK_BYTES);
    assert_string_equal(at(&b, 124), "77777777777");
    buf_release(&b);
}

static void over_eight_gibibytes(void **state)
{
    struct buf b;
    buf_init(&b, 0);
    assert_true(tar_head(&b, "large", 8589934592ull, 0));
    assert_int_equal(b.len, 3 * TAR_BLOCK_BYTES);
    check_sum(&b, 0);
    check_sum(&b, 2 * TAR_BLOCK_BYTES);
    assert_int_equal(b.bytes[156], 'x');
    assert_int_equal(octal(&b, 124), strlen("19 size=8589934592\n"));
    assert_string_equal(at(&b, TAR_BLOCK_BYTES), "19 size=8589934592\n");
    assert_string_equal(at(&b, 2 * TAR_BLOCK_BYTES), "large");
    assert_int_equal(b.bytes[2 * TAR_BLOCK_BYTES + 156], '0');
    buf_release(&b);
}

/* A record's length counts its own digits, also where that makes it one longer. */
static void a_long_name(void **state)
{
    for (size_t n = 80; n <= 255; n++) {
        struct buf b;
        char name[256], *end;
        memset(name, 'n', n);
        name[n] = '\0';
        buf_init(&b, 0);
        assert_true(tar_head(&b, name, 5, 0));
        size_t head = b.len - TAR_BLOCK_BYTES;
        assert_int_equal(head, n > 100 ? 2 * TAR_BLOCK_BYTES : 0);
        assert_memory_equal(at(&b, head), name, n < 100 ? n : 100);
        if (n > 100) {
            const char *record = at(&b, TAR_BLOCK_BYTES);
            assert_int_equal(strtoul(record, &end, 10), octal(&b, 124));
            assert_int_equal(strlen(record), octal(&b, 124));
            assert_memory_equal(end, " path=n", 7);
            assert_int_equal(record[strlen(record) - 1], '\n');
        }
        buf_release(&b);
    }
}

static void no_room(void **state)
{
    struct buf b;
    buf_init(&b, 1100);
    assert_true(buf_append(&b, "before", 6));
    assert_false(tar_head(&b, "large", 8589934592ull, 0));
    assert_int_equal(b.len, 6);
    buf_release(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_small_file),
        cmocka_unit_test(padding),
        cmocka_unit_test(the_largest_that_needs_no_extension),
        cmocka_unit_test(over_eight_gibibytes),
        cmocka_unit_test(a_long_name),
        cmocka_unit_test(no_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
