#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rig.h"

struct seen seen;
struct net *net;
struct http *http;
struct clients *clients;
struct door *door;
struct rest *rest;
struct rest_options options;
int fd = -1;
char head[65536], body[1 << 20];
size_t body_len;
bool no_body, not_reading;
static char got[1 << 20];
static size_t got_len;
static struct net_timer tick;
static uint8_t store[1 << 20]; /* of `stored` */
static size_t store_len;

/* ---- the double ----------------------------------------------------------------------------------------------------- */

static void note_records(uint8_t *records, size_t len)
{
    assert_true(seen.records_len + len <= sizeof(seen.records));
    memcpy(seen.records + seen.records_len, records, len);
    seen.records_len += len;
    memset(records, 0xee, len); /* the engine may write there */
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
    seen.records_len = 0;
    snprintf(seen.queue, sizeof(seen.queue), "%.*s", (int)c->queue.len, c->queue.bytes ? c->queue.bytes : "");
    snprintf(seen.group, sizeof(seen.group), "%.*s", (int)c->group.len, c->group.bytes ? c->group.bytes : "");
    if (c->type == COMMAND_PUBLISH)
        note_records(c->u.publish.records, c->u.publish.len);
    if (c->type == COMMAND_ACK || c->type == COMMAND_NACK || c->type == COMMAND_EXTEND)
        memcpy(seen.ranges, c->u.settle.ranges, c->u.settle.count * sizeof(seen.ranges[0]));
    if (c->type == COMMAND_READ)
        note_filter(&c->u.read.filter);
    if (c->type == COMMAND_SCAN)
        note_filter(&c->u.scan.filter);
    size_t ranges = 0;
    for (size_t i = 0; c->type == COMMAND_TRANSACT && i < c->u.transact.count; i++) {
        struct transact_part *part = &seen.parts[i];
        *part = c->u.transact.parts[i];
        snprintf(seen.part_queues[i], 64, "%.*s", (int)part->queue.len, part->queue.bytes ? part->queue.bytes : "");
        if (part->kind == PART_PUBLISH) {
            note_records(part->records, part->len);
            continue;
        }
        memcpy(seen.ranges + ranges, part->ranges, part->count * sizeof(seen.ranges[0]));
        part->ranges = seen.ranges + ranges;
        ranges += part->count;
    }
}

void answer(struct completion done)
{
    done.type = seen.last.type;
    done.token = seen.last.token;
    clients_sink_ops.complete(clients, &done);
}

void answer_error(broker_error error, const char *text)
{
    answer((struct completion){.error = error, .text = text, .retry_ms = 1500});
}

void answer_published(uint64_t seq)
{
    struct publish_result result = {.first_seq = seq, .count = 1};
    answer((struct completion){.u.publish = {&result, 1, true}});
}

struct record_view record_at(unsigned i)
{
    struct record_view v;
    const uint8_t *p = seen.records, *end = p + seen.records_len;
    for (; i > 0 && p < end; i--)
        p += record_padded(p);
    assert_true(p < end);
    assert_int_equal(record_view_get(p, (size_t)(end - p), &v), BROKER_OK);
    return v;
}

struct record_spec with_headers(struct record_spec spec, ...)
{
    static msgpack_sbuffer map;
    msgpack_packer pk;
    va_list args;
    size_t n = 0;
    va_start(args, spec);
    while (va_arg(args, const char *))
        n++;
    va_end(args);
    msgpack_sbuffer_destroy(&map);
    msgpack_sbuffer_init(&map);
    msgpack_packer_init(&pk, &map, msgpack_sbuffer_write);
    msgpack_pack_map(&pk, n / 2);
    va_start(args, spec);
    for (const char *text; (text = va_arg(args, const char *));)
        pack_str(&pk, text, strlen(text));
    va_end(args);
    spec.headers = map.data;
    spec.headers_len = map.size;
    return spec;
}

struct stored_message stored(uint64_t seq, struct record_spec spec)
{
    struct record_head h;
    uint32_t n = record_spec_bytes(&spec);
    uint8_t *to = store + store_len;
    assert_true(n > 0 && store_len + n <= sizeof(store));
    record_spec_put(to, &spec);
    record_head_get(to, &h);
    h.seq = seq;
    h.queue = 7;
    h.time_ms = 1700000000123;
    record_head_put(to, &h);
    record_seal(to);
    store_len += n;
    return (struct stored_message){.seq = seq, .record = to, .padded_len = n};
}

/* ---- the front ------------------------------------------------------------------------------------------------------ */

static void ticked(void *arg, struct now now) {}

int start(void **state)
{
    struct net_options net_options = {.read_buffer_bytes = 65536,
                                      .max_input_bytes = 16 << 20,
                                      .max_output_bytes = 64 << 20,
                                      .max_connections = 100,
                                      .linger_ms = 500};
    struct http_options http_options = {.max_head_bytes = 16384,
                                        .max_fields = 100,
                                        .max_connections = 90,
                                        .max_body_bytes = 500000,
                                        .max_chunked_bytes = 1 << 20,
                                        .max_pipelined = 8,
                                        .head_ms = 5000,
                                        .idle_ms = 5000,
                                        .body_bytes_per_second = 1000,
                                        .stall_ms = 5000,
                                        .output_bytes = 1 << 20,
                                        .origins = "",
                                        .hosts = ""};
    struct door_options door_options = {.max_settle_ranges = 1024};
    options = (struct rest_options){
        .max_wait_ms = 20000, .max_message_bytes = 65536, .max_batch_messages = 50, .max_answer_bytes = 100000};
    memset(&seen, 0, sizeof(seen));
    store_len = 0;
    not_reading = false;
    net = net_new(&net_options);
    http = http_new(&http_options, net);
    clients = clients_new();
    door = door_new(&door_options, NULL, &clients_sink_ops, clients);
    assert_true(net && http && clients && door);
    clients_attach(clients, door);
    rest = rest_new(&options, http, clients, NULL);
    assert_non_null(rest);
    net_timer_init(&tick, ticked, NULL);
    dial();
    alarm(60);
    return 0;
}

int stop(void **state)
{
    alarm(0);
    close(fd);
    fd = -1;
    net_free(net);
    assert_int_equal(rest->call_count, 0);
    rest_free(rest);
    http_free(http);
    assert_int_equal(clients_count(clients), 0);
    door_free(door);
    clients_free(clients);
    return 0;
}

/* ---- the client ----------------------------------------------------------------------------------------------------- */

void dial(void)
{
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    if (fd >= 0)
        close(fd);
    fd = fds[1];
    got_len = 0;
    assert_non_null(net_adopt(net, fds[0], &http_handler, http));
}

void turn(bool wait)
{
    net_timer_set(net, &tick, (monotime){net_now(net).mono.ms + 5});
    net_turn(net, wait);
    ssize_t n = not_reading ? 0 : recv(fd, got + got_len, sizeof(got) - 1 - got_len, MSG_DONTWAIT);
    if (n > 0)
        got_len += (size_t)n;
    got[got_len] = '\0';
}

void turns(int n)
{
    while (n-- > 0)
        turn(false);
}

static void put_bytes(const void *bytes, size_t n)
{
    const uint8_t *p = bytes;
    while (n > 0) {
        ssize_t part = send(fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (part > 0) {
            p += part;
            n -= (size_t)part;
        } else {
            assert_int_equal(errno, EAGAIN);
            turn(false);
        }
    }
}

void put(const char *text)
{
    put_bytes(text, strlen(text));
}

void request_bytes(const char *method, const char *path, const char *fields, const void *bytes, size_t len)
{
    char text[20000];
    int n = snprintf(text, sizeof(text), "%s %s HTTP/1.1\r\nHost: localhost\r\n%sContent-Length: %zu\r\n\r\n", method,
                     path, fields, len);
    assert_true(n > 0 && (size_t)n < sizeof(text));
    no_body = strcmp(method, "HEAD") == 0;
    put_bytes(text, (size_t)n);
    put_bytes(bytes, len);
    turns(3);
}

void request(const char *method, const char *path, const char *fields, const char *text)
{
    request_bytes(method, path, fields, text, strlen(text));
}

const char *field(const char *name)
{
    static char value[20000];
    char with_colon[128];
    snprintf(with_colon, sizeof(with_colon), "\r\n%s: ", name);
    const char *at = strstr(head, with_colon);
    if (!at)
        return NULL;
    at += strlen(with_colon);
    snprintf(value, sizeof(value), "%.*s", (int)strcspn(at, "\r"), at);
    return value;
}

int response(void)
{
    char *end;
    while (!(end = memmem(got, got_len, "\r\n\r\n", 4)))
        turn(true);
    size_t n = (size_t)(end + 4 - got);
    assert_true(n < sizeof(head));
    memcpy(head, got, n);
    head[n] = '\0';
    int status = (int)strtol(head + 9, NULL, 10);
    const char *length = field("Content-Length");
    body_len = length && !no_body && status != 304 ? strtoul(length, NULL, 10) : 0;
    while (got_len < n + body_len)
        turn(true);
    memcpy(body, got + n, body_len);
    body[body_len] = '\0';
    memmove(got, got + n + body_len, got_len - n - body_len + 1);
    got_len -= n + body_len;
    return status;
}

void expect(int status, const char *the_body)
{
    int is = response();
    if (is != status || (the_body && strcmp(body, the_body) != 0))
        fail_msg("it is %d '%s', not %d '%s'", is, body, status, the_body ? the_body : "…");
}

void expect_problem(int status, const char *words)
{
    int is = response();
    const char *type = field("Content-Type");
    if (is != status || !type || strcmp(type, "application/problem+json") != 0 || !strstr(body, words))
        fail_msg("it is %d '%s', not %d with '%s'", is, body, status, words);
}

void expect_silence(void)
{
    turns(5);
    if (got_len > 0)
        fail_msg("something came: '%s'", got);
}
