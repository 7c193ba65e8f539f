/* broker bench pub: one producer with exactly `window` messages unconfirmed. */
#include "bench.h"

enum cli_exit bench_run_pub(struct cli *cli, const void *options, int count, char **operands)
{
    static struct bench bench; /* large: a histogram */
    const struct bench_options *o = options;
    struct bench *t = &bench;
    struct bench_report r = {.mode = "pub", .counted = "published and confirmed", .latency_name = "latency"};
    enum cli_exit code = bench_open(t, cli, o, true);
    if (code == CLI_OK) {
        broker_sync sync = cli_sync(o->sync);
        if (o->warmup_ms.value > 0)
            bench_publish(t, o->window.value, UINT64_MAX - t->sent, o->warmup_ms.value * 1000000u, sync);
        t->latency = (struct histogram){0};
        bench_sample_take(t, &r.before);
        uint64_t before = t->confirmed;
        uint64_t wanted = o->count.given ? o->count.value : UINT64_MAX - t->sent;
        uint64_t duration_ns = o->count.given ? UINT64_MAX : o->seconds_ms.value * 1000000u;
        bench_publish(t, o->window.value, wanted, duration_ns, sync);
        r.messages = t->confirmed - before;
        r.latency = &t->latency;
        bench_sample_take(t, &r.after);
        code = bench_report_print(t, &r);
    }
    bench_close(t);
    return code;
}
