/*
 * The native protocol from the broker's side: bytes of two clients go through a real loop, front, door and engine (over a
 * store that only remembers). What comes back must be whole, well-formed frames, at most one answer a request.
 */
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "door.h"
#include "engine.h"
#include "front_tcp.h"
#include "fuzz.h"
#include "memory_store.h"
#include "net.h"
#include "wire.h"

enum { PEERS = 2, OUTPUT_MAX = 1 << 20, FRAME_MAX = 256 << 10, CHUNKS_MAX = 64 };

struct peer {
    int fd;
    uint8_t out[OUTPUT_MAX]; /* what the broker said and is no whole frame yet */
    size_t len;
};

static struct {
    struct memory_store store;
    struct engine *engine;
    struct net *net;
    struct front_tcp *front;
    struct clients *clients;
    struct door *door;
    struct peer peers[PEERS];
    uint64_t committed;
    struct { /* the one backup there can be, and a read of it that is answered a turn later */
        uint64_t conn;
        struct backup_asker asker;
        backup_bytes *read;
        void *arg;
    } backup;
} world;

static void backup_begin(void *backup, struct backup_asker asker, backup_begun *done, void *arg)
{
    static const struct backup_file file = {"segment-1.log", 8192, 4096};
    static const struct backup_listing listing = {&file, 1, 4096, 7};

    if (world.backup.conn) {
        done(arg, asker, BROKER_LIMIT_REACHED, "one is open", NULL);
        return;
    }
    world.backup.conn = asker.conn;
    done(arg, asker, BROKER_OK, NULL, &listing);
}

static void backup_read(void *backup, struct backup_asker asker, uint32_t file, uint64_t offset, uint32_t max_bytes,
                        backup_bytes *done, void *arg)
{
    if (world.backup.conn != asker.conn || world.backup.read) {
        done(arg, asker, world.backup.read ? BROKER_OVERLOADED : BROKER_REFUSED, "not now", NULL, 0);
        return;
    }
    world.backup.asker = asker;
    world.backup.read = done;
    world.backup.arg = arg;
}

static broker_error backup_end(void *backup, uint64_t conn)
{
    if (world.backup.conn != conn)
        return BROKER_REFUSED;
    world.backup.conn = 0;
    return BROKER_OK;
}

static const struct backup_ops backup_ops = {backup_begin, backup_read, backup_end};

static void stats(void *arg, broker_stats *out, uint64_t *epoch)
{
    snprintf(out->version, sizeof(out->version), "0.1.0");
    *epoch = 1;
}

static void work(void *arg)
{
    backup_bytes *read = world.backup.read;

    world.backup.read = NULL;
    if (read) /* also when its asker is long gone */
        read(world.backup.arg, world.backup.asker, BROKER_OK, NULL, (const uint8_t *)"piece", 5);
    engine_committed(world.engine, net_now(world.net), world.committed, world.committed);
    engine_tick(world.engine, net_now(world.net));
}

static void end(void *arg)
{
    world.committed = memory_store_commit(&world.store);
}

static const struct net_turn_ops turn_ops = {work, end};

static void connect_peer(struct peer *p)
{
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) != 0)
        abort();
    p->fd = fds[0];
    p->len = 0;
    if (!net_adopt(world.net, fds[1], &front_tcp_handler, world.front))
        abort();
}

static void begin(void)
{
    static const struct net_options net_options = {.read_buffer_bytes = 64 << 10,
                                                   .max_input_bytes = 4 << 20,
                                                   .max_output_bytes = 4 << 20,
                                                   .max_connections = 8,
                                                   .linger_ms = 1000};
    static const struct front_tcp_options front_options = {.max_frame_bytes = FRAME_MAX,
                                                           .max_message_bytes = 64 << 10,
                                                           .max_connections = 8,
                                                           .max_settle_ranges = 64,
                                                           .max_transact_parts = 16,
                                                           .waiting_leases = 4,
                                                           .heartbeat_ms = 10000,
                                                           .hello_ms = 5000,
                                                           .frame_ms = 5000,
                                                           .stall_ms = 5000,
                                                           .output_bytes = 64 << 10};
    static const struct door_options door_options = {.max_subscriptions = 8,
                                                     .max_waiting_leases = 4,
                                                     .max_settle_ranges = 64,
                                                     .max_transact_parts = 16,
                                                     .max_list = 100,
                                                     .max_batch_bytes = 128 << 10,
                                                     .max_message_bytes = 64 << 10};
    static const struct engine_options engine_options = {
        .max_message_bytes = 64 << 10, .max_queues = 16, .max_groups_per_queue = 8, .max_producers = 16};

    memory_store_init(&world.store);
    world.committed = 0;
    world.net = net_new(&net_options);
    static const struct front_tcp_host host = {.stats = stats, .backup_ops = &backup_ops};
    memset(&world.backup, 0, sizeof(world.backup));
    world.front = world.net ? front_tcp_new(&front_options, world.net, &host) : NULL;
    world.clients = clients_new();
    world.engine = engine_new(&engine_options, &memory_store_ops, &world.store, &clients_sink_ops, world.clients);
    world.door = door_new(&door_options, world.engine, &clients_sink_ops, world.clients);
    if (!world.net || !world.clients || !world.front || !world.engine || !world.door)
        abort();
    clients_attach(world.clients, world.door);
    front_tcp_attach(world.front, world.clients, world.door);
    engine_recovered(world.engine, net_now(world.net), 1);
    net_set_turn(world.net, &turn_ops, NULL);
    for (int i = 0; i < PEERS; i++)
        connect_peer(&world.peers[i]);
}

static void finish(void)
{
    for (int i = 0; i < PEERS; i++)
        close(world.peers[i].fd);
    net_free(world.net);
    front_tcp_free(world.front);
    clients_free(world.clients);
    door_free(world.door);
    engine_free(world.engine);
    memory_store_release(&world.store);
}

static void check_frame(const struct frame_head *head, const uint8_t *body)
{
    struct wire_map m;

    CHECK(head->length <= FRAME_MAX);
    switch (head->type) {
    case FRAME_ERROR:
    case FRAME_GOAWAY:
    case FRAME_SUBSCRIPTION_ENDED:
        CHECK(wire_map_open(&m, body, head->length) == BROKER_OK && wire_map_has(&m, "code") &&
              wire_map_has(&m, "text"));
        wire_map_close(&m);
        break;
    case FRAME_HEARTBEAT: CHECK(head->length == 0); break;
    case FRAME_DELIVER:
    case FRAME_LEASE | FRAME_RESPONSE: CHECK(head->length >= DELIVER_HEAD_BYTES && head->length % 8 == 0); break;
    case FRAME_PEEK | FRAME_RESPONSE:
        CHECK(head->length >= PEEK_HEAD_BYTES && head->length % 8 == 0 && get_u32(body) <= head->length / 48 &&
              !(get_u32(body + 4) & PEEK_MORE) == (get_u64(body + 8) == 0));
        break;
    case FRAME_TRANSACT | FRAME_RESPONSE:
        CHECK(head->length % 8 == 0 && (head->flags & ~TRANSACT_DUPLICATE) == 0);
        break;
    case FRAME_PUBLISH | FRAME_RESPONSE: CHECK(head->length % PUBLISH_RANGE_BYTES == 0 && head->length > 0); break;
    default: CHECK((head->type & FRAME_RESPONSE) && head->correlation != 0); break;
    }
}

static void listen_to(struct peer *p)
{
    ptrdiff_t n;

    while ((n = recv(p->fd, p->out + p->len, sizeof(p->out) - p->len, MSG_DONTWAIT)) > 0) {
        size_t at = 0;
        struct frame_head head;
        p->len += (size_t)n;
        while (p->len - at >= FRAME_HEAD_BYTES) {
            CHECK(frame_head_get(p->out + at, &head) == BROKER_OK && head.length <= FRAME_MAX);
            if (p->len - at - FRAME_HEAD_BYTES < head.length)
                break;
            check_frame(&head, p->out + at + FRAME_HEAD_BYTES);
            at += FRAME_HEAD_BYTES + head.length;
        }
        memmove(p->out, p->out + at, p->len - at);
        p->len -= at;
    }
}

static void turn(unsigned times)
{
    for (unsigned i = 0; i < times; i++) {
        net_turn(world.net, false);
        for (int p = 0; p < PEERS; p++)
            listen_to(&world.peers[p]);
    }
}

static void say(struct peer *p, const uint8_t *bytes, size_t len)
{
    (void)send(p->fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT); /* the broker may have closed */
}

static void greet(struct peer *p)
{
    uint8_t bytes[WIRE_PREAMBLE_BYTES + FRAME_HEAD_BYTES] = "BRKD\x01";

    frame_head_put(bytes + WIRE_PREAMBLE_BYTES, &(struct frame_head){.type = FRAME_HELLO, .correlation = 1});
    say(p, bytes, sizeof(bytes));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct input in = {bytes, len};
    bool raw = input_number(&in, 1) & 1;

    begin();
    for (int i = 0; !raw && i < PEERS; i++)
        greet(&world.peers[i]);
    turn(1);
    for (int i = 0; i < CHUNKS_MAX && in.len > 0; i++) {
        uint64_t how = input_number(&in, 1);
        size_t chunk = (size_t)input_number(&in, 2);
        chunk = chunk < in.len ? chunk : in.len;
        say(&world.peers[how & 1], in.bytes, chunk);
        in.bytes += chunk;
        in.len -= chunk;
        if ((how >> 4) == 0xf)
            shutdown(world.peers[how & 1].fd, SHUT_WR);
        turn((how >> 1) % 4);
    }
    turn(2);
    finish();
    return 0;
}
