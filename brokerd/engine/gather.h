/* Between gather.c, which finds what a group can hand out next, and dispatch.c, which hands it out. */
#ifndef ENGINE_GATHER_H
#define ENGINE_GATHER_H

#include "engine_internal.h"

enum source {
    SOURCE_FRESH,    /* from the cursor on */
    SOURCE_RETURNED, /* came back */
    SOURCE_LANE,     /* a special */
    SOURCE_TURN      /* was parked for its key */
};

struct batch {
    uint32_t count, fresh; /* of these: SOURCE_FRESH */
    uint64_t bytes, max_bytes;
    uint64_t cursor; /* where the group's cursor goes once they are handed out, if some are fresh */
    struct stored_message messages[LEASE_MESSAGES_MAX];
    uint32_t attempts[LEASE_MESSAGES_MAX];
    uint32_t keys[LEASE_MESSAGES_MAX];
    uint8_t sources[LEASE_MESSAGES_MAX];
    struct returned *returned[LEASE_MESSAGES_MAX]; /* taken out of group->ready */
};

enum progress {
    PROGRESS_NONE,  /* nothing to hand out, or it must be waited for */
    PROGRESS_SOME,  /* a batch was gathered */
    PROGRESS_AGAIN, /* nothing was gathered, but the position moved: look again */
};

static inline uint64_t fresh_waiting(const struct group *g)
{
    return g->queue->visible >= g->cursor ? g->queue->visible - g->cursor + 1 : 0;
}

static inline void batch_init(struct batch *b, uint64_t max_bytes)
{
    b->count = b->fresh = 0;
    b->bytes = 0;
    b->max_bytes = max_bytes;
}

/* Up to `max` messages, in the order in which they should go. They have left where they waited: batch_taken or batch_undo. */
enum progress gather(struct engine *e, struct group *g, struct batch *b, uint32_t max);
void batch_taken(struct group *g, struct batch *b);
void batch_undo(struct group *g, struct batch *b);

#endif
