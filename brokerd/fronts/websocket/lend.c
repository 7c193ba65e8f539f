#include "lend.h"

#include <stdlib.h>

enum { SLOTS = 1024 }; /* a later frame takes the slot of an earlier one */

struct lent_slot {
    uint64_t turn; /* of this one, or empty */
    struct lent_key key;
    const uint8_t *frame;
    size_t len;
};

bool lender_init(struct lender *l, struct net *net)
{
    *l = (struct lender){.memory.net = net, .slots = calloc(SLOTS, sizeof(struct lent_slot))};
    for (size_t i = 0; l->slots && i < SLOTS; i++)
        l->slots[i].turn = UINT64_MAX;
    return l->slots != NULL;
}

void lender_release(struct lender *l)
{
    net_lender_release(&l->memory);
    free(l->slots);
    *l = (struct lender){0};
}

static struct lent_slot *slot_of(const struct lender *l, const struct lent_key *k)
{
    return &l->slots[(k->seq + k->queue_id * 61u + k->sub * 17u + k->compresses) % SLOTS];
}

const uint8_t *lender_find(struct lender *l, const struct lent_key *key, size_t *len)
{
    const struct lent_slot *s = slot_of(l, key);
    if (s->turn != net_turn_number(l->memory.net) || s->key.seq != key->seq || s->key.queue_id != key->queue_id ||
        s->key.sub != key->sub || s->key.format != key->format || s->key.compresses != key->compresses)
        return NULL;
    *len = s->len;
    return s->frame;
}

void lender_note(struct lender *l, const struct lent_key *key, const uint8_t *frame, size_t len)
{
    *slot_of(l, key) = (struct lent_slot){net_turn_number(l->memory.net), *key, frame, len};
}
