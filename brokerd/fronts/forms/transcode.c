/* Values between JSON and msgpack. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "forms_internal.h"

/* ---- JSON to msgpack --------------------------------------------------------------------------------------------------- */

struct packing {
    msgpack_sbuffer *out;
    bool failed;
};

static int packing_write(void *packing, const char *bytes, size_t len)
{
    struct packing *p = packing;
    if (!p->failed && msgpack_sbuffer_write(p->out, bytes, len) != 0)
        p->failed = true;
    return 0;
}

/* false: too deep. */
static bool pack_json(msgpack_packer *pk, const json_t *value, int depth)
{
    const char *name;
    json_t *item;
    size_t i;
    bool good = depth <= FORM_DEPTH_MAX;
    if (!good)
        return false;
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        msgpack_pack_map(pk, json_object_size(value));
        json_object_foreach((json_t *)value, name, item)
        {
            pack_str(pk, name, strlen(name)); /* NULs are no part of an object's keys: jansson refuses them */
            good = good && pack_json(pk, item, depth + 1);
        }
        break;
    case JSON_ARRAY:
        msgpack_pack_array(pk, json_array_size(value));
        json_array_foreach(value, i, item)
        {
            good = good && pack_json(pk, item, depth + 1);
        }
        break;
    case JSON_STRING: pack_str(pk, json_string_value(value), json_string_length(value)); break;
    case JSON_INTEGER: msgpack_pack_int64(pk, json_integer_value(value)); break;
    case JSON_REAL: msgpack_pack_double(pk, json_real_value(value)); break;
    case JSON_TRUE: msgpack_pack_true(pk); break;
    case JSON_FALSE: msgpack_pack_false(pk); break;
    default: msgpack_pack_nil(pk); break;
    }
    return good;
}

broker_error form_json_to_msgpack(msgpack_sbuffer *out, const json_t *value, char text[FORM_TEXT_BYTES])
{
    struct packing packing = {.out = out};
    size_t size = out->size;
    msgpack_packer pk;
    msgpack_packer_init(&pk, &packing, packing_write);
    bool good = pack_json(&pk, value, 0);
    if (good && !packing.failed)
        return BROKER_OK;
    out->size = size;
    if (packing.failed) {
        snprintf(text, FORM_TEXT_BYTES, "out of memory for a value in msgpack");
        return BROKER_NO_MEMORY;
    }
    snprintf(text, FORM_TEXT_BYTES, "the JSON is nested deeper than %d", FORM_DEPTH_MAX);
    return BROKER_INVALID_ARGUMENT;
}

/* ---- msgpack and JSON values to JSON text ------------------------------------------------------------------------------ */

/* The shortest text that reads back as the same number; JSON has none for what is not finite. */
static bool put_real(struct buf *out, double value)
{
    char digits[40];
    if (!isfinite(value))
        return form_put(out, "null");
    for (int precision = 15; precision <= 17; precision++) {
        snprintf(digits, sizeof(digits), "%.*g", precision, value);
        if (strtod(digits, NULL) == value)
            break;
    }
    /* It stays one that is no integer. */
    return form_put(out, digits) && (strpbrk(digits, ".e") || form_put(out, ".0"));
}

static bool put_i64(struct buf *out, int64_t value)
{
    if (value >= 0)
        return form_json_u64(out, (uint64_t)value);
    return form_put(out, "-") && form_json_u64(out, 0 - (uint64_t)value);
}

static bool put_base64_string(struct buf *out, const void *bytes, size_t len)
{
    return form_put(out, "\"") && form_base64(out, bytes, len) && form_put(out, "\"");
}

static bool put_msgpack(struct buf *out, const msgpack_object *o, int depth);

/* A key that is no text: bytes as base64, a number or a word as its JSON in quotes. What an array or a map says as a key is
   not told: escaped once for each level it would double with each. */
static bool put_key(struct buf *out, const msgpack_object *key)
{
    switch (key->type) {
    case MSGPACK_OBJECT_ARRAY: return form_put(out, "\"[]\"");
    case MSGPACK_OBJECT_MAP: return form_put(out, "\"{}\"");
    case MSGPACK_OBJECT_STR:
    case MSGPACK_OBJECT_BIN:
    case MSGPACK_OBJECT_EXT: return put_msgpack(out, key, 0); /* these have quotes of their own */
    default: return form_put(out, "\"") && put_msgpack(out, key, 0) && form_put(out, "\"");
    }
}

static bool put_map(struct buf *out, const msgpack_object_map *map, int depth)
{
    bool good = form_put(out, "{");
    for (uint32_t i = 0; good && i < map->size; i++)
        good = (i == 0 || form_put(out, ",")) && put_key(out, &map->ptr[i].key) && form_put(out, ":") &&
               put_msgpack(out, &map->ptr[i].val, depth + 1);
    return good && form_put(out, "}");
}

static bool put_array(struct buf *out, const msgpack_object_array *array, int depth)
{
    bool good = form_put(out, "[");
    for (uint32_t i = 0; good && i < array->size; i++)
        good = (i == 0 || form_put(out, ",")) && put_msgpack(out, &array->ptr[i], depth + 1);
    return good && form_put(out, "]");
}

static bool put_msgpack(struct buf *out, const msgpack_object *o, int depth)
{
    if (depth > FORM_DEPTH_MAX)
        return false;
    switch (o->type) {
    case MSGPACK_OBJECT_BOOLEAN: return form_put(out, o->via.boolean ? "true" : "false");
    case MSGPACK_OBJECT_POSITIVE_INTEGER: return form_json_u64(out, o->via.u64);
    case MSGPACK_OBJECT_NEGATIVE_INTEGER: return put_i64(out, o->via.i64);
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64: return put_real(out, o->via.f64);
    case MSGPACK_OBJECT_STR: return form_json_string(out, o->via.str.ptr, o->via.str.size);
    case MSGPACK_OBJECT_BIN: return put_base64_string(out, o->via.bin.ptr, o->via.bin.size);
    case MSGPACK_OBJECT_EXT: return put_base64_string(out, o->via.ext.ptr, o->via.ext.size);
    case MSGPACK_OBJECT_ARRAY: return put_array(out, &o->via.array, depth);
    case MSGPACK_OBJECT_MAP: return put_map(out, &o->via.map, depth);
    default: return form_put(out, "null");
    }
}

bool form_msgpack_to_json(struct buf *out, const msgpack_object *value)
{
    size_t len = out->len;
    bool good = put_msgpack(out, value, 0);
    if (!good)
        out->len = len;
    return good;
}

static bool put_json(struct buf *out, const json_t *value, int depth)
{
    const char *name, *before = "";
    json_t *item;
    size_t i;
    bool good = depth <= FORM_DEPTH_MAX;
    if (!good)
        return false;
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        good = form_put(out, "{");
        json_object_foreach((json_t *)value, name, item)
        {
            good = good && form_put(out, before) && form_json_string(out, name, strlen(name)) && form_put(out, ":") &&
                   put_json(out, item, depth + 1);
            before = ",";
        }
        return good && form_put(out, "}");
    case JSON_ARRAY:
        good = form_put(out, "[");
        json_array_foreach(value, i, item)
        {
            good = good && form_put(out, before) && put_json(out, item, depth + 1);
            before = ",";
        }
        return good && form_put(out, "]");
    case JSON_STRING: return form_json_string(out, json_string_value(value), json_string_length(value));
    case JSON_INTEGER: return put_i64(out, json_integer_value(value));
    case JSON_REAL: return put_real(out, json_real_value(value));
    case JSON_TRUE: return form_put(out, "true");
    case JSON_FALSE: return form_put(out, "false");
    default: return form_put(out, "null");
    }
}

bool form_json_value_put(struct buf *out, const json_t *value)
{
    return put_json(out, value, 0);
}
