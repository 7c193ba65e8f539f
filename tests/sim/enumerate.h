/*
 * Owns:            short histories whose every crash is tried: at each disk call, with each subset of what was not synced.
 * May use:         history.h, world.h.
 * Never knows:     which of the states are dangerous.
 * Start reading at enumerate_run.
 */
#ifndef SIM_ENUMERATE_H
#define SIM_ENUMERATE_H

#include "history.h"

struct enumerate_options {
    bool trace;
    enum bug plant;
    uint64_t states;       /* go on until so many different disks were recovered */
    uint64_t seconds;      /* ... or so long; 0: no limit */
    uint64_t only_variant; /* 0: all */
};

struct enumerate_result {
    char failure[600];
    uint64_t variant, cut_after; /* of the failure */
    uint64_t variants, cuts, states, recoveries, recovery_cuts, drains;
};

/* true: every state kept every promise. `progress` is called now and then. */
bool enumerate_run(const struct enumerate_options *options, struct enumerate_result *result,
                   bool (*progress)(const struct enumerate_result *));

#endif
