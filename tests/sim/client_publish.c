/* What producers do. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wire.h>

#include "history.h"

static uint8_t scratch[80 << 10];
static char id_text[16];

/* msgpack {"n": value} */
static size_t header_bytes(uint32_t header, uint8_t out[5])
{
    static const uint8_t begin[] = {0x81, 0xa1, 'n', 0xa1};
    memcpy(out, begin, sizeof(begin));
    out[4] = (uint8_t)model_header(header)[0];
    return header ? 5 : 0;
}

static void spec_of(const struct op_record *r, struct record_spec *spec)
{
    static uint8_t headers[5];
    const struct traits *t = &r->traits;
    message_bytes(r->publish, scratch, r->body_len);
    *spec = (struct record_spec){.body = scratch, .body_len = r->body_len};
    spec->headers_len = header_bytes(t->header, headers);
    spec->headers = spec->headers_len ? headers : NULL;
    spec->key = model_key(t->key);
    spec->key_len = strlen(model_key(t->key));
    spec->topic = model_topic(t->topic);
    spec->topic_len = strlen(model_topic(t->topic));
    spec->by_topic = r->queue == BY_TOPIC;
    spec->priority = t->priority;
    spec->due_ms = t->due_ms;
    spec->due_is_delay = t->due_ms != 0 && t->due_is_delay;
    spec->expire_ms = t->ttl_ms;
    spec->expire_is_ttl = t->ttl_ms != 0;
    if (t->id) {
        spec->id = id_text;
        spec->id_len = (size_t)snprintf(id_text, sizeof(id_text), "id-%u", t->id);
    }
    spec->producer = r->producer;
    spec->number = r->number;
}

/* The records of an op, one after the other. */
static void encode_records(struct op *op)
{
    struct record_spec spec;
    size_t len = 0;
    for (uint32_t i = 0; i < op->record_count; i++) {
        spec_of(&op->records[i], &spec);
        len += record_spec_bytes(&spec);
    }
    op->bytes = malloc(len + 1);
    if (!op->bytes)
        abort();
    for (uint32_t i = 0; i < op->record_count; i++) {
        spec_of(&op->records[i], &spec);
        op->records[i].offset = (uint32_t)op->len;
        record_spec_put(op->bytes + op->len, &spec);
        op->len += record_spec_bytes(&spec);
    }
}

static void send_publish(struct history *h, struct op *op)
{
    bool by_topic = op->records[0].queue == BY_TOPIC;
    encode_records(op);
    struct command c = {.type = COMMAND_PUBLISH};
    if (!by_topic)
        c.queue = name_of(model_of(h)->queues[op->queue].name);
    c.u.publish.records = op->bytes;
    c.u.publish.len = op->len;
    c.u.publish.sync = op->sync;
    c.u.publish.unroutable_ok = op->unroutable_ok;
    world_submit(&h->world, op, &c);
}

static struct op_record *add_record(struct history *h, struct op *op, uint32_t queue)
{
    struct op_record *r = &op->records[op->record_count++];
    *r = (struct op_record){.publish = ++h->next_publish, .queue = queue};
    if (queue != BY_TOPIC)
        r->incarnation = model_of(h)->queues[queue].incarnation;
    return r;
}

void client_publish_to(struct history *h, uint32_t queue, uint32_t count, uint32_t body_len, broker_sync sync)
{
    struct op *op = op_new(model_of(h), COMMAND_PUBLISH, queue, 0);
    op->sync = sync;
    for (uint32_t i = 0; i < count; i++)
        add_record(h, op, queue)->body_len = body_len;
    send_publish(h, op);
}

void client_publish_with(struct history *h, uint32_t queue, uint32_t count, const struct traits *traits)
{
    struct op *op = op_new(model_of(h), COMMAND_PUBLISH, queue == BY_TOPIC ? 0 : queue, 0);
    for (uint32_t i = 0; i < count; i++) {
        struct op_record *r = add_record(h, op, queue);
        r->body_len = 40;
        r->traits = *traits;
    }
    send_publish(h, op);
}

static uint32_t body_len_of(struct history *h)
{
    struct rng *rng = rng_of(h);
    if (rng_percent(rng, h->large_percent))
        return (uint32_t)(rng_percent(rng, 3) ? BODY_TOO_LARGE : rng_below(rng, 20000));
    return (uint32_t)(rng_percent(rng, 20) ? rng_below(rng, 3000) : rng_below(rng, 200));
}

static uint64_t some_delay(struct history *h)
{
    struct rng *rng = rng_of(h);
    if (rng_percent(rng, 3))
        return 365ull * 86400000;
    return rng_percent(rng, 50) ? rng_between(rng, 1, 1000) : rng_between(rng, 1, 20000);
}

static void some_traits(struct history *h, struct op_record *r)
{
    struct rng *rng = rng_of(h);
    struct traits *t = &r->traits;
    if (rng_percent(rng, h->use.delay)) {
        t->due_is_delay = rng_percent(rng, 60);
        t->due_ms = some_delay(h) + (t->due_is_delay ? 0 : h->world.now.wall.ms - rng_below(rng, 500));
    }
    if (rng_percent(rng, h->use.expiry))
        t->ttl_ms = rng_percent(rng, 50) ? rng_between(rng, 1, 2000) : rng_between(rng, 1, 200000);
    if (rng_percent(rng, h->use.priority))
        t->priority = (uint8_t)rng_below(rng, 10);
    if (rng_percent(rng, h->use.keys))
        t->key = (uint8_t)rng_below(rng, TRAIT_KEYS);
    if (rng_percent(rng, h->use.ids) && r->queue != BY_TOPIC)
        t->id = (uint16_t)rng_between(rng, 1, 30);
    if (rng_percent(rng, h->use.filters))
        t->header = (uint8_t)rng_below(rng, 3);
    if (r->queue == BY_TOPIC || rng_percent(rng, h->use.filters))
        t->topic = (uint8_t)rng_between(rng, 1, TRAIT_TOPICS - 1);
    r->body_len = t->key && rng_percent(rng, h->use.compact / 4) ? 0 : body_len_of(h);
}

/* The connection broke before the confirm came: the same numbers again, stored or not, while the first are on their way. */
static void producer_resend(struct history *h, struct producer *p)
{
    struct rng *rng = rng_of(h);
    bool by_topic = p->queue == BY_TOPIC;
    const struct model_queue *q = &model_of(h)->queues[by_topic ? 0 : p->queue];
    uint64_t kept = p->recent_count < PRODUCER_RECENT ? p->recent_count : PRODUCER_RECENT;
    if (kept == 0 || p->retry_count != 0 || (!by_topic && (p->incarnation != q->incarnation || !q->exists)))
        return;
    uint64_t at = p->recent_count - rng_between(rng, 1, kept);
    struct op *op = op_new(model_of(h), COMMAND_PUBLISH, by_topic ? 0 : p->queue, 0);
    op->sync = p->sync;
    for (uint64_t n = rng_between(rng, 1, 6); n > 0 && at < p->recent_count; n--, at++)
        op->records[op->record_count++] = p->recent[at % PRODUCER_RECENT];
    send_publish(h, op);
}

static void producer_publish(struct history *h, struct producer *p)
{
    struct rng *rng = rng_of(h);
    bool by_topic = p->queue == BY_TOPIC;
    const struct model_queue *q = &model_of(h)->queues[by_topic ? 0 : p->queue];
    if (!by_topic &&
        p->incarnation != q->incarnation) { /* another queue by now: what was meant for the old one is pointless */
        p->incarnation = q->incarnation;
        p->retry_count = 0;
        p->recent_count = 0;
    }
    if (!by_topic && !q->exists)
        return;
    struct op *op = op_new(model_of(h), COMMAND_PUBLISH, by_topic ? 0 : p->queue, 0);
    op->sync = p->sync;
    while (op->record_count < OP_RECORDS && op->record_count < p->retry_count) {
        op->records[op->record_count] = p->retries[op->record_count];
        op->record_count++;
    }
    p->retry_count -= op->record_count;
    memmove(p->retries, p->retries + op->record_count, p->retry_count * sizeof(p->retries[0]));
    if (p->retry_count == 0) {
        for (uint64_t n = rng_between(rng, 1, 4); n > 0 && op->record_count < OP_RECORDS; n--) {
            struct op_record *r = add_record(h, op, p->queue);
            r->producer = p->id;
            r->number = p->next_number++;
            some_traits(h, r);
        }
    }
    for (uint32_t i = 0; i < op->record_count; i++)
        p->recent[p->recent_count++ % PRODUCER_RECENT] = op->records[i];
    send_publish(h, op);
}

void client_remember_unanswered(struct history *h)
{
    struct model *m = model_of(h);
    for (uint32_t i = m->first_open; i < m->op_count; i++) {
        const struct op *op = m->ops[i];
        if (!op || op->type != COMMAND_PUBLISH || op->records[0].number == 0)
            continue;
        struct producer *p = NULL;
        for (uint32_t k = 0; k < PRODUCERS; k++) {
            if (h->producers[k].id == op->records[0].producer)
                p = &h->producers[k];
        }
        for (uint32_t k = 0; p && k < op->record_count && p->retry_count < PRODUCER_RETRIES; k++) {
            struct op_record *r = &p->retries[p->retry_count++];
            *r = op->records[k];
            r->seq = r->index = 0;
            r->retry = true;
        }
    }
}

static void publish_by_topic(struct history *h)
{
    struct rng *rng = rng_of(h);
    struct op *op = op_new(model_of(h), COMMAND_PUBLISH, 0, 0);
    op->sync = rng_percent(rng, 70) ? BROKER_SYNC_DEFAULT : (broker_sync)rng_between(rng, 1, 3);
    op->unroutable_ok = rng_percent(rng, 30);
    for (uint64_t n = rng_between(rng, 1, 4); n > 0; n--)
        some_traits(h, add_record(h, op, BY_TOPIC));
    send_publish(h, op);
}

void client_publish(struct history *h)
{
    struct rng *rng = rng_of(h);
    if (rng_percent(rng, 10)) {
        producer_resend(h, &h->producers[rng_below(rng, PRODUCERS)]);
        return;
    }
    if (rng_percent(rng, h->use.topics)) {
        publish_by_topic(h);
        return;
    }
    if (rng_percent(rng, 60)) {
        producer_publish(h, &h->producers[rng_below(rng, PRODUCERS)]);
        return;
    }
    uint32_t queue = (uint32_t)rng_below(rng, h->queues);
    if (!model_of(h)->queues[queue].exists)
        return;
    struct op *op = op_new(model_of(h), COMMAND_PUBLISH, queue, 0);
    op->sync = rng_percent(rng, 70) ? BROKER_SYNC_DEFAULT : (broker_sync)rng_between(rng, 1, 3);
    for (uint64_t n = rng_between(rng, 1, 5); n > 0; n--)
        some_traits(h, add_record(h, op, queue));
    send_publish(h, op);
}

/* ---- transactions ---------------------------------------------------------------------------------------------------------- */

/* Neighbours for one queue are one part. */
static size_t publish_parts(struct history *h, struct op *op, struct transact_part *parts)
{
    size_t n = 0;
    for (uint32_t i = 0; i < op->record_count; i++) {
        const struct op_record *r = &op->records[i];
        size_t end = i + 1 < op->record_count ? op->records[i + 1].offset : op->len;
        if (i > 0 && op->records[i - 1].queue == r->queue) {
            parts[n - 1].len += end - r->offset;
            continue;
        }
        parts[n++] =
            (struct transact_part){.kind = PART_PUBLISH, .records = op->bytes + r->offset, .len = end - r->offset};
        if (r->queue != BY_TOPIC)
            parts[n - 1].queue = name_of(model_of(h)->queues[r->queue].name);
    }
    return n;
}

static void send_transaction(struct history *h, struct op *op)
{
    struct transact_part parts[OP_RECORDS + 1];
    struct receipt_range ranges[OP_RECEIPTS];
    encode_records(op);
    size_t n = publish_parts(h, op, parts);
    for (uint32_t i = 0; i < op->receipt_count; i++)
        ranges[i] = (struct receipt_range){op->receipts[i].receipt, 1};
    if (op->receipt_count)
        parts[n++] = (struct transact_part){.kind = PART_ACK, .ranges = ranges, .count = op->receipt_count};
    struct command c = {.type = COMMAND_TRANSACT};
    c.u.transact.parts = parts;
    c.u.transact.count = n;
    c.u.transact.sync = op->sync;
    c.u.transact.unroutable_ok = op->unroutable_ok;
    world_submit(&h->world, op, &c);
}

/* Receipts whose lease may be over just now are left out: whether that transaction happened would be anybody's guess. */
static void add_acks(struct history *h, struct op *op, uint64_t newest, uint32_t count)
{
    struct model *m = model_of(h);
    for (uint64_t at = newest; at > 0 && count > 0; at--, count--) {
        const struct op_receipt *r = settle_add(m, op, &m->held[(at - 1) % MODEL_HELD]);
        if (r && r->fate == RECEIPT_EITHER)
            op->receipt_count--;
    }
}

void client_transact_with(struct history *h, uint32_t a, uint32_t b, uint32_t topic, uint32_t acks)
{
    struct op *op = op_new(model_of(h), COMMAND_TRANSACT, a == BY_TOPIC ? 0 : a, 0);
    add_record(h, op, a)->body_len = 30;
    add_record(h, op, b)->body_len = 50;
    op->records[0].traits.topic = op->records[1].traits.topic = (uint8_t)topic;
    add_acks(h, op, model_of(h)->held_count, acks);
    send_transaction(h, op);
}

/* The same again, whatever became of it. */
static void transact_again(struct history *h)
{
    struct model *m = model_of(h);
    struct op *op = op_new(m, COMMAND_TRANSACT, h->last_transaction.queue, 0);
    op->sync = h->last_transaction.sync;
    op->record_count = h->last_transaction.record_count;
    memcpy(op->records, h->last_transaction.records, sizeof(op->records));
    for (uint32_t i = 0; i < op->record_count; i++) {
        op->records[i].seq = op->records[i].index = 0;
        const struct op_record *r = &op->records[i];
        if (r->incarnation != m->queues[r->queue].incarnation || !m->queues[r->queue].exists) {
            op_forget(m, op);
            return;
        }
    }
    for (uint32_t i = 0; i < h->last_transaction.receipt_count; i++) {
        const struct op_receipt *r = &h->last_transaction.receipts[i];
        settle_add(m, op, &(struct held){r->receipt, r->seq, r->queue, r->incarnation, r->group});
        if (op->receipts[op->receipt_count - 1].fate == RECEIPT_EITHER) {
            op_forget(m, op);
            return;
        }
    }
    send_transaction(h, op);
}

void client_transact(struct history *h)
{
    struct rng *rng = rng_of(h);
    struct model *m = model_of(h);
    if (h->has_transaction && rng_percent(rng, 15)) {
        transact_again(h);
        return;
    }
    struct op *op = op_new(m, COMMAND_TRANSACT, 0, 0);
    bool numbered = rng_percent(rng, 50);
    op->sync = rng_percent(rng, 70) ? BROKER_SYNC_DEFAULT : (broker_sync)rng_between(rng, 1, 3);
    for (uint64_t n = rng_below(rng, 5); n > 0; n--) {
        uint32_t queue = (uint32_t)rng_below(rng, h->queues);
        if (!numbered && rng_percent(rng, h->use.topics / 2))
            queue = BY_TOPIC;
        if (queue != BY_TOPIC && !m->queues[queue].exists)
            continue;
        struct op_record *r = add_record(h, op, queue);
        some_traits(h, r);
        r->body_len %= 2000;
        r->traits.id = 0;
        if (numbered) {
            r->producer = h->transactor + queue;
            r->number = ++h->transact_numbers[queue];
        }
    }
    add_acks(h, op, m->held_count - rng_below(rng, m->held_count < 10 ? m->held_count + 1 : 10),
             (uint32_t)rng_below(rng, 4));
    if (op->record_count + op->receipt_count == 0) {
        op_forget(m, op);
        return;
    }
    if (numbered && op->record_count) {
        h->last_transaction = *op;
        h->last_transaction.bytes = NULL;
        h->has_transaction = true;
    }
    send_transaction(h, op);
}
