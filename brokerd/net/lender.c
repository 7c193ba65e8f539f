#include "lender.h"

#include <stdlib.h>

enum {
    CHUNK_BYTES = 64 << 10, /* of the memory that is lent */
    CHUNKS_KEPT = 16,       /* from one turn to the next */
    TURN_BYTES = 8 << 20,   /* lent in one turn at most */
};

struct net_lent {
    struct net_lent *next;
    size_t len, cap;
    uint8_t bytes[];
};

static void chunks_free(struct net_lent *c)
{
    for (struct net_lent *next; c; c = next) {
        next = c->next;
        free(c);
    }
}

void net_lender_release(struct net_lender *l)
{
    chunks_free(l->used);
    chunks_free(l->spare);
    *l = (struct net_lender){.net = l->net};
}

/* In a new turn everything that was lent is free again. */
static void begin_turn(struct net_lender *l, uint64_t turn)
{
    for (struct net_lent *c; (c = l->used);) {
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

static struct net_lent *chunk_get(struct net_lender *l, size_t n)
{
    struct net_lent *c = l->spare;
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

uint8_t *net_lender_get(struct net_lender *l, size_t n)
{
    uint64_t turn = net_turn_number(l->net);
    if (turn != l->turn)
        begin_turn(l, turn);
    struct net_lent *c = l->used;
    if (!c || c->cap - c->len < n) {
        bool over = l->bytes > 0 && n > TURN_BYTES - (l->bytes < TURN_BYTES ? l->bytes : TURN_BYTES);
        if (over || !(c = chunk_get(l, n)))
            return NULL;
        c->next = l->used;
        l->used = c;
        l->bytes += c->cap;
    }
    uint8_t *bytes = c->bytes + c->len;
    c->len += n;
    return bytes;
}
