/* Receipts: ack, nack, reject, extend; and transactions, which have them as parts. */
#include <inttypes.h>
#include <string.h>

#include "websocket_internal.h"

enum { PARTS_MAX = 1024 }; /* as in the native protocol */

/* ---- receipts --------------------------------------------------------------------------------------------------------- */

/* A whole number, or a string of its digits: what JSON has instead. */
static bool receipt_get(const msgpack_object *o, uint64_t *out)
{
    if (o->type == MSGPACK_OBJECT_POSITIVE_INTEGER) {
        *out = o->via.u64;
        return true;
    }
    if (o->type != MSGPACK_OBJECT_STR || o->via.str.size == 0)
        return false;
    uint64_t value = 0;
    for (uint32_t i = 0; i < o->via.str.size; i++) {
        char digit = o->via.str.ptr[i];
        if (digit < '0' || digit > '9' || __builtin_mul_overflow(value, 10u, &value) ||
            __builtin_add_overflow(value, (uint64_t)(digit - '0'), &value))
            return false;
    }
    *out = value;
    return true;
}

/* Behind the ranges that are there; those that follow each other become one. `first`: of this part. */
static broker_error receipt_add(struct request *r, size_t first, const msgpack_object *o)
{
    struct buf *ranges = &r->c->front->ranges;
    struct receipt_range *last =
        ranges->len > first ? (struct receipt_range *)(void *)(ranges->bytes + ranges->len - sizeof(*last)) : NULL;
    uint64_t receipt;
    if (!receipt_get(o, &receipt))
        return ws_refuse(r, BROKER_INVALID_ARGUMENT, "a receipt is neither a string of digits nor a whole number");
    if (last && last->first + last->count == receipt && last->count < UINT32_MAX) {
        last->count++;
        return BROKER_OK;
    }
    struct receipt_range range = {receipt, 1};
    return buf_append(ranges, &range, sizeof(range)) ? BROKER_OK
                                                     : ws_refuse(r, BROKER_NO_MEMORY, "no memory for receipts");
}

static broker_error receipts_add(struct request *r, const msgpack_object *list)
{
    size_t first = r->c->front->ranges.len;
    broker_error error = BROKER_OK;
    if (list->type != MSGPACK_OBJECT_ARRAY)
        return receipt_add(r, first, list);
    for (uint32_t i = 0; !error && i < list->via.array.size; i++)
        error = receipt_add(r, first, &list->via.array.ptr[i]);
    return error;
}

/* "receipt" or "receipts" of a map. */
static broker_error receipts_of(struct request *r, const msgpack_object *map)
{
    const msgpack_object *one = ws_field_find(map, "receipt"), *many = ws_field_find(map, "receipts");
    if (!one == !many)
        return ws_refuse(r, BROKER_INVALID_ARGUMENT,
                         "give either \"receipt\" or \"receipts\", as they came with the messages");
    if (many && many->type != MSGPACK_OBJECT_ARRAY)
        return ws_refuse(r, BROKER_INVALID_ARGUMENT, "\"receipts\" is no array");
    return receipts_add(r, one ? one : many);
}

static broker_error settle(struct request *r, struct command *command)
{
    struct buf *ranges = &r->c->front->ranges;
    broker_error error = receipts_of(r, r->map);
    if (error)
        return error;
    command->u.settle.ranges = (const struct receipt_range *)(void *)ranges->bytes;
    command->u.settle.count = ranges->len / sizeof(struct receipt_range);
    ws_request_submit(r, ANSWER_PLAIN, command);
    return BROKER_OK;
}

broker_error ws_op_ack(struct request *r)
{
    return settle(r, &(struct command){.type = COMMAND_ACK});
}

broker_error ws_op_nack(struct request *r)
{
    struct command command = {.type = COMMAND_NACK};
    return ws_field_u32(r->map, "delay_ms", &command.u.settle.delay_ms, r->text) ? settle(r, &command)
                                                                                 : BROKER_INVALID_ARGUMENT;
}

broker_error ws_op_reject(struct request *r)
{
    return settle(r, &(struct command){.type = COMMAND_NACK, .u.settle.dead_letter = true});
}

broker_error ws_op_extend(struct request *r)
{
    struct command command = {.type = COMMAND_EXTEND};
    if (!ws_field_u32(r->map, "lease_ms", &command.u.settle.lease_ms, r->text))
        return BROKER_INVALID_ARGUMENT;
    if (!ws_field_find(r->map, "lease_ms"))
        return ws_refuse(r, BROKER_INVALID_ARGUMENT, "\"lease_ms\" is missing: for how long, from now on?");
    return settle(r, &command);
}

/* ---- transactions ----------------------------------------------------------------------------------------------------- */

/* While parts are read, `count` of one that settles ends its ranges and `len` of one that publishes its records: both move. */
static struct transact_part *part_add(struct request *r)
{
    struct buf *parts = &r->c->front->parts;
    struct transact_part *part = (struct transact_part *)(void *)buf_reserve(parts, sizeof(*part));
    if (parts->len / sizeof(*part) == PARTS_MAX) {
        ws_refuse(r, BROKER_TOO_LARGE, "more than %d parts; messages to one queue that follow each other are one",
                  PARTS_MAX);
        return NULL;
    }
    if (!part) {
        ws_refuse(r, BROKER_NO_MEMORY, "no memory for the transaction");
        return NULL;
    }
    parts->len += sizeof(*part);
    *part = (struct transact_part){0};
    return part;
}

static broker_error part_failed(const struct request *r)
{
    return r->c->front->parts.len / sizeof(struct transact_part) == PARTS_MAX ? BROKER_TOO_LARGE : BROKER_NO_MEMORY;
}

/* The message without the key that says where it goes. */
static bool without_queue(struct request *r, const msgpack_object *message, msgpack_object *out)
{
    uint32_t n = message->via.map.size, kept = 0;
    msgpack_object_kv *pairs = msgpack_zone_malloc(&r->c->front->inbox.zone, (n ? n : 1) * sizeof(*pairs));
    for (uint32_t i = 0; pairs && i < n; i++)
        if (!ws_object_is(&message->via.map.ptr[i].key, "queue"))
            pairs[kept++] = message->via.map.ptr[i];
    *out = (msgpack_object){.type = MSGPACK_OBJECT_MAP, .via.map = {kept, pairs}};
    return pairs != NULL;
}

static broker_error part_message(struct request *r, const msgpack_object *message)
{
    struct websocket *w = r->c->front;
    struct name queue = {0}, topic = {0};
    char topic_text[TOPIC_MAX_BYTES + 1];
    msgpack_object bare;
    if (message->type != MSGPACK_OBJECT_MAP)
        return ws_refuse(r, BROKER_INVALID_ARGUMENT, "it is not an object");
    if (!ws_field_name(message, "queue", &queue, r->text) || !ws_field_name(message, "topic", &topic, r->text))
        return BROKER_INVALID_ARGUMENT;
    if (!queue.len && (!topic.len || topic.len > TOPIC_MAX_BYTES || memchr(topic.bytes, '\0', topic.len)))
        return ws_refuse(r, BROKER_INVALID_ARGUMENT, "it has neither a \"queue\" nor a \"topic\" to be published to");
    if (!without_queue(r, message, &bare))
        return ws_refuse(r, BROKER_NO_MEMORY, "no memory for the transaction");
    struct transact_part *last =
        w->parts.len ? (struct transact_part *)(void *)(w->parts.bytes + w->parts.len - sizeof(*last)) : NULL;
    bool goes_on = last && last->kind == PART_PUBLISH && last->queue.len == queue.len &&
                   (queue.len == 0 || memcmp(last->queue.bytes, queue.bytes, queue.len) == 0);
    if (!goes_on && !(last = part_add(r)))
        return part_failed(r);
    last->kind = PART_PUBLISH;
    last->queue = queue;
    if (!queue.len) {
        memcpy(topic_text, topic.bytes, topic.len);
        topic_text[topic.len] = '\0';
    }
    broker_error error = ws_publish_record(r, &bare, queue.len ? NULL : topic_text);
    last->len = w->records.len;
    return error;
}

static broker_error part_receipts(struct request *r, const msgpack_object *receipts, enum transact_part_kind kind,
                                  uint32_t delay_ms, bool dead_letter)
{
    struct buf *ranges = &r->c->front->ranges;
    size_t before = ranges->len;
    broker_error error = receipts_add(r, receipts);
    if (error || ranges->len == before)
        return error;
    struct transact_part *part = part_add(r);
    if (!part)
        return part_failed(r);
    part->kind = kind;
    part->count = ranges->len / sizeof(struct receipt_range);
    part->delay_ms = delay_ms;
    part->dead_letter = dead_letter;
    return BROKER_OK;
}

/* An item of "nack": a receipt, or a map of "receipt" or "receipts" with "delay_ms". */
static broker_error part_nack(struct request *r, const msgpack_object *item)
{
    static const char *const keys[] = {"receipt", "receipts", "delay_ms", NULL};
    const msgpack_object *receipts = item;
    uint32_t delay_ms = 0;
    if (item->type == MSGPACK_OBJECT_MAP) {
        const msgpack_object *one = ws_field_find(item, "receipt"), *many = ws_field_find(item, "receipts");
        if (!ws_fields_known(item, keys, CONTROL_KINDS, r->text) || !ws_field_u32(item, "delay_ms", &delay_ms, r->text))
            return BROKER_INVALID_ARGUMENT;
        if (!one == !many)
            return ws_refuse(r, BROKER_INVALID_ARGUMENT, "give either \"receipt\" or \"receipts\"");
        receipts = one ? one : many;
    }
    return part_receipts(r, receipts, PART_NACK, delay_ms, false);
}

static broker_error part_ack(struct request *r, const msgpack_object *item)
{
    return part_receipts(r, item, PART_ACK, 0, false);
}

static broker_error part_reject(struct request *r, const msgpack_object *item)
{
    return part_receipts(r, item, PART_NACK, 0, true);
}

/* Each item of the array `key`. */
static broker_error each_item(struct request *r, const char *key,
                              broker_error (*fn)(struct request *r, const msgpack_object *item))
{
    const msgpack_object *list = ws_field_find(r->map, key);
    char why[TEXT_BYTES];
    if (!list)
        return BROKER_OK;
    if (list->type != MSGPACK_OBJECT_ARRAY)
        return ws_refuse(r, BROKER_INVALID_ARGUMENT, "\"%s\" is no array", key);
    for (uint32_t i = 0; i < list->via.array.size; i++) {
        broker_error error = fn(r, &list->via.array.ptr[i]);
        if (!error)
            continue;
        memcpy(why, r->text, sizeof(why));
        return ws_refuse(r, error, "%s[%u]: %.240s; nothing of the transaction was done", key, i, why);
    }
    return BROKER_OK;
}

/* A list of receipts is one part. */
static broker_error list_part(struct request *r, const char *key,
                              broker_error (*fn)(struct request *r, const msgpack_object *item))
{
    const msgpack_object *list = ws_field_find(r->map, key);
    if (!list)
        return BROKER_OK;
    if (list->type != MSGPACK_OBJECT_ARRAY)
        return ws_refuse(r, BROKER_INVALID_ARGUMENT, "\"%s\" is no array of receipts", key);
    return fn(r, list);
}

/* Nothing moves any more: from ends to places. */
static void parts_settle(struct websocket *w)
{
    struct transact_part *parts = (struct transact_part *)(void *)w->parts.bytes;
    size_t n = w->parts.len / sizeof(*parts), record = 0, range = 0;
    for (size_t i = 0; i < n; i++) {
        size_t end = parts[i].kind == PART_PUBLISH ? parts[i].len : parts[i].count;
        if (parts[i].kind == PART_PUBLISH) {
            parts[i].records = w->records.bytes + record;
            parts[i].len = end - record;
            record = end;
        } else {
            parts[i].ranges = (const struct receipt_range *)(void *)w->ranges.bytes + range;
            parts[i].count = end - range;
            range = end;
        }
    }
}

broker_error ws_op_transact(struct request *r)
{
    struct websocket *w = r->c->front;
    struct command command = {.type = COMMAND_TRANSACT};
    broker_error error;
    if (!ws_publish_options(r, &command.u.transact.sync, &command.u.transact.unroutable_ok))
        return BROKER_INVALID_ARGUMENT;
    if ((error = each_item(r, "publish", part_message)) || (error = list_part(r, "ack", part_ack)) ||
        (error = list_part(r, "reject", part_reject)) || (error = each_item(r, "nack", part_nack)))
        return error;
    if (w->parts.len == 0)
        return ws_refuse(r, BROKER_INVALID_ARGUMENT,
                         "the transaction is empty; give \"publish\", \"ack\", \"nack\" or \"reject\"");
    parts_settle(w);
    command.u.transact.parts = (struct transact_part *)(void *)w->parts.bytes;
    command.u.transact.count = w->parts.len / sizeof(struct transact_part);
    ws_request_submit(r, ANSWER_PLAIN, &command);
    return BROKER_OK;
}
