/* Definitions out and in, step by step: what is asked of the engine, and what is said when it fails on the way. */
#include <sys/socket.h>

#include "test/rig.h"

static const char DOCUMENT[] = "{\"format\":\"brokerd definitions\",\"version\":1,\"queues\":[%s]}";

static broker_queue_info queue_of(const char *name)
{
    return (broker_queue_info){
        .name = name, .id = 1, .settings = {.lease_ms = 30000, .overflow = BROKER_OVERFLOW_DROP_OLDEST}};
}

static void answer_next(struct completion done)
{
    unsigned before = seen.count;
    answer(done);
    assert_int_equal(seen.count, before); /* the engine is in the middle of something */
    turns(3);
}

static void answer_list(const char *first, const char *second, bool is_more)
{
    broker_queue_info queues[2] = {queue_of(first ? first : ""), queue_of(second ? second : "")};
    assert_int_equal(seen.last.type, COMMAND_QUEUE_LIST);
    answer_next((struct completion){
        .u.list = {.queues = queues, .count = (size_t)(first != NULL) + (second != NULL), .more = is_more}});
}

static void answer_described(const char *name, const broker_group_info *groups, size_t group_count)
{
    broker_queue_info queue = queue_of(name);
    assert_int_equal(seen.last.type, COMMAND_QUEUE_DESCRIBE);
    assert_string_equal(seen.queue, name);
    answer_next((struct completion){.u.describe = {.queue = &queue, .groups = groups, .group_count = group_count}});
}

static void answer_failed(broker_error error)
{
    answer_next((struct completion){.error = error, .text = "it is so"});
}

/* ---- out ------------------------------------------------------------------------------------------------------------ */

/* The chunks that have come, as one text; whether the last of them was there. */
static char text[65536];

static bool read_text(void)
{
    static char raw[65536];
    size_t n = 0, len = 0;
    ssize_t part;
    not_reading = true;
    for (int i = 0; i < 10; i++) {
        turn(false);
        while ((part = recv(fd, raw + n, sizeof(raw) - 1 - n, MSG_DONTWAIT)) > 0)
            n += (size_t)part;
    }
    not_reading = false;
    raw[n] = '\0';
    char *at = strstr(raw, "\r\n\r\n");
    assert_non_null(at);
    bool ended = false;
    for (at += 4; at < raw + n && !ended;) {
        size_t chunk = strtoul(at, &at, 16);
        at += 2;
        memcpy(text + len, at, chunk);
        len += chunk;
        at += chunk + 2;
        ended = chunk == 0;
    }
    text[len] = '\0';
    return ended;
}

static void export_begins(void)
{
    not_reading = true;
    request("GET", "/v1/definitions?prefix=p", "", "");
}

static void pages(void **state)
{
    broker_header header = {"h", "\"v\""};
    broker_group_info g = {
        .name = "default",
        .settings = {.single_active = true, .filter = {.topic = "a.>", .headers = &header, .header_count = 1}}};
    export_begins();
    answer_list("p1", "p2", true);
    answer_described("p1", &g, 1);
    answer_failed(BROKER_QUEUE_NOT_FOUND); /* p2 was deleted meanwhile */
    answer_list("p3", NULL, false);
    answer_described("p3", NULL, 0);
    assert_true(read_text());
    json_t *document = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(document);
    json_t *queues = json_object_get(document, "queues"), *first = json_array_get(queues, 0);
    assert_int_equal(json_array_size(queues), 2);
    assert_string_equal(json_string_value(json_object_get(first, "name")), "p1");
    json_t *settings = json_object_get(first, "settings"), *group = json_array_get(json_object_get(first, "groups"), 0);
    assert_string_equal(json_string_value(json_object_get(settings, "overflow")), "drop-oldest");
    assert_int_equal(json_integer_value(json_object_get(settings, "lease_ms")), 30000);
    assert_null(json_object_get(settings, "last_seq"));
    assert_string_equal(json_string_value(json_object_get(group, "filter_topic")), "a.>");
    assert_string_equal(json_string_value(json_object_get(json_object_get(group, "filter_headers"), "h")), "\"v\"");
    assert_true(json_is_true(json_object_get(group, "single_active")));
    json_decref(document);
}

static void no_queues(void **state)
{
    export_begins();
    answer_list(NULL, NULL, false);
    assert_true(read_text());
    assert_string_equal(text, "{\"format\":\"brokerd definitions\",\"version\":1,\"queues\":[\n]}\n");
}

static void an_export_that_fails(void **state)
{
    export_begins();
    answer_failed(BROKER_NO_MEMORY);
    not_reading = false;
    expect_problem(503, "it is so");
    export_begins();
    answer_list("p1", "p2", false);
    answer_described("p1", NULL, 0);
    answer_failed(BROKER_NO_MEMORY);
    assert_false(read_text()); /* it is not whole, and the client sees it */
    assert_int_equal(rest->call_count, 0);
}

static void an_export_whose_client_goes(void **state)
{
    export_begins();
    answer_list("p1", "p2", false);
    struct command describe = seen.last;
    dial();
    while (rest->call_count)
        turn(false);
    seen.last = describe;
    answer_failed(BROKER_QUEUE_NOT_FOUND);
}

/* ---- in ------------------------------------------------------------------------------------------------------------- */

static void import_begins(const char *query, const char *queues)
{
    char path[100], document[4096];
    snprintf(path, sizeof(path), "/v1/definitions%s", query);
    snprintf(document, sizeof(document), DOCUMENT, queues);
    request("POST", path, "Content-Type: application/json\r\n", document);
}

static void everything_is_new(void **state)
{
    broker_group_info g = {.name = "default"};
    import_begins("",
                  "{\"name\":\"a\",\"paused\":true,\"settings\":{\"lease_ms\":5,\"overflow\":\"drop-oldest\"},"
                  "\"groups\":[{\"name\":\"default\",\"single_active\":true},{\"name\":\"g\",\"filter_key\":\"k\"}],"
                  "\"bindings\":[\"x.>\"]}");
    assert_string_equal(seen.queue, "a");
    answer_failed(BROKER_QUEUE_NOT_FOUND);
    assert_int_equal(seen.last.type, COMMAND_QUEUE_CREATE);
    answer_next((struct completion){0});
    assert_int_equal(seen.last.type, COMMAND_QUEUE_PAUSE);
    answer_next((struct completion){0});
    answer_described("a", &g, 1);
    assert_int_equal(seen.last.type, COMMAND_GROUP_ALTER);
    answer_next((struct completion){0});
    assert_int_equal(seen.last.type, COMMAND_GROUP_CREATE);
    assert_string_equal(seen.group, "g");
    answer_next((struct completion){0});
    assert_int_equal(seen.last.type, COMMAND_BIND);
    answer_next((struct completion){0});
    expect(200, "{\"created\":3,\"altered\":1,\"differing\":0,\"failed\":0,\"dry_run\":false,\"results\":["
                "\n{\"queue\":\"a\",\"done\":\"created\"},"
                "\n{\"queue\":\"a\",\"done\":\"paused\"},"
                "\n{\"queue\":\"a\",\"group\":\"default\",\"done\":\"altered\"},"
                "\n{\"queue\":\"a\",\"group\":\"g\",\"done\":\"created\"},"
                "\n{\"queue\":\"a\",\"binding\":\"x.>\",\"done\":\"bound\"}]}\n");
}

static void a_dry_run_only_looks(void **state)
{
    import_begins("?dry_run=true",
                  "{\"name\":\"a\",\"paused\":true,\"groups\":[{\"name\":\"default\"},{\"name\":\"g\"}]},"
                  "{\"name\":\"b\",\"settings\":{\"lease_ms\":5,\"ttl_ms\":0}}");
    answer_failed(BROKER_QUEUE_NOT_FOUND);
    answer_described("b", NULL, 0);
    expect(200, "{\"created\":2,\"altered\":0,\"differing\":1,\"failed\":0,\"dry_run\":true,\"results\":["
                "\n{\"queue\":\"a\",\"done\":\"created\"},"
                "\n{\"queue\":\"a\",\"done\":\"paused\"},"
                "\n{\"queue\":\"a\",\"group\":\"g\",\"done\":\"created\"},"
                "\n{\"queue\":\"b\",\"settings\":[\"lease_ms\"],\"done\":\"left\"}]}\n");
    assert_int_equal(seen.count, 2);
}

static void a_queue_that_cannot_be_made(void **state)
{
    import_begins("", "{\"name\":\"a\",\"groups\":[{\"name\":\"g\"}],\"bindings\":[\"x\"]},{\"name\":\"b\"}");
    answer_failed(BROKER_QUEUE_NOT_FOUND);
    answer_failed(BROKER_LIMIT_REACHED);
    answer_described("b", NULL, 0); /* nothing more of a */
    assert_int_equal(response(), 200);
    assert_non_null(strstr(body, "\"failed\":1,"));
    assert_non_null(strstr(body, "{\"queue\":\"a\",\"error\":{\"type\":\"/errors/limit_reached\""));
    assert_int_equal(seen.count, 3);
}

static void a_queue_that_cannot_be_looked_at(void **state)
{
    import_begins("", "{\"name\":\"a\",\"bindings\":[\"x\"]},{\"name\":\"b\"}");
    answer_failed(BROKER_SHUTTING_DOWN);
    answer_described("b", NULL, 0);
    assert_int_equal(response(), 200);
    assert_non_null(strstr(body, "/errors/shutting_down"));
}

static void one_group_fails(void **state)
{
    import_begins("?alter", "{\"name\":\"a\",\"groups\":[{\"name\":\"g\"},{\"name\":\"h\"}],\"bindings\":[\"x\"]}");
    answer_described("a", NULL, 0);
    answer_failed(BROKER_LIMIT_REACHED);
    assert_string_equal(seen.group, "h");
    answer_next((struct completion){0});
    assert_int_equal(seen.last.type, COMMAND_BIND);
    answer_next((struct completion){0});
    assert_int_equal(response(), 200);
    assert_non_null(strstr(body, "{\"created\":2,\"altered\":0,\"differing\":0,\"failed\":1,"));
}

static void a_wrong_document_reaches_nobody(void **state)
{
    import_begins("", "{\"name\":\"a\"},{\"name\":\"b\",\"settings\":{\"leese_ms\":1}}");
    expect_problem(400, "queue 'b': there is no key \\\"leese_ms\\\" here; did you mean \\\"lease_ms\\\"");
    import_begins("?altr", "");
    expect_problem(400, "did you mean alter");
    assert_int_equal(seen.count, 0);
}

static void an_import_whose_client_goes(void **state)
{
    import_begins("", "{\"name\":\"a\"},{\"name\":\"b\"}");
    answer_failed(BROKER_QUEUE_NOT_FOUND);
    struct command create = seen.last;
    dial();
    while (rest->call_count)
        turn(false);
    unsigned before = seen.count;
    seen.last = create;
    answer((struct completion){0});
    turns(5);
    assert_int_equal(seen.count, before);
}

/* The loop has its turn within a long document: the client can go before all of it was checked. */
static void a_long_document_is_no_long_turn(void **state)
{
    static char queues[20000], document[20200];
    size_t n = 0;
    for (int i = 0; i < 500; i++)
        n += (size_t)snprintf(queues + n, sizeof(queues) - n, "%s{\"name\":\"q%d\"}", i ? "," : "", i);
    snprintf(document, sizeof(document), DOCUMENT, queues);
    request("POST", "/v1/definitions", "", document); /* three turns */
    assert_int_equal(seen.count, 0);
    while (seen.count == 0)
        turn(false);
    dial();
    while (rest->call_count)
        turn(false);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
    const struct CMUnitTest tests[] = {
        TEST(pages),
        TEST(no_queues),
        TEST(an_export_that_fails),
        TEST(an_export_whose_client_goes),
        TEST(everything_is_new),
        TEST(a_dry_run_only_looks),
        TEST(a_queue_that_cannot_be_made),
        TEST(a_queue_that_cannot_be_looked_at),
        TEST(one_group_fails),
        TEST(a_wrong_document_reaches_nobody),
        TEST(an_import_whose_client_goes),
        TEST(a_long_document_is_no_long_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
