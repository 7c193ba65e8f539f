/*
 * HTTP/1.1 from the broker's side: a client's bytes go through a real loop and the http room, once in one piece, then in
 * pieces of random lengths, then byte by byte. However they are cut, the handlers must see the same requests, and the client the same answers.
 */
#include <sys/socket.h>
#include <unistd.h>

#include "fuzz.h"
#include "http.h"

enum { OUTPUT_MAX = 1 << 20, KEPT_MAX = 64, PIPELINED = 8 };

struct run { /* what one feeding led to */
    uint8_t *out;
    size_t len;
    unsigned requests;
    uint64_t sum; /* of what the handlers saw */
};

static struct {
    struct net *net;
    struct http *http;
    struct run *run;
    struct http_exchange *kept[KEPT_MAX];
    unsigned kept_count;
    struct net_conn *taken;
    size_t taken_bytes;
} world;

static uint64_t mix(uint64_t sum, const void *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sum = (sum ^ ((const uint8_t *)bytes)[i]) * 0x100000001b3u; /* FNV-1a */
    return sum;
}

static bool note_parameter(void *arg, struct http_text name, struct http_text value)
{
    struct run *r = arg;
    r->sum = mix(mix(r->sum, name.bytes, name.len), value.bytes, value.len);
    return true;
}

static void check_text(struct http_text t)
{
    for (size_t i = 0; i < t.len; i++)
        CHECK((uint8_t)t.bytes[i] > 0x20 && (uint8_t)t.bytes[i] < 0x7f);
}

/* What the room promises of every request. */
static void note(const struct http_request *r)
{
    static const char *const types[] = {"application/json", "text/plain", NULL};
    struct run *run = world.run;
    struct http_text v = {"", 0};
    CHECK(r->path.len > 0 && r->path.bytes[0] == '/');
    check_text(r->path);
    check_text(r->query);
    for (size_t i = 0; i < r->field_count; i++) {
        const struct http_field *f = &r->fields[i];
        check_text(f->name);
        CHECK(f->name.len > 0 && !memchr(f->name.bytes, ':', f->name.len));
        for (size_t j = 0; j < f->value.len; j++)
            CHECK((uint8_t)f->value.bytes[j] >= 0x20 || f->value.bytes[j] == '\t');
        run->sum = mix(mix(run->sum, f->name.bytes, f->name.len), f->value.bytes, f->value.len);
    }
    for (unsigned i = 0; i < HTTP_PARAMS_MAX; i++) {
        CHECK(!memchr(r->params[i].bytes ? r->params[i].bytes : "x", 0, r->params[i].len));
        run->sum = mix(run->sum, r->params[i].bytes, r->params[i].len);
    }
    http_each_query(r, note_parameter, run);
    if (http_query(r, "a", &v))
        run->sum = mix(run->sum, v.bytes, v.len);
    run->sum = mix(run->sum, r->body, r->body_len) + (unsigned)(http_accepts(r, types) + 1) +
               (unsigned)http_type_is(r, "text/plain");
    run->requests++;
}

static void answer(struct http_exchange *x, const void *bytes, size_t n)
{
    http_respond(x, &(struct http_response){.status = 200, .type = "text/plain", .body = bytes, .body_len = n});
}

static void echo(void *arg, struct http_exchange *x, const struct http_request *r)
{
    note(r);
    answer(x, r->body, r->body_len);
}

static void gone(void *owner)
{
    *(struct http_exchange **)owner = NULL;
}

static const struct http_exchange_ops exchange_ops = {.gone = gone};

static void keep(void *arg, struct http_exchange *x, const struct http_request *r)
{
    note(r);
    for (unsigned i = 0; i < KEPT_MAX; i++)
        if (!world.kept[i]) {
            world.kept[i] = x;
            http_keep(x, &exchange_ops, &world.kept[i]);
            return;
        }
    CHECK(!"more exchanges at once than a connection may have");
}

static void pieces(void *arg, struct http_exchange *x, const struct http_request *r)
{
    static const struct http_response head = {.status = 200};
    note(r);
    http_chunked_begin(x, &head);
    http_chunked_write(x, "some", 4);
    http_chunked_write(x, r->body, r->body_len);
    http_chunked_end(x);
}

static size_t taken_input(void *owner, uint8_t *bytes, size_t len, size_t *need)
{
    world.taken_bytes += len;
    world.run->sum = mix(world.run->sum, bytes, len);
    return len;
}

static void taken_closed(void *owner, enum net_close_reason reason)
{
    world.taken = NULL;
}

static const struct http_conn_ops conn_ops = {.input = taken_input, .closed = taken_closed};

static void take(void *arg, struct http_exchange *x, const struct http_request *r)
{
    note(r);
    world.taken = http_take_over(x, &(struct http_response){.status = 101}, &conn_ops, &world);
}

static const struct http_route routes[] = {
    {HTTP_GET, "/", echo, 0},
    {HTTP_POST, "/echo", echo, HTTP_BODY_MAX},
    {HTTP_PUT, "/q/{queue}/m/{seq}", echo, 100},
    {HTTP_GET, "/q/{queue}/m/{seq}", keep, 0},
    {HTTP_POST, "/keep", keep, HTTP_BODY_MAX},
    {HTTP_GET, "/pieces", pieces, 0},
    {HTTP_POST, "/pieces", pieces, HTTP_BODY_MAX},
    {HTTP_GET, "/take", take, 0},
    {HTTP_GET, "/ui/*", echo, 0},
};

/* ---- one feeding ---------------------------------------------------------------------------------------------------- */

static bool turn(int fd)
{
    struct run *r = world.run;
    net_turn(world.net, false);
    ssize_t n = recv(fd, r->out + r->len, OUTPUT_MAX - r->len, MSG_DONTWAIT);
    if (n > 0)
        r->len += (size_t)n;
    CHECK(r->len < OUTPUT_MAX);
    return n > 0;
}

static bool answer_kept(void)
{
    for (unsigned i = KEPT_MAX; i-- > 0;)
        if (world.kept[i]) {
            struct http_exchange *x = world.kept[i];
            world.kept[i] = NULL;
            answer(x, "kept", 4);
            return true;
        }
    return false;
}

/* In pieces of up to `most` bytes. */
static void feed(const uint8_t *bytes, size_t len, size_t most, uint64_t cuts, struct run *r)
{
    int fds[2];
    world.run = r;
    world.taken_bytes = 0;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) != 0 ||
        !net_adopt(world.net, fds[1], &http_handler, world.http))
        abort();
    for (size_t at = 0; at < len;) {
        size_t n = cuts ? 1 + (cuts >> 33) % most : most;
        cuts = cuts ? cuts * 6364136223846793005u + 1442695040888963407u : 0;
        ssize_t sent = send(fds[0], bytes + at, n < len - at ? n : len - at, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0)
            break; /* it was closed: nonsense, or the end */
        at += (size_t)sent;
        turn(fds[0]);
    }
    for (unsigned quiet = 0; quiet < 4; quiet++)
        if (turn(fds[0]) || answer_kept())
            quiet = 0;
    r->sum += world.taken_bytes;
    close(fds[0]);
    for (unsigned i = 0; http_connections(world.http) > 0; i++) {
        CHECK(i < 20);
        net_turn(world.net, false);
    }
    struct http_stats stats;
    http_get_stats(world.http, &stats);
    CHECK(stats.exchanges == 0 && stats.taken_over == 0);
}

/* What may differ: the date, and whether the client was told to go on. */
static void level(struct run *r)
{
    static const char interim[] = "HTTP/1.1 100 Continue\r\n\r\n";
    uint8_t *at;
    for (at = r->out; (at = memmem(at, (size_t)(r->out + r->len - at), "\r\nDate: ", 8)); at += 8)
        memset(at + 8, '-', 29);
    while ((at = memmem(r->out, r->len, interim, sizeof(interim) - 1))) {
        size_t n = sizeof(interim) - 1;
        memmove(at, at + n, (size_t)(r->out + r->len - at) - n);
        r->len -= n;
    }
}

static void compare(const struct run *whole, const struct run *cut)
{
    bool same = whole->len == cut->len && memcmp(whole->out, cut->out, cut->len) == 0;
    if (!same)
        fprintf(stderr, "whole: %.*s\ncut: %.*s\n", (int)whole->len, whole->out, (int)cut->len, cut->out);
    CHECK(same);
    CHECK(whole->requests == cut->requests);
    CHECK(whole->sum == cut->sum);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    static const struct net_options net_options = {.read_buffer_bytes = 64 << 10,
                                                   .max_input_bytes = 4 << 20,
                                                   .max_output_bytes = 4 << 20,
                                                   .max_connections = 8,
                                                   .linger_ms = 1000};
    static const struct http_options options = {.max_head_bytes = 1024,
                                                .max_fields = 16,
                                                .max_connections = 8,
                                                .max_body_bytes = 10000,
                                                .max_chunked_bytes = 100000,
                                                .max_pipelined = PIPELINED,
                                                .head_ms = 60000,
                                                .idle_ms = 60000,
                                                .body_bytes_per_second = 1,
                                                .stall_ms = 60000,
                                                .output_bytes = 100000,
                                                .origins = "https://a.example",
                                                .hosts = "broker.example"};
    static uint8_t outs[2][OUTPUT_MAX];
    struct input in = {bytes, len};
    struct run whole = {.out = outs[0]};
    uint64_t cuts = input_number(&in, 1) * 0x9e3779b97f4a7c15u + 1;

    if (in.len > 30000)
        return 0;
    world.net = net_new(&net_options);
    world.http = world.net ? http_new(&options, world.net) : NULL;
    if (!world.http || !http_add_routes(world.http, routes, sizeof(routes) / sizeof(routes[0]), NULL))
        abort();
    feed(in.bytes, in.len, in.len, 0, &whole);
    level(&whole);
    CHECK(whole.len == 0 || (whole.len > 13 && memcmp(whole.out, "HTTP/1.1 ", 9) == 0));
    for (size_t most = 23; most > 0; most = most > 1 && in.len <= 2000 ? 1 : 0) {
        struct run cut = {.out = outs[1]};
        feed(in.bytes, in.len, most, cuts, &cut);
        level(&cut);
        compare(&whole, &cut);
    }
    net_free(world.net);
    http_free(world.http);
    return 0;
}
