/*
 * Owns:            running a command with bytes on its standard input and its standard output gathered.
 * May use:         json (the growing buffer), libc.
 * Never knows:     the broker.
 * Start reading at child_start.
 */
#ifndef CLI_CHILD_H
#define CLI_CHILD_H

#include "json.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct child {
    pid_t pid;
    int in, out; /* our ends, non-blocking; -1: closed */
    const char *input;
    size_t input_left;
    struct text output;
    size_t output_max;
    bool too_long; /* it wrote more than that; the rest was thrown away */
};

/* child_start: argv NULL-terminated; `input` must stay until the end. false with errno: it could not be started. */
bool child_start(struct child *c, char *const *argv, const char *input, size_t len, size_t output_max);
/* child_turn: move bytes for at most wait_ms. false: its output has ended; child_end then. */
bool child_turn(struct child *c, int wait_ms);
/* child_end: wait for it and close. The exit status, or 128 + the signal. The output stays until child_release. */
int child_end(struct child *c);
void child_kill(struct child *c); /* SIGTERM; child_turn and child_end as usual */
void child_release(struct child *c);

#endif
