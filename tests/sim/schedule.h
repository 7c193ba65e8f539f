/*
 * Owns:            the simulated log writer and workers: what threads do in the daemon are single steps here.
 * May use:         store.h, simdisk.h.
 * Never knows:     what is written.
 * Start reading at writer_step.
 *
 * Each step is taken when the history says so: batches are written one by one, synced later, reported later still; jobs
 * run in any order and are reported in any order.
 */
#ifndef SIM_SCHEDULE_H
#define SIM_SCHEDULE_H

#include <store.h>

#include "rng.h"
#include "simdisk.h"

struct written_batch { /* by the writer; kept until it is on the platter */
    struct file *file;
    uint64_t offset, len, index;
};

struct sim_writer {
    struct simdisk *disk;
    struct log_write *head, **tail; /* submitted, in order */
    struct written_batch *batches;
    uint32_t batch_count, batch_cap;
    struct file *dirty[64]; /* written since the last sync */
    uint32_t dirty_count;
    bool sync_wanted;
    uint64_t submitted, written, durable; /* indexes */
    uint64_t truly_durable;               /* what the disk itself knows to be safe */
    uint64_t reported_written, reported_durable;
    uint64_t bytes, syncs; /* since the last report */
    int error;
    bool error_reported;
};

extern const struct log_writer_ops sim_writer_ops; /* with the struct sim_writer as `writer` */
void sim_writer_init(struct sim_writer *w, struct simdisk *disk);
void sim_writer_release(struct sim_writer *w);
bool sim_writer_has_work(const struct sim_writer *w);
/* One step by chance: write some, sync, or report. */
void sim_writer_step(struct sim_writer *w, struct rng *rng, struct store *s, struct now now);
/* Everything there is to do, in order; for when the history wants quiet. */
void sim_writer_run(struct sim_writer *w, struct store *s, struct now now);
/* The process is gone, or its disk: what was not written never will be. The store hears of an error once. */
void sim_writer_fail(struct sim_writer *w, struct store *s, struct now now);

#define SIM_JOBS_MAX 256u

struct sim_workers {
    struct job *waiting[SIM_JOBS_MAX], *ran[SIM_JOBS_MAX];
    uint32_t waiting_count, ran_count;
    uint64_t jobs;
};

extern const struct worker_ops sim_worker_ops; /* with the struct sim_workers as `workers` */
bool sim_workers_have_work(const struct sim_workers *w);
void sim_workers_step(struct sim_workers *w, struct rng *rng);
/* Run all, and what they bring about, in order; false if there is no end to it. */
bool sim_workers_run(struct sim_workers *w);

#endif
