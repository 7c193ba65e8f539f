#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "rig.h"
#include "wire.h"

struct net *net;
struct http *http;
struct clients *clients;
struct sse *sse;
struct sse_options options;
uint64_t epoch;
static struct door *door;
static struct net_timer tick;

/* ---- the double ----------------------------------------------------------------------------------------------------- */

enum { QUEUES = 4, MESSAGES = 4096, READS = 64, SUBSCRIPTIONS = 16 };

static struct queue {
    char name[64];
    uint32_t id; /* 0: there is none */
    uint64_t first, last;
    struct stored_message messages[MESSAGES]; /* seq s at s - 1 */
} queues[QUEUES];
static uint32_t next_queue_id;

static struct waiting {
    struct token token;
    struct queue *queue;
    uint64_t from;
    uint32_t max;
    char topic[64];
    bool used;
} reads[READS];

static struct subscription {
    struct token token;
    struct queue *queue;
    uint64_t credit, next_receipt;
    bool used, held;
} subscriptions[SUBSCRIPTIONS];

struct seen seen;

static struct queue *queue_find(const char *name, size_t len)
{
    for (int i = 0; i < QUEUES; i++)
        if (queues[i].id && strlen(queues[i].name) == len && memcmp(queues[i].name, name, len) == 0)
            return &queues[i];
    return NULL;
}

static void fail_command(struct token token, enum command_type type)
{
    struct completion done = {
        .type = type, .token = token, .error = BROKER_QUEUE_NOT_FOUND, .text = "there is no such queue"};
    clients_sink_ops.complete(clients, &done);
}

static bool matches(const struct stored_message *m, const char *topic)
{
    struct record_view v;
    assert_int_equal(record_view_get(m->record, m->padded_len, &v), BROKER_OK);
    return !*topic || (v.head.topic_len == strlen(topic) && memcmp(v.topic, topic, v.head.topic_len) == 0);
}

/* true: answered. */
static bool answer_read(struct waiting *r, bool wait)
{
    struct stored_message found[64];
    struct queue *q = r->queue;
    struct completion done = {.type = COMMAND_READ, .token = r->token};
    uint64_t next = r->from;
    done.u.read.beyond = r->from > q->last + 1;
    done.u.read.trimmed = r->from < q->first;
    if (done.u.read.trimmed)
        next = q->first;
    for (; next <= q->last && done.u.read.count < r->max && done.u.read.count < 64; next++)
        if (matches(&q->messages[next - 1], r->topic))
            found[done.u.read.count++] = q->messages[next - 1];
    if (wait && done.u.read.count == 0 && !done.u.read.beyond && !done.u.read.trimmed)
        return false;
    done.u.read.messages = found;
    done.u.read.queue_id = q->id;
    done.u.read.next_seq = next;
    done.u.read.first_seq = q->first;
    done.u.read.last_seq = q->last;
    r->used = false;
    clients_sink_ops.complete(clients, &done);
    return true;
}

static void take_read(const struct command *c, struct queue *q)
{
    struct waiting r = {.token = c->token, .queue = q, .from = c->u.read.from_seq, .max = c->u.read.max_messages};
    seen.read = *c;
    if (c->u.read.from_end)
        r.from = q->last + 1;
    else if (r.from == 0)
        r.from = q->first;
    for (; c->u.read.from_ms && r.from <= q->last; r.from++) {
        struct record_head head;
        record_head_get(q->messages[r.from - 1].record, &head);
        if (head.time_ms >= c->u.read.from_ms)
            break;
    }
    snprintf(r.topic, sizeof(r.topic), "%s", c->u.read.filter.topic ? c->u.read.filter.topic : "");
    if (answer_read(&r, c->u.read.wait_ms > 0))
        return;
    for (int i = 0; i < READS; i++)
        if (!reads[i].used) {
            reads[i] = r;
            reads[i].used = true;
            return;
        }
    fail_msg("too many reads wait");
}

static struct subscription *subscription_find(struct token token)
{
    for (int i = 0; i < SUBSCRIPTIONS; i++)
        if (subscriptions[i].used && subscriptions[i].token.conn == token.conn &&
            subscriptions[i].token.stream == token.stream)
            return &subscriptions[i];
    return NULL;
}

static void take_subscribe(const struct command *c, struct queue *q)
{
    struct completion done = {.type = c->type, .token = c->token};
    seen.subscribe = *c;
    for (int i = 0; i < SUBSCRIPTIONS; i++)
        if (!subscriptions[i].used) {
            subscriptions[i] = (struct subscription){.token = c->token, .queue = q, .used = true, .next_receipt = 1000};
            break;
        }
    clients_sink_ops.complete(clients, &done);
}

static void take_close(struct token token)
{
    for (int i = 0; i < READS; i++)
        reads[i].used = reads[i].used && reads[i].token.conn != token.conn;
    for (int i = 0; i < SUBSCRIPTIONS; i++)
        subscriptions[i].used = subscriptions[i].used && subscriptions[i].token.conn != token.conn;
}

void engine_submit(struct engine *e, struct now now, const struct command *c)
{
    struct queue *q = queue_find(c->queue.bytes, c->queue.len);
    struct subscription *s = subscription_find(c->token);
    seen.by_type[c->type]++;
    switch (c->type) {
    case COMMAND_READ:
    case COMMAND_SUBSCRIBE:
        if (seen.mute)
            return;
        if (!q)
            fail_command(c->token, c->type);
        else if (c->type == COMMAND_READ)
            take_read(c, q);
        else
            take_subscribe(c, q);
        break;
    case COMMAND_CREDIT:
        assert_non_null(s);
        s->credit += c->u.credit.messages;
        break;
    case COMMAND_UNHOLD:
        for (int i = 0; i < SUBSCRIPTIONS; i++)
            subscriptions[i].held = subscriptions[i].held && subscriptions[i].token.conn != c->token.conn;
        break;
    case COMMAND_CLOSE: take_close(c->token); break;
    default: fail_msg("unexpected command %d", (int)c->type);
    }
}

unsigned waiting_reads(void)
{
    unsigned n = 0;
    for (int i = 0; i < READS; i++)
        n += reads[i].used;
    return n;
}

static void drop_messages(struct queue *q)
{
    for (uint64_t seq = 1; seq <= q->last; seq++)
        free((void *)(uintptr_t)q->messages[seq - 1].record);
    memset(q, 0, sizeof(*q));
}

void make_queue(const char *name)
{
    struct queue *q = queue_find(name, strlen(name));
    for (int i = 0; !q; i++)
        if (!queues[i].id)
            q = &queues[i];
    drop_messages(q);
    snprintf(q->name, sizeof(q->name), "%s", name);
    q->id = ++next_queue_id;
    q->first = 1;
}

void delete_queue(const char *name)
{
    struct queue *q = queue_find(name, strlen(name));
    for (int i = 0; i < READS; i++)
        if (reads[i].used && reads[i].queue == q) {
            reads[i].used = false;
            fail_command(reads[i].token, COMMAND_READ);
        }
    for (int i = 0; i < SUBSCRIPTIONS; i++)
        if (subscriptions[i].used && subscriptions[i].queue == q) {
            subscriptions[i].used = false;
            clients_sink_ops.ended(clients, subscriptions[i].token, BROKER_QUEUE_NOT_FOUND, "the queue was deleted");
        }
    drop_messages(q);
}

void trim_queue(const char *name, uint64_t first_seq)
{
    queue_find(name, strlen(name))->first = first_seq;
}

static void *record_of(uint64_t seq, const void *body, size_t len, const char *topic, uint32_t *padded)
{
    struct record_spec spec = {.body = body, .body_len = len, .topic = topic, .topic_len = topic ? strlen(topic) : 0};
    uint32_t bytes = record_spec_bytes(&spec);
    uint8_t *record = malloc(bytes);
    assert_non_null(record);
    record_spec_put(record, &spec);
    put_u64(record + 16, seq);
    put_u64(record + 24, 1000 * seq); /* accepted at */
    *padded = bytes;
    return record;
}

static void append(const char *name, const void *body, size_t len, const char *topic)
{
    struct queue *q = queue_find(name, strlen(name));
    struct stored_message m = {.seq = ++q->last};
    m.record = record_of(m.seq, body, len, topic, &m.padded_len);
    assert_true(q->last <= MESSAGES);
    q->messages[q->last - 1] = m;
    for (int i = 0; i < READS; i++)
        if (reads[i].used && reads[i].queue == q)
            answer_read(&reads[i], true);
}

void publish(const char *queue, const void *body, size_t len)
{
    append(queue, body, len, NULL);
}

void publish_text(const char *queue, const char *body)
{
    append(queue, body, strlen(body), NULL);
}

void publish_topic(const char *queue, const char *body, const char *topic)
{
    append(queue, body, strlen(body), topic);
}

void deliver_text(const char *name, const char *body)
{
    struct queue *q = queue_find(name, strlen(name));
    struct stored_message m = {.seq = ++q->last};
    uint8_t *record = record_of(m.seq, body, strlen(body), NULL, &m.padded_len);
    uint32_t attempts = m.seq % 2 ? 1 : 2;
    m.record = record;
    for (int i = 0; i < SUBSCRIPTIONS; i++) {
        struct subscription *s = &subscriptions[i];
        if (!s->used || s->queue != q || s->credit == 0 || s->held)
            continue;
        struct delivery d = {
            .token = s->token, .first_receipt = s->next_receipt++, .messages = &m, .attempts = &attempts, .count = 1};
        s->credit--;
        s->held = seen.subscription_full = !clients_sink_ops.deliver(clients, &d);
        break;
    }
    q->messages[m.seq - 1] = m;
}

/* ---- clients ---------------------------------------------------------------------------------------------------------- */

static void ticked(void *arg, struct now now) {}

void turn(void)
{
    net_timer_set(net, &tick, (monotime){net_now(net).mono.ms + 2});
    net_turn(net, true);
}

static void peer_recv(struct peer *p)
{
    if (p->cap - p->len < 65537) {
        p->cap = 2 * p->cap + 131072;
        p->got = realloc(p->got, p->cap);
        assert_non_null(p->got);
    }
    ssize_t n = recv(p->fd, p->got + p->len, 65536, MSG_DONTWAIT);
    p->len += n > 0 ? (size_t)n : 0;
    p->ended |= n == 0;
    p->got[p->len] = '\0';
}

void peer_get(struct peer *p, const char *path, const char *last_event_id)
{
    char request[1024];
    int fds[2], small = 16384;
    *p = (struct peer){0};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    p->fd = fds[1];
    assert_non_null(net_adopt(net, fds[0], &http_handler, http));
    int n = snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: localhost\r\n%s%s%s\r\n", path,
                     last_event_id ? "Last-Event-ID: " : "", last_event_id ? last_event_id : "",
                     last_event_id ? "\r\n" : "");
    assert_int_equal(send(p->fd, request, (size_t)n, MSG_NOSIGNAL), n);
    peer_recv(p);
}

void peer_close(struct peer *p)
{
    if (p->fd >= 0)
        close(p->fd);
    free(p->got);
    *p = (struct peer){.fd = -1};
}

const char *expect(struct peer *p, const char *text)
{
    static char *taken;
    char *at;
    peer_recv(p);
    while (!(at = strstr(p->got, text))) {
        if (p->ended)
            fail_msg("the stream ended without '%s': '%s'", text, p->got);
        turn();
        peer_recv(p);
    }
    at += strlen(text);
    free(taken);
    taken = strndup(p->got, (size_t)(at - p->got));
    p->len -= (size_t)(at - p->got);
    memmove(p->got, at, p->len + 1);
    return taken;
}

void expect_no(struct peer *p, const char *text)
{
    for (int i = 0; i < 5; i++) {
        turn();
        peer_recv(p);
    }
    if (strstr(p->got, text))
        fail_msg("'%s' came: '%s'", text, p->got);
}

void expect_end(struct peer *p)
{
    while (!p->ended) {
        turn();
        peer_recv(p);
    }
}

const char *next_id(struct peer *p)
{
    static char id[256];
    expect(p, "id: ");
    const char *line = expect(p, "\n");
    snprintf(id, sizeof(id), "%.*s", (int)strlen(line) - 1, line);
    return id;
}

/* ---- the broker ------------------------------------------------------------------------------------------------------- */

static uint64_t epoch_now(void *arg)
{
    return epoch;
}

int start(void **state)
{
    struct net_options net_options = {.read_buffer_bytes = 65536,
                                      .max_input_bytes = 16 << 20,
                                      .max_output_bytes = 64 << 20,
                                      .max_connections = 100,
                                      .linger_ms = 100};
    struct http_options http_options = {.max_head_bytes = 8192,
                                        .max_fields = 100,
                                        .max_body_bytes = 1 << 20,
                                        .max_chunked_bytes = 1 << 20,
                                        .max_pipelined = 8,
                                        .head_ms = 5000,
                                        .idle_ms = 5000,
                                        .body_bytes_per_second = 1,
                                        .stall_ms = 300,
                                        .output_bytes = 1 << 20,
                                        .origins = "",
                                        .hosts = ""};
    struct door_options door_options = {.max_subscriptions = 16};
    memset(&seen, 0, sizeof(seen));
    memset(reads, 0, sizeof(reads));
    memset(subscriptions, 0, sizeof(subscriptions));
    next_queue_id = 6;
    epoch = 3;
    options = (struct sse_options){.heartbeat_ms = 10000,
                                   .retry_ms = 2000,
                                   .max_queues = 4,
                                   .batch_messages = 32,
                                   .batch_bytes = 65536,
                                   .output_bytes = 65536};
    if (*state)
        options.heartbeat_ms = 40;
    net = net_new(&net_options);
    http = http_new(&http_options, net);
    clients = clients_new();
    door = door_new(&door_options, NULL, &clients_sink_ops, clients);
    clients_attach(clients, door);
    sse = sse_new(&options, http, clients, epoch_now, NULL);
    assert_true(net && http && clients && door && sse);
    net_timer_init(&tick, ticked, NULL);
    make_queue("a");
    make_queue("b");
    alarm(30);
    return 0;
}

int stop(void **state)
{
    alarm(0);
    net_free(net);
    sse_free(sse);
    http_free(http);
    assert_int_equal(clients_count(clients), 0);
    clients_free(clients);
    door_free(door);
    for (int i = 0; i < QUEUES; i++)
        drop_messages(&queues[i]);
    return 0;
}
