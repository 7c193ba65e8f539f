/*
 * Subscriptions by position: each reads on, one READ at a time, while its client has credit and takes what it is sent. The frame
 * of a message is made once a turn, however many clients it goes to.
 */
#include <stdlib.h>
#include <string.h>

#include "websocket_internal.h"

enum { SUBSCRIPTIONS_DEFAULT = 1000, RETRY_MS = 1000 };

/* ---- filters: one allocation, strings behind ----------------------------------------------------------------------------- */

static size_t text_bytes(const char *text)
{
    return text ? strlen(text) + 1 : 0;
}

static const char *text_copy(char **to, const char *text)
{
    if (!text)
        return NULL;
    char *at = *to;
    memcpy(at, text, strlen(text) + 1);
    *to += strlen(text) + 1;
    return at;
}

static bool is_empty(const broker_filter *f)
{
    return !f->topic && !f->key && f->header_count == 0;
}

static broker_filter *filter_copy(const broker_filter *f)
{
    size_t bytes = sizeof(*f) + f->header_count * sizeof(broker_header) + text_bytes(f->topic) + text_bytes(f->key);
    for (size_t i = 0; i < f->header_count; i++)
        bytes += text_bytes(f->headers[i].name) + text_bytes(f->headers[i].value);
    broker_filter *copy = malloc(bytes);
    if (!copy)
        return NULL;
    broker_header *headers = (broker_header *)(copy + 1);
    char *to = (char *)(headers + f->header_count);
    *copy = *f;
    copy->topic = text_copy(&to, f->topic);
    copy->key = text_copy(&to, f->key);
    copy->headers = headers;
    for (size_t i = 0; i < f->header_count; i++)
        headers[i] =
            (broker_header){.name = text_copy(&to, f->headers[i].name), .value = text_copy(&to, f->headers[i].value)};
    return copy;
}

/* ---- asking -------------------------------------------------------------------------------------------------------------- */

/* false: s is gone, it was refused at once. */
static bool submit(struct sub *s, struct command *command)
{
    struct ws *c = s->c;
    uint32_t number = s->number;
    command->type = COMMAND_READ;
    command->queue = (struct name){s->queue, s->queue_len};
    command->u.read.max_messages = s->credit < BATCH_MESSAGES ? (uint32_t)s->credit : BATCH_MESSAGES;
    if (command->u.read.max_messages == 0)
        command->u.read.max_messages = 1; /* only to see that the queue is there */
    command->u.read.max_bytes = BATCH_BYTES;
    if (s->filter)
        command->u.read.filter = *s->filter;
    client_submit(c->front->clients, &s->reader, net_now(c->front->net), command);
    return ws_sub_find(c, number) == s;
}

static void ask(struct sub *s)
{
    struct ws *c = s->c;
    s->wants = false;
    if (c->state != WS_OPEN || c->going_away || s->credit == 0 || s->credit_bytes == 0 || s->reader.outstanding > 0)
        return;
    if (net_conn_is_full(c->net)) {
        s->wants = true;
        return;
    }
    struct command command = {.u.read = {.from_seq = s->next_seq, .wait_ms = READ_WAIT_FOREVER}};
    submit(s, &command);
}

void ws_positions_go_on(struct ws *c)
{
    for (uint32_t i = c->sub_count; i-- > 0;)
        if (i < c->sub_count && c->subs[i]->by_position && c->subs[i]->wants)
            ask(c->subs[i]);
}

static uint64_t sum(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

void ws_position_credit(struct sub *s, uint64_t messages, uint64_t bytes)
{
    s->credit = sum(s->credit, messages);
    s->credit_bytes = sum(s->credit_bytes, bytes);
    if (s->begun)
        ask(s);
}

/* ---- messages ------------------------------------------------------------------------------------------------------------ */

static bool send_message(struct sub *s, uint32_t queue_id, const struct stored_message *m)
{
    struct ws *c = s->c;
    struct websocket *w = c->front;
    struct lent_key key = {c->format, m->seq, queue_id, s->number, c->compresses};
    size_t len;
    if (!ws_may_send(c))
        return false;
    const uint8_t *frame = lender_find(&w->lender, &key, &len);
    if (frame)
        return net_conn_write_borrowed(c->net, frame, len);
    struct form_message form = {.record = m->record, .seq = m->seq};
    if (!ws_frame_begin(w) || !c->format->delivery(&w->answer, s->number, &form)) {
        ws_drop(c, "there is no memory for a message");
        return false;
    }
    frame = ws_frame_end(c, &len);
    uint8_t *lent = net_lender_get(&w->lender.memory, len);
    bool sent;
    if (lent) {
        memcpy(lent, frame, len);
        lender_note(&w->lender, &key, lent, len);
        sent = net_conn_write_borrowed(c->net, lent, len);
    } else {
        sent = net_conn_write(c->net, frame, len);
    }
    ws_frame_trim(w);
    return sent;
}

static void send_messages(struct sub *s, const struct completion *done)
{
    uint32_t i = 0;
    for (; i < done->u.read.count && s->credit > 0 && s->credit_bytes > 0; i++) {
        const struct stored_message *m = &done->u.read.messages[i];
        if (!send_message(s, done->u.read.queue_id, m))
            return;
        if (s->credit != UINT64_MAX)
            s->credit--;
        if (s->credit_bytes != UINT64_MAX)
            s->credit_bytes -= m->padded_len < s->credit_bytes ? m->padded_len : s->credit_bytes;
    }
    s->next_seq = i < done->u.read.count ? done->u.read.messages[i].seq : done->u.read.next_seq;
}

/* What was asked for is not there: the client is told where it goes on instead. */
static void send_reset(struct sub *s, const struct completion *done)
{
    struct writer w;
    ws_answer_begin(s->c, &w, "reset", ID_NONE, 4);
    ws_write_key_u64(&w, "sub", s->number);
    ws_write_key_text(&w, "reason", done->u.read.beyond ? "beyond" : "trimmed");
    ws_write_key_u64(&w, "next", done->u.read.count ? done->u.read.messages[0].seq : done->u.read.next_seq);
    ws_write_key_u64(&w, "last", done->u.read.last_seq);
    ws_answer_send(s->c, &w);
}

static void send_begun(struct sub *s, const struct completion *done)
{
    struct writer w;
    if (s->subscribe_id == ID_NONE)
        return;
    ws_answer_begin(s->c, &w, "ok", s->subscribe_id, 3);
    ws_write_key_u64(&w, "next", done->u.read.count ? done->u.read.messages[0].seq : done->u.read.next_seq);
    ws_write_key_u64(&w, "first", done->u.read.first_seq);
    ws_write_key_u64(&w, "last", done->u.read.last_seq);
    ws_answer_send(s->c, &w);
}

static void read_complete(struct client *client, const struct completion *done)
{
    struct sub *s = (struct sub *)client;
    struct ws *c = s->c;
    ws_tell_damage(done->error, done->text);
    if (done->error) {
        uint32_t number = s->number;
        uint64_t id = s->subscribe_id;
        bool begun = s->begun;
        ws_sub_remove(s);
        if (begun)
            ws_send_ended(c, number, done->error, done->text);
        else if (c->state == WS_OPEN)
            ws_answer_error(c, id, done->error, done->text, done->retry_ms);
        return;
    }
    if (c->state != WS_OPEN)
        return;
    if (!s->begun)
        send_begun(s, done);
    s->begun = true;
    if (done->u.read.trimmed || done->u.read.beyond)
        send_reset(s, done);
    send_messages(s, done);
    ask(s);
}

static const struct client_ops READER_OPS = {.complete = read_complete};

/* ---- the request --------------------------------------------------------------------------------------------------------- */

static bool start_get(struct request *r, struct command *first)
{
    static const char *const words[] = {"beginning", "end", NULL};
    const msgpack_object *from = ws_field_find(r->map, "from");
    int word = 0;
    if (from && ws_field_find(r->map, "from_time_ms")) {
        ws_refuse(r, BROKER_INVALID_ARGUMENT, "it has a \"from\" and a \"from_time_ms\"; give one");
        return false;
    }
    if (!from)
        return ws_field_u64(r->map, "from_time_ms", INT64_MAX, &first->u.read.from_ms, r->text);
    if (from->type == MSGPACK_OBJECT_POSITIVE_INTEGER) {
        first->u.read.from_seq = from->via.u64;
        return true;
    }
    if (!ws_field_word(r->map, "from", words, &word, r->text)) {
        ws_refuse(r, BROKER_INVALID_ARGUMENT, "\"from\" is neither a message's seq nor \"beginning\" nor \"end\"");
        return false;
    }
    first->u.read.from_end = word == 1;
    return true;
}

static bool credit_get(struct request *r, uint64_t *messages, uint64_t *bytes)
{
    *messages = *bytes = UINT64_MAX; /* as fast as it takes them */
    return ws_field_u64(r->map, "credit", UINT64_MAX, messages, r->text) &&
           ws_field_u64(r->map, "credit_bytes", UINT64_MAX, bytes, r->text);
}

/* "queue" and "filter", read as the request "read" does. */
static broker_error read_args(struct request *r, struct control_request *control)
{
    msgpack_object_kv pairs[2];
    uint32_t n = 0;
    char text[CONTROL_TEXT_BYTES] = "";
    for (uint32_t i = 0; i < r->map->via.map.size && n < 2; i++) {
        const msgpack_object_kv *pair = &r->map->via.map.ptr[i];
        if (ws_object_is(&pair->key, "queue") || ws_object_is(&pair->key, "filter"))
            pairs[n++] = *pair;
    }
    msgpack_object map = {.type = MSGPACK_OBJECT_MAP, .via.map = {n, pairs}};
    broker_error error = control_parse_object(control, CONTROL_READ, &map, text);
    if (!error)
        error = control_refuse_unknown(control, CONTROL_READ, text);
    if (error)
        ws_refuse(r, error, "subscribe: %s", text);
    else if (control->command.queue.len > NAME_MAX_BYTES)
        error = ws_refuse(r, BROKER_INVALID_ARGUMENT, "subscribe: \"queue\" is longer than %u bytes", NAME_MAX_BYTES);
    return error;
}

static broker_error begin(struct request *r, uint32_t number, const struct control_request *control,
                          struct command *first)
{
    struct ws *c = r->c;
    uint64_t messages, bytes;
    const broker_filter *filter = &control->command.u.read.filter;
    if (!credit_get(r, &messages, &bytes))
        return BROKER_INVALID_ARGUMENT;
    struct sub *s = ws_sub_add(c, number, &control->command.queue);
    bool good = s && client_open(c->front->clients, &s->reader, &READER_OPS, NULL) &&
                (is_empty(filter) || (s->filter = filter_copy(filter)));
    if (!good) {
        if (s)
            ws_sub_remove(s);
        return ws_refuse(r, BROKER_NO_MEMORY, "no memory for a subscription");
    }
    s->subscribe_id = r->id;
    s->credit = messages;
    s->credit_bytes = bytes;
    submit(s, first);
    return BROKER_OK;
}

broker_error ws_position_subscribe(struct request *r, uint32_t number)
{
    static const char *const keys[] = {"sub",    "queue",  "from",         "from_time_ms",
                                       "filter", "credit", "credit_bytes", NULL};
    uint32_t max = r->c->front->options.max_subscriptions;
    struct command first = {0};
    struct control_request control;
    if (!ws_fields_known(r->map, keys, CONTROL_KINDS, r->text) || !start_get(r, &first))
        return BROKER_INVALID_ARGUMENT;
    if (r->c->sub_count >= (max ? max : SUBSCRIPTIONS_DEFAULT))
        return ws_refuse(r, BROKER_LIMIT_REACHED,
                         "this connection has %u subscriptions, as many as limits.subscriptions allows",
                         r->c->sub_count);
    broker_error error = read_args(r, &control);
    if (!error)
        error = begin(r, number, &control, &first);
    control_release(&control);
    return error;
}
