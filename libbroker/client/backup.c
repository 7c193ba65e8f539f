/*
 * Backup: the broker pins one state of its data and names its files; we fetch them in pieces, a few under way at a time, into
 * a new directory. A piece is written where it belongs as its answer comes, so their order does not matter.
 */
#include "client_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PIECES_MAX = 4, PIECE_BYTES = 1 << 20, PIECE_HEAD_ROOM = 4096, FILES_MAX = 1 << 20 };

struct backup_file {
    char *name;        /* owned */
    uint64_t size;     /* of the file */
    uint64_t data_end; /* bytes to be copied; zeros follow */
};

struct backup;

struct piece {
    struct call call;
    struct backup *backup;
    bool busy;
    uint32_t file;
    uint64_t offset;
    uint32_t bytes; /* that were asked for */
    uint32_t got;
};

struct backup {
    broker *b;
    const char *path;
    int dir;
    bool made_dir;
    struct backup_file *files; /* owned */
    uint32_t file_count, files_made;
    uint32_t next_file; /* what is to be asked for next */
    uint64_t next_offset;
    uint64_t bytes_done, bytes_total;
    struct piece pieces[PIECES_MAX];
};

/* ---- what there is to copy -------------------------------------------------------------------------------------------------- */

struct begin_call {
    struct call call;
    struct backup *backup;
};

/* The name becomes one of ours in the file system: it must stay in the directory. */
static bool name_is_safe(const char *name, size_t len)
{
    return len >= 1 && len <= NAME_MAX && !memchr(name, '/', len) && !memchr(name, '\0', len) &&
           !(len == 1 && name[0] == '.') && !(len == 2 && memcmp(name, "..", 2) == 0);
}

static broker_error file_get(const msgpack_object *o, struct backup_file *file)
{
    struct wire_map m;
    const char *name = NULL;
    size_t len = 0;

    if (!inner_map(o, &m) || !wire_map_str(&m, "name", NAME_MAX, &name, &len) || !name || !name_is_safe(name, len) ||
        !wire_map_u64(&m, "size", 0, INT64_MAX, &file->size) ||
        !wire_map_u64(&m, "data_end", 0, file->size, &file->data_end))
        return BROKER_MALFORMED;
    file->name = strndup(name, len);
    return file->name ? BROKER_OK : BROKER_NO_MEMORY;
}

static broker_error files_get(struct backup *k, const msgpack_object *files)
{
    if (!files || files->type != MSGPACK_OBJECT_ARRAY || files->via.array.size > FILES_MAX)
        return BROKER_MALFORMED;
    k->files = calloc(files->via.array.size + 1u, sizeof(*k->files));
    if (!k->files)
        return BROKER_NO_MEMORY;
    for (uint32_t i = 0; i < files->via.array.size; i++) {
        broker_error error = file_get(&files->via.array.ptr[i], &k->files[i]);
        if (error != BROKER_OK)
            return error;
        k->file_count++;
        if (k->files[i].data_end > UINT64_MAX - k->bytes_total)
            return BROKER_MALFORMED;
        k->bytes_total += k->files[i].data_end;
    }
    return BROKER_OK;
}

static broker_error begin_answered(broker *b, struct call *c, const uint8_t *body, size_t len)
{
    struct backup *k = ((struct begin_call *)c)->backup;
    struct wire_map m;
    broker_error error = BROKER_MALFORMED;

    if (wire_map_open(&m, body, len) == BROKER_OK)
        error = files_get(k, wire_map_find(&m, "files"));
    wire_map_close(&m);
    if (error == BROKER_NO_MEMORY)
        return set_error(b, error, "out of memory");
    return error == BROKER_OK ? BROKER_OK
                              : set_error(b, error,
                                          "the broker's answer to BACKUP_BEGIN is malformed, or names a file "
                                          "that is no plain name");
}

/* ---- the directory ------------------------------------------------------------------------------------------------------------ */

static broker_error io_error(struct backup *k, const char *what, const char *name)
{
    int code = errno;

    return set_error(k->b, code == ENOSPC || code == EDQUOT ? BROKER_DISK_FULL : BROKER_IO,
                     "backup: cannot %s %.120s%s%.80s: %s", what, k->path, name ? "/" : "", name ? name : "",
                     strerror(code));
}

static bool directory_is_empty(int dir)
{
    int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = copy >= 0 ? fdopendir(copy) : NULL;
    bool empty = d != NULL;

    if (!d && copy >= 0)
        close(copy);
    for (struct dirent *e; empty && (e = readdir(d)) != NULL;)
        empty = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0;
    if (d)
        closedir(d);
    return empty;
}

static broker_error open_directory(struct backup *k)
{
    k->made_dir = mkdir(k->path, 0700) == 0;
    if (!k->made_dir && errno != EEXIST)
        return io_error(k, "make the directory", NULL);
    k->dir = open(k->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (k->dir < 0)
        return io_error(k, "open the directory", NULL);
    if (!k->made_dir && !directory_is_empty(k->dir))
        return set_error(k->b, BROKER_INVALID_ARGUMENT, "backup: %.200s is not empty; give a new or empty directory",
                         k->path);
    if (!k->made_dir && fchmod(k->dir, 0700) != 0)
        return io_error(k, "restrict the directory", NULL);
    return BROKER_OK;
}

static broker_error make_files(struct backup *k)
{
    for (uint32_t i = 0; i < k->file_count; i++) {
        int fd = openat(k->dir, k->files[i].name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
            return io_error(k, "make", k->files[i].name);
        k->files_made++;
        close(fd);
    }
    return BROKER_OK;
}

static broker_error write_piece(struct backup *k, const struct backup_file *file, const uint8_t *bytes, size_t len,
                                uint64_t offset)
{
    int fd = openat(k->dir, file->name, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
    broker_error error = fd < 0 ? io_error(k, "open", file->name) : BROKER_OK;

    while (error == BROKER_OK && len > 0) {
        ssize_t n = pwrite(fd, bytes, len, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            error = io_error(k, "write", file->name);
            break;
        }
        bytes += n;
        len -= (size_t)n;
        offset += (uint64_t)n;
    }
    if (fd >= 0)
        close(fd);
    return error;
}

/* Full sizes, and all of it on disk: the files, their names, and the directory's own name. */
static broker_error finish_files(struct backup *k)
{
    for (uint32_t i = 0; i < k->file_count; i++) {
        int fd = openat(k->dir, k->files[i].name, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
        bool good = fd >= 0 && ftruncate(fd, (off_t)k->files[i].size) == 0 && fsync(fd) == 0;
        broker_error error = good ? BROKER_OK : io_error(k, "finish", k->files[i].name);
        if (fd >= 0)
            close(fd);
        if (!good)
            return error;
    }
    if (fsync(k->dir) != 0)
        return io_error(k, "sync", NULL);
    int parent = openat(k->dir, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool good = parent >= 0 && fsync(parent) == 0;
    broker_error error = good ? BROKER_OK : io_error(k, "sync the directory that holds", NULL);
    if (parent >= 0)
        close(parent);
    return error;
}

static void remove_files(struct backup *k)
{
    for (uint32_t i = 0; i < k->files_made; i++)
        unlinkat(k->dir, k->files[i].name, 0);
    k->files_made = 0;
    if (k->made_dir)
        rmdir(k->path);
}

/* ---- pieces ------------------------------------------------------------------------------------------------------------------- */

static broker_error piece_answered(broker *b, struct call *c, const uint8_t *body, size_t len)
{
    struct piece *p = (struct piece *)c;

    if (len < 1 || len > p->bytes)
        return set_error(b, BROKER_MALFORMED, "the broker answered BACKUP_READ of %u bytes with %zu", p->bytes, len);
    p->got = (uint32_t)len;
    return write_piece(p->backup, &p->backup->files[p->file], body, len, p->offset);
}

static broker_error piece_ask(struct backup *k, struct piece *p)
{
    broker *b = k->b;
    msgpack_packer pk;

    p->call = (struct call){.on_answer = piece_answered};
    p->got = 0;
    scratch_pack(b, &pk);
    msgpack_pack_map(&pk, 3);
    pack_key_u64(&pk, "file", p->file);
    pack_key_u64(&pk, "offset", p->offset);
    pack_key_u64(&pk, "bytes", p->bytes);
    broker_error error = scratch_good(b);
    if (error == BROKER_OK)
        error = call_begin(b, &p->call, false, FRAME_BACKUP_READ, 0, b->scratch.data, b->scratch.size);
    p->busy = error == BROKER_OK;
    return error;
}

static uint32_t piece_bytes(const struct backup *k)
{
    uint32_t limit = k->b->max_frame > 2 * PIECE_HEAD_ROOM ? k->b->max_frame - PIECE_HEAD_ROOM : PIECE_HEAD_ROOM;
    return limit < PIECE_BYTES ? limit : PIECE_BYTES;
}

/* Asks for the next piece that nobody was asked for; false: there is none. */
static bool piece_next(struct backup *k, struct piece *p)
{
    while (k->next_file < k->file_count && k->next_offset == k->files[k->next_file].data_end) {
        k->next_file++;
        k->next_offset = 0;
    }
    if (k->next_file == k->file_count)
        return false;
    uint64_t left = k->files[k->next_file].data_end - k->next_offset;
    uint32_t most = piece_bytes(k);
    p->backup = k;
    p->file = k->next_file;
    p->offset = k->next_offset;
    p->bytes = left < most ? (uint32_t)left : most;
    k->next_offset += p->bytes;
    return true;
}

/* The piece's answer is there: count it, and ask for what the broker left out. */
static broker_error piece_done(struct backup *k, struct piece *p)
{
    p->busy = false;
    if (p->call.error != BROKER_OK)
        return call_result(k->b, &p->call);
    k->bytes_done += p->got;
    p->offset += p->got;
    p->bytes -= p->got;
    return p->bytes > 0 ? piece_ask(k, p) : BROKER_OK;
}

static broker_error pieces_fill(struct backup *k, bool *any)
{
    broker_error error = BROKER_OK;

    *any = false;
    for (int i = 0; i < PIECES_MAX && error == BROKER_OK; i++) {
        struct piece *p = &k->pieces[i];
        if (!p->busy && piece_next(k, p))
            error = piece_ask(k, p);
        *any = *any || p->busy;
    }
    return error;
}

static void pieces_abandon(struct backup *k)
{
    for (int i = 0; i < PIECES_MAX; i++) {
        if (k->pieces[i].busy && !k->pieces[i].call.done)
            call_abandon(k->b, &k->pieces[i].call);
        k->pieces[i].busy = false;
    }
}

/* Waits until at least one piece that is under way has its answer. */
static broker_error pieces_wait(struct backup *k)
{
    broker *b = k->b;
    uint64_t deadline = client_now_ms() + b->options.timeout_ms;
    broker_error error = BROKER_OK;

    for (bool any = false; !any;) {
        bool in_time = client_step(b, deadline);
        for (int i = 0; i < PIECES_MAX && error == BROKER_OK; i++) {
            struct piece *p = &k->pieces[i];
            if (!p->busy || !p->call.done)
                continue;
            any = true;
            error = piece_done(k, p);
        }
        if (!any && !in_time)
            return deadline_error(b, "BACKUP_READ", b->options.timeout_ms);
    }
    return error;
}

static broker_error copy_files(struct backup *k, bool (*progress)(void *, uint64_t, uint64_t), void *arg)
{
    for (;;) {
        bool any;
        if (progress && !progress(arg, k->bytes_done, k->bytes_total))
            return set_error(k->b, BROKER_CANCELLED, "backup: given up after %llu of %llu bytes",
                             (unsigned long long)k->bytes_done, (unsigned long long)k->bytes_total);
        broker_error error = pieces_fill(k, &any);
        if (error == BROKER_OK && any)
            error = pieces_wait(k);
        if (error != BROKER_OK || !any)
            return error;
    }
}

/* ---- the whole ------------------------------------------------------------------------------------------------------------------ */

/* What is pinned is let go, also after a failure. That is told, and not what comes of this: it goes with the connection, too. */
static void end_backup(struct backup *k)
{
    broker *b = k->b;
    struct call c = {0};
    char text[sizeof(b->error_text)];

    if (!conn_is_greeted(b))
        return;
    memcpy(text, b->error_text, sizeof(text));
    call_do(b, &c, FRAME_BACKUP_END, "\x80", 1);
    memcpy(b->error_text, text, sizeof(text));
}

broker_error broker_backup(broker *b, const char *path,
                           bool (*progress)(void *arg, uint64_t bytes_done, uint64_t bytes_total), void *arg)
{
    struct backup k = {.b = b, .path = path, .dir = -1};
    struct begin_call begin = {.call.on_answer = begin_answered, .backup = &k};
    broker_error error = may_block(b, "broker_backup");

    if (error == BROKER_OK && (!path || !path[0]))
        error = set_error(b, BROKER_INVALID_ARGUMENT, "backup: no path; give a new or empty directory");
    if (error == BROKER_OK)
        error = open_directory(&k);
    bool begun = error == BROKER_OK;
    if (begun)
        error = call_do(b, &begin.call, FRAME_BACKUP_BEGIN, "\x80", 1);
    if (error == BROKER_OK)
        error = make_files(&k);
    if (error == BROKER_OK)
        error = copy_files(&k, progress, arg);
    pieces_abandon(&k);
    if (begun)
        end_backup(&k);
    if (error == BROKER_OK) /* may take long; the broker need not wait for it */
        error = finish_files(&k);
    if (error != BROKER_OK && k.dir >= 0)
        remove_files(&k);
    else if (error != BROKER_OK && k.made_dir)
        rmdir(path);
    if (k.dir >= 0)
        close(k.dir);
    for (uint32_t i = 0; i < k.file_count; i++)
        free(k.files[i].name);
    free(k.files);
    return error;
}
