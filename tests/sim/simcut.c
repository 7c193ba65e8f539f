#include "simdisk.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct cut_memory { /* what the units point into */
    void **parts;
    uint32_t count, cap;
    uint32_t unit_cap;
};

static void *must(void *p)
{
    if (!p)
        abort();
    return p;
}

static void *cut_keep(struct cut *c, void *part)
{
    struct cut_memory *m = c->memory;
    if (m->count == m->cap) {
        m->cap = m->cap ? m->cap * 2 : 64;
        m->parts = must(realloc(m->parts, m->cap * sizeof(*m->parts)));
    }
    m->parts[m->count++] = must(part);
    return part;
}

static void cut_add(struct cut *c, struct cut_unit u)
{
    struct cut_memory *m = c->memory;
    if (c->count == m->unit_cap) {
        m->unit_cap = m->unit_cap ? m->unit_cap * 2 : 64;
        c->units = must(realloc(c->units, m->unit_cap * sizeof(*c->units)));
    }
    c->units[c->count++] = u;
}

struct versions { /* of one sector */
    uint32_t count;
    uint8_t *bytes;
};

static void sector_from(const struct blob *b, uint64_t sector, uint8_t out[SECTOR_BYTES])
{
    uint64_t at = sector * SECTOR_BYTES;
    uint64_t stored = !b || at >= b->cap ? 0 : b->cap - at;
    if (stored > SECTOR_BYTES)
        stored = SECTOR_BYTES;
    if (stored)
        memcpy(out, b->bytes + at, stored);
    memset(out + stored, 0, SECTOR_BYTES - stored);
}

/* The sector's bytes after a change; false if they are what they were. */
static bool sector_change(uint8_t bytes[SECTOR_BYTES], uint64_t sector, const struct pending *p)
{
    uint8_t before[SECTOR_BYTES];
    uint64_t at = sector * SECTOR_BYTES;
    memcpy(before, bytes, SECTOR_BYTES);
    if (p->kind == PENDING_SIZE) {
        uint64_t keep = p->size <= at ? 0 : p->size - at;
        if (keep < SECTOR_BYTES)
            memset(bytes + keep, 0, SECTOR_BYTES - keep);
    } else {
        uint64_t first = p->offset > at ? p->offset : at;
        uint64_t end = p->offset + p->len < at + SECTOR_BYTES ? p->offset + p->len : at + SECTOR_BYTES;
        memcpy(bytes + (first - at), p->bytes + (first - p->offset), end - first);
    }
    return memcmp(before, bytes, SECTOR_BYTES) != 0;
}

static void versions_change(struct versions *v, const struct disk_inode *n, uint64_t sector, const struct pending *p)
{
    uint8_t bytes[SECTOR_BYTES];
    if (v->count == 0)
        sector_from(n->synced, sector, bytes);
    else
        memcpy(bytes, v->bytes + (v->count - 1) * SECTOR_BYTES, SECTOR_BYTES);
    if (!sector_change(bytes, sector, p))
        return;
    uint32_t add = v->count == 0 ? 2 : 1;
    v->bytes = must(realloc(v->bytes, (v->count + add) * SECTOR_BYTES));
    if (v->count == 0)
        sector_from(n->synced, sector, v->bytes);
    v->count += add;
    memcpy(v->bytes + (v->count - 1) * SECTOR_BYTES, bytes, SECTOR_BYTES);
}

static void cut_list_sectors(struct cut *c, struct disk_inode *n)
{
    uint64_t end = n->synced_size;
    for (uint32_t i = 0; i < n->pending_count; i++) {
        if (n->pending[i].size > end)
            end = n->pending[i].size;
    }
    uint64_t sectors = (end + SECTOR_BYTES - 1) / SECTOR_BYTES;
    struct versions *v = must(calloc(sectors + 1, sizeof(*v)));
    for (uint32_t i = 0; i < n->pending_count; i++) {
        const struct pending *p = &n->pending[i];
        uint64_t first = p->kind == PENDING_SIZE ? p->size / SECTOR_BYTES : p->offset / SECTOR_BYTES;
        uint64_t last = p->kind == PENDING_SIZE ? sectors : (p->offset + p->len + SECTOR_BYTES - 1) / SECTOR_BYTES;
        for (uint64_t s = first; s < last; s++)
            versions_change(&v[s], n, s, p);
    }
    for (uint64_t s = 0; s < sectors; s++) {
        if (v[s].count == 0)
            continue;
        cut_keep(c, v[s].bytes);
        cut_add(c, (struct cut_unit){
                       .kind = CUT_SECTOR, .inode = n, .sector = s, .versions = v[s].count, .content = v[s].bytes});
    }
    free(v);
}

static void cut_list_sizes(struct cut *c, struct disk_inode *n)
{
    uint64_t *sizes = cut_keep(c, calloc(n->pending_count + 1, sizeof(*sizes)));
    uint32_t count = 0;
    sizes[count++] = n->synced_size;
    for (uint32_t i = 0; i < n->pending_count; i++) {
        if (n->pending[i].size != sizes[count - 1])
            sizes[count++] = n->pending[i].size;
    }
    if (count > 1)
        cut_add(c, (struct cut_unit){.kind = CUT_SIZE, .inode = n, .versions = count, .sizes = sizes});
}

void cut_list(struct simdisk *d, struct cut *c)
{
    *c = (struct cut){.memory = must(calloc(1, sizeof(struct cut_memory)))};
    for (struct disk_inode *n = d->inodes; n; n = n->next) {
        if (n->pending_count == 0)
            continue;
        cut_list_sectors(c, n);
        cut_list_sizes(c, n);
    }
    for (uint32_t i = 0; i < d->change_count; i++)
        cut_add(c, (struct cut_unit){.kind = CUT_NAME, .versions = 2, .change = i});
}

void cut_release(struct cut *c)
{
    for (uint32_t i = 0; i < c->memory->count; i++)
        free(c->memory->parts[i]);
    free(c->memory->parts);
    free(c->memory);
    free(c->units);
    *c = (struct cut){0};
}

/* ---- making the disk after the cut -------------------------------------------------------------------------------------- */

static struct disk_inode *inode_copy_synced(struct simdisk *to, struct disk_inode *n)
{
    if (n->copy)
        return n->copy;
    struct disk_inode *copy = inode_new(to);
    copy->synced = blob_ref(n->synced);
    copy->synced_size = copy->size = n->synced_size;
    n->copy = copy;
    return copy;
}

static void unit_apply(const struct cut_unit *u, uint32_t version)
{
    struct disk_inode *copy = u->inode->copy;
    if (!copy || version == 0)
        return;
    if (u->kind == CUT_SIZE) {
        copy->synced_size = copy->size = u->sizes[version];
        return;
    }
    blob_own(&copy->synced, (u->sector + 1) * SECTOR_BYTES);
    memcpy(copy->synced->bytes + u->sector * SECTOR_BYTES, u->content + (uint64_t)version * SECTOR_BYTES, SECTOR_BYTES);
}

/* What lies beyond the size must not come back when the file grows again. */
static void inode_clip(struct disk_inode *n)
{
    if (!n->synced || n->size >= n->synced->cap)
        return;
    for (uint64_t i = n->size; i < n->synced->cap; i++) {
        if (n->synced->bytes[i] != 0) {
            blob_own(&n->synced, 0);
            memset(n->synced->bytes + n->size, 0, n->synced->cap - n->size);
            return;
        }
    }
}

static struct simdisk *disk_like(const struct simdisk *d)
{
    struct simdisk *to = simdisk_new(d->capacity);
    to->plant_skip_sync = d->plant_skip_sync;
    to->trace = d->trace;
    to->failed_sync_drops = d->failed_sync_drops;
    for (struct disk_inode *n = d->inodes; n; n = n->next)
        n->copy = NULL;
    return to;
}

struct simdisk *cut_apply(const struct simdisk *d, const struct cut *c, const uint32_t *choice)
{
    struct simdisk *to = disk_like(d);
    directory_copy(&to->current, &d->synced);
    for (uint32_t i = 0; i < c->count; i++) {
        if (c->units[i].kind == CUT_NAME && choice[i]) {
            const struct name_change *change = &d->changes[c->units[i].change];
            directory_change(&to->current, change, change->inode);
        }
    }
    for (uint32_t i = 0; i < to->current.count; i++)
        to->current.entries[i].inode = inode_copy_synced(to, to->current.entries[i].inode);
    for (uint32_t i = 0; i < c->count; i++) {
        if (c->units[i].kind != CUT_NAME)
            unit_apply(&c->units[i], choice[i]);
    }
    for (struct disk_inode *n = to->inodes; n; n = n->next)
        inode_clip(n);
    directory_copy(&to->synced, &to->current);
    return to;
}

void simdisk_cut_power(struct simdisk *d, struct rng *rng)
{
    struct cut c;
    cut_list(d, &c);
    uint32_t *choice = must(calloc(c.count + 1, sizeof(*choice)));
    /* From "all is lost" to "all is there": the extremes find other bugs than the middle. */
    static const uint32_t chances[] = {0, 0, 10, 50, 90, 100, 100, 50};
    uint32_t chance = chances[rng_below(rng, 8)], name_chance = chances[rng_below(rng, 8)];
    for (uint32_t i = 0; i < c.count; i++) {
        uint32_t last = c.units[i].versions - 1;
        if (rng_percent(rng, c.units[i].kind == CUT_NAME ? name_chance : chance))
            choice[i] = chance == 100 ? last : (uint32_t)rng_between(rng, 1, last);
    }
    for (uint32_t i = 0; d->trace && i < c.count; i++) {
        const char *kinds[] = {"sector", "size", "name change"};
        printf("    undecided %s %" PRIu64 ": version %u of %u\n", kinds[c.units[i].kind],
               c.units[i].kind == CUT_NAME ? c.units[i].change : c.units[i].sector, choice[i], c.units[i].versions);
    }
    struct simdisk *after = cut_apply(d, &c, choice);
    after->capacity = d->capacity;
    cut_release(&c);
    free(choice);
    simdisk_clear(d);
    *d = *after;
    free(after);
}

/* ---- copies and hashes --------------------------------------------------------------------------------------------------- */

static struct disk_inode *inode_copy(struct simdisk *to, struct disk_inode *n)
{
    if (n->copy)
        return n->copy;
    struct disk_inode *copy = inode_copy_synced(to, n);
    copy->current = blob_ref(n->current);
    copy->size = n->size;
    copy->pending = must(malloc((n->pending_count + 1) * sizeof(*copy->pending)));
    copy->pending_count = copy->pending_cap = n->pending_count;
    for (uint32_t i = 0; i < n->pending_count; i++) {
        copy->pending[i] = n->pending[i];
        if (n->pending[i].bytes) {
            copy->pending[i].bytes = must(malloc(n->pending[i].len + 1));
            memcpy(copy->pending[i].bytes, n->pending[i].bytes, n->pending[i].len);
        }
    }
    copy->pending_cap = n->pending_count + 1;
    return copy;
}

struct simdisk *simdisk_copy(const struct simdisk *d)
{
    struct simdisk *to = disk_like(d);
    for (struct disk_inode *n = d->inodes; n; n = n->next)
        inode_copy(to, n);
    directory_copy(&to->current, &d->current);
    directory_copy(&to->synced, &d->synced);
    for (uint32_t i = 0; i < to->current.count; i++)
        to->current.entries[i].inode = to->current.entries[i].inode->copy;
    for (uint32_t i = 0; i < to->synced.count; i++)
        to->synced.entries[i].inode = to->synced.entries[i].inode->copy;
    to->changes = must(malloc((d->change_count + 1) * sizeof(*to->changes)));
    to->change_cap = d->change_count + 1;
    to->change_count = d->change_count;
    for (uint32_t i = 0; i < d->change_count; i++) {
        to->changes[i] = d->changes[i];
        if (to->changes[i].inode)
            to->changes[i].inode = to->changes[i].inode->copy;
    }
    return to;
}

static uint64_t blob_hash(struct blob *b)
{
    if (!b)
        return 0;
    if (b->hashed)
        return b->hash;
    uint64_t h = 0, i = 0;
    for (; i + 8 <= b->cap; i += 8) {
        uint64_t word;
        memcpy(&word, b->bytes + i, 8);
        if (word)
            h += rng_mix(word + (i + 1) * 0x9e3779b97f4a7c15u);
    }
    for (; i < b->cap; i++) {
        if (b->bytes[i])
            h += rng_mix(b->bytes[i] + (i + 1) * 0xbf58476d1ce4e5b9u);
    }
    b->hashed = true;
    b->hash = h;
    return h;
}

uint64_t simdisk_hash(struct simdisk *d)
{
    uint64_t h = 0;
    for (uint32_t i = 0; i < d->current.count; i++) {
        struct disk_inode *n = d->current.entries[i].inode;
        uint64_t name = 0;
        for (const char *p = d->current.entries[i].name; *p; p++)
            name = rng_mix(name + (uint8_t)*p);
        h += rng_mix(name ^ rng_mix(n->size + blob_hash(n->current ? n->current : n->synced)));
    }
    return h;
}
