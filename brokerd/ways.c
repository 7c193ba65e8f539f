#include "ways.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "console.h"
#include "front_tcp.h"
#include "http.h"
#include "log.h"
#include "process.h"
#include "rest.h"
#include "service.h"
#include "sse.h"
#include "websocket.h"

enum {
    LISTED_BYTES = 1 << 20, /* of messages in one answer of HTTP */
    EVENT_BATCH_MESSAGES = 64,
    EVENT_BATCH_BYTES = 256 << 10,
    EVENT_QUEUES_MAX = 64,
    BATCH_MESSAGES_MAX = 10000,
};

struct ways {
    const struct conf *conf;
    struct ways_host host;
    struct front_tcp *tcp;
    struct http *http;
    struct rest *rest;
    struct sse *sse;
    struct websocket *websocket;
    struct metrics *metrics;
    struct console *console; /* NULL: http.page = no */
    uint64_t epoch;
    uint16_t port; /* the first that is found: for port files */
};

/* ---- figures ---------------------------------------------------------------------------------------------------------- */

void ways_now(struct ways *w, struct metrics_now *out)
{
    w->host.now(w->host.arg, out);
    out->connections[WAY_TCP] = front_tcp_connections(w->tcp);
    out->connections[WAY_SSE] = sse_streams(w->sse) + metrics_streams(w->metrics);
    out->connections[WAY_WEBSOCKET] = websocket_connections(w->websocket);
    out->connections[WAY_HTTP] =
        http_connections(w->http) - out->connections[WAY_SSE] - out->connections[WAY_WEBSOCKET];
    out->broker.connections = ways_connections(w);
}

static void tell_stats(void *arg, broker_stats *out, uint64_t *epoch)
{
    struct metrics_now now = {0};
    size_t size = out->size;
    ways_now(arg, &now);
    *out = now.broker;
    out->size = size;
    *epoch = now.epoch;
}

/* ---- making them ------------------------------------------------------------------------------------------------------ */

static struct front_tcp *tcp_new(struct ways *w)
{
    const struct conf *c = w->conf;
    struct front_tcp_options options = {
        .max_frame_bytes = (uint32_t)c->limits.max_frame_bytes,
        .max_message_bytes = (uint32_t)c->limits.max_message_bytes,
        .max_connections = (uint32_t)c->tcp.max_connections,
        .max_settle_ranges = (uint32_t)c->limits.settle_ranges,
        .max_transact_parts = (uint32_t)c->limits.transact_parts,
        .waiting_leases = (uint32_t)c->limits.waiting_leases,
        .heartbeat_ms = (uint32_t)c->tcp.heartbeat_ms,
        .hello_ms = (uint32_t)c->tcp.hello_ms,
        .frame_ms = (uint32_t)c->tcp.frame_ms,
        .stall_ms = (uint32_t)c->tcp.stall_ms,
        .output_bytes = c->tcp.output_bytes,
    };
    struct front_tcp_host host = {
        .stats = tell_stats, .arg = w, .backup_ops = &store_backup_ops, .backup = w->host.store};
    return front_tcp_new(&options, w->host.net, &host);
}

static struct http *web_new(struct ways *w)
{
    const struct conf *c = w->conf;
    struct http_options options = {
        .max_head_bytes = (uint32_t)c->http.max_head_bytes,
        .max_fields = (uint32_t)c->http.max_fields,
        .max_body_bytes = (uint32_t)c->http.max_body_bytes,
        .max_chunked_bytes = c->http.chunked_bytes,
        .max_pipelined = (uint32_t)c->http.pipelined,
        .head_ms = (uint32_t)c->http.head_ms,
        .idle_ms = (uint32_t)c->http.idle_ms,
        .body_bytes_per_second = (uint32_t)c->http.body_bytes_per_second,
        .stall_ms = (uint32_t)c->tcp.stall_ms,
        .output_bytes = c->http.output_bytes,
        .max_connections = (uint32_t)c->http.max_connections,
        .origins = c->http.origins,
        .hosts = c->http.hosts,
    };
    return http_new(&options, w->host.net);
}

static struct rest *rest_make(struct ways *w)
{
    const struct conf *c = w->conf;
    struct rest_options options = {
        .max_wait_ms = (uint32_t)c->http.max_wait_ms,
        .max_message_bytes = (uint32_t)c->limits.max_message_bytes,
        .max_batch_messages = BATCH_MESSAGES_MAX,
        .max_answer_bytes = LISTED_BYTES,
    };
    struct rest_host host = {.stats = tell_stats, .arg = w, .backup_ops = &store_backup_ops, .backup = w->host.store};
    return rest_new(&options, w->http, w->host.clients, &host);
}

static uint64_t tell_epoch(void *arg)
{
    struct ways *w = arg;
    struct metrics_now now = {0};
    if (!w->epoch) { /* it stays the same from the start on */
        w->host.now(w->host.arg, &now);
        w->epoch = now.epoch;
    }
    return w->epoch;
}

static struct sse *sse_make(struct ways *w)
{
    const struct conf *c = w->conf;
    struct sse_options options = {
        .heartbeat_ms = (uint32_t)c->http.event_heartbeat_ms,
        .retry_ms = (uint32_t)c->http.event_retry_ms,
        .max_queues =
            c->limits.waiting_leases < EVENT_QUEUES_MAX ? (uint32_t)c->limits.waiting_leases : EVENT_QUEUES_MAX,
        .batch_messages = EVENT_BATCH_MESSAGES,
        .batch_bytes = EVENT_BATCH_BYTES,
        .output_bytes = c->http.output_bytes,
    };
    return sse_new(&options, w->http, w->host.clients, tell_epoch, w);
}

static struct websocket *websocket_make(struct ways *w)
{
    const struct conf *c = w->conf;
    struct websocket_options options = {
        .max_message_bytes = (uint32_t)c->websocket.max_message_bytes,
        .ping_ms = (uint32_t)c->websocket.ping_ms,
        .close_ms = (uint32_t)c->websocket.close_ms,
        .output_bytes = c->http.output_bytes,
        .partial_bytes = c->http.chunked_bytes,
        .max_subscriptions = (uint32_t)c->limits.subscriptions,
        .deflate = c->websocket.deflate,
    };
    return websocket_new(&options, w->http, w->host.clients);
}

static void tell_now(void *arg, struct metrics_now *out)
{
    ways_now(arg, out);
}

static struct metrics *metrics_make(struct ways *w)
{
    struct metrics_options options = {
        .interval_ms = (uint32_t)w->conf->http.statistics_interval_ms,
        .max_queues = (uint32_t)w->conf->http.statistics_queues,
    };
    return metrics_new(&options, w->http, w->host.clients, tell_now, w);
}

struct ways *ways_new(const struct conf *conf, const struct ways_host *host)
{
    struct ways *w = calloc(1, sizeof(*w));
    if (!w)
        return NULL;
    w->conf = conf;
    w->host = *host;
    bool made = (w->tcp = tcp_new(w)) && (w->http = web_new(w)) && (w->rest = rest_make(w)) && (w->sse = sse_make(w)) &&
                (w->websocket = websocket_make(w)) && (w->metrics = metrics_make(w)) &&
                (!conf->http.page || (w->console = console_new(w->http)));
    if (!made) {
        ways_free(w);
        return NULL;
    }
    return w;
}

void ways_attach(struct ways *w, struct door *door)
{
    front_tcp_attach(w->tcp, w->host.clients, door);
}

void ways_free(struct ways *w)
{
    if (!w)
        return;
    console_free(w->console);
    metrics_free(w->metrics);
    websocket_free(w->websocket);
    sse_free(w->sse);
    rest_free(w->rest);
    http_free(w->http);
    front_tcp_free(w->tcp);
    free(w);
}

/* ---- listening -------------------------------------------------------------------------------------------------------- */

struct place {
    const char *listen, *unix_path;
    unsigned unix_mode;
    const struct net_handler *handler;
    void *front;
};

static bool listen_at(struct ways *w, const struct place *p)
{
    char host[256], port[16], error[CONF_ERROR_BYTES];
    const char *list = p->listen;
    int status = 0;
    bool good = true;
    while (good && (status = conf_next_address(&list, host, port, error)) > 0)
        good = net_listen_tcp(w->host.net, host, port, p->handler, p->front, error, sizeof(error));
    if (good && status == 0 && *p->unix_path)
        good = net_listen_unix(w->host.net, p->unix_path, p->unix_mode, p->handler, p->front, error, sizeof(error));
    if (!good || status < 0)
        log_error("%s", error);
    return good && status >= 0;
}

/* Sockets that the service manager hands over take the place of those in the configuration; their names tell them apart. */
static bool take_sockets(struct ways *w, int first, int count)
{
    char error[CONF_ERROR_BYTES];
    for (int i = 0; i < count; i++) {
        bool web = strcmp(service_socket_name(i), "http") == 0;
        if (!net_listen_fd(w->host.net, first + i, web ? &http_handler : &front_tcp_handler,
                           web ? (void *)w->http : (void *)w->tcp, error, sizeof(error))) {
            log_error("%s", error);
            return false;
        }
    }
    return true;
}

bool ways_listen(struct ways *w)
{
    const struct conf *c = w->conf;
    struct place tcp = {c->tcp.listen, c->tcp.unix_path, (unsigned)c->tcp.unix_mode, &front_tcp_handler, w->tcp};
    struct place web = {c->http.listen, c->http.unix_path, (unsigned)c->http.unix_mode, &http_handler, w->http};
    int first, handed = service_sockets(&first);
    if (handed)
        return take_sockets(w, first, handed);
    return listen_at(w, &tcp) && listen_at(w, &web);
}

static void announce(void *arg, const char *text, uint16_t port)
{
    struct ways *w = arg;
    log_notice("listening on %s", text);
    if (!w->port)
        w->port = port;
}

static void announce_http(void *arg, const char *text, uint16_t port)
{
    struct ways *w = arg;
    log_notice("serving HTTP on %s", text);
    if (!w->port)
        w->port = port;
}

bool ways_announce(struct ways *w, const struct conf_args *args)
{
    char text[16];
    w->port = 0;
    net_each_listener(w->host.net, &front_tcp_handler, announce, w);
    snprintf(text, sizeof(text), "%u\n", w->port);
    if (!process_write_file(args->port_file, text))
        return false;
    w->port = 0;
    net_each_listener(w->host.net, &http_handler, announce_http, w);
    snprintf(text, sizeof(text), "%u\n", w->port);
    return process_write_file(args->http_port_file, text);
}

/* ---- the end ---------------------------------------------------------------------------------------------------------- */

void ways_goaway(struct ways *w, const char *text)
{
    front_tcp_goaway(w->tcp, text);
    rest_goaway(w->rest);
    http_goaway(w->http, text);
}

bool ways_are_idle(const struct ways *w)
{
    return front_tcp_is_idle(w->tcp) && http_is_idle(w->http);
}

void ways_finish(struct ways *w)
{
    front_tcp_finish(w->tcp);
    http_finish(w->http);
}

uint32_t ways_connections(const struct ways *w)
{
    return front_tcp_connections(w->tcp) + http_connections(w->http);
}
