/* Copies of a data directory that is in use: consistent, sound, and in nobody's way for longer than they are read. */
#include "backup_ops.h"
#include "test/rig.h"

enum { FILES_MAX = 128 };

struct answer {
    int begun, read;
    broker_error error;
    char text[512];
    struct backup_file files[FILES_MAX];
    char names[FILES_MAX][FILE_NAME_BYTES];
    uint32_t count;
    uint64_t data_bytes, log_index;
    uint8_t *bytes; /* owned */
    size_t len;
};

static void note_error(struct answer *a, broker_error error, const char *text)
{
    a->error = error;
    assert_true(error == BROKER_OK || (text && *text));
    snprintf(a->text, sizeof a->text, "%s", text ? text : "");
}

static void on_begun(void *arg, struct backup_asker asker, broker_error error, const char *text,
                     const struct backup_listing *listing)
{
    struct answer *a = arg;
    assert_int_equal(asker.correlation, 17);
    a->begun++;
    note_error(a, error, text);
    assert_true(error ? !listing : listing && listing->count <= FILES_MAX);
    if (error)
        return;
    a->count = listing->count;
    a->data_bytes = listing->data_bytes;
    a->log_index = listing->log_index;
    for (uint32_t i = 0; i < listing->count; i++) {
        a->files[i] = listing->files[i];
        snprintf(a->names[i], sizeof a->names[i], "%s", listing->files[i].name);
        a->files[i].name = a->names[i];
    }
}

static void on_bytes(void *arg, struct backup_asker asker, broker_error error, const char *text, const uint8_t *bytes,
                     size_t len)
{
    struct answer *a = arg;
    a->read++;
    note_error(a, error, text);
    free(a->bytes);
    a->bytes = malloc(len + 1);
    a->len = len;
    if (len)
        memcpy(a->bytes, bytes, len);
}

static void begin(struct rig *r, struct answer *a, uint64_t conn)
{
    store_backup_ops.begin(r->store, (struct backup_asker){conn, 17}, on_begun, a);
}

static void begin_and_wait(struct rig *r, struct answer *a)
{
    *a = (struct answer){0};
    begin(r, a, 5);
    assert_int_equal(a->begun, 0);
    rig_idle(r);
    assert_int_equal(a->begun, 1);
    if (a->error)
        fail_msg("begin: %s", a->text);
}

/* One piece of a file; a step of everything else meanwhile. */
static void read_piece(struct rig *r, struct answer *a, uint32_t file, uint64_t offset, uint32_t most)
{
    int before = a->read;
    store_backup_ops.read(r->store, (struct backup_asker){5, 0}, file, offset, most, on_bytes, a);
    for (int i = 0; i < 100 && a->read == before; i++)
        rig_step(r);
    assert_int_equal(a->read, before + 1);
}

/* Everything else that may go on between two pieces. */
static void bustle(struct rig *r)
{
    if (!r)
        return;
    for (int i = 0; i < 3; i++) {
        rig_publish(r, 1);
        rig_publish_routed(r, 2, 1, 3);
        rig_publish(r, 3);
    }
    for (uint32_t q = 1; q <= 3; q++) {
        uint64_t next = r->engine->queues[q].next, first = 1 + rig_random(r) % (next - 1);
        rig_settle(r, q, first, first + 300);
    }
    r->now.mono.ms += 300;
    rig_step(r);
}

static struct test_disk *copy_files(struct rig *r, struct answer *a, uint32_t piece, struct rig *busy)
{
    struct test_disk *d = test_disk_new();
    uint64_t total = 0;
    for (uint32_t i = 0; i < a->count; i++) {
        struct file *f;
        const struct backup_file *b = &a->files[i];
        assert_int_equal(test_disk_ops.open(d, b->name, true, &f), 0);
        assert_int_equal(test_disk_ops.allocate(d, f, b->bytes), 0);
        for (uint64_t at = 0; at < b->data_end; at += a->len) {
            read_piece(r, a, i, at, piece);
            if (a->error)
                fail_msg("%s at %llu: %s", b->name, (unsigned long long)at, a->text);
            assert_true(a->len > 0 && a->len <= piece && at + a->len <= b->data_end);
            assert_int_equal(test_disk_ops.write(d, f, at, a->bytes, a->len), 0);
            total += a->len;
            bustle(busy);
        }
        read_piece(r, a, i, b->data_end, piece);
        assert_int_equal(a->len, 0);
        test_disk_ops.sync(d, f);
        test_disk_ops.close(d, f);
    }
    assert_int_equal(total, a->data_bytes);
    return d;
}

struct state { /* of the engine's double, at one moment */
    uint64_t next[TEST_QUEUES];
    uint8_t *live[TEST_QUEUES];
};

static void remember(struct rig *r, struct state *s)
{
    for (uint32_t q = 0; q < TEST_QUEUES; q++) {
        s->next[q] = r->engine->queues[q].exists ? r->engine->queues[q].next : 1;
        s->live[q] = malloc(s->next[q]);
        for (uint64_t seq = 1; seq < s->next[q]; seq++)
            s->live[q][seq] = test_engine_live(r->engine, q, seq);
    }
}

static void on_line(void *arg, bool problem, const char *text)
{
    size_t n = strlen(arg);
    snprintf((char *)arg + n, 8192 - n, "%s%s\n", problem ? "! " : "", text);
}

/* fsck has nothing to say of it, it starts, and it is what was there when it began. */
static void check_copy(struct test_disk *d, struct state *s, uint32_t segment_bytes)
{
    struct fsck_result result;
    char text[8192] = "";
    struct store_report report = {on_line, text};
    struct rig r;
    if (store_fsck(&test_disk_ops, d, false, &report, &result) != BROKER_OK || result.notes)
        fail_msg("fsck of the copy:\n%s", text);
    rig_init(&r, d);
    r.options.segment_bytes = segment_bytes;
    rig_must_open(&r);
    assert_int_equal(r.problems, 0);
    for (uint32_t q = 0; q < TEST_QUEUES; q++) {
        assert_int_equal(r.engine->queues[q].exists ? r.engine->queues[q].next : 1, s->next[q]);
        for (uint64_t seq = 1; seq < s->next[q]; seq++)
            assert_int_equal(test_engine_live(r.engine, q, seq), s->live[q][seq]);
        free(s->live[q]);
    }
    rig_check_all(&r);
    rig_publish_many(&r, 1, 50);
    rig_close(&r);
    rig_must_open(&r);
    rig_check_all(&r);
    rig_release(&r);
}

static void fill(struct rig *r)
{
    rig_publish_many(r, 1, 300);
    for (int i = 0; i < 100; i++) {
        rig_publish_routed(r, 2, 1, 3);
        if (i % 16 == 15)
            rig_step(r);
    }
    rig_settle(r, 1, 1, 250);
    rig_wait(r, 5000); /* cleaned */
    rig_publish_many(r, 1, 40);
}

static void copy_of_a_quiet_store(void **state)
{
    struct rig r;
    struct answer a;
    struct state s;
    rig_init(&r, NULL);
    r.options.segment_bytes = 16 << 10;
    rig_must_open(&r);
    fill(&r);
    remember(&r, &s);
    begin_and_wait(&r, &a);
    assert_int_equal(strncmp(a.names[a.count - 1], "checkpoint-", 11), 0);
    struct test_disk *d = copy_files(&r, &a, 7000, NULL);
    assert_int_equal(store_backup_ops.end(r.store, 5), BROKER_OK);
    check_copy(d, &s, 16 << 10);
    free(a.bytes);
    rig_release(&r);
}

static void new_store_can_be_copied(void **state)
{
    struct rig r;
    struct answer a;
    struct state s;
    rig_init(&r, NULL);
    rig_must_open(&r);
    remember(&r, &s);
    begin_and_wait(&r, &a);
    check_copy(copy_files(&r, &a, 1 << 20, NULL), &s, 64 << 10);
    free(a.bytes);
    rig_release(&r);
}

static int checkpoints(const struct rig *r)
{
    int n = 0;
    for (int i = 0; i < TEST_FILES_MAX; i++)
        n += r->disk->files[i].used && !strncmp(r->disk->files[i].name, "checkpoint-", 11);
    return n;
}

/* Segments are filled, sealed, cleaned and freed, and checkpoints taken, between the pieces: the copy is what it was. */
static void copy_of_a_busy_store(void **state)
{
    for (uint64_t seed = 1; seed < 6; seed++) {
        struct rig r;
        struct answer a = {0};
        struct state s;
        rig_init(&r, NULL);
        r.seed = seed * 7919;
        r.options.segment_bytes = 16 << 10;
        r.options.checkpoint_bytes = 8 << 10;
        rig_must_open(&r);
        fill(&r);
        for (int i = 0; i < 3; i++)
            rig_publish(&r, 2); /* not even in a closed batch */
        if (seed % 2)
            store_checkpoint(r.store, r.now); /* one is under way that is not the backup's */
        rig_publish_routed(&r, 3, 2, 1);
        begin(&r, &a, 5);
        remember(&r, &s);
        if (seed % 2)
            rig_step(&r); /* nothing is appended until it is taken */
        rig_turn(&r);
        for (int i = 0; i < 50 && !a.begun; i++)
            bustle(&r);
        assert_int_equal(a.begun, 1);
        assert_int_equal(a.error, BROKER_OK);
        struct test_disk *d = copy_files(&r, &a, 3000, &r);
        assert_true(checkpoints(&r) > 2);
        assert_int_equal(store_backup_ops.end(r.store, 5), BROKER_OK);
        rig_wait(&r, 5000);
        assert_int_equal(checkpoints(&r), 2);
        check_copy(d, &s, 16 << 10);
        rig_check_all(&r);
        free(a.bytes);
        rig_release(&r);
    }
}

static uint64_t segments(struct rig *r)
{
    struct store_stats stats;
    store_engine_ops.stats(r->store, &stats);
    return stats.segments;
}

static void kept_while_open_and_freed_after(void **state)
{
    struct rig r;
    struct answer a;
    rig_init(&r, NULL);
    r.options.segment_bytes = 16 << 10;
    rig_must_open(&r);
    rig_publish_many(&r, 1, 800);
    begin_and_wait(&r, &a);
    rig_settle(&r, 1, 1, 800);
    rig_wait(&r, 20000);
    assert_true(segments(&r) > 8);
    for (uint32_t i = 0; i < a.count; i++)
        assert_non_null(test_disk_find(r.disk, a.names[i]));
    store_backup_ops.end(r.store, 5);
    rig_wait(&r, 5000);
    assert_true(segments(&r) <= 3);
    assert_int_equal(checkpoints(&r), 2);
    rig_close(&r);
    rig_must_open(&r);
    assert_int_equal(r.problems, 0);
    rig_release(&r);
}

/* Whoever falls silent pins nothing for ever; whoever reads slowly is left alone. */
static void idle_backup_ends(void **state)
{
    struct rig r;
    struct answer a;
    rig_init(&r, NULL);
    r.options.segment_bytes = 16 << 10;
    rig_must_open(&r);
    rig_publish_many(&r, 1, 400);
    begin_and_wait(&r, &a);
    rig_settle(&r, 1, 1, 400);
    for (int i = 0; i < 4; i++) {
        r.now.mono.ms += BACKUP_IDLE_MS - 1000;
        rig_step(&r);
        read_piece(&r, &a, 0, 0, 100);
        assert_int_equal(a.error, BROKER_OK);
    }
    rig_wait(&r, 3000);
    assert_true(segments(&r) > 5);
    r.now.mono.ms += BACKUP_IDLE_MS;
    rig_step(&r);
    read_piece(&r, &a, 0, 0, 100);
    assert_int_equal(a.error, BROKER_REFUSED);
    rig_wait(&r, 5000);
    assert_true(segments(&r) <= 3);
    assert_int_equal(store_backup_ops.end(r.store, 5), BROKER_REFUSED);
    free(a.bytes);
    begin_and_wait(&r, &a);
    rig_release(&r);
}

static void one_at_a_time_and_only_its_owners(void **state)
{
    struct rig r;
    struct answer a = {0}, b = {0};
    rig_init(&r, NULL);
    rig_must_open(&r);
    begin(&r, &a, 5);
    begin(&r, &b, 6);
    assert_int_equal(b.begun, 1);
    assert_int_equal(b.error, BROKER_LIMIT_REACHED);
    read_piece(&r, &a, 0, 0, 10); /* not begun yet */
    assert_int_equal(a.error, BROKER_REFUSED);
    assert_int_equal(store_backup_ops.end(r.store, 6), BROKER_REFUSED);
    assert_int_equal(a.begun, 0);
    assert_int_equal(store_backup_ops.end(r.store, 5), BROKER_OK);
    assert_int_equal(a.begun, 1);
    assert_int_equal(a.error, BROKER_CANCELLED);
    rig_idle(&r);
    free(a.bytes);
    begin_and_wait(&r, &a);
    store_backup_ops.read(r.store, (struct backup_asker){6, 0}, 0, 0, 10, on_bytes, &b);
    assert_int_equal(b.error, BROKER_REFUSED);
    read_piece(&r, &a, a.count, 0, 10);
    assert_int_equal(a.error, BROKER_INVALID_ARGUMENT);
    read_piece(&r, &a, 0, a.files[0].data_end + 1, 10);
    assert_int_equal(a.error, BROKER_INVALID_ARGUMENT);
    for (int i = 0; i <= BACKUP_READS_MAX; i++)
        store_backup_ops.read(r.store, (struct backup_asker){5, 0}, 0, 0, 10, on_bytes, &a);
    assert_int_equal(a.error, BROKER_OVERLOADED);
    store_backup_ops.end(r.store, 5); /* with reads under way */
    int before = a.read;
    rig_idle(&r);
    assert_int_equal(a.read, before + BACKUP_READS_MAX);
    assert_int_equal(a.error, BROKER_OK);
    free(a.bytes);
    free(b.bytes);
    rig_release(&r);
}

/* Each allocation and each call of the disk fails once in turn: an error, or a copy that is right. */
static void failures_are_told(void **state)
{
    for (int kind = 0; kind < 2; kind++) {
        for (uint64_t n = 1; n < 60; n++) {
            struct rig r;
            struct answer a = {0};
            rig_init(&r, NULL);
            rig_must_open(&r);
            rig_publish_many(&r, 1, 20);
            rig_idle(&r);
            test_alloc_calls = 0;
            test_alloc_fail_at = kind == 0 ? n : 0;
            r.disk->fail_at = kind == 1 ? r.disk->calls + n : 0;
            r.disk->fail_error = EIO;
            begin(&r, &a, 5);
            for (int i = 0; i < 3000 && !a.begun; i++) {
                r.now.mono.ms += 10;
                rig_step(&r);
            }
            assert_int_equal(a.begun, 1);
            for (uint32_t i = 0; i < a.count && !a.error && !r.fatal; i++)
                read_piece(&r, &a, i, 0, 100000);
            test_alloc_fail_at = 0;
            if (a.error)
                assert_true(a.error == BROKER_NO_MEMORY || a.error == BROKER_IO);
            store_backup_ops.end(r.store, 5);
            if (!r.fatal) {
                rig_idle(&r);
                rig_check_all(&r);
            }
            free(a.bytes);
            rig_release(&r);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copy_of_a_quiet_store), cmocka_unit_test(new_store_can_be_copied),
        cmocka_unit_test(copy_of_a_busy_store),  cmocka_unit_test(kept_while_open_and_freed_after),
        cmocka_unit_test(idle_backup_ends),      cmocka_unit_test(one_at_a_time_and_only_its_owners),
        cmocka_unit_test(failures_are_told),
    };
    return cmocka_run_group_tests_name("store backups", tests, NULL, NULL);
}
