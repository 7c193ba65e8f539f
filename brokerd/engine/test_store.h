/* A store in memory, for tests of the engine: every append is a batch of its own, durable when the test says so. */
#ifndef ENGINE_TEST_STORE_H
#define ENGINE_TEST_STORE_H

#include "engine.h"

struct test_record {
    uint8_t *bytes;
    uint32_t padded;
    bool dead;
};

struct test_store {
    struct test_record *records; /* record i is batch i + 1 */
    size_t count, cap;
    broker_error refuse; /* answer to every append, if not OK */
    bool pending;        /* reads are pending */
    uint64_t damaged;    /* seq that cannot be read */
    uint64_t dead_twice; /* messages reported dead again: must stay 0 */
};

extern const struct store_ops test_store_ops;
void test_store_init(struct test_store *s);
void test_store_release(struct test_store *s);

#endif
