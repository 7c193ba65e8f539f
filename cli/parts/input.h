/*
 * Owns:            cutting what a descriptor gives into messages: lines, NUL-separated pieces, or all of it.
 * May use:         libc.
 * Never knows:     the broker.
 * Start reading at input_next.
 */
#ifndef CLI_INPUT_H
#define CLI_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum input_mode { INPUT_LINES, INPUT_NULL, INPUT_WHOLE };

enum input_state {
    INPUT_MESSAGE,  /* one is there */
    INPUT_HUNGRY,   /* input_fill first */
    INPUT_END,      /* no more */
    INPUT_TOO_LONG, /* the next message is over the limit */
};

struct input {
    int fd;
    enum input_mode mode;
    size_t max_bytes; /* of one message */
    char *bytes;
    size_t capacity, start, end, scanned; /* start..end is unread; no delimiter up to `scanned` */
    uint64_t total;                       /* bytes read */
    bool ended;
};

/* input_init: false: out of memory. The descriptor stays the caller's. */
bool input_init(struct input *in, int fd, enum input_mode mode, size_t max_bytes);
void input_release(struct input *in);
/*
 * input_next: the next message, valid until input_fill; input_take goes past it. A delimiter ends a message and is
 * not part of it; what stands after the last one is a message too, unless it is empty. WHOLE: one message, also of
 * nothing.
 */
enum input_state input_next(struct input *in, const char **message, size_t *len);
void input_take(struct input *in);
/* input_fill: one read. false with errno: it failed (EAGAIN: nothing there). */
bool input_fill(struct input *in);

#endif
