/*
 * Owns:            what every command must satisfy before the engine sees it: names, ranges, limits, permissions.
 * May use:         engine (commands and completions), wire (name rules), base.
 * Never knows:     bytes of any protocol, sockets, what the engine does with a command.
 * Start reading at COMMANDS in door.c: one row a command.
 *
 * A refused command is answered like any other: by a completion through the engine's sink, with a text that names the
 * value and says what to do.
 */
#ifndef DOOR_H
#define DOOR_H

#include "engine.h"

enum permission {
    PERMISSION_NONE = 0, /* needs none */
    PERMISSION_PUBLISH = 1,
    PERMISSION_CONSUME = 2, /* subscribe, lease, settle, peek, read */
    PERMISSION_MANAGE = 4,  /* make, change and remove queues, groups, bindings, and what lies in them */
    PERMISSION_OBSERVE = 8, /* list, describe, count */
    PERMISSION_ALL = 15,
};

/* Who is asking. Everybody may do everything until there is authentication; permissions by queue will hang here too. */
struct identity {
    const char *name; /* for errors and logs */
    unsigned permissions;
};
extern const struct identity identity_anyone;

/* What the door counts of one connection; in the front's memory, zeroed at first. */
struct door_session {
    const struct identity *identity;
    uint32_t subscriptions, waiting_leases;
};

struct door_options {            /* 0: no limit of the door's own */
    uint32_t max_subscriptions;  /* of a session */
    uint32_t max_waiting_leases; /* of a session; reads count as well */
    uint32_t max_settle_ranges;  /* in one command */
    uint32_t max_transact_parts; /* in one command */
    uint32_t max_list;           /* queues in one answer */
    uint32_t max_batch_bytes;    /* that a LEASE, a READ or a peek may ask for; asking for 0 or more means this */
    uint32_t max_message_bytes;  /* that a queue may allow */
};

struct door;
/* The sink is the engine's own. NULL: no memory. */
struct door *door_new(const struct door_options *options, struct engine *engine, const struct sink_ops *sink_ops,
                      void *sink);
void door_free(struct door *d);

/* Check and hand on. `session` may be NULL for COMMAND_CLOSE, HOLD and UNHOLD. */
void door_submit(struct door *d, struct door_session *session, struct now now, const struct command *c);
/* For what a front does without the engine: may this session? OK, or the error with its sentence in `text`. */
broker_error door_permits(const struct door *d, const struct door_session *session, unsigned permission,
                          bool while_draining, char *text, size_t size, uint32_t *retry_ms);
/* The front tells of every completion and every `ended` that concerns the session, in its sink's functions. */
void door_completed(struct door_session *session, const struct completion *c);
void door_ended(struct door_session *session);

/* Before a shutdown: from now on everything but settling, credit and ending is refused with SHUTTING_DOWN. */
void door_drain(struct door *d);

#endif
