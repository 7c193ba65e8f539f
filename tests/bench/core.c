/*
 * The core alone: engine and store in one thread, over a disk that takes everything at once and a writer that reports at
 * once. What is left is the cost of a message's way through our own code, without sockets, system calls and disk.
 *
 *   bench_core [MESSAGES [BODY BYTES [MESSAGES A FRAME [FEATURE]]]]
 *
 * FEATURE: what every message has, or the queue: plain, priority, id, key (1,000 of them, ordered), fair (the same, keys take
 * turns), ttl, topic (published by topic, one queue is bound), filter (a second group, which wants none of them).
 *
 *   bench_core READS BODY FRAME readers: 1,000 readers by position wait at the end of a log; each frame wakes all of them,
 * and each asks for the next from inside its answer, as event streams do.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "engine.h"
#include "store.h"
#include "wire.h"

struct file {
    uint64_t size;
};

static int null_open(void *disk, const char *name, bool create, struct file **out)
{
    *out = calloc(1, sizeof **out);
    return *out ? 0 : 12;
}

static void null_close(void *disk, struct file *f)
{
    free(f);
}

static int null_size(void *disk, struct file *f, uint64_t *size)
{
    *size = f->size;
    return 0;
}

static int null_read(void *disk, struct file *f, uint64_t offset, void *bytes, size_t n, size_t *got)
{
    memset(bytes, 0, n);
    *got = n;
    return 0;
}

static int null_write(void *disk, struct file *f, uint64_t offset, const void *bytes, size_t n)
{
    return 0;
}

static int null_resize(void *disk, struct file *f, uint64_t size)
{
    f->size = size;
    return 0;
}

static int null_sync(void *disk, struct file *f)
{
    return 0;
}

static int null_name(void *disk, const char *name)
{
    return 0;
}

static int null_names(void *disk, const char *from, const char *to)
{
    return 0;
}

static int null_disk(void *disk)
{
    return 0;
}

static int null_list(void *disk, void (*fn)(void *arg, const char *name), void *arg)
{
    return 0;
}

static int null_free_bytes(void *disk, uint64_t *bytes)
{
    *bytes = 1ull << 40;
    return 0;
}

static const struct disk_ops NULL_DISK = {.open = null_open,
                                          .close = null_close,
                                          .size = null_size,
                                          .read = null_read,
                                          .write = null_write,
                                          .allocate = null_resize,
                                          .truncate = null_resize,
                                          .sync = null_sync,
                                          .rename = null_names,
                                          .remove = null_name,
                                          .link = null_names,
                                          .sync_dir = null_disk,
                                          .list = null_list,
                                          .free_bytes = null_free_bytes,
                                          .lock = null_disk};

struct world {
    struct store *store;
    struct engine *engine;
    struct now now;
    uint64_t written; /* last batch submitted */
    struct job *jobs;
    uint64_t confirmed, delivered;
    uint64_t read_answers, read_messages;
    struct receipt_range ranges[4096];
    size_t range_count;
};

static void submit_write(void *writer, struct log_write *w)
{
    ((struct world *)writer)->written = w->index;
}

static void submit_job(void *workers, struct job *j)
{
    struct world *w = workers;
    j->next = w->jobs;
    w->jobs = j;
}

static const struct log_writer_ops WRITER = {.submit = submit_write};
static const struct worker_ops WORKERS = {.submit = submit_job};

static void fatal(void *arg, const char *text)
{
    fprintf(stderr, "core: %s\n", text);
    exit(1);
}

static void read_on(struct world *w, struct token token, uint64_t from)
{
    struct command c = {.type = COMMAND_READ, .token = token, .queue = {.bytes = "bench", .len = 5}};
    c.u.read.from_seq = from;
    c.u.read.max_messages = 1024;
    c.u.read.max_bytes = 1 << 20;
    c.u.read.wait_ms = READ_WAIT_FOREVER;
    engine_submit(w->engine, w->now, &c);
}

static void on_complete(void *sink, const struct completion *c)
{
    struct world *w = sink;
    if (c->error) {
        fatal(w, c->text);
    }
    if (c->type == COMMAND_READ) {
        w->read_answers++;
        w->read_messages += c->u.read.count;
        read_on(w, c->token, c->u.read.next_seq);
    }
    for (size_t i = 0; c->type == COMMAND_PUBLISH && i < c->u.publish.count; i++) {
        w->confirmed += c->u.publish.results[i].count;
    }
}

static bool on_deliver(void *sink, const struct delivery *d)
{
    struct world *w = sink;
    w->delivered += d->count;
    w->ranges[w->range_count++] = (struct receipt_range){d->first_receipt, d->count};
    return w->range_count < sizeof w->ranges / sizeof w->ranges[0];
}

static void on_ended(void *sink, struct token token, broker_error error, const char *text)
{
    fatal(sink, text);
}

static const struct sink_ops SINK = {.complete = on_complete, .deliver = on_deliver, .ended = on_ended};

/* The end of a turn of the loop, with a disk that is done at once. */
static void turn(struct world *w)
{
    engine_tick(w->engine, w->now);
    store_flush(w->store, w->now);
    store_end_turn(w->store);
    store_tick(w->store, w->now);
    while (w->jobs) {
        struct job *j = w->jobs;
        w->jobs = j->next;
        j->run(j);
        j->done(j);
    }
    store_written(w->store, w->now, w->written, w->written, 0, 1, 0);
}

static void submit_to(struct world *w, const char *queue, enum command_type type, struct command c)
{
    c.type = type;
    c.token = (struct token){.conn = 1, .correlation = 1, .stream = type == COMMAND_ACK ? 0 : 1};
    c.queue = (struct name){.bytes = queue, .len = strlen(queue)};
    engine_submit(w->engine, w->now, &c);
}

static void submit(struct world *w, enum command_type type, struct command c)
{
    submit_to(w, "bench", type, c);
}

static void print(const char *what, uint64_t n, uint64_t us)
{
    printf("%-28s %8.1f ns a message, %.2f M/s\n", what, (double)us * 1000 / (double)n, (double)n / (double)us);
}

enum { KEYS = 1000, TEXT = 24 };

struct load {
    uint8_t *records;
    struct record_spec spec;
    uint32_t bytes; /* of one record */
    size_t frame;   /* records */
    bool ids, keys;
    char text[TEXT]; /* the id or the key */
};

/* false: no such feature. */
static bool load_feature(struct load *l, const char *feature, broker_queue_settings *settings)
{
    static const char topic[] = "orders.eu.created";
    l->ids = !strcmp(feature, "id");
    l->keys = !strcmp(feature, "key") || !strcmp(feature, "fair");
    bool routed = !strcmp(feature, "topic"), filtered = !strcmp(feature, "filter");
    snprintf(l->text, sizeof l->text, "customer-%010u", 0);
    if (l->ids) {
        l->spec.id = l->text;
        l->spec.id_len = strlen(l->text);
    } else if (l->keys) {
        l->spec.key = l->text;
        l->spec.key_len = strlen(l->text);
    } else if (!strcmp(feature, "priority")) {
        l->spec.priority = 5;
    } else if (!strcmp(feature, "ttl")) {
        l->spec.expire_ms = 3600000;
        l->spec.expire_is_ttl = true;
    } else if (routed || filtered) {
        l->spec.topic = topic;
        l->spec.topic_len = sizeof topic - 1;
        l->spec.by_topic = routed;
    }
    if (!strcmp(feature, "fair")) {
        settings->set = BROKER_SET_FAIR_KEYS;
        settings->fair_keys = true;
    }
    return l->ids || l->keys || routed || filtered || l->spec.priority || l->spec.expire_ms ||
           !strcmp(feature, "plain");
}

static void prepare(struct world *w, const char *feature, const broker_queue_settings *settings)
{
    submit(w, COMMAND_QUEUE_CREATE, (struct command){.u.queue.settings = settings});
    submit(w, COMMAND_SUBSCRIBE, (struct command){0});
    turn(w);
    if (!strcmp(feature, "topic")) {
        submit(w, COMMAND_BIND, (struct command){.u.bind.pattern = {.bytes = "orders.>", .len = 8}});
    } else if (!strcmp(feature, "filter")) {
        broker_group_settings group = {
            .size = sizeof group, .set = BROKER_GROUP_SET_FILTER, .filter.topic = "orders.us.*"};
        struct command c = {.group = {.bytes = "some", .len = 4}};
        c.u.group.settings = &group;
        submit(w, COMMAND_GROUP_CREATE, c);
    }
    turn(w);
}

static void count_up(struct load *l)
{
    uint64_t n = l->keys ? l->spec.number % KEYS : l->spec.number;
    for (size_t i = strlen(l->text); n; n /= 10) {
        l->text[--i] = (char)('0' + n % 10);
    }
}

static void publish_round(struct world *w, struct load *l, uint64_t *building_us)
{
    uint64_t before = clock_mono_us();
    for (size_t i = 0; i < l->frame; i++, l->spec.number++) {
        if (l->ids || l->keys) {
            count_up(l);
        }
        record_spec_put(l->records + i * l->bytes, &l->spec);
    }
    *building_us += clock_mono_us() - before;
    struct command c = {0};
    c.u.publish.records = l->records;
    c.u.publish.len = l->frame * l->bytes;
    submit_to(w, l->spec.by_topic ? "" : "bench", COMMAND_PUBLISH, c);
    turn(w);
}

static void consume_round(struct world *w)
{
    struct command c = {0};
    c.u.credit.messages = 4096;
    c.u.credit.bytes = 64 << 20;
    submit(w, COMMAND_CREDIT, c);
    turn(w);
    c.u.settle.ranges = w->ranges;
    c.u.settle.count = w->range_count;
    w->range_count = 0;
    if (c.u.settle.count) {
        submit(w, COMMAND_ACK, c);
    }
    turn(w);
}

enum { READERS = 1000 };

/* What the frames themselves cost is told apart: rounds without readers first. */
static void bench_readers(struct world *w, struct load *l, uint64_t reads)
{
    uint64_t building = 0, rounds = reads / READERS + 1;
    uint64_t start = clock_mono_us();
    for (uint64_t i = 0; i < rounds; i++) {
        publish_round(w, l, &building);
    }
    uint64_t alone = clock_mono_us() - start - building;
    for (uint32_t i = 0; i < READERS; i++) {
        read_on(w, (struct token){.conn = 2 + i, .correlation = 1}, w->confirmed + 1);
    }
    start = clock_mono_us();
    building = 0;
    for (uint64_t i = 0; i < rounds; i++) {
        publish_round(w, l, &building);
    }
    turn(w); /* the last frame's readers */
    uint64_t with = clock_mono_us() - start - building;
    print("wake, answer, read again", w->read_answers, with > alone ? with - alone : 1);
    printf("%llu answers of %llu messages\n", (unsigned long long)w->read_answers,
           (unsigned long long)w->read_messages);
}

int main(int argc, char **argv)
{
    uint64_t messages = argc > 1 ? strtoull(argv[1], NULL, 10) : 4000000;
    size_t body = argc > 2 ? strtoull(argv[2], NULL, 10) : 128, frame = argc > 3 ? strtoull(argv[3], NULL, 10) : 256;
    const char *feature = argc > 4 ? argv[4] : "plain";
    broker_queue_settings settings = {.size = sizeof settings};
    static struct world w;
    struct store_options store_options = {.tail_cache_bytes = 8 << 20,
                                          .segment_bytes = 1 << 30}; /* no disk to read a sealed one from */
    struct engine_options engine_options = {0};
    struct store_host host = {.disk_ops = &NULL_DISK,
                              .writer_ops = &WRITER,
                              .writer = &w,
                              .worker_ops = &WORKERS,
                              .workers = &w,
                              .fatal = fatal};
    w.now = clock_now();
    if (!frame || store_new(&store_options, &host, &w.store)) {
        return 1;
    }
    w.engine = engine_new(&engine_options, &store_engine_ops, w.store, &SINK, &w);
    if (!w.engine || store_open(w.store, w.engine, w.now, NULL)) {
        return 1;
    }
    char *payload = calloc(1, body + 1);
    struct load load = {.frame = frame, .spec = {.body = payload, .body_len = body, .producer = 7, .number = 1}};
    bool readers = !strcmp(feature, "readers");
    if (readers) {
        settings.set = BROKER_SET_RETENTION;
        settings.retention = BROKER_RETENTION_LOG;
    } else if (!load_feature(&load, feature, &settings)) {
        fprintf(stderr, "core: no feature %s\n", feature);
        return 2;
    }
    prepare(&w, feature, &settings);
    load.bytes = record_spec_bytes(&load.spec);
    load.records = malloc(frame * load.bytes);
    uint64_t building = 0, publishing = 0, consuming = 0;
    if (readers) {
        bench_readers(&w, &load, messages);
    }
    while (!readers &&
           w.confirmed <
               messages) { /* in rounds that stay in the tail cache: the steady state of a queue that is kept up with */
        uint64_t start = clock_mono_us(), target = w.confirmed + 16384;
        while (w.confirmed < target) {
            publish_round(&w, &load, &building);
        }
        uint64_t middle = clock_mono_us();
        while (w.delivered < w.confirmed) {
            consume_round(&w);
        }
        publishing += middle - start;
        consuming += clock_mono_us() - middle;
    }
    if (!readers) {
        print("build records (the client's)", w.confirmed, building);
        print("publish", w.confirmed, publishing - building);
        print("lease, deliver, ack", w.delivered, consuming);
    }
    engine_free(w.engine);
    store_free(w.store);
    free(load.records);
    free(payload);
    return 0;
}
