#include "test/rig.h"

#include <sys/socket.h>

static const char *const LEASE = "/v1/queues/jobs/lease";
static const char *const READ = "/v1/queues/jobs/messages";

static void answer_leased(uint32_t count)
{
    struct stored_message messages[3];
    uint32_t attempts[3] = {1, 2, 1};
    for (uint32_t i = 0; i < count; i++)
        messages[i] = stored(10 + i, (struct record_spec){.body = "hi", .body_len = 2});
    answer((struct completion){
        .u.lease = {.first_receipt = 1000, .messages = messages, .attempts = attempts, .count = count}});
}

static void a_lease(void **state)
{
    request("POST", "/v1/queues/jobs/lease?group=g%2D1&max=7&wait=1h&lease=2min", "", "");
    assert_int_equal(seen.last.type, COMMAND_LEASE);
    assert_string_equal(seen.group, "g-1");
    assert_int_equal(seen.last.u.lease.max_messages, 7);
    assert_int_equal(seen.last.u.lease.wait_ms, 20000); /* cut */
    assert_int_equal(seen.last.u.lease.lease_ms, 120000);
    assert_int_equal(seen.last.u.lease.max_bytes, 100000);
    expect_silence();
    answer_leased(2);
    assert_int_equal(response(), 200);
    assert_non_null(strstr(body, "{\"messages\":[{\"seq\":10,"));
    assert_non_null(strstr(body, "\"attempt\":1,\"receipt\":\"1000\""));
    assert_non_null(strstr(body, "\"attempt\":2,\"receipt\":\"1001\""));
    turns(3);
    assert_int_equal(seen.by_type[COMMAND_NACK], 0);
    assert_int_equal(seen.by_type[COMMAND_CLOSE], 0);
    assert_int_equal(rest->call_count, 0);
}

static void a_lease_raw(void **state)
{
    struct stored_message m =
        stored(10, with_headers((struct record_spec){.body = "\0\xff",
                                                     .body_len = 2,
                                                     .key = "k/ \xc3",
                                                     .key_len = 4,
                                                     .priority = 4,
                                                     .due_ms = 1700000000001,
                                                     .topic = "a.b",
                                                     .topic_len = 3},
                                "content-type", "x/y", "Upper Case", " v\n\xc3\xa4", "plain", "a b", NULL));
    uint32_t attempt = 3;
    request("POST", LEASE, "Accept: application/octet-stream\r\n", "");
    assert_int_equal(seen.last.u.lease.max_messages, 1);
    answer((struct completion){.u.lease = {.first_receipt = 77, .messages = &m, .attempts = &attempt, .count = 1}});
    assert_int_equal(response(), 200);
    assert_int_equal(body_len, 2);
    assert_memory_equal(body, "\0\xff", 2);
    assert_string_equal(field("Content-Type"), "x/y");
    assert_string_equal(field("Broker-Seq"), "10");
    assert_string_equal(field("Broker-Receipt"), "77");
    assert_string_equal(field("Broker-Attempt"), "3");
    assert_string_equal(field("Broker-Time"), "2023-11-14T22:13:20.123Z");
    assert_string_equal(field("Broker-Due"), "2023-11-14T22:13:20.001Z");
    assert_string_equal(field("Broker-Key"), "k/ %C3");
    assert_string_equal(field("Broker-Priority"), "4");
    assert_string_equal(field("Broker-Topic"), "a.b");
    assert_string_equal(field("Broker-Header-%55pper%20%43ase"), "%20v%0A%C3%A4");
    assert_string_equal(field("Broker-Header-plain"), "a b");
    assert_string_equal(field("X-Content-Type-Options"), "nosniff");
    request("POST", "/v1/queues/jobs/lease?raw", "", "");
    answer_leased(0);
    assert_int_equal(response(), 204);
}

static void too_many_headers_are_left_out_and_counted(void **state)
{
    struct record_spec spec = {.body = "x", .body_len = 1};
    msgpack_sbuffer map;
    msgpack_packer pk;
    char name[20];
    msgpack_sbuffer_init(&map);
    msgpack_packer_init(&pk, &map, msgpack_sbuffer_write);
    msgpack_pack_map(&pk, 301);
    for (int i = 0; i < 300; i++) {
        pack_str(&pk, name, (size_t)snprintf(name, sizeof(name), "h%d", i));
        pack_str(&pk, "v", 1);
    }
    pack_str(&pk, "content-type", 12);
    pack_str(&pk, "x/y\r\nEvil: 1", 12); /* no content type, whatever it says */
    spec.headers = map.data;
    spec.headers_len = map.size;
    struct stored_message m = stored(1, spec);
    uint32_t attempt = 1;
    request("POST", "/v1/queues/jobs/lease?raw=1", "", "");
    answer((struct completion){.u.lease = {.first_receipt = 77, .messages = &m, .attempts = &attempt, .count = 1}});
    assert_int_equal(response(), 200);
    assert_string_equal(field("Content-Type"), "application/octet-stream");
    assert_null(field("Evil"));
    assert_string_equal(field("Broker-Header-h0"), "v");
    assert_true(strtoul(field("Broker-Omitted"), NULL, 10) > 100);
    msgpack_sbuffer_destroy(&map);
}

static void forms_of_a_lease(void **state)
{
    request("POST", "/v1/queues/jobs/lease?max=3", "Accept: application/x-ndjson\r\n", "");
    answer_leased(2);
    assert_int_equal(response(), 200);
    assert_int_equal(body[body_len - 1], '\n');
    assert_non_null(strstr(body, "}\n{\"seq\":11"));
    request("POST", "/v1/queues/jobs/lease?max=3", "Accept: application/msgpack\r\n", "");
    answer_leased(2);
    assert_int_equal(response(), 200);
    msgpack_unpacked m;
    msgpack_unpacked_init(&m);
    size_t offset = 0;
    assert_int_equal(msgpack_unpack_next(&m, body, body_len, &offset), MSGPACK_UNPACK_SUCCESS);
    assert_int_equal(offset, body_len);
    assert_int_equal(m.data.via.map.ptr[0].val.via.array.size, 2);
    msgpack_unpacked_destroy(&m);
    request("POST", "/v1/queues/jobs/lease?max=3", "Accept: application/cloudevents-batch+json\r\n", "");
    answer_leased(1);
    expect(200,
           "[{\"specversion\":\"1.0\",\"id\":\"10\",\"source\":\"/v1/queues/jobs\",\"type\":\"brokerd.message\","
           "\"time\":\"2023-11-14T22:13:20.123Z\",\"brokerseq\":\"10\",\"brokerreceipt\":\"1000\",\"brokerattempt\":1,"
           "\"datacontenttype\":\"application/octet-stream\",\"data_base64\":\"aGk=\"}]");
    request("POST", LEASE, "Accept: image/png\r\n", "");
    expect_problem(406, "application/x-ndjson");
}

static void who_leaves_while_waiting_leases_nothing(void **state)
{
    request("POST", "/v1/queues/jobs/lease?wait=10s", "", "");
    struct command lease = seen.last;
    dial();
    while (rest->call_count)
        turn(false);
    assert_int_equal(seen.last.type, COMMAND_CLOSE); /* the engine forgets it */
    assert_int_equal(seen.last.token.conn, lease.token.conn);
    /* One that does not wait may still be under way to the disk. */
    request("POST", LEASE, "", "");
    dial();
    while (rest->call_count)
        turn(false);
    assert_int_equal(seen.by_type[COMMAND_CLOSE], 2);
}

static void what_does_not_reach_the_client_goes_back(void **state)
{
    static uint8_t large[400000];
    struct stored_message m = stored(10, (struct record_spec){.body = large, .body_len = sizeof(large)});
    uint32_t attempt = 1;
    not_reading = true;
    request("POST", "/v1/queues/jobs/lease?raw&lease=1h", "", "");
    answer((struct completion){.u.lease = {.first_receipt = 77, .messages = &m, .attempts = &attempt, .count = 1}});
    turns(3);
    assert_int_equal(seen.by_type[COMMAND_NACK], 0); /* it is still being sent */
    assert_int_equal(rest->call_count, 1);
    dial(); /* the client leaves in the middle */
    while (rest->call_count)
        turn(false);
    assert_int_equal(seen.last.type, COMMAND_NACK);
    assert_int_equal(seen.ranges[0].first, 77);
    assert_int_equal(seen.ranges[0].count, 1);
    assert_int_equal(seen.last.u.settle.delay_ms, 1);
    assert_false(seen.last.u.settle.dead_letter);
    answer((struct completion){.u.settle = {.settled = 1}});
}

static void what_was_behind_another_request_goes_back(void **state)
{
    /* The lease is answered while the request before it still waits; then the client leaves. */
    request("POST", "/v1/queues/other/lease?wait=10s", "", "");
    request("POST", LEASE, "", "");
    answer_leased(3);
    expect_silence();
    dial();
    while (rest->call_count)
        turn(false);
    assert_int_equal(seen.by_type[COMMAND_NACK], 1);
    assert_int_equal(seen.by_type[COMMAND_CLOSE], 1);
    assert_int_equal(seen.ranges[0].first, 1000);
    assert_int_equal(seen.ranges[0].count, 3);
}

static void what_waits_is_refused_when_the_broker_stops(void **state)
{
    request("POST", "/v1/queues/jobs/lease?wait=10s", "", "");
    struct command lease = seen.last;
    request("GET", "/v1/queues/jobs/messages?wait=10s", "", "");
    request("POST", "/v1/receipts/1/ack", "", "");
    rest_goaway(rest);
    turns(3);
    assert_int_equal(seen.by_type[COMMAND_CLOSE], 2);
    struct command ack = seen.last;
    seen.last = lease;
    answer_leased(1); /* finds nobody */
    seen.last = ack;
    seen.last.type = COMMAND_ACK;
    expect_problem(503, "shutting down");
    expect_problem(503, "shutting down");
    expect_silence();
    assert_int_equal(rest->call_count, 1); /* the ack is not given up */
}

/* ---- settles -------------------------------------------------------------------------------------------------------- */

static void settles_of_one(void **state)
{
    request("POST", "/v1/receipts/123/ack", "", "");
    assert_int_equal(seen.last.type, COMMAND_ACK);
    assert_int_equal(seen.ranges[0].first, 123);
    answer((struct completion){.u.settle = {.settled = 1}});
    expect(204, "");
    request("POST", "/v1/receipts/123/ack", "", "");
    answer((struct completion){.u.settle = {.stale = 1}});
    expect_problem(409, "receipt 123");
    request("POST", "/v1/receipts/5/nack?delay=3s", "", "");
    assert_true(seen.last.type == COMMAND_NACK && seen.last.u.settle.delay_ms == 3000 &&
                !seen.last.u.settle.dead_letter);
    answer((struct completion){.u.settle = {.settled = 1}});
    expect(204, "");
    request("POST", "/v1/receipts/5/reject", "", "");
    assert_true(seen.last.type == COMMAND_NACK && seen.last.u.settle.dead_letter);
    answer((struct completion){.u.settle = {.settled = 1}});
    expect(204, "");
    request("POST", "/v1/receipts/18446744073709551614/extend?lease=1min", "", "");
    assert_true(seen.last.type == COMMAND_EXTEND && seen.last.u.settle.lease_ms == 60000);
    answer((struct completion){.u.settle = {.settled = 1}});
    expect(204, "");
    request("POST", "/v1/receipts/12x/ack", "", "");
    expect_problem(400, "'12x'");
}

static void settles_of_many(void **state)
{
    static const uint64_t STALE[] = {9, 12};
    request("POST", "/v1/nack", "", "{\"receipts\":[\"7\",\"8\",9,\"12\"],\"delay_ms\":50}");
    assert_int_equal(seen.last.u.settle.count, 2);
    assert_int_equal(seen.ranges[0].count, 3);
    assert_int_equal(seen.ranges[1].first, 12);
    assert_int_equal(seen.last.u.settle.delay_ms, 50);
    answer((struct completion){.u.settle = {.settled = 2, .stale = 2, .stale_receipts = STALE, .stale_listed = 2}});
    expect(200, "{\"settled\":2,\"stale_count\":2,\"stale\":[\"9\",\"12\"]}");
}

/* ---- reads ---------------------------------------------------------------------------------------------------------- */

static struct completion read_completion(struct stored_message *messages, uint32_t count)
{
    return (struct completion){.u.read = {.messages = messages,
                                          .count = count,
                                          .queue_id = 7,
                                          .next_seq = 10 + count,
                                          .first_seq = 1,
                                          .last_seq = 12}};
}

static void a_read(void **state)
{
    struct stored_message m[2] = {stored(10, (struct record_spec){.body = "a", .body_len = 1}),
                                  stored(11, (struct record_spec){.body = "b", .body_len = 1})};
    request("GET", "/v1/queues/jobs/messages?from=10&max=2&wait=5s&topic=a.*&key=k&header=n:v:w&header=m:", "", "");
    assert_int_equal(seen.last.type, COMMAND_READ);
    assert_int_equal(seen.last.u.read.from_seq, 10);
    assert_int_equal(seen.last.u.read.max_messages, 2);
    assert_int_equal(seen.last.u.read.wait_ms, 5000);
    assert_string_equal(seen.filter, "a.*|k|n=v:w,m=");
    answer(read_completion(m, 2));
    assert_int_equal(response(), 200);
    assert_non_null(strstr(body, "],\"next\":12,\"first\":1,\"last\":12}"));
    assert_string_equal(field("Cache-Control"), "no-cache");
    request("HEAD", "/v1/queues/jobs/messages?wait=5s&from=end", "", "");
    assert_int_equal(seen.last.u.read.wait_ms, 0);
    assert_true(seen.last.u.read.from_end);
    answer(read_completion(NULL, 0));
    expect(200, "");
    request("GET", READ, "", "");
    assert_int_equal(seen.last.u.read.from_seq, 0);
    assert_int_equal(seen.last.u.read.max_messages, 100);
    answer_error(BROKER_DAMAGED, "message 3 is damaged");
    expect_problem(500, "message 3 is damaged");
}

static const char *ask(const char *fields, int status)
{
    struct stored_message m[2] = {stored(10, (struct record_spec){.body = "a", .body_len = 1}),
                                  stored(11, (struct record_spec){.body = "b", .body_len = 1})};
    request("GET", READ, fields, "");
    answer(read_completion(m, 2));
    expect(status, status == 304 ? "" : NULL);
    return field("ETag");
}

static void entity_tags(void **state)
{
    char tag[200], fields[600];
    snprintf(tag, sizeof(tag), "%s", ask("", 200));
    assert_true(tag[0] == '"' && strlen(tag) > 5 && tag[strlen(tag) - 1] == '"');
    static const char *const MATCH[] = {"If-None-Match: %s\r\n",
                                        "If-None-Match: W/%s\r\n",
                                        "If-None-Match: \"a\" , W/%s,\"b\"\r\n",
                                        "If-None-Match: *\r\n%.0s",
                                        "If-None-Match: \"a\"\r\nIf-None-Match: %s\r\n",
                                        "If-None-Match: , ,%s\r\n",
                                        "if-none-match: \"a,b\", %s\r\n"};
    static const char *const NO_MATCH[] = {
        "If-None-Match: x%s\r\n",  "If-None-Match: \"a\" %s\r\n", "If-None-Match: w/%s\r\n", "If-None-Match: *, %s\r\n",
        "If-None-Match: \r\n%.0s", "If-None-Match: \"%.0s\r\n",   "If-Match: %s\r\n"};
    for (size_t i = 0; i < sizeof(MATCH) / sizeof(MATCH[0]); i++) {
        snprintf(fields, sizeof(fields), MATCH[i], tag);
        assert_string_equal(ask(fields, 304), tag);
        assert_string_equal(field("Cache-Control"), "no-cache");
        assert_null(field("Content-Type"));
    }
    for (size_t i = 0; i < sizeof(NO_MATCH) / sizeof(NO_MATCH[0]); i++) {
        snprintf(fields, sizeof(fields), NO_MATCH[i], tag);
        ask(fields, 200);
    }
    assert_string_not_equal(ask("Accept: application/msgpack\r\n", 200), tag);
}

/* Whatever differs in the answer differs in the tag. */
static void entity_tags_differ(void **state)
{
    struct stored_message m[3] = {stored(10, (struct record_spec){0}), stored(11, (struct record_spec){0}),
                                  stored(12, (struct record_spec){0})};
    struct stored_message holes[2] = {m[0], m[2]};
    struct completion all[8];
    char tags[8][200];
    for (int i = 0; i < 8; i++)
        all[i] = read_completion(m, 2);
    all[1].u.read.queue_id++;
    all[2].u.read.first_seq++;
    all[3].u.read.last_seq++;
    all[4].u.read.next_seq++;
    all[5].u.read.count = 3;
    all[6].u.read.messages = holes;
    all[7].u.read.messages = m + 1;
    for (int i = 0; i < 8; i++) {
        request("GET", READ, "", "");
        answer(all[i]);
        expect(200, NULL);
        snprintf(tags[i], sizeof(tags[i]), "%s", field("ETag"));
        for (int k = 0; k < i; k++)
            assert_string_not_equal(tags[i], tags[k]);
    }
}

static void cursors_that_are_not_there(void **state)
{
    struct completion done = read_completion(NULL, 0);
    done.u.read.trimmed = true;
    done.u.read.first_seq = 5;
    request("GET", "/v1/queues/jobs/messages?from=1", "", "");
    answer(done);
    expect_problem(410, "cursor_trimmed");
    assert_non_null(strstr(body, ",\"first\":5,\"last\":12}"));
    done.u.read.trimmed = false;
    done.u.read.beyond = true;
    request("GET", "/v1/queues/jobs/messages?from=100", "", "");
    answer(done);
    expect_problem(410, "cursor_beyond");
}

static void one_message(void **state)
{
    struct stored_message m = stored(10, (struct record_spec){.body = "a", .body_len = 1});
    request("GET", "/v1/queues/jobs/messages/10", "Accept: image/png\r\n", "");
    assert_int_equal(seen.last.u.read.from_seq, 10);
    assert_int_equal(seen.last.u.read.max_messages, 1);
    answer(read_completion(&m, 1));
    expect(200, "a");
    assert_string_equal(field("Broker-Seq"), "10");
    assert_null(field("Broker-Receipt"));
    request("GET", "/v1/queues/jobs/messages/9", "", "");
    answer(read_completion(&m, 1));
    expect_problem(404, "message 9");
    request("GET", "/v1/queues/jobs/messages/0", "", "");
    expect_problem(400, "'0'");
}

static void peeks(void **state)
{
    struct stored_message m = stored(10, (struct record_spec){.body = "a", .body_len = 1});
    request("GET", "/v1/queues/jobs/peek?from=3&to=9&state=scheduled&max=5&key=k&from_time=1000", "", "");
    assert_int_equal(seen.last.type, COMMAND_SCAN);
    assert_int_equal(seen.last.u.scan.action, SCAN_PEEK);
    assert_int_equal(seen.last.u.scan.state, BROKER_SCAN_SCHEDULED);
    assert_true(seen.last.u.scan.from_seq == 3 && seen.last.u.scan.to_seq == 9 && seen.last.u.scan.from_ms == 1000);
    assert_string_equal(seen.filter, "|k|");
    answer((struct completion){.u.scan = {.matched = 1, .next_seq = 8, .messages = &m, .count = 1, .peek = true}});
    assert_int_equal(response(), 200);
    assert_non_null(strstr(body, "],\"next\":8}"));
}

static void a_reader_that_leaves(void **state)
{
    request("GET", "/v1/queues/jobs/messages?wait=10s", "If-None-Match: \"x\"\r\n", "");
    dial();
    while (rest->call_count)
        turn(false);
    assert_int_equal(seen.last.type, COMMAND_CLOSE);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
    const struct CMUnitTest tests[] = {
        TEST(a_lease),
        TEST(a_lease_raw),
        TEST(too_many_headers_are_left_out_and_counted),
        TEST(forms_of_a_lease),
        TEST(who_leaves_while_waiting_leases_nothing),
        TEST(what_does_not_reach_the_client_goes_back),
        TEST(what_was_behind_another_request_goes_back),
        TEST(what_waits_is_refused_when_the_broker_stops),
        TEST(settles_of_one),
        TEST(settles_of_many),
        TEST(a_read),
        TEST(entity_tags),
        TEST(entity_tags_differ),
        TEST(cursors_that_are_not_there),
        TEST(one_message),
        TEST(peeks),
        TEST(a_reader_that_leaves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
