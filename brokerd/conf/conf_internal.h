/* Private to conf/. */
#ifndef CONF_INTERNAL_H
#define CONF_INTERNAL_H

#include "conf.h"

enum conf_type { CONF_NUMBER, CONF_BYTES, CONF_TIME, CONF_PERCENT, CONF_OCTAL, CONF_WORD, CONF_TEXT, CONF_ADDRESSES };

struct conf_option {
    const char *section, *name;
    enum conf_type type;
    size_t offset;             /* of a uint64_t, or of a char *, in struct conf */
    const char *default_value; /* as it would stand in the file */
    uint64_t min, max;         /* of a number, in its base unit */
    bool or_zero;              /* 0 is allowed besides the range, and means what the help says */
    const char *const *words;  /* CONF_WORD: NULL-terminated; the value is `min` + the index */
    const char *help;
};

extern const struct conf_option conf_options[];
extern const size_t conf_option_count;

struct conf_unit {
    const char *name;
    uint64_t factor;
};
extern const struct conf_unit conf_byte_units[], conf_time_units[]; /* from large to small; {NULL, 0} ends them */

const struct conf_option *conf_find(const char *section, const char *name);
bool conf_set_option(struct conf *c, const struct conf_option *option, const char *value, char *error);
/* No such option (or section): error names it, and the nearest there is. */
void conf_unknown(const char *section, const char *name, char *error);
void conf_format_value(const struct conf_option *option, uint64_t value, char out[64]);
void conf_format_range(const struct conf_option *option, char out[256]);

static inline uint64_t *conf_number(const struct conf *c, const struct conf_option *o)
{
    return (uint64_t *)(uintptr_t)((const char *)c + o->offset);
}
static inline char **conf_text(const struct conf *c, const struct conf_option *o)
{
    return (char **)(uintptr_t)((const char *)c + o->offset);
}
static inline bool conf_is_text(const struct conf_option *o)
{
    return o->type == CONF_TEXT || o->type == CONF_ADDRESSES;
}

#endif
