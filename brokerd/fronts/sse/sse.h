/*
 * Owns:            server-sent events (WHATWG HTML 9.2): queues as event streams, by position or as a group's consumer; docs/HTTP.md,
 *                  "Events". And the writer of event streams, which other rooms use too (sse_stream.h).
 * May use:         http, door (clients), forms, net, wire, base.
 * Never knows:     how a connection came to be one; REST.
 * Start reading at the routes in sse.c; one stream is struct stream in stream.c.
 */
#ifndef SSE_H
#define SSE_H

#include "clients.h"
#include "http.h"

struct sse_options {
    uint32_t heartbeat_ms;                /* a comment after this long without an event */
    uint32_t retry_ms;                    /* told to clients: how long to wait before they connect again */
    uint32_t max_queues;                  /* of one stream */
    uint32_t batch_messages, batch_bytes; /* asked for at once */
    uint64_t output_bytes;                /* unsent, above which the log is not read further for this stream */
};

struct sse;
/* epoch: asked for at each event id (rises with each start of the broker). */
struct sse *sse_new(const struct sse_options *options, struct http *http, struct clients *clients,
                    uint64_t (*epoch)(void *arg), void *arg);
void sse_free(struct sse *s);
uint32_t sse_streams(const struct sse *s); /* open now */

#endif
