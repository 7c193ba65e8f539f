/* Control bodies: msgpack maps from anybody, against depth and size bombs too. */
#include "fuzz.h"
#include "wire.h"

static void look_up(struct wire_map *m)
{
    static const char *const keys[] = {"queue", "code", "text", "lease_ms", "limit", "features", "on_send"};

    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        uint64_t number = 7;
        bool truth = false;
        const char *text = NULL;
        size_t text_len = 0;
        m->error[0] = '\0';
        if (!wire_map_u64(m, keys[i], 1, 1000, &number))
            CHECK(m->error[0] != '\0' && wire_map_has(m, keys[i]) && number == 7);
        CHECK(number >= 1 && number <= 1000);
        m->error[0] = '\0';
        if (!wire_map_bool(m, keys[i], &truth))
            CHECK(m->error[0] != '\0');
        m->error[0] = '\0';
        if (!wire_map_str(m, keys[i], NAME_MAX_BYTES, &text, &text_len))
            CHECK(m->error[0] != '\0' && !text);
        CHECK(text_len <= NAME_MAX_BYTES);
        if (text)
            (void)name_is_valid(text, text_len);
        CHECK(strnlen(m->error, sizeof(m->error)) < sizeof(m->error));
        CHECK(wire_map_has(m, keys[i]) == (wire_map_find(m, keys[i]) != NULL));
    }
}

static void read_map(const uint8_t *bytes, size_t len)
{
    struct wire_map m;
    broker_error e = wire_map_open(&m, bytes, len);

    CHECK(e == BROKER_OK || e == BROKER_MALFORMED || e == BROKER_NO_MEMORY);
    if (e != BROKER_OK)
        CHECK(m.error[0] != '\0');
    if (e == BROKER_OK || !m.map)
        look_up(&m);
    wire_map_close(&m);
}

/* What we write ourselves can be read, whatever the text is. */
static void error_body(struct input *in)
{
    msgpack_sbuffer out;
    struct wire_map m;
    uint64_t code = 0, wanted = input_number(in, 2);
    char text[200];
    const char *read = NULL;
    size_t len = in->len < sizeof(text) - 1 ? in->len : sizeof(text) - 1, read_len = 0;

    memcpy(text, in->bytes, len);
    text[len] = '\0';
    msgpack_sbuffer_init(&out);
    wire_error_put(&out, (broker_error)wanted, text, "request", 5);
    CHECK(wire_map_open(&m, (const uint8_t *)out.data, out.size) == BROKER_OK);
    CHECK(wire_map_u64(&m, "code", 0, 65535, &code) && code == wanted);
    CHECK(wire_map_str(&m, "text", sizeof(text), &read, &read_len) && read && read_len == strlen(text));
    CHECK(memcmp(read, text, read_len) == 0);
    wire_map_close(&m);
    msgpack_sbuffer_destroy(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct input in = {bytes, len};
    if (len > 0 && bytes[0] == 0xc1) { /* no msgpack begins so */
        input_number(&in, 1);
        error_body(&in);
    } else {
        read_map(bytes, len);
    }
    return 0;
}
