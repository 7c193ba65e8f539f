/* Private to fronts/websocket/: bytes to messages (RFC 6455 section 5, RFC 7692), for all connections of a front. No I/O. */
#ifndef WEBSOCKET_FRAMES_H
#define WEBSOCKET_FRAMES_H

#include "buf.h"
#include "deflate.h"
#include "utf8.h"

enum frame_opcode {
    OPCODE_CONTINUATION = 0x0,
    OPCODE_TEXT = 0x1,
    OPCODE_BINARY = 0x2,
    OPCODE_CLOSE = 0x8,
    OPCODE_PING = 0x9,
    OPCODE_PONG = 0xa,
};

enum close_code {
    CLOSE_NORMAL = 1000,
    CLOSE_GOING_AWAY = 1001,
    CLOSE_PROTOCOL = 1002,
    CLOSE_UNSUPPORTED = 1003,
    CLOSE_NO_STATUS = 1005, /* never on the wire: a close frame without one */
    CLOSE_NOT_TEXT = 1007,
    CLOSE_POLICY = 1008,
    CLOSE_TOO_BIG = 1009,
    CLOSE_INTERNAL = 1011,
    CLOSE_TRY_LATER = 1013,
};

enum { FRAME_HEAD_MAX = 10, CONTROL_MAX = 125 };

struct frame_reader;

struct frames {                 /* of the front */
    size_t max_message_bytes;   /* inflated */
    size_t max_partial_bytes;   /* of incomplete messages, all connections together */
    size_t partial_bytes;       /* now */
    struct frame_reader *spare; /* at no frame */
    unsigned spare_count;
    struct buf message;  /* the one that was last taken */
    struct buf inflated; /* the same, if it was compressed */
    uint8_t control[CONTROL_MAX];
    struct deflater *deflater;
};

struct frame_state {             /* of a connection, zeroed at first */
    struct frame_reader *reader; /* in the midst of a frame; NULL: between two */
    struct buf partial;          /* of an incomplete message */
    size_t charged;              /* of it, in frames.partial_bytes */
    struct utf8 utf8;
    uint8_t opcode;  /* of the incomplete message; 0: none has begun */
    bool compressed; /* it is */
    bool deflate;    /* permessage-deflate was agreed upon */
};

enum frame_event { EVENT_MORE, EVENT_MESSAGE, EVENT_PING, EVENT_PONG, EVENT_CLOSE, EVENT_BROKEN };

struct frame_in {
    enum frame_event event;
    uint8_t opcode; /* of a message: text (which is UTF-8) or binary */
    uint8_t *bytes; /* of a message, ping, pong, or a close's reason (UTF-8): until the next is taken */
    size_t len;
    uint16_t code;   /* of a close: CLOSE_NO_STATUS if it names none; broken: what to close with */
    const char *why; /* broken: what is wrong */
};

bool frames_init(struct frames *f, size_t max_message_bytes, size_t max_partial_bytes); /* false: no memory */
void frames_release(struct frames *f);
void frame_state_release(struct frames *f, struct frame_state *s);
/* Take bytes up to the end of one event and no further; EVENT_MORE: all of them, and it is not there yet. Returns how many.
   After EVENT_BROKEN the connection is over. */
size_t frames_take(struct frames *f, struct frame_state *s, const uint8_t *bytes, size_t len, struct frame_in *in);

/* The head of an unmasked, whole frame of `len` bytes; `first` is its first byte but for FIN. Returns the head's length. */
size_t ws_head_put(uint8_t out[FRAME_HEAD_MAX], uint8_t first, size_t len);
enum { FRAME_COMPRESSED = 0x40 }; /* RSV1 */
/* May a close frame carry it? (RFC 6455 7.4, and what IANA added) */
bool close_code_is_valid(uint16_t code);

#endif
