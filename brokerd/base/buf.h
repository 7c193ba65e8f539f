/* A growing byte buffer with a ceiling. */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
    uint8_t *bytes; /* owned */
    size_t len, cap;
    size_t max; /* ceiling of cap; 0: none */
};

void buf_init(struct buf *b, size_t max);
void buf_release(struct buf *b); /* frees the bytes, not the struct; leaves it empty and usable */
void buf_clear(struct buf *b);   /* len = 0, memory kept */
/* buf_reserve: room for n more bytes; NULL if that would pass max or memory is out (the buffer is as before). */
uint8_t *buf_reserve(struct buf *b, size_t n);
bool buf_append(struct buf *b, const void *bytes, size_t n); /* false as in buf_reserve */
void buf_drop_front(struct buf *b, size_t n);                /* forget the first n bytes (moves the rest) */

bool buf_put_u8(struct buf *b, uint8_t v);
bool buf_put_u16(struct buf *b, uint16_t v);
bool buf_put_u32(struct buf *b, uint32_t v);
bool buf_put_u64(struct buf *b, uint64_t v);

#endif
