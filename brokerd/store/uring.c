/*
 * The log writer without a thread: writes go to the system through io_uring and bypass the page cache where the file system
 * can (O_DIRECT), so the loop neither blocks nor hands over to another thread, and the disk's interrupt wakes it directly.
 * Two wakes of a processor less per group commit, and no copy into the page cache.
 *
 * One operation is under way at a time: batches share blocks, and two writes of one block in flight could end in either
 * order. What is submitted meanwhile goes out together in the next. A write is itself durable (RWF_DSYNC) if it wants to be
 * and nothing before it is unsynced; else a sync follows.
 */
#include "store.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "disk_posix.h"

enum { RING_ENTRIES = 8 };

enum step { STEP_IDLE, STEP_SYNC_BEFORE, STEP_WRITE, STEP_SYNC_AFTER };

struct store_uring {
    struct io_uring ring;
    struct log_write *first, **end; /* submitted, not begun */
    enum step step;

    /* The run of neighbours being written. */
    struct file *file;
    uint64_t offset; /* of what is still to be written */
    const uint8_t *bytes;
    size_t left;
    uint64_t run_bytes, last; /* of its batches: bytes, index */
    bool wants_sync, synced_by_write;

    struct file *unsynced; /* has written batches that no sync has covered */
    uint64_t written, durable, bytes_written, syncs;
    uint64_t sync_start_us; /* of the sync, or the synced write, that is under way; 0: none */
    struct histogram sync_us;
    int error;
    bool news;
};

struct store_uring *store_uring_new(void)
{
    struct store_uring *u = calloc(1, sizeof *u);
    if (!u)
        return NULL;
    struct io_uring_params params = {.flags = IORING_SETUP_COOP_TASKRUN};
    int status = io_uring_queue_init_params(RING_ENTRIES, &u->ring, &params);
    if (status == -EINVAL) { /* before Linux 5.19 */
        params = (struct io_uring_params){0};
        status = io_uring_queue_init_params(RING_ENTRIES, &u->ring, &params);
    }
    if (status < 0) {
        free(u);
        errno = -status;
        return NULL;
    }
    u->end = &u->first;
    return u;
}

void store_uring_free(struct store_uring *u)
{
    if (!u)
        return;
    io_uring_queue_exit(&u->ring);
    free(u);
}

int store_uring_fd(const struct store_uring *u)
{
    return u->ring.ring_fd;
}

/* Until the loop hears of it: that is how long whoever waits for it waits. */
static void sync_begins(struct store_uring *u)
{
    if (!u->sync_start_us) /* else it is the rest of one, or again */
        u->sync_start_us = clock_mono_us();
}

static void sync_ends(struct store_uring *u)
{
    histogram_add(&u->sync_us, clock_mono_us() - u->sync_start_us);
    u->sync_start_us = 0;
    u->syncs++;
}

static void submit_step(struct store_uring *u, enum step step)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring); /* there is one: at most one is in use */
    u->step = step;
    if (step == STEP_WRITE) {
        int direct = file_direct_fd(u->file);
        io_uring_prep_write(sqe, direct >= 0 ? direct : file_fd(u->file), u->bytes, (unsigned)u->left, u->offset);
        if (u->synced_by_write)
            sqe->rw_flags = RWF_DSYNC;
    } else {
        io_uring_prep_fsync(sqe, file_fd(u->unsynced), IORING_FSYNC_DATASYNC);
    }
    if (step != STEP_WRITE || u->synced_by_write)
        sync_begins(u);
    int status;
    do
        status = io_uring_submit(&u->ring);
    while (status == -EINTR || status == -EAGAIN);
    if (status < 0) {
        u->error = -status;
        u->news = true;
        u->step = STEP_IDLE;
    }
}

/* Take neighbours in the file and in memory off the front of what was submitted. */
static void take_run(struct store_uring *u)
{
    struct log_write *w = u->first;
    u->file = w->file;
    u->offset = w->offset;
    u->bytes = w->bytes;
    u->wants_sync = w->sync;
    u->run_bytes = w->len;
    while (w->next && w->next->file == w->file && w->next->offset == w->offset + w->len &&
           w->next->bytes == w->bytes + w->len) {
        w = w->next;
        u->run_bytes += w->len;
        u->wants_sync |= w->sync;
    }
    u->last = w->index;
    u->first = w->next;
    if (!u->first)
        u->end = &u->first;
    u->left = u->run_bytes;
    if (file_direct_fd(u->file) >= 0) { /* whole blocks: see struct log_write */
        size_t begun = (size_t)(u->offset & (WRITE_BLOCK_BYTES - 1));
        u->offset -= begun;
        u->bytes -= begun;
        u->left = (u->left + begun + WRITE_BLOCK_BYTES - 1) & ~(size_t)(WRITE_BLOCK_BYTES - 1);
    }
    u->synced_by_write = u->wants_sync && !u->unsynced;
}

/* Begin what comes next, if nothing is under way. A file is synced before the log goes on in another. */
static void go_on(struct store_uring *u)
{
    if (u->step != STEP_IDLE || u->error || !u->first)
        return;
    if (u->unsynced && u->unsynced != u->first->file) {
        submit_step(u, STEP_SYNC_BEFORE);
        return;
    }
    take_run(u);
    submit_step(u, STEP_WRITE);
}

static void run_done(struct store_uring *u)
{
    u->bytes_written += u->run_bytes;
    u->written = u->last;
    u->news = true;
    if (u->synced_by_write) {
        u->durable = u->last;
        sync_ends(u);
        return;
    }
    u->unsynced = u->file;
    if (u->wants_sync)
        submit_step(u, STEP_SYNC_AFTER);
}

static void step_done(struct store_uring *u, int result)
{
    enum step step = u->step;
    u->step = STEP_IDLE;
    if (result == -EINTR || result == -EAGAIN) {
        submit_step(u, step);
        return;
    }
    if (result == -EINVAL && step == STEP_WRITE && file_direct_fd(u->file) >= 0) {
        file_direct_drop(u->file); /* it opens, but wants other blocks: through the page cache then */
        submit_step(u, step);
        return;
    }
    if (result < 0 || (step == STEP_WRITE && result == 0)) {
        u->error = result < 0 ? -result : EIO; /* never retried: the pages may be gone */
        u->news = true;
        return;
    }
    if (step != STEP_WRITE) {
        u->unsynced = NULL;
        u->durable = u->written;
        sync_ends(u);
        u->news = true;
        return;
    }
    size_t n = (size_t)result < u->left ? (size_t)result : u->left;
    u->offset += n;
    u->bytes += n;
    u->left -= n;
    if (u->left)
        submit_step(u, STEP_WRITE); /* written in part: the rest */
    else
        run_done(u);
}

static void submit_write(void *writer, struct log_write *w)
{
    struct store_uring *u = writer;
    w->next = NULL;
    *u->end = w;
    u->end = &w->next;
    go_on(u);
}

static const struct log_writer_ops writer_ops = {.submit = submit_write};

const struct log_writer_ops *store_uring_writer_ops(void)
{
    return &writer_ops;
}

void store_uring_collect(struct store_uring *u, struct store *s, struct now now)
{
    struct io_uring_cqe *cqe;
    while (io_uring_peek_cqe(&u->ring, &cqe) == 0) {
        int result = cqe->res;
        io_uring_cqe_seen(&u->ring, cqe);
        step_done(u, result);
        go_on(u);
    }
    if (!u->news)
        return;
    u->news = false;
    uint64_t bytes = u->bytes_written, syncs = u->syncs;
    u->bytes_written = u->syncs = 0;
    store_synced(s, &u->sync_us);
    u->sync_us = (struct histogram){0};
    store_written(s, now, u->written, u->durable, bytes, syncs, u->error);
}
