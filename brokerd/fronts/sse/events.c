/* What messages look like as events. The bytes of one are made once a turn, and lent to every stream that sends it. */
#include <stdlib.h>
#include <string.h>

#include "lender.h"
#include "sse_internal.h"
#include "wire.h"

enum {
    CACHE_SLOTS = 1024,       /* of events; a later one takes the slot of an earlier one */
    SCRATCH_BYTES = 64 << 10, /* kept from one turn to the next */
};

struct slot {
    uint64_t turn; /* it is of this one, or empty */
    uint64_t seq;
    uint32_t queue_id;
    uint8_t format, naming;
    struct event_bytes event;
};

struct events {
    struct net_lender lender;
    uint64_t turn; /* of the last event that was asked for */
    struct buf scratch;
    struct slot slots[CACHE_SLOTS];
};

struct events *sse_events_new(struct net *net)
{
    struct events *e = calloc(1, sizeof(*e));
    if (!e)
        return NULL;
    e->lender.net = net;
    e->turn = UINT64_MAX;
    for (size_t i = 0; i < CACHE_SLOTS; i++)
        e->slots[i].turn = UINT64_MAX;
    buf_init(&e->scratch, 0);
    return e;
}

void sse_events_free(struct events *e)
{
    if (!e)
        return;
    net_lender_release(&e->lender);
    buf_release(&e->scratch);
    free(e);
}

/* ---- one event ------------------------------------------------------------------------------------------------------ */

/* Lines end at LF, CR or both, and come back apart by LF: so text with a CR does not survive in them. */
static bool is_lines(const uint8_t *body, size_t len)
{
    return !memchr(body, '\r', len) && form_is_utf8(body, len);
}

static bool put_lines(struct buf *out, const uint8_t *body, size_t len)
{
    const uint8_t *end = body + len, *newline;
    do {
        newline = memchr(body, '\n', (size_t)(end - body));
        const uint8_t *stop = newline ? newline : end;
        if (!form_put(out, "data: ") || !buf_append(out, body, (size_t)(stop - body)) || !form_put(out, "\n"))
            return false;
        body = stop + 1;
    } while (newline);
    return true;
}

static bool put_name(struct buf *out, const struct event_look *look, const struct record_view *v, bool base64)
{
    bool by_topic = look->naming == NAMED_TOPIC && v->head.topic_len > 0;
    if (look->naming == NAMED_QUEUE) {
        if (!form_put(out, "event: ") || !form_put(out, look->queue))
            return false;
    } else if (by_topic) {
        if (!form_put(out, "event: ") || !buf_append(out, v->topic, v->head.topic_len))
            return false;
    } else if (!base64) {
        return true;
    } else if (!form_put(out, "event: message")) {
        return false;
    }
    return form_put(out, base64 ? "-base64\n" : "\n");
}

/* The object of forms, with the queue's name as its first member. */
static bool put_json(struct buf *out, const struct event_look *look, const struct form_message *m)
{
    if (!form_put(out, "data: {\"queue\":\"") || !form_put(out, look->queue) || !form_put(out, "\","))
        return false;
    size_t brace = out->len;
    if (!form_message_json(out, m))
        return false;
    memmove(out->bytes + brace, out->bytes + brace + 1, out->len - brace - 1); /* its own brace */
    out->len--;
    return form_put(out, "\n");
}

/* Without its id and blank line. */
static bool put_open(struct buf *out, const struct event_look *look, const struct form_message *m)
{
    struct record_view v;
    if (record_view_get(m->record, record_padded(m->record), &v))
        return true; /* cannot be: it is from the store */
    if (look->format == EVENT_JSON)
        return put_name(out, look, &v, false) && put_json(out, look, m);
    bool lines = is_lines(v.body, v.body_len);
    if (!put_name(out, look, &v, !lines))
        return false;
    if (lines)
        return put_lines(out, v.body, v.body_len);
    return form_put(out, "data: ") && form_base64(out, v.body, v.body_len) && form_put(out, "\n");
}

bool sse_event_put(struct buf *out, const struct event_look *look, const struct form_message *m)
{
    size_t before = out->len;
    if (put_open(out, look, m) && form_put(out, "\n"))
        return true;
    out->len = before;
    return false;
}

/* ---- once a turn ---------------------------------------------------------------------------------------------------- */

static bool make(struct events *e, const struct event_look *look, uint64_t epoch, const struct stored_message *m,
                 struct event_bytes *out)
{
    struct form_message form = {.record = m->record, .seq = m->seq};
    struct place place = {look->queue_id, m->seq};
    char id[EVENT_ID_EPOCH_BYTES + EVENT_ID_PLACE_BYTES];
    size_t id_len = sse_id_put_epoch(id, epoch);
    id_len += sse_id_put_place(id + id_len, &place);
    buf_clear(&e->scratch);
    if (!put_open(&e->scratch, look, &form))
        return false;
    out->open_len = (uint32_t)e->scratch.len;
    if (!form_put(&e->scratch, "id: ") || !buf_append(&e->scratch, id, id_len) || !form_put(&e->scratch, "\n\n"))
        return false;
    out->len = (uint32_t)e->scratch.len;
    uint8_t *lent = net_lender_get(&e->lender, e->scratch.len);
    out->lent = lent != NULL;
    out->bytes = lent ? memcpy(lent, e->scratch.bytes, e->scratch.len) : e->scratch.bytes;
    return true;
}

bool sse_events_get(struct events *e, const struct event_look *look, uint64_t epoch, const struct stored_message *m,
                    struct event_bytes *out)
{
    uint64_t turn = net_turn_number(e->lender.net);
    if (turn != e->turn && e->scratch.cap > SCRATCH_BYTES)
        buf_release(&e->scratch); /* it had grown for a large event */
    e->turn = turn;
    struct slot *slot =
        &e->slots[(m->seq + look->queue_id * 61u + look->format * 17u + look->naming * 7u) % CACHE_SLOTS];
    if (slot->turn == turn && slot->seq == m->seq && slot->queue_id == look->queue_id && slot->format == look->format &&
        slot->naming == look->naming) {
        *out = slot->event;
        return true;
    }
    if (!make(e, look, epoch, m, out))
        return false;
    if (out->lent)
        *slot = (struct slot){turn, m->seq, look->queue_id, look->format, look->naming, *out};
    return true;
}
