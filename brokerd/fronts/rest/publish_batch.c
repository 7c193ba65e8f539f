/* Many messages in one request: a JSON array, lines of JSON, a msgpack array, or a batch of CloudEvents. A bad item refuses
   itself alone; all good ones go as one command. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "publish.h"

/* What becomes of each item. Small: a record is 8 bytes here until it is answered. */
struct item {
    uint32_t problem_at, problem_len; /* in problems; len 0: it is a record of the command */
};
struct batch {
    struct buf items, problems;
    uint32_t count, records;
    bool lesser;
};

struct adding {
    struct rest *r;
    struct batch *b;
    const char *topic; /* NULL: to a queue */
    struct http_text path_topic;
    broker_error error; /* of the request as a whole */
    char text[FORM_TEXT_BYTES];
};

static bool refuse_all(struct adding *a, broker_error error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static bool refuse_all(struct adding *a, broker_error error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(a->text, sizeof(a->text), format, args);
    va_end(args);
    a->error = error;
    return false;
}

static void batch_free(struct batch *b)
{
    if (!b)
        return;
    buf_release(&b->items);
    buf_release(&b->problems);
    free(b);
}

/* ---- the answer ----------------------------------------------------------------------------------------------------- */

struct answering {
    struct buf *out;
    const struct completion *done; /* NULL: no item was good enough for a command */
    size_t result;                 /* the range that the next record lies in */
    uint32_t record, stored, duplicates, failed;
    bool good;
};

static bool put_number(struct buf *out, const char *before, uint64_t value, const char *after)
{
    return form_put(out, before) && form_json_u64(out, value) && form_put(out, after);
}

static bool put_record_result(struct answering *a)
{
    const struct publish_result *result = &a->done->u.publish.results[a->result];
    char text[FORM_TEXT_BYTES];
    uint64_t value = result->first_seq;
    uint32_t index = a->record++;
    if (a->record >= result->first_index + result->count)
        a->result++;
    if (result->error) {
        a->failed++;
        publish_failure(result, text);
        return form_put(a->out, "{\"error\":") && http_problem_of(a->out, result->error, text, result->retry_ms) &&
               form_put(a->out, "}");
    }
    a->duplicates += result->duplicate;
    a->stored += !result->duplicate;
    if (!result->routed && value)
        value += index - result->first_index;
    if (!result->routed && !value)
        return form_put(a->out, "{\"duplicate\":true}");
    return put_number(a->out, result->routed ? "{\"queues\":" : "{\"seq\":", value,
                      result->duplicate ? ",\"duplicate\":true}" : "}");
}

static bool put_item(struct answering *a, const struct batch *b, uint32_t i)
{
    const struct item *item = (const struct item *)b->items.bytes + i;
    if (i > 0 && !form_put(a->out, ","))
        return false;
    if (item->problem_len == 0)
        return put_record_result(a);
    a->failed++;
    return form_put(a->out, "{\"error\":") &&
           buf_append(a->out, b->problems.bytes + item->problem_at, item->problem_len) && form_put(a->out, "}");
}

/* false: no memory. */
static bool put_results(struct rest *r, const struct batch *b, const struct completion *done, int *status)
{
    struct answering a = {.out = rest_scratch(&r->out), .done = done};
    bool good = form_put(a.out, "{\"results\":[");
    for (uint32_t i = 0; good && i < b->count; i++)
        good = put_item(&a, b, i);
    good = good && put_number(a.out, "],\"stored\":", a.stored, "") &&
           put_number(a.out, ",\"duplicates\":", a.duplicates, "") && put_number(a.out, ",\"failed\":", a.failed, "}");
    *status = a.failed > 0 || a.stored == 0 ? 200 : b->lesser || !done->u.publish.synced ? 202 : 201;
    return good;
}

static void batch_answer(struct call *c, const struct completion *done)
{
    int status;
    if (put_results(c->rest, c->u.batch, done, &status))
        call_respond_json(c, status, &c->rest->out);
    else /* they are stored all the same: this is the one thing that an answer can still say */
        call_refuse(c, BROKER_NO_MEMORY, "the messages were taken, but there is no memory for the answer", 0);
}

static void batch_release(struct call *c)
{
    batch_free(c->u.batch);
}

static const struct call_kind BATCH = {.answer = batch_answer, .release = batch_release};

/* ---- items ---------------------------------------------------------------------------------------------------------- */

/* The next item has been made a record, or has failed. false: the request cannot go on. */
static bool item_add(struct adding *a, broker_error error, const char *text)
{
    struct batch *b = a->b;
    struct item item = {(uint32_t)b->problems.len, 0};
    uint32_t max = a->r->options.max_batch_messages;
    if (max && b->count == max)
        return refuse_all(a, BROKER_TOO_LARGE, "more than %u messages in one request; send them in several", max);
    if (error && !http_problem_of(&b->problems, error, text, 0))
        return refuse_all(a, BROKER_NO_MEMORY, "no memory for the request; try again");
    item.problem_len = (uint32_t)b->problems.len - item.problem_at;
    if (!buf_append(&b->items, &item, sizeof(item)))
        return refuse_all(a, BROKER_NO_MEMORY, "no memory for the request; try again");
    b->count++;
    b->records += !error;
    return true;
}

static bool add_json(struct adding *a, const json_t *message)
{
    char text[FORM_TEXT_BYTES];
    broker_error error = a->topic ? form_record_json_to(&a->r->records, message, a->topic, text)
                                  : form_record_json(&a->r->records, message, text);
    return item_add(a, error, text);
}

static bool add_event(struct adding *a, const json_t *event)
{
    struct message_in m;
    struct buf data = {0};
    bool good = message_begin(a->r, &m, 0);
    if (good && a->topic) {
        m.spec.topic = a->path_topic.bytes;
        m.spec.topic_len = a->path_topic.len;
        m.spec.by_topic = true;
    }
    good = good && event_read(a->r, event, &m, &data) && message_finish(a->r, &m);
    buf_release(&data);
    return item_add(a, good ? BROKER_OK : m.error, m.text);
}

static bool read_array(struct adding *a, const struct http_request *q, bool (*add)(struct adding *, const json_t *))
{
    char text[FORM_TEXT_BYTES];
    json_t *all = form_json_parse(q->body, q->body_len, text), *item;
    bool good = json_is_array(all);
    size_t i;
    if (!all)
        return refuse_all(a, BROKER_INVALID_ARGUMENT, "the body: %.230s", text);
    if (!good)
        refuse_all(a, BROKER_INVALID_ARGUMENT,
                   "the body is no JSON array; give [{\"body\": …}, …], or one message a line "
                   "as application/x-ndjson");
    json_array_foreach(all, i, item)
    {
        good = good && add(a, item);
    }
    json_decref(all);
    return good;
}

static bool read_lines(struct adding *a, const struct http_request *q)
{
    const uint8_t *p = q->body, *end = p + q->body_len;
    bool good = true;
    while (good && p < end) {
        const uint8_t *newline = memchr(p, '\n', (size_t)(end - p)), *stop = newline ? newline : end;
        const uint8_t *next = newline ? newline + 1 : end;
        char text[FORM_TEXT_BYTES];
        while (stop > p && (stop[-1] == '\r' || stop[-1] == ' ' || stop[-1] == '\t'))
            stop--;
        if (stop > p) {
            json_t *message = form_json_parse(p, (size_t)(stop - p), text);
            good = message ? add_json(a, message) : item_add(a, BROKER_INVALID_ARGUMENT, text);
            json_decref(message);
        }
        p = next;
    }
    return good;
}

/* Past an array's head; NULL: it is none. */
static const uint8_t *array_head(const uint8_t *p, const uint8_t *end, uint32_t *count)
{
    size_t left = (size_t)(end - p);
    if (left >= 1 && (p[0] & 0xf0) == 0x90) {
        *count = p[0] & 0x0f;
        return p + 1;
    }
    if (left >= 3 && p[0] == 0xdc) {
        *count = (uint32_t)p[1] << 8 | p[2];
        return p + 3;
    }
    if (left >= 5 && p[0] == 0xdd) {
        *count = (uint32_t)p[1] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 8 | p[4];
        return p + 5;
    }
    return NULL;
}

/* wire_skip has been over it: it is well-formed, not deep, and its number of elements is bounded. */
static bool add_packed(struct adding *a, const uint8_t *bytes, size_t len)
{
    msgpack_unpacked message;
    char text[FORM_TEXT_BYTES] = "message: no memory for it; try again";
    broker_error error = BROKER_NO_MEMORY;
    size_t offset = 0;
    msgpack_unpacked_init(&message);
    if (msgpack_unpack_next(&message, (const char *)bytes, len, &offset) == MSGPACK_UNPACK_SUCCESS)
        error = a->topic ? form_record_msgpack_to(&a->r->records, &message.data, a->topic, text)
                         : form_record_msgpack(&a->r->records, &message.data, text);
    msgpack_unpacked_destroy(&message);
    return item_add(a, error, text);
}

static bool read_packed(struct adding *a, const struct http_request *q)
{
    const uint8_t *end = q->body + q->body_len;
    uint32_t count = 0;
    const uint8_t *p = q->body_len ? array_head(q->body, end, &count) : NULL;
    if (!p)
        return refuse_all(a, BROKER_INVALID_ARGUMENT, "the body is no msgpack array; give an array of maps");
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *next = p < end ? wire_skip(p, end) : NULL;
        if (!next)
            return refuse_all(
                a, BROKER_INVALID_ARGUMENT,
                "the msgpack array has %u messages by its head, and number %u is malformed, cut off or nested "
                "deeper than 8",
                count, i + 1);
        if (!add_packed(a, p, (size_t)(next - p)))
            return false;
        p = next;
    }
    return p == end || refuse_all(a, BROKER_INVALID_ARGUMENT, "%zu bytes follow the msgpack array", (size_t)(end - p));
}

/* ---- the request ---------------------------------------------------------------------------------------------------- */

static bool read_body(struct adding *a, const struct http_request *q)
{
    const struct http_field *type = http_find(q, "Content-Type");
    char out[SHOWN_BYTES];
    if (http_type_is(q, "application/x-ndjson") || http_type_is(q, "application/jsonl"))
        return read_lines(a, q);
    if (http_type_is(q, "application/msgpack") || http_type_is(q, "application/x-msgpack"))
        return read_packed(a, q);
    if (http_type_is(q, "application/cloudevents-batch+json"))
        return read_array(a, q, add_event);
    if (!type || http_type_is(q, "application/json") || http_type_is(q, "application/x-www-form-urlencoded"))
        return read_array(a, q, add_json);
    return refuse_all(a, BROKER_UNKNOWN_COMMAND,
                      "Content-Type is '%s'; give application/json, application/x-ndjson, application/msgpack or "
                      "application/cloudevents-batch+json",
                      shown(type->value, out));
}

/* Of the fields of a message only Broker-Sync makes sense for many. */
static bool read_fields(struct adding *a, const struct http_request *q, broker_sync *sync)
{
    struct message_in m;
    if (!message_read(a->r, q, (struct http_text){0}, &m))
        return refuse_all(a, m.error, "%s", m.text);
    const struct record_spec *s = &m.spec;
    if (s->id || s->key || s->topic || s->due_ms || s->expire_ms || s->priority || m.headers.count > m.has_type)
        return refuse_all(a, BROKER_INVALID_ARGUMENT,
                          "the request has fields of a single message; in a batch only Broker-Sync is one of the "
                          "request: give the others in each item, as \"key\", \"headers\" …");
    *sync = m.sync;
    return true;
}

static void refuse(struct adding *a, struct http_exchange *x)
{
    if (a->error == BROKER_UNKNOWN_COMMAND)
        http_refuse_as(x, 415, "unsupported_media_type", a->text);
    else
        http_refuse(x, a->error, a->text, a->error == BROKER_NO_MEMORY ? 1000 : 0);
    batch_free(a->b);
}

/* Nothing for the engine to do. */
static void answer_at_once(struct rest *r, struct http_exchange *x, struct batch *b)
{
    int status;
    bool good = put_results(r, b, NULL, &status);
    batch_free(b);
    if (good)
        http_respond(x,
                     &(struct http_response){
                         .status = status, .type = "application/json", .body = r->out.bytes, .body_len = r->out.len});
    else
        http_refuse(x, BROKER_NO_MEMORY, "no memory for the answer; try again", 1000);
}

void publish_many(struct rest *r, struct http_exchange *x, const struct http_request *q, struct http_text queue,
                  struct http_text topic)
{
    char topic_text[TOPIC_MAX_BYTES + 1];
    struct adding a = {.r = r, .path_topic = topic, .b = calloc(1, sizeof(*a.b))};
    struct command command = {.type = COMMAND_PUBLISH, .queue = {queue.bytes, queue.len}};
    if (topic.len > 0) {
        snprintf(topic_text, sizeof(topic_text), "%.*s", (int)topic.len, topic.bytes);
        a.topic = topic_text;
    }
    if (!publish_unroutable(q, x, topic.len > 0, &command.u.publish.unroutable_ok)) {
        batch_free(a.b);
        return;
    }
    rest_scratch(&r->records);
    if (!a.b)
        refuse_all(&a, BROKER_NO_MEMORY, "no memory for the request; try again");
    if (!a.b || !read_fields(&a, q, &command.u.publish.sync) || !read_body(&a, q)) {
        refuse(&a, x);
        return;
    }
    a.b->lesser = command.u.publish.sync == BROKER_SYNC_INTERVAL || command.u.publish.sync == BROKER_SYNC_NONE;
    if (a.b->records == 0) {
        answer_at_once(r, x, a.b);
        return;
    }
    struct call *c = call_begin(r, &BATCH, x);
    if (!c) {
        batch_free(a.b);
        return;
    }
    c->u.batch = a.b;
    command.u.publish.records = r->records.bytes;
    command.u.publish.len = r->records.len;
    call_submit(c, &command);
}

static void handle_queue(void *arg, struct http_exchange *x, const struct http_request *q)
{
    publish_many(arg, x, q, q->params[0], (struct http_text){0});
}

static void handle_topic(void *arg, struct http_exchange *x, const struct http_request *q)
{
    if (publish_topic_is_good(x, q->params[0]))
        publish_many(arg, x, q, (struct http_text){0}, q->params[0]);
}

static const struct http_route ROUTES[] = {
    {HTTP_POST, "/v1/queues/{queue}/messages/batch", handle_queue, HTTP_BODY_MAX},
    {HTTP_POST, "/v1/topics/{topic}/messages/batch", handle_topic, HTTP_BODY_MAX},
};

bool publish_batch_register(struct rest *r)
{
    return http_add_routes(r->http, ROUTES, sizeof(ROUTES) / sizeof(ROUTES[0]), r);
}
