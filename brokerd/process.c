#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "log.h"

enum { SPARE_DESCRIPTORS = 64 }; /* for files and listeners, beside the connections' */

/* As many descriptors as the system lets us have; the soft limit is often 1024. */
void process_raise_descriptors(uint64_t connections)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    uint64_t want = connections + SPARE_DESCRIPTORS;
    if (limit.rlim_cur < want && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = want < limit.rlim_max ? want : limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
        getrlimit(RLIMIT_NOFILE, &limit);
    }
    if (limit.rlim_cur < want)
        log_warning("tcp.max_connections and http.max_connections are %llu together, but only %llu files may be open "
                    "(LimitNOFILE): later ones will be refused",
                    (unsigned long long)connections, (unsigned long long)limit.rlim_cur);
}

uint64_t process_resident_bytes(void)
{
    char text[128];
    unsigned long long total, resident = 0;
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = 0;
    if (sscanf(text, "%llu %llu", &total, &resident) != 2)
        resident = 0;
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Whole or not at all: whoever waits for the file reads all of it. */
bool process_write_file(const char *path, const char *text)
{
    char temporary[4096];
    if (!path)
        return true;
    if ((size_t)snprintf(temporary, sizeof(temporary), "%s.tmp", path) >= sizeof(temporary)) {
        log_error("the path of a file to write is longer than %zu bytes", sizeof(temporary) - 5);
        return false;
    }
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    size_t len = strlen(text);
    bool good = fd >= 0 && write(fd, text, len) == (ssize_t)len;
    if (fd >= 0)
        good = close(fd) == 0 && good;
    good = good && rename(temporary, path) == 0;
    if (!good)
        log_error("cannot write %s: %s", path, strerror(errno));
    return good;
}
