#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rig.h"

struct net *net;
struct http *http;
struct http_options options;
size_t read_buffer_bytes = 16384;
struct kept kept[128];
unsigned kept_count, handled;
bool want_sent;
size_t big, seen_len, got_len, body_len;
char seen[65536], got[1 << 22], head[65536], *body;
struct taken taken;
int fd = -1;
static bool expect_no_body;
static struct net_timer tick;

/* ---- handlers ------------------------------------------------------------------------------------------------------- */

static void answer(struct http_exchange *x, const void *bytes, size_t len)
{
    http_respond(x, &(struct http_response){.status = 200, .type = "text/plain", .body = bytes, .body_len = len});
}

static void hello(void *arg, struct http_exchange *x, const struct http_request *r)
{
    handled++;
    assert_ptr_equal(http_of(x), http);
    answer(x, "hello", 5);
}

static void echo(void *arg, struct http_exchange *x, const struct http_request *r)
{
    handled++;
    seen_len = r->body_len < sizeof(seen) ? r->body_len : sizeof(seen);
    if (seen_len)
        memcpy(seen, r->body, seen_len);
    answer(x, r->body, r->body_len);
    if (r->body_len)
        memset(r->body, 0xee, r->body_len); /* writable, and copied */
}

static void none(void *arg, struct http_exchange *x, const struct http_request *r)
{
    handled++;
    http_respond(x, &(struct http_response){.status = 204});
}

static void message(void *arg, struct http_exchange *x, const struct http_request *r)
{
    char text[512];
    handled++;
    int n =
        snprintf(text, sizeof(text), "%.*s|%.*s|%.*s", (int)r->params[0].len, r->params[0].bytes, (int)r->params[1].len,
                 r->params[1].bytes, (int)r->query.len, r->query.bytes ? r->query.bytes : "");
    answer(x, text, (size_t)n);
}

static void rest(void *arg, struct http_exchange *x, const struct http_request *r)
{
    handled++;
    answer(x, r->path.bytes, r->path.len);
}

static void gone(void *owner)
{
    struct kept *k = owner;
    k->gone++;
    k->x = NULL;
}

static void drained(void *owner)
{
    ((struct kept *)owner)->drained++;
}

static void sent(void *owner, bool all)
{
    struct kept *k = owner;
    *(all ? &k->sent_all : &k->sent_not) += 1;
}

static const struct http_exchange_ops plain_ops = {.gone = gone, .drained = drained};
static const struct http_exchange_ops sent_ops = {.gone = gone, .drained = drained, .sent = sent};

static void keep(void *arg, struct http_exchange *x, const struct http_request *r)
{
    handled++;
    assert_true(kept_count < 128);
    struct kept *k = &kept[kept_count++];
    snprintf(k->name, sizeof(k->name), "%.*s", (int)r->params[0].len, r->params[0].bytes);
    k->x = x;
    http_keep(x, want_sent ? &sent_ops : &plain_ops, k);
}

static void send_big(void *arg, struct http_exchange *x, const struct http_request *r)
{
    char *bytes = malloc(big);
    handled++;
    memset(bytes, 'b', big);
    answer(x, bytes, big);
    free(bytes);
}

static size_t taken_input(void *owner, uint8_t *bytes, size_t len, size_t *need)
{
    assert_true(taken.input_len + len <= sizeof(taken.input));
    memcpy(taken.input + taken.input_len, bytes, len);
    taken.input_len += len;
    return len;
}

static void taken_drained(void *owner)
{
    taken.drained++;
}

static void taken_closed(void *owner, enum net_close_reason reason)
{
    taken.closed++;
    taken.conn = NULL;
}

static void taken_goaway(void *owner, const char *text)
{
    taken.goaway++;
    net_conn_write(taken.conn, text, strlen(text));
    net_conn_finish(taken.conn);
}

static void taken_stalled(void *owner)
{
    taken.stalled++;
}

static const struct http_conn_ops conn_ops = {.input = taken_input,
                                              .drained = taken_drained,
                                              .closed = taken_closed,
                                              .goaway = taken_goaway,
                                              .stalled = taken_stalled};

static void take(void *arg, struct http_exchange *x, const struct http_request *r)
{
    struct http_field upgrade = {{"Upgrade", 7}, {"rig", 3}};
    bool stream = http_find(r, "accept");
    handled++;
    taken = (struct taken){0};
    taken.conn = http_take_over(x,
                                &(struct http_response){.status = stream ? 200 : 101,
                                                        .type = stream ? "text/event-stream" : NULL,
                                                        .fields = &upgrade,
                                                        .field_count = stream ? 0 : 1},
                                &conn_ops, &taken);
}

static const struct http_route routes[] = {
    {HTTP_GET, "/hello", hello, 0},
    {HTTP_POST, "/echo", echo, HTTP_BODY_MAX},
    {HTTP_GET, "/none", none, 0},
    {HTTP_GET, "/q/{queue}/m/{seq}", message, 0},
    {HTTP_DELETE, "/q/{queue}/m/{seq}", none, 0},
    {HTTP_GET, "/q/{queue}/m/first", hello, 0},
    {HTTP_GET, "/keep/{name}", keep, 0},
    {HTTP_POST, "/keep/{name}", keep, HTTP_BODY_MAX},
    {HTTP_GET, "/big", send_big, 0},
    {HTTP_GET, "/take", take, 0},
    {HTTP_PUT, "/small", echo, 10},
    {HTTP_GET, "/ui/*", rest, 0},
    {HTTP_GET, "/", hello, 0},
};

struct kept *kept_by(const char *name)
{
    for (unsigned i = kept_count; i > 0; i--)
        if (strcmp(kept[i - 1].name, name) == 0)
            return &kept[i - 1];
    fail_msg("nothing was kept as %s", name);
    return NULL;
}

void kept_answer(const char *name, const char *text)
{
    struct http_exchange *x = kept_by(name)->x;
    assert_non_null(x);
    kept_by(name)->x = NULL;
    answer(x, text, strlen(text));
}

/* ---- the front ------------------------------------------------------------------------------------------------------ */

static void ticked(void *arg, struct now now) {}

static void open_front(void)
{
    struct net_options net_options = {.read_buffer_bytes = read_buffer_bytes,
                                      .max_input_bytes = 16 << 20,
                                      .max_output_bytes = 64 << 20,
                                      .max_connections = 100,
                                      .linger_ms = 500};
    net = net_new(&net_options);
    http = http_new(&options, net);
    assert_true(net && http);
    assert_true(http_add_routes(http, routes, sizeof(routes) / sizeof(routes[0]), NULL));
    net_timer_init(&tick, ticked, NULL);
    memset(kept, 0, sizeof(kept));
    kept_count = handled = 0;
    want_sent = false;
    taken = (struct taken){0};
    dial();
    alarm(60);
}

int start(void **state)
{
    options = (struct http_options){.max_head_bytes = 4096,
                                    .max_fields = 20,
                                    .max_connections = 90,
                                    .max_body_bytes = 200000,
                                    .max_chunked_bytes = 1 << 20,
                                    .max_pipelined = 8,
                                    .head_ms = 5000,
                                    .idle_ms = 5000,
                                    .body_bytes_per_second = 1000,
                                    .stall_ms = 5000,
                                    .output_bytes = 65536,
                                    .origins = "https://good.example",
                                    .hosts = "broker.example"};
    read_buffer_bytes = 16384;
    open_front();
    return 0;
}

int stop(void **state)
{
    struct http_stats stats;
    alarm(0);
    if (fd >= 0)
        close(fd);
    fd = -1;
    net_free(net);
    http_get_stats(http, &stats);
    assert_int_equal(stats.connections, 0);
    assert_int_equal(stats.exchanges, 0);
    assert_int_equal(stats.taken_over, 0);
    http_free(http);
    return 0;
}

void again(void)
{
    stop(NULL);
    open_front();
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
    ssize_t n = recv(fd, got + got_len, sizeof(got) - 1 - got_len, MSG_DONTWAIT);
    if (n > 0)
        got_len += (size_t)n;
    got[got_len] = '\0';
}

void turn_unread(void)
{
    net_timer_set(net, &tick, (monotime){net_now(net).mono.ms + 5});
    net_turn(net, true);
}

void turns(int n)
{
    while (n-- > 0)
        turn(false);
}

void put_bytes(const void *bytes, size_t n)
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

void request_head(const char *text)
{
    expect_no_body = true;
    put(text);
}

bool has_field(const char *line)
{
    char with_end[256];
    snprintf(with_end, sizeof(with_end), "\r\n%s\r\n", line);
    return strstr(head, with_end);
}

static size_t content_length(void)
{
    const char *field = strstr(head, "\r\nContent-Length: ");
    bool without = expect_no_body || strncmp(head, "HTTP/1.1 204", 12) == 0 || strncmp(head, "HTTP/1.1 1", 10) == 0;
    expect_no_body = false;
    return field && !without ? strtoul(field + 18, NULL, 10) : 0;
}

int response(void)
{
    static char copy[1 << 22];
    char *end;
    for (unsigned i = 0; !(end = memmem(got, got_len, "\r\n\r\n", 4)); i++)
        turn(i > 10); /* most is there after a turn or two */
    size_t n = (size_t)(end + 4 - got);
    assert_true(n < sizeof(head));
    memcpy(head, got, n);
    head[n] = '\0';
    body_len = content_length();
    for (unsigned i = 0; got_len < n + body_len; i++)
        turn(i > 10);
    memcpy(copy, got + n, body_len);
    copy[body_len] = '\0';
    body = copy;
    memmove(got, got + n + body_len, got_len - n - body_len + 1);
    got_len -= n + body_len;
    assert_memory_equal(head, "HTTP/1.1 ", 9);
    return (int)strtol(head + 9, NULL, 10);
}

void expect(int status, const char *the_body)
{
    assert_int_equal(response(), status);
    if (the_body && strcmp(body, the_body) != 0)
        fail_msg("the body is '%s', not '%s'", body, the_body);
}

void expect_silence(void)
{
    turns(5);
    if (got_len > 0)
        fail_msg("something came: '%s'", got);
}

static void wait_a_little(unsigned i)
{
    net_timer_set(net, &tick, (monotime){net_now(net).mono.ms + 5});
    net_turn(net, i > 10);
}

void expect_end_of_socket(void)
{
    char byte;
    ssize_t n;
    assert_int_equal(got_len, 0);
    for (unsigned i = 0; (n = recv(fd, &byte, 1, MSG_DONTWAIT)) != 0; i++) {
        if (n > 0)
            fail_msg("'%c' and more came instead of the end", byte);
        if (errno != EAGAIN)
            break; /* a reset: it had sent more than was read */
        wait_a_little(i);
    }
    close(fd);
    fd = -1;
}

void expect_end(void)
{
    expect_end_of_socket();
    for (unsigned i = 0; http_connections(http) > 0; i++)
        wait_a_little(i);
}
