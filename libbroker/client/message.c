/* Received messages: batches taken apart in place, and what a program asks of one message. */
#include "client_internal.h"

#include <stdlib.h>

/* ---- batches ---------------------------------------------------------------------------------------------------------- */

broker_error batch_open(broker *b, struct batch *batch, const uint8_t *body, size_t len)
{
    if (len < DELIVER_HEAD_BYTES)
        return set_error(b, BROKER_MALFORMED, "the broker sent a batch of %zu bytes; its head alone takes %u", len,
                         DELIVER_HEAD_BYTES);
    uint32_t flags = get_u32(body + 4);
    *batch = (struct batch){
        .p = body + DELIVER_HEAD_BYTES,
        .end = body + len,
        .count = get_u32(body),
        .first_receipt = get_u64(body + 8),
    };
    size_t rest = len - DELIVER_HEAD_BYTES;
    if (flags & DELIVER_ATTEMPTS) {
        uint64_t attempts_bytes = ((uint64_t)batch->count * 4 + 7) & ~(uint64_t)7;
        if (attempts_bytes > rest)
            return set_error(b, BROKER_MALFORMED, "the broker sent a batch of %u messages without all their attempts",
                             batch->count);
        batch->attempts = batch->p;
        batch->p += attempts_bytes;
        rest -= attempts_bytes;
    }
    if (flags & DELIVER_SEQS) {
        if (batch->count > rest / 8)
            return set_error(b, BROKER_MALFORMED, "the broker sent a batch of %u messages without all their seqs",
                             batch->count);
        batch->seqs = batch->p;
        batch->p += 8ull * batch->count;
        rest -= 8ull * batch->count;
    }
    if (batch->count > rest / RECORD_HEAD_BYTES)
        return set_error(b, BROKER_MALFORMED, "the broker sent a batch of %u messages in %zu bytes", batch->count,
                         rest);
    return BROKER_OK;
}

broker_error batch_next(broker *b, struct batch *batch, struct broker_msg *m)
{
    size_t rest = (size_t)(batch->end - batch->p);

    if (record_view_get(batch->p, rest, &m->view) != BROKER_OK || pad8(m->view.head.length) > rest)
        return set_error(b, BROKER_MALFORMED, "the broker sent a malformed record as message %u of %u", batch->index,
                         batch->count);
    m->seq = batch->seqs ? get_u64(batch->seqs + 8u * batch->index) : m->view.head.seq;
    if (m->view.head.length > b->options.max_message_bytes) {
        b->final_error = BROKER_TOO_LARGE; /* it would come again and again */
        return set_error(b, BROKER_TOO_LARGE, "message %llu has %u bytes; max_message_bytes is %zu: raise it",
                         (unsigned long long)m->seq, m->view.head.length, b->options.max_message_bytes);
    }
    m->padded_len = pad8(m->view.head.length);
    m->attempt = batch->attempts ? get_u32(batch->attempts + 4u * batch->index) : 1;
    m->receipt = batch->first_receipt ? batch->first_receipt + batch->index : 0;
    batch->p += m->padded_len;
    batch->index++;
    return BROKER_OK;
}

broker_error batch_end(broker *b, const struct batch *batch)
{
    if (batch->p == batch->end)
        return BROKER_OK;
    return set_error(b, BROKER_MALFORMED, "the broker sent %zu bytes more than a batch of %u messages takes",
                     (size_t)(batch->end - batch->p), batch->count);
}

/* ---- one message ------------------------------------------------------------------------------------------------------- */

const void *broker_msg_body(const broker_msg *m, size_t *len)
{
    *len = m->view.body_len;
    return m->view.body;
}

const char *broker_msg_key(const broker_msg *m, size_t *len)
{
    *len = m->view.head.key_len;
    return *len ? (const char *)m->view.key : NULL;
}

const void *broker_msg_raw_headers(const broker_msg *m, size_t *len)
{
    *len = m->view.head.headers_len;
    return *len ? m->view.headers : NULL;
}

void broker_msg_each_header(const broker_msg *m,
                            bool (*fn)(void *arg, const char *name, size_t name_len, const char *value,
                                       size_t value_len),
                            void *arg)
{
    const uint8_t *p = m->view.headers, *end = p + m->view.head.headers_len;
    uint32_t pairs = 0;

    /* Another program wrote them, and the broker looked at the first byte only: whatever does not check out ends the walk. */
    for (p = wire_skip_map(p, end, &pairs); p && pairs > 0; pairs--) {
        const char *name, *value;
        size_t name_len, value_len;
        const uint8_t *after_name = wire_skip_text(p, end, &name, &name_len);
        const uint8_t *after_value = after_name ? wire_skip_text(after_name, end, &value, &value_len) : NULL;
        if (after_value && !fn(arg, name, name_len, value, value_len))
            return;
        if (!after_value) {
            p = wire_skip(p, end);
            after_value = p ? wire_skip(p, end) : NULL;
        }
        p = after_value;
    }
}

struct header_search {
    const char *name, *value;
    size_t name_len, value_len;
};

static bool header_is(void *arg, const char *name, size_t name_len, const char *value, size_t value_len)
{
    struct header_search *s = arg;

    if (name_len != s->name_len || memcmp(name, s->name, name_len) != 0)
        return true;
    s->value = value;
    s->value_len = value_len;
    return false;
}

const char *broker_msg_header(const broker_msg *m, const char *name, size_t *len)
{
    struct header_search s = {.name = name, .name_len = strlen(name)};

    broker_msg_each_header(m, header_is, &s);
    *len = s.value_len;
    return s.value;
}

const char *broker_msg_topic(const broker_msg *m, size_t *len)
{
    *len = m->view.head.topic_len;
    return *len ? (const char *)m->view.topic : NULL;
}

const void *broker_msg_id(const broker_msg *m, size_t *len)
{
    *len = m->view.message_id_len;
    return m->view.message_id;
}

uint8_t broker_msg_priority(const broker_msg *m)
{
    return m->view.head.priority;
}

uint64_t broker_msg_due_ms(const broker_msg *m)
{
    return m->view.due_ms;
}

uint64_t broker_msg_expire_ms(const broker_msg *m)
{
    return m->view.expire_ms;
}

uint64_t broker_msg_seq(const broker_msg *m)
{
    return m->seq;
}

uint64_t broker_msg_time_ms(const broker_msg *m)
{
    return m->view.head.time_ms;
}

uint32_t broker_msg_attempt(const broker_msg *m)
{
    return m->attempt;
}

uint64_t broker_msg_receipt(const broker_msg *m)
{
    return m->receipt;
}

broker_msg *broker_msg_keep(const broker_msg *m)
{
    const uint8_t *first = m->view.body + m->view.body_len - m->view.head.length;
    broker_msg *kept = malloc(sizeof(*kept) + m->view.head.length);

    if (!kept)
        return NULL;
    uint8_t *bytes = (uint8_t *)(kept + 1);
    memcpy(bytes, first, m->view.head.length);
    *kept = *m;
    kept->subscription = NULL; /* it may end before the copy does */
    record_view_get(bytes, m->view.head.length, &kept->view);
    return kept;
}

void broker_msg_free(broker_msg *m)
{
    free(m);
}
