/* What the broker says of queues and groups, as structs. */
#include "client_internal.h"

enum { LIST_PAGE = 500 };

/* A map inside an answer, read with wire_map's functions; it borrows from the answer's memory. */
static bool inner_map(const msgpack_object *o, struct wire_map *m)
{
    *m = (struct wire_map){.map = NULL};
    if (!o || o->type != MSGPACK_OBJECT_MAP)
        return false;
    for (uint32_t i = 0; i < o->via.map.size; i++) {
        if (o->via.map.ptr[i].key.type != MSGPACK_OBJECT_STR)
            return false;
    }
    m->map = &o->via.map;
    return true;
}

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

/* One of the words of `words`, to its number; an unknown word (of a newer broker) stays 0. */
static bool map_word(struct wire_map *m, const char *key, const char *const *words, int count, int *out)
{
    const char *word = NULL;
    size_t len = 0;

    if (!wire_map_str(m, key, SIZE_MAX, &word, &len))
        return false;
    for (int i = 1; word && i < count; i++) {
        if (strlen(words[i]) == len && memcmp(words[i], word, len) == 0)
            *out = i;
    }
    return true;
}

static bool settings_get(struct wire_map *m, broker_queue_settings *s)
{
    static const char *const retentions[] = {"", "work", "log"}, *const syncs[] = {"", "always", "interval", "none"};
    int retention = 0, sync = 0;

    if (!map_word(m, "retention", retentions, 3, &retention) || !map_word(m, "sync", syncs, 4, &sync))
        return false;
    s->size = sizeof(*s);
    s->set = BROKER_SET_RETENTION | BROKER_SET_SYNC | BROKER_SET_LEASE_MS | BROKER_SET_MAX_MESSAGE_BYTES |
             BROKER_SET_LOG_MAX_AGE_MS | BROKER_SET_LOG_MAX_BYTES | BROKER_SET_LOG_MAX_MESSAGES;
    s->retention = (broker_retention)retention;
    s->sync = (broker_sync)sync;
    return map_u32(m, "lease_ms", &s->lease_ms) && map_u32(m, "max_message_bytes", &s->max_message_bytes) &&
           wire_map_u64(m, "log_max_age_ms", 0, UINT64_MAX, &s->log_max_age_ms) &&
           wire_map_u64(m, "log_max_bytes", 0, UINT64_MAX, &s->log_max_bytes) &&
           wire_map_u64(m, "log_max_messages", 0, UINT64_MAX, &s->log_max_messages);
}

static bool queue_get(const msgpack_object *o, broker_queue_info *q, char name[NAME_MAX_BYTES + 1])
{
    struct wire_map m;

    *q = (broker_queue_info){.name = name};
    return inner_map(o, &m) && map_name(&m, name) && map_u32(&m, "id", &q->id) && settings_get(&m, &q->settings) &&
           wire_map_bool(&m, "paused", &q->paused) && wire_map_u64(&m, "first_seq", 0, UINT64_MAX, &q->first_seq) &&
           wire_map_u64(&m, "last_seq", 0, UINT64_MAX, &q->last_seq) &&
           wire_map_u64(&m, "messages", 0, UINT64_MAX, &q->messages) &&
           wire_map_u64(&m, "bytes", 0, UINT64_MAX, &q->bytes) && map_u32(&m, "groups", &q->groups) &&
           map_u32(&m, "consumers", &q->consumers);
}

static bool group_get(const msgpack_object *o, broker_group_info *g, char name[NAME_MAX_BYTES + 1])
{
    struct wire_map m;

    g->name = name;
    return inner_map(o, &m) && map_name(&m, name) && wire_map_u64(&m, "floor_seq", 0, UINT64_MAX, &g->floor_seq) &&
           wire_map_u64(&m, "cursor_seq", 0, UINT64_MAX, &g->cursor_seq) &&
           wire_map_u64(&m, "ready", 0, UINT64_MAX, &g->ready) &&
           wire_map_u64(&m, "leased", 0, UINT64_MAX, &g->leased) &&
           wire_map_u64(&m, "delayed", 0, UINT64_MAX, &g->delayed) && map_u32(&m, "consumers", &g->consumers);
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
    char name[NAME_MAX_BYTES + 1];

    list->more = false;
    const msgpack_object *queues = wire_map_open(&m, body, len) == BROKER_OK ? wire_map_find(&m, "queues") : NULL;
    bool good = queues && queues->type == MSGPACK_OBJECT_ARRAY && wire_map_bool(&m, "more", &list->more);
    for (uint32_t i = 0; good && !list->stopped && i < queues->via.array.size; i++) {
        /* Names that do not rise would make the pages go round for ever. */
        good = queue_get(&queues->via.array.ptr[i], &q, name) && strcmp(name, list->last) > 0;
        if (!good)
            break;
        memcpy(list->last, name, sizeof(name));
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
        error = scratch_good(b);
        if (error == BROKER_OK)
            error = call_do(b, &list.call, FRAME_QUEUE_LIST, b->scratch.data, b->scratch.size);
    } while (error == BROKER_OK && list.more && !list.stopped);
    return error;
}

/* ---- describe ------------------------------------------------------------------------------------------------------------ */

struct describe_call {
    struct call call;
    bool (*fn)(void *, const broker_queue_info *);
    bool (*group_fn)(void *, const broker_group_info *);
    void *arg;
};

static bool describe_groups(const struct describe_call *d, const msgpack_object *groups, const char *queue)
{
    char name[NAME_MAX_BYTES + 1];

    if (!groups)
        return true;
    if (groups->type != MSGPACK_OBJECT_ARRAY)
        return false;
    for (uint32_t i = 0; i < groups->via.array.size; i++) {
        broker_group_info g = {.queue = queue};
        if (!group_get(&groups->via.array.ptr[i], &g, name))
            return false;
        if (d->group_fn && !d->group_fn(d->arg, &g))
            break;
    }
    return true;
}

static broker_error describe_answered(broker *b, struct call *c, const uint8_t *body, size_t len)
{
    const struct describe_call *d = (struct describe_call *)c;
    struct wire_map m;
    broker_queue_info q;
    char name[NAME_MAX_BYTES + 1];
    bool go_on = true;

    bool good = wire_map_open(&m, body, len) == BROKER_OK && queue_get(wire_map_find(&m, "queue"), &q, name);
    if (good && d->fn)
        go_on = d->fn(d->arg, &q);
    if (good && go_on)
        good = describe_groups(d, wire_map_find(&m, "groups"), name);
    wire_map_close(&m);
    return good ? BROKER_OK : malformed(b, "QUEUE_DESCRIBE");
}

broker_error broker_queue_describe(broker *b, const char *queue, bool (*fn)(void *, const broker_queue_info *),
                                   bool (*group_fn)(void *, const broker_group_info *), void *arg)
{
    struct describe_call d = {.call.on_answer = describe_answered, .fn = fn, .group_fn = group_fn, .arg = arg};
    msgpack_packer pk;
    size_t len;
    broker_error error = check_name(b, "queue", queue, &len);

    if (error != BROKER_OK)
        return error;
    scratch_pack(b, &pk);
    msgpack_pack_map(&pk, 1);
    pack_key_str(&pk, "queue", queue, len);
    error = scratch_good(b);
    return error != BROKER_OK ? error : call_do(b, &d.call, FRAME_QUEUE_DESCRIBE, b->scratch.data, b->scratch.size);
}
