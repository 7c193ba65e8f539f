/*
 * The daemon's threads: one that writes and syncs the log, a few that run jobs. Results wait here until the loop collects
 * them; `notify` is called when the first of them arrives.
 */
#include "store.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

enum { WORKERS = 3 };

struct tally {
    uint64_t bytes, syncs;
    struct histogram sync_us;
};

struct store_threads {
    const struct disk_ops *ops;
    void *disk;
    void (*notify)(void *arg);
    void *arg;

    pthread_mutex_t lock;
    pthread_cond_t write_wanted, job_wanted;
    bool stop;
    struct log_write *writes, **writes_end;
    struct job *jobs, **jobs_end; /* to do */
    struct job *done, **done_end; /* to collect */
    bool notified;
    uint64_t written, durable;
    struct tally tally; /* since the last collection */
    int error;
    bool news;

    struct file *unsynced;         /* the writer's own: file with writes that no sync has covered */
    uint64_t wrote, synced_before; /* ... last index written; last index in files that are synced */
    pthread_t writer, workers[WORKERS];
    int worker_count;
    bool writer_runs;
};

static void tell(struct store_threads *t) /* with the lock held; releases it */
{
    bool first = !t->notified;
    t->notified = true;
    pthread_mutex_unlock(&t->lock);
    if (first)
        t->notify(t->arg);
}

/* What was done since the last report; the tally begins anew. */
static void report(struct store_threads *t, uint64_t durable, struct tally *done, int error)
{
    pthread_mutex_lock(&t->lock);
    t->written = t->wrote;
    t->durable = durable > t->durable ? durable : t->durable;
    t->tally.bytes += done->bytes;
    t->tally.syncs += done->syncs;
    histogram_merge(&t->tally.sync_us, &done->sync_us);
    *done = (struct tally){0};
    t->error = error;
    t->news = true;
    tell(t);
}

static int sync_file(struct store_threads *t, struct tally *done)
{
    uint64_t start = clock_mono_us();
    int error = t->ops->sync(t->disk, t->unsynced);
    histogram_add(&done->sync_us, clock_mono_us() - start);
    done->syncs++;
    t->unsynced = NULL;
    return error;
}

/* Neighbours in the file that are also neighbours in memory go out in one call. */
static struct log_write *write_run(struct store_threads *t, struct log_write *w, uint64_t *bytes, int *error)
{
    struct log_write *first = w;
    size_t n = w->len;
    for (; w->next; w = w->next) {
        const struct log_write *next = w->next;
        if (next->file != w->file || next->offset != w->offset + w->len || next->bytes != w->bytes + w->len)
            break;
        n += next->len;
    }
    *error = t->ops->write(t->disk, first->file, first->offset, first->bytes, n);
    *bytes += n;
    if (!*error) {
        t->unsynced = first->file;
        t->wrote = w->index;
    }
    return w->next;
}

/* Everything handed over so far: written in order, a file synced before the next one is begun, one sync at the end. */
static void write_all(struct store_threads *t, struct log_write *w)
{
    struct tally done = {0};
    bool sync = false, early = false;
    int error = 0;
    for (struct log_write *each = w; each; each = each->next) {
        sync |= each->sync;
        early |= !each->sync;
    }
    while (w && !error) {
        if (t->unsynced && w->file != t->unsynced) {
            error = sync_file(t, &done);
            t->synced_before = t->wrote;
        }
        if (!error)
            w = write_run(t, w, &done.bytes, &error);
    }
    if (!error && sync) {
        if (early) { /* whoever waits for the system only need not wait for the disk */
            report(t, t->synced_before, &done, 0);
        }
        error = sync_file(t, &done);
        if (!error)
            t->synced_before = t->wrote;
    }
    report(t, t->synced_before, &done, error);
}

static void *writer_main(void *arg)
{
    struct store_threads *t = arg;
    pthread_mutex_lock(&t->lock);
    for (;;) {
        while (!t->writes && !t->stop)
            pthread_cond_wait(&t->write_wanted, &t->lock);
        struct log_write *w = t->writes;
        if (!w)
            break;
        t->writes = NULL;
        t->writes_end = &t->writes;
        bool failed = t->error != 0;
        pthread_mutex_unlock(&t->lock);
        if (!failed) /* after an error nothing is executed, and nothing more reported */
            write_all(t, w);
        pthread_mutex_lock(&t->lock);
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

static void *worker_main(void *arg)
{
    struct store_threads *t = arg;
    pthread_mutex_lock(&t->lock);
    for (;;) {
        while (!t->jobs && !t->stop)
            pthread_cond_wait(&t->job_wanted, &t->lock);
        struct job *j = t->jobs;
        if (!j)
            break;
        t->jobs = j->next;
        if (!t->jobs)
            t->jobs_end = &t->jobs;
        pthread_mutex_unlock(&t->lock);
        j->run(j);
        pthread_mutex_lock(&t->lock);
        j->next = NULL;
        *t->done_end = j;
        t->done_end = &j->next;
        tell(t);
        pthread_mutex_lock(&t->lock);
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

static void submit_write(void *writer, struct log_write *w)
{
    struct store_threads *t = writer;
    w->next = NULL;
    pthread_mutex_lock(&t->lock);
    bool idle = !t->writes;
    *t->writes_end = w;
    t->writes_end = &w->next;
    pthread_mutex_unlock(&t->lock);
    if (idle)
        pthread_cond_signal(&t->write_wanted);
}

static void submit_job(void *workers, struct job *j)
{
    struct store_threads *t = workers;
    j->next = NULL;
    pthread_mutex_lock(&t->lock);
    *t->jobs_end = j;
    t->jobs_end = &j->next;
    pthread_mutex_unlock(&t->lock);
    pthread_cond_signal(&t->job_wanted);
}

static const struct log_writer_ops writer_ops = {.submit = submit_write};
static const struct worker_ops worker_ops = {.submit = submit_job};

const struct log_writer_ops *store_threads_writer_ops(void)
{
    return &writer_ops;
}

const struct worker_ops *store_threads_worker_ops(void)
{
    return &worker_ops;
}

struct store_threads *store_threads_new(const struct disk_ops *ops, void *disk, void (*notify)(void *arg), void *arg)
{
    struct store_threads *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    t->ops = ops;
    t->disk = disk;
    t->notify = notify;
    t->arg = arg;
    t->writes_end = &t->writes;
    t->jobs_end = &t->jobs;
    t->done_end = &t->done;
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->write_wanted, NULL);
    pthread_cond_init(&t->job_wanted, NULL);
    sigset_t all, before; /* signals are the loop's */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    t->writer_runs = pthread_create(&t->writer, NULL, writer_main, t) == 0;
    while (t->worker_count < WORKERS && pthread_create(&t->workers[t->worker_count], NULL, worker_main, t) == 0)
        t->worker_count++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!t->writer_runs || t->worker_count == 0) {
        store_threads_free(t);
        return NULL;
    }
    return t;
}

void store_threads_collect(struct store_threads *t, struct store *s, struct now now)
{
    pthread_mutex_lock(&t->lock);
    struct job *done = t->done;
    bool news = t->news;
    uint64_t written = t->written, durable = t->durable;
    struct tally tally = t->tally;
    int error = t->error;
    t->done = NULL;
    t->done_end = &t->done;
    t->notified = t->news = false;
    t->tally = (struct tally){0};
    pthread_mutex_unlock(&t->lock);
    if (news) {
        store_synced(s, &tally.sync_us);
        store_written(s, now, written, durable, tally.bytes, tally.syncs, error);
    }
    while (done) {
        struct job *j = done;
        done = j->next;
        j->done(j);
    }
}

void store_threads_free(struct store_threads *t)
{
    if (!t)
        return;
    pthread_mutex_lock(&t->lock);
    t->stop = true;
    pthread_cond_broadcast(&t->write_wanted);
    pthread_cond_broadcast(&t->job_wanted);
    pthread_mutex_unlock(&t->lock);
    if (t->writer_runs)
        pthread_join(t->writer, NULL);
    for (int i = 0; i < t->worker_count; i++)
        pthread_join(t->workers[i], NULL);
    pthread_mutex_destroy(&t->lock);
    pthread_cond_destroy(&t->write_wanted);
    pthread_cond_destroy(&t->job_wanted);
    free(t);
}
