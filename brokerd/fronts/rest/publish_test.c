#include "test/rig.h"

static const char *const PATH = "/v1/queues/jobs/messages";

static void assert_text(const void *bytes, size_t len, const char *text)
{
    assert_int_equal(len, strlen(text));
    assert_memory_equal(bytes, text, len);
}

/* Headers as "name=value;" in the record's order. */
static bool note_header(void *arg, const char *name, size_t name_len, const char *value, size_t value_len)
{
    char *to = arg;
    size_t n = strlen(to);
    snprintf(to + n, 1000 - n, "%.*s=%.*s;", (int)name_len, name, (int)value_len, value);
    return true;
}

static const char *headers_of(const struct record_view *v)
{
    static char text[1000];
    text[0] = 0;
    form_each_header(v, note_header, text);
    return text;
}

static void one_message(void **state)
{
    request("POST", PATH, "", "hello");
    assert_int_equal(seen.last.type, COMMAND_PUBLISH);
    assert_string_equal(seen.queue, "jobs");
    struct record_view v = record_at(0);
    assert_text(v.body, v.body_len, "hello");
    assert_int_equal(v.head.headers_len, 0);
    assert_int_equal(v.head.flags, 0);
    expect_silence();
    answer_published(42);
    expect(201, "{\"seq\":42}");
    assert_string_equal(field("Location"), "/v1/queues/jobs/messages/42");
    assert_string_equal(field("Content-Type"), "application/json");
}

static void names_of_any_length_come_back(void **state)
{
    for (size_t len = 60; len <= 255; len += 39) {
        char name[256], path[400];
        memset(name, 'q', len);
        name[len] = 0;
        snprintf(path, sizeof(path), "/v1/queues/%s/messages", name);
        request("POST", path, "", "x");
        answer_published(1);
        expect(201, NULL);
        snprintf(path, sizeof(path), "/v1/queues/%s/messages/1", name);
        assert_string_equal(field("Location"), path);
    }
    char path[400] = "/v1/queues/";
    memset(path + strlen(path), 'q', 256);
    snprintf(path + strlen(path), sizeof(path) - strlen(path), "/messages");
    request("POST", path, "", "x");
    expect_problem(400, "256 bytes");
}

static void fields_become_the_message(void **state)
{
    request("POST", PATH,
            "Broker-Key: a%2Fb %zz\r\nbroker-priority: 9\r\nBROKER-DELAY: 90s\r\nBroker-Ttl: 1h\r\n"
            "Broker-Topic: x.y\r\nBroker-Sync: NONE\r\nIdempotency-Key: \"id 1\"\r\n"
            "Broker-Header-Upper: v\r\nBroker-Header-%55pper: w%20\r\nContent-Type: text/plain; charset=x\r\n",
            "b");
    struct record_view v = record_at(0);
    assert_text(v.key, v.head.key_len, "a/b %zz");
    assert_int_equal(v.head.priority, 9);
    assert_int_equal(v.due_ms, 90000);
    assert_int_equal(v.expire_ms, 3600000);
    assert_int_equal(v.head.flags, RECORD_HAS_DUE | RECORD_DUE_IS_DELAY | RECORD_HAS_EXPIRE | RECORD_EXPIRE_IS_TTL);
    assert_text(v.topic, v.head.topic_len, "x.y");
    assert_text(v.message_id, v.message_id_len, "id 1");
    assert_string_equal(headers_of(&v), "upper=v;Upper=w ;content-type=text/plain; charset=x;");
    assert_int_equal(seen.last.u.publish.sync, BROKER_SYNC_NONE);
    answer_published(1);
    expect(202, NULL);
}

static void many_headers_are_one_map(void **state)
{
    char fields[4000];
    size_t n = 0;
    for (int i = 0; i < 40; i++)
        n += (size_t)snprintf(fields + n, sizeof(fields) - n, "Broker-Header-h%d: %0*d\r\n", i, i == 39 ? 300 : i + 1,
                              i);
    request("POST", PATH, fields, "b");
    struct record_view v = record_at(0);
    msgpack_unpacked map;
    msgpack_unpacked_init(&map);
    size_t offset = 0;
    assert_int_equal(msgpack_unpack_next(&map, (const char *)v.headers, v.head.headers_len, &offset),
                     MSGPACK_UNPACK_SUCCESS);
    assert_int_equal(offset, v.head.headers_len);
    assert_int_equal(map.data.via.map.size, 40);
    assert_int_equal(map.data.via.map.ptr[39].val.via.str.size, 300);
    msgpack_unpacked_destroy(&map);
    answer_published(1);
    expect(201, NULL);
}

static void times(void **state)
{
    static const struct {
        const char *text;
        uint64_t ms;
    } GOOD[] = {{"1700000000123", 1700000000123},
                {"1970-01-01T00:00:01Z", 1000},
                {"2000-02-29T23:59:59.5Z", 951868799500},
                {"2031-05-07T09:30:00+02:00", 1935905400000},
                {"2031-05-07t05:30:00.123456-02:00", 1935905400123},
                {"2100-03-01T00:00:00Z", 4107542400000},
                {"2016-12-31T23:59:60Z", 1483228800000}};
    static const char *const BAD[] = {"",
                                      "-1",
                                      "2031-05-07",
                                      "2031-05-07T09:30:00",
                                      "2031-13-01T00:00:00Z",
                                      "2031-00-01T00:00:00Z",
                                      "2031-02-29T00:00:00Z",
                                      "2100-02-29T00:00:00Z",
                                      "2031-01-01T24:00:00Z",
                                      "2031-01-01T00:60:00Z",
                                      "1969-12-31T23:59:59Z",
                                      "2031-01-01T00:00:00.Z",
                                      "2031-01-01T00:00:00Zx",
                                      "1970-01-01T00:00:00+01:00",
                                      "99999999999999999999"};
    for (size_t i = 0; i < sizeof(GOOD) / sizeof(GOOD[0]); i++) {
        uint64_t ms = 0;
        assert_true(parse_time(GOOD[i].text, strlen(GOOD[i].text), &ms));
        assert_int_equal(ms, GOOD[i].ms);
    }
    for (size_t i = 0; i < sizeof(BAD) / sizeof(BAD[0]); i++) {
        uint64_t ms;
        if (parse_time(BAD[i], strlen(BAD[i]), &ms))
            fail_msg("'%s' passed for a time", BAD[i]);
    }
}

static void durations(void **state)
{
    static const struct {
        const char *text;
        uint64_t ms;
    } GOOD[] = {{"0", 0},        {"7", 7},          {"7ms", 7},
                {"30s", 30000},  {"2m", 120000},    {"2min", 120000},
                {"1h", 3600000}, {"7d", 604800000}, {"18446744073709551615", UINT64_MAX}};
    static const char *const BAD[] = {
        "", "s", "-1", "1.5s", "1 s", "1S", "1w", "18446744073709551616", "18446744073709551615s", "+1"};
    for (size_t i = 0; i < sizeof(GOOD) / sizeof(GOOD[0]); i++) {
        uint64_t ms = 1;
        assert_true(parse_duration(GOOD[i].text, strlen(GOOD[i].text), &ms));
        assert_int_equal(ms, GOOD[i].ms);
    }
    for (size_t i = 0; i < sizeof(BAD) / sizeof(BAD[0]); i++) {
        uint64_t ms;
        if (parse_duration(BAD[i], strlen(BAD[i]), &ms))
            fail_msg("'%s' passed for a duration", BAD[i]);
    }
}

static void near_words(void **state)
{
    static const char *const KNOWN[] = {"from", "from_time", "max", "wait", "header", NULL};
    assert_string_equal(nearest(KNOWN, "form", 4), "from");
    assert_string_equal(nearest(KNOWN, "headers", 7), "header");
    assert_string_equal(nearest(KNOWN, "From_Tme", 8), "from_time");
    assert_null(nearest(KNOWN, "priority", 8));
    assert_null(nearest(KNOWN, "", 0));
    assert_null(nearest(KNOWN, "a-name-that-is-longer-than-any-of-them", 38));
}

static void what_is_not_on_disk_is_only_accepted(void **state)
{
    struct publish_result result = {.count = 1, .first_seq = 9};
    request("POST", PATH, "", "x");
    answer((struct completion){.u.publish = {&result, 1, false}});
    expect(202, "{\"seq\":9}");
    request("POST", "/v1/queues/jobs/messages/batch", "", "[{}]");
    answer((struct completion){.u.publish = {&result, 1, false}});
    expect(202, NULL);
    result.routed = true;
    request("POST", "/v1/topics/a.b/messages", "", "x");
    answer((struct completion){.u.publish = {&result, 1, false}});
    expect(202, "{\"queues\":9}");
}

static void refusals_by_the_engine(void **state)
{
    request("POST", PATH, "", "x");
    answer_error(BROKER_QUEUE_NOT_FOUND, "no queue \"jobs\"");
    expect_problem(404, "no queue \\\"jobs\\\"");
    struct publish_result result = {.count = 1, .error = BROKER_QUEUE_FULL, .retry_ms = 1500};
    request("POST", PATH, "", "x");
    answer((struct completion){.u.publish = {&result, 1, true}});
    expect_problem(429, "queue is full");
    assert_string_equal(field("Retry-After"), "2");
    result = (struct publish_result){.count = 1, .first_seq = 9, .duplicate = true};
    request("POST", PATH, "", "x");
    answer((struct completion){.u.publish = {&result, 1, true}});
    expect(200, "{\"seq\":9,\"duplicate\":true}");
    result.first_seq = 0;
    request("POST", PATH, "", "x");
    answer((struct completion){.u.publish = {&result, 1, true}});
    expect(200, "{\"duplicate\":true}");
    assert_null(field("Location"));
}

static void a_client_that_leaves_is_forgotten(void **state)
{
    request("POST", PATH, "", "x");
    assert_int_equal(rest->call_count, 1);
    struct command sent = seen.last;
    dial();
    while (rest->call_count)
        turn(false);
    seen.last = sent;
    answer_published(1); /* finds nobody */
    assert_int_equal(seen.by_type[COMMAND_CLOSE], 0);
    request("POST", PATH, "", "y");
    answer_published(2);
    expect(201, "{\"seq\":2}");
}

static void calls_are_used_again(void **state)
{
    for (int i = 0; i < 20; i++) {
        request("POST", PATH, "", "x");
        answer_published(1);
        expect(201, NULL);
    }
    assert_int_equal(rest->free_count, 1);
    printf("a call has %zu bytes\n", sizeof(struct call));
    assert_true(sizeof(struct call) <= 256);
}

static void by_topic(void **state)
{
    struct publish_result result = {.count = 1, .first_seq = 3, .routed = true};
    request("POST", "/v1/topics/a.b/messages?unroutable=ok", "", "x");
    assert_int_equal(seen.last.queue.len, 0);
    assert_true(seen.last.u.publish.unroutable_ok);
    struct record_view v = record_at(0);
    assert_int_equal(v.head.flags, RECORD_BY_TOPIC);
    assert_text(v.topic, v.head.topic_len, "a.b");
    answer((struct completion){.u.publish = {&result, 1, true}});
    expect(201, "{\"queues\":3}");
    request("POST", "/v1/topics/a..b/messages", "", "x");
    expect_problem(400, "'a..b'");
    request("POST", PATH, "Broker-Topic: c\r\n", "x");
    assert_int_equal(record_at(0).head.flags, 0);
    answer_published(1);
    expect(201, NULL);
}

static void a_batch(void **state)
{
    request("POST", "/v1/queues/jobs/messages/batch", "Content-Type: application/json\r\nBroker-Sync: interval\r\n",
            "[{\"body\":\"a\"},{\"body\":1},{\"body\":\"b\"},{\"body\":\"c\"},{\"body\":\"d\"}]");
    assert_int_equal(seen.last.u.publish.sync, BROKER_SYNC_INTERVAL);
    assert_text(record_at(0).body, 1, "a");
    assert_text(record_at(3).body, 1, "d");
    struct publish_result results[] = {{.first_seq = 5, .first_index = 0, .count = 2},
                                       {.first_index = 2, .count = 1, .error = BROKER_QUEUE_FULL, .retry_ms = 10},
                                       {.first_seq = 2, .first_index = 3, .count = 1, .duplicate = true}};
    answer((struct completion){.u.publish = {results, 3, true}});
    assert_int_equal(response(), 200);
    assert_non_null(strstr(body, "{\"results\":[{\"seq\":5},{\"error\":{"));
    assert_non_null(strstr(body, "}},{\"seq\":6},{\"error\":{"));
    assert_non_null(strstr(body, "\"code\":\"QUEUE_FULL\""));
    assert_non_null(strstr(body, ",{\"seq\":2,\"duplicate\":true}],\"stored\":2,\"duplicates\":1,\"failed\":2}"));
}

static void a_batch_of_nothing_good_is_answered_at_once(void **state)
{
    request("POST", "/v1/queues/jobs/messages/batch", "Content-Type: application/x-ndjson\r\n", "{\n[]\n\n");
    assert_int_equal(response(), 200);
    assert_non_null(strstr(body, "\"stored\":0,\"duplicates\":0,\"failed\":2}"));
    assert_int_equal(seen.count, 0);
}

static void a_batch_has_a_limit(void **state)
{
    char text[200] = "";
    for (int i = 0; i < 51; i++)
        snprintf(text + 3 * i, sizeof(text) - 3 * (size_t)i, "{}\n");
    request("POST", "/v1/queues/jobs/messages/batch", "Content-Type: application/x-ndjson\r\n", text);
    expect_problem(413, "more than 50 messages");
    assert_int_equal(seen.count, 0);
}

static void packed_batches_that_lie(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
    } BAD[] = {{"", 0},
               {"\x80", 1},
               {"\x92\x80", 2},
               {"\xdd\xff\xff\xff\xff\x80", 6},
               {"\x91\x81\xa4"
                "body\xdb\xff\xff\xff\xff",
                12},
               {"\x91\x80\x00", 3},
               {"\x91\xc1", 2},
               {"\xdc\x00", 2}};
    for (size_t i = 0; i < sizeof(BAD) / sizeof(BAD[0]); i++) {
        request_bytes("POST", "/v1/queues/jobs/messages/batch", "Content-Type: application/msgpack\r\n", BAD[i].bytes,
                      BAD[i].len);
        expect_problem(400, "msgpack");
    }
    request_bytes("POST", "/v1/queues/jobs/messages/batch", "Content-Type: application/msgpack\r\n",
                  "\x91\x81\xa4"
                  "body\xc4\x02\x00\xff",
                  11);
    assert_int_equal(record_at(0).body_len, 2);
    answer_published(1);
    expect(201, NULL);
}

static void events_in_binary_mode(void **state)
{
    request(
        "POST", PATH,
        "ce-specversion: 1.0\r\nCe-Id: 1\r\nce-source: /s\r\nce-type: t\r\nce-x: \"%C3%A4\"\r\nce-partitionkey: p\r\n",
        "d");
    struct record_view v = record_at(0);
    assert_string_equal(headers_of(&v), "ce-specversion=1.0;ce-id=1;ce-source=/s;ce-type=t;ce-x=ä;ce-partitionkey=p;");
    assert_text(v.message_id, v.message_id_len, "/s 1");
    assert_text(v.key, v.head.key_len, "p");
    answer_published(1);
    expect(201, NULL);
    request("POST", PATH, "ce-id: 1\r\n", "d");
    expect_problem(400, "ce-specversion");
}

static void events_in_structured_mode(void **state)
{
    request("POST", PATH, "Content-Type: application/cloudevents+json\r\nBroker-Priority: 3\r\n",
            "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\",\"n\":5,\"data\":{\"a\": [1]}}");
    struct record_view v = record_at(0);
    assert_text(v.body, v.body_len, "{\"a\":[1]}");
    assert_string_equal(headers_of(&v),
                        "ce-specversion=1.0;ce-id=1;ce-source=/s;ce-type=t;ce-n=5;content-type=application/json;");
    assert_int_equal(v.head.priority, 3);
    answer_published(1);
    expect(201, NULL);
    for (const char *const *base64 = (const char *const[]){"AP8=", "AP8A", "AA==", "", NULL}; *base64; base64++) {
        char text[300];
        snprintf(text, sizeof(text),
                 "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\",\"data_base64\":\"%s\"}",
                 *base64);
        request("POST", PATH, "Content-Type: application/cloudevents+json\r\n", text);
        size_t len = strlen(*base64) / 4 * 3 - (strchr(*base64, '=') ? strlen(strchr(*base64, '=')) : 0);
        assert_int_equal(record_at(0).body_len, len);
        assert_memory_equal(record_at(0).body, "\0\xff\0", len > 1 ? len : 0);
        answer_published(1);
        expect(201, NULL);
    }
}

static void a_transaction(void **state)
{
    static const uint64_t SEQS[] = {4, 5, 6, 2};
    request("POST", "/v1/transactions", "",
            "{\"publish\":[{\"queue\":\"a\",\"body\":\"1\"},{\"queue\":\"a\",\"body\":\"2\"},{\"queue\":\"b\",\"body\":"
            "\"3\"},"
            "{\"topic\":\"t\",\"body\":\"4\"}],\"ack\":[\"10\",11,\"13\"],\"reject\":[\"14\"],"
            "\"nack\":[\"15\",{\"receipt\":\"16\",\"delay_ms\":7},{\"receipts\":[\"17\",\"18\"]}],\"sync\":\"none\"}");
    assert_int_equal(seen.last.type, COMMAND_TRANSACT);
    assert_int_equal(seen.last.u.transact.sync, BROKER_SYNC_NONE);
    assert_int_equal(seen.last.u.transact.count, 8);
    assert_string_equal(seen.part_queues[0], "a");
    assert_string_equal(seen.part_queues[1], "b");
    assert_int_equal(seen.parts[2].queue.len, 0);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(record_at(i).body[0], '1' + i);
    assert_int_equal(record_at(3).head.flags, RECORD_BY_TOPIC);
    const struct transact_part *ack = &seen.parts[3], *reject = &seen.parts[4], *nack = &seen.parts[5];
    assert_int_equal(ack->kind, PART_ACK);
    assert_int_equal(ack->count, 2);
    assert_int_equal(ack->ranges[0].count, 2);
    assert_int_equal(ack->ranges[1].first, 13);
    assert_int_equal(ack->ranges[1].count, 1);
    assert_true(reject->dead_letter && reject->count == 1 && reject->ranges[0].first == 14);
    assert_true(nack[0].kind == PART_NACK && !nack[0].dead_letter && nack[0].ranges[0].first == 15);
    assert_int_equal(nack[1].delay_ms, 7);
    assert_int_equal(nack[2].ranges[0].count, 2);
    answer((struct completion){.u.transact = {SEQS, 4, false}});
    expect(200, "{\"seqs\":[4,5,6,2]}");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
    const struct CMUnitTest tests[] = {
        TEST(one_message),
        TEST(names_of_any_length_come_back),
        TEST(fields_become_the_message),
        TEST(many_headers_are_one_map),
        cmocka_unit_test(times),
        cmocka_unit_test(durations),
        cmocka_unit_test(near_words),
        TEST(what_is_not_on_disk_is_only_accepted),
        TEST(refusals_by_the_engine),
        TEST(a_client_that_leaves_is_forgotten),
        TEST(calls_are_used_again),
        TEST(by_topic),
        TEST(a_batch),
        TEST(a_batch_of_nothing_good_is_answered_at_once),
        TEST(a_batch_has_a_limit),
        TEST(packed_batches_that_lie),
        TEST(events_in_binary_mode),
        TEST(events_in_structured_mode),
        TEST(a_transaction),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
