/* The way in: bytes to frames, binary frames to commands. */
#include <stdio.h>
#include <string.h>

#include "front_internal.h"

/* ---- frames with binary bodies -------------------------------------------------------------------------------------- */

/* Body: u16 length of the queue's name (0: by topic), the name, zeros to 8, records. The command points into the read
   buffer. */
static void publish(struct conn *c, const struct frame_head *head, uint8_t *body)
{
    uint32_t name_len = head->length >= 2 ? get_u16(body) : 0, at = pad8(2 + name_len);
    if (head->length < 2 || at > head->length) {
        refuse_request(c, head, BROKER_MALFORMED, "a PUBLISH of %u bytes with a queue name of %u", head->length,
                       name_len);
        return;
    }
    const uint8_t known = FRAME_FLAG_SYNC_MASK | FRAME_FLAG_UNROUTABLE_OK;
    if (head->flags & ~known) {
        refuse_request(c, head, BROKER_INVALID_ARGUMENT, "PUBLISH has flags 0x%02x; this broker knows 0x%02x",
                       head->flags, known);
        return;
    }
    struct command command = {
        .type = COMMAND_PUBLISH,
        .token = {.correlation = head->correlation},
        .queue = {(const char *)body + 2, name_len},
        .u.publish = {.records = body + at,
                      .len = head->length - at,
                      .sync = (broker_sync)(head->flags & FRAME_FLAG_SYNC_MASK),
                      .unroutable_ok = head->flags & FRAME_FLAG_UNROUTABLE_OK},
    };
    conn_submit(c, &command);
}

broker_error ranges_get(struct front_tcp *f, const uint8_t *bytes, uint32_t len, uint32_t from, uint32_t *count,
                        char text[REFUSAL_BYTES])
{
    uint32_t max = f->options.max_settle_ranges, n = len / SETTLE_RANGE_BYTES;
    if (len % SETTLE_RANGE_BYTES != 0) {
        snprintf(text, REFUSAL_BYTES, "%u bytes are not made of receipt ranges of %u", len, SETTLE_RANGE_BYTES);
        return BROKER_MALFORMED;
    }
    if (n > max - from) {
        snprintf(text, REFUSAL_BYTES, "%u receipt ranges; give at most %u in one request", from + n, max);
        return BROKER_TOO_LARGE;
    }
    for (uint32_t i = 0; i < n; i++) {
        const uint8_t *range = bytes + i * SETTLE_RANGE_BYTES;
        f->ranges[from + i] = (struct receipt_range){get_u64(range), get_u32(range + 8)};
        if (get_u32(range + 12) != 0) {
            snprintf(text, REFUSAL_BYTES, "receipt range %u: its reserved bytes are not zero", i);
            return BROKER_MALFORMED;
        }
    }
    *count = n;
    return BROKER_OK;
}

/* ACK: ranges. NACK: u32 delay, u32 flags, ranges. EXTEND: u32 time, u32 zero, ranges. */
static void settle(struct conn *c, const struct frame_head *head, uint8_t *body)
{
    static const enum command_type types[] = {COMMAND_ACK, COMMAND_NACK, COMMAND_EXTEND};
    struct front_tcp *f = c->front;
    enum command_type type = types[head->type - FRAME_ACK];
    uint32_t at = type == COMMAND_ACK ? 0 : 8, count = 0;
    char text[REFUSAL_BYTES];
    if (head->length < at) {
        refuse_request(c, head, BROKER_MALFORMED, "%s of %u bytes; it begins with 8", frame_type_name(head->type),
                       head->length);
        return;
    }
    uint32_t known = type == COMMAND_NACK ? NACK_DEAD_LETTER : 0, flags = at ? get_u32(body + 4) : 0;
    if (flags & ~known) {
        refuse_request(c, head, type == COMMAND_NACK ? BROKER_INVALID_ARGUMENT : BROKER_MALFORMED,
                       "%s has flags 0x%x in its body; this broker knows 0x%x", frame_type_name(head->type), flags,
                       known);
        return;
    }
    broker_error error = ranges_get(f, body + at, head->length - at, 0, &count, text);
    if (error) {
        refuse_request(c, head, error, "%s: %s", frame_type_name(head->type), text);
        return;
    }
    struct command command = {
        .type = type,
        .token = {.correlation = head->correlation},
        .u.settle = {.ranges = f->ranges, .count = count, .dead_letter = flags & NACK_DEAD_LETTER},
    };
    if (type == COMMAND_NACK)
        command.u.settle.delay_ms = get_u32(body);
    if (type == COMMAND_EXTEND)
        command.u.settle.lease_ms = get_u32(body);
    conn_submit(c, &command);
}

static void credit(struct conn *c, const struct frame_head *head, uint8_t *body)
{
    if (head->length != 16 || get_u32(body + 4) != 0) {
        conn_fail(c, 0, BROKER_MALFORMED, "a CREDIT of %u bytes, or its reserved bytes are not zero", head->length);
        return;
    }
    struct command command = {
        .type = COMMAND_CREDIT,
        .token = {.stream = head->stream},
        .u.credit = {.messages = get_u32(body), .bytes = get_u64(body + 8)},
    };
    conn_submit(c, &command);
}

static void heartbeat(struct conn *c, const struct frame_head *head, uint8_t *body) {} /* heard: that is all */

/* ---- the table ------------------------------------------------------------------------------------------------------ */

static const struct {
    void (*handle)(struct conn *c, const struct frame_head *head, uint8_t *body);
    bool one_way;
    bool has_flags;
} FRAMES[256] = {
    [FRAME_HELLO] = {control_hello, false, false},
    [FRAME_PING] = {control_ping, false, false},
    [FRAME_STATS] = {control_stats, false, false},
    [FRAME_QUEUE_CREATE] = {control_request, false, false},
    [FRAME_QUEUE_ALTER] = {control_request, false, false},
    [FRAME_QUEUE_DELETE] = {control_request, false, false},
    [FRAME_QUEUE_PAUSE] = {control_request, false, false},
    [FRAME_QUEUE_RESUME] = {control_request, false, false},
    [FRAME_QUEUE_PURGE] = {control_request, false, false},
    [FRAME_QUEUE_LIST] = {control_request, false, false},
    [FRAME_QUEUE_DESCRIBE] = {control_request, false, false},
    [FRAME_GROUP_CREATE] = {control_request, false, false},
    [FRAME_GROUP_DELETE] = {control_request, false, false},
    [FRAME_GROUP_SEEK] = {control_request, false, false},
    [FRAME_GROUP_ALTER] = {control_request, false, false},
    [FRAME_BIND] = {control_request, false, false},
    [FRAME_UNBIND] = {control_request, false, false},
    [FRAME_SCAN] = {control_request, false, false},
    [FRAME_RESCHEDULE] = {control_request, false, false},
    [FRAME_SUBSCRIBE] = {control_request, false, false},
    [FRAME_UNSUBSCRIBE] = {control_request, false, false},
    [FRAME_LEASE] = {control_request, false, false},
    [FRAME_PEEK] = {control_request, false, false},
    [FRAME_PUBLISH] = {publish, false, true},
    [FRAME_ACK] = {settle, false, false},
    [FRAME_NACK] = {settle, false, false},
    [FRAME_EXTEND] = {settle, false, false},
    [FRAME_TRANSACT] = {frame_transact, false, true},
    [FRAME_BACKUP_BEGIN] = {control_backup_begin, false, false},
    [FRAME_BACKUP_READ] = {control_backup_read, false, false},
    [FRAME_BACKUP_END] = {control_backup_end, false, false},
    [FRAME_CREDIT] = {credit, true, false},
    [FRAME_HEARTBEAT] = {heartbeat, true, false},
};

static void dispatch(struct conn *c, const struct frame_head *head, uint8_t *body)
{
    if (c->phase == PHASE_GREETING && head->type != FRAME_HELLO) {
        conn_fail(c, head->correlation, BROKER_UNAUTHENTICATED,
                  "the first frame is of type 0x%02x (%s); send HELLO first", head->type, frame_type_name(head->type));
        return;
    }
    if (head->correlation == 0 && !FRAMES[head->type].one_way) {
        conn_fail(c, 0, BROKER_MALFORMED, "frame type 0x%02x (%s) without a correlation; give one that is not 0",
                  head->type, frame_type_name(head->type));
        return;
    }
    if (!FRAMES[head->type].handle) {
        refuse_request(c, head, BROKER_UNKNOWN_COMMAND, "frame type 0x%02x (%s) is no request of protocol version %d",
                       head->type, frame_type_name(head->type), WIRE_VERSION);
        return;
    }
    if (head->flags && !FRAMES[head->type].has_flags && !FRAMES[head->type].one_way) {
        refuse_request(c, head, BROKER_INVALID_ARGUMENT, "%s has flags 0x%02x; it knows none",
                       frame_type_name(head->type), head->flags);
        return;
    }
    FRAMES[head->type].handle(c, head, body);
}

/* ---- bytes to frames ------------------------------------------------------------------------------------------------ */

/* Returns false if there is not enough, or it was no preamble of ours. */
static bool take_preamble(struct conn *c, const uint8_t *bytes, size_t len)
{
    size_t n = len < 4 ? len : 4;
    if (memcmp(bytes, WIRE_MAGIC, n) != 0) {
        conn_fail(c, 0, BROKER_MALFORMED,
                  "the first bytes are not \"" WIRE_MAGIC "\": this port speaks brokerd's protocol");
        return false;
    }
    if (len < WIRE_PREAMBLE_BYTES)
        return false;
    if (get_u16(bytes + 4) != WIRE_VERSION) {
        conn_fail(c, 0, BROKER_UNSUPPORTED_VERSION, "protocol version %u; this broker speaks version %d",
                  get_u16(bytes + 4), WIRE_VERSION);
        return false;
    }
    if (get_u16(bytes + 6) != 0) {
        conn_fail(c, 0, BROKER_MALFORMED, "the reserved bytes of the preamble are not zero");
        return false;
    }
    c->phase = PHASE_GREETING;
    return true;
}

/* The frame at `bytes`: 0 and *need if it is not whole yet, or its length; it has been dealt with then. */
static size_t take_frame(struct conn *c, uint8_t *bytes, size_t len, size_t *need)
{
    struct frame_head head;
    *need = FRAME_HEAD_BYTES;
    if (len < FRAME_HEAD_BYTES)
        return 0;
    if (frame_head_get(bytes, &head) != BROKER_OK) {
        conn_fail(c, 0, BROKER_MALFORMED, "the reserved bytes of a frame head are not zero");
        return 0;
    }
    uint32_t max = c->phase == PHASE_OPEN ? c->front->options.max_frame_bytes : GREETING_BODY_MAX;
    if (head.length > max) {
        conn_fail(c, head.correlation, BROKER_TOO_LARGE, "a frame body of %u bytes; at most %u are allowed%s",
                  head.length, max, c->phase == PHASE_OPEN ? "" : " before HELLO is answered");
        return 0;
    }
    *need = FRAME_HEAD_BYTES + (size_t)head.length;
    if (len < *need)
        return 0;
    dispatch(c, &head, bytes + FRAME_HEAD_BYTES);
    return *need;
}

size_t conn_input(void *conn, uint8_t *bytes, size_t len, size_t *need)
{
    struct conn *c = conn;
    size_t used = 0;
    bool incomplete = false;
    *need = 0;
    while (used < len && c->phase != PHASE_OVER && !net_conn_is_choked(c->net)) {
        size_t n;
        if (c->phase == PHASE_PREAMBLE) {
            *need = WIRE_PREAMBLE_BYTES;
            n = take_preamble(c, bytes + used, len - used) ? WIRE_PREAMBLE_BYTES : 0;
        } else {
            n = take_frame(c, bytes + used, len - used, need);
        }
        if (n == 0) {
            incomplete = c->phase != PHASE_OVER;
            break;
        }
        used += n;
        *need = 0;
    }
    if (c->phase == PHASE_OVER)
        return len;
    if (!incomplete) {
        c->partial_since_ms = 0;
    } else if (used > 0 || !c->partial_since_ms) { /* another frame than the last time */
        c->partial_since_ms = net_now(c->front->net).mono.ms;
        conn_arm(c, c->partial_since_ms + c->front->options.frame_ms);
    }
    return used;
}
