#include "input.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FIRST_CAPACITY ((size_t)256 << 10)

bool input_init(struct input *in, int fd, enum input_mode mode, size_t max_bytes)
{
    *in = (struct input){.fd = fd, .mode = mode, .max_bytes = max_bytes, .capacity = FIRST_CAPACITY};
    in->bytes = malloc(in->capacity);
    return in->bytes != NULL;
}

void input_release(struct input *in)
{
    free(in->bytes);
    in->bytes = NULL;
}

static char *find_delimiter(struct input *in)
{
    if (in->mode == INPUT_WHOLE || in->scanned == in->end)
        return NULL;
    char *at = memchr(in->bytes + in->scanned, in->mode == INPUT_LINES ? '\n' : '\0', in->end - in->scanned);
    in->scanned = at ? (size_t)(at - in->bytes) : in->end;
    return at;
}

enum input_state input_next(struct input *in, const char **message, size_t *len)
{
    char *delimiter = find_delimiter(in);
    size_t available = (delimiter ? (size_t)(delimiter - in->bytes) : in->end) - in->start;
    if (available > in->max_bytes)
        return INPUT_TOO_LONG;
    if (!delimiter && !in->ended)
        return INPUT_HUNGRY;
    bool nothing_left = in->mode == INPUT_WHOLE ? in->start == SIZE_MAX : available == 0;
    if (!delimiter && nothing_left)
        return INPUT_END;
    *message = in->bytes + in->start;
    *len = available;
    return INPUT_MESSAGE;
}

void input_take(struct input *in)
{
    if (in->mode == INPUT_WHOLE) {
        in->start = in->end = SIZE_MAX; /* taken: also when it was empty */
        in->scanned = SIZE_MAX;
        return;
    }
    char *delimiter = find_delimiter(in);
    in->start = delimiter ? (size_t)(delimiter - in->bytes) + 1 : in->end;
    in->scanned = in->start;
}

bool input_fill(struct input *in)
{
    if (in->start > 0) {
        memmove(in->bytes, in->bytes + in->start, in->end - in->start);
        in->scanned -= in->start;
        in->end -= in->start;
        in->start = 0;
    }
    if (in->end == in->capacity) {
        /* Never above the limit and one delimiter by more than the doubling: TOO_LONG comes first. */
        char *bytes = realloc(in->bytes, in->capacity * 2);
        if (!bytes)
            return false;
        in->bytes = bytes;
        in->capacity *= 2;
    }
    ssize_t n;
    do
        n = read(in->fd, in->bytes + in->end, in->capacity - in->end);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return false;
    in->ended = n == 0;
    in->end += (size_t)n;
    in->total += (uint64_t)n;
    return true;
}
