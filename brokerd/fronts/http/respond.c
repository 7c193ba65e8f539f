/* Responses: heads, whole responses, problems (RFC 9457), and the hand-over of a connection. */
#include <assert.h>
#include <stdio.h>
#include <time.h>

#include "http_internal.h"

/* ---- status lines --------------------------------------------------------------------------------------------------- */

#define STATUS_MAP(X)                                                                                                  \
    X(101, "Switching Protocols")                                                                                      \
    X(200, "OK")                                                                                                       \
    X(201, "Created")                                                                                                  \
    X(202, "Accepted")                                                                                                 \
    X(204, "No Content")                                                                                               \
    X(206, "Partial Content")                                                                                          \
    X(207, "Multi-Status")                                                                                             \
    X(301, "Moved Permanently")                                                                                        \
    X(302, "Found")                                                                                                    \
    X(303, "See Other")                                                                                                \
    X(304, "Not Modified")                                                                                             \
    X(307, "Temporary Redirect")                                                                                       \
    X(308, "Permanent Redirect")                                                                                       \
    X(400, "Bad Request")                                                                                              \
    X(401, "Unauthorized")                                                                                             \
    X(403, "Forbidden")                                                                                                \
    X(404, "Not Found")                                                                                                \
    X(405, "Method Not Allowed")                                                                                       \
    X(406, "Not Acceptable")                                                                                           \
    X(408, "Request Timeout")                                                                                          \
    X(409, "Conflict")                                                                                                 \
    X(410, "Gone")                                                                                                     \
    X(411, "Length Required")                                                                                          \
    X(412, "Precondition Failed")                                                                                      \
    X(413, "Content Too Large")                                                                                        \
    X(414, "URI Too Long")                                                                                             \
    X(415, "Unsupported Media Type")                                                                                   \
    X(416, "Range Not Satisfiable")                                                                                    \
    X(417, "Expectation Failed")                                                                                       \
    X(421, "Misdirected Request")                                                                                      \
    X(422, "Unprocessable Content")                                                                                    \
    X(426, "Upgrade Required")                                                                                         \
    X(428, "Precondition Required")                                                                                    \
    X(429, "Too Many Requests")                                                                                        \
    X(431, "Request Header Fields Too Large")                                                                          \
    X(499, "Client Closed Request")                                                                                    \
    X(500, "Internal Server Error")                                                                                    \
    X(501, "Not Implemented")                                                                                          \
    X(502, "Bad Gateway")                                                                                              \
    X(503, "Service Unavailable")                                                                                      \
    X(504, "Gateway Timeout")                                                                                          \
    X(505, "HTTP Version Not Supported")                                                                               \
    X(507, "Insufficient Storage")

static const struct line {
    uint8_t len;
    const char *text;
} LINES[600] = {
#define STATUS_LINE(code, reason)                                                                                      \
    [code] = {sizeof("HTTP/1.1 " #code " " reason "\r\n") - 1, "HTTP/1.1 " #code " " reason "\r\n"},
    STATUS_MAP(STATUS_LINE)
#undef STATUS_LINE
};

const char *status_reason(int status)
{
    switch (status) {
#define STATUS_REASON(code, reason)                                                                                    \
    case code: return reason;
        STATUS_MAP(STATUS_REASON)
#undef STATUS_REASON
    default: return "";
    }
}

/* ---- heads ---------------------------------------------------------------------------------------------------------- */

struct plan { /* of a head, besides what the handler says */
    bool has_length, chunked, upgrade;
};

#define PUT(p, literal) ((char *)memcpy(p, literal, sizeof(literal) - 1) + sizeof(literal) - 1)

static char *put(char *p, const char *bytes, size_t len)
{
    memcpy(p, bytes, len);
    return p + len;
}

static char *put_number(char *p, uint64_t n)
{
    char digits[20];
    size_t at = sizeof(digits);
    do
        digits[--at] = (char)('0' + n % 10);
    while (n /= 10);
    return put(p, digits + at, sizeof(digits) - at);
}

static char *put_status(char *p, int status)
{
    const struct line *l = status >= 100 && status < 600 ? &LINES[status] : &LINES[500];
    if (l->len)
        return put(p, l->text, l->len);
    p = put_number(PUT(p, "HTTP/1.1 "), (uint64_t)status);
    return PUT(p, " \r\n");
}

static char *put_date(char *p, struct http *h)
{
    uint64_t s = net_now(h->net).wall.ms / 1000;
    if (s != h->date_s) {
        static const char days[] = "SunMonTueWedThuFriSat", months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
        time_t t = (time_t)s;
        struct tm tm;
        gmtime_r(&t, &tm);
        snprintf(h->date, sizeof(h->date), "Date: %.3s, %02d %.3s %04d %02d:%02d:%02d GMT\r\n", days + 3 * tm.tm_wday,
                 tm.tm_mday, months + 3 * tm.tm_mon, (tm.tm_year + 1900) % 10000, tm.tm_hour, tm.tm_min, tm.tm_sec);
        h->date_s = s;
    }
    return put(p, h->date, strlen(h->date));
}

/* A handler cannot break out of its field, nor contradict the framing. */
static bool field_is_good(const struct http_field *f, bool upgrade)
{
    static const char *const ours[] = {"content-length", "transfer-encoding", "date"};
    for (size_t i = 0; i < f->name.len; i++)
        if (!is_token_byte((uint8_t)f->name.bytes[i]))
            return false;
    for (size_t i = 0; i < f->value.len; i++)
        if (!is_value_byte((uint8_t)f->value.bytes[i]))
            return false;
    for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
        if (text_is(f->name, ours[i]))
            return false;
    return f->name.len > 0 && (upgrade || !text_is(f->name, "connection"));
}

/* It may be what somebody published. */
static const char *good_type(const char *type)
{
    for (const char *p = type; p && *p; p++)
        if (!is_value_byte((uint8_t)*p))
            return "application/octet-stream";
    return type;
}

static char *put_fields(char *p, const struct http_field *fields, size_t count, struct plan *plan)
{
    for (size_t i = 0; i < count; i++) {
        const struct http_field *f = &fields[i];
        if (!field_is_good(f, plan->upgrade))
            continue;
        p = put(p, f->name.bytes, f->name.len);
        p = PUT(p, ": ");
        p = put(p, f->value.bytes, f->value.len);
        p = PUT(p, "\r\n");
    }
    return p;
}

static char *put_origin(char *p, const char *origin)
{
    p = PUT(p, "Access-Control-Allow-Origin: ");
    p = put(p, origin, strlen(origin));
    return PUT(p, "\r\nAccess-Control-Expose-Headers: *\r\nVary: Origin\r\n");
}

static bool lists_connection(const struct http_response *r)
{
    for (size_t i = 0; i < r->field_count; i++)
        if (text_is(r->fields[i].name, "connection"))
            return true;
    return false;
}

/* Into http.head; false: no memory, and the connection is aborted. */
static bool head_make(struct http_exchange *x, const struct http_response *r, struct plan *plan)
{
    struct conn *c = x->conn;
    struct http *h = c->h;
    const char *type = good_type(r->type);
    size_t type_len = type ? strlen(type) : 0, most = 512 + type_len + (x->origin ? strlen(x->origin) : 0);
    for (size_t i = 0; i < r->field_count; i++)
        most += r->fields[i].name.len + r->fields[i].value.len + 4;
    buf_clear(&h->head);
    char *start = (char *)buf_reserve(&h->head, most), *p = start;
    if (!p) {
        net_conn_abort(c->net);
        return false;
    }
    p = put_date(put_status(p, r->status), h);
    if (type) {
        p = put(PUT(p, "Content-Type: "), type, type_len);
        p = PUT(p, "\r\n");
    }
    if (plan->has_length)
        p = PUT(put_number(PUT(p, "Content-Length: "), r->body_len), "\r\n");
    else if (plan->chunked)
        p = PUT(p, "Transfer-Encoding: chunked\r\n");
    if (plan->upgrade)
        p = lists_connection(r) ? p : PUT(p, "Connection: Upgrade\r\n");
    else if (x->close || (c->closing && exchange_is_last(x)))
        p = PUT(p, "Connection: close\r\n");
    else if (x->keep_alive)
        p = PUT(p, "Connection: keep-alive\r\n");
    if (x->origin)
        p = put_origin(p, x->origin);
    p = PUT(put_fields(p, r->fields, r->field_count, plan), "\r\n");
    h->head.len = (size_t)(p - start);
    h->stats.responses[r->status >= 100 && r->status < 600 ? r->status / 100 : 5]++;
    return true;
}

static void head_done(struct http *h)
{
    if (h->head.cap > HEAD_KEEP_BYTES)
        buf_release(&h->head);
}

static bool has_no_body(int status)
{
    return status < 200 || status == 204 || status == 304;
}

void http_respond(struct http_exchange *x, const struct http_response *r)
{
    struct http *h = x->conn->h;
    struct plan plan = {.has_length = !has_no_body(r->status)};
    assert(x->state == EXCHANGE_OPEN);
    if (!head_make(x, r, &plan)) {
        x->mark = UINT64_MAX;
    } else {
        bool with_body = plan.has_length && !x->is_head && r->body_len > 0;
        exchange_write(x, h->head.bytes, h->head.len, r->body, with_body ? r->body_len : 0);
    }
    head_done(h);
    exchange_complete(x);
}

void http_chunked_begin(struct http_exchange *x, const struct http_response *head)
{
    struct conn *c = x->conn;
    struct plan plan = {.chunked = x->minor > 0};
    assert(x->state == EXCHANGE_OPEN);
    if (c->h->handling == x)
        c->h->handling = NULL;
    if (!plan.chunked) {
        x->until_close = x->close = c->closing = true;
        x->keep_alive = false;
    }
    if (head_make(x, head, &plan))
        exchange_write(x, c->h->head.bytes, c->h->head.len, NULL, 0);
    head_done(c->h);
    x->state = EXCHANGE_STREAMING;
}

struct net_conn *http_take_over(struct http_exchange *x, const struct http_response *head,
                                const struct http_conn_ops *ops, void *owner)
{
    struct conn *c = x->conn;
    struct plan plan = {.upgrade = head->status == 101};
    assert(x->state == EXCHANGE_OPEN);
    x->ops = NULL;
    if (!exchange_is_first(x) || !exchange_is_last(x)) { /* h1.c holds back what says that it might come to this */
        struct problem p;
        problem_set(&p, 400, "malformed_request", "this request needs a connection of its own");
        c->closing = true;
        respond_problem(x, &p, NULL, 0);
        return NULL;
    }
    if (!plan.upgrade)
        x->close = c->closing = true;
    bool good = head_make(x, head, &plan) && exchange_write(x, c->h->head.bytes, c->h->head.len, NULL, 0);
    head_done(c->h);
    if (good && !x->is_head) {
        c->is_taken = true;
        c->taken = ops;
        c->taken_owner = owner;
        c->h->stats.taken_over++;
    }
    exchange_complete(x);
    return c->is_taken ? c->net : NULL; /* of HEAD, the head is all */
}

/* ---- problems ------------------------------------------------------------------------------------------------------- */

static bool put_text(struct buf *out, const char *text)
{
    return buf_append(out, text, strlen(text));
}

/* A JSON string's inside; bytes that are not UTF-8 are the caller's fault, and replaced. */
static bool put_escaped(struct buf *out, const char *text)
{
    static const char digits[] = "0123456789abcdef";
    bool good = true;
    for (const char *p = text; *p && good; p++) {
        uint8_t byte = (uint8_t)*p;
        if (byte == '"' || byte == '\\') {
            char escaped[2] = {'\\', *p};
            good = buf_append(out, escaped, 2);
        } else if (byte < 0x20 || byte == 0x7f) {
            char escaped[6] = {'\\', 'u', '0', '0', digits[byte >> 4], digits[byte & 15]};
            good = buf_append(out, escaped, 6);
        } else {
            good = buf_put_u8(out, byte);
        }
    }
    return good;
}

/* How many bytes the UTF-8 sequence at `p` has; 0: it is none (RFC 3629). */
static size_t sequence_length(const uint8_t *p)
{
    size_t n = p[0] < 0x80                   ? 1
               : p[0] >= 0xc2 && p[0] < 0xe0 ? 2
               : (p[0] & 0xf0) == 0xe0       ? 3
               : p[0] >= 0xf0 && p[0] < 0xf5 ? 4
                                             : 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
        (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;
    return n;
}

static bool put_string(struct buf *out, const char *name, const char *text)
{
    bool good = put_text(out, "\"") && put_text(out, name) && put_text(out, "\":\"");
    char one[5];
    for (const uint8_t *p = (const uint8_t *)text; *p && good;) {
        size_t n = sequence_length(p);
        memcpy(one, n ? (const char *)p : "?", n ? n : 1);
        one[n ? n : 1] = '\0';
        good = put_escaped(out, one);
        p += n ? n : 1;
    }
    return good && put_text(out, "\"");
}

bool http_problem_put(struct buf *out, int status, const char *slug, const char *title, const char *text,
                      uint32_t retry_ms)
{
    char type[96], code[64], number[64];
    size_t n;
    for (n = 0; slug[n] && n + 1 < sizeof(code); n++)
        code[n] = slug[n] >= 'a' && slug[n] <= 'z' ? (char)(slug[n] - 'a' + 'A') : slug[n];
    code[n] = '\0';
    snprintf(type, sizeof(type), "/errors/%s", slug);
    snprintf(number, sizeof(number), ",\"status\":%d,", status);
    bool good = put_text(out, "{") && put_string(out, "type", type) && put_text(out, ",") &&
                put_string(out, "title", title ? title : status_reason(status)) && put_text(out, number);
    if (text && *text)
        good = good && put_string(out, "detail", text) && put_text(out, ",");
    good = good && put_string(out, "code", code);
    if (retry_ms) {
        snprintf(number, sizeof(number), ",\"retry_ms\":%u", retry_ms);
        good = good && put_text(out, number);
    }
    return good && put_text(out, "}");
}

static void respond_with(struct http_exchange *x, int status, const char *slug, const char *title, const char *text,
                         uint32_t retry_ms, const struct http_field *more, size_t more_count)
{
    struct buf body;
    struct http_field fields[8];
    char seconds[16];
    size_t count = 0;
    buf_init(&body, 0);
    if (!has_no_body(status) && !http_problem_put(&body, status, slug, title, text, retry_ms))
        buf_clear(&body); /* the status says most of it */
    for (size_t i = 0; i < more_count && count < 7; i++)
        fields[count++] = more[i];
    if (retry_ms) {
        int n = snprintf(seconds, sizeof(seconds), "%u", retry_ms / 1000 + (retry_ms % 1000 ? 1 : 0));
        fields[count++] = (struct http_field){{"Retry-After", 11}, {seconds, (size_t)n}};
    }
    http_respond(x, &(struct http_response){.status = status,
                                            .type = body.len ? "application/problem+json" : NULL,
                                            .body = body.bytes,
                                            .body_len = body.len,
                                            .fields = fields,
                                            .field_count = count});
    buf_release(&body);
}

void respond_problem(struct http_exchange *x, const struct problem *p, const struct http_field *fields, size_t count)
{
    respond_with(x, p->status, p->slug, NULL, p->text, p->status == 503 ? 1000 : 0, fields, count);
}

void http_refuse_as(struct http_exchange *x, int status, const char *slug, const char *text)
{
    respond_with(x, status, slug, NULL, text, 0, NULL, 0);
}

struct error_row { /* of the one error table */
    broker_error error;
    int status;
    const char *name, *title;
};

static const struct error_row *error_row(broker_error error)
{
    static const struct error_row rows[] = {
#define ROW(name, code, http, retry, title) {BROKER_##name, http, #name, title},
        BROKER_ERROR_MAP(ROW)
#undef ROW
    };
    static const struct error_row internal = {BROKER_INTERNAL, 500, "INTERNAL", "internal error"};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (rows[i].error == error)
            return &rows[i];
    return &internal;
}

enum { SLUG_BYTES = 64 };

/* The stable end of its type: its name in lower case. */
static const char *slug_of(const struct error_row *row, char slug[SLUG_BYTES])
{
    size_t n = 0;
    for (; row->name[n] && n + 1 < SLUG_BYTES; n++)
        slug[n] = row->name[n] >= 'A' && row->name[n] <= 'Z' ? (char)(row->name[n] - 'A' + 'a') : row->name[n];
    slug[n] = '\0';
    return slug;
}

int http_status_of(broker_error error)
{
    return error_row(error)->status;
}

bool http_problem_of(struct buf *out, broker_error error, const char *text, uint32_t retry_ms)
{
    const struct error_row *row = error_row(error);
    char slug[SLUG_BYTES];
    return http_problem_put(out, row->status, slug_of(row, slug), row->title, text, retry_ms);
}

void http_refuse(struct http_exchange *x, broker_error error, const char *text, uint32_t retry_ms)
{
    const struct error_row *row = error_row(error);
    char slug[SLUG_BYTES];
    respond_with(x, row->status, slug_of(row, slug), row->title, text, retry_ms, NULL, 0);
}
