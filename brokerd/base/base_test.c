/* buf, heap, clock and log: what everything else stands on. */
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "buf.h"
#include "clock.h"
#include "distance.h"
#include "heap.h"
#include "histogram.h"
#include "log.h"
#include "rfc3339.h"

static void buf_grows_up_to_its_ceiling(void **state)
{
    struct buf b;
    buf_init(&b, 100);
    assert_non_null(buf_reserve(&b, 0));
    for (int i = 0; i < 100; i++)
        assert_true(buf_put_u8(&b, (uint8_t)i));
    assert_int_equal(b.len, 100);
    assert_int_equal(b.cap, 100);
    assert_false(buf_put_u8(&b, 1));
    assert_false(buf_append(&b, "x", SIZE_MAX));
    assert_int_equal(b.len, 100);
    for (int i = 0; i < 100; i++)
        assert_int_equal(b.bytes[i], i);
    buf_clear(&b);
    assert_int_equal(b.len, 0);
    assert_int_equal(b.cap, 100);
    buf_release(&b);
    assert_null(b.bytes);
    assert_true(buf_append(&b, "again", 5));
    assert_false(buf_append(&b, "again", SIZE_MAX - 2));
    buf_release(&b);
}

static void buf_without_a_ceiling(void **state)
{
    struct buf b;
    buf_init(&b, 0);
    assert_null(buf_reserve(&b, SIZE_MAX));
    assert_true(buf_append(&b, NULL, 0));
    for (int i = 0; i < 100000; i++)
        assert_true(buf_put_u16(&b, (uint16_t)i));
    assert_int_equal(b.len, 200000);
    buf_release(&b);
}

static void buf_drops_its_front(void **state)
{
    struct buf b;
    buf_init(&b, 0);
    assert_true(buf_append(&b, "abcdef", 6));
    buf_drop_front(&b, 0);
    assert_int_equal(b.len, 6);
    buf_drop_front(&b, 2);
    assert_int_equal(b.len, 4);
    assert_memory_equal(b.bytes, "cdef", 4);
    buf_drop_front(&b, 4);
    assert_int_equal(b.len, 0);
    buf_drop_front(&b, 9);
    assert_int_equal(b.len, 0);
    buf_release(&b);
}

static void buf_integers_are_little_endian(void **state)
{
    static const uint8_t want[] = {1, 3, 2, 7, 6, 5, 4, 15, 14, 13, 12, 11, 10, 9, 8};
    struct buf b;
    buf_init(&b, 0);
    assert_true(buf_put_u8(&b, 1));
    assert_true(buf_put_u16(&b, 0x0203));
    assert_true(buf_put_u32(&b, 0x04050607));
    assert_true(buf_put_u64(&b, 0x08090a0b0c0d0e0f));
    assert_int_equal(b.len, sizeof(want));
    assert_memory_equal(b.bytes, want, sizeof(want));
    buf_release(&b);
}

static uint64_t step(uint64_t *x) /* xorshift64: the same sequence each run */
{
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return *x;
}

static void heap_checks_out(const struct heap *h)
{
    for (size_t i = 0; i < h->len; i++) {
        assert_int_equal(h->nodes[i]->slot, i + 1);
        if (i > 0)
            assert_true(h->nodes[(i - 1) / 2]->key <= h->nodes[i]->key);
    }
}

static void heap_against_a_linear_search(void **state)
{
    enum { NODES = 200 };
    struct heap_node nodes[NODES] = {{0}};
    struct heap h;
    heap_init(&h);
    uint64_t x = 88172645463325252u;
    for (int round = 0; round < 20000; round++) {
        struct heap_node *n = &nodes[step(&x) % NODES];
        if (step(&x) % 3 == 0) {
            heap_remove(&h, n);
            assert_false(heap_has(n));
        } else {
            assert_true(heap_set(&h, n, step(&x) % 500));
            assert_true(heap_has(n));
        }
        uint64_t least = UINT64_MAX;
        size_t in = 0;
        for (int i = 0; i < NODES; i++) {
            if (!heap_has(&nodes[i]))
                continue;
            in++;
            if (nodes[i].key < least)
                least = nodes[i].key;
        }
        assert_int_equal(h.len, in);
        if (in)
            assert_true(heap_min(&h)->key == least);
        else
            assert_null(heap_min(&h));
        if (round % 100 == 0)
            heap_checks_out(&h);
    }
    uint64_t last = 0;
    for (struct heap_node *n; (n = heap_min(&h));) {
        assert_true(n->key >= last);
        last = n->key;
        heap_remove(&h, n);
        heap_checks_out(&h);
    }
    heap_remove(&h, &nodes[0]);
    heap_release(&h);
}

static void heap_release_lets_go_of_its_nodes(void **state)
{
    struct heap_node n = {0};
    struct heap h;
    heap_init(&h);
    assert_true(heap_push(&h, &n, 7));
    heap_release(&h);
    assert_false(heap_has(&n));
}

static void clocks_go_forward(void **state)
{
    struct now a = clock_now();
    uint64_t us = clock_mono_us();
    struct now b = clock_now();
    assert_true(b.mono.ms >= a.mono.ms);
    assert_true(us / 1000 >= a.mono.ms && us / 1000 <= b.mono.ms);
    assert_true(a.wall.ms > 1600000000000u); /* after 2020: milliseconds, and of the Unix epoch */
}

/* What log_write puts on standard error, read back through a pipe. */
static size_t captured(char *out, size_t size, void (*fn)(void))
{
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    int saved = dup(STDERR_FILENO);
    dup2(fds[1], STDERR_FILENO);
    fn();
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(fds[1]);
    size_t len = 0;
    for (ssize_t n; (n = read(fds[0], out + len, size - 1 - len)) > 0;)
        len += (size_t)n;
    out[len] = 0;
    close(fds[0]);
    return len;
}

static void say_plain(void)
{
    log_setup(LOG_LEVEL_INFO, 0);
    log_debug("not this");
    log_info("queue %s", "a\nb\x1b[2J");
    log_error("bad %d", 5);
}

static void say_journal(void)
{
    log_setup(LOG_LEVEL_WARNING, 1);
    log_notice("not this");
    log_warning("this");
    log_setup(LOG_LEVEL_INFO, 0);
}

static void say_long(void)
{
    char big[10000];
    memset(big, 'x', sizeof(big));
    big[sizeof(big) - 1] = 0;
    log_info("%s", big);
}

static void histograms(void **state)
{
    struct histogram a = {.count = 0}, b = {.count = 0};
    assert_int_equal(histogram_quantile_us(&a, 990), 0);
    for (int i = 0; i < 99; i++)
        histogram_add(&a, 50);
    histogram_add(&b, 9000000);
    histogram_merge(&a, &b);
    assert_int_equal(a.count, 100);
    assert_int_equal(a.sum_us, 99 * 50 + 9000000);
    assert_int_equal(a.counts[0], 99);
    assert_int_equal(a.counts[HISTOGRAM_BOUNDS], 1);
    assert_int_equal(histogram_quantile_us(&a, 990), 50);
    assert_int_equal(histogram_quantile_us(&a, 991), 9000000);
    histogram_merge(&b, &a);
    assert_int_equal(b.max_us, 9000000);
}

static void log_lines(void **state)
{
    char text[20000];
    captured(text, sizeof(text), say_plain);
    assert_string_equal(text, "brokerd: queue a?b?[2J\nbrokerd: error: bad 5\n");
    captured(text, sizeof(text), say_journal);
    assert_string_equal(text, "<4>this\n");
    size_t len = captured(text, sizeof(text), say_long);
    assert_true(len > 2000 && len <= 2048);
    assert_int_equal(text[len - 1], '\n');
}

static void times_as_text(void **state)
{
    static const struct {
        const char *text;
        uint64_t ms;
    } good[] = {{"1970-01-01T00:00:00Z", 0},
                {"2027-01-31T12:00:00Z", 1801396800000},
                {"2024-02-29t23:59:60.1239z", 1709251200123},
                {"2027-01-31 13:30:00+01:30", 1801396800000},
                {"2027-01-31T10:30:00.5-01:30", 1801396800500},
                {"9999-12-31T23:59:59.999Z", 253402300799999}};
    static const char *const bad[] = {"",
                                      "2027-01-31",
                                      "2027-01-31T12:00Z",
                                      "2027-02-29T12:00:00Z",
                                      "2027-13-01T12:00:00Z",
                                      "2027-01-31T24:00:00Z",
                                      "2027-01-31T12:00:00",
                                      "2027-01-31T12:00:00.Z",
                                      "2027-01-31T12:00:00Zx",
                                      "2027-01-31T12:00:00+1:00",
                                      "1969-12-31T23:59:59Z",
                                      "1970-01-01T00:00:00+00:01",
                                      "1801396800000"};
    uint64_t ms;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_true(rfc3339_parse(good[i].text, strlen(good[i].text), &ms));
        assert_int_equal(ms, good[i].ms);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(rfc3339_parse(bad[i], strlen(bad[i]), &ms));
}

static void words_that_are_alike(void **state)
{
    static const struct {
        const char *a, *b;
        bool fold;
        unsigned distance;
    } cases[] = {
        {"", "", false, 0},       {"", "abc", false, 3},   {"kitten", "sitting", false, 3},   {"max", "max", false, 0},
        {"Max", "max", false, 1}, {"Max", "max", true, 0}, {"leese_ms", "lease_ms", false, 1}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *a = cases[i].a, *b = cases[i].b;
        assert_int_equal(edit_distance(a, strlen(a), b, strlen(b), cases[i].fold), cases[i].distance);
        assert_int_equal(edit_distance(b, strlen(b), a, strlen(a), cases[i].fold), cases[i].distance);
    }
    char longer[EDIT_DISTANCE_BYTES + 1];
    memset(longer, 'x', sizeof(longer));
    assert_int_equal(edit_distance(longer, sizeof(longer) - 1, "x", 1, false), EDIT_DISTANCE_BYTES - 1);
    assert_int_equal(edit_distance(longer, sizeof(longer), "x", 1, false), UINT_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_that_are_alike),
        cmocka_unit_test(times_as_text),
        cmocka_unit_test(buf_grows_up_to_its_ceiling),
        cmocka_unit_test(buf_without_a_ceiling),
        cmocka_unit_test(buf_drops_its_front),
        cmocka_unit_test(buf_integers_are_little_endian),
        cmocka_unit_test(heap_against_a_linear_search),
        cmocka_unit_test(heap_release_lets_go_of_its_nodes),
        cmocka_unit_test(clocks_go_forward),
        cmocka_unit_test(histograms),
        cmocka_unit_test(log_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
