#include "handshake.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "digest.h"
#include "websocket_internal.h"

enum { KEY_BYTES = 24, WHY_BYTES = 256 }; /* of a key: 16 bytes in base64 */
#define GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

/* ---- lists in fields ------------------------------------------------------------------------------------------------- */

static bool is_text(struct http_text t, const char *word)
{
    return t.len == strlen(word) && strncasecmp(t.bytes, word, t.len) == 0;
}

/* The next element of a list (RFC 9110 5.6.1), without the blanks around it; a separator within quotes is none. */
static bool next_element(struct http_text *rest, char separator, struct http_text *out)
{
    if (rest->len == 0)
        return false;
    size_t n = 0;
    bool quoted = false;
    for (; n < rest->len && (quoted || rest->bytes[n] != separator); n++) {
        if (quoted && rest->bytes[n] == '\\' && n + 1 < rest->len)
            n++;
        else if (rest->bytes[n] == '"')
            quoted = !quoted;
    }
    *out = (struct http_text){rest->bytes, n};
    size_t skip = n < rest->len ? n + 1 : n;
    rest->bytes += skip;
    rest->len -= skip;
    while (out->len > 0 && isblank((unsigned char)*out->bytes)) {
        out->bytes++;
        out->len--;
    }
    while (out->len > 0 && isblank((unsigned char)out->bytes[out->len - 1]))
        out->len--;
    return true;
}

/* Every element of every field of that name; fn returns false to stop. */
static void each_element(const struct http_request *r, const char *name,
                         bool (*fn)(void *arg, struct http_text element), void *arg)
{
    for (size_t i = 0; i < r->field_count; i++) {
        struct http_text rest = r->fields[i].value, element;
        if (!is_text(r->fields[i].name, name))
            continue;
        while (next_element(&rest, ',', &element))
            if (element.len > 0 && !fn(arg, element))
                return;
    }
}

struct search {
    const char *word;
    bool found;
};

static bool is_sought(void *arg, struct http_text element)
{
    struct search *s = arg;
    s->found = s->found || is_text(element, s->word);
    return !s->found;
}

static bool has_element(const struct http_request *r, const char *name, const char *word)
{
    struct search s = {.word = word};
    each_element(r, name, is_sought, &s);
    return s.found;
}

static size_t count_fields(const struct http_request *r, const char *name)
{
    size_t n = 0;
    for (size_t i = 0; i < r->field_count; i++)
        n += is_text(r->fields[i].name, name);
    return n;
}

/* ---- the key --------------------------------------------------------------------------------------------------------- */

static bool read_key(const struct http_request *r, struct handshake *out, char *text)
{
    const struct http_field *f = http_find(r, "Sec-WebSocket-Key");
    uint8_t nonce[KEY_BYTES], digest[SHA1_BYTES];
    char whole[KEY_BYTES + sizeof(GUID)];
    size_t n = 0;
    bool good = f && count_fields(r, "Sec-WebSocket-Key") == 1 && f->value.len == KEY_BYTES &&
                base64_decode(nonce, &n, f->value.bytes, KEY_BYTES) && n == 16;
    if (!good) {
        snprintf(text, WHY_BYTES, "Sec-WebSocket-Key is not one value of 16 bytes in base64");
        return false;
    }
    memcpy(whole, f->value.bytes, KEY_BYTES);
    memcpy(whole + KEY_BYTES, GUID, sizeof(GUID));
    if (!digest_sha1(whole, sizeof(whole) - 1, digest)) {
        snprintf(text, WHY_BYTES, "the handshake's SHA-1 could not be computed");
        return false;
    }
    base64_encode(out->accept, digest, sizeof(digest));
    return true;
}

/* ---- subprotocols ---------------------------------------------------------------------------------------------------- */

static bool offer_protocol(void *arg, struct http_text offered)
{
    struct handshake *h = arg;
    h->named = true;
    for (size_t i = 0; ws_FORMATS[i]; i++) {
        const char *name = ws_FORMATS[i]->protocol;
        if (offered.len == strlen(name) && memcmp(offered.bytes, name, offered.len) == 0) {
            h->format = ws_FORMATS[i];
            return false; /* the client's first that we know */
        }
    }
    return true;
}

static bool choose_protocol(const struct http_request *r, struct handshake *out, char *text)
{
    each_element(r, "Sec-WebSocket-Protocol", offer_protocol, out);
    if (!out->named)
        out->format = ws_FORMATS[0];
    if (out->format)
        return true;
    snprintf(text, WHY_BYTES, "none of the subprotocols in Sec-WebSocket-Protocol is known; offer %s or %s, or none",
             ws_format_json.protocol, ws_format_msgpack.protocol);
    return false;
}

/* ---- permessage-deflate ---------------------------------------------------------------------------------------------- */

/* A window's size, 8..15; -1: it is none. */
static int window_bits(struct http_text value)
{
    if (value.len >= 2 && value.bytes[0] == '"' && value.bytes[value.len - 1] == '"')
        value = (struct http_text){value.bytes + 1, value.len - 2};
    if (value.len == 1 && (*value.bytes == '8' || *value.bytes == '9'))
        return *value.bytes - '0';
    if (value.len == 2 && value.bytes[0] == '1' && value.bytes[1] >= '0' && value.bytes[1] <= '5')
        return 10 + value.bytes[1] - '0';
    return -1;
}

struct offer {
    bool server_context, client_context, server_window, client_window; /* seen: each at most once */
    int server_bits;
};

static bool take_parameter(struct offer *o, struct http_text parameter)
{
    struct http_text name = {0}, value = parameter;
    next_element(&value, '=', &name);
    bool has_value = memchr(parameter.bytes, '=', parameter.len) != NULL;
    while (value.len > 0 && isblank((unsigned char)*value.bytes)) {
        value.bytes++;
        value.len--;
    }
    bool *seen = is_text(name, "server_no_context_takeover")   ? &o->server_context
                 : is_text(name, "client_no_context_takeover") ? &o->client_context
                 : is_text(name, "server_max_window_bits")     ? &o->server_window
                 : is_text(name, "client_max_window_bits")     ? &o->client_window
                                                               : NULL;
    if (!seen || *seen)
        return false;
    *seen = true;
    if (seen == &o->server_window) {
        o->server_bits = window_bits(value);
        return has_value && o->server_bits > 0;
    }
    return seen == &o->client_window ? !has_value || window_bits(value) > 0 : !has_value;
}

/* The first offer that we understand wholly is taken (RFC 7692 5.1, 7.1). */
static bool offer_extension(void *arg, struct http_text offered)
{
    struct handshake *h = arg;
    struct http_text rest = offered, part;
    struct offer o = {.server_bits = 15};
    if (!next_element(&rest, ';', &part) || !is_text(part, "permessage-deflate"))
        return true;
    while (next_element(&rest, ';', &part))
        if (!take_parameter(&o, part))
            return true;
    h->deflate = true;
    /* A smaller window of ours is granted by sending nothing compressed. */
    h->compresses = o.server_bits == 15;
    if (o.server_window)
        snprintf(h->window, sizeof(h->window), "%d", o.server_bits);
    return false;
}

/* ---- all of it ------------------------------------------------------------------------------------------------------- */

enum handshake_result handshake_read(const struct http_request *r, bool deflate, struct handshake *out, char *text)
{
    const struct http_field *version = http_find(r, "Sec-WebSocket-Version");
    *out = (struct handshake){0};
    if (!has_element(r, "Upgrade", "websocket") || !has_element(r, "Connection", "Upgrade")) {
        snprintf(text, WHY_BYTES, "this is a WebSocket: ask with Upgrade: websocket and Connection: Upgrade");
        return HANDSHAKE_UPGRADE;
    }
    if (!version || count_fields(r, "Sec-WebSocket-Version") != 1 || !is_text(version->value, "13")) {
        snprintf(text, WHY_BYTES, "Sec-WebSocket-Version is not 13, the only one spoken here");
        return HANDSHAKE_UPGRADE;
    }
    if (!read_key(r, out, text) || !choose_protocol(r, out, text))
        return HANDSHAKE_BAD;
    if (deflate)
        each_element(r, "Sec-WebSocket-Extensions", offer_extension, out);
    return HANDSHAKE_GOOD;
}
