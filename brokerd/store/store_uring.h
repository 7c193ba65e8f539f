/*
 * The other log writer: io_uring instead of a thread (see uring.c). Everything happens on the loop: watch store_uring_fd for
 * reading and call store_uring_collect when it is readable.
 */
#ifndef STORE_URING_H
#define STORE_URING_H

#include "store.h"

struct store_uring;
struct store_uring *store_uring_new(void); /* NULL: the system does not offer it, or no memory; errno says */
void store_uring_free(struct store_uring *u);
int store_uring_fd(const struct store_uring *u);
const struct log_writer_ops *store_uring_writer_ops(void); /* writer = the store_uring */
void store_uring_collect(struct store_uring *u, struct store *s, struct now now);

#endif
