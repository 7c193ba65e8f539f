/* Groups and bindings of a queue. */
#include <stdio.h>
#include <string.h>

#include "admin_internal.h"

enum { BODY_MAX_BYTES = 256 << 10 }; /* a filter has up to 64 KiB of text */

static const char *const QUEUE[] = {"queue", NULL};
static const char *const QUEUE_AND_GROUP[] = {"queue", "group", NULL};
static const char *const QUEUE_AND_PATTERN[] = {"queue", "pattern", NULL};

/* ---- groups --------------------------------------------------------------------------------------------------------- */

const broker_group_info *admin_find_group(const struct completion *done, struct name group)
{
    for (size_t i = 0; i < done->u.describe.group_count; i++) {
        const broker_group_info *g = &done->u.describe.groups[i];
        if (strlen(g->name) == group.len && memcmp(g->name, group.bytes, group.len) == 0)
            return g;
    }
    return NULL;
}

/* The group as the answer; `made`: 201. */
static void respond_group(struct call *c, const broker_group_info *g, bool made)
{
    struct admin *a = admin_of(c);
    char location[48 + 2 * NAME_MAX_BYTES], text[128 + 2 * NAME_MAX_BYTES];
    snprintf(location, sizeof(location), "/v1/queues/%.*s/groups/%.*s", (int)a->queue.len, a->queue.bytes,
             (int)a->group.len, a->group.bytes);
    if (!g) {
        snprintf(text, sizeof(text), "queue '%.*s' has no group '%.*s'; PUT %s creates it", (int)a->queue.len,
                 a->queue.bytes, (int)a->group.len, a->group.bytes, location);
        call_refuse(c, BROKER_GROUP_NOT_FOUND, text, 0);
        return;
    }
    msgpack_packer pk = admin_pack(c->rest);
    control_pack_group(&pk, g);
    admin_respond_map(c, made ? 201 : 200, made ? location : NULL);
}

static void answer_group(struct call *c, const struct completion *done)
{
    respond_group(c, admin_find_group(done, admin_of(c)->group), false);
}

static void answer_new_group(struct call *c, const struct completion *done)
{
    respond_group(c, admin_find_group(done, admin_of(c)->group), true);
}

static void then_group(struct call *c, const struct completion *done)
{
    admin_describe(c, admin_of(c)->queue, answer_group, NULL);
}

static void then_new_group(struct call *c, const struct completion *done)
{
    admin_describe(c, admin_of(c)->queue, answer_new_group, NULL);
}

static void get_group(void *arg, struct http_exchange *x, const struct http_request *q)
{
    static const struct admin_request REQUEST = {CONTROL_QUEUE_DESCRIBE, QUEUE_AND_GROUP, .first = answer_group};
    admin_begin(arg, x, q, &REQUEST);
}

static void answer_groups(struct call *c, const struct completion *done)
{
    msgpack_packer pk = admin_pack(c->rest);
    msgpack_pack_map(&pk, 1);
    pack_str(&pk, "groups", 6);
    msgpack_pack_array(&pk, done->u.describe.group_count);
    for (size_t i = 0; i < done->u.describe.group_count; i++)
        control_pack_group(&pk, &done->u.describe.groups[i]);
    admin_respond_map(c, 200, NULL);
}

static void list_groups(void *arg, struct http_exchange *x, const struct http_request *q)
{
    static const struct admin_request REQUEST = {CONTROL_QUEUE_DESCRIBE, QUEUE, .first = answer_groups};
    admin_begin(arg, x, q, &REQUEST);
}

static bool same_text(const char *a, const char *b)
{
    return strcmp(a ? a : "", b ? b : "") == 0;
}

/* Headers of a filter are a set: their order says nothing. */
bool admin_same_filter(const broker_filter *a, const broker_filter *b)
{
    if (!same_text(a->topic, b->topic) || !same_text(a->key, b->key) || a->header_count != b->header_count)
        return false;
    for (size_t i = 0; i < a->header_count; i++) {
        bool found = false;
        for (size_t k = 0; k < b->header_count && !found; k++)
            found = same_text(a->headers[i].name, b->headers[k].name) &&
                    same_text(a->headers[i].value, b->headers[k].value);
        if (!found)
            return false;
    }
    return true;
}

/* A PUT may be repeated: the group is there with just these settings. */
static void create_existing(struct call *c, const broker_group_info *g)
{
    struct admin *a = admin_of(c);
    struct control_request wanted;
    char text[CONTROL_TEXT_BYTES];
    broker_error error = control_parse(&wanted, CONTROL_GROUP_CREATE, a->map, a->map_len, text);
    const broker_group_settings *s = &wanted.group_settings;
    bool same =
        !error && admin_same_filter(&s->filter, &g->settings.filter) && s->single_active == g->settings.single_active;
    if (error) {
        call_refuse(c, error, text, 0);
    } else if (same) {
        respond_group(c, g, false);
    } else {
        snprintf(text, sizeof(text), "group '%.64s' is there with another filter or single_active; PATCH changes them",
                 g->name);
        call_refuse(c, BROKER_GROUP_EXISTS, text, 0);
    }
    control_release(&wanted);
}

static void create_described(struct call *c, const struct completion *done)
{
    const broker_group_info *g = admin_find_group(done, admin_of(c)->group);
    if (g)
        create_existing(c, g);
    else
        admin_submit(c, then_new_group, NULL);
}

static void create_group(void *arg, struct http_exchange *x, const struct http_request *q)
{
    static const struct admin_request REQUEST = {CONTROL_GROUP_CREATE, QUEUE_AND_GROUP, .has_body = true,
                                                 .describes = true, .first = create_described};
    admin_begin(arg, x, q, &REQUEST);
}

static void alter_group(void *arg, struct http_exchange *x, const struct http_request *q)
{
    static const struct admin_request REQUEST = {CONTROL_GROUP_ALTER, QUEUE_AND_GROUP, .has_body = true,
                                                 .first = then_group};
    admin_begin(arg, x, q, &REQUEST);
}

static void seek_group(void *arg, struct http_exchange *x, const struct http_request *q)
{
    static const struct admin_request REQUEST = {CONTROL_GROUP_SEEK, QUEUE_AND_GROUP, .has_body = true,
                                                 .first = then_group};
    admin_begin(arg, x, q, &REQUEST);
}

static void delete_group(void *arg, struct http_exchange *x, const struct http_request *q)
{
    static const struct admin_request REQUEST = {CONTROL_GROUP_DELETE, QUEUE_AND_GROUP, .first = admin_answer_nothing};
    admin_begin(arg, x, q, &REQUEST);
}

/* ---- bindings ------------------------------------------------------------------------------------------------------- */

static void answer_bindings(struct call *c, const struct completion *done)
{
    msgpack_packer pk = admin_pack(c->rest);
    msgpack_pack_map(&pk, 1);
    pack_str(&pk, "bindings", 8);
    msgpack_pack_array(&pk, done->u.describe.binding_count);
    for (size_t i = 0; i < done->u.describe.binding_count; i++)
        pack_str(&pk, done->u.describe.bindings[i], strlen(done->u.describe.bindings[i]));
    admin_respond_map(c, 200, NULL);
}

static void list_bindings(void *arg, struct http_exchange *x, const struct http_request *q)
{
    static const struct admin_request REQUEST = {CONTROL_QUEUE_DESCRIBE, QUEUE, .first = answer_bindings};
    admin_begin(arg, x, q, &REQUEST);
}

static void bind_pattern(void *arg, struct http_exchange *x, const struct http_request *q)
{
    static const struct admin_request REQUEST = {CONTROL_BIND, QUEUE_AND_PATTERN, .first = admin_answer_nothing};
    admin_begin(arg, x, q, &REQUEST);
}

static void unbind_pattern(void *arg, struct http_exchange *x, const struct http_request *q)
{
    static const struct admin_request REQUEST = {CONTROL_UNBIND, QUEUE_AND_PATTERN, .first = admin_answer_nothing};
    admin_begin(arg, x, q, &REQUEST);
}

static const struct http_route ROUTES[] = {
    {HTTP_GET, "/v1/queues/{queue}/groups", list_groups, 0},
    {HTTP_GET, "/v1/queues/{queue}/groups/{group}", get_group, 0},
    {HTTP_PUT, "/v1/queues/{queue}/groups/{group}", create_group, BODY_MAX_BYTES},
    {HTTP_PATCH, "/v1/queues/{queue}/groups/{group}", alter_group, BODY_MAX_BYTES},
    {HTTP_DELETE, "/v1/queues/{queue}/groups/{group}", delete_group, 0},
    {HTTP_POST, "/v1/queues/{queue}/groups/{group}/seek", seek_group, BODY_MAX_BYTES},
    {HTTP_GET, "/v1/queues/{queue}/bindings", list_bindings, 0},
    {HTTP_PUT, "/v1/queues/{queue}/bindings/{pattern}", bind_pattern, 0},
    {HTTP_DELETE, "/v1/queues/{queue}/bindings/{pattern}", unbind_pattern, 0},
};

bool admin_groups_register(struct rest *r)
{
    return http_add_routes(r->http, ROUTES, sizeof(ROUTES) / sizeof(ROUTES[0]), r);
}
