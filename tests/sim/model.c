#include "model.h"

#include <assert.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <wire.h>

static void *must(void *p)
{
    if (!p)
        abort();
    return p;
}

void model_init(struct model *m, bool trace)
{
    *m = (struct model){.trace = trace, .platter_index = UINT64_MAX, .system_index = UINT64_MAX};
    for (uint32_t i = 0; i < MODEL_QUEUES; i++) {
        snprintf(m->queues[i].name, sizeof(m->queues[i].name), "queue%u", i);
        for (uint32_t g = 0; g < MODEL_GROUPS; g++) {
            struct model_group *group = &m->queues[i].groups[g];
            if (g == 0)
                snprintf(group->name, sizeof(group->name), "default");
            else
                snprintf(group->name, sizeof(group->name), "group%u", g);
        }
    }
}

void model_release(struct model *m)
{
    for (uint32_t i = 0; i < MODEL_QUEUES; i++) {
        for (uint32_t g = 0; g < MODEL_GROUPS; g++)
            free(m->queues[i].groups[g].slots);
        free(m->queues[i].messages);
    }
    for (uint32_t i = 0; i < m->op_count; i++) {
        if (m->ops[i])
            op_forget(m, m->ops[i]);
    }
    free(m->ops);
}

static void *copy_of(const void *bytes, size_t used, size_t room)
{
    void *copy = must(malloc(room + 1));
    if (used)
        memcpy(copy, bytes, used);
    return copy;
}

void model_copy(struct model *to, const struct model *from)
{
    *to = *from;
    for (uint32_t i = 0; i < MODEL_QUEUES; i++) {
        struct model_queue *q = &to->queues[i];
        q->messages = copy_of(q->messages, q->count * sizeof(*q->messages), q->cap * sizeof(*q->messages));
        for (uint32_t g = 0; g < MODEL_GROUPS; g++)
            q->groups[g].slots =
                copy_of(q->groups[g].slots, q->count * sizeof(struct slot), q->cap * sizeof(struct slot));
    }
    to->ops = copy_of(from->ops, from->op_count * sizeof(*from->ops), from->op_cap * sizeof(*from->ops));
    for (uint32_t i = from->first_open; i < from->op_count; i++) {
        if (!from->ops[i])
            continue;
        to->ops[i] = copy_of(from->ops[i], sizeof(struct op), sizeof(struct op));
        if (from->ops[i]->bytes)
            to->ops[i]->bytes = copy_of(from->ops[i]->bytes, from->ops[i]->len, from->ops[i]->len);
    }
}

bool model_failed(const struct model *m)
{
    return m->failure[0] != 0;
}

void model_fail(struct model *m, const char *format, ...)
{
    if (model_failed(m))
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(m->failure, sizeof(m->failure), format, args);
    va_end(args);
    model_trace(m, "BROKEN: %s", m->failure);
}

void model_trace(const struct model *m, const char *format, ...)
{
    if (!m->trace)
        return;
    va_list args;
    va_start(args, format);
    printf("  ");
    vprintf(format, args);
    putchar('\n');
    va_end(args);
}

const char *model_op_name(enum command_type type)
{
    static const char *const names[COMMAND_TYPES] = {
        "publish", "subscribe", "unsubscribe",  "credit",       "hold",   "unhold",  "lease",  "ack",
        "nack",    "extend",    "create",       "alter",        "delete", "pause",   "resume", "purge",
        "list",    "describe",  "group create", "group delete", "seek",   "barrier", "close"};
    return type < COMMAND_TYPES ? names[type] : "?";
}

/* ---- queues, messages, slots ------------------------------------------------------------------------------------------ */

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

void queue_mark_gone(struct model *m, struct model_queue *q)
{
    for (uint64_t seq = 1; seq <= q->count; seq++) {
        struct model_message *msg = &q->messages[seq - 1];
        bool trimmable = q->settings.retention == BROKER_RETENTION_LOG && message_is_trimmable(m, q, seq);
        bool wanted = false;
        for (uint32_t g = 0; g < MODEL_GROUPS; g++) {
            if (!q->groups[g].exists)
                continue;
            struct slot *s = &q->groups[g].slots[seq - 1];
            if (trimmable && s->state == SLOT_WANTED)
                s->state = SLOT_FREE;
            wanted |= s->state == SLOT_WANTED;
        }
        if (trimmable || (!wanted && q->settings.retention != BROKER_RETENTION_LOG))
            msg->maybe_gone = true;
    }
}

void group_reset(struct model_group *g)
{
    g->exists = false;
    g->top_first = 0;
}

void queue_reset(struct model_queue *q)
{
    q->exists = q->paused = false;
    q->id = 0;
    q->count = 0;
    q->incarnation++;
    for (uint32_t g = 0; g < MODEL_GROUPS; g++)
        group_reset(&q->groups[g]);
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

static uint64_t record_hash(const uint8_t *record)
{
    uint32_t len = record_length(record);
    return ((uint64_t)crc32c(0, record + 8, len - 8) << 32) | len;
}

void model_check_bytes(struct model *m, const struct model_queue *q, uint64_t seq, const uint8_t *record)
{
    if (seq == 0 || seq > q->count) {
        model_fail(m, "phantom: %s seq %llu was never published (last is %llu)", q->name, (unsigned long long)seq,
                   (unsigned long long)q->count);
        return;
    }
    const struct model_message *msg = &q->messages[seq - 1];
    if (record_seq(record) != seq || record_hash(record) != msg->hash ||
        get_u32(record + 4) != (uint32_t)(msg->hash >> 32))
        model_fail(m, "wrong bytes: %s seq %llu is not what was published", q->name, (unsigned long long)seq);
}

static void appended_message(struct model *m, struct op *op, const uint8_t *record, uint64_t index)
{
    struct model_queue *q = &m->queues[op->queue];
    struct op_record *r = NULL;
    for (uint32_t i = 0; i < op->count; i++) {
        if (record == op->bytes + op->u.records[i].offset)
            r = &op->u.records[i];
    }
    if (!r || r->seq != 0 || record_seq(record) != q->count + 1) {
        model_fail(m, "append: %s got seq %llu after %llu", q->name, (unsigned long long)record_seq(record),
                   (unsigned long long)q->count);
        return;
    }
    for (uint64_t i = 0; r->number != 0 && i < q->count; i++) {
        if (q->messages[i].producer == r->producer && q->messages[i].number == r->number)
            model_fail(m, "stored twice: %s seq %llu and %llu are one publish", q->name, (unsigned long long)i + 1,
                       (unsigned long long)q->count + 1);
    }
    queue_grow(q);
    const struct model_message *before = q->count ? &q->messages[q->count - 1] : NULL;
    q->id = record_queue(record);
    q->messages[q->count] = (struct model_message){.publish = r->publish,
                                                   .hash = record_hash(record),
                                                   .index = index,
                                                   .time_ms = get_u64(record + 24),
                                                   .bytes_before = before ? before->bytes_before + before->padded : 0,
                                                   .padded = record_padded(record),
                                                   .producer = r->producer,
                                                   .number = r->number};
    for (uint32_t g = 0; g < MODEL_GROUPS; g++)
        q->groups[g].slots[q->count] = (struct slot){.state = SLOT_WANTED, .before = SLOT_WANTED};
    r->seq = ++q->count;
    r->index = index;
}

void model_appended(struct model *m, const uint8_t *record, uint64_t index)
{
    struct op *op = m->current;
    if (op)
        op->index = index;
    if (record_type_of(record) != RECORD_MESSAGE)
        return;
    if (!op || op->type != COMMAND_PUBLISH)
        model_fail(m, "append: a message that nobody published, queue %u seq %llu", record_queue(record),
                   (unsigned long long)record_seq(record));
    else
        appended_message(m, op, record, index);
}

/* ---- operations ----------------------------------------------------------------------------------------------------------- */

struct op *op_new(struct model *m, enum command_type type, uint32_t queue, uint32_t group)
{
    if (m->op_count == m->op_cap) {
        m->op_cap = m->op_cap ? m->op_cap * 2 : 64;
        m->ops = must(realloc(m->ops, m->op_cap * sizeof(*m->ops)));
    }
    struct op *op = must(calloc(1, sizeof(*op)));
    m->ops[m->op_count++] = op;
    *op = (struct op){.correlation = m->op_count, .type = type, .conn = 1, .queue = queue, .group = group};
    op->incarnation = m->queues[queue].incarnation;
    return op;
}

struct op *op_find(struct model *m, uint32_t correlation)
{
    return correlation == 0 || correlation > m->op_count ? NULL : m->ops[correlation - 1];
}

void op_forget(struct model *m, struct op *op)
{
    m->ops[op->correlation - 1] = NULL;
    while (m->first_open < m->op_count && !m->ops[m->first_open])
        m->first_open++;
    free(op->bytes);
    free(op);
}

uint32_t ops_open(const struct model *m)
{
    uint32_t n = 0;
    for (uint32_t i = m->first_open; i < m->op_count; i++)
        n += m->ops[i] && m->ops[i]->type != COMMAND_LEASE;
    return n;
}

void model_submit_begin(struct model *m, struct op *op)
{
    op->submitting = true;
    m->current = op;
    if (op->type == COMMAND_PUBLISH)
        op->asked = queue_survives(&m->queues[op->queue], op->sync);
}

static bool refusal_is_plain(broker_error error)
{
    return error == BROKER_DISK_FULL || error == BROKER_OVERLOADED || error == BROKER_NO_MEMORY || error == BROKER_IO;
}

/* A command failed. Which failures are right depends on the history; those of a full disk only where there is one. */
static void op_refused(struct model *m, struct op *op, const char *text)
{
    m->refused++;
    model_trace(m, "refused %s #%u: %s: %s", model_op_name(op->type), op->correlation, broker_error_name(op->error),
                text ? text : "(no text)");
    if (!text)
        model_fail(m, "%s failed with %s and without a text", model_op_name(op->type), broker_error_name(op->error));
    if (refusal_is_plain(op->error) && !m->may_refuse)
        model_fail(m, "%s refused with %s for no reason: %s", model_op_name(op->type), broker_error_name(op->error),
                   text);
    const struct model_queue *q = &m->queues[op->queue];
    bool going = m->current && (m->current->type == COMMAND_QUEUE_DELETE || m->current->type == COMMAND_GROUP_DELETE);
    if (!going && q->exists &&
        (op->error == BROKER_QUEUE_NOT_FOUND || (op->error == BROKER_GROUP_NOT_FOUND && q->groups[op->group].exists)))
        model_fail(m, "%s: %s", model_op_name(op->type), text);
    if (op->error == BROKER_INVALID_ARGUMENT && op->type != COMMAND_GROUP_DELETE) /* a queue keeps one group */
        model_fail(m, "%s refused with INVALID_ARGUMENT: %s", model_op_name(op->type), text);
    if (op->error == BROKER_MALFORMED || op->error == BROKER_UNKNOWN_COMMAND || op->error == BROKER_INTERNAL)
        model_fail(m, "%s refused with %s: %s", model_op_name(op->type), broker_error_name(op->error), text);
}

void model_submit_end(struct model *m, struct op *op, const struct command *c)
{
    m->current = NULL;
    op->submitting = false;
    if (!op->done || op->error == BROKER_OK)
        model_applied(m, op, c);
    if (op->done) {
        if (op->error == BROKER_OK)
            model_confirmed(m, op, NULL);
        op_forget(m, op);
    }
}

void model_completed(struct model *m, const struct completion *c)
{
    struct op *op = op_find(m, c->token.correlation);
    if (!op || op->done || op->type != c->type || op->conn != c->token.conn) {
        model_fail(m, "an answer (%s #%u) that nobody waits for", model_op_name(c->type), c->token.correlation);
        return;
    }
    op->done = true;
    op->error = c->error;
    if (c->error)
        op_refused(m, op, c->text);
    if (op->type == COMMAND_PUBLISH)
        publish_completed(m, op, c);
    else if (op->type == COMMAND_ACK || op->type == COMMAND_NACK || op->type == COMMAND_EXTEND) {
        if (op->submitting && !c->error) /* answered at once: take effect first */
            settle_applied(m, op);
        settle_completed(m, op, c);
    } else if (op->type == COMMAND_LEASE && !c->error)
        model_leased(m, op, &c->u.lease);
    if (op->submitting)
        return;
    if (op->error == BROKER_OK)
        model_confirmed(m, op, c);
    op_forget(m, op);
}
