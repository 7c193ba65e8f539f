/* Settings and filters as keys of a map: read from requests, written into answers, by the same table. */
#include <string.h>

#include "front_internal.h"

enum { FILTER_HEADERS_MAX = 32, KEY_MAX_BYTES = 65535, HEADER_MAX_BYTES = 65535 };

enum setting_kind { SETTING_U32, SETTING_U64, SETTING_BOOL, SETTING_WORD, SETTING_NAME };

/* One key, and the field of broker_queue_settings behind it. */
struct setting {
    const char *key;
    enum setting_kind kind;
    uint32_t bit; /* BROKER_SET_… */
    size_t offset;
    const char *const *words; /* SETTING_WORD: NULL ends them; their values begin at `first` */
    int first;
};

static const char *const retention_words[] = {"work", "log", NULL};
static const char *const sync_words[] = {"always", "interval", "none", NULL};
static const char *const backoff_words[] = {"none", "fixed", "exponential", NULL};
static const char *const overflow_words[] = {"reject", "drop_oldest", NULL};

#define SETTING(bit, kind, name)                                                                                       \
    {                                                                                                                  \
#name, SETTING_##kind, BROKER_SET_##bit, offsetof(broker_queue_settings, name), NULL, 0                        \
    }
#define WORDS(bit, name, first)                                                                                        \
    {                                                                                                                  \
#name, SETTING_WORD, BROKER_SET_##bit, offsetof(broker_queue_settings, name), name##_words, first              \
    }

static const struct setting SETTINGS[] = {
    WORDS(RETENTION, retention, BROKER_RETENTION_WORK),
    WORDS(SYNC, sync, BROKER_SYNC_ALWAYS),
    SETTING(LEASE_MS, U32, lease_ms),
    SETTING(MAX_MESSAGE_BYTES, U32, max_message_bytes),
    SETTING(LOG_MAX_AGE_MS, U64, log_max_age_ms),
    SETTING(LOG_MAX_BYTES, U64, log_max_bytes),
    SETTING(LOG_MAX_MESSAGES, U64, log_max_messages),
    SETTING(MAX_ATTEMPTS, U32, max_attempts),
    WORDS(BACKOFF, backoff, BROKER_BACKOFF_NONE),
    SETTING(BACKOFF, U32, backoff_ms),
    SETTING(BACKOFF, U32, backoff_max_ms),
    SETTING(BACKOFF, U32, backoff_jitter_percent),
    SETTING(DEAD_LETTER, NAME, dead_letter),
    SETTING(TTL_MS, U64, ttl_ms),
    SETTING(DEAD_LETTER_EXPIRED, BOOL, dead_letter_expired),
    SETTING(UNUSED_MS, U64, unused_ms),
    SETTING(DEDUP_MS, U64, dedup_ms),
    SETTING(DEDUP_COUNT, U32, dedup_count),
    SETTING(MAX_MESSAGES, U64, max_messages),
    SETTING(MAX_BYTES, U64, max_bytes),
    WORDS(OVERFLOW, overflow, BROKER_OVERFLOW_REJECT),
    SETTING(ORDERED_KEYS, BOOL, ordered_keys),
    SETTING(FAIR_KEYS, BOOL, fair_keys),
    SETTING(COMPACT, BOOL, compact),
};
const uint32_t queue_settings_keys = sizeof(SETTINGS) / sizeof(SETTINGS[0]);
const uint32_t group_settings_keys = 2;

/* ---- queues --------------------------------------------------------------------------------------------------------- */

/* Enums are as wide as an int: their fields are read and written as one. */
_Static_assert(sizeof(broker_retention) == sizeof(int), "an enum is an int");

static bool setting_get(struct wire_map *m, const struct setting *k, broker_queue_settings *s)
{
    void *to = (char *)s + k->offset;
    switch (k->kind) {
    case SETTING_U32: return get_u32_key(m, k->key, 0, UINT32_MAX, to);
    case SETTING_U64: return wire_map_u64(m, k->key, 0, UINT64_MAX, to);
    case SETTING_BOOL: return wire_map_bool(m, k->key, to);
    case SETTING_WORD: return get_word(m, k->key, k->words, k->first, to);
    case SETTING_NAME: return wire_map_text(m, k->key, NAME_MAX_BYTES, to);
    }
    return false;
}

/* The four of a backoff are set together: half of one would reset the other half unasked. */
static bool backoff_is_whole(struct wire_map *m)
{
    static const char *const rest[] = {"backoff_ms", "backoff_max_ms", "backoff_jitter_percent"};
    for (size_t i = 0; i < sizeof(rest) / sizeof(rest[0]); i++) {
        if (wire_map_has(m, rest[i]) && !wire_map_has(m, "backoff")) {
            snprintf(m->error, sizeof(m->error), "\"%s\" without \"backoff\": they are set together; give both",
                     rest[i]);
            return false;
        }
    }
    return true;
}

bool map_queue_settings_get(struct wire_map *m, broker_queue_settings *s)
{
    *s = BROKER_OPTIONS_INIT(broker_queue_settings);
    for (uint32_t i = 0; i < queue_settings_keys; i++) {
        if (!setting_get(m, &SETTINGS[i], s))
            return false;
        if (wire_map_has(m, SETTINGS[i].key))
            s->set |= SETTINGS[i].bit;
    }
    return backoff_is_whole(m);
}

static void pack_text(msgpack_packer *pk, const char *key, const char *text)
{
    pack_key_str(pk, key, text, strlen(text));
}

static void pack_word(msgpack_packer *pk, const struct setting *k, int value)
{
    int i = 0;
    while (k->words[i] && i < value - k->first)
        i++;
    pack_text(pk, k->key, k->words[i] ? k->words[i] : "");
}

void queue_settings_pack(msgpack_packer *pk, const broker_queue_settings *s)
{
    for (uint32_t i = 0; i < queue_settings_keys; i++) {
        const struct setting *k = &SETTINGS[i];
        const void *from = (const char *)s + k->offset;
        const char *name;
        switch (k->kind) {
        case SETTING_U32: pack_key_u64(pk, k->key, *(const uint32_t *)from); break;
        case SETTING_U64: pack_key_u64(pk, k->key, *(const uint64_t *)from); break;
        case SETTING_BOOL: pack_key_bool(pk, k->key, *(const bool *)from); break;
        case SETTING_WORD: pack_word(pk, k, *(const int *)from); break;
        case SETTING_NAME:
            name = *(const char *const *)from;
            pack_text(pk, k->key, name ? name : "");
            break;
        }
    }
}

/* ---- filters -------------------------------------------------------------------------------------------------------- */

/* The header names are the keys of a map of text. */
static bool headers_get(struct wire_map *m, broker_filter *f)
{
    const msgpack_object *o = wire_map_find(m, "headers");
    if (!o)
        return true;
    if (o->type != MSGPACK_OBJECT_MAP || o->via.map.size > FILTER_HEADERS_MAX) {
        snprintf(m->error, sizeof(m->error), "\"headers\" of \"filter\" is not a map of at most %d strings",
                 FILTER_HEADERS_MAX);
        return false;
    }
    uint32_t n = o->via.map.size;
    broker_header *headers = msgpack_zone_malloc(m->unpacked.zone, (n ? n : 1) * sizeof(*headers));
    if (!headers) {
        snprintf(m->error, sizeof(m->error), "out of memory for \"headers\"");
        return false;
    }
    for (uint32_t i = 0; i < n; i++) {
        const msgpack_object *parts[] = {&o->via.map.ptr[i].key, &o->via.map.ptr[i].val};
        const char *texts[2];
        for (int j = 0; j < 2; j++) {
            /* As maps of one key, so that one function makes text of them. */
            msgpack_object_kv kv = {.key = {.type = MSGPACK_OBJECT_STR, .via.str = {7, "headers"}}, .val = *parts[j]};
            const msgpack_object_map one = {.size = 1, .ptr = &kv}, *outer = m->map;
            m->map = &one;
            bool good = wire_map_text(m, "headers", HEADER_MAX_BYTES, &texts[j]);
            m->map = outer;
            if (!good)
                return false;
        }
        headers[i] = (broker_header){.name = texts[0], .value = texts[1]};
    }
    f->headers = headers;
    f->header_count = n;
    return true;
}

static bool keys_are_text(const msgpack_object_map *map)
{
    for (uint32_t i = 0; i < map->size; i++)
        if (map->ptr[i].key.type != MSGPACK_OBJECT_STR)
            return false;
    return true;
}

bool map_filter_get(struct wire_map *m, broker_filter *f)
{
    const msgpack_object *o = wire_map_find(m, "filter");
    *f = (broker_filter){0};
    if (!o)
        return true;
    if (o->type != MSGPACK_OBJECT_MAP || !keys_are_text(&o->via.map)) {
        snprintf(m->error, sizeof(m->error), "\"filter\" is not a map of \"topic\", \"key\" and \"headers\"");
        return false;
    }
    const msgpack_object_map *outer = m->map;
    m->map = &o->via.map; /* the same getters, one level down */
    bool good = wire_map_text(m, "topic", TOPIC_MAX_BYTES, &f->topic) &&
                wire_map_text(m, "key", KEY_MAX_BYTES, &f->key) && headers_get(m, f);
    m->map = outer;
    return good;
}

static void filter_pack(msgpack_packer *pk, const broker_filter *f)
{
    pack_str(pk, "filter", 6);
    msgpack_pack_map(pk, (size_t)(f->topic != NULL) + (f->key != NULL) + (f->header_count > 0));
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

/* ---- groups --------------------------------------------------------------------------------------------------------- */

bool map_group_settings_get(struct wire_map *m, broker_group_settings *s)
{
    *s = BROKER_OPTIONS_INIT(broker_group_settings);
    if (!map_filter_get(m, &s->filter) || !wire_map_bool(m, "single_active", &s->single_active))
        return false;
    s->set = (wire_map_has(m, "filter") ? BROKER_GROUP_SET_FILTER : 0) |
             (wire_map_has(m, "single_active") ? BROKER_GROUP_SET_SINGLE_ACTIVE : 0);
    return true;
}

void group_settings_pack(msgpack_packer *pk, const broker_group_settings *s)
{
    filter_pack(pk, &s->filter);
    pack_key_bool(pk, "single_active", s->single_active);
}
