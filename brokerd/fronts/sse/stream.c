/* An event stream's life: it is kept until its queues have answered for the first time, then begins, is looked at whenever
   there may be something to ask for, and ends with its connection. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sse_internal.h"

enum { PUMPED_STREAMS = 4096, PUMPED_BYTES = 16 << 20 }; /* in one turn, about */

#define stream_of(client_ptr) container_of(client_ptr, struct stream, client)

/* ---- what waits for the next turn ----------------------------------------------------------------------------------- */

static void pump_arm(struct sse *sse)
{
    net_timer_set(sse->net, &sse->pump, net_now(sse->net).mono);
}

void sse_todo(struct stream *s)
{
    if (s->is_todo)
        return;
    s->is_todo = true;
    if (TAILQ_EMPTY(&s->sse->todo))
        pump_arm(s->sse);
    TAILQ_INSERT_TAIL(&s->sse->todo, s, in_todo);
}

static void todo_remove(struct stream *s)
{
    if (s->is_todo)
        TAILQ_REMOVE(&s->sse->todo, s, in_todo);
    s->is_todo = false;
}

/* Those that are there now, each once: what they ask for may be answered at once, and puts them there again. */
void sse_pump(void *arg, struct now now)
{
    struct sse *sse = arg;
    struct stream *last = TAILQ_LAST(&sse->todo, stream_list), *s;
    uint64_t turn = net_turn_number(sse->net);
    unsigned looked = 0;
    if (turn != sse->pumped_turn) {
        sse->pumped_turn = turn;
        sse->pumped_bytes = 0;
    }
    for (bool more = last; more && looked++ < PUMPED_STREAMS && sse->pumped_bytes < PUMPED_BYTES;) {
        s = TAILQ_FIRST(&sse->todo);
        more = s != last;
        todo_remove(s);
        if (s->is_refused)
            sse_drop(s);
        else if (!s->x && s->out.is_over)
            client_close(sse->clients, &s->client, now);
        else
            s->kind->pump(s, now);
    }
    if (!TAILQ_EMPTY(&sse->todo))
        pump_arm(sse);
}

/* ---- the end -------------------------------------------------------------------------------------------------------- */

void sse_drop(struct stream *s)
{
    client_close(s->sse->clients, &s->client, net_now(s->sse->net));
    sse_release(s);
}

void sse_release(struct stream *s)
{
    todo_remove(s);
    free(s->filter);
    free(s->consumer);
    free(s->resume);
    free(s);
}

void sse_refuse(struct stream *s, broker_error error, const char *text, uint32_t retry_ms)
{
    struct http_exchange *x = s->x;
    if (!x)
        return; /* it was refused already */
    s->x = NULL;
    s->is_refused = true;
    sse_todo(s);
    http_refuse(x, error, text, retry_ms);
}

static bool is_of_one_queue(broker_error error)
{
    return error == BROKER_QUEUE_NOT_FOUND || error == BROKER_GROUP_NOT_FOUND;
}

static const char *end_reason(broker_error error)
{
    switch (error) {
    case BROKER_QUEUE_NOT_FOUND: return "queue_deleted";
    case BROKER_GROUP_NOT_FOUND: return "group_deleted";
    case BROKER_SHUTTING_DOWN: return "shutting_down";
    default: return "failed";
    }
}

void sse_feed_over(struct stream *s, uint32_t feed, broker_error error, const char *text)
{
    struct feed *f = &s->feeds[feed];
    char extra[16 + NAME_MAX_BYTES + 1];
    if (f->state == FEED_OVER || s->out.is_over)
        return;
    f->state = FEED_OVER;
    s->open_feeds--;
    snprintf(extra, sizeof(extra), ",\"queue\":\"%s\"", f->queue);
    sse_stream_say_end(&s->out, end_reason(error), text, extra);
    if (s->open_feeds == 0 || !is_of_one_queue(error))
        sse_stream_finish(&s->out);
}

static void gone(void *owner)
{
    sse_drop(owner);
}

static void out_closed(struct sse_stream *out)
{
    sse_drop(container_of(out, struct stream, out));
}

/* What was leased to it goes back now, not when the last bytes have left. */
static void out_ended(struct sse_stream *out)
{
    sse_todo(container_of(out, struct stream, out));
}

static void out_drained(struct sse_stream *out)
{
    sse_todo(container_of(out, struct stream, out));
}

/* ---- the beginning -------------------------------------------------------------------------------------------------- */

static const struct http_exchange_ops EXCHANGE_OPS = {.gone = gone};
static const struct sse_stream_ops OUT_OPS = {.drained = out_drained, .closed = out_closed, .ended = out_ended};

static void stream_begin(struct stream *s)
{
    struct http_exchange *x = s->x;
    char comment[128];
    s->x = NULL;
    free(s->resume);
    s->resume = NULL;
    s->open_feeds = s->feed_count;
    if (s->feed_count == 1)
        snprintf(comment, sizeof(comment), "events of queue %.80s", s->feeds[0].queue);
    else
        snprintf(comment, sizeof(comment), "events of %u queues", s->feed_count);
    if (!sse_stream_begin(&s->out, s->sse->hub, &OUT_OPS, x, comment)) {
        s->is_refused = true;
        sse_todo(s);
        return;
    }
    s->kind->begun(s);
    sse_todo(s);
}

void sse_answered(struct stream *s)
{
    if (--s->unanswered == 0)
        stream_begin(s);
}

static void complete(struct client *c, const struct completion *done)
{
    struct stream *s = stream_of(c);
    uint32_t feed = done->token.stream - 1;
    if (feed >= s->feed_count || s->is_refused)
        return;
    if (s->x && done->error)
        sse_refuse(s, done->error, done->text, done->retry_ms);
    else
        s->kind->answer(s, feed, done);
}

static bool deliver(struct client *c, const struct delivery *d)
{
    return sse_deliver(stream_of(c), d);
}

static void ended(struct client *c, struct token token, broker_error error, const char *text)
{
    struct stream *s = stream_of(c);
    uint32_t feed = token.stream - 1;
    if (feed >= s->feed_count || s->is_refused)
        return;
    if (s->x)
        sse_refuse(s, error, text, 0);
    else
        sse_feed_over(s, feed, error, text);
}

static const struct client_ops CLIENT_OPS = {.complete = complete, .deliver = deliver, .ended = ended};

void sse_submit(struct stream *s, uint32_t feed, struct now now, struct command *c)
{
    c->token.stream = feed + 1;
    c->queue = (struct name){s->feeds[feed].queue, strlen(s->feeds[feed].queue)};
    client_submit(s->sse->clients, &s->client, now, c);
}

void sse_start(struct stream *s, struct http_exchange *x)
{
    struct now now = net_now(s->sse->net);
    if (!client_open(s->sse->clients, &s->client, &CLIENT_OPS, &identity_anyone)) {
        sse_drop(s);
        http_refuse(x, BROKER_LIMIT_REACHED, "too many clients at once, or no memory for one more; try again", 1000);
        return;
    }
    s->x = x;
    s->unanswered = s->feed_count;
    http_keep(x, &EXCHANGE_OPS, s);
    for (uint32_t i = 0; i < s->feed_count && !s->is_refused; i++)
        s->kind->ask_first(s, i, now);
}
