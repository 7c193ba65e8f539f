/*
 * Owns:            what a client may rely on: what was promised, to whom, and how well it must survive.
 * May use:         engine.h (commands, completions), wire.h (records).
 * Never knows:     how the broker keeps its promises.
 * Start reading at enum survives and struct slot; model_delivered (model_deliver.c) and model_observe (model_restart.c) judge.
 *
 * The engine applies a command when it is submitted and confirms it when the disk has it. So the model applies it too,
 * with SURVIVES_NOTHING, raises that when the confirm comes, and at a crash turns what need not have survived into "free":
 * both outcomes are right, and what is seen next decides.
 */
#ifndef SIM_MODEL_H
#define SIM_MODEL_H

#include <engine.h>
#include <stdio.h>

#include "rng.h"

#define MODEL_QUEUES        5u
#define MODEL_GROUPS        4u
#define MODEL_SUBSCRIPTIONS 12u
#define CONNS_MAX           8u
#define OP_RECORDS          16u
#define BODY_TOO_LARGE      70000u /* more than a segment holds */
#define OP_RECEIPTS         64u

enum survives { SURVIVES_NOTHING, SURVIVES_KILL, SURVIVES_POWER };

struct model_message {
    uint64_t publish; /* unique; its bytes follow from it */
    uint64_t hash;    /* of the record's bytes from offset 8 on, as appended */
    uint64_t index;   /* batch; 0: recovered from disk */
    uint64_t time_ms;
    uint64_t bytes_before; /* of all messages before it */
    uint32_t padded;
    uint64_t producer, number;
    enum survives asked;    /* what its publish asked for */
    enum survives survives; /* what was promised so far */
    bool maybe_gone;        /* no group wanted it once, or log retention could let it go */
};

enum slot_state {
    SLOT_WANTED,  /* must be delivered, or be leased */
    SLOT_SETTLED, /* must never be delivered */
    SLOT_FREE     /* may be either */
};

struct slot { /* one message in one group */
    enum slot_state state;
    enum survives settled;  /* how well, if SETTLED */
    enum slot_state before; /* while a seek is in flight: what it was without it */
    bool leased, first_done;
    uint32_t attempts;                          /* of the last delivery since the start of the process; 0: none */
    uint32_t deliveries;                        /* ever: no attempt count may be above */
    uint32_t nacked_kill, nacked_power;         /* attempts that confirmed nacks promise to remember */
    uint64_t due_ms, due_kill_ms, due_power_ms; /* wall: not before, by a nack submitted / confirmed */
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
};

struct model_queue {
    char name[16];
    bool exists, was; /* now, and before the control operation in flight */
    uint32_t id;      /* 0: not known yet */
    uint32_t incarnation;
    broker_queue_settings settings, settings_was;
    bool paused, paused_was;
    uint32_t control;               /* correlation of the control operation in flight; 0: none */
    struct model_message *messages; /* by seq - 1 */
    uint64_t count, cap;
    struct model_group groups[MODEL_GROUPS];
};

enum receipt_fate { RECEIPT_STALE, RECEIPT_LIVE, RECEIPT_EITHER };

struct op_record {
    uint64_t publish, producer, number;
    uint32_t offset, body_len;
    uint64_t seq, index; /* if it was appended */
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
    uint64_t index; /* last batch that it appended to */
    uint32_t count; /* of records or receipts */
    union {
        struct op_record records[OP_RECORDS];
        struct {
            struct op_receipt receipts[OP_RECEIPTS];
            uint64_t due_ms;
        } settle;
        struct {
            uint32_t lease_ms, max_messages;
        } lease;
        uint64_t purge_to;
    } u;
    uint8_t *bytes; /* publish: the frame; owned */
    size_t len;
};

struct subscription {
    bool live, settle_on_send, confirmed;
    uint64_t conn;
    uint32_t stream;
    uint32_t queue, incarnation, group;
    uint32_t lease_ms;
    uint64_t credit;
};

struct held { /* a receipt that some consumer has seen, live or stale */
    uint64_t receipt, seq;
    uint32_t queue, incarnation, group;
};

#define MODEL_HELD 256u

struct model {
    struct model_queue queues[MODEL_QUEUES];
    struct subscription subscriptions[MODEL_SUBSCRIPTIONS];
    struct held held[MODEL_HELD]; /* a ring of the last ones */
    uint64_t held_count;
    bool conn_held[CONNS_MAX];
    struct op **ops; /* by correlation - 1; NULL once answered */
    uint32_t op_count, op_cap, first_open;
    struct op *current;     /* being submitted */
    uint64_t durable_index; /* greatest batch of which a confirm said that it is on disk */
    uint64_t written_index; /* ... or in the system's hands */
    uint64_t platter_index; /* what the disk says is safe; UINT64_MAX: do not ask it */
    uint64_t system_index;  /* what the writer has written */
    struct now now;
    uint64_t delivered, confirmed, settled, duplicates, refused, lost; /* statistics */
    bool may_refuse;                                                   /* the disk may be full, memory short ... */
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
uint32_t ops_open(const struct model *m); /* answers that are still to come, waiting leases not counted */
void op_forget(struct model *m, struct op *op);
/* Around engine_submit. After: the command took effect unless it was refused. */
void model_submit_begin(struct model *m, struct op *op);
void model_submit_end(struct model *m, struct op *op, const struct command *c);
void model_completed(struct model *m, const struct completion *c);
/* The engine appended a record while op m->current was submitted. */
void model_appended(struct model *m, const uint8_t *record, uint64_t index);
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
void group_reset(struct model_group *g);
void model_applied(struct model *m, struct op *op, const struct command *c); /* model_control.c */
void model_confirmed(struct model *m, struct op *op, const struct completion *c);
void publish_completed(struct model *m, struct op *op, const struct completion *c);
void settle_applied(struct model *m, struct op *op);
void settle_completed(struct model *m, struct op *op, const struct completion *c);
struct op_receipt *settle_add(struct model *m, struct op *op, const struct held *h); /* model_settle.c */

/* ---- deliveries (model_deliver.c) ----------------------------------------------------------------------------------------- */

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
/* Must this message be readable in the store? */
bool model_must_have(const struct model_queue *q, uint64_t seq);
void model_check_bytes(struct model *m, const struct model_queue *q, uint64_t seq, const uint8_t *record);
/* After every group was drained: what was wanted has come, every answer too. */
void model_check_drained(struct model *m);

#endif
