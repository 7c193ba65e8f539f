/* Completions as maps. */
#include "control_internal.h"

struct number {
    const char *key;
    uint64_t value;
};

static void pack_numbers(msgpack_packer *pk, const struct number *numbers, size_t count)
{
    for (size_t i = 0; i < count; i++)
        pack_key_u64(pk, numbers[i].key, numbers[i].value);
}

void control_pack_queue(msgpack_packer *pk, const broker_queue_info *q)
{
    const struct number numbers[] = {
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
        {"delivered", q->delivered},
        {"acked", q->acked},
        {"redelivered", q->redelivered},
        {"ready", q->ready},
        {"leased", q->leased},
        {"oldest_ms", q->oldest_ms},
        {"dead", q->dead},
    };
    size_t n = sizeof(numbers) / sizeof(numbers[0]);
    msgpack_pack_map(pk, 2 + n + map_queue_settings_keys.count);
    pack_key_str(pk, "name", q->name, strlen(q->name));
    pack_key_bool(pk, "paused", q->paused);
    pack_numbers(pk, numbers, n);
    map_queue_settings_pack(pk, &q->settings);
}

void control_pack_group(msgpack_packer *pk, const broker_group_info *g)
{
    const struct number numbers[] = {
        {"floor_seq", g->floor_seq}, {"cursor_seq", g->cursor_seq}, {"ready", g->ready},     {"leased", g->leased},
        {"delayed", g->delayed},     {"consumers", g->consumers},   {"blocked", g->blocked}, {"lag", g->lag},
    };
    size_t n = sizeof(numbers) / sizeof(numbers[0]);
    msgpack_pack_map(pk, 1 + n + map_group_settings_keys.count);
    pack_key_str(pk, "name", g->name, strlen(g->name));
    pack_numbers(pk, numbers, n);
    map_group_settings_pack(pk, &g->settings);
}

void control_pack_stats(msgpack_packer *pk, const broker_stats *s)
{
    const struct number numbers[] = {
        {"uptime_ms", s->uptime_ms},
        {"cpu_us", s->cpu_us},
        {"rss_bytes", s->rss_bytes},
        {"connections", s->connections},
        {"queues", s->queues},
        {"subscriptions", s->subscriptions},
        {"published", s->published},
        {"delivered", s->delivered},
        {"acked", s->acked},
        {"syncs", s->syncs},
        {"log_index", s->log_index},
        {"bytes_written", s->bytes_written},
        {"disk_bytes", s->disk_bytes},
        {"segments", s->segments},
        {"scheduled", s->scheduled},
        {"redelivered", s->redelivered},
        {"dead_lettered", s->dead_lettered},
        {"expired", s->expired},
        {"dropped", s->dropped},
        {"duplicates", s->duplicates},
    };
    size_t n = sizeof(numbers) / sizeof(numbers[0]);
    msgpack_pack_map(pk, n + 1);
    pack_numbers(pk, numbers, n);
    pack_key_str(pk, "version", BROKER_VERSION_STRING, strlen(BROKER_VERSION_STRING));
}

/* ---- one completion ---------------------------------------------------------------------------------------------------------- */

static void pack_list(msgpack_packer *pk, const struct completion *done)
{
    msgpack_pack_map(pk, 2);
    pack_str(pk, "queues", 6);
    msgpack_pack_array(pk, done->u.list.count);
    for (size_t i = 0; i < done->u.list.count; i++)
        control_pack_queue(pk, &done->u.list.queues[i]);
    pack_key_bool(pk, "more", done->u.list.more);
}

static void pack_describe(msgpack_packer *pk, const struct completion *done)
{
    msgpack_pack_map(pk, 3);
    pack_str(pk, "queue", 5);
    control_pack_queue(pk, done->u.describe.queue);
    pack_str(pk, "groups", 6);
    msgpack_pack_array(pk, done->u.describe.group_count);
    for (size_t i = 0; i < done->u.describe.group_count; i++)
        control_pack_group(pk, &done->u.describe.groups[i]);
    pack_str(pk, "bindings", 8);
    msgpack_pack_array(pk, done->u.describe.binding_count);
    for (size_t i = 0; i < done->u.describe.binding_count; i++)
        pack_str(pk, done->u.describe.bindings[i], strlen(done->u.describe.bindings[i]));
}

static void pack_scan(msgpack_packer *pk, const struct completion *done)
{
    const struct number numbers[] = {
        {"matched", done->u.scan.matched},
        {"skipped", done->u.scan.skipped},
        {"next_seq", done->u.scan.next_seq},
    };
    msgpack_pack_map(pk, 3);
    pack_numbers(pk, numbers, 3);
}

bool control_answer(msgpack_packer *pk, const struct completion *done)
{
    switch (done->type) {
    case COMMAND_PUBLISH:
    case COMMAND_TRANSACT:
    case COMMAND_LEASE:
    case COMMAND_READ:
    case COMMAND_ACK:
    case COMMAND_NACK:
    case COMMAND_EXTEND: return false;
    case COMMAND_SCAN:
        if (done->u.scan.peek)
            return false;
        pack_scan(pk, done);
        return true;
    case COMMAND_QUEUE_LIST: pack_list(pk, done); return true;
    case COMMAND_QUEUE_DESCRIBE: pack_describe(pk, done); return true;
    case COMMAND_QUEUE_PURGE:
        msgpack_pack_map(pk, 1);
        pack_key_u64(pk, "purged", done->u.purge.purged);
        return true;
    default: msgpack_pack_map(pk, 0); return true;
    }
}
