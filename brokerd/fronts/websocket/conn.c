/* A connection's life: bytes in, frames out, pings, the closing handshake. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "websocket_internal.h"

enum {
    COMPRESS_FROM = 256,        /* bytes of a message that are worth it */
    ANSWERS_BYTES = 64 << 20,   /* of a large answer or delivery, on top of what is unsent already: see ws_begin */
    SLOW_BYTES_A_SECOND = 1024, /* of a message that has begun, at least */
};

/* ---- the way out ---------------------------------------------------------------------------------------------------- */

static bool ws_write(struct ws *c, uint8_t first, const void *bytes, size_t len)
{
    uint8_t head[FRAME_HEAD_MAX];
    size_t n = ws_head_put(head, first, len);
    uint8_t *to = net_conn_reserve(c->net, n + len);
    if (!to)
        return false;
    memcpy(to, head, n);
    if (len > 0)
        memcpy(to + n, bytes, len);
    return true;
}

void ws_drop(struct ws *c, const char *why)
{
    char peer[80];
    if (c->state == WS_OVER)
        return;
    net_conn_peer(c->net, peer, sizeof(peer));
    log_info("closing the WebSocket of %s: %s (%zu bytes are unsent)", peer, why, net_conn_unsent(c->net));
    c->state = WS_OVER;
    net_conn_abort(c->net);
}

bool ws_may_send(struct ws *c)
{
    if (c->state == WS_OPEN && net_conn_unsent(c->net) > 2 * c->front->options.output_bytes + ANSWERS_BYTES)
        ws_drop(c, "it takes too little of what it asked for");
    return c->state == WS_OPEN;
}

bool ws_frame_begin(struct websocket *w)
{
    static const uint8_t head[FRAME_HEAD_MAX];
    buf_clear(&w->answer);
    return buf_append(&w->answer, head, sizeof(head));
}

const uint8_t *ws_frame_end(struct ws *c, size_t *len)
{
    struct websocket *w = c->front;
    struct buf *b = &w->answer;
    uint8_t head[FRAME_HEAD_MAX], first = c->format->opcode;
    size_t payload = b->len - FRAME_HEAD_MAX;
    if (c->compresses && payload >= COMPRESS_FROM) {
        buf_clear(&w->packed);
        if (buf_append(&w->packed, b->bytes, FRAME_HEAD_MAX) &&
            deflater_deflate(w->frames.deflater, b->bytes + FRAME_HEAD_MAX, payload, &w->packed)) {
            b = &w->packed;
            payload = b->len - FRAME_HEAD_MAX;
            first |= FRAME_COMPRESSED;
        }
    }
    size_t n = ws_head_put(head, first, payload);
    *len = n + payload;
    return memcpy(b->bytes + FRAME_HEAD_MAX - n, head, n);
}

void ws_frame_trim(struct websocket *w)
{
    if (w->answer.cap > KEEP_BYTES)
        buf_release(&w->answer);
    if (w->packed.cap > KEEP_BYTES)
        buf_release(&w->packed);
}

/* ---- the end -------------------------------------------------------------------------------------------------------- */

/* Nothing more is read or answered. What was leased to its subscriptions goes back now, not when the socket closes. */
static void ws_let_go(struct ws *c)
{
    struct websocket *w = c->front;
    ws_subs_release(c);
    client_close(w->clients, &c->client, net_now(w->net));
    frame_state_release(&w->frames, &c->in);
}

static void send_close(struct ws *c, uint16_t code, const char *reason)
{
    uint8_t body[2 + REASON_MAX] = {(uint8_t)(code >> 8), (uint8_t)code};
    size_t len = strlen(reason);
    len = len < REASON_MAX ? len : REASON_MAX;
    memcpy(body + 2, reason, len);
    ws_write(c, OPCODE_CLOSE, body, code == CLOSE_NO_STATUS ? 0 : 2 + len);
}

static void ws_over(struct ws *c)
{
    c->state = WS_OVER;
    net_timer_set(c->front->net, &c->timer, MONOTIME_NEVER);
    net_conn_finish(c->net);
}

void ws_fail(struct ws *c, uint16_t code, const char *format, ...)
{
    char text[REASON_MAX + 1], peer[80];
    va_list args;
    if (c->state == WS_OVER)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    net_conn_peer(c->net, peer, sizeof(peer));
    log_info("closing the WebSocket of %s with %u: %s", peer, code, text);
    if (c->state == WS_OPEN)
        send_close(c, code, text);
    ws_over(c);
    ws_let_go(c);
}

void ws_close(struct ws *c, uint16_t code, const char *reason)
{
    if (c->state != WS_OPEN)
        return;
    send_close(c, code, reason);
    c->state = WS_CLOSING;
    net_conn_resume(c->net);
    uint64_t at = net_now(c->front->net).mono.ms + c->front->options.close_ms;
    if (!net_timer_set(c->front->net, &c->timer, (monotime){at}))
        ws_over(c);
    /* Not the frames' state: its close frame may begin in the midst of another frame. */
    ws_subs_release(c);
    client_close(c->front->clients, &c->client, net_now(c->front->net));
}

/* The peer's close frame. */
static void ws_closed_by_peer(struct ws *c, const struct frame_in *in)
{
    if (c->state == WS_OPEN)
        send_close(c, in->code, "");
    ws_over(c);
    ws_let_go(c);
}

/* ---- the way in ----------------------------------------------------------------------------------------------------- */

static void ws_take(struct ws *c, const struct frame_in *in)
{
    switch (in->event) {
    case EVENT_MORE:
    case EVENT_PONG: break;
    case EVENT_BROKEN: ws_fail(c, in->code, "%s", in->why); break;
    case EVENT_CLOSE: ws_closed_by_peer(c, in); break;
    case EVENT_PING:
        if (c->state == WS_OPEN)
            ws_write(c, OPCODE_PONG, in->bytes, in->len);
        break;
    case EVENT_MESSAGE:
        if (c->state != WS_OPEN)
            break;
        if (in->opcode != c->format->opcode)
            ws_fail(c, CLOSE_UNSUPPORTED, "%s messages are %s frames", c->format->protocol,
                    c->format->opcode == OPCODE_TEXT ? "text" : "binary");
        else
            ws_session_take(c, in->bytes, in->len);
        break;
    }
}

static bool has_room(struct ws *c)
{
    if (c->state == WS_CLOSING)
        return true;
    if (c->client.outstanding < OUTSTANDING_MAX)
        return !net_conn_is_choked(c->net);
    c->paused = true;
    net_conn_pause(c->net);
    return false;
}

static size_t ws_input(void *owner, uint8_t *bytes, size_t len, size_t *need)
{
    struct ws *c = owner;
    size_t used = 0;
    struct frame_in in;
    *need = 0;
    c->pinged_ms = 0;
    while (used < len && c->state != WS_OVER && has_room(c)) {
        used += frames_take(&c->front->frames, &c->in, bytes + used, len - used, &in);
        ws_take(c, &in);
    }
    return c->state == WS_OVER ? len : used;
}

/* It was told that the broker goes away, and has the answers that it waited for. */
static bool may_go(const struct ws *c)
{
    return c->state == WS_OPEN && c->going_away && c->client.outstanding <= c->waiting;
}

void ws_settled(struct ws *c)
{
    if (c->paused && c->client.outstanding <= OUTSTANDING_MAX / 2) {
        c->paused = false;
        net_conn_resume(c->net);
    }
    if (may_go(c)) /* not here: the engine is in the midst of an answer */
        net_timer_set(c->front->net, &c->timer, net_now(c->front->net).mono);
}

static void ws_drained(void *owner)
{
    struct ws *c = owner;
    if (c->state != WS_OPEN || c->going_away)
        return;
    if (c->held) {
        c->held = false;
        client_submit(c->front->clients, &c->client, net_now(c->front->net), &(struct command){.type = COMMAND_UNHOLD});
    }
    ws_positions_go_on(c);
}

/* ---- deadlines ------------------------------------------------------------------------------------------------------ */

/* Looked at once a ping's time: is what has begun to come still coming? */
static bool is_trickling(struct ws *c)
{
    uint64_t had = c->partial_seen, ping_ms = c->front->options.ping_ms;
    c->partial_seen = c->in.partial.len;
    return had > 0 && c->partial_seen >= had && c->partial_seen - had < SLOW_BYTES_A_SECOND * ping_ms / 1000;
}

static void ws_look(void *arg, struct now now)
{
    struct ws *c = arg;
    uint64_t ping_ms = c->front->options.ping_ms, heard = net_conn_heard(c->net).ms, silent = now.mono.ms - heard;
    uint64_t next = heard + ping_ms;
    if (c->state == WS_CLOSING) {
        ws_over(c); /* its close frame did not come in time */
        ws_let_go(c);
        return;
    }
    if (may_go(c)) {
        ws_close(c, CLOSE_GOING_AWAY, c->front->goaway_text);
        return;
    }
    /* One that we do not read cannot be heard: its output has a deadline of its own. */
    bool unheard = silent >= ping_ms && !net_conn_is_unread(c->net);
    if (unheard && c->pinged_ms && now.mono.ms - c->pinged_ms >= ping_ms) {
        ws_fail(c, CLOSE_POLICY, "nothing was heard for %llu ms, nor an answer to a ping", (unsigned long long)silent);
        return;
    }
    if (is_trickling(c)) {
        ws_fail(c, CLOSE_POLICY, "a message comes in at less than %d bytes a second", SLOW_BYTES_A_SECOND);
        return;
    }
    if (unheard && !c->pinged_ms) {
        ws_write(c, OPCODE_PING, NULL, 0);
        c->pinged_ms = now.mono.ms;
    }
    if (next <= now.mono.ms)
        next = now.mono.ms + ping_ms;
    if (!net_timer_set(c->front->net, &c->timer, (monotime){next}))
        net_conn_abort(c->net);
}

/* ---- connections ---------------------------------------------------------------------------------------------------- */

static const struct client_ops CLIENT_OPS = {
    .complete = ws_answer_complete, .deliver = ws_sub_deliver, .ended = ws_sub_ended};

struct ws *ws_new(struct websocket *w, const struct format *format, bool deflate, bool compresses)
{
    struct ws *c = calloc(1, sizeof(*c));
    if (!c)
        return NULL;
    c->front = w;
    c->format = format;
    c->in.deflate = deflate;
    c->compresses = compresses;
    net_timer_init(&c->timer, ws_look, c);
    if (!client_open(w->clients, &c->client, &CLIENT_OPS, NULL)) {
        free(c);
        return NULL;
    }
    LIST_INSERT_HEAD(&w->conns, c, all);
    w->count++;
    return c;
}

void ws_free(struct ws *c)
{
    struct websocket *w = c->front;
    net_timer_set(w->net, &c->timer, MONOTIME_NEVER);
    ws_let_go(c);
    LIST_REMOVE(c, all);
    w->count--;
    free(c);
}

void ws_begin(struct ws *c, struct net_conn *net)
{
    const struct websocket_options *o = &c->front->options;
    c->net = net;
    /* Beyond full there may come an answer or a delivery of each kind, and twice the rest of a turn. */
    net_conn_set_limits(net, o->output_bytes, 4 * o->output_bytes + 2ull * ANSWERS_BYTES);
    uint64_t at = net_now(c->front->net).mono.ms + o->ping_ms;
    if (!net_timer_set(c->front->net, &c->timer, (monotime){at}))
        net_conn_abort(net);
    if (c->front->goes_away)
        ws_send_goaway(c);
}

void ws_send_goaway(struct ws *c)
{
    struct websocket *w = c->front;
    struct writer out;
    if (c->state != WS_OPEN)
        return;
    ws_answer_begin(c, &out, "goaway", ID_NONE, 1);
    ws_write_key_text(&out, "text", w->goaway_text);
    ws_answer_send(c, &out);
    c->going_away = true;
    c->held = true;
    client_submit(w->clients, &c->client, net_now(w->net), &(struct command){.type = COMMAND_HOLD});
    ws_settled(c);
}

static void ws_goaway(void *owner, const char *text)
{
    struct ws *c = owner;
    c->front->goes_away = true;
    snprintf(c->front->goaway_text, sizeof(c->front->goaway_text), "%s", text);
    if (!c->going_away)
        ws_send_goaway(c);
}

static void ws_stalled(void *owner)
{
    struct ws *c = owner;
    char peer[80];
    net_conn_peer(c->net, peer, sizeof(peer));
    log_info("closing the WebSocket of %s: it takes nothing of %zu bytes that it is sent", peer,
             net_conn_unsent(c->net));
    c->state = WS_OVER;
}

static void ws_ended(void *owner, enum net_close_reason reason)
{
    if (reason == NET_CLOSE_OVERFLOW || reason == NET_CLOSE_MEMORY)
        log_warning("a WebSocket was closed: %s",
                    reason == NET_CLOSE_MEMORY ? "no memory for it" : "it takes too little of what it asked for");
    ws_free(owner);
}

const struct http_conn_ops ws_conn_ops = {
    .input = ws_input,
    .drained = ws_drained,
    .closed = ws_ended,
    .goaway = ws_goaway,
    .stalled = ws_stalled,
};
