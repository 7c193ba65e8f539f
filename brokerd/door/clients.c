#include "clients.h"

#include <stdlib.h>

enum { SLOT_BITS = 24 }; /* a number: serial << SLOT_BITS | slot, so that numbers are never reused */

struct clients {
    struct door *door;
    struct client **slots;
    uint32_t *free_slots;
    uint32_t slot_count, free_count, slot_cap, count;
    uint64_t serial;
};

struct clients *clients_new(void)
{
    return calloc(1, sizeof(struct clients));
}

void clients_attach(struct clients *t, struct door *door)
{
    t->door = door;
}

void clients_free(struct clients *t)
{
    if (!t)
        return;
    free(t->slots);
    free(t->free_slots);
    free(t);
}

static bool slots_grow(struct clients *t)
{
    uint32_t cap = t->slot_cap ? t->slot_cap * 2 : 64;
    if (cap > 1u << SLOT_BITS)
        return false;
    struct client **slots = realloc(t->slots, cap * sizeof(struct client *));
    if (!slots)
        return false;
    t->slots = slots;
    uint32_t *free_slots = realloc(t->free_slots, cap * sizeof(*free_slots));
    if (!free_slots)
        return false;
    t->free_slots = free_slots;
    t->slot_cap = cap;
    return true;
}

bool client_open(struct clients *t, struct client *c, const struct client_ops *ops, const struct identity *identity)
{
    if (!t->free_count && t->slot_count == t->slot_cap && !slots_grow(t))
        return false;
    uint32_t slot = t->free_count ? t->free_slots[--t->free_count] : t->slot_count++;
    t->slots[slot] = c;
    t->count++;
    *c = (struct client){.number = ++t->serial << SLOT_BITS | slot, .ops = ops, .session.identity = identity};
    return true;
}

struct client *client_find(const struct clients *t, uint64_t number)
{
    uint32_t slot = (uint32_t)(number & ((1u << SLOT_BITS) - 1));
    struct client *c = slot < t->slot_count ? t->slots[slot] : NULL;
    return c && c->number == number ? c : NULL;
}

static bool is_answered(enum command_type type)
{
    return type != COMMAND_CREDIT && type != COMMAND_HOLD && type != COMMAND_UNHOLD && type != COMMAND_CLOSE;
}

/* A lease without a wait may wait for a read from disk. */
static bool can_wait(enum command_type type)
{
    return type == COMMAND_SUBSCRIBE || type == COMMAND_SCAN || type == COMMAND_LEASE || type == COMMAND_READ;
}

void client_submit(struct clients *t, struct client *c, struct now now, struct command *command)
{
    command->token.conn = c->number;
    c->lingers |= can_wait(command->type);
    c->outstanding += is_answered(command->type);
    door_submit(t->door, &c->session, now, command);
}

void client_close(struct clients *t, struct client *c, struct now now)
{
    if (!c->number)
        return;
    struct command command = {.type = COMMAND_CLOSE, .token.conn = c->number};
    uint32_t slot = (uint32_t)(c->number & ((1u << SLOT_BITS) - 1));
    t->slots[slot] = NULL;
    t->free_slots[t->free_count++] = slot;
    t->count--;
    c->number = 0;
    if (c->lingers)
        door_submit(t->door, NULL, now, &command);
}

uint32_t clients_count(const struct clients *t)
{
    return t->count;
}

/* ---- the engine's sink ------------------------------------------------------------------------------------------------ */

static void complete(void *sink, const struct completion *done)
{
    struct client *c = client_find(sink, done->token.conn);
    if (!c)
        return;
    door_completed(&c->session, done);
    if (c->outstanding > 0)
        c->outstanding--;
    c->ops->complete(c, done);
}

static bool deliver(void *sink, const struct delivery *d)
{
    struct client *c = client_find(sink, d->token.conn);
    return c ? c->ops->deliver(c, d) : true; /* gone: its leases go back with it */
}

static void ended(void *sink, struct token token, broker_error error, const char *text)
{
    struct client *c = client_find(sink, token.conn);
    if (!c)
        return;
    door_ended(&c->session);
    c->ops->ended(c, token, error, text);
}

const struct sink_ops clients_sink_ops = {.complete = complete, .deliver = deliver, .ended = ended};
