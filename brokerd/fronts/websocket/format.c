#include <string.h>

#include "websocket_internal.h"

const struct format *const FORMATS[] = {&format_json, &format_msgpack, NULL};

void write_key_text(struct writer *w, const char *key, const char *text)
{
    w->format->key(w, key);
    w->format->text(w, text, strlen(text));
}

bool inbox_init(struct inbox *in)
{
    *in = (struct inbox){0};
    return msgpack_zone_init(&in->zone, MSGPACK_ZONE_CHUNK_SIZE);
}

void inbox_release(struct inbox *in)
{
    json_decref(in->json);
    msgpack_zone_destroy(&in->zone);
}
