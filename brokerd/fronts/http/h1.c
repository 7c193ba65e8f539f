/* How bytes become requests: one head, its body, the handler; and the next. */
#include <assert.h>
#include <stdlib.h>

#include "http_internal.h"

/* ---- answers that need no handler ----------------------------------------------------------------------------------- */

static void answer_options(struct http_exchange *x, const struct head *head, unsigned methods)
{
    char allow[64];
    struct http_field fields[4];
    size_t count = 0;
    route_allow(methods, allow);
    fields[count++] = (struct http_field){{"Allow", 5}, {allow, strlen(allow)}};
    if (x->origin && head->preflight) {
        fields[count++] = (struct http_field){{"Access-Control-Allow-Methods", 28}, {allow, strlen(allow)}};
        fields[count++] = (struct http_field){{"Access-Control-Max-Age", 22}, {"600", 3}};
        for (size_t i = 0; i < head->field_count; i++)
            if (text_is(head->fields[i].name, "access-control-request-headers"))
                fields[count] = (struct http_field){{"Access-Control-Allow-Headers", 28}, head->fields[i].value};
        count += fields[count].name.len == 28 ? 1 : 0;
    }
    http_respond(x, &(struct http_response){.status = 204, .fields = fields, .field_count = count});
}

static void answer_no_route(struct http_exchange *x, const struct head *head, const struct match *m)
{
    struct problem p;
    char allow[64];
    struct http_field field = {{"Allow", 5}, {allow, 0}};
    int path_len = (int)(head->path.len < 120 ? head->path.len : 120);
    if (!m->methods) {
        problem_set(&p, 404, "no_such_path", "there is nothing at %.*s", path_len, head->path.bytes);
        respond_problem(x, &p, NULL, 0);
        return;
    }
    route_allow(m->methods, allow);
    field.value.len = strlen(allow);
    problem_set(&p, 405, "method_not_allowed", "%.*s has %s", path_len, head->path.bytes, allow);
    respond_problem(x, &p, &field, 1);
}

/* ---- the handler ---------------------------------------------------------------------------------------------------- */

static char *copy_text(struct http_text t)
{
    char *copy = malloc(t.len + 1);
    if (copy) {
        memcpy(copy, t.bytes, t.len);
        copy[t.len] = '\0';
    }
    return copy;
}

static void call_handler(struct http_exchange *x, const struct head *head, const struct match *m, uint8_t *body,
                         size_t body_len)
{
    struct http *h = x->conn->h;
    struct request r = {.pub = {.method = head->verb,
                                .is_head = head->is_head,
                                .path = head->path,
                                .query = head->query,
                                .fields = head->fields,
                                .field_count = head->field_count,
                                .body = body,
                                .body_len = body_len},
                        .head = head,
                        .decoded = h->decoded};
    memcpy(r.pub.params, m->params, sizeof(r.pub.params));
    h->handling = x;
    m->route->handle(m->arg, x, &r.pub);
    assert(!h->handling); /* it answers, or keeps the exchange */
    if (h->handling)
        http_refuse(x, BROKER_INTERNAL, "the request was not answered", 0);
}

/* The request is whole. */
static void dispatch(struct conn *c, const struct head *head, const struct match *m, uint8_t *body, size_t body_len)
{
    struct http *h = c->h;
    const struct http_text *origin;
    struct problem p;
    c->used = true;
    c->partial_ms = 0;
    c->scanned = 0;
    c->whole = 0;
    c->skipped = false;
    h->stats.requests++;
    struct http_exchange *x = exchange_new(c, head);
    if (!x) {
        net_conn_abort(c->net);
        return;
    }
    c->alone = head->alone;
    if (!origin_check(h, head, &p, &origin))
        respond_problem(x, &p, NULL, 0);
    else if (origin && !(x->origin = copy_text(*origin)))
        net_conn_abort(c->net);
    else if (head->is_options)
        answer_options(x, head, head->is_star ? 0x1f : m->methods);
    else if (!m->route)
        answer_no_route(x, head, m);
    else
        call_handler(x, head, m, body, body_len);
}

/* ---- heads ---------------------------------------------------------------------------------------------------------- */

static size_t body_limit(const struct http *h, const struct match *m)
{
    if (!m->route || m->route->max_body_bytes == 0)
        return IDLE_BODY_BYTES;
    return m->route->max_body_bytes == HTTP_BODY_MAX ? h->options.max_body_bytes : m->route->max_body_bytes;
}

/* The request at hand has begun. */
static void partial_begin(struct conn *c)
{
    if (c->partial_ms)
        return;
    c->partial_ms = net_now(c->h->net).mono.ms;
    h1_arm(c, c->partial_ms + c->h->options.head_ms);
}

static void body_begin(struct conn *c, const struct head *head)
{
    partial_begin(c);
    c->body_ms = net_now(c->h->net).mono.ms + c->h->options.head_ms;
    c->body_bytes = 0;
    h1_arm(c, c->body_ms);
    if (head->expects && c->count == 0) /* an interim response must not overtake others: see must_wait */
        net_conn_write(c->net, "HTTP/1.1 100 Continue\r\n\r\n", 25);
}

/* The head is there, its body is not, or not all of it. Returns what was used. */
static size_t body_wait(struct conn *c, const struct head *head, size_t limit, size_t *need)
{
    if (head->body == BODY_CHUNKED) {
        c->chunked = chunked_new(c->h, head, limit);
        if (!c->chunked) {
            net_conn_abort(c->net);
            return 0;
        }
        body_begin(c, head);
        c->scanned = 0;
        return head->len;
    }
    c->head_bytes = head->len;
    c->whole = head->len + head->content_length;
    *need = (size_t)c->whole;
    body_begin(c, head);
    return 0;
}

/* Refused before its body is read: so nothing can follow on this connection. */
static size_t refuse_all(struct conn *c, const struct head *head, const struct problem *p, size_t len)
{
    conn_refuse(c, head, p);
    return len;
}

static bool must_wait(const struct conn *c, const struct head *head, size_t len)
{
    bool interim = head->expects && head->body != BODY_NONE;
    return c->count > 0 && (head->alone || interim);
}

/* A whole head is at `bytes`, of head_len bytes; `len` are there. Returns how many were used; 0: it has to wait for more. */
static size_t head_complete(struct conn *c, uint8_t *bytes, size_t head_len, size_t len, size_t *need)
{
    struct http *h = c->h;
    struct head head;
    struct problem p;
    struct match m;
    if (!head_parse(&head, bytes, head_len, h->fields, h->options.max_fields, &p))
        return refuse_all(c, p.status == 400 ? NULL : &head, &p, len);
    if (must_wait(c, &head, len)) {
        c->scanned = head_len - 1; /* found again at once */
        c->paused = true;
        net_conn_pause(c->net);
        return 0;
    }
    if (head.is_star)
        m = (struct match){0};
    else
        route_find(h->root, &head, h->decoded, &m);
    size_t limit = body_limit(h, &m);
    if (head.body == BODY_LENGTH && head.content_length > limit) {
        problem_set(&p, 413, "body_too_large", "a body of %llu bytes is larger than the %zu allowed here",
                    (unsigned long long)head.content_length, limit);
        return refuse_all(c, &head, &p, len);
    }
    if (head.body == BODY_CHUNKED || (head.body == BODY_LENGTH && len - head_len < head.content_length))
        return body_wait(c, &head, limit, need);
    dispatch(c, &head, &m, bytes + head_len, (size_t)head.content_length);
    return head_len + (size_t)head.content_length;
}

static size_t head_too_large(struct conn *c, const uint8_t *bytes, size_t len)
{
    struct problem p;
    uint32_t most = c->h->options.max_head_bytes;
    bool has_line = memchr(bytes, '\n', most);
    problem_set(&p, has_line ? 431 : 414, "head_too_large", "the request line %s longer than %u bytes",
                has_line ? "and the fields are" : "is", most);
    return refuse_all(c, NULL, &p, len);
}

static size_t head_input(struct conn *c, uint8_t *bytes, size_t len, size_t *need)
{
    struct problem p;
    size_t most = c->h->options.max_head_bytes, look = len < most ? len : most, end;
    if (!is_token_byte(bytes[0])) {
        problem_set(&p, 400, "malformed_request", "this is not the beginning of an HTTP/1.1 request");
        return refuse_all(c, NULL, &p, len);
    }
    switch (head_find_end(bytes, look, c->scanned, &end)) {
    case FIND_WRONG:
        problem_set(&p, 400, "malformed_request", "a line of the head ends with LF alone, not with CRLF");
        return refuse_all(c, NULL, &p, len);
    case FIND_MORE:
        if (look == most)
            return head_too_large(c, bytes, len);
        partial_begin(c);
        c->scanned = len;
        return 0;
    case FIND_END: break;
    }
    return head_complete(c, bytes, end, len, need);
}

/* ---- bodies --------------------------------------------------------------------------------------------------------- */

/* The body came later than its head, which is read once more: nothing of it was kept meanwhile. */
static size_t length_input(struct conn *c, uint8_t *bytes, size_t len, size_t *need)
{
    struct http *h = c->h;
    struct head head;
    struct problem p;
    struct match m;
    size_t whole = (size_t)c->whole, head_len = (size_t)c->head_bytes;
    if (len < whole) {
        *need = whole;
        return 0;
    }
    bool good = head_parse(&head, bytes, head_len, h->fields, h->options.max_fields, &p);
    assert(good);
    if (!good)
        return refuse_all(c, NULL, &p, len);
    if (head.is_star)
        m = (struct match){0};
    else
        route_find(h->root, &head, h->decoded, &m);
    dispatch(c, &head, &m, bytes + head_len, whole - head_len);
    return whole;
}

static void chunked_complete(struct conn *c)
{
    struct http *h = c->h;
    struct chunked *k = c->chunked;
    struct head head;
    struct problem p;
    struct match m;
    c->chunked = NULL;
    bool good = head_parse(&head, k->head, k->head_len, h->fields, h->options.max_fields, &p);
    assert(good);
    if (good && head.is_star)
        m = (struct match){0};
    else if (good)
        route_find(h->root, &head, h->decoded, &m);
    if (good)
        dispatch(c, &head, &m, k->body.bytes, k->body.len);
    chunked_free(h, k);
}

static size_t chunked_input(struct conn *c, const uint8_t *bytes, size_t len)
{
    struct problem p;
    size_t used = 0;
    switch (chunked_feed(c->h, c->chunked, bytes, len, &used, &p)) {
    case CHUNKED_MORE: return used;
    case CHUNKED_DONE: chunked_complete(c); return used;
    case CHUNKED_WRONG: break;
    }
    chunked_free(c->h, c->chunked);
    c->chunked = NULL;
    return refuse_all(c, NULL, &p, len);
}

/* ---- input ---------------------------------------------------------------------------------------------------------- */

static size_t taken_input(struct conn *c, uint8_t *bytes, size_t len, size_t *need)
{
    return c->taken->input ? c->taken->input(c->taken_owner, bytes, len, need) : len;
}

static bool may_begin(const struct conn *c)
{
    const struct http_options *o = &c->h->options;
    return c->count < o->max_pipelined && c->buffered <= o->output_bytes && !(c->alone && c->count > 0);
}

/* An empty line before a request is forgiven, once (RFC 9112 2.2). false: it is only half there. */
static bool skip_empty_line(struct conn *c, const uint8_t *bytes, size_t len, size_t *used)
{
    *used = 0;
    if (c->whole || c->scanned || c->skipped || bytes[0] != '\r')
        return true;
    if (len == 1)
        return false;
    if (bytes[1] == '\n') {
        c->skipped = true;
        *used = 2;
    }
    return true;
}

size_t h1_input(void *conn, uint8_t *bytes, size_t len, size_t *need)
{
    struct conn *c = conn;
    size_t used = 0;
    *need = 0;
    while (used < len) {
        if (c->is_taken)
            return used + taken_input(c, bytes + used, len - used, need);
        if (c->closing && !c->chunked && !c->whole)
            return len; /* nobody will read it */
        if (net_conn_is_choked(c->net))
            return used;
        if (c->chunked) {
            used += chunked_input(c, bytes + used, len - used);
            continue;
        }
        if (!c->whole && !may_begin(c)) {
            c->paused = true;
            net_conn_pause(c->net);
            return used;
        }
        size_t n;
        if (!skip_empty_line(c, bytes + used, len - used, &n))
            return used;
        used += n;
        if (used == len)
            return used;
        n = c->whole ? length_input(c, bytes + used, len - used, need) : head_input(c, bytes + used, len - used, need);
        if (n == 0)
            return used;
        used += n;
    }
    return used;
}
