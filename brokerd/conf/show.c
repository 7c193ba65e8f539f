/* From struct conf to text: brokerd.ini, and the ranges in errors. */
#include <string.h>

#include "conf_internal.h"

enum { WRAP = 110 };

static void format_units(const struct conf_unit *units, uint64_t value, char out[64])
{
    while (units->factor > 1 && (value == 0 || value % units->factor != 0))
        units++;
    if (value == 0)
        snprintf(out, 64, "0");
    else
        snprintf(out, 64, "%llu %s", (unsigned long long)(value / units->factor), units->name);
}

void conf_format_value(const struct conf_option *o, uint64_t value, char out[64])
{
    switch (o->type) {
    case CONF_BYTES: format_units(conf_byte_units, value, out); break;
    case CONF_TIME: format_units(conf_time_units, value, out); break;
    case CONF_OCTAL: snprintf(out, 64, "%04llo", (unsigned long long)value); break;
    case CONF_WORD: snprintf(out, 64, "%s", o->words[value - o->min]); break;
    case CONF_NUMBER:
    case CONF_PERCENT: snprintf(out, 64, "%llu", (unsigned long long)value); break;
    case CONF_TEXT:
    case CONF_ADDRESSES: out[0] = 0; break;
    }
}

void conf_format_range(const struct conf_option *o, char out[256])
{
    static const char *const what[] = {
        [CONF_NUMBER] = "a number",
        [CONF_BYTES] = "a size (B, KiB, MiB, GiB, TiB)",
        [CONF_TIME] = "a time (ms, s, min, h, d)",
        [CONF_PERCENT] = "a percentage",
        [CONF_OCTAL] = "octal permissions",
        [CONF_WORD] = "one of",
        [CONF_TEXT] = "text",
        [CONF_ADDRESSES] = "addresses",
    };
    char min[64], max[64];
    size_t n = (size_t)snprintf(out, 256, "%s", what[o->type]);
    if (o->type == CONF_WORD) {
        for (size_t i = 0; o->words[i] && n < 200; i++)
            n += (size_t)snprintf(out + n, 256 - n, "%s %s", i ? "," : "", o->words[i]);
    } else if (!conf_is_text(o)) {
        conf_format_value(o, o->min, min);
        conf_format_value(o, o->max, max);
        snprintf(out + n, 256 - n, ", %s to %s%s", min, max, o->or_zero ? ", or 0" : "");
    }
}

static void print_wrapped(const char *text, FILE *out)
{
    while (*text) {
        size_t len = strlen(text);
        if (len > WRAP) {
            for (len = WRAP; len > 0 && text[len] != ' '; len--)
                ;
            if (len == 0)
                len = WRAP;
        }
        fprintf(out, "# %.*s\n", (int)len, text);
        text += len;
        text += *text == ' ';
    }
}

void conf_print(const struct conf *c, bool help, FILE *out)
{
    const char *section = "";
    if (help)
        fprintf(out,
                "# Configuration of brokerd: every option, with its default. Lines that begin with # or ; are\n"
                "# comments. `brokerd --check -c FILE` checks a file, `brokerd --print-config` shows what holds.\n");
    for (size_t i = 0; i < conf_option_count; i++) {
        const struct conf_option *o = &conf_options[i];
        char value[64], range[256];
        if (strcmp(section, o->section) != 0) {
            fprintf(out, "%s[%s]\n", i || help ? "\n" : "", o->section);
            section = o->section;
        }
        conf_format_range(o, range);
        if (help) {
            fputc('\n', out);
            print_wrapped(o->help, out);
            fprintf(out, "# %s; default %s\n", range, *o->default_value ? o->default_value : "empty");
        }
        if (!conf_is_text(o))
            conf_format_value(o, *conf_number(c, o), value);
        const char *shown = conf_is_text(o) ? *conf_text(c, o) : value;
        fprintf(out, "%s =%s%s\n", o->name, *shown ? " " : "", shown);
    }
}
