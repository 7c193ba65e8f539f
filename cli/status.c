/* broker ping, stats, fsck, version. */
#include "cli.h"
#include "histogram.h"
#include "machine.h"
#include "program.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct ping_options {
    struct arg_number count, interval_ms;
};

static const struct arg_option ping_options[] = {
    {"count", 'n', ARG_NUMBER, "N", "1", "how often", offsetof(struct ping_options, count), 1, 0},
    {"interval", 'i', ARG_DURATION, "TIME", "1s", "between two", offsetof(struct ping_options, interval_ms), 0,
     3600000},
    {0},
};

static bool print_ping(struct cli *cli, uint64_t number, uint64_t rtt_us)
{
    struct text out = {0};
    if (cli->common.json) {
        struct json j = {.out = &out};
        json_open(&j, '{');
        json_put_u64(&j, "number", number);
        json_put_u64(&j, "rtt_us", rtt_us);
        json_close(&j, '}');
        text_add(&out, "\n", 1);
    } else {
        text_addf(&out, "pong %" PRIu64 ": %" PRIu64 " µs\n", number, rtt_us);
    }
    return cli_print(cli, &out);
}

static enum cli_exit run_ping(struct cli *cli, const void *options, int count, char **operands)
{
    static struct histogram times; /* large */
    const struct ping_options *o = options;
    enum cli_exit code = cli_connect(cli, NULL);
    if (code != CLI_OK)
        return code;
    cli_catch_interrupts();
    for (uint64_t i = 0; i < o->count.value && !cli_interrupted; i++) {
        if (i > 0 && o->interval_ms.value > 0)
            broker_wait(cli->broker, (int)o->interval_ms.value); /* heartbeats go on */
        uint64_t rtt_us = 0;
        broker_error error = broker_ping(cli->broker, &rtt_us);
        if (error != BROKER_OK)
            return cli_fail(cli, error, "ping the broker");
        histogram_add(&times, rtt_us, 1);
        if (!print_ping(cli, i + 1, rtt_us))
            return CLI_FAILED;
    }
    if (times.total > 1 && !cli->common.json)
        printf("%" PRIu64 " pings, p50 %" PRIu64 " µs, p99 %" PRIu64 " µs, max %" PRIu64 " µs\n", times.total,
               histogram_percentile(&times, 50), histogram_percentile(&times, 99), times.max);
    return CLI_OK;
}

static enum cli_exit run_stats(struct cli *cli, const void *options, int count, char **operands)
{
    enum cli_exit code = cli_connect(cli, NULL);
    if (code != CLI_OK)
        return code;
    broker_stats s = {.size = sizeof s};
    broker_error error = broker_get_stats(cli->broker, &s);
    if (error != BROKER_OK)
        return cli_fail(cli, error, "read the statistics");
    const struct {
        const char *name, *label;
        uint64_t value;
        struct cli_number shown;
    } rows[] = {
        {"uptime_ms", "uptime", s.uptime_ms, cli_time((double)s.uptime_ms / 1e3)},
        {"cpu_us", "cpu", s.cpu_us, cli_time((double)s.cpu_us / 1e6)},
        {"rss_bytes", "memory", s.rss_bytes, cli_bytes((double)s.rss_bytes)},
        {"connections", "connections", s.connections, cli_count((double)s.connections)},
        {"queues", "queues", s.queues, cli_count((double)s.queues)},
        {"subscriptions", "subscriptions", s.subscriptions, cli_count((double)s.subscriptions)},
        {"published", "published", s.published, cli_count((double)s.published)},
        {"delivered", "delivered", s.delivered, cli_count((double)s.delivered)},
        {"acked", "acked", s.acked, cli_count((double)s.acked)},
        {"syncs", "syncs", s.syncs, cli_count((double)s.syncs)},
        {"bytes_written", "written", s.bytes_written, cli_bytes((double)s.bytes_written)},
        {"log_index", "log index", s.log_index, cli_count((double)s.log_index)},
        {"disk_bytes", "disk", s.disk_bytes, cli_bytes((double)s.disk_bytes)},
        {"segments", "segments", s.segments, cli_count((double)s.segments)},
        {"scheduled", "scheduled", s.scheduled, cli_count((double)s.scheduled)},
        {"redelivered", "redelivered", s.redelivered, cli_count((double)s.redelivered)},
        {"dead_lettered", "dead-lettered", s.dead_lettered, cli_count((double)s.dead_lettered)},
        {"expired", "expired", s.expired, cli_count((double)s.expired)},
        {"dropped", "dropped", s.dropped, cli_count((double)s.dropped)},
        {"duplicates", "duplicates", s.duplicates, cli_count((double)s.duplicates)},
    };
    struct text out = {0};
    struct json j = {.out = &out};
    s.version[sizeof s.version - 1] = '\0';
    if (cli->common.json) {
        json_open(&j, '{');
        json_put_text(&j, "version", s.version);
    } else {
        text_addf(&out, "%-14s %s\n", "version", s.version);
    }
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (cli->common.json)
            json_put_u64(&j, rows[i].name, rows[i].value);
        else
            text_addf(&out, "%-14s %s\n", rows[i].label, rows[i].shown.text);
    }
    if (cli->common.json) {
        json_close(&j, '}');
        text_add(&out, "\n", 1);
    }
    return cli_print(cli, &out) ? CLI_OK : CLI_FAILED;
}

struct fsck_options {
    bool quarantine;
};
static const struct arg_option fsck_options[] = {
    {"quarantine", 0, ARG_FLAG, NULL, NULL, "move damaged files aside, so that the daemon starts with what is intact",
     offsetof(struct fsck_options, quarantine), 0, 0},
    {0},
};

static enum cli_exit run_fsck(struct cli *cli, const void *options, int count, char **operands)
{
    const struct fsck_options *o = options;
    char *argv[8] = {(char *)"brokerd", (char *)"--fsck", operands[0]}; /* execv does not write into them */
    int argc = 3;
    if (o->quarantine)
        argv[argc++] = (char *)"--quarantine";
    if (cli->common.json)
        argv[argc++] = (char *)"--json";
    program_exec_brokerd(argv);
    return cli_complain(cli, CLI_FAILED,
                        "cannot run brokerd, which does the checking: %s (looked beside this program and on the PATH)",
                        strerror(errno));
}

static enum cli_exit run_version(struct cli *cli, const void *options, int count, char **operands)
{
    struct text out = {0};
    if (cli->common.json)
        text_addf(&out, "{\"broker\":\"%s\",\"libbroker\":\"%s\"}\n", BROKER_VERSION_STRING, broker_version());
    else
        text_addf(&out, "broker %s (libbroker %s)\n", BROKER_VERSION_STRING, broker_version());
    return cli_print(cli, &out) ? CLI_OK : CLI_FAILED;
}

const struct command status_commands[] = {
    {"ping", "", 0, 0, "measure the way to the broker and back", NULL, ping_options, sizeof(struct ping_options),
     run_ping},
    {"stats", "", 0, 0, "what the broker says of itself", NULL, NULL, 0, run_stats},
    {"fsck", "DIR", 1, 1, "check a data directory; no daemon may be using it",
     "Ends with code 0 if all is well, 1 if something is damaged, 2 if it could not be checked.\n", fsck_options,
     sizeof(struct fsck_options), run_fsck},
    {"version", "", 0, 0, "versions of this program and its library", NULL, NULL, 0, run_version},
    {0},
};
