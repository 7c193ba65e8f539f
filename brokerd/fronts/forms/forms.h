/*
 * Owns:            the forms that messages and maps have outside the native protocol: JSON and msgpack objects, and text
 *                  headers. docs/HTTP.md describes them ("Messages").
 * May use:         wire (records), base, jansson, msgpack-c.
 * Never knows:     HTTP, WebSocket, queues, commands.
 * Start reading at form_message_json (out) and form_record_json (in).
 *
 * A message as a JSON object: seq, time, time_ms, attempt, receipt (a string), topic, id, priority, due, due_ms, expires,
 * expire_ms, key, headers, body: the fields of `broker sub --json` and with their meaning; bytes that are no UTF-8 stand
 * base64-coded under key_base64, id_base64, body_base64. As msgpack the same keys, but body, key and id are bin where they are no text, and
 * receipt is an integer.
 */
#ifndef FORMS_H
#define FORMS_H

#include <jansson.h>
#include <msgpack.h>

#include "buf.h"
#include "wire.h"

enum { FORM_TEXT_BYTES = 256 };

/* ---- messages out --------------------------------------------------------------------------------------------------- */

struct form_message {
    const uint8_t *record; /* intact: from the store */
    uint64_t seq;
    uint64_t receipt; /* 0: none, and attempt is not told either */
    uint32_t attempt;
};
/* Append one object. false: no memory, or over the buffer's ceiling (its length is as before). A header whose value is no
   text has it as a JSON value; times after the year 9999 are told in milliseconds only. */
bool form_message_json(struct buf *out, const struct form_message *m);
bool form_message_msgpack(struct buf *out, const struct form_message *m);
/* Append text as a JSON string with its quotes; what is no UTF-8 becomes U+FFFD. */
bool form_json_string(struct buf *out, const char *text, size_t len);
bool form_json_u64(struct buf *out, uint64_t value);
/* Append a literal: form_put(out, ",\"seq\":"). */
bool form_put(struct buf *out, const char *text);
bool form_base64(struct buf *out, const void *bytes, size_t len); /* without quotes */
bool form_is_utf8(const void *bytes, size_t len);
/* Each header whose name is text, in the record's order; a value that is no text comes as compact JSON. fn: false to stop. */
void form_each_header(const struct record_view *v,
                      bool (*fn)(void *arg, const char *name, size_t name_len, const char *value, size_t value_len),
                      void *arg);

/* ---- messages in ---------------------------------------------------------------------------------------------------- */

/*
 * Append the padded record that a message object describes: body (text), body_base64 or body_json (any value; stored
 * compact, with the header content-type: application/json unless there is one); key(_base64), id(_base64), topic, priority, delay_ms or at_ms, ttl_ms, headers (an
 * object of text). null is as good as absent, no body is an empty one. Unknown keys are refused by name. OK, or
 * INVALID_ARGUMENT, TOO_LARGE (of a message, or of records' ceiling), NO_MEMORY with a sentence; records is then as before.
 */
broker_error form_record_json(struct buf *records, const json_t *message, char text[FORM_TEXT_BYTES]);
broker_error form_record_msgpack(struct buf *records, const msgpack_object *message, char text[FORM_TEXT_BYTES]);
/* The same of a message that is published to `topic`, not to a queue: it need not name it again, and is not to name another. */
broker_error form_record_json_to(struct buf *records, const json_t *message, const char *topic,
                                 char text[FORM_TEXT_BYTES]);
broker_error form_record_msgpack_to(struct buf *records, const msgpack_object *message, const char *topic,
                                    char text[FORM_TEXT_BYTES]);
/* The same of a spec whose headers are given one by one; count 0: the spec's own. */
broker_error form_record(struct buf *records, const struct record_spec *spec, const broker_header *headers,
                         size_t count, char text[FORM_TEXT_BYTES]);

/* ---- maps ----------------------------------------------------------------------------------------------------------- */

/* One JSON value as one msgpack object, appended; and back (bin, ext: base64; keys that are numbers or words: their JSON;
   numbers that are not finite: null). On errors the output is as before. Both go up to 64 deep: beyond it,
   INVALID_ARGUMENT, and false, which else says that there is no memory. */
broker_error form_json_to_msgpack(msgpack_sbuffer *out, const json_t *value, char text[FORM_TEXT_BYTES]);
bool form_msgpack_to_json(struct buf *out, const msgpack_object *value);
/* Parse JSON text: one value (any), no duplicate keys, depth up to 64, at most 2^18 values, integers within an int64, and no
   NUL in strings, but for those at or below the keys "body", "body_json" and "data" (use json_string_length there). NULL:
   `text` says where and what. The caller decrefs it. */
json_t *form_json_parse(const void *bytes, size_t len, char text[FORM_TEXT_BYTES]);
/* A receipt: a string of digits or an integer. */
bool form_receipt_json(const json_t *value, uint64_t *receipt);

#endif
