/* Requests as maps from anybody: what is taken holds together, what is refused says why, and both ways of parsing agree. */
#include "control.h"
#include "fuzz.h"

static void check_name(struct name name)
{
    uint8_t sum = 0;
    for (size_t i = 0; i < name.len; i++)
        sum ^= (uint8_t)name.bytes[i];
    (void)sum;
}

static void check_filter(const broker_filter *f)
{
    CHECK(f->header_count <= 32);
    for (size_t i = 0; i < f->header_count; i++)
        CHECK(strlen(f->headers[i].name) + strlen(f->headers[i].value) < SIZE_MAX);
    if (f->topic)
        CHECK(strlen(f->topic) <= TOPIC_MAX_BYTES);
    if (f->key)
        CHECK(strlen(f->key) <= UINT16_MAX);
}

/* Everything that it points to is there: ASan watches. */
static void check_command(enum control_kind kind, const struct command *c)
{
    check_name(c->queue);
    check_name(c->group);
    switch (kind) {
    case CONTROL_QUEUE_CREATE:
    case CONTROL_QUEUE_ALTER:
        if (c->u.queue.settings->dead_letter)
            CHECK(strlen(c->u.queue.settings->dead_letter) <= NAME_MAX_BYTES);
        break;
    case CONTROL_GROUP_CREATE:
    case CONTROL_GROUP_ALTER: check_filter(&c->u.group.settings->filter); break;
    case CONTROL_QUEUE_LIST:
        check_name(c->u.list.prefix);
        check_name(c->u.list.after);
        break;
    case CONTROL_BIND:
    case CONTROL_UNBIND: check_name(c->u.bind.pattern); break;
    case CONTROL_PEEK:
    case CONTROL_SCAN:
        check_name(c->u.scan.target);
        check_filter(&c->u.scan.filter);
        break;
    case CONTROL_READ: check_filter(&c->u.read.filter); break;
    default: break;
    }
}

/* An info is a map of settings, too: with the names in it, it is a request. */
static void info_as_request(struct control_request *r, enum control_kind kind, const msgpack_sbuffer *info,
                            msgpack_unpacked *u)
{
    static const msgpack_object name = {.type = MSGPACK_OBJECT_STR, .via.str = {1, "x"}};
    static const char *const names[] = {"queue", "group"};
    char text[CONTROL_TEXT_BYTES];
    size_t offset = 0;
    CHECK(msgpack_unpack_next(u, info->data, info->size, &offset) == MSGPACK_UNPACK_SUCCESS);
    const msgpack_object_map *map = &u->data.via.map;
    msgpack_object_kv *pairs = msgpack_zone_malloc(u->zone, (map->size + 2) * sizeof(*pairs));
    CHECK(pairs);
    memcpy(pairs, map->ptr, map->size * sizeof(*pairs));
    for (uint32_t i = 0; i < 2; i++)
        pairs[map->size + i] =
            (msgpack_object_kv){.key = {.type = MSGPACK_OBJECT_STR, .via.str = {5, names[i]}}, .val = name};
    msgpack_object request = {.type = MSGPACK_OBJECT_MAP, .via.map = {map->size + 2, pairs}};
    CHECK(control_parse_object(r, kind, &request, text) == BROKER_OK);
}

static bool same_text(const char *a, const char *b)
{
    return strcmp(a ? a : "", b ? b : "") == 0;
}

static void queue_settings_again(const broker_queue_settings *given)
{
    broker_queue_info q = {.name = "q", .settings = *given};
    msgpack_sbuffer bytes;
    msgpack_packer pk;
    msgpack_unpacked u;
    struct control_request r;
    /* Words that were not set are none. */
    q.settings.retention = given->set & BROKER_SET_RETENTION ? given->retention : BROKER_RETENTION_WORK;
    q.settings.sync = given->set & BROKER_SET_SYNC ? given->sync : BROKER_SYNC_ALWAYS;
    q.settings.backoff = given->set & BROKER_SET_BACKOFF ? given->backoff : BROKER_BACKOFF_NONE;
    q.settings.overflow = given->set & BROKER_SET_OVERFLOW ? given->overflow : BROKER_OVERFLOW_REJECT;
    msgpack_sbuffer_init(&bytes);
    msgpack_unpacked_init(&u);
    msgpack_packer_init(&pk, &bytes, msgpack_sbuffer_write);
    control_pack_queue(&pk, &q);
    info_as_request(&r, CONTROL_QUEUE_ALTER, &bytes, &u);
    CHECK(same_text(r.queue_settings.dead_letter, q.settings.dead_letter));
    r.queue_settings.dead_letter = q.settings.dead_letter;
    r.queue_settings.set = q.settings.set;
    CHECK(memcmp(&r.queue_settings, &q.settings, sizeof(q.settings)) == 0);
    control_release(&r);
    msgpack_unpacked_destroy(&u);
    msgpack_sbuffer_destroy(&bytes);
}

static void group_settings_again(const broker_group_settings *given)
{
    broker_group_info g = {.name = "g", .settings = *given};
    const broker_filter *a = &given->filter;
    msgpack_sbuffer bytes;
    msgpack_packer pk;
    msgpack_unpacked u;
    struct control_request r;
    msgpack_sbuffer_init(&bytes);
    msgpack_unpacked_init(&u);
    msgpack_packer_init(&pk, &bytes, msgpack_sbuffer_write);
    control_pack_group(&pk, &g);
    info_as_request(&r, CONTROL_GROUP_ALTER, &bytes, &u);
    const broker_filter *b = &r.group_settings.filter;
    CHECK(r.group_settings.single_active == given->single_active && a->header_count == b->header_count);
    CHECK(same_text(a->topic, b->topic) && same_text(a->key, b->key) && !a->key == !b->key && !a->topic == !b->topic);
    for (size_t i = 0; i < a->header_count; i++)
        CHECK(same_text(a->headers[i].name, b->headers[i].name) && same_text(a->headers[i].value, b->headers[i].value));
    control_release(&r);
    msgpack_unpacked_destroy(&u);
    msgpack_sbuffer_destroy(&bytes);
}

static broker_error parse_object(enum control_kind kind, const uint8_t *bytes, size_t len,
                                 char text[CONTROL_TEXT_BYTES])
{
    struct control_request r;
    msgpack_unpacked u;
    size_t offset = 0;
    broker_error error = BROKER_MALFORMED;
    msgpack_unpacked_init(&u);
    if (msgpack_unpack_next(&u, (const char *)bytes, len, &offset) == MSGPACK_UNPACK_SUCCESS) {
        error = control_parse_object(&r, kind, &u.data, text);
        if (error == BROKER_OK) {
            check_command(kind, &r.command);
            (void)control_refuse_unknown(&r, kind, text);
        }
        control_release(&r);
    }
    msgpack_unpacked_destroy(&u);
    return error;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct input in = {bytes, len};
    enum control_kind kind = (enum control_kind)(input_number(&in, 1) % CONTROL_KINDS);
    struct control_request r;
    char text[CONTROL_TEXT_BYTES] = "", text2[CONTROL_TEXT_BYTES] = "";
    broker_error error = control_parse(&r, kind, in.bytes, in.len, text);
    CHECK(error == BROKER_OK || error == BROKER_INVALID_ARGUMENT || error == BROKER_MALFORMED);
    CHECK(strnlen(text, sizeof(text)) < sizeof(text) && (error == BROKER_OK) == (text[0] == '\0'));
    if (error == BROKER_OK) {
        check_command(kind, &r.command);
        if (kind == CONTROL_QUEUE_CREATE || kind == CONTROL_QUEUE_ALTER)
            queue_settings_again(r.command.u.queue.settings);
        if (kind == CONTROL_GROUP_CREATE || kind == CONTROL_GROUP_ALTER)
            group_settings_again(r.command.u.group.settings);
        broker_error known = control_refuse_unknown(&r, kind, text);
        CHECK(known == BROKER_OK || (known == BROKER_INVALID_ARGUMENT && text[0] != '\0'));
        for (uint32_t i = 0; known == BROKER_OK && r.map.map && i < r.map.map->size; i++)
            CHECK(control_knows(kind, r.map.map->ptr[i].key.via.str.ptr, r.map.map->ptr[i].key.via.str.size));
    }
    if (error != BROKER_MALFORMED && in.len > 0) {
        text[0] = '\0';
        CHECK(parse_object(kind, in.bytes, in.len, text2) == error);
    }
    control_release(&r);
    return 0;
}
