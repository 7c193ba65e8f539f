/* Reading that pauses, and output that is watched. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "net_internal.h"

/* A front whose frames have their length before them. It does with each what the test wants. */
struct front;
struct peer {
    struct front *front;
    struct net_conn *c;
    unsigned frames, drained;
    size_t last_len;
};

struct front {
    struct net *net;
    void (*frame)(struct peer *p);
    struct peer *peers[4];
    unsigned opened, closed;
    enum net_close_reason reason;
    size_t full;
};

static void *front_opened(void *arg, struct net_conn *c)
{
    struct front *f = arg;
    struct peer *p = test_calloc(1, sizeof(*p));
    p->front = f;
    p->c = c;
    f->peers[f->opened++] = p;
    if (f->full)
        net_conn_set_limits(c, f->full, 64 * f->full);
    return p;
}

static size_t front_input(void *arg, uint8_t *bytes, size_t len, size_t *need)
{
    struct peer *p = arg;
    size_t used = 0;
    while (len - used >= sizeof(uint32_t)) {
        uint32_t n;
        memcpy(&n, bytes + used, sizeof(n));
        *need = sizeof(n) + n;
        if (len - used < *need)
            return used;
        *need = 0;
        if (net_conn_is_choked(p->c) || net_conn_is_unread(p->c))
            return used;
        p->frames++;
        p->last_len = n;
        if (p->front->frame)
            p->front->frame(p);
        used += sizeof(n) + n;
    }
    return used;
}

static void front_drained(void *arg)
{
    ((struct peer *)arg)->drained++;
}

static monotime front_deadline(void *arg, struct now now)
{
    return MONOTIME_NEVER;
}

static void front_closed(void *arg, enum net_close_reason reason)
{
    struct peer *p = arg;
    struct front *f = p->front;
    f->closed++;
    f->reason = reason;
    for (unsigned i = 0; i < 4; i++)
        if (f->peers[i] == p)
            f->peers[i] = NULL;
    test_free(p);
}

static const struct net_handler HANDLER = {
    .opened = front_opened,
    .input = front_input,
    .drained = front_drained,
    .deadline = front_deadline,
    .closed = front_closed,
};

static void pause_after_this(struct peer *p)
{
    net_conn_pause(p->c);
    assert_true(net_conn_is_unread(p->c));
}

static struct net_timer tick;
static void ticked(void *arg, struct now now) {}

static void start(struct front *f)
{
    struct net_options options = {.read_buffer_bytes = 16384,
                                  .max_input_bytes = 1 << 20,
                                  .max_output_bytes = 64 << 20,
                                  .max_connections = 8,
                                  .linger_ms = 2000};
    *f = (struct front){.net = net_new(&options)};
    assert_non_null(f->net);
    net_timer_init(&tick, ticked, NULL);
    alarm(50);
}

static void stop(struct front *f)
{
    net_free(f->net);
    assert_int_equal(f->opened, f->closed);
    alarm(0);
}

#define UNTIL(f, condition)                                                                                            \
    do {                                                                                                               \
        while (!(condition)) {                                                                                         \
            net_timer_set((f)->net, &tick, (monotime){net_now((f)->net).mono.ms + 5});                                 \
            net_turn((f)->net, true);                                                                                  \
        }                                                                                                              \
        net_timer_set((f)->net, &tick, MONOTIME_NEVER);                                                                \
    } while (0)

static void settle(struct front *f) /* everything that is there is done */
{
    for (int i = 0; i < 20; i++)
        net_turn(f->net, false);
}

static int pair(struct front *f)
{
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_non_null(net_adopt(f->net, fds[0], &HANDLER, f));
    return fds[1];
}

static void put_frame(int fd, const void *bytes, uint32_t n)
{
    assert_int_equal(send(fd, &n, sizeof(n), MSG_NOSIGNAL), sizeof(n));
    assert_int_equal(send(fd, bytes, n, MSG_NOSIGNAL), n);
}

static void a_paused_connection_goes_on(void **state)
{
    struct front f;
    static char large[40000];
    start(&f);
    f.frame = pause_after_this;
    int fd = pair(&f);
    put_frame(fd, "one", 3);
    put_frame(fd, "two", 3); /* left over */
    UNTIL(&f, f.peers[0]->frames == 1);
    struct peer *p = f.peers[0];
    put_frame(fd, "three", 5); /* stays in the system */
    settle(&f);
    assert_int_equal(p->frames, 1);
    assert_int_equal(net_conn_held(p->c), 7);
    net_conn_resume(p->c);
    assert_int_equal(p->frames, 1); /* not from inside */
    UNTIL(&f, p->frames == 2);
    settle(&f);
    assert_int_equal(p->frames, 2);
    net_conn_resume(p->c);
    UNTIL(&f, p->frames == 3);
    net_conn_resume(p->c);
    net_conn_resume(p->c); /* of one that is not paused: nothing */
    f.frame = NULL;
    put_frame(fd, large, sizeof(large)); /* larger than the read buffer */
    UNTIL(&f, p->frames == 4);
    assert_int_equal(p->last_len, sizeof(large));
    assert_int_equal(net_conn_held(p->c), 0);
    close(fd);
    UNTIL(&f, f.closed == 1);
    stop(&f);
}

/* Also behind bytes that nobody reads. */
static void the_end_of_a_paused_connection_is_noticed(void **state)
{
    struct front f;
    start(&f);
    f.frame = pause_after_this;
    int ends[3] = {pair(&f), pair(&f), pair(&f)};
    for (int i = 0; i < 3; i++) {
        put_frame(ends[i], "one", 3);
        put_frame(ends[i], "two", 3);
        UNTIL(&f, f.peers[i] && f.peers[i]->frames == 1);
        put_frame(ends[i], "three", 5);
    }
    struct peer *lives = f.peers[1], *writes = f.peers[2];
    close(ends[0]);
    UNTIL(&f, f.closed == 1);
    assert_int_equal(f.reason, NET_CLOSE_PEER);
    assert_ptr_equal(f.peers[1], lives);
    close(ends[2]);
    net_conn_write(writes->c, "x", 1); /* noticed by this at once, with reading off */
    net_turn(f.net, false);
    net_turn(f.net, false);
    assert_int_equal(f.closed, 2);
    net_conn_pause(lives->c); /* again: nothing */
    net_conn_abort(lives->c);
    net_conn_pause(lives->c);
    net_conn_resume(lives->c);
    UNTIL(&f, f.closed == 3);
    close(ends[1]);
    stop(&f);
}

/* Choked and paused: it is read when neither holds any more. */
static void paused_while_its_output_is_stuck(void **state)
{
    struct front f;
    static char bytes[400000], got[400000];
    start(&f);
    f.full = 65536;
    int fd = pair(&f);
    UNTIL(&f, f.peers[0]);
    struct peer *p = f.peers[0];
    net_conn_write(p->c, bytes, sizeof(bytes));
    put_frame(fd, "one", 3);
    settle(&f);
    assert_true(net_conn_is_choked(p->c));
    net_conn_pause(p->c);
    while (net_conn_unsent(p->c) > 0) {
        assert_true(recv(fd, got, sizeof(got), 0) > 0);
        settle(&f);
    }
    assert_int_equal(p->frames, 0);
    net_conn_resume(p->c);
    UNTIL(&f, p->frames == 1);
    close(fd);
    UNTIL(&f, f.closed == 1);
    stop(&f);
}

static void output_can_be_watched(void **state)
{
    struct front f;
    char got[8];
    start(&f);
    int fd = pair(&f);
    UNTIL(&f, f.peers[0]);
    struct peer *p = f.peers[0];
    net_conn_write(p->c, "hello", 5);
    net_turn(f.net, false);
    settle(&f);
    assert_int_equal(p->drained, 0); /* it was never full */
    net_conn_write(p->c, "hello", 5);
    net_conn_watch_output(p->c);
    UNTIL(&f, p->drained == 1);
    assert_int_equal(net_conn_sent(p->c), 10);
    net_conn_watch_output(p->c); /* with nothing to send */
    UNTIL(&f, p->drained == 2);
    settle(&f);
    assert_int_equal(p->drained, 2);
    assert_int_equal(recv(fd, got, sizeof(got), 0), 8);
    close(fd);
    UNTIL(&f, f.closed == 1);
    stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_paused_connection_goes_on),
        cmocka_unit_test(the_end_of_a_paused_connection_is_noticed),
        cmocka_unit_test(paused_while_its_output_is_stuck),
        cmocka_unit_test(output_can_be_watched),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
