/* Receipts in JSON, and other things that bodies of settles and transactions have in common. */
#ifndef REST_SETTLE_H
#define REST_SETTLE_H

#include "rest_internal.h"

enum { RANGES_MAX = 1024 }; /* of one request, as in the native protocol */

struct ranges {
    struct receipt_range *all; /* RANGES_MAX of them */
    size_t count;
    size_t first; /* ranges before this one are not joined with what comes */
};
/* An array of receipts; those that follow each other become one range. Each false: `text` says why. */
bool ranges_read(struct ranges *ranges, const json_t *receipts, uint32_t max, char text[FORM_TEXT_BYTES]);
/* Absent or null: *ms stays. */
bool json_duration(const json_t *value, const char *key, uint32_t min, uint32_t max, uint32_t *ms,
                   char text[FORM_TEXT_BYTES]);
bool json_keys_known(const json_t *object, const char *const *known, char text[FORM_TEXT_BYTES]);
bool body_is_json(struct http_exchange *x, const struct http_request *q); /* false: refused with 415 */

#endif
