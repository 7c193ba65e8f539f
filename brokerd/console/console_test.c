/* The page's files as they are served, over a double of the http room that notes what it is told. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <cmocka.h>

#include "console_internal.h"

/* ---- the double ------------------------------------------------------------------------------------------------------- */

struct http {
    const struct http_route *routes;
    size_t route_count;
    void *arg;
    bool no_memory;
};

struct http_exchange { /* what was answered: a copy, as the real one makes */
    int answers, status;
    char type[64], slug[64], text[256];
    struct {
        char name[64], value[512];
    } fields[16];
    size_t field_count;
    const void *body;
    size_t body_len;
};

bool http_add_routes(struct http *h, const struct http_route *routes, size_t count, void *arg)
{
    h->routes = routes;
    h->route_count = count;
    h->arg = arg;
    return !h->no_memory;
}

const struct http_field *http_find(const struct http_request *r, const char *name)
{
    for (size_t i = 0; i < r->field_count; i++)
        if (r->fields[i].name.len == strlen(name) && strncasecmp(r->fields[i].name.bytes, name, strlen(name)) == 0)
            return &r->fields[i];
    return NULL;
}

void http_respond(struct http_exchange *x, const struct http_response *r)
{
    x->answers++;
    x->status = r->status;
    snprintf(x->type, sizeof(x->type), "%s", r->type ? r->type : "");
    for (size_t i = 0; i < r->field_count; i++) {
        snprintf(x->fields[i].name, 64, "%.*s", (int)r->fields[i].name.len, r->fields[i].name.bytes);
        snprintf(x->fields[i].value, 512, "%.*s", (int)r->fields[i].value.len, r->fields[i].value.bytes);
    }
    x->field_count = r->field_count;
    x->body = r->body;
    x->body_len = r->body_len;
}

void http_refuse_as(struct http_exchange *x, int status, const char *slug, const char *text)
{
    x->answers++;
    x->status = status;
    snprintf(x->slug, sizeof(x->slug), "%s", slug);
    snprintf(x->text, sizeof(x->text), "%s", text);
}

static const char *field_of(const struct http_exchange *x, const char *name)
{
    for (size_t i = 0; i < x->field_count; i++)
        if (strcasecmp(x->fields[i].name, name) == 0)
            return x->fields[i].value;
    return "";
}

/* The route for a path as the http room finds it: the pattern that is the path, else one that ends with a star. */
static const struct http_route *route_of(const struct http *h, const char *path)
{
    for (size_t i = 0; i < h->route_count; i++)
        if (strcmp(h->routes[i].pattern, path) == 0)
            return &h->routes[i];
    for (size_t i = 0; i < h->route_count; i++) {
        size_t n = strlen(h->routes[i].pattern) - 1;
        if (h->routes[i].pattern[n] == '*' && strncmp(h->routes[i].pattern, path, n) == 0)
            return &h->routes[i];
    }
    return NULL;
}

static struct http_exchange get(struct http *h, const char *path, const char *if_none_match)
{
    struct http_exchange x = {0};
    const struct http_field field = {{"if-none-match", 13}, {if_none_match, if_none_match ? strlen(if_none_match) : 0}};
    const struct http_request r = {
        .method = HTTP_GET, .path = {path, strlen(path)}, .fields = &field, .field_count = if_none_match ? 1 : 0};
    const struct http_route *route = route_of(h, path);
    assert_non_null(route);
    assert_int_equal(route->method, HTTP_GET);
    route->handle(h->arg, &x, &r);
    assert_int_equal(x.answers, 1);
    return x;
}

static int setup(void **state)
{
    struct http *h = test_calloc(1, sizeof(*h));
    *state = h;
    return console_new(h) ? 0 : -1;
}

static int teardown(void **state)
{
    struct http *h = *state;
    console_free(h->arg);
    test_free(h);
    return 0;
}

/* ---- the tests -------------------------------------------------------------------------------------------------------- */

static void root_leads_to_the_page(void **state)
{
    static const char *const paths[] = {"/", "/ui"};
    for (size_t i = 0; i < 2; i++) {
        struct http_exchange x = get(*state, paths[i], NULL);
        assert_int_equal(x.status, 302);
        assert_string_equal(field_of(&x, "Location"), "/ui/");
    }
}

static void every_file_is_what_lies_in_the_folder(void **state)
{
    size_t seen = 0;
    DIR *folder = opendir(PAGE_FOLDER);
    assert_non_null(folder);
    for (struct dirent *e; (e = readdir(folder)) != NULL;) {
        if (e->d_name[0] == '.')
            continue;
        char path[512], disk[1024];
        snprintf(path, sizeof(path), "/ui/%s", e->d_name);
        snprintf(disk, sizeof(disk), "%s/%s", PAGE_FOLDER, e->d_name);
        struct http_exchange x = get(*state, path, NULL);
        assert_int_equal(x.status, 200);
        FILE *f = fopen(disk, "rb");
        assert_non_null(f);
        uint8_t *bytes = test_malloc(x.body_len + 2);
        assert_int_equal(fread(bytes, 1, x.body_len + 2, f), x.body_len);
        assert_memory_equal(bytes, x.body, x.body_len);
        test_free(bytes);
        fclose(f);
        seen++;
    }
    closedir(folder);
    assert_int_equal(seen, CONSOLE_FILE_COUNT);
}

static void types(void **state)
{
    static const char *const want[][2] = {
        {"/ui/", "text/html; charset=utf-8"},       {"/ui/index.html", "text/html; charset=utf-8"},
        {"/ui/app.css", "text/css; charset=utf-8"}, {"/ui/app.js", "text/javascript; charset=utf-8"},
        {"/ui/favicon.svg", "image/svg+xml"},
    };
    for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
        struct http_exchange x = get(*state, want[i][0], NULL);
        assert_int_equal(x.status, 200);
        assert_string_equal(x.type, want[i][1]);
        assert_true(x.body_len > 0);
    }
}

static void headers_keep_the_page_to_itself(void **state)
{
    struct http_exchange x = get(*state, "/ui/", NULL);
    assert_string_equal(field_of(&x, "Cache-Control"), "no-cache");
    assert_string_equal(field_of(&x, "X-Content-Type-Options"), "nosniff");
    assert_string_equal(field_of(&x, "Referrer-Policy"), "no-referrer");
    assert_string_equal(field_of(&x, "Content-Security-Policy"),
                        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
                        "font-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
}

static void tags(void **state)
{
    struct http_exchange page = get(*state, "/ui/", NULL), css = get(*state, "/ui/app.css", NULL);
    char tag[64], list[256];
    snprintf(tag, sizeof(tag), "%s", field_of(&page, "ETag"));
    assert_int_equal(strlen(tag), 18);
    assert_true(tag[0] == '"' && tag[17] == '"');
    assert_string_not_equal(tag, field_of(&css, "ETag"));
    struct http_exchange same = get(*state, "/ui/index.html", NULL);
    assert_string_equal(tag, field_of(&same, "ETag"));

    static const char *const known[] = {"%s", "W/%s", "\"other\", %s", "\"a,b\" ,\tW/\"x\" , %s,\"z\"", "*", " * "};
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        snprintf(list, sizeof(list), known[i], tag);
        struct http_exchange x = get(*state, "/ui/", list);
        assert_int_equal(x.status, 304);
        assert_int_equal(x.body_len, 0);
        assert_string_equal(x.type, "");
        assert_string_equal(field_of(&x, "ETag"), tag);
        assert_string_equal(field_of(&x, "Cache-Control"), "no-cache");
    }
    static const char *const unknown[] = {"",    "\"\"",      "\"", "W/", "W/\"", "\"0123456789abcdef\"",
                                          "abc", "\"a\" b *", ",,,"};
    for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
        struct http_exchange x = get(*state, "/ui/", unknown[i]);
        assert_int_equal(x.status, 200);
    }
    snprintf(list, sizeof(list), "%.17s", tag); /* without its closing quote */
    struct http_exchange cut = get(*state, "/ui/", list);
    assert_int_equal(cut.status, 200);
}

static void what_is_not_there(void **state)
{
    static const char *const paths[] = {"/ui/app",     "/ui/app.jsx", "/ui/../app.js", "/ui//",
                                        "/ui/app.js/", "/ui/x%2f..",  "/ui/App.js"};
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        struct http_exchange x = get(*state, paths[i], NULL);
        assert_int_equal(x.status, 404);
        assert_string_equal(x.slug, "not_found");
        assert_non_null(strstr(x.text, paths[i]));
    }
    char longer[4096] = "/ui/";
    memset(longer + 4, 'a', sizeof(longer) - 5);
    struct http_exchange x = get(*state, longer, NULL);
    assert_int_equal(x.status, 404);
}

static void no_memory_for_routes(void **state)
{
    struct http h = {.no_memory = true};
    assert_null(console_new(&h));
    console_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(root_leads_to_the_page, setup, teardown),
        cmocka_unit_test_setup_teardown(every_file_is_what_lies_in_the_folder, setup, teardown),
        cmocka_unit_test_setup_teardown(types, setup, teardown),
        cmocka_unit_test_setup_teardown(headers_keep_the_page_to_itself, setup, teardown),
        cmocka_unit_test_setup_teardown(tags, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_not_there, setup, teardown),
        cmocka_unit_test(no_memory_for_routes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
