/*
 * Owns:            what the process asks of the system for itself: descriptors, its size, small files for scripts.
 * May use:         base.
 * Never knows:     any other room.
 * Start reading anywhere: three functions.
 */
#ifndef PROCESS_H
#define PROCESS_H

#include <stdbool.h>
#include <stdint.h>

/* Raise the limit of open files for so many connections, as far as the system lets us; warns if that is not enough. */
void process_raise_descriptors(uint64_t connections);
uint64_t process_resident_bytes(void); /* 0: unknown */
/* The whole text or nothing is seen under that name. path NULL: nothing to do. false: the reason is logged. */
bool process_write_file(const char *path, const char *text);

#endif
