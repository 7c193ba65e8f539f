/*
 * Owns:            the options of a command as a table: parsing, units, help lines, the nearest name to a misspelt one.
 * May use:         libc.
 * Never knows:     which commands there are; the broker.
 * Start reading at struct arg_option.
 */
#ifndef CLI_ARGS_H
#define CLI_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define ARG_LIST_MAX 64 /* values of one repeated option */

enum arg_type {
    ARG_FLAG,     /* bool */
    ARG_TEXT,     /* const char *, into argv */
    ARG_NUMBER,   /* struct arg_number; suffixes k, M, G are powers of 1000 */
    ARG_SIZE,     /* struct arg_number, bytes; KiB, MiB, GiB, TiB */
    ARG_DURATION, /* struct arg_number, milliseconds; ms, s, m or min, h, d; without a unit: seconds */
    ARG_CHOICE,   /* int: 1 for the first choice named in `value`, 0 if absent */
    ARG_LIST,     /* struct arg_list, one entry each time the option is given */
};

struct arg_number {
    uint64_t value;
    bool given; /* by the user: false if `value` is the fallback */
};

struct arg_list {
    const char *items[ARG_LIST_MAX];
    size_t count;
};

struct arg_option { /* a table ends with a NULL name */
    const char *name;
    char letter; /* 0: none */
    enum arg_type type;
    const char *value;    /* what the help calls the value; ARG_CHOICE: the choices, "always|interval|none" */
    const char *fallback; /* the default, as the user would write it; NULL: none */
    const char *help;
    size_t offset;     /* of the target in the options struct */
    uint64_t min, max; /* of a number; max 0: no limit */
};

struct arg_set { /* one table and the struct that it fills */
    const struct arg_option *options;
    void *target;
};

/*
 * args_parse: apply the fallbacks (if `fresh`), then argv. argv[0] is skipped; operands are moved to the end, and
 * *operands says where they begin; with `stop_at_operand` parsing ends at the first one. On failure error holds one
 * sentence.
 */
bool args_parse(const struct arg_set *sets, size_t set_count, int argc, char **argv, bool stop_at_operand, bool fresh,
                int *operands, char *error, size_t error_bytes);
/* args_print_help: a line an option; without those that `hiding` (NULL: none) has too. */
void args_print_help(FILE *out, const struct arg_option *options, const struct arg_option *hiding);

bool args_number(const char *text, uint64_t *out);
bool args_size(const char *text, uint64_t *bytes);
bool args_duration(const char *text, uint64_t *ms);
/* args_time: RFC 3339 ("2026-01-31T12:00:00Z", with an offset, fractions allowed) to Unix milliseconds. */
bool args_time(const char *text, uint64_t *unix_ms);
/*
 * args_when: a point in time, Unix milliseconds: RFC 3339, Unix seconds ("1769860800", "1769860800.5"; from 2001 on, so
 * that a small number is not taken for a time), "now", "in:10min" or "ago:10min" counted from now_ms.
 */
bool args_when(const char *text, uint64_t now_ms, uint64_t *unix_ms);
#define ARGS_WHEN_HELP "a time (2026-01-31T12:00:00Z), Unix seconds, in:10min or ago:10min"
/* args_seqs: "17", or "17-20" with both ends; from 1 on. */
bool args_seqs(const char *text, uint64_t *first, uint64_t *last);
/* args_window: "2min", "2min,50000" or "off"; *count_given says whether there is a number. */
bool args_window(const char *text, uint64_t *ms, uint64_t *count, bool *count_given);

struct arg_backoff { /* all zero: none */
    enum arg_backoff_kind { ARG_BACKOFF_NONE, ARG_BACKOFF_FIXED, ARG_BACKOFF_EXPONENTIAL } kind;
    uint32_t ms, max_ms, jitter_percent; /* max_ms 0: none given */
};
/* args_backoff: "none", "fixed:5s", "exponential:1s..10min", each but the first with ",jitter=20%" if wanted. */
bool args_backoff(const char *text, struct arg_backoff *out);
#define ARGS_BACKOFF_HELP "none, fixed:5s, or exponential:1s..10min, with ,jitter=20% if wanted"

#define ARGS_TEXT_BYTES 96
/* args_duration_text: what args_duration understands, in the largest unit that is exact: "90s", "10min". Returns out. */
const char *args_duration_text(char out[ARGS_TEXT_BYTES], uint64_t ms);
const char *args_size_text(char out[ARGS_TEXT_BYTES], uint64_t bytes);
const char *args_backoff_text(char out[ARGS_TEXT_BYTES], const struct arg_backoff *backoff);

/* args_unescape: \n \t \r \0 \\ and \xHH, in place; false on another escape. *len is set. */
bool args_unescape(char *text, size_t *len);

/* args_nearest: of `count` names the one most like `name`, or NULL if none is like it. */
const char *args_nearest(const char *name, const char *const *names, size_t count);

#endif
