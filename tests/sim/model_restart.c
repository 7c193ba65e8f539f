/* What a crash may take, and whether what is there afterwards is enough. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"

static void slot_crash(struct slot *s, bool seeking, enum survives need)
{
    if (seeking && s->before != s->state)
        s->state = SLOT_FREE;
    if (s->state == SLOT_SETTLED && s->settled < need)
        s->state = SLOT_FREE;
    s->leased = false;
    s->attempts = 0;
    if (need == SURVIVES_POWER) {
        s->nacked_kill = s->nacked_power;
        s->due_kill = s->due_power;
    }
    bool kept = s->due.wall_ms == s->due_kill.wall_ms;
    s->due_unsure |= !kept && s->deliveries > 0; /* what was not confirmed may be there all the same */
    s->due = s->due_kill;
    s->rejected = s->rejected && s->rejected_how >= need;
}

static void queue_crash(struct model_queue *q, enum survives need)
{
    for (uint32_t g = 0; g < MODEL_GROUPS; g++) {
        struct model_group *group = &q->groups[g];
        if (!group->exists && !group->was)
            continue;
        for (uint64_t i = 0; i < q->count; i++)
            slot_crash(&group->slots[i], group->seeking, need);
        for (uint64_t i = 0; group->altering && i < q->count; i++) {
            if (group->slots[i].state == SLOT_BARRED || !choice_takes(&group->filter, &q->messages[i]))
                group->slots[i].state = SLOT_FREE;
        }
        if (group->seeking)
            group->top_first = 0;
        group->seeking = false;
    }
}

/* Acks that were refused half-way or not answered at all need nothing here: they are settled with SURVIVES_NOTHING. */
void model_crash(struct model *m, bool power)
{
    enum survives need = power ? SURVIVES_POWER : SURVIVES_KILL;
    model_times_crash(m);
    for (uint32_t i = 0; i < MODEL_QUEUES; i++) {
        if (m->queues[i].exists)
            queue_mark_gone(m, &m->queues[i]);
        queue_crash(&m->queues[i], need);
    }
    for (uint32_t i = 0; i < MODEL_SUBSCRIPTIONS; i++)
        m->subscriptions[i].live = false;
    for (uint32_t i = m->first_open; i < m->op_count; i++) {
        if (m->ops[i])
            op_forget(m, m->ops[i]);
    }
    for (uint32_t i = 0; i < CONNS_MAX; i++)
        m->conn_held[i] = false;
    m->current = NULL;
}

void model_restarted(struct model *m)
{
    m->durable_index = m->written_index = m->reported_index = 0;
    m->starts_since = 0;
}

/* Each start, also one that does not come to its end, writes at most one batch of its own. */
void model_started(struct model *m, uint64_t index)
{
    m->life++;
    m->last_index = index;
    m->sure_index = index + 1 < m->starts_since ? 0 : index + 1 - m->starts_since;
    m->turn++;
    m->ticked = m->rested = (struct moment){0};
    for (uint32_t i = 0; i < MODEL_QUEUES; i++)
        queue_touched(m, i);
}

void model_observed_messages(struct model *m)
{
    atoms_restarted(m);
    model_times_restarted(m);
}

void model_turn(struct model *m)
{
    m->turn++;
    for (uint32_t i = 0; i < MODEL_QUEUES; i++) {
        struct model_queue *q = &m->queues[i];
        if (q->born != 0 && q->born <= m->reported_index)
            q->born = 0;
        if (q->dying != 0 && q->dying <= m->reported_index) {
            control_settled(q);
            queue_reset(q);
        }
    }
}

static bool message_must_survive(const struct model *m, const struct model_message *msg, bool power)
{
    /* The log has no holes: what lies before something that is safe, is safe. */
    uint64_t safe = power || m->written_index < m->durable_index ? m->durable_index : m->written_index;
    return msg->survives >= (power ? SURVIVES_POWER : SURVIVES_KILL) || msg->index < safe ||
           (msg->index == safe && safe != 0);
}

void model_observe_messages(struct model *m, struct model_queue *q, const broker_queue_info *info, bool power)
{
    uint64_t last = info ? info->last_seq : 0;
    if (!info)
        return;
    if (last > q->count) {
        model_fail(m, "phantom: %s has seq %" PRIu64 " after the restart, published were %" PRIu64, q->name, last,
                   q->count);
        return;
    }
    for (uint64_t seq = last + 1; seq <= q->count; seq++) {
        const struct model_message *msg = &q->messages[seq - 1];
        m->lost++;
        if (message_must_survive(m, msg, power) || (msg->index != 0 && index_fate(m, msg->index) == FATE_SURE))
            model_fail(m, "lost: %s seq %" PRIu64 " (batch %" PRIu64 ", promised %d), last after the %s is %" PRIu64,
                       q->name, seq, msg->index, msg->survives, power ? "power cut" : "kill", last);
    }
    q->count = last;
    for (uint64_t i = 0; i < last; i++) {
        struct model_message *msg = &q->messages[i];
        if (msg->index != 0 && index_fate(m, msg->index) == FATE_GONE)
            model_fail(m, "phantom: %s seq %" PRIu64 " is there, its batch %" PRIu64 " is not (last is %" PRIu64 ")",
                       q->name, i + 1, msg->index, m->last_index);
        msg->index = 0;
        msg->turn = m->turn;
        msg->stored_mono_ms = (int64_t)m->now.mono.ms - (int64_t)(m->now.wall.ms - msg->time_ms);
    }
}

static bool dead_letter_equal(const struct model_queue *q, const char *a, const char *b)
{
    static const char *const none[] = {"", NULL};
    size_t len = strlen(q->name);
    const char *texts[] = {a ? a : none[0], b ? b : none[0]};
    for (uint32_t i = 0; i < 2; i++) { /* the name that it has unless another is set */
        if (strncmp(texts[i], q->name, len) == 0 && strcmp(texts[i] + len, ".dead") == 0)
            texts[i] = none[0];
    }
    return strcmp(texts[0], texts[1]) == 0;
}

static uint32_t backoff_max(const broker_queue_settings *s)
{
    return s->backoff_max_ms ? s->backoff_max_ms : 86400000;
}

static bool settings_equal(const struct model_queue *q, const broker_queue_settings *a, const broker_queue_settings *b)
{
    return a->retention == b->retention && a->sync == b->sync && a->lease_ms == b->lease_ms &&
           a->log_max_age_ms == b->log_max_age_ms && a->log_max_bytes == b->log_max_bytes &&
           a->log_max_messages == b->log_max_messages && a->max_attempts == b->max_attempts &&
           a->backoff == b->backoff && a->backoff_ms == b->backoff_ms && backoff_max(a) == backoff_max(b) &&
           a->backoff_jitter_percent == b->backoff_jitter_percent && a->ttl_ms == b->ttl_ms &&
           a->dead_letter_expired == b->dead_letter_expired && a->unused_ms == b->unused_ms &&
           a->dedup_ms == b->dedup_ms && a->dedup_count == b->dedup_count && a->max_messages == b->max_messages &&
           a->max_bytes == b->max_bytes && a->overflow == b->overflow && a->ordered_keys == b->ordered_keys &&
           a->fair_keys == b->fair_keys && a->compact == b->compact &&
           dead_letter_equal(q, a->dead_letter, b->dead_letter);
}

/* The broker's strings are its own. */
static void settings_take(struct model_queue *q, const broker_queue_settings *from)
{
    const char *dead_letter = q->settings.dead_letter;
    if (!dead_letter_equal(q, from->dead_letter, dead_letter))
        dead_letter = q->settings_was.dead_letter;
    q->settings = *from;
    q->settings.dead_letter = dead_letter;
    q->settings_was = q->settings;
}

static void observe_settings(struct model *m, struct model_queue *q, const broker_queue_info *info)
{
    bool changing = q->control != 0 && q->was;
    if (!settings_equal(q, &info->settings, &q->settings) &&
        !(changing && settings_equal(q, &info->settings, &q->settings_was)))
        model_fail(m, "settings: %s came back with others", q->name);
    if (info->paused != q->paused && !(changing && info->paused == q->paused_was))
        model_fail(m, "settings: %s came back %s", q->name, info->paused ? "paused" : "running");
    if (q->id != 0 && q->id != info->id)
        model_fail(m, "settings: %s came back with id %u for %u", q->name, info->id, q->id);
    settings_take(q, &info->settings);
    q->paused = q->paused_was = info->paused;
    q->id = info->id;
}

static bool text_is(const char *a, const char *b)
{
    return strcmp(a ? a : "", b) == 0;
}

static bool filter_is(const broker_filter *f, const struct choice *c)
{
    bool header = c->header == 0 ? f->header_count == 0
                                 : f->header_count == 1 && text_is(f->headers[0].name, "n") &&
                                       text_is(f->headers[0].value, model_header(c->header));
    return text_is(f->topic, model_pattern(c->pattern)) && text_is(f->key, model_key(c->key)) && header;
}

static void observe_group_settings(struct model *m, const struct model_queue *q, struct model_group *g,
                                   const broker_group_info *info)
{
    bool same = filter_is(&info->settings.filter, &g->filter),
         single = info->settings.single_active == g->single_active;
    if ((!same && !(g->altering && filter_is(&info->settings.filter, &g->filter_was))) || (!single && !g->altering))
        model_fail(m, "settings: group %s/%s came back with others", q->name, g->name);
    if (!same)
        g->filter = g->filter_was;
    g->filter_was = g->filter;
    g->single_active = info->settings.single_active;
    g->altering = false;
}

static void observe_group(struct model *m, const struct model_queue *q, struct model_group *g,
                          const broker_group_info *info)
{
    uint64_t wanted = 0, free_ones = 0, first_wanted = 0;
    for (uint64_t seq = 1; seq <= q->count; seq++) {
        const struct slot *s = &g->slots[seq - 1];
        if (s->state == SLOT_WANTED && first_wanted == 0)
            first_wanted = seq;
        wanted += s->state == SLOT_WANTED;
        free_ones += s->state == SLOT_FREE || s->state == SLOT_BARRED;
    }
    uint64_t there = info->lag;
    model_trace(m, "found %s/%s: floor %" PRIu64 ", cursor %" PRIu64 ", %" PRIu64 " of %" PRIu64 "+%" PRIu64, q->name,
                g->name, info->floor_seq, info->cursor_seq, there, wanted, free_ones);
    if (info->leased != 0)
        model_fail(m, "restart: %s/%s has %" PRIu64 " leases", q->name, g->name, info->leased);
    if (first_wanted != 0 && info->floor_seq >= first_wanted)
        model_fail(m, "lost: %s/%s is settled up to %" PRIu64 ", but %" PRIu64 " was not", q->name, g->name,
                   info->floor_seq, first_wanted);
    if (there < wanted || there > wanted + free_ones)
        model_fail(m, "restart: %s/%s has %" PRIu64 " messages, wanted %" PRIu64 " (and perhaps %" PRIu64 ")", q->name,
                   g->name, there, wanted, free_ones);
    if (info->cursor_seq > q->count + 1)
        model_fail(m, "restart: %s/%s stands at %" PRIu64 " of %" PRIu64, q->name, g->name, info->cursor_seq, q->count);
    if (g->top_first > q->count)
        g->top_first = q->count;
}

static const broker_group_info *group_info_of(const struct model_group *g, const broker_group_info *groups,
                                              size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const char *a = g->name, *b = groups[i].name;
        while (*a && *a == *b)
            a++, b++;
        if (*a == *b)
            return &groups[i];
    }
    return NULL;
}

static void observe_groups(struct model *m, struct model_queue *q, const broker_group_info *groups, size_t count)
{
    size_t known = 0;
    for (uint32_t i = 0; i < MODEL_GROUPS; i++) {
        struct model_group *g = &q->groups[i];
        const broker_group_info *info = group_info_of(g, groups, count);
        bool may_be = g->exists || (q->control != 0 && g->was);
        bool may_not_be = !g->exists || (q->control != 0 && !g->was);
        if (info ? !may_be : !may_not_be)
            model_fail(m, "restart: group %s/%s is %s", q->name, g->name, info ? "there" : "gone");
        g->exists = g->was = info != NULL;
        known += info != NULL;
        if (!info)
            group_reset(g);
    }
    queue_mark_gone(m, q); /* before the counts: what may be gone is not counted on */
    for (uint32_t i = 0; i < MODEL_GROUPS; i++) {
        if (q->groups[i].exists)
            observe_group_settings(m, q, &q->groups[i], group_info_of(&q->groups[i], groups, count));
        if (q->groups[i].exists)
            observe_group(m, q, &q->groups[i], group_info_of(&q->groups[i], groups, count));
    }
    if (known != count)
        model_fail(m, "restart: %s has %zu groups, known are %zu", q->name, count, known);
}

static uint32_t bits(uint8_t set)
{
    return (uint32_t)__builtin_popcount(set);
}

static void observe_bindings(struct model *m, struct model_queue *q, const broker_queue_info *info)
{
    if (info->bindings != bits(q->bound) && !(q->control != 0 && info->bindings == bits(q->bound_was)))
        model_fail(m, "restart: %s has %u bindings, wanted %u", q->name, info->bindings, bits(q->bound));
    if (info->bindings != bits(q->bound))
        q->bound = q->bound_was;
    q->bound_was = q->bound;
}

void model_observe(struct model *m, struct model_queue *q, const broker_queue_info *info,
                   const broker_group_info *groups, size_t group_count, bool power)
{
    bool gone = q->dying != 0 && index_fate(m, q->dying) == FATE_SURE;
    bool may_be = (q->exists || (q->control != 0 && q->was)) && !gone;
    bool may_not_be =
        !q->exists || (q->control != 0 && !q->was) || (q->born != 0 && index_fate(m, q->born) != FATE_SURE);
    q->born = q->dying = 0;
    if (info ? !may_be : !may_not_be) {
        model_fail(m, "restart: %s is %s", q->name, info ? "there" : "gone");
        return;
    }
    if (!info) {
        if (q->exists || q->was)
            queue_reset(q);
        q->was = false;
        q->control = 0;
        return;
    }
    q->exists = true;
    observe_bindings(m, q, info);
    observe_settings(m, q, info);
    observe_groups(m, q, groups, group_count);
    q->was = true;
    q->control = 0;
}

bool model_must_have(const struct model_queue *q, uint64_t seq)
{
    for (uint32_t g = 0; g < MODEL_GROUPS; g++) {
        if (q->groups[g].exists && q->groups[g].slots[seq - 1].state == SLOT_WANTED)
            return true;
    }
    return false;
}

void model_check_drained(struct model *m)
{
    for (uint32_t i = 0; i < MODEL_QUEUES; i++) {
        struct model_queue *q = &m->queues[i];
        if (!q->exists)
            continue;
        queue_mark_gone(m, q);
        for (uint32_t g = 0; g < MODEL_GROUPS; g++) {
            for (uint64_t seq = 1; q->groups[g].exists && seq <= q->count; seq++) {
                const struct slot *s = &q->groups[g].slots[seq - 1];
                bool may_wait = s->deliveries > 0 && m->clock_went_back; /* the time of a nack that was not confirmed */
                may_wait |= q->messages[seq - 1].due_unsure;
                may_wait |= m->clock_went_back && !key_is_free(q, &q->groups[g], seq);
                if (s->state == SLOT_WANTED && !may_wait && moment_is_due(m, &q->messages[seq - 1].due) &&
                    moment_is_due(m, &s->due))
                    model_fail(m, "lost: %s/%s seq %" PRIu64 " of %" PRIu64 " was never delivered", q->name,
                               q->groups[g].name, seq, q->count);
            }
        }
    }
    if (ops_open(m) != 0) {
        const struct op *op = m->ops[m->first_open];
        model_fail(m, "%u answers never came, the first to %s #%u", ops_open(m), model_op_name(op->type),
                   op->correlation);
    }
}

void model_observe_drained(struct model *m, struct model_queue *q, const broker_queue_info *info)
{
    uint64_t waiting = 0;
    if (!info || m->may_refuse || q->altered || m->clock_went_back || q->settings.retention == BROKER_RETENTION_LOG ||
        q->settings_was.retention == BROKER_RETENTION_LOG)
        return;
    for (uint64_t seq = 1; seq <= q->count; seq++) {
        bool waits = !moment_is_due(m, &q->messages[seq - 1].due) || q->messages[seq - 1].due_unsure;
        for (uint32_t g = 0; g < MODEL_GROUPS; g++)
            waits |= q->groups[g].exists && !moment_is_due(m, &q->groups[g].slots[seq - 1].due);
        const struct moment *expire = &q->messages[seq - 1].expire; /* past by one clock, and gone once it is by both */
        waits |= expire->wall_ms != 0 && !moment_is_past(m, expire);
        waiting += waits;
    }
    if (info->messages > waiting)
        model_fail(m, "drained: %s still has %" PRIu64 " messages, of which %" PRIu64 " may wait for their time",
                   q->name, info->messages, waiting);
}
