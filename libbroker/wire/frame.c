/* Frame heads, the publish answer's ranges, and names. */
#include "wire.h"

void frame_head_put(uint8_t out[FRAME_HEAD_BYTES], const struct frame_head *head)
{
    put_u32(out, head->length);
    out[4] = head->type;
    out[5] = head->flags;
    put_u16(out + 6, 0);
    put_u32(out + 8, head->correlation);
    put_u32(out + 12, head->stream);
}

broker_error frame_head_get(const uint8_t in[FRAME_HEAD_BYTES], struct frame_head *head)
{
    head->length = get_u32(in);
    head->type = in[4];
    head->flags = in[5];
    head->correlation = get_u32(in + 8);
    head->stream = get_u32(in + 12);
    return get_u16(in + 6) == 0 ? BROKER_OK : BROKER_MALFORMED;
}

static const struct {
    uint8_t type;
    const char *name;
} frame_names[] = {
    {FRAME_HELLO, "HELLO"},
    {FRAME_PING, "PING"},
    {FRAME_STATS, "STATS"},
    {FRAME_QUEUE_CREATE, "QUEUE_CREATE"},
    {FRAME_QUEUE_ALTER, "QUEUE_ALTER"},
    {FRAME_QUEUE_DELETE, "QUEUE_DELETE"},
    {FRAME_QUEUE_PAUSE, "QUEUE_PAUSE"},
    {FRAME_QUEUE_RESUME, "QUEUE_RESUME"},
    {FRAME_QUEUE_PURGE, "QUEUE_PURGE"},
    {FRAME_QUEUE_LIST, "QUEUE_LIST"},
    {FRAME_QUEUE_DESCRIBE, "QUEUE_DESCRIBE"},
    {FRAME_GROUP_CREATE, "GROUP_CREATE"},
    {FRAME_GROUP_DELETE, "GROUP_DELETE"},
    {FRAME_GROUP_SEEK, "GROUP_SEEK"},
    {FRAME_GROUP_ALTER, "GROUP_ALTER"},
    {FRAME_BIND, "BIND"},
    {FRAME_UNBIND, "UNBIND"},
    {FRAME_SCAN, "SCAN"},
    {FRAME_RESCHEDULE, "RESCHEDULE"},
    {FRAME_SUBSCRIBE, "SUBSCRIBE"},
    {FRAME_UNSUBSCRIBE, "UNSUBSCRIBE"},
    {FRAME_LEASE, "LEASE"},
    {FRAME_PEEK, "PEEK"},
    {FRAME_PUBLISH, "PUBLISH"},
    {FRAME_ACK, "ACK"},
    {FRAME_NACK, "NACK"},
    {FRAME_EXTEND, "EXTEND"},
    {FRAME_TRANSACT, "TRANSACT"},
    {FRAME_BACKUP_BEGIN, "BACKUP_BEGIN"},
    {FRAME_BACKUP_READ, "BACKUP_READ"},
    {FRAME_BACKUP_END, "BACKUP_END"},
    {FRAME_CREDIT, "CREDIT"},
    {FRAME_HEARTBEAT, "HEARTBEAT"},
    {FRAME_GOAWAY, "GOAWAY"},
    {FRAME_DELIVER, "DELIVER"},
    {FRAME_SUBSCRIPTION_ENDED, "SUBSCRIPTION_ENDED"},
    {FRAME_ERROR, "ERROR"},
};

const char *frame_type_name(uint8_t type)
{
    uint8_t request = type == FRAME_ERROR ? type : type & (uint8_t)~FRAME_RESPONSE;

    for (size_t i = 0; i < sizeof(frame_names) / sizeof(frame_names[0]); i++) {
        if (frame_names[i].type == request)
            return frame_names[i].name;
    }
    return "?";
}

void publish_range_put(uint8_t out[PUBLISH_RANGE_BYTES], const struct publish_range *range)
{
    put_u64(out, range->first_seq);
    put_u32(out + 8, range->first_index);
    put_u32(out + 12, range->count);
    put_u16(out + 16, range->code);
    put_u16(out + 18, range->flags);
    put_u32(out + 20, range->retry_ms);
}

void publish_range_get(const uint8_t in[PUBLISH_RANGE_BYTES], struct publish_range *range)
{
    range->first_seq = get_u64(in);
    range->first_index = get_u32(in + 8);
    range->count = get_u32(in + 12);
    range->code = get_u16(in + 16);
    range->flags = get_u16(in + 18);
    range->retry_ms = get_u32(in + 20);
}

static bool name_byte(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == '-';
}

bool name_is_valid(const char *name, size_t len)
{
    if (len < 1 || len > NAME_MAX_BYTES || name[0] == '.')
        return false;
    for (size_t i = 0; i < len; i++) {
        if (!name_byte(name[i]))
            return false;
    }
    return true;
}
