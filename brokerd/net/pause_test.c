/* Reading that pauses, and output that is watched. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "test/rig.h"

static void pause_after_this(struct peer *p, uint8_t *bytes, size_t len)
{
    net_conn_pause(p->c);
    assert_true(net_conn_is_unread(p->c));
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
