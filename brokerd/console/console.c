#include "console.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "console_internal.h"

enum { ETAG_BYTES = 20, REFUSAL_BYTES = 160 };

struct console {
    char (*etags)[ETAG_BYTES]; /* one a file, with its quotes */
};

/* What a page from here may do: run its own scripts, talk to its own broker, and nothing else. */
#define POLICY                                                                                                         \
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; font-src 'none'; "   \
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

#define TEXT(s)                                                                                                        \
    {                                                                                                                  \
        s, sizeof(s) - 1                                                                                               \
    }

/* FNV-1a: an ETag has to differ when the program was built from other files, and nobody gains by forging one. */
static uint64_t hash_of(const struct console_file *f)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (const uint8_t *p = f->bytes; p < f->end; p++)
        h = (h ^ *p) * 0x100000001b3u;
    return h;
}

static const struct console_file *find(struct http_text path, size_t *index)
{
    static const char folder[] = "/ui/";
    size_t skip = sizeof(folder) - 1;
    if (path.len < skip || memcmp(path.bytes, folder, skip) != 0)
        return NULL;
    size_t len = path.len - skip;
    for (size_t i = 0; i < CONSOLE_FILE_COUNT; i++) {
        const char *name = CONSOLE_FILES[i].name;
        if ((i == 0 && len == 0) || (strlen(name) == len && memcmp(name, path.bytes + skip, len) == 0)) {
            *index = i;
            return &CONSOLE_FILES[i];
        }
    }
    return NULL;
}

/* Does If-None-Match name this tag (RFC 9110 13.1.2: the weak comparison, so a W/ before it does not matter)? */
static bool has_tag(struct http_text list, const char *tag)
{
    size_t n = strlen(tag);
    const char *p = list.bytes, *end = p + list.len;
    while (p < end) {
        while (p < end && (*p == ' ' || *p == '\t' || *p == ','))
            p++;
        if (p < end && *p == '*')
            return true;
        if (end - p > 2 && p[0] == 'W' && p[1] == '/')
            p += 2;
        if (p == end || *p != '"')
            return false;
        const char *close = memchr(p + 1, '"', (size_t)(end - p - 1));
        if (!close)
            return false;
        if ((size_t)(close + 1 - p) == n && memcmp(p, tag, n) == 0)
            return true;
        p = close + 1;
    }
    return false;
}

static void redirect(void *arg, struct http_exchange *x, const struct http_request *r)
{
    const struct http_field fields[] = {{TEXT("Location"), TEXT("/ui/")}};
    const struct http_response response = {.status = 302, .fields = fields, .field_count = 1};
    http_respond(x, &response);
}

static void serve(void *arg, struct http_exchange *x, const struct http_request *r)
{
    struct console *c = arg;
    size_t i;
    const struct console_file *f = find(r->path, &i);
    if (!f) {
        char text[REFUSAL_BYTES];
        snprintf(text, sizeof(text), "The page has no file '%.*s'; it begins at /ui/.",
                 (int)(r->path.len < 64 ? r->path.len : 64), r->path.bytes);
        http_refuse_as(x, 404, "not_found", text);
        return;
    }
    const char *etag = c->etags[i];
    const struct http_field fields[] = {
        {TEXT("ETag"), {etag, strlen(etag)}},
        {TEXT("Cache-Control"), TEXT("no-cache")}, /* asked for anew each time, and answered with 304 */
        {TEXT("X-Content-Type-Options"), TEXT("nosniff")},
        {TEXT("Referrer-Policy"), TEXT("no-referrer")},
        {TEXT("Content-Security-Policy"), TEXT(POLICY)},
    };
    struct http_response response = {.status = 200,
                                     .type = f->type,
                                     .body = f->bytes,
                                     .body_len = (size_t)(f->end - f->bytes),
                                     .fields = fields,
                                     .field_count = sizeof(fields) / sizeof(fields[0])};
    const struct http_field *known = http_find(r, "If-None-Match");
    if (known && has_tag(known->value, etag)) {
        response.status = 304;
        response.type = NULL;
        response.body = NULL;
        response.body_len = 0;
    }
    http_respond(x, &response);
}

static const struct http_route ROUTES[] = {
    {HTTP_GET, "/", redirect, 0},
    {HTTP_GET, "/ui", redirect, 0},
    {HTTP_GET, "/ui/", serve, 0},
    {HTTP_GET, "/ui/*", serve, 0},
};

struct console *console_new(struct http *http)
{
    struct console *c = calloc(1, sizeof(*c));
    if (!c)
        return NULL;
    c->etags = calloc(CONSOLE_FILE_COUNT, sizeof(*c->etags));
    if (!c->etags || !http_add_routes(http, ROUTES, sizeof(ROUTES) / sizeof(ROUTES[0]), c)) {
        console_free(c);
        return NULL;
    }
    for (size_t i = 0; i < CONSOLE_FILE_COUNT; i++)
        snprintf(c->etags[i], ETAG_BYTES, "\"%016llx\"", (unsigned long long)hash_of(&CONSOLE_FILES[i]));
    return c;
}

void console_free(struct console *c)
{
    if (!c)
        return;
    free(c->etags);
    free(c);
}
