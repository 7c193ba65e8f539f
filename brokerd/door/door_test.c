/* The door alone: the engine is a double that notes what reaches it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "door.h"

static struct {
    unsigned passed;
    struct command last;
    unsigned refused;
    broker_error error;
    uint32_t retry_ms;
    char text[256];
} seen;
static struct door_session session;
static struct door *door;

void engine_submit(struct engine *e, struct now now, const struct command *c)
{
    seen.passed++;
    seen.last = *c;
}

static void complete(void *sink, const struct completion *c)
{
    assert_int_not_equal(c->error, BROKER_OK);
    seen.refused++;
    seen.error = c->error;
    seen.retry_ms = c->retry_ms;
    snprintf(seen.text, sizeof(seen.text), "%s", c->text);
    door_completed(&session, c);
}

static const struct sink_ops SINK = {.complete = complete};
static const struct door_options OPTIONS = {.max_subscriptions = 2,
                                            .max_waiting_leases = 2,
                                            .max_settle_ranges = 4,
                                            .max_list = 100,
                                            .max_batch_bytes = 5000,
                                            .max_message_bytes = 1000};

static int start(void **state)
{
    memset(&seen, 0, sizeof(seen));
    session = (struct door_session){.identity = &identity_anyone};
    door = door_new(&OPTIONS, NULL, &SINK, NULL);
    return door ? 0 : -1;
}

static int stop(void **state)
{
    door_free(door);
    return 0;
}

#define NAME(text) ((struct name){(text), sizeof(text) - 1})

static struct command command(enum command_type type)
{
    static uint8_t record[48];
    static const struct receipt_range range = {1, 1};
    static struct transact_part part;
    struct command c = {.type = type, .token = {.conn = 7, .correlation = 8, .stream = 9}, .queue = NAME("jobs")};
    switch (type) { /* what makes each of them valid */
    case COMMAND_PUBLISH:
        c.u.publish.records = record;
        c.u.publish.len = sizeof(record);
        break;
    case COMMAND_LEASE: c.u.lease.max_messages = 1; break;
    case COMMAND_ACK:
    case COMMAND_NACK:
    case COMMAND_EXTEND:
        c.u.settle.ranges = &range;
        c.u.settle.count = 1;
        c.u.settle.lease_ms = 1;
        break;
    case COMMAND_QUEUE_LIST: c.u.list.limit = 1; break;
    case COMMAND_BIND:
    case COMMAND_UNBIND: c.u.bind.pattern = NAME("orders.>"); break;
    case COMMAND_TRANSACT:
        part = (struct transact_part){.kind = PART_PUBLISH, .queue = NAME("jobs"), .records = record, .len = 48};
        c.u.transact.parts = &part;
        c.u.transact.count = 1;
        break;
    case COMMAND_SCAN: c.u.scan.max_messages = 1; break;
    case COMMAND_READ: c.u.read.max_messages = 1; break;
    case COMMAND_RESCHEDULE: c.u.reschedule.seq = 1; break;
    default: break;
    }
    return c;
}

static void submit(const struct command *c)
{
    door_submit(door, &session, (struct now){0}, c);
}

static void passes(const struct command *c)
{
    unsigned passed = seen.passed, refused = seen.refused;
    submit(c);
    if (seen.passed != passed + 1 || seen.refused != refused)
        fail_msg("command %d was refused: %s", (int)c->type, seen.text);
}

static void fails(const struct command *c, broker_error error, const char *says)
{
    unsigned passed = seen.passed, refused = seen.refused;
    submit(c);
    assert_int_equal(seen.passed, passed);
    assert_int_equal(seen.refused, refused + 1);
    assert_int_equal(seen.error, error);
    if (!strstr(seen.text, says))
        fail_msg("'%s' lacks '%s'", seen.text, says);
}

static void every_command_passes(void **state)
{
    for (int type = 0; type < COMMAND_TYPES; type++) {
        struct command c = command((enum command_type)type);
        passes(&c);
        assert_int_equal(seen.last.type, type);
    }
    struct command c = {.type = COMMAND_TYPES, .token = {.conn = 1}};
    fails(&c, BROKER_UNKNOWN_COMMAND, "not known");
}

static void names(void **state)
{
    char big[70000];
    memset(big, 'a', sizeof(big));
    for (int type = 0; type < COMMAND_TYPES; type++) {
        struct command c = command((enum command_type)type);
        bool named = type != COMMAND_UNSUBSCRIBE && type != COMMAND_CREDIT && type != COMMAND_HOLD &&
                     type != COMMAND_UNHOLD && type != COMMAND_ACK && type != COMMAND_NACK && type != COMMAND_EXTEND &&
                     type != COMMAND_QUEUE_LIST && type != COMMAND_BARRIER && type != COMMAND_CLOSE &&
                     type != COMMAND_TRANSACT;
        if (!named)
            continue;
        c.queue = NAME("");
        if (type == COMMAND_PUBLISH)
            passes(&c); /* by topic */
        else
            fails(&c, BROKER_INVALID_ARGUMENT, "no name");
        c.queue = NAME(".hidden");
        fails(&c, BROKER_INVALID_ARGUMENT, "'.hidden'");
        c.queue = NAME("a\nb");
        fails(&c, BROKER_INVALID_ARGUMENT, "'a?b'");
        c.queue = (struct name){big, sizeof(big)};
        fails(&c, BROKER_INVALID_ARGUMENT, "70000 bytes");
    }
    struct command c = command(COMMAND_SUBSCRIBE);
    c.group = NAME("a b");
    fails(&c, BROKER_INVALID_ARGUMENT, "group name 'a b'");
    c.group = NAME("workers");
    passes(&c);
}

static void ranges(void **state)
{
    struct command c = command(COMMAND_PUBLISH);
    c.u.publish.sync = (broker_sync)4;
    fails(&c, BROKER_INVALID_ARGUMENT, "sync is 4");
    c.u.publish.sync = BROKER_SYNC_NONE;
    passes(&c);
    c.u.publish.len = 0;
    fails(&c, BROKER_INVALID_ARGUMENT, "no messages");
    c = command(COMMAND_SUBSCRIBE);
    c.token.stream = 0;
    fails(&c, BROKER_INVALID_ARGUMENT, "subscription id is 0");
    c.token.stream = 1;
    c.u.subscribe.lease_ms = 86400001;
    fails(&c, BROKER_INVALID_ARGUMENT, "86400001");
    c = command(COMMAND_LEASE);
    c.u.lease.max_messages = 0;
    fails(&c, BROKER_INVALID_ARGUMENT, "max is 0");
    c.u.lease.max_messages = 1025;
    fails(&c, BROKER_INVALID_ARGUMENT, "1025");
    c.u.lease.max_messages = 1024;
    c.u.lease.wait_ms = 3600001;
    fails(&c, BROKER_INVALID_ARGUMENT, "wait_ms");
    c.u.lease.wait_ms = 3600000;
    passes(&c);
    assert_int_equal(seen.last.u.lease.max_bytes, 5000); /* all that fits, when it asks for no bound */
    c.u.lease.max_bytes = 100;
    passes(&c);
    assert_int_equal(seen.last.u.lease.max_bytes, 100);
    c = command(COMMAND_QUEUE_LIST);
    c.u.list.limit = 101;
    fails(&c, BROKER_INVALID_ARGUMENT, "limit is 101");
    c.u.list.limit = 100;
    char prefix[256];
    memset(prefix, 'x', sizeof(prefix));
    c.u.list.prefix = (struct name){prefix, sizeof(prefix)};
    fails(&c, BROKER_INVALID_ARGUMENT, "256 bytes");
    c = command(COMMAND_GROUP_SEEK);
    c.u.group.start = (broker_start)4;
    fails(&c, BROKER_INVALID_ARGUMENT, "start is 4");
    c.u.group.start = BROKER_START_SEQ;
    fails(&c, BROKER_INVALID_ARGUMENT, "value is 0");
    c.u.group.value = 1;
    passes(&c);
}

static void settings(void **state)
{
    broker_queue_settings s = {.set = BROKER_SET_RETENTION};
    struct command c = command(COMMAND_QUEUE_CREATE);
    c.u.queue.settings = &s;
    fails(&c, BROKER_INVALID_ARGUMENT, "retention");
    s.retention = BROKER_RETENTION_LOG;
    passes(&c);
    s.set = BROKER_SET_SYNC;
    fails(&c, BROKER_INVALID_ARGUMENT, "sync is 0");
    s.set = BROKER_SET_LEASE_MS;
    fails(&c, BROKER_INVALID_ARGUMENT, "lease_ms is 0");
    s.set = BROKER_SET_MAX_MESSAGE_BYTES;
    passes(&c);
    s.max_message_bytes = 1001;
    fails(&c, BROKER_INVALID_ARGUMENT, "max_message_bytes is 1001");
    s.max_message_bytes = 39;
    fails(&c, BROKER_INVALID_ARGUMENT, "39");
    s.max_message_bytes = 40;
    passes(&c);
}

static void more_settings(void **state)
{
    broker_queue_settings s = {.set = BROKER_SET_BACKOFF, .backoff = (broker_backoff)3};
    struct command c = command(COMMAND_QUEUE_ALTER);
    c.u.queue.settings = &s;
    fails(&c, BROKER_INVALID_ARGUMENT, "backoff is 3");
    s.backoff = BROKER_BACKOFF_EXPONENTIAL;
    s.backoff_ms = 86400001;
    fails(&c, BROKER_INVALID_ARGUMENT, "backoff_ms is 86400001");
    s.backoff_ms = 86400000;
    s.backoff_max_ms = 86400001;
    fails(&c, BROKER_INVALID_ARGUMENT, "backoff_max_ms");
    s.backoff_max_ms = 0;
    s.backoff_jitter_percent = 101;
    fails(&c, BROKER_INVALID_ARGUMENT, "backoff_jitter_percent is 101");
    s.backoff_jitter_percent = 100;
    passes(&c);
    s = (broker_queue_settings){.set = BROKER_SET_OVERFLOW, .overflow = (broker_overflow)2};
    fails(&c, BROKER_INVALID_ARGUMENT, "overflow is 2");
    s = (broker_queue_settings){.set = BROKER_SET_DEAD_LETTER, .dead_letter = ".x"};
    fails(&c, BROKER_INVALID_ARGUMENT, "dead_letter queue name '.x'");
    s.dead_letter = "";
    passes(&c);
    s.dead_letter = NULL;
    passes(&c);
    s.dead_letter = "graves";
    passes(&c);
}

/* A filter is checked wherever one is given. */
static void filters(void **state)
{
    static char big[65537];
    broker_header headers[33];
    broker_group_settings s = {.set = BROKER_GROUP_SET_FILTER};
    struct command create = command(COMMAND_GROUP_CREATE), alter = command(COMMAND_GROUP_ALTER),
                   scan = command(COMMAND_SCAN);
    create.u.group.settings = alter.u.group.settings = &s;
    struct command *const all[] = {&create, &alter, &scan};
    const struct {
        broker_filter filter;
        const char *says; /* NULL: it passes */
    } cases[] = {
        {{0}, NULL},
        {{.topic = "a.*.>"}, NULL},
        {{.topic = ""}, "no pattern"},
        {{.topic = "a..b"}, "'a..b'"},
        {{.topic = ">.a"}, "'>.a'"},
        {{.key = ""}, NULL},
        {{.key = big + 1}, NULL},
        {{.key = big}, "65536"},
        {{.headers = headers, .header_count = 32}, NULL},
        {{.headers = headers, .header_count = 33}, "headers is 33"},
        {{.headers = headers, .header_count = 1, .key = big + 1}, "filter's key and headers is 65537"},
    };
    memset(big, 'k', sizeof(big) - 1);
    for (int i = 0; i < 33; i++)
        headers[i] = (broker_header){"h", "v"};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        s.filter = scan.u.scan.filter = cases[i].filter;
        for (int j = 0; j < 3; j++) {
            if (cases[i].says)
                fails(all[j], BROKER_INVALID_ARGUMENT, cases[i].says);
            else
                passes(all[j]);
        }
    }
    s.set = 0; /* what is not set is not looked at */
    passes(&create);
}

static void topics(void **state)
{
    struct command c = command(COMMAND_BIND);
    c.u.bind.pattern = NAME("a b");
    fails(&c, BROKER_INVALID_ARGUMENT, "'a b' (3 bytes)");
    c.type = COMMAND_UNBIND;
    fails(&c, BROKER_INVALID_ARGUMENT, "'a b'");
    c.u.bind.pattern = NAME("");
    fails(&c, BROKER_INVALID_ARGUMENT, "(0 bytes)");
    c = command(COMMAND_SUBSCRIBE);
    c.u.subscribe.priority = 9;
    passes(&c);
    c.u.subscribe.priority = 10;
    fails(&c, BROKER_INVALID_ARGUMENT, "priority is 10");
}

static void scans(void **state)
{
    struct command c = command(COMMAND_SCAN);
    c.u.scan.max_messages = 0;
    fails(&c, BROKER_INVALID_ARGUMENT, "max_messages is 0");
    c.u.scan.max_messages = 1025; /* of a peek, whose answer is one frame */
    fails(&c, BROKER_INVALID_ARGUMENT, "max_messages is 1025");
    c.u.scan.max_messages = 1024;
    passes(&c);
    assert_int_equal(seen.last.u.scan.max_bytes, 5000);
    c.u.scan.max_bytes = 5001;
    passes(&c);
    assert_int_equal(seen.last.u.scan.max_bytes, 5000);
    c.u.scan.target = NAME("other");
    fails(&c, BROKER_INVALID_ARGUMENT, "'other' of an action that moves nothing");
    c.u.scan.action = SCAN_MOVE;
    c.u.scan.max_messages = 1000000;
    passes(&c);
    c.u.scan.max_messages = 1000001;
    fails(&c, BROKER_INVALID_ARGUMENT, "1000001");
    c.u.scan.max_messages = 1;
    c.u.scan.target = NAME("");
    fails(&c, BROKER_INVALID_ARGUMENT, "target queue has no name");
    c.u.scan.action = SCAN_REDRIVE;
    passes(&c);
    c.u.scan.from_seq = 5;
    c.u.scan.to_seq = 4;
    fails(&c, BROKER_INVALID_ARGUMENT, "from seq 5");
    c.u.scan.to_seq = 0;
    c.u.scan.from_ms = 9;
    c.u.scan.to_ms = 8;
    fails(&c, BROKER_INVALID_ARGUMENT, "from time 9");
    c.u.scan.to_ms = 9;
    passes(&c);
    c.u.scan.state = (broker_scan_state)3;
    fails(&c, BROKER_INVALID_ARGUMENT, "state is 3");
    c.u.scan.state = BROKER_SCAN_SCHEDULED;
    c.u.scan.max_scanned = 1000001;
    fails(&c, BROKER_INVALID_ARGUMENT, "max_scanned is 1000001");
    c = command(COMMAND_RESCHEDULE);
    c.u.reschedule.due_ms = UINT64_MAX; /* a time; the engine knows what is too far */
    passes(&c);
    c.u.reschedule.is_delay = true;
    fails(&c, BROKER_INVALID_ARGUMENT, "delay_ms");
    c.u.reschedule.seq = 0;
    fails(&c, BROKER_INVALID_ARGUMENT, "seq is 0");
}

static void transactions(void **state)
{
    static uint8_t record[48];
    static struct transact_part parts[1025];
    struct receipt_range r[3] = {{1, 1}, {2, 1}, {3, 1}};
    struct command c = command(COMMAND_TRANSACT);
    for (int i = 0; i < 1025; i++)
        parts[i] = (struct transact_part){.kind = PART_PUBLISH, .queue = NAME("q"), .records = record, .len = 48};
    c.u.transact.parts = parts;
    c.u.transact.count = 0;
    fails(&c, BROKER_INVALID_ARGUMENT, "parts is 0");
    c.u.transact.count = 1025;
    fails(&c, BROKER_TOO_LARGE, "1025 parts; give at most 1024");
    c.u.transact.count = 1024;
    passes(&c);
    c.u.transact.sync = (broker_sync)4;
    fails(&c, BROKER_INVALID_ARGUMENT, "sync is 4");
    c.u.transact.sync = BROKER_SYNC_DEFAULT;
    parts[2].queue = NAME("");
    passes(&c); /* by topic */
    parts[2].queue = NAME("a b");
    fails(&c, BROKER_INVALID_ARGUMENT, "part 2 of the transaction: queue name 'a b'");
    parts[2].queue = NAME("q");
    parts[1].len = 0;
    fails(&c, BROKER_INVALID_ARGUMENT, "part 1 of the transaction: a publish of no messages");
    parts[1] = (struct transact_part){.kind = PART_ACK, .ranges = r};
    fails(&c, BROKER_INVALID_ARGUMENT, "part 1 of the transaction: no receipts");
    parts[1].count = 3;
    passes(&c);
    parts[0] = (struct transact_part){.kind = PART_NACK, .ranges = r, .count = 2};
    fails(&c, BROKER_TOO_LARGE, "5 receipt ranges"); /* of all parts together */
    parts[0].count = 1;
    passes(&c);
    r[0].count = 0;
    fails(&c, BROKER_INVALID_ARGUMENT, "part 0 of the transaction: count of a receipt range is 0");
    r[0].count = 1;
    static const struct identity reader = {"reader", PERMISSION_CONSUME}, writer = {"writer", PERMISSION_PUBLISH};
    session.identity = &reader;
    fails(&c, BROKER_FORBIDDEN, "part 2 of the transaction: 'reader'");
    session.identity = &writer;
    fails(&c, BROKER_FORBIDDEN, "part 0 of the transaction: 'writer'");
}

static void settling(void **state)
{
    static const enum command_type types[] = {COMMAND_ACK, COMMAND_NACK, COMMAND_EXTEND};
    struct receipt_range r[5] = {{1, 1}, {2, 1}, {3, 1}, {4, 1}, {5, 1}};
    for (int i = 0; i < 3; i++) {
        struct command c = command(types[i]);
        c.u.settle.ranges = r;
        c.u.settle.count = 0;
        fails(&c, BROKER_INVALID_ARGUMENT, "no receipts");
        c.u.settle.count = 5;
        fails(&c, BROKER_TOO_LARGE, "5 receipt ranges");
        c.u.settle.count = 4;
        passes(&c);
        r[3].count = 0;
        fails(&c, BROKER_INVALID_ARGUMENT, "receipt range is 0");
        r[3].count = (1 << 20) + 1;
        fails(&c, BROKER_INVALID_ARGUMENT, "1048577");
        r[3] = (struct receipt_range){UINT64_MAX - 1, 2};
        fails(&c, BROKER_INVALID_ARGUMENT, "past the last");
        r[3] = (struct receipt_range){4, 1};
    }
    struct command c = command(COMMAND_EXTEND);
    c.u.settle.lease_ms = 0;
    fails(&c, BROKER_INVALID_ARGUMENT, "lease_ms is 0");
}

static void limits_of_a_session(void **state)
{
    struct command c = command(COMMAND_SUBSCRIBE);
    passes(&c);
    passes(&c);
    fails(&c, BROKER_LIMIT_REACHED, "limits.subscriptions");
    assert_true(seen.retry_ms > 0);
    assert_int_equal(session.subscriptions, 2);
    struct completion done = {.type = COMMAND_SUBSCRIBE, .error = BROKER_QUEUE_NOT_FOUND}; /* the engine refused one */
    door_completed(&session, &done);
    passes(&c);
    done = (struct completion){.type = COMMAND_UNSUBSCRIBE};
    door_completed(&session, &done);
    passes(&c);
    door_ended(&session);
    passes(&c);
    fails(&c, BROKER_LIMIT_REACHED, "limits.subscriptions");
    done.error = BROKER_SUBSCRIPTION_NOT_FOUND; /* ended nothing */
    door_completed(&session, &done);
    fails(&c, BROKER_LIMIT_REACHED, "limits.subscriptions");

    c = command(COMMAND_LEASE);
    passes(&c);
    passes(&c);
    fails(&c, BROKER_LIMIT_REACHED, "limits.waiting_leases");
    done = (struct completion){.type = COMMAND_LEASE};
    door_completed(&session, &done);
    passes(&c);
    c = command(COMMAND_READ); /* counted with them */
    fails(&c, BROKER_LIMIT_REACHED, "limits.waiting_leases");
    door_completed(&session, &done);
    passes(&c);
    fails(&c, BROKER_LIMIT_REACHED, "limits.waiting_leases");
    done = (struct completion){.type = COMMAND_READ};
    door_completed(&session, &done);
    passes(&c);
}

static void reads(void **state)
{
    struct command c = command(COMMAND_READ);
    struct completion done = {.type = COMMAND_READ};
    c.u.read.max_messages = 0;
    fails(&c, BROKER_INVALID_ARGUMENT, "max is 0");
    c.u.read.max_messages = 1025;
    fails(&c, BROKER_INVALID_ARGUMENT, "max is 1025");
    c.u.read.max_messages = 1024;
    c.u.read.wait_ms = READ_WAIT_FOREVER;
    passes(&c);
    assert_int_equal(seen.last.u.read.max_bytes, 5000);
    door_completed(&session, &done);
    c.u.read.max_bytes = 5001;
    passes(&c);
    assert_int_equal(seen.last.u.read.max_bytes, 5000);
    door_completed(&session, &done);
    c.u.read.max_bytes = 4999;
    passes(&c);
    assert_int_equal(seen.last.u.read.max_bytes, 4999);
    door_completed(&session, &done);
    c.u.read.filter.topic = "a..b";
    fails(&c, BROKER_INVALID_ARGUMENT, "the filter's topic");
    static const struct identity watcher = {"watcher", PERMISSION_OBSERVE | PERMISSION_MANAGE | PERMISSION_PUBLISH};
    session.identity = &watcher;
    fails(&c, BROKER_FORBIDDEN, "watcher");
    assert_int_equal(session.waiting_leases, 0);
}

static void permissions(void **state)
{
    static const struct identity reader = {"reader", PERMISSION_CONSUME};
    session.identity = &reader;
    struct command c = command(COMMAND_SUBSCRIBE);
    passes(&c);
    c = command(COMMAND_ACK);
    passes(&c);
    c = command(COMMAND_PUBLISH);
    fails(&c, BROKER_FORBIDDEN, "'reader'");
    c = command(COMMAND_QUEUE_DELETE);
    fails(&c, BROKER_FORBIDDEN, "not permitted");
    c = command(COMMAND_QUEUE_LIST);
    fails(&c, BROKER_FORBIDDEN, "not permitted");
}

/* Who may see messages peeks; who may see queues counts; who may change them does the rest. */
static void permissions_of_scans(void **state)
{
    static const struct identity who[] = {
        {"reader", PERMISSION_CONSUME}, {"watcher", PERMISSION_OBSERVE}, {"manager", PERMISSION_MANAGE}};
    static const int may[] = {
        [SCAN_PEEK] = 0, [SCAN_COUNT] = 1, [SCAN_DELETE] = 2, [SCAN_MOVE] = 2, [SCAN_REDRIVE] = 2};
    for (int action = SCAN_PEEK; action <= SCAN_REDRIVE; action++) {
        for (int i = 0; i < 3; i++) {
            struct command c = command(COMMAND_SCAN);
            c.u.scan.action = (enum scan_action)action;
            c.u.scan.target = action == SCAN_MOVE ? NAME("to") : NAME("");
            session.identity = &who[i];
            if (may[action] == i)
                passes(&c);
            else
                fails(&c, BROKER_FORBIDDEN, who[i].name);
        }
    }
}

static void what_needs_no_engine(void **state)
{
    static const struct identity reader = {"reader", PERMISSION_CONSUME};
    char text[100];
    uint32_t retry_ms = 0;
    unsigned both = PERMISSION_CONSUME | PERMISSION_MANAGE;
    assert_int_equal(door_permits(door, &session, both, false, text, sizeof(text), &retry_ms), BROKER_OK);
    session.identity = &reader;
    assert_int_equal(door_permits(door, &session, both, false, text, sizeof(text), &retry_ms), BROKER_FORBIDDEN);
    assert_non_null(strstr(text, "'reader'"));
    session.identity = &identity_anyone;
    door_drain(door);
    assert_int_equal(door_permits(door, &session, both, true, text, sizeof(text), &retry_ms), BROKER_OK);
    assert_int_equal(retry_ms, 0);
    assert_int_equal(door_permits(door, &session, both, false, text, sizeof(text), &retry_ms), BROKER_SHUTTING_DOWN);
    assert_int_equal(retry_ms, 1000);
}

static void draining(void **state)
{
    door_drain(door);
    static const enum command_type go_on[] = {COMMAND_ACK,    COMMAND_NACK,   COMMAND_EXTEND, COMMAND_UNSUBSCRIBE,
                                              COMMAND_CREDIT, COMMAND_UNHOLD, COMMAND_CLOSE,  COMMAND_BARRIER};
    for (size_t i = 0; i < sizeof(go_on) / sizeof(go_on[0]); i++) {
        struct command c = command(go_on[i]);
        passes(&c);
    }
    struct command c = command(COMMAND_PUBLISH);
    fails(&c, BROKER_SHUTTING_DOWN, "later");
    c = command(COMMAND_SUBSCRIBE);
    fails(&c, BROKER_SHUTTING_DOWN, "later");
    assert_int_equal(session.subscriptions, 0);
    c.token.conn = 0; /* nobody waits for an answer */
    submit(&c);
    assert_int_equal(seen.refused, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_command_passes, start, stop),
        cmocka_unit_test_setup_teardown(names, start, stop),
        cmocka_unit_test_setup_teardown(ranges, start, stop),
        cmocka_unit_test_setup_teardown(settings, start, stop),
        cmocka_unit_test_setup_teardown(more_settings, start, stop),
        cmocka_unit_test_setup_teardown(filters, start, stop),
        cmocka_unit_test_setup_teardown(topics, start, stop),
        cmocka_unit_test_setup_teardown(scans, start, stop),
        cmocka_unit_test_setup_teardown(transactions, start, stop),
        cmocka_unit_test_setup_teardown(settling, start, stop),
        cmocka_unit_test_setup_teardown(limits_of_a_session, start, stop),
        cmocka_unit_test_setup_teardown(reads, start, stop),
        cmocka_unit_test_setup_teardown(permissions, start, stop),
        cmocka_unit_test_setup_teardown(permissions_of_scans, start, stop),
        cmocka_unit_test_setup_teardown(what_needs_no_engine, start, stop),
        cmocka_unit_test_setup_teardown(draining, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
