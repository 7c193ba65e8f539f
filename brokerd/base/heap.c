#include "heap.h"

#include <stdlib.h>

/* Slots are 1-based in the nodes (0 says "in no heap"), 0-based in the array. */
static void heap_place(struct heap *h, size_t i, struct heap_node *n)
{
    h->nodes[i] = n;
    n->slot = i + 1;
}

static void heap_sift_up(struct heap *h, size_t i, struct heap_node *n)
{
    while (i > 0) {
        size_t parent = (i - 1) / 2;
        if (h->nodes[parent]->key <= n->key)
            break;
        heap_place(h, i, h->nodes[parent]);
        i = parent;
    }
    heap_place(h, i, n);
}

static void heap_sift_down(struct heap *h, size_t i, struct heap_node *n)
{
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= h->len)
            break;
        if (child + 1 < h->len && h->nodes[child + 1]->key < h->nodes[child]->key)
            child++;
        if (n->key <= h->nodes[child]->key)
            break;
        heap_place(h, i, h->nodes[child]);
        i = child;
    }
    heap_place(h, i, n);
}

static void heap_settle(struct heap *h, size_t i, struct heap_node *n)
{
    if (i > 0 && n->key < h->nodes[(i - 1) / 2]->key)
        heap_sift_up(h, i, n);
    else
        heap_sift_down(h, i, n);
}

void heap_init(struct heap *h)
{
    *h = (struct heap){0};
}

void heap_release(struct heap *h)
{
    for (size_t i = 0; i < h->len; i++)
        h->nodes[i]->slot = 0;
    free(h->nodes);
    *h = (struct heap){0};
}

bool heap_push(struct heap *h, struct heap_node *n, uint64_t key)
{
    if (h->len == h->cap) {
        size_t cap = h->cap ? h->cap * 2 : 8;
        struct heap_node **nodes = realloc(h->nodes, cap * sizeof(*nodes));
        if (!nodes)
            return false;
        h->nodes = nodes;
        h->cap = cap;
    }
    n->key = key;
    heap_sift_up(h, h->len++, n);
    return true;
}

void heap_remove(struct heap *h, struct heap_node *n)
{
    if (!n->slot)
        return;
    size_t i = n->slot - 1;
    struct heap_node *last = h->nodes[--h->len];
    n->slot = 0;
    if (last != n)
        heap_settle(h, i, last);
}

bool heap_set(struct heap *h, struct heap_node *n, uint64_t key)
{
    if (!n->slot)
        return heap_push(h, n, key);
    n->key = key;
    heap_settle(h, n->slot - 1, n);
    return true;
}
