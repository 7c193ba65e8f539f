/*
 * Owns:            the REST interface (docs/HTTP.md): requests of HTTP to commands, completions to responses. Polling and long
 *                  polling are its cursor reads and leases with wait=.
 * May use:         http, door (clients), control, forms, wire, base.
 * Never knows:     connections, framing, event streams.
 * Start reading at the routes: messages.c (publish), consume.c (lease, settle, read), admin.c (everything else).
 */
#ifndef REST_H
#define REST_H

#include "backup_ops.h"
#include "clients.h"
#include "http.h"

struct rest_options {
    uint32_t max_wait_ms;        /* of wait=; more is cut to this */
    uint32_t max_message_bytes;  /* of one message */
    uint32_t max_batch_messages; /* in one publish or settle */
    uint32_t max_answer_bytes;   /* of messages in one answer; what a lease or read may ask for */
};

struct rest_host {
    void (*stats)(void *arg, broker_stats *out, uint64_t *epoch); /* as front_tcp_host's */
    void *arg;
    const struct backup_ops *backup_ops; /* NULL: no backups */
    void *backup;
};

struct rest;
struct rest *rest_new(const struct rest_options *options, struct http *http, struct clients *clients,
                      const struct rest_host *host); /* NULL: no memory */
void rest_free(struct rest *r);                      /* after net_free */
/* The broker is about to stop: what waits for messages is refused with SHUTTING_DOWN, soon, and not waited for. */
void rest_goaway(struct rest *r);

#endif
