/*
 * What a feature costs, through libbroker and a real broker. What features.py runs; each prints one line of JSON.
 *
 *   bench_features URL publish QUEUE COUNT [FEATURE ...]     publish COUNT messages, window 2,048, and wait for the confirms
 *   bench_features URL consume QUEUE COUNT [reject]          take and ack (or reject) COUNT messages
 *   bench_features URL both QUEUE COUNT [FEATURE ...]        publish as above and consume at the same time, one connection
 *   bench_features URL transact IN OUT OUT COUNT BATCH       take BATCH messages, publish each to two queues, ack: one commit
 *   bench_features URL separate IN OUT OUT COUNT BATCH       the same without a transaction: publish, flush, ack, flush
 *   bench_features URL latency QUEUE COUNT GAP_MS            from the publish of a message of priority 9 to its delivery,
 *                                                            while one consumer, one message at a time, goes through the queue
 *   bench_features URL count|peek|delete QUEUE               walk all of the queue; count reads each message (a filter)
 *
 * FEATURE: priority=N  delay=MS  id=N (message ids, N different ones)  keys=N (N different keys)  other-keys (not the first)  topic=N (N different last
 * tokens)  by-topic  ttl=MS  header  sync  (durable confirms; else written ones, so that the processor counts, not the disk)
 */
#include <broker/broker.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BODY_BYTES = 128, WINDOW = 2048, PATIENCE_MS = 60000 };

struct features {
    uint64_t priority, delay, id, keys, topic, ttl;
    bool by_topic, other_keys, header, sync;
};

struct run {
    broker *b;
    const char *queue;
    struct features features;
    uint64_t sent, received, wanted;
    bool rejects;
    broker_stats before;
    double begin;
};

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void check(broker *b, broker_error error, const char *what)
{
    if (error) {
        fprintf(stderr, "bench_features: %s: %s: %s\n", what, broker_error_name(error), broker_error_text(b));
        exit(1);
    }
}

static void begin(struct run *r)
{
    r->before.size = sizeof r->before;
    check(r->b, broker_get_stats(r->b, &r->before), "reading the figures");
    r->begin = seconds();
}

static void report(struct run *r, uint64_t messages)
{
    double took = seconds() - r->begin;
    broker_stats after = {.size = sizeof after};
    check(r->b, broker_get_stats(r->b, &after), "reading the figures");
    printf("{\"messages\": %" PRIu64 ", \"rate\": %.0f, \"cpu_ns\": %.1f, \"bytes\": %.1f, \"rss\": %" PRIu64 "}\n",
           messages, (double)messages / took, (double)(after.cpu_us - r->before.cpu_us) * 1e3 / (double)messages,
           (double)(after.bytes_written - r->before.bytes_written) / (double)messages, after.rss_bytes);
}

/* ---- publishing ---------------------------------------------------------------------------------------------------- */

static void features_read(struct features *f, char **words, int count)
{
    static const char *const NAMES[] = {"priority", "delay", "id", "keys", "topic", "ttl"};
    uint64_t *const values[] = {&f->priority, &f->delay, &f->id, &f->keys, &f->topic, &f->ttl};
    bool known = true;
    for (int i = 0; i < count && known; i++) {
        const char *equals = strchr(words[i], '=');
        known = equals != NULL;
        for (size_t n = 0; equals && n < sizeof NAMES / sizeof NAMES[0]; n++) {
            if (!strncmp(words[i], NAMES[n], (size_t)(equals - words[i]))) {
                *values[n] = strtoull(equals + 1, NULL, 10);
            }
        }
        known |= (!strcmp(words[i], "by-topic") && (f->by_topic = true)) ||
                 (!strcmp(words[i], "other-keys") && (f->other_keys = true)) ||
                 (!strcmp(words[i], "header") && (f->header = true)) || (!strcmp(words[i], "sync") && (f->sync = true));
        if (!known) {
            fprintf(stderr, "bench_features: no feature %s\n", words[i]);
            exit(2);
        }
    }
}

/* One more, if the window has room; a refused one ends the program with the next flush. */
static bool publish_one(struct run *r)
{
    static const char body[BODY_BYTES];
    const struct features *f = &r->features;
    if (broker_outbox(r->b) >= WINDOW) {
        return false;
    }
    char id[32], key[32], topic[48];
    broker_header header = {"kind", "measured"};
    broker_message m = {
        .size = sizeof m, .body = body, .body_len = sizeof body, .ttl_ms = f->ttl, .delay_ms = f->delay};
    m.priority = (uint8_t)(f->priority > 9 ? r->sent % 10 : f->priority);
    if (f->id) {
        m.id_len = (size_t)snprintf(id, sizeof id, "order-%010" PRIu64, r->sent % f->id);
        m.id = id;
    }
    if (f->keys) {
        m.key_len = (size_t)snprintf(key, sizeof key, "customer-%07" PRIu64, r->sent % f->keys + f->other_keys);
        m.key = key;
    }
    if (f->topic) {
        snprintf(topic, sizeof topic, "orders.eu.t%" PRIu64, r->sent % f->topic);
        m.topic = topic;
    }
    if (f->header) {
        m.headers = &header;
        m.header_count = 1;
    }
    broker_publish_options options = {.size = sizeof options,
                                      .sync = f->sync ? BROKER_SYNC_ALWAYS : BROKER_SYNC_INTERVAL};
    broker_error error = broker_publish_async(r->b, f->by_topic ? NULL : r->queue, &m, &options, NULL, NULL);
    if (error == BROKER_OUTBOX_FULL) {
        return false;
    }
    check(r->b, error, "publishing");
    r->sent++;
    return true;
}

static void turn(struct run *r, const char *what)
{
    broker_error error = broker_wait(r->b, PATIENCE_MS);
    check(r->b, error, what);
}

static void publish(struct run *r, uint64_t count)
{
    begin(r);
    while (r->sent < count) {
        if (!publish_one(r)) {
            turn(r, "waiting for confirms");
        }
    }
    check(r->b, broker_flush(r->b), "publishing");
    report(r, count);
}

/* ---- consuming ------------------------------------------------------------------------------------------------------- */

static void on_message(void *arg, broker_subscription *s, const broker_msg *m)
{
    struct run *r = arg;
    if (r->received < r->wanted) {
        check(r->b, r->rejects ? broker_reject(r->b, m) : broker_ack(r->b, m), "settling");
        r->received++;
    }
}

static void consume(struct run *r, uint64_t count, bool publishes)
{
    broker_subscribe_options options = {.size = sizeof options, .credit_messages = 4096, .credit_bytes = 8 << 20};
    broker_subscription *s;
    r->wanted = count;
    begin(r);
    check(r->b, broker_subscribe(r->b, r->queue, &options, on_message, NULL, r, &s), "subscribing");
    while (r->received < count) {
        while (publishes && r->sent < count && publish_one(r)) {
        }
        turn(r, "waiting for messages");
    }
    check(r->b, broker_flush(r->b), "acking");
    report(r, count);
    if (broker_settle_failures(r->b)) {
        fprintf(stderr, "bench_features: acks were refused: leases ran out\n");
        exit(1);
    }
}

/* ---- transactions ------------------------------------------------------------------------------------------------------ */

/* Publish what was received to both queues and ack it; `whole`: in one commit. */
static void pass_on(struct run *r, broker_msg **received, uint32_t count, char **out, bool whole)
{
    broker_transaction *t = NULL;
    check(r->b, whole ? broker_transaction_begin(r->b, &t) : BROKER_OK, "beginning a transaction");
    for (uint32_t i = 0; i < count; i++) {
        broker_message m = {.size = sizeof m};
        m.body = broker_msg_body(received[i], &m.body_len);
        for (int q = 0; q < 2; q++) {
            broker_publish_options options = {.size = sizeof options};
            check(r->b,
                  whole ? broker_transaction_publish(t, out[q], &m)
                        : broker_publish_async(r->b, out[q], &m, &options, NULL, NULL),
                  "publishing");
        }
    }
    check(r->b, whole ? BROKER_OK : broker_flush(r->b), "publishing"); /* not acked before both are stored */
    for (uint32_t i = 0; i < count; i++) {
        check(r->b, whole ? broker_transaction_ack(t, received[i]) : broker_ack(r->b, received[i]), "acking");
    }
    check(r->b, whole ? broker_transaction_commit(t, NULL, NULL) : broker_flush(r->b), "committing");
    for (uint32_t i = 0; i < count; i++) {
        broker_msg_free(received[i]);
    }
}

static void transact(struct run *r, char **out, uint64_t count, uint32_t batch, bool whole)
{
    broker_subscribe_options options = {.size = sizeof options, .credit_messages = 1024};
    broker_subscription *s;
    broker_msg **received = calloc(batch, sizeof *received);
    check(r->b, received ? BROKER_OK : BROKER_NO_MEMORY, "starting");
    check(r->b, broker_subscribe(r->b, r->queue, &options, NULL, NULL, NULL, &s), "subscribing");
    begin(r);
    for (uint64_t done = 0; done + batch <= count; done += batch) {
        for (uint32_t i = 0; i < batch; i++) {
            const broker_msg *m;
            check(r->b, broker_receive(s, PATIENCE_MS, &m), "receiving");
            received[i] = broker_msg_keep(m);
        }
        pass_on(r, received, batch, out, whole);
    }
    report(r, count / batch * batch);
    free(received);
}

/* ---- how long an urgent message takes ---------------------------------------------------------------------------------- */

struct urgent {
    struct run *run;
    double sent_at, *ms;
    uint64_t count, others;
};

static void on_urgent(void *arg, broker_subscription *s, const broker_msg *m)
{
    struct urgent *u = arg;
    if (broker_msg_priority(m) == 9 && u->sent_at > 0) {
        u->ms[u->count++] = (seconds() - u->sent_at) * 1e3;
        u->sent_at = 0;
    } else {
        u->others++;
    }
    check(u->run->b, broker_ack(u->run->b, m), "acking");
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void latency(struct run *r, uint64_t count, uint64_t gap_ms)
{
    struct urgent u = {.run = r, .ms = calloc(count, sizeof *u.ms)};
    broker_subscribe_options options = {.size = sizeof options, .credit_messages = 1, .max_unsettled = 1};
    broker_message m = {.size = sizeof m, .body = "urgent", .body_len = 6, .priority = 9};
    broker_subscription *s;
    check(r->b, u.ms ? BROKER_OK : BROKER_NO_MEMORY, "starting");
    check(r->b, broker_subscribe(r->b, r->queue, &options, on_urgent, NULL, &u, &s), "subscribing");
    double start = seconds(), next = start;
    while (u.count < count) {
        double now = seconds();
        if (u.sent_at <= 0 && now >= next) {
            u.sent_at = now;
            next = now + (double)gap_ms / 1e3;
            check(r->b, broker_publish_async(r->b, r->queue, &m, NULL, NULL, NULL), "publishing");
        }
        broker_error error = broker_wait(r->b, (int)gap_ms);
        check(r->b, error == BROKER_TIMEOUT ? BROKER_OK : error, "waiting for messages");
    }
    double others = (double)u.others / (seconds() - start);
    check(r->b, broker_unsubscribe(s), "unsubscribing"); /* else there are always more acks to wait for */
    check(r->b, broker_flush(r->b), "acking");
    qsort(u.ms, count, sizeof *u.ms, compare);
    printf("{\"median\": %.3f, \"p99\": %.3f, \"worst\": %.3f, \"others\": %.0f}\n", u.ms[count / 2],
           u.ms[count - 1 - count / 100], u.ms[count - 1], others);
    free(u.ms);
}

/* ---- walking a queue ----------------------------------------------------------------------------------------------------- */

static bool on_peek(void *arg, const broker_msg *m)
{
    return true;
}

static void scan(struct run *r, const char *what)
{
    broker_header header = {"kind", "measured"};
    broker_scan_options options = {.size = sizeof options};
    broker_scan_result result = {0};
    if (!strcmp(what, "count")) {
        options.filter = (broker_filter){.headers = &header, .header_count = 1};
    }
    begin(r);
    if (!strcmp(what, "peek")) {
        options.max_messages = UINT32_MAX;
        check(r->b, broker_peek(r->b, r->queue, &options, on_peek, NULL, &result), "peeking");
    } else {
        broker_scan_action action = strcmp(what, "delete") ? BROKER_SCAN_COUNT : BROKER_SCAN_DELETE;
        check(r->b, broker_scan(r->b, r->queue, action, &options, NULL, NULL, &result), "scanning");
    }
    report(r, result.matched);
}

static int usage(void)
{
    fprintf(stderr, "usage: bench_features URL publish|both QUEUE COUNT [FEATURE ...]\n"
                    "       bench_features URL consume QUEUE COUNT [reject]\n"
                    "       bench_features URL transact|separate IN OUT OUT COUNT BATCH\n"
                    "       bench_features URL latency QUEUE COUNT GAP_MS\n"
                    "       bench_features URL count|peek|delete QUEUE\n");
    return 2;
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        return usage();
    }
    const char *what = argv[2];
    struct run r = {.queue = argv[3]};
    broker_options options = {.size = sizeof options, .url = argv[1]};
    uint64_t count = argc > 4 ? strtoull(argv[4], NULL, 10) : 0;
    bool walks = !strcmp(what, "count") || !strcmp(what, "peek") || !strcmp(what, "delete");
    check(NULL, broker_open(&r.b, &options), "connecting");
    check(r.b, broker_connect(r.b), "connecting");
    if (walks) {
        scan(&r, what);
    } else if (count && !strcmp(what, "publish")) {
        features_read(&r.features, argv + 5, argc - 5);
        publish(&r, count);
    } else if (count && (!strcmp(what, "consume") || !strcmp(what, "both"))) {
        r.rejects = argc > 5 && !strcmp(argv[5], "reject");
        features_read(&r.features, argv + 5, r.rejects ? 0 : argc - 5);
        consume(&r, count, !strcmp(what, "both"));
    } else if (argc == 8 && (!strcmp(what, "transact") || !strcmp(what, "separate"))) {
        transact(&r, argv + 4, strtoull(argv[6], NULL, 10), (uint32_t)strtoul(argv[7], NULL, 10), *what == 't');
    } else if (argc == 6 && count && !strcmp(what, "latency")) {
        latency(&r, count, strtoull(argv[5], NULL, 10));
    } else {
        return usage();
    }
    broker_close(r.b);
    return 0;
}
