/*
 * Owns:            what the machine says: clocks, CPU time of a process and of all, load, resident memory.
 * May use:         libc, /proc.
 * Never knows:     the broker.
 * Start reading at struct machine_sample.
 */
#ifndef CLI_MACHINE_H
#define CLI_MACHINE_H

#include <stdint.h>
#include <sys/types.h>

uint64_t machine_now_ns(void); /* monotonic */
uint64_t machine_cpu_us(void); /* of this process, user and system */
/* Of another process, from /proc; 0 if it cannot be read. */
uint64_t machine_process_cpu_us(pid_t pid);
uint64_t machine_process_rss_bytes(pid_t pid);

struct machine_sample {
    uint64_t busy_us, all_us; /* summed over all processors since start-up; waiting for a disk is not busy */
    double load1;             /* run queue, one-minute mean */
    unsigned processors;
};
void machine_sample_take(struct machine_sample *s);
/* Share (0..1) of all processors between two samples that was busy with other things than `ours_us` of CPU time. */
double machine_other_share(const struct machine_sample *before, const struct machine_sample *after, uint64_t ours_us);

#endif
