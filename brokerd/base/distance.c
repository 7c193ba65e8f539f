#include "distance.h"

#include <limits.h>

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

static bool same(char a, char b, bool fold)
{
    return a == b || (fold && lower(a) == lower(b));
}

unsigned edit_distance(const char *a, size_t a_len, const char *b, size_t b_len, bool fold)
{
    unsigned row[EDIT_DISTANCE_BYTES + 1];
    if (a_len > EDIT_DISTANCE_BYTES || b_len > EDIT_DISTANCE_BYTES)
        return UINT_MAX;
    for (unsigned j = 0; j <= b_len; j++)
        row[j] = j;
    for (unsigned i = 1; i <= a_len; i++) {
        unsigned diagonal = row[0];
        row[0] = i;
        for (unsigned j = 1; j <= b_len; j++) {
            unsigned change = diagonal + !same(a[i - 1], b[j - 1], fold);
            unsigned other = 1 + (row[j] < row[j - 1] ? row[j] : row[j - 1]);
            diagonal = row[j];
            row[j] = change < other ? change : other;
        }
    }
    return row[b_len];
}
