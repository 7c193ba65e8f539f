/*
 * Owns:            which messages of a queue a command means: range, times, state, filter; one scan over them with
 *                  progress, and telling its result.
 * May use:         cli.h, headers.
 * Never knows:     what is done with them.
 * Start reading at struct selection_options.
 */
#ifndef CLI_SELECTION_H
#define CLI_SELECTION_H

#include "cli.h"
#include "headers.h"

struct selection_options {
    struct arg_number from_seq, to_seq;
    const char *since, *until, *topic, *key;
    struct arg_list headers, seqs;
};

/* Rows of an option table; `type` has a member `field` of struct selection_options. */
#define SELECTION_SEQ_OPTION(type, field)                                                                              \
    {                                                                                                                  \
        "seq", 's', ARG_LIST, "SEQ[-SEQ]", NULL, "this message, or this range; may be repeated",                       \
            offsetof(type, field.seqs), 0, 0                                                                           \
    }
#define SELECTION_RANGE_OPTIONS(type, field)                                                                           \
    {"from-seq", 0, ARG_NUMBER, "SEQ", NULL, "from this seq on", offsetof(type, field.from_seq), 1, 0},                \
        {"to-seq", 0, ARG_NUMBER, "SEQ", NULL, "up to this seq", offsetof(type, field.to_seq), 1, 0},                  \
        {"since", 0, ARG_TEXT, "TIME", NULL, "accepted since: " ARGS_WHEN_HELP, offsetof(type, field.since), 0, 0},    \
        {"until", 0, ARG_TEXT, "TIME", NULL, "accepted up to then", offsetof(type, field.until), 0, 0},                \
        {"topic",                                                                                                      \
         't',                                                                                                          \
         ARG_TEXT,                                                                                                     \
         "PATTERN",                                                                                                    \
         NULL,                                                                                                         \
         "topic matches; * is one token, > the rest",                                                                  \
         offsetof(type, field.topic),                                                                                  \
         0,                                                                                                            \
         0},                                                                                                           \
        {"key", 'k', ARG_TEXT, "KEY", NULL, "of this key", offsetof(type, field.key), 0, 0},                           \
    {                                                                                                                  \
        "header", 'H', ARG_LIST, "NAME=VALUE", NULL, "has this header; may be repeated, all must match",               \
            offsetof(type, field.headers), 0, 0                                                                        \
    }

struct selection {
    broker_scan_options scan; /* points into this struct */
    struct header_list headers;
    struct {
        uint64_t first, last;
    } ranges[ARG_LIST_MAX]; /* of --seq; none: the one in scan */
    size_t range_count;
    bool is_all; /* nothing was asked for */
};

/* selection_fill: false: told. */
bool selection_fill(struct cli *cli, const struct selection_options *o, struct selection *out);

struct scan_job {
    const char *queue;
    broker_scan_action action;
    const char *done, *would; /* "deleted", "would be deleted" */
    const char *json_name;    /* "deleted" */
    const char *skipped_why;  /* "leased to a consumer" */
    const char *verb;         /* "delete messages of": for a failure */
    bool dry_run;
};

/* scan_run: do it for each range, and print what came of it. With --seq, that nothing matched is a failure. */
enum cli_exit scan_run(struct cli *cli, const struct scan_job *job, struct selection *s);

#endif
