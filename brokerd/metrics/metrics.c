#include "metrics.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "metrics_internal.h"

static const struct http_route ROUTES[] = {
    {HTTP_GET, "/v1/stats", metrics_get_stats, 0},
    {HTTP_GET, "/v1/stats/queues", metrics_get_queues_stats, 0},
    {HTTP_GET, "/v1/stats/queues/{queue}", metrics_get_queue_stats, 0},
    {HTTP_GET, "/v1/stats/events", metrics_get_watch, 0},
    {HTTP_GET, "/v1/version", metrics_get_version, 0},
    {HTTP_GET, "/metrics", metrics_get_exposition, 0},
    {HTTP_GET, "/healthz", metrics_get_healthz, 0},
    {HTTP_GET, "/readyz", metrics_get_readyz, 0},
};

enum { DEFAULT_INTERVAL_MS = 1000, DEFAULT_QUEUES = 1000, STREAM_OUTPUT_BYTES = 1 << 20, STREAM_HEARTBEAT_MS = 15000 };

/* ---- requests ------------------------------------------------------------------------------------------------------- */

void metrics_respond(struct http_exchange *x, int status, const char *type, const void *body, size_t len)
{
    static const struct http_field fresh = {{"Cache-Control", 13}, {"no-store", 8}};
    http_respond(
        x, &(struct http_response){
               .status = status, .type = type, .body = body, .body_len = len, .fields = &fresh, .field_count = 1});
}

bool metrics_take_limit(struct metrics *m, struct http_exchange *x, const struct http_request *r, uint32_t *limit)
{
    struct http_text v;
    char text[128];
    uint64_t n = 0;
    *limit = m->options.max_queues;
    if (!http_query(r, "limit", &v))
        return true;
    for (size_t i = 0; i < v.len; i++)
        n = v.bytes[i] >= '0' && v.bytes[i] <= '9' && n <= UINT32_MAX ? n * 10 + (uint64_t)(v.bytes[i] - '0')
                                                                      : UINT64_MAX;
    if (n >= 1 && n <= m->options.max_queues) {
        *limit = (uint32_t)n;
        return true;
    }
    snprintf(text, sizeof(text), "limit is '%.*s'; give 1 to %u queues", (int)(v.len < 20 ? v.len : 20), v.bytes,
             m->options.max_queues);
    http_refuse(x, BROKER_INVALID_ARGUMENT, text, 0);
    return false;
}

bool metrics_take_name(struct http_exchange *x, const struct http_request *r, const char *parameter, char out[256])
{
    struct http_text v = {"", 0};
    char text[128];
    out[0] = '\0';
    if (!http_query(r, parameter, &v))
        return true;
    if (v.len > 255 || memchr(v.bytes, '\0', v.len)) {
        snprintf(text, sizeof(text), "%s has %zu bytes; give at most 255 of A-Z a-z 0-9 . _ -", parameter, v.len);
        http_refuse(x, BROKER_INVALID_ARGUMENT, text, 0);
        return false;
    }
    memcpy(out, v.bytes, v.len);
    out[v.len] = '\0';
    return true;
}

/* ---- looks ---------------------------------------------------------------------------------------------------------- */

void metrics_look(struct metrics *m, struct metrics_now *now)
{
    uint64_t now_ms = net_now(m->net).mono.ms, passed_ms = now_ms - m->looked_ms;
    memset(now, 0, sizeof(*now));
    m->now(m->now_arg, now);
    if (!m->looked) {
        m->published.count = now->broker.published;
        m->delivered.count = now->broker.delivered;
        m->acked.count = now->broker.acked;
        m->looked = true;
    } else if (passed_ms >= m->options.interval_ms / 2) {
        rate_look(&m->published, now->broker.published, passed_ms);
        rate_look(&m->delivered, now->broker.delivered, passed_ms);
        rate_look(&m->acked, now->broker.acked, passed_ms);
    } else {
        return; /* too close to the last look to tell a rate */
    }
    m->looked_ms = now_ms;
}

static void tick(void *arg, struct now now)
{
    struct metrics *m = arg;
    struct metrics_now figures;
    metrics_look(m, &figures);
    metrics_watchers_tick(m, &figures);
    net_timer_set(m->net, &m->tick, (monotime){now.mono.ms + m->options.interval_ms});
}

/* ---- the room ------------------------------------------------------------------------------------------------------- */

struct metrics *metrics_new(const struct metrics_options *options, struct http *http, struct clients *clients,
                            void (*now)(void *arg, struct metrics_now *out), void *arg)
{
    struct metrics *m = calloc(1, sizeof(*m));
    if (!m)
        return NULL;
    m->options = *options;
    m->options.interval_ms = options->interval_ms ? options->interval_ms : DEFAULT_INTERVAL_MS;
    m->options.max_queues = options->max_queues ? options->max_queues : DEFAULT_QUEUES;
    m->http = http;
    m->net = http_net(http);
    m->clients = clients;
    m->now = now;
    m->now_arg = arg;
    TAILQ_INIT(&m->todo);
    TAILQ_INIT(&m->watchers);
    net_timer_init(&m->run, metrics_walks_run, m);
    net_timer_init(&m->tick, tick, m);
    struct sse_hub_options hub = {.heartbeat_ms = STREAM_HEARTBEAT_MS,
                                  .retry_ms = 2 * m->options.interval_ms,
                                  .output_bytes = STREAM_OUTPUT_BYTES};
    m->hub = sse_hub_new(&hub, http);
    m->rates = rates_new(2 * m->options.max_queues);
    monotime first = {net_now(m->net).mono.ms + m->options.interval_ms};
    if (m->hub && m->rates && net_timer_set(m->net, &m->tick, first) &&
        http_add_routes(http, ROUTES, sizeof(ROUTES) / sizeof(ROUTES[0]), m))
        return m;
    net_timer_set(m->net, &m->tick, MONOTIME_NEVER);
    metrics_free(m);
    return NULL;
}

void metrics_free(struct metrics *m)
{
    if (!m)
        return;
    sse_hub_free(m->hub);
    rates_free(m->rates);
    free(m);
}

uint32_t metrics_streams(const struct metrics *m)
{
    return m->watcher_count;
}
