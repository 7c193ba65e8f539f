#include "fake_broker.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Not cmocka's asserts: those jump, and a script runs in a thread of its own. */
#define CHECK(good) check((good), #good, __LINE__)

static void check(bool good, const char *what, int line)
{
    if (good)
        return;
    fprintf(stderr, "fake_broker.c:%d: not so: %s\n", line, what);
    abort();
}

enum { GIVE_UP_MS = 10000 };

static void fake_clear(struct fake *f)
{
    memset(f, 0, sizeof(*f));
    f->conn = -1;
    f->max_frame = 1 << 20;
}

void fake_open(struct fake *f)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(in);

    fake_clear(f);
    f->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(f->listener >= 0);
    CHECK(bind(f->listener, (struct sockaddr *)&in, sizeof(in)) == 0);
    CHECK(listen(f->listener, 8) == 0);
    CHECK(getsockname(f->listener, (struct sockaddr *)&in, &len) == 0);
    snprintf(f->url, sizeof(f->url), "broker://127.0.0.1:%d", ntohs(in.sin_port));
}

void fake_open_unix(struct fake *f)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};

    fake_clear(f);
    f->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(f->listener >= 0);
    snprintf(f->unix_path, sizeof(f->unix_path), "/tmp/fake_broker.%d", (int)getpid());
    memcpy(un.sun_path, f->unix_path, strlen(f->unix_path));
    unlink(f->unix_path);
    CHECK(bind(f->listener, (struct sockaddr *)&un, sizeof(un)) == 0);
    CHECK(listen(f->listener, 8) == 0);
    snprintf(f->url, sizeof(f->url), "unix:%s", f->unix_path);
}

void fake_drop(struct fake *f)
{
    if (f->conn >= 0)
        close(f->conn);
    f->conn = -1;
    f->in_len = 0;
}

void fake_close(struct fake *f)
{
    fake_drop(f);
    close(f->listener);
    if (f->unix_path[0])
        unlink(f->unix_path);
    free(f->in);
}

static uint64_t give_up_at(void)
{
    return client_now_ms() + GIVE_UP_MS;
}

static bool readable(int fd, int timeout_ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, timeout_ms) > 0;
}

void fake_turn(struct fake *f, broker *b)
{
    struct pollfd p[3] = {
        {.fd = f->listener, .events = f->conn < 0 ? POLLIN : 0},
        {.fd = f->conn, .events = POLLIN},
        {.fd = b ? broker_fd(b) : -1},
    };
    int timeout = b ? broker_timeout_ms(b) : -1;

    if (b) {
        int events = broker_events(b);
        p[2].events = (short)((events & BROKER_EVENT_READ ? POLLIN : 0) | (events & BROKER_EVENT_WRITE ? POLLOUT : 0));
    }
    poll(p, 3, timeout < 0 || timeout > 50 ? 50 : timeout);
    if (b)
        broker_process(b, 0);
}

void fake_accept(struct fake *f, broker *b)
{
    uint64_t give_up = give_up_at();

    fake_drop(f);
    while (!readable(f->listener, 0)) {
        CHECK(client_now_ms() < give_up);
        fake_turn(f, b);
    }
    f->conn = accept(f->listener, NULL, NULL);
    CHECK(f->conn >= 0);
}

/* Reads what is there; false at the end of the stream. */
static bool fill(struct fake *f)
{
    if (f->in_cap - f->in_len < 65536) {
        f->in_cap = f->in_cap ? 2 * f->in_cap : 131072;
        f->in = realloc(f->in, f->in_cap);
        CHECK(f->in != NULL);
    }
    ssize_t n = recv(f->conn, f->in + f->in_len, f->in_cap - f->in_len, MSG_DONTWAIT);
    if (n > 0)
        f->in_len += (size_t)n;
    return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

static void need(struct fake *f, broker *b, size_t bytes)
{
    uint64_t give_up = give_up_at();

    while (f->in_len < bytes) {
        CHECK(client_now_ms() < give_up);
        fake_turn(f, b);
        CHECK(fill(f));
    }
}

static void take(struct fake *f, size_t bytes)
{
    f->in_len -= bytes;
    memmove(f->in, f->in + bytes, f->in_len);
}

struct fake_frame fake_expect(struct fake *f, broker *b, uint8_t type)
{
    struct fake_frame frame;

    need(f, b, FRAME_HEAD_BYTES);
    CHECK(frame_head_get(f->in, &frame.head) == BROKER_OK);
    need(f, b, FRAME_HEAD_BYTES + frame.head.length);
    frame.body = malloc(frame.head.length + 1u);
    CHECK(frame.body != NULL);
    memcpy(frame.body, f->in + FRAME_HEAD_BYTES, frame.head.length);
    take(f, FRAME_HEAD_BYTES + frame.head.length);
    if (frame.head.type != type)
        fprintf(stderr, "expected %s, got %s\n", frame_type_name(type), frame_type_name(frame.head.type));
    CHECK(frame.head.type == type);
    return frame;
}

void fake_frame_free(struct fake_frame *frame)
{
    free(frame->body);
    frame->body = NULL;
}

struct fake_frame fake_expect_map(struct fake *f, broker *b, uint8_t type, const char *map)
{
    struct fake_frame frame = fake_expect(f, b, type);
    msgpack_unpacked unpacked;
    size_t at = 0;
    char text[4096];

    msgpack_unpacked_init(&unpacked);
    CHECK(msgpack_unpack_next(&unpacked, (char *)frame.body, frame.head.length, &at) == MSGPACK_UNPACK_SUCCESS);
    CHECK(at == frame.head.length);
    msgpack_object_print_buffer(text, sizeof(text), unpacked.data);
    msgpack_unpacked_destroy(&unpacked);
    if (strcmp(text, map) != 0)
        fprintf(stderr, "expected %s\n     got %s\n", map, text);
    CHECK(strcmp(text, map) == 0);
    return frame;
}

void fake_expect_call(struct fake *f, broker *b, uint8_t type, const char *map)
{
    struct fake_frame frame = fake_expect_map(f, b, type, map);

    fake_answer_empty(f, &frame);
    fake_frame_free(&frame);
}

bool fake_closed(struct fake *f, broker *b)
{
    uint64_t give_up = give_up_at();

    while (client_now_ms() < give_up) {
        if (!fill(f))
            return true;
        f->in_len = 0;
        fake_turn(f, b);
    }
    return false;
}

void fake_greet(struct fake *f, broker *b)
{
    fake_accept(f, b);
    need(f, b, WIRE_PREAMBLE_BYTES);
    CHECK(memcmp(f->in, "BRKD\1\0\0\0", WIRE_PREAMBLE_BYTES) == 0);
    take(f, WIRE_PREAMBLE_BYTES);
    struct fake_frame hello = fake_expect(f, b, FRAME_HELLO);
    CHECK(hello.head.correlation == 1);
    fake_send_hello(f, hello.head.correlation);
    fake_frame_free(&hello);
    uint64_t give_up = give_up_at();
    while (b && !broker_is_connected(b)) {
        CHECK(client_now_ms() < give_up);
        fake_turn(f, b);
    }
}

/* ---- sending ------------------------------------------------------------------------------------------------------- */

void fake_send_bytes(struct fake *f, const void *bytes, size_t len)
{
    CHECK(send(f->conn, bytes, len, MSG_NOSIGNAL) == (ssize_t)len);
}

void fake_send(struct fake *f, uint8_t type, uint32_t correlation, uint32_t stream, const void *body, size_t len)
{
    struct frame_head head = {.length = (uint32_t)len, .type = type, .correlation = correlation, .stream = stream};
    uint8_t *bytes = malloc(FRAME_HEAD_BYTES + len);

    CHECK(bytes != NULL);
    frame_head_put(bytes, &head);
    if (len > 0)
        memcpy(bytes + FRAME_HEAD_BYTES, body, len);
    fake_send_bytes(f, bytes, FRAME_HEAD_BYTES + len);
    free(bytes);
}

void fake_send_hello(struct fake *f, uint32_t correlation)
{
    msgpack_sbuffer sb;
    msgpack_packer pk;

    msgpack_sbuffer_init(&sb);
    msgpack_packer_init(&pk, &sb, msgpack_sbuffer_write);
    msgpack_pack_map(&pk, 5);
    pack_key_str(&pk, "server", "fake", 4);
    pack_key_u64(&pk, "epoch", 1);
    pack_key_u64(&pk, "heartbeat_ms", f->heartbeat_ms);
    pack_key_u64(&pk, "max_frame", f->max_frame);
    pack_key_u64(&pk, "max_message", 1 << 20);
    fake_send(f, FRAME_HELLO | FRAME_RESPONSE, correlation, 0, sb.data, sb.size);
    msgpack_sbuffer_destroy(&sb);
}

void fake_send_error(struct fake *f, uint32_t correlation, broker_error code, const char *text, const char *scope)
{
    msgpack_sbuffer sb;

    msgpack_sbuffer_init(&sb);
    wire_error_put(&sb, code, text, scope, 250);
    fake_send(f, FRAME_ERROR, correlation, 0, sb.data, sb.size);
    msgpack_sbuffer_destroy(&sb);
}

uint32_t fake_publish_records(const struct fake_frame *frame, uint64_t *first_number, uint64_t *last_number)
{
    uint32_t at = pad8(2u + get_u16(frame->body)), count = 0;
    struct record_view v;

    while (at < frame->head.length) {
        CHECK(record_view_get(frame->body + at, frame->head.length - at, &v) == BROKER_OK);
        uint64_t number = v.head.flags & RECORD_ID_PRODUCER ? get_u64(v.id + 8) : 0;
        if (count++ == 0 && first_number)
            *first_number = number;
        if (last_number)
            *last_number = number;
        at += record_padded(frame->body + at);
    }
    CHECK(at == frame->head.length);
    return count;
}

void fake_answer_publish(struct fake *f, const struct fake_frame *frame, uint64_t first_seq)
{
    uint8_t bytes[PUBLISH_RANGE_BYTES];
    struct publish_range r = {.first_seq = first_seq, .count = fake_publish_records(frame, NULL, NULL)};

    publish_range_put(bytes, &r);
    fake_send(f, FRAME_PUBLISH | FRAME_RESPONSE, frame->head.correlation, 0, bytes, sizeof(bytes));
}

void fake_answer_empty(struct fake *f, const struct fake_frame *frame)
{
    fake_send(f, frame->head.type | FRAME_RESPONSE, frame->head.correlation, 0, "\x80", 1);
}

void fake_answer_settle(struct fake *f, const struct fake_frame *frame, uint32_t settled, uint32_t stale)
{
    uint8_t body[8 + 64 * 8] = {0};

    put_u32(body, settled);
    put_u32(body + 4, stale);
    fake_send(f, frame->head.type | FRAME_RESPONSE, frame->head.correlation, 0, body,
              8 + 8 * (stale < 64 ? stale : 64));
}

void fake_deliver(struct fake *f, uint32_t stream, uint64_t first_receipt, uint64_t first_seq, uint32_t count)
{
    uint8_t *body = calloc(1, DELIVER_HEAD_BYTES + count * 128u);
    size_t len = DELIVER_HEAD_BYTES;

    CHECK(body != NULL);
    put_u32(body, count);
    put_u64(body + 8, first_receipt);
    for (uint32_t i = 0; i < count; i++) {
        char text[32];
        int n = snprintf(text, sizeof(text), "m%llu", (unsigned long long)(first_seq + i));
        struct record_spec spec = {.body = text, .body_len = (size_t)n};
        record_spec_put(body + len, &spec);
        put_u64(body + len + 16, first_seq + i);
        len += record_spec_bytes(&spec);
    }
    fake_send(f, FRAME_DELIVER, 0, stream, body, len);
    free(body);
}

/* ---- a thread of its own ------------------------------------------------------------------------------------------------ */

static void *run_script(void *arg)
{
    struct fake *f = arg;
    f->script(f);
    return NULL;
}

void fake_start(struct fake *f, void (*script)(struct fake *f))
{
    f->script = script;
    CHECK(pthread_create(&f->thread, NULL, run_script, f) == 0);
}

void fake_join(struct fake *f)
{
    pthread_join(f->thread, NULL);
}

broker *client_open(struct fake *f, const broker_options *options)
{
    broker_options o = options ? *options : BROKER_OPTIONS_INIT(broker_options);
    broker *b = NULL;

    o.url = f->url;
    CHECK(broker_open(&b, &o) == BROKER_OK);
    return b;
}
