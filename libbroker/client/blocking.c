/* The blocking calls: each drives the asynchronous core with poll(2) until what it waits for has come, or its deadline. */
#include "client_internal.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>

enum { RETRY_FIRST_MS = 10, RETRY_MAX_MS = 1000 };

/* What can go out goes out before the wait: it saves a turn of poll. */
static void write_first(broker *b)
{
    if (!io_has_output(b) || b->blocked)
        return;
    b->in_process = true;
    io_write(b);
    b->in_process = false;
}

enum step client_poll(broker *b, uint64_t deadline_ms)
{
    write_first(b);
    uint64_t now = client_now_ms();
    int timer = broker_timeout_ms(b);
    bool to_deadline = deadline_ms != UINT64_MAX && (timer < 0 || deadline_ms <= now + (uint64_t)timer);
    int timeout = !to_deadline                    ? timer
                  : deadline_ms <= now            ? 0
                  : deadline_ms - now > INT32_MAX ? INT32_MAX
                                                  : (int)(deadline_ms - now);
    int wanted = broker_events(b);
    struct pollfd p = {.fd = broker_fd(b)};
    if (wanted & BROKER_EVENT_READ)
        p.events |= POLLIN;
    if (wanted & BROKER_EVENT_WRITE)
        p.events |= POLLOUT;
    int n = poll(&p, p.fd >= 0 ? 1 : 0, timeout);
    if (n < 0)
        return errno == EINTR ? STEP_SIGNAL : STEP_TIMER;
    int events = (p.revents & (POLLIN | POLLHUP | POLLERR) ? BROKER_EVENT_READ : 0) |
                 (p.revents & POLLOUT ? BROKER_EVENT_WRITE : 0);
    broker_process(b, n > 0 ? events : 0);
    return n > 0 ? STEP_EVENT : to_deadline ? STEP_DEADLINE : STEP_TIMER;
}

bool client_step(broker *b, uint64_t deadline_ms)
{
    return client_poll(b, deadline_ms) != STEP_DEADLINE || client_now_ms() < deadline_ms;
}

void client_pause(broker *b, uint64_t until_ms)
{
    while (b->state != CONN_DEAD && client_step(b, until_ms))
        ;
}

broker_error deadline_error(broker *b, const char *call, uint32_t timeout_ms)
{
    if (b->state == CONN_DEAD)
        return set_error(b, b->final_error, "%s", b->lost_text);
    if (!conn_is_greeted(b))
        return set_error(b, BROKER_CONNECTION_REFUSED, "%s: not connected to %.80s within %u ms: %.80s", call, b->url,
                         timeout_ms, b->lost_text[0] ? b->lost_text : "no answer yet");
    return set_error(b, BROKER_TIMEOUT, "%s: no answer from %.80s within %u ms", call, b->url, timeout_ms);
}

broker_error may_block(broker *b, const char *call)
{
    broker_error error = refuse_in_callback(b, call);

    if (error == BROKER_OK && b->state == CONN_DEAD)
        error = set_error(b, b->final_error, "%s", b->lost_text);
    return error;
}

broker_error broker_wait(broker *b, int timeout_ms)
{
    broker_error error = may_block(b, "broker_wait");

    if (error != BROKER_OK)
        return error;
    uint64_t deadline = timeout_ms < 0 ? UINT64_MAX : client_now_ms() + (uint64_t)timeout_ms;
    enum step step = client_poll(b, deadline);
    if (b->state == CONN_DEAD)
        return set_error(b, b->final_error, "%s", b->lost_text);
    return step == STEP_DEADLINE ? set_error(b, BROKER_TIMEOUT, "nothing came within %d ms", timeout_ms) : BROKER_OK;
}

broker_error broker_connect(broker *b)
{
    broker_error error = may_block(b, "broker_connect");
    uint64_t deadline = client_now_ms() + b->options.timeout_ms;

    if (error != BROKER_OK)
        return error;
    while (!conn_is_greeted(b)) {
        if (b->state == CONN_DEAD || !client_step(b, deadline))
            return deadline_error(b, "broker_connect", b->options.timeout_ms);
    }
    return BROKER_OK;
}

/* ---- publish ------------------------------------------------------------------------------------------------------------ */

struct publish_wait {
    broker *b;
    bool done;
    broker_error error;
    broker_publish_result result;
    char text[256];
    uint32_t retry_ms;
};

static void publish_done(void *arg, broker_error error, const broker_publish_result *result)
{
    struct publish_wait *w = arg;

    w->done = true;
    w->error = error;
    w->result = *result;
    if (error != BROKER_OK) { /* the same turn may bring other errors */
        memcpy(w->text, w->b->error_text, sizeof(w->text));
        w->retry_ms = w->b->error_retry_ms;
    }
}

/* One attempt: append, wait. *again: worth trying once more after error_retry_ms. */
static broker_error publish_once(broker *b, const char *queue, const broker_message *message,
                                 const broker_publish_options *o, uint64_t deadline, struct publish_wait *w)
{
    struct out_frame *f;
    uint32_t index;
    broker_error error;

    *w = (struct publish_wait){.b = b};
    while ((error = publish_append(b, queue, message, o, publish_done, w, &f, &index)) == BROKER_OUTBOX_FULL) {
        if (b->state == CONN_DEAD || !client_step(b, deadline))
            return error;
    }
    if (error != BROKER_OK)
        return error;
    while (!w->done) {
        if (client_step(b, deadline) || w->done)
            continue;
        bool gone = publish_withdraw(b, f, index);
        error = deadline_error(b, "broker_publish", b->options.timeout_ms);
        if (!gone) {
            size_t len = strlen(b->error_text);
            snprintf(b->error_text + len, sizeof(b->error_text) - len, "; it was sent and may yet be stored");
        }
        return error;
    }
    if (w->error != BROKER_OK) {
        memcpy(b->error_text, w->text, sizeof(b->error_text));
        b->error_retry_ms = w->retry_ms;
    }
    return w->error;
}

broker_error broker_publish(broker *b, const char *queue, const broker_message *message,
                            const broker_publish_options *options, broker_publish_result *result)
{
    broker_publish_options o = {0};
    struct publish_wait w;
    uint64_t deadline = client_now_ms() + b->options.timeout_ms, wait_ms = RETRY_FIRST_MS;
    broker_error error = may_block(b, "broker_publish");

    if (error == BROKER_OK)
        error = publish_options_get(b, options, &o);
    if (error != BROKER_OK)
        return error;
    for (;;) {
        error = publish_once(b, queue, message, &o, deadline, &w);
        uint64_t now = client_now_ms();
        /* A busy broker gets the time it asks for; every other refusal is the program's to judge. */
        if (error != BROKER_OVERLOADED || now >= deadline)
            break;
        uint64_t until = now + (w.retry_ms ? w.retry_ms : wait_ms);
        client_pause(b, until < deadline ? until : deadline);
        if (client_now_ms() >= deadline || b->state == CONN_DEAD) {
            memcpy(b->error_text, w.text, sizeof(b->error_text));
            break;
        }
        wait_ms = wait_ms * 2 > RETRY_MAX_MS ? RETRY_MAX_MS : wait_ms * 2;
    }
    if (result)
        *result = w.result;
    return error;
}

broker_error broker_flush(broker *b)
{
    broker_error error = may_block(b, "broker_flush");
    uint64_t deadline = client_now_ms() + b->options.timeout_ms;

    if (error != BROKER_OK)
        return error;
    while (b->outbox_messages > 0 || b->settle_frames > 0) {
        if (b->state == CONN_DEAD || !client_step(b, deadline))
            return deadline_error(b, "broker_flush", b->options.timeout_ms);
    }
    error = b->flush_error;
    b->flush_error = BROKER_OK;
    return error == BROKER_OK ? BROKER_OK : set_error(b, error, "%s", b->flush_text);
}

/* ---- calls -------------------------------------------------------------------------------------------------------------- */

broker_error call_begin(broker *b, struct call *c, bool urgent, uint8_t type, uint32_t stream, const void *body,
                        size_t len)
{
    if (b->max_frame != 0 && len > b->max_frame)
        return set_error(b, BROKER_TOO_LARGE, "%s: a request of %zu bytes; the broker takes %u", frame_type_name(type),
                         len, b->max_frame);
    struct out_frame *f = frame_new(b, OUT_CALL, type, len);
    if (!f)
        return set_error(b, BROKER_NO_MEMORY, "out of memory");
    frame_put(f, body, len);
    f->call = c;
    f->urgent = urgent;
    f->stream = stream;
    TAILQ_INSERT_TAIL(frame_list(b, f), f, link);
    return BROKER_OK;
}

static bool detach(struct out_frame *f, const struct call *c)
{
    if (!f || f->call != c)
        return false;
    f->call = NULL;
    return true;
}

bool call_abandon(broker *b, const struct call *c)
{
    struct out_list *lists[] = {&b->urgent, &b->normal};
    struct out_frame *f;

    if (detach(b->writing, c))
        return false;
    TAILQ_FOREACH(f, &b->sent, link)
    {
        if (detach(f, c))
            return false;
    }
    for (size_t i = 0; i < 2; i++) {
        TAILQ_FOREACH(f, lists[i], link)
        {
            if (detach(f, c)) {
                bool unsent = !f->begun; /* it may be here again from a connection that was lost */
                TAILQ_REMOVE(lists[i], f, link);
                frame_recycle(b, f);
                return unsent;
            }
        }
    }
    return true;
}

broker_error call_result(broker *b, const struct call *c)
{
    if (c->error != BROKER_OK) {
        memcpy(b->error_text, c->text, sizeof(b->error_text));
        b->error_retry_ms = c->retry_ms;
    }
    return c->error;
}

broker_error call_wait(broker *b, struct call *c, uint32_t timeout_ms, const char *name)
{
    uint64_t deadline = client_now_ms() + timeout_ms;

    while (!c->done) {
        if (client_step(b, deadline) || c->done)
            continue;
        call_abandon(b, c);
        return deadline_error(b, name, timeout_ms);
    }
    return call_result(b, c);
}

broker_error call_do(broker *b, struct call *c, uint8_t type, const void *body, size_t len)
{
    broker_error error = may_block(b, frame_type_name(type));

    if (error == BROKER_OK)
        error = call_begin(b, c, false, type, 0, body, len);
    if (error == BROKER_OK)
        error = call_wait(b, c, b->options.timeout_ms, frame_type_name(type));
    return error;
}
