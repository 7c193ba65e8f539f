/*
 * Owns:            who is connected, whatever the way: one table, and the engine's sink, so that a completion finds whom it is for.
 * May use:         the door (same room), engine (commands and completions).
 * Never knows:     bytes of any protocol, sockets.
 * Start reading at struct client.
 *
 * A client is a connection, or a single request of one: whatever waits for answers of its own. Its commands go through
 * door_submit, with its session. Numbers are never reused, so an answer that comes too late finds nobody.
 */
#ifndef CLIENTS_H
#define CLIENTS_H

#include "door.h"

struct clients;
struct client;

struct client_ops {
    /* As in struct sink_ops, but told to the client that it is for. The door's counts are kept already. */
    void (*complete)(struct client *c, const struct completion *done);
    bool (*deliver)(struct client *c, const struct delivery *d); /* NULL: it never subscribes */
    void (*ended)(struct client *c, struct token token, broker_error error, const char *text); /* NULL: the same */
};

struct client {      /* in its owner's memory */
    uint64_t number; /* 0: not open */
    const struct client_ops *ops;
    struct door_session session;
    uint32_t outstanding; /* commands that have not been answered */
    bool lingers;         /* has had a subscription, or something that waits: the engine must hear of its end */
};

/* NULL: no memory. The table is the engine's sink (clients_sink_ops), and needs the door once that is there. */
struct clients *clients_new(void);
void clients_attach(struct clients *t, struct door *door);
void clients_free(struct clients *t);
extern const struct sink_ops clients_sink_ops; /* sink: the table */

/* false: no memory, or 2^24 clients. `identity` NULL: anyone. */
bool client_open(struct clients *t, struct client *c, const struct client_ops *ops, const struct identity *identity);
/* Subscriptions end and their leases return; what waits is dropped; nothing is told to it any more. Not open: nothing. */
void client_close(struct clients *t, struct client *c, struct now now);
/* token.conn is filled in. Answers may come during the call. */
void client_submit(struct clients *t, struct client *c, struct now now, struct command *command);
/* Whose number that is; NULL: closed. */
struct client *client_find(const struct clients *t, uint64_t number);
uint32_t clients_count(const struct clients *t);

#endif
