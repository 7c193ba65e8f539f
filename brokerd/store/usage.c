/*
 * What the index can tell without reading: how much a queue holds, what retention would let go, where a time is. Times are
 * kept per block of messages: a block ends when its time step is over, and as blocks become too many, neighbours are merged
 * and the step doubles. So few messages are told apart to the millisecond, and many cost no more.
 */
#include "store_internal.h"

bool times_reserve(struct run_detail *d)
{
    if (d->time_len < d->time_cap || d->time_cap >= TIMES_MAX)
        return true;
    uint32_t cap = d->time_cap ? d->time_cap * 2 : 1;
    struct time_block *times = realloc(d->times, cap * sizeof *times);
    if (!times)
        return false;
    d->times = times;
    d->time_cap = cap;
    return true;
}

static void times_halve(struct run_detail *d)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < d->time_len; i += 2) {
        struct time_block b = d->times[i];
        if (i + 1 < d->time_len && d->times[i + 1].max_ms > b.max_ms)
            b.max_ms = d->times[i + 1].max_ms;
        d->times[n++] = b;
    }
    d->time_len = n;
    d->time_step_ms = d->time_step_ms ? d->time_step_ms * 2 : 2;
}

void times_add(struct run_detail *d, uint32_t entry, uint64_t time_ms)
{
    /* A clock set back begins no block: the block's greatest time stands for it. */
    if (d->time_len && time_ms <= d->time_start_ms + d->time_step_ms) {
        struct time_block *last = &d->times[d->time_len - 1];
        if (time_ms > last->max_ms)
            last->max_ms = time_ms;
        return;
    }
    if (d->time_len == TIMES_MAX)
        times_halve(d);
    d->times[d->time_len++] = (struct time_block){entry, time_ms};
    d->time_start_ms = time_ms;
}

void times_seal(struct run_detail *d, uint32_t count)
{
    uint32_t keep = count / TIMES_SEALED_RUN;
    while (d->time_len > (keep < TIMES_SEALED_MAX ? keep : TIMES_SEALED_MAX))
        times_halve(d);
    if (d->time_len < d->time_cap && d->time_len) {
        struct time_block *times = realloc(d->times, d->time_len * sizeof *times);
        if (times) {
            d->times = times;
            d->time_cap = d->time_len;
        }
    }
}

/* Entries of `r` before the first that may have been accepted at or after time_ms. */
static uint32_t entries_before(struct store *s, const struct run *r, uint64_t time_ms)
{
    const struct run_detail *d = r->detail;
    if (!d || d->time_len == 0)
        return segment_find(s, r->segment)->max_time_ms < time_ms ? r->count : 0;
    for (uint32_t i = 0; i < d->time_len; i++) {
        if (d->times[i].max_ms >= time_ms)
            return d->times[i].entry;
    }
    return r->count;
}

uint64_t index_seq_at_time(struct store *s, uint32_t queue, uint64_t time_ms)
{
    struct queue_index *q = index_find(s, queue);
    for (uint32_t i = 0; q && i < q->run_len; i++) {
        const struct run *r = queue_run(q, i);
        uint32_t before = r->live ? entries_before(s, r, time_ms) : r->count;
        if (before < r->count) {
            uint64_t seq = r->first + before;
            return seq > q->oldest ? seq : q->oldest;
        }
    }
    return UINT64_MAX;
}

static bool entry_is_live(const struct entry *e)
{
    return e->length && !(e->length & ENTRY_DEAD);
}

void index_usage(struct store *s, uint32_t queue, uint64_t *messages, uint64_t *bytes, uint64_t *oldest_seq)
{
    struct queue_index *q = index_find(s, queue);
    *messages = *bytes = *oldest_seq = 0;
    if (!q || q->messages == 0)
        return;
    uint32_t i = 0;
    while (queue_run(q, i)->live == 0)
        i++;
    const struct run *r = queue_run(q, i);
    if (q->oldest < r->first)
        q->oldest = r->first;
    if (run_is_open(r)) {
        while (q->oldest < run_last(r) && !entry_is_live(&r->detail->entries[q->oldest - r->first]))
            q->oldest++;
    }
    *messages = q->messages;
    *bytes = q->bytes;
    *oldest_seq = q->oldest;
}

/* The block that entry `i` of `r` lies in ends here; as far as the index knows. */
static uint64_t time_of_entry(struct store *s, const struct run *r, uint32_t i)
{
    const struct run_detail *d = r->detail;
    uint32_t low = 0, high = d ? d->time_len : 0;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (d->times[middle].entry <= i)
            low = middle;
        else
            high = middle;
    }
    return high ? d->times[low].max_ms : segment_find(s, r->segment)->max_time_ms;
}

uint64_t index_oldest_ms(struct store *s, uint32_t queue)
{
    uint64_t messages, bytes, oldest;
    index_usage(s, queue, &messages, &bytes, &oldest);
    if (!oldest)
        return 0;
    struct queue_index *q = index_find(s, queue);
    const struct run *r = queue_run(q, index_search(q, oldest));
    if (run_is_open(r)) {
        const uint8_t *record = tail_find(s, r->segment, (uint64_t)r->detail->entries[oldest - r->first].place * 8);
        if (record)
            return get_u64(record + 24);
    }
    return time_of_entry(s, r, (uint32_t)(oldest - r->first));
}

/* ---- retention ------------------------------------------------------------------------------------------------------ */

struct excess { /* what a queue holds beyond its limits */
    uint64_t messages, bytes;
};

/* How many entries of `r` from its start can go without going below the limits. */
static uint32_t entries_in_excess(const struct queue_index *q, const struct run *r, struct excess x)
{
    if (!run_is_open(r)) {
        /* Retention lets go from the front: if all from q->oldest on are live, counting is exact. */
        uint64_t from = q->oldest > r->first ? q->oldest : r->first;
        if (run_last(r) - from + 1 != r->live || x.messages == 0)
            return 0;
        return (uint32_t)(from - r->first + x.messages);
    }
    uint32_t messages = 0, bytes_end = 0, messages_end = 0;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < r->count; i++) {
        const struct entry *e = &r->detail->entries[i];
        if (!entry_is_live(e))
            continue;
        bytes += pad8(entry_length(e));
        messages++;
        if (bytes <= x.bytes)
            bytes_end = i + 1;
        if (messages <= x.messages)
            messages_end = i + 1;
        if (bytes > x.bytes && messages > x.messages)
            break;
    }
    return bytes_end > messages_end ? bytes_end : messages_end;
}

static uint64_t take(uint64_t from, uint64_t n)
{
    return from > n ? from - n : 0;
}

uint64_t index_trim_point(struct store *s, uint32_t queue, uint64_t before_time_ms, uint64_t max_bytes,
                          uint64_t max_messages)
{
    struct queue_index *q = index_find(s, queue);
    uint64_t point = 0;
    if (!q)
        return 0;
    struct excess x = {max_messages ? take(q->messages, max_messages) : 0, max_bytes ? take(q->bytes, max_bytes) : 0};
    for (uint32_t i = 0; i < q->run_len; i++) {
        const struct run *r = queue_run(q, i);
        if (r->live == 0)
            continue;
        uint32_t old = before_time_ms ? entries_before(s, r, before_time_ms) : 0;
        bool whole = r->live <= x.messages || r->bytes <= x.bytes || old == r->count;
        uint32_t n = r->count;
        if (!whole) {
            n = entries_in_excess(q, r, x);
            n = n > old ? n : old;
        }
        if (n && r->first + n - 1 >= q->oldest)
            point = r->first + n - 1;
        if (!whole)
            break;
        x.messages = take(x.messages, r->live);
        x.bytes = take(x.bytes, r->bytes);
    }
    return point;
}
