/* Confirms and refusals of publishes, given to whoever waits for them. */
#include "client_internal.h"

static void entry_done(broker *b, const struct out_entry *e, broker_error error, const broker_publish_result *result)
{
    if (e->cb) {
        e->cb(e->arg, error, result);
    } else if (error != BROKER_OK && b->flush_error == BROKER_OK) {
        b->flush_error = error;
        memcpy(b->flush_text, b->error_text, sizeof(b->flush_text));
    }
}

/* The frame's messages no longer count, before their callbacks run: those may publish the next ones. */
static void publish_settled(broker *b, struct out_frame *f)
{
    b->outbox_messages -= f->count;
    b->outbox_bytes -= f->record_bytes;
    if (f->queue->open == f)
        f->queue->open = NULL;
    f->queue->frames--;
}

void publish_failed(broker *b, struct out_frame *f, broker_error error)
{
    static const broker_publish_result nothing;
    char text[sizeof(b->error_text)];
    uint32_t retry_ms = b->error_retry_ms;

    memcpy(text, b->error_text, sizeof(text));
    publish_settled(b, f);
    for (uint32_t i = 0; i < f->count; i++) {
        memcpy(b->error_text, text, sizeof(text)); /* a callback may have failed at something of its own */
        b->error_retry_ms = retry_ms;
        entry_done(b, &f->entries[i], error, &nothing);
    }
    frame_recycle(b, f);
}

static bool ranges_cover(const uint8_t *body, size_t len, uint32_t count)
{
    uint64_t next = 0;

    if (len % PUBLISH_RANGE_BYTES != 0)
        return false;
    for (size_t at = 0; at < len; at += PUBLISH_RANGE_BYTES) {
        struct publish_range r;
        publish_range_get(body + at, &r);
        if (r.first_index != next || r.count == 0 || r.count > count - next)
            return false;
        next += r.count;
    }
    return next == count;
}

static const uint8_t *record_at(const struct out_frame *f, uint32_t index)
{
    const uint8_t *record = f->bytes + FRAME_HEAD_BYTES + pad8(2u + f->queue->name_len);

    while (index-- > 0)
        record += record_padded(record);
    return record;
}

/* The sentence for a refused message: which queue, or, by topic, which topic. */
static void refused_text(broker *b, const struct out_frame *f, const uint8_t *record, const struct publish_range *r)
{
    broker_error error = known_error(r->code);
    struct record_view v;

    if (f->queue->name_len > 0)
        set_error(b, error, "publish to \"%s\": %s", f->queue->name, broker_strerror(error));
    else if (record_view_get(record, (size_t)(f->bytes + f->len - record), &v) == BROKER_OK)
        set_error(b, error, "publish to topic \"%.*s\": %s", (int)v.head.topic_len, (const char *)v.topic,
                  broker_strerror(error));
    b->error_retry_ms = r->retry_ms;
}

static void range_refused(broker *b, struct out_frame *f, const struct publish_range *r)
{
    static const broker_publish_result nothing;
    const uint8_t *record = record_at(f, r->first_index);

    for (uint32_t i = 0; i < r->count; i++, record += record_padded(record)) {
        refused_text(b, f, record, r);
        entry_done(b, &f->entries[r->first_index + i], known_error(r->code), &nothing);
    }
}

static void range_stored(broker *b, struct out_frame *f, const struct publish_range *r)
{
    broker_publish_result result = {.duplicate = (r->flags & PUBLISH_RANGE_DUPLICATE) != 0};

    for (uint32_t i = 0; i < r->count; i++) {
        if (r->flags & PUBLISH_RANGE_ROUTED)
            result.queues = (uint32_t)r->first_seq;
        else
            result.seq = r->first_seq ? r->first_seq + i : 0;
        entry_done(b, &f->entries[r->first_index + i], BROKER_OK, &result);
    }
}

broker_error publish_answered(broker *b, struct out_frame *f, const uint8_t *body, size_t len)
{
    if (!ranges_cover(body, len, f->count))
        return set_error(b, BROKER_MALFORMED, "the broker's answer to a publish of %u messages does not cover them",
                         f->count);
    sent_remove(b, f);
    publish_settled(b, f);
    f->queue->frames++; /* a callback may publish to many other queues: this one's name is still needed */
    for (size_t at = 0; at < len; at += PUBLISH_RANGE_BYTES) {
        struct publish_range r;
        publish_range_get(body + at, &r);
        if (r.code == 0)
            range_stored(b, f, &r);
        else
            range_refused(b, f, &r);
    }
    f->queue->frames--;
    frame_recycle(b, f);
    return BROKER_OK;
}
