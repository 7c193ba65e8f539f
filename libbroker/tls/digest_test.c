#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "digest.h"

static void test_websocket_example(void **state) /* RFC 6455 1.3 */
{
    static const char text[] = "dGhlIHNhbXBsZSBub25jZQ==258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    uint8_t sum[SHA1_BYTES];
    char out[32];
    assert_true(digest_sha1(text, sizeof(text) - 1, sum));
    base64_encode(out, sum, sizeof(sum));
    assert_string_equal(out, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

static void test_base64(void **state) /* RFC 4648 10 */
{
    static const char *const pairs[][2] = {
        {"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"foobar", "Zm9vYmFy"}};
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        char text[16];
        uint8_t back[16];
        size_t n;
        base64_encode(text, pairs[i][0], strlen(pairs[i][0]));
        assert_string_equal(text, pairs[i][1]);
        assert_true(base64_decode(back, &n, text, strlen(text)));
        assert_int_equal(n, strlen(pairs[i][0]));
        assert_memory_equal(back, pairs[i][0], n);
    }
}

static void test_no_base64(void **state)
{
    static const char *const bad[] = {"Zg", "Zg=", "Zg==\n", "Z g=", "Zm9*", "=Zg=", "Zg==Zg=="};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        uint8_t back[16];
        size_t n;
        assert_false(base64_decode(back, &n, bad[i], strlen(bad[i])));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_websocket_example),
        cmocka_unit_test(test_base64),
        cmocka_unit_test(test_no_base64),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
