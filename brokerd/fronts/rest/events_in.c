/* CloudEvents 1.0 in structured mode (its JSON format): attributes become the message's ce- headers, data its body. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "digest.h"
#include "headers.h"

enum { ATTRIBUTES_MAX = 128, ATTRIBUTE_NAME_MAX = 128 };

struct attribute {
    const char *name;
    const char *value;
    size_t len;
    char number[24];
};

/* The type system of CloudEvents (2.4) as text: strings, integers, booleans. */
static bool attribute_text(struct message_in *m, const char *name, const json_t *value, struct attribute *a)
{
    a->name = name;
    if (json_is_string(value)) {
        a->value = json_string_value(value);
        a->len = json_string_length(value);
        return true;
    }
    if (json_is_integer(value))
        snprintf(a->number, sizeof(a->number), "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    else if (json_is_boolean(value))
        snprintf(a->number, sizeof(a->number), "%s", json_is_true(value) ? "true" : "false");
    else
        return message_refuse(m, BROKER_INVALID_ARGUMENT,
                              "event: the attribute \"%.64s\" is neither a string nor an integer nor a boolean", name);
    a->value = a->number;
    a->len = strlen(a->number);
    return true;
}

static bool name_is_attribute(const char *name)
{
    size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789");
    return n > 0 && n <= ATTRIBUTE_NAME_MAX && name[n] == 0;
}

static bool add_header(struct message_in *m, const char *name, size_t name_len, const char *value, size_t len)
{
    return packing_add(&m->headers, name, name_len, value, len) ||
           message_refuse(m, BROKER_INVALID_ARGUMENT,
                          "event: the message would have the header \"%.64s\" twice; give it once", name);
}

static bool add_attribute(struct message_in *m, const struct attribute *a)
{
    char name[3 + ATTRIBUTE_NAME_MAX + 1];
    if (strcmp(a->name, "datacontenttype") == 0) {
        m->has_type = true;
        return add_header(m, "content-type", strlen("content-type"), a->value, a->len);
    }
    if (strcmp(a->name, "specversion") == 0 && (a->len != 3 || memcmp(a->value, "1.0", 3) != 0))
        return message_refuse(m, BROKER_INVALID_ARGUMENT,
                              "event: specversion is \"%.16s\"; this broker understands 1.0", a->value);
    if (strcmp(a->name, "id") == 0)
        m->event_id = (struct http_text){a->value, a->len};
    if (strcmp(a->name, "source") == 0)
        m->event_source = (struct http_text){a->value, a->len};
    if (strcmp(a->name, "partitionkey") == 0 && !m->spec.key && a->len <= UINT16_MAX) {
        m->spec.key = a->value;
        m->spec.key_len = a->len;
    }
    return add_header(m, name, (size_t)snprintf(name, sizeof(name), "ce-%s", a->name), a->value, a->len);
}

/* A media type of JSON: application/json, text/json, …+json (CloudEvents' JSON format 3.1). */
static bool type_is_json(const char *type)
{
    size_t n = strcspn(type, "; ");
    return (n >= 5 && strncasecmp(type + n - 5, "+json", 5) == 0) ||
           (n >= 5 && strncasecmp(type + n - 5, "/json", 5) == 0);
}

/* "data": a JSON value as such; where the content type says that it is no JSON, a string stands for its bytes. */
static bool add_data(struct message_in *m, const json_t *value, const char *type, struct buf *data)
{
    if (json_is_string(value) && type && !type_is_json(type)) {
        m->spec.body = json_string_value(value);
        m->spec.body_len = json_string_length(value);
        return true;
    }
    size_t n = json_dumpb(value, NULL, 0, JSON_COMPACT | JSON_ENCODE_ANY);
    uint8_t *to = buf_reserve(data, n ? n : 1);
    if (n == 0 || !to)
        return message_refuse(m, BROKER_NO_MEMORY, "event: no memory for its data; try again");
    json_dumpb(value, (char *)to, n, JSON_COMPACT | JSON_ENCODE_ANY);
    m->spec.body = to;
    m->spec.body_len = n;
    return type || add_header(m, "content-type", strlen("content-type"), "application/json", 16);
}

static bool add_data_base64(struct message_in *m, const json_t *value, struct buf *data)
{
    const char *text = json_string_value(value);
    size_t len = text ? json_string_length(value) : 0, got = 0;
    uint8_t *to = buf_reserve(data, len / 4 * 3 + 1);
    if (!to)
        return message_refuse(m, BROKER_NO_MEMORY, "event: no memory for its data; try again");
    if (!text || !base64_decode(to, &got, text, len))
        return message_refuse(m, BROKER_INVALID_ARGUMENT,
                              "event: \"data_base64\" is not base64: A-Z a-z 0-9 + / in groups of four, padded with =");
    m->spec.body = to;
    m->spec.body_len = got;
    return true;
}

static bool check_required(struct message_in *m, const json_t *event)
{
    static const char *const REQUIRED[] = {"specversion", "id", "source", "type"};
    for (size_t i = 0; i < sizeof(REQUIRED) / sizeof(REQUIRED[0]); i++) {
        const json_t *value = json_object_get(event, REQUIRED[i]);
        if (!json_is_string(value) || json_string_length(value) == 0)
            return message_refuse(m, BROKER_INVALID_ARGUMENT,
                                  "event: \"%s\" is missing, empty or no string; a CloudEvent has specversion, id, "
                                  "source and type",
                                  REQUIRED[i]);
    }
    if (json_object_get(event, "data") && json_object_get(event, "data_base64"))
        return message_refuse(m, BROKER_INVALID_ARGUMENT, "event: it has \"data\" and \"data_base64\"; give one");
    if (json_object_size(event) > ATTRIBUTES_MAX)
        return message_refuse(m, BROKER_TOO_LARGE, "event: %zu attributes; give at most %d", json_object_size(event),
                              ATTRIBUTES_MAX);
    return true;
}

bool event_read(struct rest *r, const json_t *event, struct message_in *m, struct buf *data)
{
    const char *name, *type = json_string_value(json_object_get(event, "datacontenttype"));
    json_t *value;
    if (!json_is_object(event))
        return message_refuse(m, BROKER_INVALID_ARGUMENT, "event: it is not an object");
    if (!check_required(m, event))
        return false;
    m->is_event = true;
    m->spec.body = NULL;
    m->spec.body_len = 0;
    json_object_foreach((json_t *)event, name, value)
    {
        struct attribute a;
        bool good;
        if (json_is_null(value) && strcmp(name, "data") != 0)
            continue; /* as if it were absent (JSON format 2.2) */
        if (strcmp(name, "data") == 0)
            good = add_data(m, value, type, data);
        else if (strcmp(name, "data_base64") == 0)
            good = add_data_base64(m, value, data);
        else if (!name_is_attribute(name))
            good = message_refuse(m, BROKER_INVALID_ARGUMENT,
                                  "event: \"%.64s\" is no attribute's name; they have a-z and 0-9 only", name);
        else
            good = attribute_text(m, name, value, &a) && add_attribute(m, &a);
        if (!good)
            return false;
    }
    event_take_id(r, m);
    return true;
}

bool message_read_event(struct rest *r, const struct http_request *q, struct message_in *m, struct event_owner *owner)
{
    char text[FORM_TEXT_BYTES];
    owner->json = form_json_parse(q->body, q->body_len, text);
    if (!owner->json)
        return message_refuse(m, BROKER_INVALID_ARGUMENT, "the event: %.230s", text);
    return event_read(r, owner->json, m, &owner->data);
}
