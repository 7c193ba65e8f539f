/*
 * Redis Streams: XADD with a window, and XREADGROUP + XACK of a backlog, over RESP2 written by hand
 * (https://redis.io/docs/reference/protocol-spec). Whether a confirm waits for the disk is the server's setting.
 */
#include "peer.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* The end of the reply that begins at p, or NULL if it is not all there. */
static const uint8_t *skip_reply(const uint8_t *p, const uint8_t *end)
{
    const uint8_t *line_end = memchr(p, '\n', (size_t)(end - p));
    if (!line_end)
        return NULL;
    if (*p == '-')
        peer_die("redis: %.*s", (int)(line_end - p), (const char *)p + 1);
    const uint8_t *next = line_end + 1;
    if (*p == '$') {
        long len = strtol((const char *)p + 1, NULL, 10);
        if (len < 0)
            return next;
        return end - next < len + 2 ? NULL : next + len + 2;
    }
    if (*p == '*') {
        for (long n = strtol((const char *)p + 1, NULL, 10); n > 0 && next; n--)
            next = next < end ? skip_reply(next, end) : NULL;
    }
    return next;
}

static void wait_reply(struct peer *p)
{
    const uint8_t *end = NULL;
    while (!end) {
        if (p->have > p->taken)
            end = skip_reply(p->input + p->taken, p->input + p->have);
        if (!end)
            peer_receive(p);
    }
    p->taken = (size_t)(end - p->input);
}

static void command(struct peer *p, const char *text)
{
    peer_send(p, text, strlen(text)); /* an inline command */
    wait_reply(p);
}

struct xadd {
    char *bytes; /* `window` commands, ready to send */
    size_t command_bytes;
};

static void send_xadds(struct peer_publisher *p, uint32_t count)
{
    const struct xadd *x = p->arg;
    peer_send(p->peer, x->bytes, count * x->command_bytes);
}

static uint32_t count_replies(struct peer_publisher *p)
{
    struct peer *peer = p->peer;
    uint32_t count = 0;
    while (peer->taken < peer->have) {
        const uint8_t *end = skip_reply(peer->input + peer->taken, peer->input + peer->have);
        if (!end)
            break;
        peer->taken = (size_t)(end - peer->input);
        count++;
    }
    return count;
}

static struct xadd make_xadds(const struct peer_options *o, uint32_t window)
{
    char head[128];
    int head_len = snprintf(head, sizeof head, "*5\r\n$4\r\nXADD\r\n$5\r\nbench\r\n$1\r\n*\r\n$1\r\nd\r\n$%u\r\n",
                            (unsigned)o->size.value);
    struct xadd x = {.command_bytes = (size_t)head_len + o->size.value + 2};
    x.bytes = malloc(window * x.command_bytes);
    if (!x.bytes)
        peer_die("out of memory");
    for (uint32_t i = 0; i < window; i++) {
        char *at = x.bytes + i * x.command_bytes;
        memcpy(at, head, (size_t)head_len);
        memset(at + head_len, 'x', o->size.value);
        memcpy(at + head_len + o->size.value, "\r\n", 2);
    }
    return x;
}

/* One reply of XREADGROUP: [[stream, [[id, [field, value]], ...]]]. Appends its ids to an XACK; how many. */
static uint32_t collect_ids(const uint8_t *p, const uint8_t *end, char *ids, size_t *ids_len)
{
    const uint8_t *at = (const uint8_t *)memchr(p, '\n', (size_t)(end - p)) + 1; /* *1: the one stream */
    at = (const uint8_t *)memchr(at, '\n', (size_t)(end - at)) + 1;              /* *2: its name and its entries */
    at = skip_reply(at, end);
    long entries = strtol((const char *)at + 1, NULL, 10);
    at = (const uint8_t *)memchr(at, '\n', (size_t)(end - at)) + 1;
    for (long i = 0; i < entries; i++) {
        const uint8_t *id = (const uint8_t *)memchr(at, '\n', (size_t)(end - at)) + 1; /* *2: id and fields */
        const uint8_t *fields = skip_reply(id, end);
        memcpy(ids + *ids_len, id, (size_t)(fields - id)); /* as it came: "$15\r\n...\r\n" */
        *ids_len += (size_t)(fields - id);
        at = skip_reply(fields, end);
    }
    return (uint32_t)entries;
}

static void consume(struct peer *p, const struct peer_options *o)
{
    char read_command[256];
    char *ack = malloc(o->batch.value * 64 + 256), *ids = malloc(o->batch.value * 64 + 256);
    if (!ack || !ids)
        peer_die("out of memory");
    int read_len = snprintf(read_command, sizeof read_command,
                            "XREADGROUP GROUP g c COUNT %" PRIu64 " STREAMS bench >\r\n", o->batch.value);
    peer_send(p, read_command, (size_t)read_len);
    for (uint64_t received = 0; received < o->count.value;) {
        size_t ids_len = 0;
        const uint8_t *end;
        while (p->have == p->taken || !(end = skip_reply(p->input + p->taken, p->input + p->have)))
            peer_receive(p);
        uint32_t got = collect_ids(p->input + p->taken, end, ids, &ids_len);
        p->taken = (size_t)(end - p->input);
        received += got;
        size_t len = (size_t)snprintf(ack, 256, "*%u\r\n$4\r\nXACK\r\n$5\r\nbench\r\n$1\r\ng\r\n", got + 3);
        memcpy(ack + len, ids, ids_len);
        len += ids_len;
        if (received < o->count.value) { /* the next read goes with the ack: one round trip for both */
            memcpy(ack + len, read_command, (size_t)read_len);
            len += (size_t)read_len;
        }
        peer_send(p, ack, len);
        wait_reply(p); /* the ack's */
    }
    free(ack);
    free(ids);
}

int main(int argc, char **argv)
{
    static struct peer_publisher publisher; /* large */
    struct peer_options o = peer_parse(argc, argv);
    struct peer p = peer_connect(&o);
    uint32_t window = o.mode == PEER_PUB ? (uint32_t)o.window.value : 2048;
    struct xadd x = make_xadds(&o, window);
    publisher =
        (struct peer_publisher){.peer = &p, .send = send_xadds, .confirms = count_replies, .arg = &x, .window = window};
    command(&p, "DEL bench\r\n");
    if (o.mode == PEER_PUB) {
        peer_publish(&publisher, UINT32_MAX, o.warmup_ms.value * 1000000u);
        publisher.latency = (struct histogram){0};
        uint64_t before = publisher.confirmed;
        struct peer_result begin = peer_begin(&o);
        peer_publish(&publisher, UINT32_MAX, o.seconds_ms.value * 1000000u);
        peer_report(&o, "redis", &begin, publisher.confirmed - before, &publisher.latency);
    } else {
        command(&p, "CONFIG SET appendfsync no\r\n"); /* the backlog's loading is not what is measured */
        peer_publish(&publisher, o.count.value, UINT64_MAX);
        command(&p, "CONFIG SET appendfsync always\r\n");
        command(&p, "XGROUP CREATE bench g 0\r\n");
        struct peer_result begin = peer_begin(&o);
        consume(&p, &o);
        peer_report(&o, "redis", &begin, o.count.value, NULL);
    }
    free(x.bytes);
    peer_close(&p);
    return 0;
}
