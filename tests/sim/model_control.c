/* What commands other than publishes and settles do to the model when they take effect, and when they are confirmed. */
#include <stdlib.h>

#include "model.h"

static uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static void settings_merge_rest(broker_queue_settings *to, const broker_queue_settings *from)
{
    if (from->set & BROKER_SET_MAX_ATTEMPTS)
        to->max_attempts = from->max_attempts;
    if (from->set & BROKER_SET_BACKOFF) {
        to->backoff = from->backoff;
        to->backoff_ms = from->backoff_ms;
        to->backoff_max_ms = from->backoff_max_ms;
        to->backoff_jitter_percent = from->backoff_jitter_percent;
    }
    if (from->set & BROKER_SET_DEAD_LETTER)
        to->dead_letter = from->dead_letter;
    if (from->set & BROKER_SET_TTL_MS)
        to->ttl_ms = from->ttl_ms;
    if (from->set & BROKER_SET_DEAD_LETTER_EXPIRED)
        to->dead_letter_expired = from->dead_letter_expired;
    if (from->set & BROKER_SET_UNUSED_MS)
        to->unused_ms = from->unused_ms;
    if (from->set & BROKER_SET_DEDUP_MS)
        to->dedup_ms = from->dedup_ms;
    if (from->set & BROKER_SET_DEDUP_COUNT)
        to->dedup_count = from->dedup_count;
    if (from->set & BROKER_SET_MAX_MESSAGES)
        to->max_messages = from->max_messages;
    if (from->set & BROKER_SET_MAX_BYTES)
        to->max_bytes = from->max_bytes;
    if (from->set & BROKER_SET_OVERFLOW)
        to->overflow = from->overflow;
    if (from->set & BROKER_SET_ORDERED_KEYS)
        to->ordered_keys = from->ordered_keys;
    if (from->set & BROKER_SET_FAIR_KEYS)
        to->fair_keys = from->fair_keys;
    if (from->set & BROKER_SET_COMPACT)
        to->compact = from->compact;
}

static void settings_merge(broker_queue_settings *to, const broker_queue_settings *from)
{
    if (!from)
        return;
    if (from->set & BROKER_SET_RETENTION)
        to->retention = from->retention;
    if (from->set & BROKER_SET_SYNC)
        to->sync = from->sync;
    if (from->set & BROKER_SET_LEASE_MS)
        to->lease_ms = from->lease_ms;
    if (from->set & BROKER_SET_LOG_MAX_AGE_MS)
        to->log_max_age_ms = from->log_max_age_ms;
    if (from->set & BROKER_SET_LOG_MAX_BYTES)
        to->log_max_bytes = from->log_max_bytes;
    if (from->set & BROKER_SET_LOG_MAX_MESSAGES)
        to->log_max_messages = from->log_max_messages;
    settings_merge_rest(to, from);
}

void queue_created(struct model_queue *q, const broker_queue_settings *settings)
{
    q->settings = (broker_queue_settings){.retention = BROKER_RETENTION_WORK,
                                          .sync = BROKER_SYNC_ALWAYS,
                                          .lease_ms = 30000,
                                          .dedup_ms = 120000,
                                          .dedup_count = 100000,
                                          .ordered_keys = true};
    settings_merge(&q->settings, settings);
    q->settings_was = q->settings;
    q->exists = true;
    q->paused = q->paused_was = false;
    q->groups[0].exists = q->groups[0].was = true;
    q->groups[0].top_first = 0;
}

static void queue_purged(struct model *m, struct model_queue *q)
{
    for (uint64_t i = 0; i < q->count; i++) {
        for (uint32_t g = 0; g < MODEL_GROUPS; g++) {
            if (!q->groups[g].exists)
                continue;
            struct slot *s = &q->groups[g].slots[i];
            if (s->state != SLOT_SETTLED)
                slot_settle(s, SURVIVES_NOTHING);
            s->leased = false;
        }
        q->messages[i].maybe_gone = true;
    }
}

/* Where a start leads: at least *low and at most *high. A start by time is exact to blocks only, and never late. */
static void start_range(const struct model *m, const struct model_queue *q, broker_start start, uint64_t value,
                        uint64_t *low, uint64_t *high)
{
    uint64_t end = q->count + 1;
    *low = *high = 1;
    if (start == BROKER_START_END)
        *low = *high = end;
    else if (start == BROKER_START_SEQ)
        *low = *high = value == 0 ? 1 : value < end ? value : end;
    else if (start == BROKER_START_TIME) {
        while (*high < end && (q->messages[*high - 1].time_ms < value || m->clock_went_back))
            (*high)++;
    }
}

static void group_placed(struct model *m, struct model_queue *q, struct model_group *g, uint64_t low, uint64_t high,
                         bool fresh)
{
    for (uint64_t seq = 1; seq <= q->count; seq++) {
        struct slot *s = &g->slots[seq - 1];
        enum slot_state before = s->state == SLOT_SETTLED && s->settled < SURVIVES_POWER ? SLOT_FREE : s->state;
        uint32_t deliveries = fresh ? 0 : s->deliveries;
        enum slot_state state = SLOT_WANTED;
        if (seq < low)
            state = SLOT_SETTLED;
        else if (seq < high || q->messages[seq - 1].maybe_gone)
            state = SLOT_FREE;
        *s = (struct slot){.state = state,
                           .settled = SURVIVES_POWER,
                           .before = fresh ? state : before,
                           .deliveries = deliveries,
                           .rejected_perhaps = !fresh && s->rejected_perhaps};
    }
    g->top_first = low - 1;
    g->moves++;
}

static void group_leases_over(const struct model_queue *q, struct model_group *g)
{
    for (uint64_t i = 0; i < q->count; i++)
        g->slots[i].leased = false;
}

static void group_settings_merge(struct model_group *g, const struct op *op)
{
    bool fresh = op->type == COMMAND_GROUP_CREATE;
    if (fresh || op->u.group.set_filter)
        g->filter = op->u.group.filter;
    if (fresh || op->u.group.set_single)
        g->single_active = op->u.group.single_active;
}

static void group_command(struct model *m, struct op *op, const struct command *c)
{
    struct model_queue *q = &m->queues[op->queue];
    struct model_group *g = &q->groups[op->group];
    uint64_t low, high;
    queue_mark_gone(m, q);
    if (op->type == COMMAND_GROUP_DELETE) {
        g->exists = false;
        group_leases_over(q, g);
        queue_mark_gone(m, q);
        return;
    }
    if (op->type == COMMAND_GROUP_CREATE || op->type == COMMAND_GROUP_ALTER) {
        g->filter_was = g->filter;
        group_settings_merge(g, op);
    }
    if (op->type == COMMAND_GROUP_ALTER) {
        g->altering = true;
        group_filtered(m, q, g);
        return;
    }
    start_range(m, q, c->u.group.start, c->u.group.value, &low, &high);
    model_trace(m, "%s to %llu..%llu", op->type == COMMAND_GROUP_SEEK ? "moved" : "created", (unsigned long long)low,
                (unsigned long long)high);
    group_placed(m, q, g, low, high, op->type == COMMAND_GROUP_CREATE);
    g->exists = true;
    g->seeking = op->type == COMMAND_GROUP_SEEK;
    group_filtered(m, q, g);
    queue_mark_gone(m, q);
}

static void subscribed(struct model *m, const struct op *op, const struct command *c)
{
    for (uint32_t i = 0; i < MODEL_SUBSCRIPTIONS; i++) {
        struct subscription *s = &m->subscriptions[i];
        if (s->live)
            continue;
        *s = (struct subscription){.live = true,
                                   .settle_on_send = c->u.subscribe.settle_on_send,
                                   .conn = c->token.conn,
                                   .stream = c->token.stream,
                                   .queue = op->queue,
                                   .incarnation = op->incarnation,
                                   .group = op->group,
                                   .lease_ms = c->u.subscribe.lease_ms,
                                   .priority = c->u.subscribe.priority,
                                   .max_unsettled = c->u.subscribe.max_unsettled,
                                   .order = ++m->orders};
        return;
    }
    abort(); /* the history asks for no more */
}

static void publish_applied(struct model *m, struct op *op)
{
    for (uint32_t i = 0; i < op->record_count; i++) {
        const struct op_record *r = &op->records[i];
        for (uint32_t k = 0; r->seq != 0 && k < MODEL_QUEUES; k++) {
            struct model_queue *q = &m->queues[k];
            if (r->queue == k)
                q->messages[r->seq - 1].asked = op->asked;
            for (uint64_t seq = q->count; r->queue == BY_TOPIC && seq > 0 && q->messages[seq - 1].index == r->index;
                 seq--) {
                if (q->messages[seq - 1].publish == r->publish)
                    q->messages[seq - 1].asked = op->asked;
            }
            if (r->queue == k ||
                (r->queue == BY_TOPIC && q->count > 0 && q->messages[q->count - 1].publish == r->publish))
                check_not_overfull(m, q);
        }
    }
}

static void control_applied(struct model *m, struct op *op, const struct command *c)
{
    struct model_queue *q = &m->queues[op->queue];
    q->was = q->exists;
    q->settings_was = q->settings;
    q->paused_was = q->paused;
    for (uint32_t g = 0; g < MODEL_GROUPS; g++)
        q->groups[g].was = q->groups[g].exists;
    q->bound_was = q->bound;
    q->control = op->correlation;
    switch (op->type) {
    case COMMAND_QUEUE_CREATE:
        if (!q->exists)
            queue_created(q, c->u.queue.settings);
        break;
    case COMMAND_QUEUE_ALTER:
        queue_mark_gone(m, q);
        settings_merge(&q->settings, c->u.queue.settings);
        q->altered = true;
        queue_mark_gone(m, q);
        break;
    case COMMAND_BIND: q->bound |= (uint8_t)(1u << op->u.pattern); break;
    case COMMAND_UNBIND: q->bound &= (uint8_t) ~(1u << op->u.pattern); break;
    case COMMAND_QUEUE_DELETE: q->exists = false; break;
    case COMMAND_QUEUE_PAUSE: q->paused = true; break;
    case COMMAND_QUEUE_RESUME: q->paused = false; break;
    case COMMAND_QUEUE_PURGE:
        op->u.purge_to = q->count;
        queue_purged(m, q);
        break;
    default: group_command(m, op, c); break;
    }
}

static bool is_control(enum command_type type)
{
    return type >= COMMAND_QUEUE_CREATE && type <= COMMAND_UNBIND && type != COMMAND_QUEUE_LIST &&
           type != COMMAND_QUEUE_DESCRIBE;
}

void model_applied(struct model *m, struct op *op, const struct command *c)
{
    if (op->type == COMMAND_PUBLISH || op->type == COMMAND_TRANSACT)
        publish_applied(m, op);
    if (op->type == COMMAND_TRANSACT)
        transact_applied(m, op);
    else if (op->type == COMMAND_RESCHEDULE)
        reschedule_applied(m, op);
    else if (op->type == COMMAND_SUBSCRIBE)
        subscribed(m, op, c);
    else if (op->type == COMMAND_UNSUBSCRIBE) {
        struct subscription *s = model_subscription(m, c->token.conn, c->token.stream);
        if (s)
            model_subscription_over(m, s);
    } else if (op->type == COMMAND_ACK || op->type == COMMAND_NACK || op->type == COMMAND_EXTEND)
        settle_applied(m, op);
    else if (is_control(op->type))
        control_applied(m, op, c);
}

static void purge_confirmed(struct model_queue *q, uint64_t last)
{
    for (uint64_t i = 0; i < last && i < q->count; i++) {
        for (uint32_t g = 0; g < MODEL_GROUPS; g++) {
            if (q->groups[g].exists && q->groups[g].slots[i].state == SLOT_SETTLED)
                slot_settle(&q->groups[g].slots[i], SURVIVES_POWER);
        }
    }
}

/* No control operation is in flight any more: there is no "before". */
void control_settled(struct model_queue *q)
{
    q->control = 0;
    q->was = q->exists;
    q->settings_was = q->settings;
    q->paused_was = q->paused;
    q->bound_was = q->bound;
    for (uint32_t g = 0; g < MODEL_GROUPS; g++) {
        q->groups[g].was = q->groups[g].exists;
        q->groups[g].altering = false;
        q->groups[g].filter_was = q->groups[g].filter;
    }
}

static void control_confirmed(struct model *m, struct op *op)
{
    struct model_queue *q = &m->queues[op->queue];
    m->durable_index = max_u64(m->durable_index, op->synced_index);
    if (q->control == op->correlation)
        control_settled(q);
    if (op->incarnation != q->incarnation)
        return;
    if (op->type == COMMAND_QUEUE_DELETE)
        queue_reset(q);
    else if (op->type == COMMAND_GROUP_DELETE)
        group_reset(&q->groups[op->group]);
    else if (op->type == COMMAND_QUEUE_PURGE && op->incarnation == q->incarnation)
        purge_confirmed(q, op->u.purge_to);
    else if (op->type == COMMAND_GROUP_SEEK)
        q->groups[op->group].seeking = false;
}

void model_confirmed(struct model *m, struct op *op, const struct completion *c)
{
    model_trace(m, "confirmed %s #%u", model_op_name(op->type), op->correlation);
    m->confirmed++;
    if (is_control(op->type))
        control_confirmed(m, op);
    else if (op->type == COMMAND_BARRIER)
        m->durable_index = max_u64(m->durable_index, op->synced_index);
    else if (op->type == COMMAND_SUBSCRIBE) {
        struct subscription *s = model_subscription(m, op->conn, op->stream);
        if (s)
            s->confirmed = true;
    }
}

/* ---- subscriptions and connections ------------------------------------------------------------------------------------- */

struct subscription *model_subscription(struct model *m, uint64_t conn, uint32_t stream)
{
    for (uint32_t i = 0; i < MODEL_SUBSCRIPTIONS; i++) {
        struct subscription *s = &m->subscriptions[i];
        if (s->live && s->conn == conn && s->stream == stream)
            return s;
    }
    return NULL;
}

void model_subscription_over(struct model *m, struct subscription *sub)
{
    struct model_queue *q = &m->queues[sub->queue];
    sub->live = false;
    if (q->incarnation != sub->incarnation)
        return;
    for (uint64_t i = 0; i < q->count; i++) {
        struct slot *s = &q->groups[sub->group].slots[i];
        if (s->leased && s->conn == sub->conn && s->stream == sub->stream)
            s->leased = false;
    }
}

void model_conn_closed(struct model *m, uint64_t conn)
{
    for (uint32_t i = 0; i < MODEL_SUBSCRIPTIONS; i++) {
        if (m->subscriptions[i].live && m->subscriptions[i].conn == conn)
            model_subscription_over(m, &m->subscriptions[i]);
    }
    for (uint32_t i = m->first_open; i < m->op_count; i++) {
        if (m->ops[i] && m->ops[i]->conn == conn && op_may_wait(m->ops[i]))
            op_forget(m, m->ops[i]);
    }
    m->conn_held[conn % CONNS_MAX] = false;
}
