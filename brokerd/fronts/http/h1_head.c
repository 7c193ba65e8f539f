/*
 * The head of a request: request line and fields (RFC 9112 2..5), read strictly. Where two parsers on a way could read
 * different things, the request is refused: that is what request smuggling lives on. llhttp reads every head as well, and must
 * have read the same.
 */
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <strings.h>

#include "h1_second.h"
#include "http_internal.h"

/* ---- bytes and texts ------------------------------------------------------------------------------------------------ */

static const bool TOKEN[256] = {
    ['!'] = 1, ['#'] = 1, ['$'] = 1, ['%'] = 1,         ['&'] = 1,         ['\''] = 1,
    ['*'] = 1, ['+'] = 1, ['-'] = 1, ['.'] = 1,         ['^'] = 1,         ['_'] = 1,
    ['`'] = 1, ['|'] = 1, ['~'] = 1, ['0' ... '9'] = 1, ['a' ... 'z'] = 1, ['A' ... 'Z'] = 1,
};
static const bool VALUE[256] = {['\t'] = 1, [0x20 ... 0x7e] = 1, [0x80 ... 0xff] = 1};

bool is_token_byte(uint8_t byte)
{
    return TOKEN[byte];
}

bool is_value_byte(uint8_t byte)
{
    return VALUE[byte];
}

bool text_is(struct http_text t, const char *word)
{
    size_t len = strlen(word);
    return t.len == len && strncasecmp(t.bytes, word, len) == 0;
}

bool text_same(struct http_text a, struct http_text b)
{
    return a.len == b.len && strncasecmp(a.bytes, b.bytes, a.len) == 0;
}

struct http_text text_trim(struct http_text t)
{
    while (t.len > 0 && (t.bytes[0] == ' ' || t.bytes[0] == '\t'))
        t = (struct http_text){t.bytes + 1, t.len - 1};
    while (t.len > 0 && (t.bytes[t.len - 1] == ' ' || t.bytes[t.len - 1] == '\t'))
        t.len--;
    return t;
}

bool text_lists(struct http_text list, const char *word)
{
    while (list.len > 0) {
        const char *comma = memchr(list.bytes, ',', list.len);
        size_t n = comma ? (size_t)(comma - list.bytes) : list.len;
        if (text_is(text_trim((struct http_text){list.bytes, n}), word))
            return true;
        n += comma ? 1 : 0;
        list = (struct http_text){list.bytes + n, list.len - n};
    }
    return false;
}

void problem_set(struct problem *p, int status, const char *slug, const char *format, ...)
{
    va_list args;
    p->status = status;
    p->slug = slug;
    va_start(args, format);
    vsnprintf(p->text, sizeof(p->text), format, args);
    va_end(args);
}

#define MALFORMED(p, ...) (problem_set(p, 400, "malformed_request", __VA_ARGS__), false)

/* ---- the end of the head -------------------------------------------------------------------------------------------- */

/* Only whole lines are looked at, each once, however many pieces they come in. A bare LF is wrong as soon as it is seen: some
   would take it for a line's end. */
enum find head_find_end(const uint8_t *bytes, size_t len, size_t from, size_t *end)
{
    const uint8_t *lf;
    while (from < len && (lf = memchr(bytes + from, '\n', len - from))) {
        size_t at = (size_t)(lf - bytes);
        if (at == 0 || bytes[at - 1] != '\r')
            return FIND_WRONG;
        if (at >= 2 && bytes[at - 2] == '\n') {
            *end = at + 1;
            return FIND_END;
        }
        from = at + 1;
    }
    return FIND_MORE;
}

/* ---- the request line ----------------------------------------------------------------------------------------------- */

static void head_method(struct head *h)
{
    static const struct {
        const char *name;
        enum http_method verb;
    } methods[] = {
        {"GET", HTTP_GET}, {"POST", HTTP_POST}, {"PUT", HTTP_PUT}, {"PATCH", HTTP_PATCH}, {"DELETE", HTTP_DELETE}};
    h->is_head = h->method.len == 4 && memcmp(h->method.bytes, "HEAD", 4) == 0;
    h->is_options = h->method.len == 7 && memcmp(h->method.bytes, "OPTIONS", 7) == 0;
    h->verb = h->is_head ? HTTP_GET : 0;
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
        if (h->method.len == strlen(methods[i].name) && memcmp(h->method.bytes, methods[i].name, h->method.len) == 0)
            h->verb = methods[i].verb; /* methods compare with case */
}

static bool head_version(struct head *h, const char *at, size_t len, struct problem *p)
{
    if (len != 8 || memcmp(at, "HTTP/", 5) != 0 || at[5] < '0' || at[5] > '9' || at[6] != '.' || at[7] < '0' ||
        at[7] > '9')
        return MALFORMED(p, "the request line does not end with HTTP/1.1");
    if (at[5] != '1' || at[7] > '1') {
        problem_set(p, 505, "version_not_supported", "HTTP/%c.%c is not spoken here: HTTP/1.1 and HTTP/1.0 are", at[5],
                    at[7]);
        return false;
    }
    h->minor = (uint8_t)(at[7] - '0');
    return true;
}

static bool head_request_line(struct head *h, const char *line, size_t len, struct problem *p)
{
    size_t n = 0;
    while (n < len && TOKEN[(uint8_t)line[n]])
        n++;
    if (n == 0 || n == len || line[n] != ' ')
        return MALFORMED(p, "the request line does not begin with a method and one blank");
    h->method = (struct http_text){line, n};
    size_t from = ++n;
    while (n < len && line[n] > 0x20 && line[n] < 0x7f && line[n] != '#')
        n++;
    if (n < len && line[n] == '#')
        return MALFORMED(p, "the request target has a fragment ('#')");
    if (n == from || n == len || line[n] != ' ')
        return MALFORMED(p, "the request line is not a method, a target and a version with one blank between them");
    h->target = (struct http_text){line + from, n - from};
    head_method(h);
    return head_version(h, line + n + 1, len - n - 1, p);
}

/* ---- fields --------------------------------------------------------------------------------------------------------- */

static bool field_length(struct head *h, struct http_text value, struct problem *p)
{
    if (h->body == BODY_LENGTH)
        return MALFORMED(p, "Content-Length comes twice");
    if (h->body == BODY_CHUNKED)
        return MALFORMED(p, "Content-Length and Transfer-Encoding exclude each other");
    uint64_t n = 0;
    for (size_t i = 0; i < value.len; i++) {
        if (value.bytes[i] < '0' || value.bytes[i] > '9')
            return MALFORMED(p, "Content-Length is not a number of digits alone");
        n = n * 10 + (uint64_t)(value.bytes[i] - '0');
    }
    if (value.len == 0 || value.len > 18)
        return MALFORMED(p, "Content-Length has %s", value.len ? "too many digits" : "no digits");
    h->content_length = n;
    h->body = BODY_LENGTH;
    return true;
}

static bool field_encoding(struct head *h, struct http_text value, struct problem *p)
{
    if (h->body == BODY_CHUNKED)
        return MALFORMED(p, "Transfer-Encoding comes twice");
    if (h->body == BODY_LENGTH)
        return MALFORMED(p, "Content-Length and Transfer-Encoding exclude each other");
    if (text_is(value, "chunked")) {
        h->body = BODY_CHUNKED;
        return true;
    }
    if (value.len == 0)
        return MALFORMED(p, "Transfer-Encoding is empty");
    for (size_t i = 0; i + 7 <= value.len; i++)
        if (strncasecmp(value.bytes + i, "chunked", 7) == 0)
            return MALFORMED(p, "Transfer-Encoding is more than \"chunked\"");
    problem_set(p, 501, "not_implemented", "the only Transfer-Encoding is \"chunked\"");
    return false;
}

static bool is_digits(const char *at, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (at[i] < '0' || at[i] > '9')
            return false;
    return true;
}

/* A host and perhaps a port, as RFC 3986 3.2 has them, without a user. */
static bool is_authority(struct http_text t)
{
    size_t n = 0;
    if (t.len > 0 && t.bytes[0] == '[') {
        for (n = 1; n < t.len && t.bytes[n] != ']'; n++)
            if (!strchr("0123456789abcdefABCDEF:.", t.bytes[n]) || !t.bytes[n])
                return false;
        if (n < 3 || n++ >= t.len)
            return false;
    } else {
        while (n < t.len && t.bytes[n] != ':') {
            uint8_t b = (uint8_t)t.bytes[n++];
            if (!TOKEN[b] || strchr("#%^`|", b))
                return false;
        }
        if (n == 0)
            return false;
    }
    if (n == t.len)
        return true;
    return t.bytes[n] == ':' && t.len - n <= 6 && is_digits(t.bytes + n + 1, t.len - n - 1);
}

static bool field_host(struct head *h, struct http_text value, struct problem *p)
{
    if (h->host.bytes)
        return MALFORMED(p, "Host comes twice");
    if (!is_authority(value))
        return MALFORMED(p, "Host is not the name or the address of a host");
    h->host = value;
    return true;
}

static bool field_expect(struct head *h, struct http_text value, struct problem *p)
{
    if (h->minor == 0)
        return true; /* RFC 9110 10.1.1: ignored */
    if (!text_is(value, "100-continue")) {
        problem_set(p, 417, "expectation_failed", "the only expectation that can be met is 100-continue");
        return false;
    }
    h->expects = true;
    return true;
}

static bool has_name(const struct http_field *f, const char *name)
{
    return strncasecmp(f->name.bytes, name, f->name.len) == 0;
}

/* What we need to know ourselves. Chosen by length first: most fields end there. */
static bool head_field(struct head *h, const struct http_field *f, struct problem *p)
{
    switch (f->name.len) {
    case 4: return has_name(f, "host") ? field_host(h, f->value, p) : true;
    case 6:
        if (has_name(f, "expect"))
            return field_expect(h, f->value, p);
        if (has_name(f, "origin"))
            h->origin = f;
        else if (has_name(f, "accept") && memmem(f->value.bytes, f->value.len, "text/event-stream", 17))
            h->alone = true;
        return true;
    case 7:
        if (has_name(f, "upgrade"))
            h->alone = true;
        return true;
    case 10:
        if (has_name(f, "connection")) {
            h->close = h->close || text_lists(f->value, "close");
            h->keep_alive = h->keep_alive || text_lists(f->value, "keep-alive");
        }
        return true;
    case 14:
        if (has_name(f, "content-length"))
            return field_length(h, f->value, p);
        if (has_name(f, "sec-fetch-site"))
            h->fetch_site = f;
        else if (has_name(f, "sec-fetch-mode"))
            h->fetch_mode = f;
        else if (has_name(f, "sec-fetch-dest"))
            h->fetch_dest = f;
        return true;
    case 17: return has_name(f, "transfer-encoding") ? field_encoding(h, f->value, p) : true;
    case 29:
        if (has_name(f, "access-control-request-method"))
            h->preflight = f;
        return true;
    default: return true;
    }
}

/* One line, without its CRLF. */
static bool head_field_line(struct http_field *f, const char *line, size_t len, struct problem *p)
{
    size_t n = 0;
    if (line[0] == ' ' || line[0] == '\t')
        return MALFORMED(p, "a field goes on in a second line");
    while (n < len && TOKEN[(uint8_t)line[n]])
        n++;
    if (n < len && (line[n] == ' ' || line[n] == '\t'))
        return MALFORMED(p, "a field's name has a blank in it or before its colon");
    if (n == 0 || n == len || line[n] != ':')
        return MALFORMED(p, "a line of the head is not a field: a name, a colon, a value");
    f->name = (struct http_text){line, n};
    f->value = text_trim((struct http_text){line + n + 1, len - n - 1});
    for (size_t i = 0; i < f->value.len; i++)
        if (!VALUE[(uint8_t)f->value.bytes[i]])
            return MALFORMED(p, "the value of the field %.*s has a control character", (int)(n < 40 ? n : 40), line);
    return true;
}

static bool head_fields(struct head *h, const char *at, const char *end, size_t max_fields, struct problem *p)
{
    while (at[0] != '\r' || at[1] != '\n') {
        const char *lf = memchr(at, '\n', (size_t)(end - at)); /* head_find_end has seen its CR */
        if (h->field_count == max_fields) {
            problem_set(p, 431, "head_too_large", "the request has more than %zu fields", max_fields);
            return false;
        }
        struct http_field *f = &h->fields[h->field_count++];
        if (!head_field_line(f, at, (size_t)(lf - 1 - at), p) || !head_field(h, f, p))
            return false;
        at = lf + 1;
    }
    return at + 2 == end ? true : MALFORMED(p, "the head goes on behind its end");
}

/* ---- the target ----------------------------------------------------------------------------------------------------- */

static int hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10 : -1;
}

/* Segments that climb, and bytes that end strings elsewhere, are refused, however they are written. */
static bool path_is_safe(struct http_text path, struct problem *p)
{
    size_t dots = 0, others = 0;
    for (size_t i = 0; i <= path.len; i++) {
        if (i == path.len || path.bytes[i] == '/') {
            if (!others && (dots == 1 || dots == 2))
                return MALFORMED(p, "the path has a segment \".\" or \"..\"");
            dots = others = 0;
            continue;
        }
        int byte = (uint8_t)path.bytes[i];
        if (byte == '%') {
            int high = i + 2 < path.len ? hex(path.bytes[i + 1]) : -1,
                low = i + 2 < path.len ? hex(path.bytes[i + 2]) : -1;
            if (high < 0 || low < 0)
                return MALFORMED(p, "the path has a '%%' without two hexadecimal digits");
            byte = high << 4 | low;
            i += 2;
        }
        if (byte == 0)
            return MALFORMED(p, "the path has a NUL in it");
        if (byte == '.')
            dots++;
        else
            others++;
    }
    return true;
}

static bool head_absolute(struct head *h, struct http_text rest, struct problem *p)
{
    size_t n = 0;
    while (n < rest.len && rest.bytes[n] != '/' && rest.bytes[n] != '?')
        n++;
    struct http_text authority = {rest.bytes, n};
    if (!is_authority(authority))
        return MALFORMED(p, "the request target does not name a host");
    if (h->host.bytes && !text_same(authority, h->host))
        return MALFORMED(p, "the request target names another host than the Host field");
    h->path = (struct http_text){rest.bytes + n, rest.len - n};
    return true;
}

static bool head_target(struct head *h, struct problem *p)
{
    struct http_text t = h->target;
    if (t.len == 1 && t.bytes[0] == '*' && h->is_options) {
        h->is_star = true;
        h->path = t;
        return true;
    }
    if (t.bytes[0] == '/') {
        h->path = t;
    } else if (t.len > 7 && strncasecmp(t.bytes, "http://", 7) == 0) {
        if (!head_absolute(h, (struct http_text){t.bytes + 7, t.len - 7}, p))
            return false;
    } else if (t.len > 8 && strncasecmp(t.bytes, "https://", 8) == 0) {
        if (!head_absolute(h, (struct http_text){t.bytes + 8, t.len - 8}, p))
            return false;
    } else {
        return MALFORMED(p, "the request target is neither a path that begins with '/' nor a whole URL");
    }
    const char *mark = memchr(h->path.bytes, '?', h->path.len);
    if (mark) {
        h->query = (struct http_text){mark + 1, h->path.len - (size_t)(mark + 1 - h->path.bytes)};
        h->path.len = (size_t)(mark - h->path.bytes);
    }
    if (h->path.len == 0)
        h->path = (struct http_text){"/", 1};
    return path_is_safe(h->path, p);
}

/* ---- the whole ------------------------------------------------------------------------------------------------------ */

static bool head_judge(const struct head *h, struct problem *p)
{
    struct second_opinion o;
    second_opinion(h->bytes, h->len, &o);
    if (o.error)
        return MALFORMED(p, "the head is not well formed: %s", o.error);
    if (o.fields != h->field_count || o.target_len != h->target.len || o.major != 1 || o.minor != h->minor ||
        o.has_length != (h->body == BODY_LENGTH) || o.is_chunked != (h->body == BODY_CHUNKED) ||
        (o.has_length && o.content_length != h->content_length))
        return MALFORMED(p, "the head can be read in two ways");
    return true;
}

bool head_parse(struct head *h, const uint8_t *bytes, size_t len, struct http_field *fields, size_t max_fields,
                struct problem *p)
{
    const char *text = (const char *)bytes, *lf = memchr(bytes, '\n', len);
    *h = (struct head){.bytes = text, .len = len, .fields = fields};
    *p = (struct problem){0};
    if (!head_request_line(h, text, (size_t)(lf - 1 - text), p))
        return false;
    if (!h->verb && !h->is_options) {
        problem_set(p, 501, "not_implemented", "the method %.*s is not known here",
                    (int)(h->method.len < 40 ? h->method.len : 40), h->method.bytes);
        return false;
    }
    if (!head_fields(h, lf + 1, text + len, max_fields, p))
        return false;
    if (!h->host.bytes && h->minor > 0)
        return MALFORMED(p, "there is no Host field");
    if (h->body == BODY_CHUNKED && h->minor == 0)
        return MALFORMED(p, "HTTP/1.0 has no Transfer-Encoding");
    return head_target(h, p) && head_judge(h, p);
}
