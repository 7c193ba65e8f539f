/* Messages as the body of a response, in the form that was asked for. Leases, reads and peeks share it. */
#ifndef REST_LISTING_H
#define REST_LISTING_H

#include "headers.h"

enum form {
    FORM_JSON,
    FORM_NDJSON,
    FORM_MSGPACK,
    FORM_RAW,    /* one message: its body, the rest as fields */
    FORM_EVENT,  /* one CloudEvent in structured mode */
    FORM_EVENTS, /* CloudEvents' batch format */
};
static inline bool form_is_single(enum form form)
{
    return form == FORM_RAW || form == FORM_EVENT;
}
static inline bool form_is_event(enum form form)
{
    return form == FORM_EVENT || form == FORM_EVENTS;
}
/* By Accept and ?raw; false: nothing acceptable, or `p` has an error: x was refused. */
bool form_choose(struct http_exchange *x, const struct http_request *q, struct params *p, enum form *form);
const char *form_type(enum form form);

/* Numbers beside the messages: members of the object, or response fields where there is no object. */
struct listing_number {
    const char *key, *field; /* "next", "Broker-Next" */
    uint64_t value;
};
enum { LISTING_NUMBERS_MAX = 4 };

struct listing {
    const struct stored_message *messages;
    uint32_t count;
    uint64_t first_receipt;   /* 0: they are not leased */
    const uint32_t *attempts; /* of leased ones */
    const char *queue;        /* for events: their source; NULL: not wanted */
    struct listing_number numbers[LISTING_NUMBERS_MAX];
    size_t number_count;
    const char *etag;          /* NULL: none */
    const char *cache_control; /* NULL: none */
};
/* The response, with status 200 (204: a single form and no message), ends the call. false: no memory for it, and the call is
   as before. */
bool listing_respond(struct call *c, enum form form, const struct listing *l);
/* The fields alone: 304. */
void listing_not_modified(struct call *c, const struct listing *l);

/* One message as a CloudEvent's JSON. */
bool cloudevent_put(struct buf *out, const struct form_message *m, const char *queue);

/* A filter by topic, key and header=NAME:VALUE; the strings stand in r->names. */
enum { FILTER_HEADERS_MAX = 32 };
struct filter_in {
    broker_filter filter;
    broker_header headers[FILTER_HEADERS_MAX];
};
bool filter_read(struct rest *r, struct params *p, struct filter_in *f); /* false: p->error says */

bool peek_register(struct rest *r);

#endif
