/* Control bodies: one msgpack map with string keys, read with bounds and written without repetition. */
#include "wire.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

enum { MAP_DEPTH_MAX = 8, MAP_BYTES_MAX = 4 << 20, MAP_ELEMENTS_MAX = 1 << 18 };

/* ---- a first look, before msgpack-c allocates for what a count claims ------------------------------------------- */

struct scan {
    const uint8_t *p, *end;
    uint32_t elements;
};

static uint32_t big_endian(const uint8_t *p, size_t n)
{
    uint32_t v = 0;
    for (size_t i = 0; i < n; i++)
        v = v << 8 | p[i];
    return v;
}

/* Bytes of head after the first byte, by type byte 0xc0..0xdf (msgpack's spec.md, "Overview" of formats); a length or
   count of `count_bytes` is read from them where there is one. */
static const struct {
    uint8_t count_bytes; /* of a length that follows */
    uint8_t plain_bytes; /* fixed bytes after it */
    char kind;           /* 's'calar or string (length in bytes), 'a'rray, 'm'ap, 0: never used */
} formats[32] = {
    [0x00] = {0, 0, 's'},                                             /* nil; 0xc1 stays 0: never used */
    [0x02] = {0, 0, 's'},                                             /* false, true */
    [0x03] = {0, 0, 's'}, [0x04] = {1, 0, 's'},                       /* bin */
    [0x05] = {2, 0, 's'}, [0x06] = {4, 0, 's'}, [0x07] = {1, 1, 's'}, /* ext */
    [0x08] = {2, 1, 's'}, [0x09] = {4, 1, 's'}, [0x0a] = {0, 4, 's'}, /* float */
    [0x0b] = {0, 8, 's'}, [0x0c] = {0, 1, 's'},                       /* uint, int */
    [0x0d] = {0, 2, 's'}, [0x0e] = {0, 4, 's'}, [0x0f] = {0, 8, 's'}, [0x10] = {0, 1, 's'},
    [0x11] = {0, 2, 's'}, [0x12] = {0, 4, 's'}, [0x13] = {0, 8, 's'}, [0x14] = {0, 2, 's'}, /* fixext */
    [0x15] = {0, 3, 's'}, [0x16] = {0, 5, 's'}, [0x17] = {0, 9, 's'}, [0x18] = {0, 17, 's'},
    [0x19] = {1, 0, 's'}, /* str */
    [0x1a] = {2, 0, 's'}, [0x1b] = {4, 0, 's'}, [0x1c] = {2, 0, 'a'}, [0x1d] = {4, 0, 'a'},
    [0x1e] = {2, 0, 'm'}, [0x1f] = {4, 0, 'm'},
};

/* Head of one element: how many bytes to skip and how many elements nest in it. */
static bool scan_head(struct scan *s, uint64_t *skip, uint64_t *nested)
{
    *skip = *nested = 0;
    if (s->p == s->end)
        return false;
    uint8_t byte = *s->p++;
    if (byte < 0x80 || byte >= 0xe0)
        return true; /* a small integer */
    if (byte < 0x90) {
        *nested = 2u * (byte & 0x0fu);
    } else if (byte < 0xa0) {
        *nested = byte & 0x0fu;
    } else if (byte < 0xc0) {
        *skip = byte & 0x1fu;
    } else {
        size_t count_bytes = formats[byte - 0xc0].count_bytes;
        char kind = formats[byte - 0xc0].kind;
        if (kind == 0 || (size_t)(s->end - s->p) < count_bytes)
            return false;
        uint64_t n = big_endian(s->p, count_bytes);
        s->p += count_bytes;
        *skip = kind == 's' ? n + formats[byte - 0xc0].plain_bytes : 0;
        *nested = kind == 'a' ? n : kind == 'm' ? 2 * n : 0;
    }
    return true;
}

const uint8_t *wire_skip(const uint8_t *p, const uint8_t *end)
{
    struct scan s = {.p = p, .end = end};
    uint64_t left[MAP_DEPTH_MAX + 1]; /* elements still to come, by depth */
    int depth = 0;

    left[0] = 1;
    while (depth >= 0) {
        if (left[depth] == 0) {
            depth--;
            continue;
        }
        left[depth]--;
        uint64_t skip, nested;
        if (++s.elements > MAP_ELEMENTS_MAX || !scan_head(&s, &skip, &nested))
            return NULL;
        uint64_t rest = (uint64_t)(s.end - s.p);
        if (skip > rest || nested > rest) /* an element takes at least a byte */
            return NULL;
        s.p += skip;
        if (nested > 0) {
            if (depth == MAP_DEPTH_MAX || nested > MAP_ELEMENTS_MAX - s.elements)
                return NULL;
            left[++depth] = nested;
        }
    }
    return s.p;
}

uint32_t wire_count(const uint8_t *p, const uint8_t *end, uint32_t max)
{
    struct scan s = {.p = p, .end = end};

    for (uint64_t left = 1; left > 0; left--) {
        uint64_t skip, nested;
        if (++s.elements > max || !scan_head(&s, &skip, &nested))
            return 0;
        uint64_t rest = (uint64_t)(s.end - s.p);
        if (skip > rest || nested > rest) /* an element takes at least a byte */
            return 0;
        s.p += skip;
        left += nested;
    }
    return s.p == end ? s.elements : 0;
}

const uint8_t *wire_skip_map(const uint8_t *p, const uint8_t *end, uint32_t *pairs)
{
    struct scan s = {.p = p, .end = end};
    uint64_t skip, nested;
    bool map = p < end && ((*p & 0xf0) == 0x80 || *p == 0xde || *p == 0xdf);

    if (!map || !scan_head(&s, &skip, &nested))
        return NULL;
    *pairs = (uint32_t)(nested / 2);
    return s.p;
}

const uint8_t *wire_skip_text(const uint8_t *p, const uint8_t *end, const char **text, size_t *len)
{
    struct scan s = {.p = p, .end = end};
    uint64_t skip, nested;
    bool string = p < end && ((*p & 0xe0) == 0xa0 || (*p >= 0xd9 && *p <= 0xdb));

    if (!string || !scan_head(&s, &skip, &nested) || skip > (uint64_t)(end - s.p))
        return NULL;
    *text = (const char *)s.p;
    *len = (size_t)skip;
    return s.p + skip;
}

/* ---- reading ------------------------------------------------------------------------------------------------------ */

__attribute__((format(printf, 2, 3))) static void say(struct wire_map *m, const char *format, ...)
{
    if (m->error[0] != '\0')
        return; /* the first thing wrong is the one to tell */
    va_list args;
    va_start(args, format);
    vsnprintf(m->error, sizeof(m->error), format, args);
    va_end(args);
}

broker_error wire_map_open(struct wire_map *m, const uint8_t *body, size_t len)
{
    msgpack_unpacked_init(&m->unpacked);
    m->map = NULL;
    m->error[0] = '\0';
    if (len == 0)
        return BROKER_OK;
    if (len > MAP_BYTES_MAX) {
        say(m, "the control body has %zu bytes; at most %d are allowed", len, MAP_BYTES_MAX);
        return BROKER_MALFORMED;
    }
    size_t offset = 0;
    if (wire_skip(body, body + len) != body + len) {
        say(m, "the control body is not one msgpack map nested at most %d deep", MAP_DEPTH_MAX);
        return BROKER_MALFORMED;
    }
    msgpack_unpack_return r = msgpack_unpack_next(&m->unpacked, (const char *)body, len, &offset);
    if (r == MSGPACK_UNPACK_NOMEM_ERROR) {
        say(m, "out of memory for a control body of %zu bytes", len);
        return BROKER_NO_MEMORY;
    }
    if (r != MSGPACK_UNPACK_SUCCESS || offset != len || m->unpacked.data.type != MSGPACK_OBJECT_MAP) {
        say(m, "the control body is not a msgpack map");
        return BROKER_MALFORMED;
    }
    const msgpack_object_map *map = &m->unpacked.data.via.map;
    for (uint32_t i = 0; i < map->size; i++) {
        if (map->ptr[i].key.type != MSGPACK_OBJECT_STR) {
            say(m, "key %" PRIu32 " of the control body is not a string", i);
            return BROKER_MALFORMED;
        }
    }
    m->map = map;
    return BROKER_OK;
}

void wire_map_close(struct wire_map *m)
{
    msgpack_unpacked_destroy(&m->unpacked);
    m->map = NULL;
}

const msgpack_object *wire_map_find(const struct wire_map *m, const char *key)
{
    size_t len = strlen(key);

    if (!m->map)
        return NULL;
    for (uint32_t i = 0; i < m->map->size; i++) {
        const msgpack_object_str *s = &m->map->ptr[i].key.via.str;
        if (s->size == len && memcmp(s->ptr, key, len) == 0)
            return &m->map->ptr[i].val;
    }
    return NULL;
}

bool wire_map_has(const struct wire_map *m, const char *key)
{
    return wire_map_find(m, key) != NULL;
}

bool wire_map_u64(struct wire_map *m, const char *key, uint64_t min, uint64_t max, uint64_t *out)
{
    const msgpack_object *o = wire_map_find(m, key);

    if (!o)
        return true;
    if (o->type == MSGPACK_OBJECT_NEGATIVE_INTEGER) {
        say(m, "\"%s\" is %" PRId64 "; give a whole number from %" PRIu64 " to %" PRIu64, key, o->via.i64, min, max);
        return false;
    }
    if (o->type != MSGPACK_OBJECT_POSITIVE_INTEGER) {
        say(m, "\"%s\" is not a whole number; give one from %" PRIu64 " to %" PRIu64, key, min, max);
        return false;
    }
    if (o->via.u64 < min || o->via.u64 > max) {
        say(m, "\"%s\" is %" PRIu64 "; give a whole number from %" PRIu64 " to %" PRIu64, key, o->via.u64, min, max);
        return false;
    }
    *out = o->via.u64;
    return true;
}

bool wire_map_bool(struct wire_map *m, const char *key, bool *out)
{
    const msgpack_object *o = wire_map_find(m, key);

    if (!o)
        return true;
    if (o->type != MSGPACK_OBJECT_BOOLEAN) {
        say(m, "\"%s\" is not a boolean; give true or false", key);
        return false;
    }
    *out = o->via.boolean;
    return true;
}

bool wire_map_str(struct wire_map *m, const char *key, size_t max_len, const char **out, size_t *len)
{
    const msgpack_object *o = wire_map_find(m, key);

    if (!o)
        return true;
    if (o->type != MSGPACK_OBJECT_STR) {
        say(m, "\"%s\" is not a string", key);
        return false;
    }
    if (o->via.str.size > max_len) {
        say(m, "\"%s\" has %" PRIu32 " bytes; at most %zu are allowed", key, o->via.str.size, max_len);
        return false;
    }
    *out = o->via.str.ptr;
    *len = o->via.str.size;
    return true;
}

bool wire_map_text(struct wire_map *m, const char *key, size_t max_len, const char **out)
{
    const char *bytes = NULL;
    size_t len = 0;

    if (!wire_map_str(m, key, max_len, &bytes, &len))
        return false;
    if (!wire_map_has(m, key))
        return true;
    if (len > 0 && memchr(bytes, 0, len)) {
        say(m, "\"%s\" has a NUL byte in it; give text without", key);
        return false;
    }
    char *copy = msgpack_zone_malloc(m->unpacked.zone, len + 1);
    if (!copy) {
        say(m, "out of memory for \"%s\" of %zu bytes", key, len);
        return false;
    }
    if (len > 0)
        memcpy(copy, bytes, len);
    copy[len] = 0;
    *out = copy;
    return true;
}

/* ---- writing ------------------------------------------------------------------------------------------------------ */

void pack_str(msgpack_packer *pk, const char *value, size_t len)
{
    msgpack_pack_str(pk, len);
    if (len > 0)
        msgpack_pack_str_body(pk, value, len);
}

void pack_key_u64(msgpack_packer *pk, const char *key, uint64_t value)
{
    pack_str(pk, key, strlen(key));
    msgpack_pack_uint64(pk, value);
}

void pack_key_bool(msgpack_packer *pk, const char *key, bool value)
{
    pack_str(pk, key, strlen(key));
    if (value)
        msgpack_pack_true(pk);
    else
        msgpack_pack_false(pk);
}

void pack_key_str(msgpack_packer *pk, const char *key, const char *value, size_t len)
{
    pack_str(pk, key, strlen(key));
    pack_str(pk, value, len);
}

void wire_error_put(msgpack_sbuffer *out, broker_error code, const char *text, const char *scope, uint32_t retry_ms)
{
    msgpack_packer pk;

    msgpack_packer_init(&pk, out, msgpack_sbuffer_write);
    msgpack_pack_map(&pk, 4);
    pack_key_u64(&pk, "code", code);
    pack_key_str(&pk, "text", text, strlen(text));
    pack_key_str(&pk, "scope", scope, strlen(scope));
    pack_key_u64(&pk, "retry_ms", retry_ms);
}
