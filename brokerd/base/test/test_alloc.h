/* Allocations of the room under test can be made to fail: a test that links `test_alloc` has the linker lead them here
   (--wrap). */
#ifndef BASE_TEST_ALLOC_H
#define BASE_TEST_ALLOC_H

#include <stddef.h>
#include <stdint.h>

extern uint64_t test_alloc_calls;   /* so far; not counted while none is to fail */
extern uint64_t test_alloc_fail_at; /* this one fails; 0: none */

/* malloc as the linker leads it, for libraries that are told which to use. */
void *test_alloc_malloc(size_t n);

/* The test's own go around. */
void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__real_aligned_alloc(size_t alignment, size_t n);
char *__real_strdup(const char *s);

#endif
