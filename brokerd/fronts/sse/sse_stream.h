/*
 * Owns:            the writer of event streams (WHATWG HTML 9.2), of whatever events: their beginning, heartbeats and end. Part of
 *                  the room sse.
 * May use:         http, net, forms, base.
 * Never knows:     queues, what the events say.
 * Start reading at sse_stream_begin: a stream begins on an exchange, whose connection it takes over. Its owner writes whole
 * events and does not write while it is full; the hub sends heartbeats to those that are silent, and says goodbye before a
 * shutdown.
 */
#ifndef SSE_STREAM_H
#define SSE_STREAM_H

#include <sys/queue.h>

#include "http.h"

struct sse_hub; /* streams of one kind */
struct sse_stream;

struct sse_hub_options {
    uint32_t heartbeat_ms; /* a comment after this long without output */
    uint32_t retry_ms;     /* told to clients: how long to wait before they connect again */
    uint64_t output_bytes; /* unsent, above which a stream is full */
};
struct sse_hub *sse_hub_new(const struct sse_hub_options *options, struct http *http); /* NULL: no memory */
void sse_hub_free(struct sse_hub *h);                                                  /* after net_free */
struct sse_hub_stats {
    uint32_t streams; /* open now */
    uint64_t stalled; /* cut since start, because they took nothing of their output */
};
void sse_hub_get_stats(const struct sse_hub *h, struct sse_hub_stats *out);

struct sse_stream_ops {
    /* It was full and is not any more. NULL: not wanted. */
    void (*drained)(struct sse_stream *s);
    /* Always, as the last: the client is gone, or the stream was finished and everything sent. */
    void (*closed)(struct sse_stream *s);
    /* Nothing more is to be written: it was finished, or the broker is about to stop. Once. NULL: not wanted. */
    void (*ended)(struct sse_stream *s);
};

struct sse_stream { /* in its owner's memory */
    struct sse_hub *hub;
    struct net_conn *conn;
    const struct sse_stream_ops *ops;
    TAILQ_ENTRY(sse_stream) by_silence; /* the hub's: the one that has been silent for longest is the first */
    uint64_t written_ms;
    bool is_over; /* it has said its last: what is written is dropped */
};

/*
 * The response's head (200, not to be cached, buffered or changed on the way), `comment` and retry. x ends with this call.
 * false: the connection is closing, the stream has not begun and nothing will be called.
 */
bool sse_stream_begin(struct sse_stream *s, struct sse_hub *h, const struct sse_stream_ops *ops,
                      struct http_exchange *x, const char *comment);
/* One event. name NULL: "message"; id NULL: none; none of them with control characters. `data` is one line. */
void sse_stream_event(struct sse_stream *s, const char *name, const char *id, const void *data, size_t len);
/* Whole blocks of lines, each with its blank line, ready to go. Lent: they stay as they are while net_turn_number does. */
void sse_stream_write(struct sse_stream *s, const void *bytes, size_t n);
void sse_stream_lend(struct sse_stream *s, const void *bytes, size_t n);
/* Over its output limit: do not write more until ops->drained, which is called when it is over. */
bool sse_stream_is_full(struct sse_stream *s);
/* Send what is written, then close; `ended` is called at once, `closed` comes later. */
void sse_stream_finish(struct sse_stream *s);
/* Event "end" with {"reason": reason, "text": text}: clients see why. `extra` (or NULL): further members of the object, as
   JSON text that begins with a comma. */
void sse_stream_say_end(struct sse_stream *s, const char *reason, const char *text, const char *extra);

#endif
