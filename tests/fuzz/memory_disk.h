/* A disk in memory, with a small bound, for fuzzing the store; and what writes and works at once, without threads. */
#ifndef MEMORY_DISK_H
#define MEMORY_DISK_H

#include "store.h"

enum { DISK_FILES = 64, DISK_NAME = 64, DISK_BYTES_MAX = 16 << 20 };

struct file {
    char name[DISK_NAME]; /* "": not there */
    uint8_t *bytes;       /* owned */
    uint64_t size;
    unsigned open;
};

struct memory_disk {
    struct file files[DISK_FILES];
    uint64_t used;
    struct log_write *writes, **writes_end; /* submitted, not yet done */
    struct job *jobs, **jobs_end;
};

extern const struct disk_ops memory_disk_ops;
extern const struct log_writer_ops memory_writer_ops; /* writer: the disk */
extern const struct worker_ops memory_worker_ops;     /* workers: the disk */

void memory_disk_init(struct memory_disk *d);
void memory_disk_release(struct memory_disk *d);
void memory_disk_copy(struct memory_disk *to, const struct memory_disk *from); /* to: initialised and empty */
/* Do everything submitted, and tell the store. */
void memory_disk_work(struct memory_disk *d, struct store *s, struct now now);

#endif
