/* What happens at a time: delays, backoff, expiry. */
#include <inttypes.h>
#include <wire.h>

#include "model.h"

struct moment moment_at(const struct model *m, uint64_t wall_ms)
{
    uint64_t left = wall_ms > m->now.wall.ms ? wall_ms - m->now.wall.ms : 0;
    return (struct moment){wall_ms, wall_ms ? m->now.mono.ms + left : 0};
}

struct moment moment_after(const struct model *m, uint64_t ms)
{
    return ms ? (struct moment){m->now.wall.ms + ms, m->now.mono.ms + ms} : (struct moment){0};
}

/* The two clocks are never quite together: what they are apart by little does not count as a jump of one of them. */
#define CLOCKS_APART_MS 200u

bool moment_is_due(const struct model *m, const struct moment *t)
{
    bool nearly = t->wall_ms <= m->now.wall.ms && t->mono_ms <= m->now.mono.ms + CLOCKS_APART_MS;
    return t->mono_ms <= m->now.mono.ms || nearly;
}

bool moment_is_past(const struct model *m, const struct moment *t)
{
    return t->wall_ms != 0 && t->wall_ms < m->now.wall.ms && t->mono_ms < m->now.mono.ms;
}

bool moment_is_perhaps(const struct model *m, const struct moment *t)
{
    return t->wall_ms != 0 && (t->wall_ms <= m->now.wall.ms || t->mono_ms <= m->now.mono.ms);
}

void moment_restarted(const struct model *m, struct moment *t)
{
    *t = moment_at(m, t->wall_ms);
}

/* By each clock: which of them will count is not known. */
static struct moment earlier(struct moment a, struct moment b)
{
    return (struct moment){a.wall_ms < b.wall_ms ? a.wall_ms : b.wall_ms,
                           a.mono_ms < b.mono_ms ? a.mono_ms : b.mono_ms};
}

void message_timed(struct model *m, const struct model_queue *q, struct model_message *msg, const uint8_t *record)
{
    struct record_view view;
    if (record_view_get(record, record_length(record), &view) != BROKER_OK)
        return;
    uint64_t queue = q->settings.ttl_ms ? msg->time_ms + q->settings.ttl_ms : 0, own = view.expire_ms;
    msg->due = view.due_ms > msg->time_ms ? moment_at(m, view.due_ms) : (struct moment){0};
    msg->expire = moment_at(m, own && (!queue || own < queue) ? own : queue);
}

bool message_is_perhaps_over(const struct model *m, const struct model_message *msg)
{
    return msg->was_expired || moment_is_perhaps(m, &msg->expire);
}

void model_clock_set(struct model *m)
{
    for (uint32_t i = 0; i < MODEL_QUEUES; i++) {
        for (uint64_t k = 0; k < m->queues[i].count; k++) {
            struct model_message *msg = &m->queues[i].messages[k];
            msg->was_expired = message_is_perhaps_over(m, msg);
        }
    }
}

static void forget_if_due(const struct model *m, struct moment *t)
{
    if (moment_is_due(m, t))
        *t = (struct moment){0};
}

/* What was due once is not early, wherever the wall clock stands after the restart. */
void model_times_crash(struct model *m)
{
    for (uint32_t i = 0; i < MODEL_QUEUES; i++) {
        struct model_queue *q = &m->queues[i];
        for (uint64_t k = 0; k < q->count; k++) {
            struct model_message *msg = &q->messages[k];
            msg->was_due |= msg->due.wall_ms != 0 && moment_is_due(m, &msg->due);
            msg->was_due |= msg->due_index != 0 && moment_is_due(m, &msg->due_before);
            msg->was_expired |= moment_is_perhaps(m, &msg->expire);
            for (uint32_t g = 0; g < MODEL_GROUPS; g++) {
                forget_if_due(m, &q->groups[g].slots[k].due_kill);
                forget_if_due(m, &q->groups[g].slots[k].due_power);
            }
        }
    }
}

static void message_restarted(const struct model *m, struct model_message *msg)
{
    moment_restarted(m, &msg->due);
    moment_restarted(m, &msg->due_before);
    moment_restarted(m, &msg->expire);
    enum fate fate = msg->due_index ? index_fate(m, msg->due_index) : FATE_SURE;
    if (fate == FATE_GONE)
        msg->due = msg->due_before;
    else if (fate == FATE_OPEN)
        msg->due = earlier(msg->due, msg->due_before);
    msg->due_unsure |= fate != FATE_SURE;
    msg->due_index = 0;
    if (msg->deleted_index != 0 && index_fate(m, msg->deleted_index) != FATE_SURE)
        msg->deleted_index = 0;
    else if (msg->deleted_index != 0)
        msg->deleted_index = 1;
}

void model_times_restarted(struct model *m)
{
    for (uint32_t i = 0; i < MODEL_QUEUES; i++) {
        struct model_queue *q = &m->queues[i];
        for (uint64_t k = 0; k < q->count; k++)
            message_restarted(m, &q->messages[k]);
        for (uint32_t g = 0; g < MODEL_GROUPS; g++) {
            for (uint64_t k = 0; q->groups[g].exists && k < q->count; k++) {
                struct slot *s = &q->groups[g].slots[k];
                moment_restarted(m, &s->due);
                s->due_kill = s->due_power = s->due;
            }
        }
    }
}

/* How long a message must wait after a nack that names no delay. Jitter takes off at most its part. */
uint64_t backoff_least(const struct model_queue *q, uint32_t attempts)
{
    const broker_queue_settings *s = &q->settings;
    uint64_t most = s->backoff_max_ms ? s->backoff_max_ms : 86400000, ms = s->backoff_ms;
    if (s->backoff == BROKER_BACKOFF_NONE || q->altered)
        return 0;
    for (uint32_t i = 1; s->backoff == BROKER_BACKOFF_EXPONENTIAL && i < attempts && ms < most; i++)
        ms *= 2;
    if (s->backoff == BROKER_BACKOFF_EXPONENTIAL && ms > most)
        ms = most;
    return ms * (100 - s->backoff_jitter_percent) / 100;
}

static bool was_delivered(const struct model_queue *q, uint64_t seq)
{
    for (uint32_t g = 0; g < MODEL_GROUPS; g++) {
        if (q->groups[g].exists && q->groups[g].slots[seq - 1].deliveries > 0)
            return true;
    }
    return false;
}

void check_times(struct model *m, const struct model_queue *q, const struct model_group *g, uint64_t seq)
{
    const struct model_message *msg = &q->messages[seq - 1];
    const struct slot *s = &g->slots[seq - 1];
    if (!moment_is_due(m, &s->due))
        model_fail(m, "delivered too early: %s/%s seq %" PRIu64 " came back for %" PRIu64 " ms more", q->name, g->name,
                   seq, s->due.mono_ms - m->now.mono.ms);
    if (!moment_is_due(m, &msg->due) && !msg->was_due &&
        !was_delivered(q, seq)) /* else it was due once, whatever the clock says now */
        model_fail(m, "delivered too early: %s/%s seq %" PRIu64 " was delayed for %" PRIu64 " ms more", q->name,
                   g->name, seq, msg->due.mono_ms - m->now.mono.ms);
    const struct moment *looked = m->times_are_read ? &m->rested : &m->ticked;
    if (s->deliveries == 0 && moment_is_past(m, &msg->expire) && msg->expire.mono_ms < looked->mono_ms)
        model_fail(m, "delivered too late: %s/%s seq %" PRIu64 " expired %" PRIu64 " ms ago", q->name, g->name, seq,
                   m->now.mono.ms - msg->expire.mono_ms);
}

/* ---- another time ---------------------------------------------------------------------------------------------------------- */

static struct model_message *rescheduled_message(struct model *m, const struct op *op)
{
    struct model_queue *q = &m->queues[op->queue];
    uint64_t seq = op->u.reschedule.seq;
    return q->incarnation == op->incarnation && seq != 0 && seq <= q->count ? &q->messages[seq - 1] : NULL;
}

void reschedule_applied(struct model *m, struct op *op)
{
    struct model_message *msg = rescheduled_message(m, op);
    if (!msg || !(msg->due.wall_ms || msg->rescheduled)) {
        model_fail(m, "reschedule: %s seq %" PRIu64 " does not wait, and was taken", m->queues[op->queue].name,
                   op->u.reschedule.seq);
        return;
    }
    msg->due_before = msg->due_index ? earlier(msg->due_before, msg->due) : msg->due;
    msg->due_index = op->index;
    msg->rescheduled = true;
    m->rescheduled++;
    uint64_t at = op->u.reschedule.due_ms + (op->u.reschedule.is_delay ? m->now.wall.ms : 0);
    msg->due = moment_at(m, at > m->now.wall.ms ? at : m->now.wall.ms);
}

void reschedule_begun(struct model *m, struct op *op)
{
    const struct model_message *msg = rescheduled_message(m, op);
    op->u.reschedule.waited = msg && msg->turn != 0 && !moment_is_due(m, &msg->due) && !msg->was_due &&
                              !msg->maybe_gone && !was_delivered(&m->queues[op->queue], op->u.reschedule.seq) &&
                              message_is_alive(&m->queues[op->queue], op->u.reschedule.seq);
}

void reschedule_refused(struct model *m, struct op *op)
{
    if (op->error == BROKER_MESSAGE_NOT_FOUND && op->u.reschedule.waited)
        model_fail(m, "reschedule: %s seq %" PRIu64 " waits for its time, and is said not to",
                   m->queues[op->queue].name, op->u.reschedule.seq);
}
