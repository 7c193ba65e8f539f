/* Bodies of answers that tell of queues, groups, and what lies in them. */
#include <string.h>

#include "front_internal.h"

static void pack_queue(msgpack_packer *pk, const broker_queue_info *q)
{
    const struct {
        const char *key;
        uint64_t value;
    } numbers[] = {
        {"id", q->id},
        {"first_seq", q->first_seq},
        {"last_seq", q->last_seq},
        {"messages", q->messages},
        {"bytes", q->bytes},
        {"groups", q->groups},
        {"consumers", q->consumers},
        {"scheduled", q->scheduled},
        {"bindings", q->bindings},
        {"published", q->published},
        {"expired", q->expired},
        {"dead_lettered", q->dead_lettered},
        {"dropped", q->dropped},
        {"duplicates", q->duplicates},
    };
    size_t n = sizeof(numbers) / sizeof(numbers[0]);
    msgpack_pack_map(pk, 2 + n + queue_settings_keys);
    pack_key_str(pk, "name", q->name, strlen(q->name));
    pack_key_bool(pk, "paused", q->paused);
    for (size_t i = 0; i < n; i++)
        pack_key_u64(pk, numbers[i].key, numbers[i].value);
    queue_settings_pack(pk, &q->settings);
}

static void pack_group(msgpack_packer *pk, const broker_group_info *g)
{
    const struct {
        const char *key;
        uint64_t value;
    } numbers[] = {
        {"floor_seq", g->floor_seq}, {"cursor_seq", g->cursor_seq}, {"ready", g->ready},     {"leased", g->leased},
        {"delayed", g->delayed},     {"consumers", g->consumers},   {"blocked", g->blocked}, {"lag", g->lag},
    };
    size_t n = sizeof(numbers) / sizeof(numbers[0]);
    msgpack_pack_map(pk, 1 + n + group_settings_keys);
    pack_key_str(pk, "name", g->name, strlen(g->name));
    for (size_t i = 0; i < n; i++)
        pack_key_u64(pk, numbers[i].key, numbers[i].value);
    group_settings_pack(pk, &g->settings);
}

void answer_list(struct conn *c, uint8_t type, const struct completion *done)
{
    msgpack_packer *pk = body_begin(c->front);
    msgpack_pack_map(pk, 2);
    pack_str(pk, "queues", 6);
    msgpack_pack_array(pk, done->u.list.count);
    for (size_t i = 0; i < done->u.list.count; i++)
        pack_queue(pk, &done->u.list.queues[i]);
    pack_key_bool(pk, "more", done->u.list.more);
    body_send(c, type, done->token.correlation, done->token.stream);
}

void answer_describe(struct conn *c, uint8_t type, const struct completion *done)
{
    msgpack_packer *pk = body_begin(c->front);
    msgpack_pack_map(pk, 3);
    pack_str(pk, "queue", 5);
    pack_queue(pk, done->u.describe.queue);
    pack_str(pk, "groups", 6);
    msgpack_pack_array(pk, done->u.describe.group_count);
    for (size_t i = 0; i < done->u.describe.group_count; i++)
        pack_group(pk, &done->u.describe.groups[i]);
    pack_str(pk, "bindings", 8);
    msgpack_pack_array(pk, done->u.describe.binding_count);
    for (size_t i = 0; i < done->u.describe.binding_count; i++)
        pack_str(pk, done->u.describe.bindings[i], strlen(done->u.describe.bindings[i]));
    body_send(c, type, done->token.correlation, done->token.stream);
}

/* Head, every message's seq, records. */
static void answer_peek(struct conn *c, const struct completion *done)
{
    const struct stored_message *m = done->u.scan.messages;
    uint32_t count = done->u.scan.count, records = 0;
    struct frame_head head = {.type = FRAME_PEEK | FRAME_RESPONSE, .correlation = done->token.correlation};
    for (uint32_t i = 0; i < count; i++)
        records += m[i].padded_len;
    uint8_t *to = frame_begin(c, &head, PEEK_HEAD_BYTES + 8 * count, records);
    if (!to)
        return;
    put_u32(to, count);
    put_u32(to + 4, done->u.scan.next_seq ? PEEK_MORE : 0);
    put_u64(to + 8, done->u.scan.next_seq);
    for (uint32_t i = 0; i < count; i++)
        put_u64(to + PEEK_HEAD_BYTES + 8 * i, m[i].seq);
    write_records(c, m, count);
}

void answer_scan(struct conn *c, uint8_t type, const struct completion *done)
{
    if (done->u.scan.peek) {
        answer_peek(c, done);
        return;
    }
    msgpack_packer *pk = body_begin(c->front);
    msgpack_pack_map(pk, 3);
    pack_key_u64(pk, "matched", done->u.scan.matched);
    pack_key_u64(pk, "skipped", done->u.scan.skipped);
    pack_key_u64(pk, "next_seq", done->u.scan.next_seq);
    body_send(c, type, done->token.correlation, done->token.stream);
}
