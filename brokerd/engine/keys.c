/*
 * Keys in a group. Ordered (the default): of one key one message at a time is out, its holder, until it is settled; what
 * comes up meanwhile is parked. Fair only: any number is out, but once a key has something out, more of it is parked and
 * the keys take turns. A key is known here only while something of it is out or parked.
 */
#include <stdlib.h>
#include <string.h>

#include "engine_internal.h"

struct key_state {
    uint32_t number; /* index in keys->slots */
    uint32_t out;    /* messages handed out, or about to be */
    uint64_t holder; /* ordered: the message that is out, or whose turn it is; 0: none */
    struct seqset parked;
    TAILQ_ENTRY(key_state) in_turns; /* has parked ones and may hand one out */
    bool has_turn;
    UT_hash_handle hh;
    uint32_t len;
    uint8_t bytes[];
};

struct keys {
    struct key_state *by_bytes;
    struct key_state **slots; /* [0] is not used */
    uint32_t slot_count, slot_cap;
    uint32_t *free_slots;
    uint32_t free_count;
    uint64_t parked;
    TAILQ_HEAD(, key_state) turns;
};

bool keys_matter(const struct queue *q)
{
    return q->settings.ordered_keys || q->settings.fair_keys;
}

static struct keys *keys_of(struct group *g)
{
    if (!g->keys && (g->keys = calloc(1, sizeof *g->keys))) {
        TAILQ_INIT(&g->keys->turns);
        g->keys->slot_count = 1;
    }
    return g->keys;
}

/* A number for one more key. 0: no memory. */
static uint32_t slot_take(struct keys *k)
{
    if (k->free_count) {
        return k->free_slots[--k->free_count];
    }
    if (k->slot_count >= k->slot_cap) {
        uint32_t cap = k->slot_cap ? k->slot_cap * 2 : 16;
        struct key_state **slots = realloc(k->slots, cap * sizeof(struct key_state *));
        if (!slots) {
            return 0;
        }
        k->slots = slots;
        uint32_t *free_slots = realloc(k->free_slots, cap * sizeof *free_slots);
        if (!free_slots) {
            return 0;
        }
        k->free_slots = free_slots;
        k->slot_cap = cap;
    }
    return k->slot_count++;
}

static struct key_state *state_make(struct keys *k, const uint8_t *key, uint32_t len)
{
    struct key_state *s = calloc(1, sizeof *s + len);
    if (!s) {
        return NULL;
    }
    s->number = slot_take(k);
    s->len = len;
    memcpy(s->bytes, key, len);
    seqset_init(&s->parked);
    if (s->number) {
        HASH_ADD_KEYPTR(hh, k->by_bytes, s->bytes, len, s);
        if (s->hh.tbl) {
            k->slots[s->number] = s;
            return s;
        }
        k->free_slots[k->free_count++] = s->number;
    }
    free(s);
    return NULL;
}

static void turn_end(struct keys *k, struct key_state *s)
{
    if (s->has_turn) {
        TAILQ_REMOVE(&k->turns, s, in_turns);
        s->has_turn = false;
    }
}

static void state_free(struct keys *k, struct key_state *s)
{
    turn_end(k, s);
    k->parked -= seqset_empty(&s->parked) ? 0 : seqset_count(&s->parked, 1, s->parked.most);
    seqset_release(&s->parked);
    HASH_DEL(k->by_bytes, s);
    k->slots[s->number] = NULL;
    k->free_slots[k->free_count++] = s->number;
    free(s);
}

static bool is_ordered(const struct group *g)
{
    return g->queue->settings.ordered_keys;
}

/* Bring the key into the state that follows from what is out and parked. */
static void state_settle(struct group *g, struct key_state *s)
{
    struct keys *k = g->keys;
    if (!s->out && !s->holder && seqset_empty(&s->parked)) {
        state_free(k, s);
        return;
    }
    bool may = !seqset_empty(&s->parked) && (!is_ordered(g) || (!s->holder && !s->out));
    if (may && !s->has_turn) {
        TAILQ_INSERT_TAIL(&k->turns, s, in_turns);
        s->has_turn = true;
    } else if (!may) {
        turn_end(k, s);
    }
}

static void unpark(struct keys *k, struct key_state *s, uint64_t first, uint64_t last)
{
    if (!seqset_empty(&s->parked)) {
        k->parked -= seqset_count(&s->parked, first, last);
        seqset_remove(&s->parked, first, last);
    }
}

static enum key_fate park(struct group *g, struct key_state *s, uint64_t seq)
{
    if (seqset_has(&s->parked, seq)) {
        return KEY_PARKED;
    }
    if (!seqset_add(&s->parked, seq, seq)) {
        return KEY_NO_MEMORY;
    }
    g->keys->parked++;
    state_settle(g, s);
    return KEY_PARKED;
}

/* May `seq` go now, of a key that is known? Not before what is parked of it and older, nor while another one holds it. */
static bool may_go(const struct group *g, const struct key_state *s, uint64_t seq)
{
    if (is_ordered(g) && (s->holder || s->out)) {
        return s->holder == seq;
    }
    uint64_t first = seqset_next(&s->parked, 1);
    return first == seq || (seq < first && !s->out); /* before them: a special whose time came after they were parked */
}

static struct key_state *state_find(const struct group *g, const struct record_view *view)
{
    struct key_state *s = NULL;
    if (g->keys) {
        HASH_FIND(hh, g->keys->by_bytes, view->key, view->head.key_len, s);
    }
    return s;
}

/* Its key does not matter, or not any more: then it was parked before the settings changed. */
static enum key_fate take_without(struct group *g, const struct record_view *view, uint64_t seq)
{
    struct key_state *s = state_find(g, view);
    if (s) {
        unpark(g->keys, s, seq, seq);
        s->holder = s->holder == seq && !s->out ? 0 : s->holder; /* it waited in a lane */
        state_settle(g, s);
    }
    return KEY_FREE;
}

enum key_fate key_take(struct group *g, const struct record_view *view, uint64_t seq, uint32_t *key)
{
    *key = 0;
    if (!view->head.key_len) {
        return KEY_FREE;
    }
    if (!keys_matter(g->queue) || (!is_ordered(g) && is_special(g->queue, seq))) {
        return take_without(g, view, seq); /* taking turns is for those that have no priority */
    }
    struct keys *k = keys_of(g);
    struct key_state *s = state_find(g, view);
    if (s && !may_go(g, s, seq)) {
        return park(g, s, seq);
    }
    if (!s && (!k || !(s = state_make(k, view->key, view->head.key_len)))) {
        return KEY_NO_MEMORY;
    }
    unpark(k, s, seq, seq);
    s->out++;
    if (is_ordered(g)) {
        s->holder = seq;
    }
    turn_end(k, s); /* in turn: to the end of the line */
    state_settle(g, s);
    *key = s->number;
    return KEY_FREE;
}

void key_untake(struct group *g, uint32_t key, uint64_t seq)
{
    struct key_state *s = key && key != KEY_UNKNOWN ? g->keys->slots[key] : NULL;
    if (!s) {
        return;
    }
    s->out--;
    s->holder = 0;
    if (seqset_has(&g->passed, seq)) { /* it was parked before: again, and it is the first of its key */
        if (seqset_add(&s->parked, seq, seq)) {
            g->keys->parked++;
        } else {
            lane_add(g, 0, seq);
        }
    }
    state_settle(g, s);
}

/* The next special of an ordered key goes through its lane, where its priority counts. */
static void next_to_lane(struct engine *e, struct group *g, struct key_state *s)
{
    uint64_t seq = seqset_next(&s->parked, 1);
    if (seq == UINT64_MAX || !is_special(g->queue, seq) || !lane_add(g, specials_priority(g->queue, seq), seq)) {
        return;
    }
    unpark(g->keys, s, seq, seq);
    s->holder = seq;
    group_wake(e, g);
}

void key_release(struct engine *e, struct group *g, uint32_t key, uint64_t seq)
{
    struct key_state *s = key && key != KEY_UNKNOWN && g->keys ? g->keys->slots[key] : NULL;
    if (!s) {
        return;
    }
    s->out -= s->out > 0;
    if (s->holder == seq) {
        s->holder = 0;
    }
    if (is_ordered(g) && !s->holder && !s->out) {
        next_to_lane(e, g, s);
    }
    state_settle(g, s);
    group_wake(e, g);
}

bool keys_next(const struct group *g, uint64_t *seq)
{
    struct key_state *s = g->keys ? TAILQ_FIRST(&g->keys->turns) : NULL;
    if (s) {
        *seq = seqset_next(&s->parked, 1);
    }
    return s != NULL;
}

void keys_drop(struct engine *e, struct group *g, uint64_t first, uint64_t last)
{
    struct keys *k = g->keys;
    struct key_state *s, *next;
    if (!k) {
        return;
    }
    HASH_ITER(hh, k->by_bytes, s, next)
    {
        unpark(k, s, first, last);
        if (!s->out && s->holder >= first && s->holder <= last) { /* it waited in a lane for its turn */
            s->holder = 0;
            next_to_lane(e, g, s);
        }
        state_settle(g, s);
    }
    group_wake(e, g);
}

void keys_unpark_from(struct group *g, uint64_t from)
{
    const struct specials *special = g->queue->specials;
    struct key_state *s, *next;
    HASH_ITER(hh, g->keys->by_bytes, s, next)
    {
        for (uint64_t seq = seqset_next(&s->parked, from); seq != UINT64_MAX; seq = seqset_next(&s->parked, seq + 1)) {
            if (!special || !seqset_has(&special->all, seq)) {
                unpark(g->keys, s, seq, seq);
                seqset_remove(&g->passed, seq, seq);
            }
        }
        state_settle(g, s);
    }
}

void keys_free(struct group *g)
{
    struct keys *k = g->keys;
    struct key_state *s, *next;
    if (!k) {
        return;
    }
    HASH_ITER(hh, k->by_bytes, s, next)
    {
        state_free(k, s);
    }
    free(k->slots);
    free(k->free_slots);
    free(k);
    g->keys = NULL;
}

uint64_t keys_blocked(const struct group *g)
{
    return g->keys ? g->keys->parked : 0;
}
