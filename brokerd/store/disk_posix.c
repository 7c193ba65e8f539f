/* struct disk_ops on a real directory. */
#include "disk_posix.h"
#include "store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

struct file {
    int fd;
    int direct;         /* -1: none */
    bool direct_is_set; /* tried */
};

int file_fd(const struct file *f)
{
    return f->fd;
}

int file_direct_fd(struct file *f)
{
    char path[32];
    if (f->direct_is_set)
        return f->direct;
    f->direct_is_set = true;
    snprintf(path, sizeof path, "/proc/self/fd/%d", f->fd);
    f->direct = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
    if (f->direct >=
        0) /* what was written ahead is on disk; pages in memory would only have to be dropped one by one */
        posix_fadvise(f->fd, 0, 0, POSIX_FADV_DONTNEED);
    return f->direct;
}

void file_direct_drop(struct file *f)
{
    if (f->direct >= 0)
        close(f->direct);
    f->direct = -1;
}

struct posix_disk {
    int dir;
    int lock; /* -1: not locked */
};

static int posix_open(void *disk, const char *name, bool create, struct file **out)
{
    struct posix_disk *d = disk;
    struct file *f = malloc(sizeof *f);
    *out = NULL;
    if (!f)
        return ENOMEM;
    f->direct = -1;
    f->direct_is_set = false;
    do
        f->fd = openat(d->dir, name, O_RDWR | O_CLOEXEC | (create ? O_CREAT : 0), 0600);
    while (f->fd < 0 && errno == EINTR);
    if (f->fd < 0) {
        int error = errno;
        free(f);
        return error;
    }
    *out = f;
    return 0;
}

static void posix_close(void *disk, struct file *f)
{
    close(f->fd);
    if (f->direct >= 0)
        close(f->direct);
    free(f);
}

static int posix_size(void *disk, struct file *f, uint64_t *size)
{
    struct stat st;
    if (fstat(f->fd, &st) < 0)
        return errno;
    *size = (uint64_t)st.st_size;
    return 0;
}

static int posix_read(void *disk, struct file *f, uint64_t offset, void *bytes, size_t n, size_t *got)
{
    *got = 0;
    while (*got < n) {
        ssize_t r = pread(f->fd, (uint8_t *)bytes + *got, n - *got, (off_t)(offset + *got));
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return errno;
        if (r == 0)
            return 0;
        *got += (size_t)r;
    }
    return 0;
}

static int posix_write(void *disk, struct file *f, uint64_t offset, const void *bytes, size_t n)
{
    for (size_t put = 0; put < n;) {
        ssize_t r = pwrite(f->fd, (const uint8_t *)bytes + put, n - put, (off_t)(offset + put));
        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0)
            return r < 0 ? errno : EIO;
        put += (size_t)r;
    }
    return 0;
}

static int posix_truncate(void *disk, struct file *f, uint64_t size)
{
    return ftruncate(f->fd, (off_t)size) < 0 ? errno : 0;
}

static int posix_allocate(void *disk, struct file *f, uint64_t size)
{
    int error;
    do
        error = fallocate(f->fd, 0, 0, (off_t)size) < 0 ? errno : 0;
    while (error == EINTR);
    /* A file system that cannot reserve: the zeros that are written ahead do it. */
    return error == EOPNOTSUPP ? posix_truncate(disk, f, size) : error;
}

static int posix_sync(void *disk, struct file *f)
{
    return fdatasync(f->fd) < 0 ? errno : 0; /* never retried: the pages may be gone */
}

static int posix_rename(void *disk, const char *from, const char *to)
{
    struct posix_disk *d = disk;
    const char *slash = strchr(to, '/');
    if (slash) {
        char directory[NAME_MAX + 1];
        size_t n = (size_t)(slash - to);
        if (n > NAME_MAX)
            return ENAMETOOLONG;
        memcpy(directory, to, n);
        directory[n] = 0;
        if (mkdirat(d->dir, directory, 0700) < 0 && errno != EEXIST)
            return errno;
    }
    return renameat(d->dir, from, d->dir, to) < 0 ? errno : 0;
}

static int posix_remove(void *disk, const char *name)
{
    return unlinkat(((struct posix_disk *)disk)->dir, name, 0) < 0 ? errno : 0;
}

static int posix_link(void *disk, const char *from, const char *to)
{
    struct posix_disk *d = disk;
    return linkat(d->dir, from, d->dir, to, 0) < 0 ? errno : 0;
}

static int posix_sync_dir(void *disk)
{
    return fsync(((struct posix_disk *)disk)->dir) < 0 ? errno : 0;
}

static int posix_list(void *disk, void (*fn)(void *arg, const char *name), void *arg)
{
    int fd = openat(((struct posix_disk *)disk)->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        int error = errno;
        if (fd >= 0)
            close(fd);
        return error;
    }
    struct dirent *entry;
    errno = 0;
    while ((entry = readdir(dir))) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            fn(arg, entry->d_name);
        errno = 0;
    }
    int error = errno;
    closedir(dir);
    return error;
}

static int posix_free_bytes(void *disk, uint64_t *bytes)
{
    struct statvfs st;
    if (fstatvfs(((struct posix_disk *)disk)->dir, &st) < 0)
        return errno;
    *bytes = (uint64_t)st.f_bavail * st.f_frsize;
    return 0;
}

static int posix_lock(void *disk)
{
    struct posix_disk *d = disk;
    int fd = openat(d->dir, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return errno;
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        int error = errno;
        close(fd);
        return error;
    }
    d->lock = fd;
    return 0;
}

static const struct disk_ops posix_ops = {.open = posix_open,
                                          .close = posix_close,
                                          .size = posix_size,
                                          .read = posix_read,
                                          .write = posix_write,
                                          .allocate = posix_allocate,
                                          .truncate = posix_truncate,
                                          .sync = posix_sync,
                                          .rename = posix_rename,
                                          .remove = posix_remove,
                                          .link = posix_link,
                                          .sync_dir = posix_sync_dir,
                                          .list = posix_list,
                                          .free_bytes = posix_free_bytes,
                                          .lock = posix_lock};

/* A directory just made must itself survive a power cut. */
static void sync_parent(const char *path)
{
    char copy[PATH_MAX];
    size_t n = strlen(path);
    if (n >= sizeof copy)
        return;
    memcpy(copy, path, n + 1);
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
}

int disk_posix_open(const char *path, bool create, const struct disk_ops **ops, void **disk)
{
    *disk = NULL;
    if (create && mkdir(path, 0700) == 0)
        sync_parent(path);
    else if (create && errno != EEXIST)
        return errno;
    struct posix_disk *d = malloc(sizeof *d);
    if (!d)
        return ENOMEM;
    d->lock = -1;
    d->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (d->dir < 0) {
        int error = errno;
        free(d);
        return error;
    }
    *ops = &posix_ops;
    *disk = d;
    return 0;
}

void disk_posix_close(void *disk)
{
    struct posix_disk *d = disk;
    if (!d)
        return;
    if (d->lock >= 0)
        close(d->lock);
    close(d->dir);
    free(d);
}
