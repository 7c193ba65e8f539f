/* broker group ...: create, delete, seek, list. */
#include "listing.h"

#include <ctype.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

struct where_options {
    const char *where;
    bool yes;
};

#define WHERE_HELP "beginning, end, a seq, a time (2026-01-31T12:00:00Z), or an age (ago:10min)"
static const struct arg_option create_options[] = {
    {"from", 0, ARG_TEXT, "WHERE", "beginning", WHERE_HELP, offsetof(struct where_options, where), 0, 0},
    {0},
};
static const struct arg_option seek_options[] = {
    {"to", 0, ARG_TEXT, "WHERE", NULL, WHERE_HELP, offsetof(struct where_options, where), 0, 0},
    {0},
};
static const struct arg_option delete_options[] = {
    {"yes", 'y', ARG_FLAG, NULL, NULL, "do not ask (without a terminal nobody is asked)",
     offsetof(struct where_options, yes), 0, 0},
    {0},
};

struct place {
    broker_start start;
    uint64_t value;
};

static bool parse_place(const char *text, struct place *place)
{
    uint64_t ms;
    if (strcmp(text, "beginning") == 0) {
        *place = (struct place){BROKER_START_BEGINNING, 0};
    } else if (strcmp(text, "end") == 0) {
        *place = (struct place){BROKER_START_END, 0};
    } else if (strncmp(text, "ago:", 4) == 0 && args_duration(text + 4, &ms)) {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        uint64_t now_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
        *place = (struct place){BROKER_START_TIME, ms < now_ms ? now_ms - ms : 0};
    } else if (args_time(text, &ms)) {
        *place = (struct place){BROKER_START_TIME, ms};
    } else {
        *place = (struct place){.start = BROKER_START_SEQ};
        return args_number(strncmp(text, "seq:", 4) == 0 ? text + 4 : text, &place->value);
    }
    return true;
}

static enum cli_exit told(struct cli *cli, char **operands, const char *done)
{
    struct text out = {0};
    if (cli->common.json) {
        struct json j = {.out = &out};
        json_open(&j, '{');
        json_put_text(&j, "queue", operands[0]);
        json_put_text(&j, "group", operands[1]);
        json_put_text(&j, "done", done);
        json_close(&j, '}');
        text_add(&out, "\n", 1);
    } else {
        text_addf(&out, "group '%s' of queue '%s' %s\n", operands[1], operands[0], done);
    }
    return cli_print(cli, &out) ? CLI_OK : CLI_FAILED;
}

static enum cli_exit bad_place(struct cli *cli, const char *option, const char *where)
{
    return cli_complain(cli, CLI_USAGE, "--%s: '%s' is not %s", option, where, WHERE_HELP);
}

static enum cli_exit run_create(struct cli *cli, const void *options, int count, char **operands)
{
    const struct where_options *o = options;
    struct place place;
    if (!parse_place(o->where, &place))
        return bad_place(cli, "from", o->where);
    enum cli_exit code = cli_connect(cli, NULL);
    if (code != CLI_OK)
        return code;
    broker_error error = broker_group_create(cli->broker, operands[0], operands[1], place.start, place.value);
    if (error != BROKER_OK)
        return cli_fail(cli, error, "create group '%s' of queue '%s'", operands[1], operands[0]);
    return told(cli, operands, "created");
}

static enum cli_exit run_seek(struct cli *cli, const void *options, int count, char **operands)
{
    const struct where_options *o = options;
    struct place place;
    if (!o->where)
        return cli_complain(cli, CLI_USAGE, "where to? give --to " WHERE_HELP);
    if (!parse_place(o->where, &place))
        return bad_place(cli, "to", o->where);
    enum cli_exit code = cli_connect(cli, NULL);
    if (code != CLI_OK)
        return code;
    broker_error error = broker_group_seek(cli->broker, operands[0], operands[1], place.start, place.value);
    if (error != BROKER_OK)
        return cli_fail(cli, error, "move group '%s' of queue '%s'", operands[1], operands[0]);
    return told(cli, operands, "moved");
}

static enum cli_exit run_delete(struct cli *cli, const void *options, int count, char **operands)
{
    const struct where_options *o = options;
    if (!cli_confirm(o->yes, "Delete group", operands[1]))
        return cli_complain(cli, CLI_FAILED, "group '%s' not deleted", operands[1]);
    enum cli_exit code = cli_connect(cli, NULL);
    if (code != CLI_OK)
        return code;
    broker_error error = broker_group_delete(cli->broker, operands[0], operands[1]);
    if (error != BROKER_OK)
        return cli_fail(cli, error, "delete group '%s' of queue '%s'", operands[1], operands[0]);
    return told(cli, operands, "deleted");
}

static bool skip_queue(void *arg, const broker_queue_info *q)
{
    return true;
}

static enum cli_exit run_list(struct cli *cli, const void *options, int count, char **operands)
{
    struct listing l;
    enum cli_exit code = cli_connect(cli, NULL);
    if (code != CLI_OK)
        return code;
    listing_begin(&l, cli, '[');
    broker_error error = broker_queue_describe(cli->broker, operands[0], skip_queue, listing_group, &l);
    if (error != BROKER_OK) {
        text_release(&l.out);
        return cli_fail(cli, error, "list the groups of queue '%s'", operands[0]);
    }
    return listing_end(&l, ']');
}

#define OPTIONS_BYTES sizeof(struct where_options)
const struct command group_commands[] = {
    {"group create", "QUEUE GROUP", 2, 2, "create a group, an own position on a queue", NULL, create_options,
     OPTIONS_BYTES, run_create},
    {"group seek", "QUEUE GROUP", 2, 2, "move a group, back to read again or forward", NULL, seek_options,
     OPTIONS_BYTES, run_seek},
    {"group delete", "QUEUE GROUP", 2, 2, "delete a group", NULL, delete_options, OPTIONS_BYTES, run_delete},
    {"group list", "QUEUE", 1, 1, "list the groups of a queue", NULL, NULL, 0, run_list},
    {0},
};
