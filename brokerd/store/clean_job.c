/*
 * The worker's half of cleaning: read the victims' directories; copy the records that are still wanted into one cold segment
 * that is just large enough, with batches and a footer of its own. It gets its name only when it is complete and synced.
 */
#include <inttypes.h>
#include <stdio.h>

#include "clean.h"

enum { COLD_BATCH_BYTES = 256 << 10, PIECE_ENTRIES = 4096 };

void clean_job_free(struct clean_job *j)
{
    for (uint32_t i = 0; i < j->victim_count; i++)
        footer_release(&j->victims[i].footer);
    free(j->ranges);
    free(j->runs);
    free(j->entries);
    free(j);
}

static int open_victim(struct clean_job *j, uint32_t i, struct scan *c)
{
    char name[FILE_NAME_BYTES];
    segment_name(name, j->victims[i].kind, j->victims[i].number);
    return scan_open(c, j->j.ops, j->j.disk, name, j->victims[i].number);
}

void clean_job_directories(struct job *job)
{
    struct clean_job *j = (struct clean_job *)job;
    for (uint32_t i = 0; i < j->victim_count && !j->j.error; i++) {
        struct scan c;
        int error = open_victim(j, i, &c);
        if (!error)
            error = footer_load(&c, &j->victims[i].footer);
        scan_close(&c);
        if (error_is_transient(error))
            j->j.error = error;
        else
            j->victims[i].damaged = error != 0;
    }
}

/* ---- the cold segment being written ----------------------------------------------------------------------------------- */

struct cold {
    struct clean_job *j;
    struct file *file;
    uint8_t *batch; /* being filled, head first */
    uint32_t len, cap, count, crc;
    uint64_t offset; /* of the batch */
};

static int cold_flush(struct cold *w)
{
    if (w->count == 0)
        return 0;
    struct batch_head head = {.index = ++w->j->batches,
                              .epoch = w->j->epoch,
                              .length = w->len,
                              .segment = w->j->cold,
                              .count = w->count,
                              .records_crc = w->crc};
    batch_head_put(w->batch, &head);
    int error = w->j->j.ops->write(w->j->j.disk, w->file, w->offset, w->batch, w->len);
    w->offset += w->len;
    w->len = BATCH_HEAD_BYTES;
    w->count = w->crc = 0;
    return error;
}

/* Room for one record of `padded` bytes; NULL: *error. */
static uint8_t *cold_room(struct cold *w, uint32_t padded, int *error)
{
    *error = w->len + padded > w->cap && w->count ? cold_flush(w) : 0;
    if (*error)
        return NULL;
    if (w->len + padded > w->cap) {
        uint8_t *batch = realloc(w->batch, BATCH_HEAD_BYTES + padded);
        if (!batch) {
            *error = ENOMEM;
            return NULL;
        }
        w->batch = batch;
        w->cap = BATCH_HEAD_BYTES + padded;
    }
    return w->batch + w->len;
}

static bool array_reserve(void **array, uint32_t *cap, uint32_t n, size_t size)
{
    if (n <= *cap)
        return true;
    uint32_t to = *cap ? *cap : 64;
    while (to < n)
        to *= 2;
    void *grown = realloc(*array, to * size);
    if (!grown)
        return false;
    *array = grown;
    *cap = to;
    return true;
}

/* The run that `seq` goes to: the last one if it follows it closely, else a new one. */
static struct clean_run *run_for(struct clean_job *j, uint32_t queue, uint64_t seq, bool joins)
{
    struct clean_run *r = j->run_count ? &j->runs[j->run_count - 1] : NULL;
    if (!r || r->run.queue != queue || !joins || seq - r->run.first - r->run.count > HOLES_MAX) {
        if (!array_reserve((void **)&j->runs, &j->run_cap, j->run_count + 1, sizeof *j->runs))
            return NULL;
        r = &j->runs[j->run_count++];
        *r = (struct clean_run){.run = {.queue = queue, .first = seq, .entry = j->entry_count}};
    }
    uint32_t add = (uint32_t)(seq - r->run.first) + 1 - r->run.count;
    if (!array_reserve((void **)&j->entries, &j->entry_cap, j->entry_count + add, sizeof *j->entries))
        return NULL;
    memset(j->entries + j->entry_count, 0, add * sizeof *j->entries);
    j->entry_count += add;
    r->run.count += add;
    return r;
}

static int copy_record(struct cold *w, struct scan *c, const struct entry *e, const struct clean_range *range,
                       uint64_t seq)
{
    uint32_t length = entry_length(e), padded = pad8(length);
    const uint8_t *record = scan_bytes(c, (uint64_t)e->place * 8, padded);
    if (!record)
        return error_is_transient(c->error) ? c->error : EBADMSG;
    if (!record_is(record, e, range->queue, seq))
        return EBADMSG;
    struct clean_run *r = run_for(w->j, range->queue, seq, range->joins || seq > range->first);
    int error = r ? 0 : ENOMEM;
    uint8_t *to = r ? cold_room(w, padded, &error) : NULL;
    if (!to)
        return error;
    memcpy(to, record, padded);
    if (e->length & ENTRY_ROUTED) { /* moved out, a further place is a message of its own: no cold segment has routes */
        put_u32(to + 12, range->queue);
        put_u64(to + 16, seq);
        record_seal(to);
    }
    w->j->entries[w->j->entry_count - 1] = (struct entry){(uint32_t)((w->offset + w->len) / 8), length};
    w->crc = crc32c(w->crc, to, 8);
    w->len += padded;
    w->count++;
    r->bytes += padded;
    uint64_t time_ms = get_u64(record + 24);
    r->run.max_time_ms = time_ms > r->run.max_time_ms ? time_ms : r->run.max_time_ms;
    w->j->max_time_ms = time_ms > w->j->max_time_ms ? time_ms : w->j->max_time_ms;
    return 0;
}

static int copy_range(struct cold *w, const struct clean_range *range, struct scan *c, struct entry *piece)
{
    struct clean_victim *v = &w->j->victims[range->victim];
    const struct directory_run *run = &v->footer.runs[range->run];
    for (uint64_t seq = range->first; seq <= range->last;) {
        uint64_t left = range->last - seq + 1;
        uint32_t n = left < PIECE_ENTRIES ? (uint32_t)left : PIECE_ENTRIES;
        int error = footer_entries(c, &v->footer.trailer, run->entry + (uint32_t)(seq - run->first), n, piece);
        for (uint32_t i = 0; i < n && !error; i++) {
            if (piece[i].length)
                error = copy_record(w, c, &piece[i], range, seq + i);
        }
        if (error) {
            v->damaged = error == EBADMSG || error == EIO;
            return error;
        }
        seq += n;
    }
    return 0;
}

static int copy_ranges(struct cold *w)
{
    struct clean_job *j = w->j;
    struct scan scans[CLEAN_VICTIMS_MAX];
    struct entry *piece = malloc(PIECE_ENTRIES * sizeof *piece);
    uint32_t opened = 0;
    int error = piece ? 0 : ENOMEM;
    while (opened < j->victim_count && !error)
        error = open_victim(j, opened, &scans[opened]), opened++;
    for (uint32_t i = 0; i < j->range_count && !error; i++)
        error = copy_range(w, &j->ranges[i], &scans[j->ranges[i].victim], piece);
    for (uint32_t i = 0; i < opened; i++)
        scan_close(&scans[i]);
    free(piece);
    return error ? error : cold_flush(w);
}

static int write_footer(struct cold *w)
{
    struct clean_job *j = w->j;
    uint64_t directory = (uint64_t)j->run_count * DIRECTORY_RUN_BYTES;
    uint64_t bytes = directory + entry_blocks_bytes(j->entry_count) + SEGMENT_TRAILER_BYTES;
    uint8_t *footer = malloc(bytes), *to = footer;
    if (!footer)
        return ENOMEM;
    for (uint32_t i = 0; i < j->run_count; i++, to += DIRECTORY_RUN_BYTES)
        directory_run_put(to, &j->runs[i].run);
    struct segment_trailer trailer = {.number = j->cold,
                                      .runs = j->run_count,
                                      .entries = j->entry_count,
                                      .data_end = w->offset,
                                      .footer_at = w->offset,
                                      .max_time_ms = j->max_time_ms,
                                      .directory_crc = crc32c(0, footer, directory)};
    for (uint32_t at = 0, block = 0; at < j->entry_count; at += ENTRIES_PER_BLOCK, block++) {
        uint32_t n = j->entry_count - at < ENTRIES_PER_BLOCK ? j->entry_count - at : ENTRIES_PER_BLOCK;
        to += entry_block_put(to, j->entries + at, n, j->cold, block);
    }
    segment_trailer_put(to, &trailer);
    j->data_end = w->offset;
    j->file_bytes = w->offset + bytes;
    int error = j->j.ops->write(j->j.disk, w->file, w->offset, footer, bytes);
    free(footer);
    return error;
}

static int write_cold(struct cold *w)
{
    struct clean_job *j = w->j;
    int error = copy_ranges(w);
    if (!error)
        error = write_footer(w);
    if (!error)
        error =
            segment_write_head(j->j.ops, j->j.disk, w->file,
                               &(struct segment_head){.kind = SEGMENT_COLD, .number = j->cold, .bytes = j->file_bytes});
    if (!error)
        error = j->j.ops->truncate(j->j.disk, w->file, j->file_bytes);
    return error ? error : j->j.ops->sync(j->j.disk, w->file);
}

void clean_job_copy(struct job *job)
{
    struct clean_job *j = (struct clean_job *)job;
    char name[FILE_NAME_BYTES], temporary[FILE_NAME_BYTES];
    struct cold w = {.j = j, .offset = SEGMENT_DATA_START, .len = BATCH_HEAD_BYTES, .cap = COLD_BATCH_BYTES};
    segment_name(name, SEGMENT_COLD, j->cold);
    snprintf(temporary, sizeof temporary, "cold-%010" PRIu32 ".log.tmp", j->cold);
    w.batch = malloc(w.cap);
    int error = w.batch ? j->j.ops->open(j->j.disk, temporary, true, &w.file) : ENOMEM;
    if (w.file) {
        error = write_cold(&w);
        j->j.ops->close(j->j.disk, w.file);
        if (!error)
            error = j->j.ops->rename(j->j.disk, temporary, name);
        if (!error)
            error = j->j.ops->sync_dir(j->j.disk);
        if (error)
            j->j.ops->remove(j->j.disk, temporary);
    }
    free(w.batch);
    j->j.error = error;
}
