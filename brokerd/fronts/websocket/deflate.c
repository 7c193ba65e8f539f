#include "deflate.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum {
    WINDOW_BITS = -15, /* raw deflate, the largest window: it reads what a smaller one wrote */
    MEMORY_LEVEL = 8,
    STEP_BYTES = 16 << 10, /* by which the output grows at least */
};

struct deflater {
    z_stream in, out;
    bool in_ready, out_ready;
};

struct deflater *deflater_new(void)
{
    return calloc(1, sizeof(struct deflater));
}

void deflater_free(struct deflater *d)
{
    if (!d)
        return;
    if (d->in_ready)
        inflateEnd(&d->in);
    if (d->out_ready)
        deflateEnd(&d->out);
    free(d);
}

/* Room behind what is there, up to `max` in all. 0: none. */
static size_t make_room(struct buf *out, size_t max)
{
    if (out->cap > out->len)
        return out->cap - out->len < max - out->len ? out->cap - out->len : max - out->len;
    size_t want = out->len < STEP_BYTES ? STEP_BYTES : out->len;
    if (want > max - out->len)
        want = max - out->len;
    return want > 0 && buf_reserve(out, want) ? want : 0;
}

/* One call of inflate. `more`: it has to be called again; `whole`: a block has just ended. */
static enum inflated inflate_step(struct deflater *d, struct buf *out, size_t max, bool *more, bool *whole)
{
    uint8_t beyond;
    size_t room = out->len < max ? make_room(out, max) : 0;
    bool full = out->len == max;
    if (room == 0 && !full)
        return INFLATED_NO_MEMORY;
    /* At the limit there is room for one byte more, which must not come. */
    d->in.next_out = full ? &beyond : out->bytes + out->len;
    d->in.avail_out = full ? 1 : room > UINT_MAX ? UINT_MAX : (uInt)room;
    uInt before = d->in.avail_out;
    int status = inflate(&d->in, Z_SYNC_FLUSH);
    uInt got = before - d->in.avail_out;
    if (full && got > 0)
        return INFLATED_TOO_BIG;
    out->len += got;
    *more = d->in.avail_in > 0 || d->in.avail_out == 0;
    if (status != Z_BUF_ERROR)
        *whole = d->in.data_type & 128;
    if (status == Z_STREAM_END) { /* a final block; what follows begins anew (RFC 7692 7.2.3.4) */
        *more = d->in.avail_in > 0;
        *whole = true;
        return inflateReset(&d->in) == Z_OK ? INFLATED : INFLATED_CORRUPT;
    }
    if (status == Z_BUF_ERROR) { /* no progress: there was no more in it */
        *more = false;
        return d->in.avail_in == 0 ? INFLATED : INFLATED_CORRUPT;
    }
    return status == Z_OK ? INFLATED : status == Z_MEM_ERROR ? INFLATED_NO_MEMORY : INFLATED_CORRUPT;
}

enum inflated deflater_inflate(struct deflater *d, struct buf *in, struct buf *out, size_t max)
{
    static const uint8_t tail[] = {0x00, 0x00, 0xff, 0xff};
    enum inflated result = INFLATED;
    bool more = true, whole = false;
    if (!d->in_ready && inflateInit2(&d->in, WINDOW_BITS) != Z_OK)
        return INFLATED_NO_MEMORY;
    d->in_ready = true;
    inflateReset(&d->in);
    buf_clear(out);
    if (!buf_append(in, tail, sizeof(tail)) || in->len > UINT_MAX)
        return INFLATED_NO_MEMORY;
    d->in.next_in = in->bytes;
    d->in.avail_in = (uInt)in->len;
    while (more && result == INFLATED)
        result = inflate_step(d, out, max, &more, &whole);
    /* It ends where a block ends, or it was cut short. */
    return result == INFLATED && !whole ? INFLATED_CORRUPT : result;
}

bool deflater_deflate(struct deflater *d, const void *bytes, size_t len, struct buf *out)
{
    enum { TAIL = 4 }; /* of a flush: it is left out on the wire */
    if (!d->out_ready &&
        deflateInit2(&d->out, Z_BEST_SPEED, Z_DEFLATED, WINDOW_BITS, MEMORY_LEVEL, Z_DEFAULT_STRATEGY) != Z_OK)
        return false;
    d->out_ready = true;
    uint8_t *to = buf_reserve(out, len + TAIL);
    if (len <= TAIL || len > UINT_MAX / 2 || !to || deflateReset(&d->out) != Z_OK)
        return false;
    d->out.next_in = (Bytef *)(uintptr_t)bytes;
    d->out.avail_in = (uInt)len;
    d->out.next_out = to;
    d->out.avail_out = (uInt)(len + TAIL); /* no more: then it would be no gain */
    if (deflate(&d->out, Z_SYNC_FLUSH) != Z_OK || d->out.avail_in > 0 || d->out.avail_out <= TAIL)
        return false;
    out->len += len - d->out.avail_out;
    return true;
}
