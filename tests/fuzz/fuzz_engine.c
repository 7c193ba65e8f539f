/*
 * The engine's start-up from bytes that lie on disk: a snapshot, then records whose head is right (their CRC was) and
 * whose body may be anything. Whatever it accepts, it must then live with: commands follow, and its own snapshot must be
 * one that it takes again.
 */
#include "engine.h"
#include "fuzz.h"
#include "memory_store.h"
#include "wire.h"

enum { STEPS_MAX = 200, BODY_MAX = 600, SEQS_MAX = 1 << 20 };

static bool huge; /* a queue claims more messages than any test wants to settle one by one */

static void complete(void *sink, const struct completion *c)
{
    for (size_t i = 0; c->type == COMMAND_QUEUE_LIST && c->error == BROKER_OK && i < c->u.list.count; i++)
        huge |= c->u.list.queues[i].last_seq > SEQS_MAX;
    CHECK(c->error == BROKER_OK || (c->text && strlen(c->text) > 0));
    if (c->type == COMMAND_LEASE && c->error == BROKER_OK) {
        for (uint32_t i = 0; i < c->u.lease.count; i++)
            *(uint64_t *)sink = c->u.lease.first_receipt + i;
    }
}

static bool deliver(void *sink, const struct delivery *d)
{
    for (uint32_t i = 0; i < d->count; i++)
        CHECK(record_intact(d->messages[i].record, d->messages[i].padded_len) && d->attempts[i] >= 1);
    if (d->first_receipt)
        *(uint64_t *)sink = d->first_receipt;
    return true;
}

static void ended(void *sink, struct token token, broker_error error, const char *text)
{
    CHECK(text && error != BROKER_OK);
}

static const struct sink_ops sink_ops = {complete, deliver, ended};

/* ---- records ------------------------------------------------------------------------------------------------------ */

static bool replay(struct engine *e, struct memory_store *store, struct input *in)
{
    struct record_head head = {.type = (uint8_t)(input_number(in, 1) % (RECORD_RESCHEDULE + 1))};
    size_t body_len, wanted = (size_t)input_number(in, 2) % BODY_MAX;
    const char *text = NULL;

    head.queue = (uint32_t)input_number(in, 1) % 8;
    head.seq = input_number(in, 1);
    head.time_ms = input_number(in, 2);
    if (head.type == RECORD_MESSAGE && input_number(in, 1) % 2) {
        head.flags = RECORD_ID_PRODUCER;
        head.id_len = 16;
        wanted = wanted < 16 ? 16 : wanted;
        wanted = in->len < wanted ? 0 : wanted;
        if (wanted == 0)
            return true;
    }
    uint8_t *body = input_copy(in, wanted, &body_len);
    head.length = RECORD_HEAD_BYTES + (uint32_t)body_len;
    uint8_t *record = calloc(1, pad8(head.length));
    if (!record)
        abort();
    record_head_put(record, &head);
    memcpy(record + RECORD_HEAD_BYTES, body, body_len);
    record_seal(record);
    broker_error r = engine_replay(e, record, &text);
    CHECK(r == BROKER_OK || r == BROKER_NO_MEMORY || (r == BROKER_MALFORMED && text));
    if (r == BROKER_OK && head.type == RECORD_MESSAGE) { /* the store indexes it as well */
        uint64_t index;
        memory_store_ops.append(store, record, head.length, DURABILITY_SYNCED, &index);
    }
    free(body);
    free(record);
    return r == BROKER_OK;
}

/* ---- commands ------------------------------------------------------------------------------------------------------ */

static const char *const names[] = {"a", "b", "q", "default"};

static const char *const topics[] = {"a.b", "a.c", "b", "a.*", ">", "*.b"};

/* One record of what a publisher may say; by topic if the command names no queue. */
static uint8_t *some_record(const struct command *c, struct input *in, size_t *len)
{
    struct record_spec spec = {.producer = input_number(in, 1) % 3, .number = input_number(in, 1)};
    uint8_t how = (uint8_t)input_number(in, 1), times = (uint8_t)input_number(in, 1);
    uint8_t *body = input_copy(in, 20, &spec.body_len);

    spec.body = body;
    spec.priority = how % 10;
    spec.due_is_delay = spec.expire_is_ttl = true;
    spec.due_ms = how & 16 ? times : 0;
    spec.expire_ms = how & 32 ? times : 0;
    spec.key = "key";
    spec.key_len = how & 64 ? 1 + times % 3u : 0;
    spec.id = "id-";
    spec.id_len = how & 128 ? 1 + times % 3u : 0;
    spec.by_topic = c->queue.len == 0;
    spec.topic = topics[times % 3];
    spec.topic_len = spec.by_topic || times & 4 ? strlen(topics[times % 3]) : 0;
    *len = record_spec_bytes(&spec);
    uint8_t *record = malloc(*len);
    if (!record)
        abort();
    record_spec_put(record, &spec);
    free(body);
    return record;
}

static void publish(struct engine *e, struct now now, struct command *c, struct input *in)
{
    size_t bytes;
    uint8_t *record = some_record(c, in, &bytes);

    c->u.publish.records = record;
    c->u.publish.len = bytes;
    engine_submit(e, now, c);
    free(record);
}

static void transact(struct engine *e, struct now now, struct command *c, struct receipt_range *range, struct input *in)
{
    struct command where = {.queue = c->queue};
    struct transact_part parts[3] = {{.kind = PART_PUBLISH, .queue = {names[0], 1}},
                                     {.kind = PART_PUBLISH, .queue = c->queue},
                                     {.kind = PART_ACK, .ranges = range, .count = 1}};
    parts[1].records = some_record(&where, in, &parts[1].len);
    where.queue = parts[0].queue;
    parts[0].records = some_record(&where, in, &parts[0].len);
    c->u.transact.parts = parts;
    c->u.transact.count = 2 + range->count % 2;
    c->u.transact.unroutable_ok = range->count & 2;
    engine_submit(e, now, c);
    free(parts[0].records);
    free(parts[1].records);
}

static void some_settings(broker_queue_settings *s, uint8_t what, uint8_t number, struct input *in)
{
    s->set = (uint32_t)input_number(in, 3) & BROKER_SET_ALL;
    s->retention = what & 1 ? BROKER_RETENTION_LOG : BROKER_RETENTION_WORK;
    s->sync = BROKER_SYNC_ALWAYS;
    s->lease_ms = 1 + number, s->log_max_messages = number, s->log_max_bytes = number * 64u;
    s->log_max_age_ms = s->ttl_ms = s->unused_ms = s->dedup_ms = number;
    s->max_attempts = number % 4, s->backoff = (broker_backoff)(number % 3);
    s->backoff_ms = number, s->backoff_max_ms = number * 4u, s->backoff_jitter_percent = number % 101;
    s->dead_letter = what & 16 ? "b" : NULL;
    s->dedup_count = 1 + number % 8u, s->max_messages = number % 16, s->max_bytes = number * 32u;
    s->dead_letter_expired = what & 32, s->overflow = (broker_overflow)(what >> 6 & 1);
    s->ordered_keys = what & 2, s->fair_keys = what & 4, s->compact = what & 128;
}

static void scan(struct command *c, uint8_t what, uint8_t number)
{
    c->u.scan.action = (enum scan_action)(number % 5);
    c->u.scan.state = (broker_scan_state)(what % 3);
    c->u.scan.from_seq = what & 16 ? number : 0;
    c->u.scan.filter.topic = what & 32 ? topics[number % 6] : NULL;
    c->u.scan.filter.key = what & 64 ? "k" : NULL;
    if (c->u.scan.action == SCAN_MOVE || (c->u.scan.action == SCAN_REDRIVE && what & 128))
        c->u.scan.target = (struct name){names[number % 3], 1};
    c->u.scan.max_messages = 1 + number;
    c->u.scan.max_scanned = what & 8 ? 3 : 0;
    c->u.scan.max_bytes = 1 << 16;
}

static void submit(struct engine *e, struct now now, struct input *in, uint64_t receipt)
{
    struct command c = {.type = (enum command_type)(input_number(in, 1) % COMMAND_TYPES)};
    uint8_t what = (uint8_t)input_number(in, 1), number = (uint8_t)input_number(in, 1);
    struct receipt_range range = {receipt - number % 4, 1 + what % 5u};
    broker_queue_settings settings = BROKER_OPTIONS_INIT(broker_queue_settings);
    broker_group_settings group = BROKER_OPTIONS_INIT(broker_group_settings);

    c.token = (struct token){1 + what % 2, 1 + number, 1 + what % 3};
    c.queue = (struct name){names[what % 3], 1};
    c.group = what & 4 ? (struct name){names[what % 4], strlen(names[what % 4])} : (struct name){NULL, 0};
    switch (c.type) {
    case COMMAND_PUBLISH:
        c.queue.len = what & 128 ? 0 : 1;
        publish(e, now, &c, in);
        return;
    case COMMAND_TRANSACT:
        c.queue.len = what & 128 ? 0 : 1;
        transact(e, now, &c, &range, in);
        return;
    case COMMAND_SCAN: scan(&c, what, number); break;
    case COMMAND_RESCHEDULE:
        c.u.reschedule.seq = number % 16, c.u.reschedule.due_ms = what, c.u.reschedule.is_delay = true;
        break;
    case COMMAND_BIND:
    case COMMAND_UNBIND: c.u.bind.pattern = (struct name){topics[number % 6], strlen(topics[number % 6])}; break;
    case COMMAND_SUBSCRIBE:
        c.u.subscribe.settle_on_send = what & 8;
        c.u.subscribe.priority = number % 10;
        c.u.subscribe.max_unsettled = what & 16 ? 2 : 0;
        break;
    case COMMAND_CREDIT: c.u.credit.messages = number, c.u.credit.bytes = (uint64_t)number << (what % 32); break;
    case COMMAND_LEASE:
        c.u.lease.max_messages = 1 + number;
        c.u.lease.max_bytes = 1u << (what % 24);
        c.u.lease.wait_ms = what & 8 ? 50 : 0;
        break;
    case COMMAND_ACK:
    case COMMAND_NACK:
    case COMMAND_EXTEND:
        c.u.settle.ranges = &range, c.u.settle.count = 1;
        c.u.settle.delay_ms = number, c.u.settle.lease_ms = 1 + number;
        c.u.settle.dead_letter = c.type == COMMAND_NACK && what & 128;
        break;
    case COMMAND_QUEUE_CREATE:
    case COMMAND_QUEUE_ALTER:
        some_settings(&settings, what, number, in);
        c.u.queue.settings = what & 8 ? NULL : &settings;
        break;
    case COMMAND_QUEUE_LIST: c.u.list.limit = 1 + number; break;
    case COMMAND_GROUP_ALTER:
    case COMMAND_GROUP_CREATE:
    case COMMAND_GROUP_SEEK:
        group.set = what >> 4 & 3;
        group.single_active = what & 64;
        group.filter.topic = what & 128 ? topics[number % 6] : NULL;
        c.u.group.settings = &group;
        c.group = (struct name){names[number % 4], strlen(names[number % 4])};
        c.u.group.start = (broker_start)(what % 4), c.u.group.value = number;
        break;
    case COMMAND_GROUP_DELETE: c.group = (struct name){names[number % 4], strlen(names[number % 4])}; break;
    default: break;
    }
    engine_submit(e, now, &c);
}

static void live(struct engine *e, struct now now, struct memory_store *store, struct input *in, uint64_t *receipt)
{
    engine_recovered(e, now, 5);
    for (int i = 0; i < STEPS_MAX && in->len > 0; i++) {
        uint64_t step = input_number(in, 1);
        now.mono.ms += step >> 4;
        now.wall.ms += step >> 4;
        if (step % 4 == 0) {
            uint64_t index = memory_store_commit(store);
            engine_committed(e, now, index, index);
        } else {
            submit(e, now, in, *receipt);
        }
        monotime next = engine_tick(e, now);
        CHECK(next.ms > now.mono.ms || next.ms == MONOTIME_NEVER.ms || next.ms >= now.mono.ms);
    }
}

/* A new engine takes these bytes and says what it took. */
static void take_and_save(const struct buf *snapshot, struct buf *again)
{
    struct memory_store store;
    const char *text = NULL;
    uint64_t receipt = 0;

    memory_store_init(&store);
    struct engine *e = engine_new(&(struct engine_options){0}, &memory_store_ops, &store, &sink_ops, &receipt);
    if (!e)
        abort();
    if (engine_restore(e, snapshot->bytes, snapshot->len, &text) != BROKER_OK) {
        fprintf(stderr, "its own snapshot is refused: %s\n", text);
        abort();
    }
    CHECK(engine_snapshot(e, again));
    engine_free(e);
    memory_store_release(&store);
}

/* What it says of itself it must take back. The first time it may tidy up; after that it must say the same for ever. */
static void check_snapshot(const struct engine *e)
{
    struct buf said[3];

    for (int i = 0; i < 3; i++)
        buf_init(&said[i], 0);
    CHECK(engine_snapshot(e, &said[0]));
    take_and_save(&said[0], &said[1]);
    take_and_save(&said[1], &said[2]);
    CHECK(said[1].len == said[2].len);
    for (int i = 0; i < 3; i++)
        buf_release(&said[i]);
}

static bool is_huge(struct engine *e, struct now now)
{
    struct command c = {.type = COMMAND_QUEUE_LIST, .token = {1, 1, 0}, .u.list.limit = 1000};

    huge = false;
    engine_submit(e, now, &c);
    return huge;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    static struct memory_store store;
    struct input in = {bytes, len};
    struct now now = {{1000}, {1700000000000}};
    const char *text = NULL;
    uint64_t receipt = 0;
    bool good = true;

    memory_store_init(&store);
    struct engine *e =
        engine_new(&(struct engine_options){.max_producers = 8, .max_queues = 16, .max_schedule_entries = 4},
                   &memory_store_ops, &store, &sink_ops, &receipt);
    if (!e)
        abort();
    size_t snapshot_len = (size_t)input_number(&in, 2);
    if (snapshot_len > 0) {
        uint8_t *snapshot = input_copy(&in, snapshot_len, &snapshot_len);
        broker_error r = engine_restore(e, snapshot, snapshot_len, &text);
        CHECK(r == BROKER_OK || r == BROKER_NO_MEMORY || (r == BROKER_MALFORMED && text));
        good = r == BROKER_OK && !is_huge(e, now);
        free(snapshot);
    }
    int records = (int)input_number(&in, 1);
    for (int i = 0; good && i < records && in.len > 0; i++)
        good = replay(e, &store, &in);
    if (good) {
        check_snapshot(e);
        live(e, now, &store, &in, &receipt);
        check_snapshot(e);
    }
    engine_free(e);
    memory_store_release(&store);
    return 0;
}
