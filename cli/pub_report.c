/* What `broker pub` says at its end. */
#include "machine.h"
#include "pub.h"

#include <inttypes.h>

/* "orders", "orders, audit and billing", "topic orders.eu" */
static void add_target(struct text *out, const struct pub *p)
{
    const struct arg_list *also = &p->options->also;
    const char *topic = p->options->message.topic;
    if (p->queue)
        text_addf(out, "%s", p->queue);
    else if (topic)
        text_addf(out, "topic %s", topic);
    else
        text_addf(out, "their topics");
    for (size_t i = 0; i < also->count; i++)
        text_addf(out, "%s%s", i + 1 < also->count ? ", " : " and ", also->items[i]);
}

static void report_json(struct pub *p, struct text *out, double seconds)
{
    struct json j = {.out = out};
    json_open(&j, '{');
    if (p->queue)
        json_put_text(&j, "queue", p->queue);
    if (p->options->message.topic)
        json_put_text(&j, "topic", p->options->message.topic);
    json_put_u64(&j, "published", p->confirmed);
    json_put_u64(&j, "duplicates", p->duplicates);
    if (!p->queue)
        json_put_u64(&j, "copies", p->queues);
    if (p->first_seq) {
        json_put_u64(&j, "first_seq", p->first_seq);
        json_put_u64(&j, "last_seq", p->last_seq);
    }
    json_put_u64(&j, "bytes", p->bytes);
    json_put_real(&j, "seconds", seconds);
    json_put_real(&j, "rate", (double)p->confirmed / seconds);
    json_close(&j, '}');
    text_add(out, "\n", 1);
}

static void report_one(struct pub *p, struct text *out)
{
    if (p->duplicates && p->first_seq)
        text_addf(out, "not published to ");
    else if (p->duplicates)
        text_addf(out, "not published again to ");
    else
        text_addf(out, "published to ");
    add_target(out, p);
    if (!p->queue)
        text_addf(out, ": %" PRIu64 " queue%s\n", p->queues, p->queues == 1 ? "" : "s");
    else if (p->duplicates && p->first_seq)
        text_addf(out, ": duplicate of seq %" PRIu64 "\n", p->first_seq);
    else if (p->duplicates)
        text_addf(out, ": duplicate of a message that is no longer known by seq\n");
    else
        text_addf(out, ": seq %" PRIu64 "\n", p->first_seq);
}

static void report_many(struct pub *p, struct text *out, double seconds)
{
    text_addf(out, "published %" PRIu64 " messages to ", p->confirmed - p->duplicates);
    add_target(out, p);
    if (p->first_seq)
        text_addf(out, ": seq %" PRIu64 " to %" PRIu64, p->first_seq, p->last_seq);
    if (p->duplicates)
        text_addf(out, "; %" PRIu64 " duplicates left out", p->duplicates);
    if (!p->queue)
        text_addf(out, "; %" PRIu64 " copies in queues", p->queues);
    text_addf(out, "; %s in %s, %s/s\n", cli_bytes((double)p->bytes).text, cli_time(seconds).text,
              cli_count((double)p->confirmed / seconds).text);
}

void pub_report(struct pub *p)
{
    double seconds = (double)(machine_now_ns() - p->start_ns) / 1e9;
    struct text out = {0};
    if (p->cli->common.json)
        report_json(p, &out, seconds);
    else if (!p->options->quiet && p->confirmed == 1)
        report_one(p, &out);
    else if (!p->options->quiet)
        report_many(p, &out, seconds);
    cli_print(p->cli, &out);
}

enum cli_exit pub_report_failure(struct pub *p)
{
    struct cli *cli = p->cli;
    struct text target = {0};
    add_target(&target, p);
    const char *name = target.failed ? "" : target.bytes;
    int len = target.failed ? 0 : (int)target.len;
    enum cli_exit code;
    /* With several files the number is the one within its own; `sent` and `confirmed` count all. */
    bool in_source = p->error_number > p->source_begin;
    if (!p->source)
        code = cli_fail_saying(cli, p->error, p->error_text, "publish to '%.*s'", len, name);
    else if (p->options->atomic)
        code = cli_fail_saying(cli, p->error, p->error_text,
                               "publish to '%.*s': none of %" PRIu64 " messages is published", len, name, p->sent);
    else
        code = cli_fail_saying(cli, p->error, p->error_text,
                               "publish to '%.*s': stopped at message %" PRIu64 " of %s (%" PRIu64
                               " confirmed of %" PRIu64 " sent)",
                               len, name, p->error_number - (in_source ? p->source_begin : 0),
                               in_source ? p->source : "all inputs together", p->confirmed, p->sent);
    text_release(&target);
    return code;
}
