/* What consumers do with receipts: one in the path, or many in the body. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "settle.h"

static const struct settling {
    const char *name;
    enum command_type type;
    bool dead_letter, has_delay, has_lease;
} ACK = {"ack", COMMAND_ACK, false, false, false}, NACK = {"nack", COMMAND_NACK, false, true, false},
  REJECT = {"reject", COMMAND_NACK, true, false, false}, EXTEND = {"extend", COMMAND_EXTEND, false, false, true};

/* ---- one ------------------------------------------------------------------------------------------------------------ */

static void one_answer(struct call *c, const struct completion *done)
{
    char text[FORM_TEXT_BYTES];
    if (done->u.settle.settled > 0) {
        call_respond(c, &(struct http_response){.status = 204});
        return;
    }
    snprintf(text, sizeof(text),
             "the lease of receipt %llu is over: the message has gone to somebody else or will, or is settled already",
             (unsigned long long)c->u.any.numbers[0]);
    call_refuse(c, BROKER_STALE_RECEIPT, text, 0);
}
static const struct call_kind ONE = {.answer = one_answer};

static void settle_one(struct rest *r, struct http_exchange *x, const struct http_request *q, const struct settling *s)
{
    static const char *const NONE[] = {NULL}, *const DELAY[] = {"delay", NULL}, *const LEASE[] = {"lease", NULL};
    struct params p;
    struct receipt_range range = {0, 1};
    char out[SHOWN_BYTES];
    uint64_t delay_ms = 0, lease_ms = 0;
    if (!params_open(&p, q,
                     s->has_delay   ? DELAY
                     : s->has_lease ? LEASE
                                    : NONE,
                     NULL) ||
        !param_duration(&p, "delay", 0, UINT32_MAX, &delay_ms) ||
        !param_duration(&p, "lease", 1, 86400000, &lease_ms)) {
        rest_refuse(x, "%s", p.error);
        return;
    }
    if (!parse_u64(q->params[0].bytes, q->params[0].len, &range.first)) {
        rest_refuse(x, "'%s' is no receipt; give the number that the message was leased with",
                    shown(q->params[0], out));
        return;
    }
    if (s->has_lease && !lease_ms) {
        rest_refuse(x, "an extend needs to know for how long from now; give lease=30s");
        return;
    }
    struct call *c = call_begin(r, &ONE, x);
    if (!c)
        return;
    c->u.any.numbers[0] = range.first;
    struct command command = {.type = s->type,
                              .u.settle = {.ranges = &range,
                                           .count = 1,
                                           .delay_ms = (uint32_t)delay_ms,
                                           .lease_ms = (uint32_t)lease_ms,
                                           .dead_letter = s->dead_letter}};
    call_submit(c, &command);
}

/* ---- many ----------------------------------------------------------------------------------------------------------- */

static void many_answer(struct call *c, const struct completion *done)
{
    struct buf *out = rest_scratch(&c->rest->out);
    bool good = form_put(out, "{\"settled\":") && form_json_u64(out, done->u.settle.settled) &&
                form_put(out, ",\"stale_count\":") && form_json_u64(out, done->u.settle.stale) &&
                form_put(out, ",\"stale\":[");
    for (uint32_t i = 0; good && i < done->u.settle.stale_listed; i++)
        good = form_put(out, i ? ",\"" : "\"") && form_json_u64(out, done->u.settle.stale_receipts[i]) &&
               form_put(out, "\"");
    if (good && form_put(out, "]}"))
        call_respond_json(c, 200, out);
    else
        call_refuse(c, BROKER_NO_MEMORY, "this was done, but there is no memory for the answer", 0);
}
static const struct call_kind MANY = {.answer = many_answer};

bool ranges_read(struct ranges *ranges, const json_t *receipts, uint32_t max, char text[FORM_TEXT_BYTES])
{
    const json_t *item;
    size_t i, count = json_array_size(receipts);
    if (!json_is_array(receipts)) {
        snprintf(text, FORM_TEXT_BYTES, "the receipts are no array; give [\"…\", …], as they came with the messages");
        return false;
    }
    if (count > max) {
        snprintf(text, FORM_TEXT_BYTES, "%zu receipts; give at most %u in one request", count, max);
        return false;
    }
    json_array_foreach(receipts, i, item)
    {
        uint64_t receipt;
        if (!form_receipt_json(item, &receipt)) {
            snprintf(text, FORM_TEXT_BYTES, "receipt %zu is neither a string of digits nor a whole number", i + 1);
            return false;
        }
        struct receipt_range *last = ranges->count > ranges->first ? &ranges->all[ranges->count - 1] : NULL;
        if (last && last->first + last->count == receipt) {
            last->count++;
            continue;
        }
        if (ranges->count == RANGES_MAX) {
            snprintf(text, FORM_TEXT_BYTES,
                     "more than %d receipts that do not follow each other; give fewer in one request", RANGES_MAX);
            return false;
        }
        ranges->all[ranges->count++] = (struct receipt_range){receipt, 1};
    }
    return true;
}

bool json_duration(const json_t *value, const char *key, uint32_t min, uint32_t max, uint32_t *ms,
                   char text[FORM_TEXT_BYTES])
{
    if (!value || json_is_null(value))
        return true;
    json_int_t n = json_is_integer(value) ? json_integer_value(value) : -1;
    if (n >= (json_int_t)min && n <= (json_int_t)max) {
        *ms = (uint32_t)n;
        return true;
    }
    snprintf(text, FORM_TEXT_BYTES, "\"%s\" is no whole number from %u to %u", key, min, max);
    return false;
}

bool json_keys_known(const json_t *object, const char *const *known, char text[FORM_TEXT_BYTES])
{
    const char *key;
    json_t *value;
    char out[SHOWN_BYTES];
    if (!json_is_object(object)) {
        snprintf(text, FORM_TEXT_BYTES, "the body is no JSON object");
        return false;
    }
    json_object_foreach((json_t *)object, key, value)
    {
        const char *const *k = known;
        while (*k && strcmp(*k, key) != 0)
            k++;
        if (*k)
            continue;
        const char *meant = nearest(known, key, strlen(key));
        snprintf(text, FORM_TEXT_BYTES, "there is no key \"%s\" here%s%s",
                 shown((struct http_text){key, strlen(key)}, out), meant ? "; did you mean " : "", meant ? meant : "");
        return false;
    }
    return true;
}

bool body_is_json(struct http_exchange *x, const struct http_request *q)
{
    const struct http_field *type = http_find(q, "Content-Type");
    char text[FORM_TEXT_BYTES], out[SHOWN_BYTES];
    if (!type || http_type_is(q, "application/json") || http_type_is(q, "application/x-www-form-urlencoded"))
        return true; /* the last is what curl says of anything */
    snprintf(text, sizeof(text), "Content-Type is '%s'; give application/json", shown(type->value, out));
    http_refuse_as(x, 415, "unsupported_media_type", text);
    return false;
}

static bool read_many(struct rest *r, const json_t *body, const struct settling *s, struct command *command,
                      struct ranges *ranges, char text[FORM_TEXT_BYTES])
{
    static const char *const PLAIN[] = {"receipts", NULL}, *const DELAY[] = {"receipts", "delay_ms", NULL},
                             *const LEASE[] = {"receipts", "lease_ms", NULL};
    uint32_t delay_ms = 0, lease_ms = 0, max = r->options.max_batch_messages;
    if (!json_keys_known(body,
                         s->has_delay   ? DELAY
                         : s->has_lease ? LEASE
                                        : PLAIN,
                         text) ||
        !json_duration(json_object_get(body, "delay_ms"), "delay_ms", 0, UINT32_MAX, &delay_ms, text) ||
        !json_duration(json_object_get(body, "lease_ms"), "lease_ms", 1, 86400000, &lease_ms, text) ||
        !ranges_read(ranges, json_object_get(body, "receipts"), max ? max : UINT32_MAX, text))
        return false;
    if (s->has_lease && !lease_ms) {
        snprintf(text, FORM_TEXT_BYTES, "an extend needs to know for how long from now; give \"lease_ms\"");
        return false;
    }
    *command = (struct command){.type = s->type,
                                .u.settle = {.ranges = ranges->all,
                                             .count = ranges->count,
                                             .delay_ms = delay_ms,
                                             .lease_ms = lease_ms,
                                             .dead_letter = s->dead_letter}};
    return true;
}

static void settle_many(struct rest *r, struct http_exchange *x, const struct http_request *q, const struct settling *s)
{
    static const char *const NONE[] = {NULL};
    struct receipt_range all[RANGES_MAX];
    struct ranges ranges = {.all = all};
    struct command command;
    struct params p;
    char text[FORM_TEXT_BYTES];
    if (!params_open(&p, q, NONE, NULL)) {
        rest_refuse(x, "%s", p.error);
        return;
    }
    if (!body_is_json(x, q))
        return;
    json_t *body = form_json_parse(q->body, q->body_len, text);
    bool good = body && read_many(r, body, s, &command, &ranges, text);
    json_decref(body);
    if (!good) {
        rest_refuse(x, "%s", text);
        return;
    }
    struct call *c = call_begin(r, &MANY, x);
    if (c)
        call_submit(c, &command);
}

/* ---- routes --------------------------------------------------------------------------------------------------------- */

#define HANDLERS(name, how)                                                                                            \
    static void name##_one(void *arg, struct http_exchange *x, const struct http_request *q)                           \
    {                                                                                                                  \
        settle_one(arg, x, q, &how);                                                                                   \
    }                                                                                                                  \
    static void name##_many(void *arg, struct http_exchange *x, const struct http_request *q)                          \
    {                                                                                                                  \
        settle_many(arg, x, q, &how);                                                                                  \
    }
HANDLERS(ack, ACK)
HANDLERS(nack, NACK)
HANDLERS(reject, REJECT)
HANDLERS(extend, EXTEND)

static const struct http_route ROUTES[] = {
    {HTTP_POST, "/v1/receipts/{receipt}/ack", ack_one, 0},
    {HTTP_POST, "/v1/receipts/{receipt}/nack", nack_one, 0},
    {HTTP_POST, "/v1/receipts/{receipt}/reject", reject_one, 0},
    {HTTP_POST, "/v1/receipts/{receipt}/extend", extend_one, 0},
    {HTTP_POST, "/v1/ack", ack_many, HTTP_BODY_MAX},
    {HTTP_POST, "/v1/nack", nack_many, HTTP_BODY_MAX},
    {HTTP_POST, "/v1/reject", reject_many, HTTP_BODY_MAX},
    {HTTP_POST, "/v1/extend", extend_many, HTTP_BODY_MAX},
};

bool settle_register(struct rest *r)
{
    return http_add_routes(r->http, ROUTES, sizeof(ROUTES) / sizeof(ROUTES[0]), r);
}
