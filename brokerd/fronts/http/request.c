/* What handlers ask of a request: fields, the query, Accept. */
#include <stdlib.h>
#include <strings.h>

#include "http_internal.h"

const struct http_field *http_find(const struct http_request *r, const char *name)
{
    size_t len = strlen(name);
    for (size_t i = 0; i < r->field_count; i++)
        if (r->fields[i].name.len == len && strncasecmp(r->fields[i].name.bytes, name, len) == 0)
            return &r->fields[i];
    return NULL;
}

/* ---- percent-encoding ----------------------------------------------------------------------------------------------- */

static int hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10 : -1;
}

size_t percent_decode(char *out, const char *in, size_t len, bool plus)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        char c = in[i];
        if (c == '%' && len - i > 2 && hex(in[i + 1]) >= 0 && hex(in[i + 2]) >= 0) {
            c = (char)(hex(in[i + 1]) << 4 | hex(in[i + 2]));
            i += 2;
        } else if (plus && c == '+') {
            c = ' ';
        }
        out[n++] = c;
    }
    return n;
}

size_t http_percent_decode(char *out, const char *in, size_t len)
{
    return percent_decode(out, in, len, false);
}

/* ---- the query ------------------------------------------------------------------------------------------------------ */

/* Decoded texts lie where the encoded ones do in the head: they are never longer, and the same one may be asked for twice. */
static struct http_text decode(const struct http_request *r, struct http_text t)
{
    const struct request *q = (const struct request *)r;
    bool plain = true;
    for (size_t i = 0; i < t.len && plain; i++)
        plain = t.bytes[i] != '%' && t.bytes[i] != '+';
    if (plain)
        return t;
    char *to = q->decoded + (t.bytes - q->head->bytes);
    return (struct http_text){to, percent_decode(to, t.bytes, t.len, true)};
}

static bool next_parameter(struct http_text *rest, struct http_text *name, struct http_text *value)
{
    if (rest->len == 0)
        return false;
    const char *end = memchr(rest->bytes, '&', rest->len);
    size_t n = end ? (size_t)(end - rest->bytes) : rest->len;
    const char *equals = memchr(rest->bytes, '=', n);
    size_t name_len = equals ? (size_t)(equals - rest->bytes) : n;
    *name = (struct http_text){rest->bytes, name_len};
    *value = equals ? (struct http_text){equals + 1, n - name_len - 1} : (struct http_text){rest->bytes + n, 0};
    n += end ? 1 : 0;
    *rest = (struct http_text){rest->bytes + n, rest->len - n};
    return true;
}

bool http_query(const struct http_request *r, const char *name, struct http_text *value)
{
    struct http_text rest = r->query, key, raw;
    size_t len = strlen(name);
    while (next_parameter(&rest, &key, &raw)) {
        key = decode(r, key);
        if (key.len == len && memcmp(key.bytes, name, len) == 0) {
            *value = decode(r, raw);
            return true;
        }
    }
    return false;
}

void http_each_query(const struct http_request *r, bool (*fn)(void *arg, struct http_text name, struct http_text value),
                     void *arg)
{
    struct http_text rest = r->query, name, value;
    while (next_parameter(&rest, &name, &value))
        if ((name.len > 0 || value.len > 0) && !fn(arg, decode(r, name), decode(r, value)))
            return;
}

/* ---- media types ---------------------------------------------------------------------------------------------------- */

/* Up to the end of the element at the front of a list with quoted strings in it, or `stop`. */
static size_t element_length(struct http_text t, char stop)
{
    bool quoted = false;
    size_t n;
    for (n = 0; n < t.len; n++) {
        char c = t.bytes[n];
        if (quoted && c == '\\')
            n++;
        else if (c == '"')
            quoted = !quoted;
        else if (!quoted && c == stop)
            break;
    }
    return n < t.len ? n : t.len;
}

bool http_type_is(const struct http_request *r, const char *type)
{
    const struct http_field *f = http_find(r, "content-type");
    if (!f)
        return false;
    struct http_text t = {f->value.bytes, element_length(f->value, ';')};
    return text_is(text_trim(t), type);
}

/* q=0.25 as 250; RFC 9110 12.4.2. What is no such number counts as 1. */
static unsigned quality(struct http_text parameters)
{
    while (parameters.len > 0) {
        size_t n = element_length(parameters, ';');
        struct http_text one = text_trim((struct http_text){parameters.bytes, n});
        if (one.len > 2 && (one.bytes[0] | 0x20) == 'q' && one.bytes[1] == '=') {
            unsigned q = one.bytes[2] == '1' ? 1000 : 0, scale = 100;
            if (one.bytes[2] != '0' && one.bytes[2] != '1')
                return 1000;
            for (size_t i = 4; i < one.len && one.bytes[3] == '.' && scale > 0; i++, scale /= 10)
                if (one.bytes[i] >= '0' && one.bytes[i] <= '9')
                    q += scale * (unsigned)(one.bytes[i] - '0');
            return q > 1000 ? 1000 : q;
        }
        n += n < parameters.len ? 1 : 0;
        parameters = (struct http_text){parameters.bytes + n, parameters.len - n};
    }
    return 1000;
}

/* How well a media range fits a type: 3 the very type, 2 its kind, 1 anything, 0 not. */
static int fit(struct http_text range, const char *type)
{
    size_t kind = strcspn(type, "/") + 1;
    if (text_is(range, "*/*"))
        return 1;
    if (range.len == kind + 1 && range.bytes[kind] == '*' && strncasecmp(range.bytes, type, kind) == 0)
        return 2;
    return text_is(range, type) ? 3 : 0;
}

/* The quality of one type by all Accept fields: that of the most specific range that fits. */
static unsigned type_quality(const struct http_request *r, const char *type)
{
    int best = 0;
    unsigned q = 0;
    for (size_t i = 0; i < r->field_count; i++) {
        if (!text_is(r->fields[i].name, "accept"))
            continue;
        for (struct http_text rest = r->fields[i].value; rest.len > 0;) {
            size_t n = element_length(rest, ',');
            struct http_text one = {rest.bytes, n};
            size_t semi = element_length(one, ';');
            int how = fit(text_trim((struct http_text){one.bytes, semi}), type);
            if (how > best) {
                best = how;
                q = quality((struct http_text){one.bytes + semi, one.len - semi});
            }
            n += n < rest.len ? 1 : 0;
            rest = (struct http_text){rest.bytes + n, rest.len - n};
        }
    }
    return q;
}

int http_accepts(const struct http_request *r, const char *const *types)
{
    int best = -1;
    unsigned best_q = 0;
    const struct http_field *f = http_find(r, "accept");
    if (!f || f->value.len == 0)
        return 0;
    for (int i = 0; types[i]; i++) {
        unsigned q = type_quality(r, types[i]);
        if (q > best_q) {
            best_q = q;
            best = i;
        }
    }
    return best;
}
