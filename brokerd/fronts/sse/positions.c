/* Streams by position: one READ of each queue at a time, and none while the output is full. */
#include <stdio.h>
#include <string.h>

#include "sse_internal.h"

/* ---- ids ------------------------------------------------------------------------------------------------------------ */

/* "id: …" of where all queues stand, a line. */
static bool put_id_line(struct buf *out, const struct stream *s)
{
    size_t most = 4 + EVENT_ID_EPOCH_BYTES + s->feed_count * (size_t)EVENT_ID_PLACE_BYTES + 1;
    char *to = (char *)buf_reserve(out, most);
    if (!to)
        return false;
    size_t n = 4;
    memcpy(to, "id: ", 4);
    n += sse_id_put_epoch(to + n, s->sse->epoch(s->sse->epoch_arg));
    for (uint32_t i = 0; i < s->feed_count; i++)
        n += sse_id_put_place(to + n, &(struct place){s->feeds[i].queue_id, s->feeds[i].next_seq - 1});
    to[n++] = '\n';
    out->len += n;
    return true;
}

/* ---- resets --------------------------------------------------------------------------------------------------------- */

static const struct {
    const char *reason, *text;
} RESETS[] = {
    [RESET_TRIMMED] = {"trimmed", "the queue has let go of messages that were not sent yet"},
    [RESET_BEYOND] = {"beyond_end", "the queue has never had a message at that place: it is of another life"},
    [RESET_OTHER_QUEUE] = {"other_queue", "the id knows another queue: this one was deleted and made again, or the id "
                                          "is another stream's"},
    [RESET_OTHER_LIFE] = {"other_life", "the id is of a later start of the broker: its data has been put back"},
};

static void say_reset(struct stream *s, uint32_t feed, enum reset_reason reason)
{
    struct feed *f = &s->feeds[feed];
    struct buf *b = &s->sse->scratch;
    buf_clear(b);
    bool good = form_put(b, "event: reset\ndata: {\"reason\":\"") && form_put(b, RESETS[reason].reason) &&
                form_put(b, "\",\"queue\":\"") && form_put(b, f->queue) && form_put(b, "\",\"from\":") &&
                form_json_u64(b, f->next_seq) && form_put(b, ",\"text\":\"") && form_put(b, RESETS[reason].text) &&
                form_put(b, "\"}\n") && put_id_line(b, s) && form_put(b, "\n");
    if (good)
        sse_stream_write(&s->out, b->bytes, b->len);
}

/* ---- the first answers ---------------------------------------------------------------------------------------------- */

static void ask(struct stream *s, uint32_t feed, struct now now, uint64_t from_seq, bool first)
{
    const struct sse_options *o = &s->sse->options;
    struct command c = {.type = COMMAND_READ};
    c.u.read.from_seq = from_seq;
    c.u.read.max_messages = first ? 1 : o->batch_messages;
    c.u.read.max_bytes = first ? 1 : o->batch_bytes;
    c.u.read.wait_ms = first ? 0 : READ_WAIT_FOREVER;
    if (first) {
        c.u.read.from_ms = s->resume ? 0 : s->from_ms;
        c.u.read.from_end = !s->resume && s->from_end;
    }
    if (s->filter)
        c.u.read.filter = *s->filter;
    s->feeds[feed].state = first ? FEED_FIRST : FEED_ASKED;
    sse_submit(s, feed, now, &c);
}

static void ask_first(struct stream *s, uint32_t feed, struct now now)
{
    const struct event_id *id = s->resume;
    /* The id's places stand in the order of the queues, unless the request has changed it: then the answer's queue_id says. */
    if (id)
        s->feeds[feed].next_seq = feed < id->count ? id->places[feed].seq + 1 : 0;
    ask(s, feed, now, s->feeds[feed].next_seq, true);
}

static const struct place *find_place(const struct event_id *id, uint32_t queue_id)
{
    for (size_t i = 0; i < id->count; i++)
        if (id->places[i].queue_id == queue_id)
            return &id->places[i];
    return NULL;
}

/* The oldest that is there, with a reset that says so. */
static void start_over(struct feed *f, enum reset_reason reason, const struct completion *done)
{
    f->reset = (uint8_t)reason;
    f->next_seq = done->u.read.first_seq;
}

/* A place that the client named: does it still mean the same? */
static void settle_place(struct stream *s, struct feed *f, const struct completion *done)
{
    if (s->resume && !find_place(s->resume, f->queue_id))
        start_over(f, RESET_OTHER_QUEUE, done);
    else if (s->resume && s->resume->epoch > s->sse->epoch(s->sse->epoch_arg))
        start_over(f, RESET_OTHER_LIFE, done);
    else if (done->u.read.beyond)
        start_over(f, RESET_BEYOND, done);
    else if (done->u.read.trimmed)
        start_over(f, RESET_TRIMMED, done);
}

static void first_answer(struct stream *s, uint32_t feed, const struct completion *done)
{
    struct feed *f = &s->feeds[feed];
    f->queue_id = done->u.read.queue_id;
    const struct place *place = s->resume ? find_place(s->resume, f->queue_id) : NULL;
    if (place && f->next_seq != place->seq + 1) {
        f->next_seq = place->seq + 1; /* the queues were named in another order: ask at the right place */
        f->state = FEED_AGAIN;
        sse_todo(s);
        return;
    }
    f->state = FEED_IDLE;
    if (s->resume || f->next_seq > 0)
        settle_place(s, f, done);
    else /* an answer's message is not sent but read again, with others */
        f->next_seq = done->u.read.count > 0 ? done->u.read.messages[0].seq : done->u.read.next_seq;
    sse_answered(s);
}

static void begun(struct stream *s)
{
    struct buf *b = &s->sse->scratch;
    buf_clear(b);
    /* The place before the first event, so that a client that loses the stream before it comes back to the same. */
    if (put_id_line(b, s) && form_put(b, "\n"))
        sse_stream_write(&s->out, b->bytes, b->len);
    for (uint32_t i = 0; i < s->feed_count; i++)
        if (s->feeds[i].reset)
            say_reset(s, i, s->feeds[i].reset);
}

/* ---- events --------------------------------------------------------------------------------------------------------- */

static void send_event(struct stream *s, struct feed *f, const struct stored_message *m)
{
    struct sse *sse = s->sse;
    struct event_look look = {f->queue_id, f->queue, s->format, s->naming};
    struct event_bytes e;
    f->next_seq = m->seq + 1;
    if (!sse_events_get(sse->events, &look, sse->epoch(sse->epoch_arg), m, &e)) {
        sse_stream_say_end(&s->out, "failed", "no memory for an event; connect again later", NULL);
        sse_stream_finish(&s->out);
        return;
    }
    bool alone = s->feed_count == 1;
    uint32_t len = alone ? e.len : e.open_len;
    sse->pumped_bytes += len;
    if (e.lent)
        sse_stream_lend(&s->out, e.bytes, len);
    else
        sse_stream_write(&s->out, e.bytes, len);
    if (alone)
        return;
    buf_clear(&sse->scratch);
    if (put_id_line(&sse->scratch, s) && form_put(&sse->scratch, "\n"))
        sse_stream_write(&s->out, sse->scratch.bytes, sse->scratch.len);
    else
        sse_stream_write(&s->out, "\n", 1); /* an event without an id: it comes again after a reconnect */
}

/* Ask again: at once if it is going to wait, in the next turn if more is there, and else when the output has drained. */
static void go_on(struct stream *s, uint32_t feed, const struct completion *done)
{
    uint64_t next_seq = s->feeds[feed].next_seq;
    if (s->out.is_over || sse_stream_is_full(&s->out))
        return;
    if (next_seq == done->u.read.last_seq + 1)
        ask(s, feed, net_now(s->sse->net), next_seq, false);
    else
        sse_todo(s);
}

static void next_answer(struct stream *s, uint32_t feed, const struct completion *done)
{
    struct feed *f = &s->feeds[feed];
    enum reset_reason reset = RESET_NONE;
    f->state = FEED_IDLE;
    if (s->out.is_over)
        return;
    if (sse_stream_is_full(&s->out))
        return; /* another queue of the stream has filled it: this is read again when it has drained */
    if (done->u.read.queue_id != f->queue_id)
        reset = RESET_OTHER_QUEUE;
    else if (done->u.read.beyond)
        reset = RESET_BEYOND;
    else if (done->u.read.trimmed)
        reset = RESET_TRIMMED;
    f->queue_id = done->u.read.queue_id;
    if (reset) {
        f->next_seq = done->u.read.first_seq;
        say_reset(s, feed, reset);
        if (reset != RESET_TRIMMED) {
            go_on(s, feed, done);
            return;
        }
    }
    for (uint32_t i = 0; i < done->u.read.count && !s->out.is_over; i++)
        send_event(s, f, &done->u.read.messages[i]);
    f->next_seq = done->u.read.next_seq > f->next_seq ? done->u.read.next_seq : f->next_seq;
    go_on(s, feed, done);
}

static void answer(struct stream *s, uint32_t feed, const struct completion *done)
{
    if (s->x)
        first_answer(s, feed, done);
    else if (done->error)
        sse_feed_over(s, feed, done->error, done->text);
    else
        next_answer(s, feed, done);
}

static void pump(struct stream *s, struct now now)
{
    for (uint32_t i = 0; i < s->feed_count && !s->is_refused; i++) {
        struct feed *f = &s->feeds[i];
        if (f->state == FEED_AGAIN)
            ask(s, i, now, f->next_seq, true);
        else if (!s->x && f->state == FEED_IDLE && !s->out.is_over && !sse_stream_is_full(&s->out))
            ask(s, i, now, f->next_seq, false);
    }
}

const struct stream_kind sse_by_position = {ask_first, answer, begun, pump};
