/* Private to fronts/websocket/: the upgrade (RFC 6455 section 4.2, RFC 7692 section 7.1). */
#ifndef WEBSOCKET_HANDSHAKE_H
#define WEBSOCKET_HANDSHAKE_H

#include "http.h"

enum { ACCEPT_BYTES = 28 };

struct handshake {
    const struct format *format;
    bool named;      /* the client offered subprotocols: ours is named in the answer */
    bool deflate;    /* permessage-deflate is agreed upon */
    bool compresses; /* and we may use it: the client's window is as large as ours */
    char window[3];  /* server_max_window_bits to name in the answer; "": none */
    char accept[ACCEPT_BYTES + 1];
};

enum handshake_result { HANDSHAKE_GOOD, HANDSHAKE_UPGRADE, HANDSHAKE_BAD };

/* HANDSHAKE_UPGRADE: answer 426; HANDSHAKE_BAD: 400; `text`, of 256 bytes, says what is wrong. */
enum handshake_result handshake_read(const struct http_request *r, bool deflate, struct handshake *out, char *text);

#endif
