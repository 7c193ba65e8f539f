/* Messages that are appended together with others, all or nothing: each may have places in several queues. */
#include <stdlib.h>
#include <string.h>

#include "engine_internal.h"

void arrivals_init(struct arrivals *a, struct engine *e)
{
    memset(a, 0, sizeof *a);
    a->e = e;
    buf_init(&a->made, 0);
}

void arrivals_release(struct arrivals *a)
{
    free(a->places);
    free(a->items);
    buf_release(&a->made);
}

static bool reserve(void **array, uint32_t *cap, uint32_t n, size_t size)
{
    if (n <= *cap) {
        return true;
    }
    uint32_t to = *cap ? *cap : 16;
    while (to < n) {
        to *= 2;
    }
    void *grown = realloc(*array, to * size);
    if (!grown) {
        return false;
    }
    *array = grown;
    *cap = to;
    return true;
}

static bool item_add(struct arrivals *a, const uint8_t *record, uint32_t length)
{
    if (!reserve((void **)&a->items, &a->item_cap, a->item_count + 1, sizeof *a->items)) {
        return false;
    }
    a->items[a->item_count++] = (struct append_item){.record = record, .length = length};
    return true;
}

/* Its record lies in a->made, which may move: the item holds the offset until the commit. */
bool arrivals_add_record(struct arrivals *a, uint8_t type, uint32_t queue, const void *body, size_t len)
{
    size_t before = a->made.len;
    const uint8_t *record = engine_put_record(a->e, &a->made, type, queue, 0, body, len);
    if (!record || !item_add(a, NULL, record_length(record))) {
        a->made.len = before;
        return false;
    }
    return true;
}

static bool add_route(struct arrivals *a, struct queue *const *queues, uint32_t count)
{
    struct buf body;
    buf_init(&body, 0);
    bool ok = buf_put_u32(&body, count - 1) && buf_put_u32(&body, 0);
    for (uint32_t i = 1; ok && i < count; i++) {
        ok = buf_put_u32(&body, queues[i]->id) && buf_put_u32(&body, 0) && buf_put_u64(&body, queues[i]->next_seq);
    }
    ok = ok && arrivals_add_record(a, RECORD_ROUTE, queues[0]->id, body.bytes, body.len);
    buf_release(&body);
    return ok;
}

/* Take back places from `from` on, the newest first. */
static void undo_from(struct arrivals *a, uint32_t from)
{
    while (a->count > from) {
        struct arrival *place = &a->places[--a->count];
        message_undo(a->e, place->queue, &place->view, place->seq);
        place->queue->next_seq = place->seq;
        place->queue->arriving--;
        place->queue->arriving_bytes -= pad8(place->view.head.length);
    }
}

void arrivals_undo(struct arrivals *a)
{
    undo_from(a, 0);
}

broker_error arrivals_add(struct arrivals *a, uint8_t *record, struct queue *const *queues, uint32_t count)
{
    struct record_view view;
    uint32_t first = a->count, items = a->item_count;
    size_t made = a->made.len;
    record_view_get(record, UINT32_MAX, &view); /* sound: checked before */
    message_accept(a->e, record, &view);
    put_u32(record + 12, queues[0]->id);
    put_u64(record + 16, queues[0]->next_seq);
    bool ok = reserve((void **)&a->places, &a->cap, a->count + count, sizeof *a->places) &&
              (count == 1 || add_route(a, queues, count)) && item_add(a, record, view.head.length);
    for (uint32_t i = 0; ok && i < count; i++) {
        uint64_t seq = queues[i]->next_seq;
        ok = message_prepare(a->e, queues[i], &view, seq);
        if (ok) {
            a->places[a->count++] = (struct arrival){.queue = queues[i], .seq = seq, .record = record, .view = view};
            queues[i]->next_seq++;
            queues[i]->arriving++;
            queues[i]->arriving_bytes += pad8(view.head.length);
        }
    }
    if (!ok) {
        undo_from(a, first);
        a->item_count = items;
        a->made.len = made;
        return BROKER_NO_MEMORY;
    }
    return BROKER_OK;
}

broker_error arrivals_commit(struct arrivals *a, enum durability durability, uint64_t *index)
{
    struct engine *e = a->e;
    const uint8_t *made = a->made.bytes;
    for (uint32_t i = 0; i < a->item_count; i++) {
        if (!a->items[i].record) {
            a->items[i].record = made;
            made += pad8(a->items[i].length);
        }
    }
    broker_error error = e->ops->append_all(e->store, a->items, a->item_count, durability, index);
    if (error) {
        arrivals_undo(a);
        return error;
    }
    for (uint32_t i = 0; i < a->count; i++) {
        struct arrival *place = &a->places[i];
        place->queue->stored_index = *index;
        place->queue->arriving = 0;
        place->queue->arriving_bytes = 0;
        message_arrived(e, place->queue, &place->view, place->seq);
        queue_used(e, place->queue);
    }
    e->stats.published += a->count;
    return BROKER_OK;
}
