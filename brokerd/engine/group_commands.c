/* Commands on groups: check, append a record, apply it. */
#include <stdlib.h>
#include <string.h>

#include "engine_internal.h"

struct group_record { /* body of RECORD_GROUP before the name */
    uint32_t id;
    uint32_t name_len;
    uint64_t cursor;
};

static broker_error append_group(struct engine *e, struct queue *q, const struct group_record *r, const char *name,
                                 uint64_t *index)
{
    uint8_t body[16 + NAME_MAX_BYTES];
    put_u32(body, r->id);
    put_u32(body + 4, r->name_len);
    put_u64(body + 8, r->cursor);
    memcpy(body + 16, name, r->name_len);
    return engine_append(e, RECORD_GROUP, q->id, 0, body, 16 + r->name_len, DURABILITY_SYNCED, index);
}

/* Where a start leads: the seq to be handed out first. */
static uint64_t start_cursor(struct engine *e, struct queue *q, const struct command *c)
{
    uint64_t end = q->next_seq, cursor = 1;
    switch (c->u.group.start) {
    case BROKER_START_BEGINNING: cursor = 1; break;
    case BROKER_START_END: cursor = end; break;
    case BROKER_START_SEQ: cursor = c->u.group.value ? c->u.group.value : 1; break;
    case BROKER_START_TIME: cursor = e->ops->seq_at_time(e->store, q->id, c->u.group.value); break;
    }
    return cursor < end ? cursor : end;
}

static void answer_synced(struct engine *e, const struct command *c, uint64_t index)
{
    pending_push(e, DURABILITY_SYNCED, &(struct pending){.index = index, .token = c->token, .type = c->type});
}

void group_create(struct engine *e, const struct command *c)
{
    struct queue *q = queue_of(e, c);
    if (!q) {
        return;
    }
    if (!c->group.len || !name_is_valid(c->group.bytes, c->group.len)) {
        engine_fail(e, c, BROKER_INVALID_ARGUMENT, 0, "a group needs a name: 1 to 255 of A-Z a-z 0-9 . _ -");
        return;
    }
    if (group_find(q, c->group)) {
        engine_fail(e, c, BROKER_GROUP_EXISTS, 0, "queue '%s' has a group '%.*s' already: seek moves it", q->name,
                    (int)c->group.len, c->group.bytes);
        return;
    }
    if (q->group_count >= e->options.max_groups_per_queue) {
        engine_fail(e, c, BROKER_LIMIT_REACHED, 0, "queue '%s' has %u groups, the most that are allowed", q->name,
                    q->group_count);
        return;
    }
    struct group_record r = {
        .id = q->next_group_id, .name_len = (uint32_t)c->group.len, .cursor = start_cursor(e, q, c)};
    struct group *g = pending_reserve(&e->synced) ? group_add(e, q, r.id, c->group, q->next_seq) : NULL;
    uint64_t index;
    broker_error error = g ? append_group(e, q, &r, c->group.bytes, &index) : BROKER_NO_MEMORY;
    if (error) {
        if (g) {
            group_remove(e, g, BROKER_OK, NULL);
        }
        engine_append_failed(e, c, error);
        return;
    }
    group_apply_seek(e, g, r.cursor);
    answer_synced(e, c, index);
}

void group_seek(struct engine *e, const struct command *c)
{
    struct queue *q = queue_of(e, c);
    struct group *g = q ? group_of(e, c, q) : NULL;
    if (!g) {
        return;
    }
    struct group_record r = {.id = g->id, .name_len = (uint32_t)strlen(g->name), .cursor = start_cursor(e, q, c)};
    uint64_t index;
    broker_error error = pending_reserve(&e->synced) ? append_group(e, q, &r, g->name, &index) : BROKER_NO_MEMORY;
    if (error) {
        engine_append_failed(e, c, error);
        return;
    }
    group_apply_seek(e, g, r.cursor);
    answer_synced(e, c, index);
}

void group_delete(struct engine *e, const struct command *c)
{
    struct queue *q = queue_of(e, c);
    struct group *g = q ? group_of(e, c, q) : NULL;
    if (!g) {
        return;
    }
    if (q->group_count == 1) {
        engine_fail(e, c, BROKER_INVALID_ARGUMENT, 0,
                    "'%s' is the only group of queue '%s', and a queue keeps at least one: create another first, or "
                    "delete the queue",
                    g->name, q->name);
        return;
    }
    uint8_t body[8] = {0};
    put_u32(body, g->id);
    uint64_t index;
    broker_error error = pending_reserve(&e->synced) ? engine_append(e, RECORD_GROUP_DELETE, q->id, 0, body,
                                                                     sizeof body, DURABILITY_SYNCED, &index)
                                                     : BROKER_NO_MEMORY;
    if (error) {
        engine_append_failed(e, c, error);
        return;
    }
    group_apply_delete(e, g);
    answer_synced(e, c, index);
}

void group_info(const struct group *g, broker_group_info *info)
{
    uint64_t fresh = 0;
    if (g->queue->visible >= g->cursor) {
        fresh = g->queue->visible - g->cursor + 1 - seqset_count(&g->settled, g->cursor, g->queue->visible);
    }
    *info = (broker_group_info){.queue = g->queue->name,
                                .name = g->name,
                                .floor_seq = g->floor,
                                .cursor_seq = g->cursor,
                                .ready = fresh + g->ready.len,
                                .leased = g->leased,
                                .delayed = g->delayed.len,
                                .consumers = g->consumer_count};
}
