/* POST /v1/transactions: messages to several queues and topics, and settles, all or nothing. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "settle.h"

enum { PARTS_MAX = 1024 }; /* as in the native protocol */

/* A transaction being read. Too large for the stack of a handler: allocated, and freed when it was submitted. */
struct reading {
    struct rest *r;
    struct transact_part parts[PARTS_MAX];
    size_t records_at[PARTS_MAX]; /* of a publish: where in r->records; they move while it grows */
    size_t part_count;
    struct ranges ranges;
    uint32_t messages;
    broker_error error;
    char *text;
    struct receipt_range all[RANGES_MAX];
};

static bool refuse(struct reading *g, broker_error error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static bool refuse(struct reading *g, broker_error error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(g->text, FORM_TEXT_BYTES, format, args);
    va_end(args);
    g->error = error;
    return false;
}

/* What was just refused, with where it stands in front. */
static bool refuse_at(struct reading *g, const char *list, size_t index)
{
    char text[FORM_TEXT_BYTES];
    memcpy(text, g->text, sizeof(text));
    snprintf(g->text, FORM_TEXT_BYTES, "%s %zu: %.200s", list, index + 1, text);
    return false;
}

static struct transact_part *part_add(struct reading *g)
{
    if (g->part_count == PARTS_MAX) {
        refuse(g, BROKER_TOO_LARGE, "more than %d parts; messages to the same queue that follow each other are one",
               PARTS_MAX);
        return NULL;
    }
    g->parts[g->part_count] = (struct transact_part){0};
    g->records_at[g->part_count] = g->r->records.len;
    return &g->parts[g->part_count++];
}

/* ---- publish -------------------------------------------------------------------------------------------------------- */

/* The part that goes on with this queue, or a new one. */
static struct transact_part *publish_part(struct reading *g, struct name queue)
{
    struct transact_part *last = g->part_count ? &g->parts[g->part_count - 1] : NULL;
    if (last && last->kind == PART_PUBLISH && last->queue.len == queue.len &&
        (queue.len == 0 || memcmp(last->queue.bytes, queue.bytes, queue.len) == 0))
        return last;
    struct transact_part *part = part_add(g);
    if (part) {
        part->kind = PART_PUBLISH;
        part->queue = queue;
    }
    return part;
}

/* `body` keeps the text of the queue's name until the command was submitted; `message` loses its queue here. */
static bool read_message(struct reading *g, json_t *message)
{
    json_t *queue = json_object_get(message, "queue");
    const char *topic = json_string_value(json_object_get(message, "topic"));
    struct name name = {0};
    if (queue && (!json_is_string(queue) || json_string_length(queue) == 0))
        return refuse(g, BROKER_INVALID_ARGUMENT, "its \"queue\" is no queue's name");
    if (!queue && !topic)
        return refuse(g, BROKER_INVALID_ARGUMENT, "it has neither a \"queue\" nor a \"topic\" to be published to");
    if (queue)
        name = (struct name){json_string_value(queue), json_string_length(queue)};
    struct transact_part *part = publish_part(g, name);
    if (!part)
        return false;
    json_incref(queue);
    json_object_del(message, "queue");
    size_t before = g->r->records.len;
    g->error = queue ? form_record_json(&g->r->records, message, g->text)
                     : form_record_json_to(&g->r->records, message, topic, g->text);
    if (queue && json_object_set_new(message, "queue", queue) != 0) /* the part's name points into it */
        return refuse(g, BROKER_NO_MEMORY, "no memory for the request; try again");
    part->len += g->r->records.len - before;
    return g->error == BROKER_OK;
}

static bool read_publish(struct reading *g, const json_t *list)
{
    uint32_t max = g->r->options.max_batch_messages;
    json_t *message;
    size_t i;
    if (!list)
        return true;
    if (!json_is_array(list))
        return refuse(g, BROKER_INVALID_ARGUMENT, "\"publish\" is no array of messages");
    if (max && json_array_size(list) > max)
        return refuse(g, BROKER_TOO_LARGE, "%zu messages to publish; give at most %u in one transaction",
                      json_array_size(list), max);
    json_array_foreach(list, i, message)
    {
        if (!json_is_object(message))
            refuse(g, BROKER_INVALID_ARGUMENT, "it is not an object");
        if (!json_is_object(message) || !read_message(g, message))
            return refuse_at(g, "publish", i);
    }
    g->messages = (uint32_t)json_array_size(list);
    return true;
}

/* ---- settles -------------------------------------------------------------------------------------------------------- */

static bool read_receipts(struct reading *g, const json_t *receipts, enum transact_part_kind kind, uint32_t delay_ms,
                          bool dead_letter)
{
    size_t first = g->ranges.first = g->ranges.count;
    if (!ranges_read(&g->ranges, receipts, UINT32_MAX, g->text)) {
        g->error = BROKER_INVALID_ARGUMENT;
        return false;
    }
    if (g->ranges.count == first)
        return true;
    struct transact_part *part = part_add(g);
    if (!part)
        return false;
    part->kind = kind;
    part->ranges = g->all + first;
    part->count = g->ranges.count - first;
    part->delay_ms = delay_ms;
    part->dead_letter = dead_letter;
    return true;
}

/* An item is a receipt, or {"receipt": …} or {"receipts": […]} with "delay_ms". */
static bool read_nack(struct reading *g, const json_t *item)
{
    static const char *const KNOWN[] = {"receipt", "receipts", "delay_ms", NULL};
    uint32_t delay_ms = 0;
    json_t *receipts = json_object_get(item, "receipts"), *one = json_object_get(item, "receipt");
    if (!json_is_object(item))
        one = (json_t *)item;
    else if (!json_keys_known(item, KNOWN, g->text) ||
             !json_duration(json_object_get(item, "delay_ms"), "delay_ms", 0, UINT32_MAX, &delay_ms, g->text))
        return !(g->error = BROKER_INVALID_ARGUMENT);
    if (!one == !receipts)
        return refuse(g, BROKER_INVALID_ARGUMENT, "give either \"receipt\" or \"receipts\"");
    if (receipts)
        return read_receipts(g, receipts, PART_NACK, delay_ms, false);
    json_t *list = json_pack("[O]", one);
    bool good = list ? read_receipts(g, list, PART_NACK, delay_ms, false)
                     : refuse(g, BROKER_NO_MEMORY, "no memory for the request; try again");
    json_decref(list);
    return good;
}

static bool read_settles(struct reading *g, const json_t *body)
{
    const json_t *ack = json_object_get(body, "ack"), *nack = json_object_get(body, "nack");
    const json_t *reject = json_object_get(body, "reject"), *item;
    size_t i;
    if ((ack && !read_receipts(g, ack, PART_ACK, 0, false)) ||
        (reject && !read_receipts(g, reject, PART_NACK, 0, true)))
        return false;
    if (nack && !json_is_array(nack))
        return refuse(g, BROKER_INVALID_ARGUMENT, "\"nack\" is no array");
    json_array_foreach(nack, i, item)
    {
        if (!read_nack(g, item))
            return refuse_at(g, "nack", i);
    }
    return true;
}

/* ---- the answer ----------------------------------------------------------------------------------------------------- */

/* {"seqs":[…]}, one for each message to publish; by topic the number of queues that it reached. */
static void transaction_answer(struct call *c, const struct completion *done)
{
    struct buf *out = rest_scratch(&c->rest->out);
    bool good = form_put(out, "{\"seqs\":[");
    for (size_t i = 0; good && i < done->u.transact.count; i++)
        good = (i == 0 || form_put(out, ",")) && form_json_u64(out, done->u.transact.seqs[i]);
    good = good && form_put(out, done->u.transact.duplicate ? "],\"duplicate\":true}" : "]}");
    if (good)
        call_respond_json(c, 200, out);
    else
        call_refuse(c, BROKER_NO_MEMORY, "the transaction was done, but there is no memory for the answer", 0);
}
static const struct call_kind TRANSACTION = {.answer = transaction_answer};

/* ---- the request ---------------------------------------------------------------------------------------------------- */

static bool read_sync(struct reading *g, const json_t *value, broker_sync *sync)
{
    static const char *const NAMES[] = {"always", "interval", "none"};
    const char *text = json_string_value(value);
    if (!value || json_is_null(value))
        return true;
    for (unsigned i = 0; text && i < 3; i++) {
        if (strcmp(text, NAMES[i]) == 0) {
            *sync = (broker_sync)(BROKER_SYNC_ALWAYS + i);
            return true;
        }
    }
    return refuse(g, BROKER_INVALID_ARGUMENT, "\"sync\" is '%.40s'; give \"always\", \"interval\" or \"none\"",
                  text ? text : "no string");
}

static bool read_body(struct reading *g, const json_t *body, struct command *command)
{
    static const char *const KNOWN[] = {"publish", "ack", "nack", "reject", "unroutable", "sync", NULL};
    const json_t *unroutable = json_object_get(body, "unroutable");
    if (!json_keys_known(body, KNOWN, g->text))
        return !(g->error = BROKER_INVALID_ARGUMENT);
    if (unroutable && strcmp(json_is_string(unroutable) ? json_string_value(unroutable) : "", "ok") != 0 &&
        strcmp(json_is_string(unroutable) ? json_string_value(unroutable) : "", "refuse") != 0)
        return refuse(g, BROKER_INVALID_ARGUMENT, "\"unroutable\" is neither \"ok\" nor \"refuse\"");
    command->u.transact.unroutable_ok = unroutable && strcmp(json_string_value(unroutable), "ok") == 0;
    rest_scratch(&g->r->records);
    if (!read_sync(g, json_object_get(body, "sync"), &command->u.transact.sync) ||
        !read_publish(g, json_object_get(body, "publish")) || !read_settles(g, body))
        return false;
    if (g->part_count == 0)
        return refuse(g, BROKER_INVALID_ARGUMENT,
                      "the transaction is empty; give \"publish\", \"ack\", \"nack\" or \"reject\"");
    for (size_t i = 0; i < g->part_count; i++) {
        if (g->parts[i].kind == PART_PUBLISH)
            g->parts[i].records = g->r->records.bytes + g->records_at[i];
    }
    command->u.transact.parts = g->parts;
    command->u.transact.count = g->part_count;
    return true;
}

static void transact(struct rest *r, struct http_exchange *x, const struct http_request *q, struct reading *g)
{
    char text[FORM_TEXT_BYTES];
    struct command command = {.type = COMMAND_TRANSACT};
    json_t *body = form_json_parse(q->body, q->body_len, text);
    g->r = r;
    g->ranges.all = g->all;
    g->text = text;
    if (!body)
        g->error = BROKER_INVALID_ARGUMENT;
    if (!body || !read_body(g, body, &command)) {
        http_refuse(x, g->error, text, g->error == BROKER_NO_MEMORY ? 1000 : 0);
    } else {
        struct call *c = call_begin(r, &TRANSACTION, x);
        if (c)
            call_submit(c, &command);
    }
    json_decref(body);
}

static void handle(void *arg, struct http_exchange *x, const struct http_request *q)
{
    static const char *const NONE[] = {NULL};
    struct params p;
    if (!params_open(&p, q, NONE, NULL)) {
        rest_refuse(x, "%s", p.error);
        return;
    }
    if (!body_is_json(x, q))
        return;
    struct reading *g = calloc(1, sizeof(*g));
    if (g)
        transact(arg, x, q, g);
    else
        http_refuse(x, BROKER_NO_MEMORY, "no memory for the request; try again", 1000);
    free(g);
}

static const struct http_route ROUTES[] = {{HTTP_POST, "/v1/transactions", handle, HTTP_BODY_MAX}};

bool transactions_register(struct rest *r)
{
    return http_add_routes(r->http, ROUTES, sizeof(ROUTES) / sizeof(ROUTES[0]), r);
}
