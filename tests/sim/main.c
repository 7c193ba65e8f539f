/* The simulation's command line. */
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "enumerate.h"
#include "history.h"
#include "log.h"

static const char usage_text[] =
    "usage: sim [options]\n"
    "  --seeds N          random histories to run (default 10000)\n"
    "  --from S           the first seed (default 1)\n"
    "  --seed S           this seed alone\n"
    "  --trace            say what happens (with --seed or --variant)\n"
    "  --enumerate        every crash of short histories instead of random ones\n"
    "  --states N         ... until so many different crashed disks were recovered (default 100000)\n"
    "  --variant V        ... of this variant alone\n"
    "  --plant BUG        skip-sync: a sync that does nothing; seal-early: a footer written before its records are "
    "durable;\n"
    "                     fire-early: what waits comes early; forget-end: a moved message stays where it was, too;\n"
    "                     half-step: what belongs together is written in two steps\n"
    "  --expect-bug BUG   plant it, and succeed only if it is found\n"
    "  --seconds N        stop after so long\n";

static const char *const bug_names[BUG_COUNT] = {"",           "skip-sync",  "seal-early",
                                                 "fire-early", "forget-end", "half-step"};

struct options {
    uint64_t seeds, from, states, variant, seconds;
    bool one, trace, enumerate, expect;
    enum bug bug;
    uint64_t started_us, printed_us;
};

static struct options options = {.seeds = 10000, .from = 1, .states = 100000};

static bool time_is_up(void)
{
    return options.seconds != 0 && clock_mono_us() - options.started_us > options.seconds * 1000000u;
}

static bool progress_is_due(void)
{
    uint64_t now = clock_mono_us();
    if (now - options.printed_us < 3000000u)
        return false;
    options.printed_us = now;
    return true;
}

static double seconds_so_far(void)
{
    return (double)(clock_mono_us() - options.started_us) / 1e6;
}

static const char *bug_option(void)
{
    static char text[40];
    snprintf(text, sizeof(text), options.bug ? " --plant %s" : "%s", bug_names[options.bug]);
    return text;
}

static char again[160]; /* how to come back to what runs now: said if it ends in an assertion or a signal */

static void on_crash(int number)
{
    ssize_t written = write(STDOUT_FILENO, again, strlen(again));
    (void)written;
    signal(number, SIG_DFL);
    raise(number);
}

/* ---- random histories ------------------------------------------------------------------------------------------------------ */

static void add_up(struct history_result *sum, const struct history_result *r)
{
    sum->steps += r->steps;
    sum->starts += r->starts;
    sum->cuts += r->cuts;
    sum->kills += r->kills;
    sum->broken_starts += r->broken_starts;
    sum->delivered += r->delivered;
    sum->confirmed += r->confirmed;
    sum->settled += r->settled;
    sum->duplicates += r->duplicates;
    sum->refused += r->refused;
    sum->lost += r->lost;
    sum->disk_calls += r->disk_calls;
    sum->moved += r->moved;
    sum->expired += r->expired;
    sum->dropped += r->dropped;
    sum->routed += r->routed;
    sum->transactions += r->transactions;
    sum->scanned += r->scanned;
    sum->rescheduled += r->rescheduled;
    sum->read += r->read;
}

static void print_sum(uint64_t seeds, const struct history_result *sum)
{
    printf("%" PRIu64 " seeds in %.1f s: %" PRIu64 " starts (%" PRIu64 " failed midway) after %" PRIu64
           " power cuts and %" PRIu64 " kills; %" PRIu64 " delivered, %" PRIu64 " settled, %" PRIu64
           " duplicates, %" PRIu64 " refused, %" PRIu64 " unconfirmed lost; %" PRIu64 " moved, %" PRIu64
           " expired, %" PRIu64 " dropped, %" PRIu64 " routed, %" PRIu64 " transactions, %" PRIu64 " scanned, %" PRIu64
           " rescheduled, %" PRIu64 " read; %" PRIu64 " disk changes\n",
           seeds, seconds_so_far(), sum->starts, sum->broken_starts, sum->cuts, sum->kills, sum->delivered,
           sum->settled, sum->duplicates, sum->refused, sum->lost, sum->moved, sum->expired, sum->dropped, sum->routed,
           sum->transactions, sum->scanned, sum->rescheduled, sum->read, sum->disk_calls);
}

static bool run_seeds(void)
{
    struct history_options how = {.trace = options.trace, .plant = options.bug, .believe = options.bug != BUG_NONE};
    struct history_result sum = {.steps = 0}, r;
    uint64_t done = 0;
    for (; done < options.seeds && !time_is_up(); done++) {
        uint64_t seed = options.from + done;
        snprintf(again, sizeof(again), "crashed; run again with: sim --seed %" PRIu64 " --trace%s\n", seed,
                 bug_option());
        if (!history_run(seed, &how, &r)) {
            printf("seed %" PRIu64 ", step %u of %u: %s\nrun again with: sim --seed %" PRIu64 " --trace%s\n", seed,
                   r.step, r.steps, r.failure, seed, bug_option());
            return false;
        }
        add_up(&sum, &r);
        if (progress_is_due()) {
            printf("seed %" PRIu64 ": ", seed);
            print_sum(done + 1, &sum);
            fflush(stdout);
        }
    }
    print_sum(done, &sum);
    return true;
}

/* ---- enumeration ------------------------------------------------------------------------------------------------------------- */

static void print_enumeration(const struct enumerate_result *r)
{
    printf("%" PRIu64 " different crash states in %.1f s: %" PRIu64 " variants, %" PRIu64 " cuts, %" PRIu64
           " recoveries, %" PRIu64 " cuts during recovery, %" PRIu64 " drained\n",
           r->states, seconds_so_far(), r->variants, r->cuts, r->recoveries, r->recovery_cuts, r->drains);
}

static bool enumeration_progress(const struct enumerate_result *r)
{
    snprintf(again, sizeof(again), "crashed; run again with: sim --enumerate --variant %" PRIu64 "%s\n", r->variant,
             bug_option());
    if (progress_is_due()) {
        print_enumeration(r);
        fflush(stdout);
    }
    return !time_is_up();
}

static bool run_enumeration(void)
{
    struct enumerate_options how = {
        .trace = options.trace, .plant = options.bug, .states = options.states, .only_variant = options.variant};
    struct enumerate_result r;
    bool kept = enumerate_run(&how, &r, enumeration_progress);
    if (!kept)
        printf("variant %" PRIu64 ", cut after disk call %" PRIu64
               ": %s\nrun again with: sim --enumerate --variant %" PRIu64 " --trace%s\n",
               r.variant, r.cut_after, r.failure, r.variant, bug_option());
    print_enumeration(&r);
    return kept;
}

/* ---- options --------------------------------------------------------------------------------------------------------------------- */

static uint64_t number(const char *option, const char *text)
{
    char *end;
    uint64_t n = strtoull(text, &end, 10);
    if (*text == 0 || *end != 0 || *text == '-') {
        fprintf(stderr, "sim: --%s needs a number, not '%s'\n", option, text);
        exit(2);
    }
    return n;
}

static enum bug bug_named(const char *name)
{
    for (uint32_t i = 1; i < BUG_COUNT; i++) {
        if (strcmp(name, bug_names[i]) == 0)
            return (enum bug)i;
    }
    fprintf(stderr, "sim: no bug '%s' to plant: skip-sync, seal-early, fire-early, forget-end, half-step\n", name);
    exit(2);
}

static void parse(int argc, char **argv)
{
    static const struct option known[] = {
        {"seeds", 1, NULL, 'n'},   {"from", 1, NULL, 'f'},       {"seed", 1, NULL, 's'},  {"trace", 0, NULL, 't'},
        {"states", 1, NULL, 'S'},  {"enumerate", 0, NULL, 'e'},  {"plant", 1, NULL, 'p'}, {"variant", 1, NULL, 'v'},
        {"seconds", 1, NULL, 'T'}, {"expect-bug", 1, NULL, 'x'}, {"help", 0, NULL, 'h'},  {NULL, 0, NULL, 0},
    };
    int c, at = 0;
    while ((c = getopt_long(argc, argv, "h", known, &at)) != -1) {
        switch (c) {
        case 'n': options.seeds = number("seeds", optarg); break;
        case 'f': options.from = number("from", optarg); break;
        case 's':
            options.from = number("seed", optarg);
            options.one = true;
            break;
        case 't': options.trace = true; break;
        case 'e': options.enumerate = true; break;
        case 'S': options.states = number("states", optarg); break;
        case 'v': options.variant = number("variant", optarg); break;
        case 'T': options.seconds = number("seconds", optarg); break;
        case 'x': options.expect = true; /* fall through */
        case 'p': options.bug = bug_named(optarg); break;
        case 'h': fputs(usage_text, stdout); exit(0);
        default: fputs(usage_text, stderr); exit(2);
        }
    }
    if (optind < argc) {
        fprintf(stderr, "sim: unexpected '%s'\n%s", argv[optind], usage_text);
        exit(2);
    }
    if (options.one)
        options.seeds = 1;
}

int main(int argc, char **argv)
{
    parse(argc, argv);
    if (!options.trace)
        log_setup(LOG_LEVEL_ERROR, 0); /* of full and failing disks there is no end here */
    signal(SIGABRT, on_crash);
    signal(SIGSEGV, on_crash);
    options.started_us = options.printed_us = clock_mono_us();
    bool kept = options.enumerate ? run_enumeration() : run_seeds();
    if (!options.expect)
        return kept ? 0 : 1;
    printf("the planted bug was %s\n", kept ? "NOT found" : "found");
    return kept ? 1 : 0;
}
