/*
 * Owns:            HTTP: what a request and a response are, routes, and HTTP/1.1's framing of them.
 * May use:         net, base, llhttp.
 * Never knows:     queues, commands, JSON, who registers a route and what it does.
 * Start reading at struct http_route, then http_respond; bytes come in at http_handler (h1.c).
 *
 * One connection carries many exchanges (keep-alive, pipelining): each is a request and its response. A handler answers in
 * its call or later; responses leave in the order of the requests, whatever the order of the answers. A body is read whole
 * before the handler is called. Framing is strict (RFC 9112): what two parsers could read differently is refused, and the
 * connection closed. Everything that a peer can make grow has a limit in struct http_options.
 */
#ifndef HTTP_H
#define HTTP_H

#include <broker/broker.h>

#include "buf.h"
#include "net.h"

struct http;
struct http_exchange; /* a request whose response is not complete; a handle */

struct http_text { /* not NUL-terminated */
    const char *bytes;
    size_t len;
};
struct http_field {
    struct http_text name, value; /* names compare without case */
};

/* ---- requests ------------------------------------------------------------------------------------------------------- */

enum http_method { HTTP_GET = 1, HTTP_POST = 2, HTTP_PUT = 4, HTTP_PATCH = 8, HTTP_DELETE = 16 };
/* HEAD comes as GET, and the response's body is not sent. OPTIONS is answered here, from the routes. */

enum { HTTP_PARAMS_MAX = 4 };

/* Valid during the handler's call: what is wanted for longer has to be copied. */
struct http_request {
    enum http_method method;
    bool is_head;                             /* a GET that was sent as HEAD: only to be answered like one */
    struct http_text path;                    /* as sent, without the query */
    struct http_text query;                   /* as sent, after the '?' */
    struct http_text params[HTTP_PARAMS_MAX]; /* what the pattern's {…} stand for, percent-decoded, in their order */
    const struct http_field *fields;
    size_t field_count;
    uint8_t *body; /* writable */
    size_t body_len;
};

/* The first field of that name, or NULL. */
const struct http_field *http_find(const struct http_request *r, const char *name);
/* The value of a query parameter, percent-decoded ('+' is a blank); false: it is not there. Valid during the handler's call. */
bool http_query(const struct http_request *r, const char *name, struct http_text *value);
/* Every query parameter in order, decoded; fn returns false to stop. */
void http_each_query(const struct http_request *r, bool (*fn)(void *arg, struct http_text name, struct http_text value),
                     void *arg);
/* Is the Content-Type this one ("application/json"), whatever its parameters? */
bool http_type_is(const struct http_request *r, const char *type);
/* Which of `types` (NULL ends them; full types) the Accept field likes best (RFC 9110 12.5.1); no field: 0. -1: none. */
int http_accepts(const struct http_request *r, const char *const *types);
/* Percent-decoding in place or to elsewhere (at most as long); a '%' without two hex digits stays. Returns the length. */
size_t http_percent_decode(char *out, const char *in, size_t len);

struct http_route {
    enum http_method method;
    /* "/v1/queues/{queue}/messages": a {…} stands for one segment, which is not empty. With a last segment of '*' alone, as
       below /ui, it takes any rest. */
    const char *pattern;
    void (*handle)(void *arg, struct http_exchange *x, const struct http_request *r);
    size_t max_body_bytes; /* 0: no body is expected, and one of over 4 KiB is refused; HTTP_BODY_MAX: http_options' */
};
#define HTTP_BODY_MAX SIZE_MAX

/* The table stays the caller's and must stay; the pattern with fewer {…} wins. false: no memory. */
bool http_add_routes(struct http *h, const struct http_route *routes, size_t count, void *arg);
/* All of them, for tests and documents. */
void http_each_route(const struct http *h, void (*fn)(void *arg, const struct http_route *route), void *fn_arg);

/* ---- responses ------------------------------------------------------------------------------------------------------ */

struct http_exchange_ops {
    /* The client has gone before the response was complete; x ends with this call. */
    void (*gone)(void *owner);
    /* Chunked: output that http_is_full complained of has drained. NULL: not wanted. */
    void (*drained)(void *owner);
    /* After http_respond or http_chunked_end: all of the response is in the system's hands (true), or it will never be (false): the connection
       broke first. Exactly once. NULL: not wanted, and the owner is not told anything after http_respond. */
    void (*sent)(void *owner, bool all);
    /* The broker is about to stop: whoever only waits for something answers now. NULL: it is under way and will be answered
       soon anyway. What is left at http_finish is told `gone`, and the client 503. */
    void (*goaway)(void *owner);
};
/* A handler that returns without an answer must have called this; until the answer, x is valid and ops->gone may come. */
void http_keep(struct http_exchange *x, const struct http_exchange_ops *ops, void *owner);

struct http_response {
    int status;
    const char *type; /* Content-Type; NULL: none */
    const void *body;
    size_t body_len;
    const struct http_field *fields; /* further ones; neither names nor values may have control characters: dropped */
    size_t field_count;
};
/* Each of these ends x, unless it was kept with ops->sent (which then is the end). The response is copied. */
void http_respond(struct http_exchange *x, const struct http_response *r);
/* A problem (RFC 9457) made of the error table's entry, with its HTTP status; Retry-After if retry_ms. text: the detail. */
void http_refuse(struct http_exchange *x, broker_error error, const char *text, uint32_t retry_ms);
/* One that only HTTP knows: `slug` is the stable end of its type, e.g. "cursor_trimmed". */
void http_refuse_as(struct http_exchange *x, int status, const char *slug, const char *text);
/* The body of such a problem, for items in a batch. */
bool http_problem_put(struct buf *out, int status, const char *slug, const char *title, const char *text,
                      uint32_t retry_ms);
/* The same of an error of the table: its own slug, status and title. */
bool http_problem_of(struct buf *out, broker_error error, const char *text, uint32_t retry_ms);
int http_status_of(broker_error error);

/* A response of unknown length, in pieces: begin, write …, end. For HTTP/1.0 the end of the connection is its end. */
void http_chunked_begin(struct http_exchange *x, const struct http_response *head); /* body: none */
bool http_chunked_write(struct http_exchange *x, const void *bytes, size_t n); /* false: the connection is closing */
bool http_is_full(struct http_exchange *x); /* having said so, ops->drained is called when it is over */
void http_chunked_end(struct http_exchange *x);
void http_abort(
    struct http_exchange *x); /* the rest cannot be had: the connection breaks, so that the client sees it */

/*
 * The connection is the owner's from here on: a head is sent (no Content-Length; `Connection: close` unless it is a 101), and
 * the owner writes what it likes to the net_conn. For WebSocket and endless event streams. x ends with this call. NULL: the
 * connection is closing, and `closed` will not be called. Until the earlier responses of a pipeline have left, what is
 * written waits for them.
 */
struct http_conn_ops {
    /* As in struct net_handler. NULL: what the client sends is thrown away. */
    size_t (*input)(void *owner, uint8_t *bytes, size_t len, size_t *need);
    void (*drained)(void *owner);
    void (*closed)(void *owner, enum net_close_reason reason); /* always, as the last */
    /* The broker is about to stop: say goodbye, and finish the connection. */
    void (*goaway)(void *owner, const char *text);
    /* It took none of its output for http_options.stall_ms: say so if the protocol can; it is closed after this call. */
    void (*stalled)(void *owner);
};
struct net_conn *http_take_over(struct http_exchange *x, const struct http_response *head,
                                const struct http_conn_ops *ops, void *owner);

void http_peer(struct http_exchange *x, char *out, size_t size); /* as net_conn_peer */
struct http *http_of(struct http_exchange *x);

/* ---- the front ------------------------------------------------------------------------------------------------------ */

struct http_options {
    uint32_t max_head_bytes;        /* request line and fields; default 8 KiB */
    uint32_t max_fields;            /* default 100 */
    uint32_t max_body_bytes;        /* of a route with HTTP_BODY_MAX */
    uint64_t max_chunked_bytes;     /* of incomplete chunked bodies, all connections together */
    uint32_t max_pipelined;         /* exchanges of a connection at once; further requests wait unread. Default 64 */
    uint32_t head_ms;               /* for a whole head, from its first byte (or from the connection's opening) */
    uint32_t idle_ms;               /* of a connection without a request, after the first */
    uint32_t body_bytes_per_second; /* least rate of a body, after head_ms of grace */
    uint32_t stall_ms;              /* without taking any of its output */
    uint64_t output_bytes;          /* unsent, over which a connection is full */
    uint32_t max_connections;       /* one more is told 503 and closed (net_handler.has_room, refusal) */
    const char *origins;            /* allowed beside the page's own: "https://a.example https://b.example", or "*" */
    const char *hosts;              /* names under which browsers may use it, beside addresses and localhost */
};

/*
 * Browsers: a request that a page of another origin makes (Origin, or Sec-Fetch-Site: cross-site) is refused with 403 unless
 * the origin is allowed; so is one with a Host that is neither an address, nor localhost, nor in `hosts`, if it comes from a
 * browser (against DNS rebinding). Allowed origins get CORS fields. Programs, which send none of these, do not notice.
 */
struct http *http_new(const struct http_options *options, struct net *net); /* NULL: no memory */
void http_free(struct http *h);                                             /* after net_free */
extern const struct net_handler http_handler;                               /* front: the http */
struct net *http_net(const struct http *h);

/* For a shutdown, in this order, as with front_tcp: tell everyone; is nothing under way any more?; close. */
void http_goaway(struct http *h, const char *text);
bool http_is_idle(const struct http *h);
void http_finish(struct http *h);
uint32_t http_connections(const struct http *h); /* open now, those taken over included */

struct http_stats {
    uint64_t requests;                           /* since start */
    uint64_t responses[6];                       /* by first digit of the status */
    uint64_t refused_connections;                /* broken framing, deadlines */
    uint32_t connections, taken_over, exchanges; /* now */
};
void http_get_stats(const struct http *h, struct http_stats *out);

#endif
