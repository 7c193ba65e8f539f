/* TRANSACT: parts with binary bodies to one command, and its answer. */
#include <stdio.h>
#include <string.h>

#include "front_internal.h"

/* A frame being taken apart; what is wrong is told with the part's number, counted from 0. */
struct cutting {
    struct front_tcp *f;
    uint8_t *at;
    uint32_t left; /* bytes from `at` on */
    uint32_t parts, ranges;
    broker_error error;
    char text[REFUSAL_BYTES];
};

static bool wrong(struct cutting *k, broker_error error, const char *what, unsigned long long value)
{
    k->error = error;
    snprintf(k->text, sizeof(k->text), "part %u: %s (%llu)", k->parts, what, value);
    return false;
}

static bool cut_publish(struct cutting *k, struct transact_part *part, uint32_t name_len, uint32_t length)
{
    if (get_u64(k->at + 8) != 0)
        return wrong(k, BROKER_MALFORMED, "the delay and flags of a publish are not zero", get_u64(k->at + 8));
    part->kind = PART_PUBLISH;
    part->queue = (struct name){(const char *)k->at + TRANSACT_PART_BYTES, name_len};
    part->records = k->at + TRANSACT_PART_BYTES + pad8(name_len);
    part->len = length;
    return true;
}

static bool cut_settle(struct cutting *k, struct transact_part *part, uint32_t name_len, uint32_t length)
{
    bool nack = k->at[0] == TRANSACT_NACK;
    uint32_t flags = get_u32(k->at + 12), count = 0;
    char text[REFUSAL_BYTES];
    if (name_len != 0)
        return wrong(k, BROKER_MALFORMED, "receipts have no queue name, but it has a length", name_len);
    if (!nack && get_u64(k->at + 8) != 0)
        return wrong(k, BROKER_MALFORMED, "the delay and flags of an ack are not zero", get_u64(k->at + 8));
    if (flags & ~(uint32_t)NACK_DEAD_LETTER)
        return wrong(k, BROKER_INVALID_ARGUMENT, "unknown flags of a nack", flags);
    broker_error error = ranges_get(k->f, k->at + TRANSACT_PART_BYTES, length, k->ranges, &count, text);
    if (error) {
        k->error = error;
        snprintf(k->text, sizeof(k->text), "part %u: %.200s", k->parts, text);
        return false;
    }
    part->kind = nack ? PART_NACK : PART_ACK;
    part->ranges = k->f->ranges + k->ranges;
    part->count = count;
    part->delay_ms = get_u32(k->at + 8);
    part->dead_letter = flags & NACK_DEAD_LETTER;
    k->ranges += count;
    return true;
}

static bool cut_part(struct cutting *k)
{
    struct transact_part *part = &k->f->parts[k->parts];
    if (k->parts == k->f->options.max_transact_parts)
        return wrong(k, BROKER_TOO_LARGE, "more parts than this broker takes in one transaction",
                     k->f->options.max_transact_parts);
    if (k->left < TRANSACT_PART_BYTES)
        return wrong(k, BROKER_MALFORMED, "too few bytes are left for its head", k->left);
    uint32_t name_len = get_u16(k->at + 2), length = get_u32(k->at + 4);
    uint64_t whole = TRANSACT_PART_BYTES + (uint64_t)pad8(name_len) + (((uint64_t)length + 7) & ~7ull);
    if (whole > k->left)
        return wrong(k, BROKER_MALFORMED, "its lengths go past the frame's end by so many bytes", whole - k->left);
    if (k->at[1] != 0)
        return wrong(k, BROKER_MALFORMED, "its reserved byte is not zero", k->at[1]);
    *part = (struct transact_part){0};
    switch (k->at[0]) {
    case TRANSACT_PUBLISH:
        if (!cut_publish(k, part, name_len, length))
            return false;
        break;
    case TRANSACT_ACK:
    case TRANSACT_NACK:
        if (!cut_settle(k, part, name_len, length))
            return false;
        break;
    default: return wrong(k, BROKER_MALFORMED, "it is none of publish (1), ack (2), nack (3)", k->at[0]);
    }
    k->at += whole;
    k->left -= (uint32_t)whole;
    k->parts++;
    return true;
}

/* The command's records point into the read buffer, its ranges into f->ranges. */
void frame_transact(struct conn *c, const struct frame_head *head, uint8_t *body)
{
    struct front_tcp *f = c->front;
    struct cutting k = {.f = f, .at = body, .left = head->length};
    const uint8_t known = FRAME_FLAG_SYNC_MASK | FRAME_FLAG_UNROUTABLE_OK;
    if (head->flags & ~known) {
        refuse_request(c, head, BROKER_INVALID_ARGUMENT, "TRANSACT has flags 0x%02x; this broker knows 0x%02x",
                       head->flags, known);
        return;
    }
    while (k.left > 0) {
        if (!cut_part(&k)) {
            refuse_request(c, head, k.error, "%s; nothing of the transaction was done", k.text);
            return;
        }
    }
    struct command command = {
        .type = COMMAND_TRANSACT,
        .token = {.correlation = head->correlation},
        .u.transact = {.parts = f->parts,
                       .count = k.parts,
                       .sync = (broker_sync)(head->flags & FRAME_FLAG_SYNC_MASK),
                       .unroutable_ok = head->flags & FRAME_FLAG_UNROUTABLE_OK},
    };
    conn_submit(c, &command);
}

void answer_transact(struct conn *c, uint8_t type, const struct completion *done)
{
    struct frame_head head = {
        .type = type,
        .flags = done->u.transact.duplicate ? TRANSACT_DUPLICATE : 0,
        .correlation = done->token.correlation,
    };
    size_t n = done->u.transact.count;
    uint8_t *to = frame_begin(c, &head, (uint32_t)(8 * n), 0);
    for (size_t i = 0; to && i < n; i++)
        put_u64(to + 8 * i, done->u.transact.seqs[i]);
}
