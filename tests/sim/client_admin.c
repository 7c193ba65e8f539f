/* What administrators do. */
#include <stdlib.h>
#include <string.h>
#include <wire.h>

#include "history.h"

/* ---- administering --------------------------------------------------------------------------------------------------------- */

static void trace_settings(struct history *h, const broker_queue_settings *s)
{
    if (s)
        model_trace(model_of(h),
                    "set %x: retention %d, sync %d, attempts %u, backoff %d of %u to %u -%u%%, dead letters to %s "
                    "(expired %d), "
                    "ttl %llu, unused %llu, ids %llu/%u, at most %llu/%llu %d, ordered %d, fair %d, compact %d",
                    s->set, s->retention, s->sync, s->max_attempts, s->backoff, s->backoff_ms, s->backoff_max_ms,
                    s->backoff_jitter_percent, s->dead_letter ? s->dead_letter : "-", s->dead_letter_expired,
                    (unsigned long long)s->ttl_ms, (unsigned long long)s->unused_ms, (unsigned long long)s->dedup_ms,
                    s->dedup_count, (unsigned long long)s->max_messages, (unsigned long long)s->max_bytes, s->overflow,
                    s->ordered_keys, s->fair_keys, s->compact);
}

static struct op *control_op(struct history *h, enum command_type type, uint32_t queue, uint32_t group,
                             struct command *c)
{
    struct model_queue *q = &model_of(h)->queues[queue];
    struct op *op = op_new(model_of(h), type, queue, group);
    c->type = type;
    c->queue = name_of(q->name);
    c->group = name_of(q->groups[group].name);
    return op;
}

void client_control(struct history *h, enum command_type type, uint32_t queue, uint32_t group, struct command *c)
{
    if (type == COMMAND_QUEUE_CREATE || type == COMMAND_QUEUE_ALTER)
        trace_settings(h, c->u.queue.settings);
    world_submit(&h->world, control_op(h, type, queue, group, c), c);
}

void client_bind(struct history *h, enum command_type type, uint32_t queue, uint32_t pattern)
{
    struct command c = {0};
    struct op *op = control_op(h, type, queue, 0, &c);
    op->u.pattern = pattern;
    c.u.bind.pattern = name_of(model_pattern(pattern));
    world_submit(&h->world, op, &c);
}

void client_create_queue(struct history *h, uint32_t queue, const broker_queue_settings *settings)
{
    struct command c = {0};
    c.u.queue.settings = settings;
    client_control(h, COMMAND_QUEUE_CREATE, queue, 0, &c);
}

static void some_retry(struct rng *rng, broker_queue_settings *s)
{
    static const char *const targets[] = {NULL, NULL, "queue4", "queue3.dead"};
    s->set |= BROKER_SET_MAX_ATTEMPTS | BROKER_SET_BACKOFF | BROKER_SET_DEAD_LETTER;
    s->max_attempts = (uint32_t)rng_below(rng, 4);
    s->backoff = (broker_backoff)rng_below(rng, 3);
    s->backoff_ms = (uint32_t)rng_between(rng, 1, 2000);
    s->backoff_max_ms = s->backoff_ms + (uint32_t)rng_below(rng, 10000);
    s->backoff_jitter_percent = (uint32_t)(rng_percent(rng, 50) ? 0 : rng_below(rng, 101));
    s->dead_letter = targets[rng_below(rng, 4)];
}

static void some_limits(struct rng *rng, broker_queue_settings *s)
{
    s->set |= BROKER_SET_MAX_MESSAGES | BROKER_SET_MAX_BYTES | BROKER_SET_OVERFLOW;
    s->overflow = rng_percent(rng, 50) ? BROKER_OVERFLOW_REJECT : BROKER_OVERFLOW_DROP_OLDEST;
    s->max_messages = rng_percent(rng, 80) ? rng_between(rng, 1, 30) : 0;
    s->max_bytes = rng_percent(rng, 30) ? rng_between(rng, 200, 20000) : 0;
}

/* What this seed makes use of. */
static void some_features(struct history *h, broker_queue_settings *s)
{
    struct rng *rng = rng_of(h);
    if (rng_percent(rng, h->use.retry))
        some_retry(rng, s);
    if (rng_percent(rng, h->use.limits))
        some_limits(rng, s);
    if (rng_percent(rng, h->use.expiry / 2)) {
        s->set |= BROKER_SET_TTL_MS;
        s->ttl_ms = rng_between(rng, 500, 100000);
    }
    if (rng_percent(rng, h->use.expiry)) {
        s->set |= BROKER_SET_DEAD_LETTER_EXPIRED;
        s->dead_letter_expired = rng_percent(rng, 50);
    }
    if (rng_percent(rng, h->use.ids)) {
        s->set |= BROKER_SET_DEDUP_MS | BROKER_SET_DEDUP_COUNT;
        s->dedup_ms = rng_percent(rng, 20) ? 0 : rng_between(rng, 100, 30000);
        s->dedup_count = (uint32_t)(rng_percent(rng, 50) ? rng_between(rng, 1, 20) : 100000);
    }
    if (rng_percent(rng, h->use.unused)) {
        s->set |= BROKER_SET_UNUSED_MS;
        s->unused_ms = rng_between(rng, 500, 20000);
    }
    if (rng_percent(rng, h->use.ordering)) {
        s->set |= BROKER_SET_ORDERED_KEYS | BROKER_SET_FAIR_KEYS;
        s->ordered_keys = rng_percent(rng, 70);
        s->fair_keys = rng_percent(rng, 50);
    }
    if (s->retention == BROKER_RETENTION_LOG && rng_percent(rng, h->use.compact)) {
        s->set |= BROKER_SET_COMPACT;
        s->compact = rng_percent(rng, 80);
    }
}

static broker_queue_settings some_settings(struct history *h, uint32_t queue)
{
    struct rng *rng = rng_of(h);
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
    some_features(h, &s);
    if (s.dead_letter && strcmp(s.dead_letter, model_of(h)->queues[queue].name) == 0)
        s.dead_letter = NULL;
    return s;
}

void filter_of(const struct choice *c, broker_filter *f, broker_header *header)
{
    *f = (broker_filter){0};
    if (c->pattern)
        f->topic = model_pattern(c->pattern);
    if (c->key)
        f->key = model_key(c->key);
    if (c->header) {
        *header = (broker_header){"n", model_header(c->header)};
        f->headers = header;
        f->header_count = 1;
    }
}

struct choice some_choice(struct rng *rng)
{
    struct choice c = {0};
    if (rng_percent(rng, 30))
        c.pattern = (uint8_t)rng_between(rng, 1, MODEL_PATTERNS);
    if (rng_percent(rng, 20))
        c.key = (uint8_t)rng_between(rng, 1, TRAIT_KEYS - 1);
    if (rng_percent(rng, 30))
        c.header = (uint8_t)rng_between(rng, 1, 2);
    return c;
}

static const broker_group_settings *some_group_settings(struct history *h, struct op *op, broker_group_settings *s,
                                                        broker_header *header)
{
    struct rng *rng = rng_of(h);
    if (rng_percent(rng, h->use.filters)) {
        s->set |= BROKER_GROUP_SET_FILTER;
        op->u.group.set_filter = true;
        op->u.group.filter = some_choice(rng);
        filter_of(&op->u.group.filter, &s->filter, header);
    }
    if (rng_percent(rng, h->use.consumers)) {
        s->set |= BROKER_GROUP_SET_SINGLE_ACTIVE;
        op->u.group.set_single = true;
        op->u.group.single_active = s->single_active = rng_percent(rng, 70);
    }
    return s->set || op->type == COMMAND_GROUP_ALTER ? s : NULL;
}

static void administer_group(struct history *h, uint32_t queue, enum command_type type)
{
    struct rng *rng = rng_of(h);
    const struct model_queue *q = &model_of(h)->queues[queue];
    bool first = type == COMMAND_GROUP_ALTER && rng_percent(rng, 60);
    uint32_t group = (uint32_t)(first ? 0 : rng_below(rng, MODEL_GROUPS));
    struct command c = {0};
    c.u.group.start = (broker_start)rng_below(rng, 4);
    if (c.u.group.start == BROKER_START_SEQ)
        c.u.group.value = 1 + rng_below(rng, q->count + 3);
    else if (c.u.group.start == BROKER_START_TIME)
        c.u.group.value = q->count ? q->messages[rng_below(rng, q->count)].time_ms : 5;
    broker_group_settings settings = {.size = sizeof(settings)};
    broker_header header;
    struct op *op = control_op(h, type, queue, group, &c);
    if (type != COMMAND_GROUP_DELETE && type != COMMAND_GROUP_SEEK)
        c.u.group.settings = some_group_settings(h, op, &settings, &header);
    world_submit(&h->world, op, &c);
}

static void administer_queue(struct history *h, uint32_t queue)
{
    struct rng *rng = rng_of(h);
    struct command c = {0};
    broker_queue_settings settings = some_settings(h, queue);
    if (rng_percent(rng, h->use.topics)) {
        client_bind(h, rng_percent(rng, 70) ? COMMAND_BIND : COMMAND_UNBIND, queue,
                    (uint32_t)rng_between(rng, 1, MODEL_PATTERNS));
        return;
    }
    uint64_t what = rng_below(rng, 100);
    c.u.queue.settings = &settings;
    if (what < 12)
        client_control(h, COMMAND_QUEUE_ALTER, queue, 0, &c);
    else if (what < 18 && (h->use.retry == 0 || queue != MODEL_PLAIN - 1)) /* the last takes dead letters of others */
        client_control(h, COMMAND_QUEUE_DELETE, queue, 0, &c);
    else if (what < 24)
        client_control(h, COMMAND_QUEUE_PAUSE, queue, 0, &c);
    else if (what < 42)
        client_control(h, COMMAND_QUEUE_RESUME, queue, 0, &c);
    else if (what < 50)
        client_control(h, COMMAND_QUEUE_PURGE, queue, 0, &c);
    else if (what < 65)
        administer_group(h, queue, COMMAND_GROUP_CREATE);
    else if (what < 75)
        administer_group(h, queue, h->use.filters || h->use.consumers ? COMMAND_GROUP_ALTER : COMMAND_GROUP_CREATE);
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
        broker_queue_settings settings = some_settings(h, queue);
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

/* ---- looking and mending ------------------------------------------------------------------------------------------------------ */

static void send_scan(struct history *h, struct op *op, struct command *c)
{
    struct model *m = model_of(h);
    broker_header header;
    op->conn = CONN_ADMIN;
    model_trace(m, "scan %d, state %d, %llu..%llu, pattern %s, key %s, header %s, at most %u", op->u.scan.action,
                op->u.scan.state, (unsigned long long)op->u.scan.from, (unsigned long long)op->u.scan.to,
                model_pattern(op->u.scan.choice.pattern), model_key(op->u.scan.choice.key),
                model_header(op->u.scan.choice.header), op->u.scan.max_messages);
    c->type = COMMAND_SCAN;
    c->queue = name_of(m->queues[op->queue].name);
    c->u.scan.action = op->u.scan.action;
    c->u.scan.state = op->u.scan.state;
    c->u.scan.from_seq = op->u.scan.from;
    c->u.scan.to_seq = op->u.scan.to;
    c->u.scan.max_messages = op->u.scan.max_messages;
    c->u.scan.max_bytes = 1 << 20;
    filter_of(&op->u.scan.choice, &c->u.scan.filter, &header);
    if (op->u.scan.target)
        c->u.scan.target = name_of(m->queues[op->u.scan.target - 1].name);
    world_submit(&h->world, op, c);
}

/* target: queue + 1; 0: none. */
void client_scan(struct history *h, uint32_t queue, enum scan_action action, uint32_t target,
                 const struct choice *choice)
{
    struct op *op = op_new(model_of(h), COMMAND_SCAN, queue, 0);
    struct command c = {0};
    op->u.scan.action = action;
    op->u.scan.target = target;
    op->u.scan.choice = *choice;
    op->u.scan.max_messages = 1000;
    send_scan(h, op, &c);
}

static void some_scan(struct history *h, uint32_t queue)
{
    struct rng *rng = rng_of(h);
    const struct model_queue *q = &model_of(h)->queues[queue];
    enum scan_action action = (enum scan_action)rng_below(rng, SCAN_REDRIVE + 1);
    uint32_t target = (uint32_t)rng_below(rng, h->queues);
    bool changes = action != SCAN_PEEK && action != SCAN_COUNT;
    if (action == SCAN_REDRIVE && rng_percent(rng, 60))
        target = UINT32_MAX; /* back to where each came from */
    if ((changes && q->scan != 0) || target == queue || (action == SCAN_MOVE && !model_of(h)->queues[target].exists))
        return;
    struct op *op = op_new(model_of(h), COMMAND_SCAN, queue, 0);
    struct command c = {0};
    op->u.scan.action = action;
    op->u.scan.target = action == SCAN_MOVE || action == SCAN_REDRIVE ? target + 1 : 0;
    op->u.scan.state = (broker_scan_state)rng_below(rng, 3);
    if (rng_percent(rng, 50))
        op->u.scan.choice = some_choice(rng);
    op->u.scan.from = rng_percent(rng, 50) ? 0 : 1 + rng_below(rng, q->count + 1);
    op->u.scan.to = rng_percent(rng, 50) ? 0 : op->u.scan.from + rng_below(rng, 10);
    op->u.scan.max_messages = (uint32_t)(rng_percent(rng, 50) ? rng_between(rng, 1, 5) : 1000);
    c.u.scan.max_scanned = (uint32_t)(rng_percent(rng, 70) ? 0 : rng_between(rng, 1, 20));
    send_scan(h, op, &c);
}

void client_reschedule(struct history *h, uint32_t queue, uint64_t seq, uint64_t delay_ms)
{
    struct op *op = op_new(model_of(h), COMMAND_RESCHEDULE, queue, 0);
    struct command c = {.type = COMMAND_RESCHEDULE, .queue = name_of(model_of(h)->queues[queue].name)};
    model_trace(model_of(h), "seq %llu to %llu ms from now", (unsigned long long)seq, (unsigned long long)delay_ms);
    op->u.reschedule.seq = c.u.reschedule.seq = seq;
    op->u.reschedule.is_delay = c.u.reschedule.is_delay = true;
    op->u.reschedule.due_ms = c.u.reschedule.due_ms = delay_ms;
    world_submit(&h->world, op, &c);
}

static void reschedule_some(struct history *h, uint32_t queue)
{
    struct rng *rng = rng_of(h);
    const struct model_queue *q = &model_of(h)->queues[queue];
    for (uint64_t seq = 1 + rng_below(rng, q->count + 1); seq <= q->count; seq++) {
        bool waits = q->messages[seq - 1].due.mono_ms > h->world.now.mono.ms;
        if (!waits && !rng_percent(rng, 5))
            continue;
        client_reschedule(h, queue, seq, rng_percent(rng, 20) ? 0 : rng_between(rng, 1, 20000));
        return;
    }
}

void client_mend(struct history *h)
{
    struct rng *rng = rng_of(h);
    uint32_t queue = (uint32_t)rng_below(rng, h->queues);
    if (rng_percent(rng, h->use.retry))
        queue += MODEL_PLAIN;
    if (!model_of(h)->queues[queue].exists)
        return;
    if (rng_below(rng, h->use.scans + h->use.reschedule) >= h->use.scans)
        reschedule_some(h, queue);
    else
        some_scan(h, queue);
}
