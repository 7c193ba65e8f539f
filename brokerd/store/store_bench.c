/* How fast the store is without sockets and engine: append, read and dead, start-up. Prints numbers; not a test of them. */
#include "test/rig.h"

#include <time.h>
#include <unistd.h>

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Of this thread: what the loop itself spends, whatever else the machine does. */
static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static long resident_kib(void)
{
    long pages = 0, ignored = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f && fscanf(f, "%ld %ld", &ignored, &pages) != 2)
        pages = 0;
    if (f)
        fclose(f);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

struct bench {
    const struct disk_ops *ops;
    void *disk;
    struct store *store;
    struct engine *engine;
    struct store_threads *threads;
    int wake[2];
};

static void notify(void *arg)
{
    struct bench *b = arg;
    if (write(b->wake[1], "", 1) < 0)
        abort();
}

static void on_fatal(void *arg, const char *text)
{
    fprintf(stderr, "fatal: %s\n", text);
    exit(1);
}

static void on_line(void *arg, bool problem, const char *text)
{
    printf("  %s\n", text);
}

static struct now now(void)
{
    return (struct now){{(uint64_t)(seconds() * 1000)}, {1700000000000 + (uint64_t)(seconds() * 1000)}};
}

static void start(struct bench *b, const char *path)
{
    struct store_options options = {0};
    if (pipe(b->wake) || disk_posix_open(path, true, &b->ops, &b->disk))
        exit(1);
    b->threads = store_threads_new(b->ops, b->disk, notify, b);
    struct store_host host = {
        b->ops,   b->disk, store_threads_writer_ops(), b->threads, store_threads_worker_ops(), b->threads,
        on_fatal, NULL};
    struct store_report report = {on_line, NULL};
    double from = seconds();
    if (store_new(&options, &host, &b->store))
        exit(1);
    b->engine = engine_new(NULL, &store_engine_ops, b->store, NULL, NULL);
    if (store_open(b->store, b->engine, now(), &report))
        exit(1);
    printf("start-up: %.1f ms, resident %ld KiB\n", (seconds() - from) * 1000, resident_kib());
}

static void collect(struct bench *b)
{
    char bytes[64];
    if (read(b->wake[0], bytes, sizeof bytes) > 0)
        store_threads_collect(b->threads, b->store, now());
}

static void turn(struct bench *b)
{
    store_flush(b->store, now());
    store_end_turn(b->store);
    store_tick(b->store, now());
}

static void stop(struct bench *b)
{
    do {
        turn(b);
        if (store_busy(b->store))
            collect(b);
    } while (store_busy(b->store));
    store_threads_free(b->threads);
    store_free(b->store);
    engine_free(b->engine);
    disk_posix_close(b->disk);
    close(b->wake[0]);
    close(b->wake[1]);
}

static void bench_append(struct bench *b, uint64_t messages, uint64_t window)
{
    uint8_t record[256];
    uint64_t index = 0;
    uint32_t length = rig_record(record, sizeof record, 1, 1, 1700000000000, 128);
    double from = seconds(), in_append = 0;
    for (uint64_t n = 0; n < messages;) {
        double begun = cpu_seconds();
        for (uint64_t i = 0; i < window && n < messages; i++) {
            put_u64(record + 16, ++n);
            broker_error error = store_engine_ops.append(b->store, record, length, DURABILITY_SYNCED, &index);
            if (error) {
                fprintf(stderr, "append: %s\n", broker_error_name(error));
                exit(1);
            }
        }
        in_append += cpu_seconds() - begun;
        turn(b);
        while (b->engine->durable < index)
            collect(b);
    }
    double all = seconds() - from;
    printf("append, %llu at a time, each synced: %.0f/s, %.1f ns in append; resident %ld KiB\n",
           (unsigned long long)window, (double)messages / all, in_append * 1e9 / (double)messages, resident_kib());
}

static void bench_read(struct bench *b, uint64_t messages)
{
    struct stored_message out[64];
    uint32_t count;
    uint64_t next = 1, damaged;
    double from = seconds(), in_read = 0;
    while (next <= messages) {
        double begun = cpu_seconds();
        enum read_status status =
            store_engine_ops.read(b->store, 1, next, messages, 64, 1 << 20, out, &count, &damaged);
        if (status == READ_OK) {
            store_engine_ops.dead(b->store, 1, next, next + count - 1);
            next += count;
        }
        in_read += cpu_seconds() - begun;
        if (status == READ_PENDING) {
            turn(b);
            collect(b);
        } else if (status != READ_OK) {
            fprintf(stderr, "read: %d\n", status);
            exit(1);
        }
        if (next % 1024 < 64)
            turn(b);
    }
    printf("read and dead: %.0f/s, %.1f ns on the loop; resident %ld KiB\n", (double)messages / (seconds() - from),
           in_read * 1e9 / (double)messages, resident_kib());
}

int main(int argc, char **argv)
{
    const char *path = argc > 1 ? argv[1] : NULL;
    uint64_t messages = argc > 2 ? strtoull(argv[2], NULL, 10) : 1000000;
    uint64_t window = argc > 3 ? strtoull(argv[3], NULL, 10) : 2048;
    struct bench b = {0};
    if (!path) {
        fprintf(stderr, "usage: store_bench DIRECTORY [MESSAGES] [WINDOW]; the directory must be new.\n");
        return 2;
    }
    start(&b, path);
    bench_append(&b, messages, window);
    stop(&b);
    start(&b, path); /* with a backlog */
    bench_read(&b, messages);
    stop(&b);
    return 0;
}
