/* Bytes between the socket and the frames: written from the frames themselves, read into one buffer and taken apart there. */
#include "client_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/uio.h>

enum { PIECES_MAX = 64, GATHER_BYTES = 1 << 20, READ_ROUNDS = 4, CONTROL_BYTES_MAX = 1 << 20 };

/* ---- out ---------------------------------------------------------------------------------------------------------- */

bool control_frame(broker *b, uint8_t type, uint32_t correlation, uint32_t stream, const void *body, size_t len)
{
    struct frame_head head = {.length = (uint32_t)len, .type = type, .correlation = correlation, .stream = stream};
    size_t need = b->control_len + FRAME_HEAD_BYTES + len;

    if (need > b->control_cap) {
        size_t cap = need < 4096 ? 4096 : need * 2;
        uint8_t *bytes = need > CONTROL_BYTES_MAX ? NULL : realloc(b->control, cap);
        if (!bytes)
            return false;
        b->control = bytes;
        b->control_cap = cap;
    }
    frame_head_put(b->control + b->control_len, &head);
    if (len > 0)
        memcpy(b->control + b->control_len + FRAME_HEAD_BYTES, body, len);
    b->control_len = need;
    return true;
}

bool io_has_output(const broker *b)
{
    bool control = b->control_written < b->control_len;

    switch (b->state) {
    case CONN_GREETING: return control;
    case CONN_READY: return control || b->writing || !TAILQ_EMPTY(&b->urgent) || !TAILQ_EMPTY(&b->normal);
    case CONN_DRAINING: return control || b->writing || !TAILQ_EMPTY(&b->urgent);
    case CONN_WAITING:
    case CONN_CONNECTING:
    case CONN_DEAD: break;
    }
    return false;
}

struct pieces {
    struct iovec iov[PIECES_MAX];
    struct out_frame *frames[PIECES_MAX]; /* NULL: `control` */
    int count;
    size_t bytes;
};

static void add_piece(struct pieces *p, struct out_frame *f, uint8_t *bytes, size_t len)
{
    p->iov[p->count] = (struct iovec){.iov_base = bytes, .iov_len = len};
    p->frames[p->count++] = f;
    p->bytes += len;
}

static void add_control(struct pieces *p, broker *b)
{
    if (b->control_written < b->control_len)
        add_piece(p, NULL, b->control + b->control_written, b->control_len - b->control_written);
}

static void add_list(struct pieces *p, broker *b, struct out_list *list)
{
    struct out_frame *f;

    TAILQ_FOREACH(f, list, link)
    {
        if (p->count == PIECES_MAX || p->bytes >= GATHER_BYTES)
            return;
        if (f->correlation == 0)
            frame_seal(b, f);
        add_piece(p, f, f->bytes, f->len);
    }
}

/* What was begun must be finished first; then settles, since others wait for what they release. */
static void gather(struct pieces *p, broker *b)
{
    bool control_begun = b->control_written > 0;

    p->count = 0;
    p->bytes = 0;
    if (control_begun || b->state == CONN_GREETING)
        add_control(p, b);
    if (b->writing)
        add_piece(p, b->writing, b->writing->bytes + b->writing->written, b->writing->len - b->writing->written);
    if (b->state == CONN_GREETING)
        return;
    add_list(p, b, &b->urgent);
    if (!control_begun && p->count < PIECES_MAX)
        add_control(p, b);
    if (b->state == CONN_READY)
        add_list(p, b, &b->normal);
}

static void frame_progress(broker *b, struct out_frame *f, size_t n)
{
    if (f == b->writing)
        b->writing = NULL;
    else
        TAILQ_REMOVE(frame_list(b, f), f, link);
    f->begun = true;
    f->written += n;
    if (f->written == f->len)
        frame_sent(b, f);
    else
        b->writing = f;
}

static void progress(broker *b, const struct pieces *p, size_t n)
{
    for (int i = 0; i < p->count && n > 0; i++) {
        size_t part = n < p->iov[i].iov_len ? n : p->iov[i].iov_len;
        n -= part;
        if (p->frames[i]) {
            frame_progress(b, p->frames[i], part);
            continue;
        }
        b->control_written += part;
        if (b->control_written == b->control_len)
            b->control_written = b->control_len = 0;
    }
}

void io_write(broker *b)
{
    struct pieces p;

    while (io_has_output(b)) {
        gather(&p, b);
        struct msghdr message = {.msg_iov = p.iov, .msg_iovlen = (size_t)p.count};
        ssize_t n = sendmsg(b->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
            conn_lost(b, "connection to %.100s lost: %s", b->url, strerror(errno));
            return;
        }
        if (n > 0) {
            progress(b, &p, (size_t)n);
            b->last_send_ms = client_now_ms();
        }
        b->blocked = n < 0 || (size_t)n < p.bytes;
        if (b->blocked)
            return;
    }
}

/* ---- in ----------------------------------------------------------------------------------------------------------- */

/* A broker that sends more than this is not to be believed: the memory is ours. */
static size_t frame_limit(const broker *b)
{
    if (b->state == CONN_GREETING)
        return GREETING_FRAME_BYTES;
    return b->options.max_message_bytes + RECEIVE_SLACK_BYTES;
}

/* Acts on the whole frames at the front of the receive buffer. */
static broker_error take_frames(broker *b)
{
    struct frame_head head;
    size_t offset = 0;
    broker_error error = BROKER_OK;

    while (error == BROKER_OK && b->receive_len - offset >= FRAME_HEAD_BYTES) {
        if (frame_head_get(b->receive + offset, &head) != BROKER_OK)
            return set_error(b, BROKER_MALFORMED, "the broker sent a frame head with reserved bytes that are not zero");
        if (head.length > frame_limit(b)) {
            b->final_error = b->state == CONN_GREETING ? BROKER_OK : BROKER_TOO_LARGE;
            return set_error(b, BROKER_TOO_LARGE,
                             "the broker sent a frame of %u bytes; at most %zu are taken: raise max_message_bytes",
                             head.length, frame_limit(b));
        }
        if (b->receive_len - offset < FRAME_HEAD_BYTES + (size_t)head.length)
            break;
        error = frame_in(b, &head, b->receive + offset + FRAME_HEAD_BYTES);
        offset += FRAME_HEAD_BYTES + (size_t)head.length;
    }
    b->receive_len -= offset;
    if (b->receive_len > 0 && offset > 0)
        memmove(b->receive, b->receive + offset, b->receive_len);
    return error;
}

void connection_failed(broker *b)
{
    snprintf(b->lost_text, sizeof(b->lost_text), "%.250s", b->error_text);
    conn_event(b, b->final_error != BROKER_OK ? CONN_EVENT_FINAL : CONN_EVENT_LOST);
}

/* Room for the rest of the frame that has begun; back to the usual size when nothing has. */
static bool make_room(broker *b)
{
    size_t cap = RECEIVE_BYTES;

    if (b->receive_len >= FRAME_HEAD_BYTES) {
        size_t whole = FRAME_HEAD_BYTES + (size_t)get_u32(b->receive); /* checked by take_frames */
        if (whole > cap)
            cap = whole;
    }
    if (cap == b->receive_cap || (b->receive_len > 0 && cap < b->receive_cap))
        return true;
    uint8_t *bytes = realloc(b->receive, cap);
    if (!bytes)
        return false;
    b->receive = bytes;
    b->receive_cap = cap;
    return true;
}

void io_read(broker *b)
{
    for (int round = 0; round < READ_ROUNDS; round++) {
        if (!make_room(b)) {
            conn_lost(b, "connection to %.100s given up: no memory to receive", b->url);
            return;
        }
        size_t room = b->receive_cap - b->receive_len;
        ssize_t n = recv(b->fd, b->receive + b->receive_len, room, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
            return;
        if (n <= 0) {
            conn_lost(b, "connection to %.100s lost: %s", b->url, n == 0 ? "closed by the broker" : strerror(errno));
            return;
        }
        b->receive_len += (size_t)n;
        b->last_receive_ms = client_now_ms();
        if (take_frames(b) != BROKER_OK) {
            connection_failed(b);
            return;
        }
        if ((size_t)n < room)
            return;
    }
}
