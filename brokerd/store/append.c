/*
 * The log's head: records go into the filling batch, which lies in a chunk of memory that mirrors the segment's bytes; a
 * closed batch is handed to the writer as it lies there.
 */
#include "store_internal.h"

static bool chunk_has_room(const struct chunk *c, uint64_t bytes)
{
    return c->end - c->base + bytes <= c->cap;
}

/* An open batch without records is taken back, as if it had never been begun. */
static void cancel_batch(struct store *s)
{
    struct fill *f = &s->fill;
    f->chunk->end = f->offset;
    f->chunk->unwritten--;
    s->log.unwritten_bytes -= BATCH_HEAD_BYTES;
    STAILQ_INSERT_HEAD(&s->log.spare_writes, f->write, link);
    f->write = NULL;
}

static broker_error open_batch(struct store *s, uint64_t bytes)
{
    struct fill *f = &s->fill;
    struct chunk *c = f->chunk;
    if (!c || c->segment != s->log.active->number || c->end != s->log.end ||
        !chunk_has_room(c, BATCH_HEAD_BYTES + bytes)) {
        c = tail_new(s, s->log.active->number, s->log.end, BATCH_HEAD_BYTES + bytes);
        if (!c)
            return BROKER_NO_MEMORY;
        f->chunk = c;
    }
    struct pending_write *w = STAILQ_FIRST(&s->log.spare_writes);
    if (w)
        STAILQ_REMOVE_HEAD(&s->log.spare_writes, link);
    else if (!(w = malloc(sizeof *w)))
        return BROKER_NO_MEMORY;
    f->write = w;
    w->chunk = c;
    f->offset = s->log.end;
    f->count = f->crc = f->head_len = 0;
    f->urgency = DURABILITY_LAZY;
    f->since_ms = s->now.mono.ms;
    c->end += BATCH_HEAD_BYTES;
    c->unwritten++;
    s->log.unwritten_bytes += BATCH_HEAD_BYTES;
    return BROKER_OK;
}

/*
 * What messages must leave free in the active segment: without a prepared next one its end is all there is for acks, and a
 * full disk may be about to be noticed. An empty segment takes any message.
 */
static uint64_t kept_for_acks(const struct store *s)
{
    bool empty = s->log.end == SEGMENT_DATA_START && (!s->fill.write || !s->fill.count);
    return s->space.next || empty ? 0 : s->options.segment_bytes / ACK_RESERVE_PART;
}

/* Make the filling batch have room for `bytes` more, in a new batch, chunk or segment if need be. */
static broker_error make_room(struct store *s, uint64_t bytes, bool message)
{
    struct fill *f = &s->fill;
    uint64_t kept = message ? kept_for_acks(s) : 0;
    if (f->write) {
        if (chunk_has_room(f->chunk, bytes) && segment_has_room(s->log.active, f->chunk->end, bytes + kept, message))
            return BROKER_OK;
        if (f->count == 0)
            cancel_batch(s);
        else
            log_close(s, f->urgency == DURABILITY_SYNCED);
    }
    if (!segment_has_room(s->log.active, s->log.end + BATCH_HEAD_BYTES, bytes + kept, message)) {
        broker_error error = space_roll(s, message);
        if (error)
            return error;
    }
    return open_batch(s, bytes);
}

static void chain_crc(struct fill *f)
{
    f->crc = crc32c(f->crc, f->heads, f->head_len);
    f->head_len = 0;
}

bool log_close(struct store *s, bool sync)
{
    struct fill *f = &s->fill;
    struct pending_write *p = f->write;
    struct segment *g = s->log.active;
    if (!p)
        return false;
    f->write = NULL;
    chain_crc(f);
    struct batch_head head = {.index = s->log.next_index++,
                              .durable = s->log.durable,
                              .epoch = s->log.epoch,
                              .length = (uint32_t)(f->chunk->end - f->offset),
                              .segment = g->number,
                              .count = f->count,
                              .records_crc = f->crc};
    uint8_t *bytes = f->chunk->bytes + (f->offset - f->chunk->base);
    batch_head_put(bytes, &head);
    /* The rest of the last block may be written too (log_write): nothing of what this memory held before. */
    memset(bytes + head.length, 0, (size_t)(-(f->offset + head.length) & (WRITE_BLOCK_BYTES - 1)));
    p->w = (struct log_write){
        .file = g->file, .offset = f->offset, .bytes = bytes, .len = head.length, .sync = sync, .index = head.index};
    s->log.end = g->data_end = f->offset + head.length;
    if (!g->first_index)
        g->first_index = head.index;
    g->last_index = head.index;
    s->log.claimed = head.durable;
    if (head.count)
        s->log.last_full = head.index;
    if (sync) {
        s->log.last_sync = head.index;
        s->log.unsynced_since_ms = 0;
    } else if (!s->log.unsynced_since_ms) {
        s->log.unsynced_since_ms = s->now.mono.ms ? s->now.mono.ms : 1;
    }
    s->checkpoints.log_bytes += head.length;
    STAILQ_INSERT_TAIL(&s->log.pending, p, link);
    if (!s->failed)
        s->host.writer_ops->submit(s->host.writer, &p->w);
    return true;
}

broker_error log_mark(struct store *s)
{
    if (s->failed)
        return BROKER_IO;
    if (!s->fill.write) {
        broker_error error = make_room(s, 0, false);
        if (error)
            return error;
    }
    log_close(s, true);
    return BROKER_OK;
}

static broker_error refuse(const struct store *s, uint32_t padded, bool message)
{
    if (s->failed)
        return BROKER_IO;
    uint64_t least = SEGMENT_DATA_START + 2 * BATCH_HEAD_BYTES + segment_footer_bytes(1 + HOLES_MAX, 1);
    if (least + padded > s->options.segment_bytes)
        return BROKER_TOO_LARGE;
    if (message && s->space.full)
        return BROKER_DISK_FULL;
    if (message && s->log.unwritten_bytes && s->log.unwritten_bytes + padded > s->options.window_bytes)
        return BROKER_OVERLOADED;
    return BROKER_OK;
}

broker_error log_append(struct store *s, const uint8_t *record, uint32_t length, enum durability durability,
                        uint64_t *index)
{
    struct fill *f = &s->fill;
    bool message = record_type_of(record) == RECORD_MESSAGE;
    uint32_t padded = pad8(length);
    assert(s->open && length >= RECORD_HEAD_BYTES && length <= RECORD_MAX_BYTES);
    broker_error error = refuse(s, padded, message);
    if (!error)
        error = make_room(s, padded, message);
    if (error)
        return error;
    struct chunk *c = f->chunk;
    if (message &&
        !index_add(s, s->log.active, record_queue(record), record_seq(record), get_u64(record + 24), c->end, length))
        return BROKER_NO_MEMORY;

    uint8_t *to = c->bytes + (c->end - c->base);
    memset(to + padded - 8, 0, 8);
    memcpy(to, record, length);
    put_u32(to, length);
    put_u32(to + 4, crc32c(0, to + 8, length - 8));
    memcpy(f->heads + f->head_len, to, 8);
    f->head_len += 8;
    if (f->head_len == sizeof f->heads)
        chain_crc(f);
    c->end += padded;
    s->log.unwritten_bytes += padded;
    f->count++;
    if (durability > f->urgency)
        f->urgency = durability;
    *index = s->log.next_index;
    return BROKER_OK;
}

void log_begin(struct store *s, struct segment *active, uint64_t end, uint32_t epoch, uint64_t next_index)
{
    s->log.active = active;
    s->log.end = active->data_end = end;
    s->log.epoch = epoch;
    s->log.next_index = next_index;
    s->fill.chunk = NULL; /* it stays in the tail cache's list */
}

void log_written(struct store *s, uint64_t written)
{
    struct pending_write *p;
    while ((p = STAILQ_FIRST(&s->log.pending)) && p->w.index <= written) {
        STAILQ_REMOVE_HEAD(&s->log.pending, link);
        p->chunk->unwritten--;
        s->log.unwritten_bytes -= p->w.len;
        STAILQ_INSERT_HEAD(&s->log.spare_writes, p, link);
    }
    tail_trim(s);
}

/* What falls due when nothing else happens: lazy records, interval syncs, the idle claim. */
void log_tick(struct store *s)
{
    struct log_state *l = &s->log;
    uint64_t now = s->now.mono.ms;
    if (s->failed)
        return;
    if (s->fill.write && s->fill.count && now >= s->fill.since_ms + LAZY_MS)
        log_close(s, s->fill.urgency == DURABILITY_SYNCED);
    if (l->unsynced_since_ms && now >= l->unsynced_since_ms + s->options.sync_interval_ms)
        log_mark(s);
    bool quiet = STAILQ_EMPTY(&l->pending) && (!s->fill.write || !s->fill.count) && now >= l->busy_ms + IDLE_MS;
    if (quiet && l->claimed < l->last_full && l->durable >= l->last_full)
        log_mark(s);
}

void log_release(struct store *s)
{
    struct pending_list *lists[] = {&s->log.pending, &s->log.spare_writes};
    for (int i = 0; i < 2; i++) {
        struct pending_write *p;
        while ((p = STAILQ_FIRST(lists[i]))) {
            STAILQ_REMOVE_HEAD(lists[i], link);
            free(p);
        }
    }
    free(s->fill.write);
    s->fill.write = NULL;
}
