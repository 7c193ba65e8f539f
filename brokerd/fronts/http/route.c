/* Routes: a tree of path segments. A request walks down it once; literal segments are found by bisection. */
#include <stdlib.h>

#include "http_internal.h"

enum { VERBS = 5 };

struct literal {
    const char *text; /* in the pattern */
    size_t len;
    struct node *node;
};

struct node {
    struct literal *literals; /* sorted */
    size_t literal_count;
    struct node *any;                                     /* {…}; NULL: none */
    const struct http_route *routes[VERBS], *rest[VERBS]; /* that end here; that take any rest */
    void *args[VERBS], *rest_args[VERBS];
};

static unsigned verb_index(enum http_method m)
{
    return (unsigned)__builtin_ctz((unsigned)m);
}

struct node *route_root(void)
{
    return calloc(1, sizeof(struct node));
}

void route_free(struct node *n)
{
    if (!n)
        return;
    for (size_t i = 0; i < n->literal_count; i++)
        route_free(n->literals[i].node);
    route_free(n->any);
    free(n->literals);
    free(n);
}

/* ---- building ------------------------------------------------------------------------------------------------------- */

/* Where `text` is, or belongs. */
static size_t literal_place(const struct node *n, const char *text, size_t len, bool *found)
{
    size_t low = 0, high = n->literal_count;
    *found = false;
    while (low < high && !*found) {
        size_t middle = (low + high) / 2;
        const struct literal *l = &n->literals[middle];
        int order = memcmp(text, l->text, len < l->len ? len : l->len);
        if (order == 0)
            order = len < l->len ? -1 : len > l->len;
        if (order == 0) {
            *found = true;
            low = middle;
        } else if (order < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

static struct node *literal_child(struct node *n, const char *text, size_t len)
{
    bool found;
    size_t at = literal_place(n, text, len, &found);
    if (found)
        return n->literals[at].node;
    struct literal *literals = realloc(n->literals, (n->literal_count + 1) * sizeof(*literals));
    if (!literals)
        return NULL;
    n->literals = literals;
    struct node *child = route_root();
    if (!child)
        return NULL;
    memmove(&literals[at + 1], &literals[at], (n->literal_count - at) * sizeof(*literals));
    literals[at] = (struct literal){text, len, child};
    n->literal_count++;
    return child;
}

bool route_add(struct node *n, const struct http_route *route, void *arg)
{
    unsigned verb = verb_index(route->method);
    const char *at = route->pattern;
    while (*at == '/') {
        size_t len = strcspn(++at, "/");
        if (len == 1 && *at == '*') {
            n->rest[verb] = route;
            n->rest_args[verb] = arg;
            return true;
        }
        if (*at == '{') {
            if (!n->any && !(n->any = route_root()))
                return false;
            n = n->any;
        } else if (!(n = literal_child(n, at, len))) {
            return false;
        }
        at += len;
    }
    n->routes[verb] = route;
    n->args[verb] = arg;
    return true;
}

/* ---- finding -------------------------------------------------------------------------------------------------------- */

struct path { /* decoded segments */
    struct http_text segments[PARAMS_DEEP];
    size_t count;
    bool deeper; /* than that: only a rest can be meant */
};

static void path_split(const struct head *head, char *decoded, struct path *p)
{
    const char *at = head->path.bytes, *end = at + head->path.len;
    p->count = 0;
    p->deeper = false;
    while (at < end) { /* at a '/' */
        const char *from = at + 1;
        at = memchr(from, '/', (size_t)(end - from));
        if (!at)
            at = end;
        if (p->count == PARAMS_DEEP) {
            p->deeper = true;
            return;
        }
        struct http_text *s = &p->segments[p->count++];
        *s = (struct http_text){from, (size_t)(at - from)};
        if (memchr(from, '%', s->len)) {
            char *to = decoded + (from - head->bytes);
            *s = (struct http_text){to, percent_decode(to, from, s->len, false)};
        }
    }
}

struct search {
    const struct path *path;
    struct match *match;
    unsigned verb; /* VERBS: none of ours */
    unsigned best; /* how many {…} the best one has; a rest counts more than any number */
    struct http_text params[PARAMS_DEEP];
};

static void found(struct search *s, const struct http_route *const *routes, void *const *args, unsigned params,
                  unsigned cost)
{
    for (unsigned i = 0; i < VERBS; i++)
        if (routes[i])
            s->match->methods |= 1u << i;
    if (s->verb == VERBS || !routes[s->verb] || (s->match->route && cost >= s->best))
        return;
    s->best = cost;
    s->match->route = routes[s->verb];
    s->match->arg = args[s->verb];
    for (unsigned i = 0; i < HTTP_PARAMS_MAX; i++)
        s->match->params[i] = i < params ? s->params[i] : (struct http_text){"", 0};
}

/* Both ways at each level: as deep as the patterns, which are ours. */
static void search(struct search *s, const struct node *n, size_t depth, unsigned params)
{
    if (depth < s->path->count || s->path->deeper) /* the '/' is there, whatever follows */
        found(s, n->rest, n->rest_args, params, params + 100 - (unsigned)depth);
    if (depth == s->path->count) {
        if (!s->path->deeper)
            found(s, n->routes, n->args, params, params);
        return;
    }
    struct http_text segment = s->path->segments[depth];
    bool is_there;
    size_t at = literal_place(n, segment.bytes, segment.len, &is_there);
    if (is_there)
        search(s, n->literals[at].node, depth + 1, params);
    if (n->any && segment.len > 0) {
        s->params[params] = segment;
        search(s, n->any, depth + 1, params + 1);
    }
}

void route_find(const struct node *root, const struct head *head, char *decoded, struct match *m)
{
    struct path path;
    struct search s = {.path = &path, .match = m, .verb = head->verb ? verb_index(head->verb) : VERBS};
    m->route = NULL;
    m->methods = 0;
    path_split(head, decoded, &path);
    search(&s, root, 0, 0);
}

void route_allow(unsigned methods, char *out)
{
    static const char *const names[VERBS] = {"GET, HEAD, ", "POST, ", "PUT, ", "PATCH, ", "DELETE, "};
    size_t n = 0;
    for (unsigned i = 0; i < VERBS; i++)
        if (methods & 1u << i) {
            size_t len = strlen(names[i]);
            memcpy(out + n, names[i], len);
            n += len;
        }
    memcpy(out + n, "OPTIONS", 8);
}
