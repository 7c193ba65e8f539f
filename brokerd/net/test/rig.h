/* A small front over real sockets, shared by the tests of this folder, which include cmocka.h first: frames of a u32 length
   and that many bytes; what it does with one is the test's choice. */
#ifndef NET_TEST_RIG_H
#define NET_TEST_RIG_H

#include "net_internal.h"

struct front;
struct peer {
    struct front *front;
    struct net_conn *c;
    unsigned frames, drained;
    size_t bytes, last_len, largest_unsent;
    uint8_t last_first;
};

struct front {
    struct net *net;
    void (*frame)(struct peer *p, uint8_t *bytes, size_t len);
    struct peer *peers[16];
    unsigned opened, closed, deadlines;
    enum net_close_reason reason;
    size_t full;
    unsigned most; /* connections at once; 0: the loop's limit alone */
};

extern const struct net_handler HANDLER;

void start(struct front *f);
void stop(struct front *f);

extern struct net_timer
    tick; /* what happens at a turn's end is seen only after the sleep that follows: look again now and then */
#define UNTIL(f, condition)                                                                                            \
    do {                                                                                                               \
        while (!(condition)) {                                                                                         \
            net_timer_set((f)->net, &tick, (monotime){net_now((f)->net).mono.ms + 5});                                 \
            net_turn((f)->net, true);                                                                                  \
        }                                                                                                              \
        net_timer_set((f)->net, &tick, MONOTIME_NEVER);                                                                \
    } while (0)

void settle(struct front *f); /* everything that is there is done */
int pair(struct front *f);    /* a connection; the other end of it */
void put(int fd, const void *bytes, size_t n);
void put_frame(int fd, const void *bytes, uint32_t n);

#endif
