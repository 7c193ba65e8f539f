/* Private to fronts/websocket/: UTF-8 checked as it comes, in pieces of any length (RFC 3629 section 4). */
#ifndef WEBSOCKET_UTF8_H
#define WEBSOCKET_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct utf8 {            /* zeroed at first */
    uint8_t left;        /* bytes of a code point that are still to come */
    uint8_t least, most; /* between which the next of them lies */
};

bool ws_utf8_take(struct utf8 *u, const uint8_t *bytes, size_t len); /* false: it is none */
static inline bool utf8_is_whole(const struct utf8 *u)
{
    return u->left == 0;
}

#endif
