/*
 * Scheduled messages: publish many, and see how late those come that are due soon. What schedule.py runs.
 *
 *   bench_schedule URL QUEUE fill COUNT SPAN_MS    publish COUNT messages, due at random within SPAN_MS, from an hour from now
 *   bench_schedule URL QUEUE late COUNT SPAN_MS    publish COUNT messages, due at random within SPAN_MS, from two seconds from
 *                                                  now, and consume them. Prints "median p99 worst early": lateness in ms as
 *                                                  the consumer sees it, and how many came before their time
 */
#include <broker/broker.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BODY_BYTES = 64, HOUR_MS = 3600000, LATE_FROM_MS = 2000, PATIENCE_MS = 30000 };

struct late {
    double *ms;
    size_t count, wanted;
    uint64_t early;
};

static double wall_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static uint64_t random_next(uint64_t *state) /* xorshift: the same times in each run */
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void check(broker *b, broker_error error, const char *what)
{
    if (error) {
        fprintf(stderr, "bench_schedule: %s: %s\n", what, broker_error_text(b));
        exit(1);
    }
}

static void publish(broker *b, const char *queue, uint64_t count, uint64_t from_ms, uint64_t span_ms)
{
    static const char body[BODY_BYTES];
    broker_publish_options options = {.size = sizeof options, .sync = BROKER_SYNC_INTERVAL};
    broker_message m = {.size = sizeof m, .body = body, .body_len = sizeof body};
    uint64_t seed = 0x9e3779b97f4a7c15u;
    for (uint64_t i = 0; i < count; i++) {
        m.at_ms = from_ms + random_next(&seed) % span_ms;
        broker_error error;
        while ((error = broker_publish_async(b, queue, &m, &options, NULL, NULL)) == BROKER_OUTBOX_FULL) {
            check(b, broker_wait(b, -1), "waiting for confirms");
        }
        check(b, error, "publishing");
    }
    check(b, broker_flush(b), "publishing");
}

static void arrived(void *arg, broker_subscription *s, const broker_msg *m)
{
    struct late *l = arg;
    double ms = wall_ms() - (double)broker_msg_due_ms(m);
    if (l->count < l->wanted) {
        l->ms[l->count++] = ms;
        l->early += ms < 0;
    }
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void measure(broker *b, const char *queue, uint64_t count, uint64_t span_ms)
{
    struct late l = {.ms = calloc(count, sizeof *l.ms), .wanted = count};
    broker_subscribe_options options = {.size = sizeof options, .ack = BROKER_ACK_AUTO};
    broker_subscription *s;
    check(b, l.ms ? BROKER_OK : BROKER_NO_MEMORY, "measuring");
    check(b, broker_subscribe(b, queue, &options, arrived, NULL, &l, &s), "subscribing");
    publish(b, queue, count, (uint64_t)wall_ms() + LATE_FROM_MS, span_ms);
    double end = wall_ms() + LATE_FROM_MS + (double)span_ms + PATIENCE_MS;
    while (l.count < count && wall_ms() < end) {
        broker_error error = broker_wait(b, 1000);
        check(b, error == BROKER_TIMEOUT ? BROKER_OK : error, "waiting for messages");
    }
    if (l.count < count) {
        fprintf(stderr, "bench_schedule: %zu of %" PRIu64 " messages came\n", l.count, count);
        exit(1);
    }
    check(b, broker_flush(b), "acking");
    qsort(l.ms, l.count, sizeof *l.ms, compare);
    printf("%.3f %.3f %.3f %" PRIu64 "\n", l.ms[count / 2], l.ms[count - 1 - count / 100], l.ms[count - 1], l.early);
    free(l.ms);
}

int main(int argc, char **argv)
{
    uint64_t count = argc == 6 ? strtoull(argv[4], NULL, 10) : 0, span_ms = argc == 6 ? strtoull(argv[5], NULL, 10) : 0;
    if (!count || !span_ms || (strcmp(argv[3], "fill") && strcmp(argv[3], "late"))) {
        fprintf(stderr, "usage: bench_schedule URL QUEUE fill|late COUNT SPAN_MS\n");
        return 2;
    }
    broker_options options = {.size = sizeof options, .url = argv[1]};
    broker *b;
    check(NULL, broker_open(&b, &options), "connecting");
    if (!strcmp(argv[3], "fill")) {
        publish(b, argv[2], count, (uint64_t)wall_ms() + HOUR_MS, span_ms);
    } else {
        measure(b, argv[2], count, span_ms);
    }
    broker_close(b);
    return 0;
}
