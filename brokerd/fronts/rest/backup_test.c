/* The backup as a tar archive, from a double for who keeps the data: paces, failures, and clients that go. */
#include <sys/socket.h>
#include <unistd.h>

#include "tar.h"
#include "test/rig.h"

enum { MIB = 1 << 20 };

/* ---- the double ----------------------------------------------------------------------------------------------------- */

static struct {
    unsigned begins, reads, ends, idle_reads; /* idle: at the end of a file's data */
    uint64_t conn;                            /* whose it is; 0: nobody's */
    struct backup_asker asker;                /* of the call that waits for its answer */
    backup_begun *begun;
    backup_bytes *bytes;
    void *arg;
    uint32_t file, max_bytes;
    uint64_t offset;
    bool at_once; /* reads are answered in the call */
} keeper;

static struct backup_file files[] = {{"segment-1", 3000, 1500}, {"segment-2", 512, 512}, {"checkpoint-1", 10, 10}};
static const struct backup_listing LISTING = {.files = files, .count = 3, .data_bytes = 2022, .log_index = 5};

static void begin(void *backup, struct backup_asker asker, backup_begun *done, void *arg)
{
    keeper.begins++;
    keeper.conn = asker.conn;
    keeper.asker = asker;
    keeper.begun = done;
    keeper.arg = arg;
}

static void answer_read(broker_error error)
{
    static uint8_t data[BACKUP_READ_MAX_BYTES];
    uint64_t left = files[keeper.file].data_end - keeper.offset;
    size_t n = left < keeper.max_bytes ? (size_t)left : keeper.max_bytes;
    backup_bytes *done = keeper.bytes;
    memset(data, 'a' + (int)keeper.file, n);
    keeper.bytes = NULL;
    done(keeper.arg, keeper.asker, error, error ? "the disk failed" : NULL, data, error ? 0 : n);
}

static void read_file(void *backup, struct backup_asker asker, uint32_t file, uint64_t offset, uint32_t max_bytes,
                      backup_bytes *done, void *arg)
{
    assert_true(asker.conn == keeper.conn && offset <= files[file].data_end && max_bytes > 0 && !keeper.bytes);
    keeper.reads++;
    keeper.idle_reads += offset == files[file].data_end;
    keeper.asker = asker;
    keeper.bytes = done;
    keeper.arg = arg;
    keeper.file = file;
    keeper.offset = offset;
    keeper.max_bytes = max_bytes;
    if (keeper.at_once)
        answer_read(BROKER_OK);
}

static broker_error end(void *backup, uint64_t conn)
{
    if (conn != keeper.conn)
        return BROKER_REFUSED;
    keeper.ends++;
    keeper.conn = 0;
    return BROKER_OK;
}
static const struct backup_ops OPS = {begin, read_file, end};

static void answer_begin(broker_error error, const char *text)
{
    if (error)
        keeper.conn = 0;
    keeper.begun(keeper.arg, keeper.asker, error, text, error ? NULL : &LISTING);
    turns(3);
}

static int start_with_backup(void **state)
{
    memset(&keeper, 0, sizeof(keeper));
    files[0] = (struct backup_file){"segment-1", 3000, 1500};
    start(state);
    rest->host.backup_ops = &OPS;
    return 0;
}

/* ---- the client ----------------------------------------------------------------------------------------------------- */

/* The head, and a body in chunks: its bytes are counted, and the first of them kept. */
static uint8_t archive[8192];

static bool more(struct buf *in)
{
    uint8_t bytes[65536];
    turn(false);
    ssize_t n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
    if (n > 0)
        assert_true(buf_append(in, bytes, (size_t)n));
    return n != 0;
}

/* How many bytes the body has; -1: it broke off. */
static long long read_chunks(void)
{
    struct buf in;
    long long total = 0;
    bool open = true, ended = false;
    char *head_end;
    buf_init(&in, 0);
    not_reading = true; /* `turn` would take it */
    while (!(head_end = in.len ? memmem(in.bytes, in.len, "\r\n\r\n", 4) : NULL) && open)
        open = more(&in);
    assert_non_null(head_end);
    assert_memory_equal(in.bytes, "HTTP/1.1 200", 12);
    buf_drop_front(&in, (size_t)(head_end + 4 - (char *)in.bytes));
    while (!ended) {
        char *line = in.len ? memmem(in.bytes, in.len, "\r\n", 2) : NULL;
        size_t n = line ? strtoul((char *)in.bytes, NULL, 16) : 0,
               from = line ? (size_t)(line + 2 - (char *)in.bytes) : 0;
        if (!line || in.len < from + n + 2) {
            if (!open)
                break;
            open = more(&in);
            continue;
        }
        for (size_t i = 0; i < n && (size_t)total + i < sizeof(archive); i++)
            archive[(size_t)total + i] = in.bytes[from + i];
        total += (long long)n;
        ended = n == 0;
        buf_drop_front(&in, from + n + 2);
    }
    buf_release(&in);
    not_reading = false;
    return ended ? total : -1;
}

static void ask(void)
{
    not_reading = true;
    request("GET", "/v1/backup", "", "");
    assert_int_equal(keeper.begins, 1);
}

/* ---- tests ---------------------------------------------------------------------------------------------------------- */

static void the_whole_archive(void **state)
{
    keeper.at_once = true;
    ask();
    answer_begin(BROKER_OK, NULL);
    /* Heads; 3000 and 512 and 10 bytes, padded; two blocks of zeros. */
    assert_int_equal(read_chunks(), 3 * 512 + 3072 + 512 + 512 + 1024);
    assert_string_equal((char *)archive, "segment-1");
    assert_memory_equal(archive + 512, "aaaa", 4);
    assert_int_equal(archive[512 + 1499], 'a');
    for (size_t i = 512 + 1500; i < 512 + 3072; i++)
        assert_int_equal(archive[i], 0);
    assert_string_equal((char *)archive + 512 + 3072, "segment-2");
    assert_int_equal(archive[2 * 512 + 3072], 'b');
    assert_string_equal((char *)archive + 3 * 512 + 3072, "checkpoint-1");
    assert_int_equal(archive[4 * 512 + 3072 + 9], 'c');
    assert_int_equal(archive[4 * 512 + 3072 + 10], 0);
    assert_int_equal(keeper.ends, 1);
    assert_int_equal(keeper.reads, 3);
}

static void a_long_tail_of_zeros_is_no_idleness(void **state)
{
    files[0].bytes = 20 * MIB;
    keeper.at_once = true;
    ask();
    answer_begin(BROKER_OK, NULL);
    assert_int_equal(read_chunks(), 20 * MIB + 3 * 512 + 512 + 512 + 1024);
    assert_in_range(keeper.idle_reads, 4, 5); /* each 4 MiB; it ends by itself after a minute without */
    assert_int_equal(keeper.reads - keeper.idle_reads, 3);
}

static void who_does_not_read_is_not_read_for(void **state)
{
    files[0] = (struct backup_file){"segment-1", 100 * MIB, 100 * MIB};
    keeper.at_once = true;
    ask();
    answer_begin(BROKER_OK, NULL);
    turns(50);
    assert_in_range(keeper.reads, 1, 12); /* of 256 KiB: the connection's buffer, and what the system takes */
    unsigned before = keeper.reads;
    turns(50);
    assert_int_equal(keeper.reads, before);
    not_reading = false;
    while (keeper.reads < before + 4)
        turn(false), not_reading = false, recv(fd, body, sizeof(body), MSG_DONTWAIT);
    dial();
    while (rest->call_count)
        turn(false);
    assert_int_equal(keeper.ends, 1);
}

static void it_cannot_begin(void **state)
{
    ask();
    answer_begin(BROKER_LIMIT_REACHED, "another backup is under way");
    not_reading = false;
    expect_problem(429, "another backup");
    assert_non_null(field("Retry-After"));
    assert_int_equal(rest->call_count, 0);
}

static void it_fails_on_the_way(void **state)
{
    ask();
    answer_begin(BROKER_OK, NULL);
    assert_int_equal(keeper.reads, 1);
    answer_read(BROKER_OK);
    turns(3);
    assert_int_equal(keeper.reads, 2);
    answer_read(BROKER_IO);
    assert_int_equal(read_chunks(), -1);
    assert_int_equal(keeper.ends, 1);
    assert_int_equal(rest->call_count, 0);
}

static void nothing_where_there_should_be_something(void **state)
{
    ask();
    answer_begin(BROKER_OK, NULL);
    keeper.offset = files[0].data_end; /* the double gives nothing then */
    answer_read(BROKER_OK);
    assert_int_equal(read_chunks(), -1);
}

static void the_client_goes_before_it_begins(void **state)
{
    ask();
    dial();
    while (rest->call_count)
        turn(false);
    assert_int_equal(keeper.ends, 1);
    answer_begin(BROKER_CANCELLED, "the backup was given up");
    answer_begin(BROKER_OK, NULL);
}

static void the_client_goes_with_a_read_under_way(void **state)
{
    ask();
    answer_begin(BROKER_OK, NULL);
    dial();
    while (rest->call_count)
        turn(false);
    assert_int_equal(keeper.ends, 1);
    answer_read(BROKER_OK);
    turns(3);
    assert_int_equal(keeper.reads, 1);
}

static void without_a_keeper(void **state)
{
    rest->host.backup_ops = NULL;
    request("GET", "/v1/backup", "", "");
    expect_problem(501, "no backups");
    rest->host.backup_ops = &OPS;
    request("HEAD", "/v1/backup", "", "");
    assert_int_equal(response(), 200);
    assert_int_equal(keeper.begins, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, start_with_backup, stop)
    const struct CMUnitTest tests[] = {
        TEST(the_whole_archive),
        TEST(a_long_tail_of_zeros_is_no_idleness),
        TEST(who_does_not_read_is_not_read_for),
        TEST(it_cannot_begin),
        TEST(it_fails_on_the_way),
        TEST(nothing_where_there_should_be_something),
        TEST(the_client_goes_before_it_begins),
        TEST(the_client_goes_with_a_read_under_way),
        TEST(without_a_keeper),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
