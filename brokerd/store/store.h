/*
 * Owns:            the commit log on disk: batches, segments, index, checkpoints, cleaner, recovery, fsck.
 * May use:         base, wire (record layout, CRC), and the engine's store interface (struct store_ops).
 * Never knows:     sockets, commands, what an ack means.
 * Start reading at log_append (append.c), then recover.c; docs/STORAGE.md describes every byte.
 *
 * The store itself is single-threaded and lives on the loop. What may block is done elsewhere, through two ops structs:
 * `log_writer` writes and syncs batches in order; `workers` run jobs (reads, footers, checkpoints, cleaning). Both report
 * back on the loop. In the daemon they are threads (threads.c); in the simulation they are steps of the schedule.
 */
#ifndef STORE_H
#define STORE_H

#include "backup_ops.h"
#include "buf.h"
#include "clock.h"
#include "engine.h"

struct store;

/* ---- files, as the store needs them: real ones, or simulated ------------------------------------------------------ */

/* All return 0 or a positive errno. `name` is relative to the data directory. Called from the loop at open time only, and
   from the writer's and workers' context otherwise; file handles may be used by several threads at once. */
struct file;
struct disk_ops {
    int (*open)(void *disk, const char *name, bool create, struct file **out);
    void (*close)(void *disk, struct file *f);
    int (*size)(void *disk, struct file *f, uint64_t *size);
    int (*read)(void *disk, struct file *f, uint64_t offset, void *bytes, size_t n,
                size_t *got);                                                               /* short only at the end */
    int (*write)(void *disk, struct file *f, uint64_t offset, const void *bytes, size_t n); /* all or an error */
    int (*allocate)(void *disk, struct file *f, uint64_t size); /* reserve blocks and set the size; ENOSPC */
    int (*truncate)(void *disk, struct file *f, uint64_t size);
    int (*sync)(void *disk, struct file *f);                     /* fdatasync */
    int (*rename)(void *disk, const char *from, const char *to); /* durable after sync_dir */
    int (*remove)(void *disk, const char *name);
    int (*link)(void *disk, const char *from, const char *to);
    int (*sync_dir)(void *disk);
    int (*list)(void *disk, void (*fn)(void *arg, const char *name), void *arg);
    int (*free_bytes)(void *disk, uint64_t *bytes);
    int (*lock)(void *disk); /* exclusive use of the directory until the process ends; EWOULDBLOCK: another has it */
};

/* disk_open: the real one, in `path` (made if `create`). */
int disk_posix_open(const char *path, bool create, const struct disk_ops **ops, void **disk);
void disk_posix_close(void *disk);

/* ---- who writes and who works --------------------------------------------------------------------------------------- */

#define WRITE_BLOCK_BYTES 4096u
/*
 * One batch, contiguous in memory until it is reported done. `bytes` mirror the file by whole blocks: bytes - offset %
 * WRITE_BLOCK_BYTES is aligned, and from there to the end of the batch's last block memory may be read and written to the
 * file as well (before the batch it holds what the file holds; behind it zeros or what comes next).
 */
struct log_write {
    struct file *file;
    uint64_t offset;
    const uint8_t *bytes;
    uint32_t len;
    bool sync;
    uint64_t index;
    struct log_write *next;
};

/*
 * Writes are executed strictly in order; a writer takes everything submitted so far, writes it (neighbours in one call),
 * syncs once if any wants it, and reports with store_written. An error is reported once; nothing after it is executed.
 */
struct log_writer_ops {
    void (*submit)(void *writer, struct log_write *w); /* borrowed until reported */
};

struct job {
    void (*run)(struct job *j);  /* in a worker: touches only the job and files */
    void (*done)(struct job *j); /* on the loop, after run */
    struct job *next;
};
struct worker_ops {
    void (*submit)(void *workers, struct job *j); /* jobs may run in any order and at once */
};

/* ---- the store ------------------------------------------------------------------------------------------------------ */

struct store_options {
    uint32_t segment_bytes;       /* 1 MiB..1 GiB, default 64 MiB */
    uint64_t window_bytes;        /* most bytes waiting for the disk before messages get OVERLOADED; default 64 MiB */
    uint64_t tail_cache_bytes;    /* newest written bytes kept in memory for consumers at the head; default 4 MiB */
    uint64_t read_cache_bytes;    /* read from disk for consumers in the backlog; default 8 MiB */
    uint64_t max_disk_bytes;      /* 0: as much as the disk has */
    uint64_t spare_bytes;         /* recycled segments kept for reuse, at most; default 256 MiB */
    uint32_t sync_interval_ms;    /* for DURABILITY_WRITTEN records; default 1000 */
    uint32_t clean_below_percent; /* a sealed segment with less live bytes than this is cleaned; default 30 */
    uint64_t checkpoint_bytes;    /* log written between checkpoints (at least twice their size); default 16 MiB */
    bool
        plant_seal_early; /* a planted bug for the simulation to find: footers and checkpoints do not wait for the log */
};

struct store_report { /* what recovery or fsck has to say, line by line */
    void (*line)(void *arg, bool problem, const char *text);
    void *arg;
};

/*
 * store_open: recover the directory into `engine` (engine_restore unless fresh, engine_replay for each record of the tail,
 * engine_recovered with an epoch one above any before) and be ready to append. Runs on the calling thread; only start-up may wait. On damage: DAMAGED, every finding reported; nothing was changed on disk. A torn tail
 * is cut and reported as no problem. IO / DISK_FULL / NO_MEMORY likewise reported. `fatal` is called (once, on the loop)
 * when a write or sync failed: nothing covered by it will ever be confirmed; the daemon must stop.
 */
struct store_host {
    const struct disk_ops *disk_ops;
    void *disk;
    const struct log_writer_ops *writer_ops;
    void *writer;
    const struct worker_ops *worker_ops;
    void *workers;
    void (*fatal)(void *arg, const char *text);
    void *fatal_arg;
};
broker_error store_new(const struct store_options *options, const struct store_host *host, struct store **out);
extern const struct store_ops store_engine_ops; /* for engine_new, with the struct store as its `store` */
broker_error store_open(struct store *s, struct engine *engine, struct now now, const struct store_report *report);
void store_free(struct store *s); /* no job or write may be under way; does not checkpoint */

/* In each turn of the loop, once everything of the turn is appended: close the filling batch and give it to the writer. */
void store_flush(struct store *s, struct now now);
/* At the end of each turn, once its output is sent: free what readers borrowed. */
void store_end_turn(struct store *s);
/* Idle marks, interval syncs, checkpoints, cleaning, spare segments. Call it in each turn, after store_flush; returns when to
   be called again if nothing else happens. */
monotime store_tick(struct store *s, struct now now);
/* The writer's report, on the loop: all batches up to `written` are written, up to `durable` synced; error: errno or 0. */
void store_written(struct store *s, struct now now, uint64_t written, uint64_t durable, uint64_t bytes, uint64_t syncs,
                   int error);
/* How long syncs of the log took since the last report, from a writer that may read a clock. */
void store_synced(struct store *s, const struct histogram *us);
/* Is anything under way (writes, jobs)? For orderly shutdown: flush, wait until not busy, store_checkpoint, wait again. */
bool store_busy(const struct store *s);
void store_checkpoint(struct store *s,
                      struct now now); /* begin one now; clean: marks the log as closed in good order */

/* Copies of the data directory while it is in use (base/backup_ops.h), with the struct store as its `backup`. */
extern const struct backup_ops store_backup_ops;

/* ---- fsck: a data directory without a daemon -------------------------------------------------------------------------- */

struct fsck_result {
    uint64_t segments, batches, records, messages, bytes;
    uint64_t routed;   /* further places of these messages */
    uint64_t problems; /* damage in what was acknowledged */
    uint64_t notes;    /* torn tail, bytes in free space: no acknowledged data affected */
    uint64_t messages_lost;
};
/* Reads everything: each segment, batch, record, footer, checkpoint. quarantine: moves damaged files into quarantine/ and
   leaves a directory that starts, without the damaged records. Returns OK (no problem), DAMAGED, or IO. */
broker_error store_fsck(const struct disk_ops *ops, void *disk, bool quarantine, const struct store_report *report,
                        struct fsck_result *result);

/* ---- the daemon's threads ------------------------------------------------------------------------------------------------- */

struct store_threads;
/* notify: called from a thread when results wait; the loop then calls store_threads_collect. */
struct store_threads *store_threads_new(const struct disk_ops *ops, void *disk, void (*notify)(void *arg), void *arg);
const struct log_writer_ops *store_threads_writer_ops(void);                          /* writer = the store_threads */
const struct worker_ops *store_threads_worker_ops(void);                              /* workers = the store_threads */
void store_threads_collect(struct store_threads *t, struct store *s, struct now now); /* on the loop */
void store_threads_free(struct store_threads *t);                                     /* waits for what is under way */

/* ---- the log writer without a thread ---------------------------------------------------------------------------------------- */

/*
 * io_uring instead of the writing thread (see uring.c). Everything happens on the loop: watch store_uring_fd for reading and
 * call store_uring_collect when it is readable.
 */
struct store_uring;
struct store_uring *store_uring_new(void); /* NULL: the system does not offer it, or no memory; errno says */
void store_uring_free(struct store_uring *u);
int store_uring_fd(const struct store_uring *u);
const struct log_writer_ops *
store_uring_writer_ops(void); /* writer = the store_uring; files must be disk_posix_open's */
void store_uring_collect(struct store_uring *u, struct store *s, struct now now);

#endif
