/* GET /v1/queues/{queue}/peek: messages of a range without leasing them, also what waits for its time. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "listing.h"

enum { PEEK_MESSAGES_MAX = 1024, PEEK_MESSAGES_DEFAULT = 100 };

static void peek_release(struct call *c)
{
    free(c->u.read.queue);
}

static void peek_answer(struct call *c, const struct completion *done)
{
    struct listing l = {.messages = done->u.scan.messages,
                        .count = done->u.scan.count,
                        .queue = c->u.read.queue,
                        .cache_control = "no-store",
                        .numbers = {{"next", "Broker-Next", done->u.scan.next_seq}},
                        .number_count = 1};
    if (!listing_respond(c, c->u.read.form, &l))
        call_refuse(c, BROKER_NO_MEMORY, "no memory for the messages; try again", 1000);
}
static const struct call_kind PEEK = {.answer = peek_answer, .release = peek_release};

static bool read_state(struct params *p, broker_scan_state *state)
{
    static const char *const NAMES[] = {"any", "scheduled", "available"};
    struct http_text value = {"any", 3};
    char out[SHOWN_BYTES];
    if (!param_text(p, "state", 64, &value))
        return false;
    for (unsigned i = 0; i < 3; i++) {
        if (value.len == strlen(NAMES[i]) && memcmp(value.bytes, NAMES[i], value.len) == 0) {
            *state = (broker_scan_state)(BROKER_SCAN_ANY + i);
            return true;
        }
    }
    snprintf(p->error, sizeof(p->error), "state is '%s'; give any, scheduled or available", shown(value, out));
    return false;
}

static void handle(void *arg, struct http_exchange *x, const struct http_request *q)
{
    static const char *const KNOWN[] = {"from",  "to",  "from_time", "to_time", "state", "max",
                                        "topic", "key", "header",    "raw",     NULL};
    struct rest *r = arg;
    struct params p;
    struct filter_in filter;
    enum form form;
    struct command command = {.type = COMMAND_SCAN,
                              .queue = {q->params[0].bytes, q->params[0].len},
                              .u.scan = {.action = SCAN_PEEK,
                                         .max_messages = PEEK_MESSAGES_DEFAULT,
                                         .max_bytes = r->options.max_answer_bytes}};
    if (!params_open(&p, q, KNOWN, "header") || !param_u64(&p, "from", 0, UINT64_MAX, &command.u.scan.from_seq) ||
        !param_u64(&p, "to", 0, UINT64_MAX, &command.u.scan.to_seq) ||
        !param_time(&p, "from_time", &command.u.scan.from_ms) || !param_time(&p, "to_time", &command.u.scan.to_ms) ||
        !param_u32(&p, "max", 1, PEEK_MESSAGES_MAX, &command.u.scan.max_messages) ||
        !read_state(&p, &command.u.scan.state) || !filter_read(r, &p, &filter)) {
        rest_refuse(x, "%s", p.error);
        return;
    }
    if (!form_choose(x, q, &p, &form))
        return;
    if (form_is_single(form))
        command.u.scan.max_messages = 1;
    command.u.scan.filter = filter.filter;
    struct call *c = call_begin(r, &PEEK, x);
    if (!c)
        return;
    c->u.read.form = (uint8_t)form;
    if (form_is_event(form) && !(c->u.read.queue = strndup(q->params[0].bytes, q->params[0].len))) {
        call_refuse(c, BROKER_NO_MEMORY, "no memory for the request; try again", 1000);
        return;
    }
    call_submit(c, &command);
}

static const struct http_route ROUTES[] = {{HTTP_GET, "/v1/queues/{queue}/peek", handle, 0}};

bool peek_register(struct rest *r)
{
    return http_add_routes(r->http, ROUTES, sizeof(ROUTES) / sizeof(ROUTES[0]), r);
}
