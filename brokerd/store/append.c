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

/* Make the filling batch have room for `bytes` more with so many messages (places of messages, that is), in a new batch, chunk or segment if need be. */
static broker_error make_room(struct store *s, uint64_t bytes, uint32_t messages)
{
    struct fill *f = &s->fill;
    uint64_t kept = messages ? kept_for_acks(s) : 0;
    if (f->write) {
        if (chunk_has_room(f->chunk, bytes) && segment_has_room(s->log.active, f->chunk->end, bytes + kept, messages))
            return BROKER_OK;
        if (f->count == 0)
            cancel_batch(s);
        else
            log_close(s, f->urgency == DURABILITY_SYNCED);
    }
    if (!segment_has_room(s->log.active, s->log.end + BATCH_HEAD_BYTES, bytes + kept, messages)) {
        broker_error error = space_roll(s, messages > 0);
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
        broker_error error = make_room(s, 0, 0);
        if (error)
            return error;
    }
    log_close(s, true);
    return BROKER_OK;
}

static broker_error refuse(const struct store *s, uint64_t bytes, uint32_t messages)
{
    if (s->failed)
        return BROKER_IO;
    uint64_t least = SEGMENT_DATA_START + 2 * BATCH_HEAD_BYTES +
                     segment_footer_bytes(messages * (uint64_t)(1 + HOLES_MAX), messages);
    if (least + bytes > s->options.segment_bytes)
        return BROKER_TOO_LARGE;
    if (messages && s->space.full)
        return BROKER_DISK_FULL;
    if (messages && s->log.unwritten_bytes && s->log.unwritten_bytes + bytes > s->options.window_bytes)
        return BROKER_OVERLOADED;
    return BROKER_OK;
}

/* There is room, and the index knows it: nothing can fail any more. */
static void put_record(struct store *s, const uint8_t *record, uint32_t length)
{
    struct fill *f = &s->fill;
    struct chunk *c = f->chunk;
    uint32_t padded = pad8(length);
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
}

broker_error log_append(struct store *s, const uint8_t *record, uint32_t length, enum durability durability,
                        uint64_t *index)
{
    struct fill *f = &s->fill;
    bool message = record_type_of(record) == RECORD_MESSAGE;
    uint32_t padded = pad8(length);
    assert(s->open && length >= RECORD_HEAD_BYTES && length <= RECORD_MAX_BYTES);
    assert(record_type_of(record) != RECORD_ROUTE);
    broker_error error = refuse(s, padded, message);
    if (!error)
        error = make_room(s, padded, message);
    if (error)
        return error;
    if (message && !index_add(s, s->log.active, record_queue(record), record_seq(record), get_u64(record + 24),
                              f->chunk->end, length))
        return BROKER_NO_MEMORY;
    put_record(s, record, length);
    if (durability > f->urgency)
        f->urgency = durability;
    *index = s->log.next_index;
    return BROKER_OK;
}

/* ---- several records, all or nothing ---------------------------------------------------------------------------------- */

static struct route route_before(const struct append_item *items, uint32_t i)
{
    return i ? route_get(items[i - 1].record, items[i - 1].length) : (struct route){0, NULL};
}

/* Their bytes, and the places of messages among them. false: a route leads nowhere, and no start would take the batch. */
static bool measure(const struct append_item *items, uint32_t count, uint64_t *bytes, uint64_t *places)
{
    *bytes = *places = 0;
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *record = items[i].record;
        assert(items[i].length >= RECORD_HEAD_BYTES && items[i].length <= RECORD_MAX_BYTES);
        *bytes += pad8(items[i].length);
        if (record_type_of(record) == RECORD_MESSAGE)
            *places += 1 + (uint64_t)route_before(items, i).n;
        if (record_type_of(record) != RECORD_ROUTE)
            continue;
        if (route_get(record, items[i].length).n == 0 || i + 1 == count ||
            record_type_of(items[i + 1].record) != RECORD_MESSAGE)
            return false;
    }
    return true;
}

static bool index_all(struct store *s, const struct append_item *items, uint32_t count)
{
    struct segment *g = s->log.active;
    uint64_t offset = s->fill.chunk->end;
    bool ok = true;
    for (uint32_t i = 0; i < count && ok; offset += pad8(items[i].length), i++) {
        const uint8_t *record = items[i].record;
        if (record_type_of(record) != RECORD_MESSAGE)
            continue;
        uint32_t length = items[i].length;
        uint64_t time_ms = get_u64(record + 24);
        struct route route = route_before(items, i);
        ok = index_add(s, g, record_queue(record), record_seq(record), time_ms, offset, length);
        for (uint32_t k = 0; k < route.n && ok; k++)
            ok = index_add(s, g, route_queue(&route, k), route_seq(&route, k), time_ms, offset, length | ENTRY_ROUTED);
    }
    return ok;
}

static void cut_all(struct store *s, const struct append_item *items, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *record = items[i].record;
        if (record_type_of(record) != RECORD_MESSAGE)
            continue;
        struct route route = route_before(items, i);
        index_cut(s, s->log.active, record_queue(record), record_seq(record));
        for (uint32_t k = 0; k < route.n; k++)
            index_cut(s, s->log.active, route_queue(&route, k), route_seq(&route, k));
    }
}

broker_error log_append_all(struct store *s, const struct append_item *items, uint32_t count,
                            enum durability durability, uint64_t *index)
{
    uint64_t bytes, places;
    assert(s->open && count);
    if (!measure(items, count, &bytes, &places))
        return BROKER_INTERNAL;
    broker_error error = places > UINT32_MAX ? BROKER_TOO_LARGE : refuse(s, bytes, (uint32_t)places);
    if (!error)
        error = make_room(s, bytes, (uint32_t)places);
    if (error)
        return error;
    if (!index_all(s, items, count)) {
        cut_all(s, items, count);
        return BROKER_NO_MEMORY;
    }
    for (uint32_t i = 0; i < count; i++)
        put_record(s, items[i].record, items[i].length);
    if (durability > s->fill.urgency)
        s->fill.urgency = durability;
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
