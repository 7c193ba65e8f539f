/* A store in memory, for tests of the engine: every append is a batch of its own, durable when the test says so. The index
   of a batch is the number of records up to its end. */
#ifndef ENGINE_TEST_STORE_H
#define ENGINE_TEST_STORE_H

#include "engine.h"

struct test_record {
    uint8_t *bytes;
    uint32_t padded;
    bool dead;
    bool *further_dead; /* owned; of a RECORD_ROUTE: of each further place of the message behind it */
    uint32_t further;
};

struct test_store {
    struct test_record *records; /* in the order of the log, routes too */
    size_t count, cap;
    broker_error refuse; /* answer to every append, if not OK */
    bool pending;        /* reads are pending */
    uint64_t damaged;    /* seq that cannot be read */
    uint64_t dead_twice; /* messages reported dead again: must stay 0 */
};

extern const struct store_ops test_store_ops;
void test_store_init(struct test_store *s);
void test_store_release(struct test_store *s);
void test_store_forget_dead(struct test_store *s); /* before a replay of everything: it reports them anew */

#endif
