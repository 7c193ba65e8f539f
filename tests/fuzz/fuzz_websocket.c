/*
 * WebSocket from the broker's side: two clients' bytes go through a real loop, http, websocket, door and engine (over a store that
 * only remembers). What comes back must be whole, well-formed frames whose messages can be read, and nothing behind a close frame.
 *
 * The input: a byte of options (1: msgpack, 2: compression), then pieces: a byte that says what to make of it, two of its length,
 * and the piece: bytes as they are, a frame, or the frames of a fragmented message.
 */
#include <sys/socket.h>
#include <unistd.h>
#include <zlib.h>

#include "door.h"
#include "engine.h"
#include "forms.h"
#include "fuzz.h"
#include "http.h"
#include "log.h"
#include "memory_store.h"
#include "net.h"
#include "websocket.h"
#include "wire.h"

enum { PEERS = 2, OUTPUT_MAX = 2 << 20, PIECES_MAX = 64, MESSAGE_MAX = 64 << 10 };

struct peer {
    int fd;
    uint8_t out[OUTPUT_MAX]; /* what the broker said and is no whole frame yet */
    size_t len;
    bool open, closed; /* the handshake is done; a close frame came */
};

static struct {
    struct memory_store store;
    struct engine *engine;
    struct net *net;
    struct http *http;
    struct websocket *websocket;
    struct clients *clients;
    struct door *door;
    struct peer peers[PEERS];
    uint64_t committed;
    bool msgpack, deflate;
} world;

static void work(void *arg)
{
    engine_committed(world.engine, net_now(world.net), world.committed, world.committed);
    engine_tick(world.engine, net_now(world.net));
}

static void end(void *arg)
{
    world.committed = memory_store_commit(&world.store);
}

static const struct net_turn_ops turn_ops = {work, end};

/* ---- what the broker says ------------------------------------------------------------------------------------------------ */

static void check_message(const uint8_t *bytes, size_t len)
{
    if (world.msgpack) {
        CHECK(wire_count(bytes, bytes + len, 1 << 18) > 1);
        return;
    }
    char text[FORM_TEXT_BYTES];
    json_t *value = form_json_parse(bytes, len, text);
    CHECK(json_is_object(value) && json_is_string(json_object_get(value, "op")));
    json_decref(value);
}

static void check_compressed(const uint8_t *bytes, size_t len)
{
    static uint8_t in[OUTPUT_MAX + 4], out[OUTPUT_MAX];
    z_stream z = {.next_in = in, .avail_in = (uInt)len + 4, .next_out = out, .avail_out = sizeof(out)};
    memcpy(in, bytes, len);
    memcpy(in + len, "\0\0\xff\xff", 4);
    CHECK(inflateInit2(&z, -15) == Z_OK);
    CHECK(inflate(&z, Z_SYNC_FLUSH) == Z_OK && z.avail_in == 0);
    check_message(out, z.total_out);
    inflateEnd(&z);
}

/* The frame at the front of what came: its length, or 0 if it is not whole. */
static size_t check_frame(struct peer *p, const uint8_t *b, size_t len)
{
    if (len < 2)
        return 0;
    CHECK(!p->closed);
    CHECK(!(b[1] & 0x80) && (b[0] & 0x80) && !(b[0] & (world.deflate ? 0x30 : 0x70)));
    size_t n = b[1], head = n < 126 ? 2 : n == 126 ? 4 : 10;
    unsigned opcode = b[0] & 0x0f;
    if (len < head)
        return 0;
    for (size_t i = 2; i < head; i++)
        n = (i == 2 ? 0 : n << 8) | b[i];
    CHECK(head == (n < 126 ? 2u : n < 65536 ? 4u : 10u) && n < OUTPUT_MAX - 16);
    if (len < head + n)
        return 0;
    switch (opcode) {
    case 1:
    case 2:
        CHECK((opcode == 2) == world.msgpack);
        if (b[0] & 0x40)
            check_compressed(b + head, n);
        else
            check_message(b + head, n);
        break;
    case 8:
        CHECK(n == 0 || (n >= 2 && form_is_utf8(b + head + 2, n - 2)));
        p->closed = true;
        break;
    default: CHECK((opcode == 9 || opcode == 10) && n <= 125 && !(b[0] & 0x40)); break;
    }
    return head + n;
}

static void listen_to(struct peer *p)
{
    ptrdiff_t n;
    while ((n = recv(p->fd, p->out + p->len, sizeof(p->out) - p->len, MSG_DONTWAIT)) > 0) {
        size_t at = 0, used;
        p->len += (size_t)n;
        if (!p->open) {
            uint8_t *behind = memmem(p->out, p->len, "\r\n\r\n", 4);
            if (!behind)
                continue;
            CHECK(memcmp(p->out, "HTTP/1.1 101 ", 13) == 0);
            p->open = true;
            at = (size_t)(behind + 4 - p->out);
        }
        while ((used = check_frame(p, p->out + at, p->len - at)) > 0)
            at += used;
        memmove(p->out, p->out + at, p->len - at);
        p->len -= at;
    }
}

/* ---- the world ------------------------------------------------------------------------------------------------------------ */

static void turn(unsigned times)
{
    for (unsigned i = 0; i < times; i++) {
        net_turn(world.net, false);
        for (int p = 0; p < PEERS; p++)
            listen_to(&world.peers[p]);
    }
}

static void say(struct peer *p, const void *bytes, size_t len)
{
    (void)send(p->fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT); /* the broker may have closed */
}

static void connect_peer(struct peer *p)
{
    char request[400];
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) != 0)
        abort();
    p->fd = fds[0];
    p->len = 0;
    p->open = p->closed = false;
    if (!net_adopt(world.net, fds[1], &http_handler, world.http))
        abort();
    int n = snprintf(request, sizeof(request),
                     "GET /v1/ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
                     "Sec-WebSocket-Protocol: brokerd.v1.%s\r\n%s\r\n",
                     world.msgpack ? "msgpack" : "json",
                     world.deflate ? "Sec-WebSocket-Extensions: permessage-deflate\r\n" : "");
    say(p, request, (size_t)n);
}

static void begin(void)
{
    static const struct net_options net_options = {64 << 10, 4 << 20, 4 << 20, 8, 1000};
    static const struct http_options http_options = {.max_head_bytes = 8192,
                                                     .max_fields = 32,
                                                     .max_body_bytes = 1 << 16,
                                                     .max_chunked_bytes = 1 << 16,
                                                     .max_pipelined = 4,
                                                     .head_ms = 5000,
                                                     .idle_ms = 5000,
                                                     .body_bytes_per_second = 1,
                                                     .stall_ms = 5000,
                                                     .output_bytes = 64 << 10,
                                                     .origins = "",
                                                     .hosts = ""};
    static const struct door_options door_options = {8, 4, 64, 16, 100, 128 << 10, MESSAGE_MAX};
    static const struct engine_options engine_options = {
        .max_message_bytes = MESSAGE_MAX, .max_queues = 16, .max_groups_per_queue = 8, .max_producers = 16};
    struct websocket_options options = {.max_message_bytes = MESSAGE_MAX,
                                        .ping_ms = 5000,
                                        .close_ms = 1000,
                                        .output_bytes = 64 << 10,
                                        .partial_bytes = 100000,
                                        .max_subscriptions = 8,
                                        .deflate = true};
    memory_store_init(&world.store);
    world.committed = 0;
    world.net = net_new(&net_options);
    world.http = http_new(&http_options, world.net);
    world.clients = clients_new();
    world.engine = engine_new(&engine_options, &memory_store_ops, &world.store, &clients_sink_ops, world.clients);
    world.door = door_new(&door_options, world.engine, &clients_sink_ops, world.clients);
    clients_attach(world.clients, world.door);
    world.websocket = websocket_new(&options, world.http, world.clients);
    if (!world.net || !world.http || !world.clients || !world.engine || !world.door || !world.websocket)
        abort();
    engine_recovered(world.engine, net_now(world.net), 1);
    net_set_turn(world.net, &turn_ops, NULL);
    struct command create = {.type = COMMAND_QUEUE_CREATE, .queue = {"q", 1}};
    engine_submit(world.engine, net_now(world.net), &create);
    for (int i = 0; i < PEERS; i++)
        connect_peer(&world.peers[i]);
}

static void finish(void)
{
    for (int i = 0; i < PEERS; i++)
        close(world.peers[i].fd);
    net_free(world.net);
    CHECK(websocket_connections(world.websocket) == 0 && clients_count(world.clients) == 0);
    websocket_free(world.websocket);
    http_free(world.http);
    clients_free(world.clients);
    door_free(world.door);
    engine_free(world.engine);
    memory_store_release(&world.store);
}

/* ---- what the clients say ---------------------------------------------------------------------------------------------------- */

static void say_frame(struct peer *p, unsigned first, const uint8_t *bytes, size_t len)
{
    static uint8_t frame[65536 + 16];
    size_t head = len < 126 ? 2 : 4;
    frame[0] = (uint8_t)first;
    frame[1] = 0x80 | (uint8_t)(len < 126 ? len : 126);
    frame[2] = (uint8_t)(len >> 8);
    frame[3] = (uint8_t)len;
    memset(frame + head, 0, 4); /* a mask that changes nothing */
    memcpy(frame + head + 4, bytes, len);
    say(p, frame, head + 4 + len);
}

static void say_piece(struct peer *p, unsigned how, const uint8_t *bytes, size_t len)
{
    unsigned opcode = world.msgpack ? 2 : 1;
    switch (how) {
    case 0: say(p, bytes, len); break;
    case 1: say_frame(p, 0x80 | opcode, bytes, len); break;
    case 2: say_frame(p, 0xc0 | opcode, bytes, len); break; /* as if it were compressed */
    case 3:
        say_frame(p, opcode, bytes, len / 3);
        say_frame(p, 0x89, bytes, len < 125 ? len : 125);
        say_frame(p, 0x00, bytes + len / 3, len / 3);
        say_frame(p, 0x80, bytes + 2 * (len / 3), len - 2 * (len / 3));
        break;
    default: break;
    }
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    log_setup(LOG_LEVEL_ERROR, 0);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct input in = {bytes, len};
    unsigned chosen = (unsigned)input_number(&in, 1);

    world.msgpack = chosen & 1;
    world.deflate = chosen & 2;
    begin();
    turn(2);
    for (int i = 0; i < PIECES_MAX && in.len > 0; i++) {
        unsigned how = (unsigned)input_number(&in, 1);
        struct peer *p = &world.peers[how & 1];
        size_t n = (size_t)input_number(&in, 2), got;
        uint8_t *piece = input_copy(&in, n, &got);
        say_piece(p, (how >> 1) & 3, piece, got);
        free(piece);
        if ((how >> 5) == 7)
            shutdown(p->fd, SHUT_WR);
        turn((how >> 3) & 3);
    }
    turn(3);
    if (chosen & 4) {
        http_goaway(world.http, "the end");
        turn(3);
    }
    finish();
    return 0;
}
