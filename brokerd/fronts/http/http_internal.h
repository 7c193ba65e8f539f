/* Private to fronts/http/. */
#ifndef HTTP_INTERNAL_H
#define HTTP_INTERNAL_H

#include <string.h>
#include <sys/queue.h>

#include "http.h"

enum {
    IDLE_BODY_BYTES = 4096,     /* of a body that nobody expects, and throws away */
    PARAMS_DEEP = 16,           /* segments of a path that are told apart; a pattern that takes any rest takes more */
    FREE_EXCHANGES = 1024,      /* kept for reuse */
    HEAD_KEEP_BYTES = 65536,    /* the buffer that response heads are made in is given back above this */
    PROBLEM_TEXT_BYTES = 240,   /* of a sentence that refuses a request */
    CHUNK_EXTENSION_BYTES = 256 /* of one chunk */
};

/* ---- heads (h1_head.c) ---------------------------------------------------------------------------------------------- */

enum body_kind { BODY_NONE, BODY_LENGTH, BODY_CHUNKED };

/* Why a request is refused before any handler sees it. */
struct problem {
    int status; /* 0: none */
    const char *slug;
    char text[PROBLEM_TEXT_BYTES];
};

/* A head, taken apart: everything points into its bytes. */
struct head {
    const char *bytes;
    size_t len; /* with the empty line */
    struct http_text method, target, path, query;
    struct http_text host; /* of the Host field; empty: there is none */
    struct http_field *fields;
    size_t field_count;
    const struct http_field *origin, *fetch_site, *fetch_mode, *fetch_dest, *preflight; /* NULL: none */
    uint64_t content_length;
    enum http_method verb; /* GET for HEAD; 0 for OPTIONS */
    enum body_kind body;
    uint8_t minor; /* of HTTP/1.x */
    bool is_head, is_options, is_star;
    bool close, keep_alive; /* the Connection field said so */
    bool expects;           /* 100-continue */
    bool alone;             /* it may take the connection over (Upgrade, or an event stream): runs without others */
};

enum find { FIND_MORE, FIND_END, FIND_WRONG };
/* Looks for the end of the head from byte `from` on (what was looked at before); *end: its length. */
enum find head_find_end(const uint8_t *bytes, size_t len, size_t from, size_t *end);
/* false: *p says why. `fields` has room for max_fields. */
bool head_parse(struct head *h, const uint8_t *bytes, size_t len, struct http_field *fields, size_t max_fields,
                struct problem *p);

bool is_token_byte(uint8_t byte);
bool is_value_byte(uint8_t byte);
bool text_is(struct http_text t, const char *word);     /* without case */
bool text_same(struct http_text a, struct http_text b); /* without case */
/* Is `word` an element of the comma-separated list? Without case. */
bool text_lists(struct http_text list, const char *word);
struct http_text text_trim(struct http_text t);
void problem_set(struct problem *p, int status, const char *slug, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* ---- chunked bodies (h1_body.c) ------------------------------------------------------------------------------------- */

struct chunked {
    struct buf body;
    size_t limit;   /* of the route */
    size_t charged; /* counted in http.chunked_bytes */
    uint64_t left;  /* of the chunk at hand */
    uint32_t state, digits, extension, trailer;
    size_t head_len;
    uint8_t head[]; /* the request's, until the body is complete */
};

struct chunked *chunked_new(struct http *h, const struct head *head, size_t limit); /* NULL: no memory */
void chunked_free(struct http *h, struct chunked *k);
enum chunked_result { CHUNKED_MORE, CHUNKED_DONE, CHUNKED_WRONG };
/* Decodes; *used: of the `len` bytes. WRONG: *p says why. */
enum chunked_result chunked_feed(struct http *h, struct chunked *k, const uint8_t *bytes, size_t len, size_t *used,
                                 struct problem *p);

/* ---- connections and exchanges -------------------------------------------------------------------------------------- */

enum exchange_state {
    EXCHANGE_OPEN,      /* no answer yet */
    EXCHANGE_STREAMING, /* chunked_begin was called */
    EXCHANGE_COMPLETE,  /* answered; waits for its turn, or to be sent */
    EXCHANGE_ABORTED,   /* its turn is the connection's end */
};

struct http_exchange {
    struct conn *conn;
    STAILQ_ENTRY(http_exchange) next; /* on conn.exchanges, then conn.sending, then http.free */
    const struct http_exchange_ops *ops;
    void *owner;
    struct buf out; /* of a response whose turn has not come */
    uint64_t mark;  /* sent when net_conn_sent has come this far; UINT64_MAX: never */
    char *origin;   /* an allowed one, which the response has to name; owned */
    uint8_t state;  /* enum exchange_state */
    uint8_t minor;
    bool is_head, close, keep_alive;
    bool until_close; /* a streamed response to HTTP/1.0: no chunks, its end is the connection's */
    bool told_full;   /* the owner waits for `drained` */
};

STAILQ_HEAD(exchange_list, http_exchange);

struct conn {
    struct http *h;
    struct net_conn *net;
    TAILQ_ENTRY(conn) all;
    struct exchange_list exchanges; /* in the order of their requests; the first one's response goes out */
    struct exchange_list sending;   /* whose owners want to hear of the end of it */
    struct chunked *chunked;        /* a body under way; NULL: none */
    const struct http_conn_ops *taken;
    void *taken_owner;
    size_t buffered;     /* in the exchanges' out */
    size_t scanned;      /* of the incomplete head: no end is in there */
    uint64_t whole;      /* bytes of the request at hand with its body; 0: the head is incomplete */
    uint64_t head_bytes; /* of which these are the head */
    uint64_t partial_ms; /* when the request at hand began; 0: there is none */
    uint64_t body_ms;    /* from when the body's rate counts … */
    uint64_t body_bytes; /* … and what was there by then */
    uint64_t idle_ms;    /* since when it has been without a request */
    uint64_t stalled_ms; /* since when none of its output was taken; 0: no */
    uint64_t sent_seen;  /* net_conn_sent at the last look */
    uint64_t armed_ms;   /* when the deadlines are looked at next */
    uint32_t count;      /* exchanges */
    bool used;           /* it has made a request */
    bool closing;        /* no more requests are read */
    bool is_taken;       /* by somebody, who may have no input */
    bool skipped;        /* an empty line before the request at hand */
    bool paused;
    bool alone; /* the last exchange may take it over: nothing is read behind it */
};

struct node;
struct route_table {
    const struct http_route *routes;
    size_t count;
    void *arg;
};

struct request { /* what http_request's functions need besides */
    struct http_request pub;
    const struct head *head;
    char *decoded; /* as long as a head: decoded texts lie where the encoded ones lie in the head */
};

struct http {
    struct http_options options;
    struct net *net;
    TAILQ_HEAD(, conn) conns;
    struct exchange_list free;
    size_t free_count;
    struct node *root;
    struct route_table *tables;
    size_t table_count;
    struct http_field *fields;      /* of the request at hand */
    char *decoded;                  /* of the request at hand */
    struct http_exchange *handling; /* whose handler runs, and has neither answered nor kept it */
    struct buf head;                /* of the response at hand */
    size_t chunked_bytes;
    uint64_t date_s;
    char date[40]; /* "Date: …\r\n" of that second */
    char *origins, *hosts;
    struct http_stats stats;
    bool going_away;
    char goaway_text[128];
};

/* http.c */
void h1_arm(struct conn *c, uint64_t at_ms); /* look at the deadlines then, if not earlier */
void conn_settle(struct conn *c);            /* an exchange has gone: read on, become idle, or end */
void conn_note_sent(struct conn *c);         /* tell the owners of what the system has taken */

/* h1.c */
size_t h1_input(void *conn, uint8_t *bytes, size_t len, size_t *need);

/* exchange.c */
struct http_exchange *exchange_new(struct conn *c, const struct head *head); /* NULL: no memory */
void exchange_end(struct http_exchange *x);
bool exchange_is_first(const struct http_exchange *x);
bool exchange_is_last(const struct http_exchange *x);
bool exchange_write(struct http_exchange *x, const void *a, size_t a_len, const void *b, size_t b_len);
void exchange_complete(struct http_exchange *x); /* everything is written */
void exchange_free(struct http *h, struct http_exchange *x);
void conn_drop_exchanges(struct conn *c); /* the connection is over: their owners are told */
/* A request that could not even be read: a problem behind the others' answers, then the end. */
void conn_refuse(struct conn *c, const struct head *head, const struct problem *p);

/* respond.c */
void respond_problem(struct http_exchange *x, const struct problem *p, const struct http_field *fields, size_t count);
const char *status_reason(int status); /* "Not Found"; "" if unknown */

/* route.c */
struct match {
    const struct http_route *route; /* NULL: none for this method */
    void *arg;
    unsigned methods; /* that the path has, as bits */
    struct http_text params[HTTP_PARAMS_MAX];
};
struct node *route_root(void);
void route_free(struct node *root);
bool route_add(struct node *root, const struct http_route *route, void *arg);
void route_find(const struct node *root, const struct head *head, char *decoded, struct match *m);
/* "GET, HEAD, OPTIONS" for the bits; out has room for 64. */
void route_allow(unsigned methods, char *out);

/* request.c */
size_t percent_decode(char *out, const char *in, size_t len, bool plus);

/* origin.c */
/* false: refused, *p says why. *allowed: the origin that the response has to name, NULL: none. */
bool origin_check(const struct http *h, const struct head *head, struct problem *p, const struct http_text **allowed);

#endif
