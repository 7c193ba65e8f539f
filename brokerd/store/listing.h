/* The data directory's files, and checkpoints read back: for recovery and fsck. */
#ifndef STORE_LISTING_H
#define STORE_LISTING_H

#include "format.h"
#include "store.h"

struct listed {
    enum file_kind kind;
    uint64_t number;
    char name[FILE_NAME_BYTES];
};

struct listing {
    struct listed *files; /* owned; by kind, then number */
    size_t n, cap;
    int error;
};

/* 0 or errno. What lies in subdirectories, and names that are too long to be ours, are left out. listing_release always. */
int listing_read(struct listing *l, const struct disk_ops *ops, void *disk);
void listing_release(struct listing *l);
const struct listed *listing_find(const struct listing *l, enum file_kind kind, uint64_t number);

struct checkpoint_image {
    struct checkpoint_head head;
    uint8_t *bytes; /* owned: the whole file */
    uint64_t size;
    const uint8_t *store, *engine; /* within */
};

/* 0; EBADMSG: damaged; EPROTO: another version; or errno. checkpoint_release_image always. */
int checkpoint_read(struct checkpoint_image *c, const struct disk_ops *ops, void *disk, const char *name,
                    const char **what);
void checkpoint_release_image(struct checkpoint_image *c);
struct checkpoint_segment checkpoint_image_segment(const struct checkpoint_image *c, uint32_t i);
/* Runs one by one: *at starts at 0; false: no more. `times` (may be NULL) gets where its time blocks are. */
bool checkpoint_image_run(const struct checkpoint_image *c, uint64_t *at, struct checkpoint_run *run,
                          const uint8_t **times);

#endif
