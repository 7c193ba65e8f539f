/* Settings of queues as `broker queue describe` shows them: as one would type them. */
#include "settings.h"

#include <inttypes.h>

static const char *sync_text(broker_sync sync)
{
    static const char *const names[] = {"default", "always", "interval", "none"};
    return (unsigned)sync < 4 ? names[sync] : "?";
}

/* What is 0 for "not limited" is said with a word. */
static void line(struct text *out, const char *name, uint64_t value, const char *shown, const char *none)
{
    text_addf(out, "  %-16s %s\n", name, value ? shown : none);
}

static void number_line(struct text *out, const char *name, uint64_t value, const char *none)
{
    char shown[ARGS_TEXT_BYTES];
    snprintf(shown, sizeof shown, "%" PRIu64, value);
    line(out, name, value, shown, none);
}

static void keys_line(struct text *out, const broker_queue_settings *s)
{
    text_addf(out, "  %-16s %s%s%s\n", "keys", s->ordered_keys ? "in order, one at a time" : "in no order",
              s->fair_keys ? ", taking turns" : "", s->compact ? ", compacted to the newest of each" : "");
}

void settings_text(struct text *out, const broker_queue_settings *s)
{
    char a[ARGS_TEXT_BYTES];
    struct arg_backoff b = {(enum arg_backoff_kind)s->backoff, s->backoff_ms, s->backoff_max_ms,
                            s->backoff_jitter_percent};
    line(out, "retention", 1, s->retention == BROKER_RETENTION_LOG ? "log" : "work", "");
    line(out, "sync", 1, sync_text(s->sync), "");
    line(out, "lease", 1, args_duration_text(a, s->lease_ms), "");
    line(out, "max message", s->max_message_bytes, args_size_text(a, s->max_message_bytes), "the broker's limit");
    if (s->retention == BROKER_RETENTION_LOG) {
        line(out, "keep age", s->log_max_age_ms, args_duration_text(a, s->log_max_age_ms), "unlimited");
        line(out, "keep bytes", s->log_max_bytes, args_size_text(a, s->log_max_bytes), "unlimited");
        number_line(out, "keep messages", s->log_max_messages, "unlimited");
    }
    number_line(out, "max attempts", s->max_attempts, "unlimited");
    line(out, "backoff", 1, args_backoff_text(a, &b), "");
    line(out, "dead letters to", s->dead_letter && *s->dead_letter, s->dead_letter, "this name with .dead");
    line(out, "ttl", s->ttl_ms, args_duration_text(a, s->ttl_ms), "none");
    if (s->dead_letter_expired)
        line(out, "expired", 1, "go to the dead letters", "");
    if (s->unused_ms)
        text_addf(out, "  %-16s after %s\n", "deleted unused", args_duration_text(a, s->unused_ms));
    if (s->dedup_ms)
        text_addf(out, "  %-16s %s, last %u ids\n", "dedup", args_duration_text(a, s->dedup_ms), s->dedup_count);
    else
        line(out, "dedup", 1, "off", "");
    if (s->max_messages || s->max_bytes) {
        number_line(out, "max messages", s->max_messages, "unlimited");
        line(out, "max bytes", s->max_bytes, args_size_text(a, s->max_bytes), "unlimited");
        line(out, "overflow", 1, s->overflow == BROKER_OVERFLOW_DROP_OLDEST ? "drop-oldest" : "reject", "");
    }
    keys_line(out, s);
}
