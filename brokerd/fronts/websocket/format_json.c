/* brokerd.v1.json: messages as JSON text, in text frames. What a client writes is seen as a tree of msgpack's objects, which all
   requests are read from; its strings stay where the parser has put them. */
#include <string.h>

#include "frames.h"
#include "websocket_internal.h"

/* ---- in ------------------------------------------------------------------------------------------------------------- */

static bool see(struct inbox *in, json_t *value, msgpack_object *out);

static bool see_object(struct inbox *in, json_t *value, msgpack_object *out)
{
    size_t n = json_object_size(value), i = 0;
    msgpack_object_kv *pairs = msgpack_zone_malloc(&in->zone, (n ? n : 1) * sizeof(*pairs));
    const char *name;
    json_t *item;
    *out = (msgpack_object){.type = MSGPACK_OBJECT_MAP, .via.map = {(uint32_t)n, pairs}};
    if (!pairs)
        return false;
    json_object_foreach(value, name, item)
    {
        pairs[i].key = (msgpack_object){.type = MSGPACK_OBJECT_STR, .via.str = {(uint32_t)strlen(name), name}};
        if (!see(in, item, &pairs[i++].val))
            return false;
    }
    return true;
}

static bool see_array(struct inbox *in, json_t *value, msgpack_object *out)
{
    size_t n = json_array_size(value), i;
    msgpack_object *items = msgpack_zone_malloc(&in->zone, (n ? n : 1) * sizeof(*items));
    json_t *item;
    *out = (msgpack_object){.type = MSGPACK_OBJECT_ARRAY, .via.array = {(uint32_t)n, items}};
    if (!items)
        return false;
    json_array_foreach(value, i, item)
    {
        if (!see(in, item, &items[i]))
            return false;
    }
    return true;
}

/* As deep as the parser allows. */
static bool see(struct inbox *in, json_t *value, msgpack_object *out)
{
    *out = (msgpack_object){.type = MSGPACK_OBJECT_NIL};
    switch (json_typeof(value)) {
    case JSON_OBJECT: return see_object(in, value, out);
    case JSON_ARRAY: return see_array(in, value, out);
    case JSON_STRING:
        out->type = MSGPACK_OBJECT_STR;
        out->via.str.ptr = json_string_value(value);
        out->via.str.size = (uint32_t)json_string_length(value);
        break;
    case JSON_INTEGER:
        out->type = json_integer_value(value) < 0 ? MSGPACK_OBJECT_NEGATIVE_INTEGER : MSGPACK_OBJECT_POSITIVE_INTEGER;
        out->via.i64 = json_integer_value(value);
        break;
    case JSON_REAL:
        out->type = MSGPACK_OBJECT_FLOAT64;
        out->via.f64 = json_real_value(value);
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        out->type = MSGPACK_OBJECT_BOOLEAN;
        out->via.boolean = json_is_true(value);
        break;
    case JSON_NULL: break;
    }
    return true;
}

static bool read_json(struct inbox *in, const uint8_t *bytes, size_t len, char text[TEXT_BYTES])
{
    char why[FORM_TEXT_BYTES] = "";
    json_decref(in->json);
    msgpack_zone_clear(&in->zone);
    in->json = form_json_parse(bytes, len, why);
    if (!in->json) {
        snprintf(text, TEXT_BYTES, "the message cannot be read: %s", why);
        return false;
    }
    if (!json_is_object(in->json)) {
        snprintf(text, TEXT_BYTES, "the message is no object; send one, as {\"op\":\"ping\",\"id\":1}");
        return false;
    }
    if (!see(in, in->json, &in->root)) {
        snprintf(text, TEXT_BYTES, "there is no memory for the message; try again");
        return false;
    }
    return true;
}

/* ---- out ------------------------------------------------------------------------------------------------------------ */

static void put(struct writer *w, bool good)
{
    w->failed = w->failed || !good;
}

static void begin_value(struct writer *w)
{
    if (w->comma)
        put(w, form_put(w->out, ","));
    w->comma = true;
}

static void write_map(struct writer *w, uint32_t pairs)
{
    begin_value(w);
    put(w, form_put(w->out, "{"));
    w->comma = false;
}

static void write_array(struct writer *w, uint32_t count)
{
    begin_value(w);
    put(w, form_put(w->out, "["));
    w->comma = false;
}

static void write_end(struct writer *w, char bracket)
{
    put(w, buf_append(w->out, &bracket, 1));
    w->comma = true;
}

static void write_key(struct writer *w, const char *key)
{
    begin_value(w);
    put(w, form_put(w->out, "\"") && form_put(w->out, key) && form_put(w->out, "\":"));
    w->comma = false;
}

static void write_u64(struct writer *w, uint64_t value)
{
    begin_value(w);
    put(w, form_json_u64(w->out, value));
}

static void write_text(struct writer *w, const char *text, size_t len)
{
    begin_value(w);
    put(w, form_json_string(w->out, text, len));
}

static void write_truth(struct writer *w, bool value)
{
    begin_value(w);
    put(w, form_put(w->out, value ? "true" : "false"));
}

/* A string: it is opaque, and programs that keep numbers as doubles would round it. */
static void write_receipt(struct writer *w, uint64_t receipt)
{
    begin_value(w);
    put(w, form_put(w->out, "\"") && form_json_u64(w->out, receipt) && form_put(w->out, "\""));
}

static void write_message(struct writer *w, const struct form_message *m)
{
    begin_value(w);
    put(w, form_message_json(w->out, m));
}

static void write_packed(struct writer *w, const msgpack_sbuffer *value)
{
    msgpack_unpacked unpacked;
    size_t offset = 0;
    begin_value(w);
    msgpack_unpacked_init(&unpacked);
    put(w, msgpack_unpack_next(&unpacked, value->data, value->size, &offset) == MSGPACK_UNPACK_SUCCESS &&
               form_msgpack_to_json(w->out, &unpacked.data));
    msgpack_unpacked_destroy(&unpacked);
}

static bool put_delivery(struct buf *out, uint32_t sub, const struct form_message *m)
{
    if (!form_put(out, "{\"op\":\"message\",\"sub\":") || !form_json_u64(out, sub))
        return false;
    size_t brace = out->len;
    if (!form_message_json(out, m))
        return false;
    out->bytes[brace] = ','; /* the message's own: its fields go on here */
    return true;
}

const struct format ws_format_json = {
    .protocol = "brokerd.v1.json",
    .opcode = OPCODE_TEXT,
    .read = read_json,
    .map = write_map,
    .array = write_array,
    .end = write_end,
    .key = write_key,
    .u64 = write_u64,
    .text = write_text,
    .truth = write_truth,
    .receipt = write_receipt,
    .message = write_message,
    .packed = write_packed,
    .delivery = put_delivery,
};
