/* The broker's own figures as JSON. Keys are those of the native protocol's STATS answer, and more. */
#include <string.h>

#include "forms.h"
#include "metrics_internal.h"

static void put_connections(struct report *t, const struct metrics_now *now)
{
    static const char *const ways[WAYS] = {
        [WAY_TCP] = "tcp", [WAY_HTTP] = "http", [WAY_SSE] = "sse", [WAY_WEBSOCKET] = "websocket"};
    report_key(t, "connections");
    report_put(t, "{");
    for (int i = 0; i < WAYS; i++)
        report_u64(t, ways[i], now->connections[i]);
    report_put(t, "}");
}

/* [[upper bound in microseconds, how many], …], the last without a bound. Those that are empty are left out. */
static void put_buckets(struct report *t, const struct histogram *h)
{
    const char *comma = "";
    report_key(t, "sync_buckets");
    report_put(t, "[");
    for (int i = 0; i <= HISTOGRAM_BOUNDS; i++) {
        if (h->counts[i] == 0)
            continue;
        if (i < HISTOGRAM_BOUNDS)
            report_format(t, "%s[%llu,%llu]", comma, (unsigned long long)histogram_bounds_us[i],
                          (unsigned long long)h->counts[i]);
        else
            report_format(t, "%s[null,%llu]", comma, (unsigned long long)h->counts[i]);
        comma = ",";
    }
    report_put(t, "]");
}

void metrics_broker_json(struct report *t, const struct metrics *m, const struct metrics_now *now)
{
    const broker_stats *b = &now->broker;
    const struct {
        const char *key;
        uint64_t value;
    } numbers[] = {
        {"epoch", now->epoch},
        {"uptime_ms", b->uptime_ms},
        {"cpu_us", b->cpu_us},
        {"rss_bytes", b->rss_bytes},
        {"queues", b->queues},
        {"subscriptions", b->subscriptions},
        {"published", b->published},
        {"delivered", b->delivered},
        {"acked", b->acked},
        {"scheduled", b->scheduled},
        {"redelivered", b->redelivered},
        {"dead_lettered", b->dead_lettered},
        {"expired", b->expired},
        {"dropped", b->dropped},
        {"duplicates", b->duplicates},
        {"log_index", b->log_index},
        {"bytes_written", b->bytes_written},
        {"segments", b->segments},
        {"syncs", b->syncs},
        {"sync_p50_us", histogram_quantile_us(&now->sync_us, 500)},
        {"sync_p99_us", histogram_quantile_us(&now->sync_us, 990)},
        {"sync_max_us", now->sync_us.max_us},
        {"sync_sum_us", now->sync_us.sum_us},
        {"disk_bytes", b->disk_bytes},
        {"disk_free_bytes", now->disk_free_bytes},
        {"disk_total_bytes", now->disk_total_bytes},
        {"open_files", now->open_files},
        {"max_files", now->max_files},
    };
    report_put(t, "{");
    report_string(t, "version", b->version, strlen(b->version));
    report_bool(t, "ready", now->ready);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        report_u64(t, numbers[i].key, numbers[i].value);
    report_number(t, "publish_rate", m->published.per_second);
    report_number(t, "deliver_rate", m->delivered.per_second);
    report_number(t, "ack_rate", m->acked.per_second);
    put_connections(t, now);
    put_buckets(t, &now->sync_us);
    report_put(t, "}");
}

void metrics_get_stats(void *arg, struct http_exchange *x, const struct http_request *r)
{
    struct metrics *m = arg;
    struct metrics_now now;
    struct buf b;
    struct report t = {.to = &b};
    buf_init(&b, 0);
    metrics_look(m, &now);
    metrics_broker_json(&t, m, &now);
    report_put(&t, "\n");
    if (t.failed)
        http_refuse(x, BROKER_NO_MEMORY, "no memory for the answer; try again", 1000);
    else
        metrics_respond(x, 200, "application/json", b.bytes, b.len);
    buf_release(&b);
}
