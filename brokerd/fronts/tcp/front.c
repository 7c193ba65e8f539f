/* The front's life and its connections': numbers, deadlines, the end. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "front_internal.h"
#include "log.h"

/* ---- the end of a connection ---------------------------------------------------------------------------------------- */

void conn_submit(struct conn *c, struct command *command)
{
    client_submit(c->front->clients, &c->client, net_now(c->front->net), command);
}

/* Nothing more is read or answered; what was leased to its subscriptions goes back now, not when the socket closes. */
static void conn_over(struct conn *c)
{
    if (c->phase == PHASE_OVER)
        return;
    c->phase = PHASE_OVER;
    backup_forget(c);
    client_close(c->front->clients, &c->client, net_now(c->front->net));
}

void conn_fail(struct conn *c, uint32_t correlation, broker_error code, const char *format, ...)
{
    char text[256], peer[80];
    va_list args;
    if (c->phase == PHASE_OVER)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    net_conn_peer(c->net, peer, sizeof(peer));
    log_info("closing the connection of %s: %s", peer, text);
    answer_error(c, correlation, 0, code, text, "connection", 0);
    conn_over(c);
    net_conn_finish(c->net);
}

static void conn_closed(void *conn, enum net_close_reason reason)
{
    static const char *const why[] = {
        [NET_CLOSE_OVERFLOW] = "it takes too little of what it asked for",
        [NET_CLOSE_MEMORY] = "no memory for it",
    };
    struct conn *c = conn;
    struct front_tcp *f = c->front;
    if (reason == NET_CLOSE_OVERFLOW || reason == NET_CLOSE_MEMORY)
        log_warning("a connection was closed: %s", why[reason]);
    conn_over(c);
    TAILQ_REMOVE(&f->conns, c, all);
    f->count--;
    free(c);
}

/* ---- deadlines ------------------------------------------------------------------------------------------------------ */

/* Deadlines are looked at lazily: most only ever move on, so nothing is re-armed per frame. Something that begins between
   two looks (an incomplete frame) arms an earlier one if need be. */
void conn_arm(struct conn *c, uint64_t at_ms)
{
    if (at_ms >= c->armed_ms)
        return;
    c->armed_ms = at_ms;
    net_conn_set_deadline(c->net, (monotime){at_ms});
}

static void earlier(uint64_t *at, uint64_t other)
{
    if (other < *at)
        *at = other;
}

/* Is output waiting, and for how long has none of it been taken? */
static bool check_stall(struct conn *c, uint64_t now_ms)
{
    uint64_t sent = net_conn_sent(c->net);
    if (net_conn_unsent(c->net) == 0) {
        c->stalled_since_ms = 0;
    } else if (!c->stalled_since_ms || sent != c->sent_seen) {
        c->stalled_since_ms = now_ms;
    } else if (now_ms - c->stalled_since_ms >= c->front->options.stall_ms) {
        char peer[80];
        net_conn_peer(c->net, peer, sizeof(peer));
        log_info("closing the connection of %s: it took nothing of %zu bytes for %u ms", peer, net_conn_unsent(c->net),
                 c->front->options.stall_ms);
        conn_over(c);
        net_conn_abort(c->net);
        return false;
    }
    c->sent_seen = sent;
    return true;
}

static monotime conn_deadline(void *conn, struct now now)
{
    struct conn *c = conn;
    const struct front_tcp_options *o = &c->front->options;
    uint64_t ms = now.mono.ms, next = ms + o->stall_ms; /* so that a stall is seen even without heartbeats */
    if (c->phase < PHASE_OPEN) {
        if (ms - c->opened_ms >= o->hello_ms) {
            conn_fail(c, 0, BROKER_TIMEOUT, "no HELLO within %u ms", o->hello_ms);
            return MONOTIME_NEVER;
        }
        earlier(&next, c->opened_ms + o->hello_ms);
    }
    if (c->partial_since_ms) {
        if (ms - c->partial_since_ms >= o->frame_ms) {
            conn_fail(c, 0, BROKER_TIMEOUT, "a frame was not complete within %u ms", o->frame_ms);
            return MONOTIME_NEVER;
        }
        earlier(&next, c->partial_since_ms + o->frame_ms);
    }
    if (!check_stall(c, ms))
        return MONOTIME_NEVER;
    if (c->stalled_since_ms)
        earlier(&next, c->stalled_since_ms + o->stall_ms);
    if (c->phase == PHASE_OPEN && c->heartbeat_ms) {
        uint64_t silence_ms = 3ull * c->heartbeat_ms, heard_ms = net_conn_heard(c->net).ms;
        /* A connection that we do not read cannot be heard: its output, or its frame, has a deadline of its own. */
        bool silent = !net_conn_is_unread(c->net) && ms - heard_ms >= silence_ms;
        /* Two looks, half a heartbeat apart: the first may follow a stall of our own, with its bytes still unread. */
        if (silent && c->doubted_ms == heard_ms) {
            conn_fail(c, 0, BROKER_TIMEOUT, "nothing was heard for %llu ms", (unsigned long long)silence_ms);
            return MONOTIME_NEVER;
        }
        c->doubted_ms = silent ? heard_ms : 0;
        if (ms - c->last_out_ms >= c->heartbeat_ms && net_conn_unsent(c->net) == 0)
            send_one_way(c, FRAME_HEARTBEAT);
        earlier(&next, heard_ms + silence_ms > ms ? heard_ms + silence_ms : ms + c->heartbeat_ms / 2);
        earlier(&next, c->last_out_ms + c->heartbeat_ms > ms ? c->last_out_ms + c->heartbeat_ms : ms + c->heartbeat_ms);
    }
    c->armed_ms = next;
    return (monotime){next};
}

/* ---- connections ---------------------------------------------------------------------------------------------------- */

static void *conn_opened(void *front, struct net_conn *net)
{
    struct front_tcp *f = front;
    struct conn *c = calloc(1, sizeof(*c));
    if (!c || !client_open(f->clients, &c->client, &conn_client_ops, &identity_anyone)) {
        free(c);
        return NULL;
    }
    const struct front_tcp_options *o = &f->options;
    c->front = f;
    c->net = net;
    c->opened_ms = c->last_out_ms = net_now(f->net).mono.ms;
    TAILQ_INSERT_TAIL(&f->conns, c, all);
    f->count++;
    /* Over full_bytes at most one more batch, twice the rest of a turn, and the leases that it waits for. */
    net_conn_set_limits(net, o->output_bytes,
                        2 * o->output_bytes + (2ull + o->waiting_leases) * ((uint64_t)o->max_frame_bytes + 4096));
    c->armed_ms = c->opened_ms + o->hello_ms;
    if (!net_conn_set_deadline(net, (monotime){c->armed_ms}))
        net_conn_abort(net);
    return c;
}

static void conn_drained(void *conn)
{
    struct conn *c = conn;
    if (!c->held || c->phase != PHASE_OPEN || c->front->going_away)
        return;
    c->held = false;
    conn_submit(c, &(struct command){.type = COMMAND_UNHOLD});
}

static bool has_room(void *front)
{
    const struct front_tcp *f = front;
    return f->count < f->options.max_connections;
}

static size_t refusal(void *front, uint8_t *out, size_t max)
{
    struct front_tcp *f = front;
    char text[160];
    snprintf(text, sizeof(text),
             "the broker has %u connections, as many as tcp.max_connections or its open files allow", f->count);
    msgpack_packer *pk = body_begin(f);
    (void)pk;
    wire_error_put(&f->body, BROKER_LIMIT_REACHED, text, "connection", 1000);
    size_t len = FRAME_HEAD_BYTES + f->body.size;
    if (len > max)
        return 0;
    frame_head_put(out, &(struct frame_head){.length = (uint32_t)f->body.size, .type = FRAME_ERROR});
    memcpy(out + FRAME_HEAD_BYTES, f->body.data, f->body.size);
    return len;
}

const struct net_handler front_tcp_handler = {
    .opened = conn_opened,
    .input = conn_input,
    .drained = conn_drained,
    .deadline = conn_deadline,
    .closed = conn_closed,
    .has_room = has_room,
    .refusal = refusal,
};

/* ---- the front ------------------------------------------------------------------------------------------------------ */

struct front_tcp *front_tcp_new(const struct front_tcp_options *options, struct net *net,
                                const struct front_tcp_host *host)
{
    struct front_tcp *f = calloc(1, sizeof(*f));
    if (!f)
        return NULL;
    f->options = *options;
    f->net = net;
    f->host = *host;
    TAILQ_INIT(&f->conns);
    msgpack_sbuffer_init(&f->body);
    msgpack_packer_init(&f->packer, f, body_write);
    f->ranges = calloc(options->max_settle_ranges, sizeof(*f->ranges));
    f->parts = calloc(options->max_transact_parts, sizeof(*f->parts));
    if (!f->ranges || !f->parts) {
        front_tcp_free(f);
        return NULL;
    }
    return f;
}

void front_tcp_attach(struct front_tcp *f, struct clients *clients, struct door *door)
{
    f->clients = clients;
    f->door = door;
}

void front_tcp_free(struct front_tcp *f)
{
    if (!f)
        return;
    msgpack_sbuffer_destroy(&f->body);
    free(f->ranges);
    free(f->parts);
    free(f);
}

void conn_goaway(struct conn *c)
{
    struct front_tcp *f = c->front;
    msgpack_packer *pk = body_begin(f);
    msgpack_pack_map(pk, 2);
    pack_key_u64(pk, "code", BROKER_SHUTTING_DOWN);
    pack_key_str(pk, "text", f->goaway_text, strlen(f->goaway_text));
    body_send(c, FRAME_GOAWAY, 0, 0);
    c->held = true;
    conn_submit(c, &(struct command){.type = COMMAND_HOLD});
}

void front_tcp_goaway(struct front_tcp *f, const char *text)
{
    struct conn *c;
    f->going_away = true;
    snprintf(f->goaway_text, sizeof(f->goaway_text), "%s", text);
    TAILQ_FOREACH(c, &f->conns, all)
    if (c->phase == PHASE_OPEN)
        conn_goaway(c);
}

bool front_tcp_is_idle(const struct front_tcp *f)
{
    const struct conn *c;
    TAILQ_FOREACH(c, &f->conns, all)
    if (c->phase != PHASE_OVER &&
        (c->client.outstanding + c->backup_requests > c->client.session.waiting_leases || net_conn_unsent(c->net) > 0))
        return false;
    return true;
}

void front_tcp_finish(struct front_tcp *f)
{
    struct conn *c;
    TAILQ_FOREACH(c, &f->conns, all)
    {
        conn_over(c);
        net_conn_finish(c->net);
    }
}

uint32_t front_tcp_connections(const struct front_tcp *f)
{
    return f->count;
}
