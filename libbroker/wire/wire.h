/*
 * Owns:            the bytes of the native protocol and of stored records; CRC32C; queue and group name rules.
 * May use:         broker.h (error table), msgpack-c, ISA-L.
 * Never knows:     sockets, files, clocks, queues.
 * Start reading at frame_head and record_head; docs/PROTOCOL.md says the same in prose.
 *
 * All integers are little-endian. Nothing here allocates, except control bodies (msgpack), which are off the hot path.
 */
#ifndef WIRE_H
#define WIRE_H

#include <broker/broker.h>
#include <endian.h>
#include <msgpack.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define WIRE_VERSION 1
/* The client opens with these 8 bytes: "BRKD", version (u16), reserved (u16, zero); then frames. */
#define WIRE_MAGIC          "BRKD"
#define WIRE_PREAMBLE_BYTES 8u
#define WIRE_DEFAULT_PORT   7440

static inline uint16_t get_u16(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, 2);
    return le16toh(v);
}
static inline uint32_t get_u32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return le32toh(v);
}
static inline uint64_t get_u64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return le64toh(v);
}
static inline void put_u16(uint8_t *p, uint16_t v)
{
    v = htole16(v);
    memcpy(p, &v, 2);
}
static inline void put_u32(uint8_t *p, uint32_t v)
{
    v = htole32(v);
    memcpy(p, &v, 4);
}
static inline void put_u64(uint8_t *p, uint64_t v)
{
    v = htole64(v);
    memcpy(p, &v, 8);
}
static inline uint32_t pad8(uint32_t n)
{
    return (n + 7u) & ~7u;
}

/* CRC32C (Castagnoli, reflected; RFC 3720 appendix B.4), as crc32c(0, "123456789", 9) == 0xE3069283. */
uint32_t crc32c(uint32_t crc, const void *bytes, size_t len);

/* ---- frames: 16-byte head, then `length` bytes of body --------------------------------------------------------- */

#define FRAME_HEAD_BYTES 16u
/* offset 0 u32 length of the body; 4 u8 type; 5 u8 flags; 6 u16 reserved (zero); 8 u32 correlation; 12 u32 stream
   (subscription id, or 0). A request's correlation is not 0; one-way frames have 0. */
struct frame_head {
    uint32_t length;
    uint8_t type;
    uint8_t flags;
    uint32_t correlation;
    uint32_t stream;
};

#define FRAME_RESPONSE 0x80u /* bit of `type`: the answer to the request of that type */

enum frame_type {
    /* Requests with msgpack map bodies (keys in docs/PROTOCOL.md); the answer is type | FRAME_RESPONSE or FRAME_ERROR. */
    FRAME_HELLO = 0x01,
    FRAME_PING = 0x02,
    FRAME_STATS = 0x03,
    FRAME_QUEUE_CREATE = 0x10,
    FRAME_QUEUE_ALTER = 0x11,
    FRAME_QUEUE_DELETE = 0x12,
    FRAME_QUEUE_PAUSE = 0x13,
    FRAME_QUEUE_RESUME = 0x14,
    FRAME_QUEUE_PURGE = 0x15,
    FRAME_QUEUE_LIST = 0x16,
    FRAME_QUEUE_DESCRIBE = 0x17,
    FRAME_GROUP_CREATE = 0x18,
    FRAME_GROUP_DELETE = 0x19,
    FRAME_GROUP_SEEK = 0x1a,
    FRAME_GROUP_ALTER = 0x1b,
    FRAME_BIND = 0x1c,
    FRAME_UNBIND = 0x1d,
    FRAME_SCAN = 0x1e, /* count, delete, move or redrive what a range and a filter name */
    FRAME_RESCHEDULE = 0x1f,
    FRAME_SUBSCRIBE = 0x20,   /* stream: the new subscription's id, chosen by the client, not 0 */
    FRAME_UNSUBSCRIBE = 0x21, /* stream: the subscription */
    FRAME_LEASE = 0x22,       /* the answer is a batch as in DELIVER */
    FRAME_PEEK = 0x23, /* the answer: u32 count, u32 flags (PEEK_MORE), u64 next seq, u64 * count seqs, records */
    /* Requests with binary bodies. */
    FRAME_PUBLISH =
        0x30,          /* u16 queue name length, name, zeros to 8; then message records, each padded to 8. Length 0: by
                             topic, every record has RECORD_BY_TOPIC */
    FRAME_ACK = 0x31,  /* n * settle_range */
    FRAME_NACK = 0x32, /* u32 delay_ms (0: the queue's backoff), u32 NACK_… flags, n * settle_range */
    FRAME_EXTEND = 0x33, /* u32 lease_ms, u32 zero, n * settle_range */
    FRAME_TRANSACT =
        0x34, /* all or nothing: parts, see struct transact_part; the answer: u64 * number of messages, their seqs */
    FRAME_BACKUP_BEGIN = 0x50, /* map; the answer names the files and their sizes */
    FRAME_BACKUP_READ = 0x51,  /* map {"file", "offset", "bytes"}; the answer: bytes */
    FRAME_BACKUP_END = 0x52,   /* map, empty */
    /* One-way frames: no answer. */
    FRAME_CREDIT = 0x40,    /* client to broker; stream: subscription; u32 messages, u32 zero, u64 bytes: added */
    FRAME_HEARTBEAT = 0x41, /* either way, no body */
    FRAME_GOAWAY = 0x42,    /* broker to client: msgpack {"code", "text"}: answers still come, no new requests */
    FRAME_DELIVER = 0x43,   /* broker to client; stream: subscription; body: deliver_head, attempts, records */
    FRAME_SUBSCRIPTION_ENDED = 0x44, /* broker to client; stream; msgpack {"code", "text"} */
    FRAME_ERROR = 0xff,              /* the answer to a request that failed: msgpack, see wire_error_body */
};

enum {
    FRAME_FLAG_SYNC_SHIFT = 0, /* PUBLISH, TRANSACT: broker_sync in the low two bits */
    FRAME_FLAG_SYNC_MASK = 3,
    FRAME_FLAG_UNROUTABLE_OK =
        0x04 /* PUBLISH, TRANSACT: a message that no queue is bound for is dropped, without an error */
};
enum { NACK_DEAD_LETTER = 0x1 }; /* the consumer gives up: to the dead letters now, whatever max_attempts says */

/* A part of TRANSACT: head of 16 bytes, then the queue's name padded to 8 (publish only), then `length` bytes padded to 8:
   records (publish) or settle ranges (ack, nack). */
#define TRANSACT_PART_BYTES 16u
enum transact_kind { TRANSACT_PUBLISH = 1, TRANSACT_ACK = 2, TRANSACT_NACK = 3 };
enum { TRANSACT_DUPLICATE = 0x1 }; /* flag of the answer's frame head: a retry; it was done before */
/* offset 0 u8 kind; 1 u8 zero; 2 u16 queue name length (publish; 0: by topic); 4 u32 length; 8 u32 delay_ms (nack); 12 u32
   NACK_… flags (nack) */

void frame_head_put(uint8_t out[FRAME_HEAD_BYTES], const struct frame_head *head);
/* MALFORMED if the reserved bytes are not zero; the caller checks `length` against its limit. */
broker_error frame_head_get(const uint8_t in[FRAME_HEAD_BYTES], struct frame_head *head);
const char *frame_type_name(uint8_t type); /* "PUBLISH"; "?" for an unknown one */

/* Settle range: u64 first receipt, u32 count (1..2^20), u32 zero. */
#define SETTLE_RANGE_BYTES 16u
struct settle_range {
    uint64_t first;
    uint32_t count;
};
/* Answer to ACK, NACK, EXTEND: u32 settled, u32 stale count, then up to 64 stale receipts, u64 each. */

/* Answer to PUBLISH: n * publish_range: u64 first_seq, u32 first_index (of the frame's records), u32 count, u16 code
   (broker_error), u16 flags, u32 retry_ms. Ranges cover every record once, in order. A failed range has first_seq 0. */
#define PUBLISH_RANGE_BYTES     24u
#define PUBLISH_RANGE_DUPLICATE 0x1u /* stored before; first_seq 0: which seq is no longer known */
#define PUBLISH_RANGE_ROUTED                                                                                           \
    0x2u /* by topic: first_seq is not a seq but the number of queues that each message reached */
struct publish_range {
    uint64_t first_seq;
    uint32_t first_index;
    uint32_t count;
    uint16_t code;
    uint16_t flags;
    uint32_t retry_ms;
};
void publish_range_put(uint8_t out[PUBLISH_RANGE_BYTES], const struct publish_range *range);
void publish_range_get(const uint8_t in[PUBLISH_RANGE_BYTES], struct publish_range *range);

/* Head of a delivered batch: u32 count, u32 flags, u64 first_receipt (message i has first_receipt + i). If
   DELIVER_ATTEMPTS is set, u32 attempt per message follows, zeros to 8; else every attempt is 1. If DELIVER_SEQS is set, u64
   seq per message follows: that is the message's seq in this queue, whatever its record says (one record can lie in several
   queues); else the record's seq is. Then `count` records. */
#define DELIVER_HEAD_BYTES 16u
#define DELIVER_ATTEMPTS   0x1u
#define DELIVER_SEQS       0x2u
#define PEEK_HEAD_BYTES    16u
#define PEEK_MORE          0x1u

/* ---- records: what is stored is what is sent ------------------------------------------------------------------- */

#define RECORD_HEAD_BYTES 40u
#define RECORD_MAX_BYTES  (64u << 20) /* hard ceiling of one record; configuration may only lower it */

/*
 * offset 0  u32 length     of the whole record without its padding to 8
 *        4  u32 crc        CRC32C of bytes 8..length; 0 from a publisher: the broker computes it
 *        8  u8  type       enum record_type
 *        9  u8  flags
 *       10  u8  priority   0..9
 *       11  u8  id_len
 *       12  u32 queue      id; 0 from a publisher
 *       16  u64 seq        0 from a publisher
 *       24  u64 time_ms    accepted, Unix time; 0 from a publisher
 *       32  u16 key_len
 *       34  u16 topic_len
 *       36  u32 headers_len
 *       40  [u64 due_ms] if RECORD_HAS_DUE, [u64 expire_ms] if RECORD_HAS_EXPIRE, id, key, topic, headers (msgpack map), body
 * Records that are no messages use the same head (seq, key_len, headers_len as their type says) and a body of their own.
 */
enum record_type {
    RECORD_MESSAGE = 1,
    RECORD_SETTLE = 2, /* acks: u32 group, u32 n, then n * (u64 first, u64 last) */
    RECORD_RETURN = 3, /* nacks: u32 group, u32 n, then n * (u64 seq, u64 due_ms wall, u32 attempt, u32 RETURN_…) */
    RECORD_LEASE =
        4, /* u32 group, u32 n; n = 0: u64 first, u64 last handed out first time; else n * (u64 seq, u32 attempt, u32 0) */
    RECORD_QUEUE = 5,        /* created or altered: everything a queue is; docs/STORAGE.md */
    RECORD_QUEUE_DELETE = 6, /* no body */
    RECORD_GROUP = 7,        /* created or moved: u32 group, u32 name length, u64 cursor, name, group settings */
    RECORD_GROUP_DELETE = 8, /* u32 group, u32 0 */
    RECORD_PURGE = 9,        /* u64 last: everything up to it is settled for every group */
    RECORD_TRIM = 10,        /* u64 last: log retention let everything up to it go */
    RECORD_ROUTE =
        11, /* u32 n, u32 0, n * (u32 queue, u32 0, u64 seq): further places of the message record that follows
                                in the same batch, besides the one in its head. The store indexes them too */
    RECORD_DELETE = 12, /* u32 0, u32 n, n * (u64 first, u64 last): gone for every group */
    RECORD_EXPIRE = 13, /* the same: gone for every group that has not handed it out; for the others when it returns */
    RECORD_GROUP_ALTER = 14, /* u32 group, u32 0, group settings */
    RECORD_BIND = 15,        /* u8 1 bind, 0 unbind, 7 bytes zero, pattern */
    RECORD_RESCHEDULE = 16,  /* seq in the head: u64 due_ms */
    RECORD_LOST = 255        /* the store's: stands for a lost record in a repaired batch */
};
#define RETURN_REJECTED 0x1u /* RECORD_RETURN, an item's last u32: to the dead letters, whatever the attempts */
/* RECORD_LEASE's n: this bit says that its low bits count ranges (u64 first, u64 last) handed out for the first time. */
#define LEASE_RANGES 0x80000000u

enum {
    RECORD_HAS_DUE = 0x01,
    RECORD_HAS_EXPIRE = 0x02,
    RECORD_ID_PRODUCER =
        0x04, /* id begins with u64 producer, u64 number (numbers of one producer rise by one per message and queue, or
                 among those by topic); what follows in it is the message id */
    RECORD_BY_TOPIC = 0x08,      /* published to its topic, not to a queue by name */
    RECORD_DUE_IS_DELAY = 0x10,  /* from a publisher: due_ms counts from acceptance; stored: never set */
    RECORD_EXPIRE_IS_TTL = 0x20, /* the same for expire_ms */
    RECORD_FLAGS_KNOWN = 0x3f,
};
#define PRODUCER_ID_BYTES 16u

struct record_head {
    uint32_t length, crc;
    uint8_t type, flags, priority, id_len;
    uint32_t queue;
    uint64_t seq, time_ms;
    uint16_t key_len, topic_len;
    uint32_t headers_len;
};

/* A message record taken apart; the pointers lead into the record's bytes. */
struct record_view {
    struct record_head head;
    uint64_t due_ms, expire_ms; /* 0 if absent */
    const uint8_t *id;          /* head.id_len bytes: [producer, number,] message id */
    const uint8_t *key, *topic, *headers, *body;
    uint32_t body_len;
    uint64_t producer, number; /* 0: not numbered */
    const uint8_t *message_id; /* message_id_len bytes, NULL if none */
    uint32_t message_id_len;
};

void record_head_put(uint8_t out[RECORD_HEAD_BYTES], const struct record_head *head);
void record_head_get(const uint8_t in[RECORD_HEAD_BYTES], struct record_head *head);
static inline uint32_t record_length(const uint8_t *r)
{
    return get_u32(r);
}
static inline uint32_t record_padded(const uint8_t *r)
{
    return pad8(get_u32(r));
}
static inline uint64_t record_seq(const uint8_t *r)
{
    return get_u64(r + 16);
}
static inline uint32_t record_queue(const uint8_t *r)
{
    return get_u32(r + 12);
}
static inline uint8_t record_type_of(const uint8_t *r)
{
    return r[8];
}

/* record_seal: compute and store the CRC. record_intact: length is sane for `available` bytes and the CRC is right. */
void record_seal(uint8_t *record);
bool record_intact(const uint8_t *record, size_t available);
/*
 * record_view_get: take a message record apart. `available` bytes are readable. MALFORMED: it is no message, lengths do
 * not add up, unknown flags, priority over 9, reserved not zero, or headers that are no msgpack map (only its first byte
 * is looked at here: O(1)). Does not look at the CRC.
 */
broker_error record_view_get(const uint8_t *record, size_t available, struct record_view *view);

/* What a publisher says of one message. */
struct record_spec {
    const void *body;
    size_t body_len;
    const void *key;
    size_t key_len;
    const void *topic;
    size_t topic_len;
    const void *headers; /* msgpack map or NULL */
    size_t headers_len;
    uint8_t priority;
    uint64_t due_ms, expire_ms; /* 0: none */
    bool due_is_delay, expire_is_ttl, by_topic;
    const void *id; /* message id, up to 255 bytes, 239 with a producer */
    size_t id_len;
    uint64_t producer, number; /* producer 0: none */
};
/* record_spec_bytes: room for the padded record; 0 if over RECORD_MAX_BYTES or a field's range. */
uint32_t record_spec_bytes(const struct record_spec *spec);
void record_spec_put(uint8_t *out,
                     const struct record_spec *spec); /* exactly record_spec_bytes bytes, padding zeroed */

/* ---- names and control bodies ---------------------------------------------------------------------------------- */

#define NAME_MAX_BYTES 255u
bool name_is_valid(const char *name, size_t len); /* 1..255 of A-Z a-z 0-9 . _ - and no leading '.' */

#define TOPIC_MAX_BYTES  255u
#define TOPIC_MAX_TOKENS 32u
/* A topic: 1..255 bytes, up to 32 tokens of A-Z a-z 0-9 _ - separated by single dots. A pattern also has tokens '*' (any one
   token) and, as the last, '>' (one or more tokens). */
bool topic_is_valid(const char *topic, size_t len);
bool topic_pattern_is_valid(const char *pattern, size_t len);
bool topic_matches(const char *pattern, size_t pattern_len, const char *topic, size_t topic_len);

/* A control body (one msgpack map with string keys) being read. Unknown keys are skipped; a wrong type or a value out of
   range is an error that names the key. Depth and size are bounded (depth 8). */
struct wire_map {
    msgpack_unpacked unpacked;
    const msgpack_object_map *map; /* NULL: empty body */
    char error[160];               /* the first thing wrong, for the user; "" if nothing */
};
/* wire_map_open: MALFORMED if the body is not exactly one map with string keys. An empty body is an empty map. Close it always. */
broker_error wire_map_open(struct wire_map *m, const uint8_t *body, size_t len);
void wire_map_close(struct wire_map *m);
/* Each returns false and sets m->error if the key is there with a wrong type or out of [min, max]; absent: *out stays. */
bool wire_map_u64(struct wire_map *m, const char *key, uint64_t min, uint64_t max, uint64_t *out);
bool wire_map_bool(struct wire_map *m, const char *key, bool *out);
bool wire_map_str(struct wire_map *m, const char *key, size_t max_len, const char **out, size_t *len);
/* The same as a NUL-terminated copy, which lives until wire_map_close; a string with a NUL byte in it is an error. */
bool wire_map_text(struct wire_map *m, const char *key, size_t max_len, const char **out);
bool wire_map_has(const struct wire_map *m, const char *key);
const msgpack_object *wire_map_find(const struct wire_map *m, const char *key);

/* wire_skip: past the one msgpack element at p; NULL if it is malformed, nested deeper than 8, or does not end before
   `end`. wire_skip_map: past a map's head, *pairs of it follow. wire_skip_text: past a string, which *text and *len say. No
   allocation: for headers, which other programs wrote. */
const uint8_t *wire_skip(const uint8_t *p, const uint8_t *end);
const uint8_t *wire_skip_map(const uint8_t *p, const uint8_t *end, uint32_t *pairs);
/* How many elements the one object has that lies from p to `end`, those in it included, however deep: before msgpack-c makes
   room for what a count claims. 0: it is malformed, does not end there, or has more than `max`. */
uint32_t wire_count(const uint8_t *p, const uint8_t *end, uint32_t max);
const uint8_t *wire_skip_text(const uint8_t *p, const uint8_t *end, const char **text, size_t *len);

/* Writing: msgpack-c's packer on an sbuffer; these spare the repetition. */
void pack_key_u64(msgpack_packer *pk, const char *key, uint64_t value);
void pack_key_bool(msgpack_packer *pk, const char *key, bool value);
void pack_key_str(msgpack_packer *pk, const char *key, const char *value, size_t len);
void pack_str(msgpack_packer *pk, const char *value, size_t len);

/* Body of FRAME_ERROR: {"code": u16, "text": str, "scope": "request"|"subscription"|"connection", "retry_ms": u32}. */
void wire_error_put(msgpack_sbuffer *out, broker_error code, const char *text, const char *scope, uint32_t retry_ms);

#endif
