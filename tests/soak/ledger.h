/*
 * What was promised, message by message: the checker of the soak test. A message is known by its producer (0, 1 ...) and
 * its number there (0, 1 ...). Several threads write at once: one producer's thread for its own messages, each consumer for
 * what it gets.
 */
#ifndef LEDGER_H
#define LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LEDGER_PRODUCERS = 8, LEDGER_GROUPS = 2 };

struct ledger;

struct ledger *ledger_new(void); /* NULL: no memory */
void ledger_free(struct ledger *l);

/* ledger_submit: the number of a new message of this producer; its body is ledger_body's. */
uint64_t ledger_submit(struct ledger *l, unsigned producer);
void ledger_confirmed(struct ledger *l, unsigned producer, uint64_t number, uint64_t seq);
void ledger_refused(struct ledger *l, unsigned producer, uint64_t number);

/* The body that belongs to a message: head, then bytes that follow from it; returns its length, at most `room`. */
size_t ledger_body(unsigned producer, uint64_t number, uint8_t *out, size_t room);
enum { LEDGER_BODY_MAX = 300 << 10 };

/*
 * ledger_delivered: a message came. Checks that it was submitted with these very bytes, was not refused, and has the seq
 * it always had. False if it was acked before, with a confirmed ack: the caller asks the broker whether its receipt is
 * still good, and only then is it a broken promise (an old delivery may have waited in the client).
 */
bool ledger_delivered(struct ledger *l, unsigned group, uint64_t seq, const uint8_t *body, size_t len,
                      unsigned *producer, uint64_t *number);
void ledger_acked(struct ledger *l, unsigned group, unsigned producer, uint64_t number); /* and confirmed */
/* ledger_broken: count and print (the first few) a broken promise. */
void ledger_broken(struct ledger *l, const char *format, ...) __attribute__((format(printf, 2, 3)));

struct ledger_totals {
    uint64_t submitted, confirmed, refused, delivered, redelivered, acked, broken;
};
void ledger_totals(struct ledger *l, struct ledger_totals *t);
/* At the end, after everything was consumed: is each confirmed message known to each group? Broken promises are counted. */
void ledger_close(struct ledger *l);

#endif
