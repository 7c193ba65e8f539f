#include "daemon.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "log.h"
#include "process.h"
#include "service.h"
#include "store.h"
#include "ways.h"

enum {
    GRACE_MS = 100,   /* after GOAWAY, at least: for clients to settle what they have */
    STOP_LOOK_MS = 5, /* how often an orderly stop looks whether it can go on */
};

/* Of the daemon's life; each step forward is taken in stop_step. */
enum stage {
    STAGE_RUNNING,
    STAGE_DRAINING,   /* GOAWAY is out; answers, settles and the disk are waited for */
    STAGE_CLOSING,    /* connections get their last bytes and close */
    STAGE_FLUSHING,   /* what they left behind goes to disk */
    STAGE_CHECKPOINT, /* the log is closed in good order */
};

struct daemon {
    const struct conf *conf;
    const struct conf_args *args;
    const struct disk_ops *disk_ops;
    void *disk;
    struct store_threads *threads;
    struct store_uring *uring; /* NULL: the threads write the log */
    struct net_watch *written;
    struct store *store;
    struct net *net;
    struct net_wake *wake;
    struct ways *ways;
    struct clients *clients;
    struct engine *engine;
    struct door *door;
    struct net_timer due, watchdog;
    uint64_t watchdog_ms, started_ms, stop_since_ms;
    enum stage stage;
    bool failed; /* the store said so: nothing may be confirmed any more */
};

/* ---- the turn ------------------------------------------------------------------------------------------------------- */

static void on_notify(void *arg)
{
    net_wake_send(arg);
} /* in the store's threads */

static void on_wake(void *arg, struct now now)
{
    struct daemon *d = arg;
    store_threads_collect(d->threads, d->store, now);
}

static void on_written(void *arg, struct now now)
{
    struct daemon *d = arg;
    store_uring_collect(d->uring, d->store, now);
}

static void on_due(void *arg, struct now now) {} /* woken: the turn's end does the work */

static void on_watchdog(void *arg, struct now now)
{
    struct daemon *d = arg;
    service_notify("WATCHDOG=1");
    net_timer_set(d->net, &d->watchdog, (monotime){now.mono.ms + d->watchdog_ms / 2});
}

static void on_fatal(void *arg, const char *text)
{
    struct daemon *d = arg;
    log_error("%s; stopping, since nothing more can be kept", text);
    d->failed = true;
    net_stop(d->net);
}

static void stop_step(struct daemon *d, struct now now);

static void turn_work(void *arg)
{
    struct daemon *d = arg;
    struct now now = net_now(d->net);
    if (d->stage != STAGE_RUNNING)
        stop_step(d, now);
    monotime next = engine_tick(d->engine, now);
    store_flush(d->store, now); /* before the output is sent: the disk is the slower one */
    if (d->stage != STAGE_RUNNING && next.ms > now.mono.ms + STOP_LOOK_MS)
        next.ms = now.mono.ms + STOP_LOOK_MS;
    net_timer_set(d->net, &d->due, next);
}

/* Output has been sent: what was borrowed from the store may go. */
static void turn_end(void *arg)
{
    struct daemon *d = arg;
    store_end_turn(d->store);
    monotime next = store_tick(d->store, net_now(d->net));
    if (!heap_has(&d->due.node) || next.ms < d->due.node.key)
        net_timer_set(d->net, &d->due, next);
}

static const struct net_turn_ops TURN = {.work = turn_work, .end = turn_end};

/* ---- the stop ------------------------------------------------------------------------------------------------------- */

static void stop_begin(struct daemon *d)
{
    struct now now = net_now(d->net);
    log_notice("stopping: telling %u clients, finishing what is under way", ways_connections(d->ways));
    service_notify("STOPPING=1");
    d->stage = STAGE_DRAINING;
    d->stop_since_ms = now.mono.ms;
    net_close_listeners(d->net);
    door_drain(d->door);
    ways_goaway(d->ways, "the broker is shutting down");
}

static bool stage_is_over(const struct daemon *d, uint64_t spent_ms)
{
    switch (d->stage) {
    case STAGE_DRAINING:
        return ways_connections(d->ways) == 0 ||
               (spent_ms >= GRACE_MS && ways_are_idle(d->ways) && !store_busy(d->store));
    case STAGE_CLOSING: return ways_connections(d->ways) == 0;
    case STAGE_FLUSHING:
    case STAGE_CHECKPOINT: return !store_busy(d->store);
    case STAGE_RUNNING: break;
    }
    return false;
}

/* One function changes the stage. Out of time, it stops where it is: the next start then recovers as after a crash, and
   loses nothing that was confirmed. */
static void stop_step(struct daemon *d, struct now now)
{
    uint64_t spent_ms = now.mono.ms - d->stop_since_ms, limit_ms = d->conf->broker.shutdown_ms;
    if (!stage_is_over(d, spent_ms)) {
        bool clients = d->stage <= STAGE_CLOSING;
        if (spent_ms >= limit_ms) {
            log_warning("out of time (broker.shutdown) while %s; the next start recovers the rest from the log",
                        clients ? "waiting for clients" : "writing");
            net_stop(d->net);
        } else if (d->stage == STAGE_DRAINING && spent_ms >= limit_ms / 2) {
            ways_finish(d->ways); /* who does not take its answers by now gets no more time */
            d->stage = STAGE_CLOSING;
        }
        return;
    }
    log_debug("stopping: stage %d is over after %llu ms", (int)d->stage, (unsigned long long)spent_ms);
    switch (d->stage) {
    case STAGE_DRAINING:
        ways_finish(d->ways);
        d->stage = STAGE_CLOSING;
        break;
    case STAGE_CLOSING: d->stage = STAGE_FLUSHING; break;
    case STAGE_FLUSHING:
        store_checkpoint(d->store, now);
        d->stage = STAGE_CHECKPOINT;
        break;
    case STAGE_CHECKPOINT: net_stop(d->net); break;
    case STAGE_RUNNING: break;
    }
}

static void on_stop_signal(void *arg, int signo)
{
    struct daemon *d = arg;
    if (d->stage == STAGE_RUNNING) {
        stop_begin(d);
        return;
    }
    log_warning("stopping at once: asked a second time");
    net_stop(d->net);
}

static void on_hangup(void *arg, int signo)
{
    log_notice("SIGHUP: the configuration is read at start only; restart to change it");
}

/* ---- statistics ----------------------------------------------------------------------------------------------------- */

static void collect_process(struct daemon *d, struct metrics_now *now)
{
    struct rusage usage;
    struct statvfs disk;
    struct rlimit files;
    struct stat open_files;
    getrusage(RUSAGE_SELF, &usage);
    now->broker.uptime_ms = net_now(d->net).mono.ms - d->started_ms;
    now->broker.cpu_us = (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000u +
                         (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
    now->broker.rss_bytes = process_resident_bytes();
    snprintf(now->broker.version, sizeof(now->broker.version), "%s", BROKER_VERSION_STRING);
    if (statvfs(d->conf->broker.data_dir, &disk) == 0) {
        now->disk_free_bytes = (uint64_t)disk.f_bavail * disk.f_frsize;
        now->disk_total_bytes = (uint64_t)disk.f_blocks * disk.f_frsize;
    }
    if (getrlimit(RLIMIT_NOFILE, &files) == 0)
        now->max_files = files.rlim_cur;
    if (stat("/proc/self/fd", &open_files) == 0)
        now->open_files = (uint64_t)open_files.st_size; /* their number, since Linux 6.2; 0 before */
    now->ready = d->stage == STAGE_RUNNING && !d->failed;
    now->why = d->failed ? "the log cannot be written" : now->ready ? "" : "the broker is shutting down";
}

static void collect(void *arg, struct metrics_now *now)
{
    struct daemon *d = arg;
    broker_stats *out = &now->broker;
    struct engine_stats e;
    struct store_stats s;
    collect_process(d, now);
    engine_get_stats(d->engine, &e);
    store_engine_ops.stats(d->store, &s);
    out->queues = e.queues;
    out->subscriptions = e.subscriptions;
    out->published = e.published;
    out->delivered = e.delivered;
    out->acked = e.acked;
    out->scheduled = e.scheduled;
    out->redelivered = e.redelivered;
    out->dead_lettered = e.dead_lettered;
    out->expired = e.expired;
    out->dropped = e.dropped;
    out->duplicates = e.duplicates;
    out->syncs = s.syncs;
    out->bytes_written = s.bytes_written;
    out->log_index = s.log_index;
    out->disk_bytes = s.disk_bytes;
    out->segments = s.segments;
    now->epoch = e.epoch;
    now->sync_us = s.sync_us;
}

static void on_report(void *arg, int signo)
{
    struct daemon *d = arg;
    struct metrics_now now = {0};
    ways_now(d->ways, &now);
    const broker_stats s = now.broker;
#define N(x) (unsigned long long)(x)
    log_notice(
        "up %llu s, cpu %llu ms, %llu KiB resident; %llu connections, %llu queues, %llu subscriptions; %llu published, "
        "%llu delivered, %llu acked; %llu bytes written, %llu syncs, %llu segments, %llu bytes on disk",
        N(s.uptime_ms / 1000), N(s.cpu_us / 1000), N(s.rss_bytes / 1024), N(s.connections), N(s.queues),
        N(s.subscriptions), N(s.published), N(s.delivered), N(s.acked), N(s.bytes_written), N(s.syncs), N(s.segments),
        N(s.disk_bytes));
#undef N
}

/* ---- the start ------------------------------------------------------------------------------------------------------ */

static bool out_of_memory(void)
{
    log_error("out of memory at start");
    return false;
}

static bool build_net(struct daemon *d)
{
    const struct conf *c = d->conf;
    struct net_options options = {
        .read_buffer_bytes = c->tcp.read_buffer_bytes,
        .max_input_bytes = c->tcp.input_bytes,
        .max_output_bytes = c->tcp.output_total_bytes,
        .max_connections = (uint32_t)(c->tcp.max_connections + c->http.max_connections),
        .linger_ms = (uint32_t)c->tcp.linger_ms,
    };
    d->net = net_new(&options);
    if (!d->net) {
        log_error("cannot make the event loop: %s", strerror(errno));
        return false;
    }
    d->started_ms = net_now(d->net).mono.ms;
    net_timer_init(&d->due, on_due, d);
    net_timer_init(&d->watchdog, on_watchdog, d);
    d->wake = net_wake_new(d->net, on_wake, d);
    return d->wake || out_of_memory();
}

/* Who writes the log. */
static bool build_writer(struct daemon *d, struct store_host *host)
{
    uint64_t wanted = d->conf->store.writer;
    host->writer_ops = store_threads_writer_ops();
    host->writer = d->threads;
    if (wanted == CONF_WRITER_THREAD)
        return true;
    d->uring = store_uring_new();
    if (!d->uring) {
        if (wanted == CONF_WRITER_URING)
            log_error("store.writer is uring, but the system does not offer io_uring: %s", strerror(errno));
        return wanted == CONF_WRITER_AUTO;
    }
    d->written = net_watch_new(d->net, store_uring_fd(d->uring), on_written, d);
    host->writer_ops = store_uring_writer_ops();
    host->writer = d->uring;
    return d->written || out_of_memory();
}

static bool build_store(struct daemon *d)
{
    const struct conf *c = d->conf;
    struct store_options options = {
        .segment_bytes = (uint32_t)c->store.segment_bytes,
        .window_bytes = c->store.window_bytes,
        .tail_cache_bytes = c->store.tail_cache_bytes,
        .read_cache_bytes = c->store.read_cache_bytes,
        .max_disk_bytes = c->store.max_disk_bytes,
        .spare_bytes = c->store.spare_bytes,
        .sync_interval_ms = (uint32_t)c->store.sync_interval_ms,
        .clean_below_percent = (uint32_t)c->store.clean_below_percent,
        .checkpoint_bytes = c->store.checkpoint_bytes,
    };
    int error = disk_posix_open(c->broker.data_dir, true, &d->disk_ops, &d->disk);
    if (error) {
        log_error("cannot use the data directory %s: %s", c->broker.data_dir, strerror(error));
        return false;
    }
    d->threads = store_threads_new(d->disk_ops, d->disk, on_notify, d->wake);
    if (!d->threads)
        return out_of_memory();
    struct store_host host = {
        .disk_ops = d->disk_ops,
        .disk = d->disk,
        .worker_ops = store_threads_worker_ops(),
        .workers = d->threads,
        .fatal = on_fatal,
        .fatal_arg = d,
    };
    if (!build_writer(d, &host))
        return false;
    broker_error status = store_new(&options, &host, &d->store);
    if (status)
        log_error("cannot make the store: %s; see [store] in the configuration", broker_strerror(status));
    return status == BROKER_OK;
}

static bool build_ways(struct daemon *d)
{
    struct ways_host host = {.net = d->net, .clients = d->clients, .store = d->store, .now = collect, .arg = d};
    d->clients = host.clients = clients_new();
    d->ways = d->clients ? ways_new(d->conf, &host) : NULL;
    return d->ways || out_of_memory();
}

static bool build_engine(struct daemon *d)
{
    const struct conf *c = d->conf;
    struct engine_options engine_options = {
        .max_message_bytes = (uint32_t)c->limits.max_message_bytes,
        .default_lease_ms = (uint32_t)c->limits.default_lease_ms,
        .max_queues = (uint32_t)c->limits.max_queues,
        .max_groups_per_queue = (uint32_t)c->limits.max_groups,
        .max_producers = (uint32_t)c->limits.producers,
        .producer_ttl_ms = c->limits.producer_ttl_ms,
        .max_schedule_entries = (uint32_t)c->limits.schedule_entries,
        .max_bindings_per_queue = (uint32_t)c->limits.max_bindings,
        .max_compaction_keys = (uint32_t)c->limits.compaction_keys,
    };
    /* A LEASE's answer is one frame: head, attempts and seqs of 1024 messages beside the records. */
    uint64_t batch = c->limits.max_frame_bytes - 16384;
    struct door_options door_options = {
        .max_subscriptions = (uint32_t)c->limits.subscriptions,
        .max_waiting_leases = (uint32_t)c->limits.waiting_leases,
        .max_settle_ranges = (uint32_t)c->limits.settle_ranges,
        .max_transact_parts = (uint32_t)c->limits.transact_parts,
        .max_list = (uint32_t)c->limits.list_limit,
        .max_batch_bytes = (uint32_t)batch,
        .max_message_bytes = (uint32_t)c->limits.max_message_bytes,
    };
    d->engine = engine_new(&engine_options, &store_engine_ops, d->store, &clients_sink_ops, d->clients);
    if (!d->engine)
        return out_of_memory();
    d->door = door_new(&door_options, d->engine, &clients_sink_ops, d->clients);
    if (!d->door)
        return out_of_memory();
    clients_attach(d->clients, d->door);
    ways_attach(d->ways, d->door);
    return true;
}

static void report_line(void *arg, bool problem, const char *text)
{
    if (problem)
        log_error("%s", text);
    else
        log_notice("%s", text);
}

static bool recover(struct daemon *d)
{
    struct store_report report = {.line = report_line};
    struct engine_stats stats;
    struct now start = clock_now();
    broker_error status = store_open(d->store, d->engine, start, &report);
    if (status == BROKER_DAMAGED)
        log_error("refusing to start on damaged data in %s; `brokerd --fsck %s` says what is lost, with --quarantine "
                  "it moves "
                  "the damage away",
                  d->conf->broker.data_dir, d->conf->broker.data_dir);
    else if (status)
        log_error("cannot open the data directory %s: %s", d->conf->broker.data_dir, broker_strerror(status));
    if (status)
        return false;
    engine_get_stats(d->engine, &stats);
    log_notice("recovered %llu queues in %llu ms", (unsigned long long)stats.queues,
               (unsigned long long)(clock_now().mono.ms - start.mono.ms));
    return true;
}

static bool be_ready(struct daemon *d)
{
    bool signals = net_on_signal(d->net, SIGTERM, on_stop_signal, d) &&
                   net_on_signal(d->net, SIGINT, on_stop_signal, d) && net_on_signal(d->net, SIGHUP, on_hangup, d) &&
                   net_on_signal(d->net, SIGUSR1, on_report, d);
    if (!signals)
        return out_of_memory();
    if (!ways_announce(d->ways, d->args) || !process_write_file(d->args->ready_file, "ready\n"))
        return false;
    net_set_turn(d->net, &TURN, d);
    d->watchdog_ms = service_watchdog_ms();
    if (d->watchdog_ms)
        net_timer_set(d->net, &d->watchdog, net_now(d->net).mono);
    service_notify("READY=1");
    log_notice("ready");
    return true;
}

static bool start(struct daemon *d)
{
    process_raise_descriptors(d->conf->tcp.max_connections + d->conf->http.max_connections);
    return build_net(d) && build_store(d) && build_ways(d) && build_engine(d) && recover(d) && !d->failed &&
           ways_listen(d->ways) && be_ready(d);
}

/* Threads first, so that nobody calls back; then the others, each before what it stands on. */
static void release(struct daemon *d)
{
    net_set_turn(d->net, NULL, NULL);
    if (d->threads)
        store_threads_free(d->threads);
    net_watch_free(d->written);
    store_uring_free(d->uring);
    net_wake_free(d->wake);
    net_free(d->net);
    ways_free(d->ways);
    clients_free(d->clients);
    door_free(d->door);
    engine_free(d->engine);
    store_free(d->store);
    if (d->disk)
        disk_posix_close(d->disk);
}

int daemon_run(const struct conf *conf, const struct conf_args *args)
{
    struct daemon d = {.conf = conf, .args = args};
    bool ran = start(&d);
    if (ran) {
        net_run(d.net);
        log_notice("stopped");
    }
    bool orderly = ran && !d.failed && d.stage == STAGE_CHECKPOINT && !store_busy(d.store);
    if (!orderly)
        _exit(ran && !d.failed && d.stage != STAGE_RUNNING ? 0 : 1); /* jobs may be under way: the system cleans up */
    release(&d);
    return EXIT_SUCCESS;
}
