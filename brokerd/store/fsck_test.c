/* Every byte flipped, every length cut: fsck says so, and what it quarantines leaves a directory that starts. */
#include "test/rig.h"

#include <assert.h>

struct checked {
    broker_error status;
    struct fsck_result result;
    char text[32768];
    int problems;
};

static void on_line(void *arg, bool problem, const char *text)
{
    struct checked *c = arg;
    size_t n = strlen(c->text);
    snprintf(c->text + n, sizeof c->text - n, "%s%s\n", problem ? "! " : "", text);
    c->problems += problem;
}

static void check(struct test_disk *d, bool quarantine, struct checked *c)
{
    *c = (struct checked){0};
    struct store_report report = {on_line, c};
    c->status = store_fsck(&test_disk_ops, d, quarantine, &report, &c->result);
    assert_int_equal(d->open_files, 0);
    assert_int_equal(c->problems, c->result.problems);
}

static void publish_routed(struct rig *r, int n)
{
    for (int i = 0; i < n; i++)
        assert_int_equal(
            rig_publish_routed(r, (uint32_t)i % 3 + 1, (uint32_t)(i + 1) % 3 + 1, (uint32_t)(i + 2) % 3 + 1),
            BROKER_OK);
    rig_step(r);
}

/* Three queues, of which the third has only messages that the others have as well, over sealed, cold and unfinished segments, two checkpoints, a prepared and a spare segment; quiet at the end. */
static struct test_disk *small_store(void)
{
    struct rig r;
    rig_init(&r, NULL);
    r.options.segment_bytes = 16 << 10;
    r.options.tail_cache_bytes = 16 << 10;
    rig_must_open(&r);
    rig_publish_many(&r, 1, 60);
    rig_publish_many(&r, 2, 30);
    publish_routed(&r, 12);
    rig_settle(&r, 1, 1, 30);
    rig_settle(&r, 1, 32, 50);
    rig_settle(&r, 2, 1, 25);
    rig_wait(&r, 5000);
    rig_checkpoint(&r);
    rig_publish_many(&r, 1, 20);
    publish_routed(&r, 10);
    rig_publish_many(&r, 2, 20);
    rig_settle(&r, 3, 13, 16);
    rig_checkpoint(&r);
    rig_publish_many(&r, 1, 25);
    publish_routed(&r, 7);
    rig_publish_many(&r, 2, 5);
    publish_routed(&r, 2);
    rig_settle(&r, 1, 61, 64);
    rig_wait(&r, 200);
    rig_idle(&r);
    struct test_disk *kept = test_disk_copy(r.disk);
    rig_release(&r);
    return kept;
}

static void sound_store_has_no_findings(void **state)
{
    struct test_disk *d = small_store();
    struct checked c;
    int cold = 0, logs = 0, checkpoints = 0, spares = 0;
    for (int i = 0; i < TEST_FILES_MAX; i++) {
        const char *name = d->files[i].used ? d->files[i].name : "";
        cold += strncmp(name, "cold-", 5) == 0;
        logs += strncmp(name, "segment-", 8) == 0;
        spares += strncmp(name, "spare-", 6) == 0;
        checkpoints += strncmp(name, "checkpoint-", 11) == 0;
    }
    assert_true(cold >= 1 && logs >= 3 && checkpoints == 2 && spares >= 1);
    check(d, false, &c);
    if (c.status || c.result.notes)
        fail_msg("%s", c.text);
    assert_true(c.result.messages > 60 && c.result.batches > 5 && c.result.routed > 20);
    test_disk_free(d);
}

static bool is_recycled(const struct test_file *f)
{
    struct segment_head head;
    return f->size > SEGMENT_HEAD_BYTES && segment_head_get(f->bytes, &head) == FORMAT_OK &&
           ((head.flags & SEGMENT_RECYCLED) || strncmp(f->name, "spare-", 6) == 0);
}

/* Live messages that can be read after a repair; must be all but what fsck says is lost. */
static void must_start(struct test_disk *d, uint64_t lost, const char *what, const struct checked *c)
{
    struct rig r;
    rig_init(&r, d);
    r.options.segment_bytes = 16 << 10;
    broker_error error = rig_open(&r);
    if (error)
        fail_msg("%s: after quarantine: %s\n%s\nfsck said:\n%s", what, broker_error_name(error), r.report, c->text);
    uint64_t holes = 0, damaged = 0;
    for (uint32_t q = 0; q < 4; q++) {
        for (uint64_t seq = 1; r.engine->queues[q].exists && seq < r.engine->queues[q].next; seq++) {
            if (test_engine_live(r.engine, q, seq)) {
                uint64_t bad;
                holes += rig_read(&r, q, seq, seq, &bad) == 0;
                damaged += bad;
            }
        }
    }
    if (damaged || holes > lost)
        fail_msg("%s: after quarantine %llu messages are damaged, %llu missing, %llu were said to be lost\n%s", what,
                 (unsigned long long)damaged, (unsigned long long)holes, (unsigned long long)lost, c->text);
    rig_publish_many(&r, 1, 3);
    rig_drop(&r);
    r.disk = NULL;
}

static void after_repair(struct test_disk *d, const char *what)
{
    struct checked first, second;
    check(d, true, &first);
    if (first.status != BROKER_DAMAGED)
        fail_msg("%s: quarantine: %s\n%s", what, broker_error_name(first.status), first.text);
    check(d, false, &second);
    if (second.status != BROKER_OK)
        fail_msg("%s: still damaged after quarantine:\n%s\nfirst:\n%s", what, second.text, first.text);
    must_start(d, first.result.messages_lost, what, &first);
}

/* Flip one bit, look whether fsck says so and names the file; now and then let it repair, and start on the result. */
static void try_flip(struct test_disk *d, struct test_file *f, uint64_t at, uint64_t n, uint64_t *repaired)
{
    struct checked c;
    char what[160];
    uint8_t before = f->bytes[at];
    f->bytes[at] ^= (uint8_t)(1u << (n % 8));
    snprintf(what, sizeof what, "%s, bit %d of byte %llu", f->name, (int)(n % 8), (unsigned long long)at);
    check(d, false, &c);
    if (c.result.problems + c.result.notes == 0)
        fail_msg("%s: not noticed\n%s", what, c.text);
    if (!strstr(c.text, f->name))
        fail_msg("%s: the file is not named:\n%s", what, c.text);
    if (c.status == BROKER_DAMAGED && n % 5 == 0) {
        struct test_disk *copy = test_disk_copy(d);
        after_repair(copy, what);
        test_disk_free(copy);
        ++*repaired;
    }
    f->bytes[at] = before;
}

/* Every bit with STORE_ALL; else one bit of every seventh byte, and less of what is zero all around. */
static void each_flip_is_reported(void **state)
{
    struct test_disk *d = small_store();
    bool all = getenv("STORE_ALL");
    uint64_t n = 0, repaired = 0;
    for (int i = 0; i < TEST_FILES_MAX; i++) {
        struct test_file *f = &d->files[i];
        if (!f->used || is_recycled(f))
            continue;
        for (uint64_t at = 0; at < f->size; at++) {
            bool dull = at >= 16 && !f->bytes[at] && !memcmp(f->bytes + at - 16, f->bytes + at - 15, 16);
            if (!all && at >= SEGMENT_HEAD_BYTES && (at * 2654435761u >> 8) % (dull ? 397 : 7) != 0)
                continue;
            for (int bit = 0; bit < (all ? 8 : 1); bit++)
                try_flip(d, f, at, n++, &repaired);
        }
    }
    print_message("%llu flips, %llu repairs\n", (unsigned long long)n, (unsigned long long)repaired);
    test_disk_free(d);
}

static void each_cut_is_reported(void **state)
{
    struct test_disk *d = small_store();
    uint64_t n = 0, step = getenv("STORE_ALL") ? 1 : 23;
    for (int i = 0; i < TEST_FILES_MAX; i++) {
        struct test_file *f = &d->files[i];
        uint64_t size = f->size;
        for (uint64_t at = 0; f->used && at < size; at += 1 + n % step) {
            struct checked c;
            char what[160];
            f->size = at;
            snprintf(what, sizeof what, "%s cut at %llu", f->name, (unsigned long long)at);
            check(d, false, &c);
            if (c.result.problems + c.result.notes == 0)
                fail_msg("%s: not noticed\n%s", what, c.text);
            if (c.status == BROKER_DAMAGED && n % 7 == 0) {
                struct test_disk *copy = test_disk_copy(d);
                struct test_file *cut = test_disk_find(copy, f->name);
                memset(cut->bytes + at, 0, cut->cap - at);
                after_repair(copy, what);
                test_disk_free(copy);
            }
            f->size = size;
            n++;
        }
    }
    print_message("%llu cuts\n", (unsigned long long)n);
    test_disk_free(d);
}

static void missing_files(void **state)
{
    struct test_disk *d = small_store();
    for (int i = 0; i < TEST_FILES_MAX; i++) {
        struct test_file *f = &d->files[i];
        struct checked c;
        if (!f->used)
            continue;
        f->used = false;
        check(d, false, &c);
        if (c.status == BROKER_DAMAGED) {
            struct test_disk *copy = test_disk_copy(d);
            after_repair(copy, f->name);
            test_disk_free(copy);
        }
        f->used = true;
    }
    test_disk_free(d);
}

/* What a start refuses, fsck calls damage; what a start passes by in silence, fsck does not call a loss. */
static void start_and_fsck_agree(void **state)
{
    struct test_disk *d = small_store();
    uint64_t n = 0;
    for (int i = 0; i < TEST_FILES_MAX; i++) {
        struct test_file *f = &d->files[i];
        for (uint64_t at = 0; f->used && at < f->size; at += 1 + (at * 2654435761u >> 9) % 97) {
            struct checked c;
            struct rig r;
            uint8_t before = f->bytes[at];
            f->bytes[at] ^= 0x10;
            check(d, false, &c);
            rig_init(&r, test_disk_copy(d));
            r.options.segment_bytes = 16 << 10;
            broker_error error = rig_open(&r);
            if (error && c.status != BROKER_DAMAGED)
                fail_msg("%s, byte %llu: a start says %s, fsck %s\n%s", f->name, (unsigned long long)at,
                         broker_error_name(error), broker_error_name(c.status), r.report);
            if (error)
                assert_true(r.problems > 0);
            rig_release(&r);
            f->bytes[at] = before;
            n++;
        }
    }
    test_disk_free(d);
}

/* Offset of the nth record of this type in the segment; what is sealed has batches as well. */
static uint64_t find_record(const struct test_file *f, uint32_t segment, uint8_t type, int nth)
{
    struct batch_head head;
    for (uint64_t at = SEGMENT_DATA_START; batch_head_get(f->bytes + at, segment, &head); at += head.length) {
        for (uint32_t k = BATCH_HEAD_BYTES; k < head.length; k += record_padded(f->bytes + at + k)) {
            if (record_type_of(f->bytes + at + k) == type && nth-- == 0)
                return at + k;
        }
    }
    fail_msg("no such record");
    return 0;
}

static void expect_lost(struct test_disk *d, const char *const *queues, int count, const char *what)
{
    struct checked c;
    char text[64];
    int named = 0;
    check(d, false, &c);
    for (int q = 1; q <= 3; q++) {
        bool expected = false;
        snprintf(text, sizeof text, "lost: 1 message(s) of queue %d (\"", q);
        for (int i = 0; i < count; i++)
            expected |= queues[i][0] - '0' == q;
        named += strstr(c.text, text) != NULL;
        if (expected != (strstr(c.text, text) != NULL))
            fail_msg("%s: queue %d should %sbe named as having lost a message:\n%s", what, q, expected ? "" : "not ",
                     c.text);
    }
    if (c.status != BROKER_DAMAGED || c.result.messages_lost != (uint64_t)count || named != count)
        fail_msg("%s:\n%s", what, c.text);
    struct test_disk *copy = test_disk_copy(d);
    after_repair(copy, what);
    test_disk_free(copy);
}

/* A message that lies in three queues is lost to three; without its route, to the two that only the route knew. */
static void each_queue_that_loses_is_named(void **state)
{
    static const char *const all[] = {"1", "2", "3"}, *const further[] = {"2", "3"};
    for (int sealed = 0; sealed < 2; sealed++) {
        struct rig r;
        rig_init(&r, NULL);
        r.options.segment_bytes = 16 << 10;
        rig_must_open(&r);
        rig_publish_many(&r, 1, 3);
        rig_publish_many(&r, 2, 5);
        rig_checkpoint(&r);
        for (int i = 0; i < 8; i++)
            rig_publish_routed(&r, 1, 2, 3);
        rig_step(&r);
        if (sealed) {
            rig_publish_many(&r, 4, 200);
            rig_checkpoint(&r);
        }
        rig_wait(&r, 200);
        rig_idle(&r);
        rig_drop(&r);
        struct test_file *f = test_disk_find(r.disk, "segment-0000000001.log");
        for (int nth = 0; nth < 8; nth++) { /* the last has nothing after it in its queues */
            uint64_t message = find_record(f, 1, RECORD_MESSAGE, 8 + nth), route = find_record(f, 1, RECORD_ROUTE, nth);
            f->bytes[message + RECORD_HEAD_BYTES + 9] ^= 1;
            expect_lost(r.disk, all, 3, sealed ? "message, sealed" : "message");
            f->bytes[message + RECORD_HEAD_BYTES + 9] ^= 1;
            f->bytes[route + 20] ^= 1;
            expect_lost(r.disk, further, 2, sealed ? "route, sealed" : "route");
            f->bytes[route + 20] ^= 1;
            f->bytes[message + RECORD_HEAD_BYTES + 9] ^= 1;
            f->bytes[route + 20] ^= 1;
            expect_lost(r.disk, all, 3, sealed ? "both, sealed" : "both");
            f->bytes[message + RECORD_HEAD_BYTES + 9] ^= 1;
            f->bytes[route + 20] ^= 1;
        }
        rig_release(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sound_store_has_no_findings), cmocka_unit_test(each_flip_is_reported),
        cmocka_unit_test(each_cut_is_reported),        cmocka_unit_test(missing_files),
        cmocka_unit_test(start_and_fsck_agree),        cmocka_unit_test(each_queue_that_loses_is_named),
    };
    return cmocka_run_group_tests_name("fsck", tests, NULL, NULL);
}
