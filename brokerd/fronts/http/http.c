/* The front's life and its connections': deadlines, the end. */
#include <stdio.h>
#include <stdlib.h>

#include "http_internal.h"
#include "log.h"

/* ---- deadlines ------------------------------------------------------------------------------------------------------ */

/* Looked at lazily: most only ever move on, so nothing is re-armed per request. What begins between two looks arms an earlier
   one if need be. */
void h1_arm(struct conn *c, uint64_t at_ms)
{
    if (at_ms >= c->armed_ms)
        return;
    c->armed_ms = at_ms;
    if (!net_conn_set_deadline(c->net, (monotime){at_ms}))
        net_conn_abort(c->net);
}

static void earlier(uint64_t *at, uint64_t other)
{
    if (other < *at)
        *at = other;
}

static void log_end(const struct conn *c, const char *why)
{
    char peer[80];
    net_conn_peer(c->net, peer, sizeof(peer));
    log_info("closing the HTTP connection of %s: %s", peer, why);
    c->h->stats.refused_connections++;
}

/* Is output waiting, and for how long has none of it been taken? false: the connection is over. */
static bool check_stall(struct conn *c, uint64_t ms, uint64_t *next)
{
    uint64_t sent = net_conn_sent(c->net);
    if (net_conn_unsent(c->net) == 0) {
        c->stalled_ms = 0;
    } else if (!c->stalled_ms || sent != c->sent_seen) {
        c->stalled_ms = ms;
    } else if (ms - c->stalled_ms >= c->h->options.stall_ms) {
        log_end(c, "it takes nothing of its output");
        if (c->is_taken && c->taken->stalled)
            c->taken->stalled(c->taken_owner);
        net_conn_abort(c->net);
        return false;
    }
    c->sent_seen = sent;
    if (c->stalled_ms)
        earlier(next, c->stalled_ms + c->h->options.stall_ms);
    return true;
}

static void time_out(struct conn *c, const char *what)
{
    struct problem p;
    log_end(c, what);
    c->h->stats.refused_connections--; /* conn_refuse counts it */
    problem_set(&p, 408, "request_timeout", "%s", what);
    chunked_free(c->h, c->chunked);
    c->chunked = NULL;
    c->whole = 0;
    c->partial_ms = 0;
    conn_refuse(c, NULL, &p);
}

static uint64_t body_received(const struct conn *c)
{
    if (c->chunked)
        return c->chunked->body.len;
    size_t held = net_conn_held(c->net);
    return held > c->head_bytes ? held - c->head_bytes : 0;
}

/* After its grace a body has to come at a rate, looked at once a second. */
static void check_body(struct conn *c, uint64_t ms, uint64_t *next)
{
    enum { LOOK_MS = 1000 };
    uint64_t got = body_received(c);
    if (net_conn_is_unread(c->net) || ms < c->body_ms) { /* it cannot be faster than we read it */
        if (ms > c->body_ms)
            c->body_ms = ms;
        c->body_bytes = got;
    } else if (ms - c->body_ms >= LOOK_MS) {
        uint64_t wanted = (ms - c->body_ms) * c->h->options.body_bytes_per_second / 1000;
        if (got - c->body_bytes < wanted) {
            time_out(c, "the body comes too slowly");
            return;
        }
        c->body_ms = ms;
        c->body_bytes = got;
    }
    earlier(next, c->body_ms + LOOK_MS);
}

/* A request is incomplete. */
static void check_partial(struct conn *c, uint64_t ms, uint64_t *next)
{
    if (c->chunked || c->whole)
        check_body(c, ms, next);
    else if (ms - c->partial_ms >= c->h->options.head_ms)
        time_out(c, "the head of a request was not complete in time");
    else
        earlier(next, c->partial_ms + c->h->options.head_ms);
}

static void check_idle(struct conn *c, uint64_t ms, uint64_t *next)
{
    uint64_t limit = c->used ? c->h->options.idle_ms : c->h->options.head_ms;
    if (net_conn_unsent(c->net) > 0)
        c->idle_ms = ms; /* its answer is still on its way */
    if (ms - c->idle_ms >= limit)
        net_conn_finish(c->net);
    else
        earlier(next, c->idle_ms + limit);
}

static monotime conn_deadline(void *conn, struct now now)
{
    struct conn *c = conn;
    uint64_t ms = now.mono.ms, next = ms + c->h->options.stall_ms; /* so that a stall is seen though nothing happens */
    if (check_stall(c, ms, &next) && !c->is_taken) {
        if (c->partial_ms && !c->paused)
            check_partial(c, ms, &next);
        else if (c->count == 0 && !c->closing)
            check_idle(c, ms, &next);
    }
    c->armed_ms = next;
    return (monotime){next};
}

/* ---- connections ---------------------------------------------------------------------------------------------------- */

static void *conn_opened(void *front, struct net_conn *net)
{
    struct http *h = front;
    const struct http_options *o = &h->options;
    struct conn *c = calloc(1, sizeof(*c));
    if (!c)
        return NULL;
    c->h = h;
    c->net = net;
    STAILQ_INIT(&c->exchanges);
    STAILQ_INIT(&c->sending);
    TAILQ_INSERT_TAIL(&h->conns, c, all);
    h->stats.connections++;
    /* Requests are not read over twice output_bytes; those under way may add a few of the largest bodies. */
    net_conn_set_limits(net, o->output_bytes, 16 * (size_t)o->output_bytes + 4 * (size_t)o->max_body_bytes);
    c->idle_ms = net_now(h->net).mono.ms;
    c->armed_ms = UINT64_MAX;
    h1_arm(c, c->idle_ms + (o->head_ms < o->stall_ms ? o->head_ms : o->stall_ms));
    return c;
}

void conn_settle(struct conn *c)
{
    const struct http_options *o = &c->h->options;
    if (c->is_taken || (c->count < o->max_pipelined && c->buffered <= o->output_bytes && !(c->alone && c->count > 0))) {
        if (c->paused) {
            c->paused = false;
            net_conn_resume(c->net);
        }
    }
    if (c->count > 0 || c->is_taken)
        return;
    c->alone = false;
    if (c->closing) {
        if (STAILQ_EMPTY(&c->sending)) /* else when it is sent: a finished connection has no `drained` */
            net_conn_finish(c->net);
        return;
    }
    c->idle_ms = net_now(c->h->net).mono.ms;
    h1_arm(c, c->idle_ms + o->idle_ms);
}

static void conn_drained(void *conn)
{
    struct conn *c = conn;
    conn_note_sent(c);
    if (c->is_taken) {
        if (c->taken->drained)
            c->taken->drained(c->taken_owner);
        return;
    }
    struct http_exchange *x = STAILQ_FIRST(&c->exchanges);
    if (!x || !x->told_full || net_conn_is_full(c->net))
        return;
    x->told_full = false;
    if (x->ops && x->ops->drained)
        x->ops->drained(x->owner);
}

static void conn_closed(void *conn, enum net_close_reason reason)
{
    struct conn *c = conn;
    struct http *h = c->h;
    if (reason == NET_CLOSE_OVERFLOW || reason == NET_CLOSE_MEMORY)
        log_warning("an HTTP connection was closed: %s",
                    reason == NET_CLOSE_MEMORY ? "no memory for it" : "it takes too little of what it asked for");
    conn_drop_exchanges(c);
    if (c->is_taken) {
        h->stats.taken_over--;
        c->taken->closed(c->taken_owner, reason);
    }
    chunked_free(h, c->chunked);
    TAILQ_REMOVE(&h->conns, c, all);
    h->stats.connections--;
    free(c);
}

static size_t refusal(void *front, uint8_t *out, size_t max)
{
    static const char body[] =
        "{\"type\":\"/errors/limit_reached\",\"title\":\"a configured limit is reached\",\"status\":503,"
        "\"detail\":\"the broker has as many connections as http.max_connections or its open files "
        "allow\",\"code\":\"LIMIT_REACHED\",\"retry_ms\":1000}";
    int n =
        snprintf((char *)out, max,
                 "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nContent-Length: %zu\r\n"
                 "Retry-After: 1\r\nConnection: close\r\n\r\n%s",
                 sizeof(body) - 1, body);
    return n > 0 && (size_t)n < max ? (size_t)n : 0;
}

static bool has_room(void *front)
{
    const struct http *h = front;
    return h->stats.connections < h->options.max_connections;
}

const struct net_handler http_handler = {
    .has_room = has_room,
    .opened = conn_opened,
    .input = h1_input,
    .drained = conn_drained,
    .deadline = conn_deadline,
    .closed = conn_closed,
    .refusal = refusal,
};

/* ---- the front ------------------------------------------------------------------------------------------------------ */

struct http *http_new(const struct http_options *options, struct net *net)
{
    struct http *h = calloc(1, sizeof(*h));
    if (!h)
        return NULL;
    h->options = *options;
    h->net = net;
    TAILQ_INIT(&h->conns);
    STAILQ_INIT(&h->free);
    buf_init(&h->head, 0);
    h->root = route_root();
    h->fields = calloc(options->max_fields, sizeof(*h->fields));
    h->decoded = malloc(options->max_head_bytes);
    h->origins = strdup(options->origins ? options->origins : "");
    h->hosts = strdup(options->hosts ? options->hosts : "");
    if (!h->root || !h->fields || !h->decoded || !h->origins || !h->hosts) {
        http_free(h);
        return NULL;
    }
    return h;
}

void http_free(struct http *h)
{
    if (!h)
        return;
    for (struct http_exchange *x; (x = STAILQ_FIRST(&h->free));) {
        STAILQ_REMOVE_HEAD(&h->free, next);
        free(x);
    }
    route_free(h->root);
    buf_release(&h->head);
    free(h->tables);
    free(h->fields);
    free(h->decoded);
    free(h->origins);
    free(h->hosts);
    free(h);
}

bool http_add_routes(struct http *h, const struct http_route *routes, size_t count, void *arg)
{
    struct route_table *tables = realloc(h->tables, (h->table_count + 1) * sizeof(*tables));
    if (!tables)
        return false;
    h->tables = tables;
    for (size_t i = 0; i < count; i++)
        if (!route_add(h->root, &routes[i], arg))
            return false;
    tables[h->table_count++] = (struct route_table){routes, count, arg};
    return true;
}

void http_each_route(const struct http *h, void (*fn)(void *arg, const struct http_route *route), void *fn_arg)
{
    for (size_t i = 0; i < h->table_count; i++)
        for (size_t j = 0; j < h->tables[i].count; j++)
            fn(fn_arg, &h->tables[i].routes[j]);
}

struct net *http_net(const struct http *h)
{
    return h->net;
}

void http_goaway(struct http *h, const char *text)
{
    struct conn *c, *next;
    h->going_away = true;
    snprintf(h->goaway_text, sizeof(h->goaway_text), "%s", text);
    for (c = TAILQ_FIRST(&h->conns); c; c = next) {
        next = TAILQ_NEXT(c, all);
        if (c->is_taken) {
            if (c->taken->goaway)
                c->taken->goaway(c->taken_owner, h->goaway_text);
        } else if (!c->partial_ms) { /* a request under way is still answered */
            c->closing = true;
            if (c->count == 0)
                net_conn_finish(c->net);
        }
    }
}

bool http_is_idle(const struct http *h)
{
    const struct conn *c;
    TAILQ_FOREACH(c, &h->conns, all)
    if (c->count > 0 || net_conn_unsent(c->net) > 0)
        return false;
    return true;
}

void http_finish(struct http *h)
{
    struct conn *c;
    TAILQ_FOREACH(c, &h->conns, all)
    {
        c->closing = true;
        net_conn_finish(c->net);
    }
}

uint32_t http_connections(const struct http *h)
{
    return h->stats.connections;
}

void http_get_stats(const struct http *h, struct http_stats *out)
{
    *out = h->stats;
}
