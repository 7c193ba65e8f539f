/* Messages as the body of a response. */
#include <stdio.h>
#include <string.h>

#include "listing.h"

static const char *const TYPES[] = {[FORM_JSON] = "application/json",
                                    [FORM_NDJSON] = "application/x-ndjson",
                                    [FORM_MSGPACK] = "application/msgpack",
                                    [FORM_RAW] = "application/octet-stream",
                                    [FORM_EVENT] = "application/cloudevents+json",
                                    [FORM_EVENTS] = "application/cloudevents-batch+json",
                                    NULL};

const char *form_type(enum form form)
{
    return TYPES[form];
}

bool form_choose(struct http_exchange *x, const struct http_request *q, struct params *p, enum form *form)
{
    bool raw = false;
    int accepted = http_accepts(q, TYPES);
    if (!param_bool(p, "raw", &raw)) {
        rest_refuse(x, "%s", p->error);
        return false;
    }
    if (raw)
        accepted = FORM_RAW;
    if (accepted >= 0) {
        *form = (enum form)accepted;
        return true;
    }
    http_refuse_as(x, 406, "not_acceptable",
                   "Accept allows none of application/json, application/x-ndjson, application/msgpack, "
                   "application/octet-stream, application/cloudevents+json, application/cloudevents-batch+json");
    return false;
}

/* ---- bodies --------------------------------------------------------------------------------------------------------- */

static struct form_message message_at(const struct listing *l, uint32_t i)
{
    return (struct form_message){
        .record = l->messages[i].record,
        .seq = l->messages[i].seq,
        .receipt = l->first_receipt ? l->first_receipt + i : 0,
        .attempt = l->attempts ? l->attempts[i] : 0,
    };
}

static bool put_each(struct buf *out, const struct listing *l, const char *between, const char *last, bool event)
{
    bool good = true;
    for (uint32_t i = 0; good && i < l->count; i++) {
        struct form_message m = message_at(l, i);
        good = (i == 0 || form_put(out, between)) &&
               (event ? cloudevent_put(out, &m, l->queue) : form_message_json(out, &m));
    }
    return good && (l->count == 0 || form_put(out, last));
}

static bool put_json(struct buf *out, const struct listing *l)
{
    bool good = form_put(out, "{\"messages\":[") && put_each(out, l, ",", "", false) && form_put(out, "]");
    for (size_t i = 0; good && i < l->number_count; i++)
        good = form_put(out, ",\"") && form_put(out, l->numbers[i].key) && form_put(out, "\":") &&
               form_json_u64(out, l->numbers[i].value);
    return good && form_put(out, "}");
}

static bool put_big_endian(struct buf *out, uint8_t type, uint64_t value, unsigned bytes)
{
    uint8_t text[9] = {type};
    for (unsigned i = 0; i < bytes; i++)
        text[1 + i] = (uint8_t)(value >> (8 * (bytes - 1 - i)));
    return buf_append(out, text, 1 + bytes);
}

static bool put_short_text(struct buf *out, const char *text)
{
    return buf_put_u8(out, (uint8_t)(0xa0 | strlen(text))) && form_put(out, text);
}

static bool put_msgpack(struct buf *out, const struct listing *l)
{
    bool good = buf_put_u8(out, (uint8_t)(0x80 | (1 + l->number_count))) && put_short_text(out, "messages") &&
                put_big_endian(out, 0xdd, l->count, 4);
    for (uint32_t i = 0; good && i < l->count; i++) {
        struct form_message m = message_at(l, i);
        good = form_message_msgpack(out, &m);
    }
    for (size_t i = 0; good && i < l->number_count; i++)
        good = put_short_text(out, l->numbers[i].key) && put_big_endian(out, 0xcf, l->numbers[i].value, 8);
    return good;
}

static bool put_body(struct buf *out, enum form form, const struct listing *l)
{
    switch (form) {
    case FORM_JSON: return put_json(out, l);
    case FORM_NDJSON: return put_each(out, l, "\n", "\n", false);
    case FORM_MSGPACK: return put_msgpack(out, l);
    case FORM_EVENT: return put_each(out, l, "", "", true);
    case FORM_EVENTS: return form_put(out, "[") && put_each(out, l, ",", "", true) && form_put(out, "]");
    default: return true;
    }
}

/* ---- fields --------------------------------------------------------------------------------------------------------- */

enum { BESIDE_MAX = LISTING_NUMBERS_MAX + 5 };

/* What stands beside a message's own fields. */
struct beside {
    struct http_field fields[BESIDE_MAX];
    char numbers[LISTING_NUMBERS_MAX][24];
    size_t count;
};

static void beside_add(struct beside *b, const char *name, const char *value)
{
    b->fields[b->count++] = (struct http_field){{name, strlen(name)}, {value, strlen(value)}};
}

static void beside_put(struct beside *b, enum form form, const struct listing *l)
{
    b->count = 0;
    for (size_t i = 0; i < l->number_count; i++) {
        snprintf(b->numbers[i], sizeof(b->numbers[i]), "%llu", (unsigned long long)l->numbers[i].value);
        beside_add(b, l->numbers[i].field, b->numbers[i]);
    }
    if (l->etag)
        beside_add(b, "ETag", l->etag);
    if (l->cache_control)
        beside_add(b, "Cache-Control", l->cache_control);
    beside_add(b, "Vary", "Accept");
    if (form ==
        FORM_RAW) { /* whatever a publisher said that it is: a browser is not to run it as a page of the broker's */
        beside_add(b, "X-Content-Type-Options", "nosniff");
        beside_add(b, "Content-Security-Policy", "sandbox; default-src 'none'");
    }
}

static bool respond_raw(struct call *c, const struct listing *l, const struct beside *b)
{
    struct raw_fields raw;
    struct http_field all[RAW_FIELDS_MAX + BESIDE_MAX];
    struct form_message m = message_at(l, 0);
    struct record_view v;
    raw_fields_put(c->rest, &m, &raw);
    if (raw.failed || record_view_get(m.record, record_padded(m.record), &v) != BROKER_OK)
        return false;
    memcpy(all, raw.fields, raw.count * sizeof(all[0]));
    memcpy(all + raw.count, b->fields, b->count * sizeof(all[0]));
    call_respond(c, &(struct http_response){.status = 200,
                                            .type = raw.type,
                                            .body = v.body,
                                            .body_len = v.body_len,
                                            .fields = all,
                                            .field_count = raw.count + b->count});
    return true;
}

bool listing_respond(struct call *c, enum form form, const struct listing *l)
{
    struct beside b;
    struct buf *out = rest_scratch(&c->rest->out);
    beside_put(&b, form, l);
    if (form == FORM_RAW && l->count > 0)
        return respond_raw(c, l, &b);
    bool none = form_is_single(form) && l->count == 0;
    if (!none && !put_body(out, form, l))
        return false;
    call_respond(c, &(struct http_response){.status = none ? 204 : 200,
                                            .type = none ? NULL : TYPES[form],
                                            .body = out->bytes,
                                            .body_len = out->len,
                                            .fields = b.fields,
                                            .field_count = b.count});
    return true;
}

void listing_not_modified(struct call *c, const struct listing *l)
{
    struct beside b;
    beside_put(&b, FORM_JSON, l);
    call_respond(c, &(struct http_response){.status = 304, .fields = b.fields, .field_count = b.count});
}

/* ---- filters -------------------------------------------------------------------------------------------------------- */

struct filtering {
    struct rest *r;
    struct params *p;
    struct filter_in *f;
    bool good;
};

static const char *filter_copy(struct filtering *g, const char *bytes, size_t len)
{
    struct buf *names = &g->r->names;
    char *to = (char *)names->bytes + names->len;
    memcpy(to, bytes, len);
    to[len] = 0;
    names->len += len + 1;
    return to;
}

static bool filter_refuse(struct filtering *g, const char *text, struct http_text value)
{
    char out[SHOWN_BYTES];
    snprintf(g->p->error, sizeof(g->p->error), text, shown(value, out));
    return g->good = false;
}

static bool filter_one(void *arg, struct http_text name, struct http_text value)
{
    struct filtering *g = arg;
    broker_filter *f = &g->f->filter;
    bool topic = name.len == 5 && memcmp(name.bytes, "topic", 5) == 0;
    bool key = name.len == 3 && memcmp(name.bytes, "key", 3) == 0;
    bool header = name.len == 6 && memcmp(name.bytes, "header", 6) == 0;
    if ((topic || key || header) && memchr(value.bytes, 0, value.len))
        return filter_refuse(g, "a filter's value '%s' has a NUL byte; that cannot be looked for", value);
    if (topic)
        f->topic = filter_copy(g, value.bytes, value.len);
    if (key)
        f->key = filter_copy(g, value.bytes, value.len);
    if (!header)
        return true;
    const char *colon = memchr(value.bytes, ':', value.len);
    if (!colon || colon == value.bytes)
        return filter_refuse(g, "header is '%s'; give NAME:VALUE", value);
    if (f->header_count == FILTER_HEADERS_MAX)
        return filter_refuse(g, "header '%s' is one too many; give at most 32", value);
    size_t name_len = (size_t)(colon - value.bytes);
    g->f->headers[f->header_count++] =
        (broker_header){filter_copy(g, value.bytes, name_len), filter_copy(g, colon + 1, value.len - name_len - 1)};
    return true;
}

bool filter_read(struct rest *r, struct params *p, struct filter_in *f)
{
    struct filtering g = {r, p, f, true};
    f->filter = (broker_filter){.headers = f->headers};
    if (p->request->query.len == 0)
        return true;
    if (!buf_reserve(rest_scratch(&r->names), 2 * p->request->query.len + 2)) {
        snprintf(p->error, sizeof(p->error), "no memory for the filter; try again");
        return false;
    }
    http_each_query(p->request, filter_one, &g);
    return g.good;
}
