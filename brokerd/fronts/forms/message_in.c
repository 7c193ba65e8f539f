/*
 * A message object, JSON or msgpack, made into a record. Both are read by one table of keys: a value of either is seen as a
 * struct value.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "forms_internal.h"

#define TIME_SPAN_MAX_MS (36525ull * 24 * 3600 * 1000) /* 100 years, as libbroker's */

/* ---- what both forms share ----------------------------------------------------------------------------------------------- */

enum value_kind { VALUE_NULL, VALUE_TEXT, VALUE_BIN, VALUE_NUMBER, VALUE_MAP, VALUE_OTHER };

struct value {
    enum value_kind kind;
    const char *bytes; /* text, bin */
    size_t len;
    uint64_t number;    /* whole, not negative */
    const json_t *json; /* one of the two is there */
    const msgpack_object *packed;
};

struct reading {
    struct record_spec spec;
    struct buf key, id, body; /* decoded ones; spec points into them */
    struct value headers;
    const char *topic; /* where the message is published to; NULL: to a queue */
    bool has_key, has_id, has_body, is_json, has_delay, has_at;
    broker_error error;
    char *text;
};

static bool refuse(struct reading *r, broker_error error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static bool refuse(struct reading *r, broker_error error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(r->text, FORM_TEXT_BYTES, format, args);
    va_end(args);
    r->error = error;
    return false;
}

static struct value value_of_json(const json_t *json)
{
    struct value v = {.kind = VALUE_OTHER, .json = json};
    if (json_is_string(json)) {
        v.kind = VALUE_TEXT;
        v.bytes = json_string_value(json);
        v.len = json_string_length(json);
    } else if (json_is_integer(json) && json_integer_value(json) >= 0) {
        v.kind = VALUE_NUMBER;
        v.number = (uint64_t)json_integer_value(json);
    } else if (json_is_object(json) || json_is_null(json)) {
        v.kind = json_is_null(json) ? VALUE_NULL : VALUE_MAP;
    }
    return v;
}

static struct value value_of_packed(const msgpack_object *o)
{
    struct value v = {.kind = VALUE_OTHER, .packed = o};
    switch (o->type) {
    case MSGPACK_OBJECT_NIL: v.kind = VALUE_NULL; break;
    case MSGPACK_OBJECT_MAP: v.kind = VALUE_MAP; break;
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
        v.kind = VALUE_NUMBER;
        v.number = o->via.u64;
        break;
    case MSGPACK_OBJECT_STR:
    case MSGPACK_OBJECT_BIN:
        v.kind = o->type == MSGPACK_OBJECT_STR ? VALUE_TEXT : VALUE_BIN;
        v.bytes = o->via.str.ptr ? o->via.str.ptr : ""; /* bin is laid out alike */
        v.len = o->via.str.size;
        break;
    default: break;
    }
    return v;
}

/* ---- one key each ---------------------------------------------------------------------------------------------------------- */

/* Text, or bytes where the form has them. */
static bool take_bytes(struct reading *r, const char *key, const struct value *v, const void **bytes, size_t *len)
{
    if (v->kind != VALUE_TEXT && v->kind != VALUE_BIN)
        return refuse(r, BROKER_INVALID_ARGUMENT, "message: \"%s\" is not a string", key);
    *bytes = v->bytes;
    *len = v->len;
    return true;
}

static bool take_base64(struct reading *r, const char *key, const struct value *v, struct buf *decoded,
                        const void **bytes, size_t *len)
{
    if (v->kind != VALUE_TEXT)
        return refuse(r, BROKER_INVALID_ARGUMENT, "message: \"%s\" is not a string of base64", key);
    uint8_t *to = buf_reserve(decoded, v->len / 4 * 3 + 1);
    if (!to)
        return refuse(r, BROKER_NO_MEMORY, "message: out of memory for \"%s\" of %zu bytes", key, v->len);
    if (!form_base64_get(to, len, v->bytes, v->len))
        return refuse(r, BROKER_INVALID_ARGUMENT,
                      "message: \"%s\" is not base64: A-Z a-z 0-9 + / in groups of four, padded with =, no blanks",
                      key);
    *bytes = to;
    return true;
}

/* A thing that goes by several keys is given by one of them. */
static bool once(struct reading *r, bool *has, const char *what)
{
    if (*has)
        return refuse(r, BROKER_INVALID_ARGUMENT, "message: it has two of %s; give one", what);
    *has = true;
    return true;
}

static bool take_body(struct reading *r, const struct value *v)
{
    return once(r, &r->has_body, "\"body\", \"body_base64\" and \"body_json\"") &&
           take_bytes(r, "body", v, &r->spec.body, &r->spec.body_len);
}

static bool take_body_base64(struct reading *r, const struct value *v)
{
    return once(r, &r->has_body, "\"body\", \"body_base64\" and \"body_json\"") &&
           take_base64(r, "body_base64", v, &r->body, &r->spec.body, &r->spec.body_len);
}

static bool take_body_json(struct reading *r, const struct value *v)
{
    if (!once(r, &r->has_body, "\"body\", \"body_base64\" and \"body_json\""))
        return false;
    if (!(v->json ? form_json_value_put(&r->body, v->json) : form_msgpack_to_json(&r->body, v->packed)))
        return refuse(r, BROKER_NO_MEMORY, "message: out of memory for \"body_json\"");
    r->spec.body = r->body.bytes;
    r->spec.body_len = r->body.len;
    r->is_json = true;
    return true;
}

static bool take_key(struct reading *r, const struct value *v)
{
    return once(r, &r->has_key, "\"key\" and \"key_base64\"") &&
           take_bytes(r, "key", v, &r->spec.key, &r->spec.key_len);
}

static bool take_key_base64(struct reading *r, const struct value *v)
{
    return once(r, &r->has_key, "\"key\" and \"key_base64\"") &&
           take_base64(r, "key_base64", v, &r->key, &r->spec.key, &r->spec.key_len);
}

static bool take_id(struct reading *r, const struct value *v)
{
    return once(r, &r->has_id, "\"id\" and \"id_base64\"") && take_bytes(r, "id", v, &r->spec.id, &r->spec.id_len);
}

static bool take_id_base64(struct reading *r, const struct value *v)
{
    return once(r, &r->has_id, "\"id\" and \"id_base64\"") &&
           take_base64(r, "id_base64", v, &r->id, &r->spec.id, &r->spec.id_len);
}

static bool take_topic(struct reading *r, const struct value *v)
{
    return take_bytes(r, "topic", v, &r->spec.topic, &r->spec.topic_len);
}

static bool take_number(struct reading *r, const char *key, const struct value *v, uint64_t max, uint64_t *out)
{
    if (v->kind != VALUE_NUMBER)
        return refuse(r, BROKER_INVALID_ARGUMENT, "message: \"%s\" is not a whole number; give one from 0 to %" PRIu64,
                      key, max);
    if (v->number > max)
        return refuse(r, BROKER_INVALID_ARGUMENT,
                      "message: \"%s\" is %" PRIu64 "; give a whole number from 0 to %" PRIu64, key, v->number, max);
    *out = v->number;
    return true;
}

static bool take_priority(struct reading *r, const struct value *v)
{
    uint64_t priority = 0;
    bool good = take_number(r, "priority", v, 9, &priority);
    r->spec.priority = (uint8_t)priority;
    return good;
}

static bool take_delay(struct reading *r, const struct value *v)
{
    r->spec.due_is_delay = r->has_delay = true;
    return take_number(r, "delay_ms", v, TIME_SPAN_MAX_MS, &r->spec.due_ms);
}

static bool take_at(struct reading *r, const struct value *v)
{
    r->has_at = true;
    return take_number(r, "at_ms", v, INT64_MAX, &r->spec.due_ms);
}

static bool take_ttl(struct reading *r, const struct value *v)
{
    r->spec.expire_is_ttl = true;
    return take_number(r, "ttl_ms", v, TIME_SPAN_MAX_MS, &r->spec.expire_ms);
}

static bool take_headers(struct reading *r, const struct value *v)
{
    if (v->kind != VALUE_MAP)
        return refuse(r, BROKER_INVALID_ARGUMENT, "message: \"headers\" is not an object of strings");
    r->headers = *v;
    return true;
}

static const struct message_key {
    const char *name;
    bool (*take)(struct reading *r, const struct value *v);
    bool takes_null; /* for the others null is as good as absent */
} KEYS[] = {
    {"body", take_body, false},
    {"body_base64", take_body_base64, false},
    {"body_json", take_body_json, true},
    {"key", take_key, false},
    {"key_base64", take_key_base64, false},
    {"headers", take_headers, false},
    {"topic", take_topic, false},
    {"id", take_id, false},
    {"id_base64", take_id_base64, false},
    {"priority", take_priority, false},
    {"delay_ms", take_delay, false},
    {"at_ms", take_at, false},
    {"ttl_ms", take_ttl, false},
};

static bool take(struct reading *r, const char *name, size_t len, const struct value *v)
{
    for (size_t i = 0; i < sizeof(KEYS) / sizeof(KEYS[0]); i++)
        if (strlen(KEYS[i].name) == len && memcmp(KEYS[i].name, name, len) == 0)
            return (v->kind == VALUE_NULL && !KEYS[i].takes_null) || KEYS[i].take(r, v);
    return refuse(r, BROKER_INVALID_ARGUMENT,
                  "message: it has no key \"%.*s\"; known are body, body_base64, body_json, key, key_base64, headers, "
                  "topic, id, id_base64, priority, delay_ms, at_ms, ttl_ms",
                  (int)(len < 64 ? len : 64), len ? name : "");
}

/* ---- the record -------------------------------------------------------------------------------------------------------- */

static bool check_topic(struct reading *r)
{
    struct record_spec *s = &r->spec;
    if (r->topic) {
        if (s->topic && (s->topic_len != strlen(r->topic) || memcmp(s->topic, r->topic, s->topic_len) != 0))
            return refuse(r, BROKER_INVALID_ARGUMENT,
                          "message: its \"topic\" is \"%.*s\", and it is published to \"%.64s\"; give one",
                          (int)(s->topic_len < 64 ? s->topic_len : 64), (const char *)s->topic, r->topic);
        s->topic = r->topic;
        s->topic_len = strlen(r->topic);
    }
    if (s->by_topic && !s->topic)
        return refuse(r, BROKER_INVALID_ARGUMENT,
                      "message: it has no topic; one that names no queue goes by its topic");
    if (s->topic && !topic_is_valid(s->topic, s->topic_len))
        return refuse(
            r, BROKER_INVALID_ARGUMENT,
            "message: \"%.*s\" is no topic: use up to %u tokens of A-Z a-z 0-9 _ - with dots between, 1 to %u "
            "bytes",
            (int)(s->topic_len < 64 ? s->topic_len : 64), (const char *)s->topic, TOPIC_MAX_TOKENS, TOPIC_MAX_BYTES);
    return true;
}

static bool check(struct reading *r)
{
    const struct record_spec *s = &r->spec;
    if (!check_topic(r))
        return false;
    if (s->id && (s->id_len < 1 || s->id_len > ID_BYTES_MAX))
        return refuse(r, BROKER_INVALID_ARGUMENT, "message: an id of %zu bytes; give 1 to %d, or none", s->id_len,
                      ID_BYTES_MAX);
    if (s->key_len > KEY_BYTES_MAX)
        return refuse(r, BROKER_INVALID_ARGUMENT, "message: a key of %zu bytes; at most %d are allowed", s->key_len,
                      KEY_BYTES_MAX);
    if (s->priority > 9)
        return refuse(r, BROKER_INVALID_ARGUMENT, "message: priority is %u; give 0 to 9, 9 goes first", s->priority);
    if (r->has_delay && r->has_at)
        return refuse(r, BROKER_INVALID_ARGUMENT, "message: it has \"delay_ms\" and \"at_ms\"; give one");
    return true;
}

static bool put_record(struct reading *r, struct buf *records)
{
    uint32_t bytes = record_spec_bytes(&r->spec);
    if (bytes == 0)
        return refuse(r, BROKER_TOO_LARGE,
                      "message: %zu bytes of body and %zu of headers; a message may have %u in all", r->spec.body_len,
                      r->spec.headers_len, RECORD_MAX_BYTES);
    if (records->max && (records->len > records->max || bytes > records->max - records->len))
        return refuse(r, BROKER_TOO_LARGE, "message: with its %" PRIu32 " bytes they are more than %zu at once", bytes,
                      records->max);
    uint8_t *to = buf_reserve(records, bytes);
    if (!to)
        return refuse(r, BROKER_NO_MEMORY, "message: out of memory for its %" PRIu32 " bytes", bytes);
    record_spec_put(to, &r->spec);
    records->len += bytes;
    return true;
}

/* ---- headers ------------------------------------------------------------------------------------------------------------ */

/* Packed headers: mostly small, and then on the stack. */
struct packed_headers {
    uint8_t *bytes, *end;
    uint8_t small[1024];
};

static bool packed_init(struct reading *r, struct packed_headers *p, size_t pairs, size_t text_bytes)
{
    if (pairs > HEADERS_MAX)
        return refuse(r, BROKER_INVALID_ARGUMENT, "message: %zu headers; at most %d are allowed", pairs, HEADERS_MAX);
    size_t bytes = text_bytes + PACK_HEAD_MAX * (2 * pairs + 1);
    if (text_bytes > RECORD_MAX_BYTES)
        return refuse(r, BROKER_TOO_LARGE, "message: its headers take more than %u bytes", RECORD_MAX_BYTES);
    p->bytes = bytes <= sizeof(p->small) ? p->small : malloc(bytes);
    if (!p->bytes)
        return refuse(r, BROKER_NO_MEMORY, "message: out of memory for headers of %zu bytes", bytes);
    p->end = pack_map_head(p->bytes, (uint32_t)pairs);
    return true;
}

static void packed_release(struct packed_headers *p)
{
    if (p->bytes != p->small)
        free(p->bytes);
}

/* Each pair of the map in either form; false: fn said no. */
static bool each_pair(const struct value *map,
                      bool (*fn)(void *arg, const char *name, size_t name_len, const struct value *v), void *arg)
{
    if (map->json) {
        const char *name;
        json_t *item;
        json_object_foreach((json_t *)map->json, name, item)
        {
            struct value v = value_of_json(item);
            if (!fn(arg, name, strlen(name), &v))
                return false;
        }
        return true;
    }
    for (uint32_t i = 0; map->packed && i < map->packed->via.map.size; i++) {
        const msgpack_object_kv *pair = &map->packed->via.map.ptr[i];
        bool text = pair->key.type == MSGPACK_OBJECT_STR;
        struct value v = value_of_packed(&pair->val);
        const char *name = !text ? NULL : pair->key.via.str.ptr ? pair->key.via.str.ptr : "";
        if (!fn(arg, name, text ? pair->key.via.str.size : 0, &v))
            return false;
    }
    return true;
}

struct header_sum {
    struct reading *r;
    struct packed_headers *packed;
    size_t pairs, bytes;
    bool has_type;
};

static bool header_add(void *sum, const char *name, size_t name_len, const struct value *v)
{
    static const char type[] = "content-type";
    struct header_sum *s = sum;
    if (!name)
        return refuse(s->r, BROKER_INVALID_ARGUMENT, "message: a header's name is not a string");
    if (v->kind != VALUE_TEXT)
        return refuse(s->r, BROKER_INVALID_ARGUMENT, "message: the header \"%.*s\" is not a string",
                      (int)(name_len < 64 ? name_len : 64), name);
    s->pairs++;
    s->bytes += name_len + v->len;
    s->has_type = s->has_type || (name_len == sizeof(type) - 1 && strncasecmp(name, type, name_len) == 0);
    return true;
}

static bool header_pack(void *sum, const char *name, size_t name_len, const struct value *v)
{
    struct packed_headers *p = ((struct header_sum *)sum)->packed;
    p->end = pack_text(pack_text(p->end, name, name_len), v->bytes, v->len);
    return true;
}

static bool put_with_headers(struct reading *r, struct buf *records)
{
    static const char type[] = "content-type", json[] = "application/json";
    struct packed_headers packed;
    struct header_sum sum = {.r = r, .packed = &packed};
    if (!each_pair(&r->headers, header_add, &sum))
        return false;
    bool adds = r->is_json && !sum.has_type;
    if (sum.pairs + adds == 0)
        return put_record(r, records);
    if (!packed_init(r, &packed, sum.pairs + adds, sum.bytes + (adds ? sizeof(type) + sizeof(json) : 0)))
        return false;
    each_pair(&r->headers, header_pack, &sum);
    if (adds)
        packed.end = pack_text(pack_text(packed.end, type, sizeof(type) - 1), json, sizeof(json) - 1);
    r->spec.headers = packed.bytes;
    r->spec.headers_len = (size_t)(packed.end - packed.bytes);
    bool good = put_record(r, records);
    packed_release(&packed);
    return good;
}

/* ---- the ways in -------------------------------------------------------------------------------------------------------- */

static bool take_pair(void *reading, const char *name, size_t name_len, const struct value *v)
{
    struct reading *r = reading;
    if (!name)
        return refuse(r, BROKER_INVALID_ARGUMENT, "message: one of its keys is not a string");
    return take(r, name, name_len, v);
}

static broker_error put_message(struct buf *records, const struct value *message, const char *topic, char *text)
{
    struct reading r = {.topic = topic, .text = text, .spec.by_topic = topic != NULL};
    if (message->kind != VALUE_MAP) {
        refuse(&r, BROKER_INVALID_ARGUMENT, "message: it is not an object");
        return r.error;
    }
    if (each_pair(message, take_pair, &r) && check(&r))
        put_with_headers(&r, records);
    buf_release(&r.key);
    buf_release(&r.id);
    buf_release(&r.body);
    return r.error;
}

broker_error form_record_json(struct buf *records, const json_t *message, char text[FORM_TEXT_BYTES])
{
    struct value v = value_of_json(message);
    return put_message(records, &v, NULL, text);
}

broker_error form_record_msgpack(struct buf *records, const msgpack_object *message, char text[FORM_TEXT_BYTES])
{
    struct value v = value_of_packed(message);
    return put_message(records, &v, NULL, text);
}

broker_error form_record_json_to(struct buf *records, const json_t *message, const char *topic,
                                 char text[FORM_TEXT_BYTES])
{
    struct value v = value_of_json(message);
    return put_message(records, &v, topic, text);
}

broker_error form_record_msgpack_to(struct buf *records, const msgpack_object *message, const char *topic,
                                    char text[FORM_TEXT_BYTES])
{
    struct value v = value_of_packed(message);
    return put_message(records, &v, topic, text);
}

broker_error form_record(struct buf *records, const struct record_spec *spec, const broker_header *headers,
                         size_t count, char text[FORM_TEXT_BYTES])
{
    struct reading r = {.spec = *spec, .text = text};
    struct packed_headers packed;
    size_t bytes = 0;
    if (count == 0) {
        if (check(&r))
            put_record(&r, records);
        return r.error;
    }
    for (size_t i = 0; i < count; i++)
        bytes += strlen(headers[i].name) + strlen(headers[i].value);
    if (!check(&r) || !packed_init(&r, &packed, count, bytes))
        return r.error;
    for (size_t i = 0; i < count; i++) {
        packed.end = pack_text(packed.end, headers[i].name, strlen(headers[i].name));
        packed.end = pack_text(packed.end, headers[i].value, strlen(headers[i].value));
    }
    r.spec.headers = packed.bytes;
    r.spec.headers_len = (size_t)(packed.end - packed.bytes);
    put_record(&r, records);
    packed_release(&packed);
    return r.error;
}
