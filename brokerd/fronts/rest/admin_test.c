/* Administrative calls: which commands one becomes, in which order, and what is said when they fail on the way. */
#include "test/rig.h"

static const broker_queue_info JOBS = {.name = "jobs", .id = 1, .last_seq = 100, .settings.lease_ms = 30000};

/* The queue's description as the answer; what the call wants next must not come before the loop has turned. */
static void answer_description(const broker_queue_info *queue, const broker_group_info *groups, size_t group_count)
{
    unsigned before = seen.count;
    assert_int_equal(seen.last.type, COMMAND_QUEUE_DESCRIBE);
    answer((struct completion){.u.describe = {.queue = queue, .groups = groups, .group_count = group_count}});
    assert_int_equal(seen.count, before);
    turns(3);
}

static void answer_scan(uint64_t matched, uint64_t skipped, uint64_t next_seq)
{
    unsigned before = seen.count;
    assert_int_equal(seen.last.type, COMMAND_SCAN);
    answer((struct completion){.u.scan = {.matched = matched, .skipped = skipped, .next_seq = next_seq}});
    assert_int_equal(seen.count, before);
    turns(3);
}

static void a_queue_is_created(void **state)
{
    request("PUT", "/v1/queues/jobs", "", "{\"lease_ms\":5000}");
    assert_int_equal(seen.last.type, COMMAND_QUEUE_DESCRIBE);
    assert_string_equal(seen.queue, "jobs");
    answer_error(BROKER_QUEUE_NOT_FOUND, "no queue \"jobs\"");
    turns(3);
    assert_int_equal(seen.last.type, COMMAND_QUEUE_CREATE);
    answer((struct completion){0});
    turns(3);
    answer_description(&JOBS, NULL, 0);
    assert_int_equal(response(), 201);
    assert_string_equal(field("Location"), "/v1/queues/jobs");
    assert_non_null(strstr(body, "{\"queue\":{\"name\":\"jobs\","));
}

static void a_queue_that_is_there(void **state)
{
    request("PUT", "/v1/queues/jobs", "", "");
    answer_description(&JOBS, NULL, 0);
    assert_int_equal(seen.last.type, COMMAND_QUEUE_CREATE);
    answer((struct completion){0});
    turns(3);
    answer_description(&JOBS, NULL, 0);
    assert_int_equal(response(), 200);
    assert_null(field("Location"));
    request("PUT", "/v1/queues/jobs", "", "");
    answer_description(&JOBS, NULL, 0);
    answer_error(BROKER_QUEUE_EXISTS, "queue 'jobs' has other settings");
    expect_problem(409, "other settings");
}

static void it_cannot_be_described(void **state)
{
    request("PUT", "/v1/queues/jobs", "", "");
    answer_error(BROKER_NO_MEMORY, "no memory");
    expect_problem(503, "no memory");
    assert_string_equal(field("Retry-After"), "2");
    assert_int_equal(seen.count, 1);
}

static void wrong_requests_reach_nobody(void **state)
{
    static const struct {
        const char *method, *path, *body;
        int status;
        const char *says;
    } WRONG[] = {
        {"PUT", "/v1/queues/jobs", "{\"leese_ms\":1}", 400, "did you mean \\\"lease_ms\\\""},
        {"PUT", "/v1/queues/jobs", "{\"queue\":\"x\"}", 400, "given by the path"},
        {"PUT", "/v1/queues/jobs", "[]", 400, "no JSON object"},
        {"PUT", "/v1/queues/jobs?dry_run=true", "{}", 400, "dry_run"},
        {"PATCH", "/v1/queues/jobs", "{\"lease_ms\":\"x\"}", 400, "lease_ms"},
        {"PATCH", "/v1/queues/jobs/messages/x", "{\"delay_ms\":1}", 400, "'x' is no seq"},
        {"PATCH", "/v1/queues/jobs/messages/1", "{\"delay_ms\":1,\"due_ms\":1}", 400, "delay_ms"},
        {"POST", "/v1/queues/jobs/scan?al=true", "{\"action\":\"count\"}", 400, "did you mean all"},
        {"POST", "/v1/queues/jobs/groups/g/seek", "{\"start\":\"never\"}", 400, "never"},
        {"DELETE", "/v1/queues/jobs/messages/5?state=dead", "", 400, "state"},
        {"GET", "/v1/queues?limit=0", "", 400, "limit"},
    };
    for (size_t i = 0; i < sizeof(WRONG) / sizeof(WRONG[0]); i++) {
        request(WRONG[i].method, WRONG[i].path, "", WRONG[i].body);
        expect_problem(WRONG[i].status, WRONG[i].says);
    }
    assert_int_equal(seen.count, 0);
    assert_int_equal(rest->call_count, 0);
}

static void a_group_that_is_there(void **state)
{
    broker_header header = {"a", "1"};
    broker_group_info g = {.name = "eu", .settings.filter = {.topic = "x.>", .headers = &header, .header_count = 1}};
    request("PUT", "/v1/queues/jobs/groups/eu", "", "{\"filter\":{\"topic\":\"x.>\",\"headers\":{\"a\":\"1\"}}}");
    answer_description(&JOBS, &g, 1);
    assert_int_equal(response(), 200);
    request("PUT", "/v1/queues/jobs/groups/eu", "", "{\"filter\":{\"topic\":\"x.>\"}}");
    answer_description(&JOBS, &g, 1);
    expect_problem(409, "another filter");
    request("PUT", "/v1/queues/jobs/groups/eu", "", "{\"filter\":{\"topic\":\"x.>\",\"headers\":{\"a\":\"2\"}}}");
    answer_description(&JOBS, &g, 1);
    expect_problem(409, "another filter");
    assert_int_equal(seen.by_type[COMMAND_GROUP_CREATE], 0);
    request("GET", "/v1/queues/jobs/groups/us", "", "");
    answer_description(&JOBS, &g, 1);
    expect_problem(404, "no group 'us'");
}

/* ---- scans ---------------------------------------------------------------------------------------------------------- */

static void one_scan(void **state)
{
    request("POST", "/v1/queues/jobs/scan", "",
            "{\"action\":\"delete\",\"max_messages\":7,\"filter\":{\"key\":\"k\"}}");
    answer_description(&JOBS, NULL, 0);
    assert_int_equal(seen.last.u.scan.action, SCAN_DELETE);
    assert_int_equal(seen.last.u.scan.max_messages, 7);
    assert_true(seen.last.u.scan.to_seq == 0);
    assert_string_equal(seen.filter, "|k|");
    answer_scan(7, 1, 30);
    expect(200, "{\"matched\":7,\"skipped\":1,\"next_seq\":30}");
}

static void a_scan_goes_on_until_the_range_is_done(void **state)
{
    request("POST", "/v1/queues/jobs/scan?all=true", "", "{\"action\":\"delete\"}");
    answer_description(&JOBS, NULL, 0);
    assert_true(seen.last.u.scan.from_seq == 0 && seen.last.u.scan.to_seq == 100);
    answer_scan(10, 0, 11);
    expect_silence();
    assert_true(seen.last.u.scan.from_seq == 11 && seen.last.u.scan.to_seq == 100);
    answer_scan(5, 2, 60);
    assert_true(seen.last.u.scan.from_seq == 60);
    answer_scan(1, 0, 0);
    expect(200, "{\"matched\":16,\"skipped\":2,\"next_seq\":0}");
    assert_int_equal(seen.by_type[COMMAND_SCAN], 3);
}

static void a_scan_of_all_with_a_limit(void **state)
{
    request("POST", "/v1/queues/jobs/scan?all", "", "{\"action\":\"delete\",\"max_messages\":12,\"to_seq\":500}");
    answer_description(&JOBS, NULL, 0);
    assert_true(seen.last.u.scan.max_messages == 12 && seen.last.u.scan.to_seq == 100);
    answer_scan(10, 0, 11);
    assert_int_equal(seen.last.u.scan.max_messages, 2);
    answer_scan(2, 0, 20);
    expect(200, "{\"matched\":12,\"skipped\":0,\"next_seq\":20}");
}

static void a_scan_that_fails(void **state)
{
    request("POST", "/v1/queues/jobs/scan?all=true", "", "{\"action\":\"move\",\"target\":\"other\"}");
    answer_description(&JOBS, NULL, 0);
    answer_error(BROKER_QUEUE_FULL, "queue 'other' is full");
    expect_problem(429, "is full");
    /* What was done before is said, and where to go on. */
    request("POST", "/v1/queues/jobs/scan?all=true", "", "{\"action\":\"move\",\"target\":\"other\"}");
    answer_description(&JOBS, NULL, 0);
    answer_scan(10, 0, 11);
    answer_error(BROKER_QUEUE_FULL, "queue 'other' is full");
    expect(200, "{\"matched\":10,\"skipped\":0,\"next_seq\":11}");
}

static void a_dry_run_counts(void **state)
{
    request("POST", "/v1/queues/jobs/scan?dry_run=true", "", "{\"action\":\"move\",\"target\":\"other\"}");
    answer_description(&JOBS, NULL, 0);
    assert_true(seen.last.u.scan.action == SCAN_COUNT && seen.last.u.scan.target.len == 0);
    answer_scan(3, 0, 0);
    expect(200, "{\"matched\":3,\"skipped\":0,\"next_seq\":0}");
}

static void a_scan_whose_client_goes(void **state)
{
    request("POST", "/v1/queues/jobs/scan?all=true", "", "{\"action\":\"delete\"}");
    answer_description(&JOBS, NULL, 0);
    struct command scan = seen.last;
    dial();
    while (rest->call_count)
        turn(false);
    assert_int_equal(seen.last.type, COMMAND_CLOSE);
    seen.last = scan;
    unsigned before = seen.count;
    answer((struct completion){.u.scan = {.matched = 10, .next_seq = 11}});
    turns(3);
    assert_int_equal(seen.count, before);
}

static void one_message(void **state)
{
    request("DELETE", "/v1/queues/jobs/messages/17?state=scheduled", "", "");
    assert_true(seen.last.u.scan.action == SCAN_DELETE && seen.last.u.scan.state == BROKER_SCAN_SCHEDULED);
    assert_true(seen.last.u.scan.from_seq == 17 && seen.last.u.scan.to_seq == 17);
    answer_scan(1, 0, 0);
    expect(204, "");
    request("DELETE", "/v1/queues/jobs/messages/17", "", "");
    answer_scan(0, 0, 0);
    expect_problem(404, "no such message");
    request("PATCH", "/v1/queues/jobs/messages/17", "", "{\"delay_ms\":5}");
    assert_int_equal(seen.last.type, COMMAND_RESCHEDULE);
    assert_true(seen.last.u.reschedule.seq == 17 && seen.last.u.reschedule.due_ms == 5 &&
                seen.last.u.reschedule.is_delay);
    answer((struct completion){0});
    expect(204, "");
}

/* ---- dead letters --------------------------------------------------------------------------------------------------- */

static void dead_letters_are_sent_back(void **state)
{
    broker_queue_info dead = {.name = "jobs.dead", .last_seq = 9};
    request("POST", "/v1/queues/jobs/dead/redrive?all=true", "",
            "{\"filter\":{\"headers\":{\"dead-reason\":\"rejected\"}}}");
    answer_description(&JOBS, NULL, 0);
    assert_string_equal(seen.queue, "jobs.dead");
    answer_description(&dead, NULL, 0);
    assert_int_equal(seen.last.u.scan.action, SCAN_REDRIVE);
    assert_string_equal(seen.queue, "jobs.dead");
    assert_string_equal(seen.filter, "||dead-reason=rejected,dead-queue=jobs");
    assert_true(seen.last.u.scan.to_seq == 9);
    answer_scan(4, 0, 0);
    expect(200, "{\"matched\":4,\"skipped\":0,\"next_seq\":0}");
    request("POST", "/v1/queues/jobs/dead/redrive", "", "");
    answer_description(&JOBS, NULL, 0);
    answer_error(BROKER_QUEUE_NOT_FOUND, "no queue \"jobs.dead\"");
    expect(200, "{\"matched\":0,\"skipped\":0,\"next_seq\":0}");
}

static void dead_letters_are_looked_at(void **state)
{
    broker_queue_info jobs = JOBS;
    struct stored_message m = stored(3, (struct record_spec){.body = "x", .body_len = 1});
    jobs.settings.dead_letter = "graveyard";
    request("GET", "/v1/queues/jobs/dead?max=5&topic=a.%3E&key=k&header=x:1", "", "");
    answer_description(&jobs, NULL, 0);
    assert_string_equal(seen.queue, "graveyard");
    assert_string_equal(seen.filter, "a.>|k|x=1,dead-queue=jobs");
    assert_true(seen.last.u.scan.action == SCAN_PEEK && seen.last.u.scan.max_messages == 5);
    answer((struct completion){.u.scan = {.matched = 1, .next_seq = 4, .messages = &m, .count = 1, .peek = true}});
    assert_int_equal(response(), 200);
    assert_non_null(strstr(body, "{\"messages\":[{\"seq\":3,"));
    assert_non_null(strstr(body, "],\"next\":4}"));
    request("GET", "/v1/queues/jobs/dead", "", "");
    answer_description(&JOBS, NULL, 0);
    answer_error(BROKER_QUEUE_NOT_FOUND, "no queue \"jobs.dead\"");
    expect(200, "{\"messages\":[],\"next\":0}");
    request("GET", "/v1/queues/jobs/dead", "", "");
    answer_error(BROKER_QUEUE_NOT_FOUND, "no queue \"jobs\"");
    expect_problem(404, "no queue");
    request("GET", "/v1/queues/jobs/dead?state=any", "", "");
    expect_problem(400, "state");
}

/* ---- what is told as text ------------------------------------------------------------------------------------------- */

static void every_error_is_explained(void **state)
{
#define ENTRY(name, code, http, retry, text) {#name, BROKER_##name},
    static const struct {
        const char *name;
        broker_error error;
    } ERRORS[] = {BROKER_ERROR_MAP(ENTRY)};
#undef ENTRY
    for (size_t i = 1; i < sizeof(ERRORS) / sizeof(ERRORS[0]); i++) {
        char path[100] = "/errors/";
        for (size_t k = 0; ERRORS[i].name[k]; k++) {
            char c = ERRORS[i].name[k];
            path[8 + k] = c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
        }
        request("GET", path, "", "");
        assert_int_equal(response(), 200);
        assert_memory_equal(body, ERRORS[i].name, strlen(ERRORS[i].name));
        assert_int_equal(strstr(body, "may succeed later") != NULL, broker_error_is_retryable(ERRORS[i].error));
    }
    request("GET", "/errors/ok", "", "");
    expect_problem(404, "docs/HTTP.md");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
    const struct CMUnitTest tests[] = {
        TEST(a_queue_is_created),
        TEST(a_queue_that_is_there),
        TEST(it_cannot_be_described),
        TEST(wrong_requests_reach_nobody),
        TEST(a_group_that_is_there),
        TEST(one_scan),
        TEST(a_scan_goes_on_until_the_range_is_done),
        TEST(a_scan_of_all_with_a_limit),
        TEST(a_scan_that_fails),
        TEST(a_dry_run_counts),
        TEST(a_scan_whose_client_goes),
        TEST(one_message),
        TEST(dead_letters_are_sent_back),
        TEST(dead_letters_are_looked_at),
        TEST(every_error_is_explained),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
