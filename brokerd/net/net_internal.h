/* Private to net/. */
#ifndef NET_INTERNAL_H
#define NET_INTERNAL_H

#include <ev.h>
#include <sys/queue.h>
#include <sys/uio.h>

#include "buf.h"
#include "net.h"

enum {
    NET_SIGNALS_MAX = 8,
    NET_UNCOUNTED_INPUT = 4096, /* of an incomplete frame, free of the common limit */
    NET_ACCEPTS_PER_TURN = 64,
    NET_PAUSED_LOOK_MS = 1000,            /* between looks whether peers that are not read have gone */
    NET_POOLED_OUTPUTS = 64,              /* turn outputs kept for reuse, … */
    NET_POOLED_OUTPUT_BYTES = 65536,      /* … unless their own bytes grew over this, … */
    NET_POOLED_SMALL_OUTPUTS = 4096,      /* … and more of them, as many as one message can go to in a turn … */
    NET_POOLED_SMALL_OUTPUT_BYTES = 1024, /* … if they have stayed under this */
};

enum conn_state {
    CONN_OPEN,
    CONN_FINISHING, /* sending the rest; input is thrown away */
    CONN_LINGERING, /* everything sent and said so; waiting for the peer's end, so that a reset does not eat the rest */
    CONN_CLOSED,    /* the socket is gone; the handler is yet to be told */
};

struct slice {
    const uint8_t *borrowed; /* NULL: in the turn output's own bytes, at offset */
    size_t offset, len;
};

/* What one connection wants to send at the end of this turn. From a pool: an idle connection has none. */
struct turn_out {
    struct slice *slices;
    size_t count, cap;
    struct buf own;
    size_t bytes; /* of all slices */
    struct turn_out *next;
};

TAILQ_HEAD(conn_list, net_conn);

struct net_conn {
    ev_io io;
    struct net *net;
    const struct conn_ops *ops;
    void *transport;
    const struct net_handler *handler;
    void *user; /* the handler's */
    struct net_timer timer;
    struct buf in;     /* the incomplete frame */
    size_t need;       /* bytes that `in` must have to be worth a call; 0: any more */
    size_t in_charged; /* counted in net->input_used */
    struct buf out;    /* unsent, from out_sent on */
    size_t out_sent;
    struct turn_out *turn;
    size_t full_bytes, ceiling_bytes;
    uint64_t sent;
    uint64_t heard_ms;
    TAILQ_ENTRY(net_conn) all, dirty, drained;
    TAILQ_ENTRY(net_conn) waiting; /* on net->starved or, later, on net->closed */
    TAILQ_ENTRY(net_conn) paused;
    enum conn_state state;
    enum net_close_reason reason;
    bool is_dirty;   /* on net->dirty: has output to send */
    bool is_starved; /* on net->starved: waits for memory for its frame */
    bool was_full;   /* the handler was told, and wants to hear of the end of it */
    bool is_drained; /* on net->drained: to be told so */
    bool choked;     /* not read until its output drains */
    bool is_paused;  /* on net->paused: not read until the handler wants more */
};

struct net_listener {
    ev_io io;
    struct net *net;
    const struct net_handler *handler;
    void *front;
    struct net_timer retry; /* after accept failed for want of file descriptors or memory */
    char text[192];
    char *unlink_path; /* made by us; NULL: nothing to remove */
    uint16_t port;
    TAILQ_ENTRY(net_listener) all;
};

struct signal_watch {
    ev_signal signal;
    void (*fn)(void *arg, int signo);
    void *arg;
};

struct net {
    struct ev_loop *loop;
    ev_prepare prepare;
    ev_check check;
    ev_timer timer;
    ev_idle idle; /* runs when the next turn must not sleep */
    struct heap timers;
    uint64_t timer_armed; /* key that `timer` runs for; UINT64_MAX: it does not run */
    struct now now;
    uint64_t turn_number;
    struct net_options options;
    const struct net_turn_ops *turn_ops;
    void *turn_arg;
    struct signal_watch signals[NET_SIGNALS_MAX];
    unsigned signal_count;
    uint8_t *read_buffer;
    size_t input_used, output_used;
    struct conn_list conns, dirty, starved, closed, drained, paused;
    struct net_timer paused_look;
    TAILQ_HEAD(, net_listener) listeners;
    struct turn_out *pool;
    unsigned pooled;
    uint32_t conn_count;
    int reserve_fd; /* given up for a moment to accept and close when descriptors have run out */
    bool stopping;
};

/* conn.c */
void conn_event(struct ev_loop *loop, ev_io *io, int revents);
void conn_set_state(struct net_conn *c, enum conn_state state, enum net_close_reason reason);
void conn_update_events(struct net_conn *c);
void conn_resume_input(struct net_conn *c); /* call the handler again with what is left over */
void conn_feed_starved(struct net *net);
void conn_look_at_paused(void *net, struct now now); /* a timer's */
void conn_reap(struct net *net);                     /* tell handlers of closed connections, and free them */
/* output.c */
void output_flush(struct net *net);
void output_tell_drained(struct net *net);
void output_mark_dirty(struct net_conn *c);
void output_release(struct net_conn *c);
void output_free_pool(struct net *net);
/* loop.c */
void net_dont_sleep(struct net *net);

#endif
