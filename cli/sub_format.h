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

struct message_format {
    bool json;
    const char *delimiter; /* after each message */
    size_t delimiter_len;
};

void format_message(struct text *out, const struct message_format *format, const broker_msg *m);
/* Only the JSON object, into an array or a document. */
void format_message_json(struct json *j, const broker_msg *m);
/* "2026-01-31T12:00:00.123Z" */
#define TIME_TEXT_BYTES 40
const char *format_time(char out[TIME_TEXT_BYTES], uint64_t unix_ms);

#endif
