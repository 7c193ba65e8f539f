#include <string.h>

#include "websocket_internal.h"

const struct format *const ws_FORMATS[] = {&ws_format_json, &ws_format_msgpack, NULL};

void ws_write_key_text(struct writer *w, const char *key, const char *text)
{
    w->format->key(w, key);
    w->format->text(w, text, strlen(text));
}

bool ws_inbox_init(struct inbox *in)
{
    *in = (struct inbox){0};
    return msgpack_zone_init(&in->zone, MSGPACK_ZONE_CHUNK_SIZE);
}

void ws_inbox_release(struct inbox *in)
{
    json_decref(in->json);
    msgpack_zone_destroy(&in->zone);
}
