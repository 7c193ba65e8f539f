#include "memory_disk.h"

#include <errno.h>

#include "fuzz.h"

static struct file *find(struct memory_disk *d, const char *name)
{
    for (int i = 0; i < DISK_FILES; i++) {
        if (strcmp(d->files[i].name, name) == 0)
            return &d->files[i];
    }
    return NULL;
}

static int resize(struct memory_disk *d, struct file *f, uint64_t size)
{
    if (size > f->size && d->used + (size - f->size) > DISK_BYTES_MAX)
        return ENOSPC;
    uint8_t *bytes = realloc(f->bytes, size ? size : 1);
    if (!bytes)
        abort();
    if (size > f->size)
        memset(bytes + f->size, 0, size - f->size);
    d->used = d->used - f->size + size;
    f->bytes = bytes;
    f->size = size;
    return 0;
}

static int disk_open(void *disk, const char *name, bool create, struct file **out)
{
    struct file *f = find(disk, name);

    CHECK(strlen(name) > 0);
    if (!f && create && (f = find(disk, ""))) {
        if (strlen(name) >= sizeof(f->name))
            return ENAMETOOLONG;
        memcpy(f->name, name, strlen(name) + 1);
    }
    if (!f)
        return create ? ENOSPC : ENOENT;
    f->open++;
    *out = f;
    return 0;
}

static void disk_close(void *disk, struct file *f)
{
    CHECK(f->open > 0);
    f->open--;
}

static int disk_size(void *disk, struct file *f, uint64_t *size)
{
    *size = f->size;
    return 0;
}

static int disk_read(void *disk, struct file *f, uint64_t offset, void *bytes, size_t n, size_t *got)
{
    *got = offset >= f->size ? 0 : (n < f->size - offset ? n : (size_t)(f->size - offset));
    if (*got > 0)
        memcpy(bytes, f->bytes + offset, *got);
    return 0;
}

static int disk_write(void *disk, struct file *f, uint64_t offset, const void *bytes, size_t n)
{
    int error = offset + n > f->size ? resize(disk, f, offset + n) : 0;

    if (error == 0 && n > 0)
        memcpy(f->bytes + offset, bytes, n);
    return error;
}

static int disk_allocate(void *disk, struct file *f, uint64_t size)
{
    return size > f->size ? resize(disk, f, size) : 0;
}

static int disk_truncate(void *disk, struct file *f, uint64_t size)
{
    return resize(disk, f, size);
}

static int disk_sync(void *disk, struct file *f)
{
    return 0;
}

static int disk_remove(void *disk, const char *name)
{
    struct file *f = find(disk, name);

    if (!f)
        return ENOENT;
    resize(disk, f, 0);
    f->name[0] = '\0';
    return 0;
}

static int disk_rename(void *disk, const char *from, const char *to)
{
    struct file *f = find(disk, from);

    if (!f || strlen(to) >= sizeof(f->name))
        return f ? ENAMETOOLONG : ENOENT;
    disk_remove(disk, to);
    memcpy(f->name, to, strlen(to) + 1);
    return 0;
}

static int disk_link(void *disk, const char *from, const char *to)
{
    return ENOTSUP;
}

static int disk_sync_dir(void *disk)
{
    return 0;
}

static int disk_list(void *disk, void (*fn)(void *arg, const char *name), void *arg)
{
    struct memory_disk *d = disk;

    for (int i = 0; i < DISK_FILES; i++) {
        if (d->files[i].name[0] && !strchr(d->files[i].name, '/'))
            fn(arg, d->files[i].name);
    }
    return 0;
}

static int disk_free_bytes(void *disk, uint64_t *bytes)
{
    *bytes = DISK_BYTES_MAX - ((struct memory_disk *)disk)->used;
    return 0;
}

static int disk_lock(void *disk)
{
    return 0;
}

const struct disk_ops memory_disk_ops = {
    .open = disk_open,
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
    .lock = disk_lock,
};

static void submit_write(void *writer, struct log_write *w)
{
    struct memory_disk *d = writer;

    w->next = NULL;
    *d->writes_end = w;
    d->writes_end = &w->next;
}

static void submit_job(void *workers, struct job *j)
{
    struct memory_disk *d = workers;

    j->next = NULL;
    *d->jobs_end = j;
    d->jobs_end = &j->next;
}

const struct log_writer_ops memory_writer_ops = {submit_write};
const struct worker_ops memory_worker_ops = {submit_job};

void memory_disk_init(struct memory_disk *d)
{
    memset(d, 0, sizeof(*d));
    d->writes_end = &d->writes;
    d->jobs_end = &d->jobs;
}

void memory_disk_release(struct memory_disk *d)
{
    for (int i = 0; i < DISK_FILES; i++)
        free(d->files[i].bytes);
    memory_disk_init(d);
}

void memory_disk_copy(struct memory_disk *to, const struct memory_disk *from)
{
    for (int i = 0; i < DISK_FILES; i++) {
        if (!from->files[i].name[0])
            continue;
        memcpy(to->files[i].name, from->files[i].name, DISK_NAME);
        if (resize(to, &to->files[i], from->files[i].size) != 0)
            abort();
        memcpy(to->files[i].bytes, from->files[i].bytes, from->files[i].size);
    }
}

void memory_disk_work(struct memory_disk *d, struct store *s, struct now now)
{
    while (d->writes || d->jobs) {
        uint64_t index = 0, bytes = 0;
        int error = 0;
        for (; d->writes && error == 0; d->writes = d->writes->next) {
            error = disk_write(d, d->writes->file, d->writes->offset, d->writes->bytes, d->writes->len);
            index = error == 0 ? d->writes->index : index;
            bytes += d->writes->len;
        }
        d->writes = NULL;
        d->writes_end = &d->writes;
        if (bytes > 0)
            store_written(s, now, index, index, bytes, 1, error);
        struct job *jobs = d->jobs;
        d->jobs = NULL;
        d->jobs_end = &d->jobs;
        while (jobs) {
            struct job *j = jobs;
            jobs = j->next;
            j->run(j);
            j->done(j);
        }
    }
}
