/*
 * The REST interface, from the bytes of requests to the engine (over a store that only remembers) and back. Whatever is asked,
 * every answer is a response whose JSON is JSON, and when the client has gone nothing is left of it.
 */
#include <sys/socket.h>
#include <unistd.h>

#include "clients.h"
#include "forms.h"
#include "fuzz.h"
#include "memory_store.h"
#include "rest.h"

enum { OUTPUT_MAX = 1 << 22, INPUT_MAX = 30000, TURNS_MAX = 500 };

static struct {
    struct memory_store store;
    struct engine *engine;
    struct net *net;
    struct http *http;
    struct rest *rest;
    struct clients *clients;
    struct door *door;
    uint64_t committed;
} world;

static void stats(void *arg, broker_stats *out, uint64_t *epoch)
{
    *epoch = 1;
}

static void work(void *arg)
{
    engine_committed(world.engine, net_now(world.net), world.committed, world.committed);
    engine_tick(world.engine, net_now(world.net));
}

static void end(void *arg)
{
    world.committed = memory_store_commit(&world.store);
}

static const struct net_turn_ops turn_ops = {work, end};

static void begin(void)
{
    static const struct net_options net_options = {.read_buffer_bytes = 64 << 10,
                                                   .max_input_bytes = 4 << 20,
                                                   .max_output_bytes = 16 << 20,
                                                   .max_connections = 8,
                                                   .linger_ms = 1000};
    static const struct http_options http_options = {.max_head_bytes = 8192,
                                                     .max_fields = 100,
                                                     .max_connections = 8,
                                                     .max_body_bytes = 100000,
                                                     .max_chunked_bytes = 100000,
                                                     .max_pipelined = 1, /* so that each sees what the one before did */
                                                     .head_ms = 60000,
                                                     .idle_ms = 60000,
                                                     .body_bytes_per_second = 1,
                                                     .stall_ms = 60000,
                                                     .output_bytes = 1 << 20,
                                                     .origins = "",
                                                     .hosts = "x"};
    static const struct rest_options rest_options = {
        .max_wait_ms = 1, .max_message_bytes = 64 << 10, .max_batch_messages = 100, .max_answer_bytes = 128 << 10};
    static const struct door_options door_options = {.max_settle_ranges = 64,
                                                     .max_transact_parts = 16,
                                                     .max_list = 100,
                                                     .max_batch_bytes = 128 << 10,
                                                     .max_message_bytes = 64 << 10};
    static const struct engine_options engine_options = {
        .max_message_bytes = 64 << 10, .max_queues = 16, .max_groups_per_queue = 8, .max_producers = 16};
    static const struct rest_host host = {.stats = stats};

    memory_store_init(&world.store);
    world.committed = 0;
    world.net = net_new(&net_options);
    world.http = world.net ? http_new(&http_options, world.net) : NULL;
    world.clients = clients_new();
    world.engine = engine_new(&engine_options, &memory_store_ops, &world.store, &clients_sink_ops, world.clients);
    world.door = door_new(&door_options, world.engine, &clients_sink_ops, world.clients);
    if (!world.http || !world.clients || !world.engine || !world.door)
        abort();
    clients_attach(world.clients, world.door);
    if (!(world.rest = rest_new(&rest_options, world.http, world.clients, &host)))
        abort();
    engine_recovered(world.engine, net_now(world.net), 1);
    net_set_turn(world.net, &turn_ops, NULL);
}

static void finish(void)
{
    net_free(world.net);
    rest_free(world.rest);
    http_free(world.http);
    CHECK(clients_count(world.clients) == 0);
    clients_free(world.clients);
    door_free(world.door);
    engine_free(world.engine);
    memory_store_release(&world.store);
}

static const char *field(const char *head, const char *name)
{
    const char *at = strstr(head, name);
    return at ? at + strlen(name) : NULL;
}

static void check_json(const char *type, const char *body, size_t len)
{
    char text[FORM_TEXT_BYTES];
    bool json = strncmp(type, "application/json\r", 17) == 0 || strncmp(type, "application/problem+json\r", 25) == 0 ||
                strncmp(type, "application/cloudevents", 23) == 0;
    if (!json)
        return;
    json_t *value = form_json_parse(body, len, text);
    /* A message may bring keys of its own that are refused on the way in: what it says is not the broker's JSON. */
    if (!value && !strstr(text, "duplicate") && !strstr(text, "NUL") && !strstr(text, "deeper"))
        fprintf(stderr, "%s: %.*s\n", text, (int)len, body);
    CHECK(value || strstr(text, "duplicate") || strstr(text, "NUL") || strstr(text, "deeper"));
    json_decref(value);
}

/* A response after the other, until one that is cut off or streamed. */
static void check(char *out)
{
    char *end;
    for (char *p = out; *p && (end = strstr(p, "\r\n\r\n")); p = end) {
        CHECK(strncmp(p, "HTTP/1.1 ", 9) == 0 && strtol(p + 9, NULL, 10) >= 200);
        char after = end[2];
        end[2] = 0; /* the head alone, with the end of its last line */
        const char *length = field(p, "\r\nContent-Length: "), *type = field(p, "\r\nContent-Type: ");
        size_t len = length ? strtoul(length, NULL, 10) : 0;
        bool streamed = field(p, "\r\nTransfer-Encoding: ");
        end[2] = after;
        end += 4;
        if (streamed || strnlen(end, len) < len)
            return; /* or a body with a NUL in it: raw, and the last thing that is looked at */
        if (length && type)
            check_json(type, end, len);
        end += len;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    static const char first[] = "PUT /v1/queues/q HTTP/1.1\r\nHost: x\r\n\r\n"
                                "PUT /v1/queues/q/bindings/t.* HTTP/1.1\r\nHost: x\r\n\r\n"
                                "POST /v1/queues/q/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nm";
    static char out[OUTPUT_MAX];
    int fds[2];
    size_t n = 0;
    ssize_t got;

    if (len > INPUT_MAX)
        return 0;
    begin();
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) != 0 ||
        !net_adopt(world.net, fds[1], &http_handler, world.http))
        abort();
    (void)send(fds[0], first, sizeof(first) - 1, MSG_NOSIGNAL);
    (void)send(fds[0], bytes, len, MSG_NOSIGNAL);
    for (int i = 0, quiet = 0; i < TURNS_MAX && quiet < 6; i++, quiet++) {
        net_turn(world.net, false);
        while (n < OUTPUT_MAX - 1 && (got = recv(fds[0], out + n, OUTPUT_MAX - 1 - n, MSG_DONTWAIT)) > 0) {
            n += (size_t)got;
            quiet = 0;
        }
    }
    out[n] = 0;
    if (!memmem(bytes, len, "HEAD", 4))
        check(out);
    close(fds[0]);
    for (unsigned i = 0; http_connections(world.http) > 0; i++) {
        CHECK(i < 100000);
        net_turn(world.net, false);
    }
    for (int i = 0; i < 3; i++)
        net_turn(world.net, false);
    CHECK(clients_count(world.clients) == 1); /* the room's own */
    finish();
    return 0;
}
