/* What cleaner.c (on the loop) and clean_job.c (in a worker) share. */
#ifndef STORE_CLEAN_H
#define STORE_CLEAN_H

#include "scan.h"
#include "store_internal.h"

enum { CLEAN_VICTIMS_MAX = 16 };

struct clean_victim {
    uint32_t number;
    enum segment_kind kind;
    uint64_t data_end;
    struct footer footer; /* found by the first step */
    bool damaged;         /* it cannot be cleaned */
};

struct clean_range { /* seqs to keep of one run of a victim's directory */
    uint32_t queue, victim, run;
    bool joins; /* nothing that stays elsewhere lies between it and the range before it: a run may hold both */
    uint64_t first, last;
};

struct clean_run { /* of the new segment */
    struct directory_run run;
    uint64_t bytes;
};

struct clean_job {
    struct store_job j;
    struct clean_victim victims[CLEAN_VICTIMS_MAX];
    uint32_t victim_count;
    /* second step, in */
    struct clean_range *ranges; /* owned; by queue, then seq */
    uint32_t range_count, range_cap;
    bool no_memory;
    uint32_t cold, epoch;
    uint32_t segment_bytes;
    /* second step, out */
    struct clean_run *runs; /* owned; as in the directory */
    uint32_t run_count, run_cap;
    struct entry *entries; /* owned; places in the cold segment */
    uint32_t entry_count, entry_cap;
    uint64_t data_end, file_bytes, max_time_ms, batches;
};

void clean_job_directories(struct job *job); /* first step: read the victims' footers */
void clean_job_copy(struct job *job);        /* second: copy the ranges into a cold segment */
void clean_job_free(struct clean_job *j);

#endif
