#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "clients.h"

/* ---- a double for the engine ------------------------------------------------------------------------------------------ */

static struct command last;
static unsigned submitted, closes;

void engine_submit(struct engine *e, struct now now, const struct command *c)
{
    last = *c;
    submitted++;
    closes += c->type == COMMAND_CLOSE;
}

static unsigned completed, delivered, over;

static void note_complete(struct client *c, const struct completion *done)
{
    completed++;
}

static bool note_deliver(struct client *c, const struct delivery *d)
{
    delivered++;
    return true;
}

static void note_ended(struct client *c, struct token token, broker_error error, const char *text)
{
    over++;
}

static const struct client_ops OPS = {note_complete, note_deliver, note_ended};
static struct clients *table;
static struct door *door;
static const struct now NOW;

static int setup(void **state)
{
    table = clients_new();
    door = door_new(&(struct door_options){0}, NULL, &clients_sink_ops, table);
    clients_attach(table, door);
    submitted = closes = completed = delivered = over = 0;
    return !table || !door;
}

static int teardown(void **state)
{
    door_free(door);
    clients_free(table);
    return 0;
}

static void purge(struct client *c)
{
    client_submit(table, c, NOW, &(struct command){.type = COMMAND_QUEUE_PURGE, .queue = {"jobs", 4}});
}

static void test_answers_find_their_client(void **state)
{
    struct client a, b;
    assert_true(client_open(table, &a, &OPS, NULL));
    assert_true(client_open(table, &b, &OPS, NULL));
    purge(&a);
    assert_int_equal(last.token.conn, a.number);
    assert_int_equal(a.outstanding, 1);
    struct completion done = {.type = COMMAND_QUEUE_PURGE, .token = last.token};
    clients_sink_ops.complete(table, &done);
    assert_int_equal(completed, 1);
    assert_int_equal(a.outstanding, 0);
    assert_true(clients_sink_ops.deliver(table, &(struct delivery){.token = {.conn = b.number}}));
    assert_int_equal(delivered, 1);
    clients_sink_ops.ended(table, (struct token){.conn = b.number}, BROKER_QUEUE_NOT_FOUND, "gone");
    assert_int_equal(over, 1);
    client_close(table, &a, NOW);
    client_close(table, &b, NOW);
    assert_int_equal(clients_count(table), 0);
}

static void test_refusals_come_like_answers(void **state)
{
    struct client a;
    assert_true(client_open(table, &a, &OPS, NULL));
    client_submit(table, &a, NOW, &(struct command){.type = COMMAND_QUEUE_PURGE}); /* no name */
    assert_int_equal(submitted, 0);
    assert_int_equal(completed, 1);
    client_close(table, &a, NOW);
}

static void test_late_answers_find_nobody(void **state)
{
    struct client a, b;
    assert_true(client_open(table, &a, &OPS, NULL));
    purge(&a);
    struct token token = last.token;
    client_close(table, &a, NOW);
    assert_null(client_find(table, token.conn));
    assert_true(client_open(table, &b, &OPS, NULL)); /* in the same slot */
    struct completion done = {.type = COMMAND_QUEUE_PURGE, .token = token};
    clients_sink_ops.complete(table, &done);
    assert_true(clients_sink_ops.deliver(table, &(struct delivery){.token = token}));
    clients_sink_ops.ended(table, token, BROKER_OK, "");
    assert_int_equal(completed + delivered + over, 0);
    client_close(table, &b, NOW);
}

/* A request that leaves nothing behind costs the engine no CLOSE; one that waits, or subscribes, does. */
static void test_close_is_told_when_it_matters(void **state)
{
    struct client a;
    struct command lease = {.type = COMMAND_LEASE, .queue = {"jobs", 4}, .u.lease = {.max_messages = 1}};
    assert_true(client_open(table, &a, &OPS, NULL));
    purge(&a);
    client_close(table, &a, NOW);
    client_close(table, &a, NOW); /* again: nothing */
    assert_int_equal(closes, 0);
    assert_true(client_open(table, &a, &OPS, NULL));
    client_submit(table, &a, NOW, &lease);
    uint64_t number = a.number;
    client_close(table, &a, NOW);
    assert_int_equal(closes, 1);
    assert_int_equal(last.token.conn, number);
}

static void test_numbers_are_never_reused(void **state)
{
    enum { MANY = 1000 };
    static struct client c[MANY];
    uint64_t highest = 0;
    for (int round = 0; round < 3; round++) {
        uint64_t before = highest;
        for (int i = 0; i < MANY; i++) {
            assert_true(client_open(table, &c[i], &OPS, NULL));
            assert_true(c[i].number > before);
            assert_ptr_equal(client_find(table, c[i].number), &c[i]);
            highest = c[i].number > highest ? c[i].number : highest;
        }
        assert_int_equal(clients_count(table), MANY);
        for (int i = 0; i < MANY; i++)
            client_close(table, &c[i], NOW);
    }
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_answers_find_their_client),     T(test_refusals_come_like_answers), T(test_late_answers_find_nobody),
        T(test_close_is_told_when_it_matters), T(test_numbers_are_never_reused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
