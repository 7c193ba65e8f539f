#include "model.h"

#include <assert.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <wire.h>

void *must(void *p)
{
    if (!p)
        abort();
    return p;
}

void model_init(struct model *m, bool trace)
{
    *m = (struct model){.trace = trace, .platter_index = UINT64_MAX, .system_index = UINT64_MAX};
    m->turn = 1;
    for (uint32_t i = 0; i < MODEL_QUEUES; i++) {
        snprintf(m->queues[i].name, sizeof(m->queues[i].name), i < MODEL_PLAIN ? "queue%u" : "queue%u.dead",
                 i % MODEL_PLAIN);
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
    free(m->atoms);
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
    to->atoms = copy_of(from->atoms, from->atom_count * sizeof(*from->atoms), from->atom_cap * sizeof(*from->atoms));
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
        "publish",     "subscribe", "unsubscribe",  "credit",       "hold",    "unhold",      "lease",  "ack",
        "nack",        "extend",    "create",       "alter",        "delete",  "pause",       "resume", "purge",
        "list",        "describe",  "group create", "group delete", "seek",    "group alter", "bind",   "unbind",
        "transaction", "scan",      "reschedule",   "read",         "barrier", "close"};
    return type < COMMAND_TYPES ? names[type] : "?";
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

bool op_may_wait(const struct op *op)
{
    return op->type == COMMAND_LEASE || op->type == COMMAND_READ;
}

uint32_t ops_open(const struct model *m)
{
    uint32_t n = 0;
    for (uint32_t i = m->first_open; i < m->op_count; i++)
        n += m->ops[i] && !op_may_wait(m->ops[i]);
    return n;
}

/* By topic or to several queues: what the laxest of them promises can be relied on. */
static enum survives op_survives(const struct model *m, const struct op *op)
{
    enum survives how = SURVIVES_POWER;
    for (uint32_t i = 0; i < op->record_count; i++) {
        for (uint32_t k = 0; k < MODEL_QUEUES; k++) {
            const struct model_queue *q = &m->queues[k];
            bool there = op->records[i].queue == BY_TOPIC ? model_is_bound(q, op->records[i].traits.topic)
                                                          : op->records[i].queue == k;
            if (there && queue_survives(q, op->sync) < how)
                how = queue_survives(q, op->sync);
        }
    }
    return how;
}

/* Does it keep a queue from counting as unused? */
static bool is_use(enum command_type type)
{
    return type == COMMAND_SUBSCRIBE || type == COMMAND_LEASE || type == COMMAND_READ || type == COMMAND_QUEUE_CREATE ||
           type == COMMAND_QUEUE_ALTER;
}

void model_submit_begin(struct model *m, struct op *op)
{
    op->submitting = true;
    op->begun = m->now;
    m->current = op;
    if (op->type == COMMAND_PUBLISH || op->type == COMMAND_TRANSACT) {
        op->asked = op_survives(m, op);
        limits_begun(m, op);
    } else if (op->type == COMMAND_SCAN)
        scan_begun(m, op);
    else if (op->type == COMMAND_RESCHEDULE)
        reschedule_begun(m, op);
    else if (op->type == COMMAND_READ)
        read_begun(m, op);
    if (is_use(op->type))
        queue_touched(m, op->queue);
}

bool refusal_is_plain(broker_error error)
{
    return error == BROKER_DISK_FULL || error == BROKER_OVERLOADED || error == BROKER_NO_MEMORY || error == BROKER_IO;
}

/* A command failed. Which failures are right depends on the history; those of a full disk only where there is one. */
static void op_refused(struct model *m, struct op *op, const char *text)
{
    m->refused++;
    if (op->type == COMMAND_RESCHEDULE)
        reschedule_refused(m, op);
    model_trace(m, "refused %s #%u: %s: %s", model_op_name(op->type), op->correlation, broker_error_name(op->error),
                text ? text : "(no text)");
    if (!text)
        model_fail(m, "%s failed with %s and without a text", model_op_name(op->type), broker_error_name(op->error));
    if (refusal_is_plain(op->error) && !m->may_refuse)
        model_fail(m, "%s refused with %s for no reason: %s", model_op_name(op->type), broker_error_name(op->error),
                   text);
    const struct model_queue *q = &m->queues[op->queue];
    bool going = m->current && (m->current->type == COMMAND_QUEUE_DELETE || m->current->type == COMMAND_GROUP_DELETE);
    bool target = op->type == COMMAND_SCAN && op->u.scan.target != 0 && !m->queues[op->u.scan.target - 1].exists;
    if (!going && q->exists &&
        ((op->error == BROKER_QUEUE_NOT_FOUND && !target) ||
         (op->error == BROKER_GROUP_NOT_FOUND && q->groups[op->group].exists)))
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
    } else if (op->type == COMMAND_TRANSACT) {
        if (op->submitting && !c->error)
            transact_applied(m, op);
        transact_completed(m, op, c);
    } else if (op->type == COMMAND_SCAN)
        scan_completed(m, op, c);
    else if (op->type == COMMAND_READ)
        read_completed(m, op, c);
    else if (op->type == COMMAND_LEASE && !c->error)
        model_leased(m, op, &c->u.lease);
    if (op->submitting)
        return;
    if (op->error == BROKER_OK)
        model_confirmed(m, op, c);
    op_forget(m, op);
}
