/* Commands on queues: check, append a record, apply it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine_internal.h"

static void answer_synced(struct engine *e, const struct command *c, uint64_t index)
{
    pending_push(e, DURABILITY_SYNCED, &(struct pending){.index = index, .token = c->token, .type = c->type});
}

/* Append what the queue becomes with these settings, then make it so. Takes what settings owns, whatever comes. */
static bool store_settings(struct engine *e, const struct command *c, struct queue *q, struct queue_settings *settings,
                           bool paused)
{
    struct name name = {.bytes = q->name, .len = strlen(q->name)};
    struct buf body;
    uint64_t index;
    broker_error error = BROKER_NO_MEMORY;
    buf_init(&body, 0);
    if (pending_reserve(&e->synced) && queue_encode(settings, paused, name, &body)) {
        error = engine_append(e, RECORD_QUEUE, q->id, 0, body.bytes, body.len, DURABILITY_SYNCED, &index);
    }
    buf_release(&body);
    if (error) {
        engine_append_failed(e, c, error);
    } else {
        queue_apply_settings(e, q, settings, paused);
        q->settings_index = index;
        answer_synced(e, c, index);
    }
    settings_release(settings);
    return !error;
}

/* What `base` becomes by the command; to be released. false: answered. */
static bool settings_wanted(struct engine *e, const struct command *c, const struct queue_settings *base,
                            struct queue_settings *wanted)
{
    if (!settings_copy(wanted, base)) {
        engine_append_failed(e, c, BROKER_NO_MEMORY);
        return false;
    }
    if (!settings_merge(wanted, c->u.queue.settings)) {
        settings_release(wanted);
        engine_append_failed(e, c, BROKER_NO_MEMORY);
        return false;
    }
    return true;
}

/* Creating what is there changes nothing: say so only once it is durable. */
static void create_again(struct engine *e, const struct command *c, struct queue *q)
{
    struct queue_settings wanted;
    if (!settings_wanted(e, c, &q->settings, &wanted)) {
        return;
    }
    bool same = settings_same(&wanted, &q->settings);
    settings_release(&wanted);
    if (!same) {
        engine_fail(e, c, BROKER_QUEUE_EXISTS, 0, "queue '%s' exists with other settings: alter it instead", q->name);
    } else if (!pending_reserve(&e->synced)) {
        engine_append_failed(e, c, BROKER_NO_MEMORY);
    } else {
        answer_synced(e, c, q->settings_index);
        pending_release(e);
    }
}

static void create_new(struct engine *e, const struct command *c)
{
    struct queue_settings base, wanted;
    settings_default(e, &base);
    if (!settings_wanted(e, c, &base, &wanted)) {
        return;
    }
    if (settings_fit(e, c, c->queue, &wanted)) {
        broker_error error = BROKER_NO_MEMORY;
        struct queue *q = pending_reserve(&e->synced) ? queue_make(e, c->queue, &wanted, &error) : NULL;
        if (q) {
            answer_synced(e, c, q->settings_index);
        } else {
            engine_append_failed(e, c, error);
        }
    }
    settings_release(&wanted);
}

void queue_create(struct engine *e, const struct command *c)
{
    if (!name_is_valid(c->queue.bytes, c->queue.len)) {
        engine_fail(e, c, BROKER_INVALID_ARGUMENT, 0,
                    "'%.*s' is no name for a queue: 1 to 255 of A-Z a-z 0-9 . _ -, not beginning with '.'",
                    c->queue.len > 64 ? 64 : (int)c->queue.len, c->queue.bytes);
        return;
    }
    if (!settings_in_range(e, c)) {
        return;
    }
    struct queue *q = queue_find(e, c->queue);
    if (q) {
        create_again(e, c, q);
    } else if (e->stats.queues >= e->options.max_queues) {
        engine_fail(e, c, BROKER_LIMIT_REACHED, 0, "there are %llu queues, the most that limits.max_queues allows",
                    (unsigned long long)e->stats.queues);
    } else {
        create_new(e, c);
    }
}

static void wake_groups(struct engine *e, struct queue *q)
{
    struct group *g;
    LIST_FOREACH(g, &q->groups, of_queue)
    {
        group_wake(e, g);
    }
}

void queue_alter(struct engine *e, const struct command *c)
{
    struct queue *q = queue_of(e, c);
    struct queue_settings settings;
    if (!q || !settings_in_range(e, c) || !settings_wanted(e, c, &q->settings, &settings)) {
        return;
    }
    if (!settings_fit(e, c, (struct name){.bytes = q->name, .len = strlen(q->name)}, &settings)) {
        settings_release(&settings);
        return;
    }
    if (store_settings(e, c, q, &settings, q->paused)) {
        queue_arm_trim(e, q, e->now.mono.ms);
        limits_enforce(e, q);
        wake_groups(e, q);
    }
}

void queue_pause(struct engine *e, const struct command *c)
{
    struct queue *q = queue_of(e, c);
    struct queue_settings settings;
    if (!q) {
        return;
    }
    if (!settings_copy(&settings, &q->settings)) {
        engine_append_failed(e, c, BROKER_NO_MEMORY);
    } else if (store_settings(e, c, q, &settings, c->type == COMMAND_QUEUE_PAUSE)) {
        wake_groups(e, q);
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
    answer_synced(e, c, index);
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
    uint64_t messages, bytes, oldest, ready = 0, leased = 0, dead = 0, ignored[2];
    uint32_t consumers = 0;
    struct group *g;
    LIST_FOREACH(g, &q->groups, of_queue)
    {
        consumers += g->consumer_count;
        ready += group_ready(g);
        leased += g->leased;
    }
    const struct queue *dead_letters = dead_letter_find(e, q);
    if (dead_letters) {
        e->ops->usage(e->store, dead_letters->id, &dead, &ignored[0], &ignored[1]);
    }
    e->ops->usage(e->store, q->id, &messages, &bytes, &oldest);
    *info = (broker_queue_info){.name = q->name,
                                .id = q->id,
                                .paused = q->paused,
                                .first_seq = oldest ? oldest : q->next_seq,
                                .last_seq = q->next_seq - 1,
                                .messages = messages,
                                .bytes = bytes,
                                .groups = q->group_count,
                                .consumers = consumers,
                                .scheduled = q->specials ? seqset_count(&q->specials->waiting, 1, UINT64_MAX) : 0,
                                .bindings = q->binding_count,
                                .published = q->counters.published,
                                .expired = q->counters.expired,
                                .dead_lettered = q->counters.dead_lettered,
                                .dropped = q->counters.dropped,
                                .duplicates = q->counters.duplicates,
                                .delivered = q->counters.delivered,
                                .acked = q->counters.acked,
                                .redelivered = q->counters.redelivered,
                                .ready = ready,
                                .leased = leased,
                                .oldest_ms = e->ops->oldest_ms(e->store, q->id),
                                .dead = dead};
    settings_info(&q->settings, &info->settings);
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

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

void queue_describe(struct engine *e, const struct command *c)
{
    struct queue *q = queue_of(e, c);
    if (!q) {
        return;
    }
    broker_group_info *groups = malloc(q->group_count * sizeof *groups);
    const char **bindings = malloc((q->binding_count + 1) * sizeof *bindings);
    if (!groups || !bindings) {
        free(groups);
        free(bindings);
        engine_append_failed(e, c, BROKER_NO_MEMORY);
        return;
    }
    broker_queue_info info;
    queue_info(e, q, &info);
    size_t n = q->group_count, n_bindings = 0;
    struct group *g;
    LIST_FOREACH(g, &q->groups, of_queue)
    { /* the list is newest first */
        group_info(g, &groups[--n]);
    }
    struct binding *b;
    LIST_FOREACH(b, &q->bindings, of_queue)
    {
        bindings[n_bindings++] = b->pattern;
    }
    qsort(bindings, n_bindings, sizeof *bindings, by_text);
    struct completion done = {.type = c->type, .token = c->token};
    done.u.describe.queue = &info;
    done.u.describe.groups = groups;
    done.u.describe.group_count = q->group_count;
    done.u.describe.bindings = bindings;
    done.u.describe.binding_count = n_bindings;
    e->sink_ops->complete(e->sink, &done);
    free(groups);
    free(bindings);
}
