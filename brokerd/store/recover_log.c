/*
 * Recovery, second part: the log. Segments without a footer are read batch by batch. What the checkpoint contains is only
 * indexed again; what comes after it is replayed. Where no further batch fits, either the log ends there (what follows was
 * never acknowledged) or acknowledged data is damaged: that is so if anything on disk says that this batch was durable.
 */
#include <inttypes.h>

#include "recover.h"

static uint64_t checkpoint_index(const struct recovery *r)
{
    return r->checkpoint.bytes ? r->checkpoint.head.index : 0;
}

static broker_error open_segment(struct recovery *r, uint32_t number, struct scan *c, struct segment_head *head)
{
    char name[FILE_NAME_BYTES];
    segment_name(name, SEGMENT_LOG, number);
    int error = scan_open(c, r->s->host.disk_ops, r->s->host.disk, name, number);
    if (error)
        return recover_error(r, error, "open", name);
    const uint8_t *bytes = scan_bytes(c, 0, SEGMENT_HEAD_BYTES);
    if (!bytes && c->error)
        return recover_error(r, c->error, "read", name);
    enum format_check check = bytes ? segment_head_get(bytes, head) : FORMAT_DAMAGED;
    if (check == FORMAT_FOREIGN_VERSION) {
        report_line(r->report, true, "%s has format version %u; this broker reads version %d", name, head->version,
                    FORMAT_VERSION);
        return BROKER_UNSUPPORTED_VERSION;
    }
    if (check != FORMAT_OK || head->number != number || head->kind != SEGMENT_LOG) {
        report_line(r->report, true, "%s: the segment's head is damaged; run fsck", name);
        return BROKER_DAMAGED;
    }
    return BROKER_OK;
}

/* ---- records ------------------------------------------------------------------------------------------------------------ */

struct place { /* of a message: its own, or one that the route before it adds */
    uint32_t queue;
    uint64_t seq;
    uint32_t length; /* as in its entry */
};

/* A message that the checkpoint knows, unless it was dead by then. */
static broker_error note_known(struct recovery *r, const struct place *p, uint64_t time_ms, uint64_t offset)
{
    struct queue_index *q = index_find(r->s, p->queue);
    uint32_t i = q ? index_search(q, p->seq) : 0;
    if (!q || i == q->run_len)
        return BROKER_OK;
    struct run *run = queue_run(q, i);
    if (run->segment != r->segment->number || p->seq < run->first || !run_is_open(run))
        return BROKER_OK;
    if (!times_reserve(run->detail))
        return BROKER_NO_MEMORY;
    run->detail->entries[p->seq - run->first] = (struct entry){(uint32_t)(offset / 8), p->length};
    times_add(run->detail, (uint32_t)(p->seq - run->first), time_ms);
    return BROKER_OK;
}

static broker_error note_new(struct recovery *r, const struct place *p, uint64_t time_ms, uint64_t offset)
{
    struct queue_index *q = index_find(r->s, p->queue);
    if (p->seq == 0 || (q && p->seq <= q->last_seq)) {
        report_line(r->report, true, "segment %u, offset %" PRIu64 ": message %" PRIu64 " of queue %u is out of order",
                    r->segment->number, offset, p->seq, p->queue);
        return BROKER_DAMAGED;
    }
    return index_add(r->s, r->segment, p->queue, p->seq, time_ms, offset, p->length) ? BROKER_OK : BROKER_NO_MEMORY;
}

/* In all its places. */
static broker_error note_message(struct recovery *r, const uint8_t *record, const struct route *route, uint64_t offset,
                                 bool known)
{
    broker_error error = BROKER_OK;
    for (uint32_t i = 0; i <= route->n && !error; i++) {
        struct place p = {record_queue(record), record_seq(record), record_length(record)};
        if (i)
            p = (struct place){route_queue(route, i - 1), route_seq(route, i - 1), p.length | ENTRY_ROUTED};
        error = (known ? note_known : note_new)(r, &p, get_u64(record + 24), offset);
    }
    return error;
}

static broker_error apply_record(struct recovery *r, const uint8_t *record, const struct route *route, uint64_t offset,
                                 bool known)
{
    const char *text = "";
    broker_error error = BROKER_OK;
    uint8_t type = record_type_of(record);
    if (type == RECORD_LOST)
        return BROKER_OK;
    if (type == RECORD_MESSAGE)
        error = note_message(r, record, route, offset, known);
    if (error || known)
        return error;
    r->records++;
    error = engine_replay(r->engine, record, &text);
    if (error == BROKER_MALFORMED) {
        report_line(r->report, true,
                    "segment %u, offset %" PRIu64 ": a record of type %u of queue %u makes no sense: %s",
                    r->segment->number, offset, type, record_queue(record), text);
        return BROKER_DAMAGED;
    }
    return error;
}

/* Remember where what may not be on disk begins. */
static bool note_unclaimed(struct recovery *r, uint64_t index)
{
    uint64_t durable = r->claimed > checkpoint_index(r) ? r->claimed : checkpoint_index(r);
    while (r->unclaimed_from < r->unclaimed_len && r->unclaimed[r->unclaimed_from].index <= durable)
        r->unclaimed_from++;
    if (r->unclaimed_from == r->unclaimed_len)
        r->unclaimed_from = r->unclaimed_len = 0;
    if (index <= durable)
        return true;
    if (r->unclaimed_len == r->unclaimed_cap) {
        size_t cap = r->unclaimed_cap ? r->unclaimed_cap * 2 : 64;
        struct unclaimed *unclaimed = realloc(r->unclaimed, cap * sizeof *unclaimed);
        if (!unclaimed)
            return false;
        r->unclaimed = unclaimed;
        r->unclaimed_cap = cap;
    }
    r->unclaimed[r->unclaimed_len++] = (struct unclaimed){index, r->offset, r->segment->number};
    return true;
}

static broker_error odd_route(const struct recovery *r, uint64_t offset)
{
    report_line(r->report, true,
                "segment %u, offset %" PRIu64 ": the places of a message are named, but no message follows; run fsck",
                r->segment->number, offset);
    return BROKER_DAMAGED;
}

static broker_error apply_batch(struct recovery *r, const struct batch_head *head, const uint8_t *batch)
{
    bool known = head->index <= checkpoint_index(r);
    struct route route = {0, NULL};
    bool follows = false; /* a message must: it is what the route is of */
    for (uint32_t at = BATCH_HEAD_BYTES; at < head->length; at += record_padded(batch + at)) {
        const uint8_t *record = batch + at;
        broker_error error = follows && record_type_of(record) != RECORD_MESSAGE
                                 ? odd_route(r, r->offset + at)
                                 : apply_record(r, record, &route, r->offset + at, known);
        if (error)
            return error;
        route = route_get(record, record_length(record));
        follows = record_type_of(record) == RECORD_ROUTE;
        if (follows && route.n == 0)
            return odd_route(r, r->offset + at);
    }
    if (follows)
        return odd_route(r, r->offset + head->length);
    struct segment *g = r->segment;
    if (!g->first_index)
        g->first_index = head->index;
    g->last_index = head->index;
    r->batches += !known;
    r->epoch = head->epoch;
    r->next_index = head->index + 1;
    r->claimed = head->durable > r->claimed ? head->durable : r->claimed;
    if (!note_unclaimed(r, head->index))
        return BROKER_NO_MEMORY;
    r->offset += head->length;
    g->data_end = r->offset;
    return BROKER_OK;
}

static bool comes_next(const struct recovery *r, const struct batch_head *head)
{
    bool in_order = head->index == r->next_index || ((head->flags & BATCH_REPAIRED) && head->index > r->next_index);
    return in_order && head->epoch >= r->epoch;
}

/* Read on in the segment until something does not fit; *found says what, *head its head if it has one. */
static broker_error read_segment(struct recovery *r, enum scan_found *found, struct batch_head *head)
{
    for (;;) {
        const uint8_t *batch;
        *found = scan_batch(&r->scan, r->offset, head, &batch);
        if (*found == SCAN_ERROR && r->scan.error == ENOMEM)
            return BROKER_NO_MEMORY;
        if ((*found == SCAN_BATCH || *found == SCAN_TORN) && !comes_next(r, head))
            *found = SCAN_NONE; /* of an earlier epoch, or of a time before a cut */
        if (*found != SCAN_BATCH)
            return BROKER_OK;
        broker_error error = apply_batch(r, head, batch);
        if (error)
            return error;
    }
}

/* ---- the end, or damage --------------------------------------------------------------------------------------------------- */

/* Does a batch in [from, to) say that the next one was durable, or show at least that the log went on? */
static int look_for_claims(struct recovery *r, struct scan *c, uint64_t from, uint64_t to)
{
    struct batch_head head;
    uint64_t at = from;
    while ((at = scan_find(c, at, to, &head)) != UINT64_MAX) {
        bool later = head.epoch >= r->epoch && head.index >= r->next_index;
        if (later) {
            r->torn = true;
            r->claimed = head.durable > r->claimed ? head.durable : r->claimed;
        }
        at += later ? head.length : 8;
    }
    return c->error;
}

static broker_error look_behind(struct recovery *r, enum scan_found found, const struct batch_head *bad)
{
    uint64_t reach = r->s->options.window_bytes + r->segment->file_bytes;
    uint64_t from = r->offset + (found == SCAN_TORN ? bad->length : 8);
    r->torn = found == SCAN_TORN;
    int error = look_for_claims(r, &r->scan, from, r->offset + reach);
    for (size_t i = 0; i < r->files.n && !error; i++) {
        const struct listed *f = &r->files.files[i];
        struct scan c;
        if (f->kind != FILE_LOG || f->number <= r->segment->number)
            continue;
        error = scan_open(&c, r->s->host.disk_ops, r->s->host.disk, f->name, (uint32_t)f->number);
        if (!error)
            error = look_for_claims(r, &c, SEGMENT_DATA_START, reach);
        scan_close(&c);
    }
    return error ? recover_error(r, error, "read", "the log's end") : BROKER_OK;
}

static void report_place(const struct recovery *r, uint64_t offset, uint64_t seq, uint32_t queue)
{
    report_line(r->report, true,
                "segment %u, offset %" PRIu64
                ": the record there is damaged; as far as it can be read it is message %" PRIu64 " of queue %u",
                r->segment->number, offset, seq, queue);
}

static void report_record(const struct recovery *r, const uint8_t *record, const struct route *route, uint64_t offset,
                          uint64_t left)
{
    uint32_t length = record_length(record) < left ? record_length(record) : 0;
    struct route lost = route_get(record, length); /* a damaged route: its places, as far as they can be read */
    if (record_type_of(record) == RECORD_MESSAGE) {
        report_place(r, offset, record_seq(record), record_queue(record));
        lost = *route;
    } else {
        report_line(r->report, true,
                    "segment %u, offset %" PRIu64
                    ": the record there is damaged; as far as it can be read it is a control record, number %" PRIu64
                    " of queue %u",
                    r->segment->number, offset, record_seq(record), record_queue(record));
    }
    for (uint32_t i = 0; i < lost.n; i++)
        report_place(r, offset, route_seq(&lost, i), route_queue(&lost, i));
}

static void report_records(struct recovery *r, const struct batch_head *bad)
{
    const uint8_t *batch = scan_bytes(&r->scan, r->offset, bad->length);
    struct route route = {0, NULL};
    for (uint32_t at = BATCH_HEAD_BYTES; batch && at + RECORD_HEAD_BYTES <= bad->length;) {
        const uint8_t *record = batch + at;
        uint32_t length = record_length(record);
        bool whole = record_intact(record, bad->length - at);
        if (!whole)
            report_record(r, record, &route, r->offset + at, bad->length - at);
        if (!whole && (length < RECORD_HEAD_BYTES || length > bad->length - at))
            return;
        route = whole ? route_get(record, length) : (struct route){0, NULL};
        at += pad8(length);
    }
}

static broker_error decide(struct recovery *r, enum scan_found found, const struct batch_head *bad)
{
    if (found == SCAN_ERROR)
        return recover_error(r, r->scan.error, "read", "the log");
    bool cut = found == SCAN_CUT && r->scan.file_bytes < r->segment->file_bytes;
    broker_error error = look_behind(r, found, bad);
    if (error)
        return error;
    if (r->claimed < r->next_index && !cut)
        return BROKER_OK;
    if (cut)
        report_line(r->report, true,
                    "segment %u is truncated: %" PRIu64 " bytes instead of %" PRIu64
                    "; what the log held from batch %" PRIu64 " on is lost; run fsck",
                    r->segment->number, r->scan.file_bytes, r->segment->file_bytes, r->next_index);
    if (r->claimed >= r->next_index)
        report_line(r->report, true,
                    "segment %u, offset %" PRIu64 ": batch %" PRIu64
                    " is damaged, and it was acknowledged: batches up to %" PRIu64 " were on disk; run fsck",
                    r->segment->number, r->offset, r->next_index, r->claimed);
    if (found == SCAN_TORN)
        report_records(r, bad);
    return BROKER_DAMAGED;
}

/* ---- from segment to segment ------------------------------------------------------------------------------------------------ */

static void enter(struct recovery *r, struct segment *g, const struct segment_head *head, const struct scan *c)
{
    scan_close(&r->scan);
    r->scan = *c;
    r->segment = r->s->log.active = g;
    r->offset = g->data_end = SEGMENT_DATA_START;
    g->file_bytes = head->bytes;
}

static struct segment *add_active(struct recovery *r, uint32_t number)
{
    struct segment *old = r->segment;
    struct segment *g = segment_add(r->s, number, SEGMENT_LOG, SEGMENT_ACTIVE);
    if (g && old) {
        old->state = SEGMENT_FULL;
        TAILQ_INSERT_TAIL(&r->s->full, old, link);
    }
    return g;
}

/* Go on in segment `number`. If the checkpoint does not know it (g is NULL), only if the log goes on there. */
static broker_error try_segment(struct recovery *r, uint32_t number, struct segment *g, bool *entered)
{
    struct scan c;
    struct segment_head head;
    struct batch_head first;
    broker_error error = open_segment(r, number, &c, &head);
    bool known = g || !r->segment;
    bool goes_on = known;
    if (!error && !known) {
        const uint8_t *bytes = scan_bytes(&c, SEGMENT_DATA_START, BATCH_HEAD_BYTES);
        goes_on = bytes && batch_head_get(bytes, number, &first) && comes_next(r, &first);
    }
    if (!error && goes_on && !g && !(g = add_active(r, number)))
        error = BROKER_NO_MEMORY;
    if (error || !goes_on) {
        scan_close(&c);
        return error;
    }
    if (known) /* sealed segments may lie between this one and the one before */
        r->next_index = g->first_index ? g->first_index : checkpoint_index(r) + 1;
    *entered = true;
    enter(r, g, &head, &c);
    return BROKER_OK;
}

/* First the segments that the checkpoint knows as not sealed, in the log's order; then those it does not know. */
static broker_error next_segment(struct recovery *r, bool *entered)
{
    *entered = false;
    bool known_follow = r->segment ? r->segment->state == SEGMENT_FULL : checkpoint_index(r) != 0;
    for (size_t i = 0; i < r->files.n && !*entered; i++) {
        const struct listed *f = &r->files.files[i];
        if (f->kind != FILE_LOG || (r->segment && f->number <= r->segment->number))
            continue;
        struct segment *g = segment_find(r->s, (uint32_t)f->number);
        if (g ? g->state == SEGMENT_SEALED : known_follow)
            continue; /* read by its footer; or not part of the log, and freed later */
        broker_error error = try_segment(r, (uint32_t)f->number, g, entered);
        if (error)
            return error;
    }
    return BROKER_OK;
}

static broker_error no_beginning(struct recovery *r)
{
    if (r->checkpoint.bytes)
        report_line(r->report, true, "segment %u, where the log goes on, is not known to its checkpoint",
                    r->checkpoint.head.end_segment);
    else
        report_line(
            r->report, true,
            "there is no whole checkpoint, and the log does not begin with batch 1: the state before it is lost");
    return BROKER_DAMAGED;
}

broker_error recover_log(struct recovery *r)
{
    enum scan_found found = SCAN_NONE;
    struct batch_head bad = {0};
    bool entered;
    broker_error error = next_segment(r, &entered);
    if (!error && !entered && (checkpoint_index(r) || r->bad_checkpoint))
        return no_beginning(r);
    while (!error && entered) {
        uint64_t known_end = r->segment->state == SEGMENT_FULL ? r->segment->last_index : 0;
        error = read_segment(r, &found, &bad);
        if (error || known_end >= r->next_index) /* the checkpoint knows more of this segment */
            break;
        error = next_segment(r, &entered);
    }
    if (!error && r->segment)
        error = decide(r, found, &bad);
    if (error == BROKER_DAMAGED && r->next_index == 1)
        return no_beginning(r);
    if (!error)
        recover_count_open(r);
    return error;
}
