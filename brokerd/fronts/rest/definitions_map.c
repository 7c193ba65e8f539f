/* Between the document of definitions and control maps: what a queue or group of it asks for, and what differs from what is there. */
#include <stdio.h>
#include <string.h>

#include "definitions.h"

__attribute__((format(printf, 2, 3))) static bool wrong(char text[FORM_TEXT_BYTES], const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(text, FORM_TEXT_BYTES, format, args);
    va_end(args);
    return false;
}

static const char *name_of(const json_t *object)
{
    const char *name = json_string_value(json_object_get(object, "name"));
    return name ? name : "";
}

/* ---- to control maps ------------------------------------------------------------------------------------------------ */

json_t *definitions_queue_map(const json_t *queue)
{
    json_t *map = json_object(), *value;
    const char *key;
    bool good = map && json_object_set_new(map, "queue", json_string(name_of(queue))) == 0;
    json_object_foreach(json_object_get(queue, "settings"), key, value)
    {
        json_t *copy =
            json_is_string(value) ? json_string(definitions_word_in(json_string_value(value))) : json_incref(value);
        good = good && json_object_set_new(map, key, copy) == 0;
        if (!good)
            break;
    }
    if (good)
        return map;
    json_decref(map);
    return NULL;
}

/* {"filter_topic":…} is {"filter":{"topic":…}} there. */
json_t *definitions_group_map(const char *queue, const json_t *group)
{
    static const char *const KEYS[][2] = {
        {"filter_topic", "topic"}, {"filter_key", "key"}, {"filter_headers", "headers"}};
    json_t *map = json_object(), *filter = json_object(), *active = json_object_get(group, "single_active");
    bool good = map && filter && json_object_set_new(map, "queue", json_string(queue)) == 0 &&
                json_object_set_new(map, "group", json_string(name_of(group))) == 0 &&
                json_object_set_new(map, "single_active", active ? json_incref(active) : json_false()) == 0;
    for (size_t i = 0; i < sizeof(KEYS) / sizeof(KEYS[0]); i++) {
        json_t *value = json_object_get(group, KEYS[i][0]);
        good = good && (!value || json_object_set(filter, KEYS[i][1], value) == 0);
    }
    good = good && json_object_set(map, "filter", filter) == 0;
    json_decref(filter);
    if (good)
        return map;
    json_decref(map);
    return NULL;
}

broker_error definitions_parse(struct control_request *request, enum control_kind kind, json_t *map,
                               msgpack_sbuffer *bytes, char text[FORM_TEXT_BYTES])
{
    *request = (struct control_request){0};
    msgpack_sbuffer_clear(bytes);
    if (!map) {
        wrong(text, "out of memory");
        return BROKER_NO_MEMORY;
    }
    broker_error error = form_json_to_msgpack(bytes, map, text);
    return error ? error : control_parse(request, kind, (const uint8_t *)bytes->data, bytes->size, text);
}

/* ---- checking ------------------------------------------------------------------------------------------------------- */

/* Would control_parse take it? Takes over `map`. */
static bool parses(struct rest *r, enum control_kind kind, json_t *map, char text[FORM_TEXT_BYTES])
{
    struct control_request request;
    broker_error error = definitions_parse(&request, kind, map, &r->map, text);
    json_decref(map);
    control_release(&request);
    return error == BROKER_OK;
}

static bool check_keys(const json_t *object, const char *const *keys, const char *what, char text[FORM_TEXT_BYTES])
{
    const char *key;
    json_t *value;
    char out[SHOWN_BYTES];
    json_object_foreach((json_t *)object, key, value)
    {
        const char *const *k = keys;
        while (*k && strcmp(*k, key) != 0)
            k++;
        if (*k)
            continue;
        const char *near = nearest(keys, key, strlen(key));
        return wrong(text, "unknown key \"%s\" of a %s%s%s%s", shown((struct http_text){key, strlen(key)}, out), what,
                     near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
    }
    return true;
}

static bool check_settings(struct rest *r, const json_t *queue, char text[FORM_TEXT_BYTES])
{
    static const char *const NO_PATH[] = {"queue", NULL};
    const json_t *settings = json_object_get(queue, "settings");
    if (settings && !json_is_object(settings))
        return wrong(text, "\"settings\" is not an object");
    return (!settings || admin_knows_keys(CONTROL_QUEUE_CREATE, settings, NO_PATH, text)) &&
           parses(r, CONTROL_QUEUE_CREATE, definitions_queue_map(queue), text);
}

static bool check_groups(struct rest *r, const json_t *queue, char text[FORM_TEXT_BYTES])
{
    static const char *const KEYS[] = {"name", "filter_topic", "filter_key", "filter_headers", "single_active", NULL};
    json_t *groups = json_object_get(queue, "groups"), *group;
    size_t i;
    char inner[FORM_TEXT_BYTES];
    if (groups && !json_is_array(groups))
        return wrong(text, "\"groups\" is not a list");
    json_array_foreach(groups, i, group)
    {
        if (!*name_of(group))
            return wrong(text, "a group has no \"name\"");
        if (!check_keys(group, KEYS, "group", inner) ||
            !parses(r, CONTROL_GROUP_CREATE, definitions_group_map(name_of(queue), group), inner))
            return wrong(text, "group '%.60s': %.150s", name_of(group), inner);
    }
    return true;
}

static bool check_bindings(const json_t *queue, char text[FORM_TEXT_BYTES])
{
    json_t *bindings = json_object_get(queue, "bindings"), *binding;
    size_t i;
    if (bindings && !json_is_array(bindings))
        return wrong(text, "\"bindings\" is not a list");
    json_array_foreach(bindings, i, binding)
    {
        if (!json_is_string(binding))
            return wrong(text, "a binding is not a string");
    }
    return true;
}

bool definitions_check_queue(struct rest *r, const json_t *queue, size_t number, char text[FORM_TEXT_BYTES])
{
    static const char *const KEYS[] = {"name", "paused", "settings", "groups", "bindings", NULL};
    const json_t *paused = json_object_get(queue, "paused");
    char inner[FORM_TEXT_BYTES];
    if (!json_is_object(queue) || !*name_of(queue))
        return wrong(text, "queue number %zu has no \"name\"", number + 1);
    bool good = check_keys(queue, KEYS, "queue", inner) &&
                (!paused || json_is_boolean(paused) || wrong(inner, "\"paused\" is neither true nor false")) &&
                check_settings(r, queue, inner) && check_groups(r, queue, inner) && check_bindings(queue, inner);
    return good || wrong(text, "queue '%.60s': %.180s", name_of(queue), inner);
}

bool definitions_check_head(const json_t *document, char text[FORM_TEXT_BYTES])
{
    static const char *const KEYS[] = {"format", "version", "queues", NULL};
    const char *format = json_string_value(json_object_get(document, "format"));
    if (!format || strcmp(format, DEFINITIONS_FORMAT) != 0)
        return wrong(text, "\"format\" is not \"%s\"", DEFINITIONS_FORMAT);
    if (json_integer_value(json_object_get(document, "version")) != DEFINITIONS_VERSION)
        return wrong(text, "\"version\" is not %d; a newer broker may read it", DEFINITIONS_VERSION);
    if (!json_is_array(json_object_get(document, "queues")))
        return wrong(text, "\"queues\" is not a list");
    return check_keys(document, KEYS, "document", text);
}

/* ---- what differs --------------------------------------------------------------------------------------------------- */

static const msgpack_object *find(const msgpack_object *map, const char *key)
{
    size_t len = strlen(key);
    for (uint32_t i = 0; map->type == MSGPACK_OBJECT_MAP && i < map->via.map.size; i++) {
        const msgpack_object *k = &map->via.map.ptr[i].key;
        if (k->type == MSGPACK_OBJECT_STR && k->via.str.size == len && memcmp(k->via.str.ptr, key, len) == 0)
            return &map->via.map.ptr[i].val;
    }
    return NULL;
}

static bool unpack(msgpack_unpacked *out, const msgpack_sbuffer *bytes)
{
    size_t at = 0;
    msgpack_unpacked_init(out);
    return bytes->data && msgpack_unpack_next(out, bytes->data, bytes->size, &at) == MSGPACK_UNPACK_SUCCESS;
}

bool definitions_differing(struct rest *r, const json_t *queue, const broker_queue_info *info, json_t *names)
{
    char text[FORM_TEXT_BYTES];
    msgpack_unpacked wanted = {0}, there = {0};
    json_t *map = definitions_queue_map(queue);
    msgpack_sbuffer bytes; /* texts that are unpacked stay in them */
    msgpack_packer pk = admin_pack(r);
    msgpack_sbuffer_init(&bytes);
    bool good = map && form_json_to_msgpack(&bytes, map, text) == BROKER_OK && unpack(&wanted, &bytes);
    control_pack_queue(&pk, info);
    good = good && unpack(&there, &r->map);
    for (uint32_t i = 0; good && i < wanted.data.via.map.size; i++) {
        const msgpack_object_kv *kv = &wanted.data.via.map.ptr[i];
        char key[64];
        snprintf(key, sizeof(key), "%.*s", (int)kv->key.via.str.size, kv->key.via.str.ptr);
        const msgpack_object *value = find(&there.data, key);
        if (strcmp(key, "queue") != 0 && (!value || !msgpack_object_equal(*value, kv->val)))
            good = json_array_append_new(names, json_string(key)) == 0;
    }
    msgpack_unpacked_destroy(&wanted);
    msgpack_unpacked_destroy(&there);
    msgpack_sbuffer_destroy(&bytes);
    json_decref(map);
    return good;
}

static bool is_backoff(const char *key)
{
    return strncmp(key, "backoff", 7) == 0;
}

json_t *definitions_altering_map(const json_t *queue, const json_t *names)
{
    json_t *whole = definitions_queue_map(queue), *map = json_object(), *value, *name;
    const char *key;
    size_t i;
    bool backoff = false, good = whole && map;
    json_array_foreach(names, i, name)
    {
        backoff |= is_backoff(json_string_value(name));
    }
    json_object_foreach(whole, key, value)
    {
        bool wanted = strcmp(key, "queue") == 0 || (backoff && is_backoff(key)); /* these are set together */
        json_array_foreach(names, i, name)
        {
            wanted |= strcmp(key, json_string_value(name)) == 0;
        }
        good = good && (!wanted || json_object_set(map, key, value) == 0);
    }
    json_decref(whole);
    if (good)
        return map;
    json_decref(map);
    return NULL;
}

bool definitions_group_differs(struct rest *r, const char *queue, const json_t *group, const broker_group_info *info)
{
    struct control_request wanted;
    char text[FORM_TEXT_BYTES];
    json_t *map = definitions_group_map(queue, group);
    broker_error error = definitions_parse(&wanted, CONTROL_GROUP_CREATE, map, &r->map, text);
    const broker_group_settings *s = &wanted.group_settings;
    bool same = !error && admin_same_filter(&s->filter, &info->settings.filter) &&
                s->single_active == info->settings.single_active;
    control_release(&wanted);
    json_decref(map);
    return !same;
}
