/* The outbox: frames and their memory, and messages becoming records in them. */
#include "client_internal.h"

#include <stdio.h>
#include <stdlib.h>

enum { FRAME_FIRST_BYTES = 1024, ENTRIES_FIRST = 8 };

/* ---- frames --------------------------------------------------------------------------------------------------------- */

static void frame_free(struct out_frame *f)
{
    free(f->bytes);
    free(f->entries);
    free(f);
}

struct out_frame *frame_new(broker *b, enum out_kind kind, uint8_t type, size_t room)
{
    struct out_frame *f = TAILQ_FIRST(&b->pool);

    if (f) {
        TAILQ_REMOVE(&b->pool, f, link);
        b->pool_count--;
    } else {
        f = calloc(1, sizeof(*f));
        if (!f)
            return NULL;
    }
    struct out_entry *entries = f->entries;
    uint8_t *bytes = f->bytes;
    size_t cap = f->cap;
    uint32_t entries_cap = f->entries_cap;
    *f = (struct out_frame){.kind = kind,
                            .type = type,
                            .bytes = bytes,
                            .cap = cap,
                            .entries = entries,
                            .entries_cap = entries_cap,
                            .len = FRAME_HEAD_BYTES};
    if (!frame_room(f, room)) {
        frame_free(f);
        return NULL;
    }
    return f;
}

struct out_list *frame_list(broker *b, const struct out_frame *f)
{
    return f->urgent ? &b->urgent : &b->normal;
}

bool frame_room(struct out_frame *f, size_t more)
{
    size_t need = f->len + more, cap = f->cap ? f->cap : FRAME_FIRST_BYTES;

    if (need <= f->cap)
        return true;
    while (cap < need)
        cap *= 2;
    uint8_t *bytes = realloc(f->bytes, cap);
    if (!bytes)
        return false;
    f->bytes = bytes;
    f->cap = cap;
    return true;
}

void frame_put(struct out_frame *f, const void *bytes, size_t len)
{
    if (len > 0)
        memcpy(f->bytes + f->len, bytes, len);
    f->len += len;
}

void frame_recycle(broker *b, struct out_frame *f)
{
    if (b->pool_count >= POOL_FRAMES_MAX || f->cap > POOL_FRAME_BYTES) {
        frame_free(f);
        return;
    }
    TAILQ_INSERT_HEAD(&b->pool, f, link); /* the memory used last is the one in the cache */
    b->pool_count++;
}

void frame_seal(broker *b, struct out_frame *f)
{
    if (++b->last_correlation <= 1) /* 0 means none, 1 is HELLO's */
        b->last_correlation = 2;
    f->correlation = b->last_correlation;
    struct frame_head head = {
        .length = (uint32_t)(f->len - FRAME_HEAD_BYTES),
        .type = f->type,
        .flags = f->kind == OUT_PUBLISH ? (uint8_t)f->sync : 0,
        .correlation = f->correlation,
        .stream = f->stream,
    };
    frame_head_put(f->bytes, &head);
    if (f->kind == OUT_PUBLISH && f->queue->open == f)
        f->queue->open = NULL;
    if (b->settle_open == f)
        b->settle_open = NULL;
}

void outbox_free(broker *b)
{
    struct out_frame *f;
    struct out_queue *q, *next;

    while ((f = TAILQ_FIRST(&b->pool)) != NULL) {
        TAILQ_REMOVE(&b->pool, f, link);
        frame_free(f);
    }
    HASH_ITER(hh, b->queues, q, next)
    {
        HASH_DEL(b->queues, q);
        free(q);
    }
}

void outbox_drop_oversize(broker *b)
{
    struct out_frame *f, *next;
    TAILQ_HEAD(, out_frame) dropped = TAILQ_HEAD_INITIALIZER(dropped);

    if (b->max_frame == 0)
        return;
    for (f = TAILQ_FIRST(&b->normal); f; f = next) {
        next = TAILQ_NEXT(f, link);
        if (f->kind == OUT_PUBLISH && f->len - FRAME_HEAD_BYTES > b->max_frame) {
            TAILQ_REMOVE(&b->normal, f, link);
            TAILQ_INSERT_TAIL(&dropped, f, link);
        }
    }
    /* Only now callbacks: they may publish. */
    while ((f = TAILQ_FIRST(&dropped)) != NULL) {
        TAILQ_REMOVE(&dropped, f, link);
        set_error(b, BROKER_TOO_LARGE, "publish to \"%s\": a frame of %zu bytes; the broker takes %u", f->queue->name,
                  f->len - FRAME_HEAD_BYTES, b->max_frame);
        publish_failed(b, f, BROKER_TOO_LARGE);
    }
}

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

static broker_error queue_get(broker *b, const char *name, struct out_queue **out)
{
    struct out_queue *q;
    size_t len;
    broker_error error = check_name(b, "queue", name, &len);

    if (error != BROKER_OK)
        return error;
    HASH_FIND(hh, b->queues, name, len, q);
    if (!q) {
        if (HASH_COUNT(b->queues) >= OUT_QUEUES_MAX)
            forget_idle_queues(b);
        q = calloc(1, sizeof(*q) + len + 1);
        if (!q)
            return set_error(b, BROKER_NO_MEMORY, "out of memory");
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

/* Why record_spec_bytes said 0. */
static broker_error refuse_spec(broker *b, const struct record_spec *spec)
{
    if (spec->key_len > UINT16_MAX)
        return set_error(b, BROKER_INVALID_ARGUMENT, "message: a key of %zu bytes; at most 65535 are allowed",
                         spec->key_len);
    if (spec->body_len > RECORD_MAX_BYTES || spec->headers_len > RECORD_MAX_BYTES ||
        spec->body_len + spec->headers_len + spec->key_len + 2 * RECORD_HEAD_BYTES > RECORD_MAX_BYTES)
        return set_error(b, BROKER_TOO_LARGE,
                         "message: %zu bytes of body and %zu of headers; a message may have %u in all", spec->body_len,
                         spec->headers_len, RECORD_MAX_BYTES);
    return set_error(b, BROKER_INVALID_ARGUMENT, "message: its raw_headers are no msgpack map");
}

static broker_error message_spec(broker *b, const broker_message *message, struct record_spec *spec, uint32_t *bytes)
{
    broker_message m;

    if (!message || !copy_options(&m, sizeof(m), message, offsetof(broker_message, key)))
        return set_error(b, BROKER_INVALID_ARGUMENT,
                         "message: size is not set; use BROKER_OPTIONS_INIT(broker_message)");
    if (!m.body && m.body_len > 0)
        return set_error(b, BROKER_INVALID_ARGUMENT, "message: body is NULL and body_len is %zu", m.body_len);
    spec->body = m.body;
    spec->body_len = m.body_len;
    spec->key = m.key;
    spec->key_len = !m.key ? 0 : m.key_len ? m.key_len : strlen(m.key);
    broker_error error = pack_headers(b, &m, spec);
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

static struct out_frame *publish_frame_new(broker *b, struct out_queue *q, broker_sync sync, uint32_t bytes)
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
    f->sync = sync;
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
   other `sync` ends the open one, since messages of a queue must go out in order. */
static struct out_frame *frame_for(broker *b, struct out_queue *q, broker_sync sync, uint32_t bytes)
{
    struct out_frame *f = q->open;
    size_t limit = b->options.batch_bytes;

    if (b->max_frame != 0 && limit > b->max_frame)
        limit = b->max_frame;
    if (f && f->sync == sync && f->len + bytes <= limit)
        return frame_room(f, bytes) && entry_room(f) ? f : NULL;
    f = publish_frame_new(b, q, sync, bytes);
    if (f && !entry_room(f)) {
        frame_recycle(b, f);
        f = NULL;
    }
    return f;
}

broker_error publish_append(broker *b, const char *queue, const broker_message *message, broker_sync sync,
                            broker_publish_cb *cb, void *arg, struct out_frame **frame, uint32_t *index)
{
    struct out_queue *q = b->last_queue;
    struct record_spec spec = {.producer = b->producer};
    uint32_t bytes = 0;
    broker_error error = BROKER_OK;

    if (b->state == CONN_DEAD)
        return set_error(b, b->final_error, "%s", b->lost_text);
    if (!q || !queue || strcmp(queue, q->name) != 0)
        error = queue_get(b, queue, &q);
    if (error == BROKER_OK)
        error = message_spec(b, message, &spec, &bytes);
    if (error == BROKER_OK)
        error = check_room(b, bytes);
    if (error != BROKER_OK)
        return error;
    if (b->max_frame != 0 && name_part_bytes(q) + (size_t)bytes > b->max_frame)
        return set_error(b, BROKER_TOO_LARGE, "message: a record of %u bytes; the broker takes frames of %u", bytes,
                         b->max_frame);

    struct out_frame *f = frame_for(b, q, sync, bytes);
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

bool publish_options_get(const broker_publish_options *options, broker_publish_options *out)
{
    return copy_options(out, sizeof(*out), options, sizeof(*out)) && (unsigned)out->sync <= BROKER_SYNC_NONE;
}

broker_error broker_publish_async(broker *b, const char *queue, const broker_message *message,
                                  const broker_publish_options *options, broker_publish_cb *cb, void *arg)
{
    broker_publish_options o = {0};
    struct out_frame *f;
    uint32_t index;

    if (options && !publish_options_get(options, &o))
        return set_error(b, BROKER_INVALID_ARGUMENT,
                         "publish options: use BROKER_OPTIONS_INIT(broker_publish_options) and a "
                         "broker_sync");
    return publish_append(b, queue, message, o.sync, cb, arg, &f, &index);
}
