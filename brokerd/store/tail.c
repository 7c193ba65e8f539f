/* The newest bytes of the log in memory: chunks in the log's order, the filling one last. */
#include "store_internal.h"

static size_t chunk_bytes(const struct store *s)
{
    uint64_t bytes = s->options.tail_cache_bytes / 4;
    if (bytes > s->options.segment_bytes / 4)
        bytes = s->options.segment_bytes / 4;
    if (bytes > CHUNK_BYTES)
        bytes = CHUNK_BYTES;
    return bytes < 16 << 10 ? 16 << 10 : (size_t)bytes & ~(size_t)(WRITE_BLOCK_BYTES - 1);
}

static void chunk_free(struct chunk *c)
{
    free(c->bytes);
    free(c);
}

static struct chunk *chunk_new(struct store *s, size_t at_least)
{
    size_t cap = chunk_bytes(s);
    at_least = (at_least + WRITE_BLOCK_BYTES - 1) & ~(size_t)(WRITE_BLOCK_BYTES - 1);
    struct chunk *c = TAILQ_FIRST(&s->tail.spare);
    if (at_least <= cap && c) {
        TAILQ_REMOVE(&s->tail.spare, c, link);
        s->tail.spare_len--;
        return c;
    }
    c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->cap = at_least > cap ? at_least : cap;
    c->bytes = aligned_alloc(WRITE_BLOCK_BYTES, c->cap);
    if (!c->bytes) {
        free(c);
        return NULL;
    }
    return c;
}

/* What the block that the chunk begins in holds already: from the chunk before, or from start-up. */
static void take_over_block(struct store *s, struct chunk *c, size_t begun)
{
    const struct chunk *before = TAILQ_LAST(&s->tail.chunks, chunk_list);
    if (before && before->segment == c->segment && before->end == c->start && before->base <= c->base)
        memcpy(c->bytes, before->bytes + (c->base - before->base), begun);
    else
        memcpy(c->bytes, s->tail.begun, begun);
}

struct chunk *tail_new(struct store *s, uint32_t segment, uint64_t start, size_t at_least)
{
    size_t begun = (size_t)(start & (WRITE_BLOCK_BYTES - 1));
    struct chunk *c = chunk_new(s, begun + at_least);
    if (!c)
        return NULL;
    c->segment = segment;
    c->unwritten = 0;
    c->base = start - begun;
    c->start = c->end = start;
    take_over_block(s, c, begun);
    TAILQ_INSERT_TAIL(&s->tail.chunks, c, link);
    s->tail.bytes += c->cap;
    return c;
}

static bool chunk_covers(const struct chunk *c, uint32_t segment, uint64_t offset)
{
    return c->segment == segment && offset >= c->start && offset < c->end;
}

const uint8_t *tail_find(struct store *s, uint32_t segment, uint64_t offset)
{
    struct chunk *c = s->tail.hint;
    if (!c || !chunk_covers(c, segment, offset)) {
        TAILQ_FOREACH_REVERSE(c, &s->tail.chunks, chunk_list, link)
        if (chunk_covers(c, segment, offset))
            break;
        if (!c)
            return NULL;
        s->tail.hint = c;
    }
    return c->bytes + (offset - c->base);
}

/* Readers may have borrowed from a chunk in this turn: what is let go is freed when the turn ends. */
void tail_trim(struct store *s)
{
    struct chunk *c;
    while (s->tail.bytes > s->options.tail_cache_bytes && (c = TAILQ_FIRST(&s->tail.chunks)) && !c->unwritten &&
           c != s->fill.chunk) {
        TAILQ_REMOVE(&s->tail.chunks, c, link);
        TAILQ_INSERT_TAIL(&s->tail.gone, c, link);
        s->tail.bytes -= c->cap;
        if (s->tail.hint == c)
            s->tail.hint = NULL;
    }
}

void tail_free_gone(struct store *s)
{
    struct chunk *c;
    while ((c = TAILQ_FIRST(&s->tail.gone))) {
        TAILQ_REMOVE(&s->tail.gone, c, link);
        if (c->cap == chunk_bytes(s) && s->tail.spare_len < CHUNKS_SPARE_MAX) {
            TAILQ_INSERT_HEAD(&s->tail.spare, c, link);
            s->tail.spare_len++;
        } else {
            chunk_free(c);
        }
    }
}

void tail_release(struct store *s)
{
    struct chunk_list *lists[] = {&s->tail.chunks, &s->tail.spare, &s->tail.gone};
    for (int i = 0; i < 3; i++) {
        struct chunk *c;
        while ((c = TAILQ_FIRST(lists[i]))) {
            TAILQ_REMOVE(lists[i], c, link);
            chunk_free(c);
        }
    }
}
