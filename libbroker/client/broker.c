/* The handle: options, error texts, and the calls that drive it from a program's own event loop. */
#include "client_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

/* The sentence of the last broker_open that failed: there is no handle to hold it. */
static _Thread_local char open_error_text[256];

uint64_t client_now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

uint64_t client_now_ms(void)
{
    return client_now_us() / 1000;
}

uint64_t client_random(void)
{
    uint64_t value;

    if (getrandom(&value, sizeof(value), GRND_NONBLOCK) == (ssize_t)sizeof(value))
        return value;
    /* Early in a machine's start there may be no entropy; what tells this process from others must do. */
    return client_now_us() * 0x9E3779B97F4A7C15u ^ (uint64_t)getpid() << 32 ^ (uint64_t)(uintptr_t)&value;
}

broker_error set_error(broker *b, broker_error error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(b->error_text, sizeof(b->error_text), format, args);
    va_end(args);
    b->error_retry_ms = 0;
    return error;
}

broker_error refuse_in_callback(broker *b, const char *call)
{
    if (!b->in_process)
        return BROKER_OK;
    return set_error(b, BROKER_INVALID_ARGUMENT,
                     "%s waits, so it cannot be called from a callback; call it after broker_process has returned",
                     call);
}

broker_error check_name(broker *b, const char *what, const char *name, size_t *len)
{
    *len = name ? strnlen(name, NAME_MAX_BYTES + 1) : 0;
    if (name && name_is_valid(name, *len))
        return BROKER_OK;
    return set_error(b, BROKER_INVALID_ARGUMENT,
                     "\"%.64s\" is no name for a %s: use 1 to 255 of A-Z a-z 0-9 . _ - and no '.' in front",
                     name ? name : "", what);
}

bool copy_options(void *to, size_t to_size, const void *from, size_t least)
{
    size_t size;

    memset(to, 0, to_size);
    if (from) {
        memcpy(&size, from, sizeof(size)); /* each options struct begins with it */
        if (size < least)
            return false;
        memcpy(to, from, size < to_size ? size : to_size);
    }
    return true;
}

static int scratch_write(void *arg, const char *bytes, size_t len)
{
    broker *b = arg;

    if (msgpack_sbuffer_write(&b->scratch, bytes, len) != 0)
        b->scratch_failed = true; /* the packers' callers do not look at each result */
    return 0;
}

void scratch_pack(broker *b, msgpack_packer *pk)
{
    msgpack_sbuffer_clear(&b->scratch);
    b->scratch_failed = false;
    msgpack_packer_init(pk, b, scratch_write);
}

broker_error scratch_good(broker *b)
{
    return b->scratch_failed ? set_error(b, BROKER_NO_MEMORY, "out of memory") : BROKER_OK;
}

/* ---- options ------------------------------------------------------------------------------------------------------- */

static broker_error range_option(broker *b, const char *name, uint64_t *value, uint64_t standard, uint64_t min,
                                 uint64_t max)
{
    if (*value == 0)
        *value = standard;
    if (*value >= min && *value <= max)
        return BROKER_OK;
    return set_error(b, BROKER_INVALID_ARGUMENT, "options: %s is %llu; give %llu to %llu", name,
                     (unsigned long long)*value, (unsigned long long)min, (unsigned long long)max);
}

#define RANGE_OPTION(b, field, standard, min, max)                                                                     \
    do {                                                                                                               \
        uint64_t value_ = (b)->options.field;                                                                          \
        broker_error error_ = range_option((b), #field, &value_, (standard), (min), (max));                            \
        if (error_ != BROKER_OK)                                                                                       \
            return error_;                                                                                             \
        (b)->options.field = (__typeof__((b)->options.field))value_;                                                   \
    } while (0)

static broker_error set_options(broker *b, const broker_options *given)
{
    if (!copy_options(&b->options, sizeof(b->options), given, offsetof(broker_options, timeout_ms)))
        return set_error(b, BROKER_INVALID_ARGUMENT, "options: size is %zu; use BROKER_OPTIONS_INIT(broker_options)",
                         given->size);
    RANGE_OPTION(b, timeout_ms, 30000, 1, 3600000);
    RANGE_OPTION(b, connect_ms, 5000, 1, 3600000);
    RANGE_OPTION(b, heartbeat_ms, 10000, 100, 3600000);
    RANGE_OPTION(b, reconnect_max_ms, 5000, 1, 3600000);
    RANGE_OPTION(b, outbox_bytes, 64 << 20, 1024, SIZE_MAX / 4);
    RANGE_OPTION(b, outbox_messages, 65536, 1, UINT32_MAX / 2);
    RANGE_OPTION(b, batch_bytes, 256 << 10, 1024, 16 << 20);
    RANGE_OPTION(b, max_message_bytes, RECORD_MAX_BYTES, 1024, RECORD_MAX_BYTES);

    const char *url = b->options.url ? b->options.url : getenv("BROKER_URL");
    const char *client_name = b->options.client_name ? b->options.client_name : program_invocation_short_name;
    b->url = strdup(url && url[0] ? url : "broker://127.0.0.1:7440");
    b->client_name = strndup(client_name, NAME_MAX_BYTES);
    if (!b->url || !b->client_name)
        return set_error(b, BROKER_NO_MEMORY, "out of memory");
    b->options.url = b->url;
    b->options.client_name = b->client_name;
    return url_resolve(b, b->url);
}

/* ---- open and close ------------------------------------------------------------------------------------------------- */

broker_error broker_open(broker **out, const broker_options *options)
{
    *out = NULL;
    broker *b = calloc(1, sizeof(*b));
    if (!b) {
        snprintf(open_error_text, sizeof(open_error_text), "out of memory");
        return BROKER_NO_MEMORY;
    }
    b->fd = -1;
    TAILQ_INIT(&b->urgent);
    TAILQ_INIT(&b->normal);
    TAILQ_INIT(&b->sent);
    TAILQ_INIT(&b->pool);
    msgpack_sbuffer_init(&b->scratch);
    broker_error error = set_options(b, options);
    if (error != BROKER_OK) {
        memcpy(open_error_text, b->error_text, sizeof(open_error_text));
        broker_close(b);
        return error;
    }
    if (!b->options.no_dedup) {
        while (b->producer == 0)
            b->producer = client_random();
    }
    b->state = CONN_WAITING;
    b->deadline_ms = 0;
    b->in_process = true;
    conn_event(b, CONN_EVENT_DUE);
    b->in_process = false;
    *out = b;
    return BROKER_OK;
}

void broker_close(broker *b)
{
    if (!b)
        return;
    assert(!b->in_process); /* a callback's caller would go on with a handle that is gone */
    b->in_process = true;
    if (conn_is_greeted(b))
        io_write(b); /* settles that can go at once; broker_flush is what makes sure */
    if (b->fd >= 0)
        close(b->fd);
    b->fd = -1;
    b->state = CONN_DEAD;
    b->final_error = BROKER_CANCELLED;
    answer_cancel(b, BROKER_CANCELLED);
    broker_subscription *s, *next;
    HASH_ITER(hh, b->subscriptions, s, next)
    subscription_free(s);
    outbox_free(b);
    msgpack_sbuffer_destroy(&b->scratch);
    free(b->receive);
    free(b->control);
    free(b->url);
    free(b->client_name);
    free(b);
}

const char *broker_version(void)
{
    return BROKER_VERSION_STRING;
}

const char *broker_error_text(const broker *b)
{
    return b ? b->error_text : open_error_text;
}

uint32_t broker_error_retry_ms(const broker *b)
{
    return b->error_retry_ms;
}

/* ---- the program's event loop ------------------------------------------------------------------------------------------ */

int broker_fd(const broker *b)
{
    return b->fd;
}

int broker_events(const broker *b)
{
    switch (b->state) {
    case CONN_WAITING:
    case CONN_DEAD: return 0;
    case CONN_CONNECTING: return BROKER_EVENT_WRITE;
    case CONN_GREETING:
    case CONN_READY:
    case CONN_DRAINING: break;
    }
    return BROKER_EVENT_READ | (io_has_output(b) ? BROKER_EVENT_WRITE : 0);
}

int broker_timeout_ms(const broker *b)
{
    return conn_timeout_ms(b);
}

broker_error broker_process(broker *b, int events)
{
    broker_error error = refuse_in_callback(b, "broker_process");

    if (error != BROKER_OK)
        return error;
    b->in_process = true;
    conn_process(b, events);
    b->in_process = false;
    if (b->state == CONN_DEAD)
        return set_error(b, b->final_error, "%s", b->lost_text);
    return BROKER_OK;
}

bool broker_is_connected(const broker *b)
{
    return conn_is_greeted(b);
}

size_t broker_outbox(const broker *b)
{
    return b->outbox_messages;
}

uint64_t broker_settle_failures(const broker *b)
{
    return b->settle_failures;
}
