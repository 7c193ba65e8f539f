#include "test_alloc.h"

#include <stdbool.h>

uint64_t test_alloc_calls, test_alloc_fail_at;

void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_aligned_alloc(size_t alignment, size_t n);
char *__wrap_strdup(const char *s);

static bool fails(void)
{
    return test_alloc_fail_at && ++test_alloc_calls == test_alloc_fail_at;
}

void *test_alloc_malloc(size_t n)
{
    return fails() ? NULL : __real_malloc(n);
}

void *__wrap_malloc(size_t n)
{
    return test_alloc_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
    return fails() ? NULL : __real_realloc(p, n);
}

void *__wrap_aligned_alloc(size_t alignment, size_t n)
{
    return fails() ? NULL : __real_aligned_alloc(alignment, n);
}

char *__wrap_strdup(const char *s)
{
    return fails() ? NULL : __real_strdup(s);
}
