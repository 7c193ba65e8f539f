/* Each allocation fails once: somebody may be refused, nothing is lost, and the front goes on. */
#include <sys/socket.h>
#include <unistd.h>

#include "test/rig.h"
#include "test_alloc.h"

static void fail_nth(uint64_t n)
{
    test_alloc_calls = 0;
    test_alloc_fail_at = n;
}

/* From now on none fails. Did one? */
static bool one_failed(void)
{
    bool failed = test_alloc_calls >= test_alloc_fail_at;
    test_alloc_fail_at = 0;
    return failed;
}

/* ---- what is done meanwhile ----------------------------------------------------------------------------------------- */

#define H "Host: 127.0.0.1\r\n"

static void say(const char *text)
{
    send(fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT); /* the connection may be over */
    for (int i = 0; i < 4; i++)
        net_turn(net, false);
}

static void answer_kept(const char *name)
{
    for (unsigned i = 0; i < kept_count; i++)
        if (kept[i].x && strcmp(kept[i].name, name) == 0)
            kept_answer(name, "kept");
}

static void exercise(void)
{
    static const struct http_response piece_head = {.status = 200};
    say("GET /hello HTTP/1.1\r\n" H "\r\n");
    say("POST /echo HTTP/1.1\r\n" H "Content-Length: 10\r\n\r\nhello");
    say("there");
    say("POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    say("0\r\n\r\n");
    say("GET /keep/a HTTP/1.1\r\n" H "Origin: https://good.example\r\n\r\nGET /keep/b HTTP/1.1\r\n" H "\r\n");
    say("GET /keep/c HTTP/1.1\r\n" H "\r\n");
    answer_kept("b");
    for (unsigned i = 0; i < kept_count; i++)
        if (kept[i].x && strcmp(kept[i].name, "c") == 0) {
            struct http_exchange *x = kept[i].x;
            kept[i].x = NULL;
            http_chunked_begin(x, &piece_head);
            http_chunked_write(x, "piece", 5);
            http_chunked_end(x);
        }
    answer_kept("a");
    say("GET /nowhere HTTP/1.1\r\n" H "\r\n");
    say("GET /take HTTP/1.1\r\n" H "Upgrade: rig\r\n\r\nbytes");
    close(fd);
    fd = -1;
    for (int i = 0; i < 10; i++)
        net_turn(net, false);
}

static bool try_to_dial(void)
{
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    fd = fds[1];
    if (net_adopt(net, fds[0], &http_handler, http))
        return true;
    close(fd);
    fd = -1;
    return false;
}

static void each_allocation_fails_once(void **state)
{
    uint64_t n = 0;
    unsigned worked = 0;
    bool failed;
    do {
        again();
        want_sent = true;
        close(fd);
        fd = -1;
        while (http_connections(http) > 0)
            net_turn(net, false);
        fail_nth(n + 1);
        if (try_to_dial())
            exercise();
        failed = one_failed();
        for (unsigned i = 0; i < kept_count; i++) { /* each was told of its end, once */
            unsigned ends = kept[i].gone + kept[i].sent_all + kept[i].sent_not;
            if (ends != 1 || kept[i].x)
                fail_msg("allocation %llu: %s was told of %u ends", (unsigned long long)n, kept[i].name, ends);
        }
        dial();
        put("GET /hello HTTP/1.1\r\n" H "\r\n");
        expect(200, "hello");
        worked += handled > 5;
        n++;
    } while (failed);
    assert_true(n > 10);
    assert_true(worked > 0);
}

static void the_front_itself(void **state)
{
    static const struct http_route more[] = {{HTTP_GET, "/a/{b}/c", NULL, 0}};
    stop(state);
    struct net_options net_options = {.read_buffer_bytes = 16384, .max_connections = 1};
    net = net_new(&net_options);
    for (uint64_t n = 1;; n++) {
        fail_nth(n);
        http = http_new(&options, net);
        bool good = http && http_add_routes(http, more, 1, NULL);
        bool failed = one_failed();
        if (good && !failed)
            break;
        assert_true(failed);
        http_free(http);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_allocation_fails_once, start, stop),
        cmocka_unit_test_setup_teardown(the_front_itself, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
