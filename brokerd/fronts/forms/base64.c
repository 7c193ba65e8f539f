/*
 * Base64, RFC 4648 section 4. mbedTLS's (libbroker/tls) takes the same time for every byte, as keys need; bodies need speed,
 * and come by the megabyte: tables.
 */
#include "forms_internal.h"

static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

uint8_t *form_base64_put(uint8_t *to, const void *bytes, size_t len)
{
    const uint8_t *p = bytes;
    for (; len >= 3; p += 3, len -= 3, to += 4) {
        uint32_t v = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
        to[0] = (uint8_t)letters[v >> 18];
        to[1] = (uint8_t)letters[v >> 12 & 63];
        to[2] = (uint8_t)letters[v >> 6 & 63];
        to[3] = (uint8_t)letters[v & 63];
    }
    if (len == 0)
        return to;
    uint32_t v = (uint32_t)p[0] << 16 | (len > 1 ? (uint32_t)p[1] << 8 : 0);
    to[0] = (uint8_t)letters[v >> 18];
    to[1] = (uint8_t)letters[v >> 12 & 63];
    to[2] = len > 1 ? (uint8_t)letters[v >> 6 & 63] : '=';
    to[3] = '=';
    return to + 4;
}

/* What each letter stands for, and one more: 0 is what is none. */
static const uint8_t values[256] = {
    ['A'] = 1,  ['B'] = 2,  ['C'] = 3,  ['D'] = 4,  ['E'] = 5,  ['F'] = 6,  ['G'] = 7,  ['H'] = 8,
    ['I'] = 9,  ['J'] = 10, ['K'] = 11, ['L'] = 12, ['M'] = 13, ['N'] = 14, ['O'] = 15, ['P'] = 16,
    ['Q'] = 17, ['R'] = 18, ['S'] = 19, ['T'] = 20, ['U'] = 21, ['V'] = 22, ['W'] = 23, ['X'] = 24,
    ['Y'] = 25, ['Z'] = 26, ['a'] = 27, ['b'] = 28, ['c'] = 29, ['d'] = 30, ['e'] = 31, ['f'] = 32,
    ['g'] = 33, ['h'] = 34, ['i'] = 35, ['j'] = 36, ['k'] = 37, ['l'] = 38, ['m'] = 39, ['n'] = 40,
    ['o'] = 41, ['p'] = 42, ['q'] = 43, ['r'] = 44, ['s'] = 45, ['t'] = 46, ['u'] = 47, ['v'] = 48,
    ['w'] = 49, ['x'] = 50, ['y'] = 51, ['z'] = 52, ['0'] = 53, ['1'] = 54, ['2'] = 55, ['3'] = 56,
    ['4'] = 57, ['5'] = 58, ['6'] = 59, ['7'] = 60, ['8'] = 61, ['9'] = 62, ['+'] = 63, ['/'] = 64,
};

bool form_base64_get(uint8_t *to, size_t *to_len, const char *text, size_t len)
{
    const uint8_t *p = (const uint8_t *)text;
    uint8_t *first = to;
    *to_len = 0;
    if (len % 4 != 0)
        return false;
    for (; len > 0; p += 4, len -= 4) {
        unsigned pads = len > 4 || p[3] != '=' ? 0 : p[2] != '=' ? 1 : 2;
        uint8_t v[4] = {values[p[0]], values[p[1]], pads > 1 ? 1 : values[p[2]], pads > 0 ? 1 : values[p[3]]};
        if (!v[0] || !v[1] || !v[2] || !v[3])
            return false;
        uint32_t bits =
            (uint32_t)(v[0] - 1) << 18 | (uint32_t)(v[1] - 1) << 12 | (uint32_t)(v[2] - 1) << 6 | (uint32_t)(v[3] - 1);
        if (pads > 0 && (bits & (pads > 1 ? 0xffffu : 0xffu)) != 0)
            return false; /* spare bits that are not zero: it is not what an encoder writes */
        *to++ = (uint8_t)(bits >> 16);
        if (pads < 2)
            *to++ = (uint8_t)(bits >> 8);
        if (pads < 1)
            *to++ = (uint8_t)bits;
    }
    *to_len = (size_t)(to - first);
    return true;
}
