#include "buf.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#define BUF_FIRST_BYTES 64u

void buf_init(struct buf *b, size_t max)
{
    *b = (struct buf){.max = max};
}

void buf_release(struct buf *b)
{
    free(b->bytes);
    *b = (struct buf){.max = b->max};
}

void buf_clear(struct buf *b)
{
    b->len = 0;
}

uint8_t *buf_reserve(struct buf *b, size_t n)
{
    if (n <= b->cap - b->len && b->bytes)
        return b->bytes + b->len;
    size_t need;
    if (__builtin_add_overflow(b->len, n, &need) || need > SIZE_MAX / 2)
        return NULL;
    if (b->max && need > b->max)
        return NULL;
    size_t cap = b->cap < BUF_FIRST_BYTES ? BUF_FIRST_BYTES : b->cap;
    while (cap < need)
        cap *= 2;
    if (b->max && cap > b->max)
        cap = b->max;
    uint8_t *bytes = realloc(b->bytes, cap);
    if (!bytes)
        return NULL;
    b->bytes = bytes;
    b->cap = cap;
    return bytes + b->len;
}

bool buf_append(struct buf *b, const void *bytes, size_t n)
{
    if (n == 0)
        return true;
    uint8_t *to = buf_reserve(b, n);
    if (!to)
        return false;
    memcpy(to, bytes, n);
    b->len += n;
    return true;
}

void buf_drop_front(struct buf *b, size_t n)
{
    if (n >= b->len) {
        b->len = 0;
        return;
    }
    if (n == 0)
        return;
    memmove(b->bytes, b->bytes + n, b->len - n);
    b->len -= n;
}

bool buf_put_u8(struct buf *b, uint8_t v)
{
    return buf_append(b, &v, sizeof(v));
}

bool buf_put_u16(struct buf *b, uint16_t v)
{
    v = htole16(v);
    return buf_append(b, &v, sizeof(v));
}

bool buf_put_u32(struct buf *b, uint32_t v)
{
    v = htole32(v);
    return buf_append(b, &v, sizeof(v));
}

bool buf_put_u64(struct buf *b, uint64_t v)
{
    v = htole64(v);
    return buf_append(b, &v, sizeof(v));
}
