/* Running commands: input, output, and all the ways in which one ends. */
#include "child.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int run(struct child *c, const char *script, const char *input, size_t len, size_t output_max)
{
    char *argv[] = {(char *)"sh", (char *)"-c", (char *)script, NULL};
    assert_true(child_start(c, argv, input, len, output_max));
    while (child_turn(c, 1000))
        continue;
    return child_end(c);
}

static void assert_output(const char *script, const char *input, int status, const char *expected)
{
    struct child c;
    assert_int_equal(run(&c, script, input, strlen(input), 1000), status);
    assert_int_equal(c.output.len, strlen(expected));
    assert_memory_equal(c.output.len ? c.output.bytes : "", expected, c.output.len);
    assert_false(c.too_long);
    child_release(&c);
}

static void test_in_and_out(void **state)
{
    assert_output("cat", "hello", 0, "hello");
    assert_output("cat", "", 0, "");
    assert_output("tr a-z A-Z; exit 3", "abc", 3, "ABC");
    assert_output("kill -TERM $$", "", 128 + SIGTERM, "");
}

/* More than both pipes hold: neither side may wait for the other for ever. */
static void test_large(void **state)
{
    size_t len = 4u << 20;
    char *input = malloc(len);
    assert_non_null(input);
    for (size_t i = 0; i < len; i++)
        input[i] = (char)(i * 7 >> 3);
    struct child c;
    assert_int_equal(run(&c, "cat", input, len, len), 0);
    assert_int_equal(c.output.len, len);
    assert_memory_equal(c.output.bytes, input, len);
    child_release(&c);

    assert_int_equal(run(&c, "exit 0", input, len, len), 0); /* it need not read */
    assert_int_equal(c.output.len, 0);
    child_release(&c);

    assert_int_equal(run(&c, "cat", input, len, len - 1), 0);
    assert_true(c.too_long);
    assert_true(c.output.len < len);
    child_release(&c);
    free(input);
}

static void test_no_such_program(void **state)
{
    struct child c;
    char *argv[] = {(char *)"/no/such/program", NULL};
    errno = 0;
    assert_false(child_start(&c, argv, "x", 1, 10));
    assert_int_equal(errno, ENOENT);
    child_release(&c);
}

static void test_kill(void **state)
{
    struct child c;
    char *argv[] = {(char *)"sleep", (char *)"1000", NULL};
    assert_true(child_start(&c, argv, "", 0, 10));
    assert_true(child_turn(&c, 0));
    child_kill(&c);
    while (child_turn(&c, 1000))
        continue;
    assert_int_equal(child_end(&c), 128 + SIGTERM);
    child_release(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_and_out),
        cmocka_unit_test(test_large),
        cmocka_unit_test(test_no_such_program),
        cmocka_unit_test(test_kill),
    };
    signal(SIGPIPE, SIG_IGN); /* as main.c does */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
