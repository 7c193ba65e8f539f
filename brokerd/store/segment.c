/* The segments of the log and of the cleaner: a table, and how a full one gets its footer. */
#include "store_internal.h"

struct segment *segment_find(struct store *s, uint32_t number)
{
    struct segment *g = s->log.active;
    if (g && g->number == number)
        return g;
    HASH_FIND(hh, s->segments, &number, sizeof number, g);
    return g;
}

struct segment *segment_add(struct store *s, uint32_t number, enum segment_kind kind, enum segment_state state)
{
    struct segment *g = calloc(1, sizeof *g);
    if (!g)
        return NULL;
    g->number = number;
    g->kind = kind;
    g->state = state;
    TAILQ_INIT(&g->open);
    HASH_ADD(hh, s->segments, number, sizeof g->number, g);
    if (!g->hh.tbl) {
        free(g);
        return NULL;
    }
    if (state == SEGMENT_FULL)
        TAILQ_INSERT_TAIL(&s->full, g, link);
    else if (state == SEGMENT_DEAD)
        TAILQ_INSERT_TAIL(&s->dead, g, link);
    return g;
}

void segment_forget(struct store *s, struct segment *g)
{
    if (g->state == SEGMENT_FULL)
        TAILQ_REMOVE(&s->full, g, link);
    else if (g->state == SEGMENT_DEAD)
        TAILQ_REMOVE(&s->dead, g, link);
    if (g->file)
        s->host.disk_ops->close(s->host.disk, g->file);
    HASH_DELETE(hh, s->segments, g);
    free(g);
}

uint64_t segment_footer_bytes(uint64_t entries, uint64_t runs)
{
    return runs * DIRECTORY_RUN_BYTES + entry_blocks_bytes(entries) + SEGMENT_TRAILER_BYTES;
}

/* Behind records there must still be room for an empty batch: a full segment ends with a synced one. */
bool segment_has_room(const struct segment *g, uint64_t offset, uint64_t bytes, uint32_t messages)
{
    uint64_t footer = segment_footer_bytes(g->entries + messages * (uint64_t)(1 + HOLES_MAX), g->added + messages);
    return offset + bytes + (bytes ? BATCH_HEAD_BYTES : 0) + footer <= g->file_bytes;
}

void segment_check_dead(struct store *s, struct segment *g)
{
    if (g->state != SEGMENT_SEALED || g->runs || g->cleaning)
        return;
    g->state = SEGMENT_DEAD;
    g->forgotten_at = 0;
    TAILQ_INSERT_TAIL(&s->dead, g, link);
}

int segment_write_head(const struct disk_ops *ops, void *disk, struct file *f, const struct segment_head *head)
{
    uint8_t bytes[SEGMENT_HEAD_BYTES];
    segment_head_put(bytes, head);
    return ops->write(disk, f, 0, bytes, sizeof bytes);
}

/* ---- sealing -------------------------------------------------------------------------------------------------------- */

struct seal_run {
    struct directory_run run;
    struct run_detail *detail; /* frozen: its entries are read by the worker, and by nobody changed */
};

struct seal_job {
    struct store_job j;
    uint32_t number, n, entries;
    struct file *file;
    uint64_t data_end, file_bytes, max_time_ms;
    struct seal_run runs[];
};

struct footer_writer {
    struct seal_job *job;
    uint8_t *buffer; /* blocks waiting to be written */
    size_t len;
    uint64_t offset;
    int error;
};

enum { FOOTER_BUFFER_BYTES = 64 * ENTRY_BLOCK_BYTES };

static void footer_flush(struct footer_writer *w)
{
    struct store_job *j = &w->job->j;
    if (!w->error && w->len)
        w->error = j->ops->write(j->disk, w->job->file, w->offset, w->buffer, w->len);
    w->offset += w->len;
    w->len = 0;
}

static uint8_t *footer_room(struct footer_writer *w, size_t n)
{
    if (w->len + n > FOOTER_BUFFER_BYTES)
        footer_flush(w);
    return w->buffer + w->len;
}

static uint32_t footer_directory(struct footer_writer *w)
{
    uint32_t crc = 0;
    for (uint32_t i = 0; i < w->job->n; i++) {
        uint8_t *to = footer_room(w, DIRECTORY_RUN_BYTES);
        directory_run_put(to, &w->job->runs[i].run);
        crc = crc32c(crc, to, DIRECTORY_RUN_BYTES);
        w->len += DIRECTORY_RUN_BYTES;
    }
    return crc;
}

static void footer_entries(struct footer_writer *w)
{
    struct entry block[ENTRIES_PER_BLOCK];
    uint32_t n = 0, number = 0;
    for (uint32_t i = 0; i < w->job->n; i++) {
        const struct seal_run *r = &w->job->runs[i];
        for (uint32_t k = 0; k < r->run.count; k++) {
            block[n++] = r->detail->entries[k];
            if (n == ENTRIES_PER_BLOCK) {
                w->len += entry_block_put(footer_room(w, ENTRY_BLOCK_BYTES), block, n, w->job->number, number++);
                n = 0;
            }
        }
    }
    if (n)
        w->len += entry_block_put(footer_room(w, ENTRY_BLOCK_BYTES), block, n, w->job->number, number);
}

static void seal_run(struct job *job)
{
    struct seal_job *j = (struct seal_job *)job;
    struct footer_writer w = {.job = j, .offset = j->data_end};
    w.buffer = malloc(FOOTER_BUFFER_BYTES);
    if (!w.buffer) {
        j->j.error = ENOMEM;
        return;
    }
    struct segment_trailer trailer = {.number = j->number,
                                      .runs = j->n,
                                      .entries = j->entries,
                                      .data_end = j->data_end,
                                      .footer_at = j->data_end,
                                      .max_time_ms = j->max_time_ms};
    trailer.directory_crc = footer_directory(&w);
    footer_entries(&w);
    footer_flush(&w);
    w.offset = j->file_bytes - SEGMENT_TRAILER_BYTES;
    segment_trailer_put(w.buffer, &trailer);
    w.len = SEGMENT_TRAILER_BYTES;
    footer_flush(&w);
    free(w.buffer);
    j->j.error = w.error ? w.error : j->j.ops->sync(j->j.disk, j->file);
}

static void seal_thaw(struct store *s, struct seal_run *sealed)
{
    struct run_detail *d = sealed->detail;
    d->frozen = false;
    if (d->orphan) {
        detail_free(d);
        return;
    }
    struct queue_index *q = index_find(s, sealed->run.queue);
    struct run *r = queue_run(q, index_search(q, sealed->run.first));
    struct segment *g = segment_find(s, r->segment);
    TAILQ_REMOVE(&g->open, d, link);
    free(d->entries);
    d->entries = NULL;
    if (r->count < 2 * TIMES_SEALED_RUN) {
        detail_free(d);
        r->detail = NULL;
    } else {
        times_seal(d, r->count);
    }
}

static void seal_done(struct job *job)
{
    struct seal_job *j = (struct seal_job *)job;
    struct store *s = j->j.store;
    struct segment *g = segment_find(s, j->number);
    g->sealing = false;
    bool retry = j->j.error == ENOMEM;
    for (uint32_t i = 0; i < j->n; i++) {
        if (retry || j->j.error || s->failed) { /* the entries stay in memory */
            j->runs[i].detail->frozen = false;
            if (j->runs[i].detail->orphan)
                detail_free(j->runs[i].detail);
        } else {
            seal_thaw(s, &j->runs[i]);
        }
    }
    if (job_end(&j->j) && !retry) {
        if (j->j.error) {
            store_fail(s, "cannot write the footer of segment %u: %s", g->number, strerror(j->j.error));
        } else {
            TAILQ_REMOVE(&s->full, g, link);
            g->state = SEGMENT_SEALED;
            if (!s->options.plant_seal_early) {
                s->host.disk_ops->close(s->host.disk, g->file);
                g->file = NULL;
            }
            s->checkpoints.sealed_since = true;
            segment_check_dead(s, g);
        }
    }
    free(j);
}

static int seal_order(const void *a, const void *b)
{
    const struct directory_run *x = &((const struct seal_run *)a)->run, *y = &((const struct seal_run *)b)->run;
    if (x->queue != y->queue)
        return x->queue < y->queue ? -1 : 1;
    return x->first < y->first ? -1 : x->first > y->first;
}

/* Runs that are dead by now get no footer entries at all. */
static void seal_drop_dead(struct store *s, struct segment *g)
{
    struct run_detail *d, *next;
    for (d = TAILQ_FIRST(&g->open); d; d = next) {
        next = TAILQ_NEXT(d, link);
        struct queue_index *q = index_find(s, d->queue);
        uint32_t at = index_search(q, d->first);
        if (at == q->run_len || queue_run(q, at)->detail != d) /* a run without messages ends before it begins */
            at--;
        if (queue_run(q, at)->live == 0) {
            index_remove(s, q, at);
            index_drop_if_empty(s, q);
        }
    }
}

static bool seal_begin(struct store *s, struct segment *g)
{
    struct run_detail *d;
    uint32_t n = 0;
    seal_drop_dead(s, g);
    TAILQ_FOREACH(d, &g->open, link)
    n++;
    struct seal_job *j = calloc(1, sizeof *j + n * sizeof j->runs[0]);
    if (!j)
        return false;
    TAILQ_FOREACH(d, &g->open, link)
    {
        struct queue_index *q = index_find(s, d->queue);
        const struct run *r = queue_run(q, index_search(q, d->first));
        uint64_t max_ms = 0;
        for (uint32_t i = 0; i < d->time_len; i++)
            max_ms = d->times[i].max_ms > max_ms ? d->times[i].max_ms : max_ms;
        j->runs[j->n++] = (struct seal_run){{d->queue, 0, r->first, r->count, 0, max_ms}, d};
        d->frozen = true;
    }
    qsort(j->runs, n, sizeof j->runs[0], seal_order);
    for (uint32_t i = 0; i < n; i++) {
        struct queue_index *q = index_find(s, j->runs[i].run.queue);
        j->runs[i].run.entry = j->entries;
        queue_run(q, index_search(q, j->runs[i].run.first))->entry = j->entries;
        j->entries += j->runs[i].run.count;
    }
    j->number = g->number;
    j->file = g->file;
    j->data_end = g->data_end;
    j->file_bytes = g->file_bytes;
    j->max_time_ms = g->max_time_ms;
    g->sealing = true;
    job_begin(s, &j->j, seal_run, seal_done);
    return true;
}

void segment_seal_ready(struct store *s)
{
    struct segment *g, *next;
    for (g = TAILQ_FIRST(&s->full); g && !s->failed; g = next) {
        next = TAILQ_NEXT(g, link);
        bool durable = s->log.durable >= g->last_index || s->options.plant_seal_early;
        if (!g->sealing && durable && !seal_begin(s, g))
            return; /* no memory: at the next tick */
    }
}
