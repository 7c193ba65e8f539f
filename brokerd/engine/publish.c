/*
 * Publishing: the hot path in. A frame's records are all checked first, so that a malformed one refuses the frame and
 * nothing was stored; then each gets its seq and goes to the log.
 *
 * Retries are recognised by (producer, number), after Kafka's idempotent producer: numbers of one producer rise per
 * queue, so what is not above the last is a duplicate, and a few remembered runs tell of which seq. Unlike there, a
 * number may be refused (disk full, too large) while later ones are stored: such holes are remembered, or the retry of a
 * refused message would be taken for a duplicate and lost.
 */
#include <stdlib.h>
#include <string.h>

#include "engine_internal.h"

struct producer *producer_find(struct engine *e, uint32_t queue, uint64_t producer)
{
    struct producer_key key = {.producer = producer, .queue = queue};
    struct producer *p;
    HASH_FIND(hh, e->producers, &key, sizeof key, p);
    return p;
}

static void producer_forget(struct engine *e, struct producer *p)
{
    HASH_DEL(e->producers, p);
    TAILQ_REMOVE(&e->producers_by_use, p, by_use);
    free(p->holes);
    free(p);
}

struct producer *producer_make(struct engine *e, uint32_t queue, uint64_t producer)
{
    if (HASH_COUNT(e->producers) >= e->options.max_producers) {
        producer_forget(e, TAILQ_FIRST(&e->producers_by_use));
    }
    struct producer *p = calloc(1, sizeof *p);
    if (!p) {
        return NULL;
    }
    p->key = (struct producer_key){.producer = producer, .queue = queue};
    HASH_ADD(hh, e->producers, key, sizeof p->key, p);
    if (!p->hh.tbl) { /* uthash's sign of having had no memory */
        free(p);
        return NULL;
    }
    p->used_ms = e->now.mono.ms;
    TAILQ_INSERT_TAIL(&e->producers_by_use, p, by_use);
    return p;
}

static void producer_touch(struct engine *e, struct producer *p)
{
    p->used_ms = e->now.mono.ms;
    TAILQ_REMOVE(&e->producers_by_use, p, by_use);
    TAILQ_INSERT_TAIL(&e->producers_by_use, p, by_use);
}

static uint32_t hole_at_or_after(const struct producer *p, uint64_t number)
{
    uint32_t low = 0, high = p->hole_count; /* the first hole whose end is not below number */
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (p->holes[middle].last < number) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* false: no memory */
static bool hole_insert(struct producer *p, uint32_t at, struct producer_hole hole)
{
    if (p->hole_count == PRODUCER_HOLES_MAX) {
        memmove(p->holes, p->holes + 1, --p->hole_count * sizeof *p->holes);
        at -= at > 0;
    }
    if (p->hole_count == p->hole_cap) {
        uint32_t cap = p->hole_cap ? p->hole_cap * 2 : 4;
        struct producer_hole *holes = realloc(p->holes, cap * sizeof *holes);
        if (!holes) {
            return false;
        }
        p->holes = holes;
        p->hole_cap = cap;
    }
    memmove(&p->holes[at + 1], &p->holes[at], (p->hole_count - at) * sizeof *p->holes);
    p->holes[at] = hole;
    p->hole_count++;
    return true;
}

static void hole_fill(struct producer *p, uint64_t number)
{
    uint32_t i = hole_at_or_after(p, number);
    struct producer_hole *hole = &p->holes[i];
    if (i == p->hole_count || hole->first > number) {
        return;
    }
    if (hole->first == hole->last) {
        memmove(hole, hole + 1, (--p->hole_count - i) * sizeof *hole);
    } else if (number == hole->first) {
        hole->first++;
    } else if (number == hole->last) {
        hole->last--;
    } else {
        struct producer_hole upper = {.first = number + 1, .last = hole->last};
        hole->last = number - 1;
        hole_insert(p, i + 1, upper);
    }
}

bool producer_has(const struct producer *p, uint64_t number)
{
    if (number > p->last_number) {
        return false;
    }
    uint32_t i = hole_at_or_after(p, number);
    return i == p->hole_count || p->holes[i].first > number;
}

static void producer_note(struct producer *p, uint64_t number, uint64_t seq)
{
    struct producer_run *last = &p->runs[(p->next_run + PRODUCER_RUNS - 1) % PRODUCER_RUNS];
    if (number <= p->last_number) {
        hole_fill(p, number);
    } else {
        if (number > p->last_number + 1) {
            hole_insert(p, p->hole_count, (struct producer_hole){.first = p->last_number + 1, .last = number - 1});
        }
        p->last_number = number;
    }
    if (last->count && number == last->number + last->count && seq == last->seq + last->count) {
        last->count++;
        return;
    }
    p->runs[p->next_run] = (struct producer_run){.number = number, .seq = seq, .count = 1};
    p->next_run = (p->next_run + 1) % PRODUCER_RUNS;
}

/* The seq that `number` was stored as; 0: not remembered. */
static uint64_t producer_seq(const struct producer *p, uint64_t number)
{
    for (uint32_t i = 0; i < PRODUCER_RUNS; i++) {
        const struct producer_run *run = &p->runs[i];
        if (number >= run->number && number - run->number < run->count) {
            return run->seq + (number - run->number);
        }
    }
    return 0;
}

void publish_note_producer(struct engine *e, uint32_t queue, uint64_t producer, uint64_t number, uint64_t seq)
{
    struct producer *p = producer_find(e, queue, producer);
    if (!p) {
        p = producer_make(e, queue, producer);
    }
    if (p && !producer_has(p, number)) {
        producer_note(p, number, seq);
    }
}

void producers_expire(struct engine *e)
{
    struct producer *p;
    while ((p = TAILQ_FIRST(&e->producers_by_use)) && p->used_ms + e->options.producer_ttl_ms < e->now.mono.ms) {
        producer_forget(e, p);
    }
}

void producers_forget_queue(struct engine *e, uint32_t queue)
{
    struct producer *p = TAILQ_FIRST(&e->producers_by_use);
    while (p) {
        struct producer *next = TAILQ_NEXT(p, by_use);
        if (p->key.queue == queue) {
            producer_forget(e, p);
        }
        p = next;
    }
}

void producers_free(struct engine *e)
{
    struct producer *p;
    while ((p = TAILQ_FIRST(&e->producers_by_use))) {
        producer_forget(e, p);
    }
}

/* ---- a publish --------------------------------------------------------------------------------------------------- */

struct publishing {
    struct engine *e;
    struct queue *q;
    struct producer *producer; /* of the record before */
    uint64_t index;            /* batch of the last record stored */
    uint64_t last_seq;         /* of it; 0: none */
    enum durability durability;
    uint32_t record; /* index of the current one */
    size_t result_count;
};

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
    if (p->result_count == e->result_cap) {
        size_t cap = e->result_cap ? e->result_cap * 2 : 16;
        struct publish_result *results = realloc(e->results, cap * sizeof *results);
        if (!results) {
            return false;
        }
        e->results = results;
        e->result_cap = cap;
    }
    e->results[p->result_count++] = (struct publish_result){.first_seq = seq,
                                                            .first_index = p->record,
                                                            .count = 1,
                                                            .error = error,
                                                            .duplicate = duplicate,
                                                            .retry_ms = retry_ms};
    return true;
}

static uint32_t limit_of(const struct engine *e, const struct queue *q)
{
    uint32_t limit = e->options.max_message_bytes;
    return q->settings.max_message_bytes && q->settings.max_message_bytes < limit ? q->settings.max_message_bytes
                                                                                  : limit;
}

/* Every record of the frame is well-formed and the frame ends with one. Answers if not. */
static bool frame_is_sound(struct engine *e, const struct command *c)
{
    size_t at = 0, len = c->u.publish.len;
    for (uint32_t i = 0; at < len; i++) {
        struct record_view view;
        const uint8_t *record = c->u.publish.records + at;
        if (record_view_get(record, len - at, &view) || pad8(view.head.length) > len - at ||
            ((view.head.flags & RECORD_ID_PRODUCER) &&
             (view.head.id_len != 16 || !get_u64(view.id) || !get_u64(view.id + 8)))) {
            engine_fail(e, c, BROKER_MALFORMED, 0,
                        "record %u at offset %zu of the publish is malformed: nothing of this publish was stored", i,
                        at);
            return false;
        }
        at += pad8(view.head.length);
    }
    if (!len) {
        engine_fail(e, c, BROKER_INVALID_ARGUMENT, 0, "a publish needs at least one message");
    }
    return len != 0;
}

/* Is it a retry? Then its result is noted. `producer` may become NULL (no memory: stored without protection). */
static bool is_duplicate(struct publishing *p, const uint8_t *id, uint64_t *number)
{
    uint64_t producer = get_u64(id);
    *number = get_u64(id + 8);
    if (!p->producer || p->producer->key.producer != producer) {
        p->producer = producer_find(p->e, p->q->id, producer);
        if (!p->producer) {
            p->producer = producer_make(p->e, p->q->id, producer);
        } else {
            producer_touch(p->e, p->producer);
        }
    }
    return p->producer && producer_has(p->producer, *number);
}

/* One record. false: it and what follows it are refused for now, with *error (order is kept that way). */
static bool publish_record(struct publishing *p, uint8_t *record, broker_error *error)
{
    struct record_view view;
    record_view_get(record, UINT32_MAX, &view); /* sound: checked before */
    uint32_t limit = limit_of(p->e, p->q);
    if ((uint64_t)view.body_len + view.head.headers_len + view.head.key_len > limit) {
        return note_result(p, BROKER_TOO_LARGE, 0, false, 0) || (*error = BROKER_NO_MEMORY, false);
    }
    uint64_t number = 0;
    bool numbered = view.head.flags & RECORD_ID_PRODUCER;
    if (numbered && is_duplicate(p, view.id, &number)) {
        p->e->stats.duplicates++;
        return note_result(p, BROKER_OK, producer_seq(p->producer, number), true, 0) ||
               (*error = BROKER_NO_MEMORY, false);
    }
    uint64_t seq = p->q->next_seq;
    put_u32(record + 12, p->q->id);
    put_u64(record + 16, seq);
    put_u64(record + 24, p->e->now.wall.ms);
    if (!note_result(p, BROKER_OK, seq, false, 0)) {
        *error = BROKER_NO_MEMORY;
        return false;
    }
    *error = p->e->ops->append(p->e->store, record, view.head.length, p->durability, &p->index);
    if (*error) {
        struct publish_result *last = &p->e->results[p->result_count - 1];
        if (--last->count == 0) {
            p->result_count--;
        }
        return *error == BROKER_TOO_LARGE && note_result(p, BROKER_TOO_LARGE, 0, false, 0);
    }
    p->q->next_seq++;
    p->last_seq = seq;
    p->q->stored_index = p->index;
    if (numbered && p->producer) {
        producer_note(p->producer, number, seq);
    }
    return true;
}

static uint32_t retry_after(broker_error error)
{
    return error == BROKER_DISK_FULL ? 1000 : 100;
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
    enum durability durability = p->durability;
    if (!p->last_seq) { /* duplicates and refusals only: the first copy may still be on its way to the disk */
        pending.index = p->q->synced_pending ? p->q->synced_index : 0;
        pending.written_index = p->q->stored_index;
        durability = DURABILITY_SYNCED;
    } else if (durability == DURABILITY_SYNCED) {
        pending.index = p->q->synced_index = p->index;
        p->q->synced_pending++;
    } else if (p->q->synced_pending) { /* not visible before what was published earlier */
        pending.index = p->q->synced_index;
        pending.written_index = p->index;
        p->q->synced_pending++;
        durability = DURABILITY_SYNCED;
    } else {
        pending.index = p->index;
    }
    pending_push(e, durability, &pending);
    if (!p->last_seq) {
        pending_release(e);
    }
}

void publish(struct engine *e, const struct command *c)
{
    struct queue *q = queue_of(e, c);
    if (!q || !frame_is_sound(e, c)) {
        return;
    }
    if (!pending_reserve(&e->written) || !pending_reserve(&e->synced)) {
        engine_append_failed(e, c, BROKER_NO_MEMORY);
        return;
    }
    broker_sync sync = c->u.publish.sync == BROKER_SYNC_DEFAULT ? q->settings.sync : c->u.publish.sync;
    struct publishing p = {.e = e, .q = q, .durability = sync_durability(sync)};
    broker_error error = BROKER_OK;
    uint64_t before = q->next_seq;
    size_t at = 0;
    while (at < c->u.publish.len && publish_record(&p, c->u.publish.records + at, &error)) {
        at += record_padded(c->u.publish.records + at);
        p.record++;
    }
    e->stats.published += q->next_seq - before;
    for (; at < c->u.publish.len; at += record_padded(c->u.publish.records + at)) {
        if (!note_result(&p, error, 0, false, retry_after(error))) {
            break;
        }
        p.record++;
    }
    if (!p.result_count) {
        engine_append_failed(e, c, BROKER_NO_MEMORY);
        return;
    }
    if (q->settings.retention == BROKER_RETENTION_LOG) {
        queue_arm_trim(e, q, e->now.mono.ms + TRIM_PAUSE_MS);
    }
    answer_later(&p, c);
}
