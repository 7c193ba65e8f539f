/* The worker's half of a read: find the records of one queue, read neighbours together, check each, pack them. */
#include "extent.h"
#include "scan.h"

static int find_entries(struct read_job *j, struct scan *c)
{
    if (!j->sealed)
        return 0;
    struct segment_trailer trailer;
    j->entries = malloc(j->n * sizeof *j->entries);
    if (!j->entries)
        return ENOMEM;
    int error = footer_trailer(c, &trailer);
    if (!error)
        error = footer_entries(c, &trailer, j->entry, j->n, j->entries);
    if (!error || error_is_transient(error))
        return error;
    /* A damaged footer costs time, but no message. */
    bool damaged;
    j->footer_damaged = true;
    error = scan_entries(c, j->data_end, j->queue, j->first, j->n, j->entries, &damaged);
    for (uint32_t i = 0; damaged && i < j->n; i++) {
        if (j->entries[i].length == 0) /* it may have been there */
            j->entries[i] = (struct entry){SEGMENT_DATA_START / 8, RECORD_HEAD_BYTES};
    }
    return error;
}

/* Keep as many as fit in the extent's ceiling, one at least; *bytes is what they take. */
static void limit(struct read_job *j, uint64_t *bytes)
{
    *bytes = 0;
    for (uint32_t i = 0; i < j->n; i++) {
        uint64_t padded = pad8(entry_length(&j->entries[i]));
        if (*bytes && padded && *bytes + padded > 2 * EXTENT_BYTES) {
            j->n = i;
            return;
        }
        *bytes += padded;
    }
}

struct gather { /* neighbours that one read brings */
    struct scan *c;
    uint8_t *buffer;
    size_t cap;
};

static uint64_t entry_end(const struct entry *e)
{
    return (uint64_t)e->place * 8 + pad8(entry_length(e));
}

/* Entries i..k-1 whose records are near each other; holes between are skipped. */
static uint32_t group_end(const struct read_job *j, uint32_t i)
{
    uint64_t start = (uint64_t)j->entries[i].place * 8, end = entry_end(&j->entries[i]);
    uint32_t k = i + 1;
    for (; k < j->n; k++) {
        const struct entry *e = &j->entries[k];
        if (e->length == 0)
            continue;
        uint64_t at = (uint64_t)e->place * 8;
        if (at < end || at - end > GAP_BYTES || entry_end(e) - start > GATHER_BYTES)
            break;
        end = entry_end(e);
    }
    return k;
}

bool record_is(const uint8_t *r, const struct entry *e, uint32_t queue, uint64_t seq)
{
    uint32_t length = entry_length(e);
    if (record_length(r) != length || !record_intact(r, length) || record_type_of(r) != RECORD_MESSAGE)
        return false;
    bool own = record_queue(r) == queue && record_seq(r) == seq;
    return own != ((e->length & ENTRY_ROUTED) != 0);
}

/* Read entries from..to-1 in one go; if that fails and they are several, each alone, so that one bad sector costs no more
   than the records in it. */
static int gather(struct gather *g, struct read_job *j, uint32_t from, uint32_t to)
{
    uint64_t start = (uint64_t)j->entries[from].place * 8, end = start;
    for (uint32_t i = from; i < to; i++)
        end = j->entries[i].length ? entry_end(&j->entries[i]) : end;
    size_t n = (size_t)(end - start), got = 0;
    if (n > g->cap) {
        free(g->buffer);
        g->cap = n > GATHER_BYTES ? n : GATHER_BYTES;
        g->buffer = malloc(g->cap);
        if (!g->buffer) {
            g->cap = 0;
            return ENOMEM;
        }
    }
    int error = g->c->ops->read(g->c->disk, g->c->file, start, g->buffer, n, &got);
    if (error_is_transient(error))
        return error;
    if (error && to - from > 1) {
        for (uint32_t i = from; i < to; i++) {
            if (j->entries[i].length && (error = gather(g, j, i, i + 1)))
                return error;
        }
        return 0;
    }
    got = error ? 0 : got;
    for (uint32_t i = from; i < to; i++) {
        const struct entry *e = &j->entries[i];
        uint64_t at = (uint64_t)e->place * 8 - start;
        if (e->length == 0)
            continue;
        j->places[i] = PLACE_BAD;
        uint32_t padded = pad8(entry_length(e));
        if (at + padded > got || !record_is(g->buffer + at, e, j->queue, j->first + i))
            continue;
        memcpy(j->bytes + j->size, g->buffer + at, padded);
        j->places[i] = (uint32_t)(j->size / 8);
        j->size += padded;
    }
    return 0;
}

static int read_records(struct read_job *j, struct scan *c)
{
    int error = find_entries(j, c);
    if (error)
        return error;
    uint64_t bytes;
    limit(j, &bytes);
    j->places = malloc(j->n * sizeof *j->places);
    j->bytes = malloc(bytes ? bytes : 1);
    if (!j->places || !j->bytes)
        return ENOMEM;
    for (uint32_t i = 0; i < j->n; i++) {
        j->places[i] = PLACE_HOLE;
        if (j->entries[i].length & ENTRY_DEAD)
            j->entries[i].length = 0;
    }
    struct gather g = {.c = c};
    for (uint32_t i = 0; i < j->n && !error;) {
        if (j->entries[i].length == 0) {
            i++;
            continue;
        }
        uint32_t to = group_end(j, i);
        error = gather(&g, j, i, to);
        i = to;
    }
    free(g.buffer);
    return error;
}

void read_job_run(struct job *job)
{
    struct read_job *j = (struct read_job *)job;
    char name[FILE_NAME_BYTES];
    struct scan c;
    segment_name(name, j->kind, j->segment);
    int error = scan_open(&c, j->j.ops, j->j.disk, name, j->segment);
    if (!error)
        error = read_records(j, &c);
    scan_close(&c);
    if (error && !error_is_transient(error)) { /* the file cannot be opened at all: every message in it is damaged */
        j->places = j->places ? j->places : malloc(j->n * sizeof *j->places);
        for (uint32_t i = 0; j->places && i < j->n; i++)
            j->places[i] = PLACE_BAD;
        error = j->places ? 0 : ENOMEM;
    }
    j->j.error = error;
}
