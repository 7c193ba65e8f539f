/* Streams of a group's consumer: a subscription of each queue. What a client has settled makes room for more
   (max_unsettled), so credit is only what keeps the engine going, and is given in plenty. */
#include <string.h>

#include "sse_internal.h"

enum { CREDIT_MESSAGES = 1 << 30 };
#define CREDIT_BYTES ((uint64_t)1 << 50)

static void ask_first(struct stream *s, uint32_t feed, struct now now)
{
    const struct consumer *o = s->consumer;
    struct command c = {.type = COMMAND_SUBSCRIBE, .group = {o->group, strlen(o->group)}};
    c.u.subscribe.lease_ms = o->lease_ms;
    c.u.subscribe.settle_on_send = o->on_send;
    c.u.subscribe.max_unsettled = o->on_send ? 0 : o->max_unsettled;
    s->feeds[feed].state = FEED_FIRST;
    sse_submit(s, feed, now, &c);
}

static void answer(struct stream *s, uint32_t feed, const struct completion *done)
{
    if (!s->x)
        return;
    s->feeds[feed].state = FEED_IDLE;
    sse_answered(s);
}

static void begun(struct stream *s) {}

static void give_credit(struct stream *s, uint32_t feed, struct now now)
{
    struct command c = {.type = COMMAND_CREDIT};
    c.u.credit.messages = CREDIT_MESSAGES;
    c.u.credit.bytes = CREDIT_BYTES;
    s->feeds[feed].state = FEED_ASKED;
    sse_submit(s, feed, now, &c);
}

static void pump(struct stream *s, struct now now)
{
    if (s->x)
        return;
    if (s->consumer->delivered >= CREDIT_MESSAGES / 2) {
        s->consumer->delivered = 0;
        for (uint32_t i = 0; i < s->feed_count; i++)
            if (s->feeds[i].state == FEED_ASKED)
                s->feeds[i].state = FEED_IDLE;
    }
    for (uint32_t i = 0; i < s->feed_count; i++)
        if (s->feeds[i].state == FEED_IDLE)
            give_credit(s, i, now);
    if (s->consumer->held && !sse_stream_is_full(&s->out)) {
        struct command c = {.type = COMMAND_UNHOLD};
        s->consumer->held = false;
        client_submit(s->sse->clients, &s->client, now, &c);
    }
}

static bool send_event(struct stream *s, const struct event_look *look, const struct form_message *m)
{
    struct buf *b = &s->sse->scratch;
    buf_clear(b);
    if (!sse_event_put(b, look, m))
        return false;
    sse_stream_write(&s->out, b->bytes, b->len);
    return true;
}

bool sse_deliver(struct stream *s, const struct delivery *d)
{
    uint32_t feed = d->token.stream - 1;
    if (feed >= s->feed_count || s->x || s->is_refused || s->out.is_over)
        return true; /* it ends: what was leased goes back with it */
    struct event_look look = {0, s->feeds[feed].queue, s->format, s->naming};
    for (uint32_t i = 0; i < d->count; i++) {
        struct form_message m = {.record = d->messages[i].record,
                                 .seq = d->messages[i].seq,
                                 .receipt = d->first_receipt ? d->first_receipt + i : 0,
                                 .attempt = d->attempts[i]};
        if (send_event(s, &look, &m))
            continue;
        sse_stream_say_end(&s->out, "failed", "no memory for an event; connect again later", NULL);
        sse_stream_finish(&s->out);
        return true;
    }
    s->consumer->delivered += d->count;
    if (s->consumer->delivered >= CREDIT_MESSAGES / 2)
        sse_todo(s);
    s->consumer->held = sse_stream_is_full(&s->out);
    return !s->consumer->held;
}

const struct stream_kind sse_by_group = {ask_first, answer, begun, pump};
