#include "pub_message.h"

#include <inttypes.h>
#include <string.h>

enum message_field {
    FIELD_KEY,
    FIELD_ID,
    FIELD_TOPIC,
    FIELD_PRIORITY,
    FIELD_DELAY,
    FIELD_TTL,
    FIELD_BODY,
    FIELD_COUNT
};
static const char *const field_names[FIELD_COUNT] = {"key", "id", "topic", "priority", "delay", "ttl", "body"};
#define FIELDS_HELP "names out of key, id, topic, priority, delay, ttl, separated by commas, and body as the last"

static int find_field(const char *name, size_t len)
{
    for (int f = 0; f < FIELD_COUNT; f++) {
        if (strlen(field_names[f]) == len && memcmp(field_names[f], name, len) == 0)
            return f;
    }
    return FIELD_COUNT;
}

static bool parse_fields(const char *text, struct message_builder *b)
{
    unsigned seen = 0;
    for (const char *p = text;;) {
        const char *end = strchrnul(p, ',');
        int field = find_field(p, (size_t)(end - p));
        if (field == FIELD_COUNT || seen & 1u << field)
            return false;
        seen |= 1u << field;
        if (field == FIELD_BODY)
            return *end == '\0';
        if (*end == '\0' || b->field_count == MESSAGE_FIELDS_MAX)
            return false;
        b->fields[b->field_count++] = field;
        b->has_topic |= field == FIELD_TOPIC;
        p = end + 1;
    }
}

bool message_begin(struct cli *cli, const struct message_options *o, struct message_builder *b)
{
    *b = (struct message_builder){.has_topic = o->topic != NULL};
    broker_message *m = &b->template;
    *m = (broker_message){.size = sizeof *m, .key = o->key, .topic = o->topic, .id = o->id};
    m->priority = (uint8_t)o->priority.value;
    m->delay_ms = o->delay_ms.value;
    m->ttl_ms = o->ttl_ms.value;
    const struct {
        const char *name, *value;
    } texts[] = {{"key", o->key}, {"topic", o->topic}, {"id", o->id}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (texts[i].value && !*texts[i].value) {
            cli_complain(cli, CLI_USAGE, "--%s is empty; leave the option out for a message without %s", texts[i].name,
                         texts[i].name);
            return false;
        }
    }
    if (o->at && o->delay_ms.given) {
        cli_complain(cli, CLI_USAGE, "--at and --delay exclude each other");
        return false;
    }
    if ((o->at && !cli_when(cli, "at", o->at, &m->at_ms)) ||
        !headers_split(cli, "header", &o->headers, ":", &b->headers))
        return false;
    m->headers = b->headers.items;
    m->header_count = b->headers.count;
    if (o->fields && !parse_fields(o->fields, b)) {
        cli_complain(cli, CLI_USAGE, "--fields: '%s' is not " FIELDS_HELP, o->fields);
        return false;
    }
    return true;
}

/* One field that is not a body. Empty: as the options say. */
static bool set_field(struct message_builder *b, int field, const char *bytes, size_t len)
{
    broker_message *m = &b->message;
    char text[MESSAGE_TEXT_BYTES];
    uint64_t number;
    if (field == FIELD_KEY) {
        m->key = bytes;
        m->key_len = len;
        return true;
    }
    if (field == FIELD_ID) {
        m->id = bytes;
        m->id_len = len;
        return true;
    }
    if (len >= sizeof text || memchr(bytes, '\0', len))
        return false;
    memcpy(text, bytes, len);
    text[len] = '\0';
    switch (field) {
    case FIELD_TOPIC:
        memcpy(b->topic, text, len + 1);
        m->topic = b->topic;
        return true;
    case FIELD_PRIORITY:
        if (!args_number(text, &number) || number > 9)
            return false;
        m->priority = (uint8_t)number;
        return true;
    case FIELD_DELAY: return args_duration(text, &m->delay_ms);
    default: return args_duration(text, &m->ttl_ms) && m->ttl_ms > 0;
    }
}

bool message_set(struct message_builder *b, const char *bytes, size_t len, char *error, size_t error_bytes)
{
    b->message = b->template;
    for (size_t i = 0; i < b->field_count; i++) {
        const char *tab = memchr(bytes, '\t', len);
        const char *name = field_names[b->fields[i]];
        if (!tab) {
            snprintf(error, error_bytes, "there are %zu tabs, and --fields asks for %zu", i, b->field_count);
            return false;
        }
        size_t field_len = (size_t)(tab - bytes);
        if (field_len > 0 && !set_field(b, b->fields[i], bytes, field_len)) {
            snprintf(error, error_bytes, "'%.*s' is no %s", field_len < 40 ? (int)field_len : 40, bytes, name);
            return false;
        }
        len -= field_len + 1;
        bytes = tab + 1;
    }
    b->message.body = bytes;
    b->message.body_len = len;
    return true;
}
