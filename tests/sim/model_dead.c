/* What the broker does to messages by itself or for a scan: dead letters, expiry, drops, moves. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <wire.h>

#include "model.h"

/* ---- atoms ------------------------------------------------------------------------------------------------------------- */

struct atom *atom_new(struct model *m, uint64_t index)
{
    if (m->atom_count == m->atom_cap) {
        m->atom_cap = m->atom_cap ? m->atom_cap * 2 : 16;
        m->atoms = realloc(m->atoms, m->atom_cap * sizeof(*m->atoms));
        if (!m->atoms)
            abort();
    }
    struct atom *a = &m->atoms[m->atom_count++];
    *a = (struct atom){.index = index, .life = m->life};
    return a;
}

void atom_settle(struct model *m, struct atom *a, uint32_t queue, uint32_t group, uint64_t seq)
{
    struct model_queue *q = &m->queues[queue];
    struct slot *s = &q->groups[group].slots[seq - 1];
    s->leased = false;
    if (s->state == SLOT_SETTLED)
        return;
    if (a->slot_count == ATOM_SLOTS)
        abort(); /* no part of the history makes greater ones */
    a->slots[a->slot_count++] = (struct atom_slot){.queue = queue,
                                                   .incarnation = q->incarnation,
                                                   .group = group,
                                                   .moves = q->groups[group].moves,
                                                   .seq = seq,
                                                   .was = s->state};
    slot_settle(s, SURVIVES_NOTHING);
}

enum fate index_fate(const struct model *m, uint64_t index)
{
    return index <= m->sure_index ? FATE_SURE : index > m->last_index ? FATE_GONE : FATE_OPEN;
}

/* Each atom's batch is there or not: so are its effects. What this process did already, is in flight. */
void atoms_restarted(struct model *m)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < m->atom_count; i++) {
        const struct atom *a = &m->atoms[i];
        if (a->life == m->life) {
            m->atoms[kept++] = *a;
            continue;
        }
        enum fate fate = index_fate(m, a->index);
        for (uint32_t k = 0; k < a->slot_count; k++) {
            const struct atom_slot *as = &a->slots[k];
            struct model_queue *q = &m->queues[as->queue];
            struct model_group *g = &q->groups[as->group];
            if (q->incarnation != as->incarnation || !g->exists || g->moves != as->moves || as->seq > q->count)
                continue;
            struct slot *s = &g->slots[as->seq - 1];
            if (s->state != SLOT_FREE)
                continue;
            if (fate == FATE_SURE)
                slot_settle(s, SURVIVES_POWER);
            else if (fate == FATE_GONE)
                s->state = as->was;
        }
    }
    m->atom_count = kept;
}

/* ---- records that end messages ------------------------------------------------------------------------------------------- */

struct end { /* of messages first..last of a queue */
    uint8_t type;
    uint32_t queue;
    uint64_t first, last;
    uint64_t index;
};

static void end_everywhere(struct model *m, const struct end *e, uint64_t seq)
{
    struct atom *a = atom_new(m, e->index);
    struct model_queue *q = &m->queues[e->queue];
    for (uint32_t g = 0; g < MODEL_GROUPS; g++) {
        if (q->groups[g].exists)
            atom_settle(m, a, e->queue, g, seq);
    }
    q->messages[seq - 1].maybe_gone = true;
    q->messages[seq - 1].deleted_index = e->index;
}

/* Gone for each group that never had it; for the others when it comes back. */
static void expired_one(struct model *m, const struct end *e, uint64_t seq, bool copied)
{
    struct model_queue *q = &m->queues[e->queue];
    struct model_message *msg = &q->messages[seq - 1];
    bool had = false;
    if (!message_is_perhaps_over(m, msg))
        model_fail(m, "expired: %s seq %" PRIu64 " has %" PRIu64 " ms left", q->name, seq,
                   msg->expire.wall_ms ? msg->expire.mono_ms - m->now.mono.ms : 0);
    struct atom *a = atom_new(m, e->index);
    for (uint32_t g = 0; g < MODEL_GROUPS; g++) {
        struct slot *s = q->groups[g].exists ? &q->groups[g].slots[seq - 1] : NULL;
        had |= s && (s->deliveries > 0 || s->state == SLOT_SETTLED || msg->maybe_gone);
        if (s && s->deliveries == 0)
            atom_settle(m, a, e->queue, g, seq);
    }
    m->expired++;
    if (!copied && !had && q->settings.dead_letter_expired && !q->altered)
        model_fail(m, "expired: %s seq %" PRIu64 " is gone and was to be dead-lettered", q->name, seq);
    msg->maybe_gone = true;
}

static const struct op *scan_of(const struct model *m, const struct model_queue *q)
{
    for (uint32_t i = m->first_open; i < m->op_count; i++) {
        if (m->ops[i] && m->ops[i]->correlation == q->scan && m->ops[i]->type == COMMAND_SCAN)
            return m->ops[i];
    }
    return NULL;
}

static uint64_t not_dead(const struct model_queue *q, uint64_t *bytes)
{
    uint64_t n = 0;
    *bytes = 0;
    for (uint64_t seq = 1; seq <= q->count; seq++) {
        if (message_is_dead(q, seq))
            continue;
        n++;
        *bytes += q->messages[seq - 1].padded;
    }
    return n;
}

/* The newest of a key stays; what it stands before may go. */
static void compacted_one(struct model *m, const struct end *e, uint64_t seq)
{
    struct model_queue *q = &m->queues[e->queue];
    if (!q->messages[seq - 1].maybe_gone)
        model_fail(m, "compacted: %s seq %" PRIu64 " of key %u goes, and is the newest", q->name, seq,
                   q->messages[seq - 1].traits.key);
    end_everywhere(m, e, seq);
}

/* A full queue lets its oldest go. */
static void dropped_one(struct model *m, const struct end *e, uint64_t seq)
{
    struct model_queue *q = &m->queues[e->queue];
    const broker_queue_settings *s = &q->settings;
    uint64_t bytes, messages = not_dead(q, &bytes);
    bool full =
        (s->max_messages && messages > s->max_messages) || s->max_bytes != 0; /* bytes are counted in runs: about */
    bool altering = m->current && m->current->type == COMMAND_QUEUE_ALTER;
    if (!q->altered && !altering && (s->overflow != BROKER_OVERFLOW_DROP_OLDEST || !full))
        model_fail(m, "dropped: %s seq %" PRIu64 " goes for no reason (%" PRIu64 " messages, %" PRIu64 " bytes)",
                   q->name, seq, messages, bytes);
    m->dropped++;
    for (uint64_t older = 1; older < seq; older++) {
        if (message_is_alive(q, older))
            model_fail(m, "dropped: %s seq %" PRIu64 " goes before %" PRIu64, q->name, seq, older);
    }
    if (e->type != RECORD_TRIM)
        end_everywhere(m, e, seq);
}

/* A log lets it go. Who has a lease on it keeps that. */
static void trimmed_one(struct model *m, const struct end *e, uint64_t seq)
{
    struct model_queue *q = &m->queues[e->queue];
    if (!q->messages[seq - 1].maybe_gone)
        dropped_one(m, e, seq);
    q->messages[seq - 1].maybe_gone = true;
    for (uint32_t g = 0; g < MODEL_GROUPS; g++) {
        struct slot *s = &q->groups[g].slots[seq - 1];
        if (q->groups[g].exists && s->state != SLOT_SETTLED)
            s->state = SLOT_FREE;
    }
}

static void deleted_one(struct model *m, const struct end *e, uint64_t seq)
{
    struct model_queue *q = &m->queues[e->queue];
    struct op *scan = (struct op *)scan_of(m, q);
    bool scanned = scan && scan->u.scan.action == SCAN_DELETE && scan_covers(m, scan, q, seq);
    if (!scanned && q->settings.retention == BROKER_RETENTION_LOG && (q->settings.compact || q->altered)) {
        compacted_one(m, e, seq);
        return;
    }
    if (!scan || scan->u.scan.action != SCAN_DELETE) {
        model_fail(m, "deleted: %s seq %" PRIu64 ", which nobody asked for", q->name, seq);
        return;
    }
    if (!scan_covers(m, scan, q, seq))
        model_fail(m, "scan: %s seq %" PRIu64 " was deleted and is not meant", q->name, seq);
    scan->u.scan.seen++;
    end_everywhere(m, e, seq);
}

static void ended_range(struct model *m, const struct end *e)
{
    struct model_queue *q = &m->queues[e->queue];
    for (uint64_t seq = e->first; seq <= e->last && seq <= q->count && !model_failed(m); seq++) {
        if (e->type == RECORD_EXPIRE)
            expired_one(m, e, seq, false);
        else if (e->type == RECORD_DELETE)
            deleted_one(m, e, seq);
        else if (e->type == RECORD_TRIM)
            trimmed_one(m, e, seq);
        else if (!message_is_dead(q, seq))
            dropped_one(m, e, seq);
    }
}

void model_ended_messages(struct model *m, const uint8_t *record, uint64_t index)
{
    struct model_queue *q = queue_of_id(m, record_queue(record));
    const uint8_t *body = record + RECORD_HEAD_BYTES;
    if (!q)
        return;
    struct end e = {.type = record_type_of(record), .queue = (uint32_t)(q - m->queues), .first = 1, .index = index};
    queue_mark_gone(m, q);
    if (e.type == RECORD_TRIM || e.type == RECORD_PURGE) {
        e.last = get_u64(body);
        model_trace(m, "%s goes up to %" PRIu64, q->name, e.last);
        ended_range(m, &e);
        return;
    }
    for (uint32_t i = 0; i < get_u32(body + 4); i++) {
        e.first = get_u64(body + 8 + i * 16);
        e.last = get_u64(body + 16 + i * 16);
        model_trace(m, "%s %s seq %" PRIu64 "..%" PRIu64, e.type == RECORD_EXPIRE ? "expired" : "deleted", q->name,
                    e.first, e.last);
        ended_range(m, &e);
    }
}

/* ---- a message moves --------------------------------------------------------------------------------------------------------- */

/* The text header of that name; "" if there is none. */
static void header_text(const struct record_view *view, const char *name, char *out, size_t room)
{
    const uint8_t *end = view->headers + view->head.headers_len;
    uint32_t pairs = 0;
    const uint8_t *p = view->head.headers_len ? wire_skip_map(view->headers, end, &pairs) : NULL;
    out[0] = 0;
    for (uint32_t i = 0; p && i < pairs; i++) {
        const char *text = NULL;
        size_t len = 0;
        p = wire_skip_text(p, end, &text, &len);
        bool is = p && len == strlen(name) && memcmp(text, name, len) == 0;
        const uint8_t *value = p;
        p = p ? wire_skip(p, end) : NULL;
        if (is && p && wire_skip_text(value, end, &text, &len) && len < room) {
            memcpy(out, text, len);
            out[len] = 0;
        }
    }
}

static uint64_t header_number(const struct record_view *view, const char *name)
{
    char text[32];
    header_text(view, name, text, sizeof(text));
    return strtoull(text, NULL, 10);
}

static void check_same(struct model *m, const struct model_queue *from, uint64_t seq, const struct record_view *view)
{
    const struct model_message *msg = &from->messages[seq - 1];
    uint64_t hash = ((uint64_t)crc32c(0, view->body, view->body_len) << 32) | view->body_len;
    if (hash != msg->body_hash || (view->head.key_len != 0) != (msg->traits.key != 0) ||
        (view->head.topic_len != 0) != (msg->traits.topic != 0) || view->head.priority != msg->traits.priority)
        model_fail(m, "moved: %s seq %" PRIu64 " changed on the way", from->name, seq);
}

/* The copy's place in its new queue. */
static void copy_added(struct model *m, struct model_queue *to, const struct model_message *original,
                       const uint8_t *copy, uint64_t index)
{
    if (record_seq(copy) != to->count + 1) {
        model_fail(m, "moved: to %s seq %" PRIu64 " after %" PRIu64, to->name, record_seq(copy), to->count);
        return;
    }
    struct model_message kept = *original;
    struct model_message *msg = message_add(m, to, copy, index);
    msg->publish = kept.publish;
    msg->traits = kept.traits;
    msg->traits.due_ms = 0;
    msg->copied = true;
    msg->asked = queue_survives(to, BROKER_SYNC_DEFAULT);
    message_timed(m, to, msg, copy);
    for (uint32_t g = 0; g < MODEL_GROUPS; g++) {
        if (to->groups[g].exists && !choice_takes(&to->groups[g].filter, msg))
            slot_settle(&to->groups[g].slots[to->count - 1], SURVIVES_POWER);
    }
    m->moved++;
}

static const char *dead_letter_name(const struct model *m, const struct model_queue *q)
{
    const char *own = q->settings.dead_letter;
    return own && own[0] ? own : m->queues[(q - m->queues) % MODEL_PLAIN + MODEL_PLAIN].name;
}

static void check_dead_headers(struct model *m, const struct end *e, const struct record_view *view,
                               const struct model_queue *to)
{
    const struct model_queue *q = &m->queues[e->queue];
    char queue[32];
    header_text(view, "dead-queue", queue, sizeof(queue));
    if (strcmp(queue, q->name) != 0 || header_number(view, "dead-seq") != e->first)
        model_fail(m, "dead letter: of %s seq %" PRIu64 " says it is %s seq %" PRIu64, q->name, e->first, queue,
                   header_number(view, "dead-seq"));
    if (header_number(view, "dead-published-ms") != q->messages[e->first - 1].time_ms)
        model_fail(m, "dead letter: of %s seq %" PRIu64 " says it was published at %" PRIu64, q->name, e->first,
                   header_number(view, "dead-published-ms"));
    if (header_number(view, "dead-time-ms") > m->now.wall.ms)
        model_fail(m, "dead letter: of %s seq %" PRIu64 " died in the future", q->name, e->first);
    if (!q->altered && strcmp(to->name, dead_letter_name(m, q)) != 0)
        model_fail(m, "dead letter: of %s goes to %s", q->name, to->name);
}

static struct model_group *dead_group(struct model_queue *q, const struct record_view *view)
{
    char name[32];
    header_text(view, "dead-group", name, sizeof(name));
    for (uint32_t g = 0; g < MODEL_GROUPS; g++) {
        if (q->groups[g].exists && strcmp(q->groups[g].name, name) == 0)
            return &q->groups[g];
    }
    return NULL;
}

/* A group is done with it. */
static void dead_in_group(struct model *m, const struct end *e, const struct record_view *view)
{
    struct model_queue *q = &m->queues[e->queue];
    struct model_group *g = dead_group(q, view);
    if (!g) {
        model_fail(m, "dead letter: of %s seq %" PRIu64 " names no group", q->name, e->first);
        return;
    }
    struct slot *s = &g->slots[e->first - 1];
    char reason[32];
    header_text(view, "dead-reason", reason, sizeof(reason));
    uint64_t attempts = header_number(view, "dead-attempts");
    if (s->state == SLOT_SETTLED)
        model_fail(m, "dead letter: %s/%s seq %" PRIu64 " was settled", q->name, g->name, e->first);
    if (s->leased && m->now.mono.ms < s->deadline_ms)
        model_fail(m, "dead letter: %s/%s seq %" PRIu64 " is leased", q->name, g->name, e->first);
    if (attempts > s->deliveries || (s->attempts != 0 && attempts != s->attempts))
        model_fail(m, "dead letter: %s/%s seq %" PRIu64 " says attempt %" PRIu64 ", it was %u of %u", q->name, g->name,
                   e->first, attempts, s->attempts, s->deliveries);
    bool spent = q->settings.max_attempts && attempts >= q->settings.max_attempts;
    if (strcmp(reason, "max_attempts") == 0 ? !spent && !q->altered
                                            : strcmp(reason, "rejected") != 0 || !s->rejected_perhaps)
        model_fail(m, "dead letter: %s/%s seq %" PRIu64 " for reason '%s' after attempt %" PRIu64, q->name, g->name,
                   e->first, reason, attempts);
    atom_settle(m, atom_new(m, e->index), e->queue, (uint32_t)(g - q->groups), e->first);
    queue_mark_gone(m, q);
}

static void moved_by_scan(struct model *m, const struct end *e, const struct model_queue *to)
{
    struct model_queue *q = &m->queues[e->queue];
    struct op *scan = (struct op *)scan_of(m, q);
    if (!scan || (scan->u.scan.action != SCAN_MOVE && scan->u.scan.action != SCAN_REDRIVE) ||
        !scan_covers(m, scan, q, e->first)) {
        model_fail(m, "scan: %s seq %" PRIu64 " was moved and is not meant", q->name, e->first);
        return;
    }
    uint32_t target = scan->u.scan.target ? scan->u.scan.target : q->messages[e->first - 1].dead_from;
    if (target != (uint32_t)(to - m->queues) + 1)
        model_fail(m, "scan: %s seq %" PRIu64 " was moved to %s", q->name, e->first, to->name);
    scan->u.scan.seen++;
    end_everywhere(m, e, e->first);
}

void model_moved(struct model *m, const uint8_t *copy, const uint8_t *record, uint64_t index)
{
    struct model_queue *q = queue_of_id(m, record_queue(record)), *to = queue_of_id(m, record_queue(copy));
    const uint8_t *body = record + RECORD_HEAD_BYTES;
    struct record_view view;
    if (!q || !to || record_view_get(copy, record_length(copy), &view) != BROKER_OK || get_u32(body + 4) != 1 ||
        get_u64(body + 8) != get_u64(body + 16) || get_u64(body + 8) == 0 || get_u64(body + 8) > q->count) {
        model_fail(m, "moved: from queue %u (%s) to %u (%s) makes no sense", record_queue(record), q ? q->name : "?",
                   record_queue(copy), to ? to->name : "?");
        return;
    }
    uint64_t seq = get_u64(body + 8);
    struct end e = {
        .type = record_type_of(record), .queue = (uint32_t)(q - m->queues), .first = seq, .last = seq, .index = index};
    char reason[32];
    header_text(&view, "dead-reason", reason, sizeof(reason));
    model_trace(m, "moved %s seq %" PRIu64 " to %s seq %" PRIu64 " (%s)", q->name, seq, to->name, record_seq(copy),
                reason[0] ? reason : "by a scan");
    queue_mark_gone(m, q);
    check_same(m, q, seq, &view);
    copy_added(m, to, &q->messages[seq - 1], copy, index);
    if (model_failed(m))
        return;
    if (e.type == RECORD_DELETE) {
        moved_by_scan(m, &e, to);
        return;
    }
    to->messages[to->count - 1].dead_from = e.queue + 1;
    check_dead_headers(m, &e, &view, to);
    if (e.type == RECORD_SETTLE) {
        dead_in_group(m, &e, &view);
    } else {
        if (strcmp(reason, "expired") != 0)
            model_fail(m, "dead letter: %s seq %" PRIu64 " expired for reason '%s'", q->name, seq, reason);
        expired_one(m, &e, seq, true);
    }
}
