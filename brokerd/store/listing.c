#include "listing.h"

#include <errno.h>
#include <stdlib.h>

static void add(void *arg, const char *name)
{
    struct listing *l = arg;
    if (l->error || strlen(name) >= FILE_NAME_BYTES || strchr(name, '/'))
        return;
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 64;
        struct listed *files = realloc(l->files, cap * sizeof *files);
        if (!files) {
            l->error = ENOMEM;
            return;
        }
        l->files = files;
        l->cap = cap;
    }
    struct listed *f = &l->files[l->n++];
    f->kind = file_kind_of(name, &f->number);
    memcpy(f->name, name, strlen(name) + 1);
}

static int order(const void *a, const void *b)
{
    const struct listed *x = a, *y = b;
    if (x->kind != y->kind)
        return x->kind < y->kind ? -1 : 1;
    if (x->number != y->number)
        return x->number < y->number ? -1 : 1;
    return strcmp(x->name, y->name);
}

int listing_read(struct listing *l, const struct disk_ops *ops, void *disk)
{
    *l = (struct listing){0};
    int error = ops->list(disk, add, l);
    if (!error)
        error = l->error;
    if (!error && l->n)
        qsort(l->files, l->n, sizeof *l->files, order);
    return error;
}

void listing_release(struct listing *l)
{
    free(l->files);
    *l = (struct listing){0};
}

const struct listed *listing_find(const struct listing *l, enum file_kind kind, uint64_t number)
{
    struct listed key = {.kind = kind, .number = number};
    size_t low = 0, high = l->n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        const struct listed *f = &l->files[mid];
        if (f->kind < key.kind || (f->kind == key.kind && f->number < number))
            low = mid + 1;
        else
            high = mid;
    }
    return low < l->n && l->files[low].kind == kind && l->files[low].number == number ? &l->files[low] : NULL;
}

/* ---- checkpoints -------------------------------------------------------------------------------------------------------- */

static int read_all(struct checkpoint_image *c, const struct disk_ops *ops, void *disk, const char *name)
{
    struct file *f;
    size_t got = 0;
    int error = ops->open(disk, name, false, &f);
    if (error)
        return error;
    error = ops->size(disk, f, &c->size);
    if (!error && !(c->bytes = malloc(c->size ? c->size : 1)))
        error = ENOMEM;
    if (!error)
        error = ops->read(disk, f, 0, c->bytes, c->size, &got);
    if (!error && got != c->size)
        error = EIO;
    ops->close(disk, f);
    return error;
}

/* Is every number in the store section possible? What the CRC let through may still come from a later version. */
static bool sections_make_sense(const struct checkpoint_image *c)
{
    if (c->head.segments > c->head.store_bytes / CHECKPOINT_SEGMENT_BYTES)
        return false;
    for (uint32_t i = 0; i < c->head.segments; i++) {
        struct checkpoint_segment g = checkpoint_image_segment(c, i);
        if ((g.kind != SEGMENT_LOG && g.kind != SEGMENT_COLD) || g.data_end > g.file_bytes ||
            g.data_end < SEGMENT_DATA_START || g.number >= c->head.next_number)
            return false;
    }
    struct checkpoint_run run;
    uint64_t at = 0, end = c->head.store_bytes - (uint64_t)c->head.segments * CHECKPOINT_SEGMENT_BYTES;
    while (at < end) {
        if (!checkpoint_image_run(c, &at, &run, NULL) || run.count == 0 || run.live == 0 || run.live > run.count ||
            run.first == 0)
            return false;
    }
    return true;
}

int checkpoint_read(struct checkpoint_image *c, const struct disk_ops *ops, void *disk, const char *name,
                    const char **what)
{
    *c = (struct checkpoint_image){0};
    *what = "it cannot be read";
    int error = read_all(c, ops, disk, name);
    if (error)
        return error;
    *what = "it is too short";
    if (c->size < CHECKPOINT_HEAD_BYTES)
        return EBADMSG;
    enum format_check check = checkpoint_head_get(c->bytes, &c->head);
    *what = check == FORMAT_DAMAGED ? "its head is damaged" : "it has another format version";
    if (check != FORMAT_OK)
        return check == FORMAT_DAMAGED ? EBADMSG : EPROTO;
    *what = "its length is not what its head says";
    uint64_t rest = c->size - CHECKPOINT_HEAD_BYTES;
    if (c->head.store_bytes > rest || c->head.engine_bytes != rest - c->head.store_bytes)
        return EBADMSG;
    c->store = c->bytes + CHECKPOINT_HEAD_BYTES;
    c->engine = c->store + c->head.store_bytes;
    *what = "its store section is damaged";
    if (crc32c(0, c->store, c->head.store_bytes) != c->head.store_crc || !sections_make_sense(c))
        return EBADMSG;
    *what = "its engine section is damaged";
    return crc32c(0, c->engine, c->head.engine_bytes) == c->head.engine_crc ? 0 : EBADMSG;
}

void checkpoint_release_image(struct checkpoint_image *c)
{
    free(c->bytes);
    *c = (struct checkpoint_image){0};
}

struct checkpoint_segment checkpoint_image_segment(const struct checkpoint_image *c, uint32_t i)
{
    struct checkpoint_segment g;
    checkpoint_segment_get(c->store + (size_t)i * CHECKPOINT_SEGMENT_BYTES, &g);
    return g;
}

bool checkpoint_image_run(const struct checkpoint_image *c, uint64_t *at, struct checkpoint_run *run,
                          const uint8_t **times)
{
    uint64_t start = (uint64_t)c->head.segments * CHECKPOINT_SEGMENT_BYTES + *at;
    if (start + CHECKPOINT_RUN_BYTES > c->head.store_bytes)
        return false;
    checkpoint_run_get(c->store + start, run);
    uint64_t bytes = CHECKPOINT_RUN_BYTES + (uint64_t)run->times * CHECKPOINT_TIME_BYTES;
    if (run->times > TIMES_SEALED_MAX || start + bytes > c->head.store_bytes)
        return false;
    if (times)
        *times = c->store + start + CHECKPOINT_RUN_BYTES;
    *at += bytes;
    return true;
}
