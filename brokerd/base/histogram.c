#include "histogram.h"

const uint64_t histogram_bounds_us[HISTOGRAM_BOUNDS] = HISTOGRAM_BOUNDS_US;

void histogram_add(struct histogram *h, uint64_t us)
{
    int i = 0;
    while (i < HISTOGRAM_BOUNDS && us > histogram_bounds_us[i])
        i++;
    h->counts[i]++;
    h->count++;
    h->sum_us += us;
    if (us > h->max_us)
        h->max_us = us;
}

void histogram_merge(struct histogram *to, const struct histogram *from)
{
    for (int i = 0; i <= HISTOGRAM_BOUNDS; i++)
        to->counts[i] += from->counts[i];
    to->count += from->count;
    to->sum_us += from->sum_us;
    if (from->max_us > to->max_us)
        to->max_us = from->max_us;
}

uint64_t histogram_quantile_us(const struct histogram *h, unsigned per_mille)
{
    uint64_t wanted = (h->count * per_mille + 999) / 1000, seen = 0;
    if (h->count == 0)
        return 0;
    for (int i = 0; i < HISTOGRAM_BOUNDS; i++) {
        seen += h->counts[i];
        if (seen >= wanted)
            return histogram_bounds_us[i] < h->max_us ? histogram_bounds_us[i] : h->max_us;
    }
    return h->max_us;
}
