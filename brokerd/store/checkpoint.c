/*
 * Checkpoints: the engine's state and the store's (segments, runs) as they are between two batches. Taken on the loop, written
 * by a worker once the last batch they contain is durable. The two newest are kept, so that a damaged one costs nothing.
 */
#include <inttypes.h>
#include <stdio.h>

#include "log.h"
#include "store_internal.h"

struct checkpoint_job {
    struct store_job j;
    struct checkpoint_head head;
    uint64_t remove; /* index of the checkpoint that is not needed after this one; 0: none */
    uint64_t retry_ms;
    struct buf store, engine;
};

static void checkpoint_free(struct checkpoint_job *j)
{
    buf_release(&j->store);
    buf_release(&j->engine);
    free(j);
}

/* ---- taking ------------------------------------------------------------------------------------------------------------- */

static bool put_segments(struct store *s, struct checkpoint_job *j)
{
    struct segment *g, *next;
    HASH_ITER(hh, s->segments, g, next)
    {
        if (g->state == SEGMENT_DEAD)
            continue;
        uint8_t *to = buf_reserve(&j->store, CHECKPOINT_SEGMENT_BYTES);
        if (!to)
            return false;
        checkpoint_segment_put(to, &(struct checkpoint_segment){.number = g->number,
                                                                .kind = g->kind,
                                                                .sealed = g->state == SEGMENT_SEALED,
                                                                .file_bytes = g->file_bytes,
                                                                .data_end = g->data_end,
                                                                .first_index = g->first_index,
                                                                .last_index = g->last_index,
                                                                .max_time_ms = g->max_time_ms});
        j->store.len += CHECKPOINT_SEGMENT_BYTES;
        j->head.segments++;
    }
    return true;
}

static bool put_run(struct checkpoint_job *j, uint32_t queue, const struct run *r)
{
    uint32_t times = r->detail ? r->detail->time_len : 0;
    if (run_is_open(r))
        times = 0; /* they come again with the records */
    uint8_t *to = buf_reserve(&j->store, CHECKPOINT_RUN_BYTES + (size_t)times * CHECKPOINT_TIME_BYTES);
    if (!to)
        return false;
    checkpoint_run_put(to, &(struct checkpoint_run){.queue = queue,
                                                    .segment = r->segment,
                                                    .first = r->first,
                                                    .count = r->count,
                                                    .live = r->live,
                                                    .bytes = r->bytes,
                                                    .entry = r->entry,
                                                    .times = times});
    to += CHECKPOINT_RUN_BYTES;
    for (uint32_t i = 0; i < times; i++, to += CHECKPOINT_TIME_BYTES) {
        put_u32(to, r->detail->times[i].entry);
        put_u32(to + 4, 0);
        put_u64(to + 8, r->detail->times[i].max_ms);
    }
    j->store.len += CHECKPOINT_RUN_BYTES + (size_t)times * CHECKPOINT_TIME_BYTES;
    return true;
}

static bool put_runs(struct store *s, struct checkpoint_job *j)
{
    struct queue_index *q, *next;
    HASH_ITER(hh, s->queues, q, next)
    {
        for (uint32_t i = 0; i < q->run_len; i++) {
            if (queue_run(q, i)->live && !put_run(j, q->queue, queue_run(q, i)))
                return false;
        }
    }
    return true;
}

static struct checkpoint_job *checkpoint_build(struct store *s)
{
    struct checkpoint_job *j = calloc(1, sizeof *j);
    if (!j)
        return NULL;
    buf_init(&j->store, 0);
    buf_init(&j->engine, 0);
    if (!put_segments(s, j) || !put_runs(s, j) || !engine_snapshot(s->engine, &j->engine)) {
        checkpoint_free(j);
        return NULL;
    }
    j->head.index = s->log.next_index - 1;
    j->head.epoch = s->log.epoch;
    j->head.end_segment = s->log.active->number;
    j->head.end_offset = s->log.end;
    j->head.next_number = s->space.next_number;
    j->head.time_ms = s->now.wall.ms;
    j->head.store_bytes = j->store.len;
    j->head.engine_bytes = j->engine.len;
    return j;
}

/* Two checkpoints never have the same index, or a file would be replaced while it counts as one of the two newest. */
static broker_error close_log(struct store *s)
{
    if (s->fill.write && s->fill.count)
        log_close(s, true);
    uint64_t last = s->log.next_index - 1;
    if (last == s->checkpoints.newest || s->log.last_sync < last)
        return log_mark(s);
    return BROKER_OK;
}

void checkpoint_take(struct store *s)
{
    struct checkpoints *c = &s->checkpoints;
    if (!c->wanted || c->taken || s->failed || s->now.mono.ms < c->retry_ms)
        return;
    c->begun_ms = s->now.mono.ms;
    struct checkpoint_job *j = close_log(s) == BROKER_OK ? checkpoint_build(s) : NULL;
    if (!j) {
        c->retry_ms = s->now.mono.ms + RETRY_MS;
        return;
    }
    struct segment *g;
    TAILQ_FOREACH(g, &s->dead, link)
    if (!g->forgotten_at)
        g->forgotten_at = j->head.index;
    c->taken = j;
    c->wanted = c->sealed_since = false;
    c->log_bytes = 0;
    backup_checkpoint_taken(s, j->head.index);
    checkpoint_advance(s);
}

/* ---- writing ------------------------------------------------------------------------------------------------------------ */

static int write_file(struct checkpoint_job *j, struct file *f)
{
    uint8_t head[CHECKPOINT_HEAD_BYTES];
    j->head.store_crc = crc32c(0, j->store.bytes, j->store.len);
    j->head.engine_crc = crc32c(0, j->engine.bytes, j->engine.len);
    checkpoint_head_put(head, &j->head);
    int error = j->j.ops->write(j->j.disk, f, 0, head, sizeof head);
    if (!error && j->store.len)
        error = j->j.ops->write(j->j.disk, f, sizeof head, j->store.bytes, j->store.len);
    if (!error && j->engine.len)
        error = j->j.ops->write(j->j.disk, f, sizeof head + j->store.len, j->engine.bytes, j->engine.len);
    if (!error)
        error = j->j.ops->truncate(j->j.disk, f, sizeof head + j->store.len + j->engine.len);
    return error ? error : j->j.ops->sync(j->j.disk, f);
}

static void checkpoint_run_job(struct job *job)
{
    struct checkpoint_job *j = (struct checkpoint_job *)job;
    const struct disk_ops *ops = j->j.ops;
    void *disk = j->j.disk;
    char name[FILE_NAME_BYTES], temporary[FILE_NAME_BYTES];
    struct file *f;
    checkpoint_name(name, j->head.index);
    snprintf(temporary, sizeof temporary, "checkpoint-%020" PRIu64 ".tmp", j->head.index);
    int error = ops->open(disk, temporary, true, &f);
    if (!error) {
        error = write_file(j, f);
        ops->close(disk, f);
    }
    if (!error)
        error = ops->rename(disk, temporary, name);
    if (!error)
        error = ops->sync_dir(disk);
    j->j.error = error;
    if (error) {
        ops->remove(disk, temporary);
    } else if (j->remove) {
        checkpoint_name(name, j->remove);
        ops->remove(disk, name); /* if not, the next start does it */
    }
}

static void checkpoint_succeeded(struct store *s, struct checkpoint_job *j)
{
    struct checkpoints *c = &s->checkpoints;
    uint64_t bytes = CHECKPOINT_HEAD_BYTES + j->store.len + j->engine.len;
    uint64_t index = j->head.index, gone = c->older, gone_bytes = c->older_bytes;
    bool kept = gone && gone != j->remove; /* a backup had it when this one was begun */
    s->space.disk_bytes += bytes - (j->remove ? c->older_bytes : 0);
    c->older = c->newest;
    c->older_bytes = c->newest_bytes;
    c->newest = j->head.index;
    c->newest_bytes = bytes;
    c->taken = NULL;
    checkpoint_free(j);
    if (kept && gone != c->pinned)
        backup_forget_checkpoint(s, gone, gone_bytes);
    backup_checkpoint_written(s, index, bytes);
    checkpoint_take(s); /* if another one was asked for meanwhile */
}

static void checkpoint_done(struct job *job)
{
    struct checkpoint_job *j = (struct checkpoint_job *)job;
    struct store *s = j->j.store;
    s->checkpoints.writing = false;
    if (!job_end(&j->j))
        return; /* freed with the store */
    if (!j->j.error) {
        checkpoint_succeeded(s, j);
    } else if (!error_is_transient(j->j.error)) {
        store_fail(s, "cannot write checkpoint %" PRIu64 ": %s", j->head.index, strerror(j->j.error));
    } else {
        bool room = (j->j.error == ENOSPC || j->j.error == EDQUOT) && space_drop_spare(s);
        log_warning("cannot write checkpoint %" PRIu64 ": %s; %s", j->head.index, strerror(j->j.error),
                    room ? "a spare segment was removed to make room" : "it is tried again");
        j->retry_ms = room ? 0 : s->now.mono.ms + RETRY_MS;
        checkpoint_advance(s);
    }
}

void checkpoint_advance(struct store *s)
{
    struct checkpoint_job *j = s->checkpoints.taken;
    if (!j || s->checkpoints.writing || s->failed || s->now.mono.ms < j->retry_ms)
        return;
    if (s->log.durable < j->head.index && !s->options.plant_seal_early)
        return;
    bool quiet = s->log.next_index - 1 == j->head.index && !(s->fill.write && s->fill.count);
    j->head.flags = quiet ? CHECKPOINT_CLEAN : 0;
    j->remove = s->checkpoints.older == s->checkpoints.pinned ? 0 : s->checkpoints.older;
    s->checkpoints.writing = true;
    job_begin(s, &j->j, checkpoint_run_job, checkpoint_done);
}

/* ---- when ----------------------------------------------------------------------------------------------------------------- */

void checkpoint_tick(struct store *s)
{
    struct checkpoints *c = &s->checkpoints;
    bool worth = c->log_bytes >= 2 * c->newest_bytes; /* large ones are not written for a little log */
    uint64_t now = s->now.mono.ms, enough = s->options.checkpoint_bytes;
    /* A log that runs fast is not to share its disk with a checkpoint's syncs all the time; a quiet one is to start fast. */
    bool due = c->log_bytes >= 4 * enough || (c->log_bytes >= enough && now >= c->begun_ms + CHECKPOINT_PACE_MS) ||
               (c->log_bytes >= CHECKPOINT_QUIET_BYTES && now >= s->log.busy_ms + CHECKPOINT_PAUSE_MS);
    if ((c->sealed_since || due) && worth)
        c->wanted = true;
    uint64_t pause = s->space.full ? CHECKPOINT_PAUSE_MS / 10 : CHECKPOINT_PAUSE_MS;
    if (!c->wanted && !c->taken && s->now.mono.ms >= c->begun_ms + pause && space_is_waiting(s))
        c->wanted = true;
    checkpoint_advance(s);
    checkpoint_take(s);
}

void checkpoint_release(struct store *s)
{
    if (s->checkpoints.taken)
        checkpoint_free(s->checkpoints.taken);
}
