/* JSON text read: bounded before anything is allocated for it, and strict. */
#include <stdio.h>

#include "forms_internal.h"

enum { VALUES_MAX = 1 << 18 }; /* of one text: a value of one byte takes some hundred once it is parsed */

/* ---- a first look, before jansson allocates for it -------------------------------------------------------------------- */

struct look {
    uint32_t values; /* about */
    bool nul;        /* \u0000 stands in a string */
};

/* false: too deep, or too many values. What is malformed is left for jansson to tell. */
static bool look_over(const uint8_t *p, size_t len, struct look *look, char text[FORM_TEXT_BYTES])
{
    int depth = 0;
    bool string = false;
    *look = (struct look){.values = 1};
    for (size_t i = 0; i < len && depth >= 0; i++) {
        uint8_t c = p[i];
        if (string) {
            if (c == '\\') {
                look->nul = look->nul || (len - i >= 6 && memcmp(p + i, "\\u0000", 6) == 0);
                i++;
            } else if (c == '"') {
                string = false;
            }
            continue;
        }
        string = c == '"';
        if (c == '{' || c == '[')
            depth++;
        else if (c == '}' || c == ']')
            depth--;
        look->values += c == ',' || c == '{' || c == '[';
        if (depth > FORM_DEPTH_MAX || look->values > VALUES_MAX) {
            if (depth > FORM_DEPTH_MAX)
                snprintf(text, FORM_TEXT_BYTES, "the JSON is nested deeper than %d, at byte %zu", FORM_DEPTH_MAX, i);
            else
                snprintf(text, FORM_TEXT_BYTES, "the JSON has more than %d values; send it in parts, or as NDJSON",
                         VALUES_MAX);
            return false;
        }
    }
    return true;
}

/* A NUL may stand in what a message carries, not in names and settings, which are C strings sooner or later. */
static const char *nul_found(const json_t *value, const char *key)
{
    const char *name, *found = NULL;
    json_t *item;
    size_t i;
    if (strcmp(key, "body") == 0 || strcmp(key, "body_json") == 0 || strcmp(key, "data") == 0)
        return NULL;
    if (json_is_string(value))
        return memchr(json_string_value(value), '\0', json_string_length(value)) ? key : NULL;
    json_object_foreach((json_t *)value, name, item)
    {
        if (!found)
            found = nul_found(item, name);
    }
    json_array_foreach(value, i, item)
    {
        if (!found)
            found = nul_found(item, key);
    }
    return found;
}

json_t *form_json_parse(const void *bytes, size_t len, char text[FORM_TEXT_BYTES])
{
    struct look look;
    json_error_t error;
    if (!look_over(bytes, len, &look, text))
        return NULL;
    json_t *value =
        json_loadb(bytes ? bytes : "", len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    if (!value) {
        if (json_error_code(&error) == json_error_out_of_memory ||
            error.text[0] == '\0') /* it mostly forgets to say so */
            snprintf(text, FORM_TEXT_BYTES, "out of memory for %zu bytes of JSON", len);
        else
            snprintf(text, FORM_TEXT_BYTES, "no JSON: line %d, column %d: %s", error.line, error.column, error.text);
        return NULL;
    }
    const char *key = look.nul ? nul_found(value, "") : NULL;
    if (key) {
        snprintf(text, FORM_TEXT_BYTES, "a NUL (\\u0000) in the string at \"%.64s\"; only a body may have one", key);
        json_decref(value);
        return NULL;
    }
    return value;
}

bool form_receipt_json(const json_t *value, uint64_t *receipt)
{
    uint64_t n = 0;
    if (json_is_integer(value)) {
        *receipt = (uint64_t)json_integer_value(value);
        return json_integer_value(value) > 0;
    }
    if (!json_is_string(value))
        return false;
    const char *digits = json_string_value(value);
    size_t len = json_string_length(value);
    for (size_t i = 0; i < len; i++) {
        if (digits[i] < '0' || digits[i] > '9' || __builtin_mul_overflow(n, 10, &n) ||
            __builtin_add_overflow(n, (uint64_t)(digits[i] - '0'), &n))
            return false;
    }
    *receipt = n;
    return n > 0;
}
