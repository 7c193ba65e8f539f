/* Private to fronts/control/. */
#ifndef CONTROL_INTERNAL_H
#define CONTROL_INTERNAL_H

#include <string.h>

#include "control.h"

/* ---- keys.c: one key of a map, and the field behind it ------------------------------------------------------------------ */

enum key_kind {
    KEY_U8,
    KEY_U32,
    KEY_U64,
    KEY_BOOL,
    KEY_WORD,   /* an enum, as wide as an int */
    KEY_EITHER, /* a bool: true for the second of two words */
    KEY_NAME,   /* struct name, of any length: the door has the better error; what is bounded is the map */
    KEY_TEXT,   /* const char *, up to NAME_MAX_BYTES */
    KEY_FILTER, /* broker_filter */
};

struct key {
    const char *name;
    enum key_kind kind;
    size_t offset;            /* of the field, from the base that map_key_get is given */
    uint64_t min, max;        /* of numbers; max 0: the type's */
    const char *const *words; /* NULL ends them; their values begin at `first` */
    int first;
    uint32_t bit; /* settings: BROKER_SET_…, BROKER_GROUP_SET_… */
    bool required;
};

/* The key's value to its field; absent: the field stays. false: m->error says why. */
bool map_key_get(struct wire_map *m, const struct key *k, void *base);
const struct key *map_key_find(const struct key *keys, size_t count, const char *name, size_t len); /* NULL: none */

/* ---- settings.c: settings and filters, both ways. What is read lives as long as the map ---------------------------------- */

struct keys {
    const struct key *at;
    size_t count;
};
extern const struct keys map_queue_settings_keys, map_group_settings_keys, map_filter_keys;
bool map_queue_settings_get(struct wire_map *m, broker_queue_settings *s);
bool map_group_settings_get(struct wire_map *m, broker_group_settings *s);
bool map_filter_get(struct wire_map *m, const char *key, broker_filter *f);
/* As many keys as the table has. */
void map_queue_settings_pack(msgpack_packer *pk, const broker_queue_settings *s);
void map_group_settings_pack(msgpack_packer *pk, const broker_group_settings *s);

#endif
