#include "world.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wire.h>

/* Before the first batch of its own: the last that the start found, and the mark that it made of itself. */
static void note_found(struct world *w)
{
    struct store_stats stats;
    store_engine_ops.stats(w->store, &stats);
    if (w->found_index == 0)
        w->found_index = stats.log_index;
}

/* ---- between engine and store: the model sees what is appended ------------------------------------------------------------ */

static broker_error spy_append(void *arg, const uint8_t *record, uint32_t length, enum durability durability,
                               uint64_t *index)
{
    struct world *w = arg;
    note_found(w);
    broker_error error = store_engine_ops.append(w->store, record, length, durability, index);
    struct append_item item = {record, length};
    if (!error && !w->disk->frozen)
        model_appended(&w->model, &item, 1, durability, *index);
    return error;
}

static bool is_end(const uint8_t *record)
{
    uint8_t type = record_type_of(record);
    return type == RECORD_SETTLE || type == RECORD_DELETE || type == RECORD_EXPIRE;
}

static broker_error store_all(struct world *w, const struct append_item *items, uint32_t count,
                              enum durability durability, uint64_t *index)
{
    if (w->bug == BUG_FORGET_END && count == 2 && is_end(items[1].record) && !is_end(items[0].record))
        return store_engine_ops.append_all(w->store, items, 1, durability, index);
    if (w->bug == BUG_HALF_STEP && record_type_of(items[0].record) != RECORD_ROUTE && count > 1) {
        broker_error error = store_engine_ops.append_all(w->store, items, 1, durability, index);
        store_flush(w->store, w->now);
        return error ? error : store_engine_ops.append_all(w->store, items + 1, count - 1, durability, index);
    }
    return store_engine_ops.append_all(w->store, items, count, durability, index);
}

static broker_error spy_append_all(void *arg, const struct append_item *items, uint32_t count,
                                   enum durability durability, uint64_t *index)
{
    struct world *w = arg;
    note_found(w);
    broker_error error = store_all(w, items, count, durability, index);
    if (!error && !w->disk->frozen)
        model_appended(&w->model, items, count, durability, *index);
    return error;
}

static enum read_status spy_read(void *arg, uint32_t queue, uint64_t from, uint64_t to, uint32_t max_messages,
                                 uint64_t max_bytes, struct stored_message *out, uint32_t *count, uint64_t *damaged_seq)
{
    struct world *w = arg;
    return store_engine_ops.read(w->store, queue, from, to, max_messages, max_bytes, out, count, damaged_seq);
}

static void spy_dead(void *arg, uint32_t queue, uint64_t first, uint64_t last)
{
    store_engine_ops.dead(((struct world *)arg)->store, queue, first, last);
}

static void spy_queue_gone(void *arg, uint32_t queue)
{
    store_engine_ops.queue_gone(((struct world *)arg)->store, queue);
}

static uint64_t spy_seq_at_time(void *arg, uint32_t queue, uint64_t time_ms)
{
    return store_engine_ops.seq_at_time(((struct world *)arg)->store, queue, time_ms);
}

static void spy_usage(void *arg, uint32_t queue, uint64_t *messages, uint64_t *bytes, uint64_t *oldest_seq)
{
    store_engine_ops.usage(((struct world *)arg)->store, queue, messages, bytes, oldest_seq);
}

static uint64_t spy_oldest_ms(void *arg, uint32_t queue)
{
    return store_engine_ops.oldest_ms(((struct world *)arg)->store, queue);
}

static uint64_t spy_trim_point(void *arg, uint32_t queue, uint64_t before_time_ms, uint64_t max_bytes,
                               uint64_t max_messages)
{
    return store_engine_ops.trim_point(((struct world *)arg)->store, queue, before_time_ms, max_bytes, max_messages);
}

static void spy_stats(void *arg, struct store_stats *out)
{
    store_engine_ops.stats(((struct world *)arg)->store, out);
}

static const struct store_ops spy_ops = {
    .append = spy_append,
    .append_all = spy_append_all,
    .read = spy_read,
    .dead = spy_dead,
    .queue_gone = spy_queue_gone,
    .seq_at_time = spy_seq_at_time,
    .usage = spy_usage,
    .oldest_ms = spy_oldest_ms,
    .trim_point = spy_trim_point,
    .stats = spy_stats,
};

/* ---- what comes out of the engine ------------------------------------------------------------------------------------------ */

static void observe_answer(struct world *w, const struct completion *c)
{
    struct model_queue *q = &w->model.queues[w->observed_queue];
    w->observed = true;
    const broker_queue_info *info = c->error ? NULL : c->u.describe.queue;
    if (c->error && c->error != BROKER_QUEUE_NOT_FOUND)
        model_fail(&w->model, "describe of %s failed: %s", q->name, c->text);
    else if (w->what == OBSERVE_MESSAGES)
        model_observe_messages(&w->model, q, info, w->power);
    else if (w->what == OBSERVE_DRAINED)
        model_observe_drained(&w->model, q, info);
    else
        model_observe(&w->model, q, info, c->u.describe.groups, c->u.describe.group_count, w->power);
}

/* From the moment on at which the disk froze, the process is dead and nobody hears it. */
static bool is_heard(const struct world *w)
{
    return !w->disk->frozen && !model_failed(&w->model);
}

static void sink_complete(void *sink, const struct completion *c)
{
    struct world *w = sink;
    if (!is_heard(w))
        return;
    if (w->observing) {
        observe_answer(w, c);
        return;
    }
    model_completed(&w->model, c);
    door_completed(&w->sessions[c->token.conn % CONNS_MAX], c);
}

static bool sink_deliver(void *sink, const struct delivery *d)
{
    struct world *w = sink;
    if (!is_heard(w))
        return true;
    model_delivered(&w->model, d);
    if (w->output_room > 0 && --w->output_room == 0) {
        w->model.conn_held[d->token.conn % CONNS_MAX] = true;
        return false;
    }
    return true;
}

static void sink_ended(void *sink, struct token token, broker_error error, const char *text)
{
    struct world *w = sink;
    if (!is_heard(w))
        return;
    model_ended(&w->model, token, text);
    door_ended(&w->sessions[token.conn % CONNS_MAX]);
}

static const struct sink_ops world_sink = {.complete = sink_complete, .deliver = sink_deliver, .ended = sink_ended};

/* ---- the process -------------------------------------------------------------------------------------------------------------- */

void world_init(struct world *w, uint64_t seed, bool trace)
{
    *w = (struct world){.rng = {seed}};
    w->now.mono.ms = 1000;
    w->now.wall.ms = 1700000000000u;
    w->disk = simdisk_new(0);
    w->disk->trace = trace;
    model_init(&w->model, trace);
    w->model.now = w->now;
    w->store_options = (struct store_options){.segment_bytes = 64 << 10,
                                              .window_bytes = 4 << 20,
                                              .tail_cache_bytes = 32 << 10,
                                              .read_cache_bytes = 64 << 10,
                                              .spare_bytes = 256 << 10,
                                              .sync_interval_ms = 1000,
                                              .clean_below_percent = 30,
                                              .checkpoint_bytes = 64 << 10};
}

void world_plant(struct world *w, enum bug bug)
{
    w->bug = bug;
    w->disk->plant_skip_sync = bug == BUG_SKIP_SYNC;
    w->store_options.plant_seal_early = bug == BUG_SEAL_EARLY;
}

static void store_said(void *arg, bool problem, const char *text)
{
    struct world *w = arg;
    model_trace(&w->model, "store: %s%s", problem ? "PROBLEM: " : "", text);
    if (problem && w->report[0] == 0)
        snprintf(w->report, sizeof(w->report), "%s", text);
}

static void store_gave_up(void *arg, const char *text)
{
    struct world *w = arg;
    model_trace(&w->model, "store: fatal: %s", text);
    w->fatal = true;
}

static void process_new(struct world *w)
{
    struct store_host host = {
        .disk_ops = &simdisk_ops,
        .disk = w->disk,
        .writer_ops = &sim_writer_ops,
        .writer = &w->writer,
        .worker_ops = &sim_worker_ops,
        .workers = &w->workers,
        .fatal = store_gave_up,
        .fatal_arg = w,
    };
    w->fatal = false;
    w->report[0] = 0;
    sim_writer_init(&w->writer, w->disk);
    w->workers = (struct sim_workers){0};
    if (store_new(&w->store_options, &host, &w->store) != BROKER_OK)
        abort();
    w->engine = engine_new(&w->engine_options, &spy_ops, w, &world_sink, w);
    struct door_options options = {.max_message_bytes = 0};
    w->door = w->engine ? door_new(&options, w->engine, &world_sink, w) : NULL;
    if (!w->door)
        abort();
    for (uint32_t i = 0; i < CONNS_MAX; i++)
        w->sessions[i] = (struct door_session){.identity = &identity_anyone};
}

/* Free everything the process had. What it still has under way meets a disk that fails. */
void world_quit(struct world *w)
{
    if (!w->store)
        return;
    uint64_t cut_after = w->disk->cut_after;
    w->disk->frozen = true;
    for (uint32_t i = 0; i < 100 && (w->writer.head || sim_workers_have_work(&w->workers)); i++) {
        sim_writer_fail(&w->writer, w->store, w->now);
        if (!sim_workers_run(&w->workers))
            break;
    }
    if (w->writer.head || sim_workers_have_work(&w->workers))
        model_fail(&w->model, "the store finds no end on a disk that fails");
    door_free(w->door);
    engine_free(w->engine);
    store_free(w->store);
    sim_writer_release(&w->writer);
    w->store = NULL;
    w->engine = NULL;
    w->disk->cut_after = cut_after;
    simdisk_process_gone(w->disk);
}

void world_release(struct world *w)
{
    world_quit(w);
    simdisk_free(w->disk);
    model_release(&w->model);
}

bool world_is_dying(const struct world *w)
{
    return w->disk->frozen || w->fatal;
}

bool world_start(struct world *w)
{
    struct store_report report = {store_said, w};
    uint64_t faults = w->disk->faults_hit;
    w->now.mono.ms = 1000 + rng_below(&w->rng, 1000000); /* another start, another monotonic clock */
    w->model.now = w->now;
    process_new(w);
    w->found_index = 0;
    w->model.times_are_read = w->engine_options.max_schedule_entries != 0;
    w->starts++;
    w->model.starts_since++;
    broker_error error = store_open(w->store, w->engine, w->now, &report);
    if (error == BROKER_OK && !world_is_dying(w)) {
        note_found(w);
        model_started(&w->model, w->found_index - 1);
        model_trace(&w->model, "started (%llu), found %llu batches", (unsigned long long)w->starts,
                    (unsigned long long)w->model.last_index);
        return true;
    }
    w->broken_starts++;
    if (error == BROKER_OK)
        return false;
    bool disk_failed = w->disk->frozen || w->disk->faults_hit != faults || w->damaged;
    bool full = w->disk->capacity || w->store_options.max_disk_bytes;
    if (!disk_failed && !(error == BROKER_DISK_FULL && full))
        model_fail(&w->model, "start refused on a disk that is whole: %s: %s", broker_error_name(error),
                   w->report[0] ? w->report : "(no report)");
    return false;
}

/* ---- living and dying ------------------------------------------------------------------------------------------------------------ */

void world_die(struct world *w, bool power)
{
    model_trace(&w->model, power ? "POWER CUT" : "KILL");
    world_quit(w);
    w->power |= power;
    if (power) {
        simdisk_cut_power(w->disk, &w->rng);
        w->cuts++;
    } else {
        w->kills++;
    }
    model_crash(&w->model, power);
    w->now.wall.ms += rng_below(&w->rng, 5000);
}

static void share_indexes(struct world *w)
{
    w->model.platter_index = w->believe ? UINT64_MAX : w->writer.truly_durable;
    w->model.system_index = w->writer.written;
    w->model.reported_index = w->writer.reported_durable;
    w->model.now = w->now;
    model_turn(&w->model);
}

void world_submit(struct world *w, struct op *op, struct command *c)
{
    c->token.conn = op->conn;
    c->token.stream = op->stream;
    c->token.correlation = op->correlation;
    model_trace(&w->model, "%s #%u %s/%s conn %llu", model_op_name(op->type), op->correlation,
                w->model.queues[op->queue].name, w->model.queues[op->queue].groups[op->group].name,
                (unsigned long long)op->conn);
    share_indexes(w);
    model_submit_begin(&w->model, op);
    door_submit(w->door, &w->sessions[op->conn % CONNS_MAX], w->now, c);
    if (is_heard(w))
        model_submit_end(&w->model, op, c);
    else
        w->model.current = NULL;
}

void world_tell(struct world *w, struct command *c)
{
    struct door_session *session = &w->sessions[c->token.conn % CONNS_MAX];
    share_indexes(w);
    door_submit(w->door, session, w->now, c);
    if (c->type == COMMAND_CLOSE)
        *session = (struct door_session){.identity = &identity_anyone};
}

void world_turn(struct world *w)
{
    share_indexes(w);
    struct now now = w->now;
    now.mono.ms += w->bug == BUG_FIRE_EARLY ? 200 : 0;
    w->engine_next = engine_tick(w->engine, now);
    w->model.ticked = (struct moment){w->now.wall.ms, w->now.mono.ms};
    store_tick(w->store, w->now);
    store_flush(w->store, w->now);
    store_end_turn(w->store);
}

/* What an idle machine does: the writer is through before the loop's next turn. */
static void world_round(struct world *w)
{
    world_turn(w);
    sim_writer_run(&w->writer, w->store, w->now);
    if (!world_is_dying(w))
        world_turn(w);
}

void world_step(struct world *w)
{
    share_indexes(w);
    switch (rng_below(&w->rng, 6)) {
    case 0: world_turn(w); break;
    case 1: world_round(w); break;
    case 2:
    case 3: sim_writer_step(&w->writer, &w->rng, w->store, w->now); break;
    default: sim_workers_step(&w->workers, &w->rng); break;
    }
}

bool world_settle(struct world *w)
{
    for (uint32_t i = 0; i < 10000; i++) {
        if (world_is_dying(w) || model_failed(&w->model))
            return true;
        world_turn(w);
        share_indexes(w);
        bool busy = sim_writer_has_work(&w->writer) || sim_workers_have_work(&w->workers);
        sim_writer_run(&w->writer, w->store, w->now);
        if (!sim_workers_run(&w->workers))
            return false;
        bool again = w->engine_next.ms <= w->now.mono.ms; /* it does a slice of its work in each turn */
        if (busy || again || sim_writer_has_work(&w->writer))
            continue;
        if (!store_busy(w->store)) {
            w->model.rested = (struct moment){w->now.wall.ms, w->now.mono.ms};
            return true;
        }
        world_pass_time(w, 20); /* it waits for a moment to come */
    }
    return false;
}

void world_stop(struct world *w)
{
    if (!world_settle(w))
        model_fail(&w->model, "the store does not come to rest");
    if (world_is_dying(w) || model_failed(&w->model))
        return;
    store_checkpoint(w->store, w->now);
    if (!world_settle(w))
        model_fail(&w->model, "the store does not come to rest after its last checkpoint");
}

void world_pass_time(struct world *w, uint64_t ms)
{
    w->now.mono.ms += ms;
    w->now.wall.ms += ms;
    w->model.now = w->now;
}
