/* broker sub: messages to standard output. Nothing is acked before it has been written. */
#include "cli.h"
#include "machine.h"
#include "sub_format.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum ack_choice { ACK_AUTO = 1, ACK_ON_SEND, ACK_NONE, ACK_NACK, ACK_REJECT };
#define ACK_CHOICES "auto|on-send|none|nack|reject"

struct sub_options {
    struct arg_number count, lease_ms, credit, silence_ms, nack_delay_ms, priority, max_unsettled;
    const char *group, *delimiter;
    int ack, format;
    bool follow, drain, null, quiet;
};

#define AT(field) offsetof(struct sub_options, field)
static const struct arg_option sub_options[] = {
    {"count", 'n', ARG_NUMBER, "N", NULL, "end after N messages", AT(count), 1, 0},
    {"follow", 0, ARG_FLAG, NULL, NULL, "go on until interrupted (default)", AT(follow), 0, 0},
    {"drain", 0, ARG_FLAG, NULL, NULL, "end when nothing came for --timeout", AT(drain), 0, 0},
    {"no-wait", 0, ARG_FLAG, NULL, NULL, "the same as --drain", AT(drain), 0, 0},
    {"timeout", 0, ARG_DURATION, "TIME", NULL,
     "end when nothing came for this long (default 1s with --drain, else never)", AT(silence_ms), 1, 86400000},
    {"group", 'g', ARG_TEXT, "GROUP", "default", "consume as a member of this group", AT(group), 0, 0},
    {"ack", 0, ARG_CHOICE, ACK_CHOICES, "auto", "how messages are settled, see below", AT(ack), 0, 0},
    {"nack-delay", 0, ARG_DURATION, "TIME", "0",
     "with --ack nack: when they may come again; 0: as the queue's backoff says", AT(nack_delay_ms), 0, UINT32_MAX},
    {"format", 0, ARG_CHOICE, "raw|json|long", "raw", "bodies, one JSON object a message, or a line for people",
     AT(format), 0, 0},
    {"delimiter", 'd', ARG_TEXT, "TEXT", "\\n", "after each message; \\n \\t \\r \\0 \\\\ \\xHH are understood",
     AT(delimiter), 0, 0},
    {"null", '0', ARG_FLAG, NULL, NULL, "a NUL byte after each message", AT(null), 0, 0},
    {"lease", 0, ARG_DURATION, "TIME", NULL, "how long a message is ours; default: as the queue says", AT(lease_ms), 1,
     86400000},
    {"credit", 0, ARG_NUMBER, "N", "1024", "most messages under way to us", AT(credit), 1, 1000000},
    {"priority", 0, ARG_NUMBER, "0-9", "0", "consumers of higher priority are served first", AT(priority), 0, 9},
    {"max-unsettled", 0, ARG_NUMBER, "N", "0", "most messages leased to us at once; 0: no limit", AT(max_unsettled), 0,
     UINT32_MAX},
    {"quiet", 'q', ARG_FLAG, NULL, NULL, "no notes on stderr", AT(quiet), 0, 0},
    {0},
};
#undef AT

static const char sub_details[] =
    "--ack auto     ack each message after it has been written to standard output\n"
    "--ack on-send  the broker settles as it hands out: fastest, but what is under way is lost if this command dies\n"
    "--ack none     settle nothing: the messages go back to the group when the command ends\n"
    "--ack nack     give each message back after it has been written\n"
    "--ack reject   give each message up after it has been written: it goes to the dead letters\n"
    "\n"
    "JSON objects have seq, time, time_ms, attempt, receipt, topic, id, priority, due, expires, key and headers, as "
    "far as\n"
    "there are any, and the body as `body`, or as `body_base64` if it is not UTF-8. Ends with code 4 if nothing came, "
    "or\n"
    "fewer than --count before the --timeout.\n"
    "\n"
    "  broker sub orders --format json | jq .body\n"
    "  broker sub orders -n 10 --ack none          look at the next ten\n"
    "  broker sub orders --drain > orders.txt\n";

#define OUTPUT_BYTES_MAX ((size_t)256 << 10) /* written out when more is gathered */
#define PENDING_MAX      1024                /* messages gathered before they are written and settled */
#define LEASE_SLICE_MS   250                 /* one LEASE request waits this long, so that an interrupt is seen */

struct sub {
    struct cli *cli;
    const struct sub_options *options;
    const char *queue;
    struct message_format format;
    char delimiter[64];
    struct text output;
    broker_msg *pending[PENDING_MAX]; /* formatted into output, settled once that is written */
    size_t pending_count;
    uint64_t received, wanted; /* wanted UINT64_MAX: no end */
    uint64_t last_message_ns, start_ns;
    bool acks_first; /* --ack on-send with --count: what is written has been settled before */
    broker_error error;
    char error_text[512];
    bool output_failed; /* nothing more is written or settled */
    int output_errno;
};

static void remember_failure(struct sub *s, broker_error error, const char *text)
{
    if (s->error != BROKER_OK)
        return;
    s->error = error;
    snprintf(s->error_text, sizeof s->error_text, "%s", text ? text : "");
}

static bool settles(const struct sub *s)
{
    return s->options->ack == ACK_AUTO || s->options->ack == ACK_NACK || s->options->ack == ACK_REJECT;
}

/* Write what is gathered, then settle it: an ack never precedes the write. */
static void write_out(struct sub *s)
{
    if (s->output.failed) {
        s->output_failed = true;
        s->output_errno = ENOMEM;
    }
    if (!s->output_failed && !cli_write(STDOUT_FILENO, s->output.bytes, s->output.len)) {
        s->output_failed = true;
        s->output_errno = errno;
    }
    s->output.len = 0;
    for (size_t i = 0; i < s->pending_count; i++) {
        broker_msg *m = s->pending[i];
        broker_error error = BROKER_OK;
        if (!s->output_failed && s->options->ack == ACK_AUTO)
            error = broker_ack(s->cli->broker, m);
        else if (!s->output_failed && s->options->ack == ACK_REJECT)
            error = broker_reject(s->cli->broker, m);
        else if (!s->output_failed)
            error = broker_nack(s->cli->broker, m, (uint32_t)s->options->nack_delay_ms.value);
        if (error != BROKER_OK)
            remember_failure(s, error, broker_error_text(s->cli->broker));
        broker_msg_free(m);
    }
    s->pending_count = 0;
}

static bool finished(const struct sub *s)
{
    return s->received >= s->wanted || s->error != BROKER_OK || s->output_failed || cli_interrupted;
}

static void on_message(void *arg, broker_subscription *subscription, const broker_msg *m)
{
    struct sub *s = arg;
    if (s->received >= s->wanted || s->output_failed || s->error != BROKER_OK)
        return; /* goes back to the group with the subscription */
    if (s->acks_first) {
        broker_error error = broker_ack(s->cli->broker, m);
        if (error != BROKER_OK)
            remember_failure(s, error, broker_error_text(s->cli->broker));
    } else if (settles(s)) {
        broker_msg *kept = broker_msg_keep(m);
        if (!kept) {
            remember_failure(s, BROKER_NO_MEMORY, "");
            return;
        }
        s->pending[s->pending_count++] = kept;
    }
    format_message(&s->output, &s->format, m);
    s->received++;
    if (!s->acks_first && (s->pending_count == PENDING_MAX || s->output.len >= OUTPUT_BYTES_MAX))
        write_out(s);
}

static void on_end(void *arg, broker_subscription *subscription, broker_error error, const char *text)
{
    remember_failure(arg, error, text);
}

/* Silence is counted from the last message, or from the start. */
static bool too_silent(const struct sub *s)
{
    uint64_t limit_ms = s->options->silence_ms.value;
    return limit_ms && machine_now_ns() - s->last_message_ns >= limit_ms * 1000000u;
}

static int wait_ms(const struct sub *s, int most)
{
    uint64_t limit_ms = s->options->silence_ms.value;
    if (!limit_ms)
        return most;
    uint64_t silent_ms = (machine_now_ns() - s->last_message_ns) / 1000000u;
    uint64_t left = silent_ms < limit_ms ? limit_ms - silent_ms : 0;
    return left < (uint64_t)most ? (int)left + 1 : most;
}

/* A pipe whose reader has gone is in error: so an idle command ends too, before it is handed anything. */
static void watch_output(struct sub *s)
{
    struct pollfd p = {.fd = STDOUT_FILENO};
    if (!s->output_failed && poll(&p, 1, 0) > 0 && (p.revents & POLLERR)) {
        s->output_failed = true;
        s->output_errno = EPIPE;
    }
}

static void follow(struct sub *s)
{
    const struct sub_options *o = s->options;
    broker_subscribe_options how = {.size = sizeof how,
                                    .group = o->group,
                                    .ack = o->ack == ACK_ON_SEND ? BROKER_ACK_ON_SEND : BROKER_ACK_MANUAL,
                                    .lease_ms = (uint32_t)o->lease_ms.value,
                                    .credit_messages = (uint32_t)o->credit.value,
                                    .priority = (uint8_t)o->priority.value,
                                    .max_unsettled = (uint32_t)o->max_unsettled.value};
    if (s->wanted < how.credit_messages)
        how.credit_messages = (uint32_t)s->wanted;
    broker_subscription *subscription;
    broker_error error = broker_subscribe(s->cli->broker, s->queue, &how, on_message, on_end, s, &subscription);
    if (error != BROKER_OK) {
        remember_failure(s, error, broker_error_text(s->cli->broker));
        return;
    }
    while (!finished(s)) {
        uint64_t before = s->received;
        error = broker_wait(s->cli->broker, wait_ms(s, 1000));
        write_out(s);
        if (error != BROKER_OK && error != BROKER_TIMEOUT && !cli_interrupted)
            remember_failure(s, error, broker_error_text(s->cli->broker));
        if (s->received > before)
            s->last_message_ns = machine_now_ns();
        else if (too_silent(s))
            break;
        watch_output(s);
    }
    /* After an end the library has nothing to end any more; the rest is flushed in either case. */
    if (s->error == BROKER_OK)
        broker_unsubscribe(subscription);
}

/*
 * With --count nothing more than that is leased: what would come beyond it would count an attempt for nothing, and with
 * on-send it would be lost.
 */
static void take_counted(struct sub *s)
{
    const struct sub_options *o = s->options;
    while (!finished(s)) {
        uint64_t left = s->wanted - s->received, most = left < PENDING_MAX ? left : PENDING_MAX;
        uint32_t count = 0;
        broker_error error =
            broker_lease(s->cli->broker, s->queue, o->group, (uint32_t)most, (uint32_t)o->lease_ms.value,
                         (uint32_t)wait_ms(s, LEASE_SLICE_MS), on_message, s, &count);
        if (s->acks_first && count > 0)
            error = broker_flush(s->cli->broker);
        if (error == BROKER_OK)
            write_out(s);
        /* A lost connection comes back by itself; the next call waits for it, up to its deadline. */
        if (error != BROKER_OK && error != BROKER_TIMEOUT && error != BROKER_CONNECTION_LOST)
            remember_failure(s, error, broker_error_text(s->cli->broker));
        if (count > 0)
            s->last_message_ns = machine_now_ns();
        else if (too_silent(s))
            break;
        watch_output(s);
    }
}

static enum cli_exit conclude(struct sub *s)
{
    struct cli *cli = s->cli;
    if (s->output_failed && s->output_errno == EPIPE)
        return CLI_FAILED; /* the reader has gone: it knows */
    if (s->output_failed)
        return cli_complain(cli, CLI_FAILED, "cannot write to standard output: %s; what was not written is not acked",
                            strerror(s->output_errno));
    if (s->error != BROKER_OK)
        return cli_fail_saying(cli, s->error, s->error_text, "consume from '%s' (group '%s', %" PRIu64 " received)",
                               s->queue, s->options->group, s->received);
    uint64_t stale = broker_settle_failures(cli->broker);
    if (stale > 0 && !s->options->quiet) /* no failure: at least once is the promise */
        fprintf(stderr, "broker: %" PRIu64 " of %" PRIu64 " messages came too late to be settled; they come again\n",
                stale, s->received);
    if (!s->options->quiet && isatty(STDERR_FILENO) && !isatty(STDOUT_FILENO)) {
        double seconds = (double)(machine_now_ns() - s->start_ns) / 1e9;
        fprintf(stderr, "%" PRIu64 " messages in %s\n", s->received, cli_time(seconds).text);
    }
    bool too_few = s->wanted != UINT64_MAX && s->received < s->wanted && !s->options->drain;
    return !cli_interrupted && (s->received == 0 || too_few) ? CLI_TIMED_OUT : CLI_OK;
}

static bool set_delimiter(struct sub *s)
{
    const struct sub_options *o = s->options;
    if (strlen(o->delimiter) >= sizeof s->delimiter)
        return false;
    memcpy(s->delimiter, o->delimiter, strlen(o->delimiter) + 1);
    if (!args_unescape(s->delimiter, &s->format.delimiter_len))
        return false;
    if (o->null) {
        s->delimiter[0] = '\0';
        s->format.delimiter_len = 1;
    }
    s->format.delimiter = s->delimiter;
    return true;
}

static enum cli_exit run_sub(struct cli *cli, const void *options, int count, char **operands)
{
    static struct sub sub; /* large */
    struct sub_options o = *(const struct sub_options *)options;
    struct sub *s = &sub;
    *s = (struct sub){.cli = cli, .options = &o, .queue = operands[0]};
    if (o.follow && o.drain)
        return cli_complain(cli, CLI_USAGE, "--follow and --drain exclude each other");
    if (!set_delimiter(s))
        return cli_complain(cli, CLI_USAGE, "--delimiter: '%s' is longer than 63 bytes or has an unknown escape",
                            o.delimiter);
    if (o.drain && !o.silence_ms.given)
        o.silence_ms.value = 1000;
    s->format.style = cli->common.json ? MESSAGE_JSON : (enum message_style)o.format;
    s->wanted = o.count.given ? o.count.value : UINT64_MAX;
    enum cli_exit code = cli_connect(cli, NULL);
    if (code != CLI_OK)
        return code;
    cli_catch_interrupts();
    s->start_ns = s->last_message_ns = machine_now_ns();
    s->acks_first = o.count.given && o.ack == ACK_ON_SEND;
    /* What only a subscription can carry asks for one. */
    if (o.count.given && o.ack != ACK_NONE && !o.priority.given && !o.max_unsettled.given)
        take_counted(s);
    else
        follow(s);
    write_out(s);
    broker_error error = broker_flush(cli->broker); /* the acks' answers */
    if (error != BROKER_OK && !s->output_failed)
        remember_failure(s, error, broker_error_text(cli->broker));
    code = conclude(s);
    text_release(&s->output);
    return code;
}

const struct command sub_commands[] = {
    {"sub", "QUEUE", 1, 1, "consume messages to standard output", sub_details, sub_options, sizeof(struct sub_options),
     run_sub},
    {0},
};
