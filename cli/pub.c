/* broker pub: an argument, lines, NUL-separated pieces or whole files become messages, pipelined. */
#include "pub.h"
#include "cli.h"
#include "input.h"
#include "machine.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define AT(field) offsetof(struct pub_options, field)
static const struct arg_option pub_options[] = {
    {"file", 'f', ARG_LIST, "FILE", NULL, "publish this file ('-': standard input); may be repeated", AT(files), 0, 0},
    {"lines", 'l', ARG_FLAG, NULL, NULL, "one message a line (default for standard input)", AT(lines), 0, 0},
    {"null", '0', ARG_FLAG, NULL, NULL, "messages end with a NUL byte", AT(null), 0, 0},
    {"whole", 'w', ARG_FLAG, NULL, NULL, "each input is one message (default for --file)", AT(whole), 0, 0},
    MESSAGE_OPTIONS(struct pub_options, message),
    {"unroutable-ok", 0, ARG_FLAG, NULL, NULL, "by topic: that no queue is bound for it is no failure",
     AT(unroutable_ok), 0, 0},
    {"also", 0, ARG_LIST, "QUEUE", NULL, "to this queue too, in all or in none; may be repeated", AT(also), 0, 0},
    {"atomic", 0, ARG_FLAG, NULL, NULL, "all messages of this command, or none", AT(atomic), 0, 0},
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
    "With --topic and no QUEUE a message goes to every queue that is bound for the topic, in all or in none (broker "
    "bind).\n"
    "A single operand is the MESSAGE then, unless --lines, --null, --whole or --file says that the input has them.\n"
    "With QUEUE the topic is only what the message is about.\n"
    "\n"
    "--fields key,id,body: lines are KEY, tab, ID, tab, BODY. Fields are key, id, topic, priority, delay, ttl; body "
    "is\n"
    "the last. An empty field is as the options say.\n"
    "\n"
    "The command ends when every message is confirmed. If one is refused it stops reading, waits for what is under "
    "way,\n"
    "and says how many were confirmed and where it stopped; with --atomic nothing was published then.\n"
    "\n"
    "  broker pub orders '{\"id\": 17}' -H content-type:application/json\n"
    "  broker pub orders '{\"id\": 17}' --id order-17 -k customer-7 --priority 9\n"
    "  broker pub reminders 'call back' --delay 2h          or --at 2027-01-01T09:00:00Z\n"
    "  broker pub --topic orders.eu.created '{\"id\": 17}'\n"
    "  broker pub orders '{\"id\": 17}' --also audit --also billing\n"
    "  journalctl -f | broker pub logs --create\n"
    "  broker pub photos -f cat.jpg -k cats\n"
    "  find . -print0 | broker pub files -0\n";

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
    p->queues += result->queues;
    if (result->seq && (!p->first_seq || result->seq < p->first_seq))
        p->first_seq = result->seq;
    if (result->seq > p->last_seq)
        p->last_seq = result->seq;
}

/* ---- all or nothing ------------------------------------------------------------------------------------------------ */

/* What a commit gave: of each message the seq in QUEUE, or by topic the number of queues. */
static void take_numbers(struct pub *p, const uint64_t *seqs, uint64_t messages, uint64_t copies)
{
    for (uint64_t i = 0; !p->queue && i < messages; i++)
        p->queues += seqs[i * copies];
    if (p->queue) {
        p->first_seq = p->first_seq ? p->first_seq : seqs[0];
        p->last_seq = seqs[(messages - 1) * copies];
    }
}

static broker_error commit(struct pub *p)
{
    broker_publish_options how = {
        .size = sizeof how, .sync = cli_sync(p->options->sync), .unroutable_ok = p->options->unroutable_ok};
    uint64_t messages = p->transaction_messages, copies = 1 + p->options->also.count;
    uint64_t *seqs = calloc(messages * copies, sizeof *seqs);
    if (!seqs) {
        broker_transaction_abort(p->transaction);
        p->transaction = NULL;
        remember_failure(p, BROKER_NO_MEMORY, p->sent, "");
        p->refused += messages;
        return BROKER_NO_MEMORY;
    }
    broker_error error = broker_transaction_commit(p->transaction, &how, seqs);
    p->transaction = NULL;
    p->transaction_messages = 0;
    if (error == BROKER_OK) {
        p->confirmed += messages;
        take_numbers(p, seqs, messages, copies);
    } else {
        p->refused += messages;
        remember_failure(p, error, p->sent, broker_error_text(p->cli->broker));
    }
    free(seqs);
    return error;
}

/* The message to QUEUE and every --also in one transaction, which is committed now or, with --atomic, at the end. */
static broker_error send_in_transaction(struct pub *p)
{
    const struct arg_list *also = &p->options->also;
    const broker_message *m = &p->builder.message;
    broker_error error = p->transaction ? BROKER_OK : broker_transaction_begin(p->cli->broker, &p->transaction);
    if (error == BROKER_OK)
        error = broker_transaction_publish(p->transaction, p->queue, m);
    for (size_t i = 0; i < also->count && error == BROKER_OK; i++)
        error = broker_transaction_publish(p->transaction, also->items[i], m);
    if (error != BROKER_OK) {
        remember_failure(p, error, p->sent + 1, broker_error_text(p->cli->broker));
        return error;
    }
    p->sent++;
    p->transaction_messages++;
    p->bytes += m->body_len;
    return p->options->atomic ? BROKER_OK : commit(p);
}

static bool is_transactional(const struct pub *p)
{
    return p->options->atomic || p->options->also.count > 0;
}

/* ---- one after the other ------------------------------------------------------------------------------------------- */

static broker_error send_message(struct pub *p, const char *body, size_t len)
{
    broker_publish_options how = {
        .size = sizeof how, .sync = cli_sync(p->options->sync), .unroutable_ok = p->options->unroutable_ok};
    char wrong[200];
    if (!message_set(&p->builder, body, len, wrong, sizeof wrong)) {
        remember_failure(p, BROKER_INVALID_ARGUMENT, p->sent + 1, wrong);
        return BROKER_INVALID_ARGUMENT;
    }
    if (is_transactional(p))
        return send_in_transaction(p);
    if (p->sent - p->confirmed - p->refused >= p->options->window.value)
        return BROKER_OUTBOX_FULL;
    broker_error error = broker_publish_async(p->cli->broker, p->queue, &p->builder.message, &how, on_confirm,
                                              (void *)(uintptr_t)(p->sent + 1));
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
    bool lines = o->lines || (o->message.fields && !o->whole) || (o->files.count == 0 && !o->whole);
    enum input_mode mode = o->null ? INPUT_NULL : lines ? INPUT_LINES : INPUT_WHOLE;
    if (o->files.count == 0)
        return publish_file(p, "-", mode);
    for (size_t i = 0; i < o->files.count; i++) {
        if (!publish_file(p, o->files.items[i], mode))
            return false;
    }
    return true;
}

/* Which operand is what; see pub_details. */
static enum cli_exit split_operands(struct pub *p, int count, char **operands, const char **message)
{
    const struct pub_options *o = p->options;
    bool has_input = o->files.count || o->lines || o->null || o->whole || o->message.fields;
    bool only_message = count == 1 && o->message.topic && !has_input;
    p->queue = count > 0 && !only_message ? operands[0] : NULL;
    *message = count == 2 ? operands[1] : only_message ? operands[0] : NULL;
    if (!p->queue && !p->builder.has_topic)
        return cli_complain(p->cli, CLI_USAGE, "where to? give QUEUE, or --topic");
    if (*message && has_input)
        return cli_complain(p->cli, CLI_USAGE,
                            "give MESSAGE, or --file, --lines, --null, --whole or --fields, not both");
    if (o->lines + o->null + o->whole > 1)
        return cli_complain(p->cli, CLI_USAGE, "--lines, --null and --whole exclude each other");
    if (!p->queue && o->create)
        return cli_complain(p->cli, CLI_USAGE, "--create needs a QUEUE");
    return CLI_OK;
}

static enum cli_exit create_queues(struct pub *p)
{
    for (size_t i = 0; i <= p->options->also.count; i++) {
        const char *queue = i == 0 ? p->queue : p->options->also.items[i - 1];
        broker_error error = broker_queue_create(p->cli->broker, queue, NULL);
        if (error != BROKER_OK && error != BROKER_QUEUE_EXISTS)
            return cli_fail(p->cli, error, "create queue '%s'", queue);
    }
    return CLI_OK;
}

static enum cli_exit run_pub(struct cli *cli, const void *options, int count, char **operands)
{
    static struct pub pub; /* large */
    const struct pub_options *o = options;
    const char *message;
    struct pub *p = running = &pub;
    *p = (struct pub){.cli = cli, .options = o};
    if (!message_begin(cli, &o->message, &p->builder))
        return CLI_USAGE;
    enum cli_exit code = split_operands(p, count, operands, &message);
    if (code != CLI_OK)
        return code;
    code = cli_connect(cli, &(broker_options){.outbox_messages = (size_t)o->window.value,
                                              .outbox_bytes = (size_t)o->max_bytes.value + (1u << 20)});
    if (code == CLI_OK && o->create)
        code = create_queues(p);
    if (code != CLI_OK)
        return code;
    cli_catch_interrupts();
    p->start_ns = p->progress_ns = p->last_answer_ns = machine_now_ns();
    p->draws_progress = !message && !o->quiet && !cli->common.json && isatty(STDERR_FILENO);
    bool ok = publish_all(p, message);
    if (p->transaction && ok && !cli_interrupted)
        commit(p);
    else if (p->transaction)
        broker_transaction_abort(p->transaction);
    /* Whatever happened, what is under way is answered; a deadline that passed already is not waited for again. */
    while (!is_transactional(p) && p->confirmed + p->refused < p->sent && p->error != BROKER_TIMEOUT &&
           p->error != BROKER_CONNECTION_LOST)
        turn(p, -1, NULL);
    if (p->draws_progress && p->progress_ns != p->start_ns)
        fprintf(stderr, "\r\033[K");
    if (p->error != BROKER_OK)
        return pub_report_failure(p);
    pub_report(p);
    return ok || cli_interrupted ? CLI_OK : CLI_FAILED;
}

const struct command pub_commands[] = {
    {"pub", "[QUEUE] [MESSAGE]", 0, 2, "publish messages", pub_details, pub_options, sizeof(struct pub_options),
     run_pub},
    {0},
};
