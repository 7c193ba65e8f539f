/* broker dead ...: the dead letters of a queue: look at them, send them back. */
#include "peek.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct dead_options {
    struct selection_options selection;
    struct arg_number count;
    const char *to;
    int format;
    bool all, here, dry_run;
};

#define AT(field)  offsetof(struct dead_options, field)
#define DEAD_BYTES sizeof(struct dead_options)
#define HERE_OPTION                                                                                                    \
    {                                                                                                                  \
        "here", 0, ARG_FLAG, NULL, NULL, "QUEUE itself holds the dead letters", AT(here), 0, 0                         \
    }
static const struct arg_option list_options[] = {
    {"count", 'n', ARG_NUMBER, "N", "100", "most messages", AT(count), 1, 0},
    {"all", 'a', ARG_FLAG, NULL, NULL, "as many as there are", AT(all), 0, 0},
    {"format", 0, ARG_CHOICE, PEEK_STYLES, "long", "bodies, one JSON object a message, or a line for people",
     AT(format), 0, 0},
    HERE_OPTION,
    SELECTION_SEQ_OPTION(struct dead_options, selection),
    SELECTION_RANGE_OPTIONS(struct dead_options, selection),
    {0},
};
static const struct arg_option redrive_options[] = {
    {"to", 0, ARG_TEXT, "QUEUE", NULL, "to this queue, not to the one they came from", AT(to), 0, 0},
    {"dry-run", 0, ARG_FLAG, NULL, NULL, "only count what matches", AT(dry_run), 0, 0},
    HERE_OPTION,
    SELECTION_SEQ_OPTION(struct dead_options, selection),
    SELECTION_RANGE_OPTIONS(struct dead_options, selection),
    {0},
};
#undef AT

static struct selection selection; /* large */

/* ---- where they are ---------------------------------------------------------------------------------------------- */

struct dead_place {
    char queue[300]; /* that holds them */
    bool exists;
    bool of_one; /* only those that came from the named queue */
};

static bool read_target(void *arg, const broker_queue_info *q)
{
    struct dead_place *place = arg;
    const char *name = q->settings.dead_letter;
    if (name && *name)
        snprintf(place->queue, sizeof place->queue, "%s", name);
    return false;
}

static bool no_queue(void *arg, const broker_queue_info *q)
{
    return false;
}

static bool no_group(void *arg, const broker_group_info *g)
{
    return false;
}

static bool ends_with(const char *text, const char *end)
{
    size_t len = strlen(text), end_len = strlen(end);
    return len > end_len && strcmp(text + len - end_len, end) == 0;
}

/*
 * find_dead: a queue may be named, or the one that holds its dead letters: that is clear from its name if it is the
 * default one, else --here says it.
 */
static enum cli_exit find_dead(struct cli *cli, const char *queue, bool here, struct dead_place *place)
{
    *place = (struct dead_place){.of_one = !here};
    snprintf(place->queue, sizeof place->queue, here ? "%s" : "%s.dead", queue);
    broker_error named = BROKER_OK;
    if (!here)
        named = broker_queue_describe(cli->broker, queue, read_target, no_group, place);
    if (named != BROKER_OK && named != BROKER_QUEUE_NOT_FOUND)
        return cli_fail(cli, named, "describe queue '%s'", queue);
    broker_error error = broker_queue_describe(cli->broker, place->queue, no_queue, no_group, NULL);
    if (error == BROKER_QUEUE_NOT_FOUND && !here && named == BROKER_OK && ends_with(queue, ".dead")) {
        snprintf(place->queue, sizeof place->queue, "%s", queue);
        place->of_one = false;
        error = BROKER_OK;
    }
    /* A queue that is there and has no dead letters yet is no failure; a name that nobody knows is one. */
    bool none_yet = error == BROKER_QUEUE_NOT_FOUND && !here && named == BROKER_OK;
    if (error != BROKER_OK && !none_yet)
        return cli_fail(cli, error, "find the dead letters of '%s'", queue);
    place->exists = error == BROKER_OK;
    return CLI_OK;
}

/* Connect, find, and select. *nothing: there is no queue of dead letters yet. */
static enum cli_exit select_dead(struct cli *cli, const struct dead_options *o, const char *queue,
                                 struct dead_place *place)
{
    if (!selection_fill(cli, &o->selection, &selection))
        return CLI_USAGE;
    enum cli_exit code = cli_connect(cli, NULL);
    if (code == CLI_OK)
        code = find_dead(cli, queue, o->here, place);
    if (code != CLI_OK || !place->of_one)
        return code;
    /* Several queues may share one for their dead letters. */
    static const char name[] = "dead-queue";
    if (!headers_add(&selection.headers, name, sizeof name - 1, queue, strlen(queue)))
        return cli_complain(cli, CLI_USAGE, "--header: too many");
    selection.scan.filter.header_count = selection.headers.count;
    return CLI_OK;
}

/* ---- the commands -------------------------------------------------------------------------------------------------- */

static void add_header_of(struct text *out, const broker_msg *m, const char *name)
{
    size_t len;
    const char *value = broker_msg_header(m, name, &len);
    if (value)
        text_add(out, value, len);
    else
        text_add(out, "-", 1);
}

/* "3  max_attempts  orders/default seq 17, 5 attempts, dead since TIME: BODY" */
static void dead_line(struct text *out, const broker_msg *m)
{
    char time[TIME_TEXT_BYTES];
    size_t len;
    text_addf(out, "%" PRIu64 "  %s  ", broker_msg_seq(m), format_time(time, broker_msg_time_ms(m)));
    add_header_of(out, m, "dead-reason");
    text_addf(out, "  from ");
    add_header_of(out, m, "dead-queue");
    text_addf(out, " seq ");
    add_header_of(out, m, "dead-seq");
    text_addf(out, " group ");
    add_header_of(out, m, "dead-group");
    text_addf(out, " attempts ");
    add_header_of(out, m, "dead-attempts");
    const char *body = broker_msg_body(m, &len);
    text_addf(out, "  ");
    format_visible(out, body, len);
    text_add(out, "\n", 1);
}

static enum cli_exit run_list(struct cli *cli, const void *options, int count, char **operands)
{
    const struct dead_options *o = options;
    struct dead_place place;
    struct peek_job job = {place.queue, o->all ? UINT64_MAX : o->count.value,
                           cli->common.json ? MESSAGE_JSON : (enum message_style)o->format, dead_line};
    enum cli_exit code = select_dead(cli, o, operands[0], &place);
    if (code != CLI_OK || !place.exists)
        return code; /* that there is none is an answer */
    code = peek_print(cli, &job, &selection);
    return code == CLI_TIMED_OUT ? CLI_OK : code;
}

static enum cli_exit run_redrive(struct cli *cli, const void *options, int count, char **operands)
{
    const struct dead_options *o = options;
    struct dead_place place;
    struct scan_job job = {.queue = place.queue,
                           .action = BROKER_SCAN_REDRIVE,
                           .done = "redriven",
                           .would = "would be redriven",
                           .json_name = "redriven",
                           .skipped_why = "leased to a consumer, or without a place to go",
                           .verb = "redrive the dead letters of",
                           .dry_run = o->dry_run};
    enum cli_exit code = select_dead(cli, o, operands[0], &place);
    if (code != CLI_OK)
        return code;
    if (!place.exists)
        return cli_fail_saying(cli, BROKER_MESSAGE_NOT_FOUND, "there are none yet", "redrive the dead letters of '%s'",
                               operands[0]);
    selection.scan.target = o->to;
    return scan_run(cli, &job, &selection);
}

static const char list_details[] =
    "QUEUE is the queue that they came from, or the one that holds them if its name ends with .dead; of any other "
    "name,\n"
    "give --here. Each message has headers that say why it is here: dead-reason (max_attempts, rejected, expired),\n"
    "dead-queue, dead-group, dead-seq, dead-attempts, dead-time-ms, dead-published-ms.\n"
    "\n"
    "  broker dead list orders\n"
    "  broker dead list orders -H dead-reason=rejected --json | jq .body\n"
    "  broker dead list graveyard --here\n";
static const char redrive_details[] =
    "Each dead letter goes back in one step to the queue that it came from, as a new message without the dead-...\n"
    "headers and with a new count of attempts. QUEUE as in `broker dead list`. Without conditions: all of them.\n"
    "\n"
    "  broker dead redrive orders --dry-run\n"
    "  broker dead redrive orders --seq 3\n"
    "  broker dead redrive orders -H dead-reason=max_attempts --to orders.retry\n";

const struct command dead_commands[] = {
    {"dead list", "QUEUE", 1, 1, "dead letters of a queue, and why they are dead", list_details, list_options,
     DEAD_BYTES, run_list},
    {"dead redrive", "QUEUE", 1, 1, "send dead letters back", redrive_details, redrive_options, DEAD_BYTES,
     run_redrive},
    {0},
};
