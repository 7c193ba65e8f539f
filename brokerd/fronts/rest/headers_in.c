/* What the fields of a request say of the message in its body. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "headers.h"

enum { ID_BYTES_MAX = 255, KEY_BYTES_MAX = 65535, PRIORITY_MAX = 9, MAP_HEAD_BYTES = 3 };

#define YEARS_100_MS (100ull * 366 * 86400000)

bool message_refuse(struct message_in *m, broker_error error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(m->text, sizeof(m->text), format, args);
    va_end(args);
    m->error = error;
    return false;
}

/* ---- packing headers ------------------------------------------------------------------------------------------------ */

/* Room for the map's head is left; what is not needed of it is skipped at the end. */
void packing_begin(struct packing *p, struct buf *b)
{
    buf_clear(b);
    *p = (struct packing){.b = b, .failed = !buf_append(b, "\0\0\0", MAP_HEAD_BYTES)};
}

static void pack_text(struct packing *p, const char *text, size_t len)
{
    uint8_t head[5];
    size_t n;
    if (len < 32) {
        head[0] = (uint8_t)(0xa0 | len);
        n = 1;
    } else if (len < 256) {
        head[0] = 0xd9;
        head[1] = (uint8_t)len;
        n = 2;
    } else if (len < 65536) {
        head[0] = 0xda;
        head[1] = (uint8_t)(len >> 8);
        head[2] = (uint8_t)len;
        n = 3;
    } else {
        head[0] = 0xdb;
        for (int i = 0; i < 4; i++)
            head[1 + i] = (uint8_t)(len >> (24 - 8 * i));
        n = 5;
    }
    p->failed = p->failed || !buf_append(p->b, head, n) || !buf_append(p->b, text, len);
}

static bool packing_has(const struct packing *p, const char *name, size_t name_len)
{
    const uint8_t *at = p->b->bytes + MAP_HEAD_BYTES, *end = p->b->bytes + p->b->len;
    while (at && at < end) {
        const char *text;
        size_t len;
        at = wire_skip_text(at, end, &text, &len);
        if (at && len == name_len && memcmp(text, name, len) == 0)
            return true;
        at = at ? wire_skip(at, end) : NULL;
    }
    return false;
}

bool packing_add(struct packing *p, const char *name, size_t name_len, const char *value, size_t value_len)
{
    if (p->failed)
        return true; /* told at the end */
    if (p->count > 0 && packing_has(p, name, name_len))
        return false;
    pack_text(p, name, name_len);
    pack_text(p, value, value_len);
    p->count++;
    return true;
}

const uint8_t *packing_end(struct packing *p, size_t *len)
{
    uint8_t *b = p->b->bytes;
    *len = 0;
    if (p->failed || p->count == 0)
        return NULL;
    if (p->count < 16) {
        b[2] = (uint8_t)(0x80 | p->count);
        *len = p->b->len - 2;
        return b + 2;
    }
    b[0] = 0xde;
    b[1] = (uint8_t)(p->count >> 8);
    b[2] = (uint8_t)p->count;
    *len = p->b->len;
    return b;
}

/* ---- single fields -------------------------------------------------------------------------------------------------- */

struct reading {
    struct rest *rest;
    struct message_in *m;
    struct http_text topic; /* of the path */
    uint32_t seen;          /* a bit for each of BROKER_FIELDS */
    bool event_version;
};

/* Percent-decoded, in r->names, which has room for all fields. */
static struct http_text decoded(struct reading *g, struct http_text value)
{
    struct buf *names = &g->rest->names;
    if (!memchr(value.bytes, '%', value.len))
        return value;
    char *to = (char *)names->bytes + names->len;
    size_t len = http_percent_decode(to, value.bytes, value.len);
    names->len += len;
    return (struct http_text){to, len};
}

static bool take_key(struct reading *g, struct http_text value)
{
    struct http_text key = decoded(g, value);
    if (key.len > KEY_BYTES_MAX)
        return message_refuse(g->m, BROKER_INVALID_ARGUMENT, "Broker-Key has %zu bytes; at most %d are allowed",
                              key.len, KEY_BYTES_MAX);
    g->m->spec.key = key.bytes;
    g->m->spec.key_len = key.len;
    return true;
}

static bool take_priority(struct reading *g, struct http_text value)
{
    char out[SHOWN_BYTES];
    uint64_t priority;
    if (!parse_u64(value.bytes, value.len, &priority) || priority > PRIORITY_MAX)
        return message_refuse(g->m, BROKER_INVALID_ARGUMENT, "Broker-Priority is '%s'; give 0 to %d, %d goes first",
                              shown(value, out), PRIORITY_MAX, PRIORITY_MAX);
    g->m->spec.priority = (uint8_t)priority;
    return true;
}

static bool read_duration(struct reading *g, const char *field, struct http_text value, uint64_t *ms)
{
    char out[SHOWN_BYTES];
    if (!parse_duration(value.bytes, value.len, ms))
        return message_refuse(g->m, BROKER_INVALID_ARGUMENT,
                              "%s is '%s'; give a time as 500ms, 30s, 2min, 1h or 7d, or a number of milliseconds",
                              field, shown(value, out));
    if (*ms > YEARS_100_MS)
        return message_refuse(g->m, BROKER_INVALID_ARGUMENT, "%s is '%s'; give at most 100 years", field,
                              shown(value, out));
    return true;
}

static bool take_delay(struct reading *g, struct http_text value)
{
    if (g->m->spec.due_ms)
        return message_refuse(g->m, BROKER_INVALID_ARGUMENT, "there are Broker-Delay and Broker-At; give one of them");
    g->m->spec.due_is_delay = true;
    return read_duration(g, "Broker-Delay", value, &g->m->spec.due_ms);
}

static bool take_at(struct reading *g, struct http_text value)
{
    char out[SHOWN_BYTES];
    uint64_t at;
    if (g->m->spec.due_ms)
        return message_refuse(g->m, BROKER_INVALID_ARGUMENT, "there are Broker-Delay and Broker-At; give one of them");
    if (!parse_time(value.bytes, value.len, &at))
        return message_refuse(g->m, BROKER_INVALID_ARGUMENT,
                              "Broker-At is '%s'; give a time as 2031-05-07T09:30:00Z or as Unix milliseconds",
                              shown(value, out));
    g->m->spec.due_ms = at;
    return true;
}

static bool take_ttl(struct reading *g, struct http_text value)
{
    g->m->spec.expire_is_ttl = true;
    return read_duration(g, "Broker-Ttl", value, &g->m->spec.expire_ms);
}

static bool take_topic(struct reading *g, struct http_text value)
{
    char out[SHOWN_BYTES];
    if (g->topic.len > 0)
        return message_refuse(g->m, BROKER_INVALID_ARGUMENT,
                              "Broker-Topic is '%s', and the path names the topic too; leave the field out",
                              shown(value, out));
    if (!topic_is_valid(value.bytes, value.len))
        return message_refuse(g->m, BROKER_INVALID_ARGUMENT,
                              "Broker-Topic is '%s'; give up to %u tokens of A-Z a-z 0-9 _ - with dots between",
                              shown(value, out), TOPIC_MAX_TOKENS);
    g->m->spec.topic = value.bytes;
    g->m->spec.topic_len = value.len;
    return true;
}

static bool take_sync(struct reading *g, struct http_text value)
{
    static const char *const NAMES[] = {"always", "interval", "none"};
    char out[SHOWN_BYTES];
    for (unsigned i = 0; i < 3; i++) {
        if (value.len == strlen(NAMES[i]) && strncasecmp(value.bytes, NAMES[i], value.len) == 0) {
            g->m->sync = (broker_sync)(BROKER_SYNC_ALWAYS + i);
            return true;
        }
    }
    return message_refuse(g->m, BROKER_INVALID_ARGUMENT, "Broker-Sync is '%s'; give always, interval or none",
                          shown(value, out));
}

static bool take_id_named(struct reading *g, const char *field, struct http_text value)
{
    struct http_text id = decoded(g, value);
    if (g->m->spec.id)
        return message_refuse(g->m, BROKER_INVALID_ARGUMENT,
                              "there are Idempotency-Key and Broker-Id; they mean the same, give one of them");
    if (id.len < 1 || id.len > ID_BYTES_MAX)
        return message_refuse(g->m, BROKER_INVALID_ARGUMENT, "%s has %zu bytes; give 1 to %d", field, id.len,
                              ID_BYTES_MAX);
    g->m->spec.id = id.bytes;
    g->m->spec.id_len = id.len;
    return true;
}

static bool take_id(struct reading *g, struct http_text value)
{
    return take_id_named(g, "Broker-Id", value);
}

/* A string in quotes, as the IETF's draft has it, or a bare one, as everybody sends it. */
static bool take_idempotency_key(struct reading *g, struct http_text value)
{
    if (value.len >= 2 && value.bytes[0] == '"' && value.bytes[value.len - 1] == '"')
        value = (struct http_text){value.bytes + 1, value.len - 2};
    return take_id_named(g, "Idempotency-Key", value);
}

static const char *const BROKER_FIELDS[] = {
    "Broker-Key",   "Broker-Priority", "Broker-Delay", "Broker-At",          "Broker-Ttl",
    "Broker-Topic", "Broker-Sync",     "Broker-Id",    "Broker-Header-NAME", NULL};
static bool (*const TAKE[])(struct reading *g, struct http_text value) = {take_key, take_priority, take_delay, take_at,
                                                                          take_ttl, take_topic,    take_sync,  take_id};

static bool header_add(struct reading *g, struct http_text field, struct http_text name, struct http_text value)
{
    char out[SHOWN_BYTES], shown_name[SHOWN_BYTES];
    if (!form_is_utf8(name.bytes, name.len) || !form_is_utf8(value.bytes, value.len))
        return message_refuse(g->m, BROKER_INVALID_ARGUMENT,
                              "%s is no UTF-8 once it is percent-decoded; headers are text, bytes belong into the body",
                              shown(field, out));
    if (packing_add(&g->m->headers, name.bytes, name.len, value.bytes, value.len))
        return true;
    return message_refuse(g->m, BROKER_INVALID_ARGUMENT,
                          "%s: the message would have the header '%.64s' twice; give it once", shown(field, out),
                          shown(name, shown_name));
}

/* Names of fields have no case, so a message's header is in lower case, except where it is percent-encoded. */
static struct http_text header_name(struct reading *g, struct http_text name)
{
    struct buf *names = &g->rest->names;
    char *to = (char *)names->bytes + names->len;
    for (size_t i = 0; i < name.len; i++)
        to[i] = name.bytes[i] >= 'A' && name.bytes[i] <= 'Z' ? (char)(name.bytes[i] + 32) : name.bytes[i];
    size_t len = http_percent_decode(to, to, name.len);
    names->len += len;
    return (struct http_text){to, len};
}

static bool take_header(struct reading *g, struct http_text field, struct http_text value)
{
    size_t prefix = strlen("Broker-Header-");
    struct http_text name = header_name(g, (struct http_text){field.bytes + prefix, field.len - prefix});
    if (name.len == 0)
        return message_refuse(g->m, BROKER_INVALID_ARGUMENT,
                              "Broker-Header- has no name; give Broker-Header-NAME: VALUE");
    return header_add(g, field, name, decoded(g, value));
}

static bool starts(struct http_text text, const char *with)
{
    size_t n = strlen(with);
    return text.len >= n && strncasecmp(text.bytes, with, n) == 0;
}

static bool is(struct http_text text, const char *name)
{
    return text.len == strlen(name) && strncasecmp(text.bytes, name, text.len) == 0;
}

static bool take_broker(struct reading *g, const struct http_field *f)
{
    char out[SHOWN_BYTES];
    if (starts(f->name, "Broker-Header-"))
        return take_header(g, f->name, f->value);
    for (unsigned i = 0; i < sizeof(TAKE) / sizeof(TAKE[0]); i++) {
        if (!is(f->name, BROKER_FIELDS[i]))
            continue;
        if (g->seen & 1u << i)
            return message_refuse(g->m, BROKER_INVALID_ARGUMENT, "%s comes twice; give it once", BROKER_FIELDS[i]);
        g->seen |= 1u << i;
        return TAKE[i](g, f->value);
    }
    const char *meant = nearest(BROKER_FIELDS, f->name.bytes, f->name.len);
    return message_refuse(
        g->m, BROKER_INVALID_ARGUMENT,
        "a message that is published has no field '%s'%s%s; its own headers are given as Broker-Header-NAME: VALUE",
        shown(f->name, out), meant ? "; did you mean " : "", meant ? meant : "");
}

/* An attribute in binary mode. CloudEvents' HTTP binding 3.1.3.2: strip quotes, then percent-decode. */
static bool take_event(struct reading *g, const struct http_field *f)
{
    struct http_text name = header_name(g, f->name), value = f->value;
    char out[SHOWN_BYTES];
    if (value.len >= 2 && value.bytes[0] == '"' && value.bytes[value.len - 1] == '"')
        value = (struct http_text){value.bytes + 1, value.len - 2};
    value = decoded(g, value);
    if (value.len == 0)
        return message_refuse(g->m, BROKER_INVALID_ARGUMENT, "%s is empty; give a value, or leave it out",
                              shown(f->name, out));
    g->m->is_event = true;
    if (is(name, "ce-specversion")) {
        g->event_version = true;
        if (!is(value, "1.0"))
            return message_refuse(g->m, BROKER_INVALID_ARGUMENT, "ce-specversion is '%s'; this broker understands 1.0",
                                  shown(value, out));
    }
    if (is(name, "ce-id"))
        g->m->event_id = value;
    if (is(name, "ce-source"))
        g->m->event_source = value;
    g->m->event_type |= is(name, "ce-type");
    if (is(name, "ce-partitionkey") && !g->m->spec.key) {
        g->m->spec.key = value.bytes;
        g->m->spec.key_len = value.len;
    }
    return header_add(g, f->name, name, value);
}

/* ---- all of them ---------------------------------------------------------------------------------------------------- */

static bool take_field(struct reading *g, const struct http_field *f)
{
    static const char form[] = "application/x-www-form-urlencoded"; /* what curl says of anything */
    switch (f->name.len ? f->name.bytes[0] | 0x20 : 0) {
    case 'b': return !starts(f->name, "Broker-") || take_broker(g, f);
    case 'i': return !is(f->name, "Idempotency-Key") || take_idempotency_key(g, f->value);
    case 'c':
        if (starts(f->name, "ce-"))
            return take_event(g, f);
        if (!is(f->name, "Content-Type") || f->value.len == 0 || starts(f->value, form) ||
            starts(f->value, "application/cloudevents"))
            return true;
        g->m->has_type = true;
        return header_add(g, f->name, (struct http_text){"content-type", 12}, f->value);
    default: return true;
    }
}

/* r->names gets room for whatever will be decoded, so that pointers into it stay. */
bool message_begin(struct rest *r, struct message_in *m, size_t names_bytes)
{
    memset(m, 0, offsetof(struct message_in, text));
    packing_begin(&m->headers, rest_scratch(&r->small));
    return buf_reserve(rest_scratch(&r->names), names_bytes + ID_BYTES_MAX) ||
           message_refuse(m, BROKER_NO_MEMORY, "no memory for the message; try again");
}

static size_t fields_bytes(const struct http_request *q)
{
    size_t bytes = 0;
    for (size_t i = 0; i < q->field_count; i++)
        bytes += q->fields[i].name.len + q->fields[i].value.len;
    return bytes;
}

static bool check_event(struct reading *g)
{
    struct message_in *m = g->m;
    const char *missing = !g->event_version          ? "ce-specversion"
                          : m->event_id.len == 0     ? "ce-id"
                          : m->event_source.len == 0 ? "ce-source"
                          : !m->event_type           ? "ce-type"
                                                     : NULL;
    if (missing)
        return message_refuse(m, BROKER_INVALID_ARGUMENT,
                              "there are ce- fields, but no %s; a CloudEvent has ce-specversion, ce-id, ce-source and "
                              "ce-type",
                              missing);
    event_take_id(g->rest, m);
    return true;
}

void event_take_id(struct rest *r, struct message_in *m)
{
    size_t len = m->event_source.len + 1 + m->event_id.len;
    if (m->spec.id || len > ID_BYTES_MAX)
        return;
    char *to = (char *)buf_reserve(&r->names, len);
    if (!to)
        return;
    memcpy(to, m->event_source.bytes, m->event_source.len);
    to[m->event_source.len] = ' '; /* no URI has one */
    memcpy(to + m->event_source.len + 1, m->event_id.bytes, m->event_id.len);
    r->names.len += len;
    m->spec.id = to;
    m->spec.id_len = len;
}

bool message_read(struct rest *r, const struct http_request *q, struct http_text topic, struct message_in *m)
{
    struct reading g = {.rest = r, .m = m, .topic = topic};
    if (!message_begin(r, m, fields_bytes(q)))
        return false;
    m->spec.body = q->body;
    m->spec.body_len = q->body_len;
    if (topic.len > 0) {
        m->spec.topic = topic.bytes;
        m->spec.topic_len = topic.len;
        m->spec.by_topic = true;
    }
    for (size_t i = 0; i < q->field_count; i++) {
        if (!take_field(&g, &q->fields[i]))
            return false;
    }
    return !m->is_event || check_event(&g);
}

bool message_finish(struct rest *r, struct message_in *m)
{
    const struct record_spec *s = &m->spec;
    m->spec.headers = packing_end(&m->headers, &m->spec.headers_len);
    uint32_t bytes = m->headers.failed ? 0 : record_spec_bytes(&m->spec), max = r->options.max_message_bytes;
    if (m->headers.failed)
        return message_refuse(m, BROKER_NO_MEMORY, "no memory for the message's headers; try again");
    if (bytes == 0 || (max && bytes > pad8(max)))
        return message_refuse(m, BROKER_TOO_LARGE,
                              "the message has %zu bytes of body and %zu of headers; it may have about %u in all",
                              s->body_len, s->headers_len, max && max < RECORD_MAX_BYTES ? max : RECORD_MAX_BYTES);
    uint8_t *to = buf_reserve(&r->records, bytes);
    if (!to)
        return message_refuse(m, BROKER_NO_MEMORY, "no memory for a message of %u bytes; try again", bytes);
    record_spec_put(to, s);
    r->records.len += bytes;
    return true;
}
