/* Output: collected in slices during the turn, sent with one call at its end; what the system does not take is copied. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "net_internal.h"

enum { IOV_AT_ONCE = 128 };

/* ---- the turn's output ---------------------------------------------------------------------------------------------- */

static struct turn_out *turn_out_get(struct net *net)
{
    struct turn_out *t = net->pool;
    if (t) {
        net->pool = t->next;
        net->pooled--;
        return t;
    }
    t = calloc(1, sizeof(*t));
    if (t)
        buf_init(&t->own, 0); /* bounded by net_conn_is_choked: see net_conn_set_limits */
    return t;
}

static void turn_out_free(struct turn_out *t)
{
    buf_release(&t->own);
    free(t->slices);
    free(t);
}

static void turn_out_put(struct net *net, struct turn_out *t)
{
    size_t most = t->own.cap > t->cap * sizeof(struct slice) ? t->own.cap : t->cap * sizeof(struct slice);
    if (most > NET_POOLED_OUTPUT_BYTES || net->pooled >= NET_POOLED_SMALL_OUTPUTS ||
        (net->pooled >= NET_POOLED_OUTPUTS && most > NET_POOLED_SMALL_OUTPUT_BYTES)) {
        turn_out_free(t);
        return;
    }
    buf_clear(&t->own);
    t->count = 0;
    t->bytes = 0;
    t->next = net->pool;
    net->pool = t;
    net->pooled++;
}

void output_free_pool(struct net *net)
{
    for (struct turn_out *t; (t = net->pool);) {
        net->pool = t->next;
        turn_out_free(t);
    }
    net->pooled = 0;
}

void output_mark_dirty(struct net_conn *c)
{
    if (c->is_dirty)
        return;
    c->is_dirty = true;
    TAILQ_INSERT_TAIL(&c->net->dirty, c, dirty);
}

size_t net_conn_unsent(const struct net_conn *c)
{
    return c->out.len - c->out_sent + (c->turn ? c->turn->bytes : 0);
}

uint64_t net_conn_sent(const struct net_conn *c)
{
    return c->sent;
}

bool net_conn_is_choked(const struct net_conn *c)
{
    return c->choked || c->state != CONN_OPEN;
}

bool net_conn_is_full(struct net_conn *c)
{
    size_t unsent = net_conn_unsent(c);
    bool full = unsent > c->full_bytes || (unsent > 0 && c->net->output_used > c->net->options.max_output_bytes);
    if (full)
        c->was_full = true;
    return full;
}

void net_conn_watch_output(struct net_conn *c)
{
    if (c->state != CONN_OPEN)
        return;
    c->was_full = true;
    output_mark_dirty(c);
}

static struct slice *slice_add(struct net_conn *c)
{
    if (c->state != CONN_OPEN)
        return NULL;
    if (!c->turn && !(c->turn = turn_out_get(c->net)))
        goto no_memory;
    struct turn_out *t = c->turn;
    if (t->count == t->cap) {
        size_t cap = t->cap ? t->cap * 2 : 16;
        struct slice *slices = realloc(t->slices, cap * sizeof(*slices));
        if (!slices)
            goto no_memory;
        t->slices = slices;
        t->cap = cap;
    }
    output_mark_dirty(c);
    return &t->slices[t->count];

no_memory:
    conn_set_state(c, CONN_CLOSED, NET_CLOSE_MEMORY);
    return NULL;
}

static void output_count(struct net_conn *c, size_t n)
{
    c->turn->bytes += n;
    c->net->output_used += n;
    if (net_conn_unsent(c) > 2 * c->full_bytes)
        c->choked = true;
}

uint8_t *net_conn_reserve(struct net_conn *c, size_t n)
{
    struct slice *s = slice_add(c);
    if (!s)
        return NULL;
    struct turn_out *t = c->turn;
    uint8_t *bytes = buf_reserve(&t->own, n);
    if (!bytes) {
        conn_set_state(c, CONN_CLOSED, NET_CLOSE_MEMORY);
        return NULL;
    }
    if (t->count > 0 && !s[-1].borrowed) {
        s[-1].len += n; /* own bytes follow each other */
    } else {
        *s = (struct slice){.offset = t->own.len, .len = n};
        t->count++;
    }
    t->own.len += n;
    output_count(c, n);
    return bytes;
}

bool net_conn_write(struct net_conn *c, const void *bytes, size_t n)
{
    uint8_t *to = net_conn_reserve(c, n);
    if (!to)
        return false;
    memcpy(to, bytes, n);
    return true;
}

bool net_conn_write_borrowed(struct net_conn *c, const void *bytes, size_t n)
{
    struct slice *s = slice_add(c);
    if (!s)
        return false;
    if (c->turn->count > 0 && s[-1].borrowed && s[-1].borrowed + s[-1].len == (const uint8_t *)bytes) {
        s[-1].len += n;
    } else {
        *s = (struct slice){.borrowed = bytes, .len = n};
        c->turn->count++;
    }
    output_count(c, n);
    return true;
}

/* ---- sending -------------------------------------------------------------------------------------------------------- */

struct cursor { /* what of the turn's slices is sent */
    size_t slice, offset;
};

static int gather(const struct net_conn *c, struct cursor at, struct iovec iov[IOV_AT_ONCE], size_t *total)
{
    int n = 0;
    *total = 0;
    if (c->out.len > c->out_sent) {
        iov[n++] = (struct iovec){c->out.bytes + c->out_sent, c->out.len - c->out_sent};
        *total += c->out.len - c->out_sent;
    }
    const struct turn_out *t = c->turn;
    for (size_t i = at.slice; t && i < t->count && n < IOV_AT_ONCE; i++) {
        const struct slice *s = &t->slices[i];
        const uint8_t *bytes = s->borrowed ? s->borrowed : t->own.bytes + s->offset;
        size_t skip = i == at.slice ? at.offset : 0;
        iov[n++] = (struct iovec){(void *)(uintptr_t)(bytes + skip), s->len - skip};
        *total += s->len - skip;
    }
    return n;
}

static void advance(struct net_conn *c, struct cursor *at, size_t n)
{
    c->sent += n;
    c->net->output_used -= n;
    size_t queued = c->out.len - c->out_sent;
    size_t part = n < queued ? n : queued;
    c->out_sent += part;
    n -= part;
    if (c->out_sent == c->out.len && c->out.cap) {
        buf_release(&c->out); /* an idle connection keeps no memory */
        c->out_sent = 0;
    }
    while (n > 0) {
        struct slice *s = &c->turn->slices[at->slice];
        part = s->len - at->offset;
        if (n < part) {
            at->offset += n;
            c->turn->bytes -= n;
            return;
        }
        n -= part;
        c->turn->bytes -= part;
        at->slice++;
        at->offset = 0;
    }
}

/* Copy what the system did not take: borrowed slices do not outlive the turn. */
static bool keep_rest(struct net_conn *c, struct cursor at)
{
    struct turn_out *t = c->turn;
    if (t && t->bytes > 0) {
        if (net_conn_unsent(c) > c->ceiling_bytes) {
            conn_set_state(c, CONN_CLOSED, NET_CLOSE_OVERFLOW);
            return false;
        }
        if (c->out_sent > 0) {
            buf_drop_front(&c->out, c->out_sent);
            c->out_sent = 0;
        }
        if (!buf_reserve(&c->out, t->bytes)) {
            conn_set_state(c, CONN_CLOSED, NET_CLOSE_MEMORY);
            return false;
        }
        for (size_t i = at.slice; i < t->count; i++) {
            const struct slice *s = &t->slices[i];
            const uint8_t *bytes = s->borrowed ? s->borrowed : t->own.bytes + s->offset;
            size_t skip = i == at.slice ? at.offset : 0;
            buf_append(&c->out, bytes + skip, s->len - skip);
        }
    }
    if (t) {
        turn_out_put(c->net, t);
        c->turn = NULL;
    }
    return true;
}

/* What the drained output allows: deliveries again, reading again, or the end. */
static void after_flush(struct net_conn *c)
{
    size_t unsent = net_conn_unsent(c);
    if (unsent == 0 && c->state == CONN_FINISHING) {
        conn_set_state(c, CONN_LINGERING, NET_CLOSE_FINISHED);
        return;
    }
    bool roomy = unsent <= c->full_bytes / 2 && c->net->output_used <= c->net->options.max_output_bytes;
    if (c->was_full && !c->is_drained && (unsent == 0 || roomy)) {
        c->is_drained = true;
        TAILQ_INSERT_TAIL(&c->net->drained, c, drained);
    }
    bool resume = c->choked && unsent <= c->full_bytes;
    if (resume)
        c->choked = false;
    conn_update_events(c);
    if (resume)
        conn_resume_input(c); /* last: a change of events would forget it */
}

static void conn_flush(struct net_conn *c)
{
    struct cursor at = {0, 0};
    struct iovec iov[IOV_AT_ONCE];
    size_t total;
    int n;
    if (c->state == CONN_CLOSED)
        return;
    while ((n = gather(c, at, iov, &total)) > 0) {
        ptrdiff_t sent = c->ops->writev(c->transport, c->io.fd, iov, n);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
            conn_set_state(c, CONN_CLOSED, NET_CLOSE_PEER);
            return;
        }
        if (sent > 0)
            advance(c, &at, (size_t)sent);
        if (sent < 0 || (size_t)sent < total)
            break; /* full */
    }
    if (keep_rest(c, at))
        after_flush(c);
}

/* Each connection at most once a turn: one that becomes dirty again waits for the next. */
void output_flush(struct net *net)
{
    struct conn_list round = TAILQ_HEAD_INITIALIZER(round);
    TAILQ_CONCAT(&round, &net->dirty, dirty);
    for (struct net_conn *c; (c = TAILQ_FIRST(&round));) {
        TAILQ_REMOVE(&round, c, dirty);
        c->is_dirty = false;
        conn_flush(c);
    }
}

void output_tell_drained(struct net *net)
{
    struct conn_list round = TAILQ_HEAD_INITIALIZER(round);
    TAILQ_CONCAT(&round, &net->drained, drained);
    for (struct net_conn *c; (c = TAILQ_FIRST(&round));) {
        TAILQ_REMOVE(&round, c, drained);
        c->is_drained = c->was_full = false;
        if (c->state == CONN_OPEN && c->handler->drained)
            c->handler->drained(c->user);
    }
}

/* On the way to CONN_CLOSED: everything unsent is given up. */
void output_release(struct net_conn *c)
{
    c->net->output_used -= net_conn_unsent(c);
    if (c->turn) {
        turn_out_put(c->net, c->turn);
        c->turn = NULL;
    }
    buf_release(&c->out);
    c->out_sent = 0;
}
