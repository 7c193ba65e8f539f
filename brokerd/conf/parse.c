/* From text to struct conf: values with units, ranges, unknown names with the nearest known one. */
#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "conf_internal.h"
#include "distance.h"

enum { FILE_BYTES_MAX = 1 << 20, NAME_BYTES_MAX = EDIT_DISTANCE_BYTES };

__attribute__((format(printf, 2, 3))) static bool fail(char *error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(error, CONF_ERROR_BYTES, format, args);
    va_end(args);
    return false;
}

const struct conf_option *conf_find(const char *section, const char *name)
{
    for (size_t i = 0; i < conf_option_count; i++)
        if (strcmp(conf_options[i].section, section) == 0 && strcmp(conf_options[i].name, name) == 0)
            return &conf_options[i];
    return NULL;
}

/* ---- unknown names -------------------------------------------------------------------------------------------------- */

static unsigned distance(const char *a, const char *b)
{
    return edit_distance(a, strlen(a), b, strlen(b), false);
}

void conf_unknown(const char *section, const char *name, char *error)
{
    const struct conf_option *nearest = NULL, *nearest_section = NULL;
    unsigned best = UINT32_MAX, best_section = UINT32_MAX;
    bool known_section = false;
    for (size_t i = 0; i < conf_option_count; i++) {
        const struct conf_option *o = &conf_options[i];
        bool same = strcmp(o->section, section) == 0;
        known_section |= same;
        unsigned d = distance(name, o->name) * 2 + !same; /* of equals, the one in the same section */
        if (d < best) {
            best = d;
            nearest = o;
        }
        d = distance(section, o->section);
        if (d < best_section) {
            best_section = d;
            nearest_section = o;
        }
    }
    if (!known_section) {
        fail(error, "unknown section [%.*s]; the nearest is [%s]", NAME_BYTES_MAX, section,
             (nearest_section ? nearest_section : &conf_options[0])->section);
        return;
    }
    if (!nearest || best / 2 > strlen(name) / 2 + 1)
        fail(error, "unknown option '%.*s' in [%s]; `brokerd --help-config` lists them", NAME_BYTES_MAX, name, section);
    else
        fail(error, "unknown option '%.*s' in [%s]; did you mean '%s' in [%s]?", NAME_BYTES_MAX, name, section,
             nearest->name, nearest->section);
}

/* ---- values --------------------------------------------------------------------------------------------------------- */

static bool unit_factor(const struct conf_unit *units, const char *text, uint64_t *factor)
{
    *factor = 1;
    if (!*text)
        return true;
    for (; units->name; units++) {
        if (strcmp(units->name, text) == 0) {
            *factor = units->factor;
            return true;
        }
    }
    return false;
}

static bool parse_number(const struct conf_option *o, const char *value, uint64_t *out)
{
    static const struct conf_unit none[] = {{NULL, 0}}, percent[] = {{"%", 1}, {NULL, 0}};
    const struct conf_unit *units = o->type == CONF_BYTES     ? conf_byte_units
                                    : o->type == CONF_TIME    ? conf_time_units
                                    : o->type == CONF_PERCENT ? percent
                                                              : none;
    if (!isdigit((unsigned char)value[0]))
        return false;
    char *end;
    errno = 0;
    unsigned long long n = strtoull(value, &end, o->type == CONF_OCTAL ? 8 : 10);
    if (errno)
        return false;
    while (*end == ' ')
        end++;
    uint64_t factor;
    return unit_factor(units, end, &factor) && !__builtin_mul_overflow((uint64_t)n, factor, out);
}

static bool parse_word(const struct conf_option *o, const char *value, uint64_t *out)
{
    for (uint64_t i = 0; o->words[i]; i++) {
        if (strcmp(o->words[i], value) == 0) {
            *out = o->min + i;
            return true;
        }
    }
    return false;
}

static bool set_text(struct conf *c, const struct conf_option *o, const char *value, char *error)
{
    if (o->type == CONF_ADDRESSES) {
        char host[256], port[16];
        const char *list = value;
        int status;
        while ((status = conf_next_address(&list, host, port, error)) > 0)
            ;
        if (status < 0)
            return false;
    }
    char *copy = strdup(value);
    if (!copy)
        return fail(error, "out of memory");
    char **field = conf_text(c, o);
    free(*field);
    *field = copy;
    return true;
}

bool conf_set_option(struct conf *c, const struct conf_option *o, const char *value, char *error)
{
    if (conf_is_text(o))
        return set_text(c, o, value, error);
    uint64_t n;
    char range[256];
    conf_format_range(o, range);
    bool good = o->type == CONF_WORD ? parse_word(o, value, &n) : parse_number(o, value, &n);
    if (!good)
        return fail(error, "%s.%s = '%.64s' is not understood; give %s", o->section, o->name, value, range);
    if ((n < o->min || n > o->max) && !(n == 0 && o->or_zero))
        return fail(error, "%s.%s = %.64s is out of range; give %s", o->section, o->name, value, range);
    *conf_number(c, o) = n;
    return true;
}

int conf_next_address(const char **list, char host[256], char port[16], char *error)
{
    const char *p = *list + strspn(*list, " ,\t\n");
    size_t len = strcspn(p, " ,\t\n");
    if (len == 0)
        return 0;
    *list = p + len;
    const char *colon = memrchr(p, ':', len);
    const char *name = p, *name_end = colon;
    if (colon && *p == '[') { /* an IPv6 address has colons of its own */
        name = p + 1;
        name_end = colon > p + 1 && colon[-1] == ']' ? colon - 1 : NULL;
    } else if (colon && memchr(p, ':', (size_t)(colon - p))) {
        name_end = NULL;
    }
    size_t port_len = colon ? len - (size_t)(colon + 1 - p) : 0;
    char *end;
    if (!colon || !name_end || name_end - name > 255 || port_len < 1 || port_len > 5 ||
        strspn(colon + 1, "0123456789") < port_len || strtoul(colon + 1, &end, 10) > 65535) {
        fail(error, "'%.*s' is no address to listen on; give HOST:PORT, such as 127.0.0.1:7440 or [::1]:7440",
             (int)(len < 200 ? len : 200), p);
        return -1;
    }
    memcpy(host, name, (size_t)(name_end - name));
    host[name_end - name] = 0;
    if (name_end == name)
        memcpy(host, "*", 2);
    memcpy(port, colon + 1, port_len);
    port[port_len] = 0;
    return 1;
}

bool conf_set(struct conf *c, const char *assignment, char *error)
{
    const char *dot = strchr(assignment, '.'), *equals = strchr(assignment, '=');
    char section[NAME_BYTES_MAX + 2], name[NAME_BYTES_MAX + 2];
    if (!dot || !equals || dot > equals || dot - assignment > NAME_BYTES_MAX || equals - dot - 1 > NAME_BYTES_MAX)
        return fail(error, "'%.100s' is no setting; give SECTION.OPTION=VALUE, such as tcp.listen=127.0.0.1:7440",
                    assignment);
    snprintf(section, sizeof(section), "%.*s", (int)(dot - assignment), assignment);
    snprintf(name, sizeof(name), "%.*s", (int)(equals - dot - 1), dot + 1);
    const struct conf_option *o = conf_find(section, name);
    if (!o) {
        conf_unknown(section, name, error);
        return false;
    }
    return conf_set_option(c, o, equals + 1, error);
}

bool conf_add_listen(struct conf *c, const char *section, const char *address, char *error)
{
    char both[2048];
    const struct conf_option *option = conf_find(section, "listen");
    const char *so_far = *conf_text(c, option);
    int n = snprintf(both, sizeof(both), "%s%s%s", so_far, *so_far ? " " : "", address);
    if (n < 0 || (size_t)n >= sizeof(both))
        return fail(error, "too many addresses to listen on");
    return conf_set_option(c, option, both, error);
}

bool conf_init(struct conf *c, char *error)
{
    memset(c, 0, sizeof(*c));
    for (size_t i = 0; i < conf_option_count; i++)
        if (!conf_set_option(c, &conf_options[i], conf_options[i].default_value, error))
            return false;
    return true;
}

void conf_release(struct conf *c)
{
    for (size_t i = 0; i < conf_option_count; i++)
        if (conf_is_text(&conf_options[i]))
            free(*conf_text(c, &conf_options[i]));
    memset(c, 0, sizeof(*c));
}

/* ---- files ---------------------------------------------------------------------------------------------------------- */

struct reading {
    struct conf *c;
    const char *name, *at, *end;
    int line;
    bool failed;
    bool seen[128]; /* by option: set in this file */
    char *error;
};

/* inih asks for a line. One that does not fit would be taken apart without a word. */
static char *next_line(char *line, int size, void *arg)
{
    struct reading *r = arg;
    if (r->at == r->end || r->failed)
        return NULL;
    const char *newline = memchr(r->at, '\n', (size_t)(r->end - r->at));
    size_t len = (size_t)((newline ? newline + 1 : r->end) - r->at);
    r->line++;
    if (len >= (size_t)size || memchr(r->at, 0, len)) {
        r->failed = true;
        if (len >= (size_t)size)
            fail(r->error, "%s:%d: the line is longer than %d bytes", r->name, r->line, size - 2);
        else
            fail(r->error, "%s:%d: the line has a NUL byte", r->name, r->line);
        return NULL;
    }
    memcpy(line, r->at, len);
    line[len] = 0;
    r->at += len;
    return line;
}

static int take_option(void *arg, const char *section, const char *name, const char *value)
{
    struct reading *r = arg;
    char text[CONF_ERROR_BYTES] = "";
    if (r->failed)
        return 0;
    const struct conf_option *o = conf_find(section, name);
    bool good = false;
    if (!*section)
        fail(text, "'%.64s' stands before any [section]", name);
    else if (!o)
        conf_unknown(section, name, text);
    else if (r->seen[o - conf_options])
        fail(text, "'%s' is set twice in [%s], or the line is indented", name, section);
    else
        good = conf_set_option(r->c, o, value, text);
    if (good)
        r->seen[o - conf_options] = true;
    if (!good) {
        r->failed = true;
        fail(r->error, "%.200s:%d: %.300s", r->name, r->line, text);
    }
    return good;
}

bool conf_parse(struct conf *c, const char *name, const char *text, size_t len, char *error)
{
    _Static_assert(sizeof(((struct reading *)0)->seen) == 128, "one flag an option");
    struct reading r = {.c = c, .name = name, .at = text, .end = text + len, .error = error};
    if (conf_option_count > sizeof(r.seen))
        abort(); /* a bug: the table has outgrown `seen` */
    int line = ini_parse_stream(next_line, &r, take_option, &r);
    if (r.failed)
        return false;
    if (line != 0)
        return fail(error, "%.300s:%d: this is neither [section] nor name = value nor # a comment", name, line);
    return true;
}

bool conf_read(struct conf *c, const char *path, char *error)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return fail(error, "cannot read the configuration %.300s: %s", path, strerror(errno));
    char *text = malloc(FILE_BYTES_MAX + 1);
    size_t len = text ? fread(text, 1, FILE_BYTES_MAX + 1, f) : 0;
    bool good = false;
    if (!text)
        fail(error, "out of memory");
    else if (ferror(f))
        fail(error, "cannot read the configuration %.300s: %s", path, strerror(errno));
    else if (len > FILE_BYTES_MAX)
        fail(error, "the configuration %.300s is larger than %d bytes", path, FILE_BYTES_MAX);
    else
        good = conf_parse(c, path, text, len, error);
    free(text);
    fclose(f);
    return good;
}

bool conf_check(const struct conf *c, char *error)
{
    if (!*c->broker.data_dir)
        return fail(error, "broker.data_dir is empty; give a directory");
    if (c->limits.max_frame_bytes < c->limits.max_message_bytes + 65536)
        return fail(error,
                    "limits.max_frame = %llu is too small for limits.max_message = %llu; give at least 64 KiB more",
                    (unsigned long long)c->limits.max_frame_bytes, (unsigned long long)c->limits.max_message_bytes);
    if (c->store.segment_bytes / 2 < c->limits.max_message_bytes)
        return fail(error,
                    "store.segment = %llu is too small for limits.max_message = %llu; give at least twice as much",
                    (unsigned long long)c->store.segment_bytes, (unsigned long long)c->limits.max_message_bytes);
    if (c->store.window_bytes < c->limits.max_message_bytes)
        return fail(error, "store.window = %llu is smaller than limits.max_message = %llu",
                    (unsigned long long)c->store.window_bytes, (unsigned long long)c->limits.max_message_bytes);
    if (c->store.max_disk_bytes && c->store.max_disk_bytes / 4 < c->store.segment_bytes)
        return fail(error, "store.max_disk = %llu is less than four segments (store.segment = %llu)",
                    (unsigned long long)c->store.max_disk_bytes, (unsigned long long)c->store.segment_bytes);
    return true;
}
