/* Text in JSON's clothes: strings, numbers, times, sizes first and bytes after, so that a field is reserved once. */
#include "forms_internal.h"

/* What a byte below 0x80 takes more than itself in a JSON string (RFC 8259 section 7); DEL is not escaped by the letter of
   it, but shown so all the same: it is no sight for a terminal. */
static const uint8_t more_bytes[128] = {
    5, 5, 5, 5, 5, 5, 5, 5, 1, 1, 1, 5, 1, 1, 5, 5, /* \b \t \n \f \r are short */
    5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, ['"'] = 1, ['\\'] = 1, [0x7f] = 5,
};

typedef int8_t block __attribute__((vector_size(16)));
enum { BLOCK_BYTES = sizeof(block) };

/* 16 bytes: do they go out as they are, or with a backslash before quotes and backslashes? `marks` of these: 1 in each such
   byte. Seen as signed, what is no ASCII is below a blank too. */
static inline bool block_is_simple(const uint8_t *p, uint64_t marks[2])
{
    block v, odd;
    uint64_t halves[2];
    memcpy(&v, p, sizeof(v));
    odd = (v < 0x20) | (v == 0x7f);
    memcpy(halves, &odd, sizeof(odd));
    v = ((v == '"') | (v == '\\')) & 1;
    memcpy(marks, &v, sizeof(v));
    return (halves[0] | halves[1]) == 0;
}

/* How many bytes of the 16 are 1, the others being 0. */
static inline size_t marks_count(const uint64_t marks[2])
{
    return (marks[0] + marks[1]) * 0x0101010101010101u >> 56;
}

static inline bool block_is_ascii(const uint8_t *p)
{
    uint64_t halves[2];
    memcpy(halves, p, sizeof(halves));
    return ((halves[0] | halves[1]) & 0x8080808080808080u) == 0;
}

/* The bytes of the well-formed character at p (RFC 3629), whose first is no ASCII; 0: there is none in `len` bytes. */
static inline size_t utf8_length(const uint8_t *p, size_t len)
{
    size_t need = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    if (p[0] < 0xc2 || p[0] > 0xf4 || len < need)
        return 0;
    for (size_t i = 1; i < need; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    /* Overlong forms, surrogates, and what lies above U+10FFFF. */
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
        (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;
    return need;
}

bool form_is_utf8(const void *bytes, size_t len)
{
    const uint8_t *p = bytes;
    for (size_t i = 0; i < len;) {
        if (len - i >= BLOCK_BYTES && block_is_ascii(p + i)) {
            i += BLOCK_BYTES;
            continue;
        }
        size_t n = p[i] < 0x80 ? 1 : utf8_length(p + i, len - i);
        if (n == 0)
            return false;
        i += n;
    }
    return true;
}

/* stops: the size of what is no UTF-8 is not asked for. */
static inline size_t text_bytes(const void *text, size_t len, bool *utf8, bool stops)
{
    const uint8_t *p = text;
    uint64_t marks[2];
    size_t bytes = len, i = 0;
    *utf8 = true;
    while (i < len) {
        size_t left = len - i;
        if (left >= BLOCK_BYTES && block_is_simple(p + i, marks)) {
            bytes += marks_count(marks);
            i += BLOCK_BYTES;
            continue;
        }
        for (size_t end = i + (left < BLOCK_BYTES ? left : BLOCK_BYTES); i < end;) {
            if (p[i] < 0x80) {
                bytes += more_bytes[p[i++]];
                continue;
            }
            size_t n = utf8_length(p + i, len - i);
            if (n == 0) {
                *utf8 = false;
                if (stops)
                    return 0;
                bytes += 2; /* U+FFFD has three */
                n = 1;
            }
            i += n;
        }
    }
    return bytes;
}

size_t form_json_text_bytes(const void *text, size_t len)
{
    bool utf8;
    return text_bytes(text, len, &utf8, false);
}

bool form_json_text_fits(const void *text, size_t len, size_t *bytes)
{
    bool utf8;
    *bytes = text_bytes(text, len, &utf8, true);
    return utf8;
}

static uint8_t *escape_put(uint8_t *to, uint8_t c)
{
    static const char hex[] = "0123456789abcdef";
    *to++ = '\\';
    switch (c) {
    case '"':
    case '\\': *to++ = c; return to;
    case '\b': *to++ = 'b'; return to;
    case '\f': *to++ = 'f'; return to;
    case '\n': *to++ = 'n'; return to;
    case '\r': *to++ = 'r'; return to;
    case '\t': *to++ = 't'; return to;
    default:
        to = LITERAL_PUT(to, "u00");
        *to++ = (uint8_t)hex[c >> 4];
        *to++ = (uint8_t)hex[c & 15];
        return to;
    }
}

/* A simple block. No branch for quotes, which come as they like: a backslash that is not wanted is written over. */
static inline uint8_t *quotes_put(uint8_t *to, const uint8_t *p)
{
    for (size_t i = 0; i < BLOCK_BYTES; i++) {
        *to = '\\';
        to += (p[i] == '"') | (p[i] == '\\');
        *to++ = p[i];
    }
    return to;
}

uint8_t *form_json_text_put(uint8_t *to, const void *text, size_t len, size_t bytes)
{
    const uint8_t *p = text;
    uint64_t marks[2];
    if (bytes == len)
        return pack_bytes(to, text, len);
    for (size_t i = 0; i < len;) {
        size_t left = len - i;
        if (left >= BLOCK_BYTES && block_is_simple(p + i, marks)) {
            to = (marks[0] | marks[1]) == 0 ? pack_bytes(to, p + i, BLOCK_BYTES) : quotes_put(to, p + i);
            i += BLOCK_BYTES;
            continue;
        }
        for (size_t end = i + (left < BLOCK_BYTES ? left : BLOCK_BYTES); i < end;) {
            uint8_t c = p[i];
            if (c < 0x80) {
                if (more_bytes[c] == 0)
                    *to++ = c;
                else
                    to = escape_put(to, c);
                i++;
                continue;
            }
            size_t n = utf8_length(p + i, len - i);
            to = n ? pack_bytes(to, p + i, n) : LITERAL_PUT(to, "\xef\xbf\xbd");
            i += n ? n : 1;
        }
    }
    return to;
}

uint8_t *form_digits_put(uint8_t *to, uint64_t value)
{
    uint8_t digits[DIGITS_MAX], *first = digits + sizeof(digits);
    do {
        *--first = (uint8_t)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    return pack_bytes(to, first, (size_t)(digits + sizeof(digits) - first));
}

static uint8_t *padded_put(uint8_t *to, uint32_t value, unsigned digits)
{
    for (unsigned i = digits; i-- > 0; value /= 10)
        to[i] = (uint8_t)('0' + value % 10);
    return to + digits;
}

/* The date of a day: Howard Hinnant, "chrono-compatible low-level date algorithms", civil_from_days. */
uint8_t *form_time_put(uint8_t *to, uint64_t unix_ms)
{
    uint32_t ms = (uint32_t)(unix_ms % 86400000);
    uint32_t days = (uint32_t)(unix_ms / 86400000) + 719468; /* since 0000-03-01 */
    uint32_t era = days / 146097, day_of_era = days % 146097;
    uint32_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    uint32_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100); /* from March on */
    uint32_t shifted = (5 * day_of_year + 2) / 153, month = shifted < 10 ? shifted + 3 : shifted - 9;
    to = padded_put(to, era * 400 + year_of_era + (month <= 2), 4);
    *to++ = '-';
    to = padded_put(to, month, 2);
    *to++ = '-';
    to = padded_put(to, day_of_year - (153 * shifted + 2) / 5 + 1, 2);
    *to++ = 'T';
    to = padded_put(to, ms / 3600000, 2);
    *to++ = ':';
    to = padded_put(to, ms / 60000 % 60, 2);
    *to++ = ':';
    to = padded_put(to, ms / 1000 % 60, 2);
    *to++ = '.';
    to = padded_put(to, ms % 1000, 3);
    *to++ = 'Z';
    return to;
}

/* ---- appended --------------------------------------------------------------------------------------------------------- */

bool form_json_string(struct buf *out, const char *text, size_t len)
{
    size_t bytes = form_json_text_bytes(text, len);
    uint8_t *to = buf_reserve(out, bytes + 2);
    if (!to)
        return false;
    to[0] = '"';
    *form_json_text_put(to + 1, text, len, bytes) = '"';
    out->len += bytes + 2;
    return true;
}

bool form_json_u64(struct buf *out, uint64_t value)
{
    uint8_t *to = buf_reserve(out, DIGITS_MAX);
    if (!to)
        return false;
    out->len += (size_t)(form_digits_put(to, value) - to);
    return true;
}

bool form_put(struct buf *out, const char *text)
{
    return buf_append(out, text, strlen(text));
}

bool form_base64(struct buf *out, const void *bytes, size_t len)
{
    uint8_t *to = buf_reserve(out, BASE64_BYTES(len));
    if (!to)
        return false;
    out->len += (size_t)(form_base64_put(to, bytes, len) - to);
    return true;
}
