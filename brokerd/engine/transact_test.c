/* Transactions and publishes by topic: all of it or nothing, whatever is in the way; a retry changes nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "feature_rig.h"

struct part {
    enum transact_part_kind kind;
    const char *queue;
    char letter;
    struct record_spec spec;
    uint64_t receipt;
    bool dead;
};

static broker_error transact(struct feature *f, const struct part *parts, size_t n)
{
    struct transact_part out[8] = {0};
    struct receipt_range ranges[8];
    struct command c = {.type = COMMAND_TRANSACT, .token = {.conn = 9}};
    for (size_t i = 0; i < n; i++) {
        out[i].kind = parts[i].kind;
        out[i].queue = rig_name(parts[i].queue);
        if (parts[i].kind == PART_PUBLISH) {
            struct record_spec spec = parts[i].spec;
            spec.body = &parts[i].letter;
            spec.body_len = 1;
            out[i].len = record_spec_bytes(&spec);
            out[i].records = malloc(out[i].len);
            record_spec_put(out[i].records, &spec);
        } else {
            ranges[i] = (struct receipt_range){.first = parts[i].receipt, .count = 1};
            out[i].ranges = &ranges[i];
            out[i].count = 1;
            out[i].dead_letter = parts[i].dead;
        }
    }
    c.u.transact.parts = out;
    c.u.transact.count = n;
    uint32_t before = f->r.completions;
    rig_submit(&f->r, &c);
    rig_settle(&f->r);
    assert_int_equal(f->r.completions, before + 1);
    for (size_t i = 0; i < n; i++) {
        free(out[i].records);
    }
    return f->r.error;
}

static uint64_t scheduled(struct feature *f)
{
    struct engine_stats stats;
    engine_get_stats(f->r.e, &stats);
    return stats.scheduled;
}

static void bind_to(struct feature *f, const char *queue, const char *pattern)
{
    struct command c = {.type = COMMAND_BIND, .token = {.conn = 9}, .queue = rig_name(queue)};
    c.u.bind.pattern = rig_name(pattern);
    rig_submit(&f->r, &c);
    rig_settle(&f->r);
    assert_int_equal(f->r.error, BROKER_OK);
}

#define TOPIC .topic = "t.x", .topic_len = 3, .by_topic = true

static void test_all_or_nothing(void **state)
{
    struct feature *f = *state;
    rig_create(&f->r, COMMAND_QUEUE_CREATE, "q", NULL);
    rig_create(&f->r, COMMAND_QUEUE_CREATE, "r", NULL);
    bind_to(f, "q", "t.*");
    bind_to(f, "r", "t.*");
    put_all(f, "q", "a", (struct record_spec){0});
    take_just(f, "q", NULL, 1, "a");
    const struct record_spec later = {.due_ms = 5000, .due_is_delay = true, .priority = 2};
    struct part parts[] = {{.kind = PART_PUBLISH, .queue = "q", .letter = 'b', .spec = later},
                           {.kind = PART_PUBLISH, .queue = NULL, .letter = 'c', .spec = {TOPIC}},
                           {.kind = PART_ACK, .receipt = f->got[0].receipt},
                           {.kind = PART_PUBLISH, .queue = "r", .letter = 'd'}};
    struct part wrong = {.kind = PART_PUBLISH, .queue = "nowhere", .letter = 'x'},
                stale = {.kind = PART_ACK, .receipt = 12345};
    size_t stored = f->r.store.count;
    struct part with[] = {parts[0], parts[1], parts[2], wrong};
    assert_int_equal(transact(f, with, 4), BROKER_QUEUE_NOT_FOUND);
    with[3] = stale;
    assert_int_equal(transact(f, with, 4), BROKER_STALE_RECEIPT);
    with[3] = parts[2];
    assert_int_equal(transact(f, with, 4), BROKER_STALE_RECEIPT);
    f->r.store.refuse = BROKER_DISK_FULL;
    assert_int_equal(transact(f, parts, 4), BROKER_DISK_FULL);
    f->r.store.refuse = BROKER_OK;
    assert_int_equal(f->r.store.count, stored);
    assert_int_equal(scheduled(f), 0);
    assert_int_equal(transact(f, parts, 4), BROKER_OK);
    assert_int_equal(f->seq_count, 4 - 1);
    assert_int_equal(f->seqs[0], 2); /* nothing was burned */
    assert_int_equal(f->seqs[1], 2); /* queues */
    assert_int_equal(f->seqs[2], 2);
    assert_int_equal(scheduled(f), 1);
    step(f);
    assert_int_equal(scheduled(f), 1);
    drain_just(f, "q", NULL, "c");
    drain_just(f, "r", NULL, "cd");
    rig_pass(&f->r, 5000);
    drain_just(f, "q", NULL, "b");
    step(f);
    drain_just(f, "q", NULL, "");
}

static void test_retry(void **state)
{
    struct feature *f = *state;
    rig_create(&f->r, COMMAND_QUEUE_CREATE, "q", NULL);
    rig_create(&f->r, COMMAND_QUEUE_CREATE, "r", NULL);
    struct part parts[] = {{.kind = PART_PUBLISH, .queue = "q", .letter = 'a', .spec = {.producer = 7, .number = 1}},
                           {.kind = PART_PUBLISH, .queue = "r", .letter = 'b', .spec = {.producer = 7, .number = 2}}};
    assert_int_equal(transact(f, parts, 2), BROKER_OK);
    assert_false(f->duplicate);
    step(f);
    assert_int_equal(transact(f, parts, 2), BROKER_OK);
    assert_true(f->duplicate);
    parts[1].spec.number = 3;
    assert_int_equal(transact(f, parts, 2), BROKER_REFUSED);
    drain_just(f, "q", NULL, "a");
    drain_just(f, "r", NULL, "b");
}

/* Nothing of it needs to be stored: it is done all the same. */
static void test_known_messages_only(void **state)
{
    struct feature *f = *state;
    broker_queue_settings s = {
        .size = sizeof s, .set = BROKER_SET_DEDUP_MS | BROKER_SET_DEDUP_COUNT, .dedup_ms = 60000, .dedup_count = 100};
    rig_create(&f->r, COMMAND_QUEUE_CREATE, "q", &s);
    put_all(f, "q", "a", (struct record_spec){.id = "id", .id_len = 2});
    step(f);
    struct part again = {.kind = PART_PUBLISH, .queue = "q", .letter = 'a', .spec = {.id = "id", .id_len = 2}};
    assert_int_equal(transact(f, &again, 1), BROKER_OK);
    assert_int_equal(f->seqs[0], 1);
    step(f);
    drain_just(f, "q", NULL, "a");
}

static void test_limits_and_nacks(void **state)
{
    struct feature *f = *state;
    broker_queue_settings s = {.size = sizeof s, .set = BROKER_SET_MAX_MESSAGES, .max_messages = 2};
    rig_create(&f->r, COMMAND_QUEUE_CREATE, "q", &s);
    put_all(f, "q", "a", (struct record_spec){0});
    take_just(f, "q", NULL, 1, "a");
    struct part two[] = {{.kind = PART_PUBLISH, .queue = "q", .letter = 'b'},
                         {.kind = PART_PUBLISH, .queue = "q", .letter = 'c'}};
    assert_int_equal(transact(f, two, 2), BROKER_QUEUE_FULL);
    struct part parts[] = {{.kind = PART_PUBLISH, .queue = "q", .letter = 'b'},
                           {.kind = PART_NACK, .receipt = f->got[0].receipt, .dead = true}};
    assert_int_equal(transact(f, parts, 2), BROKER_OK);
    assert_int_equal(f->seqs[0], 2);
    step(f);
    drain_just(f, "q", NULL, "b");
    drain_just(f, "q.dead", NULL, "a");
}

static void publish_topic(struct feature *f, char letter, struct record_spec spec)
{
    uint32_t before = f->r.completions;
    put(f, NULL, letter, spec);
    rig_settle(&f->r);
    assert_int_equal(f->r.completions, before + 1);
}

static void test_topics(void **state)
{
    struct feature *f = *state;
    broker_queue_settings few = {.size = sizeof few, .set = BROKER_SET_MAX_MESSAGES, .max_messages = 1};
    broker_queue_settings ids = {
        .size = sizeof ids, .set = BROKER_SET_DEDUP_MS | BROKER_SET_DEDUP_COUNT, .dedup_ms = 60000, .dedup_count = 100};
    rig_create(&f->r, COMMAND_QUEUE_CREATE, "few", &few);
    rig_create(&f->r, COMMAND_QUEUE_CREATE, "ids", &ids);
    publish_topic(f, 'x', (struct record_spec){TOPIC});
    assert_int_equal(f->r.error, BROKER_UNROUTABLE);
    bind_to(f, "few", "t.*");
    bind_to(f, "ids", "t.>");
    put_all(f, "ids", "1", (struct record_spec){.id = "i", .id_len = 1});
    publish_topic(f, 'a', (struct record_spec){TOPIC, .id = "i", .id_len = 1, .producer = 5, .number = 1});
    assert_int_equal(f->r.error, BROKER_OK); /* only to `few`: the other knows the id */
    assert_int_equal(f->seqs[0], 2);
    publish_topic(f, 'b', (struct record_spec){TOPIC, .producer = 5, .number = 2});
    assert_int_equal(f->r.error, BROKER_QUEUE_FULL);
    step(f);
    publish_topic(f, 'a', (struct record_spec){TOPIC, .id = "i", .id_len = 1, .producer = 5, .number = 1});
    assert_true(f->duplicate);
    drain_just(f, "few", NULL, "a");
    drain_just(f, "ids", NULL, "1");
    publish_topic(f, 'b', (struct record_spec){TOPIC, .producer = 5, .number = 2, .priority = 4});
    assert_int_equal(f->r.error, BROKER_OK);
    assert_false(f->duplicate);
    step(f);
    drain_just(f, "few", NULL, "b");
    drain_just(f, "ids", NULL, "b");
    step(f);
    assert_int_equal(rig_stored(&f->r, "few"), 0);
}

/* Queues that sync with the system answer once it is written. */
static void test_topics_written(void **state)
{
    struct feature *f = *state;
    broker_queue_settings s = {.size = sizeof s, .set = BROKER_SET_SYNC, .sync = BROKER_SYNC_NONE};
    rig_create(&f->r, COMMAND_QUEUE_CREATE, "q", &s);
    bind_to(f, "q", "t.*");
    uint64_t durable = f->r.store.count;
    uint32_t before = f->r.completions;
    put(f, NULL, 'a', (struct record_spec){TOPIC});
    engine_committed(f->r.e, f->r.now, durable, durable);
    assert_int_equal(f->r.completions, before);
    engine_committed(f->r.e, f->r.now, f->r.store.count, durable);
    assert_int_equal(f->r.completions, before + 1);
    drain_just(f, "q", NULL, "a");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FEATURE_TEST(test_all_or_nothing),   FEATURE_TEST(test_retry),  FEATURE_TEST(test_known_messages_only),
        FEATURE_TEST(test_limits_and_nacks), FEATURE_TEST(test_topics), FEATURE_TEST(test_topics_written)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
