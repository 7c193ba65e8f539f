#include "json.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool text_reserve(struct text *t, size_t more)
{
    if (t->len + more <= t->capacity)
        return true;
    size_t capacity = t->capacity ? t->capacity : 256;
    while (capacity < t->len + more)
        capacity *= 2;
    char *bytes = realloc(t->bytes, capacity);
    if (!bytes) {
        t->failed = true;
        return false;
    }
    t->bytes = bytes;
    t->capacity = capacity;
    return true;
}

void text_add(struct text *t, const void *bytes, size_t len)
{
    if (len == 0 || !text_reserve(t, len))
        return;
    memcpy(t->bytes + t->len, bytes, len);
    t->len += len;
}

void text_addf(struct text *t, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, args);
    if (len >= 0 && text_reserve(t, (size_t)len + 1)) {
        vsnprintf(t->bytes + t->len, (size_t)len + 1, format, again);
        t->len += (size_t)len;
    }
    va_end(again);
    va_end(args);
}

void text_release(struct text *t)
{
    free(t->bytes);
    *t = (struct text){0};
}

static void before_value(struct json *j)
{
    if (!j->after_key && j->after_value[j->depth])
        text_add(j->out, ",", 1);
    j->after_key = false;
    j->after_value[j->depth] = true;
}

void json_open(struct json *j, char bracket)
{
    before_value(j);
    text_add(j->out, &bracket, 1);
    if (j->depth + 1 < JSON_DEPTH_MAX)
        j->depth++;
    j->after_value[j->depth] = false;
}

void json_close(struct json *j, char bracket)
{
    text_add(j->out, &bracket, 1);
    if (j->depth > 0)
        j->depth--;
}

size_t utf8_length(const char *bytes, size_t len)
{
    const unsigned char *p = (const unsigned char *)bytes;
    if (len == 0)
        return 0;
    if (p[0] < 0x80)
        return 1;
    size_t need = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    if (p[0] < 0xc2 || p[0] > 0xf4 || len < need)
        return 0;
    for (size_t i = 1; i < need; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    }
    /* Overlong forms, surrogates, and what lies above U+10FFFF. */
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
        (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;
    return need;
}

bool utf8_is_valid(const char *bytes, size_t len)
{
    for (size_t i = 0; i < len;) {
        size_t n = utf8_length(bytes + i, len - i);
        if (n == 0)
            return false;
        i += n;
    }
    return true;
}

static void add_escaped(struct text *out, unsigned char c)
{
    static const char plain[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
    const char *known = memchr(plain, c, sizeof plain - 1);
    char escape[8];
    int len = known ? snprintf(escape, sizeof escape, "\\%c", letters[known - plain])
                    : snprintf(escape, sizeof escape, "\\u%04x", c);
    text_add(out, escape, (size_t)len);
}

void json_bytes(struct json *j, const char *bytes, size_t len)
{
    before_value(j);
    text_add(j->out, "\"", 1);
    size_t start = 0; /* of the stretch that goes out as it is */
    for (size_t i = 0; i < len;) {
        unsigned char c = (unsigned char)bytes[i];
        size_t n = utf8_length(bytes + i, len - i);
        if (n > 0 && c >= 0x20 && c != '"' && c != '\\' && c != 0x7f) {
            i += n;
            continue;
        }
        text_add(j->out, bytes + start, i - start);
        if (n == 0)
            text_add(j->out, "\xef\xbf\xbd", 3);
        else
            add_escaped(j->out, c);
        start = ++i;
    }
    text_add(j->out, bytes + start, len - start);
    text_add(j->out, "\"", 1);
}

void json_text(struct json *j, const char *text)
{
    if (text) {
        json_bytes(j, text, strlen(text));
        return;
    }
    before_value(j);
    text_add(j->out, "null", 4);
}

void json_base64(struct json *j, const void *bytes, size_t len)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *p = bytes;
    before_value(j);
    text_add(j->out, "\"", 1);
    for (size_t i = 0; i < len; i += 3) {
        size_t left = len - i;
        uint32_t v = (uint32_t)p[i] << 16 | (left > 1 ? (uint32_t)p[i + 1] << 8 : 0) | (left > 2 ? p[i + 2] : 0);
        char four[4] = {digits[v >> 18], digits[v >> 12 & 63], left > 1 ? digits[v >> 6 & 63] : '=',
                        left > 2 ? digits[v & 63] : '='};
        text_add(j->out, four, 4);
    }
    text_add(j->out, "\"", 1);
}

void json_key(struct json *j, const char *key)
{
    json_text(j, key);
    text_add(j->out, ":", 1);
    j->after_key = true;
}

void json_u64(struct json *j, uint64_t value)
{
    before_value(j);
    text_addf(j->out, "%" PRIu64, value);
}

void json_double(struct json *j, double value)
{
    before_value(j);
    if (isfinite(value))
        text_addf(j->out, "%.10g", value);
    else
        text_add(j->out, "null", 4);
}

void json_bool(struct json *j, bool value)
{
    before_value(j);
    text_addf(j->out, "%s", value ? "true" : "false");
}

void json_put_text(struct json *j, const char *key, const char *text)
{
    json_key(j, key);
    json_text(j, text);
}

void json_put_u64(struct json *j, const char *key, uint64_t value)
{
    json_key(j, key);
    json_u64(j, value);
}

void json_put_real(struct json *j, const char *key, double value)
{
    json_key(j, key);
    json_double(j, value);
}

void json_put_bool(struct json *j, const char *key, bool value)
{
    json_key(j, key);
    json_bool(j, value);
}
