/* Private to fronts/tcp/. */
#ifndef FRONT_INTERNAL_H
#define FRONT_INTERNAL_H

#include <sys/queue.h>

#include "control.h"
#include "front_tcp.h"
#include "wire.h"

enum {
    GREETING_BODY_MAX = 8192,  /* of frames before HELLO is answered */
    COPY_BELOW = 512,          /* delivered pieces smaller than this are copied rather than lent to the system call */
    PACKER_KEEP_BYTES = 65536, /* the reused buffer for control bodies is given back above this */
    REFUSAL_BYTES = 256,       /* of a sentence that refuses a request */
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
    struct client client; /* open until the connection is over */
    TAILQ_ENTRY(conn) all;
    uint64_t opened_ms, last_out_ms; /* monotonic, as all of these */
    uint64_t partial_since_ms;       /* an incomplete frame is there; 0: none */
    uint64_t stalled_since_ms;       /* output waits and none of it was taken; 0: no */
    uint64_t sent_seen;              /* net_conn_sent at the last look */
    uint64_t doubted_ms;             /* when it was last heard, at a look that found it silent for too long; 0: never */
    uint64_t armed_ms;               /* when the deadline is looked at next */
    uint32_t heartbeat_ms;
    uint32_t backup_requests; /* without an answer: they do not go through the door */
    enum phase phase;
    bool held;     /* the engine holds its subscriptions: output is full, or the end is near */
    bool backs_up; /* it has begun a backup: which ends with it */
};

struct front_tcp {
    struct front_tcp_options options;
    struct front_tcp_host host;
    struct net *net;
    struct door *door;
    struct clients *clients;
    TAILQ_HEAD(, conn) conns;
    uint32_t count;
    struct receipt_range *ranges; /* of the settle frame or transaction at hand */
    struct transact_part *parts;  /* of the transaction at hand */
    msgpack_sbuffer body;         /* of the control answer at hand */
    msgpack_packer packer;        /* onto it */
    bool body_failed;             /* memory ran out while it was packed */
    bool going_away;
    char goaway_text[128];
};

/* front.c */
static inline struct conn *conn_of(struct client *c)
{
    return (struct conn *)(void *)((char *)c - offsetof(struct conn, client));
}
void conn_fail(struct conn *c, uint32_t correlation, broker_error code, const char *format, ...)
    __attribute__((format(printf, 4, 5))); /* an error of scope connection, then the end */
void conn_goaway(struct conn *c);
void conn_submit(struct conn *c, struct command *command);
void conn_arm(struct conn *c, uint64_t at_ms); /* look at the deadlines then, if not earlier */

/* frames.c */
size_t conn_input(void *conn, uint8_t *bytes, size_t len, size_t *need);
/* Ranges at `bytes` to f->ranges[from] and on; *count of them. OK, or the error and what is wrong in `text`. */
broker_error ranges_get(struct front_tcp *f, const uint8_t *bytes, uint32_t len, uint32_t from, uint32_t *count,
                        char text[REFUSAL_BYTES]);

/* transact.c */
void frame_transact(struct conn *c, const struct frame_head *head, uint8_t *body);
void answer_transact(struct conn *c, uint8_t type, const struct completion *done);

/* control.c: requests with a map; each answers an error itself */
void control_hello(struct conn *c, const struct frame_head *head, uint8_t *body);
void control_ping(struct conn *c, const struct frame_head *head, uint8_t *body);
void control_stats(struct conn *c, const struct frame_head *head, uint8_t *body);
void control_request(struct conn *c, const struct frame_head *head, uint8_t *body); /* what the broker does */

/* backup.c */
void control_backup_begin(struct conn *c, const struct frame_head *head, uint8_t *body);
void control_backup_read(struct conn *c, const struct frame_head *head, uint8_t *body);
void control_backup_end(struct conn *c, const struct frame_head *head, uint8_t *body);
void backup_forget(struct conn *c); /* the connection is over */

/* maps.c: what requests with a map share. get_u32_key leaves an absent key's value alone; false: m->error says why. */
bool get_u32_key(struct wire_map *m, const char *key, uint64_t min, uint64_t max, uint32_t *out);
bool require(struct wire_map *m, const char *key);
/* Open the body, or refuse the request. The map is closed by the caller in either case. */
bool open_map(struct conn *c, const struct frame_head *head, const uint8_t *body, struct wire_map *m);
void refuse_key(struct conn *c, const struct frame_head *head, const struct wire_map *m);

/* answers.c */
int body_write(void *front, const char *bytes, size_t n); /* the packer's way into the body */
msgpack_packer *body_begin(struct front_tcp *f);
void body_send(struct conn *c, uint8_t type, uint32_t correlation,
               uint32_t stream); /* what was packed since body_begin */
/* Room for a frame of `body` bytes, which `borrowed` ones follow, its head filled in; NULL: the connection is closing. */
uint8_t *frame_begin(struct conn *c, const struct frame_head *head, uint32_t body, uint32_t borrowed);
void answer_empty_map(struct conn *c, uint8_t type, uint32_t correlation, uint32_t stream);
void answer_error(struct conn *c, uint32_t correlation, uint32_t stream, broker_error code, const char *text,
                  const char *scope, uint32_t retry_ms);
void refuse_request(struct conn *c, const struct frame_head *head, broker_error code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void send_one_way(struct conn *c, uint8_t type);
bool write_records(struct conn *c, const struct stored_message *m, uint32_t count);
extern const struct client_ops conn_client_ops; /* completions, deliveries, ends */

/* describe.c: an answer that control packs, or messages peeked at */
void answer_map(struct conn *c, uint8_t type, const struct completion *done);

#endif
