/* Administrative calls: from a request to a map, from the map to commands, from what they answer to JSON. */
#include <stdlib.h>
#include <string.h>

#include "admin_internal.h"

enum { NO_MEMORY_RETRY_MS = 1000 };

struct admin *admin_of(struct call *c)
{
    return c->u.any.memory;
}

/* ---- the request ---------------------------------------------------------------------------------------------------- */

static bool is_json(const struct http_request *q)
{
    /* curl -d says x-www-form-urlencoded, whatever it sends. */
    static const char *const TYPES[] = {"application/json", "application/x-www-form-urlencoded"};
    if (!http_find(q, "content-type"))
        return true;
    for (size_t i = 0; i < sizeof(TYPES) / sizeof(TYPES[0]); i++)
        if (http_type_is(q, TYPES[i]))
            return true;
    return false;
}

json_t *admin_body(struct http_exchange *x, const struct http_request *q, bool may_be_empty)
{
    char text[FORM_TEXT_BYTES];
    if (q->body_len == 0 && may_be_empty)
        return json_object();
    if (!is_json(q)) {
        http_refuse_as(x, 415, "unsupported_media_type", "the body is not JSON; send it as application/json");
        return NULL;
    }
    json_t *body = form_json_parse(q->body, q->body_len, text);
    if (!body) {
        rest_refuse(x, "%s", text);
        return NULL;
    }
    if (json_is_object(body))
        return body;
    json_decref(body);
    rest_refuse(x, "the body is no JSON object; send one, such as {}");
    return NULL;
}

static bool is_of_path(const char *const *path, const char *key)
{
    for (; *path; path++)
        if (strcmp(*path, key) == 0)
            return true;
    return false;
}

/* The known key that is spelled most alike. */
static const char *nearest_key(enum control_kind kind, const char *const *path, const char *key)
{
    const char *known[CONTROL_KEYS_MAX + 1], *one;
    size_t n = 0;
    for (size_t i = 0; n < CONTROL_KEYS_MAX && (one = control_key(kind, i)); i++)
        if (!is_of_path(path, one))
            known[n++] = one;
    known[n] = NULL;
    return nearest(known, key, strlen(key));
}

bool admin_knows_keys(enum control_kind kind, const json_t *body, const char *const *path, char text[FORM_TEXT_BYTES])
{
    const char *key, *near;
    json_t *value;
    char out[SHOWN_BYTES];
    json_object_foreach((json_t *)body, key, value)
    {
        struct http_text name = {key, strlen(key)};
        if (is_of_path(path, key))
            snprintf(text, FORM_TEXT_BYTES, "\"%s\" is given by the path; leave it out of the body", key);
        else if (control_knows(kind, key, name.len))
            continue;
        else if ((near = nearest_key(kind, path, key)))
            snprintf(text, FORM_TEXT_BYTES, "there is no key \"%s\" here; did you mean \"%s\"?", shown(name, out),
                     near);
        else
            snprintf(text, FORM_TEXT_BYTES, "there is no key \"%s\" here; docs/HTTP.md has those that there are",
                     shown(name, out));
        return false;
    }
    return true;
}

/* The path's values under their keys: text, and a number for "seq". */
static bool add_path(json_t *map, const struct http_request *q, const char *const *path, char text[FORM_TEXT_BYTES])
{
    char out[SHOWN_BYTES];
    for (size_t i = 0; path[i]; i++) {
        struct http_text value = q->params[i];
        bool is_seq = strcmp(path[i], "seq") == 0;
        uint64_t seq = 0;
        bool good = !is_seq || (parse_u64(value.bytes, value.len, &seq) && seq > 0 && seq <= INT64_MAX);
        json_t *json = is_seq ? json_integer((json_int_t)seq) : json_stringn(value.bytes, value.len);
        if (good && json_object_set_new(map, path[i], json) == 0)
            continue;
        if (!good)
            json_decref(json);
        snprintf(text, FORM_TEXT_BYTES, "'%s' is no %s; give %s", shown(value, out), path[i],
                 is_seq ? "a number from 1 on" : "one of printable characters");
        return false;
    }
    return true;
}

/* ---- calls ---------------------------------------------------------------------------------------------------------- */

static void answered(struct call *c, const struct completion *done)
{
    admin_of(c)->next(c, done);
}

static void failed(struct call *c, const struct completion *done)
{
    struct admin *a = admin_of(c);
    if (a->failed)
        a->failed(c, done);
    else
        rest_refuse_completion(c, done);
}

static void release(struct call *c)
{
    struct admin *a = admin_of(c);
    if (a)
        free(a->more);
    free(a);
}
static const struct call_kind ADMIN = {.answer = answered, .failed = failed, .release = release};

/* Queue, group and map are copied behind the struct. */
static struct admin *admin_new(const struct admin_request *request, const struct http_request *q,
                               const msgpack_sbuffer *map)
{
    struct http_text queue = {"", 0}, group = {"", 0};
    for (size_t i = 0; request->path[i]; i++) {
        if (strcmp(request->path[i], "queue") == 0)
            queue = q->params[i];
        else if (strcmp(request->path[i], "group") == 0)
            group = q->params[i];
    }
    struct admin *a = calloc(1, sizeof(*a) + queue.len + group.len + map->size);
    if (!a)
        return NULL;
    char *group_at = a->bytes + queue.len, *map_at = group_at + group.len;
    memcpy(a->bytes, queue.bytes, queue.len);
    memcpy(group_at, group.bytes, group.len);
    memcpy(map_at, map->data, map->size);
    a->request = request;
    a->queue = (struct name){a->bytes, queue.len};
    a->group = (struct name){group_at, group.len};
    a->map = (const uint8_t *)map_at;
    a->map_len = map->size;
    return a;
}

/* ---- commands ------------------------------------------------------------------------------------------------------- */

static void submit_map(struct call *c)
{
    struct admin *a = admin_of(c);
    struct control_request request;
    char text[CONTROL_TEXT_BYTES];
    broker_error error = control_parse(&request, a->request->kind, a->map, a->map_len, text);
    if (!error && a->request->change)
        a->request->change(c, &request.command);
    if (error)
        call_refuse(c, error, text, 0);
    else
        call_submit(c, &request.command);
    control_release(&request);
}

static void submit_describe(struct call *c)
{
    struct command command = {.type = COMMAND_QUEUE_DESCRIBE, .queue = admin_of(c)->described};
    call_submit(c, &command);
}

/* Steps are told by the engine, which is in the middle of something then: what they want of it is asked for from the loop. */
void admin_submit(struct call *c, admin_step *next, admin_step *on_failure)
{
    struct admin *a = admin_of(c);
    a->next = next;
    a->failed = on_failure;
    call_later(c, submit_map);
}

void admin_describe(struct call *c, struct name queue, admin_step *next, admin_step *on_failure)
{
    struct admin *a = admin_of(c);
    a->next = next;
    a->failed = on_failure;
    a->described = queue;
    call_later(c, submit_describe);
}

/* The first one at once. */
static void start(struct rest *r, struct http_exchange *x, struct admin *a)
{
    struct call *c = a ? call_begin(r, &ADMIN, x) : NULL;
    if (!a)
        http_refuse(x, BROKER_NO_MEMORY, "no memory for the request; try again", NO_MEMORY_RETRY_MS);
    if (!c) {
        free(a);
        return;
    }
    c->u.any.memory = a;
    a->next = a->request->first;
    a->failed = a->request->failed;
    a->described = a->queue;
    if (a->request->describes)
        submit_describe(c);
    else
        submit_map(c);
}

void admin_begin(struct rest *r, struct http_exchange *x, const struct http_request *q,
                 const struct admin_request *request)
{
    static const char *const NONE[] = {NULL};
    struct params p;
    struct admin_options options = {0};
    if (!params_open(&p, q, request->queries ? request->queries : NONE, NULL)) {
        rest_refuse(x, "%s", p.error);
        return;
    }
    json_t *map = request->has_body ? admin_body(x, q, true) : json_object();
    if (!map) {
        if (!request->has_body)
            http_refuse(x, BROKER_NO_MEMORY, "no memory for the request; try again", NO_MEMORY_RETRY_MS);
        return;
    }
    msgpack_sbuffer_clear(&r->map);
    bool good = (!request->has_body || admin_knows_keys(request->kind, map, request->path, p.error)) &&
                add_path(map, q, request->path, p.error) && (!request->read || request->read(&p, map, &options)) &&
                form_json_to_msgpack(&r->map, map, p.error) == BROKER_OK;
    json_decref(map);
    if (!good) {
        rest_refuse(x, "%s", p.error);
        return;
    }
    struct admin *a = admin_new(request, q, &r->map);
    if (a)
        a->options = options;
    start(r, x, a);
}

/* ---- answers -------------------------------------------------------------------------------------------------------- */

msgpack_packer admin_pack(struct rest *r)
{
    msgpack_packer pk;
    msgpack_sbuffer_clear(&r->map);
    msgpack_packer_init(&pk, &r->map, msgpack_sbuffer_write);
    return pk;
}

void admin_respond_map(struct call *c, int status, const char *location)
{
    struct rest *r = c->rest;
    struct buf *out = rest_scratch(&r->out);
    msgpack_unpacked one;
    size_t at = 0;
    msgpack_unpacked_init(&one);
    bool good = r->map.data && msgpack_unpack_next(&one, r->map.data, r->map.size, &at) == MSGPACK_UNPACK_SUCCESS &&
                form_msgpack_to_json(out, &one.data);
    msgpack_unpacked_destroy(&one);
    if (!good) {
        call_refuse(c, BROKER_NO_MEMORY, "it is done, but there is no memory for the answer", 0);
        return;
    }
    struct http_field field = {{"Location", 8}, {location, location ? strlen(location) : 0}};
    call_respond(c, &(struct http_response){.status = status,
                                            .type = "application/json",
                                            .body = out->bytes,
                                            .body_len = out->len,
                                            .fields = &field,
                                            .field_count = location != NULL});
}

void admin_respond_nothing(struct call *c)
{
    call_respond(c, &(struct http_response){.status = 204});
}

void admin_answer_map(struct call *c, const struct completion *done)
{
    msgpack_packer pk = admin_pack(c->rest);
    control_answer(&pk, done);
    admin_respond_map(c, 200, NULL);
}

void admin_answer_nothing(struct call *c, const struct completion *done)
{
    admin_respond_nothing(c);
}

/* ---- the broker itself ---------------------------------------------------------------------------------------------- */

static void ping(void *arg, struct http_exchange *x, const struct http_request *q)
{
    http_respond(x, &(struct http_response){.status = 200, .type = "application/json", .body = "{}", .body_len = 2});
}

static const struct http_route ROUTES[] = {
    {HTTP_GET, "/v1/ping", ping, 0},
    {HTTP_GET, "/v1/openapi.json", openapi_get, 0},
    {HTTP_GET, "/errors/{slug}", errors_get, 0},
};

bool admin_register(struct rest *r)
{
    return http_add_routes(r->http, ROUTES, sizeof(ROUTES) / sizeof(ROUTES[0]), r) && admin_queues_register(r) &&
           admin_groups_register(r) && admin_mend_register(r) && definitions_register(r) && backup_register(r);
}

void admin_free(struct rest *r)
{
    backup_free(r);
}
