#include "log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LOG_LINE_BYTES 2048

/* Process-wide on purpose: standard error is. Set once at start, before any thread. */
static struct {
    enum log_level least;
    int journal_prefix;
} log_state = {.least = LOG_LEVEL_INFO};

void log_setup(enum log_level least, int journal_prefix)
{
    log_state.least = least;
    log_state.journal_prefix = journal_prefix;
}

static const char *log_level_word(enum log_level level)
{
    switch (level) {
    case LOG_LEVEL_ERROR: return "error: ";
    case LOG_LEVEL_WARNING: return "warning: ";
    case LOG_LEVEL_NOTICE: return "";
    case LOG_LEVEL_INFO: return "";
    case LOG_LEVEL_DEBUG: return "debug: ";
    }
    return "";
}

/* Control characters that a peer put into a name must not forge lines or move a terminal's cursor. */
static void log_defuse(char *text)
{
    for (char *p = text; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
}

void log_write(enum log_level level, const char *format, ...)
{
    if (level > log_state.least)
        return;
    int saved_errno = errno;
    char line[LOG_LINE_BYTES];
    int n;
    if (log_state.journal_prefix)
        n = snprintf(line, sizeof(line), "<%d>", (int)level);
    else
        n = snprintf(line, sizeof(line), "brokerd: %s", log_level_word(level));
    va_list args;
    va_start(args, format);
    vsnprintf(line + n, sizeof(line) - (size_t)n - 1, format, args); /* one byte is kept for the newline */
    va_end(args);
    log_defuse(line);
    size_t len = strlen(line);
    line[len++] = '\n';
    /* One write a line, so that lines of several threads do not mix. When standard error is gone, so is whom to tell. */
    ssize_t ignored = write(STDERR_FILENO, line, len);
    (void)ignored;
    errno = saved_errno;
}
