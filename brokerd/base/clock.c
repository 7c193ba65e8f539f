#include "clock.h"

#include <time.h>

/* CLOCK_BOOTTIME would count a suspended machine's sleep as lease time; CLOCK_MONOTONIC does not, and so a laptop that
   wakes up does not find every lease expired. */
struct now clock_now(void)
{
    struct timespec mono, wall;
    clock_gettime(CLOCK_MONOTONIC, &mono);
    clock_gettime(CLOCK_REALTIME, &wall);
    return (struct now){
        .mono = {(uint64_t)mono.tv_sec * 1000u + (uint64_t)mono.tv_nsec / 1000000u},
        .wall = {(uint64_t)wall.tv_sec * 1000u + (uint64_t)wall.tv_nsec / 1000000u},
    };
}

uint64_t clock_mono_us(void)
{
    struct timespec mono;
    clock_gettime(CLOCK_MONOTONIC, &mono);
    return (uint64_t)mono.tv_sec * 1000000u + (uint64_t)mono.tv_nsec / 1000u;
}
