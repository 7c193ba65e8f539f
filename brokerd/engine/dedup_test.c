/* Windows of message ids: what counts, what is forgotten, and what survives. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine_internal.h"

enum { WINDOW_MS = 1000, WINDOW_COUNT = 50, IDS = 80, ROUNDS = 20000 };

static uint64_t state = 88172645463325252u;

static uint32_t below(uint32_t n) /* xorshift64: Marsaglia, Xorshift RNGs, 2003 */
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state % n);
}

struct fixture {
    struct engine e;
    struct queue *q;
};

static int setup(void **s)
{
    struct fixture *f = calloc(1, sizeof *f);
    f->e.now = (struct now){.mono = {5000}, .wall = {1700000000000}};
    heap_init(&f->e.dedups);
    f->q = calloc(1, sizeof(struct queue) + 1);
    f->q->settings.dedup_ms = WINDOW_MS;
    f->q->settings.dedup_count = WINDOW_COUNT;
    *s = f;
    return 0;
}

static int teardown(void **s)
{
    struct fixture *f = *s;
    dedup_free(&f->e, f->q);
    assert_int_equal(f->e.dedups.len, 0);
    heap_release(&f->e.dedups);
    free(f->q);
    free(f);
    return 0;
}

static void later(struct fixture *f, uint64_t ms)
{
    f->e.now.mono.ms += ms;
    f->e.now.wall.ms += ms;
}

static uint64_t find(struct fixture *f, uint32_t id)
{
    return dedup_find(&f->e, f->q, (const uint8_t *)&id, sizeof id);
}

static void note(struct fixture *f, uint32_t id, uint64_t seq)
{
    dedup_note(&f->e, f->q, (const uint8_t *)&id, sizeof id, seq, f->e.now.wall.ms);
}

static void test_window_in_time(void **s)
{
    struct fixture *f = *s;
    assert_int_equal(find(f, 1), 0);
    note(f, 1, 10);
    later(f, WINDOW_MS - 1);
    assert_int_equal(find(f, 1), 10);
    note(f, 2, 11);
    later(f, 1);
    assert_int_equal(find(f, 1), 0);
    assert_int_equal(find(f, 2), 11);
    note(f, 1, 12); /* the id again, as a new message */
    assert_int_equal(find(f, 1), 12);
    uint8_t shorter[2] = {1, 0}; /* ids are compared whole */
    assert_int_equal(dedup_find(&f->e, f->q, shorter, sizeof shorter), 0);
}

static void test_window_in_number(void **s)
{
    struct fixture *f = *s;
    for (uint32_t i = 1; i <= WINDOW_COUNT; i++) {
        note(f, i, i);
    }
    assert_int_equal(find(f, 1), 1);
    note(f, 1000, 1000);
    assert_int_equal(find(f, 1), 0);
    assert_int_equal(find(f, 2), 2);
    f->q->settings.dedup_count = 10; /* a smaller window counts at once, and memory follows */
    dedup_settings_changed(&f->e, f->q);
    assert_int_equal(find(f, 1000), 1000);
    assert_int_equal(find(f, WINDOW_COUNT - 8), WINDOW_COUNT - 8);
    assert_int_equal(find(f, WINDOW_COUNT - 9), 0);
}

static void test_none_is_none(void **s)
{
    struct fixture *f = *s;
    note(f, 1, 10);
    f->q->settings.dedup_ms = 0;
    dedup_settings_changed(&f->e, f->q);
    f->e.now.wall.ms -= 500; /* the clock falls back: still none */
    assert_int_equal(find(f, 1), 0);
    note(f, 2, 11);
    f->q->settings.dedup_ms = WINDOW_MS;
    dedup_settings_changed(&f->e, f->q);
    assert_int_equal(find(f, 1), 0);
    assert_int_equal(find(f, 2), 0);
    dedup_expire(&f->e);
    assert_null(f->q->dedup);
}

static void test_a_clock_that_falls_back(void **s)
{
    struct fixture *f = *s;
    note(f, 1, 1);
    f->e.now.wall.ms -= 86400000;
    for (uint32_t i = 2; i < 1000; i++) {
        note(f, i, i);
        assert_int_equal(find(f, i), i);
    }
    assert_int_equal(find(f, 1), 0); /* number bounds what time does not */
    assert_int_equal(find(f, 1000 - WINDOW_COUNT), 1000 - WINDOW_COUNT);
    assert_int_equal(find(f, 1000 - WINDOW_COUNT - 1), 0);
    struct buf b;
    buf_init(&b, 0);
    assert_true(dedup_save(f->q, &b));
    assert_int_equal(b.len, 4 + WINDOW_COUNT * (8 + 8 + 4 + 4));
    buf_release(&b);
}

/* Nobody touches the queue any more: its window goes away, in steps, and the engine is woken for it. */
static void test_idle_queues_give_back(void **s)
{
    struct fixture *f = *s;
    f->q->settings.dedup_count = 100000;
    for (uint32_t i = 0; i < 10000; i++) {
        note(f, i, i + 1);
    }
    assert_true(dedup_next(&f->e) > f->e.now.mono.ms);
    assert_true(dedup_next(&f->e) <= f->e.now.mono.ms + WINDOW_MS);
    dedup_expire(&f->e);
    assert_int_equal(find(f, 0), 1);
    uint32_t calls = 0;
    later(f, WINDOW_MS);
    for (; f->q->dedup && calls < 1000; calls++) {
        if (dedup_next(&f->e) > f->e.now.mono.ms) {
            later(f, dedup_next(&f->e) - f->e.now.mono.ms);
        }
        dedup_expire(&f->e);
    }
    assert_true(calls > 1 && calls < 100);
    assert_null(f->q->dedup);
    assert_int_equal(dedup_next(&f->e), UINT64_MAX);
}

/* The log is replayed without a clock: the newest message's time stands for it. */
static void test_replay(void **s)
{
    struct fixture *f = *s;
    struct now now = f->e.now;
    f->e.now = (struct now){0};
    f->e.replaying = true;
    for (uint32_t i = 0; i < 2000; i++) {
        uint32_t id = i;
        dedup_note(&f->e, f->q, (const uint8_t *)&id, sizeof id, i + 1, now.wall.ms + i * 100);
    }
    assert_int_equal(find(f, 1999), 2000);
    assert_int_equal(find(f, 1990), 1991);
    assert_int_equal(find(f, 1989), 0);
    f->e.replaying = false;
    f->e.now = now;
    f->e.now.wall.ms += 2000 * 100 + WINDOW_MS;
    f->e.now.mono.ms += 1;
    assert_int_equal(find(f, 1999), 0);
    dedup_expire(&f->e); /* found without anybody touching the queue */
    assert_null(f->q->dedup);
}

static void test_survives(void **s)
{
    struct fixture *f = *s;
    struct buf b;
    buf_init(&b, 0);
    for (uint32_t i = 1; i <= 3; i++) {
        note(f, i, i * 10);
        later(f, 400);
    }
    note(f, 1, 40); /* 1 is too old by now: it is in there twice, and counts once */
    assert_true(dedup_save(f->q, &b));
    for (size_t len = 0; len < b.len; len++) {
        dedup_free(&f->e, f->q);
        struct reader r = {.at = b.bytes, .left = len};
        assert_false(dedup_load(&f->e, f->q, &r));
        assert_int_equal(r.error, BROKER_MALFORMED);
    }
    dedup_free(&f->e, f->q);
    struct reader r = {.at = b.bytes, .left = b.len};
    assert_true(dedup_load(&f->e, f->q, &r));
    assert_int_equal(r.left, 0);
    assert_int_equal(find(f, 1), 40);
    assert_int_equal(find(f, 2), 20);
    assert_int_equal(find(f, 3), 30);
    f->q->settings.dedup_count = 2;
    r = (struct reader){.at = b.bytes, .left = b.len};
    assert_false(dedup_load(&f->e, f->q, &r));
    buf_release(&b);
    dedup_free(&f->e, f->q);
    assert_true(dedup_save(f->q, &b));
    r = (struct reader){.at = b.bytes, .left = b.len};
    assert_true(dedup_load(&f->e, f->q, &r));
    assert_null(f->q->dedup);
    buf_release(&b);
}

/* Against a plain list, with a clock that jumps ahead, and saved and loaded in between. */
static void test_as_a_plain_list(void **s)
{
    static struct {
        uint32_t id;
        uint64_t time_ms;
    } list[ROUNDS];
    struct fixture *f = *s;
    uint32_t n = 0, duplicates = 0;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        later(f, below(40));
        if (below(500) == 0) {
            f->e.now.wall.ms += 700; /* backwards, what was forgotten stays so: not to be told from the list */
        }
        uint32_t id = below(IDS);
        uint64_t expected = 0;
        for (uint32_t i = n; i > 0 && i + WINDOW_COUNT > n && !expected; i--) {
            if (list[i - 1].id == id && f->e.now.wall.ms < list[i - 1].time_ms + WINDOW_MS) {
                expected = i;
            } else if (list[i - 1].id == id) {
                break; /* an earlier one was replaced by this */
            }
        }
        assert_int_equal(find(f, id), expected);
        duplicates += expected != 0;
        if (!expected) {
            list[n].id = id;
            list[n++].time_ms = f->e.now.wall.ms;
            note(f, id, n);
        }
        if (below(3) == 0) {
            dedup_expire(&f->e);
        }
        if (below(200) == 0) {
            struct buf b;
            buf_init(&b, 0);
            assert_true(dedup_save(f->q, &b));
            dedup_free(&f->e, f->q);
            struct reader r = {.at = b.bytes, .left = b.len};
            f->e.replaying = true;
            assert_true(dedup_load(&f->e, f->q, &r));
            f->e.replaying = false;
            buf_release(&b);
        }
    }
    assert_true(duplicates > ROUNDS / 10 && n > ROUNDS / 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_window_in_time, setup, teardown),
        cmocka_unit_test_setup_teardown(test_window_in_number, setup, teardown),
        cmocka_unit_test_setup_teardown(test_none_is_none, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_clock_that_falls_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_idle_queues_give_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_replay, setup, teardown),
        cmocka_unit_test_setup_teardown(test_survives, setup, teardown),
        cmocka_unit_test_setup_teardown(test_as_a_plain_list, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
