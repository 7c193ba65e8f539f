/* Browsers: which pages may use the broker (Origin, Fetch Metadata), and under which names (DNS rebinding). */
#include <arpa/inet.h>

#include "http_internal.h"

/* Is `t` one of the words, which blanks or commas keep apart? "*" among them: any is. */
static bool is_listed(const char *words, struct http_text t)
{
    static const char apart[] = " ,\t";
    for (const char *p = words + strspn(words, apart); *p; p += strspn(p, apart)) {
        size_t n = strcspn(p, apart);
        if ((n == 1 && *p == '*') || text_same((struct http_text){p, n}, t))
            return true;
        p += n;
    }
    return false;
}

static struct http_text host_without_port(struct http_text host)
{
    if (host.len > 0 && host.bytes[0] == '[') {
        const char *end = memchr(host.bytes, ']', host.len);
        return end ? (struct http_text){host.bytes, (size_t)(end + 1 - host.bytes)} : host;
    }
    const char *colon = memchr(host.bytes, ':', host.len);
    return colon ? (struct http_text){host.bytes, (size_t)(colon - host.bytes)} : host;
}

/* An address cannot be rebound; a name could be anybody's that points here now. */
static bool host_is_good(const struct http *h, struct http_text host)
{
    struct http_text name = host_without_port(host);
    char text[64];
    struct in_addr v4;
    if (name.len == 0 || name.bytes[0] == '[' || text_is(name, "localhost"))
        return name.len > 0;
    if (name.len > 10 && text_is((struct http_text){name.bytes + name.len - 10, 10}, ".localhost"))
        return true;
    if (name.len < sizeof(text)) {
        memcpy(text, name.bytes, name.len);
        text[name.len] = '\0';
        if (inet_pton(AF_INET, text, &v4) == 1)
            return true;
    }
    return is_listed(h->hosts, name) || is_listed(h->hosts, host);
}

/* Of the page that the broker itself serves? Its scheme is not known behind a proxy. */
static bool origin_is_own(struct http_text origin, struct http_text host)
{
    size_t skip = origin.len > 8 && memcmp(origin.bytes, "https://", 8) == 0  ? 8
                  : origin.len > 7 && memcmp(origin.bytes, "http://", 7) == 0 ? 7
                                                                              : 0;
    return skip && host.len > 0 && text_same((struct http_text){origin.bytes + skip, origin.len - skip}, host);
}

/* Somebody follows a link to the page: nothing is done, and the other page sees nothing of it. */
static bool is_visit(const struct head *head)
{
    return head->verb == HTTP_GET && head->fetch_mode && text_is(head->fetch_mode->value, "navigate") &&
           head->fetch_dest && text_is(head->fetch_dest->value, "document");
}

bool origin_check(const struct http *h, const struct head *head, struct problem *p, const struct http_text **allowed)
{
    *allowed = NULL;
    if (!head->origin && !head->fetch_site)
        return true; /* no browser */
    if (!host_is_good(h, head->host)) {
        problem_set(p, 403, "host_not_allowed",
                    "a browser may not use the broker under the name %.*s: add it to http.hosts",
                    (int)(head->host.len < 80 ? head->host.len : 80), head->host.bytes);
        return false;
    }
    if (head->origin) {
        struct http_text origin = head->origin->value;
        if (origin_is_own(origin, head->host))
            return true;
        if (is_listed(h->origins, origin)) {
            *allowed = &head->origin->value;
            return true;
        }
        problem_set(p, 403, "origin_not_allowed", "pages of %.*s may not use the broker: add it to http.origins",
                    (int)(origin.len < 80 ? origin.len : 80), origin.bytes);
        return false;
    }
    if (!text_is(head->fetch_site->value, "cross-site") || is_visit(head) ||
        is_listed(h->origins, (struct http_text){"", 0}))
        return true;
    problem_set(p, 403, "origin_not_allowed", "a page of another site may not use the broker: see http.origins");
    return false;
}
