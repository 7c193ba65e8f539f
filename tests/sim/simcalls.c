/* The calls of the simulated disk: where they fail, where the power goes, and what they change. */
#include "simdisk.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct file {
    struct simdisk *disk;
    struct disk_inode *inode;
};

static void *must(void *p)
{
    if (!p)
        abort(); /* a test without memory has nothing to say */
    return p;
}

/* ---- the calls -------------------------------------------------------------------------------------------------------- */

/* Before a call: 0, or why it fails. */
static int call_begin(struct simdisk *d, enum disk_call call)
{
    if (d->frozen)
        return EIO;
    if (call == DISK_CALL_NONE || d->fault.call != call)
        return 0;
    if (d->fault.nth > 1) {
        d->fault.nth--;
        return 0;
    }
    d->faults_hit++;
    if (!d->fault.stays)
        d->fault.call = DISK_CALL_NONE;
    return d->fault.error;
}

static const char *inode_name(const struct simdisk *d, const struct disk_inode *n)
{
    for (uint32_t i = 0; i < d->current.count; i++) {
        if (d->current.entries[i].inode == n)
            return d->current.entries[i].name;
    }
    return "(no name)";
}

static void trace_file(const struct simdisk *d, const char *what, const struct disk_inode *n, uint64_t offset,
                       uint64_t len)
{
    if (d->trace)
        printf("    disk %" PRIu64 ": %s %s %" PRIu64 "+%" PRIu64 "\n", d->changing_calls + 1, what, inode_name(d, n),
               offset, len);
}

static void trace_names(const struct simdisk *d, const char *what, const char *from, const char *to)
{
    if (d->trace)
        printf("    disk %" PRIu64 ": %s %s %s\n", d->changing_calls + 1, what, from, to);
}

/* After one that changed the disk: the power may go just now, and then nobody learns that the call had succeeded. */
static int call_end(struct simdisk *d)
{
    d->changing_calls++;
    if (d->cut_after != 0 && d->changing_calls >= d->cut_after) {
        d->frozen = true;
        return EIO;
    }
    return 0;
}

static int sim_open(void *disk, const char *name, bool create, struct file **out)
{
    struct simdisk *d = disk;
    const struct dir_entry *e = directory_find(&d->current, name);
    *out = NULL;
    int error = call_begin(d, !e && create ? DISK_CALL_CREATE : DISK_CALL_NONE);
    if (error)
        return error;
    if (!e && !create)
        return ENOENT;
    struct disk_inode *inode = e ? e->inode : inode_new(d);
    if (!e) {
        trace_names(d, "create", name, "");
        disk_change_name(d, NAME_SET, "", name, inode);
        error = call_end(d);
        if (error)
            return error;
    }
    struct file *f = must(calloc(1, sizeof(*f)));
    *f = (struct file){d, inode};
    inode->handles++;
    *out = f;
    return 0;
}

static void sim_close(void *disk, struct file *f)
{
    f->inode->handles--;
    free(f);
}

static int sim_size(void *disk, struct file *f, uint64_t *size)
{
    int error = call_begin(disk, DISK_CALL_NONE);
    *size = error ? 0 : f->inode->size;
    return error;
}

static int sim_read(void *disk, struct file *f, uint64_t offset, void *bytes, size_t n, size_t *got)
{
    int error = call_begin(disk, DISK_CALL_READ);
    *got = 0;
    if (error)
        return error;
    if (offset >= f->inode->size)
        return 0;
    if (n > f->inode->size - offset)
        n = f->inode->size - offset;
    struct blob *b = inode_content(f->inode);
    uint64_t stored = !b || offset >= b->cap ? 0 : b->cap - offset;
    if (stored > n)
        stored = n;
    if (stored)
        memcpy(bytes, b->bytes + offset, stored);
    memset((uint8_t *)bytes + stored, 0, n - stored);
    *got = n;
    return 0;
}

static int sim_write(void *disk, struct file *f, uint64_t offset, const void *bytes, size_t n)
{
    struct simdisk *d = disk;
    int error = call_begin(d, DISK_CALL_WRITE);
    if (error)
        return error;
    if (d->cut_after != 0 && d->changing_calls + 1 >= d->cut_after && d->cut_bytes != 0 && d->cut_bytes < n)
        n = d->cut_bytes;
    uint64_t size = offset + n > f->inode->size ? offset + n : f->inode->size;
    if (!disk_has_room(d, f->inode, size))
        return ENOSPC;
    trace_file(d, "write", f->inode, offset, n);
    struct pending p = {PENDING_WRITE, offset, n, must(malloc(n ? n : 1)), size};
    memcpy(p.bytes, bytes, n);
    inode_change(f->inode, p);
    return call_end(d);
}

static int set_size(struct simdisk *d, struct file *f, uint64_t size)
{
    if (!disk_has_room(d, f->inode, size))
        return ENOSPC;
    trace_file(d, "set size", f->inode, 0, size);
    inode_change(f->inode, (struct pending){.kind = PENDING_SIZE, .size = size});
    return call_end(d);
}

static int sim_allocate(void *disk, struct file *f, uint64_t size)
{
    struct simdisk *d = disk;
    int error = call_begin(d, DISK_CALL_ALLOCATE);
    if (error || size <= f->inode->size)
        return error;
    return set_size(d, f, size);
}

static int sim_truncate(void *disk, struct file *f, uint64_t size)
{
    struct simdisk *d = disk;
    int error = call_begin(d, DISK_CALL_TRUNCATE);
    return error ? error : set_size(d, f, size);
}

static int sim_sync(void *disk, struct file *f)
{
    struct simdisk *d = disk;
    int error = call_begin(d, DISK_CALL_SYNC);
    if (error && !d->frozen && d->failed_sync_drops)
        inode_drop(f->inode);
    if (error)
        return error;
    trace_file(d, "sync", f->inode, 0, f->inode->size);
    if (!d->plant_skip_sync)
        inode_sync(f->inode);
    return call_end(d);
}

static int sim_rename(void *disk, const char *from, const char *to)
{
    struct simdisk *d = disk;
    int error = call_begin(d, DISK_CALL_RENAME);
    if (error)
        return error;
    if (!directory_find(&d->current, from))
        return ENOENT;
    trace_names(d, "rename", from, to);
    disk_change_name(d, NAME_RENAME, from, to, NULL);
    return call_end(d);
}

static int sim_remove(void *disk, const char *name)
{
    struct simdisk *d = disk;
    int error = call_begin(d, DISK_CALL_REMOVE);
    if (error)
        return error;
    if (!directory_find(&d->current, name))
        return ENOENT;
    trace_names(d, "remove", name, "");
    disk_change_name(d, NAME_REMOVE, name, "", NULL);
    return call_end(d);
}

static int sim_link(void *disk, const char *from, const char *to)
{
    struct simdisk *d = disk;
    int error = call_begin(d, DISK_CALL_LINK);
    if (error)
        return error;
    const struct dir_entry *e = directory_find(&d->current, from);
    if (!e)
        return ENOENT;
    if (directory_find(&d->current, to))
        return EEXIST;
    trace_names(d, "link", from, to);
    disk_change_name(d, NAME_SET, "", to, e->inode);
    return call_end(d);
}

static int sim_sync_dir(void *disk)
{
    struct simdisk *d = disk;
    int error = call_begin(d, DISK_CALL_SYNC_DIR);
    if (error)
        return error;
    trace_names(d, "sync_dir", "", "");
    directory_copy(&d->synced, &d->current);
    d->change_count = 0;
    disk_collect(d);
    return call_end(d);
}

static int sim_list(void *disk, void (*fn)(void *arg, const char *name), void *arg)
{
    struct simdisk *d = disk;
    int error = call_begin(d, DISK_CALL_NONE);
    if (error)
        return error;
    for (uint32_t i = 0; i < d->current.count; i++)
        fn(arg, d->current.entries[i].name);
    return 0;
}

static int sim_free_bytes(void *disk, uint64_t *bytes)
{
    struct simdisk *d = disk;
    int error = call_begin(d, DISK_CALL_NONE);
    uint64_t used = simdisk_used(d);
    *bytes = d->capacity == 0 ? UINT64_MAX / 2 : d->capacity > used ? d->capacity - used : 0;
    return error;
}

static int sim_lock(void *disk)
{
    struct simdisk *d = disk;
    int error = call_begin(d, DISK_CALL_NONE);
    if (error)
        return error;
    if (d->locked)
        return EWOULDBLOCK;
    d->locked = true;
    return 0;
}

const struct disk_ops simdisk_ops = {
    .open = sim_open,
    .close = sim_close,
    .size = sim_size,
    .read = sim_read,
    .write = sim_write,
    .allocate = sim_allocate,
    .truncate = sim_truncate,
    .sync = sim_sync,
    .rename = sim_rename,
    .remove = sim_remove,
    .link = sim_link,
    .sync_dir = sim_sync_dir,
    .list = sim_list,
    .free_bytes = sim_free_bytes,
    .lock = sim_lock,
};

bool simdisk_is_durable(const struct file *f, uint64_t offset, uint64_t len)
{
    const struct disk_inode *n = f->inode;
    if (offset + len > n->synced_size)
        return false;
    for (uint32_t i = 0; i < n->pending_count; i++) {
        const struct pending *p = &n->pending[i];
        if (p->kind == PENDING_WRITE ? p->offset < offset + len && offset < p->offset + p->len : p->size < offset + len)
            return false;
    }
    for (uint32_t i = 0; i < f->disk->synced.count; i++) {
        const struct dir_entry *e = &f->disk->synced.entries[i];
        const struct dir_entry *now = e->inode == n ? directory_find(&f->disk->current, e->name) : NULL;
        if (now && now->inode == n)
            return true;
    }
    return false; /* its name may be lost */
}
