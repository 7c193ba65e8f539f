/* What the broker says of queues and groups, as structs. */
#include "client_internal.h"

#include <stdlib.h>

enum { LIST_PAGE = 500 };

struct number {
    const char *key;
    uint64_t *value;
};

static bool map_u32(struct wire_map *m, const char *key, uint32_t *out)
{
    uint64_t value = 0;

    if (!wire_map_u64(m, key, 0, UINT32_MAX, &value))
        return false;
    *out = (uint32_t)value;
    return true;
}

/* A name, NUL-terminated in `out`. */
static bool map_name(struct wire_map *m, char out[NAME_MAX_BYTES + 1])
{
    const char *name = NULL;
    size_t len = 0;

    if (!wire_map_str(m, "name", NAME_MAX_BYTES, &name, &len) || !name || !name_is_valid(name, len))
        return false;
    memcpy(out, name, len);
    out[len] = '\0';
    return true;
}

static bool map_u64s(struct wire_map *m, const struct number numbers[], size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!wire_map_u64(m, numbers[i].key, 0, UINT64_MAX, numbers[i].value))
            return false;
    }
    return true;
}

static bool queue_get(const msgpack_object *o, broker_queue_info *q, struct queue_names *names)
{
    struct wire_map m;
    const struct number numbers[] = {
        {"first_seq", &q->first_seq},
        {"last_seq", &q->last_seq},
        {"messages", &q->messages},
        {"bytes", &q->bytes},
        {"scheduled", &q->scheduled},
        {"published", &q->published},
        {"expired", &q->expired},
        {"dead_lettered", &q->dead_lettered},
        {"dropped", &q->dropped},
        {"duplicates", &q->duplicates},
        {"delivered", &q->delivered},
        {"acked", &q->acked},
        {"redelivered", &q->redelivered},
        {"ready", &q->ready},
        {"leased", &q->leased},
        {"oldest_ms", &q->oldest_ms},
        {"dead", &q->dead},
    };

    *q = (broker_queue_info){.name = names->name};
    return inner_map(o, &m) && map_name(&m, names->name) && map_u32(&m, "id", &q->id) &&
           queue_settings_get(&m, &q->settings, names) && wire_map_bool(&m, "paused", &q->paused) &&
           map_u64s(&m, numbers, sizeof(numbers) / sizeof(numbers[0])) && map_u32(&m, "groups", &q->groups) &&
           map_u32(&m, "consumers", &q->consumers) && map_u32(&m, "bindings", &q->bindings);
}

/* *memory: what the info's filter lies in; the caller frees it. */
static broker_error group_get(const msgpack_object *o, broker_group_info *g, char name[NAME_MAX_BYTES + 1],
                              void **memory)
{
    struct wire_map m;
    const struct number numbers[] = {
        {"floor_seq", &g->floor_seq}, {"cursor_seq", &g->cursor_seq}, {"ready", &g->ready}, {"leased", &g->leased},
        {"delayed", &g->delayed},     {"blocked", &g->blocked},       {"lag", &g->lag},
    };

    *memory = NULL;
    g->name = name;
    if (!inner_map(o, &m) || !map_name(&m, name) || !map_u64s(&m, numbers, sizeof(numbers) / sizeof(numbers[0])) ||
        !map_u32(&m, "consumers", &g->consumers))
        return BROKER_MALFORMED;
    return group_settings_get(&m, &g->settings, memory);
}

static broker_error malformed(broker *b, const char *type)
{
    return set_error(b, BROKER_MALFORMED, "the broker's answer to %s is malformed", type);
}

/* ---- list --------------------------------------------------------------------------------------------------------------- */

struct list_call {
    struct call call;
    bool (*fn)(void *, const broker_queue_info *);
    void *arg;
    bool more, stopped;
    char last[NAME_MAX_BYTES + 1];
};

static broker_error list_answered(broker *b, struct call *c, const uint8_t *body, size_t len)
{
    struct list_call *list = (struct list_call *)c;
    struct wire_map m;
    broker_error error = BROKER_OK;
    broker_queue_info q;
    struct queue_names names;

    list->more = false;
    const msgpack_object *queues = wire_map_open(&m, body, len) == BROKER_OK ? wire_map_find(&m, "queues") : NULL;
    bool good = queues && queues->type == MSGPACK_OBJECT_ARRAY && wire_map_bool(&m, "more", &list->more);
    for (uint32_t i = 0; good && !list->stopped && i < queues->via.array.size; i++) {
        /* Names that do not rise would make the pages go round for ever. */
        good = queue_get(&queues->via.array.ptr[i], &q, &names) && strcmp(names.name, list->last) > 0;
        if (!good)
            break;
        memcpy(list->last, names.name, sizeof(names.name));
        list->stopped = list->fn && !list->fn(list->arg, &q);
    }
    if (!good || (list->more && queues->via.array.size == 0))
        error = malformed(b, "QUEUE_LIST");
    wire_map_close(&m);
    return error;
}

broker_error broker_queue_list(broker *b, const char *prefix, bool (*fn)(void *, const broker_queue_info *), void *arg)
{
    struct list_call list = {.fn = fn, .arg = arg};
    size_t prefix_len = prefix ? strnlen(prefix, NAME_MAX_BYTES + 1) : 0;
    broker_error error;
    msgpack_packer pk;

    if (prefix_len > NAME_MAX_BYTES)
        return set_error(b, BROKER_INVALID_ARGUMENT, "prefix \"%.64s...\": at most %u bytes", prefix, NAME_MAX_BYTES);
    do {
        list.call = (struct call){.on_answer = list_answered};
        scratch_pack(b, &pk);
        msgpack_pack_map(&pk, 3);
        pack_key_str(&pk, "prefix", prefix, prefix_len);
        pack_key_str(&pk, "after", list.last, strlen(list.last));
        pack_key_u64(&pk, "limit", LIST_PAGE);
        error = call_scratch(b, &list.call, FRAME_QUEUE_LIST);
    } while (error == BROKER_OK && list.more && !list.stopped);
    return error;
}

/* ---- describe ------------------------------------------------------------------------------------------------------------ */

struct describe_call {
    struct call call;
    bool (*fn)(void *, const broker_queue_info *);
    bool (*group_fn)(void *, const broker_group_info *);
    bool (*binding_fn)(void *, const char *pattern);
    void *arg;
};

static broker_error describe_groups(const struct describe_call *d, const msgpack_object *groups, const char *queue)
{
    char name[NAME_MAX_BYTES + 1];
    bool go_on = true;

    if (!groups)
        return BROKER_OK;
    if (groups->type != MSGPACK_OBJECT_ARRAY)
        return BROKER_MALFORMED;
    for (uint32_t i = 0; go_on && i < groups->via.array.size; i++) {
        broker_group_info g = {.queue = queue};
        void *memory;
        broker_error error = group_get(&groups->via.array.ptr[i], &g, name, &memory);
        if (error == BROKER_OK && d->group_fn)
            go_on = d->group_fn(d->arg, &g);
        free(memory);
        if (error != BROKER_OK)
            return error;
    }
    return BROKER_OK;
}

static broker_error describe_bindings(const struct describe_call *d, const msgpack_object *bindings)
{
    char pattern[TOPIC_MAX_BYTES + 1];

    if (!bindings)
        return BROKER_OK;
    if (bindings->type != MSGPACK_OBJECT_ARRAY)
        return BROKER_MALFORMED;
    for (uint32_t i = 0; i < bindings->via.array.size; i++) {
        const msgpack_object *o = &bindings->via.array.ptr[i];
        if (o->type != MSGPACK_OBJECT_STR || o->via.str.size > TOPIC_MAX_BYTES)
            return BROKER_MALFORMED;
        memcpy(pattern, o->via.str.ptr, o->via.str.size);
        pattern[o->via.str.size] = '\0';
        if (d->binding_fn && !d->binding_fn(d->arg, pattern))
            break;
    }
    return BROKER_OK;
}

static broker_error describe_answered(broker *b, struct call *c, const uint8_t *body, size_t len)
{
    const struct describe_call *d = (struct describe_call *)c;
    struct wire_map m;
    broker_queue_info q;
    struct queue_names names;
    broker_error error = BROKER_OK;
    bool go_on = true;

    if (wire_map_open(&m, body, len) != BROKER_OK || !queue_get(wire_map_find(&m, "queue"), &q, &names))
        error = BROKER_MALFORMED;
    if (error == BROKER_OK && d->fn)
        go_on = d->fn(d->arg, &q);
    if (error == BROKER_OK && go_on)
        error = describe_groups(d, wire_map_find(&m, "groups"), names.name);
    if (error == BROKER_OK && go_on)
        error = describe_bindings(d, wire_map_find(&m, "bindings"));
    wire_map_close(&m);
    if (error == BROKER_NO_MEMORY)
        return set_error(b, error, "out of memory");
    return error == BROKER_OK ? BROKER_OK : malformed(b, "QUEUE_DESCRIBE");
}

static broker_error describe(broker *b, const char *queue, struct describe_call *d)
{
    msgpack_packer pk;
    size_t len;
    broker_error error = check_name(b, "queue", queue, &len);

    if (error != BROKER_OK)
        return error;
    d->call.on_answer = describe_answered;
    scratch_pack(b, &pk);
    msgpack_pack_map(&pk, 1);
    pack_key_str(&pk, "queue", queue, len);
    return call_scratch(b, &d->call, FRAME_QUEUE_DESCRIBE);
}

broker_error broker_queue_describe(broker *b, const char *queue, bool (*fn)(void *, const broker_queue_info *),
                                   bool (*group_fn)(void *, const broker_group_info *), void *arg)
{
    struct describe_call d = {.fn = fn, .group_fn = group_fn, .arg = arg};
    return describe(b, queue, &d);
}

broker_error broker_queue_bindings(broker *b, const char *queue, bool (*fn)(void *, const char *pattern), void *arg)
{
    struct describe_call d = {.binding_fn = fn, .arg = arg};
    return describe(b, queue, &d);
}
