/* What the schedule's files share: schedule.c (life, clock, firing), schedule_memory.c (the entries in memory),
   schedule_runs.c (those in the log), schedule_log.c (their records, replay, snapshot). */
#ifndef SCHEDULE_INTERNAL_H
#define SCHEDULE_INTERNAL_H

#include "engine_internal.h"

enum {
    SCHEDULE_ENTRIES = 65536,          /* default of options.max_schedule_entries */
    SCHEDULE_BLOCK_ENTRIES = 256,      /* in a record that is written ... */
    SCHEDULE_BLOCK_ENTRIES_MAX = 4096, /* ... and in one that is read */
    SCHEDULE_BLOCK_HEAD_BYTES = 48,
    SCHEDULE_ENTRY_BYTES = 24,
    SCHEDULE_SPILL_ENTRIES = 32768, /* at most in one spill, which is sorted in one go ... */
    SCHEDULE_SPILL_LEAST = 64,      /* ... and at least this many are tried when the log finds it too large */
    SCHEDULE_SPILL_BLOCKS_MAX = 65536,
    SCHEDULE_HELD = 2,         /* blocks of a run in memory: the one that is used, and the next */
    SCHEDULE_LOADING_MAX = 16, /* runs whose read is under way */
};

/* Wall times beyond this (73 million years) are taken for this, so that sums cannot overflow. */
#define SCHEDULE_TIME_MAX ((uint64_t)1 << 61)

/*
 * Steady time is the wall clock without its jumps since the start: what is scheduled keeps its remaining time when the clock
 * is set. at_ms is what was asked for, and all that is written down; at_ms - steady_ms is what the jumps up to schedule_add
 * came to.
 */
struct schedule_entry {
    uint64_t at_ms;
    int64_t steady_ms;
    uint64_t seq;
    uint32_t queue;
    uint32_t kind; /* enum schedule_kind */
};

struct schedule_memory { /* a min-heap by steady_ms */
    struct schedule_entry *entries;
    size_t len, cap;
    bool loose; /* in no order: during replay, and while some are taken out */
};

struct schedule_block { /* a record's entries, as they lie in it */
    uint32_t count;
    uint8_t entries[];
};

/* Entries in the log: blocks of entries, sorted by at_ms, one record each, with consecutive seqs. */
struct schedule_run {
    TAILQ_ENTRY(schedule_run) by_seq;
    TAILQ_ENTRY(schedule_run) in_waiting;
    struct heap_node fire; /* schedule->fire, by its next entry, if that is in memory */
    struct heap_node load; /* schedule->load, by the first entry not in memory, if more blocks may be */
    int64_t shift_ms;      /* at_ms - steady_ms of its entries */
    uint64_t first_seq;
    uint64_t next_ms; /* at_ms of the next entry */
    uint32_t blocks;
    uint32_t block; /* the first one not used up */
    uint32_t at;    /* entries of it that are used up */
    uint32_t held_count;
    struct schedule_block *held[SCHEDULE_HELD]; /* block, block + 1; NULL: lost */
    bool waiting;                               /* for a read */
    uint64_t firsts[];                          /* at_ms of each block's first entry */
};
TAILQ_HEAD(schedule_run_list, schedule_run);

struct schedule_mark { /* a block on its way into a run */
    uint64_t first_ms;
    int64_t shift_ms;
    uint32_t run; /* number within the spill */
};

struct schedule_spill { /* being replayed: its runs count once the last block is there */
    uint64_t first_seq;
    struct schedule_mark *marks;
    uint32_t blocks, seen, cap;
    struct schedule_entry *entries; /* of a spill made after a jump of the clock: what its blocks hold */
    size_t entry_count;
};

struct schedule {
    struct schedule_memory memory;
    struct schedule_run_list runs, waiting;
    struct heap fire, load;
    struct schedule_spill spill;
    uint64_t next_seq; /* in SCHEDULE_QUEUE */
    size_t run_count, held_count, waiting_count;
    size_t spill_max;                       /* entries */
    size_t sweep_at;                        /* replay: look for unwanted entries when so many are there */
    uint64_t spill_retry_ms, load_retry_ms; /* monotonic; 0: at once */
    uint64_t lost;                          /* blocks that could not be read */
    int64_t shift_ms;                       /* all jumps of the clock so far: wall - steady */
    struct now clock;                       /* of the last look at it */
    bool clock_known;
    bool jumped; /* the clock, since the start */
};

/* ---- schedule.c ---- */
size_t schedule_limit(const struct engine *e);
int64_t schedule_steady(uint64_t at_ms, int64_t shift_ms);

/* ---- schedule_memory.c ---- */
int schedule_compare(const struct schedule_entry *a, const struct schedule_entry *b); /* by what is written down */
bool schedule_memory_reserve(struct schedule_memory *m, size_t len);
void schedule_memory_shrink(struct schedule_memory *m, size_t limit);                    /* not less than the limit's */
bool schedule_memory_add(struct schedule_memory *m, const struct schedule_entry *entry); /* false: no memory */
struct schedule_entry schedule_memory_pop(struct schedule_memory *m);
void schedule_memory_order(struct schedule_memory *m); /* loose no more */
/* Bring those that come last by schedule_compare to the end: `n` of them, and any equal to the first of these. Returns where
   they begin. The memory is loose then. */
size_t schedule_memory_split(struct schedule_memory *m, size_t n);
/* Those that are among entries[0..n) too; these get sorted. */
void schedule_memory_drop_these(struct schedule_memory *m, struct schedule_entry *entries, size_t n);
void schedule_memory_drop_from(struct schedule_memory *m, const struct schedule_entry *cut); /* all not before cut */
void schedule_memory_drop_unwanted(struct engine *e, size_t from); /* of entries[from] and up */

int64_t schedule_shift(const struct schedule_entry *entry); /* what the jumps before it was added came to */
/* entries[from] and up: by shift, then by at_ms. */
void schedule_memory_sort_for_runs(struct schedule_memory *m, size_t from);

/* ---- schedule_runs.c ---- */
/* Runs of marks[0..n): not in the schedule yet, but sure to find room there. false: no memory. */
bool schedule_runs_make(struct schedule *s, uint64_t first_seq, const struct schedule_mark *marks, uint32_t n,
                        struct schedule_run_list *out);
void schedule_runs_adopt(struct schedule *s, struct schedule_run_list *made);
void schedule_runs_discard(struct schedule_run_list *made);
/* Take in the block whose first entry is due next, if that is by steady time `until`. false: there is none, or no memory. */
bool schedule_runs_load(struct engine *e, int64_t until);
/* The next entry of all runs that is in memory. false: none is. */
bool schedule_runs_peek(const struct schedule *s, int64_t *steady_ms);
struct schedule_entry schedule_runs_pop(struct engine *e, int64_t steady_now);
bool schedule_runs_next_load(const struct schedule *s, int64_t *steady_ms);
void schedule_runs_free(struct schedule *s);

/* ---- schedule_log.c ---- */
void schedule_spill(struct engine *e); /* write entries away while there are too many */
/* A record's entries; *count of them. NULL: it is no block of a schedule. */
const uint8_t *schedule_block_entries(const uint8_t *record, size_t available, uint32_t *count);
struct schedule_entry schedule_entry_get(const uint8_t *bytes);
void schedule_spill_abandon(struct engine *e); /* the one being replayed never came to its end */

#endif
