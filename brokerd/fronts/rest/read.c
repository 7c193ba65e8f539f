/*
 * GET /v1/queues/{queue}/messages: reading by cursor; with If-None-Match for polling, with wait= for long polling. GET …/{seq}:
 * one message. Nothing is leased or settled by either.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "listing.h"

enum { READ_MESSAGES_MAX = 1024, READ_MESSAGES_DEFAULT = 100, ETAG_BYTES = 128 };

static void read_release(struct call *c)
{
    free(c->u.read.queue);
    free(c->u.read.tags);
}

/* ---- entity tags ---------------------------------------------------------------------------------------------------- */

/*
 * Strong: it names every byte of the body. Messages do not change, so the queue (a number that no later one has), which of its
 * messages are in, and the numbers beside them say it all; and the form.
 */
static void etag_of(const struct completion *done, enum form form, char out[ETAG_BYTES])
{
    uint32_t crc = 0;
    for (uint32_t i = 0; i < done->u.read.count; i++) {
        uint8_t seq[8];
        put_u64(seq, done->u.read.messages[i].seq);
        crc = crc32c(crc, seq, sizeof(seq));
    }
    snprintf(out, ETAG_BYTES, "\"%" PRIx32 "-%" PRIx64 "-%" PRIx64 "-%" PRIx64 "-%" PRIx32 "-%" PRIx32 "%c\"",
             done->u.read.queue_id, done->u.read.first_seq, done->u.read.last_seq, done->u.read.next_seq,
             done->u.read.count, crc, 'a' + form);
}

/* If-None-Match (RFC 9110 13.1.2): "*", or a list of tags that are compared weakly, W/ and all. What is no list matches
   nothing: the whole answer is always right. */
static bool tags_match(const char *tags, const char *etag)
{
    size_t len = strlen(etag);
    const char *p = tags + strspn(tags, " \t,");
    if (*p == '*')
        return p[1 + strspn(p + 1, " \t")] == 0;
    while (*p) {
        if (p[0] == 'W' && p[1] == '/')
            p += 2;
        const char *end = *p == '"' ? strchr(p + 1, '"') : NULL;
        if (!end)
            return false;
        if ((size_t)(end + 1 - p) == len && memcmp(p, etag, len) == 0)
            return true;
        p = end + 1 + strspn(end + 1, " \t");
        if (*p && *p != ',')
            return false;
        p += strspn(p, " \t,");
    }
    return false;
}

/* All its fields, joined as one list; they are needed when the answer comes. false: no memory. */
static bool tags_keep(struct call *c, const struct http_request *q)
{
    size_t bytes = 0;
    for (size_t i = 0; i < q->field_count; i++) {
        const struct http_field *f = &q->fields[i];
        if (f->name.len != 13 || strncasecmp(f->name.bytes, "If-None-Match", 13) != 0)
            continue;
        char *tags = realloc(c->u.read.tags, bytes + f->value.len + 2);
        if (!tags)
            return false;
        c->u.read.tags = tags;
        if (bytes)
            tags[bytes++] = ',';
        memcpy(tags + bytes, f->value.bytes, f->value.len);
        bytes += f->value.len;
        tags[bytes] = 0;
    }
    return true;
}

/* ---- answers -------------------------------------------------------------------------------------------------------- */

static void respond(struct call *c, const struct completion *done, struct listing *l)
{
    char etag[ETAG_BYTES];
    etag_of(done, c->u.read.form, etag);
    l->messages = done->u.read.messages;
    l->count = done->u.read.count;
    l->queue = c->u.read.queue;
    l->etag = etag;
    l->cache_control = "no-cache";
    if (c->u.read.tags && tags_match(c->u.read.tags, etag))
        listing_not_modified(c, l);
    else if (!listing_respond(c, c->u.read.form, l))
        call_refuse(c, BROKER_NO_MEMORY, "no memory for the messages; try again", 1000);
}

/* 410: what the cursor names is not there (any more); the problem says where the queue begins and ends. */
static void refuse_cursor(struct call *c, const struct completion *done, const char *slug, const char *text)
{
    struct buf *out = rest_scratch(&c->rest->out);
    bool good = http_problem_put(out, 410, slug, "the cursor is not in the queue", text, 0) && out->len > 0;
    if (good) {
        out->len--; /* the closing brace: two members more */
        good = form_put(out, ",\"first\":") && form_json_u64(out, done->u.read.first_seq) &&
               form_put(out, ",\"last\":") && form_json_u64(out, done->u.read.last_seq) && form_put(out, "}");
    }
    struct http_field field = {{"Cache-Control", 13}, {"no-store", 8}};
    if (good)
        call_respond(c, &(struct http_response){.status = 410,
                                                .type = "application/problem+json",
                                                .body = out->bytes,
                                                .body_len = out->len,
                                                .fields = &field,
                                                .field_count = 1});
    else
        call_refuse_as(c, 410, slug, text);
}

static void read_answer(struct call *c, const struct completion *done)
{
    char text[FORM_TEXT_BYTES];
    if (done->u.read.trimmed) {
        snprintf(text, sizeof(text),
                 "the log has let go of what was asked for; the oldest message is now %" PRIu64
                 ": go on with from=%" PRIu64 ", or from=beginning",
                 done->u.read.first_seq, done->u.read.first_seq);
        refuse_cursor(c, done, "cursor_trimmed", text);
        return;
    }
    if (done->u.read.beyond) {
        snprintf(text, sizeof(text),
                 "the queue has not got so far: its newest message is %" PRIu64
                 "; was it deleted and made again? Go on with from=beginning or from=end",
                 done->u.read.last_seq);
        refuse_cursor(c, done, "cursor_beyond", text);
        return;
    }
    struct listing l = {.numbers = {{"next", "Broker-Next", done->u.read.next_seq},
                                    {"first", "Broker-First", done->u.read.first_seq},
                                    {"last", "Broker-Last", done->u.read.last_seq}},
                        .number_count = 3};
    respond(c, done, &l);
}
static const struct call_kind READ = {.answer = read_answer, .release = read_release};

static void one_answer(struct call *c, const struct completion *done)
{
    struct completion one = *done;
    char text[FORM_TEXT_BYTES];
    if (done->u.read.count == 0 || done->u.read.messages[0].seq != c->u.read.seq) {
        snprintf(text, sizeof(text),
                 "there is no message %" PRIu64 " in the queue (any more); it has %" PRIu64 " to %" PRIu64,
                 c->u.read.seq, done->u.read.first_seq, done->u.read.last_seq);
        call_refuse(c, BROKER_MESSAGE_NOT_FOUND, text, 0);
        return;
    }
    /* Its tag is not to change with the queue around it. */
    one.u.read.first_seq = one.u.read.last_seq = one.u.read.next_seq = 0;
    respond(c, &one, &(struct listing){0});
}
static const struct call_kind ONE = {.answer = one_answer, .release = read_release};

/* ---- requests ------------------------------------------------------------------------------------------------------- */

static bool text_is(struct http_text text, const char *is)
{
    return text.len == strlen(is) && memcmp(text.bytes, is, text.len) == 0;
}

static bool read_start(struct params *p, struct command *command)
{
    struct http_text from = {0};
    char out[SHOWN_BYTES];
    if (!param_text(p, "from", 64, &from) || !param_time(p, "from_time", &command->u.read.from_ms))
        return false;
    if (from.len && command->u.read.from_ms) {
        snprintf(p->error, sizeof(p->error), "there are from and from_time; give one of them");
        return false;
    }
    command->u.read.from_end = text_is(from, "end");
    if (from.len == 0 || command->u.read.from_end || text_is(from, "beginning") ||
        (parse_u64(from.bytes, from.len, &command->u.read.from_seq) && command->u.read.from_seq > 0))
        return true;
    snprintf(p->error, sizeof(p->error), "from is '%s'; give the number of a message from 1 on, beginning or end",
             shown(from, out));
    return false;
}

static bool read_query(struct rest *r, const struct http_request *q, struct params *p, struct command *command,
                       struct filter_in *filter)
{
    static const char *const KNOWN[] = {"from", "from_time", "max", "wait", "topic", "key", "header", "raw", NULL};
    uint64_t wait_ms = 0;
    command->u.read.max_messages = READ_MESSAGES_DEFAULT;
    command->u.read.max_bytes = r->options.max_answer_bytes;
    if (!params_open(p, q, KNOWN, "header") || !read_start(p, command) ||
        !param_u32(p, "max", 1, READ_MESSAGES_MAX, &command->u.read.max_messages) ||
        !param_duration(p, "wait", 0, UINT64_MAX, &wait_ms) || !filter_read(r, p, filter))
        return false;
    if (!q->is_head)
        command->u.read.wait_ms = wait_ms < r->options.max_wait_ms ? (uint32_t)wait_ms : r->options.max_wait_ms;
    command->u.read.filter = filter->filter;
    return true;
}

static void start(struct rest *r, struct http_exchange *x, const struct http_request *q, const struct call_kind *kind,
                  enum form form, uint64_t seq, struct command *command)
{
    struct call *c = call_begin(r, kind, x);
    if (!c)
        return;
    c->u.read.form = (uint8_t)form;
    c->waits = command->u.read.wait_ms > 0;
    c->u.read.seq = seq;
    if (!tags_keep(c, q) ||
        (form_is_event(form) && !(c->u.read.queue = strndup(q->params[0].bytes, q->params[0].len)))) {
        call_refuse(c, BROKER_NO_MEMORY, "no memory for the request; try again", 1000);
        return;
    }
    call_submit(c, command);
}

static void handle_read(void *arg, struct http_exchange *x, const struct http_request *q)
{
    struct rest *r = arg;
    struct params p;
    struct filter_in filter;
    struct command command = {.type = COMMAND_READ, .queue = {q->params[0].bytes, q->params[0].len}};
    enum form form;
    if (!read_query(r, q, &p, &command, &filter)) {
        rest_refuse(x, "%s", p.error);
        return;
    }
    if (!form_choose(x, q, &p, &form))
        return;
    if (form_is_single(form))
        command.u.read.max_messages = 1;
    start(r, x, q, &READ, form, 0, &command);
}

/* Which form one message is asked for in: as it is, unless Accept names another; a body may be of any type. */
static enum form one_form(const struct http_request *q)
{
    static const char *const TYPES[] = {"application/octet-stream", "application/json", "application/msgpack",
                                        "application/cloudevents+json", NULL};
    static const enum form FORMS[] = {FORM_RAW, FORM_JSON, FORM_MSGPACK, FORM_EVENT};
    int accepted = http_accepts(q, TYPES);
    return accepted < 0 ? FORM_RAW : FORMS[accepted];
}

static void handle_one(void *arg, struct http_exchange *x, const struct http_request *q)
{
    static const char *const NONE[] = {NULL};
    struct rest *r = arg;
    struct params p;
    char out[SHOWN_BYTES];
    struct command command = {.type = COMMAND_READ, .queue = {q->params[0].bytes, q->params[0].len}};
    if (!params_open(&p, q, NONE, NULL)) {
        rest_refuse(x, "%s", p.error);
        return;
    }
    if (!parse_u64(q->params[1].bytes, q->params[1].len, &command.u.read.from_seq) || !command.u.read.from_seq) {
        rest_refuse(x, "'%s' is no number of a message; give one from 1 on", shown(q->params[1], out));
        return;
    }
    command.u.read.max_messages = 1;
    command.u.read.max_bytes = r->options.max_answer_bytes;
    start(r, x, q, &ONE, one_form(q), command.u.read.from_seq, &command);
}

static const struct http_route ROUTES[] = {
    {HTTP_GET, "/v1/queues/{queue}/messages", handle_read, 0},
    {HTTP_GET, "/v1/queues/{queue}/messages/{seq}", handle_one, 0},
};

bool read_register(struct rest *r)
{
    return http_add_routes(r->http, ROUTES, sizeof(ROUTES) / sizeof(ROUTES[0]), r) && peek_register(r);
}
