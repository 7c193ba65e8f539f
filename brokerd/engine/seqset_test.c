/* The set against a plain array, with random ranges around the edges of roaring's containers and of the 32-bit parts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "seqset.h"

enum { SPAN = 1 << 18, ROUNDS = 300 };

static uint64_t state = 88172645463325252u;

static uint64_t next_random(void) /* xorshift64: Marsaglia, Xorshift RNGs, 2003 */
{
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

static bool model[SPAN + 2];

static void check(const struct seqset *s, uint64_t base, uint64_t from)
{
    uint64_t present = from, absent = from;
    while (present < SPAN && !model[present]) {
        present++;
    }
    while (model[absent]) {
        absent++;
    }
    assert_int_equal(seqset_next(s, base + from), present < SPAN ? base + present : UINT64_MAX);
    assert_int_equal(seqset_next_absent(s, base + from), base + absent);
    assert_int_equal(seqset_has(s, base + from), model[from]);
}

static void run(uint64_t base)
{
    struct seqset s;
    seqset_init(&s);
    memset(model, 0, sizeof model);
    uint64_t dropped = 0;
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t first = next_random() % SPAN, len = round % 3 ? next_random() % 70000 : 1;
        first = round % 5 ? first : first & ~(uint64_t)0xffff; /* container edges */
        uint64_t last = first + len < SPAN ? first + len : SPAN - 1;
        first = first > dropped ? first : dropped + 1;
        if (first > last) {
            continue;
        }
        assert_true(seqset_add(&s, base + first, base + last));
        memset(model + first, 1, last - first + 1);
        if (round % 40 == 39) {
            dropped = next_random() % (SPAN / 4);
            seqset_drop_to(&s, base + dropped);
            memset(model, 0, dropped + 1);
        }
        for (int i = 0; i < 20; i++) {
            check(&s, base, next_random() % SPAN);
        }
        check(&s, base, first);
        check(&s, base, last);
        check(&s, base, SPAN - 1);
        uint64_t n = 0;
        for (uint64_t i = first; i < SPAN; i++) {
            n += model[i];
        }
        assert_int_equal(seqset_count(&s, base + first, base + SPAN - 1), n);
    }
    struct buf saved;
    struct seqset again;
    buf_init(&saved, 0);
    seqset_init(&again);
    assert_true(seqset_save(&s, &saved));
    assert_int_equal(seqset_load(&again, saved.bytes, saved.len), saved.len);
    for (int i = 0; i < 200; i++) {
        check(&again, base, next_random() % SPAN);
    }
    seqset_release(&again);
    for (size_t n = 0; n < saved.len; n += 1 + n / 20) { /* cut anywhere: refused, nothing leaks */
        assert_int_equal(seqset_load(&again, saved.bytes, n), 0);
        seqset_release(&again);
    }
    buf_release(&saved);
    seqset_drop_to(&s, UINT64_MAX);
    assert_true(seqset_empty(&s));
    seqset_release(&s);
}

static void test_small_numbers(void **unused)
{
    run(0);
}

static void test_across_32_bits(void **unused)
{
    run((1ull << 32) - SPAN / 2);
}

static void test_far_up(void **unused)
{
    run((1ull << 45) + 12345);
}

/* One container of each kind, saved; then each of its bytes changed in turn: what is taken all the same has values that rise, as
   many as it says. */
static void test_unsound_ones(void **unused)
{
    for (int kind = 0; kind < 3; kind++) {
        struct seqset s;
        struct buf saved;
        seqset_init(&s);
        buf_init(&saved, 0);
        for (uint64_t i = 0; i < (kind == 1 ? 5000 : 100); i++) { /* an array, a bitset, runs */
            assert_true(seqset_add(&s, i * 10, i * 10 + (kind == 2 ? 5 : 0)));
        }
        for (int i = 0; kind == 2 && i < 70000; i++) { /* it compresses every so often */
            assert_true(seqset_add(&s, 7, 7));
        }
        assert_true(seqset_save(&s, &saved));
        for (size_t at = 0; at < saved.len; at++) {
            uint8_t was = saved.bytes[at];
            saved.bytes[at] = (uint8_t)(was + 1 + next_random() % 255);
            struct seqset again;
            seqset_init(&again);
            if (seqset_load(&again, saved.bytes, saved.len)) {
                uint64_t n = 0, last = 0;
                for (uint64_t seq = 0; (seq = seqset_next(&again, seq)) != UINT64_MAX; seq++, n++) {
                    assert_true(n == 0 || seq > last);
                    last = seq;
                }
                assert_int_equal(seqset_count(&again, 0, UINT64_MAX), n);
            }
            seqset_release(&again);
            saved.bytes[at] = was;
        }
        seqset_release(&s);
        buf_release(&saved);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_numbers),
        cmocka_unit_test(test_across_32_bits),
        cmocka_unit_test(test_far_up),
        cmocka_unit_test(test_unsound_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
