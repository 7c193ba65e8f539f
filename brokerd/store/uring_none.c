/* Built without liburing: the log is written by a thread. */
#include <errno.h>
#include <stddef.h>

#include "store.h"

struct store_uring *store_uring_new(void)
{
    errno = ENOSYS;
    return NULL;
}

void store_uring_free(struct store_uring *u) {}

int store_uring_fd(const struct store_uring *u)
{
    return -1;
}

const struct log_writer_ops *store_uring_writer_ops(void)
{
    return NULL;
}

void store_uring_collect(struct store_uring *u, struct store *s, struct now now) {}
