/*
 * What survives: the snapshot (all of the engine's durable state) and the replay of records after it.
 *
 * Snapshot, little-endian: u32 version, u32 next queue id, u32 queues, u32 producers; then the queues, then the producers.
 * A queue: u32 id, u32 body length, body as in RECORD_QUEUE, u64 next seq, u64 trimmed, u32 next group id, u32 groups, seqset gone;
 * a group: u32 id, u32 name length, u64 floor, u64 cursor, u32 n, u32 zero, name, seqset settled, then n * (u64 seq, u64 due_ms, u32 attempt,
 * u32 zero) for messages below the cursor that were handed out more than once or wait for their time;
 * a producer: u64 producer, u32 queue, u32 holes, u64 last number, PRODUCER_RUNS * (u64 number, u64 seq, u64 count), holes * (u64 first, u64 last).
 */
#include <stdlib.h>
#include <string.h>

#include "engine_internal.h"

enum { SNAPSHOT_VERSION = 1 };

/* ---- writing ------------------------------------------------------------------------------------------------------- */

static bool save_entry(struct buf *out, uint64_t seq, uint64_t due_wall_ms, uint32_t attempts)
{
    return buf_put_u64(out, seq) && buf_put_u64(out, due_wall_ms) && buf_put_u32(out, attempts) && buf_put_u32(out, 0);
}

static bool save_returned(const struct heap *h, struct buf *out, uint32_t *n)
{
    for (size_t i = 0; i < h->len; i++) {
        const struct returned *r = container_of(h->nodes[i], struct returned, node);
        if (r->attempts > 1 || r->due_wall_ms) {
            if (!save_entry(out, r->seq, r->due_wall_ms, r->attempts)) {
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
            if (entry->attempts > 1) {
                if (!save_entry(out, entry->seq, 0, entry->attempts)) {
                    return false;
                }
                ++*n;
            }
        }
    }
    return true;
}

static bool save_replay(const struct group *g, struct buf *out, uint32_t *n)
{
    for (const struct replay_entry *r = g->replay; r; r = r->hh.next) { /* a snapshot before engine_recovered */
        if (!save_entry(out, r->seq, r->due_wall_ms, r->attempts)) {
            return false;
        }
        ++*n;
    }
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
        !save_returned(&g->ready, out, &n) || !save_returned(&g->delayed, out, &n) || !save_leased(g, out, &n) ||
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
        !buf_put_u32(out, q->group_count) || !seqset_save(&q->gone, out)) {
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
    return true;
}

/* ---- reading ------------------------------------------------------------------------------------------------------- */

struct reader {
    const uint8_t *at;
    size_t left;
    const char *text; /* what is wrong */
    broker_error error;
};

static const uint8_t *take_bytes(struct reader *r, size_t n)
{
    if (r->left < n) {
        if (!r->error) {
            r->error = BROKER_MALFORMED;
            r->text = "the engine's snapshot ends early";
        }
        return NULL;
    }
    const uint8_t *p = r->at;
    r->at += n;
    r->left -= n;
    return p;
}

static uint32_t take_u32(struct reader *r)
{
    const uint8_t *p = take_bytes(r, 4);
    return p ? get_u32(p) : 0;
}

static uint64_t take_u64(struct reader *r)
{
    const uint8_t *p = take_bytes(r, 8);
    return p ? get_u64(p) : 0;
}

static bool refuse(struct reader *r, broker_error error, const char *text)
{
    if (!r->error) {
        r->error = error;
        r->text = text;
    }
    return false;
}

static bool take_seqset(struct reader *r, struct seqset *s)
{
    size_t used = r->error ? 0 : seqset_load(s, r->at, r->left);
    return used ? take_bytes(r, used) != NULL : refuse(r, BROKER_MALFORMED, "a set of settled messages is malformed");
}

static struct replay_entry *replay_find(struct group *g, uint64_t seq)
{
    struct replay_entry *r;
    HASH_FIND(hh, g->replay, &seq, sizeof seq, r);
    return r;
}

/* false: no memory */
static bool replay_note(struct group *g, uint64_t seq, uint32_t attempts, uint64_t due_wall_ms)
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
    return true;
}

static bool load_group(struct engine *e, struct queue *q, struct reader *r)
{
    uint32_t id = take_u32(r), name_len = take_u32(r);
    uint64_t floor = take_u64(r), cursor = take_u64(r), n = take_u64(r);
    const char *name = (const char *)take_bytes(r, name_len);
    if (!name || !name_is_valid(name, name_len) || floor >= cursor || cursor > q->next_seq || (n >> 32) ||
        group_by_id(q, id)) {
        return refuse(r, BROKER_MALFORMED, "a group is malformed");
    }
    struct group *g = group_add(e, q, id, (struct name){.bytes = name, .len = name_len}, cursor);
    if (!g) {
        return refuse(r, BROKER_NO_MEMORY, "out of memory");
    }
    g->floor = floor;
    if (!take_seqset(r, &g->settled)) {
        return false;
    }
    if (!seqset_empty(&g->settled) && (g->settled.least <= floor || g->settled.most >= q->next_seq)) {
        return refuse(r, BROKER_MALFORMED, "a group's settled messages are outside its queue");
    }
    for (uint64_t i = 0; i < n; i++) {
        uint64_t seq = take_u64(r), due = take_u64(r), attempts = take_u64(r);
        if (r->error || !seq || !replay_note(g, seq, (uint32_t)attempts, due)) {
            return refuse(r, BROKER_NO_MEMORY, "out of memory");
        }
    }
    return true;
}

static bool load_queue(struct engine *e, struct reader *r)
{
    const char *text = NULL;
    uint32_t id = take_u32(r), len = take_u32(r);
    const uint8_t *body = take_bytes(r, len);
    if (!body || queue_by_id(e, id)) {
        return refuse(r, BROKER_MALFORMED, "a queue is malformed");
    }
    broker_error error = queue_apply_record(e, id, body, len, &text);
    if (error) {
        return refuse(r, error, text);
    }
    struct queue *q = queue_by_id(e, id);
    group_remove(e, LIST_FIRST(&q->groups), BROKER_OK, NULL); /* the default group comes as it was, or not at all */
    q->next_seq = take_u64(r);
    q->trimmed = take_u64(r);
    uint32_t next_group_id = take_u32(r), groups = take_u32(r);
    if (!take_seqset(r, &q->gone) || !q->next_seq || q->trimmed >= q->next_seq || !groups) {
        return refuse(r, BROKER_MALFORMED, "a queue's position is malformed");
    }
    q->visible = q->next_seq - 1;
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
    uint64_t id = take_u64(r);
    uint32_t queue = take_u32(r), holes = take_u32(r);
    if (r->error || holes > PRODUCER_HOLES_MAX || producer_find(e, queue, id)) {
        return refuse(r, BROKER_MALFORMED, "a producer is malformed");
    }
    struct producer *p = producer_make(e, queue, id);
    if (!p || (holes && !(p->holes = calloc(holes, sizeof *p->holes)))) {
        return refuse(r, BROKER_NO_MEMORY, "out of memory");
    }
    p->hole_cap = holes;
    p->last_number = take_u64(r);
    for (uint32_t i = 0; i < PRODUCER_RUNS; i++) {
        p->runs[i] = (struct producer_run){.number = take_u64(r)};
        p->runs[i].seq = take_u64(r);
        p->runs[i].count = take_u64(r);
    }
    for (; p->hole_count < holes; p->hole_count++) {
        p->holes[p->hole_count].first = take_u64(r);
        p->holes[p->hole_count].last = take_u64(r);
    }
    return !r->error;
}

broker_error engine_restore(struct engine *e, const uint8_t *snapshot, size_t len, const char **text)
{
    struct reader r = {.at = snapshot, .left = len};
    uint32_t version = take_u32(&r), next_queue_id = take_u32(&r), queues = take_u32(&r), producers = take_u32(&r);
    if (!r.error && version != SNAPSHOT_VERSION) {
        refuse(&r, BROKER_MALFORMED, "the engine's snapshot is of a version this broker does not know");
    }
    for (uint32_t i = 0; i < queues && !r.error; i++) {
        load_queue(e, &r);
    }
    for (uint32_t i = 0; i < producers && !r.error; i++) {
        load_producer(e, &r);
    }
    if (!r.error && r.left) {
        refuse(&r, BROKER_MALFORMED, "the engine's snapshot has bytes left over");
    }
    if (next_queue_id > e->next_queue_id) {
        e->next_queue_id = next_queue_id;
    }
    *text = r.text;
    return r.error;
}

/* ---- replay -------------------------------------------------------------------------------------------------------- */

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
        if (group_has_settled(g, r->seq) || r->seq >= g->cursor) {
            HASH_DEL(g->replay, r);
            free(r);
        }
    }
}

static broker_error replay_message(struct engine *e, struct queue *q, const uint8_t *record, const char **text)
{
    struct record_view view;
    if (record_view_get(record, UINT32_MAX, &view) || view.head.seq < q->next_seq) {
        *text = "a message's place in its queue is not after the one before";
        return BROKER_MALFORMED;
    }
    q->next_seq = view.head.seq + 1;
    q->visible = view.head.seq;
    if (view.head.flags & RECORD_ID_PRODUCER && view.head.id_len == 16) {
        publish_note_producer(e, q->id, get_u64(view.id), get_u64(view.id + 8), view.head.seq);
    }
    return BROKER_OK;
}

/* Records about a group: u32 group, u32 n, then items of `item` bytes. */
static bool items_fit(size_t len, uint32_t n, size_t item)
{
    return len >= 8 && n <= (len - 8) / item;
}

static broker_error replay_lease(struct group *g, const uint8_t *body, size_t len, const char **text)
{
    uint32_t n = get_u32(body + 4);
    if (n == 0) { /* handed out for the first time: the cursor tells */
        if (len < 24 || get_u64(body + 16) >= g->queue->next_seq || get_u64(body + 8) > get_u64(body + 16)) {
            *text = "a lease names messages its queue does not have";
            return BROKER_MALFORMED;
        }
        if (get_u64(body + 16) >= g->cursor) {
            g->cursor = get_u64(body + 16) + 1;
        }
        return BROKER_OK;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (!replay_note(g, get_u64(body + 8 + i * 16), get_u32(body + 16 + i * 16), 0)) {
            *text = "out of memory";
            return BROKER_NO_MEMORY;
        }
    }
    return BROKER_OK;
}

static broker_error replay_of_group(struct engine *e, struct queue *q, const uint8_t *record, const uint8_t *body,
                                    size_t len, const char **text)
{
    uint8_t type = record_type_of(record);
    uint32_t n = len >= 8 ? get_u32(body + 4) : 0;
    if (!items_fit(len, n, type == RECORD_RETURN ? 24 : 16)) {
        *text = "a record about a group ends early";
        return BROKER_MALFORMED;
    }
    struct group *g = group_by_id(q, get_u32(body));
    if (!g) {
        *text = "a record names a group its queue does not have";
        return BROKER_MALFORMED;
    }
    if (type == RECORD_LEASE) {
        return replay_lease(g, body, len, text);
    }
    if (type == RECORD_GROUP_DELETE) {
        group_apply_delete(e, g);
        return BROKER_OK;
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
        } else if (!replay_note(g, get_u64(item), get_u32(item + 16), get_u64(item + 8))) {
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
    case RECORD_GROUP_DELETE: return replay_of_group(e, q, record, body, len, text);
    case RECORD_QUEUE_DELETE: queue_apply_delete(e, q); return BROKER_OK;
    case RECORD_GROUP: return replay_group(e, q, body, len, text);
    case RECORD_PURGE:
    case RECORD_TRIM: return replay_upto(e, q, head.type, body, len, text);
    default: *text = "a record is of a type this broker does not know"; return BROKER_MALFORMED;
    }
}

/* Everything below the cursor that is not settled was handed out before the stop: it comes back, with its attempts. */
static void return_unsettled(struct engine *e, struct group *g)
{
    for (uint64_t seq = group_next_unsettled(g, 1); seq < g->cursor; seq = group_next_unsettled(g, seq + 1)) {
        struct replay_entry *r = replay_find(g, seq);
        if (!group_return(e, g, seq, r ? r->attempts : 1, r ? r->due_wall_ms : 0)) {
            g->cursor = seq; /* no memory: it counts as never handed out, which costs attempts but no message */
            break;
        }
    }
    struct replay_entry *r, *next;
    HASH_ITER(hh, g->replay, r, next)
    {
        HASH_DEL(g->replay, r);
        free(r);
    }
}

void engine_recovered(struct engine *e, struct now now, uint32_t epoch)
{
    e->now = now;
    e->replaying = false;
    e->stats.epoch = epoch;
    e->next_block = (uint64_t)(epoch & 0xfffff) << BLOCK_EPOCH_SHIFT | 1;
    for (struct queue *q = e->by_id; q; q = q->by_id.next) {
        q->visible = q->next_seq - 1;
        struct group *g;
        LIST_FOREACH(g, &q->groups, of_queue)
        {
            return_unsettled(e, g);
        }
        queue_arm_trim(e, q, now.mono.ms);
    }
    struct producer *p;
    TAILQ_FOREACH(p, &e->producers_by_use, by_use)
    {
        p->used_ms = now.mono.ms;
    }
}
