#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "rig.h"

static void *front_opened(void *arg, struct net_conn *c)
{
    struct front *f = arg;
    struct peer *p = test_calloc(1, sizeof(*p));
    p->front = f;
    p->c = c;
    f->peers[f->opened++ % 16] = p;
    if (f->full)
        net_conn_set_limits(c, f->full, 64 * f->full);
    return p;
}

static size_t front_input(void *arg, uint8_t *bytes, size_t len, size_t *need)
{
    struct peer *p = arg;
    size_t used = 0;
    for (;;) {
        uint32_t n;
        *need = sizeof(n);
        if (len - used < sizeof(n))
            return used;
        memcpy(&n, bytes + used, sizeof(n));
        *need = sizeof(n) + n;
        if (len - used < *need)
            return used;
        if (net_conn_is_choked(p->c) || net_conn_is_unread(p->c)) {
            *need = 0;
            return used;
        }
        p->frames++;
        p->bytes += n;
        p->last_len = n;
        p->last_first = n ? bytes[used + sizeof(n)] : 0;
        if (p->front->frame)
            p->front->frame(p, bytes + used + sizeof(n), n);
        if (net_conn_unsent(p->c) > p->largest_unsent)
            p->largest_unsent = net_conn_unsent(p->c);
        used += sizeof(n) + n;
    }
}

static void front_drained(void *arg)
{
    ((struct peer *)arg)->drained++;
}

static monotime front_deadline(void *arg, struct now now)
{
    struct peer *p = arg;
    p->front->deadlines++;
    return p->front->deadlines < 3 ? now.mono : MONOTIME_NEVER;
}

static void front_closed(void *arg, enum net_close_reason reason)
{
    struct peer *p = arg;
    p->front->closed++;
    p->front->reason = reason;
    for (unsigned i = 0; i < 16; i++)
        if (p->front->peers[i] == p)
            p->front->peers[i] = NULL;
    test_free(p);
}

static size_t front_refusal(void *arg, uint8_t *out, size_t max)
{
    memcpy(out, "full", 4);
    return 4;
}

static bool front_has_room(void *arg)
{
    struct front *f = arg;
    return !f->most || f->opened - f->closed < f->most;
}

const struct net_handler HANDLER = {
    .opened = front_opened,
    .input = front_input,
    .drained = front_drained,
    .deadline = front_deadline,
    .closed = front_closed,
    .has_room = front_has_room,
    .refusal = front_refusal,
};

struct net_timer tick;
static void ticked(void *arg, struct now now) {}

void start(struct front *f)
{
    *f = (struct front){0};
    struct net_options options = {.read_buffer_bytes = 16384,
                                  .max_input_bytes = 1 << 20,
                                  .max_output_bytes = 64 << 20,
                                  .max_connections = 8,
                                  .linger_ms = 2000};
    f->net = net_new(&options);
    assert_non_null(f->net);
    net_timer_init(&tick, ticked, NULL);
    alarm(50); /* a condition that never comes true ends the test */
}

void stop(struct front *f)
{
    net_free(f->net);
    assert_int_equal(f->opened, f->closed);
    alarm(0);
}

void settle(struct front *f)
{
    for (int i = 0; i < 20; i++)
        net_turn(f->net, false);
}

int pair(struct front *f)
{
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_non_null(net_adopt(f->net, fds[0], &HANDLER, f));
    return fds[1];
}

void put(int fd, const void *bytes, size_t n)
{
    assert_int_equal(send(fd, bytes, n, MSG_NOSIGNAL), n);
}

void put_frame(int fd, const void *bytes, uint32_t n)
{
    put(fd, &n, sizeof(n));
    put(fd, bytes, n);
}
