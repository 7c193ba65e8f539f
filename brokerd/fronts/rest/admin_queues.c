/* Queues: list, describe, create, alter, delete, pause, resume, purge. */
#include <stdio.h>

#include "admin_internal.h"

enum { BODY_MAX_BYTES = 64 << 10 };

static const char *const QUEUE[] = {"queue", NULL};

/* ---- list ----------------------------------------------------------------------------------------------------------- */

static bool read_list(struct params *p, json_t *map, struct admin_options *options)
{
    struct http_text prefix = {"", 0}, after = {"", 0};
    uint32_t limit = 0;
    if (!param_text(p, "prefix", NAME_MAX_BYTES, &prefix) || !param_text(p, "after", NAME_MAX_BYTES, &after) ||
        !param_u32(p, "limit", 1, 1000, &limit))
        return false;
    bool good = json_object_set_new(map, "prefix", json_stringn(prefix.bytes, prefix.len)) == 0 &&
                json_object_set_new(map, "after", json_stringn(after.bytes, after.len)) == 0 &&
                (limit == 0 || json_object_set_new(map, "limit", json_integer(limit)) == 0);
    if (!good)
        snprintf(p->error, sizeof(p->error), "prefix or after is no text; give the beginning of a name, and a name");
    return good;
}

static void list(void *arg, struct http_exchange *x, const struct http_request *q)
{
    static const char *const NO_PATH[] = {NULL}, *const QUERIES[] = {"prefix", "after", "limit", NULL};
    static const struct admin_request REQUEST = {CONTROL_QUEUE_LIST, NO_PATH, .queries = QUERIES, .read = read_list,
                                                 .first = admin_answer_map};
    admin_begin(arg, x, q, &REQUEST);
}

/* ---- one queue ------------------------------------------------------------------------------------------------------ */

void admin_answer_description(struct call *c, const struct completion *done)
{
    struct admin *a = admin_of(c);
    char location[32 + NAME_MAX_BYTES];
    bool made = a->request->kind == CONTROL_QUEUE_CREATE && !a->existed;
    snprintf(location, sizeof(location), "/v1/queues/%.*s", (int)a->queue.len, a->queue.bytes);
    msgpack_packer pk = admin_pack(c->rest);
    control_answer(&pk, done);
    admin_respond_map(c, made ? 201 : 200, made ? location : NULL);
}

void admin_then_describe(struct call *c, const struct completion *done)
{
    admin_describe(c, admin_of(c)->queue, admin_answer_description, NULL);
}

static void describe(void *arg, struct http_exchange *x, const struct http_request *q)
{
    static const struct admin_request REQUEST = {CONTROL_QUEUE_DESCRIBE, QUEUE, .first = admin_answer_map};
    admin_begin(arg, x, q, &REQUEST);
}

static void create_existing(struct call *c, const struct completion *done)
{
    admin_of(c)->existed = true;
    admin_submit(c, admin_then_describe, NULL);
}

static void create_missing(struct call *c, const struct completion *done)
{
    if (done->error == BROKER_QUEUE_NOT_FOUND)
        admin_submit(c, admin_then_describe, NULL);
    else
        rest_refuse_completion(c, done);
}

/* Looked up first, to tell 201 from 200. */
static void create(void *arg, struct http_exchange *x, const struct http_request *q)
{
    static const struct admin_request REQUEST = {CONTROL_QUEUE_CREATE,     QUEUE,
                                                 .has_body = true,         .describes = true,
                                                 .first = create_existing, .failed = create_missing};
    admin_begin(arg, x, q, &REQUEST);
}

static void alter(void *arg, struct http_exchange *x, const struct http_request *q)
{
    static const struct admin_request REQUEST = {CONTROL_QUEUE_ALTER, QUEUE, .has_body = true,
                                                 .first = admin_then_describe};
    admin_begin(arg, x, q, &REQUEST);
}

static void delete_queue(void *arg, struct http_exchange *x, const struct http_request *q)
{
    static const struct admin_request REQUEST = {CONTROL_QUEUE_DELETE, QUEUE, .first = admin_answer_nothing};
    admin_begin(arg, x, q, &REQUEST);
}

static void pause_queue(void *arg, struct http_exchange *x, const struct http_request *q)
{
    static const struct admin_request REQUEST = {CONTROL_QUEUE_PAUSE, QUEUE, .first = admin_answer_nothing};
    admin_begin(arg, x, q, &REQUEST);
}

static void resume(void *arg, struct http_exchange *x, const struct http_request *q)
{
    static const struct admin_request REQUEST = {CONTROL_QUEUE_RESUME, QUEUE, .first = admin_answer_nothing};
    admin_begin(arg, x, q, &REQUEST);
}

static void purge(void *arg, struct http_exchange *x, const struct http_request *q)
{
    static const struct admin_request REQUEST = {CONTROL_QUEUE_PURGE, QUEUE, .first = admin_answer_map};
    admin_begin(arg, x, q, &REQUEST);
}

static const struct http_route ROUTES[] = {
    {HTTP_GET, "/v1/queues", list, 0},
    {HTTP_GET, "/v1/queues/{queue}", describe, 0},
    {HTTP_PUT, "/v1/queues/{queue}", create, BODY_MAX_BYTES},
    {HTTP_PATCH, "/v1/queues/{queue}", alter, BODY_MAX_BYTES},
    {HTTP_DELETE, "/v1/queues/{queue}", delete_queue, 0},
    {HTTP_POST, "/v1/queues/{queue}/pause", pause_queue, 0},
    {HTTP_POST, "/v1/queues/{queue}/resume", resume, 0},
    {HTTP_POST, "/v1/queues/{queue}/purge", purge, 0},
};

bool admin_queues_register(struct rest *r)
{
    return http_add_routes(r->http, ROUTES, sizeof(ROUTES) / sizeof(ROUTES[0]), r);
}
