/* Private to metrics/. */
#ifndef METRICS_INTERNAL_H
#define METRICS_INTERNAL_H

#include <sys/queue.h>

#include "buf.h"
#include "heap.h"
#include "metrics.h"
#include "sse_stream.h"

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

/* ---- text being written (report.c) -------------------------------------------------------------------------------------- */

struct report { /* into a buffer, until there is no memory for it */
    struct buf *to;
    bool failed;
};
void report_put(struct report *t, const char *literal);
void report_bytes(struct report *t, const void *bytes, size_t len);
__attribute__((format(printf, 2, 3))) void report_format(struct report *t, const char *format,
                                                         ...); /* up to 512 bytes */
/* Members of a JSON object; the comma before each is put where one is due. */
void report_key(struct report *t, const char *key);
void report_u64(struct report *t, const char *key, uint64_t value);
void report_bool(struct report *t, const char *key, bool value);
void report_number(struct report *t, const char *key, double value); /* one digit after the point */
void report_string(struct report *t, const char *key, const char *value, size_t len);

/* ---- a queue's figures (board.c) -------------------------------------------------------------------------------------- */

/*
 * One table: member of broker_queue_info and key in JSON, kind, Prometheus name after "brokerd_queue_", and what it says. A
 * GAUGE is a state, a COUNTER counts since the start.
 */
#define QUEUE_FIGURES(X)                                                                                               \
    X(messages, GAUGE, "messages", "Messages stored and wanted by a group (work) or retained (log).")                  \
    X(bytes, GAUGE, "bytes", "Bytes of these messages, about.")                                                        \
    X(ready, GAUGE, "ready_messages", "Messages that can be handed out now.")                                          \
    X(leased, GAUGE, "leased_messages", "Messages handed out and not settled.")                                        \
    X(scheduled, GAUGE, "scheduled_messages", "Messages that wait for their time.")                                    \
    X(dead, GAUGE, "dead_messages", "Messages in the queue's dead-letter queue.")                                      \
    X(groups, GAUGE, "groups", "Consumer groups.")                                                                     \
    X(consumers, GAUGE, "consumers", "Subscriptions and waiting leases.")                                              \
    X(published, COUNTER, "published_messages", "Messages accepted since the start.")                                  \
    X(delivered, COUNTER, "delivered_messages", "Messages handed out since the start.")                                \
    X(acked, COUNTER, "acked_messages", "Messages acked since the start.")                                             \
    X(redelivered, COUNTER, "redelivered_messages", "Messages handed out again since the start.")                      \
    X(dead_lettered, COUNTER, "dead_lettered_messages", "Messages moved to the dead letters since the start.")         \
    X(expired, COUNTER, "expired_messages", "Messages that have expired since the start.")                             \
    X(dropped, COUNTER, "dropped_messages", "Messages dropped because the queue was full, since the start.")           \
    X(duplicates, COUNTER, "duplicate_messages", "Publishes recognised as duplicates since the start.")

enum figure {
#define FIGURE_ENUM(member, kind, metric, help) FIGURE_##member,
    QUEUE_FIGURES(FIGURE_ENUM)
#undef FIGURE_ENUM
        FIGURES
};
enum figure_kind { GAUGE, COUNTER };
extern const struct figure_info {
    const char *key, *metric, *help;
    enum figure_kind kind;
} FIGURE_INFOS[FIGURES];

struct line {
    uint64_t values[FIGURES];
    uint64_t age_ms; /* of the oldest message; 0: there is none */
    double in_rate, out_rate;
    uint32_t name_at; /* in the board's names, NUL-terminated */
    bool paused;
    bool has_rates; /* there were two looks */
};
struct board { /* figures of queues, by rising names */
    struct line *lines;
    size_t count, cap;
    struct buf names;
};
void board_init(struct board *b);
void board_release(struct board *b);
void board_clear(struct board *b);
const char *board_name(const struct board *b, const struct line *l);
/* NULL: no memory. */
struct line *board_add(struct board *b, const char *name);
void board_line_fill(struct line *l, const broker_queue_info *q, struct now now); /* all but name and rates */
void board_line_json(struct report *t, const char *name, const struct line *l);

/* ---- rates (rates.c) -------------------------------------------------------------------------------------------------- */

/* Of one counter: messages a second, smoothed over a few seconds. */
struct rate {
    uint64_t count;
    double per_second;
};
void rate_look(struct rate *r, uint64_t count, uint64_t passed_ms);

struct rates; /* of queues that somebody looks at; forgotten when nobody has for a minute */
struct rates *rates_new(uint32_t max_queues);
void rates_free(struct rates *r);
/* Look at the queue's counters; fills in the line's rates. */
void rates_look(struct rates *r, const broker_queue_info *q, struct now now, struct line *l);

/* ---- asking the engine (walk.c) ----------------------------------------------------------------------------------------- */

struct walk;
struct walk_ops {
    /* Inside an answer: take what is wanted, ask nothing. The page, or the description. */
    void (*page)(struct walk *w, const broker_queue_info *queues, size_t count);
    void (*described)(struct walk *w, const struct completion *done); /* NULL: it never describes */
    /* The walk is over, in a later turn; another may begin, or the walk's owner end. more: the limit was reached before the
       last queue. */
    void (*over)(struct walk *w, bool more, broker_error error, const char *text, uint32_t retry_ms);
};
struct walk { /* in its owner's memory */
    struct client client;
    struct metrics *m;
    const struct walk_ops *ops;
    TAILQ_ENTRY(walk) in_todo;
    struct name queue;   /* to be described; the owner's. len 0: a list */
    char *prefix;        /* owned, or NULL */
    char after[256];     /* the last name that was seen */
    uint32_t left, page; /* queues wanted; asked for at once */
    uint32_t retry_ms;
    broker_error error;
    bool is_busy, is_todo, more;
    char text[256];
};
/* false: no memory. */
bool metrics_walk_list(struct walk *w, struct metrics *m, const struct walk_ops *ops, const char *prefix,
                       const char *after, uint32_t limit);
bool metrics_walk_describe(struct walk *w, struct metrics *m, const struct walk_ops *ops, struct name queue);
void metrics_walk_stop(struct walk *w); /* and forget it; nothing is called any more */
void metrics_walks_run(void *metrics, struct now now);

/* ---- the room ----------------------------------------------------------------------------------------------------------- */

struct metrics {
    struct metrics_options options;
    struct http *http;
    struct net *net;
    struct clients *clients;
    void (*now)(void *arg, struct metrics_now *out);
    void *now_arg;
    struct sse_hub *hub;
    struct rates *rates;
    TAILQ_HEAD(, walk) todo;
    struct net_timer run, tick;
    struct rate published, delivered, acked; /* the broker's */
    uint64_t looked_ms;
    bool looked;
    uint32_t gathers; /* of all queues, under way */
    TAILQ_HEAD(, watcher) watchers;
    uint32_t watcher_count;
};
/* A look at everything, with the rates kept. */
void metrics_look(struct metrics *m, struct metrics_now *now);
void metrics_broker_json(struct report *t, const struct metrics *m, const struct metrics_now *now);
/* {"queue":…,"groups":…,"bindings":…,"figures":…}. */
bool metrics_description_json(struct metrics *m, struct buf *out, const struct completion *done);

/* A parameter that says how many queues: 1..options.max_queues, which is also the default. false: refused. */
bool metrics_take_limit(struct metrics *m, struct http_exchange *x, const struct http_request *r, uint32_t *limit);
/* A NUL-terminated copy of a name in a parameter; "" if it is not there. false: refused. */
bool metrics_take_name(struct http_exchange *x, const struct http_request *r, const char *parameter, char out[256]);
void metrics_respond(struct http_exchange *x, int status, const char *type, const void *body, size_t len);

void metrics_get_stats(void *arg, struct http_exchange *x, const struct http_request *r);
void metrics_get_queue_stats(void *arg, struct http_exchange *x, const struct http_request *r);  /* ask.c */
void metrics_get_queues_stats(void *arg, struct http_exchange *x, const struct http_request *r); /* ask.c */
void metrics_get_exposition(void *arg, struct http_exchange *x, const struct http_request *r);   /* prometheus.c */
void metrics_get_watch(void *arg, struct http_exchange *x, const struct http_request *r);        /* watch.c */
void metrics_get_healthz(void *arg, struct http_exchange *x, const struct http_request *r);      /* health.c */
void metrics_get_readyz(void *arg, struct http_exchange *x, const struct http_request *r);       /* health.c */
void metrics_get_version(void *arg, struct http_exchange *x, const struct http_request *r);      /* health.c */
void metrics_watchers_tick(struct metrics *m, const struct metrics_now *now);

#endif
