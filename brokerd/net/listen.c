/* Listeners: TCP, unix sockets, and sockets that were handed to the process. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "log.h"
#include "net_internal.h"

enum { LISTEN_BACKLOG = 4096, ACCEPT_RETRY_MS = 100, REFUSAL_BYTES = 512 };

/* ---- accepting ------------------------------------------------------------------------------------------------------ */

/* Best effort: the socket's buffer is empty, so a short message fits. */
static void refuse(struct net_listener *l, int fd)
{
    uint8_t bytes[REFUSAL_BYTES];
    size_t len = l->handler->refusal ? l->handler->refusal(l->front, bytes, sizeof(bytes)) : 0;
    if (len > 0)
        send(fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    shutdown(fd, SHUT_WR);
    close(fd);
}

/* Descriptors have run out. Without accepting, the waiting connection would wake the loop for ever; so one is accepted
   on the descriptor kept for this, told, and closed. If even that fails the listener rests for a moment. */
static void accept_exhausted(struct net_listener *l)
{
    struct net *net = l->net;
    log_warning("cannot accept a connection on %s: %s; raise the limit of open files or lower max_connections", l->text,
                strerror(errno));
    if (net->reserve_fd >= 0)
        close(net->reserve_fd);
    int fd = accept4(l->io.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0)
        refuse(l, fd);
    net->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    ev_io_stop(net->loop, &l->io);
    net_timer_set(net, &l->retry, (monotime){net->now.mono.ms + ACCEPT_RETRY_MS});
}

static void listener_retry(void *arg, struct now now)
{
    struct net_listener *l = arg;
    ev_io_start(l->net->loop, &l->io);
}

static void listener_event(struct ev_loop *loop, ev_io *io, int revents)
{
    struct net_listener *l = io->data;
    struct net *net = l->net;
    for (int i = 0; i < NET_ACCEPTS_PER_TURN; i++) {
        int fd = accept4(io->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
                accept_exhausted(l);
            else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != ECONNABORTED && errno != EINTR)
                log_warning("accept on %s: %s", l->text, strerror(errno));
            return;
        }
        if (net->conn_count >= net->options.max_connections ||
            (l->handler->has_room && !l->handler->has_room(l->front))) {
            refuse(l, fd);
            continue;
        }
        int one = 1;
        if (l->port)
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        net_adopt(net, fd, l->handler, l->front);
    }
}

/* ---- making listeners ----------------------------------------------------------------------------------------------- */

static void describe_address(const struct sockaddr_storage *a, char *text, size_t size, uint16_t *port)
{
    char host[INET6_ADDRSTRLEN] = "?";
    *port = 0;
    if (a->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)a;
        inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
        *port = ntohs(in->sin_port);
        snprintf(text, size, "tcp %s:%u", host, *port);
    } else if (a->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)a;
        inet_ntop(AF_INET6, &in->sin6_addr, host, sizeof(host));
        *port = ntohs(in->sin6_port);
        snprintf(text, size, "tcp [%s]:%u", host, *port);
    } else if (a->ss_family == AF_UNIX) {
        snprintf(text, size, "unix %s", ((const struct sockaddr_un *)a)->sun_path);
    } else {
        snprintf(text, size, "socket of family %d", a->ss_family);
    }
}

/* Takes the listening fd, also when it fails. */
static struct net_listener *listener_add(struct net *net, int fd, const struct net_handler *handler, void *front,
                                         char *error, size_t error_size)
{
    struct sockaddr_storage a = {0};
    socklen_t len = sizeof(a) - 1;
    struct net_listener *l = calloc(1, sizeof(*l));
    if (!l || getsockname(fd, (struct sockaddr *)&a, &len) != 0) {
        snprintf(error, error_size, "cannot set up a listener: %s", l ? strerror(errno) : "out of memory");
        free(l);
        close(fd);
        return NULL;
    }
    l->net = net;
    l->handler = handler;
    l->front = front;
    describe_address(&a, l->text, sizeof(l->text), &l->port);
    net_timer_init(&l->retry, listener_retry, l);
    ev_io_init(&l->io, listener_event, fd, EV_READ);
    l->io.data = l;
    ev_io_start(net->loop, &l->io);
    TAILQ_INSERT_TAIL(&net->listeners, l, all);
    return l;
}

static bool listen_address(struct net *net, const struct addrinfo *a, const struct net_handler *handler, void *front,
                           uint16_t *port, char *error, size_t error_size)
{
    struct sockaddr_storage address = {0};
    memcpy(&address, a->ai_addr, a->ai_addrlen);
    if (*port && a->ai_family == AF_INET)
        ((struct sockaddr_in *)&address)->sin_port = htons(*port);
    if (*port && a->ai_family == AF_INET6)
        ((struct sockaddr_in6 *)&address)->sin6_port = htons(*port);
    char text[128];
    uint16_t unused;
    describe_address(&address, text, sizeof(text), &unused);
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int one = 1;
    if (fd >= 0) {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
        if (a->ai_family == AF_INET6)
            setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)); /* 0.0.0.0 is a listener of its own */
    }
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, a->ai_addrlen) != 0 || listen(fd, LISTEN_BACKLOG) != 0) {
        int saved = errno;
        snprintf(error, error_size, "cannot listen on %s: %s", text, strerror(saved));
        if (fd >= 0)
            close(fd);
        errno = saved;
        return false;
    }
    struct net_listener *l = listener_add(net, fd, handler, front, error, error_size);
    if (l)
        *port = l->port;
    return l != NULL;
}

bool net_listen_tcp(struct net *net, const char *host, const char *port, const struct net_handler *handler, void *front,
                    char *error, size_t error_size)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *list = NULL;
    int status = getaddrinfo(strcmp(host, "*") == 0 ? NULL : host, port, &hints, &list);
    if (status != 0) {
        snprintf(error, error_size, "cannot listen on %s port %s: %s", host, port, gai_strerror(status));
        return false;
    }
    /* With port 0 the system chooses for the first address, and the others follow. A system without IPv6 still gives us
       "*" as IPv4: one address that works is enough unless it was a conflict. */
    uint16_t chosen = 0;
    unsigned listening = 0;
    bool fine = true;
    for (struct addrinfo *a = list; a && fine; a = a->ai_next) {
        if (listen_address(net, a, handler, front, &chosen, error, error_size))
            listening++;
        else if (errno != EAFNOSUPPORT && errno != EADDRNOTAVAIL)
            fine = false;
    }
    freeaddrinfo(list);
    return fine && listening > 0;
}

/* Is somebody behind this socket file? */
static bool unix_answers(const struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return true;
    int status = connect(fd, (const struct sockaddr *)address, sizeof(*address));
    bool answers = status == 0 || errno == EAGAIN || errno == EINPROGRESS;
    close(fd);
    return answers;
}

bool net_listen_unix(struct net *net, const char *path, unsigned mode, const struct net_handler *handler, void *front,
                     char *error, size_t error_size)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t len = strlen(path);
    if (len == 0 || len >= sizeof(address.sun_path)) {
        snprintf(error, error_size, "socket path '%s' is %zu bytes long; it must have 1..%zu", path, len,
                 sizeof(address.sun_path) - 1);
        return false;
    }
    memcpy(address.sun_path, path, len + 1);
    struct stat st;
    if (lstat(path, &st) == 0) {
        if (!S_ISSOCK(st.st_mode)) {
            snprintf(error, error_size, "cannot listen on unix %s: there is something that is no socket", path);
            return false;
        }
        if (unix_answers(&address)) {
            snprintf(error, error_size, "cannot listen on unix %s: another process listens there", path);
            return false;
        }
        unlink(path);
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool bound = fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
    /* Nobody can connect before listen(): the mode is set in time. */
    if (!bound || chmod(path, mode) != 0 || listen(fd, LISTEN_BACKLOG) != 0) {
        snprintf(error, error_size, "cannot listen on unix %s: %s", path, strerror(errno));
        if (bound)
            unlink(path);
        if (fd >= 0)
            close(fd);
        return false;
    }
    struct net_listener *l = listener_add(net, fd, handler, front, error, error_size);
    if (l)
        l->unlink_path = strdup(path); /* NULL: the file stays, and the next start replaces it */
    return l != NULL;
}

bool net_listen_fd(struct net *net, int fd, const struct net_handler *handler, void *front, char *error,
                   size_t error_size)
{
    int listening = 0;
    socklen_t len = sizeof(listening);
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) != 0 || !listening) {
        snprintf(error, error_size, "descriptor %d, handed over by the service manager, is no listening socket", fd);
        close(fd);
        return false;
    }
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    return listener_add(net, fd, handler, front, error, error_size) != NULL;
}

void net_each_listener(const struct net *net, const struct net_handler *handler,
                       void (*fn)(void *arg, const char *text, uint16_t port), void *arg)
{
    const struct net_listener *l;
    TAILQ_FOREACH(l, &net->listeners, all)
    if (l->handler == handler)
        fn(arg, l->text, l->port);
}

void net_close_listeners(struct net *net)
{
    for (struct net_listener *l; (l = TAILQ_FIRST(&net->listeners));) {
        TAILQ_REMOVE(&net->listeners, l, all);
        ev_io_stop(net->loop, &l->io);
        net_timer_set(net, &l->retry, MONOTIME_NEVER);
        close(l->io.fd);
        if (l->unlink_path)
            unlink(l->unlink_path);
        free(l->unlink_path);
        free(l);
    }
}
