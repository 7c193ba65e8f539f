/* The front: its life, and the route where connections begin. */
#include "websocket.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "handshake.h"
#include "websocket_internal.h"

enum { FULL_RETRY_MS = 1000, WHY_BYTES = 256, PARTIAL_MESSAGES = 4, PARTIAL_BYTES_MIN = 16 << 20 };

/* ---- the upgrade ----------------------------------------------------------------------------------------------------- */

static const struct http_field *field(struct http_field *to, const char *name, const char *value)
{
    *to = (struct http_field){{name, strlen(name)}, {value, strlen(value)}};
    return to;
}

/* 426 says what to ask for instead (RFC 9110 15.5.22, RFC 6455 4.4). */
static void refuse_upgrade(struct http_exchange *x, const char *text)
{
    struct http_field fields[3];
    struct buf body;
    buf_init(&body, 0);
    field(&fields[0], "Upgrade", "websocket");
    field(&fields[1], "Connection", "Upgrade");
    field(&fields[2], "Sec-WebSocket-Version", "13");
    bool good = http_problem_put(&body, 426, "upgrade_required", "upgrade required", text, 0);
    http_respond(x, &(struct http_response){.status = 426,
                                            .type = good ? "application/problem+json" : NULL,
                                            .body = body.bytes,
                                            .body_len = good ? body.len : 0,
                                            .fields = fields,
                                            .field_count = 3});
    buf_release(&body);
}

static void begin(struct websocket *w, struct http_exchange *x, const struct handshake *h)
{
    struct http_field fields[5];
    char extension[128];
    size_t n = 0;
    field(&fields[n++], "Upgrade", "websocket");
    field(&fields[n++], "Connection", "Upgrade");
    field(&fields[n++], "Sec-WebSocket-Accept", h->accept);
    if (h->named)
        field(&fields[n++], "Sec-WebSocket-Protocol", h->format->protocol);
    if (h->deflate) {
        snprintf(extension, sizeof(extension),
                 "permessage-deflate; server_no_context_takeover; client_no_context_takeover%s%s",
                 *h->window ? "; server_max_window_bits=" : "", h->window);
        field(&fields[n++], "Sec-WebSocket-Extensions", extension);
    }
    struct ws *c = ws_new(w, h->format, h->deflate, h->compresses);
    if (!c) {
        http_refuse(x, BROKER_NO_MEMORY, "there is no memory for another WebSocket; try again", FULL_RETRY_MS);
        return;
    }
    struct net_conn *net =
        http_take_over(x, &(struct http_response){.status = 101, .fields = fields, .field_count = n}, &ws_conn_ops, c);
    if (net)
        ws_begin(c, net);
    else
        ws_free(c);
}

static void upgrade(void *front, struct http_exchange *x, const struct http_request *r)
{
    struct websocket *w = front;
    struct handshake h;
    char text[WHY_BYTES];
    switch (handshake_read(r, w->options.deflate, &h, text)) {
    case HANDSHAKE_UPGRADE: refuse_upgrade(x, text); return;
    case HANDSHAKE_BAD: http_refuse(x, BROKER_INVALID_ARGUMENT, text, 0); return;
    case HANDSHAKE_GOOD: break;
    }
    if (w->options.max_connections && w->count >= w->options.max_connections) {
        snprintf(text, sizeof(text), "there are %u WebSockets, as many as are allowed; try again later", w->count);
        http_refuse(x, BROKER_OVERLOADED, text, FULL_RETRY_MS);
        return;
    }
    begin(w, x, &h);
}

static const struct http_route ROUTES[] = {{HTTP_GET, "/v1/ws", upgrade, 0}};

/* ---- the front ------------------------------------------------------------------------------------------------------- */

static bool parts_init(struct websocket *w)
{
    uint64_t partial =
        w->options.partial_bytes ? w->options.partial_bytes : PARTIAL_MESSAGES * (uint64_t)w->options.max_message_bytes;
    if (partial < PARTIAL_BYTES_MIN && !w->options.partial_bytes)
        partial = PARTIAL_BYTES_MIN;
    bool frames = frames_init(&w->frames, w->options.max_message_bytes, partial);
    bool lender = lender_init(&w->lender, w->net);
    bool inbox = ws_inbox_init(&w->inbox);
    return frames && lender && inbox;
}

struct websocket *websocket_new(const struct websocket_options *options, struct http *http, struct clients *clients)
{
    struct websocket *w = calloc(1, sizeof(*w));
    if (!w)
        return NULL;
    w->options = *options;
    w->http = http;
    w->net = http_net(http);
    w->clients = clients;
    LIST_INIT(&w->conns);
    msgpack_sbuffer_init(&w->body);
    if (!parts_init(w) || !http_add_routes(http, ROUTES, sizeof(ROUTES) / sizeof(ROUTES[0]), w)) {
        websocket_free(w);
        return NULL;
    }
    return w;
}

void websocket_free(struct websocket *w)
{
    if (!w)
        return;
    frames_release(&w->frames);
    lender_release(&w->lender);
    ws_inbox_release(&w->inbox);
    buf_release(&w->answer);
    buf_release(&w->packed);
    buf_release(&w->records);
    buf_release(&w->ranges);
    buf_release(&w->parts);
    msgpack_sbuffer_destroy(&w->body);
    free(w);
}

uint32_t websocket_connections(const struct websocket *w)
{
    return w->count;
}
