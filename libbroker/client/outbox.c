/* The outbox: frames and their memory. */
#include "client_internal.h"

#include <stdio.h>
#include <stdlib.h>

enum { FRAME_FIRST_BYTES = 1024 };

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
        .flags = f->flags,
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
        if (f->len - FRAME_HEAD_BYTES > b->max_frame) {
            TAILQ_REMOVE(&b->normal, f, link);
            TAILQ_INSERT_TAIL(&dropped, f, link);
        }
    }
    /* Only now callbacks: they may publish. */
    while ((f = TAILQ_FIRST(&dropped)) != NULL) {
        TAILQ_REMOVE(&dropped, f, link);
        set_error(b, BROKER_TOO_LARGE, "%s: a frame of %zu bytes; the broker takes %u", frame_type_name(f->type),
                  f->len - FRAME_HEAD_BYTES, b->max_frame);
        frame_failed(b, f, BROKER_TOO_LARGE);
    }
}
