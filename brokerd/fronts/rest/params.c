/* Query parameters, and the small values that stand in them and in fields: numbers, durations, times. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "distance.h"
#include "rest_internal.h"
#include "rfc3339.h"

/* ---- values --------------------------------------------------------------------------------------------------------- */

const char *shown(struct http_text value, char out[SHOWN_BYTES])
{
    size_t n = value.len < 64 ? value.len : 64;
    for (size_t i = 0; i < n; i++)
        out[i] = value.bytes[i] >= 0x20 && value.bytes[i] < 0x7f ? value.bytes[i] : '?';
    memcpy(out + n, value.len > 64 ? "..." : "", value.len > 64 ? 4 : 1);
    return out;
}

/* Digits from *text on; how many, or 0 if there are none or the number passes 64 bits. */
static size_t digits(const char *text, size_t len, uint64_t *value)
{
    size_t n = 0;
    uint64_t v = 0;
    for (; n < len && text[n] >= '0' && text[n] <= '9'; n++) {
        unsigned digit = (unsigned)(text[n] - '0');
        if (v > (UINT64_MAX - digit) / 10)
            return 0;
        v = v * 10 + digit;
    }
    *value = v;
    return n;
}

bool parse_u64(const char *text, size_t len, uint64_t *value)
{
    return len > 0 && digits(text, len, value) == len;
}

bool parse_duration(const char *text, size_t len, uint64_t *ms)
{
    static const struct {
        const char *unit;
        uint64_t ms;
    } UNITS[] = {{"", 1}, {"ms", 1}, {"s", 1000}, {"m", 60000}, {"min", 60000}, {"h", 3600000}, {"d", 86400000}};
    uint64_t value;
    size_t n = digits(text, len, &value);
    if (n == 0)
        return false;
    for (size_t i = 0; i < sizeof(UNITS) / sizeof(UNITS[0]); i++) {
        if (strlen(UNITS[i].unit) != len - n || memcmp(UNITS[i].unit, text + n, len - n) != 0)
            continue;
        if (value > UINT64_MAX / UNITS[i].ms)
            return false;
        *ms = value * UNITS[i].ms;
        return true;
    }
    return false;
}

bool parse_time(const char *text, size_t len, uint64_t *unix_ms)
{
    return parse_u64(text, len, unix_ms) || rfc3339_parse(text, len, unix_ms);
}

/* ---- names ---------------------------------------------------------------------------------------------------------- */

enum { NEAR_MAX = 24 }; /* longer names are like no other */

const char *nearest(const char *const *known, const char *name, size_t len)
{
    const char *best = NULL;
    size_t least = len / 2 < 3 ? len / 2 + 1 : 3; /* more letters than this are another word */
    for (; *known; known++) {
        size_t known_len = strlen(*known);
        if (len > NEAR_MAX || known_len > NEAR_MAX)
            continue;
        size_t d = edit_distance(*known, known_len, name, len, true);
        if (d < least || (d == least && !best)) {
            least = d;
            best = *known;
        }
    }
    return best;
}

/* ---- parameters ----------------------------------------------------------------------------------------------------- */

__attribute__((format(printf, 2, 3))) static bool wrong(struct params *p, const char *format, ...)
{
    va_list args;
    if (p->error[0])
        return false;
    va_start(args, format);
    vsnprintf(p->error, sizeof(p->error), format, args);
    va_end(args);
    return false;
}

/* `known` has up to 32 names. */

struct opening {
    struct params *params;
    const char *const *known;
    const char *repeat;
    uint32_t seen; /* a bit for each of known */
};

static bool text_is(struct http_text text, const char *is)
{
    return text.len == strlen(is) && memcmp(text.bytes, is, text.len) == 0;
}

static bool open_one(void *arg, struct http_text name, struct http_text value)
{
    struct opening *o = arg;
    char out[SHOWN_BYTES];
    unsigned i = 0;
    while (o->known[i] && !text_is(name, o->known[i]))
        i++;
    if (o->known[i]) {
        bool twice = o->seen & 1u << i;
        o->seen |= 1u << i;
        return !twice || (o->repeat && text_is(name, o->repeat)) ||
               wrong(o->params, "the query parameter %s comes twice; give it once", o->known[i]);
    }
    const char *meant = nearest(o->known, name.bytes, name.len);
    if (meant)
        return wrong(o->params, "there is no query parameter '%s' here; did you mean %s?", shown(name, out), meant);
    return wrong(o->params, "there is no query parameter '%s' here%s%s", shown(name, out),
                 o->known[0] ? "; one that there is: " : "", o->known[0] ? o->known[0] : "");
}

bool params_open(struct params *p, const struct http_request *r, const char *const *known, const char *repeat)
{
    struct opening o = {p, known, repeat, 0};
    p->request = r;
    p->error[0] = 0;
    if (r->query.len > 0)
        http_each_query(r, open_one, &o);
    return p->error[0] == 0;
}

/* 1: it is there; 0: it is not; -1: something was wrong before. */
static int find(struct params *p, const char *name, struct http_text *value)
{
    if (p->error[0])
        return -1;
    return p->request->query.len > 0 && http_query(p->request, name, value);
}

bool param_u64(struct params *p, const char *name, uint64_t min, uint64_t max, uint64_t *out)
{
    struct http_text value;
    char out_text[SHOWN_BYTES];
    uint64_t number;
    int there = find(p, name, &value);
    if (there <= 0)
        return there == 0;
    if (!parse_u64(value.bytes, value.len, &number) || number < min || number > max)
        return wrong(p, "%s is '%s'; give a number from %" PRIu64 " to %" PRIu64, name, shown(value, out_text), min,
                     max);
    *out = number;
    return true;
}

bool param_u32(struct params *p, const char *name, uint32_t min, uint32_t max, uint32_t *out)
{
    uint64_t number = *out;
    if (!param_u64(p, name, min, max, &number))
        return false;
    *out = (uint32_t)number;
    return true;
}

bool param_duration(struct params *p, const char *name, uint64_t min_ms, uint64_t max_ms, uint64_t *ms)
{
    struct http_text value;
    char out[SHOWN_BYTES];
    uint64_t number;
    int there = find(p, name, &value);
    if (there <= 0)
        return there == 0;
    if (!parse_duration(value.bytes, value.len, &number))
        return wrong(p, "%s is '%s'; give a time as 500ms, 30s, 2min, 1h or 7d, or a number of milliseconds", name,
                     shown(value, out));
    if (number < min_ms || number > max_ms)
        return wrong(p, "%s is '%s'; give %" PRIu64 " to %" PRIu64 " ms", name, shown(value, out), min_ms, max_ms);
    *ms = number;
    return true;
}

bool param_time(struct params *p, const char *name, uint64_t *unix_ms)
{
    struct http_text value;
    char out[SHOWN_BYTES];
    int there = find(p, name, &value);
    if (there <= 0)
        return there == 0;
    return parse_time(value.bytes, value.len, unix_ms) ||
           wrong(p, "%s is '%s'; give a time as 2031-05-07T09:30:00Z or as Unix milliseconds", name, shown(value, out));
}

bool param_bool(struct params *p, const char *name, bool *out)
{
    struct http_text value;
    char out_text[SHOWN_BYTES];
    int there = find(p, name, &value);
    if (there <= 0)
        return there == 0;
    bool yes = value.len == 0 || text_is(value, "true") || text_is(value, "1");
    if (!yes && !text_is(value, "false") && !text_is(value, "0"))
        return wrong(p, "%s is '%s'; give true or false", name, shown(value, out_text));
    *out = yes;
    return true;
}

bool param_text(struct params *p, const char *name, size_t max_len, struct http_text *out)
{
    struct http_text value;
    char out_text[SHOWN_BYTES];
    int there = find(p, name, &value);
    if (there <= 0)
        return there == 0;
    if (value.len > max_len)
        return wrong(p, "%s is '%s', %zu bytes; give at most %zu", name, shown(value, out_text), value.len, max_len);
    *out = value;
    return true;
}
