/*
 * Preloaded into the broker, makes its disk fail: FAIL_SYNC=N lets the first N fdatasync and fsync calls through and fails
 * every one after that with EIO, as a dying disk does.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

__attribute__((visibility("default"))) int fdatasync(int fd);
__attribute__((visibility("default"))) int fsync(int fd);

static int counted(const char *name, int fd)
{
    static _Atomic long calls;
    const char *limit = getenv("FAIL_SYNC");
    int (*real)(int);

    if (limit && atomic_fetch_add(&calls, 1) >= strtol(limit, NULL, 10)) {
        errno = EIO;
        return -1;
    }
    *(void **)&real = dlsym(RTLD_NEXT, name);
    return real(fd);
}

int fdatasync(int fd)
{
    return counted("fdatasync", fd);
}

int fsync(int fd)
{
    return counted("fsync", fd);
}
