/* Chunked bodies (RFC 9112 7.1), decoded as they come into memory that all connections together have so much of. */
#include <stdlib.h>

#include "http_internal.h"

enum state {
    AT_SIZE,      /* hexadecimal digits */
    AT_EXTENSION, /* behind them, to the line's end */
    AT_SIZE_LF,
    AT_DATA,
    AT_DATA_CR,
    AT_DATA_LF,
    AT_TRAILER, /* the first byte of a trailer's line, or the CR of the last, empty one */
    AT_TRAILER_NAME,
    AT_TRAILER_VALUE,
    AT_TRAILER_LF,
    AT_END_LF,
};

struct chunked *chunked_new(struct http *h, const struct head *head, size_t limit)
{
    struct chunked *k = malloc(sizeof(*k) + head->len);
    if (!k)
        return NULL;
    *k = (struct chunked){.limit = limit, .head_len = head->len};
    buf_init(&k->body, limit);
    memcpy(k->head, head->bytes, head->len);
    return k;
}

void chunked_free(struct http *h, struct chunked *k)
{
    if (!k)
        return;
    h->chunked_bytes -= k->charged;
    buf_release(&k->body);
    free(k);
}

#define WRONG(p, ...) (problem_set(p, 400, "malformed_request", __VA_ARGS__), false)

static int hex(uint8_t c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10 : -1;
}

/* The size is known: is there room for that much more? */
static bool size_known(struct http *h, struct chunked *k, struct problem *p)
{
    if (k->left > k->limit - k->body.len) {
        problem_set(p, 413, "body_too_large", "the body is larger than the %zu bytes allowed here", k->limit);
        return false;
    }
    return true;
}

static bool size_byte(struct http *h, struct chunked *k, uint8_t byte, struct problem *p)
{
    int digit = hex(byte);
    if (digit >= 0) {
        if (++k->digits > 15)
            return WRONG(p, "the size of a chunk has too many digits");
        k->left = k->left << 4 | (unsigned)digit;
        return true;
    }
    if (k->digits == 0)
        return WRONG(p, "a chunk does not begin with its size in hexadecimal digits");
    if (byte != '\r' && byte != ';')
        return WRONG(p, "the size of a chunk is not hexadecimal digits alone");
    k->state = byte == '\r' ? AT_SIZE_LF : AT_EXTENSION;
    k->extension = 0;
    return size_known(h, k, p);
}

static bool extension_byte(struct chunked *k, uint8_t byte, struct problem *p)
{
    if (byte == '\r')
        k->state = AT_SIZE_LF;
    else if (!is_value_byte(byte))
        return WRONG(p, "the extension of a chunk has a control character");
    else if (++k->extension > CHUNK_EXTENSION_BYTES)
        return WRONG(p, "the extension of a chunk is longer than %d bytes", CHUNK_EXTENSION_BYTES);
    return true;
}

static bool trailer_byte(struct http *h, struct chunked *k, uint8_t byte, struct problem *p)
{
    if (++k->trailer > h->options.max_head_bytes) {
        problem_set(p, 431, "head_too_large", "the fields behind the body are longer than %u bytes",
                    h->options.max_head_bytes);
        return false;
    }
    switch (k->state) {
    case AT_TRAILER:
        if (byte == '\r')
            k->state = AT_END_LF;
        else if (is_token_byte(byte))
            k->state = AT_TRAILER_NAME;
        else
            return WRONG(p, "a line behind the body is not a field");
        return true;
    case AT_TRAILER_NAME:
        if (byte == ':')
            k->state = AT_TRAILER_VALUE;
        else if (!is_token_byte(byte))
            return WRONG(p, "a line behind the body is not a field");
        return true;
    default:
        if (byte == '\r')
            k->state = AT_TRAILER_LF;
        else if (!is_value_byte(byte))
            return WRONG(p, "a field behind the body has a control character");
        return true;
    }
}

static bool line_feed(struct chunked *k, uint8_t byte, enum state then, struct problem *p)
{
    if (byte != '\n')
        return WRONG(p, "a line of the chunked body has a CR without its LF");
    k->state = then;
    return true;
}

/* One byte of the framing. */
static bool framing_byte(struct http *h, struct chunked *k, uint8_t byte, struct problem *p)
{
    switch ((enum state)k->state) {
    case AT_SIZE: return size_byte(h, k, byte, p);
    case AT_EXTENSION: return extension_byte(k, byte, p);
    case AT_SIZE_LF: return line_feed(k, byte, k->left ? AT_DATA : AT_TRAILER, p);
    case AT_DATA_CR: k->state = AT_DATA_LF; return byte == '\r' ? true : WRONG(p, "a chunk is longer than its size");
    case AT_DATA_LF: k->digits = 0; return line_feed(k, byte, AT_SIZE, p);
    case AT_TRAILER_LF: return line_feed(k, byte, AT_TRAILER, p);
    case AT_TRAILER:
    case AT_TRAILER_NAME:
    case AT_TRAILER_VALUE: return trailer_byte(h, k, byte, p);
    case AT_DATA:
    case AT_END_LF: break; /* not here */
    }
    return false;
}

static bool data_bytes(struct http *h, struct chunked *k, const uint8_t *bytes, size_t n, struct problem *p)
{
    bool appended = buf_append(&k->body, bytes, n);
    h->chunked_bytes += k->body.cap - k->charged;
    k->charged = k->body.cap;
    if (!appended || h->chunked_bytes > h->options.max_chunked_bytes) {
        problem_set(p, 503, "overloaded",
                    "there is no room for a body of unknown length now: send one with Content-Length");
        return false;
    }
    k->left -= n;
    if (k->left == 0)
        k->state = AT_DATA_CR;
    return true;
}

enum chunked_result chunked_feed(struct http *h, struct chunked *k, const uint8_t *bytes, size_t len, size_t *used,
                                 struct problem *p)
{
    size_t n = 0;
    while (n < len) {
        if (k->state == AT_DATA) {
            size_t part = len - n < k->left ? len - n : (size_t)k->left;
            if (!data_bytes(h, k, bytes + n, part, p))
                return CHUNKED_WRONG;
            n += part;
        } else if (k->state == AT_END_LF) {
            *used = n + 1;
            return line_feed(k, bytes[n], AT_END_LF, p) ? CHUNKED_DONE : CHUNKED_WRONG;
        } else if (!framing_byte(h, k, bytes[n++], p)) {
            return CHUNKED_WRONG;
        }
    }
    *used = n;
    return CHUNKED_MORE;
}
