/* Points in time as text (RFC 3339 5.6). */
#ifndef BASE_RFC3339_H
#define BASE_RFC3339_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Unix milliseconds of "2027-01-31T12:00:00Z" and the like, from 1970 to 9999: with a fraction, whose digits beyond
   milliseconds are cut off, and any offset; a leap second is the one after it. false: it is no such text. */
bool rfc3339_parse(const char *text, size_t len, uint64_t *unix_ms);

#endif
