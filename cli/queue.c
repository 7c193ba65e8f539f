/* broker queue ...: create, alter, delete, pause, resume, purge, list, describe. */
#include "cli.h"
#include "listing.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct settings_options {
    struct arg_number lease_ms, max_message_bytes, log_max_age_ms, log_max_bytes, log_max_messages;
    int retention, sync;
    bool exist_ok, quiet;
};

#define AT(field) offsetof(struct settings_options, field)
static const struct arg_option create_options[] = {
    {"exist-ok", 0, ARG_FLAG, NULL, NULL, "no error if the queue is there with other settings", AT(exist_ok), 0, 0},
    {"quiet", 'q', ARG_FLAG, NULL, NULL, "say nothing unless it fails", AT(quiet), 0, 0},
    {"retention", 0, ARG_CHOICE, "work|log", NULL, "keep until every group settled it, or by age, bytes, count",
     AT(retention), 0, 0},
    {"sync", 0, ARG_CHOICE, CLI_SYNC_CHOICES, NULL, "when a publish is confirmed", AT(sync), 0, 0},
    {"lease", 0, ARG_DURATION, "TIME", NULL, "how long a delivered message is hidden", AT(lease_ms), 1, 86400000},
    {"max-message", 0, ARG_SIZE, "SIZE", NULL, "largest message; 0: the broker's limit", AT(max_message_bytes), 0,
     UINT32_MAX},
    {"max-age", 0, ARG_DURATION, "TIME", NULL, "log retention: let go what is older; 0: never", AT(log_max_age_ms), 0,
     0},
    {"max-bytes", 0, ARG_SIZE, "SIZE", NULL, "log retention: let go the oldest above this; 0: never", AT(log_max_bytes),
     0, 0},
    {"max-messages", 0, ARG_NUMBER, "N", NULL, "log retention: the same in messages; 0: never", AT(log_max_messages), 0,
     0},
    {0},
};
#undef AT
#define ALTER_OPTIONS (create_options + 1) /* without exist-ok */

struct destroy_options {
    bool yes;
};
static const struct arg_option destroy_options[] = {
    {"yes", 'y', ARG_FLAG, NULL, NULL, "do not ask (without a terminal nobody is asked)",
     offsetof(struct destroy_options, yes), 0, 0},
    {0},
};

static broker_queue_settings settings_from(const struct settings_options *o)
{
    broker_queue_settings s = {.size = sizeof s};
    s.set = (o->retention ? BROKER_SET_RETENTION : 0) | (o->sync ? BROKER_SET_SYNC : 0) |
            (o->lease_ms.given ? BROKER_SET_LEASE_MS : 0) |
            (o->max_message_bytes.given ? BROKER_SET_MAX_MESSAGE_BYTES : 0) |
            (o->log_max_age_ms.given ? BROKER_SET_LOG_MAX_AGE_MS : 0) |
            (o->log_max_bytes.given ? BROKER_SET_LOG_MAX_BYTES : 0) |
            (o->log_max_messages.given ? BROKER_SET_LOG_MAX_MESSAGES : 0);
    s.retention = (broker_retention)o->retention;
    s.sync = cli_sync(o->sync);
    s.lease_ms = (uint32_t)o->lease_ms.value;
    s.max_message_bytes = (uint32_t)o->max_message_bytes.value;
    s.log_max_age_ms = o->log_max_age_ms.value;
    s.log_max_bytes = o->log_max_bytes.value;
    s.log_max_messages = o->log_max_messages.value;
    return s;
}

/* "queue 'orders' created", or {"queue": "orders", "done": "created"}. */
static enum cli_exit told(struct cli *cli, const char *queue, const char *done)
{
    struct text out = {0};
    if (cli->common.json) {
        struct json j = {.out = &out};
        json_open(&j, '{');
        json_put_text(&j, "queue", queue);
        json_put_text(&j, "done", done);
        json_close(&j, '}');
        text_add(&out, "\n", 1);
    } else {
        text_addf(&out, "queue '%s' %s\n", queue, done);
    }
    return cli_print(cli, &out) ? CLI_OK : CLI_FAILED;
}

static enum cli_exit create(struct cli *cli, const struct settings_options *o, const char *queue)
{
    broker_queue_settings settings = settings_from(o);
    broker_error error = broker_queue_create(cli->broker, queue, &settings);
    bool existed = error == BROKER_QUEUE_EXISTS && o->exist_ok;
    if (error != BROKER_OK && !existed)
        return cli_fail(cli, error, "create queue '%s'", queue);
    return o->quiet ? CLI_OK : told(cli, queue, existed ? "exists already" : "created");
}

/* Names from standard input, one a line: a hundred thousand queues need not be as many connections. */
static enum cli_exit create_each(struct cli *cli, const struct settings_options *o)
{
    enum cli_exit code = CLI_OK;
    char *line = NULL;
    size_t capacity = 0;
    while (code == CLI_OK && getline(&line, &capacity, stdin) > 0) {
        line[strcspn(line, "\n")] = '\0';
        if (*line)
            code = create(cli, o, line);
    }
    free(line);
    return code;
}

static enum cli_exit run_create(struct cli *cli, const void *options, int count, char **operands)
{
    enum cli_exit code = cli_connect(cli, NULL);
    if (code != CLI_OK)
        return code;
    return strcmp(operands[0], "-") == 0 ? create_each(cli, options) : create(cli, options, operands[0]);
}

static enum cli_exit run_alter(struct cli *cli, const void *options, int count, char **operands)
{
    broker_queue_settings settings = settings_from(options);
    if (settings.set == 0)
        return cli_complain(cli, CLI_USAGE, "nothing to alter: give at least one setting, such as --lease 1min");
    enum cli_exit code = cli_connect(cli, NULL);
    if (code != CLI_OK)
        return code;
    broker_error error = broker_queue_alter(cli->broker, operands[0], &settings);
    if (error != BROKER_OK)
        return cli_fail(cli, error, "alter queue '%s'", operands[0]);
    return ((const struct settings_options *)options)->quiet ? CLI_OK : told(cli, operands[0], "altered");
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
    return told(cli, queue, done);
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

static enum cli_exit run_purge(struct cli *cli, const void *options, int count, char **operands)
{
    const struct destroy_options *o = options;
    if (!cli_confirm(o->yes, "Throw away every message of queue", operands[0]))
        return cli_complain(cli, CLI_FAILED, "queue '%s' not purged", operands[0]);
    enum cli_exit code = cli_connect(cli, NULL);
    if (code != CLI_OK)
        return code;
    uint64_t purged = 0;
    broker_error error = broker_queue_purge(cli->broker, operands[0], &purged);
    if (error != BROKER_OK)
        return cli_fail(cli, error, "purge queue '%s'", operands[0]);
    struct text out = {0};
    if (cli->common.json) {
        struct json j = {.out = &out};
        json_open(&j, '{');
        json_put_text(&j, "queue", operands[0]);
        json_put_text(&j, "done", "purged");
        json_put_u64(&j, "purged", purged);
        json_close(&j, '}');
        text_add(&out, "\n", 1);
    } else {
        text_addf(&out, "queue '%s': %" PRIu64 " messages purged\n", operands[0], purged);
    }
    return cli_print(cli, &out) ? CLI_OK : CLI_FAILED;
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

static const char create_details[] = "Creating a queue that is there with the same settings is no error. With '-' the "
                                     "names are read from standard input,\n"
                                     "one a line.\n"
                                     "\n"
                                     "  broker queue create orders --lease 1min\n"
                                     "  broker queue create audit --retention log --max-age 30d --max-bytes 10GiB\n";

#define SETTINGS_BYTES sizeof(struct settings_options)
#define DESTROY_BYTES  sizeof(struct destroy_options)
const struct command queue_commands[] = {
    {"queue create", "QUEUE", 1, 1, "create a queue", create_details, create_options, SETTINGS_BYTES, run_create},
    {"queue alter", "QUEUE", 1, 1, "change settings of a queue", NULL, ALTER_OPTIONS, SETTINGS_BYTES, run_alter},
    {"queue delete", "QUEUE", 1, 1, "delete a queue, its messages and groups", NULL, destroy_options, DESTROY_BYTES,
     run_delete},
    {"queue pause", "QUEUE", 1, 1, "hand out nothing; publishing goes on", NULL, NULL, 0, run_pause},
    {"queue resume", "QUEUE", 1, 1, "hand out again", NULL, NULL, 0, run_resume},
    {"queue purge", "QUEUE", 1, 1, "throw away every message of a queue", NULL, destroy_options, DESTROY_BYTES,
     run_purge},
    {"queue list", "[PREFIX]", 0, 1, "list queues", NULL, NULL, 0, run_list},
    {"queue describe", "QUEUE", 1, 1, "settings, figures and groups of a queue", NULL, NULL, 0, run_describe},
    {0},
};
