/* broker pipe: each message through a command into another queue; taking and giving in one step. */
#include "child.h"
#include "cli.h"
#include "headers.h"
#include "input.h"
#include "machine.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum on_fail { FAIL_NACK = 1, FAIL_REJECT, FAIL_STOP };

struct pipe_options {
    struct arg_number count, lease_ms, silence_ms, max_bytes;
    const char *group;
    int on_fail;
    bool lines, drain, bare, quiet;
};

#define AT(field) offsetof(struct pipe_options, field)
static const struct arg_option pipe_options[] = {
    {"count", 'n', ARG_NUMBER, "N", NULL, "end after N messages", AT(count), 1, 0},
    {"drain", 0, ARG_FLAG, NULL, NULL, "end when nothing came for --timeout", AT(drain), 0, 0},
    {"timeout", 0, ARG_DURATION, "TIME", NULL,
     "end when nothing came for this long (default 1s with --drain, else never)", AT(silence_ms), 1, 86400000},
    {"group", 'g', ARG_TEXT, "GROUP", "default", "consume as a member of this group", AT(group), 0, 0},
    {"lease", 0, ARG_DURATION, "TIME", "30s", "renewed while the command runs", AT(lease_ms), 1000, 86400000},
    {"lines", 'l', ARG_FLAG, NULL, NULL, "each line of output is a message (default: all of it is one)", AT(lines), 0,
     0},
    {"bare", 0, ARG_FLAG, NULL, NULL, "do not carry over key, topic, priority and headers", AT(bare), 0, 0},
    {"on-fail", 0, ARG_CHOICE, "nack|reject|stop", "nack",
     "command failed: the message comes again, goes to the dead letters, or we end", AT(on_fail), 0, 0},
    {"max-bytes", 0, ARG_SIZE, "SIZE", "8MiB", "most output of the command for one message", AT(max_bytes), 1,
     1ull << 30},
    {"quiet", 'q', ARG_FLAG, NULL, NULL, "no notes on stderr", AT(quiet), 0, 0},
    {0},
};
#undef AT

static const char pipe_details[] =
    "For each message of IN the command runs with the body on its standard input, and what it writes is published to "
    "OUT.\n"
    "The ack and the publish are one step: whatever dies in between, no result is lost, and none is there twice. No "
    "output\n"
    "publishes nothing. With '-' for OUT the output is thrown away. In the command's environment: BROKER_QUEUE,\n"
    "BROKER_SEQ, BROKER_ATTEMPT, BROKER_KEY, BROKER_TOPIC, BROKER_ID.\n"
    "\n"
    "If the command fails (exit code not 0) nothing is published. Several `broker pipe` of one group share the work.\n"
    "\n"
    "  broker pipe orders invoices -- jq -c .invoice\n"
    "  broker pipe --drain --lines files lines -- cat\n"
    "  broker pipe --on-fail reject mails - -- sendmail -t\n";

struct pipe_run {
    struct cli *cli;
    const struct pipe_options *options;
    const char *in, *out; /* out NULL: nowhere */
    char **argv;
    uint64_t taken, published, failed, stale;
    broker_error error;
    char error_text[512];
    bool complained; /* about something that is not the broker's */
};

static void remember_failure(struct pipe_run *p, broker_error error, const char *text)
{
    if (p->error != BROKER_OK || error == BROKER_OK)
        return;
    p->error = error;
    snprintf(p->error_text, sizeof p->error_text, "%s", text ? text : "");
}

static void set_variable(const char *name, const char *bytes, size_t len)
{
    char *value = bytes && !memchr(bytes, '\0', len) ? strndup(bytes, len) : NULL;
    if (value)
        setenv(name, value, 1);
    else
        unsetenv(name);
    free(value);
}

static void set_environment(const struct pipe_run *p, const broker_msg *m)
{
    char number[24];
    size_t len;
    set_variable("BROKER_QUEUE", p->in, strlen(p->in));
    set_variable("BROKER_SEQ", number, (size_t)snprintf(number, sizeof number, "%" PRIu64, broker_msg_seq(m)));
    set_variable("BROKER_ATTEMPT", number, (size_t)snprintf(number, sizeof number, "%" PRIu32, broker_msg_attempt(m)));
    const char *key = broker_msg_key(m, &len);
    set_variable("BROKER_KEY", key, key ? len : 0);
    const char *topic = broker_msg_topic(m, &len);
    set_variable("BROKER_TOPIC", topic, topic ? len : 0);
    const char *id = broker_msg_id(m, &len);
    set_variable("BROKER_ID", id, id ? len : 0);
}

/* Run the command; heartbeats go on and the lease is renewed meanwhile. The exit status; -1: told. */
static int run_command(struct pipe_run *p, const broker_msg *m, struct child *c)
{
    const struct pipe_options *o = p->options;
    size_t len;
    const char *body = broker_msg_body(m, &len);
    uint64_t renewed_ns = machine_now_ns(), lease_ns = o->lease_ms.value * 1000000u;
    bool killed = false;
    set_environment(p, m);
    if (!child_start(c, p->argv, body, len, (size_t)o->max_bytes.value)) {
        cli_complain(p->cli, CLI_FAILED, "cannot run '%s': %s", p->argv[0], strerror(errno));
        p->complained = true;
        return -1;
    }
    while (child_turn(c, 20)) {
        remember_failure(p, broker_process(p->cli->broker, BROKER_EVENT_READ | BROKER_EVENT_WRITE),
                         broker_error_text(p->cli->broker));
        if (machine_now_ns() - renewed_ns > lease_ns / 3) {
            renewed_ns = machine_now_ns();
            broker_extend(p->cli->broker, m, (uint32_t)o->lease_ms.value); /* if it fails, so does the commit */
        }
        if ((cli_interrupted || p->error != BROKER_OK || c->too_long) && !killed) {
            child_kill(c);
            killed = true;
        }
    }
    return child_end(c);
}

static broker_error publish_output(struct pipe_run *p, broker_transaction *t, const broker_msg *m, const char *bytes,
                                   size_t len)
{
    size_t key_len, headers_len, topic_len;
    broker_message out = {.size = sizeof out, .body = bytes, .body_len = len};
    char topic[1024];
    if (!p->options->bare) {
        out.key = broker_msg_key(m, &key_len);
        out.key_len = out.key ? key_len : 0;
        out.raw_headers = broker_msg_raw_headers(m, &headers_len);
        out.raw_headers_len = out.raw_headers ? headers_len : 0;
        out.priority = broker_msg_priority(m);
        const char *about = broker_msg_topic(m, &topic_len);
        if (about && topic_len < sizeof topic) {
            memcpy(topic, about, topic_len);
            topic[topic_len] = '\0';
            out.topic = topic;
        }
    }
    broker_error error = broker_transaction_publish(t, p->out, &out);
    p->published += error == BROKER_OK;
    return error;
}

static broker_error publish_all_output(struct pipe_run *p, broker_transaction *t, const broker_msg *m,
                                       const struct text *output)
{
    if (!p->out || output->len == 0)
        return BROKER_OK;
    if (!p->options->lines)
        return publish_output(p, t, m, output->bytes, output->len);
    const char *at = output->bytes, *end = at + output->len;
    broker_error error = BROKER_OK;
    while (at < end && error == BROKER_OK) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        const char *stop = newline ? newline : end;
        error = publish_output(p, t, m, at, (size_t)(stop - at));
        at = stop + 1;
    }
    return error;
}

/* The results and the ack in one step. */
static void conclude_message(struct pipe_run *p, const broker_msg *m, const struct text *output)
{
    broker *b = p->cli->broker;
    uint64_t published_before = p->published;
    broker_transaction *t;
    broker_error error = broker_transaction_begin(b, &t);
    if (error != BROKER_OK) {
        remember_failure(p, error, broker_error_text(b));
        return;
    }
    error = publish_all_output(p, t, m, output);
    if (error == BROKER_OK)
        error = broker_transaction_ack(t, m);
    if (error != BROKER_OK) {
        remember_failure(p, error, broker_error_text(b));
        broker_transaction_abort(t);
        return;
    }
    error = broker_transaction_commit(t, NULL, NULL);
    if (error == BROKER_OK) {
        p->taken++;
        return;
    }
    p->published = published_before;
    /* Somebody else has the message by now; nothing of ours is stored. */
    if (error == BROKER_STALE_RECEIPT || error == BROKER_CONNECTION_LOST)
        p->stale++;
    else
        remember_failure(p, error, broker_error_text(b));
}

static void give_back(struct pipe_run *p, const broker_msg *m, int status, bool too_long)
{
    const struct pipe_options *o = p->options;
    p->failed++;
    if (!o->quiet && too_long)
        fprintf(stderr, "broker: message %" PRIu64 ": the command wrote more than --max-bytes %" PRIu64 "\n",
                broker_msg_seq(m), o->max_bytes.value);
    else if (!o->quiet)
        fprintf(stderr, "broker: message %" PRIu64 ", attempt %" PRIu32 ": the command ended with %d\n",
                broker_msg_seq(m), broker_msg_attempt(m), status);
    broker_error error =
        o->on_fail == FAIL_REJECT ? broker_reject(p->cli->broker, m) : broker_nack(p->cli->broker, m, 0);
    remember_failure(p, error, broker_error_text(p->cli->broker));
    remember_failure(p, broker_flush(p->cli->broker), broker_error_text(p->cli->broker));
}

static void handle(struct pipe_run *p, const broker_msg *m)
{
    struct child c;
    int status = run_command(p, m, &c);
    if (status < 0 || p->error != BROKER_OK || (cli_interrupted && status != 0))
        remember_failure(p, broker_nack(p->cli->broker, m, 0), broker_error_text(p->cli->broker));
    else if (c.output.failed)
        remember_failure(p, BROKER_NO_MEMORY, "");
    else if (status != 0 || c.too_long)
        give_back(p, m, status, c.too_long);
    else
        conclude_message(p, m, &c.output);
    child_release(&c);
}

static bool finished(const struct pipe_run *p)
{
    const struct pipe_options *o = p->options;
    return cli_interrupted || p->error != BROKER_OK || p->complained ||
           (o->count.given && p->taken >= o->count.value) || (p->failed && o->on_fail == FAIL_STOP);
}

static void pipe_messages(struct pipe_run *p, broker_subscription *s)
{
    const struct pipe_options *o = p->options;
    uint64_t limit_ms = o->silence_ms.given ? o->silence_ms.value : o->drain ? 1000 : 0, heard_ns = machine_now_ns();
    while (!finished(p)) {
        const broker_msg *m;
        broker_error error = broker_receive(s, limit_ms && limit_ms < 250 ? (int)limit_ms : 250, &m);
        if (error == BROKER_TIMEOUT) {
            if (limit_ms && machine_now_ns() - heard_ns >= limit_ms * 1000000u)
                break;
            continue;
        }
        if (error != BROKER_OK) {
            remember_failure(p, error, broker_error_text(p->cli->broker));
            break;
        }
        broker_msg *kept = broker_msg_keep(m);
        if (kept)
            handle(p, kept);
        else
            remember_failure(p, BROKER_NO_MEMORY, "");
        broker_msg_free(kept);
        heard_ns = machine_now_ns();
    }
}

static enum cli_exit conclude(struct pipe_run *p)
{
    struct cli *cli = p->cli;
    if (p->complained)
        return CLI_FAILED;
    if (p->error != BROKER_OK)
        return cli_fail_saying(cli, p->error, p->error_text, "pipe '%s' to '%s' (%" PRIu64 " messages done)", p->in,
                               p->out ? p->out : "-", p->taken);
    struct text out = {0};
    if (cli->common.json) {
        struct json j = {.out = &out};
        json_open(&j, '{');
        json_put_u64(&j, "taken", p->taken);
        json_put_u64(&j, "published", p->published);
        json_put_u64(&j, "failed", p->failed);
        json_put_u64(&j, "stale", p->stale);
        json_close(&j, '}');
        text_add(&out, "\n", 1);
    } else if (!p->options->quiet) {
        text_addf(&out, "%" PRIu64 " messages taken, %" PRIu64 " published", p->taken, p->published);
        if (p->failed)
            text_addf(&out, ", %" PRIu64 " times the command failed", p->failed);
        if (p->stale)
            text_addf(&out, ", %" PRIu64 " came too late and come again", p->stale);
        text_add(&out, "\n", 1);
    }
    if (!cli_print(cli, &out) || (p->failed && p->options->on_fail == FAIL_STOP))
        return CLI_FAILED;
    return p->taken || p->failed || cli_interrupted ? CLI_OK : CLI_TIMED_OUT;
}

static enum cli_exit run_pipe(struct cli *cli, const void *options, int count, char **operands)
{
    const struct pipe_options *o = options;
    struct pipe_run p = {.cli = cli,
                         .options = o,
                         .in = operands[0],
                         .out = strcmp(operands[1], "-") == 0 ? NULL : operands[1],
                         .argv = operands + 2};
    enum cli_exit code = cli_connect(cli, NULL);
    if (code != CLI_OK)
        return code;
    broker_subscribe_options how = {.size = sizeof how,
                                    .group = o->group,
                                    .lease_ms = (uint32_t)o->lease_ms.value,
                                    .credit_messages = 1,
                                    .max_unsettled = 1};
    broker_subscription *s;
    cli_catch_interrupts();
    broker_error error = broker_subscribe(cli->broker, p.in, &how, NULL, NULL, NULL, &s);
    if (error != BROKER_OK)
        return cli_fail(cli, error, "consume from '%s' (group '%s')", p.in, o->group);
    pipe_messages(&p, s);
    broker_flush(cli->broker);
    if (p.error == BROKER_OK)
        broker_unsubscribe(s);
    return conclude(&p);
}

const struct command pipe_commands[] = {
    {"pipe", "IN OUT -- COMMAND...", 3, 256, "messages through a command into a queue", pipe_details, pipe_options,
     sizeof(struct pipe_options), run_pipe},
    {0},
};
