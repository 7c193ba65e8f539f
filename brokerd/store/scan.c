#include "scan.h"

#include <errno.h>
#include <stdlib.h>

enum { WINDOW_BYTES = 2 << 20 };

int scan_open(struct scan *c, const struct disk_ops *ops, void *disk, const char *name, uint32_t segment)
{
    *c = (struct scan){.ops = ops, .disk = disk, .segment = segment};
    int error = ops->open(disk, name, false, &c->file);
    if (!error)
        error = ops->size(disk, c->file, &c->file_bytes);
    return error;
}

void scan_close(struct scan *c)
{
    if (c->file)
        c->ops->close(c->disk, c->file);
    free(c->buffer);
    c->file = NULL;
    c->buffer = NULL;
}

static bool grow(struct scan *c, size_t cap)
{
    if (cap <= c->cap)
        return true;
    free(c->buffer);
    c->len = c->cap = 0;
    c->buffer = malloc(cap);
    if (!c->buffer) {
        c->error = ENOMEM;
        return false;
    }
    c->cap = cap;
    return true;
}

const uint8_t *scan_bytes(struct scan *c, uint64_t offset, size_t n)
{
    c->error = 0;
    if (offset > c->file_bytes || n > c->file_bytes - offset)
        return NULL;
    if (offset >= c->at && offset + n <= c->at + c->len)
        return c->buffer + (offset - c->at);
    size_t want = n > WINDOW_BYTES ? n : WINDOW_BYTES;
    if (want > c->file_bytes - offset)
        want = (size_t)(c->file_bytes - offset);
    if (!grow(c, want))
        return NULL;
    c->at = offset;
    c->len = 0;
    size_t got = 0;
    c->error = c->ops->read(c->disk, c->file, offset, c->buffer, want, &got);
    if (c->error && want > n) /* something further on may be unreadable, not this */
        c->error = c->ops->read(c->disk, c->file, offset, c->buffer, want = n, &got);
    if (c->error)
        return NULL;
    c->len = got;
    return got >= n ? c->buffer : NULL;
}

enum scan_found scan_batch(struct scan *c, uint64_t offset, struct batch_head *head, const uint8_t **batch)
{
    *batch = NULL;
    uint64_t left = offset < c->file_bytes ? c->file_bytes - offset : 0;
    if (left < BATCH_HEAD_BYTES) {
        const uint8_t *some = left ? scan_bytes(c, offset, (size_t)left) : NULL;
        /* The file ends here. If a batch had begun, its magic or a part of it would show. */
        return some && !memcmp(some, "\0\0\0\0", left < 4 ? (size_t)left : 4) ? SCAN_NONE : SCAN_CUT;
    }
    const uint8_t *bytes = scan_bytes(c, offset, BATCH_HEAD_BYTES);
    if (!bytes)
        return SCAN_ERROR;
    if (!batch_head_get(bytes, c->segment, head))
        return SCAN_NONE;
    if (head->length > left)
        return SCAN_CUT;
    *batch = scan_bytes(c, offset, head->length);
    if (!*batch)
        return SCAN_ERROR;
    return batch_records_ok(*batch, head) ? SCAN_BATCH : SCAN_TORN;
}

uint64_t scan_find(struct scan *c, uint64_t from, uint64_t to, struct batch_head *head)
{
    const uint32_t magic = batch_magic_word();
    c->error = 0;
    if (to > c->file_bytes)
        to = c->file_bytes;
    for (from = (from + 7) / 8 * 8; from + BATCH_HEAD_BYTES <= to;) {
        size_t n = to - from < WINDOW_BYTES ? (size_t)(to - from) : WINDOW_BYTES;
        const uint8_t *bytes = scan_bytes(c, from, n);
        if (!bytes)
            return UINT64_MAX;
        size_t at = 0;
        for (; at + BATCH_HEAD_BYTES <= n; at += 8) {
            if (get_u32(bytes + at) == magic && batch_head_get(bytes + at, c->segment, head))
                return from + at;
        }
        from += at;
    }
    return UINT64_MAX;
}

uint64_t scan_last_nonzero(struct scan *c, uint64_t from, uint64_t to)
{
    uint64_t last = from;
    c->error = 0;
    if (to > c->file_bytes)
        to = c->file_bytes;
    for (uint64_t at = from; at < to;) {
        size_t n = to - at < WINDOW_BYTES ? (size_t)(to - at) : WINDOW_BYTES;
        const uint8_t *bytes = scan_bytes(c, at, n);
        if (!bytes)
            return UINT64_MAX;
        for (size_t i = 0; i < n; i++) {
            if (bytes[i])
                last = at + i + 1;
        }
        at += n;
    }
    return last;
}

/* ---- footers ---------------------------------------------------------------------------------------------------------- */

int footer_trailer(struct scan *c, struct segment_trailer *trailer)
{
    if (c->file_bytes < SEGMENT_DATA_START + SEGMENT_TRAILER_BYTES)
        return EBADMSG;
    uint64_t at = c->file_bytes - SEGMENT_TRAILER_BYTES;
    const uint8_t *bytes = scan_bytes(c, at, SEGMENT_TRAILER_BYTES);
    if (!bytes)
        return c->error ? c->error : EBADMSG;
    if (segment_trailer_get(bytes, trailer) != FORMAT_OK || trailer->number != c->segment)
        return EBADMSG;
    uint64_t directory = (uint64_t)trailer->runs * DIRECTORY_RUN_BYTES;
    bool fits = trailer->footer_at >= SEGMENT_DATA_START && trailer->footer_at >= trailer->data_end &&
                trailer->footer_at <= at && directory + entry_blocks_bytes(trailer->entries) <= at - trailer->footer_at;
    return fits ? 0 : EBADMSG;
}

int footer_load(struct scan *c, struct footer *f)
{
    *f = (struct footer){0};
    int error = footer_trailer(c, &f->trailer);
    if (error)
        return error;
    size_t bytes = (size_t)f->trailer.runs * DIRECTORY_RUN_BYTES;
    const uint8_t *directory = scan_bytes(c, f->trailer.footer_at, bytes);
    if (!directory)
        return c->error ? c->error : EBADMSG;
    if (crc32c(0, directory, bytes) != f->trailer.directory_crc)
        return EBADMSG;
    f->runs = malloc((f->trailer.runs ? f->trailer.runs : 1) * sizeof *f->runs);
    if (!f->runs)
        return ENOMEM;
    for (uint32_t i = 0; i < f->trailer.runs; i++) {
        directory_run_get(directory + (size_t)i * DIRECTORY_RUN_BYTES, &f->runs[i]);
        if ((uint64_t)f->runs[i].entry + f->runs[i].count > f->trailer.entries || f->runs[i].count == 0)
            return EBADMSG;
    }
    return 0;
}

void footer_release(struct footer *f)
{
    free(f->runs);
    f->runs = NULL;
}

int footer_entries(struct scan *c, const struct segment_trailer *trailer, uint32_t first, uint32_t n, struct entry *out)
{
    uint64_t blocks_at = trailer->footer_at + (uint64_t)trailer->runs * DIRECTORY_RUN_BYTES;
    if ((uint64_t)first + n > trailer->entries)
        return EBADMSG;
    while (n) {
        struct entry block[ENTRIES_PER_BLOCK];
        uint32_t number = first / ENTRIES_PER_BLOCK, skip = first % ENTRIES_PER_BLOCK;
        uint32_t in_block = trailer->entries - number * ENTRIES_PER_BLOCK;
        in_block = in_block < ENTRIES_PER_BLOCK ? in_block : ENTRIES_PER_BLOCK;
        const uint8_t *bytes = scan_bytes(c, blocks_at + (uint64_t)number * ENTRY_BLOCK_BYTES,
                                          in_block * ENTRY_BYTES + ENTRY_BLOCK_TAIL_BYTES);
        if (!bytes)
            return c->error ? c->error : EBADMSG;
        if (!entry_block_get(bytes, in_block, c->segment, number, block))
            return EBADMSG;
        uint32_t take = in_block - skip < n ? in_block - skip : n;
        memcpy(out, block + skip, take * sizeof *out);
        out += take;
        first += take;
        n -= take;
    }
    return 0;
}

struct wanted { /* entries of a queue's seqs first .. first + n - 1 */
    uint32_t queue, n;
    uint64_t first;
    struct entry *out;
};

static void note_place(const struct wanted *w, uint32_t queue, uint64_t seq, uint64_t offset, uint32_t length)
{
    if (queue == w->queue && seq >= w->first && seq - w->first < w->n)
        w->out[seq - w->first] = (struct entry){(uint32_t)(offset / 8), length};
}

static void note_records(const uint8_t *batch, uint64_t offset, const struct batch_head *head, const struct wanted *w)
{
    struct route route = {0, NULL};
    for (uint32_t at = BATCH_HEAD_BYTES; at < head->length;) {
        const uint8_t *r = batch + at;
        if (!record_intact(r, head->length - at))
            return;
        uint32_t length = record_length(r);
        bool message = record_type_of(r) == RECORD_MESSAGE;
        if (message)
            note_place(w, record_queue(r), record_seq(r), offset + at, length);
        for (uint32_t i = 0; message && i < route.n; i++)
            note_place(w, route_queue(&route, i), route_seq(&route, i), offset + at, length | ENTRY_ROUTED);
        route = route_get(r, length);
        at += record_padded(r);
    }
}

int scan_entries(struct scan *c, uint64_t data_end, uint32_t queue, uint64_t first, uint32_t n, struct entry *out,
                 bool *damaged)
{
    struct wanted w = {queue, n, first, out};
    memset(out, 0, n * sizeof *out);
    *damaged = false;
    for (uint64_t at = SEGMENT_DATA_START; at < data_end;) {
        struct batch_head head;
        const uint8_t *batch;
        enum scan_found found = scan_batch(c, at, &head, &batch);
        if (found == SCAN_ERROR && c->error == ENOMEM)
            return ENOMEM;
        if (found == SCAN_BATCH || found == SCAN_TORN) {
            note_records(batch, at, &head, &w);
            at += head.length;
            *damaged |= found == SCAN_TORN;
            continue;
        }
        *damaged = true;
        at = scan_find(c, at + 8, data_end, &head);
        if (at == UINT64_MAX)
            return c->error == ENOMEM ? ENOMEM : 0;
    }
    return 0;
}
