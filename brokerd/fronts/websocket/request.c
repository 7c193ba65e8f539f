/* The op "request": everything that the native protocol asks with a map, by its name there. */
#include <string.h>

#include "websocket_internal.h"

static broker_error no_such_name(struct request *r, const msgpack_object *name)
{
    const char *words[CONTROL_KINDS + 1] = {NULL};
    char written[48];
    for (int i = 0; i < CONTROL_KINDS; i++)
        words[i] = control_name((enum control_kind)i);
    if (!name || name->type != MSGPACK_OBJECT_STR)
        return ws_refuse(r, BROKER_INVALID_ARGUMENT, "\"name\" is %s; give a request's, as \"queue_describe\"",
                         name ? "no string" : "missing");
    const char *near = ws_nearest_word(name->via.str.ptr, name->via.str.size, words);
    return ws_refuse(r, BROKER_UNKNOWN_COMMAND, "unknown request \"%s\"%s%s%s; docs/WEBSOCKET.md lists them",
                     ws_shown(name->via.str.ptr, name->via.str.size, written), near ? "; did you mean \"" : "",
                     near ? near : "", near ? "\"?" : "");
}

static bool waits(const struct command *c)
{
    return (c->type == COMMAND_LEASE && c->u.lease.wait_ms > 0) || (c->type == COMMAND_READ && c->u.read.wait_ms > 0);
}

broker_error ws_op_request(struct request *r)
{
    static const msgpack_object empty = {.type = MSGPACK_OBJECT_MAP};
    const msgpack_object *name = ws_field_find(r->map, "name"), *args = ws_field_find(r->map, "args");
    struct control_request control;
    enum control_kind kind;
    char text[CONTROL_TEXT_BYTES] = "";
    if (!name || name->type != MSGPACK_OBJECT_STR ||
        !control_find(name->via.str.size ? name->via.str.ptr : "", name->via.str.size, &kind))
        return no_such_name(r, name);
    if (kind == CONTROL_SUBSCRIBE || kind == CONTROL_UNSUBSCRIBE)
        return ws_refuse(r, BROKER_INVALID_ARGUMENT, "\"%s\" is an op of its own here: {\"op\":\"%s\",\"sub\":…}",
                         control_name(kind), control_name(kind));
    if (r->id == ID_NONE)
        return ws_refuse(r, BROKER_INVALID_ARGUMENT, "\"id\" is missing: the answer carries it");
    if (args && args->type != MSGPACK_OBJECT_MAP)
        return ws_refuse(r, BROKER_INVALID_ARGUMENT, "\"args\" is no object");
    broker_error error = control_parse_object(&control, kind, args ? args : &empty, text);
    if (!error)
        error = control_refuse_unknown(&control, kind, text);
    if (error)
        ws_refuse(r, error, "%s: %s", control_name(kind), text);
    else
        ws_request_submit(r, waits(&control.command) ? ANSWER_RESULT | ANSWER_WAITS : ANSWER_RESULT, &control.command);
    control_release(&control);
    return error;
}
