#include "sse_stream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "forms.h"
#include "heap.h"

enum { HEARTBEATS_PER_TURN = 1024 };

struct sse_hub {
    struct sse_hub_options options;
    struct net *net;
    TAILQ_HEAD(, sse_stream) streams; /* by silence */
    struct net_timer sweep;
    bool sweeping; /* the timer is set */
    struct sse_hub_stats stats;
};

/* ---- heartbeats ----------------------------------------------------------------------------------------------------- */

/* The timer is set for the first of the list, and not moved when that one speaks: it looks again then. */
static void sweep_arm(struct sse_hub *h, uint64_t at_ms)
{
    h->sweeping = net_timer_set(h->net, &h->sweep, (monotime){at_ms});
}

static void touch(struct sse_stream *s)
{
    uint64_t now_ms = net_now(s->hub->net).mono.ms;
    if (s->written_ms == now_ms && TAILQ_NEXT(s, by_silence) == NULL)
        return;
    s->written_ms = now_ms;
    TAILQ_REMOVE(&s->hub->streams, s, by_silence);
    TAILQ_INSERT_TAIL(&s->hub->streams, s, by_silence);
}

static void sweep(void *arg, struct now now)
{
    struct sse_hub *h = arg;
    unsigned said = 0;
    h->sweeping = false;
    for (struct sse_stream *s; (s = TAILQ_FIRST(&h->streams));) {
        uint64_t due_ms = s->written_ms + h->options.heartbeat_ms;
        if (due_ms > now.mono.ms || said++ == HEARTBEATS_PER_TURN) {
            sweep_arm(h, due_ms > now.mono.ms ? due_ms : now.mono.ms);
            return;
        }
        if (net_conn_unsent(s->conn) == 0)
            sse_stream_write(s, ":\n\n", 3);
        touch(s); /* who does not take what it has needs no reminder */
    }
}

/* ---- output --------------------------------------------------------------------------------------------------------- */

void sse_stream_write(struct sse_stream *s, const void *bytes, size_t n)
{
    if (s->is_over)
        return;
    touch(s);
    net_conn_write(s->conn, bytes, n);
}

void sse_stream_lend(struct sse_stream *s, const void *bytes, size_t n)
{
    if (s->is_over)
        return;
    touch(s);
    net_conn_write_borrowed(s->conn, bytes, n);
}

void sse_stream_event(struct sse_stream *s, const char *name, const char *id, const void *data, size_t len)
{
    char head[512];
    int n = snprintf(head, sizeof(head), "%s%s%s%s%s%sdata: ", name ? "event: " : "", name ? name : "",
                     name ? "\n" : "", id ? "id: " : "", id ? id : "", id ? "\n" : "");
    if (n < 0 || (size_t)n >= sizeof(head))
        return; /* cannot be: names and ids are ours and short */
    sse_stream_write(s, head, (size_t)n);
    sse_stream_write(s, data, len);
    sse_stream_write(s, "\n\n", 2);
}

bool sse_stream_is_full(struct sse_stream *s)
{
    return net_conn_is_full(s->conn);
}

static void end(struct sse_stream *s)
{
    if (s->is_over)
        return;
    s->is_over = true;
    if (s->ops->ended)
        s->ops->ended(s);
}

void sse_stream_finish(struct sse_stream *s)
{
    if (s->is_over)
        return;
    net_conn_finish(s->conn);
    end(s);
}

void sse_stream_say_end(struct sse_stream *s, const char *reason, const char *text, const char *extra)
{
    struct buf data;
    buf_init(&data, 0);
    if (form_put(&data, "{\"reason\":") && form_json_string(&data, reason, strlen(reason)) &&
        form_put(&data, ",\"text\":") && form_json_string(&data, text, strlen(text)) &&
        form_put(&data, extra ? extra : "") && form_put(&data, "}"))
        sse_stream_event(s, "end", NULL, data.bytes, data.len);
    buf_release(&data);
}

/* ---- the connection ------------------------------------------------------------------------------------------------- */

static void on_drained(void *owner)
{
    struct sse_stream *s = owner;
    if (!s->is_over && s->ops->drained)
        s->ops->drained(s);
}

static void on_closed(void *owner, enum net_close_reason reason)
{
    struct sse_stream *s = owner;
    TAILQ_REMOVE(&s->hub->streams, s, by_silence);
    s->hub->stats.streams--;
    end(s);
    s->ops->closed(s);
}

static void on_goaway(void *owner, const char *text)
{
    struct sse_stream *s = owner;
    sse_stream_say_end(s, "shutting_down", text, NULL);
    sse_stream_finish(s);
}

/* The room http says so in the log. */
static void on_stalled(void *owner)
{
    struct sse_stream *s = owner;
    s->hub->stats.stalled++;
}

static const struct http_conn_ops CONN_OPS = {
    .drained = on_drained, .closed = on_closed, .goaway = on_goaway, .stalled = on_stalled};

/* nginx buffers what it passes on unless the response says that it must not; no-transform is for those who would compress. */
static const struct http_field HEAD_FIELDS[] = {
    {{"Cache-Control", 13}, {"no-store, no-transform", 22}},
    {{"X-Accel-Buffering", 17}, {"no", 2}},
};

bool sse_stream_begin(struct sse_stream *s, struct sse_hub *h, const struct sse_stream_ops *ops,
                      struct http_exchange *x, const char *comment)
{
    struct http_response head = {.status = 200,
                                 .type = "text/event-stream",
                                 .fields = HEAD_FIELDS,
                                 .field_count = sizeof(HEAD_FIELDS) / sizeof(HEAD_FIELDS[0])};
    char text[512];
    struct net_conn *conn = http_take_over(x, &head, &CONN_OPS, s);
    if (!conn)
        return false;
    *s = (struct sse_stream){.hub = h, .conn = conn, .ops = ops, .written_ms = net_now(h->net).mono.ms};
    TAILQ_INSERT_TAIL(&h->streams, s, by_silence);
    h->stats.streams++;
    net_conn_set_limits(conn, h->options.output_bytes, SIZE_MAX / 4); /* its owner stops when it is full */
    int n = snprintf(text, sizeof(text), ": %s\nretry: %u\n\n", comment, h->options.retry_ms);
    if (n > 0 && (size_t)n < sizeof(text))
        sse_stream_write(s, text, (size_t)n);
    if (!h->sweeping)
        sweep_arm(h, s->written_ms + h->options.heartbeat_ms);
    return true;
}

/* ---- the hub -------------------------------------------------------------------------------------------------------- */

struct sse_hub *sse_hub_new(const struct sse_hub_options *options, struct http *http)
{
    struct sse_hub *h = calloc(1, sizeof(*h));
    if (!h)
        return NULL;
    h->options = *options;
    h->net = http_net(http);
    TAILQ_INIT(&h->streams);
    net_timer_init(&h->sweep, sweep, h);
    return h;
}

void sse_hub_free(struct sse_hub *h)
{
    free(h);
}

void sse_hub_get_stats(const struct sse_hub *h, struct sse_hub_stats *out)
{
    *out = h->stats;
}
