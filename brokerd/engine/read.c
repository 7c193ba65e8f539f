/*
 * COMMAND_READ: messages of a queue in the order of acceptance, for readers that keep their place themselves. Nothing is
 * leased, settled or logged.
 *
 * A read waits in its queue until something becomes visible, in its queue until a block has come from disk, or it is due: it is
 * looked at in this turn of the loop or the next. Answers are given in reads_run alone, each after its read is gone from
 * everywhere, so a sink may submit the next one, or close connections, from inside the call. Readers at one place, as the
 * subscribers of a queue are, share one look at it.
 */
#include <stdlib.h>

#include "engine_internal.h"

enum {
    MESSAGES_MAX = 1024, /* given to one read */
    BYTES_DEFAULT = 1 << 20,
    FILTER_MESSAGES = 256,    /* of one read of the store, where a filter chooses */
    FILTER_BYTES = 1 << 20,   /* the same */
    STEPS = 1024,             /* messages that a read may pass over in one turn ... */
    TURN_STEPS = 8192,        /* ... and all together */
    TURN_MESSAGES = 65536,    /* given in one turn */
    TURN_BYTES = 64 << 20,    /* the same */
    WINDOW_SEQS = 4096,       /* several groups: one look at what is there goes no further ... */
    WINDOW_STEPS = 16,        /* ... and counts for so many */
    PASSED_AT_ONCE = 1000000, /* a read that does not wait may pass over so many in all */
    SPARE_MAX = 4096,         /* reads kept for the next ones */
    BUCKETS_MIN = 64,
    RETRY_MS = 100
};

enum place { IS_DUE, IS_CHOOSING /* due as well, but it may pass over much */, IS_WAITING, IS_ON_DISK };

struct read {
    TAILQ_ENTRY(read) link; /* in the list that `place` says */
    LIST_ENTRY(read) of_conn;
    struct heap_node wait; /* reads->waits: an empty answer is due; in none: it waits forever, or not at all */
    struct token token;
    struct queue *queue;
    struct filter *filter; /* owned */
    uint64_t at;           /* the next seq to look at; 0: the oldest */
    uint64_t from_ms;      /* not 0: what was accepted before is passed over until the first that was not */
    uint32_t passed;       /* messages looked at that were none for it */
    uint32_t max_bytes;
    uint16_t max_messages;
    uint8_t place;
    bool over; /* it does not wait, or not any more */
    bool trimmed, beyond;
};
LIST_HEAD(bucket, read);

/* What the read at hand was found, and for whom: the next one that asks for the same is given it. */
struct find {
    const struct queue *queue; /* NULL: it was of a kind that nobody shares */
    uint64_t from, next;
    uint32_t max_messages, max_bytes;
    uint64_t commands; /* engine->commands then */
    uint32_t count;
    uint64_t bytes;
    uint64_t damaged;
    struct stored_message messages[MESSAGES_MAX];
};

struct reads {
    struct read_list due;
    uint32_t due_count;
    struct heap waits;
    struct bucket *buckets; /* by connection */
    uint32_t bucket_bits, count;
    struct read_list spare;
    uint32_t spare_count;
    struct read_list choosing; /* due as well, but they may pass over much: they have a part of the turn of their own */
    uint32_t choosing_count;
    uint32_t steps; /* what is left of this turn's work */
    uint64_t messages, bytes;
    const struct queue *first_of; /* NULL: not known; first_seq is this one's, at `first_commands` */
    uint64_t first_commands, first_seq;
    struct find find;
};

struct reads *reads_new(void)
{
    struct reads *s = calloc(1, sizeof *s);
    if (s) {
        TAILQ_INIT(&s->due);
        TAILQ_INIT(&s->choosing);
        TAILQ_INIT(&s->spare);
        heap_init(&s->waits);
    }
    return s;
}

/* ---- whose they are ------------------------------------------------------------------------------------------------- */

static struct bucket *bucket_of(const struct reads *s, uint64_t conn)
{
    return &s->buckets[conn * 0x9e3779b97f4a7c15ull >> (64 - s->bucket_bits)];
}

/* Room for one more. No memory for a larger table only makes the chains longer, but for the first. */
static bool buckets_reserve(struct reads *s)
{
    if (s->buckets && s->count < 1u << s->bucket_bits) {
        return true;
    }
    uint32_t n = s->buckets ? 2u << s->bucket_bits : BUCKETS_MIN;
    struct bucket *was = s->buckets, *buckets = calloc(n, sizeof *buckets);
    if (!buckets) {
        return was != NULL;
    }
    uint32_t was_count = was ? 1u << s->bucket_bits : 0;
    s->buckets = buckets;
    s->bucket_bits = (uint32_t)__builtin_ctz(n);
    for (uint32_t i = 0; i < was_count; i++) {
        struct read *r;
        while ((r = LIST_FIRST(&was[i]))) {
            LIST_REMOVE(r, of_conn);
            LIST_INSERT_HEAD(bucket_of(s, r->token.conn), r, of_conn);
        }
    }
    free(was);
    return true;
}

/* ---- where they are --------------------------------------------------------------------------------------------------- */

/* Does it take whatever is there? Those that do can share one look. */
static bool is_shareable(const struct read *r)
{
    return !r->filter && !r->from_ms;
}

static void place(struct reads *s, struct read *r, enum place where)
{
    struct queue *q = r->queue;
    where = where == IS_DUE && !is_shareable(r) ? IS_CHOOSING : where;
    r->place = where;
    if (where == IS_DUE) {
        TAILQ_INSERT_TAIL(&s->due, r, link);
        s->due_count++;
    } else if (where == IS_CHOOSING) {
        TAILQ_INSERT_TAIL(&s->choosing, r, link);
        s->choosing_count++;
    } else if (where == IS_WAITING) {
        TAILQ_INSERT_TAIL(&q->reads_waiting, r, link);
    } else {
        TAILQ_INSERT_TAIL(&q->reads_on_disk, r, link);
    }
}

static void displace(struct reads *s, struct read *r)
{
    struct queue *q = r->queue;
    if (r->place == IS_DUE) {
        TAILQ_REMOVE(&s->due, r, link);
        s->due_count--;
    } else if (r->place == IS_CHOOSING) {
        TAILQ_REMOVE(&s->choosing, r, link);
        s->choosing_count--;
    } else if (r->place == IS_WAITING) {
        TAILQ_REMOVE(&q->reads_waiting, r, link);
    } else {
        TAILQ_REMOVE(&q->reads_on_disk, r, link);
    }
}

static void move_to(struct reads *s, struct read *r, enum place where)
{
    displace(s, r);
    place(s, r, where);
}

static struct read *read_new(struct reads *s)
{
    struct read *r = TAILQ_FIRST(&s->spare);
    if (!r) {
        return calloc(1, sizeof *r);
    }
    TAILQ_REMOVE(&s->spare, r, link);
    s->spare_count--;
    memset(r, 0, sizeof *r);
    return r;
}

static void read_free(struct reads *s, struct read *r)
{
    if (r->filter) {
        filter_free(r->filter);
    }
    if (s->spare_count < SPARE_MAX) {
        TAILQ_INSERT_HEAD(&s->spare, r, link);
        s->spare_count++;
    } else {
        free(r);
    }
}

static void read_drop(struct engine *e, struct read *r)
{
    struct reads *s = e->reads;
    displace(s, r);
    LIST_REMOVE(r, of_conn);
    heap_remove(&s->waits, &r->wait);
    r->queue->read_count--;
    queue_used(e, r->queue);
    s->count--;
    read_free(s, r);
}

/* ---- answers: the read is gone before the sink hears of it ----------------------------------------------------------------- */

static void read_fail(struct engine *e, struct read *r, broker_error error, uint64_t damaged)
{
    const struct command c = {.type = COMMAND_READ, .token = r->token};
    const char *name = r->queue->name;
    unsigned long long seq = damaged;
    read_drop(e, r);
    if (error == BROKER_DAMAGED) {
        engine_fail(e, &c, error, 0, "message %llu of queue '%s' is damaged on disk: go on from %llu", seq, name,
                    seq + 1);
    } else {
        engine_fail(e, &c, error, 0, "queue '%s' was deleted while it was being read", name);
    }
}

/* What is dead in a work queue is what all its groups say: a look at much of it takes many steps. */
static bool is_windowed(const struct queue *q)
{
    return q->group_count > 1 && q->settings.retention == BROKER_RETENTION_WORK;
}

static uint64_t window_end(const struct queue *q, uint64_t at)
{
    return is_windowed(q) && q->visible >= at && q->visible - at >= WINDOW_SEQS ? at + WINDOW_SEQS - 1 : q->visible;
}

static uint64_t first_seq(struct engine *e, const struct queue *q)
{
    struct reads *s = e->reads;
    if (s->first_of != q || s->first_commands != e->commands) {
        uint64_t messages, bytes, at, last;
        e->ops->usage(e->store, q->id, &messages, &bytes, &at); /* of a segment that was sealed: not after the oldest */
        at = at > q->trimmed ? at : q->trimmed + 1;
        queue_next_live(q, &at, window_end(q, at), &last);
        s->first_of = q;
        s->first_commands = e->commands;
        s->first_seq = messages && at <= q->visible ? at : q->visible + 1;
    }
    return s->first_seq;
}

static void read_answer(struct engine *e, struct read *r, uint32_t count)
{
    struct completion c = {.type = COMMAND_READ, .token = r->token};
    const struct queue *q = r->queue;
    c.u.read.messages = e->reads->find.messages;
    c.u.read.count = count;
    c.u.read.queue_id = q->id;
    c.u.read.first_seq = first_seq(e, q);
    c.u.read.last_seq = q->visible;
    c.u.read.next_seq = r->beyond ? c.u.read.first_seq : r->at; /* of another life: all of this one is new to it */
    c.u.read.trimmed = r->trimmed;
    c.u.read.beyond = r->beyond;
    read_drop(e, r);
    e->sink_ops->complete(e->sink, &c);
}

/* ---- looking -------------------------------------------------------------------------------------------------------------- */

enum outcome {
    OUTCOME_FOUND,
    OUTCOME_NOTHING, /* up to the newest that is visible */
    OUTCOME_ON_DISK,
    OUTCOME_DAMAGED,
    OUTCOME_UNDONE /* the turn's work is done, or this read's part of it */
};

/* Has somebody in this turn found what it asks for? Nothing can have changed but by a command. */
static bool is_found(const struct engine *e, const struct read *r)
{
    const struct find *f = &e->reads->find;
    return f->queue == r->queue && f->from == r->at && f->max_messages == r->max_messages &&
           f->max_bytes == r->max_bytes && f->commands == e->commands && is_shareable(r);
}

/* Is it one that the reader is to see? It is, unless it has expired, or the filter or the time says no. */
static bool is_wanted(const struct engine *e, struct read *r, const struct stored_message *m)
{
    const struct queue *q = r->queue;
    bool may_be_over = !seqset_empty(&q->expired) || !seqset_empty(&q->ended);
    if (is_shareable(r) && !may_be_over && !(m->record[9] & RECORD_HAS_EXPIRE)) {
        return true;
    }
    struct record_view view;
    if (record_view_get(m->record, m->padded_len, &view) || (may_be_over && is_over(q, m->seq)) ||
        (view.expire_ms && schedule_is_past(e, view.expire_ms)) || view.head.time_ms < r->from_ms) {
        return false;
    }
    r->from_ms = 0;
    return filter_matches(r->filter, &view);
}

/* Of `n` messages just read behind those found before, keep the wanted ones. true: it is enough. */
static bool keep_wanted(struct engine *e, struct read *r, uint32_t n, uint32_t *steps)
{
    struct find *f = &e->reads->find;
    const struct stored_message *from = f->messages + f->count;
    for (uint32_t i = 0; i < n; i++) {
        const struct stored_message m = from[i];
        if (!is_wanted(e, r, &m)) {
            r->at = m.seq + 1;
            r->passed += r->passed < UINT32_MAX;
            *steps -= *steps > 0;
            continue;
        }
        if (f->count && f->bytes + m.padded_len > r->max_bytes) {
            r->at = m.seq;
            return true;
        }
        f->messages[f->count++] = m;
        f->bytes += m.padded_len;
        r->at = m.seq + 1;
        if (f->count == r->max_messages) {
            return true;
        }
    }
    return false;
}

static enum read_status read_on(struct engine *e, const struct read *r, uint64_t last, uint32_t *n)
{
    struct find *f = &e->reads->find;
    bool shareable = is_shareable(r);
    uint32_t max = shareable ? r->max_messages - f->count : MESSAGES_MAX - f->count;
    uint64_t bytes = shareable ? r->max_bytes - (f->bytes < r->max_bytes ? f->bytes : r->max_bytes) : FILTER_BYTES;
    if (!shareable && max > FILTER_MESSAGES) {
        max = FILTER_MESSAGES;
    }
    return e->ops->read(e->store, r->queue->id, r->at, last, max, bytes, f->messages + f->count, n, &f->damaged);
}

/* From r->at on, as far as the turn's work goes. What was found counts, whatever came then. */
static enum outcome look_on(struct engine *e, struct read *r)
{
    const struct queue *q = r->queue;
    struct reads *s = e->reads;
    uint32_t part = s->steps < STEPS ? s->steps : STEPS, steps = part, n = 0;
    enum outcome outcome = OUTCOME_UNDONE;
    uint32_t cost = is_windowed(q) ? WINDOW_STEPS : 1;
    while (steps && outcome == OUTCOME_UNDONE) {
        if (r->at > q->visible) {
            outcome = OUTCOME_NOTHING;
            break;
        }
        uint64_t last;
        steps -= steps < cost ? steps : cost;
        if (!queue_next_live(q, &r->at, window_end(q, r->at), &last)) {
            continue;
        }
        switch (read_on(e, r, last, &n)) {
        case READ_OK: outcome = keep_wanted(e, r, n, &steps) ? OUTCOME_FOUND : OUTCOME_UNDONE; break;
        case READ_END: r->at = last + 1; break;
        case READ_PENDING: outcome = OUTCOME_ON_DISK; break;
        case READ_DAMAGED: outcome = OUTCOME_DAMAGED; break;
        }
    }
    s->steps -= part - steps;
    return s->find.count ? OUTCOME_FOUND : outcome;
}

static enum outcome look(struct engine *e, struct read *r)
{
    const struct queue *q = r->queue;
    struct find *f = &e->reads->find;
    if (r->at <= q->trimmed) {
        r->trimmed |= r->at != 0 && q->settings.retention == BROKER_RETENTION_LOG;
        r->at = q->trimmed + 1;
    }
    r->at = r->at ? r->at : 1;
    if (is_found(e, r)) {
        r->at = f->next;
        return OUTCOME_FOUND;
    }
    bool shareable = is_shareable(r);
    f->from = r->at;
    f->max_messages = r->max_messages;
    f->max_bytes = r->max_bytes;
    f->commands = e->commands;
    f->count = 0;
    f->bytes = 0;
    enum outcome outcome = look_on(e, r);
    f->queue = outcome == OUTCOME_FOUND && shareable ? q : NULL;
    f->next = r->at;
    return outcome;
}

/* One read that is due: it is answered, or goes where it waits. */
static void attend(struct engine *e, struct read *r)
{
    struct reads *s = e->reads;
    if (r->beyond) {
        read_answer(e, r, 0);
        return;
    }
    switch (look(e, r)) {
    case OUTCOME_FOUND:
        s->messages -= s->messages < s->find.count ? s->messages : s->find.count;
        s->bytes -= s->bytes < s->find.bytes ? s->bytes : s->find.bytes;
        read_answer(e, r, s->find.count);
        break;
    case OUTCOME_NOTHING:
        if (r->over || r->trimmed) {
            read_answer(e, r, 0);
        } else {
            move_to(s, r, IS_WAITING);
        }
        break;
    case OUTCOME_ON_DISK: move_to(s, r, IS_ON_DISK); break;
    case OUTCOME_DAMAGED: read_fail(e, r, BROKER_DAMAGED, s->find.damaged); break;
    case OUTCOME_UNDONE:
        if (r->over && r->passed >= PASSED_AT_ONCE) {
            read_answer(e, r, 0);
        } else {
            move_to(s, r, IS_DUE); /* behind the others */
        }
        break;
    }
}

/* The wait is over. What is being looked at or comes from disk is still waited for: it is there. */
static void expire(struct engine *e)
{
    struct heap_node *n;
    while ((n = heap_min(&e->reads->waits)) && n->key <= e->now.mono.ms) {
        struct read *r = container_of(n, struct read, wait);
        heap_remove(&e->reads->waits, n);
        r->over = true;
        r->passed = PASSED_AT_ONCE;
        if (r->place == IS_WAITING) {
            read_answer(e, r, 0);
        }
    }
}

/* The first n of a list: those that are added by the way have the next turn. */
static void attend_all(struct engine *e, struct read_list *list, const uint32_t *count, uint32_t n)
{
    struct reads *s = e->reads;
    s->steps = TURN_STEPS;
    for (; n && *count && s->steps && s->messages && s->bytes; n--) {
        attend(e, TAILQ_FIRST(list));
    }
}

void reads_run(struct engine *e)
{
    struct reads *s = e->reads;
    uint32_t choosing = s->choosing_count;
    s->messages = TURN_MESSAGES;
    s->bytes = TURN_BYTES;
    s->find.queue = s->first_of = NULL; /* of another turn */
    attend_all(e, &s->due, &s->due_count, s->due_count);
    attend_all(e, &s->choosing, &s->choosing_count, choosing);
    expire(e);
}

/* ---- what wakes and ends them ------------------------------------------------------------------------------------------------ */

void reads_wake(struct engine *e, struct queue *q)
{
    struct read *r;
    while ((r = TAILQ_FIRST(&q->reads_waiting))) {
        move_to(e->reads, r, IS_DUE);
    }
}

void reads_readable(struct engine *e, struct queue *q)
{
    struct read *r;
    while ((r = TAILQ_FIRST(&q->reads_on_disk))) {
        move_to(e->reads, r, IS_DUE);
    }
}

uint64_t reads_next(const struct engine *e)
{
    const struct heap_node *n = heap_min(&e->reads->waits);
    return e->reads->due_count + e->reads->choosing_count ? e->now.mono.ms : n ? n->key : UINT64_MAX;
}

void reads_drop_conn(struct engine *e, uint64_t conn)
{
    struct reads *s = e->reads;
    struct read *r, *next;
    for (r = s->buckets ? LIST_FIRST(bucket_of(s, conn)) : NULL; r; r = next) {
        next = LIST_NEXT(r, of_conn);
        if (r->token.conn == conn) {
            read_drop(e, r);
        }
    }
}

static void gather_of_queue(struct reads *s, const struct read_list *list, const struct queue *q)
{
    struct read *r, *next;
    for (r = TAILQ_FIRST(list); r; r = next) {
        next = TAILQ_NEXT(r, link);
        if (r->queue == q) {
            move_to(s, r, IS_WAITING);
        }
    }
}

void reads_drop_queue(struct engine *e, struct queue *q)
{
    struct read *r;
    if (!q->read_count) {
        return;
    }
    gather_of_queue(e->reads, &e->reads->due, q); /* first: a sink may take others away while it is told */
    gather_of_queue(e->reads, &e->reads->choosing, q);
    while ((r = TAILQ_FIRST(&q->reads_on_disk)) || (r = TAILQ_FIRST(&q->reads_waiting))) {
        read_fail(e, r, BROKER_QUEUE_NOT_FOUND, 0);
    }
}

void reads_free(struct engine *e)
{
    struct reads *s = e->reads;
    struct read *r;
    if (!s) {
        return;
    }
    for (uint32_t i = 0; s->buckets && i < 1u << s->bucket_bits; i++) {
        while ((r = LIST_FIRST(&s->buckets[i]))) {
            read_drop(e, r);
        }
    }
    while ((r = TAILQ_FIRST(&s->spare))) {
        TAILQ_REMOVE(&s->spare, r, link);
        free(r);
    }
    heap_release(&s->waits);
    free(s->buckets);
    free(s);
    e->reads = NULL;
}

/* ---- the command ---------------------------------------------------------------------------------------------------------------- */

static void set_start(struct engine *e, const struct command *c, struct read *r)
{
    const struct queue *q = r->queue;
    if (c->u.read.from_end) {
        r->at = q->visible + 1;
    } else if (c->u.read.from_ms) { /* the index knows the block, the messages' own times the place in it */
        uint64_t at = e->ops->seq_at_time(e->store, q->id, c->u.read.from_ms);
        at = at > q->trimmed ? at : q->trimmed + 1;
        r->at = at <= q->visible ? at : q->visible + 1;
        r->from_ms = c->u.read.from_ms;
    } else {
        r->at = c->u.read.from_seq;
        r->beyond = r->at > q->visible + 1 && r->at > q->trimmed + 1;
    }
}

/* false: no memory; it is nowhere. */
static bool read_add(struct engine *e, struct queue *q, const struct command *c, struct filter *filter)
{
    struct reads *s = e->reads;
    uint32_t wait_ms = c->u.read.wait_ms, max = c->u.read.max_messages;
    struct read *r = buckets_reserve(s) ? read_new(s) : NULL;
    bool waits = wait_ms && wait_ms != READ_WAIT_FOREVER;
    if (!r || (waits && !heap_push(&s->waits, &r->wait, e->now.mono.ms + wait_ms))) {
        if (r) {
            read_free(s, r);
        }
        return false;
    }
    r->token = c->token;
    r->queue = q;
    r->filter = filter;
    r->over = !wait_ms;
    r->max_messages = (uint16_t)(!max ? 1 : max > MESSAGES_MAX ? MESSAGES_MAX : max);
    r->max_bytes = c->u.read.max_bytes ? c->u.read.max_bytes : BYTES_DEFAULT;
    set_start(e, c, r);
    LIST_INSERT_HEAD(bucket_of(s, r->token.conn), r, of_conn);
    s->count++;
    q->read_count++;
    place(s, r, wait_ms && r->at == q->visible + 1 ? IS_WAITING : IS_DUE);
    return true;
}

void read_queue(struct engine *e, const struct command *c)
{
    broker_error error = BROKER_OK;
    const char *text;
    struct queue *q = queue_of(e, c);
    if (!q || !c->token.conn) {
        return;
    }
    struct filter *filter = filter_new(&c->u.read.filter, &error, &text);
    if (error) {
        engine_fail(e, c, error, error == BROKER_NO_MEMORY ? RETRY_MS : 0, "%s", text);
        return;
    }
    queue_used(e, q);
    if (!read_add(e, q, c, filter)) {
        filter_free(filter);
        engine_append_failed(e, c, BROKER_NO_MEMORY);
    }
}
