/*
 * Scans under way: each walks a range of a queue for a client, to peek, count, delete, move or redrive what matches. Scans
 * take turns, and do a slice of work per turn of the loop. What a scan has changed stays changed, whatever ends it: the
 * answer says where to go on.
 */
#include <stdlib.h>
#include <string.h>

#include "scan.h"

enum {
    FULL_RETRY_MS = 1000,
    READ_MESSAGES = 256,   /* of one read */
    SLICE_MESSAGES = 1024, /* read per turn, by all scans together */
    SLICE_BYTES = 1 << 20, /* the same in bytes; a single message may be more */
    SLICE_STEPS = 1024,    /* looks at what is there, per turn */
    WINDOW_SEQS = 4096,    /* several groups: one look goes no further, as it may cost that many steps ... */
    WINDOW_STEPS = 16,     /* ... and counts for so many */
    MOVE_COST = 4          /* a message that is moved counts for so many read */
};

/* What is left of this turn's work, and what the scan that has its turn found. */
struct turn {
    uint32_t steps, messages;
    uint64_t bytes;
    struct queue *to; /* of the scan's target */
    uint32_t range_count, found_count;
    uint64_t found_bytes;
    uint64_t damaged;
    broker_error error; /* why it cannot go on */
    uint64_t ranges[SETTLE_ITEMS_MAX][2];
    struct stored_message found[SLICE_MESSAGES];
    struct seqset leased; /* what is leased of leased_of, if leased_known */
    const struct queue *leased_of;
    bool leased_known;
};

static void scan_free(struct scan *s)
{
    filter_free(s->filter);
    free(s);
}

static void scan_remove(struct engine *e, struct scan *s)
{
    TAILQ_REMOVE(&e->scans, s, link);
    scan_free(s);
}

/* ---- what is there ------------------------------------------------------------------------------------------------- */

struct run { /* seqs first..last */
    uint64_t first, last;
};

/* The first run of seqs from s->at on that are still there and in the state asked for. false: none yet, s->at has moved. */
static bool next_run(struct scan *s, struct turn *t, struct run *run)
{
    const struct queue *q = s->queue;
    const struct seqset *waiting = q->specials ? &q->specials->waiting : NULL;
    bool windowed = q->group_count > 1 && q->settings.retention == BROKER_RETENTION_WORK;
    t->steps -= windowed && t->steps > WINDOW_STEPS ? WINDOW_STEPS : 1;
    if (s->state == BROKER_SCAN_SCHEDULED) {
        uint64_t next = waiting ? seqset_next(waiting, s->at) : UINT64_MAX;
        s->at = next <= s->end ? next : s->end + 1;
        if (s->at > s->end) {
            return false;
        }
    }
    uint64_t end = windowed && s->end - s->at >= WINDOW_SEQS ? s->at + WINDOW_SEQS - 1 : s->end;
    if (!queue_next_live(q, &s->at, end, &run->last)) {
        return false;
    }
    run->first = s->at;
    if (s->state == BROKER_SCAN_ANY || !waiting) {
        return true;
    }
    bool waits = seqset_has(waiting, run->first);
    if (waits != (s->state == BROKER_SCAN_SCHEDULED)) { /* scheduled: the next look begins at one that waits */
        s->at = waits ? seqset_next_absent(waiting, run->first) : run->first;
        return false;
    }
    uint64_t other = waits ? seqset_next_absent(waiting, run->first) : seqset_next(waiting, run->first);
    run->last = other <= run->last ? other - 1 : run->last;
    return true;
}

/* ---- what is done with a message ------------------------------------------------------------------------------------ */

enum step {
    STEP_ON,
    STEP_OVER,    /* the scan's own limit is reached */
    STEP_PENDING, /* a read must come from disk */
    STEP_FAILED   /* turn->error */
};

static bool is_enough(const struct scan *s)
{
    return s->matched >= s->max_messages || s->scanned >= s->max_scanned;
}

static void note_range(struct turn *t, uint64_t first, uint64_t last)
{
    if (t->range_count && t->ranges[t->range_count - 1][1] + 1 == first) {
        t->ranges[t->range_count - 1][1] = last;
        return;
    }
    t->ranges[t->range_count][0] = first;
    t->ranges[t->range_count][1] = last;
    t->range_count++;
}

static bool add_leased(struct seqset *set, const struct queue *q)
{
    const struct group *g;
    const struct lease_block *b;
    LIST_FOREACH(g, &q->groups, of_queue)
    {
        TAILQ_FOREACH(b, &g->blocks, of_group)
        {
            for (uint64_t left = b->live; left; left &= left - 1) {
                uint64_t seq = b->entries[__builtin_ctzll(left)].seq;
                if (!seqset_add(set, seq, seq)) {
                    return false;
                }
            }
        }
    }
    return true;
}

/* Is it leased to somebody? What came back and waits to be handed out again is not. */
static bool is_leased(struct turn *t, const struct queue *q, uint64_t seq)
{
    const struct group *g;
    bool held = false;
    LIST_FOREACH(g, &q->groups, of_queue)
    {
        held |= g->leased && group_holds(g, seq);
    }
    if (!held) {
        return false;
    }
    if (t->leased_of != q) { /* once a turn: no lease begins meanwhile */
        seqset_release(&t->leased);
        t->leased_of = q;
        t->leased_known = add_leased(&t->leased, q);
    }
    return !t->leased_known || seqset_has(&t->leased, seq);
}

/* The queue that a dead letter came from; NULL: it does not say, or that queue is gone. */
static struct queue *origin(struct engine *e, const struct record_view *view)
{
    static const char header[] = "dead-queue";
    const uint8_t *end = view->headers + view->head.headers_len;
    uint32_t pairs;
    const uint8_t *p = wire_skip_map(view->headers, end, &pairs);
    while (p && pairs-- > 0) {
        struct name name, value;
        const uint8_t *at = wire_skip_text(p, end, &name.bytes, &name.len);
        if (at && name.len == sizeof header - 1 && memcmp(name.bytes, header, name.len) == 0) {
            bool named = wire_skip_text(at, end, &value.bytes, &value.len) && name_is_valid(value.bytes, value.len);
            return named ? queue_find(e, value) : NULL;
        }
        at = at ? at : wire_skip(p, end);
        p = at ? wire_skip(at, end) : NULL;
    }
    return NULL;
}

/* May the scan go on with the next message after this error? */
static bool is_of_the_message(broker_error error)
{
    return error == BROKER_TOO_LARGE || error == BROKER_MALFORMED || error == BROKER_INVALID_ARGUMENT;
}

static enum step move_one(struct engine *e, struct scan *s, struct turn *t, const struct stored_message *m,
                          const struct record_view *view)
{
    uint8_t body[24];
    struct queue *to = s->target_len ? t->to : origin(e, view);
    t->messages -= t->messages < MOVE_COST ? t->messages : MOVE_COST - 1;
    if (!to || to == s->queue || is_leased(t, s->queue, m->seq)) {
        s->skipped++;
        return STEP_ON;
    }
    put_u32(body, 0);
    put_u32(body + 4, 1);
    put_u64(body + 8, m->seq);
    put_u64(body + 16, m->seq);
    struct move move = {
        .from = s->queue, .to = to, .message = m, .end_type = RECORD_DELETE, .end_body = body, .end_len = sizeof body};
    broker_error error = limits_check(e, to, 1, m->padded_len);
    if (!error) {
        error = message_move(e, &move, &s->index);
    }
    if (is_of_the_message(error)) {
        s->skipped++;
        return STEP_ON;
    }
    if (error) {
        t->error = error;
        return STEP_FAILED;
    }
    queue_apply_delete_range(e, s->queue, m->seq, m->seq);
    limits_enforce(e, to);
    s->matched++;
    return STEP_ON;
}

static enum step act(struct engine *e, struct scan *s, struct turn *t, const struct stored_message *m,
                     const struct record_view *view)
{
    switch (s->action) {
    case SCAN_PEEK:
        if (t->found_count && t->found_bytes + m->padded_len > s->max_bytes) {
            return STEP_OVER;
        }
        t->found[t->found_count++] = *m;
        t->found_bytes += m->padded_len;
        break;
    case SCAN_COUNT: break;
    case SCAN_DELETE: note_range(t, m->seq, m->seq); break;
    case SCAN_MOVE:
    case SCAN_REDRIVE: return move_one(e, s, t, m, view);
    }
    s->matched++;
    return STEP_ON;
}

static bool is_wanted(const struct scan *s, const struct record_view *view)
{
    return view->head.time_ms >= s->from_ms && (!s->to_ms || view->head.time_ms <= s->to_ms) &&
           filter_matches(s->filter, view);
}

static enum step look_at(struct engine *e, struct scan *s, struct turn *t, const struct stored_message *m)
{
    struct record_view view;
    enum step step = STEP_ON;
    s->at = m->seq;
    t->messages--;
    t->bytes -= t->bytes < m->padded_len ? t->bytes : m->padded_len;
    if (record_view_get(m->record, m->padded_len, &view) == BROKER_OK && is_wanted(s, &view)) {
        step = act(e, s, t, m, &view);
    }
    if (step == STEP_ON) {
        s->scanned++;
        s->at = m->seq + 1;
    }
    return step;
}

/* Whether seqs match is known without their messages: what is damaged can be counted, and be deleted. */
static bool needs_no_read(const struct scan *s)
{
    return (s->action == SCAN_COUNT || s->action == SCAN_DELETE) && !s->filter && !s->from_ms && !s->to_ms;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void take_unread(struct scan *s, struct turn *t, const struct run *run)
{
    uint64_t n = least(run->last - run->first + 1, least(s->max_messages - s->matched, s->max_scanned - s->scanned));
    if (s->action == SCAN_DELETE) {
        note_range(t, run->first, run->first + n - 1);
    }
    s->matched += n;
    s->scanned += n;
    s->at = run->first + n;
}

static enum step take_read(struct engine *e, struct scan *s, struct turn *t, const struct run *run)
{
    struct stored_message messages[READ_MESSAGES];
    uint32_t count = 0, max = (uint32_t)least(READ_MESSAGES, least(t->messages, s->max_scanned - s->scanned));
    if (s->action == SCAN_PEEK && !s->filter) {
        max = (uint32_t)least(max, s->max_messages - s->matched);
    }
    enum read_status status =
        e->ops->read(e->store, s->queue->id, run->first, run->last, max, t->bytes, messages, &count, &t->damaged);
    switch (status) {
    case READ_END: s->at = run->last + 1; return STEP_ON;
    case READ_PENDING: return STEP_PENDING;
    case READ_DAMAGED:
        s->at = t->damaged;
        t->error = BROKER_DAMAGED;
        return STEP_FAILED;
    case READ_OK: break;
    }
    enum step step = STEP_ON;
    for (uint32_t i = 0; i < count && t->messages && step == STEP_ON && !is_enough(s); i++) {
        step = look_at(e, s, t, &messages[i]);
    }
    return step;
}

/* As far as the turn's work goes. STEP_ON: there is more to do, next turn. */
static enum step walk(struct engine *e, struct scan *s, struct turn *t)
{
    enum step step = STEP_ON;
    while (step == STEP_ON && t->steps && t->messages && t->bytes && t->range_count < SETTLE_ITEMS_MAX) {
        struct run run;
        if (s->at > s->end || is_enough(s)) {
            return STEP_OVER;
        }
        if (!next_run(s, t, &run)) {
            continue;
        }
        if (needs_no_read(s)) {
            take_unread(s, t, &run);
        } else {
            step = take_read(e, s, t, &run);
        }
    }
    return step == STEP_ON && (s->at > s->end || is_enough(s)) ? STEP_OVER : step;
}

/* ---- answers ------------------------------------------------------------------------------------------------------- */

static void fail(struct engine *e, const struct scan *s, const struct turn *t)
{
    const struct command c = {.type = COMMAND_SCAN, .token = s->token};
    unsigned long long damaged = t->damaged;
    switch (t->error) {
    case BROKER_DAMAGED:
        engine_fail(e, &c, t->error, 0,
                    "message %llu of queue '%s' is damaged on disk: go on from %llu, or delete that seq alone", damaged,
                    s->queue->name, damaged + 1);
        break;
    case BROKER_QUEUE_NOT_FOUND:
        engine_fail(e, &c, t->error, 0, "there is no queue '%s' to move messages to: create it first", s->target);
        break;
    case BROKER_QUEUE_FULL:
        engine_fail(
            e, &c, t->error, FULL_RETRY_MS,
            "the queue that messages of '%s' would go to is full: consume from it, or raise its max_messages or "
            "max_bytes",
            s->queue->name);
        break;
    default: engine_append_failed(e, &c, t->error); break;
    }
}

static uint64_t next_seq(const struct scan *s)
{
    return s->at > s->end ? 0 : s->at;
}

static void answer(struct engine *e, const struct scan *s, const struct turn *t)
{
    struct completion c = {.type = COMMAND_SCAN, .token = s->token};
    c.u.scan.matched = s->matched;
    c.u.scan.skipped = s->skipped;
    c.u.scan.next_seq = next_seq(s);
    c.u.scan.messages = t->found;
    c.u.scan.count = t->found_count;
    c.u.scan.peek = s->action == SCAN_PEEK;
    if (s->token.conn) {
        e->sink_ops->complete(e->sink, &c);
    }
}

/* The changes are in the log: answer once they are on disk. false: no memory, try again. */
static bool answer_once_durable(struct engine *e, struct scan *s)
{
    uint64_t index;
    if (!pending_reserve(&e->synced)) {
        return false;
    }
    bool syncs = engine_append_barrier(e, &index) == BROKER_OK;
    s->index = syncs ? index : s->index;
    struct pending p = {.index = s->index, .token = s->token, .type = COMMAND_SCAN};
    p.u.scan.matched = s->matched;
    p.u.scan.skipped = s->skipped;
    p.u.scan.next_seq = next_seq(s);
    pending_push(e, DURABILITY_SYNCED, &p);
    if (!syncs) { /* what it waits for may be on disk already */
        pending_release(e);
    }
    return true;
}

static bool changes_something(const struct scan *s)
{
    return s->action != SCAN_PEEK && s->action != SCAN_COUNT;
}

static void finish(struct engine *e, struct scan *s, const struct turn *t)
{
    if (t->error && !s->matched && !s->skipped) {
        fail(e, s, t);
    } else if (!changes_something(s) || !s->matched) {
        answer(e, s, t);
    } else if (!answer_once_durable(e, s)) {
        s->over = true;
        return;
    }
    scan_remove(e, s);
}

/* ---- turns --------------------------------------------------------------------------------------------------------- */

/* Delete what the slice found. On failure it is as if it had not been found. */
static enum step delete_found(struct engine *e, struct scan *s, struct turn *t, enum step step)
{
    if (!t->range_count) {
        return step;
    }
    broker_error error =
        queue_delete_ranges(e, s->queue, (const uint64_t(*)[2])t->ranges, t->range_count, DURABILITY_LAZY, &s->index);
    if (!error) {
        return step;
    }
    for (uint32_t i = 0; i < t->range_count; i++) {
        s->matched -= t->ranges[i][1] - t->ranges[i][0] + 1;
    }
    s->at = t->ranges[0][0];
    t->error = error;
    return STEP_FAILED;
}

static enum step slice(struct engine *e, struct scan *s, struct turn *t)
{
    t->range_count = t->found_count = 0;
    t->found_bytes = 0;
    t->error = BROKER_OK;
    if (s->over) {
        return STEP_OVER;
    }
    if (s->target_len) {
        t->to = queue_find(e, (struct name){.bytes = s->target, .len = s->target_len});
        if (!t->to) {
            t->error = BROKER_QUEUE_NOT_FOUND;
            return STEP_FAILED;
        }
    }
    return delete_found(e, s, t, walk(e, s, t));
}

void scans_run(struct engine *e)
{
    struct scan *last = TAILQ_LAST(&e->scans, scan_list), *s, *next;
    if (!last) {
        return;
    }
    struct turn t; /* large: the arrays are not cleared */
    t.steps = SLICE_STEPS;
    t.messages = SLICE_MESSAGES;
    t.bytes = SLICE_BYTES;
    t.leased_of = NULL;
    seqset_init(&t.leased);
    for (s = TAILQ_FIRST(&e->scans); s && t.steps && t.messages && t.bytes; s = next) {
        next = s == last ? NULL : TAILQ_NEXT(s, link);
        if (s->reading) {
            continue;
        }
        enum step step = slice(e, s, &t);
        if (step == STEP_OVER || step == STEP_FAILED || t.found_count) { /* what was found is in reach this turn only */
            finish(e, s, &t);
            continue;
        }
        s->reading = step == STEP_PENDING;
        TAILQ_REMOVE(&e->scans, s, link);
        TAILQ_INSERT_TAIL(&e->scans, s, link);
    }
    seqset_release(&t.leased);
}

bool scans_waiting(const struct engine *e)
{
    const struct scan *s;
    TAILQ_FOREACH(s, &e->scans, link)
    {
        if (!s->reading) {
            return true;
        }
    }
    return false;
}

void scans_readable(struct engine *e, struct queue *q)
{
    struct scan *s;
    TAILQ_FOREACH(s, &e->scans, link)
    {
        if (s->queue == q) {
            s->reading = false;
        }
    }
}

void scans_drop_queue(struct engine *e, struct queue *q)
{
    struct scan *s, *next;
    for (s = TAILQ_FIRST(&e->scans); s; s = next) {
        next = TAILQ_NEXT(s, link);
        if (s->queue == q) {
            const struct command c = {.type = COMMAND_SCAN, .token = s->token};
            TAILQ_REMOVE(&e->scans, s, link);
            engine_fail(e, &c, BROKER_QUEUE_NOT_FOUND, 0, "queue '%s' was deleted while it was being looked through",
                        q->name);
            scan_free(s);
        }
    }
}

void scans_drop_conn(struct engine *e, uint64_t conn)
{
    struct scan *s, *next;
    for (s = TAILQ_FIRST(&e->scans); s; s = next) {
        next = TAILQ_NEXT(s, link);
        if (s->token.conn == conn) {
            scan_remove(e, s);
        }
    }
}

void scans_free(struct engine *e)
{
    struct scan *s;
    while ((s = TAILQ_FIRST(&e->scans))) {
        scan_remove(e, s);
    }
}
