/*
 * One message to many subscribers, over server-sent events or WebSocket: how many deliveries a second? The same program
 * drives the broker and nginx with nchan (tests/bench/web.py starts them); it knows HTTP as little as it needs to.
 *
 *   bench_fanout --port N --publish PATH --subscribe PATH [--subscribers 1000] [--in-flight 8] [--size 128] [--seconds 5]
 *                [--websocket] [--protocol NAME] [--hello TEXT] [--json]
 *
 * Every body has one 'Q' in it, which neither server writes anywhere else: counting those counts deliveries. A message is in
 * flight until as many deliveries have come as there are subscribers; its publisher then sends the next. --hello: a text frame
 * that each WebSocket sends first. Prints deliveries per second and the latency from the publish's sending to its last delivery.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "histogram.h"

enum { IN_FLIGHT_MAX = 64, EVENTS = 512, READ_BYTES = 1 << 18, SENT_RING = 4096 };

static struct {
    int port, subscribers, in_flight, size;
    double seconds;
    const char *publish, *subscribe, *protocol, *hello;
    bool websocket, json;
} options = {.subscribers = 1000, .in_flight = 8, .size = 128, .seconds = 5};

static int poll_fd;
static char *request; /* a publish, ready to send */
static size_t request_len;
static uint64_t published, delivered, sent_ns[SENT_RING];
static struct histogram latency;
static char read_buffer[READ_BYTES];

__attribute__((noreturn)) static void die(const char *what)
{
    fprintf(stderr, "bench_fanout: %s: %s\n", what, errno ? strerror(errno) : "not as expected");
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int dial(void)
{
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)options.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) != 0)
        die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return fd;
}

static void send_all(int fd, const void *bytes, size_t n)
{
    if (send(fd, bytes, n, MSG_NOSIGNAL) != (ssize_t)n)
        die("send");
}

/* Byte by byte, so that nothing of what follows the head is taken. */
static void read_head(int fd)
{
    char head[4096];
    size_t n = 0;
    while (n < sizeof(head) - 1 && (n < 4 || memcmp(head + n - 4, "\r\n\r\n", 4) != 0)) {
        ssize_t got = recv(fd, head + n, 1, 0);
        if (got <= 0)
            die("the connection ended in its head");
        n++;
    }
    head[n] = 0;
    if (strncmp(head, options.websocket ? "HTTP/1.1 101" : "HTTP/1.1 200", 12) != 0) {
        errno = 0;
        die(head);
    }
}

static void send_text_frame(int fd, const char *text)
{
    size_t len = strlen(text);
    uint8_t frame[512] = {0x81, (uint8_t)(0x80 | len), 0, 0, 0, 0}; /* the mask is zero: the bytes stay as they are */
    if (len > 125)
        die("--hello: at most 125 bytes");
    memcpy(frame + 6, text, len);
    send_all(fd, frame, 6 + len);
}

static int subscribe(void)
{
    char head[2048], protocol[256] = "";
    int fd = dial();
    if (options.protocol)
        snprintf(protocol, sizeof(protocol), "Sec-WebSocket-Protocol: %s\r\n", options.protocol);
    int n =
        options.websocket
            ? snprintf(head, sizeof(head),
                       "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                       "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s\r\n",
                       options.subscribe, options.port, protocol)
            : snprintf(head, sizeof(head), "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: text/event-stream\r\n\r\n",
                       options.subscribe, options.port);
    send_all(fd, head, (size_t)n);
    read_head(fd);
    if (options.hello)
        send_text_frame(fd, options.hello);
    return fd;
}

static void make_request(void)
{
    size_t room = (size_t)options.size + 1024;
    request = malloc(room);
    if (!request)
        die("malloc");
    int n = snprintf(request, room,
                     "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n",
                     options.publish, options.port, options.size);
    memset(request + n, 'x', (size_t)options.size);
    request[n] = 'Q';
    request_len = (size_t)n + (size_t)options.size;
}

static void watch(int fd, uint32_t id)
{
    struct epoll_event e = {.events = EPOLLIN, .data.u32 = id};
    if (epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &e) != 0)
        die("epoll_ctl");
}

static void publish(int fd)
{
    sent_ns[published++ % SENT_RING] = now_ns();
    send_all(fd, request, request_len);
}

static void count(const char *bytes, size_t n)
{
    for (const char *p = bytes, *end = bytes + n; (p = memchr(p, 'Q', (size_t)(end - p))); p++) {
        delivered++;
        if (delivered % (uint64_t)options.subscribers == 0)
            histogram_add(&latency, now_ns() - sent_ns[(delivered / (uint64_t)options.subscribers - 1) % SENT_RING], 1);
    }
}

/* Messages that have not reached everybody, as far as a sum can tell. */
static uint64_t in_flight(void)
{
    return published - delivered / (uint64_t)options.subscribers;
}

static void run(int *subscribers, int *publishers, bool *busy)
{
    struct epoll_event events[EVENTS];
    uint64_t begin = now_ns(), end = begin + (uint64_t)(options.seconds * 1e9), before = delivered;
    uint64_t deadline = end + 20000000000u;
    while (now_ns() < end || (in_flight() > 0 && now_ns() < deadline)) {
        for (int i = 0; i < options.in_flight && now_ns() < end; i++) {
            if (!busy[i] && in_flight() < (uint64_t)options.in_flight) {
                busy[i] = true;
                publish(publishers[i]);
            }
        }
        int n = epoll_wait(poll_fd, events, EVENTS, 100);
        for (int i = 0; i < n; i++) {
            uint32_t id = events[i].data.u32;
            bool is_publisher = id >= (uint32_t)options.subscribers;
            int fd = is_publisher ? publishers[id - (uint32_t)options.subscribers] : subscribers[id];
            ssize_t got = recv(fd, read_buffer, sizeof(read_buffer), MSG_DONTWAIT);
            if (got == 0 || (got < 0 && errno != EAGAIN))
                die(is_publisher ? "a publisher was cut off" : "a subscriber was cut off");
            if (got > 0 && is_publisher) {
                if (memcmp(read_buffer, "HTTP/1.1 2", 10) != 0) {
                    errno = 0;
                    read_buffer[got < 300 ? got : 300] = 0;
                    die(read_buffer);
                }
                busy[id - (uint32_t)options.subscribers] = false;
            } else if (got > 0) {
                count(read_buffer, (size_t)got);
            }
        }
    }
    double seconds = (double)(now_ns() - begin) / 1e9, rate = (double)(delivered - before) / seconds;
    bool whole = in_flight() == 0;
    if (options.json)
        printf("{\"rate\": %.0f, \"published\": %llu, \"delivered\": %llu, \"whole\": %s, \"p50_ms\": %.2f, "
               "\"p99_ms\": %.2f}\n",
               rate, (unsigned long long)published, (unsigned long long)delivered, whole ? "true" : "false",
               (double)histogram_percentile(&latency, 50) / 1e6, (double)histogram_percentile(&latency, 99) / 1e6);
    else
        printf("%.0f deliveries/s to %d subscribers; %llu published, %llu delivered%s; to the last one p50 %.2f ms, "
               "p99 %.2f ms\n",
               rate, options.subscribers, (unsigned long long)published, (unsigned long long)delivered,
               whole ? "" : " (NOT ALL)", (double)histogram_percentile(&latency, 50) / 1e6,
               (double)histogram_percentile(&latency, 99) / 1e6);
}

static void parse(int argc, char **argv)
{
    static const struct option longs[] = {
        {"port", 1, 0, 'p'},      {"publish", 1, 0, 'P'}, {"subscribe", 1, 0, 'S'}, {"subscribers", 1, 0, 'n'},
        {"in-flight", 1, 0, 'f'}, {"size", 1, 0, 's'},    {"seconds", 1, 0, 't'},   {"websocket", 0, 0, 'w'},
        {"protocol", 1, 0, 'c'},  {"hello", 1, 0, 'h'},   {"json", 0, 0, 'j'},      {0, 0, 0, 0},
    };
    int opt;
    while ((opt = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        switch (opt) {
        case 'p': options.port = (int)strtol(optarg, NULL, 10); break;
        case 'P': options.publish = optarg; break;
        case 'S': options.subscribe = optarg; break;
        case 'n': options.subscribers = (int)strtol(optarg, NULL, 10); break;
        case 'f': options.in_flight = (int)strtol(optarg, NULL, 10); break;
        case 's': options.size = (int)strtol(optarg, NULL, 10); break;
        case 't': options.seconds = strtod(optarg, NULL); break;
        case 'w': options.websocket = true; break;
        case 'c': options.protocol = optarg; break;
        case 'h': options.hello = optarg; break;
        case 'j': options.json = true; break;
        default: exit(2);
        }
    }
    if (options.port <= 0 || !options.publish || !options.subscribe || options.subscribers < 1 ||
        options.in_flight < 1 || options.in_flight > IN_FLIGHT_MAX || options.size < 1 || options.size > 65536) {
        fprintf(stderr, "usage: see the head of tests/bench/fanout.c\n");
        exit(2);
    }
}

int main(int argc, char **argv)
{
    struct rlimit files;
    bool busy[IN_FLIGHT_MAX] = {false};
    int publishers[IN_FLIGHT_MAX];
    parse(argc, argv);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    int *subscribers = calloc((size_t)options.subscribers, sizeof(*subscribers));
    poll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (!subscribers || poll_fd < 0)
        die("setup");
    make_request();
    for (int i = 0; i < options.subscribers; i++)
        watch(subscribers[i] = subscribe(), (uint32_t)i);
    for (int i = 0; i < options.in_flight; i++)
        watch(publishers[i] = dial(), (uint32_t)(options.subscribers + i));
    run(subscribers, publishers, busy);
    return in_flight() == 0 ? 0 : 1;
}
