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

void format_message_json(struct json *j, const broker_msg *m)
{
    size_t len;
    char time[TIME_TEXT_BYTES];
    json_open(j, '{');
    json_put_u64(j, "seq", broker_msg_seq(m));
    json_put_text(j, "time", format_time(time, broker_msg_time_ms(m)));
    json_put_u64(j, "time_ms", broker_msg_time_ms(m));
    json_put_u64(j, "attempt", broker_msg_attempt(m));
    /* A string: it is opaque, and programs that keep numbers as doubles would round it. */
    json_key(j, "receipt");
    text_addf(j->out, "\"%" PRIu64 "\"", broker_msg_receipt(m));
    j->after_key = false;
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

void format_message(struct text *out, const struct message_format *format, const broker_msg *m)
{
    if (format->json) {
        struct json j = {.out = out};
        format_message_json(&j, m);
    } else {
        size_t len;
        const void *body = broker_msg_body(m, &len);
        text_add(out, body, len);
    }
    text_add(out, format->delimiter, format->delimiter_len);
}
