/*
 * Owns:            random histories: clients that publish, consume, settle and administer, and the accidents between.
 * May use:         world.h.
 * Never knows:     how the broker works; it only asks.
 * Start reading at history_run.
 */
#ifndef SIM_HISTORY_H
#define SIM_HISTORY_H

#include "world.h"

#define PRODUCERS        4u
#define PRODUCER_RETRIES 64u
#define PRODUCER_RECENT  32u

struct features {                                      /* how often what is used, percent; 0: not in this seed */
    uint32_t delay, priority, expiry, ids, keys;       /* of messages */
    uint32_t retry, limits, compact, unused, ordering; /* of queues that are made or altered */
    uint32_t consumers;                                /* priorities, single active, max_unsettled */
    uint32_t filters, topics, transact, scans, reject, reschedule, clock, reads;
};

struct producer { /* numbers its publishes to one queue; retries what a crash left unanswered, in order */
    uint64_t id, next_number;
    uint32_t queue, incarnation; /* BY_TOPIC: to no queue by name */
    struct op_record retries[PRODUCER_RETRIES];
    uint32_t retry_count;
    struct op_record recent[PRODUCER_RECENT]; /* a ring of what was sent last: its confirm may get lost on the way */
    uint64_t recent_count;
    broker_sync sync;
};

struct history {
    struct world world;
    struct producer producers[PRODUCERS];
    struct features use;
    struct op last_transaction; /* to be sent again */
    bool has_transaction;
    uint64_t transactor, transact_numbers[MODEL_PLAIN]; /* its numbers, by queue */
    uint64_t next_publish;
    uint32_t next_stream;
    uint32_t steps, queues;                                                              /* of this seed */
    uint32_t publish_weight, consume_weight, settle_weight, time_weight, machine_weight; /* how often what happens */
    uint32_t crash_permille, large_percent, control_percent, fault_percent;
    bool idempotence; /* compare two recoveries of the same disk at times */
    uint32_t step;
};

struct history_options {
    bool trace;
    enum bug plant;
    bool believe; /* see struct world */
};

struct history_result {
    char failure[400];
    uint32_t step, steps;
    uint64_t starts, cuts, kills, broken_starts, delivered, confirmed, settled, duplicates, refused, lost, disk_calls;
    uint64_t moved, expired, dropped, routed, transactions, scanned, rescheduled, read;
};

/* true: every promise was kept. */
bool history_run(uint64_t seed, const struct history_options *options, struct history_result *result);

/* ---- client_publish.c: each picks its subject by chance and may find nothing to do -------------------------------------- */

void client_publish(struct history *h);
/* Before the model forgets the unanswered publishes: remember what must be sent again. */
void client_remember_unanswered(struct history *h);
void client_publish_to(struct history *h, uint32_t queue, uint32_t count, uint32_t body_len, broker_sync sync);
void client_publish_with(struct history *h, uint32_t queue, uint32_t count, const struct traits *traits);
/* Publishes to queues a and b (BY_TOPIC: by topic `topic`), and acks of the newest `acks` receipts. */
void client_transact_with(struct history *h, uint32_t a, uint32_t b, uint32_t topic, uint32_t acks);
void client_transact(struct history *h);

/* ---- clients.c: consuming and settling ----------------------------------------------------------------------------------- */

void client_consume(struct history *h);
void client_settle(struct history *h);
void client_subscribe(struct history *h, uint64_t conn, uint32_t queue, uint32_t group, uint32_t lease_ms,
                      bool settle_on_send, uint32_t credit);
struct settle_how {
    uint32_t ms; /* extend: the lease; nack: the delay */
    bool dead_letter;
};
void client_settle_held(struct history *h, enum command_type type, uint64_t newest, uint32_t count,
                        struct settle_how how);
void client_disconnect(struct history *h, uint64_t conn);
/* Every group is emptied; the model judges. */
void client_drain(struct history *h);

/* ---- client_admin.c: administering, looking, mending ------------------------------------------------------------------------ */

void client_administer(struct history *h);
void client_mend(struct history *h); /* scans and reschedules */
void client_create_queue(struct history *h, uint32_t queue, const broker_queue_settings *settings);
void client_control(struct history *h, enum command_type type, uint32_t queue, uint32_t group, struct command *c);
void client_bind(struct history *h, enum command_type type, uint32_t queue, uint32_t pattern);
void client_scan(struct history *h, uint32_t queue, enum scan_action action, uint32_t target,
                 const struct choice *choice);
void client_reschedule(struct history *h, uint32_t queue, uint64_t seq, uint64_t delay_ms);

/* ---- client_read.c: by position -------------------------------------------------------------------------------------------- */

void client_read(struct history *h);
void client_read_with(struct history *h, uint64_t conn, uint32_t queue, uint64_t from, uint32_t wait_ms);

/* ---- between them --------------------------------------------------------------------------------------------------------- */

#define CONNS      3u
#define CONN_ADMIN 6u /* never disconnects */
#define CONN_DRAIN 7u

static inline struct rng *rng_of(struct history *h)
{
    return &h->world.rng;
}

static inline struct model *model_of(struct history *h)
{
    return &h->world.model;
}

struct name name_of(const char *text);
struct choice some_choice(struct rng *rng);
void filter_of(const struct choice *c, broker_filter *f, broker_header *header); /* header: its one, if it has any */

#endif
