/* Consumers: subscriptions and waiting leases, their credit, and what ends them. */
#include <stdlib.h>
#include <string.h>

#include "engine_internal.h"

static struct client *client_find(struct engine *e, uint64_t conn)
{
    struct client *client;
    HASH_FIND(hh, e->clients, &conn, sizeof conn, client);
    return client;
}

static struct client *client_make(struct engine *e, uint64_t conn)
{
    struct client *client = client_find(e, conn);
    if (client) {
        return client;
    }
    client = calloc(1, sizeof *client);
    if (!client) {
        return NULL;
    }
    client->conn = conn;
    TAILQ_INIT(&client->consumers);
    HASH_ADD(hh, e->clients, conn, sizeof client->conn, client);
    if (!client->hh.tbl) {
        free(client);
        return NULL;
    }
    return client;
}

static void client_drop_if_idle(struct engine *e, struct client *client)
{
    if (TAILQ_EMPTY(&client->consumers) && !client->held) {
        HASH_DEL(e->clients, client);
        free(client);
    }
}

/* Subscriptions of a connection are few (the door limits them): a walk. */
static struct consumer *consumer_find(struct engine *e, struct token token)
{
    struct client *client = client_find(e, token.conn);
    struct consumer *consumer = NULL;
    if (client) {
        TAILQ_FOREACH(consumer, &client->consumers, of_client)
        {
            if (!consumer->one_shot && consumer->token.stream == token.stream) {
                break;
            }
        }
    }
    return consumer;
}

static struct consumer *consumer_add(struct engine *e, struct group *g, const struct command *c)
{
    struct client *client = client_make(e, c->token.conn);
    struct consumer *consumer = client ? calloc(1, sizeof *consumer) : NULL;
    if (!consumer) {
        if (client) {
            client_drop_if_idle(e, client);
        }
        return NULL;
    }
    consumer->client = client;
    consumer->group = g;
    consumer->token = c->token;
    TAILQ_INIT(&consumer->blocks);
    TAILQ_INSERT_TAIL(&client->consumers, consumer, of_client);
    TAILQ_INSERT_TAIL(&g->consumers, consumer, of_group);
    g->consumer_count++;
    e->stats.subscriptions++;
    return consumer;
}

/* Behind all that are served before it or as soon as it: higher priority first, then in turn. */
static void ready_insert(struct group *g, struct consumer *consumer)
{
    struct consumer *before = TAILQ_LAST(&g->ready_consumers, consumer_list);
    while (before && before->priority < consumer->priority) {
        before = TAILQ_PREV(before, consumer_list, in_ready);
    }
    if (before) {
        TAILQ_INSERT_AFTER(&g->ready_consumers, before, consumer, in_ready);
    } else {
        TAILQ_INSERT_HEAD(&g->ready_consumers, consumer, in_ready);
    }
}

void consumer_requeue(struct consumer *consumer)
{
    TAILQ_REMOVE(&consumer->group->ready_consumers, consumer, in_ready);
    ready_insert(consumer->group, consumer);
}

void consumer_check(struct engine *e, struct consumer *consumer)
{
    struct group *g = consumer->group;
    bool ready = consumer->credit_messages && consumer->credit_bytes > 0 && !consumer->held &&
                 !consumer->client->held && (!g->single_active || g->active == consumer) &&
                 (!consumer->max_unsettled || consumer->unsettled < consumer->max_unsettled);
    if (ready && !consumer->is_ready) {
        ready_insert(g, consumer);
        g->ready_count++;
        group_wake(e, g);
    } else if (!ready && consumer->is_ready) {
        TAILQ_REMOVE(&g->ready_consumers, consumer, in_ready);
        g->ready_count--;
    }
    consumer->is_ready = ready;
}

/* The active one stays while it is there, unless one of higher priority comes. */
void group_consumers_changed(struct engine *e, struct group *g)
{
    struct consumer *was = g->active, *consumer;
    g->active = NULL;
    if (g->single_active) {
        TAILQ_FOREACH(consumer, &g->consumers, of_group)
        {
            bool better = !g->active || consumer->priority > g->active->priority ||
                          (consumer == was && consumer->priority == g->active->priority);
            g->active = better ? consumer : g->active;
        }
    }
    TAILQ_FOREACH(consumer, &g->consumers, of_group)
    {
        consumer_check(e, consumer);
    }
}

/* Take it out of everything; its leases return. `why` other than OK: tell its owner. */
void consumer_end(struct engine *e, struct consumer *consumer, broker_error why, const char *text)
{
    struct client *client = consumer->client;
    consumer->held = true;
    consumer_check(e, consumer);
    struct lease_block *b;
    while ((b = TAILQ_FIRST(&consumer->blocks))) {
        TAILQ_REMOVE(&consumer->blocks, b, of_consumer);
        b->consumer = NULL;
        if (!block_return_all(e, b)) { /* no memory: let them run out at once */
            heap_set(&e->lease_timers, &b->timer, 0);
            for (uint32_t i = 0; i < b->count; i++) {
                b->entries[i].deadline_ms = 0;
            }
        }
    }
    heap_remove(&e->waits, &consumer->wait);
    TAILQ_REMOVE(&client->consumers, consumer, of_client);
    TAILQ_REMOVE(&consumer->group->consumers, consumer, of_group);
    consumer->group->consumer_count--;
    e->stats.subscriptions--;
    queue_used(e, consumer->group->queue);
    if (consumer->group->active == consumer) {
        consumer->group->active = NULL;
        group_consumers_changed(e, consumer->group);
    }
    if (why != BROKER_OK && consumer->one_shot) {
        struct completion done = {.type = COMMAND_LEASE, .token = consumer->token, .error = why, .text = text};
        e->sink_ops->complete(e->sink, &done);
    } else if (why != BROKER_OK) {
        e->sink_ops->ended(e->sink, consumer->token, why, text);
    }
    free(consumer);
    client_drop_if_idle(e, client);
}

void subscribe(struct engine *e, const struct command *c)
{
    struct queue *q = queue_of(e, c);
    struct group *g = q ? group_of(e, c, q) : NULL;
    if (!g) {
        return;
    }
    if (consumer_find(e, c->token)) {
        engine_fail(e, c, BROKER_SUBSCRIPTION_EXISTS, 0,
                    "subscription %u is in use on this connection: choose another id", c->token.stream);
        return;
    }
    struct consumer *consumer = consumer_add(e, g, c);
    if (!consumer) {
        engine_append_failed(e, c, BROKER_NO_MEMORY);
        return;
    }
    consumer->lease_ms = c->u.subscribe.lease_ms;
    consumer->settle_on_send = c->u.subscribe.settle_on_send;
    consumer->priority = c->u.subscribe.priority;
    consumer->max_unsettled = c->u.subscribe.max_unsettled;
    queue_used(e, q);
    if (g->single_active) {
        group_consumers_changed(e, g);
    }
    engine_answer(e, c, BROKER_OK);
}

static struct consumer *consumer_of(struct engine *e, const struct command *c)
{
    struct consumer *consumer = consumer_find(e, c->token);
    if (!consumer && c->type == COMMAND_UNSUBSCRIBE) {
        engine_fail(e, c, BROKER_SUBSCRIPTION_NOT_FOUND, 0, "this connection has no subscription %u", c->token.stream);
    }
    return consumer;
}

void unsubscribe(struct engine *e, const struct command *c)
{
    struct consumer *consumer = consumer_of(e, c);
    if (consumer) {
        consumer_end(e, consumer, BROKER_OK, NULL);
        engine_answer(e, c, BROKER_OK);
    }
}

void consumer_credit(struct engine *e, const struct command *c)
{
    struct consumer *consumer = consumer_of(e, c);
    if (!consumer) {
        return; /* credit that crossed the subscription's end */
    }
    uint64_t messages = consumer->credit_messages + c->u.credit.messages;
    uint64_t room = (uint64_t)INT64_MAX - (consumer->credit_bytes > 0 ? (uint64_t)consumer->credit_bytes : 0);
    consumer->credit_messages = messages > UINT32_MAX ? UINT32_MAX : messages;
    consumer->credit_bytes += (int64_t)(c->u.credit.bytes < room ? c->u.credit.bytes : room);
    consumer_check(e, consumer);
}

void consumer_hold(struct engine *e, const struct command *c)
{
    bool hold = c->type == COMMAND_HOLD;
    /* A connection may be held before it subscribes; no memory for that only means that it is served once too often. */
    struct client *client = hold ? client_make(e, c->token.conn) : client_find(e, c->token.conn);
    if (!client) {
        return;
    }
    if (c->token.stream) {
        struct consumer *one = consumer_find(e, c->token);
        if (one) {
            one->held = hold;
            consumer_check(e, one);
        }
        client_drop_if_idle(e, client);
        return;
    }
    client->held = hold;
    struct consumer *consumer;
    TAILQ_FOREACH(consumer, &client->consumers, of_client)
    {
        consumer_check(e, consumer);
    }
    client_drop_if_idle(e, client);
}

void lease(struct engine *e, const struct command *c)
{
    struct queue *q = queue_of(e, c);
    struct group *g = q ? group_of(e, c, q) : NULL;
    if (!g) {
        return;
    }
    struct consumer *consumer = consumer_add(e, g, c);
    if (!consumer || !heap_push(&e->waits, &consumer->wait, e->now.mono.ms + c->u.lease.wait_ms)) {
        if (consumer) {
            consumer_end(e, consumer, BROKER_OK, NULL);
        }
        engine_append_failed(e, c, BROKER_NO_MEMORY);
        return;
    }
    consumer->one_shot = true;
    consumer->lease_ms = c->u.lease.lease_ms;
    consumer->credit_messages = c->u.lease.max_messages ? c->u.lease.max_messages : 1;
    consumer->credit_bytes = c->u.lease.max_bytes ? c->u.lease.max_bytes : INT64_MAX;
    queue_used(e, q);
    if (g->single_active) {
        group_consumers_changed(e, g);
    }
    consumer_check(e, consumer);
}

/* The wait is over, or was none: an empty answer. A read that is under way is waited for: the messages are there. */
void waits_expire(struct engine *e)
{
    struct heap_node *n;
    while ((n = heap_min(&e->waits)) && n->key <= e->now.mono.ms) {
        struct consumer *consumer = container_of(n, struct consumer, wait);
        if (consumer->group->reading && !consumer->group->queue->paused) {
            heap_set(&e->waits, n, e->now.mono.ms + 1);
            continue;
        }
        struct completion done = {.type = COMMAND_LEASE, .token = consumer->token};
        consumer_end(e, consumer, BROKER_OK, NULL);
        e->sink_ops->complete(e->sink, &done);
    }
}

void connection_close(struct engine *e, const struct command *c)
{
    scans_drop_conn(e, c->token.conn);
    reads_drop_conn(e, c->token.conn);
    struct client *client = client_find(e, c->token.conn);
    if (!client) {
        return;
    }
    client->held = true; /* keeps the struct while its consumers go, and keeps them from being served */
    struct consumer *consumer;
    while ((consumer = TAILQ_FIRST(&client->consumers))) {
        consumer_end(e, consumer, BROKER_OK, NULL);
    }
    client->held = false;
    client_drop_if_idle(e, client);
}

void consumers_free(struct engine *e)
{
    struct client *client, *next;
    HASH_ITER(hh, e->clients, client, next)
    {
        struct command close = {.type = COMMAND_CLOSE, .token = {.conn = client->conn}};
        connection_close(e, &close);
    }
}
