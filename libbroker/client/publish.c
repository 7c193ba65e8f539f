/* Publishing: the queues published to, and messages becoming entries of frames. */
#include "client_internal.h"

#include <stdlib.h>

enum { ENTRIES_FIRST = 8 };

/* ---- queues published to ---------------------------------------------------------------------------------------------- */

/* Forgets queues without unanswered messages. A queue that is used again later begins above every number forgotten: numbers
   need to rise, not to be dense. */
static void forget_idle_queues(broker *b)
{
    struct out_queue *q, *next;

    b->last_queue = NULL;
    HASH_ITER(hh, b->queues, q, next)
    {
        if (q->frames > 0)
            continue;
        if (q->next_number - 1 > b->number_floor)
            b->number_floor = q->next_number - 1;
        HASH_DEL(b->queues, q);
        free(q);
    }
}

/* name NULL: the topic space, which has numbers of its own like any queue. No queue's name is empty. */
broker_error out_queue_get(broker *b, const char *name, struct out_queue **out)
{
    struct out_queue *q = b->last_queue;
    size_t len = 0;
    broker_error error = BROKER_OK;

    if (q && (name ? q->name_len > 0 && strcmp(name, q->name) == 0 : q->name_len == 0)) {
        *out = q;
        return BROKER_OK;
    }
    if (name)
        error = check_name(b, "queue", name, &len);
    if (error != BROKER_OK)
        return error;
    HASH_FIND(hh, b->queues, name ? name : "", len, q);
    if (!q) {
        if (HASH_COUNT(b->queues) >= OUT_QUEUES_MAX)
            forget_idle_queues(b);
        q = calloc(1, sizeof(*q) + len + 1);
        if (!q)
            return set_error(b, BROKER_NO_MEMORY, "out of memory");
        if (len > 0)
            memcpy(q->name, name, len);
        q->name_len = (uint16_t)len;
        q->next_number = b->number_floor + 1;
        HASH_ADD_KEYPTR(hh, b->queues, q->name, len, q);
        if (!q->hh.tbl) {
            free(q);
            return set_error(b, BROKER_NO_MEMORY, "out of memory");
        }
    }
    b->last_queue = q;
    *out = q;
    return BROKER_OK;
}

/* ---- messages ------------------------------------------------------------------------------------------------------- */

static broker_error check_room(broker *b, uint32_t bytes)
{
    if (bytes > b->options.outbox_bytes)
        return set_error(b, BROKER_TOO_LARGE, "message: a record of %u bytes; outbox_bytes is %zu", bytes,
                         b->options.outbox_bytes);
    if (b->outbox_messages >= b->options.outbox_messages || b->outbox_bytes + bytes > b->options.outbox_bytes)
        return set_error(b, BROKER_OUTBOX_FULL,
                         "%zu messages of %zu bytes wait for the broker's confirm: call broker_wait until some have it",
                         b->outbox_messages, b->outbox_bytes);
    return BROKER_OK;
}

static uint32_t name_part_bytes(const struct out_queue *q)
{
    return pad8(2u + q->name_len);
}

static struct out_frame *publish_frame_new(broker *b, struct out_queue *q, uint8_t flags, uint32_t bytes)
{
    uint32_t name_bytes = name_part_bytes(q);
    struct out_frame *f = frame_new(b, OUT_PUBLISH, FRAME_PUBLISH, name_bytes + bytes);

    if (!f)
        return NULL;
    memset(f->bytes + f->len, 0, name_bytes);
    put_u16(f->bytes + f->len, q->name_len);
    memcpy(f->bytes + f->len + 2, q->name, q->name_len);
    f->len += name_bytes;
    f->queue = q;
    f->flags = flags;
    return f;
}

static bool entry_room(struct out_frame *f)
{
    if (f->count < f->entries_cap)
        return true;
    uint32_t cap = f->entries_cap ? 2 * f->entries_cap : ENTRIES_FIRST;
    struct out_entry *entries = realloc(f->entries, cap * sizeof(*entries));
    if (!entries)
        return false;
    f->entries = entries;
    f->entries_cap = cap;
    return true;
}

/* The frame that takes the next message of this queue: the open one, or a new one that is not yet in a list. A frame of
   other flags ends the open one, since messages of a queue must go out in order. */
static struct out_frame *frame_for(broker *b, struct out_queue *q, uint8_t flags, uint32_t bytes)
{
    struct out_frame *f = q->open;
    size_t limit = b->options.batch_bytes;

    if (b->max_frame != 0 && limit > b->max_frame)
        limit = b->max_frame;
    if (f && f->flags == flags && f->len + bytes <= limit)
        return frame_room(f, bytes) && entry_room(f) ? f : NULL;
    f = publish_frame_new(b, q, flags, bytes);
    if (f && !entry_room(f)) {
        frame_recycle(b, f);
        f = NULL;
    }
    return f;
}

uint8_t publish_flags(const broker_publish_options *o)
{
    return (uint8_t)(o->sync << FRAME_FLAG_SYNC_SHIFT | (o->unroutable_ok ? FRAME_FLAG_UNROUTABLE_OK : 0));
}

broker_error publish_append(broker *b, const char *queue, const broker_message *message,
                            const broker_publish_options *options, broker_publish_cb *cb, void *arg,
                            struct out_frame **frame, uint32_t *index)
{
    struct out_queue *q;
    struct record_spec spec;
    uint32_t bytes = 0;
    /* To a queue by name there is always a route: only by topic do the two kinds of frame differ. */
    uint8_t flags = publish_flags(options) & (queue ? FRAME_FLAG_SYNC_MASK : 0xff);

    if (b->state == CONN_DEAD)
        return set_error(b, b->final_error, "%s", b->lost_text);
    broker_error error = out_queue_get(b, queue, &q);
    if (error == BROKER_OK)
        error = message_spec(b, message, !queue, &spec, &bytes);
    if (error == BROKER_OK)
        error = check_room(b, bytes);
    if (error != BROKER_OK)
        return error;
    if (b->max_frame != 0 && name_part_bytes(q) + (size_t)bytes > b->max_frame)
        return set_error(b, BROKER_TOO_LARGE, "message: a record of %u bytes; the broker takes frames of %u", bytes,
                         b->max_frame);

    struct out_frame *f = frame_for(b, q, flags, bytes);
    if (!f)
        return set_error(b, BROKER_NO_MEMORY, "out of memory");
    spec.number = q->next_number++;
    record_spec_put(f->bytes + f->len, &spec);
    f->len += bytes;
    f->record_bytes += bytes;
    f->entries[f->count] = (struct out_entry){.cb = cb, .arg = arg};
    if (f->count++ == 0) {
        TAILQ_INSERT_TAIL(&b->normal, f, link);
        q->open = f;
        q->frames++;
    }
    b->outbox_messages++;
    b->outbox_bytes += bytes;
    *frame = f;
    *index = f->count - 1;
    return BROKER_OK;
}

static void nobody(void *arg, broker_error error, const broker_publish_result *result) {}

bool publish_withdraw(broker *b, struct out_frame *f, uint32_t index)
{
    struct out_queue *q = f->queue;

    if (q->open != f || index != f->count - 1) {
        f->entries[index] = (struct out_entry){.cb = nobody};
        return false;
    }
    size_t at = FRAME_HEAD_BYTES + name_part_bytes(q);
    for (uint32_t i = 0; i < index; i++)
        at += record_padded(f->bytes + at);
    uint32_t bytes = (uint32_t)(f->len - at);
    f->len = at;
    f->record_bytes -= bytes;
    f->count--;
    q->next_number--;
    b->outbox_messages--;
    b->outbox_bytes -= bytes;
    if (f->count == 0) {
        TAILQ_REMOVE(&b->normal, f, link);
        q->open = NULL;
        q->frames--;
        frame_recycle(b, f);
    }
    return true;
}

broker_error publish_options_get(broker *b, const broker_publish_options *given, broker_publish_options *out)
{
    if (copy_options(out, sizeof(*out), given, offsetof(broker_publish_options, sync) + sizeof(out->sync)) &&
        (unsigned)out->sync <= BROKER_SYNC_NONE)
        return BROKER_OK;
    return set_error(b, BROKER_INVALID_ARGUMENT,
                     "publish options: use BROKER_OPTIONS_INIT(broker_publish_options) and a broker_sync");
}

broker_error broker_publish_async(broker *b, const char *queue, const broker_message *message,
                                  const broker_publish_options *options, broker_publish_cb *cb, void *arg)
{
    broker_publish_options o;
    struct out_frame *f;
    uint32_t index;
    broker_error error = publish_options_get(b, options, &o);

    return error != BROKER_OK ? error : publish_append(b, queue, message, &o, cb, arg, &f, &index);
}
