/*
 * Owns:            a disk in memory that forgets: unsynced writes are kept apart, sector by sector, until a sync.
 * May use:         store.h (struct disk_ops).
 * Never knows:     what the files mean.
 * Start reading at struct disk_inode, then simdisk_cut (simcut.c).
 *
 * A power cut keeps any subset of what was not synced: each sector of 512 bytes has its synced content or that after any
 * later write; a size likewise; each change of the directory not yet covered by sync_dir happened or did not. A killed
 * process loses nothing that was written, but what it wrote stays unsynced. After a failed sync readers may see, until the
 * next power cut, what is not on disk and what no later sync will bring there (failed_sync_drops).
 */
#ifndef SIM_SIMDISK_H
#define SIM_SIMDISK_H

#include <store.h>

#include "rng.h"

#define SECTOR_BYTES    512u
#define DISK_NAME_BYTES 64u
#define DISK_FILES_MAX  256u

struct blob { /* content of a file, shared between the copies of a disk */
    uint32_t refs;
    bool hashed;
    uint64_t hash; /* of all bytes, if hashed */
    uint64_t cap;  /* bytes beyond what was written are zero */
    uint8_t bytes[];
};

enum pending_kind { PENDING_WRITE, PENDING_SIZE };

struct pending { /* one change of a file that no sync has covered yet */
    enum pending_kind kind;
    uint64_t offset, len; /* of a write */
    uint8_t *bytes;       /* owned */
    uint64_t size;        /* of the file afterwards */
};

struct disk_inode {
    struct blob *synced;  /* NULL: nothing */
    struct blob *current; /* NULL: same as synced */
    uint64_t synced_size, size;
    struct pending *pending;
    uint32_t pending_count, pending_cap;
    uint32_t handles;
    struct disk_inode *copy; /* while a disk is copied */
    struct disk_inode *next;
};

enum name_change_kind { NAME_SET, NAME_REMOVE, NAME_RENAME };

struct name_change { /* one change of the directory that no sync_dir has covered yet */
    enum name_change_kind kind;
    char from[DISK_NAME_BYTES], to[DISK_NAME_BYTES];
    struct disk_inode *inode;
};

struct dir_entry {
    char name[DISK_NAME_BYTES];
    struct disk_inode *inode;
};

struct directory {
    struct dir_entry entries[DISK_FILES_MAX];
    uint32_t count;
};

enum disk_call {
    DISK_CALL_NONE,
    DISK_CALL_CREATE,
    DISK_CALL_READ,
    DISK_CALL_WRITE,
    DISK_CALL_ALLOCATE,
    DISK_CALL_TRUNCATE,
    DISK_CALL_SYNC,
    DISK_CALL_RENAME,
    DISK_CALL_REMOVE,
    DISK_CALL_LINK,
    DISK_CALL_SYNC_DIR,
    DISK_CALL_COUNT
};

struct disk_fault { /* the nth call of a kind (1: the next) fails */
    enum disk_call call;
    uint64_t nth;
    int error;
    bool stays; /* and every later one of the kind */
};

struct simdisk {
    struct directory current, synced;
    struct name_change *changes;
    uint32_t change_count, change_cap;
    struct disk_inode *inodes;
    uint64_t capacity; /* bytes of all files together; 0: no limit */
    bool locked;

    uint64_t changing_calls; /* calls that may change what is on the disk */
    uint64_t cut_after;      /* freeze after this many of them; 0: never */
    uint64_t cut_bytes;      /* if that last call is a write: no more than this of it gets through; 0: all */
    bool frozen;             /* the power is gone: every call fails, nothing changes */
    struct disk_fault fault;
    uint64_t faults_hit;
    bool
        failed_sync_drops; /* as Linux does: pages that a failed sync could not write count as clean, and are not on disk */
    bool trace;            /* print each changing call */
    bool plant_skip_sync; /* planted bug: sync says yes and does nothing */
};

extern const struct disk_ops simdisk_ops; /* with the struct simdisk as `disk` */

struct simdisk *simdisk_new(uint64_t capacity);
void simdisk_free(struct simdisk *d);
/* The process that used it is gone: handles and lock are released, a frozen disk works again. */
void simdisk_process_gone(struct simdisk *d);
/* Is this range of an open file on the platter, whatever happens to the power? */
bool simdisk_is_durable(const struct file *f, uint64_t offset, uint64_t len);
void simdisk_flip(struct disk_inode *n, uint64_t bit); /* at rest: on the platter and for every reader */
uint64_t simdisk_used(const struct simdisk *d);

/* ---- power cuts (simcut.c) ------------------------------------------------------------------------------------------ */

enum cut_kind { CUT_SECTOR, CUT_SIZE, CUT_NAME };

struct cut_unit { /* one thing that a power cut decides on its own */
    enum cut_kind kind;
    struct disk_inode *inode;
    uint64_t sector;
    uint32_t versions;      /* at least 2; version 0: as it was at the last sync */
    const uint8_t *content; /* sectors: `versions` times 512 bytes */
    const uint64_t *sizes;  /* sizes: `versions` of them */
    uint32_t change;        /* names: which */
};

struct cut { /* everything that is undecided on a disk; valid until the disk changes */
    struct cut_unit *units;
    uint32_t count;
    struct cut_memory *memory;
};

void cut_list(struct simdisk *d, struct cut *c);
void cut_release(struct cut *c);
/* The disk after the power came back, unit i having version choice[i]. The old one stays as it is. */
struct simdisk *cut_apply(const struct simdisk *d, const struct cut *c, const uint32_t *choice);
/* A random cut, replacing the content of `d`. */
void simdisk_cut_power(struct simdisk *d, struct rng *rng);
/* As it is, unsynced changes included; handles and lock excluded. */
struct simdisk *simdisk_copy(const struct simdisk *d);
/* Of all names, sizes and bytes; equal disks have equal hashes. For a disk without anything unsynced. */
uint64_t simdisk_hash(struct simdisk *d);

/* ---- between its files -------------------------------------------------------------------------------------------- */

struct blob *blob_new(uint64_t cap);
struct blob *blob_ref(struct blob *b);
void blob_unref(struct blob *b);
/* *b becomes one of our own, with room for `cap` bytes. */
void blob_own(struct blob **b, uint64_t cap);
struct disk_inode *inode_new(struct simdisk *d);
const struct dir_entry *directory_find(const struct directory *dir, const char *name);
void directory_copy(struct directory *to, const struct directory *from);
void directory_change(struct directory *dir, const struct name_change *c, struct disk_inode *inode);
struct blob *inode_content(struct disk_inode *n);
void inode_change(struct disk_inode *n, struct pending p);
void inode_sync(struct disk_inode *n);
void inode_drop(struct disk_inode *n); /* what a failed sync covered */
void disk_change_name(struct simdisk *d, enum name_change_kind kind, const char *from, const char *to,
                      struct disk_inode *inode);
bool disk_has_room(const struct simdisk *d, const struct disk_inode *n, uint64_t size);
/* Only with no change of names undecided: then what no name leads to, never comes back. */
void disk_collect(struct simdisk *d);
void pending_apply(struct blob **b, uint64_t *size, const struct pending *p);
void simdisk_clear(struct simdisk *d);

#endif
