/* Clients that read queues by position: what polling and event streams do. */
#include "history.h"

void client_read_with(struct history *h, uint64_t conn, uint32_t queue, uint64_t from, uint32_t wait_ms)
{
    struct op *op = op_new(model_of(h), COMMAND_READ, queue, 0);
    struct command c = {.type = COMMAND_READ, .queue = name_of(model_of(h)->queues[queue].name)};
    op->conn = conn;
    op->u.read.from = c.u.read.from_seq = from;
    op->u.read.max_messages = c.u.read.max_messages = 1024;
    op->u.read.wait_ms = c.u.read.wait_ms = wait_ms;
    world_submit(&h->world, op, &c);
}

/* Mostly on from where the last one ended. */
static void some_start(struct history *h, const struct model_queue *q, struct op *op, struct command *c)
{
    struct rng *rng = rng_of(h);
    uint64_t what = rng_below(rng, 100);
    if (what < 15)
        op->u.read.from_end = true;
    else if (what < 25 && q->count)
        op->u.read.from_ms = q->messages[rng_below(rng, q->count)].time_ms + rng_below(rng, 3);
    else if (what < 45)
        op->u.read.from = rng_below(rng, q->count + 3);
    else
        op->u.read.from = q->read_next;
    c->u.read.from_end = op->u.read.from_end;
    c->u.read.from_ms = op->u.read.from_ms;
    c->u.read.from_seq = op->u.read.from;
}

void client_read(struct history *h)
{
    struct rng *rng = rng_of(h);
    uint32_t queue = (uint32_t)rng_below(rng, h->queues);
    if (rng_percent(rng, h->use.retry / 4))
        queue += MODEL_PLAIN;
    const struct model_queue *q = &model_of(h)->queues[queue];
    if (!q->exists)
        return;
    struct op *op = op_new(model_of(h), COMMAND_READ, queue, 0);
    struct command c = {.type = COMMAND_READ, .queue = name_of(q->name)};
    broker_header header;
    op->conn = rng_between(rng, 1, CONNS);
    some_start(h, q, op, &c);
    if (rng_percent(rng, h->use.filters ? 50 : 10))
        op->u.read.choice = some_choice(rng);
    op->u.read.max_messages = (uint32_t)(rng_percent(rng, 50) ? rng_between(rng, 1, 5) : 1024);
    op->u.read.wait_ms = rng_percent(rng, 30)   ? 0
                         : rng_percent(rng, 30) ? READ_WAIT_FOREVER
                                                : (uint32_t)rng_between(rng, 1, 3000);
    c.u.read.max_messages = op->u.read.max_messages;
    c.u.read.max_bytes = rng_percent(rng, 20) ? 1000 : 1u << 20;
    c.u.read.wait_ms = op->u.read.wait_ms;
    filter_of(&op->u.read.choice, &c.u.read.filter, &header);
    model_trace(model_of(h), "read from %llu, %llu ms%s, at most %u, for %u ms", (unsigned long long)op->u.read.from,
                (unsigned long long)op->u.read.from_ms, op->u.read.from_end ? ", the end" : "", op->u.read.max_messages,
                op->u.read.wait_ms);
    world_submit(&h->world, op, &c);
}
