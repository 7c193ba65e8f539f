#include "peer.h"

#include "json.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define AT(field) offsetof(struct peer_options, field)
static const struct arg_option options_table[] = {
    {"mode", 0, ARG_CHOICE, "pub|sub", "pub", "publish, or consume and ack a backlog", AT(mode), 0, 0},
    {"port", 0, ARG_NUMBER, "N", NULL, "of the server on 127.0.0.1", AT(port), 1, 65535},
    {"pid", 0, ARG_NUMBER, "N", NULL, "of the server: its CPU time and memory are reported", AT(pid), 1, 1 << 30},
    {"size", 0, ARG_SIZE, "SIZE", "128", "of a body", AT(size), 1, 65536},
    {"window", 0, ARG_NUMBER, "N", "256", "unconfirmed publishes", AT(window), 1, PEER_WINDOW_MAX - 1},
    {"seconds", 0, ARG_DURATION, "TIME", "5s", "how long to publish", AT(seconds_ms), 1, 3600000},
    {"warmup", 0, ARG_DURATION, "TIME", "1s", "before, not counted", AT(warmup_ms), 0, 3600000},
    {"count", 'n', ARG_NUMBER, "N", "500k", "backlog to consume", AT(count), 1, 100000000},
    {"batch", 0, ARG_NUMBER, "N", "1000", "messages asked for at a time", AT(batch), 1, 10000},
    {"json", 0, ARG_FLAG, NULL, NULL, "result as JSON", AT(json), 0, 0},
    {"help", 'h', ARG_FLAG, NULL, NULL, "this help", AT(help), 0, 0},
    {0},
};
#undef AT

void peer_die(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "bench driver: ");
    vfprintf(stderr, format, args);
    fprintf(stderr, "\n");
    va_end(args);
    exit(1);
}

struct peer_options peer_parse(int argc, char **argv)
{
    struct peer_options o = {0};
    struct arg_set set = {options_table, &o};
    char error[256];
    int first;
    if (!args_parse(&set, 1, argc, argv, false, true, &first, error, sizeof error))
        peer_die("%s", error);
    if (o.help) {
        args_print_help(stdout, options_table, NULL);
        exit(0);
    }
    if (first < argc || !o.port.given)
        peer_die("usage: --port N [options]; see --help");
    return o;
}

struct peer peer_connect(const struct peer_options *o)
{
    struct peer p = {.input = malloc(PEER_INPUT_BYTES)};
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((uint16_t)o->port.value)};
    int one = 1;
    p.fd = socket(AF_INET, SOCK_STREAM, 0);
    if (p.fd < 0 || !p.input || connect(p.fd, (struct sockaddr *)&address, sizeof address) != 0)
        peer_die("cannot connect to 127.0.0.1:%u: %s", (unsigned)o->port.value, strerror(errno));
    setsockopt(p.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return p;
}

void peer_close(struct peer *p)
{
    close(p->fd);
    free(p->input);
}

void peer_send(struct peer *p, const void *bytes, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = send(p->fd, (const uint8_t *)bytes + done, len - done, MSG_NOSIGNAL);
        if (n < 0)
            peer_die("cannot send: %s", strerror(errno));
        done += (size_t)n;
    }
}

void peer_receive(struct peer *p)
{
    if (p->taken > 0) {
        memmove(p->input, p->input + p->taken, p->have - p->taken);
        p->have -= p->taken;
        p->taken = 0;
    }
    if (p->have == PEER_INPUT_BYTES)
        peer_die("an answer is longer than %zu bytes", PEER_INPUT_BYTES);
    ssize_t n = recv(p->fd, p->input + p->have, PEER_INPUT_BYTES - p->have, 0);
    if (n <= 0)
        peer_die("the server closed the connection");
    p->have += (size_t)n;
}

static void send_some(struct peer_publisher *p, uint32_t count)
{
    if (count == 0)
        return;
    p->sends[p->end % PEER_WINDOW_MAX].sent_ns = machine_now_ns();
    p->sends[p->end++ % PEER_WINDOW_MAX].left = count;
    p->send(p, count);
    p->sent += count;
}

static uint32_t receive_some(struct peer_publisher *p)
{
    peer_receive(p->peer);
    uint32_t total = p->confirms(p);
    uint64_t now = machine_now_ns();
    for (uint32_t left = total; left > 0;) {
        uint32_t *of_send = &p->sends[p->first % PEER_WINDOW_MAX].left, take = left < *of_send ? left : *of_send;
        histogram_add(&p->latency, now - p->sends[p->first % PEER_WINDOW_MAX].sent_ns, take);
        *of_send -= take;
        left -= take;
        if (*of_send == 0)
            p->first++;
    }
    p->confirmed += total;
    return total;
}

void peer_publish(struct peer_publisher *p, uint64_t count, uint64_t duration_ns)
{
    uint64_t start = machine_now_ns(), target = p->sent + count;
    uint64_t first = count < p->window ? count : p->window;
    send_some(p, (uint32_t)first);
    while (p->sent < target && machine_now_ns() - start < duration_ns) {
        uint32_t confirmed = receive_some(p);
        send_some(p, target - p->sent < confirmed ? (uint32_t)(target - p->sent) : confirmed);
    }
    while (p->confirmed < p->sent)
        receive_some(p);
}

struct peer_result peer_begin(const struct peer_options *o)
{
    return (struct peer_result){.start_ns = machine_now_ns(),
                                .client_cpu_us = machine_cpu_us(),
                                .server_cpu_us = o->pid.given ? machine_process_cpu_us((pid_t)o->pid.value) : 0};
}

void peer_report(const struct peer_options *o, const char *name, const struct peer_result *begin, uint64_t messages,
                 const struct histogram *latency)
{
    struct peer_result end = peer_begin(o);
    double seconds = (double)(end.start_ns - begin->start_ns) / 1e9, rate = (double)messages / seconds;
    double server = (double)(end.server_cpu_us - begin->server_cpu_us) / (double)messages;
    double client = (double)(end.client_cpu_us - begin->client_cpu_us) / (double)messages;
    uint64_t rss = o->pid.given ? machine_process_rss_bytes((pid_t)o->pid.value) : 0;
    struct text out = {0};
    struct json j = {.out = &out};
    json_open(&j, '{');
    json_put_text(&j, "peer", name);
    json_put_text(&j, "mode", o->mode == PEER_PUB ? "pub" : "sub");
    json_put_u64(&j, "messages", messages);
    json_put_real(&j, "rate", rate);
    if (latency) {
        json_put_real(&j, "p50_us", (double)histogram_percentile(latency, 50) / 1e3);
        json_put_real(&j, "p99_us", (double)histogram_percentile(latency, 99) / 1e3);
    }
    json_put_real(&j, "server_cpu_s_per_million", server);
    json_put_real(&j, "client_cpu_s_per_million", client);
    json_put_u64(&j, "server_rss_bytes", rss);
    json_close(&j, '}');
    if (o->json)
        printf("%.*s\n", (int)out.len, out.bytes);
    else
        printf("%s %s: %.0f messages/s; CPU s per million: server %.2f, client %.2f; server %.1f MiB\n", name,
               o->mode == PEER_PUB ? "pub" : "sub", rate, server, client, (double)rss / 1048576);
    text_release(&out);
}
