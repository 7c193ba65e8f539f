/* A histogram of times with fixed bounds, as Prometheus wants them. */
#ifndef BASE_HISTOGRAM_H
#define BASE_HISTOGRAM_H

#include <stdint.h>

/* Upper bounds in microseconds; a last bucket takes what is over them. */
#define HISTOGRAM_BOUNDS_US                                                                                            \
    {                                                                                                                  \
        50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000, 500000, 1000000, 2000000, 5000000    \
    }
enum { HISTOGRAM_BOUNDS = 16 };
extern const uint64_t histogram_bounds_us[HISTOGRAM_BOUNDS];

struct histogram {
    uint64_t counts[HISTOGRAM_BOUNDS + 1]; /* not added up */
    uint64_t count, sum_us, max_us;
};
void histogram_add(struct histogram *h, uint64_t us);
void histogram_merge(struct histogram *to, const struct histogram *from);
/* The bound under which at least `per_mille` of the values lie; 0: no values; max_us if they lie over the last bound. */
uint64_t histogram_quantile_us(const struct histogram *h, unsigned per_mille);

#endif
