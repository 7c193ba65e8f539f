/* A message as a CloudEvent in structured mode: its ce- headers, if it came as one, else an event made of what it has. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "listing.h"

struct telling {
    struct buf *out;
    char type[256]; /* the content type, if it is a sane one; "": none */
    bool good;
};

static bool member(struct buf *out, const char *name, size_t name_len, const char *value, size_t value_len)
{
    return form_put(out, ",") && form_json_string(out, name, name_len) && form_put(out, ":") &&
           form_json_string(out, value, value_len);
}

static bool text_member(struct buf *out, const char *name, const char *value)
{
    return member(out, name, strlen(name), value, strlen(value));
}

static bool is_attribute(const char *name, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (!((name[i] >= 'a' && name[i] <= 'z') || (name[i] >= '0' && name[i] <= '9')))
            return false;
    }
    return len > 0;
}

static bool is_named(const char *name, size_t len, const char *is)
{
    return len == strlen(is) && memcmp(name, is, len) == 0;
}

/* Members that come of the message and its place, whatever an event brought along when it was published. */
static bool is_own(const char *name, size_t len)
{
    static const char *const OWN[] = {"specversion", "data",          "datacontenttype", "database64",
                                      "brokerseq",   "brokerreceipt", "brokerattempt"};
    for (size_t i = 0; i < sizeof(OWN) / sizeof(OWN[0]); i++) {
        if (is_named(name, len, OWN[i]))
            return true;
    }
    return false;
}

/* "specversion" stands first already; "datacontenttype" and "data" come of the message itself. */
static bool tell_header(void *arg, const char *name, size_t len, const char *value, size_t value_len)
{
    struct telling *t = arg;
    if (is_named(name, len, "content-type") && value_len < sizeof(t->type) && form_is_utf8(value, value_len)) {
        memcpy(t->type, value, value_len);
        t->type[value_len] = 0;
    }
    if (len <= 3 || memcmp(name, "ce-", 3) != 0 || !is_attribute(name + 3, len - 3) || is_own(name + 3, len - 3))
        return true;
    return t->good = member(t->out, name + 3, len - 3, value, value_len);
}

static bool find_type(void *arg, const char *name, size_t len, const char *value, size_t value_len)
{
    struct telling *t = arg;
    if (!is_named(name, len, "content-type") || value_len >= sizeof(t->type) || !form_is_utf8(value, value_len))
        return true;
    memcpy(t->type, value, value_len);
    t->type[value_len] = 0;
    return false;
}

/* What a message that is no event has for the attributes that an event must have. */
static bool tell_message(struct telling *t, const struct form_message *m, const struct record_view *v,
                         const char *queue)
{
    char text[32], time[TIME_BYTES_MAX];
    bool text_id = v->message_id_len > 0 && form_is_utf8(v->message_id, v->message_id_len);
    size_t n = (size_t)snprintf(text, sizeof(text), "%llu", (unsigned long long)m->seq);
    format_time(v->head.time_ms, time);
    if (v->head.headers_len > 0)
        form_each_header(v, find_type, t);
    return (text_id ? member(t->out, "id", 2, (const char *)v->message_id, v->message_id_len)
                    : member(t->out, "id", 2, text, n)) &&
           form_put(t->out, ",\"source\":\"/v1/queues/") && form_put(t->out, queue ? queue : "") &&
           form_put(t->out, "\",\"type\":\"brokerd.message\"") && text_member(t->out, "time", time) &&
           (v->head.topic_len == 0 || member(t->out, "subject", 7, (const char *)v->topic, v->head.topic_len)) &&
           (v->head.key_len == 0 || !form_is_utf8(v->key, v->head.key_len) ||
            member(t->out, "partitionkey", 12, (const char *)v->key, v->head.key_len));
}

static bool type_is_json(const char *type)
{
    size_t n = strcspn(type, "; ");
    return n >= 5 && (strncasecmp(type + n - 5, "+json", 5) == 0 || strncasecmp(type + n - 5, "/json", 5) == 0);
}

/* CloudEvents' JSON format 3.1: JSON as it is, text as a string, anything else in base64. */
static bool tell_data(struct telling *t, const struct record_view *v)
{
    struct buf *out = t->out;
    char text[FORM_TEXT_BYTES];
    if (t->type[0] && !text_member(out, "datacontenttype", t->type))
        return false;
    if (v->body_len == 0)
        return true;
    if (type_is_json(t->type)) {
        json_t *value = form_json_parse(v->body, v->body_len, text);
        bool json = value != NULL;
        json_decref(value);
        if (json)
            return form_put(out, ",\"data\":") && buf_append(out, v->body, v->body_len);
    } else if (t->type[0] && form_is_utf8(v->body, v->body_len)) {
        return form_put(out, ",\"data\":") && form_json_string(out, (const char *)v->body, v->body_len);
    } else if (!t->type[0] && !text_member(out, "datacontenttype", "application/octet-stream")) {
        return false;
    }
    return form_put(out, ",\"data_base64\":\"") && form_base64(out, v->body, v->body_len) && form_put(out, "\"");
}

bool cloudevent_put(struct buf *out, const struct form_message *m, const char *queue)
{
    struct record_view v;
    struct telling t = {.out = out, .good = true};
    if (record_view_get(m->record, record_padded(m->record), &v) != BROKER_OK)
        return false;
    bool good = form_put(out, "{\"specversion\":\"1.0\"");
    if (good && message_is_event(&v)) {
        form_each_header(&v, tell_header, &t);
        good = t.good;
    } else {
        good = good && tell_message(&t, m, &v, queue);
    }
    good = good && form_put(out, ",\"brokerseq\":\"") && form_json_u64(out, m->seq) && form_put(out, "\"");
    if (good && m->receipt)
        good = form_put(out, ",\"brokerreceipt\":\"") && form_json_u64(out, m->receipt) &&
               form_put(out, "\",\"brokerattempt\":") && form_json_u64(out, m->attempt);
    return good && tell_data(&t, &v) && form_put(out, "}");
}
