/* Subscriptions: which there are, those of groups, and the messages that go out. Those by position are positions.c's. */
#include <stdlib.h>
#include <string.h>

#include "websocket_internal.h"

/* ---- which there are --------------------------------------------------------------------------------------------------- */

/* The place of the number, or where it belongs. */
static uint32_t place_of(const struct ws *c, uint32_t number)
{
    uint32_t low = 0, high = c->sub_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (c->subs[middle]->number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct sub *ws_sub_find(const struct ws *c, uint32_t number)
{
    uint32_t i = place_of(c, number);
    return i < c->sub_count && c->subs[i]->number == number ? c->subs[i] : NULL;
}

struct sub *ws_sub_add(struct ws *c, uint32_t number, const struct name *queue)
{
    if (c->sub_count == c->sub_cap) {
        uint32_t cap = c->sub_cap ? 2 * c->sub_cap : 2;
        struct sub **subs = realloc(c->subs, cap * sizeof(struct sub *));
        if (!subs)
            return NULL;
        c->subs = subs;
        c->sub_cap = cap;
    }
    size_t len = queue ? queue->len : 0;
    struct sub *s = calloc(1, sizeof(*s) + len);
    if (!s)
        return NULL;
    s->c = c;
    s->number = number;
    s->subscribe_id = s->unsubscribe_id = ID_NONE;
    s->by_position = queue != NULL;
    s->queue_len = (uint8_t)len;
    if (len > 0)
        memcpy(s->queue, queue->bytes, len);
    uint32_t at = place_of(c, number);
    memmove(c->subs + at + 1, c->subs + at, (c->sub_count - at) * sizeof(struct sub *));
    c->subs[at] = s;
    c->sub_count++;
    return s;
}

static void sub_free(struct sub *s)
{
    struct websocket *w = s->c->front;
    if (s->by_position)
        client_close(w->clients, &s->reader, net_now(w->net));
    free(s->filter);
    free(s);
}

void ws_sub_remove(struct sub *s)
{
    struct ws *c = s->c;
    uint32_t at = place_of(c, s->number);
    memmove(c->subs + at, c->subs + at + 1, (c->sub_count - at - 1) * sizeof(struct sub *));
    c->sub_count--;
    sub_free(s);
}

void ws_subs_release(struct ws *c)
{
    for (uint32_t i = 0; i < c->sub_count; i++)
        sub_free(c->subs[i]);
    free(c->subs);
    c->subs = NULL;
    c->sub_count = c->sub_cap = 0;
}

/* ---- requests ---------------------------------------------------------------------------------------------------------- */

static bool number_get(struct request *r, uint32_t *number)
{
    if (!ws_field_u32(r->map, "sub", number, r->text))
        return false;
    if (*number == 0)
        ws_refuse(r, BROKER_INVALID_ARGUMENT,
                  "\"sub\" is missing or 0: a number from 1 on, which you choose, names the subscription");
    return *number > 0;
}

static broker_error group_subscribe(struct request *r, uint32_t number)
{
    static const char *const keys[] = {"sub", "credit", "credit_bytes", "ack", NULL};
    static const char *const acks[] = {"manual", "on_send", NULL};
    struct ws *c = r->c;
    struct command credit = {.type = COMMAND_CREDIT, .token.stream = number, .u.credit.bytes = UINT64_MAX};
    struct control_request control;
    char text[CONTROL_TEXT_BYTES] = "";
    int ack = 0;
    if (!ws_fields_known(r->map, keys, CONTROL_SUBSCRIBE, r->text) ||
        !ws_field_word(r->map, "ack", acks, &ack, r->text) ||
        !ws_field_u32(r->map, "credit", &credit.u.credit.messages, r->text) ||
        !ws_field_u64(r->map, "credit_bytes", UINT64_MAX, &credit.u.credit.bytes, r->text))
        return BROKER_INVALID_ARGUMENT;
    if (!ws_field_find(r->map, "credit"))
        return ws_refuse(r, BROKER_INVALID_ARGUMENT,
                         "\"credit\" is missing: how many messages may come before the op "
                         "\"credit\" allows more? To read without a group give \"from\"");
    broker_error error = control_parse_object(&control, CONTROL_SUBSCRIBE, r->map, text);
    struct sub *s = error ? NULL : ws_sub_add(c, number, NULL);
    if (error)
        ws_refuse(r, error, "subscribe: %s", text);
    else if (!s)
        error = ws_refuse(r, BROKER_NO_MEMORY, "no memory for a subscription");
    if (s) {
        struct websocket *w = c->front;
        s->subscribe_id = r->id;
        control.command.token = (struct token){.stream = number};
        if (ws_field_find(r->map, "ack"))
            control.command.u.subscribe.settle_on_send = ack == 1;
        client_submit(w->clients, &c->client, net_now(w->net), &control.command);
        if (ws_sub_find(c, number)) /* it may have been refused already */
            client_submit(w->clients, &c->client, net_now(w->net), &credit);
    }
    control_release(&control);
    return error;
}

broker_error ws_op_subscribe(struct request *r)
{
    uint32_t number = 0;
    bool by_position = ws_field_find(r->map, "from") || ws_field_find(r->map, "from_time_ms");
    if (!number_get(r, &number))
        return BROKER_INVALID_ARGUMENT;
    if (ws_sub_find(r->c, number))
        return ws_refuse(r, BROKER_SUBSCRIPTION_EXISTS, "there is a subscription %u; choose another number", number);
    if (by_position && ws_field_find(r->map, "group"))
        return ws_refuse(
            r, BROKER_INVALID_ARGUMENT,
            "it has a \"group\" and a \"from\": give the group to share the work, or from where to read all");
    return by_position ? ws_position_subscribe(r, number) : group_subscribe(r, number);
}

broker_error ws_op_unsubscribe(struct request *r)
{
    struct ws *c = r->c;
    uint32_t number = 0;
    if (!number_get(r, &number))
        return BROKER_INVALID_ARGUMENT;
    struct sub *s = ws_sub_find(c, number);
    if (!s)
        return ws_refuse(r, BROKER_SUBSCRIPTION_NOT_FOUND, "there is no subscription %u", number);
    if (s->by_position) {
        if (!s->begun && s->subscribe_id != ID_NONE)
            ws_answer_error(c, s->subscribe_id, BROKER_CANCELLED, "it was ended before it began", 0);
        ws_sub_remove(s);
        ws_answer_ok(c, r->id);
        return BROKER_OK;
    }
    s->unsubscribe_id = r->id;
    client_submit(c->front->clients, &c->client, net_now(c->front->net),
                  &(struct command){.type = COMMAND_UNSUBSCRIBE, .token.stream = number});
    return BROKER_OK;
}

broker_error ws_op_credit(struct request *r)
{
    struct ws *c = r->c;
    struct command command = {.type = COMMAND_CREDIT};
    uint32_t number = 0;
    if (!number_get(r, &number) || !ws_field_u32(r->map, "messages", &command.u.credit.messages, r->text) ||
        !ws_field_u64(r->map, "bytes", UINT64_MAX, &command.u.credit.bytes, r->text))
        return BROKER_INVALID_ARGUMENT;
    struct sub *s = ws_sub_find(c, number);
    if (!s) /* it may have crossed an "ended" */
        return BROKER_OK;
    if (s->by_position) {
        ws_position_credit(s, command.u.credit.messages, command.u.credit.bytes);
    } else {
        command.token.stream = number;
        client_submit(c->front->clients, &c->client, net_now(c->front->net), &command);
    }
    ws_answer_ok(c, r->id);
    return BROKER_OK;
}

/* ---- what the engine says ------------------------------------------------------------------------------------------------ */

void ws_sub_answered(struct ws *c, const struct completion *done)
{
    struct sub *s = ws_sub_find(c, done->token.stream);
    if (!s)
        return;
    bool begins = done->type == COMMAND_SUBSCRIBE;
    uint64_t id = begins ? s->subscribe_id : s->unsubscribe_id;
    if (begins ? done->error != BROKER_OK : done->error == BROKER_OK)
        ws_sub_remove(s);
    if (c->state != WS_OPEN)
        return;
    if (done->error)
        ws_answer_error(c, id, done->error, done->text, done->retry_ms);
    else
        ws_answer_ok(c, id);
}

void ws_send_ended(struct ws *c, uint32_t number, broker_error error, const char *text)
{
    struct writer w;
    if (c->state != WS_OPEN)
        return;
    ws_answer_begin(c, &w, "ended", ID_NONE, 1 + ws_error_pairs(0));
    ws_write_key_u64(&w, "sub", number);
    ws_write_error(&w, error, text, 0);
    ws_answer_send(c, &w);
}

void ws_sub_ended(struct client *client, struct token token, broker_error error, const char *text)
{
    struct ws *c = ws_of(client);
    struct sub *s = ws_sub_find(c, token.stream);
    ws_tell_damage(error, text);
    if (s)
        ws_sub_remove(s);
    ws_send_ended(c, token.stream, error, text);
}

bool ws_sub_deliver(struct client *client, const struct delivery *d)
{
    struct ws *c = ws_of(client);
    for (uint32_t i = 0; i < d->count && ws_may_send(c); i++) {
        struct form_message m = {.record = d->messages[i].record,
                                 .seq = d->messages[i].seq,
                                 .receipt = d->first_receipt ? d->first_receipt + i : 0,
                                 .attempt = d->attempts[i]};
        size_t len;
        if (!ws_frame_begin(c->front) || !c->format->delivery(&c->front->answer, d->token.stream, &m)) {
            ws_drop(c, "there is no memory for a message");
            return true;
        }
        const uint8_t *frame = ws_frame_end(c, &len);
        net_conn_write(c->net, frame, len);
        ws_frame_trim(c->front);
    }
    if (c->state != WS_OPEN || !net_conn_is_full(c->net))
        return true;
    c->held = true;
    return false;
}
