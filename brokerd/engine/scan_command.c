/* COMMAND_SCAN: is it one that can be done? Then it becomes a scan, which scan.c works on turn by turn. */
#include <stdlib.h>
#include <string.h>

#include "scan.h"

enum {
    SCANS_MAX = 64, /* under way at once, per engine */
    SCANS_RETRY_MS = 100,
    SCAN_LIMIT_MAX = 1000000, /* of max_messages and max_scanned, and their default */
    PEEK_BYTES_DEFAULT = 1 << 20
};

static bool target_is_valid(struct engine *e, const struct command *c, const struct queue *q)
{
    struct name target = c->u.scan.target;
    if (c->u.scan.action != SCAN_MOVE && (c->u.scan.action != SCAN_REDRIVE || !target.len)) {
        return true;
    }
    int shown = target.len > NAME_MAX_BYTES ? (int)NAME_MAX_BYTES : (int)target.len;
    const struct queue *to = target.len ? queue_find(e, target) : NULL;
    if (!target.len) {
        engine_fail(e, c, BROKER_INVALID_ARGUMENT, 0, "moving messages of queue '%s' needs a target: name a queue",
                    q->name);
    } else if (!to) {
        engine_fail(e, c, BROKER_QUEUE_NOT_FOUND, 0, "there is no queue '%.*s' to move messages to: create it first",
                    shown, target.bytes);
    } else if (to == q) {
        engine_fail(e, c, BROKER_INVALID_ARGUMENT, 0, "the target '%s' is the queue itself: name another one", q->name);
    }
    return to && to != q;
}

static bool is_valid(struct engine *e, const struct command *c, const struct queue *q)
{
    unsigned action = c->u.scan.action, state = c->u.scan.state;
    unsigned long long from = c->u.scan.from_seq, to = c->u.scan.to_seq, from_ms = c->u.scan.from_ms,
                       to_ms = c->u.scan.to_ms;
    uint32_t count = 0;
    const struct scan *s;
    TAILQ_FOREACH(s, &e->scans, link)
    {
        count++;
    }
    if (action > SCAN_REDRIVE || state > BROKER_SCAN_AVAILABLE) {
        engine_fail(e, c, BROKER_INVALID_ARGUMENT, 0,
                    "action %u with state %u: actions are 0 to %d, states any (0), scheduled (1), available (2)",
                    action, state, (int)SCAN_REDRIVE);
    } else if (to && from > to) {
        engine_fail(e, c, BROKER_INVALID_ARGUMENT, 0, "the range begins at seq %llu, after its end %llu", from, to);
    } else if (to_ms && from_ms > to_ms) {
        engine_fail(e, c, BROKER_INVALID_ARGUMENT, 0, "the range begins at time %llu, after its end %llu", from_ms,
                    to_ms);
    } else if (count >= SCANS_MAX) {
        engine_fail(e, c, BROKER_LIMIT_REACHED, SCANS_RETRY_MS,
                    "%d scans of queues are under way, the most that go on at once: try again", SCANS_MAX);
    } else {
        return target_is_valid(e, c, q);
    }
    return false;
}

static uint32_t limit(uint32_t given)
{
    return given && given < SCAN_LIMIT_MAX ? given : SCAN_LIMIT_MAX;
}

/* Where the range begins and ends: fixed now, so that a scan ends though the queue goes on. */
static void set_range(struct engine *e, const struct command *c, struct scan *s)
{
    const struct queue *q = s->queue;
    uint64_t messages, bytes, oldest;
    e->ops->usage(e->store, q->id, &messages, &bytes, &oldest);
    s->end = c->u.scan.to_seq && c->u.scan.to_seq < q->visible ? c->u.scan.to_seq : q->visible;
    s->at = oldest ? oldest : s->end + 1;
    s->at = c->u.scan.from_seq > s->at ? c->u.scan.from_seq : s->at;
    if (s->from_ms) {
        uint64_t from = e->ops->seq_at_time(e->store, q->id, s->from_ms);
        s->at = from > s->at ? from : s->at;
    }
    s->at = s->at > s->end ? s->end + 1 : s->at;
}

void scan(struct engine *e, const struct command *c)
{
    broker_error error = BROKER_OK;
    const char *text;
    struct queue *q = queue_of(e, c);
    if (!q || !is_valid(e, c, q)) {
        return;
    }
    bool moves = c->u.scan.action == SCAN_MOVE || c->u.scan.action == SCAN_REDRIVE;
    size_t target_len = moves ? c->u.scan.target.len : 0;
    struct filter *filter = filter_new(&c->u.scan.filter, &error, &text);
    if (error) {
        engine_fail(e, c, error, error == BROKER_NO_MEMORY ? SCANS_RETRY_MS : 0, "%s", text);
        return;
    }
    struct scan *s = calloc(1, sizeof *s + target_len + 1);
    if (!s) {
        filter_free(filter);
        engine_append_failed(e, c, BROKER_NO_MEMORY);
        return;
    }
    s->token = c->token;
    s->queue = q;
    s->action = c->u.scan.action;
    s->state = c->u.scan.state;
    s->from_ms = c->u.scan.from_ms;
    s->to_ms = c->u.scan.to_ms;
    s->filter = filter;
    s->max_messages = limit(c->u.scan.max_messages);
    s->max_scanned = limit(c->u.scan.max_scanned);
    s->max_bytes = c->u.scan.max_bytes ? c->u.scan.max_bytes : PEEK_BYTES_DEFAULT;
    s->target_len = target_len;
    if (target_len) {
        memcpy(s->target, c->u.scan.target.bytes, target_len);
    }
    set_range(e, c, s);
    TAILQ_INSERT_TAIL(&e->scans, s, link);
}
