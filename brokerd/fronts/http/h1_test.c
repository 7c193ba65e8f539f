/*
 * Framing: what is a request, what is none, and where the next one begins. Each case comes whole, byte by byte, and in two
 * pieces cut at each position; whatever the pieces, the answers are the same.
 */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "test/rig.h"

#define HOST  "Host: broker.example\r\n"
#define G     "GET /hello HTTP/1.1\r\n" HOST "\r\n"
#define POST  "POST /echo HTTP/1.1\r\n" HOST
#define INNER "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n" /* what a smuggler would like to get past somebody */

/* The statuses that are expected, in their order; '!': then the connection closes; '=' : nothing more, it stays open. */
struct framing {
    const char *name, *answers, *bytes;
    size_t len; /* 0: strlen(bytes) */
};
#define RAW(bytes) bytes, sizeof(bytes) - 1

static const struct framing good[] = {
    {"a plain request", "200=", G, 0},
    {"two of them", "200 200=", G G, 0},
    {"a body", "200=", POST "Content-Length: 5\r\n\r\nhello", 0},
    {"a body and the next request", "200 200=", POST "Content-Length: 5\r\n\r\nhello" G, 0},
    {"a body that looks like a request", "200=", POST "Content-Length: 32\r\n\r\n" INNER, 0},
    {"no body", "200=", POST "Content-Length: 0\r\n\r\n", 0},
    {"neither length nor encoding", "200 200=", POST "\r\n" G, 0},
    {"zeros before a length", "200 200=", POST "Content-Length: 0005\r\n\r\nhello" G, 0},
    {"chunks", "200 200=", POST "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n there\r\n0\r\n\r\n" G, 0},
    {"chunk sizes in both cases",
     "200=", POST "Transfer-Encoding: chunked\r\n\r\nA\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", 0},
    {"Chunked, in any case", "200 200=", POST "transfer-ENCODING: ChunKed\r\n\r\n1\r\nx\r\n0\r\n\r\n" G, 0},
    {"a chunk with an extension",
     "200 200=", POST "Transfer-Encoding: chunked\r\n\r\n1;a=b;c=\"d\"\r\nx\r\n0;last\r\n\r\n" G, 0},
    {"trailers", "200 200=", POST "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nA: b\r\nC:\r\n\r\n" G, 0},
    {"a trailer that would like to be a length",
     "200 200=", POST "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nContent-Length: 32\r\n\r\n" INNER, 0},
    {"chunks whose data look like the end",
     "200=", POST "Transfer-Encoding: chunked\r\n\r\n5\r\n0\r\n\r\n\r\n0\r\n\r\n", 0},
    {"an empty line before", "200=", "\r\n" G, 0},
    {"an empty line between", "200 200=", G "\r\n" G, 0},
    {"no blank behind the colon", "200=", "GET /hello HTTP/1.1\r\nHost:x\r\n\r\n", 0},
    {"blanks around a value", "200=", "GET /hello HTTP/1.1\r\nHost: \t x \t \r\n\r\n", 0},
    {"an empty value", "200=", "GET /hello HTTP/1.1\r\n" HOST "X:\r\n\r\n", 0},
    {"bytes over 0x7f in a value", "200=", "GET /hello HTTP/1.1\r\n" HOST "X: \xc3\xa4\r\n\r\n", 0},
    {"an address and a port", "200=", "GET /hello HTTP/1.1\r\nHost: 127.0.0.1:7480\r\n\r\n", 0},
    {"an IPv6 address", "200=", "GET /hello HTTP/1.1\r\nHost: [::1]:7480\r\n\r\n", 0},
    {"the target with its host", "200=", "GET http://broker.example/hello HTTP/1.1\r\n" HOST "\r\n", 0},
    {"the same, in another case", "200=", "GET HTTP://BROKER.example/hello HTTP/1.1\r\n" HOST "\r\n", 0},
    {"a host without a path", "200=", "GET http://broker.example HTTP/1.1\r\n" HOST "\r\n", 0},
    {"a host and a query", "200=", "GET http://broker.example?a=b HTTP/1.1\r\n" HOST "\r\n", 0},
    {"options of everything", "204=", "OPTIONS * HTTP/1.1\r\n" HOST "\r\n", 0},
    {"options of a path", "204=", "OPTIONS /hello HTTP/1.1\r\n" HOST "\r\n", 0},
    {"a path that is not there", "404 200=", "GET /nowhere HTTP/1.1\r\n" HOST "\r\n" G, 0},
    {"a method that the path does not have", "405 200=", "DELETE /hello HTTP/1.1\r\n" HOST "\r\n" G, 0},
    {"a body that nobody expects", "200 200=", "GET /hello HTTP/1.1\r\n" HOST "Content-Length: 32\r\n\r\n" INNER G, 0},
    {"HTTP/1.0", "200!", "GET /hello HTTP/1.0\r\n\r\n", 0},
    {"HTTP/1.0, to be kept", "200 200=", "GET /hello HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n" G, 0},
    {"to be closed, with a request behind", "200!", "GET /hello HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n" G, 0},
    {"to be closed, among other words", "200!", "GET /hello HTTP/1.1\r\n" HOST "Connection: x, Close ,y\r\n\r\n" G, 0},
    {"to be closed, said in a second field", "200!",
     "GET /hello HTTP/1.1\r\n" HOST "Connection: keep-alive\r\nConnection: close\r\n\r\n" G, 0},
    {"a field named Content_Length", "200 200=", POST "Content_Length: 33\r\n\r\n" INNER, 0},
    {"TE is another field", "200=", "GET /hello HTTP/1.1\r\n" HOST "TE: trailers\r\n\r\n", 0},
    {"expectations of HTTP/1.0", "200!", "POST /echo HTTP/1.0\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\nx",
     0},
    {"an escaped slash", "200=", "GET /q/a%2Fb/m/1 HTTP/1.1\r\n" HOST "\r\n", 0},
    {"dots in a segment", "200=", "GET /q/..a/m/... HTTP/1.1\r\n" HOST "\r\n", 0},
    {"half a head", "=", "GET /hello HTTP/1.1\r\n" HOST, 0},
    {"half a body", "=", POST "Content-Length: 6\r\n\r\nhello", 0},
    {"half a chunk", "=", POST "Transfer-Encoding: chunked\r\n\r\n6\r\nhello", 0},
    {"chunks without their end", "=", POST "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", 0},
};

static const struct framing bad_lengths[] = {
    {"both, length first", "400!", POST "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" INNER, 0},
    {"both, encoding first", "400!", POST "Transfer-Encoding: chunked\r\nContent-Length: 37\r\n\r\n0\r\n\r\n" INNER, 0},
    {"two lengths", "400!", POST "Content-Length: 32\r\nContent-Length: 0\r\n\r\n" INNER, 0},
    {"twice the same length", "400!", POST "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 0},
    {"a list of lengths", "400!", POST "Content-Length: 5, 5\r\n\r\nhello", 0},
    {"twice chunked", "400!", POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 0},
    {"chunked, chunked", "400!", POST "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 0},
    {"chunked, identity", "400!", POST "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" INNER, 0},
    {"gzip, chunked", "400!", POST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 0},
    {"xchunked", "400!", POST "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 0},
    {"chunked with a vertical tab", "400!",
     POST "Transfer-Encoding: \x0b"
          "chunked\r\n\r\n0\r\n\r\n",
     0},
    {"chunked in quotes", "400!", POST "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", 0},
    {"chunked;q=1", "400!", POST "Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n", 0},
    {"identity", "501!", POST "Transfer-Encoding: identity\r\n\r\n", 0},
    {"gzip", "501!", POST "Transfer-Encoding: gzip\r\n\r\n", 0},
    {"an empty encoding", "400!", POST "Transfer-Encoding:\r\n\r\n", 0},
    {"chunked in HTTP/1.0", "400!", "POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 0},
    {"a blank before the colon", "400!", POST "Content-Length : 33\r\n\r\n" INNER, 0},
    {"a tab before the colon", "400!", POST "Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n", 0},
    {"a length with a sign", "400!", POST "Content-Length: +5\r\n\r\nhello", 0},
    {"a negative length", "400!", POST "Content-Length: -5\r\n\r\nhello", 0},
    {"a hexadecimal length", "400!", POST "Content-Length: 0x5\r\n\r\nhello", 0},
    {"a length with a fraction", "400!", POST "Content-Length: 5.0\r\n\r\nhello", 0},
    {"a length with a blank in it", "400!", POST "Content-Length: 5 5\r\n\r\nhello", 0},
    {"an empty length", "400!", POST "Content-Length:\r\n\r\n", 0},
    {"a length of 2^64 and 5", "400!", POST "Content-Length: 18446744073709551621\r\n\r\nhello", 0},
    {"a length that is too large", "413!", POST "Content-Length: 200001\r\n\r\nhello", 0},
    {"a length of 18 digits", "413!", POST "Content-Length: 999999999999999999\r\n\r\nhello", 0},
    {"more than the route takes", "413!", "PUT /small HTTP/1.1\r\n" HOST "Content-Length: 11\r\n\r\nhello there", 0},
    {"a large body that nobody expects", "413!", "GET /hello HTTP/1.1\r\n" HOST "Content-Length: 4097\r\n\r\n", 0},
};

static const struct framing bad_lines[] = {
    {"a bare LF behind the request line", "400!", "GET /hello HTTP/1.1\n" HOST "\r\n", 0},
    {"bare LFs all over", "400!", "GET /hello HTTP/1.1\nHost: x\n\n", 0},
    {"a bare LF behind a field", "400!", "GET /hello HTTP/1.1\r\nHost: x\nX: y\r\n\r\n", 0},
    {"a bare LF for the empty line", "400!", POST "Content-Length: 32\r\n\n" INNER, 0},
    {"LF CR", "400!", "GET /hello HTTP/1.1\n\rHost: x\r\n\r\n", 0},
    {"a bare CR in a value", "400!", "GET /hello HTTP/1.1\r\n" HOST "X: a\rTransfer-Encoding: chunked\r\n\r\n", 0},
    {"a bare CR before CRLF", "400!", "GET /hello HTTP/1.1\r\n" HOST "X: a\r\r\n\r\n", 0},
    {"a bare CR in the request line", "400!", "GET /hello\r HTTP/1.1\r\n" HOST "\r\n", 0},
    {"CR alone for lines", "=", "GET /hello HTTP/1.1\rHost: x\r\r", 0},
    {"a folded field", "400!", "GET /hello HTTP/1.1\r\n" HOST "X: a\r\n b\r\n\r\n", 0},
    {"a folded field, by a tab", "400!", POST "Transfer-Encoding:\r\n\tchunked\r\n\r\n0\r\n\r\n", 0},
    {"a fold before the first field", "400!", "GET /hello HTTP/1.1\r\n Host: x\r\n\r\n", 0},
    {"a blank in a name", "400!", "GET /hello HTTP/1.1\r\n" HOST "X Y: z\r\n\r\n", 0},
    {"no name", "400!", "GET /hello HTTP/1.1\r\n" HOST ": z\r\n\r\n", 0},
    {"no colon", "400!", "GET /hello HTTP/1.1\r\n" HOST "Nonsense\r\n\r\n", 0},
    {"a name with brackets", "400!", "GET /hello HTTP/1.1\r\n" HOST "(X): z\r\n\r\n", 0},
    {"a name over 0x7f", "400!", "GET /hello HTTP/1.1\r\n" HOST "\xc3\xa4: z\r\n\r\n", 0},
    {"NUL in a value", "400!", RAW("GET /hello HTTP/1.1\r\n" HOST "X: a\0b\r\n\r\n")},
    {"NUL in a name", "400!", RAW("GET /hello HTTP/1.1\r\n" HOST "X\0: a\r\n\r\n")},
    {"NUL in the target", "400!", RAW("GET /hello\0 HTTP/1.1\r\n" HOST "\r\n")},
    {"DEL in a value", "400!", "GET /hello HTTP/1.1\r\n" HOST "X: a\x7f\r\n\r\n", 0},
    {"an escape in a value", "400!", "GET /hello HTTP/1.1\r\n" HOST "X: a\x1b[0m\r\n\r\n", 0},
    {"two empty lines before", "400!", "\r\n\r\n" G, 0},
    {"a blank before the method", "400!", " GET /hello HTTP/1.1\r\n" HOST "\r\n", 0},
    {"two blanks behind the method", "400!", "GET  /hello HTTP/1.1\r\n" HOST "\r\n", 0},
    {"two blanks before the version", "400!", "GET /hello  HTTP/1.1\r\n" HOST "\r\n", 0},
    {"a blank behind the version", "400!", "GET /hello HTTP/1.1 \r\n" HOST "\r\n", 0},
    {"a tab for a blank", "400!", "GET\t/hello HTTP/1.1\r\n" HOST "\r\n", 0},
    {"a blank in the target", "400!", "GET /hello world HTTP/1.1\r\n" HOST "\r\n", 0},
    {"no version", "400!", "GET /hello\r\n" HOST "\r\n", 0},
    {"nothing but a method", "400!", "GET\r\n" HOST "\r\n", 0},
    {"HTTP/2.0", "505!", "GET /hello HTTP/2.0\r\n" HOST "\r\n", 0},
    {"the beginning of HTTP/2", "505!", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0},
    {"HTTP/1.2", "505!", "GET /hello HTTP/1.2\r\n" HOST "\r\n", 0},
    {"HTTP/0.9", "505!", "GET /hello HTTP/0.9\r\n" HOST "\r\n", 0},
    {"HTTP/1.10", "400!", "GET /hello HTTP/1.10\r\n" HOST "\r\n", 0},
    {"HTTP/01.1", "400!", "GET /hello HTTP/01.1\r\n" HOST "\r\n", 0},
    {"http/1.1", "400!", "GET /hello http/1.1\r\n" HOST "\r\n", 0},
    {"TLS", "400!", RAW("\x16\x03\x01\x02\x00\x01\x00")},
    {"a method that nobody knows", "501!", "BREW /hello HTTP/1.1\r\n" HOST "\r\n", 0},
    {"CONNECT", "501!", "CONNECT broker.example:80 HTTP/1.1\r\n" HOST "\r\n", 0},
    {"TRACE", "501!", "TRACE /hello HTTP/1.1\r\n" HOST "\r\n", 0},
    {"get", "501!", "get /hello HTTP/1.1\r\n" HOST "\r\n", 0},
    {"a failed expectation", "417!", "GET /hello HTTP/1.1\r\n" HOST "Expect: wonders\r\n\r\n", 0},
};

static const struct framing bad_targets[] = {
    {"no host", "400!", "GET /hello HTTP/1.1\r\n\r\n", 0},
    {"two hosts", "400!", "GET /hello HTTP/1.1\r\n" HOST "Host: other\r\n\r\n", 0},
    {"twice the same host", "400!", "GET /hello HTTP/1.1\r\n" HOST HOST "\r\n", 0},
    {"an empty host", "400!", "GET /hello HTTP/1.1\r\nHost:\r\n\r\n", 0},
    {"a list of hosts", "400!", "GET /hello HTTP/1.1\r\nHost: a, b\r\n\r\n", 0},
    {"a host with a path", "400!", "GET /hello HTTP/1.1\r\nHost: a/b\r\n\r\n", 0},
    {"a host with a user", "400!", "GET /hello HTTP/1.1\r\nHost: u@a\r\n\r\n", 0},
    {"a host with a bad port", "400!", "GET /hello HTTP/1.1\r\nHost: a:8x\r\n\r\n", 0},
    {"a host with half a bracket", "400!", "GET /hello HTTP/1.1\r\nHost: [::1\r\n\r\n", 0},
    {"another host in the target", "400!", "GET http://other/hello HTTP/1.1\r\n" HOST "\r\n", 0},
    {"another port in the target", "400!", "GET http://broker.example:1/hello HTTP/1.1\r\n" HOST "\r\n", 0},
    {"a user in the target", "400!", "GET http://u@broker.example/hello HTTP/1.1\r\n" HOST "\r\n", 0},
    {"another scheme", "400!", "GET ftp://broker.example/hello HTTP/1.1\r\n" HOST "\r\n", 0},
    {"no slash", "400!", "GET hello HTTP/1.1\r\n" HOST "\r\n", 0},
    {"a star for GET", "400!", "GET * HTTP/1.1\r\n" HOST "\r\n", 0},
    {"a fragment", "400!", "GET /hello#x HTTP/1.1\r\n" HOST "\r\n", 0},
    {"bytes over 0x7f", "400!", "GET /h\xc3\xa4 HTTP/1.1\r\n" HOST "\r\n", 0},
    {"an escaped NUL", "400!", "GET /q/a%00b/m/1 HTTP/1.1\r\n" HOST "\r\n", 0},
    {"a bad escape", "400!", "GET /q/a%zz/m/1 HTTP/1.1\r\n" HOST "\r\n", 0},
    {"half an escape", "400!", "GET /hello%2 HTTP/1.1\r\n" HOST "\r\n", 0},
    {"..", "400!", "GET /q/../hello HTTP/1.1\r\n" HOST "\r\n", 0},
    {".", "400!", "GET /./hello HTTP/1.1\r\n" HOST "\r\n", 0},
    {"..  escaped", "400!", "GET /ui/%2e%2E/hello HTTP/1.1\r\n" HOST "\r\n", 0},
    {".. at the end", "400!", "GET /ui/.. HTTP/1.1\r\n" HOST "\r\n", 0},
};

static const struct framing bad_chunks[] = {
#define TE POST "Transfer-Encoding: chunked\r\n\r\n"
    {"no size", "400!", TE "\r\nhello\r\n0\r\n\r\n", 0},
    {"no hexadecimal size", "400!", TE "g\r\nhello\r\n0\r\n\r\n", 0},
    {"a size with 0x", "400!", TE "0x5\r\nhello\r\n0\r\n\r\n", 0},
    {"a size with a sign", "400!", TE "+5\r\nhello\r\n0\r\n\r\n", 0},
    {"a negative size", "400!", TE "-5\r\nhello\r\n0\r\n\r\n", 0},
    {"a blank before the size", "400!", TE " 5\r\nhello\r\n0\r\n\r\n", 0},
    {"a blank behind the size", "400!", TE "5 \r\nhello\r\n0\r\n\r\n", 0},
    {"a size of 2^64 and 5", "400!", TE "10000000000000005\r\nhello\r\n0\r\n\r\n", 0},
    {"zeros without an end", "400!", TE "00000000000000000000000000000005\r\nhello\r\n0\r\n\r\n", 0},
    {"a size of 2^60", "413!", TE "100000000000000\r\nhello\r\n0\r\n\r\n", 0},
    {"chunks that are too large together", "413!", TE "5\r\nhello\r\n30d3c\r\n", 0},
    {"a bare LF behind the size", "400!", TE "5\nhello\r\n0\r\n\r\n", 0},
    {"a bare CR behind the size", "400!", TE "5\rhello\r\n0\r\n\r\n", 0},
    {"a chunk longer than its size", "400!", TE "5\r\nhello!\r\n0\r\n\r\n", 0},
    {"a chunk shorter than its size", "400!", TE "7\r\nhello\r\n0\r\n\r\n", 0},
    {"a bare LF behind the data", "400!", TE "5\r\nhello\n0\r\n\r\n", 0},
    {"a bare LF in an extension", "400!", TE "5;a\nb\r\nhello\r\n0\r\n\r\n", 0},
    {"NUL in an extension", "400!", RAW(TE "5;\0\r\nhello\r\n0\r\n\r\n")},
    {"a bare LF for the end", "400!", TE "5\r\nhello\r\n0\r\n\n" INNER, 0},
    {"a bare CR for the end", "400!", TE "5\r\nhello\r\n0\r\n\rX" INNER, 0},
    {"a folded trailer", "400!", TE "0\r\nA: b\r\n c\r\n\r\n", 0},
    {"a trailer without a colon", "400!", TE "0\r\nGET /hello HTTP/1.1\r\n\r\n", 0},
    {"a bare LF behind a trailer", "400!", TE "0\r\nA: b\n\r\n", 0},
};

/* ---- feeding -------------------------------------------------------------------------------------------------------- */

/* false: the broker has closed already, as it may in the midst of nonsense. */
static bool feed(const char *bytes, size_t n)
{
    while (n > 0) {
        ssize_t part = send(fd, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (part < 0 && errno == EAGAIN) {
            turn(false);
            continue;
        }
        if (part < 0)
            return false;
        bytes += part;
        n -= (size_t)part;
    }
    return true;
}

static const char *now_testing;

static void answers(const struct framing *f, const char *how)
{
    unsigned before = handled;
    const char *p = f->answers;
    now_testing = f->name;
    for (; *p >= '0' && *p <= '9'; p += p[3] == ' ' ? 4 : 3) {
        int status = response(), wanted = (int)strtol(p, NULL, 10);
        if (status != wanted)
            fail_msg("%s (%s): %d instead of %d: %s", f->name, how, status, wanted, body);
        if (status >= 400 && (!strstr(body, "\"code\":\"") || !has_field("Content-Type: application/problem+json")))
            fail_msg("%s (%s): no problem, but: %s%s", f->name, how, head, body);
    }
    (void)before;
    if (*p == '=') {
        turns(2);
        if (got_len > 0)
            fail_msg("%s (%s): more came: %s", f->name, how, got);
        assert_true(http_connections(http) > 0);
    } else {
        assert_true(has_field("Connection: close"));
        if (got_len > 0)
            fail_msg("%s (%s): more came: %s", f->name, how, got);
        shutdown(fd, SHUT_WR); /* the end of lingering */
        expect_end();
    }
}

static void next_dial(void)
{
    if (fd >= 0)
        close(fd);
    fd = -1;
    while (http_connections(http) > 0)
        turn(false);
    dial();
}

static void check(const struct framing *f)
{
    size_t len = f->len ? f->len : strlen(f->bytes);
    feed(f->bytes, len);
    answers(f, "whole");
    next_dial();
    for (size_t i = 0; i < len && feed(f->bytes + i, 1); i++)
        turn(false);
    answers(f, "byte by byte");
    for (size_t cut = 1; cut < len; cut++) {
        char how[32];
        snprintf(how, sizeof(how), "cut at %zu", cut);
        next_dial();
        feed(f->bytes, cut);
        turns(2);
        feed(f->bytes + cut, len - cut);
        answers(f, how);
    }
    next_dial();
}

#define CHECK_ALL(table)                                                                                               \
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)                                                      \
    check(&table[i])

static void test_good_requests_are_answered(void **state)
{
    CHECK_ALL(good);
}

static void test_doubtful_lengths_are_refused(void **state)
{
    CHECK_ALL(bad_lengths);
}

static void test_doubtful_lines_are_refused(void **state)
{
    CHECK_ALL(bad_lines);
}

static void test_doubtful_targets_are_refused(void **state)
{
    CHECK_ALL(bad_targets);
}

static void test_doubtful_chunks_are_refused(void **state)
{
    CHECK_ALL(bad_chunks);
}

int main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, start, stop)
    const struct CMUnitTest tests[] = {
        TEST(test_good_requests_are_answered),  TEST(test_doubtful_lengths_are_refused),
        TEST(test_doubtful_lines_are_refused),  TEST(test_doubtful_targets_are_refused),
        TEST(test_doubtful_chunks_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
