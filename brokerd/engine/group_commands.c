/* Commands on groups: check, append a record, apply it. And a group's settings: its filter, a single active consumer. */
#include <stdlib.h>
#include <string.h>

#include "engine_internal.h"

/* ---- settings -------------------------------------------------------------------------------------------------------- */

/* u8 version, u8 flags, 6 bytes zero, filter. */
enum { SETTINGS_VERSION = 1, SETTINGS_HEAD_BYTES = 8, FLAG_SINGLE_ACTIVE = 1 };

bool group_settings_encode(const struct filter *filter, bool single_active, struct buf *out)
{
    uint8_t *p = buf_reserve(out, SETTINGS_HEAD_BYTES);
    if (!p) {
        return false;
    }
    memset(p, 0, SETTINGS_HEAD_BYTES);
    p[0] = SETTINGS_VERSION;
    p[1] = single_active ? FLAG_SINGLE_ACTIVE : 0;
    out->len += SETTINGS_HEAD_BYTES;
    return filter_encode(filter, out);
}

size_t group_settings_decode(const uint8_t *bytes, size_t len, struct filter **filter, bool *single_active)
{
    *filter = NULL;
    if (len < SETTINGS_HEAD_BYTES || bytes[0] != SETTINGS_VERSION || (bytes[1] & ~FLAG_SINGLE_ACTIVE)) {
        return 0;
    }
    *single_active = bytes[1] & FLAG_SINGLE_ACTIVE;
    size_t used = filter_decode(bytes + SETTINGS_HEAD_BYTES, len - SETTINGS_HEAD_BYTES, filter);
    return used ? SETTINGS_HEAD_BYTES + used : 0;
}

void group_apply_settings(struct engine *e, struct group *g, struct filter *filter, bool single_active)
{
    if (filter != g->filter) {
        g->queue->filtered += (filter != NULL) - (g->filter != NULL);
        filter_free(g->filter);
        g->filter = filter;
    }
    g->filter_from = g->queue->next_seq; /* what came before may have been judged by another filter: when it is read */
    if (single_active != g->single_active) {
        g->single_active = single_active;
        group_consumers_changed(e, g);
    }
}

struct wanted { /* what a group's settings become */
    struct filter *filter;
    bool single_active;
    bool new_filter; /* owned until applied; else the group's own */
};

/* `g` NULL: a new group. false: answered. */
static bool wanted_init(struct engine *e, const struct command *c, const struct group *g, struct wanted *w)
{
    const broker_group_settings *s = c->u.group.settings;
    *w = (struct wanted){.filter = g ? g->filter : NULL, .single_active = g && g->single_active};
    if (s && (s->set & BROKER_GROUP_SET_SINGLE_ACTIVE)) {
        w->single_active = s->single_active;
    }
    if (s && (s->set & BROKER_GROUP_SET_FILTER)) {
        broker_error error = BROKER_OK;
        const char *text = NULL;
        w->filter = filter_new(&s->filter, &error, &text);
        w->new_filter = true;
        if (error) {
            engine_fail(e, c, error, 0, "%s", text ? text : broker_strerror(error));
            return false;
        }
    }
    return true;
}

static void wanted_release(struct wanted *w) /* if it was not applied */
{
    if (w->new_filter) {
        filter_free(w->filter);
    }
}

static void answer_synced(struct engine *e, const struct command *c, uint64_t index)
{
    pending_push(e, DURABILITY_SYNCED, &(struct pending){.index = index, .token = c->token, .type = c->type});
}

/* Append a record of `head` (and `name`) and settings. */
static broker_error append_settings(struct engine *e, uint8_t type, struct queue *q, const uint8_t *head,
                                    size_t head_len, struct name name, const struct wanted *w, uint64_t *index)
{
    struct buf body;
    broker_error error = BROKER_NO_MEMORY;
    buf_init(&body, 0);
    if (buf_append(&body, head, head_len) && (!name.len || buf_append(&body, name.bytes, name.len)) &&
        group_settings_encode(w->filter, w->single_active, &body)) {
        error = engine_append(e, type, q->id, 0, body.bytes, body.len, DURABILITY_SYNCED, index);
    }
    buf_release(&body);
    return error;
}

void group_alter(struct engine *e, const struct command *c)
{
    struct queue *q = queue_of(e, c);
    struct group *g = q ? group_of(e, c, q) : NULL;
    struct wanted w;
    if (!g || !wanted_init(e, c, g, &w)) {
        return;
    }
    uint8_t head[8] = {0};
    uint64_t index;
    put_u32(head, g->id);
    broker_error error = pending_reserve(&e->synced) ? append_settings(e, RECORD_GROUP_ALTER, q, head, sizeof head,
                                                                       (struct name){0}, &w, &index)
                                                     : BROKER_NO_MEMORY;
    if (error) {
        wanted_release(&w);
        engine_append_failed(e, c, error);
        return;
    }
    group_apply_settings(e, g, w.filter, w.single_active);
    queue_used(e, q);
    group_wake(e, g);
    answer_synced(e, c, index);
}

/* ---- create, delete, move ---------------------------------------------------------------------------------------- */

static broker_error append_group(struct engine *e, struct queue *q, uint32_t id, struct name name, uint64_t cursor,
                                 const struct wanted *w, uint64_t *index)
{
    uint8_t head[16];
    put_u32(head, id);
    put_u32(head + 4, (uint32_t)name.len);
    put_u64(head + 8, cursor);
    return append_settings(e, RECORD_GROUP, q, head, sizeof head, name, w, index);
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
    struct wanted w;
    if (!wanted_init(e, c, NULL, &w)) {
        return;
    }
    uint64_t index, cursor = start_cursor(e, q, c);
    struct group *g = pending_reserve(&e->synced) ? group_add(e, q, q->next_group_id, c->group, q->next_seq) : NULL;
    broker_error error = g ? append_group(e, q, g->id, c->group, cursor, &w, &index) : BROKER_NO_MEMORY;
    if (error) {
        if (g) {
            group_remove(e, g, BROKER_OK, NULL);
        }
        wanted_release(&w);
        engine_append_failed(e, c, error);
        return;
    }
    group_apply_seek(e, g, cursor);
    group_apply_settings(e, g, w.filter, w.single_active);
    queue_used(e, q);
    answer_synced(e, c, index);
}

void group_seek(struct engine *e, const struct command *c)
{
    struct queue *q = queue_of(e, c);
    struct group *g = q ? group_of(e, c, q) : NULL;
    if (!g) {
        return;
    }
    struct name name = {.bytes = g->name, .len = strlen(g->name)};
    struct wanted same = {.filter = g->filter, .single_active = g->single_active};
    uint64_t index, cursor = start_cursor(e, q, c);
    broker_error error =
        pending_reserve(&e->synced) ? append_group(e, q, g->id, name, cursor, &same, &index) : BROKER_NO_MEMORY;
    if (error) {
        engine_append_failed(e, c, error);
        return;
    }
    group_apply_seek(e, g, cursor);
    group_apply_settings(e, g, g->filter, g->single_active); /* as the replay of the record does */
    queue_used(e, q);
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
    queue_used(e, q);
    answer_synced(e, c, index);
}

static uint64_t less(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

static uint64_t group_lag(const struct group *g)
{
    uint64_t visible = g->queue->visible;
    return visible > g->floor ? visible - g->floor - seqset_count(&g->settled, g->floor + 1, visible) : 0;
}

static uint64_t less_what_waits(const struct group *g, uint64_t lag)
{
    const struct queue *q = g->queue;
    uint64_t scheduled = 0;
    if (q->visible > g->floor && q->specials) {
        scheduled = less(seqset_count(&q->specials->waiting, g->floor + 1, q->visible),
                         seqset_count_common(&q->specials->waiting, &g->settled));
    }
    return less(lag, g->leased + g->delayed.len + keys_blocked(g) + scheduled);
}

uint64_t group_ready(const struct group *g)
{
    return less_what_waits(g, group_lag(g));
}

void group_info(const struct group *g, broker_group_info *info)
{
    const struct queue *q = g->queue;
    uint64_t lag = group_lag(g);
    *info = (broker_group_info){.queue = q->name,
                                .name = g->name,
                                .floor_seq = g->floor,
                                .cursor_seq = g->cursor,
                                .ready = less_what_waits(g, lag),
                                .leased = g->leased,
                                .delayed = g->delayed.len,
                                .consumers = g->consumer_count,
                                .blocked = keys_blocked(g),
                                .lag = lag};
    info->settings = (broker_group_settings){.size = sizeof info->settings,
                                             .set = BROKER_GROUP_SET_FILTER | BROKER_GROUP_SET_SINGLE_ACTIVE,
                                             .single_active = g->single_active};
    filter_get(g->filter, &info->settings.filter);
}
