/* GET /v1/backup: a tar archive of a consistent copy, as base/backup_ops.h offers it, read as fast as the client takes it. */
#include <stdlib.h>
#include <string.h>

#include "admin_internal.h"
#include "tar.h"

enum {
    PIECE_BYTES = 256 << 10,
    ZEROS_BYTES = 32 << 10,
    AWAKE_BYTES =
        4 << 20, /* of zeros, after which the backup is asked for something, so that it is not taken for idle */
    BUSY_RETRY_MS = 1000
};

static const uint8_t ZEROS[ZEROS_BYTES];

struct file {
    char *name; /* owned */
    uint64_t bytes, data_end;
};

struct backup { /* c->u.any.memory; answers find it by the client's number */
    struct call *call;
    struct backup *next; /* of rest->admin */
    uint64_t number;     /* of the client: what the backup knows it by */
    struct file *files;
    uint32_t count, at;
    uint64_t offset;  /* in the file; with its padding at the end */
    uint64_t unasked; /* bytes of zeros since the last read */
    uint64_t modified_s;
    bool begun, headed, reading, running, ended, broken;
};

static struct backup *backup_of(struct call *c)
{
    return c->u.any.memory;
}

static void backup_release(struct backup *b)
{
    for (uint32_t i = 0; b->files && i < b->count; i++)
        free(b->files[i].name);
    free(b->files);
    free(b);
}

/* The call ends: the backup with it, if it was begun; what is still on its way finds nobody. */
static void release(struct call *c)
{
    struct backup *b = backup_of(c), **at = (struct backup **)&c->rest->admin;
    if (!b)
        return;
    while (*at != b)
        at = &(*at)->next;
    *at = b->next;
    b->ended = true;
    c->rest->host.backup_ops->end(c->rest->host.backup, b->number);
    if (!b->running)
        backup_release(b);
}

/* Whom an answer is for; NULL: the call is over. */
static struct backup *find(struct rest *r, struct backup_asker asker)
{
    struct backup *b = r->admin;
    while (b && b->number != asker.conn)
        b = b->next;
    return b;
}

/* ---- sending -------------------------------------------------------------------------------------------------------- */

static void run(struct call *c);

static void piece_read(void *rest, struct backup_asker asker, broker_error error, const char *text,
                       const uint8_t *bytes, size_t len)
{
    struct backup *b = find(rest, asker);
    if (!b)
        return;
    const struct file *f = &b->files[b->at];
    bool awake = b->offset >= f->data_end; /* it was asked for nothing, to keep it awake */
    b->reading = false;
    b->unasked = 0;
    b->broken |= error || (!awake && len == 0) || (len > 0 && !http_chunked_write(b->call->x, bytes, len));
    b->offset += awake ? 0 : len;
    run(b->call);
}

static void read_piece(struct backup *b)
{
    struct rest *r = b->call->rest;
    const struct file *f = &b->files[b->at];
    struct backup_asker asker = {.conn = b->number};
    b->reading = true;
    r->host.backup_ops->read(r->host.backup, asker, b->at, b->offset < f->data_end ? b->offset : f->data_end,
                             PIECE_BYTES, piece_read, r);
}

static bool write_zeros(struct backup *b, uint64_t n)
{
    size_t now = n < ZEROS_BYTES ? (size_t)n : ZEROS_BYTES;
    b->offset += now;
    b->unasked += now;
    return http_chunked_write(b->call->x, ZEROS, now);
}

/* One step: the head of a file, a piece of it, or zeros behind it. */
static void step(struct backup *b)
{
    struct buf *out = rest_scratch(&b->call->rest->out);
    const struct file *f = &b->files[b->at];
    uint64_t end = f->bytes + tar_padding(f->bytes);
    if (!b->headed) {
        b->broken |=
            !tar_head(out, f->name, f->bytes, b->modified_s) || !http_chunked_write(b->call->x, out->bytes, out->len);
        b->headed = true;
    } else if (b->offset < f->data_end || b->unasked >= AWAKE_BYTES) {
        read_piece(b);
    } else if (b->offset < end) {
        b->broken |= !write_zeros(b, end - b->offset);
    } else {
        b->at++;
        b->offset = 0;
        b->headed = false;
    }
}

static void finish(struct call *c)
{
    http_chunked_write(c->x, ZEROS, TAR_END_BYTES);
    http_chunked_end(c->x);
    call_end(c);
}

static void run(struct call *c)
{
    struct backup *b = backup_of(c);
    if (b->running)
        return;
    b->running = true;
    while (!b->ended && !b->broken && !b->reading && b->at < b->count && !http_is_full(c->x))
        step(b);
    b->running = false;
    if (b->ended) {
        backup_release(b);
    } else if (b->broken) {
        http_abort(c->x); /* so that the client sees that it is not whole */
        call_end(c);
    } else if (b->at == b->count) {
        finish(c);
    }
}

/* ---- the beginning -------------------------------------------------------------------------------------------------- */

static bool copy_listing(struct backup *b, const struct backup_listing *listing)
{
    b->files = calloc(listing->count ? listing->count : 1, sizeof(*b->files));
    if (!b->files)
        return false;
    for (uint32_t i = 0; i < listing->count; i++) {
        const struct backup_file *f = &listing->files[i];
        b->files[i] = (struct file){strdup(f->name), f->bytes, f->data_end};
        b->count++;
        if (!b->files[i].name)
            return false;
    }
    return true;
}

static void begun(void *rest, struct backup_asker asker, broker_error error, const char *text,
                  const struct backup_listing *listing)
{
    struct backup *b = find(rest, asker);
    if (!b)
        return;
    if (!error && !copy_listing(b, listing)) {
        error = BROKER_NO_MEMORY;
        text = "no memory for the list of files; try again";
    }
    if (error) {
        call_refuse(b->call, error, text ? text : broker_strerror(error),
                    broker_error_is_retryable(error) ? BUSY_RETRY_MS : 0);
        return;
    }
    static const struct http_field NAME = {{"Content-Disposition", 19},
                                           {"attachment; filename=\"brokerd-backup.tar\"", 41}};
    http_chunked_begin(b->call->x, &(struct http_response){
                                       .status = 200, .type = "application/x-tar", .fields = &NAME, .field_count = 1});
    b->begun = true;
    run(b->call);
}

static void drained(struct call *c)
{
    if (backup_of(c)->begun)
        run(c);
}

static const struct call_kind BACKUP = {.drained = drained, .release = release};

static void get_backup(void *arg, struct http_exchange *x, const struct http_request *q)
{
    struct rest *r = arg;
    if (!r->host.backup_ops) {
        http_refuse(x, BROKER_UNKNOWN_COMMAND, "this broker makes no backups", 0);
        return;
    }
    if (q->is_head) {
        http_respond(x, &(struct http_response){.status = 200, .type = "application/x-tar"});
        return;
    }
    struct backup *b = calloc(1, sizeof(*b));
    struct call *c = b ? call_begin(r, &BACKUP, x) : NULL;
    if (!b)
        http_refuse(x, BROKER_NO_MEMORY, "no memory for the request; try again", BUSY_RETRY_MS);
    if (!c) {
        free(b);
        return;
    }
    *b = (struct backup){
        .call = c, .next = r->admin, .number = c->client.number, .modified_s = rest_now(r).wall.ms / 1000};
    r->admin = b;
    c->u.any.memory = b;
    struct backup_asker asker = {.conn = b->number};
    r->host.backup_ops->begin(r->host.backup, asker, begun, r);
}

static const struct http_route ROUTES[] = {{HTTP_GET, "/v1/backup", get_backup, 0}};

bool backup_register(struct rest *r)
{
    return http_add_routes(r->http, ROUTES, 1, r);
}

void backup_free(struct rest *r) {} /* every call ended with the connections */
