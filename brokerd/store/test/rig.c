#include "rig.h"

#include <assert.h>

static void submit_write(void *writer, struct log_write *w)
{
    struct rig *r = writer;
    w->next = NULL;
    *r->writes_end = w;
    r->writes_end = &w->next;
}

static void submit_job(void *workers, struct job *j)
{
    struct rig *r = workers;
    j->next = NULL;
    *r->jobs_end = j;
    r->jobs_end = &j->next;
}

static const struct log_writer_ops writer_ops = {.submit = submit_write};
static const struct worker_ops worker_ops = {.submit = submit_job};

static void on_fatal(void *arg, const char *text)
{
    struct rig *r = arg;
    r->fatal = true;
    snprintf(r->fatal_text, sizeof r->fatal_text, "%s", text);
}

static void on_line(void *arg, bool problem, const char *text)
{
    struct rig *r = arg;
    size_t n = strlen(r->report);
    snprintf(r->report + n, sizeof r->report - n, "%s%s\n", problem ? "! " : "", text);
    r->problems += problem;
}

void rig_init(struct rig *r, struct test_disk *disk)
{
    *r = (struct rig){.disk = disk ? disk : test_disk_new(), .seed = 1};
    r->options = (struct store_options){.segment_bytes = 64 << 10,
                                        .tail_cache_bytes = 64 << 10,
                                        .read_cache_bytes = 64 << 10,
                                        .spare_bytes = 128 << 10,
                                        .checkpoint_bytes = 256 << 10};
    r->now = (struct now){{1000}, {1700000000000}};
}

broker_error rig_open(struct rig *r)
{
    struct store_host host = {.disk_ops = &test_disk_ops,
                              .disk = r->disk,
                              .writer_ops = &writer_ops,
                              .writer = r,
                              .worker_ops = &worker_ops,
                              .workers = r,
                              .fatal = on_fatal,
                              .fatal_arg = r};
    struct store_report report = {on_line, r};
    r->writes = NULL;
    r->writes_end = &r->writes;
    r->jobs = NULL;
    r->jobs_end = &r->jobs;
    r->written = r->durable = 0;
    r->fatal = false;
    r->report[0] = 0;
    r->problems = 0;
    broker_error error = store_new(&r->options, &host, &r->store);
    if (error)
        return error;
    r->engine = engine_new(NULL, &store_engine_ops, r->store, NULL, NULL);
    assert_non_null(r->engine);
    return store_open(r->store, r->engine, r->now, &report);
}

void rig_must_open(struct rig *r)
{
    broker_error error = rig_open(r);
    if (error)
        fail_msg("store_open: %s\n%s", broker_error_name(error), r->report);
    assert_true(r->engine->recovered);
}

static void free_store(struct rig *r)
{
    store_free(r->store);
    engine_free(r->engine);
    r->store = NULL;
    r->engine = NULL;
    assert_int_equal(r->disk->open_files, 0);
}

void rig_drop(struct rig *r)
{
    if (!r->store)
        return;
    bool frozen = r->disk->frozen;
    r->disk->frozen = true;
    while (rig_job(r))
        ;
    r->disk->frozen = frozen;
    free_store(r);
}

void rig_close(struct rig *r)
{
    rig_idle(r);
    rig_checkpoint(r);
    rig_idle(r);
    assert_false(r->fatal);
    free_store(r);
}

void rig_release(struct rig *r)
{
    rig_drop(r);
    test_disk_free(r->disk);
    r->disk = NULL;
}

uint64_t rig_random(struct rig *r)
{
    r->seed ^= r->seed << 13;
    r->seed ^= r->seed >> 7;
    r->seed ^= r->seed << 17;
    return r->seed;
}

void rig_write(struct rig *r)
{
    struct log_write *w = r->writes;
    struct file *last = NULL;
    bool sync = false;
    int error = 0;
    uint64_t bytes = 0, written = 0;
    r->writes = NULL;
    r->writes_end = &r->writes;
    if (!w || r->fatal)
        return;
    for (; w && !error; w = w->next) {
        if (last && last != w->file)
            error = test_disk_ops.sync(r->disk, last);
        if (!error)
            error = test_disk_ops.write(r->disk, w->file, w->offset, w->bytes, w->len);
        last = w->file;
        sync |= w->sync;
        bytes += w->len;
        written = w->index;
    }
    if (!error && sync)
        error = test_disk_ops.sync(r->disk, last);
    if (!error) {
        r->written = written;
        r->durable = sync ? written : r->durable;
    }
    store_written(r->store, r->now, r->written, r->durable, bytes, sync, error);
}

bool rig_job(struct rig *r)
{
    struct job *j = r->jobs;
    if (!j)
        return false;
    r->jobs = j->next;
    if (!r->jobs)
        r->jobs_end = &r->jobs;
    j->run(j);
    j->done(j);
    return true;
}

void rig_turn(struct rig *r)
{
    store_flush(r->store, r->now);
    store_end_turn(r->store);
    store_tick(r->store, r->now);
}

void rig_step(struct rig *r)
{
    rig_turn(r);
    rig_write(r);
    for (int i = 0; i < 100 && rig_job(r); i++)
        ;
}

void rig_wait(struct rig *r, uint64_t ms)
{
    for (uint64_t i = 0; i < ms; i += 10) {
        r->now.mono.ms += 10;
        r->now.wall.ms += 10;
        rig_step(r);
    }
}

void rig_idle(struct rig *r)
{
    for (int i = 0; i < 10000 && !r->fatal; i++) {
        rig_step(r);
        if (!store_busy(r->store) && !r->writes && !r->jobs)
            return;
        r->now.mono.ms += 1;
        r->now.wall.ms += 1;
    }
    if (!r->fatal)
        fail_msg("the store is always busy");
}

void rig_checkpoint(struct rig *r)
{
    store_checkpoint(r->store, r->now);
    rig_idle(r);
}

size_t rig_body_len(uint32_t queue, uint64_t seq)
{
    return (queue * 31 + seq * 7) % 200;
}

uint32_t rig_record(uint8_t *out, size_t cap, uint32_t queue, uint64_t seq, uint64_t time_ms, size_t body_len)
{
    uint8_t *body = malloc(body_len + 1);
    for (size_t i = 0; i < body_len; i++)
        body[i] = (uint8_t)(queue + seq * 3 + i);
    struct record_spec spec = {.body = body, .body_len = body_len};
    assert(record_spec_bytes(&spec) <= cap);
    record_spec_put(out, &spec);
    put_u32(out + 12, queue);
    put_u64(out + 16, seq);
    put_u64(out + 24, time_ms);
    free(body);
    return record_length(out);
}

broker_error rig_publish_sized(struct rig *r, uint32_t queue, size_t body_len)
{
    struct test_queue *q = &r->engine->queues[queue];
    uint64_t seq = q->exists ? q->next : 1, index;
    uint8_t *record = malloc(body_len + 64);
    uint32_t length = rig_record(record, body_len + 64, queue, seq, r->now.wall.ms, body_len);
    broker_error error = store_engine_ops.append(r->store, record, length, DURABILITY_SYNCED, &index);
    const char *text;
    if (!error)
        engine_replay(r->engine, record, &text);
    free(record);
    return error;
}

broker_error rig_publish(struct rig *r, uint32_t queue)
{
    const struct test_queue *q = &r->engine->queues[queue];
    return rig_publish_sized(r, queue, rig_body_len(queue, q->exists ? q->next : 1));
}

void rig_publish_many(struct rig *r, uint32_t queue, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        broker_error error = rig_publish(r, queue);
        if (error)
            fail_msg("publish %llu: %s", (unsigned long long)i, broker_error_name(error));
        if (i % 16 == 15)
            rig_step(r);
    }
    rig_step(r);
}

broker_error rig_settle(struct rig *r, uint32_t queue, uint64_t first, uint64_t last)
{
    uint8_t record[RECORD_HEAD_BYTES + 16] = {0};
    uint64_t index;
    const char *text;
    record_head_put(record, &(struct record_head){.length = sizeof record, .type = RECORD_SETTLE, .queue = queue});
    put_u64(record + RECORD_HEAD_BYTES, first);
    put_u64(record + RECORD_HEAD_BYTES + 8, last);
    broker_error error = store_engine_ops.append(r->store, record, sizeof record, DURABILITY_SYNCED, &index);
    if (!error)
        engine_replay(r->engine, record, &text);
    return error;
}

/* ---- several at once ------------------------------------------------------------------------------------------------------------ */

enum { KEY_PLACE_BYTES = 12 }; /* a message in several queues has its places as its key: u32 queue, u64 seq */

struct building {
    uint64_t next[TEST_QUEUES];
    struct append_item items[64];
    uint32_t count;
};

static uint8_t *add_item(struct building *b, uint32_t length)
{
    uint8_t *record = calloc(1, length + 8);
    assert_true(b->count < 64);
    b->items[b->count++] = (struct append_item){record, length};
    return record;
}

static void build_message(struct rig *r, struct building *b, const struct rig_item *item)
{
    uint8_t key[RIG_PLACES_MAX * KEY_PLACE_BYTES], *body = malloc(item->body_len + 1);
    for (uint32_t i = 0; i < item->n; i++) {
        put_u32(key + i * KEY_PLACE_BYTES, item->queues[i]);
        put_u64(key + i * KEY_PLACE_BYTES + 4, b->next[item->queues[i]]++);
    }
    if (item->n > 1) {
        uint32_t length = RECORD_HEAD_BYTES + 8 + (item->n - 1) * ROUTE_PLACE_BYTES;
        uint8_t *route = add_item(b, length);
        record_head_put(route, &(struct record_head){.length = length, .type = RECORD_ROUTE});
        put_u32(route + RECORD_HEAD_BYTES, item->n - 1);
        for (uint32_t i = 1; i < item->n; i++) {
            uint8_t *to = route + RECORD_HEAD_BYTES + 8 + (i - 1) * ROUTE_PLACE_BYTES;
            put_u32(to, item->queues[i]);
            put_u64(to + 8, get_u64(key + i * KEY_PLACE_BYTES + 4));
        }
    }
    for (size_t i = 0; i < item->body_len; i++)
        body[i] = (uint8_t)(item->queues[0] + get_u64(key + 4) * 3 + i);
    struct record_spec spec = {
        .body = body, .body_len = item->body_len, .key = key, .key_len = item->n > 1 ? item->n * KEY_PLACE_BYTES : 0};
    uint8_t *record = add_item(b, record_spec_bytes(&spec));
    record_spec_put(record, &spec);
    b->items[b->count - 1].length = record_length(record);
    put_u32(record + 12, item->queues[0]);
    put_u64(record + 16, get_u64(key + 4));
    put_u64(record + 24, r->now.wall.ms);
    free(body);
}

static void build_settle(struct building *b, const struct rig_item *item)
{
    uint8_t *record = add_item(b, RECORD_HEAD_BYTES + 16);
    record_head_put(record, &(struct record_head){
                                .length = RECORD_HEAD_BYTES + 16, .type = RECORD_SETTLE, .queue = item->queues[0]});
    put_u64(record + RECORD_HEAD_BYTES, item->first);
    put_u64(record + RECORD_HEAD_BYTES + 8, item->last);
}

broker_error rig_all(struct rig *r, const struct rig_item *items, uint32_t count)
{
    struct building *b = calloc(1, sizeof *b);
    uint64_t index;
    const char *text;
    for (uint32_t i = 0; i < TEST_QUEUES; i++)
        b->next[i] = r->engine->queues[i].exists ? r->engine->queues[i].next : 1;
    for (uint32_t i = 0; i < count; i++) {
        if (items[i].first)
            build_settle(b, &items[i]);
        else
            build_message(r, b, &items[i]);
    }
    broker_error error = store_engine_ops.append_all(r->store, b->items, b->count, DURABILITY_SYNCED, &index);
    for (uint32_t i = 0; i < b->count; i++) {
        if (!error)
            assert_int_equal(engine_replay(r->engine, b->items[i].record, &text), BROKER_OK);
        free((void *)(uintptr_t)b->items[i].record);
    }
    free(b);
    return error;
}

broker_error rig_publish_routed(struct rig *r, uint32_t a, uint32_t b, uint32_t c)
{
    const struct test_queue *q = &r->engine->queues[a];
    return rig_all(r, &(struct rig_item){3, {a, b, c}, rig_body_len(a, q->exists ? q->next : 1), 0, 0}, 1);
}

static bool is_place(const struct record_view *view, uint32_t queue, uint64_t seq)
{
    for (uint32_t at = 0; at < view->head.key_len; at += KEY_PLACE_BYTES) {
        if (get_u32(view->key + at) == queue && get_u64(view->key + at + 4) == seq)
            return true;
    }
    return false;
}

static void check_message(const struct stored_message *m, uint32_t queue)
{
    struct record_view view;
    uint64_t seq = m->seq;
    assert_true(record_intact(m->record, m->padded_len));
    assert_int_equal(record_view_get(m->record, m->padded_len, &view), BROKER_OK);
    if (view.head.key_len) { /* in several queues */
        assert_true(is_place(&view, queue, seq));
        queue = get_u32(view.key);
        seq = get_u64(view.key + 4);
    } else {
        assert_int_equal(view.head.queue, queue);
        assert_int_equal(view.head.seq, seq);
    }
    for (uint32_t i = 0; i < view.body_len; i++)
        assert_int_equal(view.body[i], (uint8_t)(queue + seq * 3 + i));
}

uint64_t rig_read(struct rig *r, uint32_t queue, uint64_t from, uint64_t to, uint64_t *damaged)
{
    uint64_t n = 0;
    int patience = 0;
    if (damaged)
        *damaged = 0;
    for (;;) {
        struct stored_message out[64];
        uint32_t count;
        uint64_t bad;
        switch (store_engine_ops.read(r->store, queue, from, to, 64, 1 << 20, out, &count, &bad)) {
        case READ_OK:
            assert_true(count > 0);
            for (uint32_t i = 0; i < count; i++) {
                assert_true(out[i].seq >= from && out[i].seq <= to);
                check_message(&out[i], queue);
                from = out[i].seq + 1;
            }
            n += count;
            patience = 0;
            break;
        case READ_END: return n;
        case READ_DAMAGED:
            if (!damaged)
                fail_msg("message %llu of queue %u is damaged", (unsigned long long)bad, queue);
            ++*damaged;
            from = bad + 1;
            break;
        case READ_PENDING:
            if (++patience > 1000)
                fail_msg("reading message %llu of queue %u never ends", (unsigned long long)from, queue);
            rig_step(r);
            r->now.mono.ms++;
            break;
        }
        if (from > to)
            return n;
    }
}

void rig_check_all(struct rig *r)
{
    for (uint32_t i = 0; i < TEST_QUEUES; i++) {
        const struct test_queue *q = &r->engine->queues[i];
        uint64_t live = 0, messages, bytes, oldest;
        for (uint64_t seq = 1; q->exists && seq < q->next;) {
            uint64_t end = seq;
            while (end < q->next && test_engine_live(r->engine, i, end))
                end++;
            if (end > seq) {
                uint64_t n = rig_read(r, i, seq, end - 1, NULL);
                if (n != end - seq)
                    fail_msg("queue %u: %llu of messages %llu..%llu were there", i, (unsigned long long)n,
                             (unsigned long long)seq, (unsigned long long)end - 1);
                live += n;
            }
            seq = end + 1;
        }
        store_engine_ops.usage(r->store, i, &messages, &bytes, &oldest);
        if (messages != live)
            fail_msg("queue %u: usage says %llu messages, %llu are live", i, (unsigned long long)messages,
                     (unsigned long long)live);
    }
}

struct test_file *rig_sealed_segment(struct rig *r, struct segment_trailer *trailer)
{
    for (int i = 0; i < TEST_FILES_MAX; i++) {
        struct test_file *f = &r->disk->files[i];
        if (f->used && f->size > SEGMENT_DATA_START &&
            segment_trailer_get(f->bytes + f->size - SEGMENT_TRAILER_BYTES, trailer) == FORMAT_OK)
            return f;
    }
    fail_msg("no segment is sealed");
    return NULL;
}
