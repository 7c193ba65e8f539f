/* What the publishes of one and of many share. */
#ifndef REST_PUBLISH_H
#define REST_PUBLISH_H

#include "headers.h"

/* Many messages, to the queue, or (queue.len 0) to the topic. */
void publish_many(struct rest *r, struct http_exchange *x, const struct http_request *q, struct http_text queue,
                  struct http_text topic);
bool publish_batch_register(struct rest *r);
/* The query of a publish: unroutable=ok, by topic. false: refused. */
bool publish_unroutable(const struct http_request *q, struct http_exchange *x, bool by_topic, bool *ok);
bool publish_topic_is_good(struct http_exchange *x, struct http_text topic); /* false: refused */
void publish_failure(const struct publish_result *result, char text[FORM_TEXT_BYTES]);

#endif
