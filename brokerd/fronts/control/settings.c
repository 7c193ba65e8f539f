/* Settings and filters as keys of a map: read from requests, written into answers, by the same table. */
#include <stdio.h>

#include "control_internal.h"

enum { FILTER_HEADERS_MAX = 32, KEY_MAX_BYTES = 65535, HEADER_MAX_BYTES = 65535 };

static const char *const retention_words[] = {"work", "log", NULL};
static const char *const sync_words[] = {"always", "interval", "none", NULL};
static const char *const backoff_words[] = {"none", "fixed", "exponential", NULL};
static const char *const overflow_words[] = {"reject", "drop_oldest", NULL};

#define SETTING(set_bit, type, field)                                                                                  \
    {                                                                                                                  \
        .name = #field, .kind = KEY_##type, .bit = BROKER_SET_##set_bit,                                               \
        .offset = offsetof(broker_queue_settings, field)                                                               \
    }
#define WORDS(set_bit, field, first_value)                                                                             \
    {                                                                                                                  \
        .name = #field, .kind = KEY_WORD, .bit = BROKER_SET_##set_bit,                                                 \
        .offset = offsetof(broker_queue_settings, field), .words = field##_words, .first = first_value                 \
    }

static const struct key QUEUE_SETTINGS[] = {
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
    SETTING(DEAD_LETTER, TEXT, dead_letter),
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
const struct keys map_queue_settings_keys = {QUEUE_SETTINGS, sizeof(QUEUE_SETTINGS) / sizeof(QUEUE_SETTINGS[0])};

static const struct key GROUP_SETTINGS[] = {
    {.name = "filter",
     .kind = KEY_FILTER,
     .bit = BROKER_GROUP_SET_FILTER,
     .offset = offsetof(broker_group_settings, filter)},
    {.name = "single_active",
     .kind = KEY_BOOL,
     .bit = BROKER_GROUP_SET_SINGLE_ACTIVE,
     .offset = offsetof(broker_group_settings, single_active)},
};
const struct keys map_group_settings_keys = {GROUP_SETTINGS, sizeof(GROUP_SETTINGS) / sizeof(GROUP_SETTINGS[0])};

/* ---- queues and groups -------------------------------------------------------------------------------------------------- */

/* *set: the bits of those that are there. */
static bool settings_get(struct wire_map *m, const struct keys *keys, void *settings, uint32_t *set)
{
    for (size_t i = 0; i < keys->count; i++) {
        if (!map_key_get(m, &keys->at[i], settings))
            return false;
        if (wire_map_has(m, keys->at[i].name))
            *set |= keys->at[i].bit;
    }
    return true;
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
    return settings_get(m, &map_queue_settings_keys, s, &s->set) && backoff_is_whole(m);
}

bool map_group_settings_get(struct wire_map *m, broker_group_settings *s)
{
    *s = BROKER_OPTIONS_INIT(broker_group_settings);
    return settings_get(m, &map_group_settings_keys, s, &s->set);
}

static void pack_text(msgpack_packer *pk, const char *key, const char *text)
{
    pack_key_str(pk, key, text, strlen(text));
}

static void pack_word(msgpack_packer *pk, const struct key *k, int value)
{
    int i = 0;
    while (k->words[i] && i < value - k->first)
        i++;
    pack_text(pk, k->name, k->words[i] ? k->words[i] : "");
}

static void filter_pack(msgpack_packer *pk, const char *key, const broker_filter *f)
{
    pack_str(pk, key, strlen(key));
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

static void settings_pack(msgpack_packer *pk, const struct keys *keys, const void *settings)
{
    for (size_t i = 0; i < keys->count; i++) {
        const struct key *k = &keys->at[i];
        const void *from = (const char *)settings + k->offset;
        const char *text;
        switch (k->kind) {
        case KEY_U32: pack_key_u64(pk, k->name, *(const uint32_t *)from); break;
        case KEY_U64: pack_key_u64(pk, k->name, *(const uint64_t *)from); break;
        case KEY_BOOL: pack_key_bool(pk, k->name, *(const bool *)from); break;
        case KEY_WORD: pack_word(pk, k, *(const int *)from); break;
        case KEY_FILTER: filter_pack(pk, k->name, from); break;
        case KEY_TEXT:
            text = *(const char *const *)from;
            pack_text(pk, k->name, text ? text : "");
            break;
        case KEY_U8:
        case KEY_EITHER:
        case KEY_NAME: break; /* no setting is one */
        }
    }
}

void map_queue_settings_pack(msgpack_packer *pk, const broker_queue_settings *s)
{
    settings_pack(pk, &map_queue_settings_keys, s);
}

void map_group_settings_pack(msgpack_packer *pk, const broker_group_settings *s)
{
    settings_pack(pk, &map_group_settings_keys, s);
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

static const struct key FILTER[] = {
    {.name = "topic"},
    {.name = "key"},
    {.name = "headers"},
};
const struct keys map_filter_keys = {FILTER, sizeof(FILTER) / sizeof(FILTER[0])}; /* only known by name */

static bool keys_are_text(const msgpack_object_map *map)
{
    for (uint32_t i = 0; i < map->size; i++)
        if (map->ptr[i].key.type != MSGPACK_OBJECT_STR)
            return false;
    return true;
}

bool map_filter_get(struct wire_map *m, const char *key, broker_filter *f)
{
    const msgpack_object *o = wire_map_find(m, key);
    *f = (broker_filter){0};
    if (!o)
        return true;
    if (o->type != MSGPACK_OBJECT_MAP || !keys_are_text(&o->via.map)) {
        snprintf(m->error, sizeof(m->error), "\"%s\" is not a map of \"topic\", \"key\" and \"headers\"", key);
        return false;
    }
    const msgpack_object_map *outer = m->map;
    m->map = &o->via.map; /* the same getters, one level down */
    bool good = wire_map_text(m, "topic", TOPIC_MAX_BYTES, &f->topic) &&
                wire_map_text(m, "key", KEY_MAX_BYTES, &f->key) && headers_get(m, f);
    m->map = outer;
    return good;
}
