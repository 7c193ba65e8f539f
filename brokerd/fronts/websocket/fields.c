/* Fields of a request, read with bounds; what is wrong is told with the key, the value, and what is known. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "distance.h"
#include "websocket_internal.h"

enum { WORD_MAX = 40 }; /* longest word that is compared with what is known */

const char *ws_shown(const char *bytes, size_t len, char out[48])
{
    size_t n = len < 40 ? len : 40;
    for (size_t i = 0; i < n; i++)
        out[i] = bytes[i] >= 0x20 && bytes[i] < 0x7f ? bytes[i] : '?';
    memcpy(out + n, len > n ? "..." : "", len > n ? 4 : 1);
    return out;
}

/* ---- what was meant? ------------------------------------------------------------------------------------------------- */

const char *ws_nearest_word(const char *written, size_t len, const char *const *words)
{
    const char *best = NULL;
    unsigned least = (unsigned)len / 2 + 1;
    for (size_t i = 0; words[i] && len <= WORD_MAX; i++) {
        size_t word_len = strlen(words[i]);
        unsigned d = word_len <= WORD_MAX ? edit_distance(written, len, words[i], word_len, false) : least;
        if (d < least) {
            least = d;
            best = words[i];
        }
    }
    return best;
}

/* ---- fields --------------------------------------------------------------------------------------------------------- */

bool ws_object_is(const msgpack_object *o, const char *word)
{
    size_t len = strlen(word);
    return o->type == MSGPACK_OBJECT_STR && o->via.str.size == len &&
           (len == 0 || memcmp(o->via.str.ptr, word, len) == 0);
}

const msgpack_object *ws_field_find(const msgpack_object *map, const char *key)
{
    for (uint32_t i = 0; i < map->via.map.size; i++)
        if (ws_object_is(&map->via.map.ptr[i].key, key))
            return map->via.map.ptr[i].val.type == MSGPACK_OBJECT_NIL ? NULL : &map->via.map.ptr[i].val;
    return NULL;
}

bool ws_field_u64(const msgpack_object *map, const char *key, uint64_t max, uint64_t *out, char text[TEXT_BYTES])
{
    const msgpack_object *o = ws_field_find(map, key);
    if (!o)
        return true;
    if (o->type == MSGPACK_OBJECT_POSITIVE_INTEGER && o->via.u64 <= max) {
        *out = o->via.u64;
        return true;
    }
    if (o->type == MSGPACK_OBJECT_POSITIVE_INTEGER)
        snprintf(text, TEXT_BYTES, "\"%s\" is %" PRIu64 "; give a whole number from 0 to %" PRIu64, key, o->via.u64,
                 max);
    else if (o->type == MSGPACK_OBJECT_NEGATIVE_INTEGER)
        snprintf(text, TEXT_BYTES, "\"%s\" is %" PRId64 "; give a whole number from 0 to %" PRIu64, key, o->via.i64,
                 max);
    else
        snprintf(text, TEXT_BYTES, "\"%s\" is not a whole number; give one from 0 to %" PRIu64, key, max);
    return false;
}

bool ws_field_u32(const msgpack_object *map, const char *key, uint32_t *out, char text[TEXT_BYTES])
{
    uint64_t value = *out;
    if (!ws_field_u64(map, key, UINT32_MAX, &value, text))
        return false;
    *out = (uint32_t)value;
    return true;
}

bool ws_field_name(const msgpack_object *map, const char *key, struct name *out, char text[TEXT_BYTES])
{
    const msgpack_object *o = ws_field_find(map, key);
    if (!o)
        return true;
    if (o->type != MSGPACK_OBJECT_STR) {
        snprintf(text, TEXT_BYTES, "\"%s\" is not a string; give a name", key);
        return false;
    }
    if (o->via.str.size == 0) {
        snprintf(text, TEXT_BYTES, "\"%s\" is empty; give a name", key);
        return false;
    }
    *out = (struct name){o->via.str.ptr, o->via.str.size};
    return true;
}

bool ws_field_truth(const msgpack_object *map, const char *key, bool *out, char text[TEXT_BYTES])
{
    const msgpack_object *o = ws_field_find(map, key);
    if (o && o->type != MSGPACK_OBJECT_BOOLEAN) {
        snprintf(text, TEXT_BYTES, "\"%s\" is neither true nor false", key);
        return false;
    }
    if (o)
        *out = o->via.boolean;
    return true;
}

static size_t list(char text[TEXT_BYTES], size_t at, const char *const *words)
{
    for (size_t i = 0; words[i] && at < TEXT_BYTES; i++)
        at += (size_t)snprintf(text + at, TEXT_BYTES - at, "%s%s", i ? ", " : " ", words[i]);
    return at;
}

bool ws_field_word(const msgpack_object *map, const char *key, const char *const *words, int *out,
                   char text[TEXT_BYTES])
{
    const msgpack_object *o = ws_field_find(map, key);
    char written[48];
    if (!o)
        return true;
    for (int i = 0; words[i]; i++)
        if (ws_object_is(o, words[i])) {
            *out = i;
            return true;
        }
    bool is_text = o->type == MSGPACK_OBJECT_STR;
    size_t at = (size_t)snprintf(text, TEXT_BYTES, "\"%s\" is %s%s%s; give one of", key, is_text ? "\"" : "",
                                 is_text ? ws_shown(o->via.str.ptr, o->via.str.size, written) : "no string",
                                 is_text ? "\"" : "");
    list(text, at, words);
    return false;
}

static bool among(const msgpack_object *key, const char *const *words)
{
    for (size_t i = 0; words[i]; i++)
        if (ws_object_is(key, words[i]))
            return true;
    return false;
}

bool ws_fields_known(const msgpack_object *map, const char *const *keys, enum control_kind kind, char text[TEXT_BYTES])
{
    char written[48];
    for (uint32_t i = 0; i < map->via.map.size; i++) {
        const msgpack_object *key = &map->via.map.ptr[i].key;
        if (key->type != MSGPACK_OBJECT_STR) {
            snprintf(text, TEXT_BYTES, "a key that is no string");
            return false;
        }
        const char *bytes = key->via.str.ptr;
        size_t len = key->via.str.size;
        if (ws_object_is(key, "op") || ws_object_is(key, "id") || among(key, keys) ||
            (kind != CONTROL_KINDS && control_knows(kind, len ? bytes : "", len)))
            continue;
        const char *near = ws_nearest_word(bytes, len, keys);
        size_t at =
            (size_t)snprintf(text, TEXT_BYTES, "it has no key \"%s\"%s%s%s; known are", ws_shown(bytes, len, written),
                             near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
        list(text, at, keys);
        return false;
    }
    return true;
}
