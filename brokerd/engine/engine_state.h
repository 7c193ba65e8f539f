/* What the engine remembers: queues, groups, leases, and all that hangs on them. Nobody outside this folder includes it. */
#ifndef ENGINE_STATE_H
#define ENGINE_STATE_H

#include <assert.h>
#include <sys/queue.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "engine.h"
#include "heap.h"
#include "seqset.h"
#include "wire.h"

enum {
    BLOCK_SHIFT = 6, /* receipt = block number << BLOCK_SHIFT | index */
    BLOCK_MESSAGES = 1 << BLOCK_SHIFT,
    LEASE_MESSAGES_MAX = 1024, /* of one COMMAND_LEASE */
    BLOCK_EPOCH_SHIFT = 38, /* block numbers of one start: epoch << this and up; the receipt has 64 - 6 bits for both */
    SETTLE_RECEIPTS_MAX = 1 << 20, /* receipts one settle command may name */
    SETTLE_ITEMS_MAX = 1024,       /* ranges or entries in one record */
    STALE_LISTED_MAX = 64,
    PRODUCER_RUNS = 8,
    PRODUCER_HOLES_MAX = 4096,
    TEXT_BYTES = 512,
    TRIM_PAUSE_MS = 50,  /* log retention is applied at most this often per queue ... */
    AGE_PAUSE_MS = 1000, /* ... and looked at this often while only age can let a message go */
    PRIORITIES = 10,
    FILTER_HEADERS_MAX = 32,
    DEDUP_COUNT_MAX = 10000000,
    DEFAULT_MAX_BINDINGS = 1000, /* of a queue */
};

/* The store's queue in which the schedule keeps its times; no client ever sees it. */
#define SCHEDULE_QUEUE UINT32_MAX

/* The number of a key that nobody has looked at since the start. */
#define KEY_UNKNOWN UINT32_MAX

#define FAR_MS (100ull * 366 * 86400000) /* how far ahead a time may lie */

struct group;
struct queue;
struct schedule;
struct topics;
struct dedup;
struct filter;
struct keys;
struct compaction;
struct reads;
TAILQ_HEAD(read_list, read);

/* A message that was handed out and came back. In group->ready (by priority and seq) or group->delayed (by due time). */
struct returned {
    struct heap_node node;
    uint64_t seq;
    uint64_t due_wall_ms; /* 0: at once */
    uint32_t attempts;    /* deliveries so far */
    uint32_t key;         /* its key's number in group->keys; 0: none; KEY_UNKNOWN: came back by a start */
    uint8_t priority;
};

struct lease_entry {
    uint64_t seq;
    uint64_t deadline_ms; /* monotonic */
    uint32_t attempts;    /* including this delivery */
    uint32_t key;         /* as in struct returned */
};

/* A message that must leave its group for the dead letters; done as soon as it can be read. */
struct dying {
    TAILQ_ENTRY(dying) link; /* group->dying */
    uint64_t seq;
    uint32_t attempts, key;
    const char *reason; /* static: "max_attempts", "rejected" */
};
TAILQ_HEAD(dying_list, dying);

/* The order of group->ready: higher priority first, then by seq (seqs stay below 2^60). */
static inline uint64_t returned_key(const struct returned *r)
{
    return (uint64_t)(9 - r->priority) << 60 | r->seq;
}

/* Messages handed out together: consecutive receipts, one timer, one hash entry. */
struct lease_block {
    uint64_t number;
    UT_hash_handle hh; /* engine->blocks */
    struct group *group;
    struct consumer *consumer; /* NULL: a COMMAND_LEASE, which no connection ends */
    TAILQ_ENTRY(lease_block) of_group, of_consumer;
    struct heap_node timer; /* engine->lease_timers: never later than the earliest deadline of a live entry */
    uint64_t live;          /* bit i: entry i is leased */
    uint64_t taken;         /* of these, what the settle command being applied has named already */
    uint32_t count, cap;
    struct lease_entry entries[];
};
TAILQ_HEAD(block_list, lease_block);

/* A subscription, or a COMMAND_LEASE that waits (one_shot): a subscription of one delivery. */
struct consumer {
    struct client *client;
    struct group *group;
    struct token token;
    TAILQ_ENTRY(consumer) of_client, of_group, in_ready;
    struct block_list blocks;
    struct heap_node wait; /* one_shot: engine->waits */
    uint64_t credit_messages;
    int64_t credit_bytes;   /* falls below zero by less than one message */
    uint32_t lease_ms;      /* 0: the queue's */
    uint32_t max_unsettled; /* 0: no limit */
    uint32_t unsettled;     /* leased to it now */
    uint8_t priority;
    bool settle_on_send, one_shot, held, is_ready;
};
TAILQ_HEAD(consumer_list, consumer);

/* A connection that has consumers. */
struct client {
    uint64_t conn;
    UT_hash_handle hh; /* engine->clients */
    struct consumer_list consumers;
    bool held;
};

struct group {
    struct queue *queue;
    LIST_ENTRY(group) of_queue;
    TAILQ_ENTRY(group) in_dispatch;
    uint32_t id;
    uint32_t consumer_count;
    uint64_t floor;        /* every seq <= floor is settled */
    uint64_t cursor;       /* > floor; the next seq never handed out */
    struct seqset settled; /* above the floor */
    struct seqset
        passed; /* below the cursor, neither settled nor ever handed out (they wait for their key); no specials */
    uint64_t unlooked;       /* returned messages whose key is KEY_UNKNOWN: looked at before anything is handed out */
    struct lanes *lanes;     /* specials that can be handed out, by priority; NULL: never had any */
    struct keys *keys;       /* keys under way; NULL: never had any */
    struct filter *filter;   /* NULL: everything */
    uint64_t filter_from;    /* messages from here on were filtered when they came; older ones are when they are read */
    struct consumer *active; /* of single_active */
    bool single_active;
    struct dying_list dying;
    TAILQ_ENTRY(group) in_dying; /* engine->dying */
    bool is_dying;
    bool refill;             /* the lanes could not take something for want of memory: fill them anew */
    bool parked_served_last; /* fair_keys: parked and fresh messages take turns */
    struct heap ready;       /* struct returned, by priority and seq */
    struct heap delayed;     /* struct returned, by due time (monotonic) */
    struct heap_node delay;  /* engine->delays, by the least due time */
    struct consumer_list consumers;
    struct consumer_list ready_consumers; /* with credit, not held */
    uint32_t ready_count;
    struct block_list blocks;
    uint64_t leased;
    struct replay_entry *replay; /* during start-up only */
    bool dispatching;            /* in engine->dispatch */
    bool reading;                /* a read is pending: engine_readable goes on */
    char name[];
};
LIST_HEAD(group_list, group);

/* Ready specials of a group, by priority. */
struct lanes {
    struct seqset ready[PRIORITIES];
};

/* A message whose due time was changed after it was stored. */
struct rescheduled {
    uint64_t seq, due_ms;
    UT_hash_handle hh;
};

/*
 * Messages that are not handed out in the order of their seqs: with a priority above 0, or due later than accepted. The
 * cursor of a group passes over them; they come through the group's lanes. May keep what is dead until it is pruned.
 */
struct specials {
    struct seqset all;
    struct seqset waiting;                 /* of these: not due yet */
    struct seqset by_priority[PRIORITIES]; /* of these: by priority; [0] is not used */
    struct rescheduled *rescheduled;
};

struct queue_settings { /* broker_queue_settings without its ABI clothes */
    broker_retention retention;
    broker_sync sync;
    uint32_t lease_ms;
    uint32_t max_message_bytes;
    uint64_t log_max_age_ms, log_max_bytes, log_max_messages;
    uint32_t max_attempts;
    broker_backoff backoff;
    uint32_t backoff_ms, backoff_max_ms, backoff_jitter_percent;
    char *dead_letter; /* owned; NULL: the queue's name + ".dead" */
    uint64_t ttl_ms, unused_ms, dedup_ms;
    uint32_t dedup_count;
    uint64_t max_messages, max_bytes;
    broker_overflow overflow;
    bool dead_letter_expired, ordered_keys, fair_keys, compact;
};

struct binding {
    LIST_ENTRY(binding) of_queue;
    char pattern[];
};
LIST_HEAD(binding_list, binding);

struct queue_counters { /* since start */
    uint64_t published, expired, dead_lettered, dropped, duplicates;
    uint64_t delivered, acked, redelivered; /* all groups */
};

struct queue {
    uint32_t id;
    uint32_t next_group_id;
    UT_hash_handle by_name, by_id;
    struct queue_settings settings;
    uint64_t next_seq;  /* of the next publish */
    uint64_t visible;   /* greatest seq consumers may see */
    uint64_t trimmed;   /* log: everything <= this was let go; work: it is a lower bound of the same */
    struct seqset gone; /* reported dead above `trimmed` by a rule no longer in force (retention changed), or one by one
                           (log retention: deleted, expired, compacted) */
    struct specials *specials; /* NULL: never had any */
    struct seqset
        expired;         /* expired, and not written down yet: it will be, or it is handed out wherever it is wanted */
    struct seqset ended; /* expired and written down; some group had it handed out, and may finish it */
    bool is_expiring;    /* in engine->expiring: `expired` has messages to be looked at */
    bool expiry_reading; /* a read of one of them is pending */
    uint64_t expire_at;  /* the next one of `expired` to look at */
    TAILQ_ENTRY(queue) in_expiring;
    uint32_t filtered; /* groups with a filter */
    uint32_t arriving; /* messages, and bytes, of the transaction being built */
    uint64_t arriving_bytes;
    struct binding_list bindings;
    uint32_t binding_count;
    struct dedup *dedup;           /* NULL: no message id seen */
    struct compaction *compaction; /* NULL: not compacted */
    struct queue_counters counters;
    uint64_t used_ms;        /* monotonic: last publish, consume or change */
    struct heap_node unused; /* engine->unused: when to look whether the queue is unused */
    struct group_list groups;
    uint32_t group_count;
    uint32_t synced_pending;                       /* publishes that wait for a sync ... */
    uint64_t synced_index;                         /* ... the last of them in this batch */
    uint64_t stored_index;                         /* batch of the last message */
    uint64_t settings_index;                       /* batch of the record that made it as it is */
    struct read_list reads_waiting, reads_on_disk; /* read.c: for something to become visible, for a block from disk */
    uint32_t read_count;                           /* COMMAND_READs under way, wherever they are */
    struct heap_node trim;                         /* engine->trims: when to look at log retention */
    bool paused;
    bool replaying; /* during start-up: lanes are not filled yet */
    char name[];
};

struct producer_run { /* numbers number .. number + count - 1 are stored as seq .. seq + count - 1 */
    uint64_t number, seq;
    uint64_t count;
};

struct producer_hole { /* numbers first..last were refused, or never came: not duplicates if they come now */
    uint64_t first, last;
};

struct producer_key {
    uint64_t producer;
    uint32_t queue, zero;
};

struct producer {
    struct producer_key key;
    UT_hash_handle hh;
    TAILQ_ENTRY(producer) by_use;
    uint64_t last_number;
    uint64_t used_ms; /* monotonic; start-up counts as use */
    uint32_t next_run, hole_count, hole_cap;
    struct producer_run runs[PRODUCER_RUNS];
    struct producer_hole *holes; /* rising, below last_number; the oldest is forgotten beyond PRODUCER_HOLES_MAX */
};
TAILQ_HEAD(producer_list, producer);

/* Attempts and due times that the log names, while it is replayed. */
struct replay_entry {
    uint64_t seq;
    UT_hash_handle hh;
    uint64_t due_wall_ms;
    uint32_t attempts;
    bool rejected;
};

struct visible_mark {
    uint32_t queue;
    uint64_t last_seq;
};

/* An answer that waits for the disk. */
struct pending {
    uint64_t index; /* batch */
    struct token token;
    enum command_type type;
    uint32_t queue;         /* publish */
    uint64_t last_seq;      /* publish: visible once this is done; 0: nothing was stored */
    uint64_t written_index; /* a publish that asked for no sync but waits for an earlier one's: its own batch */
    uint32_t result_count;
    union {
        struct publish_result one;
        struct publish_result *many; /* owned, if result_count > 1 */
        struct {
            uint32_t settled, stale, listed;
            uint64_t *receipts; /* owned */
        } settle;
        uint64_t purged;
        struct {
            struct visible_mark *marks; /* owned: what becomes visible */
            uint64_t *seqs;             /* owned: the answer */
            uint32_t mark_count, seq_count;
            bool duplicate;
        } transact;
        struct {
            uint64_t matched, skipped, next_seq;
        } scan;
    } u;
};

TAILQ_HEAD(scan_list, scan);
TAILQ_HEAD(compaction_list, compaction);

struct pending_ring {
    struct pending *items;  /* cap is a power of two */
    size_t head, tail, cap; /* head..tail, counted without wrapping */
};

struct engine {
    struct engine_options options;
    const struct store_ops *ops;
    void *store;
    const struct sink_ops *sink_ops;
    void *sink;

    struct queue *by_name, *by_id;
    struct queue **sorted; /* by name; rebuilt when sorted_stale */
    size_t sorted_count, sorted_cap;
    bool sorted_stale;
    uint32_t next_queue_id;

    struct client *clients;
    struct lease_block *blocks;
    struct block_list spare_blocks; /* of full size, linked by of_group */
    uint32_t spare_block_count;
    uint64_t next_block;

    struct heap lease_timers, waits, delays, trims, unused;
    struct heap dedups; /* windows of message ids, by when to look for old ones */
    TAILQ_HEAD(, group) dispatch;
    TAILQ_HEAD(, group) dying;
    TAILQ_HEAD(, queue) expiring;
    uint64_t
        retry_ms; /* dying and expiring could not go on (disk full, no memory): again at this time; 0: not waiting */

    struct schedule *schedule;
    struct topics *topics;
    struct scan_list scans;
    struct reads *reads;
    uint64_t commands; /* applied, reads not counted: what a turn has read may not be there after one */
    struct compaction_list compactions; /* under way, or waiting for their turn; the first one has it */
    struct heap compact_timers;         /* of the others: when to look again */

    struct producer *producers;
    struct producer_list producers_by_use;

    struct pending_ring written, synced;
    uint64_t written_index, durable_index;

    struct now now; /* of the entry point being run */
    bool replaying;
    struct engine_stats stats;
    struct buf scratch;   /* record being built */
    struct buf route;     /* replay: places named for the next message; live: the record being built */
    uint32_t scan_budget; /* messages that this turn may still look at without handing them out */
    struct publish_result *results;
    size_t result_cap;
    char text[TEXT_BYTES];
};

#endif
