#include "sub_format.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

const char *format_time(char out[TIME_TEXT_BYTES], uint64_t unix_ms)
{
    struct tm tm;
    time_t seconds = (time_t)(unix_ms / 1000);
    if (!gmtime_r(&seconds, &tm)) {
        snprintf(out, TIME_TEXT_BYTES, "%" PRIu64 " ms", unix_ms);
        return out;
    }
    size_t n = strftime(out, TIME_TEXT_BYTES, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(out + n, TIME_TEXT_BYTES - n, ".%03uZ", (unsigned)(unix_ms % 1000));
    return out;
}

/* Bytes that are UTF-8 go out as `key`, others as `key`_base64. */
static void put_bytes(struct json *j, const char *key, const char *key_base64, const char *bytes, size_t len)
{
    if (utf8_is_valid(bytes, len)) {
        json_key(j, key);
        json_bytes(j, bytes, len);
    } else {
        json_key(j, key_base64);
        json_base64(j, bytes, len);
    }
}

static bool put_header(void *arg, const char *name, size_t name_len, const char *value, size_t value_len)
{
    struct json *j = arg;
    json_bytes(j, name, name_len);
    text_add(j->out, ":", 1);
    j->after_key = true;
    json_bytes(j, value, value_len);
    return true;
}

static void put_time(struct json *j, const char *key, uint64_t unix_ms)
{
    char time[TIME_TEXT_BYTES];
    if (unix_ms)
        json_put_text(j, key, format_time(time, unix_ms));
}

void format_message_json(struct json *j, const broker_msg *m, bool peeked)
{
    size_t len;
    char time[TIME_TEXT_BYTES];
    json_open(j, '{');
    json_put_u64(j, "seq", broker_msg_seq(m));
    json_put_text(j, "time", format_time(time, broker_msg_time_ms(m)));
    json_put_u64(j, "time_ms", broker_msg_time_ms(m));
    if (!peeked) {
        json_put_u64(j, "attempt", broker_msg_attempt(m));
        /* A string: it is opaque, and programs that keep numbers as doubles would round it. */
        json_key(j, "receipt");
        text_addf(j->out, "\"%" PRIu64 "\"", broker_msg_receipt(m));
        j->after_key = false;
    }
    const char *topic = broker_msg_topic(m, &len);
    if (topic)
        put_bytes(j, "topic", "topic_base64", topic, len);
    const char *id = broker_msg_id(m, &len);
    if (id)
        put_bytes(j, "id", "id_base64", id, len);
    if (broker_msg_priority(m))
        json_put_u64(j, "priority", broker_msg_priority(m));
    put_time(j, "due", broker_msg_due_ms(m));
    put_time(j, "expires", broker_msg_expire_ms(m));
    const char *key = broker_msg_key(m, &len);
    if (key)
        put_bytes(j, "key", "key_base64", key, len);
    if (broker_msg_raw_headers(m, &len)) {
        json_key(j, "headers");
        json_open(j, '{');
        broker_msg_each_header(m, put_header, j);
        json_close(j, '}');
    }
    const char *body = broker_msg_body(m, &len);
    put_bytes(j, "body", "body_base64", body, len);
    json_close(j, '}');
}

void format_visible(struct text *out, const char *bytes, size_t len)
{
    for (size_t i = 0; i < len;) {
        size_t n = utf8_length(bytes + i, len - i);
        bool visible = n > 0 && (unsigned char)bytes[i] >= 0x20 && bytes[i] != 0x7f;
        text_add(out, visible ? bytes + i : ".", visible ? n : 1);
        i += n ? n : 1;
    }
}

static void add_field(struct text *out, const char *name, const char *bytes, size_t len)
{
    if (!bytes)
        return;
    text_addf(out, "  %s=", name);
    format_visible(out, bytes, len);
}

static bool add_header(void *arg, const char *name, size_t name_len, const char *value, size_t value_len)
{
    text_add(arg, "  ", 2);
    format_visible(arg, name, name_len);
    text_add(arg, ":", 1);
    format_visible(arg, value, value_len);
    return true;
}

static void format_message_long(struct text *out, const broker_msg *m, bool peeked)
{
    size_t len;
    char time[TIME_TEXT_BYTES];
    text_addf(out, "%" PRIu64 "  %s", broker_msg_seq(m), format_time(time, broker_msg_time_ms(m)));
    if (!peeked)
        text_addf(out, "  attempt=%" PRIu32, broker_msg_attempt(m));
    const char *topic = broker_msg_topic(m, &len);
    add_field(out, "topic", topic, len);
    const char *key = broker_msg_key(m, &len);
    add_field(out, "key", key, len);
    const char *id = broker_msg_id(m, &len);
    add_field(out, "id", id, len);
    if (broker_msg_priority(m))
        text_addf(out, "  priority=%u", broker_msg_priority(m));
    if (broker_msg_due_ms(m))
        text_addf(out, "  due=%s", format_time(time, broker_msg_due_ms(m)));
    if (broker_msg_expire_ms(m))
        text_addf(out, "  expires=%s", format_time(time, broker_msg_expire_ms(m)));
    if (broker_msg_raw_headers(m, &len))
        broker_msg_each_header(m, add_header, out);
    const char *body = broker_msg_body(m, &len);
    text_add(out, "  ", 2);
    format_visible(out, body, len);
}

void format_message(struct text *out, const struct message_format *format, const broker_msg *m)
{
    if (format->style == MESSAGE_JSON) {
        struct json j = {.out = out};
        format_message_json(&j, m, format->peeked);
    } else if (format->style == MESSAGE_LONG) {
        format_message_long(out, m, format->peeked);
    } else {
        size_t len;
        const void *body = broker_msg_body(m, &len);
        text_add(out, body, len);
    }
    text_add(out, format->delimiter, format->delimiter_len);
}
