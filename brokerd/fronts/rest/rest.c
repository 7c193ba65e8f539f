/* The room's state, and calls: from a request to its answer. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "rest_internal.h"

enum {
    CALLS_KEPT = 1024,            /* free ones */
    SCRATCH_KEPT_BYTES = 1 << 20, /* of a scratch buffer, from one request to the next */
    GOAWAY_RETRY_MS = 1000,
};

static void run_later(void *rest, struct now now);
static void call_drop(struct call *c, struct now now);

static void house_complete(struct client *client, const struct completion *done)
{
    /* Messages given back whose lease was over: they are back already. */
}
static const struct client_ops HOUSE_OPS = {.complete = house_complete};

struct rest *rest_new(const struct rest_options *options, struct http *http, struct clients *clients,
                      const struct rest_host *host)
{
    struct rest *r = calloc(1, sizeof(*r));
    if (!r)
        return NULL;
    r->options = *options;
    r->http = http;
    r->clients = clients;
    r->host = host ? *host : (struct rest_host){0};
    msgpack_sbuffer_init(&r->map);
    TAILQ_INIT(&r->calls);
    TAILQ_INIT(&r->free_calls);
    TAILQ_INIT(&r->later);
    net_timer_init(&r->later_timer, run_later, r);
    /* Setting it takes memory the first time only: now, so that it cannot fail later. */
    bool good = net_timer_set(http_net(http), &r->later_timer, net_now(http_net(http)).mono) &&
                client_open(clients, &r->house, &HOUSE_OPS, NULL) && publish_register(r) && lease_register(r) &&
                settle_register(r) && read_register(r) && transactions_register(r) && admin_register(r);
    if (good)
        return r;
    rest_free(r);
    return NULL;
}

void rest_free(struct rest *r)
{
    if (!r)
        return;
    admin_free(r);
    client_close(r->clients, &r->house, (struct now){0}); /* it has nothing that waits: the time does not matter */
    struct call *c;
    while ((c = TAILQ_FIRST(&r->later))) /* the net has gone, and with it the chance to do more for them */
        call_drop(c, (struct now){0});
    while ((c = TAILQ_FIRST(&r->free_calls))) {
        TAILQ_REMOVE(&r->free_calls, c, link);
        free(c);
    }
    buf_release(&r->records);
    buf_release(&r->out);
    buf_release(&r->small);
    buf_release(&r->names);
    msgpack_sbuffer_destroy(&r->map);
    free(r);
}

struct now rest_now(const struct rest *r)
{
    return net_now(http_net(r->http));
}

struct buf *rest_scratch(struct buf *b)
{
    if (b->cap > SCRATCH_KEPT_BYTES)
        buf_release(b);
    buf_clear(b);
    return b;
}

void rest_refuse(struct http_exchange *x, const char *format, ...)
{
    char text[FORM_TEXT_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    http_refuse(x, BROKER_INVALID_ARGUMENT, text, 0);
}

/* ---- calls ---------------------------------------------------------------------------------------------------------- */

static void complete(struct client *client, const struct completion *done)
{
    struct call *c = (struct call *)((char *)client - offsetof(struct call, client));
    /* Nothing is left of it in the engine, which is in the middle of a call: it is not told of the client's end. */
    if (client->outstanding == 0)
        client->lingers = false;
    if (!done->error)
        c->kind->answer(c, done);
    else if (c->kind->failed)
        c->kind->failed(c, done);
    else
        rest_refuse_completion(c, done);
}
static const struct client_ops CALL_OPS = {.complete = complete};

static void gone(void *owner)
{
    struct call *c = owner;
    c->x = NULL;
    call_end(c);
}

static void drained(void *owner)
{
    struct call *c = owner;
    c->kind->drained(c);
}

static void sent(void *owner, bool all)
{
    struct call *c = owner;
    c->kind->sent(c, all);
}

/* What a kind does not ask for, the http room must not tell: by what a kind has, one of these. */
static const struct http_exchange_ops EXCHANGE_OPS[2][2] = {
    {{.gone = gone}, {.gone = gone, .sent = sent}},
    {{.gone = gone, .drained = drained}, {.gone = gone, .drained = drained, .sent = sent}},
};

struct call *call_begin(struct rest *r, const struct call_kind *kind, struct http_exchange *x)
{
    struct call *c = TAILQ_FIRST(&r->free_calls);
    if (c) {
        TAILQ_REMOVE(&r->free_calls, c, link);
        r->free_count--;
    } else if (!(c = malloc(sizeof(*c)))) {
        http_refuse(x, BROKER_NO_MEMORY, "no memory for the request; try again", 1000);
        return NULL;
    }
    *c = (struct call){.rest = r, .x = x, .kind = kind};
    r->call_count++;
    TAILQ_INSERT_TAIL(&r->calls, c, all);
    if (!client_open(r->clients, &c->client, &CALL_OPS, NULL)) {
        call_end(c);
        http_refuse(x, BROKER_NO_MEMORY, "no room for another client; try again", 1000);
        return NULL;
    }
    http_keep(x, &EXCHANGE_OPS[kind->drained != NULL][kind->sent != NULL], c);
    return c;
}

void call_submit(struct call *c, struct command *command)
{
    client_submit(c->rest->clients, &c->client, rest_now(c->rest), command);
}

static void call_drop(struct call *c, struct now now)
{
    struct rest *r = c->rest;
    client_close(r->clients, &c->client, now);
    if (c->later)
        TAILQ_REMOVE(&r->later, c, link);
    if (c->kind->release)
        c->kind->release(c);
    TAILQ_REMOVE(&r->calls, c, all);
    r->call_count--;
    if (r->free_count >= CALLS_KEPT) {
        free(c);
        return;
    }
    TAILQ_INSERT_HEAD(&r->free_calls, c, link);
    r->free_count++;
}

void call_end(struct call *c)
{
    call_drop(c, rest_now(c->rest));
}

void call_later(struct call *c, void (*fn)(struct call *c))
{
    struct rest *r = c->rest;
    if (!c->later)
        TAILQ_INSERT_TAIL(&r->later, c, link);
    c->later = fn;
    net_timer_set(http_net(r->http), &r->later_timer, rest_now(r).mono);
}

static void run_later(void *rest, struct now now)
{
    struct rest *r = rest;
    struct call *c;
    while ((c = TAILQ_FIRST(&r->later))) {
        void (*fn)(struct call *) = c->later;
        TAILQ_REMOVE(&r->later, c, link);
        c->later = NULL;
        fn(c);
    }
}

/* The answer is on its way; http calls `sent` if the kind wants that (perhaps it did so already: c is not touched then). */
void call_respond(struct call *c, const struct http_response *response)
{
    bool told_later = c->kind->sent != NULL;
    struct http_exchange *x = c->x;
    c->x = NULL;
    http_respond(x, response);
    if (!told_later)
        call_end(c);
}

void call_respond_json(struct call *c, int status, const struct buf *body)
{
    call_respond(c, &(struct http_response){
                        .status = status, .type = "application/json", .body = body->bytes, .body_len = body->len});
}

void call_refuse(struct call *c, broker_error error, const char *text, uint32_t retry_ms)
{
    bool told_later = c->kind->sent != NULL;
    struct http_exchange *x = c->x;
    c->x = NULL;
    http_refuse(x, error, text, retry_ms);
    if (!told_later)
        call_end(c);
}

void call_refuse_as(struct call *c, int status, const char *slug, const char *text)
{
    bool told_later = c->kind->sent != NULL;
    struct http_exchange *x = c->x;
    c->x = NULL;
    http_refuse_as(x, status, slug, text);
    if (!told_later)
        call_end(c);
}

void rest_refuse_completion(struct call *c, const struct completion *done)
{
    call_refuse(c, done->error, done->text ? done->text : broker_strerror(done->error), done->retry_ms);
}

static void give_up(struct call *c)
{
    if (!c->x)
        return;                                                    /* it has been answered in the meantime */
    client_close(c->rest->clients, &c->client, rest_now(c->rest)); /* before it gets what it would not be sent */
    call_refuse(c, BROKER_SHUTTING_DOWN, "the broker is shutting down; ask again later", GOAWAY_RETRY_MS);
}

void rest_goaway(struct rest *r)
{
    struct call *c;
    TAILQ_FOREACH(c, &r->calls, all)
    {
        if (c->waits && c->x)
            call_later(c, give_up);
    }
}
