/* Topics and filters: which queue and which group a message concerns. */
#include <inttypes.h>
#include <wire.h>

#include "model.h"

const char *model_pattern(uint32_t number)
{
    static const char *const patterns[] = {"", "a.b.c", "a.*.c", "a.>", "*.b.>", "d", ">"};
    return patterns[number];
}

const char *model_topic(uint32_t number)
{
    static const char *const topics[] = {"", "a.b.c", "a.x.c", "a.b", "d"};
    return topics[number];
}

const char *model_key(uint32_t number)
{
    static const char *const keys[] = {"", "some", "some key", "other", "k"};
    return keys[number];
}

const char *model_header(uint32_t number)
{
    static const char *const values[] = {"", "v", "w"};
    return values[number];
}

/* Tokens one by one; written apart from the broker's own matcher on purpose. */
static bool matches(const char *pattern, const char *topic)
{
    if (pattern[0] == '>')
        return topic[0] != 0;
    while (*pattern && *pattern != '.') {
        if (*pattern == '*') {
            while (*topic && *topic != '.')
                topic++;
            pattern++;
            break;
        }
        if (*pattern++ != *topic++)
            return false;
    }
    if (*pattern == 0 || *topic == 0)
        return *pattern == 0 && *topic == 0;
    return *topic == '.' && matches(pattern + 1, topic + 1);
}

bool choice_is_empty(const struct choice *c)
{
    return c->pattern == 0 && c->key == 0 && c->header == 0;
}

bool choice_takes(const struct choice *c, const struct model_message *msg)
{
    const struct traits *t = &msg->traits;
    return (c->pattern == 0 || (t->topic != 0 && matches(model_pattern(c->pattern), model_topic(t->topic)))) &&
           (c->key == 0 || c->key == t->key) && (c->header == 0 || c->header == t->header);
}

bool model_is_bound(const struct model_queue *q, uint32_t topic)
{
    for (uint32_t p = 1; q->exists && p <= MODEL_PATTERNS; p++) {
        if ((q->bound >> p & 1) && matches(model_pattern(p), model_topic(topic)))
            return true;
    }
    return false;
}

uint32_t route_count(const struct model *m, uint32_t topic)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < MODEL_QUEUES; i++)
        n += model_is_bound(&m->queues[i], topic);
    return n;
}

/* One record for all queues that are bound; the places besides its own stand before it. */
void route_appended(struct model *m, struct op *op, const uint8_t *route, const uint8_t *record, uint64_t index)
{
    uint32_t places = route ? get_u32(route + RECORD_HEAD_BYTES) : 0;
    uint32_t topic = 0, reached = 0;
    for (uint32_t i = 0; i < op->record_count; i++) {
        if (record == op->bytes + op->records[i].offset)
            topic = op->records[i].traits.topic;
    }
    uint32_t expected = route_count(m, topic);
    for (uint32_t i = 0; i <= places && !model_failed(m); i++) {
        const uint8_t *place = i ? route + RECORD_HEAD_BYTES + 8 + (i - 1) * 16 : NULL;
        uint32_t id = place ? get_u32(place) : record_queue(record);
        uint64_t seq = place ? get_u64(place + 8) : record_seq(record);
        struct model_queue *q = queue_of_id(m, id);
        if (!q || !model_is_bound(q, topic)) {
            model_fail(m, "route: topic %s goes to %s (id %u), which is not bound", model_topic(topic),
                       q ? q->name : "?", id);
            return;
        }
        message_published(m, op, q, seq, record, index);
        reached++;
    }
    if (reached != expected)
        model_fail(m, "route: topic %s reached %u queues, %u are bound", model_topic(topic), reached, expected);
}

/* The group has another filter from now on: what it keeps away and was never handed out, stays away. */
void group_filtered(struct model *m, struct model_queue *q, struct model_group *g)
{
    for (uint64_t seq = 1; seq <= q->count; seq++) {
        struct slot *s = &g->slots[seq - 1];
        bool takes = choice_takes(&g->filter, &q->messages[seq - 1]);
        if (!takes && s->state == SLOT_WANTED)
            s->state = s->deliveries == 0 ? SLOT_BARRED : SLOT_FREE;
        else if (takes && s->state == SLOT_BARRED)
            s->state = SLOT_FREE; /* it may have been read, and counted as settled, meanwhile */
    }
    queue_mark_gone(m, q);
}
