/* What a request for an event stream says: its path, its query, and Last-Event-ID. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rfc3339.h"
#include "sse_internal.h"

enum { HEADERS_MAX = 32, LEASE_MS_MAX = 86400000, MAX_UNSETTLED = 1000000, DEFAULT_UNSETTLED = 100 };

struct parse {
    struct sse *sse;
    struct stream *s;
    char *at; /* where the next text goes, in the stream's */
    size_t queues, headers;
    bool has_from, has_filter;
    struct http_text id;
    struct consumer consumer;
    broker_error error;
    char text[SSE_TEXT_BYTES];
};

/* ---- values --------------------------------------------------------------------------------------------------------- */

__attribute__((format(printf, 2, 3))) static bool bad(struct parse *p, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(p->text, sizeof(p->text), format, args);
    va_end(args);
    p->error = BROKER_INVALID_ARGUMENT;
    return false;
}

static bool no_memory(struct parse *p)
{
    p->error = BROKER_NO_MEMORY;
    snprintf(p->text, sizeof(p->text), "no memory for another event stream; try again");
    return false;
}

/* Shown shortened, whatever it is. */
#define SHOWN(v) (int)((v).len < 60 ? (v).len : 60), (v).bytes

static bool is(struct http_text v, const char *text)
{
    return v.len == strlen(text) && memcmp(v.bytes, text, v.len) == 0;
}

/* A NUL-terminated copy in the stream's text, which has room: decoded values are no longer than what they came from. */
static const char *keep(struct parse *p, const char *bytes, size_t len)
{
    char *text = p->at;
    memcpy(text, bytes, len);
    text[len] = '\0';
    p->at += len + 1;
    return text;
}

static bool get_number(struct parse *p, const char *what, struct http_text v, uint64_t min, uint64_t max, uint64_t *out)
{
    uint64_t n = 0;
    bool good = v.len > 0;
    for (size_t i = 0; good && i < v.len; i++) {
        unsigned digit = (unsigned)v.bytes[i] - '0';
        good = digit < 10 && n <= (UINT64_MAX - digit) / 10;
        n = n * 10 + digit;
    }
    if (!good || n < min || n > max)
        return bad(p, "%s is '%.*s'; give a number from %" PRIu64 " to %" PRIu64, what, SHOWN(v), min, max);
    *out = n;
    return true;
}

/* Milliseconds, or with a unit: 30s, 500ms, 2min, 1h, 7d. */
static bool get_time(struct parse *p, const char *what, struct http_text v, uint64_t max, uint64_t *out)
{
    static const struct {
        const char *name;
        uint64_t ms;
    } UNITS[] = {{"", 1}, {"ms", 1}, {"s", 1000}, {"m", 60000}, {"min", 60000}, {"h", 3600000}, {"d", 86400000}};
    struct http_text number = v;
    while (number.len > 0 && (v.bytes[number.len - 1] < '0' || v.bytes[number.len - 1] > '9'))
        number.len--;
    for (size_t i = 0; number.len > 0 && i < sizeof(UNITS) / sizeof(UNITS[0]); i++) {
        uint64_t n;
        if (!is((struct http_text){v.bytes + number.len, v.len - number.len}, UNITS[i].name))
            continue;
        if (!get_number(p, what, number, 1, max / UNITS[i].ms, &n))
            return false;
        *out = n * UNITS[i].ms;
        return true;
    }
    return bad(p, "%s is '%.*s'; give milliseconds, or a number with ms, s, min, h or d", what, SHOWN(v));
}

/* ---- parameters ----------------------------------------------------------------------------------------------------- */

static bool take_queue(struct parse *p, struct http_text v)
{
    if (p->queues == p->s->feed_count)
        return bad(p, "the path names the queue already; for several: /v1/events?queue=a&queue=b");
    for (size_t i = 0; i < p->queues; i++)
        if (is(v, p->s->feeds[i].queue))
            return bad(p, "queue '%.*s' is named twice", SHOWN(v));
    p->s->feeds[p->queues++].queue = keep(p, v.bytes, v.len);
    return true;
}

static bool take_from(struct parse *p, struct http_text v)
{
    uint64_t seq = 0;
    if (p->has_from)
        return bad(p, "from and from_time are both there; give one of them");
    p->has_from = true;
    p->s->from_end = is(v, "end");
    if (!p->s->from_end && !is(v, "beginning") && !get_number(p, "from", v, 1, UINT64_MAX - 1, &seq))
        return bad(p, "from is '%.*s'; give a seq (1 is the first message), beginning or end", SHOWN(v));
    for (size_t i = 0; i < p->s->feed_count; i++)
        p->s->feeds[i].next_seq = seq;
    return true;
}

static bool take_from_time(struct parse *p, struct http_text v)
{
    if (p->has_from)
        return bad(p, "from and from_time are both there; give one of them");
    p->has_from = true;
    p->s->from_end = false;
    if (!rfc3339_parse(v.bytes, v.len, &p->s->from_ms) &&
        !get_number(p, "from_time", v, 0, UINT64_MAX - 1, &p->s->from_ms))
        return bad(p, "from_time is '%.*s'; give RFC 3339 (2027-01-31T12:00:00Z) or Unix milliseconds", SHOWN(v));
    p->s->from_ms += p->s->from_ms == 0; /* 0 means none */
    return true;
}

static broker_filter *filter(struct parse *p)
{
    struct stream *s = p->s;
    p->has_filter = true;
    if (!s->filter)
        s->filter = calloc(1, sizeof(*s->filter) + HEADERS_MAX * sizeof(broker_header));
    if (!s->filter)
        no_memory(p);
    return s->filter;
}

static bool take_topic(struct parse *p, struct http_text v)
{
    broker_filter *f = filter(p);
    if (f)
        f->topic = keep(p, v.bytes, v.len);
    return f;
}

static bool take_key(struct parse *p, struct http_text v)
{
    broker_filter *f = filter(p);
    if (f && memchr(v.bytes, '\0', v.len))
        return bad(p, "key has a zero byte; filters are text");
    if (f)
        f->key = keep(p, v.bytes, v.len);
    return f;
}

static bool take_header(struct parse *p, struct http_text v)
{
    const char *colon = memchr(v.bytes, ':', v.len);
    broker_filter *f = filter(p);
    if (!f)
        return false;
    if (!colon || colon == v.bytes || memchr(v.bytes, '\0', v.len))
        return bad(p, "header is '%.*s'; give NAME:VALUE", SHOWN(v));
    if (f->header_count == HEADERS_MAX)
        return bad(p, "more than %d header filters; give fewer", HEADERS_MAX);
    broker_header *headers = (broker_header *)(f + 1);
    size_t name = (size_t)(colon - v.bytes);
    headers[f->header_count].name = keep(p, v.bytes, name);
    headers[f->header_count++].value = keep(p, colon + 1, v.len - name - 1);
    f->headers = headers;
    return true;
}

static bool take_format(struct parse *p, struct http_text v)
{
    p->s->format = is(v, "body") ? EVENT_BODY : EVENT_JSON;
    return is(v, "json") || is(v, "body") || bad(p, "format is '%.*s'; give json or body", SHOWN(v));
}

static bool take_event(struct parse *p, struct http_text v)
{
    p->s->naming = is(v, "topic") ? NAMED_TOPIC : is(v, "queue") ? NAMED_QUEUE : NAMED_MESSAGE;
    return is(v, "message") || is(v, "topic") || is(v, "queue") ||
           bad(p, "event is '%.*s'; give message, topic or queue: what events are called", SHOWN(v));
}

static bool take_id(struct parse *p, struct http_text v)
{
    p->id = (struct http_text){v.len ? keep(p, v.bytes, v.len) : "", v.len};
    return true;
}

static bool take_group(struct parse *p, struct http_text v)
{
    if (v.len == 0)
        return bad(p, "group has no name; give one, or leave it out to read by position");
    p->consumer.group = keep(p, v.bytes, v.len);
    return true;
}

static bool take_lease(struct parse *p, struct http_text v)
{
    uint64_t ms = 0;
    bool good = get_time(p, "lease", v, LEASE_MS_MAX, &ms);
    p->consumer.lease_ms = (uint32_t)ms;
    return good;
}

static bool take_credit(struct parse *p, struct http_text v)
{
    uint64_t n = 0;
    bool good = get_number(p, "max_unsettled", v, 1, MAX_UNSETTLED, &n);
    if (p->consumer.max_unsettled == 0 || n < p->consumer.max_unsettled)
        p->consumer.max_unsettled = (uint32_t)n;
    return good;
}

static bool take_ack(struct parse *p, struct http_text v)
{
    p->consumer.on_send = is(v, "on_send");
    return is(v, "manual") || p->consumer.on_send ||
           bad(p, "ack is '%.*s'; give manual (by POST) or on_send (settled as it is sent)", SHOWN(v));
}

enum { BY_POSITION = 1, BY_GROUP = 2, REPEATS = 4 };
static const struct {
    const char *name;
    unsigned flags;
    bool (*take)(struct parse *p, struct http_text value);
} PARAMS[] = {
    {"queue", BY_POSITION | BY_GROUP | REPEATS, take_queue},
    {"format", BY_POSITION | BY_GROUP, take_format},
    {"event", BY_POSITION | BY_GROUP, take_event},
    {"from", BY_POSITION, take_from},
    {"from_time", BY_POSITION, take_from_time},
    {"topic", BY_POSITION, take_topic},
    {"key", BY_POSITION, take_key},
    {"header", BY_POSITION | REPEATS, take_header},
    {"last_event_id", BY_POSITION, take_id},
    {"group", BY_GROUP, take_group},
    {"lease", BY_GROUP, take_lease},
    {"max_unsettled", BY_GROUP, take_credit},
    {"credit", BY_GROUP, take_credit},
    {"ack", BY_GROUP, take_ack},
};
enum { PARAM_COUNT = sizeof(PARAMS) / sizeof(PARAMS[0]) };

struct visit {
    struct parse *p;
    unsigned seen; /* of PARAMS, a bit each */
};

static bool take_param(void *arg, struct http_text name, struct http_text value)
{
    struct visit *v = arg;
    for (size_t i = 0; i < PARAM_COUNT; i++) {
        if (!is(name, PARAMS[i].name))
            continue;
        if (v->seen & 1u << i && !(PARAMS[i].flags & REPEATS))
            return bad(v->p, "%s is there twice; give it once", PARAMS[i].name);
        v->seen |= 1u << i;
        return PARAMS[i].take(v->p, value);
    }
    return bad(v->p, "unknown parameter '%.*s'; docs/HTTP.md, \"Events\", names those that there are", SHOWN(name));
}

/* What goes together: a group keeps its own place and its own filter. */
static bool check_kind(struct parse *p, unsigned seen)
{
    unsigned kind = p->consumer.group ? BY_GROUP : BY_POSITION;
    for (size_t i = 0; i < PARAM_COUNT; i++)
        if (seen & 1u << i && !(PARAMS[i].flags & kind))
            return kind == BY_GROUP
                       ? bad(p, "%s does not go with group: the group has its own place and filter", PARAMS[i].name)
                       : bad(p, "%s goes with group; give group=NAME too", PARAMS[i].name);
    if (p->consumer.group && !p->consumer.on_send && p->s->format == EVENT_BODY)
        return bad(p, "format=body has no room for receipts; give format=json, or ack=on_send");
    return true;
}

/* ---- the stream ----------------------------------------------------------------------------------------------------- */

static bool count_queue(void *arg, struct http_text name, struct http_text value)
{
    *(size_t *)arg += is(name, "queue");
    return true;
}

/* An id that is there but empty is none: a client that has seen no event yet. */
static bool take_resume(struct parse *p, const struct http_request *r)
{
    const struct http_field *f = http_find(r, "Last-Event-ID");
    struct http_text id = f && f->value.len > 0 ? f->value : p->id;
    bool out_of_memory;
    if (id.len == 0 || p->consumer.group)
        return true;
    p->s->resume = sse_id_parse(id.bytes, id.len, p->sse->options.max_queues, &out_of_memory);
    if (!p->s->resume)
        return out_of_memory
                   ? no_memory(p)
                   : bad(p, "event id '%.*s' is not one of this broker's; leave it out to begin anew", SHOWN(id));
    return true;
}

static bool take_consumer(struct parse *p)
{
    if (!p->consumer.group)
        return true;
    p->s->consumer = malloc(sizeof(*p->s->consumer));
    if (!p->s->consumer)
        return no_memory(p);
    if (p->consumer.max_unsettled == 0)
        p->consumer.max_unsettled = DEFAULT_UNSETTLED;
    *p->s->consumer = p->consumer;
    p->s->kind = &sse_by_group;
    return true;
}

static bool parse(struct parse *p, const struct http_request *r)
{
    struct visit v = {.p = p};
    if (r->params[0].len > 0)
        take_queue(p, r->params[0]);
    http_each_query(r, take_param, &v);
    return p->error == BROKER_OK && check_kind(p, v.seen) && take_resume(p, r) && take_consumer(p);
}

struct stream *sse_parse(struct sse *sse, struct http_exchange *x, const struct http_request *r)
{
    struct parse p = {.sse = sse};
    size_t queues = r->params[0].len > 0, text = r->params[0].len + 1 + r->query.len + 1;
    if (queues == 0)
        http_each_query(r, count_queue, &queues);
    if (queues == 0) {
        bad(&p, "no queue is named; give queue=NAME, once for each");
    } else if (queues > sse->options.max_queues || queues > UINT16_MAX) {
        bad(&p, "%zu queues; give at most %u in one stream", queues, sse->options.max_queues);
    } else {
        p.s = calloc(1, sizeof(*p.s) + queues * sizeof(p.s->feeds[0]) + text);
        if (!p.s)
            no_memory(&p);
    }
    if (p.s) {
        *p.s = (struct stream){.sse = sse, .kind = &sse_by_position, .feed_count = (uint16_t)queues, .from_end = true};
        p.at = (char *)(p.s->feeds + queues);
        if (parse(&p, r))
            return p.s;
        sse_drop(p.s);
    }
    http_refuse(x, p.error, p.text, 0);
    return NULL;
}
