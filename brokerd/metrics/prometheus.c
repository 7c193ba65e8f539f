/* /metrics: Prometheus' text format 0.0.4, and OpenMetrics 1.0.0 for those who ask for it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "metrics_internal.h"

enum { GATHERS_MAX = 4 };

struct gather {
    struct walk walk;
    struct http_exchange *x;
    struct board board; /* of the first max_queues */
    struct line others; /* the rest, added up */
    uint64_t other_count;
    bool openmetrics;
};

/* ---- lines ---------------------------------------------------------------------------------------------------------- */

struct page {
    struct report text;
    bool openmetrics;
};

/* What OpenMetrics calls a family of counters is without _total; the samples have it in both. */
static void family(struct page *p, const char *name, enum figure_kind kind, const char *help)
{
    const char *total = kind == COUNTER && !p->openmetrics ? "_total" : "";
    report_format(&p->text, "# HELP %s%s %s\n# TYPE %s%s %s\n", name, total, help, name, total,
                  kind == COUNTER ? "counter" : "gauge");
}

static void label_value(struct report *t, const char *value)
{
    for (const char *c = value; *c; c++) {
        if (*c == '\\' || *c == '"')
            report_format(t, "\\%c", *c);
        else if (*c == '\n')
            report_put(t, "\\n");
        else
            report_bytes(t, c, 1);
    }
}

static void sample(struct page *p, const char *name, enum figure_kind kind, const char *label, const char *label_text)
{
    report_put(&p->text, name);
    report_put(&p->text, kind == COUNTER ? "_total" : "");
    if (label) {
        report_format(&p->text, "{%s=\"", label);
        label_value(&p->text, label_text);
        report_put(&p->text, "\"}");
    }
    report_put(&p->text, " ");
}

static void value_u64(struct page *p, uint64_t value)
{
    report_format(&p->text, "%llu\n", (unsigned long long)value);
}

static void value_seconds(struct page *p, uint64_t units, uint64_t per_second)
{
    report_format(&p->text, "%llu.%06llu\n", (unsigned long long)(units / per_second),
                  (unsigned long long)(units % per_second * (1000000 / per_second)));
}

/* ---- the broker ------------------------------------------------------------------------------------------------------ */

static void put_numbers(struct page *p, const struct metrics_now *now)
{
    const broker_stats *b = &now->broker;
    const struct {
        const char *name;
        enum figure_kind kind;
        const char *help;
        uint64_t value;
    } numbers[] = {
        {"brokerd_ready", GAUGE, "Whether the broker is of use: recovered, listening, not stopping.", now->ready},
        {"brokerd_queues", GAUGE, "Queues.", b->queues},
        {"brokerd_subscriptions", GAUGE, "Subscriptions and waiting leases.", b->subscriptions},
        {"brokerd_scheduled_messages", GAUGE, "Messages that wait for their time.", b->scheduled},
        {"brokerd_published_messages", COUNTER, "Messages accepted.", b->published},
        {"brokerd_delivered_messages", COUNTER, "Messages handed out.", b->delivered},
        {"brokerd_acked_messages", COUNTER, "Messages acked.", b->acked},
        {"brokerd_redelivered_messages", COUNTER, "Messages handed out again.", b->redelivered},
        {"brokerd_dead_lettered_messages", COUNTER, "Messages moved to dead letters.", b->dead_lettered},
        {"brokerd_expired_messages", COUNTER, "Messages that expired.", b->expired},
        {"brokerd_dropped_messages", COUNTER, "Messages dropped because a queue was full.", b->dropped},
        {"brokerd_duplicate_messages", COUNTER, "Publishes recognised as duplicates.", b->duplicates},
        {"brokerd_log_position", GAUGE, "Index of the last durable batch of the log.", b->log_index},
        {"brokerd_log_written_bytes", COUNTER, "Bytes written to the log.", b->bytes_written},
        {"brokerd_log_segments", GAUGE, "Segment files of the log.", b->segments},
        {"brokerd_log_size_bytes", GAUGE, "Bytes on disk of the data directory.", b->disk_bytes},
        {"brokerd_disk_free_bytes", GAUGE, "Free bytes of the data directory's file system.", now->disk_free_bytes},
        {"brokerd_disk_size_bytes", GAUGE, "Size of the data directory's file system.", now->disk_total_bytes},
        {"process_resident_memory_bytes", GAUGE, "Resident memory size in bytes.", b->rss_bytes},
        {"process_open_fds", GAUGE, "Number of open file descriptors.", now->open_files},
        {"process_max_fds", GAUGE, "Maximum number of open file descriptors.", now->max_files},
    };
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        family(p, numbers[i].name, numbers[i].kind, numbers[i].help);
        sample(p, numbers[i].name, numbers[i].kind, NULL, NULL);
        value_u64(p, numbers[i].value);
    }
}

static void put_connections(struct page *p, const struct metrics_now *now)
{
    static const char *const ways[WAYS] = {
        [WAY_TCP] = "tcp", [WAY_HTTP] = "http", [WAY_SSE] = "sse", [WAY_WEBSOCKET] = "websocket"};
    family(p, "brokerd_connections", GAUGE, "Open connections by way.");
    for (int i = 0; i < WAYS; i++) {
        sample(p, "brokerd_connections", GAUGE, "way", ways[i]);
        value_u64(p, now->connections[i]);
    }
}

static void put_process(struct page *p, const struct metrics_now *now, struct now time)
{
    uint64_t up_ms = now->broker.uptime_ms < time.wall.ms ? now->broker.uptime_ms : time.wall.ms;
    family(p, "brokerd_build_info", GAUGE, "Always 1; the label names the version.");
    sample(p, "brokerd_build_info", GAUGE, "version", now->broker.version);
    value_u64(p, 1);
    family(p, "process_start_time_seconds", GAUGE, "Start time of the process since unix epoch in seconds.");
    sample(p, "process_start_time_seconds", GAUGE, NULL, NULL);
    value_seconds(p, time.wall.ms - up_ms, 1000);
    family(p, "process_cpu_seconds", COUNTER, "Total user and system CPU time spent in seconds.");
    sample(p, "process_cpu_seconds", COUNTER, NULL, NULL);
    value_seconds(p, now->broker.cpu_us, 1000000);
}

static void put_sync(struct page *p, const struct histogram *h)
{
    static const char name[] = "brokerd_log_sync_duration_seconds";
    uint64_t sum = 0;
    report_format(&p->text, "# HELP %s How long syncs of the log took.\n# TYPE %s histogram\n", name, name);
    for (int i = 0; i < HISTOGRAM_BOUNDS; i++) {
        char le[32];
        snprintf(le, sizeof(le), "%g", (double)histogram_bounds_us[i] / 1e6);
        if (!strpbrk(le, ".e"))
            snprintf(le, sizeof(le), "%g.0", (double)histogram_bounds_us[i] / 1e6); /* as OpenMetrics wants it */
        sum += h->counts[i];
        report_format(&p->text, "%s_bucket{le=\"%s\"} %llu\n", name, le, (unsigned long long)sum);
    }
    sum += h->counts[HISTOGRAM_BOUNDS];
    report_format(&p->text, "%s_bucket{le=\"+Inf\"} %llu\n%s_sum ", name, (unsigned long long)sum, name);
    value_seconds(p, h->sum_us, 1000000);
    report_format(&p->text, "%s_count %llu\n", name, (unsigned long long)sum);
}

/* ---- queues ---------------------------------------------------------------------------------------------------------- */

/* Who is among the others changes as queues come and go, so for them there are gauges only: a counter must not fall. */
static void put_queues(struct page *p, const struct gather *g)
{
    for (int i = 0; i < FIGURES; i++) {
        const struct figure_info *f = &FIGURE_INFOS[i];
        char name[128];
        snprintf(name, sizeof(name), "brokerd_queue_%s", f->metric);
        family(p, name, f->kind, f->help);
        for (size_t j = 0; j < g->board.count; j++) {
            sample(p, name, f->kind, "queue", board_name(&g->board, &g->board.lines[j]));
            value_u64(p, g->board.lines[j].values[i]);
        }
        if (g->other_count > 0 && f->kind == GAUGE) {
            sample(p, name, f->kind, "queue", "_other");
            value_u64(p, g->others.values[i]);
        }
    }
    family(p, "brokerd_queue_oldest_message_age_seconds", GAUGE, "Age of the oldest message; 0 if there is none.");
    for (size_t j = 0; j < g->board.count; j++) {
        sample(p, "brokerd_queue_oldest_message_age_seconds", GAUGE, "queue",
               board_name(&g->board, &g->board.lines[j]));
        value_seconds(p, g->board.lines[j].age_ms, 1000);
    }
    if (g->other_count > 0) {
        sample(p, "brokerd_queue_oldest_message_age_seconds", GAUGE, "queue", "_other");
        value_seconds(p, g->others.age_ms, 1000);
    }
    family(p, "brokerd_queues_without_own_figures", GAUGE, "Queues that are added up under queue=\"_other\".");
    sample(p, "brokerd_queues_without_own_figures", GAUGE, NULL, NULL);
    value_u64(p, g->other_count);
}

static void respond(struct gather *g, struct http_exchange *x)
{
    struct metrics *m = g->walk.m;
    struct metrics_now now;
    struct buf out;
    struct page p = {.text.to = &out, .openmetrics = g->openmetrics};
    buf_init(&out, 0);
    metrics_look(m, &now);
    put_process(&p, &now, net_now(m->net));
    put_numbers(&p, &now);
    put_connections(&p, &now);
    put_sync(&p, &now.sync_us);
    put_queues(&p, g);
    if (p.openmetrics)
        report_put(&p.text, "# EOF\n");
    if (p.text.failed)
        http_refuse(x, BROKER_NO_MEMORY, "no memory for the answer; try again", 1000);
    else
        metrics_respond(x, 200,
                        p.openmetrics ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
                                      : "text/plain; version=0.0.4; charset=utf-8",
                        out.bytes, out.len);
    buf_release(&out);
}

/* ---- gathering ------------------------------------------------------------------------------------------------------- */

static void gather_free(struct gather *g)
{
    g->walk.m->gathers--;
    metrics_walk_stop(&g->walk);
    board_release(&g->board);
    free(g);
}

static void gone(void *owner)
{
    gather_free(owner);
}

static void page(struct walk *w, const broker_queue_info *queues, size_t count)
{
    struct gather *g = container_of(w, struct gather, walk);
    struct now now = net_now(w->m->net);
    for (size_t i = 0; i < count; i++) {
        bool own = g->board.count < w->m->options.max_queues;
        struct line *l = own ? board_add(&g->board, queues[i].name) : NULL;
        struct line other = {0};
        if (own && !l) {
            w->error = BROKER_NO_MEMORY;
            return;
        }
        board_line_fill(l ? l : &other, &queues[i], now);
        if (l)
            continue;
        g->other_count++;
        for (int f = 0; f < FIGURES; f++)
            g->others.values[f] += other.values[f];
        g->others.age_ms = other.age_ms > g->others.age_ms ? other.age_ms : g->others.age_ms;
    }
}

static void over(struct walk *w, bool more, broker_error error, const char *text, uint32_t retry_ms)
{
    struct gather *g = container_of(w, struct gather, walk);
    if (error)
        http_refuse(g->x, error, *text ? text : broker_strerror(error), retry_ms);
    else
        respond(g, g->x);
    gather_free(g);
}

static const struct walk_ops WALK_OPS = {.page = page, .over = over};
static const struct http_exchange_ops EXCHANGE_OPS = {.gone = gone};

void metrics_get_exposition(void *arg, struct http_exchange *x, const struct http_request *r)
{
    static const char *const types[] = {"text/plain", "application/openmetrics-text", NULL};
    struct metrics *m = arg;
    if (m->gathers >= GATHERS_MAX) {
        http_refuse(x, BROKER_OVERLOADED, "others are just being told the same; try again", 1000);
        return;
    }
    struct gather *g = calloc(1, sizeof(*g));
    if (!g) {
        http_refuse(x, BROKER_NO_MEMORY, "no memory for the answer; try again", 1000);
        return;
    }
    m->gathers++;
    g->x = x;
    g->walk.m = m;
    g->openmetrics = http_accepts(r, types) == 1;
    board_init(&g->board);
    if (metrics_walk_list(&g->walk, m, &WALK_OPS, "", "", UINT32_MAX)) {
        http_keep(x, &EXCHANGE_OPS, g);
        return;
    }
    http_refuse(x, BROKER_NO_MEMORY, "no memory to ask for it; try again", 1000);
    gather_free(g);
}
