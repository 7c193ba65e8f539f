/* Looking at all of a broker, and comparing it with the model. */
#include <string.h>

#include "world.h"

static void observe_read(struct world *w, const struct model_queue *q, uint64_t seq)
{
    for (uint32_t tries = 0; tries < 50; tries++) {
        struct stored_message msg;
        uint32_t count = 0;
        uint64_t damaged = 0;
        enum read_status status =
            store_engine_ops.read(w->store, q->id, seq, seq, 1, UINT64_MAX, &msg, &count, &damaged);
        if (status == READ_PENDING) {
            if (!sim_workers_run(&w->workers))
                model_fail(&w->model, "reading %s seq %llu finds no end", q->name, (unsigned long long)seq);
            if (world_is_dying(w))
                return;
            continue;
        }
        if ((status == READ_DAMAGED && w->damaged) || !model_must_have(q, seq)) /* it went meanwhile */
            return;
        if (status != READ_OK || count != 1)
            model_fail(&w->model, "lost: %s seq %llu cannot be read: %s", q->name, (unsigned long long)seq,
                       status == READ_DAMAGED ? "damaged" : "not there");
        else
            model_check_bytes(&w->model, q, seq, msg.record);
        return;
    }
    model_fail(&w->model, "reading %s seq %llu stays pending", q->name, (unsigned long long)seq);
}

static void observe_queue_reads(struct world *w, const struct model_queue *q)
{
    for (uint64_t seq = 1; q->exists && seq <= q->count && !model_failed(&w->model) && !world_is_dying(w); seq++) {
        if (model_must_have(q, seq))
            observe_read(w, q, seq);
    }
}

static void observe_queue(struct world *w, uint32_t i)
{
    struct model_queue *q = &w->model.queues[i];
    struct command c = {
        .type = COMMAND_QUEUE_DESCRIBE, .token = {.conn = 1, .correlation = 1}, .queue = {q->name, strlen(q->name)}};
    w->observed_queue = i;
    w->observed = false;
    door_submit(w->door, &w->sessions[1], w->now, &c);
    if (!w->observed)
        model_fail(&w->model, "describe of %s is not answered", q->name);
}

/* First which messages are there: that decides what else must be. */
void world_observe(struct world *w, bool reads)
{
    w->observing = true;
    w->what = OBSERVE_MESSAGES;
    for (uint32_t i = 0; i < MODEL_QUEUES && !model_failed(&w->model); i++)
        observe_queue(w, i);
    w->what = OBSERVE_ALL;
    if (!model_failed(&w->model))
        model_observed_messages(&w->model);
    for (uint32_t i = 0; i < MODEL_QUEUES && !model_failed(&w->model); i++)
        observe_queue(w, i);
    model_restarted(&w->model);
    w->power = false;
    w->observing = false;
    for (uint32_t i = 0; reads && i < MODEL_QUEUES && !model_failed(&w->model); i++)
        observe_queue_reads(w, &w->model.queues[i]);
}

void world_observe_drained(struct world *w)
{
    w->observing = true;
    w->what = OBSERVE_DRAINED;
    for (uint32_t i = 0; i < MODEL_QUEUES && !model_failed(&w->model); i++)
        observe_queue(w, i);
    w->observing = false;
}
