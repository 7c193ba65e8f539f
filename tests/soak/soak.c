/*
 * The soak test: the real broker under load, killed (SIGKILL) at random moments and started again, while a checker knows
 * each confirmed publish and each confirmed ack. Afterwards everything is consumed, the broker stopped in good order, and
 * its data checked. Start reading at main; the promises are in ledger.h.
 */
#include "clients.h"
#include "ledger.h"
#include "process.h"

#include <broker/broker.h>
#include <ftw.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

enum { QUEUES = 2, PRODUCERS = 4, CONSUMERS_PER_QUEUE = 3, CONSUMERS = QUEUES * CONSUMERS_PER_QUEUE };
enum { PROGRESS_MS = 20000, DRAIN_MS = 120000, REPORT_MS = 5000 };

static const char *const queues[QUEUES] = {"soak.always", "soak.interval"};

struct options {
    const char *brokerd;
    unsigned kills, seconds, rate;
    uint64_t seed;
    bool keep;
};

static uint64_t mono_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void usage(FILE *out)
{
    fprintf(out, "usage: soak [options]\n"
                 "Kill the real broker under load, again and again, and check that every promise holds.\n\n"
                 "  --brokerd PATH  the broker (default: brokerd/brokerd of this build)\n"
                 "  --kills N       how often it is killed (default 20; with --seconds: until they are over)\n"
                 "  --seconds S     at most this long, and then the check\n"
                 "  --rate N        messages a second and producer, of four (default 4000)\n"
                 "  --seed N        of all chances (default: a random one, printed)\n"
                 "  --keep          keep the data directory\n");
}

static unsigned number_of(const char *option, const char *text)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);

    if (*text < '0' || *text > '9' || *end || n == 0 || n > 10000000) {
        fprintf(stderr, "soak: --%s wants a number from 1 to 10000000, not \"%s\"\n", option, text);
        exit(2);
    }
    return (unsigned)n;
}

static void read_options(int argc, char **argv, struct options *o)
{
    static const struct option table[] = {{"brokerd", 1, NULL, 'b'}, {"kills", 1, NULL, 'k'}, {"seconds", 1, NULL, 's'},
                                          {"rate", 1, NULL, 'r'},    {"seed", 1, NULL, 'S'},  {"keep", 0, NULL, 'K'},
                                          {"help", 0, NULL, 'h'},    {NULL, 0, NULL, 0}};
    int c;

    while ((c = getopt_long(argc, argv, "", table, NULL)) != -1) {
        switch (c) {
        case 'b': o->brokerd = optarg; break;
        case 'k': o->kills = number_of("kills", optarg); break;
        case 's': o->seconds = number_of("seconds", optarg); break;
        case 'r': o->rate = number_of("rate", optarg); break;
        case 'S': o->seed = strtoull(optarg, NULL, 10); break;
        case 'K': o->keep = true; break;
        case 'h': usage(stdout); exit(0);
        default: usage(stderr); exit(2);
        }
    }
    if (o->kills == 0)
        o->kills = o->seconds ? UINT32_MAX : 20;
    if (o->seed == 0 && getrandom(&o->seed, sizeof(o->seed), 0) != sizeof(o->seed))
        o->seed = mono_ms();
}

/* ---- the run ---------------------------------------------------------------------------------------------------------- */

struct run {
    struct options options;
    struct process process;
    struct load load;
    struct client producers[PRODUCERS], consumers[CONSUMERS];
    broker *admin;
    unsigned kills, early_kills;
    uint64_t random, began, reported, slowest_start_ms;
};

static bool fail(struct run *r, const char *what)
{
    ledger_broken(r->load.ledger, "%s: %s", what, r->admin ? broker_error_text(r->admin) : "");
    return false;
}

static void report(struct run *r, bool always)
{
    struct ledger_totals t;
    uint64_t now = mono_ms();

    if (!always && now - r->reported < REPORT_MS)
        return;
    r->reported = now;
    ledger_totals(r->load.ledger, &t);
    printf("%3" PRIu64 " s: %u kills, %" PRIu64 " published, %" PRIu64 " confirmed, %" PRIu64 " acked, %" PRIu64
           " delivered again, %" PRIu64 " broken promises\n",
           (now - r->began) / 1000, r->kills, t.submitted, t.confirmed, t.acked, t.redelivered, t.broken);
    fflush(stdout);
}

/* Wait until the broker answers. */
static bool wait_ready(struct run *r)
{
    uint64_t start = mono_ms();

    for (;;) {
        broker_error e = broker_ping(r->admin, NULL);
        if (e == BROKER_OK)
            break;
        if (process_ended(&r->process))
            return fail(r, "the broker died of itself");
        if (mono_ms() - start > PROGRESS_MS) {
            process_show_log(&r->process);
            return fail(r, "the broker does not answer after its start");
        }
    }
    uint64_t took = mono_ms() - start;
    r->slowest_start_ms = took > r->slowest_start_ms ? took : r->slowest_start_ms;
    return true;
}

static bool set_up(struct run *r)
{
    broker_options o = BROKER_OPTIONS_INIT(broker_options);

    o.url = r->process.unix_url;
    o.client_name = "soak-admin";
    o.timeout_ms = 2000;
    o.reconnect_max_ms = 50;
    if (!process_start(&r->process) || broker_open(&r->admin, &o) != BROKER_OK || !wait_ready(r))
        return fail(r, "cannot start");
    for (unsigned q = 0; q < QUEUES; q++) {
        broker_queue_settings s = BROKER_OPTIONS_INIT(broker_queue_settings);
        s.set = BROKER_SET_SYNC;
        s.sync =
            q == 0 ? BROKER_SYNC_ALWAYS : BROKER_SYNC_INTERVAL; /* both survive a kill; the power is another matter */
        if (broker_queue_create(r->admin, queues[q], &s) != BROKER_OK)
            return fail(r, "cannot create a queue");
        if (broker_group_create(r->admin, queues[q], soak_groups[1], BROKER_START_BEGINNING, 0, NULL) != BROKER_OK)
            return fail(r, "cannot create a group");
    }
    return true;
}

static bool start_clients(struct run *r)
{
    for (unsigned i = 0; i < PRODUCERS; i++) {
        r->producers[i] = (struct client){&r->load, queues[i % QUEUES], i, 0, next_random(&r->random), 0};
        if (pthread_create(&r->producers[i].thread, NULL, produce, &r->producers[i]) != 0)
            return fail(r, "cannot start a thread");
    }
    for (unsigned i = 0; i < CONSUMERS; i++) { /* per queue: two that compete in one group, and one in the other */
        unsigned group = i / QUEUES == CONSUMERS_PER_QUEUE - 1;
        r->consumers[i] = (struct client){&r->load, queues[i % QUEUES], i, group, next_random(&r->random), 0};
        if (pthread_create(&r->consumers[i].thread, NULL, consume, &r->consumers[i]) != 0)
            return fail(r, "cannot start a thread");
    }
    return true;
}

/* Under load: something was confirmed and something acked since the start. */
static bool wait_progress(struct run *r)
{
    struct ledger_totals before, now;
    uint64_t start = mono_ms();

    ledger_totals(r->load.ledger, &before);
    do {
        if (mono_ms() - start > PROGRESS_MS) {
            process_show_log(&r->process);
            return fail(r, "no progress after a start: nothing is confirmed or nothing acked");
        }
        poll(NULL, 0, 5);
        ledger_totals(r->load.ledger, &now);
    } while (now.confirmed == before.confirmed || now.acked == before.acked);
    return true;
}

static bool over(const struct run *r)
{
    struct ledger_totals t;

    ledger_totals(r->load.ledger, &t);
    return t.broken > 0 || r->kills >= r->options.kills ||
           (r->options.seconds && mono_ms() - r->began >= (uint64_t)r->options.seconds * 1000);
}

static bool kill_and_restart(struct run *r)
{
    while (!over(r)) {
        uint64_t chance = next_random(&r->random);
        if (chance % 8 == 0) { /* during its recovery */
            poll(NULL, 0, (int)((chance >> 16) % 40));
            r->early_kills++;
        } else {
            if (!wait_ready(r) || !wait_progress(r))
                return false;
            poll(NULL, 0, (int)((chance >> 16) % 1200));
        }
        if (!process_kill(&r->process) || !process_start(&r->process))
            return fail(r, "the broker died of itself");
        r->kills++;
        report(r, false);
    }
    return wait_ready(r);
}

static bool on_group(void *arg, const broker_group_info *g)
{
    *(uint64_t *)arg += g->ready + g->leased + g->delayed;
    return true;
}

static bool drain(struct run *r)
{
    uint64_t start = mono_ms(), left = 1;

    while (left > 0) {
        left = 0;
        for (unsigned q = 0; q < QUEUES; q++) {
            if (broker_queue_describe(r->admin, queues[q], NULL, on_group, &left) != BROKER_OK)
                return fail(r, "cannot describe a queue");
        }
        if (mono_ms() - start > DRAIN_MS) {
            ledger_broken(r->load.ledger, "%" PRIu64 " messages are still there after %d s of consuming", left,
                          DRAIN_MS / 1000);
            return false;
        }
        poll(NULL, 0, 50);
        report(r, false);
    }
    return true;
}

static void finish(struct run *r, bool well)
{
    r->load.stop_producers = true;
    for (unsigned i = 0; i < PRODUCERS; i++)
        pthread_join(r->producers[i].thread, NULL);
    well = well && drain(r);
    r->load.stop_consumers = true;
    for (unsigned i = 0; i < CONSUMERS; i++)
        pthread_join(r->consumers[i].thread, NULL);
    broker_close(r->admin);
    r->admin = NULL;
    if (well) {
        ledger_close(r->load.ledger);
        if (!process_stop(&r->process) || !process_fsck(&r->process))
            fail(r, "the end was not in good order");
    }
    if (r->process.pid)
        process_kill(&r->process);
}

static int remove_entry(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    return remove(path);
}

static int conclude(struct run *r)
{
    struct ledger_totals t;

    ledger_totals(r->load.ledger, &t);
    report(r, true);
    printf("%u kills (%u of them during start-up), %" PRIu64 " messages, %" PRIu64 " retries recognised as duplicates, "
           "%" PRIu64 " acks in doubt, slowest start %" PRIu64 " ms (seed %" PRIu64 ")\n",
           r->kills, r->early_kills, t.confirmed, (uint64_t)r->load.duplicates, (uint64_t)r->load.in_doubt,
           r->slowest_start_ms, r->options.seed);
    if (t.broken || r->options.keep)
        printf("the broker's data and log are in %s\n", r->process.folder);
    else
        nftw(r->process.folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    printf(t.broken ? "FAILED: %" PRIu64 " broken promises\n" : "every promise held\n", t.broken);
    return t.broken ? 1 : 0;
}

int main(int argc, char **argv)
{
    static struct run r = {.options = {.brokerd = "brokerd/brokerd", .rate = 4000}};
    char folder[] = "/tmp/broker-soak-XXXXXX";

    signal(SIGPIPE, SIG_IGN);
    read_options(argc, argv, &r.options);
    r.random = r.options.seed;
    r.load.ledger = ledger_new();
    if (!r.load.ledger || !mkdtemp(folder) || !process_init(&r.process, r.options.brokerd, folder))
        return 2;
    r.load.tcp_url = r.process.tcp_url;
    r.load.unix_url = r.process.unix_url;
    r.load.rate = r.options.rate;
    r.began = r.reported = mono_ms();
    if (set_up(&r) && start_clients(&r))
        finish(&r, kill_and_restart(&r));
    else if (r.process.pid)
        process_kill(&r.process);
    int status = conclude(&r);
    ledger_free(r.load.ledger);
    return status;
}
