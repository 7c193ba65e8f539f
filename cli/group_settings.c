/* Settings of groups: options, text, JSON and back. */
#include "settings.h"

#include <string.h>

#define CHOSE_YES 1 /* of "yes|no" */

bool group_settings_from_options(struct cli *cli, const struct group_options *o, struct header_list *headers,
                                 broker_group_settings *out)
{
    bool filters = o->filter_topic || o->filter_key || o->filter_headers.count;
    *out = (broker_group_settings){.size = sizeof *out};
    if (filters && o->no_filter) {
        cli_complain(cli, CLI_USAGE, "--no-filter and a filter exclude each other");
        return false;
    }
    if (!headers_split(cli, "filter-header", &o->filter_headers, "=:", headers))
        return false;
    out->filter = (broker_filter){o->filter_topic, o->filter_key, headers->items, headers->count};
    out->single_active = o->single_active == CHOSE_YES;
    out->set = (filters || o->no_filter ? BROKER_GROUP_SET_FILTER : 0) |
               (o->single_active ? BROKER_GROUP_SET_SINGLE_ACTIVE : 0);
    return true;
}

static bool is_given(const char *text)
{
    return text && *text;
}

void group_settings_json(struct json *j, const broker_group_settings *s)
{
    const broker_filter *f = &s->filter;
    if (is_given(f->topic))
        json_put_text(j, "filter_topic", f->topic);
    if (is_given(f->key))
        json_put_text(j, "filter_key", f->key);
    if (f->header_count > 0) {
        json_key(j, "filter_headers");
        json_open(j, '{');
        for (size_t i = 0; i < f->header_count; i++)
            json_put_text(j, f->headers[i].name, f->headers[i].value);
        json_close(j, '}');
    }
    json_put_bool(j, "single_active", s->single_active);
}

void group_settings_text(struct text *out, const broker_group_settings *s)
{
    const broker_filter *f = &s->filter;
    if (is_given(f->topic))
        text_addf(out, "  topic %s", f->topic);
    if (is_given(f->key))
        text_addf(out, "  key %s", f->key);
    for (size_t i = 0; i < f->header_count; i++)
        text_addf(out, "  %s=%s", f->headers[i].name, f->headers[i].value);
    if (s->single_active)
        text_addf(out, "  single-active");
}

static bool read_headers(json_t *value, struct header_list *headers)
{
    const char *name;
    json_t *text;
    if (!json_is_object(value))
        return false;
    json_object_foreach(value, name, text)
    {
        if (!json_is_string(text) ||
            !headers_add(headers, name, strlen(name), json_string_value(text), json_string_length(text)))
            return false;
    }
    return true;
}

bool group_settings_from_json(json_t *object, struct header_list *headers, broker_group_settings *out, char *error,
                              size_t error_bytes)
{
    const char *key;
    json_t *value;
    *out =
        (broker_group_settings){.size = sizeof *out, .set = BROKER_GROUP_SET_FILTER | BROKER_GROUP_SET_SINGLE_ACTIVE};
    headers->count = headers->used = 0;
    json_object_foreach(object, key, value)
    {
        bool ok = true;
        if (strcmp(key, "filter_topic") == 0) {
            ok = json_is_string(value);
            out->filter.topic = json_string_value(value);
        } else if (strcmp(key, "filter_key") == 0) {
            ok = json_is_string(value);
            out->filter.key = json_string_value(value);
        } else if (strcmp(key, "filter_headers") == 0) {
            ok = read_headers(value, headers);
        } else if (strcmp(key, "single_active") == 0) {
            ok = json_is_boolean(value);
            out->single_active = json_is_true(value);
        } else {
            ok = strcmp(key, "name") == 0;
        }
        if (!ok) {
            snprintf(error, error_bytes, "\"%.60s\" of a group is unknown or has a wrong value", key);
            return false;
        }
    }
    out->filter.headers = headers->items;
    out->filter.header_count = headers->count;
    return true;
}

static bool same_text(const char *a, const char *b)
{
    return strcmp(a ? a : "", b ? b : "") == 0;
}

/* Headers of a filter are a set: their order says nothing. */
static bool same_headers(const broker_filter *a, const broker_filter *b)
{
    if (a->header_count != b->header_count)
        return false;
    for (size_t i = 0; i < a->header_count; i++) {
        bool found = false;
        for (size_t k = 0; k < b->header_count; k++)
            found |= same_text(a->headers[i].name, b->headers[k].name) &&
                     same_text(a->headers[i].value, b->headers[k].value);
        if (!found)
            return false;
    }
    return true;
}

uint32_t group_settings_differ(const broker_group_settings *wanted, const broker_group_settings *there)
{
    const broker_filter *a = &wanted->filter, *b = &there->filter;
    bool same_filter = same_text(a->topic, b->topic) && same_text(a->key, b->key) && same_headers(a, b);
    uint32_t set = (same_filter ? 0 : BROKER_GROUP_SET_FILTER) |
                   (wanted->single_active == there->single_active ? 0 : BROKER_GROUP_SET_SINGLE_ACTIVE);
    return set & wanted->set;
}
