/* Everything at random at once: keys, priorities, delays, expiry, nacks, rejections, full disks, slow reads and starts. Each
   message ends once: acked, or as a dead letter. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "feature_rig.h"

enum { STEPS = 400, MESSAGES_MAX = 2048, OUT_MAX = 200 };

struct storm {
    struct feature *f;
    uint64_t random;
    uint32_t published;
    uint8_t ends[MESSAGES_MAX]; /* how often it was acked or found among the dead letters */
    uint8_t key[MESSAGES_MAX];
    bool is_out[MESSAGES_MAX];
    struct got out[OUT_MAX];
    uint32_t out_count;
};

static uint32_t below(struct storm *s, uint32_t n)
{
    s->random = s->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(s->random >> 33) % n;
}

static void publish_one(struct storm *s)
{
    uint8_t body[4];
    char key = (char)('a' + below(s, 4));
    uint32_t number = ++s->published;
    assert_true(number < MESSAGES_MAX);
    put_u32(body, number);
    struct record_spec spec = {.key = &key, .key_len = key != 'd'};
    s->key[number] = key == 'd' ? 0 : (uint8_t)key;
    spec.priority = below(s, 4) ? 0 : (uint8_t)below(s, 10);
    if (!below(s, 5)) {
        spec.due_ms = 1 + below(s, 3000);
        spec.due_is_delay = true;
    }
    if (!below(s, 4)) {
        spec.expire_ms = 1 + below(s, 4000);
        spec.expire_is_ttl = true;
    }
    spec.body = body;
    spec.body_len = sizeof body;
    rig_publish(&s->f->r, "q", spec);
    rig_settle(&s->f->r);
    assert_int_equal(s->f->r.error, BROKER_OK);
}

static void forget_out(struct storm *s, uint32_t i)
{
    s->is_out[s->out[i].number] = false;
    s->out[i] = s->out[--s->out_count];
}

/* What has come by now; a lease may have had to wait for a read. */
static void absorb(struct storm *s)
{
    struct feature *f = s->f;
    for (uint32_t i = 0; i < f->got_count; i++) {
        struct got *got = &f->got[i];
        assert_false(s->is_out[got->number]); /* one lease at a time */
        assert_int_equal(s->ends[got->number], 0);
        for (uint32_t j = 0; j < s->out_count && s->key[got->number]; j++) {
            assert_int_not_equal(s->key[s->out[j].number], s->key[got->number]);
        }
        assert_true(s->out_count < OUT_MAX);
        s->is_out[got->number] = true;
        s->out[s->out_count++] = *got;
    }
    f->got_count = 0;
}

static void settle_one(struct storm *s)
{
    struct feature *f = s->f;
    if (!s->out_count) {
        return;
    }
    uint32_t i = below(s, s->out_count), way = below(s, 10);
    struct receipt_range range = {.first = s->out[i].receipt, .count = 1};
    struct command c = {.type = way < 5 ? COMMAND_ACK : COMMAND_NACK, .token = {.conn = 9}};
    c.u.settle.ranges = &range;
    c.u.settle.count = 1;
    c.u.settle.dead_letter = way == 9;
    c.u.settle.delay_ms = way == 8 ? 1 + below(s, 2000) : 0;
    rig_submit(&f->r, &c);
    rig_settle(&f->r);
    if (f->r.error) {
        return;
    }
    s->ends[s->out[i].number] += way < 5;
    forget_out(s, i);
}

static void start_or_not(struct storm *s)
{
    if (s->f->restart != RESTART_NONE) {
        step(s->f);
        while (s->out_count) {
            forget_out(s, 0);
        }
    }
}

static void change_weather(struct storm *s)
{
    struct feature *f = s->f;
    static const broker_error refusals[] = {BROKER_OK, BROKER_OK, BROKER_OVERLOADED, BROKER_DISK_FULL};
    f->r.store.refuse = refusals[below(s, 4)];
    f->r.store.pending = !below(s, 4);
    if (!f->r.store.pending) {
        engine_readable(f->r.e, f->r.now, 1);
    }
    rig_settle(&f->r);
}

static void calm(struct storm *s)
{
    s->f->r.store.refuse = BROKER_OK;
    s->f->r.store.pending = false;
    engine_readable(s->f->r.e, s->f->r.now, 1);
    rig_settle(&s->f->r);
}

static void find_dead(struct storm *s)
{
    struct feature *f = s->f;
    do {
        take(f, "q.dead", NULL, 64);
        for (uint32_t i = 0; i < f->got_count; i++) {
            s->ends[f->got[i].number]++;
        }
        settle_got(f, COMMAND_ACK, 0, 256, false);
    } while (f->got_count);
}

static void storm(struct feature *f, uint64_t seed)
{
    struct storm s = {.f = f, .random = seed};
    for (uint32_t i = 0; i < STEPS; i++) {
        switch (below(&s, 12)) {
        case 0:
        case 1:
        case 2:
        case 3:
            calm(&s);
            publish_one(&s);
            break;
        case 4:
        case 5:
        case 6: take(f, "q", NULL, 1 + below(&s, 12)); break;
        case 7:
        case 8: settle_one(&s); break;
        case 9: rig_pass(&f->r, below(&s, 400)); break;
        case 10: change_weather(&s); break;
        default:
            if (!below(&s, 6)) {
                start_or_not(&s);
            }
        }
        absorb(&s);
    }
    calm(&s);
    rig_pass(&f->r, 10);
    absorb(&s);
    while (s.out_count) {
        f->got[0] = s.out[0];
        f->got_count = 1;
        settle_got(f, COMMAND_ACK, 0, 1, false);
        s.ends[s.out[0].number]++;
        forget_out(&s, 0);
    }
    for (int i = 0; i < 150; i++) { /* one of each key at a time */
        rig_pass(&f->r, 1000);
        take(f, "q", NULL, 200);
        for (uint32_t j = 0; j < f->got_count; j++) {
            s.ends[f->got[j].number]++;
        }
        settle_got(f, COMMAND_ACK, 0, 256, false);
        if (i % 8 == 7) {
            start_or_not(&s);
        }
    }
    find_dead(&s);
    for (uint32_t i = 1; i <= s.published; i++) {
        if (s.ends[i] != 1) {
            fail_msg("seed %llu: message %u ended %u times", (unsigned long long)seed, i, s.ends[i]);
        }
    }
    struct engine_stats stats;
    engine_get_stats(f->r.e, &stats);
    assert_int_equal(stats.scheduled, 0);
    assert_int_equal(stats.leased, 0);
    assert_int_equal(rig_stored(&f->r, "q"), 0);
}

static void test_storms(void **state)
{
    broker_queue_settings s = {.size = sizeof s,
                               .set = BROKER_SET_ORDERED_KEYS | BROKER_SET_MAX_ATTEMPTS | BROKER_SET_BACKOFF |
                                      BROKER_SET_DEAD_LETTER_EXPIRED | BROKER_SET_LEASE_MS,
                               .ordered_keys = true,
                               .max_attempts = 3,
                               .lease_ms = 86400000,
                               .backoff = BROKER_BACKOFF_EXPONENTIAL,
                               .backoff_ms = 50,
                               .backoff_max_ms = 1000,
                               .dead_letter_expired = true};
    enum restart restart = ((struct feature *)*state)->restart;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct feature *f = *state;
        rig_create(&f->r, COMMAND_QUEUE_CREATE, "q", &s);
        rig_create(&f->r, COMMAND_QUEUE_CREATE, "q.dead", NULL);
        feature_snapshot(f);
        storm(f, seed);
        feature_teardown(state);
        *state = (void *)restart;
        feature_setup(state);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {FEATURE_TEST(test_storms)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
