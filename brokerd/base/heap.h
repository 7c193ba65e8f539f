/* An intrusive binary min-heap of 64-bit keys: O(log n) push, remove and re-key, O(1) look at the least. Equal keys come
   out in no particular order; use distinct keys where order matters. */
#ifndef BASE_HEAP_H
#define BASE_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct heap_node {
    uint64_t key;
    size_t slot; /* 1-based place in the heap; 0: not in one */
};

struct heap {
    struct heap_node **nodes; /* owned array of borrowed nodes */
    size_t len, cap;
};

void heap_init(struct heap *h);
void heap_release(struct heap *h);                                 /* the nodes are the caller's */
bool heap_push(struct heap *h, struct heap_node *n, uint64_t key); /* false: no memory */
void heap_remove(struct heap *h, struct heap_node *n);             /* no-op if it is in none */
bool heap_set(struct heap *h, struct heap_node *n, uint64_t key);  /* push or re-key */
static inline struct heap_node *heap_min(const struct heap *h)
{
    return h->len ? h->nodes[0] : NULL;
}
static inline bool heap_has(const struct heap_node *n)
{
    return n->slot != 0;
}

#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

#endif
