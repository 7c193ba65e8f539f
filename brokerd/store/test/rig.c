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

static void check_message(const struct stored_message *m, uint32_t queue)
{
    struct record_view view;
    assert_true(record_intact(m->record, m->padded_len));
    assert_int_equal(record_view_get(m->record, m->padded_len, &view), BROKER_OK);
    assert_int_equal(view.head.queue, queue);
    assert_int_equal(view.head.seq, m->seq);
    for (uint32_t i = 0; i < view.body_len; i++)
        assert_int_equal(view.body[i], (uint8_t)(queue + m->seq * 3 + i));
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
