/* Values of several words: points in time, ranges, windows, backoffs; and numbers written back as they are read. */
#include "args.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define EARLIEST_SECONDS 1000000000u /* 2001-09-09: what is below is no Unix time that anybody means */
#define BACKOFF_MS_MAX   86400000u

bool args_when(const char *text, uint64_t now_ms, uint64_t *unix_ms)
{
    uint64_t ms;
    if (strcmp(text, "now") == 0) {
        *unix_ms = now_ms;
        return true;
    }
    if (strncmp(text, "in:", 3) == 0) {
        if (!args_duration(text + 3, &ms) || ms > UINT64_MAX - now_ms)
            return false;
        *unix_ms = now_ms + ms;
        return true;
    }
    if (strncmp(text, "ago:", 4) == 0) {
        if (!args_duration(text + 4, &ms))
            return false;
        *unix_ms = ms < now_ms ? now_ms - ms : 0;
        return true;
    }
    if (text[strspn(text, "0123456789.")] != '\0')
        return args_time(text, unix_ms);
    return args_duration(text, unix_ms) && *unix_ms >= EARLIEST_SECONDS * 1000ull;
}

static bool parse_seq(const char *text, char **end, uint64_t *seq)
{
    if (!isdigit((unsigned char)*text))
        return false;
    *seq = strtoull(text, end, 10); /* one too large becomes UINT64_MAX, which is past every message */
    return *seq > 0;
}

bool args_seqs(const char *text, uint64_t *first, uint64_t *last)
{
    char *end;
    if (!parse_seq(text, &end, first))
        return false;
    *last = *first;
    if (*end == '\0')
        return true;
    return *end == '-' && parse_seq(end + 1, &end, last) && *end == '\0' && *last >= *first;
}

/* The part of `text` up to `separator` (or its end), as a string of its own; *rest is what follows, NULL: nothing. */
static bool cut(const char *text, char separator, char out[ARGS_TEXT_BYTES], const char **rest)
{
    const char *end = strchrnul(text, separator);
    size_t len = (size_t)(end - text);
    if (len >= ARGS_TEXT_BYTES)
        return false;
    memcpy(out, text, len);
    out[len] = '\0';
    *rest = *end ? end + 1 : NULL;
    return true;
}

bool args_window(const char *text, uint64_t *ms, uint64_t *count, bool *count_given)
{
    char part[ARGS_TEXT_BYTES];
    const char *rest;
    *count_given = false;
    if (strcmp(text, "off") == 0) {
        *ms = 0;
        return true;
    }
    if (!cut(text, ',', part, &rest) || !args_duration(part, ms))
        return false;
    *count_given = rest != NULL;
    return !rest || args_number(rest, count);
}

static bool parse_wait(const char *text, uint32_t *out)
{
    uint64_t ms;
    if (!args_duration(text, &ms) || ms == 0 || ms > BACKOFF_MS_MAX)
        return false;
    *out = (uint32_t)ms;
    return true;
}

static bool parse_jitter(const char *text, uint32_t *percent)
{
    uint64_t value;
    char part[ARGS_TEXT_BYTES];
    const char *rest;
    if (strncmp(text, "jitter=", 7) != 0 || !cut(text + 7, '%', part, &rest) || (rest && *rest))
        return false;
    if (!args_number(part, &value) || value > 100)
        return false;
    *percent = (uint32_t)value;
    return true;
}

bool args_backoff(const char *text, struct arg_backoff *out)
{
    struct arg_backoff b = {0};
    char wait[ARGS_TEXT_BYTES];
    const char *jitter;
    if (strcmp(text, "none") == 0) {
        *out = b;
        return true;
    }
    b.kind = strncmp(text, "fixed:", 6) == 0 ? ARG_BACKOFF_FIXED : ARG_BACKOFF_EXPONENTIAL;
    size_t head = b.kind == ARG_BACKOFF_FIXED ? 6 : 12;
    if (b.kind == ARG_BACKOFF_EXPONENTIAL && strncmp(text, "exponential:", 12) != 0)
        return false;
    if (!cut(text + head, ',', wait, &jitter) || (jitter && !parse_jitter(jitter, &b.jitter_percent)))
        return false;
    char *dots = strstr(wait, "..");
    if (dots && b.kind == ARG_BACKOFF_FIXED)
        return false;
    if (dots)
        *dots = '\0';
    if (!parse_wait(wait, &b.ms) || (dots && !parse_wait(dots + 2, &b.max_ms)) || (dots && b.max_ms < b.ms))
        return false;
    *out = b;
    return true;
}

/* The value in the largest of the units (smallest first) that divides it. */
static const char *exact(char out[ARGS_TEXT_BYTES], uint64_t value, const char *const *names, const uint64_t *factors,
                         size_t count)
{
    size_t i = 0;
    while (value && i + 1 < count && value % factors[i + 1] == 0)
        i++;
    snprintf(out, ARGS_TEXT_BYTES, "%" PRIu64 "%s", value / factors[i], names[i]);
    return out;
}

const char *args_duration_text(char out[ARGS_TEXT_BYTES], uint64_t ms)
{
    static const char *const names[] = {"ms", "s", "min", "h", "d"};
    static const uint64_t factors[] = {1, 1000, 60000, 3600000, 86400000};
    return exact(out, ms, names, factors, 5);
}

const char *args_size_text(char out[ARGS_TEXT_BYTES], uint64_t bytes)
{
    static const char *const names[] = {"", "KiB", "MiB", "GiB", "TiB"};
    static const uint64_t factors[] = {1, 1ull << 10, 1ull << 20, 1ull << 30, 1ull << 40};
    return exact(out, bytes, names, factors, 5);
}

const char *args_backoff_text(char out[ARGS_TEXT_BYTES], const struct arg_backoff *b)
{
    char first[ARGS_TEXT_BYTES], last[ARGS_TEXT_BYTES], jitter[24] = "";
    args_duration_text(first, b->ms);
    args_duration_text(last, b->max_ms);
    if (b->jitter_percent)
        snprintf(jitter, sizeof jitter, ",jitter=%u%%", b->jitter_percent);
    if (b->kind == ARG_BACKOFF_NONE)
        snprintf(out, ARGS_TEXT_BYTES, "none");
    else if (b->kind == ARG_BACKOFF_FIXED)
        snprintf(out, ARGS_TEXT_BYTES, "fixed:%.24s%s", first, jitter);
    else
        snprintf(out, ARGS_TEXT_BYTES, "exponential:%.24s%s%.24s%s", first, b->max_ms ? ".." : "",
                 b->max_ms ? last : "", jitter);
    return out;
}
