/* What lies in queues: scans, one message deleted or given another time, dead letters sent back. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin_internal.h"

enum {
    BODY_MAX_BYTES = 256 << 10, /* a filter has up to 64 KiB of text */
    STEP_MESSAGES = 1000000     /* most matches of one command */
};

static const char *const QUEUE[] = {"queue", NULL};
static const char *const QUEUE_AND_SEQ[] = {"queue", "seq", NULL};

/* ---- scans ---------------------------------------------------------------------------------------------------------- */

/* admin.numbers of a scan: what the steps so far did, and what is left to do with ?all. */
enum { MATCHED, SKIPPED, FROM, LAST };

static bool read_scan(struct params *p, json_t *map, struct admin_options *options)
{
    return param_bool(p, "dry_run", &options->dry_run) && param_bool(p, "all", &options->all);
}

/* A map that asks for more matches than a command may is fine if all of them need not come from one. */
static void change_scan(struct call *c, struct command *command)
{
    struct admin *a = admin_of(c);
    if (a->options.dry_run) {
        command->u.scan.action = SCAN_COUNT;
        command->u.scan.target.len = 0;
    }
    if (!a->options.all)
        return;
    if (a->numbers[FROM])
        command->u.scan.from_seq = a->numbers[FROM];
    /* What comes while it goes on is not walked to: so it ends, however fast messages come. */
    uint64_t last = a->numbers[LAST];
    if ((command->u.scan.to_seq == 0 || command->u.scan.to_seq > last) && command->u.scan.from_seq <= last)
        command->u.scan.to_seq = last;
    uint64_t done = a->numbers[MATCHED], wanted = command->u.scan.max_messages;
    if (wanted < STEP_MESSAGES) /* given: of all steps together */
        command->u.scan.max_messages = (uint32_t)(wanted > done ? wanted - done : 1);
}

static void respond_scan(struct call *c, uint64_t next_seq)
{
    struct admin *a = admin_of(c);
    msgpack_packer pk = admin_pack(c->rest);
    msgpack_pack_map(&pk, 3);
    pack_key_u64(&pk, "matched", a->numbers[MATCHED]);
    pack_key_u64(&pk, "skipped", a->numbers[SKIPPED]);
    pack_key_u64(&pk, "next_seq", next_seq);
    admin_respond_map(c, 200, NULL);
}

/* As one command says what it did before it failed, several do. */
static void scan_failed(struct call *c, const struct completion *done)
{
    struct admin *a = admin_of(c);
    if (a->numbers[MATCHED] + a->numbers[SKIPPED] > 0)
        respond_scan(c, a->numbers[FROM]);
    else
        rest_refuse_completion(c, done);
}

/* Was this all that was asked for? (max_messages, if it was given, is in the map.) */
static bool is_enough(struct call *c)
{
    struct admin *a = admin_of(c);
    struct wire_map m;
    uint64_t wanted = STEP_MESSAGES;
    bool given = wire_map_open(&m, a->map, a->map_len) == BROKER_OK && wire_map_has(&m, "max_messages") &&
                 wire_map_u64(&m, "max_messages", 0, UINT64_MAX, &wanted);
    wire_map_close(&m);
    return given && wanted < STEP_MESSAGES && a->numbers[MATCHED] >= wanted;
}

static void scanned(struct call *c, const struct completion *done)
{
    struct admin *a = admin_of(c);
    uint64_t next = done->u.scan.next_seq;
    a->numbers[MATCHED] += done->u.scan.matched;
    a->numbers[SKIPPED] += done->u.scan.skipped;
    if (!a->options.all || next == 0 || next <= a->numbers[FROM] || is_enough(c)) {
        respond_scan(c, next);
        return;
    }
    a->numbers[FROM] = next;
    admin_submit(c, scanned, scan_failed);
}

static void scan_described(struct call *c, const struct completion *done)
{
    admin_of(c)->numbers[LAST] = done->u.describe.queue->last_seq;
    admin_submit(c, scanned, scan_failed);
}

static const char *const SCAN_QUERIES[] = {"dry_run", "all", NULL};

static void scan(void *arg, struct http_exchange *x, const struct http_request *q)
{
    static const struct admin_request REQUEST = {CONTROL_SCAN,
                                                 QUEUE,
                                                 .queries = SCAN_QUERIES,
                                                 .has_body = true,
                                                 .read = read_scan,
                                                 .describes = true,
                                                 .first = scan_described,
                                                 .change = change_scan};
    admin_begin(arg, x, q, &REQUEST);
}

/* ---- dead letters --------------------------------------------------------------------------------------------------- */

enum { HEADERS_MAX = 64 }; /* of a filter; the door allows fewer */

struct dead { /* admin.more */
    char queue[DEAD_NAME_BYTES];
    char origin[NAME_MAX_BYTES + 1];
    broker_header *headers; /* behind it: the filter's, and one more */
};

void dead_letters_of(const struct completion *described, char out[DEAD_NAME_BYTES])
{
    const broker_queue_info *q = described->u.describe.queue;
    const char *named = q->settings.dead_letter;
    bool given = named && *named;
    snprintf(out, DEAD_NAME_BYTES, "%s%s", given ? named : q->name, given ? "" : ".dead");
}

static bool read_redrive(struct params *p, json_t *map, struct admin_options *options)
{
    if (json_object_set_new(map, "action", json_string("redrive")) != 0) {
        snprintf(p->error, sizeof(p->error), "out of memory");
        return false;
    }
    return read_scan(p, map, options);
}

/* Several queues may share one for their dead letters: those of this one are meant. */
static void change_redrive(struct call *c, struct command *command)
{
    struct dead *dead = admin_of(c)->more;
    broker_filter *f = &command->u.scan.filter;
    command->queue = (struct name){dead->queue, strlen(dead->queue)};
    size_t n = f->header_count < HEADERS_MAX ? f->header_count : HEADERS_MAX;
    if (n > 0)
        memcpy(dead->headers, f->headers, n * sizeof(*f->headers));
    dead->headers[n++] = (broker_header){"dead-queue", dead->origin};
    f->headers = dead->headers;
    f->header_count = n;
    change_scan(c, command);
}

static void dead_described(struct call *c, const struct completion *done)
{
    admin_of(c)->numbers[LAST] = done->u.describe.queue->last_seq;
    admin_submit(c, scanned, scan_failed);
}

static void no_dead_yet(struct call *c, const struct completion *done)
{
    if (done->error == BROKER_QUEUE_NOT_FOUND)
        respond_scan(c, 0);
    else
        rest_refuse_completion(c, done);
}

static void redrive_described(struct call *c, const struct completion *done)
{
    struct admin *a = admin_of(c);
    struct dead *dead = calloc(1, sizeof(*dead) + (HEADERS_MAX + 1) * sizeof(broker_header));
    if (!dead) {
        call_refuse(c, BROKER_NO_MEMORY, "no memory for the request; try again", 1000);
        return;
    }
    dead->headers = (broker_header *)(dead + 1);
    dead_letters_of(done, dead->queue);
    snprintf(dead->origin, sizeof(dead->origin), "%s", done->u.describe.queue->name);
    a->more = dead;
    admin_describe(c, (struct name){dead->queue, strlen(dead->queue)}, dead_described, no_dead_yet);
}

static void redrive(void *arg, struct http_exchange *x, const struct http_request *q)
{
    static const struct admin_request REQUEST = {CONTROL_SCAN,
                                                 QUEUE,
                                                 .queries = SCAN_QUERIES,
                                                 .has_body = true,
                                                 .read = read_redrive,
                                                 .describes = true,
                                                 .first = redrive_described,
                                                 .change = change_redrive};
    admin_begin(arg, x, q, &REQUEST);
}

/* ---- one message ---------------------------------------------------------------------------------------------------- */

static bool read_delete(struct params *p, json_t *map, struct admin_options *options)
{
    struct http_text state = {"any", 3}, seq = p->request->params[1];
    uint64_t number = 0;
    char out[SHOWN_BYTES];
    if (!param_text(p, "state", 16, &state))
        return false;
    if (!parse_u64(seq.bytes, seq.len, &number) || number == 0 || number > INT64_MAX) {
        snprintf(p->error, sizeof(p->error), "'%s' is no seq; give a number from 1 on", shown(seq, out));
        return false;
    }
    bool good = json_object_set_new(map, "action", json_string("delete")) == 0 &&
                json_object_set_new(map, "from_seq", json_integer((json_int_t)number)) == 0 &&
                json_object_set_new(map, "to_seq", json_integer((json_int_t)number)) == 0 &&
                json_object_set_new(map, "state", json_stringn(state.bytes, state.len)) == 0;
    if (!good)
        snprintf(p->error, sizeof(p->error), "state is '%s'; give one of any scheduled available", shown(state, out));
    return good;
}

static void deleted(struct call *c, const struct completion *done)
{
    if (done->u.scan.matched > 0)
        admin_respond_nothing(c);
    else
        call_refuse(c, BROKER_MESSAGE_NOT_FOUND,
                    "the queue has no such message (any more), or it is not in the state that was asked for", 0);
}

static void delete_message(void *arg, struct http_exchange *x, const struct http_request *q)
{
    static const char *const QUERIES[] = {"state", NULL};
    static const struct admin_request REQUEST = {CONTROL_SCAN, QUEUE, .queries = QUERIES, .read = read_delete,
                                                 .first = deleted};
    admin_begin(arg, x, q, &REQUEST);
}

static void reschedule(void *arg, struct http_exchange *x, const struct http_request *q)
{
    static const struct admin_request REQUEST = {CONTROL_RESCHEDULE, QUEUE_AND_SEQ, .has_body = true,
                                                 .first = admin_answer_nothing};
    admin_begin(arg, x, q, &REQUEST);
}

static const struct http_route ROUTES[] = {
    {HTTP_POST, "/v1/queues/{queue}/scan", scan, BODY_MAX_BYTES},
    {HTTP_POST, "/v1/queues/{queue}/dead/redrive", redrive, BODY_MAX_BYTES},
    {HTTP_DELETE, "/v1/queues/{queue}/messages/{seq}", delete_message, 0},
    {HTTP_PATCH, "/v1/queues/{queue}/messages/{seq}", reschedule, BODY_MAX_BYTES},
};

bool admin_mend_register(struct rest *r)
{
    return http_add_routes(r->http, ROUTES, sizeof(ROUTES) / sizeof(ROUTES[0]), r);
}
