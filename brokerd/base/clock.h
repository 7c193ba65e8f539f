/* Time as types: a monotonic and a wall reading cannot be mixed up. Only main.c, net/ and the log writer read a clock. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

typedef struct monotime {
    uint64_t ms;
} monotime; /* since some start; never jumps: leases, waits */
typedef struct walltime {
    uint64_t ms;
} walltime; /* Unix time; may jump: schedules, time stamps */

struct now {
    monotime mono;
    walltime wall;
};

#define MONOTIME_NEVER ((monotime){UINT64_MAX})

struct now clock_now(void);   /* reads both clocks */
uint64_t clock_mono_us(void); /* microseconds, for measuring */

#endif
