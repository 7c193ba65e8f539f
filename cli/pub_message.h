/*
 * Owns:            what a published message carries beside its body: options, and fields of a line.
 * May use:         cli.h, headers.
 * Never knows:     how it is sent.
 * Start reading at message_begin.
 */
#ifndef CLI_PUB_MESSAGE_H
#define CLI_PUB_MESSAGE_H

#include "cli.h"
#include "headers.h"

#define MESSAGE_FIELDS_MAX 8
#define MESSAGE_TEXT_BYTES 1024 /* of a topic, a number, a duration in a line's fields */

struct message_options {
    struct arg_list headers;
    const char *key, *topic, *id, *at, *fields;
    struct arg_number priority, delay_ms, ttl_ms;
};

#define MESSAGE_OPTIONS(type, field)                                                                                     \
    {"header",                                                                                                           \
     'H',                                                                                                                \
     ARG_LIST,                                                                                                           \
     "NAME:VALUE",                                                                                                       \
     NULL,                                                                                                               \
     "a header of every message; may be repeated",                                                                       \
     offsetof(type, field.headers),                                                                                      \
     0,                                                                                                                  \
     0},                                                                                                                 \
        {"key", 'k', ARG_TEXT, "KEY", NULL, "ordering key of every message", offsetof(type, field.key), 0, 0},           \
        {"topic",                                                                                                        \
         't',                                                                                                            \
         ARG_TEXT,                                                                                                       \
         "TOPIC",                                                                                                        \
         NULL,                                                                                                           \
         "topic of every message; without QUEUE it says where they go",                                                  \
         offsetof(type, field.topic),                                                                                    \
         0,                                                                                                              \
         0},                                                                                                             \
        {"id",                                                                                                           \
         0,                                                                                                              \
         ARG_TEXT,                                                                                                       \
         "ID",                                                                                                           \
         NULL,                                                                                                           \
         "message id: a second message of the same id is not stored",                                                    \
         offsetof(type, field.id),                                                                                       \
         0,                                                                                                              \
         0},                                                                                                             \
        {"priority", 'p', ARG_NUMBER, "0-9", "0", "9 goes first", offsetof(type, field.priority), 0, 9},                 \
        {"delay", 0, ARG_DURATION, "TIME", NULL, "hand out not before so long from now", offsetof(type, field.delay_ms), \
         0,       0},                                                                                                    \
        {"at", 0, ARG_TEXT, "TIME", NULL, "hand out not before " ARGS_WHEN_HELP, offsetof(type, field.at), 0, 0},        \
        {"ttl", 0, ARG_DURATION, "TIME", NULL, "expires after so long", offsetof(type, field.ttl_ms), 1, 0},             \
    {                                                                                                                    \
        "fields", 0, ARG_TEXT, "NAMES", NULL, "input lines have these fields between tabs, see below",                   \
            offsetof(type, field.fields), 0, 0                                                                           \
    }

struct message_builder {
    broker_message message;  /* the next to be sent */
    broker_message template; /* what the options say; a line's fields, where not empty, go before */
    struct header_list headers;
    int fields[MESSAGE_FIELDS_MAX]; /* of a line, but for the body, which is the last */
    size_t field_count;
    bool has_topic; /* of an option or a field */
    char topic[MESSAGE_TEXT_BYTES];
};

/* message_begin: what the options say. false: told. */
bool message_begin(struct cli *cli, const struct message_options *o, struct message_builder *out);
/* message_set: the body, or a line with fields. false: `error` says what is wrong with the line. */
bool message_set(struct message_builder *b, const char *bytes, size_t len, char *error, size_t error_bytes);

#endif
