/* Numbers with units, times and escapes as people type them. */
#include "args.h"

#include <ctype.h>
#include <inttypes.h>
#include <string.h>
#include <strings.h>
#include <time.h>

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit number_units[] = {{"", 1}, {"k", 1000}, {"M", 1000000}, {"G", 1000000000}, {NULL, 0}};
static const struct unit size_units[] = {{"", 1},           {"B", 1},
                                         {"k", 1ull << 10}, {"KiB", 1ull << 10},
                                         {"M", 1ull << 20}, {"MiB", 1ull << 20},
                                         {"G", 1ull << 30}, {"GiB", 1ull << 30},
                                         {"T", 1ull << 40}, {"TiB", 1ull << 40},
                                         {NULL, 0}};
static const struct unit duration_units[] = {{"", 1000},     {"ms", 1},      {"s", 1000},     {"m", 60000},
                                             {"min", 60000}, {"h", 3600000}, {"d", 86400000}, {NULL, 0}};

/* A decimal number with up to nine decimals, then a unit; the result is rounded down. */
static bool parse_with_unit(const char *text, const struct unit *units, uint64_t *out)
{
    if (!isdigit((unsigned char)text[0]))
        return false;
    uint64_t whole = 0;
    const char *p = text;
    for (; isdigit((unsigned char)*p); p++) {
        if (__builtin_mul_overflow(whole, 10u, &whole) || __builtin_add_overflow(whole, (uint64_t)(*p - '0'), &whole))
            return false;
    }
    uint64_t fraction = 0, scale = 1;
    if (*p == '.') {
        p++;
        if (!isdigit((unsigned char)*p))
            return false;
        for (; isdigit((unsigned char)*p); p++) {
            if (scale == 1000000000u)
                return false;
            fraction = fraction * 10 + (uint64_t)(*p - '0');
            scale *= 10;
        }
    }
    while (*p == ' ')
        p++; /* as in the daemon's configuration: "64 MiB" */
    for (const struct unit *u = units; u->name; u++) {
        if (strcasecmp(p, u->name) != 0)
            continue;
        unsigned __int128 value =
            (unsigned __int128)whole * u->factor + (unsigned __int128)fraction * u->factor / scale;
        if (value > UINT64_MAX)
            return false;
        *out = (uint64_t)value;
        return true;
    }
    return false;
}

bool args_number(const char *text, uint64_t *out)
{
    return parse_with_unit(text, number_units, out);
}

bool args_size(const char *text, uint64_t *bytes)
{
    return parse_with_unit(text, size_units, bytes);
}

bool args_duration(const char *text, uint64_t *ms)
{
    return parse_with_unit(text, duration_units, ms);
}

bool args_time(const char *text, uint64_t *unix_ms)
{
    struct tm tm = {0};
    const char *p = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
    if (!p)
        return false;
    uint64_t ms = 0;
    if (*p == '.') {
        uint64_t weight = 100;
        if (!isdigit((unsigned char)*++p))
            return false;
        for (; isdigit((unsigned char)*p); p++, weight /= 10)
            ms += (uint64_t)(*p - '0') * weight;
    }
    int64_t offset = 0;
    if (*p == 'Z' || *p == 'z') {
        p++;
    } else if (*p == '+' || *p == '-') {
        unsigned hours, minutes;
        int used = 0;
        if (sscanf(p + 1, "%2u:%2u%n", &hours, &minutes, &used) != 2 || used != 5 || hours > 23 || minutes > 59)
            return false;
        offset = (int64_t)(hours * 60 + minutes) * 60 * (*p == '-' ? -1 : 1);
        p += 1 + used;
    } else {
        return false;
    }
    int64_t seconds = (int64_t)timegm(&tm) - offset;
    if (*p != '\0' || seconds < 0)
        return false;
    *unix_ms = (uint64_t)seconds * 1000 + ms;
    return true;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)tolower((unsigned char)c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool args_unescape(char *text, size_t *len)
{
    static const char from[] = "ntr0\\", to[] = "\n\t\r\0\\";
    char *out = text;
    for (const char *p = text; *p; p++) {
        if (*p != '\\') {
            *out++ = *p;
            continue;
        }
        p++;
        if (*p == 'x') {
            int high = hex_digit(p[1]), low = high < 0 ? -1 : hex_digit(p[2]);
            if (low < 0)
                return false;
            *out++ = (char)(high << 4 | low);
            p += 2;
            continue;
        }
        const char *known = *p ? strchr(from, *p) : NULL;
        if (!known)
            return false;
        *out++ = to[known - from];
    }
    *len = (size_t)(out - text);
    return true;
}
