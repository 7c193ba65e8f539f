/* Messages a second, from two looks at a counter. */
#include <stdlib.h>
#include <string.h>

#include "metrics_internal.h"

enum {
    SMOOTH_MS = 3000,  /* a change has shown by half after about this long */
    LEAST_MS = 250,    /* looks closer together tell nothing new */
    FORGET_MS = 60000, /* nobody has looked for so long */
};

struct sample {
    UT_hash_handle hh;
    TAILQ_ENTRY(sample) by_look; /* the one not looked at for longest is the first */
    uint32_t queue_id;
    bool known; /* there were two looks */
    uint64_t at_ms, looked_ms;
    struct rate in, out;
};

struct rates {
    struct sample *by_id;
    TAILQ_HEAD(, sample) samples;
    uint32_t count, max;
};

void rate_look(struct rate *r, uint64_t count, uint64_t passed_ms)
{
    double seconds = (double)passed_ms / 1000.0;
    double now = count > r->count ? (double)(count - r->count) / seconds : 0.0;
    double weight = (double)passed_ms / (double)(passed_ms + SMOOTH_MS);
    r->per_second += weight * (now - r->per_second);
    if (r->per_second < 0.05)
        r->per_second = 0.0; /* what would be shown as 0.0 */
    r->count = count;
}

struct rates *rates_new(uint32_t max_queues)
{
    struct rates *r = calloc(1, sizeof(*r));
    if (!r)
        return NULL;
    r->max = max_queues;
    TAILQ_INIT(&r->samples);
    return r;
}

static void forget(struct rates *r, struct sample *s)
{
    HASH_DEL(r->by_id, s);
    TAILQ_REMOVE(&r->samples, s, by_look);
    r->count--;
    free(s);
}

void rates_free(struct rates *r)
{
    if (!r)
        return;
    for (struct sample *s; (s = TAILQ_FIRST(&r->samples));)
        forget(r, s);
    free(r);
}

static struct sample *find(struct rates *r, uint32_t queue_id)
{
    struct sample *s;
    HASH_FIND(hh, r->by_id, &queue_id, sizeof(queue_id), s);
    return s;
}

/* NULL: no memory: the queue's rates are not known, that is all. */
static struct sample *add(struct rates *r, const broker_queue_info *q, uint64_t now_ms)
{
    if (r->count >= r->max)
        forget(r, TAILQ_FIRST(&r->samples));
    struct sample *s = calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    s->queue_id = q->id;
    s->at_ms = now_ms;
    s->in.count = q->published;
    s->out.count = q->delivered;
    HASH_ADD(hh, r->by_id, queue_id, sizeof(s->queue_id), s);
    if (!s->hh.tbl) {
        free(s);
        return NULL;
    }
    TAILQ_INSERT_TAIL(&r->samples, s, by_look);
    r->count++;
    return s;
}

void rates_look(struct rates *r, const broker_queue_info *q, struct now now, struct line *l)
{
    uint64_t now_ms = now.mono.ms;
    struct sample *s = TAILQ_FIRST(&r->samples);
    if (s && now_ms - s->looked_ms > FORGET_MS)
        forget(r, s); /* one a look is enough: there are no more looks than queues looked at */
    s = find(r, q->id);
    if (!s && !(s = add(r, q, now_ms)))
        return;
    if (now_ms - s->at_ms >= LEAST_MS) {
        rate_look(&s->in, q->published, now_ms - s->at_ms);
        rate_look(&s->out, q->delivered, now_ms - s->at_ms);
        s->at_ms = now_ms;
        s->known = true;
    }
    s->looked_ms = now_ms;
    TAILQ_REMOVE(&r->samples, s, by_look);
    TAILQ_INSERT_TAIL(&r->samples, s, by_look);
    l->has_rates = s->known;
    l->in_rate = s->in.per_second;
    l->out_rate = s->out.per_second;
}
