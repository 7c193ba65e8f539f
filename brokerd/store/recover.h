/* What the recovery's files share. */
#ifndef STORE_RECOVER_H
#define STORE_RECOVER_H

#include "listing.h"
#include "scan.h"
#include "store_internal.h"

struct unclaimed { /* a batch that nothing read so far calls durable */
    uint64_t index, offset;
    uint32_t segment;
};

struct recovery {
    struct store *s;
    struct engine *engine;
    const struct store_report *report;
    struct listing files;
    struct checkpoint_image checkpoint; /* the one in use; bytes NULL: none */
    uint64_t older;                     /* index of the checkpoint before it; 0: none */
    uint64_t bad_checkpoint;            /* index of a newer, damaged one; 0: none */

    /* the log as far as it was read */
    struct segment *segment;
    struct scan scan; /* of `segment` */
    uint64_t offset;
    uint64_t next_index;
    uint32_t epoch;
    uint64_t claimed;            /* greatest index that something on disk says was durable */
    struct unclaimed *unclaimed; /* owned; those from unclaimed_from on, in the log's order */
    size_t unclaimed_from, unclaimed_len, unclaimed_cap;
    uint64_t batches, records;
    bool torn;
};

/* recover_state.c: the checkpoint into the index and the engine */
broker_error recover_checkpoint(struct recovery *r);
void recover_count_open(struct recovery *r);
/* recover_log.c: the log after it */
broker_error recover_log(struct recovery *r);

broker_error recover_error(const struct recovery *r, int error, const char *what, const char *name);

#endif
