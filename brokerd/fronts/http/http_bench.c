/*
 * What this room costs: a route that answers 204, on one thread, beside a bare epoll loop that answers the same bytes to
 * whatever it reads. Load it with wrk -t1 -c64:
 *   http_bench PORT         the room
 *   http_bench PORT bare    the loop
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http.h"

static void none(void *arg, struct http_exchange *x, const struct http_request *r)
{
    http_respond(x, &(struct http_response){.status = 204});
}

static int room(const char *port)
{
    static const struct http_route routes[] = {{HTTP_GET, "/none", none, 0},
                                               {HTTP_POST, "/v1/queues/{queue}/messages", none, HTTP_BODY_MAX}};
    struct net_options net_options = {.read_buffer_bytes = 262144,
                                      .max_input_bytes = 64 << 20,
                                      .max_output_bytes = 64 << 20,
                                      .max_connections = 10000,
                                      .linger_ms = 1000};
    struct http_options options = {.max_head_bytes = 8192,
                                   .max_fields = 100,
                                   .max_connections = 10000,
                                   .max_body_bytes = 17 << 20,
                                   .max_chunked_bytes = 64 << 20,
                                   .max_pipelined = 64,
                                   .head_ms = 10000,
                                   .idle_ms = 120000,
                                   .body_bytes_per_second = 1024,
                                   .stall_ms = 30000,
                                   .output_bytes = 262144};
    char error[256];
    struct net *net = net_new(&net_options);
    struct http *http = net ? http_new(&options, net) : NULL;
    if (!http || !http_add_routes(http, routes, 2, NULL) ||
        !net_listen_tcp(net, "127.0.0.1", port, &http_handler, http, error, sizeof(error))) {
        fprintf(stderr, "http_bench: cannot listen\n");
        return 1;
    }
    net_run(net);
    return 0;
}

static int bare(const char *port)
{
    static const char answer[] = "HTTP/1.1 204 No Content\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n";
    static char bytes[65536];
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)strtoul(port, NULL, 10)),
                            .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0), poll = epoll_create1(0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(listener, (struct sockaddr *)&a, sizeof(a)) != 0 || listen(listener, 1024) != 0)
        return 1;
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &(struct epoll_event){.events = EPOLLIN, .data.fd = listener});
    for (;;) {
        struct epoll_event events[256];
        int n = epoll_wait(poll, events, 256, -1);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
                epoll_ctl(poll, EPOLL_CTL_ADD, fd, &(struct epoll_event){.events = EPOLLIN, .data.fd = fd});
            } else if (recv(fd, bytes, sizeof(bytes), 0) > 0) {
                send(fd, answer, sizeof(answer) - 1, MSG_NOSIGNAL);
            } else {
                close(fd);
            }
        }
    }
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: http_bench PORT [bare]\n");
        return 2;
    }
    return argc > 2 ? bare(argv[1]) : room(argv[1]);
}
