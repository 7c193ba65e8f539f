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
/* args_unescape: \n \t \r \0 \\ and \xHH, in place; false on another escape. *len is set. */
bool args_unescape(char *text, size_t *len);

/* args_nearest: of `count` names the one most like `name`, or NULL if none is like it. */
const char *args_nearest(const char *name, const char *const *names, size_t count);

#endif
