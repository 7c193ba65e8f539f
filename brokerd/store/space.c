/*
 * Room for the log: the next segment is prepared by a worker before it is needed, from a dead one or from a new file that
 * was filled with zeros. Freed segments become spares or are removed. When there is no room for a further file, messages are
 * refused; what is left of the active segment and the prepared one are the reserve on which everything else goes on.
 */
#include <inttypes.h>
#include <stdio.h>

#include "log.h"
#include "store_internal.h"

static const uint8_t zeros[FILL_STEP_BYTES / 4];

static int write_zeros(const struct disk_ops *ops, void *disk, struct file *f, uint64_t offset, uint64_t n)
{
    int error = 0;
    while (n && !error) {
        size_t piece = n < sizeof zeros ? (size_t)n : sizeof zeros;
        error = ops->write(disk, f, offset, zeros, piece);
        offset += piece;
        n -= piece;
    }
    return error;
}

/* ---- preparing a segment ------------------------------------------------------------------------------------------------ */

struct prepare {
    const struct disk_ops *ops;
    void *disk;
    uint32_t number;
    uint64_t bytes;
    uint32_t spare; /* 0: a new file */
    bool recycled;
    bool zeroed; /* fill a new file with zeros */
};

/* Head first, name last: a file named segment-N is a segment N, whatever happens to the power. */
static int prepare_file(const struct prepare *p, struct file **out)
{
    char from[FILE_NAME_BYTES], to[FILE_NAME_BYTES];
    struct file *f;
    segment_name(to, SEGMENT_LOG, p->number);
    if (p->spare)
        spare_name(from, p->spare);
    else
        snprintf(from, sizeof from, "segment-%010" PRIu32 ".log.tmp", p->number);
    int error = p->ops->open(p->disk, from, !p->spare, &f);
    if (error)
        return error;
    struct segment_head head = {
        .kind = SEGMENT_LOG, .number = p->number, .flags = p->recycled ? SEGMENT_RECYCLED : 0, .bytes = p->bytes};
    if (p->spare) /* its name must be certain first: a power cut could give it back the name that an older head belongs to */
        error = p->ops->sync_dir(p->disk);
    else
        error = p->ops->allocate(p->disk, f, p->bytes);
    if (!error && p->zeroed)
        error = write_zeros(p->ops, p->disk, f, 0, p->bytes);
    if (!error)
        error = segment_write_head(p->ops, p->disk, f, &head);
    if (!error)
        error = p->ops->sync(p->disk, f);
    if (!error)
        error = p->ops->rename(p->disk, from, to);
    if (!error)
        error = p->ops->sync_dir(p->disk);
    if (error) {
        p->ops->close(p->disk, f);
        p->ops->remove(p->disk, from); /* best effort: a start removes or reuses what is left */
        p->ops->remove(p->disk, to);
        return error;
    }
    *out = f;
    return 0;
}

static bool may_grow(const struct store *s)
{
    uint64_t max = s->options.max_disk_bytes;
    return max == 0 || s->space.disk_bytes + s->options.segment_bytes <= max;
}

static void no_room(struct store *s)
{
    if (!s->space.full)
        log_warning("disk full: no room for a further segment of %u bytes; messages are refused until space is free",
                    s->options.segment_bytes);
    s->space.full = true;
    s->space.retry_ms = s->now.mono.ms + RETRY_MS;
}

static struct spare *spare_ready(struct store *s)
{
    struct spare *spare;
    TAILQ_FOREACH(spare, &s->space.spares, link)
    if (spare->ready)
        return spare;
    return NULL;
}

/* Takes a spare out of the list if there is one. */
static void prepare_init(struct store *s, struct prepare *p)
{
    struct spare *spare = spare_ready(s);
    *p = (struct prepare){.ops = s->host.disk_ops,
                          .disk = s->host.disk,
                          .number = s->space.next_number++,
                          .bytes = s->options.segment_bytes};
    if (spare) {
        p->spare = spare->number;
        p->recycled = spare->recycled;
        TAILQ_REMOVE(&s->space.spares, spare, link);
        s->space.spare_len--;
        free(spare);
    }
}

broker_error space_create_now(struct store *s, bool zeroed, struct prepared **out)
{
    struct prepare p;
    if (!spare_ready(s) && !may_grow(s))
        return BROKER_DISK_FULL;
    struct prepared *next = calloc(1, sizeof *next);
    if (!next)
        return BROKER_NO_MEMORY;
    prepare_init(s, &p);
    p.zeroed = zeroed && !p.spare;
    int error = prepare_file(&p, &next->file);
    if (error) {
        if (p.spare)
            s->space.disk_bytes -= p.bytes;
        free(next);
        return error == ENOMEM ? BROKER_NO_MEMORY : error_is_transient(error) ? BROKER_DISK_FULL : BROKER_IO;
    }
    if (!p.spare)
        s->space.disk_bytes += p.bytes;
    next->number = p.number;
    *out = next;
    return BROKER_OK;
}

struct prepare_job {
    struct store_job j;
    struct prepare p;
    struct file *file;
};

static void prepare_run(struct job *job)
{
    struct prepare_job *j = (struct prepare_job *)job;
    j->j.error = prepare_file(&j->p, &j->file);
}

static void spare_add(struct store *s, uint32_t number, bool recycled)
{
    struct spare *spare = calloc(1, sizeof *spare);
    if (!spare)
        return; /* the file is found again at the next start */
    spare->number = number;
    spare->recycled = recycled;
    spare->ready = true;
    TAILQ_INSERT_TAIL(&s->space.spares, spare, link);
    s->space.spare_len++;
}

/* The log went on without it, in a segment with a greater number: it is a spare again. */
static void prepare_came_late(struct store *s, const struct prepare_job *j)
{
    char from[FILE_NAME_BYTES], to[FILE_NAME_BYTES];
    segment_name(from, SEGMENT_LOG, j->p.number);
    spare_name(to, j->p.number);
    s->host.disk_ops->close(s->host.disk, j->file);
    if (s->host.disk_ops->rename(s->host.disk, from, to) == 0)
        spare_add(s, j->p.number, true);
}

static void prepare_done(struct job *job)
{
    struct prepare_job *j = (struct prepare_job *)job;
    struct store *s = j->j.store;
    struct prepared *next = NULL;
    s->space.preparing = false;
    if (!j->j.error) {
        if (!j->p.spare)
            s->space.disk_bytes += j->p.bytes;
        if (s->space.next || j->p.number < s->log.active->number)
            prepare_came_late(s, j);
        else if ((next = calloc(1, sizeof *next))) {
            *next = (struct prepared){j->p.number, j->file};
            s->space.next = next;
        } else {
            prepare_came_late(s, j);
        }
    } else if (j->p.spare) {
        s->space.disk_bytes -= j->p.bytes;
    }
    if (job_end(&j->j) && j->j.error) {
        if (!error_is_transient(j->j.error))
            log_warning("cannot prepare segment %u: %s; it is tried again", j->p.number, strerror(j->j.error));
        s->space.retry_ms = s->now.mono.ms + RETRY_MS;
        if (j->j.error == ENOSPC || j->j.error == EDQUOT)
            no_room(s);
    }
    free(j);
}

static void prepare_begin(struct store *s)
{
    if (!spare_ready(s) && !may_grow(s)) {
        if (!s->space.filling)
            no_room(s);
        return;
    }
    struct prepare_job *j = calloc(1, sizeof *j);
    if (!j)
        return;
    prepare_init(s, &j->p);
    s->space.preparing = true;
    job_begin(s, &j->j, prepare_run, prepare_done);
}

broker_error space_roll(struct store *s, bool for_message)
{
    struct prepared *next = s->space.next;
    broker_error error = BROKER_OK;
    if (!next)
        error = space_create_now(s, false, &next);
    if (error == BROKER_DISK_FULL)
        no_room(s);
    else if (error == BROKER_IO)
        store_fail(s, "cannot create a segment in the data directory");
    if (error)
        return error;
    struct segment *old = s->log.active;
    struct segment *g = segment_add(s, next->number, SEGMENT_LOG, SEGMENT_ACTIVE);
    if (!g) {
        s->space.next = next; /* keep it for the next try */
        return BROKER_NO_MEMORY;
    }
    s->space.next = NULL;
    if (s->log.last_sync < s->log.next_index - 1 && (error = log_mark(s))) {
        segment_forget(s, g);
        s->space.next = next;
        return error;
    }
    g->file = next->file;
    g->file_bytes = s->options.segment_bytes;
    free(next);
    old->state = SEGMENT_FULL;
    TAILQ_INSERT_TAIL(&s->full, old, link);
    log_begin(s, g, SEGMENT_DATA_START, s->log.epoch, s->log.next_index);
    return BROKER_OK;
}

/* ---- spares ------------------------------------------------------------------------------------------------------------- */

struct fill_job { /* makes a spare: a step at a time, so that reads get their turn between */
    struct store_job j;
    uint32_t number;
    struct file *file;
    uint64_t offset, bytes;
};

static void fill_names(const struct fill_job *j, char from[FILE_NAME_BYTES], char to[FILE_NAME_BYTES])
{
    spare_name(to, j->number);
    snprintf(from, FILE_NAME_BYTES, "spare-%010" PRIu32 ".log.tmp", j->number);
}

static void fill_run(struct job *job)
{
    struct fill_job *j = (struct fill_job *)job;
    const struct disk_ops *ops = j->j.ops;
    void *disk = j->j.disk;
    char from[FILE_NAME_BYTES], to[FILE_NAME_BYTES];
    int error = 0;
    fill_names(j, from, to);
    if (!j->file && !(error = ops->open(disk, from, true, &j->file)))
        error = ops->allocate(disk, j->file, j->bytes);
    uint64_t step = j->bytes - j->offset < FILL_STEP_BYTES ? j->bytes - j->offset : FILL_STEP_BYTES;
    if (!error)
        error = write_zeros(ops, disk, j->file, j->offset, step);
    if (!error)
        error = ops->sync(disk, j->file);
    j->offset += step;
    if (error || j->offset == j->bytes) {
        if (j->file)
            ops->close(disk, j->file);
        j->file = NULL;
        if (!error)
            error = ops->rename(disk, from, to);
        if (error)
            ops->remove(disk, from);
    }
    j->j.error = error;
}

static void fill_done(struct job *job)
{
    struct fill_job *j = (struct fill_job *)job;
    struct store *s = j->j.store;
    bool go_on = job_end(&j->j);
    if (go_on && !j->j.error && j->offset < j->bytes) {
        job_begin(s, &j->j, fill_run, fill_done);
        return;
    }
    s->space.filling = false;
    if (j->file)
        s->host.disk_ops->close(s->host.disk, j->file);
    if (j->j.error) {
        s->space.disk_bytes -= j->bytes;
        s->space.retry_ms = s->now.mono.ms + RETRY_MS;
        if (j->j.error == ENOSPC || j->j.error == EDQUOT)
            no_room(s);
    } else if (go_on) {
        spare_add(s, j->number, false);
    }
    free(j);
}

static void fill_begin(struct store *s)
{
    if (!may_grow(s)) {
        no_room(s);
        return;
    }
    struct fill_job *j = calloc(1, sizeof *j);
    if (!j)
        return;
    j->number = s->space.next_number++;
    j->bytes = s->options.segment_bytes;
    s->space.disk_bytes += j->bytes;
    s->space.filling = true;
    job_begin(s, &j->j, fill_run, fill_done);
}

void space_adopt_spare(struct store *s, uint32_t number, bool recycled, uint64_t bytes)
{
    uint64_t kept = (uint64_t)s->space.spare_len * s->options.segment_bytes;
    char name[FILE_NAME_BYTES];
    if (bytes == s->options.segment_bytes && (s->space.spare_len == 0 || kept + bytes <= s->options.spare_bytes)) {
        s->space.disk_bytes += bytes;
        spare_add(s, number, recycled);
        return;
    }
    spare_name(name, number);
    s->host.disk_ops->remove(s->host.disk, name);
}

/* First a spare; without one, the prepared segment: what is left of the active one is the last reserve. */
bool space_drop_spare(struct store *s)
{
    struct spare *spare = spare_ready(s);
    struct prepared *next = s->space.next;
    char name[FILE_NAME_BYTES];
    if (spare) {
        spare_name(name, spare->number);
        TAILQ_REMOVE(&s->space.spares, spare, link);
        s->space.spare_len--;
        free(spare);
    } else if (next) {
        segment_name(name, SEGMENT_LOG, next->number);
        s->host.disk_ops->close(s->host.disk, next->file);
        s->space.next = NULL;
        free(next);
    } else {
        return false;
    }
    no_room(s);
    s->space.disk_bytes -= s->options.segment_bytes;
    return s->host.disk_ops->remove(s->host.disk, name) == 0;
}

/* ---- freeing dead segments ------------------------------------------------------------------------------------------------ */

enum { FREE_MAX = 16 };

struct free_one {
    uint32_t number;
    enum segment_kind kind;
    bool recycle;
    int error;
};

struct free_job {
    struct store_job j;
    uint32_t n;
    struct free_one segments[FREE_MAX];
};

static void free_run(struct job *job)
{
    struct free_job *j = (struct free_job *)job;
    for (uint32_t i = 0; i < j->n; i++) {
        struct free_one *o = &j->segments[i];
        char from[FILE_NAME_BYTES], to[FILE_NAME_BYTES];
        segment_name(from, o->kind, o->number);
        spare_name(to, o->number);
        o->error = o->recycle ? j->j.ops->rename(j->j.disk, from, to) : j->j.ops->remove(j->j.disk, from);
    }
}

static void free_done(struct job *job)
{
    struct free_job *j = (struct free_job *)job;
    struct store *s = j->j.store;
    bool go_on = job_end(&j->j);
    s->space.freeing = false;
    for (uint32_t i = 0; i < j->n; i++) {
        const struct free_one *o = &j->segments[i];
        struct segment *g = segment_find(s, o->number);
        if (o->error) {
            if (go_on)
                log_warning("cannot free segment %u: %s", o->number, strerror(o->error));
            g->pins--; /* it stays in the list and is tried again */
            s->space.retry_ms = s->now.mono.ms + RETRY_MS;
            continue;
        }
        if (o->recycle)
            spare_add(s, o->number, true);
        else
            s->space.disk_bytes -= g->file_bytes;
        segment_forget(s, g);
    }
    s->space.retry_ms = go_on && s->space.full ? 0 : s->space.retry_ms;
    free(j);
}

/* Freed is what neither of the two newest checkpoints refers to: either of them may be damaged and cost nothing. */
static void free_begin(struct store *s)
{
    struct free_job *j = NULL;
    struct segment *g;
    uint64_t kept = (uint64_t)s->space.spare_len * s->options.segment_bytes;
    TAILQ_FOREACH(g, &s->dead, link)
    {
        if (!g->forgotten_at || g->forgotten_at > s->checkpoints.older || g->pins)
            continue;
        if (!j && !(j = calloc(1, sizeof *j)))
            return;
        struct free_one *o = &j->segments[j->n++];
        o->number = g->number;
        o->kind = g->kind;
        o->recycle = g->kind == SEGMENT_LOG && g->file_bytes == s->options.segment_bytes &&
                     (kept == 0 || kept + g->file_bytes <= s->options.spare_bytes);
        kept += o->recycle ? g->file_bytes : 0;
        g->pins++;
        if (j->n == FREE_MAX)
            break;
    }
    if (!j)
        return;
    s->space.freeing = true;
    job_begin(s, &j->j, free_run, free_done);
}

bool space_is_waiting(const struct store *s)
{
    const struct segment *g;
    TAILQ_FOREACH(g, &s->dead, link)
    if (!g->forgotten_at || g->forgotten_at > s->checkpoints.older)
        return true;
    return false;
}

void space_tick(struct store *s)
{
    struct space *p = &s->space;
    if (s->failed)
        return;
    segment_seal_ready(s);
    if (!p->freeing)
        free_begin(s);
    uint64_t used = s->log.end - SEGMENT_DATA_START, all = s->log.active->file_bytes;
    if (s->now.mono.ms >= p->retry_ms && !p->preparing && (used > all / 16 || p->full)) {
        bool spare = spare_ready(s);
        if (!p->next && (spare || used > all / 2 || p->full))
            prepare_begin(s);
        else if (!spare && !p->filling) /* there is time to fill one first: syncs are faster on written blocks */
            fill_begin(s);
    }
    if (p->full && p->next && spare_ready(s)) {
        log_notice("there is room for segments again: messages are accepted");
        p->full = false;
    }
}

void space_release(struct store *s)
{
    struct spare *spare;
    while ((spare = TAILQ_FIRST(&s->space.spares))) {
        TAILQ_REMOVE(&s->space.spares, spare, link);
        free(spare);
    }
    if (s->space.next) {
        s->host.disk_ops->close(s->host.disk, s->space.next->file);
        free(s->space.next);
    }
}
