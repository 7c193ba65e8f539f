/*
 * Backups: a checkpoint of their own, and the files that it refers to, pinned while they are read. The log goes on behind
 * them: of what is not sealed only the bytes up to that checkpoint are part of the picture, and those do not change.
 */
#include "backup_ops.h"

#include <inttypes.h>
#include <stdio.h>

#include "log.h"
#include "store_internal.h"

enum backup_state {
    BACKUP_WANTED, /* until the next checkpoint is taken */
    BACKUP_TAKEN,  /* until it is on disk */
    BACKUP_OPEN
};

struct backup_pin {
    char name[FILE_NAME_BYTES];
    uint32_t segment; /* 0: the checkpoint */
};

struct backup {
    enum backup_state state;
    struct backup_asker asker;
    backup_begun *begun;
    void *arg;
    uint64_t checkpoint; /* its index */
    uint64_t used_ms;    /* monotonic */
    uint32_t reads;      /* under way */
    uint32_t count;
    struct backup_pin *pins;   /* owned */
    struct backup_file *files; /* owned; names lie in `pins` */
};

static void answer_begin(struct backup *b, broker_error error, const char *text, const struct backup_listing *listing)
{
    backup_begun *begun = b->begun;
    b->begun = NULL;
    if (begun)
        begun(b->arg, b->asker, error, text, listing);
}

static void backup_free(struct backup *b)
{
    free(b->pins);
    free(b->files);
    free(b);
}

/* ---- the end ---------------------------------------------------------------------------------------------------------------- */

struct forget_job { /* a checkpoint that only the backup kept */
    struct store_job j;
    uint64_t index;
};

static void forget_run(struct job *job)
{
    struct forget_job *j = (struct forget_job *)job;
    char name[FILE_NAME_BYTES];
    checkpoint_name(name, j->index);
    j->j.ops->remove(j->j.disk, name); /* if not, the next start does it */
}

static void forget_done(struct job *job)
{
    struct forget_job *j = (struct forget_job *)job;
    job_end(&j->j);
    free(j);
}

void backup_forget_checkpoint(struct store *s, uint64_t index, uint64_t bytes)
{
    const struct checkpoints *c = &s->checkpoints;
    struct forget_job *j;
    if (s->failed || index == c->newest || index == c->older || !(j = calloc(1, sizeof *j)))
        return;
    j->index = index;
    s->space.disk_bytes -= bytes;
    job_begin(s, &j->j, forget_run, forget_done);
}

/* Everything it pinned may go. Reads under way pin their own. */
static void backup_over(struct store *s, broker_error error, const char *text)
{
    struct backup *b = s->backup;
    s->backup = NULL;
    for (uint32_t i = 0; i < b->count; i++) {
        if (b->pins[i].segment)
            segment_find(s, b->pins[i].segment)->pins--;
    }
    if (b->state == BACKUP_OPEN)
        backup_forget_checkpoint(s, b->checkpoint, s->checkpoints.pinned_bytes);
    s->checkpoints.pinned = s->checkpoints.pinned_bytes = 0;
    answer_begin(b, error, text, NULL);
    backup_free(b);
}

/* ---- the picture -------------------------------------------------------------------------------------------------------------- */

static void add_file(struct backup *b, uint32_t segment, uint64_t bytes, uint64_t data_end)
{
    struct backup_pin *pin = &b->pins[b->count];
    pin->segment = segment;
    b->files[b->count++] = (struct backup_file){pin->name, bytes, data_end};
}

static int pin_order(const void *a, const void *b)
{
    const struct segment *x = *(struct segment *const *)a, *y = *(struct segment *const *)b;
    return x->number < y->number ? -1 : x->number > y->number;
}

/* All segments that the checkpoint lists, in the order of their numbers. */
static bool pin_segments(struct store *s, struct backup *b)
{
    uint32_t most = HASH_COUNT(s->segments), n = 0;
    struct segment **sorted = malloc((most + 1) * sizeof *sorted), *g, *next;
    b->pins = calloc(most + 1, sizeof *b->pins);
    b->files = calloc(most + 1, sizeof *b->files);
    if (!sorted || !b->pins || !b->files) {
        free(sorted);
        return false;
    }
    HASH_ITER(hh, s->segments, g, next)
    {
        if (g->state != SEGMENT_DEAD)
            sorted[n++] = g;
    }
    qsort(sorted, n, sizeof sorted[0], pin_order);
    for (uint32_t i = 0; i < n; i++) {
        g = sorted[i];
        segment_name(b->pins[b->count].name, g->kind, g->number);
        add_file(b, g->number, g->file_bytes, g->state == SEGMENT_SEALED ? g->file_bytes : g->data_end);
        g->pins++;
    }
    free(sorted);
    return true;
}

void backup_checkpoint_taken(struct store *s, uint64_t index)
{
    struct backup *b = s->backup;
    if (!b || b->state != BACKUP_WANTED)
        return;
    if (!pin_segments(s, b)) {
        backup_over(s, BROKER_NO_MEMORY, "there is no memory to list the files of the backup");
        return;
    }
    b->state = BACKUP_TAKEN;
    b->checkpoint = index;
}

void backup_checkpoint_written(struct store *s, uint64_t index, uint64_t bytes)
{
    struct backup *b = s->backup;
    if (!b || b->state != BACKUP_TAKEN || b->checkpoint != index)
        return;
    s->checkpoints.pinned = index;
    s->checkpoints.pinned_bytes = bytes;
    checkpoint_name(b->pins[b->count].name, index);
    add_file(b, 0, bytes, bytes);
    b->state = BACKUP_OPEN;
    b->used_ms = s->now.mono.ms;
    struct backup_listing listing = {.files = b->files, .count = b->count, .log_index = index};
    for (uint32_t i = 0; i < b->count; i++)
        listing.data_bytes += b->files[i].data_end;
    answer_begin(b, BROKER_OK, NULL, &listing);
}

/* ---- what is asked -------------------------------------------------------------------------------------------------------------- */

static void ops_begin(void *store, struct backup_asker asker, backup_begun *done, void *arg)
{
    struct store *s = store;
    struct backup *b = NULL;
    broker_error error = BROKER_OK;
    char text[TEXT_BYTES] = "there is no memory for a backup";
    if (s->failed) {
        error = BROKER_IO;
        snprintf(text, sizeof text, "the data directory cannot be written any more");
    } else if (s->backup) {
        error = BROKER_LIMIT_REACHED;
        snprintf(text, sizeof text, "another backup is under way; it ends by itself when it stands still for %d s",
                 BACKUP_IDLE_MS / 1000);
    } else if (!(b = calloc(1, sizeof *b))) {
        error = BROKER_NO_MEMORY;
    }
    if (error) {
        done(arg, asker, error, text, NULL);
        return;
    }
    b->asker = asker;
    b->begun = done;
    b->arg = arg;
    b->used_ms = s->now.mono.ms;
    s->backup = b;
    s->checkpoints.wanted = true; /* at the end of this turn */
    s->checkpoints.retry_ms = 0;
}

struct piece_job {
    struct store_job j;
    struct backup_asker asker;
    backup_bytes *done;
    void *arg;
    char name[FILE_NAME_BYTES];
    uint32_t segment;    /* pinned, if not 0 */
    uint64_t checkpoint; /* the backup's */
    uint64_t offset;
    size_t len, got;
    uint8_t bytes[];
};

static void piece_run(struct job *job)
{
    struct piece_job *j = (struct piece_job *)job;
    struct file *f;
    int error = j->j.ops->open(j->j.disk, j->name, false, &f);
    if (!error) {
        error = j->j.ops->read(j->j.disk, f, j->offset, j->bytes, j->len, &j->got);
        j->j.ops->close(j->j.disk, f);
    }
    j->j.error = error ? error : j->got < j->len ? EIO : 0;
}

static void piece_done(struct job *job)
{
    struct piece_job *j = (struct piece_job *)job;
    struct store *s = j->j.store;
    struct backup *b = s->backup;
    char text[TEXT_BYTES];
    job_end(&j->j);
    if (j->segment)
        segment_find(s, j->segment)->pins--;
    if (b && b->checkpoint == j->checkpoint) {
        b->used_ms = s->now.mono.ms;
        b->reads--;
    }
    if (j->j.error) {
        snprintf(text, sizeof text, "cannot read %s at offset %" PRIu64 ": %s", j->name, j->offset,
                 strerror(j->j.error));
        j->done(j->arg, j->asker, j->j.error == ENOMEM ? BROKER_NO_MEMORY : BROKER_IO, text, NULL, 0);
    } else {
        j->done(j->arg, j->asker, BROKER_OK, NULL, j->bytes, j->len);
    }
    free(j);
}

static struct backup *backup_of(struct store *s, uint64_t conn)
{
    return s->backup && s->backup->asker.conn == conn ? s->backup : NULL;
}

/* OK, or why not: *text says it. */
static broker_error check_read(const struct backup *b, uint32_t file, uint64_t offset, uint32_t max_bytes, char *text,
                               size_t size)
{
    if (!b || b->state != BACKUP_OPEN) {
        snprintf(text, size,
                 "this connection has no backup open; one that stands still for %d s ends by itself: begin a new one",
                 BACKUP_IDLE_MS / 1000);
        return BROKER_REFUSED;
    }
    if (file >= b->count || max_bytes == 0 || offset > b->files[file].data_end) {
        snprintf(text, size,
                 "file %u, offset %" PRIu64 ", %u bytes: the backup has files 0 to %u, and of this one %" PRIu64
                 " bytes",
                 file, offset, max_bytes, b->count - 1, file < b->count ? b->files[file].data_end : 0);
        return BROKER_INVALID_ARGUMENT;
    }
    if (b->reads >= BACKUP_READS_MAX) {
        snprintf(text, size, "%d reads of the backup are under way; wait for an answer", BACKUP_READS_MAX);
        return BROKER_OVERLOADED;
    }
    return BROKER_OK;
}

static void ops_read(void *store, struct backup_asker asker, uint32_t file, uint64_t offset, uint32_t max_bytes,
                     backup_bytes *done, void *arg)
{
    struct store *s = store;
    struct backup *b = backup_of(s, asker.conn);
    char text[TEXT_BYTES];
    broker_error error = check_read(b, file, offset, max_bytes, text, sizeof text);
    if (error) {
        done(arg, asker, error, text, NULL, 0);
        return;
    }
    b->used_ms = s->now.mono.ms;
    uint64_t len = b->files[file].data_end - offset;
    len = len < max_bytes ? len : max_bytes;
    len = len < BACKUP_READ_MAX_BYTES ? len : BACKUP_READ_MAX_BYTES;
    struct piece_job *j = len ? malloc(sizeof *j + len) : NULL;
    if (!j) {
        done(arg, asker, len ? BROKER_NO_MEMORY : BROKER_OK, len ? "there is no memory for this read" : NULL, NULL, 0);
        return;
    }
    *j = (struct piece_job){
        .asker = asker, .done = done, .arg = arg, .checkpoint = b->checkpoint, .offset = offset, .len = len};
    memcpy(j->name, b->pins[file].name, sizeof j->name);
    j->segment = b->pins[file].segment;
    if (j->segment)
        segment_find(s, j->segment)->pins++;
    b->reads++;
    job_begin(s, &j->j, piece_run, piece_done);
}

static broker_error ops_end(void *store, uint64_t conn)
{
    struct store *s = store;
    if (!backup_of(s, conn))
        return BROKER_REFUSED;
    backup_over(s, BROKER_CANCELLED, "the backup was ended before it began");
    return BROKER_OK;
}

const struct backup_ops store_backup_ops = {.begin = ops_begin, .read = ops_read, .end = ops_end};

/* ---- the store's calls ------------------------------------------------------------------------------------------------------------ */

void backup_tick(struct store *s)
{
    struct backup *b = s->backup;
    if (!b || b->reads || s->now.mono.ms < b->used_ms + BACKUP_IDLE_MS)
        return;
    log_warning("a backup ended: nothing was asked of it for %d s", BACKUP_IDLE_MS / 1000);
    backup_over(s, BROKER_TIMEOUT, "no checkpoint could be written in time");
}

void backup_failed(struct store *s)
{
    if (s->backup)
        backup_over(s, BROKER_IO, "the data directory cannot be written any more");
}

void backup_release(struct store *s)
{
    if (s->backup)
        backup_free(s->backup);
}
