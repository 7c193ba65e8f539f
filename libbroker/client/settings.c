/* Settings of queues and groups, filters: checked, written as keys of a request, and read from an answer. */
#include "client_internal.h"

#include <stdlib.h>

static const char *const retention_words[] = {"", "work", "log"};
static const char *const sync_words[] = {"", "always", "interval", "none"};
static const char *const backoff_words[] = {"none", "fixed", "exponential"};
static const char *const overflow_words[] = {"reject", "drop_oldest"};

/* ---- queues: what is there ---------------------------------------------------------------------------------------------- */

enum field_kind { FIELD_U32, FIELD_U64, FIELD_BOOL, FIELD_WORD, FIELD_NAME };

/* One key of a request or answer, and the field of broker_queue_settings behind it. */
struct field {
    uint32_t set;
    enum field_kind kind;
    const char *key;
    size_t offset;
    const char *const *words; /* FIELD_WORD: of an enum's values, from first_word on */
    uint32_t first_word, last_word;
};

#define FIELD(bit, kind, name)                                                                                         \
    {                                                                                                                  \
        BROKER_SET_##bit, kind, #name, offsetof(broker_queue_settings, name), NULL, 0, 0                               \
    }
#define WORDS(bit, name, first, last)                                                                                  \
    {                                                                                                                  \
        BROKER_SET_##bit, FIELD_WORD, #name, offsetof(broker_queue_settings, name), name##_words, first, last          \
    }

static const struct field queue_fields[] = {
    WORDS(RETENTION, retention, BROKER_RETENTION_WORK, BROKER_RETENTION_LOG),
    WORDS(SYNC, sync, BROKER_SYNC_ALWAYS, BROKER_SYNC_NONE),
    FIELD(LEASE_MS, FIELD_U32, lease_ms),
    FIELD(MAX_MESSAGE_BYTES, FIELD_U32, max_message_bytes),
    FIELD(LOG_MAX_AGE_MS, FIELD_U64, log_max_age_ms),
    FIELD(LOG_MAX_BYTES, FIELD_U64, log_max_bytes),
    FIELD(LOG_MAX_MESSAGES, FIELD_U64, log_max_messages),
    FIELD(MAX_ATTEMPTS, FIELD_U32, max_attempts),
    WORDS(BACKOFF, backoff, BROKER_BACKOFF_NONE, BROKER_BACKOFF_EXPONENTIAL),
    FIELD(BACKOFF, FIELD_U32, backoff_ms),
    FIELD(BACKOFF, FIELD_U32, backoff_max_ms),
    FIELD(BACKOFF, FIELD_U32, backoff_jitter_percent),
    FIELD(DEAD_LETTER, FIELD_NAME, dead_letter),
    FIELD(TTL_MS, FIELD_U64, ttl_ms),
    FIELD(DEAD_LETTER_EXPIRED, FIELD_BOOL, dead_letter_expired),
    FIELD(UNUSED_MS, FIELD_U64, unused_ms),
    FIELD(DEDUP_MS, FIELD_U64, dedup_ms),
    FIELD(DEDUP_COUNT, FIELD_U32, dedup_count),
    FIELD(MAX_MESSAGES, FIELD_U64, max_messages),
    FIELD(MAX_BYTES, FIELD_U64, max_bytes),
    WORDS(OVERFLOW, overflow, BROKER_OVERFLOW_REJECT, BROKER_OVERFLOW_DROP_OLDEST),
    FIELD(ORDERED_KEYS, FIELD_BOOL, ordered_keys),
    FIELD(FAIR_KEYS, FIELD_BOOL, fair_keys),
    FIELD(COMPACT, FIELD_BOOL, compact),
};
enum { QUEUE_FIELDS = sizeof(queue_fields) / sizeof(queue_fields[0]) };

/* The enums are int-sized in C and in C++ alike; their fields are read and written as that. */
static const void *field_of(const broker_queue_settings *s, const struct field *f)
{
    return (const char *)s + f->offset;
}

static uint32_t field_u32(const broker_queue_settings *s, const struct field *f)
{
    uint32_t value;
    memcpy(&value, field_of(s, f), sizeof(value));
    return value;
}

static uint64_t field_u64(const broker_queue_settings *s, const struct field *f)
{
    uint64_t value;
    memcpy(&value, field_of(s, f), sizeof(value));
    return value;
}

static const char *field_name(const broker_queue_settings *s, const struct field *f)
{
    const char *name;
    memcpy(&name, field_of(s, f), sizeof(name));
    return name ? name : "";
}

/* ---- queues: out ------------------------------------------------------------------------------------------------------------ */

static broker_error check_field(broker *b, const broker_queue_settings *s, const struct field *f)
{
    size_t len;

    if (f->kind == FIELD_WORD) {
        uint32_t value = field_u32(s, f);
        if (value < f->first_word || value > f->last_word)
            return set_error(b, BROKER_INVALID_ARGUMENT, "queue settings: %s is %d; give a broker_%s", f->key,
                             (int)value, f->key);
    }
    if (f->kind == FIELD_NAME && field_name(s, f)[0] != '\0')
        return check_name(b, "queue (dead_letter)", field_name(s, f), &len);
    return BROKER_OK;
}

static broker_error check_ranges(broker *b, const broker_queue_settings *s)
{
    if ((s->set & BROKER_SET_LEASE_MS) && (s->lease_ms < 1 || s->lease_ms > LEASE_MS_MAX))
        return set_error(b, BROKER_INVALID_ARGUMENT, "queue settings: lease_ms is %u; give 1 to %d", s->lease_ms,
                         LEASE_MS_MAX);
    if ((s->set & BROKER_SET_BACKOFF) && s->backoff_jitter_percent > 100)
        return set_error(b, BROKER_INVALID_ARGUMENT, "queue settings: backoff_jitter_percent is %u; give 0 to 100",
                         s->backoff_jitter_percent);
    if ((s->set & BROKER_SET_BACKOFF) && s->backoff != BROKER_BACKOFF_NONE && s->backoff_ms == 0)
        return set_error(b, BROKER_INVALID_ARGUMENT,
                         "queue settings: a backoff of 0 ms; give backoff_ms, or "
                         "BROKER_BACKOFF_NONE");
    return BROKER_OK;
}

broker_error queue_settings_copy(broker *b, const broker_queue_settings *given, broker_queue_settings *s)
{
    broker_error error = BROKER_OK;

    if (!copy_options(s, sizeof(*s), given, offsetof(broker_queue_settings, retention)))
        return set_error(b, BROKER_INVALID_ARGUMENT, "queue settings: use BROKER_OPTIONS_INIT(broker_queue_settings)");
    for (int i = 0; i < QUEUE_FIELDS && error == BROKER_OK; i++) {
        if (s->set & queue_fields[i].set)
            error = check_field(b, s, &queue_fields[i]);
    }
    return error == BROKER_OK ? check_ranges(b, s) : error;
}

uint32_t queue_settings_keys(const broker_queue_settings *s)
{
    uint32_t keys = 0;

    for (int i = 0; i < QUEUE_FIELDS; i++)
        keys += (s->set & queue_fields[i].set) != 0;
    return keys;
}

static void pack_text(msgpack_packer *pk, const char *key, const char *text)
{
    pack_key_str(pk, key, text, strlen(text));
}

void queue_settings_pack(msgpack_packer *pk, const broker_queue_settings *s)
{
    for (int i = 0; i < QUEUE_FIELDS; i++) {
        const struct field *f = &queue_fields[i];
        if (!(s->set & f->set))
            continue;
        switch (f->kind) {
        case FIELD_U32: pack_key_u64(pk, f->key, field_u32(s, f)); break;
        case FIELD_U64: pack_key_u64(pk, f->key, field_u64(s, f)); break;
        case FIELD_BOOL: pack_key_bool(pk, f->key, *(const bool *)field_of(s, f)); break;
        case FIELD_WORD: pack_text(pk, f->key, f->words[field_u32(s, f)]); break;
        case FIELD_NAME: pack_text(pk, f->key, field_name(s, f)); break;
        }
    }
}

/* ---- queues: in ------------------------------------------------------------------------------------------------------------- */

bool inner_map(const msgpack_object *o, struct wire_map *m)
{
    *m = (struct wire_map){.map = NULL};
    if (!o || o->type != MSGPACK_OBJECT_MAP)
        return false;
    for (uint32_t i = 0; i < o->via.map.size; i++) {
        if (o->via.map.ptr[i].key.type != MSGPACK_OBJECT_STR)
            return false;
    }
    m->map = &o->via.map;
    return true;
}

/* A word becomes its number; an unknown one (of a newer broker) 0. */
static bool get_word(struct wire_map *m, const struct field *f, uint32_t *out)
{
    const char *word = NULL;
    size_t len = 0;

    if (!wire_map_str(m, f->key, SIZE_MAX, &word, &len))
        return false;
    for (uint32_t i = f->first_word; word && i <= f->last_word; i++) {
        if (strlen(f->words[i]) == len && memcmp(f->words[i], word, len) == 0)
            *out = i;
    }
    return true;
}

static bool get_field(struct wire_map *m, const struct field *f, broker_queue_settings *s, struct queue_names *names)
{
    void *to = (char *)s + f->offset;
    uint64_t value = 0;
    uint32_t word = 0;
    const char *text = NULL;
    size_t len = 0;
    bool good = true;

    switch (f->kind) {
    case FIELD_U32:
        good = wire_map_u64(m, f->key, 0, UINT32_MAX, &value);
        word = (uint32_t)value;
        memcpy(to, &word, sizeof(word));
        break;
    case FIELD_U64:
        good = wire_map_u64(m, f->key, 0, UINT64_MAX, &value);
        memcpy(to, &value, sizeof(value));
        break;
    case FIELD_BOOL: good = wire_map_bool(m, f->key, to); break;
    case FIELD_WORD:
        good = get_word(m, f, &word);
        memcpy(to, &word, sizeof(word));
        break;
    case FIELD_NAME:
        good = wire_map_str(m, f->key, NAME_MAX_BYTES, &text, &len);
        if (good && len > 0)
            memcpy(names->dead_letter, text, len);
        names->dead_letter[len] = '\0';
        s->dead_letter = names->dead_letter;
        break;
    }
    return good;
}

bool queue_settings_get(struct wire_map *m, broker_queue_settings *s, struct queue_names *names)
{
    s->size = sizeof(*s);
    for (int i = 0; i < QUEUE_FIELDS; i++) {
        if (!wire_map_has(m, queue_fields[i].key))
            continue; /* an older broker */
        if (!get_field(m, &queue_fields[i], s, names))
            return false;
        s->set |= queue_fields[i].set;
    }
    return true;
}

/* ---- filters ------------------------------------------------------------------------------------------------------------------ */

broker_error filter_check(broker *b, const broker_filter *f)
{
    if (f->topic && !topic_pattern_is_valid(f->topic, strnlen(f->topic, TOPIC_MAX_BYTES + 1)))
        return set_error(b, BROKER_INVALID_ARGUMENT,
                         "filter: \"%.64s\" is no pattern for topics: tokens of A-Z a-z 0-9 _ - with dots between, '*' "
                         "for one, '>' at the end for the rest",
                         f->topic);
    if (f->key && strnlen(f->key, UINT16_MAX + 1u) > UINT16_MAX)
        return set_error(b, BROKER_INVALID_ARGUMENT, "filter: a key of more than %d bytes", UINT16_MAX);
    if (f->header_count > FILTER_HEADERS_MAX || (f->header_count > 0 && !f->headers))
        return set_error(b, BROKER_INVALID_ARGUMENT, "filter: %zu headers; give up to %d", f->header_count,
                         FILTER_HEADERS_MAX);
    for (size_t i = 0; i < f->header_count; i++) {
        if (!f->headers[i].name || !f->headers[i].value)
            return set_error(b, BROKER_INVALID_ARGUMENT, "filter: header %zu has no name or no value", i);
    }
    return BROKER_OK;
}

bool filter_is_empty(const broker_filter *f)
{
    return !f->topic && !f->key && f->header_count == 0;
}

void filter_pack(msgpack_packer *pk, const broker_filter *f)
{
    pack_str(pk, "filter", 6);
    msgpack_pack_map(pk, (f->topic != NULL) + (f->key != NULL) + (f->header_count > 0));
    if (f->topic)
        pack_text(pk, "topic", f->topic);
    if (f->key)
        pack_text(pk, "key", f->key);
    if (f->header_count == 0)
        return;
    pack_str(pk, "headers", 7);
    msgpack_pack_map(pk, f->header_count);
    for (size_t i = 0; i < f->header_count; i++)
        pack_text(pk, f->headers[i].name, f->headers[i].value);
}

/* Strings of a filter that was received, NUL-terminated, one behind the other. */
struct filter_copy {
    broker_filter *filter;
    char *next;
};

static const char *copy_text(struct filter_copy *c, const char *text, size_t len)
{
    char *copy = c->next;

    if (len > 0)
        memcpy(copy, text, len);
    copy[len] = '\0';
    c->next += len + 1;
    return copy;
}

static bool is_text(const msgpack_object *o)
{
    return o->type == MSGPACK_OBJECT_STR;
}

static bool copy_headers(struct filter_copy *c, const msgpack_object_map *map, broker_header *headers)
{
    for (uint32_t i = 0; i < map->size; i++) {
        const msgpack_object_kv *kv = &map->ptr[i];
        if (!is_text(&kv->key) || !is_text(&kv->val))
            return false;
        headers[i].name = copy_text(c, kv->key.via.str.ptr, kv->key.via.str.size);
        headers[i].value = copy_text(c, kv->val.via.str.ptr, kv->val.via.str.size);
    }
    c->filter->headers = headers;
    c->filter->header_count = map->size;
    return true;
}

static size_t texts_bytes(const msgpack_object_map *map)
{
    size_t bytes = 0;

    for (uint32_t i = 0; i < map->size; i++) {
        bytes += is_text(&map->ptr[i].key) ? map->ptr[i].key.via.str.size + 1u : 0;
        bytes += is_text(&map->ptr[i].val) ? map->ptr[i].val.via.str.size + 1u : 0;
    }
    return bytes;
}

broker_error filter_get(const msgpack_object *o, broker_filter *f, void **memory)
{
    struct wire_map m;
    struct filter_copy c = {.filter = f};
    const char *topic = NULL, *key = NULL;
    size_t topic_len = 0, key_len = 0;

    *memory = NULL;
    if (!o)
        return BROKER_OK;
    if (!inner_map(o, &m) || !wire_map_str(&m, "topic", SIZE_MAX, &topic, &topic_len) ||
        !wire_map_str(&m, "key", SIZE_MAX, &key, &key_len))
        return BROKER_MALFORMED;
    const msgpack_object *headers = wire_map_find(&m, "headers");
    if (headers && headers->type != MSGPACK_OBJECT_MAP)
        return BROKER_MALFORMED;
    size_t header_bytes = headers ? headers->via.map.size * sizeof(broker_header) : 0;
    /* Bounded by the frame that it came in. */
    char *bytes = malloc(header_bytes + (headers ? texts_bytes(&headers->via.map) : 0) + topic_len + key_len + 2);
    if (!bytes)
        return BROKER_NO_MEMORY;
    *memory = bytes;
    c.next = bytes + header_bytes;
    if (topic)
        f->topic = copy_text(&c, topic, topic_len);
    if (key)
        f->key = copy_text(&c, key, key_len);
    bool good = !headers || headers->via.map.size == 0 || copy_headers(&c, &headers->via.map, (broker_header *)bytes);
    return good ? BROKER_OK : BROKER_MALFORMED;
}

/* ---- groups -------------------------------------------------------------------------------------------------------------------- */

broker_error group_settings_copy(broker *b, const broker_group_settings *given, broker_group_settings *s)
{
    if (!copy_options(s, sizeof(*s), given, offsetof(broker_group_settings, filter)))
        return set_error(b, BROKER_INVALID_ARGUMENT, "group settings: use BROKER_OPTIONS_INIT(broker_group_settings)");
    return s->set & BROKER_GROUP_SET_FILTER ? filter_check(b, &s->filter) : BROKER_OK;
}

uint32_t group_settings_keys(const broker_group_settings *s)
{
    return ((s->set & BROKER_GROUP_SET_FILTER) != 0) + ((s->set & BROKER_GROUP_SET_SINGLE_ACTIVE) != 0);
}

void group_settings_pack(msgpack_packer *pk, const broker_group_settings *s)
{
    if (s->set & BROKER_GROUP_SET_FILTER)
        filter_pack(pk, &s->filter);
    if (s->set & BROKER_GROUP_SET_SINGLE_ACTIVE)
        pack_key_bool(pk, "single_active", s->single_active);
}

broker_error group_settings_get(struct wire_map *m, broker_group_settings *s, void **memory)
{
    s->size = sizeof(*s);
    s->set = (wire_map_has(m, "filter") ? BROKER_GROUP_SET_FILTER : 0) |
             (wire_map_has(m, "single_active") ? BROKER_GROUP_SET_SINGLE_ACTIVE : 0);
    broker_error error = filter_get(wire_map_find(m, "filter"), &s->filter, memory);
    return error == BROKER_OK && !wire_map_bool(m, "single_active", &s->single_active) ? BROKER_MALFORMED : error;
}
