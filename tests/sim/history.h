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

struct producer { /* numbers its publishes to one queue; retries what a crash left unanswered, in order */
    uint64_t id, next_number;
    uint32_t queue, incarnation;
    struct op_record retries[PRODUCER_RETRIES];
    uint32_t retry_count;
    struct op_record recent[PRODUCER_RECENT]; /* a ring of what was sent last: its confirm may get lost on the way */
    uint64_t recent_count;
    broker_sync sync;
};

struct history {
    struct world world;
    struct producer producers[PRODUCERS];
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
    bool plant_skip_sync, plant_seal_early;
    bool believe; /* see struct world */
};

struct history_result {
    char failure[400];
    uint32_t step, steps;
    uint64_t starts, cuts, kills, broken_starts, delivered, confirmed, settled, duplicates, refused, lost, disk_calls;
};

/* true: every promise was kept. */
bool history_run(uint64_t seed, const struct history_options *options, struct history_result *result);

/* ---- clients.c: what they do; each picks its subject by chance and may find nothing to do ------------------------------- */

void client_publish(struct history *h);
void client_consume(struct history *h);
void client_settle(struct history *h);
void client_administer(struct history *h);
/* Before the model forgets the unanswered publishes: remember what must be sent again. */
void client_remember_unanswered(struct history *h);
void client_publish_to(struct history *h, uint32_t queue, uint32_t count, uint32_t body_len, broker_sync sync);
void client_create_queue(struct history *h, uint32_t queue, const broker_queue_settings *settings);
void client_subscribe(struct history *h, uint64_t conn, uint32_t queue, uint32_t group, uint32_t lease_ms,
                      bool settle_on_send, uint32_t credit);
void client_settle_held(struct history *h, enum command_type type, uint64_t newest, uint32_t count, uint32_t ms);
void client_control(struct history *h, enum command_type type, uint32_t queue, uint32_t group, struct command *c);
void client_disconnect(struct history *h, uint64_t conn);
/* Every group is emptied; the model judges. */
void client_drain(struct history *h);

#endif
