/* What the fuzz targets share: an input taken apart from the front, and a check that ends the program. */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);
int LLVMFuzzerInitialize(int *argc, char ***argv);

/* A promise broken: not an assert, which an optimised build leaves out. */
#define CHECK(promise)                                                                                                 \
    do {                                                                                                               \
        if (!(promise)) {                                                                                              \
            fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #promise);                                      \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

struct input {
    const uint8_t *bytes;
    size_t len;
};

/* n bytes from the front, little-endian; missing ones are zero. */
static inline uint64_t input_number(struct input *in, size_t n)
{
    uint64_t v = 0;
    for (size_t i = 0; i < n && in->len > 0; i++) {
        v |= (uint64_t)*in->bytes << (8 * i);
        in->bytes++;
        in->len--;
    }
    return v;
}

/* Up to n bytes from the front, in memory of exactly their size, so that ASan sees a read past the end. free() it. */
static inline uint8_t *input_copy(struct input *in, size_t n, size_t *len)
{
    *len = n < in->len ? n : in->len;
    uint8_t *copy = malloc(*len ? *len : 1);
    if (!copy)
        abort();
    memcpy(copy, in->bytes, *len);
    in->bytes += *len;
    in->len -= *len;
    return copy;
}

#endif
