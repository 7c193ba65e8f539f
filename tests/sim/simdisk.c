#include "simdisk.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static void *must(void *p)
{
    if (!p)
        abort(); /* a test without memory has nothing to say */
    return p;
}

/* ---- contents --------------------------------------------------------------------------------------------------------- */

struct blob *blob_new(uint64_t cap)
{
    struct blob *b = must(calloc(1, sizeof(*b) + cap));
    b->refs = 1;
    b->cap = cap;
    return b;
}

struct blob *blob_ref(struct blob *b)
{
    if (b)
        b->refs++;
    return b;
}

void blob_unref(struct blob *b)
{
    if (b && --b->refs == 0)
        free(b);
}

void blob_own(struct blob **b, uint64_t cap)
{
    struct blob *old = *b;
    if (old && old->refs == 1 && old->cap >= cap) {
        old->hashed = false;
        return;
    }
    uint64_t old_cap = old ? old->cap : 0;
    uint64_t want = cap > old_cap ? cap : old_cap;
    struct blob *own = blob_new(want);
    if (old)
        memcpy(own->bytes, old->bytes, old_cap);
    blob_unref(old);
    *b = own;
}

void pending_apply(struct blob **b, uint64_t *size, const struct pending *p)
{
    if (p->kind == PENDING_WRITE) {
        blob_own(b, p->offset + p->len);
        memcpy((*b)->bytes + p->offset, p->bytes, p->len);
    } else if (*b && p->size < (*b)->cap) {
        blob_own(b, 0); /* what was cut off reads as zero if the file grows again */
        memset((*b)->bytes + p->size, 0, (*b)->cap - p->size);
    }
    *size = p->size;
}

struct disk_inode *inode_new(struct simdisk *d)
{
    struct disk_inode *n = must(calloc(1, sizeof(*n)));
    n->next = d->inodes;
    d->inodes = n;
    return n;
}

static void inode_forget_pending(struct disk_inode *n)
{
    for (uint32_t i = 0; i < n->pending_count; i++)
        free(n->pending[i].bytes);
    n->pending_count = 0;
}

static void inode_free(struct disk_inode *n)
{
    inode_forget_pending(n);
    free(n->pending);
    blob_unref(n->synced);
    blob_unref(n->current);
    free(n);
}

struct blob *inode_content(struct disk_inode *n)
{
    return n->current ? n->current : n->synced;
}

void inode_change(struct disk_inode *n, struct pending p)
{
    if (!n->current)
        n->current = blob_ref(n->synced);
    pending_apply(&n->current, &n->size, &p);
    if (n->pending_count == n->pending_cap) {
        n->pending_cap = n->pending_cap ? n->pending_cap * 2 : 8;
        n->pending = must(realloc(n->pending, n->pending_cap * sizeof(*n->pending)));
    }
    n->pending[n->pending_count++] = p;
}

void inode_sync(struct disk_inode *n)
{
    for (uint32_t i = 0; i < n->pending_count; i++)
        pending_apply(&n->synced, &n->synced_size, &n->pending[i]);
    inode_forget_pending(n);
    n->synced_size = n->size; /* a size that a failed sync dropped is in the journal by now */
}

/* What was to be synced is lost, and seems to be there. */
void inode_drop(struct disk_inode *n)
{
    if (!n->current)
        return;
    n->synced_size = n->size;
    inode_forget_pending(n);
}

/* ---- the directory ---------------------------------------------------------------------------------------------------- */

const struct dir_entry *directory_find(const struct directory *dir, const char *name)
{
    for (uint32_t i = 0; i < dir->count; i++) {
        if (strcmp(dir->entries[i].name, name) == 0)
            return &dir->entries[i];
    }
    return NULL;
}

static void name_copy(char to[DISK_NAME_BYTES], const char *from)
{
    size_t len = strlen(from);
    assert(len < DISK_NAME_BYTES);
    memcpy(to, from, len + 1);
}

static void directory_set(struct directory *dir, const char *name, struct disk_inode *inode)
{
    struct dir_entry *e = (struct dir_entry *)directory_find(dir, name);
    if (!e) {
        assert(dir->count < DISK_FILES_MAX);
        e = &dir->entries[dir->count++];
        name_copy(e->name, name);
    }
    e->inode = inode;
}

void directory_copy(struct directory *to, const struct directory *from)
{
    memcpy(to->entries, from->entries, from->count * sizeof(from->entries[0]));
    to->count = from->count;
}

static void directory_drop(struct directory *dir, const char *name)
{
    struct dir_entry *e = (struct dir_entry *)directory_find(dir, name);
    if (e)
        *e = dir->entries[--dir->count];
}

/* A change whose subject is not there (an earlier change was lost) does nothing. */
void directory_change(struct directory *dir, const struct name_change *c, struct disk_inode *inode)
{
    switch (c->kind) {
    case NAME_SET: directory_set(dir, c->to, inode); break;
    case NAME_REMOVE: directory_drop(dir, c->from); break;
    case NAME_RENAME: {
        const struct dir_entry *e = directory_find(dir, c->from);
        if (!e)
            break;
        struct disk_inode *moved = e->inode;
        directory_drop(dir, c->from);
        directory_set(dir, c->to, moved);
        break;
    }
    }
}

void disk_change_name(struct simdisk *d, enum name_change_kind kind, const char *from, const char *to,
                      struct disk_inode *inode)
{
    if (d->change_count == d->change_cap) {
        d->change_cap = d->change_cap ? d->change_cap * 2 : 8;
        d->changes = must(realloc(d->changes, d->change_cap * sizeof(*d->changes)));
    }
    struct name_change *c = &d->changes[d->change_count++];
    *c = (struct name_change){.kind = kind, .inode = inode};
    name_copy(c->from, from);
    name_copy(c->to, to);
    directory_change(&d->current, c, inode);
}

static bool directory_holds(const struct directory *dir, const struct disk_inode *n)
{
    for (uint32_t i = 0; i < dir->count; i++) {
        if (dir->entries[i].inode == n)
            return true;
    }
    return false;
}

/* Only with no change of names undecided: then what no name leads to, never comes back. */
void disk_collect(struct simdisk *d)
{
    struct disk_inode **p = &d->inodes;
    while (*p) {
        struct disk_inode *n = *p;
        if (n->handles == 0 && !directory_holds(&d->current, n)) {
            *p = n->next;
            inode_free(n);
        } else {
            p = &n->next;
        }
    }
}

uint64_t simdisk_used(const struct simdisk *d)
{
    uint64_t used = 0;
    for (const struct disk_inode *n = d->inodes; n; n = n->next) {
        if (n->handles > 0 || directory_holds(&d->current, n))
            used += n->size;
    }
    return used;
}

bool disk_has_room(const struct simdisk *d, const struct disk_inode *n, uint64_t size)
{
    return d->capacity == 0 || size <= n->size || simdisk_used(d) + (size - n->size) <= d->capacity;
}

/* ---- the disk --------------------------------------------------------------------------------------------------------- */

struct simdisk *simdisk_new(uint64_t capacity)
{
    struct simdisk *d = must(calloc(1, sizeof(*d)));
    d->capacity = capacity;
    return d;
}

void simdisk_clear(struct simdisk *d)
{
    while (d->inodes) {
        struct disk_inode *n = d->inodes;
        d->inodes = n->next;
        inode_free(n);
    }
    free(d->changes);
}

void simdisk_free(struct simdisk *d)
{
    if (!d)
        return;
    simdisk_clear(d);
    free(d);
}

void simdisk_process_gone(struct simdisk *d)
{
    for (struct disk_inode *n = d->inodes; n; n = n->next)
        assert(n->handles == 0); /* whoever played the process closes what it opened */
    d->locked = false;
    d->frozen = false;
    d->cut_after = d->cut_bytes = 0;
}

void simdisk_flip(struct disk_inode *n, uint64_t bit)
{
    struct blob **blobs[] = {&n->synced, &n->current};
    for (uint32_t i = 0; i < 2; i++) {
        if (i == 1 && !n->current)
            break;
        blob_own(blobs[i], bit / 8 + 1);
        (*blobs[i])->bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
}
