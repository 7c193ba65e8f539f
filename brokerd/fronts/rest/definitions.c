/* GET /v1/definitions: queues, groups and bindings as one document, written page by page while it is sent. */
#include "definitions.h"

#include <stdlib.h>
#include <string.h>

enum {
    PAGE_QUEUES = 64,
    IMPORT_MAX_BYTES = 4 << 20, /* what is parsed in one go; larger documents come in parts */
};

/* ---- the document's spelling ---------------------------------------------------------------------------------------- */

bool definitions_is_setting(const char *key, size_t len)
{
    bool is_name = len == 5 && memcmp(key, "queue", 5) == 0;
    return !is_name && control_knows(CONTROL_QUEUE_CREATE, key, len);
}

static const char *const WORDS[][2] = {{"drop_oldest", "drop-oldest"}}; /* the protocol's, the document's */
enum { WORD_COUNT = sizeof(WORDS) / sizeof(WORDS[0]) };

const char *definitions_word_out(const char *word, size_t *len)
{
    for (size_t i = 0; i < WORD_COUNT; i++) {
        if (strlen(WORDS[i][0]) == *len && memcmp(WORDS[i][0], word, *len) == 0) {
            *len = strlen(WORDS[i][1]);
            return WORDS[i][1];
        }
    }
    return word;
}

const char *definitions_word_in(const char *word)
{
    for (size_t i = 0; i < WORD_COUNT; i++)
        if (strcmp(WORDS[i][1], word) == 0)
            return WORDS[i][0];
    return word;
}

/* ---- writing -------------------------------------------------------------------------------------------------------- */

static bool put_settings(struct buf *out, const msgpack_object_map *queue)
{
    bool good = true, first = true;
    for (uint32_t i = 0; i < queue->size && good; i++) {
        const msgpack_object *key = &queue->ptr[i].key, *value = &queue->ptr[i].val;
        if (!definitions_is_setting(key->via.str.ptr, key->via.str.size))
            continue;
        good = (first || form_put(out, ",")) && form_json_string(out, key->via.str.ptr, key->via.str.size) &&
               form_put(out, ":");
        first = false;
        size_t len = value->type == MSGPACK_OBJECT_STR ? value->via.str.size : 0;
        if (value->type == MSGPACK_OBJECT_STR) {
            const char *word = definitions_word_out(value->via.str.ptr, &len);
            good = good && form_json_string(out, word, len);
        } else {
            good = good && form_msgpack_to_json(out, value);
        }
    }
    return good;
}

static bool put_member(struct buf *out, const char *key, const char *text)
{
    return form_put(out, key) && form_json_string(out, text, strlen(text));
}

static bool put_group(struct buf *out, const broker_group_info *g)
{
    const broker_filter *f = &g->settings.filter;
    bool good = put_member(out, "{\"name\":", g->name);
    if (f->topic && *f->topic)
        good = good && put_member(out, ",\"filter_topic\":", f->topic);
    if (f->key && *f->key)
        good = good && put_member(out, ",\"filter_key\":", f->key);
    for (size_t i = 0; i < f->header_count; i++)
        good = good && form_put(out, i ? "," : ",\"filter_headers\":{") && put_member(out, "", f->headers[i].name) &&
               put_member(out, ":", f->headers[i].value);
    return good && (f->header_count == 0 || form_put(out, "}")) &&
           form_put(out, g->settings.single_active ? ",\"single_active\":true}" : ",\"single_active\":false}");
}

/* One queue, from its description; its settings through the map, so that they are known in one place only. */
static bool put_queue(struct rest *r, struct buf *out, const struct completion *done)
{
    msgpack_packer pk = admin_pack(r);
    msgpack_unpacked map;
    size_t at = 0;
    control_pack_queue(&pk, done->u.describe.queue);
    msgpack_unpacked_init(&map);
    bool good = r->map.data && msgpack_unpack_next(&map, r->map.data, r->map.size, &at) == MSGPACK_UNPACK_SUCCESS &&
                put_member(out, "{\"name\":", done->u.describe.queue->name) &&
                form_put(out, done->u.describe.queue->paused ? ",\"paused\":true" : ",\"paused\":false") &&
                form_put(out, ",\"settings\":{") && put_settings(out, &map.data.via.map) &&
                form_put(out, "},\"groups\":[");
    msgpack_unpacked_destroy(&map);
    for (size_t i = 0; i < done->u.describe.group_count; i++)
        good = good && (i == 0 || form_put(out, ",")) && put_group(out, &done->u.describe.groups[i]);
    good = good && form_put(out, "],\"bindings\":[");
    for (size_t i = 0; i < done->u.describe.binding_count; i++)
        good = good && put_member(out, i ? "," : "", done->u.describe.bindings[i]);
    return good && form_put(out, "]}");
}

/* ---- the walk ------------------------------------------------------------------------------------------------------- */

struct export
{ /* c->u.any.memory */
    struct name prefix;
    char last[NAME_MAX_BYTES + 1];           /* the page goes on behind it */
    char(*names)[NAME_MAX_BYTES + 1];        /* of the page */
    uint32_t count, at;                      /* on the page; count == at: the next page is due */
    bool more, begun, any, waiting, running; /* waiting: for an answer; running: export_run is on the stack */
    bool ended, broken;
    char bytes[];
};

static struct export *export_of(struct call *c)
{
    return c->u.any.memory;
}

static void export_free(struct export *e)
{
    free(e->names);
    free(e);
}

static void release(struct call *c)
{
    struct export *e = export_of(c);
    if (!e)
        return;
    e->ended = true;
    if (!e->running)
        export_free(e);
}

static bool begin(struct call *c)
{
    static const char HEAD[] = "{\"format\":\"" DEFINITIONS_FORMAT "\",\"version\":1,\"queues\":[";
    _Static_assert(DEFINITIONS_VERSION == 1, "as the head says");
    http_chunked_begin(c->x, &(struct http_response){.status = 200, .type = "application/json"});
    export_of(c)->begun = true;
    return http_chunked_write(c->x, HEAD, sizeof(HEAD) - 1);
}

static void ask(struct call *c)
{
    struct export *e = export_of(c);
    struct command command = {.type = COMMAND_QUEUE_LIST};
    e->waiting = true;
    if (e->at < e->count) {
        command.type = COMMAND_QUEUE_DESCRIBE;
        command.queue = (struct name){e->names[e->at], strlen(e->names[e->at])};
    } else {
        command.u.list.prefix = e->prefix;
        command.u.list.after = (struct name){e->last, strlen(e->last)};
        command.u.list.limit = PAGE_QUEUES;
    }
    call_submit(c, &command);
}

static void finish(struct call *c)
{
    static const char TAIL[] = "\n]}\n";
    http_chunked_write(c->x, TAIL, sizeof(TAIL) - 1);
    http_chunked_end(c->x);
    call_end(c);
}

/* The rest cannot be had: the client must see that the document is not whole. */
static void give_up(struct call *c)
{
    http_abort(c->x);
    call_end(c);
}

/* One question after the other, for as long as the client takes what is written: by a loop, since answers may come at once. */
static void export_run(struct call *c)
{
    struct export *e = export_of(c);
    if (e->running)
        return;
    e->running = true;
    while (!e->ended && !e->waiting && !e->broken) {
        if (e->begun && e->at == e->count && !e->more)
            break;
        if (e->begun && http_is_full(c->x))
            break;
        ask(c);
    }
    e->running = false;
    if (e->ended)
        export_free(e);
    else if (e->broken)
        give_up(c);
    else if (e->begun && !e->waiting && e->at == e->count && !e->more)
        finish(c);
}

static void page(struct export *e, const struct completion *done)
{
    e->at = e->count = 0;
    e->more = done->u.list.more;
    for (size_t i = 0; i < done->u.list.count && i < PAGE_QUEUES; i++) {
        const char *name = done->u.list.queues[i].name;
        memcpy(e->names[e->count++], name, strlen(name) + 1);
        memcpy(e->last, name, strlen(name) + 1);
    }
}

static void answered(struct call *c, const struct completion *done)
{
    struct export *e = export_of(c);
    struct buf *out = rest_scratch(&c->rest->out);
    e->waiting = false;
    if (done->type == COMMAND_QUEUE_LIST) {
        page(e, done);
        e->broken = !e->begun && !begin(c);
    } else {
        bool good = form_put(out, e->any ? ",\n" : "\n") && put_queue(c->rest, out, done);
        e->any = true;
        e->at++;
        e->broken = !good || !http_chunked_write(c->x, out->bytes, out->len);
    }
    if (!e->running)
        call_later(c, export_run);
}

static void failed(struct call *c, const struct completion *done)
{
    struct export *e = export_of(c);
    e->waiting = false;
    if (!e->begun) {
        rest_refuse_completion(c, done);
        return;
    }
    if (done->type == COMMAND_QUEUE_DESCRIBE && done->error == BROKER_QUEUE_NOT_FOUND)
        e->at++; /* deleted meanwhile */
    else
        e->broken = true;
    if (!e->running)
        call_later(c, export_run);
}

static const struct call_kind EXPORT = {
    .answer = answered, .failed = failed, .drained = export_run, .release = release};

void definitions_export(void *arg, struct http_exchange *x, const struct http_request *q)
{
    static const char *const QUERIES[] = {"prefix", NULL};
    struct params p;
    struct http_text prefix = {"", 0};
    if (!params_open(&p, q, QUERIES, NULL) || !param_text(&p, "prefix", NAME_MAX_BYTES, &prefix)) {
        rest_refuse(x, "%s", p.error);
        return;
    }
    if (q->is_head) {
        http_respond(x, &(struct http_response){.status = 200, .type = "application/json"});
        return;
    }
    struct export *e = calloc(1, sizeof(*e) + prefix.len);
    if (e)
        e->names = malloc(PAGE_QUEUES * sizeof(*e->names));
    struct call *c = e && e->names ? call_begin(arg, &EXPORT, x) : NULL;
    if (!c) {
        if (!e || !e->names)
            http_refuse(x, BROKER_NO_MEMORY, "no memory for the document; try again", 1000);
        if (e)
            export_free(e);
        return;
    }
    memcpy(e->bytes, prefix.bytes, prefix.len);
    e->prefix = (struct name){e->bytes, prefix.len};
    c->u.any.memory = e;
    export_run(c);
}

static const struct http_route ROUTES[] = {
    {HTTP_GET, "/v1/definitions", definitions_export, 0},
    {HTTP_POST, "/v1/definitions", definitions_import, IMPORT_MAX_BYTES},
};

bool definitions_register(struct rest *r)
{
    return http_add_routes(r->http, ROUTES, sizeof(ROUTES) / sizeof(ROUTES[0]), r);
}
