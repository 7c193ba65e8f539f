/* Message records: taken apart from foreign bytes, and put together from any parts. */
#include "fuzz.h"
#include "wire.h"

static void take_apart(struct input *in)
{
    size_t len;
    uint8_t *record = input_copy(in, in->len, &len);
    struct record_view v;

    broker_error e = record_view_get(record, len, &v);
    CHECK(e == BROKER_OK || e == BROKER_MALFORMED);
    if (e == BROKER_OK) {
        const uint8_t *end = record + v.head.length;
        CHECK(v.head.length <= len && v.head.length >= RECORD_HEAD_BYTES);
        CHECK(v.id >= record + RECORD_HEAD_BYTES && v.id + v.head.id_len == v.key);
        CHECK(v.key + v.head.key_len == v.topic && v.topic + v.head.topic_len == v.headers);
        CHECK(v.headers + v.head.headers_len == v.body && v.head.topic_len <= TOPIC_MAX_BYTES);
        CHECK(v.body + v.body_len == end);
        CHECK(v.head.priority <= 9 && (v.head.flags & ~RECORD_FLAGS_KNOWN) == 0);
        bool numbered = v.head.flags & RECORD_ID_PRODUCER;
        CHECK(v.message_id_len + (numbered ? PRODUCER_ID_BYTES : 0) == v.head.id_len);
        CHECK(v.message_id ? v.message_id + v.message_id_len == v.key : v.message_id_len == 0);
        CHECK(numbered || (v.producer == 0 && v.number == 0));
        CHECK((v.head.flags & RECORD_HAS_DUE) || !(v.head.flags & RECORD_DUE_IS_DELAY));
        CHECK((v.head.flags & RECORD_HAS_EXPIRE) || !(v.head.flags & RECORD_EXPIRE_IS_TTL));
        (void)topic_is_valid((const char *)v.topic, v.head.topic_len);
        record_seal(record);
        CHECK(record_intact(record, len) && !record_intact(record, v.head.length - 1));
        record[8 + (v.head.length - 8) / 2] ^= 0x10;
        CHECK(!record_intact(record, len));
    }
    (void)record_intact(record, len);
    free(record);
}

static void check_equal(const struct record_spec *s, const struct record_view *v)
{
    CHECK(v->head.type == RECORD_MESSAGE && v->head.priority == s->priority && v->head.crc == 0);
    CHECK(v->head.queue == 0 && v->head.seq == 0 && v->head.time_ms == 0);
    CHECK(v->due_ms == s->due_ms && v->expire_ms == s->expire_ms);
    CHECK(v->head.key_len == s->key_len && v->head.headers_len == s->headers_len && v->body_len == s->body_len);
    CHECK(memcmp(v->key, s->key, s->key_len) == 0 && memcmp(v->headers, s->headers, s->headers_len) == 0);
    CHECK(memcmp(v->body, s->body, s->body_len) == 0);
    CHECK(v->head.topic_len == s->topic_len && memcmp(v->topic, s->topic, s->topic_len) == 0);
    CHECK(v->producer == s->producer && (!s->producer || v->number == s->number));
    CHECK(v->message_id_len == s->id_len && (!s->id_len || memcmp(v->message_id, s->id, s->id_len) == 0));
    uint8_t flags = v->head.flags;
    CHECK(!(flags & RECORD_BY_TOPIC) == !s->by_topic);
    CHECK(!(flags & RECORD_DUE_IS_DELAY) == !(s->due_is_delay && s->due_ms));
    CHECK(!(flags & RECORD_EXPIRE_IS_TTL) == !(s->expire_is_ttl && s->expire_ms));
}

static void put_together(struct input *in)
{
    struct record_spec s = {0};
    uint8_t which = (uint8_t)input_number(in, 1);

    s.priority = (uint8_t)input_number(in, 1) % 12;
    s.due_ms = which & 1 ? input_number(in, 8) : 0;
    s.expire_ms = which & 2 ? input_number(in, 8) : 0;
    s.producer = which & 4 ? input_number(in, 8) : 0;
    s.number = which & 4 ? input_number(in, 8) : 0;
    size_t id_len = (size_t)input_number(in, 2) % 300, key_len = (size_t)input_number(in, 2);
    size_t headers_len = which & 8 ? (size_t)input_number(in, 2) : 0;
    size_t topic_len = which & 16 ? (size_t)input_number(in, 2) % 300 : 0;
    s.by_topic = which & 32, s.due_is_delay = which & 64, s.expire_is_ttl = which & 128;
    uint8_t *id = input_copy(in, id_len, &s.id_len), *key = input_copy(in, key_len, &s.key_len);
    uint8_t *topic = input_copy(in, topic_len, &s.topic_len);
    uint8_t *headers = input_copy(in, headers_len, &s.headers_len), *body = input_copy(in, in->len, &s.body_len);
    s.id = id, s.key = key, s.topic = topic, s.headers = headers, s.body = body;

    uint32_t bytes = record_spec_bytes(&s);
    CHECK(bytes % 8 == 0 && bytes <= RECORD_MAX_BYTES);
    if (bytes != 0) {
        struct record_view v;
        uint8_t *record = malloc(bytes);
        if (!record)
            abort();
        record_spec_put(record, &s);
        CHECK(record_padded(record) == bytes);
        CHECK(record_view_get(record, bytes, &v) == BROKER_OK);
        check_equal(&s, &v);
        free(record);
    }
    free(id), free(key), free(topic), free(headers), free(body);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct input in = {bytes, len};
    if (input_number(&in, 1) % 2 == 0)
        take_apart(&in);
    else
        put_together(&in);
    return 0;
}
