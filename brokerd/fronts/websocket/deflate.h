/* Private to fronts/websocket/: permessage-deflate (RFC 7692) without context takeover, so that one pair of zlib's states serves
   all connections. They are made when they are first needed. */
#ifndef WEBSOCKET_DEFLATE_H
#define WEBSOCKET_DEFLATE_H

#include "buf.h"

struct deflater;
struct deflater *deflater_new(void); /* NULL: no memory */
void deflater_free(struct deflater *d);

enum inflated { INFLATED, INFLATED_TOO_BIG, INFLATED_CORRUPT, INFLATED_NO_MEMORY };
/* The message that `in` holds, into `out`, which never grows over `max`. `in` gets four bytes appended. */
enum inflated deflater_inflate(struct deflater *d, struct buf *in, struct buf *out, size_t max);
/* Appended to `out`. false: it does not get smaller, or there is no memory: send it as it is. */
bool deflater_deflate(struct deflater *d, const void *bytes, size_t len, struct buf *out);

#endif
