/* Inside the room: the call, which is a request under way, and what all handlers use. */
#ifndef REST_INTERNAL_H
#define REST_INTERNAL_H

#include <sys/queue.h>

#include "control.h"
#include "forms.h"
#include "rest.h"

struct call;

/* How calls of one kind go on after their handler has returned. */
struct call_kind {
    /* What the command answered, with success. Must end the call (call_respond, call_refuse …) or submit again. */
    void (*answer)(struct call *c, const struct completion *done);
    /* The same for an error. NULL: rest_refuse_completion. */
    void (*failed)(struct call *c, const struct completion *done);
    /* After call_respond or call_refuse: did all of it reach the system? Once, perhaps during that call. Must call_end, soon
       or later. NULL: the call ends by responding. */
    void (*sent)(struct call *c, bool all);
    /* A chunked response may go on. NULL: not wanted. */
    void (*drained)(struct call *c);
    /* The call ends, in whatever way, gone included: what it owns goes. x is not to be used. NULL: it owns nothing. */
    void (*release)(struct call *c);
};

/*
 * A request that waits for an answer: one client of the engine. From a free list; call_begin to call_end. Small, because
 * thousands of them wait (long polls): what is larger is allocated by the kind, and freed in `release`.
 */
struct call {
    struct client client;
    struct rest *rest;
    struct http_exchange *x; /* NULL: gone, or answered */
    const struct call_kind *kind;
    TAILQ_ENTRY(call) all;  /* of rest.calls */
    TAILQ_ENTRY(call) link; /* of rest.later, or of the free ones */
    void (*later)(struct call *c);
    bool waits; /* for something to happen: not to be waited for when the broker stops */
    union {     /* by kind */
        struct {
            char name[64]; /* the queue's, for Location; a longer one is in `longer` (owned) */
            char *longer;
            uint16_t name_len; /* 0: by topic, or many */
            bool lesser;       /* less than synced was asked for: 202 */
        } publish;
        struct {
            char *queue;            /* owned; NULL: the form does not need it */
            uint64_t first_receipt; /* of what is being sent */
            uint32_t count;
            uint8_t form;
            bool lost; /* it could not be put into a response */
        } lease;
        struct {
            char *queue;  /* as above */
            char *tags;   /* If-None-Match; owned; NULL: none */
            uint64_t seq; /* of the one message that is asked for; 0: by cursor */
            uint8_t form;
        } read;
        struct batch *batch; /* owned */
        struct {
            uint64_t numbers[3];
            void *memory; /* the kind's own */
        } any;
    } u;
};

TAILQ_HEAD(call_list, call);

struct rest {
    struct rest_options options;
    struct http *http;
    struct clients *clients;
    struct rest_host host;
    struct client house; /* commands whose answer nobody waits for */
    struct call_list calls, free_calls, later;
    struct net_timer later_timer;
    uint32_t free_count, call_count;
    /* For the length of one handler's or answer's call: */
    struct buf records; /* of the request */
    struct buf out;     /* the response's body; http_respond copies it */
    struct buf small;   /* a message's headers as msgpack */
    struct buf names;   /* what was decoded */
    msgpack_sbuffer map;
    bool map_failed; /* there was no memory for some of it */
    void *admin;     /* admin.c's own */
};

struct now rest_now(const struct rest *r);

/* ---- calls ---------------------------------------------------------------------------------------------------------- */

/* A call for x, which is kept (http_keep), with its client open. NULL: no memory; x has been refused. */
struct call *call_begin(struct rest *r, const struct call_kind *kind, struct http_exchange *x);
/* Answers may come during the call: after it, c may have ended. Not to be called from inside answer, failed or sent: the
   engine may be in the middle of something. There: call_later. */
void call_submit(struct call *c, struct command *command);
/* fn(c) soon, from the loop. If c ends before, not. */
void call_later(struct call *c, void (*fn)(struct call *c));
/* Each answers and ends c (with kind->sent: that does). */
void call_respond(struct call *c, const struct http_response *response);
void call_respond_json(struct call *c, int status, const struct buf *body);
void call_refuse(struct call *c, broker_error error, const char *text, uint32_t retry_ms);
void call_refuse_as(struct call *c, int status, const char *slug, const char *text);
/* The completion's error as a problem. */
void rest_refuse_completion(struct call *c, const struct completion *done);
/* Ends c without an answer: for those that answered through x themselves (chunked, http_abort). */
void call_end(struct call *c);

/* For requests that fail before there is a call: INVALID_ARGUMENT with a sentence. */
__attribute__((format(printf, 2, 3))) void rest_refuse(struct http_exchange *x, const char *format, ...);
/* A scratch buffer, empty, its memory kept up to a bound. */
struct buf *rest_scratch(struct buf *b);

/* ---- query parameters and other small values (params.c) ------------------------------------------------------------- */

struct params {
    const struct http_request *request;
    char error[FORM_TEXT_BYTES]; /* the first thing wrong, for the user; "": nothing */
};
/* Names that are not in `known` (NULL ends it), and names that come twice, are wrong, except those of `repeat` (or NULL). */
bool params_open(struct params *p, const struct http_request *r, const char *const *known, const char *repeat);
/* Each false: it is there and wrong, or something was wrong before; absent: *out stays. */
bool param_u64(struct params *p, const char *name, uint64_t min, uint64_t max, uint64_t *out);
bool param_u32(struct params *p, const char *name, uint32_t min, uint32_t max, uint32_t *out);
bool param_duration(struct params *p, const char *name, uint64_t min_ms, uint64_t max_ms, uint64_t *ms);
bool param_time(struct params *p, const char *name, uint64_t *unix_ms);
bool param_bool(struct params *p, const char *name, bool *out); /* without a value: true */
bool param_text(struct params *p, const char *name, size_t max_len, struct http_text *out);

/* "30s", "500ms", "2min" (or m), "1h", "1d"; a bare number is milliseconds. false: it is none of these. */
bool parse_duration(const char *text, size_t len, uint64_t *ms);
/* RFC 3339, or Unix milliseconds. */
bool parse_time(const char *text, size_t len, uint64_t *unix_ms);
bool parse_u64(const char *text, size_t len, uint64_t *value);
/* Shown in errors: shortened, printable. */
enum { SHOWN_BYTES = 72 };
const char *shown(struct http_text value, char out[SHOWN_BYTES]);
/* The one of `known` (NULL ends it) that is spelled most alike, or NULL if none is near. */
const char *nearest(const char *const *known, const char *name, size_t len);

/* ---- the routes ----------------------------------------------------------------------------------------------------- */

bool publish_register(struct rest *r);
bool lease_register(struct rest *r);
bool settle_register(struct rest *r);
bool read_register(struct rest *r);
bool transactions_register(struct rest *r);
/* admin.c: everything administrative. false: no memory. admin_free is called in any case. */
bool admin_register(struct rest *r);
void admin_free(struct rest *r);

#endif
