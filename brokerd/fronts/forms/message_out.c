/*
 * A message as an object, JSON or msgpack. This is on the way of every message that leaves by HTTP: each field is looked at
 * once to know its size, room is made for all of them together, and they are written straight through.
 */
#include "forms_internal.h"

enum { FIXED_BYTES = 512 }; /* every key, number and time of a message together take less */

/* ---- JSON --------------------------------------------------------------------------------------------------------------- */

struct field {
    const void *bytes;
    size_t len, json_bytes; /* between the quotes */
    bool utf8;
};

static struct field field_of(const void *bytes, size_t len)
{
    struct field f = {.bytes = bytes, .len = len};
    f.utf8 = form_json_text_fits(bytes, len, &f.json_bytes);
    if (!f.utf8)
        f.json_bytes = BASE64_BYTES(len);
    return f;
}

/* `,"key":"…"` or `,"key_base64":"…"` */
static uint8_t *field_put(uint8_t *to, const char *key, size_t key_len, const struct field *f)
{
    to = LITERAL_PUT(to, ",\"");
    to = pack_bytes(to, key, key_len);
    if (!f->utf8)
        to = LITERAL_PUT(to, "_base64");
    to = LITERAL_PUT(to, "\":\"");
    to = f->utf8 ? form_json_text_put(to, f->bytes, f->len, f->json_bytes) : form_base64_put(to, f->bytes, f->len);
    *to = '"';
    return to + 1;
}
#define FIELD_PUT(to, key, f)      field_put(to, key, sizeof(key) - 1, f)
#define NUMBER_PUT(to, key, value) form_digits_put(LITERAL_PUT(to, ",\"" key "\":"), value)
#define TIME_PUT(to, key, value)   LITERAL_PUT(form_time_put(LITERAL_PUT(to, ",\"" key "\":\""), value), "\"")

static uint8_t *head_put(uint8_t *to, const struct form_message *m, const struct record_view *v)
{
    to = form_digits_put(LITERAL_PUT(to, "{\"seq\":"), m->seq);
    if (v->head.time_ms <= YEAR_9999_MS)
        to = TIME_PUT(to, "time", v->head.time_ms);
    to = NUMBER_PUT(to, "time_ms", v->head.time_ms);
    if (m->receipt == 0)
        return to;
    to = NUMBER_PUT(to, "attempt", m->attempt);
    /* A string: it is opaque, and programs that keep numbers as doubles would round it. */
    to = form_digits_put(LITERAL_PUT(to, ",\"receipt\":\""), m->receipt);
    *to = '"';
    return to + 1;
}

static uint8_t *times_put(uint8_t *to, const struct record_view *v)
{
    if (v->due_ms && v->due_ms <= YEAR_9999_MS)
        to = TIME_PUT(to, "due", v->due_ms);
    if (v->due_ms)
        to = NUMBER_PUT(to, "due_ms", v->due_ms);
    if (v->expire_ms && v->expire_ms <= YEAR_9999_MS)
        to = TIME_PUT(to, "expires", v->expire_ms);
    if (v->expire_ms)
        to = NUMBER_PUT(to, "expire_ms", v->expire_ms);
    return to;
}

static bool headers_json(struct buf *out, const struct record_view *v)
{
    struct header_walk walk;
    struct header_pair pair;
    const char *before = "";
    bool good = form_put(out, ",\"headers\":{");
    form_header_walk_init(&walk, v);
    while (good && form_header_walk_next(&walk, &pair)) {
        good = form_put(out, before) && form_json_string(out, pair.name, pair.name_len) && form_put(out, ":") &&
               (pair.text ? form_json_string(out, pair.text, pair.text_len) : form_header_value_json(out, &pair));
        before = ",";
    }
    return good && form_put(out, "}");
}

bool form_message_json(struct buf *out, const struct form_message *m)
{
    struct record_view v;
    size_t len = out->len;
    if (record_view_get(m->record, record_padded(m->record), &v) != BROKER_OK)
        v = (struct record_view){0}; /* only a bug leads here: its seq and receipt are told all the same */
    struct field body = field_of(v.body, v.body_len), key = field_of(v.key, v.head.key_len),
                 id = field_of(v.message_id, v.message_id_len), topic = field_of(v.topic, v.head.topic_len);
    size_t body_bytes = body.json_bytes + 32;
    uint8_t *to = buf_reserve(out, FIXED_BYTES + topic.json_bytes + id.json_bytes + key.json_bytes + body_bytes);
    if (!to)
        return false;
    to = head_put(to, m, &v);
    if (topic.len)
        to = FIELD_PUT(to, "topic", &topic);
    if (id.len)
        to = FIELD_PUT(to, "id", &id);
    if (v.head.priority)
        to = NUMBER_PUT(to, "priority", v.head.priority);
    to = times_put(to, &v);
    if (key.len)
        to = FIELD_PUT(to, "key", &key);
    if (v.head.headers_len) {
        out->len = (size_t)(to - out->bytes);
        if (!headers_json(out, &v) || !(to = buf_reserve(out, body_bytes))) {
            out->len = len;
            return false;
        }
    }
    to = FIELD_PUT(to, "body", &body);
    *to++ = '}';
    out->len = (size_t)(to - out->bytes);
    return true;
}

/* ---- msgpack ------------------------------------------------------------------------------------------------------------ */

#define KEY_PACK(to, key) pack_text(to, key, sizeof(key) - 1)

static uint8_t *pack_field(uint8_t *to, const void *bytes, size_t len)
{
    return form_is_utf8(bytes, len) ? pack_text(to, bytes, len) : pack_bin(to, bytes, len);
}

static uint8_t *pack_time(uint8_t *to, uint64_t unix_ms)
{
    uint8_t text[TIME_BYTES];
    form_time_put(text, unix_ms);
    return pack_text(to, text, sizeof(text));
}

static uint32_t headers_count(const struct record_view *v)
{
    struct header_walk walk;
    struct header_pair pair;
    uint32_t n = 0;
    form_header_walk_init(&walk, v);
    while (form_header_walk_next(&walk, &pair))
        n++;
    return n;
}

/* As they are, but for text that is none: its reader would stumble over it. */
static uint8_t *pack_headers(uint8_t *to, const struct record_view *v)
{
    struct header_walk walk;
    struct header_pair pair;
    to = pack_map_head(KEY_PACK(to, "headers"), headers_count(v));
    form_header_walk_init(&walk, v);
    while (form_header_walk_next(&walk, &pair)) {
        to = pack_field(to, pair.name, pair.name_len);
        to = pair.text ? pack_field(to, pair.text, pair.text_len)
                       : pack_bytes(to, pair.value, (size_t)(pair.value_end - pair.value));
    }
    return to;
}

static uint8_t *pack_times(uint8_t *to, const struct record_view *v)
{
    if (v->due_ms && v->due_ms <= YEAR_9999_MS)
        to = pack_time(KEY_PACK(to, "due"), v->due_ms);
    if (v->due_ms)
        to = pack_uint(KEY_PACK(to, "due_ms"), v->due_ms);
    if (v->expire_ms && v->expire_ms <= YEAR_9999_MS)
        to = pack_time(KEY_PACK(to, "expires"), v->expire_ms);
    if (v->expire_ms)
        to = pack_uint(KEY_PACK(to, "expire_ms"), v->expire_ms);
    return to;
}

static uint32_t keys_count(const struct form_message *m, const struct record_view *v)
{
    return 3u + (v->head.time_ms <= YEAR_9999_MS) + (m->receipt ? 2u : 0u) + (v->head.topic_len > 0) +
           (v->message_id_len > 0) + (v->head.priority > 0) + (v->due_ms > 0) +
           (v->due_ms && v->due_ms <= YEAR_9999_MS) + (v->expire_ms > 0) +
           (v->expire_ms && v->expire_ms <= YEAR_9999_MS) + (v->head.key_len > 0) + (v->head.headers_len > 0);
}

bool form_message_msgpack(struct buf *out, const struct form_message *m)
{
    struct record_view v;
    if (record_view_get(m->record, record_padded(m->record), &v) != BROKER_OK)
        v = (struct record_view){0};
    /* A header's text grows by a byte if it becomes bin, and has one at least. */
    uint8_t *first = buf_reserve(out, (size_t)FIXED_BYTES + v.head.topic_len + v.message_id_len + v.head.key_len +
                                          2 * (size_t)v.head.headers_len + v.body_len);
    if (!first)
        return false;
    uint8_t *to = pack_uint(KEY_PACK(pack_map_head(first, keys_count(m, &v)), "seq"), m->seq);
    if (v.head.time_ms <= YEAR_9999_MS)
        to = pack_time(KEY_PACK(to, "time"), v.head.time_ms);
    to = pack_uint(KEY_PACK(to, "time_ms"), v.head.time_ms);
    if (m->receipt) {
        to = pack_uint(KEY_PACK(to, "attempt"), m->attempt);
        to = pack_uint(KEY_PACK(to, "receipt"), m->receipt);
    }
    if (v.head.topic_len)
        to = pack_field(KEY_PACK(to, "topic"), v.topic, v.head.topic_len);
    if (v.message_id_len)
        to = pack_field(KEY_PACK(to, "id"), v.message_id, v.message_id_len);
    if (v.head.priority)
        to = pack_uint(KEY_PACK(to, "priority"), v.head.priority);
    to = pack_times(to, &v);
    if (v.head.key_len)
        to = pack_field(KEY_PACK(to, "key"), v.key, v.head.key_len);
    if (v.head.headers_len)
        to = pack_headers(to, &v);
    to = pack_field(KEY_PACK(to, "body"), v.body, v.body_len);
    out->len += (size_t)(to - first);
    return true;
}
