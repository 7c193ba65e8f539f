/* broker delete, purge, move: what is in a queue goes, or goes elsewhere. */
#include "selection.h"

#include <inttypes.h>

struct mend_options {
    struct selection_options selection;
    const char *to;
    bool dry_run, yes;
};

#define AT(field) offsetof(struct mend_options, field)
#define DRY_RUN_OPTION                                                                                                 \
    {                                                                                                                  \
        "dry-run", 0, ARG_FLAG, NULL, NULL, "only count what matches", AT(dry_run), 0, 0                               \
    }
#define YES_OPTION                                                                                                     \
    {                                                                                                                  \
        "yes", 'y', ARG_FLAG, NULL, NULL, "do not ask (without a terminal nobody is asked)", AT(yes), 0, 0             \
    }
#define MEND_BYTES sizeof(struct mend_options)

static const struct arg_option delete_options[] = {
    SELECTION_SEQ_OPTION(struct mend_options, selection),
    DRY_RUN_OPTION,
    {0},
};
static const struct arg_option purge_options[] = {
    YES_OPTION,
    DRY_RUN_OPTION,
    SELECTION_RANGE_OPTIONS(struct mend_options, selection),
    {0},
};
static const struct arg_option move_options[] = {
    {"to", 0, ARG_TEXT, "QUEUE", NULL, "where they go", AT(to), 0, 0},
    DRY_RUN_OPTION,
    SELECTION_SEQ_OPTION(struct mend_options, selection),
    SELECTION_RANGE_OPTIONS(struct mend_options, selection),
    {0},
};
#undef AT

static struct selection selection; /* large */

static enum cli_exit run_delete(struct cli *cli, const void *options, int count, char **operands)
{
    const struct mend_options *o = options;
    struct scan_job job = {.queue = operands[0],
                           .action = BROKER_SCAN_DELETE,
                           .done = "deleted",
                           .would = "would be deleted",
                           .json_name = "deleted",
                           .skipped_why = "not possible",
                           .verb = "delete messages of",
                           .dry_run = o->dry_run};
    if (o->selection.seqs.count == 0)
        return cli_complain(cli, CLI_USAGE,
                            "which messages? give --seq; by other conditions: broker purge; the queue itself: broker "
                            "queue delete");
    if (!selection_fill(cli, &o->selection, &selection))
        return CLI_USAGE;
    enum cli_exit code = cli_connect(cli, NULL);
    return code == CLI_OK ? scan_run(cli, &job, &selection) : code;
}

/* Everything at once: no walk over the messages. */
static enum cli_exit purge_all(struct cli *cli, const char *queue)
{
    uint64_t purged = 0;
    broker_error error = broker_queue_purge(cli->broker, queue, &purged);
    if (error != BROKER_OK)
        return cli_fail(cli, error, "purge queue '%s'", queue);
    struct text out = {0};
    if (cli->common.json) {
        struct json j = {.out = &out};
        json_open(&j, '{');
        json_put_text(&j, "queue", queue);
        json_put_text(&j, "done", "purged");
        json_put_u64(&j, "purged", purged);
        json_close(&j, '}');
        text_add(&out, "\n", 1);
    } else {
        text_addf(&out, "queue '%s': %" PRIu64 " message%s purged\n", queue, purged, purged == 1 ? "" : "s");
    }
    return cli_print(cli, &out) ? CLI_OK : CLI_FAILED;
}

static enum cli_exit run_purge(struct cli *cli, const void *options, int count, char **operands)
{
    const struct mend_options *o = options;
    struct scan_job job = {.queue = operands[0],
                           .action = BROKER_SCAN_DELETE,
                           .done = "purged",
                           .would = "would be purged",
                           .json_name = "purged",
                           .skipped_why = "not possible",
                           .verb = "purge",
                           .dry_run = o->dry_run};
    if (!selection_fill(cli, &o->selection, &selection))
        return CLI_USAGE;
    const char *question =
        selection.is_all ? "Throw away every message of queue" : "Throw away the matching messages of queue";
    if (!o->dry_run && !cli_confirm(o->yes, question, operands[0]))
        return cli_complain(cli, CLI_FAILED, "queue '%s' not purged", operands[0]);
    enum cli_exit code = cli_connect(cli, NULL);
    if (code != CLI_OK)
        return code;
    return selection.is_all && !o->dry_run ? purge_all(cli, operands[0]) : scan_run(cli, &job, &selection);
}

static enum cli_exit run_move(struct cli *cli, const void *options, int count, char **operands)
{
    const struct mend_options *o = options;
    struct scan_job job = {.queue = operands[0],
                           .action = BROKER_SCAN_MOVE,
                           .done = "moved",
                           .would = "would be moved",
                           .json_name = "moved",
                           .skipped_why = "leased to a consumer",
                           .verb = "move messages of",
                           .dry_run = o->dry_run};
    if (!o->to)
        return cli_complain(cli, CLI_USAGE, "where to? give --to QUEUE");
    if (!selection_fill(cli, &o->selection, &selection))
        return CLI_USAGE;
    selection.scan.target = o->to;
    enum cli_exit code = cli_connect(cli, NULL);
    return code == CLI_OK ? scan_run(cli, &job, &selection) : code;
}

static const char delete_details[] =
    "Gone for every group, also what waits for its time. Ends with code 1 if none of them was there.\n"
    "\n"
    "  broker delete orders --seq 17 --seq 20-29\n";
static const char purge_details[] = "Without conditions every message goes at once. With conditions the queue is "
                                    "walked through, and what matches goes,\n"
                                    "for every group; all conditions must hold.\n"
                                    "\n"
                                    "  broker purge orders --until ago:7d --dry-run\n"
                                    "  broker purge orders --key customer-7 -H type=test\n";
static const char move_details[] = "Each message goes in one step: it is never in both queues and never in none. It is "
                                   "a new message there, with a new\n"
                                   "seq. What a consumer has at the moment is skipped, and counted.\n"
                                   "\n"
                                   "  broker move orders --to orders.slow --topic 'orders.bulk.>'\n";

const struct command mend_commands[] = {
    {"delete", "QUEUE", 1, 1, "delete messages by seq", delete_details, delete_options, MEND_BYTES, run_delete},
    {"move", "QUEUE", 1, 1, "move messages to another queue", move_details, move_options, MEND_BYTES, run_move},
    {"purge", "QUEUE", 1, 1, "throw away messages, all or those that match", purge_details, purge_options, MEND_BYTES,
     run_purge},
    {"queue purge", "QUEUE", 1, 1, "the same as purge", purge_details, purge_options, MEND_BYTES, run_purge},
    {0},
};
