#include "args.h"

#include <ctype.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define OPTIONS_MAX      64  /* of one command, the common ones included */
#define LONG_OPTION_BASE 256 /* getopt's value of option i is this + i: apart from every letter */

/* The tables of one parse, flattened for getopt_long. */
struct parse {
    const struct arg_option *options[OPTIONS_MAX];
    void *targets[OPTIONS_MAX];
    struct option longs[OPTIONS_MAX + 1];
    char shorts[2 + OPTIONS_MAX * 2 + 1];
    size_t count;
    char *error;
    size_t error_bytes;
};

__attribute__((format(printf, 2, 3))) static bool parse_fail(struct parse *p, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(p->error, p->error_bytes, format, args);
    va_end(args);
    return false;
}

static const char *const type_examples[] = {
    [ARG_NUMBER] = "a number such as 10, 50k or 2M",
    [ARG_SIZE] = "a size such as 512, 64KiB or 2GiB",
    [ARG_DURATION] = "a time such as 500ms, 30s, 5min, 2h or 7d",
};

static bool set_number(struct parse *p, const struct arg_option *o, struct arg_number *target, const char *text,
                       bool given)
{
    bool ok = o->type == ARG_NUMBER ? args_number(text, &target->value)
              : o->type == ARG_SIZE ? args_size(text, &target->value)
                                    : args_duration(text, &target->value);
    if (!ok)
        return parse_fail(p, "--%s: '%s' is not %s", o->name, text, type_examples[o->type]);
    if (target->value < o->min || (o->max && target->value > o->max)) {
        const char *unit = o->type == ARG_SIZE ? " bytes" : o->type == ARG_DURATION ? " ms" : "";
        if (o->max)
            return parse_fail(p, "--%s: '%s' is out of range: %" PRIu64 " to %" PRIu64 "%s", o->name, text, o->min,
                              o->max, unit);
        return parse_fail(p, "--%s: '%s' is too small: at least %" PRIu64 "%s", o->name, text, o->min, unit);
    }
    target->given = given;
    return true;
}

static bool set_choice(struct parse *p, const struct arg_option *o, int *target, const char *text)
{
    size_t len = strlen(text);
    int number = 1;
    for (const char *c = o->value; c; number++) {
        const char *end = strchrnul(c, '|');
        if ((size_t)(end - c) == len && memcmp(c, text, len) == 0) {
            *target = number;
            return true;
        }
        c = *end ? end + 1 : NULL;
    }
    return parse_fail(p, "--%s: '%s' is not one of %s", o->name, text, o->value);
}

static bool set_option(struct parse *p, size_t index, const char *text, bool given)
{
    const struct arg_option *o = p->options[index];
    void *target = (char *)p->targets[index] + o->offset;
    switch (o->type) {
    case ARG_FLAG: *(bool *)target = true; return true;
    case ARG_TEXT: *(const char **)target = text; return true;
    case ARG_NUMBER:
    case ARG_SIZE:
    case ARG_DURATION: return set_number(p, o, target, text, given);
    case ARG_CHOICE: return set_choice(p, o, target, text);
    case ARG_LIST: {
        struct arg_list *list = target;
        if (list->count == ARG_LIST_MAX)
            return parse_fail(p, "--%s is given more than %d times", o->name, ARG_LIST_MAX);
        list->items[list->count++] = text;
        return true;
    }
    }
    return false;
}

/* Flatten the tables. A name or letter of an earlier set hides the same one of a later set. */
static void parse_add(struct parse *p, const struct arg_set *set)
{
    for (const struct arg_option *o = set->options; o && o->name && p->count < OPTIONS_MAX; o++) {
        bool name_taken = false, letter_taken = false;
        for (size_t i = 0; i < p->count; i++) {
            name_taken |= strcmp(p->options[i]->name, o->name) == 0;
            letter_taken |= o->letter && p->options[i]->letter == o->letter;
        }
        if (name_taken)
            continue;
        int has_value = o->type == ARG_FLAG ? no_argument : required_argument;
        p->longs[p->count] = (struct option){o->name, has_value, NULL, LONG_OPTION_BASE + (int)p->count};
        if (o->letter && !letter_taken) {
            char *end = p->shorts + strlen(p->shorts);
            *end++ = o->letter;
            if (has_value == required_argument)
                *end = ':';
        }
        p->options[p->count] = o;
        p->targets[p->count] = set->target;
        p->count++;
    }
}

static size_t find_letter(const struct parse *p, int letter)
{
    for (size_t i = 0; i < p->count; i++) {
        if (p->options[i]->letter == letter)
            return i;
    }
    return OPTIONS_MAX;
}

/* What getopt_long did not understand, told better than it would. */
static bool parse_refuse(struct parse *p, int what, const char *word)
{
    const struct arg_option *o = NULL;
    if (optopt >= LONG_OPTION_BASE)
        o = p->options[optopt - LONG_OPTION_BASE];
    else if (optopt && find_letter(p, optopt) < p->count)
        o = p->options[find_letter(p, optopt)];
    if (what == ':' && o)
        return parse_fail(p, "--%s needs a value: %s", o->name, o->value ? o->value : "TEXT");
    if (o && o->type == ARG_FLAG)
        return parse_fail(p, "--%s takes no value", o->name);
    if (optopt)
        return parse_fail(p, "unknown option -%c", isprint(optopt) ? optopt : '?');

    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(word + 2, "="), word + 2);
    const char *names[OPTIONS_MAX];
    size_t alike = 0;
    for (size_t i = 0; i < p->count; i++) {
        names[i] = p->options[i]->name;
        alike += strncmp(names[i], name, strlen(name)) == 0;
    }
    if (alike > 1)
        return parse_fail(p, "--%s could be several options: write it in full", name);
    const char *nearest = args_nearest(name, names, p->count);
    if (nearest)
        return parse_fail(p, "unknown option --%s: did you mean --%s?", name, nearest);
    return parse_fail(p, "unknown option --%s", name);
}

bool args_parse(const struct arg_set *sets, size_t set_count, int argc, char **argv, bool stop_at_operand, bool fresh,
                int *operands, char *error, size_t error_bytes)
{
    struct parse p = {.error = error, .error_bytes = error_bytes};
    snprintf(p.shorts, sizeof p.shorts, "%s", stop_at_operand ? "+:" : ":");
    for (size_t i = 0; i < set_count; i++)
        parse_add(&p, &sets[i]);
    for (size_t i = 0; fresh && i < p.count; i++) {
        if (p.options[i]->fallback && !set_option(&p, i, p.options[i]->fallback, false))
            return false;
    }
    optind = 0; /* glibc: begin anew */
    opterr = 0;
    for (;;) {
        int value = getopt_long(argc, argv, p.shorts, p.longs, NULL);
        if (value == -1)
            break;
        if (value == '?' || value == ':')
            return parse_refuse(&p, value, argv[optind - 1]);
        size_t index = value >= LONG_OPTION_BASE ? (size_t)(value - LONG_OPTION_BASE) : find_letter(&p, value);
        if (!set_option(&p, index, optarg, true))
            return false;
    }
    *operands = optind;
    return true;
}

static bool is_hidden(const struct arg_option *o, const struct arg_option *hiding)
{
    for (; hiding && hiding->name; hiding++) {
        if (strcmp(hiding->name, o->name) == 0)
            return true;
    }
    return false;
}

void args_print_help(FILE *out, const struct arg_option *options, const struct arg_option *hiding)
{
    for (const struct arg_option *o = options; o && o->name; o++) {
        if (is_hidden(o, hiding))
            continue;
        char left[80], letter[6] = "    ";
        if (o->letter)
            snprintf(letter, sizeof letter, "-%c, ", o->letter);
        snprintf(left, sizeof left, "%s--%s%s%s", letter, o->name, o->value ? " " : "", o->value ? o->value : "");
        if (strlen(left) > 28)
            fprintf(out, "  %s\n  %-28s", left, "");
        else
            fprintf(out, "  %-28s", left);
        fprintf(out, "  %s", o->help);
        if (o->fallback)
            fprintf(out, " (default %s)", o->fallback);
        fputc('\n', out);
    }
}

#define NAME_MAX_COMPARED 40 /* longer names are compared by their beginnings */

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Optimal string alignment: Levenshtein's distance, where two neighbours exchanged count as one step. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t d[NAME_MAX_COMPARED + 1][NAME_MAX_COMPARED + 1];
    size_t rows = strnlen(a, NAME_MAX_COMPARED), columns = strnlen(b, NAME_MAX_COMPARED);
    for (size_t i = 0; i <= rows; i++) {
        for (size_t j = 0; j <= columns; j++) {
            if (i == 0 || j == 0) {
                d[i][j] = i + j;
                continue;
            }
            size_t change = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            d[i][j] = smaller(change, smaller(d[i - 1][j], d[i][j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                d[i][j] = smaller(d[i][j], d[i - 2][j - 2] + 1);
        }
    }
    return d[rows][columns];
}

const char *args_nearest(const char *name, const char *const *names, size_t count)
{
    const char *nearest = NULL;
    size_t limit = strlen(name) < 4 ? 1 : strlen(name) / 3 + 1;
    size_t best = limit + 1;
    for (size_t i = 0; i < count; i++) {
        size_t distance = edit_distance(name, names[i]);
        if (distance < best) {
            best = distance;
            nearest = names[i];
        }
    }
    return nearest;
}
