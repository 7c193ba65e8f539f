/* Frames one by one: what is taken, what is refused and with which code; each case whole, byte by byte, and cut at every place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <zlib.h>

#include "frames.h"

enum { MESSAGE_MAX = 1 << 17, PARTIAL_MAX = 1 << 19 };

static struct frames frames;

/* ---- frames by hand --------------------------------------------------------------------------------------------------- */

static uint8_t wire[1 << 19];
static size_t wire_len;

static void clear(void)
{
    wire_len = 0;
}

static void put(const void *bytes, size_t n)
{
    assert_true(wire_len + n <= sizeof(wire));
    if (n)
        memcpy(wire + wire_len, bytes, n);
    wire_len += n;
}

static void put_byte(unsigned byte)
{
    put(&(uint8_t){(uint8_t)byte}, 1);
}

/* The first byte, and a length in `extended` bytes of its own: 0, 2 or 8; -1: the shortest. */
static void frame_as(unsigned first, const void *payload, size_t n, int extended, bool masked)
{
    static const uint8_t key[4] = {0xa5, 0x00, 0xff, 0x3c};
    if (extended < 0)
        extended = n < 126 ? 0 : n < 65536 ? 2 : 8;
    put_byte(first);
    put_byte((masked ? 0x80 : 0) | (extended == 0 ? (unsigned)n : extended == 2 ? 126u : 127u));
    for (int i = extended - 1; i >= 0; i--)
        put_byte((unsigned)((uint64_t)n >> (8 * i)) & 0xff);
    if (masked)
        put(key, 4);
    for (size_t i = 0; i < n; i++)
        put_byte(((const uint8_t *)payload)[i] ^ (masked ? key[i % 4] : 0));
}

static void frame(unsigned first, const void *payload, size_t n)
{
    frame_as(first, payload, n, -1, true);
}

static void frame_text(unsigned first, const char *text)
{
    frame(first, text, strlen(text));
}

/* ---- what comes of them -------------------------------------------------------------------------------------------------- */

static char story[4096];
static size_t story_len;

__attribute__((format(printf, 1, 2))) static void tell(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    story_len += (size_t)vsnprintf(story + story_len, sizeof(story) - story_len, format, args);
    va_end(args);
}

static void tell_event(const struct frame_in *in)
{
    static const char *const names[] = {"more", "message", "ping", "pong", "close", "broken"};
    if (in->event == EVENT_MORE)
        return;
    tell("%s", names[in->event]);
    if (in->event == EVENT_MESSAGE)
        tell(in->opcode == OPCODE_TEXT ? " text" : " binary");
    if (in->event == EVENT_CLOSE || in->event == EVENT_BROKEN)
        tell(" %u", in->code);
    if (in->event != EVENT_BROKEN && in->len > 64)
        tell(" #%zu", in->len);
    else if (in->event != EVENT_BROKEN && in->len)
        tell(" %.*s", (int)in->len, (const char *)in->bytes);
    tell("; ");
}

/* Feed the pieces that end at `cuts`; each piece lies in memory of its own, so that a look beyond it is seen. */
static void feed(const size_t *cuts, size_t count, bool deflate)
{
    struct frame_state state = {.deflate = deflate};
    size_t from = 0;
    bool broken = false;
    story_len = 0;
    story[0] = '\0';
    for (size_t i = 0; i < count && !broken; i++) {
        size_t len = cuts[i] - from, used = 0;
        uint8_t *piece = malloc(len ? len : 1);
        memcpy(piece, wire + from, len);
        while (used < len && !broken) {
            struct frame_in in;
            used += frames_take(&frames, &state, piece + used, len - used, &in);
            tell_event(&in);
            broken = in.event == EVENT_BROKEN;
        }
        assert_true(broken || used == len);
        free(piece);
        from = cuts[i];
    }
    if (!broken && state.opcode)
        tell("incomplete; ");
    frame_state_release(&frames, &state);
    assert_int_equal(frames.partial_bytes, 0);
}

static void expect_as(const char *what, bool deflate)
{
    static size_t cuts[sizeof(wire)];
    cuts[0] = wire_len;
    feed(cuts, 1, deflate);
    assert_string_equal(story, what);
    for (size_t i = 0; i < wire_len; i++)
        cuts[i] = i + 1;
    feed(cuts, wire_len, deflate);
    assert_string_equal(story, what);
    size_t step = wire_len < 600 ? 1 : wire_len / 300;
    for (size_t at = 1; at < wire_len; at += step) {
        size_t two[] = {at, wire_len};
        feed(two, 2, deflate);
        assert_string_equal(story, what);
    }
}

static void expect(const char *what)
{
    expect_as(what, false);
    clear();
}

static int setup(void **state)
{
    clear();
    return !frames_init(&frames, MESSAGE_MAX, PARTIAL_MAX);
}

static int teardown(void **state)
{
    frames_release(&frames);
    return 0;
}

/* ---- messages ------------------------------------------------------------------------------------------------------------ */

static void test_lengths(void **state)
{
    static const size_t lengths[] = {0,    1,    64,   124,   125,   126,   127,        128,
                                     4095, 4096, 4097, 65534, 65535, 65536, MESSAGE_MAX};
    static uint8_t bytes[MESSAGE_MAX];
    char what[128];
    memset(bytes, 'x', sizeof(bytes));
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        for (unsigned opcode = OPCODE_TEXT; opcode <= OPCODE_BINARY; opcode++) {
            const char *kind = opcode == OPCODE_TEXT ? "text" : "binary";
            if (lengths[i] > 64)
                snprintf(what, sizeof(what), "message %s #%zu; ", kind, lengths[i]);
            else
                snprintf(what, sizeof(what), "message %s%s%.*s; ", kind, lengths[i] ? " " : "", (int)lengths[i],
                         (const char *)bytes);
            frame(0x80 | opcode, bytes, lengths[i]);
            expect(what);
        }
    }
}

static void test_payloads_are_unmasked(void **state)
{
    frame_text(0x81, "{\"op\":\"ping\",\"id\":1}");
    frame_text(0x82, "abcdefg");
    expect("message text {\"op\":\"ping\",\"id\":1}; message binary abcdefg; ");
}

static void test_fragments(void **state)
{
    frame_text(0x01, "Hel");
    frame_text(0x00, "");
    frame_text(0x00, "lo");
    frame_text(0x80, "!");
    frame_text(0x81, "next");
    expect("message text Hello!; message text next; ");
    frame_text(0x02, "");
    frame_text(0x00, "");
    frame_text(0x80, "");
    expect("message binary; ");
    frame_text(0x01, "a");
    expect("incomplete; ");
    /* A message cut at every place, and at two. */
    static const char text[] = "fragmentation";
    for (size_t i = 0; i <= sizeof(text) - 1; i++) {
        for (size_t j = i; j <= sizeof(text) - 1; j++) {
            frame(0x01, text, i);
            frame(0x00, text + i, j - i);
            frame(0x80, text + j, sizeof(text) - 1 - j);
            expect("message text fragmentation; ");
        }
    }
}

static void test_control_frames_between_fragments(void **state)
{
    frame_text(0x01, "Hel");
    frame_text(0x89, "are you there");
    frame_text(0x00, "l");
    frame_text(0x8a, "yes");
    frame_text(0x89, "");
    frame_text(0x80, "o");
    expect("ping are you there; pong yes; ping; message text Hello; ");
    frame_text(0x01, "Hel");
    frame(0x88, "\x03\xe8", 2);
    expect("close 1000; incomplete; ");
}

static void test_broken_order(void **state)
{
    frame_text(0x80, "nothing to go on with");
    expect("broken 1002; ");
    frame_text(0x00, "nothing to go on with");
    expect("broken 1002; ");
    frame_text(0x81, "whole");
    frame_text(0x80, "and more");
    expect("message text whole; broken 1002; ");
    frame_text(0x01, "begun");
    frame_text(0x81, "again");
    expect("broken 1002; ");
    frame_text(0x01, "begun");
    frame_text(0x82, "again");
    expect("broken 1002; ");
    frame_text(0x02, "begun");
    frame_text(0x02, "again");
    expect("broken 1002; ");
}

/* ---- heads --------------------------------------------------------------------------------------------------------------- */

static void test_reserved_bits(void **state)
{
    for (unsigned bits = 0x10; bits <= 0x70; bits += 0x10) {
        static const unsigned opcodes[] = {1, 2, 8, 9, 10};
        for (size_t i = 0; i < sizeof(opcodes) / sizeof(opcodes[0]); i++) {
            frame_text(0x80 | bits | opcodes[i], i == 2 ? "\x03\xe8" : "x");
            expect("broken 1002; ");
        }
        frame_text(0x01, "a");
        frame_text(0x80 | bits, "b");
        expect("broken 1002; ");
    }
}

static void test_reserved_opcodes(void **state)
{
    static const unsigned opcodes[] = {3, 4, 5, 6, 7, 11, 12, 13, 14, 15};
    for (size_t i = 0; i < sizeof(opcodes) / sizeof(opcodes[0]); i++) {
        frame_text(0x80 | opcodes[i], "");
        expect("broken 1002; ");
        frame_text(0x80 | opcodes[i], "x");
        expect("broken 1002; ");
        frame_text(0x01, "a");
        frame_text(0x80 | opcodes[i], "x");
        expect("broken 1002; ");
    }
}

static void test_masks_missing(void **state)
{
    static const unsigned firsts[] = {0x81, 0x82, 0x01, 0x88, 0x89, 0x8a};
    for (size_t i = 0; i < sizeof(firsts) / sizeof(firsts[0]); i++) {
        frame_as(firsts[i], "xy", 2, -1, false);
        expect("broken 1002; ");
        frame_as(firsts[i], "", 0, -1, false);
        expect("broken 1002; ");
    }
}

static void test_lengths_are_in_their_shortest_form(void **state)
{
    static uint8_t bytes[70000];
    for (int extended = 2; extended <= 8; extended += 6) {
        static const size_t short_ones[] = {0, 1, 125};
        for (size_t i = 0; i < 3; i++) {
            frame_as(0x82, bytes, short_ones[i], extended, true);
            expect("broken 1002; ");
        }
    }
    frame_as(0x82, bytes, 126, 8, true);
    expect("broken 1002; ");
    frame_as(0x82, bytes, 65535, 8, true);
    expect("broken 1002; ");
    frame_as(0x82, bytes, 65536, 8, true);
    expect("message binary #65536; ");
}

static void test_lengths_beyond_all(void **state)
{
    static const uint64_t lengths[] = {(uint64_t)1 << 63, UINT64_MAX, ((uint64_t)1 << 63) - 1, MESSAGE_MAX + 1,
                                       (uint64_t)1 << 32};
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        put_byte(0x82);
        put_byte(0xff);
        for (int j = 7; j >= 0; j--)
            put_byte((unsigned)(lengths[i] >> (8 * j)) & 0xff);
        put("\0\0\0\0x", 5);
        expect(i < 2 ? "broken 1002; " : "broken 1009; ");
    }
}

static void test_control_frames(void **state)
{
    char text[127];
    memset(text, 'p', sizeof(text));
    frame(0x89, text, 125);
    frame(0x8a, text, 125);
    expect("ping #125; pong #125; ");
    for (unsigned opcode = 8; opcode <= 10; opcode++) {
        frame(0x80 | opcode, text, 126);
        expect("broken 1002; ");
        frame_text(opcode, ""); /* not final */
        expect("broken 1002; ");
        frame_text(opcode, "ab");
        expect("broken 1002; ");
    }
}

/* ---- sizes --------------------------------------------------------------------------------------------------------------- */

static void test_too_big_is_known_with_the_head(void **state)
{
    static uint8_t bytes[MESSAGE_MAX];
    put_byte(0x82);
    put_byte(0xff);
    put("\0\0\0\0\x7f\0\0\0", 8); /* two gigabytes */
    put("\0\0\0\0", 4);
    put_byte('x');
    expect("broken 1009; ");
    frame(0x02, bytes, 100000);
    frame(0x00, bytes, 20000);
    frame(0x80, bytes, MESSAGE_MAX - 120000);
    expect("message binary #131072; ");
    frame(0x02, bytes, 100000);
    frame(0x80, bytes, MESSAGE_MAX - 100000 + 1);
    expect("broken 1009; ");
}

/* What is incomplete is counted, all connections together. */
static void test_incomplete_messages_have_a_common_limit(void **state)
{
    static uint8_t bytes[100000];
    struct frame_state many[10] = {{0}};
    struct frame_in in = {0};
    int taken = 0;
    frame(0x02, bytes, sizeof(bytes));
    for (int i = 0; i < 10 && in.event != EVENT_BROKEN; i++, taken++)
        assert_true(frames_take(&frames, &many[i], wire, wire_len, &in) <= wire_len);
    assert_int_equal(in.event, EVENT_BROKEN);
    assert_int_equal(in.code, CLOSE_TRY_LATER);
    assert_in_range(taken, 3, 6);
    /* Small ones are taken all the same. */
    struct frame_state small = {0};
    clear();
    frame_text(0x81, "small");
    assert_int_equal(frames_take(&frames, &small, wire, wire_len, &in), wire_len);
    assert_int_equal(in.event, EVENT_MESSAGE);
    frame_state_release(&frames, &small);
    for (int i = 0; i < 10; i++)
        frame_state_release(&frames, &many[i]);
    assert_int_equal(frames.partial_bytes, 0);
    clear();
    frame(0x82, bytes, sizeof(bytes));
    assert_int_equal(frames_take(&frames, &small, wire, wire_len, &in), wire_len);
    assert_int_equal(in.event, EVENT_MESSAGE);
    frame_state_release(&frames, &small);
}

/* Between two frames a connection owns nothing. */
static void test_idle_owns_nothing(void **state)
{
    struct frame_state s = {0};
    struct frame_in in;
    frame_text(0x81, "hello");
    frame_text(0x01, "a");
    size_t used = frames_take(&frames, &s, wire, wire_len, &in);
    assert_int_equal(in.event, EVENT_MESSAGE);
    assert_null(s.reader);
    assert_null(s.partial.bytes);
    frames_take(&frames, &s, wire + used, wire_len - used, &in);
    assert_null(s.reader);
    assert_true(s.partial.cap > 0 && s.partial.cap <= 64);
    clear();
    frame_text(0x80, "b");
    frames_take(&frames, &s, wire, wire_len, &in);
    assert_int_equal(in.event, EVENT_MESSAGE);
    assert_int_equal(in.len, 2);
    assert_null(s.partial.bytes);
    frame_state_release(&frames, &s);
}

/* ---- text ---------------------------------------------------------------------------------------------------------------- */

static const struct {
    const char *text;
    bool good;
} TEXTS[] = {
    {"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5", true},
    {"\xc2\x80", true},
    {"\xdf\xbf", true},
    {"\xe0\xa0\x80", true},
    {"\xed\x9f\xbf", true}, /* U+D7FF */
    {"\xee\x80\x80", true},
    {"\xef\xbf\xbd", true},
    {"\xef\xbf\xbe", true}, /* noncharacters are characters enough */
    {"\xef\xbf\xbf", true},
    {"\xf0\x90\x80\x80", true},
    {"\xf0\x9f\x98\x80", true},
    {"\xf4\x8f\xbf\xbf", true},  /* U+10FFFF */
    {"\xf4\x90\x80\x80", false}, /* beyond it */
    {"\xf5\x80\x80\x80", false},
    {"\xf7\xbf\xbf\xbf", false},
    {"\xf8\x88\x80\x80\x80", false}, /* five and six bytes */
    {"\xfc\x84\x80\x80\x80\x80", false},
    {"\xfe", false},
    {"\xff", false},
    {"\x80", false}, /* nothing that it continues */
    {"\xbf", false},
    {"a\x80z", false},
    {"\xc0\x80", false}, /* overlong */
    {"\xc0\xaf", false},
    {"\xc1\xbf", false},
    {"\xe0\x80\xaf", false},
    {"\xe0\x9f\xbf", false},
    {"\xf0\x80\x80\xaf", false},
    {"\xf0\x8f\xbf\xbf", false},
    {"\xed\xa0\x80", false}, /* surrogates */
    {"\xed\xad\xbf", false},
    {"\xed\xbf\xbf", false},
    {"\xed\xa0\x80\xed\xb0\x80", false},
    {"\xc2", false}, /* cut short */
    {"\xe1\x80", false},
    {"\xf0\x9f\x98", false},
    {"\xc2 ", false},
    {"\xe1\x80 ", false},
    {"\xf0\x9f\x98 ", false},
    {"ok so far \xf0\x9f\x98\x80 and then \xc3(", false},
};

static void test_text_is_utf8(void **state)
{
    char what[128];
    for (size_t i = 0; i < sizeof(TEXTS) / sizeof(TEXTS[0]); i++) {
        const char *t = TEXTS[i].text;
        size_t n = strlen(t);
        snprintf(what, sizeof(what), TEXTS[i].good ? "message text %s; " : "broken 1007; ", t);
        frame(0x81, t, n);
        expect(what);
        for (size_t cut = 0; cut <= n; cut++) { /* split within code points, a ping in between */
            frame(0x01, t, cut);
            frame(0x80, t + cut, n - cut);
            expect(what);
        }
        snprintf(what, sizeof(what), "message binary %s; ", t);
        frame(0x82, t, n);
        expect(what);
    }
}

/* A code point's second half may come after a ping; and what is wrong is seen before the message is whole. */
static void test_text_is_checked_as_it_comes(void **state)
{
    frame(0x01, "\xf0\x9f", 2);
    frame_text(0x89, "\xff");
    frame(0x80, "\x98\x80", 2);
    expect("ping \xff; message text \xf0\x9f\x98\x80; ");
    frame(0x01, "abc\xff", 4); /* the final frame never comes */
    expect("broken 1007; ");
    frame(0x81, "a\xc0zzzzzzzz", 10);
    wire_len -= 8; /* nor does the rest of this one */
    expect("broken 1007; ");
}

static void test_all_code_points(void **state)
{
    for (uint32_t c = 0; c <= 0x10ffff + 5; c++) {
        uint8_t b[4];
        size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
        static const uint8_t firsts[] = {0, 0, 0xc0, 0xe0, 0xf0};
        for (size_t i = n; i-- > 1;)
            b[i] = 0x80 | ((c >> (6 * (n - 1 - i))) & 0x3f);
        b[0] = (uint8_t)(firsts[n] | c >> (6 * (n - 1)));
        struct utf8 u = {0};
        bool good = ws_utf8_take(&u, b, n) && utf8_is_whole(&u);
        assert_int_equal(good, c <= 0x10ffff && (c < 0xd800 || c > 0xdfff));
    }
}

/* ---- closing --------------------------------------------------------------------------------------------------------------- */

static void test_close_codes(void **state)
{
    char what[64];
    for (unsigned code = 0; code < 65536; code += code < 5100 ? 1 : 997) {
        bool good = (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) || (code >= 3000 && code <= 4999);
        assert_int_equal(close_code_is_valid((uint16_t)code), good);
        if (code % 7 && code != 999 && code != 1004 && code != 1005 && code != 1006 && code != 1015 && code != 2999 &&
            code != 5000)
            continue; /* the predicate is checked for all, the frames for some */
        snprintf(what, sizeof(what), good ? "close %u bye; " : "broken 1002; ", code);
        frame(0x88, (uint8_t[]){(uint8_t)(code >> 8), (uint8_t)code, 'b', 'y', 'e'}, 5);
        expect(what);
    }
}

static void test_close_payloads(void **state)
{
    char reason[126] = "\x03\xe8";
    frame(0x88, "", 0);
    expect("close 1005; ");
    frame(0x88, "\x03", 1);
    expect("broken 1002; ");
    frame(0x88, "\x03\xe8", 2);
    expect("close 1000; ");
    memset(reason + 2, 'r', 123);
    frame(0x88, reason, 125);
    expect("close 1000 #123; ");
    for (size_t i = 0; i < sizeof(TEXTS) / sizeof(TEXTS[0]); i++) {
        char what[128];
        snprintf(reason + 2, sizeof(reason) - 2, "%s", TEXTS[i].text);
        snprintf(what, sizeof(what), TEXTS[i].good ? "close 1000 %s; " : "broken 1007; ", TEXTS[i].text);
        frame(0x88, reason, 2 + strlen(TEXTS[i].text));
        expect(what);
    }
}

/* ---- compression ----------------------------------------------------------------------------------------------------------- */

/* As RFC 7692 7.2.1 says: without the tail of a flush. */
static size_t compress_as(const void *bytes, size_t n, uint8_t *out, size_t room, int flush)
{
    z_stream z = {0};
    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = (Bytef *)(uintptr_t)bytes;
    z.avail_in = (uInt)n;
    z.next_out = out;
    z.avail_out = (uInt)room;
    deflate(&z, flush);
    size_t len = z.total_out;
    deflateEnd(&z);
    if (flush == Z_FINISH)
        out[len++] = 0; /* a final block: an empty one follows, of which one byte travels */
    else
        len -= 4;
    return len;
}

static uint8_t packed[1 << 19];

static void test_compressed_messages(void **state)
{
    size_t n = compress_as("Hello, Hello, Hello!", 20, packed, sizeof(packed), Z_SYNC_FLUSH);
    frame(0xc1, packed, n);
    frame(0xc2, packed, n);
    frame_text(0x81, "plain");
    expect_as("message text Hello, Hello, Hello!; message binary Hello, Hello, Hello!; message text plain; ", true);
    clear();
    frame(0x41, packed, 3); /* in fragments, with a ping in between; only the first has the bit */
    frame_text(0x89, "?");
    frame(0x00, packed + 3, 0);
    frame(0x80, packed + 3, n - 3);
    expect_as("ping ?; message text Hello, Hello, Hello!; ", true);
    clear();
    n = compress_as("Hello, Hello, Hello!", 20, packed, sizeof(packed), Z_FINISH);
    frame(0xc1, packed, n);
    expect_as("message text Hello, Hello, Hello!; ", true);
    clear();
    frame(0xc1, "\0", 1); /* an empty message (RFC 7692 7.2.3.6) */
    expect_as("message text; ", true);
    clear();
    frame(0xc1, "", 0); /* not even an empty block */
    expect_as("broken 1007; ", true);
    clear();
    frame(0xc1, "\xf2\x48\xcd\xc9\xc9\x07\x00", 7); /* RFC 7692 7.2.3.1 */
    frame(0xc1, "\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", 11);
    frame(0xc1, "\xf3\x48\xcd\xc9\xc9\x07\x00\x00", 8);
    frame(0xc1, "\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", 13);
    expect_as("message text Hello; message text Hello; message text Hello; message text Hello; ", true);
}

static void test_compressed_and_broken(void **state)
{
    size_t n = compress_as("\xff\xff\xff", 3, packed, sizeof(packed), Z_SYNC_FLUSH);
    frame(0xc1, packed, n);
    expect_as("broken 1007; ", true); /* no text, inflated */
    clear();
    frame(0xc2, packed, n);
    expect_as("message binary \xff\xff\xff; ", true);
    clear();
    frame(0xc1, "\xff\xff\xff\xff", 4); /* no deflate */
    expect_as("broken 1007; ", true);
    clear();
    n = compress_as("Hello, Hello, Hello!", 20, packed, sizeof(packed), Z_SYNC_FLUSH);
    frame(0xc1, packed, n - 3); /* cut short */
    expect_as("broken 1007; ", true);
    clear();
    static const unsigned bits[] = {0xa0, 0x90, 0xe0, 0xd0, 0xf0};
    for (size_t i = 0; i < sizeof(bits) / sizeof(bits[0]); i++) {
        frame(bits[i] | 1, packed, n);
        expect_as("broken 1002; ", true);
        clear();
    }
    frame(0x41, packed, 3);
    frame(0xc0, packed + 3, n - 3); /* the bit again in a continuation */
    expect_as("broken 1002; ", true);
    clear();
    frame_text(0xc9, "x");
    expect_as("broken 1002; ", true);
    clear();
    frame(0xc1, packed, n); /* not agreed upon */
    expect_as("broken 1002; ", false);
}

/* Inflated up to the limit and no further. */
static void test_bombs(void **state)
{
    static uint8_t zeros[100 * MESSAGE_MAX];
    size_t n = compress_as(zeros, MESSAGE_MAX, packed, sizeof(packed), Z_SYNC_FLUSH);
    frame(0xc2, packed, n);
    expect_as("message binary #131072; ", true);
    clear();
    n = compress_as(zeros, MESSAGE_MAX + 1, packed, sizeof(packed), Z_SYNC_FLUSH);
    frame(0xc2, packed, n);
    expect_as("broken 1009; ", true);
    clear();
    n = compress_as(zeros, sizeof(zeros), packed, sizeof(packed), Z_SYNC_FLUSH);
    assert_true(n < 20000);
    frame(0xc2, packed, n);
    expect_as("broken 1009; ", true);
    assert_true(frames.inflated.cap <= MESSAGE_MAX);
    clear();
    /* What does not compress is a little longer, and as large as allowed all the same. */
    static uint8_t noise[MESSAGE_MAX];
    uint64_t x = 88172645463325252u;
    for (size_t i = 0; i < sizeof(noise); i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        noise[i] = (uint8_t)x;
    }
    n = compress_as(noise, sizeof(noise), packed, sizeof(packed), Z_SYNC_FLUSH);
    assert_true(n > sizeof(noise));
    frame(0xc2, packed, n);
    expect_as("message binary #131072; ", true);
}

static void test_what_is_compressed_comes_back(void **state)
{
    struct buf out = {0}, back = {.max = MESSAGE_MAX};
    struct deflater *d = deflater_new();
    static uint8_t text[50000];
    for (size_t n = 300; n <= sizeof(text); n += 4999) {
        for (size_t i = 0; i < n; i++)
            text[i] = (uint8_t)("{\"seq\":12345,\"body\":\"x\"}"[(i + i / 1000) % 24]);
        buf_clear(&out);
        assert_true(deflater_deflate(d, text, n, &out));
        assert_true(out.len < n);
        assert_int_equal(deflater_inflate(d, &out, &back, MESSAGE_MAX), INFLATED);
        assert_int_equal(back.len, n);
        assert_memory_equal(back.bytes, text, n);
    }
    uint64_t x = 1;
    for (size_t i = 0; i < 1000; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        text[i] = (uint8_t)x;
    }
    assert_false(deflater_deflate(d, text, 1000, &out)); /* no gain */
    deflater_free(d);
    buf_release(&out);
    buf_release(&back);
}

/* ---- the way out ------------------------------------------------------------------------------------------------------------ */

static void test_heads_out(void **state)
{
    uint8_t head[FRAME_HEAD_MAX];
    assert_int_equal(ws_head_put(head, OPCODE_TEXT, 125), 2);
    assert_memory_equal(head, "\x81\x7d", 2);
    assert_int_equal(ws_head_put(head, OPCODE_BINARY, 126), 4);
    assert_memory_equal(head, "\x82\x7e\x00\x7e", 4);
    assert_int_equal(ws_head_put(head, OPCODE_BINARY, 65535), 4);
    assert_memory_equal(head, "\x82\x7e\xff\xff", 4);
    assert_int_equal(ws_head_put(head, OPCODE_TEXT | FRAME_COMPRESSED, 65536), 10);
    assert_memory_equal(head, "\xc1\x7f\0\0\0\0\0\x01\0\0", 10);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_lengths),
        T(test_payloads_are_unmasked),
        T(test_fragments),
        T(test_control_frames_between_fragments),
        T(test_broken_order),
        T(test_reserved_bits),
        T(test_reserved_opcodes),
        T(test_masks_missing),
        T(test_lengths_are_in_their_shortest_form),
        T(test_lengths_beyond_all),
        T(test_control_frames),
        T(test_too_big_is_known_with_the_head),
        T(test_incomplete_messages_have_a_common_limit),
        T(test_idle_owns_nothing),
        T(test_text_is_utf8),
        T(test_text_is_checked_as_it_comes),
        T(test_all_code_points),
        T(test_close_codes),
        T(test_close_payloads),
        T(test_compressed_messages),
        T(test_compressed_and_broken),
        T(test_bombs),
        T(test_what_is_compressed_comes_back),
        T(test_heads_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
