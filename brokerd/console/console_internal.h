/* The page's files, as they lie in the program. */
#ifndef CONSOLE_INTERNAL_H
#define CONSOLE_INTERNAL_H

#include "console.h"

struct console_file {
    const char *name; /* below /ui/ */
    const char *type; /* Content-Type */
    const uint8_t *bytes, *end;
};

extern const struct console_file CONSOLE_FILES[]; /* the first is what /ui/ shows */
extern const size_t CONSOLE_FILE_COUNT;

#endif
