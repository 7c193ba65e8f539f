/* Private to fronts/websocket/: frames that many connections send in one turn are made once, and lent to each. */
#ifndef WEBSOCKET_LEND_H
#define WEBSOCKET_LEND_H

#include "net.h"

struct lent_chunk;
struct lent_slot;

struct lender {
    struct net *net;
    uint64_t turn; /* what is below is of this one */
    struct lent_chunk *used, *spare;
    unsigned spare_count;
    size_t bytes; /* lent in this turn */
    struct lent_slot *slots;
};

/* What a frame's bytes depend on. */
struct lent_key {
    const void *format;
    uint64_t seq;
    uint32_t queue_id, sub;
    bool compresses;
};

bool lender_init(struct lender *l, struct net *net); /* false: no memory */
void lender_release(struct lender *l);
/* n bytes that stay until this turn's output was sent; NULL: too much is lent already, or no memory: copy instead. */
uint8_t *lender_get(struct lender *l, size_t n);
/* The frame of this key, made earlier in this turn; NULL: none. */
const uint8_t *lender_find(struct lender *l, const struct lent_key *key, size_t *len);
void lender_note(struct lender *l, const struct lent_key *key, const uint8_t *frame, size_t len);

#endif
