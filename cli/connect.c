/* Opening the connection, and telling what went wrong in a way that helps. */
#include "cli.h"
#include "machine.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum cli_exit cli_exit_of(broker_error error)
{
    switch (error) {
    case BROKER_OK: return CLI_OK;
    case BROKER_CONNECTION_REFUSED:
    case BROKER_CONNECTION_LOST: return CLI_NO_BROKER;
    case BROKER_TIMEOUT: return CLI_TIMED_OUT;
    default: return CLI_FAILED;
    }
}

static const struct {
    broker_error error;
    const char *hint;
} hints[] = {
    {BROKER_QUEUE_NOT_FOUND, "create it with: broker queue create QUEUE; see what there is with: broker queue list"},
    {BROKER_QUEUE_EXISTS, "change its settings with: broker queue alter QUEUE"},
    {BROKER_GROUP_NOT_FOUND, "create it with: broker group create QUEUE GROUP"},
    {BROKER_GROUP_EXISTS, "move it with: broker group seek QUEUE GROUP --to WHERE"},
    {BROKER_STALE_RECEIPT, "the message was settled, or will come (or came) again with a new receipt"},
    {BROKER_QUEUE_PAUSED, "let it go on with: broker queue resume QUEUE"},
    {BROKER_QUEUE_FULL,
     "consume, or try again later; its limits: broker queue describe QUEUE, broker queue alter QUEUE"},
    {BROKER_UNROUTABLE, "bind a queue to it: broker bind QUEUE PATTERN; or allow it: broker pub --unroutable-ok"},
    {BROKER_CONNECTION_REFUSED,
     "is brokerd running there? Another address: --url or BROKER_URL; keep trying: --connect 10s"},
    {BROKER_DAMAGED, "look at the data directory with: broker fsck DIR"},
};

static enum cli_exit tell(struct cli *cli, enum cli_exit code, const char *name, const char *message, const char *hint,
                          bool retryable)
{
    struct text out = {0};
    if (cli->common.json) {
        struct json j = {.out = &out};
        json_open(&j, '{');
        json_put_text(&j, "error", name);
        json_put_text(&j, "text", message);
        if (hint)
            json_put_text(&j, "hint", hint);
        json_put_bool(&j, "retryable", retryable);
        json_put_u64(&j, "exit", (uint64_t)code);
        json_close(&j, '}');
        text_add(&out, "\n", 1);
    } else {
        text_addf(&out, "broker: %s\n", message);
        if (hint)
            text_addf(&out, "        %s\n", hint);
    }
    cli_write(STDERR_FILENO, out.bytes, out.len);
    text_release(&out);
    return code;
}

enum cli_exit cli_fail_saying(struct cli *cli, broker_error error, const char *text, const char *doing, ...)
{
    char what[600], message[1600];
    va_list args;
    va_start(args, doing);
    vsnprintf(what, sizeof what, doing, args);
    va_end(args);
    if (!text || !*text)
        text = broker_strerror(error);
    snprintf(message, sizeof message, "cannot %s: %s", what, text);
    const char *hint = NULL;
    for (size_t i = 0; i < sizeof hints / sizeof *hints; i++) {
        if (hints[i].error == error)
            hint = hints[i].hint;
    }
    return tell(cli, cli_exit_of(error), broker_error_name(error), message, hint, broker_error_is_retryable(error));
}

enum cli_exit cli_complain(struct cli *cli, enum cli_exit code, const char *format, ...)
{
    static const char *const names[] = {"OK", "FAILED", "USAGE", "CONNECTION_REFUSED", "TIMEOUT"};
    char message[1600], hint[300];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    snprintf(hint, sizeof hint, "see: broker help%s%s", cli->command ? " " : "",
             cli->command ? cli->command->name : "");
    return tell(cli, code, names[code], message, code == CLI_USAGE ? hint : NULL, false);
}

static const char *url_of(const struct cli *cli)
{
    const char *url = cli->common.url ? cli->common.url : getenv("BROKER_URL");
    return url && *url ? url : "broker://127.0.0.1:7440";
}

/*
 * Between two attempts a handle has no fd and a timer that runs; one that is due at once is for another address of
 * the name.
 */
static bool attempt_failed(const broker *b)
{
    return broker_fd(b) < 0 && broker_timeout_ms(b) > 0;
}

static broker_error await_connection(broker *b, uint64_t patience_ms, uint64_t attempt_ms)
{
    uint64_t start = machine_now_ns();
    for (;;) {
        broker_error error = broker_process(b, 0);
        if (error != BROKER_OK)
            return error;
        if (broker_is_connected(b))
            return BROKER_OK;
        uint64_t waited_ms = (machine_now_ns() - start) / 1000000;
        if ((attempt_failed(b) && waited_ms >= patience_ms) || waited_ms >= patience_ms + attempt_ms)
            return BROKER_CONNECTION_REFUSED;
        error = broker_wait(b, 100);
        if (error != BROKER_OK && error != BROKER_TIMEOUT)
            return error;
    }
}

/* A handle that will try again does not say why an attempt failed; one that will not does. */
static enum cli_exit tell_why(struct cli *cli, broker_options options, const char *url)
{
    broker *b;
    options.no_reconnect = true;
    broker_error error = broker_open(&b, &options);
    if (error == BROKER_OK)
        error = broker_connect(b);
    const char *text = error == BROKER_OK ? "the attempt failed, though the next one did not" : broker_error_text(b);
    char why[512];
    size_t skip = strncmp(text, "cannot connect to ", 18) == 0 && strstr(text, ": ") ? 2 : 0;
    snprintf(why, sizeof why, "%s", skip ? strstr(text, ": ") + skip : text);
    if (b)
        broker_close(b);
    cli_fail_saying(cli, BROKER_CONNECTION_REFUSED, why, "connect to %s", url);
    return CLI_NO_BROKER;
}

enum cli_exit cli_connect(struct cli *cli, const broker_options *tune)
{
    broker_options options = tune ? *tune : (broker_options){0};
    const char *url = url_of(cli);
    uint64_t timeout_ms = cli->common.timeout_ms.value;
    options.size = sizeof options;
    options.url = url;
    options.client_name = "broker";
    options.timeout_ms = (uint32_t)timeout_ms;
    options.connect_ms = timeout_ms < 5000 ? (uint32_t)timeout_ms : 5000;
    options.reconnect_max_ms = 1000;
    broker_error error = broker_open(&cli->broker, &options);
    if (error == BROKER_INVALID_ARGUMENT)
        return cli_complain(cli, CLI_USAGE, "%s", broker_error_text(NULL));
    if (error != BROKER_OK)
        return cli_fail(cli, error, "connect to %s", url);
    error = await_connection(cli->broker, cli->common.connect_ms.value, options.connect_ms + 100);
    return error == BROKER_OK ? CLI_OK : tell_why(cli, options, url);
}
