/* Requests of what queues can do besides fifo: settings, filters, topics, transactions, scans, backups; and their answers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "test/rig.h"

/* A map that came, looked into. */
static struct wire_map map;

static void open_answer(uint8_t type, uint32_t correlation)
{
    const uint8_t *body;
    struct frame_head head = next_frame(&body);
    assert_int_equal(head.type, type | FRAME_RESPONSE);
    assert_int_equal(head.correlation, correlation);
    assert_int_equal(wire_map_open(&map, body, head.length), BROKER_OK);
}

static uint64_t number(const char *key)
{
    uint64_t value = UINT64_MAX;
    assert_true(wire_map_has(&map, key));
    assert_true(wire_map_u64(&map, key, 0, UINT64_MAX, &value));
    return value;
}

static void is_text(const char *key, const char *want)
{
    const char *text = NULL;
    assert_true(wire_map_text(&map, key, 1000, &text));
    assert_non_null(text);
    assert_string_equal(text, want);
}

/* ---- settings ------------------------------------------------------------------------------------------------------- */

static void settings_of_queues(void **state)
{
    greet();
    put_text(
        FRAME_QUEUE_CREATE, 2, 0,
        "{'queue': 'jobs', 'max_attempts': 5, 'backoff': 'exponential', 'backoff_ms': 100, 'backoff_max_ms': 9000,"
        " 'backoff_jitter_percent': 20, 'dead_letter': 'graves', 'ttl_ms': 5000000000, 'dead_letter_expired': true,"
        " 'unused_ms': 7, 'dedup_ms': 8, 'dedup_count': 9, 'max_messages': 10, 'max_bytes': 11,"
        " 'overflow': 'drop_oldest', 'ordered_keys': false, 'fair_keys': true, 'compact': true}");
    expect_answer(FRAME_QUEUE_CREATE, 2);
    const broker_queue_settings *s = &seen.settings;
    assert_int_equal(s->set, BROKER_SET_ALL & ~0x7fu);
    assert_int_equal(s->max_attempts, 5);
    assert_int_equal(s->backoff, BROKER_BACKOFF_EXPONENTIAL);
    assert_int_equal(s->backoff_ms, 100);
    assert_int_equal(s->backoff_max_ms, 9000);
    assert_int_equal(s->backoff_jitter_percent, 20);
    assert_string_equal(seen.dead_letter, "graves");
    assert_int_equal(s->ttl_ms, 5000000000);
    assert_true(s->dead_letter_expired);
    assert_int_equal(s->unused_ms, 7);
    assert_int_equal(s->dedup_ms, 8);
    assert_int_equal(s->dedup_count, 9);
    assert_int_equal(s->max_messages, 10);
    assert_int_equal(s->max_bytes, 11);
    assert_int_equal(s->overflow, BROKER_OVERFLOW_DROP_OLDEST);
    assert_false(s->ordered_keys);
    assert_true(s->fair_keys);
    assert_true(s->compact);
    put_text(FRAME_QUEUE_ALTER, 3, 0, "{'queue': 'jobs', 'compact': false}");
    expect_answer(FRAME_QUEUE_ALTER, 3);
    assert_int_equal(seen.settings.set, BROKER_SET_COMPACT);
    assert_false(seen.settings.compact);
}

static void settings_that_are_wrong(void **state)
{
    static const struct {
        const char *key, *says;
    } bad[] = {
        {"'backoff': 'linear'", "\"linear\"; give one of none fixed exponential"},
        {"'backoff_ms': 5", "\"backoff_ms\" without \"backoff\""},
        {"'backoff_jitter_percent': 5", "without \"backoff\""},
        {"'backoff': 'fixed', 'backoff_jitter_percent': 101", "backoff_jitter_percent is 101"},
        {"'overflow': 'drop'", "\"drop\"; give one of reject drop_oldest"},
        {"'dead_letter': 'a b'", "'a b'"},
        {"'dead_letter': 5", "\"dead_letter\" is not a string"},
        {"'max_attempts': 4294967296", "\"max_attempts\" is 4294967296"},
        {"'compact': 1", "\"compact\" is not a boolean"},
        {"'ttl_ms': 'x'", "\"ttl_ms\" is not a whole number"},
    };
    char text[200];
    greet();
    for (uint32_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        snprintf(text, sizeof(text), "{'queue': 'jobs', %s}", bad[i].key);
        put_text(FRAME_QUEUE_ALTER, 2 + i, 0, text);
        expect_error(2 + i, BROKER_INVALID_ARGUMENT, "request", bad[i].says);
    }
    put_map(FRAME_QUEUE_ALTER, 99, 0, "82a57175657565a46a6f6273ab646561645f6c6574746572a3610062"); /* "a\0b" */
    expect_error(99, BROKER_INVALID_ARGUMENT, "request", "NUL");
    assert_int_equal(seen.count, 0);
}

static void settings_of_groups(void **state)
{
    greet();
    put_text(FRAME_GROUP_CREATE, 2, 0,
             "{'queue': 'jobs', 'group': 'g', 'start': 'end', 'single_active': true,"
             " 'filter': {'topic': 'a.>', 'key': 'k', 'headers': {'x': '1', 'y': ''}, 'later': 5}}");
    expect_answer(FRAME_GROUP_CREATE, 2);
    assert_int_equal(seen.last.u.group.start, BROKER_START_END);
    assert_int_equal(seen.group_settings.set, BROKER_GROUP_SET_FILTER | BROKER_GROUP_SET_SINGLE_ACTIVE);
    assert_true(seen.group_settings.single_active);
    assert_string_equal(seen.filter, "a.>|k|x=1,y=");
    put_text(FRAME_GROUP_ALTER, 3, 0, "{'queue': 'jobs', 'group': 'g', 'filter': {}}");
    expect_answer(FRAME_GROUP_ALTER, 3);
    assert_int_equal(seen.last.type, COMMAND_GROUP_ALTER);
    assert_int_equal(seen.group_settings.set, BROKER_GROUP_SET_FILTER);
    assert_string_equal(seen.filter, "||");
    put_text(FRAME_GROUP_ALTER, 4, 0, "{'queue': 'jobs', 'group': 'g'}");
    expect_answer(FRAME_GROUP_ALTER, 4);
    assert_int_equal(seen.group_settings.set, 0);
    static const struct {
        const char *filter, *says;
    } bad[] = {
        {"5", "\"filter\" is not a map"},
        {"{5: 6}", "\"filter\" is not a map"},
        {"{'topic': 5}", "\"topic\" is not a string"},
        {"{'topic': 'a..b'}", "'a..b'"},
        {"{'headers': 'x'}", "\"headers\" of \"filter\""},
        {"{'headers': {'x': 5}}", "\"headers\" is not a string"},
        {"{'headers': {5: 'x'}}", "\"headers\" is not a string"},
    };
    char text[200];
    for (uint32_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        snprintf(text, sizeof(text), "{'queue': 'jobs', 'group': 'g', 'filter': %s}", bad[i].filter);
        put_text(FRAME_GROUP_ALTER, 10 + i, 0, text);
        expect_error(10 + i, BROKER_INVALID_ARGUMENT, "request", bad[i].says);
    }
    assert_int_equal(seen.count, 3);
}

static void subscriptions(void **state)
{
    greet();
    put_text(FRAME_SUBSCRIBE, 2, 7, "{'queue': 'jobs', 'priority': 9, 'max_unsettled': 12}");
    expect_answer(FRAME_SUBSCRIBE, 2);
    assert_int_equal(seen.last.u.subscribe.priority, 9);
    assert_int_equal(seen.last.u.subscribe.max_unsettled, 12);
    put_text(FRAME_SUBSCRIBE, 3, 8, "{'queue': 'jobs', 'priority': 10}");
    expect_error(3, BROKER_INVALID_ARGUMENT, "request", "\"priority\" is 10");
}

static void what_is_told_of_queues(void **state)
{
    static const broker_header header = {"h", "v"};
    static const char *const bindings[] = {"a.*", ">"};
    broker_queue_info q = {.name = "jobs", .scheduled = 5, .bindings = 2, .published = 6, .expired = 7, .dropped = 8};
    broker_group_info g = {.name = "g", .blocked = 3, .lag = 4};
    greet();
    seen.answer = false;
    put_text(FRAME_QUEUE_DESCRIBE, 2, 0, "{'queue': 'jobs'}");
    while (seen.last.type != COMMAND_QUEUE_DESCRIBE)
        turn(true);
    q.settings = (broker_queue_settings){.retention = BROKER_RETENTION_LOG,
                                         .sync = BROKER_SYNC_NONE,
                                         .backoff = BROKER_BACKOFF_FIXED,
                                         .backoff_ms = 50,
                                         .overflow = BROKER_OVERFLOW_DROP_OLDEST,
                                         .dead_letter = "graves",
                                         .ordered_keys = true};
    g.settings = (broker_group_settings){.single_active = true, .filter = {.topic = "a", .headers = &header}};
    g.settings.filter.header_count = 1;
    struct completion done = {.type = COMMAND_QUEUE_DESCRIBE, .token = seen.last.token};
    done.u.describe.queue = &q;
    done.u.describe.groups = &g;
    done.u.describe.group_count = 1;
    done.u.describe.bindings = bindings;
    done.u.describe.binding_count = 2;
    clients_sink_ops.complete(clients, &done);
    open_answer(FRAME_QUEUE_DESCRIBE, 2);
    const msgpack_object_map *whole = map.map;
    const msgpack_object *queue = wire_map_find(&map, "queue"), *groups = wire_map_find(&map, "groups"),
                         *bound = wire_map_find(&map, "bindings");
    assert_int_equal(bound->via.array.size, 2);
    assert_memory_equal(bound->via.array.ptr[0].via.str.ptr, "a.*", 3);
    map.map = &queue->via.map;
    is_text("retention", "log");
    is_text("sync", "none");
    is_text("backoff", "fixed");
    is_text("overflow", "drop_oldest");
    is_text("dead_letter", "graves");
    assert_int_equal(number("backoff_ms"), 50);
    assert_int_equal(number("scheduled"), 5);
    assert_int_equal(number("bindings"), 2);
    assert_int_equal(number("published"), 6);
    assert_int_equal(number("expired"), 7);
    assert_int_equal(number("dropped"), 8);
    map.map = &groups->via.array.ptr[0].via.map;
    assert_int_equal(number("blocked"), 3);
    assert_int_equal(number("lag"), 4);
    bool single = false;
    assert_true(wire_map_bool(&map, "single_active", &single) && single);
    map.map = &wire_map_find(&map, "filter")->via.map;
    is_text("topic", "a");
    assert_false(wire_map_has(&map, "key"));
    map.map = &wire_map_find(&map, "headers")->via.map;
    is_text("h", "v");
    map.map = whole;
    wire_map_close(&map);
}

/* ---- topics --------------------------------------------------------------------------------------------------------- */

static void bindings(void **state)
{
    greet();
    put_text(FRAME_BIND, 2, 0, "{'queue': 'jobs', 'pattern': 'a.*'}");
    expect_answer(FRAME_BIND, 2);
    assert_int_equal(seen.last.type, COMMAND_BIND);
    assert_string_equal(seen.text, "a.*");
    put_text(FRAME_UNBIND, 3, 0, "{'queue': 'jobs', 'pattern': 'a.*'}");
    expect_answer(FRAME_UNBIND, 3);
    assert_int_equal(seen.last.type, COMMAND_UNBIND);
    put_text(FRAME_BIND, 4, 0, "{'queue': 'jobs'}");
    expect_error(4, BROKER_INVALID_ARGUMENT, "request", "\"pattern\" is missing");
    put_text(FRAME_BIND, 5, 0, "{'queue': 'jobs', 'pattern': 'a b'}");
    expect_error(5, BROKER_INVALID_ARGUMENT, "request", "'a b'");
}

static void publish_by_topic(void **state)
{
    static const struct publish_result results[] = {
        {.first_seq = 3, .first_index = 0, .count = 1, .routed = true},
        {.first_index = 1, .count = 1, .routed = true, .duplicate = true},
        {.first_index = 2, .count = 1, .error = BROKER_UNROUTABLE},
    };
    uint8_t body[8 + 48] = {0};
    const uint8_t *answer;
    struct publish_range r;
    greet();
    put_flags(FRAME_PUBLISH, FRAME_FLAG_UNROUTABLE_OK | 2, 2, body, sizeof(body));
    expect_answer(FRAME_PUBLISH, 2);
    assert_int_equal(seen.last.queue.len, 0);
    assert_int_equal(seen.last.u.publish.len, 48);
    assert_int_equal(seen.last.u.publish.sync, BROKER_SYNC_INTERVAL);
    assert_true(seen.last.u.publish.unroutable_ok);
    put_flags(FRAME_PUBLISH, 0, 3, body, sizeof(body));
    expect_answer(FRAME_PUBLISH, 3);
    assert_false(seen.last.u.publish.unroutable_ok);
    put_flags(FRAME_PUBLISH, 8, 4, body, sizeof(body));
    expect_error(4, BROKER_INVALID_ARGUMENT, "request", "flags 0x08");
    struct completion done = {.type = COMMAND_PUBLISH, .token = seen.last.token};
    done.u.publish.results = results;
    done.u.publish.count = 3;
    clients_sink_ops.complete(clients, &done);
    struct frame_head head = next_frame(&answer);
    assert_int_equal(head.length, 3 * PUBLISH_RANGE_BYTES);
    publish_range_get(answer, &r);
    assert_int_equal(r.first_seq, 3);
    assert_int_equal(r.flags, PUBLISH_RANGE_ROUTED);
    publish_range_get(answer + PUBLISH_RANGE_BYTES, &r);
    assert_int_equal(r.flags, PUBLISH_RANGE_ROUTED | PUBLISH_RANGE_DUPLICATE);
    publish_range_get(answer + 2 * PUBLISH_RANGE_BYTES, &r);
    assert_int_equal(r.code, BROKER_UNROUTABLE);
    assert_int_equal(r.flags, 0);
}

/* ---- settling and transactions --------------------------------------------------------------------------------------- */

static void rejecting(void **state)
{
    uint8_t body[24] = {0};
    greet();
    put_u64(body + 8, 7);
    put_u32(body + 16, 1);
    put_frame(FRAME_NACK, 2, 0, body, 24);
    expect_answer(FRAME_NACK, 2);
    assert_false(seen.last.u.settle.dead_letter);
    put_u32(body + 4, NACK_DEAD_LETTER);
    put_frame(FRAME_NACK, 3, 0, body, 24);
    expect_answer(FRAME_NACK, 3);
    assert_true(seen.last.u.settle.dead_letter);
    put_u32(body + 4, 2);
    put_frame(FRAME_NACK, 4, 0, body, 24);
    expect_error(4, BROKER_INVALID_ARGUMENT, "request", "flags 0x2");
    put_u32(body + 4, 1); /* what is zero in an EXTEND */
    put_u32(body, 5);
    put_frame(FRAME_EXTEND, 5, 0, body, 24);
    expect_error(5, BROKER_MALFORMED, "request", "EXTEND");
}

/* One part at `to`; its length. */
static uint32_t put_part(uint8_t *to, uint8_t kind, const char *queue, uint32_t length, uint32_t delay, uint32_t flags)
{
    uint32_t name = (uint32_t)strlen(queue);
    memset(to, 0, TRANSACT_PART_BYTES + pad8(name) + pad8(length));
    to[0] = kind;
    put_u16(to + 2, (uint16_t)name);
    put_u32(to + 4, length);
    put_u32(to + 8, delay);
    put_u32(to + 12, flags);
    memcpy(to + TRANSACT_PART_BYTES, queue, name);
    return TRANSACT_PART_BYTES + pad8(name) + pad8(length);
}

static uint32_t put_range(uint8_t *part, uint64_t first, uint32_t count)
{
    put_u64(part + TRANSACT_PART_BYTES, first);
    put_u32(part + TRANSACT_PART_BYTES + 8, count);
    return TRANSACT_PART_BYTES + SETTLE_RANGE_BYTES;
}

static void transactions(void **state)
{
    static const uint64_t seqs[] = {5, 6, 2};
    uint8_t body[400];
    const uint8_t *answer;
    uint32_t n = put_part(body, TRANSACT_PUBLISH, "jobs", 96, 0, 0);
    n += put_part(body + n, TRANSACT_PUBLISH, "", 48, 0, 0);
    put_part(body + n, TRANSACT_ACK, "", 16, 0, 0);
    n += put_range(body + n, 100, 3);
    put_part(body + n, TRANSACT_NACK, "", 16, 2500, NACK_DEAD_LETTER);
    n += put_range(body + n, 200, 1);
    greet();
    put_flags(FRAME_TRANSACT, FRAME_FLAG_UNROUTABLE_OK | 1, 2, body, n);
    struct frame_head head = next_frame(&answer);
    assert_int_equal(head.type, FRAME_TRANSACT | FRAME_RESPONSE);
    assert_int_equal(head.length, 0);
    assert_int_equal(seen.last.u.transact.count, 4);
    assert_int_equal(seen.last.u.transact.sync, BROKER_SYNC_ALWAYS);
    assert_true(seen.last.u.transact.unroutable_ok);
    const struct transact_part *p = seen.parts;
    assert_int_equal(p[0].kind, PART_PUBLISH);
    assert_int_equal(p[0].len, 96);
    assert_int_equal((uintptr_t)p[0].records % 8, 0);
    assert_int_equal(p[0].queue.len, 4);
    assert_int_equal(p[1].queue.len, 0);
    assert_int_equal(p[1].len, 48);
    assert_int_equal(p[1].records - p[0].records, 96 + TRANSACT_PART_BYTES);
    assert_int_equal(p[2].kind, PART_ACK);
    assert_int_equal(p[2].count, 1);
    assert_int_equal(p[3].kind, PART_NACK);
    assert_int_equal(p[3].delay_ms, 2500);
    assert_true(p[3].dead_letter);
    assert_ptr_equal(p[3].ranges, p[2].ranges + 1);
    assert_int_equal(front->ranges[0].first, 100);
    assert_int_equal(front->ranges[0].count, 3);
    assert_int_equal(front->ranges[1].first, 200);

    struct completion done = {.type = COMMAND_TRANSACT, .token = seen.last.token};
    done.u.transact.seqs = seqs;
    done.u.transact.count = 3;
    clients_sink_ops.complete(clients, &done);
    head = next_frame(&answer);
    assert_int_equal(head.length, 24);
    assert_int_equal(head.flags, 0);
    assert_int_equal(get_u64(answer + 16), 2);
    done.u.transact.duplicate = true;
    clients_sink_ops.complete(clients, &done);
    head = next_frame(&answer);
    assert_int_equal(head.flags, TRANSACT_DUPLICATE);
}

static void transactions_that_are_wrong(void **state)
{
    uint8_t good[200], body[400];
    uint32_t n = put_part(good, TRANSACT_PUBLISH, "jobs", 48, 0, 0), ack = n;
    put_part(good + n, TRANSACT_ACK, "", 16, 0, 0);
    n += put_range(good + n, 100, 3);
    greet();
    const struct {
        uint32_t at;
        uint8_t value;
        broker_error code;
        const char *says;
    } bad[] = {
        {0, 0, BROKER_MALFORMED, "part 0: it is none of publish"},
        {0, 9, BROKER_MALFORMED, "part 0: it is none of publish"},
        {1, 1, BROKER_MALFORMED, "part 0: its reserved byte"},
        {3, 0xff, BROKER_MALFORMED, "part 0: its lengths"},
        {6, 0xff, BROKER_MALFORMED, "part 0: its lengths"},
        {7, 0xff, BROKER_MALFORMED, "part 0: its lengths"},
        {8, 1, BROKER_MALFORMED, "part 0: the delay and flags of a publish"},
        {15, 1, BROKER_MALFORMED, "part 0: the delay and flags of a publish"},
        {ack, TRANSACT_PUBLISH, BROKER_OK, NULL}, /* then those bytes are a record */
        {ack + 2, 1, BROKER_MALFORMED, "part 1: "},
        {ack + 4, 15, BROKER_MALFORMED, "part 1: 15 bytes are not made of"},
        {ack + 8, 1, BROKER_MALFORMED, "part 1: the delay and flags of an ack"},
        {ack + 28, 1, BROKER_MALFORMED, "part 1: receipt range 0: its reserved"},
        {ack + 24, 0, BROKER_INVALID_ARGUMENT, "part 1 of the transaction: count of a receipt range is 0"},
        {20, 0xff, BROKER_OK, NULL}, /* padding of the name */
        {16, ' ', BROKER_INVALID_ARGUMENT, "part 0 of the transaction: queue name ' obs'"},
    };
    for (uint32_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        memcpy(body, good, n);
        body[bad[i].at] = bad[i].value;
        unsigned before = seen.count;
        put_frame(FRAME_TRANSACT, 2 + i, 0, body, n);
        if (bad[i].says)
            expect_error(2 + i, bad[i].code, "request", bad[i].says);
        else
            expect_answer(FRAME_TRANSACT, 2 + i);
        assert_int_equal(seen.count, before + !bad[i].says);
    }
    for (uint32_t cut = 1; cut < n; cut++) { /* cut short anywhere */
        if (cut == ack)
            continue;
        put_frame(FRAME_TRANSACT, 100 + cut, 0, good, cut);
        expect_error(100 + cut, BROKER_MALFORMED, "request", cut < ack ? "part 0: " : "part 1: ");
    }
    put_frame(FRAME_TRANSACT, 300, 0, body, 0);
    expect_error(300, BROKER_INVALID_ARGUMENT, "request", "parts is 0");
    put_flags(FRAME_TRANSACT, 8, 301, good, n);
    expect_error(301, BROKER_INVALID_ARGUMENT, "request", "flags 0x08");
    uint32_t many = 0;
    for (int i = 0; i < 5; i++)
        many += put_part(body + many, TRANSACT_PUBLISH, "jobs", 48, 0, 0);
    put_frame(FRAME_TRANSACT, 302, 0, body, many);
    expect_error(302, BROKER_TOO_LARGE, "request", "part 4: more parts");
    static uint8_t big[TRANSACT_PART_BYTES + 17 * SETTLE_RANGE_BYTES];
    put_part(big, TRANSACT_ACK, "", 17 * SETTLE_RANGE_BYTES, 0, 0);
    put_frame(FRAME_TRANSACT, 303, 0, big, sizeof(big));
    expect_error(303, BROKER_TOO_LARGE, "request", "17 receipt ranges");
}

/* ---- looking and mending ---------------------------------------------------------------------------------------------- */

static void scans(void **state)
{
    greet();
    seen.answer = false;
    put_text(FRAME_SCAN, 2, 0,
             "{'queue': 'jobs', 'action': 'redrive', 'state': 'available', 'from_seq': 3, 'to_seq': 9, 'from_ms': 4,"
             " 'to_ms': 5, 'filter': {'key': 'k'}, 'target': 'to', 'max_messages': 6, 'max_scanned': 7}");
    while (seen.last.type != COMMAND_SCAN)
        turn(true);
    const struct command *c = &seen.last;
    assert_int_equal(c->u.scan.action, SCAN_REDRIVE);
    assert_int_equal(c->u.scan.state, BROKER_SCAN_AVAILABLE);
    assert_int_equal(c->u.scan.from_seq, 3);
    assert_int_equal(c->u.scan.to_seq, 9);
    assert_int_equal(c->u.scan.from_ms, 4);
    assert_int_equal(c->u.scan.to_ms, 5);
    assert_int_equal(c->u.scan.max_messages, 6);
    assert_int_equal(c->u.scan.max_scanned, 7);
    assert_string_equal(seen.filter, "|k|");
    assert_string_equal(seen.text, "to");
    struct completion done = {.type = COMMAND_SCAN, .token = c->token};
    done.u.scan.matched = 11;
    done.u.scan.skipped = 12;
    done.u.scan.next_seq = 13;
    clients_sink_ops.complete(clients, &done);
    open_answer(FRAME_SCAN, 2);
    assert_int_equal(number("matched"), 11);
    assert_int_equal(number("skipped"), 12);
    assert_int_equal(number("next_seq"), 13);
    wire_map_close(&map);
    put_text(FRAME_SCAN, 3, 0, "{'queue': 'jobs'}");
    expect_error(3, BROKER_INVALID_ARGUMENT, "request", "\"action\" is missing");
    put_text(FRAME_SCAN, 4, 0, "{'queue': 'jobs', 'action': 'peek'}");
    expect_error(4, BROKER_INVALID_ARGUMENT, "request", "count delete move redrive");
    put_text(FRAME_SCAN, 5, 0, "{'queue': 'jobs', 'action': 'move'}");
    expect_error(5, BROKER_INVALID_ARGUMENT, "request", "target queue has no name");
    put_text(FRAME_SCAN, 6, 0, "{'queue': 'jobs', 'action': 'count', 'state': 'old'}");
    expect_error(6, BROKER_INVALID_ARGUMENT, "request", "any scheduled available");
}

static void peeks(void **state)
{
    static uint8_t records[2][48];
    struct stored_message m[2] = {{5, records[0], 48}, {9, records[1], 48}};
    const uint8_t *body;
    greet();
    seen.answer = false;
    put_text(FRAME_PEEK, 2, 0, "{'queue': 'jobs', 'max_bytes': 600}");
    while (seen.last.type != COMMAND_SCAN)
        turn(true);
    assert_int_equal(seen.last.u.scan.action, SCAN_PEEK);
    assert_int_equal(seen.last.u.scan.max_messages, 100);
    assert_int_equal(seen.last.u.scan.max_bytes, 600);
    memset(records, 'r', sizeof(records));
    struct completion done = {.type = COMMAND_SCAN, .token = seen.last.token};
    done.u.scan.peek = true;
    done.u.scan.messages = m;
    done.u.scan.count = 2;
    done.u.scan.next_seq = 10;
    clients_sink_ops.complete(clients, &done);
    struct frame_head head = next_frame(&body);
    assert_int_equal(head.type, FRAME_PEEK | FRAME_RESPONSE);
    assert_int_equal(head.correlation, 2);
    assert_int_equal(head.length, 16 + 16 + 96);
    assert_int_equal(get_u32(body), 2);
    assert_int_equal(get_u32(body + 4), PEEK_MORE);
    assert_int_equal(get_u64(body + 8), 10);
    assert_int_equal(get_u64(body + 16), 5);
    assert_int_equal(get_u64(body + 24), 9);
    assert_memory_equal(body + 32, records, 96);
    done.u.scan.count = 0;
    done.u.scan.next_seq = 0;
    clients_sink_ops.complete(clients, &done);
    head = next_frame(&body);
    assert_int_equal(head.length, 16);
    assert_int_equal(get_u32(body + 4), 0);
    put_text(FRAME_PEEK, 3, 0, "{'queue': 'jobs', 'max_messages': 1025}");
    expect_error(3, BROKER_INVALID_ARGUMENT, "request", "1025");
}

static void rescheduling(void **state)
{
    greet();
    put_text(FRAME_RESCHEDULE, 2, 0, "{'queue': 'jobs', 'seq': 7, 'due_ms': 123}");
    expect_answer(FRAME_RESCHEDULE, 2);
    assert_int_equal(seen.last.u.reschedule.seq, 7);
    assert_int_equal(seen.last.u.reschedule.due_ms, 123);
    assert_false(seen.last.u.reschedule.is_delay);
    put_text(FRAME_RESCHEDULE, 3, 0, "{'queue': 'jobs', 'seq': 7, 'delay_ms': 0}");
    expect_answer(FRAME_RESCHEDULE, 3);
    assert_true(seen.last.u.reschedule.is_delay);
    put_text(FRAME_RESCHEDULE, 4, 0, "{'queue': 'jobs', 'seq': 7}");
    expect_error(4, BROKER_INVALID_ARGUMENT, "request", "one of \"due_ms\"");
    put_text(FRAME_RESCHEDULE, 5, 0, "{'queue': 'jobs', 'seq': 7, 'delay_ms': 0, 'due_ms': 5}");
    expect_error(5, BROKER_INVALID_ARGUMENT, "request", "one of \"due_ms\"");
    put_text(FRAME_RESCHEDULE, 6, 0, "{'queue': 'jobs', 'seq': 0, 'delay_ms': 0}");
    expect_error(6, BROKER_INVALID_ARGUMENT, "request", "\"seq\" is 0");
}

/* ---- deliveries ------------------------------------------------------------------------------------------------------- */

/* Seqs come along when one of the batch is not its record's. */
static void deliveries_of_routed_messages(void **state)
{
    static uint8_t records[3][48];
    struct stored_message m[3];
    uint32_t attempts[3] = {1, 1, 1};
    const uint8_t *body;
    greet();
    put_text(FRAME_SUBSCRIBE, 2, 7, "{'queue': 'jobs'}");
    expect_answer(FRAME_SUBSCRIBE, 2);
    for (uint32_t i = 0; i < 3; i++) {
        put_u64(records[i] + 16, 20 + i);
        m[i] = (struct stored_message){.seq = 20 + i, .record = records[i], .padded_len = 48};
    }
    struct delivery d = {.token = {.conn = seen.last.token.conn, .stream = 7}, .first_receipt = 64};
    d.messages = m;
    d.attempts = attempts;
    d.count = 3;
    for (int i = 0; i < 4; i++) { /* with seqs or not, with attempts or not */
        bool seqs = i & 1, tries = i & 2;
        m[1].seq = seqs ? 500 : 21;
        attempts[2] = tries ? 4 : 1;
        assert_true(clients_sink_ops.deliver(clients, &d));
        struct frame_head head = next_frame(&body);
        uint32_t at = 16 + (tries ? 16 : 0);
        assert_int_equal(get_u32(body + 4), (tries ? DELIVER_ATTEMPTS : 0) | (seqs ? DELIVER_SEQS : 0));
        assert_int_equal(head.length, at + (seqs ? 24 : 0) + 3 * 48);
        if (tries)
            assert_int_equal(get_u32(body + 24), 4);
        if (seqs) {
            assert_int_equal(get_u64(body + at), 20);
            assert_int_equal(get_u64(body + at + 8), 500);
            assert_int_equal(get_u64(body + at + 16), 22);
        }
        assert_memory_equal(body + at + (seqs ? 24 : 0), records, sizeof(records));
    }
}

/* ---- backup ----------------------------------------------------------------------------------------------------------- */

static struct {
    unsigned begun, ended;
    uint64_t ended_conn;
    bool open, later;
    struct backup_asker asker;
    backup_begun *done;
    void *arg;
    uint32_t file, max_bytes;
    uint64_t offset;
} copy;

static void answer_begin(broker_error error)
{
    static const struct backup_file files[] = {{"segment-1.log", 1 << 20, 5000}, {"checkpoint-9", 300, 300}};
    static const struct backup_listing listing = {.files = files, .count = 2, .data_bytes = 5300, .log_index = 9};
    copy.open |= !error;
    copy.done(copy.arg, copy.asker, error, error ? "another one is open" : NULL, error ? NULL : &listing);
}

static void copy_begin(void *backup, struct backup_asker asker, backup_begun *done, void *arg)
{
    copy.begun++;
    copy.asker = asker;
    copy.done = done;
    copy.arg = arg;
    if (!copy.later)
        answer_begin(copy.open ? BROKER_LIMIT_REACHED : BROKER_OK);
}

static void copy_read(void *backup, struct backup_asker asker, uint32_t file, uint64_t offset, uint32_t max_bytes,
                      backup_bytes *done, void *arg)
{
    copy.file = file;
    copy.offset = offset;
    copy.max_bytes = max_bytes;
    if (copy.open)
        done(arg, asker, BROKER_OK, NULL, (const uint8_t *)"piece", 5);
    else
        done(arg, asker, BROKER_REFUSED, "no backup is open", NULL, 0);
}

static broker_error copy_end(void *backup, uint64_t conn)
{
    copy.ended++;
    copy.ended_conn = conn;
    bool was_open = copy.open;
    copy.open = false;
    return was_open ? BROKER_OK : BROKER_REFUSED;
}

static void with_backup(void)
{
    static const struct backup_ops ops = {copy_begin, copy_read, copy_end};
    memset(&copy, 0, sizeof(copy));
    host.backup_ops = &ops;
    front->host.backup_ops = &ops;
    greet();
}

static void backups(void **state)
{
    const uint8_t *body;
    with_backup();
    put_text(FRAME_BACKUP_READ, 2, 0, "{'file': 0, 'bytes': 10}");
    expect_error(2, BROKER_REFUSED, "request", "no backup");
    put_text(FRAME_BACKUP_END, 3, 0, "{}");
    expect_error(3, BROKER_REFUSED, "request", "BACKUP_BEGIN");
    put_text(FRAME_BACKUP_BEGIN, 4, 0, "{}");
    open_answer(FRAME_BACKUP_BEGIN, 4);
    const msgpack_object *files = wire_map_find(&map, "files");
    assert_int_equal(files->via.array.size, 2);
    assert_int_equal(number("bytes"), 5300);
    assert_int_equal(number("log_index"), 9);
    map.map = &files->via.array.ptr[0].via.map;
    is_text("name", "segment-1.log");
    assert_int_equal(number("size"), 1 << 20);
    assert_int_equal(number("data_end"), 5000);
    wire_map_close(&map);
    put_text(FRAME_BACKUP_BEGIN, 5, 0, "{}");
    expect_error(5, BROKER_LIMIT_REACHED, "request", "another one is open");
    put_text(FRAME_BACKUP_READ, 6, 0, "{'file': 1, 'offset': 5000000000, 'bytes': 4000000000}");
    struct frame_head head = next_frame(&body);
    assert_int_equal(head.type, FRAME_BACKUP_READ | FRAME_RESPONSE);
    assert_int_equal(head.length, 5);
    assert_memory_equal(body, "piece", 5);
    assert_int_equal(copy.file, 1);
    assert_int_equal(copy.offset, 5000000000);
    assert_int_equal(copy.max_bytes, options.max_frame_bytes); /* no more than fits into a frame */
    put_text(FRAME_BACKUP_READ, 7, 0, "{'bytes': 4000}");
    expect_error(7, BROKER_INVALID_ARGUMENT, "request", "\"file\" is missing");
    put_text(FRAME_BACKUP_READ, 8, 0, "{'file': 1, 'bytes': 0}");
    expect_error(8, BROKER_INVALID_ARGUMENT, "request", "\"bytes\" is 0");
    put_text(FRAME_BACKUP_END, 9, 0, "{}");
    expect_answer(FRAME_BACKUP_END, 9);
    door_drain(door);
    put_text(FRAME_BACKUP_BEGIN, 10, 0, "{}");
    expect_error(10, BROKER_SHUTTING_DOWN, "request", "shutting down");
    assert_int_equal(copy.begun, 2);
}

static void a_backup_ends_with_its_connection(void **state)
{
    with_backup();
    put_text(FRAME_BACKUP_BEGIN, 4, 0, "{}");
    expect_answer(FRAME_BACKUP_BEGIN, 4);
    uint64_t conn = copy.asker.conn;
    close(fd);
    fd = -1;
    while (front_tcp_connections(front) > 0)
        net_turn(net, true);
    assert_int_equal(copy.ended, 1);
    assert_int_equal(copy.ended_conn, conn);
    dial(); /* one that is not answered yet ends, too, and its answer finds nobody */
    greet();
    copy.later = true;
    put_text(FRAME_BACKUP_BEGIN, 4, 0, "{}");
    while (copy.begun < 2)
        turn(true);
    close(fd);
    fd = -1;
    while (front_tcp_connections(front) > 0)
        net_turn(net, true);
    assert_int_equal(copy.ended, 2);
    answer_begin(BROKER_CANCELLED);
    dial(); /* and one that never had any ends none */
    greet();
    close(fd);
    fd = -1;
    while (front_tcp_connections(front) > 0)
        net_turn(net, true);
    assert_int_equal(copy.ended, 2);
}

static void a_broker_without_backups(void **state)
{
    greet();
    put_text(FRAME_BACKUP_BEGIN, 4, 0, "{}");
    expect_error(4, BROKER_UNKNOWN_COMMAND, "request", "no backups");
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, start, stop)
    const struct CMUnitTest tests[] = {
        T(settings_of_queues),
        T(settings_that_are_wrong),
        T(settings_of_groups),
        T(subscriptions),
        T(what_is_told_of_queues),
        T(bindings),
        T(publish_by_topic),
        T(rejecting),
        T(transactions),
        T(transactions_that_are_wrong),
        T(scans),
        T(peeks),
        T(rescheduling),
        T(deliveries_of_routed_messages),
        T(backups),
        T(a_backup_ends_with_its_connection),
        T(a_broker_without_backups),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
