/*
 * Owns:            how one received message looks on standard output.
 * May use:         broker.h, json.
 * Never knows:     subscriptions, acks.
 * Start reading at format_message.
 */
#ifndef CLI_SUB_FORMAT_H
#define CLI_SUB_FORMAT_H

#include "json.h"

#include <broker/broker.h>

enum message_style {
    MESSAGE_RAW = 1, /* the body */
    MESSAGE_JSON,    /* one object */
    MESSAGE_LONG,    /* one line for people: seq, time, what is special about it, body */
};

struct message_format {
    enum message_style style;
    bool peeked;           /* no lease: no attempt, no receipt */
    const char *delimiter; /* after each message */
    size_t delimiter_len;
};

void format_message(struct text *out, const struct message_format *format, const broker_msg *m);
/* Only the JSON object, into an array or a document. */
void format_message_json(struct json *j, const broker_msg *m, bool peeked);
/* format_visible: text that stays on its line: what a terminal would act on becomes a dot. */
void format_visible(struct text *out, const char *bytes, size_t len);
/* "2026-01-31T12:00:00.123Z" */
#define TIME_TEXT_BYTES 40
const char *format_time(char out[TIME_TEXT_BYTES], uint64_t unix_ms);

#endif
