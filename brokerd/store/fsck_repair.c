/*
 * fsck: a repaired copy of a segment. Everything whole stays at its offset; each damaged part becomes one batch in which records
 * that stand for lost ones fill the gaps. The footer of a sealed segment is made anew, numbered as the checkpoint expects it. The
 * damaged file goes to quarantine/.
 */
#include "fsck.h"

#include <inttypes.h>
#include <stdio.h>

enum { COPY_BYTES = 1 << 20 };

bool fsck_set_aside(struct fsck *k, const char *name)
{
    char to[FILE_NAME_BYTES + 16];
    if (!k->quarantine)
        return true;
    snprintf(to, sizeof to, "quarantine/%s", name);
    int error = k->ops->rename(k->disk, name, to);
    if (error) {
        fsck_stop(k, error, name);
        return false;
    }
    fsck_info(k, "%s was moved to quarantine/", name);
    return true;
}

struct repair {
    struct fsck *k;
    struct fsck_segment *g;
    struct file *file;
    int error;
};

static void put(struct repair *p, uint64_t offset, const void *bytes, size_t n)
{
    if (!p->error)
        p->error = p->k->ops->write(p->k->disk, p->file, offset, bytes, n);
}

static void copy(struct repair *p, uint64_t from, uint64_t to)
{
    while (from < to && !p->error) {
        size_t n = to - from < COPY_BYTES ? (size_t)(to - from) : COPY_BYTES;
        const uint8_t *bytes = scan_bytes(&p->g->scan, from, n);
        if (!bytes)
            p->error = p->g->scan.error ? p->g->scan.error : EIO;
        else
            put(p, from, bytes, n);
        from += n;
    }
}

/* ---- a damaged part as one batch ------------------------------------------------------------------------------------------ */

struct patch {      /* the batch being put together, at its place in memory */
    uint8_t *bytes; /* owned: of the whole part */
    uint64_t len, at;
    uint32_t count, crc;
};

static void seal_record(struct patch *b, uint32_t padded)
{
    b->crc = crc32c(b->crc, b->bytes + b->at, 8);
    b->count++;
    b->at += padded;
}

/* What was lost is stood for by records without meaning; n is 0 or at least a record's head. */
static void fill_gap(struct patch *b, uint64_t n)
{
    const uint64_t most = RECORD_MAX_BYTES / 2;
    while (n) {
        uint64_t piece = n > most + RECORD_HEAD_BYTES ? most : n;
        memset(b->bytes + b->at, 0, piece);
        record_head_put(b->bytes + b->at, &(struct record_head){.length = (uint32_t)piece, .type = RECORD_LOST});
        record_seal(b->bytes + b->at);
        seal_record(b, (uint32_t)piece);
        n -= piece;
    }
}

static bool is_at(const struct fsck_segment *g, uint32_t queue, uint64_t seq, uint64_t offset)
{
    const struct found *found = fsck_lookup(g, queue, seq);
    return found && (uint64_t)found->place * 8 == offset;
}

static bool is_kept(const struct fsck_segment *g, const uint8_t *record, uint64_t offset)
{
    for (uint32_t i = 0; i < g->piece_count; i++) {
        if (g->pieces[i].skip == offset)
            return false;
    }
    return record_type_of(record) != RECORD_MESSAGE || is_at(g, record_queue(record), record_seq(record), offset);
}

/* What is kept from `offset` on, as one: a record, or a route with the message behind it; 0: nothing. */
static uint32_t kept_bytes(const struct fsck_segment *g, const uint8_t *record, uint64_t left, uint64_t offset)
{
    if (!fsck_is_record(record, left) || !is_kept(g, record, offset))
        return 0;
    uint32_t padded = record_padded(record);
    if (record_type_of(record) != RECORD_ROUTE)
        return padded;
    struct route route = fsck_route_of(record, left);
    bool all = route.n && is_kept(g, record + padded, offset + padded);
    for (uint32_t i = 0; i < route.n && all; i++)
        all = is_at(g, route_queue(&route, i), route_seq(&route, i), offset + padded);
    return all ? padded + record_padded(record + padded) : 0;
}

static void put_part(struct repair *p, const struct piece *part)
{
    struct fsck_segment *g = p->g;
    struct patch b = {.len = part->to - part->from, .at = BATCH_HEAD_BYTES};
    uint64_t there = part->from < g->scan.file_bytes ? g->scan.file_bytes - part->from : 0;
    there = there < b.len ? there : b.len;
    b.bytes = calloc(1, b.len);
    if (!b.bytes) {
        p->error = ENOMEM;
        return;
    }
    const uint8_t *old = g->present && there ? scan_bytes(&g->scan, part->from, (size_t)there) : NULL;
    for (uint64_t at = BATCH_HEAD_BYTES; old && at < there;) {
        const uint8_t *record = old + at;
        uint32_t kept = kept_bytes(g, record, there - at, part->from + at);
        uint64_t gap = at - b.at, rest = b.len - at - kept;
        /* Gaps must be fillable: a record so near to another's rest that nothing fits between cannot be kept. */
        if (kept && (gap == 0 || gap >= RECORD_HEAD_BYTES) && (rest == 0 || rest >= RECORD_HEAD_BYTES)) {
            fill_gap(&b, gap);
            for (uint64_t end = at + kept; at < end; at += record_padded(old + at)) {
                memcpy(b.bytes + at, old + at, record_length(old + at));
                seal_record(&b, record_padded(old + at));
            }
        } else {
            at += fsck_is_record(record, there - at) ? record_padded(record) : 8;
        }
    }
    fill_gap(&b, b.len - b.at);
    struct batch_head head = {.index = part->index,
                              .durable = 0,
                              .epoch = part->epoch,
                              .length = (uint32_t)b.len,
                              .segment = g->number,
                              .count = b.count,
                              .records_crc = b.crc,
                              .flags = BATCH_REPAIRED};
    batch_head_put(b.bytes, &head);
    put(p, part->from, b.bytes, b.len);
    free(b.bytes);
}

static int piece_order(const void *a, const void *b)
{
    const struct piece *x = a, *y = b;
    return x->from < y->from ? -1 : x->from > y->from;
}

static void put_batches(struct repair *p)
{
    struct fsck_segment *g = p->g;
    uint64_t at = SEGMENT_DATA_START;
    if (g->piece_count)
        qsort(g->pieces, g->piece_count, sizeof *g->pieces, piece_order);
    for (uint32_t i = 0; i < g->piece_count; i++) {
        const struct piece *part = &g->pieces[i];
        if (i && part->from == g->pieces[i - 1].from) /* several records of one batch */
            continue;
        copy(p, at, part->from);
        put_part(p, part);
        at = part->to;
    }
    copy(p, at, g->log_end);
}

/* ---- the footer -------------------------------------------------------------------------------------------------------------- */

static void run_entries(const struct fsck_segment *g, const struct checkpoint_run *run, struct entry *entries)
{
    for (uint32_t i = 0; i < run->count; i++) {
        const struct found *found = fsck_lookup(g, run->queue, run->first + i);
        if (found)
            entries[run->entry + i] = (struct entry){found->place, found->length};
    }
}

static void put_footer(struct repair *p)
{
    struct fsck_segment *g = p->g;
    struct checkpoint_run run;
    struct segment_trailer trailer = {.number = g->number,
                                      .data_end = g->base.data_end,
                                      .footer_at = g->base.data_end,
                                      .max_time_ms = g->base.max_time_ms};
    for (uint64_t at = 0; checkpoint_image_run(&p->k->base, &at, &run, NULL);) {
        if (run.segment != g->number)
            continue;
        trailer.runs++;
        trailer.entries = run.entry + run.count > trailer.entries ? run.entry + run.count : trailer.entries;
    }
    uint64_t directory = (uint64_t)trailer.runs * DIRECTORY_RUN_BYTES;
    uint64_t bytes = directory + entry_blocks_bytes(trailer.entries);
    uint8_t *footer = malloc(bytes + 1), *to = footer;
    struct entry *entries = calloc(trailer.entries + 1, sizeof *entries);
    if (footer && entries && trailer.footer_at + bytes + SEGMENT_TRAILER_BYTES <= g->full_bytes) {
        for (uint64_t at = 0; checkpoint_image_run(&p->k->base, &at, &run, NULL);) {
            if (run.segment != g->number)
                continue;
            run_entries(g, &run, entries);
            directory_run_put(
                to, &(struct directory_run){run.queue, 0, run.first, run.count, run.entry, g->base.max_time_ms});
            to += DIRECTORY_RUN_BYTES;
        }
        trailer.directory_crc = crc32c(0, footer, directory);
        for (uint32_t at = 0, block = 0; at < trailer.entries; at += ENTRIES_PER_BLOCK, block++) {
            uint32_t n = trailer.entries - at < ENTRIES_PER_BLOCK ? trailer.entries - at : ENTRIES_PER_BLOCK;
            to += entry_block_put(to, entries + at, n, g->number, block);
        }
        uint8_t last[SEGMENT_TRAILER_BYTES];
        segment_trailer_put(last, &trailer);
        put(p, trailer.footer_at, footer, bytes);
        put(p, g->full_bytes - SEGMENT_TRAILER_BYTES, last, sizeof last);
    } else {
        p->error = ENOMEM;
    }
    free(footer);
    free(entries);
}

/* ---- all of it ------------------------------------------------------------------------------------------------------------------ */

void fsck_repair(struct fsck *k, struct fsck_segment *g)
{
    struct repair p = {.k = k, .g = g};
    char temporary[FILE_NAME_BYTES + 8];
    snprintf(temporary, sizeof temporary, "%s.tmp", g->name);
    if (g->role == ROLE_PREPARED) { /* nothing is in it: the next start makes another */
        fsck_set_aside(k, g->name);
        return;
    }
    p.error = k->ops->open(k->disk, temporary, true, &p.file);
    if (!p.error) {
        struct segment_head head = {.kind = g->kind, .number = g->number, .bytes = g->full_bytes};
        p.error = k->ops->truncate(k->disk, p.file, 0);
        if (!p.error)
            p.error = k->ops->allocate(k->disk, p.file, g->full_bytes);
        if (!p.error)
            p.error = segment_write_head(k->ops, k->disk, p.file, &head);
        put_batches(&p);
        if (g->role == ROLE_SEALED && !p.error)
            put_footer(&p);
        if (!p.error)
            p.error = k->ops->sync(k->disk, p.file);
        k->ops->close(k->disk, p.file);
    }
    if (p.error) {
        k->ops->remove(k->disk, temporary);
        fsck_stop(k, p.error, temporary);
        return;
    }
    if (g->present && !fsck_set_aside(k, g->name))
        return;
    int error = k->ops->rename(k->disk, temporary, g->name);
    if (error)
        fsck_stop(k, error, temporary);
    else
        fsck_info(k, "%s was repaired: what is whole was kept", g->name);
}
