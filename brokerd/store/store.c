/* The store's frame: made and freed, the turn's end, the tick, the writer's reports, and the engine's view of it. */
#include "store_internal.h"

#include <stdarg.h>
#include <stdio.h>

static const struct store_options defaults = {.segment_bytes = 64 << 20,
                                              .window_bytes = 64 << 20,
                                              .tail_cache_bytes = 4 << 20,
                                              .read_cache_bytes = 8 << 20,
                                              .spare_bytes = 256 << 20,
                                              .sync_interval_ms = 1000,
                                              .clean_below_percent = 30,
                                              .checkpoint_bytes = 16 << 20};

static void set_defaults(struct store_options *o)
{
    o->segment_bytes = o->segment_bytes ? o->segment_bytes : defaults.segment_bytes;
    o->window_bytes = o->window_bytes ? o->window_bytes : defaults.window_bytes;
    o->tail_cache_bytes = o->tail_cache_bytes ? o->tail_cache_bytes : defaults.tail_cache_bytes;
    o->read_cache_bytes = o->read_cache_bytes ? o->read_cache_bytes : defaults.read_cache_bytes;
    o->spare_bytes = o->spare_bytes ? o->spare_bytes : defaults.spare_bytes;
    o->sync_interval_ms = o->sync_interval_ms ? o->sync_interval_ms : defaults.sync_interval_ms;
    o->clean_below_percent = o->clean_below_percent ? o->clean_below_percent : defaults.clean_below_percent;
    o->checkpoint_bytes = o->checkpoint_bytes ? o->checkpoint_bytes : defaults.checkpoint_bytes;
}

broker_error store_new(const struct store_options *options, const struct store_host *host, struct store **out)
{
    *out = NULL;
    struct store_options o = *options;
    set_defaults(&o);
    if (o.segment_bytes < SEGMENT_MIN_BYTES || o.segment_bytes > 1u << 30 ||
        o.segment_bytes % SEGMENT_DATA_START != 0 || o.clean_below_percent > 90)
        return BROKER_INVALID_ARGUMENT;
    struct store *s = calloc(1, sizeof *s);
    if (!s)
        return BROKER_NO_MEMORY;
    s->options = o;
    s->host = *host;
    STAILQ_INIT(&s->log.pending);
    STAILQ_INIT(&s->log.spare_writes);
    TAILQ_INIT(&s->tail.chunks);
    TAILQ_INIT(&s->tail.spare);
    TAILQ_INIT(&s->tail.gone);
    TAILQ_INIT(&s->full);
    TAILQ_INIT(&s->dead);
    TAILQ_INIT(&s->space.spares);
    TAILQ_INIT(&s->reads.by_use);
    TAILQ_INIT(&s->reads.gone);
    TAILQ_INIT(&s->reads.starved);
    *out = s;
    return BROKER_OK;
}

void store_free(struct store *s)
{
    if (!s)
        return;
    assert(s->jobs == 0);
    checkpoint_release(s);
    backup_release(s);
    index_release(s);
    reader_release(s);
    log_release(s);
    tail_release(s);
    space_release(s);
    struct segment *g, *next;
    HASH_ITER(hh, s->segments, g, next)
    segment_forget(s, g);
    free(s);
}

void store_fail(struct store *s, const char *format, ...)
{
    if (s->failed)
        return;
    s->failed = true;
    char text[TEXT_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    s->host.fatal(s->host.fatal_arg, text);
}

void report_line(const struct store_report *report, bool problem, const char *format, ...)
{
    if (!report || !report->line)
        return;
    char text[TEXT_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    report->line(report->arg, problem, text);
}

bool error_is_transient(int error)
{
    return error == ENOSPC || error == EDQUOT || error == ENOMEM || error == EMFILE || error == ENFILE;
}

void job_begin(struct store *s, struct store_job *j, void (*run)(struct job *), void (*done)(struct job *))
{
    j->job.run = run;
    j->job.done = done;
    j->store = s;
    j->ops = s->host.disk_ops;
    j->disk = s->host.disk;
    j->error = 0;
    s->jobs++;
    s->host.worker_ops->submit(s->host.workers, &j->job);
}

bool job_end(struct store_job *j)
{
    j->store->jobs--;
    return !j->store->failed;
}

/* ---- the loop's calls --------------------------------------------------------------------------------------------------- */

void store_flush(struct store *s, struct now now)
{
    s->now = now;
    if (s->fill.write && s->fill.count && s->fill.urgency != DURABILITY_LAZY)
        log_close(s, s->fill.urgency == DURABILITY_SYNCED);
}

void store_end_turn(struct store *s)
{
    tail_free_gone(s);
    reader_free_gone(s);
}

static void earliest(uint64_t *at, uint64_t candidate)
{
    *at = candidate < *at ? candidate : *at;
}

monotime store_tick(struct store *s, struct now now)
{
    s->now = now;
    if (s->failed) {
        backup_failed(s);
        return MONOTIME_NEVER;
    }
    log_tick(s);
    space_tick(s);
    checkpoint_tick(s);
    reader_tick(s);
    cleaner_tick(s);
    backup_tick(s);
    uint64_t at = now.mono.ms + RETRY_MS / 2;
    if (s->fill.write && s->fill.count)
        earliest(&at, s->fill.since_ms + LAZY_MS);
    if (s->log.unsynced_since_ms)
        earliest(&at, s->log.unsynced_since_ms + s->options.sync_interval_ms);
    if (s->log.claimed < s->log.last_full)
        earliest(&at, s->log.busy_ms + IDLE_MS);
    if (s->reads.retry_ms)
        earliest(&at, s->reads.retry_ms);
    return (monotime){at > now.mono.ms ? at : now.mono.ms + 1};
}

void store_synced(struct store *s, const struct histogram *us)
{
    histogram_merge(&s->log.sync_us, us);
}

void store_written(struct store *s, struct now now, uint64_t written, uint64_t durable, uint64_t bytes, uint64_t syncs,
                   int error)
{
    s->now = now;
    s->log.bytes_written += bytes;
    s->log.syncs += syncs;
    s->log.busy_ms = now.mono.ms;
    if (s->failed)
        return;
    if (error) {
        store_fail(s, "cannot write or sync the log: %s; nothing after batch %llu is confirmed", strerror(error),
                   (unsigned long long)s->log.durable);
        return;
    }
    bool news = written > s->log.written || durable > s->log.durable;
    s->log.written = written > s->log.written ? written : s->log.written;
    s->log.durable = durable > s->log.durable ? durable : s->log.durable;
    log_written(s, s->log.written);
    if (!news)
        return;
    segment_seal_ready(s);
    checkpoint_advance(s);
    engine_committed(s->engine, now, s->log.written, s->log.durable);
}

bool store_busy(const struct store *s)
{
    if (s->jobs)
        return true;
    if (s->failed)
        return false;
    return s->log.written < s->log.next_index - 1 || (s->fill.write && s->fill.count) || s->checkpoints.taken ||
           s->checkpoints.wanted;
}

void store_checkpoint(struct store *s, struct now now)
{
    s->now = now;
    s->checkpoints.wanted = true;
    s->checkpoints.retry_ms = 0;
    checkpoint_take(s);
}

/* ---- what the engine sees ------------------------------------------------------------------------------------------------ */

static broker_error ops_append(void *store, const uint8_t *record, uint32_t length, enum durability durability,
                               uint64_t *index)
{
    return log_append(store, record, length, durability, index);
}

static broker_error ops_append_all(void *store, const struct append_item *items, uint32_t count,
                                   enum durability durability, uint64_t *index)
{
    return log_append_all(store, items, count, durability, index);
}

static enum read_status ops_read(void *store, uint32_t queue, uint64_t from, uint64_t to, uint32_t max_messages,
                                 uint64_t max_bytes, struct stored_message *out, uint32_t *count, uint64_t *damaged_seq)
{
    return reader_read(store, queue, from, to, max_messages, max_bytes, out, count, damaged_seq);
}

static void ops_dead(void *store, uint32_t queue, uint64_t first, uint64_t last)
{
    index_dead(store, queue, first, last);
}

static void ops_queue_gone(void *store, uint32_t queue)
{
    index_queue_gone(store, queue);
}

static uint64_t ops_seq_at_time(void *store, uint32_t queue, uint64_t time_ms)
{
    return index_seq_at_time(store, queue, time_ms);
}

static void ops_usage(void *store, uint32_t queue, uint64_t *messages, uint64_t *bytes, uint64_t *oldest_seq)
{
    index_usage(store, queue, messages, bytes, oldest_seq);
}

static uint64_t ops_oldest_ms(void *store, uint32_t queue)
{
    return index_oldest_ms(store, queue);
}

static uint64_t ops_trim_point(void *store, uint32_t queue, uint64_t before_time_ms, uint64_t max_bytes,
                               uint64_t max_messages)
{
    return index_trim_point(store, queue, before_time_ms, max_bytes, max_messages);
}

static void ops_stats(void *store, struct store_stats *out)
{
    const struct store *s = store;
    *out = (struct store_stats){.log_index = s->log.next_index ? s->log.next_index - 1 : 0,
                                .syncs = s->log.syncs,
                                .bytes_written = s->log.bytes_written,
                                .disk_bytes = s->space.disk_bytes,
                                .segments = HASH_COUNT(s->segments),
                                .sync_us = s->log.sync_us};
}

const struct store_ops store_engine_ops = {.append = ops_append,
                                           .append_all = ops_append_all,
                                           .read = ops_read,
                                           .dead = ops_dead,
                                           .queue_gone = ops_queue_gone,
                                           .seq_at_time = ops_seq_at_time,
                                           .usage = ops_usage,
                                           .oldest_ms = ops_oldest_ms,
                                           .trim_point = ops_trim_point,
                                           .stats = ops_stats};
