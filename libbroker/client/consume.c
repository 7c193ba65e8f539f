/* Subscriptions: asked for, credited, renewed after a reconnect, ended; deliveries to callbacks. */
#include "client_internal.h"

#include <stdlib.h>

/* ---- credit --------------------------------------------------------------------------------------------------------- */

static bool send_credit(broker_subscription *s, uint32_t messages, uint64_t bytes)
{
    uint8_t body[16];

    put_u32(body, messages);
    put_u32(body + 4, 0);
    put_u64(body + 8, bytes);
    if (!control_frame(s->b, FRAME_CREDIT, 0, s->id, body, sizeof(body)))
        return false;
    s->granted_messages += messages;
    return true;
}

void subscription_taken(broker_subscription *s, const struct broker_msg *m, bool of_this_connection)
{
    if (s->ack == BROKER_ACK_AUTO && !s->msg_settled && m->receipt != 0 &&
        settle_add(s->b, (struct settle_kind){.type = FRAME_ACK}, m->receipt) != BROKER_OK)
        s->b->settle_failures++; /* it will come again */
    if (!of_this_connection)
        return; /* the renewed subscription began with its full credit */
    s->taken_messages++;
    s->taken_bytes += m->padded_len;
    bool half = s->taken_messages * 2 >= s->credit_messages || s->taken_bytes * 2 >= s->credit_bytes;
    if (half && s->state == SUBSCRIPTION_ACTIVE && send_credit(s, (uint32_t)s->taken_messages, s->taken_bytes))
        s->taken_messages = s->taken_bytes = 0;
}

/* ---- deliveries ------------------------------------------------------------------------------------------------------- */

broker_error deliver_in(broker *b, uint32_t stream, const uint8_t *body, size_t len)
{
    broker_subscription *s;
    struct batch batch;

    HASH_FIND_INT(b->subscriptions, &stream, s);
    if (!s || s->state != SUBSCRIPTION_ACTIVE)
        return BROKER_OK; /* sent before the broker saw that it has ended; the leases have gone back */
    broker_error error = batch_open(b, &batch, body, len);
    if (error != BROKER_OK)
        return error;
    if (batch.count > s->granted_messages)
        return set_error(b, BROKER_MALFORMED, "the broker sent %u messages of \"%s\" with a credit of %llu",
                         batch.count, s->queue, (unsigned long long)s->granted_messages);
    s->granted_messages -= batch.count;
    if (!s->on_message)
        return inbox_put(s, &batch, body, len);
    while (batch.index < batch.count) {
        error = batch_next(b, &batch, &s->msg);
        if (error != BROKER_OK)
            return error;
        s->msg_settled = false;
        s->on_message(s->arg, s, &s->msg);
        subscription_taken(s, &s->msg, true);
    }
    return batch_end(b, &batch);
}

/* ---- beginning, renewal, end -------------------------------------------------------------------------------------------- */

static broker_error send_subscribe(broker_subscription *s)
{
    broker *b = s->b;
    msgpack_packer pk;

    scratch_pack(b, &pk);
    msgpack_pack_map(&pk, 6);
    pack_key_str(&pk, "queue", s->queue, strlen(s->queue));
    pack_key_str(&pk, "group", s->group, strlen(s->group));
    pack_key_u64(&pk, "lease_ms", s->lease_ms);
    pack_key_bool(&pk, "on_send", s->ack == BROKER_ACK_ON_SEND);
    pack_key_u64(&pk, "priority", s->priority);
    pack_key_u64(&pk, "max_unsettled", s->max_unsettled);
    if (scratch_good(b) != BROKER_OK)
        return BROKER_NO_MEMORY;
    struct out_frame *f = frame_new(b, OUT_SUBSCRIBE, FRAME_SUBSCRIBE, b->scratch.size);
    if (!f)
        return set_error(b, BROKER_NO_MEMORY, "out of memory");
    frame_put(f, b->scratch.data, b->scratch.size);
    f->urgent = true;
    f->stream = s->id;
    f->subscription = s;
    TAILQ_INSERT_TAIL(&b->urgent, f, link);
    s->state = SUBSCRIPTION_PENDING;
    return BROKER_OK;
}

void subscriptions_renew(broker *b)
{
    broker_subscription *s, *next;

    b->renew_wanted = false;
    HASH_ITER(hh, b->subscriptions, s, next)
    {
        if (s->state == SUBSCRIPTION_UNSENT && send_subscribe(s) != BROKER_OK)
            b->renew_wanted = true; /* no memory now; the next turn tries again */
    }
}

broker_error subscription_answered(broker_subscription *s, broker_error error)
{
    if (error != BROKER_OK) {
        subscription_end(s, error);
        return BROKER_OK;
    }
    s->state = SUBSCRIPTION_ACTIVE;
    s->has_been_active = true;
    s->taken_messages = s->taken_bytes = 0;
    s->granted_messages = 0;
    if (!send_credit(s, s->credit_messages, s->credit_bytes))
        return set_error(s->b, BROKER_NO_MEMORY, "out of memory");
    return BROKER_OK;
}

/* The sentence is in error_text. What was received and not yet taken is leased no more. */
void subscription_end(broker_subscription *s, broker_error error)
{
    s->state = SUBSCRIPTION_ENDED;
    s->end_error = error;
    memcpy(s->end_text, s->b->error_text, sizeof(s->end_text));
    inbox_clear(s);
    if (s->has_been_active && s->on_end)
        s->on_end(s->arg, s, error, s->end_text);
}

void subscriptions_end(broker *b, broker_error error)
{
    broker_subscription *s, *next;

    HASH_ITER(hh, b->subscriptions, s, next)
    {
        if (s->state == SUBSCRIPTION_ENDED)
            continue;
        set_error(b, error, "%s", b->lost_text);
        subscription_end(s, error);
    }
}

void subscriptions_lost(broker *b)
{
    broker_subscription *s, *next;

    HASH_ITER(hh, b->subscriptions, s, next)
    {
        if (s->state == SUBSCRIPTION_ENDED)
            continue;
        s->state = SUBSCRIPTION_UNSENT;
        s->granted_messages = 0;
        inbox_clear(s); /* their leases ended with the connection: they come again */
    }
}

void subscription_free(broker_subscription *s)
{
    HASH_DEL(s->b->subscriptions, s);
    inbox_clear(s);
    free(s->current_batch);
    free(s->spare);
    free(s->queue);
    free(s->group);
    free(s);
}

/* ---- the calls --------------------------------------------------------------------------------------------------------- */

static broker_error check_subscribe_options(broker *b, const broker_subscribe_options *given,
                                            broker_subscribe_options *o)
{
    if (!copy_options(o, sizeof(*o), given, offsetof(broker_subscribe_options, lease_ms)))
        return set_error(b, BROKER_INVALID_ARGUMENT,
                         "subscribe options: use BROKER_OPTIONS_INIT(broker_subscribe_options)");
    if (!o->group)
        o->group = "default";
    if (o->credit_messages == 0)
        o->credit_messages = 1024;
    if (o->credit_bytes == 0)
        o->credit_bytes = 8 << 20;
    if ((unsigned)o->ack > BROKER_ACK_ON_SEND)
        return set_error(b, BROKER_INVALID_ARGUMENT, "subscribe options: ack is %d; give a broker_ack_mode",
                         (int)o->ack);
    if (o->lease_ms > LEASE_MS_MAX)
        return set_error(b, BROKER_INVALID_ARGUMENT, "subscribe options: lease_ms is %u; give up to %d", o->lease_ms,
                         LEASE_MS_MAX);
    if (o->priority > PRIORITY_MAX)
        return set_error(b, BROKER_INVALID_ARGUMENT, "subscribe options: priority is %u; give 0 to %d", o->priority,
                         PRIORITY_MAX);
    if (o->credit_messages > INT32_MAX || o->credit_bytes > INT64_MAX)
        return set_error(b, BROKER_INVALID_ARGUMENT,
                         "subscribe options: a credit of %u messages and %llu bytes is too much", o->credit_messages,
                         (unsigned long long)o->credit_bytes);
    return BROKER_OK;
}

static broker_subscription *subscription_new(broker *b, const char *queue, const broker_subscribe_options *o)
{
    broker_subscription *s = calloc(1, sizeof(*s));

    if (!s)
        return NULL;
    STAILQ_INIT(&s->inbox);
    s->b = b;
    s->queue = strdup(queue);
    s->group = strdup(o->group);
    s->ack = o->ack;
    s->lease_ms = o->lease_ms;
    s->priority = o->priority;
    s->max_unsettled = o->max_unsettled;
    s->credit_messages = o->credit_messages;
    s->credit_bytes = o->credit_bytes;
    s->msg.subscription = s;
    do {
        broker_subscription *other;
        if (++b->last_stream == 0)
            b->last_stream = 1;
        s->id = b->last_stream;
        HASH_FIND_INT(b->subscriptions, &s->id, other);
        if (!other)
            break;
    } while (true);
    if (s->queue && s->group)
        HASH_ADD_INT(b->subscriptions, id, s);
    if (!s->hh.tbl) {
        free(s->queue);
        free(s->group);
        free(s);
        return NULL;
    }
    return s;
}

broker_error broker_subscribe(broker *b, const char *queue, const broker_subscribe_options *options,
                              broker_message_cb *on_message, broker_subscription_cb *on_end, void *arg,
                              broker_subscription **out)
{
    broker_subscribe_options o;
    size_t len;
    uint64_t deadline = client_now_ms() + b->options.timeout_ms;

    *out = NULL;
    broker_error error = may_block(b, "broker_subscribe");
    if (error == BROKER_OK)
        error = check_name(b, "queue", queue, &len);
    if (error == BROKER_OK)
        error = check_subscribe_options(b, options, &o);
    if (error == BROKER_OK)
        error = check_name(b, "group", o.group, &len);
    if (error != BROKER_OK)
        return error;
    broker_subscription *s = subscription_new(b, queue, &o);
    if (!s)
        return set_error(b, BROKER_NO_MEMORY, "out of memory");
    s->on_message = on_message;
    s->on_end = on_end;
    s->arg = arg;
    b->renew_wanted = true;
    broker_process(b, 0); /* if connected, it goes out now */
    while (!s->has_been_active && s->state != SUBSCRIPTION_ENDED && client_step(b, deadline))
        ;
    if (s->has_been_active) { /* if it has ended meanwhile, on_end or broker_receive says so */
        *out = s;
        return BROKER_OK;
    }
    if (s->state == SUBSCRIPTION_ENDED)
        error = set_error(b, s->end_error, "%s", s->end_text);
    else
        error = deadline_error(b, "broker_subscribe", b->options.timeout_ms);
    answer_forget(b, s);
    subscription_free(s);
    return error;
}

broker_error broker_unsubscribe(broker_subscription *s)
{
    broker *b = s->b;
    struct call c = {.lost_is_ok = true};
    broker_error error = refuse_in_callback(b, "broker_unsubscribe");

    if (error != BROKER_OK)
        return error;
    receive_done(s);
    bool known_to_broker = s->state == SUBSCRIPTION_ACTIVE || s->state == SUBSCRIPTION_PENDING;
    s->state = SUBSCRIPTION_ENDED; /* no more callbacks */
    answer_forget(b, s);
    /* Behind the settles that wait in the same list: they are of leases that end with the subscription. */
    if (known_to_broker && conn_is_greeted(b))
        error = call_begin(b, &c, true, FRAME_UNSUBSCRIBE, s->id, NULL, 0);
    if (known_to_broker && conn_is_greeted(b) && error == BROKER_OK)
        error = call_wait(b, &c, b->options.timeout_ms, "UNSUBSCRIBE");
    subscription_free(s);
    return error;
}
