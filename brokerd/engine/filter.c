/* Filters: which messages somebody wants, by topic, key and text headers. Matching allocates nothing: it may run for every publish. */
#include <stdlib.h>
#include <string.h>

#include "engine_internal.h"

/*
 * Encoded: u8 flags (FILTER_TOPIC, FILTER_KEY), u8 number of headers, u16 topic's length, u32 key's length, topic, key; per
 * header u32 name's length, u32 value's length, name, value. No string has a NUL in it.
 */
enum {
    FILTER_TOPIC = 0x01,
    FILTER_KEY = 0x02,
    FILTER_HEAD_BYTES = 8,
    FILTER_HEADER_BYTES = 8,
    FILTER_BYTES_MAX = 128 << 10 /* encoded */
};

struct filter {
    broker_filter is; /* what it was made of; its pointers lead into `bytes`, each string with a NUL behind it */
    size_t topic_len, key_len;
    size_t name_len[FILTER_HEADERS_MAX], value_len[FILTER_HEADERS_MAX];
    broker_header headers[FILTER_HEADERS_MAX];
    char bytes[];
};

/* What a filter is made of: not copied yet, lengths known. */
struct parts {
    const char *topic, *key; /* NULL: any */
    size_t topic_len, key_len;
    uint32_t header_count;
    const char *names[FILTER_HEADERS_MAX], *values[FILTER_HEADERS_MAX];
    size_t name_len[FILTER_HEADERS_MAX], value_len[FILTER_HEADERS_MAX];
};

static const char *copy_text(char **at, const char *text, size_t len)
{
    char *to = *at;
    if (len) {
        memcpy(to, text, len);
    }
    to[len] = '\0';
    *at += len + 1;
    return to;
}

static size_t encoded_bytes(const struct parts *p)
{
    size_t n = FILTER_HEAD_BYTES + p->topic_len + p->key_len;
    for (uint32_t i = 0; i < p->header_count; i++) {
        n += FILTER_HEADER_BYTES + p->name_len[i] + p->value_len[i];
    }
    return n;
}

static struct filter *make(const struct parts *p)
{
    struct filter *f = malloc(sizeof *f + encoded_bytes(p)); /* a length's bytes are more than a NUL's */
    if (!f) {
        return NULL;
    }
    char *at = f->bytes;
    f->topic_len = p->topic_len;
    f->key_len = p->key_len;
    f->is = (broker_filter){.topic = p->topic ? copy_text(&at, p->topic, p->topic_len) : NULL,
                            .key = p->key ? copy_text(&at, p->key, p->key_len) : NULL,
                            .headers = p->header_count ? f->headers : NULL,
                            .header_count = p->header_count};
    for (uint32_t i = 0; i < p->header_count; i++) {
        f->name_len[i] = p->name_len[i];
        f->value_len[i] = p->value_len[i];
        f->headers[i].name = copy_text(&at, p->names[i], p->name_len[i]);
        f->headers[i].value = copy_text(&at, p->values[i], p->value_len[i]);
    }
    return f;
}

static const char *collect(const broker_filter *from, struct parts *p)
{
    if (from->topic) {
        p->topic = from->topic;
        p->topic_len = strnlen(from->topic, TOPIC_MAX_BYTES + 1);
        if (!topic_pattern_is_valid(p->topic, p->topic_len)) {
            return "the filter's topic is no pattern: 1 to 255 bytes, up to 32 tokens of A-Z a-z 0-9 _ - separated by "
                   "single dots, '*' for any one token, '>' as the last for the rest";
        }
    }
    if (from->key) {
        p->key = from->key;
        p->key_len = strnlen(from->key, UINT16_MAX + 1);
        if (p->key_len > UINT16_MAX) {
            return "the filter's key is longer than a key can be: 65535 bytes";
        }
    }
    if (from->header_count > FILTER_HEADERS_MAX || (from->header_count && !from->headers)) {
        return "a filter has at most 32 headers";
    }
    p->header_count = (uint32_t)from->header_count;
    for (uint32_t i = 0; i < p->header_count; i++) {
        p->names[i] = from->headers[i].name;
        p->values[i] = from->headers[i].value;
        if (!p->names[i] || !p->values[i]) {
            return "a header of the filter lacks its name or its value";
        }
        p->name_len[i] = strnlen(p->names[i], FILTER_BYTES_MAX);
        p->value_len[i] = strnlen(p->values[i], FILTER_BYTES_MAX);
    }
    return encoded_bytes(p) > FILTER_BYTES_MAX ? "a filter has at most 128 KiB in all: shorten its headers" : NULL;
}

struct filter *filter_new(const broker_filter *from, broker_error *error, const char **text)
{
    *error = BROKER_OK;
    *text = NULL;
    if (!from->topic && !from->key && !from->header_count) {
        return NULL;
    }
    struct parts p = {.topic = NULL};
    if ((*text = collect(from, &p))) {
        *error = BROKER_INVALID_ARGUMENT;
        return NULL;
    }
    struct filter *f = make(&p);
    if (!f) {
        *error = BROKER_NO_MEMORY;
        *text = "the broker is out of memory: try again";
    }
    return f;
}

void filter_free(struct filter *f)
{
    free(f);
}

void filter_get(const struct filter *f, broker_filter *out)
{
    *out = f ? f->is : (broker_filter){.topic = NULL};
}

/* ---- matching ------------------------------------------------------------------------------------------------------ */

static bool same_text(const char *a, size_t a_len, const void *b, size_t b_len)
{
    return a_len == b_len && (a_len == 0 || memcmp(a, b, a_len) == 0);
}

/*
 * One pair of a message's headers, at `p`, against those conditions that are still open (bits of *open). A message that
 * names a header twice is judged by the first. NULL: malformed, or the pair breaks a condition.
 */
static const uint8_t *match_pair(const struct filter *f, const uint8_t *p, const uint8_t *end, uint32_t *open)
{
    const char *name, *value;
    size_t name_len, value_len;
    const uint8_t *at = wire_skip_text(p, end, &name, &name_len);
    if (!at) { /* no text for a name: none of ours, if it is anything */
        at = wire_skip(p, end);
        return at ? wire_skip(at, end) : NULL;
    }
    uint32_t ours = 0;
    for (uint32_t i = 0; i < f->is.header_count; i++) {
        if (*open & 1u << i && same_text(f->headers[i].name, f->name_len[i], name, name_len)) {
            ours |= 1u << i;
        }
    }
    if (!ours) {
        return wire_skip(at, end);
    }
    const uint8_t *next = wire_skip_text(at, end, &value, &value_len);
    for (uint32_t i = 0; next && i < f->is.header_count; i++) {
        if (ours & 1u << i && !same_text(f->headers[i].value, f->value_len[i], value, value_len)) {
            return NULL;
        }
    }
    *open &= ~ours;
    return next;
}

static bool headers_match(const struct filter *f, const struct record_view *view)
{
    uint32_t pairs, open = UINT32_MAX >> (32 - f->is.header_count);
    const uint8_t *end = view->headers + view->head.headers_len;
    const uint8_t *p = wire_skip_map(view->headers, end, &pairs);
    while (p && open && pairs-- > 0) {
        p = match_pair(f, p, end, &open);
    }
    return p && !open;
}

bool filter_matches(const struct filter *f, const struct record_view *view)
{
    if (!f) {
        return true;
    }
    if (f->is.key && !same_text(f->is.key, f->key_len, view->key, view->head.key_len)) {
        return false;
    }
    if (f->is.topic && !topic_matches(f->is.topic, f->topic_len, (const char *)view->topic, view->head.topic_len)) {
        return false;
    }
    return !f->is.header_count || headers_match(f, view);
}

static bool header_is_in(const struct filter *f, const broker_header *header)
{
    for (uint32_t i = 0; i < f->is.header_count; i++) {
        if (strcmp(f->headers[i].name, header->name) == 0 && strcmp(f->headers[i].value, header->value) == 0) {
            return true;
        }
    }
    return false;
}

static bool headers_are_in(const struct filter *all, const struct filter *some)
{
    for (uint32_t i = 0; i < some->is.header_count; i++) {
        if (!header_is_in(all, &some->headers[i])) {
            return false;
        }
    }
    return true;
}

static bool same_or_none(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

bool filter_is_same(const struct filter *a, const struct filter *b)
{
    if (!a || !b) {
        return a == b;
    }
    return same_or_none(a->is.topic, b->is.topic) && same_or_none(a->is.key, b->is.key) && headers_are_in(a, b) &&
           headers_are_in(b, a);
}

/* ---- bytes --------------------------------------------------------------------------------------------------------- */

bool filter_encode(const struct filter *f, struct buf *out)
{
    static const struct filter everything;
    f = f ? f : &everything;
    size_t before = out->len;
    uint8_t head[FILTER_HEAD_BYTES] = {(uint8_t)((f->is.topic ? FILTER_TOPIC : 0) | (f->is.key ? FILTER_KEY : 0)),
                                       (uint8_t)f->is.header_count};
    put_u16(head + 2, (uint16_t)f->topic_len);
    put_u32(head + 4, (uint32_t)f->key_len);
    bool done = buf_append(out, head, sizeof head) && buf_append(out, f->is.topic, f->topic_len) &&
                buf_append(out, f->is.key, f->key_len);
    for (uint32_t i = 0; done && i < f->is.header_count; i++) {
        done = buf_put_u32(out, (uint32_t)f->name_len[i]) && buf_put_u32(out, (uint32_t)f->value_len[i]) &&
               buf_append(out, f->headers[i].name, f->name_len[i]) &&
               buf_append(out, f->headers[i].value, f->value_len[i]);
    }
    if (!done) {
        out->len = before;
    }
    return done;
}

struct bytes_left {
    const uint8_t *at;
    size_t left;
};

/* n bytes without a NUL; NULL: not there, or there is one. */
static const char *take_text(struct bytes_left *b, size_t n)
{
    const char *text = (const char *)b->at;
    if (b->left < n || memchr(text, '\0', n)) {
        return NULL;
    }
    b->at += n;
    b->left -= n;
    return text;
}

static bool take_header(struct bytes_left *b, struct parts *p, uint32_t i)
{
    if (b->left < FILTER_HEADER_BYTES) {
        return false;
    }
    p->name_len[i] = get_u32(b->at);
    p->value_len[i] = get_u32(b->at + 4);
    b->at += FILTER_HEADER_BYTES;
    b->left -= FILTER_HEADER_BYTES;
    return (p->names[i] = take_text(b, p->name_len[i])) && (p->values[i] = take_text(b, p->value_len[i]));
}

static bool take_parts(struct bytes_left *b, struct parts *p)
{
    if (b->left < FILTER_HEAD_BYTES) {
        return false;
    }
    uint8_t flags = b->at[0];
    p->header_count = b->at[1];
    p->topic_len = get_u16(b->at + 2);
    p->key_len = get_u32(b->at + 4);
    if (flags & ~(FILTER_TOPIC | FILTER_KEY) || p->header_count > FILTER_HEADERS_MAX ||
        (!(flags & FILTER_TOPIC) && p->topic_len) || p->key_len > (flags & FILTER_KEY ? UINT16_MAX : 0)) {
        return false;
    }
    b->at += FILTER_HEAD_BYTES;
    b->left -= FILTER_HEAD_BYTES;
    const char *topic = take_text(b, p->topic_len), *key = topic ? take_text(b, p->key_len) : NULL;
    if (!key || (flags & FILTER_TOPIC && !topic_pattern_is_valid(topic, p->topic_len))) {
        return false;
    }
    p->topic = flags & FILTER_TOPIC ? topic : NULL;
    p->key = flags & FILTER_KEY ? key : NULL;
    for (uint32_t i = 0; i < p->header_count; i++) {
        if (!take_header(b, p, i)) {
            return false;
        }
    }
    return true;
}

size_t filter_decode(const uint8_t *bytes, size_t len, struct filter **out)
{
    struct parts p = {.topic = NULL};
    struct bytes_left b = {.at = bytes, .left = len < FILTER_BYTES_MAX ? len : FILTER_BYTES_MAX};
    *out = NULL;
    if (!take_parts(&b, &p)) {
        return 0;
    }
    if ((p.topic || p.key || p.header_count) && !(*out = make(&p))) {
        return 0;
    }
    return (size_t)(b.at - bytes);
}
