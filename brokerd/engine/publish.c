/*
 * Publishing: the hot path in. A frame's records are all checked first, so that a malformed one refuses the frame and
 * nothing was stored; then each gets its seq and goes to the log. What is more than a body in a queue (times, priority, a
 * message id, a filter) is noted here too, alike for live messages and for the log's replay.
 */
#include <stdlib.h>
#include <string.h>

#include "engine_internal.h"

/* ---- what a message sets off --------------------------------------------------------------------------------------- */

/* When it expires, by its own time or the queue's; 0: never. */
static uint64_t expires_at(const struct queue *q, const struct record_view *view)
{
    uint64_t own = view->expire_ms, queue = q->settings.ttl_ms ? view->head.time_ms + q->settings.ttl_ms : 0;
    return !own || (queue && queue < own) ? queue : own;
}

bool message_prepare(struct engine *e, struct queue *q, const struct record_view *view, uint64_t seq)
{
    return !message_is_special(view) || specials_note(e, q, view, seq);
}

void message_undo(struct engine *e, struct queue *q, const struct record_view *view, uint64_t seq)
{
    if (message_is_special(view)) {
        specials_forget(e, q, seq, seq);
    }
}

/* The schedule hears of a message only once it is in the log: what the schedule writes down never speaks of others. */
static void note_times(struct engine *e, struct queue *q, const struct record_view *view, uint64_t seq)
{
    uint64_t expires = expires_at(q, view);
    if (expires) {
        schedule_add(e, SCHEDULE_EXPIRE, q->id, seq, expires); /* no memory: it stays until it is consumed */
    }
    if (view->due_ms > view->head.time_ms && !schedule_add(e, SCHEDULE_DUE, q->id, seq, view->due_ms)) {
        specials_due(e, q, seq); /* no memory: rather now than never */
    }
}

void message_arrived(struct engine *e, struct queue *q, const struct record_view *view, uint64_t seq)
{
    note_times(e, q, view, seq);
    q->counters.published++;
    if (view->message_id && q->settings.dedup_ms) {
        dedup_note(e, q, view->message_id, view->message_id_len, seq, view->head.time_ms);
    }
    if (!q->filtered) {
        return;
    }
    bool wanted = false;
    struct group *g;
    LIST_FOREACH(g, &q->groups, of_queue)
    {
        if (g->filter && !filter_matches(g->filter, view)) {
            group_settle(e, g, seq, seq);
        } else {
            wanted = true;
        }
    }
    if (!wanted && q->settings.retention == BROKER_RETENTION_WORK) {
        specials_forget(e, q, seq, seq);
    }
}

/* ---- what may be stored -------------------------------------------------------------------------------------------- */

void message_accept(struct engine *e, uint8_t *record, struct record_view *view)
{
    uint64_t now = e->now.wall.ms;
    uint8_t *at = record + RECORD_HEAD_BYTES;
    put_u64(record + 24, now);
    view->head.time_ms = now;
    if (view->head.flags & RECORD_HAS_DUE) {
        view->due_ms += view->head.flags & RECORD_DUE_IS_DELAY ? now : 0;
        put_u64(at, view->due_ms);
        at += 8;
    }
    if (view->head.flags & RECORD_HAS_EXPIRE) {
        view->expire_ms += view->head.flags & RECORD_EXPIRE_IS_TTL ? now : 0;
        put_u64(at, view->expire_ms);
    }
    record[9] = view->head.flags &= (uint8_t) ~(RECORD_DUE_IS_DELAY | RECORD_EXPIRE_IS_TTL);
}

static bool is_too_far(const struct engine *e, uint64_t ms, bool relative)
{
    return ms > (relative ? FAR_MS : e->now.wall.ms + FAR_MS);
}

broker_error message_check(struct engine *e, struct queue *q, const struct record_view *view)
{
    uint32_t limit = e->options.max_message_bytes;
    if (q->settings.max_message_bytes && q->settings.max_message_bytes < limit) {
        limit = q->settings.max_message_bytes;
    }
    if ((uint64_t)view->body_len + view->head.headers_len + view->head.key_len > limit) {
        return BROKER_TOO_LARGE;
    }
    if (view->due_ms | view->expire_ms) {
        if (is_too_far(e, view->due_ms, view->head.flags & RECORD_DUE_IS_DELAY) ||
            is_too_far(e, view->expire_ms, view->head.flags & RECORD_EXPIRE_IS_TTL)) {
            return BROKER_INVALID_ARGUMENT;
        }
    }
    return limits_check(e, q, 1 + q->arriving, pad8(view->head.length) + q->arriving_bytes);
}

bool frame_is_sound(struct engine *e, const struct command *c, const uint8_t *records, size_t len, bool by_topic)
{
    size_t at = 0;
    for (uint32_t i = 0; at < len; i++) {
        struct record_view view;
        const uint8_t *record = records + at;
        if (record_view_get(record, len - at, &view) || pad8(view.head.length) > len - at ||
            ((view.head.flags & RECORD_ID_PRODUCER) && (!view.producer || !view.number))) {
            engine_fail(e, c, BROKER_MALFORMED, 0,
                        "record %u at offset %zu of the publish is malformed: nothing of this publish was stored", i,
                        at);
            return false;
        }
        bool routed = view.head.flags & RECORD_BY_TOPIC;
        if (routed != by_topic ||
            (view.head.topic_len && !topic_is_valid((const char *)view.topic, view.head.topic_len)) ||
            (by_topic && !view.head.topic_len)) {
            engine_fail(e, c, BROKER_INVALID_ARGUMENT, 0,
                        routed != by_topic
                            ? "record %u goes by topic and the publish by queue name, or the other way round"
                            : "the topic of record %u is not valid: 1 to 255 bytes, tokens of A-Z a-z 0-9 _ - "
                              "separated by dots",
                        i);
            return false;
        }
        at += pad8(view.head.length);
    }
    if (!len) {
        engine_fail(e, c, BROKER_INVALID_ARGUMENT, 0, "a publish needs at least one message");
    }
    return len != 0;
}

/* ---- a publish to one queue ------------------------------------------------------------------------------------------ */

struct publishing {
    struct engine *e;
    struct queue *q;
    struct producer *producer; /* of the record before */
    uint64_t index;            /* batch of the last record stored */
    uint64_t last_seq;         /* of it; 0: none */
    enum durability durability;
    uint32_t record; /* index of the current one */
    bool notes;      /* the queue looks at every message: an expiry, a filter */
    size_t result_count;
};

bool publish_reserve_result(struct engine *e, size_t count)
{
    if (count < e->result_cap) {
        return true;
    }
    size_t cap = e->result_cap ? e->result_cap * 2 : 16;
    struct publish_result *results = realloc(e->results, cap * sizeof *results);
    if (results) {
        e->results = results;
        e->result_cap = cap;
    }
    return results != NULL;
}

/* Add one record's fate to the results, merged with the one before where they continue each other. */
static bool note_result(struct publishing *p, broker_error error, uint64_t seq, bool duplicate, uint32_t retry_ms)
{
    struct engine *e = p->e;
    if (p->result_count) {
        struct publish_result *last = &e->results[p->result_count - 1];
        bool follows = last->first_seq ? seq == last->first_seq + last->count : seq == 0;
        if (last->error == error && last->duplicate == duplicate && follows) {
            last->count++;
            return true;
        }
    }
    if (!publish_reserve_result(e, p->result_count)) {
        return false;
    }
    e->results[p->result_count++] = (struct publish_result){.first_seq = seq,
                                                            .first_index = p->record,
                                                            .count = 1,
                                                            .error = error,
                                                            .duplicate = duplicate,
                                                            .retry_ms = retry_ms};
    return true;
}

/* Is it a retry? Then its result is noted. `producer` may become NULL (no memory: stored without protection). */
static bool is_duplicate(struct publishing *p, uint64_t producer, uint64_t number)
{
    if (!p->producer || p->producer->key.producer != producer) {
        p->producer = producer_use(p->e, p->q->id, producer);
    }
    return p->producer && producer_has(p->producer, number);
}

/* Was its message id seen within the window? Then its result is noted, and its number counts as stored. */
static bool is_known_id(struct publishing *p, const struct record_view *view, bool *noted)
{
    uint64_t seq = view->message_id && p->q->settings.dedup_ms
                       ? dedup_find(p->e, p->q, view->message_id, view->message_id_len)
                       : 0;
    if (!seq) {
        return false;
    }
    if (view->number && p->producer) {
        producer_note(p->producer, view->number, seq);
    }
    p->q->counters.duplicates++;
    p->e->stats.duplicates++;
    *noted = note_result(p, BROKER_OK, seq, true, 0);
    return true;
}

static void take_back_result(struct publishing *p)
{
    struct publish_result *last = &p->e->results[p->result_count - 1];
    if (--last->count == 0) {
        p->result_count--;
    }
}

/* Give it its seq, append it. */
static broker_error store_record(struct publishing *p, uint8_t *record, struct record_view *view)
{
    struct engine *e = p->e;
    struct queue *q = p->q;
    uint64_t seq = q->next_seq;
    put_u32(record + 12, q->id);
    put_u64(record + 16, seq);
    message_accept(e, record, view);
    bool more = p->notes || view->head.flags & (RECORD_HAS_DUE | RECORD_HAS_EXPIRE) || view->head.priority ||
                view->message_id; /* than bytes in a queue */
    if (more && !message_prepare(e, q, view, seq)) {
        return BROKER_NO_MEMORY;
    }
    broker_error error = e->ops->append(e->store, record, view->head.length, p->durability, &p->index);
    if (error) {
        if (more) {
            message_undo(e, q, view, seq);
        }
        return error;
    }
    q->next_seq = seq + 1;
    p->last_seq = seq;
    q->stored_index = p->index;
    if (more) {
        message_arrived(e, q, view, seq);
    } else {
        q->counters.published++;
    }
    return BROKER_OK;
}

/* One record. false: it and what follows it are refused for now, with *error (order is kept that way). */
static bool publish_record(struct publishing *p, uint8_t *record, broker_error *error)
{
    struct record_view view;
    record_view_get(record, UINT32_MAX, &view); /* sound: checked before */
    bool noted = true;
    if (view.producer && is_duplicate(p, view.producer, view.number)) {
        p->e->stats.duplicates++;
        p->q->counters.duplicates++;
        return note_result(p, BROKER_OK, producer_seq(p->producer, view.number), true, 0) ||
               (*error = BROKER_NO_MEMORY, false);
    }
    if (is_known_id(p, &view, &noted)) {
        return noted || (*error = BROKER_NO_MEMORY, false);
    }
    *error = message_check(p->e, p->q, &view);
    if (*error == BROKER_TOO_LARGE || *error == BROKER_INVALID_ARGUMENT) {
        return note_result(p, *error, 0, false, 0) || (*error = BROKER_NO_MEMORY, false);
    }
    if (*error) {
        return false;
    }
    uint64_t seq = p->q->next_seq;
    if (!note_result(p, BROKER_OK, seq, false, 0)) {
        *error = BROKER_NO_MEMORY;
        return false;
    }
    *error = store_record(p, record, &view);
    if (*error) {
        take_back_result(p);
        return *error == BROKER_TOO_LARGE && note_result(p, BROKER_TOO_LARGE, 0, false, 0);
    }
    if (view.producer && p->producer) {
        producer_note(p->producer, view.number, seq);
    }
    return true;
}

uint32_t publish_retry_ms(broker_error error)
{
    return error == BROKER_DISK_FULL || error == BROKER_QUEUE_FULL ? 1000 : 100;
}

/* Where visibility in q waits: after what was published to it before. */
static enum durability await(struct queue *q, struct pending *p, enum durability durability, uint64_t index)
{
    if (durability == DURABILITY_SYNCED) {
        p->index = q->synced_index = index;
        q->synced_pending++;
        return durability;
    }
    if (q->synced_pending) { /* not visible before what was published earlier */
        p->index = q->synced_index;
        p->written_index = index;
        q->synced_pending++;
        return DURABILITY_SYNCED;
    }
    p->index = index;
    return durability;
}

void publish_await(struct engine *e, struct queue *q, uint64_t last_seq, enum durability durability, uint64_t index)
{
    struct pending p = {.type = COMMAND_PUBLISH, .queue = q->id, .last_seq = last_seq, .result_count = 1};
    q->stored_index = index;
    durability = await(q, &p, durability, index);
    pending_push(e, durability, &p);
}

static void answer_later(struct publishing *p, const struct command *c)
{
    struct engine *e = p->e;
    struct pending pending = {.token = c->token,
                              .type = COMMAND_PUBLISH,
                              .queue = p->q->id,
                              .last_seq = p->last_seq,
                              .result_count = (uint32_t)p->result_count};
    if (p->result_count == 1) {
        pending.u.one = e->results[0];
    } else { /* rare: a frame with mixed fates; the results are handed over and new ones made */
        pending.u.many = e->results;
        e->results = NULL;
        e->result_cap = 0;
    }
    enum durability durability = DURABILITY_SYNCED;
    if (p->last_seq) {
        durability = await(p->q, &pending, p->durability, p->index);
    } else { /* duplicates and refusals only: the first copy may still be on its way to the disk */
        pending.index = p->q->synced_pending ? p->q->synced_index : 0;
        pending.written_index = p->q->stored_index;
        if (p->durability == DURABILITY_SYNCED && p->q->stored_index > e->durable_index &&
            p->q->stored_index > pending.index) { /* it asked for less than this one does */
            engine_append_barrier(e, &pending.index);
        }
    }
    pending_push(e, durability, &pending);
    if (!p->last_seq) {
        pending_release(e);
    }
}

void publish(struct engine *e, const struct command *c)
{
    if (!c->queue.len) {
        publish_by_topic(e, c);
        return;
    }
    struct queue *q = queue_of(e, c);
    if (!q || !frame_is_sound(e, c, c->u.publish.records, c->u.publish.len, false)) {
        return;
    }
    if (!pending_reserve(&e->written) || !pending_reserve(&e->synced)) {
        engine_append_failed(e, c, BROKER_NO_MEMORY);
        return;
    }
    broker_sync sync = c->u.publish.sync == BROKER_SYNC_DEFAULT ? q->settings.sync : c->u.publish.sync;
    struct publishing p = {
        .e = e, .q = q, .durability = sync_durability(sync), .notes = q->settings.ttl_ms || q->filtered};
    queue_used(e, q);
    broker_error error = BROKER_OK;
    uint64_t before = q->next_seq;
    size_t at = 0;
    while (at < c->u.publish.len && publish_record(&p, c->u.publish.records + at, &error)) {
        at += record_padded(c->u.publish.records + at);
        p.record++;
    }
    e->stats.published += q->next_seq - before;
    for (; at < c->u.publish.len; at += record_padded(c->u.publish.records + at)) {
        if (!note_result(&p, error, 0, false, publish_retry_ms(error))) {
            break;
        }
        p.record++;
    }
    if (!p.result_count) {
        engine_append_failed(e, c, BROKER_NO_MEMORY);
        return;
    }
    answer_later(&p, c);
    queue_grew(e, q);
}
