/* Requests whose body is a map: queues and groups, bindings, scans. Keys are those of docs/PROTOCOL.md. */
#include <string.h>

#include "front_internal.h"

enum { LIST_DEFAULT = 100, PEEK_DEFAULT = 100, SCAN_DEFAULT = 1000000 };

void control_queue(struct conn *c, const struct frame_head *head, uint8_t *body)
{
    static const enum command_type types[] = {
        COMMAND_QUEUE_CREATE, COMMAND_QUEUE_ALTER, COMMAND_QUEUE_DELETE, COMMAND_QUEUE_PAUSE,
        COMMAND_QUEUE_RESUME, COMMAND_QUEUE_PURGE, COMMAND_QUEUE_LIST,   COMMAND_QUEUE_DESCRIBE,
    };
    struct command command = {.type = types[head->type - FRAME_QUEUE_CREATE]};
    broker_queue_settings settings;
    bool sets = command.type == COMMAND_QUEUE_CREATE || command.type == COMMAND_QUEUE_ALTER;
    struct wire_map m;
    if (open_map(c, head, body, &m)) {
        if (!require(&m, "queue") || !get_name(&m, "queue", &command.queue) ||
            (sets && !map_queue_settings_get(&m, &settings))) {
            refuse_key(c, head, &m);
        } else {
            if (sets)
                command.u.queue.settings = &settings;
            submit(c, head, &command);
        }
    }
    wire_map_close(&m);
}

void control_list(struct conn *c, const struct frame_head *head, uint8_t *body)
{
    struct command command = {.type = COMMAND_QUEUE_LIST, .u.list.limit = LIST_DEFAULT};
    struct wire_map m;
    if (open_map(c, head, body, &m)) {
        if (!get_name(&m, "prefix", &command.u.list.prefix) || !get_name(&m, "after", &command.u.list.after) ||
            !get_u32_key(&m, "limit", 0, UINT32_MAX, &command.u.list.limit))
            refuse_key(c, head, &m);
        else
            submit(c, head, &command);
    }
    wire_map_close(&m);
}

static enum command_type group_command(uint8_t frame)
{
    switch (frame) {
    case FRAME_GROUP_CREATE: return COMMAND_GROUP_CREATE;
    case FRAME_GROUP_DELETE: return COMMAND_GROUP_DELETE;
    case FRAME_GROUP_SEEK: return COMMAND_GROUP_SEEK;
    default: return COMMAND_GROUP_ALTER;
    }
}

static bool start_get(struct wire_map *m, struct command *command)
{
    static const char *const starts[] = {"beginning", "end", "seq", "time", NULL};
    int start = BROKER_START_BEGINNING;
    bool good = get_word(m, "start", starts, BROKER_START_BEGINNING, &start) &&
                (start < BROKER_START_SEQ || require(m, "value")) &&
                wire_map_u64(m, "value", 0, UINT64_MAX, &command->u.group.value);
    command->u.group.start = (broker_start)start;
    return good;
}

void control_group(struct conn *c, const struct frame_head *head, uint8_t *body)
{
    struct command command = {.type = group_command(head->type)};
    broker_group_settings settings;
    bool starts = command.type == COMMAND_GROUP_CREATE || command.type == COMMAND_GROUP_SEEK;
    bool sets = command.type == COMMAND_GROUP_CREATE || command.type == COMMAND_GROUP_ALTER;
    struct wire_map m;
    if (open_map(c, head, body, &m)) {
        if (!require(&m, "queue") || !require(&m, "group") || !get_name(&m, "queue", &command.queue) ||
            !get_name(&m, "group", &command.group) || (starts && !start_get(&m, &command)) ||
            (sets && !map_group_settings_get(&m, &settings))) {
            refuse_key(c, head, &m);
        } else {
            if (sets)
                command.u.group.settings = &settings;
            submit(c, head, &command);
        }
    }
    wire_map_close(&m);
}

void control_bind(struct conn *c, const struct frame_head *head, uint8_t *body)
{
    struct command command = {.type = head->type == FRAME_BIND ? COMMAND_BIND : COMMAND_UNBIND};
    struct wire_map m;
    if (open_map(c, head, body, &m)) {
        if (!require(&m, "queue") || !require(&m, "pattern") || !get_name(&m, "queue", &command.queue) ||
            !get_name(&m, "pattern", &command.u.bind.pattern))
            refuse_key(c, head, &m);
        else
            submit(c, head, &command);
    }
    wire_map_close(&m);
}

/* ---- what lies in a queue ------------------------------------------------------------------------------------------- */

static bool range_get(struct wire_map *m, struct command *command)
{
    static const char *const states[] = {"any", "scheduled", "available", NULL};
    int state = BROKER_SCAN_ANY;
    bool good = get_word(m, "state", states, BROKER_SCAN_ANY, &state) &&
                wire_map_u64(m, "from_seq", 0, UINT64_MAX, &command->u.scan.from_seq) &&
                wire_map_u64(m, "to_seq", 0, UINT64_MAX, &command->u.scan.to_seq) &&
                wire_map_u64(m, "from_ms", 0, UINT64_MAX, &command->u.scan.from_ms) &&
                wire_map_u64(m, "to_ms", 0, UINT64_MAX, &command->u.scan.to_ms) &&
                map_filter_get(m, &command->u.scan.filter) &&
                get_u32_key(m, "max_messages", 0, UINT32_MAX, &command->u.scan.max_messages) &&
                get_u32_key(m, "max_scanned", 0, UINT32_MAX, &command->u.scan.max_scanned);
    command->u.scan.state = (broker_scan_state)state;
    return good;
}

/* SCAN and PEEK. */
void control_scan(struct conn *c, const struct frame_head *head, uint8_t *body)
{
    static const char *const actions[] = {"count", "delete", "move", "redrive", NULL};
    struct command command = {.type = COMMAND_SCAN};
    bool peek = head->type == FRAME_PEEK;
    int action = SCAN_PEEK;
    struct wire_map m;
    command.u.scan.max_messages = peek ? PEEK_DEFAULT : SCAN_DEFAULT;
    if (open_map(c, head, body, &m)) {
        bool good = require(&m, "queue") && get_name(&m, "queue", &command.queue) && range_get(&m, &command);
        if (good && peek)
            good = get_u32_key(&m, "max_bytes", 0, UINT32_MAX, &command.u.scan.max_bytes);
        if (good && !peek)
            good = require(&m, "action") && get_word(&m, "action", actions, SCAN_COUNT, &action) &&
                   get_name(&m, "target", &command.u.scan.target);
        command.u.scan.action = (enum scan_action)action;
        if (good)
            submit(c, head, &command);
        else
            refuse_key(c, head, &m);
    }
    wire_map_close(&m);
}

void control_reschedule(struct conn *c, const struct frame_head *head, uint8_t *body)
{
    struct command command = {.type = COMMAND_RESCHEDULE};
    struct wire_map m;
    if (open_map(c, head, body, &m)) {
        bool is_delay = wire_map_has(&m, "delay_ms");
        bool good = require(&m, "queue") && require(&m, "seq") && get_name(&m, "queue", &command.queue) &&
                    wire_map_u64(&m, "seq", 1, UINT64_MAX, &command.u.reschedule.seq);
        if (good && is_delay == wire_map_has(&m, "due_ms")) {
            snprintf(m.error, sizeof(m.error), "give one of \"due_ms\" and \"delay_ms\"");
            good = false;
        }
        command.u.reschedule.is_delay = is_delay;
        if (good && wire_map_u64(&m, is_delay ? "delay_ms" : "due_ms", 0, UINT64_MAX, &command.u.reschedule.due_ms))
            submit(c, head, &command);
        else
            refuse_key(c, head, &m);
    }
    wire_map_close(&m);
}
