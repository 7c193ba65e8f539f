#include "lend.h"

#include <stdlib.h>

enum {
    SLOTS = 1024,           /* a later frame takes the slot of an earlier one */
    CHUNK_BYTES = 64 << 10, /* of the memory that is lent */
    CHUNKS_KEPT = 16,       /* from one turn to the next */
    TURN_BYTES = 8 << 20,   /* lent in one turn at most */
};

struct lent_chunk {
    struct lent_chunk *next;
    size_t len, cap;
    uint8_t bytes[];
};

struct lent_slot {
    uint64_t turn; /* of this one, or empty */
    struct lent_key key;
    const uint8_t *frame;
    size_t len;
};

bool lender_init(struct lender *l, struct net *net)
{
    *l = (struct lender){.net = net, .turn = UINT64_MAX, .slots = calloc(SLOTS, sizeof(struct lent_slot))};
    for (size_t i = 0; l->slots && i < SLOTS; i++)
        l->slots[i].turn = UINT64_MAX;
    return l->slots != NULL;
}

static void chunks_free(struct lent_chunk *c)
{
    for (struct lent_chunk *next; c; c = next) {
        next = c->next;
        free(c);
    }
}

void lender_release(struct lender *l)
{
    chunks_free(l->used);
    chunks_free(l->spare);
    free(l->slots);
    *l = (struct lender){0};
}

/* In a new turn everything that was lent is free again. */
static void begin_turn(struct lender *l, uint64_t turn)
{
    for (struct lent_chunk *c; (c = l->used);) {
        l->used = c->next;
        if (c->cap > CHUNK_BYTES || l->spare_count == CHUNKS_KEPT) {
            free(c);
            continue;
        }
        c->len = 0;
        c->next = l->spare;
        l->spare = c;
        l->spare_count++;
    }
    l->turn = turn;
    l->bytes = 0;
}

static struct lent_chunk *chunk_get(struct lender *l, size_t n)
{
    struct lent_chunk *c = l->spare;
    if (c && n <= CHUNK_BYTES) {
        l->spare = c->next;
        l->spare_count--;
        return c;
    }
    size_t cap = n > CHUNK_BYTES ? n : CHUNK_BYTES;
    c = malloc(sizeof(*c) + cap);
    if (c) {
        c->len = 0;
        c->cap = cap;
    }
    return c;
}

uint8_t *lender_get(struct lender *l, size_t n)
{
    uint64_t turn = net_turn_number(l->net);
    if (turn != l->turn)
        begin_turn(l, turn);
    struct lent_chunk *c = l->used;
    if (!c || c->cap - c->len < n) {
        if (l->bytes > TURN_BYTES - CHUNK_BYTES || n > TURN_BYTES - l->bytes || !(c = chunk_get(l, n)))
            return NULL;
        c->next = l->used;
        l->used = c;
        l->bytes += c->cap;
    }
    uint8_t *bytes = c->bytes + c->len;
    c->len += n;
    return bytes;
}

static struct lent_slot *slot_of(const struct lender *l, const struct lent_key *k)
{
    return &l->slots[(k->seq + k->queue_id * 61u + k->sub * 17u + k->compresses) % SLOTS];
}

const uint8_t *lender_find(struct lender *l, const struct lent_key *key, size_t *len)
{
    const struct lent_slot *s = slot_of(l, key);
    if (s->turn != net_turn_number(l->net) || s->key.seq != key->seq || s->key.queue_id != key->queue_id ||
        s->key.sub != key->sub || s->key.format != key->format || s->key.compresses != key->compresses)
        return NULL;
    *len = s->len;
    return s->frame;
}

void lender_note(struct lender *l, const struct lent_key *key, const uint8_t *frame, size_t len)
{
    *slot_of(l, key) = (struct lent_slot){l->turn, *key, frame, len};
}
