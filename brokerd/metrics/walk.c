/* Questions to the engine about queues: lists, a page a turn, and descriptions. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "metrics_internal.h"

enum { PAGE = 100, WALKS_PER_TURN = 16 };

static void todo(struct walk *w)
{
    if (w->is_todo)
        return;
    w->is_todo = true;
    TAILQ_INSERT_TAIL(&w->m->todo, w, in_todo);
    net_timer_set(w->m->net, &w->m->run, net_now(w->m->net).mono);
}

static void fail(struct walk *w, broker_error error, const char *text, uint32_t retry_ms)
{
    w->error = error;
    w->retry_ms = retry_ms;
    snprintf(w->text, sizeof(w->text), "%s", text);
}

static void take_page(struct walk *w, const struct completion *done)
{
    size_t n = done->u.list.count;
    w->more = done->u.list.more;
    w->left -= n < w->left ? (uint32_t)n : w->left;
    if (n == 0) {
        w->more = false;
        return;
    }
    snprintf(w->after, sizeof(w->after), "%s", done->u.list.queues[n - 1].name);
    w->ops->page(w, done->u.list.queues, n);
}

static void complete(struct client *c, const struct completion *done)
{
    struct walk *w = container_of(c, struct walk, client);
    if (done->error == BROKER_INVALID_ARGUMENT && done->type == COMMAND_QUEUE_LIST && w->page > 1)
        w->page /= 10; /* limits.list_limit is less than we ask for */
    else if (done->error)
        fail(w, done->error, done->text, done->retry_ms);
    else if (done->type == COMMAND_QUEUE_LIST)
        take_page(w, done);
    else
        w->ops->described(w, done);
    todo(w);
}

static const struct client_ops CLIENT_OPS = {.complete = complete};

static void ask(struct walk *w, struct now now)
{
    struct command c = {.type = COMMAND_QUEUE_LIST};
    if (w->queue.len > 0) {
        c.type = COMMAND_QUEUE_DESCRIBE;
        c.queue = w->queue;
    } else {
        c.u.list.prefix = (struct name){w->prefix ? w->prefix : "", w->prefix ? strlen(w->prefix) : 0};
        c.u.list.after = (struct name){w->after, strlen(w->after)};
        c.u.list.limit = w->left < w->page ? w->left : w->page;
    }
    client_submit(w->m->clients, &w->client, now, &c);
}

static void step(struct walk *w, struct now now)
{
    w->is_todo = false;
    if (w->client.outstanding == 0 && !w->error && w->queue.len == 0 && w->more && w->left > 0) {
        ask(w, now);
        return;
    }
    client_close(w->m->clients, &w->client, now);
    w->is_busy = false;
    w->ops->over(w, w->more, w->error, w->text, w->retry_ms);
}

/* Some a turn: a page is up to a hundred queues. */
void metrics_walks_run(void *arg, struct now now)
{
    struct metrics *m = arg;
    struct walk *w;
    for (int i = 0; i < WALKS_PER_TURN && (w = TAILQ_FIRST(&m->todo)); i++) {
        TAILQ_REMOVE(&m->todo, w, in_todo);
        step(w, now);
    }
    if (!TAILQ_EMPTY(&m->todo))
        net_timer_set(m->net, &m->run, net_now(m->net).mono);
}

static bool begin(struct walk *w, struct metrics *m, const struct walk_ops *ops)
{
    w->m = m;
    w->ops = ops;
    w->error = BROKER_OK;
    w->text[0] = '\0';
    w->more = true; /* as far as we know */
    w->page = PAGE;
    w->is_busy = client_open(m->clients, &w->client, &CLIENT_OPS, &identity_anyone);
    return w->is_busy;
}

bool metrics_walk_list(struct walk *w, struct metrics *m, const struct walk_ops *ops, const char *prefix,
                       const char *after, uint32_t limit)
{
    size_t len = strlen(prefix);
    char *copy = NULL;
    if (len > 0 && !(copy = malloc(len + 1)))
        return false;
    if (copy)
        memcpy(copy, prefix, len + 1);
    free(w->prefix);
    w->prefix = copy;
    w->queue.len = 0;
    w->left = limit;
    snprintf(w->after, sizeof(w->after), "%s", after);
    if (!begin(w, m, ops))
        return false;
    ask(w, net_now(m->net));
    return true;
}

bool metrics_walk_describe(struct walk *w, struct metrics *m, const struct walk_ops *ops, struct name queue)
{
    w->queue = queue;
    if (!begin(w, m, ops))
        return false;
    ask(w, net_now(m->net));
    return true;
}

void metrics_walk_stop(struct walk *w)
{
    if (w->is_busy)
        client_close(w->m->clients, &w->client, net_now(w->m->net));
    if (w->is_todo)
        TAILQ_REMOVE(&w->m->todo, w, in_todo);
    w->is_busy = w->is_todo = false;
    free(w->prefix);
    w->prefix = NULL;
}
