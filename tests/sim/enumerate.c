#include "enumerate.h"

#include <stdlib.h>
#include <string.h>

#include "scripts.h"

#define ALL_CHOICES_MAX      1024u /* up to so many subsets of a cut are all tried, of more a sample */
#define RECOVERY_CHOICES_MAX 24u   /* of a cut during recovery */
#define RECOVERY_CUTS_EVERY  64u   /* each so manieth state is recovered with a cut at every disk call */
#define DRAIN_EVERY          16u

struct seen { /* a set of hashes */
    uint64_t *slots;
    uint64_t count, cap;
};

static bool seen_add(struct seen *s, uint64_t hash);

static void seen_grow(struct seen *s)
{
    struct seen bigger = {.cap = s->cap ? s->cap * 2 : 4096};
    bigger.slots = calloc(bigger.cap, sizeof(*bigger.slots));
    if (!bigger.slots)
        abort();
    for (uint64_t i = 0; i < s->cap; i++) {
        if (s->slots[i])
            seen_add(&bigger, s->slots[i]);
    }
    free(s->slots);
    *s = bigger;
}

/* false: it was there. */
static bool seen_add(struct seen *s, uint64_t hash)
{
    if (s->count * 2 >= s->cap)
        seen_grow(s);
    hash = hash ? hash : 1;
    uint64_t i = hash & (s->cap - 1);
    while (s->slots[i] && s->slots[i] != hash)
        i = (i + 1) & (s->cap - 1);
    if (s->slots[i])
        return false;
    s->slots[i] = hash;
    s->count++;
    return true;
}

struct enumeration {
    const struct enumerate_options *options;
    struct enumerate_result *result;
    bool (*progress)(const struct enumerate_result *);
    struct seen disks, checks;
    bool stop;
    struct rng rng;
};

/* What the model demands of a disk, in one number: the same disk may have to fulfil more later. */
static uint64_t demands(const struct model *m)
{
    return rng_mix(m->confirmed * 31 + m->delivered * 17 + m->settled * 13 + m->duplicates) ^
           rng_mix(m->durable_index + (uint64_t)m->op_count * 1000003u);
}

static void probe_init(struct history *probe, const struct history *from, struct simdisk *disk)
{
    *probe = *from;
    probe->world.disk = disk;
    probe->world.store = NULL;
    probe->world.engine = NULL;
    model_copy(&probe->world.model, &from->world.model);
}

static void enumeration_fail(struct enumeration *e, const struct history *probe, const char *when)
{
    struct enumerate_result *r = e->result;
    if (r->failure[0] == 0)
        snprintf(r->failure, sizeof(r->failure), "%s (%s)", probe->world.model.failure, when);
    e->stop = true;
}

/* Recover this disk (consumed) and look at everything. Returns the disk calls that took. */
static uint64_t check_disk(struct enumeration *e, const struct history *from, struct simdisk *disk, bool drain,
                           const char *when)
{
    static struct history probe;
    probe_init(&probe, from, disk);
    uint64_t before = disk->changing_calls;
    e->result->recoveries++;
    if (!world_start(&probe.world)) {
        if (!model_failed(&probe.world.model))
            model_fail(&probe.world.model, "the broker does not start: %s", probe.world.report);
    } else {
        world_observe(&probe.world, true);
    }
    uint64_t calls = disk->changing_calls - before;
    if (drain && !model_failed(&probe.world.model)) {
        e->result->drains++;
        client_drain(&probe);
    }
    if (model_failed(&probe.world.model))
        enumeration_fail(e, &probe, when);
    world_release(&probe.world);
    return calls;
}

typedef void choice_fn(struct enumeration *e, const struct history *h, const struct cut *c, const uint32_t *choice);

/* All combinations in turn, like the wheels of an odometer. */
static void all_choices(struct enumeration *e, const struct history *h, const struct cut *c, uint32_t *choice,
                        choice_fn *fn)
{
    memset(choice, 0, (c->count + 1) * sizeof(*choice));
    for (;;) {
        fn(e, h, c, choice);
        uint32_t i = 0;
        while (i < c->count && ++choice[i] == c->units[i].versions)
            choice[i++] = 0;
        if (i == c->count || e->stop)
            return;
    }
}

/* Nothing, everything, everything but one, nothing but one, prefixes, and some by chance. */
static void some_choices(struct enumeration *e, const struct history *h, const struct cut *c, uint32_t *choice,
                         uint32_t most, choice_fn *fn)
{
    for (uint32_t n = 0; n < most && !e->stop; n++) {
        uint32_t kind = n < 2 ? n : 2 + n % 4, at = (uint32_t)rng_below(&e->rng, c->count);
        if (n / 4 < c->count && n >= 2)
            at = n / 4;
        for (uint32_t i = 0; i < c->count; i++) {
            uint32_t last = c->units[i].versions - 1;
            bool in = kind == 1 || (kind == 2 && i != at) || (kind == 3 && i == at) || (kind == 4 && i <= at) ||
                      (kind == 5 && rng_percent(&e->rng, 50));
            choice[i] = !in ? 0 : kind == 5 ? (uint32_t)rng_between(&e->rng, 1, last) : last;
        }
        fn(e, h, c, choice);
    }
}

static void try_cuts(struct enumeration *e, const struct history *h, struct simdisk *disk, uint32_t most, choice_fn *fn)
{
    struct cut c;
    cut_list(disk, &c);
    uint32_t *choice = calloc(c.count + 1, sizeof(*choice));
    if (!choice)
        abort();
    uint64_t combinations = 1;
    for (uint32_t i = 0; i < c.count && combinations <= most; i++)
        combinations *= c.units[i].versions;
    if (combinations <= most)
        all_choices(e, h, &c, choice, fn);
    else
        some_choices(e, h, &c, choice, most < 4 * c.count + 64 ? most : 4 * c.count + 64, fn);
    free(choice);
    cut_release(&c);
}

static void report_progress(struct enumeration *e)
{
    e->result->states = e->disks.count;
    if (e->progress && !e->progress(e->result))
        e->stop = true;
}

/* Is this disk, with these demands, a new one? */
static bool is_new(struct enumeration *e, const struct history *h, struct simdisk *disk)
{
    uint64_t hash = simdisk_hash(disk);
    seen_add(&e->disks, hash);
    if ((e->result->recoveries & 1023) == 0)
        report_progress(e);
    return seen_add(&e->checks, hash ^ demands(&h->world.model));
}

static void check_after_recovery_cut(struct enumeration *e, const struct history *h, const struct cut *c,
                                     const uint32_t *choice)
{
    struct simdisk *after = cut_apply(h->world.disk, c, choice);
    if (is_new(e, h, after))
        check_disk(e, h, after, false, "after a cut during recovery");
    else
        simdisk_free(after);
}

/* Recover a copy of `disk` with the power going at each of its disk calls; and what that leaves, in turn. */
static void cut_recovery(struct enumeration *e, const struct history *h, const struct simdisk *disk, uint64_t calls)
{
    static struct history dying;
    for (uint64_t n = 1; n <= calls && !e->stop; n++) {
        probe_init(&dying, h, simdisk_copy(disk));
        dying.world.disk->cut_after = n;
        dying.world.disk->changing_calls = 0;
        e->result->recovery_cuts++;
        world_start(&dying.world);
        if (model_failed(&dying.world.model))
            enumeration_fail(e, &dying, "during recovery");
        world_quit(&dying.world);
        model_crash(&dying.world.model, true);
        try_cuts(e, &dying, dying.world.disk, RECOVERY_CHOICES_MAX, check_after_recovery_cut);
        world_release(&dying.world);
    }
}

static void check_choice(struct enumeration *e, const struct history *h, const struct cut *c, const uint32_t *choice)
{
    struct simdisk *after = cut_apply(h->world.disk, c, choice);
    if (!is_new(e, h, after)) {
        simdisk_free(after);
        return;
    }
    bool deeper = e->result->recoveries % RECOVERY_CUTS_EVERY == 0;
    struct simdisk *copy = deeper ? simdisk_copy(after) : NULL;
    uint64_t calls = check_disk(e, h, after, e->result->recoveries % DRAIN_EVERY == 0, "after a power cut");
    if (copy)
        cut_recovery(e, h, copy, calls);
    simdisk_free(copy);
}

/* Killed, not cut: what was written stays, but is not safe yet. */
static void check_kill(struct enumeration *e, const struct history *h)
{
    static struct history killed;
    probe_init(&killed, h, simdisk_copy(h->world.disk));
    model_crash(&killed.world.model, false);
    killed.world.power = false;
    e->result->recoveries++;
    if (world_start(&killed.world))
        world_observe(&killed.world, true);
    else if (!model_failed(&killed.world.model))
        model_fail(&killed.world.model, "the broker does not start: %s", killed.world.report);
    if (!model_failed(&killed.world.model))
        client_drain(&killed);
    if (model_failed(&killed.world.model))
        enumeration_fail(e, &killed, "after a kill");
    world_release(&killed.world);
}

/* One variant, the power going after disk call `n`. false: the history is over before. */
static bool cut_variant(struct enumeration *e, uint64_t variant, uint64_t n)
{
    static struct history h;
    script_setup(&h, variant, e->options->trace);
    world_plant(&h.world, e->options->plant);
    h.world.believe = true;
    h.world.disk->cut_after = n;
    script_run(&h, variant);
    bool reached = h.world.disk->frozen;
    e->result->cut_after = n;
    if (model_failed(&h.world.model))
        enumeration_fail(e, &h, "before any crash");
    if (reached && !e->stop) {
        e->result->cuts++;
        world_quit(&h.world);
        check_kill(e, &h);
        model_crash(&h.world.model, true);
        h.world.power = true;
        if (!e->stop)
            try_cuts(e, &h, h.world.disk, ALL_CHOICES_MAX, check_choice);
    }
    world_release(&h.world);
    return reached;
}

bool enumerate_run(const struct enumerate_options *options, struct enumerate_result *result,
                   bool (*progress)(const struct enumerate_result *))
{
    struct enumeration e = {.options = options, .result = result, .progress = progress, .rng = {1}};
    *result = (struct enumerate_result){.variants = 0};
    uint64_t variant = options->only_variant ? options->only_variant : 1;
    while (!e.stop && e.disks.count < options->states) {
        result->variant = variant;
        for (uint64_t n = 1; !e.stop && cut_variant(&e, variant, n); n++)
            ;
        result->variants++;
        if (options->only_variant)
            break;
        variant++;
    }
    result->states = e.disks.count;
    free(e.disks.slots);
    free(e.checks.slots);
    return result->failure[0] == 0;
}
