/*
 * POST /v1/queues/{queue}/lease, with wait= for long polling. A lease that waits ends with its client; messages whose response
 * does not reach the client go back at once.
 */
#include <stdlib.h>
#include <string.h>

#include "listing.h"

enum { GIVE_BACK_MS = 1 }; /* not 0: that is the queue's backoff, which is for consumers that failed */

static void lease_release(struct call *c)
{
    free(c->u.lease.queue);
}

static void give_back(struct call *c)
{
    struct receipt_range range = {c->u.lease.first_receipt, c->u.lease.count};
    struct command command = {.type = COMMAND_NACK,
                              .u.settle = {.ranges = &range, .count = 1, .delay_ms = GIVE_BACK_MS}};
    client_submit(c->rest->clients, &c->rest->house, rest_now(c->rest), &command);
    call_end(c);
}

static void lease_sent(struct call *c, bool all)
{
    if (c->u.lease.count > 0 && (!all || c->u.lease.lost))
        call_later(c, give_back); /* the engine may be in the middle of handing out */
    else
        call_end(c);
}

static void lease_answer(struct call *c, const struct completion *done)
{
    const struct delivery *d = &done->u.lease;
    struct listing l = {.messages = d->messages,
                        .count = d->count,
                        .first_receipt = d->first_receipt,
                        .attempts = d->attempts,
                        .queue = c->u.lease.queue,
                        .cache_control = "no-store"};
    c->u.lease.first_receipt = d->first_receipt;
    c->u.lease.count = d->count;
    if (listing_respond(c, c->u.lease.form, &l))
        return;
    c->u.lease.lost = true;
    call_refuse(c, BROKER_NO_MEMORY, "no memory for the messages; try again", 1000);
}

static const struct call_kind LEASE = {.answer = lease_answer, .sent = lease_sent, .release = lease_release};

static bool read_query(struct rest *r, const struct http_request *q, struct params *p, struct command *command)
{
    static const char *const KNOWN[] = {"group", "max", "wait", "lease", "raw", NULL};
    struct http_text group = {0};
    uint64_t wait_ms = 0, lease_ms = 0;
    command->u.lease.max_messages = 1;
    if (!params_open(p, q, KNOWN, NULL) || !param_text(p, "group", NAME_MAX_BYTES, &group) ||
        !param_u32(p, "max", 1, 1024, &command->u.lease.max_messages) ||
        !param_duration(p, "wait", 0, UINT64_MAX, &wait_ms) || !param_duration(p, "lease", 1, 86400000, &lease_ms))
        return false;
    command->group = (struct name){group.bytes, group.len};
    command->u.lease.wait_ms = wait_ms < r->options.max_wait_ms ? (uint32_t)wait_ms : r->options.max_wait_ms;
    command->u.lease.lease_ms = (uint32_t)lease_ms;
    command->u.lease.max_bytes = r->options.max_answer_bytes;
    return true;
}

static void handle(void *arg, struct http_exchange *x, const struct http_request *q)
{
    struct rest *r = arg;
    struct params p;
    struct command command = {.type = COMMAND_LEASE, .queue = {q->params[0].bytes, q->params[0].len}};
    enum form form;
    if (!read_query(r, q, &p, &command)) {
        rest_refuse(x, "%s", p.error);
        return;
    }
    if (!form_choose(x, q, &p, &form))
        return;
    if (form_is_single(form))
        command.u.lease.max_messages = 1;
    struct call *c = call_begin(r, &LEASE, x);
    if (!c)
        return;
    c->u.lease.form = (uint8_t)form;
    c->waits = command.u.lease.wait_ms > 0;
    if (form_is_event(form) && !(c->u.lease.queue = strndup(q->params[0].bytes, q->params[0].len))) {
        call_refuse(c, BROKER_NO_MEMORY, "no memory for the request; try again", 1000);
        return;
    }
    call_submit(c, &command);
}

static const struct http_route ROUTES[] = {{HTTP_POST, "/v1/queues/{queue}/lease", handle, 0}};

bool lease_register(struct rest *r)
{
    return http_add_routes(r->http, ROUTES, sizeof(ROUTES) / sizeof(ROUTES[0]), r);
}
