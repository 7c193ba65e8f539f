/* One key of a map: read with bounds, refused by name. */
#include <stdio.h>

#include "control_internal.h"

/* Enums are as wide as an int: their fields are read and written as one. */
_Static_assert(sizeof(broker_retention) == sizeof(int), "an enum is an int");

static bool number_get(struct wire_map *m, const struct key *k, uint64_t type_max, uint64_t *value)
{
    return wire_map_u64(m, k->name, k->min, k->max ? k->max : type_max, value);
}

/* *index: of the word; absent: it stays. */
static bool word_get(struct wire_map *m, const struct key *k, int *index)
{
    const char *text = NULL;
    size_t len = 0;
    if (!wire_map_str(m, k->name, 32, &text, &len))
        return false;
    if (!wire_map_has(m, k->name))
        return true;
    for (int i = 0; k->words[i]; i++) { /* text may be NULL if it is empty */
        if (strlen(k->words[i]) == len && memcmp(k->words[i], text, len) == 0) {
            *index = i;
            return true;
        }
    }
    size_t n = (size_t)snprintf(m->error, sizeof(m->error), "\"%s\" is \"", k->name);
    for (size_t i = 0; i < len; i++)
        m->error[n++] = text[i] >= 0x20 && text[i] < 0x7f ? text[i] : '?';
    n += (size_t)snprintf(m->error + n, sizeof(m->error) - n, "\"; give one of");
    for (int i = 0; k->words[i]; i++)
        n += (size_t)snprintf(m->error + n, sizeof(m->error) - n, " %s", k->words[i]);
    return false;
}

bool map_key_get(struct wire_map *m, const struct key *k, void *base)
{
    void *to = (char *)base + k->offset;
    struct name *name = to;
    uint64_t number;
    int index;
    if (!wire_map_has(m, k->name)) {
        if (k->required)
            snprintf(m->error, sizeof(m->error), "\"%s\" is missing; give it", k->name);
        return !k->required;
    }
    switch (k->kind) {
    case KEY_U8:
        if (!number_get(m, k, UINT8_MAX, &number))
            return false;
        *(uint8_t *)to = (uint8_t)number;
        return true;
    case KEY_U32:
        if (!number_get(m, k, UINT32_MAX, &number))
            return false;
        *(uint32_t *)to = (uint32_t)number;
        return true;
    case KEY_U64: return number_get(m, k, UINT64_MAX, to);
    case KEY_BOOL: return wire_map_bool(m, k->name, to);
    case KEY_WORD:
    case KEY_EITHER:
        if (!word_get(m, k, &index))
            return false;
        if (k->kind == KEY_WORD)
            *(int *)to = k->first + index;
        else
            *(bool *)to = index != 0;
        return true;
    case KEY_NAME: return wire_map_str(m, k->name, UINT32_MAX, &name->bytes, &name->len);
    case KEY_TEXT: return wire_map_text(m, k->name, NAME_MAX_BYTES, to);
    case KEY_FILTER: return map_filter_get(m, k->name, to);
    }
    return false;
}

const struct key *map_key_find(const struct key *keys, size_t count, const char *name, size_t len)
{
    for (size_t i = 0; i < count; i++)
        if (strlen(keys[i].name) == len && memcmp(keys[i].name, name, len) == 0)
            return &keys[i];
    return NULL;
}
