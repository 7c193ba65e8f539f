/* The table against conf/brokerd.ini (argv[1]); values, ranges and errors; the command line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "conf_internal.h"
#include "log.h"

static const char *ini_path;
static char error[CONF_ERROR_BYTES];

static void start(struct conf *c)
{
    assert_true(conf_init(c, error));
    assert_true(conf_check(c, error));
}

static bool parse(struct conf *c, const char *text)
{
    return conf_parse(c, "x.ini", text, strlen(text), error);
}

static char *printed(const struct conf *c, bool help)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    conf_print(c, help, out);
    fclose(out);
    return text;
}

static void the_shipped_file_is_the_table(void **state)
{
    struct conf c;
    start(&c);
    char *want = printed(&c, true);
    char *got = calloc(1, 1 << 20);
    FILE *f = fopen(ini_path, "re");
    assert_non_null(f);
    size_t n = fread(got, 1, (1 << 20) - 1, f);
    fclose(f);
    assert_int_equal(n, strlen(want));
    assert_string_equal(got, want); /* else: brokerd --help-config > conf/brokerd.ini */
    assert_true(conf_read(&c, ini_path, error));
    char *again = printed(&c, true);
    assert_string_equal(again, want);
    free(again);
    free(want);
    free(got);
    conf_release(&c);
}

static void every_option_is_described_and_fits(void **state)
{
    struct conf c;
    start(&c);
    for (size_t i = 0; i < conf_option_count; i++) {
        const struct conf_option *o = &conf_options[i];
        char value[64];
        assert_true(strlen(o->help) > 5);
        assert_ptr_equal(conf_find(o->section, o->name), o); /* no name twice */
        if (conf_is_text(o))
            continue;
        assert_true(o->min < o->max);
        uint64_t ends[] = {o->min, o->max};
        for (int j = 0; j < 2; j++) {
            conf_format_value(o, ends[j], value);
            assert_true(conf_set_option(&c, o, value, error));
            assert_true(*conf_number(&c, o) == ends[j]);
        }
        if (o->type == CONF_WORD)
            continue;
        snprintf(value, sizeof(value), o->type == CONF_OCTAL ? "%llo" : "%llu", (unsigned long long)o->max + 1);
        assert_false(conf_set_option(&c, o, value, error));
        assert_non_null(strstr(error, o->name));
        assert_non_null(strstr(error, "out of range"));
        assert_int_equal(conf_set_option(&c, o, "0", error), o->or_zero || o->min == 0);
    }
    conf_release(&c);
}

static void values_have_units(void **state)
{
    struct conf c;
    start(&c);
    assert_true(parse(&c,
                      "# a comment\n[store]\nsegment = 32 MiB ; a comment\nwindow=1GiB\n\n[tcp]\nheartbeat = 500 ms\r\n"
                      "hello_timeout = 2min\nframe_timeout=1500\nstall_timeout=1 d\nunix_mode = 600\nunix = /run/x\n"
                      "[log]\nlevel = debug\n[limits]\nmax_message=65536 B"));
    assert_int_equal(c.store.segment_bytes, 32 << 20);
    assert_int_equal(c.store.window_bytes, 1 << 30);
    assert_int_equal(c.tcp.heartbeat_ms, 500);
    assert_int_equal(c.tcp.hello_ms, 120000);
    assert_int_equal(c.tcp.frame_ms, 1500);
    assert_int_equal(c.tcp.stall_ms, 86400000);
    assert_int_equal(c.tcp.unix_mode, 0600);
    assert_string_equal(c.tcp.unix_path, "/run/x");
    assert_int_equal(c.log.level, LOG_LEVEL_DEBUG);
    assert_int_equal(c.limits.max_message_bytes, 65536);
    char *shown = printed(&c, false);
    assert_non_null(strstr(shown, "segment = 32 MiB\n"));
    assert_non_null(strstr(shown, "hello_timeout = 2 min\n"));
    assert_non_null(strstr(shown, "frame_timeout = 1500 ms\n"));
    assert_non_null(strstr(shown, "unix_mode = 0600\n"));
    struct conf again;
    start(&again);
    assert_true(parse(&again, shown));
    char *twice = printed(&again, false);
    assert_string_equal(shown, twice);
    free(shown);
    free(twice);
    conf_release(&again);
    conf_release(&c);
}

static void mistakes_are_named(void **state)
{
    static const struct {
        const char *text;
        const char *say[3];
    } cases[] = {
        {"[tcp]\nlisen = x\n", {"x.ini:2", "'lisen'", "'listen'"}},
        {"[tpc]\nlisten = 127.0.0.1:1\n", {"x.ini:2", "[tpc]", "[tcp]"}},
        {"\n\n[tcp]\nsegment = 1 MiB\n", {"x.ini:4", "'segment' in [tcp]", "in [store]"}},
        {"[store]\nqqqqqqqqq = 1\n", {"'qqqqqqqqq'", "--help-config", NULL}},
        {"[store]\nsegment = 1 KiB\n", {"x.ini:2", "out of range", "1 MiB to 1 GiB"}},
        {"[store]\nsegment = 64 MB\n", {"not understood", "'64 MB'", "MiB"}},
        {"[store]\nsegment = -1\n", {"not understood", "-1", NULL}},
        {"[store]\nsegment =\n", {"not understood", NULL, NULL}},
        {"[store]\nsegment = 99999999999999999999\n", {"not understood", NULL, NULL}},
        {"[store]\nsegment = 18446744073709551615 TiB\n", {"not understood", NULL, NULL}},
        {"[tcp]\nheartbeat = 5 m\n", {"not understood", "min", NULL}},
        {"[tcp]\nunix_mode = 0689\n", {"not understood", "octal", NULL}},
        {"[log]\nlevel = loud\n", {"'loud'", "error, warning, notice", NULL}},
        {"[tcp]\nlisten = localhost\n", {"'localhost'", "HOST:PORT", NULL}},
        {"[tcp]\nlisten = ::1:7440\n", {"'::1:7440'", NULL, NULL}},
        {"[tcp]\nlisten = 127.0.0.1:70000\n", {"'127.0.0.1:70000'", NULL, NULL}},
        {"[tcp]\nlisten = a:1\nlisten = b:2\n", {"x.ini:3", "twice", NULL}},
        {"listen = a:1\n", {"x.ini:1", "before any [section]", NULL}},
        {"[tcp]\nnonsense\n", {"x.ini:2", "neither", NULL}},
        {"[tcp\n", {"x.ini:1", "neither", NULL}},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct conf c;
        start(&c);
        error[0] = 0;
        assert_false(parse(&c, cases[i].text));
        for (int j = 0; j < 3 && cases[i].say[j]; j++)
            if (!strstr(error, cases[i].say[j]))
                fail_msg("'%s' lacks '%s'", error, cases[i].say[j]);
        conf_release(&c);
    }
}

static void bytes_that_are_no_text(void **state)
{
    struct conf c;
    start(&c);
    assert_false(conf_parse(&c, "x.ini", "[tcp]\nunix = a\0b\n", 17, error));
    assert_non_null(strstr(error, "NUL"));
    char line[5000];
    memset(line, 'x', sizeof(line));
    memcpy(line, "[tcp]\nunix = ", 13);
    assert_false(conf_parse(&c, "x.ini", line, sizeof(line), error));
    assert_non_null(strstr(error, "x.ini:2: the line is longer"));
    assert_false(conf_read(&c, "/nonexistent/brokerd.ini", error));
    assert_non_null(strstr(error, "/nonexistent/brokerd.ini: No such file"));
    assert_false(conf_read(&c, "/", error));
    assert_false(conf_read(&c, "/dev/zero", error));
    assert_non_null(strstr(error, "larger than"));
    conf_release(&c);
}

static void addresses(void **state)
{
    char host[256], port[16];
    const char *list = " 127.0.0.1:7440, [::1]:0 *:1 :2 name.example:65535 ";
    static const char *const want[][2] = {
        {"127.0.0.1", "7440"}, {"::1", "0"}, {"*", "1"}, {"*", "2"}, {"name.example", "65535"}};
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(conf_next_address(&list, host, port, error), 1);
        assert_string_equal(host, want[i][0]);
        assert_string_equal(port, want[i][1]);
    }
    assert_int_equal(conf_next_address(&list, host, port, error), 0);
    static const char *const bad[] = {"a", "a:", "[::1:3", "::1]:3", "a:1x", "a:-1", "a:123456", "[]", ":"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        list = bad[i];
        assert_int_equal(conf_next_address(&list, host, port, error), -1);
    }
    char longest[600];
    memset(longest, 'a', 598);
    memcpy(longest + 595, ":1", 3);
    list = longest;
    assert_int_equal(conf_next_address(&list, host, port, error), -1);
}

static void options_must_fit_each_other(void **state)
{
    static const struct {
        const char *set[2];
        const char *say;
    } cases[] = {
        {{"limits.max_frame=1 MiB", NULL}, "limits.max_message"},
        {{"store.segment=1 MiB", NULL}, "store.segment"},
        {{"store.window=1 MiB", NULL}, "store.window"},
        {{"store.max_disk=128 MiB", NULL}, "four segments"},
        {{"broker.data_dir=", NULL}, "data_dir"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct conf c;
        start(&c);
        assert_true(conf_set(&c, cases[i].set[0], error));
        assert_false(conf_check(&c, error));
        assert_non_null(strstr(error, cases[i].say));
        conf_release(&c);
    }
}

#define ARGS(c, a, ...) args_of((c), (a), (const char *[]){"brokerd", __VA_ARGS__, NULL})
static bool args_of(struct conf *c, struct conf_args *a, const char **argv)
{
    int argc = 0;
    while (argv[argc])
        argc++;
    return conf_args(c, argc, (char **)(uintptr_t)argv, a, error);
}

static void the_command_line(void **state)
{
    struct conf c;
    struct conf_args a;
    char path[] = "/tmp/conf_test.XXXXXX";
    int fd = mkstemp(path);
    assert_int_equal(write(fd, "[tcp]\nlisten = 127.0.0.1:9\nunix = /from/file\n", 45), 45);
    close(fd);
    start(&c);
    assert_true(ARGS(&c, &a, "--listen", "a:1", "--data", "/d", "--listen=[::1]:2", "-c", path, "--set",
                     "tcp.heartbeat=0", "--port-file", "p", "--ready-file", "r"));
    assert_string_equal(c.tcp.listen, "a:1 [::1]:2"); /* the command line wins, wherever -c stands */
    assert_string_equal(c.tcp.unix_path, "/from/file");
    assert_string_equal(c.broker.data_dir, "/d");
    assert_int_equal(c.tcp.heartbeat_ms, 0);
    assert_int_equal(a.action, CONF_RUN);
    assert_string_equal(a.port_file, "p");
    assert_string_equal(a.ready_file, "r");
    unlink(path);
    assert_true(ARGS(&c, &a, "--fsck", "/dir", "--quarantine", "--json"));
    assert_int_equal(a.action, CONF_FSCK);
    assert_string_equal(a.fsck_dir, "/dir");
    assert_true(a.quarantine && a.json);
    assert_true(ARGS(&c, &a, "--check"));
    assert_int_equal(a.action, CONF_CHECK);
    assert_false(ARGS(&c, &a, "--json"));
    assert_false(ARGS(&c, &a, "--bogus"));
    assert_non_null(strstr(error, "--bogus"));
    assert_false(ARGS(&c, &a, "--data"));
    assert_non_null(strstr(error, "--data"));
    assert_false(ARGS(&c, &a, "stray"));
    assert_non_null(strstr(error, "stray"));
    assert_false(ARGS(&c, &a, "--set", "tcp.lisen=1"));
    assert_non_null(strstr(error, "listen"));
    assert_false(ARGS(&c, &a, "--set", "nonsense"));
    assert_false(ARGS(&c, &a, "-c", "/nonexistent"));
    conf_release(&c);
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    ini_path = argv[1];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_shipped_file_is_the_table),
        cmocka_unit_test(every_option_is_described_and_fits),
        cmocka_unit_test(values_have_units),
        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(bytes_that_are_no_text),
        cmocka_unit_test(addresses),
        cmocka_unit_test(options_must_fit_each_other),
        cmocka_unit_test(the_command_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
