/* Ranges of a queue walked in steps, one request each: peek, count, delete, move, redrive; and rescheduling. */
#include "client_internal.h"

enum {
    STEP_SCANNED_MAX = 200000,   /* messages looked at in one request: so that each is answered soon */
    STEP_MATCHED_MAX = 1000000,  /* the broker's limit */
    PEEK_MESSAGES_MAX = 1000,    /* in one answer */
    PEEK_BYTES_MAX = 1 << 20,    /* the same */
    PEEK_MESSAGES_DEFAULT = 100, /* in all, if the program does not say */
    RETRY_FIRST_MS = 10,
};

static const char *const action_words[] = {
    [BROKER_SCAN_COUNT] = "count",
    [BROKER_SCAN_DELETE] = "delete",
    [BROKER_SCAN_MOVE] = "move",
    [BROKER_SCAN_REDRIVE] = "redrive",
};
static const char *const state_words[] = {
    [BROKER_SCAN_ANY] = "any",
    [BROKER_SCAN_SCHEDULED] = "scheduled",
    [BROKER_SCAN_AVAILABLE] = "available",
};

/* A walk under way; its steps begin at o.from_seq and take from o.max_messages and o.max_scanned. */
struct scan {
    struct call call;
    const char *queue;
    size_t queue_len;
    const char *action; /* NULL: peek */
    broker_scan_options o;
    broker_scan_result result;                      /* of all steps so far */
    uint64_t step_matched, step_skipped, step_next; /* of this one */
    bool (*fn)(void *arg, const broker_msg *m);     /* peek */
    void *arg;
    bool stopped;
};

static broker_error check_options(broker *b, const broker_scan_options *given, struct scan *s)
{
    broker_scan_options *o = &s->o;

    if (!copy_options(o, sizeof(*o), given, offsetof(broker_scan_options, state)))
        return set_error(b, BROKER_INVALID_ARGUMENT, "scan options: use BROKER_OPTIONS_INIT(broker_scan_options)");
    if ((unsigned)o->state > BROKER_SCAN_AVAILABLE)
        return set_error(b, BROKER_INVALID_ARGUMENT, "scan options: state is %d; give a broker_scan_state",
                         (int)o->state);
    if ((o->to_seq != 0 && o->from_seq > o->to_seq) || (o->to_ms != 0 && o->from_ms > o->to_ms))
        return set_error(b, BROKER_INVALID_ARGUMENT,
                         "scan options: from seq %llu to %llu, from %llu to %llu ms: the end is before the beginning",
                         (unsigned long long)o->from_seq, (unsigned long long)o->to_seq, (unsigned long long)o->from_ms,
                         (unsigned long long)o->to_ms);
    broker_error error = filter_check(b, &o->filter);
    if (error == BROKER_OK)
        error = check_name(b, "queue", s->queue, &s->queue_len);
    /* 0 means no limit: from here on the numbers are what is left. */
    if (o->max_messages == 0)
        o->max_messages = UINT64_MAX;
    if (o->max_scanned == 0)
        o->max_scanned = UINT64_MAX;
    return error;
}

static uint64_t at_most(uint64_t value, uint64_t limit)
{
    return value < limit ? value : limit;
}

static uint64_t step_scanned(const struct scan *s)
{
    return at_most(s->o.max_scanned, STEP_SCANNED_MAX);
}

static void pack_step(broker *b, const struct scan *s)
{
    const broker_scan_options *o = &s->o;
    bool filter = !filter_is_empty(&o->filter), target = s->action && o->target;
    msgpack_packer pk;

    scratch_pack(b, &pk);
    msgpack_pack_map(&pk, 9u + filter + target);
    pack_key_str(&pk, "queue", s->queue, s->queue_len);
    if (s->action)
        pack_key_str(&pk, "action", s->action, strlen(s->action));
    else
        pack_key_u64(&pk, "max_bytes", PEEK_BYTES_MAX);
    pack_key_str(&pk, "state", state_words[o->state], strlen(state_words[o->state]));
    pack_key_u64(&pk, "from_seq", o->from_seq);
    pack_key_u64(&pk, "to_seq", o->to_seq);
    pack_key_u64(&pk, "from_ms", o->from_ms);
    pack_key_u64(&pk, "to_ms", o->to_ms);
    pack_key_u64(&pk, "max_messages", at_most(o->max_messages, s->action ? STEP_MATCHED_MAX : PEEK_MESSAGES_MAX));
    pack_key_u64(&pk, "max_scanned", step_scanned(s));
    if (filter)
        filter_pack(&pk, &o->filter);
    if (target)
        pack_key_str(&pk, "target", o->target, strlen(o->target));
}

/* What a step has done counts, and the next one goes on behind it. True: there is a next one. */
static bool take_step(struct scan *s)
{
    uint64_t from = s->o.from_seq ? s->o.from_seq : 1;
    uint64_t asked = step_scanned(s);

    s->result.matched += s->step_matched;
    s->result.skipped += s->step_skipped;
    s->result.next_seq = s->step_next;
    if (s->step_next == 0)
        return false;
    s->o.max_messages -= at_most(s->step_matched, s->o.max_messages);
    s->o.max_scanned -= at_most(s->step_next - from, asked);
    s->o.from_seq = s->step_next;
    return !s->stopped && s->o.max_messages > 0 && s->o.max_scanned > 0;
}

/* One request. A busy broker gets the time it asks for; nothing of a refused step has happened. */
static broker_error do_step(broker *b, struct scan *s, uint8_t type)
{
    uint64_t deadline = client_now_ms() + b->options.timeout_ms, wait_ms = RETRY_FIRST_MS;
    broker_error (*on_answer)(broker *, struct call *, const uint8_t *, size_t) = s->call.on_answer;

    for (;;) {
        s->call = (struct call){.on_answer = on_answer};
        s->step_matched = s->step_skipped = s->step_next = 0;
        pack_step(b, s);
        broker_error error = call_scratch(b, &s->call, type);
        uint64_t until = client_now_ms() + (b->error_retry_ms ? b->error_retry_ms : wait_ms);
        if (error == BROKER_OK && s->step_next != 0 && s->step_next <= s->o.from_seq)
            return set_error(b, BROKER_MALFORMED, "the broker's answer to %s goes on at seq %llu, after %llu",
                             frame_type_name(type), (unsigned long long)s->step_next,
                             (unsigned long long)s->o.from_seq);
        if (error != BROKER_OVERLOADED || until >= deadline)
            return error;
        client_pause(b, until);
        wait_ms *= 2;
    }
}

/* ---- peek ------------------------------------------------------------------------------------------------------------------ */

/* The seqs and records behind the head, as the batch of a delivery without receipts. */
static broker_error peek_open(broker *b, struct batch *batch, const uint8_t *body, size_t len)
{
    size_t rest = len - PEEK_HEAD_BYTES;
    uint32_t count = len >= PEEK_HEAD_BYTES ? get_u32(body) : 0;

    if (len < PEEK_HEAD_BYTES || count > rest / (8 + RECORD_HEAD_BYTES))
        return set_error(b, BROKER_MALFORMED, "the broker's answer to PEEK: %u messages in %zu bytes", count, len);
    *batch = (struct batch){
        .p = body + PEEK_HEAD_BYTES + 8ull * count,
        .end = body + len,
        .seqs = body + PEEK_HEAD_BYTES,
        .count = count,
    };
    return BROKER_OK;
}

static broker_error peek_answered(broker *b, struct call *c, const uint8_t *body, size_t len)
{
    struct scan *s = (struct scan *)c;
    struct batch batch;
    struct broker_msg m = {0};
    broker_error error = peek_open(b, &batch, body, len);

    if (error == BROKER_OK && get_u32(body + 4) & PEEK_MORE)
        s->step_next = get_u64(body + 8);
    while (error == BROKER_OK && batch.index < batch.count) {
        error = batch_next(b, &batch, &m);
        if (error != BROKER_OK) {
            b->final_error = BROKER_OK; /* this call fails, not the connection */
            return error;
        }
        m.attempt = 0;
        s->step_matched++;
        if (!s->fn || s->fn(s->arg, &m))
            continue;
        s->stopped = true;
        s->step_next = m.seq + 1;
        return BROKER_OK;
    }
    return error == BROKER_OK ? batch_end(b, &batch) : error;
}

broker_error broker_peek(broker *b, const char *queue, const broker_scan_options *options,
                         bool (*fn)(void *arg, const broker_msg *m), void *arg, broker_scan_result *result)
{
    struct scan s = {.call.on_answer = peek_answered, .queue = queue, .fn = fn, .arg = arg};
    broker_error error = check_options(b, options, &s);

    if (error == BROKER_OK && s.o.max_messages == UINT64_MAX)
        s.o.max_messages = PEEK_MESSAGES_DEFAULT;
    while (error == BROKER_OK) {
        error = do_step(b, &s, FRAME_PEEK);
        if (error == BROKER_OK && !take_step(&s))
            break;
    }
    if (result)
        *result = s.result;
    return error;
}

/* ---- count, delete, move, redrive --------------------------------------------------------------------------------------------- */

static broker_error scan_answered(broker *b, struct call *c, const uint8_t *body, size_t len)
{
    struct scan *s = (struct scan *)c;
    struct wire_map m;
    broker_error error = BROKER_OK;

    if (wire_map_open(&m, body, len) != BROKER_OK || !wire_map_u64(&m, "matched", 0, UINT64_MAX, &s->step_matched) ||
        !wire_map_u64(&m, "skipped", 0, UINT64_MAX, &s->step_skipped) ||
        !wire_map_u64(&m, "next_seq", 0, UINT64_MAX, &s->step_next))
        error = malformed_answer(b, "SCAN", &m);
    wire_map_close(&m);
    return error;
}

static broker_error check_target(broker *b, broker_scan_action action, const char *target)
{
    size_t len;

    if ((unsigned)action > BROKER_SCAN_REDRIVE)
        return set_error(b, BROKER_INVALID_ARGUMENT, "broker_scan: action is %d; give a broker_scan_action",
                         (int)action);
    if (target && action != BROKER_SCAN_MOVE && action != BROKER_SCAN_REDRIVE)
        return set_error(b, BROKER_INVALID_ARGUMENT, "broker_scan: %s has no target, but \"%.64s\" was given",
                         action_words[action], target);
    if (target || action == BROKER_SCAN_MOVE)
        return check_name(b, "target queue", target, &len);
    return BROKER_OK;
}

broker_error broker_scan(broker *b, const char *queue, broker_scan_action action, const broker_scan_options *options,
                         bool (*progress)(void *arg, const broker_scan_result *so_far), void *arg,
                         broker_scan_result *result)
{
    struct scan s = {.call.on_answer = scan_answered, .queue = queue};
    broker_error error = check_options(b, options, &s);

    if (error == BROKER_OK)
        error = check_target(b, action, s.o.target);
    if (error == BROKER_OK)
        s.action = action_words[action];
    while (error == BROKER_OK) {
        error = do_step(b, &s, FRAME_SCAN);
        bool more = error == BROKER_OK && take_step(&s);
        if (error != BROKER_OK || (progress && !progress(arg, &s.result)) || !more)
            break;
    }
    if (result)
        *result = s.result;
    return error;
}

/* ---- rescheduling --------------------------------------------------------------------------------------------------------------- */

static broker_error reschedule(broker *b, const char *queue, uint64_t seq, const char *key, uint64_t value)
{
    struct call c = {0};
    msgpack_packer pk;
    size_t len;
    broker_error error = check_name(b, "queue", queue, &len);

    if (error != BROKER_OK)
        return error;
    scratch_pack(b, &pk);
    msgpack_pack_map(&pk, 3);
    pack_key_str(&pk, "queue", queue, len);
    pack_key_u64(&pk, "seq", seq);
    pack_key_u64(&pk, key, value);
    return call_scratch(b, &c, FRAME_RESCHEDULE);
}

broker_error broker_reschedule(broker *b, const char *queue, uint64_t seq, uint64_t at_ms)
{
    return reschedule(b, queue, seq, "due_ms", at_ms);
}

broker_error broker_reschedule_delay(broker *b, const char *queue, uint64_t seq, uint64_t delay_ms)
{
    if (delay_ms > TIME_SPAN_MAX_MS)
        return set_error(b, BROKER_INVALID_ARGUMENT, "delay_ms is %llu; give up to %llu (100 years)",
                         (unsigned long long)delay_ms, TIME_SPAN_MAX_MS);
    return reschedule(b, queue, seq, "delay_ms", delay_ms);
}
