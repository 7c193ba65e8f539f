/*
 * The way in: bytes to messages. wslay takes heads apart and unmasks; what may follow what, sizes and text are judged here.
 *
 * A reader of wslay's has a buffer of 4 KiB. It is given no byte behind the frame at hand, so between two frames it holds
 * nothing, and a connection has one only in the midst of a frame.
 */
#include "frames.h"

#include <stdlib.h>
#include <string.h>
#include <wslay/wslay.h>

enum {
    SPARE_READERS = 16,
    KEEP_BYTES = 64 << 10,  /* of buffers between two messages */
    UNCOUNTED_BYTES = 4096, /* of an incomplete message, free of the common limit */
};

struct frame_reader {
    wslay_frame_context_ptr context;
    struct frame_reader *next; /* spare */
    const uint8_t *bytes;      /* not given to wslay yet */
    size_t len;
    uint64_t given; /* of this frame's bytes */
    uint64_t left;  /* of its payload, once it has begun */
    size_t control_len;
    uint8_t second; /* of this frame's bytes: says how long its head is */
    uint8_t opcode;
    bool begun, fin;
    uint8_t control[CONTROL_MAX];
};

/* ---- readers -------------------------------------------------------------------------------------------------------- */

/* How many bytes may be given now without reaching beyond this frame. The payload's length is known with its first byte. */
static uint64_t allowance(const struct frame_reader *r)
{
    if (r->given < 2)
        return 2 - r->given;
    unsigned length = r->second & 0x7f;
    uint64_t head = 2 + (length == 126 ? 2u : length == 127 ? 8u : 0u) + (r->second & 0x80 ? 4u : 0u);
    if (r->given < head)
        return head - r->given;
    return r->begun ? r->left : 1;
}

static ssize_t give(uint8_t *to, size_t room, int flags, void *reader)
{
    struct frame_reader *r = reader;
    uint64_t most = allowance(r);
    size_t n = room < r->len ? room : r->len;
    if (n > most)
        n = (size_t)most;
    if (n == 0)
        return -1;
    if (r->given < 2 && r->given + n == 2)
        r->second = r->bytes[n - 1];
    memcpy(to, r->bytes, n);
    r->bytes += n;
    r->len -= n;
    r->given += n;
    return (ssize_t)n;
}

static void reader_free(struct frame_reader *r)
{
    wslay_frame_context_free(r->context);
    free(r);
}

static struct frame_reader *reader_get(struct frames *f)
{
    static const struct wslay_frame_callbacks callbacks = {.recv_callback = give};
    struct frame_reader *r = f->spare;
    if (r) {
        f->spare = r->next;
        f->spare_count--;
        return r;
    }
    r = calloc(1, sizeof(*r));
    if (r && wslay_frame_context_init(&r->context, &callbacks, r) == 0)
        return r;
    free(r);
    return NULL;
}

/* Between two frames: it holds nothing. */
static void reader_put(struct frames *f, struct frame_reader *r)
{
    if (f->spare_count == SPARE_READERS) {
        reader_free(r);
        return;
    }
    r->next = f->spare;
    f->spare = r;
    f->spare_count++;
}

bool frames_init(struct frames *f, size_t max_message_bytes, size_t max_partial_bytes)
{
    *f = (struct frames){.max_message_bytes = max_message_bytes, .max_partial_bytes = max_partial_bytes};
    buf_init(&f->message, 0);
    buf_init(&f->inflated, max_message_bytes);
    f->deflater = deflater_new();
    return f->deflater != NULL;
}

void frames_release(struct frames *f)
{
    for (struct frame_reader *r; (r = f->spare);) {
        f->spare = r->next;
        reader_free(r);
    }
    buf_release(&f->message);
    buf_release(&f->inflated);
    deflater_free(f->deflater);
    *f = (struct frames){0};
}

void frame_state_release(struct frames *f, struct frame_state *s)
{
    if (s->reader)
        reader_free(s->reader);
    buf_release(&s->partial);
    f->partial_bytes -= s->charged;
    *s = (struct frame_state){.deflate = s->deflate};
}

/* ---- judging -------------------------------------------------------------------------------------------------------- */

static bool broken(struct frame_in *in, uint16_t code, const char *why)
{
    *in = (struct frame_in){.event = EVENT_BROKEN, .code = code, .why = why};
    return false;
}

bool close_code_is_valid(uint16_t code)
{
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) || (code >= 3000 && code <= 4999);
}

/* Compressed bytes can be a little longer than what is in them. */
static uint64_t most_bytes(const struct frames *f, const struct frame_state *s)
{
    return s->compressed ? f->max_message_bytes + f->max_message_bytes / 1024 + 64 : f->max_message_bytes;
}

static bool begin_message(struct frame_state *s, const struct wslay_frame_iocb *io, struct frame_in *in)
{
    if (io->opcode == OPCODE_CONTINUATION && !s->opcode)
        return broken(in, CLOSE_PROTOCOL, "a continuation frame without a message that it continues");
    if (io->opcode == OPCODE_CONTINUATION)
        return io->rsv == 0 || broken(in, CLOSE_PROTOCOL, "a reserved bit is set in a continuation frame");
    if (s->opcode)
        return broken(in, CLOSE_PROTOCOL, "a new message begins before the last one's final frame");
    if (io->rsv & ~(s->deflate ? WSLAY_RSV1_BIT : 0u))
        return broken(in, CLOSE_PROTOCOL, "a reserved bit is set that no extension has given a meaning to");
    s->opcode = io->opcode;
    s->compressed = io->rsv != 0;
    s->utf8 = (struct utf8){0};
    return true;
}

/* The head of a frame is known, and nothing of it is kept yet. */
static bool begin_frame(struct frames *f, struct frame_state *s, const struct wslay_frame_iocb *io, struct frame_in *in)
{
    struct frame_reader *r = s->reader;
    r->begun = true;
    r->left = io->payload_length;
    r->opcode = io->opcode;
    r->fin = io->fin;
    r->control_len = 0;
    if (!io->mask)
        return broken(in, CLOSE_PROTOCOL, "a frame is not masked; a client masks all of them");
    switch (io->opcode) {
    case OPCODE_CLOSE:
    case OPCODE_PING:
    case OPCODE_PONG: return io->rsv == 0 || broken(in, CLOSE_PROTOCOL, "a reserved bit is set in a control frame");
    case OPCODE_CONTINUATION:
    case OPCODE_TEXT:
    case OPCODE_BINARY: break;
    default: return broken(in, CLOSE_PROTOCOL, "a frame of a reserved opcode");
    }
    if (!begin_message(s, io, in))
        return false;
    uint64_t most = most_bytes(f, s);
    if (io->payload_length > most - s->partial.len)
        return broken(in, CLOSE_TOO_BIG, "a message is larger than websocket.max_message allows");
    return true;
}

/* ---- payloads ------------------------------------------------------------------------------------------------------- */

static bool take_piece(struct frames *f, struct frame_state *s, const struct wslay_frame_iocb *io, struct frame_in *in)
{
    struct frame_reader *r = s->reader;
    if (io->opcode & OPCODE_CLOSE) { /* a control frame; wslay has seen to its length */
        memcpy(r->control + r->control_len, io->data, io->data_length);
        r->control_len += io->data_length;
        return true;
    }
    if (s->opcode == OPCODE_TEXT && !s->compressed && !ws_utf8_take(&s->utf8, io->data, io->data_length))
        return broken(in, CLOSE_NOT_TEXT, "a text message is not UTF-8");
    if (s->partial.cap == 0) { /* a message begins: in the front's buffer, which it gives back when it is whole */
        s->partial = f->message;
        f->message = (struct buf){0};
        buf_clear(&s->partial);
    }
    if (!buf_append(&s->partial, io->data, io->data_length))
        return broken(in, CLOSE_TRY_LATER, "there is no memory for a message; try again later");
    return true;
}

static void end_control(struct frames *f, const struct frame_reader *r, struct frame_in *in)
{
    memcpy(f->control, r->control, r->control_len);
    *in = (struct frame_in){
        .event = r->opcode == OPCODE_PING ? EVENT_PING : EVENT_PONG, .bytes = f->control, .len = r->control_len};
    if (r->opcode != OPCODE_CLOSE)
        return;
    struct utf8 utf8 = {0};
    uint16_t code = r->control_len < 2 ? CLOSE_NO_STATUS : (uint16_t)(f->control[0] << 8 | f->control[1]);
    size_t reason = r->control_len < 2 ? 0 : r->control_len - 2;
    if (r->control_len == 1)
        broken(in, CLOSE_PROTOCOL, "a close frame with half a code");
    else if (r->control_len >= 2 && !close_code_is_valid(code))
        broken(in, CLOSE_PROTOCOL, "a close frame with a code that must not be sent");
    else if (!ws_utf8_take(&utf8, f->control + 2, reason) || !utf8_is_whole(&utf8))
        broken(in, CLOSE_NOT_TEXT, "a close frame's reason is not UTF-8");
    else
        *in = (struct frame_in){.event = EVENT_CLOSE, .bytes = f->control + 2, .len = reason, .code = code};
}

static bool inflate_message(struct frames *f, struct frame_in *in)
{
    switch (deflater_inflate(f->deflater, &f->message, &f->inflated, f->max_message_bytes)) {
    case INFLATED: break;
    case INFLATED_TOO_BIG:
        return broken(in, CLOSE_TOO_BIG, "a message is larger, inflated, than websocket.max_message allows");
    case INFLATED_CORRUPT: return broken(in, CLOSE_NOT_TEXT, "a compressed message is damaged");
    case INFLATED_NO_MEMORY: return broken(in, CLOSE_TRY_LATER, "there is no memory for a message; try again later");
    }
    in->bytes = f->inflated.bytes;
    in->len = f->inflated.len;
    return true;
}

/* The final frame of a message was whole. */
static void end_message(struct frames *f, struct frame_state *s, struct frame_in *in)
{
    bool compressed = s->compressed, text = s->opcode == OPCODE_TEXT;
    *in = (struct frame_in){.event = EVENT_MESSAGE, .opcode = s->opcode};
    s->opcode = 0;
    if (s->partial.cap) {
        buf_release(&f->message);
        f->message = s->partial;
        s->partial = (struct buf){0};
        f->partial_bytes -= s->charged;
        s->charged = 0;
    } else {
        buf_clear(&f->message);
    }
    in->bytes = f->message.bytes;
    in->len = f->message.len;
    if (compressed) {
        if (!inflate_message(f, in))
            return;
        s->utf8 = (struct utf8){0};
        if (text && !ws_utf8_take(&s->utf8, in->bytes, in->len)) {
            broken(in, CLOSE_NOT_TEXT, "a text message is not UTF-8");
            return;
        }
    }
    if (text && !utf8_is_whole(&s->utf8))
        broken(in, CLOSE_NOT_TEXT, "a text message ends within a code point of UTF-8");
}

/* What is incomplete stays with the connection, in memory of about its size, and is counted. */
static void keep_partial(struct frames *f, struct frame_state *s, struct frame_in *in)
{
    struct buf *p = &s->partial;
    if (p->cap > 2 * p->len + UNCOUNTED_BYTES) { /* the front's own buffer */
        struct buf own = {0};
        if (!buf_append(&own, p->bytes, p->len)) {
            broken(in, CLOSE_TRY_LATER, "there is no memory for a message; try again later");
            return;
        }
        if (f->message.cap)
            buf_release(p);
        else
            f->message = *p;
        *p = own;
    }
    f->partial_bytes -= s->charged;
    s->charged = p->cap > UNCOUNTED_BYTES ? p->cap : 0;
    f->partial_bytes += s->charged;
    if (s->charged && f->partial_bytes > f->max_partial_bytes)
        broken(in, CLOSE_TRY_LATER, "too much of incomplete messages is under way; try again later");
}

/* ---- frames --------------------------------------------------------------------------------------------------------- */

/* One frame, as far as there are bytes. true: it is whole; false: more is needed, or it is broken. */
static bool take_frame(struct frames *f, struct frame_state *s, struct frame_in *in)
{
    struct frame_reader *r = s->reader;
    struct wslay_frame_iocb io;
    do {
        ssize_t n = wslay_frame_recv(r->context, &io);
        if (n == WSLAY_ERR_WANT_READ)
            return false;
        if (n < 0)
            return broken(
                in, CLOSE_PROTOCOL,
                "a control frame is fragmented or longer than 125 bytes, or a length is not in its shortest form");
        if (!r->begun && !begin_frame(f, s, &io, in))
            return false;
        r->left -= (uint64_t)n;
        if (!take_piece(f, s, &io, in))
            return false;
    } while (r->left > 0);
    return true;
}

static void trim(struct buf *b)
{
    if (b->cap > KEEP_BYTES)
        buf_release(b);
}

size_t frames_take(struct frames *f, struct frame_state *s, const uint8_t *bytes, size_t len, struct frame_in *in)
{
    size_t rest = len;
    trim(&f->message);
    trim(&f->inflated);
    *in = (struct frame_in){.event = EVENT_MORE};
    while (rest > 0 && in->event == EVENT_MORE) {
        if (!s->reader && !(s->reader = reader_get(f))) {
            broken(in, CLOSE_TRY_LATER, "there is no memory for a frame; try again later");
            break;
        }
        struct frame_reader *r = s->reader;
        r->bytes = bytes + (len - rest);
        r->len = rest;
        bool whole = take_frame(f, s, in);
        rest = r->len;
        if (!whole)
            break;
        if (r->opcode & OPCODE_CLOSE)
            end_control(f, r, in);
        else if (r->fin)
            end_message(f, s, in);
        s->reader = NULL;
        r->begun = false;
        r->given = 0;
        reader_put(f, r);
    }
    if (in->event != EVENT_BROKEN && s->partial.cap)
        keep_partial(f, s, in);
    return len - rest;
}

/* ---- the way out ---------------------------------------------------------------------------------------------------- */

size_t ws_head_put(uint8_t out[FRAME_HEAD_MAX], uint8_t first, size_t len)
{
    out[0] = 0x80 | first;
    if (len < 126) {
        out[1] = (uint8_t)len;
        return 2;
    }
    unsigned bytes = len <= UINT16_MAX ? 2 : 8;
    out[1] = bytes == 2 ? 126 : 127;
    for (unsigned i = 0; i < bytes; i++)
        out[2 + i] = (uint8_t)((uint64_t)len >> (8 * (bytes - 1 - i)));
    return 2 + bytes;
}
