/* Requests as maps: CONTROLS has one row for each. */
#include <stdio.h>

#include "control_internal.h"

enum { LIST_DEFAULT = 100, PEEK_DEFAULT = 100, READ_DEFAULT = 100, SCAN_DEFAULT = 1000000, PRIORITY_MAX = 9 };

/* ---- the keys ------------------------------------------------------------------------------------------------------------- */

#define KEY(key, type, field) .name = key, .kind = KEY_##type, .offset = offsetof(struct command, field)
#define NEEDS_QUEUE                                                                                                    \
    {                                                                                                                  \
        KEY("queue", NAME, queue), .required = true                                                                    \
    }
#define NEEDS_GROUP                                                                                                    \
    {                                                                                                                  \
        KEY("group", NAME, group), .required = true                                                                    \
    }

static const char *const start_words[] = {"beginning", "end", "seq", "time", NULL};
static const char *const state_words[] = {"any", "scheduled", "available", NULL};
static const char *const action_words[] = {"count", "delete", "move", "redrive", NULL};
static const char *const from_words[] = {"beginning", "end", NULL};

static const struct key QUEUE[] = {NEEDS_QUEUE};

static const struct key LIST[] = {
    {KEY("prefix", NAME, u.list.prefix)},
    {KEY("after", NAME, u.list.after)},
    {KEY("limit", U32, u.list.limit)},
};

static const struct key GROUP[] = {NEEDS_QUEUE, NEEDS_GROUP};

static const struct key GROUP_START[] = {
    NEEDS_QUEUE,
    NEEDS_GROUP,
    {KEY("start", WORD, u.group.start), .words = start_words, .first = BROKER_START_BEGINNING},
    {KEY("value", U64, u.group.value)},
};

static const struct key BINDING[] = {
    NEEDS_QUEUE,
    {KEY("pattern", NAME, u.bind.pattern), .required = true},
};

#define RANGE                                                                                                          \
    {KEY("state", WORD, u.scan.state), .words = state_words, .first = BROKER_SCAN_ANY},                                \
        {KEY("from_seq", U64, u.scan.from_seq)}, {KEY("to_seq", U64, u.scan.to_seq)},                                  \
        {KEY("from_ms", U64, u.scan.from_ms)}, {KEY("to_ms", U64, u.scan.to_ms)},                                      \
        {KEY("filter", FILTER, u.scan.filter)}, {KEY("max_messages", U32, u.scan.max_messages)},                       \
    {                                                                                                                  \
        KEY("max_scanned", U32, u.scan.max_scanned)                                                                    \
    }

static const struct key SCAN[] = {
    NEEDS_QUEUE,
    RANGE,
    {KEY("action", WORD, u.scan.action), .words = action_words, .first = SCAN_COUNT, .required = true},
    {KEY("target", NAME, u.scan.target)},
};

static const struct key PEEK[] = {
    NEEDS_QUEUE,
    RANGE,
    {KEY("max_bytes", U32, u.scan.max_bytes)},
};

static const struct key RESCHEDULE[] = {
    NEEDS_QUEUE,
    {KEY("seq", U64, u.reschedule.seq), .min = 1, .required = true},
    {KEY("due_ms", U64, u.reschedule.due_ms)},
    {KEY("delay_ms", U64, u.reschedule.due_ms)},
};

static const struct key SUBSCRIBE[] = {
    NEEDS_QUEUE,
    {KEY("group", NAME, group)},
    {KEY("lease_ms", U32, u.subscribe.lease_ms)},
    {KEY("on_send", BOOL, u.subscribe.settle_on_send)},
    {KEY("priority", U8, u.subscribe.priority), .max = PRIORITY_MAX},
    {KEY("max_unsettled", U32, u.subscribe.max_unsettled)},
};

static const struct key LEASE[] = {
    NEEDS_QUEUE,
    {KEY("group", NAME, group)},
    {KEY("max", U32, u.lease.max_messages)},
    {KEY("max_bytes", U32, u.lease.max_bytes)},
    {KEY("lease_ms", U32, u.lease.lease_ms)},
    {KEY("wait_ms", U32, u.lease.wait_ms)},
};

static const struct key READ[] = {
    NEEDS_QUEUE,
    {KEY("from_seq", U64, u.read.from_seq)},
    {KEY("from", EITHER, u.read.from_end), .words = from_words},
    {KEY("from_ms", U64, u.read.from_ms)},
    {KEY("max", U32, u.read.max_messages)},
    {KEY("max_bytes", U32, u.read.max_bytes)},
    {KEY("wait_ms", U32, u.read.wait_ms), .max = READ_WAIT_FOREVER - 1},
    {KEY("filter", FILTER, u.read.filter)},
};

/* ---- what a key alone does not tell ---------------------------------------------------------------------------------------- */

static bool check_start(struct control_request *r)
{
    if (r->command.u.group.start < BROKER_START_SEQ || wire_map_has(&r->map, "value"))
        return true;
    snprintf(r->map.error, sizeof(r->map.error), "\"value\" is missing; give it");
    return false;
}

static bool check_reschedule(struct control_request *r)
{
    bool is_delay = wire_map_has(&r->map, "delay_ms");
    r->command.u.reschedule.is_delay = is_delay;
    if (is_delay != wire_map_has(&r->map, "due_ms"))
        return true;
    snprintf(r->map.error, sizeof(r->map.error), "give one of \"due_ms\" and \"delay_ms\"");
    return false;
}

static bool check_read(struct control_request *r)
{
    int places = wire_map_has(&r->map, "from_seq") + wire_map_has(&r->map, "from") + wire_map_has(&r->map, "from_ms");
    if (places > 1)
        snprintf(r->map.error, sizeof(r->map.error), "give one of \"from_seq\", \"from\" and \"from_ms\"");
    return places <= 1;
}

/* ---- the table --------------------------------------------------------------------------------------------------------------- */

enum settings { NO_SETTINGS, OF_QUEUE, OF_GROUP };

#define KEYS(table) table, sizeof(table) / sizeof(table[0])

static const struct control {
    const char *name;
    const struct key *keys;
    size_t key_count;
    enum settings settings;
    bool (*check)(struct control_request *r);
    struct command command; /* what holds where no key says else */
} CONTROLS[CONTROL_KINDS] = {
    [CONTROL_QUEUE_CREATE] = {"queue_create", KEYS(QUEUE), OF_QUEUE, NULL, {.type = COMMAND_QUEUE_CREATE}},
    [CONTROL_QUEUE_ALTER] = {"queue_alter", KEYS(QUEUE), OF_QUEUE, NULL, {.type = COMMAND_QUEUE_ALTER}},
    [CONTROL_QUEUE_DELETE] = {"queue_delete", KEYS(QUEUE), NO_SETTINGS, NULL, {.type = COMMAND_QUEUE_DELETE}},
    [CONTROL_QUEUE_PAUSE] = {"queue_pause", KEYS(QUEUE), NO_SETTINGS, NULL, {.type = COMMAND_QUEUE_PAUSE}},
    [CONTROL_QUEUE_RESUME] = {"queue_resume", KEYS(QUEUE), NO_SETTINGS, NULL, {.type = COMMAND_QUEUE_RESUME}},
    [CONTROL_QUEUE_PURGE] = {"queue_purge", KEYS(QUEUE), NO_SETTINGS, NULL, {.type = COMMAND_QUEUE_PURGE}},
    [CONTROL_QUEUE_LIST] =
        {"queue_list", KEYS(LIST), NO_SETTINGS, NULL, {.type = COMMAND_QUEUE_LIST, .u.list.limit = LIST_DEFAULT}},
    [CONTROL_QUEUE_DESCRIBE] = {"queue_describe", KEYS(QUEUE), NO_SETTINGS, NULL, {.type = COMMAND_QUEUE_DESCRIBE}},
    [CONTROL_GROUP_CREATE] = {"group_create",
                              KEYS(GROUP_START),
                              OF_GROUP,
                              check_start,
                              {.type = COMMAND_GROUP_CREATE, .u.group.start = BROKER_START_BEGINNING}},
    [CONTROL_GROUP_ALTER] = {"group_alter", KEYS(GROUP), OF_GROUP, NULL, {.type = COMMAND_GROUP_ALTER}},
    [CONTROL_GROUP_SEEK] = {"group_seek",
                            KEYS(GROUP_START),
                            NO_SETTINGS,
                            check_start,
                            {.type = COMMAND_GROUP_SEEK, .u.group.start = BROKER_START_BEGINNING}},
    [CONTROL_GROUP_DELETE] = {"group_delete", KEYS(GROUP), NO_SETTINGS, NULL, {.type = COMMAND_GROUP_DELETE}},
    [CONTROL_BIND] = {"bind", KEYS(BINDING), NO_SETTINGS, NULL, {.type = COMMAND_BIND}},
    [CONTROL_UNBIND] = {"unbind", KEYS(BINDING), NO_SETTINGS, NULL, {.type = COMMAND_UNBIND}},
    [CONTROL_SCAN] = {"scan",
                      KEYS(SCAN),
                      NO_SETTINGS,
                      NULL,
                      {.type = COMMAND_SCAN, .u.scan = {.state = BROKER_SCAN_ANY, .max_messages = SCAN_DEFAULT}}},
    [CONTROL_PEEK] = {"peek",
                      KEYS(PEEK),
                      NO_SETTINGS,
                      NULL,
                      {.type = COMMAND_SCAN,
                       .u.scan = {.action = SCAN_PEEK, .state = BROKER_SCAN_ANY, .max_messages = PEEK_DEFAULT}}},
    [CONTROL_RESCHEDULE] =
        {"reschedule", KEYS(RESCHEDULE), NO_SETTINGS, check_reschedule, {.type = COMMAND_RESCHEDULE}},
    [CONTROL_SUBSCRIBE] = {"subscribe", KEYS(SUBSCRIBE), NO_SETTINGS, NULL, {.type = COMMAND_SUBSCRIBE}},
    [CONTROL_UNSUBSCRIBE] = {"unsubscribe", NULL, 0, NO_SETTINGS, NULL, {.type = COMMAND_UNSUBSCRIBE}},
    [CONTROL_LEASE] = {"lease", KEYS(LEASE), NO_SETTINGS, NULL, {.type = COMMAND_LEASE, .u.lease.max_messages = 1}},
    [CONTROL_READ] =
        {"read", KEYS(READ), NO_SETTINGS, check_read, {.type = COMMAND_READ, .u.read.max_messages = READ_DEFAULT}},
};

const char *control_name(enum control_kind kind)
{
    return CONTROLS[kind].name;
}

bool control_find(const char *name, size_t len, enum control_kind *kind)
{
    for (int i = 0; i < CONTROL_KINDS; i++) {
        if (strlen(CONTROLS[i].name) == len && memcmp(CONTROLS[i].name, name, len) == 0) {
            *kind = (enum control_kind)i;
            return true;
        }
    }
    return false;
}

static const struct keys *settings_keys(enum control_kind kind)
{
    static const struct keys none;
    switch (CONTROLS[kind].settings) {
    case OF_QUEUE: return &map_queue_settings_keys;
    case OF_GROUP: return &map_group_settings_keys;
    default: return &none;
    }
}

/* The key of a request, its own or a setting's; NULL: it has none of this name. */
static const struct key *key_of(enum control_kind kind, const char *name, size_t len)
{
    const struct keys *settings = settings_keys(kind);
    const struct key *key = map_key_find(CONTROLS[kind].keys, CONTROLS[kind].key_count, name, len);
    return key ? key : map_key_find(settings->at, settings->count, name, len);
}

const char *control_key(enum control_kind kind, size_t i)
{
    const struct control *row = &CONTROLS[kind];
    const struct keys *settings = settings_keys(kind);
    if (i < row->key_count)
        return row->keys[i].name;
    i -= row->key_count;
    return i < settings->count ? settings->at[i].name : NULL;
}

bool control_knows(enum control_kind kind, const char *key, size_t len)
{
    return key_of(kind, key, len) != NULL;
}

/* ---- parsing ----------------------------------------------------------------------------------------------------------------- */

static bool settings_of(struct control_request *r, enum settings which)
{
    switch (which) {
    case OF_QUEUE:
        r->command.u.queue.settings = &r->queue_settings;
        return map_queue_settings_get(&r->map, &r->queue_settings);
    case OF_GROUP:
        r->command.u.group.settings = &r->group_settings;
        return map_group_settings_get(&r->map, &r->group_settings);
    default: return true;
    }
}

static broker_error parse(struct control_request *r, enum control_kind kind, char text[CONTROL_TEXT_BYTES])
{
    const struct control *row = &CONTROLS[kind];
    bool good = true;
    r->command = row->command;
    for (size_t i = 0; good && i < row->key_count; i++)
        good = map_key_get(&r->map, &row->keys[i], &r->command);
    good = good && (!row->check || row->check(r)) && settings_of(r, row->settings);
    if (!good)
        snprintf(text, CONTROL_TEXT_BYTES, "%s", r->map.error);
    return good ? BROKER_OK : BROKER_INVALID_ARGUMENT;
}

broker_error control_parse(struct control_request *r, enum control_kind kind, const uint8_t *bytes, size_t len,
                           char text[CONTROL_TEXT_BYTES])
{
    broker_error error = wire_map_open(&r->map, bytes, len);
    if (error == BROKER_OK)
        return parse(r, kind, text);
    snprintf(text, CONTROL_TEXT_BYTES, "%s", r->map.error);
    return error;
}

broker_error control_parse_object(struct control_request *r, enum control_kind kind, const msgpack_object *map,
                                  char text[CONTROL_TEXT_BYTES])
{
    enum { ZONE_BYTES = 1024 }; /* text with a NUL behind it goes there, as wire_map_text makes it */
    msgpack_unpacked_init(&r->map.unpacked);
    r->map.map = NULL;
    r->map.error[0] = '\0';
    bool good = map->type == MSGPACK_OBJECT_MAP;
    for (uint32_t i = 0; good && i < map->via.map.size; i++)
        good = map->via.map.ptr[i].key.type == MSGPACK_OBJECT_STR;
    if (!good) {
        snprintf(text, CONTROL_TEXT_BYTES, "the request is not a map whose keys are strings");
        return BROKER_MALFORMED;
    }
    r->map.unpacked.zone = msgpack_zone_new(ZONE_BYTES);
    if (!r->map.unpacked.zone) {
        snprintf(text, CONTROL_TEXT_BYTES, "out of memory for the request");
        return BROKER_NO_MEMORY;
    }
    r->map.map = &map->via.map;
    return parse(r, kind, text);
}

/* A key of a peer may be anything: shown shortened and harmless. */
static broker_error refuse_unknown(char text[CONTROL_TEXT_BYTES], const char *of, const msgpack_object_str *key)
{
    char shown[65];
    size_t n = key->size < sizeof(shown) - 1 ? key->size : sizeof(shown) - 1;
    for (size_t i = 0; i < n; i++)
        shown[i] = key->ptr[i] >= 0x20 && key->ptr[i] < 0x7f ? key->ptr[i] : '?';
    shown[n] = '\0';
    snprintf(text, CONTROL_TEXT_BYTES, "%s has no key \"%s\"; see docs/PROTOCOL.md for those it has", of, shown);
    return BROKER_INVALID_ARGUMENT;
}

broker_error control_refuse_unknown(const struct control_request *r, enum control_kind kind,
                                    char text[CONTROL_TEXT_BYTES])
{
    static const msgpack_object_str none;
    for (uint32_t i = 0; r->map.map && i < r->map.map->size; i++) {
        const msgpack_object_kv *pair = &r->map.map->ptr[i];
        const struct key *key = key_of(kind, pair->key.via.str.ptr, pair->key.via.str.size);
        if (!key)
            return refuse_unknown(text, CONTROLS[kind].name, &pair->key.via.str);
        if (key->kind != KEY_FILTER || pair->val.type != MSGPACK_OBJECT_MAP) /* a key may come twice: one was parsed */
            continue;
        for (uint32_t j = 0; j < pair->val.via.map.size; j++) {
            const msgpack_object *name = &pair->val.via.map.ptr[j].key;
            const msgpack_object_str *inner = &name->via.str;
            if (name->type != MSGPACK_OBJECT_STR ||
                !map_key_find(map_filter_keys.at, map_filter_keys.count, inner->ptr, inner->size))
                return refuse_unknown(text, "a filter", name->type == MSGPACK_OBJECT_STR ? inner : &none);
        }
    }
    return BROKER_OK;
}

void control_release(struct control_request *r)
{
    wire_map_close(&r->map);
}
