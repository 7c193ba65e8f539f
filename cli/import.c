/* Making a broker have what a document of definitions says. */
#include "definitions.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

struct import {
    struct cli *cli;
    const struct import_options *options;
    uint64_t created, altered, differing;
    struct text out;
    enum cli_exit code;
};

/* What is there of one queue. Copies of group settings are the document's business: only the difference is kept. */
struct there {
    broker_queue_settings *wanted;
    uint32_t differ; /* of the queue's settings */
    bool paused;
    json_t *groups; /* wanted ones */
    struct {
        bool exists;
        uint32_t differ;
    } * group;
    char error[200];
};

__attribute__((format(printf, 2, 3))) static bool refuse(struct import *im, const char *format, ...)
{
    char text[500];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    im->code = cli_complain(im->cli, CLI_FAILED, "the definitions are wrong: %s", text);
    return false;
}

static bool failed(struct import *im, broker_error error, const char *doing, const char *what, const char *queue)
{
    im->code = cli_fail(im->cli, error, "%s '%s' of queue '%s'", doing, what, queue);
    return false;
}

/* "create queue 'a'" or, in a dry run, "would create queue 'a'" */
__attribute__((format(printf, 3, 4))) static void say(struct import *im, const char *verb, const char *format, ...)
{
    char text[700];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (!im->cli->common.json && !im->options->quiet)
        text_addf(&im->out, "%s%s %s\n", im->options->dry_run ? "would " : "", verb, text);
}

/* ---- checking ----------------------------------------------------------------------------------------------------- */

static const char *name_of(json_t *object)
{
    const char *name = json_string_value(json_object_get(object, "name"));
    return name ? name : "";
}

static bool check_groups(struct import *im, const char *queue, json_t *groups)
{
    size_t i;
    json_t *group;
    struct header_list headers;
    broker_group_settings settings;
    char error[200];
    if (groups && !json_is_array(groups))
        return refuse(im, "queue '%s': \"groups\" is not a list", queue);
    json_array_foreach(groups, i, group)
    {
        if (!*name_of(group))
            return refuse(im, "queue '%s': a group has no \"name\"", queue);
        if (!group_settings_from_json(group, &headers, &settings, error, sizeof error))
            return refuse(im, "queue '%s', group '%s': %s", queue, name_of(group), error);
    }
    return true;
}

static bool check_queue(struct import *im, json_t *queue, size_t number)
{
    static const char *const keys[] = {"name", "paused", "settings", "groups", "bindings"};
    const char *name = name_of(queue), *key;
    broker_queue_settings settings;
    json_t *value, *bindings = json_object_get(queue, "bindings"), *wanted = json_object_get(queue, "settings");
    char error[200];
    size_t i;
    if (!*name)
        return refuse(im, "queue number %zu has no \"name\"", number + 1);
    json_object_foreach(queue, key, value)
    {
        const char *const *k = keys;
        while (k < keys + sizeof keys / sizeof *keys && strcmp(*k, key) != 0)
            k++;
        if (k == keys + sizeof keys / sizeof *keys)
            return refuse(im, "queue '%s': unknown key \"%.60s\"", name, key);
    }
    if (wanted && !settings_from_json(wanted, &settings, error, sizeof error))
        return refuse(im, "queue '%s': %s", name, error);
    if (bindings && !json_is_array(bindings))
        return refuse(im, "queue '%s': \"bindings\" is not a list", name);
    json_array_foreach(bindings, i, value)
    {
        if (!json_is_string(value))
            return refuse(im, "queue '%s': a binding is not a string", name);
    }
    return check_groups(im, name, json_object_get(queue, "groups"));
}

static bool check_document(struct import *im, json_t *document)
{
    const char *format = json_string_value(json_object_get(document, "format"));
    json_t *queues = json_object_get(document, "queues"), *queue;
    size_t i;
    if (!format || strcmp(format, DEFINITIONS_FORMAT) != 0)
        return refuse(im, "\"format\" is not \"%s\"", DEFINITIONS_FORMAT);
    if (json_integer_value(json_object_get(document, "version")) != DEFINITIONS_VERSION)
        return refuse(im, "\"version\" is not %d; a newer broker command may read it", DEFINITIONS_VERSION);
    if (!json_is_array(queues))
        return refuse(im, "\"queues\" is not a list");
    json_array_foreach(queues, i, queue)
    {
        if (!check_queue(im, queue, i))
            return false;
    }
    return true;
}

/* ---- comparing ----------------------------------------------------------------------------------------------------- */

static bool compare_queue(void *arg, const broker_queue_info *q)
{
    struct there *t = arg;
    t->differ = settings_differ(t->wanted, &q->settings);
    t->paused = q->paused;
    return true;
}

static bool compare_group(void *arg, const broker_group_info *g)
{
    struct there *t = arg;
    struct header_list headers;
    broker_group_settings wanted;
    size_t i;
    json_t *group;
    json_array_foreach(t->groups, i, group)
    {
        if (strcmp(name_of(group), g->name) != 0)
            continue;
        t->group[i].exists = true;
        if (group_settings_from_json(group, &headers, &wanted, t->error, sizeof t->error))
            t->group[i].differ = group_settings_differ(&wanted, &g->settings);
    }
    return true;
}

/* ---- doing --------------------------------------------------------------------------------------------------------- */

static bool create_queue(struct import *im, const char *name, const broker_queue_settings *settings)
{
    say(im, "create", "queue '%s'", name);
    im->created++;
    if (im->options->dry_run)
        return true;
    broker_error error = broker_queue_create(im->cli->broker, name, settings);
    if (error != BROKER_OK)
        im->code = cli_fail(im->cli, error, "create queue '%s'", name);
    return error == BROKER_OK;
}

static bool alter_queue(struct import *im, const char *name, broker_queue_settings *settings, uint32_t differ)
{
    struct text names = {0};
    settings_names(&names, differ);
    int len = names.failed ? 0 : (int)names.len;
    bool ok = true;
    if (im->options->alter)
        say(im, "alter", "queue '%s': %.*s", name, len, names.bytes ? names.bytes : "");
    else
        say(im, "leave", "queue '%s', which differs in: %.*s (--alter changes it)", name, len,
            names.bytes ? names.bytes : "");
    text_release(&names);
    im->altered += im->options->alter;
    im->differing += !im->options->alter;
    if (im->options->alter && !im->options->dry_run) {
        settings->set = differ;
        broker_error error = broker_queue_alter(im->cli->broker, name, settings);
        ok = error == BROKER_OK;
        if (!ok)
            im->code = cli_fail(im->cli, error, "alter queue '%s'", name);
    }
    return ok;
}

static bool import_group(struct import *im, const char *queue, json_t *group, bool exists, uint32_t differ)
{
    struct header_list headers;
    broker_group_settings settings;
    char ignored[200];
    const char *name = name_of(group);
    broker_error error = BROKER_OK;
    group_settings_from_json(group, &headers, &settings, ignored, sizeof ignored); /* was checked */
    if (!exists) {
        say(im, "create", "group '%s' of queue '%s'", name, queue);
        im->created++;
        if (!im->options->dry_run)
            error = broker_group_create(im->cli->broker, queue, name, BROKER_START_BEGINNING, 0, &settings);
        return error == BROKER_OK || failed(im, error, "create group", name, queue);
    }
    if (!differ)
        return true;
    im->altered += im->options->alter;
    im->differing += !im->options->alter;
    if (!im->options->alter) {
        say(im, "leave", "group '%s' of queue '%s', which differs (--alter changes it)", name, queue);
        return true;
    }
    say(im, "alter", "group '%s' of queue '%s'", name, queue);
    settings.set = differ;
    if (!im->options->dry_run)
        error = broker_group_alter(im->cli->broker, queue, name, &settings);
    return error == BROKER_OK || failed(im, error, "alter group", name, queue);
}

static bool find_binding(void *arg, const char *pattern)
{
    const char **wanted = arg;
    if (*wanted && strcmp(*wanted, pattern) == 0)
        *wanted = NULL; /* found */
    return *wanted != NULL;
}

static bool import_bindings(struct import *im, const char *queue, json_t *bindings, bool queue_exists)
{
    size_t i;
    json_t *binding;
    json_array_foreach(bindings, i, binding)
    {
        const char *pattern = json_string_value(binding), *missing = pattern;
        broker_error error = BROKER_OK;
        if (queue_exists)
            error = broker_queue_bindings(im->cli->broker, queue, find_binding, &missing);
        if (error != BROKER_OK)
            return failed(im, error, "look for binding", pattern, queue);
        if (!missing)
            continue;
        say(im, "bind", "queue '%s' to '%s'", queue, pattern);
        im->created++;
        if (!im->options->dry_run)
            error = broker_bind(im->cli->broker, queue, pattern);
        if (error != BROKER_OK)
            return failed(im, error, "make binding", pattern, queue);
    }
    return true;
}

/* A queue that was paused when it was exported is paused when it is created; one that is there goes on as it does. */
static bool pause_created(struct import *im, json_t *queue, const char *name)
{
    if (!json_is_true(json_object_get(queue, "paused")) || im->options->dry_run)
        return true;
    broker_error error = broker_queue_pause(im->cli->broker, name);
    if (error != BROKER_OK)
        im->code = cli_fail(im->cli, error, "pause queue '%s'", name);
    return error == BROKER_OK;
}

static bool import_queue(struct import *im, json_t *queue)
{
    char ignored[200];
    const char *name = name_of(queue);
    broker_queue_settings settings = {.size = sizeof settings};
    json_t *wanted = json_object_get(queue, "settings"), *groups = json_object_get(queue, "groups"), *group;
    if (wanted)
        settings_from_json(wanted, &settings, ignored, sizeof ignored); /* was checked */
    struct there there = {.wanted = &settings, .groups = groups};
    there.group = calloc(json_array_size(groups) + 1, sizeof *there.group);
    if (!there.group)
        return refuse(im, "out of memory");
    broker_error error = broker_queue_describe(im->cli->broker, name, compare_queue, compare_group, &there);
    bool exists = error == BROKER_OK, ok = exists || error == BROKER_QUEUE_NOT_FOUND;
    if (!ok)
        im->code = cli_fail(im->cli, error, "describe queue '%s'", name);
    else if (!exists)
        ok = create_queue(im, name, &settings) && pause_created(im, queue, name);
    else if (there.differ)
        ok = alter_queue(im, name, &settings, there.differ);
    /* A new queue may come with groups of its own. */
    if (ok && !exists && !im->options->dry_run)
        broker_queue_describe(im->cli->broker, name, compare_queue, compare_group, &there);
    const struct import_options *asked = im->options, of_new = {true, asked->dry_run, asked->quiet};
    size_t i;
    if (ok && !exists)
        im->options = &of_new; /* its groups are ours to alter */
    json_array_foreach(groups, i, group)
    {
        ok = ok && import_group(im, name, group, there.group[i].exists, there.group[i].differ);
    }
    im->options = asked;
    free(there.group);
    return ok && import_bindings(im, name, json_object_get(queue, "bindings"), exists);
}

static enum cli_exit report(struct import *im)
{
    struct cli *cli = im->cli;
    if (cli->common.json) {
        struct json j = {.out = &im->out};
        json_open(&j, '{');
        json_put_u64(&j, "created", im->created);
        json_put_u64(&j, "altered", im->altered);
        json_put_u64(&j, "differing", im->differing);
        json_put_bool(&j, "dry_run", im->options->dry_run);
        json_close(&j, '}');
        text_add(&im->out, "\n", 1);
    } else if (!im->options->quiet && im->created + im->altered + im->differing == 0) {
        text_addf(&im->out, "nothing to do: everything is as the file says\n");
    }
    return cli_print(cli, &im->out) ? CLI_OK : CLI_FAILED;
}

enum cli_exit definitions_import(struct cli *cli, const struct import_options *o, json_t *document)
{
    struct import im = {.cli = cli, .options = o};
    size_t i;
    json_t *queue;
    if (!check_document(&im, document))
        return im.code;
    enum cli_exit code = cli_connect(cli, NULL);
    if (code != CLI_OK)
        return code;
    json_array_foreach(json_object_get(document, "queues"), i, queue)
    {
        if (!import_queue(&im, queue)) {
            cli_print(cli, &im.out); /* what was done before */
            return im.code;
        }
    }
    return report(&im);
}
