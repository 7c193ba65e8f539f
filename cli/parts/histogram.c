#include "histogram.h"

#include <math.h>

#define SUB_COUNT (1u << HISTOGRAM_SUB_BITS)

/* Values below 64 have a bucket each; above, the highest set bit chooses a row, the next six bits the bucket in it. */
static unsigned bucket_of(uint64_t value)
{
    if (value < SUB_COUNT)
        return (unsigned)value;
    unsigned shift = 63u - (unsigned)__builtin_clzll(value) - HISTOGRAM_SUB_BITS;
    return ((shift + 1) << HISTOGRAM_SUB_BITS) + (unsigned)(value >> shift) - SUB_COUNT;
}

static uint64_t bucket_end(unsigned bucket)
{
    if (bucket < SUB_COUNT)
        return bucket;
    unsigned shift = (bucket >> HISTOGRAM_SUB_BITS) - 1;
    uint64_t first = (uint64_t)((bucket & (SUB_COUNT - 1)) + SUB_COUNT) << shift;
    return first + ((1ull << shift) - 1);
}

void histogram_add(struct histogram *h, uint64_t value, uint64_t count)
{
    h->counts[bucket_of(value)] += count;
    h->total += count;
    if (value > h->max && count > 0)
        h->max = value;
}

uint64_t histogram_percentile(const struct histogram *h, double percent)
{
    if (h->total == 0)
        return 0;
    uint64_t rank = (uint64_t)ceil((double)h->total * percent / 100.0);
    if (rank < 1)
        rank = 1;
    uint64_t seen = 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += h->counts[i];
        if (seen >= rank)
            return bucket_end(i) < h->max ? bucket_end(i) : h->max;
    }
    return h->max;
}
