#include "rig.h"

#include <assert.h>

static bool fails(struct test_disk *d, const char *call, int *error)
{
    if (d->frozen) {
        *error = EIO;
        return true;
    }
    d->calls++;
    if (d->fail_at && (d->calls == d->fail_at || (d->fail_stays && d->calls > d->fail_at))) {
        snprintf(d->failed_call, sizeof d->failed_call, "%s", call);
        *error = d->fail_error;
        return true;
    }
    return false;
}

struct test_file *test_disk_find(struct test_disk *d, const char *name)
{
    for (int i = 0; i < TEST_FILES_MAX; i++) {
        if (d->files[i].used && strcmp(d->files[i].name, name) == 0)
            return &d->files[i];
    }
    return NULL;
}

uint64_t test_disk_used(const struct test_disk *d)
{
    uint64_t bytes = 0;
    for (int i = 0; i < TEST_FILES_MAX; i++)
        bytes += d->files[i].used ? d->files[i].size : 0;
    return bytes;
}

static void reserve(struct test_file *f, uint64_t size)
{
    if (size <= f->cap)
        return;
    uint64_t cap = size + 4096;
    f->bytes = realloc(f->bytes, cap);
    f->synced = realloc(f->synced, cap);
    assert(f->bytes && f->synced);
    memset(f->bytes + f->cap, 0, cap - f->cap);
    memset(f->synced + f->cap, 0, cap - f->cap);
    f->cap = cap;
}

static void clear(struct test_file *f)
{
    free(f->bytes);
    free(f->synced);
    *f = (struct test_file){0};
}

static int disk_open(void *disk, const char *name, bool create, struct file **out)
{
    struct test_disk *d = disk;
    int error;
    *out = NULL;
    if (fails(d, "open", &error))
        return error;
    struct test_file *f = test_disk_find(d, name);
    if (!f && !create)
        return ENOENT;
    for (int i = 0; !f && i < TEST_FILES_MAX; i++) {
        if (!d->files[i].used) {
            f = &d->files[i];
            f->used = true;
            snprintf(f->name, sizeof f->name, "%s", name);
        }
    }
    assert(f);
    *out = malloc(sizeof **out);
    assert(*out);
    (*out)->f = f;
    d->open_files++;
    return 0;
}

static void disk_close(void *disk, struct file *f)
{
    ((struct test_disk *)disk)->open_files--;
    free(f);
}

static int disk_size(void *disk, struct file *f, uint64_t *size)
{
    int error;
    if (fails(disk, "size", &error))
        return error;
    *size = f->f->size;
    return 0;
}

static int disk_read(void *disk, struct file *f, uint64_t offset, void *bytes, size_t n, size_t *got)
{
    int error;
    *got = 0;
    if (fails(disk, "read", &error))
        return error;
    if (offset < f->f->size)
        *got = n < f->f->size - offset ? n : (size_t)(f->f->size - offset);
    memcpy(bytes, f->f->bytes + offset, *got);
    return 0;
}

static int grow(struct test_disk *d, struct test_file *f, uint64_t size)
{
    if (size <= f->size)
        return 0;
    if (d->capacity && test_disk_used(d) + (size - f->size) > d->capacity)
        return ENOSPC;
    reserve(f, size);
    f->size = size;
    return 0;
}

static int disk_write(void *disk, struct file *f, uint64_t offset, const void *bytes, size_t n)
{
    int error;
    if (fails(disk, "write", &error))
        return error;
    error = grow(disk, f->f, offset + n);
    if (!error)
        memcpy(f->f->bytes + offset, bytes, n);
    return error;
}

static int disk_allocate(void *disk, struct file *f, uint64_t size)
{
    int error;
    return fails(disk, "allocate", &error) ? error : grow(disk, f->f, size);
}

static int disk_truncate(void *disk, struct file *f, uint64_t size)
{
    int error;
    if (fails(disk, "truncate", &error))
        return error;
    if (size > f->f->size)
        return grow(disk, f->f, size);
    reserve(f->f, size + 1);
    memset(f->f->bytes + size, 0, f->f->cap - size);
    f->f->size = size;
    return 0;
}

static int disk_sync(void *disk, struct file *f)
{
    int error;
    if (fails(disk, "sync", &error))
        return error;
    reserve(f->f, 1);
    memcpy(f->f->synced, f->f->bytes, f->f->cap);
    f->f->synced_size = f->f->size;
    return 0;
}

static int disk_rename(void *disk, const char *from, const char *to)
{
    struct test_disk *d = disk;
    int error;
    if (fails(d, "rename", &error))
        return error;
    struct test_file *f = test_disk_find(d, from), *old = test_disk_find(d, to);
    if (!f)
        return ENOENT;
    if (old)
        clear(old);
    snprintf(f->name, sizeof f->name, "%s", to);
    return 0;
}

static int disk_remove(void *disk, const char *name)
{
    struct test_disk *d = disk;
    int error;
    if (fails(d, "remove", &error))
        return error;
    struct test_file *f = test_disk_find(d, name);
    if (!f)
        return ENOENT;
    clear(f);
    return 0;
}

static int disk_link(void *disk, const char *from, const char *to)
{
    return ENOTSUP;
}

static int disk_sync_dir(void *disk)
{
    int error;
    return fails(disk, "sync_dir", &error) ? error : 0;
}

static int disk_list(void *disk, void (*fn)(void *arg, const char *name), void *arg)
{
    struct test_disk *d = disk;
    int error;
    if (fails(d, "list", &error))
        return error;
    for (int i = 0; i < TEST_FILES_MAX; i++) {
        if (d->files[i].used)
            fn(arg, d->files[i].name);
    }
    return 0;
}

static int disk_free_bytes(void *disk, uint64_t *bytes)
{
    struct test_disk *d = disk;
    *bytes = d->capacity ? d->capacity - test_disk_used(d) : UINT64_MAX;
    return 0;
}

static int disk_lock(void *disk)
{
    int error;
    return fails(disk, "lock", &error) ? error : 0;
}

const struct disk_ops test_disk_ops = {.open = disk_open,
                                       .close = disk_close,
                                       .size = disk_size,
                                       .read = disk_read,
                                       .write = disk_write,
                                       .allocate = disk_allocate,
                                       .truncate = disk_truncate,
                                       .sync = disk_sync,
                                       .rename = disk_rename,
                                       .remove = disk_remove,
                                       .link = disk_link,
                                       .sync_dir = disk_sync_dir,
                                       .list = disk_list,
                                       .free_bytes = disk_free_bytes,
                                       .lock = disk_lock};

struct test_disk *test_disk_new(void)
{
    struct test_disk *d = calloc(1, sizeof *d);
    assert(d);
    return d;
}

void test_disk_free(struct test_disk *d)
{
    for (int i = 0; i < TEST_FILES_MAX; i++)
        clear(&d->files[i]);
    free(d);
}

struct test_disk *test_disk_copy(const struct test_disk *d)
{
    struct test_disk *c = test_disk_new();
    *c = *d;
    for (int i = 0; i < TEST_FILES_MAX; i++) {
        struct test_file *f = &c->files[i];
        if (!f->used || !f->cap) {
            f->bytes = f->synced = NULL;
            f->cap = 0;
            continue;
        }
        f->bytes = malloc(f->cap);
        f->synced = malloc(f->cap);
        assert(f->bytes && f->synced);
        memcpy(f->bytes, d->files[i].bytes, f->cap);
        memcpy(f->synced, d->files[i].synced, f->cap);
    }
    c->frozen = false;
    c->fail_at = c->calls = 0;
    c->open_files = 0;
    return c;
}

void test_disk_cut(struct test_disk *d, uint64_t keep)
{
    uint64_t seed = keep;
    for (int i = 0; i < TEST_FILES_MAX; i++) {
        struct test_file *f = &d->files[i];
        if (!f->used || !f->cap)
            continue;
        if (keep == 0)
            f->size = f->synced_size;
        for (uint64_t at = 0; at < f->cap; at += TEST_SECTOR) {
            uint64_t n = f->cap - at < TEST_SECTOR ? f->cap - at : TEST_SECTOR;
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            if (keep == 0 || (keep > 1 && (seed >> 40) % 2))
                memcpy(f->bytes + at, f->synced + at, n);
        }
        memcpy(f->synced, f->bytes, f->cap);
        f->synced_size = f->size;
    }
    d->frozen = false;
    d->fail_at = 0;
}
