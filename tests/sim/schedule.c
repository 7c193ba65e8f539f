#include "schedule.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- the log writer ----------------------------------------------------------------------------------------------------- */

static void writer_submit(void *writer, struct log_write *w)
{
    struct sim_writer *sw = writer;
    assert(w->index == sw->submitted + 1 || sw->submitted == 0);
    sw->submitted = w->index;
    w->next = NULL;
    *sw->tail = w;
    sw->tail = &w->next;
}

const struct log_writer_ops sim_writer_ops = {.submit = writer_submit};

void sim_writer_init(struct sim_writer *w, struct simdisk *disk)
{
    *w = (struct sim_writer){.disk = disk};
    w->tail = &w->head;
}

void sim_writer_release(struct sim_writer *w)
{
    free(w->batches);
    w->batches = NULL;
}

static void writer_note(struct sim_writer *w, const struct log_write *lw)
{
    if (w->batch_count == w->batch_cap) {
        w->batch_cap = w->batch_cap ? w->batch_cap * 2 : 16;
        w->batches = realloc(w->batches, w->batch_cap * sizeof(*w->batches));
        if (!w->batches)
            abort();
    }
    w->batches[w->batch_count++] = (struct written_batch){lw->file, lw->offset, lw->len, lw->index};
    for (uint32_t i = 0; i < w->dirty_count; i++) {
        if (w->dirty[i] == lw->file)
            return;
    }
    assert(w->dirty_count < 64);
    w->dirty[w->dirty_count++] = lw->file;
}

static void writer_write_one(struct sim_writer *w)
{
    struct log_write *lw = w->head;
    int error = simdisk_ops.write(w->disk, lw->file, lw->offset, lw->bytes, lw->len);
    if (error) {
        w->error = error;
        return;
    }
    writer_note(w, lw);
    w->head = lw->next;
    if (!w->head)
        w->tail = &w->head;
    w->sync_wanted |= lw->sync;
    w->bytes += lw->len;
    w->written = lw->index;
}

/* Batches count as safe in order: the first that is not ends it. */
static void writer_check_platter(struct sim_writer *w)
{
    uint32_t safe = 0;
    while (safe < w->batch_count) {
        const struct written_batch *b = &w->batches[safe];
        if (!simdisk_is_durable(b->file, b->offset, b->len))
            break;
        w->truly_durable = b->index;
        safe++;
    }
    memmove(w->batches, w->batches + safe, (w->batch_count - safe) * sizeof(*w->batches));
    w->batch_count -= safe;
}

static void writer_sync(struct sim_writer *w)
{
    for (uint32_t i = 0; i < w->dirty_count; i++) {
        int error = simdisk_ops.sync(w->disk, w->dirty[i]);
        if (error) {
            w->error = error;
            return;
        }
    }
    writer_check_platter(w);
    w->dirty_count = 0;
    w->sync_wanted = false;
    w->durable = w->written;
    w->syncs++;
}

static void writer_report(struct sim_writer *w, struct store *s, struct now now)
{
    uint64_t bytes = w->bytes, syncs = w->syncs;
    w->bytes = w->syncs = 0;
    w->reported_written = w->written;
    w->reported_durable = w->durable;
    w->error_reported = w->error != 0;
    store_written(s, now, w->written, w->durable, bytes, syncs, w->error);
}

static bool writer_can_write(const struct sim_writer *w)
{
    return w->head && !w->error;
}

static bool writer_can_sync(const struct sim_writer *w)
{
    return w->sync_wanted && !w->error;
}

/* The store may close a file only when all of it is reported durable: so nothing of the batches points to a closed one. */
static bool writer_can_report(const struct sim_writer *w)
{
    return w->written != w->reported_written || w->durable != w->reported_durable || (w->error && !w->error_reported);
}

bool sim_writer_has_work(const struct sim_writer *w)
{
    return writer_can_write(w) || writer_can_sync(w) || writer_can_report(w);
}

void sim_writer_step(struct sim_writer *w, struct rng *rng, struct store *s, struct now now)
{
    switch (rng_below(rng, 3)) {
    case 0:
        for (uint64_t n = rng_between(rng, 1, 4); n > 0 && writer_can_write(w); n--)
            writer_write_one(w);
        break;
    case 1:
        if (writer_can_sync(w))
            writer_sync(w);
        break;
    default:
        if (writer_can_report(w))
            writer_report(w, s, now);
        break;
    }
}

void sim_writer_run(struct sim_writer *w, struct store *s, struct now now)
{
    while (writer_can_write(w))
        writer_write_one(w);
    if (writer_can_sync(w))
        writer_sync(w);
    if (writer_can_report(w))
        writer_report(w, s, now);
}

void sim_writer_fail(struct sim_writer *w, struct store *s, struct now now)
{
    if (w->head && !w->error)
        w->error = EIO;
    if (w->error && !w->error_reported)
        writer_report(w, s, now);
    w->head = NULL;
    w->tail = &w->head;
}

/* ---- the workers ---------------------------------------------------------------------------------------------------------- */

static void workers_submit(void *workers, struct job *j)
{
    struct sim_workers *w = workers;
    assert(w->waiting_count < SIM_JOBS_MAX);
    w->waiting[w->waiting_count++] = j;
    w->jobs++;
}

const struct worker_ops sim_worker_ops = {.submit = workers_submit};

bool sim_workers_have_work(const struct sim_workers *w)
{
    return w->waiting_count + w->ran_count > 0;
}

static struct job *job_take(struct job **jobs, uint32_t *count, uint32_t i)
{
    struct job *j = jobs[i];
    (*count)--;
    memmove(jobs + i, jobs + i + 1, (*count - i) * sizeof(*jobs));
    return j;
}

static void workers_run_one(struct sim_workers *w, uint32_t i)
{
    struct job *j = job_take(w->waiting, &w->waiting_count, i);
    j->run(j);
    assert(w->ran_count < SIM_JOBS_MAX);
    w->ran[w->ran_count++] = j;
}

static void workers_done_one(struct sim_workers *w, uint32_t i)
{
    struct job *j = job_take(w->ran, &w->ran_count, i);
    j->done(j);
}

void sim_workers_step(struct sim_workers *w, struct rng *rng)
{
    uint32_t total = w->waiting_count + w->ran_count;
    if (total == 0)
        return;
    uint32_t i = (uint32_t)rng_below(rng, total);
    if (i < w->waiting_count)
        workers_run_one(w, i);
    else
        workers_done_one(w, i - w->waiting_count);
}

bool sim_workers_run(struct sim_workers *w)
{
    uint64_t end = w->jobs + 10000;
    while (sim_workers_have_work(w) && w->jobs < end) {
        if (w->waiting_count > 0)
            workers_run_one(w, 0);
        else
            workers_done_one(w, 0);
    }
    return w->jobs < end;
}
