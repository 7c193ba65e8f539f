#include "test_store.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "wire.h"

void test_store_init(struct test_store *s)
{
    memset(s, 0, sizeof *s);
}

void test_store_release(struct test_store *s)
{
    for (size_t i = 0; i < s->count; i++) {
        free(s->records[i].bytes);
        free(s->records[i].further_dead);
    }
    free(s->records);
}

void test_store_forget_dead(struct test_store *s)
{
    for (size_t i = 0; i < s->count; i++) {
        struct test_record *r = &s->records[i];
        r->dead = false;
        if (r->further) {
            memset(r->further_dead, 0, r->further * sizeof *r->further_dead);
        }
    }
}

static bool refuses(const struct test_store *s, bool message)
{
    return s->refuse && (message || s->refuse != BROKER_OVERLOADED);
}

static void keep(struct test_store *s, const uint8_t *record, uint32_t length)
{
    if (s->count == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 64;
        s->records = realloc(s->records, s->cap * sizeof *s->records);
    }
    struct test_record *r = &s->records[s->count++];
    *r = (struct test_record){.bytes = calloc(1, pad8(length)), .padded = pad8(length)};
    memcpy(r->bytes, record, length);
    put_u32(r->bytes, length);
    record_seal(r->bytes);
    if (record_type_of(record) == RECORD_ROUTE) {
        r->further = get_u32(record + RECORD_HEAD_BYTES);
        r->further_dead = calloc(r->further, sizeof *r->further_dead);
    }
}

static broker_error append(void *store, const uint8_t *record, uint32_t length, enum durability durability,
                           uint64_t *index)
{
    struct test_store *s = store;
    assert(record_type_of(record) != RECORD_ROUTE);
    if (refuses(s, record_type_of(record) == RECORD_MESSAGE)) {
        return s->refuse;
    }
    keep(s, record, length);
    *index = s->count;
    return BROKER_OK;
}

/* A route leads to the message right behind it. */
static void check_route(const struct append_item *items, uint32_t count, uint32_t i)
{
    if (record_type_of(items[i].record) != RECORD_ROUTE) {
        return;
    }
    uint64_t n = get_u32(items[i].record + RECORD_HEAD_BYTES);
    assert(n > 0 && items[i].length == RECORD_HEAD_BYTES + 8 + n * 16);
    assert(i + 1 < count && record_type_of(items[i + 1].record) == RECORD_MESSAGE);
}

static broker_error append_all(void *store, const struct append_item *items, uint32_t count, enum durability durability,
                               uint64_t *index)
{
    struct test_store *s = store;
    bool message = false;
    assert(count > 0);
    for (uint32_t i = 0; i < count; i++) {
        check_route(items, count, i);
        message |= record_type_of(items[i].record) == RECORD_MESSAGE;
    }
    if (refuses(s, message)) {
        return s->refuse;
    }
    for (uint32_t i = 0; i < count; i++) {
        keep(s, items[i].record, items[i].length);
    }
    *index = s->count;
    return BROKER_OK;
}

/* ---- places: where messages of a queue are, those that a route adds among them ------------------------------------- */

struct place {
    const uint8_t *record; /* NULL before the first */
    uint32_t padded;
    uint64_t seq;
    bool *dead;
    size_t at;        /* next record to look at ... */
    uint32_t further; /* ... and which of its further places */
};

/* The next place of the queue, in the order of appending: their seqs rise. */
static bool next_place(struct test_store *s, uint32_t queue, struct place *p)
{
    for (; p->at < s->count; p->at++, p->further = 0) {
        struct test_record *r = &s->records[p->at];
        if (record_type_of(r->bytes) == RECORD_MESSAGE && record_queue(r->bytes) == queue) {
            *p = (struct place){r->bytes, r->padded, record_seq(r->bytes), &r->dead, p->at + 1, 0};
            return true;
        }
        while (p->further < r->further) {
            const uint8_t *to = r->bytes + RECORD_HEAD_BYTES + 8 + (size_t)p->further++ * 16;
            if (get_u32(to) == queue) {
                p->record = r[1].bytes;
                p->padded = r[1].padded;
                p->seq = get_u64(to + 8);
                p->dead = &r->further_dead[p->further - 1];
                return true;
            }
        }
    }
    return false;
}

static enum read_status read_messages(void *store, uint32_t queue, uint64_t from, uint64_t to, uint32_t max_messages,
                                      uint64_t max_bytes, struct stored_message *out, uint32_t *count,
                                      uint64_t *damaged_seq)
{
    struct test_store *s = store;
    struct place p = {0};
    uint64_t bytes = 0;
    *count = 0;
    if (s->pending) {
        return READ_PENDING;
    }
    while (*count < max_messages && next_place(s, queue, &p)) {
        if (p.seq < from || p.seq > to) {
            continue;
        }
        if (p.seq == s->damaged) {
            *damaged_seq = p.seq;
            return *count ? READ_OK : READ_DAMAGED;
        }
        if (*count && bytes + p.padded > max_bytes) {
            break;
        }
        bytes += p.padded;
        out[(*count)++] = (struct stored_message){.seq = p.seq, .record = p.record, .padded_len = p.padded};
    }
    return *count ? READ_OK : READ_END;
}

static void dead(void *store, uint32_t queue, uint64_t first, uint64_t last)
{
    struct test_store *s = store;
    struct place p = {0};
    while (next_place(s, queue, &p)) {
        if (p.seq >= first && p.seq <= last) {
            s->dead_twice += *p.dead;
            *p.dead = true;
        }
    }
}

static void queue_gone(void *store, uint32_t queue)
{
    struct place p = {0};
    while (next_place(store, queue, &p)) {
        *p.dead = true;
    }
}

static uint64_t seq_at_time(void *store, uint32_t queue, uint64_t time_ms)
{
    struct place p = {0};
    while (next_place(store, queue, &p)) {
        if (get_u64(p.record + 24) >= time_ms) {
            return p.seq;
        }
    }
    return UINT64_MAX;
}

static void usage(void *store, uint32_t queue, uint64_t *messages, uint64_t *bytes, uint64_t *oldest_seq)
{
    struct place p = {0};
    *messages = *bytes = *oldest_seq = 0;
    while (next_place(store, queue, &p)) {
        if (!*p.dead) {
            ++*messages;
            *bytes += p.padded;
            *oldest_seq = *oldest_seq ? *oldest_seq : p.seq;
        }
    }
}

static uint64_t oldest_ms(void *store, uint32_t queue)
{
    struct place p = {0};
    while (next_place(store, queue, &p)) {
        if (!*p.dead) {
            return get_u64(p.record + 24);
        }
    }
    return 0;
}

static uint64_t trim_point(void *store, uint32_t queue, uint64_t before_time_ms, uint64_t max_bytes,
                           uint64_t max_messages)
{
    uint64_t messages, bytes, oldest, last = 0;
    struct place p = {0};
    usage(store, queue, &messages, &bytes, &oldest);
    while (next_place(store, queue, &p)) {
        if (*p.dead) {
            continue;
        }
        bool over = (max_messages && messages > max_messages) || (max_bytes && bytes > max_bytes) ||
                    get_u64(p.record + 24) < before_time_ms;
        if (!over) {
            break;
        }
        messages--;
        bytes -= p.padded;
        last = p.seq;
    }
    return last;
}

static void stats(void *store, struct store_stats *out)
{
    memset(out, 0, sizeof *out);
}

const struct store_ops test_store_ops = {.append = append,
                                         .append_all = append_all,
                                         .read = read_messages,
                                         .dead = dead,
                                         .queue_gone = queue_gone,
                                         .seq_at_time = seq_at_time,
                                         .usage = usage,
                                         .oldest_ms = oldest_ms,
                                         .trim_point = trim_point,
                                         .stats = stats};
