#include "sse.h"

#include <stdlib.h>

#include "sse_internal.h"

static void get_events(void *arg, struct http_exchange *x, const struct http_request *r)
{
    struct stream *s = sse_parse(arg, x, r);
    if (s)
        sse_start(s, x);
}

static const struct http_route ROUTES[] = {
    {HTTP_GET, "/v1/queues/{queue}/events", get_events, 0},
    {HTTP_GET, "/v1/events", get_events, 0},
};

struct sse *sse_new(const struct sse_options *options, struct http *http, struct clients *clients,
                    uint64_t (*epoch)(void *arg), void *arg)
{
    struct sse_hub_options hub = {
        .heartbeat_ms = options->heartbeat_ms, .retry_ms = options->retry_ms, .output_bytes = options->output_bytes};
    struct sse *s = calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    *s = (struct sse){.options = *options,
                      .http = http,
                      .net = http_net(http),
                      .clients = clients,
                      .epoch = epoch,
                      .epoch_arg = arg,
                      .hub = sse_hub_new(&hub, http),
                      .events = sse_events_new(http_net(http)),
                      .pumped_turn = UINT64_MAX};
    buf_init(&s->scratch, 0);
    TAILQ_INIT(&s->todo);
    net_timer_init(&s->pump, sse_pump, s);
    if (s->hub && s->events && http_add_routes(http, ROUTES, sizeof(ROUTES) / sizeof(ROUTES[0]), s))
        return s;
    sse_free(s);
    return NULL;
}

void sse_free(struct sse *s)
{
    if (!s)
        return;
    for (struct stream *left; (left = TAILQ_FIRST(&s->todo));)
        sse_release(left); /* refused, and not looked at any more */
    sse_hub_free(s->hub);
    sse_events_free(s->events);
    buf_release(&s->scratch);
    free(s);
}

uint32_t sse_streams(const struct sse *s)
{
    struct sse_hub_stats stats;
    sse_hub_get_stats(s->hub, &stats);
    return stats.streams;
}
