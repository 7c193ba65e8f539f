/* Exchanges: each is a request whose response is not complete. A connection's stand in the order of the requests; the first
   one's response goes out, those of the others wait in their exchanges. */
#include <assert.h>
#include <stdlib.h>

#include "http_internal.h"

struct http_exchange *exchange_new(struct conn *c, const struct head *head)
{
    struct http *h = c->h;
    struct http_exchange *x = STAILQ_FIRST(&h->free);
    if (x) {
        STAILQ_REMOVE_HEAD(&h->free, next);
        h->free_count--;
    } else if (!(x = malloc(sizeof(*x)))) {
        return NULL;
    }
    *x = (struct http_exchange){.conn = c, .state = EXCHANGE_OPEN, .minor = 1};
    if (head) {
        x->minor = head->minor;
        x->is_head = head->is_head;
        x->keep_alive = head->minor == 0 && head->keep_alive && !head->close;
        x->close = head->close || (head->minor == 0 && !x->keep_alive);
    }
    if (h->going_away)
        x->close = true;
    if (x->close)
        c->closing = true;
    STAILQ_INSERT_TAIL(&c->exchanges, x, next);
    c->count++;
    h->stats.exchanges++;
    return x;
}

void exchange_free(struct http *h, struct http_exchange *x)
{
    buf_release(&x->out);
    free(x->origin);
    h->stats.exchanges--;
    if (h->free_count >= FREE_EXCHANGES) {
        free(x);
        return;
    }
    STAILQ_INSERT_HEAD(&h->free, x, next);
    h->free_count++;
}

bool exchange_is_first(const struct http_exchange *x)
{
    return STAILQ_FIRST(&x->conn->exchanges) == x;
}

bool exchange_is_last(const struct http_exchange *x)
{
    return !STAILQ_NEXT(x, next);
}

void http_keep(struct http_exchange *x, const struct http_exchange_ops *ops, void *owner)
{
    struct http *h = x->conn->h;
    x->ops = ops;
    x->owner = owner;
    if (h->handling == x)
        h->handling = NULL;
}

bool exchange_write(struct http_exchange *x, const void *a, size_t a_len, const void *b, size_t b_len)
{
    struct conn *c = x->conn;
    if (exchange_is_first(x)) {
        uint8_t *to = net_conn_reserve(c->net, a_len + b_len);
        if (!to) {
            x->mark = UINT64_MAX; /* it will never be sent */
            return false;
        }
        memcpy(to, a, a_len);
        if (b_len > 0)
            memcpy(to + a_len, b, b_len);
        return true;
    }
    if (!buf_reserve(&x->out, a_len + b_len)) {
        x->mark = UINT64_MAX;
        net_conn_abort(c->net);
        return false;
    }
    buf_append(&x->out, a, a_len);
    if (b_len > 0)
        buf_append(&x->out, b, b_len);
    c->buffered += a_len + b_len;
    return true;
}

/* ---- the end of an exchange ----------------------------------------------------------------------------------------- */

static void conn_pop(struct conn *c, struct http_exchange *x)
{
    STAILQ_REMOVE_HEAD(&c->exchanges, next);
    c->count--;
    if (!x->ops || !x->ops->sent) {
        exchange_free(c->h, x);
        return;
    }
    if (x->mark != UINT64_MAX)
        x->mark = net_conn_sent(c->net) + net_conn_unsent(c->net);
    STAILQ_INSERT_TAIL(&c->sending, x, next);
    net_conn_watch_output(c->net);
}

/* Responses leave as far as they are ready. */
static void conn_advance(struct conn *c)
{
    struct http_exchange *x;
    while ((x = STAILQ_FIRST(&c->exchanges))) {
        if (x->out.len > 0) {
            if (!net_conn_write(c->net, x->out.bytes, x->out.len))
                x->mark = UINT64_MAX;
            c->buffered -= x->out.len;
            buf_release(&x->out);
        }
        if (x->state == EXCHANGE_ABORTED) {
            if (x->until_close) /* its end would look like a good one */
                net_conn_abort(c->net);
        } else if (x->state != EXCHANGE_COMPLETE) {
            if (x->told_full)
                net_conn_watch_output(c->net);
            break;
        }
        conn_pop(c, x);
    }
    conn_settle(c);
}

void exchange_complete(struct http_exchange *x)
{
    struct conn *c = x->conn;
    if (c->h->handling == x)
        c->h->handling = NULL;
    x->state = EXCHANGE_COMPLETE;
    x->told_full = false;
    if (exchange_is_first(x))
        conn_advance(c);
}

void conn_note_sent(struct conn *c)
{
    struct http_exchange *x;
    while ((x = STAILQ_FIRST(&c->sending)) && x->mark <= net_conn_sent(c->net)) {
        STAILQ_REMOVE_HEAD(&c->sending, next);
        x->ops->sent(x->owner, true);
        exchange_free(c->h, x);
    }
    if (x)
        net_conn_watch_output(c->net);
    else if (c->closing && c->count == 0 && !c->is_taken)
        net_conn_finish(c->net);
}

void conn_drop_exchanges(struct conn *c)
{
    struct http_exchange *x;
    while ((x = STAILQ_FIRST(&c->sending))) {
        STAILQ_REMOVE_HEAD(&c->sending, next);
        x->ops->sent(x->owner, x->mark <= net_conn_sent(c->net));
        exchange_free(c->h, x);
    }
    while ((x = STAILQ_FIRST(&c->exchanges))) {
        STAILQ_REMOVE_HEAD(&c->exchanges, next);
        bool answered = x->state == EXCHANGE_COMPLETE || x->state == EXCHANGE_ABORTED;
        if (x->ops && !answered)
            x->ops->gone(x->owner);
        else if (x->ops && x->ops->sent && x->state == EXCHANGE_COMPLETE)
            x->ops->sent(x->owner, false);
        exchange_free(c->h, x);
    }
    c->count = 0;
    c->buffered = 0;
}

void conn_refuse(struct conn *c, const struct head *head, const struct problem *p)
{
    c->closing = true;
    struct http_exchange *x = exchange_new(c, head);
    if (!x) {
        net_conn_abort(c->net);
        return;
    }
    c->h->stats.refused_connections++;
    x->close = true;
    respond_problem(x, p, NULL, 0);
}

/* ---- responses in pieces -------------------------------------------------------------------------------------------- */

bool http_is_full(struct http_exchange *x)
{
    struct conn *c = x->conn;
    bool full = exchange_is_first(x) ? net_conn_is_full(c->net) : c->buffered > c->h->options.output_bytes;
    if (full)
        x->told_full = true;
    return full;
}

bool http_chunked_write(struct http_exchange *x, const void *bytes, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    char size[20];
    size_t at = sizeof(size);
    assert(x->state == EXCHANGE_STREAMING);
    if (n == 0 || x->is_head)
        return true; /* an empty chunk would be the end */
    if (x->until_close)
        return exchange_write(x, bytes, n, NULL, 0);
    size[--at] = '\n';
    size[--at] = '\r';
    for (size_t left = n; left > 0; left >>= 4)
        size[--at] = digits[left & 15];
    return exchange_write(x, size + at, sizeof(size) - at, bytes, n) && exchange_write(x, "\r\n", 2, NULL, 0);
}

void http_chunked_end(struct http_exchange *x)
{
    assert(x->state == EXCHANGE_STREAMING);
    if (!x->until_close && !x->is_head)
        exchange_write(x, "0\r\n\r\n", 5, NULL, 0);
    exchange_complete(x);
}

void http_abort(struct http_exchange *x)
{
    struct conn *c = x->conn;
    if (c->h->handling == x)
        c->h->handling = NULL;
    x->state = EXCHANGE_ABORTED;
    x->ops = NULL;
    c->closing = true;
    if (exchange_is_first(x))
        conn_advance(c);
}

/* ---- taking over ---------------------------------------------------------------------------------------------------- */

void http_peer(struct http_exchange *x, char *out, size_t size)
{
    net_conn_peer(x->conn->net, out, size);
}

struct http *http_of(struct http_exchange *x)
{
    return x->conn->h;
}
