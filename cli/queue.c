/* broker queue ...: create, alter, delete, pause, resume, list, describe; purge is in mend.c. */
#include "cli.h"
#include "listing.h"
#include "settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct destroy_options {
    bool yes;
};
static const struct arg_option destroy_options[] = {
    {"yes", 'y', ARG_FLAG, NULL, NULL, "do not ask (without a terminal nobody is asked)",
     offsetof(struct destroy_options, yes), 0, 0},
    {0},
};

static enum cli_exit create(struct cli *cli, const struct settings_options *o, const broker_queue_settings *settings,
                            const char *queue)
{
    broker_error error = broker_queue_create(cli->broker, queue, settings);
    bool existed = error == BROKER_QUEUE_EXISTS && o->exist_ok;
    if (error != BROKER_OK && !existed)
        return cli_fail(cli, error, "create queue '%s'", queue);
    return o->quiet ? CLI_OK : cli_told(cli, queue, NULL, NULL, existed ? "exists already" : "created");
}

/* Names from standard input, one a line: a hundred thousand queues need not be as many connections. */
static enum cli_exit create_each(struct cli *cli, const struct settings_options *o,
                                 const broker_queue_settings *settings)
{
    enum cli_exit code = CLI_OK;
    char *line = NULL;
    size_t capacity = 0;
    while (code == CLI_OK && getline(&line, &capacity, stdin) > 0) {
        line[strcspn(line, "\n")] = '\0';
        if (*line)
            code = create(cli, o, settings, line);
    }
    free(line);
    return code;
}

static enum cli_exit run_create(struct cli *cli, const void *options, int count, char **operands)
{
    broker_queue_settings settings;
    if (!settings_from_options(cli, options, &settings))
        return CLI_USAGE;
    enum cli_exit code = cli_connect(cli, NULL);
    if (code != CLI_OK)
        return code;
    return strcmp(operands[0], "-") == 0 ? create_each(cli, options, &settings)
                                         : create(cli, options, &settings, operands[0]);
}

static enum cli_exit run_alter(struct cli *cli, const void *options, int count, char **operands)
{
    broker_queue_settings settings;
    if (!settings_from_options(cli, options, &settings))
        return CLI_USAGE;
    if (settings.set == 0)
        return cli_complain(cli, CLI_USAGE, "nothing to alter: give at least one setting, such as --lease 1min");
    enum cli_exit code = cli_connect(cli, NULL);
    if (code != CLI_OK)
        return code;
    broker_error error = broker_queue_alter(cli->broker, operands[0], &settings);
    if (error != BROKER_OK)
        return cli_fail(cli, error, "alter queue '%s'", operands[0]);
    return ((const struct settings_options *)options)->quiet ? CLI_OK
                                                             : cli_told(cli, operands[0], NULL, NULL, "altered");
}

typedef broker_error queue_call(broker *b, const char *queue);

static enum cli_exit run_simple(struct cli *cli, const char *queue, queue_call *call, const char *doing,
                                const char *done)
{
    enum cli_exit code = cli_connect(cli, NULL);
    if (code != CLI_OK)
        return code;
    broker_error error = call(cli->broker, queue);
    if (error != BROKER_OK)
        return cli_fail(cli, error, "%s queue '%s'", doing, queue);
    return cli_told(cli, queue, NULL, NULL, done);
}

static enum cli_exit run_pause(struct cli *cli, const void *options, int count, char **operands)
{
    return run_simple(cli, operands[0], broker_queue_pause, "pause", "paused");
}

static enum cli_exit run_resume(struct cli *cli, const void *options, int count, char **operands)
{
    return run_simple(cli, operands[0], broker_queue_resume, "resume", "resumed");
}

static enum cli_exit run_delete(struct cli *cli, const void *options, int count, char **operands)
{
    const struct destroy_options *o = options;
    if (!cli_confirm(o->yes, "Delete queue", operands[0]))
        return cli_complain(cli, CLI_FAILED, "queue '%s' not deleted", operands[0]);
    return run_simple(cli, operands[0], broker_queue_delete, "delete", "deleted");
}

static enum cli_exit run_list(struct cli *cli, const void *options, int count, char **operands)
{
    struct listing l;
    enum cli_exit code = cli_connect(cli, NULL);
    if (code != CLI_OK)
        return code;
    listing_begin(&l, cli, '[');
    broker_error error = broker_queue_list(cli->broker, count > 0 ? operands[0] : NULL, listing_queue, &l);
    if (error != BROKER_OK) {
        text_release(&l.out);
        return cli_fail(cli, error, "list queues");
    }
    if (!l.as_json && l.rows == 0 && count > 0)
        text_addf(&l.out, "no queue's name begins with '%s'\n", operands[0]);
    else if (!l.as_json && l.rows == 0)
        text_addf(&l.out, "no queues yet: broker queue create QUEUE\n");
    return listing_end(&l, ']');
}

static enum cli_exit run_describe(struct cli *cli, const void *options, int count, char **operands)
{
    struct listing l;
    enum cli_exit code = cli_connect(cli, NULL);
    if (code != CLI_OK)
        return code;
    listing_begin(&l, cli, '{');
    broker_error error = broker_queue_describe(cli->broker, operands[0], listing_queue_at_length, listing_group, &l);
    if (error != BROKER_OK) {
        text_release(&l.out);
        return cli_fail(cli, error, "describe queue '%s'", operands[0]);
    }
    if (l.as_json)
        json_close(&l.json, ']');
    return listing_end(&l, '}');
}

static const char create_details[] =
    "Creating a queue that is there with the same settings is no error. With '-' the names are read from standard "
    "input,\n"
    "one a line.\n"
    "\n"
    "  broker queue create orders --lease 1min --max-attempts 5 --backoff exponential:1s..10min,jitter=20%\n"
    "  broker queue create audit --retention log --keep-age 30d --keep-bytes 10GiB\n"
    "  broker queue create prices --retention log --compact yes\n"
    "  broker queue create jobs --max-messages 1M --overflow reject --ttl 1d --dead-letter-expired yes\n";
static const char alter_details[] =
    "Only what is given changes. A change that the broker cannot honour is refused with the reason.\n"
    "\n"
    "  broker queue alter orders --backoff none --max-attempts 0\n"
    "  broker queue alter orders --dead-letter graveyard\n";

#define SETTINGS_BYTES sizeof(struct settings_options)
#define DESTROY_BYTES  sizeof(struct destroy_options)
const struct command queue_commands[] = {
    {"queue create", "QUEUE", 1, 1, "create a queue", create_details, settings_create_options, SETTINGS_BYTES,
     run_create},
    {"queue alter", "QUEUE", 1, 1, "change settings of a queue", alter_details, SETTINGS_ALTER_OPTIONS, SETTINGS_BYTES,
     run_alter},
    {"queue delete", "QUEUE", 1, 1, "delete a queue, its messages and groups", NULL, destroy_options, DESTROY_BYTES,
     run_delete},
    {"queue pause", "QUEUE", 1, 1, "hand out nothing; publishing goes on", NULL, NULL, 0, run_pause},
    {"queue resume", "QUEUE", 1, 1, "hand out again", NULL, NULL, 0, run_resume},
    {"queue list", "[PREFIX]", 0, 1, "list queues", NULL, NULL, 0, run_list},
    {"queue describe", "QUEUE", 1, 1, "settings, figures and groups of a queue", NULL, NULL, 0, run_describe},
    {0},
};
