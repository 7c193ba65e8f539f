#include "machine.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

uint64_t machine_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t timeval_us(struct timeval t)
{
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_usec;
}

uint64_t machine_cpu_us(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return timeval_us(usage.ru_utime) + timeval_us(usage.ru_stime);
}

static uint64_t ticks_us(uint64_t ticks)
{
    return ticks * (1000000u / (uint64_t)sysconf(_SC_CLK_TCK));
}

/* proc(5), /proc/PID/stat: the command stands in parentheses and may hold anything, so count from the last one. */
uint64_t machine_process_cpu_us(pid_t pid)
{
    char path[64], line[1024] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "r");
    if (!f)
        return 0;
    const char *p = fgets(line, sizeof line, f) ? strrchr(line, ')') : NULL;
    fclose(f);
    uint64_t user, system;
    if (!p || sscanf(p + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %" SCNu64 " %" SCNu64, &user, &system) != 2)
        return 0;
    return ticks_us(user + system);
}

uint64_t machine_process_rss_bytes(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
    FILE *f = fopen(path, "r");
    if (!f)
        return 0;
    uint64_t pages = 0;
    if (fscanf(f, "%*u %" SCNu64, &pages) != 1)
        pages = 0;
    fclose(f);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

void machine_sample_take(struct machine_sample *s)
{
    *s = (struct machine_sample){.processors = (unsigned)sysconf(_SC_NPROCESSORS_ONLN)};
    uint64_t v[8] = {0}; /* user nice system idle iowait irq softirq steal */
    FILE *f = fopen("/proc/stat", "r");
    if (f) {
        if (fscanf(f,
                   "cpu %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64,
                   &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6], &v[7]) != 8)
            memset(v, 0, sizeof v);
        fclose(f);
    }
    for (int i = 0; i < 8; i++) {
        s->all_us += ticks_us(v[i]);
        if (i != 3 && i != 4)
            s->busy_us += ticks_us(v[i]);
    }
    f = fopen("/proc/loadavg", "r");
    if (f) {
        if (fscanf(f, "%lf", &s->load1) != 1)
            s->load1 = 0;
        fclose(f);
    }
}

double machine_other_share(const struct machine_sample *before, const struct machine_sample *after, uint64_t ours_us)
{
    double all = (double)(after->all_us - before->all_us);
    double other = (double)(after->busy_us - before->busy_us) - (double)ours_us;
    return all <= 0 || other <= 0 ? 0 : other / all;
}
