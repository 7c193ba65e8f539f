/* The schedule alone, over a log in memory: order and exactness of times, spills, replay, jumps, failures, size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "schedule_internal.h"

enum { QUEUE = 7, SEQS = 21000 };

#define WALL 1700000000000u

struct record {
    uint8_t *bytes;
    uint32_t length;
    bool dead;
};

struct rig {
    struct engine e;
    struct record *log;
    size_t count, cap;
    broker_error refuse;
    uint32_t largest; /* an append_all of more bytes is TOO_LARGE; 0: no limit */
    bool pending;
    uint64_t damaged, dead_twice, reads;
    uint64_t seqs;  /* below this */
    uint8_t *fired; /* how often, by seq */
    bool *unwanted;
    uint64_t fired_count, fired_last;
    uint64_t early, late; /* against steady time as the test knows it */
    int64_t *expect;      /* wall time at which it must fire, by seq; 0: not looked at */
    bool unordered;
};

/* ---- allocations that fail (the linker leads here) ---- */

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
static long fail_in = -1; /* allocations until one fails; -1: none does */

static bool fails(void)
{
    return fail_in >= 0 && fail_in-- == 0;
}

void *__wrap_malloc(size_t n)
{
    return fails() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
    return fails() ? NULL : __real_realloc(p, n);
}

/* ---- the store ---- */

static broker_error append_all(void *store, const struct append_item *items, uint32_t count, enum durability durability,
                               uint64_t *index)
{
    struct rig *r = store;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < count; i++) {
        bytes += items[i].length;
    }
    if (r->refuse || (r->largest && bytes > r->largest)) {
        return r->refuse ? r->refuse : BROKER_TOO_LARGE;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (r->count == r->cap) {
            r->cap = r->cap ? r->cap * 2 : 64;
            r->log = __real_realloc(r->log, r->cap * sizeof *r->log);
        }
        assert_int_equal(items[i].length % 8, 0);
        assert_int_equal(record_seq(items[i].record), r->count + 1); /* seqs are the places in this log */
        struct record *record = &r->log[r->count++];
        *record = (struct record){.bytes = __real_malloc(items[i].length), .length = items[i].length};
        memcpy(record->bytes, items[i].record, items[i].length);
    }
    *index = 1;
    return BROKER_OK;
}

static enum read_status read_messages(void *store, uint32_t queue, uint64_t from, uint64_t to, uint32_t max_messages,
                                      uint64_t max_bytes, struct stored_message *out, uint32_t *count,
                                      uint64_t *damaged_seq)
{
    struct rig *r = store;
    assert_int_equal(queue, SCHEDULE_QUEUE);
    assert_true(from == to && from >= 1 && from <= r->count);
    assert_false(r->log[from - 1].dead);
    r->reads++;
    *count = 0;
    if (r->pending) {
        return READ_PENDING;
    }
    if (from == r->damaged) {
        *damaged_seq = from;
        return READ_DAMAGED;
    }
    out[(*count)++] =
        (struct stored_message){.seq = from, .record = r->log[from - 1].bytes, .padded_len = r->log[from - 1].length};
    return READ_OK;
}

static void dead(void *store, uint32_t queue, uint64_t first, uint64_t last)
{
    struct rig *r = store;
    for (uint64_t seq = first; seq <= last; seq++) {
        r->dead_twice += r->log[seq - 1].dead;
        r->log[seq - 1].dead = true;
    }
}

static const struct store_ops OPS = {.append_all = append_all, .read = read_messages, .dead = dead};

/* ---- what the schedule calls ---- */

static struct rig *rig_of(const struct engine *e)
{
    return (struct rig *)e; /* its first member */
}

void schedule_fired(struct engine *e, enum schedule_kind kind, uint32_t queue, uint64_t seq, uint64_t at_wall_ms)
{
    struct rig *r = rig_of(e);
    assert_int_equal(queue, QUEUE);
    assert_in_range(seq, 1, r->seqs - 1);
    r->fired[seq]++;
    r->fired_count++;
    if (r->expect && r->expect[seq]) {
        r->early += (int64_t)e->now.wall.ms < r->expect[seq];
        r->late += (int64_t)e->now.wall.ms > r->expect[seq];
    }
    r->unordered |= at_wall_ms < r->fired_last;
    r->fired_last = at_wall_ms;
}

bool schedule_wanted(const struct engine *e, enum schedule_kind kind, uint32_t queue, uint64_t seq, uint64_t at_wall_ms)
{
    return !rig_of(e)->unwanted[seq];
}

/* ---- the rig ---- */

static void engine_start(struct rig *r, uint32_t limit)
{
    r->e = (struct engine){.ops = &OPS, .store = r, .replaying = true};
    r->e.options.max_schedule_entries = limit;
    r->e.schedule = schedule_new();
    assert_non_null(r->e.schedule);
}

static void recovered(struct rig *r, uint64_t mono, uint64_t wall)
{
    r->e.now = (struct now){.mono = {mono}, .wall = {wall}};
    r->e.replaying = false;
    schedule_recovered(&r->e);
}

static struct rig *rig_sized(uint32_t limit, uint64_t seqs)
{
    struct rig *r = calloc(1, sizeof *r);
    r->seqs = seqs;
    r->fired = calloc(seqs, 1);
    r->unwanted = calloc(seqs, sizeof *r->unwanted);
    engine_start(r, limit);
    recovered(r, 1000, WALL);
    return r;
}

static struct rig *rig_new(uint32_t limit)
{
    return rig_sized(limit, SEQS);
}

static void rig_free(struct rig *r)
{
    schedule_free(r->e.schedule);
    for (size_t i = 0; i < r->count; i++) {
        free(r->log[i].bytes);
    }
    free(r->log);
    free(r->fired);
    free(r->unwanted);
    free(r->expect);
    free(r);
}

static void pass(struct rig *r, uint64_t ms)
{
    r->e.now.mono.ms += ms;
    r->e.now.wall.ms += ms;
}

static void add(struct rig *r, uint64_t seq, uint64_t at)
{
    assert_true(schedule_add(&r->e, SCHEDULE_DUE, QUEUE, seq, at));
}

/* Calls until it has nothing to do now. */
static void run(struct rig *r)
{
    for (int i = 0; i < 100000; i++) {
        schedule_run(&r->e);
        if (schedule_next(&r->e) > r->e.now.mono.ms) {
            return;
        }
    }
    fail_msg("the schedule never comes to rest");
}

/* On from one time that it names to the next, to the end or `until`. */
static void run_until(struct rig *r, uint64_t until_mono)
{
    for (run(r);;) {
        uint64_t next = schedule_next(&r->e);
        if (next > until_mono) {
            break;
        }
        pass(r, next - r->e.now.mono.ms);
        run(r);
    }
}

static uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static size_t live_blocks(const struct rig *r)
{
    size_t n = 0;
    for (size_t i = 0; i < r->count; i++) {
        n += !r->log[i].dead;
    }
    return n;
}

struct ranges {
    uint64_t count, sum, last;
};

static void add_range(void *arg, uint64_t first, uint64_t last)
{
    struct ranges *s = arg;
    assert_true(first <= last && first > s->last + (s->count ? 1 : 0));
    s->count++;
    s->sum += last - first + 1;
    s->last = last;
}

static void check_live(struct rig *r)
{
    struct ranges all = {0};
    schedule_live(&r->e, 1, UINT64_MAX - 1, add_range, &all);
    assert_int_equal(all.sum, live_blocks(r));
}

/* ---- tests ---- */

static void test_fires_in_the_very_millisecond(void **state)
{
    struct rig *r = rig_new(0);
    add(r, 1, WALL + 500);
    assert_int_equal(schedule_next(&r->e), 1500);
    pass(r, 499);
    run(r);
    assert_int_equal(r->fired[1], 0);
    pass(r, 1);
    schedule_run(&r->e);
    assert_int_equal(r->fired[1], 1);
    assert_true(schedule_next(&r->e) == UINT64_MAX);
    add(r, 2, 0); /* long ago */
    add(r, 3, UINT64_MAX);
    run(r);
    assert_int_equal(r->fired[2], 1);
    assert_int_equal(r->fired[3], 0);
    rig_free(r);
}

static void fill(struct rig *r, uint32_t n, uint64_t span, uint64_t seed)
{
    for (uint32_t seq = 1; seq <= n; seq++) {
        uint64_t at = WALL + 1 + random_next(&seed) % span;
        if (r->expect) {
            r->expect[seq] = (int64_t)at;
        }
        add(r, seq, at);
        if (seq % 50 == 0) {
            run(r);
        }
    }
}

static void test_spilled_entries_fire_in_order_and_on_time(void **state)
{
    struct rig *r = rig_new(100);
    r->expect = calloc(SEQS, sizeof *r->expect);
    fill(r, 20000, 100000, 11);
    run(r);
    assert_true(r->count > 100);
    assert_true(r->e.schedule->memory.len <= 100);
    assert_int_equal(r->fired_count, 0);
    check_live(r);
    run_until(r, 1000 + 50000);
    check_live(r);
    run_until(r, 1000 + 100000);
    assert_int_equal(r->fired_count, 20000);
    assert_int_equal(r->early + r->late, 0);
    assert_false(r->unordered);
    assert_int_equal(live_blocks(r), 0);
    assert_int_equal(r->dead_twice, 0);
    assert_true(schedule_next(&r->e) == UINT64_MAX);
    rig_free(r);
}

static void test_equal_times(void **state)
{
    struct rig *r = rig_new(100);
    for (uint32_t i = 0; i < 5000; i++) {
        add(r, 1 + i % 2500, WALL + 777); /* each twice: entries may repeat */
    }
    run(r);
    pass(r, 776);
    run(r);
    assert_int_equal(r->fired_count, 0);
    pass(r, 1);
    run(r);
    assert_int_equal(r->fired_count, 5000);
    rig_free(r);
}

static void test_what_nobody_wants_is_not_written(void **state)
{
    struct rig *r = rig_new(100);
    for (uint32_t seq = 1; seq <= 5000; seq++) {
        r->unwanted[seq] = seq % 100 != 0;
    }
    fill(r, 5000, 1000000, 3);
    run(r);
    uint64_t written = 0;
    for (size_t i = 0; i < r->count; i++) {
        written += (r->log[i].length - RECORD_HEAD_BYTES - SCHEDULE_BLOCK_HEAD_BYTES) / SCHEDULE_ENTRY_BYTES;
    }
    assert_true(written <= 50);
    run_until(r, 1000 + 1000000);
    for (uint32_t seq = 100; seq <= 5000; seq += 100) {
        assert_int_equal(r->fired[seq], 1);
    }
    rig_free(r);
}

static void test_jumps_of_the_clock(void **state)
{
    static const int64_t JUMPS[] = {3600000, -3600000, 21, -21, -86400000};
    for (size_t k = 0; k < sizeof JUMPS / sizeof JUMPS[0]; k++) {
        struct rig *r = rig_new(100);
        r->expect = calloc(SEQS, sizeof *r->expect);
        fill(r, 2000, 100000, 5 + k);
        run_until(r, 1000 + 10000);
        r->e.now.wall.ms += (uint64_t)JUMPS[k];
        for (uint32_t seq = 1; seq <= 2000; seq++) {
            r->expect[seq] += JUMPS[k];
        }
        for (uint32_t seq = 2001; seq <= 4000; seq++) { /* these come after the jump, and know the new clock */
            uint64_t at = r->e.now.wall.ms + 1 + seq * 7 % 90000;
            r->expect[seq] = (int64_t)at;
            add(r, seq, at);
        }
        run(r);
        pass(r, 15); /* less than a jump: the wall clock counts */
        r->e.now.wall.ms -= 15;
        run_until(r, 1000 + 200000);
        assert_int_equal(r->fired_count, 4000);
        assert_int_equal(r->early, 0);
        assert_int_equal(r->late, 0);
        assert_int_equal(live_blocks(r), 0);
        rig_free(r);
    }
}

/* Adds and appended blocks in one order, as a log has them. */
struct event {
    uint64_t seq, at; /* seq 0: the block `at` */
};

/* What a schedule will still fire, by firing it all. */
static void drain(struct rig *r)
{
    run_until(r, UINT64_MAX - 1);
}

static void test_replay_of_every_prefix(void **state)
{
    enum { N = 1500 };
    static struct event log[2 * N];
    struct rig *r = rig_new(64);
    size_t n = 0;
    uint64_t seed = 99;
    for (uint32_t seq = 1; seq <= N; seq++) {
        uint64_t at = r->e.now.wall.ms + 1 + random_next(&seed) % 3000;
        log[n++] = (struct event){seq, at};
        add(r, seq, at);
        if (seq % 3 == 0) {
            size_t before = r->count;
            pass(r, 1);
            run(r);
            for (; before < r->count; before++) {
                log[n++] = (struct event){0, before};
            }
        }
    }
    assert_true(r->count > 20);
    for (size_t prefix = 0; prefix <= n; prefix += prefix < 300 ? 1 : 7) {
        struct rig *s = rig_new(64);
        schedule_free(s->e.schedule);
        engine_start(s, 64);
        s->log = calloc(r->count, sizeof *s->log);
        size_t adds = 0;
        for (size_t i = 0; i < prefix; i++) {
            if (log[i].seq) {
                adds++;
                add(s, log[i].seq, log[i].at);
                continue;
            }
            const struct record *from = &r->log[log[i].at];
            struct record *to = &s->log[s->count++];
            const char *text;
            *to = (struct record){.bytes = malloc(from->length), .length = from->length};
            memcpy(to->bytes, from->bytes, from->length);
            assert_int_equal(schedule_replay(&s->e, to->bytes, &text), BROKER_OK);
        }
        s->cap = r->count;
        recovered(s, 5, WALL);
        check_live(s);
        assert_int_equal(schedule_lost(&s->e), 0);
        drain(s);
        assert_int_equal(s->fired_count, adds); /* none lost, none twice: nothing was fired in this life */
        for (size_t seq = 1; seq <= adds; seq++) {
            assert_int_equal(s->fired[seq], 1);
        }
        assert_int_equal(live_blocks(s), 0);
        rig_free(s);
    }
    rig_free(r);
}

static void test_a_spill_that_lost_a_block_does_not_count(void **state)
{
    struct rig *r = rig_new(4000);
    fill(r, 4001, 1000000, 17);
    run(r);
    assert_true(r->count >= 4);
    for (size_t lost = 0; lost < r->count; lost++) {
        struct rig *s = rig_new(4000);
        schedule_free(s->e.schedule);
        engine_start(s, 4000);
        s->log = calloc(r->count, sizeof *s->log);
        s->count = s->cap = r->count;
        uint64_t seed = 17;
        for (uint32_t seq = 1; seq <= 4001; seq++) {
            add(s, seq, WALL + 1 + random_next(&seed) % 1000000);
        }
        for (size_t i = 0; i < r->count; i++) {
            const char *text;
            s->log[i] = (struct record){.bytes = malloc(r->log[i].length), .length = r->log[i].length};
            memcpy(s->log[i].bytes, r->log[i].bytes, r->log[i].length);
            if (i != lost) {
                assert_int_equal(schedule_replay(&s->e, s->log[i].bytes, &text), BROKER_OK);
            }
        }
        recovered(s, 5, WALL);
        s->log[lost].dead = true;
        assert_int_equal(live_blocks(s), 0);
        assert_int_equal(s->e.schedule->run_count, 0);
        assert_int_equal(s->e.schedule->memory.len, 4001);
        rig_free(s);
    }
    rig_free(r);
}

static struct buf saved(const struct rig *r)
{
    struct buf out;
    buf_init(&out, 0);
    assert_true(schedule_save(&r->e, &out));
    return out;
}

static void test_snapshot(void **state)
{
    struct rig *r = rig_new(100);
    fill(r, 5000, 100000, 23);
    run_until(r, 1000 + 40000);
    uint64_t before = r->fired_count;
    assert_true(before > 1000);
    struct buf one = saved(r);
    schedule_free(r->e.schedule);
    engine_start(r, 100);
    struct reader reader = {.at = one.bytes, .left = one.len};
    assert_true(schedule_load(&r->e, &reader));
    assert_int_equal(reader.left, 0);
    struct buf two = saved(r);
    assert_int_equal(one.len, two.len);
    assert_memory_equal(one.bytes, two.bytes, one.len);
    recovered(r, 77, WALL + 40000);
    check_live(r);
    run_until(r, 77 + 60000);
    for (uint32_t seq = 1; seq <= 5000; seq++) {
        assert_int_equal(r->fired[seq], 1);
    }
    buf_release(&one);
    buf_release(&two);
    rig_free(r);
}

static void test_malformed_snapshots_are_refused(void **state)
{
    struct rig *r = rig_new(100);
    fill(r, 2000, 100000, 29);
    struct buf good = saved(r);
    uint64_t seed = 5;
    for (size_t cut = 0; cut < good.len; cut += cut < 40 ? 1 : 97) {
        schedule_free(r->e.schedule);
        engine_start(r, 100);
        struct reader reader = {.at = good.bytes, .left = cut};
        assert_false(schedule_load(&r->e, &reader));
        assert_int_equal(reader.error, BROKER_MALFORMED);
    }
    for (int i = 0; i < 3000; i++) { /* refused or not: nothing may crash, then or later */
        uint8_t *bytes = malloc(good.len);
        memcpy(bytes, good.bytes, good.len);
        size_t at = i % 2 ? random_next(&seed) % 40 : random_next(&seed) % good.len;
        bytes[at] ^= (uint8_t)(1u << random_next(&seed) % 8);
        schedule_free(r->e.schedule);
        engine_start(r, 100);
        struct reader reader = {.at = bytes, .left = good.len};
        if (schedule_load(&r->e, &reader)) {
            struct ranges all = {0};
            schedule_live(&r->e, 1, UINT64_MAX - 1, add_range, &all);
        }
        free(bytes);
    }
    buf_release(&good);
    rig_free(r);
}

static void test_malformed_blocks_are_refused(void **state)
{
    struct rig *r = rig_new(64);
    fill(r, 100, 100000, 31);
    assert_true(r->count > 0);
    uint64_t seed = 1;
    for (int i = 0; i < 2000; i++) {
        uint8_t *bytes = malloc(r->log[0].length);
        const char *text = NULL;
        memcpy(bytes, r->log[0].bytes, r->log[0].length);
        bytes[8 + random_next(&seed) % 90] ^= (uint8_t)(1u << random_next(&seed) % 8); /* the length is the store's */
        struct rig *s = rig_new(64);
        schedule_free(s->e.schedule);
        engine_start(s, 64);
        s->log = calloc(1, sizeof *s->log);
        broker_error error = schedule_replay(&s->e, bytes, &text);
        assert_true(error == BROKER_OK || (error == BROKER_MALFORMED && text));
        s->e.schedule->spill.seen = 0; /* its seq may be any */
        free(bytes);
        rig_free(s);
    }
    rig_free(r);
}

static void test_a_read_that_is_pending(void **state)
{
    struct rig *r = rig_new(100);
    r->pending = true;
    fill(r, 3000, 100000, 37);
    pass(r, 50000);
    run(r);
    uint64_t fired = r->fired_count, reads = r->reads;
    assert_true(fired < 1000 && reads > 0);
    assert_true(schedule_next(&r->e) > r->e.now.mono.ms); /* it does not spin */
    schedule_run(&r->e);
    assert_int_equal(r->reads, reads);
    r->pending = false;
    schedule_readable(&r->e);
    assert_int_equal(schedule_next(&r->e), r->e.now.mono.ms);
    run(r);
    assert_true(r->fired_count > 1000);
    run_until(r, 1000 + 100000);
    assert_int_equal(r->fired_count, 3000);
    assert_int_equal(live_blocks(r), 0);
    rig_free(r);
}

static void test_blocks_are_read_before_they_are_due(void **state)
{
    struct rig *r = rig_new(100);
    fill(r, 1000, 100000, 41);
    run_until(r, 1000 + 60000);
    r->pending = true; /* what is due in the next seconds is in memory by now, if no run has more than two blocks */
    uint64_t before = r->fired_count;
    run_until(r, 1000 + 69000);
    assert_true(r->fired_count - before > 50);
    r->pending = false;
    schedule_readable(&r->e);
    run_until(r, 1000 + 100000);
    assert_int_equal(r->fired_count, 1000);
    rig_free(r);
}

static void test_a_damaged_block(void **state)
{
    for (uint64_t damaged = 1; damaged <= 3; damaged++) {
        struct rig *r = rig_new(4000);
        fill(r, 4001, 100000, 43);
        run(r);
        assert_true(r->count >= 3);
        r->damaged = damaged;
        run_until(r, 1000 + 100000);
        assert_int_equal(schedule_lost(&r->e), 1);
        assert_true(r->fired_count >= 4001 - 256 && r->fired_count < 4001);
        assert_int_equal(live_blocks(r), 0);
        assert_int_equal(r->e.schedule->run_count, 0);
        rig_free(r);
    }
}

static void test_a_full_disk(void **state)
{
    struct rig *r = rig_new(100);
    r->refuse = BROKER_DISK_FULL;
    fill(r, 1000, 100000, 47);
    run(r);
    assert_int_equal(r->count, 0);
    assert_int_equal(r->e.schedule->memory.len, 1000);
    assert_true(schedule_next(&r->e) > r->e.now.mono.ms);
    r->refuse = BROKER_OK;
    run_until(r, r->e.now.mono.ms + 1000);
    assert_true(r->count > 0);
    assert_true(r->e.schedule->memory.len <= 100);
    run_until(r, 1000 + 100000);
    assert_int_equal(r->fired_count, 1000);
    rig_free(r);
}

static void test_small_segments(void **state)
{
    struct rig *r = rig_new(4000);
    r->largest = 10000;
    fill(r, 10000, 100000, 53);
    run_until(r, r->e.now.mono.ms + 10);
    assert_true(r->count > 0);
    assert_true(r->e.schedule->memory.len <= 4000);
    run_until(r, 1000 + 100000);
    assert_int_equal(r->fired_count, 10000);
    rig_free(r);
}

static void test_each_allocation_fails_once(void **state)
{
    for (long at = 0; at < 80; at++) {
        struct rig *r = rig_new(50);
        uint64_t seed = 61, taken = 0;
        fail_in = at;
        for (uint32_t seq = 1; seq <= 600; seq++) {
            while (!schedule_add(&r->e, SCHEDULE_EXPIRE, QUEUE, seq, WALL + 1 + random_next(&seed) % 20000)) {
                taken++;
            }
            if (seq % 20 == 0) {
                pass(r, 1);
                run(r);
            }
        }
        run_until(r, 1000 + 40000);
        fail_in = -1;
        assert_true(taken <= 1);
        assert_int_equal(r->fired_count, 600);
        assert_int_equal(live_blocks(r), 0);
        assert_int_equal(r->dead_twice, 0);
        rig_free(r);
    }
}

static void test_a_million(void **state)
{
    struct rig *r = rig_sized(0, 1000001);
    uint64_t seed = 67, begin = clock_mono_us(), longest = 0;
    for (uint32_t seq = 1; seq <= 1000000; seq++) {
        add(r, seq, WALL + 1 + random_next(&seed) % 31536000000u);
        if (seq % 1000 == 0) {
            uint64_t before = clock_mono_us();
            schedule_run(&r->e);
            uint64_t took = clock_mono_us() - before;
            longest = took > longest ? took : longest;
        }
    }
    run(r);
    uint64_t us = clock_mono_us() - begin;
    const struct schedule *s = r->e.schedule;
    size_t bytes = s->memory.cap * sizeof *s->memory.entries;
    const struct schedule_run *each;
    TAILQ_FOREACH(each, &s->runs, by_seq)
    {
        bytes += sizeof *each + each->blocks * sizeof each->firsts[0] + 32;
    }
    bytes += s->held_count * (16 + SCHEDULE_BLOCK_ENTRIES * SCHEDULE_ENTRY_BYTES);
    size_t runs = s->run_count;
    uint64_t fire = clock_mono_us();
    pass(r, 31536000000u);
    run(r);
    fire = clock_mono_us() - fire;
    print_message(
        "1,000,000: scheduled in %llu ms, the longest call %.1f ms, %zu runs, %zu KiB; all due at once: %llu ms\n",
        (unsigned long long)us / 1000, (double)longest / 1000, runs, bytes / 1024, (unsigned long long)fire / 1000);
    assert_int_equal(r->fired_count, 1000000);
    assert_int_equal(live_blocks(r), 0);
    assert_true(bytes < 6u << 20);
    rig_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fires_in_the_very_millisecond),
        cmocka_unit_test(test_spilled_entries_fire_in_order_and_on_time),
        cmocka_unit_test(test_equal_times),
        cmocka_unit_test(test_what_nobody_wants_is_not_written),
        cmocka_unit_test(test_jumps_of_the_clock),
        cmocka_unit_test(test_replay_of_every_prefix),
        cmocka_unit_test(test_a_spill_that_lost_a_block_does_not_count),
        cmocka_unit_test(test_snapshot),
        cmocka_unit_test(test_malformed_snapshots_are_refused),
        cmocka_unit_test(test_malformed_blocks_are_refused),
        cmocka_unit_test(test_a_read_that_is_pending),
        cmocka_unit_test(test_blocks_are_read_before_they_are_due),
        cmocka_unit_test(test_a_damaged_block),
        cmocka_unit_test(test_a_full_disk),
        cmocka_unit_test(test_small_segments),
        cmocka_unit_test(test_each_allocation_fails_once),
        cmocka_unit_test(test_a_million),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
