#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "net_internal.h"

struct now net_now(const struct net *net)
{
    return net->now;
}

uint64_t net_turn_number(const struct net *net)
{
    return net->turn_number;
}

uint32_t net_connections(const struct net *net)
{
    return net->conn_count;
}

/* ---- timers --------------------------------------------------------------------------------------------------------- */

void net_timer_init(struct net_timer *t, void (*fn)(void *arg, struct now now), void *arg)
{
    *t = (struct net_timer){.fn = fn, .arg = arg};
}

bool net_timer_set(struct net *net, struct net_timer *t, monotime at)
{
    if (at.ms == UINT64_MAX) {
        heap_remove(&net->timers, &t->node);
        return true;
    }
    return heap_set(&net->timers, &t->node, at.ms);
}

/* One round over what is due: a timer that sets itself to "now" again waits for the next turn. */
static void timers_run(struct net *net)
{
    size_t most = net->timers.len;
    for (struct heap_node *n; most > 0 && (n = heap_min(&net->timers)) && n->key <= net->now.mono.ms; most--) {
        struct net_timer *t = container_of(n, struct net_timer, node);
        heap_remove(&net->timers, n);
        t->fn(t->arg, net->now);
        net_dont_sleep(net); /* a turn in which a timer ran ends: whoever turns the loop by hand looks at what it did */
    }
}

static void timer_event(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct net *net = w->data;
    net->timer_armed = UINT64_MAX; /* it only wakes the loop */
}

/* libev's timer runs for the earliest of ours. Where it fires a little early, by its coarser clock, it is armed again. */
static void timer_arm(struct net *net)
{
    struct heap_node *n = heap_min(&net->timers);
    uint64_t key = n ? n->key : UINT64_MAX;
    if (key == net->timer_armed)
        return;
    ev_timer_stop(net->loop, &net->timer);
    net->timer_armed = key;
    if (key == UINT64_MAX)
        return;
    uint64_t wait_ms = key > net->now.mono.ms ? key - net->now.mono.ms : 0;
    if (wait_ms > 3600000)
        wait_ms = 3600000; /* armed again then */
    ev_now_update(net->loop);
    ev_timer_set(&net->timer, (double)wait_ms / 1000.0, 0.);
    ev_timer_start(net->loop, &net->timer);
}

/* ---- wakes and signals ---------------------------------------------------------------------------------------------- */

struct net_wake {
    ev_async async;
    struct net *net;
    void (*fn)(void *arg, struct now now);
    void *arg;
};

static void wake_event(struct ev_loop *loop, ev_async *w, int revents)
{
    struct net_wake *wake = w->data;
    wake->fn(wake->arg, wake->net->now);
}

struct net_wake *net_wake_new(struct net *net, void (*fn)(void *arg, struct now now), void *arg)
{
    struct net_wake *w = calloc(1, sizeof(*w));
    if (!w)
        return NULL;
    *w = (struct net_wake){.net = net, .fn = fn, .arg = arg};
    ev_async_init(&w->async, wake_event);
    w->async.data = w;
    ev_async_start(net->loop, &w->async);
    return w;
}

void net_wake_send(struct net_wake *w)
{
    ev_async_send(w->net->loop, &w->async);
}

void net_wake_free(struct net_wake *w)
{
    if (!w)
        return;
    ev_async_stop(w->net->loop, &w->async);
    free(w);
}

struct net_watch {
    ev_io io;
    struct net *net;
    void (*fn)(void *arg, struct now now);
    void *arg;
};

static void watch_event(struct ev_loop *loop, ev_io *io, int revents)
{
    struct net_watch *w = io->data;
    w->fn(w->arg, w->net->now);
}

struct net_watch *net_watch_new(struct net *net, int fd, void (*fn)(void *arg, struct now now), void *arg)
{
    struct net_watch *w = calloc(1, sizeof(*w));
    if (!w)
        return NULL;
    *w = (struct net_watch){.net = net, .fn = fn, .arg = arg};
    ev_io_init(&w->io, watch_event, fd, EV_READ);
    w->io.data = w;
    ev_io_start(net->loop, &w->io);
    return w;
}

void net_watch_free(struct net_watch *w)
{
    if (!w)
        return;
    ev_io_stop(w->net->loop, &w->io);
    free(w);
}

static void signal_event(struct ev_loop *loop, ev_signal *w, int revents)
{
    struct signal_watch *watch = w->data;
    watch->fn(watch->arg, w->signum);
}

bool net_on_signal(struct net *net, int signo, void (*fn)(void *arg, int signo), void *arg)
{
    if (net->signal_count == NET_SIGNALS_MAX)
        return false;
    struct signal_watch *watch = &net->signals[net->signal_count++];
    watch->fn = fn;
    watch->arg = arg;
    ev_signal_init(&watch->signal, signal_event, signo);
    watch->signal.data = watch;
    ev_signal_start(net->loop, &watch->signal);
    return true;
}

/* ---- the turn ------------------------------------------------------------------------------------------------------- */

static void idle_event(struct ev_loop *loop, ev_idle *w, int revents)
{
    ev_idle_stop(loop, w);
}

void net_dont_sleep(struct net *net)
{
    ev_idle_start(net->loop, &net->idle);
}

static void check_event(struct ev_loop *loop, ev_check *w, int revents)
{
    struct net *net = w->data;
    net->now = clock_now();
}

/* Before the loop sleeps. Timers come after what was read: after a stall (a stopped process, a paused machine) what peers said
   in the meantime is heard before their deadlines are looked at. What may lead to new work (closed, drained) comes before the work; after the output was sent
   nothing may touch borrowed memory again, so what sending brought to light waits for the next turn. */
static void prepare_event(struct ev_loop *loop, ev_prepare *w, int revents)
{
    struct net *net = w->data;
    net->now = clock_now();
    timers_run(net);
    conn_reap(net);
    output_tell_drained(net);
    if (net->turn_ops && net->turn_ops->work)
        net->turn_ops->work(net->turn_arg);
    output_flush(net);
    net->turn_number++;
    if (net->turn_ops && net->turn_ops->end)
        net->turn_ops->end(net->turn_arg);
    conn_feed_starved(net);
    if (!TAILQ_EMPTY(&net->closed) || !TAILQ_EMPTY(&net->drained) || !TAILQ_EMPTY(&net->dirty))
        net_dont_sleep(net);
    timer_arm(net);
}

void net_set_turn(struct net *net, const struct net_turn_ops *ops, void *arg)
{
    net->turn_ops = ops;
    net->turn_arg = arg;
}

void net_turn(struct net *net, bool wait)
{
    ev_run(net->loop, wait ? EVRUN_ONCE : EVRUN_NOWAIT);
}

void net_run(struct net *net)
{
    while (!net->stopping)
        ev_run(net->loop, EVRUN_ONCE);
}

void net_stop(struct net *net)
{
    net->stopping = true;
    net_dont_sleep(net);
}

struct net *net_new(const struct net_options *options)
{
    struct net *net = calloc(1, sizeof(*net));
    if (!net)
        return NULL;
    net->options = *options;
    net->timer_armed = UINT64_MAX;
    net->read_buffer = malloc(options->read_buffer_bytes);
    net->loop = ev_loop_new(EVFLAG_AUTO | EVFLAG_NOENV);
    net->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (!net->read_buffer || !net->loop || net->reserve_fd < 0) {
        int saved = errno;
        if (net->reserve_fd >= 0)
            close(net->reserve_fd);
        if (net->loop)
            ev_loop_destroy(net->loop);
        free(net->read_buffer);
        free(net);
        errno = saved;
        return NULL;
    }
    heap_init(&net->timers);
    TAILQ_INIT(&net->conns);
    TAILQ_INIT(&net->dirty);
    TAILQ_INIT(&net->starved);
    TAILQ_INIT(&net->closed);
    TAILQ_INIT(&net->drained);
    TAILQ_INIT(&net->paused);
    net_timer_init(&net->paused_look, conn_look_at_paused, net);
    TAILQ_INIT(&net->listeners);
    signal(SIGPIPE, SIG_IGN);
    net->now = clock_now();
    ev_prepare_init(&net->prepare, prepare_event);
    ev_check_init(&net->check, check_event);
    ev_set_priority(&net->check, EV_MAXPRI); /* the clock is read before any other event is looked at */
    ev_timer_init(&net->timer, timer_event, 0., 0.);
    ev_idle_init(&net->idle, idle_event);
    net->prepare.data = net->check.data = net->timer.data = net->idle.data = net;
    ev_prepare_start(net->loop, &net->prepare);
    ev_check_start(net->loop, &net->check);
    return net;
}

void net_free(struct net *net)
{
    if (!net)
        return;
    net_close_listeners(net);
    struct net_conn *c, *next;
    for (c = TAILQ_FIRST(&net->conns); c; c = next) {
        next = TAILQ_NEXT(c, all);
        net_conn_abort(c);
    }
    conn_reap(net);
    output_free_pool(net);
    for (unsigned i = 0; i < net->signal_count; i++)
        ev_signal_stop(net->loop, &net->signals[i].signal);
    heap_release(&net->timers);
    ev_loop_destroy(net->loop);
    close(net->reserve_fd);
    free(net->read_buffer);
    free(net);
}
