/* Figures of queues, kept together. */
#include <stdlib.h>
#include <string.h>

#include "metrics_internal.h"

const struct figure_info FIGURE_INFOS[FIGURES] = {
#define FIGURE_INFO(member, kind, metric, help) {#member, metric, help, kind},
    QUEUE_FIGURES(FIGURE_INFO)
#undef FIGURE_INFO
};

void board_init(struct board *b)
{
    *b = (struct board){0};
    buf_init(&b->names, 0);
}

void board_release(struct board *b)
{
    free(b->lines);
    buf_release(&b->names);
    board_init(b);
}

void board_clear(struct board *b)
{
    b->count = 0;
    buf_clear(&b->names);
}

const char *board_name(const struct board *b, const struct line *l)
{
    return (const char *)b->names.bytes + l->name_at;
}

struct line *board_add(struct board *b, const char *name)
{
    if (b->count == b->cap) {
        size_t cap = b->cap ? b->cap * 2 : 16;
        struct line *lines = realloc(b->lines, cap * sizeof(*lines));
        if (!lines)
            return NULL;
        b->lines = lines;
        b->cap = cap;
    }
    struct line *l = &b->lines[b->count];
    *l = (struct line){.name_at = (uint32_t)b->names.len};
    if (!buf_append(&b->names, name, strlen(name) + 1))
        return NULL;
    b->count++;
    return l;
}

void board_line_fill(struct line *l, const broker_queue_info *q, struct now now)
{
#define FIGURE_FILL(member, kind, metric, help) l->values[FIGURE_##member] = q->member;
    QUEUE_FIGURES(FIGURE_FILL)
#undef FIGURE_FILL
    l->paused = q->paused;
    l->age_ms = q->oldest_ms && q->oldest_ms < now.wall.ms ? now.wall.ms - q->oldest_ms : 0;
}

void board_line_json(struct report *t, const char *name, const struct line *l)
{
    report_put(t, "{");
    report_string(t, "name", name, strlen(name));
    report_bool(t, "paused", l->paused);
    for (int i = 0; i < FIGURES; i++)
        report_u64(t, FIGURE_INFOS[i].key, l->values[i]);
    report_u64(t, "oldest_ms", l->age_ms);
    if (l->has_rates) {
        report_number(t, "in_rate", l->in_rate);
        report_number(t, "out_rate", l->out_rate);
    } else {
        report_put(t, ",\"in_rate\":null,\"out_rate\":null");
    }
    report_put(t, "}");
}
