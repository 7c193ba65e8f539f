#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sse_internal.h"

static size_t put_hex(char *out, uint64_t value)
{
    char digits[16];
    size_t n = 0;
    do
        digits[n++] = "0123456789abcdef"[value & 15];
    while (value >>= 4);
    for (size_t i = 0; i < n; i++)
        out[i] = digits[n - 1 - i];
    return n;
}

size_t sse_id_put_epoch(char *out, uint64_t epoch)
{
    return put_hex(out, epoch);
}

size_t sse_id_put_place(char *out, const struct place *p)
{
    size_t n = 0;
    out[n++] = '.';
    n += put_hex(out + n, p->queue_id);
    out[n++] = '-';
    return n + put_hex(out + n, p->seq);
}

/* Up to `most` hex digits, one at least; NULL: there are none, or more. */
static const char *get_hex(const char *p, const char *end, unsigned most, uint64_t *value)
{
    unsigned n = 0;
    for (*value = 0; p < end; p++, n++) {
        unsigned digit;
        if (*p >= '0' && *p <= '9')
            digit = (unsigned)(*p - '0');
        else if (*p >= 'a' && *p <= 'f')
            digit = (unsigned)(*p - 'a') + 10;
        else
            break;
        if (n == most)
            return NULL;
        *value = *value << 4 | digit;
    }
    return n ? p : NULL;
}

static const char *get_place(const char *p, const char *end, struct place *place)
{
    uint64_t queue_id;
    if (p == end || *p != '.' || !(p = get_hex(p + 1, end, 8, &queue_id)) || p == end || *p != '-')
        return NULL;
    place->queue_id = (uint32_t)queue_id;
    return get_hex(p + 1, end, 16, &place->seq);
}

struct event_id *sse_id_parse(const char *text, size_t len, size_t max, bool *no_memory)
{
    const char *end = text + len, *p;
    size_t count = 0;
    *no_memory = false;
    for (p = text; p < end; p++)
        count += *p == '.';
    if (count == 0 || count > max)
        return NULL;
    struct event_id *id = malloc(sizeof(*id) + count * sizeof(id->places[0]));
    if (!id) {
        *no_memory = true;
        return NULL;
    }
    id->count = count;
    p = get_hex(text, end, 16, &id->epoch);
    for (size_t i = 0; p && i < count; i++) {
        p = get_place(p, end, &id->places[i]);
        if (p && id->places[i].seq == UINT64_MAX)
            p = NULL; /* there is none after it */
    }
    if (p != end) {
        free(id);
        return NULL;
    }
    return id;
}
