/* A set of 64-bit sequence numbers: roaring bitmaps (32 bit) under their upper halves. Empty sets own no memory. */
#ifndef ENGINE_SEQSET_H
#define ENGINE_SEQSET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"

struct seqset_part;

struct seqset {
    struct seqset_part *parts; /* rising by upper half */
    uint32_t count, cap;
    uint32_t adds;  /* since the bitmaps were last run-compressed */
    uint64_t least; /* a bound: nothing below is in the set; exact after a drop */
    uint64_t most;  /* the greatest member; 0: empty */
};

void seqset_init(struct seqset *s);
void seqset_release(struct seqset *s); /* leaves an empty, usable set */
static inline bool seqset_empty(const struct seqset *s)
{
    return s->most == 0;
}
bool seqset_add(struct seqset *s, uint64_t first, uint64_t last); /* first >= 1; false: no memory, set unchanged */
void seqset_remove(struct seqset *s, uint64_t first, uint64_t last);
/* Whole sets at once. add_all: false: no memory, set unchanged or partly united. */
bool seqset_add_all(struct seqset *s, const struct seqset *other);
void seqset_remove_all(struct seqset *s, const struct seqset *other);
bool seqset_has(const struct seqset *s, uint64_t seq);
void seqset_drop_to(struct seqset *s, uint64_t last); /* remove everything <= last */
/* The least member >= from; UINT64_MAX if there is none. */
uint64_t seqset_next(const struct seqset *s, uint64_t from);
/* The least number >= from that is not in the set. */
uint64_t seqset_next_absent(const struct seqset *s, uint64_t from);
uint64_t seqset_count(const struct seqset *s, uint64_t first, uint64_t last);
uint64_t seqset_count_common(const struct seqset *a, const struct seqset *b); /* members of both */

/* u32 parts, then per part u32 upper half, u32 length, roaring's portable format. */
bool seqset_save(const struct seqset *s, struct buf *out);
/* Bytes used, or 0: malformed. The set must be empty. */
size_t seqset_load(struct seqset *s, const uint8_t *bytes, size_t len);

#endif
