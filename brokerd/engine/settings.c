/* What can be set of a queue: defaults, ranges, what fits together, and its bytes in the log (docs/STORAGE.md). */
#include <stdlib.h>
#include <string.h>

#include "engine_internal.h"

enum {
    QUEUE_BODY_V1_BYTES = 48, /* of version 1, before the name; version 2 begins with the same */
    QUEUE_BODY_BYTES = 104,
    DEFAULT_DEDUP_MS = 120000,
    DEFAULT_DEDUP_COUNT = 100000,
    MAX_BYTES_LEAST = 64, /* a record without key, headers and body takes 40 */
};
static const char DEAD_SUFFIX[] = ".dead";

#define YEARS_100_MS (100ull * 366 * 86400000)

enum { FLAG_DEAD_LETTER_EXPIRED = 1, FLAG_ORDERED_KEYS = 2, FLAG_FAIR_KEYS = 4, FLAG_COMPACT = 8 };

void settings_default(const struct engine *e, struct queue_settings *s)
{
    *s = (struct queue_settings){.retention = BROKER_RETENTION_WORK,
                                 .sync = BROKER_SYNC_ALWAYS,
                                 .lease_ms = e->options.default_lease_ms,
                                 .dedup_ms = DEFAULT_DEDUP_MS,
                                 .dedup_count = DEFAULT_DEDUP_COUNT,
                                 .ordered_keys = true};
}

bool settings_copy(struct queue_settings *to, const struct queue_settings *from)
{
    char *dead_letter = from->dead_letter ? strdup(from->dead_letter) : NULL;
    if (from->dead_letter && !dead_letter) {
        return false;
    }
    *to = *from;
    to->dead_letter = dead_letter;
    return true;
}

void settings_release(struct queue_settings *s)
{
    free(s->dead_letter);
    s->dead_letter = NULL;
}

bool settings_same(const struct queue_settings *a, const struct queue_settings *b)
{
    bool same_dead_letter = a->dead_letter && b->dead_letter ? strcmp(a->dead_letter, b->dead_letter) == 0
                                                             : a->dead_letter == b->dead_letter;
    return same_dead_letter && a->retention == b->retention && a->sync == b->sync && a->lease_ms == b->lease_ms &&
           a->max_message_bytes == b->max_message_bytes && a->log_max_age_ms == b->log_max_age_ms &&
           a->log_max_bytes == b->log_max_bytes && a->log_max_messages == b->log_max_messages &&
           a->max_attempts == b->max_attempts && a->backoff == b->backoff && a->backoff_ms == b->backoff_ms &&
           a->backoff_max_ms == b->backoff_max_ms && a->backoff_jitter_percent == b->backoff_jitter_percent &&
           a->ttl_ms == b->ttl_ms && a->dead_letter_expired == b->dead_letter_expired && a->unused_ms == b->unused_ms &&
           a->dedup_ms == b->dedup_ms && a->dedup_count == b->dedup_count && a->max_messages == b->max_messages &&
           a->max_bytes == b->max_bytes && a->overflow == b->overflow && a->ordered_keys == b->ordered_keys &&
           a->fair_keys == b->fair_keys && a->compact == b->compact;
}

#define MERGE(bit, field)                                                                                              \
    do {                                                                                                               \
        if (from->set & (bit)) {                                                                                       \
            to->field = from->field;                                                                                   \
        }                                                                                                              \
    } while (0)

bool settings_merge(struct queue_settings *to, const broker_queue_settings *from)
{
    if (!from) {
        return true;
    }
    if (from->set & BROKER_SET_DEAD_LETTER) {
        bool named = from->dead_letter && *from->dead_letter;
        char *dead_letter = named ? strdup(from->dead_letter) : NULL;
        if (named && !dead_letter) {
            return false;
        }
        free(to->dead_letter);
        to->dead_letter = dead_letter;
    }
    MERGE(BROKER_SET_RETENTION, retention);
    MERGE(BROKER_SET_SYNC, sync);
    MERGE(BROKER_SET_LEASE_MS, lease_ms);
    MERGE(BROKER_SET_MAX_MESSAGE_BYTES, max_message_bytes);
    MERGE(BROKER_SET_LOG_MAX_AGE_MS, log_max_age_ms);
    MERGE(BROKER_SET_LOG_MAX_BYTES, log_max_bytes);
    MERGE(BROKER_SET_LOG_MAX_MESSAGES, log_max_messages);
    MERGE(BROKER_SET_MAX_ATTEMPTS, max_attempts);
    MERGE(BROKER_SET_BACKOFF, backoff);
    MERGE(BROKER_SET_BACKOFF, backoff_ms);
    MERGE(BROKER_SET_BACKOFF, backoff_max_ms);
    MERGE(BROKER_SET_BACKOFF, backoff_jitter_percent);
    MERGE(BROKER_SET_TTL_MS, ttl_ms);
    MERGE(BROKER_SET_DEAD_LETTER_EXPIRED, dead_letter_expired);
    MERGE(BROKER_SET_UNUSED_MS, unused_ms);
    MERGE(BROKER_SET_DEDUP_MS, dedup_ms);
    MERGE(BROKER_SET_DEDUP_COUNT, dedup_count);
    MERGE(BROKER_SET_MAX_MESSAGES, max_messages);
    MERGE(BROKER_SET_MAX_BYTES, max_bytes);
    MERGE(BROKER_SET_OVERFLOW, overflow);
    MERGE(BROKER_SET_ORDERED_KEYS, ordered_keys);
    MERGE(BROKER_SET_FAIR_KEYS, fair_keys);
    MERGE(BROKER_SET_COMPACT, compact);
    return true;
}

void settings_info(const struct queue_settings *s, broker_queue_settings *info)
{
    *info = (broker_queue_settings){.size = sizeof *info,
                                    .set = BROKER_SET_ALL,
                                    .retention = s->retention,
                                    .sync = s->sync,
                                    .lease_ms = s->lease_ms,
                                    .max_message_bytes = s->max_message_bytes,
                                    .log_max_age_ms = s->log_max_age_ms,
                                    .log_max_bytes = s->log_max_bytes,
                                    .log_max_messages = s->log_max_messages,
                                    .max_attempts = s->max_attempts,
                                    .backoff = s->backoff,
                                    .backoff_ms = s->backoff_ms,
                                    .backoff_max_ms = s->backoff_max_ms,
                                    .backoff_jitter_percent = s->backoff_jitter_percent,
                                    .dead_letter = s->dead_letter,
                                    .ttl_ms = s->ttl_ms,
                                    .dead_letter_expired = s->dead_letter_expired,
                                    .unused_ms = s->unused_ms,
                                    .dedup_ms = s->dedup_ms,
                                    .dedup_count = s->dedup_count,
                                    .max_messages = s->max_messages,
                                    .max_bytes = s->max_bytes,
                                    .overflow = s->overflow,
                                    .ordered_keys = s->ordered_keys,
                                    .fair_keys = s->fair_keys,
                                    .compact = s->compact};
}

/* ---- what is allowed ----------------------------------------------------------------------------------------------- */

struct range {
    uint32_t set;
    const char *name;
    size_t offset; /* in broker_queue_settings */
    bool wide;     /* 64 bits, else 32 */
    uint64_t min, max;
};

#define NARROW(set, field, min, max)                                                                                   \
    {                                                                                                                  \
        set, #field, offsetof(broker_queue_settings, field), false, min, max                                           \
    }
#define WIDE(set, field, min, max)                                                                                     \
    {                                                                                                                  \
        set, #field, offsetof(broker_queue_settings, field), true, min, max                                            \
    }

static const struct range RANGES[] = {
    NARROW(BROKER_SET_LEASE_MS, lease_ms, 1, 86400000),
    NARROW(BROKER_SET_MAX_ATTEMPTS, max_attempts, 0, 1000000),
    NARROW(BROKER_SET_BACKOFF, backoff_ms, 0, 86400000),
    NARROW(BROKER_SET_BACKOFF, backoff_max_ms, 0, 86400000),
    NARROW(BROKER_SET_BACKOFF, backoff_jitter_percent, 0, 100),
    WIDE(BROKER_SET_TTL_MS, ttl_ms, 0, YEARS_100_MS),
    WIDE(BROKER_SET_UNUSED_MS, unused_ms, 0, YEARS_100_MS),
    WIDE(BROKER_SET_DEDUP_MS, dedup_ms, 0, YEARS_100_MS),
    NARROW(BROKER_SET_DEDUP_COUNT, dedup_count, 1, DEDUP_COUNT_MAX),
};

static bool kinds_are_known(struct engine *e, const struct command *c, const broker_queue_settings *s)
{
    if ((s->set & BROKER_SET_RETENTION) && s->retention != BROKER_RETENTION_WORK &&
        s->retention != BROKER_RETENTION_LOG) {
        engine_fail(e, c, BROKER_INVALID_ARGUMENT, 0, "retention %d is neither work (1) nor log (2)",
                    (int)s->retention);
        return false;
    }
    if ((s->set & BROKER_SET_SYNC) && (s->sync < BROKER_SYNC_ALWAYS || s->sync > BROKER_SYNC_NONE)) {
        engine_fail(e, c, BROKER_INVALID_ARGUMENT, 0, "sync %d is none of always, interval, none", (int)s->sync);
        return false;
    }
    if ((s->set & BROKER_SET_BACKOFF) && (unsigned)s->backoff > BROKER_BACKOFF_EXPONENTIAL) {
        engine_fail(e, c, BROKER_INVALID_ARGUMENT, 0, "backoff %d is none of none (0), fixed (1), exponential (2)",
                    (int)s->backoff);
        return false;
    }
    if ((s->set & BROKER_SET_OVERFLOW) && (unsigned)s->overflow > BROKER_OVERFLOW_DROP_OLDEST) {
        engine_fail(e, c, BROKER_INVALID_ARGUMENT, 0, "overflow %d is neither reject (0) nor drop_oldest (1)",
                    (int)s->overflow);
        return false;
    }
    return true;
}

bool settings_in_range(struct engine *e, const struct command *c)
{
    const broker_queue_settings *s = c->u.queue.settings;
    if (!s) {
        return true;
    }
    if (!kinds_are_known(e, c, s)) {
        return false;
    }
    for (size_t i = 0; i < sizeof RANGES / sizeof *RANGES; i++) {
        const struct range *r = &RANGES[i];
        const char *at = (const char *)s + r->offset;
        uint64_t value = r->wide ? *(const uint64_t *)at : *(const uint32_t *)at;
        if ((s->set & r->set) && (value < r->min || value > r->max)) {
            engine_fail(e, c, BROKER_INVALID_ARGUMENT, 0, "%s %llu is not within %llu..%llu", r->name,
                        (unsigned long long)value, (unsigned long long)r->min, (unsigned long long)r->max);
            return false;
        }
    }
    if ((s->set & BROKER_SET_MAX_MESSAGE_BYTES) && s->max_message_bytes > e->options.max_message_bytes) {
        engine_fail(e, c, BROKER_INVALID_ARGUMENT, 0, "max_message_bytes %u is over the broker's limit of %u",
                    s->max_message_bytes, e->options.max_message_bytes);
        return false;
    }
    if ((s->set & BROKER_SET_MAX_BYTES) && s->max_bytes && s->max_bytes < MAX_BYTES_LEAST) {
        engine_fail(e, c, BROKER_INVALID_ARGUMENT, 0,
                    "max_bytes %llu has no room for a single message: at least %d, or 0 for no limit",
                    (unsigned long long)s->max_bytes, MAX_BYTES_LEAST);
        return false;
    }
    if ((s->set & BROKER_SET_DEAD_LETTER) && s->dead_letter && *s->dead_letter &&
        !name_is_valid(s->dead_letter, strlen(s->dead_letter))) {
        engine_fail(e, c, BROKER_INVALID_ARGUMENT, 0,
                    "dead_letter '%.64s' is no name for a queue: 1 to 255 of A-Z a-z 0-9 . _ -, not beginning with '.'",
                    s->dead_letter);
        return false;
    }
    return true;
}

bool settings_fit(struct engine *e, const struct command *c, struct name queue, const struct queue_settings *s)
{
    broker_error error = c->type == COMMAND_QUEUE_CREATE ? BROKER_INVALID_ARGUMENT : BROKER_REFUSED;
    int len = (int)queue.len;
    if (s->compact && s->retention != BROKER_RETENTION_LOG) {
        engine_fail(e, c, error, 0,
                    "queue '%.*s' cannot be compacted with retention work, where settled messages go anyway: set "
                    "retention log, or compact off",
                    len, queue.bytes);
        return false;
    }
    if (s->backoff != BROKER_BACKOFF_NONE && !s->backoff_ms) {
        engine_fail(e, c, error, 0,
                    "a backoff of 0 ms waits for nothing: set backoff_ms to 1..86400000, or backoff none");
        return false;
    }
    if (s->backoff == BROKER_BACKOFF_EXPONENTIAL && s->backoff_max_ms && s->backoff_max_ms < s->backoff_ms) {
        engine_fail(e, c, error, 0, "backoff_max_ms %u is below backoff_ms %u, where the backoff begins",
                    s->backoff_max_ms, s->backoff_ms);
        return false;
    }
    if (s->dead_letter && strlen(s->dead_letter) == queue.len && memcmp(s->dead_letter, queue.bytes, queue.len) == 0) {
        engine_fail(e, c, error, 0, "queue '%.*s' cannot be its own dead_letter: name another queue", len, queue.bytes);
        return false;
    }
    if (!s->dead_letter && (s->max_attempts || s->dead_letter_expired) &&
        queue.len + sizeof DEAD_SUFFIX - 1 > NAME_MAX_BYTES) {
        engine_fail(
            e, c, error, 0,
            "the queue's name has %d bytes, too many for a queue of its dead letters named NAME%s (255 in all): "
            "set dead_letter to another name",
            len, DEAD_SUFFIX);
        return false;
    }
    return true;
}

/* ---- bytes ----------------------------------------------------------------------------------------------------------- */

bool queue_encode(const struct queue_settings *s, bool paused, struct name name, struct buf *out)
{
    size_t dead_len = s->dead_letter ? strlen(s->dead_letter) : 0;
    uint8_t *p = buf_reserve(out, QUEUE_BODY_BYTES + name.len + dead_len);
    if (!p) {
        return false;
    }
    p[0] = 2;
    p[1] = (uint8_t)s->retention;
    p[2] = (uint8_t)s->sync;
    p[3] = paused;
    put_u32(p + 4, s->lease_ms);
    put_u32(p + 8, s->max_message_bytes);
    put_u32(p + 12, s->max_attempts);
    put_u64(p + 16, s->log_max_age_ms);
    put_u64(p + 24, s->log_max_bytes);
    put_u64(p + 32, s->log_max_messages);
    put_u32(p + 40, (uint32_t)dead_len);
    put_u32(p + 44, (uint32_t)name.len);
    p[48] = (uint8_t)s->backoff;
    p[49] = (uint8_t)s->overflow;
    p[50] = (uint8_t)s->backoff_jitter_percent;
    p[51] =
        (uint8_t)((s->dead_letter_expired ? FLAG_DEAD_LETTER_EXPIRED : 0) | (s->ordered_keys ? FLAG_ORDERED_KEYS : 0) |
                  (s->fair_keys ? FLAG_FAIR_KEYS : 0) | (s->compact ? FLAG_COMPACT : 0));
    put_u32(p + 52, s->backoff_ms);
    put_u32(p + 56, s->backoff_max_ms);
    put_u32(p + 60, s->dedup_count);
    put_u64(p + 64, s->ttl_ms);
    put_u64(p + 72, s->unused_ms);
    put_u64(p + 80, s->dedup_ms);
    put_u64(p + 88, s->max_messages);
    put_u64(p + 96, s->max_bytes);
    memcpy(p + QUEUE_BODY_BYTES, name.bytes, name.len);
    if (dead_len) {
        memcpy(p + QUEUE_BODY_BYTES + name.len, s->dead_letter, dead_len);
    }
    out->len += QUEUE_BODY_BYTES + name.len + dead_len;
    return true;
}

/* What version 2 added. The dead letters' name lies at `dead`, dead_len bytes that are there. */
static broker_error decode_version_2(const uint8_t *body, const uint8_t *dead, uint32_t dead_len,
                                     struct queue_settings *s, const char **text)
{
    s->max_attempts = get_u32(body + 12);
    s->backoff = (broker_backoff)body[48];
    s->overflow = (broker_overflow)body[49];
    s->backoff_jitter_percent = body[50];
    s->dead_letter_expired = body[51] & FLAG_DEAD_LETTER_EXPIRED;
    s->ordered_keys = body[51] & FLAG_ORDERED_KEYS;
    s->fair_keys = body[51] & FLAG_FAIR_KEYS;
    s->compact = body[51] & FLAG_COMPACT;
    s->backoff_ms = get_u32(body + 52);
    s->backoff_max_ms = get_u32(body + 56);
    s->dedup_count = get_u32(body + 60);
    s->ttl_ms = get_u64(body + 64);
    s->unused_ms = get_u64(body + 72);
    s->dedup_ms = get_u64(body + 80);
    s->max_messages = get_u64(body + 88);
    s->max_bytes = get_u64(body + 96);
    if (body[48] > BROKER_BACKOFF_EXPONENTIAL || body[49] > BROKER_OVERFLOW_DROP_OLDEST || body[50] > 100 ||
        s->ttl_ms > YEARS_100_MS || s->unused_ms > YEARS_100_MS || s->dedup_ms > YEARS_100_MS ||
        s->dedup_count > DEDUP_COUNT_MAX || (dead_len && !name_is_valid((const char *)dead, dead_len))) {
        *text = "a queue's backoff, overflow, dead letter or times make no sense";
        return BROKER_MALFORMED;
    }
    s->dead_letter = dead_len ? strndup((const char *)dead, dead_len) : NULL;
    if (dead_len && !s->dead_letter) {
        *text = "out of memory";
        return BROKER_NO_MEMORY;
    }
    return BROKER_OK;
}

broker_error queue_decode(const struct engine *e, const uint8_t *body, size_t len, struct queue_settings *s,
                          bool *paused, struct name *name, const char **text)
{
    uint8_t version = len ? body[0] : 0;
    size_t fixed = version == 1 ? QUEUE_BODY_V1_BYTES : QUEUE_BODY_BYTES;
    if ((version != 1 && version != 2) || len < fixed || get_u32(body + 44) > NAME_MAX_BYTES ||
        get_u32(body + 40) > NAME_MAX_BYTES ||
        (size_t)get_u32(body + 44) + (version == 2 ? get_u32(body + 40) : 0) > len - fixed ||
        !name_is_valid((const char *)body + fixed, get_u32(body + 44))) {
        *text = "a queue's settings are malformed";
        return BROKER_MALFORMED;
    }
    *name = (struct name){.bytes = (const char *)body + fixed, .len = get_u32(body + 44)};
    settings_default(e, s);
    s->retention = (broker_retention)body[1];
    if ((s->retention != BROKER_RETENTION_WORK && s->retention != BROKER_RETENTION_LOG) ||
        body[2] < BROKER_SYNC_ALWAYS || body[2] > BROKER_SYNC_NONE) {
        *text = "a queue's retention or sync setting is unknown";
        return BROKER_MALFORMED;
    }
    s->sync = (broker_sync)body[2];
    s->lease_ms = get_u32(body + 4);
    s->max_message_bytes = get_u32(body + 8);
    s->log_max_age_ms = get_u64(body + 16);
    s->log_max_bytes = get_u64(body + 24);
    s->log_max_messages = get_u64(body + 32);
    *paused = body[3];
    return version == 2 ? decode_version_2(body, body + fixed + name->len, get_u32(body + 40), s, text) : BROKER_OK;
}
