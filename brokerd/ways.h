/*
 * Owns:            the ways in, all of them together: made from the configuration, listened for, told of the end.
 * May use:         every front, net, door, store (backups), conf.
 * Never knows:     the engine.
 * Start reading at ways_new: one line a way.
 */
#ifndef WAYS_H
#define WAYS_H

#include "clients.h"
#include "conf.h"
#include "metrics.h"
#include "net.h"
#include "store.h"

struct ways_host {
    struct net *net;
    struct clients *clients;
    struct store *store;
    /* What the daemon knows of itself; `connections` is filled in here. */
    void (*now)(void *arg, struct metrics_now *out);
    void *arg;
};

struct ways;
struct ways *ways_new(const struct conf *conf, const struct ways_host *host); /* NULL: no memory */
void ways_attach(struct ways *w, struct door *door);                          /* before ways_listen */
void ways_free(struct ways *w);                                               /* after net_free */

bool ways_listen(struct ways *w); /* false: the reason is logged */
/* Log where we listen, and write the port files that the command line asks for. false: the reason is logged. */
bool ways_announce(struct ways *w, const struct conf_args *args);
void ways_now(struct ways *w, struct metrics_now *out); /* host.now, with the connections */

/* For a shutdown, in this order: tell everyone; is nothing under way any more?; close what is open. */
void ways_goaway(struct ways *w, const char *text);
bool ways_are_idle(const struct ways *w);
void ways_finish(struct ways *w);
uint32_t ways_connections(const struct ways *w);

#endif
