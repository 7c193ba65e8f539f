/*
 * Owns:            control requests as maps: one form for every way. Maps with string keys in (docs/PROTOCOL.md names them),
 *                  commands out; completions in, maps out.
 * May use:         engine (commands and completions), wire, base.
 * Never knows:     frames, HTTP, JSON text, who asks.
 * Start reading at CONTROLS in requests.c: one row a request.
 */
#ifndef CONTROL_H
#define CONTROL_H

#include "engine.h"
#include "wire.h"

enum control_kind {
    CONTROL_QUEUE_CREATE, /* "queue_create" */
    CONTROL_QUEUE_ALTER,
    CONTROL_QUEUE_DELETE,
    CONTROL_QUEUE_PAUSE,
    CONTROL_QUEUE_RESUME,
    CONTROL_QUEUE_PURGE,
    CONTROL_QUEUE_LIST,
    CONTROL_QUEUE_DESCRIBE,
    CONTROL_GROUP_CREATE,
    CONTROL_GROUP_ALTER,
    CONTROL_GROUP_SEEK,
    CONTROL_GROUP_DELETE,
    CONTROL_BIND,
    CONTROL_UNBIND,
    CONTROL_SCAN,
    CONTROL_PEEK,
    CONTROL_RESCHEDULE,
    CONTROL_SUBSCRIBE,
    CONTROL_UNSUBSCRIBE,
    CONTROL_LEASE,
    CONTROL_READ,
    CONTROL_KINDS
};
const char *control_name(enum control_kind kind); /* "queue_create" */
bool control_find(const char *name, size_t len, enum control_kind *kind);
/* Is `key` one that the request knows? For ways that refuse unknown ones; the native protocol skips them. */
bool control_knows(enum control_kind kind, const char *key, size_t len);
/* The request's keys one by one, for telling which was meant: NULL from their number on. */
enum { CONTROL_KEYS_MAX = 40 };
const char *control_key(enum control_kind kind, size_t i);

enum { CONTROL_TEXT_BYTES = 256 };

struct control_request {
    struct wire_map map;
    struct command command; /* points into the map and the settings, so r must not move; token: the caller's */
    broker_queue_settings queue_settings;
    broker_group_settings group_settings;
};
/*
 * control_parse: the map in `bytes`; control_parse_object: one that is unpacked already (its zone must outlive r). OK, or
 * MALFORMED, INVALID_ARGUMENT or NO_MEMORY with a sentence in `text` that names the key. control_release in either case, after the
 * command was submitted.
 */
broker_error control_parse(struct control_request *r, enum control_kind kind, const uint8_t *bytes, size_t len,
                           char text[CONTROL_TEXT_BYTES]);
broker_error control_parse_object(struct control_request *r, enum control_kind kind, const msgpack_object *map,
                                  char text[CONTROL_TEXT_BYTES]);
/*
 * After a parse that succeeded: is every key one that the request knows, a filter's too? OK, or INVALID_ARGUMENT with a
 * sentence that names the one that is not. For ways that refuse what they do not know: a filter whose only key is misspelt
 * would match everything.
 */
broker_error control_refuse_unknown(const struct control_request *r, enum control_kind kind,
                                    char text[CONTROL_TEXT_BYTES]);
void control_release(struct control_request *r);

/* The body of a successful completion as one map; an empty one if there is nothing to tell. false: its answer is made of
   messages or receipts (publish, transact, lease, peek, read, ack, nack, extend), and nothing was packed. */
bool control_answer(msgpack_packer *pk, const struct completion *done);
/* What `lists` and `describe` answer, one by one. */
void control_pack_queue(msgpack_packer *pk, const broker_queue_info *q);
void control_pack_group(msgpack_packer *pk, const broker_group_info *g);
void control_pack_stats(msgpack_packer *pk, const broker_stats *s); /* as the native protocol's STATS answer */

#endif
