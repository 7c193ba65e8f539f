/* Settings of queues and groups, filters and bindings: what is asked for, what is read from answers, also an older broker's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "fake_broker.h"

static struct fake f; /* for the scripts, which run in a thread */

/* ---- asking --------------------------------------------------------------------------------------------------------------------- */

static const broker_queue_settings everything = {
    .size = sizeof(everything),
    .set = BROKER_SET_ALL,
    .retention = BROKER_RETENTION_LOG,
    .sync = BROKER_SYNC_NONE,
    .lease_ms = 1,
    .max_message_bytes = 2,
    .log_max_age_ms = 3,
    .log_max_bytes = 4,
    .log_max_messages = 5,
    .max_attempts = 6,
    .backoff = BROKER_BACKOFF_EXPONENTIAL,
    .backoff_ms = 7,
    .backoff_max_ms = 8,
    .backoff_jitter_percent = 9,
    .dead_letter = "morgue",
    .ttl_ms = 10,
    .dead_letter_expired = true,
    .unused_ms = 11,
    .dedup_ms = 12,
    .dedup_count = 13,
    .max_messages = 14,
    .max_bytes = 15,
    .overflow = BROKER_OVERFLOW_DROP_OLDEST,
    .ordered_keys = true,
    .fair_keys = true,
    .compact = true,
};

static const char everything_text[] =
    "{\"queue\"=>\"q\", \"retention\"=>\"log\", \"sync\"=>\"none\", \"lease_ms\"=>1, \"max_message_bytes\"=>2, "
    "\"log_max_age_ms\"=>3, \"log_max_bytes\"=>4, \"log_max_messages\"=>5, \"max_attempts\"=>6, "
    "\"backoff\"=>\"exponential\", \"backoff_ms\"=>7, \"backoff_max_ms\"=>8, \"backoff_jitter_percent\"=>9, "
    "\"dead_letter\"=>\"morgue\", \"ttl_ms\"=>10, \"dead_letter_expired\"=>true, \"unused_ms\"=>11, \"dedup_ms\"=>12, "
    "\"dedup_count\"=>13, \"max_messages\"=>14, \"max_bytes\"=>15, \"overflow\"=>\"drop_oldest\", "
    "\"ordered_keys\"=>true, \"fair_keys\"=>true, \"compact\"=>true}";

static void script_asking(struct fake *fake)
{
    fake_greet(fake, NULL);
    fake_expect_call(fake, NULL, FRAME_QUEUE_CREATE, everything_text);
    fake_expect_call(fake, NULL, FRAME_QUEUE_ALTER,
                     "{\"queue\"=>\"q\", \"backoff\"=>\"none\", \"backoff_ms\"=>0, \"backoff_max_ms\"=>0, "
                     "\"backoff_jitter_percent\"=>0, \"dead_letter\"=>\"\", \"overflow\"=>\"reject\"}");
    fake_expect_call(fake, NULL, FRAME_QUEUE_CREATE, "{\"queue\"=>\"q\", \"sync\"=>\"none\"}");
    fake_expect_call(
        fake, NULL, FRAME_GROUP_CREATE,
        "{\"queue\"=>\"q\", \"group\"=>\"g\", \"start\"=>\"end\", \"value\"=>0, "
        "\"filter\"=>{\"topic\"=>\"a.>\", \"headers\"=>{\"x\"=>\"1\", \"y\"=>\"\"}}, \"single_active\"=>true}");
    fake_expect_call(fake, NULL, FRAME_GROUP_CREATE,
                     "{\"queue\"=>\"q\", \"group\"=>\"g\", \"start\"=>\"seq\", \"value\"=>7}");
    fake_expect_call(fake, NULL, FRAME_GROUP_ALTER, "{\"queue\"=>\"q\", \"group\"=>\"g\", \"filter\"=>{}}");
    fake_expect_call(fake, NULL, FRAME_GROUP_ALTER, "{\"queue\"=>\"q\", \"group\"=>\"g\", \"single_active\"=>false}");
    fake_expect_call(fake, NULL, FRAME_BIND, "{\"queue\"=>\"q\", \"pattern\"=>\"a.*.>\"}");
    struct fake_frame frame = fake_expect_map(fake, NULL, FRAME_UNBIND, "{\"queue\"=>\"q\", \"pattern\"=>\">\"}");
    fake_send_error(fake, frame.head.correlation, BROKER_LIMIT_REACHED, "so many", "request");
    fake_frame_free(&frame);
}

static void asking(void **state)
{
    broker_header headers[2] = {{.name = "x", .value = "1"}, {.name = "y", .value = ""}};
    broker_queue_settings s = {.size = sizeof(s),
                               .set = BROKER_SET_BACKOFF | BROKER_SET_DEAD_LETTER | BROKER_SET_OVERFLOW};
    broker_group_settings g = {.size = sizeof(g),
                               .set = BROKER_GROUP_SET_FILTER | BROKER_GROUP_SET_SINGLE_ACTIVE,
                               .filter = {.topic = "a.>", .headers = headers, .header_count = 2},
                               .single_active = true};

    fake_open(&f);
    broker *b = client_open(&f, NULL);
    fake_start(&f, script_asking);
    assert_int_equal(broker_queue_create(b, "q", &everything), BROKER_OK);
    assert_int_equal(broker_queue_alter(b, "q", &s), BROKER_OK);
    /* As an older program has it: shorter, and with fewer bits. */
    s = (broker_queue_settings){
        .size = offsetof(broker_queue_settings, max_attempts), .set = BROKER_SET_SYNC, .sync = BROKER_SYNC_NONE};
    assert_int_equal(broker_queue_create(b, "q", &s), BROKER_OK);
    assert_int_equal(broker_group_create(b, "q", "g", BROKER_START_END, 0, &g), BROKER_OK);
    assert_int_equal(broker_group_create(b, "q", "g", BROKER_START_SEQ, 7, NULL), BROKER_OK);
    g = (broker_group_settings){.size = sizeof(g), .set = BROKER_GROUP_SET_FILTER};
    assert_int_equal(broker_group_alter(b, "q", "g", &g), BROKER_OK);
    g.set = BROKER_GROUP_SET_SINGLE_ACTIVE;
    assert_int_equal(broker_group_alter(b, "q", "g", &g), BROKER_OK);
    assert_int_equal(broker_bind(b, "q", "a.*.>"), BROKER_OK);
    assert_int_equal(broker_unbind(b, "q", ">"), BROKER_LIMIT_REACHED);
    fake_join(&f);
    broker_close(b);
    fake_close(&f);
}

static void refused_at_once(void **state)
{
    struct fake fake;
    broker_queue_settings s;
    broker_group_settings g = {.size = sizeof(g), .set = BROKER_GROUP_SET_FILTER, .filter.topic = ">.a"};
    static const char *const patterns[] = {"", "a.", ">.a", "a*", "a b"};
#define REFUSED(bits, ...)                                                                                             \
    s = (broker_queue_settings){.size = sizeof(s), .set = (bits), __VA_ARGS__};                                        \
    assert_int_equal(broker_queue_create(b, "q", &s), BROKER_INVALID_ARGUMENT);                                        \
    assert_true(strlen(broker_error_text(b)) > 10)

    fake_open(&fake);
    broker *b = client_open(&fake, NULL);
    REFUSED(BROKER_SET_RETENTION, .sync = 1);
    REFUSED(BROKER_SET_SYNC, .sync = BROKER_SYNC_DEFAULT);
    REFUSED(BROKER_SET_LEASE_MS, .lease_ms = LEASE_MS_MAX + 1);
    REFUSED(BROKER_SET_BACKOFF, .backoff = (broker_backoff)3);
    REFUSED(BROKER_SET_BACKOFF, .backoff = BROKER_BACKOFF_FIXED);
    REFUSED(BROKER_SET_BACKOFF, .backoff_jitter_percent = 101);
    REFUSED(BROKER_SET_OVERFLOW, .overflow = (broker_overflow)2);
    assert_non_null(strstr(broker_error_text(b), "overflow"));
    REFUSED(BROKER_SET_DEAD_LETTER, .dead_letter = ".x");
    s = (broker_queue_settings){.size = offsetof(broker_queue_settings, retention) - 1};
    assert_int_equal(broker_queue_create(b, "q", &s), BROKER_INVALID_ARGUMENT);
    assert_int_equal(broker_group_create(b, "q", "g", BROKER_START_END, 0, &g), BROKER_INVALID_ARGUMENT);
    assert_int_equal(broker_group_alter(b, "q", "g", &g), BROKER_INVALID_ARGUMENT);
    assert_int_equal(broker_group_alter(b, "q", "no/name", NULL), BROKER_INVALID_ARGUMENT);
    g.size = 0;
    assert_int_equal(broker_group_alter(b, "q", "g", &g), BROKER_INVALID_ARGUMENT);
    for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
        assert_int_equal(broker_bind(b, "q", patterns[i]), BROKER_INVALID_ARGUMENT);
        assert_int_equal(broker_unbind(b, "q", patterns[i]), BROKER_INVALID_ARGUMENT);
    }
    assert_int_equal(broker_bind(b, "q", NULL), BROKER_INVALID_ARGUMENT);
    broker_close(b);
    fake_close(&fake);
}

/* ---- answers ---------------------------------------------------------------------------------------------------------------------- */

static void pack_number_keys(msgpack_packer *pk, const char *const *keys, size_t count)
{
    for (size_t i = 0; i < count; i++)
        pack_key_u64(pk, keys[i], 100 + i);
}

static void pack_full_queue(msgpack_packer *pk)
{
    static const char *const numbers[] = {"first_seq", "last_seq",  "messages",      "bytes",       "scheduled",
                                          "published", "expired",   "dead_lettered", "dropped",     "duplicates",
                                          "bindings",  "delivered", "acked",         "redelivered", "ready",
                                          "leased",    "oldest_ms", "dead"};

    msgpack_pack_map(pk, 1 + 24 + 18);
    pack_key_str(pk, "name", "q", 1);
    queue_settings_pack(pk, &everything);
    pack_number_keys(pk, numbers, 18);
}

static void pack_groups(msgpack_packer *pk, const char *header_value)
{
    static const char *const numbers[] = {"floor_seq", "cursor_seq", "ready", "leased", "delayed", "blocked", "lag"};
    broker_header headers[2] = {{.name = "x", .value = "1"}, {.name = "y", .value = header_value}};
    broker_filter filter = {.topic = "a.>", .key = "k", .headers = headers, .header_count = 2};

    msgpack_pack_array(pk, 2);
    msgpack_pack_map(pk, 1 + 7 + 2);
    pack_key_str(pk, "name", "g", 1);
    pack_number_keys(pk, numbers, 7);
    filter_pack(pk, &filter);
    pack_key_bool(pk, "single_active", true);
    msgpack_pack_map(pk, 1); /* an older broker's */
    pack_key_str(pk, "name", "h", 1);
}

static void answer_describe(bool good_filter, bool good_bindings)
{
    struct fake_frame frame = fake_expect_map(&f, NULL, FRAME_QUEUE_DESCRIBE, "{\"queue\"=>\"q\"}");
    msgpack_sbuffer sb;
    msgpack_packer pk;

    msgpack_sbuffer_init(&sb);
    msgpack_packer_init(&pk, &sb, msgpack_sbuffer_write);
    msgpack_pack_map(&pk, 3);
    pack_str(&pk, "queue", 5);
    pack_full_queue(&pk);
    pack_str(&pk, "groups", 6);
    if (good_filter) {
        pack_groups(&pk, "");
    } else {
        msgpack_pack_array(&pk, 1);
        msgpack_pack_map(&pk, 2);
        pack_key_str(&pk, "name", "g", 1);
        pack_str(&pk, "filter", 6);
        msgpack_pack_map(&pk, 1);
        pack_str(&pk, "headers", 7);
        msgpack_pack_map(&pk, 1);
        pack_key_u64(&pk, "x", 1); /* no text */
    }
    pack_str(&pk, "bindings", 8);
    msgpack_pack_array(&pk, 2);
    pack_str(&pk, "a.*", 3);
    if (good_bindings)
        pack_str(&pk, ">", 1);
    else
        msgpack_pack_nil(&pk);
    fake_send(&f, FRAME_QUEUE_DESCRIBE | FRAME_RESPONSE, frame.head.correlation, 0, sb.data, sb.size);
    msgpack_sbuffer_destroy(&sb);
    fake_frame_free(&frame);
}

static void answer_stats(void)
{
    static const char *const numbers[] = {"scheduled", "redelivered", "dead_lettered",
                                          "expired",   "dropped",     "duplicates"};
    struct fake_frame frame = fake_expect(&f, NULL, FRAME_STATS);
    msgpack_sbuffer sb;
    msgpack_packer pk;

    msgpack_sbuffer_init(&sb);
    msgpack_packer_init(&pk, &sb, msgpack_sbuffer_write);
    msgpack_pack_map(&pk, 6);
    pack_number_keys(&pk, numbers, 6);
    fake_send(&f, FRAME_STATS | FRAME_RESPONSE, frame.head.correlation, 0, sb.data, sb.size);
    msgpack_sbuffer_destroy(&sb);
    fake_frame_free(&frame);
}

static void script_answers(struct fake *fake)
{
    fake_greet(fake, NULL);
    answer_describe(true, true);
    answer_describe(true, true);
    answer_describe(true, true);
    answer_describe(false, true);
    answer_describe(true, false);
    answer_stats();
    answer_stats();
}

static bool on_queue(void *arg, const broker_queue_info *q)
{
    broker_queue_settings s = q->settings, expected = everything;

    assert_string_equal(s.dead_letter, "morgue");
    s.dead_letter = expected.dead_letter = NULL;
    assert_int_equal(s.set, expected.set);
    assert_int_equal(s.backoff, BROKER_BACKOFF_EXPONENTIAL);
    assert_int_equal(s.backoff_jitter_percent, 9);
    assert_int_equal(s.overflow, BROKER_OVERFLOW_DROP_OLDEST);
    assert_int_equal(s.dedup_count, 13);
    assert_int_equal(s.unused_ms, 11);
    assert_true(s.ordered_keys && s.fair_keys && s.compact && s.dead_letter_expired);
    assert_int_equal(q->scheduled, 104);
    assert_int_equal(q->published, 105);
    assert_int_equal(q->duplicates, 109);
    assert_int_equal(q->bindings, 110);
    assert_int_equal(q->delivered, 111);
    assert_int_equal(q->acked, 112);
    assert_int_equal(q->redelivered, 113);
    assert_int_equal(q->ready, 114);
    assert_int_equal(q->leased, 115);
    assert_int_equal(q->oldest_ms, 116);
    assert_int_equal(q->dead, 117);
    return true;
}

static bool on_group(void *arg, const broker_group_info *g)
{
    int *groups = arg;

    assert_string_equal(g->queue, "q");
    if (++*groups == 1) {
        assert_string_equal(g->name, "g");
        assert_int_equal(g->blocked, 105);
        assert_int_equal(g->lag, 106);
        assert_int_equal(g->settings.set, BROKER_GROUP_SET_FILTER | BROKER_GROUP_SET_SINGLE_ACTIVE);
        assert_true(g->settings.single_active);
        assert_string_equal(g->settings.filter.topic, "a.>");
        assert_string_equal(g->settings.filter.key, "k");
        assert_int_equal(g->settings.filter.header_count, 2);
        assert_string_equal(g->settings.filter.headers[0].value, "1");
        assert_string_equal(g->settings.filter.headers[1].name, "y");
        assert_string_equal(g->settings.filter.headers[1].value, "");
    } else {
        assert_string_equal(g->name, "h");
        assert_int_equal(g->settings.set, 0);
        assert_null(g->settings.filter.topic);
        assert_int_equal(g->lag, 0);
    }
    return true;
}

static bool stop_at_once(void *arg, const broker_group_info *g)
{
    ++*(int *)arg;
    return false;
}

struct patterns {
    int count, stop_at;
    char text[64];
};

static bool on_pattern(void *arg, const char *pattern)
{
    struct patterns *p = arg;
    size_t len = strlen(p->text);

    snprintf(p->text + len, sizeof(p->text) - len, "%s ", pattern);
    return ++p->count != p->stop_at;
}

static void answers(void **state)
{
    int groups = 0;
    struct patterns p = {0};
    broker_stats stats = BROKER_OPTIONS_INIT(broker_stats);

    fake_open(&f);
    broker *b = client_open(&f, NULL);
    fake_start(&f, script_answers);
    assert_int_equal(broker_queue_describe(b, "q", on_queue, on_group, &groups), BROKER_OK);
    assert_int_equal(groups, 2);
    assert_int_equal(broker_queue_describe(b, "q", NULL, stop_at_once, &groups), BROKER_OK);
    assert_int_equal(groups, 3);
    assert_int_equal(broker_queue_bindings(b, "q", on_pattern, &p), BROKER_OK);
    assert_string_equal(p.text, "a.* > ");
    assert_int_equal(broker_queue_describe(b, "q", NULL, NULL, NULL), BROKER_MALFORMED);
    p = (struct patterns){0};
    assert_int_equal(broker_queue_bindings(b, "q", on_pattern, &p), BROKER_MALFORMED);
    assert_int_equal(broker_get_stats(b, &stats), BROKER_OK);
    assert_int_equal(stats.scheduled, 100);
    assert_int_equal(stats.dead_lettered, 102);
    assert_int_equal(stats.duplicates, 105);
    /* An older program's struct ends before. */
    stats = (broker_stats){.size = offsetof(broker_stats, scheduled), .scheduled = 77};
    assert_int_equal(broker_get_stats(b, &stats), BROKER_OK);
    assert_int_equal(stats.scheduled, 77);
    fake_join(&f);
    broker_close(b);
    fake_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(asking),
        cmocka_unit_test(refused_at_once),
        cmocka_unit_test(answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
