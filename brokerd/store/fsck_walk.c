/* fsck: the batches of a segment, record by record; damaged parts are noted as pieces to repair. */
#include "fsck.h"

#include <inttypes.h>

bool fsck_add_found(struct fsck_segment *g, const uint8_t *record, uint64_t offset)
{
    if (record_type_of(record) != RECORD_MESSAGE)
        return true;
    if (g->found_count == g->found_cap) {
        size_t cap = g->found_cap ? g->found_cap * 2 : 256;
        struct found *found = realloc(g->found, cap * sizeof *found);
        if (!found)
            return false;
        g->found = found;
        g->found_cap = cap;
    }
    g->found[g->found_count++] =
        (struct found){record_seq(record), record_queue(record), (uint32_t)(offset / 8), record_length(record)};
    return true;
}

void fsck_add_piece(struct fsck *k, struct fsck_segment *g, struct piece piece)
{
    if (g->piece_count == g->piece_cap) {
        uint32_t cap = g->piece_cap ? g->piece_cap * 2 : 8;
        struct piece *pieces = realloc(g->pieces, cap * sizeof *pieces);
        if (!pieces) {
            fsck_stop(k, ENOMEM, g->name);
            return;
        }
        g->pieces = pieces;
        g->piece_cap = cap;
    }
    g->pieces[g->piece_count++] = piece;
    g->damaged = true;
}

bool fsck_is_record(const uint8_t *record, uint64_t left)
{
    uint8_t type = left >= RECORD_HEAD_BYTES ? record_type_of(record) : 0;
    return type >= RECORD_MESSAGE && type <= RECORD_TRIM && record_intact(record, left) &&
           record_padded(record) <= left;
}

static bool in_base_runs(const struct fsck *k, const struct fsck_segment *g, const uint8_t *record)
{
    struct checkpoint_run run;
    uint64_t at = 0;
    while (checkpoint_image_run(&k->base, &at, &run, NULL)) {
        if (run.segment == g->number && run.queue == record_queue(record) && record_seq(record) >= run.first &&
            record_seq(record) - run.first < run.count)
            return true;
    }
    return false;
}

/* In a damaged part old bytes of a recycled file may show, and whole records among them. */
static bool belongs_here(const struct fsck *k, const struct fsck_segment *g, const uint8_t *record)
{
    if (record_type_of(record) != RECORD_MESSAGE)
        return true;
    return g->role == ROLE_SEALED ? in_base_runs(k, g, record) : fsck_is_new(k, record) || in_base_runs(k, g, record);
}

static void complain_record(struct fsck *k, const struct fsck_segment *g, const uint8_t *record, uint64_t offset,
                            uint64_t left)
{
    if (left < RECORD_HEAD_BYTES)
        return;
    uint8_t type = record_type_of(record);
    uint32_t queue = record_queue(record);
    if (type == RECORD_MESSAGE) {
        fsck_problem(k, "%s, offset %" PRIu64 ": the record of message %" PRIu64 " of queue %u (\"%s\") is damaged",
                     g->name, offset, record_seq(record), queue, fsck_queue_name(k, queue));
        if (g->role == ROLE_LOG)
            fsck_suspect(k, queue, record_seq(record));
    } else {
        fsck_problem(k,
                     "%s, offset %" PRIu64 ": a record that is no message (type %u, queue %u) is damaged; a change of "
                     "that queue, or acks, may be undone",
                     g->name, offset, type, queue);
    }
}

/* Records between two offsets, found one behind the other, or in steps of 8 where one is damaged. */
void fsck_records(struct fsck *k, struct fsck_segment *g, const uint8_t *bytes, uint64_t from, uint64_t to,
                  bool damaged)
{
    bool lost = false;
    for (uint64_t at = from; at < to && !k->error;) {
        const uint8_t *record = bytes + (at - from);
        if (fsck_is_record(record, to - at)) {
            if ((!damaged || belongs_here(k, g, record)) && !fsck_add_found(g, record, at))
                fsck_stop(k, ENOMEM, g->name);
            k->result->records++;
            k->result->messages += record_type_of(record) == RECORD_MESSAGE;
            at += record_padded(record);
            lost = false;
        } else if (to - at >= RECORD_HEAD_BYTES && record_type_of(record) == RECORD_LOST &&
                   record_intact(record, to - at)) {
            at += record_padded(record);
        } else {
            if (!lost)
                complain_record(k, g, record, at, to - at);
            lost = true;
            at += 8;
        }
    }
}

/* Padding is covered by no CRC, and by nothing else: it carries nothing. */
static void check_padding(struct fsck *k, const struct fsck_segment *g, const uint8_t *batch, uint64_t offset,
                          const struct batch_head *head)
{
    for (uint32_t at = BATCH_HEAD_BYTES; at < head->length; at += record_padded(batch + at)) {
        uint32_t length = record_length(batch + at);
        for (uint32_t i = length; i < pad8(length); i++) {
            if (batch[at + i])
                fsck_note(k, "%s, offset %" PRIu64 ": padding behind a record is not zero; no message is affected",
                          g->name, offset + at + i);
        }
    }
}

void fsck_take_batch(struct fsck *k, struct fsck_segment *g, const uint8_t *batch, uint64_t at,
                     const struct batch_head *head)
{
    k->result->batches++;
    check_padding(k, g, batch, at, head);
    fsck_records(k, g, batch + BATCH_HEAD_BYTES, at + BATCH_HEAD_BYTES, at + head->length, false);
    g->last_index = head->index;
    g->last_epoch = head->epoch;
}

/* A damaged part [from, to): say so, salvage what can be read, note it for repair. */
void fsck_damaged_part(struct fsck *k, struct fsck_segment *g, uint64_t from, uint64_t to, uint64_t index, bool head_ok)
{
    if (!head_ok)
        fsck_problem(k, "%s, offset %" PRIu64 ": the head of batch %" PRIu64 " is damaged", g->name, from,
                     g->last_index + 1);
    uint64_t end = to < g->scan.file_bytes ? to : g->scan.file_bytes;
    const uint8_t *bytes = end > from + BATCH_HEAD_BYTES ? scan_bytes(&g->scan, from, (size_t)(end - from)) : NULL;
    if (bytes)
        fsck_records(k, g, bytes + BATCH_HEAD_BYTES, from + BATCH_HEAD_BYTES, end, true);
    else if (error_is_transient(g->scan.error))
        fsck_stop(k, g->scan.error, g->name);
    else
        fsck_problem(k, "%s: offsets %" PRIu64 " to %" PRIu64 " cannot be read or are cut off", g->name, from, to);
    fsck_add_piece(k, g, (struct piece){from, to, index, g->last_epoch, 0});
}

void fsck_walk_sealed(struct fsck *k, struct fsck_segment *g)
{
    uint64_t at = SEGMENT_DATA_START, end = g->base.data_end;
    g->last_index = g->base.first_index ? g->base.first_index - 1 : 0;
    g->log_end = end;
    if (!g->present && end > at)
        fsck_add_piece(k, g, (struct piece){at, end, g->base.last_index, 0, 0});
    while (g->present && at < end && !k->error) {
        struct batch_head head;
        const uint8_t *batch;
        enum scan_found found = scan_batch(&g->scan, at, &head, &batch);
        if (found == SCAN_ERROR && error_is_transient(g->scan.error)) {
            fsck_stop(k, g->scan.error, g->name);
        } else if (found == SCAN_BATCH) {
            fsck_take_batch(k, g, batch, at, &head);
            at += head.length;
        } else if (found == SCAN_TORN && at + head.length <= end) {
            fsck_damaged_part(k, g, at, at + head.length, head.index, true);
            g->last_index = head.index;
            at += head.length;
        } else {
            uint64_t next = scan_find(&g->scan, at + 8, end, &head);
            fsck_damaged_part(k, g, at, next == UINT64_MAX ? end : next,
                              next == UINT64_MAX ? g->base.last_index : head.index - 1, false);
            at = next == UINT64_MAX ? end : next;
        }
    }
}
