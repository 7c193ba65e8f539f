/* Messages as HTTP requests and responses: the body is the message's, everything else stands in fields. */
#ifndef REST_HEADERS_H
#define REST_HEADERS_H

#include "rest_internal.h"

/* Headers of a message being packed: a msgpack map of text to text, in a scratch buffer. */
struct packing {
    struct buf *b;
    uint32_t count;
    bool failed; /* no memory */
};
void packing_begin(struct packing *p, struct buf *b);
/* false: a header of that name is there already. */
bool packing_add(struct packing *p, const char *name, size_t name_len, const char *value, size_t value_len);
/* The map; NULL with *len 0 if it is empty. Valid until the buffer changes. */
const uint8_t *packing_end(struct packing *p, size_t *len);

/* What the fields of a request say of a message. */
struct message_in {
    struct record_spec spec; /* points into the request and into r->small, r->names */
    struct packing headers;
    broker_sync sync;
    struct http_text event_id, event_source; /* of a CloudEvent in binary mode */
    bool is_event, event_type, has_type;
    broker_error error;
    char text[FORM_TEXT_BYTES];
};
/*
 * Read the fields: Broker-…, Idempotency-Key, Content-Type, ce-…. Unknown Broker- fields are refused by name. `topic`: the
 * message is published to it (len 0: to a queue, and Broker-Topic may be there). Headers are not closed yet: message_finish.
 */
bool message_read(struct rest *r, const struct http_request *q, struct http_text topic, struct message_in *m);
/* A message of which nothing is known yet. false: no memory. */
bool message_begin(struct rest *r, struct message_in *m, size_t names_bytes);
/* A CloudEvent in structured mode: its attributes are added to m's headers, its data is m's body; `owner` is to be released
   when the record is made. */
struct event_owner {
    json_t *json;
    struct buf data;
};
bool message_read_event(struct rest *r, const struct http_request *q, struct message_in *m, struct event_owner *owner);
/* One event of a batch, likewise. */
bool event_read(struct rest *r, const json_t *event, struct message_in *m, struct buf *data);
/* Closes the headers and appends the record to r->records. */
bool message_finish(struct rest *r, struct message_in *m);
__attribute__((format(printf, 3, 4))) bool message_refuse(struct message_in *m, broker_error error, const char *format,
                                                          ...);
/* The message id of an event, if it fits into one: source and id, for only together they name an event. */
void event_take_id(struct rest *r, struct message_in *m);

/* ---- out ------------------------------------------------------------------------------------------------------------ */

enum { RAW_FIELDS_MAX = 160, RAW_TEXT_MAX = 24 << 10, RAW_KEY_MAX = 4096, TIME_BYTES_MAX = 40 };

/* RFC 3339 with milliseconds; what is beyond the year 9999 is Unix milliseconds. Returns the length. */
size_t format_time(uint64_t unix_ms, char out[TIME_BYTES_MAX]);
bool message_is_event(const struct record_view *v);

/* A message's response fields; `names` holds their text. */
struct raw_fields {
    struct http_field fields[RAW_FIELDS_MAX];
    size_t count;
    struct buf *text; /* names and values */
    const char *type; /* Content-Type */
    size_t type_at;   /* of a type in `text`, NUL on both sides; 0: none */
    uint32_t omitted; /* what there was no room for: Broker-Omitted */
    bool failed;      /* no memory */
};
/* Broker-Seq, -Time, -Receipt, -Attempt, … and the message's headers; ce- headers of an event as ce- fields. */
void raw_fields_put(struct rest *r, const struct form_message *m, struct raw_fields *out);

#endif
