/* Exchanges: answers at once and later, in order; kept, gone, sent; pieces; limits; connections handed over. */
#include <sys/socket.h>
#include <unistd.h>

#include "test/rig.h"

#define H         "Host: x\r\n"
#define GET(path) "GET " path " HTTP/1.1\r\n" H "\r\n"

static void test_answers(void **state)
{
    put(GET("/hello"));
    expect(200, "hello");
    assert_true(has_field("Content-Length: 5"));
    assert_true(has_field("Content-Type: text/plain"));
    assert_non_null(strstr(head, "\r\nDate: "));
    assert_null(strstr(head, "\r\nConnection:"));
    put("POST /echo HTTP/1.1\r\n" H "Content-Length: 11\r\n\r\nhello there");
    expect(200, "hello there");
    put(GET("/none"));
    expect(204, "");
    assert_null(strstr(head, "Content-Length"));
    request_head("HEAD /hello HTTP/1.1\r\n" H "\r\n");
    expect(200, "");
    assert_true(has_field("Content-Length: 5"));
    put(GET("/hello"));
    expect(200, "hello"); /* the connection lived through all that */
    assert_int_equal(http_connections(http), 1);
}

static void test_order(void **state)
{
    put(GET("/keep/a") GET("/hello") GET("/keep/b") GET("/keep/c"));
    expect_silence();
    assert_int_equal(kept_count, 3); /* at once */
    kept_answer("c", "C");
    kept_answer("b", "B");
    expect_silence();
    kept_answer("a", "A");
    expect(200, "A");
    expect(200, "hello");
    expect(200, "B");
    expect(200, "C");
}

static void test_kept_exchanges_are_told_of_the_end(void **state)
{
    put(GET("/keep/a") GET("/keep/b"));
    turns(3);
    assert_int_equal(kept_count, 2);
    kept_answer("b", "B"); /* it waits for a's */
    close(fd);
    fd = -1;
    while (http_connections(http) > 0)
        turn(false);
    assert_int_equal(kept_by("a")->gone, 1);
    assert_int_equal(kept_by("b")->gone, 0); /* it was answered, and asked for nothing more */
}

static void test_a_half_closed_connection_is_gone(void **state)
{
    put(GET("/keep/a"));
    shutdown(fd, SHUT_WR);
    while (http_connections(http) > 0)
        turn(false);
    assert_int_equal(kept_by("a")->gone, 1);
}

static void test_sent(void **state)
{
    want_sent = true;
    put(GET("/keep/a") GET("/keep/b") GET("/keep/c"));
    turns(3);
    kept_answer("b", "B");
    turns(5);
    assert_int_equal(kept_by("b")->sent_all, 0); /* it has not even its turn */
    kept_answer("a", "A");
    turns(5);
    assert_int_equal(kept_by("a")->sent_all, 1);
    assert_int_equal(kept_by("b")->sent_all, 1);
    expect(200, "A");
    expect(200, "B");
    close(fd);
    fd = -1;
    while (http_connections(http) > 0)
        turn(false);
    assert_int_equal(kept_by("a")->gone + kept_by("b")->gone + kept_by("a")->sent_not + kept_by("b")->sent_not, 0);
    assert_int_equal(kept_by("c")->gone, 1);
    assert_int_equal(kept_by("c")->sent_all + kept_by("c")->sent_not, 0);
}

/* All of it, not only some: the client reads a part and goes. */
static void test_sent_means_all(void **state)
{
    want_sent = true;
    put("GET /keep/a HTTP/1.1\r\n" H "Connection: close\r\n\r\n");
    turns(3);
    char *large = malloc(900001);
    memset(large, 'x', 900000);
    large[900000] = '\0';
    kept_answer("a", large);
    free(large);
    net_turn(net, false);
    net_turn(net, false);
    assert_int_equal(kept_by("a")->sent_all + kept_by("a")->sent_not, 0);
    close(fd);
    fd = -1;
    while (http_connections(http) > 0)
        turn(false);
    assert_int_equal(kept_by("a")->sent_all, 0);
    assert_int_equal(kept_by("a")->sent_not, 1);
}

/* Little of it is left, so that the output is no more full: it is not sent all the same. */
static void test_a_little_unsent_is_not_sent(void **state)
{
    static char bytes[1 << 20];
    size_t at_once = 0;
    ssize_t n;
    big = 900000;
    put(GET("/big"));
    for (int i = 0; i < 5; i++)
        net_turn(net, false);
    while ((n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0)
        at_once += (size_t)n; /* what the system takes of one connection */
    assert_true(at_once > 50000 && at_once < 800000);
    dial();
    want_sent = true;
    put(GET("/keep/a"));
    turns(3);
    memset(bytes, 'x', at_once + 20000);
    bytes[at_once + 20000] = '\0';
    kept_answer("a", bytes);
    for (int i = 0; i < 10; i++)
        net_turn(net, false);
    assert_int_equal(kept_by("a")->sent_all + kept_by("a")->sent_not, 0);
    assert_int_equal(response(), 200);
    turns(3);
    assert_int_equal(kept_by("a")->sent_all, 1);
}

static void test_sent_before_the_end(void **state)
{
    want_sent = true;
    put("GET /keep/a HTTP/1.1\r\n" H "Connection: close\r\n\r\n");
    turns(3);
    kept_answer("a", "A");
    expect(200, "A");
    turns(3);
    assert_int_equal(kept_by("a")->sent_all, 1); /* not only when the client has closed */
    expect_end();
}

/* ---- limits --------------------------------------------------------------------------------------------------------- */

static void test_requests_wait_while_too_many_are_under_way(void **state)
{
    for (char c = 'a'; c < 'm'; c++) {
        char text[64];
        snprintf(text, sizeof(text), "GET /keep/%c HTTP/1.1\r\n" H "\r\n", c);
        put(text);
    }
    turns(5);
    assert_int_equal(kept_count, 8);
    kept_answer("c", "c"); /* makes no room: a and b come first */
    turns(5);
    assert_int_equal(kept_count, 8);
    kept_answer("a", "a");
    turns(5);
    assert_int_equal(kept_count, 9);
    expect(200, "a");
    kept_answer("b", "b");
    turns(5);
    assert_int_equal(kept_count, 11);
    expect(200, "b");
    expect(200, "c");
    for (char c = 'd'; c < 'm'; c++) {
        char name[2] = {c, 0};
        turns(3);
        kept_answer(name, name);
        expect(200, name);
    }
    assert_int_equal(kept_count, 12);
}

static void test_early_answers_are_bounded(void **state)
{
    big = 40000;
    put(GET("/keep/a") GET("/big") GET("/big") GET("/big") GET("/big"));
    turns(5);
    assert_int_equal(handled, 3); /* two of them are more than 65536 bytes */
    kept_answer("a", "A");
    expect(200, "A");
    for (int i = 0; i < 4; i++) {
        assert_int_equal(response(), 200);
        assert_int_equal(body_len, big);
    }
}

/* A client that sends requests and reads nothing: they stop being read. */
static void test_a_client_that_does_not_read(void **state)
{
    static const char one[] = GET("/big");
    big = 30000;
    for (int i = 0; i < 1000; i++)
        send(fd, one, sizeof(one) - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    for (int i = 0; i < 50; i++)
        net_turn(net, false);
    assert_true(handled > 4 && handled < 40);
}

static void test_a_client_that_goes_while_it_is_not_read(void **state)
{
    for (int i = 0; i < 10; i++)
        put(GET("/keep/a"));
    turns(5);
    assert_int_equal(kept_count, 8);
    close(fd);
    fd = -1;
    while (http_connections(http) > 0)
        turn(true);
    for (int i = 0; i < 8; i++)
        assert_int_equal(kept[i].gone, 1);
}

static void expect_refusal(int status, const char *slug)
{
    assert_int_equal(response(), status);
    char type[64];
    snprintf(type, sizeof(type), "{\"type\":\"/errors/%s\"", slug);
    if (strncmp(body, type, strlen(type)) != 0)
        fail_msg("'%s' does not begin with '%s'", body, type);
}

static void test_heads_are_bounded(void **state)
{
    static char long_one[6000];
    memset(long_one, 'x', sizeof(long_one) - 1);
    memcpy(long_one, "GET /", 5);
    put(long_one);
    expect_refusal(414, "head_too_large");
    shutdown(fd, SHUT_WR);
    expect_end();
    dial();
    memcpy(long_one, "GET / HTTP/1.1\r\nHost: x\r\nA: ", 28);
    put(long_one);
    expect_refusal(431, "head_too_large");
    shutdown(fd, SHUT_WR);
    expect_end();
    dial();
    memcpy(long_one + 4500, "\r\n\r\n", 4); /* complete, in one piece */
    put(long_one);
    expect_refusal(431, "head_too_large");
    shutdown(fd, SHUT_WR);
    expect_end();
    dial();
    put("GET /hello HTTP/1.1\r\nHost: x\r\n");
    for (int i = 0; i < 19; i++)
        put("A: b\r\n");
    put("\r\n");
    expect(200, "hello");
    put("GET /hello HTTP/1.1\r\nHost: x\r\n");
    for (int i = 0; i < 20; i++)
        put("A: b\r\n");
    put("\r\n");
    expect_refusal(431, "head_too_large");
}

static void test_bodies_are_bounded(void **state)
{
    char *large = malloc(200000);
    memset(large, 'y', 200000);
    put("POST /echo HTTP/1.1\r\n" H "Content-Length: 200000\r\n\r\n");
    put_bytes(large, 200000);
    assert_int_equal(response(), 200);
    assert_int_equal(body_len, 200000);
    assert_memory_equal(body, large, 200000);
    put("POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n30d40\r\n");
    put_bytes(large, 200000);
    put("\r\n0\r\n\r\n");
    assert_int_equal(response(), 200);
    assert_int_equal(body_len, 200000);
    assert_memory_equal(body, large, 200000);
    put("PUT /small HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n6\r\n");
    expect_refusal(413, "body_too_large");
    free(large);
}

/* Incomplete chunked bodies of all connections share their memory; what is given back can be used again. */
static void test_chunked_bodies_share_a_limit(void **state)
{
    enum { OTHERS = 6 };
    int fds[OTHERS];
    static char part[150000];
    memset(part, 'z', sizeof(part));
    for (int i = 0; i < OTHERS; i++) {
        if (i > 0) {
            fd = -1;
            dial();
        }
        put("POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n249f0\r\n");
        put_bytes(part, sizeof(part) - 1);
        turns(3);
        fds[i] = fd;
        if (got_len > 0)
            break;
    }
    expect_refusal(503, "overloaded"); /* 150000 take up 200000 while they grow: the sixth is over a MiB */
    assert_true(has_field("Retry-After: 1"));
    assert_int_equal(fds[5], fd);
    fd = fds[0];
    put("z\r\n0\r\n\r\n");
    assert_int_equal(response(), 200);
    put("POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n249f0\r\n");
    put_bytes(part, sizeof(part));
    put("\r\n0\r\n\r\n");
    assert_int_equal(response(), 200);
    for (int i = 1; i < 6; i++)
        close(fds[i]);
}

static void test_expect_continue(void **state)
{
    put("POST /echo HTTP/1.1\r\n" H "Content-Length: 5\r\nExpect: 100-Continue\r\n\r\n");
    assert_int_equal(response(), 100);
    put("hello");
    expect(200, "hello");
    put("POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n");
    assert_int_equal(response(), 100);
    put("5\r\nhello\r\n0\r\n\r\n");
    expect(200, "hello");
    /* with an answer still owed, the interim one waits for it */
    put(GET("/keep/a") "POST /echo HTTP/1.1\r\n" H "Content-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    expect_silence();
    kept_answer("a", "A");
    expect(200, "A");
    assert_int_equal(response(), 100);
    put("again");
    expect(200, "again");
    /* not if it will be refused anyway */
    put("PUT /small HTTP/1.1\r\n" H "Content-Length: 11\r\nExpect: 100-continue\r\n\r\n");
    expect_refusal(413, "body_too_large");
    shutdown(fd, SHUT_WR);
    expect_end();
}

/* ---- pieces --------------------------------------------------------------------------------------------------------- */

static const struct http_response piece_head = {.status = 200, .type = "text/plain"};

static void test_a_response_in_pieces(void **state)
{
    put(GET("/keep/a") GET("/hello"));
    turns(3);
    struct http_exchange *x = kept_by("a")->x;
    http_chunked_begin(x, &piece_head);
    assert_true(http_chunked_write(x, "hello", 5));
    assert_true(http_chunked_write(x, "", 0)); /* would be the end */
    turns(3);
    assert_true(got_len > 0);
    assert_true(http_chunked_write(x, "0123456789abcdefg", 17));
    http_chunked_end(x);
    assert_int_equal(response(), 200);
    assert_true(has_field("Transfer-Encoding: chunked"));
    static const char wanted[] = "5\r\nhello\r\n11\r\n0123456789abcdefg\r\n0\r\n\r\n";
    while (got_len < sizeof(wanted) - 1)
        turn(true);
    assert_memory_equal(got, wanted, sizeof(wanted) - 1);
    memmove(got, got + sizeof(wanted) - 1, got_len - sizeof(wanted) + 2);
    got_len -= sizeof(wanted) - 1;
    expect(200, "hello");
}

static void test_pieces_for_http_1_0(void **state)
{
    put("GET /keep/a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    turns(3);
    struct http_exchange *x = kept_by("a")->x;
    http_chunked_begin(x, &piece_head);
    http_chunked_write(x, "hello", 5);
    http_chunked_end(x);
    assert_int_equal(response(), 200);
    assert_true(has_field("Connection: close"));
    assert_null(strstr(head, "Transfer-Encoding"));
    while (got_len < 5)
        turn(true);
    assert_memory_equal(got, "hello", 5);
    got_len = 0;
    shutdown(fd, SHUT_WR);
    expect_end();
}

static void test_pieces_wait_for_a_slow_client(void **state)
{
    static char part[10000];
    put(GET("/keep/a"));
    turns(3);
    struct kept *k = kept_by("a");
    http_chunked_begin(k->x, &piece_head);
    unsigned written = 0;
    while (!http_is_full(k->x)) {
        assert_true(http_chunked_write(k->x, part, sizeof(part)));
        written++;
        net_turn(net, false);
        assert_true(written < 1000);
    }
    assert_int_equal(k->drained, 0);
    while (!k->drained)
        turn(false); /* reads */
    assert_int_equal(k->drained, 1);
    assert_false(http_is_full(k->x));
    http_chunked_end(k->x);
}

/* One that is not first is full, too; and is told when it has its turn. */
static void test_pieces_behind_another(void **state)
{
    static char part[10000];
    put(GET("/keep/a") GET("/keep/b"));
    turns(3);
    struct kept *k = kept_by("b");
    http_chunked_begin(k->x, &piece_head);
    unsigned written = 0;
    for (; !http_is_full(k->x); written++)
        assert_true(http_chunked_write(k->x, part, sizeof(part)));
    assert_int_equal(written, 7);
    turns(3);
    assert_int_equal(k->drained, 0);
    kept_answer("a", "A");
    expect(200, "A");
    while (!k->drained)
        turn(true);
    http_chunked_end(k->x);
    assert_int_equal(response(), 200);
}

static void test_an_aborted_response(void **state)
{
    put(GET("/hello") GET("/keep/a") GET("/hello"));
    turns(3);
    struct http_exchange *x = kept_by("a")->x;
    http_chunked_begin(x, &piece_head);
    http_chunked_write(x, "hel", 3);
    http_abort(x);
    expect(200, "hello");
    assert_int_equal(response(), 200);
    while (got_len < 8)
        turn(true);
    assert_memory_equal(got, "3\r\nhel\r\n", 8); /* and no end */
    got_len = 0;
    shutdown(fd, SHUT_WR);
    expect_end();
    assert_int_equal(kept_by("a")->gone, 0);
}

/* ---- handing over --------------------------------------------------------------------------------------------------- */

static void test_take_over(void **state)
{
    put("GET /take HTTP/1.1\r\n" H "Connection: Upgrade\r\nUpgrade: rig\r\n\r\nnot HTTP");
    assert_int_equal(response(), 101);
    assert_true(has_field("Upgrade: rig"));
    assert_true(has_field("Connection: Upgrade"));
    assert_null(strstr(head, "Content-Length"));
    turns(3);
    assert_int_equal(taken.input_len, 8);
    put(GET("/hello"));
    expect_silence();
    assert_int_equal(taken.input_len, 8 + sizeof(GET("/hello")) - 1);
    assert_true(net_conn_write(taken.conn, "own bytes", 9));
    turns(3);
    assert_string_equal(got, "own bytes");
    struct http_stats stats;
    http_get_stats(http, &stats);
    assert_int_equal(stats.taken_over, 1);
    close(fd);
    fd = -1;
    while (!taken.closed)
        turn(false);
}

static void test_take_over_waits_for_its_turn(void **state)
{
    put(GET("/keep/a") "GET /take HTTP/1.1\r\n" H "Accept: text/event-stream\r\n\r\n");
    expect_silence();
    assert_null(taken.conn);
    kept_answer("a", "A");
    expect(200, "A");
    assert_int_equal(response(), 200);
    assert_true(has_field("Connection: close"));
    assert_true(has_field("Content-Type: text/event-stream"));
    assert_null(strstr(head, "Content-Length"));
    assert_non_null(taken.conn);
}

static void test_take_over_of_what_had_not_said_so(void **state)
{
    put(GET("/keep/a") GET("/take"));
    turns(3);
    assert_int_equal(handled, 2);
    assert_null(taken.conn);
    kept_answer("a", "A");
    expect(200, "A");
    assert_int_equal(response(), 400);
    shutdown(fd, SHUT_WR);
    expect_end();
    assert_int_equal(taken.closed, 0);
}

static void test_head_takes_nothing_over(void **state)
{
    request_head("HEAD /take HTTP/1.1\r\n" H "Accept: text/event-stream\r\n\r\n");
    assert_int_equal(response(), 200);
    assert_null(taken.conn);
    shutdown(fd, SHUT_WR);
    expect_end();
    assert_int_equal(taken.closed, 0);
}

/* ---- deadlines ------------------------------------------------------------------------------------------------------ */

static void test_a_head_that_does_not_come(void **state)
{
    options.head_ms = 60;
    again();
    expect_end(); /* not a byte: no answer either */
    dial();
    put("GET /hello HTTP/1.1\r\nHost:");
    expect_refusal(408, "request_timeout");
    assert_true(has_field("Connection: close"));
    shutdown(fd, SHUT_WR);
    expect_end();
}

/* A byte now and then does not help. */
static void test_slowloris(void **state)
{
    static const char drip[] = "GET /hello HTTP/1.1\r\nHost: x\r\nX: ";
    options.head_ms = 80;
    again();
    uint64_t last_ms = 0;
    for (unsigned i = 0; got_len == 0;) {
        char byte = i < sizeof(drip) - 1 ? drip[i] : 'x';
        if (net_now(net).mono.ms != last_ms) { /* a byte a millisecond: the head never becomes too large */
            last_ms = net_now(net).mono.ms;
            send(fd, &byte, 1, MSG_NOSIGNAL);
            i++;
        }
        turn(true);
    }
    expect_refusal(408, "request_timeout");
    assert_int_equal(handled, 0);
}

static void test_the_second_head_has_its_time(void **state)
{
    options.head_ms = 100;
    options.idle_ms = 60000;
    again();
    put(GET("/hello"));
    expect(200, "hello");
    monotime from = net_now(net).mono;
    while (net_now(net).mono.ms - from.ms < 150)
        turn(true);
    assert_int_equal(got_len, 0); /* idle, and may be */
    put("GET");
    expect_refusal(408, "request_timeout");
}

static void test_idle_connections_close_silently(void **state)
{
    options.idle_ms = 60;
    again();
    put(GET("/hello"));
    expect(200, "hello");
    expect_end();
}

static void test_waiting_is_not_idle(void **state)
{
    options.idle_ms = options.head_ms = 30;
    again();
    put(GET("/keep/a"));
    turns(3);
    monotime from = net_now(net).mono;
    while (net_now(net).mono.ms - from.ms < 150)
        turn(true);
    kept_answer("a", "A");
    expect(200, "A");
}

static void test_bodies_that_come_too_slowly(void **state)
{
    options.head_ms = 50;
    again();
    put("POST /echo HTTP/1.1\r\n" H "Content-Length: 5000\r\n\r\nhello");
    expect_refusal(408, "request_timeout");
    assert_non_null(strstr(body, "too slowly"));
    dial();
    put("POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n5000\r\nhello");
    expect_refusal(408, "request_timeout");
    dial();
    options.body_bytes_per_second = 50; /* taken at http_new: see again() */
    again();
    put("POST /echo HTTP/1.1\r\n" H "Content-Length: 400\r\n\r\n");
    monotime from = net_now(net).mono, last = from;
    for (unsigned sent = 0; sent < 400;) { /* about 200 a second: longer than the grace and a look */
        turn(true);
        uint64_t due = (net_now(net).mono.ms - from.ms) / 5;
        for (; sent < due && sent < 400; sent++)
            put("x");
        last = net_now(net).mono;
    }
    assert_int_equal(response(), 200);
    assert_true(last.ms - from.ms > 1200);
}

static void test_readers_that_stop(void **state)
{
    options.stall_ms = 80;
    again();
    big = 1000000;
    put(GET("/big") GET("/keep/a"));
    while (http_connections(http) > 0)
        turn_unread();
    assert_int_equal(handled, 1); /* nor is it read */
    dial();
    big = 3000000; /* more than a connection may ever owe */
    put(GET("/big"));
    while (http_connections(http) > 0)
        turn_unread();
}

static void test_taken_over_readers_that_stop(void **state)
{
    static char bytes[500000];
    options.stall_ms = 80;
    again();
    put("GET /take HTTP/1.1\r\n" H "Upgrade: rig\r\n\r\n");
    assert_int_equal(response(), 101);
    assert_true(net_conn_write(taken.conn, bytes, sizeof(bytes)));
    while (!taken.closed)
        turn_unread();
    assert_int_equal(taken.stalled, 1);
}

/* ---- the end -------------------------------------------------------------------------------------------------------- */

static void test_goaway(void **state)
{
    int idle = fd, taken_fd, half;
    put(GET("/hello"));
    expect(200, "hello");
    fd = -1;
    dial();
    taken_fd = fd;
    put("GET /take HTTP/1.1\r\n" H "Upgrade: rig\r\n\r\n");
    assert_int_equal(response(), 101);
    fd = -1;
    dial();
    half = fd;
    put("GET /hello HT");
    turns(3);
    fd = -1;
    dial();
    put(GET("/keep/a") GET("/keep/b"));
    turns(3);
    assert_false(http_is_idle(http));
    http_goaway(http, "until tomorrow");
    put(GET("/hello")); /* is not read any more */
    kept_answer("a", "A");
    expect(200, "A");
    assert_null(strstr(head, "Connection: close"));
    kept_answer("b", "B");
    expect(200, "B");
    assert_true(has_field("Connection: close"));
    shutdown(fd, SHUT_WR);
    expect_end_of_socket();
    fd = idle;
    expect_end_of_socket();
    fd = taken_fd;
    turns(3);
    assert_string_equal(got, "until tomorrow");
    got_len = 0;
    shutdown(fd, SHUT_WR);
    expect_end_of_socket();
    assert_true(http_is_idle(http));
    fd = half; /* what had begun is answered */
    put("TP/1.1\r\n" H "\r\n");
    expect(200, "hello");
    assert_true(has_field("Connection: close"));
    http_finish(http);
    shutdown(fd, SHUT_WR);
    expect_end();
}

/* Who waits is asked to answer; who does not is refused in the end. */
static void test_waiting_exchanges_at_the_end(void **state)
{
    put(GET("/keep/patient1") GET("/keep/a") GET("/keep/patient2") GET("/keep/b"));
    turns(3);
    struct http_exchange *x = kept_by("b")->x;
    http_goaway(http, "soon");
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(kept[i].goaway, 1);
    expect(200, "nothing came");
    http_chunked_begin(x, &piece_head);
    http_chunked_write(x, "some", 4);
    http_finish(http);
    assert_int_equal(kept_by("a")->gone + kept_by("b")->gone, 2);
    assert_int_equal(response(), 503);
    assert_non_null(strstr(body, "SHUTTING_DOWN"));
    expect(200, "nothing came");
    assert_int_equal(response(), 200);
    turns(3);
    assert_string_equal(got, "4\r\nsome\r\n"); /* broken off */
    got_len = 0;
    shutdown(fd, SHUT_WR);
    expect_end();
}

static void test_refused_connections_are_told_why(void **state)
{
    uint8_t text[512];
    size_t n = http_handler.refusal(http, text, sizeof(text));
    assert_true(n > 0);
    assert_non_null(memmem(text, n, "503 Service Unavailable", 23));
    assert_non_null(memmem(text, n, "\r\nRetry-After: 1\r\n", 18));
    assert_int_equal(http_handler.refusal(http, text, 20), 0);
    options.max_connections = 1;
    again();
    assert_false(http_handler.has_room(http));
}

int main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, start, stop)
    const struct CMUnitTest tests[] = {
        TEST(test_answers),
        TEST(test_order),
        TEST(test_kept_exchanges_are_told_of_the_end),
        TEST(test_a_half_closed_connection_is_gone),
        TEST(test_sent),
        TEST(test_sent_means_all),
        TEST(test_a_little_unsent_is_not_sent),
        TEST(test_sent_before_the_end),
        TEST(test_requests_wait_while_too_many_are_under_way),
        TEST(test_early_answers_are_bounded),
        TEST(test_a_client_that_does_not_read),
        TEST(test_a_client_that_goes_while_it_is_not_read),
        TEST(test_heads_are_bounded),
        TEST(test_bodies_are_bounded),
        TEST(test_chunked_bodies_share_a_limit),
        TEST(test_expect_continue),
        TEST(test_a_response_in_pieces),
        TEST(test_pieces_for_http_1_0),
        TEST(test_pieces_wait_for_a_slow_client),
        TEST(test_pieces_behind_another),
        TEST(test_an_aborted_response),
        TEST(test_take_over),
        TEST(test_take_over_waits_for_its_turn),
        TEST(test_take_over_of_what_had_not_said_so),
        TEST(test_head_takes_nothing_over),
        TEST(test_a_head_that_does_not_come),
        TEST(test_slowloris),
        TEST(test_the_second_head_has_its_time),
        TEST(test_idle_connections_close_silently),
        TEST(test_waiting_is_not_idle),
        TEST(test_bodies_that_come_too_slowly),
        TEST(test_readers_that_stop),
        TEST(test_taken_over_readers_that_stop),
        TEST(test_goaway),
        TEST(test_waiting_exchanges_at_the_end),
        TEST(test_refused_connections_are_told_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
