/* Writing, asking, and numbers as people read them. */
#include "cli.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

volatile int cli_interrupted;

static void on_interrupt(int signal_number)
{
    cli_interrupted = signal_number;
}

void cli_catch_interrupts(void)
{
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

bool cli_write(int fd, const void *bytes, size_t len)
{
    const char *p = bytes;
    while (len > 0) {
        ssize_t n = write(fd, p, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) { /* whoever shares the descriptor made it non-blocking */
            poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, -1);
            continue;
        }
        if (n < 0)
            return false;
        p += n;
        len -= (size_t)n;
    }
    return true;
}

bool cli_print(struct cli *cli, struct text *text)
{
    bool ok = !text->failed && cli_write(STDOUT_FILENO, text->bytes, text->len);
    if (text->failed)
        cli_complain(cli, CLI_FAILED, "out of memory for the output");
    else if (!ok && errno != EPIPE)
        cli_complain(cli, CLI_FAILED, "cannot write to standard output: %s", strerror(errno));
    text_release(text);
    return ok;
}

bool cli_confirm(bool yes, const char *question, const char *name)
{
    if (yes || !isatty(STDIN_FILENO) || !isatty(STDERR_FILENO))
        return true;
    fprintf(stderr, "%s '%s'? [y/N] ", question, name);
    char answer[16] = "";
    return fgets(answer, sizeof answer, stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}

uint64_t cli_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

bool cli_when(struct cli *cli, const char *option, const char *text, uint64_t *unix_ms)
{
    if (args_when(text, cli_now_ms(), unix_ms))
        return true;
    cli_complain(cli, CLI_USAGE, "--%s: '%s' is not " ARGS_WHEN_HELP, option, text);
    return false;
}

enum cli_exit cli_told(struct cli *cli, const char *queue, const char *name, const char *value, const char *done)
{
    struct text out = {0};
    if (cli->common.json) {
        struct json j = {.out = &out};
        json_open(&j, '{');
        json_put_text(&j, "queue", queue);
        if (name)
            json_put_text(&j, name, value);
        json_put_text(&j, "done", done);
        json_close(&j, '}');
        text_add(&out, "\n", 1);
    } else if (name) {
        text_addf(&out, "%s '%s' of queue '%s' %s\n", name, value, queue, done);
    } else {
        text_addf(&out, "queue '%s' %s\n", queue, done);
    }
    return cli_print(cli, &out) ? CLI_OK : CLI_FAILED;
}

static struct cli_number with_unit(double value, double step, const char *const *units, size_t count)
{
    struct cli_number n;
    size_t i = 0;
    while (value >= step * 0.9995 && i + 1 < count) {
        value /= step;
        i++;
    }
    int decimals = units[i][0] == '\0' || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
    snprintf(n.text, sizeof n.text, "%.*f%s%s", decimals, value, *units[i] ? " " : "", units[i]);
    return n;
}

struct cli_number cli_count(double value)
{
    static const char *const units[] = {"", "k", "M", "G"};
    return with_unit(value, 1000, units, 4);
}

struct cli_number cli_bytes(double bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    struct cli_number n = with_unit(bytes, 1024, units, 5);
    if (bytes < 1024)
        snprintf(n.text, sizeof n.text, "%.0f B", bytes);
    return n;
}

struct cli_number cli_time(double seconds)
{
    static const char *const units[] = {"µs", "ms", "s"};
    if (seconds == 0)
        return (struct cli_number){"0 s"};
    if (seconds < 100)
        return with_unit(seconds * 1e6, 1000, units, 3);
    struct cli_number n;
    unsigned long s = (unsigned long)seconds;
    if (s < 3600)
        snprintf(n.text, sizeof n.text, "%lu min %lu s", s / 60, s % 60);
    else if (s < 86400)
        snprintf(n.text, sizeof n.text, "%lu h %lu min", s / 3600, s / 60 % 60);
    else
        snprintf(n.text, sizeof n.text, "%lu d %lu h", s / 86400, s / 3600 % 24);
    return n;
}
