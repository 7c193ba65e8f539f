#include "door.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire.h"

enum {
    LEASE_MS_MAX = 86400000,
    WAIT_MS_MAX = 3600000,
    LEASE_MESSAGES_MAX = 1024,
    RANGE_COUNT_MAX = 1 << 20,
    PRIORITY_MAX = 9,
    FILTER_HEADERS_MAX = 32,
    FILTER_KEY_MAX_BYTES = 65535,
    FILTER_MAX_BYTES = 65536,
    TRANSACT_PARTS_MAX = 1024,
    SCAN_MESSAGES_MAX = 1000000,
    PEEK_MESSAGES_MAX = 1024,
    READ_MESSAGES_MAX = 1024,
    SHUTDOWN_RETRY_MS = 1000,
    LIMIT_RETRY_MS = 1000,
};

#define YEARS_100_MS (100ull * 366 * 86400000)

const struct identity identity_anyone = {"anyone", PERMISSION_ALL};

struct door {
    struct door_options options;
    struct engine *engine;
    const struct sink_ops *sink_ops;
    void *sink;
    bool draining;
};

/* One command on its way through; `c` is a copy that a check may complete. */
struct visit {
    const struct door *door;
    struct door_session *session;
    struct command c;
    broker_error error;
    uint32_t retry_ms;
    char text[256];
};

__attribute__((format(printf, 3, 4))) static bool refuse(struct visit *v, broker_error error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(v->text, sizeof(v->text), format, args);
    va_end(args);
    v->error = error;
    return false;
}

static bool in_range(struct visit *v, const char *what, uint64_t value, uint64_t min, uint64_t max)
{
    if (value >= min && value <= max)
        return true;
    return refuse(v, BROKER_INVALID_ARGUMENT, "%s is %" PRIu64 "; give %" PRIu64 " to %" PRIu64, what, value, min, max);
}

/* A name from a peer may be anything: shown shortened and harmless. */
static const char *printable(struct name name, char out[72])
{
    size_t n = name.len < 64 ? name.len : 64;
    for (size_t i = 0; i < n; i++)
        out[i] = name.bytes[i] >= 0x20 && name.bytes[i] < 0x7f ? name.bytes[i] : '?';
    memcpy(out + n, name.len > 64 ? "..." : "", name.len > 64 ? 4 : 1);
    return out;
}

static bool check_name(struct visit *v, const char *what, struct name name)
{
    char shown[72];
    if (name_is_valid(name.bytes, name.len))
        return true;
    if (name.len == 0)
        return refuse(v, BROKER_INVALID_ARGUMENT, "the %s has no name; give 1..255 of A-Z a-z 0-9 . _ -", what);
    if (name.len > NAME_MAX_BYTES)
        return refuse(v, BROKER_INVALID_ARGUMENT, "%s name '%s' has %zu bytes; at most %u are allowed", what,
                      printable(name, shown), name.len, NAME_MAX_BYTES);
    return refuse(v, BROKER_INVALID_ARGUMENT,
                  "%s name '%s' is not valid; give A-Z a-z 0-9 . _ - and no '.' at the start", what,
                  printable(name, shown));
}

/* What is said of a permission, and of the end, is said alike wherever it is asked for. */
static broker_error permits(const struct door *d, const struct door_session *session, unsigned permission,
                            bool while_draining, char *text, size_t size, uint32_t *retry_ms)
{
    const struct identity *who = session && session->identity ? session->identity : &identity_anyone;
    if (d->draining && !while_draining) {
        *retry_ms = SHUTDOWN_RETRY_MS;
        snprintf(text, size, "the broker is shutting down; connect again later");
        return BROKER_SHUTTING_DOWN;
    }
    if ((who->permissions & permission) == permission)
        return BROKER_OK;
    snprintf(text, size, "'%.64s' is not permitted to do this; ask for the permission", who->name);
    return BROKER_FORBIDDEN;
}

static bool may(struct visit *v, unsigned permission)
{
    v->error = permits(v->door, v->session, permission, true, v->text, sizeof(v->text), &v->retry_ms);
    return v->error == BROKER_OK;
}

/* ---- checks of single commands -------------------------------------------------------------------------------------- */

static bool check_publish(struct visit *v)
{
    if (v->c.queue.len > 0 && !check_name(v, "queue", v->c.queue)) /* no name: by topic */
        return false;
    if (v->c.u.publish.len == 0)
        return refuse(v, BROKER_INVALID_ARGUMENT, "a publish of no messages; give at least one");
    return in_range(v, "sync", v->c.u.publish.sync, BROKER_SYNC_DEFAULT, BROKER_SYNC_NONE);
}

static bool check_stream(struct visit *v)
{
    if (v->c.token.stream == 0)
        return refuse(v, BROKER_INVALID_ARGUMENT, "subscription id is 0; give another number");
    return true;
}

static bool check_subscribe(struct visit *v)
{
    uint32_t max = v->door->options.max_subscriptions;
    if (!check_stream(v) || !in_range(v, "lease_ms", v->c.u.subscribe.lease_ms, 0, LEASE_MS_MAX) ||
        !in_range(v, "priority", v->c.u.subscribe.priority, 0, PRIORITY_MAX))
        return false;
    if (max && v->session->subscriptions > max) {
        v->retry_ms = LIMIT_RETRY_MS;
        return refuse(
            v, BROKER_LIMIT_REACHED,
            "this connection has %u subscriptions, as many as limits.subscriptions allows; end one or use another "
            "connection",
            max);
    }
    return true;
}

/* Leases and reads wait alike, and are counted together. */
static bool may_wait(struct visit *v)
{
    uint32_t max = v->door->options.max_waiting_leases;
    if (!max || v->session->waiting_leases <= max)
        return true;
    v->retry_ms = LIMIT_RETRY_MS;
    return refuse(v, BROKER_LIMIT_REACHED,
                  "%u lease or read requests of this connection are waiting, as many as limits.waiting_leases allows; "
                  "wait for an answer",
                  max);
}

static void limit_bytes(struct visit *v, uint32_t *max_bytes)
{
    uint32_t max = v->door->options.max_batch_bytes;
    if (max && (*max_bytes == 0 || *max_bytes > max))
        *max_bytes = max;
}

static bool check_lease(struct visit *v)
{
    if (!in_range(v, "max", v->c.u.lease.max_messages, 1, LEASE_MESSAGES_MAX) ||
        !in_range(v, "lease_ms", v->c.u.lease.lease_ms, 0, LEASE_MS_MAX) ||
        !in_range(v, "wait_ms", v->c.u.lease.wait_ms, 0, WAIT_MS_MAX) || !may_wait(v))
        return false;
    limit_bytes(v, &v->c.u.lease.max_bytes);
    return true;
}

static bool check_ranges(struct visit *v, const struct receipt_range *ranges, size_t count)
{
    uint32_t max = v->door->options.max_settle_ranges;
    if (count == 0)
        return refuse(v, BROKER_INVALID_ARGUMENT, "no receipts; give at least one range");
    if (max && count > max)
        return refuse(v, BROKER_TOO_LARGE, "%zu receipt ranges; give at most %u in one request", count, max);
    for (size_t i = 0; i < count; i++) {
        const struct receipt_range *r = &ranges[i];
        if (!in_range(v, "count of a receipt range", r->count, 1, RANGE_COUNT_MAX))
            return false;
        if (r->first > UINT64_MAX - r->count)
            return refuse(v, BROKER_INVALID_ARGUMENT, "receipt range of %u from %" PRIu64 " goes past the last number",
                          r->count, r->first);
    }
    return true;
}

static bool check_settle(struct visit *v)
{
    return check_ranges(v, v->c.u.settle.ranges, v->c.u.settle.count) &&
           (v->c.type != COMMAND_EXTEND || in_range(v, "lease_ms", v->c.u.settle.lease_ms, 1, LEASE_MS_MAX));
}

static bool check_settings(struct visit *v)
{
    const broker_queue_settings *s = v->c.u.queue.settings;
    uint32_t max = v->door->options.max_message_bytes;
    if (!s)
        return true;
    if ((s->set & BROKER_SET_RETENTION) &&
        !in_range(v, "retention", s->retention, BROKER_RETENTION_WORK, BROKER_RETENTION_LOG))
        return false;
    if ((s->set & BROKER_SET_SYNC) && !in_range(v, "sync", s->sync, BROKER_SYNC_ALWAYS, BROKER_SYNC_NONE))
        return false;
    if ((s->set & BROKER_SET_LEASE_MS) && !in_range(v, "lease_ms", s->lease_ms, 1, LEASE_MS_MAX))
        return false;
    if ((s->set & BROKER_SET_MAX_MESSAGE_BYTES) && s->max_message_bytes != 0 &&
        !in_range(v, "max_message_bytes", s->max_message_bytes, RECORD_HEAD_BYTES, max ? max : RECORD_MAX_BYTES))
        return false;
    if ((s->set & BROKER_SET_BACKOFF) &&
        (!in_range(v, "backoff", s->backoff, BROKER_BACKOFF_NONE, BROKER_BACKOFF_EXPONENTIAL) ||
         !in_range(v, "backoff_ms", s->backoff_ms, 0, LEASE_MS_MAX) ||
         !in_range(v, "backoff_max_ms", s->backoff_max_ms, 0, LEASE_MS_MAX) ||
         !in_range(v, "backoff_jitter_percent", s->backoff_jitter_percent, 0, 100)))
        return false;
    if ((s->set & BROKER_SET_OVERFLOW) &&
        !in_range(v, "overflow", s->overflow, BROKER_OVERFLOW_REJECT, BROKER_OVERFLOW_DROP_OLDEST))
        return false;
    if ((s->set & BROKER_SET_DEAD_LETTER) && s->dead_letter && *s->dead_letter)
        return check_name(v, "dead_letter queue", (struct name){s->dead_letter, strlen(s->dead_letter)});
    return true;
}

static bool check_pattern(struct visit *v, const char *what, struct name pattern)
{
    char shown[72];
    if (topic_pattern_is_valid(pattern.bytes, pattern.len))
        return true;
    return refuse(
        v, BROKER_INVALID_ARGUMENT,
        "%s '%s' (%zu bytes) is no pattern of topics; give 1..%u bytes, up to %u tokens of A-Z a-z 0-9 _ - with "
        "single dots between, '*' for any one, '>' at the end for the rest",
        what, printable(pattern, shown), pattern.len, TOPIC_MAX_BYTES, TOPIC_MAX_TOKENS);
}

static bool check_filter(struct visit *v, const broker_filter *f)
{
    size_t bytes = 0;
    if (f->topic && !check_pattern(v, "the filter's topic", (struct name){f->topic, strlen(f->topic)}))
        return false;
    if (f->key && !in_range(v, "the length of the filter's key", strlen(f->key), 0, FILTER_KEY_MAX_BYTES))
        return false;
    if (!in_range(v, "the number of the filter's headers", f->header_count, 0, FILTER_HEADERS_MAX))
        return false;
    bytes += f->key ? strlen(f->key) : 0;
    for (size_t i = 0; i < f->header_count; i++)
        bytes += strlen(f->headers[i].name) + strlen(f->headers[i].value);
    return in_range(v, "bytes of the filter's key and headers", bytes, 0, FILTER_MAX_BYTES);
}

static bool check_list(struct visit *v)
{
    char shown[72];
    struct name names[] = {v->c.u.list.prefix, v->c.u.list.after};
    for (int i = 0; i < 2; i++)
        if (names[i].len > NAME_MAX_BYTES)
            return refuse(v, BROKER_INVALID_ARGUMENT, "%s '%s' has %zu bytes; at most %u are allowed",
                          i ? "after" : "prefix", printable(names[i], shown), names[i].len, NAME_MAX_BYTES);
    return in_range(v, "limit", v->c.u.list.limit, 1,
                    v->door->options.max_list ? v->door->options.max_list : UINT32_MAX);
}

static bool check_group(struct visit *v)
{
    const broker_group_settings *s = v->c.u.group.settings;
    return !s || !(s->set & BROKER_GROUP_SET_FILTER) || check_filter(v, &s->filter);
}

static bool check_bind(struct visit *v)
{
    return check_pattern(v, "binding", v->c.u.bind.pattern);
}

static bool check_start(struct visit *v)
{
    if (!in_range(v, "start", v->c.u.group.start, BROKER_START_BEGINNING, BROKER_START_TIME))
        return false;
    return v->c.u.group.start != BROKER_START_SEQ || in_range(v, "value", v->c.u.group.value, 1, UINT64_MAX);
}

static bool check_create(struct visit *v)
{
    return check_start(v) && check_group(v);
}

/* ---- what lies in queues -------------------------------------------------------------------------------------------- */

static bool check_range(struct visit *v, const char *what, uint64_t from, uint64_t to)
{
    if (to == 0 || from <= to)
        return true;
    return refuse(v, BROKER_INVALID_ARGUMENT, "the range from %s %" PRIu64 " ends before it, at %" PRIu64, what, from,
                  to);
}

static bool check_target(struct visit *v)
{
    struct name target = v->c.u.scan.target;
    bool moves = v->c.u.scan.action == SCAN_MOVE || v->c.u.scan.action == SCAN_REDRIVE;
    char shown[72];
    if (moves && (target.len > 0 || v->c.u.scan.action == SCAN_MOVE))
        return check_name(v, "target queue", target);
    if (target.len > 0)
        return refuse(v, BROKER_INVALID_ARGUMENT, "target '%s' of an action that moves nothing; leave it out",
                      printable(target, shown));
    return true;
}

static bool check_scan(struct visit *v)
{
    bool peek = v->c.u.scan.action == SCAN_PEEK;
    if (!in_range(v, "action", v->c.u.scan.action, SCAN_PEEK, SCAN_REDRIVE) ||
        !in_range(v, "state", v->c.u.scan.state, BROKER_SCAN_ANY, BROKER_SCAN_AVAILABLE) ||
        !in_range(v, "max_messages", v->c.u.scan.max_messages, 1, peek ? PEEK_MESSAGES_MAX : SCAN_MESSAGES_MAX) ||
        !in_range(v, "max_scanned", v->c.u.scan.max_scanned, 0, SCAN_MESSAGES_MAX) ||
        !check_range(v, "seq", v->c.u.scan.from_seq, v->c.u.scan.to_seq) ||
        !check_range(v, "time", v->c.u.scan.from_ms, v->c.u.scan.to_ms) || !check_target(v))
        return false;
    if (peek)
        limit_bytes(v, &v->c.u.scan.max_bytes);
    return check_filter(v, &v->c.u.scan.filter);
}

static bool check_read(struct visit *v)
{
    if (!in_range(v, "max", v->c.u.read.max_messages, 1, READ_MESSAGES_MAX) || !may_wait(v))
        return false;
    limit_bytes(v, &v->c.u.read.max_bytes);
    return check_filter(v, &v->c.u.read.filter);
}

static bool check_reschedule(struct visit *v)
{
    if (!in_range(v, "seq", v->c.u.reschedule.seq, 1, UINT64_MAX))
        return false;
    return !v->c.u.reschedule.is_delay || in_range(v, "delay_ms", v->c.u.reschedule.due_ms, 0, YEARS_100_MS);
}

/* ---- transactions --------------------------------------------------------------------------------------------------- */

/* The part that `refuse` was just told of, in front of what it was told. */
static bool refuse_part(struct visit *v, size_t part)
{
    char text[sizeof(v->text)];
    memcpy(text, v->text, sizeof(text));
    snprintf(v->text, sizeof(v->text), "part %zu of the transaction: %.200s", part, text);
    return false;
}

static bool check_part(struct visit *v, const struct transact_part *p)
{
    if (p->kind != PART_PUBLISH)
        return check_ranges(v, p->ranges, p->count);
    if (!may(v, PERMISSION_PUBLISH) || (p->queue.len > 0 && !check_name(v, "queue", p->queue)))
        return false;
    return p->len > 0 || refuse(v, BROKER_INVALID_ARGUMENT, "a publish of no messages; give at least one");
}

/* Permissions are those of the parts. */
static bool check_transact(struct visit *v)
{
    uint32_t max = v->door->options.max_transact_parts, max_ranges = v->door->options.max_settle_ranges;
    size_t ranges = 0, count = v->c.u.transact.count;
    if (max == 0 || max > TRANSACT_PARTS_MAX)
        max = TRANSACT_PARTS_MAX;
    if (count > max)
        return refuse(v, BROKER_TOO_LARGE, "a transaction of %zu parts; give at most %u", count, max);
    if (!in_range(v, "the number of a transaction's parts", count, 1, max) ||
        !in_range(v, "sync", v->c.u.transact.sync, BROKER_SYNC_DEFAULT, BROKER_SYNC_NONE))
        return false;
    for (size_t i = 0; i < count; i++) {
        const struct transact_part *p = &v->c.u.transact.parts[i];
        ranges += p->kind == PART_PUBLISH ? 0 : p->count;
        if ((p->kind != PART_PUBLISH && !may(v, PERMISSION_CONSUME)) || !check_part(v, p))
            return refuse_part(v, i);
    }
    if (max_ranges && ranges > max_ranges)
        return refuse(v, BROKER_TOO_LARGE, "%zu receipt ranges; give at most %u in one request", ranges, max_ranges);
    return true;
}

/* ---- the table ------------------------------------------------------------------------------------------------------ */

enum naming { NO_NAME, QUEUE, QUEUE_AND_GROUP }; /* an empty group means "default" */

static const struct rule {
    enum naming naming;
    unsigned permission;
    bool while_draining;
    bool (*check)(struct visit *v);
} COMMANDS[COMMAND_TYPES] = {
    [COMMAND_PUBLISH] = {NO_NAME, PERMISSION_PUBLISH, false, check_publish},
    [COMMAND_SUBSCRIBE] = {QUEUE_AND_GROUP, PERMISSION_CONSUME, false, check_subscribe},
    [COMMAND_UNSUBSCRIBE] = {NO_NAME, PERMISSION_NONE, true, check_stream},
    [COMMAND_CREDIT] = {NO_NAME, PERMISSION_NONE, true, NULL},
    [COMMAND_HOLD] = {NO_NAME, PERMISSION_NONE, true, NULL},
    [COMMAND_UNHOLD] = {NO_NAME, PERMISSION_NONE, true, NULL},
    [COMMAND_LEASE] = {QUEUE_AND_GROUP, PERMISSION_CONSUME, false, check_lease},
    [COMMAND_ACK] = {NO_NAME, PERMISSION_CONSUME, true, check_settle},
    [COMMAND_NACK] = {NO_NAME, PERMISSION_CONSUME, true, check_settle},
    [COMMAND_EXTEND] = {NO_NAME, PERMISSION_CONSUME, true, check_settle},
    [COMMAND_QUEUE_CREATE] = {QUEUE, PERMISSION_MANAGE, false, check_settings},
    [COMMAND_QUEUE_ALTER] = {QUEUE, PERMISSION_MANAGE, false, check_settings},
    [COMMAND_QUEUE_DELETE] = {QUEUE, PERMISSION_MANAGE, false, NULL},
    [COMMAND_QUEUE_PAUSE] = {QUEUE, PERMISSION_MANAGE, false, NULL},
    [COMMAND_QUEUE_RESUME] = {QUEUE, PERMISSION_MANAGE, false, NULL},
    [COMMAND_QUEUE_PURGE] = {QUEUE, PERMISSION_MANAGE, false, NULL},
    [COMMAND_QUEUE_LIST] = {NO_NAME, PERMISSION_OBSERVE, false, check_list},
    [COMMAND_QUEUE_DESCRIBE] = {QUEUE, PERMISSION_OBSERVE, false, NULL},
    [COMMAND_GROUP_CREATE] = {QUEUE_AND_GROUP, PERMISSION_MANAGE, false, check_create},
    [COMMAND_GROUP_DELETE] = {QUEUE_AND_GROUP, PERMISSION_MANAGE, false, NULL},
    [COMMAND_GROUP_SEEK] = {QUEUE_AND_GROUP, PERMISSION_MANAGE, false, check_start},
    [COMMAND_GROUP_ALTER] = {QUEUE_AND_GROUP, PERMISSION_MANAGE, false, check_group},
    [COMMAND_BIND] = {QUEUE, PERMISSION_MANAGE, false, check_bind},
    [COMMAND_UNBIND] = {QUEUE, PERMISSION_MANAGE, false, check_bind},
    [COMMAND_TRANSACT] = {NO_NAME, PERMISSION_NONE, false, check_transact}, /* permissions: its parts' */
    [COMMAND_SCAN] = {QUEUE, PERMISSION_NONE, false, check_scan},           /* scan_permission */
    [COMMAND_RESCHEDULE] = {QUEUE, PERMISSION_MANAGE, false, check_reschedule},
    [COMMAND_READ] = {QUEUE, PERMISSION_CONSUME, false, check_read},
    [COMMAND_BARRIER] = {NO_NAME, PERMISSION_NONE, true, NULL},
    [COMMAND_CLOSE] = {NO_NAME, PERMISSION_NONE, true, NULL},
};

/* Who looks at messages consumes them, in a way; who counts them does not see them. */
static unsigned scan_permission(const struct command *c)
{
    switch (c->u.scan.action) {
    case SCAN_PEEK: return PERMISSION_CONSUME;
    case SCAN_COUNT: return PERMISSION_OBSERVE;
    default: return PERMISSION_MANAGE;
    }
}

static bool admit(struct visit *v)
{
    const struct command *c = &v->c;
    if ((unsigned)c->type >= COMMAND_TYPES)
        return refuse(v, BROKER_UNKNOWN_COMMAND, "command %d is not known to this broker", (int)c->type);
    const struct rule *rule = &COMMANDS[c->type];
    unsigned permission = c->type == COMMAND_SCAN ? scan_permission(c) : rule->permission;
    v->error = permits(v->door, v->session, permission, rule->while_draining, v->text, sizeof(v->text), &v->retry_ms);
    if (v->error)
        return false;
    if (rule->naming != NO_NAME && !check_name(v, "queue", c->queue))
        return false;
    if (rule->naming == QUEUE_AND_GROUP && c->group.len > 0 && !check_name(v, "group", c->group))
        return false;
    return !rule->check || rule->check(v);
}

static bool is_answered(enum command_type type)
{
    return type != COMMAND_CREDIT && type != COMMAND_HOLD && type != COMMAND_UNHOLD && type != COMMAND_CLOSE;
}

void door_submit(struct door *d, struct door_session *session, struct now now, const struct command *c)
{
    struct visit v = {.door = d, .session = session, .c = *c};
    /* Counted before the check and, whether refused here or by the engine, taken back by door_completed. */
    if (session && c->type == COMMAND_SUBSCRIBE)
        session->subscriptions++;
    if (session && (c->type == COMMAND_LEASE || c->type == COMMAND_READ))
        session->waiting_leases++;
    if (admit(&v)) {
        engine_submit(d->engine, now, &v.c);
        return;
    }
    if (c->token.conn == 0 || !is_answered(c->type))
        return;
    struct completion done = {
        .type = c->type, .token = c->token, .error = v.error, .text = v.text, .retry_ms = v.retry_ms};
    d->sink_ops->complete(d->sink, &done);
}

broker_error door_permits(const struct door *d, const struct door_session *session, unsigned permission,
                          bool while_draining, char *text, size_t size, uint32_t *retry_ms)
{
    return permits(d, session, permission, while_draining, text, size, retry_ms);
}

void door_completed(struct door_session *session, const struct completion *c)
{
    if ((c->type == COMMAND_SUBSCRIBE && c->error) || (c->type == COMMAND_UNSUBSCRIBE && !c->error))
        door_ended(session);
    if ((c->type == COMMAND_LEASE || c->type == COMMAND_READ) && session->waiting_leases > 0)
        session->waiting_leases--;
}

void door_ended(struct door_session *session)
{
    if (session->subscriptions > 0)
        session->subscriptions--;
}

void door_drain(struct door *d)
{
    d->draining = true;
}

struct door *door_new(const struct door_options *options, struct engine *engine, const struct sink_ops *sink_ops,
                      void *sink)
{
    struct door *d = malloc(sizeof(*d));
    if (d)
        *d = (struct door){.options = *options, .engine = engine, .sink_ops = sink_ops, .sink = sink};
    return d;
}

void door_free(struct door *d)
{
    free(d);
}
