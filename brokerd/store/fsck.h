/* What fsck's files share. */
#ifndef STORE_FSCK_H
#define STORE_FSCK_H

#include "listing.h"
#include "scan.h"
#include "store_internal.h"

#define SCHEDULE_QUEUE_ID UINT32_MAX /* the engine's own: it has no name */

struct found { /* a whole message in a segment, once for each of its places */
    uint64_t seq;
    uint32_t queue;
    uint32_t place, length; /* as in an entry */
};

struct piece { /* a damaged part of the batches: repaired, it is one batch */
    uint64_t from, to;
    uint64_t index; /* of the last batch in it */
    uint32_t epoch;
    uint64_t skip; /* offset of a whole record that must not be kept; 0: none */
};

enum fsck_role {
    ROLE_SEALED,   /* the checkpoint knows it, with its footer */
    ROLE_LOG,      /* part of the log that a start reads */
    ROLE_PREPARED, /* behind the log's end */
    ROLE_UNNEEDED  /* a start would free it */
};

struct fsck_segment {
    uint32_t number;
    enum segment_kind kind;
    enum fsck_role role;
    char name[FILE_NAME_BYTES];
    bool present, head_ok, in_base;
    bool recycled;
    bool damaged;                   /* worth repairing */
    bool read;                      /* its batches have been walked */
    struct checkpoint_segment base; /* if in_base */
    uint64_t full_bytes;            /* as it should be */
    uint64_t log_end;               /* of the batches */
    uint64_t last_index;
    uint32_t last_epoch;
    struct scan scan;
    uint32_t odd_routes;
    struct piece *pieces; /* owned */
    uint32_t piece_count, piece_cap;
    struct found *found; /* owned; by queue, then seq, once sorted */
    size_t found_count, found_cap;
};

struct last_seq { /* greatest seq replayed of a queue */
    uint32_t queue;
    uint64_t seq;
    UT_hash_handle hh;
};

struct suspect { /* a damaged message of the log, as far as its head can be read */
    uint32_t queue;
    uint64_t seq;
    bool counted;
};

struct fsck {
    const struct disk_ops *ops;
    void *disk;
    const struct store_report *report;
    struct fsck_result *result;
    bool quarantine;
    broker_error error; /* what stops it: IO, NO_MEMORY */
    struct listing files;
    struct checkpoint_image base; /* bytes NULL: none */
    bool bad_checkpoint;
    struct engine *engine;
    struct last_seq *last_seqs;
    struct suspect *suspects; /* owned */
    uint32_t suspect_count, suspect_cap;
    struct fsck_segment *segments; /* owned; by number */
    uint32_t segment_count;
    uint64_t claimed; /* greatest index that something says was durable */
    uint64_t next_index;
    uint32_t epoch;
    bool log_damaged;      /* acknowledged batches of the log itself are damaged */
    bool log_over;         /* its end was found */
    uint32_t broken_start; /* number of the segment whose first batch is damaged; 0: none */
};

void fsck_problem(struct fsck *k, const char *format, ...) __attribute__((format(printf, 2, 3)));
void fsck_note(struct fsck *k, const char *format, ...) __attribute__((format(printf, 2, 3)));
void fsck_info(struct fsck *k, const char *format, ...) __attribute__((format(printf, 2, 3)));
void fsck_stop(struct fsck *k, int error, const char *name);       /* a read failed for want of memory and the like */
const char *fsck_queue_name(const struct fsck *k, uint32_t queue); /* "?" */
static inline uint64_t fsck_base_index(const struct fsck *k)
{
    return k->base.bytes ? k->base.head.index : 0;
}

/* fsck_walk.c */
void fsck_walk_sealed(struct fsck *k, struct fsck_segment *g); /* batches up to the known end */
void fsck_take_batch(struct fsck *k, struct fsck_segment *g, const uint8_t *batch, uint64_t at,
                     const struct batch_head *head);
/* A damaged part [from, to): say so, see what can be salvaged, note it for repair. */
void fsck_damaged_part(struct fsck *k, struct fsck_segment *g, uint64_t from, uint64_t to, uint64_t index,
                       bool head_ok);
void fsck_add_piece(struct fsck *k, struct fsck_segment *g, struct piece piece);
void fsck_records(struct fsck *k, struct fsck_segment *g, const uint8_t *bytes, uint64_t from, uint64_t to,
                  bool damaged);
bool fsck_is_record(const uint8_t *record, uint64_t left); /* a whole one, of a known type */
/* The further places of the message right behind `record`; n 0: it is no whole route, or no whole message follows. */
struct route fsck_route_of(const uint8_t *record, uint64_t left);
/* fsck_log.c */
void fsck_find_claims(struct fsck *k);
void fsck_walk_log(struct fsck *k); /* everything a start would read */
/* Is it a message after all replayed so far, of each queue it is in? */
bool fsck_is_new(const struct fsck *k, const uint8_t *message, const struct route *route);
void fsck_suspect(struct fsck *k, uint32_t queue, uint64_t seq);
/* fsck_rest.c */
void fsck_head(struct fsck *k, struct fsck_segment *g);
void fsck_zeros(struct fsck *k, struct fsck_segment *g, uint64_t from, uint64_t to, const char *what);
void fsck_footer(struct fsck *k, struct fsck_segment *g);
void fsck_losses(struct fsck *k, struct fsck_segment *g);
void fsck_sort_found(struct fsck_segment *g);
const struct found *fsck_lookup(const struct fsck_segment *g, uint32_t queue, uint64_t seq);
/* fsck_repair.c */
void fsck_repair(struct fsck *k, struct fsck_segment *g);
bool fsck_set_aside(struct fsck *k, const char *name);

#endif
