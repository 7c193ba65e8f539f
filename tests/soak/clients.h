/* The load: producers and consumers, a thread and a connection each, which write down in the ledger what they were told. */
#ifndef CLIENTS_H
#define CLIENTS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "ledger.h"

#define SOAK_TIMEOUT_MS 60000 /* of any one call: a restart of the broker takes far less */

struct load { /* shared by all clients of a run */
    struct ledger *ledger;
    const char *tcp_url, *unix_url;
    unsigned rate; /* messages a second and producer */
    _Atomic bool stop_producers, stop_consumers;
    _Atomic uint64_t in_doubt;   /* acks whose answer was lost or that came too late */
    _Atomic uint64_t duplicates; /* retries that the broker recognised */
};

struct client {
    struct load *load;
    const char *queue;
    unsigned number; /* producer's number, or consumer's */
    unsigned group;  /* index into soak_groups */
    uint64_t random; /* state */
    pthread_t thread;
};

extern const char *const soak_groups[LEDGER_GROUPS];

void *produce(void *client); /* thread functions */
void *consume(void *client);

uint64_t next_random(uint64_t *state);

#endif
