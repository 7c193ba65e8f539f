/* Queues and groups as rows, as a page, and as JSON. */
#include "listing.h"

#include <inttypes.h>

static const char *sync_name(broker_sync sync)
{
    static const char *const names[] = {"default", "always", "interval", "none"};
    return (unsigned)sync < 4 ? names[sync] : "?";
}

static const char *retention_name(broker_retention retention)
{
    return retention == BROKER_RETENTION_WORK ? "work" : retention == BROKER_RETENTION_LOG ? "log" : "?";
}

void listing_begin(struct listing *l, struct cli *cli, char bracket)
{
    *l = (struct listing){.cli = cli, .as_json = cli->common.json};
    l->json.out = &l->out;
    if (l->as_json)
        json_open(&l->json, bracket);
}

enum cli_exit listing_end(struct listing *l, char bracket)
{
    if (l->as_json) {
        json_close(&l->json, bracket);
        text_add(&l->out, "\n", 1);
    }
    return cli_print(l->cli, &l->out) ? CLI_OK : CLI_FAILED;
}

static void queue_json(struct json *j, const broker_queue_info *q)
{
    json_put_text(j, "name", q->name);
    json_put_u64(j, "id", q->id);
    json_put_text(j, "retention", retention_name(q->settings.retention));
    json_put_text(j, "sync", sync_name(q->settings.sync));
    json_put_u64(j, "lease_ms", q->settings.lease_ms);
    json_put_u64(j, "max_message_bytes", q->settings.max_message_bytes);
    json_put_u64(j, "log_max_age_ms", q->settings.log_max_age_ms);
    json_put_u64(j, "log_max_bytes", q->settings.log_max_bytes);
    json_put_u64(j, "log_max_messages", q->settings.log_max_messages);
    json_put_bool(j, "paused", q->paused);
    json_put_u64(j, "first_seq", q->first_seq);
    json_put_u64(j, "last_seq", q->last_seq);
    json_put_u64(j, "messages", q->messages);
    json_put_u64(j, "bytes", q->bytes);
    json_put_u64(j, "group_count", q->groups);
    json_put_u64(j, "consumers", q->consumers);
}

bool listing_queue(void *arg, const broker_queue_info *q)
{
    struct listing *l = arg;
    if (l->as_json) {
        json_open(&l->json, '{');
        queue_json(&l->json, q);
        json_close(&l->json, '}');
    } else {
        if (l->rows == 0)
            text_addf(&l->out, "%-32s %-5s %-9s %12s %11s %7s %10s\n", "QUEUE", "KEEP", "SYNC", "MESSAGES", "BYTES",
                      "GROUPS", "CONSUMERS");
        text_addf(&l->out, "%-32s %-5s %-9s %12" PRIu64 " %11s %7u %10u%s\n", q->name,
                  retention_name(q->settings.retention), sync_name(q->settings.sync), q->messages,
                  cli_bytes((double)q->bytes).text, q->groups, q->consumers, q->paused ? "  paused" : "");
    }
    l->rows++;
    return true;
}

static void describe_setting(struct text *out, const char *name, uint64_t value, struct cli_number shown)
{
    text_addf(out, "  %-14s %s\n", name, value ? shown.text : "unlimited");
}

bool listing_queue_at_length(void *arg, const broker_queue_info *q)
{
    struct listing *l = arg;
    const broker_queue_settings *s = &q->settings;
    if (l->as_json) {
        queue_json(&l->json, q);
        json_key(&l->json, "groups");
        json_open(&l->json, '[');
        return true;
    }
    text_addf(&l->out, "queue %s (id %u)%s\n", q->name, q->id, q->paused ? ", paused" : "");
    text_addf(&l->out, "  %-14s %s\n", "retention", retention_name(s->retention));
    text_addf(&l->out, "  %-14s %s\n", "sync", sync_name(s->sync));
    text_addf(&l->out, "  %-14s %s\n", "lease", cli_time(s->lease_ms / 1000.0).text);
    text_addf(&l->out, "  %-14s %s\n", "max message",
              s->max_message_bytes ? cli_bytes(s->max_message_bytes).text : "the broker's limit");
    if (s->retention == BROKER_RETENTION_LOG) {
        describe_setting(&l->out, "max age", s->log_max_age_ms, cli_time((double)s->log_max_age_ms / 1000));
        describe_setting(&l->out, "max bytes", s->log_max_bytes, cli_bytes((double)s->log_max_bytes));
        describe_setting(&l->out, "max messages", s->log_max_messages, cli_count((double)s->log_max_messages));
    }
    text_addf(&l->out, "  %-14s %" PRIu64 " (about %s), seq %" PRIu64 " to %" PRIu64 "\n", "messages", q->messages,
              cli_bytes((double)q->bytes).text, q->first_seq, q->last_seq);
    text_addf(&l->out, "  %-14s %u\n\n", "consumers", q->consumers);
    return true;
}

bool listing_group(void *arg, const broker_group_info *g)
{
    struct listing *l = arg;
    if (l->as_json) {
        struct json *j = &l->json;
        json_open(j, '{');
        json_put_text(j, "name", g->name);
        json_put_u64(j, "floor_seq", g->floor_seq);
        json_put_u64(j, "cursor_seq", g->cursor_seq);
        json_put_u64(j, "ready", g->ready);
        json_put_u64(j, "leased", g->leased);
        json_put_u64(j, "delayed", g->delayed);
        json_put_u64(j, "consumers", g->consumers);
        json_close(j, '}');
        return true;
    }
    if (l->rows++ == 0)
        text_addf(&l->out, "  %-24s %12s %12s %10s %9s %9s %10s\n", "GROUP", "SETTLED TO", "NEXT", "READY", "LEASED",
                  "DELAYED", "CONSUMERS");
    text_addf(&l->out, "  %-24s %12" PRIu64 " %12" PRIu64 " %10" PRIu64 " %9" PRIu64 " %9" PRIu64 " %10u\n", g->name,
              g->floor_seq, g->cursor_seq, g->ready, g->leased, g->delayed, g->consumers);
    return true;
}
