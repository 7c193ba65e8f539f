#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "rig.h"

/* ---- the double ----------------------------------------------------------------------------------------------------- */

struct seen seen;

struct net *net;
struct front_tcp *front;
struct clients *clients;
struct door *door;
struct net_timer tick;

void answer_ok(const struct command *c)
{
    static const struct publish_result result = {.first_seq = 1, .count = 1};
    struct completion done = {.type = c->type, .token = c->token};
    if (c->type == COMMAND_PUBLISH) {
        done.u.publish.results = &result;
        done.u.publish.count = 1;
    }
    clients_sink_ops.complete(clients, &done);
}

static void note_filter(const broker_filter *f)
{
    size_t n =
        (size_t)snprintf(seen.filter, sizeof(seen.filter), "%s|%s|", f->topic ? f->topic : "", f->key ? f->key : "");
    for (size_t i = 0; i < f->header_count; i++)
        n += (size_t)snprintf(seen.filter + n, sizeof(seen.filter) - n, "%s%s=%s", i ? "," : "", f->headers[i].name,
                              f->headers[i].value);
}

void engine_submit(struct engine *e, struct now now, const struct command *c)
{
    seen.count++;
    seen.by_type[c->type]++;
    seen.last = *c;
    snprintf(seen.queue, sizeof(seen.queue), "%.*s", (int)c->queue.len, c->queue.bytes ? c->queue.bytes : "");
    snprintf(seen.group, sizeof(seen.group), "%.*s", (int)c->group.len, c->group.bytes ? c->group.bytes : "");
    if (c->type == COMMAND_PUBLISH && c->u.publish.len <= sizeof(seen.records)) {
        memcpy(seen.records, c->u.publish.records, c->u.publish.len);
        memset(c->u.publish.records, 0xee, c->u.publish.len); /* the engine may write there */
    }
    if (c->type == COMMAND_ACK || c->type == COMMAND_NACK || c->type == COMMAND_EXTEND)
        memcpy(seen.ranges, c->u.settle.ranges, c->u.settle.count * sizeof(seen.ranges[0]));
    if (c->type == COMMAND_QUEUE_CREATE || c->type == COMMAND_QUEUE_ALTER) {
        seen.settings = *c->u.queue.settings;
        snprintf(seen.dead_letter, sizeof(seen.dead_letter), "%s",
                 seen.settings.dead_letter ? seen.settings.dead_letter : "(null)");
    }
    if (c->type == COMMAND_GROUP_CREATE || c->type == COMMAND_GROUP_ALTER) {
        seen.group_settings = *c->u.group.settings;
        note_filter(&c->u.group.settings->filter);
    }
    if (c->type == COMMAND_SCAN) {
        note_filter(&c->u.scan.filter);
        snprintf(seen.text, sizeof(seen.text), "%.*s", (int)c->u.scan.target.len, c->u.scan.target.bytes);
    }
    if (c->type == COMMAND_BIND || c->type == COMMAND_UNBIND)
        snprintf(seen.text, sizeof(seen.text), "%.*s", (int)c->u.bind.pattern.len, c->u.bind.pattern.bytes);
    for (size_t i = 0; c->type == COMMAND_TRANSACT && i < c->u.transact.count; i++) {
        seen.parts[i] = c->u.transact.parts[i];
        if (seen.parts[i].kind == PART_PUBLISH)
            memset(seen.parts[i].records, 0xee, seen.parts[i].len);
        else
            memcpy(seen.ranges, seen.parts[i].ranges, seen.parts[i].count * sizeof(seen.ranges[0]));
    }
    bool answered =
        c->type != COMMAND_CREDIT && c->type != COMMAND_HOLD && c->type != COMMAND_UNHOLD && c->type != COMMAND_CLOSE;
    if (seen.answer && answered)
        answer_ok(c);
}

static void stats(void *arg, broker_stats *out, uint64_t *epoch)
{
    out->published = 77;
    *epoch = 5;
}

/* ---- a client by hand ------------------------------------------------------------------------------------------------ */

int fd;
enum { GOT_BYTES = 1 << 22 };
uint8_t got[GOT_BYTES];
size_t got_len;

static void ticked(void *arg, struct now now) {}

void turn(bool wait)
{
    net_timer_set(net, &tick, (monotime){net_now(net).mono.ms + 5});
    net_turn(net, wait);
    ssize_t n = recv(fd, got + got_len, GOT_BYTES - got_len, MSG_DONTWAIT);
    if (n > 0)
        got_len += (size_t)n;
}

void turns(int n)
{
    while (n-- > 0)
        turn(false);
}

void put(const void *bytes, size_t n)
{
    const uint8_t *p = bytes;
    while (n > 0) {
        ssize_t sent = send(fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent > 0) {
            p += sent;
            n -= (size_t)sent;
        } else {
            assert_int_equal(errno, EAGAIN);
            turn(false);
        }
    }
}

void put_frame(uint8_t type, uint32_t correlation, uint32_t stream, const void *body, uint32_t len)
{
    uint8_t head[FRAME_HEAD_BYTES];
    frame_head_put(head,
                   &(struct frame_head){.length = len, .type = type, .correlation = correlation, .stream = stream});
    put(head, sizeof(head));
    put(body, len);
}

void put_flags(uint8_t type, uint8_t flags, uint32_t correlation, const void *body, uint32_t len)
{
    uint8_t head[FRAME_HEAD_BYTES];
    frame_head_put(head, &(struct frame_head){.length = len, .type = type, .flags = flags, .correlation = correlation});
    put(head, sizeof(head));
    put(body, len);
}

/* One value of put_text, to msgpack. */
static const char *pack_value(msgpack_packer *pk, const char *p)
{
    p += strspn(p, " ");
    if (*p == '{' || *p == '[') {
        msgpack_sbuffer inner;
        msgpack_packer into;
        size_t n = 0;
        char end = *p == '{' ? '}' : ']';
        msgpack_sbuffer_init(&inner);
        msgpack_packer_init(&into, &inner, msgpack_sbuffer_write);
        for (p++; *p != end; n++) {
            p = pack_value(&into, p);
            p += strspn(p, " :,");
        }
        if (end == '}')
            msgpack_pack_map(pk, n / 2);
        else
            msgpack_pack_array(pk, n);
        msgpack_sbuffer_write(pk->data, inner.data, inner.size);
        msgpack_sbuffer_destroy(&inner);
        return p + 1;
    }
    if (*p == '\'') {
        size_t len = strcspn(p + 1, "'");
        pack_str(pk, p + 1, len);
        return p + len + 2;
    }
    if (*p == 't' || *p == 'f') {
        if (*p == 't')
            msgpack_pack_true(pk);
        else
            msgpack_pack_false(pk);
        return p + (*p == 't' ? 4 : 5);
    }
    char *end;
    msgpack_pack_uint64(pk, strtoull(p, &end, 10));
    assert_ptr_not_equal(p, end);
    return end;
}

void put_text(uint8_t type, uint32_t correlation, uint32_t stream, const char *text)
{
    msgpack_sbuffer body;
    msgpack_packer pk;
    msgpack_sbuffer_init(&body);
    msgpack_packer_init(&pk, &body, msgpack_sbuffer_write);
    pack_value(&pk, text);
    put_frame(type, correlation, stream, body.data, (uint32_t)body.size);
    msgpack_sbuffer_destroy(&body);
}

void put_map(uint8_t type, uint32_t correlation, uint32_t stream, const char *hex)
{
    uint8_t body[512];
    size_t n = strlen(hex) / 2;
    for (size_t i = 0; i < n; i++) {
        unsigned byte;
        sscanf(hex + 2 * i, "%2x", &byte);
        body[i] = (uint8_t)byte;
    }
    put_frame(type, correlation, stream, body, (uint32_t)n);
}

/* The next frame that comes; its body is at *body until the next call. */
struct frame_head next_frame(const uint8_t **body)
{
    static uint8_t kept[1 << 22];
    struct frame_head head;
    while (got_len < FRAME_HEAD_BYTES || got_len < FRAME_HEAD_BYTES + (size_t)get_u32(got))
        turn(true);
    assert_int_equal(frame_head_get(got, &head), BROKER_OK);
    size_t whole = FRAME_HEAD_BYTES + head.length;
    memcpy(kept, got + FRAME_HEAD_BYTES, head.length);
    memmove(got, got + whole, got_len - whole);
    got_len -= whole;
    *body = kept;
    return head;
}

void expect_answer(uint8_t type, uint32_t correlation)
{
    const uint8_t *body;
    struct frame_head head = next_frame(&body);
    assert_int_equal(head.type, type | FRAME_RESPONSE);
    assert_int_equal(head.correlation, correlation);
}

void expect_error(uint32_t correlation, broker_error code, const char *scope, const char *says)
{
    const uint8_t *body;
    struct frame_head head = next_frame(&body);
    struct wire_map m;
    uint64_t got_code = 0;
    const char *text = "", *got_scope = "";
    size_t len = 0, scope_len = 0;
    assert_int_equal(head.type, FRAME_ERROR);
    assert_int_equal(head.correlation, correlation);
    assert_int_equal(wire_map_open(&m, body, head.length), BROKER_OK);
    assert_true(wire_map_u64(&m, "code", 0, 65535, &got_code));
    assert_true(wire_map_str(&m, "text", 1000, &text, &len));
    assert_true(wire_map_str(&m, "scope", 1000, &got_scope, &scope_len));
    assert_int_equal(got_code, code);
    assert_int_equal(scope_len, strlen(scope));
    assert_memory_equal(got_scope, scope, scope_len);
    if (!memmem(text, len, says, strlen(says)))
        fail_msg("'%.*s' lacks '%s'", (int)len, text, says);
    wire_map_close(&m);
}

void expect_end(void) /* the broker closes */
{
    uint8_t byte;
    ssize_t n;
    while ((n = recv(fd, &byte, 1, MSG_DONTWAIT)) != 0) {
        assert_true(n < 0 && errno == EAGAIN);
        net_timer_set(net, &tick, (monotime){net_now(net).mono.ms + 5});
        net_turn(net, true);
    }
    close(fd);
    fd = -1;
    while (front_tcp_connections(front) > 0) {
        net_timer_set(net, &tick, (monotime){net_now(net).mono.ms + 5});
        net_turn(net, true);
    }
}

const uint8_t PREAMBLE[8] = {'B', 'R', 'K', 'D', 1, 0, 0, 0};

void greet(void)
{
    put(PREAMBLE, 8);
    put_map(FRAME_HELLO, 1, 0, "81a6636c69656e74a464656d6f"); /* {"client":"demo"} */
    expect_answer(FRAME_HELLO, 1);
    got_len = 0;
}

void dial(void)
{
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    fd = fds[1];
    got_len = 0;
    assert_non_null(net_adopt(net, fds[0], &front_tcp_handler, front));
}

struct front_tcp_options options;

struct front_tcp_host host;

static void open_front(void)
{
    struct net_options net_options = {.read_buffer_bytes = 16384,
                                      .max_input_bytes = 16 << 20,
                                      .max_output_bytes = 64 << 20,
                                      .max_connections = 10,
                                      .linger_ms = 1000};
    struct door_options door_options = {.max_subscriptions = 2, .max_waiting_leases = 2, .max_settle_ranges = 16};
    memset(&seen, 0, sizeof(seen));
    seen.answer = true;
    net = net_new(&net_options);
    host.stats = stats;
    front = front_tcp_new(&options, net, &host);
    clients = clients_new();
    door = door_new(&door_options, NULL, &clients_sink_ops, clients);
    assert_true(net && front && clients && door);
    clients_attach(clients, door);
    front_tcp_attach(front, clients, door);
    net_timer_init(&tick, ticked, NULL);
}

int start(void **state)
{
    options = (struct front_tcp_options){.max_frame_bytes = 100000,
                                         .max_message_bytes = 65536,
                                         .max_connections = 10,
                                         .max_settle_ranges = 16,
                                         .max_transact_parts = 4,
                                         .waiting_leases = 2,
                                         .heartbeat_ms = 10000,
                                         .hello_ms = 5000,
                                         .frame_ms = 5000,
                                         .stall_ms = 5000,
                                         .output_bytes = 1 << 20};
    host = (struct front_tcp_host){0};
    open_front();
    dial();
    alarm(30);
    return 0;
}

int stop(void **state)
{
    alarm(0);
    if (fd >= 0)
        close(fd);
    net_free(net);
    assert_int_equal(front_tcp_connections(front), 0);
    assert_int_equal(clients_count(clients), 0);
    front_tcp_free(front);
    clients_free(clients);
    door_free(door);
    return 0;
}

int again(void **state) /* with the options as the test has changed them */
{
    stop(state);
    open_front();
    dial();
    alarm(30);
    return 0;
}
