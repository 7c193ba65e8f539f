/*
 * The schedule in the log and in snapshots.
 *
 * A spill is appended as a whole: one or more runs, each sorted by time, in blocks. A block is a message of SCHEDULE_QUEUE;
 * its body, little-endian: u8 version 1, u8 1 if the clock had jumped since the start, 2 bytes zero, u32 entries, u32 block number in the spill, u32 blocks in the spill,
 * u32 number of its run in the spill; the spill's cut: u32 kind, u64 at, u64 seq, u32 queue; u32 zero; then the entries: u64
 * at (Unix ms), u64 seq, u32 queue, u32 kind (0 due, 1 expire). Everything in memory that does not come before the cut went
 * into the spill, or was not wanted any more: so replay takes it out of memory at the spill's last block. After a jump of the
 * clock the order in memory was not that of the recorded times: then replay takes out what the blocks hold.
 *
 * Snapshot: u32 version 1, u32 zero, u64 next seq, u64 entries in memory, u64 runs; the entries, as above; the runs, by seq:
 * u64 seq of the first block not used up, u32 blocks from there on, u32 entries of the first that are used up, u64 time of
 * the next entry, then u64 time of the first entry of each block.
 */
#include <stdlib.h>
#include <string.h>

#include "schedule_internal.h"

enum {
    BLOCK_VERSION = 1,
    SNAPSHOT_VERSION = 1,
    SPILL_RETRY_MS = 200,
    SPILLS_AT_ONCE = 16,
    SNAPSHOT_HEAD_BYTES = 32,
    SNAPSHOT_RUN_BYTES = 24,
};

/* ---- bytes ----------------------------------------------------------------------------------------------------------------- */

static void entry_put(uint8_t *out, const struct schedule_entry *entry)
{
    put_u64(out, entry->at_ms);
    put_u64(out + 8, entry->seq);
    put_u32(out + 16, entry->queue);
    put_u32(out + 20, entry->kind);
}

struct schedule_entry schedule_entry_get(const uint8_t *bytes)
{
    return (struct schedule_entry){
        .at_ms = get_u64(bytes), .seq = get_u64(bytes + 8), .queue = get_u32(bytes + 16), .kind = get_u32(bytes + 20)};
}

static bool entries_make_sense(const uint8_t *entries, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        const uint8_t *entry = entries + i * SCHEDULE_ENTRY_BYTES;
        if (get_u64(entry + 8) == 0 || get_u32(entry + 20) > SCHEDULE_EXPIRE) {
            return false;
        }
    }
    return true;
}

static bool block_get(const uint8_t *record, size_t available, struct record_view *view)
{
    if (record_view_get(record, available, view) || view->body_len < SCHEDULE_BLOCK_HEAD_BYTES) {
        return false;
    }
    const uint8_t *b = view->body;
    uint32_t count = get_u32(b + 4), block = get_u32(b + 8), blocks = get_u32(b + 12);
    return b[0] == BLOCK_VERSION && count && count <= SCHEDULE_BLOCK_ENTRIES_MAX &&
           view->body_len == SCHEDULE_BLOCK_HEAD_BYTES + count * SCHEDULE_ENTRY_BYTES && block < blocks &&
           blocks <= SCHEDULE_SPILL_BLOCKS_MAX && entries_make_sense(b + SCHEDULE_BLOCK_HEAD_BYTES, count);
}

const uint8_t *schedule_block_entries(const uint8_t *record, size_t available, uint32_t *count)
{
    struct record_view view;
    if (!block_get(record, available, &view)) {
        return NULL;
    }
    *count = get_u32(view.body + 4);
    return view.body + SCHEDULE_BLOCK_HEAD_BYTES;
}

/* ---- writing away ------------------------------------------------------------------------------------------------------------ */

struct draft { /* a spill that is being put together */
    uint8_t *bytes;
    struct append_item *items;
    struct schedule_mark *marks;
    uint32_t blocks;
};

/* How many of entries[0..n) go into the next block: those of one shift. */
static uint32_t block_entries(const struct schedule_entry *entries, size_t n)
{
    uint32_t count = 1;
    while (count < n && count < SCHEDULE_BLOCK_ENTRIES && schedule_shift(&entries[count]) == schedule_shift(entries)) {
        count++;
    }
    return count;
}

static void draft_release(struct draft *d)
{
    free(d->bytes);
    free(d->items);
    free(d->marks);
}

static void put_block(struct engine *e, struct draft *d, uint32_t i, uint8_t *record,
                      const struct schedule_entry *entries, const struct schedule_entry *cut)
{
    struct record_head head = {.length = d->items[i].length,
                               .type = RECORD_MESSAGE,
                               .queue = SCHEDULE_QUEUE,
                               .seq = e->schedule->next_seq + i,
                               .time_ms = e->now.wall.ms};
    uint32_t count = (head.length - RECORD_HEAD_BYTES - SCHEDULE_BLOCK_HEAD_BYTES) / SCHEDULE_ENTRY_BYTES;
    uint8_t *body = record + RECORD_HEAD_BYTES;
    record_head_put(record, &head);
    body[0] = BLOCK_VERSION;
    body[1] = e->schedule->shift_ms != 0 || e->schedule->jumped;
    put_u32(body + 4, count);
    put_u32(body + 8, i);
    put_u32(body + 12, d->blocks);
    put_u32(body + 16, d->marks[i].run);
    put_u32(body + 20, cut->kind);
    put_u64(body + 24, cut->at_ms);
    put_u64(body + 32, cut->seq);
    put_u32(body + 40, cut->queue);
    for (uint32_t k = 0; k < count; k++) {
        entry_put(body + SCHEDULE_BLOCK_HEAD_BYTES + (size_t)k * SCHEDULE_ENTRY_BYTES, &entries[k]);
    }
}

/* Records of entries[0..n), which are sorted for runs. false: no memory. Release it either way. */
static bool draft_make(struct engine *e, struct draft *d, const struct schedule_entry *entries, size_t n,
                       const struct schedule_entry *cut)
{
    *d = (struct draft){0};
    for (size_t at = 0; at < n; at += block_entries(entries + at, n - at)) {
        d->blocks++;
    }
    size_t heads = RECORD_HEAD_BYTES + SCHEDULE_BLOCK_HEAD_BYTES;
    d->bytes = calloc(1, d->blocks * heads + n * SCHEDULE_ENTRY_BYTES);
    d->items = calloc(d->blocks, sizeof *d->items);
    d->marks = calloc(d->blocks, sizeof *d->marks);
    if (!d->bytes || !d->items || !d->marks) {
        return false;
    }
    size_t at = 0;
    uint8_t *record = d->bytes;
    for (uint32_t i = 0; i < d->blocks; i++) {
        uint32_t count = block_entries(entries + at, n - at);
        struct schedule_mark *mark = &d->marks[i];
        *mark = (struct schedule_mark){.first_ms = entries[at].at_ms, .shift_ms = schedule_shift(&entries[at])};
        if (i) {
            mark->run = mark[-1].run + (mark->shift_ms != mark[-1].shift_ms);
        }
        d->items[i] = (struct append_item){.record = record, .length = (uint32_t)heads + count * SCHEDULE_ENTRY_BYTES};
        put_block(e, d, i, record, entries + at, cut);
        record += d->items[i].length; /* a multiple of 8 */
        at += count;
    }
    return true;
}

static broker_error append_draft(struct engine *e, struct draft *d)
{
    struct schedule *s = e->schedule;
    struct schedule_run_list made;
    uint64_t index;
    if (!schedule_runs_make(s, s->next_seq, d->marks, d->blocks, &made)) {
        return BROKER_NO_MEMORY;
    }
    broker_error error = e->ops->append_all(e->store, d->items, d->blocks, DURABILITY_LAZY, &index);
    if (error) {
        schedule_runs_discard(&made);
        return error;
    }
    s->next_seq += d->blocks;
    schedule_runs_adopt(s, &made);
    return BROKER_OK;
}

/* Write away the `n` entries that come last. On an error they stay, but for those that nobody wants. */
static broker_error spill(struct engine *e, size_t n)
{
    struct schedule_memory *m = &e->schedule->memory;
    size_t from = schedule_memory_split(m, n);
    struct schedule_entry cut = m->entries[from];
    schedule_memory_drop_unwanted(e, from);
    broker_error error = BROKER_OK;
    if (m->len > from) {
        struct draft d;
        schedule_memory_sort_for_runs(m, from);
        bool made = draft_make(e, &d, m->entries + from, m->len - from, &cut);
        error = made ? append_draft(e, &d) : BROKER_NO_MEMORY;
        draft_release(&d);
    }
    if (!error) {
        m->len = from;
    }
    schedule_memory_order(m);
    return error;
}

void schedule_spill(struct engine *e)
{
    struct schedule *s = e->schedule;
    size_t limit = schedule_limit(e), kept = limit - limit / 4;
    for (int i = 0; s->memory.len > limit && s->spill_retry_ms <= e->now.mono.ms && i < SPILLS_AT_ONCE; i++) {
        size_t n = s->memory.len - kept;
        broker_error error = spill(e, n < s->spill_max ? n : s->spill_max);
        s->spill_retry_ms = 0;
        if (error == BROKER_TOO_LARGE && s->spill_max > SCHEDULE_SPILL_LEAST) { /* small segments */
            s->spill_max = s->spill_max / 2;
        } else if (error) {
            s->spill_retry_ms = e->now.mono.ms + SPILL_RETRY_MS;
        }
    }
    schedule_memory_shrink(&s->memory, limit);
}

/* ---- replay ------------------------------------------------------------------------------------------------------------------ */

void schedule_spill_abandon(struct engine *e)
{
    struct schedule_spill *spill = &e->schedule->spill;
    if (spill->seen) {
        e->ops->dead(e->store, SCHEDULE_QUEUE, spill->first_seq, spill->first_seq + spill->seen - 1);
    }
    free(spill->marks);
    free(spill->entries);
    *spill = (struct schedule_spill){0};
}

/* The last block is there: what live spilling took out of memory goes, and the runs come. */
static broker_error spill_complete(struct engine *e, const uint8_t *body)
{
    struct schedule *s = e->schedule;
    struct schedule_run_list made;
    struct schedule_entry cut = {.at_ms = get_u64(body + 24),
                                 .seq = get_u64(body + 32),
                                 .queue = get_u32(body + 40),
                                 .kind = get_u32(body + 20)};
    if (!schedule_runs_make(s, s->spill.first_seq, s->spill.marks, s->spill.blocks, &made)) {
        return BROKER_NO_MEMORY;
    }
    schedule_runs_adopt(s, &made);
    if (body[1]) {
        schedule_memory_drop_these(&s->memory, s->spill.entries, s->spill.entry_count);
    } else {
        schedule_memory_drop_from(&s->memory, &cut);
    }
    s->spill.seen = 0;
    schedule_spill_abandon(e);
    return BROKER_OK;
}

/* false: no memory */
static bool remember_entries(struct schedule_spill *spill, const uint8_t *body)
{
    uint32_t count = body[1] ? get_u32(body + 4) : 0;
    if (!count) {
        return true;
    }
    struct schedule_entry *entries = realloc(spill->entries, (spill->entry_count + count) * sizeof *entries);
    if (!entries) {
        return false;
    }
    spill->entries = entries;
    for (uint32_t i = 0; i < count; i++) {
        struct schedule_entry *entry = &entries[spill->entry_count++];
        *entry = schedule_entry_get(body + SCHEDULE_BLOCK_HEAD_BYTES + (size_t)i * SCHEDULE_ENTRY_BYTES);
        entry->steady_ms = schedule_steady(entry->at_ms, 0);
    }
    return true;
}

broker_error schedule_replay(struct engine *e, const uint8_t *record, const char **text)
{
    struct schedule *s = e->schedule;
    struct schedule_spill *spill = &s->spill;
    struct record_view view;
    if (!block_get(record, UINT32_MAX, &view) || view.head.seq < s->next_seq || view.head.seq == UINT64_MAX) {
        *text = "a block of the schedule is malformed, or not after the one before";
        return BROKER_MALFORMED;
    }
    uint32_t block = get_u32(view.body + 8), blocks = get_u32(view.body + 12), run = get_u32(view.body + 16);
    s->next_seq = view.head.seq + 1;
    bool follows = spill->seen && spill->seen == block && spill->blocks == blocks &&
                   spill->first_seq + block == view.head.seq && run >= spill->marks[block - 1].run;
    if (!follows) { /* one before it is lost */
        schedule_spill_abandon(e);
        if (block) {
            e->ops->dead(e->store, SCHEDULE_QUEUE, view.head.seq, view.head.seq);
            return BROKER_OK;
        }
        spill->first_seq = view.head.seq;
        spill->blocks = blocks;
    }
    if (spill->seen == spill->cap) {
        uint32_t cap = spill->cap ? spill->cap * 2 : 64;
        struct schedule_mark *marks = realloc(spill->marks, cap * sizeof *marks);
        if (!marks) {
            *text = "out of memory";
            return BROKER_NO_MEMORY;
        }
        spill->marks = marks;
        spill->cap = cap;
    }
    if (!remember_entries(spill, view.body)) {
        *text = "out of memory";
        return BROKER_NO_MEMORY;
    }
    spill->marks[spill->seen++] =
        (struct schedule_mark){.first_ms = get_u64(view.body + SCHEDULE_BLOCK_HEAD_BYTES), .run = run};
    broker_error error = spill->seen == spill->blocks ? spill_complete(e, view.body) : BROKER_OK;
    if (error) {
        *text = "out of memory";
    }
    return error;
}

/* ---- snapshot ---------------------------------------------------------------------------------------------------------------- */

bool schedule_save(const struct engine *e, struct buf *out)
{
    const struct schedule *s = e->schedule;
    const struct schedule_run *r;
    size_t bytes = SNAPSHOT_HEAD_BYTES + s->memory.len * SCHEDULE_ENTRY_BYTES;
    TAILQ_FOREACH(r, &s->runs, by_seq)
    {
        bytes += SNAPSHOT_RUN_BYTES + 8 * (size_t)(r->blocks - r->block);
    }
    uint8_t *to = buf_reserve(out, bytes);
    if (!to) {
        return false;
    }
    put_u32(to, SNAPSHOT_VERSION);
    put_u32(to + 4, 0);
    put_u64(to + 8, s->next_seq);
    put_u64(to + 16, s->memory.len);
    put_u64(to + 24, s->run_count);
    to += SNAPSHOT_HEAD_BYTES;
    for (size_t i = 0; i < s->memory.len; i++, to += SCHEDULE_ENTRY_BYTES) {
        entry_put(to, &s->memory.entries[i]);
    }
    TAILQ_FOREACH(r, &s->runs, by_seq)
    {
        put_u64(to, r->first_seq + r->block);
        put_u32(to + 8, r->blocks - r->block);
        put_u32(to + 12, r->at);
        put_u64(to + 16, r->next_ms);
        to += SNAPSHOT_RUN_BYTES;
        for (uint32_t i = r->block; i < r->blocks; i++, to += 8) {
            put_u64(to, r->firsts[i]);
        }
    }
    out->len += bytes;
    return true;
}

static bool load_entries(struct engine *e, struct reader *r, uint64_t n)
{
    struct schedule_memory *m = &e->schedule->memory;
    const uint8_t *at = n <= r->left / SCHEDULE_ENTRY_BYTES ? reader_bytes(r, (size_t)n * SCHEDULE_ENTRY_BYTES) : NULL;
    if (!at || !entries_make_sense(at, n)) {
        return reader_refuse(r, BROKER_MALFORMED, "the schedule's times are malformed");
    }
    if (!schedule_memory_reserve(m, (size_t)n)) {
        return reader_refuse(r, BROKER_NO_MEMORY, "out of memory");
    }
    for (; m->len < n; at += SCHEDULE_ENTRY_BYTES) {
        struct schedule_entry *entry = &m->entries[m->len++];
        *entry = schedule_entry_get(at);
        entry->steady_ms = schedule_steady(entry->at_ms, 0);
    }
    return true;
}

static bool load_run(struct engine *e, struct reader *r, uint64_t *last_seq)
{
    struct schedule *s = e->schedule;
    uint64_t first_seq = reader_u64(r);
    uint32_t blocks = reader_u32(r), used = reader_u32(r);
    uint64_t next_ms = reader_u64(r);
    const uint8_t *firsts = blocks <= r->left / 8 ? reader_bytes(r, (size_t)blocks * 8) : NULL;
    if (!firsts || !blocks || blocks > SCHEDULE_SPILL_BLOCKS_MAX || used >= SCHEDULE_BLOCK_ENTRIES_MAX ||
        first_seq <= *last_seq || first_seq >= s->next_seq || blocks > s->next_seq - first_seq) {
        return reader_refuse(r, BROKER_MALFORMED, "a run of the schedule is malformed");
    }
    struct schedule_mark *marks = calloc(blocks, sizeof *marks);
    struct schedule_run_list made;
    for (uint32_t i = 0; marks && i < blocks; i++) {
        marks[i].first_ms = get_u64(firsts + (size_t)i * 8);
    }
    bool ok = marks && schedule_runs_make(s, first_seq, marks, blocks, &made);
    free(marks);
    if (!ok) {
        return reader_refuse(r, BROKER_NO_MEMORY, "out of memory");
    }
    TAILQ_FIRST(&made)->at = used;
    TAILQ_FIRST(&made)->next_ms = next_ms;
    schedule_runs_adopt(s, &made);
    *last_seq = first_seq + blocks - 1;
    return true;
}

bool schedule_load(struct engine *e, struct reader *r)
{
    struct schedule *s = e->schedule;
    uint32_t version = reader_u32(r), zero = reader_u32(r);
    uint64_t next_seq = reader_u64(r), entries = reader_u64(r), runs = reader_u64(r), last_seq = 0;
    if (r->error || version != SNAPSHOT_VERSION || zero || !next_seq || s->memory.len || s->run_count) {
        return reader_refuse(r, BROKER_MALFORMED,
                             "the schedule is malformed, or of a version this broker does not know");
    }
    s->next_seq = next_seq;
    if (!load_entries(e, r, entries)) {
        return false;
    }
    for (uint64_t i = 0; i < runs; i++) {
        if (!load_run(e, r, &last_seq)) {
            return false;
        }
    }
    return true;
}
