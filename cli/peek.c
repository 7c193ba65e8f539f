/* broker peek: messages without leasing them. */
#include "peek.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#define OUTPUT_BYTES_MAX ((size_t)256 << 10) /* written out when more is gathered */

struct peek {
    struct cli *cli;
    const struct peek_job *job;
    struct text out;
    uint64_t shown;
    uint64_t last_seq;
    bool output_failed;
};

static void write_out(struct peek *p)
{
    if (p->output_failed)
        return;
    p->output_failed = p->out.failed || !cli_write(STDOUT_FILENO, p->out.bytes, p->out.len);
    if (p->output_failed && errno != EPIPE)
        cli_complain(p->cli, CLI_FAILED, "cannot write to standard output: %s",
                     p->out.failed ? "out of memory" : strerror(errno));
    p->out.len = 0;
}

static bool on_message(void *arg, const broker_msg *m)
{
    struct peek *p = arg;
    struct message_format format = {p->job->style, true, "\n", 1};
    if (p->job->line && p->job->style == MESSAGE_LONG)
        p->job->line(&p->out, m);
    else
        format_message(&p->out, &format, m);
    p->shown++;
    p->last_seq = broker_msg_seq(m);
    if (p->out.len >= OUTPUT_BYTES_MAX)
        write_out(p);
    return !p->output_failed && !cli_interrupted && p->shown < p->job->count;
}

/* One range, in as many requests as it takes. */
static broker_error peek_range(struct peek *p, struct selection *s)
{
    for (;;) {
        broker_scan_result result = {0};
        uint64_t left = p->job->count - p->shown;
        s->scan.max_messages = left < 1000 ? left : 1000;
        broker_error error = broker_peek(p->cli->broker, p->job->queue, &s->scan, on_message, p, &result);
        bool ended = error != BROKER_OK || result.next_seq == 0 || p->shown >= p->job->count;
        if (ended || p->output_failed || cli_interrupted)
            return error;
        s->scan.from_seq = result.next_seq;
    }
}

enum cli_exit peek_print(struct cli *cli, const struct peek_job *job, struct selection *s)
{
    struct peek p = {.cli = cli, .job = job};
    size_t ranges = s->range_count ? s->range_count : 1;
    broker_error error = BROKER_OK;
    cli_catch_interrupts();
    for (size_t i = 0; i < ranges && error == BROKER_OK && !cli_interrupted && p.shown < job->count; i++) {
        if (s->range_count) {
            s->scan.from_seq = s->ranges[i].first;
            s->scan.to_seq = s->ranges[i].last;
        }
        error = peek_range(&p, s);
    }
    write_out(&p);
    text_release(&p.out);
    if (error != BROKER_OK && !p.output_failed && !(cli_interrupted && error == BROKER_CANCELLED))
        return cli_fail(cli, error, "look into queue '%s'", job->queue);
    if (p.output_failed)
        return CLI_FAILED;
    return p.shown > 0 ? CLI_OK : CLI_TIMED_OUT;
}

struct peek_options {
    struct selection_options selection;
    struct arg_number count;
    int format;
    bool all, scheduled, available;
};

#define AT(field) offsetof(struct peek_options, field)
static const struct arg_option peek_options[] = {
    {"count", 'n', ARG_NUMBER, "N", "10", "most messages", AT(count), 1, 0},
    {"all", 'a', ARG_FLAG, NULL, NULL, "as many as there are", AT(all), 0, 0},
    {"format", 0, ARG_CHOICE, PEEK_STYLES, "long", "bodies, one JSON object a message, or a line for people",
     AT(format), 0, 0},
    {"scheduled", 0, ARG_FLAG, NULL, NULL, "only what waits for its time", AT(scheduled), 0, 0},
    {"available", 0, ARG_FLAG, NULL, NULL, "only what does not", AT(available), 0, 0},
    SELECTION_SEQ_OPTION(struct peek_options, selection),
    SELECTION_RANGE_OPTIONS(struct peek_options, selection),
    {0},
};
#undef AT

static enum cli_exit run_peek(struct cli *cli, const void *options, int count, char **operands)
{
    static struct selection selection; /* large */
    const struct peek_options *o = options;
    struct peek_job job = {operands[0], o->all ? UINT64_MAX : o->count.value,
                           cli->common.json ? MESSAGE_JSON : (enum message_style)o->format, NULL};
    if (o->scheduled && o->available)
        return cli_complain(cli, CLI_USAGE, "--scheduled and --available exclude each other");
    if (!selection_fill(cli, &o->selection, &selection))
        return CLI_USAGE;
    selection.scan.state = o->scheduled   ? BROKER_SCAN_SCHEDULED
                           : o->available ? BROKER_SCAN_AVAILABLE
                                          : BROKER_SCAN_ANY;
    enum cli_exit code = cli_connect(cli, NULL);
    return code == CLI_OK ? peek_print(cli, &job, &selection) : code;
}

static const char peek_details[] =
    "Nothing is leased, and no attempt is counted. In order of seq, the oldest first, also those that wait for their "
    "time\n"
    "and those that a consumer has at the moment. All conditions must hold. Ends with code 4 if there is none.\n"
    "\n"
    "  broker peek orders                                  the oldest ten\n"
    "  broker peek orders --since ago:1h --topic 'orders.eu.>' -n 100\n"
    "  broker peek orders --seq 17 --format raw > body\n"
    "  broker peek orders --all --json -H type=order | jq .body\n";

const struct command peek_commands[] = {
    {"peek", "QUEUE", 1, 1, "look at messages without leasing them", peek_details, peek_options,
     sizeof(struct peek_options), run_peek},
    {0},
};
