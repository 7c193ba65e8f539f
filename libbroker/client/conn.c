/* The connection's state machine: connect, greet, watch, lose, come back. Only conn_event changes the state. */
#include "client_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

enum { BACKOFF_FIRST_MS = 50, LOST_AFTER_HEARTBEATS = 3 };

bool conn_is_greeted(const broker *b)
{
    return b->state == CONN_READY || b->state == CONN_DRAINING;
}

void conn_lost(broker *b, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(b->lost_text, sizeof(b->lost_text), format, args);
    va_end(args);
    conn_event(b, CONN_EVENT_LOST);
}

/* ---- the steps ------------------------------------------------------------------------------------------------------ */

static void begin_attempt(broker *b)
{
    const struct endpoint *e = &b->endpoints[b->next_endpoint];
    int family = e->address.ss_family, yes = 1;

    b->state = CONN_CONNECTING;
    b->deadline_ms = client_now_ms() + b->options.connect_ms;
    b->fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (b->fd < 0) {
        conn_lost(b, "cannot connect to %.100s: socket: %s", b->url, strerror(errno));
        return;
    }
    /* Frames are built whole, so nothing is gained by the kernel's waiting for more; a failure costs only latency. */
    if (family != AF_UNIX)
        setsockopt(b->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
    if (connect(b->fd, (const struct sockaddr *)&e->address, e->len) == 0)
        conn_event(b, CONN_EVENT_CONNECTED);
    else if (errno != EINPROGRESS && errno != EINTR)
        conn_lost(b, "cannot connect to %.100s: %s", b->url, strerror(errno));
}

static void check_connected(broker *b)
{
    struct pollfd p = {.fd = b->fd, .events = POLLOUT};
    int error = 0;
    socklen_t len = sizeof(error);

    if (poll(&p, 1, 0) <= 0)
        return;
    if (getsockopt(b->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
        error = errno;
    if (error != 0)
        conn_lost(b, "cannot connect to %.100s: %s", b->url, strerror(error));
    else
        conn_event(b, CONN_EVENT_CONNECTED);
}

static bool say_hello(broker *b)
{
    uint8_t preamble[WIRE_PREAMBLE_BYTES] = WIRE_MAGIC;
    msgpack_packer pk;

    put_u16(preamble + 4, WIRE_VERSION);
    put_u16(preamble + 6, 0);
    scratch_pack(b, &pk);
    msgpack_pack_map(&pk, 3);
    pack_key_str(&pk, "client", b->client_name, strlen(b->client_name));
    pack_key_str(&pk, "version", BROKER_VERSION_STRING, strlen(BROKER_VERSION_STRING));
    pack_key_u64(&pk, "heartbeat_ms", b->options.heartbeat_ms);
    /* The preamble goes in front of the first frame: the only bytes that are no frame. */
    return scratch_good(b) == BROKER_OK &&
           send(b->fd, preamble, sizeof(preamble), MSG_NOSIGNAL) == (ssize_t)sizeof(preamble) &&
           control_frame(b, FRAME_HELLO, 1, 0, b->scratch.data, b->scratch.size);
}

static void greet(broker *b)
{
    b->state = CONN_GREETING;
    b->last_receive_ms = b->last_send_ms = client_now_ms();
    if (!say_hello(b))
        conn_lost(b, "cannot greet %.100s: %s", b->url, strerror(errno));
}

static void disconnect(broker *b)
{
    if (b->fd >= 0)
        close(b->fd);
    b->fd = -1;
    b->receive_len = 0;
    b->control_len = b->control_written = 0;
    b->blocked = false;
    answer_lost(b);
    subscriptions_lost(b);
}

/* Half to all of the wait, so that the clients of a broker that comes back do not all come at once. */
static uint64_t jittered(uint32_t wait_ms)
{
    return wait_ms - client_random() % (wait_ms / 2 + 1);
}

static void wait_for_next(broker *b, bool was_greeted)
{
    uint64_t now = client_now_ms();

    b->state = CONN_WAITING;
    b->next_endpoint = was_greeted ? 0 : b->next_endpoint + 1;
    if (!was_greeted && b->next_endpoint < b->endpoint_count) {
        b->deadline_ms = now; /* another address of the same name */
        return;
    }
    b->next_endpoint = 0;
    if (b->backoff_ms == 0)
        b->backoff_ms = BACKOFF_FIRST_MS;
    if (b->backoff_ms > b->options.reconnect_max_ms)
        b->backoff_ms = b->options.reconnect_max_ms;
    b->deadline_ms = now + jittered(b->backoff_ms);
    b->backoff_ms *= 2;
}

static void die(broker *b)
{
    b->state = CONN_DEAD;
    set_error(b, b->final_error, "%s", b->lost_text);
    answer_cancel(b, b->final_error);
    subscriptions_end(b, b->final_error);
}

static void lose(broker *b)
{
    bool was_greeted = conn_is_greeted(b);
    bool more_addresses = !was_greeted && b->next_endpoint + 1 < b->endpoint_count;

    disconnect(b);
    if (b->options.no_reconnect && !more_addresses) {
        b->final_error = was_greeted ? BROKER_CONNECTION_LOST : BROKER_CONNECTION_REFUSED;
        die(b);
        return;
    }
    wait_for_next(b, was_greeted);
}

void conn_event(broker *b, enum conn_event event)
{
    if (b->state == CONN_DEAD)
        return;
    switch (event) {
    case CONN_EVENT_DUE: begin_attempt(b); break;
    case CONN_EVENT_CONNECTED: greet(b); break;
    case CONN_EVENT_GREETED:
        b->state = CONN_READY;
        b->lost_text[0] = '\0';
        b->renew_wanted = true;
        break;
    case CONN_EVENT_GOAWAY:
        if (b->state == CONN_READY)
            b->state = CONN_DRAINING;
        break;
    case CONN_EVENT_LOST: lose(b); break;
    case CONN_EVENT_FINAL:
        disconnect(b);
        die(b);
        break;
    }
}

/* ---- what each turn does ---------------------------------------------------------------------------------------------- */

static bool silent_for(uint64_t now, uint64_t since, uint64_t ms)
{
    return now >= since + ms;
}

static void watch_greeted(broker *b)
{
    uint64_t now = client_now_ms();

    if (b->heartbeat_ms != 0) {
        if (silent_for(now, b->last_receive_ms, (uint64_t)LOST_AFTER_HEARTBEATS * b->heartbeat_ms)) {
            conn_lost(b, "no sign of life from %.100s for %llu ms", b->url,
                      (unsigned long long)(now - b->last_receive_ms));
            return;
        }
        if (silent_for(now, b->last_send_ms, b->heartbeat_ms) && !io_has_output(b)) {
            if (control_frame(b, FRAME_HEARTBEAT, 0, 0, NULL, 0))
                io_write(b);
        }
    }
    if (b->state == CONN_DRAINING && !answer_awaited(b) && !io_has_output(b))
        conn_event(b, CONN_EVENT_LOST);
}

static bool has_socket(const broker *b)
{
    return b->state == CONN_GREETING || conn_is_greeted(b);
}

void conn_process(broker *b, int events)
{
    b->last_process_ms = client_now_ms();
    if (b->state == CONN_WAITING && b->last_process_ms >= b->deadline_ms)
        conn_event(b, CONN_EVENT_DUE);
    if (b->state == CONN_CONNECTING)
        check_connected(b);
    if (has_socket(b)) {
        /* What came while the program was busy elsewhere counts before anything is called overdue. */
        if (events != BROKER_EVENT_WRITE || conn_timeout_ms(b) == 0)
            io_read(b);
        if (b->renew_wanted && b->state == CONN_READY)
            subscriptions_renew(b);
        if (has_socket(b) && io_has_output(b))
            io_write(b);
    }
    if (conn_is_greeted(b))
        watch_greeted(b);
    else if ((b->state == CONN_CONNECTING || b->state == CONN_GREETING) && client_now_ms() >= b->deadline_ms)
        conn_lost(b, "%s %.100s: no answer within %u ms",
                  b->state == CONN_CONNECTING ? "cannot connect to" : "cannot greet", b->url, b->options.connect_ms);
}

int conn_timeout_ms(const broker *b)
{
    uint64_t now = client_now_ms(), due = UINT64_MAX;

    switch (b->state) {
    case CONN_WAITING:
    case CONN_CONNECTING:
    case CONN_GREETING: due = b->deadline_ms; break;
    case CONN_READY:
    case CONN_DRAINING:
        if (b->heartbeat_ms != 0) {
            uint64_t lost = b->last_receive_ms + (uint64_t)LOST_AFTER_HEARTBEATS * b->heartbeat_ms;
            due = b->last_send_ms + b->heartbeat_ms;
            /* While output waits for the socket no heartbeat can go out: the frames themselves will do. */
            if (lost < due || io_has_output(b))
                due = lost;
        }
        break;
    case CONN_DEAD: break;
    }
    if (due == UINT64_MAX)
        return -1;
    return due <= now ? 0 : due - now > INT32_MAX ? INT32_MAX : (int)(due - now);
}
