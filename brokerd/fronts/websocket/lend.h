/* Private to fronts/websocket/: frames that many connections send in one turn are made once, and lent to each. */
#ifndef WEBSOCKET_LEND_H
#define WEBSOCKET_LEND_H

#include "lender.h"

struct lent_slot;

struct lender {
    struct net_lender memory;
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
/* The frame of this key, made earlier in this turn; NULL: none. */
const uint8_t *lender_find(struct lender *l, const struct lent_key *key, size_t *len);
void lender_note(struct lender *l, const struct lent_key *key, const uint8_t *frame, size_t len);

#endif
