/* Private to fronts/sse. */
#ifndef SSE_INTERNAL_H
#define SSE_INTERNAL_H

#include "buf.h"
#include "forms.h"
#include "heap.h"
#include "sse.h"
#include "sse_stream.h"

enum { SSE_TEXT_BYTES = 256 };

/* ---- event ids (event_id.c) ------------------------------------------------------------------------------------------ */

struct place {
    uint32_t queue_id;
    uint64_t seq; /* everything up to it was sent */
};
/* Where a stream of several queues stands. As text: epoch, then "." and queue_id "-" seq for each, all in hex. */
struct event_id {
    uint64_t epoch;
    size_t count;
    struct place places[];
};
enum { EVENT_ID_EPOCH_BYTES = 16, EVENT_ID_PLACE_BYTES = 1 + 8 + 1 + 16 };
/* Each returns what it wrote: at most the number of bytes above. */
size_t sse_id_put_epoch(char *out, uint64_t epoch);
size_t sse_id_put_place(char *out, const struct place *p);
/* The parsed id, the caller's to free. NULL: it makes no sense, or has more places than `max` (*no_memory: or no memory). */
struct event_id *sse_id_parse(const char *text, size_t len, size_t max, bool *no_memory);

/* ---- events (events.c) ----------------------------------------------------------------------------------------------- */

enum event_format { EVENT_JSON, EVENT_BODY };
enum event_naming { NAMED_MESSAGE, NAMED_TOPIC, NAMED_QUEUE }; /* what an event is called */

struct event_look { /* what an event's bytes depend on, beside the message */
    uint32_t queue_id;
    const char *queue;
    uint8_t format, naming;
};

/*
 * The bytes of events, made once a turn for however many streams. `bytes` are `len` with the id of a stream of that queue
 * alone and the blank line, or `open_len` without both.
 */
struct event_bytes {
    const uint8_t *bytes;
    uint32_t len, open_len;
    bool lent; /* they stay until the turn's end; else until the next event is made */
};
struct events;
struct events *sse_events_new(struct net *net);
void sse_events_free(struct events *e);
/* false: no memory. */
bool sse_events_get(struct events *e, const struct event_look *look, uint64_t epoch, const struct stored_message *m,
                    struct event_bytes *out);
/* One with a receipt, which nobody else gets: appended to `out`, with its blank line. false: no memory. */
bool sse_event_put(struct buf *out, const struct event_look *look, const struct form_message *m);

/* ---- streams (stream.c, positions.c, consumer.c) ----------------------------------------------------------------------- */

struct stream;

struct sse {
    struct sse_options options;
    struct http *http;
    struct net *net;
    struct clients *clients;
    uint64_t (*epoch)(void *arg);
    void *epoch_arg;
    struct sse_hub *hub;
    struct events *events;
    struct buf scratch;
    TAILQ_HEAD(stream_list, stream) todo; /* looked at in the next turn */
    struct net_timer pump;
    uint64_t pumped_turn; /* of pumped_bytes: what reads have brought in it */
    uint64_t pumped_bytes;
};

enum feed_state {
    FEED_FIRST, /* the first answer is waited for: is there such a queue, and where are we in it? */
    FEED_AGAIN, /* that has to be asked for once more, at another place */
    FEED_IDLE,  /* to be asked for more */
    FEED_ASKED,
    FEED_OVER,
};

enum reset_reason { RESET_NONE, RESET_TRIMMED, RESET_BEYOND, RESET_OTHER_QUEUE, RESET_OTHER_LIFE };

struct feed { /* one queue of a stream */
    uint64_t next_seq;
    const char *queue; /* in the stream's text */
    uint32_t queue_id; /* 0: not known yet */
    uint8_t state;     /* enum feed_state */
    uint8_t reset;     /* enum reset_reason: to be told when the stream begins */
};

/* As a group's consumer: what was asked for. */
struct consumer {
    const char *group; /* in the stream's text */
    uint32_t lease_ms, max_unsettled;
    uint32_t delivered; /* since credit was last given */
    bool on_send, held;
};

/* How one kind of stream goes about it. */
struct stream_kind {
    void (*ask_first)(struct stream *s, uint32_t feed, struct now now);
    /* An answer for the feed; the stream has begun unless s->x. */
    void (*answer)(struct stream *s, uint32_t feed, const struct completion *done);
    void (*begun)(struct stream *s);                /* the head is written */
    void (*pump)(struct stream *s, struct now now); /* it was put on `todo`, and may want to ask */
};
extern const struct stream_kind sse_by_position, sse_by_group;

struct stream {
    struct client client;
    struct sse_stream out;
    struct sse *sse;
    struct http_exchange *x; /* until it begins */
    const struct stream_kind *kind;
    TAILQ_ENTRY(stream) in_todo;
    broker_filter *filter;     /* owned, with the array in it; NULL: everything */
    struct consumer *consumer; /* owned; NULL: by position */
    struct event_id *resume;   /* owned, until it begins */
    uint64_t from_ms;          /* not 0: start at this time */
    uint16_t feed_count, open_feeds, unanswered;
    bool from_end : 1, is_todo : 1, is_refused : 1;
    uint8_t format, naming;
    struct feed feeds[]; /* and behind them the text that the pointers lead to */
};

/* What the request says, as a stream that has not begun. NULL: it was refused. (params.c) */
struct stream *sse_parse(struct sse *sse, struct http_exchange *x, const struct http_request *r);
void sse_start(struct stream *s, struct http_exchange *x); /* ask for the first answers */
void sse_drop(struct stream *s);
void sse_release(struct stream *s); /* its memory alone: the broker ends */
void sse_todo(struct stream *s);    /* look at it in the next turn: the engine is not called from inside its answers */
/* The request is refused; the stream goes away in the next turn. */
void sse_refuse(struct stream *s, broker_error error, const char *text, uint32_t retry_ms);
void sse_answered(struct stream *s); /* a first answer came; after the last one the stream begins */
bool sse_deliver(struct stream *s, const struct delivery *d);
/* This queue has no more events: event "end", and if it was the last the stream ends. Only QUEUE_NOT_FOUND and
   GROUP_NOT_FOUND are of one queue alone. */
void sse_feed_over(struct stream *s, uint32_t feed, broker_error error, const char *text);
void sse_submit(struct stream *s, uint32_t feed, struct now now, struct command *c); /* token.stream: feed + 1 */
void sse_pump(void *sse, struct now now);

#endif
