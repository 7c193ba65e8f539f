/* Backup: the copy is whole, and of one that failed nothing is left. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fake_broker.h"

static struct fake f; /* for the scripts, which run in a thread */

struct source {
    const char *name;
    uint64_t size, data_end;
};

/* Larger than a few pieces; empty; without data; small. */
static const struct source good[] = {
    {"log-1", 9 << 20, (5 << 20) + 17}, {"empty", 0, 0}, {"zeros", 4096, 0}, {"checkpoint-2", 3, 3}};
enum { GOOD_FILES = sizeof(good) / sizeof(good[0]) };

static uint8_t byte_at(uint32_t file, uint64_t offset)
{
    return (uint8_t)(offset * 7 + offset / 1000 + file);
}

/* ---- the broker's side ------------------------------------------------------------------------------------------------------- */

static void answer_begin(const struct source *files, uint32_t count)
{
    struct fake_frame frame = fake_expect_map(&f, NULL, FRAME_BACKUP_BEGIN, "{}");
    msgpack_sbuffer sb;
    msgpack_packer pk;

    msgpack_sbuffer_init(&sb);
    msgpack_packer_init(&pk, &sb, msgpack_sbuffer_write);
    msgpack_pack_map(&pk, 2);
    pack_key_u64(&pk, "bytes", 0);
    pack_str(&pk, "files", 5);
    msgpack_pack_array(&pk, count);
    for (uint32_t i = 0; i < count; i++) {
        msgpack_pack_map(&pk, 3);
        pack_key_str(&pk, "name", files[i].name, strlen(files[i].name));
        pack_key_u64(&pk, "size", files[i].size);
        pack_key_u64(&pk, "data_end", files[i].data_end);
    }
    fake_send(&f, FRAME_BACKUP_BEGIN | FRAME_RESPONSE, frame.head.correlation, 0, sb.data, sb.size);
    msgpack_sbuffer_destroy(&sb);
    fake_frame_free(&frame);
}

struct read {
    uint32_t correlation;
    uint64_t file, offset, bytes;
};

static struct read expect_read(void)
{
    struct fake_frame frame = fake_expect(&f, NULL, FRAME_BACKUP_READ);
    struct read r = {.correlation = frame.head.correlation};
    struct wire_map m;

    assert_int_equal(wire_map_open(&m, frame.body, frame.head.length), BROKER_OK);
    assert_true(wire_map_u64(&m, "file", 0, 100, &r.file) && wire_map_u64(&m, "offset", 0, UINT64_MAX, &r.offset) &&
                wire_map_u64(&m, "bytes", 1, 1 << 20, &r.bytes));
    wire_map_close(&m);
    fake_frame_free(&frame);
    return r;
}

static void answer_read(struct read r, uint64_t bytes)
{
    uint8_t *body = malloc(bytes + 1);

    assert_non_null(body);
    for (uint64_t i = 0; i < bytes; i++)
        body[i] = byte_at((uint32_t)r.file, r.offset + i);
    fake_send(&f, FRAME_BACKUP_READ | FRAME_RESPONSE, r.correlation, 0, body, bytes);
    free(body);
}

/* Answers reads until `total` bytes were given; every third piece only in part. */
static void answer_reads(uint64_t total)
{
    for (int i = 0; total > 0; i++) {
        struct read r = expect_read();
        uint64_t bytes = i % 3 == 2 && r.bytes > 1 ? r.bytes / 2 : r.bytes;
        assert_true(r.offset + r.bytes <= good[r.file].data_end);
        answer_read(r, bytes);
        total -= bytes;
    }
}

/* ---- the client's side -------------------------------------------------------------------------------------------------------- */

static char parent[64], path[96];

static int make_parent(void **state)
{
    snprintf(parent, sizeof(parent), "/tmp/backup_test.XXXXXX");
    assert_non_null(mkdtemp(parent));
    snprintf(path, sizeof(path), "%s/copy", parent);
    return 0;
}

static int count_entries(const char *dir)
{
    DIR *d = opendir(dir);
    int count = -2; /* . and .. */

    assert_non_null(d);
    while (readdir(d))
        count++;
    closedir(d);
    return count;
}

static void remove_copy(void)
{
    char name[200];

    for (int i = 0; i < GOOD_FILES; i++) {
        snprintf(name, sizeof(name), "%s/%s", path, good[i].name);
        unlink(name);
    }
    rmdir(path);
}

static int remove_parent(void **state)
{
    remove_copy();
    return rmdir(parent);
}

static void check_file(uint32_t i)
{
    char name[200];
    struct stat st;
    FILE *file;

    snprintf(name, sizeof(name), "%s/%s", path, good[i].name);
    assert_int_equal(stat(name, &st), 0);
    assert_int_equal(st.st_size, good[i].size);
    assert_int_equal(st.st_mode & 0777, 0600);
    file = fopen(name, "rb");
    assert_non_null(file);
    for (uint64_t at = 0; at < good[i].size; at++) {
        int c = fgetc(file);
        if (c != (at < good[i].data_end ? byte_at(i, at) : 0))
            fail_msg("%s: byte %llu is %d", name, (unsigned long long)at, c);
    }
    fclose(file);
}

struct progress {
    uint64_t last, total;
    int calls, stop_at;
};

static bool on_progress(void *arg, uint64_t done, uint64_t total)
{
    struct progress *p = arg;

    assert_true(done >= p->last && done <= total);
    p->last = done;
    p->total = total;
    return ++p->calls != p->stop_at;
}

/* ---- tests --------------------------------------------------------------------------------------------------------------------- */

static void script_whole(struct fake *fake)
{
    fake_greet(fake, NULL);
    for (int i = 0; i < 2; i++) {
        answer_begin(good, GOOD_FILES);
        answer_reads((5 << 20) + 17 + 3);
        fake_expect_call(fake, NULL, FRAME_BACKUP_END, "{}");
    }
}

static void whole(void **state)
{
    struct progress p = {0};
    struct stat st;

    fake_open(&f);
    broker *b = client_open(&f, NULL);
    fake_start(&f, script_whole);
    assert_int_equal(broker_backup(b, path, on_progress, &p), BROKER_OK);
    assert_int_equal(p.total, (5 << 20) + 17 + 3);
    assert_int_equal(p.last, p.total);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_int_equal(count_entries(path), GOOD_FILES);
    for (uint32_t i = 0; i < GOOD_FILES; i++)
        check_file(i);
    /* Never over something that is there. */
    assert_int_equal(broker_backup(b, path, NULL, NULL), BROKER_INVALID_ARGUMENT);
    assert_int_equal(count_entries(path), GOOD_FILES);
    check_file(3);
    remove_copy();
    /* An empty directory will do; it becomes private. */
    assert_int_equal(mkdir(path, 0755), 0);
    assert_int_equal(broker_backup(b, path, NULL, NULL), BROKER_OK);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    check_file(0);
    remove_copy();
    fake_join(&f);
    broker_close(b);
    fake_close(&f);
}

static void no_place_for_it(void **state)
{
    struct fake fake;
    char name[200];

    fake_open(&fake);
    broker *b = client_open(&fake, NULL);
    assert_int_equal(broker_backup(b, NULL, NULL, NULL), BROKER_INVALID_ARGUMENT);
    assert_int_equal(broker_backup(b, "", NULL, NULL), BROKER_INVALID_ARGUMENT);
    snprintf(name, sizeof(name), "%s/no/such", parent);
    assert_int_equal(broker_backup(b, name, NULL, NULL), BROKER_IO);
    assert_non_null(strstr(broker_error_text(b), name));
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(broker_backup(b, path, NULL, NULL), BROKER_IO); /* a file */
    assert_int_equal(unlink(path), 0);
    broker_close(b);
    fake_close(&fake);
}

/* Names lead nowhere else, and data lies within the file. */
static const struct source bad[][2] = {
    {{"good", 5, 5}, {"../evil", 5, 5}}, {{"good", 5, 5}, {"a/b", 5, 5}}, {{"good", 5, 5}, {"..", 5, 5}},
    {{"good", 5, 5}, {"", 5, 5}},        {{"good", 5, 5}, {"x", 5, 6}},   {{"good", 5, 5}, {"good", 5, 5}},
};
enum { BAD = sizeof(bad) / sizeof(bad[0]) };

static void script_bad_names(struct fake *fake)
{
    fake_greet(fake, NULL);
    for (int i = 0; i < BAD; i++) {
        answer_begin(bad[i], 2);
        fake_expect_call(fake, NULL, FRAME_BACKUP_END, "{}");
    }
}

static void bad_names(void **state)
{
    fake_open(&f);
    broker *b = client_open(&f, NULL);
    fake_start(&f, script_bad_names);
    for (int i = 0; i < BAD; i++) {
        assert_int_equal(broker_backup(b, path, NULL, NULL), i == BAD - 1 ? BROKER_IO : BROKER_MALFORMED);
        assert_int_equal(count_entries(parent), 0);
    }
    fake_join(&f);
    broker_close(b);
    fake_close(&f);
}

static void script_failures(struct fake *fake)
{
    struct read r[4];

    fake_greet(fake, NULL);
    struct fake_frame frame = fake_expect(fake, NULL, FRAME_BACKUP_BEGIN);
    fake_send_error(fake, frame.head.correlation, BROKER_LIMIT_REACHED, "another backup is under way", "request");
    fake_frame_free(&frame);
    fake_expect_call(fake, NULL, FRAME_BACKUP_END, "{}");

    answer_begin(good, GOOD_FILES); /* a piece fails; the others may still be answered */
    for (int i = 0; i < 4; i++)
        r[i] = expect_read();
    answer_read(r[1], r[1].bytes);
    r[1] = expect_read();
    fake_send_error(fake, r[0].correlation, BROKER_IO, "cannot read the segment", "request");
    fake_expect_call(fake, NULL, FRAME_BACKUP_END, "{}");
    for (int i = 1; i < 4; i++)
        answer_read(r[i], r[i].bytes);

    answer_begin(good, GOOD_FILES); /* more than was asked for */
    for (int i = 0; i < 4; i++)
        r[i] = expect_read();
    answer_read(r[0], r[0].bytes + 1);
    fake_expect_call(fake, NULL, FRAME_BACKUP_END, "{}");

    answer_begin(good, GOOD_FILES); /* given up by the program after the first pieces */
    for (int i = 0; i < 4; i++)
        r[i] = expect_read();
    answer_read(r[0], r[0].bytes);
    fake_expect_call(fake, NULL, FRAME_BACKUP_END, "{}");

    answer_begin(good, GOOD_FILES); /* the connection goes */
    expect_read();
    fake_drop(fake);
}

static void failures(void **state)
{
    struct progress p = {.stop_at = 2};

    fake_open(&f);
    broker *b = client_open(&f, NULL);
    fake_start(&f, script_failures);
    assert_int_equal(broker_backup(b, path, NULL, NULL), BROKER_LIMIT_REACHED);
    assert_string_equal(broker_error_text(b), "another backup is under way");
    assert_int_equal(count_entries(parent), 0);
    assert_int_equal(broker_backup(b, path, NULL, NULL), BROKER_IO);
    assert_string_equal(broker_error_text(b), "cannot read the segment");
    assert_int_equal(count_entries(parent), 0);
    assert_int_equal(broker_backup(b, path, NULL, NULL), BROKER_MALFORMED);
    assert_int_equal(count_entries(parent), 0);
    assert_int_equal(broker_backup(b, path, on_progress, &p), BROKER_CANCELLED);
    assert_int_equal(count_entries(parent), 0);
    assert_int_equal(broker_backup(b, path, NULL, NULL), BROKER_CONNECTION_LOST);
    assert_int_equal(count_entries(parent), 0);
    fake_join(&f);
    broker_close(b);
    fake_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole),
        cmocka_unit_test(no_place_for_it),
        cmocka_unit_test(bad_names),
        cmocka_unit_test(failures),
    };
    return cmocka_run_group_tests(tests, make_parent, remove_parent);
}
