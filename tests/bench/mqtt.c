/*
 * MQTT 3.1.1 at QoS 1, packets written by hand (OASIS mqtt-v3.1.1). `pub`: a window of unconfirmed PUBLISHes. `sub`: a
 * persistent session gathers a backlog while its client is away; the client comes back, takes and acks everything,
 * and the clock stops when the answer to a PINGREQ sent after the last PUBACK is there.
 */
#include "peer.h"

#include <stdlib.h>
#include <string.h>

#define TOPIC       "bench"
#define TOPIC_BYTES 5u

enum packet { CONNACK = 0x20, PUBLISH = 0x30, PUBACK = 0x40, SUBACK = 0x90, PINGRESP = 0xd0 };

struct packet_view {
    uint8_t head;
    const uint8_t *body;
    size_t len;
};

/* The next whole packet of the input, taken; false: not all there. */
static bool next_packet(struct peer *p, struct packet_view *view)
{
    const uint8_t *at = p->input + p->taken;
    size_t have = p->have - p->taken, len = 0, i = 1;
    for (unsigned shift = 0;; shift += 7, i++) { /* section 2.2.3: remaining length, seven bits a byte */
        if (i >= have)
            return false;
        if (i > 4)
            peer_die("mqtt: malformed remaining length");
        len |= (size_t)(at[i] & 0x7f) << shift;
        if (!(at[i] & 0x80))
            break;
    }
    if (have < i + 1 + len)
        return false;
    *view = (struct packet_view){at[0], at + i + 1, len};
    p->taken += i + 1 + len;
    return true;
}

static struct packet_view wait_packet(struct peer *p, uint8_t type)
{
    struct packet_view view;
    while (!next_packet(p, &view))
        peer_receive(p);
    if ((view.head & 0xf0) != type)
        peer_die("mqtt: expected packet type 0x%02x, got 0x%02x", type, view.head);
    return view;
}

static void send_connect(struct peer *p, const char *id, bool clean)
{
    uint8_t packet[64] = {0x10, 0, 0, 4, 'M', 'Q', 'T', 'T', 4, clean ? 2 : 0, 0, 0, 0, (uint8_t)strlen(id)};
    memcpy(packet + 14, id, strlen(id));
    packet[1] = (uint8_t)(12 + strlen(id));
    peer_send(p, packet, 14 + strlen(id));
}

static void check_connack(struct packet_view view)
{
    if (view.len != 2 || view.body[1] != 0)
        peer_die("mqtt: connection refused");
}

struct publishes {
    uint8_t *bytes; /* room for a window of packets; only packet ids change */
    size_t packet_bytes, id_offset;
    uint16_t next_id;
};

static struct publishes make_publishes(const struct peer_options *o, uint32_t window)
{
    size_t remaining = 2 + TOPIC_BYTES + 2 + o->size.value;
    uint8_t head[8] = {PUBLISH | 0x02};
    size_t head_len = 1;
    for (size_t left = remaining; head_len == 1 || left; left >>= 7)
        head[head_len++] = (uint8_t)((left & 0x7f) | (left >> 7 ? 0x80 : 0));
    struct publishes m = {.packet_bytes = head_len + remaining, .id_offset = head_len + 2 + TOPIC_BYTES};
    m.bytes = malloc(window * m.packet_bytes);
    if (!m.bytes)
        peer_die("out of memory");
    for (uint32_t i = 0; i < window; i++) {
        uint8_t *at = m.bytes + i * m.packet_bytes;
        memcpy(at, head, head_len);
        at[head_len] = 0;
        at[head_len + 1] = TOPIC_BYTES;
        memcpy(at + head_len + 2, TOPIC, TOPIC_BYTES);
        memset(at + m.id_offset + 2, 'x', o->size.value);
    }
    return m;
}

static void send_publishes(struct peer_publisher *p, uint32_t count)
{
    struct publishes *m = p->arg;
    for (uint32_t i = 0; i < count; i++) {
        uint16_t id = ++m->next_id ? m->next_id : ++m->next_id; /* never 0 */
        uint8_t *at = m->bytes + i * m->packet_bytes + m->id_offset;
        at[0] = (uint8_t)(id >> 8);
        at[1] = (uint8_t)id;
    }
    peer_send(p->peer, m->bytes, count * m->packet_bytes);
}

static uint32_t count_pubacks(struct peer_publisher *p)
{
    struct packet_view view;
    uint32_t count = 0;
    while (next_packet(p->peer, &view))
        count += (view.head & 0xf0) == PUBACK;
    return count;
}

static void subscribe_and_leave(const struct peer_options *o)
{
    static const uint8_t subscribe[] = {0x82, 5 + TOPIC_BYTES, 0, 1, 0, TOPIC_BYTES, 'b', 'e', 'n', 'c', 'h', 1};
    static const uint8_t disconnect[] = {0xe0, 0};
    struct peer p = peer_connect(o);
    send_connect(&p, "bench-consumer", true); /* forgets an older session */
    check_connack(wait_packet(&p, CONNACK));
    peer_send(&p, disconnect, sizeof disconnect);
    peer_close(&p);
    p = peer_connect(o);
    send_connect(&p, "bench-consumer", false);
    check_connack(wait_packet(&p, CONNACK));
    peer_send(&p, subscribe, sizeof subscribe);
    wait_packet(&p, SUBACK);
    peer_send(&p, disconnect, sizeof disconnect);
    peer_close(&p);
}

static void consume(const struct peer_options *o)
{
    static const uint8_t ping[] = {0xc0, 0};
    struct peer p = peer_connect(o);
    uint8_t *acks = malloc(PEER_INPUT_BYTES / 4);
    if (!acks)
        peer_die("out of memory");
    send_connect(&p, "bench-consumer", false);
    check_connack(wait_packet(&p, CONNACK));
    for (uint64_t received = 0; received < o->count.value;) {
        struct packet_view view;
        size_t len = 0;
        while (next_packet(&p, &view)) {
            if ((view.head & 0xf6) != (PUBLISH | 0x02) || view.len < 4)
                continue;
            size_t topic = (size_t)view.body[0] << 8 | view.body[1];
            uint8_t *ack = acks + len;
            ack[0] = PUBACK;
            ack[1] = 2;
            memcpy(ack + 2, view.body + 2 + topic, 2);
            len += 4;
            received++;
        }
        if (len > 0)
            peer_send(&p, acks, len);
        if (received < o->count.value)
            peer_receive(&p);
    }
    peer_send(&p, ping, sizeof ping);
    wait_packet(&p, PINGRESP);
    free(acks);
    peer_close(&p);
}

int main(int argc, char **argv)
{
    static struct peer_publisher publisher; /* large */
    struct peer_options o = peer_parse(argc, argv);
    uint32_t window = o.mode == PEER_PUB ? (uint32_t)o.window.value : 1024;
    struct publishes m = make_publishes(&o, window);
    if (o.mode == PEER_SUB)
        subscribe_and_leave(&o);
    struct peer p = peer_connect(&o);
    publisher = (struct peer_publisher){
        .peer = &p, .send = send_publishes, .confirms = count_pubacks, .arg = &m, .window = window};
    send_connect(&p, "bench-producer", true);
    check_connack(wait_packet(&p, CONNACK));
    if (o.mode == PEER_PUB) {
        peer_publish(&publisher, UINT32_MAX, o.warmup_ms.value * 1000000u);
        publisher.latency = (struct histogram){0};
        uint64_t before = publisher.confirmed;
        struct peer_result begin = peer_begin(&o);
        peer_publish(&publisher, UINT32_MAX, o.seconds_ms.value * 1000000u);
        peer_report(&o, "mqtt", &begin, publisher.confirmed - before, &publisher.latency);
    } else {
        peer_publish(&publisher, o.count.value, UINT64_MAX);
        struct peer_result begin = peer_begin(&o);
        consume(&o);
        peer_report(&o, "mqtt", &begin, o.count.value, NULL);
    }
    free(m.bytes);
    peer_close(&p);
    return 0;
}
