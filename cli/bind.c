/* broker bind, unbind, bindings: which topics go to a queue. */
#include "cli.h"

#include <string.h>

static enum cli_exit run_bind(struct cli *cli, const void *options, int count, char **operands)
{
    enum cli_exit code = cli_connect(cli, NULL);
    if (code != CLI_OK)
        return code;
    broker_error error = broker_bind(cli->broker, operands[0], operands[1]);
    if (error != BROKER_OK)
        return cli_fail(cli, error, "bind queue '%s' to '%s'", operands[0], operands[1]);
    return cli_told(cli, operands[0], "binding", operands[1], "made");
}

static enum cli_exit run_unbind(struct cli *cli, const void *options, int count, char **operands)
{
    enum cli_exit code = cli_connect(cli, NULL);
    if (code != CLI_OK)
        return code;
    broker_error error = broker_unbind(cli->broker, operands[0], operands[1]);
    if (error != BROKER_OK)
        return cli_fail(cli, error, "unbind queue '%s' from '%s'", operands[0], operands[1]);
    return cli_told(cli, operands[0], "binding", operands[1], "removed");
}

struct binding_output {
    struct text text;
    struct json json;
    bool as_json;
};

static bool on_binding(void *arg, const char *pattern)
{
    struct binding_output *out = arg;
    if (out->as_json)
        json_text(&out->json, pattern);
    else
        text_addf(&out->text, "%s\n", pattern);
    return true;
}

static enum cli_exit run_bindings(struct cli *cli, const void *options, int count, char **operands)
{
    struct binding_output out = {.as_json = cli->common.json};
    out.json.out = &out.text;
    enum cli_exit code = cli_connect(cli, NULL);
    if (code != CLI_OK)
        return code;
    if (out.as_json)
        json_open(&out.json, '[');
    broker_error error = broker_queue_bindings(cli->broker, operands[0], on_binding, &out);
    if (error != BROKER_OK) {
        text_release(&out.text);
        return cli_fail(cli, error, "list the bindings of queue '%s'", operands[0]);
    }
    if (out.as_json) {
        json_close(&out.json, ']');
        text_add(&out.text, "\n", 1);
    }
    return cli_print(cli, &out.text) ? CLI_OK : CLI_FAILED;
}

static const char bind_details[] =
    "A message that is published to a topic goes to every queue with a binding that matches: one copy on disk, in all\n"
    "queues or in none. A topic is tokens with dots between them. In a pattern * stands for one token, and > at the "
    "end\n"
    "for one or more. Binding twice is no error.\n"
    "\n"
    "  broker bind orders 'orders.>'\n"
    "  broker bind europe 'orders.eu.*'\n"
    "  broker pub --topic orders.eu.created '{\"id\": 17}'\n";

const struct command bind_commands[] = {
    {"bind", "QUEUE PATTERN", 2, 2, "send what is published to matching topics to a queue", bind_details, NULL, 0,
     run_bind},
    {"unbind", "QUEUE PATTERN", 2, 2, "end a binding", NULL, NULL, 0, run_unbind},
    {"bindings", "QUEUE", 1, 1, "list the bindings of a queue", NULL, NULL, 0, run_bindings},
    {0},
};
