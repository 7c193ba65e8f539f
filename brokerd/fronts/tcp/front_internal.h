/* Private to fronts/tcp/. */
#ifndef FRONT_INTERNAL_H
#define FRONT_INTERNAL_H

#include <sys/queue.h>

#include "front_tcp.h"
#include "wire.h"

enum {
    SLOT_BITS = 24,            /* a connection's number: serial << SLOT_BITS | slot, so that numbers are never reused */
    GREETING_BODY_MAX = 8192,  /* of frames before HELLO is answered */
    COPY_BELOW = 512,          /* delivered pieces smaller than this are copied rather than lent to the system call */
    PACKER_KEEP_BYTES = 65536, /* the reused buffer for control bodies is given back above this */
};

enum phase {
    PHASE_PREAMBLE, /* the first 8 bytes */
    PHASE_GREETING, /* HELLO must come */
    PHASE_OPEN,
    PHASE_OVER, /* an error of scope connection was sent, or the end has come: nothing more is read or answered */
};

struct conn {
    struct front_tcp *front;
    struct net_conn *net;
    uint64_t number;
    struct door_session session;
    TAILQ_ENTRY(conn) all;
    uint64_t opened_ms, last_out_ms; /* monotonic, as all of these */
    uint64_t partial_since_ms;       /* an incomplete frame is there; 0: none */
    uint64_t stalled_since_ms;       /* output waits and none of it was taken; 0: no */
    uint64_t sent_seen;              /* net_conn_sent at the last look */
    uint64_t doubted_ms;             /* when it was last heard, at a look that found it silent for too long; 0: never */
    uint64_t armed_ms;               /* when the deadline is looked at next */
    uint32_t heartbeat_ms;
    uint32_t outstanding; /* requests without an answer */
    enum phase phase;
    bool held; /* the engine holds its subscriptions: output is full, or the end is near */
};

struct front_tcp {
    struct front_tcp_options options;
    struct front_tcp_host host;
    struct net *net;
    struct door *door;
    TAILQ_HEAD(, conn) conns;
    struct conn **slots; /* grows up to max_connections */
    uint32_t *free_slots;
    uint32_t slot_count, free_count, slot_cap;
    uint64_t serial;
    uint32_t count;
    struct receipt_range *ranges; /* of the settle frame at hand */
    msgpack_sbuffer body;         /* of the control answer at hand */
    msgpack_packer packer;        /* onto it */
    bool body_failed;             /* memory ran out while it was packed */
    bool going_away;
    char goaway_text[128];
};

/* front.c */
struct conn *front_find(struct front_tcp *f, uint64_t number); /* NULL: gone, or over */
void conn_fail(struct conn *c, uint32_t correlation, broker_error code, const char *format, ...)
    __attribute__((format(printf, 4, 5))); /* an error of scope connection, then the end */
void conn_goaway(struct conn *c);
void conn_submit(struct conn *c, struct command *command);
void conn_arm(struct conn *c, uint64_t at_ms); /* look at the deadlines then, if not earlier */

/* frames.c */
size_t conn_input(void *conn, uint8_t *bytes, size_t len, size_t *need);

/* control.c: requests with a map; each answers an error itself */
void control_hello(struct conn *c, const struct frame_head *head, uint8_t *body);
void control_ping(struct conn *c, const struct frame_head *head, uint8_t *body);
void control_stats(struct conn *c, const struct frame_head *head, uint8_t *body);
void control_queue(struct conn *c, const struct frame_head *head, uint8_t *body);
void control_list(struct conn *c, const struct frame_head *head, uint8_t *body);
void control_group(struct conn *c, const struct frame_head *head, uint8_t *body);
void control_subscribe(struct conn *c, const struct frame_head *head, uint8_t *body);
void control_unsubscribe(struct conn *c, const struct frame_head *head, uint8_t *body);
void control_lease(struct conn *c, const struct frame_head *head, uint8_t *body);

/* answers.c */
int body_write(void *front, const char *bytes, size_t n); /* the packer's way into the body */
msgpack_packer *body_begin(struct front_tcp *f);
void body_send(struct conn *c, uint8_t type, uint32_t correlation,
               uint32_t stream); /* what was packed since body_begin */
void answer_empty_map(struct conn *c, uint8_t type, uint32_t correlation, uint32_t stream);
void answer_error(struct conn *c, uint32_t correlation, uint32_t stream, broker_error code, const char *text,
                  const char *scope, uint32_t retry_ms);
void refuse_request(struct conn *c, const struct frame_head *head, broker_error code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void send_one_way(struct conn *c, uint8_t type);
void front_complete(void *sink, const struct completion *completion);
bool front_deliver(void *sink, const struct delivery *d);
void front_ended(void *sink, struct token token, broker_error error, const char *text);

#endif
