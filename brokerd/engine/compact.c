/*
 * Compaction of log queues: of each key the newest message is kept. It goes in passes, of one queue at a time, a slice per
 * turn of the loop: the first half walks the messages that came since the last pass and notes the newest seq of each key;
 * the second walks everything up to there and deletes what has a newer one. So what earlier passes have cleaned holds each
 * key once. All of this is in memory alone: the first pass after a start begins at the oldest message.
 *
 * An empty body says that its key is gone. It goes itself, COMPACT_TOMBSTONE_MS after it was accepted: by then everything
 * older of its key is deleted, as its own pass did that first. A message that waits for its time has not happened yet: it
 * is left alone, and hides nothing.
 */
#include <stdlib.h>
#include <string.h>

#include "engine_internal.h"

enum {
    COMPACT_TOMBSTONE_MS = 60000,
    COMPACT_IDLE_MS = 10000,    /* after the last publish, whatever there is */
    COMPACT_PAUSE_MS = 1000,    /* between passes, and between looks whether one is worth it */
    COMPACT_DIRTY_PERCENT = 50, /* of the messages: worth a pass though publishes go on */
    COMPACT_RETRY_MS = 10000,   /* a pass could not go on: no memory, disk full */
    DEFAULT_KEYS = 1000000,
    KEYS_BYTES_MAX = 64 << 20,
    KEY_HEAD_BYTES = 16,
    PROBES_MAX = 256,     /* so that keys made to collide end a section and cost no more */
    SLICE_MESSAGES = 256, /* of one turn */
    SLICE_BYTES = 256 << 10
};

/* Keys and their newest seq. The table has its size from the start: a turn never pays for growth of it. */
struct key_map {
    uint32_t
        *slots; /* place in `keys`, divided by 8, plus 1; 0: empty. Number is a power of two, over twice that of keys */
    uint64_t mask;
    uint32_t count, max;
    struct buf keys; /* each: u64 newest seq, u32 length, u32 zero, the key, zeros to 8 */
};

enum compact_phase {
    COMPACT_IDLE,
    COMPACT_DUE, /* in engine->compactions, its turn has not come */
    COMPACT_MAP,
    COMPACT_SWEEP
};

struct compaction {
    TAILQ_ENTRY(compaction) link; /* engine->compactions, unless idle */
    struct heap_node timer;       /* engine->compact_timers, if idle */
    struct queue *queue;
    enum compact_phase phase;
    bool reading;
    uint64_t clean;    /* a pass has gone over everything up to here */
    uint64_t noted_ms; /* monotonic: the last publish */
    uint64_t at, end;  /* of the phase; `end` is the pass's */
    struct key_map map;
    bool unsure;           /* the newest of a key went while the pass was under way: older ones stayed */
    uint64_t young_due_ms; /* wall: the first time an empty body may go; 0: there is none */
    uint64_t young_seq;    /* the first of these */
};

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* ---- keys ---------------------------------------------------------------------------------------------------------- */

static void map_release(struct key_map *m)
{
    free(m->slots);
    buf_release(&m->keys);
    *m = (struct key_map){.slots = NULL};
}

static bool map_init(struct key_map *m, uint64_t messages, uint32_t max_keys)
{
    uint64_t slots = 64;
    m->max = (uint32_t)least(messages, max_keys);
    while (slots < 2ull * m->max) {
        slots *= 2;
    }
    m->mask = slots - 1;
    m->count = 0;
    buf_init(&m->keys, KEYS_BYTES_MAX);
    m->slots = calloc(slots, sizeof *m->slots);
    return m->slots;
}

/* FNV-1a, and MurmurHash3's finalizer so that the low bits know of all. */
static uint64_t hash(const uint8_t *key, size_t len)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < len; i++) {
        h = (h ^ key[i]) * 0x100000001b3u;
    }
    h = (h ^ h >> 33) * 0xff51afd7ed558ccdu;
    h = (h ^ h >> 33) * 0xc4ceb9fe1a85ec53u;
    return h ^ h >> 33;
}

/* The key's slot: its own, or the empty one where it belongs; NULL: PROBES_MAX others are in the way. */
static uint32_t *map_slot(const struct key_map *m, const uint8_t *key, size_t len)
{
    uint64_t at = hash(key, len);
    for (uint32_t probes = 0; m->slots && probes < PROBES_MAX; probes++, at++) {
        uint32_t *slot = &m->slots[at & m->mask];
        const uint8_t *entry = *slot ? m->keys.bytes + (*slot - 1) * 8ull : NULL;
        if (!entry || (get_u32(entry + 8) == len && memcmp(entry + KEY_HEAD_BYTES, key, len) == 0)) {
            return slot;
        }
    }
    return NULL;
}

/* seq is the newest of this key so far. false: no room. */
static bool map_put(struct key_map *m, const uint8_t *key, size_t len, uint64_t seq)
{
    uint32_t *slot = map_slot(m, key, len);
    if (!slot) {
        return false;
    }
    if (*slot) {
        put_u64(m->keys.bytes + (*slot - 1) * 8ull, seq);
        return true;
    }
    size_t bytes = KEY_HEAD_BYTES + pad8((uint32_t)len);
    uint8_t *entry = m->count < m->max ? buf_reserve(&m->keys, bytes) : NULL;
    if (!entry) {
        return false;
    }
    memset(entry, 0, bytes);
    put_u64(entry, seq);
    put_u32(entry + 8, (uint32_t)len);
    memcpy(entry + KEY_HEAD_BYTES, key, len);
    *slot = (uint32_t)(m->keys.len / 8 + 1);
    m->keys.len += bytes;
    m->count++;
    return true;
}

/* The newest seq of a key in the section; 0: it is not there. */
static uint64_t map_newest(const struct key_map *m, const uint8_t *key, size_t len)
{
    const uint32_t *slot = map_slot(m, key, len);
    return slot && *slot ? get_u64(m->keys.bytes + (*slot - 1) * 8ull) : 0;
}

/* ---- when ---------------------------------------------------------------------------------------------------------- */

static bool is_compacted(const struct queue *q)
{
    return q->settings.compact && q->settings.retention == BROKER_RETENTION_LOG;
}

static bool is_dirty(const struct compaction *c)
{
    return c->queue->next_seq - 1 > c->clean;
}

static void arm(struct engine *e, struct compaction *c, uint64_t at_ms)
{
    heap_set(&e->compact_timers, &c->timer, at_ms); /* no memory: the next publish arms it */
}

/* When an empty body may go, on the monotonic clock; UINT64_MAX: there is none. */
static uint64_t young_due(const struct engine *e, const struct compaction *c)
{
    if (!c->young_due_ms) {
        return UINT64_MAX;
    }
    uint64_t left = c->young_due_ms > e->now.wall.ms ? c->young_due_ms - e->now.wall.ms : 0;
    return e->now.mono.ms + (left > COMPACT_PAUSE_MS ? left : COMPACT_PAUSE_MS);
}

static bool is_worth_it(const struct engine *e, const struct compaction *c)
{
    uint64_t messages, bytes, oldest, visible = c->queue->visible, idle_ms = e->now.mono.ms - c->noted_ms;
    uint64_t dirty = visible > c->clean ? visible - c->clean : 0;
    bool young = c->young_due_ms && c->young_due_ms <= e->now.wall.ms;
    if (idle_ms >= COMPACT_IDLE_MS) {
        return dirty || young;
    }
    e->ops->usage(e->store, c->queue->id, &messages, &bytes, &oldest);
    return dirty > messages / 100 * COMPACT_DIRTY_PERCENT + messages % 100 * COMPACT_DIRTY_PERCENT / 100;
}

static void compaction_free(struct engine *e, struct compaction *c)
{
    if (c->phase != COMPACT_IDLE) {
        TAILQ_REMOVE(&e->compactions, c, link);
    }
    heap_remove(&e->compact_timers, &c->timer);
    if (!e->compact_timers.len) {
        heap_release(&e->compact_timers);
    }
    map_release(&c->map);
    c->queue->compaction = NULL;
    free(c);
}

void compact_free(struct engine *e, struct queue *q)
{
    if (q->compaction) {
        compaction_free(e, q->compaction);
    }
}

void compact_note(struct engine *e, struct queue *q)
{
    if (!is_compacted(q)) {
        compact_free(e, q);
        return;
    }
    struct compaction *c = q->compaction;
    if (!c) {
        c = calloc(1, sizeof *c);
        if (!c) {
            return; /* the next publish tries again */
        }
        c->queue = q;
        q->compaction = c;
    }
    c->noted_ms = e->now.mono.ms;
    if (c->phase == COMPACT_IDLE && is_dirty(c) &&
        (!heap_has(&c->timer) || c->timer.key > e->now.mono.ms + COMPACT_PAUSE_MS)) {
        arm(e, c, e->now.mono.ms + COMPACT_PAUSE_MS);
    }
}

/* The pass is over, or given up: nothing of it is kept but `clean`. */
static void rest(struct engine *e, struct compaction *c, uint64_t pause_ms)
{
    TAILQ_REMOVE(&e->compactions, c, link);
    map_release(&c->map);
    c->phase = COMPACT_IDLE;
    c->reading = false;
    uint64_t young = young_due(e, c);
    if (is_dirty(c) || young < UINT64_MAX) {
        arm(e, c, is_dirty(c) ? e->now.mono.ms + pause_ms : young);
    }
}

static void look_at_timers(struct engine *e)
{
    struct heap_node *n;
    while ((n = heap_min(&e->compact_timers)) && n->key <= e->now.mono.ms) {
        struct compaction *c = container_of(n, struct compaction, timer);
        heap_remove(&e->compact_timers, n);
        if (!is_compacted(c->queue)) {
            compaction_free(e, c);
        } else if (is_worth_it(e, c)) {
            c->phase = COMPACT_DUE;
            TAILQ_INSERT_TAIL(&e->compactions, c, link);
        } else if (is_dirty(c)) {
            arm(e, c, e->now.mono.ms + COMPACT_PAUSE_MS);
        } else if (c->young_due_ms) {
            uint64_t idle = c->noted_ms + COMPACT_IDLE_MS, young = young_due(e, c);
            arm(e, c, idle > young ? idle : young);
        }
    }
}

/* ---- a pass -------------------------------------------------------------------------------------------------------- */

enum step { STEP_ON, STEP_OVER, STEP_PENDING, STEP_GIVE_UP };

static bool is_gone(const struct queue *q, uint64_t seq)
{
    return seq <= q->trimmed || seqset_has(&q->gone, seq);
}

/* A keyed message that is there and has happened. */
static bool counts(const struct queue *q, const struct stored_message *m, struct record_view *view)
{
    return !is_gone(q, m->seq) && !(q->specials && seqset_has(&q->specials->waiting, m->seq)) &&
           record_view_get(m->record, m->padded_len, view) == BROKER_OK && view->head.key_len;
}

/* A message that cannot be read has no key that anybody will see: it is passed over. */
static enum step read_some(struct engine *e, struct compaction *c, struct stored_message *out, uint32_t *count)
{
    uint64_t damaged;
    *count = 0;
    if (c->at > c->end) {
        return STEP_OVER;
    }
    switch (e->ops->read(e->store, c->queue->id, c->at, c->end, SLICE_MESSAGES, SLICE_BYTES, out, count, &damaged)) {
    case READ_OK: return STEP_ON;
    case READ_PENDING: return STEP_PENDING;
    case READ_DAMAGED: c->at = damaged + 1; return STEP_ON;
    case READ_END: break;
    }
    c->at = c->end + 1;
    return STEP_OVER;
}

static enum step map_some(struct engine *e, struct compaction *c)
{
    struct stored_message messages[SLICE_MESSAGES];
    struct record_view view;
    uint32_t count;
    enum step step = read_some(e, c, messages, &count);
    for (uint32_t i = 0; i < count; i++) {
        const struct stored_message *m = &messages[i];
        if (counts(c->queue, m, &view) && !map_put(&c->map, view.key, view.head.key_len, m->seq)) {
            c->end = m->seq - 1; /* full: the section ends here, the next pass begins with this one */
            return c->map.count ? STEP_OVER : STEP_GIVE_UP;
        }
        c->at = m->seq + 1;
    }
    return step;
}

/* Is something newer of its key there, or is it an empty body that has had its time? */
static bool is_outdated(const struct engine *e, struct compaction *c, const struct stored_message *m,
                        const struct record_view *view)
{
    uint64_t newest = map_newest(&c->map, view->key, view->head.key_len);
    if (newest > m->seq) {
        if (!is_gone(c->queue, newest)) {
            return true;
        }
        c->unsure = true; /* it went meanwhile: what is left of its key stays, and is looked at again */
    }
    if (view->body_len || c->unsure) {
        return false;
    }
    uint64_t due_ms = view->head.time_ms + COMPACT_TOMBSTONE_MS;
    if (due_ms <= e->now.wall.ms) {
        return true;
    }
    if (!c->young_due_ms) {
        c->young_seq = m->seq;
    }
    c->young_due_ms = c->young_due_ms ? least(c->young_due_ms, due_ms) : due_ms;
    return false;
}

static enum step sweep_some(struct engine *e, struct compaction *c)
{
    struct stored_message messages[SLICE_MESSAGES];
    uint64_t ranges[SLICE_MESSAGES][2], index;
    struct record_view view;
    uint32_t count, n = 0;
    enum step step = read_some(e, c, messages, &count);
    for (uint32_t i = 0; i < count; i++) {
        const struct stored_message *m = &messages[i];
        if (counts(c->queue, m, &view) && is_outdated(e, c, m, &view)) {
            if (n && ranges[n - 1][1] + 1 == m->seq) {
                ranges[n - 1][1] = m->seq;
            } else {
                ranges[n][0] = ranges[n][1] = m->seq;
                n++;
            }
        }
        c->at = m->seq + 1;
    }
    if (n && queue_delete_ranges(e, c->queue, (const uint64_t(*)[2])ranges, n, DURABILITY_LAZY, &index) != BROKER_OK) {
        return STEP_GIVE_UP;
    }
    return step;
}

static bool begin(struct engine *e, struct compaction *c)
{
    const struct queue *q = c->queue;
    uint64_t messages, bytes, oldest;
    uint32_t max_keys = e->options.max_compaction_keys ? e->options.max_compaction_keys : DEFAULT_KEYS;
    e->ops->usage(e->store, q->id, &messages, &bytes, &oldest);
    c->end = q->visible;
    c->at = c->clean + 1;
    if (!oldest) { /* nothing is there */
        c->at = c->end + 1;
    } else if (oldest > c->at) {
        c->at = oldest;
    }
    c->unsure = false;
    c->phase = COMPACT_MAP;
    return map_init(&c->map, c->at <= c->end ? c->end - c->at + 1 : 0, max_keys);
}

/* From the oldest, if the section has keys; else from the first empty body whose time may have come. */
static void begin_sweep(struct engine *e, struct compaction *c)
{
    uint64_t messages, bytes, oldest;
    bool young = c->young_due_ms && c->young_due_ms <= e->now.wall.ms;
    c->phase = COMPACT_SWEEP;
    if (!c->map.count && !young) {
        c->at = c->end + 1;
        return;
    }
    e->ops->usage(e->store, c->queue->id, &messages, &bytes, &oldest);
    c->at = oldest ? oldest : c->end + 1;
    if (!c->map.count && c->young_seq > c->at) {
        c->at = c->young_seq;
    }
    c->young_due_ms = 0; /* those that are left are met again */
}

static void turn(struct engine *e, struct compaction *c)
{
    if (!is_compacted(c->queue)) {
        compaction_free(e, c);
        return;
    }
    if (c->phase == COMPACT_DUE && !begin(e, c)) {
        rest(e, c, COMPACT_RETRY_MS);
        return;
    }
    enum step step = c->phase == COMPACT_MAP ? map_some(e, c) : sweep_some(e, c);
    c->reading = step == STEP_PENDING;
    if (step == STEP_GIVE_UP) {
        c->young_due_ms = 0; /* where they are is not known any more: begin anew */
        c->clean = 0;
        rest(e, c, COMPACT_RETRY_MS);
    } else if (step == STEP_OVER && c->phase == COMPACT_MAP) {
        begin_sweep(e, c);
    } else if (step == STEP_OVER) {
        c->clean = c->unsure ? 0 : c->end;
        rest(e, c, COMPACT_PAUSE_MS);
    }
}

void compact_run(struct engine *e)
{
    look_at_timers(e);
    struct compaction *c = TAILQ_FIRST(&e->compactions);
    if (c && !c->reading) {
        turn(e, c);
    }
}

void compact_readable(struct engine *e, struct queue *q)
{
    if (q->compaction) {
        q->compaction->reading = false;
    }
}

uint64_t compact_next(const struct engine *e)
{
    const struct compaction *c = TAILQ_FIRST(&e->compactions);
    const struct heap_node *n = heap_min(&e->compact_timers);
    if (c && !c->reading) {
        return e->now.mono.ms;
    }
    return n ? n->key : UINT64_MAX;
}
