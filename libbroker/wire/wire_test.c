/* CRC, errors, frames, names, topics, records. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "wire.h"

#define LENGTH(a) (sizeof(a) / sizeof((a)[0]))

/* A small generator of its own, so that a failure repeats. */
static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* ---- CRC ---------------------------------------------------------------------------------------------------------- */

static void crc_known_values(void **state)
{
    uint8_t bytes[32];

    assert_int_equal(crc32c(0, "123456789", 9), 0xE3069283);
    assert_int_equal(crc32c(0, "", 0), 0);
    /* RFC 3720 appendix B.4 */
    memset(bytes, 0, 32);
    assert_int_equal(crc32c(0, bytes, 32), 0x8A9136AA);
    memset(bytes, 0xff, 32);
    assert_int_equal(crc32c(0, bytes, 32), 0x62A8AB43);
    for (int i = 0; i < 32; i++)
        bytes[i] = (uint8_t)i;
    assert_int_equal(crc32c(0, bytes, 32), 0x46DD794E);
}

static void crc_chains(void **state)
{
    uint8_t bytes[300];
    uint64_t seed = 7;

    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)next_random(&seed);
    for (size_t cut = 0; cut <= sizeof(bytes); cut++)
        assert_int_equal(crc32c(crc32c(0, bytes, cut), bytes + cut, sizeof(bytes) - cut),
                         crc32c(0, bytes, sizeof(bytes)));
}

/* ---- errors --------------------------------------------------------------------------------------------------------- */

static void error_texts(void **state)
{
    assert_string_equal(broker_error_name(BROKER_QUEUE_NOT_FOUND), "QUEUE_NOT_FOUND");
    assert_string_equal(broker_strerror(BROKER_QUEUE_NOT_FOUND), "no such queue");
    assert_true(broker_error_is_retryable(BROKER_OVERLOADED));
    assert_false(broker_error_is_retryable(BROKER_TOO_LARGE));
    assert_string_equal(broker_error_name((broker_error)9999), "UNKNOWN");
    assert_string_equal(broker_strerror((broker_error)9999), "unknown error");
    assert_false(broker_error_is_retryable((broker_error)9999));
}

/* ---- frames --------------------------------------------------------------------------------------------------------- */

static void frame_head_round_trip(void **state)
{
    static const uint8_t expected[FRAME_HEAD_BYTES] = {0x04, 0x03, 0x02, 0x01, 0x30, 0x01, 0,    0,
                                                       0x08, 0x07, 0x06, 0x05, 0x0c, 0x0b, 0x0a, 0x09};
    struct frame_head in = {
        .length = 0x01020304, .type = FRAME_PUBLISH, .flags = 1, .correlation = 0x05060708, .stream = 0x090a0b0c};
    struct frame_head out;
    uint8_t bytes[FRAME_HEAD_BYTES];

    frame_head_put(bytes, &in);
    assert_memory_equal(bytes, expected, sizeof(expected));
    assert_int_equal(frame_head_get(bytes, &out), BROKER_OK);
    assert_int_equal(out.length, in.length);
    assert_int_equal(out.type, in.type);
    assert_int_equal(out.flags, in.flags);
    assert_int_equal(out.correlation, in.correlation);
    assert_int_equal(out.stream, in.stream);
    bytes[7] = 1;
    assert_int_equal(frame_head_get(bytes, &out), BROKER_MALFORMED);
}

static void frame_names(void **state)
{
    assert_string_equal(frame_type_name(FRAME_PUBLISH), "PUBLISH");
    assert_string_equal(frame_type_name(FRAME_PUBLISH | FRAME_RESPONSE), "PUBLISH");
    assert_string_equal(frame_type_name(FRAME_ERROR), "ERROR");
    assert_string_equal(frame_type_name(0x7f), "?");
    static const struct {
        uint8_t type;
        const char *name;
    } more[] = {
        {FRAME_GROUP_ALTER, "GROUP_ALTER"}, {FRAME_BIND, "BIND"},
        {FRAME_UNBIND, "UNBIND"},           {FRAME_SCAN, "SCAN"},
        {FRAME_RESCHEDULE, "RESCHEDULE"},   {FRAME_PEEK, "PEEK"},
        {FRAME_TRANSACT, "TRANSACT"},       {FRAME_BACKUP_BEGIN, "BACKUP_BEGIN"},
        {FRAME_BACKUP_READ, "BACKUP_READ"}, {FRAME_BACKUP_END, "BACKUP_END"},
    };
    for (size_t i = 0; i < LENGTH(more); i++)
        assert_string_equal(frame_type_name(more[i].type), more[i].name);
    assert_string_equal(frame_type_name(0), "?");
}

static void publish_range_round_trip(void **state)
{
    struct publish_range in = {.first_seq = 1ull << 40,
                               .first_index = 3,
                               .count = 70000,
                               .code = BROKER_QUEUE_FULL,
                               .flags = PUBLISH_RANGE_DUPLICATE,
                               .retry_ms = 250};
    struct publish_range out;
    uint8_t bytes[PUBLISH_RANGE_BYTES];

    publish_range_put(bytes, &in);
    publish_range_get(bytes, &out);
    assert_int_equal(out.first_seq, in.first_seq);
    assert_int_equal(out.first_index, in.first_index);
    assert_int_equal(out.count, in.count);
    assert_int_equal(out.code, in.code);
    assert_int_equal(out.flags, in.flags);
    assert_int_equal(out.retry_ms, in.retry_ms);
}

static void names(void **state)
{
    char longest[NAME_MAX_BYTES + 1];

    memset(longest, 'a', sizeof(longest));
    assert_true(name_is_valid("orders.eu-1_X", 13));
    assert_true(name_is_valid("a", 1));
    assert_true(name_is_valid("-", 1));
    assert_true(name_is_valid(longest, NAME_MAX_BYTES));
    assert_false(name_is_valid(longest, NAME_MAX_BYTES + 1));
    assert_false(name_is_valid("", 0));
    assert_false(name_is_valid(".hidden", 7));
    assert_false(name_is_valid("a/b", 3));
    assert_false(name_is_valid("a b", 3));
    assert_false(name_is_valid("a\0b", 3));
    assert_false(name_is_valid("\xc3\xa4", 2));
}

/* ---- topics --------------------------------------------------------------------------------------------------------- */

static bool is_topic(const char *s)
{
    return topic_is_valid(s, strlen(s));
}

static bool is_pattern(const char *s)
{
    return topic_pattern_is_valid(s, strlen(s));
}

static bool matches(const char *pattern, const char *topic)
{
    return topic_matches(pattern, strlen(pattern), topic, strlen(topic));
}

static void topic_rules(void **state)
{
    static const char *const bad[] = {"", ".", "a.", ".a", "a..b", "a b", "a/b", "\xc3\xa4", "a.b\n"};
    char longest[TOPIC_MAX_BYTES + 1], tokens[2 * TOPIC_MAX_TOKENS + 1];

    assert_true(is_topic("a"));
    assert_true(is_topic("orders.eu-1.created_at.09"));
    for (size_t i = 0; i < LENGTH(bad); i++) {
        assert_false(is_topic(bad[i]));
        assert_false(is_pattern(bad[i]));
    }
    assert_false(topic_is_valid("a\0b", 3));
    memset(longest, 'a', sizeof(longest));
    assert_true(topic_is_valid(longest, TOPIC_MAX_BYTES));
    assert_false(topic_is_valid(longest, TOPIC_MAX_BYTES + 1));
    for (size_t i = 0; i < sizeof(tokens); i++)
        tokens[i] = i % 2 ? '.' : 'a';
    assert_true(topic_is_valid(tokens, 2 * TOPIC_MAX_TOKENS - 1));
    assert_false(topic_is_valid(tokens, 2 * TOPIC_MAX_TOKENS + 1));
}

static void topic_pattern_rules(void **state)
{
    assert_true(is_pattern("a.b"));
    assert_true(is_pattern("*"));
    assert_true(is_pattern(">"));
    assert_true(is_pattern("a.*.b.>"));
    assert_true(is_pattern("*.*"));
    assert_false(is_topic("*"));
    assert_false(is_topic("a.>"));
    assert_false(is_pattern(">.a"));
    assert_false(is_pattern("a.>.b"));
    assert_false(is_pattern("a*"));
    assert_false(is_pattern("a.b>"));
    assert_false(is_pattern("**"));
}

static void topic_matching(void **state)
{
    static const struct {
        const char *pattern, *topic;
        bool matches;
    } cases[] = {
        {"a", "a", true},           {"a", "b", false},
        {"a", "a.b", false},        {"a.b", "a", false},
        {"a.b", "a.b", true},       {"ab", "a.b", false},
        {"a.b", "ab", false},       {"*", "a", true},
        {"*", "a.b", false},        {"*.b", "a.b", true},
        {"a.*", "a.b", true},       {"a.*", "a", false},
        {"a.*.c", "a.b.c", true},   {"a.*.c", "a.b.b.c", false},
        {">", "a", true},           {">", "a.b.c", true},
        {"a.>", "a", false},        {"a.>", "a.b", true},
        {"a.>", "a.b.c", true},     {"a.>", "ab.c", false},
        {"*.>", "a", false},        {"*.>", "a.b", true},
        {"a.b.c", "a.b", false},    {"a.b", "a.b.c", false},
        {"orders", "order", false}, {"order", "orders", false},
        {"a.*.>", "a.b.c.d", true}, {"a.*.>", "a.b", false},
        {"a", "", false},           {">", "", false},
        {"*", "", false},           {"", "a", false},
    };
    for (size_t i = 0; i < LENGTH(cases); i++) {
        if (matches(cases[i].pattern, cases[i].topic) != cases[i].matches)
            fail_msg("'%s' and '%s'", cases[i].pattern, cases[i].topic);
    }
}

/* A pattern and a topic token by token, the slow way. */
static bool matches_slowly(const char *pattern, const char *topic)
{
    size_t p = strcspn(pattern, "."), t = strcspn(topic, ".");
    if (p == 1 && *pattern == '>')
        return true;
    if (!(p == 1 && *pattern == '*') && (p != t || memcmp(pattern, topic, p) != 0))
        return false;
    if (!pattern[p] || !topic[t])
        return !pattern[p] && !topic[t];
    return matches_slowly(pattern + p + 1, topic + t + 1);
}

static void topic_random(void **state)
{
    uint64_t seed = 5;
    size_t hits = 0;

    for (int round = 0; round < 100000; round++) {
        char pattern[16], topic[16];
        size_t pn = 1 + next_random(&seed) % 9, tn = 1 + next_random(&seed) % 9;
        for (size_t i = 0; i < pn; i++)
            pattern[i] = i % 2 ? '.' : "aab*>"[next_random(&seed) % 5];
        for (size_t i = 0; i < tn; i++)
            topic[i] = i % 2 && next_random(&seed) % 8 ? '.' : "aab"[next_random(&seed) % 3];
        pattern[pn] = topic[tn] = '\0';
        if (!is_pattern(pattern) || !is_topic(topic))
            continue;
        bool expected = matches_slowly(pattern, topic);
        hits += expected;
        if (matches(pattern, topic) != expected)
            fail_msg("'%s' and '%s'", pattern, topic);
    }
    assert_true(hits > 1000);
}

/* ---- records -------------------------------------------------------------------------------------------------------- */

static uint8_t *make_record(const struct record_spec *spec, uint32_t *bytes)
{
    *bytes = record_spec_bytes(spec);
    assert_int_not_equal(*bytes, 0);
    uint8_t *record = malloc(*bytes); /* of just the size, so that AddressSanitizer sees a step too far */
    assert_non_null(record);
    record_spec_put(record, spec);
    return record;
}

static void record_every_combination(void **state)
{
    static const uint8_t headers[] = {0x81, 0xa1, 'h', 0xa1, 'v'};
    struct record_view v;

    for (unsigned mask = 0; mask < 64; mask++) {
        struct record_spec spec = {.body = "hello", .body_len = mask & 1 ? 5 : 0, .priority = (uint8_t)(mask % 10)};
        if (mask & 2)
            spec.key = "key", spec.key_len = 3;
        if (mask & 4)
            spec.headers = headers, spec.headers_len = sizeof(headers);
        if (mask & 8)
            spec.due_ms = 1234567890123;
        if (mask & 16)
            spec.expire_ms = 2234567890123;
        if (mask & 32)
            spec.producer = 0xfeedface12345678, spec.number = 42;
        else
            spec.id = "order-1", spec.id_len = mask & 1 ? 7 : 0;
        uint32_t bytes;
        uint8_t *record = make_record(&spec, &bytes);
        assert_int_equal(bytes % 8, 0);
        assert_int_equal(record_padded(record), bytes);
        for (uint32_t i = record_length(record); i < bytes; i++)
            assert_int_equal(record[i], 0);
        assert_int_equal(record_view_get(record, bytes, &v), BROKER_OK);
        assert_int_equal(v.head.priority, spec.priority);
        assert_int_equal(v.due_ms, spec.due_ms);
        assert_int_equal(v.expire_ms, spec.expire_ms);
        assert_int_equal(v.body_len, spec.body_len);
        assert_memory_equal(v.body, "hello", v.body_len);
        assert_int_equal(v.head.key_len, spec.key_len);
        assert_memory_equal(v.key, "key", v.head.key_len);
        assert_int_equal(v.head.headers_len, spec.headers_len);
        assert_memory_equal(v.headers, headers, v.head.headers_len);
        if (mask & 32) {
            assert_int_equal(v.head.id_len, 16);
            assert_true(v.head.flags & RECORD_ID_PRODUCER);
            assert_int_equal(get_u64(v.id), spec.producer);
            assert_int_equal(get_u64(v.id + 8), 42);
        } else {
            assert_int_equal(v.head.id_len, spec.id_len);
            assert_memory_equal(v.id, "order-1", v.head.id_len);
        }
        record_seal(record);
        assert_true(record_intact(record, bytes));
        free(record);
    }
}

/* Topic, message id behind the producer's numbers, and times that are told from acceptance. */
static void record_more_combinations(void **state)
{
    for (unsigned mask = 0; mask < 256; mask++) {
        struct record_spec spec = {.body = "b", .body_len = 1, .key = "k", .key_len = mask & 1};
        struct record_view v;
        if (mask & 2)
            spec.topic = "orders.eu", spec.topic_len = 9;
        if (mask & 4)
            spec.id = "id-17", spec.id_len = 5;
        if (mask & 8)
            spec.producer = 77, spec.number = 1ull << 40;
        spec.due_ms = mask & 16 ? 5000 : 0;
        spec.expire_ms = mask & 32 ? 6000 : 0;
        spec.due_is_delay = spec.by_topic = mask & 64;
        spec.expire_is_ttl = mask & 128;
        uint32_t bytes;
        uint8_t *record = make_record(&spec, &bytes);
        assert_int_equal(record_view_get(record, bytes, &v), BROKER_OK);
        assert_int_equal(v.head.topic_len, spec.topic_len);
        assert_memory_equal(v.topic, "orders.eu", v.head.topic_len);
        assert_ptr_equal(v.topic, v.key + v.head.key_len);
        assert_ptr_equal(v.headers, v.topic + v.head.topic_len);
        assert_int_equal(v.message_id_len, spec.id_len);
        if (mask & 4)
            assert_memory_equal(v.message_id, "id-17", 5);
        else
            assert_null(v.message_id);
        assert_int_equal(v.producer, spec.producer);
        assert_int_equal(v.number, spec.number);
        assert_int_equal(v.head.id_len, (mask & 8 ? 16 : 0) + spec.id_len);
        assert_int_equal(v.due_ms, spec.due_ms);
        assert_int_equal(v.expire_ms, spec.expire_ms);
        assert_int_equal(!!(v.head.flags & RECORD_BY_TOPIC), spec.by_topic);
        assert_int_equal(!!(v.head.flags & RECORD_DUE_IS_DELAY), spec.due_is_delay && spec.due_ms);
        assert_int_equal(!!(v.head.flags & RECORD_EXPIRE_IS_TTL), spec.expire_is_ttl && spec.expire_ms);
        free(record);
    }
}

static void record_spec_limits(void **state)
{
    uint8_t not_a_map[] = {0xc0};
    struct record_spec spec = {.body = "x", .body_len = RECORD_MAX_BYTES - RECORD_HEAD_BYTES};

    assert_int_equal(record_spec_bytes(&spec), RECORD_MAX_BYTES);
    spec.body_len++;
    assert_int_equal(record_spec_bytes(&spec), 0);
    spec.body_len = SIZE_MAX;
    assert_int_equal(record_spec_bytes(&spec), 0);
    spec = (struct record_spec){.key_len = 65535};
    assert_int_not_equal(record_spec_bytes(&spec), 0);
    spec.key_len++;
    assert_int_equal(record_spec_bytes(&spec), 0);
    spec = (struct record_spec){.id_len = 256};
    assert_int_equal(record_spec_bytes(&spec), 0);
    spec = (struct record_spec){.id_len = 255};
    char id[255] = {0};
    spec.id = id;
    assert_int_not_equal(record_spec_bytes(&spec), 0);
    spec.producer = 1; /* takes 16 of them */
    assert_int_equal(record_spec_bytes(&spec), 0);
    spec.id_len = 240;
    assert_int_equal(record_spec_bytes(&spec), 0);
    spec.id_len = 239;
    assert_int_not_equal(record_spec_bytes(&spec), 0);
    spec = (struct record_spec){.topic_len = 255};
    assert_int_not_equal(record_spec_bytes(&spec), 0);
    spec.topic_len++;
    assert_int_equal(record_spec_bytes(&spec), 0);
    spec = (struct record_spec){.priority = 10};
    assert_int_equal(record_spec_bytes(&spec), 0);
    spec = (struct record_spec){.headers = not_a_map, .headers_len = 1};
    assert_int_equal(record_spec_bytes(&spec), 0);
}

static void record_refuses(void **state)
{
    static const uint8_t headers[] = {0x80};
    struct record_spec spec = {.body = "body",
                               .body_len = 4,
                               .key = "k",
                               .key_len = 1,
                               .headers = headers,
                               .headers_len = 1,
                               .producer = 1,
                               .number = 1};
    struct record_view v;
    uint32_t bytes;
    uint8_t *good = make_record(&spec, &bytes);
    uint8_t *r = malloc(bytes);
    uint32_t length = record_length(good);

    assert_int_equal(record_view_get(good, length, &v), BROKER_OK);
    for (uint32_t available = 0; available < length; available++) {
        uint8_t *part = malloc(available ? available : 1);
        memcpy(part, good, available);
        assert_int_equal(record_view_get(part, available, &v), BROKER_MALFORMED);
        assert_false(record_intact(part, available));
        free(part);
    }
    const struct {
        size_t at;
        uint8_t value;
    } bad[] = {{0, 39},
               {3, 0xff},
               {8, RECORD_SETTLE},
               {8, 0},
               {9, 0x14}, /* a delay, or a time to live, that is not there */
               {9, 0x24},
               {9, 0x44},
               {9, 0x84},
               {10, 10},
               {11, 15},
               {11, 17},
               {11, 255},
               {33, 0xff},
               {34, 10},
               {35, 1},
               {36, 200},
               {39, 0xff},
               {RECORD_HEAD_BYTES + 17, 0xc0},
               {RECORD_HEAD_BYTES + 17, 0x90}};
    for (size_t i = 0; i < LENGTH(bad); i++) {
        memcpy(r, good, bytes);
        r[bad[i].at] = bad[i].value;
        assert_int_equal(record_view_get(r, bytes, &v), BROKER_MALFORMED);
    }
    free(r);
    free(good);
    /* A producer's id of 15 bytes, in a record that is right in everything else. */
    spec = (struct record_spec){.body = "body", .body_len = 4, .producer = 1, .number = 1};
    r = make_record(&spec, &bytes);
    r[11] = 15;
    assert_int_equal(record_view_get(r, bytes, &v), BROKER_MALFORMED);
    free(r);
}

static void record_flipped_bits_show(void **state)
{
    struct record_spec spec = {.body = "a body of some bytes", .body_len = 20, .key = "k", .key_len = 1};
    uint32_t bytes;
    uint8_t *r = make_record(&spec, &bytes);

    record_seal(r);
    for (uint32_t bit = 0; bit < record_length(r) * 8; bit++) {
        r[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_false(record_intact(r, bytes));
        r[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_true(record_intact(r, bytes));
    free(r);
}

/* Whatever the bytes: no read outside, and a view that stays inside. */
static void record_hostile_bytes(void **state)
{
    uint64_t seed = 99;
    struct record_view v;

    for (int round = 0; round < 200000; round++) {
        size_t n = next_random(&seed) % 160;
        uint8_t *r = malloc(n ? n : 1);
        for (size_t i = 0; i < n; i++)
            r[i] = (uint8_t)next_random(&seed);
        if (n >= RECORD_HEAD_BYTES) { /* likely enough to get past the first checks */
            put_u32(r, (uint32_t)(next_random(&seed) % (n + 8)));
            r[8] = RECORD_MESSAGE;
            r[9] &= 0x07;
            r[10] %= 11;
            put_u16(r + 34, 0);
            if (next_random(&seed) % 2) {
                put_u16(r + 32, (uint16_t)(r[32] % 64));
                put_u32(r + 36, r[36] % 64);
                r[11] = r[9] & RECORD_ID_PRODUCER ? 16 : r[11] % 64;
            }
        }
        record_intact(r, n);
        if (record_view_get(r, n, &v) == BROKER_OK) {
            assert_true(v.head.length <= n);
            assert_ptr_equal(v.body + v.body_len, r + v.head.length);
            assert_true(v.id >= r + RECORD_HEAD_BYTES && v.body >= v.id);
        }
        free(r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc_known_values),
        cmocka_unit_test(crc_chains),
        cmocka_unit_test(error_texts),
        cmocka_unit_test(frame_head_round_trip),
        cmocka_unit_test(frame_names),
        cmocka_unit_test(publish_range_round_trip),
        cmocka_unit_test(names),
        cmocka_unit_test(topic_rules),
        cmocka_unit_test(topic_pattern_rules),
        cmocka_unit_test(topic_matching),
        cmocka_unit_test(topic_random),
        cmocka_unit_test(record_every_combination),
        cmocka_unit_test(record_more_combinations),
        cmocka_unit_test(record_spec_limits),
        cmocka_unit_test(record_refuses),
        cmocka_unit_test(record_flipped_bits_show),
        cmocka_unit_test(record_hostile_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
