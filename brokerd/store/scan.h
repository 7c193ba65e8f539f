/* Reading segment files batch by batch, and their footers: for recovery, workers and fsck. Blocks; any thread. */
#ifndef STORE_SCAN_H
#define STORE_SCAN_H

#include "format.h"
#include "store.h"

struct scan {
    const struct disk_ops *ops;
    void *disk;
    struct file *file;
    uint32_t segment; /* whose batches count */
    uint64_t file_bytes;
    int error;       /* errno of the last SCAN_ERROR; bytes that cannot be read count as damage: see scan_bytes */
    uint8_t *buffer; /* owned: bytes [at, at + len) of the file */
    size_t cap, len;
    uint64_t at;
};

/* Open `name`. 0 or errno. scan_close always. */
int scan_open(struct scan *c, const struct disk_ops *ops, void *disk, const char *name, uint32_t segment);
void scan_close(struct scan *c);
/* n bytes at `offset`, valid until the next call; NULL: they are not there (error 0), or error says why. */
const uint8_t *scan_bytes(struct scan *c, uint64_t offset, size_t n);

enum scan_found {
    SCAN_BATCH, /* whole */
    SCAN_TORN,  /* the head is right, the records are not; *batch is there all the same */
    SCAN_CUT,   /* the file ends within a batch or where one would begin */
    SCAN_NONE,  /* no batch begins here */
    SCAN_ERROR
};
enum scan_found scan_batch(struct scan *c, uint64_t offset, struct batch_head *head, const uint8_t **batch);
/* The first batch head at or after `from` and before `to`, in steps of 8: its offset, or UINT64_MAX (look at error). */
uint64_t scan_find(struct scan *c, uint64_t from, uint64_t to, struct batch_head *head);
/* Greatest offset <= to after which [from, to) is zero; `from` if all of it is. UINT64_MAX: error. */
uint64_t scan_last_nonzero(struct scan *c, uint64_t from, uint64_t to);

/* Is this the message that entry `e` leads to? A routed one names another queue and seq, but must be whole; which places it
   has says the route before it, which is not read again. `r` has entry_length(e) bytes. */
bool record_is(const uint8_t *r, const struct entry *e, uint32_t queue, uint64_t seq);

/* ---- footers ---------------------------------------------------------------------------------------------------------- */

struct footer {
    struct segment_trailer trailer;
    struct directory_run *runs; /* owned */
};
/* 0; EBADMSG: damaged or none; or errno. footer_release always. */
int footer_load(struct scan *c, struct footer *f);
void footer_release(struct footer *f);
int footer_trailer(struct scan *c, struct segment_trailer *trailer);
/* Entries first .. first + n - 1. EBADMSG: a block is damaged. */
int footer_entries(struct scan *c, const struct segment_trailer *trailer, uint32_t first, uint32_t n,
                   struct entry *out);

/* Entries of a queue's seqs first .. first + n - 1, by reading all batches. *damaged: some of the segment is unreadable, so
   what was not found may have been there. 0 or errno. */
int scan_entries(struct scan *c, uint64_t data_end, uint32_t queue, uint64_t first, uint32_t n, struct entry *out,
                 bool *damaged);

#endif
