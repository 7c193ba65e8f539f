/* The OpenAPI file against the routes themselves, of all rooms that have any: each is documented, and each documented one is there. */
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <cmocka.h>

#include "console.h"
#include "metrics.h"
#include "rest.h"
#include "sse.h"
#include "websocket.h"

static struct {
    struct net *net;
    struct http *http;
    struct clients *clients;
    struct rest *rest;
    struct sse *sse;
    struct metrics *metrics;
    struct websocket *websocket;
    struct console *console;
    json_t *document;
} f;

static uint64_t epoch(void *arg)
{
    return 1;
}

static void now(void *arg, struct metrics_now *out)
{
    memset(out, 0, sizeof(*out));
}

static int setup(void **state)
{
    json_error_t wrong;
    f.net = net_new(&(struct net_options){
        .read_buffer_bytes = 65536, .max_input_bytes = 1 << 20, .max_output_bytes = 1 << 20, .max_connections = 10});
    f.http =
        http_new(&(struct http_options){.max_head_bytes = 8192, .max_fields = 100, .origins = "", .hosts = ""}, f.net);
    f.clients = clients_new();
    assert_true(f.net && f.http && f.clients);
    f.rest = rest_new(&(struct rest_options){0}, f.http, f.clients, NULL);
    f.sse = sse_new(&(struct sse_options){.max_queues = 8}, f.http, f.clients, epoch, NULL);
    f.metrics = metrics_new(&(struct metrics_options){0}, f.http, f.clients, now, NULL);
    f.websocket = websocket_new(&(struct websocket_options){0}, f.http, f.clients);
    f.console = console_new(f.http);
    assert_true(f.rest && f.sse && f.metrics && f.websocket && f.console);
    f.document = json_load_file(OPENAPI_FILE, JSON_REJECT_DUPLICATES, &wrong);
    if (!f.document)
        fail_msg("%s, line %d: %s", OPENAPI_FILE, wrong.line, wrong.text);
    return 0;
}

static int teardown(void **state)
{
    net_free(f.net);
    console_free(f.console);
    websocket_free(f.websocket);
    metrics_free(f.metrics);
    sse_free(f.sse);
    rest_free(f.rest);
    http_free(f.http);
    clients_free(f.clients);
    json_decref(f.document);
    return 0;
}

static const char *method_name(enum http_method method)
{
    switch (method) {
    case HTTP_GET: return "get";
    case HTTP_POST: return "post";
    case HTTP_PUT: return "put";
    case HTTP_PATCH: return "patch";
    case HTTP_DELETE: return "delete";
    }
    return "?";
}

/* Which {…} is which is not told by its name but by its place; "*" is one, too. */
static void plain(const char *pattern, char *out, size_t size)
{
    size_t n = 0;
    for (const char *p = pattern; *p && n + 3 < size; p++) {
        if (*p == '{')
            p = strchr(p, '}');
        if (*p == '}' || *p == '*')
            n += (size_t)snprintf(out + n, size - n, "{}");
        else
            out[n++] = *p;
    }
    out[n] = '\0';
}

static bool is_same(const char *path, const char *pattern)
{
    char a[256], b[256];
    plain(path, a, sizeof(a));
    plain(pattern, b, sizeof(b));
    return strcmp(a, b) == 0;
}

static unsigned undocumented, routes;

static void look_up(void *arg, const struct http_route *route)
{
    const char *path;
    json_t *item;
    routes++;
    json_object_foreach(json_object_get(f.document, "paths"), path, item)
    {
        if (is_same(path, route->pattern) && json_object_get(item, method_name(route->method)))
            return;
    }
    undocumented++;
    print_error("%s %s is not in openapi.json\n", method_name(route->method), route->pattern);
}

static void each_route_is_documented(void **state)
{
    http_each_route(f.http, look_up, NULL);
    assert_int_equal(undocumented, 0);
    assert_true(routes > 50);
}

struct wanted {
    const char *path, *method;
    bool found;
};

static void compare(void *arg, const struct http_route *route)
{
    struct wanted *w = arg;
    w->found |= is_same(w->path, route->pattern) && strcmp(w->method, method_name(route->method)) == 0;
}

static void each_documented_one_is_there(void **state)
{
    unsigned missing = 0, operations = 0;
    const char *path, *method;
    json_t *item, *operation;
    json_object_foreach(json_object_get(f.document, "paths"), path, item)
    {
        json_object_foreach(item, method, operation)
        {
            struct wanted w = {path, method, strcmp(method, "parameters") == 0};
            operations += !w.found;
            http_each_route(f.http, compare, &w);
            missing += !w.found;
            if (!w.found)
                print_error("%s %s has no route\n", method, path);
        }
    }
    assert_int_equal(missing, 0);
    assert_int_equal(operations, routes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_route_is_documented),
        cmocka_unit_test(each_documented_one_is_there),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
