/* The figures of a run, for people and as JSON. */
#include "bench.h"

#include <inttypes.h>
#include <string.h>

static const struct {
    const char *name, *key;
    double percent;
} percentiles[] = {{"p50", "p50_us", 50}, {"p90", "p90_us", 90}, {"p99", "p99_us", 99}, {"p99.9", "p999_us", 99.9}};
#define PERCENTILES (sizeof percentiles / sizeof *percentiles)

struct figures {
    double seconds, rate, broker_cpu_per_million, client_cpu_per_million, syncs_per_second, other_share;
    uint64_t syncs, bytes_written;
};

static struct figures figures_of(const struct bench_report *r)
{
    const struct bench_sample *a = &r->before, *z = &r->after;
    struct figures f = {.seconds = (double)(z->now_ns - a->now_ns) / 1e9};
    double millions = r->messages ? (double)r->messages / 1e6 : 1e-6;
    uint64_t broker_us = z->stats.cpu_us - a->stats.cpu_us, client_us = z->client_cpu_us - a->client_cpu_us;
    f.rate = (double)r->messages / f.seconds;
    f.broker_cpu_per_million = (double)broker_us / 1e6 / millions;
    f.client_cpu_per_million = (double)client_us / 1e6 / millions;
    f.syncs = z->stats.syncs - a->stats.syncs;
    f.bytes_written = z->stats.bytes_written - a->stats.bytes_written;
    f.syncs_per_second = (double)f.syncs / f.seconds;
    f.other_share = machine_other_share(&a->machine, &z->machine, broker_us + client_us);
    return f;
}

static void report_json(struct bench *t, const struct bench_report *r, struct text *out)
{
    const struct figures f = figures_of(r);
    struct json json = {.out = out}, *j = &json;
    json_open(j, '{');
    json_put_text(j, "mode", r->mode);
    json_put_u64(j, "size", t->options->size.value);
    if (t->options->window.value)
        json_put_u64(j, "window", t->options->window.value);
    json_put_u64(j, "messages", r->messages);
    json_put_real(j, "seconds", f.seconds);
    json_put_real(j, "rate", f.rate);
    if (r->extra_rate > 0)
        json_put_real(j, "publish_rate", r->extra_rate);
    if (r->latency && r->latency->total) {
        json_key(j, r->latency_name);
        json_open(j, '{');
        for (size_t i = 0; i < PERCENTILES; i++)
            json_put_real(j, percentiles[i].key,
                          (double)histogram_percentile(r->latency, percentiles[i].percent) / 1e3);
        json_put_real(j, "max_us", (double)r->latency->max / 1e3);
        json_close(j, '}');
    }
    json_put_real(j, "broker_cpu_s_per_million", f.broker_cpu_per_million);
    json_put_real(j, "client_cpu_s_per_million", f.client_cpu_per_million);
    json_put_u64(j, "broker_rss_bytes", r->after.stats.rss_bytes);
    json_put_u64(j, "syncs", f.syncs);
    json_put_real(j, "syncs_per_second", f.syncs_per_second);
    json_put_u64(j, "bytes_written", f.bytes_written);
    json_put_real(j, "other_load", f.other_share);
    json_put_real(j, "loadavg", r->after.machine.load1);
    json_put_u64(j, "processors", r->after.machine.processors);
    json_close(j, '}');
    text_add(out, "\n", 1);
}

static void report_text(struct bench *t, const struct bench_report *r, struct text *out)
{
    const struct figures f = figures_of(r);
    text_addf(out, "%" PRIu64 " messages of %s %s in %s\n", r->messages, cli_bytes((double)t->options->size.value).text,
              r->counted, cli_time(f.seconds).text);
    text_addf(out, "  rate          %s/s (%s/s of bodies)\n", cli_count(f.rate).text,
              cli_bytes(f.rate * (double)t->options->size.value).text);
    if (r->extra_rate > 0)
        text_addf(out, "  %-13s %s/s\n", r->extra_name, cli_count(r->extra_rate).text);
    if (r->latency && r->latency->total) {
        text_addf(out, "  %-13s", strcmp(r->latency_name, "latency") == 0 ? "latency" : "end to end");
        for (size_t i = 0; i < PERCENTILES; i++)
            text_addf(out, " %s %s,", percentiles[i].name,
                      cli_time((double)histogram_percentile(r->latency, percentiles[i].percent) / 1e9).text);
        text_addf(out, " max %s\n", cli_time((double)r->latency->max / 1e9).text);
    }
    text_addf(out, "  CPU           broker %.3g s, client %.3g s per million messages\n", f.broker_cpu_per_million,
              f.client_cpu_per_million);
    text_addf(out, "  broker        %s resident; %s syncs, %s/s; %s written\n",
              cli_bytes((double)r->after.stats.rss_bytes).text, cli_count((double)f.syncs).text,
              cli_count(f.syncs_per_second).text, cli_bytes((double)f.bytes_written).text);
    text_addf(out, "  other load    %.0f %% of %u processors, load average %.2f%s\n", f.other_share * 100,
              r->after.machine.processors, r->after.machine.load1,
              f.other_share > 0.1 ? " - the figures are too low by that" : "");
}

enum cli_exit bench_report_print(struct bench *t, const struct bench_report *r)
{
    struct text out = {0};
    if (t->draws_progress)
        fprintf(stderr, "\r\033[K");
    if (t->error != BROKER_OK)
        return cli_fail_saying(t->cli, t->error, t->error_text, "go on with the benchmark after %" PRIu64 " messages",
                               r->messages);
    if (t->cli->common.json)
        report_json(t, r, &out);
    else
        report_text(t, r, &out);
    return cli_print(t->cli, &out) ? CLI_OK : CLI_FAILED;
}
