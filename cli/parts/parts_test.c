/* The parts that need no broker: units, options, JSON, histogram, cutting input. */
#include "args.h"
#include "histogram.h"
#include "input.h"
#include "json.h"
#include "machine.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void test_units(void **state)
{
    uint64_t v;
    assert_true(args_number("2M", &v) && v == 2000000);
    assert_true(args_number("0", &v) && v == 0);
    assert_true(args_number("1.5k", &v) && v == 1500);
    assert_true(args_number("18446744073709551615", &v) && v == UINT64_MAX);
    assert_false(args_number("18446744073709551616", &v));
    assert_false(args_number("-1", &v));
    assert_false(args_number("", &v));
    assert_false(args_number("12x", &v));
    assert_false(args_number("1.", &v));
    assert_true(args_size("64MiB", &v) && v == 64u << 20);
    assert_true(args_size("512", &v) && v == 512);
    assert_true(args_size("4 KiB", &v) && v == 4096);
    assert_true(args_size("2g", &v) && v == 2ull << 30);
    assert_false(args_size("17179869184GiB", &v));
    assert_true(args_duration("30s", &v) && v == 30000);
    assert_true(args_duration("30", &v) && v == 30000);
    assert_true(args_duration("500ms", &v) && v == 500);
    assert_true(args_duration("0.25s", &v) && v == 250);
    assert_true(args_duration("5min", &v) && v == 300000);
    assert_true(args_duration("7d", &v) && v == 604800000);
    assert_false(args_duration("soon", &v));
}

static void test_time(void **state)
{
    uint64_t v;
    assert_true(args_time("1970-01-01T00:00:01Z", &v) && v == 1000);
    assert_true(args_time("2026-01-31T12:00:00.250Z", &v) && v == 1769860800250);
    assert_true(args_time("2026-01-31T14:00:00+02:00", &v) && v == 1769860800000);
    assert_true(args_time("2026-01-31T10:30:00-01:30", &v) && v == 1769860800000);
    assert_false(args_time("2026-01-31", &v));
    assert_false(args_time("2026-01-31T12:00:00", &v));
    assert_false(args_time("2026-01-31T12:00:00Zx", &v));
    assert_false(args_time("2026-01-31T12:00:00+25:00", &v));
    assert_false(args_time("1969-12-31T23:59:59Z", &v));
}

static void test_when(void **state)
{
    uint64_t v;
    assert_true(args_when("2026-01-31T12:00:00.250Z", 5, &v) && v == 1769860800250);
    assert_true(args_when("1769860800", 5, &v) && v == 1769860800000);
    assert_true(args_when("1769860800.5", 5, &v) && v == 1769860800500);
    assert_true(args_when("now", 5, &v) && v == 5);
    assert_true(args_when("in:10min", 5, &v) && v == 600005);
    assert_true(args_when("ago:1s", 5000, &v) && v == 4000);
    assert_true(args_when("ago:1h", 5000, &v) && v == 0);
    assert_false(args_when("10", 5, &v)); /* somebody means ten seconds from now */
    assert_false(args_when("10min", 5, &v));
    assert_false(args_when("in:soon", 5, &v));
    assert_false(args_when("in:18446744073709551s", UINT64_MAX / 2, &v));
    assert_false(args_when("", 5, &v));
}

static void test_seqs_and_windows(void **state)
{
    uint64_t a, b;
    bool given;
    assert_true(args_seqs("17", &a, &b) && a == 17 && b == 17);
    assert_true(args_seqs("17-20", &a, &b) && a == 17 && b == 20);
    assert_false(args_seqs("20-17", &a, &b));
    assert_false(args_seqs("0", &a, &b));
    assert_false(args_seqs("17-", &a, &b));
    assert_false(args_seqs("17x", &a, &b));
    assert_false(args_seqs("-3", &a, &b));
    assert_true(args_window("2min", &a, &b, &given) && a == 120000 && !given);
    assert_true(args_window("2min,50k", &a, &b, &given) && a == 120000 && given && b == 50000);
    assert_true(args_window("off", &a, &b, &given) && a == 0 && !given);
    assert_false(args_window("2min,", &a, &b, &given));
    assert_false(args_window(",5", &a, &b, &given));
}

static void assert_backoff(const char *text, struct arg_backoff expected)
{
    struct arg_backoff b, again;
    char written[ARGS_TEXT_BYTES];
    assert_true(args_backoff(text, &b));
    assert_memory_equal(&b, &expected, sizeof b);
    assert_string_equal(args_backoff_text(written, &b), text);
    assert_true(args_backoff(written, &again));
    assert_memory_equal(&b, &again, sizeof b);
}

static void test_backoff(void **state)
{
    struct arg_backoff b;
    assert_backoff("none", (struct arg_backoff){0});
    assert_backoff("fixed:5s", (struct arg_backoff){ARG_BACKOFF_FIXED, 5000, 0, 0});
    assert_backoff("fixed:1500ms,jitter=100%", (struct arg_backoff){ARG_BACKOFF_FIXED, 1500, 0, 100});
    assert_backoff("exponential:1s", (struct arg_backoff){ARG_BACKOFF_EXPONENTIAL, 1000, 0, 0});
    assert_backoff("exponential:1s..10min,jitter=20%", (struct arg_backoff){ARG_BACKOFF_EXPONENTIAL, 1000, 600000, 20});
    static const char *const wrong[] = {"",          "5s",           "fixed",           "fixed:",
                                        "fixed:0",   "fixed:25h",    "fixed:1s..2s",    "exponential:10s..1s",
                                        "linear:1s", "fixed:1s,20%", "fixed:1s,jitter", "fixed:1s,jitter=101%"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_false(args_backoff(wrong[i], &b));
}

static void test_unit_texts(void **state)
{
    char out[ARGS_TEXT_BYTES];
    assert_string_equal(args_duration_text(out, 0), "0ms");
    assert_string_equal(args_duration_text(out, 90000), "90s");
    assert_string_equal(args_duration_text(out, 1500), "1500ms");
    assert_string_equal(args_duration_text(out, 604800000), "7d");
    assert_string_equal(args_size_text(out, 64u << 20), "64MiB");
    assert_string_equal(args_size_text(out, 1000), "1000");
}

static void test_unescape(void **state)
{
    size_t len;
    char text[] = "a\\n\\0\\x41\\\\";
    assert_true(args_unescape(text, &len));
    assert_int_equal(len, 5);
    assert_memory_equal(text, "a\n\0A\\", 5);
    char bad[] = "\\q", cut[] = "\\", half[] = "\\x4";
    assert_false(args_unescape(bad, &len));
    assert_false(args_unescape(cut, &len));
    assert_false(args_unescape(half, &len));
}

struct options {
    bool flag;
    const char *text;
    struct arg_number number, size;
    int choice;
    struct arg_list list;
};
static const struct arg_option table[] = {
    {"flag", 'f', ARG_FLAG, NULL, NULL, "", offsetof(struct options, flag), 0, 0},
    {"text", 't', ARG_TEXT, "TEXT", NULL, "", offsetof(struct options, text), 0, 0},
    {"number", 'n', ARG_NUMBER, "N", "7", "", offsetof(struct options, number), 1, 100},
    {"size", 0, ARG_SIZE, "SIZE", NULL, "", offsetof(struct options, size), 0, 0},
    {"choice", 0, ARG_CHOICE, "one|two|three", "two", "", offsetof(struct options, choice), 0, 0},
    {"list", 'l', ARG_LIST, "X", NULL, "", offsetof(struct options, list), 0, 0},
    {0},
};

static bool parse(struct options *o, char *error, int *operands, int argc, const char **argv)
{
    *o = (struct options){0};
    struct arg_set set = {table, o};
    return args_parse(&set, 1, argc, (char **)argv, false, true, operands, error, 256);
}
#define PARSE(...)                                                                                                     \
    parse(&o, error, &first, (int)(sizeof(const char *[]){"x", __VA_ARGS__} / sizeof(char *)),                         \
          (const char *[]){"x", __VA_ARGS__, NULL})

static void test_options(void **state)
{
    struct options o;
    char error[256];
    int first;
    assert_true(PARSE("operand"));
    assert_int_equal(first, 1);
    assert_int_equal(o.number.value, 7);
    assert_false(o.number.given);
    assert_int_equal(o.choice, 2);

    assert_true(PARSE("a", "-f", "--text", "hello", "-n50", "--size=1KiB", "--choice", "three", "-l", "p", "--list=q"));
    assert_true(o.flag);
    assert_string_equal(o.text, "hello");
    assert_true(o.number.given && o.number.value == 50);
    assert_true(o.size.given && o.size.value == 1024);
    assert_int_equal(o.choice, 3);
    assert_int_equal(o.list.count, 2);
    assert_string_equal(o.list.items[1], "q");

    assert_true(PARSE("--", "--flag"));
    assert_false(o.flag);
}

static void test_option_errors(void **state)
{
    struct options o;
    char error[256];
    int first;
    assert_false(PARSE("--nubmer", "3"));
    assert_non_null(strstr(error, "--nubmer"));
    assert_non_null(strstr(error, "did you mean --number?"));
    assert_false(PARSE("--xyzzy"));
    assert_string_equal(error, "unknown option --xyzzy");
    assert_false(PARSE("-q"));
    assert_string_equal(error, "unknown option -q");
    assert_false(PARSE("-n"));
    assert_string_equal(error, "--number needs a value: N");
    assert_false(PARSE("--number"));
    assert_string_equal(error, "--number needs a value: N");
    assert_false(PARSE("--flag=yes"));
    assert_string_equal(error, "--flag takes no value");
    assert_false(PARSE("-n", "101"));
    assert_string_equal(error, "--number: '101' is out of range: 1 to 100");
    assert_false(PARSE("-n", "0"));
    assert_false(PARSE("--choice", "tw"));
    assert_string_equal(error, "--choice: 'tw' is not one of one|two|three");
    assert_false(PARSE("--size", "big"));
    assert_non_null(strstr(error, "'big' is not a size"));
}

static void test_nearest(void **state)
{
    const char *names[] = {"pub", "sub", "queue list", "queue describe", "ping"};
    assert_string_equal(args_nearest("queue lst", names, 5), "queue list");
    assert_string_equal(args_nearest("pubb", names, 5), "pub");
    assert_string_equal(args_nearest("pbu", names, 5), "pub");
    assert_string_equal(args_nearest("pin", names, 5), "ping");
    assert_null(args_nearest("frobnicate", names, 5));
}

static void test_json(void **state)
{
    struct text t = {0};
    struct json j = {.out = &t};
    json_open(&j, '{');
    json_put_u64(&j, "a", UINT64_MAX);
    json_key(&j, "b");
    json_open(&j, '[');
    json_bool(&j, true);
    json_text(&j, NULL);
    json_double(&j, 0.5);
    json_double(&j, 0.0 / 0.0);
    json_open(&j, '{');
    json_close(&j, '}');
    json_close(&j, ']');
    json_put_text(&j, "c\"", "x");
    json_close(&j, '}');
    json_u64(&j, 1);
    text_add(&t, "", 1);
    assert_string_equal(t.bytes, "{\"a\":18446744073709551615,\"b\":[true,null,0.5,null,{}],\"c\\\"\":\"x\"},1");
    text_release(&t);
}

static void assert_json_bytes(const char *bytes, size_t len, const char *expected)
{
    struct text t = {0};
    struct json j = {.out = &t};
    json_bytes(&j, bytes, len);
    text_add(&t, "", 1);
    assert_string_equal(t.bytes, expected);
    text_release(&t);
}

static void test_json_escaping(void **state)
{
    assert_json_bytes("plain", 5, "\"plain\"");
    assert_json_bytes("\"\\/\b\f\n\r\t", 8, "\"\\\"\\\\/\\b\\f\\n\\r\\t\"");
    assert_json_bytes("\0\x1f\x7f", 3, "\"\\u0000\\u001f\\u007f\"");
    assert_json_bytes("ü€😀", 9, "\"ü€😀\"");
    assert_json_bytes("a\xff"
                      "b",
                      3,
                      "\"a\xef\xbf\xbd"
                      "b\"");
    assert_json_bytes("\xc3", 1, "\"\xef\xbf\xbd\"");   /* cut short */
    assert_false(utf8_is_valid("\xc0\x80", 2));         /* overlong */
    assert_false(utf8_is_valid("\xed\xa0\x80", 3));     /* surrogate */
    assert_false(utf8_is_valid("\xf4\x90\x80\x80", 4)); /* above U+10FFFF */
    assert_true(utf8_is_valid("\xf4\x8f\xbf\xbf", 4));
    assert_true(utf8_is_valid("", 0));
}

static void test_base64(void **state)
{
    /* RFC 4648 section 10 */
    static const char *const cases[][2] = {
        {"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"foobar", "Zm9vYmFy"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct text t = {0};
        struct json j = {.out = &t};
        json_base64(&j, cases[i][0], strlen(cases[i][0]));
        assert_int_equal(t.len, strlen(cases[i][1]) + 2);
        assert_memory_equal(t.bytes + 1, cases[i][1], strlen(cases[i][1]));
        text_release(&t);
    }
}

static void test_histogram(void **state)
{
    struct histogram *h = calloc(1, sizeof *h);
    assert_int_equal(histogram_percentile(h, 50), 0);
    for (uint64_t v = 1; v <= 100000; v++)
        histogram_add(h, v, 1);
    for (unsigned p = 1; p <= 100; p++) {
        double exact = p * 1000.0, got = (double)histogram_percentile(h, p);
        assert_true(got >= exact && got <= exact * 1.016 + 1);
    }
    assert_int_equal(h->max, 100000);
    assert_int_equal(histogram_percentile(h, 100), 100000);
    *h = (struct histogram){0};
    for (uint64_t v = 1; v <= 4; v++)
        histogram_add(h, v, 1);
    assert_int_equal(histogram_percentile(h, 25), 1); /* not above a rank, and not below it */
    assert_int_equal(histogram_percentile(h, 50), 2);
    assert_int_equal(histogram_percentile(h, 51), 3);
    assert_int_equal(histogram_percentile(h, 0), 1);
    histogram_add(h, UINT64_MAX, 1);
    assert_true(histogram_percentile(h, 100) == UINT64_MAX);
    histogram_add(h, 0, 1000000);
    assert_int_equal(histogram_percentile(h, 50), 0);
    free(h);
}

/* Everything of `bytes` cut by `mode`, joined with '|'. */
static void assert_cut(const char *bytes, size_t len, enum input_mode mode, const char *expected)
{
    int fds[2];
    struct input in;
    struct text t = {0};
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(write(fds[1], bytes, len), (ssize_t)len);
    close(fds[1]);
    assert_true(input_init(&in, fds[0], mode, 1000));
    enum input_state state;
    do {
        const char *message;
        size_t n;
        state = input_next(&in, &message, &n);
        if (state == INPUT_MESSAGE) {
            text_add(&t, message, n);
            text_add(&t, "|", 1);
            input_take(&in);
        } else if (state == INPUT_HUNGRY) {
            assert_true(input_fill(&in));
        }
    } while (state == INPUT_MESSAGE || state == INPUT_HUNGRY);
    if (state == INPUT_TOO_LONG)
        text_add(&t, "LONG", 4);
    text_add(&t, "", 1);
    assert_string_equal(t.bytes, expected);
    text_release(&t);
    input_release(&in);
    close(fds[0]);
}

static void test_input(void **state)
{
    assert_cut("", 0, INPUT_LINES, "");
    assert_cut("a\nb\n", 4, INPUT_LINES, "a|b|");
    assert_cut("a\nb", 3, INPUT_LINES, "a|b|");
    assert_cut("\n\na\n", 4, INPUT_LINES, "||a|");
    assert_cut("a\nb\0c\n", 6, INPUT_NULL, "a\nb|c\n|");
    assert_cut("a\nb\n", 4, INPUT_WHOLE, "a\nb\n|");
    assert_cut("", 0, INPUT_WHOLE, "|");
    char long_line[1100];
    memset(long_line, 'x', sizeof long_line);
    assert_cut(long_line, 1100, INPUT_LINES, "LONG");
    assert_cut(long_line, 1001, INPUT_WHOLE, "LONG");
    long_line[1000] = '\n';
    char expected[1200];
    memset(expected, 'x', 1000);
    memcpy(expected + 1000, "|", 2);
    assert_cut(long_line, 1001, INPUT_LINES, expected);
}

/* Lines across many reads: nothing is lost or doubled where the buffer is moved and grown. */
static void test_input_large(void **state)
{
    char path[] = "/tmp/broker-input-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    unlink(path);
    FILE *f = fdopen(dup(fd), "w");
    for (int i = 0; i < 20000; i++) {
        fprintf(f, "%d ", i);
        for (int k = 0; k < i % 97; k++)
            fputs("filling ", f);
        fputc('\n', f);
    }
    fclose(f);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    struct input in;
    assert_true(input_init(&in, fd, INPUT_LINES, 1 << 20));
    const char *message;
    size_t n;
    int lines = 0;
    enum input_state s;
    while ((s = input_next(&in, &message, &n)) != INPUT_END) {
        if (s == INPUT_HUNGRY) {
            assert_true(input_fill(&in));
            continue;
        }
        assert_int_equal(s, INPUT_MESSAGE);
        char start[16];
        int len = snprintf(start, sizeof start, "%d ", lines);
        assert_int_equal(n, (size_t)len + (size_t)(lines % 97) * 8);
        assert_memory_equal(message, start, (size_t)len);
        input_take(&in);
        lines++;
    }
    assert_int_equal(lines, 20000);
    input_release(&in);
    close(fd);
}

static void test_machine(void **state)
{
    struct machine_sample a, b;
    machine_sample_take(&a);
    uint64_t start = machine_now_ns(), cpu = machine_cpu_us();
    while (machine_now_ns() - start < 30000000u)
        continue;
    machine_sample_take(&b);
    assert_true(machine_cpu_us() > cpu);
    assert_true(machine_process_rss_bytes(getpid()) > 100000);
    assert_true(a.processors > 0 && b.all_us >= a.all_us);
    double other = machine_other_share(&a, &b, 0);
    assert_true(other >= 0 && other <= 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_units),     cmocka_unit_test(test_time),          cmocka_unit_test(test_unescape),
        cmocka_unit_test(test_options),   cmocka_unit_test(test_option_errors), cmocka_unit_test(test_nearest),
        cmocka_unit_test(test_json),      cmocka_unit_test(test_json_escaping), cmocka_unit_test(test_base64),
        cmocka_unit_test(test_histogram), cmocka_unit_test(test_input),         cmocka_unit_test(test_input_large),
        cmocka_unit_test(test_machine),   cmocka_unit_test(test_when),          cmocka_unit_test(test_seqs_and_windows),
        cmocka_unit_test(test_backoff),   cmocka_unit_test(test_unit_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
