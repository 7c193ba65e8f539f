/* Inside the room: administrative calls. Each is one or a few commands, one after the other, and then an answer. */
#ifndef REST_ADMIN_INTERNAL_H
#define REST_ADMIN_INTERNAL_H

#include "rest_internal.h"

struct admin;

/* What a command of the call answered, or how it failed. */
typedef void admin_step(struct call *c, const struct completion *done);

struct admin_options { /* from the query */
    bool all, dry_run;
};

/* What a route asks for: how its request becomes a call. */
struct admin_request {
    enum control_kind kind; /* what body and path say, together, to control_parse */
    const char *const
        *path; /* the keys that the path's {...} stand for, in their order; NULL ends. The first is "queue" */
    const char *const *queries; /* known query parameters; NULL: none */
    bool has_body;              /* else what is sent is not looked at */
    /* What else goes into the map; false: p->error says what is wrong. NULL: nothing. */
    bool (*read)(struct params *p, json_t *map, struct admin_options *options);
    bool describes;     /* its queue is described first: `first` is told that */
    admin_step *first;  /* what the (first) command answers */
    admin_step *failed; /* and if it fails; NULL: that is the answer */
    void (*change)(struct call *c,
                   struct command *command); /* has the last word on the map's command; NULL: as it is */
};

struct admin { /* c->u.any.memory: one allocation with what it points to */
    const struct admin_request *request;
    admin_step *next, *failed; /* of the command under way */
    struct name queue, group;  /* of the path; len 0: it has none */
    struct name described;     /* the queue that is to be described; in memory of the call's */
    struct admin_options options;
    bool existed;       /* before */
    const uint8_t *map; /* what control_parse takes */
    size_t map_len;
    void *more;          /* owned; freed at the end */
    uint64_t numbers[4]; /* the request's own */
    char bytes[];
};

struct admin *admin_of(struct call *c);
/* admin_begin: x is answered, or its call is there and the first command submitted. */
void admin_begin(struct rest *r, struct http_exchange *x, const struct http_request *q,
                 const struct admin_request *request);
/* From a step, soon after it: the map's command, and then `next`; or `failed`, NULL: that is the answer. */
void admin_submit(struct call *c, admin_step *next, admin_step *failed);
void admin_describe(struct call *c, struct name queue, admin_step *next, admin_step *failed);
/* What was packed into rest->map, one value, as JSON. */
msgpack_packer admin_pack(struct rest *r);
void admin_respond_map(struct call *c, int status, const char *location);
void admin_respond_nothing(struct call *c); /* 204 */
/* Steps: the completion's own map; nothing. */
void admin_answer_map(struct call *c, const struct completion *done);
void admin_answer_nothing(struct call *c, const struct completion *done);
/* Steps: now the queue's description; it, as the answer (201 with Location unless it existed). */
void admin_then_describe(struct call *c, const struct completion *done);
void admin_answer_description(struct call *c, const struct completion *done);
const broker_group_info *admin_find_group(const struct completion *done, struct name group);

/* The body as a JSON object (an empty one if there is none and that is fine); NULL: x was answered. The caller decrefs it. */
json_t *admin_body(struct http_exchange *x, const struct http_request *q, bool may_be_empty);
/* Are all its keys known to `kind`, and none of them given by the path? false: `text` names the one. */
bool admin_knows_keys(enum control_kind kind, const json_t *body, const char *const *path, char text[FORM_TEXT_BYTES]);
/* Where a queue's dead letters go, from its description. */
enum { DEAD_NAME_BYTES = NAME_MAX_BYTES + 8 };
void dead_letters_of(const struct completion *described, char out[DEAD_NAME_BYTES]);
bool admin_same_filter(const broker_filter *a, const broker_filter *b);

/* ---- what is told as text (errors.c, openapi.c) ------------------------------------------------------------------------ */

const char *openapi_text(size_t *len);
void openapi_get(void *arg, struct http_exchange *x, const struct http_request *q);
void errors_get(void *arg, struct http_exchange *x, const struct http_request *q);
/* What an error means and what to do, appended; false: there is none of that name ("queue_full"). */
bool errors_explain(struct buf *out, const char *slug, size_t len);

/* ---- routes ---------------------------------------------------------------------------------------------------------- */

bool admin_queues_register(struct rest *r);
bool admin_groups_register(struct rest *r);
bool admin_mend_register(struct rest *r);
bool definitions_register(struct rest *r);
bool backup_register(struct rest *r);
void backup_free(struct rest *r);

#endif
