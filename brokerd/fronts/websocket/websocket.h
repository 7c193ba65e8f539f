/*
 * Owns:            WebSocket (RFC 6455, 7692): upgrade, frames, and the JSON and msgpack subprotocols of docs/WEBSOCKET.md.
 * May use:         http, door (clients), control, forms, net, wire, base, wslay, zlib, tls (SHA-1, base64).
 * Never knows:     REST, event streams.
 * Start reading at the route in websocket.c; then frames.c (bytes to messages) and session.c (messages to commands).
 */
#ifndef WEBSOCKET_H
#define WEBSOCKET_H

#include "clients.h"
#include "http.h"

struct websocket_options {
    uint32_t max_message_bytes; /* of one message from a client, inflated */
    uint32_t max_connections;   /* 0: no limit of its own */
    uint32_t ping_ms;           /* a ping after this long without hearing anything; closed after another of it */
    uint32_t close_ms;          /* for the closing handshake */
    uint64_t output_bytes;      /* unsent, above which nothing more is handed to it */
    uint64_t partial_bytes;     /* of incomplete messages, all connections together; 0: four messages, or 16 MiB */
    uint32_t max_subscriptions; /* of one connection, by position (those of groups the door counts); 0: 1000 */
    bool deflate;               /* permessage-deflate for clients that offer it (without context takeover) */
};

struct websocket;
struct websocket *websocket_new(const struct websocket_options *options, struct http *http, struct clients *clients);
void websocket_free(struct websocket *w);
uint32_t websocket_connections(const struct websocket *w); /* open now */

#endif
