/* broker group ...: create, alter, delete, seek, list. */
#include "listing.h"
#include "settings.h"

#include <string.h>

struct where_options {
    const char *where;
    struct group_options settings;
    bool yes;
};

#define WHERE_HELP "beginning, end, a seq (17), a time (2026-01-31T12:00:00Z), or an age (ago:10min)"
static const struct arg_option create_options[] = {
    {"from", 0, ARG_TEXT, "WHERE", "beginning", WHERE_HELP, offsetof(struct where_options, where), 0, 0},
    GROUP_SETTINGS_OPTIONS(struct where_options, settings),
    {0},
};
#define ALTER_OPTIONS (create_options + 1) /* without --from */
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
    } else if (text[strspn(text, "0123456789")] != '\0' && args_when(text, cli_now_ms(), &ms)) {
        *place = (struct place){BROKER_START_TIME, ms}; /* a plain number is a seq */
    } else {
        *place = (struct place){.start = BROKER_START_SEQ};
        return args_number(strncmp(text, "seq:", 4) == 0 ? text + 4 : text, &place->value);
    }
    return true;
}

static enum cli_exit bad_place(struct cli *cli, const char *option, const char *where)
{
    return cli_complain(cli, CLI_USAGE, "--%s: '%s' is not %s", option, where, WHERE_HELP);
}

static enum cli_exit run_create(struct cli *cli, const void *options, int count, char **operands)
{
    const struct where_options *o = options;
    struct place place;
    struct header_list headers;
    broker_group_settings settings;
    if (!parse_place(o->where, &place))
        return bad_place(cli, "from", o->where);
    if (!group_settings_from_options(cli, &o->settings, &headers, &settings))
        return CLI_USAGE;
    enum cli_exit code = cli_connect(cli, NULL);
    if (code != CLI_OK)
        return code;
    broker_error error =
        broker_group_create(cli->broker, operands[0], operands[1], place.start, place.value, &settings);
    if (error != BROKER_OK)
        return cli_fail(cli, error, "create group '%s' of queue '%s'", operands[1], operands[0]);
    return cli_told(cli, operands[0], "group", operands[1], "created");
}

static enum cli_exit run_alter(struct cli *cli, const void *options, int count, char **operands)
{
    const struct where_options *o = options;
    struct header_list headers;
    broker_group_settings settings;
    if (!group_settings_from_options(cli, &o->settings, &headers, &settings))
        return CLI_USAGE;
    if (settings.set == 0)
        return cli_complain(cli, CLI_USAGE, "nothing to alter: give a filter, --no-filter or --single-active");
    enum cli_exit code = cli_connect(cli, NULL);
    if (code != CLI_OK)
        return code;
    broker_error error = broker_group_alter(cli->broker, operands[0], operands[1], &settings);
    if (error != BROKER_OK)
        return cli_fail(cli, error, "alter group '%s' of queue '%s'", operands[1], operands[0]);
    return cli_told(cli, operands[0], "group", operands[1], "altered");
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
    return cli_told(cli, operands[0], "group", operands[1], "moved");
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
    return cli_told(cli, operands[0], "group", operands[1], "deleted");
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

static const char create_details[] =
    "A group is an own position on the messages of a queue; its consumers share them. With a filter it sees only what\n"
    "matches; the rest counts as settled for it.\n"
    "\n"
    "  broker group create orders audit\n"
    "  broker group create orders eu --from end --filter-topic 'orders.eu.>'\n"
    "  broker group create orders ledger --single-active yes --filter-header type=order\n";
static const char alter_details[] = "A new filter counts for what is handed out from now on.\n"
                                    "\n"
                                    "  broker group alter orders eu --filter-topic 'orders.*.created'\n"
                                    "  broker group alter orders eu --no-filter\n";
static const char seek_details[] =
    "Other groups are not touched. A time means the first message that was accepted then or later.\n"
    "\n"
    "  broker group seek orders audit --to beginning\n"
    "  broker group seek orders audit --to ago:2h\n";

#define OPTIONS_BYTES sizeof(struct where_options)
const struct command group_commands[] = {
    {"group create", "QUEUE GROUP", 2, 2, "create a group, an own position on a queue", create_details, create_options,
     OPTIONS_BYTES, run_create},
    {"group alter", "QUEUE GROUP", 2, 2, "change filter and settings of a group", alter_details, ALTER_OPTIONS,
     OPTIONS_BYTES, run_alter},
    {"group seek", "QUEUE GROUP", 2, 2, "move a group, back to read again or forward", seek_details, seek_options,
     OPTIONS_BYTES, run_seek},
    {"group delete", "QUEUE GROUP", 2, 2, "delete a group", NULL, delete_options, OPTIONS_BYTES, run_delete},
    {"group list", "QUEUE", 1, 1, "list the groups of a queue, their lag and filters", NULL, NULL, 0, run_list},
    {0},
};
