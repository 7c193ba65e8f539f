#include "seqset.h"

#include <roaring/roaring.h>
#include <stdlib.h>
#include <string.h>

#include "wire.h"

struct seqset_part {
    uint32_t upper;
    roaring_bitmap_t *bits;
};

enum {
    ADDS_BETWEEN_COMPRESSIONS = 65536,
    PROBES = 16, /* seqs that a search tries one by one: its iterator first goes over a whole container's 8 KiB */
};

void seqset_init(struct seqset *s)
{
    memset(s, 0, sizeof *s);
}

void seqset_release(struct seqset *s)
{
    for (uint32_t i = 0; i < s->count; i++) {
        roaring_bitmap_free(s->parts[i].bits);
    }
    free(s->parts);
    seqset_init(s);
}

/* The first part whose upper half is not less than `upper`. */
static uint32_t part_at_least(const struct seqset *s, uint32_t upper)
{
    uint32_t i = 0;
    while (i < s->count && s->parts[i].upper < upper) {
        i++;
    }
    return i;
}

static roaring_bitmap_t *part_make(struct seqset *s, uint32_t upper)
{
    uint32_t i = part_at_least(s, upper);
    if (i < s->count && s->parts[i].upper == upper) {
        return s->parts[i].bits;
    }
    if (s->count == s->cap) {
        uint32_t cap = s->cap ? s->cap * 2 : 1;
        struct seqset_part *parts = realloc(s->parts, cap * sizeof *parts);
        if (!parts) {
            return NULL;
        }
        s->parts = parts;
        s->cap = cap;
    }
    roaring_bitmap_t *bits = roaring_bitmap_create();
    if (!bits) {
        return NULL;
    }
    memmove(&s->parts[i + 1], &s->parts[i], (s->count - i) * sizeof *s->parts);
    s->parts[i] = (struct seqset_part){.upper = upper, .bits = bits};
    s->count++;
    return bits;
}

bool seqset_add(struct seqset *s, uint64_t first, uint64_t last)
{
    for (uint64_t at = first; at <= last;) {
        uint64_t end = at | UINT32_MAX;
        if (end > last) {
            end = last;
        }
        roaring_bitmap_t *bits = part_make(s, (uint32_t)(at >> 32));
        if (!bits) {
            return false;
        }
        if (at == end) { /* what comes one by one is many times faster so */
            roaring_bitmap_add(bits, (uint32_t)at);
        } else {
            roaring_bitmap_add_range_closed(bits, (uint32_t)at, (uint32_t)end);
        }
        if (end == UINT64_MAX) {
            break;
        }
        at = end + 1;
    }
    if (seqset_empty(s) || first < s->least) {
        s->least = first;
    }
    if (last > s->most) {
        s->most = last;
    }
    if (++s->adds >= ADDS_BETWEEN_COMPRESSIONS) {
        s->adds = 0;
        for (uint32_t i = 0; i < s->count; i++) {
            roaring_bitmap_run_optimize(s->parts[i].bits);
        }
    }
    return true;
}

bool seqset_has(const struct seqset *s, uint64_t seq)
{
    if (seq > s->most || seq < s->least) {
        return false;
    }
    uint32_t i = part_at_least(s, (uint32_t)(seq >> 32));
    return i < s->count && s->parts[i].upper == seq >> 32 && roaring_bitmap_contains(s->parts[i].bits, (uint32_t)seq);
}

static void part_remove(struct seqset *s, uint32_t i)
{
    roaring_bitmap_free(s->parts[i].bits);
    memmove(&s->parts[i], &s->parts[i + 1], (s->count - i - 1) * sizeof *s->parts);
    s->count--;
}

void seqset_drop_to(struct seqset *s, uint64_t last)
{
    if (seqset_empty(s) || last < s->least) {
        return;
    }
    if (last >= s->most) {
        seqset_release(s);
        return;
    }
    uint32_t whole = part_at_least(s, (uint32_t)(last >> 32));
    for (uint32_t i = 0; i < whole; i++) {
        roaring_bitmap_free(s->parts[i].bits);
    }
    s->count -= whole;
    memmove(s->parts, s->parts + whole, s->count * sizeof *s->parts);
    if (s->count && s->parts[0].upper == last >> 32) {
        roaring_bitmap_remove_range_closed(s->parts[0].bits, 0, (uint32_t)last);
        if (roaring_bitmap_is_empty(s->parts[0].bits)) {
            part_remove(s, 0);
        }
    }
    s->least = last + 1;
}

static void find_bounds(struct seqset *s)
{
    if (s->count == 0) {
        seqset_release(s);
        return;
    }
    const struct seqset_part *end = &s->parts[s->count - 1];
    s->least = (uint64_t)s->parts[0].upper << 32 | roaring_bitmap_minimum(s->parts[0].bits);
    s->most = (uint64_t)end->upper << 32 | roaring_bitmap_maximum(end->bits);
}

void seqset_remove(struct seqset *s, uint64_t first, uint64_t last)
{
    if (seqset_empty(s) || first > s->most || last < s->least) {
        return;
    }
    uint32_t i = part_at_least(s, (uint32_t)(first >> 32));
    while (i < s->count && s->parts[i].upper <= last >> 32) {
        uint64_t base = (uint64_t)s->parts[i].upper << 32, top = base | UINT32_MAX;
        uint64_t from = first > base ? first : base, to = last < top ? last : top;
        if (from == to) {
            roaring_bitmap_remove(s->parts[i].bits, (uint32_t)from);
        } else {
            roaring_bitmap_remove_range_closed(s->parts[i].bits, (uint32_t)from, (uint32_t)to);
        }
        if (roaring_bitmap_is_empty(s->parts[i].bits)) {
            part_remove(s, i);
        } else {
            i++;
        }
    }
    if (s->count == 0 || last >= s->most) {
        find_bounds(s);
    } else if (first <= s->least) { /* the usual end of a set: only what is behind the range is looked at */
        s->least = seqset_next(s, last + 1);
    }
}

bool seqset_add_all(struct seqset *s, const struct seqset *other)
{
    for (uint32_t i = 0; i < other->count; i++) {
        roaring_bitmap_t *bits = part_make(s, other->parts[i].upper);
        if (!bits) {
            return false;
        }
        roaring_bitmap_or_inplace(bits, other->parts[i].bits);
    }
    if (!seqset_empty(other)) {
        s->least = seqset_empty(s) || other->least < s->least ? other->least : s->least;
        s->most = other->most > s->most ? other->most : s->most;
    }
    return true;
}

void seqset_remove_all(struct seqset *s, const struct seqset *other)
{
    for (uint32_t i = s->count; i > 0; i--) {
        const struct seqset_part *part = &s->parts[i - 1];
        uint32_t j = part_at_least(other, part->upper);
        if (j < other->count && other->parts[j].upper == part->upper) {
            roaring_bitmap_andnot_inplace(part->bits, other->parts[j].bits);
            if (roaring_bitmap_is_empty(part->bits)) {
                part_remove(s, i - 1);
            }
        }
    }
    find_bounds(s);
}

uint64_t seqset_next(const struct seqset *s, uint64_t from)
{
    if (seqset_empty(s) || from > s->most) {
        return UINT64_MAX;
    }
    if (from < s->least) {
        from = s->least; /* which may be there or not: seqset_drop_to */
    }
    uint32_t i = part_at_least(s, (uint32_t)(from >> 32));
    for (uint64_t at = from; i < s->count && at < from + PROBES && at >> 32 == s->parts[i].upper; at++) {
        if (roaring_bitmap_contains(s->parts[i].bits, (uint32_t)at)) {
            return at;
        }
    }
    for (; i < s->count; i++) {
        uint64_t base = (uint64_t)s->parts[i].upper << 32;
        uint32_t low = base < from ? (uint32_t)from : 0;
        roaring_uint32_iterator_t it;
        roaring_init_iterator(s->parts[i].bits, &it);
        if (roaring_move_uint32_iterator_equalorlarger(&it, low)) {
            return base | it.current_value;
        }
    }
    return UINT64_MAX;
}

/* Not roaring_bitmap_contains_range: in 0.2.66 it asserts when the range ends behind the last container. */
static bool bits_has_all(const roaring_bitmap_t *bits, uint64_t from, uint64_t to)
{
    return roaring_bitmap_range_cardinality(bits, from, to) == to - from;
}

/* Within one bitmap: the least value >= from that is absent, by doubling and halving; 2^32 if there is none. */
static uint64_t bits_next_absent(const roaring_bitmap_t *bits, uint64_t from)
{
    const uint64_t end = (uint64_t)UINT32_MAX + 1;
    uint64_t present = from, step = 1; /* [from, present) is present */
    while (present < end) {
        uint64_t to = present + step < end ? present + step : end;
        if (!bits_has_all(bits, present, to)) {
            uint64_t low = present, high = to; /* an absent one is in [low, high) */
            while (high - low > 1) {
                uint64_t middle = low + (high - low) / 2;
                if (bits_has_all(bits, low, middle)) {
                    low = middle;
                } else {
                    high = middle;
                }
            }
            return low;
        }
        present = to;
        step *= 2;
    }
    return end;
}

uint64_t seqset_next_absent(const struct seqset *s, uint64_t from)
{
    while (seqset_has(s, from)) {
        uint32_t i = part_at_least(s, (uint32_t)(from >> 32));
        uint64_t base = (uint64_t)s->parts[i].upper << 32;
        from = base + bits_next_absent(s->parts[i].bits, from - base);
    }
    return from;
}

uint64_t seqset_count(const struct seqset *s, uint64_t first, uint64_t last)
{
    uint64_t n = 0;
    for (uint32_t i = part_at_least(s, (uint32_t)(first >> 32)); i < s->count && first <= last; i++) {
        uint64_t base = (uint64_t)s->parts[i].upper << 32, top = base | UINT32_MAX;
        if (base > last) {
            break;
        }
        uint64_t from = base > first ? base : first, to = top < last ? top : last;
        n += roaring_bitmap_range_cardinality(s->parts[i].bits, from - base, to - base + 1);
    }
    return n;
}

uint64_t seqset_count_common(const struct seqset *a, const struct seqset *b)
{
    uint64_t n = 0;
    for (uint32_t i = 0, k = 0; i < a->count && k < b->count;) {
        if (a->parts[i].upper == b->parts[k].upper) {
            n += roaring_bitmap_and_cardinality(a->parts[i++].bits, b->parts[k++].bits);
        } else if (a->parts[i].upper < b->parts[k].upper) {
            i++;
        } else {
            k++;
        }
    }
    return n;
}

bool seqset_save(const struct seqset *s, struct buf *out)
{
    if (!buf_put_u32(out, s->count)) {
        return false;
    }
    for (uint32_t i = 0; i < s->count; i++) {
        const roaring_bitmap_t *bits = s->parts[i].bits;
        size_t n = roaring_bitmap_portable_size_in_bytes(bits);
        uint8_t *p;
        if (!buf_put_u32(out, s->parts[i].upper) || !buf_put_u32(out, (uint32_t)n) || !(p = buf_reserve(out, n))) {
            return false;
        }
        roaring_bitmap_portable_serialize(bits, (char *)p);
        out->len += n;
    }
    return true;
}

/* ---- loading -------------------------------------------------------------------------------------------------------- */

enum { RUNS_COOKIE = 12347, NO_OFFSETS_BELOW = 4, ARRAY_MAX = 4096, BITSET_BYTES = 8192 };

/* A container's bytes: do its values rise, and are there as many as claimed? *used: how many bytes. */
static bool array_rises(const uint8_t *p, size_t n, uint32_t count, size_t *used)
{
    *used = 2 * (size_t)count;
    bool sound = *used <= n;
    for (uint32_t i = 1; sound && i < count; i++) {
        sound = get_u16(p + 2 * i - 2) < get_u16(p + 2 * i);
    }
    return sound;
}

static bool bitset_counts(const uint8_t *p, size_t n, uint32_t count, size_t *used)
{
    uint32_t found = 0;
    *used = BITSET_BYTES;
    for (size_t i = 0; *used <= n && i < BITSET_BYTES; i += 8) {
        found += (uint32_t)__builtin_popcountll(get_u64(p + i));
    }
    return *used <= n && found == count;
}

static bool runs_rise(const uint8_t *p, size_t n, uint32_t count, size_t *used)
{
    uint32_t runs = n >= 2 ? get_u16(p) : 0, from = 0, found = 0;
    *used = 2 + 4 * (size_t)runs;
    bool sound = runs && *used <= n;
    for (uint32_t i = 0; sound && i < runs; i++) {
        uint32_t first = get_u16(p + 2 + 4 * i), last = first + get_u16(p + 4 + 4 * i);
        sound = first >= from && last <= UINT16_MAX;
        found += last - first + 1;
        from = last + 1;
    }
    return sound && found == count;
}

/*
 * Do the values rise, as many as their containers claim? Else look-ups and counts disagree, and searches do not end. Read from the
 * bytes, for that takes a step per run and not one per value. The format: https://github.com/RoaringBitmap/RoaringFormatSpec
 */
static bool bitmap_rises(const uint8_t *bytes, size_t n)
{
    bool with_runs = n >= 8 && get_u16(bytes) == RUNS_COOKIE;
    uint32_t containers = n < 8 ? 0 : with_runs ? get_u16(bytes + 2) + 1u : get_u32(bytes + 4);
    size_t heads = with_runs ? 4 + (containers + 7) / 8 : 8, at = heads + 4 * (size_t)containers;
    at += with_runs && containers < NO_OFFSETS_BELOW ? 0 : 4 * (size_t)containers;
    bool sound = containers && containers <= UINT16_MAX + 1u && at <= n;
    for (uint32_t i = 0; sound && i < containers; i++) {
        const uint8_t *head = bytes + heads + 4 * (size_t)i;
        uint32_t count = get_u16(head + 2) + 1u;
        bool is_runs = with_runs && bytes[4 + i / 8] >> i % 8 & 1;
        size_t used;
        sound = i == 0 || get_u16(head - 4) < get_u16(head);
        sound = sound && (is_runs              ? runs_rise(bytes + at, n - at, count, &used)
                          : count <= ARRAY_MAX ? array_rises(bytes + at, n - at, count, &used)
                                               : bitset_counts(bytes + at, n - at, count, &used));
        at += sound ? used : 0;
    }
    return sound;
}

/* Roaring's reader trusts what is inside a container: read back what was loaded and compare, so that bytes a bitmap would never
   have written are refused. */
static bool bitmap_is_sound(const roaring_bitmap_t *bits, const uint8_t *bytes, size_t n)
{
    if (roaring_bitmap_portable_size_in_bytes(bits) != n) {
        return false;
    }
    char *again = malloc(n);
    bool same = again && roaring_bitmap_portable_serialize(bits, again) == n && memcmp(again, bytes, n) == 0;
    free(again);
    return same && bitmap_rises(bytes, n);
}

size_t seqset_load(struct seqset *s, const uint8_t *bytes, size_t len)
{
    if (len < 4) {
        return 0;
    }
    uint32_t parts = get_u32(bytes);
    size_t at = 4;
    for (uint32_t i = 0; i < parts; i++) {
        if (len - at < 8 || len - at - 8 < get_u32(bytes + at + 4)) {
            return 0;
        }
        uint32_t upper = get_u32(bytes + at), n = get_u32(bytes + at + 4);
        at += 8;
        roaring_bitmap_t *bits = roaring_bitmap_portable_deserialize_safe((const char *)bytes + at, n);
        if (!bits) {
            return 0;
        }
        bool rising = s->count == 0 || s->parts[s->count - 1].upper < upper;
        struct seqset_part *grown = NULL;
        if (rising && bitmap_is_sound(bits, bytes + at, n) && !roaring_bitmap_is_empty(bits)) {
            grown = realloc(s->parts, (s->count + 1) * sizeof *s->parts);
        }
        if (!grown) {
            roaring_bitmap_free(bits);
            return 0;
        }
        s->parts = grown;
        s->cap = s->count + 1;
        s->parts[s->count++] = (struct seqset_part){.upper = upper, .bits = bits};
        uint64_t base = (uint64_t)upper << 32;
        if (s->count == 1) {
            s->least = base | roaring_bitmap_minimum(bits);
        }
        s->most = base | roaring_bitmap_maximum(bits);
        at += n;
    }
    return at;
}
