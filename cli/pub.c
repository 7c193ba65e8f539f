/* broker pub: an argument, lines, NUL-separated pieces or whole files become messages, pipelined. */
#include "cli.h"
#include "input.h"
#include "machine.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

struct pub_options {
    struct arg_list files, headers;
    const char *key;
    struct arg_number window, max_bytes;
    int sync;
    bool lines, null, whole, create, quiet;
};

#define AT(field) offsetof(struct pub_options, field)
static const struct arg_option pub_options[] = {
    {"file", 'f', ARG_LIST, "FILE", NULL, "publish this file ('-': standard input); may be repeated", AT(files), 0, 0},
    {"lines", 'l', ARG_FLAG, NULL, NULL, "one message a line (default for standard input)", AT(lines), 0, 0},
    {"null", '0', ARG_FLAG, NULL, NULL, "messages end with a NUL byte", AT(null), 0, 0},
    {"whole", 'w', ARG_FLAG, NULL, NULL, "each input is one message (default for --file)", AT(whole), 0, 0},
    {"header", 'H', ARG_LIST, "NAME:VALUE", NULL, "a header of every message; may be repeated", AT(headers), 0, 0},
    {"key", 'k', ARG_TEXT, "KEY", NULL, "ordering key of every message", AT(key), 0, 0},
    {"sync", 0, ARG_CHOICE, CLI_SYNC_CHOICES, NULL, "confirm once on disk, or earlier; default: as the queue says",
     AT(sync), 0, 0},
    {"create", 'c', ARG_FLAG, NULL, NULL, "create the queue if it is missing", AT(create), 0, 0},
    {"window", 0, ARG_NUMBER, "N", "16384", "most messages not yet confirmed", AT(window), 1, 65536},
    {"max-bytes", 0, ARG_SIZE, "SIZE", "64MiB", "longest message taken from an input", AT(max_bytes), 1, 1ull << 30},
    {"quiet", 'q', ARG_FLAG, NULL, NULL, "say nothing unless it fails", AT(quiet), 0, 0},
    {0},
};
#undef AT

static const char pub_details[] =
    "Without MESSAGE and --file, every line of standard input is a message, an empty one too. The line's end is not\n"
    "part of it. Bodies are bytes: anything goes, NUL included. Messages keep the order of the input.\n"
    "\n"
    "The command ends when every message is confirmed. If one is refused it stops reading, waits for what is under "
    "way,\n"
    "and says how many were confirmed and where it stopped.\n"
    "\n"
    "  broker pub orders '{\"id\": 17}' -H content-type:application/json\n"
    "  journalctl -f | broker pub logs --create\n"
    "  broker pub photos -f cat.jpg -k cats\n"
    "  find . -print0 | broker pub files -0\n";

#define HEADERS_BYTES_MAX 8192

/* One run: what goes out, and what came back. */
struct pub {
    struct cli *cli;
    const struct pub_options *options;
    const char *queue;
    broker_message message; /* key and headers filled in; the body changes */
    broker_header headers[ARG_LIST_MAX];
    char header_text[HEADERS_BYTES_MAX];
    uint64_t sent, confirmed, refused, duplicates, bytes;
    uint64_t first_seq, last_seq;
    uint64_t start_ns, progress_ns, last_answer_ns;
    broker_error error;    /* the first one */
    char error_text[512];  /* and what the broker said */
    uint64_t error_number; /* of the message that got it, from 1 */
    const char *source;    /* being read: a file's name, "standard input", or NULL: the argument */
    uint64_t source_begin; /* `sent` when it began */
    bool draws_progress;
};

static void remember_failure(struct pub *p, broker_error error, uint64_t number, const char *text)
{
    if (p->error != BROKER_OK)
        return;
    const char *after_queue = strncmp(text, "publish to \"", 12) == 0 ? strstr(text, "\": ") : NULL;
    if (after_queue)
        text = after_queue + 3; /* we name the queue ourselves */
    p->error = error;
    p->error_number = number;
    snprintf(p->error_text, sizeof p->error_text, "%s", text);
}

static struct pub *running; /* callbacks carry the message's number, so the run stands here */

static void on_confirm(void *arg, broker_error error, const broker_publish_result *result)
{
    struct pub *p = running;
    uint64_t number = (uint64_t)(uintptr_t)arg;
    if (error != BROKER_OK) {
        p->refused++;
        if (error != BROKER_CANCELLED)
            remember_failure(p, error, number, broker_error_text(p->cli->broker));
        return;
    }
    p->confirmed++;
    p->duplicates += result->duplicate;
    if (result->seq && (!p->first_seq || result->seq < p->first_seq))
        p->first_seq = result->seq;
    if (result->seq > p->last_seq)
        p->last_seq = result->seq;
}

static broker_error send_message(struct pub *p, const char *body, size_t len)
{
    broker_publish_options how = {.size = sizeof how, .sync = cli_sync(p->options->sync)};
    p->message.body = body;
    p->message.body_len = len;
    if (p->sent - p->confirmed - p->refused >= p->options->window.value)
        return BROKER_OUTBOX_FULL;
    broker_error error =
        broker_publish_async(p->cli->broker, p->queue, &p->message, &how, on_confirm, (void *)(uintptr_t)(p->sent + 1));
    if (error == BROKER_OK) {
        p->sent++;
        p->bytes += len;
    } else if (error != BROKER_OUTBOX_FULL) {
        remember_failure(p, error, p->sent + 1, broker_error_text(p->cli->broker));
    }
    return error;
}

static void draw_progress(struct pub *p)
{
    uint64_t now = machine_now_ns();
    if (!p->draws_progress || now - p->progress_ns < 250000000u)
        return;
    double seconds = (double)(now - p->start_ns) / 1e9;
    p->progress_ns = now;
    fprintf(stderr, "\r%s confirmed, %s/s, %s \033[K", cli_count((double)p->confirmed).text,
            cli_count((double)p->confirmed / seconds).text, cli_bytes((double)p->bytes).text);
}

/* One turn: wait for the broker (and for input, if fd is not -1), then let the library work. */
static void turn(struct pub *p, int input_fd, bool *input_ready)
{
    broker *b = p->cli->broker;
    struct pollfd fds[2] = {{.fd = broker_fd(b)}, {.fd = input_fd, .events = POLLIN}};
    int events = broker_events(b), wait_ms = broker_timeout_ms(b);
    fds[0].events = (short)((events & BROKER_EVENT_READ ? POLLIN : 0) | (events & BROKER_EVENT_WRITE ? POLLOUT : 0));
    if (wait_ms < 0 || wait_ms > 250)
        wait_ms = 250; /* for the progress and the deadline */
    if (poll(fds, 2, wait_ms) < 0)
        fds[0].revents = fds[1].revents = 0;
    int came = fds[0].revents & ~POLLOUT ? BROKER_EVENT_READ : 0;
    came |= fds[0].revents & POLLOUT ? BROKER_EVENT_WRITE : 0;
    if (input_ready)
        *input_ready = fds[1].revents != 0;
    uint64_t answered = p->confirmed + p->refused;
    broker_error error = broker_process(b, came);
    if (error != BROKER_OK)
        remember_failure(p, error, p->confirmed + p->refused + 1, broker_error_text(b));
    draw_progress(p);

    uint64_t now = machine_now_ns(), timeout_ns = p->cli->common.timeout_ms.value * 1000000u;
    if (p->sent == p->confirmed + p->refused || answered != p->confirmed + p->refused)
        p->last_answer_ns = now;
    else if (now - p->last_answer_ns > timeout_ns && broker_is_connected(b))
        remember_failure(p, BROKER_TIMEOUT, p->confirmed + p->refused + 1,
                         "the broker did not answer within --timeout");
    else if (now - p->last_answer_ns > timeout_ns)
        remember_failure(p, BROKER_CONNECTION_LOST, p->confirmed + p->refused + 1,
                         "the connection was lost and did not come back within --timeout");
}

/* Everything that the input gives. false: stop (p->error, or told). */
static bool publish_input(struct pub *p, int fd, enum input_mode mode)
{
    struct input in;
    if (!input_init(&in, fd, mode, (size_t)p->options->max_bytes.value)) {
        remember_failure(p, BROKER_NO_MEMORY, p->sent + 1, "");
        return false;
    }
    bool ended = false, told = false;
    while (!ended && !told && p->error == BROKER_OK && !cli_interrupted) {
        const char *message;
        size_t len;
        enum input_state state;
        broker_error sent = BROKER_OK;
        while ((state = input_next(&in, &message, &len)) == INPUT_MESSAGE) {
            sent = send_message(p, message, len);
            if (sent != BROKER_OK)
                break;
            input_take(&in);
        }
        if (state == INPUT_TOO_LONG) {
            cli_complain(p->cli, CLI_FAILED, "message %" PRIu64 " of %s is longer than --max-bytes %" PRIu64,
                         p->sent - p->source_begin + 1, p->source, p->options->max_bytes.value);
            told = true;
        }
        ended = state == INPUT_END;
        bool ready = false;
        if (!ended && !told)
            turn(p, state == INPUT_HUNGRY ? fd : -1, &ready);
        if (ready && !input_fill(&in) && errno != EAGAIN) {
            cli_complain(p->cli, CLI_FAILED, "cannot read %s: %s", p->source, strerror(errno));
            told = true;
        }
    }
    input_release(&in);
    return ended && p->error == BROKER_OK && !told;
}

static bool publish_file(struct pub *p, const char *name, enum input_mode mode)
{
    bool is_stdin = strcmp(name, "-") == 0;
    int fd = is_stdin ? STDIN_FILENO : open(name, O_RDONLY | O_CLOEXEC);
    p->source = is_stdin ? "standard input" : name;
    p->source_begin = p->sent;
    if (fd < 0) {
        cli_complain(p->cli, CLI_FAILED, "cannot open '%s': %s", name, strerror(errno));
        return false;
    }
    bool ok = publish_input(p, fd, mode);
    if (!is_stdin)
        close(fd);
    return ok;
}

static bool publish_all(struct pub *p, const char *message)
{
    const struct pub_options *o = p->options;
    if (message) {
        broker_error error;
        while ((error = send_message(p, message, strlen(message))) == BROKER_OUTBOX_FULL && p->error == BROKER_OK)
            turn(p, -1, NULL);
        return error == BROKER_OK;
    }
    bool lines = o->lines || (o->files.count == 0 && !o->whole);
    enum input_mode mode = o->null ? INPUT_NULL : lines ? INPUT_LINES : INPUT_WHOLE;
    if (o->files.count == 0)
        return publish_file(p, "-", mode);
    for (size_t i = 0; i < o->files.count; i++) {
        if (!publish_file(p, o->files.items[i], mode))
            return false;
    }
    return true;
}

static void report(struct pub *p)
{
    double seconds = (double)(machine_now_ns() - p->start_ns) / 1e9;
    struct text out = {0};
    if (p->cli->common.json) {
        struct json j = {.out = &out};
        json_open(&j, '{');
        json_put_text(&j, "queue", p->queue);
        json_put_u64(&j, "published", p->confirmed);
        json_put_u64(&j, "duplicates", p->duplicates);
        if (p->first_seq) {
            json_put_u64(&j, "first_seq", p->first_seq);
            json_put_u64(&j, "last_seq", p->last_seq);
        }
        json_put_u64(&j, "bytes", p->bytes);
        json_put_real(&j, "seconds", seconds);
        json_put_real(&j, "rate", (double)p->confirmed / seconds);
        json_close(&j, '}');
        text_add(&out, "\n", 1);
    } else if (!p->options->quiet && p->confirmed == 1) {
        text_addf(&out, "published to %s: seq %" PRIu64 "\n", p->queue, p->first_seq);
    } else if (!p->options->quiet) {
        text_addf(&out, "published %" PRIu64 " messages to %s", p->confirmed, p->queue);
        if (p->first_seq)
            text_addf(&out, ": seq %" PRIu64 " to %" PRIu64, p->first_seq, p->last_seq);
        text_addf(&out, "; %s in %s, %s/s\n", cli_bytes((double)p->bytes).text, cli_time(seconds).text,
                  cli_count((double)p->confirmed / seconds).text);
    }
    cli_print(p->cli, &out);
}

static enum cli_exit report_failure(struct pub *p)
{
    struct cli *cli = p->cli;
    if (!p->source)
        return cli_fail_saying(cli, p->error, p->error_text, "publish to '%s'", p->queue);
    /* With several files the number is the one within its own; `sent` and `confirmed` count all. */
    bool in_source = p->error_number > p->source_begin;
    return cli_fail_saying(cli, p->error, p->error_text,
                           "publish to '%s': stopped at message %" PRIu64 " of %s (%" PRIu64 " confirmed of %" PRIu64
                           " sent)",
                           p->queue, p->error_number - (in_source ? p->source_begin : 0),
                           in_source ? p->source : "all inputs together", p->confirmed, p->sent);
}

static bool split_headers(struct pub *p)
{
    size_t used = 0;
    for (size_t i = 0; i < p->options->headers.count; i++) {
        const char *item = p->options->headers.items[i], *colon = strchr(item, ':');
        if (!colon || colon == item) {
            cli_complain(p->cli, CLI_USAGE, "--header: '%s' is not NAME:VALUE", item);
            return false;
        }
        const char *value = colon + 1 + (colon[1] == ' ');
        size_t name_len = (size_t)(colon - item), value_len = strlen(value);
        if (used + name_len + value_len + 2 > sizeof p->header_text) {
            cli_complain(p->cli, CLI_USAGE, "--header: all headers together are longer than %zu bytes",
                         sizeof p->header_text);
            return false;
        }
        char *at = p->header_text + used;
        memcpy(at, item, name_len);
        memcpy(at + name_len + 1, value, value_len);
        p->headers[i] = (broker_header){.name = at, .value = at + name_len + 1};
        used += name_len + value_len + 2; /* the struct was zeroed: both end with NUL */
    }
    p->message.headers = p->headers;
    p->message.header_count = p->options->headers.count;
    return true;
}

static enum cli_exit check_usage(struct cli *cli, const struct pub_options *o, bool has_message)
{
    if (has_message && (o->files.count || o->lines || o->null || o->whole))
        return cli_complain(cli, CLI_USAGE, "give MESSAGE, or --file, --lines, --null or --whole, not both");
    if (o->lines + o->null + o->whole > 1)
        return cli_complain(cli, CLI_USAGE, "--lines, --null and --whole exclude each other");
    if (o->key && !*o->key)
        return cli_complain(cli, CLI_USAGE, "--key: the key is empty; leave the option out for a message without key");
    return CLI_OK;
}

static enum cli_exit run_pub(struct cli *cli, const void *options, int count, char **operands)
{
    static struct pub pub; /* large */
    const struct pub_options *o = options;
    struct pub *p = running = &pub;
    *p = (struct pub){.cli = cli, .options = o, .queue = operands[0]};
    p->message = (broker_message){.size = sizeof p->message, .key = o->key};
    enum cli_exit code = check_usage(cli, o, count > 1);
    if (code != CLI_OK)
        return code;
    if (!split_headers(p))
        return CLI_USAGE;
    code = cli_connect(cli, &(broker_options){.outbox_messages = (size_t)o->window.value,
                                              .outbox_bytes = (size_t)o->max_bytes.value + (1u << 20)});
    if (code != CLI_OK)
        return code;
    if (o->create) {
        broker_error error = broker_queue_create(cli->broker, p->queue, NULL);
        if (error != BROKER_OK && error != BROKER_QUEUE_EXISTS)
            return cli_fail(cli, error, "create queue '%s'", p->queue);
    }
    cli_catch_interrupts();
    p->start_ns = p->progress_ns = p->last_answer_ns = machine_now_ns();
    p->draws_progress = count == 1 && !o->quiet && !cli->common.json && isatty(STDERR_FILENO);
    bool ok = publish_all(p, count > 1 ? operands[1] : NULL);
    /* Whatever happened, what is under way is answered; a deadline that passed already is not waited for again. */
    while (p->confirmed + p->refused < p->sent && p->error != BROKER_TIMEOUT && p->error != BROKER_CONNECTION_LOST)
        turn(p, -1, NULL);
    if (p->draws_progress && p->progress_ns != p->start_ns)
        fprintf(stderr, "\r\033[K");
    if (p->error != BROKER_OK)
        return report_failure(p);
    report(p);
    return ok || cli_interrupted ? CLI_OK : CLI_FAILED;
}

const struct command pub_commands[] = {
    {"pub", "QUEUE [MESSAGE]", 1, 2, "publish messages", pub_details, pub_options, sizeof(struct pub_options), run_pub},
    {0},
};
