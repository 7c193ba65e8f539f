/*
 * Owns:            a histogram with logarithmic buckets, as HdrHistogram has them: 64 buckets for each power of two, so
 *                  that a value is off by at most 1.6 %, in fixed memory.
 * May use:         libc.
 * Never knows:     clocks.
 * Start reading at histogram_add.
 */
#ifndef CLI_HISTOGRAM_H
#define CLI_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_SUB_BITS 6
#define HISTOGRAM_BUCKETS  ((64 - HISTOGRAM_SUB_BITS + 1) << HISTOGRAM_SUB_BITS)

struct histogram { /* zeroed: empty */
    uint64_t counts[HISTOGRAM_BUCKETS];
    uint64_t total, max;
};

void histogram_add(struct histogram *h, uint64_t value, uint64_t count);
/*
 * histogram_percentile: the value that `percent` (0..100) of all do not exceed, rounded up to its bucket's end; 0:
 * empty.
 */
uint64_t histogram_percentile(const struct histogram *h, double percent);

#endif
