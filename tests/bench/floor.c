/*
 * The floor: what a bare server does that writes and syncs before it confirms, and nothing else. One epoll thread, one
 * zero-filled log that is written round and round, a CRC32C for each message, one pwrite and one fdatasync per turn
 * of the loop, then the acks. No queue, no index, no consumer. The client is the same program's other process: it
 * keeps `window` messages unconfirmed, in lockstep. An upper bound to compare with, not a broker.
 *
 * Message: u32 body length, 28 bytes of zeros, body. Stored record: the same with a CRC. Ack: u32 count of messages.
 */
#include "args.h"
#include "histogram.h"
#include "json.h"
#include "machine.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <isa-l/crc.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define HEAD_BYTES 32u

struct options {
    struct arg_number size, window, seconds_ms, warmup_ms, log_bytes;
    const char *dir;
    bool no_sync, json, help;
};

#define AT(field) offsetof(struct options, field)
static const struct arg_option options_table[] = {
    {"size", 0, ARG_SIZE, "SIZE", "128", "of a body", AT(size), 1, 1 << 20},
    {"window", 0, ARG_NUMBER, "N", "256", "unconfirmed messages", AT(window), 1, 65536},
    {"seconds", 0, ARG_DURATION, "TIME", "5s", "how long", AT(seconds_ms), 1, 3600000},
    {"warmup", 0, ARG_DURATION, "TIME", "1s", "before, not counted", AT(warmup_ms), 0, 3600000},
    {"log", 0, ARG_SIZE, "SIZE", "256MiB", "of the log", AT(log_bytes), 1 << 20, 1ull << 36},
    {"dir", 0, ARG_TEXT, "DIR", ".", "where the log goes", AT(dir), 0, 0},
    {"no-sync", 0, ARG_FLAG, NULL, NULL, "confirm once written", AT(no_sync), 0, 0},
    {"json", 0, ARG_FLAG, NULL, NULL, "result as JSON", AT(json), 0, 0},
    {"help", 'h', ARG_FLAG, NULL, NULL, "this help", AT(help), 0, 0},
    {0},
};
#undef AT

__attribute__((noreturn)) static void die(const char *what)
{
    fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int open_log(const struct options *o)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/floor-XXXXXX", o->dir);
    int fd = mkstemp(path);
    if (fd < 0)
        die(path);
    unlink(path);
    static const char zeros[1 << 20];
    for (uint64_t at = 0; at < o->log_bytes.value; at += sizeof zeros) {
        if (pwrite(fd, zeros, sizeof zeros, (off_t)at) != (ssize_t)sizeof zeros)
            die("cannot fill the log with zeros");
    }
    if (fsync(fd) != 0)
        die("cannot sync the log");
    return fd;
}

struct server {
    int log, connection;
    uint8_t *input, *output; /* capacity bytes each */
    size_t capacity, have;
    uint64_t position, log_bytes, syncs;
    bool sync;
};

/* Whole messages of the input become records of the output; what is left of the last one moves to the front. */
static uint32_t take_messages(struct server *s, size_t *record_bytes)
{
    size_t at = 0;
    uint32_t count = 0;
    while (s->have - at >= HEAD_BYTES) {
        uint32_t body;
        memcpy(&body, s->input + at, 4);
        size_t total = HEAD_BYTES + body;
        if (s->have - at < total)
            break;
        uint8_t *record = s->output + at;
        memcpy(record, s->input + at, total);
        uint32_t crc = crc32_iscsi(record + 8, (int)total - 8, 0xffffffffu);
        memcpy(record + 4, &crc, 4);
        at += total;
        count++;
    }
    memmove(s->input, s->input + at, s->have - at);
    s->have -= at;
    *record_bytes = at;
    return count;
}

static void store_records(struct server *s, size_t bytes)
{
    if (s->position + bytes > s->log_bytes)
        s->position = 0;
    if (pwrite(s->log, s->output, bytes, (off_t)s->position) != (ssize_t)bytes)
        die("cannot write the log");
    s->position += bytes;
    if (s->sync && fdatasync(s->log) != 0)
        die("cannot sync the log");
}

static void serve(struct server *s)
{
    int epoll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN};
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, s->connection, &event) != 0)
        die("epoll");
    for (;;) {
        if (epoll_wait(epoll, &event, 1, -1) < 0 && errno != EINTR)
            die("epoll_wait");
        ssize_t n = recv(s->connection, s->input + s->have, s->capacity - s->have, MSG_DONTWAIT);
        if (n == 0)
            exit(0);
        if (n < 0 && errno != EAGAIN)
            die("recv");
        s->have += n > 0 ? (size_t)n : 0;
        size_t bytes;
        uint32_t count = take_messages(s, &bytes);
        if (count == 0)
            continue;
        store_records(s, bytes);
        if (send(s->connection, &count, sizeof count, MSG_NOSIGNAL) != (ssize_t)sizeof count)
            exit(0);
    }
}

/* Fork the server; the client's end of the connection. */
static int start_server(const struct options *o, int log, pid_t *pid)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, len) != 0 || listen(listener, 1) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &len) != 0)
        die("listen on 127.0.0.1");
    *pid = fork();
    if (*pid < 0)
        die("fork");
    if (*pid == 0) {
        struct server s = {.log = log, .sync = !o->no_sync, .log_bytes = o->log_bytes.value, .capacity = 4u << 20};
        s.connection = accept(listener, NULL, NULL);
        s.input = malloc(s.capacity);
        s.output = malloc(s.capacity);
        if (s.connection < 0 || !s.input || !s.output)
            die("accept");
        setsockopt(s.connection, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        serve(&s);
    }
    int client = socket(AF_INET, SOCK_STREAM, 0);
    if (client < 0 || connect(client, (struct sockaddr *)&address, len) != 0)
        die("connect");
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    close(listener);
    return client;
}

struct client {
    int fd;
    uint8_t *messages; /* `window` of them, ready to send */
    size_t message_bytes;
    uint32_t window, unconfirmed;
    uint64_t confirmed;
    struct {
        uint64_t sent_ns;
        uint32_t left;
    } sends[65536]; /* in order: [first, end) are not confirmed */
    uint32_t first, end;
    struct histogram latency;
};

static void send_messages(struct client *c, uint32_t count)
{
    size_t bytes = count * c->message_bytes, done = 0;
    c->sends[c->end % 65536].sent_ns = machine_now_ns();
    c->sends[c->end++ % 65536].left = count;
    c->unconfirmed += count;
    while (done < bytes) {
        ssize_t n = send(c->fd, c->messages + done, bytes - done, MSG_NOSIGNAL);
        if (n < 0)
            die("send");
        done += (size_t)n;
    }
}

static uint32_t receive_acks(struct client *c)
{
    uint32_t acks[1024], total = 0;
    ssize_t n = recv(c->fd, acks, sizeof acks, 0);
    if (n <= 0 || n % 4 != 0) /* the server writes four bytes at a time; loopback does not cut them */
        die("the server has gone");
    uint64_t now = machine_now_ns();
    for (ssize_t i = 0; i < n / 4; i++)
        total += acks[i];
    for (uint32_t left = total; left > 0;) {
        uint32_t *of_send = &c->sends[c->first % 65536].left, take = left < *of_send ? left : *of_send;
        histogram_add(&c->latency, now - c->sends[c->first % 65536].sent_ns, take);
        *of_send -= take;
        left -= take;
        if (*of_send == 0)
            c->first++;
    }
    c->unconfirmed -= total;
    c->confirmed += total;
    return total;
}

static void run(struct client *c, uint64_t duration_ns)
{
    uint64_t end = machine_now_ns() + duration_ns;
    send_messages(c, c->window);
    while (machine_now_ns() < end)
        send_messages(c, receive_acks(c));
    while (c->unconfirmed > 0)
        receive_acks(c);
}

static void report(const struct options *o, const struct client *c, double seconds, double server_cpu,
                   double client_cpu, uint64_t everything)
{
    double rate = (double)c->confirmed / seconds, millions = (double)everything / 1e6;
    double p50 = (double)histogram_percentile(&c->latency, 50) / 1e3,
           p99 = (double)histogram_percentile(&c->latency, 99) / 1e3;
    struct text out = {0};
    struct json j = {.out = &out};
    json_open(&j, '{');
    json_put_text(&j, "mode", "floor");
    json_put_u64(&j, "size", o->size.value);
    json_put_u64(&j, "window", o->window.value);
    json_put_bool(&j, "sync", !o->no_sync);
    json_put_u64(&j, "messages", c->confirmed);
    json_put_real(&j, "rate", rate);
    json_put_real(&j, "p50_us", p50);
    json_put_real(&j, "p99_us", p99);
    json_put_real(&j, "server_cpu_s_per_million", server_cpu / millions);
    json_put_real(&j, "client_cpu_s_per_million", client_cpu / millions);
    json_close(&j, '}');
    if (o->json)
        printf("%.*s\n", (int)out.len, out.bytes);
    else
        printf("%.0f messages/s confirmed%s; p50 %.0f µs, p99 %.0f µs; CPU per million: server %.3f s, client %.3f s\n",
               rate, o->no_sync ? " (not synced)" : "", p50, p99, server_cpu / millions, client_cpu / millions);
    text_release(&out);
}

int main(int argc, char **argv)
{
    static struct client c; /* large */
    struct options o = {0};
    struct arg_set set = {options_table, &o};
    char error[256];
    int first;
    if (!args_parse(&set, 1, argc, argv, false, true, &first, error, sizeof error) || first < argc) {
        fprintf(stderr, "floor: %s\n", first < argc ? "takes no operands" : error);
        return 2;
    }
    if (o.help) {
        args_print_help(stdout, options_table, NULL);
        return 0;
    }
    pid_t pid;
    int log = open_log(&o);
    c.fd = start_server(&o, log, &pid);
    c.window = (uint32_t)o.window.value;
    c.message_bytes = HEAD_BYTES + o.size.value;
    c.messages = calloc(c.window, c.message_bytes);
    if (!c.messages)
        die("memory for a window of messages");
    for (uint32_t i = 0; i < c.window; i++) {
        uint32_t body = (uint32_t)o.size.value;
        memcpy(c.messages + i * c.message_bytes, &body, 4);
        memset(c.messages + i * c.message_bytes + HEAD_BYTES, 'x', body);
    }
    run(&c, o.warmup_ms.value * 1000000u);
    uint64_t warm = c.confirmed;
    c.confirmed = 0;
    c.latency = (struct histogram){0};
    uint64_t start = machine_now_ns(), cpu = machine_cpu_us();
    run(&c, o.seconds_ms.value * 1000000u);
    double seconds = (double)(machine_now_ns() - start) / 1e9, client_cpu = (double)(machine_cpu_us() - cpu) / 1e6;
    close(c.fd);
    int status;
    struct rusage usage = {0};
    if (wait4(pid, &status, 0, &usage) != pid || status != 0)
        die("the server failed");
    double server_cpu = (double)usage.ru_utime.tv_sec + (double)usage.ru_stime.tv_sec +
                        (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    /* The server's time includes the warm-up, the client's does not. */
    uint64_t everything = c.confirmed + warm;
    report(&o, &c, seconds, server_cpu, client_cpu * (double)everything / (double)c.confirmed, everything);
    free(c.messages);
    return 0;
}
