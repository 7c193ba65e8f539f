/*
 * Owns:            one simulated machine: disk, clock, the process with its store, engine and door, and the model beside it.
 * May use:         door.h, engine.h, store.h, wire.h, and the rest of the simulation.
 * Never knows:     what a history wants.
 * Start reading at world_start.
 *
 * A process dies in one of two ways: at a disk call (simdisk.cut_after; the disk is frozen from then on, and what the
 * process does until it notices did not happen), or between two steps.
 */
#ifndef SIM_WORLD_H
#define SIM_WORLD_H

#include <door.h>
#include <engine.h>
#include <store.h>

#include "model.h"
#include "rng.h"
#include "schedule.h"
#include "simdisk.h"

/* Bugs that the simulation must find if they are planted. Most sit where the simulation touches the broker: what it gives to
   the disk, the store or the engine is wrong, not the broker's own code. */
enum bug {
    BUG_NONE,
    BUG_SKIP_SYNC,  /* a sync that does nothing */
    BUG_SEAL_EARLY, /* a footer written before its records are durable */
    BUG_FIRE_EARLY, /* what waits for a time comes 200 ms early */
    BUG_FORGET_END, /* a message moves: its copy is stored, the end of the original is not */
    BUG_HALF_STEP,  /* what belongs into one batch goes into two */
    BUG_COUNT
};

enum observing { OBSERVE_MESSAGES /* which there are */, OBSERVE_ALL, OBSERVE_DRAINED };

struct world {
    struct rng rng;
    struct now now;
    struct simdisk *disk; /* owned */
    struct sim_writer writer;
    struct sim_workers workers;
    struct store *store; /* NULL: no process */
    struct engine *engine;
    struct door *door;
    struct door_session sessions[CONNS_MAX]; /* by connection */
    struct model model;
    struct store_options store_options;
    struct engine_options engine_options;
    enum bug bug;   /* planted */
    bool fatal;     /* the store has given up */
    bool believe;   /* do not compare deliveries with what the disk knows: crashes must find it */
    bool observing; /* answers go to observe_* instead of the model */
    bool damaged;   /* a bit was flipped: it may be said that a message is damaged, but not less */
    bool power;     /* some crash since the last look was a power cut */
    uint32_t observed_queue;
    bool observed;
    enum observing what;
    monotime engine_next;                        /* when it wants its next turn */
    uint64_t found_index;                        /* the last batch when the process came up: its own mark */
    uint32_t output_room;                        /* deliveries that fit before a connection's output counts as full */
    uint64_t starts, cuts, kills, broken_starts; /* statistics */
    char report[400];                            /* what store_open had to say */
};

void world_init(struct world *w, uint64_t seed, bool trace);
void world_plant(struct world *w, enum bug bug);
void world_release(struct world *w);
/* Open the store on the disk as it is. false: the disk was cut or failed meanwhile (look at w->disk), or the model failed. */
bool world_start(struct world *w);
/* Compare all of what the broker says with the model. `reads`: read each message that must be there, too. */
void world_observe(struct world *w, bool reads);
/* After every group was drained: nothing takes room that nobody waits for. */
void world_observe_drained(struct world *w);
/* The process dies here and now; what it had given to the system stays; `power`: only what a power cut leaves. */
void world_die(struct world *w, bool power);
/* The process is gone; the disk keeps what was not synced apart, the model knows nothing of it yet. */
void world_quit(struct world *w);
void world_stop(struct world *w); /* an orderly end: everything written, a checkpoint */
void world_submit(struct world *w, struct op *op, struct command *c);
void world_tell(struct world *w, struct command *c); /* a command without an answer */
/* One step of the machine by chance: the loop's turn ends, the writer or a worker does something. */
void world_step(struct world *w);
void world_turn(struct world *w);   /* the end of a turn of the loop: tick, flush */
bool world_settle(struct world *w); /* until nothing is under way; false: there is no end to it */
void world_pass_time(struct world *w, uint64_t ms);
/* Did the process meet something that it cannot outlive? */
bool world_is_dying(const struct world *w);

#endif
