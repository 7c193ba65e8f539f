/* Publishing by topic: one record on disk, a place in every queue that is bound, all or none. */
#include <stdlib.h>
#include <string.h>

#include "engine_internal.h"

struct routing {
    struct engine *e;
    const struct command *c;
    uint32_t record; /* index of the current one */
    size_t result_count;
    uint64_t index;                       /* batch of the last one stored; 0: none */
    uint64_t synced_index, written_index; /* what the answer waits for */
    struct queue **targets;               /* of the current one */
    uint32_t target_cap;
};

static bool note(struct routing *r, broker_error error, uint64_t queues, bool duplicate, uint32_t retry_ms)
{
    struct engine *e = r->e;
    if (r->result_count) {
        struct publish_result *last = &e->results[r->result_count - 1];
        if (last->error == error && last->duplicate == duplicate && last->first_seq == queues) {
            last->count++;
            return true;
        }
    }
    if (!publish_reserve_result(r->e, r->result_count)) {
        return false;
    }
    e->results[r->result_count++] = (struct publish_result){.first_seq = queues,
                                                            .first_index = r->record,
                                                            .count = 1,
                                                            .error = error,
                                                            .duplicate = duplicate,
                                                            .routed = true,
                                                            .retry_ms = retry_ms};
    return true;
}

broker_error route_message(struct engine *e, const struct record_view *view, struct queue ***targets, uint32_t *cap,
                           uint32_t *count, uint32_t *bound)
{
    struct queue *const *queues;
    *count = 0;
    if (!topics_match(e, (const char *)view->topic, view->head.topic_len, &queues, bound)) {
        return BROKER_NO_MEMORY;
    }
    if (*bound > *cap) {
        struct queue **grown = realloc(*targets, *bound * sizeof(struct queue *));
        if (!grown) {
            return BROKER_NO_MEMORY;
        }
        *targets = grown;
        *cap = *bound;
    }
    for (uint32_t i = 0; i < *bound; i++) {
        struct queue *q = queues[i];
        broker_error error = message_check(e, q, view);
        if (error) {
            return error;
        }
        bool known =
            view->message_id && q->settings.dedup_ms && dedup_find(e, q, view->message_id, view->message_id_len);
        if (known) {
            q->counters.duplicates++;
        } else {
            (*targets)[(*count)++] = q;
        }
    }
    return BROKER_OK;
}

/* The places become visible together with what was published to their queues before. */
static void await_places(struct routing *r, const struct arrivals *a, enum durability durability)
{
    if (durability == DURABILITY_SYNCED) {
        r->synced_index = r->index;
    } else {
        r->written_index = r->index;
    }
    for (uint32_t i = 0; i < a->count; i++) {
        publish_await(r->e, a->places[i].queue, a->places[i].seq, durability, r->index);
    }
}

static enum durability durability_for(const struct routing *r, uint32_t count)
{
    if (r->c->u.publish.sync != BROKER_SYNC_DEFAULT) {
        return sync_durability(r->c->u.publish.sync);
    }
    enum durability most = DURABILITY_WRITTEN;
    for (uint32_t i = 0; i < count; i++) {
        enum durability one = sync_durability(r->targets[i]->settings.sync);
        most = one > most ? one : most;
    }
    return most;
}

static broker_error store(struct routing *r, uint8_t *record, uint32_t count)
{
    struct arrivals a;
    arrivals_init(&a, r->e);
    enum durability durability = durability_for(r, count);
    broker_error error =
        pending_reserve_all(r->e, count + 1) ? arrivals_add(&a, record, r->targets, count) : BROKER_NO_MEMORY;
    if (!error) {
        error = arrivals_commit(&a, durability, &r->index);
    }
    if (!error) {
        await_places(r, &a, durability);
    }
    for (uint32_t i = 0; !error && i < count; i++) {
        queue_grew(r->e, r->targets[i]);
    }
    arrivals_release(&a);
    return error;
}

/* false: it and what follows is refused for now, with *error. */
static bool route_record(struct routing *r, uint8_t *record, broker_error *error)
{
    struct engine *e = r->e;
    struct record_view view;
    uint32_t count, bound;
    record_view_get(record, UINT32_MAX, &view); /* sound: checked before */
    if (!publish_reserve_result(r->e, r->result_count)) {
        *error = BROKER_NO_MEMORY;
        return false;
    }
    struct producer *p = view.producer ? producer_use(e, 0, view.producer) : NULL; /* no memory: without protection */
    if (p && producer_has(p, view.number)) {
        e->stats.duplicates++;
        return note(r, BROKER_OK, producer_seq(p, view.number), true, 0) || (*error = BROKER_NO_MEMORY, false);
    }
    *error = route_message(e, &view, &r->targets, &r->target_cap, &count, &bound);
    if (*error == BROKER_TOO_LARGE || *error == BROKER_INVALID_ARGUMENT) {
        return note(r, *error, 0, false, 0) || (*error = BROKER_NO_MEMORY, false);
    }
    if (!*error && !bound && !r->c->u.publish.unroutable_ok) {
        return note(r, BROKER_UNROUTABLE, 0, false, 0) || (*error = BROKER_NO_MEMORY, false);
    }
    if (!*error && count) {
        *error = store(r, record, count);
        if (*error == BROKER_TOO_LARGE) {
            return note(r, *error, 0, false, 0) || (*error = BROKER_NO_MEMORY, false);
        }
    }
    if (*error || !note(r, BROKER_OK, bound, bound && !count, 0)) {
        return false;
    }
    if (p) {
        producer_note(p, view.number, bound);
    }
    return true;
}

void publish_by_topic(struct engine *e, const struct command *c)
{
    if (!frame_is_sound(e, c, c->u.publish.records, c->u.publish.len, true)) {
        return;
    }
    if (!pending_reserve_all(e, 1)) {
        engine_append_failed(e, c, BROKER_NO_MEMORY);
        return;
    }
    struct routing r = {.e = e, .c = c};
    broker_error error = BROKER_OK;
    size_t at = 0;
    while (at < c->u.publish.len && route_record(&r, c->u.publish.records + at, &error)) {
        at += record_padded(c->u.publish.records + at);
        r.record++;
    }
    for (; at < c->u.publish.len; at += record_padded(c->u.publish.records + at), r.record++) {
        if (!note(&r, error, 0, false, publish_retry_ms(error))) {
            break;
        }
    }
    free(r.targets);
    if (!r.result_count) {
        engine_append_failed(e, c, BROKER_NO_MEMORY);
        return;
    }
    struct pending p = {.token = c->token,
                        .type = COMMAND_PUBLISH,
                        .index = r.synced_index,
                        .written_index = r.written_index,
                        .result_count = (uint32_t)r.result_count};
    if (r.result_count == 1) {
        p.u.one = e->results[0];
    } else {
        p.u.many = e->results;
        e->results = NULL;
        e->result_cap = 0;
    }
    pending_push(e, DURABILITY_SYNCED, &p);
    pending_release(e);
}
