#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sse_internal.h"
#include "wire.h"

static struct net *net;
static struct events *events;

static int start(void **state)
{
    struct net_options options = {.read_buffer_bytes = 65536, .max_input_bytes = 1 << 20, .max_output_bytes = 1 << 20};
    net = net_new(&options);
    events = sse_events_new(net);
    return net && events ? 0 : -1;
}

static int stop(void **state)
{
    sse_events_free(events);
    net_free(net);
    return 0;
}

static struct stored_message message(uint64_t seq, size_t body_len)
{
    char *body = malloc(body_len + 1);
    memset(body, 'x', body_len);
    struct record_spec spec = {.body = body, .body_len = body_len};
    struct stored_message m = {.seq = seq, .padded_len = record_spec_bytes(&spec)};
    uint8_t *record = malloc(m.padded_len);
    record_spec_put(record, &spec);
    put_u64(record + 16, seq);
    free(body);
    m.record = record;
    return m;
}

static void forget(struct stored_message *m)
{
    free((void *)(uintptr_t)m->record);
}

static const struct event_look LOOK = {7, "a", EVENT_BODY, NAMED_MESSAGE};

static void made_once_a_turn(void **state)
{
    struct stored_message m = message(20, 3);
    struct event_bytes first, again, other;
    struct event_look json = LOOK;
    assert_true(sse_events_get(events, &LOOK, 3, &m, &first));
    assert_true(first.lent);
    assert_int_equal(first.len, strlen("data: xxx\nid: 3.7-14\n\n"));
    assert_memory_equal(first.bytes, "data: xxx\nid: 3.7-14\n\n", first.len);
    assert_int_equal(first.open_len, strlen("data: xxx\n"));
    assert_true(sse_events_get(events, &LOOK, 3, &m, &again));
    assert_ptr_equal(again.bytes, first.bytes);
    json.format = EVENT_JSON;
    assert_true(sse_events_get(events, &json, 3, &m, &other));
    assert_ptr_not_equal(other.bytes, first.bytes);
    assert_memory_equal(other.bytes, "data: {\"queue\":\"a\",\"seq\":20,", 28);
    assert_ptr_equal(other.bytes, first.bytes + first.len); /* what is sent together lies together */
    net_turn(net, false);
    forget(&m);
    m = message(20, 4); /* nothing is taken from another turn */
    assert_true(sse_events_get(events, &LOOK, 3, &m, &again));
    assert_memory_equal(again.bytes, "data: xxxx\n", 11);
    forget(&m);
}

static void no_more_is_lent_than_allowed(void **state)
{
    struct event_bytes e;
    size_t lent = 0;
    int i;
    for (i = 0; i < 100; i++) {
        struct stored_message m = message((uint64_t)i + 1, 1 << 20);
        assert_true(sse_events_get(events, &LOOK, 3, &m, &e));
        assert_true(e.len > 1 << 20);
        forget(&m);
        if (!e.lent)
            break;
        lent += e.len;
    }
    assert_true(lent > 4 << 20 && lent <= 8 << 20);
    net_turn(net, false);
    struct stored_message m = message(1, 20 << 20); /* one is, however large */
    assert_true(sse_events_get(events, &LOOK, 3, &m, &e));
    assert_true(e.lent);
    forget(&m);
}

static void ids(void **state)
{
    bool no_memory;
    struct event_id *id = sse_id_parse("3f.a-0.ffffffff-fffffffffffffffe", 32, 2, &no_memory);
    assert_non_null(id);
    assert_int_equal(id->epoch, 0x3f);
    assert_int_equal(id->count, 2);
    assert_int_equal(id->places[0].queue_id, 10);
    assert_int_equal(id->places[0].seq, 0);
    assert_int_equal(id->places[1].queue_id, UINT32_MAX);
    assert_true(id->places[1].seq == UINT64_MAX - 1);
    char text[EVENT_ID_EPOCH_BYTES + 2 * EVENT_ID_PLACE_BYTES];
    size_t n = sse_id_put_epoch(text, id->epoch);
    n += sse_id_put_place(text + n, &id->places[0]);
    n += sse_id_put_place(text + n, &id->places[1]);
    assert_int_equal(n, 32);
    assert_memory_equal(text, "3f.a-0.ffffffff-fffffffffffffffe", 32);
    free(id);
    assert_null(sse_id_parse("3f.a-0.ffffffff-fffffffffffffffe", 32, 1, &no_memory)); /* more than allowed */
    assert_null(sse_id_parse("3F.a-0", 6, 2, &no_memory));
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, start, stop)
    const struct CMUnitTest tests[] = {
        TEST(made_once_a_turn),
        TEST(no_more_is_lent_than_allowed),
        cmocka_unit_test(ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
