/* How far one word is from another: for telling which one was meant. */
#ifndef BASE_DISTANCE_H
#define BASE_DISTANCE_H

#include <stdbool.h>
#include <stddef.h>

enum { EDIT_DISTANCE_BYTES = 64 };
/* How many letters must be added, dropped or changed (Levenshtein; by rows, Wagner and Fischer 1974); without regard to the
   case of A-Z if `fold`. UINT_MAX: one of them is longer than EDIT_DISTANCE_BYTES, and like nothing. */
unsigned edit_distance(const char *a, size_t a_len, const char *b, size_t b_len, bool fold);

#endif
