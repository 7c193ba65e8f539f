/* Filters: what they match, their bytes, and hostile ones of both. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine_internal.h"

#define LENGTH(a) (sizeof(a) / sizeof((a)[0]))

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static struct filter *must(const broker_filter *from)
{
    broker_error error;
    const char *text;
    struct filter *f = filter_new(from, &error, &text);
    assert_int_equal(error, BROKER_OK);
    assert_null(text);
    assert_non_null(f);
    return f;
}

static void refused(const broker_filter *from)
{
    broker_error error;
    const char *text;
    assert_null(filter_new(from, &error, &text));
    assert_int_equal(error, BROKER_INVALID_ARGUMENT);
    assert_non_null(text);
}

/* Does `from` match a message with this key, topic and headers (msgpack)? */
static bool matches(const broker_filter *from, const char *key, const char *topic, const void *headers, size_t len)
{
    struct record_spec spec = {.body = "body",
                               .body_len = 4,
                               .key = key,
                               .key_len = key ? strlen(key) : 0,
                               .topic = topic,
                               .topic_len = topic ? strlen(topic) : 0,
                               .headers = headers,
                               .headers_len = len};
    uint32_t bytes = record_spec_bytes(&spec);
    uint8_t *record = malloc(bytes);
    struct record_view view;
    record_spec_put(record, &spec);
    assert_int_equal(record_view_get(record, bytes, &view), BROKER_OK);
    struct filter *f = must(from);
    bool yes = filter_matches(f, &view);
    filter_free(f);
    assert_true(filter_matches(NULL, &view));
    free(record);
    return yes;
}

static void of_nothing(void **state)
{
    broker_filter none = {.topic = NULL}, got = {.key = "x"};
    broker_error error = BROKER_INTERNAL;
    const char *text = "x";
    struct filter *f = NULL;
    struct buf out;

    assert_null(filter_new(&none, &error, &text));
    assert_int_equal(error, BROKER_OK);
    filter_get(NULL, &got);
    assert_null(got.key);
    assert_int_equal(got.header_count, 0);
    assert_true(filter_is_same(NULL, NULL));
    filter_free(NULL);
    buf_init(&out, 0);
    assert_true(filter_encode(NULL, &out));
    assert_int_equal(filter_decode(out.bytes, out.len, &f), out.len);
    assert_null(f);
    buf_release(&out);
}

static void keys_and_topics(void **state)
{
    broker_filter key = {.key = "k1"}, no_key = {.key = ""}, topic = {.topic = "a.*"},
                  both = {.topic = ">", .key = "k"};

    assert_true(matches(&key, "k1", NULL, NULL, 0));
    assert_false(matches(&key, "k", NULL, NULL, 0));
    assert_false(matches(&key, "k12", NULL, NULL, 0));
    assert_false(matches(&key, NULL, NULL, NULL, 0));
    assert_true(matches(&no_key, NULL, NULL, NULL, 0)); /* messages without a key */
    assert_false(matches(&no_key, "k", NULL, NULL, 0));
    assert_true(matches(&topic, NULL, "a.b", NULL, 0));
    assert_false(matches(&topic, NULL, "a.b.c", NULL, 0));
    assert_false(matches(&topic, NULL, NULL, NULL, 0));
    assert_true(matches(&both, "k", "x.y", NULL, 0));
    assert_false(matches(&both, "k", NULL, NULL, 0));
    assert_false(matches(&both, "x", "x.y", NULL, 0));
}

static void headers(void **state)
{
    const broker_header want[] = {{"type", "order"}, {"region", ""}};
    broker_filter both = {.headers = want, .header_count = 2}, one = {.headers = want, .header_count = 1};
#define HEADERS(text) (text), sizeof(text) - 1
    assert_true(matches(&both, NULL, NULL, HEADERS("\x82\xa4type\xa5order\xa6region\xa0")));
    assert_true(matches(&both, NULL, NULL, HEADERS("\x83\xa6region\xa0\xa1x\x01\xa4type\xd9\x05order")));
    assert_false(matches(&both, NULL, NULL, HEADERS("\x81\xa4type\xa5order")));
    assert_false(matches(&both, NULL, NULL, HEADERS("\x80")));
    assert_false(matches(&both, NULL, NULL, NULL, 0));
    assert_true(matches(&one, NULL, NULL, HEADERS("\x81\xa4type\xa5order")));
    assert_false(matches(&one, NULL, NULL, HEADERS("\x81\xa4type\xa5ordeR")));
    assert_false(matches(&one, NULL, NULL, HEADERS("\x81\xa4type\xa4orde")));
    assert_false(matches(&one, NULL, NULL, HEADERS("\x81\xa4type\x05")));
    assert_false(matches(&one, NULL, NULL, HEADERS("\x81\xa4type\xc4\x05order"))); /* binary is no text */
    /* Another program's headers: any key, any value, nested; the first of a name counts. */
    assert_true(matches(&one, NULL, NULL, HEADERS("\x83\x05\x92\x01\x02\xc0\x81\xa1z\xc3\xa4type\xa5order")));
    assert_true(matches(&one, NULL, NULL, HEADERS("\x82\xa4type\xa5order\xa4type\xa1x")));
    assert_false(matches(&one, NULL, NULL, HEADERS("\x82\xa4type\xa1x\xa4type\xa5order")));
}

static void malformed_headers(void **state)
{
    const broker_header want[] = {{"type", "order"}};
    broker_filter one = {.headers = want, .header_count = 1};
    static const char good[] = "\x82\xa1x\x92\x01\x02\xa4type\xa5order";

    assert_true(matches(&one, NULL, NULL, good, sizeof(good) - 1));
    for (size_t cut = 1; cut < sizeof(good) - 1; cut++)
        assert_false(matches(&one, NULL, NULL, good, cut));
    assert_false(matches(&one, NULL, NULL, HEADERS("\xdf\xff\xff\xff\xff\xa1x\x01")));
    assert_false(matches(&one, NULL, NULL, HEADERS("\x82\xc1\x01\xa4type\xa5order")));
    assert_false(matches(&one, NULL, NULL, HEADERS("\x81\xdb\xff\xff\xff\xfftype")));
}

static void what_is_no_filter(void **state)
{
    broker_header many[FILTER_HEADERS_MAX + 1];
    char *huge = malloc(200000), *key = malloc(65537);
    memset(huge, 'a', 199999);
    huge[199999] = 0;
    memset(key, 'a', 65536);
    key[65536] = 0;
    for (size_t i = 0; i < LENGTH(many); i++)
        many[i] = (broker_header){.name = "n", .value = "v"};
    refused(&(broker_filter){.topic = ""});
    refused(&(broker_filter){.topic = "a..b"});
    refused(&(broker_filter){.topic = huge});
    refused(&(broker_filter){.key = key});
    refused(&(broker_filter){.headers = many, .header_count = LENGTH(many)});
    refused(&(broker_filter){.headers = NULL, .header_count = 1});
    many[1].value = NULL;
    refused(&(broker_filter){.headers = many, .header_count = 2});
    many[1] = (broker_header){.name = "n", .value = huge};
    refused(&(broker_filter){.headers = many, .header_count = 2});
    key[65535] = 0;
    filter_free(must(&(broker_filter){.key = key}));
    many[1].value = "v";
    filter_free(must(&(broker_filter){.headers = many, .header_count = FILTER_HEADERS_MAX}));
    free(huge);
    free(key);
}

static void round_trip(const broker_filter *from)
{
    struct filter *f = must(from), *again = NULL, *shorter;
    struct buf out, second;
    broker_filter got;

    buf_init(&out, 0);
    buf_init(&second, 0);
    assert_true(filter_encode(f, &out));
    size_t len = out.len;
    assert_true(buf_append(&out, "what follows", 12));
    assert_int_equal(filter_decode(out.bytes, out.len, &again), len);
    assert_true(filter_is_same(f, again));
    filter_get(again, &got);
    assert_int_equal(got.header_count, from->header_count);
    for (size_t i = 0; i < got.header_count; i++) {
        assert_string_equal(got.headers[i].name, from->headers[i].name);
        assert_string_equal(got.headers[i].value, from->headers[i].value);
    }
    assert_true(filter_encode(again, &second));
    assert_int_equal(second.len, len);
    assert_memory_equal(second.bytes, out.bytes, len);
    for (size_t cut = 0; cut < len; cut++) {
        uint8_t *part = malloc(cut ? cut : 1);
        memcpy(part, out.bytes, cut);
        assert_int_equal(filter_decode(part, cut, &shorter), 0);
        assert_null(shorter);
        free(part);
    }
    buf_release(&out);
    buf_release(&second);
    filter_free(f);
    filter_free(again);
}

static void bytes(void **state)
{
    const broker_header some[] = {{"a", "1"}, {"", ""}, {"long name", "another value"}};
    round_trip(&(broker_filter){.topic = "a.*.>"});
    round_trip(&(broker_filter){.key = ""});
    round_trip(&(broker_filter){.key = "key"});
    round_trip(&(broker_filter){.headers = some, .header_count = 3});
    round_trip(&(broker_filter){.topic = ">", .key = "k", .headers = some, .header_count = 2});
}

static void same(void **state)
{
    const broker_header ab[] = {{"a", "1"}, {"b", "2"}}, ba[] = {{"b", "2"}, {"a", "1"}},
                        aa[] = {{"a", "1"}, {"a", "1"}};
    struct filter *f[] = {must(&(broker_filter){.headers = ab, .header_count = 2}),
                          must(&(broker_filter){.headers = ba, .header_count = 2}),
                          must(&(broker_filter){.headers = aa, .header_count = 2}),
                          must(&(broker_filter){.headers = ab, .header_count = 1}),
                          must(&(broker_filter){.key = ""}),
                          must(&(broker_filter){.key = "a"}),
                          must(&(broker_filter){.topic = "a"}),
                          NULL};
    static const int class[] = {0, 0, 1, 1, 2, 3, 4, 5}; /* saying a thing twice is saying it */
    for (size_t i = 0; i < LENGTH(f); i++)
        for (size_t j = 0; j < LENGTH(f); j++)
            assert_int_equal(filter_is_same(f[i], f[j]), class[i] == class[j]);
    for (size_t i = 0; i < LENGTH(f); i++)
        filter_free(f[i]);
}

static void decode_refuses(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
    } bad[] = {
        {HEADERS("\x04\0\0\0\0\0\0\0")},                               /* an unknown flag */
        {HEADERS("\0\0\1\0\0\0\0\0a")},                                /* a topic that is not said to be there */
        {HEADERS("\0\0\0\0\1\0\0\0a")},                                /* a key, the same */
        {HEADERS("\1\0\0\0\0\0\0\0")},                                 /* an empty pattern */
        {HEADERS("\1\0\2\0\0\0\0\0a.")},                               /* no pattern */
        {HEADERS("\2\0\0\0\2\0\0\0a\0")},                              /* a NUL */
        {HEADERS("\2\0\0\0\0\0\1\0")},                                 /* a key longer than keys are */
        {HEADERS("\0\x21\0\0\0\0\0\0")},                               /* too many headers */
        {HEADERS("\0\1\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff")}, /* lengths that are not there */
        {HEADERS("\0\1\0\0\0\0\0\0\1\0\0\0\1\0\0\0a\0")},              /* a NUL in a value */
    };
    struct filter *f;
    for (size_t i = 0; i < LENGTH(bad); i++) {
        assert_int_equal(filter_decode((const uint8_t *)bad[i].bytes, bad[i].len, &f), 0);
        assert_null(f);
    }
}

static void random_headers(void **state)
{
    uint64_t seed = 3;
    size_t hits = 0;

    for (int round = 0; round < 100000; round++) {
        bool a = next_random(&seed) % 4, b = next_random(&seed) % 4, x = next_random(&seed) % 2;
        const broker_header want[] = {{"a", a ? "1" : "0"}, {"b", b ? "1" : "0"}};
        uint8_t map[32] = {0x80};
        size_t len = 1;
        if (x)
            map[0]++,
                memcpy(map + len,
                       "\xa1x\x91\xa1"
                       "a",
                       5),
                len += 5;
        map[0]++,
            memcpy(map + len,
                   "\xa1"
                   "b\xa1"
                   "1",
                   4),
            len += 4;
        map[0]++,
            memcpy(map + len,
                   "\xa1"
                   "a\xa1"
                   "1",
                   4),
            len += 4;
        if (next_random(&seed) % 4 == 0) { /* whatever it becomes: no crash, and no match unless both are there */
            map[1 + next_random(&seed) % (len - 1)] = (uint8_t)next_random(&seed);
            matches(&(broker_filter){.headers = want, .header_count = 2}, NULL, NULL, map, len);
            continue;
        }
        bool yes = matches(&(broker_filter){.headers = want, .header_count = 2}, NULL, NULL, map, len);
        assert_int_equal(yes, a && b);
        hits += yes;
    }
    assert_true(hits > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_nothing),
        cmocka_unit_test(keys_and_topics),
        cmocka_unit_test(headers),
        cmocka_unit_test(malformed_headers),
        cmocka_unit_test(what_is_no_filter),
        cmocka_unit_test(bytes),
        cmocka_unit_test(same),
        cmocka_unit_test(decode_refuses),
        cmocka_unit_test(random_headers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
