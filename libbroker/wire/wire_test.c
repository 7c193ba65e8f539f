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
               {9, 0x0c},
               {9, 0x80},
               {10, 10},
               {11, 15},
               {11, 17},
               {11, 255},
               {33, 0xff},
               {34, 1},
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

/* ---- control bodies -------------------------------------------------------------------------------------------------- */

static void map_reads_what_was_packed(void **state)
{
    msgpack_sbuffer sb;
    msgpack_packer pk;
    struct wire_map m;
    uint64_t n = 7;
    bool flag = false;
    const char *s = NULL;
    size_t len = 0;

    msgpack_sbuffer_init(&sb);
    msgpack_packer_init(&pk, &sb, msgpack_sbuffer_write);
    msgpack_pack_map(&pk, 5);
    pack_key_u64(&pk, "lease_ms", 30000);
    pack_key_bool(&pk, "on_send", true);
    pack_key_str(&pk, "queue", "orders", 6);
    pack_str(&pk, "unknown", 7); /* a newer peer's key */
    msgpack_pack_array(&pk, 2);
    msgpack_pack_nil(&pk);
    msgpack_pack_double(&pk, 1.5);
    pack_key_str(&pk, "empty", NULL, 0);

    assert_int_equal(wire_map_open(&m, (uint8_t *)sb.data, sb.size), BROKER_OK);
    assert_true(wire_map_u64(&m, "lease_ms", 1, 86400000, &n));
    assert_int_equal(n, 30000);
    assert_true(wire_map_bool(&m, "on_send", &flag));
    assert_true(flag);
    assert_true(wire_map_str(&m, "queue", 255, &s, &len));
    assert_int_equal(len, 6);
    assert_memory_equal(s, "orders", 6);
    assert_true(wire_map_str(&m, "empty", 255, &s, &len));
    assert_int_equal(len, 0);
    assert_true(wire_map_u64(&m, "absent", 1, 2, &n));
    assert_int_equal(n, 30000);
    assert_true(wire_map_has(&m, "unknown"));
    assert_false(wire_map_has(&m, "unknow"));
    assert_string_equal(m.error, "");
    wire_map_close(&m);
    msgpack_sbuffer_destroy(&sb);
}

static void map_says_what_is_wrong(void **state)
{
    static const uint8_t body[] = {0x84, 0xa1, 'n',  0xcd, 0x01, 0x2c, 0xa1, 'm', 0xff,
                                   0xa1, 's',  0xa3, 'a',  'b',  'c',  0xa1, 'b', 0x01};
    struct wire_map m;
    uint64_t n = 7;
    bool flag = false;
    const char *s = NULL;
    size_t len = 0;

    assert_int_equal(wire_map_open(&m, body, sizeof(body)), BROKER_OK);
    assert_false(wire_map_u64(&m, "n", 1, 100, &n));
    assert_string_equal(m.error, "\"n\" is 300; give a whole number from 1 to 100");
    assert_int_equal(n, 7);
    m.error[0] = '\0';
    assert_false(wire_map_u64(&m, "m", 1, 100, &n));
    assert_string_equal(m.error, "\"m\" is -1; give a whole number from 1 to 100");
    m.error[0] = '\0';
    assert_false(wire_map_u64(&m, "s", 1, 100, &n));
    assert_string_equal(m.error, "\"s\" is not a whole number; give one from 1 to 100");
    m.error[0] = '\0';
    assert_false(wire_map_str(&m, "s", 2, &s, &len));
    assert_string_equal(m.error, "\"s\" has 3 bytes; at most 2 are allowed");
    m.error[0] = '\0';
    assert_false(wire_map_str(&m, "n", 2, &s, &len));
    assert_string_equal(m.error, "\"n\" is not a string");
    m.error[0] = '\0';
    assert_false(wire_map_bool(&m, "b", &flag));
    assert_string_equal(m.error, "\"b\" is not a boolean; give true or false");
    wire_map_close(&m);
}

static void map_refuses(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
    } bad[] = {
        {"\xc0", 1},                                           /* nil */
        {"\x90", 1},                                           /* an array */
        {"\x80\x80", 2},                                       /* two maps */
        {"\x81", 1},                                           /* cut short */
        {"\x81\xa1k", 3},                                      /* value missing */
        {"\x81\x01\x01", 3},                                   /* key is a number */
        {"\x81\xa5k\x01", 4},                                  /* string longer than the body */
        {"\xc1", 1},                                           /* never used */
        {"\x81\xa1k\xc1", 4},                                  /* the same, inside */
        {"\xdf\xff\xff\xff\xff", 5},                           /* 2^32 - 1 pairs */
        {"\x81\xa1k\xdd\xff\xff\xff\xff", 8},                  /* 2^32 - 1 elements */
        {"\x81\xa1k\xdb\xff\xff\xff\xff", 8},                  /* 4 GiB of string */
        {"\x81\xa1k\xc9\xff\xff\xff\xff\x01", 9},              /* 4 GiB of extension */
        {"\x81\xa1k\x91\x91\x91\x91\x91\x91\x91\x91\x01", 12}, /* nine deep */
    };
    struct wire_map m;

    for (size_t i = 0; i < LENGTH(bad); i++) {
        uint8_t *exact = malloc(bad[i].len);
        memcpy(exact, bad[i].bytes, bad[i].len);
        assert_int_equal(wire_map_open(&m, exact, bad[i].len), BROKER_MALFORMED);
        assert_string_not_equal(m.error, "");
        assert_null(wire_map_find(&m, "k"));
        wire_map_close(&m);
        free(exact);
    }
    static const uint8_t eight_deep[] = {0x81, 0xa1, 'k', 0x91, 0x91, 0x91, 0x91, 0x91, 0x91, 0x91, 0x01};
    assert_int_equal(wire_map_open(&m, eight_deep, sizeof(eight_deep)), BROKER_OK);
    wire_map_close(&m);
    assert_int_equal(wire_map_open(&m, NULL, 0), BROKER_OK);
    assert_false(wire_map_has(&m, "k"));
    wire_map_close(&m);
}

/* A body of 3 MiB whose elements would take 100 times that as objects. */
static void map_bomb(void **state)
{
    size_t n = 3 << 20;
    uint8_t *body = malloc(n);
    struct wire_map m;

    memset(body, 0xc0, n);
    memcpy(body, "\x81\xa1k\xdd", 4);
    uint32_t elements = (uint32_t)(n - 8);
    for (int i = 0; i < 4; i++)
        body[4 + i] = (uint8_t)(elements >> (24 - 8 * i));
    assert_int_equal(wire_map_open(&m, body, n), BROKER_MALFORMED);
    wire_map_close(&m);
    free(body);
}

static void map_hostile_bytes(void **state)
{
    uint64_t seed = 4711;
    static const uint8_t frequent[] = {0x81, 0x82, 0xa1, 0x91, 0xde, 0xdc, 0xda,
                                       0xd9, 0xc4, 0xcf, 0xd3, 0xcb, 0xd8, 0xc7};
    uint64_t u;
    const char *s;
    size_t len;
    bool b;

    for (int round = 0; round < 200000; round++) {
        size_t n = next_random(&seed) % 48;
        uint8_t *body = malloc(n ? n : 1);
        for (size_t i = 0; i < n; i++) {
            uint64_t r = next_random(&seed);
            body[i] = r & 1 ? frequent[(r >> 8) % sizeof(frequent)] : (uint8_t)(r >> 8) % 8;
        }
        if (n > 3 && round % 2)
            memcpy(body, "\x81\xa1k", 3);
        struct wire_map m;
        if (wire_map_open(&m, body, n) == BROKER_OK) {
            wire_map_u64(&m, "k", 1, 10, &u);
            wire_map_bool(&m, "k", &b);
            wire_map_str(&m, "k", 10, &s, &len);
        }
        wire_map_close(&m);
        free(body);
    }
}

static void skip_walks_headers(void **state)
{
    static const uint8_t headers[] = {0x83, 0xa1, 'a',  0xa2, 'x',  'y',  0xa1, 'b',
                                      0x92, 0x01, 0xc0, 0x05, 0xd9, 0x01, 'z'};
    const uint8_t *end = headers + sizeof(headers), *p;
    const char *text = NULL;
    size_t len = 0;
    uint32_t pairs = 0;

    assert_ptr_equal(wire_skip(headers, end), end);
    assert_null(wire_skip(headers, end - 1));
    assert_null(wire_skip(end, end));
    p = wire_skip_map(headers, end, &pairs);
    assert_ptr_equal(p, headers + 1);
    assert_int_equal(pairs, 3);
    p = wire_skip_text(wire_skip_text(p, end, &text, &len), end, &text, &len);
    assert_int_equal(len, 2);
    assert_memory_equal(text, "xy", 2);
    p = wire_skip(wire_skip_text(p, end, &text, &len), end);
    assert_null(wire_skip_text(p, end, &text, &len)); /* a number is no text */
    p = wire_skip_text(wire_skip(p, end), end, &text, &len);
    assert_ptr_equal(p, end);
    assert_memory_equal(text, "z", 1);
    assert_null(wire_skip_map(headers + 1, end, &pairs));
    assert_null(wire_skip_text(end, end, &text, &len));
    assert_null(wire_skip_text(end - 3, end - 1, &text, &len));
}

static void error_body(void **state)
{
    msgpack_sbuffer sb;
    struct wire_map m;
    uint64_t code = 0, retry = 0;
    const char *s = NULL;
    size_t len = 0;

    msgpack_sbuffer_init(&sb);
    wire_error_put(&sb, BROKER_QUEUE_FULL, "queue \"a\" is full", "request", 250);
    assert_int_equal(wire_map_open(&m, (uint8_t *)sb.data, sb.size), BROKER_OK);
    assert_true(wire_map_u64(&m, "code", 1, 65535, &code));
    assert_true(wire_map_u64(&m, "retry_ms", 0, UINT32_MAX, &retry));
    assert_true(wire_map_str(&m, "scope", 16, &s, &len));
    assert_int_equal(code, BROKER_QUEUE_FULL);
    assert_int_equal(retry, 250);
    assert_int_equal(len, 7);
    wire_map_close(&m);
    msgpack_sbuffer_destroy(&sb);
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
        cmocka_unit_test(record_every_combination),
        cmocka_unit_test(record_spec_limits),
        cmocka_unit_test(record_refuses),
        cmocka_unit_test(record_flipped_bits_show),
        cmocka_unit_test(record_hostile_bytes),
        cmocka_unit_test(map_reads_what_was_packed),
        cmocka_unit_test(map_says_what_is_wrong),
        cmocka_unit_test(map_refuses),
        cmocka_unit_test(map_bomb),
        cmocka_unit_test(map_hostile_bytes),
        cmocka_unit_test(skip_walks_headers),
        cmocka_unit_test(error_body),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
