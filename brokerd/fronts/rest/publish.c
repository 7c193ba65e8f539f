/* One message: POST /v1/queues/{queue}/messages and /v1/topics/{topic}/messages. The hot path: one pass over the fields, one
   copy of the body, into the record, and nothing allocated. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "publish.h"

/* ---- the answer ----------------------------------------------------------------------------------------------------- */

static const char *queue_name(const struct call *c)
{
    return c->u.publish.longer ? c->u.publish.longer : c->u.publish.name;
}

static void publish_release(struct call *c)
{
    free(c->u.publish.longer);
}

/* Why one record of a publish was not stored, as a sentence. */
void publish_failure(const struct publish_result *result, char text[FORM_TEXT_BYTES])
{
    snprintf(text, FORM_TEXT_BYTES, "the message was not stored: %s%s", broker_strerror(result->error),
             broker_error_is_retryable(result->error) ? "; try again later" : "");
}

static void answer_routed(struct call *c, const struct completion *done)
{
    const struct publish_result *result = &done->u.publish.results[0];
    char body[96];
    int n = snprintf(body, sizeof(body), "{\"queues\":%llu%s}", (unsigned long long)result->first_seq,
                     result->duplicate ? ",\"duplicate\":true" : "");
    bool lesser = c->u.publish.lesser || !done->u.publish.synced, stored = result->first_seq > 0 && !result->duplicate;
    call_respond(c, &(struct http_response){.status = stored ? lesser ? 202 : 201 : 200,
                                            .type = "application/json",
                                            .body = body,
                                            .body_len = (size_t)n});
}

/* These are on the hot path, where snprintf would be felt. */
static char *put(char *to, const char *text)
{
    size_t len = strlen(text);
    memcpy(to, text, len);
    return to + len;
}

static char *put_digits(char *to, uint64_t value)
{
    char digits[20], *first = digits + sizeof(digits);
    do {
        *--first = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    size_t len = (size_t)(digits + sizeof(digits) - first);
    memcpy(to, first, len);
    return to + len;
}

static void publish_answer(struct call *c, const struct completion *done)
{
    const struct publish_result *result = &done->u.publish.results[0];
    char text[FORM_TEXT_BYTES], body[96], location[NAME_MAX_BYTES + 64];
    if (result->error) {
        publish_failure(result, text);
        call_refuse(c, result->error, text, result->retry_ms);
        return;
    }
    if (result->routed) {
        answer_routed(c, done);
        return;
    }
    struct http_field field = {{"Location", 8}, {location, 0}};
    char *end = put(put(put(location, "/v1/queues/"), queue_name(c)), "/messages/");
    field.value.len = (size_t)(put_digits(end, result->first_seq) - location);
    bool known = result->first_seq > 0; /* a duplicate's may be forgotten */
    end = put(known ? put_digits(put(body, "{\"seq\":"), result->first_seq) : put(body, "{"),
              result->duplicate ? known ? ",\"duplicate\":true}" : "\"duplicate\":true}" : "}");
    struct http_response response = {
        .status = result->duplicate                                ? 200
                  : c->u.publish.lesser || !done->u.publish.synced ? 202
                                                                   : 201,
        .type = "application/json",
        .body = body,
        .body_len = (size_t)(end - body),
        .fields = &field,
        .field_count = known ? 1 : 0,
    };
    call_respond(c, &response);
}

static const struct call_kind PUBLISH = {.answer = publish_answer, .release = publish_release};

/* ---- the request ---------------------------------------------------------------------------------------------------- */

/* The queue's name, for Location. A name that is too long for one is refused by the door. */
static bool keep_name(struct call *c, struct http_text queue)
{
    char *to = c->u.publish.name;
    if (queue.len == 0 || queue.len > NAME_MAX_BYTES)
        return true;
    if (queue.len >= sizeof(c->u.publish.name) && !(to = c->u.publish.longer = malloc(queue.len + 1)))
        return false;
    memcpy(to, queue.bytes, queue.len);
    to[queue.len] = 0;
    return true;
}

bool publish_unroutable(const struct http_request *q, struct http_exchange *x, bool by_topic, bool *ok)
{
    static const char *const KNOWN_TOPIC[] = {"unroutable", NULL}, *const KNOWN_QUEUE[] = {NULL};
    struct params p;
    struct http_text value = {"refuse", 6};
    char out[SHOWN_BYTES];
    if (!params_open(&p, q, by_topic ? KNOWN_TOPIC : KNOWN_QUEUE, NULL) ||
        (by_topic && !param_text(&p, "unroutable", 64, &value))) {
        rest_refuse(x, "%s", p.error);
        return false;
    }
    *ok = value.len == 2 && memcmp(value.bytes, "ok", 2) == 0;
    if (!*ok && !(value.len == 6 && memcmp(value.bytes, "refuse", 6) == 0)) {
        rest_refuse(x, "unroutable is '%s'; give ok or refuse", shown(value, out));
        return false;
    }
    return true;
}

static bool read_message(struct rest *r, const struct http_request *q, struct http_text topic, struct message_in *m,
                         struct event_owner *owner)
{
    return message_read(r, q, topic, m) &&
           (!http_type_is(q, "application/cloudevents+json") || message_read_event(r, q, m, owner)) &&
           message_finish(r, m);
}

/* By topic: `queue` is empty. */
static void publish_one(struct rest *r, struct http_exchange *x, const struct http_request *q, struct http_text queue,
                        struct http_text topic)
{
    struct message_in m;
    struct event_owner owner = {0};
    bool unroutable_ok = false;
    if (q->query.len > 0 && !publish_unroutable(q, x, topic.len > 0, &unroutable_ok))
        return;
    rest_scratch(&r->records);
    bool good = read_message(r, q, topic, &m, &owner);
    json_decref(owner.json);
    buf_release(&owner.data);
    if (!good) {
        http_refuse(x, m.error, m.text, m.error == BROKER_NO_MEMORY ? 1000 : 0);
        return;
    }
    struct call *c = call_begin(r, &PUBLISH, x);
    if (!c)
        return;
    if (!keep_name(c, queue)) {
        call_refuse(c, BROKER_NO_MEMORY, "no memory for the request; try again", 1000);
        return;
    }
    c->u.publish.lesser = m.sync == BROKER_SYNC_INTERVAL || m.sync == BROKER_SYNC_NONE;
    struct command command = {
        .type = COMMAND_PUBLISH,
        .queue = {queue.bytes, queue.len},
        .u.publish = {.records = r->records.bytes,
                      .len = r->records.len,
                      .sync = m.sync,
                      .unroutable_ok = unroutable_ok},
    };
    call_submit(c, &command);
}

static void handle_queue(void *arg, struct http_exchange *x, const struct http_request *q)
{
    if (http_type_is(q, "application/cloudevents-batch+json"))
        publish_many(arg, x, q, q->params[0], (struct http_text){0});
    else
        publish_one(arg, x, q, q->params[0], (struct http_text){0});
}

bool publish_topic_is_good(struct http_exchange *x, struct http_text topic)
{
    char out[SHOWN_BYTES];
    if (topic_is_valid(topic.bytes, topic.len))
        return true;
    rest_refuse(x, "'%s' is no topic; give up to %u tokens of A-Z a-z 0-9 _ - with dots between, 1 to %u bytes",
                shown(topic, out), TOPIC_MAX_TOKENS, TOPIC_MAX_BYTES);
    return false;
}

static void handle_topic(void *arg, struct http_exchange *x, const struct http_request *q)
{
    if (!publish_topic_is_good(x, q->params[0]))
        return;
    if (http_type_is(q, "application/cloudevents-batch+json"))
        publish_many(arg, x, q, (struct http_text){0}, q->params[0]);
    else
        publish_one(arg, x, q, (struct http_text){0}, q->params[0]);
}

static const struct http_route ROUTES[] = {
    {HTTP_POST, "/v1/queues/{queue}/messages", handle_queue, HTTP_BODY_MAX},
    {HTTP_POST, "/v1/topics/{topic}/messages", handle_topic, HTTP_BODY_MAX},
};

bool publish_register(struct rest *r)
{
    return http_add_routes(r->http, ROUTES, sizeof(ROUTES) / sizeof(ROUTES[0]), r) && publish_batch_register(r);
}
