/* net over loopback and socket pairs: real sockets, one loop, no sleeps. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "test/rig.h"

static void echo(struct peer *p, uint8_t *bytes, size_t len)
{
    net_conn_write(p->c, bytes, len);
}

static uint16_t port_found;
static char text_found[256];
static void note_listener(void *arg, const char *text, uint16_t port)
{
    port_found = port;
    snprintf(text_found, sizeof(text_found), "%s", text);
}

static int dial(uint16_t port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    return fd;
}

/* ---- listeners ------------------------------------------------------------------------------------------------------ */

static void tcp_echo_on_a_free_port(void **state)
{
    struct front f;
    char error[256] = "", got[8] = "";
    start(&f);
    f.frame = echo;
    assert_true(net_listen_tcp(f.net, "127.0.0.1", "0", &HANDLER, &f, error, sizeof(error)));
    net_each_listener(f.net, &HANDLER, note_listener, NULL);
    assert_true(port_found != 0);
    snprintf(got, sizeof(got), "%u", port_found);
    assert_non_null(strstr(text_found, got));
    int fd = dial(port_found);
    put_frame(fd, "hello", 5);
    UNTIL(&f, f.peers[0] && f.peers[0]->frames == 1);
    char peer[64];
    net_conn_peer(f.peers[0]->c, peer, sizeof(peer));
    assert_non_null(strstr(peer, "127.0.0.1:"));
    net_turn(f.net, false); /* its output leaves at the turn's end */
    assert_int_equal(recv(fd, got, sizeof(got), 0), 5);
    assert_memory_equal(got, "hello", 5);
    assert_false(
        net_listen_tcp(f.net, "127.0.0.1", text_found + strlen("tcp 127.0.0.1:"), &HANDLER, &f, error, sizeof(error)));
    assert_non_null(strstr(error, "in use"));
    assert_false(net_listen_tcp(f.net, "127.0.0.1", "no-port", &HANDLER, &f, error, sizeof(error)));
    assert_non_null(strstr(error, "no-port"));
    close(fd);
    UNTIL(&f, f.closed == 1);
    assert_int_equal(f.reason, NET_CLOSE_PEER);
    assert_int_equal(net_connections(f.net), 0);
    stop(&f);
}

static void unix_sockets(void **state)
{
    struct front f;
    char dir[] = "/tmp/net_test.XXXXXX", path[64], error[256] = "", longer[256];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/s", dir);
    start(&f);
    assert_true(net_listen_unix(f.net, path, 0600, &HANDLER, &f, error, sizeof(error)));
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    net_each_listener(f.net, &HANDLER, note_listener, NULL);
    assert_non_null(strstr(text_found, path));
    assert_false(net_listen_unix(f.net, path, 0600, &HANDLER, &f, error, sizeof(error)));
    assert_non_null(strstr(error, "another process"));
    UNTIL(&f, f.closed == 1); /* its question whether anybody answers */
    f.opened = f.closed = 0;
    memset(longer, 'x', sizeof(longer));
    longer[sizeof(longer) - 1] = 0;
    assert_false(net_listen_unix(f.net, longer, 0600, &HANDLER, &f, error, sizeof(error)));

    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    put_frame(fd, "x", 1);
    UNTIL(&f, f.peers[0] && f.peers[0]->frames == 1);
    close(fd);
    net_close_listeners(f.net);
    assert_int_not_equal(stat(path, &st), 0);

    fd = socket(AF_UNIX, SOCK_STREAM, 0); /* left over by a process that died */
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    close(fd);
    assert_true(net_listen_unix(f.net, path, 0660, &HANDLER, &f, error, sizeof(error)));
    net_close_listeners(f.net);
    assert_true((fd = open(path, O_CREAT | O_WRONLY, 0600)) >= 0);
    close(fd);
    assert_false(net_listen_unix(f.net, path, 0660, &HANDLER, &f, error, sizeof(error)));
    assert_non_null(strstr(error, "no socket"));
    unlink(path);
    rmdir(dir);
    stop(&f);
}

static void one_too_many_is_told(void **state)
{
    struct front f;
    char error[256], got[8];
    int fds[9];
    start(&f);
    assert_true(net_listen_tcp(f.net, "127.0.0.1", "0", &HANDLER, &f, error, sizeof(error)));
    net_each_listener(f.net, &HANDLER, note_listener, NULL);
    for (int i = 0; i < 9; i++)
        fds[i] = dial(port_found);
    UNTIL(&f, f.opened == 8);
    settle(&f);
    assert_int_equal(f.opened, 8);
    assert_int_equal(recv(fds[8], got, sizeof(got), 0), 4);
    assert_memory_equal(got, "full", 4);
    assert_int_equal(recv(fds[8], got, sizeof(got), 0), 0);
    for (int i = 0; i < 9; i++)
        close(fds[i]);
    UNTIL(&f, f.closed == 8);
    stop(&f);
}

static void a_front_with_a_limit_of_its_own(void **state)
{
    struct front f;
    char error[256], got[8];
    int fds[3];
    start(&f);
    f.most = 2;
    assert_true(net_listen_tcp(f.net, "127.0.0.1", "0", &HANDLER, &f, error, sizeof(error)));
    net_each_listener(f.net, &HANDLER, note_listener, NULL);
    for (int i = 0; i < 3; i++)
        fds[i] = dial(port_found);
    UNTIL(&f, f.opened == 2);
    settle(&f);
    assert_int_equal(f.opened, 2);
    assert_int_equal(recv(fds[2], got, sizeof(got), 0), 4);
    assert_memory_equal(got, "full", 4);
    for (int i = 0; i < 3; i++)
        close(fds[i]);
    UNTIL(&f, f.closed == 2);
    fds[0] = dial(port_found); /* there is room again */
    UNTIL(&f, f.opened == 3);
    close(fds[0]);
    UNTIL(&f, f.closed == 3);
    stop(&f);
}

static void no_descriptors_left(void **state)
{
    struct front f;
    char error[256], got[8];
    struct rlimit old, none;
    start(&f);
    assert_true(net_listen_tcp(f.net, "127.0.0.1", "0", &HANDLER, &f, error, sizeof(error)));
    net_each_listener(f.net, &HANDLER, note_listener, NULL);
    int fd = dial(port_found), next = dup(fd);
    close(next);
    getrlimit(RLIMIT_NOFILE, &old);
    none = old;
    none.rlim_cur = (rlim_t)next;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    net_turn(f.net, true); /* one is refused; then the listener rests instead of spinning */
    const struct net_listener *l = TAILQ_FIRST(&f.net->listeners);
    assert_true(heap_has(&l->retry.node));
    assert_false(ev_is_active(&l->io));
    settle(&f);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_int_equal(f.opened, 0);
    assert_int_equal(recv(fd, got, sizeof(got), 0), 4);
    close(fd);
    fd = dial(port_found);
    UNTIL(&f, f.opened == 1); /* the listener comes back by itself */
    close(fd);
    UNTIL(&f, f.closed == 1);
    stop(&f);
}

/* ---- input ---------------------------------------------------------------------------------------------------------- */

static void frames_in_any_pieces(void **state)
{
    struct front f;
    uint8_t bytes[3000];
    size_t len = 0;
    start(&f);
    for (uint32_t n = 0; n < 60; n += 7) {
        memcpy(bytes + len, &n, 4);
        memset(bytes + len + 4, (int)n, n);
        len += 4 + n;
    }
    int fd = pair(&f);
    for (size_t piece = 1; piece < 70; piece += 3) {
        unsigned before = f.peers[0]->frames;
        for (size_t at = 0; at < len; at += piece) {
            put(fd, bytes + at, at + piece < len ? piece : len - at);
            net_turn(f.net, true);
        }
        UNTIL(&f, f.peers[0]->frames == before + 9);
        assert_int_equal(f.peers[0]->last_first, 56);
        assert_int_equal(f.peers[0]->c->in.cap, 0); /* nothing kept between frames */
    }
    close(fd);
    UNTIL(&f, f.closed == 1);
    stop(&f);
}

static void *send_large(void *arg)
{
    int fd = *(int *)arg;
    uint32_t n = 300000; /* much larger than the read buffer */
    uint8_t *bytes = malloc(n);
    for (int i = 0; i < 20; i++) {
        memset(bytes, i, n);
        put_frame(fd, bytes, n);
        put_frame(fd, "s", 1);
    }
    free(bytes);
    return NULL;
}

static void frames_larger_than_the_read_buffer(void **state)
{
    struct front f;
    pthread_t thread;
    start(&f);
    int fd = pair(&f);
    pthread_create(&thread, NULL, send_large, &fd);
    UNTIL(&f, f.peers[0]->frames == 40);
    pthread_join(thread, NULL);
    assert_int_equal(f.peers[0]->bytes, 20 * 300000 + 20);
    assert_int_equal(f.net->input_used, 0);
    close(fd);
    UNTIL(&f, f.closed == 1);
    stop(&f);
}

static void memory_for_frames_is_shared_out(void **state)
{
    struct front f;
    uint32_t n = 700000;
    uint8_t *bytes = calloc(1, n);
    start(&f); /* 1 MiB for all */
    int a = pair(&f), b = pair(&f), d = pair(&f);
    put(a, &n, 4);
    put(a, bytes, 10000);
    settle(&f);
    size_t one = f.net->input_used;
    assert_true(one >= n && one < n + 5000);
    put(b, &n, 4);
    put(b, bytes, 10000);
    settle(&f); /* there was room left when it began: one may go over */
    assert_true(f.net->input_used < 2 * one + 5000);
    put(d, &n, 4);
    put(d, bytes, 50000);
    settle(&f); /* the third has to wait, with what fits below the count */
    assert_true(f.net->input_used < 2 * one + 5000);
    assert_true(f.peers[2]->c->is_starved);
    assert_true(f.peers[2]->c->in.cap <= 2 * NET_UNCOUNTED_INPUT);
    put_frame(d, "", 0);
    for (uint32_t sent = 10000; sent < n;) {
        uint32_t part = n - sent < 50000 ? n - sent : 50000;
        put(a, bytes, part);
        sent += part;
        settle(&f);
    }
    assert_int_equal(f.peers[0]->frames, 1);
    assert_false(f.peers[2]->c->is_starved); /* its turn came */
    close(a);
    close(b);
    for (uint32_t sent = 50004; sent < n;) { /* 4: the empty frame sent above became part of this one */
        uint32_t part = n - sent < 50000 ? n - sent : 50000;
        put(d, bytes, part);
        sent += part;
        settle(&f);
    }
    assert_int_equal(f.peers[2]->frames, 1);
    assert_int_equal(f.net->input_used, 0);
    close(d);
    UNTIL(&f, f.closed == 3);
    free(bytes);
    stop(&f);
}

/* ---- output --------------------------------------------------------------------------------------------------------- */

static uint8_t lent[1 << 16];

/* An answer of own bytes, borrowed neighbours, and own bytes again. */
static void lend(struct peer *p, uint8_t *bytes, size_t len)
{
    net_conn_write(p->c, "<", 1);
    net_conn_write(p->c, "<", 1);
    net_conn_write_borrowed(p->c, lent, 100);
    net_conn_write_borrowed(p->c, lent + 100, 100);
    net_conn_write_borrowed(p->c, lent + 300, 10);
    net_conn_write(p->c, ">", 1);
}

static void own_and_borrowed_bytes_keep_their_order(void **state)
{
    struct front f;
    uint8_t got[256];
    start(&f);
    for (size_t i = 0; i < sizeof(lent); i++)
        lent[i] = (uint8_t)(i * 7);
    f.frame = lend;
    int fd = pair(&f);
    put_frame(fd, "x", 1);
    UNTIL(&f, f.peers[0]->frames == 1);
    assert_int_equal(f.peers[0]->c->turn->count, 4); /* "<<", 200 bytes, 10 bytes, ">" */
    net_turn(f.net, false);
    assert_null(f.peers[0]->c->turn);
    assert_int_equal(recv(fd, got, sizeof(got), 0), 213);
    assert_memory_equal(got, "<<", 2);
    assert_memory_equal(got + 2, lent, 200);
    assert_memory_equal(got + 202, lent + 300, 10);
    assert_int_equal(got[212], '>');
    close(fd);
    UNTIL(&f, f.closed == 1);
    stop(&f);
}

static void fill(struct peer *p, uint8_t *bytes, size_t len)
{
    while (!net_conn_is_full(p->c))
        net_conn_write_borrowed(p->c, lent, sizeof(lent));
}

static size_t drain(struct front *f, int fd, size_t most)
{
    static uint8_t got[1 << 16];
    size_t total = 0;
    while (total < most) {
        ssize_t n = recv(fd, got, sizeof(got), MSG_DONTWAIT);
        if (n > 0) {
            for (ssize_t i = 0; i < n; i++)
                assert_int_equal(got[i], lent[(total + (size_t)i) % sizeof(lent)]);
            total += (size_t)n;
            continue;
        }
        assert_int_equal(errno, EAGAIN);
        settle(f);
    }
    return total;
}

static void a_slow_reader_is_told_of_and_bounded(void **state)
{
    struct front f;
    start(&f);
    f.full = 1 << 20;
    for (size_t i = 0; i < sizeof(lent); i++)
        lent[i] = (uint8_t)(i ^ (i >> 8));
    f.frame = fill;
    int fd = pair(&f);
    put_frame(fd, "x", 1);
    UNTIL(&f, f.peers[0]->frames == 1);
    size_t total = net_conn_unsent(f.peers[0]->c);
    assert_true(total > f.full && total <= f.full + sizeof(lent));
    settle(&f);
    assert_int_equal(f.peers[0]->drained, 0);
    uint8_t borrowed[64]; /* what was borrowed is not looked at after the turn */
    memcpy(borrowed, lent, sizeof(borrowed));
    memset(lent, 0xee, sizeof(borrowed));
    settle(&f);
    net_conn_write(f.peers[0]->c, "", 0);
    settle(&f);
    memcpy(lent, borrowed, sizeof(borrowed));
    drain(&f, fd, total);
    settle(&f);
    assert_int_equal(f.peers[0]->drained, 1);
    assert_int_equal(f.net->output_used, 0);
    assert_int_equal(f.peers[0]->c->out.cap, 0);
    assert_int_equal(net_conn_sent(f.peers[0]->c), total);
    close(fd);
    UNTIL(&f, f.closed == 1);
    stop(&f);
}

static void answer_big(struct peer *p, uint8_t *bytes, size_t len)
{
    net_conn_write_borrowed(p->c, lent, sizeof(lent));
}

static void requests_without_reading_answers(void **state)
{
    struct front f;
    uint8_t requests[2000 * 4] = {0}; /* 2000 empty frames: 128 MiB of answers */
    start(&f);
    f.full = 1 << 20;
    f.frame = answer_big;
    for (size_t i = 0; i < sizeof(lent); i++)
        lent[i] = (uint8_t)(i * 3);
    int fd = pair(&f);
    put(fd, requests, sizeof(requests));
    settle(&f);
    struct peer *p = f.peers[0];
    assert_true(p->frames < 100);
    assert_true(p->largest_unsent <= 2 * f.full + sizeof(lent));
    drain(&f, fd, 2000 * sizeof(lent));
    assert_int_equal(p->frames, 2000);
    assert_true(p->largest_unsent <= 2 * f.full + sizeof(lent));
    close(fd);
    UNTIL(&f, f.closed == 1);
    stop(&f);
}

static void overflow(struct peer *p, uint8_t *bytes, size_t len)
{
    for (int i = 0; i < 200; i++)
        net_conn_write_borrowed(p->c, lent, sizeof(lent));
}

static void output_over_the_ceiling_closes(void **state)
{
    struct front f;
    start(&f);
    f.full = 1 << 16;
    f.frame = overflow;
    int fd = pair(&f);
    put_frame(fd, "x", 1);
    UNTIL(&f, f.closed == 1);
    assert_int_equal(f.reason, NET_CLOSE_OVERFLOW);
    assert_int_equal(f.net->output_used, 0);
    close(fd);
    stop(&f);
}

/* ---- the end -------------------------------------------------------------------------------------------------------- */

static void say_bye(struct peer *p, uint8_t *bytes, size_t len)
{
    net_conn_write(p->c, "bye", 3);
    net_conn_finish(p->c);
    assert_false(net_conn_write(p->c, "more", 4));
}

static void last_words_arrive(void **state)
{
    struct front f;
    char error[256], got[8];
    start(&f);
    f.frame = say_bye;
    assert_true(net_listen_tcp(f.net, "127.0.0.1", "0", &HANDLER, &f, error, sizeof(error)));
    net_each_listener(f.net, &HANDLER, note_listener, NULL);
    int fd = dial(port_found);
    put_frame(fd, "x", 1);
    put_frame(fd, "unread", 6);
    UNTIL(&f, f.opened == 1);
    settle(&f);
    put_frame(fd, "later", 5); /* a close with unread input would reset the connection and eat the last words */
    settle(&f);
    assert_int_equal(recv(fd, got, sizeof(got), 0), 3);
    assert_memory_equal(got, "bye", 3);
    assert_int_equal(recv(fd, got, sizeof(got), 0), 0);
    assert_int_equal(f.closed, 0);
    close(fd);
    UNTIL(&f, f.closed == 1);
    assert_int_equal(f.reason, NET_CLOSE_FINISHED);
    stop(&f);
}

static void who_does_not_fetch_them_is_cut(void **state)
{
    struct front f;
    start(&f);
    f.net->options.linger_ms = 30;
    f.frame = say_bye;
    int fd = pair(&f);
    put_frame(fd, "x", 1);
    UNTIL(&f, f.closed == 1); /* although the other side never closes */
    assert_int_equal(f.reason, NET_CLOSE_FINISHED);
    close(fd);
    stop(&f);
}

static void abort_in_the_midst(struct peer *p, uint8_t *bytes, size_t len)
{
    net_conn_write(p->c, "x", 1);
    net_conn_abort(p->c);
    assert_int_equal(p->front->closed, 0); /* not from inside a call of the handler's */
}

static void abort_closes_at_once(void **state)
{
    struct front f;
    char got[4];
    start(&f);
    f.frame = abort_in_the_midst;
    int fd = pair(&f);
    put_frame(fd, "x", 1);
    UNTIL(&f, f.closed == 1);
    assert_int_equal(f.reason, NET_CLOSE_ABORTED);
    assert_int_equal(recv(fd, got, sizeof(got), 0), 0);
    close(fd);
    pair(&f); /* and net_free closes what is open */
    stop(&f);
}

/* ---- timers, wakes, signals, turns ---------------------------------------------------------------------------------- */

static unsigned fired[8], fired_count;
static struct net_timer timers[3];
static struct front *timer_front;

static void fire(void *arg, struct now now)
{
    fired[fired_count++] = (unsigned)(uintptr_t)arg;
    if (fired_count == 1) /* again: not in the same turn */
        net_timer_set(timer_front->net, &timers[1], now.mono);
}

static void timers_in_order(void **state)
{
    struct front f;
    start(&f);
    timer_front = &f;
    fired_count = 0;
    for (uintptr_t i = 0; i < 3; i++)
        net_timer_init(&timers[i], fire, (void *)i);
    uint64_t t = net_now(f.net).mono.ms;
    assert_true(net_timer_set(f.net, &timers[0], (monotime){t + 30}));
    assert_true(net_timer_set(f.net, &timers[1], (monotime){t + 10}));
    assert_true(net_timer_set(f.net, &timers[2], (monotime){t + 20}));
    assert_true(net_timer_set(f.net, &timers[2], MONOTIME_NEVER));
    UNTIL(&f, fired_count == 3);
    assert_true(net_now(f.net).mono.ms >= t + 30);
    assert_int_equal(fired[0], 1);
    assert_int_equal(fired[1], 1);
    assert_int_equal(fired[2], 0);
    stop(&f);
}

static void deadlines_of_a_connection(void **state)
{
    struct front f;
    start(&f);
    int fd = pair(&f);
    assert_true(net_conn_set_deadline(f.peers[0]->c, net_now(f.net).mono));
    UNTIL(&f, f.deadlines == 3);
    settle(&f);
    assert_int_equal(f.deadlines, 3);
    close(fd);
    UNTIL(&f, f.closed == 1);
    stop(&f);
}

static unsigned woken, works, ends;
static void woke(void *arg, struct now now)
{
    woken++;
}
static void *wake_often(void *arg)
{
    for (int i = 0; i < 1000; i++)
        net_wake_send(arg);
    return NULL;
}
static void got_signal(void *arg, int signo)
{
    *(int *)arg = signo;
}
static void turn_work(void *arg)
{
    assert_int_equal(works, ends);
    works++;
}
static void turn_end(void *arg)
{
    ends++;
    assert_int_equal(works, ends);
    if (ends == 1000)
        net_stop(arg);
}

static void wakes_signals_and_turns(void **state)
{
    struct front f;
    pthread_t thread;
    int signo = 0;
    start(&f);
    struct net_wake *w = net_wake_new(f.net, woke, NULL);
    assert_non_null(w);
    pthread_create(&thread, NULL, wake_often, w);
    UNTIL(&f, woken > 0);
    pthread_join(thread, NULL);
    assert_true(net_on_signal(f.net, SIGUSR1, got_signal, &signo));
    raise(SIGUSR1);
    UNTIL(&f, signo == SIGUSR1);
    static const struct net_turn_ops ops = {turn_work, turn_end};
    net_set_turn(f.net, &ops, f.net);
    ends = works = 990;
    for (int i = 0; i < 20; i++)
        net_wake_send(w);
    while (ends < 999) {
        net_wake_send(w);
        net_turn(f.net, true);
    }
    net_wake_send(w);
    net_run(f.net);
    assert_true(ends >= 1000);
    net_set_turn(f.net, NULL, NULL);
    net_wake_free(w);
    stop(&f);
}

/* ---- memory runs out ------------------------------------------------------------------------------------------------ */

/* The linker leads this program's allocations here (see CMakeLists.txt): the n-th from now on fails, once. */
static long fail_at = -1;
static bool fails(void)
{
    return fail_at >= 0 && fail_at-- == 0;
}

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n)
{
    return fails() ? NULL : __real_malloc(n);
}
void *__wrap_calloc(size_t n, size_t size)
{
    return fails() ? NULL : __real_calloc(n, size);
}
void *__wrap_realloc(void *p, size_t n)
{
    return fails() ? NULL : __real_realloc(p, n);
}

static void put_if_open(int fd, const void *bytes, size_t n)
{
    send(fd, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* A bit of everything; true if no allocation is left that could have failed. */
static bool a_bit_of_everything(struct front *f, long n)
{
    static uint8_t big[40000];
    int fds[2];
    uint32_t len = sizeof(big);
    fail_at = n;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    net_adopt(f->net, fds[0], &HANDLER, f);
    put_if_open(fds[1], "\5\0\0\0he", 6); /* an incomplete frame, then the rest of it */
    settle(f);
    put_if_open(fds[1], "llo", 3);
    settle(f);
    put_if_open(fds[1], &len, sizeof(len)); /* one larger than the read buffer */
    put_if_open(fds[1], big, 20000);
    settle(f);
    put_if_open(fds[1], big, 20000);
    settle(f); /* and its answers, which nobody reads */
    bool all = fail_at >= 0;
    fail_at = -1;
    close(fds[1]);
    UNTIL(f, f->opened == f->closed && net_connections(f->net) == 0);
    return all;
}

static void answer_much(struct peer *p, uint8_t *bytes, size_t len)
{
    for (int i = 0; i < 40; i++) {
        net_conn_write(p->c, "<", 1);
        net_conn_write_borrowed(p->c, lent, 20000);
    }
}

static void each_allocation_fails_once(void **state)
{
    struct front f;
    long n = 0;
    start(&f);
    f.frame = answer_much;
    while (!a_bit_of_everything(&f, n))
        n++;
    assert_true(n > 5);
    assert_int_equal(f.net->input_used, 0);
    assert_int_equal(f.net->output_used, 0);
    stop(&f);
}

static void an_idle_connection_is_small(void **state)
{
    assert_true(sizeof(struct net_conn) <= 512);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tcp_echo_on_a_free_port),
        cmocka_unit_test(unix_sockets),
        cmocka_unit_test(one_too_many_is_told),
        cmocka_unit_test(a_front_with_a_limit_of_its_own),
        cmocka_unit_test(no_descriptors_left),
        cmocka_unit_test(frames_in_any_pieces),
        cmocka_unit_test(frames_larger_than_the_read_buffer),
        cmocka_unit_test(memory_for_frames_is_shared_out),
        cmocka_unit_test(own_and_borrowed_bytes_keep_their_order),
        cmocka_unit_test(a_slow_reader_is_told_of_and_bounded),
        cmocka_unit_test(requests_without_reading_answers),
        cmocka_unit_test(output_over_the_ceiling_closes),
        cmocka_unit_test(last_words_arrive),
        cmocka_unit_test(who_does_not_fetch_them_is_cut),
        cmocka_unit_test(abort_closes_at_once),
        cmocka_unit_test(timers_in_order),
        cmocka_unit_test(deadlines_of_a_connection),
        cmocka_unit_test(wakes_signals_and_turns),
        cmocka_unit_test(each_allocation_fails_once),
        cmocka_unit_test(an_idle_connection_is_small),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
