#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <wire.h>

#include "history.h"

#define CONNS      3u
#define CONN_DRAIN 7u

static struct rng *rng_of(struct history *h)
{
    return &h->world.rng;
}

static struct model *model_of(struct history *h)
{
    return &h->world.model;
}

static struct name name_of(const char *text)
{
    return (struct name){text, strlen(text)};
}

/* ---- publishing --------------------------------------------------------------------------------------------------------- */

static uint8_t scratch[80 << 10];
static const uint8_t one_header[] = {0x81, 0xa1, 'n', 0xa1, 'v'}; /* msgpack {"n": "v"} */

static void spec_of(const struct op_record *r, struct record_spec *spec)
{
    message_bytes(r->publish, scratch, r->body_len);
    *spec = (struct record_spec){.body = scratch, .body_len = r->body_len};
    if (r->publish % 3 == 0) {
        spec->headers = one_header;
        spec->headers_len = sizeof(one_header);
    }
    if (r->publish % 4 == 0) {
        spec->key = "some key";
        spec->key_len = 5 + r->publish % 3;
    }
    spec->producer = r->producer;
    spec->number = r->number;
}

static void send_publish(struct history *h, struct op *op)
{
    struct model_queue *q = &model_of(h)->queues[op->queue];
    struct record_spec spec;
    size_t len = 0;
    for (uint32_t i = 0; i < op->count; i++) {
        spec_of(&op->u.records[i], &spec);
        len += record_spec_bytes(&spec);
    }
    op->bytes = malloc(len);
    if (!op->bytes)
        abort();
    for (uint32_t i = 0; i < op->count; i++) {
        spec_of(&op->u.records[i], &spec);
        op->u.records[i].offset = (uint32_t)op->len;
        record_spec_put(op->bytes + op->len, &spec);
        op->len += record_spec_bytes(&spec);
    }
    struct command c = {.type = COMMAND_PUBLISH, .queue = name_of(q->name)};
    c.u.publish.records = op->bytes;
    c.u.publish.len = op->len;
    c.u.publish.sync = op->sync;
    world_submit(&h->world, op, &c);
}

void client_publish_to(struct history *h, uint32_t queue, uint32_t count, uint32_t body_len, broker_sync sync)
{
    struct op *op = op_new(model_of(h), COMMAND_PUBLISH, queue, 0);
    op->count = count;
    op->sync = sync;
    for (uint32_t i = 0; i < count; i++)
        op->u.records[i] = (struct op_record){.publish = ++h->next_publish, .body_len = body_len};
    send_publish(h, op);
}

static uint32_t body_len_of(struct history *h)
{
    struct rng *rng = rng_of(h);
    if (rng_percent(rng, h->large_percent))
        return (uint32_t)(rng_percent(rng, 3) ? BODY_TOO_LARGE : rng_below(rng, 20000));
    return (uint32_t)(rng_percent(rng, 20) ? rng_below(rng, 3000) : rng_below(rng, 200));
}

/* The connection broke before the confirm came: the same numbers again, stored or not, while the first are on their way. */
static void producer_resend(struct history *h, struct producer *p)
{
    struct rng *rng = rng_of(h);
    struct model_queue *q = &model_of(h)->queues[p->queue];
    uint64_t kept = p->recent_count < PRODUCER_RECENT ? p->recent_count : PRODUCER_RECENT;
    if (kept == 0 || p->incarnation != q->incarnation || !q->exists || p->retry_count != 0)
        return;
    uint64_t at = p->recent_count - rng_between(rng, 1, kept);
    struct op *op = op_new(model_of(h), COMMAND_PUBLISH, p->queue, 0);
    op->sync = p->sync;
    for (uint64_t n = rng_between(rng, 1, 6); n > 0 && at < p->recent_count; n--, at++)
        op->u.records[op->count++] = p->recent[at % PRODUCER_RECENT];
    send_publish(h, op);
}

static void producer_publish(struct history *h, struct producer *p)
{
    struct rng *rng = rng_of(h);
    struct model_queue *q = &model_of(h)->queues[p->queue];
    if (p->incarnation != q->incarnation) { /* another queue by now: what was meant for the old one is pointless */
        p->incarnation = q->incarnation;
        p->retry_count = 0;
        p->recent_count = 0;
    }
    if (!q->exists)
        return;
    struct op *op = op_new(model_of(h), COMMAND_PUBLISH, p->queue, 0);
    op->sync = p->sync;
    while (op->count < OP_RECORDS && op->count < p->retry_count) {
        op->u.records[op->count] = p->retries[op->count];
        op->count++;
    }
    p->retry_count -= op->count;
    memmove(p->retries, p->retries + op->count, p->retry_count * sizeof(p->retries[0]));
    if (p->retry_count == 0) {
        for (uint64_t n = rng_between(rng, 1, 4); n > 0 && op->count < OP_RECORDS; n--)
            op->u.records[op->count++] = (struct op_record){.publish = ++h->next_publish,
                                                            .producer = p->id,
                                                            .number = p->next_number++,
                                                            .body_len = body_len_of(h)};
    }
    for (uint32_t i = 0; i < op->count; i++)
        p->recent[p->recent_count++ % PRODUCER_RECENT] = op->u.records[i];
    send_publish(h, op);
}

void client_remember_unanswered(struct history *h)
{
    struct model *m = model_of(h);
    for (uint32_t i = m->first_open; i < m->op_count; i++) {
        const struct op *op = m->ops[i];
        if (!op || op->type != COMMAND_PUBLISH || op->u.records[0].number == 0)
            continue;
        struct producer *p = NULL;
        for (uint32_t k = 0; k < PRODUCERS; k++) {
            if (h->producers[k].id == op->u.records[0].producer)
                p = &h->producers[k];
        }
        for (uint32_t k = 0; p && k < op->count && p->retry_count < PRODUCER_RETRIES; k++) {
            struct op_record *r = &p->retries[p->retry_count++];
            *r = op->u.records[k];
            r->seq = r->index = 0;
            r->retry = true;
        }
    }
}

void client_publish(struct history *h)
{
    struct rng *rng = rng_of(h);
    if (rng_percent(rng, 10)) {
        producer_resend(h, &h->producers[rng_below(rng, PRODUCERS)]);
        return;
    }
    if (rng_percent(rng, 60)) {
        producer_publish(h, &h->producers[rng_below(rng, PRODUCERS)]);
        return;
    }
    uint32_t queue = (uint32_t)rng_below(rng, h->queues);
    if (!model_of(h)->queues[queue].exists)
        return;
    struct op *op = op_new(model_of(h), COMMAND_PUBLISH, queue, 0);
    op->sync = rng_percent(rng, 70) ? BROKER_SYNC_DEFAULT : (broker_sync)rng_between(rng, 1, 3);
    for (uint64_t n = rng_between(rng, 1, 5); n > 0; n--)
        op->u.records[op->count++] = (struct op_record){.publish = ++h->next_publish, .body_len = body_len_of(h)};
    send_publish(h, op);
}

/* ---- consuming ----------------------------------------------------------------------------------------------------------- */

static bool pick_group(struct history *h, uint32_t *queue, uint32_t *group)
{
    *queue = (uint32_t)rng_below(rng_of(h), h->queues);
    *group = (uint32_t)(rng_percent(rng_of(h), 50) ? 0 : rng_below(rng_of(h), MODEL_GROUPS));
    const struct model_queue *q = &model_of(h)->queues[*queue];
    return q->exists && q->groups[*group].exists;
}

static void give_credit(struct history *h, struct subscription *s, uint32_t messages, uint64_t bytes)
{
    struct command c = {.type = COMMAND_CREDIT, .token = {.conn = s->conn, .stream = s->stream}};
    c.u.credit.messages = messages;
    c.u.credit.bytes = bytes;
    s->credit += messages;
    world_tell(&h->world, &c);
}

void client_subscribe(struct history *h, uint64_t conn, uint32_t queue, uint32_t group, uint32_t lease_ms,
                      bool settle_on_send, uint32_t credit)
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
    world_submit(&h->world, op, &c);
    struct subscription *s = model_subscription(m, conn, stream);
    if (s && credit)
        give_credit(h, s, credit, 1u << 30);
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
    client_subscribe(h, rng_between(rng, 1, CONNS), queue, group, lease_ms, rng_percent(rng, 10),
                     (uint32_t)rng_below(rng, 20));
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

void client_settle_held(struct history *h, enum command_type type, uint64_t newest, uint32_t count, uint32_t ms)
{
    struct model *m = model_of(h);
    struct receipt_range ranges[OP_RECEIPTS];
    if (newest == 0)
        return;
    struct op *op = op_new(m, type, m->held[(newest - 1) % MODEL_HELD].queue, 0);
    size_t n = 0;
    for (uint64_t at = newest > count ? newest - count + 1 : 1; at <= newest; at++) {
        const struct op_receipt *r = settle_add(m, op, &m->held[(at - 1) % MODEL_HELD]);
        if (r && n > 0 && ranges[n - 1].first + ranges[n - 1].count == r->receipt)
            ranges[n - 1].count++;
        else if (r)
            ranges[n++] = (struct receipt_range){r->receipt, 1};
    }
    op->u.settle.due_ms = type == COMMAND_EXTEND ? ms : ms ? m->now.wall.ms + ms : 0;
    struct command c = {.type = type};
    c.u.settle.ranges = ranges;
    c.u.settle.count = n;
    c.u.settle.delay_ms = c.u.settle.lease_ms = ms;
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
    client_settle_held(h, type, m->held_count - back, count, ms);
}

/* ---- administering --------------------------------------------------------------------------------------------------------- */

void client_control(struct history *h, enum command_type type, uint32_t queue, uint32_t group, struct command *c)
{
    struct model_queue *q = &model_of(h)->queues[queue];
    struct op *op = op_new(model_of(h), type, queue, group);
    c->type = type;
    c->queue = name_of(q->name);
    c->group = name_of(q->groups[group].name);
    world_submit(&h->world, op, c);
}

void client_create_queue(struct history *h, uint32_t queue, const broker_queue_settings *settings)
{
    struct command c = {0};
    c.u.queue.settings = settings;
    client_control(h, COMMAND_QUEUE_CREATE, queue, 0, &c);
}

static broker_queue_settings some_settings(struct rng *rng)
{
    broker_queue_settings s = {.size = sizeof(s)};
    s.set = BROKER_SET_SYNC | BROKER_SET_LEASE_MS | BROKER_SET_RETENTION;
    s.sync = rng_percent(rng, 65) ? BROKER_SYNC_ALWAYS : (broker_sync)rng_between(rng, 2, 3);
    s.lease_ms = (uint32_t)rng_between(rng, 50, 5000);
    s.retention = rng_percent(rng, 70) ? BROKER_RETENTION_WORK : BROKER_RETENTION_LOG;
    if (s.retention == BROKER_RETENTION_LOG && rng_percent(rng, 60)) {
        s.set |= BROKER_SET_LOG_MAX_MESSAGES;
        s.log_max_messages = rng_between(rng, 5, 100);
    }
    if (s.retention == BROKER_RETENTION_LOG && rng_percent(rng, 20)) {
        s.set |= BROKER_SET_LOG_MAX_BYTES;
        s.log_max_bytes = rng_between(rng, 1000, 50000);
    }
    if (s.retention == BROKER_RETENTION_LOG && rng_percent(rng, 20)) {
        s.set |= BROKER_SET_LOG_MAX_AGE_MS;
        s.log_max_age_ms = rng_between(rng, 1000, 60000);
    }
    return s;
}

static void administer_group(struct history *h, uint32_t queue, enum command_type type)
{
    struct rng *rng = rng_of(h);
    const struct model_queue *q = &model_of(h)->queues[queue];
    uint32_t group = (uint32_t)rng_below(rng, MODEL_GROUPS);
    struct command c = {0};
    c.u.group.start = (broker_start)rng_below(rng, 4);
    if (c.u.group.start == BROKER_START_SEQ)
        c.u.group.value = 1 + rng_below(rng, q->count + 3);
    else if (c.u.group.start == BROKER_START_TIME)
        c.u.group.value = q->count ? q->messages[rng_below(rng, q->count)].time_ms : 5;
    client_control(h, type, queue, group, &c);
}

static void administer_queue(struct history *h, uint32_t queue)
{
    struct rng *rng = rng_of(h);
    struct command c = {0};
    broker_queue_settings settings = some_settings(rng);
    uint64_t what = rng_below(rng, 100);
    c.u.queue.settings = &settings;
    if (what < 12)
        client_control(h, COMMAND_QUEUE_ALTER, queue, 0, &c);
    else if (what < 18)
        client_control(h, COMMAND_QUEUE_DELETE, queue, 0, &c);
    else if (what < 24)
        client_control(h, COMMAND_QUEUE_PAUSE, queue, 0, &c);
    else if (what < 42)
        client_control(h, COMMAND_QUEUE_RESUME, queue, 0, &c);
    else if (what < 50)
        client_control(h, COMMAND_QUEUE_PURGE, queue, 0, &c);
    else if (what < 75)
        administer_group(h, queue, COMMAND_GROUP_CREATE);
    else if (what < 80)
        administer_group(h, queue, COMMAND_GROUP_DELETE);
    else
        administer_group(h, queue, COMMAND_GROUP_SEEK);
}

void client_administer(struct history *h)
{
    struct rng *rng = rng_of(h);
    uint32_t queue = (uint32_t)rng_below(rng, h->queues);
    const struct model_queue *q = &model_of(h)->queues[queue];
    if (q->control != 0) /* one at a time: else nobody could say what must be there after a crash */
        return;
    if (!q->exists) {
        broker_queue_settings settings = some_settings(rng);
        client_create_queue(h, queue, &settings);
        return;
    }
    if (rng_percent(rng, 10)) {
        struct op *op = op_new(model_of(h), COMMAND_BARRIER, queue, 0);
        struct command c = {.type = COMMAND_BARRIER};
        world_submit(&h->world, op, &c);
        return;
    }
    administer_queue(h, queue);
}

void client_drain(struct history *h)
{
    struct model *m = model_of(h);
    struct world *w = &h->world;
    for (uint64_t conn = 1; conn <= CONNS; conn++)
        client_disconnect(h, conn);
    w->output_room = 0;
    for (uint32_t i = 0; i < MODEL_QUEUES; i++) {
        struct command c = {0};
        if (m->queues[i].exists && m->queues[i].paused && m->queues[i].control == 0)
            client_control(h, COMMAND_QUEUE_RESUME, i, 0, &c);
    }
    world_pass_time(w, 60000);
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
    struct engine_stats stats;
    engine_get_stats(w->engine, &stats);
    if (stats.leased != 0 || stats.subscriptions != 0)
        model_fail(m, "%llu leases and %llu subscriptions are left over", (unsigned long long)stats.leased,
                   (unsigned long long)stats.subscriptions);
}
