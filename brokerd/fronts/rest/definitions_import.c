/* POST /v1/definitions: the broker comes to have what a document says. First the whole of it is checked, then item after item is done. */
#include <stdlib.h>
#include <string.h>

#include "definitions.h"

enum {
    STEPS_A_TURN = 64
}; /* then the loop has its turn: answers of the engine may come at once, and documents are long */

enum phase { CHECK, LOOK, MAKE, PAUSE, LOOK_AGAIN, GROUPS, BINDINGS };

struct item { /* what is being done */
    const char *group, *binding;
    bool is_queue;    /* there is none without it */
    const char *done; /* "created" */
    uint64_t *count;
    json_t *names; /* of settings; owned */
};

struct import { /* c->u.any.memory */
    struct call *call;
    struct net_timer timer;
    json_t *document, *queues;
    bool alter, dry_run;
    enum phase phase;
    size_t at, part;          /* queue; group or binding of it */
    bool existed, new_groups; /* the queue; its groups are ours to alter */
    json_t *differing;        /* settings of the queue that differ */
    struct there {            /* of the queue's wanted groups, and then bindings */
        bool exists, differs;
    } * there;
    struct item item;
    uint64_t created, altered, left, paused, failed;
    struct buf results;
    uint32_t steps;
    bool waiting, running, ended, no_memory;
};

static struct import *import_of(struct call *c)
{
    return c->u.any.memory;
}

static void import_free(struct import *im)
{
    json_decref(im->document);
    json_decref(im->differing);
    json_decref(im->item.names);
    free(im->there);
    buf_release(&im->results);
    free(im);
}

static void release(struct call *c)
{
    struct import *im = import_of(c);
    if (!im)
        return;
    net_timer_set(http_net(c->rest->http), &im->timer, MONOTIME_NEVER);
    im->ended = true;
    if (!im->running)
        import_free(im);
}

/* ---- what was asked for --------------------------------------------------------------------------------------------- */

static json_t *queue_of(const struct import *im)
{
    return json_array_get(im->queues, im->at);
}

static const char *name_of(const json_t *object)
{
    return json_string_value(json_object_get(object, "name"));
}

static json_t *part_of(const struct import *im, const char *list)
{
    return json_array_get(json_object_get(queue_of(im), list), im->part);
}

static size_t count_of(const struct import *im, const char *list)
{
    return json_array_size(json_object_get(queue_of(im), list));
}

/* ---- results -------------------------------------------------------------------------------------------------------- */

static bool put_text(struct buf *out, const char *key, const char *text)
{
    return form_put(out, key) && form_json_string(out, text, strlen(text));
}

static bool put_item(struct buf *out, const struct import *im)
{
    const struct item *item = &im->item;
    size_t i;
    json_t *name;
    bool good = form_put(out, out->len ? ",\n" : "\n") && put_text(out, "{\"queue\":", name_of(queue_of(im)));
    if (item->group)
        good = good && put_text(out, ",\"group\":", item->group);
    if (item->binding)
        good = good && put_text(out, ",\"binding\":", item->binding);
    json_array_foreach(item->names, i, name)
    {
        good = good && put_text(out, i ? "," : ",\"settings\":[", json_string_value(name));
    }
    return good && (json_array_size(item->names) == 0 || form_put(out, "]"));
}

/* It is done (or would be). */
static void item_done(struct import *im)
{
    im->no_memory |= !put_item(&im->results, im) || !put_text(&im->results, ",\"done\":", im->item.done) ||
                     !form_put(&im->results, "}");
    (*im->item.count)++;
}

static void item_failed(struct import *im, broker_error error, const char *text, uint32_t retry_ms)
{
    im->no_memory |= !put_item(&im->results, im) || !form_put(&im->results, ",\"error\":") ||
                     !http_problem_of(&im->results, error, text, retry_ms) || !form_put(&im->results, "}");
    im->failed++;
    if (im->item.is_queue && !im->existed) {
        im->at++; /* what belongs to it would fail as well */
        im->phase = LOOK;
    }
}

static void item_begin(struct import *im, const char *group, const char *binding, const char *done, uint64_t *count)
{
    json_decref(im->item.names);
    im->item = (struct item){.group = group, .binding = binding, .done = done, .count = count};
}

/* Takes over `map`. The item is as good as done in a dry run. */
static void item_submit(struct call *c, enum control_kind kind, json_t *map)
{
    struct import *im = import_of(c);
    struct control_request request;
    char text[FORM_TEXT_BYTES];
    if (im->dry_run) {
        item_done(im);
        json_decref(map);
        return;
    }
    broker_error error = definitions_parse(&request, kind, map, &c->rest->map, text);
    json_decref(map);
    if (error) {
        item_failed(im, error, text, 0);
    } else {
        im->waiting = true;
        call_submit(c, &request.command);
    }
    control_release(&request);
}

static json_t *named_map(const char *queue, const char *key, const char *value)
{
    json_t *map = json_object();
    bool good = map && json_object_set_new(map, "queue", json_string(queue)) == 0 &&
                (!key || json_object_set_new(map, key, json_string(value)) == 0);
    if (good)
        return map;
    json_decref(map);
    return NULL;
}

/* ---- steps ---------------------------------------------------------------------------------------------------------- */

static void look(struct call *c)
{
    struct import *im = import_of(c);
    const char *name = name_of(queue_of(im));
    struct command command = {.type = COMMAND_QUEUE_DESCRIBE, .queue = {name, strlen(name)}};
    im->waiting = true;
    call_submit(c, &command);
}

/* Room for what is there of this queue's groups and bindings; all missing at first. */
static bool reset(struct import *im)
{
    size_t n = count_of(im, "groups") + count_of(im, "bindings");
    free(im->there);
    json_decref(im->differing);
    im->differing = json_array();
    im->there = calloc(n ? n : 1, sizeof(*im->there));
    im->part = 0;
    im->existed = im->new_groups = false;
    return im->there && im->differing;
}

static void compare_groups(struct call *c, const struct completion *done)
{
    struct import *im = import_of(c);
    json_t *groups = json_object_get(queue_of(im), "groups"), *group;
    size_t i;
    json_array_foreach(groups, i, group)
    {
        const char *name = name_of(group);
        const broker_group_info *g = admin_find_group(done, (struct name){name, strlen(name)});
        im->there[i].exists = g != NULL;
        im->there[i].differs = g && definitions_group_differs(c->rest, name_of(queue_of(im)), group, g);
    }
}

static void compare_bindings(struct import *im, const struct completion *done)
{
    struct there *there = im->there + count_of(im, "groups");
    json_t *bindings = json_object_get(queue_of(im), "bindings"), *binding;
    size_t i;
    json_array_foreach(bindings, i, binding)
    {
        for (size_t k = 0; k < done->u.describe.binding_count && !there[i].exists; k++)
            there[i].exists = strcmp(done->u.describe.bindings[k], json_string_value(binding)) == 0;
    }
}

/* A queue that would be created has one group then. */
static void expect_default(struct call *c)
{
    broker_group_info g = {.name = "default"};
    struct completion done = {.u.describe = {.groups = &g, .group_count = 1}};
    compare_groups(c, &done);
}

static void looked(struct call *c, const struct completion *done)
{
    struct import *im = import_of(c);
    bool missing = done->error == BROKER_QUEUE_NOT_FOUND;
    if (im->phase == LOOK_AGAIN) {
        if (!done->error)
            compare_groups(c, done);
        im->new_groups = true;
        im->phase = GROUPS;
        return;
    }
    item_begin(im, NULL, NULL, NULL, NULL);
    if (!reset(im)) {
        im->no_memory = true;
    } else if (done->error && !missing) {
        im->item.is_queue = true;
        item_failed(im, done->error, done->text, done->retry_ms);
    } else {
        im->existed = !missing;
        im->phase = MAKE;
        if (missing)
            return;
        im->no_memory |= !definitions_differing(c->rest, queue_of(im), done->u.describe.queue, im->differing);
        compare_groups(c, done);
        compare_bindings(im, done);
    }
}

static void make_queue(struct call *c)
{
    struct import *im = import_of(c);
    bool differs = json_array_size(im->differing) > 0;
    im->phase = im->existed ? GROUPS : PAUSE;
    if (!im->existed) {
        item_begin(im, NULL, NULL, "created", &im->created);
        im->item.is_queue = true;
        item_submit(c, CONTROL_QUEUE_CREATE, definitions_queue_map(queue_of(im)));
    } else if (differs) {
        item_begin(im, NULL, NULL, im->alter ? "altered" : "left", im->alter ? &im->altered : &im->left);
        im->item.names = json_incref(im->differing);
        if (im->alter)
            item_submit(c, CONTROL_QUEUE_ALTER, definitions_altering_map(queue_of(im), im->differing));
        else
            item_done(im);
    }
}

/* A queue that was paused is paused when it is created; one that is there goes on as it does. */
static void pause_queue(struct call *c)
{
    struct import *im = import_of(c);
    im->phase = LOOK_AGAIN;
    if (!json_is_true(json_object_get(queue_of(im), "paused")))
        return;
    item_begin(im, NULL, NULL, "paused", &im->paused);
    item_submit(c, CONTROL_QUEUE_PAUSE, named_map(name_of(queue_of(im)), NULL, NULL));
}

static void make_group(struct call *c)
{
    struct import *im = import_of(c);
    json_t *group = part_of(im, "groups");
    struct there there = im->there[im->part];
    const char *queue = name_of(queue_of(im));
    bool alter = im->alter || im->new_groups;
    im->part++;
    if (!there.exists) {
        item_begin(im, name_of(group), NULL, "created", &im->created);
        item_submit(c, CONTROL_GROUP_CREATE, definitions_group_map(queue, group));
    } else if (there.differs) {
        item_begin(im, name_of(group), NULL, alter ? "altered" : "left", alter ? &im->altered : &im->left);
        if (alter)
            item_submit(c, CONTROL_GROUP_ALTER, definitions_group_map(queue, group));
        else
            item_done(im);
    }
}

static void make_binding(struct call *c)
{
    struct import *im = import_of(c);
    const char *pattern = json_string_value(part_of(im, "bindings"));
    struct there there = im->there[count_of(im, "groups") + im->part];
    im->part++;
    if (there.exists)
        return;
    item_begin(im, NULL, pattern, "bound", &im->created);
    item_submit(c, CONTROL_BIND, named_map(name_of(queue_of(im)), "pattern", pattern));
}

/* Where the next phase begins, or the next queue. */
static void advance(struct import *im)
{
    if (im->phase == GROUPS && im->part == count_of(im, "groups")) {
        im->phase = BINDINGS;
        im->part = 0;
    }
    if (im->phase == BINDINGS && im->part == count_of(im, "bindings")) {
        im->phase = LOOK;
        im->at++;
    }
}

/* A wrong document ends the call before anything is done. */
static void check(struct call *c)
{
    struct import *im = import_of(c);
    char text[FORM_TEXT_BYTES], all[FORM_TEXT_BYTES + 32];
    if (definitions_check_queue(c->rest, queue_of(im), im->at, text)) {
        im->at++;
        return;
    }
    snprintf(all, sizeof(all), "the definitions are wrong: %s", text);
    call_refuse(c, BROKER_INVALID_ARGUMENT, all, 0);
}

static void step(struct call *c)
{
    struct import *im = import_of(c);
    switch (im->phase) {
    case CHECK: check(c); return;
    case LOOK: look(c); return;
    case MAKE: make_queue(c); return;
    case PAUSE: pause_queue(c); return;
    case LOOK_AGAIN:
        if (!im->dry_run) {
            look(c);
            return;
        }
        expect_default(c);
        im->new_groups = true;
        im->phase = GROUPS;
        break;
    case GROUPS:
        if (im->part < count_of(im, "groups"))
            make_group(c);
        break;
    case BINDINGS:
        if (im->part < count_of(im, "bindings"))
            make_binding(c);
        break;
    }
    if (!im->ended && !im->waiting)
        advance(im);
}

/* ---- the walk ------------------------------------------------------------------------------------------------------- */

static bool put_number(struct buf *out, const char *key, uint64_t value)
{
    return form_put(out, key) && form_json_u64(out, value);
}

static void finish(struct call *c)
{
    struct import *im = import_of(c);
    struct buf *out = rest_scratch(&c->rest->out);
    bool good = put_number(out, "{\"created\":", im->created) && put_number(out, ",\"altered\":", im->altered) &&
                put_number(out, ",\"differing\":", im->left) && put_number(out, ",\"failed\":", im->failed) &&
                form_put(out, im->dry_run ? ",\"dry_run\":true" : ",\"dry_run\":false") &&
                form_put(out, ",\"results\":[") &&
                (im->results.len == 0 || buf_append(out, im->results.bytes, im->results.len)) && form_put(out, "]}\n");
    if (good)
        call_respond_json(c, 200, out);
    else
        call_refuse(c, BROKER_NO_MEMORY, "no memory for the answer; what was done is done", 1000);
}

static void import_run(struct call *c);

static void on_timer(void *arg, struct now now)
{
    struct import *im = arg;
    im->waiting = false;
    import_run(im->call);
}

static void import_run(struct call *c)
{
    struct import *im = import_of(c);
    struct net *net = http_net(c->rest->http);
    if (im->running)
        return;
    im->running = true;
    size_t n = json_array_size(im->queues);
    while (!im->ended && !im->waiting && !im->no_memory) {
        if (im->at == n && im->phase == CHECK && n > 0) { /* all of it is right */
            im->phase = LOOK;
            im->at = 0;
        }
        if (im->at == n)
            break;
        if (++im->steps % STEPS_A_TURN == 0) {
            im->waiting = net_timer_set(net, &im->timer, rest_now(c->rest).mono);
            if (im->waiting)
                break;
        }
        step(c);
    }
    im->running = false;
    if (im->ended)
        import_free(im);
    else if (im->no_memory)
        call_refuse(c, BROKER_NO_MEMORY, "no memory to go on; what was done is done, so send it again", 1000);
    else if (!im->waiting)
        finish(c);
}

/* The answer to what `step` submitted, success or not. */
static void answered(struct call *c, const struct completion *done)
{
    struct import *im = import_of(c);
    im->waiting = false;
    if (done->type == COMMAND_QUEUE_DESCRIBE)
        looked(c, done);
    else if (done->error)
        item_failed(im, done->error, done->text, done->retry_ms);
    else
        item_done(im);
    if (im->phase == GROUPS || im->phase == BINDINGS)
        advance(im);
    if (!im->running)
        call_later(c, import_run);
}

static const struct call_kind IMPORT = {.answer = answered, .failed = answered, .release = release};

static bool begin(struct rest *r, struct http_exchange *x, json_t *document, bool alter, bool dry_run)
{
    struct import *im = calloc(1, sizeof(*im));
    struct call *c = im ? call_begin(r, &IMPORT, x) : NULL;
    if (!im)
        http_refuse(x, BROKER_NO_MEMORY, "no memory for the request; try again", 1000);
    if (!c) {
        free(im);
        return false;
    }
    *im = (struct import){.call = c,
                          .document = document,
                          .queues = json_object_get(document, "queues"),
                          .alter = alter,
                          .dry_run = dry_run};
    net_timer_init(&im->timer, on_timer, im);
    c->u.any.memory = im;
    import_run(c);
    return true;
}

void definitions_import(void *arg, struct http_exchange *x, const struct http_request *q)
{
    static const char *const QUERIES[] = {"alter", "dry_run", NULL};
    struct params p;
    bool alter = false, dry_run = false;
    char text[FORM_TEXT_BYTES];
    if (!params_open(&p, q, QUERIES, NULL) || !param_bool(&p, "alter", &alter) ||
        !param_bool(&p, "dry_run", &dry_run)) {
        rest_refuse(x, "%s", p.error);
        return;
    }
    json_t *document = admin_body(x, q, false);
    if (!document)
        return;
    if (!definitions_check_head(document, text))
        rest_refuse(x, "the definitions are wrong: %s", text);
    else if (begin(arg, x, document, alter, dry_run))
        return; /* it is the call's now */
    json_decref(document);
}
