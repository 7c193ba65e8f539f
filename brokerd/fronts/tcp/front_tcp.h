/*
 * Owns:            the native protocol (docs/PROTOCOL.md): frames in, commands out; completions and deliveries in, frames out.
 * May use:         door (and through it the engine's commands and completions), net, wire, base.
 * Never knows:     sockets, files, what a queue does.
 * Start reading at conn_input (frames.c) for the way in, front_complete and front_deliver (answers.c) for the way out.
 */
#ifndef FRONT_TCP_H
#define FRONT_TCP_H

#include "backup_ops.h"
#include "clients.h"
#include "net.h"

struct front_tcp_options {
    uint32_t max_frame_bytes;   /* of a frame's body, either way */
    uint32_t max_message_bytes; /* told to clients */
    uint32_t max_connections;
    uint32_t max_settle_ranges;  /* in one frame */
    uint32_t max_transact_parts; /* in one TRANSACT */
    uint32_t waiting_leases;     /* of one connection: how much output it may have asked for at once */
    uint32_t heartbeat_ms;       /* for clients that name none; 0: none */
    uint32_t hello_ms;           /* to greet */
    uint32_t frame_ms;           /* to complete a frame */
    uint32_t stall_ms;           /* without taking any of its output */
    uint64_t output_bytes;       /* unsent, over which a connection gets no more messages */
};

/* What the front cannot know of itself. */
struct front_tcp_host {
    /* Fill in everything but `connections`; *epoch: rises with each start. */
    void (*stats)(void *arg, broker_stats *out, uint64_t *epoch);
    void *arg;
    const struct backup_ops *backup_ops; /* NULL: this broker makes no backups */
    void *backup;
};

struct front_tcp;
/* NULL: no memory. Before any connection comes, front_tcp_attach. */
struct front_tcp *front_tcp_new(const struct front_tcp_options *options, struct net *net,
                                const struct front_tcp_host *host);
void front_tcp_attach(struct front_tcp *f, struct clients *clients, struct door *door);
void front_tcp_free(struct front_tcp *f); /* after its connections are closed (net_free) */

extern const struct net_handler front_tcp_handler; /* front: the front */

/* For a shutdown, in this order: GOAWAY to everyone, and no more deliveries; is every request answered and every answer
   sent?; close what is open. */
void front_tcp_goaway(struct front_tcp *f, const char *text);
bool front_tcp_is_idle(const struct front_tcp *f);
void front_tcp_finish(struct front_tcp *f);
uint32_t front_tcp_connections(const struct front_tcp *f);

#endif
