/* A message as the fields of a response. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "headers.h"

enum { NUMBER_BYTES = 24 };

static bool put_char(struct buf *b, char c)
{
    return buf_append(b, &c, 1);
}

static bool put_percent(struct buf *b, uint8_t byte)
{
    static const char HEX[] = "0123456789ABCDEF";
    char text[3] = {'%', HEX[byte >> 4], HEX[byte & 15]};
    return buf_append(b, text, 3);
}

/* As CloudEvents' HTTP binding 3.1.3.2 has it: printable ASCII stays, but not the percent sign and quotes; blanks stay
   within a value, where they cannot be lost. */
static bool put_value(struct buf *b, const char *value, size_t len, bool event)
{
    bool good = true;
    for (size_t i = 0; good && i < len; i++) {
        uint8_t c = (uint8_t)value[i];
        bool blank = c == ' ' && !event && i > 0 && i + 1 < len;
        good = blank || (c > 0x20 && c < 0x7f && c != '%' && c != '"') ? put_char(b, (char)c) : put_percent(b, c);
    }
    return good;
}

/* A name as a field's: what is no lower-case letter, digit, '-', '_' or '.' is percent-encoded, so that it comes back as it was. */
static bool put_name(struct buf *b, const char *name, size_t len)
{
    bool good = true;
    for (size_t i = 0; good && i < len; i++) {
        uint8_t c = (uint8_t)name[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
        good = plain ? put_char(b, (char)c) : put_percent(b, c);
    }
    return good;
}

/* Lengths now; pointers at the end, when the text does not move any more. */
static void field_close(struct raw_fields *out, size_t at, size_t name_len, bool good)
{
    if (!good) {
        out->failed = true;
        return;
    }
    struct http_field *f = &out->fields[out->count++];
    f->name.len = name_len;
    f->value.len = out->text->len - at - name_len;
}

static void field_put(struct raw_fields *out, const char *name, const char *value, size_t len)
{
    size_t at = out->text->len, name_len = strlen(name);
    field_close(out, at, name_len, form_put(out->text, name) && put_value(out->text, value, len, false));
}

static void number_put(struct raw_fields *out, const char *name, uint64_t value)
{
    char text[NUMBER_BYTES];
    field_put(out, name, text, (size_t)snprintf(text, sizeof(text), "%llu", (unsigned long long)value));
}

size_t format_time(uint64_t unix_ms, char out[TIME_BYTES_MAX])
{
    struct tm tm;
    time_t seconds = (time_t)(unix_ms / 1000);
    if (unix_ms >= 253402300800000 || !gmtime_r(&seconds, &tm)) /* from the year 10000 on */
        return (size_t)snprintf(out, TIME_BYTES_MAX, "%llu", (unsigned long long)unix_ms);
    size_t n = strftime(out, TIME_BYTES_MAX, "%Y-%m-%dT%H:%M:%S", &tm);
    return n + (size_t)snprintf(out + n, TIME_BYTES_MAX - n, ".%03uZ", (unsigned)(unix_ms % 1000));
}

static void time_put(struct raw_fields *out, const char *name, uint64_t unix_ms)
{
    char text[TIME_BYTES_MAX];
    if (unix_ms)
        field_put(out, name, text, format_time(unix_ms, text));
}

static bool is_event_header(const char *name, size_t len)
{
    return len > 3 && memcmp(name, "ce-", 3) == 0;
}

static bool is_printable(const char *value, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (value[i] < 0x20 || value[i] > 0x7e)
            return false;
    }
    return len > 0 && len < 256;
}

struct walking {
    struct raw_fields *out;
    bool event;
};

static bool header_put(void *arg, const char *name, size_t name_len, const char *value, size_t value_len)
{
    struct walking *w = arg;
    struct raw_fields *out = w->out;
    struct buf *b = out->text;
    size_t at = b->len;
    if (!out->type_at && name_len == 12 && memcmp(name, "content-type", 12) == 0 && is_printable(value, value_len)) {
        out->type_at = at + 1;
        out->failed |= !put_char(b, 0) || !buf_append(b, value, value_len) || !put_char(b, 0);
        return true;
    }
    if (out->count == RAW_FIELDS_MAX - 1 || b->len + name_len + value_len > RAW_TEXT_MAX) {
        out->omitted++;
        return true;
    }
    bool event = w->event && is_event_header(name, name_len);
    bool good = (event || form_put(b, "Broker-Header-")) && put_name(b, name, name_len);
    size_t field_name = b->len - at;
    field_close(out, at, field_name, good && put_value(b, value, value_len, event));
    return true;
}

static bool find_version(void *arg, const char *name, size_t name_len, const char *value, size_t value_len)
{
    bool *event = arg;
    *event = name_len == 14 && memcmp(name, "ce-specversion", 14) == 0;
    return !*event;
}

bool message_is_event(const struct record_view *v)
{
    bool event = false;
    if (v->head.headers_len > 0)
        form_each_header(v, find_version, &event);
    return event;
}

static void raw_fields_end(struct raw_fields *out)
{
    const char *at = (const char *)out->text->bytes;
    size_t type_at = out->type_at;
    for (size_t i = 0; i < out->count; i++) {
        if (type_at && at == (const char *)out->text->bytes + type_at - 1) /* the type stands in between */
            at += strlen(at + 1) + 2;
        out->fields[i].name.bytes = at;
        at += out->fields[i].name.len;
        out->fields[i].value.bytes = at;
        at += out->fields[i].value.len;
    }
    out->type = type_at ? (const char *)out->text->bytes + type_at : "application/octet-stream";
}

void raw_fields_put(struct rest *r, const struct form_message *m, struct raw_fields *out)
{
    struct record_view v;
    out->count = 0;
    out->type_at = 0;
    out->omitted = 0;
    out->failed = record_view_get(m->record, record_padded(m->record), &v) != BROKER_OK;
    out->text = rest_scratch(&r->names);
    if (out->failed)
        return;
    struct walking w = {out, message_is_event(&v)};
    number_put(out, "Broker-Seq", m->seq);
    time_put(out, "Broker-Time", v.head.time_ms);
    if (m->receipt) {
        number_put(out, "Broker-Receipt", m->receipt);
        number_put(out, "Broker-Attempt", m->attempt);
    }
    if (v.head.topic_len)
        field_put(out, "Broker-Topic", (const char *)v.topic, v.head.topic_len);
    if (v.message_id_len)
        field_put(out, "Broker-Id", (const char *)v.message_id, v.message_id_len);
    if (v.head.priority)
        number_put(out, "Broker-Priority", v.head.priority);
    time_put(out, "Broker-Due", v.due_ms);
    time_put(out, "Broker-Expires", v.expire_ms);
    if (v.head.key_len && v.head.key_len <= RAW_KEY_MAX)
        field_put(out, "Broker-Key", (const char *)v.key, v.head.key_len);
    else
        out->omitted += v.head.key_len > 0;
    form_each_header(&v, header_put, &w);
    if (out->omitted)
        number_put(out, "Broker-Omitted", out->omitted);
    if (!out->failed)
        raw_fields_end(out);
}
