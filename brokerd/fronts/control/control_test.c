/* Requests as maps become commands, completions become maps; what is wrong is named. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "control_internal.h"

/* ---- maps made of a short text -------------------------------------------------------------------------------------------- */

/* {"key":"text","n":1,"b":true,"m":{...},"z":null,"a":[]}: enough of JSON for these tests. */
static const char *pack_value(msgpack_packer *pk, const char *p)
{
    if (*p == '{') {
        size_t pairs = 0, depth = 0;
        for (const char *q = p; depth > 0 || q == p; q++) { /* no quotes in texts here */
            depth += *q == '{';
            depth -= *q == '}';
            pairs += depth == 1 && *q == ':';
        }
        msgpack_pack_map(pk, pairs);
        for (p++; *p != '}'; p += *p == ',') {
            p = pack_value(pk, p);
            assert_int_equal(*p, ':');
            p = pack_value(pk, p + 1);
        }
        return p + 1;
    }
    if (*p == '"') {
        const char *end = strchr(p + 1, '"');
        pack_str(pk, p + 1, (size_t)(end - p - 1));
        return end + 1;
    }
    if (*p == 't' || *p == 'f') {
        *p == 't' ? msgpack_pack_true(pk) : msgpack_pack_false(pk);
        return p + (*p == 't' ? 4 : 5);
    }
    if (*p == 'n' || *p == '[') {
        *p == 'n' ? msgpack_pack_nil(pk) : msgpack_pack_array(pk, 0);
        return p + (*p == 'n' ? 4 : 2);
    }
    char *end;
    if (*p == '-')
        msgpack_pack_int64(pk, strtoll(p, &end, 10));
    else
        msgpack_pack_uint64(pk, strtoull(p, &end, 10));
    assert_true(end > p);
    return end;
}

struct fixture {
    msgpack_sbuffer bytes;
    struct control_request r;
    msgpack_unpacked unpacked;
    char text[CONTROL_TEXT_BYTES];
    broker_error error;
    bool parsed;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    msgpack_sbuffer_init(&f->bytes);
    msgpack_unpacked_init(&f->unpacked);
    *state = f;
    return 0;
}

static void release(struct fixture *f)
{
    if (f->parsed)
        control_release(&f->r);
    f->parsed = false;
    msgpack_sbuffer_clear(&f->bytes);
    f->text[0] = '\0';
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    release(f);
    msgpack_unpacked_destroy(&f->unpacked);
    msgpack_sbuffer_destroy(&f->bytes);
    free(f);
    return 0;
}

static void pack(struct fixture *f, const char *map)
{
    msgpack_packer pk;
    msgpack_packer_init(&pk, &f->bytes, msgpack_sbuffer_write);
    assert_string_equal(pack_value(&pk, map), "");
}

static const struct command *parse(struct fixture *f, enum control_kind kind, const char *map)
{
    release(f);
    pack(f, map);
    f->error = control_parse(&f->r, kind, (const uint8_t *)f->bytes.data, f->bytes.size, f->text);
    f->parsed = true;
    if (f->error)
        fail_msg("%s: %s: %s", control_name(kind), map, f->text);
    assert_int_equal(control_refuse_unknown(&f->r, kind, f->text), BROKER_OK);
    return &f->r.command;
}

static void refuses(struct fixture *f, enum control_kind kind, const char *map, const char *text)
{
    release(f);
    pack(f, map);
    f->error = control_parse(&f->r, kind, (const uint8_t *)f->bytes.data, f->bytes.size, f->text);
    f->parsed = true;
    assert_int_equal(f->error, BROKER_INVALID_ARGUMENT);
    assert_string_equal(f->text, text);
}

static void assert_name(struct name name, const char *expected)
{
    assert_int_equal(name.len, strlen(expected));
    assert_memory_equal(name.bytes, expected, name.len);
}

/* ---- requests --------------------------------------------------------------------------------------------------------------- */

static void kinds_are_found_by_name(void **state)
{
    enum control_kind kind;
    for (int i = 0; i < CONTROL_KINDS; i++) {
        const char *name = control_name((enum control_kind)i);
        assert_non_null(name);
        assert_true(control_find(name, strlen(name), &kind));
        assert_int_equal(kind, i);
    }
    assert_string_equal(control_name(CONTROL_QUEUE_CREATE), "queue_create");
    assert_string_equal(control_name(CONTROL_READ), "read");
    assert_false(control_find("queue_creat", 11, &kind));
    assert_false(control_find("queue_create", 11, &kind));
    assert_false(control_find("", 0, &kind));
}

static void queue_requests(void **state)
{
    static const enum command_type types[] = {[CONTROL_QUEUE_DELETE] = COMMAND_QUEUE_DELETE,
                                              [CONTROL_QUEUE_PAUSE] = COMMAND_QUEUE_PAUSE,
                                              [CONTROL_QUEUE_RESUME] = COMMAND_QUEUE_RESUME,
                                              [CONTROL_QUEUE_PURGE] = COMMAND_QUEUE_PURGE,
                                              [CONTROL_QUEUE_DESCRIBE] = COMMAND_QUEUE_DESCRIBE};
    struct fixture *f = *state;
    for (int i = CONTROL_QUEUE_DELETE; i <= CONTROL_QUEUE_DESCRIBE; i++) {
        if (i == CONTROL_QUEUE_LIST)
            continue;
        const struct command *c = parse(f, (enum control_kind)i, "{\"queue\":\"q\"}");
        assert_int_equal(c->type, types[i]);
        assert_name(c->queue, "q");
        refuses(f, (enum control_kind)i, "{}", "\"queue\" is missing; give it");
        refuses(f, (enum control_kind)i, "{\"queue\":5}", "\"queue\" is not a string");
    }
    const struct command *c = parse(f, CONTROL_QUEUE_LIST, "{}");
    assert_int_equal(c->type, COMMAND_QUEUE_LIST);
    assert_int_equal(c->u.list.limit, 100);
    c = parse(f, CONTROL_QUEUE_LIST, "{\"prefix\":\"a\",\"after\":\"ab\",\"limit\":5}");
    assert_name(c->u.list.prefix, "a");
    assert_name(c->u.list.after, "ab");
    assert_int_equal(c->u.list.limit, 5);
    refuses(f, CONTROL_QUEUE_LIST, "{\"limit\":4294967296}",
            "\"limit\" is 4294967296; give a whole number from 0 to 4294967295");
}

/* Every setting there is, read; packed; and read again to the same. */
static void queue_settings_go_both_ways(void **state)
{
    static const char map[] =
        "{\"queue\":\"q\",\"retention\":\"log\",\"sync\":\"interval\",\"lease_ms\":1,\"max_message_bytes\":2,"
        "\"log_max_age_ms\":18446744073709551615,\"log_max_bytes\":4,\"log_max_messages\":5,\"max_attempts\":6,"
        "\"backoff\":\"exponential\",\"backoff_ms\":7,\"backoff_max_ms\":8,\"backoff_jitter_percent\":9,"
        "\"dead_letter\":\"d\",\"ttl_ms\":10,\"dead_letter_expired\":true,\"unused_ms\":11,\"dedup_ms\":12,"
        "\"dedup_count\":13,\"max_messages\":14,\"max_bytes\":15,\"overflow\":\"drop_oldest\",\"ordered_keys\":true,"
        "\"fair_keys\":true,\"compact\":true}";
    struct fixture *f = *state;
    const struct command *c = parse(f, CONTROL_QUEUE_CREATE, map);
    broker_queue_settings s = *c->u.queue.settings;
    assert_int_equal(c->type, COMMAND_QUEUE_CREATE);
    assert_ptr_equal(c->u.queue.settings, &f->r.queue_settings);
    assert_int_equal(s.retention, BROKER_RETENTION_LOG);
    assert_int_equal(s.sync, BROKER_SYNC_INTERVAL);
    assert_true(s.log_max_age_ms == UINT64_MAX);
    assert_int_equal(s.max_attempts, 6);
    assert_int_equal(s.backoff, BROKER_BACKOFF_EXPONENTIAL);
    assert_int_equal(s.backoff_jitter_percent, 9);
    assert_string_equal(s.dead_letter, "d");
    assert_int_equal(s.overflow, BROKER_OVERFLOW_DROP_OLDEST);
    assert_true(s.dead_letter_expired && s.ordered_keys && s.fair_keys && s.compact);
    assert_int_equal(s.max_bytes, 15);
    uint32_t every = 0;
    for (size_t i = 0; i < map_queue_settings_keys.count; i++)
        every |= map_queue_settings_keys.at[i].bit;
    assert_int_equal(s.set, every);

    msgpack_sbuffer packed;
    msgpack_packer pk;
    struct control_request again;
    msgpack_sbuffer_init(&packed);
    msgpack_packer_init(&pk, &packed, msgpack_sbuffer_write);
    msgpack_pack_map(&pk, 1 + map_queue_settings_keys.count);
    pack_key_str(&pk, "queue", "q", 1);
    map_queue_settings_pack(&pk, &s);
    assert_int_equal(control_parse(&again, CONTROL_QUEUE_ALTER, (uint8_t *)packed.data, packed.size, f->text),
                     BROKER_OK);
    assert_int_equal(again.command.type, COMMAND_QUEUE_ALTER);
    assert_string_equal(again.queue_settings.dead_letter, "d");
    again.queue_settings.dead_letter = s.dead_letter;
    assert_memory_equal(&again.queue_settings, &s, sizeof(s));
    control_release(&again);
    msgpack_sbuffer_destroy(&packed);

    c = parse(f, CONTROL_QUEUE_ALTER, "{\"queue\":\"q\",\"lease_ms\":5}");
    assert_int_equal(c->u.queue.settings->set, BROKER_SET_LEASE_MS);
    assert_int_equal(parse(f, CONTROL_QUEUE_CREATE, "{\"queue\":\"q\"}")->u.queue.settings->set, 0);
}

static void wrong_settings_are_named(void **state)
{
    struct fixture *f = *state;
    refuses(f, CONTROL_QUEUE_CREATE, "{\"queue\":\"q\",\"retention\":\"lo\"}",
            "\"retention\" is \"lo\"; give one of work log");
    refuses(f, CONTROL_QUEUE_CREATE, "{\"queue\":\"q\",\"retention\":\"\"}",
            "\"retention\" is \"\"; give one of work log");
    refuses(f, CONTROL_QUEUE_CREATE, "{\"queue\":\"q\",\"sync\":1}", "\"sync\" is not a string");
    refuses(f, CONTROL_QUEUE_CREATE, "{\"queue\":\"q\",\"compact\":1}",
            "\"compact\" is not a boolean; give true or false");
    refuses(f, CONTROL_QUEUE_CREATE, "{\"queue\":\"q\",\"lease_ms\":-1}",
            "\"lease_ms\" is -1; give a whole number from 0 to 4294967295");
    refuses(f, CONTROL_QUEUE_CREATE, "{\"queue\":\"q\",\"max_bytes\":\"1\"}",
            "\"max_bytes\" is not a whole number; give one from 0 to 18446744073709551615");
    refuses(f, CONTROL_QUEUE_ALTER, "{\"queue\":\"q\",\"backoff_ms\":5}",
            "\"backoff_ms\" without \"backoff\": they are set together; give both");
}

static void group_requests(void **state)
{
    struct fixture *f = *state;
    const struct command *c = parse(f, CONTROL_GROUP_CREATE, "{\"queue\":\"q\",\"group\":\"g\"}");
    assert_int_equal(c->type, COMMAND_GROUP_CREATE);
    assert_name(c->queue, "q");
    assert_name(c->group, "g");
    assert_int_equal(c->u.group.start, BROKER_START_BEGINNING);
    assert_int_equal(c->u.group.settings->set, 0);
    c = parse(f, CONTROL_GROUP_CREATE,
              "{\"queue\":\"q\",\"group\":\"g\",\"start\":\"time\",\"value\":5,\"single_active\":true,"
              "\"filter\":{\"topic\":\"a.>\",\"key\":\"k\",\"headers\":{\"h\":\"v\",\"i\":\"\"}}}");
    const broker_group_settings *s = c->u.group.settings;
    assert_int_equal(c->u.group.start, BROKER_START_TIME);
    assert_int_equal(c->u.group.value, 5);
    assert_int_equal(s->set, BROKER_GROUP_SET_FILTER | BROKER_GROUP_SET_SINGLE_ACTIVE);
    assert_true(s->single_active);
    assert_string_equal(s->filter.topic, "a.>");
    assert_string_equal(s->filter.key, "k");
    assert_int_equal(s->filter.header_count, 2);
    assert_string_equal(s->filter.headers[1].name, "i");
    assert_string_equal(s->filter.headers[1].value, "");
    c = parse(f, CONTROL_GROUP_ALTER, "{\"queue\":\"q\",\"group\":\"g\",\"filter\":{}}");
    assert_int_equal(c->type, COMMAND_GROUP_ALTER);
    assert_int_equal(c->u.group.settings->set, BROKER_GROUP_SET_FILTER);
    assert_null(c->u.group.settings->filter.topic);
    c = parse(f, CONTROL_GROUP_SEEK, "{\"queue\":\"q\",\"group\":\"g\",\"start\":\"end\"}");
    assert_int_equal(c->type, COMMAND_GROUP_SEEK);
    assert_int_equal(c->u.group.start, BROKER_START_END);
    assert_int_equal(parse(f, CONTROL_GROUP_DELETE, "{\"queue\":\"q\",\"group\":\"g\"}")->type, COMMAND_GROUP_DELETE);
    refuses(f, CONTROL_GROUP_SEEK, "{\"queue\":\"q\"}", "\"group\" is missing; give it");
    refuses(f, CONTROL_GROUP_SEEK, "{\"queue\":\"q\",\"group\":\"g\",\"start\":\"seq\"}",
            "\"value\" is missing; give it");
    refuses(f, CONTROL_GROUP_SEEK, "{\"queue\":\"q\",\"group\":\"g\",\"start\":\"first\"}",
            "\"start\" is \"first\"; give one of beginning end seq time");
    refuses(f, CONTROL_GROUP_ALTER, "{\"queue\":\"q\",\"group\":\"g\",\"filter\":[]}",
            "\"filter\" is not a map of \"topic\", \"key\" and \"headers\"");
    refuses(f, CONTROL_GROUP_ALTER, "{\"queue\":\"q\",\"group\":\"g\",\"filter\":{\"headers\":{\"h\":1}}}",
            "\"headers\" is not a string");
    refuses(f, CONTROL_GROUP_ALTER, "{\"queue\":\"q\",\"group\":\"g\",\"filter\":{\"headers\":\"h\"}}",
            "\"headers\" of \"filter\" is not a map of at most 32 strings");
    refuses(f, CONTROL_GROUP_ALTER, "{\"queue\":\"q\",\"group\":\"g\",\"filter\":{1:2}}",
            "\"filter\" is not a map of \"topic\", \"key\" and \"headers\"");
}

static void bindings(void **state)
{
    struct fixture *f = *state;
    const struct command *c = parse(f, CONTROL_BIND, "{\"queue\":\"q\",\"pattern\":\"a.*\"}");
    assert_int_equal(c->type, COMMAND_BIND);
    assert_name(c->u.bind.pattern, "a.*");
    assert_int_equal(parse(f, CONTROL_UNBIND, "{\"queue\":\"q\",\"pattern\":\"a.*\"}")->type, COMMAND_UNBIND);
    refuses(f, CONTROL_BIND, "{\"queue\":\"q\"}", "\"pattern\" is missing; give it");
}

static void scans_and_peeks(void **state)
{
    struct fixture *f = *state;
    const struct command *c = parse(f, CONTROL_PEEK, "{\"queue\":\"q\"}");
    assert_int_equal(c->type, COMMAND_SCAN);
    assert_int_equal(c->u.scan.action, SCAN_PEEK);
    assert_int_equal(c->u.scan.state, BROKER_SCAN_ANY);
    assert_int_equal(c->u.scan.max_messages, 100);
    c = parse(
        f, CONTROL_SCAN,
        "{\"queue\":\"q\",\"action\":\"move\",\"target\":\"t\",\"state\":\"scheduled\",\"from_seq\":1,\"to_seq\":2,"
        "\"from_ms\":3,\"to_ms\":4,\"filter\":{\"key\":\"k\"},\"max_messages\":5,\"max_scanned\":6}");
    assert_int_equal(c->u.scan.action, SCAN_MOVE);
    assert_int_equal(c->u.scan.state, BROKER_SCAN_SCHEDULED);
    assert_name(c->u.scan.target, "t");
    assert_int_equal(c->u.scan.from_seq * 1000 + c->u.scan.to_seq * 100 + c->u.scan.from_ms * 10 + c->u.scan.to_ms,
                     1234);
    assert_string_equal(c->u.scan.filter.key, "k");
    assert_int_equal(c->u.scan.max_messages, 5);
    assert_int_equal(c->u.scan.max_scanned, 6);
    assert_int_equal(parse(f, CONTROL_SCAN, "{\"queue\":\"q\",\"action\":\"count\"}")->u.scan.max_messages, 1000000);
    assert_int_equal(parse(f, CONTROL_PEEK, "{\"queue\":\"q\",\"max_bytes\":7}")->u.scan.max_bytes, 7);
    refuses(f, CONTROL_SCAN, "{\"queue\":\"q\"}", "\"action\" is missing; give it");
    refuses(f, CONTROL_SCAN, "{\"queue\":\"q\",\"action\":\"peek\"}",
            "\"action\" is \"peek\"; give one of count delete move redrive");
    refuses(f, CONTROL_PEEK, "{\"queue\":\"q\",\"state\":\"ready\"}",
            "\"state\" is \"ready\"; give one of any scheduled available");
}

static void reschedules(void **state)
{
    struct fixture *f = *state;
    const struct command *c = parse(f, CONTROL_RESCHEDULE, "{\"queue\":\"q\",\"seq\":5,\"delay_ms\":6}");
    assert_int_equal(c->u.reschedule.seq, 5);
    assert_int_equal(c->u.reschedule.due_ms, 6);
    assert_true(c->u.reschedule.is_delay);
    c = parse(f, CONTROL_RESCHEDULE, "{\"queue\":\"q\",\"seq\":5,\"due_ms\":7}");
    assert_int_equal(c->u.reschedule.due_ms, 7);
    assert_false(c->u.reschedule.is_delay);
    refuses(f, CONTROL_RESCHEDULE, "{\"queue\":\"q\",\"seq\":5}", "give one of \"due_ms\" and \"delay_ms\"");
    refuses(f, CONTROL_RESCHEDULE, "{\"queue\":\"q\",\"seq\":5,\"due_ms\":1,\"delay_ms\":1}",
            "give one of \"due_ms\" and \"delay_ms\"");
    refuses(f, CONTROL_RESCHEDULE, "{\"queue\":\"q\",\"seq\":0,\"due_ms\":1}",
            "\"seq\" is 0; give a whole number from 1 to 18446744073709551615");
}

static void consuming(void **state)
{
    struct fixture *f = *state;
    const struct command *c = parse(f, CONTROL_SUBSCRIBE,
                                    "{\"queue\":\"q\",\"group\":\"g\",\"lease_ms\":1,\"on_send\":true,\"priority\":9,"
                                    "\"max_unsettled\":3}");
    assert_int_equal(c->type, COMMAND_SUBSCRIBE);
    assert_name(c->group, "g");
    assert_int_equal(c->u.subscribe.lease_ms, 1);
    assert_true(c->u.subscribe.settle_on_send);
    assert_int_equal(c->u.subscribe.priority, 9);
    assert_int_equal(c->u.subscribe.max_unsettled, 3);
    refuses(f, CONTROL_SUBSCRIBE, "{\"queue\":\"q\",\"priority\":10}",
            "\"priority\" is 10; give a whole number from 0 to 9");
    assert_int_equal(parse(f, CONTROL_UNSUBSCRIBE, "{}")->type, COMMAND_UNSUBSCRIBE);
    c = parse(f, CONTROL_LEASE, "{\"queue\":\"q\"}");
    assert_int_equal(c->type, COMMAND_LEASE);
    assert_int_equal(c->group.len, 0);
    assert_int_equal(c->u.lease.max_messages, 1);
    c = parse(f, CONTROL_LEASE,
              "{\"queue\":\"q\",\"group\":\"g\",\"max\":2,\"max_bytes\":3,\"lease_ms\":4,\"wait_ms\":5}");
    assert_int_equal(c->u.lease.max_messages, 2);
    assert_int_equal(c->u.lease.max_bytes, 3);
    assert_int_equal(c->u.lease.lease_ms, 4);
    assert_int_equal(c->u.lease.wait_ms, 5);
}

static void reads(void **state)
{
    struct fixture *f = *state;
    const struct command *c = parse(f, CONTROL_READ, "{\"queue\":\"q\"}");
    assert_int_equal(c->type, COMMAND_READ);
    assert_int_equal(c->u.read.max_messages, 100);
    assert_int_equal(c->u.read.from_seq, 0);
    assert_false(c->u.read.from_end);
    c = parse(f, CONTROL_READ,
              "{\"queue\":\"q\",\"from_seq\":5,\"max\":6,\"max_bytes\":7,\"wait_ms\":8,\"filter\":{\"topic\":\"a\"}}");
    assert_int_equal(c->u.read.from_seq, 5);
    assert_int_equal(c->u.read.max_messages, 6);
    assert_int_equal(c->u.read.max_bytes, 7);
    assert_int_equal(c->u.read.wait_ms, 8);
    assert_string_equal(c->u.read.filter.topic, "a");
    assert_true(parse(f, CONTROL_READ, "{\"queue\":\"q\",\"from\":\"end\"}")->u.read.from_end);
    assert_false(parse(f, CONTROL_READ, "{\"queue\":\"q\",\"from\":\"beginning\"}")->u.read.from_end);
    assert_int_equal(parse(f, CONTROL_READ, "{\"queue\":\"q\",\"from_ms\":9}")->u.read.from_ms, 9);
    refuses(f, CONTROL_READ, "{\"queue\":\"q\",\"from_seq\":1,\"from\":\"end\"}",
            "give one of \"from_seq\", \"from\" and \"from_ms\"");
    refuses(f, CONTROL_READ, "{\"queue\":\"q\",\"from\":\"start\"}",
            "\"from\" is \"start\"; give one of beginning end");
    refuses(f, CONTROL_READ, "{\"queue\":\"q\",\"wait_ms\":4294967295}", /* that would be for ever */
            "\"wait_ms\" is 4294967295; give a whole number from 0 to 4294967294");
}

static void bodies_that_are_no_maps_are_malformed(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
    } bad[] = {{"\x90", 1}, {"\x81\x01\x01", 3}, {"\xc1", 1}, {"\x80\x80", 2}, {"\x81\xa1", 2}};
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        release(f);
        assert_int_equal(control_parse(&f->r, CONTROL_UNSUBSCRIBE, (const uint8_t *)bad[i].bytes, bad[i].len, f->text),
                         BROKER_MALFORMED);
        assert_string_not_equal(f->text, "");
        f->parsed = true;
    }
    release(f);
    assert_int_equal(control_parse(&f->r, CONTROL_UNSUBSCRIBE, NULL, 0, f->text), BROKER_OK); /* none is an empty one */
    f->parsed = true;
}

/* A map that somebody unpacked: as from its bytes. */
static void objects_are_parsed_alike(void **state)
{
    struct fixture *f = *state;
    size_t offset = 0;
    pack(f, "{\"queue\":\"q\",\"dead_letter\":\"d\",\"lease_ms\":5}");
    assert_int_equal(msgpack_unpack_next(&f->unpacked, f->bytes.data, f->bytes.size, &offset), MSGPACK_UNPACK_SUCCESS);
    assert_int_equal(control_parse_object(&f->r, CONTROL_QUEUE_CREATE, &f->unpacked.data, f->text), BROKER_OK);
    assert_name(f->r.command.queue, "q");
    assert_string_equal(f->r.command.u.queue.settings->dead_letter, "d");
    assert_int_equal(f->r.command.u.queue.settings->set, BROKER_SET_DEAD_LETTER | BROKER_SET_LEASE_MS);
    control_release(&f->r);
    assert_int_equal(control_parse_object(&f->r, CONTROL_BIND, &f->unpacked.data, f->text), BROKER_INVALID_ARGUMENT);
    assert_string_equal(f->text, "\"pattern\" is missing; give it");
    control_release(&f->r);
    msgpack_object_kv pair = {.key = {.type = MSGPACK_OBJECT_NIL}};
    msgpack_object map = {.type = MSGPACK_OBJECT_MAP, .via.map = {1, &pair}};
    assert_int_equal(control_parse_object(&f->r, CONTROL_BIND, &map, f->text), BROKER_MALFORMED);
    control_release(&f->r);
    map.type = MSGPACK_OBJECT_NIL;
    assert_int_equal(control_parse_object(&f->r, CONTROL_BIND, &map, f->text), BROKER_MALFORMED);
    control_release(&f->r);
}

static void knows(enum control_kind kind, const char *key, bool expected)
{
    if (control_knows(kind, key, strlen(key)) != expected)
        fail_msg("%s and \"%s\"", control_name(kind), key);
}

static void keys_one_by_one_are_those_that_are_known(void **state)
{
    for (int kind = 0; kind < CONTROL_KINDS; kind++) {
        size_t n = 0;
        for (const char *key; (key = control_key((enum control_kind)kind, n)); n++)
            knows((enum control_kind)kind, key, true);
        assert_in_range(n, kind == CONTROL_UNSUBSCRIBE ? 0 : 1, CONTROL_KEYS_MAX);
    }
    assert_string_equal(control_key(CONTROL_QUEUE_CREATE, 0), "queue");
    assert_null(control_key(CONTROL_QUEUE_PAUSE, 1));
}

static void requests_know_their_keys(void **state)
{
    knows(CONTROL_QUEUE_CREATE, "queue", true);
    knows(CONTROL_QUEUE_CREATE, "dedup_count", true);
    knows(CONTROL_QUEUE_CREATE, "filter", false);
    knows(CONTROL_QUEUE_CREATE, "dedup_coun", false);
    knows(CONTROL_QUEUE_CREATE, "dedup_countt", false);
    knows(CONTROL_QUEUE_DELETE, "retention", false);
    knows(CONTROL_GROUP_CREATE, "single_active", true);
    knows(CONTROL_GROUP_CREATE, "start", true);
    knows(CONTROL_GROUP_ALTER, "start", false);
    knows(CONTROL_GROUP_SEEK, "filter", false);
    knows(CONTROL_PEEK, "max_bytes", true);
    knows(CONTROL_SCAN, "max_bytes", false);
    knows(CONTROL_UNSUBSCRIBE, "queue", false);
    knows(CONTROL_READ, "from", true);
}

static void refuses_key(struct fixture *f, enum control_kind kind, const char *map, const char *text)
{
    release(f);
    pack(f, map);
    assert_int_equal(control_parse(&f->r, kind, (const uint8_t *)f->bytes.data, f->bytes.size, f->text), BROKER_OK);
    f->parsed = true;
    assert_int_equal(control_refuse_unknown(&f->r, kind, f->text), BROKER_INVALID_ARGUMENT);
    assert_string_equal(f->text, text);
}

static void unknown_keys_can_be_refused(void **state)
{
    struct fixture *f = *state;
    refuses_key(f, CONTROL_BIND, "{\"queue\":\"q\",\"pattern\":\"p\",\"patern\":1}",
                "bind has no key \"patern\"; see docs/PROTOCOL.md for those it has");
    refuses_key(f, CONTROL_SCAN, "{\"queue\":\"q\",\"action\":\"delete\",\"filter\":{\"topics\":\"a\"}}",
                "a filter has no key \"topics\"; see docs/PROTOCOL.md for those it has");
    /* A key that stands there twice: the first holds, the second may be anything. */
    refuses_key(f, CONTROL_PEEK, "{\"queue\":\"q\",\"filter\":{},\"filter\":5,\"filter\":{1:2}}",
                "a filter has no key \"\"; see docs/PROTOCOL.md for those it has");
}

/* ---- answers ---------------------------------------------------------------------------------------------------------------- */

struct answer {
    msgpack_sbuffer bytes;
    struct wire_map map;
};

static bool answer_get(struct answer *a, const struct completion *done)
{
    msgpack_packer pk;
    msgpack_sbuffer_init(&a->bytes);
    msgpack_packer_init(&pk, &a->bytes, msgpack_sbuffer_write);
    if (!control_answer(&pk, done)) {
        assert_int_equal(a->bytes.size, 0);
        return false;
    }
    assert_int_equal(wire_map_open(&a->map, (uint8_t *)a->bytes.data, a->bytes.size), BROKER_OK);
    return true;
}

static void answer_release(struct answer *a)
{
    wire_map_close(&a->map);
    msgpack_sbuffer_destroy(&a->bytes);
}

static uint64_t number_of(const msgpack_object *map, const char *key)
{
    struct wire_map m = {.map = &map->via.map};
    uint64_t n = 0;
    assert_int_equal(map->type, MSGPACK_OBJECT_MAP);
    if (!wire_map_has(&m, key) || !wire_map_u64(&m, key, 0, UINT64_MAX, &n))
        fail_msg("\"%s\" is missing, or no number", key);
    return n;
}

static void most_answers_are_empty_or_none(void **state)
{
    static const enum command_type none[] = {COMMAND_PUBLISH, COMMAND_TRANSACT, COMMAND_LEASE, COMMAND_READ,
                                             COMMAND_ACK,     COMMAND_NACK,     COMMAND_EXTEND};
    static const enum command_type empty[] = {COMMAND_QUEUE_CREATE, COMMAND_GROUP_SEEK, COMMAND_BIND, COMMAND_SUBSCRIBE,
                                              COMMAND_RESCHEDULE};
    struct answer a;
    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
        assert_false(answer_get(&a, &(struct completion){.type = none[i]}));
    assert_false(answer_get(&a, &(struct completion){.type = COMMAND_SCAN, .u.scan = {.peek = true}}));
    for (size_t i = 0; i < sizeof(empty) / sizeof(empty[0]); i++) {
        assert_true(answer_get(&a, &(struct completion){.type = empty[i]}));
        assert_int_equal(a.map.map->size, 0);
        answer_release(&a);
    }
}

static void counts_are_told(void **state)
{
    struct answer a;
    uint64_t n = 0;
    assert_true(answer_get(&a, &(struct completion){.type = COMMAND_QUEUE_PURGE, .u.purge = {.purged = 7}}));
    assert_true(wire_map_u64(&a.map, "purged", 0, 99, &n) && n == 7);
    answer_release(&a);
    assert_true(answer_get(
        &a, &(struct completion){.type = COMMAND_SCAN, .u.scan = {.matched = 1, .skipped = 2, .next_seq = 3}}));
    assert_true(wire_map_u64(&a.map, "matched", 0, 99, &n) && n == 1);
    assert_true(wire_map_u64(&a.map, "skipped", 0, 99, &n) && n == 2);
    assert_true(wire_map_u64(&a.map, "next_seq", 0, 99, &n) && n == 3);
    answer_release(&a);
}

/* Every number of an info has a value of its own here, so that one under another's name is seen. */
static broker_queue_info some_queue(void)
{
    return (broker_queue_info){.name = "q",
                               .id = 1,
                               .settings = {.retention = BROKER_RETENTION_LOG, .lease_ms = 30, .dead_letter = NULL},
                               .paused = true,
                               .first_seq = 2,
                               .last_seq = 3,
                               .messages = 4,
                               .bytes = 5,
                               .groups = 6,
                               .consumers = 7,
                               .scheduled = 8,
                               .bindings = 9,
                               .published = 10,
                               .expired = 11,
                               .dead_lettered = 12,
                               .dropped = 13,
                               .duplicates = 14,
                               .delivered = 15,
                               .acked = 16,
                               .redelivered = 17,
                               .ready = 18,
                               .leased = 19,
                               .oldest_ms = 20,
                               .dead = 21};
}

static void queues_are_described(void **state)
{
    static const char *const numbers[] = {
        "id",        "first_seq", "last_seq",    "messages", "bytes",         "groups",    "consumers",
        "scheduled", "bindings",  "published",   "expired",  "dead_lettered", "dropped",   "duplicates",
        "delivered", "acked",     "redelivered", "ready",    "leased",        "oldest_ms", "dead"};
    const char *patterns[] = {"a.*", ">"};
    broker_queue_info q = some_queue();
    broker_header header = {"h", "v"};
    broker_group_info g = {
        .queue = "q",
        .name = "g",
        .floor_seq = 1,
        .cursor_seq = 2,
        .ready = 3,
        .leased = 4,
        .delayed = 5,
        .consumers = 6,
        .blocked = 7,
        .lag = 8,
        .settings = {.filter = {.key = "k", .headers = &header, .header_count = 1}, .single_active = true}};
    struct answer a;
    assert_true(answer_get(
        &a,
        &(struct completion){
            .type = COMMAND_QUEUE_DESCRIBE,
            .u.describe = {.queue = &q, .groups = &g, .group_count = 1, .bindings = patterns, .binding_count = 2}}));
    const msgpack_object *queue = wire_map_find(&a.map, "queue"), *groups = wire_map_find(&a.map, "groups"),
                         *bound = wire_map_find(&a.map, "bindings");
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        assert_int_equal(number_of(queue, numbers[i]), i + 1);
    struct wire_map m = {.map = &queue->via.map};
    const char *text;
    size_t len;
    bool truth = false;
    assert_true(wire_map_bool(&m, "paused", &truth) && truth);
    assert_true(wire_map_str(&m, "retention", 9, &text, &len) && len == 3 && memcmp(text, "log", 3) == 0);
    assert_true(wire_map_str(&m, "dead_letter", 9, &text, &len) && len == 0);
    for (size_t i = 0; i < map_queue_settings_keys.count; i++)
        assert_true(wire_map_has(&m, map_queue_settings_keys.at[i].name));
    assert_int_equal(groups->via.array.size, 1);
    static const char *const of_group[] = {"floor_seq", "cursor_seq", "ready",   "leased",
                                           "delayed",   "consumers",  "blocked", "lag"};
    for (size_t i = 0; i < sizeof(of_group) / sizeof(of_group[0]); i++)
        assert_int_equal(number_of(&groups->via.array.ptr[0], of_group[i]), i + 1);
    m.map = &groups->via.array.ptr[0].via.map;
    m.map = &wire_map_find(&m, "filter")->via.map;
    assert_int_equal(m.map->size, 2); /* no topic */
    assert_true(wire_map_has(&m, "key"));
    assert_int_equal(wire_map_find(&m, "headers")->via.map.size, 1);
    assert_int_equal(bound->via.array.size, 2);
    answer_release(&a);
}

static void lists_are_told(void **state)
{
    broker_queue_info queues[] = {some_queue(), some_queue()};
    struct answer a;
    bool more = false;
    assert_true(answer_get(
        &a, &(struct completion){.type = COMMAND_QUEUE_LIST, .u.list = {.queues = queues, .count = 2, .more = true}}));
    assert_int_equal(wire_map_find(&a.map, "queues")->via.array.size, 2);
    assert_true(wire_map_bool(&a.map, "more", &more) && more);
    answer_release(&a);
}

static void statistics_are_told(void **state)
{
    msgpack_sbuffer bytes;
    msgpack_packer pk;
    struct wire_map m;
    uint64_t n = 0;
    msgpack_sbuffer_init(&bytes);
    msgpack_packer_init(&pk, &bytes, msgpack_sbuffer_write);
    control_pack_stats(&pk, &(broker_stats){.uptime_ms = 1, .published = 2, .segments = 3, .duplicates = 4});
    assert_int_equal(wire_map_open(&m, (uint8_t *)bytes.data, bytes.size), BROKER_OK);
    assert_int_equal(m.map->size, 21);
    assert_true(wire_map_u64(&m, "uptime_ms", 0, 9, &n) && n == 1);
    assert_true(wire_map_u64(&m, "published", 0, 9, &n) && n == 2);
    assert_true(wire_map_u64(&m, "segments", 0, 9, &n) && n == 3);
    assert_true(wire_map_u64(&m, "duplicates", 0, 9, &n) && n == 4);
    assert_true(wire_map_has(&m, "version"));
    wire_map_close(&m);
    msgpack_sbuffer_destroy(&bytes);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(kinds_are_found_by_name),
        T(queue_requests),
        T(queue_settings_go_both_ways),
        T(wrong_settings_are_named),
        T(group_requests),
        T(bindings),
        T(scans_and_peeks),
        T(reschedules),
        T(consuming),
        T(reads),
        T(bodies_that_are_no_maps_are_malformed),
        T(objects_are_parsed_alike),
        T(keys_one_by_one_are_those_that_are_known),
        T(requests_know_their_keys),
        T(unknown_keys_can_be_refused),
        T(most_answers_are_empty_or_none),
        T(counts_are_told),
        T(queues_are_described),
        T(lists_are_told),
        T(statistics_are_told),
    };
    return cmocka_run_group_tests_name("control", tests, NULL, NULL);
}
