/*
 * Opening a data directory: lock it, find the newest whole checkpoint, read the log after it, and only if all of that is in
 * order change anything: sync what was read (a killed process may have left it unsynced), put the directory in order, and
 * append a mark of the new epoch, synced. From then on no batch of an earlier epoch can pass.
 */
#include "recover.h"

#include <inttypes.h>

broker_error recover_error(const struct recovery *r, int error, const char *what, const char *name)
{
    report_line(r->report, true, "cannot %s %s: %s", what, name, strerror(error));
    if (error == ENOMEM)
        return BROKER_NO_MEMORY;
    return error == ENOSPC || error == EDQUOT ? BROKER_DISK_FULL : BROKER_IO;
}

/* ---- putting the directory in order --------------------------------------------------------------------------------------- */

static int file_size(const struct store *s, const char *name, uint64_t *bytes)
{
    struct file *f;
    int error = s->host.disk_ops->open(s->host.disk, name, false, &f);
    if (error)
        return error;
    error = s->host.disk_ops->size(s->host.disk, f, bytes);
    s->host.disk_ops->close(s->host.disk, f);
    return error;
}

/* A segment behind the log's end: it was prepared, and is again. */
static broker_error adopt_prepared(struct recovery *r, const struct listed *f, uint64_t bytes)
{
    struct store *s = r->s;
    struct prepared *next;
    char name[FILE_NAME_BYTES];
    if (!s->space.next && bytes == s->options.segment_bytes) {
        if (!(next = calloc(1, sizeof *next)))
            return BROKER_NO_MEMORY;
        int error = s->host.disk_ops->open(s->host.disk, f->name, false, &next->file);
        if (error) {
            free(next);
            return recover_error(r, error, "open", f->name);
        }
        next->number = (uint32_t)f->number;
        s->space.next = next;
        s->space.disk_bytes += bytes;
        return BROKER_OK;
    }
    spare_name(name, (uint32_t)f->number);
    int error = s->host.disk_ops->rename(s->host.disk, f->name, name);
    if (error)
        return recover_error(r, error, "rename", f->name);
    space_adopt_spare(s, (uint32_t)f->number, true, bytes);
    return BROKER_OK;
}

static broker_error adopt_segment(struct recovery *r, const struct listed *f)
{
    struct store *s = r->s;
    struct segment *g = segment_find(s, (uint32_t)f->number);
    enum segment_kind kind = f->kind == FILE_LOG ? SEGMENT_LOG : SEGMENT_COLD;
    uint64_t bytes;
    int error = file_size(s, f->name, &bytes);
    if (error)
        return recover_error(r, error, "open", f->name);
    if (g && g->kind == kind) {
        s->space.disk_bytes += bytes;
        return BROKER_OK;
    }
    if (!g && kind == SEGMENT_LOG && f->number > s->log.active->number)
        return adopt_prepared(r, f, bytes);
    if (g) { /* one number, two files: this one is not the one in use */
        s->host.disk_ops->remove(s->host.disk, f->name);
        return BROKER_OK;
    }
    /* Nothing in use refers to it. An older checkpoint may: it is freed when there are two newer ones. */
    g = segment_add(s, (uint32_t)f->number, kind, SEGMENT_DEAD);
    if (!g)
        return BROKER_NO_MEMORY;
    g->file_bytes = bytes;
    g->forgotten_at = s->checkpoints.newest ? s->checkpoints.newest : 1;
    s->space.disk_bytes += bytes;
    return BROKER_OK;
}

static broker_error adopt_checkpoint(struct recovery *r, const struct listed *f)
{
    struct store *s = r->s;
    uint64_t bytes = 0;
    char name[FILE_NAME_BYTES + 16];
    if (f->number > s->checkpoints.newest) { /* damaged; a newer one may soon have its name */
        snprintf(name, sizeof name, "quarantine/%s", f->name);
        int error = s->host.disk_ops->rename(s->host.disk, f->name, name);
        return error ? recover_error(r, error, "rename", f->name) : BROKER_OK;
    }
    int error = file_size(s, f->name, &bytes);
    if (error)
        return recover_error(r, error, "open", f->name);
    if (f->number == s->checkpoints.newest)
        s->checkpoints.newest_bytes = bytes;
    else if (f->number == s->checkpoints.older)
        s->checkpoints.older_bytes = bytes;
    else {
        s->host.disk_ops->remove(s->host.disk, f->name);
        return BROKER_OK;
    }
    s->space.disk_bytes += bytes;
    return BROKER_OK;
}

static broker_error adopt_files(struct recovery *r)
{
    struct store *s = r->s;
    broker_error error = BROKER_OK;
    for (size_t i = 0; i < r->files.n && !error; i++) {
        const struct listed *f = &r->files.files[i];
        uint64_t bytes;
        switch (f->kind) {
        case FILE_LOG:
        case FILE_COLD: error = adopt_segment(r, f); break;
        case FILE_CHECKPOINT: error = adopt_checkpoint(r, f); break;
        case FILE_TEMPORARY: s->host.disk_ops->remove(s->host.disk, f->name); break;
        case FILE_SPARE:
            if (file_size(s, f->name, &bytes) == 0)
                space_adopt_spare(s, (uint32_t)f->number, true, bytes);
            break;
        default: break;
        }
    }
    int synced = error ? 0 : s->host.disk_ops->sync_dir(s->host.disk);
    return synced ? recover_error(r, synced, "sync", "the data directory") : error;
}

/* ---- going on ---------------------------------------------------------------------------------------------------------------- */

static int write_again(struct store *s, struct file *f, uint64_t from, uint64_t to)
{
    const struct disk_ops *ops = s->host.disk_ops;
    size_t piece = to - from < FILL_STEP_BYTES ? (size_t)(to - from) : FILL_STEP_BYTES, got;
    uint8_t *bytes = malloc(piece ? piece : 1);
    int error = bytes ? 0 : ENOMEM;
    while (!error && from < to) {
        size_t n = to - from < piece ? (size_t)(to - from) : piece;
        error = ops->read(s->host.disk, f, from, bytes, n, &got);
        if (!error)
            error = got == n ? ops->write(s->host.disk, f, from, bytes, n) : EIO;
        from += n;
    }
    free(bytes);
    return error;
}

/* A sync that failed may leave pages that can be read, count as written and are not on disk (Linux), and the process that
   was told of it is gone: what nothing calls durable is written again, so that the sync to come covers it. */
static int write_unclaimed_again(const struct recovery *r, const struct segment *g)
{
    for (size_t i = r->unclaimed_from; i < r->unclaimed_len; i++) {
        const struct unclaimed *u = &r->unclaimed[i];
        if (u->segment == g->number && u->offset < g->data_end)
            return write_again(r->s, g->file, u->offset, g->data_end);
    }
    return 0;
}

/* Open what is not sealed, and sync it: it was read from the system's memory, perhaps, but not from the disk. */
static broker_error open_log(struct recovery *r)
{
    struct store *s = r->s;
    struct segment *g, *next;
    HASH_ITER(hh, s->segments, g, next)
    {
        char name[FILE_NAME_BYTES];
        uint64_t bytes = 0;
        if ((g->state != SEGMENT_FULL && g->state != SEGMENT_ACTIVE) || g->file)
            continue;
        segment_name(name, SEGMENT_LOG, g->number);
        int error = s->host.disk_ops->open(s->host.disk, name, false, &g->file);
        if (!error)
            error = s->host.disk_ops->size(s->host.disk, g->file, &bytes);
        if (!error && bytes < g->file_bytes)
            error = s->host.disk_ops->allocate(s->host.disk, g->file, g->file_bytes);
        if (!error)
            error = write_unclaimed_again(r, g);
        if (!error)
            error = s->host.disk_ops->sync(s->host.disk, g->file);
        if (error)
            return recover_error(r, error, "open and sync", name);
    }
    return BROKER_OK;
}

static broker_error first_segment(struct recovery *r)
{
    struct store *s = r->s;
    struct prepared *first;
    struct segment *g;
    broker_error error = space_create_now(s, true, &first);
    if (error) {
        report_line(r->report, true, "cannot create a segment of %u bytes in the data directory: %s",
                    s->options.segment_bytes, broker_strerror(error));
        return error;
    }
    g = segment_add(s, first->number, SEGMENT_LOG, SEGMENT_ACTIVE);
    if (g) {
        g->file = first->file;
        g->file_bytes = s->options.segment_bytes;
        if (s->log.active) {
            s->log.active->state = SEGMENT_FULL;
            TAILQ_INSERT_TAIL(&s->full, s->log.active, link);
        }
        s->log.active = g;
        r->offset = SEGMENT_DATA_START;
    } else {
        s->host.disk_ops->close(s->host.disk, first->file);
    }
    free(first);
    return g ? BROKER_OK : BROKER_NO_MEMORY;
}

/* The first batch of the new epoch: empty, synced, and saying that everything before it is on disk. */
static broker_error write_mark(struct recovery *r, uint32_t epoch)
{
    struct store *s = r->s;
    uint8_t bytes[BATCH_HEAD_BYTES];
    if (!segment_has_room(s->log.active, r->offset + BATCH_HEAD_BYTES, 0, 0)) {
        broker_error error = BROKER_OK;
        if (s->space.next) { /* its head is there; the log's end moves into it */
            struct segment *g = segment_add(s, s->space.next->number, SEGMENT_LOG, SEGMENT_ACTIVE);
            if (!g)
                return BROKER_NO_MEMORY;
            g->file = s->space.next->file;
            g->file_bytes = s->options.segment_bytes;
            free(s->space.next);
            s->space.next = NULL;
            s->log.active->state = SEGMENT_FULL;
            TAILQ_INSERT_TAIL(&s->full, s->log.active, link);
            s->log.active = g;
            r->offset = SEGMENT_DATA_START;
        } else {
            error = first_segment(r);
        }
        if (error)
            return error;
    }
    struct segment *g = s->log.active;
    struct batch_head head = {.index = r->next_index,
                              .durable = r->next_index - 1,
                              .epoch = epoch,
                              .length = BATCH_HEAD_BYTES,
                              .segment = g->number};
    batch_head_put(bytes, &head);
    int error = s->host.disk_ops->write(s->host.disk, g->file, r->offset, bytes, sizeof bytes);
    if (!error)
        error = s->host.disk_ops->sync(s->host.disk, g->file);
    if (error)
        return recover_error(r, error, "write to", "the log");
    if (!g->first_index)
        g->first_index = head.index;
    g->last_index = head.index;
    uint64_t end = r->offset + BATCH_HEAD_BYTES;
    size_t got, begun = (size_t)(end & (WRITE_BLOCK_BYTES - 1));
    error = s->host.disk_ops->read(s->host.disk, g->file, end - begun, s->tail.begun, begun, &got);
    if (error || got < begun)
        return recover_error(r, error ? error : EIO, "read", "the log's end");
    log_begin(s, g, end, epoch, head.index + 1);
    s->log.written = s->log.durable = s->log.last_sync = head.index;
    s->log.claimed = s->log.last_full = head.durable;
    return BROKER_OK;
}

static void set_numbers(struct recovery *r)
{
    uint32_t number = r->checkpoint.bytes ? r->checkpoint.head.next_number : 1;
    for (size_t i = 0; i < r->files.n; i++) {
        const struct listed *f = &r->files.files[i];
        bool numbered = f->kind == FILE_LOG || f->kind == FILE_COLD || f->kind == FILE_SPARE;
        if (numbered && f->number >= number && f->number < UINT32_MAX)
            number = (uint32_t)f->number + 1;
    }
    r->s->space.next_number = number;
    r->s->checkpoints.newest = r->checkpoint.bytes ? r->checkpoint.head.index : 0;
    r->s->checkpoints.older = r->older;
}

static broker_error go_on(struct recovery *r)
{
    struct store *s = r->s;
    uint32_t epoch = r->checkpoint.bytes ? r->checkpoint.head.epoch : 0;
    epoch = (epoch > r->epoch ? epoch : r->epoch) + 1;
    set_numbers(r);
    if (!r->segment) {
        r->next_index = 1;
        broker_error error = first_segment(r);
        if (error)
            return error;
    }
    s->log.active->data_end = r->offset;
    broker_error error = adopt_files(r);
    if (!error)
        error = open_log(r);
    if (!error)
        error = write_mark(r, epoch);
    return error;
}

static void report_recovered(const struct recovery *r)
{
    if (r->torn)
        report_line(r->report, false,
                    "segment %u, offset %" PRIu64
                    ": what was being written when the broker stopped is cut off (batch %" PRIu64
                    " and later, never acknowledged)",
                    r->segment->number, r->offset, r->next_index);
    if (r->segment)
        report_line(r->report, false,
                    "recovered from checkpoint %" PRIu64 "%s and %" PRIu64 " batches with %" PRIu64
                    " records after it; epoch %u",
                    r->checkpoint.bytes ? r->checkpoint.head.index : 0,
                    r->checkpoint.bytes && (r->checkpoint.head.flags & CHECKPOINT_CLEAN) && r->records == 0
                        ? " (closed in good order)"
                        : "",
                    r->batches, r->records, r->s->log.epoch);
    else
        report_line(r->report, false, "the data directory is new");
}

broker_error store_open(struct store *s, struct engine *engine, struct now now, const struct store_report *report)
{
    struct recovery r = {.s = s, .engine = engine, .report = report};
    s->engine = engine;
    s->now = now;
    int locked = s->host.disk_ops->lock(s->host.disk);
    if (locked == EWOULDBLOCK || locked == EAGAIN) {
        report_line(report, true, "the data directory is in use by another process");
        return BROKER_IO;
    }
    if (locked)
        return recover_error(&r, locked, "lock", "the data directory");
    int listed = listing_read(&r.files, s->host.disk_ops, s->host.disk);
    broker_error error = listed ? recover_error(&r, listed, "list", "the data directory") : recover_checkpoint(&r);
    if (!error)
        error = recover_log(&r);
    if (!error)
        error = go_on(&r);
    if (error == BROKER_NO_MEMORY)
        report_line(report, true, "out of memory while opening the data directory");
    if (!error) {
        report_recovered(&r);
        s->open = true;
        engine_recovered(engine, now, s->log.epoch);
    }
    scan_close(&r.scan);
    listing_release(&r.files);
    checkpoint_release_image(&r.checkpoint);
    free(r.unclaimed);
    return error;
}
