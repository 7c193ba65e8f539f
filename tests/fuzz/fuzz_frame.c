/* Frame heads, publish ranges, names, and the CRC: fixed-size parts of the wire. */
#include "fuzz.h"
#include "wire.h"

static void heads(struct input *in)
{
    uint8_t bytes[FRAME_HEAD_BYTES] = {0}, again[FRAME_HEAD_BYTES];
    struct frame_head head;

    memcpy(bytes, in->bytes, in->len < sizeof(bytes) ? in->len : sizeof(bytes));
    broker_error e = frame_head_get(bytes, &head);
    CHECK(e == BROKER_OK || e == BROKER_MALFORMED);
    CHECK((e == BROKER_OK) == (get_u16(bytes + 6) == 0));
    if (e == BROKER_OK) {
        frame_head_put(again, &head);
        CHECK(memcmp(bytes, again, sizeof(bytes)) == 0);
    }
    CHECK(frame_type_name(bytes[4]) != NULL);
}

static void ranges(struct input *in)
{
    uint8_t bytes[PUBLISH_RANGE_BYTES] = {0}, again[PUBLISH_RANGE_BYTES];
    struct publish_range range;

    memcpy(bytes, in->bytes, in->len < sizeof(bytes) ? in->len : sizeof(bytes));
    publish_range_get(bytes, &range);
    publish_range_put(again, &range);
    CHECK(memcmp(bytes, again, sizeof(bytes)) == 0);
    CHECK(broker_strerror((broker_error)range.code) && broker_error_name((broker_error)range.code));
}

static void names(struct input *in)
{
    size_t len;
    uint8_t *name = input_copy(in, in->len, &len);

    if (name_is_valid((const char *)name, len)) {
        CHECK(len >= 1 && len <= NAME_MAX_BYTES && name[0] != '.');
        for (size_t i = 0; i < len; i++)
            CHECK(strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-", name[i]) && name[i]);
    }
    free(name);
}

static void sums(struct input *in)
{
    size_t cut = (size_t)input_number(in, 2);

    cut = cut < in->len ? cut : in->len;
    uint32_t whole = crc32c(0, in->bytes, in->len);
    CHECK(crc32c(crc32c(0, in->bytes, cut), in->bytes + cut, in->len - cut) == whole);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct input in = {bytes, len};
    switch (input_number(&in, 1) % 4) {
    case 0: heads(&in); break;
    case 1: ranges(&in); break;
    case 2: names(&in); break;
    default: sums(&in); break;
    }
    return 0;
}
