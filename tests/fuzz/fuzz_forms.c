/* What comes in as JSON or msgpack from anybody, and records that go out as either. */
#include "forms.h"
#include "fuzz.h"

/* What we write, everybody must be able to read. */
static void check_json(const struct buf *out)
{
    json_error_t error;
    json_t *value = json_loadb((const char *)out->bytes, out->len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    /* jansson has bounds of its own: integers over 2^63, names with a NUL. */
    if (!value && !strstr(error.text, "too big") && !strstr(error.text, "NUL byte")) {
        fprintf(stderr, "%.*s: %s\n", (int)out->len, (const char *)out->bytes, error.text);
        abort();
    }
    json_decref(value);
}

static void check_msgpack(const uint8_t *bytes, size_t len)
{
    msgpack_unpacked u;
    size_t offset = 0;
    msgpack_unpacked_init(&u);
    CHECK(msgpack_unpack_next(&u, (const char *)bytes, len, &offset) == MSGPACK_UNPACK_SUCCESS && offset == len);
    CHECK(u.data.type == MSGPACK_OBJECT_MAP);
    msgpack_unpacked_destroy(&u);
}

/* A record goes out by both forms. `record` may hold headers that nobody has looked at. */
static void out(const uint8_t *record)
{
    struct form_message m = {.record = record, .seq = UINT64_MAX, .receipt = UINT64_MAX, .attempt = UINT32_MAX};
    struct buf b;
    buf_init(&b, 0);
    CHECK(form_message_json(&b, &m));
    check_json(&b);
    buf_clear(&b);
    CHECK(form_message_msgpack(&b, &m));
    check_msgpack(b.bytes, b.len);
    buf_release(&b);
}

static void check_record(broker_error error, struct buf *records, const char *text)
{
    CHECK(error == BROKER_OK || error == BROKER_INVALID_ARGUMENT || error == BROKER_TOO_LARGE ||
          error == BROKER_NO_MEMORY);
    CHECK(strnlen(text, FORM_TEXT_BYTES) < FORM_TEXT_BYTES);
    if (error == BROKER_OK) {
        struct record_view v;
        CHECK(record_view_get(records->bytes, records->len, &v) == BROKER_OK && pad8(v.head.length) == records->len);
        out(records->bytes);
    } else {
        CHECK(records->len == 0 && text[0] != '\0');
    }
    buf_clear(records);
}

static void json(const uint8_t *bytes, size_t len)
{
    char text[FORM_TEXT_BYTES] = "";
    json_t *value = form_json_parse(bytes, len, text);
    struct buf records;
    msgpack_sbuffer packed;
    uint64_t receipt;
    if (!value) {
        CHECK(text[0] != '\0');
        return;
    }
    buf_init(&records, 0);
    msgpack_sbuffer_init(&packed);
    (void)form_receipt_json(value, &receipt);
    check_record(form_record_json(&records, value, text), &records, text);
    check_record(form_record_json_to(&records, value, "a.b", text), &records, text);
    CHECK(form_json_to_msgpack(&packed, value, text) == BROKER_OK);
    msgpack_unpacked u;
    size_t offset = 0;
    msgpack_unpacked_init(&u);
    msgpack_unpack_return r = msgpack_unpack_next(&u, packed.data, packed.size, &offset);
    if (r == MSGPACK_UNPACK_SUCCESS) { /* msgpack-c goes less deep */
        struct buf back;
        buf_init(&back, 0);
        CHECK(offset == packed.size && form_msgpack_to_json(&back, &u.data));
        json_t *again = json_loadb((const char *)back.bytes, back.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        CHECK(again && json_equal(again, value));
        json_decref(again);
        buf_release(&back);
    }
    msgpack_unpacked_destroy(&u);
    msgpack_sbuffer_destroy(&packed);
    buf_release(&records);
    json_decref(value);
}

static void packed(const uint8_t *bytes, size_t len)
{
    char text[FORM_TEXT_BYTES] = "";
    msgpack_unpacked u;
    size_t offset = 0;
    struct buf b;
    if (wire_skip(bytes, bytes + len) != bytes + len) /* as every way looks first */
        return;
    buf_init(&b, 0);
    msgpack_unpacked_init(&u);
    if (msgpack_unpack_next(&u, (const char *)bytes, len, &offset) == MSGPACK_UNPACK_SUCCESS) {
        check_record(form_record_msgpack(&b, &u.data, text), &b, text);
        check_record(form_record_msgpack_to(&b, &u.data, "a.b", text), &b, text);
        CHECK(form_msgpack_to_json(&b, &u.data));
        check_json(&b);
    }
    msgpack_unpacked_destroy(&u);
    buf_release(&b);
}

static bool count_header(void *count, const char *name, size_t name_len, const char *value, size_t value_len)
{
    (void)form_is_utf8(name, name_len);
    (void)form_is_utf8(value, value_len);
    return --*(int *)count > 0;
}

/* Times, then half as body and key, half as headers. */
static void any_record(struct input in)
{
    struct record_view v;
    struct record_spec spec = {.due_ms = input_number(&in, 8), .expire_ms = input_number(&in, 8)};
    size_t body_len, headers_len, half = in.len / 2;
    uint8_t *body = input_copy(&in, half, &body_len), *headers = input_copy(&in, in.len, &headers_len);
    int count = 20;
    spec.body = spec.key = spec.id = body;
    spec.body_len = body_len;
    spec.key_len = body_len % 100;
    spec.id_len = body_len % 50;
    spec.headers = headers;
    spec.headers_len = headers_len;
    uint32_t bytes = record_spec_bytes(&spec); /* 0: the headers begin as no map does */
    if (bytes > 0) {
        uint8_t *record = malloc(bytes);
        if (!record)
            abort();
        record_spec_put(record, &spec);
        out(record);
        CHECK(record_view_get(record, bytes, &v) == BROKER_OK);
        form_each_header(&v, count_header, &count);
        free(record);
    }
    free(body);
    free(headers);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct input in = {bytes, len};
    switch (input_number(&in, 1)) {
    case 0: json(in.bytes, in.len); break;
    case 1: packed(in.bytes, in.len); break;
    case 2: any_record(in); break;
    default: break;
    }
    return 0;
}
