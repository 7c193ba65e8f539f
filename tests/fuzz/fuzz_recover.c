/*
 * Start-up on a damaged disk. A real store writes a small log (several segments, footers, checkpoints, a cleaned segment);
 * the input says what happens to its files: bytes changed, a file cut or removed. Then it is opened, and checked by fsck.
 *
 * With true CRCs (fuzz_recover), one changed place must never go unnoticed: either it is refused, or nothing is missing.
 * With CRCs that are always right (fuzz_recover_deep, FUZZ_NO_CRC), the parsers behind them get any bytes at all.
 */
#include "engine.h"
#include "fuzz.h"
#include "log.h"
#include "memory_disk.h"
#include "store.h"
#include "wire.h"

enum { BASES = 2, MESSAGES_MAX = 4096, SEGMENT = 64 << 10, BODY_MAX = 3000, OPS_MAX = 8, QUEUES = 2 };

#ifdef FUZZ_NO_CRC
uint32_t crc32c(uint32_t crc, const void *bytes, size_t len) /* takes the place of libwire's */
{
    return len > 0 ? 0x5ca1ab1e : crc; /* of nothing, as a true one */
}
static const bool crc_is_true = false;
#else
static const bool crc_is_true = true;
#endif

/* ---- what is there ------------------------------------------------------------------------------------------------- */

struct content { /* message `seq` of queue 1 or 2: the sum of its bytes, 0: not there */
    uint32_t sum[QUEUES + 1][MESSAGES_MAX];
    unsigned count;
};

struct base {
    struct memory_disk disk;
    uint64_t used[DISK_FILES]; /* bytes up to the last that is not zero */
    struct content content;
};
static struct base bases[BASES];

static uint32_t sum_of(const uint8_t *record) /* FNV-1a: the CRC may be a false one */
{
    uint32_t sum = 2166136261u;
    for (uint32_t i = RECORD_HEAD_BYTES; i < record_length(record); i++)
        sum = (sum ^ record[i]) * 16777619u;
    return sum ? sum : 1;
}

#ifdef FUZZ_NO_CRC
/*
 * With false CRCs a snapshot can claim that 2^60 messages were handed out, and the engine would give each of them back.
 * So restores are looked at on their way (--wrap); what the snapshot's bytes can do otherwise is fuzz_engine's part.
 */
enum { SEQS_MAX = 1 << 16 };
static bool huge;

broker_error __real_engine_restore(struct engine *e, const uint8_t *snapshot, size_t len, const char **text);
broker_error __wrap_engine_restore(struct engine *e, const uint8_t *snapshot, size_t len, const char **text);
broker_error __real_engine_replay(struct engine *e, const uint8_t *record, const char **text);
broker_error __wrap_engine_replay(struct engine *e, const uint8_t *record, const char **text);

broker_error __wrap_engine_restore(struct engine *e, const uint8_t *snapshot, size_t len, const char **text)
{
    broker_error error = __real_engine_restore(e, snapshot, len, text);
    struct command c = {.type = COMMAND_QUEUE_LIST, .token = {1, 1, 0}, .u.list.limit = 1000};

    huge = false;
    if (error == BROKER_OK)
        engine_submit(e, (struct now){{1}, {1}}, &c);
    *text = huge ? "more messages than this test is for" : *text;
    return huge ? BROKER_MALFORMED : error;
}

broker_error __wrap_engine_replay(struct engine *e, const uint8_t *record, const char **text)
{
    *text = "more messages than this test is for";
    return record_seq(record) > SEQS_MAX ? BROKER_MALFORMED : __real_engine_replay(e, record, text);
}
#endif

/* ---- one start of a broker ------------------------------------------------------------------------------------------- */

struct life {
    struct memory_disk *disk;
    struct store *store;
    struct engine *engine;
    struct now now;
    struct content *content; /* where deliveries are noted */
    uint64_t receipts[MESSAGES_MAX];
    uint64_t seqs[MESSAGES_MAX];
    unsigned delivered;
    bool failed;
    bool damage_told; /* to a consumer */
};

static void complete(void *sink, const struct completion *c)
{
    CHECK(c->error == BROKER_OK || (c->text && c->text[0]));
    ((struct life *)sink)->damage_told |= c->error == BROKER_DAMAGED;
#ifdef FUZZ_NO_CRC
    for (size_t i = 0; c->type == COMMAND_QUEUE_LIST && c->error == BROKER_OK && i < c->u.list.count; i++)
        huge |= c->u.list.queues[i].last_seq > SEQS_MAX;
#endif
}

static bool deliver(void *sink, const struct delivery *d)
{
    struct life *l = sink;

    for (uint32_t i = 0; i < d->count && l->delivered < MESSAGES_MAX; i++) {
        const uint8_t *record = d->messages[i].record;
        uint64_t seq = d->messages[i].seq;
        uint32_t queue = record_queue(record);
        CHECK(record_intact(record, d->messages[i].padded_len));
        l->receipts[l->delivered] = d->first_receipt + i;
        l->seqs[l->delivered++] = seq;
        if (l->content && queue <= QUEUES && seq < MESSAGES_MAX) {
            l->content->count += l->content->sum[queue][seq] == 0;
            l->content->sum[queue][seq] = sum_of(record);
        }
    }
    return true;
}

static void ended(void *sink, struct token token, broker_error error, const char *text)
{
    CHECK(error != BROKER_OK && text && text[0]);
    ((struct life *)sink)->damage_told |= error == BROKER_DAMAGED;
}

static const struct sink_ops sink_ops = {complete, deliver, ended};

static void fatal(void *arg, const char *text)
{
    ((struct life *)arg)->failed = true;
}

static void say_line(void *arg, bool problem, const char *text)
{
    CHECK(text && text[0]);
    *(unsigned *)arg += problem;
    if (getenv("FUZZ_VERBOSE"))
        fprintf(stderr, "%s: %s\n", problem ? "problem" : "note", text);
}

static broker_error begin(struct life *l, struct memory_disk *disk, struct content *content, unsigned *problems)
{
    static const struct store_options options = {.segment_bytes = SEGMENT,
                                                 .window_bytes = 1 << 20,
                                                 .tail_cache_bytes = 64 << 10,
                                                 .read_cache_bytes = 1 << 20,
                                                 .spare_bytes = 2 * SEGMENT,
                                                 .checkpoint_bytes = 2 * SEGMENT};
    struct store_host host = {&memory_disk_ops, disk, &memory_writer_ops, disk, &memory_worker_ops, disk, fatal, l};
    struct store_report report = {say_line, problems};

    *l = (struct life){.disk = disk, .now = {{1000}, {1700000000000}}, .content = content};
    if (store_new(&options, &host, &l->store) != BROKER_OK)
        abort();
    l->engine =
        engine_new(&(struct engine_options){.default_lease_ms = 86400000}, &store_engine_ops, l->store, &sink_ops, l);
    if (!l->engine)
        abort();
    return store_open(l->store, l->engine, l->now, &report);
}

static void turns(struct life *l, unsigned n)
{
    while (n-- > 0 && !l->failed) {
        l->now.mono.ms += 40;
        l->now.wall.ms += 40;
        engine_tick(l->engine, l->now);
        store_tick(l->store, l->now);
        store_flush(l->store, l->now);
        memory_disk_work(l->disk, l->store, l->now);
    }
}

static void finish(struct life *l, bool orderly)
{
    if (orderly && !l->failed) {
        turns(l, 4);
        store_checkpoint(l->store, l->now);
        turns(l, 4);
    }
    memory_disk_work(l->disk, l->store, l->now);
    store_flush(l->store, l->now);
    memory_disk_work(l->disk, l->store, l->now);
    engine_free(l->engine);
    store_free(l->store);
}

static void submit(struct life *l, struct command c)
{
    engine_submit(l->engine, l->now, &c);
}

static struct name queue_name(unsigned queue)
{
    return queue == 1 ? (struct name){"work", 4} : (struct name){"log", 3};
}

static void publish(struct life *l, unsigned queue, unsigned number)
{
    uint8_t body[BODY_MAX], record[BODY_MAX + 128];
    struct record_spec spec = {.body = body, .body_len = 20 + number * 7919u % (number % 8 ? 300 : BODY_MAX - 20)};

    for (size_t i = 0; i < spec.body_len; i++)
        body[i] = (uint8_t)(number + i * 31);
    if (number % 3 == 0)
        spec.producer = 7, spec.number = number + 1;
    CHECK(record_spec_bytes(&spec) <= sizeof(record));
    record_spec_put(record, &spec);
    submit(l, (struct command){.type = COMMAND_PUBLISH,
                               .token = {1, 1, 0},
                               .queue = queue_name(queue),
                               .u.publish = {record, record_spec_bytes(&spec), BROKER_SYNC_DEFAULT}});
}

static void subscribe(struct life *l)
{
    for (uint32_t queue = 1; queue <= QUEUES; queue++) {
        submit(l, (struct command){.type = COMMAND_SUBSCRIBE, .token = {1, 1, queue}, .queue = queue_name(queue)});
        submit(l, (struct command){
                      .type = COMMAND_CREDIT, .token = {1, 0, queue}, .u.credit = {MESSAGES_MAX, UINT64_MAX}});
    }
}

static void ack(struct life *l, uint64_t receipt)
{
    struct receipt_range range = {receipt, 1};
    submit(l, (struct command){.type = COMMAND_ACK, .token = {1, 1, 0}, .u.settle = {.ranges = &range, .count = 1}});
}

/* ---- the log that is damaged ------------------------------------------------------------------------------------------- */

static void write_history(struct life *l)
{
    broker_queue_settings log = BROKER_OPTIONS_INIT(broker_queue_settings);
    log.set = BROKER_SET_RETENTION;
    log.retention = BROKER_RETENTION_LOG;
    submit(l, (struct command){.type = COMMAND_QUEUE_CREATE, .token = {1, 1, 0}, .queue = queue_name(1)});
    submit(l, (struct command){
                  .type = COMMAND_QUEUE_CREATE, .token = {1, 1, 0}, .queue = queue_name(2), .u.queue.settings = &log});
    subscribe(l);
    for (unsigned i = 0, acked = 0; i < 700; i++) {
        publish(l, 1 + i % QUEUES, i);
        if (i % 5 == 0)
            turns(l, 1);
        /* Nearly all of the older ones are settled: segments die, and what is left of some is moved to a cold one. */
        for (; acked + 150 < l->delivered; acked++) {
            if (acked % 40 != 0)
                ack(l, l->receipts[acked]);
        }
    }
    turns(l, 100);
}

static void note_content(struct base *b)
{
    static struct life l;
    struct memory_disk copy;
    unsigned problems = 0;

    memory_disk_init(&copy);
    memory_disk_copy(&copy, &b->disk);
    CHECK(begin(&l, &copy, &b->content, &problems) == BROKER_OK && problems == 0);
    subscribe(&l);
    turns(&l, 60);
    finish(&l, false);
    memory_disk_release(&copy);
    CHECK(b->content.count > 100);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static struct life l;
    unsigned problems = 0;

    log_setup(LOG_LEVEL_ERROR, 0);
    for (int i = 0; i < BASES; i++) { /* 0: the process was killed; 1: an orderly stop */
        struct base *b = &bases[i];
        memory_disk_init(&b->disk);
        CHECK(begin(&l, &b->disk, NULL, &problems) == BROKER_OK && problems == 0);
        write_history(&l);
        CHECK(!l.failed && l.delivered == 700);
        finish(&l, i == 1);
        for (int f = 0; f < DISK_FILES; f++) {
            b->used[f] = b->disk.files[f].size;
            while (b->used[f] > 0 && b->disk.files[f].bytes[b->used[f] - 1] == 0)
                b->used[f]--;
        }
        note_content(b);
    }
    return 0;
}

/* ---- damage ---------------------------------------------------------------------------------------------------------- */

enum damage { DAMAGE_NONE, DAMAGE_ONE_PLACE, DAMAGE_MUCH };

static struct file *pick_file(struct memory_disk *d, struct input *in, const struct base *b, uint64_t *used)
{
    unsigned start = (unsigned)input_number(in, 1) % DISK_FILES;

    for (unsigned i = 0; i < DISK_FILES; i++) {
        unsigned f = (start + i) % DISK_FILES;
        if (d->files[f].name[0] && b->used[f] > 0) {
            *used = b->used[f];
            return &d->files[f];
        }
    }
    return NULL;
}

static enum damage change_bytes(struct file *f, uint64_t used, struct input *in)
{
    uint64_t at = input_number(in, 4) % used, n = 1 + input_number(in, 1) % 16;
    bool changed = false;

    for (uint64_t i = 0; i < n && at + i < f->size; i++) {
        uint8_t flip = (uint8_t)input_number(in, 1);
        changed |= flip != 0;
        f->bytes[at + i] ^= flip;
    }
    return !changed ? DAMAGE_NONE : n == 1 ? DAMAGE_ONE_PLACE : DAMAGE_MUCH;
}

static enum damage do_damage(struct memory_disk *d, const struct base *b, struct input *in)
{
    uint64_t used;
    unsigned what = (unsigned)input_number(in, 1) % 8;
    struct file *f = pick_file(d, in, b, &used);

    if (!f)
        return DAMAGE_NONE;
    if (what == 0) {
        memory_disk_ops.remove(d, f->name);
        return DAMAGE_MUCH;
    }
    if (what == 1) {
        memory_disk_ops.truncate(d, f, input_number(in, 4) % (f->size + 1));
        return DAMAGE_MUCH;
    }
    return change_bytes(f, used, in);
}

/* ---- and what must hold --------------------------------------------------------------------------------------------------- */

/* Nothing wrong is handed out, and nothing is missing unless its consumer was told. */
static void check_content(const struct life *l, const struct content *found, const struct content *expected)
{
    for (unsigned q = 1; q <= QUEUES; q++) {
        for (unsigned seq = 0; seq < MESSAGES_MAX; seq++) {
            uint32_t sum = found->sum[q][seq];
            CHECK(sum == expected->sum[q][seq] || (sum == 0 && l->damage_told));
        }
    }
}

/* Opened, it must work: it gives out what it has, takes more, and can be opened again. */
static void live_on(struct life *l, struct memory_disk *disk, const struct base *b, bool complete_expected)
{
    static struct content content;
    static struct life again;
    unsigned problems = 0;

    memset(&content, 0, sizeof(content));
    l->content = &content;
    subscribe(l);
    turns(l, 60);
    if (complete_expected)
        check_content(l, &content, &b->content);
    if (l->delivered > 0)
        ack(l, l->receipts[0]);
    for (unsigned i = 0; i < 5; i++)
        publish(l, 1 + i % QUEUES, 1000 + i);
    turns(l, 5);
    bool failed = l->failed;
    finish(l, true);
    if (failed || !crc_is_true)
        return;
    CHECK(begin(&again, disk, NULL, &problems) == BROKER_OK);
    finish(&again, false);
}

/* `one`: at most one file was damaged; both checkpoints gone, say, is more than fsck can mend. */
static void check_fsck(struct memory_disk *disk, broker_error opened, bool one)
{
    struct fsck_result result;
    unsigned problems = 0;
    struct store_report report = {say_line, &problems};
    static struct life l;

    broker_error e = store_fsck(&memory_disk_ops, disk, false, &report, &result);
    if (getenv("FUZZ_VERBOSE"))
        fprintf(stderr, "fsck: %s\n", broker_error_name(e));
    bool could_not = e == BROKER_IO || e == BROKER_NO_MEMORY || e == BROKER_UNSUPPORTED_VERSION;
    CHECK(e == BROKER_OK || e == BROKER_DAMAGED || could_not);
    CHECK((e == BROKER_DAMAGED) == (problems > 0) || could_not);
    if (!crc_is_true)
        return;
    CHECK(opened == BROKER_OK || e != BROKER_OK); /* what refuses to start is told by fsck */
    e = store_fsck(&memory_disk_ops, disk, true, &report, &result);
    CHECK(e == BROKER_OK || e == BROKER_DAMAGED);
    broker_error quarantined = begin(&l, disk, NULL, &problems);
    CHECK(quarantined == BROKER_OK || !one); /* without the damaged parts it starts */
    finish(&l, false);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct input in = {bytes, len};
    const struct base *b = &bases[input_number(&in, 1) % BASES];
    struct memory_disk disk, copy;
    static struct life l;
    unsigned problems = 0, ops = 0;
    enum damage damage = DAMAGE_NONE, worst = DAMAGE_NONE;

    memory_disk_init(&disk);
    memory_disk_init(&copy);
    memory_disk_copy(&disk, &b->disk);
    for (; ops < OPS_MAX && in.len > 0; ops++) {
        damage = do_damage(&disk, b, &in);
        worst = worst == DAMAGE_NONE ? damage : damage == DAMAGE_NONE ? worst : DAMAGE_MUCH;
    }
    memory_disk_copy(&copy, &disk);
    broker_error opened = begin(&l, &disk, NULL, &problems);
    CHECK(opened == BROKER_OK || problems > 0); /* whatever refuses says why */
    CHECK(opened == BROKER_OK || worst != DAMAGE_NONE);
    if (opened == BROKER_OK)
        live_on(&l, &disk, b, crc_is_true && worst != DAMAGE_MUCH);
    else
        finish(&l, false);
    check_fsck(&copy, opened, ops <= 1);
    memory_disk_release(&disk);
    memory_disk_release(&copy);
    return 0;
}
