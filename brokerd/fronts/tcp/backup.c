/* BACKUP_BEGIN, BACKUP_READ, BACKUP_END: what base/backup_ops.h offers, for one connection. */
#include <string.h>

#include "front_internal.h"

enum { BACKUP_RETRY_MS = 1000 };

/* May this connection do it at all? A backup holds every message of every queue. */
static bool may_back_up(struct conn *c, const struct frame_head *head)
{
    char text[REFUSAL_BYTES];
    uint32_t retry_ms = 0;
    broker_error error = door_permits(c->front->door, &c->client.session, PERMISSION_MANAGE | PERMISSION_CONSUME,
                                      head->type == FRAME_BACKUP_END, text, sizeof(text), &retry_ms);
    if (error)
        answer_error(c, head->correlation, head->stream, error, text, "request", retry_ms);
    else if (!c->front->host.backup_ops)
        refuse_request(c, head, BROKER_UNKNOWN_COMMAND, "this broker makes no backups");
    else
        return true;
    return false;
}

static struct backup_asker asker_of(const struct conn *c, const struct frame_head *head)
{
    return (struct backup_asker){.conn = c->client.number, .correlation = head->correlation};
}

/* The connection that an answer is for, which is one less outstanding; NULL: it is gone, or the call failed and was told so. */
static struct conn *answered(struct front_tcp *f, struct backup_asker asker, broker_error error, const char *text)
{
    struct client *client = client_find(f->clients, asker.conn);
    if (!client)
        return NULL;
    struct conn *c = conn_of(client);
    if (c->backup_requests > 0)
        c->backup_requests--;
    if (!error)
        return c;
    answer_error(c, asker.correlation, 0, error, text ? text : broker_strerror(error), "request",
                 broker_error_is_retryable(error) ? BACKUP_RETRY_MS : 0);
    return NULL;
}

static void begun(void *front, struct backup_asker asker, broker_error error, const char *text,
                  const struct backup_listing *listing)
{
    struct front_tcp *f = front;
    struct conn *c = answered(f, asker, error, text);
    if (!c)
        return;
    msgpack_packer *pk = body_begin(f);
    msgpack_pack_map(pk, 3);
    pack_str(pk, "files", 5);
    msgpack_pack_array(pk, listing->count);
    for (uint32_t i = 0; i < listing->count; i++) {
        const struct backup_file *file = &listing->files[i];
        msgpack_pack_map(pk, 3);
        pack_key_str(pk, "name", file->name, strlen(file->name));
        pack_key_u64(pk, "size", file->bytes);
        pack_key_u64(pk, "data_end", file->data_end);
    }
    pack_key_u64(pk, "bytes", listing->data_bytes);
    pack_key_u64(pk, "log_index", listing->log_index);
    body_send(c, FRAME_BACKUP_BEGIN | FRAME_RESPONSE, asker.correlation, 0);
}

void control_backup_begin(struct conn *c, const struct frame_head *head, uint8_t *body)
{
    struct front_tcp *f = c->front;
    struct wire_map m;
    if (open_map(c, head, body, &m) && may_back_up(c, head)) {
        c->backup_requests++;
        c->backs_up = true; /* so that a connection that ends before the answer ends it, too */
        f->host.backup_ops->begin(f->host.backup, asker_of(c, head), begun, f);
    }
    wire_map_close(&m);
}

static void piece_read(void *front, struct backup_asker asker, broker_error error, const char *text,
                       const uint8_t *bytes, size_t len)
{
    struct conn *c = answered(front, asker, error, text);
    struct frame_head head = {.type = FRAME_BACKUP_READ | FRAME_RESPONSE, .correlation = asker.correlation};
    uint8_t *to = c ? frame_begin(c, &head, (uint32_t)len, 0) : NULL;
    if (to && len)
        memcpy(to, bytes, len);
}

void control_backup_read(struct conn *c, const struct frame_head *head, uint8_t *body)
{
    struct front_tcp *f = c->front;
    uint32_t file = 0, bytes = 0, most = f->options.max_frame_bytes;
    uint64_t offset = 0;
    struct wire_map m;
    if (open_map(c, head, body, &m) && may_back_up(c, head)) {
        if (!require(&m, "file") || !require(&m, "bytes") || !get_u32_key(&m, "file", 0, UINT32_MAX, &file) ||
            !wire_map_u64(&m, "offset", 0, UINT64_MAX, &offset) || !get_u32_key(&m, "bytes", 1, UINT32_MAX, &bytes)) {
            refuse_key(c, head, &m);
        } else {
            c->backup_requests++;
            f->host.backup_ops->read(f->host.backup, asker_of(c, head), file, offset, bytes < most ? bytes : most,
                                     piece_read, f);
        }
    }
    wire_map_close(&m);
}

void control_backup_end(struct conn *c, const struct frame_head *head, uint8_t *body)
{
    struct front_tcp *f = c->front;
    struct wire_map m;
    if (open_map(c, head, body, &m) && may_back_up(c, head)) {
        broker_error error = f->host.backup_ops->end(f->host.backup, c->client.number);
        c->backs_up = false;
        if (error)
            refuse_request(c, head, error, "this connection has no backup open; BACKUP_BEGIN opens one");
        else
            answer_empty_map(c, FRAME_BACKUP_END | FRAME_RESPONSE, head->correlation, head->stream);
    }
    wire_map_close(&m);
}

void backup_forget(struct conn *c)
{
    struct front_tcp *f = c->front;
    if (!c->backs_up)
        return;
    c->backs_up = false;
    f->host.backup_ops->end(f->host.backup, c->client.number);
}
