/* The schedule's entries in memory: a binary heap of values, by steady time. */
#include <stdlib.h>
#include <string.h>

#include "schedule_internal.h"

enum { SELECT_ROUNDS = 64, SELECT_SMALL = 32, FIRST_CAP = 64 };

int schedule_compare(const struct schedule_entry *a, const struct schedule_entry *b)
{
    if (a->at_ms != b->at_ms) {
        return a->at_ms < b->at_ms ? -1 : 1;
    }
    if (a->seq != b->seq) {
        return a->seq < b->seq ? -1 : 1;
    }
    if (a->queue != b->queue) {
        return a->queue < b->queue ? -1 : 1;
    }
    return (a->kind > b->kind) - (a->kind < b->kind);
}

static int compare(const void *a, const void *b)
{
    return schedule_compare(a, b);
}

bool schedule_memory_reserve(struct schedule_memory *m, size_t len)
{
    if (len <= m->cap) {
        return true;
    }
    size_t cap = m->cap ? m->cap : FIRST_CAP;
    while (cap < len) {
        cap *= 2;
    }
    struct schedule_entry *entries = realloc(m->entries, cap * sizeof *entries);
    if (!entries) {
        return false;
    }
    m->entries = entries;
    m->cap = cap;
    return true;
}

void schedule_memory_shrink(struct schedule_memory *m, size_t limit)
{
    size_t cap = limit + limit / 4;
    if (m->cap > 4 * limit && m->len <= cap) { /* after a flood */
        struct schedule_entry *entries = realloc(m->entries, cap * sizeof *entries);
        if (entries) {
            m->entries = entries;
            m->cap = cap;
        }
    }
}

/* Equal steady times come out in the order of what is written down, so that nothing hangs on the heap's history. */
static bool comes_before(const struct schedule_entry *a, const struct schedule_entry *b)
{
    return a->steady_ms != b->steady_ms ? a->steady_ms < b->steady_ms : schedule_compare(a, b) < 0;
}

static void sift_down(struct schedule_memory *m, size_t i, struct schedule_entry entry)
{
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= m->len) {
            break;
        }
        if (child + 1 < m->len && comes_before(&m->entries[child + 1], &m->entries[child])) {
            child++;
        }
        if (!comes_before(&m->entries[child], &entry)) {
            break;
        }
        m->entries[i] = m->entries[child];
        i = child;
    }
    m->entries[i] = entry;
}

bool schedule_memory_add(struct schedule_memory *m, const struct schedule_entry *entry)
{
    if (!schedule_memory_reserve(m, m->len + 1)) {
        return false;
    }
    size_t i = m->len++;
    while (!m->loose && i > 0 && comes_before(entry, &m->entries[(i - 1) / 2])) {
        m->entries[i] = m->entries[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    m->entries[i] = *entry;
    return true;
}

struct schedule_entry schedule_memory_pop(struct schedule_memory *m)
{
    assert(m->len && !m->loose);
    struct schedule_entry least = m->entries[0];
    struct schedule_entry last = m->entries[--m->len];
    if (m->len) {
        sift_down(m, 0, last);
    }
    return least;
}

void schedule_memory_order(struct schedule_memory *m)
{
    for (size_t i = m->len / 2; i-- > 0;) {
        sift_down(m, i, m->entries[i]);
    }
    m->loose = false;
}

static void swap(struct schedule_entry *a, struct schedule_entry *b)
{
    struct schedule_entry t = *a;
    *a = *b;
    *b = t;
}

static struct schedule_entry median(const struct schedule_entry *a, const struct schedule_entry *b,
                                    const struct schedule_entry *c)
{
    if (schedule_compare(a, b) > 0) {
        const struct schedule_entry *t = a;
        a = b;
        b = t;
    }
    return schedule_compare(c, a) < 0 ? *a : schedule_compare(b, c) < 0 ? *b : *c;
}

/* Hoare's selection: what comes before entries[k] lies before it. Times that defeat the choice of the pivot are sorted. */
static void select_nth(struct schedule_entry *entries, size_t n, size_t k)
{
    ptrdiff_t low = 0, high = (ptrdiff_t)n - 1, nth = (ptrdiff_t)k;
    for (int round = 0; high - low > SELECT_SMALL && round < SELECT_ROUNDS; round++) {
        struct schedule_entry pivot = median(&entries[low], &entries[low + (high - low) / 2], &entries[high]);
        ptrdiff_t i = low, j = high;
        while (i <= j) {
            while (schedule_compare(&entries[i], &pivot) < 0) {
                i++;
            }
            while (schedule_compare(&entries[j], &pivot) > 0) {
                j--;
            }
            if (i <= j) {
                swap(&entries[i++], &entries[j--]);
            }
        }
        if (nth <= j) {
            high = j;
        } else if (nth >= i) {
            low = i;
        } else {
            return;
        }
    }
    qsort(entries + low, (size_t)(high - low + 1), sizeof *entries, compare);
}

size_t schedule_memory_split(struct schedule_memory *m, size_t n)
{
    assert(n && n <= m->len);
    size_t from = m->len - n;
    m->loose = true;
    select_nth(m->entries, m->len, from);
    struct schedule_entry first = m->entries[from];
    for (size_t i = from; i-- > 0;) {
        if (schedule_compare(&m->entries[i], &first) == 0) {
            swap(&m->entries[i], &m->entries[--from]);
        }
    }
    return from;
}

void schedule_memory_drop_from(struct schedule_memory *m, const struct schedule_entry *cut)
{
    size_t kept = 0;
    for (size_t i = 0; i < m->len; i++) {
        if (schedule_compare(&m->entries[i], cut) < 0) {
            m->entries[kept++] = m->entries[i];
        }
    }
    m->loose |= kept != m->len;
    m->len = kept;
}

static int compare_for_sort(const void *a, const void *b)
{
    return schedule_compare(a, b);
}

void schedule_memory_drop_these(struct schedule_memory *m, struct schedule_entry *entries, size_t n)
{
    size_t kept = 0;
    qsort(entries, n, sizeof *entries, compare_for_sort);
    for (size_t i = 0; i < m->len; i++) {
        if (!bsearch(&m->entries[i], entries, n, sizeof *entries, compare_for_sort)) {
            m->entries[kept++] = m->entries[i];
        }
    }
    m->loose |= kept != m->len;
    m->len = kept;
}

void schedule_memory_drop_unwanted(struct engine *e, size_t from)
{
    struct schedule_memory *m = &e->schedule->memory;
    size_t kept = from;
    for (size_t i = from; i < m->len; i++) {
        const struct schedule_entry *entry = &m->entries[i];
        if (schedule_wanted(e, (enum schedule_kind)entry->kind, entry->queue, entry->seq, entry->at_ms)) {
            m->entries[kept++] = *entry;
        }
    }
    m->loose |= kept != m->len;
    m->len = kept;
}

/* ---- order for runs ---------------------------------------------------------------------------------------------------- */

int64_t schedule_shift(const struct schedule_entry *entry)
{
    return schedule_steady(entry->at_ms, 0) - entry->steady_ms;
}

static int compare_for_runs(const void *a, const void *b)
{
    int64_t x = schedule_shift(a), y = schedule_shift(b);
    return x != y ? (x < y ? -1 : 1) : schedule_compare(a, b);
}

/* By at_ms, byte by byte from the lowest; bytes in which all agree cost nothing. Four times as fast as qsort, which matters:
   nothing is fired meanwhile. */
static void radix_sort(struct schedule_entry *entries, struct schedule_entry *other, size_t n)
{
    uint32_t counts[8][256] = {{0}};
    struct schedule_entry *from = entries;
    for (size_t i = 0; i < n; i++) {
        for (unsigned byte = 0; byte < 8; byte++) {
            counts[byte][entries[i].at_ms >> (8 * byte) & 0xff]++;
        }
    }
    for (unsigned byte = 0; byte < 8; byte++) {
        uint32_t *count = counts[byte], at = 0;
        if (count[from[0].at_ms >> (8 * byte) & 0xff] == n) {
            continue;
        }
        for (unsigned digit = 0; digit < 256; digit++) {
            uint32_t here = count[digit];
            count[digit] = at;
            at += here;
        }
        for (size_t i = 0; i < n; i++) {
            other[count[from[i].at_ms >> (8 * byte) & 0xff]++] = from[i];
        }
        struct schedule_entry *t = from;
        from = other;
        other = t;
    }
    if (from != entries) {
        memcpy(entries, from, n * sizeof *entries);
    }
}

void schedule_memory_sort_for_runs(struct schedule_memory *m, size_t from)
{
    struct schedule_entry *entries = m->entries + from, *other;
    size_t n = m->len - from;
    bool jumped = false;
    for (size_t i = 1; i < n && !jumped; i++) {
        jumped = schedule_shift(&entries[i]) != schedule_shift(&entries[0]);
    }
    if (jumped || !(other = malloc(n * sizeof *other))) {
        qsort(entries, n, sizeof *entries, compare_for_runs);
        return;
    }
    radix_sort(entries, other, n);
    free(other);
}
