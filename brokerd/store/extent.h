/* What reader.c (on the loop) and read_job.c (in a worker) share. */
#ifndef STORE_EXTENT_H
#define STORE_EXTENT_H

#include "store_internal.h"

enum { GAP_BYTES = 4096, GATHER_BYTES = 512 << 10 };
#define PLACE_HOLE UINT32_MAX
#define PLACE_BAD  (UINT32_MAX - 1)

/* Records of one queue, read from disk, one behind the other. */
struct extent {
    TAILQ_ENTRY(extent) in_queue;
    TAILQ_ENTRY(extent) by_use; /* reads.by_use or reads.gone, unless loading */
    uint32_t queue;
    bool loading;
    bool orphan; /* loading, and nobody wants it any more */
    uint64_t first;
    uint32_t n;       /* seqs first .. first + n - 1 */
    uint32_t *places; /* owned: / 8 in bytes; PLACE_HOLE, PLACE_BAD */
    uint8_t *bytes;   /* owned */
    uint64_t size;    /* as counted in reads.bytes */
};

struct read_job {
    struct store_job j;
    struct extent *extent; /* touched on the loop only */
    uint32_t queue, segment, entry, n;
    enum segment_kind kind;
    uint64_t first, data_end;
    bool sealed;
    struct entry *entries; /* owned; given if the segment has no footer yet, else read by the job */
    /* results */
    uint32_t *places;
    uint8_t *bytes;
    uint64_t size;
    bool footer_damaged;
};

void read_job_run(struct job *job);

#endif
