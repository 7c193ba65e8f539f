/*
 * Power cuts, kills, failing calls. A random history runs against a disk that forgets; at some moment it ends; after the next
 * start everything acknowledged must be there, nothing else may be, and it must be readable.
 */
#include "test/rig.h"

enum { QUEUES = 4, SEQS = 4000, GROUPS = 8192, GROUP_PLACES = 32 };

struct note { /* batches that a message and its settling are in; 0: none */
    uint64_t published[SEQS], settled[SEQS];
    uint64_t next;
};

struct group { /* what was appended at once, in this life */
    uint64_t batch;
    uint32_t count;
    struct {
        uint32_t queue;
        uint64_t seq;
    } places[GROUP_PLACES];
    uint32_t settled_queue;
    uint64_t first, last; /* settled; 0: nothing */
};

struct history {
    struct rig r;
    struct note notes[QUEUES];
    uint64_t acknowledged;
    struct group groups[GROUPS];
    uint32_t group_count;
    bool copying; /* a backup is open, or was asked for */
};

static uint64_t chance(struct history *h, uint64_t n)
{
    return rig_random(&h->r) % n;
}

static void publish(struct history *h)
{
    uint32_t q = (uint32_t)chance(h, QUEUES);
    struct note *n = &h->notes[q];
    struct store_stats stats;
    if (n->next + 1 >= SEQS)
        return;
    size_t len = chance(h, 50) == 0 ? chance(h, 30000) : chance(h, 300);
    store_engine_ops.stats(h->r.store, &stats);
    if (rig_publish_sized(&h->r, q, len) == BROKER_OK) {
        store_engine_ops.stats(h->r.store, &stats); /* the filling batch is the next one */
        n->published[n->next++] = stats.log_index + 1;
    }
}

/* A few messages, some of them in several queues, and perhaps a settling: all or nothing. */
static void append_all(struct history *h)
{
    struct rig_item items[8];
    struct group *g = &h->groups[h->group_count];
    struct store_stats stats;
    uint32_t count = 1 + (uint32_t)chance(h, 7);
    *g = (struct group){0};
    if (h->group_count == GROUPS - 1)
        return;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t first = (uint32_t)chance(h, QUEUES);
        items[i] = (struct rig_item){.n = 1 + (uint32_t)chance(h, QUEUES), .body_len = chance(h, 300)};
        for (uint32_t k = 0; k < items[i].n; k++) {
            uint32_t q = items[i].queues[k] = (first + k) % QUEUES;
            g->places[g->count].queue = q;
            g->places[g->count++].seq = h->notes[q].next++;
        }
    }
    uint32_t q = g->settled_queue = (uint32_t)chance(h, QUEUES);
    if (chance(h, 2) && h->notes[q].next > 1) { /* also of what is being published */
        g->first = 1 + chance(h, h->notes[q].next - 1);
        g->last = g->first + chance(h, h->notes[q].next - g->first);
        items[count++] = (struct rig_item){.n = 1, .queues = {q}, .first = g->first, .last = g->last};
    }
    bool fits = true;
    for (uint32_t i = 0; i < QUEUES; i++)
        fits &= h->notes[i].next < SEQS;
    if (!fits || rig_all(&h->r, items, count) != BROKER_OK) {
        for (uint32_t i = g->count; i > 0; i--)
            h->notes[g->places[i - 1].queue].next--;
        return;
    }
    store_engine_ops.stats(h->r.store, &stats);
    g->batch = stats.log_index + 1;
    for (uint32_t i = 0; i < g->count; i++)
        h->notes[g->places[i].queue].published[g->places[i].seq] = g->batch;
    for (uint64_t seq = g->first; g->first && seq <= g->last; seq++) {
        if (!h->notes[q].settled[seq])
            h->notes[q].settled[seq] = g->batch;
    }
    h->group_count++;
}

static void on_begun(void *arg, struct backup_asker asker, broker_error error, const char *text,
                     const struct backup_listing *listing)
{
    struct history *h = arg;
    if (error)
        h->copying = false;
}

static void back_up(struct history *h)
{
    if (h->copying) {
        h->copying = false;
        store_backup_ops.end(h->r.store, 1);
    } else {
        h->copying = true;
        store_backup_ops.begin(h->r.store, (struct backup_asker){1, 0}, on_begun, h);
    }
}

static void settle(struct history *h)
{
    uint32_t q = (uint32_t)chance(h, QUEUES);
    struct note *n = &h->notes[q];
    struct store_stats stats;
    if (n->next == 1)
        return;
    uint64_t first = 1 + chance(h, n->next - 1), last = first + chance(h, 60);
    if (chance(h, 4) == 0)
        first = last > 400 ? last - 400 : 1;
    last = last < n->next ? last : n->next - 1;
    if (rig_settle(&h->r, q, first, last) != BROKER_OK)
        return;
    store_engine_ops.stats(h->r.store, &stats);
    for (uint64_t seq = first; seq <= last; seq++) {
        if (!n->settled[seq])
            n->settled[seq] = stats.log_index + 1;
    }
}

static void random_job(struct history *h)
{
    struct rig *r = &h->r;
    int n = 0;
    for (struct job *j = r->jobs; j; j = j->next)
        n++;
    if (n == 0)
        return;
    struct job **at = &r->jobs;
    for (uint64_t skip = chance(h, (uint64_t)n); skip; skip--)
        at = &(*at)->next;
    struct job *j = *at;
    *at = j->next;
    if (!*at)
        r->jobs_end = at;
    j->run(j);
    j->done(j);
}

static void read_some(struct history *h)
{
    struct stored_message out[16];
    uint32_t count, q = (uint32_t)chance(h, QUEUES);
    uint64_t bad;
    uint64_t from = 1 + chance(h, h->notes[q].next);
    enum read_status status = store_engine_ops.read(h->r.store, q, from, UINT64_MAX, 16, 4096, out, &count, &bad);
    if (status == READ_DAMAGED && !h->r.disk->failed_call[0])
        fail_msg("message %llu of queue %u is damaged (from %llu)", (unsigned long long)bad, q,
                 (unsigned long long)from);
    for (uint32_t i = 0; status == READ_OK && i < count; i++)
        assert_true(record_intact(out[i].record, out[i].padded_len) &&
                    (record_seq(out[i].record) == out[i].seq || get_u16(out[i].record + 32)));
}

static void run(struct history *h, uint64_t steps)
{
    for (uint64_t i = 0; i < steps && !h->r.fatal; i++) {
        switch (chance(h, 14)) {
        case 0:
        case 1:
        case 2:
        case 3: publish(h); break;
        case 4: append_all(h); break;
        case 5: settle(h); break;
        case 6:
        case 7:
            store_flush(h->r.store, h->r.now);
            store_end_turn(h->r.store);
            break;
        case 8: store_tick(h->r.store, h->r.now); break;
        case 9: rig_write(&h->r); break;
        case 10: random_job(h); break;
        case 11: read_some(h); break;
        case 12:
            h->r.now.mono.ms += chance(h, 100);
            if (chance(h, 40) == 0)
                h->r.now.mono.ms += 3000;
            break;
        default:
            if (chance(h, 100) == 0)
                store_checkpoint(h->r.store, h->r.now);
            else if (chance(h, 50) == 0)
                back_up(h);
            break;
        }
    }
    h->acknowledged = h->r.engine->durable;
}

/* Of what was appended at once all is there, or nothing. */
static void check_groups(struct history *h)
{
    for (uint32_t i = 0; i < h->group_count; i++) {
        const struct group *g = &h->groups[i];
        const struct note *n = &h->notes[g->settled_queue];
        bool there = g->places[0].seq < h->r.engine->queues[g->places[0].queue].next;
        for (uint32_t k = 1; k < g->count; k++) {
            if (there != (g->places[k].seq < h->r.engine->queues[g->places[k].queue].next))
                fail_msg("of one append_all, message %llu of queue %u is %s, but %llu of queue %u is not",
                         (unsigned long long)g->places[0].seq, g->places[0].queue, there ? "there" : "missing",
                         (unsigned long long)g->places[k].seq, g->places[k].queue);
        }
        for (uint64_t seq = g->first; g->first && seq <= g->last; seq++) {
            bool live = test_engine_live(h->r.engine, g->settled_queue, seq);
            bool exists = seq < h->r.engine->queues[g->settled_queue].next;
            if (exists && n->settled[seq] == g->batch && live == there)
                fail_msg("message %llu of queue %u is %s, but the rest of its append_all is %s",
                         (unsigned long long)seq, g->settled_queue, live ? "not settled" : "settled",
                         there ? "there" : "missing");
        }
    }
    h->group_count = 0;
    h->copying = false;
}

/* What the next start says must agree with the notes; then the notes are what it says. */
static void check(struct history *h)
{
    check_groups(h);
    for (uint32_t q = 0; q < QUEUES; q++) {
        struct note *n = &h->notes[q];
        const struct test_queue *t = &h->r.engine->queues[q];
        uint64_t next = t->exists ? t->next : 1;
        assert_true(next <= n->next);
        for (uint64_t seq = 1; seq < n->next; seq++) {
            bool live = test_engine_live(h->r.engine, q, seq), there = seq < next;
            if (n->published[seq] && n->published[seq] <= h->acknowledged && !there)
                fail_msg("message %llu of queue %u is lost", (unsigned long long)seq, q);
            if (n->settled[seq] && n->settled[seq] <= h->acknowledged && live)
                fail_msg("message %llu of queue %u is back", (unsigned long long)seq, q);
            if (!n->settled[seq] && there && !live)
                fail_msg("message %llu of queue %u was never settled", (unsigned long long)seq, q);
            n->published[seq] = there ? 1 : 0;
            n->settled[seq] = there && !live ? 1 : 0;
        }
        n->next = next;
    }
    h->acknowledged = 0;
    rig_check_all(&h->r);
}

static struct history *history_new(uint64_t seed)
{
    struct history *h = calloc(1, sizeof *h);
    assert_non_null(h);
    rig_init(&h->r, NULL);
    h->r.seed = seed * 0x9e3779b97f4a7c15u + 1;
    h->r.options.segment_bytes = 16 << 10;
    for (int q = 0; q < QUEUES; q++)
        h->notes[q].next = 1;
    return h;
}

static void end(struct history *h)
{
    uint64_t keep = chance(h, 3);
    if (chance(h, 5) == 0) { /* in good order, for once */
        rig_idle(&h->r);
        h->acknowledged = h->r.engine->durable;
        if (chance(h, 2)) {
            rig_checkpoint(&h->r);
            h->acknowledged = h->r.engine->durable;
        }
    }
    rig_drop(&h->r);
    if (chance(h, 6)) /* else only killed */
        test_disk_cut(h->r.disk, keep == 2 ? rig_random(&h->r) | 2 : keep);
}

static void on_line(void *arg, bool problem, const char *text)
{
    struct rig *r = arg;
    size_t n = strlen(r->report);
    snprintf(r->report + n, sizeof r->report - n, "%s%s\n", problem ? "! " : "", text);
}

/* A crash damages nothing: fsck must not call it that. */
static void check_sound(struct history *h)
{
    struct test_disk *copy = test_disk_copy(h->r.disk);
    struct store_report report = {on_line, &h->r};
    struct fsck_result result;
    h->r.report[0] = 0;
    if (store_fsck(&test_disk_ops, copy, false, &report, &result) != BROKER_OK)
        fail_msg("fsck after a crash:\n%s", h->r.report);
    test_disk_free(copy);
}

/* The one before it must do, and nothing be lost. false: there are not two. */
static bool damage_newest_checkpoint(struct history *h)
{
    struct test_file *newest = NULL;
    int n = 0;
    for (int i = 0; i < TEST_FILES_MAX; i++) {
        struct test_file *f = &h->r.disk->files[i];
        if (f->used && strncmp(f->name, "checkpoint-", 11) == 0 && !strstr(f->name, ".tmp")) {
            n++;
            newest = newest && strcmp(newest->name, f->name) > 0 ? newest : f;
        }
    }
    if (n < 2)
        return false;
    newest->bytes[chance(h, newest->size)] ^= 1;
    return true;
}

/* Starts, some of them cut short themselves, until one succeeds. */
static void start(struct history *h)
{
    if (chance(h, 4) == 0) /* the configuration may change between starts */
        h->r.options.segment_bytes = (uint32_t)(16 + 16 * chance(h, 4)) << 10;
    while (chance(h, 3) == 0) {
        h->r.disk->calls = 0;
        h->r.disk->fail_at = 1 + chance(h, 40);
        h->r.disk->fail_error = EIO;
        h->r.disk->fail_stays = true;
        broker_error error = rig_open(&h->r);
        if (error)
            assert_int_equal(error, BROKER_IO);
        rig_drop(&h->r);
        h->r.disk->fail_at = 0;
        test_disk_cut(h->r.disk, chance(h, 2) ? rig_random(&h->r) | 2 : chance(h, 2));
    }
    if (chance(h, 2))
        check_sound(h);
    bool damaged = chance(h, 4) == 0 && damage_newest_checkpoint(h);
    rig_must_open(&h->r);
    assert_int_equal(h->r.problems, damaged);
}

static void random_histories(void **state)
{
    uint64_t seeds = getenv("STORE_SEEDS") ? strtoull(getenv("STORE_SEEDS"), NULL, 10) : 8;
    uint64_t first = getenv("STORE_SEED") ? strtoull(getenv("STORE_SEED"), NULL, 10) : 1;
    for (uint64_t seed = first; seed < first + seeds; seed++) {
        struct history *h = history_new(seed);
        if (getenv("STORE_SEED"))
            print_message("seed %llu\n", (unsigned long long)seed);
        for (int life = 0; life < 6; life++) {
            start(h);
            check(h);
            run(h, 200 + chance(h, 4000));
            if (h->r.fatal)
                fail_msg("seed %llu: %s", (unsigned long long)seed, h->r.fatal_text);
            end(h);
        }
        rig_release(&h->r);
        free(h);
    }
}

/* Each call of the disk fails once in turn, with each error; what was acknowledged survives. */
static void each_call_fails(void **state)
{
    static const int errors[] = {EIO, ENOSPC, EMFILE};
    for (int kind = 0; kind < 3; kind++) {
        uint64_t step = getenv("STORE_SEEDS") ? 1 : 97;
        for (uint64_t n = 1 + (uint64_t)kind;; n += step) {
            struct history *h = history_new(4711);
            h->r.disk->fail_at = n;
            h->r.disk->fail_error = errors[kind];
            broker_error error = rig_open(&h->r);
            if (!error) {
                run(h, 6000);
                if (!h->r.fatal) {
                    h->r.now.mono.ms += 5000;
                    rig_idle(&h->r);
                    h->acknowledged = h->r.engine->durable;
                }
            }
            bool hit = h->r.disk->failed_call[0] != 0;
            if (h->r.fatal && errors[kind] != EIO && strcmp(h->r.disk->failed_call, "write") != 0 &&
                strcmp(h->r.disk->failed_call, "sync") != 0 && strcmp(h->r.disk->failed_call, "rename") != 0)
                fail_msg("call %llu (%s), %s: %s", (unsigned long long)n, h->r.disk->failed_call,
                         strerror(errors[kind]), h->r.fatal_text);
            rig_drop(&h->r);
            h->r.disk->fail_at = 0;
            test_disk_cut(h->r.disk, n % 3);
            rig_must_open(&h->r);
            check(h);
            run(h, 50);
            rig_idle(&h->r);
            rig_release(&h->r);
            free(h);
            if (!hit)
                break;
        }
    }
}

/* Each allocation fails once in turn. Some calls are refused; nothing else changes. */
static void each_allocation_fails(void **state)
{
    uint64_t step = getenv("STORE_SEEDS") ? 1 : 89;
    for (uint64_t n = 1;; n += step) {
        struct history *h = history_new(815);
        test_alloc_calls = 0;
        test_alloc_fail_at = n;
        broker_error error = rig_open(&h->r);
        if (!error) {
            run(h, 4000);
            h->r.now.mono.ms += 5000;
            rig_idle(&h->r);
            h->acknowledged = h->r.engine->durable;
        } else {
            assert_int_equal(error, BROKER_NO_MEMORY);
        }
        if (h->r.fatal)
            fail_msg("allocation %llu: %s", (unsigned long long)n, h->r.fatal_text);
        if (!error)
            rig_check_all(&h->r);
        rig_drop(&h->r);
        bool hit = test_alloc_calls >= n;
        test_alloc_calls = 0; /* and again while it starts */
        test_alloc_fail_at = 1 + n % 64;
        error = rig_open(&h->r);
        assert_true(error == BROKER_OK || error == BROKER_NO_MEMORY);
        rig_drop(&h->r);
        test_alloc_fail_at = 0;
        rig_must_open(&h->r);
        check(h);
        rig_release(&h->r);
        free(h);
        if (!hit)
            break;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_histories),
        cmocka_unit_test(each_call_fails),
        cmocka_unit_test(each_allocation_fails),
    };
    return cmocka_run_group_tests_name("store crashes", tests, NULL, NULL);
}
