/* Acks, nacks and lease extensions: merged into ranges in one open frame, kept until the broker has answered. */
#include "client_internal.h"

enum { PREFIX_BYTES = 8 }; /* NACK: delay_ms and flags; EXTEND: lease_ms and zeros */

static uint32_t prefix_bytes(uint8_t type)
{
    return type == FRAME_ACK ? 0 : PREFIX_BYTES;
}

static void put_prefix(uint8_t out[PREFIX_BYTES], struct settle_kind kind)
{
    put_u32(out, kind.value);
    put_u32(out + 4, kind.flags);
}

static bool frame_is(const struct out_frame *f, struct settle_kind kind)
{
    const uint8_t *prefix = f->bytes + FRAME_HEAD_BYTES;

    return f->type == kind.type &&
           (kind.type == FRAME_ACK || (get_u32(prefix) == kind.value && get_u32(prefix + 4) == kind.flags));
}

static void put_range(uint8_t *out, uint64_t receipt)
{
    put_u64(out, receipt);
    put_u32(out + 8, 1);
    put_u32(out + 12, 0);
}

size_t settle_range_add(uint8_t *ranges, size_t len, uint64_t receipt)
{
    if (len > 0) {
        uint8_t *last = ranges + len - SETTLE_RANGE_BYTES;
        uint32_t count = get_u32(last + 8);
        if (get_u64(last) + count == receipt && count < SETTLE_RANGE_COUNT_MAX) {
            put_u32(last + 8, count + 1);
            return len;
        }
    }
    put_range(ranges + len, receipt);
    return len + SETTLE_RANGE_BYTES;
}

static broker_error open_frame(broker *b, struct settle_kind kind)
{
    uint8_t prefix[PREFIX_BYTES];

    if (b->settle_frames >= b->options.outbox_messages)
        return set_error(b, BROKER_OUTBOX_FULL,
                         "%zu settle frames wait for the broker's answer: call broker_wait until it comes",
                         b->settle_frames);
    struct out_frame *f = frame_new(b, OUT_SETTLE, kind.type, PREFIX_BYTES + SETTLE_RANGE_BYTES);
    if (!f)
        return set_error(b, BROKER_NO_MEMORY, "out of memory");
    put_prefix(prefix, kind);
    frame_put(f, prefix, prefix_bytes(kind.type));
    f->urgent = true;
    TAILQ_INSERT_TAIL(&b->urgent, f, link);
    b->settle_open = f;
    b->settle_since_ms = client_now_ms();
    b->settle_frames++;
    return BROKER_OK;
}

/* One frame is open at a time, whatever its kind: so settles reach the broker in the order of the calls. */
broker_error settle_add(broker *b, struct settle_kind kind, uint64_t receipt)
{
    struct out_frame *f = b->settle_open;
    size_t before = FRAME_HEAD_BYTES + prefix_bytes(kind.type);

    if (b->state == CONN_DEAD)
        return set_error(b, b->final_error, "%s", b->lost_text);
    if (!f || !frame_is(f, kind) || f->len - before >= SETTLE_RANGES_MAX * SETTLE_RANGE_BYTES) {
        broker_error error = open_frame(b, kind);
        if (error != BROKER_OK)
            return error;
        f = b->settle_open;
    }
    if (!frame_room(f, SETTLE_RANGE_BYTES))
        return set_error(b, BROKER_NO_MEMORY, "out of memory");
    f->len = before + settle_range_add(f->bytes + before, f->len - before, receipt);
    return BROKER_OK;
}

uint64_t settle_frame_receipts(const struct out_frame *f)
{
    uint64_t sum = 0;

    for (size_t at = FRAME_HEAD_BYTES + prefix_bytes(f->type); at < f->len; at += SETTLE_RANGE_BYTES)
        sum += get_u32(f->bytes + at + 8);
    return sum;
}

static broker_error answer_check(broker *b, const uint8_t *body, size_t len)
{
    uint32_t stale = len >= 8 ? get_u32(body + 4) : 0;

    if (len < 8 || len != 8u + 8u * (stale < 64 ? stale : 64))
        return set_error(b, BROKER_MALFORMED, "the broker's answer to a settle has %zu bytes", len);
    return BROKER_OK;
}

broker_error settle_answered(broker *b, const uint8_t *body, size_t len)
{
    broker_error error = answer_check(b, body, len);

    if (error == BROKER_OK)
        b->settle_failures += get_u32(body + 4);
    return error;
}

/* ---- by message ------------------------------------------------------------------------------------------------------- */

broker_error settle_has_lease(broker *b, const broker_msg *m, uint8_t type)
{
    if (m->receipt != 0)
        return BROKER_OK;
    if (m->attempt == 0)
        return set_error(b, BROKER_INVALID_ARGUMENT, "message %llu was only looked at: it has no lease to settle",
                         (unsigned long long)m->seq);
    if (type == FRAME_ACK)
        return BROKER_OK;
    return set_error(b, BROKER_INVALID_ARGUMENT,
                     "message %llu was settled as it was sent (BROKER_ACK_ON_SEND): there is no lease to %s",
                     (unsigned long long)m->seq, type == FRAME_NACK ? "give back" : "extend");
}

void settle_mark(const broker_msg *m)
{
    if (m->subscription && m == &m->subscription->msg)
        m->subscription->msg_settled = true;
}

static broker_error settle_message(broker *b, const broker_msg *m, struct settle_kind kind)
{
    broker_error error = settle_has_lease(b, m, kind.type);

    if (error != BROKER_OK || m->receipt == 0)
        return error;
    error = settle_add(b, kind, m->receipt);
    if (error == BROKER_OK && kind.type != FRAME_EXTEND)
        settle_mark(m);
    return error;
}

static broker_error check_lease_ms(broker *b, uint32_t lease_ms)
{
    if (lease_ms >= 1 && lease_ms <= LEASE_MS_MAX)
        return BROKER_OK;
    return set_error(b, BROKER_INVALID_ARGUMENT, "lease_ms is %u; give 1 to %d", lease_ms, LEASE_MS_MAX);
}

broker_error broker_ack(broker *b, const broker_msg *m)
{
    return settle_message(b, m, (struct settle_kind){.type = FRAME_ACK});
}

broker_error broker_nack(broker *b, const broker_msg *m, uint32_t delay_ms)
{
    return settle_message(b, m, (struct settle_kind){.type = FRAME_NACK, .value = delay_ms});
}

broker_error broker_reject(broker *b, const broker_msg *m)
{
    return settle_message(b, m, (struct settle_kind){.type = FRAME_NACK, .flags = NACK_DEAD_LETTER});
}

broker_error broker_extend(broker *b, const broker_msg *m, uint32_t lease_ms)
{
    broker_error error = check_lease_ms(b, lease_ms);

    return error != BROKER_OK ? error
                              : settle_message(b, m, (struct settle_kind){.type = FRAME_EXTEND, .value = lease_ms});
}

/* ---- by receipt: these wait ------------------------------------------------------------------------------------------------ */

static broker_error receipt_answered(broker *b, struct call *c, const uint8_t *body, size_t len)
{
    broker_error error = answer_check(b, body, len);

    if (error == BROKER_OK && get_u32(body) == 0)
        return set_error(b, BROKER_STALE_RECEIPT, "receipt %llu: its lease ran out, or it was settled before",
                         (unsigned long long)*(uint64_t *)c->arg);
    return error;
}

static broker_error settle_receipt(broker *b, struct settle_kind kind, uint64_t receipt)
{
    uint8_t body[PREFIX_BYTES + SETTLE_RANGE_BYTES];
    struct call c = {.on_answer = receipt_answered, .arg = &receipt};
    uint32_t prefix = prefix_bytes(kind.type);

    if (prefix > 0)
        put_prefix(body, kind);
    put_range(body + prefix, receipt);
    return call_do(b, &c, kind.type, body, prefix + SETTLE_RANGE_BYTES);
}

broker_error broker_ack_receipt(broker *b, uint64_t receipt)
{
    return settle_receipt(b, (struct settle_kind){.type = FRAME_ACK}, receipt);
}

broker_error broker_nack_receipt(broker *b, uint64_t receipt, uint32_t delay_ms)
{
    return settle_receipt(b, (struct settle_kind){.type = FRAME_NACK, .value = delay_ms}, receipt);
}

broker_error broker_reject_receipt(broker *b, uint64_t receipt)
{
    return settle_receipt(b, (struct settle_kind){.type = FRAME_NACK, .flags = NACK_DEAD_LETTER}, receipt);
}

broker_error broker_extend_receipt(broker *b, uint64_t receipt, uint32_t lease_ms)
{
    broker_error error = check_lease_ms(b, lease_ms);

    return error != BROKER_OK
               ? error
               : settle_receipt(b, (struct settle_kind){.type = FRAME_EXTEND, .value = lease_ms}, receipt);
}
