/*
 * The statistics stream: an event "stats" each interval, with everything first and then with what has changed; and an event
 * "queue" whenever the description of one queue has.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "forms.h"
#include "metrics_internal.h"

enum { WATCHERS_MAX = 200 };

struct watcher {
    struct sse_stream out;
    struct walk walk;
    struct metrics *m;
    TAILQ_ENTRY(watcher) all;
    struct board told, fresh;                 /* what the client knows; what the walk has brought so far */
    struct buf event, described, description; /* the event being made; what was told of the queue; what is there now */
    char prefix[256], queue[256];
    uint32_t limit;
    bool is_first, is_asking;
};

static struct watcher *watcher_of(struct walk *w)
{
    return container_of(w, struct watcher, walk);
}

static void watcher_free(struct watcher *w)
{
    metrics_walk_stop(&w->walk);
    board_release(&w->told);
    board_release(&w->fresh);
    buf_release(&w->event);
    buf_release(&w->described);
    buf_release(&w->description);
    free(w);
}

/* ---- what has changed ----------------------------------------------------------------------------------------------- */

/* Ages grow all the time: they are told with something else, or when they have grown noticeably. */
static bool has_changed(const struct line *told, const struct line *now)
{
    uint64_t grown = now->age_ms > told->age_ms ? now->age_ms - told->age_ms : told->age_ms - now->age_ms;
    return memcmp(told->values, now->values, sizeof(told->values)) != 0 || told->paused != now->paused ||
           told->has_rates != now->has_rates || told->in_rate != now->in_rate || told->out_rate != now->out_rate ||
           grown > told->age_ms / 16 + 1000;
}

/* Both are sorted by name. Of a line that is not told, what was told is kept, so that small changes add up. */
static void put_changes(struct watcher *w, struct report *t, struct buf *removed)
{
    struct report gone = {.to = removed};
    size_t i = 0, j = 0;
    while (i < w->told.count || j < w->fresh.count) {
        const struct line *old = i < w->told.count ? &w->told.lines[i] : NULL;
        struct line *line = j < w->fresh.count ? &w->fresh.lines[j] : NULL;
        int order = !old ? 1 : !line ? -1 : strcmp(board_name(&w->told, old), board_name(&w->fresh, line));
        if (order < 0) {
            report_put(&gone, removed->len ? "," : "");
            gone.failed |= !form_json_string(removed, board_name(&w->told, old), strlen(board_name(&w->told, old)));
            i++;
            continue;
        }
        if (order > 0 || has_changed(old, line)) {
            report_put(t, t->to->bytes[t->to->len - 1] == '[' ? "" : ",");
            board_line_json(t, board_name(&w->fresh, line), line);
        } else {
            uint32_t name_at = line->name_at;
            *line = *old;
            line->name_at = name_at;
        }
        i += order == 0;
        j++;
    }
    t->failed |= gone.failed;
}

/* `fresh` becomes what is told. */
static bool put_queues(struct watcher *w, bool more)
{
    struct buf removed;
    struct report t = {.to = &w->event};
    buf_init(&removed, 0);
    report_key(&t, "queues");
    report_put(&t, "[");
    put_changes(w, &t, &removed);
    report_put(&t, "]");
    report_key(&t, "removed");
    report_put(&t, "[");
    report_bytes(&t, removed.bytes, removed.len);
    report_put(&t, "]");
    if (!more)
        report_u64(&t, "total", w->fresh.count);
    report_bool(&t, "more", more);
    report_bool(&t, "full", w->is_first);
    report_put(&t, "}");
    buf_release(&removed);
    struct board told = w->told;
    w->told = w->fresh;
    w->fresh = told;
    w->is_first = false;
    return !t.failed;
}

/* ---- asking --------------------------------------------------------------------------------------------------------- */

static void page(struct walk *walk, const broker_queue_info *queues, size_t count)
{
    struct watcher *w = watcher_of(walk);
    struct now now = net_now(w->m->net);
    for (size_t i = 0; i < count; i++) {
        struct line *l = board_add(&w->fresh, queues[i].name);
        if (!l) {
            walk->error = BROKER_NO_MEMORY;
            return;
        }
        board_line_fill(l, &queues[i], now);
        rates_look(w->m->rates, &queues[i], now, l);
    }
}

static void described(struct walk *walk, const struct completion *done)
{
    struct watcher *w = watcher_of(walk);
    buf_clear(&w->description);
    if (!metrics_description_json(w->m, &w->description, done))
        walk->error = BROKER_NO_MEMORY;
}

static void send_description(struct watcher *w)
{
    struct buf before = w->described;
    bool same = before.len == w->description.len &&
                (before.len == 0 || memcmp(before.bytes, w->description.bytes, before.len) == 0);
    if (!same)
        sse_stream_event(&w->out, "queue", NULL, w->description.bytes, w->description.len);
    w->described = w->description;
    w->description = before;
}

static const struct walk_ops WALK_OPS;

/* The list, then the queue; an interval in which something could not be had is left out. */
static void over(struct walk *walk, bool more, broker_error error, const char *text, uint32_t retry_ms)
{
    struct watcher *w = watcher_of(walk);
    bool was_list = walk->queue.len == 0;
    w->is_asking = false;
    if (w->out.is_over)
        return;
    if (error && (was_list || error != BROKER_QUEUE_NOT_FOUND)) {
        sse_stream_say_end(&w->out, "failed", *text ? text : broker_strerror(error), NULL);
        sse_stream_finish(&w->out);
        return;
    }
    if (!was_list) {
        if (error)
            buf_clear(&w->described); /* gone: should it come back, it is told */
        else
            send_description(w);
        return;
    }
    if (put_queues(w, more))
        sse_stream_event(&w->out, "stats", NULL, w->event.bytes, w->event.len);
    else
        w->is_first = true; /* no memory: everything again, the next time */
    struct name queue = {w->queue, strlen(w->queue)};
    if (queue.len > 0)
        w->is_asking = metrics_walk_describe(&w->walk, w->m, &WALK_OPS, queue);
}

static const struct walk_ops WALK_OPS = {.page = page, .described = described, .over = over};

static void watcher_ask(struct watcher *w, const struct metrics_now *now)
{
    struct report t = {.to = &w->event};
    if (w->is_asking || w->out.is_over || sse_stream_is_full(&w->out))
        return;
    if (w->is_first)
        board_clear(&w->told);
    board_clear(&w->fresh);
    buf_clear(&w->event);
    report_put(&t, "{\"broker\":");
    metrics_broker_json(&t, w->m, now);
    w->is_asking = !t.failed && metrics_walk_list(&w->walk, w->m, &WALK_OPS, w->prefix, "", w->limit);
}

void metrics_watchers_tick(struct metrics *m, const struct metrics_now *now)
{
    struct watcher *w;
    TAILQ_FOREACH(w, &m->watchers, all)
    watcher_ask(w, now);
}

/* ---- the stream ----------------------------------------------------------------------------------------------------- */

static void closed(struct sse_stream *out)
{
    struct watcher *w = container_of(out, struct watcher, out);
    TAILQ_REMOVE(&w->m->watchers, w, all);
    w->m->watcher_count--;
    watcher_free(w);
}

static const struct sse_stream_ops OUT_OPS = {.closed = closed};

void metrics_get_watch(void *arg, struct http_exchange *x, const struct http_request *r)
{
    struct metrics *m = arg;
    struct metrics_now now;
    if (m->watcher_count >= WATCHERS_MAX) {
        http_refuse(x, BROKER_LIMIT_REACHED, "too many statistics streams are open; try again later", 5000);
        return;
    }
    struct watcher *w = calloc(1, sizeof(*w));
    if (!w) {
        http_refuse(x, BROKER_NO_MEMORY, "no memory for another statistics stream; try again", 1000);
        return;
    }
    w->m = m;
    w->is_first = true;
    board_init(&w->told);
    board_init(&w->fresh);
    buf_init(&w->event, 0);
    buf_init(&w->described, 0);
    buf_init(&w->description, 0);
    bool good = metrics_take_name(x, r, "queues", w->prefix) && metrics_take_name(x, r, "queue", w->queue) &&
                metrics_take_limit(m, x, r, &w->limit);
    if (!good || !sse_stream_begin(&w->out, m->hub, &OUT_OPS, x, "statistics of the broker")) {
        watcher_free(w);
        return;
    }
    TAILQ_INSERT_TAIL(&m->watchers, w, all);
    m->watcher_count++;
    metrics_look(m, &now);
    watcher_ask(w, &now);
}
