#include "ledger.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 1 << 14, CHUNKS = 1 << 14, BODY_HEAD = 24, PRINTED = 20 };
enum { CONFIRMED = 1, REFUSED = 2 };
enum { SEEN = 1, ACKED = 2 };
#define BODY_MAGIC 0x6b6c6f7353u

struct entry {
    _Atomic uint64_t seq; /* 0: not known yet */
    _Atomic uint8_t publish;
    _Atomic uint8_t group[LEDGER_GROUPS];
};

struct producer {
    _Atomic uint64_t submitted;
    struct entry *_Atomic chunks[CHUNKS];
};

struct ledger {
    struct producer producers[LEDGER_PRODUCERS];
    _Atomic uint64_t confirmed, refused, delivered, redelivered, acked, broken;
};

struct ledger *ledger_new(void)
{
    return calloc(1, sizeof(struct ledger));
}

void ledger_free(struct ledger *l)
{
    for (unsigned p = 0; l && p < LEDGER_PRODUCERS; p++) {
        for (unsigned c = 0; c < CHUNKS; c++)
            free(l->producers[p].chunks[c]);
    }
    free(l);
}

static struct entry *entry_of(struct ledger *l, unsigned producer, uint64_t number)
{
    return &l->producers[producer].chunks[number / CHUNK][number % CHUNK];
}

void ledger_broken(struct ledger *l, const char *format, ...)
{
    if (atomic_fetch_add(&l->broken, 1) >= PRINTED)
        return;
    char text[400];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    fprintf(stderr, "BROKEN PROMISE: %s\n", text);
}

uint64_t ledger_submit(struct ledger *l, unsigned producer)
{
    struct producer *p = &l->producers[producer];
    uint64_t number = p->submitted;

    if (number % CHUNK == 0) {
        struct entry *chunk = number / CHUNK < CHUNKS ? calloc(CHUNK, sizeof(*chunk)) : NULL;
        if (!chunk) {
            fprintf(stderr, "soak: no memory for message %" PRIu64 "\n", number);
            exit(2);
        }
        p->chunks[number / CHUNK] = chunk;
    }
    p->submitted = number + 1;
    return number;
}

/* One message, one seq, for ever: a retry that was stored twice, or a seq given twice, shows here. */
static void check_seq(struct ledger *l, struct entry *e, unsigned producer, uint64_t number, uint64_t seq)
{
    uint64_t known = 0;

    if (seq != 0 && !atomic_compare_exchange_strong(&e->seq, &known, seq) && known != seq)
        ledger_broken(l, "message %u/%" PRIu64 " has seq %" PRIu64 " and seq %" PRIu64 ": stored twice", producer,
                      number, known, seq);
}

void ledger_confirmed(struct ledger *l, unsigned producer, uint64_t number, uint64_t seq)
{
    struct entry *e = entry_of(l, producer, number);

    if (atomic_fetch_or(&e->publish, CONFIRMED) != 0)
        ledger_broken(l, "message %u/%" PRIu64 " was answered twice", producer, number);
    check_seq(l, e, producer, number, seq);
    l->confirmed++;
}

void ledger_refused(struct ledger *l, unsigned producer, uint64_t number)
{
    atomic_fetch_or(&entry_of(l, producer, number)->publish, REFUSED);
    l->refused++;
}

static uint64_t mix(uint64_t z) /* splitmix64's finaliser, Steele et al. 2014 */
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Mostly small, some of a few KiB, and now and then one of many. */
static size_t body_length(uint64_t chance)
{
    if (chance % 5000 == 0)
        return BODY_HEAD + (chance >> 16) % (LEDGER_BODY_MAX - BODY_HEAD);
    return BODY_HEAD + (chance >> 16) % (chance % 16 == 0 ? 8000 : 200);
}

static uint64_t chance_of(unsigned producer, uint64_t number)
{
    return mix(((uint64_t)producer + 1) << 48 ^ (number + 1));
}

static uint8_t byte_at(uint64_t chance, size_t i)
{
    return (uint8_t)(chance >> (i % 8 * 8)) ^ (uint8_t)i;
}

size_t ledger_body(unsigned producer, uint64_t number, uint8_t *out, size_t room)
{
    uint64_t chance = chance_of(producer, number), head[3] = {BODY_MAGIC, producer, number};
    size_t len = body_length(chance);

    len = len < room ? len : room;
    memcpy(out, head, sizeof(head));
    for (size_t i = BODY_HEAD; i < len; i++)
        out[i] = byte_at(chance, i);
    return len;
}

static bool is_submitted(struct ledger *l, const uint8_t *body, size_t len, unsigned *producer, uint64_t *number)
{
    uint64_t head[3];

    if (len < BODY_HEAD)
        return false;
    memcpy(head, body, sizeof(head));
    if (head[0] != BODY_MAGIC || head[1] >= LEDGER_PRODUCERS || head[2] >= l->producers[head[1]].submitted)
        return false;
    *producer = (unsigned)head[1];
    *number = head[2];
    uint64_t chance = chance_of(*producer, *number);
    if (len != body_length(chance))
        return false;
    for (size_t i = BODY_HEAD; i < len; i++) {
        if (body[i] != byte_at(chance, i))
            return false;
    }
    return true;
}

bool ledger_delivered(struct ledger *l, unsigned group, uint64_t seq, const uint8_t *body, size_t len,
                      unsigned *producer, uint64_t *number)
{
    if (!is_submitted(l, body, len, producer, number)) {
        ledger_broken(l, "phantom: seq %" PRIu64 ", %zu bytes that nobody published", seq, len);
        *producer = LEDGER_PRODUCERS;
        return true;
    }
    struct entry *e = entry_of(l, *producer, *number);
    if (e->publish & REFUSED)
        ledger_broken(l, "message %u/%" PRIu64 " was refused and came all the same", *producer, *number);
    check_seq(l, e, *producer, *number, seq);
    uint8_t before = atomic_fetch_or(&e->group[group], SEEN);
    if (before & SEEN)
        l->redelivered++;
    l->delivered++;
    return !(before & ACKED);
}

void ledger_acked(struct ledger *l, unsigned group, unsigned producer, uint64_t number)
{
    if (!(atomic_fetch_or(&entry_of(l, producer, number)->group[group], ACKED) & ACKED))
        l->acked++;
}

void ledger_totals(struct ledger *l, struct ledger_totals *t)
{
    *t = (struct ledger_totals){.confirmed = l->confirmed,
                                .refused = l->refused,
                                .delivered = l->delivered,
                                .redelivered = l->redelivered,
                                .acked = l->acked,
                                .broken = l->broken};
    for (unsigned p = 0; p < LEDGER_PRODUCERS; p++)
        t->submitted += l->producers[p].submitted;
}

void ledger_close(struct ledger *l)
{
    for (unsigned p = 0; p < LEDGER_PRODUCERS; p++) {
        for (uint64_t n = 0; n < l->producers[p].submitted; n++) {
            struct entry *e = entry_of(l, p, n);
            for (unsigned g = 0; g < LEDGER_GROUPS; g++) {
                if ((e->publish & CONFIRMED) && !(e->group[g] & SEEN))
                    ledger_broken(l,
                                  "message %u/%" PRIu64 " (seq %" PRIu64 ") was confirmed and never came to group %u",
                                  p, n, e->seq, g);
            }
        }
    }
}
