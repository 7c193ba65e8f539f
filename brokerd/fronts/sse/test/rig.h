/* Event streams over socket pairs, with a double for the engine that keeps a few queues in memory. Shared by the tests of this
   folder, which include cmocka.h first. */
#ifndef SSE_RIG_H
#define SSE_RIG_H

#include "sse_internal.h"

extern struct net *net;
extern struct http *http;
extern struct clients *clients;
extern struct sse *sse;
extern struct sse_options options;
extern uint64_t epoch;

/* ---- the double ----------------------------------------------------------------------------------------------------- */

extern struct seen {
    unsigned by_type[COMMAND_TYPES];
    struct command read, subscribe; /* the last ones */
    bool mute;                      /* nothing is answered */
    bool subscription_full;         /* what the last delivery was told */
} seen;
unsigned waiting_reads(void);
void make_queue(const char *name); /* again: a new id, no messages */
void delete_queue(const char *name);
void trim_queue(const char *name, uint64_t first_seq);
void publish(const char *queue, const void *body, size_t len);
void publish_text(const char *queue, const char *body);
void publish_topic(const char *queue, const char *body, const char *topic);
/* A message for whoever subscribes; every other one is delivered for the second time. */
void deliver_text(const char *queue, const char *body);

/* ---- clients ---------------------------------------------------------------------------------------------------------- */

struct peer {
    int fd;
    char *got; /* NUL-terminated */
    size_t len, cap;
    bool ended;
};
/* GET path; last_event_id may be NULL. */
void peer_get(struct peer *p, const char *path, const char *last_event_id);
void peer_close(struct peer *p);
void turn(void);
/* Turns until p has got `text`; what came up to its end is forgotten, and returned until the next call. */
const char *expect(struct peer *p, const char *text);
void expect_no(struct peer *p, const char *text); /* it has not got it, after a few more turns */
void expect_end(struct peer *p);
/* The id in the next "id: " line. */
const char *next_id(struct peer *p);

int start(void **state);
int stop(void **state);

#endif
