/* A store that only remembers: the engine's storage for fuzzing, with a small bound. Everything is durable when committed. */
#ifndef MEMORY_STORE_H
#define MEMORY_STORE_H

#include "engine.h"

struct memory_message {
    uint32_t queue;
    uint64_t seq;
    uint8_t *record; /* owned; NULL: dead */
    uint32_t padded_len;
};

struct memory_store {
    struct memory_message messages[512];
    uint32_t count;
    uint64_t index; /* of the filling batch */
    struct store_stats stats;
    uint8_t *graveyard[512]; /* dead, but perhaps borrowed until the turn ends */
    uint32_t buried;
};

extern const struct store_ops memory_store_ops;
void memory_store_init(struct memory_store *s);
void memory_store_release(struct memory_store *s);
/* The turn's end: the filling batch is durable. Returns its index, for engine_committed. */
uint64_t memory_store_commit(struct memory_store *s);

#endif
