/* fsck: the batches of a segment, record by record; damaged parts are noted as pieces to repair. */
#include "fsck.h"

#include <inttypes.h>

static bool add_place(struct fsck_segment *g, const struct found *found)
{
    if (g->found_count == g->found_cap) {
        size_t cap = g->found_cap ? g->found_cap * 2 : 256;
        struct found *all = realloc(g->found, cap * sizeof *all);
        if (!all)
            return false;
        g->found = all;
        g->found_cap = cap;
    }
    g->found[g->found_count++] = *found;
    return true;
}

/* A message, in each of its places. */
static bool add_found(struct fsck_segment *g, const uint8_t *record, const struct route *route, uint64_t offset)
{
    struct found found = {record_seq(record), record_queue(record), (uint32_t)(offset / 8), record_length(record)};
    if (!add_place(g, &found))
        return false;
    found.length |= ENTRY_ROUTED;
    for (uint32_t i = 0; i < route->n; i++) {
        found.queue = route_queue(route, i);
        found.seq = route_seq(route, i);
        if (!add_place(g, &found))
            return false;
    }
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
    return type >= RECORD_MESSAGE && type <= RECORD_RESCHEDULE && record_intact(record, left) &&
           record_padded(record) <= left;
}

struct route fsck_route_of(const uint8_t *record, uint64_t left)
{
    struct route none = {0, NULL};
    if (!fsck_is_record(record, left))
        return none;
    struct route route = route_get(record, record_length(record));
    uint32_t padded = record_padded(record);
    bool leads = route.n && left > padded && fsck_is_record(record + padded, left - padded) &&
                 record_type_of(record + padded) == RECORD_MESSAGE;
    return leads ? route : none;
}

static bool in_base_runs(const struct fsck *k, const struct fsck_segment *g, uint32_t queue, uint64_t seq)
{
    struct checkpoint_run run;
    uint64_t at = 0;
    while (checkpoint_image_run(&k->base, &at, &run, NULL)) {
        if (run.segment == g->number && run.queue == queue && seq >= run.first && seq - run.first < run.count)
            return true;
    }
    return false;
}

/* In a damaged part old bytes of a recycled file may show, and whole records among them. */
static bool belongs_here(const struct fsck *k, const struct fsck_segment *g, const uint8_t *message,
                         const struct route *route)
{
    bool known = in_base_runs(k, g, record_queue(message), record_seq(message));
    for (uint32_t i = 0; i < route->n && !known; i++)
        known = in_base_runs(k, g, route_queue(route, i), route_seq(route, i));
    return known || (g->role != ROLE_SEALED && fsck_is_new(k, message, route));
}

static void complain_message(struct fsck *k, const struct fsck_segment *g, uint32_t queue, uint64_t seq,
                             uint64_t offset)
{
    fsck_problem(k, "%s, offset %" PRIu64 ": the record of message %" PRIu64 " of queue %u (\"%s\") is damaged",
                 g->name, offset, seq, queue, fsck_queue_name(k, queue));
    if (g->role == ROLE_LOG)
        fsck_suspect(k, queue, seq);
}

/* `route`: of the whole record before it. */
static void complain_record(struct fsck *k, const struct fsck_segment *g, const uint8_t *record,
                            const struct route *route, uint64_t offset, uint64_t left)
{
    if (left < RECORD_HEAD_BYTES)
        return;
    uint8_t type = record_type_of(record);
    uint32_t length = record_length(record);
    struct route lost = *route;
    if (type == RECORD_ROUTE) { /* the message behind it is lost to these, if they can be read */
        lost = length <= left ? route_get(record, length) : (struct route){0, NULL};
        fsck_problem(k,
                     "%s, offset %" PRIu64 ": a record that names further queues of the message behind it is damaged; "
                     "these lose it",
                     g->name, offset);
    } else if (type == RECORD_MESSAGE) {
        complain_message(k, g, record_queue(record), record_seq(record), offset);
    } else {
        fsck_problem(k,
                     "%s, offset %" PRIu64 ": a record that is no message (type %u, queue %u) is damaged; a change of "
                     "that queue, or acks, may be undone",
                     g->name, offset, type, record_queue(record));
    }
    for (uint32_t i = 0; i < lost.n && !k->error; i++)
        complain_message(k, g, route_queue(&lost, i), route_seq(&lost, i), offset);
}

/* A route that no message follows is damage that no CRC shows; repaired, it is gone. */
static void check_route(struct fsck *k, struct fsck_segment *g, const uint8_t *record, uint64_t offset, uint64_t left)
{
    if (record_type_of(record) != RECORD_ROUTE || fsck_route_of(record, left).n)
        return;
    g->odd_routes++;
    fsck_problem(k, "%s, offset %" PRIu64 ": a record that names further queues of a message leads to none", g->name,
                 offset);
}

static void take_message(struct fsck *k, struct fsck_segment *g, const uint8_t *message, const struct route *route,
                         uint64_t offset, bool damaged)
{
    k->result->messages++;
    k->result->routed += route->n;
    if ((!damaged || belongs_here(k, g, message, route)) && !add_found(g, message, route, offset))
        fsck_stop(k, ENOMEM, g->name);
}

static bool looks_like_head(const uint8_t *record, uint64_t left)
{
    return left >= RECORD_HEAD_BYTES && record_length(record) >= RECORD_HEAD_BYTES && record_length(record) <= left &&
           record_type_of(record) >= RECORD_MESSAGE && record_type_of(record) <= RECORD_RESCHEDULE;
}

/* Records between two offsets, found one behind the other, or in steps of 8 where one is damaged. */
void fsck_records(struct fsck *k, struct fsck_segment *g, const uint8_t *bytes, uint64_t from, uint64_t to,
                  bool damaged)
{
    struct route route = {0, NULL};
    bool lost = false;
    uint64_t next = 0; /* where the damaged record ends, if its head can be believed */
    for (uint64_t at = from; at < to && !k->error;) {
        const uint8_t *record = bytes + (at - from);
        if (fsck_is_record(record, to - at)) {
            if (record_type_of(record) == RECORD_MESSAGE)
                take_message(k, g, record, &route, at, damaged);
            else if (!damaged)
                check_route(k, g, record, at, to - at);
            k->result->records++;
            route = route_get(record, record_length(record));
            at += record_padded(record);
            lost = false;
        } else if (to - at >= RECORD_HEAD_BYTES && record_type_of(record) == RECORD_LOST &&
                   record_intact(record, to - at)) {
            route.n = 0;
            at += record_padded(record);
        } else {
            bool head = looks_like_head(record, to - at);
            if (!lost || (at == next && head))
                complain_record(k, g, record, &route, at, to - at);
            if (!lost || at == next)
                next = head ? at + record_padded(record) : 0;
            route.n = 0;
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
    uint32_t odd = g->odd_routes;
    fsck_records(k, g, batch + BATCH_HEAD_BYTES, at + BATCH_HEAD_BYTES, at + head->length, false);
    if (g->odd_routes > odd)
        fsck_add_piece(k, g, (struct piece){at, at + head->length, head->index, head->epoch, 0});
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
