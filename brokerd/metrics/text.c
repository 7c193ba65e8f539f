#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "forms.h"
#include "metrics_internal.h"

void text_bytes(struct text *t, const void *bytes, size_t len)
{
    if (!t->failed)
        t->failed = !buf_append(t->to, bytes, len);
}

void text_put(struct text *t, const char *literal)
{
    text_bytes(t, literal, strlen(literal));
}

void text_format(struct text *t, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof(text))
        t->failed = true;
    else
        text_bytes(t, text, (size_t)n);
}

void text_key(struct text *t, const char *key)
{
    uint8_t last = t->to->len > 0 ? t->to->bytes[t->to->len - 1] : '{';
    text_put(t, last == '{' || last == '[' ? "\"" : ",\"");
    text_put(t, key);
    text_put(t, "\":");
}

void text_u64(struct text *t, const char *key, uint64_t value)
{
    text_key(t, key);
    if (!t->failed)
        t->failed = !form_json_u64(t->to, value);
}

void text_bool(struct text *t, const char *key, bool value)
{
    text_key(t, key);
    text_put(t, value ? "true" : "false");
}

void text_number(struct text *t, const char *key, double value)
{
    text_key(t, key);
    text_format(t, "%.1f", value);
}

void text_string(struct text *t, const char *key, const char *value, size_t len)
{
    text_key(t, key);
    if (!t->failed)
        t->failed = !form_json_string(t->to, value, len);
}
