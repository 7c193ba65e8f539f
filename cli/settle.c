/* broker lease, ack, nack, reject, extend: one step at a time, for scripts. */
#include "cli.h"
#include "sub_format.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct lease_options {
    const char *group;
    struct arg_number max, lease_ms, wait_ms;
};

static const struct arg_option lease_options[] = {
    {"group", 'g', ARG_TEXT, "GROUP", "default", "lease as a member of this group",
     offsetof(struct lease_options, group), 0, 0},
    {"count", 'n', ARG_NUMBER, "N", "1", "most messages", offsetof(struct lease_options, max), 1, 1024},
    {"lease", 0, ARG_DURATION, "TIME", NULL, "how long they are ours; default: as the queue says",
     offsetof(struct lease_options, lease_ms), 1, 86400000},
    {"wait", 0, ARG_DURATION, "TIME", "0", "wait for the first one", offsetof(struct lease_options, wait_ms), 0,
     86400000},
    {0},
};

static const char lease_details[] = "Prints one JSON object a message (an array with --json), with the receipt that "
                                    "ack, nack, reject and extend take. The leases do\n"
                                    "not end with this command. Ends with code 4 if nothing came.\n"
                                    "\n"
                                    "  broker lease orders --wait 10s | jq -r .receipt\n";

struct lease_output {
    struct text text;
    struct json json;
    bool as_array;
};

static void on_message(void *arg, broker_subscription *s, const broker_msg *m)
{
    struct lease_output *out = arg;
    if (out->as_array) {
        format_message_json(&out->json, m, false);
        return;
    }
    struct message_format lines = {.style = MESSAGE_JSON, .delimiter = "\n", .delimiter_len = 1};
    format_message(&out->text, &lines, m);
}

static enum cli_exit run_lease(struct cli *cli, const void *options, int count, char **operands)
{
    const struct lease_options *o = options;
    struct lease_output out = {.as_array = cli->common.json};
    out.json.out = &out.text;
    enum cli_exit code = cli_connect(cli, NULL);
    if (code != CLI_OK)
        return code;
    if (out.as_array)
        json_open(&out.json, '[');
    uint32_t leased = 0;
    broker_error error =
        broker_lease(cli->broker, operands[0], o->group, (uint32_t)o->max.value, (uint32_t)o->lease_ms.value,
                     (uint32_t)o->wait_ms.value, on_message, &out, &leased);
    if (error != BROKER_OK && (error != BROKER_TIMEOUT || leased > 0)) {
        text_release(&out.text);
        return cli_fail(cli, error, "lease from '%s' (group '%s')", operands[0], o->group);
    }
    if (out.as_array) {
        json_close(&out.json, ']');
        text_add(&out.text, "\n", 1);
    }
    if (!cli_print(cli, &out.text))
        return CLI_FAILED;
    return leased > 0 ? CLI_OK : CLI_TIMED_OUT;
}

struct settle_options {
    struct arg_number delay_ms, lease_ms;
};

static const struct arg_option nack_options[] = {
    {"delay", 0, ARG_DURATION, "TIME", "0", "when it may come again; 0: as the queue's backoff says",
     offsetof(struct settle_options, delay_ms), 0, UINT32_MAX},
    {0},
};
static const struct arg_option extend_options[] = {
    {"lease", 0, ARG_DURATION, "TIME", "30s", "from now on", offsetof(struct settle_options, lease_ms), 1, 86400000},
    {0},
};

enum settle { SETTLE_ACK, SETTLE_NACK, SETTLE_REJECT, SETTLE_EXTEND };
static const char *const verbs[] = {"ack", "nack", "reject", "extend"};
static const char *const verbs_done[] = {"acked", "nacked", "rejected", "extended"};

static bool parse_receipt(const char *text, uint64_t *receipt)
{
    char *end;
    errno = 0;
    *receipt = strtoull(text, &end, 10);
    return isdigit((unsigned char)*text) && *end == '\0' && errno == 0;
}

static broker_error settle(broker *b, enum settle what, uint64_t receipt, uint32_t ms)
{
    switch (what) {
    case SETTLE_ACK: return broker_ack_receipt(b, receipt);
    case SETTLE_NACK: return broker_nack_receipt(b, receipt, ms);
    case SETTLE_REJECT: return broker_reject_receipt(b, receipt);
    default: return broker_extend_receipt(b, receipt, ms);
    }
}

/* Every receipt gets its turn, also after one that was stale; the first failure decides the exit code. */
static enum cli_exit settle_all(struct cli *cli, enum settle what, uint64_t ms, int count, char **operands)
{
    uint64_t receipts[64], done = 0;
    for (int i = 0; i < count; i++) {
        if (!parse_receipt(operands[i], &receipts[i]))
            return cli_complain(cli, CLI_USAGE, "'%s' is no receipt: a number as `broker lease` prints it",
                                operands[i]);
    }
    enum cli_exit code = cli_connect(cli, NULL);
    if (code != CLI_OK)
        return code;
    for (int i = 0; i < count; i++) {
        broker_error error = settle(cli->broker, what, receipts[i], (uint32_t)ms);
        if (error == BROKER_OK) {
            done++;
            continue;
        }
        enum cli_exit failed = cli_fail(cli, error, "%s receipt %" PRIu64, verbs[what], receipts[i]);
        code = code == CLI_OK ? failed : code;
        if (failed == CLI_NO_BROKER)
            break;
    }
    struct text out = {0};
    if (cli->common.json) {
        struct json j = {.out = &out};
        json_open(&j, '{');
        json_put_u64(&j, verbs_done[what], done);
        json_put_u64(&j, "failed", (uint64_t)count - done);
        json_close(&j, '}');
        text_add(&out, "\n", 1);
    } else {
        text_addf(&out, "%" PRIu64 " %s\n", done, verbs_done[what]);
    }
    return cli_print(cli, &out) ? code : CLI_FAILED;
}

static enum cli_exit run_ack(struct cli *cli, const void *options, int count, char **operands)
{
    return settle_all(cli, SETTLE_ACK, 0, count, operands);
}

static enum cli_exit run_nack(struct cli *cli, const void *options, int count, char **operands)
{
    const struct settle_options *o = options;
    return settle_all(cli, SETTLE_NACK, o->delay_ms.value, count, operands);
}

static enum cli_exit run_reject(struct cli *cli, const void *options, int count, char **operands)
{
    return settle_all(cli, SETTLE_REJECT, 0, count, operands);
}

static enum cli_exit run_extend(struct cli *cli, const void *options, int count, char **operands)
{
    const struct settle_options *o = options;
    return settle_all(cli, SETTLE_EXTEND, o->lease_ms.value, count, operands);
}

const struct command settle_commands[] = {
    {"lease", "QUEUE", 1, 1, "lease messages and print them with their receipts", lease_details, lease_options,
     sizeof(struct lease_options), run_lease},
    {"ack", "RECEIPT...", 1, 64, "settle leased messages: done", NULL, NULL, 0, run_ack},
    {"nack", "RECEIPT...", 1, 64, "give leased messages back", NULL, nack_options, sizeof(struct settle_options),
     run_nack},
    {"reject", "RECEIPT...", 1, 64, "give leased messages up: to the dead letters", NULL, NULL, 0, run_reject},
    {"extend", "RECEIPT...", 1, 64, "keep leased messages longer", NULL, extend_options, sizeof(struct settle_options),
     run_extend},
    {0},
};
