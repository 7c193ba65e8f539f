/*
 * Owns:            queues, groups, leases, redelivery, retention, deduplication: what a message broker means.
 * May use:         base, wire (formats only).
 * Never knows:     sockets, files, clocks, threads. `now` is an argument, storage and output are ops structs.
 * Start reading at engine_submit (commands in) and struct sink_ops (completions and deliveries out).
 *
 * Single-threaded and deterministic: the same calls give the same results. No globals; two engines live in one process.
 * Every string and byte pointer in a command, completion or delivery is borrowed for the duration of the call.
 */
#ifndef ENGINE_H
#define ENGINE_H

#include <broker/broker.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "clock.h"

struct engine;

/* Whom a completion is for. `conn` is the front's number of the connection (never reused), 0: nobody waits. */
struct token {
    uint64_t conn;
    uint32_t correlation;
    uint32_t stream;
};

/* ---- commands in ------------------------------------------------------------------------------------------------- */

enum command_type {
    COMMAND_PUBLISH,
    COMMAND_SUBSCRIBE,
    COMMAND_UNSUBSCRIBE,
    COMMAND_CREDIT,
    COMMAND_HOLD, /* the front's output for (conn, stream) is full: deliver nothing until COMMAND_UNHOLD; stream 0: all of conn's */
    COMMAND_UNHOLD,
    COMMAND_LEASE,
    COMMAND_ACK,
    COMMAND_NACK,
    COMMAND_EXTEND,
    COMMAND_QUEUE_CREATE,
    COMMAND_QUEUE_ALTER,
    COMMAND_QUEUE_DELETE,
    COMMAND_QUEUE_PAUSE,
    COMMAND_QUEUE_RESUME,
    COMMAND_QUEUE_PURGE,
    COMMAND_QUEUE_LIST,
    COMMAND_QUEUE_DESCRIBE,
    COMMAND_GROUP_CREATE,
    COMMAND_GROUP_DELETE,
    COMMAND_GROUP_SEEK,
    COMMAND_GROUP_ALTER,
    COMMAND_BIND,
    COMMAND_UNBIND,
    COMMAND_TRANSACT,   /* publishes to several queues and settles, all or nothing */
    COMMAND_SCAN,       /* walk a range of a queue: peek, count, delete, move, redrive */
    COMMAND_RESCHEDULE, /* a scheduled message gets another time */
    COMMAND_READ,       /* messages by position, for a reader who keeps its place itself: leases and settles nothing */
    COMMAND_BARRIER,    /* completes when everything submitted before it is on disk */
    COMMAND_CLOSE, /* connection `token.conn` is gone: its subscriptions end and their leases return; waiting leases are dropped */
    COMMAND_TYPES
};

struct name {
    const char *bytes;
    size_t len;
};

struct receipt_range {
    uint64_t first;
    uint32_t count;
};

enum transact_part_kind { PART_PUBLISH, PART_ACK, PART_NACK };

struct transact_part {
    enum transact_part_kind kind;
    struct name queue; /* publish; len 0: by topic */
    uint8_t *records;  /* publish: as in u.publish */
    size_t len;
    const struct receipt_range *ranges; /* ack, nack */
    size_t count;
    uint32_t delay_ms; /* nack */
    bool dead_letter;  /* nack */
};

enum scan_action {
    SCAN_PEEK,   /* give the messages */
    SCAN_COUNT,  /* how many match: the dry run of the others */
    SCAN_DELETE, /* gone for every group; leases on them end */
    SCAN_MOVE,   /* to the queue `target`, atomically each; what a group has leased is skipped */
    SCAN_REDRIVE /* dead letters: to `target`, or to the queue that each came from */
};

struct command {
    enum command_type type;
    struct token token;
    struct name queue; /* where the command names one */
    struct name group; /* len 0: "default" */
    union {
        struct {
            uint8_t *records; /* message records, each padded to 8; queue, seq and time are filled in here, in place */
            size_t len;
            broker_sync sync;
            bool unroutable_ok; /* by topic (queue.len 0): no queue bound is no error */
        } publish;
        struct {
            struct transact_part *parts;
            size_t count;
            broker_sync sync; /* DEFAULT: the strongest of the queues' */
            bool unroutable_ok;
        } transact;
        struct {
            uint32_t lease_ms; /* 0: the queue's */
            bool settle_on_send;
            uint8_t priority; /* 0..9: consumers of higher priority are served first while they have credit */
            uint32_t
                max_unsettled; /* no more than this many leased to it at once; 0: no limit. The end of a lease, however it
                                       ends, makes room again */
        } subscribe;           /* (token.conn, token.stream) identifies the subscription; credit starts at zero */
        struct {
            uint32_t messages;
            uint64_t bytes;
        } credit;
        struct {
            uint32_t max_messages; /* 1..1024 */
            uint32_t max_bytes;
            uint32_t lease_ms; /* 0: the queue's */
            uint32_t wait_ms;  /* 0: answer at once, with what is there */
        } lease;
        struct {
            const struct receipt_range *ranges;
            size_t count;
            uint32_t delay_ms; /* nack; 0: the queue's backoff */
            uint32_t lease_ms; /* extend */
            bool dead_letter;  /* nack: to the dead letters at once */
        } settle;
        struct {
            const broker_queue_settings *settings; /* NULL: all default */
        } queue;
        struct {
            struct name prefix;
            struct name after; /* names sorted bytewise: only those greater than this; len 0: from the first */
            uint32_t limit;    /* 1..1000 */
        } list;
        struct {
            broker_start start; /* create, seek */
            uint64_t value;
            const broker_group_settings *settings; /* create, alter; NULL: all default */
        } group;
        struct {
            struct name pattern;
        } bind;
        struct {
            enum scan_action action;
            broker_scan_state state;
            uint64_t from_seq, to_seq; /* 0: from the oldest; to the newest */
            uint64_t from_ms, to_ms;   /* accepted within; 0: no bound */
            broker_filter filter;      /* zero: everything */
            struct name target;        /* move, redrive */
            uint32_t max_messages;     /* 1..1000000: stop after so many matches */
            uint32_t max_scanned;      /* stop after so many seqs looked at, so that a call stays short; 0: 1000000 */
            uint32_t max_bytes;        /* peek */
        } scan;
        struct {
            uint64_t seq;
            uint64_t due_ms; /* Unix time; with is_delay: from now; in the past: at once */
            bool is_delay;
        } reschedule;
        struct {
            uint64_t from_seq;     /* 0: the oldest that is there */
            uint64_t from_ms;      /* not 0: instead, the first one accepted at or after this Unix time */
            bool from_end;         /* instead, what becomes visible from now on */
            uint32_t max_messages; /* 1..1024 */
            uint32_t max_bytes;    /* at least one message is given, however large */
            uint32_t wait_ms;      /* how long to wait for the first one; 0: answer at once; READ_WAIT_FOREVER */
            broker_filter filter;  /* zero: everything */
        } read;
    } u;
};
#define READ_WAIT_FOREVER UINT32_MAX

/* ---- completions and deliveries out ------------------------------------------------------------------------------ */

struct publish_result {
    uint64_t first_seq; /* 0: failed, or a duplicate whose seq is no longer known */
    uint32_t first_index, count;
    broker_error error;
    bool duplicate;
    bool routed; /* by topic: first_seq is the number of queues that each message reached; 0 with unroutable_ok: none */
    uint32_t retry_ms;
};

struct stored_message {
    uint64_t seq; /* in the queue it was read from; the record names another if it lies in several queues */
    const uint8_t
        *record; /* in the store's memory, valid until the end of the loop's turn (sink_ops.deliver's contract) */
    uint32_t padded_len;
};

struct delivery {
    struct token token;     /* conn and stream of the subscription */
    uint64_t first_receipt; /* message i has first_receipt + i; 0: settled on send */
    const struct stored_message *messages;
    const uint32_t *attempts; /* one per message */
    uint32_t count;
};

struct completion {
    enum command_type type;
    struct token token;
    broker_error error;
    const char *text; /* for a failed command: the sentence for the user; never NULL then */
    uint32_t retry_ms;
    union {
        struct {
            const struct publish_result *results; /* ranges that cover every record of the command once, in order */
            size_t count;
            bool synced; /* what was stored is on disk; else in the system's hands, for less was asked for */
        } publish;
        struct delivery lease; /* count 0: nothing came in time */
        struct {
            uint32_t settled, stale;
            const uint64_t *stale_receipts; /* the first 64 of them */
            uint32_t stale_listed;
        } settle;
        struct {
            uint64_t purged;
        } purge;
        struct {
            const broker_queue_info *queues;
            size_t count;
            bool more;
        } list;
        struct {
            const broker_queue_info *queue;
            const broker_group_info *groups;
            size_t group_count;
            const char *const *bindings;
            size_t binding_count;
        } describe;
        struct {
            const uint64_t
                *seqs; /* of each published message, parts and records in order; by topic: number of queues */
            size_t count;
            bool duplicate; /* a retry: it was done before (seqs of 0: no longer known) */
        } transact;
        struct {
            uint64_t matched;                      /* peeked, counted, deleted, moved */
            uint64_t skipped;                      /* matched, but leased to somebody, or its place of origin is gone */
            uint64_t next_seq;                     /* go on here; 0: the range is done */
            const struct stored_message *messages; /* peek */
            uint32_t count;
            bool peek; /* it was one: messages counts, also with none */
        } scan;
        struct {
            const struct stored_message *messages; /* rising seqs; what has expired is left out */
            uint32_t count;                        /* 0: nothing came in time */
            uint32_t queue_id; /* of this queue: another that is made later under the same name has another */
            uint64_t
                next_seq; /* go on here, also if nothing came: what was before was not for the filter; beyond: first_seq */
            uint64_t first_seq; /* the oldest that is there; last_seq + 1: none */
            uint64_t last_seq;  /* the newest that is visible; 0: none ever */
            bool trimmed; /* a log had let go of messages at or after from_seq before they were read. Not waited with */
            bool beyond;  /* from_seq is past last_seq + 1: it is of another life of this queue. Answered at once */
        } read;
    } u;
};

struct sink_ops {
    /* Exactly one for each command whose token.conn is not 0, except CREDIT, HOLD, UNHOLD and CLOSE, which have none. */
    void (*complete)(void *sink, const struct completion *c);
    /* Returns false if the subscription's output is full after this one (the batch itself is always taken): the engine
       holds the connection's subscriptions then, as by COMMAND_HOLD, until COMMAND_UNHOLD. */
    bool (*deliver)(void *sink, const struct delivery *d);
    /* A subscription is over and it was not its owner who ended it. */
    void (*ended)(void *sink, struct token token, broker_error error, const char *text);
};

/* ---- storage ------------------------------------------------------------------------------------------------------ */

/* How far a record must get before what hangs on it may happen. */
enum durability {
    DURABILITY_LAZY,    /* goes out with the next batch that is written anyway, or within the store's idle time */
    DURABILITY_WRITTEN, /* in the system's hands: survives the process */
    DURABILITY_SYNCED   /* on disk: survives the power */
};

enum read_status {
    READ_OK,      /* at least one message */
    READ_END,     /* no message in the range */
    READ_PENDING, /* must come from disk: engine_readable(queue) will be called; ask again then */
    READ_DAMAGED  /* the next message in the range is damaged on disk; *damaged_seq says which */
};

struct store_stats {
    uint64_t log_index, syncs, bytes_written, disk_bytes, segments;
};

struct append_item {
    const uint8_t *record;
    uint32_t length;
};

/*
 * The log as the engine sees it: append(record) -> batch index, later engine_committed(written, durable); read by queue
 * and seq; tell what is no longer wanted. Batches have indexes 1, 2, 3 …; a batch closes when the loop's turn ends.
 */
struct store_ops {
    /*
     * Copies the record (padded to 8, CRC computed in the copy) into the filling batch and, if it is a message, indexes
     * (queue, seq). Seqs of one queue are appended in rising order. *index: its batch. Errors leave nothing behind:
     * DISK_FULL (only for RECORD_MESSAGE: settles and the rest live on a reserve; if that is gone too, DISK_FULL for them),
     * OVERLOADED (too many bytes wait for the disk; again only for messages), TOO_LARGE (over the segment's size).
     */
    broker_error (*append)(void *store, const uint8_t *record, uint32_t length, enum durability durability,
                           uint64_t *index);
    /*
     * Several records, all or nothing: they go into one batch, and either all are appended and indexed or none is. A
     * RECORD_ROUTE names further places of the message record that follows it.
     */
    broker_error (*append_all)(void *store, const struct append_item *items, uint32_t count, enum durability durability,
                               uint64_t *index);
    /*
     * Messages of `queue` with from <= seq <= to, rising, holes skipped; stops at max_messages or before max_bytes is
     * passed (but gives at least one). *count of them in `out`; pointers valid until the loop's turn ends.
     */
    enum read_status (*read)(void *store, uint32_t queue, uint64_t from, uint64_t to, uint32_t max_messages,
                             uint64_t max_bytes, struct stored_message *out, uint32_t *count, uint64_t *damaged_seq);
    /* The engine will never ask for these again; a seq is reported at most once. */
    void (*dead)(void *store, uint32_t queue, uint64_t first, uint64_t last);
    void (*queue_gone)(void *store, uint32_t queue);
    /* Least seq >= from whose message was accepted at or after time_ms (blocks: never; answered from the index: exact to
       the granularity of index blocks, rounding down). UINT64_MAX: none. */
    uint64_t (*seq_at_time)(void *store, uint32_t queue, uint64_t time_ms);
    /* Stored bytes and messages not reported dead, and the oldest such seq (0: none). */
    void (*usage)(void *store, uint32_t queue, uint64_t *messages, uint64_t *bytes, uint64_t *oldest_seq);
    /* For log retention: the largest seq such that dropping everything up to it is needed to satisfy the limits (0 means
       no limit), in whole index runs (never more than the limits ask for). 0: nothing. */
    uint64_t (*trim_point)(void *store, uint32_t queue, uint64_t before_time_ms, uint64_t max_bytes,
                           uint64_t max_messages);
    void (*stats)(void *store, struct store_stats *out);
};

/* ---- the engine ---------------------------------------------------------------------------------------------------- */

struct engine_options {
    uint32_t max_message_bytes;    /* body, headers and key together; default 8 MiB */
    uint32_t default_lease_ms;     /* default 30000 */
    uint32_t max_queues;           /* default 1000000 */
    uint32_t max_groups_per_queue; /* default 1000 */
    uint32_t max_producers;   /* remembered for deduplication, least recently used forgotten first; default 100000 */
    uint64_t producer_ttl_ms; /* default 3600000 */
    uint32_t max_schedule_entries;   /* due and expiry times kept in memory before they go to the log; default 65536 */
    uint32_t max_bindings_per_queue; /* default 1000 */
    uint32_t max_compaction_keys;    /* distinct keys that one pass of a log's compaction remembers; default 1000000 */
};

/* NULL: no memory. `options` may have zero fields (default). store and sink must outlive the engine. */
struct engine *engine_new(const struct engine_options *options, const struct store_ops *store_ops, void *store,
                          const struct sink_ops *sink_ops, void *sink);
void engine_free(struct engine *e);

/* Apply one command. Answers may come during the call or later, from any engine_ call. */
void engine_submit(struct engine *e, struct now now, const struct command *c);
/* Do what is due (leases, waits, delays, retention, deliveries); returns when to be called again, MONOTIME_NEVER for not before the
   next other call. */
monotime engine_tick(struct engine *e, struct now now);
/* Everything up to these batch indexes is written (survives the process) and durable (survives the power). */
void engine_committed(struct engine *e, struct now now, uint64_t written, uint64_t durable);
/* A read of this queue that was pending may now succeed. */
void engine_readable(struct engine *e, struct now now, uint32_t queue);

/*
 * Start-up, before any command: restore the state that a checkpoint holds (or not at all: empty), replay every record
 * after it in order, then engine_recovered once, with the epoch: a number that rises with each start, so that receipts of
 * earlier starts are stale. MALFORMED: the bytes make no sense (damage the CRC did not see, or a
 * version from the future); *text says what, static storage.
 */
broker_error engine_restore(struct engine *e, const uint8_t *snapshot, size_t len, const char **text);
broker_error engine_replay(struct engine *e, const uint8_t *record, const char **text);
void engine_recovered(struct engine *e, struct now now, uint32_t epoch);
/* Append everything that must survive to `out`: the state after all records appended so far. false: no memory. */
bool engine_snapshot(const struct engine *e, struct buf *out);

/* The cleaner's question: call fn for each maximal range of seqs within [first, last] that is still wanted, rising. */
void engine_live(const struct engine *e, uint32_t queue, uint64_t first, uint64_t last,
                 void (*fn)(void *arg, uint64_t first, uint64_t last), void *arg);

struct engine_stats {
    uint64_t queues, groups, subscriptions, leased;
    uint64_t published, delivered, acked, duplicates;
    uint64_t scheduled;                                    /* messages that wait for their time, now */
    uint64_t dead_lettered, expired, dropped, redelivered; /* since start */
    uint64_t epoch; /* as engine_recovered was told: the native protocol names it in its greeting */
};
void engine_get_stats(const struct engine *e, struct engine_stats *out);
/* For fsck and logs: the name of a queue id, or NULL. */
const char *engine_queue_name(const struct engine *e, uint32_t queue);

#endif
