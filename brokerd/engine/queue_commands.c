/* Commands on queues: check, append a record, apply it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine_internal.h"

enum { DESCRIBE_GROUPS_STACK = 16 };

static bool settings_are_valid(struct engine *e, const struct command *c)
{
    const broker_queue_settings *s = c->u.queue.settings;
    if (!s) {
        return true;
    }
    if ((s->set & BROKER_SET_RETENTION) && s->retention != BROKER_RETENTION_WORK &&
        s->retention != BROKER_RETENTION_LOG) {
        engine_fail(e, c, BROKER_INVALID_ARGUMENT, 0, "retention %d is neither work (1) nor log (2)",
                    (int)s->retention);
        return false;
    }
    if ((s->set & BROKER_SET_SYNC) && (s->sync < BROKER_SYNC_ALWAYS || s->sync > BROKER_SYNC_NONE)) {
        engine_fail(e, c, BROKER_INVALID_ARGUMENT, 0, "sync %d is none of always, interval, none", (int)s->sync);
        return false;
    }
    if ((s->set & BROKER_SET_LEASE_MS) && (s->lease_ms < 1 || s->lease_ms > 86400000)) {
        engine_fail(e, c, BROKER_INVALID_ARGUMENT, 0, "lease_ms %u is not within 1..86400000", s->lease_ms);
        return false;
    }
    if ((s->set & BROKER_SET_MAX_MESSAGE_BYTES) && s->max_message_bytes > e->options.max_message_bytes) {
        engine_fail(e, c, BROKER_INVALID_ARGUMENT, 0, "max_message_bytes %u is over the broker's limit of %u",
                    s->max_message_bytes, e->options.max_message_bytes);
        return false;
    }
    return true;
}

static void merge(struct queue_settings *to, const broker_queue_settings *s)
{
    uint32_t set = s ? s->set : 0;
    to->retention = set & BROKER_SET_RETENTION ? s->retention : to->retention;
    to->sync = set & BROKER_SET_SYNC ? s->sync : to->sync;
    to->lease_ms = set & BROKER_SET_LEASE_MS ? s->lease_ms : to->lease_ms;
    to->max_message_bytes = set & BROKER_SET_MAX_MESSAGE_BYTES ? s->max_message_bytes : to->max_message_bytes;
    to->log_max_age_ms = set & BROKER_SET_LOG_MAX_AGE_MS ? s->log_max_age_ms : to->log_max_age_ms;
    to->log_max_bytes = set & BROKER_SET_LOG_MAX_BYTES ? s->log_max_bytes : to->log_max_bytes;
    to->log_max_messages = set & BROKER_SET_LOG_MAX_MESSAGES ? s->log_max_messages : to->log_max_messages;
}

static bool same_settings(const struct queue_settings *a, const struct queue_settings *b)
{
    return a->retention == b->retention && a->sync == b->sync && a->lease_ms == b->lease_ms &&
           a->max_message_bytes == b->max_message_bytes && a->log_max_age_ms == b->log_max_age_ms &&
           a->log_max_bytes == b->log_max_bytes && a->log_max_messages == b->log_max_messages;
}

/* Append what the queue would be with these settings, then make it so. */
static void store_settings(struct engine *e, const struct command *c, uint32_t id, struct name name,
                           const struct queue_settings *settings, bool paused)
{
    struct buf body;
    uint64_t index;
    const char *text;
    broker_error error = BROKER_NO_MEMORY;
    buf_init(&body, 0);
    if (pending_reserve(&e->synced) && queue_encode(settings, paused, name, &body)) {
        error = engine_append(e, RECORD_QUEUE, id, 0, body.bytes, body.len, DURABILITY_SYNCED, &index);
    }
    if (!error) {
        error = queue_apply_record(e, id, body.bytes, body.len, &text);
    }
    buf_release(&body);
    if (error) {
        engine_append_failed(e, c, error);
        return;
    }
    queue_by_id(e, id)->settings_index = index;
    pending_push(e, DURABILITY_SYNCED, &(struct pending){.index = index, .token = c->token, .type = c->type});
}

void queue_create(struct engine *e, const struct command *c)
{
    if (!name_is_valid(c->queue.bytes, c->queue.len)) {
        engine_fail(e, c, BROKER_INVALID_ARGUMENT, 0,
                    "'%.*s' is no name for a queue: 1 to 255 of A-Z a-z 0-9 . _ -, not beginning with '.'",
                    c->queue.len > 64 ? 64 : (int)c->queue.len, c->queue.bytes);
        return;
    }
    if (!settings_are_valid(e, c)) {
        return;
    }
    struct queue *q = queue_find(e, c->queue);
    if (q) {
        struct queue_settings wanted = q->settings;
        merge(&wanted, c->u.queue.settings);
        if (same_settings(&wanted,
                          &q->settings)) { /* creating what is there changes nothing: say so only once it is durable */
            if (!pending_reserve(&e->synced)) {
                engine_append_failed(e, c, BROKER_NO_MEMORY);
                return;
            }
            pending_push(e, DURABILITY_SYNCED,
                         &(struct pending){.index = q->settings_index, .token = c->token, .type = c->type});
            pending_release(e);
            return;
        }
        engine_fail(e, c, BROKER_QUEUE_EXISTS, 0, "queue '%s' exists with other settings: alter it instead", q->name);
        return;
    }
    if (e->stats.queues >= e->options.max_queues) {
        engine_fail(e, c, BROKER_LIMIT_REACHED, 0, "there are %llu queues, the most that limits.max_queues allows",
                    (unsigned long long)e->stats.queues);
        return;
    }
    struct queue_settings settings = {
        .retention = BROKER_RETENTION_WORK, .sync = BROKER_SYNC_ALWAYS, .lease_ms = e->options.default_lease_ms};
    merge(&settings, c->u.queue.settings);
    store_settings(e, c, e->next_queue_id, c->queue, &settings, false);
}

static struct name name_of(const struct queue *q)
{
    return (struct name){.bytes = q->name, .len = strlen(q->name)};
}

void queue_alter(struct engine *e, const struct command *c)
{
    struct queue *q = queue_of(e, c);
    if (q && settings_are_valid(e, c)) {
        struct queue_settings settings = q->settings;
        merge(&settings, c->u.queue.settings);
        store_settings(e, c, q->id, name_of(q), &settings, q->paused);
        queue_arm_trim(e, q, e->now.mono.ms);
    }
}

void queue_pause(struct engine *e, const struct command *c)
{
    struct queue *q = queue_of(e, c);
    if (q) {
        store_settings(e, c, q->id, name_of(q), &q->settings, c->type == COMMAND_QUEUE_PAUSE);
        struct group *g;
        LIST_FOREACH(g, &q->groups, of_queue)
        {
            group_wake(e, g);
        }
    }
}

void queue_delete(struct engine *e, const struct command *c)
{
    struct queue *q = queue_of(e, c);
    uint64_t index;
    if (!q) {
        return;
    }
    broker_error error = pending_reserve(&e->synced)
                             ? engine_append(e, RECORD_QUEUE_DELETE, q->id, 0, NULL, 0, DURABILITY_SYNCED, &index)
                             : BROKER_NO_MEMORY;
    if (error) {
        engine_append_failed(e, c, error);
        return;
    }
    queue_apply_delete(e, q);
    pending_push(e, DURABILITY_SYNCED, &(struct pending){.index = index, .token = c->token, .type = c->type});
}

void queue_purge(struct engine *e, const struct command *c)
{
    struct queue *q = queue_of(e, c);
    uint64_t index, before, after, bytes, oldest;
    uint8_t body[8];
    if (!q) {
        return;
    }
    put_u64(body, q->next_seq - 1);
    broker_error error = pending_reserve(&e->synced)
                             ? engine_append(e, RECORD_PURGE, q->id, 0, body, sizeof body, DURABILITY_SYNCED, &index)
                             : BROKER_NO_MEMORY;
    if (error) {
        engine_append_failed(e, c, error);
        return;
    }
    e->ops->usage(e->store, q->id, &before, &bytes, &oldest);
    queue_apply_purge(e, q, q->next_seq - 1);
    e->ops->usage(e->store, q->id, &after, &bytes, &oldest);
    pending_push(
        e, DURABILITY_SYNCED,
        &(struct pending){
            .index = index, .token = c->token, .type = c->type, .u.purged = before > after ? before - after : 0});
}

/* ---- looking ----------------------------------------------------------------------------------------------------- */

void queue_info(struct engine *e, const struct queue *q, broker_queue_info *info)
{
    uint64_t messages, bytes, oldest;
    uint32_t consumers = 0;
    struct group *g;
    LIST_FOREACH(g, &q->groups, of_queue)
    {
        consumers += g->consumer_count;
    }
    e->ops->usage(e->store, q->id, &messages, &bytes, &oldest);
    *info = (broker_queue_info){.name = q->name,
                                .id = q->id,
                                .settings = {.size = sizeof info->settings,
                                             .set = 0x7f,
                                             .retention = q->settings.retention,
                                             .sync = q->settings.sync,
                                             .lease_ms = q->settings.lease_ms,
                                             .max_message_bytes = q->settings.max_message_bytes,
                                             .log_max_age_ms = q->settings.log_max_age_ms,
                                             .log_max_bytes = q->settings.log_max_bytes,
                                             .log_max_messages = q->settings.log_max_messages},
                                .paused = q->paused,
                                .first_seq = oldest ? oldest : q->next_seq,
                                .last_seq = q->next_seq - 1,
                                .messages = messages,
                                .bytes = bytes,
                                .groups = q->group_count,
                                .consumers = consumers};
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(struct queue *const *)a)->name, (*(struct queue *const *)b)->name);
}

/* The queues in order of their names: sorted again only after one came or went. */
static bool sort_queues(struct engine *e)
{
    if (!e->sorted_stale) {
        return true;
    }
    size_t n = HASH_CNT(by_id, e->by_id);
    if (n > e->sorted_cap) {
        struct queue **sorted = realloc(e->sorted, (n + n / 2) * sizeof(struct queue *));
        if (!sorted) {
            return false;
        }
        e->sorted = sorted;
        e->sorted_cap = n + n / 2;
    }
    e->sorted_count = 0;
    struct queue *q, *next;
    HASH_ITER(by_id, e->by_id, q, next)
    {
        e->sorted[e->sorted_count++] = q;
    }
    if (n) {
        qsort(e->sorted, n, sizeof(struct queue *), by_name);
    }
    e->sorted_stale = false;
    return true;
}

static int compare_name(const char *name, struct name to)
{
    size_t len = strlen(name), n = len < to.len ? len : to.len;
    int order = n ? memcmp(name, to.bytes, n) : 0;
    return order ? order : (len > to.len) - (len < to.len);
}

/* The first queue in order whose name is >= `name` (or > if `after`). */
static size_t first_at(const struct engine *e, struct name name, bool after)
{
    size_t low = 0, high = e->sorted_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = compare_name(e->sorted[middle]->name, name);
        if (order < 0 || (after && order == 0)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

void queue_list(struct engine *e, const struct command *c)
{
    struct name prefix = c->u.list.prefix;
    uint32_t limit = c->u.list.limit && c->u.list.limit <= 1000 ? c->u.list.limit : 1000;
    broker_queue_info *infos = sort_queues(e) ? malloc(limit * sizeof *infos) : NULL;
    if (!infos) {
        engine_append_failed(e, c, BROKER_NO_MEMORY);
        return;
    }
    size_t i = first_at(e, prefix, false), from = c->u.list.after.len ? first_at(e, c->u.list.after, true) : 0;
    size_t count = 0;
    for (i = from > i ? from : i; i < e->sorted_count && count < limit; i++) {
        if (prefix.len && strncmp(e->sorted[i]->name, prefix.bytes, prefix.len) != 0) {
            i = e->sorted_count;
            break;
        }
        queue_info(e, e->sorted[i], &infos[count++]);
    }
    bool more = i < e->sorted_count && (!prefix.len || strncmp(e->sorted[i]->name, prefix.bytes, prefix.len) == 0);
    struct completion done = {.type = c->type, .token = c->token};
    done.u.list.queues = infos;
    done.u.list.count = count;
    done.u.list.more = more;
    e->sink_ops->complete(e->sink, &done);
    free(infos);
}

void queue_describe(struct engine *e, const struct command *c)
{
    struct queue *q = queue_of(e, c);
    if (!q) {
        return;
    }
    broker_group_info on_stack[DESCRIBE_GROUPS_STACK];
    broker_group_info *groups =
        q->group_count > DESCRIBE_GROUPS_STACK ? malloc(q->group_count * sizeof *groups) : on_stack;
    if (!groups) {
        engine_append_failed(e, c, BROKER_NO_MEMORY);
        return;
    }
    broker_queue_info info;
    queue_info(e, q, &info);
    size_t n = q->group_count;
    struct group *g;
    LIST_FOREACH(g, &q->groups, of_queue)
    { /* the list is newest first */
        group_info(g, &groups[--n]);
    }
    struct completion done = {.type = c->type, .token = c->token};
    done.u.describe.queue = &info;
    done.u.describe.groups = groups;
    done.u.describe.group_count = q->group_count;
    e->sink_ops->complete(e->sink, &done);
    if (groups != on_stack) {
        free(groups);
    }
}
