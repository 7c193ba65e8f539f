/* fsck: heads, footers, free space, and what the damage found means for messages. */
#include "fsck.h"

#include <inttypes.h>

void fsck_head(struct fsck *k, struct fsck_segment *g)
{
    struct segment_head head;
    int error = scan_open(&g->scan, k->ops, k->disk, g->name, g->number);
    const uint8_t *bytes = error ? NULL : scan_bytes(&g->scan, 0, SEGMENT_HEAD_BYTES);
    if (error_is_transient(error)) {
        fsck_stop(k, error, g->name);
        return;
    }
    enum format_check check = bytes ? segment_head_get(bytes, &head) : FORMAT_DAMAGED;
    if (check == FORMAT_FOREIGN_VERSION && g->role != ROLE_UNNEEDED) {
        fsck_problem(k, "%s has format version %u; this program reads version %d", g->name, head.version,
                     FORMAT_VERSION);
        k->error = BROKER_UNSUPPORTED_VERSION;
        return;
    }
    g->head_ok = check == FORMAT_OK && head.number == g->number && head.kind == g->kind;
    if (g->role == ROLE_UNNEEDED)
        return;
    if (!g->head_ok) {
        fsck_problem(k, "%s, offset 0: the segment's head is damaged; the batches after it are not affected", g->name);
        g->damaged = true;
    } else {
        g->full_bytes = head.bytes;
        g->recycled = head.flags & SEGMENT_RECYCLED;
    }
    g->full_bytes = g->full_bytes ? g->full_bytes : g->scan.file_bytes;
    if (g->scan.file_bytes < g->full_bytes) {
        fsck_problem(k, "%s is truncated: %" PRIu64 " bytes instead of %" PRIu64, g->name, g->scan.file_bytes,
                     g->full_bytes);
        g->damaged = true;
    } else if (g->scan.file_bytes > g->full_bytes) {
        fsck_note(k,
                  "%s is longer than its head says: %" PRIu64 " bytes instead of %" PRIu64 "; no message is affected",
                  g->name, g->scan.file_bytes, g->full_bytes);
    }
    bool recycled = g->recycled;
    g->recycled = false; /* the rest of the head's page is never old */
    fsck_zeros(k, g, SEGMENT_HEAD_BYTES, SEGMENT_DATA_START, "unused space behind the segment's head");
    g->recycled = recycled;
}

void fsck_zeros(struct fsck *k, struct fsck_segment *g, uint64_t from, uint64_t to, const char *what)
{
    to = to < g->scan.file_bytes ? to : g->scan.file_bytes;
    if (from >= to)
        return;
    uint64_t end = scan_last_nonzero(&g->scan, from, to);
    if (end == UINT64_MAX) {
        if (error_is_transient(g->scan.error))
            fsck_stop(k, g->scan.error, g->name);
        else
            fsck_note(k, "%s: %s, offsets %" PRIu64 " to %" PRIu64 ", cannot be read; no message is affected", g->name,
                      what, from, to);
        return;
    }
    if (end == from)
        return;
    if (g->recycled)
        fsck_info(k, "%s: %s holds bytes of an earlier use, up to offset %" PRIu64 "; no message is affected", g->name,
                  what, end);
    else
        fsck_note(k, "%s: %s is not zero, last at offset %" PRIu64 "; no message is affected", g->name, what, end - 1);
}

/* ---- footers ------------------------------------------------------------------------------------------------------------- */

static bool check_entries(struct fsck *k, struct fsck_segment *g, const struct footer *f)
{
    bool all = true;
    struct entry entries[ENTRIES_PER_BLOCK];
    for (uint32_t at = 0; at < f->trailer.entries && !k->error; at += ENTRIES_PER_BLOCK) {
        uint32_t n = f->trailer.entries - at < ENTRIES_PER_BLOCK ? f->trailer.entries - at : ENTRIES_PER_BLOCK;
        int error = footer_entries(&g->scan, &f->trailer, at, n, entries);
        if (!error)
            continue;
        if (error_is_transient(error))
            fsck_stop(k, error, g->name);
        all = false;
        fsck_problem(k,
                     "%s, offset %" PRIu64
                     ": a block of the footer is damaged; the messages it leads to are found by reading the segment",
                     g->name,
                     f->trailer.footer_at + (uint64_t)f->trailer.runs * DIRECTORY_RUN_BYTES +
                         (uint64_t)at / ENTRIES_PER_BLOCK * ENTRY_BLOCK_BYTES);
    }
    return all;
}

static void check_run(struct fsck *k, struct fsck_segment *g, const struct footer *f, const struct directory_run *run)
{
    for (uint32_t i = 0; i < run->count && !k->error;) {
        struct entry entries[ENTRIES_PER_BLOCK];
        uint32_t n = run->count - i < ENTRIES_PER_BLOCK ? run->count - i : ENTRIES_PER_BLOCK;
        if (footer_entries(&g->scan, &f->trailer, run->entry + i, n, entries))
            return;
        for (uint32_t e = 0; e < n; e++) {
            const struct found *found = fsck_lookup(g, run->queue, run->first + i + e);
            if (entries[e].length && found &&
                (found->place != entries[e].place || found->length != entries[e].length)) {
                fsck_problem(k, "%s: the footer leads to the wrong place for message %" PRIu64 " of queue %u (\"%s\")",
                             g->name, run->first + i + e, run->queue, fsck_queue_name(k, run->queue));
                g->damaged = true;
                return;
            }
        }
        i += n;
    }
}

void fsck_footer(struct fsck *k, struct fsck_segment *g)
{
    struct footer f;
    if (!g->present)
        return;
    int error = footer_load(&g->scan, &f);
    if (error_is_transient(error)) {
        fsck_stop(k, error, g->name);
    } else if (error) {
        fsck_problem(k,
                     "%s, offset %" PRIu64
                     ": the footer (its %s) is damaged; reads of this segment are slow, no message is lost by that",
                     g->name,
                     f.trailer.number == g->number && f.trailer.footer_at ? f.trailer.footer_at : g->full_bytes,
                     f.trailer.number == g->number ? "trailer or directory" : "trailer");
        g->damaged = true;
    } else {
        if (!check_entries(k, g, &f))
            g->damaged = true;
        for (uint32_t i = 0; i < f.trailer.runs && !k->error; i++)
            check_run(k, g, &f, &f.runs[i]);
        uint64_t end = f.trailer.footer_at + (uint64_t)f.trailer.runs * DIRECTORY_RUN_BYTES +
                       entry_blocks_bytes(f.trailer.entries);
        fsck_zeros(k, g, g->base.data_end, f.trailer.footer_at, "unused space before the footer");
        fsck_zeros(k, g, end, g->full_bytes - SEGMENT_TRAILER_BYTES, "unused space behind the footer");
    }
    footer_release(&f);
}

/* ---- what is lost ------------------------------------------------------------------------------------------------------------- */

static int found_order(const void *a, const void *b)
{
    const struct found *x = a, *y = b;
    if (x->queue != y->queue)
        return x->queue < y->queue ? -1 : 1;
    return x->seq < y->seq ? -1 : x->seq > y->seq;
}

void fsck_sort_found(struct fsck_segment *g)
{
    if (g->found_count)
        qsort(g->found, g->found_count, sizeof *g->found, found_order);
}

const struct found *fsck_lookup(const struct fsck_segment *g, uint32_t queue, uint64_t seq)
{
    struct found key = {.queue = queue, .seq = seq};
    return g->found_count ? bsearch(&key, g->found, g->found_count, sizeof key, found_order) : NULL;
}

struct losses {
    struct fsck *k;
    const struct fsck_segment *g;
    uint32_t queue;
    uint64_t first, last; /* of the range being gathered; first 0: none */
};

static void losses_end(struct losses *l)
{
    if (!l->first)
        return;
    uint64_t n = l->last - l->first + 1;
    if (l->g->damaged) {
        fsck_problem(l->k, "lost: %" PRIu64 " message(s) of queue %u (\"%s\"), %" PRIu64 " to %" PRIu64 ", in %s", n,
                     l->queue, fsck_queue_name(l->k, l->queue), l->first, l->last, l->g->name);
        l->k->result->messages_lost += n;
    } else {
        fsck_note(l->k,
                  "%s has a hole that an earlier repair left: message(s) %" PRIu64 " to %" PRIu64
                  " of queue %u (\"%s\")",
                  l->g->name, l->first, l->last, l->queue, fsck_queue_name(l->k, l->queue));
    }
    l->first = 0;
}

static void look_for(void *arg, uint64_t first, uint64_t last)
{
    struct losses *l = arg;
    for (uint64_t seq = first; seq <= last; seq++) {
        if (fsck_lookup(l->g, l->queue, seq)) {
            losses_end(l);
            continue;
        }
        l->first = l->first ? l->first : seq;
        l->last = seq;
    }
    losses_end(l);
}

/* Every message that the checkpoint places here and that is still wanted must have been found. */
void fsck_losses(struct fsck *k, struct fsck_segment *g)
{
    struct checkpoint_run run;
    uint64_t at = 0;
    while (checkpoint_image_run(&k->base, &at, &run, NULL) && !k->error) {
        struct losses l = {.k = k, .g = g, .queue = run.queue};
        if (run.segment == g->number)
            engine_live(k->engine, run.queue, run.first, run.first + run.count - 1, look_for, &l);
    }
}
