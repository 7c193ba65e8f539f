/* Each allocation fails once in turn: the command says so, nothing of it is left, and the next try succeeds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine_internal.h"
#include "test_alloc.h"
#include "test_store.h"

enum { TRIES_MAX = 1000, LEASED_MAX = 64 };

static void fail_nth(uint64_t n)
{
    test_alloc_calls = 0;
    test_alloc_fail_at = n;
}

/* ---- an engine whose store never lacks memory --------------------------------------------------------------------------- */

struct fixture {
    struct engine *e;
    struct test_store store;
    struct store_ops ops;
    struct now now;
    broker_error error;
    uint32_t completions;
    broker_queue_info queue;
    size_t bindings, groups, filters;
    uint64_t leased[LEASED_MAX], receipts[LEASED_MAX];
    uint32_t leased_count;
};

static broker_error careful_append(void *store, const uint8_t *record, uint32_t length, enum durability durability,
                                   uint64_t *index)
{
    uint64_t at = test_alloc_fail_at;
    test_alloc_fail_at = 0;
    broker_error error = test_store_ops.append(store, record, length, durability, index);
    test_alloc_fail_at = at;
    return error;
}

static broker_error careful_append_all(void *store, const struct append_item *items, uint32_t count,
                                       enum durability durability, uint64_t *index)
{
    uint64_t at = test_alloc_fail_at;
    test_alloc_fail_at = 0;
    broker_error error = test_store_ops.append_all(store, items, count, durability, index);
    test_alloc_fail_at = at;
    return error;
}

static void note_leased(struct fixture *f, const struct delivery *d)
{
    for (uint32_t i = 0; i < d->count; i++) {
        assert_true(f->leased_count < LEASED_MAX);
        f->receipts[f->leased_count] = d->first_receipt + i;
        f->leased[f->leased_count++] = d->messages[i].seq;
    }
}

static void on_complete(void *sink, const struct completion *c)
{
    struct fixture *f = sink;
    f->completions++;
    f->error = c->error;
    if (c->type == COMMAND_PUBLISH && !c->error) {
        f->error = c->u.publish.results[0].error;
    }
    if (c->type == COMMAND_LEASE && !c->error) {
        note_leased(f, &c->u.lease);
    }
    if (c->type == COMMAND_QUEUE_DESCRIBE && !c->error) {
        f->queue = *c->u.describe.queue;
        f->bindings = c->u.describe.binding_count;
        f->groups = c->u.describe.group_count;
        f->filters = 0;
        for (size_t i = 0; i < f->groups; i++) {
            f->filters += c->u.describe.groups[i].settings.filter.key != NULL;
        }
    }
}

static bool on_deliver(void *sink, const struct delivery *d)
{
    return true;
}

static void on_ended(void *sink, struct token token, broker_error error, const char *text) {}

static const struct sink_ops SINK = {.complete = on_complete, .deliver = on_deliver, .ended = on_ended};

static void start(struct fixture *f)
{
    const char *text = "";
    f->ops = test_store_ops;
    f->ops.append = careful_append;
    f->ops.append_all = careful_append_all;
    f->e = engine_new(&(struct engine_options){0}, &f->ops, &f->store, &SINK, f);
    assert_non_null(f->e);
    for (size_t i = 0; i < f->store.count; i++) {
        assert_int_equal(engine_replay(f->e, f->store.records[i].bytes, &text), BROKER_OK);
    }
    engine_recovered(f->e, f->now, 1);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    f->now = (struct now){.mono = {1000}, .wall = {1700000000000}};
    test_store_init(&f->store);
    start(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    engine_free(f->e);
    test_store_release(&f->store);
    free(f);
    return 0;
}

static struct name named(const char *s)
{
    return (struct name){.bytes = s, .len = strlen(s)};
}

static broker_error command(struct fixture *f, struct command c)
{
    uint32_t before = f->completions;
    c.token = (struct token){.conn = 1, .correlation = 1};
    c.queue = named("q");
    engine_submit(f->e, f->now, &c);
    engine_committed(f->e, f->now, f->store.count, f->store.count);
    test_alloc_fail_at = 0;
    engine_tick(f->e, f->now);
    assert_int_equal(f->completions, before + 1);
    return f->error;
}

struct seen {
    broker_error error;
    uint64_t max_messages;
    size_t bindings, groups, filters;
};

static struct seen look(struct fixture *f)
{
    test_alloc_fail_at = 0;
    struct seen s = {.error = command(f, (struct command){.type = COMMAND_QUEUE_DESCRIBE})};
    if (!s.error) {
        s.max_messages = f->queue.settings.max_messages;
        s.bindings = f->bindings;
        s.groups = f->groups;
        s.filters = f->filters;
    }
    return s;
}

static void check_same(struct seen a, struct seen b)
{
    assert_int_equal(a.error, b.error);
    assert_int_equal(a.max_messages, b.max_messages);
    assert_int_equal(a.bindings, b.bindings);
    assert_int_equal(a.groups, b.groups);
    assert_int_equal(a.filters, b.filters);
}

/* Until it succeeds, with another allocation failing each time. What the log says is what is in memory. */
static void until_it_succeeds(struct fixture *f, struct command c)
{
    struct seen before = look(f);
    for (uint32_t n = 1; n < TRIES_MAX; n++) {
        size_t stored = f->store.count;
        fail_nth(n);
        broker_error error = command(f, c);
        if (!error) {
            assert_true(n > 1); /* something did fail */
            struct seen after = look(f);
            engine_free(f->e);
            start(f);
            check_same(look(f), after);
            return;
        }
        assert_int_equal(error, BROKER_NO_MEMORY);
        assert_int_equal(f->store.count, stored);
        check_same(look(f), before);
    }
    fail_msg("it never succeeds");
}

static void test_commands(void **state)
{
    struct fixture *f = *state;
    broker_queue_settings s = {
        .set = BROKER_SET_MAX_MESSAGES | BROKER_SET_DEAD_LETTER, .max_messages = 7, .dead_letter = "dead"};
    struct command c = {.type = COMMAND_QUEUE_CREATE};
    c.u.queue.settings = &s;
    until_it_succeeds(f, c);
    assert_int_equal(look(f).max_messages, 7);
    s.max_messages = 8;
    s.dead_letter = "other";
    c.type = COMMAND_QUEUE_ALTER;
    until_it_succeeds(f, c);
    assert_int_equal(look(f).max_messages, 8);
    c = (struct command){.type = COMMAND_BIND};
    c.u.bind.pattern = named("a.*.c.>");
    until_it_succeeds(f, c);
    assert_int_equal(look(f).bindings, 1);
    c.type = COMMAND_UNBIND;
    until_it_succeeds(f, c);
    assert_int_equal(look(f).bindings, 0);
    broker_group_settings gs = {.set = BROKER_GROUP_SET_FILTER, .filter = {.key = "k"}};
    c = (struct command){.type = COMMAND_GROUP_CREATE, .group = named("g")};
    c.u.group.settings = &gs;
    until_it_succeeds(f, c);
    assert_int_equal(look(f).groups, 2);
    assert_int_equal(look(f).filters, 1);
    c.type = COMMAND_GROUP_ALTER;
    c.group = named("default");
    until_it_succeeds(f, c);
    assert_int_equal(look(f).filters, 2);
    c.type = COMMAND_GROUP_DELETE;
    until_it_succeeds(f, c);
    assert_int_equal(look(f).groups, 1);
    until_it_succeeds(f, (struct command){.type = COMMAND_QUEUE_DELETE});
    assert_int_equal(look(f).error, BROKER_QUEUE_NOT_FOUND);
}

/* ---- messages --------------------------------------------------------------------------------------------------------- */

/* One command on any queue, with everything that follows from it; the allocation that is to fail may be in either. */
static broker_error run(struct fixture *f, struct command c, const char *queue, uint64_t fail)
{
    c.token = (struct token){.conn = 1, .correlation = 1};
    c.queue = named(queue);
    fail_nth(fail);
    engine_submit(f->e, f->now, &c);
    engine_committed(f->e, f->now, f->store.count, f->store.count);
    engine_tick(f->e, f->now);
    test_alloc_fail_at = 0;
    for (int i = 0; i < 50; i++) { /* what could not be done is done later */
        f->now.mono.ms += 20;
        f->now.wall.ms += 20;
        engine_tick(f->e, f->now);
        engine_committed(f->e, f->now, f->store.count, f->store.count);
    }
    return f->error;
}

static void create(struct fixture *f, const char *name, broker_queue_settings s)
{
    struct command c = {.type = COMMAND_QUEUE_CREATE};
    c.u.queue.settings = &s;
    assert_int_equal(run(f, c, name, 0), BROKER_OK);
}

/* The messages of a queue that can be had, by taking all of them; without an ack they come back at once. */
static uint32_t count_all(struct fixture *f, const char *queue, bool ack)
{
    struct command c = {.type = COMMAND_LEASE};
    uint32_t n = 0;
    c.u.lease.max_messages = 32;
    do {
        f->leased_count = 0;
        if (run(f, c, queue, 0)) {
            return 0; /* there is no such queue */
        }
        for (uint32_t i = 0; i < f->leased_count; i++) {
            for (uint32_t j = 0; j < i; j++) {
                assert_int_not_equal(f->leased[i], f->leased[j]);
            }
            struct receipt_range range = {.first = f->receipts[i], .count = 1};
            struct command settle = {.type = ack ? COMMAND_ACK : COMMAND_NACK};
            settle.u.settle.ranges = &range;
            settle.u.settle.count = 1;
            assert_int_equal(run(f, settle, queue, 0), BROKER_OK);
        }
        n += f->leased_count;
    } while (ack && f->leased_count);
    return n;
}

static struct command publish_command(uint8_t record[512], struct record_spec spec)
{
    struct command c = {.type = COMMAND_PUBLISH};
    spec.body = "x";
    spec.body_len = 1;
    assert_true(record_spec_bytes(&spec) <= 512);
    record_spec_put(record, &spec);
    c.u.publish.records = record;
    c.u.publish.len = record_spec_bytes(&spec);
    return c;
}

static const struct record_spec KINDS[] = {
    {.body = NULL},
    {.priority = 3},
    {.due_ms = 50, .due_is_delay = true},
    {.key = "k", .key_len = 1, .priority = 2},
    {.key = "l", .key_len = 1},
    {.id = "id", .id_len = 2, .producer = 4, .number = 9, .expire_ms = 10000000, .expire_is_ttl = true},
};
enum { KIND_COUNT = sizeof KINDS / sizeof KINDS[0] };

static void start_anew(struct fixture *f)
{
    engine_free(f->e);
    test_store_forget_dead(&f->store);
    start(f);
    f->now.mono.ms += 100;
    engine_tick(f->e, f->now);
}

/* Each kind of message, published while the n-th allocation fails: it is there once, or it was refused and is not. */
static void test_publish(void **state)
{
    struct fixture *f = *state;
    create(f, "q",
           (broker_queue_settings){
               .set = BROKER_SET_DEDUP_MS | BROKER_SET_DEDUP_COUNT, .dedup_ms = 60000, .dedup_count = 10});
    for (uint32_t kind = 0; kind < KIND_COUNT; kind++) {
        for (uint32_t n = 1; n < 12; n++) {
            uint8_t record[512];
            struct command c = publish_command(record, KINDS[kind]);
            bool done = !run(f, c, "q", n) && n > 1;
            assert_true(!f->error || f->error == BROKER_NO_MEMORY);
            done |= !f->error;
            if (n % 3 == 0) {
                start_anew(f);
            }
            if (kind < KIND_COUNT - 1 || n == 1) { /* one with an id is there once in all */
                assert_int_equal(count_all(f, "q", true), done);
            }
        }
        if (kind == KIND_COUNT - 1) {
            assert_true(count_all(f, "q", true) <= 1);
        }
    }
}

static void test_read(void **state)
{
    struct fixture *f = *state;
    uint8_t record[512];
    create(f, "q", (broker_queue_settings){0});
    assert_int_equal(run(f, publish_command(record, (struct record_spec){.key = "k", .key_len = 1}), "q", 0),
                     BROKER_OK);
    struct command c = {.type = COMMAND_READ};
    c.u.read.max_messages = 10;
    c.u.read.wait_ms = 1000;
    c.u.read.filter.key = "k";
    until_it_succeeds(f, c);
}

/* Taken while the n-th allocation fails, nacked, rejected, or moved: none is lost, none is there twice. */
static void test_hand_out(void **state)
{
    struct fixture *f = *state;
    static const struct {
        bool reject;
        uint32_t max_attempts;
    } ways[] = {{false, 0}, {true, 0}, {false, 1}};
    for (uint32_t way = 0; way < 3; way++) {
        char name[] = {'q', (char)('0' + way), 0}, dead[] = {'q', (char)('0' + way), '.', 'd', 'e', 'a', 'd', 0};
        create(f, name,
               (broker_queue_settings){.set = BROKER_SET_MAX_ATTEMPTS | BROKER_SET_ORDERED_KEYS,
                                       .max_attempts = ways[way].max_attempts,
                                       .ordered_keys = true});
        for (uint32_t n = 1; n < 40; n++) {
            uint8_t record[512];
            uint32_t total = 0;
            for (uint32_t kind = 0; kind < KIND_COUNT - 1; kind++, total++) {
                assert_int_equal(run(f, publish_command(record, KINDS[kind]), name, 0), BROKER_OK);
            }
            assert_int_equal(run(f, publish_command(record, KINDS[3]), name, 0), BROKER_OK);
            total++;
            struct command c = {.type = COMMAND_LEASE};
            c.u.lease.max_messages = 32;
            c.u.lease.wait_ms = 500;
            f->leased_count = 0;
            run(f, c, name, n);
            assert_true(f->error == BROKER_OK || f->error == BROKER_NO_MEMORY);
            uint32_t settled = f->leased_count;
            for (uint32_t i = 0; i < settled; i++) {
                struct receipt_range range = {.first = f->receipts[i], .count = 1};
                struct command settle = {.type = COMMAND_NACK};
                settle.u.settle.ranges = &range;
                settle.u.settle.count = 1;
                settle.u.settle.dead_letter = ways[way].reject;
                run(f, settle, name, 1 + (n + i) % 20);
                assert_true(f->error == BROKER_OK || f->error == BROKER_NO_MEMORY);
            }
            if (n % 3 == 0) {
                start_anew(f);
            } else {
                f->now.mono.ms += 40000; /* leases whose nack found no memory run out */
                f->now.wall.ms += 40000;
            }
            uint32_t back = count_all(f, name, true), buried = count_all(f, dead, true);
            assert_int_equal(back + buried, total);
        }
    }
    assert_int_equal(f->store.dead_twice, 0);
}

/* All of a transaction, and of a publish by topic, or nothing. */
static void test_together(void **state)
{
    struct fixture *f = *state;
    uint8_t record[512], other[512];
    create(f, "q", (broker_queue_settings){0});
    create(f, "r", (broker_queue_settings){0});
    for (int i = 0; i < 2; i++) {
        struct command bind = {.type = COMMAND_BIND};
        bind.u.bind.pattern = named("t.*");
        assert_int_equal(run(f, bind, i ? "q" : "r", 0), BROKER_OK);
    }
    for (uint32_t n = 1; n < 40; n++) {
        const struct record_spec topic = {.topic = "t.a", .topic_len = 3, .by_topic = true, .priority = 2};
        run(f, publish_command(record, topic), "", n);
        bool by_topic = !f->error;
        assert_true(by_topic || f->error == BROKER_NO_MEMORY);
        struct command a = publish_command(record, topic), b = publish_command(other, KINDS[2]);
        struct transact_part parts[] = {
            {.kind = PART_PUBLISH, .records = record, .len = a.u.publish.len},
            {.kind = PART_PUBLISH, .records = other, .len = b.u.publish.len, .queue = named("q")}};
        struct command c = {.type = COMMAND_TRANSACT};
        c.u.transact.parts = parts;
        c.u.transact.count = 2;
        run(f, c, "", n);
        bool transacted = !f->error;
        assert_true(transacted || f->error == BROKER_NO_MEMORY);
        if (n % 3 == 0) {
            start_anew(f);
        }
        assert_int_equal(count_all(f, "q", true), by_topic + 2 * transacted);
        assert_int_equal(count_all(f, "r", true), by_topic + transacted);
        assert_true(n < 39 || (by_topic && transacted));
    }
    struct engine_stats stats;
    engine_get_stats(f->e, &stats);
    assert_int_equal(stats.scheduled, 0);
    assert_int_equal(stats.leased, 0);
    assert_int_equal(f->store.dead_twice, 0);
}

/* ---- rooms on their own --------------------------------------------------------------------------------------------------- */

static uint32_t matches(struct engine *e, const char *topic)
{
    struct queue *const *queues;
    uint32_t count;
    assert_true(topics_match(e, topic, strlen(topic), &queues, &count));
    return count;
}

static void test_topics(void **state)
{
    struct fixture *f = *state;
    struct engine *e = f->e;
    struct queue *q = calloc(1, sizeof *q + 1), *other = calloc(1, sizeof *q + 1);
    q->id = 1;
    other->id = 2;
    assert_true(topics_bind(e, other, "a.b", 3));
    uint32_t n = 1;
    for (bool bound = false; !bound && n < TRIES_MAX; n++) {
        fail_nth(n);
        bound = topics_bind(e, q, "a.b.*.>", 7);
        test_alloc_fail_at = 0;
        assert_int_equal(topics_has(q, "a.b.*.>", 7), bound);
        assert_int_equal(q->binding_count, bound);
        assert_int_equal(matches(e, "a.b.c.d.e"), bound);
        assert_int_equal(matches(e, "a.b"), 1);
    }
    assert_true(n > 4);
    for (uint32_t i = 0; i < 20; i++) { /* the answer's array has to grow for them */
        char pattern[8];
        snprintf(pattern, sizeof pattern, "*.%c.>", 'a' + (int)i);
        assert_true(topics_bind(e, q, pattern, strlen(pattern)));
    }
    topics_forget_queue(e, q);
    topics_forget_queue(e, other);
    free(q);
    free(other);
}

static void test_message_ids(void **state)
{
    struct fixture *f = *state;
    struct engine *e = f->e;
    struct queue *q = calloc(1, sizeof *q + 1);
    q->settings.dedup_ms = 1000;
    q->settings.dedup_count = 1000;
    uint64_t forgotten = 0;
    for (uint64_t id = 1; id < 300; id++) {
        fail_nth(1 + id % 7);
        dedup_note(e, q, (const uint8_t *)&id, sizeof id, id, e->now.wall.ms);
        test_alloc_fail_at = 0;
        uint64_t seq = dedup_find(e, q, (const uint8_t *)&id, sizeof id);
        assert_true(seq == id || seq == 0);
        forgotten += seq == 0;
        dedup_note(e, q, (const uint8_t *)&id, sizeof id, id, e->now.wall.ms); /* as after a publish of it again */
        assert_int_equal(dedup_find(e, q, (const uint8_t *)&id, sizeof id), id);
    }
    assert_true(forgotten > 20);
    e->now.mono.ms += 1000000;
    e->now.wall.ms += 1000000;
    while (q->dedup) {
        dedup_expire(e);
    }
    free(q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_commands, setup, teardown),
        cmocka_unit_test_setup_teardown(test_publish, setup, teardown),
        cmocka_unit_test_setup_teardown(test_read, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hand_out, setup, teardown),
        cmocka_unit_test_setup_teardown(test_together, setup, teardown),
        cmocka_unit_test_setup_teardown(test_topics, setup, teardown),
        cmocka_unit_test_setup_teardown(test_message_ids, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
