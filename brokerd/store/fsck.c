/*
 * fsck: reads every byte of a data directory and says what is wrong, where, and what follows from it. With `quarantine` damaged
 * files are moved away and replaced by repaired copies, in which damaged records are holes and all others stay where they were.
 */
#include "fsck.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#define SAY(problem)                                                                                                   \
    do {                                                                                                               \
        char text[TEXT_BYTES];                                                                                         \
        va_list args;                                                                                                  \
        va_start(args, format);                                                                                        \
        vsnprintf(text, sizeof text, format, args);                                                                    \
        va_end(args);                                                                                                  \
        report_line(k->report, problem, "%s", text);                                                                   \
    } while (0)

void fsck_problem(struct fsck *k, const char *format, ...)
{
    SAY(true);
    k->result->problems++;
}

void fsck_note(struct fsck *k, const char *format, ...)
{
    SAY(false);
    k->result->notes++;
}

void fsck_info(struct fsck *k, const char *format, ...)
{
    SAY(false);
}

void fsck_stop(struct fsck *k, int error, const char *name)
{
    report_line(k->report, true, "cannot go on with %s: %s", name, strerror(error));
    k->error = error == ENOMEM ? BROKER_NO_MEMORY : error == ENOSPC || error == EDQUOT ? BROKER_DISK_FULL : BROKER_IO;
}

const char *fsck_queue_name(const struct fsck *k, uint32_t queue)
{
    if (queue == SCHEDULE_QUEUE_ID)
        return "(schedule)";
    const char *name = engine_queue_name(k->engine, queue);
    return name ? name : "?";
}

/* ---- an engine that only listens ---------------------------------------------------------------------------------------- */

static broker_error no_append(void *store, const uint8_t *record, uint32_t length, enum durability durability,
                              uint64_t *index)
{
    return BROKER_SHUTTING_DOWN;
}
static broker_error no_append_all(void *store, const struct append_item *items, uint32_t count,
                                  enum durability durability, uint64_t *index)
{
    return BROKER_SHUTTING_DOWN;
}
static enum read_status no_read(void *store, uint32_t queue, uint64_t from, uint64_t to, uint32_t max_messages,
                                uint64_t max_bytes, struct stored_message *out, uint32_t *count, uint64_t *damaged_seq)
{
    *count = 0;
    return READ_END;
}
static void no_dead(void *store, uint32_t queue, uint64_t first, uint64_t last) {}
static void no_queue_gone(void *store, uint32_t queue) {}
static uint64_t no_seq_at_time(void *store, uint32_t queue, uint64_t time_ms)
{
    return UINT64_MAX;
}
static void no_usage(void *store, uint32_t queue, uint64_t *messages, uint64_t *bytes, uint64_t *oldest_seq)
{
    *messages = *bytes = *oldest_seq = 0;
}
static uint64_t no_oldest_ms(void *store, uint32_t queue)
{
    return 0;
}
static uint64_t no_trim_point(void *store, uint32_t queue, uint64_t before_time_ms, uint64_t max_bytes,
                              uint64_t max_messages)
{
    return 0;
}
static void no_stats(void *store, struct store_stats *out)
{
    *out = (struct store_stats){0};
}
static const struct store_ops no_store = {.append = no_append,
                                          .append_all = no_append_all,
                                          .read = no_read,
                                          .dead = no_dead,
                                          .queue_gone = no_queue_gone,
                                          .seq_at_time = no_seq_at_time,
                                          .usage = no_usage,
                                          .oldest_ms = no_oldest_ms,
                                          .trim_point = no_trim_point,
                                          .stats = no_stats};
static void no_complete(void *sink, const struct completion *c) {}
static bool no_deliver(void *sink, const struct delivery *d)
{
    return true;
}
static void no_ended(void *sink, struct token token, broker_error error, const char *text) {}
static const struct sink_ops no_sink = {.complete = no_complete, .deliver = no_deliver, .ended = no_ended};

/* ---- checkpoints --------------------------------------------------------------------------------------------------------- */

static bool restore_base(struct fsck *k, const char *name)
{
    const char *text = "";
    k->engine = engine_new(&(struct engine_options){0}, &no_store, NULL, &no_sink, NULL);
    if (!k->engine) {
        fsck_stop(k, ENOMEM, name);
        return false;
    }
    if (!k->base.bytes)
        return true;
    broker_error error = engine_restore(k->engine, k->base.engine, k->base.head.engine_bytes, &text);
    if (error) {
        fsck_problem(k, "%s: the engine's state in it makes no sense: %s", name, text);
        k->error = error == BROKER_MALFORMED ? BROKER_DAMAGED : error;
    }
    return error == BROKER_OK;
}

/* Newest first. Damaged ones are set aside in any case: what they say cannot be used. */
static void check_checkpoints(struct fsck *k)
{
    int seen = 0;
    char base[FILE_NAME_BYTES] = "no checkpoint";
    for (size_t i = k->files.n; i > 0 && !k->error; i--) {
        const struct listed *f = &k->files.files[i - 1];
        struct checkpoint_image image;
        const char *what;
        if (f->kind != FILE_CHECKPOINT)
            continue;
        int error = checkpoint_read(&image, k->ops, k->disk, f->name, &what);
        if (!error && image.head.index != f->number) {
            error = EBADMSG;
            what = "it is of another index than its name";
        }
        k->claimed = f->number > k->claimed ? f->number : k->claimed;
        if (error_is_transient(error)) {
            fsck_stop(k, error, f->name);
        } else if (error == EPROTO) {
            fsck_problem(k, "%s: %s; this program reads version %d", f->name, what, FORMAT_VERSION);
            k->error = BROKER_UNSUPPORTED_VERSION;
        } else if (error) {
            fsck_problem(k, "%s is damaged: %s; %s", f->name, what,
                         k->base.bytes ? "the newer one is whole, nothing is lost"
                                       : "an older one, or the log from its beginning, must do");
            k->bad_checkpoint |= !k->base.bytes;
            fsck_set_aside(k, f->name);
        } else if (seen >= 2) {
            fsck_note(k, "%s is older than the two that count and not needed", f->name);
        } else if (!k->base.bytes) {
            k->base = image;
            image.bytes = NULL;
            memcpy(base, f->name, sizeof base);
        }
        checkpoint_release_image(&image);
        seen++;
    }
    if (!k->error)
        restore_base(k, base);
}

/* ---- segments ----------------------------------------------------------------------------------------------------------------- */

static const struct fsck_segment *find_segment(const struct fsck *k, uint32_t number)
{
    for (uint32_t i = 0; i < k->segment_count; i++) {
        if (k->segments[i].number == number)
            return &k->segments[i];
    }
    return NULL;
}

static int segment_order(const void *a, const void *b)
{
    const struct fsck_segment *x = a, *y = b;
    return x->number < y->number ? -1 : x->number > y->number;
}

static void add_base_segment(struct fsck *k, uint32_t i)
{
    struct fsck_segment *g = &k->segments[k->segment_count++];
    g->base = checkpoint_image_segment(&k->base, i);
    g->in_base = true;
    g->number = g->base.number;
    g->kind = g->base.kind;
    g->full_bytes = g->base.file_bytes;
    g->role = g->base.sealed ? ROLE_SEALED : ROLE_LOG;
    segment_name(g->name, g->kind, g->number);
    g->present = listing_find(&k->files, g->kind == SEGMENT_LOG ? FILE_LOG : FILE_COLD, g->number) != NULL;
    if (!g->present) {
        fsck_problem(k, "%s is missing", g->name);
        g->damaged = true;
    }
}

static void add_listed_segment(struct fsck *k, const struct listed *f)
{
    if ((f->kind != FILE_LOG && f->kind != FILE_COLD) || find_segment(k, (uint32_t)f->number))
        return;
    struct fsck_segment *g = &k->segments[k->segment_count++];
    g->number = (uint32_t)f->number;
    g->kind = f->kind == FILE_LOG ? SEGMENT_LOG : SEGMENT_COLD;
    g->present = true;
    /* Whether the log goes on in it is found out by walking it. */
    bool after = f->kind == FILE_LOG && (!k->base.bytes || g->number > k->base.head.end_segment);
    g->role = after ? ROLE_PREPARED : ROLE_UNNEEDED;
    memcpy(g->name, f->name, sizeof g->name);
}

static void open_segments(struct fsck *k)
{
    uint32_t most = (k->base.bytes ? k->base.head.segments : 0) + (uint32_t)k->files.n;
    k->segments = calloc(most ? most : 1, sizeof *k->segments);
    if (!k->segments) {
        fsck_stop(k, ENOMEM, "the segments");
        return;
    }
    for (uint32_t i = 0; k->base.bytes && i < k->base.head.segments; i++)
        add_base_segment(k, i);
    for (size_t i = 0; i < k->files.n; i++)
        add_listed_segment(k, &k->files.files[i]);
    qsort(k->segments, k->segment_count, sizeof *k->segments, segment_order);
    for (uint32_t i = 0; i < k->segment_count && !k->error; i++) {
        k->segments[i].scan.segment = k->segments[i].number;
        if (k->segments[i].present)
            fsck_head(k, &k->segments[i]);
    }
}

static void close_segment(struct fsck_segment *g)
{
    scan_close(&g->scan);
    free(g->pieces);
    free(g->found);
    g->pieces = NULL;
    g->found = NULL;
}

static void check_segment(struct fsck *k, struct fsck_segment *g)
{
    k->result->segments++;
    k->result->bytes += g->scan.file_bytes;
    if (g->role == ROLE_SEALED)
        fsck_walk_sealed(k, g);
    if (g->role == ROLE_UNNEEDED)
        fsck_info(k, "%s is not needed any more and will be freed; it was not checked", g->name);
    if (g->role == ROLE_UNNEEDED || k->error)
        return;
    fsck_sort_found(g);
    if (g->role == ROLE_SEALED)
        fsck_footer(k, g);
    else if (g->present)
        fsck_zeros(k, g, g->role == ROLE_LOG ? g->log_end : SEGMENT_DATA_START, g->scan.file_bytes,
                   "free space behind the log's end");
    if (g->in_base)
        fsck_losses(k, g);
    if (g->damaged && k->quarantine && !k->error)
        fsck_repair(k, g);
}

/* ---- the other files --------------------------------------------------------------------------------------------------------- */

static void check_spare(struct fsck *k, const struct listed *f)
{
    struct fsck_segment g = {.number = (uint32_t)f->number};
    memcpy(g.name, f->name, sizeof g.name);
    int error = scan_open(&g.scan, k->ops, k->disk, f->name, g.number);
    const uint8_t *head = error ? NULL : scan_bytes(&g.scan, 0, SEGMENT_HEAD_BYTES);
    struct segment_head h;
    if (error)
        fsck_note(k, "%s cannot be opened: %s; it is a spare, no message is affected", f->name, strerror(error));
    else if (g.scan.file_bytes < SEGMENT_MIN_BYTES || g.scan.file_bytes % SEGMENT_DATA_START)
        fsck_note(k, "%s has an odd length of %" PRIu64 " bytes; it is a spare, no message is affected", f->name,
                  g.scan.file_bytes);
    if (head && segment_head_get(head, &h) == FORMAT_OK)
        fsck_info(k, "%s is a spare that was a segment before; its bytes mean nothing and were not checked", f->name);
    else if (!error)
        fsck_zeros(k, &g, 0, g.scan.file_bytes, "a spare segment");
    close_segment(&g);
}

static void check_other(struct fsck *k, const struct listed *f)
{
    struct file *file;
    uint64_t size = 0;
    switch (f->kind) {
    case FILE_SPARE: check_spare(k, f); break;
    case FILE_TEMPORARY: fsck_info(k, "%s was being written; the next start removes it", f->name); break;
    case FILE_OTHER: fsck_note(k, "%s is no file of the broker's", f->name); break;
    case FILE_LOCK:
        if (k->ops->open(k->disk, f->name, false, &file) == 0) {
            k->ops->size(k->disk, file, &size);
            k->ops->close(k->disk, file);
        }
        if (size)
            fsck_note(k, "lock: %" PRIu64 " bytes in a file that should be empty; no message is affected", size);
        break;
    default: break;
    }
}

/* ---- all of it ------------------------------------------------------------------------------------------------------------------ */

static void run(struct fsck *k)
{
    check_checkpoints(k);
    if (!k->error)
        open_segments(k);
    if (!k->error)
        fsck_find_claims(k);
    if (!k->error)
        fsck_walk_log(k);
    for (uint32_t i = 0; i < k->segment_count && !k->error; i++) {
        check_segment(k, &k->segments[i]);
        close_segment(&k->segments[i]);
    }
    for (size_t i = 0; i < k->files.n && !k->error; i++)
        check_other(k, &k->files.files[i]);
    if (k->quarantine && !k->error && k->ops->sync_dir(k->disk))
        fsck_stop(k, EIO, "the data directory");
}

static void release(struct fsck *k)
{
    struct last_seq *l, *next;
    HASH_ITER(hh, k->last_seqs, l, next)
    {
        HASH_DELETE(hh, k->last_seqs, l);
        free(l);
    }
    for (uint32_t i = 0; i < k->segment_count; i++)
        close_segment(&k->segments[i]);
    free(k->segments);
    free(k->suspects);
    if (k->engine)
        engine_free(k->engine);
    checkpoint_release_image(&k->base);
    listing_release(&k->files);
}

broker_error store_fsck(const struct disk_ops *ops, void *disk, bool quarantine, const struct store_report *report,
                        struct fsck_result *result)
{
    struct fsck k = {.ops = ops, .disk = disk, .report = report, .result = result, .quarantine = quarantine};
    *result = (struct fsck_result){0};
    int locked = ops->lock(disk);
    if (locked == EWOULDBLOCK || locked == EAGAIN) {
        report_line(report, true, "the data directory is in use by another process; stop the broker first");
        return BROKER_IO;
    }
    if (locked) {
        fsck_stop(&k, locked, "the lock");
        return k.error;
    }
    int error = listing_read(&k.files, ops, disk);
    if (error)
        fsck_stop(&k, error, "the data directory");
    else
        run(&k);
    release(&k);
    if (k.error)
        return k.error;
    return result->problems ? BROKER_DAMAGED : BROKER_OK;
}
