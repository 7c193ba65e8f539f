/* llhttp's reading of a head, to compare with our own: apart, because its names are those of http.h. Private to fronts/http/. */
#ifndef H1_SECOND_H
#define H1_SECOND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct second_opinion {
    const char *error; /* NULL: it is well formed */
    size_t fields, target_len;
    uint64_t content_length;
    bool has_length, is_chunked;
    uint8_t major, minor;
};
void second_opinion(const char *bytes, size_t len, struct second_opinion *out);

#endif
