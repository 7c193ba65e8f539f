/* The document of definitions that `broker export` and `broker import` know, and what differs in it from the native protocol's maps. */
#ifndef REST_DEFINITIONS_H
#define REST_DEFINITIONS_H

#include "admin_internal.h"

#define DEFINITIONS_FORMAT  "brokerd definitions"
#define DEFINITIONS_VERSION 1

/* Is that key of a queue's map one of its settings? */
bool definitions_is_setting(const char *key, size_t len);
/* Words that the document spells otherwise than the protocol, there and back; others are as they are. */
const char *definitions_word_out(const char *word, size_t *len);
const char *definitions_word_in(const char *word);

/* ---- definitions_map.c ---------------------------------------------------------------------------------------------- */

/* Is the document's beginning right? A queue of it (keys, types, words)? false: `text` says what is not. */
bool definitions_check_head(const json_t *document, char text[FORM_TEXT_BYTES]);
bool definitions_check_queue(struct rest *r, const json_t *queue, size_t number, char text[FORM_TEXT_BYTES]);
/* Control maps, for the caller to decref; NULL: no memory. */
json_t *definitions_queue_map(const json_t *queue);
json_t *definitions_group_map(const char *queue, const json_t *group);
json_t *definitions_altering_map(const json_t *queue, const json_t *names); /* of these settings alone */
/* Like control_parse; `bytes` are used in between. `request` is to be released in any case. */
broker_error definitions_parse(struct control_request *request, enum control_kind kind, json_t *map,
                               msgpack_sbuffer *bytes, char text[FORM_TEXT_BYTES]);
/* The settings that the document gives and that are not so: their names are appended. false: no memory. */
bool definitions_differing(struct rest *r, const json_t *queue, const broker_queue_info *info, json_t *names);
bool definitions_group_differs(struct rest *r, const char *queue, const json_t *group, const broker_group_info *info);

void definitions_export(void *arg, struct http_exchange *x, const struct http_request *q);
void definitions_import(void *arg, struct http_exchange *x, const struct http_request *q);

#endif
