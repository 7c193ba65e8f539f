/* What consumers do. */
#include <stdlib.h>
#include <string.h>
#include <wire.h>

#include "history.h"

struct name name_of(const char *text)
{
    return (struct name){text, strlen(text)};
}

/* ---- consuming ----------------------------------------------------------------------------------------------------------- */

static bool pick_group(struct history *h, uint32_t *queue, uint32_t *group)
{
    *queue = (uint32_t)rng_below(rng_of(h), h->queues);
    if (rng_percent(rng_of(h), h->use.retry / 4))
        *queue += MODEL_PLAIN; /* its dead letters */
    *group = (uint32_t)(rng_percent(rng_of(h), 50) ? 0 : rng_below(rng_of(h), MODEL_GROUPS));
    const struct model_queue *q = &model_of(h)->queues[*queue];
    return q->exists && q->groups[*group].exists;
}

static void give_credit(struct history *h, struct subscription *s, uint32_t messages, uint64_t bytes)
{
    struct command c = {.type = COMMAND_CREDIT, .token = {.conn = s->conn, .stream = s->stream}};
    c.u.credit.messages = messages;
    c.u.credit.bytes = bytes;
    if (s->credit == 0 || s->credit_bytes <= 0)
        s->turn = model_of(h)->turn + 1;
    s->credit += messages;
    s->credit_bytes += (int64_t)bytes;
    world_tell(&h->world, &c);
}

struct consuming {
    uint32_t max_unsettled;
    uint8_t priority;
};

static void subscribe_as(struct history *h, uint64_t conn, uint32_t queue, uint32_t group, uint32_t lease_ms,
                         bool settle_on_send, uint32_t credit, struct consuming how)
{
    struct model *m = model_of(h);
    struct op *op = op_new(m, COMMAND_SUBSCRIBE, queue, group);
    op->conn = conn;
    op->stream = ++h->next_stream;
    uint32_t stream = op->stream;
    struct command c = {.type = COMMAND_SUBSCRIBE,
                        .queue = name_of(m->queues[queue].name),
                        .group = name_of(m->queues[queue].groups[group].name)};
    c.u.subscribe.lease_ms = lease_ms;
    c.u.subscribe.settle_on_send = settle_on_send;
    c.u.subscribe.priority = how.priority;
    c.u.subscribe.max_unsettled = how.max_unsettled;
    world_submit(&h->world, op, &c);
    struct subscription *s = model_subscription(m, conn, stream);
    if (s && credit)
        give_credit(h, s, credit, 1u << 30);
}

void client_subscribe(struct history *h, uint64_t conn, uint32_t queue, uint32_t group, uint32_t lease_ms,
                      bool settle_on_send, uint32_t credit)
{
    subscribe_as(h, conn, queue, group, lease_ms, settle_on_send, credit, (struct consuming){0});
}

static bool subscription_is_free(struct model *m)
{
    uint32_t live = 0;
    for (uint32_t i = 0; i < MODEL_SUBSCRIPTIONS; i++)
        live += m->subscriptions[i].live;
    return live < MODEL_SUBSCRIPTIONS;
}

static void subscribe_somewhere(struct history *h)
{
    struct rng *rng = rng_of(h);
    uint32_t queue, group;
    if (!subscription_is_free(model_of(h)) || !pick_group(h, &queue, &group))
        return;
    uint32_t lease_ms = rng_percent(rng, 30) ? 0 : (uint32_t)rng_between(rng, 20, 3000);
    struct consuming how = {0};
    if (rng_percent(rng, h->use.consumers))
        how.priority = (uint8_t)rng_below(rng, 10);
    if (rng_percent(rng, h->use.consumers))
        how.max_unsettled = (uint32_t)rng_between(rng, 1, 5);
    subscribe_as(h, rng_between(rng, 1, CONNS), queue, group, lease_ms, rng_percent(rng, 10),
                 (uint32_t)rng_below(rng, 20), how);
}

static void unsubscribe(struct history *h, struct subscription *s)
{
    struct op *op = op_new(model_of(h), COMMAND_UNSUBSCRIBE, s->queue, s->group);
    op->conn = s->conn;
    op->stream = s->stream;
    struct command c = {.type = COMMAND_UNSUBSCRIBE};
    world_submit(&h->world, op, &c);
}

static void lease_somewhere(struct history *h)
{
    struct rng *rng = rng_of(h);
    uint32_t queue, group;
    if (!pick_group(h, &queue, &group))
        return;
    struct model_queue *q = &model_of(h)->queues[queue];
    struct op *op = op_new(model_of(h), COMMAND_LEASE, queue, group);
    op->conn = rng_between(rng, 1, CONNS);
    op->u.lease.lease_ms = rng_percent(rng, 30) ? 0 : (uint32_t)rng_between(rng, 20, 3000);
    op->u.lease.max_messages = (uint32_t)(rng_percent(rng, 10) ? rng_between(rng, 1, 100) : rng_between(rng, 1, 10));
    struct command c = {.type = COMMAND_LEASE, .queue = name_of(q->name), .group = name_of(q->groups[group].name)};
    c.u.lease.lease_ms = op->u.lease.lease_ms;
    c.u.lease.max_messages = op->u.lease.max_messages;
    c.u.lease.max_bytes = rng_percent(rng, 20) ? 1000 : 1u << 20;
    c.u.lease.wait_ms = rng_percent(rng, 50) ? 0 : (uint32_t)rng_below(rng, 2000);
    world_submit(&h->world, op, &c);
}

static void hold(struct history *h, enum command_type type, uint64_t conn)
{
    struct command c = {.type = type, .token = {.conn = conn}};
    model_of(h)->conn_held[conn] = type == COMMAND_HOLD;
    world_tell(&h->world, &c);
}

void client_disconnect(struct history *h, uint64_t conn)
{
    struct command c = {.type = COMMAND_CLOSE, .token = {.conn = conn}};
    model_trace(model_of(h), "close conn %llu", (unsigned long long)conn);
    model_conn_closed(model_of(h), conn);
    world_tell(&h->world, &c);
}

void client_consume(struct history *h)
{
    struct rng *rng = rng_of(h);
    struct subscription *s = &model_of(h)->subscriptions[rng_below(rng, MODEL_SUBSCRIPTIONS)];
    uint64_t conn = rng_between(rng, 1, CONNS);
    uint64_t what = rng_below(rng, 100);
    if (model_of(h)->conn_held[conn] && rng_percent(rng, 50))
        hold(h, COMMAND_UNHOLD, conn);
    else if (what < 25)
        subscribe_somewhere(h);
    else if (what < 60 && s->live)
        give_credit(h, s, (uint32_t)rng_between(rng, 1, 30), rng_percent(rng, 20) ? 100 : 1u << 20);
    else if (what < 65 && s->live)
        unsubscribe(h, s);
    else if (what < 68)
        client_disconnect(h, conn);
    else if (what < 70)
        hold(h, COMMAND_HOLD, conn);
    else if (what < 73)
        h->world.output_room = (uint32_t)rng_between(rng, 1, 5);
    else
        lease_somewhere(h);
}

/* ---- settling ------------------------------------------------------------------------------------------------------------- */

void client_settle_held(struct history *h, enum command_type type, uint64_t newest, uint32_t count,
                        struct settle_how how)
{
    struct model *m = model_of(h);
    struct receipt_range ranges[OP_RECEIPTS];
    if (newest == 0)
        return;
    struct op *op = op_new(m, type, m->held[(newest - 1) % MODEL_HELD].queue, 0);
    size_t n = 0;
    for (uint64_t at = newest > count ? newest - count + 1 : 1; at <= newest; at++) {
        if (how.dead_letter && m->held[(at - 1) % MODEL_HELD].queue >= MODEL_PLAIN)
            continue; /* queues for the dead letters of dead letters are beyond this model */
        const struct op_receipt *r = settle_add(m, op, &m->held[(at - 1) % MODEL_HELD]);
        if (r && n > 0 && ranges[n - 1].first + ranges[n - 1].count == r->receipt)
            ranges[n - 1].count++;
        else if (r)
            ranges[n++] = (struct receipt_range){r->receipt, 1};
    }
    if (n == 0) {
        op_forget(m, op);
        return;
    }
    op->u.settle.ms = how.ms;
    op->u.settle.dead_letter = how.dead_letter;
    if (type != COMMAND_ACK)
        model_trace(m, "with %u ms%s", how.ms, how.dead_letter ? ", to the dead letters" : "");
    struct command c = {.type = type};
    c.u.settle.ranges = ranges;
    c.u.settle.count = n;
    c.u.settle.delay_ms = c.u.settle.lease_ms = how.ms;
    c.u.settle.dead_letter = how.dead_letter;
    world_submit(&h->world, op, &c);
}

void client_settle(struct history *h)
{
    struct rng *rng = rng_of(h);
    const struct model *m = model_of(h);
    uint64_t kept = m->held_count < MODEL_HELD - OP_RECEIPTS ? m->held_count : MODEL_HELD - OP_RECEIPTS;
    if (kept == 0)
        return;
    /* Mostly what came lately; at times something old, whose lease is over or which was settled long ago. */
    uint64_t back = rng_below(rng, rng_percent(rng, 70) && kept > 20 ? 20 : kept);
    uint32_t count = (uint32_t)(rng_percent(rng, 10) ? rng_between(rng, 1, OP_RECEIPTS) : rng_between(rng, 1, 6));
    uint64_t what = rng_below(rng, 100);
    enum command_type type = what < 65 ? COMMAND_ACK : what < 88 ? COMMAND_NACK : COMMAND_EXTEND;
    uint32_t ms = type == COMMAND_NACK && rng_percent(rng, 50) ? 0 : (uint32_t)rng_between(rng, 10, 5000);
    struct settle_how how = {.ms = ms};
    if (type == COMMAND_NACK && rng_percent(rng, h->use.reject))
        how = (struct settle_how){.dead_letter = true};
    client_settle_held(h, type, m->held_count - back, count, how);
}

void client_drain(struct history *h)
{
    struct model *m = model_of(h);
    struct world *w = &h->world;
    for (uint64_t conn = 1; conn <= CONNS; conn++)
        client_disconnect(h, conn);
    w->output_room = 0;
    world_pass_time(w, 2000); /* what is under way is answered first, at the latest by the interval's sync */
    if (!world_settle(w))
        model_fail(m, "the store does not come to rest before it is drained");
    for (uint32_t i = 0; i < MODEL_QUEUES; i++) {
        struct command c = {0};
        if (m->queues[i].exists && m->queues[i].paused && m->queues[i].control == 0)
            client_control(h, COMMAND_QUEUE_RESUME, i, 0, &c);
    }
    for (uint32_t i = 0; i < 2; i++) { /* leases end; then what came back has waited */
        world_pass_time(w, 60000);
        if (!world_settle(w))
            model_fail(m, "the store does not come to rest before it is drained");
    }
    for (uint32_t i = 0; i < MODEL_QUEUES; i++) {
        for (uint32_t g = 0; m->queues[i].exists && g < MODEL_GROUPS; g++) {
            if (!m->queues[i].groups[g].exists)
                continue;
            client_subscribe(h, CONN_DRAIN, i, g, 0, true, 1u << 20);
            if (!world_settle(w))
                model_fail(m, "draining finds no end");
            client_disconnect(h, CONN_DRAIN);
        }
    }
    if (world_is_dying(w))
        return;
    model_check_drained(m);
    world_observe_drained(w);
    struct engine_stats stats;
    engine_get_stats(w->engine, &stats);
    if (stats.leased != 0 || stats.subscriptions != 0)
        model_fail(m, "%llu leases and %llu subscriptions are left over", (unsigned long long)stats.leased,
                   (unsigned long long)stats.subscriptions);
}
