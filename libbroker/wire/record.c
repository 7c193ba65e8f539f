/* Records: their head, their CRC, message records taken apart and put together. */
#include "wire.h"

#include <assert.h>

enum { RECORD_CRC_FROM = 8, ID_MAX_BYTES = 255, KEY_MAX_BYTES = 65535, PRIORITY_MAX = 9 };

void record_head_put(uint8_t out[RECORD_HEAD_BYTES], const struct record_head *head)
{
    put_u32(out, head->length);
    put_u32(out + 4, head->crc);
    out[8] = head->type;
    out[9] = head->flags;
    out[10] = head->priority;
    out[11] = head->id_len;
    put_u32(out + 12, head->queue);
    put_u64(out + 16, head->seq);
    put_u64(out + 24, head->time_ms);
    put_u16(out + 32, head->key_len);
    put_u16(out + 34, head->topic_len);
    put_u32(out + 36, head->headers_len);
}

void record_head_get(const uint8_t in[RECORD_HEAD_BYTES], struct record_head *head)
{
    head->length = get_u32(in);
    head->crc = get_u32(in + 4);
    head->type = in[8];
    head->flags = in[9];
    head->priority = in[10];
    head->id_len = in[11];
    head->queue = get_u32(in + 12);
    head->seq = get_u64(in + 16);
    head->time_ms = get_u64(in + 24);
    head->key_len = get_u16(in + 32);
    head->topic_len = get_u16(in + 34);
    head->headers_len = get_u32(in + 36);
}

/* The length a record claims, if that many bytes can be there; else 0. */
static uint32_t checked_length(const uint8_t *record, size_t available)
{
    if (available < RECORD_HEAD_BYTES)
        return 0;
    uint32_t length = record_length(record);
    if (length < RECORD_HEAD_BYTES || length > RECORD_MAX_BYTES || length > available)
        return 0;
    return length;
}

static uint32_t crc_of(const uint8_t *record, uint32_t length)
{
    return crc32c(0, record + RECORD_CRC_FROM, length - RECORD_CRC_FROM);
}

void record_seal(uint8_t *record)
{
    uint32_t length = record_length(record);
    assert(length >= RECORD_HEAD_BYTES && length <= RECORD_MAX_BYTES);
    put_u32(record + 4, crc_of(record, length));
}

bool record_intact(const uint8_t *record, size_t available)
{
    uint32_t length = checked_length(record, available);
    return length != 0 && get_u32(record + 4) == crc_of(record, length);
}

/* Does a msgpack map begin with this byte? (fixmap, map 16, map 32) */
static bool is_map_byte(uint8_t b)
{
    return (b & 0xf0) == 0x80 || b == 0xde || b == 0xdf;
}

broker_error record_view_get(const uint8_t *record, size_t available, struct record_view *view)
{
    uint32_t length = checked_length(record, available);
    if (length == 0)
        return BROKER_MALFORMED;
    struct record_head *head = &view->head;
    record_head_get(record, head);
    if (head->type != RECORD_MESSAGE || (head->flags & ~RECORD_FLAGS_KNOWN) != 0 || head->priority > PRIORITY_MAX ||
        head->topic_len > TOPIC_MAX_BYTES)
        return BROKER_MALFORMED;
    if ((head->flags & RECORD_ID_PRODUCER) && head->id_len < PRODUCER_ID_BYTES)
        return BROKER_MALFORMED;
    if (((head->flags & RECORD_DUE_IS_DELAY) && !(head->flags & RECORD_HAS_DUE)) ||
        ((head->flags & RECORD_EXPIRE_IS_TTL) && !(head->flags & RECORD_HAS_EXPIRE)))
        return BROKER_MALFORMED;

    uint32_t due_bytes = head->flags & RECORD_HAS_DUE ? 8 : 0;
    uint32_t expire_bytes = head->flags & RECORD_HAS_EXPIRE ? 8 : 0;
    /* The sum is taken in 64 bits: headers_len alone may claim 2^32 - 1. */
    uint64_t before_body = (uint64_t)RECORD_HEAD_BYTES + due_bytes + expire_bytes + head->id_len + head->key_len +
                           head->topic_len + head->headers_len;
    if (before_body > length)
        return BROKER_MALFORMED;

    const uint8_t *p = record + RECORD_HEAD_BYTES;
    view->due_ms = due_bytes ? get_u64(p) : 0;
    p += due_bytes;
    view->expire_ms = expire_bytes ? get_u64(p) : 0;
    p += expire_bytes;
    view->id = p;
    view->key = view->id + head->id_len;
    view->topic = view->key + head->key_len;
    view->headers = view->topic + head->topic_len;
    view->body = view->headers + head->headers_len;
    view->body_len = length - (uint32_t)before_body;
    if (head->headers_len > 0 && !is_map_byte(view->headers[0]))
        return BROKER_MALFORMED;
    uint32_t numbers = head->flags & RECORD_ID_PRODUCER ? PRODUCER_ID_BYTES : 0;
    view->producer = numbers ? get_u64(view->id) : 0;
    view->number = numbers ? get_u64(view->id + 8) : 0;
    view->message_id_len = head->id_len - numbers;
    view->message_id = view->message_id_len ? view->id + numbers : NULL;
    return BROKER_OK;
}

static uint64_t spec_length(const struct record_spec *spec)
{
    return (uint64_t)RECORD_HEAD_BYTES + (spec->due_ms ? 8 : 0) + (spec->expire_ms ? 8 : 0) +
           (spec->producer ? PRODUCER_ID_BYTES : 0) + spec->id_len + spec->key_len + spec->topic_len +
           spec->headers_len + spec->body_len;
}

uint32_t record_spec_bytes(const struct record_spec *spec)
{
    if (spec->priority > PRIORITY_MAX || spec->key_len > KEY_MAX_BYTES || spec->topic_len > TOPIC_MAX_BYTES ||
        spec->id_len > ID_MAX_BYTES - (spec->producer ? PRODUCER_ID_BYTES : 0))
        return 0;
    /* Each part alone, so that the sum cannot wrap. */
    if (spec->headers_len > RECORD_MAX_BYTES || spec->body_len > RECORD_MAX_BYTES)
        return 0;
    if (spec->headers_len > 0 && !is_map_byte(*(const uint8_t *)spec->headers))
        return 0;
    uint64_t length = spec_length(spec);
    return length > RECORD_MAX_BYTES ? 0 : pad8((uint32_t)length);
}

static uint8_t *put_bytes(uint8_t *p, const void *bytes, size_t len)
{
    if (len > 0)
        memcpy(p, bytes, len);
    return p + len;
}

void record_spec_put(uint8_t *out, const struct record_spec *spec)
{
    uint32_t length = (uint32_t)spec_length(spec);
    struct record_head head = {
        .length = length,
        .type = RECORD_MESSAGE,
        .flags = (uint8_t)((spec->due_ms ? RECORD_HAS_DUE : 0) | (spec->expire_ms ? RECORD_HAS_EXPIRE : 0) |
                           (spec->producer ? RECORD_ID_PRODUCER : 0) | (spec->by_topic ? RECORD_BY_TOPIC : 0) |
                           (spec->due_ms && spec->due_is_delay ? RECORD_DUE_IS_DELAY : 0) |
                           (spec->expire_ms && spec->expire_is_ttl ? RECORD_EXPIRE_IS_TTL : 0)),
        .priority = spec->priority,
        .id_len = (uint8_t)((spec->producer ? PRODUCER_ID_BYTES : 0) + spec->id_len),
        .key_len = (uint16_t)spec->key_len,
        .topic_len = (uint16_t)spec->topic_len,
        .headers_len = (uint32_t)spec->headers_len,
    };
    assert(length <= RECORD_MAX_BYTES && head.key_len == spec->key_len);
    record_head_put(out, &head);

    uint8_t *p = out + RECORD_HEAD_BYTES;
    if (spec->due_ms) {
        put_u64(p, spec->due_ms);
        p += 8;
    }
    if (spec->expire_ms) {
        put_u64(p, spec->expire_ms);
        p += 8;
    }
    if (spec->producer) {
        put_u64(p, spec->producer);
        put_u64(p + 8, spec->number);
        p += PRODUCER_ID_BYTES;
    }
    p = put_bytes(p, spec->id, spec->id_len);
    p = put_bytes(p, spec->key, spec->key_len);
    p = put_bytes(p, spec->topic, spec->topic_len);
    p = put_bytes(p, spec->headers, spec->headers_len);
    p = put_bytes(p, spec->body, spec->body_len);
    memset(p, 0, pad8(length) - length);
}
