/* broker bench: the options, and what the three kinds of run share. */
#include "bench.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define AT(field) offsetof(struct bench_options, field)
/* clang-format off */
#define QUEUE_OPTIONS \
    {"queue", 0, ARG_TEXT, "QUEUE", NULL, "use this one (its messages are consumed); default: an own one, deleted in the end", AT(queue), 0, 0}, \
    {"keep", 0, ARG_FLAG, NULL, NULL, "do not delete the queue in the end", AT(keep), 0, 0}, \
    {"size", 0, ARG_SIZE, "SIZE", "128", "of a body", AT(size), 8, 1u << 26}
#define PUBLISH_OPTIONS \
    {"window", 0, ARG_NUMBER, "N", "256", "messages not yet confirmed", AT(window), 1, 1u << 20}, \
    {"sync", 0, ARG_CHOICE, CLI_SYNC_CHOICES, NULL, "confirm once on disk, or earlier; default: as the queue says", AT(sync), 0, 0}
#define LENGTH_OPTIONS \
    {"count", 'n', ARG_NUMBER, "N", NULL, "messages; default: for --seconds", AT(count), 1, 0}, \
    {"seconds", 0, ARG_DURATION, "TIME", "5s", "how long", AT(seconds_ms), 1, 86400000}, \
    {"warmup", 0, ARG_DURATION, "TIME", "1s", "before, not counted", AT(warmup_ms), 0, 3600000}
#define CONSUME_OPTIONS \
    {"group", 'g', ARG_TEXT, "GROUP", "default", "consume as a member of this group", AT(group), 0, 0}, \
    {"credit", 0, ARG_NUMBER, "N", "16384", "messages under way to the consumer", AT(credit), 1, 1u << 20}

static const struct arg_option pub_options[] = {QUEUE_OPTIONS, PUBLISH_OPTIONS, LENGTH_OPTIONS, {0}};
static const struct arg_option sub_options[] = {
    QUEUE_OPTIONS, CONSUME_OPTIONS,
    {"count", 'n', ARG_NUMBER, "N", "1M", "messages published first, then consumed", AT(count), 1, 0},
    {"no-fill", 0, ARG_FLAG, NULL, NULL, "publish nothing first: consume --count of what is in --queue", AT(no_fill), 0, 0},
    {0},
};
static const struct arg_option both_options[] = {
    QUEUE_OPTIONS, PUBLISH_OPTIONS, LENGTH_OPTIONS, CONSUME_OPTIONS,
    {"rate", 'r', ARG_NUMBER, "N", NULL, "publish N a second, evenly; default: as fast as confirms allow", AT(rate), 1, 100000000},
    {0},
};
/* clang-format on */
#undef AT

void bench_fail(struct bench *t, broker_error error, const char *text)
{
    if (t->error != BROKER_OK)
        return;
    t->error = error;
    snprintf(t->error_text, sizeof t->error_text, "%s", text ? text : "");
}

void bench_stalled(struct bench *t, const broker *b, const char *what)
{
    if (broker_is_connected(b))
        bench_fail(t, BROKER_TIMEOUT, what);
    else
        bench_fail(t, BROKER_CONNECTION_LOST, "the connection was lost and did not come back within --timeout");
}

enum { PUBLISHED_KEPT_BYTES = 128 << 20 };

/* A queue of our own unless one was named; a named one is created if it is missing, and deleted only then. */
static broker_error open_queue(struct bench *t)
{
    const struct bench_options *o = t->options;
    if (o->queue)
        snprintf(t->queue, sizeof t->queue, "%s", o->queue);
    else
        snprintf(t->queue, sizeof t->queue, "bench-%d-%" PRIu64, (int)getpid(), machine_now_ns() / 1000000u);
    if (o->no_fill)
        return BROKER_OK;
    broker_queue_settings settings = {.size = sizeof settings};
    if (t->publishes_only) { /* nobody consumes: keep the last of it, so that a long run does not fill the disk */
        settings.set = BROKER_SET_RETENTION | BROKER_SET_LOG_MAX_BYTES;
        settings.retention = BROKER_RETENTION_LOG;
        settings.log_max_bytes = PUBLISHED_KEPT_BYTES;
    }
    broker_error error = broker_queue_create(t->cli->broker, t->queue, &settings);
    t->created = error == BROKER_OK && !o->queue;
    return error == BROKER_QUEUE_EXISTS ? BROKER_OK : error;
}

enum cli_exit bench_open(struct bench *t, struct cli *cli, const struct bench_options *o, bool publishes_only)
{
    *t = (struct bench){.cli = cli,
                        .options = o,
                        .publishes_only = publishes_only,
                        .draws_progress = !cli->common.json && isatty(STDERR_FILENO)};
    if (o->queue && strlen(o->queue) >= sizeof t->queue)
        return cli_complain(cli, CLI_USAGE, "--queue: a name of more than %zu bytes is too long for a benchmark",
                            sizeof t->queue - 1);
    size_t window = o->window.value > 65536 ? o->window.value : 65536;
    enum cli_exit code =
        cli_connect(cli, &(broker_options){.outbox_messages = window, .outbox_bytes = window * (o->size.value + 128)});
    if (code != CLI_OK)
        return code;
    t->body = calloc(1, o->size.value);
    if (!t->body)
        return cli_complain(cli, CLI_FAILED, "out of memory for a body of %" PRIu64 " bytes", o->size.value);
    memset(t->body, 'x', o->size.value);
    t->message = (broker_message){.size = sizeof t->message, .body = t->body, .body_len = o->size.value};
    broker_error error = open_queue(t);
    if (error != BROKER_OK)
        return cli_fail(cli, error, "create queue '%s'", t->queue);
    cli_catch_interrupts();
    t->now_ns = t->progress_ns = machine_now_ns();
    return CLI_OK;
}

void bench_close(struct bench *t)
{
    if (t->created && !t->options->keep)
        broker_queue_delete(t->cli->broker, t->queue);
    free(t->body);
    t->body = NULL;
}

bool bench_sample_take(struct bench *t, struct bench_sample *s)
{
    s->stats = (broker_stats){.size = sizeof s->stats};
    broker_error error = broker_get_stats(t->cli->broker, &s->stats);
    if (error != BROKER_OK)
        bench_fail(t, error, broker_error_text(t->cli->broker));
    machine_sample_take(&s->machine);
    s->client_cpu_us = machine_cpu_us();
    s->now_ns = t->now_ns = machine_now_ns();
    return error == BROKER_OK;
}

void bench_progress(struct bench *t, uint64_t count, const char *what)
{
    uint64_t passed = t->now_ns - t->progress_ns;
    if (!t->draws_progress || passed < 1000000000u)
        return;
    uint64_t more = count > t->progress_count ? count - t->progress_count : 0;
    fprintf(stderr, "\r%s %s, %s/s \033[K", cli_count((double)count).text, what,
            cli_count((double)more * 1e9 / (double)passed).text);
    t->progress_ns = t->now_ns;
    t->progress_count = count;
}

void bench_latency_flush(struct bench *t)
{
    if (t->run_length)
        histogram_add(&t->latency, t->run_latency, t->run_length);
    t->run_length = 0;
}

void bench_latency_add(struct bench *t, uint64_t ns)
{
    if (ns != t->run_latency) {
        bench_latency_flush(t);
        t->run_latency = ns;
    }
    t->run_length++;
}

static short poll_events(const broker *b)
{
    int events = broker_events(b);
    return (short)((events & BROKER_EVENT_READ ? POLLIN : 0) | (events & BROKER_EVENT_WRITE ? POLLOUT : 0));
}

void bench_turn(struct bench *t, broker *one, broker *two, uint64_t wait_ns)
{
    broker *handles[2] = {one, two};
    struct pollfd fds[2] = {{.fd = -1}, {.fd = -1}};
    if (wait_ns > 250000000u)
        wait_ns = 250000000u; /* so that progress, interrupts and deadlines are seen */
    for (int i = 0; i < 2 && handles[i]; i++) {
        fds[i].fd = broker_fd(handles[i]);
        fds[i].events = poll_events(handles[i]);
        int own_ms = broker_timeout_ms(handles[i]);
        if (own_ms >= 0 && (uint64_t)own_ms * 1000000u < wait_ns)
            wait_ns = (uint64_t)own_ms * 1000000u;
    }
    struct timespec wait = {.tv_sec = 0, .tv_nsec = (long)wait_ns};
    if (ppoll(fds, 2, &wait, NULL) < 0)
        fds[0].revents = fds[1].revents = 0;
    t->now_ns = machine_now_ns();
    for (int i = 0; i < 2 && handles[i]; i++) {
        int events =
            (fds[i].revents & ~POLLOUT ? BROKER_EVENT_READ : 0) | (fds[i].revents & POLLOUT ? BROKER_EVENT_WRITE : 0);
        broker_error error = broker_process(handles[i], events);
        if (error != BROKER_OK)
            bench_fail(t, error, broker_error_text(handles[i]));
    }
}

static struct bench *publishing; /* a callback's argument is the message's send time */

static void on_confirm(void *arg, broker_error error, const broker_publish_result *result)
{
    struct bench *t = publishing;
    t->confirmed++;
    if (error != BROKER_OK)
        bench_fail(t, error, broker_error_text(t->cli->broker));
    else
        bench_latency_add(t, t->now_ns - (uint64_t)(uintptr_t)arg);
}

void bench_publish(struct bench *t, uint64_t window, uint64_t count, uint64_t duration_ns, broker_sync sync)
{
    broker *b = t->cli->broker;
    broker_publish_options how = {.size = sizeof how, .sync = sync};
    uint64_t start_ns = t->now_ns = machine_now_ns(), silent_since = t->now_ns, target = t->sent + count;
    publishing = t;
    for (;;) {
        bool ended =
            t->sent >= target || t->now_ns - start_ns >= duration_ns || cli_interrupted || t->error != BROKER_OK;
        while (!ended && t->sent < target && t->sent - t->confirmed < window) {
            broker_error error =
                broker_publish_async(b, t->queue, &t->message, &how, on_confirm, (void *)(uintptr_t)t->now_ns);
            if (error == BROKER_OUTBOX_FULL)
                break;
            if (error != BROKER_OK) {
                bench_fail(t, error, broker_error_text(b));
                break;
            }
            t->sent++;
        }
        if (t->sent == t->confirmed && (ended || t->error != BROKER_OK))
            break;
        uint64_t before = t->confirmed;
        broker_process(b, 0); /* out with it, before waiting */
        bench_turn(t, b, NULL, UINT64_MAX);
        if (t->confirmed != before)
            silent_since = t->now_ns;
        else if (t->now_ns - silent_since > t->cli->common.timeout_ms.value * 1000000u) {
            bench_stalled(t, b, "no confirm came within --timeout");
            break;
        }
        bench_progress(t, t->confirmed, "confirmed");
    }
    bench_latency_flush(t);
}

static const char details[] = "Beside the rate: CPU seconds per million messages of the broker and of this program, "
                              "the broker's resident memory,\n"
                              "syncs and bytes written, and how busy the processors were with anything else.\n";

#define BYTES sizeof(struct bench_options)
const struct command bench_commands[] = {
    {"bench pub", "", 0, 0, "measure publishing with a window of unconfirmed messages", details, pub_options, BYTES,
     bench_run_pub},
    {"bench sub", "", 0, 0, "measure consuming and acking a backlog, to the last ack's answer", details, sub_options,
     BYTES, bench_run_sub},
    {"bench both", "", 0, 0, "measure publishing and consuming at once, and the time in between", details, both_options,
     BYTES, bench_run_both},
    {0},
};
