#include "clients.h"

#include <broker/broker.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { OUTBOX = 2000, BATCH_MAX = 200, LEASE_MS = 3000, BACKLOG_MAX = 50000 };

const char *const soak_groups[LEDGER_GROUPS] = {"default", "audit"};

uint64_t next_random(uint64_t *state) /* splitmix64, Steele et al. 2014 */
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t mono_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static broker *open_handle(const struct client *c, const char *url, const char *what)
{
    broker_options o = BROKER_OPTIONS_INIT(broker_options);
    broker *b = NULL;

    o.url = url;
    o.client_name = what;
    o.timeout_ms = SOAK_TIMEOUT_MS;
    o.reconnect_max_ms = 100;
    o.outbox_messages = OUTBOX;
    broker_error e = broker_open(&b, &o);
    if (e != BROKER_OK)
        ledger_broken(c->load->ledger, "%s cannot open %s: %s", what, url, broker_strerror(e));
    return b;
}

/* ---- producers ------------------------------------------------------------------------------------------------------ */

struct sent { /* argument of one publish's callback */
    struct client *client;
    uint64_t number;
};

static void on_confirm(void *arg, broker_error error, const broker_publish_result *result)
{
    struct sent *s = arg;
    struct client *c = s->client;

    if (error == BROKER_OK) {
        ledger_confirmed(c->load->ledger, c->number, s->number, result->seq);
        if (result->duplicate)
            c->load->duplicates++;
    } else if (error != BROKER_CANCELLED) {
        /* The broker lives or is restarted at once, so nothing is a reason to give up; a refusal must be one. */
        fprintf(stderr, "soak: message %u/%" PRIu64 " was refused: %s\n", c->number, s->number, broker_strerror(error));
        if (error != BROKER_CONNECTION_LOST && error != BROKER_TIMEOUT)
            ledger_refused(c->load->ledger, c->number, s->number);
    }
    free(s);
}

static bool publish_one(struct client *c, broker *b, uint8_t *body)
{
    struct sent *s = malloc(sizeof(*s));
    broker_message m = BROKER_OPTIONS_INIT(broker_message);

    if (!s)
        return false;
    *s = (struct sent){c, ledger_submit(c->load->ledger, c->number)};
    m.body = body;
    m.body_len = ledger_body(c->number, s->number, body, LEDGER_BODY_MAX);
    broker_error e = broker_publish_async(b, c->queue, &m, NULL, on_confirm, s);
    if (e != BROKER_OK) { /* the outbox' bytes may be full although its count is not: then this one was never sent */
        ledger_refused(c->load->ledger, c->number, s->number);
        free(s);
    }
    return e == BROKER_OK;
}

/* Consumers that fall far behind would only make the last check long. */
static bool far_ahead(const struct client *c)
{
    struct ledger_totals t;

    ledger_totals(c->load->ledger, &t);
    return t.confirmed * LEDGER_GROUPS > t.delivered - t.redelivered + BACKLOG_MAX;
}

void *produce(void *client)
{
    struct client *c = client;
    broker *b = open_handle(c, c->number % 2 ? c->load->unix_url : c->load->tcp_url, "soak-producer");
    uint8_t *body = malloc(LEDGER_BODY_MAX);
    uint64_t begin = mono_ms(), sent = 0;

    while (b && body && !c->load->stop_producers) {
        uint64_t due = (mono_ms() - begin) * c->load->rate / 1000;
        if (due > sent + c->load->rate / 4)
            sent = due - c->load->rate / 4; /* after a restart: a burst, but not all that was missed */
        if (far_ahead(c))
            sent = due;
        while (sent < due && broker_outbox(b) < OUTBOX && publish_one(c, b, body))
            sent++;
        broker_wait(b, 2);
    }
    if (b && broker_flush(b) != BROKER_OK)
        ledger_broken(c->load->ledger, "producer %u: %zu messages were never answered: %s", c->number, broker_outbox(b),
                      broker_error_text(b));
    broker_close(b);
    free(body);
    return NULL;
}

/* ---- consumers ------------------------------------------------------------------------------------------------------ */

struct taken {
    unsigned producer;
    uint64_t number;
};

struct settling { /* acks given and not yet known to be confirmed */
    struct taken taken[BATCH_MAX];
    unsigned count, wanted;
    uint64_t failures; /* broker_settle_failures when this batch began */
};

static void begin_batch(struct client *c, broker *b, struct settling *s)
{
    s->count = 0;
    s->wanted = 1 + (unsigned)(next_random(&c->random) % BATCH_MAX);
    s->failures = broker_settle_failures(b);
}

static void settle_batch(struct client *c, broker *b, struct settling *s)
{
    /* If a single one was stale, nobody says which: then none of them counts as confirmed. */
    if (broker_flush(b) == BROKER_OK && broker_settle_failures(b) == s->failures) {
        for (unsigned i = 0; i < s->count; i++)
            ledger_acked(c->load->ledger, c->group, s->taken[i].producer, s->taken[i].number);
    } else {
        c->load->in_doubt += s->count;
    }
    begin_batch(c, b, s);
}

/* A message whose ack was confirmed is here again. An old delivery, or a broken promise? The broker knows its receipts. */
static void acked_again(struct client *c, broker *b, uint64_t receipt, const struct taken *t)
{
    if (broker_ack_receipt(b, receipt) == BROKER_OK)
        ledger_broken(c->load->ledger, "message %u/%" PRIu64 " was acked in group %s, and delivered again", t->producer,
                      t->number, soak_groups[c->group]);
}

static void take(struct client *c, broker *b, const broker_msg *m, struct settling *s)
{
    size_t len;
    const void *body = broker_msg_body(m, &len);
    struct taken t;
    uint64_t chance = next_random(&c->random);

    if (!ledger_delivered(c->load->ledger, c->group, broker_msg_seq(m), body, len, &t.producer, &t.number)) {
        acked_again(c, b, broker_msg_receipt(m), &t);
        return;
    }
    if (t.producer == LEDGER_PRODUCERS)
        return;
    if (chance % 64 == 0 && !c->load->stop_producers) {
        broker_nack(b, m, (uint32_t)((chance >> 16) % 50));
    } else if (chance % 1024 == 1 && !c->load->stop_producers) {
        return; /* forgotten: its lease must run out */
    } else if (broker_ack(b, m) == BROKER_OK) {
        s->taken[s->count++] = t;
    }
}

void *consume(void *client)
{
    struct client *c = client;
    broker *b = open_handle(c, c->number % 2 ? c->load->tcp_url : c->load->unix_url, "soak-consumer");
    broker_subscribe_options o = BROKER_OPTIONS_INIT(broker_subscribe_options);
    broker_subscription *subscription = NULL;
    struct settling s = {0};
    const broker_msg *m;
    broker_error e = BROKER_OK;

    o.group = soak_groups[c->group];
    o.lease_ms = LEASE_MS;
    o.credit_messages = BATCH_MAX * 2;
    if (b)
        e = broker_subscribe(b, c->queue, &o, NULL, NULL, NULL, &subscription);
    if (b && e == BROKER_OK)
        begin_batch(c, b, &s);
    while (subscription && !c->load->stop_consumers) {
        e = broker_receive(subscription, 50, &m);
        if (e == BROKER_OK)
            take(c, b, m, &s);
        else if (e != BROKER_TIMEOUT && e != BROKER_CONNECTION_LOST && e != BROKER_CONNECTION_REFUSED)
            break;
        if (s.count == s.wanted || (e != BROKER_OK && s.count > 0))
            settle_batch(c, b, &s);
    }
    if (b && !c->load->stop_consumers)
        ledger_broken(c->load->ledger, "consumer %u of %s ended: %s: %s", c->number, c->queue, broker_strerror(e),
                      broker_error_text(b));
    broker_close(b);
    return NULL;
}
