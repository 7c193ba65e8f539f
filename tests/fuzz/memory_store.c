#include "memory_store.h"

#include "fuzz.h"
#include "wire.h"

enum { MESSAGES_MAX = 512 };

static void bury(struct memory_store *s, struct memory_message *m)
{
    if (m->record) {
        CHECK(s->buried < MESSAGES_MAX);
        s->graveyard[s->buried++] = m->record;
    }
    m->record = NULL;
}

static bool add(struct memory_store *s, uint32_t queue, uint64_t seq, const uint8_t *record, uint32_t length)
{
    struct memory_message *m = &s->messages[s->count];
    *m = (struct memory_message){queue, seq, calloc(1, pad8(length)), pad8(length)};
    if (!m->record)
        return false;
    memcpy(m->record, record, length);
    record_seal(m->record);
    s->count++;
    return true;
}

static broker_error append(void *store, const uint8_t *record, uint32_t length, enum durability durability,
                           uint64_t *index)
{
    struct memory_store *s = store;

    CHECK(length >= RECORD_HEAD_BYTES && record_length(record) == length);
    CHECK(record_type_of(record) != RECORD_ROUTE);
    if (record_type_of(record) == RECORD_MESSAGE) {
        if (s->count == MESSAGES_MAX)
            return BROKER_DISK_FULL;
        if (!add(s, record_queue(record), record_seq(record), record, length))
            return BROKER_OVERLOADED;
    }
    *index = s->index;
    return BROKER_OK;
}

/* Places of the messages among the items; a route leads to the message right behind it. */
static uint64_t count_places(const struct append_item *items, uint32_t count)
{
    uint64_t places = 0;
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *record = items[i].record;
        CHECK(items[i].length >= RECORD_HEAD_BYTES && record_length(record) == items[i].length);
        places += record_type_of(record) == RECORD_MESSAGE;
        if (record_type_of(record) != RECORD_ROUTE)
            continue;
        uint64_t further = get_u32(record + RECORD_HEAD_BYTES);
        CHECK(further > 0 && items[i].length == RECORD_HEAD_BYTES + 8 + further * 16);
        CHECK(i + 1 < count && record_type_of(items[i + 1].record) == RECORD_MESSAGE);
        places += further;
    }
    return places;
}

static broker_error append_all(void *store, const struct append_item *items, uint32_t count, enum durability durability,
                               uint64_t *index)
{
    struct memory_store *s = store;
    uint32_t before = s->count;
    bool ok = true;

    CHECK(count > 0);
    if (count_places(items, count) > MESSAGES_MAX - s->count)
        return BROKER_DISK_FULL;
    for (uint32_t i = 0; i < count && ok; i++) {
        const uint8_t *record = items[i].record, *to = record + RECORD_HEAD_BYTES + 8;
        if (record_type_of(record) == RECORD_MESSAGE)
            ok = add(s, record_queue(record), record_seq(record), record, items[i].length);
        for (uint32_t k = 0; record_type_of(record) == RECORD_ROUTE && k < get_u32(to - 8) && ok; k++)
            ok = add(s, get_u32(to + k * 16), get_u64(to + k * 16 + 8), items[i + 1].record, items[i + 1].length);
    }
    while (!ok && s->count > before)
        free(s->messages[--s->count].record);
    *index = s->index;
    return ok ? BROKER_OK : BROKER_OVERLOADED;
}

static enum read_status read_messages(void *store, uint32_t queue, uint64_t from, uint64_t to, uint32_t max_messages,
                                      uint64_t max_bytes, struct stored_message *out, uint32_t *count,
                                      uint64_t *damaged_seq)
{
    struct memory_store *s = store;
    uint64_t bytes = 0;

    *count = 0;
    for (uint32_t i = 0; i < s->count && *count < max_messages; i++) { /* appended in rising order of seq */
        struct memory_message *m = &s->messages[i];
        if (m->queue != queue || m->seq < from || m->seq > to || !m->record)
            continue;
        if (*count > 0 && bytes + m->padded_len > max_bytes)
            break;
        out[(*count)++] = (struct stored_message){m->seq, m->record, m->padded_len};
        bytes += m->padded_len;
    }
    return *count ? READ_OK : READ_END;
}

static void dead(void *store, uint32_t queue, uint64_t first, uint64_t last)
{
    struct memory_store *s = store;

    for (uint32_t i = 0; i < s->count; i++) {
        if (s->messages[i].queue == queue && s->messages[i].seq >= first && s->messages[i].seq <= last)
            bury(s, &s->messages[i]);
    }
}

static void queue_gone(void *store, uint32_t queue)
{
    dead(store, queue, 0, UINT64_MAX);
}

static uint64_t seq_at_time(void *store, uint32_t queue, uint64_t time_ms)
{
    struct memory_store *s = store;

    for (uint32_t i = 0; i < s->count; i++) {
        struct memory_message *m = &s->messages[i];
        if (m->queue == queue && m->record && get_u64(m->record + 24) >= time_ms)
            return m->seq;
    }
    return UINT64_MAX;
}

static void usage(void *store, uint32_t queue, uint64_t *messages, uint64_t *bytes, uint64_t *oldest_seq)
{
    struct memory_store *s = store;

    *messages = *bytes = *oldest_seq = 0;
    for (uint32_t i = 0; i < s->count; i++) {
        struct memory_message *m = &s->messages[i];
        if (m->queue != queue || !m->record)
            continue;
        *oldest_seq = *oldest_seq ? *oldest_seq : m->seq;
        *bytes += m->padded_len;
        (*messages)++;
    }
}

static uint64_t oldest_ms(void *store, uint32_t queue)
{
    struct memory_store *s = store;

    for (uint32_t i = 0; i < s->count; i++) {
        const struct memory_message *m = &s->messages[i];
        if (m->queue == queue && m->record)
            return get_u64(m->record + 24);
    }
    return 0;
}

static uint64_t trim_point(void *store, uint32_t queue, uint64_t before_time_ms, uint64_t max_bytes,
                           uint64_t max_messages)
{
    struct memory_store *s = store;
    uint64_t messages, bytes, oldest, point = 0;

    usage(store, queue, &messages, &bytes, &oldest);
    for (uint32_t i = 0; i < s->count; i++) {
        struct memory_message *m = &s->messages[i];
        if (m->queue != queue || !m->record)
            continue;
        bool old = before_time_ms && get_u64(m->record + 24) < before_time_ms;
        if (!old && (!max_bytes || bytes <= max_bytes) && (!max_messages || messages <= max_messages))
            break;
        point = m->seq;
        messages--;
        bytes -= m->padded_len;
    }
    return point;
}

static void stats(void *store, struct store_stats *out)
{
    *out = ((struct memory_store *)store)->stats;
}

const struct store_ops memory_store_ops = {
    .append = append,
    .append_all = append_all,
    .read = read_messages,
    .dead = dead,
    .queue_gone = queue_gone,
    .seq_at_time = seq_at_time,
    .usage = usage,
    .oldest_ms = oldest_ms,
    .trim_point = trim_point,
    .stats = stats,
};

void memory_store_init(struct memory_store *s)
{
    memset(s, 0, sizeof(*s));
    s->index = 1;
}

static void empty_graveyard(struct memory_store *s)
{
    for (uint32_t i = 0; i < s->buried; i++)
        free(s->graveyard[i]);
    s->buried = 0;
}

uint64_t memory_store_commit(struct memory_store *s)
{
    uint32_t kept = 0;

    empty_graveyard(s);
    for (uint32_t i = 0; i < s->count; i++) { /* room for others */
        if (s->messages[i].record)
            s->messages[kept++] = s->messages[i];
    }
    s->count = kept;
    return s->index++;
}

void memory_store_release(struct memory_store *s)
{
    for (uint32_t i = 0; i < s->count; i++)
        free(s->messages[i].record);
    empty_graveyard(s);
    s->count = 0;
}
