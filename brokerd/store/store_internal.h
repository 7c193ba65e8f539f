/* What the store's files share. Nobody outside this folder includes it. */
#ifndef STORE_INTERNAL_H
#define STORE_INTERNAL_H

#include <assert.h>
#include <errno.h>
#include <sys/queue.h>

/* Keys are small integers: one multiplication spreads them well enough. An element that found no memory has hh.tbl NULL. */
#define HASH_FUNCTION(keyptr, keylen, hashv)                                                                           \
    do {                                                                                                               \
        uint32_t hash_key_;                                                                                            \
        memcpy(&hash_key_, (keyptr), sizeof hash_key_);                                                                \
        (hashv) = hash_key_ * 2654435769u;                                                                             \
        (hashv) ^= (hashv) >> 15;                                                                                      \
    } while (0)
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "format.h"
#include "store.h"

enum {
    CHUNK_BYTES = 1 << 20,
    CHUNKS_SPARE_MAX = 4,
    HOLES_MAX = 64, /* a gap of up to this many seqs is kept as holes of one run */
    TIMES_MAX = 64, /* time blocks of a run that is being filled */
    TIMES_SEALED_RUN =
        64,          /* a sealed run keeps a time block for so many messages; shorter ones have their segment's time */
    LAZY_MS = 20,    /* how long a record that nobody waits for may stay in the filling batch */
    IDLE_MS = 50,    /* quiet time after which an empty batch claims that the last one is on disk */
    RETRY_MS = 1000, /* after a full disk and the like */
    CHECKPOINT_PACE_MS = 1000,        /* between checkpoints, unless four times checkpoint_bytes were written */
    CHECKPOINT_QUIET_BYTES = 1 << 20, /* of log since the last one: enough for one more when the log falls quiet */
    CHECKPOINT_PAUSE_MS = 1000,       /* between checkpoints that only serve to free space */
    CLEAN_AFTER_MS = 2000,            /* a segment must have been mostly dead for this long */
    EXTENT_BYTES = 256 << 10,
    EXTENT_MIN_BYTES = 16 << 10,
    READ_AHEAD = 3,
    FILL_STEP_BYTES = 512 << 10,
    ACK_RESERVE_PART = 8, /* messages leave this part of the last segment to acks, while no other is prepared */
    TEXT_BYTES = 512
};

/* ---- the index (index.c, times.c) -------------------------------------------------------------------------------- */

struct time_block { /* entries from `entry` up to the next block: none was accepted after max_ms */
    uint32_t entry;
    uint64_t max_ms;
};

struct run_detail {
    TAILQ_ENTRY(run_detail) link; /* segment->open, while entries are here */
    uint32_t queue;
    uint32_t cap;
    uint64_t first;        /* the run's, to find it again */
    struct entry *entries; /* owned; NULL: the segment is sealed, they are in its footer */
    bool frozen;           /* a seal job reads the entries */
    bool orphan;           /* the run is gone; freed with the seal job */
    uint32_t time_len, time_cap;
    uint64_t time_start_ms; /* of the last block */
    uint64_t time_step_ms;
    struct time_block *times; /* owned */
};
TAILQ_HEAD(detail_list, run_detail);

struct run { /* messages of one queue in one segment with (nearly) consecutive seqs */
    uint64_t first;
    uint64_t bytes; /* of live ones, padded; from a sealed run's parts, in proportion */
    uint32_t count; /* seqs first .. first + count - 1, holes included */
    uint32_t live;
    uint32_t segment;
    uint32_t entry;            /* of `first` in the segment's footer, once sealed */
    struct run_detail *detail; /* owned; may be NULL in a sealed segment */
};
static inline uint64_t run_last(const struct run *r)
{
    return r->first + r->count - 1;
}
static inline bool run_is_open(const struct run *r)
{
    return r->detail && r->detail->entries;
}

struct extent;
TAILQ_HEAD(extent_list, extent);

struct queue_index {
    uint32_t queue;
    uint32_t run_at, run_len, run_cap; /* runs[run_at .. run_at + run_len - 1], rising */
    struct run *runs;                  /* owned */
    uint64_t messages, bytes;
    uint64_t oldest;            /* no live message is before this one */
    uint64_t last_seq;          /* greatest ever appended */
    struct extent_list extents; /* rising, disjoint */
    bool waiting;               /* a read was PENDING */
    bool starved;               /* in reads.starved: there was no room to start one */
    TAILQ_ENTRY(queue_index) starved_link;
    UT_hash_handle hh;
};
static inline struct run *queue_run(const struct queue_index *q, uint32_t i)
{
    return &q->runs[q->run_at + i];
}

/* ---- segments (segment.c, space.c) ---------------------------------------------------------------------------------- */

enum segment_state {
    SEGMENT_ACTIVE, /* the log goes on here */
    SEGMENT_FULL,   /* waits for its batches to be durable, then for its footer */
    SEGMENT_SEALED,
    SEGMENT_DEAD /* nothing of it is wanted; freed once no checkpoint refers to it */
};

struct segment {
    uint32_t number;
    enum segment_kind kind;
    enum segment_state state;
    struct file *file; /* open while ACTIVE or FULL */
    uint64_t file_bytes, data_end;
    uint64_t first_index, last_index; /* of its batches; 0: none */
    uint64_t max_time_ms;
    uint64_t live_bytes;
    uint32_t runs;           /* in the index */
    uint32_t entries, added; /* entries and runs added so far: what the footer needs */
    uint32_t pins;           /* jobs that read it */
    bool sealing, cleaning;
    bool unclean;          /* the cleaner found damage: only fsck can help */
    uint64_t low_since_ms; /* monotonic; mostly dead since; 0: it is not */
    uint64_t forgotten_at; /* DEAD: index of the first checkpoint that does not refer to it; 0: none yet */
    struct detail_list open;
    TAILQ_ENTRY(segment) link; /* store->full or store->dead */
    UT_hash_handle hh;
};
TAILQ_HEAD(segment_list, segment);

struct spare {
    uint32_t number;
    bool ready; /* false: being filled with zeros */
    bool recycled;
    TAILQ_ENTRY(spare) link;
};
TAILQ_HEAD(spare_list, spare);

struct prepared { /* a segment with its number and head, not yet part of the log */
    uint32_t number;
    struct file *file;
};

/* ---- the log (append.c, tail.c) --------------------------------------------------------------------------------------- */

struct chunk { /* mirrors bytes [base, end) of a segment; from `start` on they are this chunk's own */
    TAILQ_ENTRY(chunk) link;
    uint32_t segment;
    uint32_t unwritten; /* batches not reported written, the filling one included */
    uint64_t base;      /* start of the block that `start` is in: whole blocks can be written from here */
    uint64_t start, end;
    size_t cap;     /* whole blocks, counted from base */
    uint8_t *bytes; /* owned, aligned to a block; bytes[0] is at `base` */
};
TAILQ_HEAD(chunk_list, chunk);

struct pending_write {
    struct log_write w;
    struct chunk *chunk;
    STAILQ_ENTRY(pending_write) link;
};
STAILQ_HEAD(pending_list, pending_write);

enum { CHAIN_RECORDS = 256 };

struct fill {                    /* the batch being filled */
    struct pending_write *write; /* NULL: none is open */
    struct chunk *chunk;         /* where the log goes on, if it has room; may be NULL */
    uint64_t offset;             /* of the batch */
    uint32_t count;
    enum durability urgency;
    uint64_t since_ms; /* monotonic */
    uint32_t crc;      /* over the record heads before those in `heads` */
    uint32_t head_len;
    uint8_t heads[CHAIN_RECORDS * 8];
};

struct log_state {
    struct segment *active;
    uint64_t end; /* of the last closed batch in the active segment */
    uint32_t epoch;
    uint64_t next_index; /* of the batch that is filling or will be next */
    uint64_t written, durable;
    uint64_t claimed;           /* greatest `durable` in a closed batch's head */
    uint64_t last_full;         /* last batch with records */
    uint64_t last_sync;         /* last batch submitted with `sync` */
    uint64_t unsynced_since_ms; /* monotonic; 0: no interval sync is due */
    uint64_t busy_ms;           /* monotonic, of the last report */
    uint64_t unwritten_bytes;   /* submitted or filling */
    struct pending_list pending, spare_writes;
    uint64_t syncs, bytes_written;
    struct histogram sync_us;
};

struct tail_cache {
    uint8_t begun[WRITE_BLOCK_BYTES]; /* of the block in which the log went on at start-up: what is before that place */
    struct chunk_list chunks;         /* in the log's order */
    struct chunk_list spare, gone;
    uint32_t spare_len;
    uint64_t bytes;
    struct chunk *hint;
};

/* ---- jobs ------------------------------------------------------------------------------------------------------------- */

struct store_job { /* first member of every job */
    struct job job;
    struct store *store; /* for `done` only */
    const struct disk_ops *ops;
    void *disk;
    int error; /* errno of the run */
};

struct space {
    struct prepared *next; /* owned; NULL: none */
    bool preparing, filling, freeing;
    struct spare_list spares;
    uint32_t spare_len;
    uint32_t next_number;
    uint64_t disk_bytes; /* of all files */
    bool full;           /* messages are refused */
    uint64_t retry_ms;   /* monotonic; no new file before */
};

struct checkpoint_job;
struct checkpoints {
    bool wanted, sealed_since;
    struct checkpoint_job *taken; /* waits for its batch to be durable, or is being written */
    bool writing;
    uint64_t newest, older;             /* indexes; 0: none */
    uint64_t pinned, pinned_bytes;      /* a backup's, not removed while it is open; 0: none */
    uint64_t newest_bytes, older_bytes; /* of the files */
    uint64_t log_bytes;                 /* closed since the last one */
    uint64_t begun_ms, retry_ms;
};

struct reads {
    uint64_t bytes; /* of extents, and of jobs as planned */
    uint32_t jobs;
    uint32_t queues;           /* with extents */
    struct extent_list by_use; /* least recently used first */
    struct extent_list gone;
    TAILQ_HEAD(, queue_index) starved;
    uint64_t retry_ms;
};

struct store {
    struct store_options options;
    struct store_host host;
    struct engine *engine;
    struct now now;
    bool open, failed;
    uint32_t jobs; /* under way */
    struct log_state log;
    struct fill fill;
    struct tail_cache tail;
    struct segment *segments;       /* by number */
    struct segment_list full, dead; /* by state */
    struct queue_index *queues;
    struct queue_index *last_queue; /* the one used last, or NULL */
    struct space space;
    struct checkpoints checkpoints;
    struct reads reads;
    struct backup *backup; /* owned; NULL: none is open */
    bool cleaning;
    uint64_t clean_retry_ms, clean_look_ms;
};

/* ---- store.c ---- */
void store_fail(struct store *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
void job_begin(struct store *s, struct store_job *j, void (*run)(struct job *), void (*done)(struct job *));
/* First thing in each `done`: the job is over; false: the store has failed, free the job and do nothing. */
bool job_end(struct store_job *j);
bool error_is_transient(int error); /* too little of something that may come back */
void report_line(const struct store_report *report, bool problem, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* ---- append.c ---- */
broker_error log_append(struct store *s, const uint8_t *record, uint32_t length, enum durability durability,
                        uint64_t *index);
broker_error log_append_all(struct store *s, const struct append_item *items, uint32_t count,
                            enum durability durability, uint64_t *index);
bool log_close(struct store *s, bool sync); /* the filling batch, if one is open; then it is submitted */
/* An empty batch that claims what is durable, and syncs all before it. */
broker_error log_mark(struct store *s);
void log_begin(struct store *s, struct segment *active, uint64_t end, uint32_t epoch, uint64_t next_index);
void log_written(struct store *s, uint64_t written);
void log_tick(struct store *s);
void log_release(struct store *s);

/* ---- tail.c ---- */
struct chunk *tail_new(struct store *s, uint32_t segment, uint64_t start, size_t at_least); /* NULL: no memory */
const uint8_t *tail_find(struct store *s, uint32_t segment, uint64_t offset);               /* NULL: not in memory */
void tail_trim(struct store *s);
void tail_free_gone(struct store *s);
void tail_release(struct store *s);

/* ---- index.c ---- */
struct queue_index *index_find(struct store *s, uint32_t queue);
struct queue_index *index_get(struct store *s, uint32_t queue); /* NULL: no memory */
/* Note a message in the active segment, `length` with ENTRY_ROUTED if it is a further place of it. Everything that can fail
   happens before anything changes: false, no memory. */
bool index_add(struct store *s, struct segment *g, uint32_t queue, uint64_t seq, uint64_t time_ms, uint64_t offset,
               uint32_t length);
/* Take back what index_add noted of `queue` from `seq` on, in the active segment and since nothing else happened. */
void index_cut(struct store *s, struct segment *g, uint32_t queue, uint64_t seq);
/* The first run whose last seq is >= seq; run_len: none. */
uint32_t index_search(const struct queue_index *q, uint64_t seq);
struct run *index_insert(struct queue_index *q, uint32_t at);           /* a zeroed run; NULL: no memory */
void index_remove(struct store *s, struct queue_index *q, uint32_t at); /* with its counts */
void index_dead(struct store *s, uint32_t queue, uint64_t first, uint64_t last);
void index_queue_gone(struct store *s, uint32_t queue);
void index_drop_if_empty(struct store *s, struct queue_index *q);
void index_release(struct store *s);
void detail_free(struct run_detail *d);

/* ---- usage.c ---- */
uint64_t index_seq_at_time(struct store *s, uint32_t queue, uint64_t time_ms);
void index_usage(struct store *s, uint32_t queue, uint64_t *messages, uint64_t *bytes, uint64_t *oldest_seq);
uint64_t index_oldest_ms(struct store *s, uint32_t queue);
uint64_t index_trim_point(struct store *s, uint32_t queue, uint64_t before_time_ms, uint64_t max_bytes,
                          uint64_t max_messages);
bool times_reserve(struct run_detail *d);
void times_add(struct run_detail *d, uint32_t entry, uint64_t time_ms);
void times_seal(struct run_detail *d, uint32_t count);

/* ---- segment.c ---- */
struct segment *segment_find(struct store *s, uint32_t number);
struct segment *segment_add(struct store *s, uint32_t number, enum segment_kind kind, enum segment_state state);
void segment_forget(struct store *s, struct segment *g);
uint64_t segment_footer_bytes(uint64_t entries, uint64_t runs); /* most that a footer with trailer takes */
bool segment_has_room(const struct segment *g, uint64_t offset, uint64_t bytes, uint32_t messages); /* of records */
void segment_check_dead(struct store *s, struct segment *g);
void segment_seal_ready(struct store *s); /* begin to seal what is full and durable */
int segment_write_head(const struct disk_ops *ops, void *disk, struct file *f, const struct segment_head *head);

/* ---- space.c ---- */
broker_error space_roll(struct store *s, bool for_message); /* the log goes on in a new segment */
broker_error space_create_now(struct store *s, bool zeroed,
                              struct prepared **out); /* blocks: start-up and last resort */
void space_tick(struct store *s);
bool space_drop_spare(struct store *s); /* give its bytes back for something more urgent */
void space_adopt_spare(struct store *s, uint32_t number, bool recycled, uint64_t bytes); /* at start-up */
void space_release(struct store *s);
bool space_is_waiting(const struct store *s);

/* ---- checkpoint.c ---- */
void checkpoint_tick(struct store *s);
void checkpoint_take(struct store *s);    /* if wanted; the filling batch must be closed */
void checkpoint_advance(struct store *s); /* write the one taken, once its batch is durable */
void checkpoint_release(struct store *s);

/* ---- reader.c ---- */
enum read_status reader_read(struct store *s, uint32_t queue, uint64_t from, uint64_t to, uint32_t max_messages,
                             uint64_t max_bytes, struct stored_message *out, uint32_t *count, uint64_t *damaged_seq);
void reader_forget(struct store *s, struct queue_index *q, uint64_t last); /* extents up to `last` are not needed */
void reader_free_gone(struct store *s);
void reader_tick(struct store *s);
void reader_release(struct store *s);
void extent_drop_all(struct store *s, struct queue_index *q);

/* ---- backup.c ---- */
struct backup;
void backup_checkpoint_taken(struct store *s, uint64_t index); /* between two batches: the segments are as it says */
void backup_checkpoint_written(struct store *s, uint64_t index, uint64_t bytes);
void backup_forget_checkpoint(struct store *s, uint64_t index, uint64_t bytes); /* remove it, if it does not count */
void backup_tick(struct store *s);
void backup_failed(struct store *s);
void backup_release(struct store *s);

/* ---- cleaner.c ---- */
void cleaner_tick(struct store *s);

#endif
