/*
 * Transactions: publishes and settles collected as the parts of one TRANSACT frame.
 *
 * Parts are kept as they will be sent, except for the producer's numbers, which the messages get at commit: until then the
 * program may publish to the same queues otherwise. At commit the frame goes to the end of `normal`, behind all publishes
 * given before, and no frame before it takes further messages of its queues; so numbers go out rising, on this connection and
 * on the next.
 */
#include "client_internal.h"

#include <stdio.h>
#include <stdlib.h>

enum { BYTES_FIRST = 1024, BODY_MAX = RECORD_MAX_BYTES, RETRY_FIRST_MS = 10, RETRY_LAST_MS = 1000 };

struct parts { /* in the form of the wire */
    uint8_t *bytes;
    size_t len, cap;
    size_t last; /* offset of the last part; meaningless at len 0 */
};

struct broker_transaction {
    broker *b;
    struct parts publishes, settles;
    size_t messages;
};

/* ---- parts --------------------------------------------------------------------------------------------------------------- */

static bool parts_room(struct parts *p, size_t more)
{
    size_t cap = p->cap ? p->cap : BYTES_FIRST;

    if (p->len + more <= p->cap)
        return true;
    while (cap < p->len + more)
        cap *= 2;
    uint8_t *bytes = realloc(p->bytes, cap);
    if (!bytes)
        return false;
    p->bytes = bytes;
    p->cap = cap;
    return true;
}

/* The caller made room for the head and the padded name. */
static void part_begin(struct parts *p, enum transact_kind kind, const char *name, size_t name_len, uint32_t delay_ms,
                       uint32_t flags)
{
    uint8_t *head = p->bytes + p->len;

    p->last = p->len;
    memset(head, 0, TRANSACT_PART_BYTES + pad8((uint32_t)name_len));
    head[0] = (uint8_t)kind;
    put_u16(head + 2, (uint16_t)name_len);
    put_u32(head + 8, delay_ms);
    put_u32(head + 12, flags);
    if (name_len > 0)
        memcpy(head + TRANSACT_PART_BYTES, name, name_len);
    p->len += TRANSACT_PART_BYTES + pad8((uint32_t)name_len);
}

static size_t part_head_bytes(const uint8_t *part)
{
    return TRANSACT_PART_BYTES + pad8(get_u16(part + 2));
}

static void part_set_length(struct parts *p)
{
    uint8_t *part = p->bytes + p->last;
    put_u32(part + 4, (uint32_t)(p->len - p->last - part_head_bytes(part)));
}

static broker_error check_size(broker_transaction *t, size_t more)
{
    size_t limit = t->b->max_frame ? t->b->max_frame : BODY_MAX;
    size_t bytes = t->publishes.len + t->settles.len + more;

    if (bytes <= limit)
        return BROKER_OK;
    return set_error(t->b, BROKER_TOO_LARGE,
                     "transaction: %zu bytes with this one; the broker takes %zu in one: commit before it", bytes,
                     limit);
}

/* ---- collecting ------------------------------------------------------------------------------------------------------------ */

broker_error broker_transaction_begin(broker *b, broker_transaction **out)
{
    broker_transaction *t = calloc(1, sizeof(*t));

    *out = t;
    if (!t)
        return set_error(b, BROKER_NO_MEMORY, "out of memory");
    t->b = b;
    return BROKER_OK;
}

void broker_transaction_abort(broker_transaction *t)
{
    if (!t)
        return;
    free(t->publishes.bytes);
    free(t->settles.bytes);
    free(t);
}

static bool last_is_for(const struct parts *p, const char *queue, size_t queue_len)
{
    const uint8_t *part = p->bytes + p->last;

    return p->len > 0 && get_u16(part + 2) == queue_len &&
           (queue_len == 0 || memcmp(part + TRANSACT_PART_BYTES, queue, queue_len) == 0);
}

broker_error broker_transaction_publish(broker_transaction *t, const char *queue, const broker_message *message)
{
    struct parts *p = &t->publishes;
    struct record_spec spec;
    uint32_t bytes = 0;
    size_t len = 0;
    broker_error error = queue ? check_name(t->b, "queue", queue, &len) : BROKER_OK;

    if (error == BROKER_OK)
        error = message_spec(t->b, message, !queue, &spec, &bytes);
    if (error != BROKER_OK)
        return error;
    bool more_of_last = last_is_for(p, queue, len);
    size_t head = more_of_last ? 0 : TRANSACT_PART_BYTES + pad8((uint32_t)len);
    error = check_size(t, head + bytes);
    if (error == BROKER_OK && !parts_room(p, head + bytes))
        error = set_error(t->b, BROKER_NO_MEMORY, "out of memory");
    if (error != BROKER_OK)
        return error;
    if (!more_of_last)
        part_begin(p, TRANSACT_PUBLISH, queue, len, 0, 0);
    record_spec_put(p->bytes + p->len, &spec);
    p->len += bytes;
    part_set_length(p);
    t->messages++;
    return BROKER_OK;
}

static bool last_takes(const struct parts *p, enum transact_kind kind, uint32_t delay_ms, uint32_t flags)
{
    const uint8_t *part = p->bytes + p->last;

    return p->len > 0 && part[0] == kind && get_u32(part + 8) == delay_ms && get_u32(part + 12) == flags &&
           get_u32(part + 4) < SETTLE_RANGES_MAX * SETTLE_RANGE_BYTES;
}

static broker_error add_settle(broker_transaction *t, const broker_msg *m, enum transact_kind kind, uint32_t delay_ms,
                               uint32_t flags)
{
    struct parts *p = &t->settles;
    broker_error error = settle_has_lease(t->b, m, kind == TRANSACT_ACK ? FRAME_ACK : FRAME_NACK);

    if (error != BROKER_OK || m->receipt == 0)
        return error;
    size_t most = TRANSACT_PART_BYTES + SETTLE_RANGE_BYTES;
    error = check_size(t, most);
    if (error == BROKER_OK && !parts_room(p, most))
        error = set_error(t->b, BROKER_NO_MEMORY, "out of memory");
    if (error != BROKER_OK)
        return error;
    if (!last_takes(p, kind, delay_ms, flags))
        part_begin(p, kind, NULL, 0, delay_ms, flags);
    size_t ranges = p->last + TRANSACT_PART_BYTES;
    p->len = ranges + settle_range_add(p->bytes + ranges, p->len - ranges, m->receipt);
    part_set_length(p);
    settle_mark(m);
    return BROKER_OK;
}

broker_error broker_transaction_ack(broker_transaction *t, const broker_msg *m)
{
    return add_settle(t, m, TRANSACT_ACK, 0, 0);
}

broker_error broker_transaction_nack(broker_transaction *t, const broker_msg *m, uint32_t delay_ms)
{
    return add_settle(t, m, TRANSACT_NACK, delay_ms, 0);
}

broker_error broker_transaction_reject(broker_transaction *t, const broker_msg *m)
{
    return add_settle(t, m, TRANSACT_NACK, 0, NACK_DEAD_LETTER);
}

/* ---- commit ---------------------------------------------------------------------------------------------------------------- */

static void record_set_number(uint8_t *record, uint64_t number)
{
    uint8_t flags = record[9];
    uint32_t times = (flags & RECORD_HAS_DUE ? 8 : 0) + (flags & RECORD_HAS_EXPIRE ? 8 : 0);

    put_u64(record + RECORD_HEAD_BYTES + times + 8, number);
}

/* The messages of one part get the next numbers of their queue, and no frame made before takes more of its messages. */
static broker_error number_part(broker *b, uint8_t *part)
{
    char name[NAME_MAX_BYTES + 1];
    struct out_queue *q;
    uint16_t name_len = get_u16(part + 2);

    memcpy(name, part + TRANSACT_PART_BYTES, name_len);
    name[name_len] = '\0';
    broker_error error = out_queue_get(b, name_len > 0 ? name : NULL, &q);
    if (error != BROKER_OK)
        return error;
    q->open = NULL;
    uint8_t *record = part + part_head_bytes(part), *end = record + get_u32(part + 4);
    for (; record < end && b->producer != 0; record += record_padded(record))
        record_set_number(record, q->next_number++);
    return BROKER_OK;
}

static broker_error number_messages(broker *b, struct parts *p)
{
    broker_error error = BROKER_OK;

    for (size_t at = 0; error == BROKER_OK && at < p->len;) {
        uint8_t *part = p->bytes + at;
        error = number_part(b, part);
        at += part_head_bytes(part) + get_u32(part + 4);
    }
    return error;
}

static broker_error make_frame(broker_transaction *t, const broker_publish_options *o, struct call *c)
{
    broker *b = t->b;
    size_t len = t->publishes.len + t->settles.len;
    /* Without numbers the broker could not tell a second time from the first. */
    bool again = b->producer != 0 && t->messages > 0;
    struct out_frame *f = frame_new(b, again ? OUT_TRANSACT : OUT_CALL, FRAME_TRANSACT, len);

    if (!f)
        return set_error(b, BROKER_NO_MEMORY, "out of memory");
    broker_error error = number_messages(b, &t->publishes);
    if (error != BROKER_OK) {
        frame_recycle(b, f);
        return error;
    }
    frame_put(f, t->publishes.bytes, t->publishes.len);
    frame_put(f, t->settles.bytes, t->settles.len);
    f->flags = publish_flags(o);
    f->call = c;
    TAILQ_INSERT_TAIL(&b->normal, f, link);
    return BROKER_OK;
}

struct commit_call {
    struct call call;
    uint64_t *seqs;
    size_t count;
};

static broker_error commit_answered(broker *b, struct call *call, const uint8_t *body, size_t len)
{
    struct commit_call *c = (struct commit_call *)call;

    if (len != 8 * c->count)
        return set_error(b, BROKER_MALFORMED,
                         "the broker's answer to a transaction of %zu messages has %zu bytes; it may have been done",
                         c->count, len);
    for (size_t i = 0; c->seqs && i < c->count; i++)
        c->seqs[i] = get_u64(body + 8 * i);
    return BROKER_OK;
}

static broker_error commit_once(broker_transaction *t, const broker_publish_options *o, uint64_t *seqs,
                                uint64_t deadline)
{
    broker *b = t->b;
    struct commit_call c = {.call.on_answer = commit_answered, .seqs = seqs, .count = t->messages};
    broker_error error = make_frame(t, o, &c.call);

    while (error == BROKER_OK && !c.call.done) {
        if (client_step(b, deadline) || c.call.done)
            continue;
        bool unsent = call_abandon(b, &c.call);
        error = deadline_error(b, "broker_transaction_commit", b->options.timeout_ms);
        size_t len = strlen(b->error_text);
        if (!unsent)
            snprintf(b->error_text + len, sizeof(b->error_text) - len, "; it was sent and may yet be done");
        return error;
    }
    return error == BROKER_OK ? call_result(b, &c.call) : error;
}

broker_error broker_transaction_commit(broker_transaction *t, const broker_publish_options *options, uint64_t *seqs)
{
    broker *b = t->b;
    broker_publish_options o = {0};
    uint64_t deadline = client_now_ms() + b->options.timeout_ms, wait_ms = RETRY_FIRST_MS;
    broker_error error = may_block(b, "broker_transaction_commit");

    if (error == BROKER_OK)
        error = publish_options_get(b, options, &o);
    if (error == BROKER_OK)
        error = check_size(t, 0); /* max_frame may have become known meanwhile, or have changed */
    while (error == BROKER_OK && t->publishes.len + t->settles.len > 0) {
        error = commit_once(t, &o, seqs, deadline);
        uint64_t until = client_now_ms() + (b->error_retry_ms ? b->error_retry_ms : wait_ms);
        if (error != BROKER_OVERLOADED || until >= deadline)
            break;
        /* Refused, so nothing of it has happened: a busy broker gets the time it asks for. */
        client_pause(b, until);
        error = may_block(b, "broker_transaction_commit");
        wait_ms = wait_ms * 2 > RETRY_LAST_MS ? RETRY_LAST_MS : wait_ms * 2;
    }
    broker_transaction_abort(t);
    return error;
}
