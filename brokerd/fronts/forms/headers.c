/* The pairs of a record's headers. Another program wrote them, and the broker looked at the first byte only: whatever does
   not check out ends the walk. */
#include "forms_internal.h"

void form_header_walk_init(struct header_walk *w, const struct record_view *v)
{
    *w = (struct header_walk){.end = v->headers + v->head.headers_len};
    if (v->head.headers_len > 0)
        w->p = wire_skip_map(v->headers, w->end, &w->pairs);
    if (!w->p)
        w->pairs = 0;
}

bool form_header_walk_next(struct header_walk *w, struct header_pair *pair)
{
    while (w->pairs > 0) {
        const uint8_t *after_name = wire_skip_text(w->p, w->end, &pair->name, &pair->name_len);
        pair->value = after_name ? after_name : wire_skip(w->p, w->end);
        if (!pair->value)
            break;
        pair->value_end = wire_skip_text(pair->value, w->end, &pair->text, &pair->text_len);
        if (!pair->value_end) {
            pair->text = NULL;
            pair->value_end = wire_skip(pair->value, w->end);
        }
        if (!pair->value_end)
            break;
        w->p = pair->value_end;
        w->pairs--;
        if (after_name)
            return true;
    }
    w->pairs = 0;
    return false;
}

bool form_header_value_json(struct buf *out, const struct header_pair *pair)
{
    msgpack_unpacked unpacked;
    size_t offset = 0;
    msgpack_unpacked_init(&unpacked);
    /* wire_skip has been over it: well-formed, not deep, its counts bounded by its bytes. */
    bool good = msgpack_unpack_next(&unpacked, (const char *)pair->value, (size_t)(pair->value_end - pair->value),
                                    &offset) == MSGPACK_UNPACK_SUCCESS &&
                form_msgpack_to_json(out, &unpacked.data);
    msgpack_unpacked_destroy(&unpacked);
    return good;
}

void form_each_header(const struct record_view *v,
                      bool (*fn)(void *arg, const char *name, size_t name_len, const char *value, size_t value_len),
                      void *arg)
{
    struct header_walk walk;
    struct header_pair pair;
    struct buf json;
    bool more = true;
    buf_init(&json, 0);
    form_header_walk_init(&walk, v);
    while (more && form_header_walk_next(&walk, &pair)) {
        if (pair.text) {
            more = fn(arg, pair.name, pair.name_len, pair.text, pair.text_len);
            continue;
        }
        buf_clear(&json);
        if (form_header_value_json(&json, &pair)) /* else no memory: one header less */
            more = fn(arg, pair.name, pair.name_len, (const char *)json.bytes, json.len);
    }
    buf_release(&json);
}
