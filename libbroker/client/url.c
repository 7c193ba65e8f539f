/* "broker://host:port", "broker://[::1]:7440", "unix:/path" -> addresses to try. */
#include "client_internal.h"

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>

static broker_error unix_endpoint(broker *b, const char *url, const char *path)
{
    struct sockaddr_un *un = (struct sockaddr_un *)&b->endpoints[0].address;
    size_t len = strlen(path);

    if (len == 0 || len >= sizeof(un->sun_path))
        return set_error(b, BROKER_INVALID_ARGUMENT, "url \"%.64s\": give unix:/path with a path of 1 to %zu bytes",
                         url, sizeof(un->sun_path) - 1);
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, path, len + 1);
    b->endpoints[0].len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
    b->endpoint_count = 1;
    return BROKER_OK;
}

/* Takes "host", "host:port" or "[address]:port" apart. */
static bool split_host(const char *rest, char *host, size_t host_size, char *port, size_t port_size)
{
    const char *host_end, *after;

    if (rest[0] == '[') {
        rest++;
        host_end = strchr(rest, ']');
        after = host_end ? host_end + 1 : NULL;
    } else {
        host_end = rest + strcspn(rest, ":/");
        after = host_end;
    }
    if (!host_end || host_end == rest || (size_t)(host_end - rest) >= host_size)
        return false;
    memcpy(host, rest, (size_t)(host_end - rest));
    host[host_end - rest] = '\0';

    snprintf(port, port_size, "%d", WIRE_DEFAULT_PORT);
    if (*after == ':') {
        size_t digits = strspn(after + 1, "0123456789");
        if (digits == 0 || digits >= port_size)
            return false;
        memcpy(port, after + 1, digits);
        port[digits] = '\0';
        after += 1 + digits;
        long number = strtol(port, NULL, 10);
        if (number < 1 || number > 65535)
            return false;
    }
    return *after == '\0' || strcmp(after, "/") == 0;
}

broker_error url_resolve(broker *b, const char *url)
{
    static const char scheme[] = "broker://";
    char host[256], port[6];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;

    if (strncmp(url, "unix:", 5) == 0)
        return unix_endpoint(b, url, strncmp(url, "unix://", 7) == 0 ? url + 7 : url + 5);
    if (strncmp(url, scheme, sizeof(scheme) - 1) != 0 ||
        !split_host(url + sizeof(scheme) - 1, host, sizeof(host), port, sizeof(port)))
        return set_error(b, BROKER_INVALID_ARGUMENT, "url \"%.64s\": give broker://host:port or unix:/path", url);
    int result = getaddrinfo(host, port, &hints, &list);
    if (result == EAI_MEMORY)
        return set_error(b, BROKER_NO_MEMORY, "out of memory");
    if (result != 0)
        return set_error(b, BROKER_INVALID_ARGUMENT, "url \"%.64s\": cannot resolve \"%.64s\": %s", url, host,
                         gai_strerror(result));
    for (struct addrinfo *a = list; a && b->endpoint_count < ENDPOINTS_MAX; a = a->ai_next) {
        struct endpoint *e = &b->endpoints[b->endpoint_count];
        if (a->ai_addrlen > sizeof(e->address))
            continue;
        memcpy(&e->address, a->ai_addr, a->ai_addrlen);
        e->len = a->ai_addrlen;
        b->endpoint_count++;
    }
    freeaddrinfo(list);
    if (b->endpoint_count == 0)
        return set_error(b, BROKER_INVALID_ARGUMENT, "url \"%.64s\": \"%.64s\" has no address", url, host);
    return BROKER_OK;
}
