/* Queues that are bounded, compacted, made or deleted by the broker; message ids. */
#include <inttypes.h>
#include <string.h>
#include <wire.h>

#include "model.h"

/* ---- limits ------------------------------------------------------------------------------------------------------------- */

static uint64_t alive_count(const struct model_queue *q, bool confirmed)
{
    uint64_t n = 0;
    for (uint64_t seq = 1; seq <= q->count; seq++)
        n += message_is_alive(q, seq) && (q->messages[seq - 1].turn != 0 || !confirmed);
    return n;
}

/* One more is about to be stored. */
void check_limit_stored(struct model *m, struct model_queue *q, const struct op_record *r)
{
    const broker_queue_settings *s = &q->settings;
    if (s->overflow != BROKER_OVERFLOW_REJECT || s->max_messages == 0 || q->altered)
        return;
    queue_mark_gone(m, q);
    uint64_t n = alive_count(q, false);
    if (n >= s->max_messages)
        model_fail(m, "limit: %s takes one more, has %" PRIu64 " of at most %" PRIu64, q->name, n, s->max_messages);
}

static bool queue_may_be_full(const struct model_queue *q, uint64_t more, uint64_t more_bytes)
{
    const broker_queue_settings *s = &q->settings;
    uint64_t n = 0, bytes = 0;
    for (uint64_t seq = 1; seq <= q->count; seq++) {
        if (message_is_dead(q, seq))
            continue;
        n++;
        bytes += q->messages[seq - 1].padded;
    }
    return (s->max_messages && n + more > s->max_messages) ||
           (s->max_bytes != 0 && (n > 0 || more_bytes > s->max_bytes)); /* counted in runs: about */
}

/* A limit under which not even an empty queue takes it. */
static bool limit_is_too_low(const struct model_queue *q, const struct op *op)
{
    const broker_queue_settings *s = &q->settings;
    return q->altered || (s->max_bytes && op->len > s->max_bytes) ||
           (s->max_messages && op->record_count > s->max_messages);
}

static bool goes_to(const struct op *op, uint32_t queue)
{
    for (uint32_t i = 0; i < op->record_count; i++) {
        if (op->records[i].queue == queue || op->records[i].queue == BY_TOPIC)
            return true;
    }
    return false;
}

/* What may be said of limits in the answer is decided when the command is given. */
void limits_begun(struct model *m, struct op *op)
{
    for (uint32_t k = 0; k < MODEL_QUEUES; k++) {
        struct model_queue *q = &m->queues[k];
        if (!q->exists || !goes_to(op, k))
            continue;
        queue_mark_gone(m, q);
        bool rejects = q->settings.overflow == BROKER_OVERFLOW_REJECT;
        op->may_be_full |= q->altered || (rejects && queue_may_be_full(q, op->record_count, op->len));
        op->too_low |= limit_is_too_low(q, op);
    }
    for (uint32_t i = 0; i < op->record_count; i++)
        op->records[i].routes = route_count(m, op->records[i].traits.topic);
}

/* After a publish: nothing more stays than may, but what is not confirmed yet. */
void check_not_overfull(struct model *m, const struct model_queue *q)
{
    const broker_queue_settings *s = &q->settings;
    if (s->overflow != BROKER_OVERFLOW_DROP_OLDEST || s->max_messages == 0 || q->altered || !q->exists)
        return;
    uint64_t n = alive_count(q, true);
    if (n > s->max_messages)
        model_fail(m, "limit: %s has %" PRIu64 " messages of at most %" PRIu64 ", and dropped none", q->name, n,
                   s->max_messages);
}

/* ---- message ids ----------------------------------------------------------------------------------------------------------- */

static uint64_t newest_of_id(const struct model_queue *q, uint32_t id, uint64_t below)
{
    for (uint64_t seq = below; id != 0 && seq > 0; seq--) {
        if (q->messages[seq - 1].traits.id == id && !q->messages[seq - 1].copied)
            return seq;
    }
    return 0;
}

static uint64_t age_wall(struct now now, const struct model_message *msg)
{
    return now.wall.ms > msg->time_ms ? now.wall.ms - msg->time_ms : 0;
}

static uint64_t age_mono(struct now now, const struct model_message *msg)
{
    int64_t age = (int64_t)now.mono.ms - msg->stored_mono_ms;
    return age > 0 ? (uint64_t)age : 0;
}

uint64_t id_surely_known(const struct model *m, const struct model_queue *q, const struct traits *t, uint64_t below)
{
    const broker_queue_settings *s = &q->settings;
    uint64_t seq = newest_of_id(q, t->id, below);
    if (seq == 0 || q->altered || m->clock_went_back || q->count - seq >= s->dedup_count)
        return 0;
    const struct model_message *msg = &q->messages[seq - 1];
    return age_wall(m->now, msg) < s->dedup_ms && age_mono(m->now, msg) < s->dedup_ms ? seq : 0;
}

bool id_perhaps_known(const struct op *op, const struct model_queue *q, const struct traits *t, uint64_t seq)
{
    const broker_queue_settings *s = &q->settings;
    if (seq == 0 || seq > q->count || t->id == 0 || q->messages[seq - 1].traits.id != t->id)
        return false;
    const struct model_message *msg = &q->messages[seq - 1];
    return q->altered || age_wall(op->begun, msg) <= s->dedup_ms || age_mono(op->begun, msg) <= s->dedup_ms;
}

/* ---- queues that come and go by themselves ------------------------------------------------------------------------------------ */

void queue_touched(struct model *m, uint32_t queue)
{
    m->queues[queue].used = (struct moment){m->now.wall.ms, m->now.mono.ms};
}

static bool bytes_contain(const uint8_t *bytes, size_t len, const char *text)
{
    return memmem(bytes, len, text, strlen(text)) != NULL;
}

/* A queue for dead letters, when the first one comes; or one that somebody made. */
void queue_made_itself(struct model *m, const uint8_t *record, uint64_t index)
{
    uint32_t id = record_queue(record);
    if (queue_of_id(m, id))
        return;
    if (m->current && m->current->type == COMMAND_QUEUE_CREATE) {
        m->queues[m->current->queue].id = id;
        return;
    }
    for (uint32_t i = MODEL_QUEUES; i > 0; i--) { /* queue1.dead before queue1 */
        struct model_queue *q = &m->queues[i - 1];
        if (q->exists || !bytes_contain(record + RECORD_HEAD_BYTES, record_length(record) - RECORD_HEAD_BYTES, q->name))
            continue;
        model_trace(m, "%s was made by the broker", q->name);
        queue_reset(q);
        queue_created(q, NULL);
        q->id = id;
        q->born = index;
        q->was = true;
        queue_touched(m, i - 1);
        return;
    }
    model_fail(m, "append: a queue that nobody wanted, id %u, '%.20s'", id,
               (const char *)record + record_length(record) - 20);
}

static bool is_consumed(const struct model *m, const struct model_queue *q)
{
    for (uint32_t i = 0; i < MODEL_SUBSCRIPTIONS; i++) {
        const struct subscription *s = &m->subscriptions[i];
        if (s->live && s->incarnation == q->incarnation && &m->queues[s->queue] == q)
            return true;
    }
    return model_is_read(m, q);
}

void queue_went_itself(struct model *m, const uint8_t *record, uint64_t index)
{
    struct model_queue *q = queue_of_id(m, record_queue(record));
    if (!q || (m->current && m->current->type == COMMAND_QUEUE_DELETE))
        return;
    uint64_t unused = m->now.mono.ms - q->used.mono_ms;
    model_trace(m, "%s went, unused for %" PRIu64 " ms", q->name, unused);
    if (q->settings.unused_ms == 0 || unused < q->settings.unused_ms || is_consumed(m, q))
        model_fail(m, "unused: %s was deleted after %" PRIu64 " of %" PRIu64 " ms%s", q->name, unused,
                   q->settings.unused_ms, is_consumed(m, q) ? ", somebody consumes or reads it" : "");
    q->was = true;
    q->exists = false;
    q->dying = index;
    q->control = UINT32_MAX;
}
