/* broker scheduled ...: what waits for its time: list, count, cancel, reschedule. */
#include "peek.h"

#include <inttypes.h>

struct scheduled_options {
    struct selection_options selection;
    struct arg_number count, delay_ms;
    const char *at;
    int format;
    bool all, dry_run;
};

#define AT(field) offsetof(struct scheduled_options, field)
#define SELECTION_OPTIONS                                                                                              \
    SELECTION_SEQ_OPTION(struct scheduled_options, selection),                                                         \
        SELECTION_RANGE_OPTIONS(struct scheduled_options, selection)
#define SCHEDULED_BYTES sizeof(struct scheduled_options)

static const struct arg_option list_options[] = {
    {"count", 'n', ARG_NUMBER, "N", "100", "most messages", AT(count), 1, 0},
    {"all", 'a', ARG_FLAG, NULL, NULL, "as many as there are", AT(all), 0, 0},
    {"format", 0, ARG_CHOICE, PEEK_STYLES, "long", "bodies, one JSON object a message, or a line for people",
     AT(format), 0, 0},
    SELECTION_OPTIONS,
    {0},
};
static const struct arg_option count_options[] = {
    SELECTION_OPTIONS,
    {0},
};
static const struct arg_option cancel_options[] = {
    {"all", 'a', ARG_FLAG, NULL, NULL, "everything that waits for its time", AT(all), 0, 0},
    {"dry-run", 0, ARG_FLAG, NULL, NULL, "only count what matches", AT(dry_run), 0, 0},
    SELECTION_OPTIONS,
    {0},
};
static const struct arg_option reschedule_options[] = {
    {"seq", 's', ARG_LIST, "SEQ", NULL, "this message; may be repeated", AT(selection.seqs), 0, 0},
    {"delay", 0, ARG_DURATION, "TIME", NULL, "due so long from now; 0: at once", AT(delay_ms), 0, 0},
    {"at", 0, ARG_TEXT, "TIME", NULL, "due at " ARGS_WHEN_HELP, AT(at), 0, 0},
    {0},
};
#undef AT

static struct selection selection; /* large */

static bool select_scheduled(struct cli *cli, const struct scheduled_options *o)
{
    if (!selection_fill(cli, &o->selection, &selection))
        return false;
    selection.scan.state = BROKER_SCAN_SCHEDULED;
    return true;
}

static enum cli_exit run_list(struct cli *cli, const void *options, int count, char **operands)
{
    const struct scheduled_options *o = options;
    struct peek_job job = {operands[0], o->all ? UINT64_MAX : o->count.value,
                           cli->common.json ? MESSAGE_JSON : (enum message_style)o->format, NULL};
    if (!select_scheduled(cli, o))
        return CLI_USAGE;
    enum cli_exit code = cli_connect(cli, NULL);
    if (code != CLI_OK)
        return code;
    code = peek_print(cli, &job, &selection);
    return code == CLI_TIMED_OUT ? CLI_OK : code; /* that nothing is scheduled is an answer */
}

static enum cli_exit run_scan(struct cli *cli, const struct scheduled_options *o, const struct scan_job *job)
{
    if (!select_scheduled(cli, o))
        return CLI_USAGE;
    enum cli_exit code = cli_connect(cli, NULL);
    return code == CLI_OK ? scan_run(cli, job, &selection) : code;
}

static enum cli_exit run_count(struct cli *cli, const void *options, int count, char **operands)
{
    struct scan_job job = {.queue = operands[0],
                           .action = BROKER_SCAN_COUNT,
                           .done = "scheduled",
                           .json_name = "scheduled",
                           .skipped_why = "",
                           .verb = "count what is scheduled in"};
    return run_scan(cli, options, &job);
}

static enum cli_exit run_cancel(struct cli *cli, const void *options, int count, char **operands)
{
    const struct scheduled_options *o = options;
    struct scan_job job = {.queue = operands[0],
                           .action = BROKER_SCAN_DELETE,
                           .done = "cancelled",
                           .would = "would be cancelled",
                           .json_name = "cancelled",
                           .skipped_why = "not possible",
                           .verb = "cancel what is scheduled in",
                           .dry_run = o->dry_run};
    struct selection asked;
    if (!selection_fill(cli, &o->selection, &asked))
        return CLI_USAGE;
    if (asked.is_all == !o->all)
        return cli_complain(cli, CLI_USAGE,
                            asked.is_all ? "which? give --seq, conditions, or --all"
                                         : "--all and conditions exclude each other");
    return run_scan(cli, o, &job);
}

static enum cli_exit run_reschedule(struct cli *cli, const void *options, int count, char **operands)
{
    const struct scheduled_options *o = options;
    uint64_t at_ms = 0, seqs[ARG_LIST_MAX];
    if (!o->at == !o->delay_ms.given)
        return cli_complain(cli, CLI_USAGE, "to when? give --at or --delay, one of them");
    if (o->at && !cli_when(cli, "at", o->at, &at_ms))
        return CLI_USAGE;
    if (o->selection.seqs.count == 0)
        return cli_complain(cli, CLI_USAGE, "which? give --seq");
    for (size_t i = 0; i < o->selection.seqs.count; i++) {
        uint64_t last;
        if (!args_seqs(o->selection.seqs.items[i], &seqs[i], &last) || last != seqs[i])
            return cli_complain(cli, CLI_USAGE, "--seq: '%s' is not a seq such as 17", o->selection.seqs.items[i]);
    }
    enum cli_exit code = cli_connect(cli, NULL);
    if (code != CLI_OK)
        return code;
    for (size_t i = 0; i < o->selection.seqs.count; i++) {
        broker_error error = o->at ? broker_reschedule(cli->broker, operands[0], seqs[i], at_ms)
                                   : broker_reschedule_delay(cli->broker, operands[0], seqs[i], o->delay_ms.value);
        if (error != BROKER_OK)
            return cli_fail(cli, error, "reschedule message %" PRIu64 " of queue '%s'", seqs[i], operands[0]);
        code = cli_told(cli, operands[0], "message", o->selection.seqs.items[i], "rescheduled");
        if (code != CLI_OK)
            return code;
    }
    return CLI_OK;
}

static const char list_details[] = "In order of seq, not of time.\n"
                                   "\n"
                                   "  broker scheduled list reminders --key customer-7\n";
static const char cancel_details[] = "What was due in the meantime is no longer cancelled.\n"
                                     "\n"
                                     "  broker scheduled cancel reminders --seq 17\n"
                                     "  broker scheduled cancel reminders --key customer-7 --dry-run\n";
static const char reschedule_details[] = "A message that does not wait (any more) is refused.\n"
                                         "\n"
                                         "  broker scheduled reschedule reminders --seq 17 --at 2027-01-01T09:00:00Z\n"
                                         "  broker scheduled reschedule reminders --seq 17 --delay 0\n";

const struct command scheduled_commands[] = {
    {"scheduled list", "QUEUE", 1, 1, "messages that wait for their time", list_details, list_options, SCHEDULED_BYTES,
     run_list},
    {"scheduled count", "QUEUE", 1, 1, "how many wait for their time", NULL, count_options, SCHEDULED_BYTES, run_count},
    {"scheduled cancel", "QUEUE", 1, 1, "delete messages before their time comes", cancel_details, cancel_options,
     SCHEDULED_BYTES, run_cancel},
    {"scheduled reschedule", "QUEUE", 1, 1, "give messages another time", reschedule_details, reschedule_options,
     SCHEDULED_BYTES, run_reschedule},
    {0},
};
