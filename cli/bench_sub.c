/* broker bench sub: consume and ack a backlog; the clock stops when the last ack is answered, which means durable. */
#include "bench.h"

#include <inttypes.h>

struct consumer {
    struct bench *bench;
    uint64_t received, wanted;
};

static void on_message(void *arg, broker_subscription *s, const broker_msg *m)
{
    struct consumer *c = arg;
    if (c->received < c->wanted && broker_ack(c->bench->cli->broker, m) == BROKER_OK)
        c->received++;
}

static void on_end(void *arg, broker_subscription *s, broker_error error, const char *text)
{
    struct consumer *c = arg;
    bench_fail(c->bench, error, text);
}

static void consume(struct bench *t, struct consumer *c)
{
    broker *b = t->cli->broker;
    const struct bench_options *o = t->options;
    broker_subscribe_options how = {.size = sizeof how,
                                    .group = o->group,
                                    .credit_messages = (uint32_t)o->credit.value,
                                    .credit_bytes = o->credit.value * (o->size.value + 128)};
    broker_subscription *subscription;
    broker_error error = broker_subscribe(b, t->queue, &how, on_message, on_end, c, &subscription);
    if (error != BROKER_OK) {
        bench_fail(t, error, broker_error_text(b));
        return;
    }
    uint64_t last_ns = machine_now_ns();
    while (c->received < c->wanted && t->error == BROKER_OK && !cli_interrupted) {
        uint64_t before = c->received;
        bench_turn(t, b, NULL, UINT64_MAX);
        if (c->received != before)
            last_ns = t->now_ns;
        else if (t->now_ns - last_ns > t->cli->common.timeout_ms.value * 1000000u)
            bench_stalled(t, b, "nothing came within --timeout");
        bench_progress(t, c->received, "consumed");
    }
    error = broker_flush(b);
    if (error != BROKER_OK)
        bench_fail(t, error, broker_error_text(b));
    if (broker_settle_failures(b) > 0)
        bench_fail(t, BROKER_STALE_RECEIPT, "acks were refused: leases ran out during the run");
    broker_unsubscribe(subscription); /* the queue's deletion is no end to tell */
}

enum cli_exit bench_run_sub(struct cli *cli, const void *options, int count, char **operands)
{
    static struct bench bench; /* large: a histogram */
    const struct bench_options *o = options;
    struct bench *t = &bench;
    struct consumer c = {.bench = t, .wanted = o->count.value};
    struct bench_report r = {.mode = "sub", .counted = "consumed and acked"};
    if (o->no_fill && !o->queue)
        return cli_complain(cli, CLI_USAGE, "--no-fill needs --queue: which one to consume from");
    enum cli_exit code = bench_open(t, cli, o, false);
    if (code == CLI_OK) {
        if (!o->no_fill)
            bench_publish(t, 8192, o->count.value, UINT64_MAX, BROKER_SYNC_INTERVAL);
        if (bench_sample_take(t, &r.before) && !cli_interrupted)
            consume(t, &c);
        r.messages = c.received;
        bench_sample_take(t, &r.after);
        code = bench_report_print(t, &r);
    }
    bench_close(t);
    return code;
}
