/* Requests for the figures of queues: answered when the engine has told all of them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control.h"
#include "forms.h"
#include "metrics_internal.h"

struct question {
    struct walk walk;
    struct http_exchange *x;
    struct buf out;
    struct report text;
    char queue[256];
};

static void question_free(struct question *q)
{
    metrics_walk_stop(&q->walk);
    buf_release(&q->out);
    free(q);
}

static void gone(void *owner)
{
    question_free(owner);
}

static const struct http_exchange_ops EXCHANGE_OPS = {.gone = gone};

static struct question *question_of(struct walk *w)
{
    return container_of(w, struct question, walk);
}

static void page(struct walk *w, const broker_queue_info *queues, size_t count)
{
    struct question *q = question_of(w);
    struct now now = net_now(w->m->net);
    for (size_t i = 0; i < count; i++) {
        struct line l = {0};
        board_line_fill(&l, &queues[i], now);
        rates_look(w->m->rates, &queues[i], now, &l);
        if (q->out.bytes[q->out.len - 1] != '[')
            report_put(&q->text, ",");
        board_line_json(&q->text, queues[i].name, &l);
    }
}

static int sbuffer_write(void *data, const char *bytes, size_t n)
{
    return msgpack_sbuffer_write(data, bytes, n);
}

/* The maps of the native protocol, as JSON. */
static bool put_maps(struct buf *out, const struct completion *done)
{
    msgpack_sbuffer packed;
    msgpack_packer pk;
    msgpack_unpacked map;
    size_t at = 0;
    msgpack_sbuffer_init(&packed);
    msgpack_unpacked_init(&map);
    msgpack_packer_init(&pk, &packed, sbuffer_write);
    bool good = control_answer(&pk, done) &&
                msgpack_unpack_next(&map, packed.data, packed.size, &at) == MSGPACK_UNPACK_SUCCESS &&
                form_msgpack_to_json(out, &map.data);
    msgpack_unpacked_destroy(&map);
    msgpack_sbuffer_destroy(&packed);
    return good;
}

bool metrics_description_json(struct metrics *m, struct buf *out, const struct completion *done)
{
    struct report t = {.to = out};
    struct line l = {0};
    struct now now = net_now(m->net);
    const broker_queue_info *q = done->u.describe.queue;
    if (!put_maps(out, done) || out->bytes[out->len - 1] != '}')
        return false;
    out->len--; /* the brace: one member more */
    board_line_fill(&l, q, now);
    rates_look(m->rates, q, now, &l);
    report_key(&t, "figures");
    board_line_json(&t, q->name, &l);
    report_put(&t, "}");
    return !t.failed;
}

static void described(struct walk *w, const struct completion *done)
{
    struct question *q = question_of(w);
    q->text.failed |= !metrics_description_json(w->m, &q->out, done);
}

static void over(struct walk *w, bool more, broker_error error, const char *text, uint32_t retry_ms)
{
    struct question *q = question_of(w);
    struct http_exchange *x = q->x;
    if (!error && w->queue.len == 0) {
        report_put(&q->text, "]");
        report_bool(&q->text, "more", more);
        report_put(&q->text, "}");
    }
    report_put(&q->text, "\n");
    if (error)
        http_refuse(x, error, text, retry_ms);
    else if (q->text.failed)
        http_refuse(x, BROKER_NO_MEMORY, "no memory for the answer; try again", 1000);
    else
        metrics_respond(x, 200, "application/json", q->out.bytes, q->out.len);
    question_free(q);
}

static const struct walk_ops WALK_OPS = {.page = page, .described = described, .over = over};

static struct question *question_new(struct http_exchange *x)
{
    struct question *q = calloc(1, sizeof(*q));
    if (!q) {
        http_refuse(x, BROKER_NO_MEMORY, "no memory for the answer; try again", 1000);
        return NULL;
    }
    q->x = x;
    buf_init(&q->out, 0);
    q->text.to = &q->out;
    return q;
}

static void question_begun(struct question *q, bool good)
{
    if (good) {
        http_keep(q->x, &EXCHANGE_OPS, q);
        return;
    }
    http_refuse(q->x, BROKER_NO_MEMORY, "no memory to ask for it; try again", 1000);
    question_free(q);
}

void metrics_get_queues_stats(void *arg, struct http_exchange *x, const struct http_request *r)
{
    struct metrics *m = arg;
    char prefix[256], after[256];
    uint32_t limit;
    if (!metrics_take_name(x, r, "prefix", prefix) || !metrics_take_name(x, r, "after", after) ||
        !metrics_take_limit(m, x, r, &limit))
        return;
    struct question *q = question_new(x);
    if (!q)
        return;
    report_put(&q->text, "{\"queues\":[");
    question_begun(q, !q->text.failed && metrics_walk_list(&q->walk, m, &WALK_OPS, prefix, after, limit));
}

void metrics_get_queue_stats(void *arg, struct http_exchange *x, const struct http_request *r)
{
    struct metrics *m = arg;
    struct question *q = question_new(x);
    if (!q)
        return;
    if (r->params[0].len >= sizeof(q->queue)) {
        http_refuse(x, BROKER_INVALID_ARGUMENT, "a queue's name has at most 255 bytes", 0);
        question_free(q);
        return;
    }
    memcpy(q->queue, r->params[0].bytes, r->params[0].len);
    question_begun(q, metrics_walk_describe(&q->walk, m, &WALK_OPS, (struct name){q->queue, r->params[0].len}));
}
