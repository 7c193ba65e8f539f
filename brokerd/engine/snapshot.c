/*
 * The snapshot: all of the engine's durable state, written for a checkpoint and read at a start. What comes after it in the log
 * is replayed (replay.c).
 *
 * Snapshot, little-endian: u32 version, u32 next queue id, u32 queues, u32 producers; then the queues, the producers, the schedule.
 * A queue: u32 id, u32 body length, body as in RECORD_QUEUE, u64 next seq, u64 trimmed, u32 next group id, u32 groups, seqset gone,
 * seqset expired, seqset ended, specials (specials.c), bindings (topics.c), message ids (dedup.c), the groups;
 * a group: u32 id, u32 name length, u64 floor, u64 cursor, u32 n, u32 zero, name, seqset settled, seqset passed, u64 filtered from, u32 length of
 * its settings, settings, then n * (u64 seq, u64 due_ms, u32 attempt, u32 RETURN_… flags) for messages that were handed out more than once, wait for
 * their time, or are specials;
 * a producer: u64 producer, u32 queue, u32 holes, u64 last number, PRODUCER_RUNS * (u64 number, u64 seq, u64 count), holes * (u64 first, u64 last).
 * Version 1 had neither expired, ended, specials, bindings, ids, passed, filter, settings, nor the schedule.
 */
#include <stdlib.h>
#include <string.h>

#include "engine_internal.h"

enum { SNAPSHOT_VERSION = 2 };

/* ---- writing ------------------------------------------------------------------------------------------------------- */

static bool save_entry(struct buf *out, uint64_t seq, uint64_t due_wall_ms, uint32_t attempts, bool rejected)
{
    return buf_put_u64(out, seq) && buf_put_u64(out, due_wall_ms) && buf_put_u32(out, attempts) &&
           buf_put_u32(out, rejected ? RETURN_REJECTED : 0);
}

static bool save_returned(const struct group *g, const struct heap *h, struct buf *out, uint32_t *n)
{
    for (size_t i = 0; i < h->len; i++) {
        const struct returned *r = container_of(h->nodes[i], struct returned, node);
        if (r->attempts > 1 || r->due_wall_ms || is_special(g->queue, r->seq)) {
            if (!save_entry(out, r->seq, r->due_wall_ms, r->attempts, false)) {
                return false;
            }
            ++*n;
        }
    }
    return true;
}

static bool save_leased(const struct group *g, struct buf *out, uint32_t *n)
{
    const struct lease_block *b;
    TAILQ_FOREACH(b, &g->blocks, of_group)
    {
        for (uint64_t left = b->live; left; left &= left - 1) {
            const struct lease_entry *entry = &b->entries[__builtin_ctzll(left)];
            if (entry->attempts > 1 || is_special(g->queue, entry->seq)) {
                if (!save_entry(out, entry->seq, 0, entry->attempts, false)) {
                    return false;
                }
                ++*n;
            }
        }
    }
    return true;
}

static bool save_dying(const struct group *g, struct buf *out, uint32_t *n)
{
    const struct dying *d;
    TAILQ_FOREACH(d, &g->dying, link)
    {
        if (!save_entry(out, d->seq, 0, d->attempts, strcmp(d->reason, "rejected") == 0)) {
            return false;
        }
        ++*n;
    }
    return true;
}

static bool save_replay(const struct group *g, struct buf *out, uint32_t *n)
{
    for (const struct replay_entry *r = g->replay; r; r = r->hh.next) { /* a snapshot before engine_recovered */
        if (!save_entry(out, r->seq, r->due_wall_ms, r->attempts, r->rejected)) {
            return false;
        }
        ++*n;
    }
    return true;
}

static bool save_group_settings(const struct group *g, struct buf *out)
{
    size_t at = out->len + 8;
    if (!buf_put_u64(out, g->filter_from) || !buf_put_u32(out, 0) ||
        !group_settings_encode(g->filter, g->single_active, out)) {
        return false;
    }
    put_u32(out->bytes + at, (uint32_t)(out->len - at - 4));
    return true;
}

static bool save_group(const struct group *g, struct buf *out)
{
    size_t name_len = strlen(g->name);
    if (!buf_put_u32(out, g->id) || !buf_put_u32(out, (uint32_t)name_len) || !buf_put_u64(out, g->floor) ||
        !buf_put_u64(out, g->cursor)) {
        return false;
    }
    size_t count_at = out->len;
    uint32_t n = 0;
    if (!buf_put_u64(out, 0) || !buf_append(out, g->name, name_len) || !seqset_save(&g->settled, out) ||
        !seqset_save(&g->passed, out) || !save_group_settings(g, out) || !save_returned(g, &g->ready, out, &n) ||
        !save_returned(g, &g->delayed, out, &n) || !save_leased(g, out, &n) || !save_dying(g, out, &n) ||
        !save_replay(g, out, &n)) {
        return false;
    }
    put_u32(out->bytes + count_at, n);
    return true;
}

static bool save_queue(const struct queue *q, struct buf *out)
{
    struct name name = {.bytes = q->name, .len = strlen(q->name)};
    if (!buf_put_u32(out, q->id)) {
        return false;
    }
    size_t len_at = out->len;
    if (!buf_put_u32(out, 0) || !queue_encode(&q->settings, q->paused, name, out)) {
        return false;
    }
    put_u32(out->bytes + len_at, (uint32_t)(out->len - len_at - 4));
    if (!buf_put_u64(out, q->next_seq) || !buf_put_u64(out, q->trimmed) || !buf_put_u32(out, q->next_group_id) ||
        !buf_put_u32(out, q->group_count) || !seqset_save(&q->gone, out) || !seqset_save(&q->expired, out) ||
        !seqset_save(&q->ended, out) || !specials_save(q, out) || !bindings_save(q, out) || !dedup_save(q, out)) {
        return false;
    }
    const struct group *g;
    LIST_FOREACH(g, &q->groups, of_queue)
    {
        if (!save_group(g, out)) {
            return false;
        }
    }
    return true;
}

static bool save_producer(const struct producer *p, struct buf *out)
{
    bool ok = buf_put_u64(out, p->key.producer) && buf_put_u32(out, p->key.queue) && buf_put_u32(out, p->hole_count) &&
              buf_put_u64(out, p->last_number);
    for (uint32_t i = 0; ok && i < PRODUCER_RUNS; i++) { /* oldest first */
        const struct producer_run *run = &p->runs[(p->next_run + i) % PRODUCER_RUNS];
        ok = buf_put_u64(out, run->number) && buf_put_u64(out, run->seq) && buf_put_u64(out, run->count);
    }
    for (uint32_t i = 0; ok && i < p->hole_count; i++) {
        ok = buf_put_u64(out, p->holes[i].first) && buf_put_u64(out, p->holes[i].last);
    }
    return ok;
}

bool engine_snapshot(const struct engine *e, struct buf *out)
{
    if (!buf_put_u32(out, SNAPSHOT_VERSION) || !buf_put_u32(out, e->next_queue_id) ||
        !buf_put_u32(out, HASH_CNT(by_id, e->by_id)) || !buf_put_u32(out, HASH_COUNT(e->producers))) {
        return false;
    }
    for (const struct queue *q = e->by_id; q; q = q->by_id.next) {
        if (!save_queue(q, out)) {
            return false;
        }
    }
    const struct producer *p;
    TAILQ_FOREACH(p, &e->producers_by_use, by_use)
    {
        if (!save_producer(p, out)) {
            return false;
        }
    }
    return schedule_save(e, out);
}

/* ---- reading ------------------------------------------------------------------------------------------------------- */

/* What version 1 did not have. */
static bool load_group_more(struct engine *e, struct group *g, struct reader *r)
{
    if (!reader_seqset(r, &g->passed)) {
        return false;
    }
    uint64_t filter_from = reader_u64(r);
    uint32_t len = reader_u32(r);
    const uint8_t *settings = reader_bytes(r, len);
    struct filter *filter = NULL;
    bool single_active = false;
    if (!settings || group_settings_decode(settings, len, &filter, &single_active) != len ||
        (!seqset_empty(&g->passed) && g->passed.most >= g->queue->next_seq)) {
        filter_free(filter);
        return reader_refuse(r, BROKER_MALFORMED, "a group's settings are malformed");
    }
    group_apply_settings(e, g, filter, single_active);
    g->filter_from = filter_from;
    return true;
}

static bool load_queue_more(struct engine *e, struct queue *q, struct reader *r)
{
    if (!reader_seqset(r, &q->expired) || !reader_seqset(r, &q->ended) || !specials_load(e, q, r) ||
        !bindings_load(e, q, r) || !dedup_load(e, q, r)) {
        return reader_refuse(r, BROKER_MALFORMED, "a queue's times, bindings or message ids are malformed");
    }
    if (q->expired.most >= q->next_seq || q->ended.most >= q->next_seq) {
        return reader_refuse(r, BROKER_MALFORMED, "a queue's expired messages are outside it");
    }
    return true;
}

static bool load_group(struct engine *e, struct queue *q, struct reader *r)
{
    uint32_t id = reader_u32(r), name_len = reader_u32(r);
    uint64_t floor = reader_u64(r), cursor = reader_u64(r), n = reader_u64(r);
    const char *name = (const char *)reader_bytes(r, name_len);
    if (!name || !name_is_valid(name, name_len) || floor >= cursor || cursor > q->next_seq || (n >> 32) ||
        group_by_id(q, id)) {
        return reader_refuse(r, BROKER_MALFORMED, "a group is malformed");
    }
    struct group *g = group_add(e, q, id, (struct name){.bytes = name, .len = name_len}, cursor);
    if (!g) {
        return reader_refuse(r, BROKER_NO_MEMORY, "out of memory");
    }
    g->floor = floor;
    if (!reader_seqset(r, &g->settled)) {
        return false;
    }
    if (!seqset_empty(&g->settled) && (g->settled.least <= floor || g->settled.most >= q->next_seq)) {
        return reader_refuse(r, BROKER_MALFORMED, "a group's settled messages are outside its queue");
    }
    if (r->version >= 2 && !load_group_more(e, g, r)) {
        return false;
    }
    for (uint64_t i = 0; i < n; i++) {
        uint64_t seq = reader_u64(r), due = reader_u64(r);
        uint32_t attempts = reader_u32(r), flags = reader_u32(r);
        if (r->error || !seq || !replay_note(g, seq, attempts, due, flags & RETURN_REJECTED)) {
            return reader_refuse(r, BROKER_NO_MEMORY, "out of memory");
        }
    }
    return true;
}

static bool load_queue(struct engine *e, struct reader *r)
{
    const char *text = NULL;
    uint32_t id = reader_u32(r), len = reader_u32(r);
    const uint8_t *body = reader_bytes(r, len);
    if (!body || queue_by_id(e, id)) {
        return reader_refuse(r, BROKER_MALFORMED, "a queue is malformed");
    }
    broker_error error = queue_apply_record(e, id, body, len, &text);
    if (error) {
        return reader_refuse(r, error, text);
    }
    struct queue *q = queue_by_id(e, id);
    group_remove(e, LIST_FIRST(&q->groups), BROKER_OK, NULL); /* the default group comes as it was, or not at all */
    q->next_seq = reader_u64(r);
    q->trimmed = reader_u64(r);
    uint32_t next_group_id = reader_u32(r), groups = reader_u32(r);
    if (!reader_seqset(r, &q->gone) || !q->next_seq || q->trimmed >= q->next_seq || !groups) {
        return reader_refuse(r, BROKER_MALFORMED, "a queue's position is malformed");
    }
    q->visible = q->next_seq - 1;
    if (r->version >= 2 && !load_queue_more(e, q, r)) {
        return false;
    }
    for (uint32_t i = 0; i < groups; i++) {
        if (!load_group(e, q, r)) {
            return false;
        }
    }
    q->next_group_id = next_group_id;
    return !r->error;
}

static bool load_producer(struct engine *e, struct reader *r)
{
    uint64_t id = reader_u64(r);
    uint32_t queue = reader_u32(r), holes = reader_u32(r);
    if (r->error || holes > PRODUCER_HOLES_MAX || producer_find(e, queue, id)) {
        return reader_refuse(r, BROKER_MALFORMED, "a producer is malformed");
    }
    struct producer *p = producer_make(e, queue, id);
    if (!p || (holes && !(p->holes = calloc(holes, sizeof *p->holes)))) {
        return reader_refuse(r, BROKER_NO_MEMORY, "out of memory");
    }
    p->hole_cap = holes;
    p->last_number = reader_u64(r);
    for (uint32_t i = 0; i < PRODUCER_RUNS; i++) {
        p->runs[i] = (struct producer_run){.number = reader_u64(r)};
        p->runs[i].seq = reader_u64(r);
        p->runs[i].count = reader_u64(r);
    }
    for (; p->hole_count < holes; p->hole_count++) {
        p->holes[p->hole_count].first = reader_u64(r);
        p->holes[p->hole_count].last = reader_u64(r);
    }
    return !r->error;
}

broker_error engine_restore(struct engine *e, const uint8_t *snapshot, size_t len, const char **text)
{
    struct reader r = {.at = snapshot, .left = len};
    uint32_t version = reader_u32(&r), next_queue_id = reader_u32(&r), queues = reader_u32(&r),
             producers = reader_u32(&r);
    r.version = version;
    if (!r.error && (version < 1 || version > SNAPSHOT_VERSION)) {
        reader_refuse(&r, BROKER_MALFORMED, "the engine's snapshot is of a version this broker does not know");
    }
    for (uint32_t i = 0; i < queues && !r.error; i++) {
        load_queue(e, &r);
    }
    for (uint32_t i = 0; i < producers && !r.error; i++) {
        load_producer(e, &r);
    }
    if (!r.error && version >= 2 && !schedule_load(e, &r)) {
        reader_refuse(&r, BROKER_MALFORMED, "the schedule is malformed");
    }
    if (!r.error && r.left) {
        reader_refuse(&r, BROKER_MALFORMED, "the engine's snapshot has bytes left over");
    }
    if (next_queue_id > e->next_queue_id) {
        e->next_queue_id = next_queue_id;
    }
    *text = r.text;
    return r.error;
}
