/* The io_uring writer on a real directory: what it confirms is there after a start, and what fails is never confirmed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "store.h"
#include "wire.h"

enum { MESSAGES = 3000, BODY_MAX = 9000, WAIT_MS = 10000 };

struct rig {
    char dir[64];
    const struct disk_ops *disk_ops;
    void *disk;
    struct store_uring *uring;
    struct store *store;
    struct engine *engine;
    struct now now;
    struct job *jobs, **jobs_end;
    uint64_t confirmed, refused, delivered, problems;
    bool failed;
};

static uint64_t state = 88172645463325252u;

static uint64_t next_random(void) /* xorshift64: Marsaglia, Xorshift RNGs, 2003 */
{
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

static void submit_job(void *workers, struct job *j)
{
    struct rig *r = workers;
    j->next = NULL;
    *r->jobs_end = j;
    r->jobs_end = &j->next;
}

static const struct worker_ops WORKERS = {.submit = submit_job};

static void on_fatal(void *arg, const char *text)
{
    ((struct rig *)arg)->failed = true;
}

static void on_complete(void *sink, const struct completion *c)
{
    struct rig *r = sink;
    assert_int_equal(c->error, BROKER_OK);
    for (size_t i = 0; c->type == COMMAND_PUBLISH && i < c->u.publish.count; i++) {
        *(c->u.publish.results[i].error ? &r->refused : &r->confirmed) += c->u.publish.results[i].count;
    }
}

/* The body of message n is n's last byte, over and over; its length depends on n alone. */
static size_t body_of(uint64_t n, uint8_t body[BODY_MAX])
{
    size_t len = (size_t)(n * 7919 % 100 < 5 ? n * 7919 % BODY_MAX : n * 7919 % 300);
    memset(body, (int)(n & 0xff), len);
    return len;
}

static bool on_deliver(void *sink, const struct delivery *d)
{
    struct rig *r = sink;
    for (uint32_t i = 0; i < d->count; i++) {
        struct record_view view;
        uint8_t body[BODY_MAX];
        assert_true(record_intact(d->messages[i].record, d->messages[i].padded_len));
        assert_int_equal(record_view_get(d->messages[i].record, d->messages[i].padded_len, &view), BROKER_OK);
        assert_int_equal(d->messages[i].seq, ++r->delivered);
        assert_int_equal(view.body_len, body_of(d->messages[i].seq, body));
        assert_memory_equal(view.body, body, view.body_len);
    }
    return true;
}

static void on_ended(void *sink, struct token token, broker_error error, const char *text)
{
    fail_msg("subscription ended: %s", text);
}

static const struct sink_ops SINK = {.complete = on_complete, .deliver = on_deliver, .ended = on_ended};

static void on_line(void *arg, bool problem, const char *text)
{
    struct rig *r = arg;
    r->problems += problem;
    if (problem) {
        print_message("%s\n", text);
    }
}

static void open_all(struct rig *r)
{
    struct store_options options = {.segment_bytes = 1 << 20, .tail_cache_bytes = 256 << 10};
    struct engine_options engine_options = {0};
    assert_int_equal(disk_posix_open(r->dir, true, &r->disk_ops, &r->disk), 0);
    r->uring = store_uring_new();
    assert_non_null(r->uring);
    r->jobs = NULL;
    r->jobs_end = &r->jobs;
    struct store_host host = {.disk_ops = r->disk_ops,
                              .disk = r->disk,
                              .writer_ops = store_uring_writer_ops(),
                              .writer = r->uring,
                              .worker_ops = &WORKERS,
                              .workers = r,
                              .fatal = on_fatal,
                              .fatal_arg = r};
    struct store_report report = {.line = on_line, .arg = r};
    r->now = clock_now();
    assert_int_equal(store_new(&options, &host, &r->store), BROKER_OK);
    r->engine = engine_new(&engine_options, &store_engine_ops, r->store, &SINK, r);
    assert_non_null(r->engine);
    assert_int_equal(store_open(r->store, r->engine, r->now, &report), BROKER_OK);
    assert_int_equal(r->problems, 0);
}

static bool run_jobs(struct rig *r)
{
    struct job *j = r->jobs;
    if (!j) {
        return false;
    }
    r->jobs = j->next;
    if (!r->jobs) {
        r->jobs_end = &r->jobs;
    }
    j->run(j);
    j->done(j);
    return true;
}

static void turn(struct rig *r)
{
    r->now = clock_now();
    engine_tick(r->engine, r->now);
    store_flush(r->store, r->now);
    store_end_turn(r->store);
    store_tick(r->store, r->now);
    run_jobs(r);
    store_uring_collect(r->uring, r->store, r->now);
}

/* Turn until nothing is under way; the ring is watched as the loop would. */
static void settle(struct rig *r)
{
    uint64_t end = clock_now().mono.ms + WAIT_MS;
    do {
        struct pollfd p = {.fd = store_uring_fd(r->uring), .events = POLLIN};
        poll(&p, 1, 1);
        turn(r);
        assert_true(clock_now().mono.ms < end);
    } while (store_busy(r->store) && !r->failed);
    while (run_jobs(r)) {
    }
}

static void close_all(struct rig *r)
{
    while (run_jobs(r)) {
    }
    engine_free(r->engine);
    store_free(r->store);
    store_uring_free(r->uring);
    disk_posix_close(r->disk);
}

static struct command command(enum command_type type)
{
    return (struct command){
        .type = type, .token = {.conn = 1, .correlation = 1, .stream = 1}, .queue = {.bytes = "q", .len = 1}};
}

static void publish(struct rig *r, uint64_t n, broker_sync sync)
{
    uint8_t body[BODY_MAX];
    struct record_spec spec = {.body = body, .body_len = body_of(n, body)};
    uint32_t bytes = record_spec_bytes(&spec);
    uint8_t *record = malloc(bytes);
    record_spec_put(record, &spec);
    struct command c = command(COMMAND_PUBLISH);
    c.u.publish.records = record;
    c.u.publish.len = bytes;
    c.u.publish.sync = sync;
    engine_submit(r->engine, r->now, &c);
    free(record);
}

static int setup(void **test_state)
{
    struct rig *r = calloc(1, sizeof *r);
    const char *base = getenv("TMPDIR");
    snprintf(r->dir, sizeof r->dir, "%s/uring-test-XXXXXX", base && strlen(base) < 32 ? base : "/var/tmp");
    assert_non_null(mkdtemp(r->dir));
    *test_state = r;
    return 0;
}

static int teardown(void **test_state)
{
    struct rig *r = *test_state;
    char text[128];
    snprintf(text, sizeof text, "rm -rf %s", r->dir);
    assert_int_equal(system(text), 0);
    free(r);
    return 0;
}

/* Small and large, synced and not, several turns while one write is under way, over several segments and starts. */
/* Every sync was measured. */
static void check_measured(struct rig *r)
{
    struct store_stats stats;
    uint64_t counted = 0;
    store_engine_ops.stats(r->store, &stats);
    for (int i = 0; i <= HISTOGRAM_BOUNDS; i++) {
        counted += stats.sync_us.counts[i];
    }
    assert_true(stats.syncs > 0);
    assert_int_equal(stats.sync_us.count, stats.syncs);
    assert_int_equal(counted, stats.syncs);
    assert_true(stats.sync_us.max_us > 0 && stats.sync_us.sum_us >= stats.sync_us.max_us);
}

static void test_what_is_confirmed_is_there(void **test_state)
{
    struct rig *r = *test_state;
    for (uint64_t n = 0; n < MESSAGES;) {
        open_all(r);
        struct command c = command(COMMAND_QUEUE_CREATE);
        engine_submit(r->engine, r->now, &c);
        for (uint64_t stop = n + MESSAGES / 3; n < stop;) {
            publish(r, ++n, next_random() % 3 ? BROKER_SYNC_ALWAYS : BROKER_SYNC_NONE);
            if (next_random() % 4 == 0) {
                turn(r);
            }
        }
        settle(r);
        assert_int_equal(r->confirmed, n);
        check_measured(r);
        close_all(r); /* without a checkpoint: as killed */
    }
    open_all(r);
    struct command c = command(COMMAND_SUBSCRIBE);
    engine_submit(r->engine, r->now, &c);
    c = command(COMMAND_CREDIT);
    c.u.credit.messages = MESSAGES + 1;
    c.u.credit.bytes = 1 << 30;
    engine_submit(r->engine, r->now, &c);
    uint64_t end = clock_now().mono.ms + WAIT_MS;
    while (r->delivered < MESSAGES && clock_now().mono.ms < end) {
        turn(r);
    }
    assert_int_equal(r->delivered, MESSAGES);
    settle(r);
    close_all(r);
}

/* A write that fails: said once, and nothing that it covered is confirmed. */
static void test_failed_write_confirms_nothing(void **test_state)
{
    struct rig *r = *test_state;
    struct rlimit before, low;
    open_all(r);
    struct command c = command(COMMAND_QUEUE_CREATE);
    engine_submit(r->engine, r->now, &c);
    publish(r, 1, BROKER_SYNC_ALWAYS);
    settle(r);
    assert_int_equal(r->confirmed, 1);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before);
    low = before;
    low.rlim_cur = 4096; /* no byte of the log may be written any more */
    setrlimit(RLIMIT_FSIZE, &low);
    publish(r, 2, BROKER_SYNC_ALWAYS);
    settle(r);
    publish(r, 3, BROKER_SYNC_ALWAYS);
    turn(r);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_true(r->failed);
    assert_int_equal(r->confirmed, 1);
    close_all(r);
}

int main(void)
{
    struct store_uring *probe = store_uring_new();
    if (!probe) {
        print_message("no io_uring here (%s): the thread writes the log\n", strerror(errno));
        return 0;
    }
    store_uring_free(probe);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_is_confirmed_is_there, setup, teardown),
        cmocka_unit_test_setup_teardown(test_failed_write_confirms_nothing, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
