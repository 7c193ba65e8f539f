/* Recovery, first part: the newest whole checkpoint. */
#include <inttypes.h>

#include "recover.h"

static bool restore_segments(struct recovery *r)
{
    for (uint32_t i = 0; i < r->checkpoint.head.segments; i++) {
        struct checkpoint_segment c = checkpoint_image_segment(&r->checkpoint, i);
        bool active = c.number == r->checkpoint.head.end_segment;
        enum segment_state state = c.sealed ? SEGMENT_SEALED : active ? SEGMENT_ACTIVE : SEGMENT_FULL;
        struct segment *g = segment_add(r->s, c.number, c.kind, state);
        if (!g)
            return false;
        g->file_bytes = c.file_bytes;
        g->data_end = c.data_end;
        g->first_index = c.first_index;
        g->last_index = c.last_index;
        g->max_time_ms = c.max_time_ms;
    }
    return true;
}

/* The entries of a run without a footer come with the records; its time blocks too. */
static struct run_detail *open_detail(const struct checkpoint_run *c)
{
    struct run_detail *d = calloc(1, sizeof *d);
    if (!d || !(d->entries = calloc(c->count, sizeof *d->entries))) {
        free(d);
        return NULL;
    }
    d->cap = c->count;
    d->queue = c->queue;
    d->first = c->first;
    return d;
}

static struct run_detail *sealed_detail(const struct checkpoint_run *c, const uint8_t *times)
{
    struct run_detail *d = calloc(1, sizeof *d);
    if (!d || !(d->times = malloc(c->times * sizeof *d->times))) {
        free(d);
        return NULL;
    }
    d->queue = c->queue;
    d->first = c->first;
    d->time_len = d->time_cap = c->times;
    for (uint32_t i = 0; i < c->times; i++, times += CHECKPOINT_TIME_BYTES)
        d->times[i] = (struct time_block){get_u32(times), get_u64(times + 8)};
    return d;
}

static broker_error restore_run(struct recovery *r, const struct checkpoint_run *c, const uint8_t *times)
{
    struct segment *g = segment_find(r->s, c->segment);
    struct queue_index *q = g ? index_get(r->s, c->queue) : NULL;
    if (!g || (q && q->run_len && run_last(queue_run(q, q->run_len - 1)) >= c->first)) {
        report_line(r->report, true, "checkpoint %" PRIu64 ": the runs of queue %u make no sense at seq %" PRIu64,
                    r->checkpoint.head.index, c->queue, c->first);
        return BROKER_DAMAGED;
    }
    struct run_detail *d = NULL;
    bool open = g->state != SEGMENT_SEALED;
    if (q && open)
        d = open_detail(c);
    else if (q && c->times)
        d = sealed_detail(c, times);
    struct run *run = q && (d || !(open || c->times)) ? index_insert(q, q->run_len) : NULL;
    if (!run) {
        detail_free(d);
        return BROKER_NO_MEMORY;
    }
    *run = (struct run){.first = c->first,
                        .bytes = c->bytes,
                        .count = c->count,
                        .live = c->live,
                        .segment = c->segment,
                        .entry = c->entry,
                        .detail = d};
    if (open) {
        TAILQ_INSERT_TAIL(&g->open, d, link);
        g->entries += c->count;
        g->added++;
    }
    g->runs++;
    g->live_bytes += c->bytes;
    if (q->messages == 0)
        q->oldest = c->first;
    q->messages += c->live;
    q->bytes += c->bytes;
    q->last_seq = run_last(run);
    return BROKER_OK;
}

static broker_error restore_runs(struct recovery *r)
{
    struct checkpoint_run c;
    const uint8_t *times;
    uint64_t at = 0;
    while (checkpoint_image_run(&r->checkpoint, &at, &c, &times)) {
        broker_error error = restore_run(r, &c, times);
        if (error)
            return error;
    }
    return BROKER_OK;
}

static broker_error find_checkpoint(struct recovery *r)
{
    int tried = 0;
    for (size_t i = r->files.n; i > 0 && tried < 2; i--) {
        const struct listed *f = &r->files.files[i - 1];
        const char *what;
        if (f->kind != FILE_CHECKPOINT)
            continue;
        /* It got its name when it was complete: what it covers was durable, readable or not. */
        r->claimed = f->number > r->claimed ? f->number : r->claimed;
        if (r->checkpoint.bytes) { /* the one before the one in use */
            r->older = f->number;
            return BROKER_OK;
        }
        tried++;
        int error = checkpoint_read(&r->checkpoint, r->s->host.disk_ops, r->s->host.disk, f->name, &what);
        if (!error && r->checkpoint.head.index != f->number) {
            error = EBADMSG;
            what = "it is of another index than its name";
        }
        if (!error)
            continue;
        checkpoint_release_image(&r->checkpoint);
        if (error == EPROTO) {
            report_line(r->report, true, "%s: %s; this broker reads version %d", f->name, what, FORMAT_VERSION);
            return BROKER_UNSUPPORTED_VERSION;
        }
        if (error != EBADMSG)
            return recover_error(r, error, "read", f->name);
        r->bad_checkpoint = r->bad_checkpoint ? r->bad_checkpoint : f->number;
        report_line(r->report, true, "%s is damaged: %s%s", f->name, what,
                    tried == 1 ? "; the one before it is used instead, nothing is lost" : "");
    }
    return BROKER_OK;
}

broker_error recover_checkpoint(struct recovery *r)
{
    broker_error error = find_checkpoint(r);
    if (error || !r->checkpoint.bytes)
        return error;
    const struct checkpoint_head *head = &r->checkpoint.head;
    for (uint32_t i = 0; i < head->segments; i++) {
        struct checkpoint_segment c = checkpoint_image_segment(&r->checkpoint, i);
        if (!listing_find(&r->files, c.kind == SEGMENT_LOG ? FILE_LOG : FILE_COLD, c.number)) {
            char name[FILE_NAME_BYTES];
            segment_name(name, c.kind, c.number);
            report_line(r->report, true, "%s is missing; the messages in it are lost; run fsck", name);
            error = BROKER_DAMAGED;
        }
    }
    if (error)
        return error;
    const char *text = "";
    error = engine_restore(r->engine, r->checkpoint.engine, head->engine_bytes, &text);
    if (error) {
        report_line(r->report, true, "checkpoint %" PRIu64 ": the engine's state makes no sense: %s", head->index,
                    text);
        return error == BROKER_MALFORMED ? BROKER_DAMAGED : error;
    }
    r->epoch = 0; /* batches before it may be of earlier epochs; they are read again from their segment's start */
    if (!restore_segments(r))
        return BROKER_NO_MEMORY;
    return restore_runs(r);
}

/* ---- runs being filled: what of them is wanted ------------------------------------------------------------------------------ */

static void count_range(void *arg, uint64_t first, uint64_t last)
{
    struct run *run = arg;
    for (uint64_t seq = first; seq <= last; seq++) {
        struct entry *e = &run->detail->entries[seq - run->first];
        if (e->length == 0)
            continue;
        e->length &= ~ENTRY_DEAD;
        run->live++;
        run->bytes += pad8(entry_length(e));
    }
}

static void count_run(struct recovery *r, struct segment *g, struct queue_index *q, struct run *run)
{
    q->messages -= run->live;
    q->bytes -= run->bytes;
    g->live_bytes -= run->bytes;
    run->live = 0;
    run->bytes = 0;
    for (uint32_t i = 0; i < run->count; i++) {
        if (run->detail->entries[i].length)
            run->detail->entries[i].length |= ENTRY_DEAD;
    }
    engine_live(r->engine, q->queue, run->first, run_last(run), count_range, run);
    q->messages += run->live;
    q->bytes += run->bytes;
    g->live_bytes += run->bytes;
}

/* Once everything is replayed: exact, whatever the counts in the checkpoint were. */
void recover_count_open(struct recovery *r)
{
    struct segment *g, *next;
    HASH_ITER(hh, r->s->segments, g, next)
    {
        struct run_detail *d;
        TAILQ_FOREACH(d, &g->open, link)
        {
            struct queue_index *q = index_find(r->s, d->queue);
            count_run(r, g, q, queue_run(q, index_search(q, d->first)));
        }
    }
}
