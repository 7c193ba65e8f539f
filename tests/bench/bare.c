/*
 * The least that an HTTP server can do: one thread, epoll, and 204 to every POST over keep-alive connections. What
 * tests/bench/web.py holds the broker's durable publish against. It finds the end of the head, adds the Content-Length, and
 * understands nothing else.
 *
 *   bench_bare      prints its port, serves until it is killed
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONNS_MAX = 4096, BUFFER_BYTES = 65536, EVENTS = 256 };

static const char ANSWER[] = "HTTP/1.1 204 No Content\r\n\r\n";

struct conn {
    size_t have;
    char bytes[BUFFER_BYTES];
};
static struct conn *conns[CONNS_MAX];

static void die(const char *what)
{
    perror(what);
    exit(1);
}

/* Length of the first whole request, or 0. */
static size_t whole_request(const char *bytes, size_t len)
{
    const char *end = memmem(bytes, len, "\r\n\r\n", 4);
    if (!end)
        return 0;
    size_t head = (size_t)(end - bytes) + 4, body = 0;
    for (const char *line = memchr(bytes, '\n', head); line && line + 1 < end;
         line = memchr(line + 1, '\n', (size_t)(end - line)))
        if (strncasecmp(line + 1, "content-length:", 15) == 0)
            body = strtoul(line + 16, NULL, 10);
    return len >= head + body ? head + body : 0;
}

static void serve(int fd)
{
    struct conn *c = conns[fd];
    char out[64 * sizeof(ANSWER)];
    size_t used = 0, n, out_len = 0;
    ssize_t got = recv(fd, c->bytes + c->have, sizeof(c->bytes) - c->have, 0);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0) {
        close(fd);
        free(c);
        conns[fd] = NULL;
        return;
    }
    c->have += (size_t)got;
    while ((n = whole_request(c->bytes + used, c->have - used)) > 0 && out_len + sizeof(ANSWER) <= sizeof(out)) {
        memcpy(out + out_len, ANSWER, sizeof(ANSWER) - 1);
        out_len += sizeof(ANSWER) - 1;
        used += n;
    }
    memmove(c->bytes, c->bytes + used, c->have - used);
    c->have -= used;
    if (out_len && send(fd, out, out_len, MSG_NOSIGNAL) < 0 && errno != EAGAIN)
        shutdown(fd, SHUT_RDWR);
}

static void accept_all(int listener, int poll)
{
    int fd, one = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        if (fd >= CONNS_MAX || !(conns[fd] = calloc(1, sizeof(struct conn)))) {
            close(fd);
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
        if (epoll_ctl(poll, EPOLL_CTL_ADD, fd, &e) != 0)
            die("epoll_ctl");
    }
}

int main(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), poll = epoll_create1(EPOLL_CLOEXEC);
    if (listener < 0 || poll < 0 || bind(listener, (struct sockaddr *)&a, len) != 0 || listen(listener, 1024) != 0 ||
        getsockname(listener, (struct sockaddr *)&a, &len) != 0)
        die("listen");
    struct epoll_event e = {.events = EPOLLIN, .data.fd = listener}, events[EVENTS];
    if (epoll_ctl(poll, EPOLL_CTL_ADD, listener, &e) != 0)
        die("epoll_ctl");
    printf("%u\n", ntohs(a.sin_port));
    fflush(stdout);
    for (;;) {
        int n = epoll_wait(poll, events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            if (events[i].data.fd == listener)
                accept_all(listener, poll);
            else
                serve(events[i].data.fd);
        }
    }
}
