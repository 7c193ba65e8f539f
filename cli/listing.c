/* Queues and groups as rows, as a page, and as JSON. */
#include "listing.h"
#include "settings.h"

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
    settings_json(j, &q->settings);
    json_put_bool(j, "paused", q->paused);
    json_put_u64(j, "first_seq", q->first_seq);
    json_put_u64(j, "last_seq", q->last_seq);
    json_put_u64(j, "messages", q->messages);
    json_put_u64(j, "bytes", q->bytes);
    json_put_u64(j, "group_count", q->groups);
    json_put_u64(j, "consumers", q->consumers);
    json_put_u64(j, "binding_count", q->bindings);
    json_put_u64(j, "scheduled", q->scheduled);
    json_put_u64(j, "published", q->published);
    json_put_u64(j, "expired", q->expired);
    json_put_u64(j, "dead_lettered", q->dead_lettered);
    json_put_u64(j, "dropped", q->dropped);
    json_put_u64(j, "duplicates", q->duplicates);
    json_put_u64(j, "delivered", q->delivered);
    json_put_u64(j, "acked", q->acked);
    json_put_u64(j, "redelivered", q->redelivered);
    json_put_u64(j, "ready", q->ready);
    json_put_u64(j, "leased", q->leased);
    json_put_u64(j, "oldest_ms", q->oldest_ms);
    json_put_u64(j, "dead", q->dead);
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
            text_addf(&l->out, "%-32s %-5s %-9s %12s %11s %10s %7s %10s\n", "QUEUE", "KEEP", "SYNC", "MESSAGES",
                      "BYTES", "SCHEDULED", "GROUPS", "CONSUMERS");
        text_addf(&l->out, "%-32s %-5s %-9s %12" PRIu64 " %11s %10" PRIu64 " %7u %10u%s\n", q->name,
                  retention_name(q->settings.retention), sync_name(q->settings.sync), q->messages,
                  cli_bytes((double)q->bytes).text, q->scheduled, q->groups, q->consumers, q->paused ? "  paused" : "");
    }
    l->rows++;
    return true;
}

bool listing_queue_at_length(void *arg, const broker_queue_info *q)
{
    struct listing *l = arg;
    if (l->as_json) {
        queue_json(&l->json, q);
        json_key(&l->json, "groups");
        json_open(&l->json, '[');
        return true;
    }
    text_addf(&l->out, "queue %s (id %u)%s\n", q->name, q->id, q->paused ? ", paused" : "");
    settings_text(&l->out, &q->settings);
    text_addf(&l->out, "  %-16s %" PRIu64 " (about %s), seq %" PRIu64 " to %" PRIu64 "; %" PRIu64 " scheduled\n",
              "messages", q->messages, cli_bytes((double)q->bytes).text, q->first_seq, q->last_seq, q->scheduled);
    text_addf(&l->out, "  %-16s %" PRIu64 " ready, %" PRIu64 " leased, all groups added up; %" PRIu64 " dead letters\n",
              "of these", q->ready, q->leased, q->dead);
    text_addf(&l->out, "  %-16s %u\n", "consumers", q->consumers);
    text_addf(&l->out, "  %-16s %u\n", "bindings", q->bindings);
    text_addf(&l->out,
              "  %-16s %" PRIu64 " published, %" PRIu64 " duplicates, %" PRIu64 " expired, %" PRIu64
              " dead-lettered, %" PRIu64 " dropped\n",
              "since its start", q->published, q->duplicates, q->expired, q->dead_lettered, q->dropped);
    text_addf(&l->out,
              "  %-16s %" PRIu64 " delivered, %" PRIu64 " of them again; %" PRIu64 " acked, all groups added up\n\n",
              "", q->delivered, q->redelivered, q->acked);
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
        json_put_u64(j, "blocked", g->blocked);
        json_put_u64(j, "lag", g->lag);
        json_put_u64(j, "consumers", g->consumers);
        group_settings_json(j, &g->settings);
        json_close(j, '}');
        return true;
    }
    if (l->rows++ == 0)
        text_addf(&l->out, "  %-24s %12s %12s %10s %10s %8s %8s %8s %9s\n", "GROUP", "SETTLED TO", "NEXT", "LAG",
                  "READY", "LEASED", "DELAYED", "BLOCKED", "CONSUMERS");
    text_addf(&l->out,
              "  %-24s %12" PRIu64 " %12" PRIu64 " %10" PRIu64 " %10" PRIu64 " %8" PRIu64 " %8" PRIu64 " %8" PRIu64
              " %9u",
              g->name, g->floor_seq, g->cursor_seq, g->lag, g->ready, g->leased, g->delayed, g->blocked, g->consumers);
    group_settings_text(&l->out, &g->settings);
    text_add(&l->out, "\n", 1);
    return true;
}
