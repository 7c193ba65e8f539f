/*
 * Owns:            memory for bytes that many connections send in one turn: made once, lent to each (net_conn_write_borrowed).
 * May use:         net.
 * Never knows:     what the bytes are, and who has had them.
 * Start reading at net_lender_get.
 */
#ifndef NET_LENDER_H
#define NET_LENDER_H

#include "net.h"

struct net_lent;
struct net_lender { /* zeroed but for `net`: empty */
    struct net *net;
    uint64_t turn; /* what is lent is of this one */
    struct net_lent *used, *spare;
    unsigned spare_count;
    size_t bytes; /* lent in this turn */
};

void net_lender_release(struct net_lender *l);
/*
 * n bytes that stay until this turn's output was sent, that is while net_turn_number does. NULL: too much is lent already
 * (8 MiB, or one piece that is larger), or no memory: copy instead.
 */
uint8_t *net_lender_get(struct net_lender *l, size_t n);

#endif
