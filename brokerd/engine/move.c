/* A message's copy into another queue, and the end of the original, in one step: dead letters, redrive, move. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine_internal.h"

enum { DEAD_PREFIX_LEN = 5, NUMBER_BYTES = 24 };

static void pack_number(msgpack_packer *pk, const char *name, uint64_t value)
{
    char text[NUMBER_BYTES];
    int n = snprintf(text, sizeof text, "%" PRIu64, value);
    pack_key_str(pk, name, text, (size_t)n);
}

static uint32_t pack_note(msgpack_packer *pk, const struct engine *e, const struct move *m,
                          const struct record_view *view)
{
    const struct dead_note *note = m->note;
    pack_key_str(pk, "dead-reason", note->reason, strlen(note->reason));
    pack_key_str(pk, "dead-queue", m->from->name, strlen(m->from->name));
    pack_number(pk, "dead-seq", m->message->seq);
    pack_number(pk, "dead-time-ms", e->now.wall.ms);
    pack_number(pk, "dead-published-ms", view->head.time_ms);
    if (note->group) {
        pack_key_str(pk, "dead-group", note->group->name, strlen(note->group->name));
    }
    if (note->attempts) {
        pack_number(pk, "dead-attempts", note->attempts);
    }
    return 5 + (note->group != NULL) + (note->attempts != 0);
}

/* The message's own headers without what an earlier death noted. *pairs of them; false: malformed (then none). */
static bool pack_own(msgpack_sbuffer *out, const struct record_view *view, uint32_t *pairs)
{
    const uint8_t *end = view->headers + view->head.headers_len;
    uint32_t n = 0;
    const uint8_t *p = view->head.headers_len ? wire_skip_map(view->headers, end, &n) : NULL;
    *pairs = 0;
    for (uint32_t i = 0; p && i < n; i++) {
        const char *name;
        size_t len;
        const uint8_t *value = wire_skip_text(p, end, &name, &len);
        bool dead = value && len >= DEAD_PREFIX_LEN && memcmp(name, "dead-", DEAD_PREFIX_LEN) == 0;
        value = value ? value : wire_skip(p, end);
        const uint8_t *next = value ? wire_skip(value, end) : NULL;
        if (!next) {
            return false;
        }
        if (!dead) {
            if (msgpack_sbuffer_write(out, (const char *)p, (size_t)(next - p))) {
                return false;
            }
            ++*pairs;
        }
        p = next;
    }
    return true;
}

/* The copy's headers, as one map in *out. */
static bool pack_headers(msgpack_sbuffer *out, const struct engine *e, const struct move *m,
                         const struct record_view *view)
{
    msgpack_sbuffer pairs;
    msgpack_packer pk;
    uint32_t n = 0;
    msgpack_sbuffer_init(&pairs);
    msgpack_packer_init(&pk, &pairs, msgpack_sbuffer_write);
    if (!pack_own(&pairs, view, &n)) {
        msgpack_sbuffer_clear(&pairs);
        n = 0;
    }
    n += m->note ? pack_note(&pk, e, m, view) : 0;
    msgpack_packer_init(&pk, out, msgpack_sbuffer_write);
    bool ok = msgpack_pack_map(&pk, n) == 0 && (!pairs.size || msgpack_sbuffer_write(out, pairs.data, pairs.size) == 0);
    if (!n) {
        msgpack_sbuffer_clear(out);
    }
    msgpack_sbuffer_destroy(&pairs);
    return ok;
}

/* The copy as a record of `to`, in e->route. */
static uint8_t *build_copy(struct engine *e, const struct move *m, const struct record_view *view, uint32_t *length)
{
    msgpack_sbuffer headers;
    msgpack_sbuffer_init(&headers);
    uint8_t *record = NULL;
    if (pack_headers(&headers, e, m, view)) {
        bool plain = !m->note; /* a dead letter waits for somebody to look at it: it neither waits nor expires */
        struct record_spec spec = {.body = view->body,
                                   .body_len = view->body_len,
                                   .key = view->key,
                                   .key_len = view->head.key_len,
                                   .topic = view->topic,
                                   .topic_len = view->head.topic_len,
                                   .headers = headers.data,
                                   .headers_len = headers.size,
                                   .priority = view->head.priority,
                                   .due_ms = plain && view->due_ms > e->now.wall.ms ? view->due_ms : 0,
                                   .expire_ms = plain && view->expire_ms > e->now.wall.ms ? view->expire_ms : 0,
                                   .id = view->message_id,
                                   .id_len = view->message_id_len};
        uint32_t padded = record_spec_bytes(&spec);
        buf_clear(&e->route);
        record = padded ? buf_reserve(&e->route, padded) : NULL;
        if (record) {
            record_spec_put(record, &spec);
            *length = record_length(record);
        }
    }
    msgpack_sbuffer_destroy(&headers);
    return record;
}

broker_error message_move(struct engine *e, const struct move *m, uint64_t *index)
{
    struct record_view view;
    struct append_item items[2];
    struct queue *to = m->to;
    uint64_t seq = to->next_seq;
    if (record_view_get(m->message->record, m->message->padded_len, &view)) {
        return BROKER_DAMAGED;
    }
    uint8_t *copy = build_copy(e, m, &view, &items[0].length);
    buf_clear(&e->scratch);
    const uint8_t *end =
        copy ? engine_put_record(e, &e->scratch, m->end_type, m->from->id, 0, m->end_body, m->end_len) : NULL;
    if (!end || !pending_reserve(&e->synced) || !pending_reserve(&e->written)) {
        return BROKER_NO_MEMORY;
    }
    put_u32(copy + 12, to->id);
    put_u64(copy + 16, seq);
    record_view_get(copy, items[0].length, &view);
    message_accept(e, copy, &view);
    if (!message_prepare(e, to, &view, seq)) {
        return BROKER_NO_MEMORY;
    }
    items[0].record = copy;
    items[1] = (struct append_item){.record = end, .length = record_length(end)};
    broker_error error = e->ops->append_all(e->store, items, 2, DURABILITY_SYNCED, index);
    if (error) {
        message_undo(e, to, &view, seq);
        return error;
    }
    to->next_seq = seq + 1;
    message_arrived(e, to, &view, seq);
    publish_await(e, to, seq, DURABILITY_SYNCED, *index);
    queue_used(e, to);
    return BROKER_OK;
}

/* `own` is room for the name. */
static struct name dead_letter_name(const struct queue *q, char own[NAME_MAX_BYTES + sizeof ".dead"])
{
    const char *name = q->settings.dead_letter;
    if (!name) {
        snprintf(own, NAME_MAX_BYTES + sizeof ".dead", "%s.dead", q->name);
        name = own;
    }
    return (struct name){.bytes = name, .len = strlen(name)};
}

struct queue *dead_letter_find(struct engine *e, const struct queue *q)
{
    char own[NAME_MAX_BYTES + sizeof ".dead"];
    return queue_find(e, dead_letter_name(q, own));
}

struct queue *dead_letter_queue(struct engine *e, struct queue *q, broker_error *error)
{
    char own[NAME_MAX_BYTES + sizeof ".dead"];
    struct name wanted = dead_letter_name(q, own);
    struct queue *to = queue_find(e, wanted);
    if (to || wanted.len > NAME_MAX_BYTES) {
        *error = to ? BROKER_OK : BROKER_INVALID_ARGUMENT;
        return to;
    }
    struct queue_settings settings = {0};
    settings_default(e, &settings);
    to = queue_make(e, wanted, &settings, error);
    settings_release(&settings);
    return to;
}
