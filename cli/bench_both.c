/*
 * broker bench both: a producer and a consumer, two handles in one loop. Each body begins with the time at which the
 * message was to be sent, so that with --rate a broker that falls behind shows in the latencies (no coordinated
 * omission).
 */
#include "bench.h"

#include <inttypes.h>
#include <string.h>

struct both {
    struct bench *bench;
    broker *consumer;
    uint64_t start_ns, counted_from_ns; /* messages sent between the two are warm-up */
    uint64_t received;
    uint64_t counted, published; /* of those sent since */
    uint64_t unconfirmed;
};

static struct both *running;

static void on_confirm(void *arg, broker_error error, const broker_publish_result *result)
{
    struct both *r = running;
    r->unconfirmed--;
    if (error != BROKER_OK)
        bench_fail(r->bench, error, broker_error_text(r->bench->cli->broker));
}

static void on_message(void *arg, broker_subscription *s, const broker_msg *m)
{
    struct both *r = arg;
    size_t len;
    uint64_t sent_ns = 0;
    const void *body = broker_msg_body(m, &len);
    if (len >= sizeof sent_ns)
        memcpy(&sent_ns, body, sizeof sent_ns);
    broker_ack(r->consumer, m);
    if (sent_ns < r->start_ns || sent_ns > r->bench->now_ns)
        return; /* none of ours: the queue was not empty */
    r->received++;
    if (sent_ns < r->counted_from_ns)
        return; /* warm-up */
    r->counted++;
    bench_latency_add(r->bench, r->bench->now_ns - sent_ns);
}

static void on_end(void *arg, broker_subscription *s, broker_error error, const char *text)
{
    struct both *r = arg;
    bench_fail(r->bench, error, text);
}

/* Publish what is due at now, as far as the window goes; the wait until the next one is due. */
static uint64_t publish_due(struct both *r, uint64_t phase_ns, uint64_t *phase_sent, uint64_t limit)
{
    struct bench *t = r->bench;
    uint64_t rate = t->options->rate.value;
    broker_publish_options how = {.size = sizeof how, .sync = cli_sync(t->options->sync)};
    while (*phase_sent < limit && r->unconfirmed < t->options->window.value) {
        uint64_t stamp = t->now_ns;
        if (rate > 0) {
            stamp = phase_ns + (uint64_t)((unsigned __int128)*phase_sent * 1000000000u / rate);
            if (stamp > t->now_ns)
                return stamp - t->now_ns;
        }
        memcpy(t->body, &stamp, sizeof stamp);
        broker_error error = broker_publish_async(t->cli->broker, t->queue, &t->message, &how, on_confirm, NULL);
        if (error == BROKER_OUTBOX_FULL)
            break;
        if (error != BROKER_OK) {
            bench_fail(t, error, broker_error_text(t->cli->broker));
            break;
        }
        r->unconfirmed++;
        t->sent++;
        (*phase_sent)++;
    }
    return UINT64_MAX;
}

static void run_phase(struct both *r, uint64_t duration_ns, uint64_t limit)
{
    struct bench *t = r->bench;
    uint64_t phase_ns = t->now_ns = machine_now_ns(), phase_sent = 0;
    while (t->error == BROKER_OK && !cli_interrupted && phase_sent < limit && t->now_ns - phase_ns < duration_ns) {
        uint64_t wait_ns = publish_due(r, phase_ns, &phase_sent, limit);
        broker_process(t->cli->broker, 0);
        bench_turn(t, t->cli->broker, r->consumer, wait_ns);
        bench_progress(t, r->received, "consumed");
    }
    r->published = phase_sent;
}

/* Until everything sent has been consumed, and the acks are answered. */
static void drain(struct both *r, uint64_t received_target)
{
    struct bench *t = r->bench;
    uint64_t last_ns = t->now_ns, last = r->received;
    while (t->error == BROKER_OK && !cli_interrupted && (r->unconfirmed > 0 || r->received < received_target)) {
        bench_turn(t, t->cli->broker, r->consumer, UINT64_MAX);
        if (r->received != last)
            last_ns = t->now_ns;
        else if (t->now_ns - last_ns > t->cli->common.timeout_ms.value * 1000000u)
            bench_stalled(t, r->consumer, "not everything published was delivered within --timeout");
        last = r->received;
    }
    if (t->error == BROKER_OK && broker_flush(r->consumer) != BROKER_OK)
        bench_fail(t, BROKER_TIMEOUT, broker_error_text(r->consumer));
}

static void measure(struct both *r, struct bench_report *report)
{
    struct bench *t = r->bench;
    const struct bench_options *o = t->options;
    if (o->warmup_ms.value > 0)
        run_phase(r, o->warmup_ms.value * 1000000u, UINT64_MAX);
    drain(r, t->sent);
    t->latency = (struct histogram){0};
    bench_sample_take(t, &report->before);
    r->counted_from_ns = t->now_ns;
    run_phase(r, o->count.given ? UINT64_MAX : o->seconds_ms.value * 1000000u,
              o->count.given ? o->count.value : UINT64_MAX);
    uint64_t published_ns = machine_now_ns();
    drain(r, t->sent);
    bench_latency_flush(t);
    bench_sample_take(t, &report->after);
    report->messages = r->counted;
    report->latency = &t->latency;
    report->extra_rate = (double)r->published * 1e9 / (double)(published_ns - report->before.now_ns);
}

enum cli_exit bench_run_both(struct cli *cli, const void *options, int count, char **operands)
{
    static struct bench bench; /* large: a histogram */
    static struct both both;   /* what was not confirmed is cancelled when the handle is closed, after this */
    const struct bench_options *o = options;
    struct bench *t = &bench;
    struct both *r = &both;
    struct cli second = {.common = cli->common, .command = cli->command};
    struct bench_report report = {.mode = "both",
                                  .counted = "published, consumed and acked",
                                  .latency_name = "end_to_end",
                                  .extra_name = "publishing"};
    running = r;
    *r = (struct both){.bench = t, .counted_from_ns = UINT64_MAX};
    enum cli_exit code = bench_open(t, cli, o, false);
    if (code == CLI_OK)
        code = cli_connect(&second, NULL);
    if (code == CLI_OK) {
        r->consumer = second.broker;
        r->start_ns = machine_now_ns();
        broker_subscribe_options how = {
            .size = sizeof how, .group = o->group, .credit_messages = (uint32_t)o->credit.value};
        broker_subscription *subscription;
        broker_error error = broker_subscribe(r->consumer, t->queue, &how, on_message, on_end, r, &subscription);
        if (error != BROKER_OK)
            bench_fail(t, error, broker_error_text(r->consumer));
        else
            measure(r, &report);
        code = bench_report_print(t, &report);
    }
    if (second.broker)
        broker_close(second.broker);
    bench_close(t);
    return code;
}
