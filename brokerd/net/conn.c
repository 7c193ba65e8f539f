/* Connections: their states, and how bytes come in. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net_internal.h"

/* ---- the plain socket ----------------------------------------------------------------------------------------------- */

static ptrdiff_t socket_read(void *transport, int fd, void *bytes, size_t n)
{
    return recv(fd, bytes, n, 0);
}

static ptrdiff_t socket_writev(void *transport, int fd, const struct iovec *iov, int count)
{
    struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = (size_t)count};
    return sendmsg(fd, &message, MSG_NOSIGNAL);
}

static int socket_events(void *transport, int wanted)
{
    return wanted;
}

static void socket_shutdown(void *transport, int fd)
{
    shutdown(fd, SHUT_WR);
}

static void socket_close(void *transport, int fd)
{
    close(fd);
}

static const struct conn_ops socket_ops = {
    .read = socket_read,
    .writev = socket_writev,
    .events = socket_events,
    .shutdown = socket_shutdown,
    .close = socket_close,
};

/* ---- states --------------------------------------------------------------------------------------------------------- */

/* The memory of the incomplete frame, and its count in the common limit. */
static void input_recount(struct net_conn *c)
{
    size_t counted = c->in.cap > NET_UNCOUNTED_INPUT ? c->in.cap : 0;
    c->net->input_used += counted;
    c->net->input_used -= c->in_charged;
    c->in_charged = counted;
}

static void input_release(struct net_conn *c)
{
    if (!c->in.cap)
        return;
    buf_release(&c->in);
    c->need = 0;
    input_recount(c);
}

static void input_stop_waiting(struct net_conn *c)
{
    if (!c->is_starved)
        return;
    c->is_starved = false;
    TAILQ_REMOVE(&c->net->starved, c, waiting);
}

static void input_end_pause(struct net_conn *c)
{
    if (!c->is_paused)
        return;
    c->is_paused = false;
    TAILQ_REMOVE(&c->net->paused, c, paused);
}

void conn_update_events(struct net_conn *c)
{
    int wanted = 0;
    bool may_read = c->state == CONN_OPEN ? !net_conn_is_unread(c) : c->state != CONN_CLOSED;
    if (may_read)
        wanted |= NET_READ;
    if (c->out.len > c->out_sent)
        wanted |= NET_WRITE;
    int got = c->ops->events(c->transport, wanted);
    int events = (got & NET_READ ? EV_READ : 0) | (got & NET_WRITE ? EV_WRITE : 0);
    if (events == (c->io.events & (EV_READ | EV_WRITE)) && (ev_is_active(&c->io) || !events))
        return;
    ev_io_stop(c->net->loop, &c->io);
    ev_io_set(&c->io, c->io.fd, events);
    if (events)
        ev_io_start(c->net->loop, &c->io);
}

static void conn_enter_closed(struct net_conn *c)
{
    struct net *net = c->net;
    ev_io_stop(net->loop, &c->io);
    c->ops->close(c->transport, c->io.fd);
    input_release(c);
    output_release(c);
    net_timer_set(net, &c->timer, MONOTIME_NEVER);
    TAILQ_INSERT_TAIL(&net->closed, c, waiting);
}

/* The only place where a connection's state changes. States only go forward; a step back is ignored. */
void conn_set_state(struct net_conn *c, enum conn_state state, enum net_close_reason reason)
{
    if (state <= c->state)
        return;
    enum conn_state old = c->state;
    c->state = state;
    if (old == CONN_OPEN) {
        c->reason = reason;
        input_stop_waiting(c);
        input_end_pause(c);
    }
    switch (state) {
    case CONN_OPEN: break;
    case CONN_FINISHING:
        input_release(c);
        net_timer_set(c->net, &c->timer, (monotime){c->net->now.mono.ms + c->net->options.linger_ms});
        output_mark_dirty(c);
        conn_update_events(c);
        break;
    case CONN_LINGERING:
        c->ops->shutdown(c->transport, c->io.fd);
        conn_update_events(c);
        break;
    case CONN_CLOSED: conn_enter_closed(c); break;
    }
}

void conn_reap(struct net *net)
{
    for (struct net_conn *c; (c = TAILQ_FIRST(&net->closed));) {
        TAILQ_REMOVE(&net->closed, c, waiting);
        if (c->user && c->handler->closed)
            c->handler->closed(c->user, c->reason);
        if (c->is_dirty)
            TAILQ_REMOVE(&net->dirty, c, dirty);
        if (c->is_drained)
            TAILQ_REMOVE(&net->drained, c, drained);
        TAILQ_REMOVE(&net->conns, c, all);
        net->conn_count--;
        free(c);
    }
}

monotime net_conn_heard(const struct net_conn *c)
{
    return (monotime){c->heard_ms};
}

bool net_conn_is_unread(const struct net_conn *c)
{
    return c->choked || c->is_starved || c->is_paused;
}

size_t net_conn_held(const struct net_conn *c)
{
    return c->in.len;
}

void net_conn_pause(struct net_conn *c)
{
    if (c->state != CONN_OPEN || c->is_paused)
        return;
    if (TAILQ_EMPTY(&c->net->paused) &&
        !net_timer_set(c->net, &c->net->paused_look, (monotime){c->net->now.mono.ms + NET_PAUSED_LOOK_MS})) {
        conn_set_state(c, CONN_CLOSED, NET_CLOSE_MEMORY);
        return;
    }
    c->is_paused = true;
    TAILQ_INSERT_TAIL(&c->net->paused, c, paused);
    conn_update_events(c);
}

void net_conn_resume(struct net_conn *c)
{
    if (!c->is_paused)
        return;
    input_end_pause(c);
    conn_update_events(c);
    conn_resume_input(c);
}

/* libev cannot wait for a peer's end alone, so it is asked for: POLLRDHUP tells it behind unread bytes, too. */
void conn_look_at_paused(void *arg, struct now now)
{
    struct net *net = arg;
    struct net_conn *c, *next;
    for (c = TAILQ_FIRST(&net->paused); c; c = next) {
        next = TAILQ_NEXT(c, paused);
        struct pollfd look = {.fd = c->io.fd, .events = POLLRDHUP};
        if (poll(&look, 1, 0) == 1)
            conn_set_state(c, CONN_CLOSED, NET_CLOSE_PEER);
    }
    if (!TAILQ_EMPTY(&net->paused))
        net_timer_set(net, &net->paused_look, (monotime){now.mono.ms + NET_PAUSED_LOOK_MS});
}

void net_conn_finish(struct net_conn *c)
{
    conn_set_state(c, CONN_FINISHING, NET_CLOSE_FINISHED);
}

void net_conn_abort(struct net_conn *c)
{
    conn_set_state(c, CONN_CLOSED, NET_CLOSE_ABORTED);
}

static void conn_timer(void *arg, struct now now)
{
    struct net_conn *c = arg;
    if (c->state != CONN_OPEN) {
        conn_set_state(c, CONN_CLOSED, c->reason); /* it had its time to fetch the rest */
        return;
    }
    monotime next = c->handler->deadline(c->user, now);
    if (c->state == CONN_OPEN)
        net_timer_set(c->net, &c->timer, next);
}

bool net_conn_set_deadline(struct net_conn *c, monotime at)
{
    return c->state != CONN_OPEN || net_timer_set(c->net, &c->timer, at);
}

void net_conn_set_limits(struct net_conn *c, size_t full_bytes, size_t ceiling_bytes)
{
    c->full_bytes = full_bytes;
    c->ceiling_bytes = ceiling_bytes;
}

struct net_conn *net_adopt(struct net *net, int fd, const struct net_handler *handler, void *front)
{
    struct net_conn *c = calloc(1, sizeof(*c));
    if (!c) {
        close(fd);
        return NULL;
    }
    *c = (struct net_conn){.net = net, .ops = &socket_ops, .handler = handler, .heard_ms = net->now.mono.ms};
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    c->full_bytes = c->ceiling_bytes = SIZE_MAX / 4;
    buf_init(&c->in, 0);
    buf_init(&c->out, 0);
    ev_io_init(&c->io, conn_event, fd, 0);
    c->io.data = c;
    net_timer_init(&c->timer, conn_timer, c);
    TAILQ_INSERT_TAIL(&net->conns, c, all);
    net->conn_count++;
    c->user = handler->opened(front, c);
    if (!c->user) {
        conn_set_state(c, CONN_CLOSED, NET_CLOSE_ABORTED);
        return NULL;
    }
    conn_update_events(c);
    return c;
}

void net_conn_peer(const struct net_conn *c, char *out, size_t size)
{
    struct sockaddr_storage a;
    socklen_t len = sizeof(a);
    char text[INET6_ADDRSTRLEN] = "?";
    if (c->state == CONN_CLOSED || getpeername(c->io.fd, (struct sockaddr *)&a, &len) != 0) {
        snprintf(out, size, "gone");
    } else if (a.ss_family == AF_INET) {
        struct sockaddr_in *in = (struct sockaddr_in *)&a;
        inet_ntop(AF_INET, &in->sin_addr, text, sizeof(text));
        snprintf(out, size, "%s:%u", text, ntohs(in->sin_port));
    } else if (a.ss_family == AF_INET6) {
        struct sockaddr_in6 *in = (struct sockaddr_in6 *)&a;
        inet_ntop(AF_INET6, &in->sin6_addr, text, sizeof(text));
        snprintf(out, size, "[%s]:%u", text, ntohs(in->sin6_port));
    } else {
        snprintf(out, size, "unix");
    }
}

/* ---- input ---------------------------------------------------------------------------------------------------------- */

/* Frames this large are read straight into memory of their own: copying them in and out of the shared buffer once a
   read would cost the square of their length. */
static bool input_is_large(const struct net_conn *c)
{
    return c->need > c->net->options.read_buffer_bytes / 2;
}

static bool input_memory_is_short(const struct net *net)
{
    return net->input_used >= net->options.max_input_bytes;
}

/* Room in `in` for the whole of the frame that has begun. false: it has to wait, or there is none (then it is closed). */
static bool input_reserve(struct net_conn *c)
{
    size_t more = c->need > c->in.len ? c->need - c->in.len : 0;
    if (c->in.cap >= c->need || c->need <= NET_UNCOUNTED_INPUT)
        return true;
    if (input_memory_is_short(c->net) && c->net->input_used > c->in_charged) {
        if (!c->is_starved) {
            c->is_starved = true;
            TAILQ_INSERT_TAIL(&c->net->starved, c, waiting);
            conn_update_events(c);
        }
        return false;
    }
    c->in.max = c->need; /* exactly: the buffer would double otherwise */
    bool reserved = buf_reserve(&c->in, more);
    c->in.max = 0;
    if (!reserved)
        conn_set_state(c, CONN_CLOSED, NET_CLOSE_MEMORY);
    else
        input_recount(c);
    return reserved;
}

/* Keep what the handler did not use. */
static void input_keep(struct net_conn *c, const uint8_t *rest, size_t len)
{
    if (c->state != CONN_OPEN)
        return;
    if (len == 0) {
        input_release(c);
        return;
    }
    if (c->in.cap > 2 * len + NET_UNCOUNTED_INPUT && c->in.cap > 2 * c->need)
        buf_release(&c->in); /* of an earlier, larger frame */
    buf_clear(&c->in);
    if (!buf_append(&c->in, rest, len)) {
        conn_set_state(c, CONN_CLOSED, NET_CLOSE_MEMORY);
        return;
    }
    input_recount(c);
    if (input_is_large(c) || input_memory_is_short(c->net))
        input_reserve(c);
}

static ptrdiff_t input_read(struct net_conn *c, uint8_t *to, size_t room)
{
    ptrdiff_t n;
    do
        n = c->ops->read(c->transport, c->io.fd, to, room);
    while (n < 0 && errno == EINTR);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return 0;
    if (n <= 0) {
        conn_set_state(c, CONN_CLOSED, NET_CLOSE_PEER);
        return -1;
    }
    c->heard_ms = c->net->now.mono.ms;
    return n;
}

static void input_large(struct net_conn *c)
{
    if (!input_reserve(c))
        return;
    size_t room = c->need - c->in.len;
    if (room > c->net->options.read_buffer_bytes)
        room = c->net->options.read_buffer_bytes; /* its share of the turn */
    ptrdiff_t n = input_read(c, c->in.bytes + c->in.len, room);
    if (n <= 0)
        return;
    c->in.len += (size_t)n;
    if (c->in.len < c->need)
        return;
    size_t need = 0;
    size_t used = c->handler->input(c->user, c->in.bytes, c->in.len, &need);
    if (c->state != CONN_OPEN)
        return;
    c->need = need;
    if (used >= c->in.len)
        input_release(c);
    else
        buf_drop_front(&c->in, used);
}

static void input_shared(struct net_conn *c, bool again)
{
    struct net *net = c->net;
    uint8_t *bytes = net->read_buffer;
    size_t len = c->in.len, size = net->options.read_buffer_bytes;
    if (len >= size) { /* left over by a handler that was choked in the midst of it */
        again = true;
        bytes = c->in.bytes;
    } else {
        if (len)
            memcpy(bytes, c->in.bytes, len);
        size_t room = size - len;
        if (input_memory_is_short(net) && room > NET_UNCOUNTED_INPUT)
            room = NET_UNCOUNTED_INPUT;
        ptrdiff_t n = input_read(c, bytes + len, room);
        if (n < 0)
            return;
        if (n == 0 && !again)
            return;
        len += (size_t)n;
    }
    size_t need = 0;
    size_t used = c->handler->input(c->user, bytes, len, &need);
    if (c->state != CONN_OPEN)
        return;
    c->need = need;
    if (bytes == c->in.bytes && used < len)
        buf_drop_front(&c->in, used);
    else
        input_keep(c, bytes + used, len - used);
}

static void conn_discard(struct net_conn *c)
{
    input_read(c, c->net->read_buffer, c->net->options.read_buffer_bytes);
}

static void conn_input(struct net_conn *c, bool again)
{
    if (c->state != CONN_OPEN) {
        conn_discard(c);
        return;
    }
    if (net_conn_is_unread(c)) {
        conn_update_events(c);
        return;
    }
    if (input_is_large(c) && c->in.len < c->need)
        input_large(c);
    else
        input_shared(c, again);
    if (c->state == CONN_OPEN && c->choked)
        conn_update_events(c);
}

/* EV_CUSTOM: fed by ourselves, there is something left over. */
void conn_event(struct ev_loop *loop, ev_io *io, int revents)
{
    struct net_conn *c = io->data;
    if (revents & EV_ERROR) {
        conn_set_state(c, CONN_CLOSED, NET_CLOSE_PEER);
        return;
    }
    if (revents & EV_WRITE)
        output_mark_dirty(c);
    if (revents & (EV_READ | EV_CUSTOM))
        conn_input(c, revents & EV_CUSTOM);
}

void conn_resume_input(struct net_conn *c)
{
    if (c->state == CONN_OPEN && c->in.len > 0) {
        ev_feed_event(c->net->loop, &c->io, EV_CUSTOM);
        net_dont_sleep(c->net);
    }
}

/* Memory for frames has come back: those who waited go on, as far as it reaches. */
void conn_feed_starved(struct net *net)
{
    while (!TAILQ_EMPTY(&net->starved) && !input_memory_is_short(net)) {
        struct net_conn *c = TAILQ_FIRST(&net->starved);
        input_stop_waiting(c);
        if (input_reserve(c))
            conn_update_events(c);
    }
}
