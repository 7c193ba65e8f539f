/* Exchanges: answers at once and later, in order; kept, gone, sent; pieces; limits; connections handed over. */
#include <sys/socket.h>
#include <unistd.h>

#include "test/rig.h"

#define H         "Host: x\r\n"
#define GET(path) "GET " path " HTTP/1.1\r\n" H "\r\n"

static void test_answers(void **state)
{
    put(GET("/hello"));
    expect(200, "hello");
    assert_true(has_field("Content-Length: 5"));
    assert_true(has_field("Content-Type: text/plain"));
    assert_non_null(strstr(head, "\r\nDate: "));
    assert_null(strstr(head, "\r\nConnection:"));
    put("POST /echo HTTP/1.1\r\n" H "Content-Length: 11\r\n\r\nhello there");
    expect(200, "hello there");
    put(GET("/none"));
    expect(204, "");
    assert_null(strstr(head, "Content-Length"));
    request_head("HEAD /hello HTTP/1.1\r\n" H "\r\n");
    expect(200, "");
    assert_true(has_field("Content-Length: 5"));
    put(GET("/hello"));
    expect(200, "hello"); /* the connection lived through all that */
    assert_int_equal(http_connections(http), 1);
}

static void test_order(void **state)
{
    put(GET("/keep/a") GET("/hello") GET("/keep/b") GET("/keep/c"));
    expect_silence();
    assert_int_equal(kept_count, 3); /* at once */
    kept_answer("c", "C");
    kept_answer("b", "B");
    expect_silence();
    kept_answer("a", "A");
    expect(200, "A");
    expect(200, "hello");
    expect(200, "B");
    expect(200, "C");
}

int main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, start, stop)
    const struct CMUnitTest tests[] = {
        TEST(test_answers),
        TEST(test_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
