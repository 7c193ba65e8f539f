/* Queues: their records, what is dead on them, log retention. The commands on them are in queue_commands.c. */
#include <stdlib.h>
#include <string.h>

#include "engine_internal.h"

struct queue *queue_find(struct engine *e, struct name name)
{
    struct queue *q;
    HASH_FIND(by_name, e->by_name, name.bytes, name.len, q);
    return q;
}

struct queue *queue_by_id(const struct engine *e, uint32_t id)
{
    struct queue *q;
    HASH_FIND(by_id, e->by_id, &id, sizeof id, q);
    return q;
}

struct queue *queue_of(struct engine *e, const struct command *c)
{
    struct queue *q = queue_find(e, c->queue);
    if (!q) {
        engine_fail(e, c, BROKER_QUEUE_NOT_FOUND, 0, "there is no queue '%.*s': create it first (queue create %.*s)",
                    (int)c->queue.len, c->queue.bytes, (int)c->queue.len, c->queue.bytes);
    }
    return q;
}

struct queue *queue_add(struct engine *e, uint32_t id, struct name name)
{
    struct queue *q = calloc(1, sizeof *q + name.len + 1);
    if (!q) {
        return NULL;
    }
    memcpy(q->name, name.bytes, name.len);
    q->id = id;
    q->next_seq = 1;
    q->used_ms = e->now.mono.ms;
    q->replaying = e->replaying;
    settings_default(e, &q->settings);
    seqset_init(&q->gone);
    seqset_init(&q->expired);
    seqset_init(&q->ended);
    LIST_INIT(&q->bindings);
    LIST_INIT(&q->groups);
    TAILQ_INIT(&q->reads_waiting);
    TAILQ_INIT(&q->reads_on_disk);
    HASH_ADD(by_id, e->by_id, id, sizeof q->id, q);
    if (!q->by_id.tbl) {
        free(q);
        return NULL;
    }
    HASH_ADD_KEYPTR(by_name, e->by_name, q->name, name.len, q);
    if (!q->by_name.tbl) {
        HASH_DELETE(by_id, e->by_id, q);
        free(q);
        return NULL;
    }
    if (id >= e->next_queue_id) {
        e->next_queue_id = id + 1;
    }
    e->sorted_stale = true;
    e->stats.queues++;
    return q;
}

void queue_remove(struct engine *e, struct queue *q)
{
    struct group *g;
    while ((g = LIST_FIRST(&q->groups))) {
        group_remove(e, g, BROKER_QUEUE_NOT_FOUND, "the queue was deleted");
    }
    scans_drop_queue(e, q);
    if (q->is_expiring) {
        TAILQ_REMOVE(&e->expiring, q, in_expiring);
    }
    topics_forget_queue(e, q);
    dedup_free(e, q);
    compact_free(e, q);
    specials_forget(e, q, 1, UINT64_MAX); /* they are counted */
    specials_free(q);
    HASH_DELETE(by_id, e->by_id, q);
    HASH_DELETE(by_name, e->by_name, q);
    reads_drop_queue(e, q);
    heap_remove(&e->trims, &q->trim);
    heap_remove(&e->unused, &q->unused);
    seqset_release(&q->gone);
    seqset_release(&q->expired);
    seqset_release(&q->ended);
    settings_release(&q->settings);
    e->sorted_stale = true;
    e->stats.queues--;
    free(q);
}

uint64_t queue_floor(const struct queue *q)
{
    uint64_t floor = q->next_seq - 1;
    const struct group *g;
    LIST_FOREACH(g, &q->groups, of_queue)
    {
        floor = g->floor < floor ? g->floor : floor;
    }
    return floor;
}

void queue_grew(struct engine *e, struct queue *q)
{
    queue_arm_trim(e, q, e->now.mono.ms + TRIM_PAUSE_MS);
    limits_enforce(e, q);
    compact_note(e, q);
}

/* ---- what is dead ------------------------------------------------------------------------------------------------- */

/* The least seq >= from that all groups have settled, if that is within `last`; else last + 1. */
static uint64_t next_settled_by_all(const struct queue *q, uint64_t from, uint64_t last)
{
    uint64_t at = from;
    bool moved = true;
    while (moved && at <= last) {
        moved = false;
        struct group *g;
        LIST_FOREACH(g, &q->groups, of_queue)
        {
            uint64_t next = group_next_settled(g, at);
            if (next > last) {
                return last + 1;
            }
            if (next > at) {
                at = next;
                moved = true;
            }
        }
    }
    return at;
}

static uint64_t next_wanted_by_one(const struct queue *q, uint64_t from)
{
    uint64_t least = UINT64_MAX;
    struct group *g;
    LIST_FOREACH(g, &q->groups, of_queue)
    {
        uint64_t next = group_next_unsettled(g, from);
        if (next < least) {
            least = next;
        }
    }
    return least;
}

/* The next dead range at or after `from`; false: none up to `last`. Not counting `gone`. */
static bool next_dead(const struct queue *q, uint64_t from, uint64_t last, uint64_t *first, uint64_t *end)
{
    if (from > last) {
        return false;
    }
    if (q->settings.retention == BROKER_RETENTION_LOG || !q->group_count) {
        *first = from;
        *end = q->trimmed < last ? q->trimmed : last;
        return from <= q->trimmed;
    }
    *first = next_settled_by_all(q, from, last);
    if (*first > last) {
        return false;
    }
    uint64_t wanted = next_wanted_by_one(q, *first);
    *end = wanted - 1 < last ? wanted - 1 : last;
    return true;
}

void queue_each_dead(const struct queue *q, uint64_t from, uint64_t last, bool (*fn)(void *, uint64_t, uint64_t),
                     void *arg)
{
    uint64_t first, end;
    bool more = true;
    while (more && from <= last) {
        bool by_rule = next_dead(q, from, last, &first, &end);
        uint64_t gone = seqset_next(&q->gone, from);
        if (gone <= last && (!by_rule || gone < first)) {
            first = gone;
            end = seqset_next_absent(&q->gone, gone) - 1;
            end = end < last ? end : last;
            by_rule = true;
        }
        if (!by_rule) {
            return;
        }
        more = fn(arg, first, end);
        from = end + 1;
    }
}

struct run { /* seqs first..last */
    uint64_t first, last;
};

static bool skip_dead(void *arg, uint64_t first, uint64_t last)
{
    struct run *live = arg;
    if (first <= live->first) {
        live->first = last + 1;
        return true;
    }
    live->last = first - 1;
    return false;
}

bool queue_next_live(const struct queue *q, uint64_t *at, uint64_t end, uint64_t *last)
{
    struct run live = {.first = *at, .last = end};
    queue_each_dead(q, *at, end, skip_dead, &live);
    *at = live.first;
    *last = live.last;
    return live.first <= live.last;
}

void queue_report_dead(struct engine *e, struct queue *q, uint64_t first, uint64_t last)
{
    while (first <= last) { /* what is in `gone` was reported already */
        uint64_t from = seqset_next_absent(&q->gone, first);
        if (from > last) {
            return;
        }
        uint64_t next = seqset_next(&q->gone, from);
        uint64_t to = next <= last ? next - 1 : last;
        e->ops->dead(e->store, q->id, from, to);
        first = to + 1;
    }
}

void engine_live(const struct engine *e, uint32_t queue, uint64_t first, uint64_t last,
                 void (*fn)(void *arg, uint64_t first, uint64_t last), void *arg)
{
    if (queue == SCHEDULE_QUEUE) {
        schedule_live(e, first, last, fn, arg);
        return;
    }
    const struct queue *q = queue_by_id(e, queue);
    while (q && first <= last) {
        uint64_t dead_first, dead_end;
        bool dead = next_dead(q, first, last, &dead_first, &dead_end);
        uint64_t gone = seqset_next(&q->gone, first);
        if (gone <= last && (!dead || gone < dead_first)) {
            dead_first = gone;
            dead_end = seqset_next_absent(&q->gone, gone) - 1;
            dead = true;
        }
        if (!dead) {
            fn(arg, first, last);
            return;
        }
        if (dead_first > first) {
            fn(arg, first, dead_first - 1);
        }
        if (dead_end >= last) {
            return;
        }
        first = dead_end + 1;
    }
}

/* ---- state changes, alike for commands and for the log's replay ---------------------------------------------------- */

struct gone_collect {
    struct seqset gone;
    uint64_t trimmed;
};

static bool collect_gone(void *arg, uint64_t first, uint64_t last)
{
    struct gone_collect *c = arg;
    if (first <= c->trimmed + 1) {
        c->trimmed = last > c->trimmed ? last : c->trimmed;
        return true;
    }
    return seqset_add(&c->gone, first, last);
}

/* The rule of what is dead changes: remember what the old one had reported. */
static void change_retention(struct engine *e, struct queue *q, broker_retention to)
{
    if (q->settings.retention == to || q->next_seq == 1) {
        q->settings.retention = to;
        return;
    }
    if (to == BROKER_RETENTION_LOG) {
        struct gone_collect c = {.trimmed = q->trimmed};
        seqset_init(&c.gone);
        queue_each_dead(q, q->trimmed + 1, q->next_seq - 1, collect_gone, &c);
        seqset_release(&q->gone);
        q->gone = c.gone;
        q->trimmed = c.trimmed;
        q->settings.retention = to;
        return;
    }
    struct group *g;
    LIST_FOREACH(g, &q->groups, of_queue)
    { /* no group asks again for what log retention let go */
        if (g->floor < q->trimmed) {
            group_settle(e, g, g->floor + 1, q->trimmed);
        }
    }
    q->settings.retention = to; /* everything up to `trimmed` is reported and settled; report what the new rule adds */
    uint64_t first = q->trimmed + 1, last = q->next_seq - 1, dead_first, dead_end;
    while (next_dead(q, first, last, &dead_first, &dead_end)) {
        queue_report_dead(e, q, dead_first, dead_end);
        first = dead_end + 1;
    }
}

void queue_apply_settings(struct engine *e, struct queue *q, struct queue_settings *s, bool paused)
{
    struct queue_settings old = q->settings;
    change_retention(e, q, s->retention);
    q->settings = *s;
    q->paused = paused;
    s->dead_letter = NULL;
    if (old.dedup_ms != q->settings.dedup_ms || old.dedup_count != q->settings.dedup_count) {
        dedup_settings_changed(e, q);
    }
    if (old.compact != q->settings.compact || old.retention != q->settings.retention) {
        compact_note(e, q);
    }
    unused_arm(e, q);
    settings_release(&old);
}

/* A queue with its default group; nothing of it is in the log yet. */
static struct queue *add_with_group(struct engine *e, uint32_t id, struct name name)
{
    struct name def = {.bytes = "default", .len = 7};
    struct queue *q = queue_add(e, id, name);
    if (q && !group_add(e, q, 0, def, 1)) {
        queue_remove(e, q);
        return NULL;
    }
    return q;
}

broker_error queue_apply_record(struct engine *e, uint32_t id, const uint8_t *body, size_t len, const char **text)
{
    struct queue_settings settings;
    struct name name;
    bool paused;
    broker_error error = queue_decode(e, body, len, &settings, &paused, &name, text);
    if (error) {
        return error;
    }
    struct queue *q = queue_by_id(e, id);
    if (!q && queue_find(e, name)) {
        *text = "two queues have one name";
        error = BROKER_MALFORMED;
    } else if (!q && !(q = add_with_group(e, id, name))) {
        *text = "out of memory";
        error = BROKER_NO_MEMORY;
    }
    if (!error) {
        queue_apply_settings(e, q, &settings, paused);
    }
    settings_release(&settings);
    return error;
}

struct queue *queue_make(struct engine *e, struct name name, const struct queue_settings *settings, broker_error *error)
{
    if (e->stats.queues >= e->options.max_queues) {
        *error = BROKER_LIMIT_REACHED;
        return NULL;
    }
    struct queue_settings own;
    struct buf body;
    uint64_t index;
    *error = BROKER_NO_MEMORY;
    if (!settings_copy(&own, settings)) {
        return NULL;
    }
    buf_init(&body, 0);
    struct queue *q = queue_encode(&own, false, name, &body) ? add_with_group(e, e->next_queue_id, name) : NULL;
    if (q) {
        *error = engine_append(e, RECORD_QUEUE, q->id, 0, body.bytes, body.len, DURABILITY_SYNCED, &index);
    }
    if (q && *error) {
        queue_remove(e, q);
        q = NULL;
    } else if (q) {
        queue_apply_settings(e, q, &own, false);
        q->settings_index = index;
    }
    buf_release(&body);
    settings_release(&own);
    return q;
}

void queue_apply_delete(struct engine *e, struct queue *q)
{
    e->ops->queue_gone(e->store, q->id);
    producers_forget_queue(e, q->id);
    queue_remove(e, q);
}

/* first..last go from g, whatever they were doing there. */
static void remove_from_group(struct engine *e, struct group *g, uint64_t first, uint64_t last)
{
    if (g->leased) {
        leases_drop(e, g, first, last);
    }
    if (g->ready.len || g->delayed.len) {
        group_drop_returned(e, g, first, last);
    }
    dying_drop(e, g, first, last);
    group_settle(e, g, first, last);
    keys_drop(e, g, first, last);
}

static void remove_from_all(struct engine *e, struct queue *q, uint64_t first, uint64_t last)
{
    struct group *g;
    LIST_FOREACH(g, &q->groups, of_queue)
    {
        remove_from_group(e, g, first, last);
    }
    specials_forget(e, q, first, last);
    seqset_remove(&q->expired, first, last);
    seqset_remove(&q->ended, first, last);
}

void queue_apply_purge(struct engine *e, struct queue *q, uint64_t last)
{
    if (!last) {
        return;
    }
    remove_from_all(e, q, 1, last);
    if (q->settings.retention == BROKER_RETENTION_LOG) {
        queue_apply_trim(e, q, last);
    }
}

void queue_apply_trim(struct engine *e, struct queue *q, uint64_t last)
{
    if (last <= q->trimmed) {
        return;
    }
    queue_report_dead(e, q, q->trimmed + 1, last);
    q->trimmed = last;
    seqset_drop_to(&q->gone, last);
    struct group *g;
    LIST_FOREACH(g, &q->groups, of_queue)
    { /* what is leased stays so: it was handed out while it was there */
        group_drop_returned(e, g, 1, last);
        dying_drop(e, g, 1, last);
        if (g->floor < last) {
            group_settle(e, g, g->floor + 1, last);
        }
        keys_drop(e, g, 1, last);
    }
    specials_forget(e, q, 1, last);
    seqset_remove(&q->expired, 1, last);
    seqset_remove(&q->ended, 1, last);
}

/* Log retention lets single messages go: remembered, for its rule does not say so. */
static void log_gone(struct engine *e, struct queue *q, uint64_t first, uint64_t last)
{
    first = first > q->trimmed ? first : q->trimmed + 1;
    if (q->settings.retention == BROKER_RETENTION_LOG && first <= last) {
        queue_report_dead(e, q, first, last);
        seqset_add(&q->gone, first, last);
    }
}

void queue_apply_delete_range(struct engine *e, struct queue *q, uint64_t first, uint64_t last)
{
    log_gone(e, q, first, last);
    remove_from_all(e, q, first, last);
}

void queue_apply_expire_range(struct engine *e, struct queue *q, uint64_t first, uint64_t last)
{
    for (uint64_t seq = first; seq <= last; seq++) {
        bool held = false;
        struct group *g;
        LIST_FOREACH(g, &q->groups, of_queue)
        {
            if (group_holds(g, seq)) {
                held = true;
            } else if (!group_has_settled(g, seq)) {
                bool waits_for_key = g->keys && (seqset_has(&g->passed, seq) || lanes_have(g, seq));
                group_settle(e, g, seq, seq);
                if (waits_for_key) {
                    keys_drop(e, g, seq, seq);
                }
            }
        }
        log_gone(e, q, seq, seq);
        seqset_remove(&q->expired, seq, seq);
        if (held) { /* gone for that group when it comes back */
            seqset_add(&q->ended, seq, seq);
        } else {
            specials_forget(e, q, seq, seq);
        }
    }
}

/* ---- log retention --------------------------------------------------------------------------------------------------- */

static bool has_log_limit(const struct queue *q)
{
    const struct queue_settings *s = &q->settings;
    return s->retention == BROKER_RETENTION_LOG && (s->log_max_age_ms || s->log_max_bytes || s->log_max_messages);
}

void queue_arm_trim(struct engine *e, struct queue *q, uint64_t at_ms)
{
    if (has_log_limit(q) && (!heap_has(&q->trim) || q->trim.key > at_ms)) {
        heap_set(&e->trims, &q->trim, at_ms); /* no memory: the next publish arms it */
    }
}

static void trim(struct engine *e, struct queue *q)
{
    const struct queue_settings *s = &q->settings;
    if (!has_log_limit(q)) { /* armed before an alter took the limits away */
        return;
    }
    uint64_t before = s->log_max_age_ms && e->now.wall.ms > s->log_max_age_ms ? e->now.wall.ms - s->log_max_age_ms : 0;
    uint64_t last = e->ops->trim_point(e->store, q->id, before, s->log_max_bytes, s->log_max_messages);
    if (last > q->visible) {
        last = q->visible; /* nothing goes before its publish was answered */
    }
    if (last > q->trimmed) {
        uint8_t body[8];
        uint64_t index;
        put_u64(body, last);
        if (engine_append(e, RECORD_TRIM, q->id, 0, body, sizeof body, DURABILITY_LAZY, &index) == BROKER_OK) {
            queue_apply_trim(e, q, last);
        }
    }
    if (s->log_max_age_ms && q->trimmed + 1 < q->next_seq) {
        queue_arm_trim(e, q, e->now.mono.ms + AGE_PAUSE_MS);
    }
}

void queue_run_trims(struct engine *e)
{
    struct heap_node *n;
    while ((n = heap_min(&e->trims)) && n->key <= e->now.mono.ms) {
        struct queue *q = container_of(n, struct queue, trim);
        heap_remove(&e->trims, n);
        trim(e, q);
    }
}
