/* Control bodies and headers: msgpack from peers that may be hostile. */
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

static void map_gives_text(void **state)
{
    /* {"s": "abc", "e": "", "z": "a\0b", "n": 1}: "s" is followed by no NUL */
    static const uint8_t body[] = {0x84, 0xa1, 's',  0xa3, 'a', 'b', 'c',  0xa1, 'e', 0xa0,
                                   0xa1, 'z',  0xa3, 'a',  0,   'b', 0xa1, 'n',  0x01};
    struct wire_map m;
    const char *s = "before";

    assert_int_equal(wire_map_open(&m, body, sizeof(body)), BROKER_OK);
    assert_true(wire_map_text(&m, "absent", 10, &s));
    assert_string_equal(s, "before");
    assert_true(wire_map_text(&m, "s", 3, &s));
    assert_string_equal(s, "abc");
    const char *e = NULL;
    assert_true(wire_map_text(&m, "e", 3, &e));
    assert_string_equal(e, "");
    assert_string_equal(s, "abc"); /* still there */
    assert_false(wire_map_text(&m, "s", 2, &s));
    assert_string_equal(m.error, "\"s\" has 3 bytes; at most 2 are allowed");
    m.error[0] = '\0';
    assert_false(wire_map_text(&m, "z", 3, &s));
    assert_string_equal(m.error, "\"z\" has a NUL byte in it; give text without");
    m.error[0] = '\0';
    assert_false(wire_map_text(&m, "n", 3, &s));
    assert_string_equal(m.error, "\"n\" is not a string");
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
        cmocka_unit_test(map_reads_what_was_packed),
        cmocka_unit_test(map_says_what_is_wrong),
        cmocka_unit_test(map_gives_text),
        cmocka_unit_test(map_refuses),
        cmocka_unit_test(map_bomb),
        cmocka_unit_test(map_hostile_bytes),
        cmocka_unit_test(skip_walks_headers),
        cmocka_unit_test(error_body),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
