/* brokerd.v1.msgpack: the same messages as msgpack, in binary frames. */
#include <string.h>

#include "frames.h"
#include "websocket_internal.h"

enum { VALUES_MAX = 1 << 18 }; /* of one message, as of one in JSON */

/* ---- in ------------------------------------------------------------------------------------------------------------- */

static bool read_msgpack(struct inbox *in, const uint8_t *bytes, size_t len, char text[TEXT_BYTES])
{
    size_t offset = 0;
    msgpack_zone_clear(&in->zone);
    if (wire_count(bytes, bytes + len, VALUES_MAX) == 0) {
        snprintf(text, TEXT_BYTES, "the message is not exactly one msgpack object of at most %d values", VALUES_MAX);
        return false;
    }
    msgpack_unpack_return r = msgpack_unpack((const char *)bytes, len, &offset, &in->zone, &in->root);
    if (r == MSGPACK_UNPACK_NOMEM_ERROR || r == MSGPACK_UNPACK_PARSE_ERROR) { /* it is well-formed: see wire_count */
        snprintf(text, TEXT_BYTES, "the message is nested too deep (over 32), or there is no memory for it");
        return false;
    }
    bool map = r == MSGPACK_UNPACK_SUCCESS && offset == len && in->root.type == MSGPACK_OBJECT_MAP;
    for (uint32_t i = 0; map && i < in->root.via.map.size; i++)
        map = in->root.via.map.ptr[i].key.type == MSGPACK_OBJECT_STR;
    if (!map)
        snprintf(text, TEXT_BYTES, "the message is no map with keys of text; send one, with an \"op\"");
    return map;
}

/* ---- out ------------------------------------------------------------------------------------------------------------ */

static void put_head(struct writer *w, uint8_t type, uint64_t value, unsigned bytes)
{
    uint8_t head[9] = {type};
    for (unsigned i = 0; i < bytes; i++)
        head[1 + i] = (uint8_t)(value >> (8 * (bytes - 1 - i)));
    w->failed = w->failed || !buf_append(w->out, head, 1 + bytes);
}

static void write_map(struct writer *w, uint32_t pairs)
{
    if (pairs < 16)
        put_head(w, (uint8_t)(0x80 | pairs), 0, 0);
    else
        put_head(w, 0xdf, pairs, 4);
}

static void write_array(struct writer *w, uint32_t count)
{
    if (count < 16)
        put_head(w, (uint8_t)(0x90 | count), 0, 0);
    else
        put_head(w, 0xdd, count, 4);
}

static void write_end(struct writer *w, char bracket) {}

static void write_text(struct writer *w, const char *text, size_t len)
{
    if (len < 32)
        put_head(w, (uint8_t)(0xa0 | len), 0, 0);
    else
        put_head(w, 0xdb, len, 4);
    w->failed = w->failed || !buf_append(w->out, text, len);
}

static void write_key(struct writer *w, const char *key)
{
    write_text(w, key, strlen(key));
}

static void write_u64(struct writer *w, uint64_t value)
{
    if (value < 0x80)
        put_head(w, (uint8_t)value, 0, 0);
    else if (value <= UINT32_MAX)
        put_head(w, 0xce, value, 4);
    else
        put_head(w, 0xcf, value, 8);
}

static void write_truth(struct writer *w, bool value)
{
    put_head(w, value ? 0xc3 : 0xc2, 0, 0);
}

static void write_message(struct writer *w, const struct form_message *m)
{
    w->failed = w->failed || !form_message_msgpack(w->out, m);
}

static void write_packed(struct writer *w, const msgpack_sbuffer *value)
{
    w->failed = w->failed || !buf_append(w->out, value->data, value->size);
}

/* The message's map, with two pairs before its own: its head is overwritten by the longer one's end. */
static bool put_delivery(struct buf *out, uint32_t sub, const struct form_message *m)
{
    uint8_t head[] = "\xde\0\0\xa2op\xa7message\xa3sub\xce\0\0\0";
    size_t at = out->len, before = sizeof(head) - 1;
    if (!buf_append(out, head, before) || !form_message_msgpack(out, m))
        return false;
    uint8_t *own = out->bytes + at + before;
    uint32_t pairs = *own & 0x0f;
    if ((*own & 0xf0) != 0x80) { /* more than 15 pairs: a head of three bytes */
        pairs = (uint32_t)(own[1] << 8 | own[2]);
        memmove(own + 1, own + 3, out->len - (at + before) - 3);
        out->len -= 2;
    }
    head[1] = (uint8_t)((pairs + 2) >> 8);
    head[2] = (uint8_t)(pairs + 2);
    for (int i = 0; i < 3; i++)
        head[before - 3 + (size_t)i] = (uint8_t)(sub >> (24 - 8 * i));
    memcpy(own - before, head, before);
    *own = (uint8_t)sub;
    return true;
}

const struct format ws_format_msgpack = {
    .protocol = "brokerd.v1.msgpack",
    .opcode = OPCODE_BINARY,
    .read = read_msgpack,
    .map = write_map,
    .array = write_array,
    .end = write_end,
    .key = write_key,
    .u64 = write_u64,
    .text = write_text,
    .truth = write_truth,
    .receipt = write_u64,
    .message = write_message,
    .packed = write_packed,
    .delivery = put_delivery,
};
