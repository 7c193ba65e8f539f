/* The log's replay: each record does again to the state what it did when it was appended; then the engine goes to work. */
#include <stdlib.h>
#include <string.h>

#include "engine_internal.h"

static struct replay_entry *replay_find(struct group *g, uint64_t seq)
{
    struct replay_entry *r;
    HASH_FIND(hh, g->replay, &seq, sizeof seq, r);
    return r;
}

bool replay_note(struct group *g, uint64_t seq, uint32_t attempts, uint64_t due_wall_ms, bool rejected)
{
    struct replay_entry *r = replay_find(g, seq);
    if (group_has_settled(g, seq)) {
        return true;
    }
    if (!r) {
        r = calloc(1, sizeof *r);
        if (!r) {
            return false;
        }
        r->seq = seq;
        HASH_ADD(hh, g->replay, seq, sizeof r->seq, r);
        if (!r->hh.tbl) {
            free(r);
            return false;
        }
    }
    r->attempts = attempts;
    r->due_wall_ms = due_wall_ms;
    r->rejected = rejected;
    return true;
}

bool replay_has(const struct group *g, uint64_t seq)
{
    return replay_find((struct group *)g, seq) != NULL;
}

void replay_free(struct group *g)
{
    struct replay_entry *r, *next;
    HASH_ITER(hh, g->replay, r, next)
    {
        HASH_DEL(g->replay, r);
        free(r);
    }
}

static void replay_settle(struct engine *e, struct group *g, uint64_t first, uint64_t last)
{
    group_settle(e, g, first, last);
    if (!g->replay) {
        return;
    }
    struct replay_entry *r, *next;
    if (last - first < HASH_COUNT(g->replay)) {
        for (uint64_t seq = first; seq <= last; seq++) {
            if ((r = replay_find(g, seq))) {
                HASH_DEL(g->replay, r);
                free(r);
            }
        }
        return;
    }
    HASH_ITER(hh, g->replay, r, next)
    {
        if (r->seq >= first && r->seq <= last) {
            HASH_DEL(g->replay, r);
            free(r);
        }
    }
}

/* What was settled some other way (purge, seek, trim) needs no attempts any more. */
static void replay_forget_settled(struct group *g)
{
    struct replay_entry *r, *next;
    HASH_ITER(hh, g->replay, r, next)
    {
        if (group_has_settled(g, r->seq) || (r->seq >= g->cursor && !is_special(g->queue, r->seq))) {
            HASH_DEL(g->replay, r);
            free(r);
        }
    }
}

static broker_error malformed(const char **text, const char *what)
{
    *text = what;
    return BROKER_MALFORMED;
}

static broker_error no_memory(const char **text)
{
    *text = "out of memory";
    return BROKER_NO_MEMORY;
}

/* One place of a message. */
static broker_error replay_place(struct engine *e, struct queue *q, const struct record_view *view, uint64_t seq,
                                 const char **text)
{
    if (seq < q->next_seq) {
        return malformed(text, "a message's place in its queue is not after the one before");
    }
    if (!message_prepare(e, q, view, seq)) {
        return no_memory(text);
    }
    q->next_seq = seq + 1;
    q->visible = seq;
    message_arrived(e, q, view, seq);
    return BROKER_OK;
}

/* The places that the record before named. */
static broker_error replay_routes(struct engine *e, const struct record_view *view, const char **text)
{
    broker_error error = BROKER_OK;
    for (size_t at = 0; at < e->route.len && !error; at += 16) {
        struct queue *q = queue_by_id(e, get_u32(e->route.bytes + at));
        error = q ? replay_place(e, q, view, get_u64(e->route.bytes + at + 8), text)
                  : malformed(text, "a route leads to a queue that does not exist");
    }
    buf_clear(&e->route);
    return error;
}

static broker_error replay_route(struct engine *e, const uint8_t *body, size_t len, const char **text)
{
    if (len < 8 || get_u32(body) > (len - 8) / 16) {
        return malformed(text, "a route ends early");
    }
    buf_clear(&e->route);
    return buf_append(&e->route, body + 8, get_u32(body) * 16u) ? BROKER_OK : no_memory(text);
}

static broker_error replay_message(struct engine *e, struct queue *q, const uint8_t *record, const char **text)
{
    struct record_view view;
    if (record_view_get(record, UINT32_MAX, &view)) {
        return malformed(text, "a message is malformed");
    }
    uint64_t places = 1 + e->route.len / 16;
    broker_error error = replay_place(e, q, &view, view.head.seq, text);
    if (!error) {
        error = replay_routes(e, &view, text);
    }
    if (!error && view.producer) {
        bool by_topic = view.head.flags & RECORD_BY_TOPIC;
        publish_note_producer(e, by_topic ? 0 : q->id, view.producer, view.number, by_topic ? places : view.head.seq);
    }
    return error;
}

/* Records about a group: u32 group, u32 n, then items of `item` bytes. */
static bool items_fit(size_t len, uint32_t n, size_t item)
{
    return len >= 8 && n <= (len - 8) / item;
}

/* first..last were handed out from the cursor on; what the cursor passed over was not. */
static broker_error replay_fresh(struct group *g, uint64_t first, uint64_t last, const char **text)
{
    if (!first || first > last || last >= g->queue->next_seq) {
        return malformed(text, "a lease names messages its queue does not have");
    }
    for (uint64_t seq = g->cursor; seq < first;) {
        uint64_t settled = group_next_settled(g, seq), special = UINT64_MAX;
        if (g->queue->specials) {
            special = seqset_next(&g->queue->specials->all, seq);
        }
        uint64_t to = settled < special ? settled : special;
        to = to < first ? to : first;
        if (to > seq && !seqset_add(&g->passed, seq, to - 1)) {
            return no_memory(text);
        }
        seq = to;
        if (seq < first) {
            seq = settled <= special ? group_next_unsettled(g, seq) : seqset_next_absent(&g->queue->specials->all, seq);
        }
    }
    seqset_remove(&g->passed, first, last);
    g->cursor = last >= g->cursor ? last + 1 : g->cursor;
    return BROKER_OK;
}

static broker_error replay_lease(struct engine *e, struct group *g, const uint8_t *body, size_t len, const char **text)
{
    uint32_t n = get_u32(body + 4), ranges = n == 0 ? 1 : n & LEASE_RANGES ? n & ~LEASE_RANGES : 0;
    broker_error error = BROKER_OK;
    if (!items_fit(len, ranges ? ranges : n, 16)) {
        return malformed(text, "a lease ends early");
    }
    for (uint32_t i = 0; i < ranges && !error; i++) {
        error = replay_fresh(g, get_u64(body + 8 + i * 16), get_u64(body + 16 + i * 16), text);
    }
    for (uint32_t i = 0; !ranges && i < n; i++) {
        uint64_t seq = get_u64(body + 8 + i * 16);
        struct specials *s = g->queue->specials;
        if (s && seqset_has(&s->waiting, seq)) {
            specials_due(e, g->queue, seq);
        }
        if (seq >= g->cursor &&
            !is_special(g->queue, seq)) { /* the cursor had gone further: nothing told of it so far */
            error = replay_fresh(g, seq, seq, text);
        }
        seqset_remove(&g->passed, seq, seq);
        if (error || !replay_note(g, seq, get_u32(body + 16 + i * 16), 0, false)) {
            return error ? error : no_memory(text);
        }
    }
    return error;
}

static broker_error replay_settings(struct engine *e, struct group *g, const uint8_t *bytes, size_t len,
                                    const char **text)
{
    struct filter *filter;
    bool single_active = false;
    if (!group_settings_decode(bytes, len, &filter, &single_active)) {
        return malformed(text, "a group's settings are malformed");
    }
    group_apply_settings(e, g, filter, single_active);
    return BROKER_OK;
}

static broker_error replay_of_group(struct engine *e, struct queue *q, const uint8_t *record, const uint8_t *body,
                                    size_t len, const char **text)
{
    uint8_t type = record_type_of(record);
    bool items = type == RECORD_SETTLE || type == RECORD_RETURN;
    uint32_t n = len >= 8 && items ? get_u32(body + 4) : 0;
    if (!items_fit(len, n, type == RECORD_RETURN ? 24 : 16)) {
        return malformed(text, "a record about a group ends early");
    }
    struct group *g = group_by_id(q, get_u32(body));
    if (!g) {
        *text = "a record names a group its queue does not have";
        return BROKER_MALFORMED;
    }
    if (type == RECORD_LEASE) {
        return replay_lease(e, g, body, len, text);
    }
    if (type == RECORD_GROUP_DELETE) {
        group_apply_delete(e, g);
        return BROKER_OK;
    }
    if (type == RECORD_GROUP_ALTER) {
        return replay_settings(e, g, body + 8, len - 8, text);
    }
    for (uint32_t i = 0; i < n; i++) {
        const uint8_t *item = body + 8 + i * (type == RECORD_RETURN ? 24u : 16u);
        if (type == RECORD_SETTLE) {
            uint64_t first = get_u64(item), last = get_u64(item + 8);
            if (!first || first > last || last >= q->next_seq) {
                *text = "a settle names messages its queue does not have";
                return BROKER_MALFORMED;
            }
            replay_settle(e, g, first, last);
        } else if (!replay_note(g, get_u64(item), get_u32(item + 16), get_u64(item + 8),
                                get_u32(item + 20) & RETURN_REJECTED)) {
            *text = "out of memory";
            return BROKER_NO_MEMORY;
        }
    }
    return BROKER_OK;
}

static broker_error replay_group(struct engine *e, struct queue *q, const uint8_t *body, size_t len, const char **text)
{
    if (len < 16 || get_u32(body + 4) > len - 16 || !name_is_valid((const char *)body + 16, get_u32(body + 4)) ||
        !get_u64(body + 8) || get_u64(body + 8) > q->next_seq) {
        *text = "a group's record is malformed";
        return BROKER_MALFORMED;
    }
    struct name name = {.bytes = (const char *)body + 16, .len = get_u32(body + 4)};
    group_apply_record(e, q, get_u32(body), name, get_u64(body + 8));
    struct group *g = group_by_id(q, get_u32(body));
    if (!g) {
        *text = "out of memory";
        return BROKER_NO_MEMORY;
    }
    replay_forget_settled(g);
    size_t used = 16 + get_u32(body + 4);
    return len > used ? replay_settings(e, g, body + used, len - used, text) : BROKER_OK;
}

static broker_error replay_ranges(struct engine *e, struct queue *q, uint8_t type, const uint8_t *body, size_t len,
                                  const char **text)
{
    uint32_t n = len >= 8 ? get_u32(body + 4) : 0;
    if (!items_fit(len, n, 16)) {
        return malformed(text, "a delete or expiry ends early");
    }
    for (uint32_t i = 0; i < n; i++) {
        uint64_t first = get_u64(body + 8 + i * 16), last = get_u64(body + 16 + i * 16);
        if (!first || first > last || last >= q->next_seq ||
            (type == RECORD_EXPIRE && last - first > SETTLE_ITEMS_MAX)) {
            return malformed(text, "a delete or expiry names messages its queue does not have");
        }
        if (type == RECORD_EXPIRE) {
            queue_apply_expire_range(e, q, first, last);
        } else {
            queue_apply_delete_range(e, q, first, last);
        }
    }
    struct group *g;
    LIST_FOREACH(g, &q->groups, of_queue)
    {
        replay_forget_settled(g);
    }
    return BROKER_OK;
}

static broker_error replay_upto(struct engine *e, struct queue *q, uint8_t type, const uint8_t *body, size_t len,
                                const char **text)
{
    if (len < 8 || get_u64(body) >= q->next_seq) {
        *text = "a purge or trim names messages its queue does not have";
        return BROKER_MALFORMED;
    }
    if (type == RECORD_PURGE) {
        queue_apply_purge(e, q, get_u64(body));
    } else {
        queue_apply_trim(e, q, get_u64(body));
    }
    struct group *g;
    LIST_FOREACH(g, &q->groups, of_queue)
    {
        replay_forget_settled(g);
    }
    return BROKER_OK;
}

broker_error engine_replay(struct engine *e, const uint8_t *record, const char **text)
{
    struct record_head head;
    record_head_get(record, &head);
    const uint8_t *body = record + RECORD_HEAD_BYTES;
    size_t len = head.length - RECORD_HEAD_BYTES;
    if (head.length < RECORD_HEAD_BYTES) {
        *text = "a record is shorter than its head";
        return BROKER_MALFORMED;
    }
    if (head.type == RECORD_SETTLE && !head.queue) {
        return BROKER_OK; /* a barrier */
    }
    if (head.type == RECORD_QUEUE) {
        return queue_apply_record(e, head.queue, body, len, text);
    }
    if (head.queue == SCHEDULE_QUEUE) {
        return schedule_replay(e, record, text);
    }
    if (head.type == RECORD_ROUTE) {
        return replay_route(e, body, len, text);
    }
    struct queue *q = queue_by_id(e, head.queue);
    if (!q) {
        *text = "a record names a queue that does not exist";
        return BROKER_MALFORMED;
    }
    switch (head.type) {
    case RECORD_MESSAGE: return replay_message(e, q, record, text);
    case RECORD_SETTLE:
    case RECORD_RETURN:
    case RECORD_LEASE:
    case RECORD_GROUP_ALTER:
    case RECORD_GROUP_DELETE: return replay_of_group(e, q, record, body, len, text);
    case RECORD_DELETE:
    case RECORD_EXPIRE: return replay_ranges(e, q, head.type, body, len, text);
    case RECORD_BIND: return bind_replay(e, q, body, len, text);
    case RECORD_RESCHEDULE: return reschedule_replay(e, q, head.seq, body, len, text);
    case RECORD_QUEUE_DELETE: queue_apply_delete(e, q); return BROKER_OK;
    case RECORD_GROUP: return replay_group(e, q, body, len, text);
    case RECORD_PURGE:
    case RECORD_TRIM: return replay_upto(e, q, head.type, body, len, text);
    default: *text = "a record is of a type this broker does not know"; return BROKER_MALFORMED;
    }
}

static bool come_back(struct engine *e, struct group *g, uint64_t seq, const struct replay_entry *r)
{
    struct lease_entry entry = {.seq = seq, .attempts = r ? r->attempts : 1, .key = KEY_UNKNOWN};
    if (r && r->rejected) {
        return message_reject(e, g, &entry);
    }
    return message_came_back(e, g, &entry, r ? r->due_wall_ms : 0); /* a nack said when */
}

/* What was handed out before the stop and not settled: plain messages below the cursor that it did not pass over ... */
static bool return_plain(struct engine *e, struct group *g)
{
    struct seqset out;
    seqset_init(&out);
    bool ok = g->cursor == g->floor + 1 || seqset_add(&out, g->floor + 1, g->cursor - 1);
    seqset_remove_all(&out, &g->settled);
    seqset_remove_all(&out, &g->passed);
    if (g->queue->specials) {
        seqset_remove_all(&out, &g->queue->specials->all);
    }
    for (uint64_t seq = seqset_next(&out, 1); ok && seq != UINT64_MAX; seq = seqset_next(&out, seq + 1)) {
        if (!come_back(e, g, seq, replay_find(g, seq))) {
            g->cursor = seq; /* no memory: it counts as never handed out, which costs attempts but no message */
            ok = false;
        }
    }
    seqset_release(&out);
    return ok;
}

/* ... and specials that the log told of. The others, and what was passed over, wait in the lanes. */
static void return_unsettled(struct engine *e, struct group *g)
{
    if (!return_plain(e, g)) {
        seqset_remove(&g->passed, g->cursor, UINT64_MAX); /* the cursor comes to them */
    }
    specials_fill(g);
    struct replay_entry *r, *next;
    HASH_ITER(hh, g->replay, r, next)
    {
        if (is_special(g->queue, r->seq) && !group_has_settled(g, r->seq)) {
            lane_remove(g, r->seq, r->seq);
            if (!come_back(e, g, r->seq, r)) {
                lane_add(g, specials_priority(g->queue, r->seq), r->seq); /* no memory: its attempts are forgotten */
            }
        }
    }
    replay_free(g);
}

void engine_recovered(struct engine *e, struct now now, uint32_t epoch)
{
    e->now = now;
    e->replaying = false;
    e->stats.epoch = epoch;
    e->next_block = (uint64_t)(epoch & 0xfffff) << BLOCK_EPOCH_SHIFT | 1;
    for (struct queue *q = e->by_id; q; q = q->by_id.next) {
        q->visible = q->next_seq - 1;
        q->replaying = false;
        q->used_ms = now.mono.ms;
        struct group *g;
        LIST_FOREACH(g, &q->groups, of_queue)
        {
            return_unsettled(e, g);
        }
        if (!seqset_empty(&q->expired)) {
            expiring_wake(e, q, 1);
        }
        queue_arm_trim(e, q, now.mono.ms);
        unused_arm(e, q);
        if (q->settings.compact) {
            compact_note(e, q);
        }
    }
    struct producer *p;
    TAILQ_FOREACH(p, &e->producers_by_use, by_use)
    {
        p->used_ms = now.mono.ms;
    }
    schedule_recovered(e);
}
