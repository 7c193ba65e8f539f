/* broker export, import: the commands, and the document's writing. */
#include "definitions.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- writing ------------------------------------------------------------------------------------------------------ */

struct names { /* queue names, gathered first: a list's callback may not ask for more */
    char **items;
    size_t count, capacity;
    bool failed;
};

static bool add_name(void *arg, const broker_queue_info *q)
{
    struct names *n = arg;
    if (n->count == n->capacity) {
        size_t capacity = n->capacity ? n->capacity * 2 : 64;
        char **items = realloc(n->items, capacity * sizeof *items);
        n->failed = !items;
        if (n->failed)
            return false;
        n->items = items;
        n->capacity = capacity;
    }
    n->items[n->count] = strdup(q->name);
    n->failed = !n->items[n->count];
    n->count += !n->failed;
    return !n->failed;
}

static void names_release(struct names *n)
{
    for (size_t i = 0; i < n->count; i++)
        free(n->items[i]);
    free(n->items);
}

static bool write_queue(void *arg, const broker_queue_info *q)
{
    struct json *j = arg;
    json_open(j, '{');
    json_put_text(j, "name", q->name);
    json_put_bool(j, "paused", q->paused);
    json_key(j, "settings");
    json_open(j, '{');
    settings_json(j, &q->settings);
    json_close(j, '}');
    json_key(j, "groups");
    json_open(j, '[');
    return true;
}

static bool write_group(void *arg, const broker_group_info *g)
{
    struct json *j = arg;
    json_open(j, '{');
    json_put_text(j, "name", g->name);
    group_settings_json(j, &g->settings);
    json_close(j, '}');
    return true;
}

static bool write_binding(void *arg, const char *pattern)
{
    json_text(arg, pattern);
    return true;
}

static broker_error write_definition(struct cli *cli, struct json *j, const char *queue)
{
    broker_error error = broker_queue_describe(cli->broker, queue, write_queue, write_group, j);
    if (error != BROKER_OK)
        return error;
    json_close(j, ']');
    json_key(j, "bindings");
    json_open(j, '[');
    error = broker_queue_bindings(cli->broker, queue, write_binding, j);
    json_close(j, ']');
    json_close(j, '}');
    return error;
}

/* The whole document, compact. */
static enum cli_exit write_document(struct cli *cli, const struct names *names, struct text *out)
{
    struct json j = {.out = out};
    json_open(&j, '{');
    json_put_text(&j, "format", DEFINITIONS_FORMAT);
    json_put_u64(&j, "version", DEFINITIONS_VERSION);
    json_key(&j, "queues");
    json_open(&j, '[');
    for (size_t i = 0; i < names->count; i++) {
        broker_error error = write_definition(cli, &j, names->items[i]);
        if (error != BROKER_OK)
            return cli_fail(cli, error, "export queue '%s'", names->items[i]);
    }
    json_close(&j, ']');
    json_close(&j, '}');
    return CLI_OK;
}

/* As people read it. NULL: no memory. */
static char *indent(const struct text *compact)
{
    json_t *document = compact->failed ? NULL : json_loadb(compact->bytes, compact->len, 0, NULL);
    char *text = document ? json_dumps(document, JSON_INDENT(2)) : NULL;
    json_decref(document);
    return text;
}

/* To a new file beside it first: an export that fails half-way leaves the old one. */
static enum cli_exit write_file(struct cli *cli, const char *path, const char *text)
{
    char temporary[4096];
    if ((size_t)snprintf(temporary, sizeof temporary, "%s.tmp", path) >= sizeof temporary)
        return cli_complain(cli, CLI_FAILED, "cannot write '%s': the name is too long", path);
    FILE *f = fopen(temporary, "we");
    bool ok = f && fprintf(f, "%s\n", text) > 0 && fflush(f) == 0 && fsync(fileno(f)) == 0;
    int error = errno;
    if (f && fclose(f) != 0 && ok) {
        ok = false;
        error = errno;
    }
    if (ok && rename(temporary, path) == 0)
        return CLI_OK;
    error = ok ? errno : error;
    if (f)
        unlink(temporary);
    return cli_complain(cli, CLI_FAILED, "cannot write '%s': %s", path, strerror(error));
}

static enum cli_exit run_export(struct cli *cli, const void *options, int count, char **operands)
{
    struct names names = {0};
    struct text compact = {0};
    enum cli_exit code = cli_connect(cli, NULL);
    if (code != CLI_OK)
        return code;
    broker_error error = broker_queue_list(cli->broker, NULL, add_name, &names);
    if (error != BROKER_OK)
        code = cli_fail(cli, error, "list queues");
    else if (names.failed)
        code = cli_complain(cli, CLI_FAILED, "out of memory for the names of the queues");
    else
        code = write_document(cli, &names, &compact);
    char *text = code == CLI_OK ? indent(&compact) : NULL;
    if (code == CLI_OK && !text)
        code = cli_complain(cli, CLI_FAILED, "out of memory for the document");
    if (code == CLI_OK && count > 0 && strcmp(operands[0], "-") != 0) {
        code = write_file(cli, operands[0], text);
    } else if (code == CLI_OK) {
        struct text out = {0};
        text_addf(&out, "%s\n", text);
        code = cli_print(cli, &out) ? CLI_OK : CLI_FAILED;
    }
    free(text);
    text_release(&compact);
    names_release(&names);
    return code;
}

/* ---- reading ------------------------------------------------------------------------------------------------------ */

static const struct arg_option import_options[] = {
    {"alter", 0, ARG_FLAG, NULL, NULL, "give what is there the settings of the file",
     offsetof(struct import_options, alter), 0, 0},
    {"dry-run", 0, ARG_FLAG, NULL, NULL, "only say what would be done", offsetof(struct import_options, dry_run), 0, 0},
    {"quiet", 'q', ARG_FLAG, NULL, NULL, "say nothing unless it fails", offsetof(struct import_options, quiet), 0, 0},
    {0},
};

static enum cli_exit run_import(struct cli *cli, const void *options, int count, char **operands)
{
    const char *path = count > 0 ? operands[0] : "-";
    bool is_stdin = strcmp(path, "-") == 0;
    json_error_t wrong;
    FILE *f = is_stdin ? stdin : fopen(path, "re");
    if (!f)
        return cli_complain(cli, CLI_FAILED, "cannot open '%s': %s", path, strerror(errno));
    json_t *document = json_loadf(f, JSON_REJECT_DUPLICATES, &wrong);
    if (!is_stdin)
        fclose(f);
    if (!document)
        return cli_complain(cli, CLI_FAILED, "%s, line %d, column %d: %s", is_stdin ? "standard input" : path,
                            wrong.line, wrong.column, wrong.text);
    enum cli_exit code = definitions_import(cli, options, document);
    json_decref(document);
    return code;
}

static const char export_details[] = "One JSON document: queues with their settings, groups with theirs (not their "
                                     "positions), bindings. No messages: for\n"
                                     "those, broker backup. Without FILE, to standard output.\n"
                                     "\n"
                                     "  broker export definitions.json\n"
                                     "  broker export | broker --url broker://other:7440 import\n";
static const char import_details[] = "Creates what is missing: queues, groups (from the beginning), bindings. What is "
                                     "there and differs is left as it is,\n"
                                     "and said, unless --alter. Nothing is deleted. What a queue leaves out is the "
                                     "default for a new one, and not touched\n"
                                     "in one that is there. The whole file is checked before anything is done.\n"
                                     "\n"
                                     "  broker import definitions.json --dry-run\n"
                                     "  broker import definitions.json --alter\n";

const struct command definitions_commands[] = {
    {"export", "[FILE]", 0, 1, "definitions of all queues as one readable file", export_details, NULL, 0, run_export},
    {"import", "[FILE]", 0, 1, "create what a file of definitions says", import_details, import_options,
     sizeof(struct import_options), run_import},
    {0},
};
