/* Filters: their bytes as a log or a snapshot may hold them, and what they match against headers that anybody wrote. */
#include "buf.h"
#include "engine_internal.h"
#include "fuzz.h"

/* A filter from any bytes: refused, or as good as one made of what it says. */
static struct filter *decode(const uint8_t *bytes, size_t len)
{
    struct filter *f = NULL, *again = NULL;
    size_t used = filter_decode(bytes, len, &f);
    struct buf out;
    broker_filter got;
    broker_error error;
    const char *text;

    CHECK(used <= len && (used > 0 || !f));
    if (used == 0)
        return NULL;
    buf_init(&out, 0);
    CHECK(filter_encode(f, &out));
    CHECK(out.len == used && memcmp(out.bytes, bytes, used) == 0);
    buf_release(&out);
    filter_get(f, &got);
    again = filter_new(&got, &error, &text);
    CHECK(error == BROKER_OK && filter_is_same(f, again) && filter_is_same(again, f));
    filter_free(again);
    return f;
}

static void match(const struct filter *f, struct input *in)
{
    struct record_view view;
    size_t key_len = input_number(in, 1), topic_len = input_number(in, 1), n;
    struct record_spec spec = {.body = "b", .body_len = 1};
    uint8_t *key = input_copy(in, key_len, &n);
    spec.key = key;
    spec.key_len = n;
    uint8_t *topic = input_copy(in, topic_len, &n);
    spec.topic = topic;
    spec.topic_len = n < TOPIC_MAX_BYTES ? n : TOPIC_MAX_BYTES;
    spec.headers = in->bytes;
    spec.headers_len = in->len;
    uint32_t bytes = record_spec_bytes(&spec); /* 0: the headers begin as no map does */
    if (bytes > 0) {
        uint8_t *record = malloc(bytes);
        if (!record)
            abort();
        record_spec_put(record, &spec);
        CHECK(record_view_get(record, bytes, &view) == BROKER_OK);
        /* Headers at the end of memory of their own, so that ASan sees a read past them. */
        uint8_t *headers = malloc(spec.headers_len ? spec.headers_len : 1);
        if (!headers)
            abort();
        if (spec.headers_len)
            memcpy(headers, view.headers, spec.headers_len);
        view.headers = headers;
        bool matched = filter_matches(f, &view);
        CHECK(matched == filter_matches(f, &view));
        CHECK(filter_matches(NULL, &view));
        free(headers);
        free(record);
    }
    free(key);
    free(topic);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct input in = {bytes, len};
    size_t filter_len = input_number(&in, 2), n;
    uint8_t *encoded = input_copy(&in, filter_len, &n);
    struct filter *f = decode(encoded, n);
    match(f, &in);
    filter_free(f);
    free(encoded);
    return 0;
}
