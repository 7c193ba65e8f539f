/* What the engine's files call of each other, file by file. Nobody outside this folder includes it. */
#ifndef ENGINE_INTERNAL_H
#define ENGINE_INTERNAL_H

#include "engine_state.h"

/* ---- engine.c ---- */
void engine_answer(struct engine *e, const struct command *c,
                   broker_error error); /* error needs e->text; OK has no payload */
void engine_fail(struct engine *e, const struct command *c, broker_error error, uint32_t retry_ms, const char *format,
                 ...) __attribute__((format(printf, 5, 6)));
/* Add a record to `out`; where it lies, until `out` grows. NULL: no memory, `out` is as it was. */
uint8_t *engine_put_record(const struct engine *e, struct buf *out, uint8_t type, uint32_t queue, uint64_t seq,
                           const void *body, size_t len);
/* Build a record with a control body in scratch and append it. */
broker_error engine_append(struct engine *e, uint8_t type, uint32_t queue, uint64_t seq, const void *body, size_t len,
                           enum durability durability, uint64_t *index);
/* A record without a meaning, whose batch is synced: so is then all before it. */
broker_error engine_append_barrier(struct engine *e, uint64_t *index);
void engine_append_failed(struct engine *e, const struct command *c, broker_error error); /* answers with the reason */
static inline enum durability sync_durability(broker_sync sync)
{
    return sync == BROKER_SYNC_ALWAYS ? DURABILITY_SYNCED : DURABILITY_WRITTEN;
}

/* ---- pending.c ---- */
/* Room for one more answer, so that what follows an append cannot fail. */
bool pending_reserve(struct pending_ring *r);
bool pending_reserve_all(struct engine *e, size_t n); /* for n more answers of either kind */
void pending_push(struct engine *e, enum durability durability, const struct pending *p);
void pending_release(struct engine *e);
void pending_free(struct pending_ring *r);

/* ---- queue.c ---- */
struct queue *queue_find(struct engine *e, struct name name);
struct queue *queue_by_id(const struct engine *e, uint32_t id);
struct queue *queue_of(struct engine *e, const struct command *c);        /* answers if there is none */
struct queue *queue_add(struct engine *e, uint32_t id, struct name name); /* without groups; NULL: no memory */
void queue_remove(struct engine *e, struct queue *q);
broker_error queue_apply_record(struct engine *e, uint32_t id, const uint8_t *body, size_t len, const char **text);
void queue_apply_delete(struct engine *e, struct queue *q);
void queue_apply_purge(struct engine *e, struct queue *q, uint64_t last);
void queue_apply_trim(struct engine *e, struct queue *q, uint64_t last);
void queue_report_dead(struct engine *e, struct queue *q, uint64_t first, uint64_t last);
void queue_arm_trim(struct engine *e, struct queue *q, uint64_t at_ms);
void queue_run_trims(struct engine *e);
uint64_t queue_floor(const struct queue *q);        /* every group has settled everything up to it */
void queue_grew(struct engine *e, struct queue *q); /* after a publish: retention, limits, compaction */
/* Call fn for each maximal range of [from, last] that no group wants any more (or that is trimmed). */
void queue_each_dead(const struct queue *q, uint64_t from, uint64_t last, bool (*fn)(void *, uint64_t, uint64_t),
                     void *arg);
/* The first run of seqs from *at on, up to `end`, that are still there: *at to *last. false: none, *at is past them. */
bool queue_next_live(const struct queue *q, uint64_t *at, uint64_t end, uint64_t *last);
void queue_create(struct engine *e, const struct command *c);
void queue_alter(struct engine *e, const struct command *c);
void queue_delete(struct engine *e, const struct command *c);
void queue_pause(struct engine *e, const struct command *c);
void queue_purge(struct engine *e, const struct command *c);
void queue_list(struct engine *e, const struct command *c);
void queue_describe(struct engine *e, const struct command *c);
void queue_info(struct engine *e, const struct queue *q, broker_queue_info *info);
void queue_apply_settings(struct engine *e, struct queue *q, struct queue_settings *s,
                          bool paused); /* takes what s owns */
struct queue *queue_make(struct engine *e, struct name name, const struct queue_settings *settings,
                         broker_error *error); /* append and apply a new queue; NULL: *error */

/* ---- settings.c: what can be set of a queue ---- */
void settings_default(const struct engine *e, struct queue_settings *s);
bool settings_copy(struct queue_settings *to,
                   const struct queue_settings *from); /* false: no memory; to is as it was */
void settings_release(struct queue_settings *s);
bool settings_same(const struct queue_settings *a, const struct queue_settings *b);
bool settings_merge(struct queue_settings *to,
                    const broker_queue_settings *from); /* false: no memory; to is as it was */
/* Answer c if it asks for what is out of range, or if `merged` (what the queue would be) makes no sense as a whole. */
bool settings_in_range(struct engine *e, const struct command *c);
bool settings_fit(struct engine *e, const struct command *c, struct name queue, const struct queue_settings *merged);
void settings_info(const struct queue_settings *s, broker_queue_settings *info); /* pointers into s */
/* The body of RECORD_QUEUE. */
bool queue_encode(const struct queue_settings *s, bool paused, struct name name,
                  struct buf *out); /* false: no memory */
broker_error queue_decode(const struct engine *e, const uint8_t *body, size_t len, struct queue_settings *s,
                          bool *paused, struct name *name, const char **text);

/* ---- group.c ---- */
struct group *group_find(const struct queue *q, struct name name);
struct group *group_by_id(const struct queue *q, uint32_t id);
struct group *group_of(struct engine *e, const struct command *c, struct queue *q); /* answers if there is none */
struct group *group_add(struct engine *e, struct queue *q, uint32_t id, struct name name, uint64_t cursor);
void group_remove(struct engine *e, struct group *g, broker_error why, const char *text); /* ends its consumers */
/* Settle [first, last] for g: what was not settled before and now is for all groups is reported dead. */
bool group_settle(struct engine *e, struct group *g, uint64_t first, uint64_t last);
/* The body of a record about one range, of one group (0 where the record is about none). */
enum { ONE_RANGE_BYTES = 24 };
static inline void put_one_range(uint8_t body[ONE_RANGE_BYTES], uint32_t group, uint64_t first, uint64_t last)
{
    put_u32(body, group);
    put_u32(body + 4, 1);
    put_u64(body + 8, first);
    put_u64(body + 16, last);
}
/* Settle [first, last] in the log, with whatever is written next, and in memory. false: no room, no memory. */
bool group_settle_lazily(struct engine *e, struct group *g, uint64_t first, uint64_t last);
bool group_has_settled(const struct group *g, uint64_t seq);
uint64_t group_next_settled(const struct group *g, uint64_t from);
uint64_t group_next_unsettled(const struct group *g, uint64_t from);
void group_apply_seek(struct engine *e, struct group *g, uint64_t cursor);
void group_apply_delete(struct engine *e, struct group *g);
void group_apply_record(struct engine *e, struct queue *q, uint32_t id, struct name name, uint64_t cursor);
/* To be handed out again, at due_wall_ms or at once. false: no memory. */
bool group_return(struct engine *e, struct group *g, const struct lease_entry *entry, uint64_t due_wall_ms);
void group_drop_returned(struct engine *e, struct group *g, uint64_t first, uint64_t last);
void group_run_delays(struct engine *e);
void group_wake(struct engine *e, struct group *g); /* it may have something to hand out */
/* ---- group_commands.c ---- */
void group_info(const struct group *g, broker_group_info *info);
uint64_t group_ready(const struct group *g); /* messages that it could hand out now */
bool group_settings_encode(const struct filter *filter, bool single_active, struct buf *out);
/* Bytes used; 0: malformed or no memory. */
size_t group_settings_decode(const uint8_t *bytes, size_t len, struct filter **filter, bool *single_active);
void group_apply_settings(struct engine *e, struct group *g, struct filter *filter,
                          bool single_active); /* takes filter, which may be the group's own */
void group_alter(struct engine *e, const struct command *c);
void group_create(struct engine *e, const struct command *c);
void group_delete(struct engine *e, const struct command *c);
void group_seek(struct engine *e, const struct command *c);

/* ---- publish.c, producers.c ---- */
/*
 * What a stored message sets off besides being there: times, priority, message id, groups' filters. prepare comes before
 * the append (false: no memory, nothing is noted), then arrived or, if the append failed, undo.
 */
bool message_prepare(struct engine *e, struct queue *q, const struct record_view *view, uint64_t seq);
void message_undo(struct engine *e, struct queue *q, const struct record_view *view, uint64_t seq);
void message_arrived(struct engine *e, struct queue *q, const struct record_view *view, uint64_t seq);
/* Times relative to acceptance become absolute, in place; the accept time is set. */
void message_accept(struct engine *e, uint8_t *record, struct record_view *view);
/* May this be stored? OK, TOO_LARGE, INVALID_ARGUMENT; a queue's limit: QUEUE_FULL. */
broker_error message_check(struct engine *e, struct queue *q, const struct record_view *view);
bool frame_is_sound(struct engine *e, const struct command *c, const uint8_t *records, size_t len, bool by_topic);
uint32_t publish_retry_ms(broker_error error);
bool publish_reserve_result(struct engine *e, size_t count); /* room in e->results for one more than `count` */
/* Make `last_seq` of q visible when the batch `index` is as durable as asked; nobody waits. */
void publish_await(struct engine *e, struct queue *q, uint64_t last_seq, enum durability durability, uint64_t index);
void publish(struct engine *e, const struct command *c);
void publish_note_producer(struct engine *e, uint32_t queue, uint64_t producer, uint64_t number, uint64_t seq);
void producers_expire(struct engine *e);
void producers_forget_queue(struct engine *e, uint32_t queue);
bool producer_has(const struct producer *p, uint64_t number);
void producer_note(struct producer *p, uint64_t number, uint64_t seq);
uint64_t producer_seq(const struct producer *p, uint64_t number); /* what `number` was stored as; 0: not remembered */
/* The producer, made if it is new, else counted as used now. NULL: no memory. */
struct producer *producer_use(struct engine *e, uint32_t queue, uint64_t producer);
struct producer *producer_find(struct engine *e, uint32_t queue, uint64_t producer);
struct producer *producer_make(struct engine *e, uint32_t queue, uint64_t producer);
void producers_free(struct engine *e);

/* ---- lease.c ---- */
struct lease_block *block_new(struct engine *e, struct group *g, struct consumer *consumer,
                              uint32_t count); /* no entries yet */
void block_free(struct engine *e, struct lease_block *b);
bool block_return_all(struct engine *e, struct lease_block *b); /* false: no memory, try again */
/* Leases of first..last end; their receipts are stale. */
void leases_drop(struct engine *e, struct group *g, uint64_t first, uint64_t last);
void leases_expire(struct engine *e);
/* The leases of these entries are over. The block goes with its last one. */
void entries_end(struct engine *e, struct lease_block *b, uint64_t bits);
/* The same without an ack: they come back at due_wall_ms (0: the queue's backoff), or go to the dead letters. false: no
   memory, the rest is still leased. */
enum comeback { COMEBACK_RETURN, COMEBACK_NACKED /* when it is due is in the log already */, COMEBACK_REJECT };
bool entries_return(struct engine *e, struct lease_block *b, uint64_t bits, uint64_t due_wall_ms,
                    enum comeback comeback);
/* ---- settle.c ---- */
void settle(struct engine *e, const struct command *c); /* ack, nack, extend */

/* ---- consume.c ---- */
void subscribe(struct engine *e, const struct command *c);
void unsubscribe(struct engine *e, const struct command *c);
void consumer_credit(struct engine *e, const struct command *c);
void consumer_hold(struct engine *e, const struct command *c);
void lease(struct engine *e, const struct command *c);
void connection_close(struct engine *e, const struct command *c);
void consumer_requeue(struct consumer *consumer); /* it was served: behind the others of its priority */
void consumer_end(struct engine *e, struct consumer *consumer, broker_error why,
                  const char *text);                              /* OK: its owner ended it */
void consumer_check(struct engine *e, struct consumer *consumer); /* in or out of the group's ready list */
void group_consumers_changed(struct engine *e,
                             struct group *g); /* single_active, or who is the active one, may have changed */
void waits_expire(struct engine *e);
void consumers_free(struct engine *e);

/* ---- dispatch.c ---- */
void dispatch_run(struct engine *e);

/* ---- schedule.c: times at which something happens to a message ---- */
enum schedule_kind { SCHEDULE_DUE, SCHEDULE_EXPIRE };
/* Entries are hints: whoever gets schedule_fired looks whether it still matters. Kept in memory up to a limit, beyond it in
   sorted runs in the log (SCHEDULE_QUEUE), read back as their time comes near. */
struct schedule *schedule_new(void);
void schedule_free(struct schedule *s);
bool schedule_add(struct engine *e, enum schedule_kind kind, uint32_t queue, uint64_t seq, uint64_t at_wall_ms);
/* Has this wall time surely passed, however the clock was set meanwhile? */
bool schedule_is_past(const struct engine *e, uint64_t wall_ms);
void schedule_run(struct engine *e);            /* fire what is due; read ahead; spill */
uint64_t schedule_next(const struct engine *e); /* monotonic ms of the next call of schedule_run; UINT64_MAX: none */
void schedule_readable(struct engine *e);       /* a pending read of SCHEDULE_QUEUE may succeed now */
bool schedule_save(const struct engine *e, struct buf *out);
struct reader;
bool schedule_load(struct engine *e, struct reader *r);
broker_error schedule_replay(struct engine *e, const uint8_t *record,
                             const char **text); /* a message of SCHEDULE_QUEUE */
void schedule_recovered(struct engine *e);
void schedule_live(const struct engine *e, uint64_t first, uint64_t last,
                   void (*fn)(void *arg, uint64_t first, uint64_t last), void *arg);
/* Blocks of times (up to 256 each) that the log did not give back since the start: damage. Whose times they were is unknown. */
uint64_t schedule_lost(const struct engine *e);
/* In specials.c. fired: the time has come. wanted: would firing it still matter? (asked before a time is written away) */
void schedule_fired(struct engine *e, enum schedule_kind kind, uint32_t queue, uint64_t seq, uint64_t at_wall_ms);
bool schedule_wanted(const struct engine *e, enum schedule_kind kind, uint32_t queue, uint64_t seq,
                     uint64_t at_wall_ms);

/* ---- specials.c: priorities and times of messages ---- */
bool message_is_special(const struct record_view *view); /* of a stored record */
bool is_special(const struct queue *q, uint64_t seq);
uint8_t specials_priority(const struct queue *q, uint64_t seq);
bool specials_note(struct engine *e, struct queue *q, const struct record_view *view,
                   uint64_t seq); /* false: no memory */
/* Gone for every group, or never stored. */
void specials_forget(struct engine *e, struct queue *q, uint64_t first, uint64_t last);
void specials_due(struct engine *e, struct queue *q, uint64_t seq); /* a waiting one need not wait any more */
void message_expired(struct engine *e, struct queue *q, uint64_t seq);
void specials_visible(struct engine *e, struct queue *q, uint64_t from,
                      uint64_t to); /* these can be seen from now on */
bool specials_fill(
    struct group *g); /* its lanes, anew: it was made, moved or recovered; false: no memory, g->refill is set */
void specials_free(struct queue *q);
bool specials_save(const struct queue *q, struct buf *out);
bool specials_load(struct engine *e, struct queue *q, struct reader *r);
bool lane_add(struct group *g, uint8_t priority, uint64_t seq); /* false: no memory, g->refill is set */
void lane_remove(struct group *g, uint64_t first, uint64_t last);
void lanes_free(struct group *g);
bool lanes_have(const struct group *g, uint64_t seq);
void reschedule(struct engine *e, const struct command *c);
broker_error reschedule_replay(struct engine *e, struct queue *q, uint64_t seq, const uint8_t *body, size_t len,
                               const char **text);

/* ---- keys.c: one message of a key at a time, or keys in turn ---- */
enum key_fate { KEY_FREE /* it may be handed out, and holds its key */, KEY_PARKED, KEY_NO_MEMORY };
bool keys_matter(const struct queue *q);
/* A message was read that may be handed out. *key: its key's number; 0: none. */
enum key_fate key_take(struct group *g, const struct record_view *view, uint64_t seq, uint32_t *key);
void key_untake(struct group *g, uint32_t key,
                uint64_t seq); /* it was not handed out after all: the first of its key again */
/* A message is settled or gone: the next of its key may go. */
void key_release(struct engine *e, struct group *g, uint32_t key, uint64_t seq);
/* The parked message whose turn it is; false: none. key_take makes it the holder. */
bool keys_next(const struct group *g, uint64_t *seq);
/* first..last are settled or gone, whatever they waited for. */
void keys_drop(struct engine *e, struct group *g, uint64_t first, uint64_t last);
/* The cursor stays before `from`: plain messages from there on that were parked are to be looked at again. */
void keys_unpark_from(struct group *g, uint64_t from);
void keys_free(struct group *g);
uint64_t keys_blocked(const struct group *g);

/* ---- filter.c: which messages ---- */
/* NULL: *error and *text (static) say why. The strings are copied. A filter of nothing gives NULL and OK. */
struct filter *filter_new(const broker_filter *from, broker_error *error, const char **text);
void filter_free(struct filter *f);                                          /* NULL is fine */
bool filter_matches(const struct filter *f, const struct record_view *view); /* NULL: everything */
void filter_get(const struct filter *f, broker_filter *out);                 /* pointers into f; NULL: zero */
bool filter_is_same(const struct filter *a, const struct filter *b);
bool filter_encode(const struct filter *f, struct buf *out); /* self-delimiting; NULL too */
/* Bytes used; 0: malformed or no memory. *out NULL: everything. */
size_t filter_decode(const uint8_t *bytes, size_t len, struct filter **out);

/* ---- scan.c: walking a queue for a client ---- */
void scan(struct engine *e, const struct command *c);
void scans_run(struct engine *e);
void scans_readable(struct engine *e, struct queue *q);
void scans_drop_queue(struct engine *e, struct queue *q); /* it is going: they end with QUEUE_NOT_FOUND */
void scans_drop_conn(struct engine *e, uint64_t conn);
bool scans_waiting(
    const struct engine *e); /* is there work that needs no read? then the next tick should come at once */
void scans_free(struct engine *e);

/* ---- read.c: messages by position ---- */
struct reads *reads_new(void);
void reads_free(struct engine *e); /* nobody is told */
void read_queue(struct engine *e, const struct command *c);
void reads_run(struct engine *e);
uint64_t reads_next(const struct engine *e);        /* monotonic ms of the next call of reads_run */
void reads_wake(struct engine *e, struct queue *q); /* something has become visible */
void reads_readable(struct engine *e, struct queue *q);
void reads_drop_conn(struct engine *e, uint64_t conn); /* nobody is told */
/* They end with QUEUE_NOT_FOUND. The queue cannot be found by its name any more: a sink may submit the next read at once. */
void reads_drop_queue(struct engine *e, struct queue *q);

/* ---- compact.c: log queues that keep the last message of each key ---- */
void compact_note(struct engine *e, struct queue *q); /* something was published, or the setting changed */
void compact_run(struct engine *e);
void compact_readable(struct engine *e, struct queue *q);
uint64_t compact_next(const struct engine *e); /* monotonic ms */
void compact_free(struct engine *e, struct queue *q);

/* ---- topics.c: which queues a topic leads to ---- */
struct topics *topics_new(void);
void topics_free(struct topics *t);
bool topics_bind(struct engine *e, struct queue *q, const char *pattern,
                 size_t len); /* false: no memory. Again: no effect */
void topics_unbind(struct engine *e, struct queue *q, const char *pattern, size_t len);
void topics_forget_queue(struct engine *e, struct queue *q);
bool topics_has(const struct queue *q, const char *pattern, size_t len);
/* The distinct queues bound for a topic, in the order of their ids; *count of them. The array is the topics' own, valid until
   the next call. false: no memory. */
bool topics_match(struct engine *e, const char *topic, size_t len, struct queue *const **queues, uint32_t *count);
void bind_or_unbind(struct engine *e, const struct command *c);
broker_error bind_replay(struct engine *e, struct queue *q, const uint8_t *body, size_t len, const char **text);
bool bindings_save(const struct queue *q, struct buf *out);
bool bindings_load(struct engine *e, struct queue *q, struct reader *r);

/* ---- dedup.c: message ids seen of late ---- */
/* The seq that a message with this id got within the queue's window; 0: none. */
uint64_t dedup_find(struct engine *e, struct queue *q, const uint8_t *id, size_t len);
void dedup_note(struct engine *e, struct queue *q, const uint8_t *id, size_t len, uint64_t seq, uint64_t time_ms);
void dedup_settings_changed(struct engine *e, struct queue *q);
void dedup_free(struct engine *e, struct queue *q);
void dedup_expire(struct engine *e);         /* forget what is too old, also of queues that nobody touches */
uint64_t dedup_next(const struct engine *e); /* monotonic ms of the next call of dedup_expire; UINT64_MAX: none */
bool dedup_save(const struct queue *q, struct buf *out);
bool dedup_load(struct engine *e, struct queue *q, struct reader *r);

/* ---- move.c: a message's copy into another queue, and the end of the original, in one step ---- */
struct dead_note { /* becomes the headers dead-reason, dead-queue, … of docs/PROTOCOL.md */
    const char *reason;
    const struct group *group; /* NULL: all groups */
    uint32_t attempts;         /* 0: not said */
};
struct move {
    struct queue *from, *to;
    const struct stored_message *message;
    const struct dead_note *note; /* NULL: no dead letter; dead-… headers are taken off */
    uint8_t end_type;             /* the record that ends the original in `from`: RECORD_SETTLE, _DELETE, _EXPIRE */
    const uint8_t *end_body;
    size_t end_len;
};
/* Append both, all or nothing, and make the copy known in `to`; ending the original in memory is the caller's. The copy is
   visible once it is durable. *index: the batch. */
broker_error message_move(struct engine *e, const struct move *m, uint64_t *index);
struct queue *dead_letter_find(struct engine *e, const struct queue *q); /* NULL: it was not needed yet */
/* The queue for q's dead letters; made (appended, applied) if it is not there. NULL: *error. */
struct queue *dead_letter_queue(struct engine *e, struct queue *q, broker_error *error);

/* ---- deadletter.c: what becomes of a message that comes back, or expires ---- */
/* A delivery of `seq` ended without an ack. due_wall_ms 0: the queue's backoff says. false: no memory. */
bool message_came_back(struct engine *e, struct group *g, const struct lease_entry *entry, uint64_t due_wall_ms);
bool message_reject(struct engine *e, struct group *g, const struct lease_entry *entry);
uint64_t backoff_due(const struct engine *e, const struct group *g, uint64_t seq,
                     uint32_t attempts); /* wall ms; 0: at once */
void dying_run(struct engine *e);
void expiring_wake(struct engine *e, struct queue *q, uint64_t from); /* look at the expired ones from there on */
bool is_over(const struct queue *q, uint64_t seq);                    /* expired, written down or not */
/* What is over has come back, or is about to be handed out again: it never is. false: not possible now. */
bool message_over(struct engine *e, struct group *g, uint64_t seq, uint32_t key);
void dying_readable(struct engine *e, struct queue *q);
void dying_drop(struct engine *e, struct group *g, uint64_t first, uint64_t last); /* forget these */
bool dying_waiting(const struct engine *e);
void queue_apply_delete_range(struct engine *e, struct queue *q, uint64_t first, uint64_t last);
void queue_apply_expire_range(struct engine *e, struct queue *q, uint64_t first, uint64_t last);
bool group_holds(const struct group *g,
                 uint64_t seq); /* handed out, and neither settled nor waiting in lanes or for its key */
/* Append RECORD_DELETE for a list of ranges (at most SETTLE_ITEMS_MAX) and apply it. */
broker_error queue_delete_ranges(struct engine *e, struct queue *q, const uint64_t (*ranges)[2], uint32_t n,
                                 enum durability durability, uint64_t *index);

/* ---- limits.c: how much a queue takes, and queues that nobody uses ---- */
/* May `messages` more of `bytes` in all be stored? QUEUE_FULL: no (overflow reject). */
broker_error limits_check(struct engine *e, struct queue *q, uint64_t messages, uint64_t bytes);
/* Overflow drop_oldest: after a publish, and when one has become visible or a read of the queue may succeed. Goes on at
   the next call where it cannot be finished in this one. */
void limits_enforce(struct engine *e, struct queue *q);
void queue_used(struct engine *e, struct queue *q); /* published, consumed (and the end of it), changed */
void unused_arm(struct engine *e, struct queue *q); /* settings.unused_ms begins to count; no effect during replay */
void unused_run(struct engine *e);                  /* due at the least key of engine->unused */

/* ---- arrivals.c: messages that are appended with others, all or nothing ---- */
struct arrival { /* one place of one message */
    struct queue *queue;
    uint64_t seq;
    uint8_t *record;
    struct record_view view;
};
struct arrivals {
    struct engine *e;
    struct arrival *places;
    uint32_t count, cap;
    struct append_item *items;
    uint32_t item_count, item_cap;
    struct buf made; /* records built here; items point into it only once they are complete */
};
void arrivals_init(struct arrivals *a, struct engine *e);
void arrivals_release(struct arrivals *a);
/* A message for these queues (not none): gets its seqs. On an error nothing of it is left. */
broker_error arrivals_add(struct arrivals *a, uint8_t *record, struct queue *const *queues, uint32_t count);
bool arrivals_add_record(struct arrivals *a, uint8_t type, uint32_t queue, const void *body, size_t len);
/* Append everything; on an error nothing is left of it. Then each place is known in its queue. */
broker_error arrivals_commit(struct arrivals *a, enum durability durability, uint64_t *index);
void arrivals_undo(struct arrivals *a);

/* ---- topic_publish.c ---- */
/* Where a message goes by its topic: *count of *targets (grown as needed), without queues that know its id; *bound counts
   these too. An error if one of them cannot take it. */
broker_error route_message(struct engine *e, const struct record_view *view, struct queue ***targets, uint32_t *cap,
                           uint32_t *count, uint32_t *bound);
/* ---- transact.c ---- */
void transact(struct engine *e, const struct command *c);
void publish_by_topic(struct engine *e, const struct command *c);

bool replay_has(const struct group *g, uint64_t seq); /* the log told of attempts at it */
void replay_free(struct group *g);
bool replay_note(struct group *g, uint64_t seq, uint32_t attempts, uint64_t due_wall_ms, bool rejected);
/* ---- snapshot.c: engine_snapshot, engine_restore; replay.c: engine_replay, engine_recovered; reader.c: ---- */
struct reader { /* bytes of a snapshot being read */
    const uint8_t *at;
    size_t left;
    uint32_t version;
    const char *text; /* what is wrong */
    broker_error error;
};
const uint8_t *reader_bytes(struct reader *r, size_t n); /* NULL: too few left, and the error is set */
uint32_t reader_u32(struct reader *r);                   /* 0 after an error */
uint64_t reader_u64(struct reader *r);
bool reader_refuse(struct reader *r, broker_error error, const char *text); /* false; the first error stays */
bool reader_seqset(struct reader *r, struct seqset *s);

#endif
