/* The store on real files with real threads: what comes back is what was confirmed; a failed sync is told once and is final. */
#include "test/rig.h"

#include <poll.h>
#include <stdatomic.h>
#include <unistd.h>

struct live {
    char path[64];
    const struct disk_ops *ops;
    struct disk_ops wrapped;
    void *disk;
    struct store_threads *threads;
    struct store *store;
    struct engine *engine;
    int wake[2];
    uint64_t ms;
    int fatals;
};

static atomic_bool syncs_fail;
static int (*real_sync)(void *disk, struct file *f);

static int failing_sync(void *disk, struct file *f)
{
    return syncs_fail ? EIO : real_sync(disk, f);
}

static void notify(void *arg)
{
    assert_int_equal(write(((struct live *)arg)->wake[1], "", 1), 1);
}

static void on_fatal(void *arg, const char *text)
{
    ((struct live *)arg)->fatals++;
}

static struct now now(const struct live *l)
{
    return (struct now){{l->ms}, {1700000000000 + l->ms}};
}

static void begin(struct live *l)
{
    struct store_options options = {
        .segment_bytes = 128 << 10, .tail_cache_bytes = 64 << 10, .read_cache_bytes = 256 << 10};
    assert_int_equal(pipe(l->wake), 0);
    assert_int_equal(disk_posix_open(l->path, true, &l->ops, &l->disk), 0);
    l->wrapped = *l->ops;
    real_sync = l->ops->sync;
    l->wrapped.sync = failing_sync;
    l->threads = store_threads_new(&l->wrapped, l->disk, notify, l);
    assert_non_null(l->threads);
    struct store_host host = {.disk_ops = &l->wrapped,
                              .disk = l->disk,
                              .writer_ops = store_threads_writer_ops(),
                              .writer = l->threads,
                              .worker_ops = store_threads_worker_ops(),
                              .workers = l->threads,
                              .fatal = on_fatal,
                              .fatal_arg = l};
    assert_int_equal(store_new(&options, &host, &l->store), BROKER_OK);
    l->engine = engine_new(NULL, &store_engine_ops, l->store, NULL, NULL);
    assert_int_equal(store_open(l->store, l->engine, now(l), NULL), BROKER_OK);
}

static void turn(struct live *l)
{
    store_flush(l->store, now(l));
    store_end_turn(l->store);
    store_tick(l->store, now(l));
}

/* Wait for the threads to have something, and take it. */
static void collect(struct live *l)
{
    char bytes[16];
    struct pollfd p = {.fd = l->wake[0], .events = POLLIN};
    assert_int_equal(poll(&p, 1, 20000), 1);
    assert_true(read(l->wake[0], bytes, sizeof bytes) > 0);
    l->ms++;
    store_threads_collect(l->threads, l->store, now(l));
}

static void quiet(struct live *l)
{
    for (turn(l); store_busy(l->store); turn(l))
        collect(l);
}

static void end(struct live *l)
{
    quiet(l);
    store_threads_free(l->threads);
    store_free(l->store);
    engine_free(l->engine);
    disk_posix_close(l->disk);
    close(l->wake[0]);
    close(l->wake[1]);
}

static void publish(struct live *l, uint32_t queue)
{
    uint8_t record[512];
    const char *text;
    uint64_t index, seq = l->engine->queues[queue].exists ? l->engine->queues[queue].next : 1;
    uint32_t length = rig_record(record, sizeof record, queue, seq, now(l).wall.ms, rig_body_len(queue, seq));
    enum durability durability = seq % 5 ? DURABILITY_SYNCED : DURABILITY_WRITTEN;
    assert_int_equal(store_engine_ops.append(l->store, record, length, durability, &index), BROKER_OK);
    engine_replay(l->engine, record, &text);
}

static void read_all(struct live *l, uint32_t queue, uint64_t from)
{
    struct stored_message out[64];
    while (from < l->engine->queues[queue].next) {
        uint32_t count;
        uint64_t damaged;
        enum read_status status =
            store_engine_ops.read(l->store, queue, from, UINT64_MAX, 64, 1 << 20, out, &count, &damaged);
        if (status == READ_PENDING) {
            turn(l);
            collect(l);
            continue;
        }
        assert_int_equal(status, READ_OK);
        for (uint32_t i = 0; i < count; i++) {
            assert_int_equal(out[i].seq, from++);
            assert_true(record_intact(out[i].record, out[i].padded_len));
            assert_int_equal(record_seq(out[i].record), out[i].seq);
        }
    }
}

static void remove_all(struct live *l)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", l->path);
    assert_int_equal(system(command), 0);
}

/* Every sync was measured. */
static void check_measured(struct live *l)
{
    struct store_stats stats;
    uint64_t counted = 0;
    store_engine_ops.stats(l->store, &stats);
    for (int i = 0; i <= HISTOGRAM_BOUNDS; i++)
        counted += stats.sync_us.counts[i];
    assert_true(stats.syncs > 0);
    assert_int_equal(stats.sync_us.count, stats.syncs);
    assert_int_equal(counted, stats.syncs);
    assert_true(stats.sync_us.max_us > 0 && stats.sync_us.sum_us >= stats.sync_us.max_us);
}

static void writes_and_reads(void **state)
{
    struct live l = {.path = "/tmp/store-threads-XXXXXX", .ms = 1000};
    assert_non_null(mkdtemp(l.path));
    begin(&l);
    for (int i = 0; i < 10000; i++) {
        publish(&l, 1 + i % 3);
        if (i % 50 == 49)
            turn(&l);
        if (i % 400 == 399) {
            collect(&l);
            test_engine_settle(l.engine, 3, 1, l.engine->queues[3].next / 2); /* lost with the crash: that is allowed */
        }
    }
    quiet(&l);
    check_measured(&l);
    read_all(&l, 1, 1);
    read_all(&l, 2, 1);
    end(&l);
    begin(&l); /* without a checkpoint at the end */
    assert_int_equal(l.engine->queues[1].next, 3335);
    read_all(&l, 1, 1);
    quiet(&l);
    store_checkpoint(l.store, now(&l));
    end(&l);
    begin(&l);
    assert_int_equal(l.engine->replayed, 0);
    read_all(&l, 2, 1);
    end(&l);
    assert_int_equal(l.fatals, 0);
    remove_all(&l);
}

static void failed_sync_is_final(void **state)
{
    struct live l = {.path = "/tmp/store-threads-XXXXXX", .ms = 1000};
    assert_non_null(mkdtemp(l.path));
    begin(&l);
    publish(&l, 1);
    quiet(&l);
    uint64_t durable = l.engine->durable;
    syncs_fail = true;
    publish(&l, 1);
    turn(&l);
    while (!l.fatals)
        collect(&l);
    assert_int_equal(l.engine->durable, durable);
    syncs_fail = false;
    end(&l);
    assert_int_equal(l.fatals, 1);
    remove_all(&l);
}

static void a_directory_has_one_user(void **state)
{
    struct live l = {.path = "/tmp/store-threads-XXXXXX", .ms = 1000};
    const struct disk_ops *ops;
    void *disk;
    struct fsck_result result;
    assert_non_null(mkdtemp(l.path));
    begin(&l);
    assert_int_equal(disk_posix_open(l.path, false, &ops, &disk), 0);
    assert_int_equal(ops->lock(disk), EWOULDBLOCK);
    assert_int_equal(store_fsck(ops, disk, false, NULL, &result), BROKER_IO);
    end(&l);
    assert_int_equal(store_fsck(ops, disk, false, NULL, &result), BROKER_OK);
    disk_posix_close(disk);
    remove_all(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_and_reads),
        cmocka_unit_test(failed_sync_is_final),
        cmocka_unit_test(a_directory_has_one_user),
    };
    return cmocka_run_group_tests_name("store threads", tests, NULL, NULL);
}
