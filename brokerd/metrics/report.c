#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "forms.h"
#include "metrics_internal.h"

void report_bytes(struct report *t, const void *bytes, size_t len)
{
    if (!t->failed)
        t->failed = !buf_append(t->to, bytes, len);
}

void report_put(struct report *t, const char *literal)
{
    report_bytes(t, literal, strlen(literal));
}

void report_format(struct report *t, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof(text))
        t->failed = true;
    else
        report_bytes(t, text, (size_t)n);
}

void report_key(struct report *t, const char *key)
{
    uint8_t last = t->to->len > 0 ? t->to->bytes[t->to->len - 1] : '{';
    report_put(t, last == '{' || last == '[' ? "\"" : ",\"");
    report_put(t, key);
    report_put(t, "\":");
}

void report_u64(struct report *t, const char *key, uint64_t value)
{
    report_key(t, key);
    if (!t->failed)
        t->failed = !form_json_u64(t->to, value);
}

void report_bool(struct report *t, const char *key, bool value)
{
    report_key(t, key);
    report_put(t, value ? "true" : "false");
}

void report_number(struct report *t, const char *key, double value)
{
    report_key(t, key);
    report_format(t, "%.1f", value);
}

void report_string(struct report *t, const char *key, const char *value, size_t len)
{
    report_key(t, key);
    if (!t->failed)
        t->failed = !form_json_string(t->to, value, len);
}
