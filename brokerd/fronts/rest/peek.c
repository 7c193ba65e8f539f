/*
 * GET /v1/queues/{queue}/peek: messages of a range without leasing them, also what waits for its time. GET …/scheduled: that
 * alone. GET …/dead: the queue's dead letters, wherever it keeps them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin_internal.h"
#include "listing.h"

enum { PEEK_MESSAGES_MAX = 1024, PEEK_MESSAGES_DEFAULT = 100 };

static void peek_release(struct call *c)
{
    free(c->u.read.queue);
    free(c->u.read.tags);
}

static void respond(struct call *c, const struct stored_message *messages, uint32_t count, uint64_t next)
{
    struct listing l = {.messages = messages,
                        .count = count,
                        .queue = c->u.read.queue,
                        .cache_control = "no-store",
                        .numbers = {{"next", "Broker-Next", next}},
                        .number_count = 1};
    if (!listing_respond(c, c->u.read.form, &l))
        call_refuse(c, BROKER_NO_MEMORY, "no memory for the messages; try again", 1000);
}

static void peek_answer(struct call *c, const struct completion *done)
{
    respond(c, done->u.scan.messages, done->u.scan.count, done->u.scan.next_seq);
}
static const struct call_kind PEEK = {.answer = peek_answer, .release = peek_release};

/* ---- the query ------------------------------------------------------------------------------------------------------ */

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

enum { WITH_STATE = 0, WITHOUT_STATE = 1 }; /* "state" is the first that is known */
static const char *const KNOWN[] = {"state", "from", "to",     "from_time", "to_time", "max",
                                    "topic", "key",  "header", "raw",       NULL};

static bool read_query(struct rest *r, const struct http_request *q, size_t state, struct params *p,
                       struct command *command, struct filter_in *filter)
{
    *command = (struct command){.type = COMMAND_SCAN,
                                .queue = {q->params[0].bytes, q->params[0].len},
                                .u.scan = {.action = SCAN_PEEK,
                                           .max_messages = PEEK_MESSAGES_DEFAULT,
                                           .max_bytes = r->options.max_answer_bytes}};
    if (!params_open(p, q, KNOWN + state, "header") ||
        !param_u64(p, "from", 0, UINT64_MAX, &command->u.scan.from_seq) ||
        !param_u64(p, "to", 0, UINT64_MAX, &command->u.scan.to_seq) ||
        !param_time(p, "from_time", &command->u.scan.from_ms) || !param_time(p, "to_time", &command->u.scan.to_ms) ||
        !param_u32(p, "max", 1, PEEK_MESSAGES_MAX, &command->u.scan.max_messages) || !filter_read(r, p, filter) ||
        (state == WITH_STATE && !read_state(p, &command->u.scan.state)))
        return false;
    command->u.scan.filter = filter->filter;
    return true;
}

/* The call, for what the query asks; NULL: x was answered. */
static struct call *begin(struct rest *r, struct http_exchange *x, const struct http_request *q, size_t state,
                          const struct call_kind *kind, struct command *command, struct filter_in *filter)
{
    struct params p;
    enum form form;
    if (!read_query(r, q, state, &p, command, filter)) {
        rest_refuse(x, "%s", p.error);
        return NULL;
    }
    if (!form_choose(x, q, &p, &form))
        return NULL;
    if (form_is_single(form))
        command->u.scan.max_messages = 1;
    struct call *c = call_begin(r, kind, x);
    if (!c)
        return NULL;
    c->u.read.form = (uint8_t)form;
    if (!form_is_event(form) || (c->u.read.queue = strndup(q->params[0].bytes, q->params[0].len)))
        return c;
    call_refuse(c, BROKER_NO_MEMORY, "no memory for the request; try again", 1000);
    return NULL;
}

static void peek(void *arg, struct http_exchange *x, const struct http_request *q)
{
    struct command command;
    struct filter_in filter;
    struct call *c = begin(arg, x, q, WITH_STATE, &PEEK, &command, &filter);
    if (c)
        call_submit(c, &command);
}

static void scheduled(void *arg, struct http_exchange *x, const struct http_request *q)
{
    struct command command;
    struct filter_in filter;
    struct call *c = begin(arg, x, q, WITHOUT_STATE, &PEEK, &command, &filter);
    if (!c)
        return;
    command.u.scan.state = BROKER_SCAN_SCHEDULED;
    call_submit(c, &command);
}

/* ---- dead letters --------------------------------------------------------------------------------------------------- */

/* What is wanted of them, until it is known where they are: u.read.tags, one allocation with all its text. */
struct dead {
    struct command command;
    broker_header headers[FILTER_HEADERS_MAX + 1];
    char queue[DEAD_NAME_BYTES], origin[NAME_MAX_BYTES + 1];
    char text[];
};

static size_t text_bytes(const char *text)
{
    return text ? strlen(text) + 1 : 0;
}

static const char *text_copy(char **at, const char *text)
{
    size_t n = text_bytes(text);
    char *to = *at;
    if (n == 0)
        return NULL;
    memcpy(to, text, n);
    *at += n;
    return to;
}

/* A copy that outlives the request; NULL: no memory. */
static struct dead *dead_new(const struct command *command)
{
    const broker_filter *f = &command->u.scan.filter;
    size_t bytes = text_bytes(f->topic) + text_bytes(f->key);
    for (size_t i = 0; i < f->header_count; i++)
        bytes += text_bytes(f->headers[i].name) + text_bytes(f->headers[i].value);
    struct dead *d = malloc(sizeof(*d) + bytes);
    if (!d)
        return NULL;
    char *at = d->text;
    d->command = *command;
    d->command.u.scan.filter = (broker_filter){.topic = text_copy(&at, f->topic),
                                               .key = text_copy(&at, f->key),
                                               .headers = d->headers,
                                               .header_count = f->header_count};
    for (size_t i = 0; i < f->header_count; i++) {
        d->headers[i].name = text_copy(&at, f->headers[i].name);
        d->headers[i].value = text_copy(&at, f->headers[i].value);
    }
    return d;
}

static void dead_submit(struct call *c)
{
    struct dead *d = (struct dead *)c->u.read.tags;
    /* Several queues may share one for their dead letters: those of this one are meant. */
    d->headers[d->command.u.scan.filter.header_count++] = (broker_header){"dead-queue", d->origin};
    d->command.queue = (struct name){d->queue, strlen(d->queue)};
    call_submit(c, &d->command);
}

static void dead_answer(struct call *c, const struct completion *done)
{
    struct dead *d = (struct dead *)c->u.read.tags;
    if (done->type == COMMAND_SCAN) {
        peek_answer(c, done);
        return;
    }
    dead_letters_of(done, d->queue);
    snprintf(d->origin, sizeof(d->origin), "%s", done->u.describe.queue->name);
    c->u.read.seq = 1; /* it is described */
    call_later(c, dead_submit);
}

static void dead_failed(struct call *c, const struct completion *done)
{
    bool none_yet = c->u.read.seq && done->error == BROKER_QUEUE_NOT_FOUND; /* that there are none is an answer */
    if (none_yet)
        respond(c, NULL, 0, 0);
    else
        rest_refuse_completion(c, done);
}
static const struct call_kind DEAD = {.answer = dead_answer, .failed = dead_failed, .release = peek_release};

static void dead(void *arg, struct http_exchange *x, const struct http_request *q)
{
    struct command command;
    struct filter_in filter;
    struct call *c = begin(arg, x, q, WITHOUT_STATE, &DEAD, &command, &filter);
    if (!c)
        return;
    c->u.read.tags = (char *)dead_new(&command);
    command = (struct command){.type = COMMAND_QUEUE_DESCRIBE, .queue = command.queue};
    if (c->u.read.tags)
        call_submit(c, &command);
    else
        call_refuse(c, BROKER_NO_MEMORY, "no memory for the request; try again", 1000);
}

static const struct http_route ROUTES[] = {
    {HTTP_GET, "/v1/queues/{queue}/peek", peek, 0},
    {HTTP_GET, "/v1/queues/{queue}/scheduled", scheduled, 0},
    {HTTP_GET, "/v1/queues/{queue}/dead", dead, 0},
};

bool peek_register(struct rest *r)
{
    return http_add_routes(r->http, ROUTES, sizeof(ROUTES) / sizeof(ROUTES[0]), r);
}
