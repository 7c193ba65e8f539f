/* Answers made of a map, and of messages that were only looked at. */
#include "front_internal.h"

/* Head, every message's seq, records. */
static void answer_peek(struct conn *c, const struct completion *done)
{
    const struct stored_message *m = done->u.scan.messages;
    uint32_t count = done->u.scan.count, records = 0;
    struct frame_head head = {.type = FRAME_PEEK | FRAME_RESPONSE, .correlation = done->token.correlation};
    for (uint32_t i = 0; i < count; i++)
        records += m[i].padded_len;
    uint8_t *to = frame_begin(c, &head, PEEK_HEAD_BYTES + 8 * count, records);
    if (!to)
        return;
    put_u32(to, count);
    put_u32(to + 4, done->u.scan.next_seq ? PEEK_MORE : 0);
    put_u64(to + 8, done->u.scan.next_seq);
    for (uint32_t i = 0; i < count; i++)
        put_u64(to + PEEK_HEAD_BYTES + 8 * i, m[i].seq);
    write_records(c, m, count);
}

void answer_map(struct conn *c, uint8_t type, const struct completion *done)
{
    if (done->type == COMMAND_SCAN && done->u.scan.peek) {
        answer_peek(c, done);
        return;
    }
    control_answer(body_begin(c->front), done);
    body_send(c, type, done->token.correlation, done->token.stream);
}
