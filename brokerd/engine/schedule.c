/* When something happens to a message: its life, the clock, and firing. */
#include <stdlib.h>
#include <string.h>

#include "schedule_internal.h"

enum {
    FIRED_AT_ONCE = 4096,  /* in one call */
    LOADED_AT_ONCE = 256,  /* blocks, in one call */
    READ_AHEAD_MS = 10000, /* a block is read so long before its first entry is due */
    JUMP_MS = 20,          /* the wall clock may go this much ... */
    JUMP_PART = 1000,      /* ... and this part of the time passed astray without having jumped */
};

struct schedule *schedule_new(void)
{
    struct schedule *s = calloc(1, sizeof *s);
    if (s) {
        TAILQ_INIT(&s->runs);
        TAILQ_INIT(&s->waiting);
        heap_init(&s->fire);
        heap_init(&s->load);
        s->memory.loose = true; /* until schedule_recovered */
        s->next_seq = 1;
        s->spill_max = SCHEDULE_SPILL_ENTRIES;
    }
    return s;
}

void schedule_free(struct schedule *s)
{
    if (s) {
        schedule_runs_free(s);
        free(s->memory.entries);
        free(s->spill.marks);
        free(s);
    }
}

size_t schedule_limit(const struct engine *e)
{
    return e->options.max_schedule_entries ? e->options.max_schedule_entries : SCHEDULE_ENTRIES;
}

uint64_t schedule_lost(const struct engine *e)
{
    return e->schedule->lost;
}

/* ---- the clock ------------------------------------------------------------------------------------------------------------- */

static int64_t bounded(uint64_t ms)
{
    return (int64_t)(ms < SCHEDULE_TIME_MAX ? ms : SCHEDULE_TIME_MAX);
}

int64_t schedule_steady(uint64_t at_ms, int64_t shift_ms)
{
    return bounded(at_ms) - shift_ms;
}

/* How far the wall clock went astray since the last look, if that is more than drift and adjustment explain. */
static int64_t jump_to(const struct schedule *s, struct now now)
{
    if (!s->clock_known) {
        return 0;
    }
    int64_t elapsed = bounded(now.mono.ms) - bounded(s->clock.mono.ms);
    int64_t moved = bounded(now.wall.ms) - bounded(s->clock.wall.ms);
    int64_t jump = moved - elapsed, tolerated = JUMP_MS + elapsed / JUMP_PART;
    return jump > tolerated || jump < -tolerated ? jump : 0;
}

static void look_at_clock(struct engine *e)
{
    struct schedule *s = e->schedule;
    int64_t jump = jump_to(s, e->now);
    s->shift_ms += jump;
    s->jumped |= jump != 0;
    s->clock = e->now;
    s->clock_known = true;
}

/* ---- in and out -------------------------------------------------------------------------------------------------------------- */

bool schedule_add(struct engine *e, enum schedule_kind kind, uint32_t queue, uint64_t seq, uint64_t at_wall_ms)
{
    struct schedule *s = e->schedule;
    struct schedule_memory *m = &s->memory;
    if (e->replaying) { /* what was fired before the stop comes again: here it piles up */
        size_t limit = schedule_limit(e);
        if (m->len >= 2 * limit && m->len >= s->sweep_at) {
            schedule_memory_drop_unwanted(e, 0);
            s->sweep_at = 2 * m->len;
        }
    } else {
        look_at_clock(e);
    }
    struct schedule_entry entry = {.at_ms = at_wall_ms,
                                   .steady_ms = schedule_steady(at_wall_ms, s->shift_ms),
                                   .seq = seq,
                                   .queue = queue,
                                   .kind = (uint32_t)kind};
    return schedule_memory_add(m, &entry);
}

/* The next entry, if it is due by steady time `now`. */
static bool take_due(struct engine *e, int64_t now, struct schedule_entry *out)
{
    struct schedule *s = e->schedule;
    int64_t run_ms = INT64_MAX;
    bool runs = schedule_runs_peek(s, &run_ms) && run_ms <= now;
    bool memory = s->memory.len && s->memory.entries[0].steady_ms <= now;
    if (memory && (!runs || s->memory.entries[0].steady_ms <= run_ms)) {
        *out = schedule_memory_pop(&s->memory);
    } else if (runs) {
        *out = schedule_runs_pop(e, now);
    } else {
        return false;
    }
    return true;
}

void schedule_run(struct engine *e)
{
    struct schedule *s = e->schedule;
    look_at_clock(e);
    if (s->memory.loose) {
        schedule_memory_order(&s->memory);
    }
    int64_t now = schedule_steady(e->now.wall.ms, s->shift_ms);
    uint32_t loads = LOADED_AT_ONCE;
    for (uint32_t fired = 0; fired < FIRED_AT_ONCE; fired++) {
        int64_t load_ms;
        /* What is used up makes its run's next block the one to load: it may be due as well. */
        while (loads && schedule_runs_next_load(s, &load_ms) && load_ms <= now) {
            loads--;
            if (!schedule_runs_load(e, now)) {
                break;
            }
        }
        struct schedule_entry entry;
        if (!take_due(e, now, &entry)) {
            break;
        }
        schedule_fired(e, (enum schedule_kind)entry.kind, entry.queue, entry.seq, entry.at_ms);
    }
    while (loads && schedule_runs_load(e, now + READ_AHEAD_MS)) {
        loads--;
    }
    schedule_spill(e);
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

bool schedule_is_past(const struct engine *e, uint64_t wall_ms)
{
    int64_t shift = e->schedule->shift_ms > 0 ? e->schedule->shift_ms : 0;
    return (int64_t)wall_ms <= schedule_steady(e->now.wall.ms, shift);
}

uint64_t schedule_next(const struct engine *e)
{
    const struct schedule *s = e->schedule;
    int64_t now = schedule_steady(e->now.wall.ms, s->shift_ms + jump_to(s, e->now));
    int64_t at = INT64_MAX, steady;
    uint64_t mono = e->now.mono.ms, next = UINT64_MAX;
    if (s->memory.len) {
        at = s->memory.loose ? now : s->memory.entries[0].steady_ms;
    }
    if (schedule_runs_peek(s, &steady) && steady < at) {
        at = steady;
    }
    if (schedule_runs_next_load(s, &steady)) {
        if (s->load_retry_ms > mono) {
            next = s->load_retry_ms;
        } else if (steady - READ_AHEAD_MS < at) {
            at = steady - READ_AHEAD_MS;
        }
    }
    if (s->memory.len > schedule_limit(e)) {
        next = earlier(next, s->spill_retry_ms > mono ? s->spill_retry_ms : mono);
    }
    if (at != INT64_MAX) {
        next = earlier(next, at <= now ? mono : mono + (uint64_t)(at - now));
    }
    return next;
}

void schedule_recovered(struct engine *e)
{
    struct schedule *s = e->schedule;
    schedule_spill_abandon(e);
    schedule_memory_order(&s->memory);
    s->clock = e->now;
    s->clock_known = true;
}
