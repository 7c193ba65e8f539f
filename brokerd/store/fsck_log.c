/*
 * fsck: the log, walked and replayed as at a start. Where a start would refuse, the damaged part is noted as a piece to repair,
 * and the walk goes on behind it.
 */
#include "fsck.h"

#include <inttypes.h>

/* Everything that any batch of the log says was durable. Stale batches behind a cut say less than what came before it. */
void fsck_find_claims(struct fsck *k)
{
    for (uint32_t i = 0; i < k->segment_count && !k->error; i++) {
        struct fsck_segment *g = &k->segments[i];
        struct batch_head head;
        if (!g->present || g->kind != SEGMENT_LOG || (g->role != ROLE_LOG && g->role != ROLE_PREPARED))
            continue;
        for (uint64_t at = SEGMENT_DATA_START; (at = scan_find(&g->scan, at, UINT64_MAX, &head)) != UINT64_MAX;) {
            k->claimed = head.durable > k->claimed ? head.durable : k->claimed;
            at += head.length;
        }
        if (error_is_transient(g->scan.error))
            fsck_stop(k, g->scan.error, g->name);
    }
}

/* ---- lost messages of the log ------------------------------------------------------------------------------------------- */

void fsck_suspect(struct fsck *k, uint32_t queue, uint64_t seq)
{
    if (k->suspect_count == k->suspect_cap) {
        uint32_t cap = k->suspect_cap ? k->suspect_cap * 2 : 16;
        struct suspect *suspects = realloc(k->suspects, cap * sizeof *suspects);
        if (!suspects) {
            fsck_stop(k, ENOMEM, "the log");
            return;
        }
        k->suspects = suspects;
        k->suspect_cap = cap;
    }
    k->suspects[k->suspect_count++] = (struct suspect){queue, seq, false};
}

static struct last_seq *last_seq_of(const struct fsck *k, uint32_t queue)
{
    struct last_seq *l;
    HASH_FIND(hh, k->last_seqs, &queue, sizeof queue, l);
    return l;
}

static bool is_later(const struct fsck *k, uint32_t queue, uint64_t seq)
{
    const struct last_seq *l = last_seq_of(k, queue);
    return seq > (l ? l->seq : 0);
}

bool fsck_is_new(const struct fsck *k, const uint8_t *message, const struct route *route)
{
    bool later = is_later(k, record_queue(message), record_seq(message));
    for (uint32_t i = 0; i < route->n && later; i++)
        later = is_later(k, route_queue(route, i), route_seq(route, i));
    return later;
}

static void lost(struct fsck *k, uint32_t queue, uint64_t first, uint64_t last)
{
    fsck_problem(k,
                 "lost: %" PRIu64 " message(s) of queue %u (\"%s\"), %" PRIu64 " to %" PRIu64
                 ", in the damaged part of the log",
                 last - first + 1, queue, fsck_queue_name(k, queue), first, last);
    k->result->messages_lost += last - first + 1;
}

/* Suspects of the queue in [first, last] are accounted for; each that is not yet is said to be lost if `report`. */
static void settle_suspects(struct fsck *k, uint32_t queue, uint64_t first, uint64_t last, bool report)
{
    for (uint32_t i = 0; i < k->suspect_count; i++) {
        struct suspect *s = &k->suspects[i];
        if (s->counted || s->queue != queue || s->seq < first || s->seq > last)
            continue;
        s->counted = true;
        if (report)
            lost(k, queue, s->seq, s->seq);
    }
}

static void note_seq(struct fsck *k, uint32_t queue, uint64_t seq)
{
    struct last_seq *l = last_seq_of(k, queue);
    if (!l) {
        if (!(l = calloc(1, sizeof *l))) {
            fsck_stop(k, ENOMEM, "the log");
            return;
        }
        l->queue = queue;
        HASH_ADD(hh, k->last_seqs, queue, sizeof l->queue, l);
        settle_suspects(k, queue, 1, seq - 1, true);
    } else if (seq > l->seq + 1 && k->log_damaged) {
        lost(k, queue, l->seq + 1, seq - 1);
        settle_suspects(k, queue, l->seq + 1, seq - 1, false);
    }
    l->seq = seq;
}

/* ---- replay --------------------------------------------------------------------------------------------------------------- */

static void note_message(struct fsck *k, const uint8_t *message, const struct route *route)
{
    note_seq(k, record_queue(message), record_seq(message));
    for (uint32_t i = 0; i < route->n && !k->error; i++)
        note_seq(k, route_queue(route, i), route_seq(route, i));
}

/* A record that the engine refuses is damage like any other. */
static void replay(struct fsck *k, struct fsck_segment *g, const uint8_t *bytes, const struct piece *part, uint64_t to,
                   bool damaged)
{
    struct route route = {0, NULL}; /* of the record before, if it led here and the engine got it */
    for (uint64_t at = part->from + BATCH_HEAD_BYTES; at < to && !k->error;) {
        const uint8_t *record = bytes + (at - part->from - BATCH_HEAD_BYTES);
        const char *text = "";
        if (!fsck_is_record(record, to - at)) {
            at += 8;
            continue;
        }
        uint8_t type = record_type_of(record);
        struct route leads = fsck_route_of(record, to - at);
        bool stale = type == RECORD_MESSAGE && !fsck_is_new(k, record, &route);
        if (type == RECORD_ROUTE)
            stale = leads.n == 0 || !fsck_is_new(k, record + record_padded(record), &leads);
        if (type == RECORD_MESSAGE && !stale)
            note_message(k, record, &route);
        broker_error error = stale || k->error ? BROKER_OK : engine_replay(k->engine, record, &text);
        if (type == RECORD_MESSAGE && stale && !damaged) { /* else: old bytes */
            error = BROKER_MALFORMED;
            text = "it is not later than the one before in its queue, or in one that it is routed to";
        }
        if (error == BROKER_MALFORMED) {
            fsck_problem(k, "%s, offset %" PRIu64 ": a record of type %u of queue %u makes no sense: %s", g->name, at,
                         type, record_queue(record), text);
            fsck_add_piece(k, g, (struct piece){part->from, part->to, part->index, part->epoch, at});
        } else if (error) {
            fsck_stop(k, error == BROKER_NO_MEMORY ? ENOMEM : EIO, g->name);
        }
        route = damaged && stale ? (struct route){0, NULL} : leads;
        at += record_padded(record);
    }
}

static void replay_part(struct fsck *k, struct fsck_segment *g, struct piece part, bool damaged)
{
    uint64_t from = part.from + BATCH_HEAD_BYTES;
    uint64_t to = part.to < g->scan.file_bytes ? part.to : g->scan.file_bytes;
    const uint8_t *bytes = from < to ? scan_bytes(&g->scan, from, (size_t)(to - from)) : NULL;
    if (bytes && part.index > fsck_base_index(k))
        replay(k, g, bytes, &part, to, damaged);
}

/* ---- where the log goes on -------------------------------------------------------------------------------------------------- */

static bool comes_next(const struct fsck *k, const struct batch_head *head)
{
    bool in_order = head->index == k->next_index || ((head->flags & BATCH_REPAIRED) && head->index > k->next_index);
    return in_order && head->epoch >= k->epoch;
}

/* The first batch from `at` on that is later in the log than the next one; UINT64_MAX: none in this segment. */
static uint64_t find_later(const struct fsck *k, struct fsck_segment *g, uint64_t at, struct batch_head *head)
{
    while (g->present && (at = scan_find(&g->scan, at, UINT64_MAX, head)) != UINT64_MAX) {
        if (head->epoch >= k->epoch && head->index > k->next_index)
            return at;
        at += 8;
    }
    return UINT64_MAX;
}

static bool begins_next(const struct fsck *k, struct fsck_segment *g)
{
    struct batch_head head;
    const uint8_t *bytes = scan_bytes(&g->scan, SEGMENT_DATA_START, BATCH_HEAD_BYTES);
    return bytes && batch_head_get(bytes, g->number, &head) && comes_next(k, &head);
}

/* Does the log go on in a later segment, as if g had ended here? *head and *at: the first later batch in one, if not. */
static bool goes_on_elsewhere(struct fsck *k, const struct fsck_segment *g, struct batch_head *head, uint64_t *at)
{
    *at = UINT64_MAX;
    for (const struct fsck_segment *n = g + 1; n < k->segments + k->segment_count; n++) {
        struct fsck_segment *next = (struct fsck_segment *)(uintptr_t)n;
        if (next->role == ROLE_LOG && next->in_base)
            return true;
        if (next->role == ROLE_PREPARED && next->present && begins_next(k, next))
            return true;
    }
    for (const struct fsck_segment *n = g + 1; n < k->segments + k->segment_count && *at == UINT64_MAX; n++) {
        struct fsck_segment *next = (struct fsck_segment *)(uintptr_t)n;
        if (next->role == ROLE_PREPARED)
            *at = find_later(k, next, SEGMENT_DATA_START, head);
        if (*at != UINT64_MAX && *at > SEGMENT_DATA_START)
            k->broken_start = next->number;
    }
    return false;
}

/* The last salvageable record's end, or just room for a head. */
static uint64_t salvage_end(struct fsck_segment *g, uint64_t from)
{
    uint64_t end = from + BATCH_HEAD_BYTES, to = g->scan.file_bytes;
    to = to < from + RECORD_MAX_BYTES ? to : from + RECORD_MAX_BYTES;
    const uint8_t *bytes = to > from ? scan_bytes(&g->scan, from, (size_t)(to - from)) : NULL;
    for (uint64_t at = from + BATCH_HEAD_BYTES; bytes && at + RECORD_HEAD_BYTES <= to;) {
        if (fsck_is_record(bytes + (at - from), to - at))
            end = at += record_padded(bytes + (at - from));
        else
            at += 8;
    }
    return end;
}

/* Something acknowledged is damaged at `at`, up to where this returns. */
static uint64_t damaged_log(struct fsck *k, struct fsck_segment *g, uint64_t at, enum scan_found found,
                            const struct batch_head *bad, uint64_t elsewhere)
{
    struct batch_head later;
    bool torn = found == SCAN_TORN;
    uint64_t to = torn ? at + bad->length : find_later(k, g, at + 8, &later);
    uint64_t index = torn ? bad->index : later.index - 1;
    k->log_damaged = true;
    if (to == UINT64_MAX && g->in_base && g->base.last_index >= k->next_index) {
        to = g->base.data_end;
        index = g->base.last_index;
    } else if (to == UINT64_MAX) {
        to = salvage_end(g, at);
        index = elsewhere ? elsewhere : k->claimed;
    }
    bool last = g->in_base && g->number == k->base.head.end_segment;
    if (last && at < k->base.head.end_offset &&
        to > k->base.head.end_offset) { /* what is before the checkpoint, and after */
        to = k->base.head.end_offset;
        index = k->base.head.index;
    }
    index = index < k->next_index ? k->next_index : index;
    g->last_index = k->next_index - 1;
    g->last_epoch = k->epoch;
    fsck_damaged_part(k, g, at, to, index, torn);
    if (!k->error)
        replay_part(k, g, g->pieces[g->piece_count - 1], true);
    k->next_index = index + 1;
    g->last_index = index;
    return to;
}

/* Nothing fits at `at`: is the segment over, the log, or is it damage? true: damage, and the walk goes on at *at. */
static bool end_or_damage(struct fsck *k, struct fsck_segment *g, uint64_t *at, enum scan_found found,
                          const struct batch_head *bad)
{
    struct batch_head later = {0};
    uint64_t there = UINT64_MAX;
    bool known_more = g->in_base && g->base.last_index >= k->next_index;
    bool more_here = found == SCAN_TORN || find_later(k, g, *at + 8, &later) != UINT64_MAX;
    if (!known_more && !(more_here && k->claimed >= k->next_index)) {
        if (goes_on_elsewhere(k, g, &later, &there))
            return false;
        bool cut = found == SCAN_CUT && g->scan.file_bytes < g->full_bytes && *at <= g->scan.file_bytes;
        if (k->broken_start && k->claimed >= k->next_index)
            return false; /* the next segment's beginning is what is damaged */
        if (k->claimed < k->next_index && !cut) {
            k->log_over = true;
            if (more_here || there != UINT64_MAX)
                fsck_note(k,
                          "%s, offset %" PRIu64 ": the log ends in a batch that was being written (batch %" PRIu64
                          " and later, never acknowledged); the next start cuts it off",
                          g->name, *at, k->next_index);
            return false;
        }
    }
    *at = damaged_log(k, g, *at, found, bad, there == UINT64_MAX ? 0 : later.index - 1);
    return true;
}

static void walk_segment(struct fsck *k, struct fsck_segment *g)
{
    uint64_t at = SEGMENT_DATA_START;
    g->role = ROLE_LOG;
    k->broken_start = 0;
    for (bool on = true; on && !k->error;) {
        struct batch_head head = {0};
        const uint8_t *batch;
        enum scan_found found = g->present ? scan_batch(&g->scan, at, &head, &batch) : SCAN_CUT;
        if (found == SCAN_ERROR && error_is_transient(g->scan.error)) {
            fsck_stop(k, g->scan.error, g->name);
            break;
        }
        if ((found == SCAN_BATCH || found == SCAN_TORN) && !comes_next(k, &head))
            found = SCAN_NONE;
        if (found == SCAN_BATCH) {
            fsck_take_batch(k, g, batch, at, &head);
            k->epoch = head.epoch;
            k->next_index = head.index + 1;
            replay_part(k, g, (struct piece){at, at + head.length, head.index, head.epoch, 0}, false);
            at += head.length;
        } else {
            on = end_or_damage(k, g, &at, found, &head);
        }
    }
    g->log_end = at;
}

void fsck_walk_log(struct fsck *k)
{
    bool begun = false;
    for (uint32_t i = 0; i < k->segment_count && !k->error && !k->log_over; i++) {
        struct fsck_segment *g = &k->segments[i];
        if (g->kind != SEGMENT_LOG || (g->role != ROLE_LOG && g->role != ROLE_PREPARED))
            continue;
        if (g->in_base)
            k->next_index = g->base.first_index ? g->base.first_index : fsck_base_index(k) + 1;
        else if (!begun && !k->base.bytes)
            k->next_index = 1;
        else if (k->broken_start != g->number && !(g->present && begins_next(k, g)))
            continue;
        begun = true;
        if (!k->base.bytes && k->next_index == 1 && !begins_next(k, g) && k->claimed > 0) {
            struct batch_head head;
            uint64_t at;
            if (!goes_on_elsewhere(k, g, &head, &at) &&
                (k->bad_checkpoint || find_later(k, g, SEGMENT_DATA_START, &head) == SEGMENT_DATA_START)) {
                fsck_problem(
                    k, "there is no whole checkpoint, and the log does not begin with batch 1: the state before it is "
                       "lost, and fsck cannot make up for it");
                k->error = BROKER_DAMAGED;
                return;
            }
        }
        walk_segment(k, g);
    }
    for (uint32_t i = 0; i < k->suspect_count && !k->error; i++) {
        const struct suspect *s = &k->suspects[i];
        const struct last_seq *l = last_seq_of(k, s->queue);
        if (!s->counted && s->seq > (l ? l->seq : 0) && engine_queue_name(k->engine, s->queue))
            settle_suspects(k, s->queue, s->seq, s->seq, true);
    }
}
