#include "history.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A seed in five does without any of it, so that what was there before is still explored in depth. */
static void choose_features(struct history *h)
{
    struct rng *rng = &h->world.rng;
    uint32_t *all[] = {&h->use.delay,     &h->use.priority,   &h->use.expiry,  &h->use.ids,      &h->use.keys,
                       &h->use.retry,     &h->use.limits,     &h->use.compact, &h->use.unused,   &h->use.ordering,
                       &h->use.consumers, &h->use.filters,    &h->use.topics,  &h->use.transact, &h->use.scans,
                       &h->use.reject,    &h->use.reschedule, &h->use.clock,   &h->use.reads};
    bool none = rng_percent(rng, 20);
    for (uint32_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        uint64_t percent = rng_percent(rng, 50) ? rng_between(rng, 2, 20) : rng_between(rng, 20, 80);
        if (!none && rng_percent(rng, 25))
            *all[i] = (uint32_t)percent;
    }
    if (h->use.delay == 0)
        h->use.reschedule = 0;
    if (h->use.filters || h->use.compact || h->use.ordering)
        h->use.keys = h->use.keys ? h->use.keys : 40;
    static const uint32_t schedule[] = {0, 4, 4, 16};
    h->world.engine_options.max_schedule_entries = schedule[rng_below(rng, 4)];
    h->transactor = rng_next(rng) | 1;
}

static void history_setup(struct history *h, uint64_t seed, const struct history_options *options)
{
    struct world *w = &h->world;
    *h = (struct history){.steps = 0};
    world_init(w, seed * 2 + 1, options->trace);
    struct rng *rng = &w->rng;
    w->believe = options->believe;
    world_plant(w, options->plant);
    h->steps = (uint32_t)(rng_percent(rng, 4) ? rng_between(rng, 500, 1500) : rng_between(rng, 80, 300));
    h->publish_weight = (uint32_t)rng_between(rng, 4, 24);
    h->consume_weight = (uint32_t)rng_between(rng, 4, 24);
    h->settle_weight = (uint32_t)rng_between(rng, 4, 30);
    h->time_weight = (uint32_t)rng_between(rng, 2, 12);
    h->machine_weight = (uint32_t)rng_between(rng, 30, 80);
    h->queues = (uint32_t)rng_between(rng, 1, MODEL_PLAIN);
    h->crash_permille = (uint32_t)(rng_percent(rng, 20) ? 2 : rng_between(rng, 5, 40));
    h->large_percent = (uint32_t)(rng_percent(rng, 50) ? 0 : rng_between(rng, 1, 30));
    h->control_percent = (uint32_t)rng_between(rng, 1, 12);
    h->fault_percent = rng_percent(rng, 15) ? 3 : 0;
    w->disk->failed_sync_drops = rng_percent(rng, 50);
    h->idempotence = rng_percent(rng, 30);
    static const uint64_t limits[] = {0, 0, 512 << 10, 1 << 20};
    w->disk->capacity = limits[rng_below(rng, 4)];
    if (w->disk->capacity && rng_percent(rng, 50)) { /* the same by configuration */
        w->store_options.max_disk_bytes = w->disk->capacity;
        w->disk->capacity = 0;
    }
    if (rng_percent(rng, 20))
        w->store_options.window_bytes = 40 << 10;
    w->store_options.tail_cache_bytes = (uint64_t)rng_between(rng, 4, 256) << 10;
    w->store_options.read_cache_bytes = (uint64_t)rng_between(rng, 16, 256) << 10;
    w->model.may_refuse = w->disk->capacity || w->store_options.max_disk_bytes || h->fault_percent ||
                          w->store_options.window_bytes < 1 << 20;
    w->engine_options.producer_ttl_ms = 1000000000000u;
    w->store_options.clean_below_percent = (uint32_t)(rng_percent(rng, 50) ? 30 : 70);
    w->store_options.spare_bytes = rng_percent(rng, 50) ? 256 << 10 : 64 << 10;
    w->store_options.checkpoint_bytes = rng_percent(rng, 50) ? 64 << 10 : 16 << 10;
    choose_features(h);
    for (uint32_t i = 0; i < PRODUCERS; i++) {
        h->producers[i] = (struct producer){.id = rng_next(rng) | 1,
                                            .next_number = 1 + rng_below(rng, 3),
                                            .queue = (uint32_t)rng_below(rng, h->queues),
                                            .sync = rng_percent(rng, 80) ? BROKER_SYNC_DEFAULT : BROKER_SYNC_ALWAYS};
        if (rng_percent(rng, h->use.topics))
            h->producers[i].queue = BY_TOPIC;
    }
}

static bool history_is_over(const struct history *h)
{
    return model_failed(&h->world.model);
}

/* ---- accidents ------------------------------------------------------------------------------------------------------------ */

static size_t first_difference(const struct buf *a, const struct buf *b)
{
    size_t i = 0;
    while (i < a->len && i < b->len && a->bytes[i] == b->bytes[i])
        i++;
    return i;
}

/* Two recoveries of the same bytes give the same broker. false: the second did not come to its end. */
static bool recover_again(struct history *h)
{
    struct world *w = &h->world;
    struct buf first, second;
    buf_init(&first, 0);
    buf_init(&second, 0);
    walltime wall = w->now.wall;
    world_die(w, false); /* what it did since its start, such as letting expired messages go, does not count */
    w->now.wall = wall;
    bool started = world_start(w);
    if (started) {
        if (!engine_snapshot(w->engine, &first))
            abort();
        world_observe(w, false);
        world_die(w, false);
        w->now.wall = wall; /* what is due by the wall clock is due or not alike */
        started = world_start(w);
    }
    if (started) {
        if (!engine_snapshot(w->engine, &second))
            abort();
        world_observe(w, false);
        if (first.len != second.len || memcmp(first.bytes, second.bytes, first.len) != 0)
            model_fail(&w->model, "recovering twice gave two different states (%zu and %zu bytes, from byte %zu on)",
                       first.len, second.len, first_difference(&first, &second));
    }
    buf_release(&first);
    buf_release(&second);
    return started && !world_is_dying(w);
}

static void history_die(struct history *h);

/* Start, perhaps die while starting, start again ... until a process lives and the model has looked at it. */
static void history_start(struct history *h)
{
    struct world *w = &h->world;
    struct rng *rng = &w->rng;
    for (uint32_t tries = 0; !history_is_over(h); tries++) {
        if (tries < 4 && rng_percent(rng, 25)) {
            w->disk->cut_after = w->disk->changing_calls + rng_between(rng, 1, 12);
            w->disk->cut_bytes = rng_percent(rng, 50) ? rng_between(rng, 1, 16) * 4096 : 0;
        }
        if (world_start(w) && !world_is_dying(w)) {
            w->disk->cut_after = 0;
            world_observe(w, rng_percent(rng, 50));
            if (!world_is_dying(w))
                break;
        }
        if (history_is_over(h))
            return;
        if (tries > 2)
            w->disk->fault.call = DISK_CALL_NONE;
        if (tries > 6) { /* down to the last byte: somebody makes room */
            w->disk->capacity += w->disk->capacity ? 256 << 10 : 0;
            w->store_options.max_disk_bytes += w->store_options.max_disk_bytes ? 256 << 10 : 0;
        }
        if (tries > 20) {
            model_fail(&w->model, "the broker does not start: %s", w->report);
            return;
        }
        client_remember_unanswered(h);
        world_die(w, rng_percent(rng, 50));
    }
    bool again = h->idempotence && w->disk->fault.call == DISK_CALL_NONE && rng_percent(rng, 30);
    if (!history_is_over(h) && again && !recover_again(h) && !history_is_over(h))
        history_die(h);
}

/* The newest of two checkpoints is damaged at rest: that costs nothing. */
static void damage_checkpoint(struct history *h)
{
    const struct directory *dir = &h->world.disk->synced;
    struct dir_entry newest = {.inode = NULL};
    uint32_t count = 0;
    for (uint32_t i = 0; i < dir->count; i++) {
        const struct dir_entry *e = &dir->entries[i];
        if (strncmp(e->name, "checkpoint-", 11) != 0 || strstr(e->name, ".tmp"))
            continue;
        count++;
        if (!newest.inode || strcmp(e->name, newest.name) > 0)
            newest = *e;
    }
    if (count < 2 || newest.inode->pending_count != 0)
        return;
    model_trace(&h->world.model, "damaged %s", newest.name);
    simdisk_flip(newest.inode, rng_below(&h->world.rng, newest.inode->size * 8));
}

static void history_die(struct history *h)
{
    bool power = rng_percent(&h->world.rng, 60);
    client_remember_unanswered(h);
    world_die(&h->world, power);
    if (power && rng_percent(&h->world.rng, 5))
        damage_checkpoint(h);
    history_start(h);
}

/* A crash between two steps, or one that is armed and strikes at some disk call to come. */
static void accident(struct history *h)
{
    struct world *w = &h->world;
    if (rng_percent(&w->rng, 40)) {
        history_die(h);
        return;
    }
    w->disk->cut_after = w->disk->changing_calls + rng_between(&w->rng, 1, 30);
    w->disk->cut_bytes = rng_percent(&w->rng, 50) ? rng_between(&w->rng, 1, 16) * 4096 : 0;
}

static void disk_trouble(struct history *h)
{
    struct rng *rng = &h->world.rng;
    struct disk_fault *fault = &h->world.disk->fault;
    *fault = (struct disk_fault){.call = (enum disk_call)rng_between(rng, DISK_CALL_CREATE, DISK_CALL_COUNT - 1),
                                 .nth = rng_between(rng, 1, 6),
                                 .error = rng_percent(rng, 50) ? EIO : ENOSPC,
                                 .stays = rng_percent(rng, 20)};
    if (fault->call == DISK_CALL_READ) /* what cannot be read is reported; it may never count as lost */
        fault->call = DISK_CALL_WRITE;
    model_trace(&h->world.model, "disk trouble: call %d, error %d", fault->call, fault->error);
}

/* ---- the history -------------------------------------------------------------------------------------------------------------- */

static void pass_some_time(struct history *h)
{
    struct rng *rng = &h->world.rng;
    uint64_t what = rng_below(rng, 100);
    world_pass_time(&h->world, what < 60   ? rng_below(rng, 20)
                               : what < 95 ? rng_below(rng, 1000)
                                           : rng_below(rng, 20000));
    if (rng_percent(rng, 1 + h->use.clock)) { /* somebody set the clock */
        model_clock_set(&h->world.model);
        uint64_t far = rng_percent(rng, 50) ? 3600000 : 5000;
        h->world.now.wall.ms += rng_below(rng, far);
        if (h->use.clock) {
            h->world.now.wall.ms -= rng_below(rng, far);
            h->world.model.clock_went_back = true;
        }
    }
}

/* Let everything that is under way come to its end: nobody waits for nothing then. */
static void come_to_rest(struct history *h)
{
    struct world *w = &h->world;
    if (w->model.may_refuse) /* on a full disk there may be no rest */
        return;
    if (!world_settle(w))
        model_fail(&w->model, "the store does not come to rest");
    if (!world_is_dying(w) && !history_is_over(h))
        model_check_prompt(&w->model);
}

static void history_step(struct history *h)
{
    struct world *w = &h->world;
    struct rng *rng = &w->rng;
    w->model.now = w->now;
    if (rng_below(rng, 1000) < h->crash_permille) {
        accident(h);
        return;
    }
    if (rng_percent(rng, 2)) {
        come_to_rest(h);
        return;
    }
    if (rng_percent(rng, h->fault_percent))
        disk_trouble(h);
    if (rng_percent(rng, h->control_percent)) {
        client_administer(h);
        return;
    }
    if (rng_percent(rng, (h->use.scans + h->use.reschedule) / 4)) {
        client_mend(h);
        return;
    }
    if (rng_percent(rng, h->use.reads / 3)) {
        client_read(h);
        return;
    }
    if (rng_percent(rng, h->use.transact / 4)) {
        client_transact(h);
        return;
    }
    uint32_t publish = h->publish_weight, consume = publish + h->consume_weight, settle = consume + h->settle_weight,
             time = settle + h->time_weight;
    uint64_t what = rng_below(rng, time + h->machine_weight);
    if (what < publish)
        client_publish(h);
    else if (what < consume)
        client_consume(h);
    else if (what < settle)
        client_settle(h);
    else if (what < time)
        pass_some_time(h);
    else
        world_step(w);
}

static void create_some_queues(struct history *h)
{
    for (uint32_t i = 0; i < h->queues && !world_is_dying(&h->world); i++)
        client_administer(h);
}

/* One bit of a stopped broker's files is flipped: the start is refused, or all is there, or what is not is called damaged. */
static void flip_one_bit(struct history *h)
{
    static struct world probe; /* a copy: the history itself goes on undamaged */
    struct world *w = &h->world;
    probe = *w;
    probe.disk = simdisk_copy(w->disk);
    model_copy(&probe.model, &w->model);
    const struct dir_entry *e = &probe.disk->current.entries[rng_below(&w->rng, probe.disk->current.count)];
    uint64_t bit = rng_below(&w->rng, e->inode->size * 8 + 1);
    if (bit < e->inode->size * 8 && e->inode->pending_count == 0) {
        model_trace(&w->model, "flipped bit %llu of %s", (unsigned long long)bit, e->name);
        simdisk_flip(e->inode, bit);
        probe.damaged = true;
        if (world_start(&probe))
            world_observe(&probe, true);
    }
    memcpy(w->model.failure, probe.model.failure, sizeof(w->model.failure));
    world_release(&probe);
}

/* Quiet at last: nothing may be missing, and an orderly stop brings all of it back. */
static void history_finish(struct history *h)
{
    struct world *w = &h->world;
    w->disk->cut_after = 0;
    w->disk->fault.call = DISK_CALL_NONE;
    w->disk->capacity = 0;
    if (w->store_options.max_disk_bytes) {
        w->store_options.max_disk_bytes = 0;
        history_die(h);
        w->disk->cut_after = 0;
    }
    if (!history_is_over(h) && !world_settle(w))
        model_fail(&w->model, "the store does not come to rest");
    if (world_is_dying(w) && !history_is_over(h))
        history_die(h);
    if (!history_is_over(h))
        client_drain(h);
    if (history_is_over(h))
        return;
    world_stop(w);
    if (history_is_over(h))
        return;
    client_remember_unanswered(h);
    world_die(w, false);
    for (uint32_t flips = 0; flips < 4 && !history_is_over(h); flips++)
        flip_one_bit(h);
    if (!history_is_over(h) && world_start(w))
        world_observe(w, true);
}

static void history_result_of(const struct history *h, struct history_result *r)
{
    const struct world *w = &h->world;
    *r = (struct history_result){
        .step = h->step,
        .steps = h->steps,
        .starts = w->starts,
        .cuts = w->cuts,
        .kills = w->kills,
        .broken_starts = w->broken_starts,
        .delivered = w->model.delivered,
        .confirmed = w->model.confirmed,
        .settled = w->model.settled,
        .duplicates = w->model.duplicates,
        .refused = w->model.refused,
        .lost = w->model.lost,
        .disk_calls = w->disk->changing_calls,
        .moved = w->model.moved,
        .expired = w->model.expired,
        .dropped = w->model.dropped,
        .routed = w->model.routed,
        .transactions = w->model.transactions,
        .scanned = w->model.scanned,
        .rescheduled = w->model.rescheduled,
        .read = w->model.read,
    };
    memcpy(r->failure, w->model.failure, sizeof(r->failure));
}

bool history_run(uint64_t seed, const struct history_options *options, struct history_result *result)
{
    struct history *h = malloc(sizeof(*h));
    if (!h)
        abort();
    history_setup(h, seed, options);
    history_start(h);
    if (!history_is_over(h))
        create_some_queues(h);
    for (h->step = 1; h->step <= h->steps && !history_is_over(h); h->step++) {
        if (options->trace)
            printf("step %u, %llu ms, wall %llu\n", h->step, (unsigned long long)h->world.now.mono.ms,
                   (unsigned long long)h->world.now.wall.ms);
        if (world_is_dying(&h->world))
            history_die(h);
        else
            history_step(h);
    }
    if (!history_is_over(h))
        history_finish(h);
    history_result_of(h, result);
    world_release(&h->world);
    free(h);
    return result->failure[0] == 0;
}
