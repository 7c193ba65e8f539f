/* What a program says of a message, checked and made into what a record is written from. */
#include "client_internal.h"

enum { MESSAGE_ID_MAX = 255 - PRODUCER_ID_BYTES };

static broker_error pack_headers(broker *b, const broker_message *m, struct record_spec *spec)
{
    msgpack_packer pk;

    if (m->header_count == 0) {
        spec->headers = m->raw_headers;
        spec->headers_len = m->raw_headers ? m->raw_headers_len : 0;
        return BROKER_OK;
    }
    if (!m->headers || m->raw_headers || m->header_count > UINT16_MAX)
        return set_error(b, BROKER_INVALID_ARGUMENT, "message: give up to 65535 headers, or raw_headers, not both");
    scratch_pack(b, &pk);
    msgpack_pack_map(&pk, m->header_count);
    for (size_t i = 0; i < m->header_count; i++) {
        const broker_header *h = &m->headers[i];
        if (!h->name || !h->value)
            return set_error(b, BROKER_INVALID_ARGUMENT, "message: header %zu has no name or no value", i);
        size_t name_len = strlen(h->name), value_len = strlen(h->value);
        if (b->scratch.size + name_len + value_len > RECORD_MAX_BYTES)
            return set_error(b, BROKER_TOO_LARGE, "message: its headers take more than %u bytes", RECORD_MAX_BYTES);
        pack_str(&pk, h->name, name_len);
        pack_str(&pk, h->value, value_len);
    }
    spec->headers = b->scratch.data;
    spec->headers_len = b->scratch.size;
    return scratch_good(b);
}

static broker_error check_topic(broker *b, const broker_message *m, bool by_topic, struct record_spec *spec)
{
    spec->topic = m->topic;
    spec->topic_len = m->topic ? strnlen(m->topic, TOPIC_MAX_BYTES + 1) : 0;
    spec->by_topic = by_topic;
    if (!m->topic && by_topic)
        return set_error(
            b, BROKER_INVALID_ARGUMENT,
            "message: neither a queue nor a topic; a publish without a queue goes where its topic is bound");
    if (m->topic && !topic_is_valid(m->topic, spec->topic_len))
        return set_error(b, BROKER_INVALID_ARGUMENT,
                         "message: \"%.64s\" is no topic: use up to %u tokens of A-Z a-z 0-9 _ - with dots between, "
                         "1 to %u bytes",
                         m->topic, TOPIC_MAX_TOKENS, TOPIC_MAX_BYTES);
    return BROKER_OK;
}

/* The record has room for one due time and one expiry, each absolute or counted from acceptance: see RECORD_DUE_IS_DELAY. */
static broker_error check_times(broker *b, const broker_message *m, struct record_spec *spec)
{
    if (m->delay_ms != 0 && m->at_ms != 0)
        return set_error(b, BROKER_INVALID_ARGUMENT, "message: delay_ms %llu and at_ms %llu; give only one",
                         (unsigned long long)m->delay_ms, (unsigned long long)m->at_ms);
    if (m->delay_ms > TIME_SPAN_MAX_MS || m->ttl_ms > TIME_SPAN_MAX_MS)
        return set_error(b, BROKER_INVALID_ARGUMENT, "message: delay_ms %llu, ttl_ms %llu; give up to %llu (100 years)",
                         (unsigned long long)m->delay_ms, (unsigned long long)m->ttl_ms, TIME_SPAN_MAX_MS);
    spec->due_ms = m->delay_ms ? m->delay_ms : m->at_ms;
    spec->due_is_delay = m->delay_ms != 0;
    spec->expire_ms = m->ttl_ms;
    spec->expire_is_ttl = m->ttl_ms != 0;
    return BROKER_OK;
}

static broker_error check_id(broker *b, const broker_message *m, struct record_spec *spec)
{
    spec->id = m->id;
    spec->id_len = !m->id ? 0 : m->id_len ? m->id_len : strnlen(m->id, MESSAGE_ID_MAX + 1);
    spec->priority = m->priority;
    if (m->id && (spec->id_len < 1 || spec->id_len > MESSAGE_ID_MAX))
        return set_error(b, BROKER_INVALID_ARGUMENT, "message: an id of %zu bytes; give 1 to %u, or NULL", spec->id_len,
                         MESSAGE_ID_MAX);
    if (m->priority > PRIORITY_MAX)
        return set_error(b, BROKER_INVALID_ARGUMENT, "message: priority is %u; give 0 to %d, %d goes first",
                         m->priority, PRIORITY_MAX, PRIORITY_MAX);
    return BROKER_OK;
}

/* Why record_spec_bytes said 0. */
static broker_error refuse_spec(broker *b, const struct record_spec *spec)
{
    if (spec->key_len > UINT16_MAX)
        return set_error(b, BROKER_INVALID_ARGUMENT, "message: a key of %zu bytes; at most 65535 are allowed",
                         spec->key_len);
    if (spec->body_len > RECORD_MAX_BYTES || spec->headers_len > RECORD_MAX_BYTES ||
        spec->body_len + spec->headers_len + spec->key_len + 16 * RECORD_HEAD_BYTES > RECORD_MAX_BYTES)
        return set_error(b, BROKER_TOO_LARGE,
                         "message: %zu bytes of body and %zu of headers; a message may have %u in all", spec->body_len,
                         spec->headers_len, RECORD_MAX_BYTES);
    return set_error(b, BROKER_INVALID_ARGUMENT, "message: its raw_headers are no msgpack map");
}

broker_error message_spec(broker *b, const broker_message *message, bool by_topic, struct record_spec *spec,
                          uint32_t *bytes)
{
    broker_message older;
    const broker_message *m = message;

    if (message && message->size < sizeof(older)) { /* of a program built against an older header */
        m = copy_options(&older, sizeof(older), message, offsetof(broker_message, key)) ? &older : NULL;
    }
    if (!m)
        return set_error(b, BROKER_INVALID_ARGUMENT,
                         "message: size is not set; use BROKER_OPTIONS_INIT(broker_message)");
    if (!m->body && m->body_len > 0)
        return set_error(b, BROKER_INVALID_ARGUMENT, "message: body is NULL and body_len is %zu", m->body_len);
    /* Every field is set, here and by the checks: clearing the struct first costs as much as all the rest. */
    spec->producer = b->producer;
    spec->number = 0;
    spec->body = m->body;
    spec->body_len = m->body_len;
    spec->key = m->key;
    spec->key_len = !m->key ? 0 : m->key_len ? m->key_len : strlen(m->key);
    broker_error error = check_topic(b, m, by_topic, spec);
    if (error == BROKER_OK)
        error = check_times(b, m, spec);
    if (error == BROKER_OK)
        error = check_id(b, m, spec);
    if (error == BROKER_OK)
        error = pack_headers(b, m, spec);
    if (error != BROKER_OK)
        return error;
    *bytes = record_spec_bytes(spec);
    if (*bytes == 0)
        return refuse_spec(b, spec);
    if (b->max_message != 0 && *bytes > pad8(b->max_message))
        return set_error(b, BROKER_TOO_LARGE, "message: a record of %u bytes; the broker stores at most %u", *bytes,
                         b->max_message);
    return BROKER_OK;
}
