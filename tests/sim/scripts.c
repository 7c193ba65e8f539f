#include "scripts.h"

#include <string.h>

static const broker_queue_settings work_always = {
    .size = sizeof(broker_queue_settings), .set = BROKER_SET_SYNC, .sync = BROKER_SYNC_ALWAYS};
static const broker_queue_settings work_interval = {
    .size = sizeof(broker_queue_settings), .set = BROKER_SET_SYNC, .sync = BROKER_SYNC_INTERVAL};
static const broker_queue_settings log_of_six = {.size = sizeof(broker_queue_settings),
                                                 .set = BROKER_SET_RETENTION | BROKER_SET_LOG_MAX_MESSAGES,
                                                 .retention = BROKER_RETENTION_LOG,
                                                 .log_max_messages = 6};

static bool goes_on(struct history *h)
{
    return !world_is_dying(&h->world) && !model_failed(&h->world.model);
}

/* Some steps of the machine, by the variant's schedule. */
static void steps(struct history *h)
{
    for (uint64_t n = rng_between(&h->world.rng, 3, 9); n > 0 && goes_on(h); n--)
        world_step(&h->world);
}

static void publish(struct history *h, uint32_t queue, uint32_t count, uint32_t body_len)
{
    if (goes_on(h) && h->world.model.queues[queue].exists)
        client_publish_to(h, queue, count, body_len, BROKER_SYNC_DEFAULT);
    steps(h);
}

static void create(struct history *h, uint32_t queue, const broker_queue_settings *settings)
{
    if (goes_on(h))
        client_create_queue(h, queue, settings);
    steps(h);
}

static void subscribe(struct history *h, uint32_t queue, uint32_t credit)
{
    if (goes_on(h) && h->world.model.queues[queue].exists)
        client_subscribe(h, 1, queue, 0, 10000, false, credit);
    steps(h);
}

static void quiet(struct history *h)
{
    if (goes_on(h) && !world_settle(&h->world))
        model_fail(&h->world.model, "the store does not come to rest");
}

/* The oldest receipts first: `from` counts from 1. */
static void settle(struct history *h, enum command_type type, uint64_t from, uint32_t count, uint32_t ms)
{
    uint64_t newest = from + count - 1;
    if (goes_on(h) && newest <= h->world.model.held_count)
        client_settle_held(h, type, newest, count, (struct settle_how){.ms = ms});
    steps(h);
}

static void control(struct history *h, enum command_type type, uint32_t queue, uint32_t group, broker_start start,
                    uint64_t value)
{
    struct command c = {0};
    c.u.group.start = start;
    c.u.group.value = value;
    if (goes_on(h) && h->world.model.queues[queue].control == 0)
        client_control(h, type, queue, group, &c);
    steps(h);
}

static void checkpoint(struct history *h)
{
    if (goes_on(h))
        store_checkpoint(h->world.store, h->world.now);
    steps(h);
}

static void pass(struct history *h, uint64_t ms)
{
    world_pass_time(&h->world, ms);
    steps(h);
}

/* ---- the scripts --------------------------------------------------------------------------------------------------------- */

static void script_ack(struct history *h)
{
    create(h, 0, &work_always);
    publish(h, 0, 3, 30);
    subscribe(h, 0, 10);
    quiet(h);
    settle(h, COMMAND_ACK, 1, 1, 0);
    publish(h, 0, 1, 700);
    settle(h, COMMAND_NACK, 2, 1, 100);
    pass(h, 200);
    quiet(h);
}

static void script_roll(struct history *h)
{
    create(h, 0, &work_always);
    subscribe(h, 0, 100);
    for (uint32_t i = 0; i < 8; i++)
        publish(h, 0, 1, 15000);
    quiet(h);
    settle(h, COMMAND_ACK, 1, 6, 0);
    quiet(h);
    pass(h, 1100);
    for (uint32_t i = 0; i < 3; i++)
        publish(h, 0, 1, 15000);
    quiet(h);
}

static void script_checkpoint(struct history *h)
{
    create(h, 0, &work_always);
    publish(h, 0, 2, 100);
    checkpoint(h);
    publish(h, 0, 1, 50);
    subscribe(h, 0, 3);
    quiet(h);
    settle(h, COMMAND_ACK, 1, 2, 0);
    checkpoint(h);
    publish(h, 0, 1, 50);
    checkpoint(h);
    quiet(h);
}

static void script_mixed_sync(struct history *h)
{
    create(h, 0, &work_interval);
    create(h, 1, &work_always);
    publish(h, 0, 2, 100);
    publish(h, 1, 1, 100);
    publish(h, 0, 2, 100);
    subscribe(h, 0, 10);
    pass(h, 1500);
    settle(h, COMMAND_ACK, 1, 2, 0);
    publish(h, 1, 1, 600);
    pass(h, 1500);
    quiet(h);
}

static void script_administer(struct history *h)
{
    create(h, 0, &work_always);
    publish(h, 0, 4, 20);
    control(h, COMMAND_GROUP_CREATE, 0, 1, BROKER_START_BEGINNING, 0);
    control(h, COMMAND_GROUP_SEEK, 0, 0, BROKER_START_SEQ, 3);
    control(h, COMMAND_QUEUE_PURGE, 0, 0, 0, 0);
    publish(h, 0, 1, 20);
    quiet(h);
    control(h, COMMAND_GROUP_DELETE, 0, 1, 0, 0);
    control(h, COMMAND_QUEUE_PAUSE, 0, 0, 0, 0);
    quiet(h);
    control(h, COMMAND_QUEUE_DELETE, 0, 0, 0, 0);
    quiet(h);
    create(h, 0, &work_interval);
    publish(h, 0, 1, 20);
    quiet(h);
}

/* One old message stays, all around it goes: segments are cleaned and recycled. */
static void script_clean(struct history *h)
{
    create(h, 0, &work_always);
    subscribe(h, 0, 100);
    publish(h, 0, 1, 100);
    for (uint32_t i = 0; i < 10; i++)
        publish(h, 0, 1, 15000);
    quiet(h);
    settle(h, COMMAND_ACK, 2, 9, 0);
    quiet(h);
    for (uint32_t i = 0; i < 4; i++) {
        pass(h, 1100);
        checkpoint(h);
        quiet(h);
    }
    publish(h, 0, 4, 14000);
    quiet(h);
}

static void script_log(struct history *h)
{
    create(h, 0, &log_of_six);
    for (uint32_t i = 0; i < 6; i++)
        publish(h, 0, 2, 9000);
    pass(h, 1100);
    quiet(h);
    checkpoint(h);
    pass(h, 1100);
    publish(h, 0, 2, 9000);
    quiet(h);
    control(h, COMMAND_GROUP_SEEK, 0, 0, BROKER_START_BEGINNING, 0);
    subscribe(h, 0, 10);
    quiet(h);
}

/* ---- what goes together or not at all ------------------------------------------------------------------------------------ */

static const broker_queue_settings two_attempts = {.size = sizeof(broker_queue_settings),
                                                   .set = BROKER_SET_MAX_ATTEMPTS | BROKER_SET_DEAD_LETTER_EXPIRED,
                                                   .max_attempts = 2,
                                                   .dead_letter_expired = true};
static const broker_queue_settings three_at_most = {
    .size = sizeof(broker_queue_settings),
    .set = BROKER_SET_MAX_MESSAGES | BROKER_SET_OVERFLOW,
    .max_messages = 3,
    .overflow = BROKER_OVERFLOW_DROP_OLDEST,
};

static void settle_how(struct history *h, uint64_t at, struct settle_how how)
{
    if (goes_on(h) && at <= h->world.model.held_count)
        client_settle_held(h, COMMAND_NACK, at, 1, how);
    steps(h);
}

static void publish_with(struct history *h, uint32_t queue, uint32_t count, struct traits traits)
{
    if (goes_on(h) && (queue == BY_TOPIC || h->world.model.queues[queue].exists))
        client_publish_with(h, queue, count, &traits);
    steps(h);
}

static void scan(struct history *h, uint32_t queue, enum scan_action action, uint32_t target)
{
    if (goes_on(h) && h->world.model.queues[queue].exists)
        client_scan(h, queue, action, target, &(struct choice){0});
    steps(h);
}

static void bind(struct history *h, uint32_t queue, uint32_t pattern)
{
    if (goes_on(h) && h->world.model.queues[queue].exists && h->world.model.queues[queue].control == 0)
        client_bind(h, COMMAND_BIND, queue, pattern);
    steps(h);
}

/* Dies of too many attempts, of a rejection, of its age; comes back. */
static void script_dead_letters(struct history *h)
{
    create(h, 0, &two_attempts);
    publish(h, 0, 2, 30);
    publish_with(h, 0, 1, (struct traits){.ttl_ms = 50, .due_ms = 1000, .due_is_delay = true});
    subscribe(h, 0, 10);
    quiet(h);
    settle(h, COMMAND_NACK, 1, 1, 0);
    settle_how(h, 2, (struct settle_how){.dead_letter = true});
    quiet(h);
    settle(h, COMMAND_NACK, 3, 1, 0);
    pass(h, 100);
    quiet(h);
    scan(h, MODEL_PLAIN, SCAN_REDRIVE, 0);
    quiet(h);
}

static void script_topics(struct history *h)
{
    create(h, 0, &work_always);
    create(h, 1, &work_always);
    bind(h, 0, 1);
    bind(h, 1, 3);
    publish_with(h, BY_TOPIC, 2, (struct traits){.topic = 1});
    publish_with(h, BY_TOPIC, 1, (struct traits){.topic = 2});
    checkpoint(h);
    publish_with(h, BY_TOPIC, 1, (struct traits){.topic = 1});
    subscribe(h, 1, 2);
    quiet(h);
    settle(h, COMMAND_ACK, 1, 2, 0);
    quiet(h);
}

static void script_transactions(struct history *h)
{
    create(h, 0, &work_always);
    create(h, 1, &work_always);
    publish(h, 0, 3, 20);
    subscribe(h, 0, 2);
    quiet(h);
    if (goes_on(h) && h->world.model.held_count >= 2)
        client_transact_with(h, 1, 0, 0, 2);
    steps(h);
    checkpoint(h);
    if (goes_on(h))
        client_transact_with(h, 0, 1, 0, 1);
    quiet(h);
}

/* More times than fit into memory. */
static void script_schedule(struct history *h)
{
    create(h, 0, &work_always);
    for (uint32_t i = 0; i < 7; i++)
        publish_with(h, 0, 2, (struct traits){.due_ms = 100 + 900 * (7 - i), .due_is_delay = true});
    checkpoint(h);
    subscribe(h, 0, 20);
    pass(h, 3000);
    quiet(h);
    if (goes_on(h) && h->world.model.queues[0].count >= 2)
        client_reschedule(h, 0, 2, 200);
    pass(h, 1000);
    quiet(h);
}

static void script_mend(struct history *h)
{
    create(h, 0, &work_always);
    create(h, 1, &three_at_most);
    publish(h, 0, 4, 40);
    scan(h, 0, SCAN_MOVE, 2);
    quiet(h);
    publish(h, 1, 3, 40);
    publish(h, 0, 2, 40);
    scan(h, 0, SCAN_DELETE, 0);
    checkpoint(h);
    quiet(h);
}

static const struct script {
    const char *name;
    void (*run)(struct history *h);
} scripts[] = {
    {"publish, ack, nack", script_ack},    {"checkpoints", script_checkpoint},    {"rolling segments", script_roll},
    {"mixed sync", script_mixed_sync},     {"administration", script_administer}, {"cleaning", script_clean},
    {"log retention", script_log},         {"dead letters", script_dead_letters}, {"topics", script_topics},
    {"transactions", script_transactions}, {"schedule", script_schedule},         {"mending", script_mend},
};
#define SCRIPTS (sizeof(scripts) / sizeof(scripts[0]))

const char *script_name(uint64_t variant)
{
    return scripts[(variant - 1) % SCRIPTS].name;
}

void script_setup(struct history *h, uint64_t variant, bool trace)
{
    *h = (struct history){.queues = 2};
    world_init(&h->world, variant * 2 + 1, trace);
    h->world.engine_options.max_schedule_entries = 4;
    h->world.store_options.checkpoint_bytes = 1 << 20; /* only where the script says so, or a segment is full */
}

void script_run(struct history *h, uint64_t variant)
{
    if (world_start(&h->world)) {
        world_observe(&h->world, true);
        scripts[(variant - 1) % SCRIPTS].run(h);
    }
}
