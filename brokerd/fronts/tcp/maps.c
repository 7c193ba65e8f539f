/* What requests with a map share: keys read with bounds, refusals that name them. Keys are those of docs/PROTOCOL.md. */
#include <string.h>

#include "front_internal.h"

/* A name of any length reaches the door, which has the better error; what is bounded is the frame. */
bool get_name(struct wire_map *m, const char *key, struct name *out)
{
    return wire_map_str(m, key, UINT32_MAX, &out->bytes, &out->len);
}

bool get_u32_key(struct wire_map *m, const char *key, uint64_t min, uint64_t max, uint32_t *out)
{
    uint64_t value = *out;
    if (!wire_map_u64(m, key, min, max, &value))
        return false;
    *out = (uint32_t)value;
    return true;
}

bool get_word(struct wire_map *m, const char *key, const char *const *words, int first, int *out)
{
    const char *text = NULL;
    size_t len = 0;
    if (!wire_map_str(m, key, 32, &text, &len))
        return false;
    if (!wire_map_has(m, key))
        return true;
    for (int i = 0; words[i]; i++) { /* text may be NULL if it is empty */
        if (strlen(words[i]) == len && memcmp(words[i], text, len) == 0) {
            *out = first + i;
            return true;
        }
    }
    size_t n = (size_t)snprintf(m->error, sizeof(m->error), "\"%s\" is \"", key);
    for (size_t i = 0; i < len; i++)
        m->error[n++] = text[i] >= 0x20 && text[i] < 0x7f ? text[i] : '?';
    n += (size_t)snprintf(m->error + n, sizeof(m->error) - n, "\"; give one of");
    for (int i = 0; words[i]; i++)
        n += (size_t)snprintf(m->error + n, sizeof(m->error) - n, " %s", words[i]);
    return false;
}

bool require(struct wire_map *m, const char *key)
{
    if (wire_map_has(m, key))
        return true;
    snprintf(m->error, sizeof(m->error), "\"%s\" is missing; give it", key);
    return false;
}

bool open_map(struct conn *c, const struct frame_head *head, const uint8_t *body, struct wire_map *m)
{
    broker_error error = wire_map_open(m, body, head->length);
    if (error)
        refuse_request(c, head, error, "%s: %s", frame_type_name(head->type), m->error);
    return error == BROKER_OK;
}

void refuse_key(struct conn *c, const struct frame_head *head, const struct wire_map *m)
{
    refuse_request(c, head, BROKER_INVALID_ARGUMENT, "%s: %s", frame_type_name(head->type), m->error);
}

void submit(struct conn *c, const struct frame_head *head, struct command *command)
{
    command->token.correlation = head->correlation;
    command->token.stream = head->stream;
    conn_submit(c, command);
}
