/* What the engine's files share. Nobody outside this folder includes it. */
#ifndef ENGINE_INTERNAL_H
#define ENGINE_INTERNAL_H

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
};

struct group;
struct queue;

/* A message that was handed out and came back. In group->ready (by seq) or group->delayed (by due time). */
struct returned {
    struct heap_node node;
    uint64_t seq;
    uint64_t due_wall_ms; /* 0: at once */
    uint32_t attempts;    /* deliveries so far */
};

struct lease_entry {
    uint64_t seq;
    uint64_t deadline_ms; /* monotonic */
    uint32_t attempts;    /* including this delivery */
};

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
    int64_t credit_bytes; /* falls below zero by less than one message */
    uint32_t lease_ms;    /* 0: the queue's */
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
    uint64_t floor;         /* every seq <= floor is settled */
    uint64_t cursor;        /* > floor; the next seq never handed out */
    struct seqset settled;  /* above the floor */
    struct heap ready;      /* struct returned, by seq */
    struct heap delayed;    /* struct returned, by due time (monotonic) */
    struct heap_node delay; /* engine->delays, by the least due time */
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

struct queue_settings { /* broker_queue_settings without its ABI clothes */
    broker_retention retention;
    broker_sync sync;
    uint32_t lease_ms;
    uint32_t max_message_bytes;
    uint64_t log_max_age_ms, log_max_bytes, log_max_messages;
};

struct queue {
    uint32_t id;
    uint32_t next_group_id;
    UT_hash_handle by_name, by_id;
    struct queue_settings settings;
    uint64_t next_seq;  /* of the next publish */
    uint64_t visible;   /* greatest seq consumers may see */
    uint64_t trimmed;   /* log: everything <= this was let go; work: it is a lower bound of the same */
    struct seqset gone; /* reported dead above `trimmed` by a rule no longer in force (retention changed) */
    struct group_list groups;
    uint32_t group_count;
    uint32_t synced_pending; /* publishes that wait for a sync ... */
    uint64_t synced_index;   /* ... the last of them in this batch */
    uint64_t stored_index;   /* batch of the last message */
    uint64_t settings_index; /* batch of the record that made it as it is */
    struct heap_node trim;   /* engine->trims: when to look at log retention */
    bool paused;
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
    } u;
};

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

    struct heap lease_timers, waits, delays, trims;
    TAILQ_HEAD(, group) dispatch;

    struct producer *producers;
    struct producer_list producers_by_use;

    struct pending_ring written, synced;
    uint64_t written_index, durable_index;

    struct now now; /* of the entry point being run */
    bool replaying;
    struct engine_stats stats;
    struct buf scratch; /* record being built */
    struct publish_result *results;
    size_t result_cap;
    char text[TEXT_BYTES];
};

/* ---- engine.c ---- */
void engine_answer(struct engine *e, const struct command *c,
                   broker_error error); /* error needs e->text; OK has no payload */
void engine_fail(struct engine *e, const struct command *c, broker_error error, uint32_t retry_ms, const char *format,
                 ...) __attribute__((format(printf, 5, 6)));
/* Build a record with a control body in scratch and append it. */
broker_error engine_append(struct engine *e, uint8_t type, uint32_t queue, uint64_t seq, const void *body, size_t len,
                           enum durability durability, uint64_t *index);
void engine_append_failed(struct engine *e, const struct command *c, broker_error error); /* answers with the reason */
static inline enum durability sync_durability(broker_sync sync)
{
    return sync == BROKER_SYNC_ALWAYS ? DURABILITY_SYNCED : DURABILITY_WRITTEN;
}

/* ---- pending.c ---- */
/* Room for one more answer, so that what follows an append cannot fail. */
bool pending_reserve(struct pending_ring *r);
void pending_push(struct engine *e, enum durability durability, const struct pending *p);
void pending_release(struct engine *e);
void pending_free(struct pending_ring *r);

/* ---- queue.c ---- */
struct queue *queue_find(struct engine *e, struct name name);
struct queue *queue_by_id(const struct engine *e, uint32_t id);
struct queue *queue_of(struct engine *e, const struct command *c);        /* answers if there is none */
struct queue *queue_add(struct engine *e, uint32_t id, struct name name); /* without groups; NULL: no memory */
void queue_remove(struct engine *e, struct queue *q);
bool queue_encode(const struct queue_settings *s, bool paused, struct name name,
                  struct buf *out); /* false: no memory */
broker_error queue_apply_record(struct engine *e, uint32_t id, const uint8_t *body, size_t len, const char **text);
void queue_apply_delete(struct engine *e, struct queue *q);
void queue_apply_purge(struct engine *e, struct queue *q, uint64_t last);
void queue_apply_trim(struct engine *e, struct queue *q, uint64_t last);
void queue_report_dead(struct engine *e, struct queue *q, uint64_t first, uint64_t last);
void queue_arm_trim(struct engine *e, struct queue *q, uint64_t at_ms);
void queue_run_trims(struct engine *e);
/* Call fn for each maximal range of [from, last] that no group wants any more (or that is trimmed). */
void queue_each_dead(const struct queue *q, uint64_t from, uint64_t last, bool (*fn)(void *, uint64_t, uint64_t),
                     void *arg);
void queue_create(struct engine *e, const struct command *c);
void queue_alter(struct engine *e, const struct command *c);
void queue_delete(struct engine *e, const struct command *c);
void queue_pause(struct engine *e, const struct command *c);
void queue_purge(struct engine *e, const struct command *c);
void queue_list(struct engine *e, const struct command *c);
void queue_describe(struct engine *e, const struct command *c);
void queue_info(struct engine *e, const struct queue *q, broker_queue_info *info);

/* ---- group.c ---- */
struct group *group_find(const struct queue *q, struct name name);
struct group *group_by_id(const struct queue *q, uint32_t id);
struct group *group_of(struct engine *e, const struct command *c, struct queue *q); /* answers if there is none */
struct group *group_add(struct engine *e, struct queue *q, uint32_t id, struct name name, uint64_t cursor);
void group_remove(struct engine *e, struct group *g, broker_error why, const char *text); /* ends its consumers */
/* Settle [first, last] for g: what was not settled before and now is for all groups is reported dead. */
bool group_settle(struct engine *e, struct group *g, uint64_t first, uint64_t last);
bool group_has_settled(const struct group *g, uint64_t seq);
uint64_t group_next_settled(const struct group *g, uint64_t from);
uint64_t group_next_unsettled(const struct group *g, uint64_t from);
void group_apply_seek(struct engine *e, struct group *g, uint64_t cursor);
void group_apply_delete(struct engine *e, struct group *g);
void group_apply_record(struct engine *e, struct queue *q, uint32_t id, struct name name, uint64_t cursor);
bool group_return(struct engine *e, struct group *g, uint64_t seq, uint32_t attempts,
                  uint64_t due_wall_ms); /* false: no memory */
void group_drop_returned(struct engine *e, struct group *g, uint64_t last);
void group_run_delays(struct engine *e);
void group_wake(struct engine *e, struct group *g); /* it may have something to hand out */
void group_info(const struct group *g, broker_group_info *info);
void group_create(struct engine *e, const struct command *c);
void group_delete(struct engine *e, const struct command *c);
void group_seek(struct engine *e, const struct command *c);

/* ---- publish.c ---- */
void publish(struct engine *e, const struct command *c);
void publish_note_producer(struct engine *e, uint32_t queue, uint64_t producer, uint64_t number, uint64_t seq);
void producers_expire(struct engine *e);
void producers_forget_queue(struct engine *e, uint32_t queue);
bool producer_has(const struct producer *p, uint64_t number);
struct producer *producer_find(struct engine *e, uint32_t queue, uint64_t producer);
struct producer *producer_make(struct engine *e, uint32_t queue, uint64_t producer);
void producers_free(struct engine *e);

/* ---- lease.c ---- */
struct lease_block *block_new(struct engine *e, struct group *g, struct consumer *consumer,
                              uint32_t count); /* no entries yet */
void block_free(struct engine *e, struct lease_block *b);
bool block_return_all(struct engine *e, struct lease_block *b);     /* false: no memory, try again */
void leases_drop(struct engine *e, struct group *g, uint64_t last); /* leases of seqs <= last end; receipts are stale */
void leases_expire(struct engine *e);
void settle(struct engine *e, const struct command *c); /* ack, nack, extend */

/* ---- consume.c ---- */
void subscribe(struct engine *e, const struct command *c);
void unsubscribe(struct engine *e, const struct command *c);
void consumer_credit(struct engine *e, const struct command *c);
void consumer_hold(struct engine *e, const struct command *c);
void lease(struct engine *e, const struct command *c);
void client_close(struct engine *e, const struct command *c);
void consumer_end(struct engine *e, struct consumer *consumer, broker_error why,
                  const char *text);                              /* OK: its owner ended it */
void consumer_check(struct engine *e, struct consumer *consumer); /* in or out of the group's ready list */
void waits_expire(struct engine *e);
void consumers_free(struct engine *e);

/* ---- dispatch.c ---- */
void dispatch_run(struct engine *e);

/* ---- recover.c: engine_restore, engine_replay, engine_recovered, engine_snapshot ---- */

#endif
