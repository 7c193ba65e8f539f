/* Private to fronts/forms/. */
#ifndef FORMS_INTERNAL_H
#define FORMS_INTERNAL_H

#include <string.h>

#include "forms.h"

enum {
    DIGITS_MAX = 20,       /* of a u64 */
    TIME_BYTES = 24,       /* 2026-11-24T18:32:10.123Z */
    FORM_DEPTH_MAX = 64,   /* arrays and objects in one another */
    ID_BYTES_MAX = 239,    /* as a program with a producer may give: what one way takes, the others can publish again */
    KEY_BYTES_MAX = 65535, /* a record's field for it has 16 bits */
    HEADERS_MAX = 65535,
};
#define YEAR_9999_MS 253402300799999u /* RFC 3339 has no year after it */

/* ---- text.c: written into room that is there --------------------------------------------------------------------------- */

/* The bytes that `text` takes between a JSON string's quotes; what is no UTF-8 counts as U+FFFD, byte by byte. */
size_t form_json_text_bytes(const void *text, size_t len);
/* The same of text that must be UTF-8; false: it is not. */
bool form_json_text_fits(const void *text, size_t len, size_t *bytes);
/* Write them; `bytes` as form_json_text_bytes said. The end is returned, as by all that follow. */
uint8_t *form_json_text_put(uint8_t *to, const void *text, size_t len, size_t bytes);
uint8_t *form_digits_put(uint8_t *to, uint64_t value); /* DIGITS_MAX */
uint8_t *form_time_put(uint8_t *to, uint64_t unix_ms); /* TIME_BYTES: RFC 3339, UTC; up to the year 9999 */
#define LITERAL_PUT(to, literal) ((uint8_t *)memcpy(to, literal, sizeof(literal) - 1) + sizeof(literal) - 1)

/* ---- base64.c -------------------------------------------------------------------------------------------------------------- */

#define BASE64_BYTES(n) (((n) + 2) / 3 * 4)
uint8_t *form_base64_put(uint8_t *to, const void *bytes, size_t len); /* BASE64_BYTES(len) */
/* RFC 4648 section 4, canonical: padded, no blanks, spare bits zero. Into len / 4 * 3 bytes; false: it is no base64. */
bool form_base64_get(uint8_t *to, size_t *to_len, const char *text, size_t len);

/* ---- headers.c: the pairs of a record's headers --------------------------------------------------------------------------- */

struct header_walk {
    const uint8_t *p, *end;
    uint32_t pairs; /* still to come */
};
struct header_pair {
    const char *name, *text; /* text NULL: the value is no string */
    size_t name_len, text_len;
    const uint8_t *value, *value_end; /* msgpack */
};
void form_header_walk_init(struct header_walk *w, const struct record_view *v);
/* false: no more, or what follows is malformed. Pairs whose name is no string are passed over. */
bool form_header_walk_next(struct header_walk *w, struct header_pair *pair);
/* Append the msgpack between as JSON. */
bool form_header_value_json(struct buf *out, const struct header_pair *pair);

/* ---- transcode.c ------------------------------------------------------------------------------------------------------------ */

bool form_json_value_put(struct buf *out, const json_t *value); /* compact; numbers in their shortest form */

/* ---- msgpack by hand, into room that is there ---------------------------------------------------------------------------- */

enum { PACK_HEAD_MAX = 5, PACK_UINT_MAX = 9 };

static inline uint8_t *pack_be(uint8_t *to, uint8_t type, uint64_t value, unsigned bytes)
{
    *to++ = type;
    while (bytes-- > 0)
        *to++ = (uint8_t)(value >> (8 * bytes));
    return to;
}

static inline uint8_t *pack_uint(uint8_t *to, uint64_t value)
{
    if (value < 0x80) {
        *to = (uint8_t)value;
        return to + 1;
    }
    if (value <= UINT8_MAX)
        return pack_be(to, 0xcc, value, 1);
    if (value <= UINT16_MAX)
        return pack_be(to, 0xcd, value, 2);
    return value <= UINT32_MAX ? pack_be(to, 0xce, value, 4) : pack_be(to, 0xcf, value, 8);
}

static inline uint8_t *pack_bytes(uint8_t *to, const void *bytes, size_t len)
{
    if (len > 0)
        memcpy(to, bytes, len);
    return to + len;
}

static inline uint8_t *pack_text(uint8_t *to, const void *text, size_t len)
{
    if (len < 32)
        *to++ = (uint8_t)(0xa0 | len);
    else if (len <= UINT8_MAX)
        to = pack_be(to, 0xd9, len, 1);
    else
        to = len <= UINT16_MAX ? pack_be(to, 0xda, len, 2) : pack_be(to, 0xdb, len, 4);
    return pack_bytes(to, text, len);
}

static inline uint8_t *pack_bin(uint8_t *to, const void *bytes, size_t len)
{
    if (len <= UINT8_MAX)
        to = pack_be(to, 0xc4, len, 1);
    else
        to = len <= UINT16_MAX ? pack_be(to, 0xc5, len, 2) : pack_be(to, 0xc6, len, 4);
    return pack_bytes(to, bytes, len);
}

static inline uint8_t *pack_map_head(uint8_t *to, uint32_t pairs)
{
    if (pairs < 16) {
        *to = (uint8_t)(0x80 | pairs);
        return to + 1;
    }
    return pairs <= UINT16_MAX ? pack_be(to, 0xde, pairs, 2) : pack_be(to, 0xdf, pairs, 4);
}

#endif
