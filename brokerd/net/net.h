/*
 * Owns:            the event loop, listeners, connections and their buffers, timers, signals, wakes from other threads.
 * May use:         base, libev (here and nowhere else).
 * Never knows:     frames, commands, queues. What bytes mean is the handler's business (struct net_handler).
 * Start reading at net_turn (loop.c): what one turn of the loop does, in order; then struct net_handler.
 *
 * Everything here belongs to the loop's thread, except net_wake_send. A turn: wait for events; read from connections
 * (handlers act on whole frames and write answers); then, before sleeping again: tell handlers of closed and drained
 * connections, turn_ops.work, send each connection's output with one system call, turn_ops.end.
 *
 * Memory: one read buffer a loop. A connection owns memory only for a frame that is not complete yet, and for output
 * that the system did not take at once; both are bounded, for each connection and for all together.
 */
#ifndef NET_H
#define NET_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "clock.h"
#include "heap.h"

struct net;
struct net_conn; /* a handle: valid until the handler's `closed` returns */
struct net_wake;

struct net_options {
    size_t read_buffer_bytes; /* most that is read from one connection in one turn; 16 KiB.. */
    size_t max_input_bytes;   /* of incomplete frames, all connections together (4 KiB of each are not counted): over
                                  it, connections that need more memory wait unread until others have finished */
    size_t max_output_bytes;  /* of unsent output, all connections together: over it, none with unsent output is given
                                  more deliveries (net_conn_is_full) */
    uint32_t max_connections; /* one more is refused (net_handler.refusal) */
    uint32_t linger_ms;       /* how long a finished connection may take to fetch its last bytes */
};

/* NULL: no memory, or no event loop to be had (errno says). */
struct net *net_new(const struct net_options *options);
void net_free(struct net *net); /* closes all; handlers' `closed` is called for open connections */

/* What happens at the end of each turn, before the loop sleeps. */
struct net_turn_ops {
    void (*work)(void *arg); /* before output is sent: what is due, what other threads finished */
    void (*end)(void *arg);  /* after output is sent: borrowed slices are not used any more */
};
void net_set_turn(struct net *net, const struct net_turn_ops *ops, void *arg);

void net_run(struct net *net);             /* turns until net_stop */
void net_turn(struct net *net, bool wait); /* one turn; wait: sleep until something happens */
void net_stop(struct net *net);
struct now net_now(const struct net *net); /* read once or twice a turn */
/* Rises each time that output has been sent: what was borrowed for output under an earlier number is used no more. */
uint64_t net_turn_number(const struct net *net);

/* ---- timers, wakes, signals --------------------------------------------------------------------------------------- */

struct net_timer { /* in the owner's memory */
    struct heap_node node;
    void (*fn)(void *arg, struct now now);
    void *arg;
};
void net_timer_init(struct net_timer *t, void (*fn)(void *arg, struct now now), void *arg);
/* Once, at `at` or soon after; MONOTIME_NEVER: not at all. false: no memory (only the first time that it is set). */
bool net_timer_set(struct net *net, struct net_timer *t, monotime at);

/* fn runs on the loop soon after net_wake_send, which any thread may call, once for any number of sends. */
struct net_wake *net_wake_new(struct net *net, void (*fn)(void *arg, struct now now), void *arg);
void net_wake_send(struct net_wake *w);
void net_wake_free(struct net_wake *w);

/* fn runs on the loop whenever `fd` is readable. The fd stays the caller's. */
struct net_watch;
struct net_watch *net_watch_new(struct net *net, int fd, void (*fn)(void *arg, struct now now), void *arg);
void net_watch_free(struct net_watch *w);

/* fn runs on the loop. Up to 8 signals. */
bool net_on_signal(struct net *net, int signo, void (*fn)(void *arg, int signo), void *arg);

/* ---- connections -------------------------------------------------------------------------------------------------- */

enum net_close_reason {
    NET_CLOSE_PEER,     /* the peer closed it, or it broke */
    NET_CLOSE_FINISHED, /* net_conn_finish, and everything was sent */
    NET_CLOSE_ABORTED,  /* net_conn_abort, or net_free */
    NET_CLOSE_OVERFLOW, /* output over the connection's ceiling */
    NET_CLOSE_MEMORY,   /* no memory for its buffers */
};

struct net_handler {
    /* A connection is there. Returns what is passed as `conn` to the others, or NULL: drop it. */
    void *(*opened)(void *front, struct net_conn *c);
    /*
     * Bytes came in: `len` of them, beginning with what was left over the last time; writable. Returns how many were
     * used up. *need: with how many bytes (counted from the first left over) it is worth to call again; 0: any more.
     * Must stop early when net_conn_is_choked: it is called again with the rest when output has drained.
     */
    size_t (*input)(void *conn, uint8_t *bytes, size_t len, size_t *need);
    /* Output was full (net_conn_is_full said so) and has drained. */
    void (*drained)(void *conn);
    /* The time of net_conn_set_deadline has come; returns the next one. */
    monotime (*deadline)(void *conn, struct now now);
    /* The last call for this connection, never from inside another call of the handler's. */
    void (*closed)(void *conn, enum net_close_reason reason);
    /* Is there room for one more? NULL: as long as net_options.max_connections allows. */
    bool (*has_room)(void *front);
    /* Bytes to send to a connection that is one too many; up to `max`. NULL: none. */
    size_t (*refusal)(void *front, uint8_t *out, size_t max);
};

/*
 * How bytes get in and out of a connection: a plain socket here; TLS can be another. read and writev are as read(2) and
 * writev(2) on a non-blocking socket. `events`: what to wait for (NET_READ, NET_WRITE), given what the connection wants.
 */
struct iovec;
struct conn_ops {
    ptrdiff_t (*read)(void *transport, int fd, void *bytes, size_t n);
    ptrdiff_t (*writev)(void *transport, int fd, const struct iovec *iov, int count);
    int (*events)(void *transport, int wanted);
    void (*shutdown)(void *transport, int fd); /* no more will be written */
    void (*close)(void *transport, int fd);
};
enum { NET_READ = 1, NET_WRITE = 2 };

/* net_adopt: a connected stream socket becomes a connection, as if accepted. Takes the fd, also when it fails (NULL). */
struct net_conn *net_adopt(struct net *net, int fd, const struct net_handler *handler, void *front);

/* Output over `full_bytes`: net_conn_is_full; over twice that: the connection is not read (net_conn_is_choked); over
   `ceiling_bytes` unsent at a turn's end: closed. */
void net_conn_set_limits(struct net_conn *c, size_t full_bytes, size_t ceiling_bytes);
bool net_conn_set_deadline(struct net_conn *c, monotime at);

/* Output, collected during the turn. false: the connection is closing or memory is out (then it is closed). */
uint8_t *net_conn_reserve(struct net_conn *c, size_t n); /* n bytes to fill in before the next call; NULL as false */
bool net_conn_write(struct net_conn *c, const void *bytes, size_t n);
bool net_conn_write_borrowed(struct net_conn *c, const void *bytes, size_t n); /* not copied: valid to the turn's end */

bool net_conn_is_full(struct net_conn *c); /* having said so, `drained` is called when it is over */
bool net_conn_is_choked(const struct net_conn *c);
size_t net_conn_unsent(const struct net_conn *c);
/* As if net_conn_is_full had said so: `drained` is called after the next sending that leaves little or nothing unsent. */
void net_conn_watch_output(struct net_conn *c);
monotime net_conn_heard(const struct net_conn *c); /* when bytes last came in; at first: when it was opened */
bool net_conn_is_unread(
    const struct net_conn *c); /* we do not read it now: choked, paused, or memory for its frame is short */
size_t net_conn_held(const struct net_conn *c);   /* bytes that came in and wait for the rest of their frame */
uint64_t net_conn_sent(const struct net_conn *c); /* bytes that the system took, ever: progress of a slow reader */

/*
 * net_conn_pause: the handler wants no more input for now; what its call leaves over, or what comes in, waits. Memory: what was
 * left over; the rest stays in the system, and the peer is slowed down. net_conn_resume: the handler is called again, soon and
 * not from inside, with what was left over (if anything was).
 * Whether the peer is gone: an end or a reset is noticed at once where reading is on; on a paused connection (also one with the
 * end behind bytes that nobody reads) by a look once a second, and at once where output waits to be sent.
 */
void net_conn_pause(struct net_conn *c);
void net_conn_resume(struct net_conn *c);

/* net_conn_finish: send what is written, then close; input is thrown away from now on. net_conn_abort: close now. Both
   only begin it: `closed` comes later in the turn or in one of the next. */
void net_conn_finish(struct net_conn *c);
void net_conn_abort(struct net_conn *c);
void net_conn_peer(const struct net_conn *c, char *out, size_t size); /* "127.0.0.1:40112", "[::1]:9", "unix" */

uint32_t net_connections(const struct net *net);

/* ---- listeners ---------------------------------------------------------------------------------------------------- */

/* All return false with a sentence in `error`. `host` may be a name, an address, or "*"; each address it has is listened
   on. port 0: any free one. */
bool net_listen_tcp(struct net *net, const char *host, const char *port, const struct net_handler *handler, void *front,
                    char *error, size_t error_size);
/* A socket file left over by a daemon that is gone is replaced; one that answers is an error. */
bool net_listen_unix(struct net *net, const char *path, unsigned mode, const struct net_handler *handler, void *front,
                     char *error, size_t error_size);
/* A listening socket that was handed to the process. */
bool net_listen_fd(struct net *net, int fd, const struct net_handler *handler, void *front, char *error,
                   size_t error_size);
/* Call fn with "tcp 127.0.0.1:7440" or "unix /run/x.sock" for each listener of this handler; port is 0 for unix. */
void net_each_listener(const struct net *net, const struct net_handler *handler,
                       void (*fn)(void *arg, const char *text, uint16_t port), void *arg);
void net_close_listeners(struct net *net); /* accept no more; removes socket files that it made */

#endif
