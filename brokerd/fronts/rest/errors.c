/* GET /errors/{slug}: what each problem's type means, for people. Every error of the table has its text here (a test looks). */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "admin_internal.h"

/* What the table of broker.h does not say: why it happens, and what to do. */
static const struct {
    broker_error error;
    const char *text;
} EXPLAINED[] = {
    {BROKER_INVALID_ARGUMENT,
     "Something in the request has a value that it cannot have: a key or a parameter that is not known, a number out "
     "of "
     "its range, a name with letters that names do not have. The detail names it, with the value and what may stand "
     "there."},
    {BROKER_MALFORMED, "The bytes make no sense as what they are said to be: the body is no JSON, say. The detail says "
                       "where it went wrong."},
    {BROKER_UNKNOWN_COMMAND, "This broker does not offer that: it is older than the client, or it was started without "
                             "it."},
    {BROKER_UNSUPPORTED_VERSION, "The client speaks a version of the protocol that this broker does not."},
    {BROKER_TOO_LARGE,
     "A message, a batch or a body is larger than the queue or the broker allows. The detail says how "
     "large it may be; a batch can be sent in parts."},
    {BROKER_QUEUE_NOT_FOUND, "There is no queue of that name. Queues are not made by publishing to them: PUT "
                             "/v1/queues/NAME creates one. It may have been deleted, by somebody or because it was "
                             "unused for as long as its unused_ms says."},
    {BROKER_QUEUE_EXISTS,
     "A queue of that name is there, with other settings than those that were asked for. GET shows "
     "them, PATCH changes them."},
    {BROKER_GROUP_NOT_FOUND, "The queue has no group of that name. PUT /v1/queues/QUEUE/groups/NAME creates one."},
    {BROKER_GROUP_EXISTS, "A group of that name is there, with another filter or another single_active. PATCH changes "
                          "them; its position is changed by seek."},
    {BROKER_SUBSCRIPTION_NOT_FOUND, "The connection has no subscription of that number (any more)."},
    {BROKER_SUBSCRIPTION_EXISTS, "The connection has a subscription of that number already; take another."},
    {BROKER_STALE_RECEIPT, "The lease of this receipt is over: its time ran out, it was settled before, its group was "
                           "moved, or the broker was restarted. The message may be with somebody else now, so what was "
                           "done with it may be done again. Work that takes longer than the lease extends it."},
    {BROKER_QUEUE_FULL, "The queue holds as much as its max_messages or max_bytes allows. It has room again when "
                        "consumers settle messages; or raise the limit."},
    {BROKER_QUEUE_PAUSED, "The queue is paused: nothing is handed out until somebody resumes it."},
    {BROKER_DISK_FULL,
     "The disk, or what store.max_disk allows, is full. Publishing is refused; consuming and settling "
     "go on, and make room."},
    {BROKER_OVERLOADED, "More comes in than the disk takes. Wait for as long as Retry-After says and send it again."},
    {BROKER_LIMIT_REACHED,
     "A limit of the configuration is reached: of queues, groups, bindings, scans or backups under "
     "way. The detail names it."},
    {BROKER_DAMAGED, "Stored data does not match its checksum. Nothing damaged is handed out. brokerd --fsck says what "
                     "is damaged and can set it apart; a backup may have it."},
    {BROKER_UNAUTHENTICATED, "The request says not who it is from."},
    {BROKER_FORBIDDEN, "Whoever it is from may not do this."},
    {BROKER_SHUTTING_DOWN,
     "The broker is about to stop, and takes nothing new. Nothing of the request was done: send it "
     "again, when the broker (or another one) is there."},
    {BROKER_TIMEOUT,
     "It did not get done in time. A publish may have been stored or not; with an Idempotency-Key it can "
     "be sent again."},
    {BROKER_CONNECTION_LOST,
     "The connection was lost before the answer came. A publish may have been stored or not; with "
     "an Idempotency-Key it can be sent again."},
    {BROKER_CONNECTION_REFUSED,
     "Nobody listens at the address that a client tried. Is the broker running, and is it the right port?"},
    {BROKER_OUTBOX_FULL, "A client library holds as many unconfirmed messages as it may."},
    {BROKER_NO_MEMORY, "The broker has no memory for this now. Nothing was done unless the detail says so."},
    {BROKER_IO, "The disk or the network failed. The broker's log says more."},
    {BROKER_CANCELLED, "It was given up, by the client or because the client went."},
    {BROKER_NOT_MODIFIED, "Nothing is new: it is as the client knows it. No error, but the answer to If-None-Match."},
    {BROKER_INTERNAL, "The broker did something that it should not. Please report it, with the detail and the log."},
    {BROKER_UNROUTABLE, "No queue is bound for the message's topic, so it would go nowhere. PUT "
                        "/v1/queues/QUEUE/bindings/PATTERN binds one; unroutable=ok says that it may go nowhere."},
    {BROKER_MESSAGE_NOT_FOUND,
     "The queue has no such message (any more), or it is not in the state that the call needs: "
     "one that does not wait for its time cannot be given another."},
    {BROKER_REFUSED, "It is not possible as things are. The detail says why."},
};

/* What only HTTP knows. */
static const struct {
    const char *slug;
    int status;
    const char *title, *text;
    bool retry;
} HTTP_ONLY[] = {
    {"malformed_request", 400, "no request that can be understood",
     "The bytes are no HTTP/1.1 request, or one that two programs could read in two ways: a line that ends with LF "
     "alone, a blank before a colon, a folded field, Content-Length beside Transfer-Encoding, more than one Host. The "
     "connection is closed. The detail says what it was.",
     false},
    {"origin_not_allowed", 403, "a page of another origin",
     "A browser sent this for a page that is not the broker's own. http.origins in the configuration names pages that "
     "may use the broker.",
     false},
    {"host_not_allowed", 403, "not a name of this broker",
     "A browser used a name for the broker that it does not know as its own. http.hosts in the configuration names "
     "those that it has, beside its addresses and localhost. This keeps pages from reaching the broker by a name of "
     "their own.",
     false},
    {"no_such_path", 404, "nothing there",
     "There is nothing at this path. /v1/openapi.json and docs/HTTP.md have every path.", false},
    {"method_not_allowed", 405, "other methods",
     "The path is there, but not with this method: the field Allow names those that it has.", false},
    {"not_acceptable", 406, "no acceptable form",
     "Accept allows none of the forms that the answer can have. The detail names them.", false},
    {"request_timeout", 408, "the request did not come in time",
     "The head, or the body, of the request came too slowly: http.head_timeout and http.body_rate in the "
     "configuration. The connection is closed.",
     true},
    {"cursor_trimmed", 410, "the cursor is not in the queue",
     "A log has let go of the messages that were asked for, by age, bytes or number. The members first and last say "
     "what is there now; what lies between is gone. Read on from first.",
     false},
    {"cursor_beyond", 410, "the cursor is not in the queue",
     "The queue has not got as far as the cursor: it was deleted and made again, most likely. Begin anew, "
     "from=beginning or from=end.",
     false},
    {"body_too_large", 413, "the body is too large",
     "The body is larger than this call takes, or than http.max_body allows. Batches and definitions can be sent in "
     "parts.",
     false},
    {"head_too_large", 431, "the head is too large",
     "The request line (414) or the fields (431) are longer, or more, than http.max_head and http.max_fields allow.",
     false},
    {"upgrade_required", 426, "not by plain HTTP",
     "At this path is a WebSocket: docs/WEBSOCKET.md. A client for it sends Upgrade: websocket; a proxy in between "
     "must pass that on.",
     false},
    {"not_found", 404, "nothing there", "The page has no such file.", false},
    {"unsupported_media_type", 415, "not in this form",
     "The body is in a form that the call does not take. The detail names those that it takes.", false},
    {"expectation_failed", 417, "an expectation that cannot be met",
     "The only expectation that can be met is 100-continue.", false},
    {"not_implemented", 501, "not known here", "The method or the transfer coding is not known here.", false},
    {"overloaded", 503, "too much at once",
     "Too many bodies are on their way at once: http.chunked_total in the configuration. Wait for as long as "
     "Retry-After says.",
     true},
    {"version_not_supported", 505, "another HTTP",
     "HTTP/1.1 and HTTP/1.0 are spoken here. For HTTP/2 put a proxy in front.", false},
};
enum {
    EXPLAINED_COUNT = sizeof(EXPLAINED) / sizeof(EXPLAINED[0]),
    HTTP_ONLY_COUNT = sizeof(HTTP_ONLY) / sizeof(HTTP_ONLY[0])
};

/* "QUEUE_FULL" is "queue_full" in paths. */
static bool is_slug_of(broker_error error, const char *slug, size_t len)
{
    const char *name = broker_error_name(error);
    if (strlen(name) != len)
        return false;
    for (size_t i = 0; i < len; i++)
        if (tolower((unsigned char)name[i]) != slug[i])
            return false;
    return true;
}

static bool put(struct buf *out, const char *name, int status, const char *title, const char *text, bool retry)
{
    static const char *const RETRY[] = {"The same request will fail again until something has changed.",
                                        "The same request may succeed later."};
    char head[200];
    snprintf(head, sizeof(head), "%s (HTTP %d): %s\n\n", name, status, title);
    return form_put(out, head) && form_put(out, text) && form_put(out, "\n\n") && form_put(out, RETRY[retry]) &&
           form_put(out, "\n");
}

bool errors_explain(struct buf *out, const char *slug, size_t len)
{
    for (size_t i = 0; i < EXPLAINED_COUNT; i++) {
        broker_error error = EXPLAINED[i].error;
        if (is_slug_of(error, slug, len))
            return put(out, broker_error_name(error), http_status_of(error), broker_strerror(error), EXPLAINED[i].text,
                       broker_error_is_retryable(error));
    }
    for (size_t i = 0; i < HTTP_ONLY_COUNT; i++)
        if (strlen(HTTP_ONLY[i].slug) == len && memcmp(HTTP_ONLY[i].slug, slug, len) == 0)
            return put(out, HTTP_ONLY[i].slug, HTTP_ONLY[i].status, HTTP_ONLY[i].title, HTTP_ONLY[i].text,
                       HTTP_ONLY[i].retry);
    return false;
}

void errors_get(void *arg, struct http_exchange *x, const struct http_request *q)
{
    struct rest *r = arg;
    struct buf *out = rest_scratch(&r->out);
    if (errors_explain(out, q->params[0].bytes, q->params[0].len))
        http_respond(x,
                     &(struct http_response){
                         .status = 200, .type = "text/plain; charset=utf-8", .body = out->bytes, .body_len = out->len});
    else
        http_refuse_as(x, 404, "no_such_path", "there is no error of that name; docs/HTTP.md has the table");
}
