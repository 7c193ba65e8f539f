/* What handlers see of a request; routes; browsers; problems. */
#include "http_internal.h"
#include "test/rig.h"

#define H "Host: 127.0.0.1\r\n"

/* ---- requests by hand ----------------------------------------------------------------------------------------------- */

static struct http_field fields[20];
static char decoded[4096];

static void make(struct request *r, struct head *h, const char *text)
{
    struct problem p;
    if (!head_parse(h, (const uint8_t *)text, strlen(text), fields, 20, &p))
        fail_msg("%s: %s", text, p.text);
    *r = (struct request){.pub = {.method = h->verb,
                                  .path = h->path,
                                  .query = h->query,
                                  .fields = h->fields,
                                  .field_count = h->field_count},
                          .head = h,
                          .decoded = decoded};
}

static void expect_text(struct http_text t, const char *wanted)
{
    if (t.len != strlen(wanted) || memcmp(t.bytes, wanted, t.len) != 0)
        fail_msg("'%.*s' is not '%s'", (int)t.len, t.bytes, wanted);
}

static void test_fields(void **state)
{
    struct request r;
    struct head h;
    make(&r, &h, "POST / HTTP/1.1\r\n" H "Content-TYPE:  Application/JSON ; charset=\"a;b\" \r\nX: 1\r\nx: 2\r\n\r\n");
    expect_text(http_find(&r.pub, "content-type")->value, "Application/JSON ; charset=\"a;b\"");
    expect_text(http_find(&r.pub, "X")->value, "1");
    assert_null(http_find(&r.pub, "y"));
    assert_true(http_type_is(&r.pub, "application/json"));
    assert_false(http_type_is(&r.pub, "application/jso"));
    assert_false(http_type_is(&r.pub, "application/json-seq"));
    make(&r, &h, "GET / HTTP/1.1\r\n" H "\r\n");
    assert_false(http_type_is(&r.pub, ""));
}

static char listed[512];

static bool list(void *arg, struct http_text name, struct http_text value)
{
    size_t n = strlen(listed);
    snprintf(listed + n, sizeof(listed) - n, "[%.*s=%.*s]", (int)name.len, name.bytes, (int)value.len, value.bytes);
    return --*(int *)arg > 0;
}

static void test_queries(void **state)
{
    struct request r;
    struct head h;
    struct http_text v;
    int most = 100;
    make(&r, &h, "GET /x?a=1&b=two+words&c%3d=%41%zz&d&=e&a=2&&f= HTTP/1.1\r\n" H "\r\n");
    assert_true(http_query(&r.pub, "a", &v));
    expect_text(v, "1");
    assert_true(http_query(&r.pub, "b", &v));
    struct http_text c;
    assert_true(http_query(&r.pub, "c=", &c));
    expect_text(c, "A%zz");
    expect_text(v, "two words"); /* still */
    assert_true(http_query(&r.pub, "d", &v));
    expect_text(v, "");
    assert_true(http_query(&r.pub, "f", &v));
    expect_text(v, "");
    assert_false(http_query(&r.pub, "e", &v));
    assert_false(http_query(&r.pub, "c", &v));
    http_each_query(&r.pub, list, &most);
    assert_string_equal(listed, "[a=1][b=two words][c==A%zz][d=][=e][a=2][f=]");
    most = 2;
    listed[0] = '\0';
    http_each_query(&r.pub, list, &most);
    assert_string_equal(listed, "[a=1][b=two words]");
    make(&r, &h, "GET /x? HTTP/1.1\r\n" H "\r\n");
    assert_false(http_query(&r.pub, "", &v));
    char text[] = "%41%4%4g%";
    assert_int_equal(http_percent_decode(text, text, 9), 7);
    assert_memory_equal(text, "A%4%4g%", 7);
}

static void test_accept(void **state)
{
    static const char *const types[] = {"application/json", "application/x-ndjson", "text/plain", NULL};
    static const struct {
        const char *accept;
        int wanted;
    } cases[] = {
        {"", 0},
        {"Accept:\r\n", 0},
        {"Accept: */*\r\n", 0},
        {"Accept: text/plain\r\n", 2},
        {"Accept: TEXT/Plain\r\n", 2},
        {"Accept: text/*\r\n", 2},
        {"Accept: image/png\r\n", -1},
        {"Accept: image/png, */*;q=0.1\r\n", 0},
        {"Accept: application/json;q=0.5, application/x-ndjson\r\n", 1},
        {"Accept: application/json;q=0.5, application/x-ndjson;q=0.51\r\n", 1},
        {"Accept: application/*;q=0.5, application/json;q=0, text/plain;q=0.2\r\n", 1},
        {"Accept: */*, application/json;q=0\r\n", 1},
        {"Accept: text/plain;q=0.0, application/json;q=0.000\r\n", -1},
        {"Accept: application/json;note=\"a,b;q=0\";q=0.3, text/plain;q=0.4\r\n", 2},
        {"Accept: image/png\r\nAccept: application/x-ndjson\r\n", 1},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[512];
        struct request r;
        struct head h;
        snprintf(text, sizeof(text), "GET / HTTP/1.1\r\n" H "%s\r\n", cases[i].accept);
        make(&r, &h, text);
        int got_type = http_accepts(&r.pub, types);
        if (got_type != cases[i].wanted)
            fail_msg("%s gives %d, not %d", cases[i].accept, got_type, cases[i].wanted);
    }
}

/* ---- routes --------------------------------------------------------------------------------------------------------- */

static void nothing(void *arg, struct http_exchange *x, const struct http_request *r) {}

static void test_the_best_pattern_wins(void **state)
{
    static const struct http_route table[] = {
        {HTTP_GET, "/", nothing, 0},        {HTTP_GET, "/a/{x}/{y}", nothing, 0}, {HTTP_GET, "/{z}/b/c", nothing, 0},
        {HTTP_GET, "/a/b/{y}", nothing, 0}, {HTTP_PUT, "/a/{x}", nothing, 0},     {HTTP_GET, "/a/fix", nothing, 0},
        {HTTP_GET, "/ui/*", nothing, 0},    {HTTP_GET, "/ui/index", nothing, 0},  {HTTP_DELETE, "/a/{x}", nothing, 0},
        {HTTP_GET, "/{p}/q/*", nothing, 0},
    };
    static const struct {
        const char *target;
        int route; /* -1: none */
        unsigned methods;
        const char *first;
    } cases[] = {
        {"GET /", 0, 1, ""},
        {"GET /a/b/c", 3, 1, "c"}, /* one, and the earlier literal */
        {"GET /a/x/c", 1, 1, "x"},
        {"GET /o/b/c", 2, 1, "o"},
        {"PUT /a/fix", 4, 1 | 4 | 16, "fix"}, /* the better pattern does not have the method */
        {"GET /a/fix", 5, 1 | 4 | 16, ""},
        {"GET /a/other", -1, 4 | 16, ""},
        {"GET /a/", -1, 0, ""},
        {"GET /a", -1, 0, ""},
        {"GET //", -1, 0, ""},
        {"GET /ui", -1, 0, ""},
        {"GET /ui/", 6, 1, ""},
        {"GET /ui/x/y/z", 6, 1, ""},
        {"GET /ui/index", 7, 1, ""},
        {"GET /ui/index/", 6, 1, ""},
        {"GET /p%20p/q/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17/18", 9, 1, "p p"},
        {"GET /a/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17/18/19", -1, 0, ""},
        {"GET /%61/fi%78", 5, 1 | 4 | 16, ""},
        {"PUT /a/b%2Fc", 4, 4 | 16, "b/c"},
    };
    struct node *root = route_root();
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        assert_true(route_add(root, &table[i], NULL));
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[512];
        struct request r;
        struct head h;
        struct match m;
        snprintf(text, sizeof(text), "%s HTTP/1.1\r\n" H "\r\n", cases[i].target);
        make(&r, &h, text);
        route_find(root, &h, decoded, &m);
        int found = m.route ? (int)(m.route - table) : -1;
        if (found != cases[i].route || m.methods != cases[i].methods)
            fail_msg("%s: %d and %x, not %d and %x", cases[i].target, found, m.methods, cases[i].route,
                     cases[i].methods);
        if (m.route)
            expect_text(m.params[0], cases[i].first);
    }
    route_free(root);
}

static void test_routes_over_the_wire(void **state)
{
    put("GET /q/a%2Fb%20c/m/17?x=%41 HTTP/1.1\r\n" H "\r\n");
    expect(200, "a/b c|17|x=%41");
    put("GET /q/a/m/first HTTP/1.1\r\n" H "\r\n");
    expect(200, "hello");
    put("PUT /q/a/m/17 HTTP/1.1\r\n" H "\r\n");
    assert_int_equal(response(), 405);
    assert_true(has_field("Allow: GET, HEAD, DELETE, OPTIONS"));
    put("OPTIONS /keep/x HTTP/1.1\r\n" H "\r\n");
    expect(204, "");
    assert_true(has_field("Allow: GET, HEAD, POST, OPTIONS"));
    put("GET /none/here HTTP/1.1\r\n" H "\r\n");
    expect(404, "{\"type\":\"/errors/no_such_path\",\"title\":\"Not Found\",\"status\":404,"
                "\"detail\":\"there is nothing at /none/here\",\"code\":\"NO_SUCH_PATH\"}");
    put("GET /ui/a/b HTTP/1.1\r\n" H "\r\n");
    expect(200, "/ui/a/b");
}

static unsigned counted;

static void count(void *arg, const struct http_route *route)
{
    counted++;
}

static void test_each_route(void **state)
{
    static const struct http_route more[] = {{HTTP_GET, "/more", nothing, 0}, {HTTP_PUT, "/more", nothing, 0}};
    http_each_route(http, count, NULL);
    unsigned before = counted;
    assert_true(http_add_routes(http, more, 2, NULL));
    counted = 0;
    http_each_route(http, count, NULL);
    assert_int_equal(counted, before + 2);
}

/* ---- browsers ------------------------------------------------------------------------------------------------------- */

static void test_browsers(void **state)
{
    static const struct {
        int status;
        const char *fields;
    } cases[] = {
        {200, "Host: rebound.example\r\n"}, /* no browser */
        {200, "Host: 127.0.0.1:7480\r\nOrigin: http://127.0.0.1:7480\r\n"},
        {200, "Host: localhost\r\nOrigin: https://LOCALHOST\r\n"}, /* behind a proxy */
        {200, "Host: x.localhost\r\nOrigin: http://x.localhost\r\n"},
        {200, "Host: [::1]:7480\r\nOrigin: http://[::1]:7480\r\n"},
        {200, "Host: Broker.example:80\r\nOrigin: http://broker.example:80\r\n"},
        {403, "Host: broker.example\r\nOrigin: http://broker.example:81\r\n"},
        {403, "Host: 127.0.0.1\r\nOrigin: http://evil.example\r\n"},
        {403, "Host: 127.0.0.1\r\nOrigin: null\r\n"},
        {403, "Host: 127.0.0.1\r\nOrigin: \r\n"},
        {403, "Host: rebound.example\r\nOrigin: http://rebound.example\r\n"},
        {403, "Host: rebound.example\r\nSec-Fetch-Site: same-origin\r\n"},
        {403, "Host: 127.0.0.1.evil.example\r\nSec-Fetch-Site: same-origin\r\n"},
        {200, "Host: 127.0.0.1\r\nOrigin: https://good.example\r\n"},
        {403, "Host: 127.0.0.1\r\nOrigin: https://good.example.evil\r\n"},
        {403, "Host: 127.0.0.1\r\nOrigin: http://good.example\r\n"},
        {200, "Host: 127.0.0.1\r\nSec-Fetch-Site: same-origin\r\n"},
        {200, "Host: 127.0.0.1\r\nSec-Fetch-Site: none\r\n"},
        {403, "Host: 127.0.0.1\r\nSec-Fetch-Site: cross-site\r\n"},
        {403,
         "Host: 127.0.0.1\r\nSec-Fetch-Site: Cross-Site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: iframe\r\n"},
        {200,
         "Host: 127.0.0.1\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[512];
        snprintf(text, sizeof(text), "GET /hello HTTP/1.1\r\n%s\r\n", cases[i].fields);
        put(text);
        int status = response();
        if (status != cases[i].status)
            fail_msg("%s: %d: %s", cases[i].fields, status, body);
        bool named = has_field("Access-Control-Allow-Origin: https://good.example");
        assert_int_equal(named, status == 200 && strstr(cases[i].fields, "good.example") != NULL);
    }
}

static void test_cross_origin_requests(void **state)
{
    put("OPTIONS /echo HTTP/1.1\r\n" H "Origin: https://good.example\r\nAccess-Control-Request-Method: POST\r\n"
        "Access-Control-Request-Headers: broker-key, content-type\r\n\r\n");
    expect(204, "");
    assert_true(has_field("Access-Control-Allow-Origin: https://good.example"));
    assert_true(has_field("Access-Control-Allow-Methods: POST, OPTIONS"));
    assert_true(has_field("Access-Control-Allow-Headers: broker-key, content-type"));
    assert_true(has_field("Vary: Origin"));
    put("OPTIONS /echo HTTP/1.1\r\n" H "Origin: https://evil.example\r\nAccess-Control-Request-Method: POST\r\n\r\n");
    assert_int_equal(response(), 403);
    assert_null(strstr(head, "Access-Control"));
    /* a page may see why it was refused, and answers that come later name it, too */
    put("GET /nowhere HTTP/1.1\r\n" H "Origin: https://good.example\r\n\r\n");
    assert_int_equal(response(), 404);
    assert_true(has_field("Access-Control-Allow-Origin: https://good.example"));
    put("GET /keep/a HTTP/1.1\r\n" H "Origin: https://good.example\r\n\r\n");
    turns(3);
    kept_answer("a", "A");
    expect(200, "A");
    assert_true(has_field("Access-Control-Allow-Origin: https://good.example"));
    options.origins = "*";
    again();
    put("POST /echo HTTP/1.1\r\n" H "Origin: http://anybody.example\r\nContent-Length: 1\r\n\r\nx");
    expect(200, "x");
    assert_true(has_field("Access-Control-Allow-Origin: http://anybody.example"));
    put("GET /hello HTTP/1.1\r\n" H "Sec-Fetch-Site: cross-site\r\n\r\n");
    expect(200, "hello");
}

/* ---- responses ------------------------------------------------------------------------------------------------------ */

static void test_problems(void **state)
{
    put("GET /keep/a HTTP/1.1\r\n" H "\r\n");
    turns(3);
    http_refuse(kept_by("a")->x, BROKER_QUEUE_FULL, "queue \"a\\b\"\n is \x01 full \xc3\xa4 \xff", 1001);
    expect(429, "{\"type\":\"/errors/queue_full\",\"title\":\"queue is full\",\"status\":429,"
                "\"detail\":\"queue \\\"a\\\\b\\\"\\u000a is \\u0001 full \xc3\xa4 ?\",\"code\":\"QUEUE_FULL\","
                "\"retry_ms\":1001}");
    assert_true(has_field("Content-Type: application/problem+json"));
    assert_true(has_field("Retry-After: 2"));
    put("GET /keep/b HTTP/1.1\r\n" H "\r\n");
    turns(3);
    http_refuse_as(kept_by("b")->x, 410, "cursor_trimmed", "gone to 17");
    expect(410, "{\"type\":\"/errors/cursor_trimmed\",\"title\":\"Gone\",\"status\":410,\"detail\":\"gone to 17\","
                "\"code\":\"CURSOR_TRIMMED\"}");
    put("GET /keep/c HTTP/1.1\r\n" H "\r\n");
    turns(3);
    http_refuse(kept_by("c")->x, BROKER_NOT_MODIFIED, "", 0);
    assert_int_equal(response(), 304);
    assert_null(strstr(head, "Content-"));
}

/* What a handler puts into fields cannot break out of them. */
static void test_fields_of_responses(void **state)
{
    static const struct http_field some[] = {
        {{"Good", 4}, {"value", 5}},        {{"Evil", 4}, {"a\r\nSet-Cookie: b", 17}},
        {{"Ev il", 5}, {"a", 1}},           {{"", 0}, {"a", 1}},
        {{"content-length", 14}, {"7", 1}}, {{"Transfer-Encoding", 17}, {"chunked", 7}},
        {{"Connection", 10}, {"close", 5}}, {{"Also-Good", 9}, {"\xc3\xa4", 2}},
    };
    put("GET /keep/a HTTP/1.1\r\n" H "\r\n");
    turns(3);
    http_respond(kept_by("a")->x,
                 &(struct http_response){.status = 299, .body = "x", .body_len = 1, .fields = some, .field_count = 8});
    expect(299, "x");
    assert_true(has_field("Good: value"));
    assert_true(has_field("Also-Good: \xc3\xa4"));
    assert_true(has_field("Content-Length: 1"));
    assert_null(strstr(head, "Evil"));
    assert_null(strstr(head, "Ev il"));
    assert_null(strstr(head, "Cookie"));
    assert_null(strstr(head, "chunked"));
    assert_null(strstr(head, "close"));
    assert_null(strstr(head, "\r\n: "));
}

static void test_what_is_small(void **state)
{
    print_message("a connection has %zu bytes, an exchange %zu\n", sizeof(struct conn), sizeof(struct http_exchange));
    assert_true(sizeof(struct conn) + sizeof(struct http_exchange) < 450);
    assert_true(sizeof(struct http_exchange) < 200);
}

int main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, start, stop)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_queries),
        cmocka_unit_test(test_accept),
        cmocka_unit_test(test_the_best_pattern_wins),
        TEST(test_routes_over_the_wire),
        TEST(test_each_route),
        TEST(test_browsers),
        TEST(test_cross_origin_requests),
        TEST(test_problems),
        TEST(test_fields_of_responses),
        cmocka_unit_test(test_what_is_small),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
