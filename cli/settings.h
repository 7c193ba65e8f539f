/*
 * Owns:            the settings of queues and groups: as options, as text, as JSON and back, and what differs.
 * May use:         cli.h, jansson.
 * Never knows:     which command asks.
 * Start reading at settings_from_options.
 */
#ifndef CLI_SETTINGS_H
#define CLI_SETTINGS_H

#include "cli.h"
#include "headers.h"

#include <jansson.h>

struct settings_options {
    struct arg_number lease_ms, max_message_bytes, log_max_age_ms, log_max_bytes, log_max_messages, max_attempts,
        ttl_ms, unused_ms, max_messages, max_bytes;
    const char *backoff, *dead_letter, *dedup;
    int retention, sync, overflow, dead_letter_expired, ordered_keys, fair_keys, compact;
    bool exist_ok, quiet;
};
extern const struct arg_option settings_create_options[];
#define SETTINGS_ALTER_OPTIONS (settings_create_options + 1) /* without --exist-ok */

/* settings_from_options: what was given is set. false: told. Texts point into the options. */
bool settings_from_options(struct cli *cli, const struct settings_options *o, broker_queue_settings *out);
/* settings_json: as keys of the object that is open. settings_text: lines of `broker queue describe`. */
void settings_json(struct json *j, const broker_queue_settings *s);
void settings_text(struct text *out, const broker_queue_settings *s);
/*
 * settings_from_json: what settings_json wrote, or a part of it. Texts point into the value. false: `error` says what is
 * wrong.
 */
bool settings_from_json(json_t *object, broker_queue_settings *out, char *error, size_t error_bytes);
/* settings_differ: those that `wanted` sets and that are not so in `there`: BROKER_SET_... */
uint32_t settings_differ(const broker_queue_settings *wanted, const broker_queue_settings *there);
/* settings_names: of the bits, separated by commas. */
void settings_names(struct text *out, uint32_t set);

struct group_options {
    const char *filter_topic, *filter_key;
    struct arg_list filter_headers;
    int single_active;
    bool no_filter;
};
#define GROUP_SETTINGS_OPTIONS(type, field)                                                                            \
    {"filter-topic",                                                                                                   \
     0,                                                                                                                \
     ARG_TEXT,                                                                                                         \
     "PATTERN",                                                                                                        \
     NULL,                                                                                                             \
     "only messages whose topic matches; * is one token, > the rest",                                                  \
     offsetof(type, field.filter_topic),                                                                               \
     0,                                                                                                                \
     0},                                                                                                               \
        {"filter-key", 0, ARG_TEXT, "KEY", NULL, "only messages of this key", offsetof(type, field.filter_key), 0, 0}, \
        {"filter-header",                                                                                              \
         0,                                                                                                            \
         ARG_LIST,                                                                                                     \
         "NAME=VALUE",                                                                                                 \
         NULL,                                                                                                         \
         "only messages with this header; may be repeated, all must match",                                            \
         offsetof(type, field.filter_headers),                                                                         \
         0,                                                                                                            \
         0},                                                                                                           \
        {"no-filter", 0, ARG_FLAG, NULL, NULL, "every message", offsetof(type, field.no_filter), 0, 0},                \
    {                                                                                                                  \
        "single-active", 0, ARG_CHOICE, "yes|no", NULL, "serve one consumer at a time, the others stand by",           \
            offsetof(type, field.single_active), 0, 0                                                                  \
    }

/* group_settings_from_options: headers go to `headers`, which must outlive *out. false: told. */
bool group_settings_from_options(struct cli *cli, const struct group_options *o, struct header_list *headers,
                                 broker_group_settings *out);
void group_settings_json(struct json *j, const broker_group_settings *s);
void group_settings_text(struct text *out, const broker_group_settings *s); /* "" if there is nothing to say */
bool group_settings_from_json(json_t *object, struct header_list *headers, broker_group_settings *out, char *error,
                              size_t error_bytes);
uint32_t group_settings_differ(const broker_group_settings *wanted, const broker_group_settings *there);

#endif
