#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "service.h"

void service_notify(const char *state)
{
    sd_notify(0, state);
}

uint64_t service_watchdog_ms(void)
{
    uint64_t us = 0;
    return sd_watchdog_enabled(0, &us) > 0 ? us / 1000 : 0;
}

static char **socket_names; /* the process's, like the sockets */
static int socket_count;

int service_sockets(int *first)
{
    int n = socket_count = sd_listen_fds_with_names(1, &socket_names);
    *first = SD_LISTEN_FDS_START;
    return n > 0 ? n : 0;
}

const char *service_socket_name(int i)
{
    return i < socket_count && socket_names ? socket_names[i] : "";
}

/* JOURNAL_STREAM names device and inode of the stream (systemd.exec(5)). */
int service_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device, inode;
    struct stat st;
    return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 && fstat(STDERR_FILENO, &st) == 0 &&
           st.st_dev == device && st.st_ino == inode;
}
