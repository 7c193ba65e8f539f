/*
 * broker.h - the C client of the brokerd message broker.
 *
 * A `broker` is one connection, with automatic reconnect. It has an asynchronous core (broker_fd, broker_events,
 * broker_timeout_ms, broker_process) for programs with an event loop of their own, and blocking calls on top of it
 * for everyone else. There are no hidden threads, and a callback runs only inside broker_process (the blocking calls
 * drive broker_process themselves). In a callback every call that does not wait is allowed: publish_async, ack, nack,
 * reject, extend, a transaction's parts, the message's getters; those that wait return INVALID_ARGUMENT there, and the
 * handle must not be closed. A handle belongs to one thread at a time; different handles are independent.
 *
 * Errors: every call returns a broker_error, BROKER_OK (0) for success. broker_error_text(b) gives the sentence that
 * belongs to the last failure on that handle: what was wrong, with the value, and what to do.
 *
 * Options structs start with `size`: set it to sizeof(the struct) and zero the rest (BROKER_OPTIONS_INIT does both); a
 * zero field means the default. So a program built against an older header goes on working.
 *
 * Strings are NUL-terminated UTF-8 unless a length stands beside them. Times are milliseconds; sizes are bytes.
 */
#ifndef BROKER_BROKER_H
#define BROKER_BROKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define BROKER_API __attribute__((visibility("default")))
#else
#define BROKER_API
#endif

#define BROKER_VERSION_STRING "0.1.0"

/*
 * The one table of errors: name, code on the wire, HTTP status, whether the same call may succeed later (1) or not (0),
 * and a short text. The enum, the texts, and docs/PROTOCOL.md follow it.
 */
#define BROKER_ERROR_MAP(X)                                                                                            \
    X(OK, 0, 200, 0, "success")                                                                                        \
    X(INVALID_ARGUMENT, 1, 400, 0, "invalid argument")                                                                 \
    X(MALFORMED, 2, 400, 0, "malformed frame or message")                                                              \
    X(UNKNOWN_COMMAND, 3, 501, 0, "unknown command")                                                                   \
    X(UNSUPPORTED_VERSION, 4, 505, 0, "protocol version not supported")                                                \
    X(TOO_LARGE, 5, 413, 0, "larger than the limit")                                                                   \
    X(QUEUE_NOT_FOUND, 6, 404, 0, "no such queue")                                                                     \
    X(QUEUE_EXISTS, 7, 409, 0, "queue exists with other settings")                                                     \
    X(GROUP_NOT_FOUND, 8, 404, 0, "no such group")                                                                     \
    X(GROUP_EXISTS, 9, 409, 0, "group exists")                                                                         \
    X(SUBSCRIPTION_NOT_FOUND, 10, 404, 0, "no such subscription")                                                      \
    X(SUBSCRIPTION_EXISTS, 11, 409, 0, "subscription id in use")                                                       \
    X(STALE_RECEIPT, 12, 409, 0, "the lease of this receipt is over")                                                  \
    X(QUEUE_FULL, 13, 429, 1, "queue is full")                                                                         \
    X(QUEUE_PAUSED, 14, 409, 1, "queue is paused")                                                                     \
    X(DISK_FULL, 15, 507, 1, "disk is full")                                                                           \
    X(OVERLOADED, 16, 503, 1, "broker is overloaded")                                                                  \
    X(LIMIT_REACHED, 17, 429, 1, "a configured limit is reached")                                                      \
    X(DAMAGED, 18, 500, 0, "stored data is damaged")                                                                   \
    X(UNAUTHENTICATED, 19, 401, 0, "not authenticated")                                                                \
    X(FORBIDDEN, 20, 403, 0, "not permitted")                                                                          \
    X(SHUTTING_DOWN, 21, 503, 1, "broker is shutting down")                                                            \
    X(TIMEOUT, 22, 504, 1, "deadline passed")                                                                          \
    X(CONNECTION_LOST, 23, 502, 1, "connection lost")                                                                  \
    X(CONNECTION_REFUSED, 24, 502, 1, "cannot connect")                                                                \
    X(OUTBOX_FULL, 25, 429, 1, "the client's outbox is full")                                                          \
    X(NO_MEMORY, 26, 503, 1, "out of memory")                                                                          \
    X(IO, 27, 500, 0, "input or output failed")                                                                        \
    X(CANCELLED, 28, 499, 0, "cancelled")                                                                              \
    X(NOT_MODIFIED, 29, 304, 0, "nothing to change")                                                                   \
    X(INTERNAL, 30, 500, 0, "internal error")                                                                          \
    X(UNROUTABLE, 31, 404, 0, "no queue is bound for the topic")                                                       \
    X(MESSAGE_NOT_FOUND, 32, 404, 0, "no such message")                                                                \
    X(REFUSED, 33, 409, 0, "not possible in this state")

typedef enum broker_error {
#define BROKER_ERROR_ENUM(name, code, http, retry, text) BROKER_##name = code,
    BROKER_ERROR_MAP(BROKER_ERROR_ENUM)
#undef BROKER_ERROR_ENUM
} broker_error;

BROKER_API const char *broker_strerror(broker_error error);   /* short text; never NULL */
BROKER_API const char *broker_error_name(broker_error error); /* "QUEUE_NOT_FOUND"; never NULL */
BROKER_API bool broker_error_is_retryable(broker_error error);
BROKER_API const char *broker_version(void); /* of the library: BROKER_VERSION_STRING */

/* ---- connection ---------------------------------------------------------------------------------------------- */

typedef struct broker broker;
typedef struct broker_subscription broker_subscription;
typedef struct broker_msg broker_msg;

#define BROKER_OPTIONS_INIT(type) ((type){.size = sizeof(type)})

typedef struct broker_options {
    size_t size;
    const char *url;         /* "broker://host:port", "broker://[::1]:7440" or "unix:/path"; default: the environment's
                                  BROKER_URL, else broker://127.0.0.1:7440 */
    const char *client_name; /* shown by the broker; default: the program's name */
    uint32_t timeout_ms;     /* deadline of a blocking call, 1..3600000; default 30000 */
    uint32_t connect_ms;     /* one attempt to connect and greet; default 5000 */
    uint32_t heartbeat_ms;   /* silence after which a heartbeat is sent; the peer is lost after three; default 10000 */
    uint32_t reconnect_max_ms; /* ceiling of the wait between attempts (50 ms doubling, with jitter); default 5000 */
    bool no_reconnect;         /* a lost connection is final: every call fails with BROKER_CONNECTION_LOST */
    bool no_dedup;             /* do not number publishes: a retry after a lost confirm may store a message twice */
    size_t outbox_bytes;       /* unconfirmed publishes held for resending; default 64 MiB */
    size_t outbox_messages;    /* the same in messages; default 65536 */
    size_t batch_bytes;        /* messages of one queue are coalesced into frames of up to this; default 256 KiB */
    size_t max_message_bytes;  /* largest record accepted from the broker; default 64 MiB */
} broker_options;

/*
 * broker_open: make a handle and begin to connect; does not block. Fails with INVALID_ARGUMENT (a bad URL) or NO_MEMORY
 * only; *out is NULL then. A name is resolved here, with getaddrinfo: the only step that can take time.
 */
BROKER_API broker_error broker_open(broker **out, const broker_options *options);
/* broker_connect: wait until connected and greeted, or options->timeout_ms. Optional: other blocking calls wait too. */
BROKER_API broker_error broker_connect(broker *b);
/* broker_close: close and free. Unconfirmed publishes are given up (their callbacks get CANCELLED); broker_flush first. */
BROKER_API void broker_close(broker *b);
/* broker_error_text: NULL: of this thread's last broker_open that failed. Valid until the next call on the handle. */
BROKER_API const char *broker_error_text(const broker *b);
/* The broker's wish for the wait before a retry after the last error, ms; 0 if it named none. */
BROKER_API uint32_t broker_error_retry_ms(const broker *b);

/* ---- event loop of the caller's ------------------------------------------------------------------------------ */

#define BROKER_EVENT_READ  1
#define BROKER_EVENT_WRITE 2

/* broker_fd: to watch for broker_events(); changes with a reconnect and is -1 while waiting for one: ask each turn. */
BROKER_API int broker_fd(const broker *b);
BROKER_API int broker_events(const broker *b);
/* broker_timeout_ms: call broker_process after at most this long, whatever the fd does; -1: no timer is running. */
BROKER_API int broker_timeout_ms(const broker *b);
/*
 * broker_process: do everything that can be done without blocking; `events` is what poll said (0 is always allowed).
 * Callbacks run in here. Returns OK, or the error that made the connection fail for good (see no_reconnect).
 */
BROKER_API broker_error broker_process(broker *b, int events);
/* broker_wait: one poll(2) on the handle and one broker_process; timeout_ms -1 waits for ever. TIMEOUT: nothing came. */
BROKER_API broker_error broker_wait(broker *b, int timeout_ms);
BROKER_API bool broker_is_connected(const broker *b);

/* ---- publish ------------------------------------------------------------------------------------------------- */

typedef struct broker_header {
    const char *name;
    const char *value;
} broker_header;

typedef struct broker_message { /* what is published; nothing of it is kept after the call */
    size_t size;
    const void *body;
    size_t body_len;
    const char *key;              /* ordering key, up to 65535 bytes; NULL: none */
    size_t key_len;               /* 0: strlen(key) */
    const broker_header *headers; /* text headers; NULL: none */
    size_t header_count;
    const void *raw_headers; /* instead of headers: one msgpack map, as broker_msg_raw_headers gives it */
    size_t raw_headers_len;
    /* What it is about, e.g. "orders.eu.created", and where it goes if it is published to queue NULL: 1..32 tokens of A-Z a-z
       0-9 _ - with dots between, up to 255 bytes. NULL: none. */
    const char *topic;
    const void *id; /* a second message with it within the queue's window is a duplicate; up to 239 bytes; NULL: none */
    size_t id_len;  /* 0: strlen(id) */
    uint8_t priority;  /* 0..9, 9 goes first */
    uint64_t delay_ms; /* not handed out before this long after its acceptance; up to 100 years; 0: at once */
    uint64_t at_ms;    /* the same as a Unix time (in the past: at once); only one of the two */
    uint64_t ttl_ms;   /* expires this long after its acceptance; up to 100 years; 0: never, or as the queue says */
} broker_message;

typedef enum broker_sync {
    BROKER_SYNC_DEFAULT,  /* as the queue says */
    BROKER_SYNC_ALWAYS,   /* confirmed once on disk (fdatasync) */
    BROKER_SYNC_INTERVAL, /* confirmed once written to the system; synced within the broker's interval */
    BROKER_SYNC_NONE      /* confirmed once written to the system; synced when the system does */
} broker_sync;

typedef struct broker_publish_options {
    size_t size;
    broker_sync sync;
    bool unroutable_ok; /* by topic: that no queue is bound for it is no error, the message is dropped */
} broker_publish_options;

typedef struct broker_publish_result {
    uint64_t seq;   /* of the stored message; 1, 2, 3 … per queue; 0 if a duplicate's seq is no longer known */
    bool duplicate; /* it was there already: a retry after a lost confirm, or its id was seen; seq is the first one's */
    uint32_t queues; /* by topic: how many queues it reached, and seq is 0; to a queue by name: 0 */
} broker_publish_result;

typedef void broker_publish_cb(void *arg, broker_error error, const broker_publish_result *result);

/*
 * broker_publish_async: copy the message into the outbox and return; cb (may be NULL) runs exactly once, when the broker
 * has confirmed or refused it. Messages of one handle to one queue are stored in the order of the calls, and so are those by
 * topic among themselves. Frames go out in broker_process.
 *
 * queue NULL: by topic, to every queue that is bound for message->topic (broker_bind), all or none; if there is none it is
 * refused with UNROUTABLE (see unroutable_ok).
 *
 * OUTBOX_FULL: confirms must come in first (broker_wait); INVALID_ARGUMENT, TOO_LARGE, NO_MEMORY.
 */
BROKER_API broker_error broker_publish_async(broker *b, const char *queue, const broker_message *message,
                                             const broker_publish_options *options, broker_publish_cb *cb, void *arg);
/* broker_publish: the same, and wait for the confirm. result may be NULL. */
BROKER_API broker_error broker_publish(broker *b, const char *queue, const broker_message *message,
                                       const broker_publish_options *options, broker_publish_result *result);
/* broker_flush: wait until every publish and settle given so far is answered; the first error among the publishes since
   the last flush that had no callback of their own. */
BROKER_API broker_error broker_flush(broker *b);
/* broker_outbox: messages not yet confirmed. */
BROKER_API size_t broker_outbox(const broker *b);

/* ---- consume ------------------------------------------------------------------------------------------------- */

typedef enum broker_ack_mode {
    BROKER_ACK_MANUAL, /* the program acks, nacks or lets the lease run out */
    BROKER_ACK_AUTO,   /* acked by the library when the message callback returns (or the next broker_receive begins) */
    BROKER_ACK_ON_SEND /* settled by the broker as it hands the message out: at most once, cheapest */
} broker_ack_mode;

typedef struct broker_subscribe_options {
    size_t size;
    const char *group; /* default "default" */
    broker_ack_mode ack;
    uint32_t lease_ms;        /* 1..86400000; default: the queue's */
    uint32_t credit_messages; /* most messages handed out and not yet returned to the library; default 1024 */
    uint64_t credit_bytes;    /* the same in bytes; default 8 MiB */
    uint8_t priority;         /* 0..9: consumers of higher priority are served first while they have credit */
    uint32_t
        max_unsettled; /* most messages leased to it at once; a lease that ends, also by time, makes room; 0: no limit */
} broker_subscribe_options;

/* The message is valid during the callback; broker_msg_keep makes it outlive it. */
typedef void broker_message_cb(void *arg, broker_subscription *s, const broker_msg *m);
/* The subscription has ended or cannot be restored (queue deleted, group deleted): error says why. */
typedef void broker_subscription_cb(void *arg, broker_subscription *s, broker_error error, const char *text);

/*
 * broker_subscribe: ask for deliveries; they come to on_message, or to broker_receive if on_message is NULL. Waits for
 * the broker's answer. After a reconnect the subscription is renewed by itself; what was leased comes again, with a
 * higher attempt count. *out belongs to the handle until broker_unsubscribe or broker_close.
 */
BROKER_API broker_error broker_subscribe(broker *b, const char *queue, const broker_subscribe_options *options,
                                         broker_message_cb *on_message, broker_subscription_cb *on_end, void *arg,
                                         broker_subscription **out);
/* broker_unsubscribe: end it and free it; messages leased to it and not settled go back to the group at once. */
BROKER_API broker_error broker_unsubscribe(broker_subscription *s);
/*
 * broker_receive: the next message of a subscription without on_message. *out is valid until the next call with this
 * subscription. timeout_ms 0: what is there already; -1: for ever. TIMEOUT if none came (*out is NULL), or a signal did.
 */
BROKER_API broker_error broker_receive(broker_subscription *s, int timeout_ms, const broker_msg **out);
/*
 * broker_lease: one request: up to `max` messages (1..1024) leased for lease_ms (0: the queue's), waiting up to wait_ms
 * for the first. The leases do not end with the connection. Messages come to `on_message` (s is NULL); *count says how many.
 */
BROKER_API broker_error broker_lease(broker *b, const char *queue, const char *group, uint32_t max, uint32_t lease_ms,
                                     uint32_t wait_ms, broker_message_cb *on_message, void *arg, uint32_t *count);

/*
 * Settling: queued, coalesced into ranges, sent by broker_process (or broker_flush), not waited for. A stale receipt (the
 * lease ran out, or the message was settled already) fails alone: broker_settle_failures counts them.
 */
BROKER_API broker_error broker_ack(broker *b, const broker_msg *m);
/* broker_nack: give it back, to be handed out again after delay_ms; 0: as the queue's backoff says, at once if it has none. */
BROKER_API broker_error broker_nack(broker *b, const broker_msg *m, uint32_t delay_ms);
/* broker_reject: give the message up: to the dead letters at once, with the reason "rejected". */
BROKER_API broker_error broker_reject(broker *b, const broker_msg *m);
BROKER_API broker_error broker_extend(broker *b, const broker_msg *m, uint32_t lease_ms);
/* The same by receipt number, for programs that store it; these wait for the answer: STALE_RECEIPT if it is over. */
BROKER_API broker_error broker_ack_receipt(broker *b, uint64_t receipt);
BROKER_API broker_error broker_nack_receipt(broker *b, uint64_t receipt, uint32_t delay_ms);
BROKER_API broker_error broker_reject_receipt(broker *b, uint64_t receipt);
BROKER_API broker_error broker_extend_receipt(broker *b, uint64_t receipt, uint32_t lease_ms);
BROKER_API uint64_t broker_settle_failures(const broker *b);

/* ---- a received message -------------------------------------------------------------------------------------- */

BROKER_API const void *broker_msg_body(const broker_msg *m, size_t *len);
BROKER_API const char *broker_msg_key(const broker_msg *m, size_t *len);         /* NULL: none; not NUL-terminated */
BROKER_API const void *broker_msg_raw_headers(const broker_msg *m, size_t *len); /* msgpack map; NULL: none */
/* The text header `name`, not NUL-terminated, length in *len; NULL if it is absent or not text. */
BROKER_API const char *broker_msg_header(const broker_msg *m, const char *name, size_t *len);
/* Call fn for each header whose name and value are text, in order; fn returns false to stop. */
BROKER_API void broker_msg_each_header(const broker_msg *m,
                                       bool (*fn)(void *arg, const char *name, size_t name_len, const char *value,
                                                  size_t value_len),
                                       void *arg);
BROKER_API const char *broker_msg_topic(const broker_msg *m, size_t *len); /* NULL: none; not NUL-terminated */
BROKER_API const void *broker_msg_id(const broker_msg *m, size_t *len);    /* the publisher's message id; NULL: none */
BROKER_API uint8_t broker_msg_priority(const broker_msg *m);
BROKER_API uint64_t broker_msg_due_ms(const broker_msg *m);    /* Unix time it was published for; 0: none */
BROKER_API uint64_t broker_msg_expire_ms(const broker_msg *m); /* Unix time of its expiry; 0: none of its own */
BROKER_API uint64_t broker_msg_seq(const broker_msg *m);
BROKER_API uint64_t broker_msg_time_ms(const broker_msg *m); /* accepted by the broker, Unix time */
BROKER_API uint32_t broker_msg_attempt(const broker_msg *m); /* 1 for the first delivery */
BROKER_API uint64_t broker_msg_receipt(const broker_msg *m);
BROKER_API broker_msg *broker_msg_keep(const broker_msg *m); /* a copy that outlives the callback; NULL: no memory */
BROKER_API void broker_msg_free(broker_msg *m);              /* of a kept one; NULL is fine */

/* ---- queues and groups --------------------------------------------------------------------------------------- */

typedef enum broker_retention { BROKER_RETENTION_WORK = 1, BROKER_RETENTION_LOG = 2 } broker_retention;

/* What can be set of a queue. In a create, unset fields take the default; in an alter, only set fields change. */
#define BROKER_SET_RETENTION           0x01u
#define BROKER_SET_SYNC                0x02u
#define BROKER_SET_LEASE_MS            0x04u
#define BROKER_SET_MAX_MESSAGE_BYTES   0x08u
#define BROKER_SET_LOG_MAX_AGE_MS      0x10u
#define BROKER_SET_LOG_MAX_BYTES       0x20u
#define BROKER_SET_LOG_MAX_MESSAGES    0x40u
#define BROKER_SET_MAX_ATTEMPTS        0x80u
#define BROKER_SET_BACKOFF             0x100u /* all four backoff fields */
#define BROKER_SET_DEAD_LETTER         0x200u
#define BROKER_SET_TTL_MS              0x400u
#define BROKER_SET_DEAD_LETTER_EXPIRED 0x800u
#define BROKER_SET_UNUSED_MS           0x1000u
#define BROKER_SET_DEDUP_MS            0x2000u
#define BROKER_SET_DEDUP_COUNT         0x4000u
#define BROKER_SET_MAX_MESSAGES        0x8000u
#define BROKER_SET_MAX_BYTES           0x10000u
#define BROKER_SET_OVERFLOW            0x20000u
#define BROKER_SET_ORDERED_KEYS        0x40000u
#define BROKER_SET_FAIR_KEYS           0x80000u
#define BROKER_SET_COMPACT             0x100000u
#define BROKER_SET_ALL                 0x1fffffu

typedef enum broker_backoff { BROKER_BACKOFF_NONE, BROKER_BACKOFF_FIXED, BROKER_BACKOFF_EXPONENTIAL } broker_backoff;
typedef enum broker_overflow {
    BROKER_OVERFLOW_REJECT,     /* a publish that does not fit gets QUEUE_FULL, to be tried again later */
    BROKER_OVERFLOW_DROP_OLDEST /* the oldest go, counted in broker_queue_info.dropped */
} broker_overflow;

typedef struct broker_queue_settings {
    size_t size;
    uint32_t set;               /* which of the fields below count: BROKER_SET_… */
    broker_retention retention; /* default work */
    broker_sync sync;           /* default always */
    uint32_t lease_ms;          /* default 30000 */
    uint32_t max_message_bytes; /* default 0: the broker's limit */
    uint64_t log_max_age_ms;    /* log retention: 0 is unlimited */
    uint64_t log_max_bytes;
    uint64_t log_max_messages;
    uint32_t max_attempts;  /* deliveries; coming back from its last, a message goes to the dead letters; 0: no limit */
    broker_backoff backoff; /* how long a message that comes back waits; default none: not at all */
    uint32_t backoff_ms;    /* fixed: always; exponential: after the first attempt, doubled with each further one */
    uint32_t backoff_max_ms;         /* exponential: at most; 0: 86400000 */
    uint32_t backoff_jitter_percent; /* 0..100: up to this part of it is taken off by chance */
    const char *dead_letter; /* queue for dead letters, made when first needed; NULL or "": this one's name + ".dead" */
    uint64_t ttl_ms;         /* messages that come from now on expire this long after their acceptance; 0: never */
    bool dead_letter_expired; /* expired ones go to the dead letters; default: they are gone */
    uint64_t unused_ms;       /* the queue is deleted when unused (publish, consume, alter) for so long; 0: never */
    uint64_t dedup_ms;        /* window of message ids, in time; default 120000; 0: message ids are not looked at */
    uint32_t dedup_count;     /* and in number; default 100000 */
    uint64_t max_messages;    /* 0: no limit */
    uint64_t max_bytes;       /* 0: no limit */
    broker_overflow overflow; /* what happens beyond */
    bool ordered_keys;        /* default true: of one key, one message at a time is handed out in a group, in order */
    bool fair_keys; /* default false: keys take turns, so that one with a large backlog does not hold up the others */
    bool compact;   /* log retention: of each key only the newest message is kept; an empty body removes the key */
} broker_queue_settings;

typedef struct broker_queue_info {
    const char *name;
    uint32_t id;
    broker_queue_settings settings; /* settings.set: all, but for what an older broker does not know */
    bool paused;
    uint64_t first_seq; /* oldest message still there; last_seq + 1 if none */
    uint64_t last_seq;  /* newest; 0 if none ever */
    uint64_t messages;  /* still stored and wanted by a group (work) or retained (log) */
    uint64_t bytes;     /* about: of these */
    uint32_t groups;
    uint32_t consumers;
    uint64_t scheduled; /* wait for their time, now */
    uint32_t bindings;
    uint64_t published, expired, dead_lettered, dropped, duplicates; /* since the broker's start */
    uint64_t delivered, acked, redelivered;                          /* the same, all groups added up */
    uint64_t ready, leased;                                          /* now, all groups added up */
    uint64_t oldest_ms; /* Unix time at which the oldest message still there was accepted; 0: there is none */
    uint64_t dead;      /* messages that lie in its dead-letter queue now */
} broker_queue_info;

/* Which messages: all given conditions must hold. All zero: every message. */
typedef struct broker_filter {
    const char *topic; /* pattern for the message's topic: tokens, '*' for one token, '>' at the end for the rest */
    const char *key;   /* equals; NULL: any */
    const broker_header *headers; /* text headers that must be there with these values */
    size_t header_count;          /* up to 32 */
} broker_filter;

/* What can be set of a group. */
#define BROKER_GROUP_SET_FILTER        0x1u
#define BROKER_GROUP_SET_SINGLE_ACTIVE 0x2u
typedef struct broker_group_settings {
    size_t size;
    uint32_t set;
    broker_filter filter; /* the group sees only what matches; the rest counts as settled for it. From an alter on */
    bool single_active;   /* only one consumer at a time is served: of the highest priority, the one that came first */
} broker_group_settings;

typedef struct broker_group_info {
    const char *queue;
    const char *name;
    uint64_t floor_seq;  /* everything up to here is settled */
    uint64_t cursor_seq; /* next to be handed out for the first time */
    uint64_t ready;      /* can be handed out now */
    uint64_t leased;
    uint64_t delayed; /* came back and wait for their time */
    uint32_t consumers;
    uint64_t blocked; /* wait for an earlier message of their key to be settled */
    uint64_t lag;     /* accepted and not settled by this group: ready, leased, delayed, blocked, scheduled */
    broker_group_settings settings; /* settings.set: both, but for what an older broker does not know */
} broker_group_info;

/* All of these wait for the answer. Names: 1..255 bytes of A-Z a-z 0-9 . _ - (no leading '.'). */
BROKER_API broker_error broker_queue_create(broker *b, const char *queue, const broker_queue_settings *settings);
BROKER_API broker_error broker_queue_alter(broker *b, const char *queue, const broker_queue_settings *settings);
BROKER_API broker_error broker_queue_delete(broker *b, const char *queue);
BROKER_API broker_error broker_queue_pause(broker *b, const char *queue); /* nothing is handed out; publish goes on */
BROKER_API broker_error broker_queue_resume(broker *b, const char *queue);
BROKER_API broker_error broker_queue_purge(broker *b, const char *queue, uint64_t *purged);
/* The info given to the callback is valid during it. fn returns false to stop. */
BROKER_API broker_error broker_queue_list(broker *b, const char *prefix, bool (*fn)(void *, const broker_queue_info *),
                                          void *arg);
BROKER_API broker_error broker_queue_describe(broker *b, const char *queue,
                                              bool (*fn)(void *, const broker_queue_info *),
                                              bool (*group_fn)(void *, const broker_group_info *), void *arg);

typedef enum broker_start {
    BROKER_START_BEGINNING,
    BROKER_START_END,
    BROKER_START_SEQ,
    BROKER_START_TIME
} broker_start;

/* value: the seq (first to be handed out) or the Unix time in ms; ignored for BEGINNING and END. settings NULL: all default. */
BROKER_API broker_error broker_group_create(broker *b, const char *queue, const char *group, broker_start start,
                                            uint64_t value, const broker_group_settings *settings);
BROKER_API broker_error broker_group_alter(broker *b, const char *queue, const char *group,
                                           const broker_group_settings *settings);
BROKER_API broker_error broker_group_seek(broker *b, const char *queue, const char *group, broker_start start,
                                          uint64_t value);
BROKER_API broker_error broker_group_delete(broker *b, const char *queue, const char *group);

/*
 * broker_bind: messages published by topic go to the queue if their topic matches the pattern, once, however many of its
 * patterns match. A pattern is a topic in which '*' stands for any one token and '>', as the last, for one or more.
 * Binding twice is no error, nor is taking away what is not there.
 */
BROKER_API broker_error broker_bind(broker *b, const char *queue, const char *pattern);
BROKER_API broker_error broker_unbind(broker *b, const char *queue, const char *pattern);
/* broker_queue_bindings: the patterns; fn returns false to stop. */
BROKER_API broker_error broker_queue_bindings(broker *b, const char *queue, bool (*fn)(void *, const char *pattern),
                                              void *arg);

/* ---- transactions ---------------------------------------------------------------------------------------------- */

/*
 * Publishes to several queues and settles of received messages in one step: all of it happens or nothing (consume,
 * transform, produce). A stale receipt, a full queue, an unknown queue: nothing has happened, and the error says which part.
 *
 * The object collects the parts in memory; only commit waits and sends, the others may be called in callbacks. One that is
 * refused (TOO_LARGE: over what the broker takes in one frame; INVALID_ARGUMENT, NO_MEMORY) leaves the transaction as it
 * was. It belongs to its handle: commit or abort it before broker_close. A message under BROKER_ACK_AUTO that is settled in
 * a transaction is not acked by the library as well, also if the transaction fails: it comes again then.
 */
typedef struct broker_transaction broker_transaction;
BROKER_API broker_error broker_transaction_begin(broker *b, broker_transaction **out);
/* queue NULL: by topic, as in broker_publish_async. */
BROKER_API broker_error broker_transaction_publish(broker_transaction *t, const char *queue,
                                                   const broker_message *message);
BROKER_API broker_error broker_transaction_ack(broker_transaction *t, const broker_msg *m);
BROKER_API broker_error broker_transaction_nack(broker_transaction *t, const broker_msg *m, uint32_t delay_ms);
BROKER_API broker_error broker_transaction_reject(broker_transaction *t, const broker_msg *m);
/*
 * broker_transaction_commit: send it, wait for the answer, and free t, whatever comes. It takes effect behind everything
 * published on this handle before. `seqs`: room for one number per published message, in the order of the calls: its seq,
 * or for one by topic the number of queues; 0 if a retry was done before and it is no longer known. NULL: not wanted.
 *
 * After a lost connection a transaction that publishes is sent again and is not done twice (unless no_dedup); what it
 * settles may be stale by then: STALE_RECEIPT, and nothing has happened. One that only settles, or without numbers, is
 * not sent again: CONNECTION_LOST, and it may have been done or not. The same with TIMEOUT. An empty one is OK at once.
 */
BROKER_API broker_error broker_transaction_commit(broker_transaction *t, const broker_publish_options *options,
                                                  uint64_t *seqs);
BROKER_API void broker_transaction_abort(broker_transaction *t); /* free it; nothing was sent. NULL is fine */

/* ---- looking and mending --------------------------------------------------------------------------------------- */

typedef enum broker_scan_action {
    BROKER_SCAN_COUNT,  /* the dry run of the others */
    BROKER_SCAN_DELETE, /* gone for every group; cancels what is scheduled */
    BROKER_SCAN_MOVE,   /* to the queue `target`, each atomically; what is leased to somebody is skipped */
    BROKER_SCAN_REDRIVE /* dead letters: to `target`, or NULL: to the queue that each came from */
} broker_scan_action;
typedef enum broker_scan_state { BROKER_SCAN_ANY, BROKER_SCAN_SCHEDULED, BROKER_SCAN_AVAILABLE } broker_scan_state;

typedef struct broker_scan_options {
    size_t size;
    uint64_t from_seq, to_seq; /* 0: from the oldest; to the newest */
    uint64_t from_ms, to_ms;   /* accepted within, Unix ms; 0: no bound */
    broker_scan_state state;
    broker_filter filter;
    const char *target;    /* move, redrive */
    uint64_t max_messages; /* stop after so many matches; 0: no limit (peek: 100) */
    uint64_t max_scanned;  /* stop after about so many looked at, matching or not; 0: no limit */
} broker_scan_options;

typedef struct broker_scan_result {
    uint64_t matched;  /* counted, deleted, moved, peeked */
    uint64_t skipped;  /* matched, but leased to somebody or without a place to go */
    uint64_t next_seq; /* where to go on; 0: the range is done */
} broker_scan_result;

/*
 * broker_peek: look at messages without leasing them; they come to fn, as in a callback, which returns false to stop. They
 * have attempt 0 and no receipt. A long walk takes several requests. result may be NULL; it is filled in after an error, too.
 */
BROKER_API broker_error broker_peek(broker *b, const char *queue, const broker_scan_options *options,
                                    bool (*fn)(void *arg, const broker_msg *m), void *arg, broker_scan_result *result);
/*
 * broker_scan: long ranges are walked in steps, one request each; `progress` (or NULL) runs after each step and returns
 * false to stop. *result (may be NULL) counts what the steps answered so far did, also after an error: from next_seq on it
 * can be gone on with. After CONNECTION_LOST or TIMEOUT one more step may have been done, in whole or in part.
 */
BROKER_API broker_error broker_scan(broker *b, const char *queue, broker_scan_action action,
                                    const broker_scan_options *options,
                                    bool (*progress)(void *arg, const broker_scan_result *so_far), void *arg,
                                    broker_scan_result *result);
/* broker_reschedule: a message that waits for its time gets another: a Unix time (in the past: at once), or from now on.
   MESSAGE_NOT_FOUND: it does not wait (any more). */
BROKER_API broker_error broker_reschedule(broker *b, const char *queue, uint64_t seq, uint64_t at_ms);
BROKER_API broker_error broker_reschedule_delay(broker *b, const char *queue, uint64_t seq, uint64_t delay_ms);

/* ---- backup ------------------------------------------------------------------------------------------------------ */

/*
 * broker_backup: a copy of everything durable, taken while the broker works, into the directory `path`, which is made (mode
 * 0700) or must be empty: a data directory that `brokerd --data path` starts on. It is on disk when the call returns.
 * `progress` (or NULL) is called before each piece and returns false to give up (CANCELLED). timeout_ms counts per piece.
 * After an error (IO, DISK_FULL, CONNECTION_LOST …) nothing of it is left.
 */
BROKER_API broker_error broker_backup(broker *b, const char *path,
                                      bool (*progress)(void *arg, uint64_t bytes_done, uint64_t bytes_total),
                                      void *arg);

/* broker_ping: a round trip to the broker; *rtt_us in microseconds; may be NULL. */
BROKER_API broker_error broker_ping(broker *b, uint64_t *rtt_us);

/* What the broker says of itself: process figures, for benchmarks and monitoring. */
typedef struct broker_stats {
    size_t size;
    uint64_t uptime_ms, cpu_us, rss_bytes;
    uint64_t connections, queues, subscriptions;
    uint64_t published, delivered, acked;     /* messages since start */
    uint64_t syncs, bytes_written, log_index; /* log: fdatasyncs, bytes, last durable batch */
    uint64_t disk_bytes, segments;
    char version[32];
    uint64_t scheduled;                                                /* messages that wait for their time, now */
    uint64_t redelivered, dead_lettered, expired, dropped, duplicates; /* since start */
} broker_stats;
BROKER_API broker_error broker_get_stats(broker *b, broker_stats *stats);

#ifdef __cplusplus
}
#endif
#endif
