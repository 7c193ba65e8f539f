/* What the front's own requests with a map share; those of the broker are control's. */
#include <string.h>

#include "front_internal.h"

bool get_u32_key(struct wire_map *m, const char *key, uint64_t min, uint64_t max, uint32_t *out)
{
    uint64_t value = *out;
    if (!wire_map_u64(m, key, min, max, &value))
        return false;
    *out = (uint32_t)value;
    return true;
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
