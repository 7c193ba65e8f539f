/* What the store's unit tests stand on: a disk in memory that forgets, a double of the engine, and a store between them whose
   writer and workers are steps of the test. */
#ifndef STORE_TEST_RIG_H
#define STORE_TEST_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the three above first */
#include <cmocka.h>
#include <errno.h>

#include "format.h"
#include "store.h"
#include "test_alloc.h"
#include "wire.h"

/* The test's own allocations never fail. */
#define malloc(n)       __real_malloc(n)
#define calloc(n, size) __real_calloc(n, size)
#define realloc(p, n)   __real_realloc(p, n)

/* ---- disk ------------------------------------------------------------------------------------------------------------------ */

enum { TEST_FILES_MAX = 256, TEST_SECTOR = 512 };

struct test_file {
    char name[96];
    bool used, durable_name;
    uint8_t *bytes;  /* as the system shows it */
    uint8_t *synced; /* as the platter has it */
    uint64_t size, synced_size, cap;
};

struct file {
    struct test_file *f;
    uint32_t generation;
};

struct test_disk {
    struct test_file files[TEST_FILES_MAX];
    uint64_t capacity; /* 0: none */
    uint64_t calls;    /* so far, of those that can be made to fail */
    uint64_t fail_at;  /* this call fails ... */
    int fail_error;    /* ... with this */
    bool fail_stays;   /* and all after it */
    bool frozen;
    char failed_call[16];
    uint32_t open_files;
};

extern const struct disk_ops test_disk_ops;
struct test_disk *test_disk_new(void);
void test_disk_free(struct test_disk *d);
struct test_disk *test_disk_copy(const struct test_disk *d);
struct test_file *test_disk_find(struct test_disk *d, const char *name);
uint64_t test_disk_used(const struct test_disk *d);
/* Power off and on. keep 0: nothing unsynced survives; 1: all does; else a seed: each sector by chance. Names of files survive. */
void test_disk_cut(struct test_disk *d, uint64_t keep);

/* ---- engine ------------------------------------------------------------------------------------------------------------------ */

enum { TEST_QUEUES = 64 };

struct test_queue {
    bool exists;
    uint64_t next;    /* seq */
    uint8_t *settled; /* by seq */
    uint64_t cap;
};

struct engine {
    const struct store_ops *ops;
    void *store;
    struct test_queue queues[TEST_QUEUES];
    uint64_t written, durable, replayed;
    uint64_t readable; /* calls */
    uint32_t epoch;
    bool recovered;
    uint8_t *route; /* owned: the last record replayed, if it was a route */
};
bool test_engine_live(const struct engine *e, uint32_t queue, uint64_t seq);
void test_engine_settle(struct engine *e, uint32_t queue, uint64_t first, uint64_t last);

/* ---- all together ---------------------------------------------------------------------------------------------------------------- */

struct rig {
    struct test_disk *disk;
    struct engine *engine;
    struct store *store;
    struct store_options options;
    struct now now;
    struct log_write *writes, **writes_end;
    struct job *jobs, **jobs_end;
    uint64_t written, durable;
    bool fatal;
    char fatal_text[512];
    char report[16384];
    int problems;
    uint64_t seed;
};

void rig_init(struct rig *r, struct test_disk *disk); /* small segments, everything default */
broker_error rig_open(struct rig *r);
void rig_must_open(struct rig *r);
void rig_close(struct rig *r);   /* in good order, with a checkpoint */
void rig_drop(struct rig *r);    /* as if killed: what was written stays, unsynced */
void rig_release(struct rig *r); /* drop and free the disk */

uint64_t rig_random(struct rig *r);
void rig_write(struct rig *r);             /* the writer takes everything */
bool rig_job(struct rig *r);               /* one job, the oldest; false: none */
void rig_turn(struct rig *r);              /* flush and tick */
void rig_step(struct rig *r);              /* a turn, writes and all jobs */
void rig_idle(struct rig *r);              /* steps until nothing is under way */
void rig_wait(struct rig *r, uint64_t ms); /* time passes in steps of 10 ms */
void rig_checkpoint(struct rig *r);

/* Body of message (queue, seq), so that a reader can check it. */
size_t rig_body_len(uint32_t queue, uint64_t seq);
uint32_t rig_record(uint8_t *out, size_t cap, uint32_t queue, uint64_t seq, uint64_t time_ms, size_t body_len);
broker_error rig_publish_sized(struct rig *r, uint32_t queue, size_t body_len);
broker_error rig_publish(struct rig *r, uint32_t queue);          /* the next seq */
void rig_publish_many(struct rig *r, uint32_t queue, uint64_t n); /* a step after every 16 */
broker_error rig_settle(struct rig *r, uint32_t queue, uint64_t first, uint64_t last);

enum { RIG_PLACES_MAX = 8 };
struct rig_item { /* a message in n queues, or with `first` the settling of first..last of queues[0] */
    uint32_t n, queues[RIG_PLACES_MAX];
    size_t body_len;
    uint64_t first, last;
};
/* All or nothing; as the engine does it, with a route before each message of several queues. */
broker_error rig_all(struct rig *r, const struct rig_item *items, uint32_t count);
broker_error rig_publish_routed(struct rig *r, uint32_t a, uint32_t b, uint32_t c); /* to three queues */

/* Read from..to of a queue to the end, waiting for the disk; check identity and body; the number of messages. Damaged ones are
   skipped and counted in *damaged (NULL: there may be none). */
uint64_t rig_read(struct rig *r, uint32_t queue, uint64_t from, uint64_t to, uint64_t *damaged);
/* Every live message of the engine double is readable, and nothing else is wanted. */
void rig_check_all(struct rig *r);

/* The first file that is a sealed segment, and its trailer; fails the test if there is none. */
struct test_file *rig_sealed_segment(struct rig *r, struct segment_trailer *trailer);

#endif
