#include "test_store.h"

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
    }
    free(s->records);
}

static broker_error append(void *store, const uint8_t *record, uint32_t length, enum durability durability,
                           uint64_t *index)
{
    struct test_store *s = store;
    if (s->refuse && (record_type_of(record) == RECORD_MESSAGE || s->refuse != BROKER_OVERLOADED)) {
        return s->refuse;
    }
    if (s->count == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 64;
        s->records = realloc(s->records, s->cap * sizeof *s->records);
    }
    struct test_record *r = &s->records[s->count++];
    *r = (struct test_record){.bytes = malloc(pad8(length)), .padded = pad8(length)};
    memcpy(r->bytes, record, r->padded);
    record_seal(r->bytes);
    *index = s->count;
    return BROKER_OK;
}

static bool is_message(const struct test_record *r, uint32_t queue)
{
    return record_type_of(r->bytes) == RECORD_MESSAGE && record_queue(r->bytes) == queue;
}

static enum read_status read_messages(void *store, uint32_t queue, uint64_t from, uint64_t to, uint32_t max_messages,
                                      uint64_t max_bytes, struct stored_message *out, uint32_t *count,
                                      uint64_t *damaged_seq)
{
    struct test_store *s = store;
    uint64_t bytes = 0;
    *count = 0;
    if (s->pending) {
        return READ_PENDING;
    }
    for (size_t i = 0; i < s->count && *count < max_messages; i++) {
        const struct test_record *r = &s->records[i];
        uint64_t seq = record_seq(r->bytes);
        if (!is_message(r, queue) || seq < from || seq > to) {
            continue;
        }
        if (seq == s->damaged) {
            *damaged_seq = seq;
            return *count ? READ_OK : READ_DAMAGED;
        }
        if (*count && bytes + r->padded > max_bytes) {
            break;
        }
        bytes += r->padded;
        out[(*count)++] = (struct stored_message){.seq = seq, .record = r->bytes, .padded_len = r->padded};
    }
    return *count ? READ_OK : READ_END;
}

static void dead(void *store, uint32_t queue, uint64_t first, uint64_t last)
{
    struct test_store *s = store;
    for (size_t i = 0; i < s->count; i++) {
        struct test_record *r = &s->records[i];
        uint64_t seq = record_seq(r->bytes);
        if (is_message(r, queue) && seq >= first && seq <= last) {
            s->dead_twice += r->dead;
            r->dead = true;
        }
    }
}

static void queue_gone(void *store, uint32_t queue)
{
    struct test_store *s = store;
    for (size_t i = 0; i < s->count; i++) {
        s->records[i].dead |= is_message(&s->records[i], queue);
    }
}

static uint64_t seq_at_time(void *store, uint32_t queue, uint64_t time_ms)
{
    struct test_store *s = store;
    for (size_t i = 0; i < s->count; i++) {
        if (is_message(&s->records[i], queue) && get_u64(s->records[i].bytes + 24) >= time_ms) {
            return record_seq(s->records[i].bytes);
        }
    }
    return UINT64_MAX;
}

static void usage(void *store, uint32_t queue, uint64_t *messages, uint64_t *bytes, uint64_t *oldest_seq)
{
    struct test_store *s = store;
    *messages = *bytes = *oldest_seq = 0;
    for (size_t i = 0; i < s->count; i++) {
        const struct test_record *r = &s->records[i];
        if (is_message(r, queue) && !r->dead) {
            ++*messages;
            *bytes += r->padded;
            *oldest_seq = *oldest_seq ? *oldest_seq : record_seq(r->bytes);
        }
    }
}

static uint64_t trim_point(void *store, uint32_t queue, uint64_t before_time_ms, uint64_t max_bytes,
                           uint64_t max_messages)
{
    struct test_store *s = store;
    uint64_t messages, bytes, oldest, last = 0;
    usage(s, queue, &messages, &bytes, &oldest);
    for (size_t i = 0; i < s->count; i++) {
        const struct test_record *r = &s->records[i];
        if (!is_message(r, queue) || r->dead) {
            continue;
        }
        bool over = (max_messages && messages > max_messages) || (max_bytes && bytes > max_bytes) ||
                    get_u64(r->bytes + 24) < before_time_ms;
        if (!over) {
            break;
        }
        messages--;
        bytes -= r->padded;
        last = record_seq(r->bytes);
    }
    return last;
}

static void stats(void *store, struct store_stats *out)
{
    memset(out, 0, sizeof *out);
}

const struct store_ops test_store_ops = {.append = append,
                                         .read = read_messages,
                                         .dead = dead,
                                         .queue_gone = queue_gone,
                                         .seq_at_time = seq_at_time,
                                         .usage = usage,
                                         .trim_point = trim_point,
                                         .stats = stats};
