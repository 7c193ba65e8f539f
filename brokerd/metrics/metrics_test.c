/* The room over a socket pair, with a double for the engine that knows a few queues by their figures alone. */
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

#include "metrics_internal.h"

/* ---- the double ------------------------------------------------------------------------------------------------------ */

enum { QUEUES_MAX = 300 };
static broker_queue_info queues[QUEUES_MAX]; /* by rising names; name NULL: gone */
static char names[QUEUES_MAX][32];
static unsigned queue_count, list_limit, commands[COMMAND_TYPES];

static struct net *net;
static struct http *http;
static struct clients *clients;
static struct door *door;
static struct metrics *metrics;
static struct net_timer tick;
static struct metrics_now figures;

static void answer_list(const struct command *c)
{
    broker_queue_info found[1000];
    struct completion done = {.type = c->type, .token = c->token};
    const struct name *prefix = &c->u.list.prefix, *after = &c->u.list.after;
    for (unsigned i = 0; i < queue_count; i++) {
        const char *name = queues[i].name;
        if (!name || strncmp(name, prefix->bytes, prefix->len) != 0 ||
            (after->len && strncmp(name, after->bytes, after->len + 1) <= 0))
            continue;
        if (done.u.list.count == c->u.list.limit) {
            done.u.list.more = true;
            break;
        }
        found[done.u.list.count++] = queues[i];
    }
    done.u.list.queues = found;
    clients_sink_ops.complete(clients, &done);
}

static void answer_describe(const struct command *c)
{
    struct completion done = {.type = c->type, .token = c->token};
    broker_group_info group = {.name = "workers", .queue = "q", .lag = 7};
    const char *binding = "orders.>";
    for (unsigned i = 0; i < queue_count; i++)
        if (queues[i].name && strlen(queues[i].name) == c->queue.len &&
            memcmp(queues[i].name, c->queue.bytes, c->queue.len) == 0)
            done.u.describe.queue = &queues[i];
    done.u.describe.groups = &group;
    done.u.describe.bindings = &binding;
    done.u.describe.group_count = done.u.describe.binding_count = 1;
    if (!done.u.describe.queue) {
        done.error = BROKER_QUEUE_NOT_FOUND;
        done.text = "there is no such queue";
    }
    clients_sink_ops.complete(clients, &done);
}

void engine_submit(struct engine *e, struct now now, const struct command *c)
{
    commands[c->type]++;
    if (c->type == COMMAND_QUEUE_LIST)
        answer_list(c);
    else if (c->type == COMMAND_QUEUE_DESCRIBE)
        answer_describe(c);
    else
        assert_int_equal(c->type, COMMAND_CLOSE);
}

static broker_queue_info *add_queue(const char *name)
{
    broker_queue_info *q = &queues[queue_count];
    snprintf(names[queue_count], sizeof(names[0]), "%s", name);
    *q = (broker_queue_info){.name = names[queue_count], .id = ++queue_count};
    return q;
}

static void look_now(void *arg, struct metrics_now *out)
{
    *out = figures;
}

/* ---- a client --------------------------------------------------------------------------------------------------------- */

static int fd = -1;
static char got[1 << 20];
static size_t got_len;

static void ticked(void *arg, struct now now) {}

static void turn(void)
{
    net_timer_set(net, &tick, (monotime){net_now(net).mono.ms + 2});
    net_turn(net, true);
    ssize_t n = fd < 0 ? 0 : recv(fd, got + got_len, sizeof(got) - got_len - 1, MSG_DONTWAIT);
    got_len += n > 0 ? (size_t)n : 0;
    got[got_len] = '\0';
}

static void hang_up(void)
{
    if (fd >= 0)
        close(fd);
    fd = -1;
    for (int i = 0; i < 3; i++)
        turn();
}

static void get(const char *path, const char *accept)
{
    char request[512];
    int fds[2];
    hang_up();
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    fd = fds[1];
    got_len = 0;
    got[0] = '\0';
    assert_non_null(net_adopt(net, fds[0], &http_handler, http));
    int n =
        snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: localhost\r\nAccept: %s\r\n\r\n", path, accept);
    assert_int_equal(send(fd, request, (size_t)n, MSG_NOSIGNAL), n);
}

static void wait_for(const char *text)
{
    while (!strstr(got, text))
        turn();
}

/* What came up to `text`, which is awaited. */
static const char *take(const char *text)
{
    static char taken[sizeof(got)];
    wait_for(text);
    size_t n = (size_t)(strstr(got, text) - got) + strlen(text);
    memcpy(taken, got, n);
    taken[n] = '\0';
    got_len -= n;
    memmove(got, got + n, got_len + 1);
    return taken;
}

/* The body of a whole answer with this status. */
static const char *body(const char *status)
{
    char line[64];
    snprintf(line, sizeof(line), "HTTP/1.1 %s", status);
    wait_for("\r\n\r\n");
    if (!strstr(got, line))
        fail_msg("not %s but %s", status, got);
    const char *length = strstr(got, "Content-Length: ");
    assert_non_null(length);
    size_t n = strtoul(length + 16, NULL, 10);
    const char *start = strstr(got, "\r\n\r\n") + 4;
    while (strlen(start) < n)
        turn();
    return start;
}

static void has(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("'%s' lacks '%s'", text, part);
}

static void has_not(const char *text, const char *part)
{
    if (strstr(text, part))
        fail_msg("'%s' has '%s'", text, part);
}

static int start(void **state)
{
    struct net_options net_options = {.read_buffer_bytes = 65536,
                                      .max_input_bytes = 16 << 20,
                                      .max_output_bytes = 64 << 20,
                                      .max_connections = 100,
                                      .linger_ms = 100};
    struct http_options http_options = {.max_head_bytes = 8192,
                                        .max_fields = 100,
                                        .max_body_bytes = 1 << 20,
                                        .max_chunked_bytes = 1 << 20,
                                        .max_pipelined = 8,
                                        .head_ms = 5000,
                                        .idle_ms = 5000,
                                        .body_bytes_per_second = 1,
                                        .stall_ms = 5000,
                                        .output_bytes = 1 << 20,
                                        .max_connections = 100,
                                        .origins = "",
                                        .hosts = ""};
    struct metrics_options options = {.interval_ms = 30, .max_queues = 3};
    list_limit = *state ? 7 : 1000;
    struct door_options door_options = {.max_list = list_limit};
    queue_count = 0;
    memset(commands, 0, sizeof(commands));
    figures = (struct metrics_now){.ready = true, .epoch = 4, .connections = {1, 2, 3, 4}};
    snprintf(figures.broker.version, sizeof(figures.broker.version), "1.2.3");
    net = net_new(&net_options);
    http = http_new(&http_options, net);
    clients = clients_new();
    door = door_new(&door_options, NULL, &clients_sink_ops, clients);
    clients_attach(clients, door);
    metrics = metrics_new(&options, http, clients, look_now, NULL);
    assert_true(net && http && clients && door && metrics);
    net_timer_init(&tick, ticked, NULL);
    alarm(30);
    return 0;
}

static int stop(void **state)
{
    alarm(0);
    hang_up();
    net_free(net);
    metrics_free(metrics);
    http_free(http);
    assert_int_equal(clients_count(clients), 0);
    clients_free(clients);
    door_free(door);
    return 0;
}

/* ---- JSON --------------------------------------------------------------------------------------------------------------- */

static void broker_figures(void **state)
{
    figures.broker.published = 77;
    figures.sync_us.counts[0] = 90;
    figures.sync_us.counts[HISTOGRAM_BOUNDS] = 10;
    figures.sync_us.count = 100;
    figures.sync_us.max_us = 9000000;
    get("/v1/stats", "*/*");
    const char *b = body("200");
    has(b, "{\"version\":\"1.2.3\",\"ready\":true,\"epoch\":4,");
    has(b, "\"published\":77,");
    has(b, "\"connections\":{\"tcp\":1,\"http\":2,\"sse\":3,\"websocket\":4}");
    has(b, "\"sync_p50_us\":50,\"sync_p99_us\":9000000,");
    has(b, "\"sync_buckets\":[[50,90],[null,10]]");
}

static void queue_figures(void **state)
{
    broker_queue_info *q = add_queue("orders");
    q->ready = 3;
    q->paused = true;
    q->oldest_ms = net_now(net).wall.ms - 5000;
    add_queue("other");
    get("/v1/stats/queues?prefix=ord", "*/*");
    const char *b = body("200");
    has(b, "{\"queues\":[{\"name\":\"orders\",\"paused\":true,\"messages\":0,\"bytes\":0,\"ready\":3,");
    has(b, "\"oldest_ms\":50");  /* about five seconds */
    has(b, "\"in_rate\":null,"); /* nobody has looked before */
    has(b, "}],\"more\":false}\n");
    has_not(b, "other");
}

static void pages(void **state)
{
    char name[32];
    for (int i = 0; i < 5; i++) {
        snprintf(name, sizeof(name), "q%d", i);
        add_queue(name);
    }
    get("/v1/stats/queues?limit=2&after=q0", "*/*");
    const char *b = body("200");
    has_not(b, "\"q0\"");
    has(b, "{\"name\":\"q1\"");
    has(b, "{\"name\":\"q2\"");
    has(b, "}],\"more\":true}");
    has_not(b, "\"q3\"");
    get("/v1/stats/queues?limit=4", "*/*");
    has(body("400"), "limit is '4'; give 1 to 3");
    get("/v1/stats/queues?limit=x", "*/*");
    body("400");
}

static void one_queue(void **state)
{
    add_queue("q")->ready = 9;
    get("/v1/stats/queues/q", "*/*");
    const char *b = body("200");
    has(b, "{\"queue\":{\"name\":\"q\"");
    has(b, "\"lag\":7");
    has(b, "\"bindings\":[\"orders.>\"]");
    has(b, "\"figures\":{\"name\":\"q\"");
    get("/v1/stats/queues/none", "*/*");
    has(body("404"), "QUEUE_NOT_FOUND");
}

static void rates(void **state)
{
    struct rate r = {.count = 100};
    rate_look(&r, 1100, 1000);
    assert_true(r.per_second > 200 && r.per_second < 300); /* a quarter of the way to 1000 */
    for (int i = 1; i <= 30; i++)
        rate_look(&r, 1100 + 1000 * (uint64_t)i, 1000);
    assert_true(r.per_second > 990 && r.per_second < 1001);
    for (int i = 0; i < 60; i++)
        rate_look(&r, r.count, 1000);
    assert_true(r.per_second == 0.0);
    rate_look(&r, 5, 1000); /* a counter that began anew */
    assert_true(r.per_second == 0.0);
}

static void rates_of_queues_are_bounded(void **state)
{
    struct rates *r = rates_new(2);
    struct line l = {0};
    broker_queue_info q = {.id = 1, .published = 10};
    struct now now = {.mono = {1000}};
    rates_look(r, &q, now, &l);
    assert_false(l.has_rates);
    now.mono.ms += 1000;
    q.published = 1010;
    rates_look(r, &q, now, &l);
    assert_true(l.has_rates && l.in_rate > 200 && l.out_rate == 0.0);
    double before = l.in_rate;
    now.mono.ms += 10; /* too close */
    rates_look(r, &q, now, &l);
    assert_true(l.in_rate == before);
    for (uint32_t id = 2; id < 5; id++) {
        q.id = id;
        rates_look(r, &q, now, &l);
    }
    q.id = 1; /* others have taken its place */
    l.has_rates = true;
    rates_look(r, &q, now, &l);
    assert_false(l.has_rates);
    rates_free(r);
}

/* ---- the stream ------------------------------------------------------------------------------------------------------------ */

static void watches(void **state)
{
    add_queue("a");
    broker_queue_info *b = add_queue("b");
    get("/v1/stats/events", "text/event-stream");
    has(take("\r\n\r\n"), "Content-Type: text/event-stream");
    take("event: stats\n");
    const char *event = take("\n\n");
    has(event, "data: {\"broker\":{\"version\":");
    has(event, "\"queues\":[{\"name\":\"a\",");
    has(event, ",{\"name\":\"b\",");
    has(event, "\"removed\":[],\"total\":2,\"more\":false,\"full\":true}");
    b->ready = 5;
    do {
        take("event: stats\n");
        event = take("\n\n");
    } while (!strstr(event, "\"ready\":5"));
    has(event, "\"queues\":[{\"name\":\"b\",");
    has(event, "\"removed\":[]");
    b->name = NULL;
    do {
        take("event: stats\n");
        event = take("\n\n");
    } while (!strstr(event, "\"removed\":[\"b\"]"));
    add_queue("c");
    do {
        take("event: stats\n");
        event = take("\n\n");
    } while (!strstr(event, "\"queues\":[{\"name\":\"c\","));
    has(event, "\"removed\":[],\"total\":2,");
}

static void watches_one_queue(void **state)
{
    broker_queue_info *q = add_queue("q");
    add_queue("r");
    get("/v1/stats/events?queues=q&queue=q", "text/event-stream");
    take("event: stats\n");
    has_not(take("\n\n"), "{\"name\":\"r\"");
    take("event: queue\n");
    has(take("\n\n"), "data: {\"queue\":{\"name\":\"q\"");
    for (int i = 0; i < 3; i++) { /* told once, until it changes */
        take("event: stats\n");
        has_not(take("\n\n"), "event: queue");
    }
    q->groups = 2;
    take("event: queue\n");
    has(take("\n\n"), "\"groups\":2");
}

static void a_watcher_hears_of_the_end(void **state)
{
    get("/v1/stats/events", "text/event-stream");
    take("event: stats\n");
    http_goaway(http, "the broker is shutting down");
    take("event: end\ndata: {\"reason\":\"shutting_down\",");
}

/* ---- Prometheus ------------------------------------------------------------------------------------------------------------ */

static void exposes(void **state)
{
    char name[32];
    figures.broker.published = 12;
    figures.broker.cpu_us = 1500000;
    figures.sync_us.counts[0] = 2;
    figures.sync_us.counts[4] = 3;
    figures.sync_us.count = 5;
    figures.sync_us.sum_us = 2500;
    for (int i = 0; i < 250; i++) { /* more than a page */
        snprintf(name, sizeof(name), "q%03d", i);
        broker_queue_info *q = add_queue(name);
        q->ready = 2;
        q->published = 5;
    }
    get("/metrics", "*/*");
    const char *b = body("200");
    has(got, "Content-Type: text/plain; version=0.0.4");
    has(b, "# TYPE brokerd_published_messages_total counter\nbrokerd_published_messages_total 12\n");
    has(b, "process_cpu_seconds_total 1.500000\n");
    has(b, "brokerd_connections{way=\"websocket\"} 4\n");
    has(b, "# TYPE brokerd_log_sync_duration_seconds histogram\n");
    has(b, "brokerd_log_sync_duration_seconds_bucket{le=\"5e-05\"} 2\n");
    has(b, "brokerd_log_sync_duration_seconds_bucket{le=\"0.001\"} 5\n");
    has(b, "brokerd_log_sync_duration_seconds_bucket{le=\"1.0\"} 5\n");
    has(b, "brokerd_log_sync_duration_seconds_bucket{le=\"+Inf\"} 5\n");
    has(b, "brokerd_log_sync_duration_seconds_sum 0.002500\nbrokerd_log_sync_duration_seconds_count 5\n");
    has(b, "brokerd_queue_ready_messages{queue=\"q002\"} 2\n");
    has_not(b, "q003");
    has(b, "brokerd_queue_ready_messages{queue=\"_other\"} 494\n");
    has_not(b, "brokerd_queue_published_messages_total{queue=\"_other\"}"); /* it could fall */
    has(b, "brokerd_queues_without_own_figures 247\n");
    has_not(b, "# EOF");
    assert_true(commands[COMMAND_QUEUE_LIST] >= 3);
    get("/metrics", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5");
    b = body("200");
    has(got, "Content-Type: application/openmetrics-text; version=1.0.0");
    has(b, "# TYPE brokerd_published_messages counter\nbrokerd_published_messages_total 12\n");
    assert_string_equal(b + strlen(b) - 6, "# EOF\n");
}

/* ---- health ----------------------------------------------------------------------------------------------------------------- */

static void health(void **state)
{
    get("/healthz", "*/*");
    assert_string_equal(body("200"), "ok\n");
    get("/readyz", "*/*");
    assert_string_equal(body("200"), "ready\n");
    figures.ready = false;
    figures.why = "the broker is stopping";
    get("/readyz", "*/*");
    assert_string_equal(body("503"), "the broker is stopping\n");
    get("/v1/version", "*/*");
    has(body("200"), "{\"name\":\"brokerd\",\"version\":\"" BROKER_VERSION_STRING "\",\"build_type\":\"");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, start, stop)
    static int small_lists;
    const struct CMUnitTest tests[] = {
        TEST(broker_figures),
        TEST(queue_figures),
        TEST(pages),
        TEST(one_queue),
        cmocka_unit_test(rates),
        cmocka_unit_test(rates_of_queues_are_bounded),
        TEST(watches),
        TEST(watches_one_queue),
        TEST(a_watcher_hears_of_the_end),
        TEST(exposes),
        cmocka_unit_test_prestate_setup_teardown(exposes, start, stop, &small_lists),
        TEST(health),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
