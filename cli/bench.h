/*
 * Owns:            measuring a broker: what every kind of run shares.
 * May use:         cli.h, histogram, machine.
 * Never knows:     the daemon's insides: it reads the counters that anyone can read.
 * Start reading at struct bench; bench_pub.c is the simplest run.
 */
#ifndef CLI_BENCH_H
#define CLI_BENCH_H

#include "cli.h"
#include "histogram.h"
#include "machine.h"

struct bench_options {
    const char *queue, *group;
    struct arg_number size, count, seconds_ms, window, warmup_ms, credit, rate;
    int sync;
    bool keep, no_fill;
};

/* Everything read at one moment. */
struct bench_sample {
    uint64_t now_ns, client_cpu_us;
    broker_stats stats;
    struct machine_sample machine;
};

struct bench {
    struct cli *cli;
    const struct bench_options *options;
    char queue[64];
    bool publishes_only;
    bool created; /* by us: deleted in the end */
    void *body;
    broker_message message;

    uint64_t now_ns; /* read once a turn of the loop; all stamps are this */
    uint64_t progress_ns, progress_count;
    bool draws_progress;

    /* Publishing. */
    uint64_t sent, confirmed;
    struct histogram latency;
    uint64_t run_latency, run_length; /* equal latencies not yet in the histogram: a batch is one entry */

    /* The first failure. */
    broker_error error;
    char error_text[512];
};

struct bench_report {
    const char *mode;
    const char *counted; /* what one of the messages counted went through */
    const char *latency_name;
    uint64_t messages;
    struct bench_sample before, after;
    const struct histogram *latency; /* nanoseconds; NULL: none */
    double extra_rate;               /* a second figure; 0: none */
    const char *extra_name;
};

/* publishes_only: the queue made for the run keeps the last 128 MiB (log retention). */
enum cli_exit bench_open(struct bench *t, struct cli *cli, const struct bench_options *o, bool publishes_only);
void bench_close(struct bench *t);
void bench_fail(struct bench *t, broker_error error, const char *text);
/* Nothing moves: `what`, or that the connection is gone. */
void bench_stalled(struct bench *t, const broker *b, const char *what);
bool bench_sample_take(struct bench *t, struct bench_sample *s);
void bench_progress(struct bench *t, uint64_t count, const char *what);
enum cli_exit bench_report_print(struct bench *t, const struct bench_report *r);

/*
 * bench_publish: keep `window` unconfirmed until `count` are sent or `duration_ns` is over, then wait for the
 * confirms.
 */
void bench_publish(struct bench *t, uint64_t window, uint64_t count, uint64_t duration_ns, broker_sync sync);
/* Put a latency among the others; bench_latency_flush before reading the histogram. */
void bench_latency_add(struct bench *t, uint64_t ns);
void bench_latency_flush(struct bench *t);
/* One poll on up to two handles, at most wait_ns; then broker_process on each. */
void bench_turn(struct bench *t, broker *one, broker *two, uint64_t wait_ns);

command_fn bench_run_pub, bench_run_sub, bench_run_both;

#endif
