#ifndef STORE_TEST_ALLOC_H
#define STORE_TEST_ALLOC_H

#include <stddef.h>
#include <stdint.h>

extern uint64_t test_alloc_calls;   /* so far */
extern uint64_t test_alloc_fail_at; /* this one fails; 0: none */

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__real_aligned_alloc(size_t alignment, size_t n);

#endif
