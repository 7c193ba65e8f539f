/*
 * Owns:            one connection to a broker: its socket, its outbox, its subscriptions; what broker.h promises.
 * May use:         broker.h, wire.
 * Never knows:     the daemon's rooms, threads, event loops.
 * Start reading at broker_process (broker.c), then conn_process (conn.c); publish_append (outbox.c) is the hot way out,
 *                  deliver_in (consume.c) the hot way in.
 *
 * Everything the program wants sent is an `out_frame`. Frames wait in one of two lists (`urgent`: settles and subscriptions;
 * `normal`: publishes and administrative calls), are written straight from their own bytes, then wait in `sent` for
 * the answer with their correlation. After a lost connection `sent` goes back to the front of the lists, in order. A
 * publish or settle frame stays *open* for further messages until the socket takes it: that is all there is to coalescing.
 */
#ifndef CLIENT_INTERNAL_H
#define CLIENT_INTERNAL_H

#include <broker/broker.h>
#include <netinet/in.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "wire.h"

/* A failed allocation inside uthash must not end the program; the macro runs when adding failed. */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

enum {
    ENDPOINTS_MAX = 8,              /* addresses of one name that are tried in turn */
    SENT_BUCKETS = 256,             /* power of two */
    POOL_FRAMES_MAX = 64,           /* unused frames kept, with their memory, for the next ones */
    POOL_FRAME_BYTES = 512 << 10,   /* larger ones are not kept */
    OUT_QUEUES_MAX = 4096,          /* queues whose numbers are remembered one by one */
    RECEIVE_BYTES = 256 << 10,      /* receive buffer; grows for larger frames and shrinks again */
    RECEIVE_SLACK_BYTES = 18 << 20, /* a frame may be this much larger than the largest message */
    GREETING_FRAME_BYTES = 64 << 10,
    SETTLE_RANGES_MAX = 1024, /* in one frame; PROTOCOL.md, section 12 */
    SETTLE_RANGE_COUNT_MAX = 1 << 20,
    SETTLE_DELAY_MS = 5, /* most time a settle waits for company while the program only calls broker_receive */
    LEASE_MESSAGES_MAX = 1024,
    LEASE_MS_MAX = 86400000,
    WAIT_MS_MAX = 3600000,
    PRIORITY_MAX = 9, /* of messages and of consumers */
    FILTER_HEADERS_MAX = 32,
};
#define TIME_SPAN_MAX_MS (36525ull * 24 * 3600 * 1000) /* 100 years */

/* ---- frames on their way out -------------------------------------------------------------------------------------- */

enum out_kind {
    OUT_PUBLISH, /* kept until answered, sent again after a reconnect */
    OUT_SETTLE,  /* the same */
    OUT_CALL,    /* somebody waits for the answer; fails if the connection is lost after it was begun */
    OUT_TRANSACT, /* the same, but numbered: sent again after a reconnect, since the broker knows the numbers it has stored */
    OUT_SUBSCRIBE, /* belongs to one connection: made anew after a reconnect */
};

struct out_entry { /* one published message that waits for its confirm */
    broker_publish_cb *cb;
    void *arg;
};

struct call;
struct out_queue;

struct out_frame {
    TAILQ_ENTRY(out_frame) link;   /* in `urgent`, `normal`, `sent` or the pool */
    struct out_frame *bucket_next; /* in `sent_buckets`, in the order of sending */
    uint8_t *bytes;                /* owned: head and body */
    size_t len, cap;
    size_t written;       /* bytes of it that this connection's socket has taken */
    uint32_t correlation; /* 0 until it is sealed */
    enum out_kind kind;
    uint8_t type; /* enum frame_type */
    bool urgent;  /* which list it waits in */
    bool refused; /* answered SHUTTING_DOWN: it goes out again on the next connection */
    uint32_t stream;
    bool begun;                /* bytes of it went out, now or on an earlier connection */
    uint8_t flags;             /* FRAME_FLAG_…, of the frame's head */
    struct out_queue *queue;   /* OUT_PUBLISH */
    struct out_entry *entries; /* OUT_PUBLISH; owned, one per message */
    uint32_t count, entries_cap;
    size_t record_bytes; /* OUT_PUBLISH: what it counts for in outbox_bytes */
    struct call
        *call; /* OUT_CALL, OUT_TRANSACT; borrowed from the blocking caller's stack; NULL: nobody waits any more */
    struct broker_subscription *subscription; /* OUT_SUBSCRIBE; NULL: nobody waits any more */
};
TAILQ_HEAD(out_list, out_frame);

/* A queue published to by this handle: the numbers of its messages and the frame that still takes some. */
struct out_queue {
    UT_hash_handle hh;
    struct out_frame *open; /* NULL: none */
    uint64_t next_number;
    uint32_t frames;   /* unanswered: it may be forgotten only at 0 */
    uint16_t name_len; /* 0: what is published by topic */
    char name[];
};

/* A request whose answer somebody waits for. */
struct call {
    bool done;
    bool lost_is_ok; /* UNSUBSCRIBE: a lost connection ends subscriptions as well */
    broker_error error;
    /* on_answer: take the answer's body apart; the error it returns is the call's; NULL: the body does not matter. */
    broker_error (*on_answer)(broker *b, struct call *call, const uint8_t *body, size_t len);
    void *arg;
    char text[256]; /* the sentence of `error` */
    uint32_t retry_ms;
};

/* ---- messages on their way in -------------------------------------------------------------------------------------- */

struct broker_msg {
    struct record_view view;
    uint64_t seq;     /* in the queue it was read from; its record may have been stored for another */
    uint64_t receipt; /* 0: settled when it was sent, or only looked at */
    uint32_t attempt; /* 0: only looked at (broker_peek) */
    uint32_t padded_len;
    broker_subscription *subscription; /* NULL: from broker_lease, or kept */
};

/* A DELIVER body or LEASE answer being walked through. */
struct batch {
    const uint8_t *p, *end;  /* records not yet taken */
    const uint8_t *attempts; /* NULL: all 1 */
    const uint8_t *seqs;     /* NULL: as the records say */
    uint64_t first_receipt;
    uint32_t count, index;
};

/* A DELIVER body kept for broker_receive. */
struct inbox_batch {
    STAILQ_ENTRY(inbox_batch) link;
    struct batch batch;
    size_t cap;
    uint8_t bytes[];
};

enum subscription_state {
    SUBSCRIPTION_UNSENT,  /* must be asked for once connected */
    SUBSCRIPTION_PENDING, /* SUBSCRIBE is on its way */
    SUBSCRIPTION_ACTIVE,
    SUBSCRIPTION_ENDED
};

struct broker_subscription {
    UT_hash_handle hh;
    uint32_t id;
    broker *b;
    enum subscription_state state;
    broker_error end_error; /* SUBSCRIPTION_ENDED: why */
    char end_text[256];
    char *queue, *group; /* owned */
    broker_ack_mode ack;
    uint8_t priority;
    uint32_t lease_ms, credit_messages, max_unsettled;
    uint64_t credit_bytes;
    uint64_t granted_messages;            /* credit that the broker still has */
    uint64_t taken_messages, taken_bytes; /* given to the program since the last CREDIT */
    broker_message_cb *on_message;
    broker_subscription_cb *on_end;
    void *arg;
    bool has_been_active; /* its end is told by on_end, not by broker_subscribe */
    /* broker_receive: batches not yet taken; the first holds the current message, if there is one. */
    STAILQ_HEAD(, inbox_batch) inbox;
    struct inbox_batch *current_batch; /* holds msg's bytes */
    bool current_in_inbox;             /* false: a lost connection emptied the inbox meanwhile; to be freed after use */
    struct inbox_batch *spare;
    struct broker_msg msg;
    bool has_msg, msg_settled;
};

/* ---- the handle -------------------------------------------------------------------------------------------------- */

enum conn_state {
    CONN_WAITING,    /* for the next attempt, at deadline_ms */
    CONN_CONNECTING, /* until deadline_ms */
    CONN_GREETING,   /* until deadline_ms */
    CONN_READY,
    CONN_DRAINING, /* GOAWAY: answers still come, settles still go */
    CONN_DEAD      /* for good: final_error */
};

struct endpoint {
    struct sockaddr_storage address;
    socklen_t len;
};

struct broker {
    broker_options options; /* all set; the strings are owned */
    char *url, *client_name;
    struct endpoint endpoints[ENDPOINTS_MAX];
    size_t endpoint_count, next_endpoint;

    enum conn_state state;
    int fd;
    uint64_t deadline_ms;
    uint32_t backoff_ms; /* next wait before an attempt */
    uint64_t last_receive_ms, last_send_ms;
    uint32_t heartbeat_ms;           /* as agreed; 0: none */
    uint32_t max_frame, max_message; /* as announced; 0: not yet known */
    broker_error final_error;        /* CONN_DEAD */
    char lost_text[256];             /* why the last connection or attempt ended */
    bool in_process;                 /* callbacks may be running */

    uint8_t *receive; /* owned: receive_len bytes not yet taken apart */
    size_t receive_len, receive_cap;

    uint8_t *control; /* owned: whole frames that belong to this connection alone (HELLO, CREDIT, HEARTBEAT) */
    size_t control_len, control_cap, control_written;
    struct out_list urgent, normal, sent, pool;
    size_t pool_count;
    struct out_frame *sent_buckets[SENT_BUCKETS];
    struct out_frame *writing; /* partly taken by the socket; in no list */
    bool blocked;              /* the socket took less than it was offered: wait for BROKER_EVENT_WRITE */
    uint32_t last_correlation;

    struct out_queue *queues, *last_queue;
    uint64_t producer;     /* 0: no_dedup */
    uint64_t number_floor; /* above the numbers of all forgotten queues */
    size_t outbox_messages, outbox_bytes;
    broker_error flush_error; /* the first of publishes without a callback */
    char flush_text[256];
    msgpack_sbuffer scratch; /* headers and control bodies being packed */
    bool scratch_failed;     /* memory ran out while packing */

    struct out_frame *settle_open; /* takes further ranges; in `urgent` */
    uint64_t settle_since_ms;      /* when settle_open was opened */
    size_t settle_frames;          /* unanswered */
    uint64_t settle_failures;

    broker_subscription *subscriptions;
    uint32_t last_stream;
    bool renew_wanted; /* some subscription is SUBSCRIPTION_UNSENT */
    uint64_t last_process_ms;

    char error_text[256];
    uint32_t error_retry_ms;
};

/* ---- broker.c -------------------------------------------------------------------------------------------------------- */

uint64_t client_now_us(void);
uint64_t client_now_ms(void);
uint64_t client_random(void);
/* set_error: note the sentence for broker_error_text and return `error`. */
broker_error set_error(broker *b, broker_error error, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* refuse_in_callback: blocking calls would run callbacks inside callbacks. */
broker_error refuse_in_callback(broker *b, const char *call);
broker_error check_name(broker *b, const char *what, const char *name, size_t *len);
/* copy_options: a struct of the program's, of its `size`, into one of ours; false if the size makes no sense. */
bool copy_options(void *to, size_t to_size, const void *from, size_t least);

/* scratch_pack: begin a msgpack value in `scratch`; scratch_good: was there memory for all of it? */
void scratch_pack(broker *b, msgpack_packer *pk);
broker_error scratch_good(broker *b);

/* ---- url.c ------------------------------------------------------------------------------------------------------------ */

broker_error url_resolve(broker *b, const char *url);

/* ---- conn.c ----------------------------------------------------------------------------------------------------------- */

enum conn_event {
    CONN_EVENT_DUE, /* the wait is over: try */
    CONN_EVENT_CONNECTED,
    CONN_EVENT_GREETED,
    CONN_EVENT_GOAWAY,
    CONN_EVENT_LOST, /* lost_text says why */
    CONN_EVENT_FINAL /* not to be tried again; final_error and lost_text say why */
};
void conn_event(broker *b, enum conn_event event);
/* conn_lost: note why, and CONN_EVENT_LOST. Never while a frame is being taken apart: the receive buffer goes. */
void conn_lost(broker *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void conn_process(broker *b, int events);
int conn_timeout_ms(const broker *b);
bool conn_is_greeted(const broker *b);

/* ---- io.c ------------------------------------------------------------------------------------------------------------- */

bool io_has_output(const broker *b);
void io_write(broker *b);
void io_read(broker *b);
void connection_failed(broker *b); /* with error_text as the reason, and for good if final_error is set */
/* control_frame: append a whole frame to `control`; false: no memory. */
bool control_frame(broker *b, uint8_t type, uint32_t correlation, uint32_t stream, const void *body, size_t len);

/* ---- answer.c ----------------------------------------------------------------------------------------------------------- */

/* frame_in: act on one whole frame; any error but OK means that this connection cannot go on (text in error_text). */
broker_error frame_in(broker *b, const struct frame_head *head, const uint8_t *body);
/* answer_awaited: does anything sent still wait for an answer that can come on this connection? */
bool answer_awaited(const broker *b);
/* answer_lost: the connection is gone: what was sent goes back to the lists, or fails. */
void answer_lost(broker *b);
broker_error known_error(uint64_t code); /* INTERNAL for one that this library does not know */
void sent_remove(broker *b, struct out_frame *f);
/* answer_cancel: end everything in the outbox with `error`; callbacks run. */
void answer_cancel(broker *b, broker_error error);
/* frame_failed: end a frame (in no list) and whoever waits for it with one error, whose sentence is in error_text. */
void frame_failed(broker *b, struct out_frame *f, broker_error error);
/* frame_sent: the socket has taken all of it; it waits for its answer. */
void frame_sent(broker *b, struct out_frame *f);
/* answer_forget: the subscription is going away; its SUBSCRIBE, if one is on its way, is answered to nobody. */
void answer_forget(broker *b, const broker_subscription *s);

/* ---- confirm.c ---------------------------------------------------------------------------------------------------------- */

/* publish_failed: complete all messages of a frame (in no list) with one error, whose sentence is in error_text, and
   recycle it. */
void publish_failed(broker *b, struct out_frame *f, broker_error error);
broker_error publish_answered(broker *b, struct out_frame *f, const uint8_t *body, size_t len);

/* ---- outbox.c ----------------------------------------------------------------------------------------------------------- */

/* frame_new: an unused frame with `room` bytes after FRAME_HEAD_BYTES, in no list; NULL: no memory. */
struct out_frame *frame_new(broker *b, enum out_kind kind, uint8_t type, size_t room);
struct out_list *frame_list(broker *b, const struct out_frame *f);
bool frame_room(struct out_frame *f, size_t more); /* false: no memory; the frame is as before */
void frame_recycle(broker *b, struct out_frame *f);
/* frame_seal: its head is written; nothing more can be added to it. */
void frame_seal(broker *b, struct out_frame *f);
void outbox_free(broker *b);
/* outbox_drop_oversize: the broker takes no frame over max_frame: end those made before that was known. */
void outbox_drop_oversize(broker *b);
void frame_put(struct out_frame *f, const void *bytes, size_t len); /* room was made before */

/* ---- compose.c and publish.c ---------------------------------------------------------------------------------------------- */

/* message_spec: what to write a record from, and its padded length; it borrows from the message and from `scratch`. */
broker_error message_spec(broker *b, const broker_message *message, bool by_topic, struct record_spec *spec,
                          uint32_t *bytes);
broker_error out_queue_get(broker *b, const char *name, struct out_queue **out);
broker_error publish_options_get(broker *b, const broker_publish_options *given, broker_publish_options *out);
uint8_t publish_flags(const broker_publish_options *o); /* of the frame's head */
/* publish_append: one message into the outbox; frame and index say where it is until it is answered. */
broker_error publish_append(broker *b, const char *queue, const broker_message *message,
                            const broker_publish_options *options, broker_publish_cb *cb, void *arg,
                            struct out_frame **frame, uint32_t *index);
/* publish_withdraw: nobody waits for it any more. True: it had not been sent and is gone. */
bool publish_withdraw(broker *b, struct out_frame *f, uint32_t index);

/* ---- consume.c and receive.c ----------------------------------------------------------------------------------------------- */

broker_error batch_open(broker *b, struct batch *batch, const uint8_t *body, size_t len);
/* batch_next: the next message of a batch with index < count into *m, which points into the batch's bytes. */
broker_error batch_next(broker *b, struct batch *batch, struct broker_msg *m);
broker_error batch_end(broker *b, const struct batch *batch);
broker_error deliver_in(broker *b, uint32_t stream, const uint8_t *body, size_t len);
broker_error subscription_answered(broker_subscription *s, broker_error error);
void subscription_end(broker_subscription *s, broker_error error);
void subscriptions_renew(broker *b); /* on a new connection */
void subscriptions_lost(broker *b);
void subscriptions_end(broker *b, broker_error error); /* all of them */
void subscription_free(broker_subscription *s);
/* subscription_taken: the program is done with the message: acked, if that is automatic, and its credit given again. */
void subscription_taken(broker_subscription *s, const struct broker_msg *m, bool of_this_connection);
broker_error inbox_put(broker_subscription *s, const struct batch *batch, const uint8_t *body, size_t len);
void inbox_clear(broker_subscription *s);
void receive_done(broker_subscription *s); /* the program is done with the message of the last broker_receive */

/* ---- settle.c ----------------------------------------------------------------------------------------------------------- */

/* What is done with a receipt: frames are coalesced as long as it is the same. */
struct settle_kind {
    uint8_t type;   /* FRAME_ACK, FRAME_NACK, FRAME_EXTEND */
    uint32_t value; /* NACK: delay_ms; EXTEND: lease_ms */
    uint32_t flags; /* NACK_… */
};
broker_error settle_add(broker *b, struct settle_kind kind, uint64_t receipt);
/* settle_has_lease: may the program settle it? A message without a lease can be acked, to no effect, if it had one that ended
   as it was sent. */
broker_error settle_has_lease(broker *b, const broker_msg *m, uint8_t type);
void settle_mark(const broker_msg *m); /* the program has settled it: BROKER_ACK_AUTO has nothing left to do */
/* settle_range_add: one more receipt into `room` bytes of ranges; the new length: as before if it went into the last range. */
size_t settle_range_add(uint8_t *ranges, size_t len, uint64_t receipt);
broker_error settle_answered(broker *b, const uint8_t *body, size_t len);
uint64_t settle_frame_receipts(const struct out_frame *f);

/* ---- settings.c ---------------------------------------------------------------------------------------------------------- */

struct queue_names { /* what the strings of a broker_queue_info point to */
    char name[NAME_MAX_BYTES + 1], dead_letter[NAME_MAX_BYTES + 1];
};
/* …_copy: the program's struct, checked, into ours; NULL: nothing set. …_keys: how many keys …_pack writes. */
broker_error queue_settings_copy(broker *b, const broker_queue_settings *given, broker_queue_settings *s);
uint32_t queue_settings_keys(const broker_queue_settings *s);
void queue_settings_pack(msgpack_packer *pk, const broker_queue_settings *s);
/* queue_settings_get: s->set says which keys the broker gave; the others are zero. */
bool queue_settings_get(struct wire_map *m, broker_queue_settings *s, struct queue_names *names);
broker_error filter_check(broker *b, const broker_filter *f);
bool filter_is_empty(const broker_filter *f);
void filter_pack(msgpack_packer *pk, const broker_filter *f); /* key and map */
/* filter_get: NULL is an empty one. *memory: what its strings lie in, to be freed also after an error. */
broker_error filter_get(const msgpack_object *o, broker_filter *f, void **memory);
broker_error group_settings_copy(broker *b, const broker_group_settings *given, broker_group_settings *s);
uint32_t group_settings_keys(const broker_group_settings *s);
void group_settings_pack(msgpack_packer *pk, const broker_group_settings *s);
broker_error group_settings_get(struct wire_map *m, broker_group_settings *s, void **memory);
/* inner_map: a map inside an answer, to be read with wire_map's functions; it borrows from the answer's memory. */
bool inner_map(const msgpack_object *o, struct wire_map *m);

/* ---- admin.c ------------------------------------------------------------------------------------------------------------- */

broker_error call_scratch(broker *b, struct call *c, uint8_t type); /* call_do with what stands in `scratch` */
broker_error malformed_answer(broker *b, const char *type, const struct wire_map *m);

/* ---- blocking.c ---------------------------------------------------------------------------------------------------------- */

/* may_block: OK, or why this blocking call cannot even begin. */
broker_error may_block(broker *b, const char *call);
/* call_begin: put a request into the outbox; `c` must stay until call_wait. */
broker_error call_begin(broker *b, struct call *c, bool urgent, uint8_t type, uint32_t stream, const void *body,
                        size_t len);
/* call_wait: until the answer, or `timeout_ms`; then *c may go. */
broker_error call_wait(broker *b, struct call *c, uint32_t timeout_ms, const char *name);
broker_error call_do(broker *b, struct call *c, uint8_t type, const void *body, size_t len);
/* call_abandon: the caller gives up: a request that waits in a list is taken out, one that was sent is answered to nobody.
   True: the broker has seen nothing of it. */
bool call_abandon(broker *b, const struct call *c);
broker_error call_result(broker *b, const struct call *c); /* of one that is done, with its text */
enum step { STEP_EVENT, STEP_TIMER, STEP_DEADLINE, STEP_SIGNAL };
/* client_poll: poll and process once. client_step: the same; false if the deadline is over. UINT64_MAX: none. */
enum step client_poll(broker *b, uint64_t deadline_ms);
bool client_step(broker *b, uint64_t deadline_ms);
void client_pause(broker *b, uint64_t until_ms); /* process until then, or until the connection is dead */
/* deadline_error: what a call that came to its deadline returns, with its text. */
broker_error deadline_error(broker *b, const char *call, uint32_t timeout_ms);

#endif
