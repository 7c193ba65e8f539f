/* Acks, nacks and lease extensions: merged into ranges in one open frame, kept until the broker has answered. */
#include "client_internal.h"

enum { VALUE_BYTES = 8 }; /* NACK's delay_ms or EXTEND's lease_ms, and four zero bytes */

static uint32_t prefix_bytes(uint8_t type)
{
    return type == FRAME_ACK ? 0 : VALUE_BYTES;
}

static uint32_t frame_value(const struct out_frame *f)
{
    return f->type == FRAME_ACK ? 0 : get_u32(f->bytes + FRAME_HEAD_BYTES);
}

static size_t range_count(const struct out_frame *f)
{
    return (f->len - FRAME_HEAD_BYTES - prefix_bytes(f->type)) / SETTLE_RANGE_BYTES;
}

static void put_range(uint8_t *out, uint64_t receipt)
{
    put_u64(out, receipt);
    put_u32(out + 8, 1);
    put_u32(out + 12, 0);
}

static broker_error open_frame(broker *b, uint8_t type, uint32_t value)
{
    uint8_t prefix[VALUE_BYTES] = {0};

    if (b->settle_frames >= b->options.outbox_messages)
        return set_error(b, BROKER_OUTBOX_FULL,
                         "%zu settle frames wait for the broker's answer: call broker_wait until it comes",
                         b->settle_frames);
    struct out_frame *f = frame_new(b, OUT_SETTLE, type, VALUE_BYTES + SETTLE_RANGE_BYTES);
    if (!f)
        return set_error(b, BROKER_NO_MEMORY, "out of memory");
    put_u32(prefix, value);
    frame_put(f, prefix, prefix_bytes(type));
    f->urgent = true;
    TAILQ_INSERT_TAIL(&b->urgent, f, link);
    b->settle_open = f;
    b->settle_since_ms = client_now_ms();
    b->settle_frames++;
    return BROKER_OK;
}

/* One frame is open at a time, whatever its type: so settles reach the broker in the order of the calls. */
broker_error settle_add(broker *b, uint8_t type, uint32_t value, uint64_t receipt)
{
    struct out_frame *f = b->settle_open;

    if (b->state == CONN_DEAD)
        return set_error(b, b->final_error, "%s", b->lost_text);
    if (f && f->type == type && frame_value(f) == value) {
        size_t ranges = range_count(f);
        uint8_t *last = f->bytes + f->len - SETTLE_RANGE_BYTES;
        uint32_t count = ranges > 0 ? get_u32(last + 8) : 0;
        if (ranges > 0 && get_u64(last) + count == receipt && count < SETTLE_RANGE_COUNT_MAX) {
            put_u32(last + 8, count + 1);
            return BROKER_OK;
        }
        if (ranges >= SETTLE_RANGES_MAX)
            f = NULL;
    } else {
        f = NULL;
    }
    if (!f) {
        broker_error error = open_frame(b, type, value);
        if (error != BROKER_OK)
            return error;
        f = b->settle_open;
    }
    if (!frame_room(f, SETTLE_RANGE_BYTES))
        return set_error(b, BROKER_NO_MEMORY, "out of memory");
    put_range(f->bytes + f->len, receipt);
    f->len += SETTLE_RANGE_BYTES;
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

static broker_error settle_message(broker *b, const broker_msg *m, uint8_t type, uint32_t value)
{
    if (m->receipt == 0) {
        if (type == FRAME_ACK)
            return BROKER_OK;
        return set_error(b, BROKER_INVALID_ARGUMENT,
                         "message %llu was settled as it was sent (BROKER_ACK_ON_SEND): there is no lease to %s",
                         (unsigned long long)m->view.head.seq, type == FRAME_NACK ? "give back" : "extend");
    }
    broker_error error = settle_add(b, type, value, m->receipt);
    if (error == BROKER_OK && type != FRAME_EXTEND && m->subscription && m == &m->subscription->msg)
        m->subscription->msg_settled = true; /* BROKER_ACK_AUTO has nothing left to do */
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
    return settle_message(b, m, FRAME_ACK, 0);
}

broker_error broker_nack(broker *b, const broker_msg *m, uint32_t delay_ms)
{
    return settle_message(b, m, FRAME_NACK, delay_ms);
}

broker_error broker_extend(broker *b, const broker_msg *m, uint32_t lease_ms)
{
    broker_error error = check_lease_ms(b, lease_ms);

    return error != BROKER_OK ? error : settle_message(b, m, FRAME_EXTEND, lease_ms);
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

static broker_error settle_receipt(broker *b, uint8_t type, uint32_t value, uint64_t receipt)
{
    uint8_t body[VALUE_BYTES + SETTLE_RANGE_BYTES] = {0};
    struct call c = {.on_answer = receipt_answered, .arg = &receipt};
    uint32_t prefix = prefix_bytes(type);

    if (prefix > 0)
        put_u32(body, value);
    put_range(body + prefix, receipt);
    return call_do(b, &c, type, body, prefix + SETTLE_RANGE_BYTES);
}

broker_error broker_ack_receipt(broker *b, uint64_t receipt)
{
    return settle_receipt(b, FRAME_ACK, 0, receipt);
}

broker_error broker_nack_receipt(broker *b, uint64_t receipt, uint32_t delay_ms)
{
    return settle_receipt(b, FRAME_NACK, delay_ms, receipt);
}

broker_error broker_extend_receipt(broker *b, uint64_t receipt, uint32_t lease_ms)
{
    broker_error error = check_lease_ms(b, lease_ms);

    return error != BROKER_OK ? error : settle_receipt(b, FRAME_EXTEND, lease_ms, receipt);
}
