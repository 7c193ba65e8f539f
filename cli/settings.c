/* Settings of queues. One table says how each is called and what it is; JSON, differences and names follow it. */
#include "settings.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#define AT(field) offsetof(struct settings_options, field)
const struct arg_option settings_create_options[] = {
    {"exist-ok", 0, ARG_FLAG, NULL, NULL, "no error if the queue is there with other settings", AT(exist_ok), 0, 0},
    {"quiet", 'q', ARG_FLAG, NULL, NULL, "say nothing unless it fails", AT(quiet), 0, 0},
    {"retention", 0, ARG_CHOICE, "work|log", NULL, "keep until every group settled it, or by age, bytes, count",
     AT(retention), 0, 0},
    {"sync", 0, ARG_CHOICE, CLI_SYNC_CHOICES, NULL, "when a publish is confirmed", AT(sync), 0, 0},
    {"lease", 0, ARG_DURATION, "TIME", NULL, "how long a delivered message is hidden", AT(lease_ms), 1, 86400000},
    {"max-attempts", 0, ARG_NUMBER, "N", NULL, "deliveries before a message goes to the dead letters; 0: no limit",
     AT(max_attempts), 0, UINT32_MAX},
    {"backoff", 0, ARG_TEXT, "HOW", NULL, "how long what comes back waits: " ARGS_BACKOFF_HELP, AT(backoff), 0, 0},
    {"dead-letter", 0, ARG_TEXT, "QUEUE", NULL, "where dead letters go; '': to QUEUE.dead", AT(dead_letter), 0, 0},
    {"ttl", 0, ARG_DURATION, "TIME", NULL, "messages expire after this long; 0: never", AT(ttl_ms), 0, 0},
    {"dead-letter-expired", 0, ARG_CHOICE, "yes|no", NULL, "expired messages go to the dead letters",
     AT(dead_letter_expired), 0, 0},
    {"delete-unused", 0, ARG_DURATION, "TIME", NULL, "delete the queue when nobody used it for so long; 0: never",
     AT(unused_ms), 0, 0},
    {"dedup", 0, ARG_TEXT, "TIME[,N]", NULL, "a message id is known for this long, the last N of them; or off",
     AT(dedup), 0, 0},
    {"max-message", 0, ARG_SIZE, "SIZE", NULL, "largest message; 0: the broker's limit", AT(max_message_bytes), 0,
     UINT32_MAX},
    {"max-messages", 0, ARG_NUMBER, "N", NULL, "most messages in the queue; 0: no limit", AT(max_messages), 0, 0},
    {"max-bytes", 0, ARG_SIZE, "SIZE", NULL, "the same in bytes; 0: no limit", AT(max_bytes), 0, 0},
    {"overflow", 0, ARG_CHOICE, "reject|drop-oldest", NULL, "what happens to a publish beyond", AT(overflow), 0, 0},
    {"ordered-keys", 0, ARG_CHOICE, "yes|no", NULL, "of one key, one message at a time, in order (default yes)",
     AT(ordered_keys), 0, 0},
    {"fair-keys", 0, ARG_CHOICE, "yes|no", NULL, "keys take turns, whatever the backlog of each", AT(fair_keys), 0, 0},
    {"compact", 0, ARG_CHOICE, "yes|no", NULL, "log retention: keep the newest message of each key", AT(compact), 0, 0},
    {"keep-age", 0, ARG_DURATION, "TIME", NULL, "log retention: let go what is older; 0: never", AT(log_max_age_ms), 0,
     0},
    {"keep-bytes", 0, ARG_SIZE, "SIZE", NULL, "log retention: let go the oldest above this; 0: never",
     AT(log_max_bytes), 0, 0},
    {"keep-messages", 0, ARG_NUMBER, "N", NULL, "log retention: the same in messages; 0: never", AT(log_max_messages),
     0, 0},
    {0},
};
#undef AT
enum setting_kind { SETTING_U32, SETTING_U64, SETTING_BOOL, SETTING_TEXT, SETTING_ENUM };

struct setting {
    const char *name; /* in JSON */
    uint32_t bit;
    enum setting_kind kind;
    size_t offset;
    const char *const *words; /* of an enum, by value; ends with NULL; "" is none */
};

static const char *const retention_words[] = {"", "work", "log", NULL};
static const char *const sync_words[] = {"default", "always", "interval", "none", NULL};
static const char *const backoff_words[] = {"none", "fixed", "exponential", NULL};
static const char *const overflow_words[] = {"reject", "drop-oldest", NULL};

#define S(name, bit, kind, field, words)                                                                               \
    {                                                                                                                  \
        name, BROKER_SET_##bit, SETTING_##kind, offsetof(broker_queue_settings, field), words                          \
    }
static const struct setting table[] = {
    S("retention", RETENTION, ENUM, retention, retention_words),
    S("sync", SYNC, ENUM, sync, sync_words),
    S("lease_ms", LEASE_MS, U32, lease_ms, NULL),
    S("max_attempts", MAX_ATTEMPTS, U32, max_attempts, NULL),
    S("backoff", BACKOFF, ENUM, backoff, backoff_words),
    S("backoff_ms", BACKOFF, U32, backoff_ms, NULL),
    S("backoff_max_ms", BACKOFF, U32, backoff_max_ms, NULL),
    S("backoff_jitter_percent", BACKOFF, U32, backoff_jitter_percent, NULL),
    S("dead_letter", DEAD_LETTER, TEXT, dead_letter, NULL),
    S("ttl_ms", TTL_MS, U64, ttl_ms, NULL),
    S("dead_letter_expired", DEAD_LETTER_EXPIRED, BOOL, dead_letter_expired, NULL),
    S("unused_ms", UNUSED_MS, U64, unused_ms, NULL),
    S("dedup_ms", DEDUP_MS, U64, dedup_ms, NULL),
    S("dedup_count", DEDUP_COUNT, U32, dedup_count, NULL),
    S("max_message_bytes", MAX_MESSAGE_BYTES, U32, max_message_bytes, NULL),
    S("max_messages", MAX_MESSAGES, U64, max_messages, NULL),
    S("max_bytes", MAX_BYTES, U64, max_bytes, NULL),
    S("overflow", OVERFLOW, ENUM, overflow, overflow_words),
    S("ordered_keys", ORDERED_KEYS, BOOL, ordered_keys, NULL),
    S("fair_keys", FAIR_KEYS, BOOL, fair_keys, NULL),
    S("compact", COMPACT, BOOL, compact, NULL),
    S("log_max_age_ms", LOG_MAX_AGE_MS, U64, log_max_age_ms, NULL),
    S("log_max_bytes", LOG_MAX_BYTES, U64, log_max_bytes, NULL),
    S("log_max_messages", LOG_MAX_MESSAGES, U64, log_max_messages, NULL),
};
#undef S
#define TABLE_COUNT (sizeof table / sizeof *table)

static const void *field_of(const struct setting *t, const broker_queue_settings *s)
{
    return (const char *)s + t->offset;
}

static uint64_t number_of(const struct setting *t, const broker_queue_settings *s)
{
    uint32_t number;
    switch (t->kind) {
    case SETTING_U64: return *(const uint64_t *)field_of(t, s);
    case SETTING_BOOL: return *(const bool *)field_of(t, s);
    default: memcpy(&number, field_of(t, s), sizeof number); return number; /* an enum, or a uint32_t */
    }
}

static const char *text_of(const struct setting *t, const broker_queue_settings *s)
{
    const char *text = *(const char *const *)field_of(t, s);
    return text ? text : "";
}

static const char *word_of(const char *const *words, uint64_t value)
{
    for (uint64_t i = 0; words[i]; i++) {
        if (i == value)
            return words[i];
    }
    return "?";
}

void settings_json(struct json *j, const broker_queue_settings *s)
{
    for (const struct setting *t = table; t < table + TABLE_COUNT; t++) {
        if (!(s->set & t->bit))
            continue; /* an older broker does not know it */
        switch (t->kind) {
        case SETTING_ENUM: json_put_text(j, t->name, word_of(t->words, number_of(t, s))); break;
        case SETTING_BOOL: json_put_bool(j, t->name, number_of(t, s)); break;
        case SETTING_TEXT: json_put_text(j, t->name, text_of(t, s)); break;
        default: json_put_u64(j, t->name, number_of(t, s));
        }
    }
}

uint32_t settings_differ(const broker_queue_settings *wanted, const broker_queue_settings *there)
{
    uint32_t set = 0;
    for (const struct setting *t = table; t < table + TABLE_COUNT; t++) {
        if (!(wanted->set & t->bit))
            continue;
        bool same = t->kind == SETTING_TEXT ? strcmp(text_of(t, wanted), text_of(t, there)) == 0
                                            : number_of(t, wanted) == number_of(t, there);
        set |= same ? 0 : t->bit;
    }
    return set;
}

void settings_names(struct text *out, uint32_t set)
{
    uint32_t named = 0;
    for (const struct setting *t = table; t < table + TABLE_COUNT; t++) {
        if (!(set & t->bit) || (named & t->bit))
            continue;
        text_addf(out, "%s%s", named ? ", " : "", t->name);
        named |= t->bit;
    }
}

__attribute__((format(printf, 3, 4))) static bool wrong(char *error, size_t error_bytes, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(error, error_bytes, format, args);
    va_end(args);
    return false;
}

static bool read_setting(const struct setting *t, json_t *value, broker_queue_settings *out, char *error,
                         size_t error_bytes)
{
    void *field = (char *)out + t->offset;
    if (t->kind == SETTING_TEXT) {
        if (!json_is_string(value))
            return wrong(error, error_bytes, "\"%s\" is not a string", t->name);
        *(const char **)field = json_string_value(value);
        return true;
    }
    if (t->kind == SETTING_BOOL) {
        if (!json_is_boolean(value))
            return wrong(error, error_bytes, "\"%s\" is neither true nor false", t->name);
        *(bool *)field = json_is_true(value);
        return true;
    }
    if (t->kind == SETTING_ENUM) {
        const char *word = json_is_string(value) ? json_string_value(value) : "";
        for (uint32_t i = 0; t->words[i]; i++) {
            if (*word && strcmp(word, t->words[i]) == 0) {
                memcpy(field, &i, sizeof i);
                return true;
            }
        }
        return wrong(error, error_bytes, "\"%s\": \"%.60s\" is not one of its values", t->name, word);
    }
    json_int_t number = json_is_integer(value) ? json_integer_value(value) : -1;
    if (number < 0 || (t->kind == SETTING_U32 && number > UINT32_MAX))
        return wrong(error, error_bytes, "\"%s\" is not a whole number in range", t->name);
    if (t->kind == SETTING_U64)
        *(uint64_t *)field = (uint64_t)number;
    else
        *(uint32_t *)field = (uint32_t)number;
    return true;
}

bool settings_from_json(json_t *object, broker_queue_settings *out, char *error, size_t error_bytes)
{
    const char *key;
    json_t *value;
    *out = (broker_queue_settings){.size = sizeof *out};
    if (!json_is_object(object))
        return wrong(error, error_bytes, "\"settings\" is not an object");
    json_object_foreach(object, key, value)
    {
        const struct setting *t = table;
        while (t < table + TABLE_COUNT && strcmp(t->name, key) != 0)
            t++;
        if (t == table + TABLE_COUNT)
            return wrong(error, error_bytes, "unknown setting \"%.60s\"", key);
        if (!read_setting(t, value, out, error, error_bytes))
            return false;
        out->set |= t->bit;
    }
    return true;
}

/* "yes|no", 0 if it was not given */
#define CHOSE_YES 1

static bool set_backoff(struct cli *cli, const char *text, broker_queue_settings *s)
{
    struct arg_backoff b;
    if (!args_backoff(text, &b)) {
        cli_complain(cli, CLI_USAGE, "--backoff: '%s' is not %s; waits are 1ms to 1d", text, ARGS_BACKOFF_HELP);
        return false;
    }
    s->set |= BROKER_SET_BACKOFF;
    s->backoff = (broker_backoff)b.kind;
    s->backoff_ms = b.ms;
    s->backoff_max_ms = b.max_ms;
    s->backoff_jitter_percent = b.jitter_percent;
    return true;
}

static bool set_dedup(struct cli *cli, const char *text, broker_queue_settings *s)
{
    uint64_t count = 0;
    bool count_given;
    if (!args_window(text, &s->dedup_ms, &count, &count_given) || count > UINT32_MAX) {
        cli_complain(cli, CLI_USAGE, "--dedup: '%s' is not a window such as 2min, 1h,50000 or off", text);
        return false;
    }
    s->set |= BROKER_SET_DEDUP_MS | (count_given ? BROKER_SET_DEDUP_COUNT : 0);
    s->dedup_count = (uint32_t)count;
    return true;
}

bool settings_from_options(struct cli *cli, const struct settings_options *o, broker_queue_settings *out)
{
    broker_queue_settings *s = out;
    *s = (broker_queue_settings){.size = sizeof *s};
    const struct {
        uint32_t bit;
        bool given;
    } given[] = {
        {BROKER_SET_RETENTION, o->retention},
        {BROKER_SET_SYNC, o->sync},
        {BROKER_SET_LEASE_MS, o->lease_ms.given},
        {BROKER_SET_MAX_MESSAGE_BYTES, o->max_message_bytes.given},
        {BROKER_SET_LOG_MAX_AGE_MS, o->log_max_age_ms.given},
        {BROKER_SET_LOG_MAX_BYTES, o->log_max_bytes.given},
        {BROKER_SET_LOG_MAX_MESSAGES, o->log_max_messages.given},
        {BROKER_SET_MAX_ATTEMPTS, o->max_attempts.given},
        {BROKER_SET_DEAD_LETTER, o->dead_letter},
        {BROKER_SET_TTL_MS, o->ttl_ms.given},
        {BROKER_SET_DEAD_LETTER_EXPIRED, o->dead_letter_expired},
        {BROKER_SET_UNUSED_MS, o->unused_ms.given},
        {BROKER_SET_MAX_MESSAGES, o->max_messages.given},
        {BROKER_SET_MAX_BYTES, o->max_bytes.given},
        {BROKER_SET_OVERFLOW, o->overflow},
        {BROKER_SET_ORDERED_KEYS, o->ordered_keys},
        {BROKER_SET_FAIR_KEYS, o->fair_keys},
        {BROKER_SET_COMPACT, o->compact},
    };
    for (size_t i = 0; i < sizeof given / sizeof *given; i++)
        s->set |= given[i].given ? given[i].bit : 0;
    s->retention = (broker_retention)o->retention;
    s->sync = cli_sync(o->sync);
    s->lease_ms = (uint32_t)o->lease_ms.value;
    s->max_message_bytes = (uint32_t)o->max_message_bytes.value;
    s->log_max_age_ms = o->log_max_age_ms.value;
    s->log_max_bytes = o->log_max_bytes.value;
    s->log_max_messages = o->log_max_messages.value;
    s->max_attempts = (uint32_t)o->max_attempts.value;
    s->dead_letter = o->dead_letter;
    s->ttl_ms = o->ttl_ms.value;
    s->dead_letter_expired = o->dead_letter_expired == CHOSE_YES;
    s->unused_ms = o->unused_ms.value;
    s->max_messages = o->max_messages.value;
    s->max_bytes = o->max_bytes.value;
    s->overflow = o->overflow ? (broker_overflow)(o->overflow - 1) : BROKER_OVERFLOW_REJECT;
    s->ordered_keys = o->ordered_keys == CHOSE_YES;
    s->fair_keys = o->fair_keys == CHOSE_YES;
    s->compact = o->compact == CHOSE_YES;
    return (!o->backoff || set_backoff(cli, o->backoff, s)) && (!o->dedup || set_dedup(cli, o->dedup, s));
}
