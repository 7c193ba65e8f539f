#include "rfc3339.h"

#include <string.h>

/* Exactly `n` digits. */
static bool fixed(const char **p, const char *end, size_t n, uint64_t *value)
{
    *value = 0;
    for (; n > 0; n--, (*p)++) {
        if (*p == end || **p < '0' || **p > '9')
            return false;
        *value = *value * 10 + (uint64_t)(**p - '0');
    }
    return true;
}

static bool one_of(const char **p, const char *end, const char *set)
{
    if (*p == end || !strchr(set, **p) || **p == 0)
        return false;
    (*p)++;
    return true;
}

static uint64_t days_of_month(uint64_t year, uint64_t month)
{
    static const uint8_t DAYS[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return DAYS[month - 1] + (month == 2 && leap);
}

/* Days from 1970-01-01 (proleptic Gregorian), for years from 1970 on. */
static uint64_t days_since_1970(uint64_t year, uint64_t month, uint64_t day)
{
    uint64_t y = year - 1;
    uint64_t days = y * 365 + y / 4 - y / 100 + y / 400 - 719162;
    for (uint64_t m = 1; m < month; m++)
        days += days_of_month(year, m);
    return days + day - 1;
}

bool rfc3339_parse(const char *text, size_t len, uint64_t *unix_ms)
{
    const char *p = text, *end = text + len;
    uint64_t year, month, day, hour, minute, second, ms = 0, off_hour = 0, off_minute = 0;
    if (!fixed(&p, end, 4, &year) || !one_of(&p, end, "-") || !fixed(&p, end, 2, &month) || !one_of(&p, end, "-") ||
        !fixed(&p, end, 2, &day) || !one_of(&p, end, "Tt ") || !fixed(&p, end, 2, &hour) || !one_of(&p, end, ":") ||
        !fixed(&p, end, 2, &minute) || !one_of(&p, end, ":") || !fixed(&p, end, 2, &second))
        return false;
    if (year < 1970 || month < 1 || month > 12 || day < 1 || day > days_of_month(year, month) || hour > 23 ||
        minute > 59 || second > 60)
        return false;
    if (one_of(&p, end, ".")) {
        unsigned weight = 100;
        const char *first = p;
        for (; p < end && *p >= '0' && *p <= '9'; p++, weight /= 10)
            ms += weight * (unsigned)(*p - '0');
        if (p == first)
            return false;
    }
    uint64_t at = ((days_since_1970(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    bool east = p < end && *p == '+';
    if (!one_of(&p, end, "Zz")) {
        if (!one_of(&p, end, "+-") || !fixed(&p, end, 2, &off_hour) || !one_of(&p, end, ":") ||
            !fixed(&p, end, 2, &off_minute) || off_hour > 23 || off_minute > 59)
            return false;
    }
    uint64_t offset = (off_hour * 60 + off_minute) * 60;
    if (p != end || (east && offset > at))
        return false;
    *unix_ms = (east ? at - offset : at + offset) * 1000 + ms;
    return true;
}
