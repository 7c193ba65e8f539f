/* Private to fronts/websocket/. */
#ifndef WEBSOCKET_INTERNAL_H
#define WEBSOCKET_INTERNAL_H

#include <msgpack.h>
#include <sys/queue.h>

#include "control.h"
#include "forms.h"
#include "frames.h"
#include "lend.h"
#include "websocket.h"

enum {
    TEXT_BYTES = 320,        /* of a sentence for the client */
    OUTSTANDING_MAX = 1024,  /* requests of a connection without an answer; over it, it is not read */
    BATCH_MESSAGES = 64,     /* that a subscription by position asks for at once */
    BATCH_BYTES = 256 << 10, /* the same */
    KEEP_BYTES = 64 << 10,   /* buffers of the front that grew over this are given back */
    REASON_MAX = 123,        /* of a close frame: RFC 6455 5.5 */
    ID_BITS = 53,            /* of a request's id: what JavaScript counts with */
};
#define ID_NONE ((uint64_t)1 << ID_BITS) /* a request without an id: answered only if it fails */

/* ---- forms of messages: format.c, format_json.c, format_msgpack.c ------------------------------------------------------ */

/* What a client's message is read into; the tree is there until the next is read. */
struct inbox {
    json_t *json;
    msgpack_zone zone;
    msgpack_object root; /* a map with keys of text */
};
bool ws_inbox_init(struct inbox *in);
void ws_inbox_release(struct inbox *in);

/* One answer being written, straight through. */
struct writer {
    const struct format *format;
    struct buf *out;
    bool comma;  /* JSON: the next value of this level has one before it */
    bool failed; /* memory ran out: half an answer would be a lie */
};

struct format {
    const char *protocol; /* its name in Sec-WebSocket-Protocol */
    uint8_t opcode;       /* of its frames */
    /* false: text says what is wrong. The bytes must stay while the tree is used. */
    bool (*read)(struct inbox *in, const uint8_t *bytes, size_t len, char text[TEXT_BYTES]);
    void (*map)(struct writer *w, uint32_t pairs);
    void (*array)(struct writer *w, uint32_t count);
    void (*end)(struct writer *w, char bracket); /* '}' or ']' */
    void (*key)(struct writer *w, const char *key);
    void (*u64)(struct writer *w, uint64_t value);
    void (*text)(struct writer *w, const char *text, size_t len);
    void (*truth)(struct writer *w, bool value);
    void (*receipt)(struct writer *w, uint64_t receipt);
    void (*message)(struct writer *w, const struct form_message *m);
    void (*packed)(struct writer *w, const msgpack_sbuffer *value); /* one msgpack object */
    /* {"op":"message","sub":…, and the message's own fields}. */
    bool (*delivery)(struct buf *out, uint32_t sub, const struct form_message *m);
};
extern const struct format ws_format_json, ws_format_msgpack;
extern const struct format *const ws_FORMATS[]; /* NULL ends them; the first is the default */

static inline void ws_write_key_u64(struct writer *w, const char *key, uint64_t value)
{
    w->format->key(w, key);
    w->format->u64(w, value);
}
void ws_write_key_text(struct writer *w, const char *key, const char *text);
static inline void ws_write_key_true(struct writer *w, const char *key)
{
    w->format->key(w, key);
    w->format->truth(w, true);
}

/* ---- fields of a request: fields.c ------------------------------------------------------------------------------------------ */

const msgpack_object *ws_field_find(const msgpack_object *map, const char *key); /* NULL: absent, or null */
/* Each returns false with a sentence in `text` if the key is there and wrong; absent: *out stays. */
bool ws_field_u64(const msgpack_object *map, const char *key, uint64_t max, uint64_t *out, char text[TEXT_BYTES]);
bool ws_field_u32(const msgpack_object *map, const char *key, uint32_t *out, char text[TEXT_BYTES]);
bool ws_field_name(const msgpack_object *map, const char *key, struct name *out, char text[TEXT_BYTES]);
bool ws_field_truth(const msgpack_object *map, const char *key, bool *out, char text[TEXT_BYTES]);
/* One of `words`, which NULL ends: *out is its index. */
bool ws_field_word(const msgpack_object *map, const char *key, const char *const *words, int *out,
                   char text[TEXT_BYTES]);
/* Are there keys beside "op", "id" and these (NULL ends them), and those of `kind` unless it is CONTROL_KINDS? */
bool ws_fields_known(const msgpack_object *map, const char *const *keys, enum control_kind kind, char text[TEXT_BYTES]);
bool ws_object_is(const msgpack_object *text, const char *word);
/* The word that is likest to what was written, NULL if none is. */
const char *ws_nearest_word(const char *written, size_t len, const char *const *words);
/* What a client wrote, fit for a sentence. */
const char *ws_shown(const char *bytes, size_t len, char out[48]);

/* ---- connections: conn.c ---------------------------------------------------------------------------------------------------- */

enum ws_state {
    WS_OPEN,
    WS_CLOSING, /* a close frame was sent: only the peer's is waited for */
    WS_OVER,    /* nothing is read or answered */
};

struct sub;

struct ws {
    struct client client; /* first: completions find us by it */
    struct websocket *front;
    struct net_conn *net;
    const struct format *format;
    LIST_ENTRY(ws) all;
    struct net_timer timer;
    struct frame_state in;
    struct sub **subs; /* sorted by number */
    uint32_t sub_count, sub_cap;
    uint32_t waiting;      /* of the outstanding requests: they wait for messages */
    uint64_t pinged_ms;    /* when it was last pinged for its silence; 0: not since it was heard */
    uint64_t partial_seen; /* bytes of the incomplete message at the last look */
    uint8_t state;         /* enum ws_state */
    bool compresses;       /* what it is sent */
    bool held;             /* the engine holds its subscriptions: output is full, or the end is near */
    bool paused;           /* it is not read: too many requests are outstanding */
    bool going_away;
};

struct websocket {
    struct websocket_options options;
    struct http *http;
    struct net *net;
    struct clients *clients;
    LIST_HEAD(, ws) conns;
    uint32_t count;
    struct frames frames;
    struct lender lender;
    struct inbox inbox;
    struct buf answer;    /* being written */
    struct buf packed;    /* compressed for the wire */
    struct buf records;   /* of the publish at hand */
    struct buf ranges;    /* struct receipt_range of the settle or transaction at hand */
    struct buf parts;     /* struct transact_part of the transaction at hand */
    msgpack_sbuffer body; /* of a control answer */
    bool goes_away;
    char goaway_text[128];
};

/* Begin: what http_take_over wants. */
extern const struct http_conn_ops ws_conn_ops;
struct ws *ws_new(struct websocket *w, const struct format *format, bool deflate,
                  bool compresses); /* NULL: no memory */
void ws_begin(struct ws *c, struct net_conn *net);
void ws_free(struct ws *c);
/* Fail the connection (RFC 6455 7.1.7): a close frame with this code, and the end. Logged. */
void ws_fail(struct ws *c, uint16_t code, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Begin the closing handshake. */
void ws_close(struct ws *c, uint16_t code, const char *reason);
/* At once, without a close frame: there is no memory for what it is to be told, or it takes nothing. Also from inside the
   engine's answers. Logged. */
void ws_drop(struct ws *c, const char *why);
/* Is it open, and has it taken enough of what it was sent? */
bool ws_may_send(struct ws *c);
/* A data frame: frame_begin, append the payload to w->answer, frame_end: head and payload, which stay until the next begins.
   frame_trim: after it was sent. */
bool ws_frame_begin(struct websocket *w); /* false: no memory */
const uint8_t *ws_frame_end(struct ws *c, size_t *len);
void ws_frame_trim(struct websocket *w);
void ws_send_goaway(struct ws *c);
/* What a request has left: fewer outstanding, maybe read again, maybe the end. */
void ws_settled(struct ws *c);
static inline struct ws *ws_of(struct client *c)
{
    return (struct ws *)c;
}

/* ---- requests: session.c and the files that it names ------------------------------------------------------------------------- */

struct request {
    struct ws *c;
    const msgpack_object *map;
    uint64_t id; /* ID_NONE: none */
    char text[TEXT_BYTES];
};
/* Each takes one op. false: refuse with `error` and r->text. */
typedef broker_error op_fn(struct request *r);
op_fn ws_op_publish, ws_op_subscribe, ws_op_unsubscribe, ws_op_credit, ws_op_ack, ws_op_nack, ws_op_reject,
    ws_op_extend, ws_op_request, ws_op_transact;

void ws_session_take(struct ws *c, const uint8_t *bytes, size_t len); /* one message of the client */

/* How a command's answer is told: in the token, beside the id. */
enum answer_form {
    ANSWER_PLAIN,
    ANSWER_ONE,          /* of a publish of "message" */
    ANSWER_RESULT,       /* {"result":{…}} */
    ANSWER_WAITS = 0x10, /* with the others: counted in c->waiting */
};
struct token ws_token_of(uint64_t id, unsigned form);
uint64_t ws_token_id(struct token t);
unsigned ws_token_form(struct token t);
void ws_request_submit(struct request *r, unsigned form, struct command *command);
/* "sync" and "unroutable". */
bool ws_publish_options(struct request *r, broker_sync *sync, bool *unroutable_ok);
/* One message's record behind those in w->records; topic NULL: to a queue. */
broker_error ws_publish_record(struct request *r, const msgpack_object *message, const char *topic);
broker_error ws_refuse(struct request *r, broker_error error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* answers.c: {"op":…, "id":… unless there is none, and `pairs` more}. */
void ws_answer_begin(struct ws *c, struct writer *w, const char *op, uint64_t id, uint32_t pairs);
void ws_answer_send(struct ws *c, struct writer *w); /* closes the map */
void ws_answer_ok(struct ws *c, uint64_t id);        /* no id: nothing */
void ws_answer_error(struct ws *c, uint64_t id, broker_error error, const char *text, uint32_t retry_ms);
void ws_write_error(struct writer *w, broker_error error, const char *text, uint32_t retry_ms);
uint32_t ws_error_pairs(uint32_t retry_ms); /* that it writes */
void ws_answer_complete(struct client *client, const struct completion *done);
void ws_tell_damage(broker_error error, const char *text);

/* ---- subscriptions: subs.c, positions.c -------------------------------------------------------------------------------------- */

struct sub {
    struct client reader; /* first: by position, what reads for it; else not open */
    struct ws *c;
    uint64_t subscribe_id, unsubscribe_id; /* of the requests that are not answered yet */
    uint64_t next_seq;
    uint64_t credit;       /* by position: messages; UINT64_MAX: no limit */
    uint64_t credit_bytes; /* the same */
    broker_filter *filter; /* by position, owned; NULL: everything */
    uint32_t number;
    bool begun; /* by position: its first read was answered */
    bool wants; /* by position: to read on, when there is room or credit */
    bool by_position;
    uint8_t queue_len;
    char queue[]; /* by position */
};
struct sub *ws_sub_find(const struct ws *c, uint32_t number);
/* `queue` NULL: by group. NULL: no memory; it is nowhere then. */
struct sub *ws_sub_add(struct ws *c, uint32_t number, const struct name *queue);
void ws_sub_remove(struct sub *s);
void ws_subs_release(struct ws *c); /* all of them; their readers are closed */
bool ws_sub_deliver(struct client *client, const struct delivery *d);
void ws_sub_ended(struct client *client, struct token token, broker_error error, const char *text);
/* The subscribe command's and the unsubscribe command's answers. */
void ws_sub_answered(struct ws *c, const struct completion *done);
void ws_send_ended(struct ws *c, uint32_t number, broker_error error, const char *text);

broker_error ws_position_subscribe(struct request *r, uint32_t number);
void ws_position_credit(struct sub *s, uint64_t messages, uint64_t bytes);
void ws_positions_go_on(struct ws *c); /* there is room again */

#endif
