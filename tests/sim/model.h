/*
 * Owns:            what a client may rely on: what was promised, to whom, and how well it must survive.
 * May use:         engine.h (commands, completions), wire.h (records).
 * Never knows:     how the broker keeps its promises.
 * Start reading at enum survives and struct slot; model_delivered (model_deliver.c) and model_observe (model_restart.c) judge.
 *
 * The engine applies a command when it is submitted and confirms it when the disk has it. So the model applies it too,
 * with SURVIVES_NOTHING, raises that when the confirm comes, and at a crash turns what need not have survived into "free":
 * both outcomes are right, and what is seen next decides. What must happen together or not at all is an atom: after a
 * restart its batch is there or it is not, and all of its effects with it.
 */
#ifndef SIM_MODEL_H
#define SIM_MODEL_H

#include <engine.h>
#include <stdio.h>

#include "rng.h"

#define MODEL_PLAIN         5u /* queues that the history makes; behind them one for the dead letters of each */
#define MODEL_QUEUES        (2 * MODEL_PLAIN)
#define MODEL_GROUPS        4u
#define MODEL_SUBSCRIPTIONS 12u
#define CONNS_MAX           8u
#define OP_RECORDS          16u
#define BODY_TOO_LARGE      70000u /* more than a segment holds */
#define OP_RECEIPTS         64u

#define BY_TOPIC       UINT32_MAX /* in place of a queue */
#define MODEL_PATTERNS 6u
#define TRAIT_KEYS     5u
#define TRAIT_TOPICS   5u

enum survives { SURVIVES_NOTHING, SURVIVES_KILL, SURVIVES_POWER };

/* A moment by both clocks: within one life of the process the time left counts, after a restart the wall clock again. */
struct moment {
    uint64_t wall_ms, mono_ms; /* wall 0: never */
};

/* What a publisher says of a message; small numbers stand for texts, 0: none. */
struct traits {
    uint64_t due_ms, ttl_ms;
    bool due_is_delay;
    uint8_t priority, key, topic, header;
    uint16_t id;
};

/* Which messages: numbers as in traits, pattern as in model_pattern(). All zero: every one. */
struct choice {
    uint8_t pattern, key, header;
};

struct model_message {
    uint64_t publish; /* unique; its bytes follow from it; a copy has its original's */
    struct traits traits;
    struct moment due, expire;
    struct moment due_before; /* what it was before a reschedule in batch due_index, which may get lost */
    uint64_t due_index;
    uint64_t deleted_index;    /* for every group, in this batch; 0: not */
    uint64_t turn;             /* of the engine's in which its publish was confirmed; 0: not yet */
    uint64_t body_hash;        /* a copy has the same */
    bool routed;               /* its record names another place */
    bool copied;               /* moved here: a dead letter or by a scan */
    int64_t stored_mono_ms;    /* when, by the monotonic clock */
    bool was_due, was_expired; /* in an earlier life of the process: the clock went back since */
    bool due_unsure;           /* whether a reschedule survived is not known */
    bool rescheduled;          /* its time was changed: it counts as delayed for good */
    uint32_t dead_from;        /* a dead letter: its queue of origin + 1 */
    uint64_t hash;             /* of the record, as appended */
    uint64_t index;            /* batch; 0: recovered from disk */
    uint64_t time_ms;
    uint64_t bytes_before; /* of all messages before it */
    uint32_t padded;
    uint64_t producer, number;
    enum survives asked;    /* what its publish asked for */
    enum survives survives; /* what was promised so far */
    bool maybe_gone;        /* no group wanted it once, or some rule could let it go */
};

enum slot_state {
    SLOT_WANTED,  /* must be delivered, or be leased */
    SLOT_SETTLED, /* must never be delivered */
    SLOT_FREE,    /* may be either */
    SLOT_BARRED   /* the group's filter keeps it away: must never be delivered, but may still be counted */
};

struct slot { /* one message in one group */
    enum slot_state state;
    enum survives settled;  /* how well, if SETTLED */
    enum slot_state before; /* while a seek is in flight: what it was without it */
    bool leased, first_done;
    uint32_t attempts;                      /* of the last delivery since the start of the process; 0: none */
    uint32_t deliveries;                    /* ever: no attempt count may be above */
    uint32_t nacked_kill, nacked_power;     /* attempts that confirmed nacks promise to remember */
    struct moment due, due_kill, due_power; /* not before, by a nack submitted / confirmed */
    bool due_unsure;                        /* a nack may have come too late, and its delay not count */
    bool rejected, rejected_perhaps;        /* never again */
    enum survives rejected_how;             /* how well that must survive */
    uint64_t receipt, deadline_ms;
    uint64_t conn;
    uint32_t stream;
};

struct model_group {
    char name[16];
    bool exists, was;   /* now, and before the control operation in flight */
    bool seeking;       /* a seek is in flight: see slot.before */
    struct slot *slots; /* by seq - 1 */
    uint32_t moves;     /* created or moved so often: settles that were in flight meant another position */
    uint64_t top_first; /* greatest seq delivered for the first time */
    struct choice filter, filter_was;
    bool single_active, altering; /* altering: an alter is in flight */
};

struct model_queue {
    char name[16];
    bool exists, was; /* now, and before the control operation in flight */
    uint32_t id;      /* 0: not known yet */
    uint32_t incarnation;
    broker_queue_settings settings, settings_was;
    bool paused, paused_was;
    uint32_t control; /* correlation of the control operation in flight; 0: none */
    uint64_t born,
        dying;          /* made or deleted by the broker itself, in this batch, which is not known to be safe; 0: not */
    uint32_t scan;      /* correlation of the scan that changes it; 0: none */
    bool altered;       /* settings were changed: what depends on their past is not judged */
    struct moment used; /* last use, for unused_ms */
    uint8_t bound, bound_was;       /* bit per pattern */
    struct model_message *messages; /* by seq - 1 */
    uint64_t count, cap;
    uint64_t read_next; /* where the last read said to go on */
    struct model_group groups[MODEL_GROUPS];
};

enum receipt_fate { RECEIPT_STALE, RECEIPT_LIVE, RECEIPT_EITHER };

struct op_record {
    uint64_t publish, producer, number;
    struct traits traits;
    uint32_t queue, incarnation; /* BY_TOPIC: to all that are bound */
    uint32_t offset, body_len;
    uint32_t routes;     /* by topic: queues bound when it was sent */
    uint64_t seq, index; /* if it was appended; by topic: seq counts the queues */
    bool retry;
};

struct op_receipt {
    uint64_t receipt, seq;
    uint32_t queue, incarnation, group;
    uint32_t attempts, moves;
    enum receipt_fate fate;
};

struct op { /* a command that wants an answer */
    uint32_t correlation;
    enum command_type type;
    bool submitting, done, applied;
    broker_sync sync;    /* publish */
    enum survives asked; /* how well its effect must survive once confirmed */
    broker_error error;
    uint64_t conn;
    uint32_t stream;
    uint32_t queue, incarnation, group;
    uint64_t index, synced_index; /* last batches that it waits for: to be written, to be on disk */
    uint64_t step_index;          /* transact: its one batch */
    uint32_t record_count, receipt_count;
    struct op_record records[OP_RECORDS];    /* publish, transact */
    struct op_receipt receipts[OP_RECEIPTS]; /* settle, transact */
    bool unroutable_ok;
    struct now begun;
    bool may_be_full, too_low; /* some queue's limits, when it was sent */
    union {
        struct {
            uint32_t ms; /* extend: of the lease; nack: the delay */
            bool dead_letter;
        } settle;
        struct {
            enum scan_action action;
            broker_scan_state state;
            uint64_t from, to, last; /* last: seq of the queue when it was asked */
            uint64_t turn;
            uint32_t max_messages, target; /* target: queue + 1; 0: none */
            struct choice choice;
            uint64_t seen; /* deleted or moved so far */
        } scan;
        struct {
            uint64_t seq, due_ms;
            bool is_delay;
            bool waited; /* surely, when it was asked */
        } reschedule;
        struct {
            uint32_t lease_ms, max_messages;
        } lease;
        struct {
            uint64_t from, from_ms;
            uint64_t count, confirmed; /* stored, and surely visible, when it was asked */
            bool from_end;
            uint32_t max_messages, wait_ms;
            struct choice choice;
        } read;
        uint64_t purge_to;
        uint32_t pattern; /* bind, unbind */
        struct {
            struct choice filter;
            bool single_active, set_filter, set_single;
        } group;
    } u;
    uint8_t *bytes; /* publish: the frame; scan: per message, whether it was dead; owned */
    size_t len;
};

struct subscription {
    bool live, settle_on_send, confirmed;
    uint64_t conn;
    uint32_t stream;
    uint32_t queue, incarnation, group;
    uint32_t lease_ms;
    uint64_t credit;
    int64_t credit_bytes;
    uint8_t priority;
    uint32_t max_unsettled;
    uint64_t order; /* rises with each subscription */
    uint64_t turn;  /* since when it has credit without a break */
};

struct held { /* a receipt that some consumer has seen, live or stale */
    uint64_t receipt, seq;
    uint32_t queue, incarnation, group;
};

#define MODEL_HELD  256u
#define MODEL_KNOWN 64u

struct known { /* a publish that was called a copy by its id: it is one for good */
    uint64_t producer, number;
};

struct atom_slot { /* settled by it */
    uint32_t queue, incarnation, group, moves;
    uint64_t seq;
    enum slot_state was;
};

#define ATOM_SLOTS 16u

struct atom { /* one batch's doing: a message ends here, another begins there */
    uint64_t index;
    uint64_t life; /* of the process */
    uint32_t slot_count;
    struct atom_slot slots[ATOM_SLOTS];
};

struct model {
    struct model_queue queues[MODEL_QUEUES];
    struct subscription subscriptions[MODEL_SUBSCRIPTIONS];
    struct held held[MODEL_HELD]; /* a ring of the last ones */
    uint64_t held_count;
    bool conn_held[CONNS_MAX];
    struct known known[MODEL_KNOWN]; /* a ring of the last ones */
    uint64_t known_count;
    struct op **ops; /* by correlation - 1; NULL once answered */
    uint32_t op_count, op_cap, first_open;
    struct op *current;     /* being submitted */
    uint64_t durable_index; /* greatest batch of which a confirm said that it is on disk */
    uint64_t written_index; /* ... or in the system's hands */
    uint64_t life;          /* counts the processes that came up */
    struct atom *atoms;     /* since the start of the process */
    uint32_t atom_count, atom_cap;
    uint64_t turn;                   /* counts the calls of the engine */
    struct moment ticked;            /* its last tick */
    struct moment rested;            /* when last nothing was under way any more */
    bool times_are_read;             /* times are kept on disk, and may come late while they are read */
    uint64_t sure_index, last_index; /* after a start: batches up to here are there; none above this is */
    uint32_t starts_since;           /* the last look */
    uint64_t orders;
    uint64_t platter_index;  /* what the disk says is safe; UINT64_MAX: do not ask it */
    uint64_t reported_index; /* what the broker was told to be safe */
    uint64_t system_index;   /* what the writer has written */
    struct now now;
    uint64_t delivered, confirmed, settled, duplicates, refused, lost; /* statistics */
    uint64_t moved, expired, dropped, routed, transactions, scanned, rescheduled, read;
    bool clock_went_back;
    bool may_refuse; /* the disk may be full, memory short ... */
    bool trace;
    char failure[400]; /* the first broken promise; "" if none */
};

void model_init(struct model *m, bool trace);
void model_release(struct model *m);
void model_copy(struct model *to, const struct model *from);
bool model_failed(const struct model *m);
void model_fail(struct model *m, const char *format, ...) __attribute__((format(printf, 2, 3)));
void model_trace(const struct model *m, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- commands (model.c) ---------------------------------------------------------------------------------------------- */

struct op *op_new(struct model *m, enum command_type type, uint32_t queue, uint32_t group);
struct op *op_find(struct model *m, uint32_t correlation);
bool op_may_wait(const struct op *op);    /* for what is not there yet: a lease, a read */
uint32_t ops_open(const struct model *m); /* answers that are still to come, but for these */
void op_forget(struct model *m, struct op *op);
/* Around engine_submit. After: the command took effect unless it was refused. */
void model_submit_begin(struct model *m, struct op *op);
void model_submit_end(struct model *m, struct op *op, const struct command *c);
void model_completed(struct model *m, const struct completion *c);
/* The engine appended records in one step; m->current: while that op was submitted. */
void model_appended(struct model *m, const struct append_item *items, uint32_t count, enum durability durability,
                    uint64_t index);
/* No answer will come for a subscription or its leases any more. */
void model_subscription_over(struct model *m, struct subscription *s);
void model_conn_closed(struct model *m, uint64_t conn);
struct subscription *model_subscription(struct model *m, uint64_t conn, uint32_t stream);
void message_bytes(uint64_t publish, uint8_t *out, uint32_t len);
const char *model_op_name(enum command_type type);

/* ---- between the model's files ------------------------------------------------------------------------------------------ */

enum survives queue_survives(const struct model_queue *q, broker_sync sync);
void slot_settle(struct slot *s, enum survives how);
void queue_mark_gone(struct model *m, struct model_queue *q); /* see model_message.maybe_gone */
void queue_reset(struct model_queue *q);                      /* it never existed */
void queue_created(struct model_queue *q, const broker_queue_settings *settings);
void group_reset(struct model_group *g);
void model_applied(struct model *m, struct op *op, const struct command *c); /* model_control.c */
void model_confirmed(struct model *m, struct op *op, const struct completion *c);
void *must(void *p); /* memory, or the end of the test */
bool refusal_is_plain(broker_error error);
void model_confirm_index(struct model *m, enum survives how, uint64_t index); /* what is up to there is safe */
void record_answered(struct model *m, struct op *op, struct op_record *r, const struct publish_result *result,
                     uint64_t seq);
void publish_completed(struct model *m, struct op *op, const struct completion *c);
void settle_applied(struct model *m, struct op *op);
void settle_completed(struct model *m, struct op *op, const struct completion *c);
struct op_receipt *settle_add(struct model *m, struct op *op, const struct held *h); /* model_settle.c */

struct model_message *message_add(struct model *m, struct model_queue *q, const uint8_t *record, uint64_t index);
void message_published(struct model *m, struct op *op, struct model_queue *q, uint64_t seq, const uint8_t *record,
                       uint64_t index);
struct model_queue *queue_of_id(struct model *m, uint32_t id);
bool message_is_alive(const struct model_queue *q, uint64_t seq); /* some group surely wants it */
bool message_is_dead(const struct model_queue *q, uint64_t seq);  /* surely none does */
void control_settled(struct model_queue *q);
struct slot *receipt_slot(struct model *m, const struct op_receipt *r);

/* ---- time: delays, backoff, expiry (model_time.c) ------------------------------------------------------------------- */

struct moment moment_after(const struct model *m, uint64_t ms);
struct moment moment_at(const struct model *m, uint64_t wall_ms);
bool moment_is_due(const struct model *m, const struct moment *t);      /* by the time left: surely */
bool moment_is_long_due(const struct model *m, const struct moment *t); /* whatever the clocks are apart */
bool moment_is_past(const struct model *m, const struct moment *t);     /* by both clocks */
bool moment_is_perhaps(const struct model *m, const struct moment *t);  /* by either */
void moment_restarted(const struct model *m, struct moment *t);
void message_timed(struct model *m, const struct model_queue *q, struct model_message *msg, const uint8_t *record);
void model_times_restarted(struct model *m);
uint64_t backoff_least(const struct model_queue *q, uint32_t attempts);
void check_times(struct model *m, const struct model_queue *q, const struct model_group *g, uint64_t seq);
void reschedule_applied(struct model *m, struct op *op);
void reschedule_begun(struct model *m, struct op *op);
void reschedule_refused(struct model *m, struct op *op);

/* ---- the order in which messages go out, and to whom (model_order.c) ------------------------------------------------- */

bool message_is_plain(const struct model_message *msg);
bool key_is_free(const struct model_queue *q, const struct model_group *g, uint64_t seq);
void check_key(struct model *m, const struct model_queue *q, const struct model_group *g, uint64_t seq);
void check_batch(struct model *m, const struct model_queue *q, const struct model_group *g, const struct delivery *d);
void check_consumer(struct model *m, const struct subscription *s);
void model_check_prompt(struct model *m);

/* ---- topics and filters (model_route.c) ------------------------------------------------------------------------------- */

const char *model_pattern(uint32_t number); /* 1 .. MODEL_PATTERNS */
const char *model_topic(uint32_t number);   /* 1 .. TRAIT_TOPICS - 1 */
const char *model_key(uint32_t number);     /* 1 .. TRAIT_KEYS - 1 */
const char *model_header(uint32_t number);  /* value of the header "n": 1, 2 */
bool choice_takes(const struct choice *c, const struct model_message *msg);
bool choice_is_empty(const struct choice *c);
bool model_is_bound(const struct model_queue *q, uint32_t topic);
void route_appended(struct model *m, struct op *op, const uint8_t *route, const uint8_t *record, uint64_t index);
uint32_t route_count(const struct model *m, uint32_t topic);
void group_filtered(struct model *m, struct model_queue *q, struct model_group *g);

/* ---- what the broker does by itself: dead letters, expiry, drops, moves (model_dead.c) ---------------------------------- */

void model_moved(struct model *m, const uint8_t *copy, const uint8_t *end, uint64_t index);
void model_ended_messages(struct model *m, const uint8_t *record, uint64_t index); /* RECORD_DELETE, _EXPIRE, _TRIM */
struct atom *atom_new(struct model *m, uint64_t index);
void atom_settle(struct model *m, struct atom *a, uint32_t queue, uint32_t group, uint64_t seq);
void atoms_restarted(struct model *m);
enum fate { FATE_GONE, FATE_OPEN, FATE_SURE };
enum fate index_fate(const struct model *m, uint64_t index); /* after a start */

/* ---- queues that are bounded, compacted, unused; message ids (model_limits.c) ----------------------------------------- */

void check_limit_stored(struct model *m, struct model_queue *q, const struct op_record *r);
void limits_begun(struct model *m, struct op *op);
void check_not_overfull(struct model *m, const struct model_queue *q);
uint64_t id_surely_known(const struct model *m, const struct model_queue *q, const struct traits *t, uint64_t below);
bool id_perhaps_known(const struct op *op, const struct model_queue *q, const struct traits *t, uint64_t seq);
bool message_is_perhaps_over(const struct model *m, const struct model_message *msg); /* its time */
void model_clock_set(struct model *m); /* somebody is about to set the wall clock */
void model_times_crash(struct model *m);
void queue_touched(struct model *m, uint32_t queue);
void queue_made_itself(struct model *m, const uint8_t *record, uint64_t index);
void queue_went_itself(struct model *m, const uint8_t *record, uint64_t index);

/* ---- reading by position (model_read.c) ----------------------------------------------------------------------------------- */

void read_begun(struct model *m, struct op *op);
void read_completed(struct model *m, struct op *op, const struct completion *c);
void reads_check_prompt(struct model *m);
bool model_is_read(const struct model *m, const struct model_queue *q); /* somebody waits for its answer */

/* ---- transactions and scans (model_transact.c, model_scan.c) ------------------------------------------------------------ */

void transact_appended(struct model *m, struct op *op, const struct append_item *items, uint32_t count, uint64_t index);
void transact_applied(struct model *m, struct op *op);
void transact_completed(struct model *m, struct op *op, const struct completion *c);
void scan_begun(struct model *m, struct op *op);
void scan_completed(struct model *m, struct op *op, const struct completion *c);
bool scan_covers(const struct model *m, const struct op *op, const struct model_queue *q, uint64_t seq);

/* ---- deliveries (model_deliver.c) ----------------------------------------------------------------------------------------- */

/* It was shown to somebody: that must not have been too early, and now it must survive. */
void check_durable(struct model *m, const struct model_queue *q, uint64_t seq, struct model_message *msg);
void model_delivered(struct model *m, const struct delivery *d);
void model_leased(struct model *m, struct op *op, const struct delivery *d);
void model_ended(struct model *m, struct token token, const char *text);

/* ---- crashes (model_restart.c) ------------------------------------------------------------------------------------------- */

/* The process died; `power`: and the disk with it. */
void model_crash(struct model *m, bool power);
/* What the broker says of a queue after a start; info NULL: there is none. `power` as in model_crash. */
void model_observe(struct model *m, struct model_queue *q, const broker_queue_info *info,
                   const broker_group_info *groups, size_t group_count, bool power);
/* Every queue was observed. */
void model_restarted(struct model *m);
/* A process came up; `index`: the last batch that it found. To be called before what it says of its queues. */
void model_started(struct model *m, uint64_t index);
void model_observed_messages(struct model *m); /* of all queues */
/* Between two calls of the engine: what became safe meanwhile. */
void model_turn(struct model *m);
/* First of all: how many messages each queue has. */
void model_observe_messages(struct model *m, struct model_queue *q, const broker_queue_info *info, bool power);
/* Must this message be readable in the store? */
bool model_must_have(const struct model_queue *q, uint64_t seq);
void model_check_bytes(struct model *m, const struct model_queue *q, uint64_t seq, const uint8_t *record);
/* After every group was drained: what was wanted has come, every answer too. */
void model_check_drained(struct model *m);
void model_observe_drained(struct model *m, struct model_queue *q, const broker_queue_info *info);

#endif
