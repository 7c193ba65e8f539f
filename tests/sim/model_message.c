/* Messages and their slots in the groups: how they come, and which of them must still be there. */
#include <stdlib.h>
#include <string.h>
#include <wire.h>

#include "model.h"

/* The bytes of a message follow from its number alone. */
void message_bytes(uint64_t publish, uint8_t *out, uint32_t len)
{
    for (uint32_t i = 0; i < len; i += 8) {
        uint64_t word = rng_mix(publish * 0x9e3779b97f4a7c15u + i);
        memcpy(out + i, &word, len - i < 8 ? len - i : 8);
    }
}

enum survives queue_survives(const struct model_queue *q, broker_sync sync)
{
    if (sync == BROKER_SYNC_DEFAULT)
        sync = q->settings.sync;
    return sync == BROKER_SYNC_ALWAYS ? SURVIVES_POWER : SURVIVES_KILL;
}

void slot_settle(struct slot *s, enum survives how)
{
    if (s->state == SLOT_SETTLED && s->settled >= how)
        return;
    s->state = SLOT_SETTLED;
    s->settled = how;
}

static bool message_is_trimmable(const struct model *m, const struct model_queue *q, uint64_t seq)
{
    const struct model_message *msg = &q->messages[seq - 1];
    const struct model_message *last = &q->messages[q->count - 1];
    const broker_queue_settings *s = &q->settings;
    return (s->log_max_messages && q->count - seq >= s->log_max_messages) ||
           (s->log_max_age_ms && msg->time_ms + s->log_max_age_ms <= m->now.wall.ms) ||
           (s->log_max_bytes && last->bytes_before + last->padded - msg->bytes_before > s->log_max_bytes);
}

/* Is it safe, so that an older message of its key may go for it? */
static bool message_is_safe(const struct model *m, const struct model_message *msg)
{
    return msg->turn != 0 || msg->index <= m->reported_index;
}

/* What some rule may let go need not be delivered any more. `newer`: keys of safe messages behind it, as bits. */
static bool message_may_go(const struct model *m, const struct model_queue *q, uint64_t seq, uint32_t newer)
{
    const struct model_message *msg = &q->messages[seq - 1];
    if (message_is_perhaps_over(m, msg))
        return true;
    if (q->settings.retention != BROKER_RETENTION_LOG)
        return false;
    bool compacted = (q->settings.compact || q->settings_was.compact) && msg->traits.key != 0 &&
                     ((newer >> msg->traits.key & 1) || (uint32_t)msg->body_hash == 0);
    return compacted || message_is_trimmable(m, q, seq);
}

void queue_mark_gone(struct model *m, struct model_queue *q)
{
    uint32_t newer = 0;
    for (uint64_t seq = q->count; seq > 0; seq--) {
        struct model_message *msg = &q->messages[seq - 1];
        bool may_go = message_may_go(m, q, seq, newer);
        bool wanted = false;
        for (uint32_t g = 0; g < MODEL_GROUPS; g++) {
            if (!q->groups[g].exists)
                continue;
            struct slot *s = &q->groups[g].slots[seq - 1];
            if (may_go && (s->state == SLOT_WANTED || s->state == SLOT_BARRED))
                s->state = SLOT_FREE;
            wanted |= s->state == SLOT_WANTED;
        }
        if (may_go || (!wanted && q->settings.retention != BROKER_RETENTION_LOG))
            msg->maybe_gone = true;
        if (message_is_safe(m, msg) && moment_is_due(m, &msg->due) && msg->deleted_index == 0)
            newer |= 1u << msg->traits.key;
    }
}

bool message_is_alive(const struct model_queue *q, uint64_t seq)
{
    for (uint32_t g = 0; g < MODEL_GROUPS; g++) {
        if (q->groups[g].exists && q->groups[g].slots[seq - 1].state == SLOT_WANTED)
            return true;
    }
    return false;
}

bool message_is_dead(const struct model_queue *q, uint64_t seq)
{
    if (q->settings.retention == BROKER_RETENTION_LOG && !q->messages[seq - 1].maybe_gone)
        return false;
    for (uint32_t g = 0; g < MODEL_GROUPS; g++) {
        if (q->groups[g].exists && q->groups[g].slots[seq - 1].state != SLOT_SETTLED)
            return false;
    }
    return q->settings.retention != BROKER_RETENTION_LOG;
}

void group_reset(struct model_group *g)
{
    g->exists = g->single_active = g->altering = false;
    g->filter = g->filter_was = (struct choice){0};
    g->top_first = 0;
}

void queue_reset(struct model_queue *q)
{
    q->exists = q->paused = q->altered = false;
    q->id = 0;
    q->count = 0;
    q->born = q->dying = 0;
    q->bound = q->bound_was = 0;
    q->incarnation++;
    for (uint32_t g = 0; g < MODEL_GROUPS; g++)
        group_reset(&q->groups[g]);
}

struct model_queue *queue_of_id(struct model *m, uint32_t id)
{
    for (uint32_t i = 0; i < MODEL_QUEUES; i++) {
        if (m->queues[i].id == id && id != 0)
            return &m->queues[i];
    }
    return NULL;
}

static void queue_grow(struct model_queue *q)
{
    if (q->count < q->cap)
        return;
    q->cap = q->cap ? q->cap * 2 : 64;
    q->messages = must(realloc(q->messages, q->cap * sizeof(*q->messages)));
    for (uint32_t g = 0; g < MODEL_GROUPS; g++)
        q->groups[g].slots = must(realloc(q->groups[g].slots, q->cap * sizeof(struct slot)));
}

/* Of all that its publisher said, and its time: not of its place, which may change its owner where it lies in several queues. */
static uint64_t record_hash(const uint8_t *record)
{
    uint32_t len = record_length(record);
    return ((uint64_t)crc32c(crc32c(0, record + 8, 4), record + 24, len - 24) << 32) | len;
}

static bool record_is_whole(const uint8_t *record)
{
    return crc32c(0, record + 8, record_length(record) - 8) == get_u32(record + 4);
}

void model_check_bytes(struct model *m, const struct model_queue *q, uint64_t seq, const uint8_t *record)
{
    if (seq == 0 || seq > q->count) {
        model_fail(m, "phantom: %s seq %llu was never published (last is %llu)", q->name, (unsigned long long)seq,
                   (unsigned long long)q->count);
        return;
    }
    const struct model_message *msg = &q->messages[seq - 1];
    bool placed = msg->routed || (record_queue(record) == q->id && record_seq(record) == seq);
    if (!placed || record_hash(record) != msg->hash || !record_is_whole(record))
        model_fail(m, "wrong bytes: %s seq %llu%s is not what was published: the record is of queue %u, seq %llu",
                   q->name, (unsigned long long)seq, msg->routed ? " (routed)" : "", record_queue(record),
                   (unsigned long long)record_seq(record));
}

static void check_traits(struct model *m, const struct model_queue *q, const struct model_message *msg,
                         const struct record_view *view)
{
    const struct traits *t = &msg->traits;
    uint64_t due = t->due_ms == 0 ? 0 : t->due_is_delay ? msg->time_ms + t->due_ms : t->due_ms;
    uint64_t expire = t->ttl_ms ? msg->time_ms + t->ttl_ms : 0;
    if (view->head.priority != t->priority || (view->due_ms != due && due > msg->time_ms) ||
        (view->expire_ms != expire && expire != 0) || (view->head.flags & (RECORD_DUE_IS_DELAY | RECORD_EXPIRE_IS_TTL)))
        model_fail(m, "stored: %s seq %llu with priority %u, due %llu for %llu, expiry %llu for %llu", q->name,
                   (unsigned long long)q->count, view->head.priority, (unsigned long long)view->due_ms,
                   (unsigned long long)due, (unsigned long long)view->expire_ms, (unsigned long long)expire);
}

/* One more in this queue; its record may name another (by topic). */
struct model_message *message_add(struct model *m, struct model_queue *q, const uint8_t *record, uint64_t index)
{
    queue_grow(q);
    const struct model_message *before = q->count ? &q->messages[q->count - 1] : NULL;
    struct model_message *msg = &q->messages[q->count];
    *msg = (struct model_message){.hash = record_hash(record),
                                  .index = index,
                                  .stored_mono_ms = (int64_t)m->now.mono.ms,
                                  .time_ms = get_u64(record + 24),
                                  .bytes_before = before ? before->bytes_before + before->padded : 0,
                                  .padded = record_padded(record)};
    struct record_view view;
    if (record_view_get(record, record_length(record), &view) != BROKER_OK)
        model_fail(m, "append: a message of %s makes no sense", q->name);
    msg->body_hash = ((uint64_t)crc32c(0, view.body, view.body_len) << 32) | view.body_len;
    for (uint32_t g = 0; g < MODEL_GROUPS; g++)
        q->groups[g].slots[q->count] = (struct slot){.state = SLOT_WANTED, .before = SLOT_WANTED};
    q->count++;
    return msg;
}

/* What its publisher said of it decides what becomes of it. */
static void message_described(struct model *m, struct model_queue *q, struct model_message *msg,
                              const struct op_record *r, const uint8_t *record)
{
    msg->publish = r->publish;
    msg->producer = r->producer;
    msg->number = r->number;
    msg->traits = r->traits;
    struct record_view view;
    if (record_view_get(record, record_length(record), &view) == BROKER_OK)
        check_traits(m, q, msg, &view);
    message_timed(m, q, msg, record);
    model_trace(m, "stored %s seq %llu: priority %u, key %u, topic %u, id %u, due in %lld, expires in %lld", q->name,
                (unsigned long long)q->count, r->traits.priority, r->traits.key, r->traits.topic, r->traits.id,
                msg->due.wall_ms ? (long long)(msg->due.mono_ms - m->now.mono.ms) : 0,
                msg->expire.wall_ms ? (long long)(msg->expire.mono_ms - m->now.mono.ms) : 0);
    for (uint32_t g = 0; g < MODEL_GROUPS; g++) {
        if (q->groups[g].exists && !choice_takes(&q->groups[g].filter, msg))
            slot_settle(&q->groups[g].slots[q->count - 1], SURVIVES_POWER);
    }
}

static struct op_record *record_of(struct op *op, const uint8_t *record)
{
    for (uint32_t i = 0; i < op->record_count; i++) {
        if (record == op->bytes + op->records[i].offset)
            return &op->records[i];
    }
    return NULL;
}

/* A publish by name or one place of a publish by topic. */
void message_published(struct model *m, struct op *op, struct model_queue *q, uint64_t seq, const uint8_t *record,
                       uint64_t index)
{
    struct op_record *r = record_of(op, record);
    if (!r || (r->seq != 0 && r->queue != BY_TOPIC) || seq != q->count + 1) {
        model_fail(m, "append: %s got seq %llu after %llu", q->name, (unsigned long long)seq,
                   (unsigned long long)q->count);
        return;
    }
    for (uint64_t i = 0; r->number != 0 && i < q->count; i++) {
        if (q->messages[i].producer == r->producer && q->messages[i].number == r->number)
            model_fail(m, "stored twice: %s seq %llu and %llu are one publish", q->name, (unsigned long long)i + 1,
                       (unsigned long long)q->count + 1);
    }
    uint64_t known = id_surely_known(m, q, &r->traits, q->count);
    if (known != 0)
        model_fail(m, "stored twice: %s seq %llu and %llu have one id", q->name, (unsigned long long)known,
                   (unsigned long long)q->count + 1);
    check_limit_stored(m, q, r);
    queue_touched(m, (uint32_t)(q - m->queues));
    struct model_message *msg = message_add(m, q, record, index);
    msg->routed = record_queue(record) != q->id || record_seq(record) != seq;
    message_described(m, q, msg, r, record);
    r->seq = r->queue == BY_TOPIC ? r->seq + 1 : seq;
    r->index = index;
}

static void appended_publish(struct model *m, struct op *op, const struct append_item *items, uint32_t count,
                             uint64_t index)
{
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *record = items[i].record;
        if (record_type_of(record) != RECORD_MESSAGE)
            continue;
        bool routed = i > 0 && record_type_of(items[i - 1].record) == RECORD_ROUTE;
        const struct op_record *r = record_of(op, record);
        if (r && r->queue == BY_TOPIC) {
            route_appended(m, op, routed ? items[i - 1].record : NULL, record, index);
            continue;
        }
        struct model_queue *q = r ? &m->queues[r->queue] : NULL;
        if (!q || routed) {
            model_fail(m, "append: a message that nobody published, queue %u seq %llu", record_queue(record),
                       (unsigned long long)record_seq(record));
            return;
        }
        q->id = record_queue(record);
        message_published(m, op, q, record_seq(record), record, index);
    }
}

static bool is_publishing(const struct op *op)
{
    return op && (op->type == COMMAND_PUBLISH || op->type == COMMAND_TRANSACT);
}

/* A message beside the record that ends another one: it moved. */
static bool appended_move(struct model *m, const struct append_item *items, uint32_t count, uint64_t index)
{
    const uint8_t *copy = NULL, *end = NULL;
    for (uint32_t i = 0; i < count; i++) {
        uint8_t type = record_type_of(items[i].record);
        if (type == RECORD_MESSAGE)
            copy = items[i].record;
        else if (type == RECORD_SETTLE || type == RECORD_DELETE || type == RECORD_EXPIRE)
            end = items[i].record;
    }
    if (!copy || !end || count != 2)
        return false;
    model_moved(m, copy, end, index);
    return true;
}

static void appended_other(struct model *m, const uint8_t *record, uint64_t index)
{
    switch (record_type_of(record)) {
    case RECORD_DELETE:
    case RECORD_EXPIRE:
    case RECORD_TRIM: model_ended_messages(m, record, index); break;
    case RECORD_PURGE:
        if (!m->current || m->current->type != COMMAND_QUEUE_PURGE)
            model_ended_messages(m, record, index);
        break;
    case RECORD_QUEUE: queue_made_itself(m, record, index); break;
    case RECORD_QUEUE_DELETE: queue_went_itself(m, record, index); break;
    case RECORD_MESSAGE:
        model_fail(m, "append: a message that nobody published, queue %u seq %llu", record_queue(record),
                   (unsigned long long)record_seq(record));
        break;
    default: break;
    }
}

void model_appended(struct model *m, const struct append_item *items, uint32_t count, enum durability durability,
                    uint64_t index)
{
    struct op *op = m->current;
    if (record_queue(items[0].record) == UINT32_MAX) /* the broker's own notes */
        return;
    if (op && durability != DURABILITY_LAZY)
        op->index = index;
    if (op && durability == DURABILITY_SYNCED)
        op->synced_index = index;
    if (op && op->type == COMMAND_TRANSACT && op->step_index == 0)
        op->step_index = index;
    if (count > 1 && !(op && op->type == COMMAND_TRANSACT) && appended_move(m, items, count, index))
        return;
    if (is_publishing(op))
        appended_publish(m, op, items, count, index);
    for (uint32_t i = 0; i < count; i++) {
        if (!is_publishing(op) || record_type_of(items[i].record) != RECORD_MESSAGE)
            appended_other(m, items[i].record, index);
    }
}
