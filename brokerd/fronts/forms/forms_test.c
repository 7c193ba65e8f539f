/* Messages out and in again, by both forms: what goes in comes out, and what is wrong is told by name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "forms_internal.h"

/* ---- what the tests share ------------------------------------------------------------------------------------------------ */

/* A record as the store has it: accepted, sealed. */
static uint8_t *stored(struct record_spec spec, uint64_t time_ms)
{
    uint32_t bytes = record_spec_bytes(&spec);
    assert_true(bytes > 0);
    uint8_t *record = malloc(bytes);
    assert_non_null(record);
    record_spec_put(record, &spec);
    put_u64(record + 24, time_ms);
    record_seal(record);
    return record;
}

static const char *text_of(struct buf *b)
{
    assert_true(buf_put_u8(b, 0));
    return (const char *)b->bytes;
}

static void assert_json(struct record_spec spec, uint64_t receipt, const char *expected)
{
    uint8_t *record = stored(spec, 1795545130123);
    struct buf out;
    buf_init(&out, 0);
    struct form_message m = {.record = record, .seq = 7, .receipt = receipt, .attempt = 2};
    assert_true(form_message_json(&out, &m));
    assert_string_equal(text_of(&out), expected);
    buf_release(&out);
    free(record);
}

#define PARSE(text) parse(text, sizeof(text) - 1)
static json_t *parse(const char *text, size_t len)
{
    char error[FORM_TEXT_BYTES] = "";
    json_t *value = form_json_parse(text, len, error);
    if (!value)
        fail_msg("%s", error);
    return value;
}

static void refuses_text(const char *text, size_t len, const char *why)
{
    char error[FORM_TEXT_BYTES] = "";
    json_t *value = form_json_parse(text, len, error);
    assert_null(value);
    if (!strstr(error, why))
        fail_msg("\"%s\" does not say \"%s\"", error, why);
}
#define REFUSES(text, why) refuses_text(text, sizeof(text) - 1, why)

static struct record_view view_of(struct buf *records)
{
    struct record_view v;
    assert_true(records->len > 0);
    assert_int_equal(record_view_get(records->bytes, records->len, &v), BROKER_OK);
    assert_int_equal(records->len, pad8(v.head.length));
    return v;
}

static void record_of(struct buf *records, const char *message, size_t len)
{
    char error[FORM_TEXT_BYTES] = "";
    json_t *value = parse(message, len);
    buf_init(records, 0);
    if (form_record_json(records, value, error) != BROKER_OK)
        fail_msg("%s", error);
    json_decref(value);
}
#define RECORD(records, message) record_of(records, message, sizeof(message) - 1)

static void refuses_message(const char *message, size_t len, broker_error error, const char *why)
{
    char text[FORM_TEXT_BYTES] = "";
    struct buf records;
    json_t *value = parse(message, len);
    buf_init(&records, 0);
    assert_int_equal(form_record_json(&records, value, text), error);
    assert_int_equal(records.len, 0);
    if (!strstr(text, why))
        fail_msg("\"%s\" does not say \"%s\"", text, why);
    json_decref(value);
    buf_release(&records);
}
#define REFUSES_MESSAGE(message, why) refuses_message(message, sizeof(message) - 1, BROKER_INVALID_ARGUMENT, why)

static bool list_header(void *list, const char *name, size_t name_len, const char *value, size_t value_len)
{
    return buf_append(list, name, name_len) && buf_append(list, "=", 1) && buf_append(list, value, value_len) &&
           buf_append(list, ";", 1);
}

static void assert_headers(const struct record_view *v, const char *expected)
{
    struct buf list;
    buf_init(&list, 0);
    form_each_header(v, list_header, &list);
    assert_string_equal(text_of(&list), expected);
    buf_release(&list);
}

/* ---- out ------------------------------------------------------------------------------------------------------------------ */

static void messages_are_told_as_the_command_line_does(void **state)
{
    assert_json((struct record_spec){.body = "hello", .body_len = 5}, 0,
                "{\"seq\":7,\"time\":\"2026-11-24T18:32:10.123Z\",\"time_ms\":1795545130123,\"body\":\"hello\"}");
    assert_json((struct record_spec){.body = "b",
                                     .body_len = 1,
                                     .key = "k",
                                     .key_len = 1,
                                     .topic = "a.b",
                                     .topic_len = 3,
                                     .id = "order-1",
                                     .id_len = 7,
                                     .priority = 9,
                                     .due_ms = 951782400000,
                                     .expire_ms = 4102444799999,
                                     .headers = "\x81\xa1h\xa1v",
                                     .headers_len = 5,
                                     .producer = 5,
                                     .number = 6},
                UINT64_MAX,
                "{\"seq\":7,\"time\":\"2026-11-24T18:32:10.123Z\",\"time_ms\":1795545130123,\"attempt\":2,"
                "\"receipt\":\"18446744073709551615\",\"topic\":\"a.b\",\"id\":\"order-1\",\"priority\":9,"
                "\"due\":\"2000-02-29T00:00:00.000Z\",\"due_ms\":951782400000,"
                "\"expires\":\"2099-12-31T23:59:59.999Z\",\"expire_ms\":4102444799999,\"key\":\"k\","
                "\"headers\":{\"h\":\"v\"},\"body\":\"b\"}");
}

static void bytes_that_are_no_text_are_base64(void **state)
{
    assert_json(
        (struct record_spec){
            .body = "\xff\0\xfe", .body_len = 3, .key = "\xc3", .key_len = 1, .id = "\xed\xa0\x80\x01", .id_len = 4},
        0,
        "{\"seq\":7,\"time\":\"2026-11-24T18:32:10.123Z\",\"time_ms\":1795545130123,"
        "\"id_base64\":\"7aCAAQ==\",\"key_base64\":\"ww==\",\"body_base64\":\"/wD+\"}");
}

static void times_beyond_the_calendar_are_numbers_only(void **state)
{
    assert_json((struct record_spec){.due_ms = YEAR_9999_MS, .expire_ms = YEAR_9999_MS + 1}, 0,
                "{\"seq\":7,\"time\":\"2026-11-24T18:32:10.123Z\",\"time_ms\":1795545130123,"
                "\"due\":\"9999-12-31T23:59:59.999Z\",\"due_ms\":253402300799999,\"expire_ms\":253402300800000,"
                "\"body\":\"\"}");
}

/* Headers of another program: values that are no text, names that are none, a name twice, and an end that is missing. */
static void headers_of_any_kind_are_told(void **state)
{
    static const char headers[] = "\x88\xa1s\xa1v"
                                  "\x01\xa1x"
                                  "\xa1n\xcd\x01\x00"
                                  "\xa1"
                                  "f\xcb\x3f\xb9\x99\x99\x99\x99\x99\x9a"
                                  "\xa1m\x82\x07\x92\xc3\xc0\xc4\x01\xff\xc2"
                                  "\xa1"
                                  "b\xc4\x02\xff\x00"
                                  "\xa1s\xa1\xff"
                                  "\xa1"
                                  "e\xa5zz";
    struct record_spec spec = {.headers = headers, .headers_len = sizeof(headers) - 1};
    assert_json(spec, 0,
                "{\"seq\":7,\"time\":\"2026-11-24T18:32:10.123Z\",\"time_ms\":1795545130123,\"headers\":{\"s\":\"v\","
                "\"n\":256,\"f\":0.1,\"m\":{\"7\":[true,null],\"/w==\":false},\"b\":\"/wA=\",\"s\":\"\xef\xbf\xbd\"},"
                "\"body\":\"\"}");
    uint8_t *record = stored(spec, 1);
    struct record_view v;
    assert_int_equal(record_view_get(record, record_padded(record), &v), BROKER_OK);
    assert_headers(&v, "s=v;n=256;f=0.1;m={\"7\":[true,null],\"/w==\":false};b=\"/wA=\";s=\xff;");
    free(record);
}

static void assert_string(const char *text, size_t len, const char *expected)
{
    struct buf out;
    buf_init(&out, 0);
    assert_true(form_json_string(&out, text, len));
    assert_string_equal(text_of(&out), expected);
    size_t bytes;
    assert_int_equal(form_json_text_bytes(text, len), strlen(expected) - 2);
    assert_int_equal(form_json_text_fits(text, len, &bytes), form_is_utf8(text, len));
    assert_int_equal(bytes, form_is_utf8(text, len) ? strlen(expected) - 2 : 0);
    buf_release(&out);
}

static void strings_are_escaped(void **state)
{
    assert_string("", 0, "\"\"");
    assert_string("0123456789abcdefg", 17, "\"0123456789abcdefg\"");
    assert_string("\0\x1f\x7f\"\\\b\f\n\r\t/", 11, "\"\\u0000\\u001f\\u007f\\\"\\\\\\b\\f\\n\\r\\t/\"");
    assert_string("0123456\x7f"
                  "89abcdef",
                  16, "\"0123456\\u007f89abcdef\"");
    assert_string("0123456\n89\"bcdef", 16, "\"0123456\\n89\\\"bcdef\"");
    assert_string("0123456789abcdef\"0123456789abcdef", 33, "\"0123456789abcdef\\\"0123456789abcdef\"");
    assert_string("0123456789abcd\xf0\x9f\x98\x80xyz", 21, "\"0123456789abcd\xf0\x9f\x98\x80xyz\""); /* across 16 */
    assert_string("0123456789abcd\xf0\x9f\x98", 17, "\"0123456789abcd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
    assert_string("\xc0\x80\xf4\x90\x80\x80\xed\xbf\xbf", 9,
                  "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"
                  "\xef\xbf\xbd\"");
}

/* Every string of two bytes, and each byte at each place of a longer one: what jansson reads back is what went in. */
static void strings_read_back(void **state)
{
    struct buf out;
    buf_init(&out, 0);
    for (unsigned n = 0; n < 65536 + 256 * 40; n++) {
        char text[40];
        size_t len = n < 65536 ? 2 : sizeof(text), at = n < 65536 ? 0 : (n - 65536) % sizeof(text);
        memset(text, 'x', sizeof(text));
        text[at] = n < 65536 ? (char)(n >> 8) : (char)((n - 65536) / sizeof(text));
        if (n < 65536)
            text[1] = (char)n;
        buf_clear(&out);
        assert_true(form_json_string(&out, text, len));
        json_t *value = json_loadb((char *)out.bytes, out.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        assert_non_null(value);
        if (form_is_utf8(text, len)) {
            assert_int_equal(json_string_length(value), len);
            assert_memory_equal(json_string_value(value), text, len);
        }
        json_decref(value);
    }
    buf_release(&out);
}

static void times_agree_with_the_library(void **state)
{
    for (uint64_t ms = 0; ms < YEAR_9999_MS; ms += 86400000ull * 13 + 12345678) {
        uint8_t text[TIME_BYTES + 1];
        char expected[TIME_BYTES + 1];
        struct tm tm;
        time_t seconds = (time_t)(ms / 1000);
        *form_time_put(text, ms) = 0;
        assert_non_null(gmtime_r(&seconds, &tm));
        size_t n = strftime(expected, sizeof(expected), "%Y-%m-%dT%H:%M:%S", &tm);
        snprintf(expected + n, sizeof(expected) - n, ".%03uZ", (unsigned)(ms % 1000));
        assert_string_equal((char *)text, expected);
    }
}

static void numbers_and_base64_are_appended(void **state)
{
    struct buf out;
    buf_init(&out, 0);
    assert_true(form_json_u64(&out, 0) && form_put(&out, ",") && form_json_u64(&out, UINT64_MAX) &&
                form_put(&out, ",") && form_base64(&out, "", 0) && form_base64(&out, "f", 1) &&
                form_base64(&out, "fo", 2) && form_base64(&out, "foo", 3) && form_base64(&out, "foobar", 6));
    assert_string_equal(text_of(&out), "0,18446744073709551615,Zg==Zm8=Zm9vZm9vYmFy");
    buf_release(&out);
}

static void base64_is_read_strictly(void **state)
{
    static const char *const bad[] = {
        "Zg=", "Zg", "Zg==Zg==", "Z===", "====", "Zm8=\n", "Zm 8", "Zh==", "Zm9=", "Zm9-", "\xff\xff\xff\xff"};
    uint8_t bytes[256], out[256];
    char text[400];
    size_t len;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (form_base64_get(out, &len, bad[i], strlen(bad[i])))
            fail_msg("\"%s\" was taken", bad[i]);
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i * 37);
    for (size_t n = 0; n <= sizeof(bytes); n++) {
        uint8_t *end = form_base64_put((uint8_t *)text, bytes, n);
        assert_int_equal(end - (uint8_t *)text, BASE64_BYTES(n));
        assert_true(form_base64_get(out, &len, text, BASE64_BYTES(n)));
        assert_int_equal(len, n);
        assert_memory_equal(out, bytes, n);
    }
}

/* ---- in ------------------------------------------------------------------------------------------------------------------- */

static void a_message_is_read(void **state)
{
    struct buf records;
    RECORD(&records, "{\"body\":\"a\\u0000b\",\"key\":\"k\",\"topic\":\"a.b\",\"id\":\"order-1\",\"priority\":3,"
                     "\"delay_ms\":5000,\"ttl_ms\":60000,\"headers\":{\"h\":\"v\",\"g\":\"\xc3\xa9\"}}");
    struct record_view v = view_of(&records);
    assert_int_equal(v.body_len, 3);
    assert_memory_equal(v.body, "a\0b", 3);
    assert_int_equal(v.head.key_len, 1);
    assert_memory_equal(v.topic, "a.b", 3);
    assert_memory_equal(v.message_id, "order-1", 7);
    assert_int_equal(v.head.priority, 3);
    assert_int_equal(v.due_ms, 5000);
    assert_int_equal(v.expire_ms, 60000);
    assert_int_equal(v.head.flags, RECORD_HAS_DUE | RECORD_DUE_IS_DELAY | RECORD_HAS_EXPIRE | RECORD_EXPIRE_IS_TTL);
    assert_headers(&v, "h=v;g=\xc3\xa9;");
    buf_release(&records);
    RECORD(&records, "{\"body_base64\":\"/wD+\",\"key_base64\":\"ww==\",\"id_base64\":\"/w==\",\"at_ms\":1795545130123,"
                     "\"headers\":null,\"topic\":null}");
    v = view_of(&records);
    assert_memory_equal(v.body, "\xff\0\xfe", 3);
    assert_memory_equal(v.key, "\xc3", 1);
    assert_memory_equal(v.message_id, "\xff", 1);
    assert_int_equal(v.due_ms, 1795545130123);
    assert_int_equal(v.head.flags, RECORD_HAS_DUE);
    assert_int_equal(v.head.headers_len + v.head.topic_len, 0);
    buf_release(&records);
    RECORD(&records, "{}");
    v = view_of(&records);
    assert_int_equal(v.head.length, RECORD_HEAD_BYTES);
    buf_release(&records);
}

static void a_body_that_is_json_is_stored_compact(void **state)
{
    struct buf records;
    RECORD(&records, "{\"body_json\": { \"a\" : [ 1, 0.1, 1.0, 1e300, -5, true, null, \"\\u0000\\\"\" ] }, "
                     "\"headers\":{\"h\":\"v\"}}");
    struct record_view v = view_of(&records);
    static const char body[] = "{\"a\":[1,0.1,1.0,1e+300,-5,true,null,\"\\u0000\\\"\"]}";
    assert_int_equal(v.body_len, sizeof(body) - 1);
    assert_memory_equal(v.body, body, sizeof(body) - 1);
    assert_headers(&v, "h=v;content-type=application/json;");
    buf_release(&records);
    RECORD(&records, "{\"body_json\":null,\"headers\":{\"Content-Type\":\"application/vnd.x+json\"}}");
    v = view_of(&records);
    assert_memory_equal(v.body, "null", 4);
    assert_headers(&v, "Content-Type=application/vnd.x+json;");
    buf_release(&records);
}

static void what_is_wrong_is_named(void **state)
{
    REFUSES_MESSAGE("[]", "not an object");
    REFUSES_MESSAGE("{\"bdy\":\"x\"}", "no key \"bdy\"; known are body, body_base64");
    REFUSES_MESSAGE("{\"\":\"x\"}", "no key \"\"");
    REFUSES_MESSAGE("{\"body\":1}", "\"body\" is not a string");
    REFUSES_MESSAGE("{\"body\":\"\",\"body_json\":1}", "two of \"body\"");
    REFUSES_MESSAGE("{\"key\":\"\",\"key_base64\":\"\"}", "two of \"key\"");
    REFUSES_MESSAGE("{\"id\":\"a\",\"id_base64\":\"Zg==\"}", "two of \"id\"");
    REFUSES_MESSAGE("{\"body_base64\":\"Zg\"}", "\"body_base64\" is not base64");
    REFUSES_MESSAGE("{\"body_base64\":5}", "\"body_base64\" is not a string of base64");
    REFUSES_MESSAGE("{\"priority\":10}", "\"priority\" is 10; give a whole number from 0 to 9");
    REFUSES_MESSAGE("{\"priority\":-1}", "\"priority\" is not a whole number");
    REFUSES_MESSAGE("{\"priority\":1.0}", "\"priority\" is not a whole number");
    REFUSES_MESSAGE("{\"priority\":\"1\"}", "\"priority\" is not a whole number");
    REFUSES_MESSAGE("{\"delay_ms\":9223372036854775807}", "\"delay_ms\" is 9223372036854775807");
    REFUSES_MESSAGE("{\"delay_ms\":1,\"at_ms\":1}", "\"delay_ms\" and \"at_ms\"");
    REFUSES_MESSAGE("{\"ttl_ms\":true}", "\"ttl_ms\"");
    REFUSES_MESSAGE("{\"headers\":[]}", "\"headers\" is not an object");
    REFUSES_MESSAGE("{\"headers\":{\"n\":1}}", "the header \"n\" is not a string");
    REFUSES_MESSAGE("{\"topic\":\"a..b\"}", "\"a..b\" is no topic");
    REFUSES_MESSAGE("{\"topic\":\"\"}", "\"\" is no topic");
    REFUSES_MESSAGE("{\"id\":\"\"}", "an id of 0 bytes");
}

static void what_is_too_long_is_refused(void **state)
{
    char *message = malloc(70000);
    assert_non_null(message);
    int n = snprintf(message, 70000, "{\"id\":\"%0240d\"}", 1);
    refuses_message(message, (size_t)n, BROKER_INVALID_ARGUMENT, "an id of 240 bytes");
    n = snprintf(message, 70000, "{\"key\":\"%065536d\"}", 1);
    refuses_message(message, (size_t)n, BROKER_INVALID_ARGUMENT, "a key of 65536 bytes");
    n = snprintf(message, 70000, "{\"topic\":\"%0256d\"}", 1);
    refuses_message(message, (size_t)n, BROKER_INVALID_ARGUMENT, "is no topic");
    free(message);
    json_t *object = json_object(), *headers = json_object();
    for (int i = 0; i <= HEADERS_MAX; i++) {
        char name[16];
        snprintf(name, sizeof(name), "h%d", i);
        json_object_set_new(headers, name, json_string(""));
    }
    json_object_set_new(object, "headers", headers);
    char text[FORM_TEXT_BYTES];
    struct buf records;
    buf_init(&records, 0);
    assert_int_equal(form_record_json(&records, object, text), BROKER_INVALID_ARGUMENT);
    assert_string_equal(text, "message: 65536 headers; at most 65535 are allowed");
    json_object_del(headers, "h0");
    assert_int_equal(form_record_json(&records, object, text), BROKER_OK);
    buf_release(&records);
    buf_init(&records, 1000);
    assert_int_equal(form_record_json(&records, object, text), BROKER_TOO_LARGE);
    assert_non_null(strstr(text, "more than 1000 at once"));
    buf_release(&records);
    json_decref(object);
}

static void a_topic_that_is_published_to_goes_into_the_record(void **state)
{
    char text[FORM_TEXT_BYTES] = "";
    struct buf records;
    json_t *plain = PARSE("{\"body\":\"x\"}"), *same = PARSE("{\"topic\":\"a.b\"}"),
           *other = PARSE("{\"topic\":\"c\"}");
    buf_init(&records, 0);
    assert_int_equal(form_record_json_to(&records, plain, "a.b", text), BROKER_OK);
    struct record_view v = view_of(&records);
    assert_int_equal(v.head.flags, RECORD_BY_TOPIC);
    assert_int_equal(v.head.topic_len, 3);
    buf_clear(&records);
    assert_int_equal(form_record_json_to(&records, same, "a.b", text), BROKER_OK);
    buf_clear(&records);
    assert_int_equal(form_record_json_to(&records, other, "a.b", text), BROKER_INVALID_ARGUMENT);
    assert_string_equal(text, "message: its \"topic\" is \"c\", and it is published to \"a.b\"; give one");
    assert_int_equal(records.len, 0);
    buf_release(&records);
    json_decref(plain);
    json_decref(same);
    json_decref(other);
}

static void a_spec_with_headers_one_by_one(void **state)
{
    char text[FORM_TEXT_BYTES] = "", *long_value = malloc(5000);
    memset(long_value, 'v', 4999);
    long_value[4999] = 0;
    broker_header headers[] = {{"a", "1"}, {"long", long_value}};
    struct record_spec spec = {.body = "x", .body_len = 1, .key = "k", .key_len = 1};
    struct buf records;
    struct form_message m = {.seq = 1};
    for (size_t count = 0; count <= 2; count++) {
        buf_init(&records, 0);
        assert_int_equal(form_record(&records, &spec, headers, count, text), BROKER_OK);
        struct record_view v = view_of(&records);
        uint32_t pairs = 0;
        if (count > 0)
            assert_non_null(wire_skip_map(v.headers, v.headers + v.head.headers_len, &pairs));
        assert_int_equal(pairs, count);
        struct buf out;
        buf_init(&out, 0);
        m.record = records.bytes;
        assert_true(form_message_json(&out, &m));
        assert_int_equal(strstr(text_of(&out), "\"a\":\"1\"") != NULL, count > 0);
        assert_int_equal(strstr((char *)out.bytes, long_value) != NULL, count > 1);
        buf_release(&out);
        buf_release(&records);
    }
    spec.by_topic = true;
    buf_init(&records, 0);
    assert_int_equal(form_record(&records, &spec, headers, 1, text), BROKER_INVALID_ARGUMENT);
    assert_non_null(strstr(text, "no topic"));
    spec.by_topic = false;
    spec.priority = 10;
    assert_int_equal(form_record(&records, &spec, headers, 1, text), BROKER_INVALID_ARGUMENT);
    assert_non_null(strstr(text, "priority is 10"));
    spec.priority = 0;
    spec.body_len = RECORD_MAX_BYTES;
    assert_int_equal(form_record(&records, &spec, headers, 1, text), BROKER_TOO_LARGE);
    buf_release(&records);
    free(long_value);
}

/* ---- msgpack ----------------------------------------------------------------------------------------------------------- */

/* Out as msgpack, made into JSON: the same object as the JSON form, but for what is bin and the receipt. */
static void msgpack_tells_the_same(void **state)
{
    static const char headers[] = "\x83\xa1s\xa1v\xa1n\x05\xa1x\xa2\xff\xfe";
    uint8_t *record = stored((struct record_spec){.body = "\xff\0",
                                                  .body_len = 2,
                                                  .key = "\xc3",
                                                  .key_len = 1,
                                                  .topic = "a.b",
                                                  .topic_len = 3,
                                                  .id = "order-1",
                                                  .id_len = 7,
                                                  .priority = 9,
                                                  .due_ms = 951782400000,
                                                  .expire_ms = YEAR_9999_MS + 1,
                                                  .headers = headers,
                                                  .headers_len = sizeof(headers) - 1},
                             1795545130123);
    struct form_message m = {.record = record, .seq = 1ull << 40, .receipt = UINT64_MAX, .attempt = 200};
    struct buf out, json;
    msgpack_unpacked u;
    size_t offset = 0;
    buf_init(&out, 0);
    buf_init(&json, 0);
    assert_true(form_message_msgpack(&out, &m));
    msgpack_unpacked_init(&u);
    assert_int_equal(msgpack_unpack_next(&u, (char *)out.bytes, out.len, &offset), MSGPACK_UNPACK_SUCCESS);
    assert_int_equal(offset, out.len);
    assert_true(form_msgpack_to_json(&json, &u.data));
    assert_string_equal(text_of(&json),
                        "{\"seq\":1099511627776,\"time\":\"2026-11-24T18:32:10.123Z\",\"time_ms\":1795545130123,"
                        "\"attempt\":200,\"receipt\":18446744073709551615,\"topic\":\"a.b\",\"id\":\"order-1\","
                        "\"priority\":9,\"due\":\"2000-02-29T00:00:00.000Z\",\"due_ms\":951782400000,"
                        "\"expire_ms\":253402300800000,\"key\":\"ww==\",\"headers\":{\"s\":\"v\",\"n\":5,"
                        "\"x\":\"//4=\"},\"body\":\"/wA=\"}");
    msgpack_unpacked_destroy(&u);
    buf_release(&out);
    buf_release(&json);
    free(record);
}

/* What JSON says of a message, msgpack may say too: the same record comes of both. */
static void msgpack_is_read_by_the_same_table(void **state)
{
    static const char *const messages[] = {
        "{\"body\":\"b\",\"key\":\"k\",\"headers\":{\"a\":\"b\"},\"topic\":\"t\",\"id\":\"i\",\"priority\":1,"
        "\"at_ms\":5,\"ttl_ms\":6}",
        "{\"body_base64\":\"/w==\",\"key_base64\":\"/w==\",\"id_base64\":\"/w==\"}",
        "{\"body_json\":{\"a\":[1,2.5,null]}}",
        "{\"body\":null}",
        "{\"body\":1}",
        "{\"headers\":{\"a\":1}}",
        "{\"what\":1}",
        "[1]",
    };
    for (size_t i = 0; i < sizeof(messages) / sizeof(messages[0]); i++) {
        char text[FORM_TEXT_BYTES] = "", text2[FORM_TEXT_BYTES] = "";
        struct buf records, records2;
        msgpack_sbuffer packed;
        msgpack_unpacked u;
        size_t offset = 0;
        json_t *value = parse(messages[i], strlen(messages[i]));
        buf_init(&records, 0);
        buf_init(&records2, 0);
        msgpack_sbuffer_init(&packed);
        msgpack_unpacked_init(&u);
        assert_int_equal(form_json_to_msgpack(&packed, value, text), BROKER_OK);
        assert_int_equal(msgpack_unpack_next(&u, packed.data, packed.size, &offset), MSGPACK_UNPACK_SUCCESS);
        assert_int_equal(form_record_json(&records, value, text), form_record_msgpack(&records2, &u.data, text2));
        assert_string_equal(text, text2);
        assert_int_equal(records.len, records2.len);
        if (records.len)
            assert_memory_equal(records.bytes, records2.bytes, records.len);
        msgpack_unpacked_destroy(&u);
        msgpack_sbuffer_destroy(&packed);
        buf_release(&records);
        buf_release(&records2);
        json_decref(value);
    }
}

static void bytes_of_msgpack_are_taken_as_they_are(void **state)
{
    static const char message[] = "\x83\xa4"
                                  "body\xc4\x02\xff\x00\xa3key\xc4\x01\xfe\xa2id\xc4\x01\xfd";
    static const char bad[] = "\x81\x01\x01", bad_header[] = "\x81\xa7headers\x81\x01\xa1v";
    const struct {
        const char *bytes, *text;
        size_t len;
    } cases[] = {{message, "", sizeof(message) - 1},
                 {bad, "message: one of its keys is not a string", sizeof(bad) - 1},
                 {bad_header, "message: a header's name is not a string", sizeof(bad_header) - 1}};
    for (size_t i = 0; i < 3; i++) {
        char text[FORM_TEXT_BYTES] = "";
        struct buf records;
        msgpack_unpacked u;
        size_t offset = 0;
        buf_init(&records, 0);
        msgpack_unpacked_init(&u);
        assert_int_equal(msgpack_unpack_next(&u, cases[i].bytes, cases[i].len, &offset), MSGPACK_UNPACK_SUCCESS);
        assert_int_equal(form_record_msgpack(&records, &u.data, text), i ? BROKER_INVALID_ARGUMENT : BROKER_OK);
        assert_string_equal(text, cases[i].text);
        if (i == 0) {
            struct record_view v = view_of(&records);
            assert_int_equal(v.body_len, 2);
            assert_memory_equal(v.body, "\xff\0", 2);
            assert_memory_equal(v.key, "\xfe", 1);
            assert_memory_equal(v.message_id, "\xfd", 1);
        }
        msgpack_unpacked_destroy(&u);
        buf_release(&records);
    }
}

/* ---- JSON text ---------------------------------------------------------------------------------------------------------- */

static void json_is_read_strictly(void **state)
{
    REFUSES("", "no JSON: line 1");
    REFUSES("{\"a\":1,\"a\":2}", "duplicate object key");
    REFUSES("{\"a\":1}x", "end of file expected");
    REFUSES("{\"a\":1,}", "no JSON: line 1");
    REFUSES("{\n\"a\":\n[1,]}", "line 3");
    REFUSES("'a'", "no JSON");
    REFUSES("\"\xff\"", "no JSON");
    REFUSES("\"\\ud800\"", "no JSON");
    REFUSES("9223372036854775808", "too big integer");
    REFUSES("-9223372036854775809", "too big negative integer");
    REFUSES("1e999", "real number overflow");
    REFUSES("NaN", "no JSON");
    REFUSES("{\"a\\u0000b\":1}", "NUL byte in object key");
    REFUSES("{\"queue\":\"a\\u0000b\"}", "a NUL (\\u0000) in the string at \"queue\"");
    REFUSES("{\"a\":[{\"body\":\"\\u0000\"},[\"\\u0000\"]]}", "in the string at \"a\"");
    json_decref(PARSE("{\"body\":\"\\u0000\",\"data\":[\"\\u0000\"],\"a\":\"\\\\u0000\"}"));
    json_decref(PARSE(" 9223372036854775807 "));
}

static void json_is_bounded(void **state)
{
    char deep[300];
    for (int n = 64; n <= 65; n++) {
        memset(deep, '[', (size_t)n);
        memset(deep + n, ']', (size_t)n);
        if (n == 64)
            json_decref(parse(deep, 2 * (size_t)n));
        else
            refuses_text(deep, 2 * (size_t)n, "nested deeper than 64, at byte 64");
    }
    memset(deep, '[', 65); /* a bracket in a string is none */
    deep[0] = deep[66] = '"';
    deep[65] = '{';
    json_decref(parse(deep, 67));
    size_t len = 600001;
    char *wide = malloc(len);
    assert_non_null(wide);
    for (size_t i = 0; i < len; i++)
        wide[i] = i % 2 ? '1' : ',';
    wide[0] = '[';
    wide[len - 1] = ']';
    refuses_text(wide, len, "more than 262144 values");
    wide[2 * 262000] = ']';
    json_decref(parse(wide, 2 * 262000 + 1));
    free(wide);
}

/* JSON to msgpack and back is what it was, to the letter if it was compact. */
static void json_survives_msgpack(void **state)
{
    static const char *const texts[] = {
        "null",
        "true",
        "[]",
        "{}",
        "\"\"",
        "0",
        "-1",
        "9007199254740993",
        "9223372036854775807",
        "-9223372036854775808",
        "[0,127,128,255,256,65535,65536,4294967295,4294967296,-32,-33,-129,-32769]",
        "[0.1,1.5,-2.25,1e+300,1.0,0.30000000000000004,4.94065645841247e-324]",
        "{\"a\":{\"b\":[{\"c\":\"\xc3\xa9\\n\"}]},\"z\":[[[]]]}",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        char text[FORM_TEXT_BYTES] = "";
        json_t *value = parse(texts[i], strlen(texts[i]));
        msgpack_sbuffer packed;
        msgpack_unpacked u;
        size_t offset = 0;
        struct buf out;
        buf_init(&out, 0);
        msgpack_sbuffer_init(&packed);
        msgpack_unpacked_init(&u);
        assert_int_equal(form_json_to_msgpack(&packed, value, text), BROKER_OK);
        assert_int_equal(msgpack_unpack_next(&u, packed.data, packed.size, &offset), MSGPACK_UNPACK_SUCCESS);
        assert_true(form_msgpack_to_json(&out, &u.data));
        assert_string_equal(text_of(&out), texts[i]);
        msgpack_unpacked_destroy(&u);
        msgpack_sbuffer_destroy(&packed);
        buf_release(&out);
        json_decref(value);
    }
}

static void what_msgpack_has_and_json_has_not(void **state)
{
    static const char packed[] = "\x96\xcf\xff\xff\xff\xff\xff\xff\xff\xff"
                                 "\xca\x7f\xc0\x00\x00"
                                 "\xc4\x01\xff"
                                 "\xd4\x05\xff"
                                 "\x86\x05\x01\xc3\x02\xc0\x03\x91\x01\x04\x80\x05\xfb\x06"
                                 "\xa1\xff";
    msgpack_unpacked u;
    size_t offset = 0;
    struct buf out;
    buf_init(&out, 0);
    msgpack_unpacked_init(&u);
    assert_int_equal(msgpack_unpack_next(&u, packed, sizeof(packed) - 1, &offset), MSGPACK_UNPACK_SUCCESS);
    assert_true(form_msgpack_to_json(&out, &u.data));
    assert_string_equal(text_of(&out), "[18446744073709551615,null,\"/w==\",\"/w==\",{\"5\":1,\"true\":2,\"null\":3,"
                                       "\"[]\":4,\"{}\":5,\"-5\":6},\"\xef\xbf\xbd\"]");
    msgpack_unpacked_destroy(&u);
    buf_release(&out);
}

static void depth_is_bounded_both_ways(void **state)
{
    char text[FORM_TEXT_BYTES] = "";
    json_t *value = json_array();
    msgpack_object *objects = calloc(FORM_DEPTH_MAX + 2, sizeof(*objects));
    msgpack_sbuffer packed;
    struct buf out;
    assert_non_null(objects);
    msgpack_sbuffer_init(&packed);
    buf_init(&out, 0);
    for (int i = 0; i < FORM_DEPTH_MAX + 1; i++) {
        json_t *outer = json_array();
        json_array_append_new(outer, value);
        value = outer;
        objects[i].type = MSGPACK_OBJECT_ARRAY;
        objects[i].via.array.size = 1;
        objects[i].via.array.ptr = &objects[i + 1];
    }
    assert_int_equal(form_json_to_msgpack(&packed, value, text), BROKER_INVALID_ARGUMENT);
    assert_string_equal(text, "the JSON is nested deeper than 64");
    assert_int_equal(packed.size, 0);
    assert_false(form_json_value_put(&out, value));
    assert_true(form_put(&out, "x"));
    assert_false(form_msgpack_to_json(&out, objects));
    assert_true(form_msgpack_to_json(&out, objects + 2)); /* its innermost is nil */
    json_decref(value);
    msgpack_sbuffer_destroy(&packed);
    buf_release(&out);
    free(objects);
}

static void receipts_are_strings_or_numbers(void **state)
{
    static const struct {
        const char *text;
        uint64_t receipt; /* 0: refused */
    } cases[] = {{"\"18446744073709551615\"", UINT64_MAX},
                 {"\"18446744073709551616\"", 0},
                 {"\"99999999999999999999999\"", 0},
                 {"\"1\"", 1},
                 {"5", 5},
                 {"0", 0},
                 {"-1", 0},
                 {"\"0\"", 0},
                 {"\"\"", 0},
                 {"\"1x\"", 0},
                 {"\" 1\"", 0},
                 {"\"+1\"", 0},
                 {"1.0", 0},
                 {"null", 0}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t receipt = 0;
        json_t *value = parse(cases[i].text, strlen(cases[i].text));
        assert_int_equal(form_receipt_json(value, &receipt), cases[i].receipt != 0);
        if (cases[i].receipt)
            assert_true(receipt == cases[i].receipt);
        json_decref(value);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_are_told_as_the_command_line_does),
        cmocka_unit_test(bytes_that_are_no_text_are_base64),
        cmocka_unit_test(times_beyond_the_calendar_are_numbers_only),
        cmocka_unit_test(headers_of_any_kind_are_told),
        cmocka_unit_test(strings_are_escaped),
        cmocka_unit_test(strings_read_back),
        cmocka_unit_test(times_agree_with_the_library),
        cmocka_unit_test(numbers_and_base64_are_appended),
        cmocka_unit_test(base64_is_read_strictly),
        cmocka_unit_test(a_message_is_read),
        cmocka_unit_test(a_body_that_is_json_is_stored_compact),
        cmocka_unit_test(what_is_wrong_is_named),
        cmocka_unit_test(what_is_too_long_is_refused),
        cmocka_unit_test(a_topic_that_is_published_to_goes_into_the_record),
        cmocka_unit_test(a_spec_with_headers_one_by_one),
        cmocka_unit_test(msgpack_tells_the_same),
        cmocka_unit_test(msgpack_is_read_by_the_same_table),
        cmocka_unit_test(bytes_of_msgpack_are_taken_as_they_are),
        cmocka_unit_test(json_is_read_strictly),
        cmocka_unit_test(json_is_bounded),
        cmocka_unit_test(json_survives_msgpack),
        cmocka_unit_test(what_msgpack_has_and_json_has_not),
        cmocka_unit_test(depth_is_bounded_both_ways),
        cmocka_unit_test(receipts_are_strings_or_numbers),
    };
    return cmocka_run_group_tests_name("forms", tests, NULL, NULL);
}
