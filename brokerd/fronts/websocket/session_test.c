/* Requests to commands and completions to answers, over socket pairs, with a double for the engine that only remembers. */
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

#include "websocket_internal.h"
#include "wire.h"

/* ---- the double ------------------------------------------------------------------------------------------------------- */

enum { TOKENS = 8192, RECORDS = 8192, PEERS = 3 };

static struct seen {
    unsigned by_type[COMMAND_TYPES];
    struct command last[COMMAND_TYPES];
    struct token reads[TOKENS]; /* those that are not answered */
    unsigned read_count;
    struct token publishes[TOKENS];
    unsigned publish_count;
    char queue[64], group[64], target[64];
    uint8_t records[RECORDS];
    struct receipt_range ranges[8];
    struct transact_part parts[4];
    uint64_t closed[16];
    unsigned closed_count;
} seen;

static struct net *net;
static struct http *http;
static struct clients *clients;
static struct door *door;
static struct websocket *websocket;
static struct net_timer tick;
static struct websocket_options options;

static void copy(char *to, size_t size, struct name name)
{
    snprintf(to, size, "%.*s", (int)name.len, name.bytes ? name.bytes : "");
}

void engine_submit(struct engine *e, struct now now, const struct command *c)
{
    seen.by_type[c->type]++;
    seen.last[c->type] = *c;
    copy(seen.queue, sizeof(seen.queue), c->queue);
    copy(seen.group, sizeof(seen.group), c->group);
    switch (c->type) {
    case COMMAND_PUBLISH:
        assert_true(c->u.publish.len <= RECORDS);
        memcpy(seen.records, c->u.publish.records, c->u.publish.len);
        memset(c->u.publish.records, 0xee, c->u.publish.len); /* the engine may write there */
        seen.publishes[seen.publish_count++] = c->token;
        break;
    case COMMAND_READ: seen.reads[seen.read_count++] = c->token; break;
    case COMMAND_ACK:
    case COMMAND_NACK:
    case COMMAND_EXTEND: memcpy(seen.ranges, c->u.settle.ranges, c->u.settle.count * sizeof(seen.ranges[0])); break;
    case COMMAND_TRANSACT:
        for (size_t i = 0, at = 0; i < c->u.transact.count; i++) {
            seen.parts[i] = c->u.transact.parts[i];
            if (seen.parts[i].kind == PART_PUBLISH)
                memcpy(seen.records + at, seen.parts[i].records, seen.parts[i].len), at += seen.parts[i].len;
            else
                seen.ranges[i] = seen.parts[i].ranges[0];
        }
        break;
    case COMMAND_CLOSE: seen.closed[seen.closed_count++] = c->token.conn; break;
    case COMMAND_SCAN: copy(seen.target, sizeof(seen.target), c->u.scan.target); break;
    default: break;
    }
}

static void complete(struct completion done)
{
    clients_sink_ops.complete(clients, &done);
}

static void complete_ok(enum command_type type)
{
    complete((struct completion){.type = type, .token = seen.last[type].token});
}

static void stored(struct token token, uint64_t seq)
{
    struct publish_result r = {.first_seq = seq, .count = 1};
    complete((struct completion){.type = COMMAND_PUBLISH, .token = token, .u.publish = {&r, 1}});
}

static uint8_t *record(uint64_t seq, const char *body, size_t len, struct stored_message *m)
{
    struct record_spec spec = {.body = body, .body_len = len};
    uint32_t bytes = record_spec_bytes(&spec);
    uint8_t *r = malloc(bytes);
    record_spec_put(r, &spec);
    put_u64(r + 16, seq);
    *m = (struct stored_message){seq, r, bytes};
    return r;
}

/* Answer the oldest read with one message, or none. */
static void answer_read(uint64_t seq, const char *body, size_t len)
{
    struct stored_message m;
    struct token token = seen.reads[0];
    memmove(seen.reads, seen.reads + 1, --seen.read_count * sizeof(token));
    uint8_t *r = record(seq, body, len, &m);
    struct completion done = {.type = COMMAND_READ,
                              .token = token,
                              .u.read = {&m, body ? 1 : 0, 7, body ? seq + 1 : seq, 1, seq, false, false}};
    complete(done);
    net_turn(net, false); /* records stay until the turn's end */
    free(r);
}

/* ---- clients ------------------------------------------------------------------------------------------------------------ */

static struct peer {
    int fd;
    char got[1 << 20];
    size_t len;
    bool ended;
} peers[PEERS];

static void ticked(void *arg, struct now now) {}

static void turn(void)
{
    net_timer_set(net, &tick, (monotime){net_now(net).mono.ms + 2});
    net_turn(net, true);
}

static void peer_recv(struct peer *p)
{
    ssize_t n = recv(p->fd, p->got + p->len, sizeof(p->got) - 1 - p->len, MSG_DONTWAIT);
    p->len += n > 0 ? (size_t)n : 0;
    p->ended |= n == 0;
    p->got[p->len] = '\0';
}

static void peer_frame(struct peer *p, uint8_t first, const void *payload, size_t n)
{
    static uint8_t frame[1 << 17];
    size_t head = n < 126 ? 2 : 4;
    frame[0] = first;
    frame[1] = 0x80 | (uint8_t)(n < 126 ? n : 126);
    frame[2] = (uint8_t)(n >> 8);
    frame[3] = (uint8_t)n;
    memset(frame + head, 0, 4); /* a mask that changes nothing */
    memcpy(frame + head + 4, payload, n);
    for (size_t at = 0; at < head + 4 + n;) {
        ssize_t sent = send(p->fd, frame + at, head + 4 + n - at, MSG_NOSIGNAL | MSG_DONTWAIT);
        at += sent > 0 ? (size_t)sent : 0;
        if (sent < 0)
            turn();
    }
}

/* JSON with ' for ". */
static void say(struct peer *p, const char *text)
{
    char json[4096];
    size_t n = strlen(text);
    for (size_t i = 0; i <= n; i++)
        json[i] = text[i] == '\'' ? '"' : text[i];
    peer_frame(p, 0x81, json, n);
    for (int i = 0; i < 3; i++)
        turn();
}

/* What comes: the payload of the next frame (text with ' for "), or "close CODE REASON"; until the next call. */
static const char *hear(struct peer *p)
{
    static char text[1 << 17];
    size_t head = 2, n;
    for (;; turn()) {
        peer_recv(p);
        if (p->len >= 4) {
            n = p->got[1] & 0x7f;
            head = n == 126 ? 4 : n == 127 ? 10 : 2;
            if (n == 126)
                n = (size_t)(uint8_t)p->got[2] << 8 | (uint8_t)p->got[3];
            else if (n == 127)
                n = (size_t)(uint8_t)p->got[7] << 16 | (size_t)(uint8_t)p->got[8] << 8 | (uint8_t)p->got[9];
            if (p->len >= head + n)
                break;
        } else if (p->ended) {
            return "the end";
        }
    }
    const char *payload = p->got + head;
    if ((p->got[0] & 0x0f) == 8)
        snprintf(text, sizeof(text), "close %u %.*s",
                 n ? (unsigned)((uint8_t)payload[0] << 8 | (uint8_t)payload[1]) : 0, n ? (int)n - 2 : 0, payload + 2);
    else
        snprintf(text, sizeof(text), "%.*s", (int)n, payload);
    for (char *c = text; *c; c++)
        *c = *c == '"' ? '\'' : *c;
    memmove(p->got, p->got + head + n, p->len - head - n);
    p->len -= head + n;
    return text;
}

static void expect(struct peer *p, const char *what)
{
    assert_string_equal(hear(p), what);
}

static void expect_error(struct peer *p, const char *code, const char *says)
{
    const char *text = hear(p);
    if (!strstr(text, code) || !strstr(text, says) || !strstr(text, "'op':'error'"))
        fail_msg("'%s' is no error %s with '%s'", text, code, says);
}

static void expect_silence(struct peer *p)
{
    for (int i = 0; i < 4; i++)
        turn();
    peer_recv(p);
    assert_int_equal(p->len, 0);
}

static void dial(struct peer *p)
{
    static const char request[] =
        "GET /v1/ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    int fds[2], small = 4096;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    p->fd = fds[1];
    p->len = 0;
    p->ended = false;
    assert_non_null(net_adopt(net, fds[0], &http_handler, http));
    assert_int_equal(send(p->fd, request, sizeof(request) - 1, MSG_NOSIGNAL), sizeof(request) - 1);
    char *end;
    do {
        turn();
        peer_recv(p);
    } while (!(end = strstr(p->got, "\r\n\r\n")));
    assert_memory_equal(p->got, "HTTP/1.1 101", 12);
    p->len -= (size_t)(end + 4 - p->got);
    memmove(p->got, end + 4, p->len);
}

static int start(void **state)
{
    struct net_options net_options = {65536, 16 << 20, 64 << 20, 100, 100};
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
    options = (struct websocket_options){
        .max_message_bytes = 65536, .ping_ms = 10000, .close_ms = 100, .output_bytes = 16384, .max_subscriptions = 4};
    net = net_new(&net_options);
    http = http_new(&http_options, net);
    clients = clients_new();
    door = door_new(&door_options, NULL, &clients_sink_ops, clients);
    clients_attach(clients, door);
    websocket = websocket_new(&options, http, clients);
    assert_true(net && http && clients && door && websocket);
    net_timer_init(&tick, ticked, NULL);
    for (int i = 0; i < PEERS; i++)
        dial(&peers[i]);
    assert_int_equal(websocket_connections(websocket), PEERS);
    alarm(30);
    return 0;
}

static int stop(void **state)
{
    alarm(0);
    for (int i = 0; i < PEERS; i++)
        if (peers[i].fd >= 0)
            close(peers[i].fd);
    net_free(net);
    assert_int_equal(websocket_connections(websocket), 0);
    websocket_free(websocket);
    http_free(http);
    assert_int_equal(clients_count(clients), 0);
    clients_free(clients);
    door_free(door);
    return 0;
}

#define A (&peers[0])
#define B (&peers[1])

/* ---- requests to commands ------------------------------------------------------------------------------------------------- */

static void test_publish(void **state)
{
    struct record_view v;
    const struct command *c = &seen.last[COMMAND_PUBLISH];
    say(A, "{'op':'publish','id':9,'queue':'jobs','message':{'body':'x','priority':4},'sync':'interval'}");
    assert_string_equal(seen.queue, "jobs");
    assert_int_equal(c->u.publish.sync, BROKER_SYNC_INTERVAL);
    assert_false(c->u.publish.unroutable_ok);
    assert_int_equal(record_view_get(seen.records, c->u.publish.len, &v), BROKER_OK);
    assert_int_equal(v.head.priority, 4);
    stored(c->token, 12);
    expect(A, "{'op':'ok','id':9,'seq':12}");
    say(A, "{'op':'publish','id':10,'topic':'a.b','messages':[{'body':'1'},{'body':'2'}],'unroutable':'ok'}");
    assert_string_equal(seen.queue, "");
    assert_true(c->u.publish.unroutable_ok);
    assert_int_equal(c->u.publish.sync, BROKER_SYNC_DEFAULT);
    assert_true(seen.records[9] & RECORD_BY_TOPIC);
    struct publish_result r[] = {{.first_seq = 3, .count = 1, .routed = true},
                                 {.first_index = 1, .count = 1, .error = BROKER_QUEUE_FULL, .retry_ms = 50}};
    complete((struct completion){.type = COMMAND_PUBLISH, .token = c->token, .u.publish = {r, 2}});
    expect(A, "{'op':'ok','id':10,'results':[{'queues':3},{'code':'QUEUE_FULL','status':429,'text':'queue is full',"
              "'retry_ms':50}]}");
}

static void test_settle(void **state)
{
    const struct command *c = &seen.last[COMMAND_ACK];
    say(A, "{'op':'ack','id':1,'receipts':['5','6',7,'9','18446744073709551614']}");
    assert_int_equal(c->u.settle.count, 3);
    assert_int_equal(seen.ranges[0].first, 5);
    assert_int_equal(seen.ranges[0].count, 3);
    assert_int_equal(seen.ranges[1].first, 9);
    assert_true(seen.ranges[2].first == UINT64_MAX - 1);
    uint64_t stale[] = {6, UINT64_MAX - 1};
    complete((struct completion){.type = COMMAND_ACK, .token = c->token, .u.settle = {2, 3, stale, 2}});
    expect(A, "{'op':'ok','id':1,'settled':2,'stale_count':3,'stale':['6','18446744073709551614']}");
    say(A, "{'op':'nack','receipt':'1','delay_ms':70}");
    assert_int_equal(seen.last[COMMAND_NACK].u.settle.delay_ms, 70);
    assert_false(seen.last[COMMAND_NACK].u.settle.dead_letter);
    say(A, "{'op':'reject','receipt':'1'}");
    assert_true(seen.last[COMMAND_NACK].u.settle.dead_letter);
    say(A, "{'op':'extend','receipt':'1','lease_ms':9000}");
    assert_int_equal(seen.last[COMMAND_EXTEND].u.settle.lease_ms, 9000);
    static const char *const bad[] = {"''", "'1x'", "'-1'", "-1", "1.5", "'18446744073709551616'", "{}"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char text[100];
        snprintf(text, sizeof(text), "{'op':'ack','receipts':[%s]}", bad[i]);
        say(A, text);
        expect_error(A, "INVALID_ARGUMENT", "receipt");
    }
    assert_int_equal(seen.by_type[COMMAND_ACK], 1);
}

static void test_subscribe(void **state)
{
    const struct command *c = &seen.last[COMMAND_SUBSCRIBE], *credit = &seen.last[COMMAND_CREDIT];
    say(A, "{'op':'subscribe','id':1,'sub':4294967295,'queue':'jobs','group':'g','credit':5,'credit_bytes':77,'lease_"
           "ms':9,"
           "'max_unsettled':3,'priority':2,'ack':'on_send'}");
    assert_string_equal(seen.queue, "");
    assert_int_equal(c->token.stream, UINT32_MAX);
    assert_int_equal(c->u.subscribe.lease_ms, 9);
    assert_int_equal(c->u.subscribe.max_unsettled, 3);
    assert_int_equal(c->u.subscribe.priority, 2);
    assert_true(c->u.subscribe.settle_on_send);
    assert_int_equal(credit->u.credit.messages, 5);
    assert_int_equal(credit->u.credit.bytes, 77);
    complete_ok(COMMAND_SUBSCRIBE);
    expect(A, "{'op':'ok','id':1}");
    say(A, "{'op':'credit','sub':4294967295,'messages':8,'bytes':9}");
    assert_int_equal(credit->u.credit.messages, 8);
    assert_int_equal(credit->u.credit.bytes, 9);
    say(A, "{'op':'unsubscribe','id':2,'sub':4294967295}");
    complete_ok(COMMAND_UNSUBSCRIBE);
    expect(A, "{'op':'ok','id':2}");
    say(A, "{'op':'subscribe','id':3,'sub':1,'queue':'jobs','credit':1}");
    assert_false(c->u.subscribe.settle_on_send);
    assert_true(credit->u.credit.bytes == UINT64_MAX);
    complete((struct completion){
        .type = COMMAND_SUBSCRIBE, .token = c->token, .error = BROKER_QUEUE_NOT_FOUND, .text = "none"});
    expect_error(A, "QUEUE_NOT_FOUND", "'id':3");
    say(A, "{'op':'unsubscribe','id':4,'sub':1}");
    expect_error(A, "SUBSCRIPTION_NOT_FOUND", "'id':4");
}

static void test_transact(void **state)
{
    say(A, "{'op':'transact','id':1,'publish':[{'queue':'a','body':'1'},{'queue':'a','body':'2'},{'topic':'t.x','body':"
           "'3'}],"
           "'ack':[7,8],'nack':[{'receipts':[20],'delay_ms':4}]}");
    assert_int_equal(seen.last[COMMAND_TRANSACT].u.transact.count, 4);
    assert_int_equal(seen.parts[0].len, 2 * pad8(RECORD_HEAD_BYTES + 1));
    assert_int_equal(seen.parts[0].queue.len, 1);
    assert_int_equal(seen.parts[1].queue.len, 0);
    assert_int_equal(record_type_of(seen.records + seen.parts[0].len), RECORD_MESSAGE);
    assert_true(seen.records[seen.parts[0].len + 9] & RECORD_BY_TOPIC);
    assert_int_equal(seen.parts[2].kind, PART_ACK);
    assert_int_equal(seen.ranges[2].first, 7);
    assert_int_equal(seen.ranges[2].count, 2);
    assert_int_equal(seen.parts[3].kind, PART_NACK);
    assert_int_equal(seen.parts[3].delay_ms, 4);
    assert_int_equal(seen.ranges[3].first, 20);
    uint64_t seqs[] = {1, 2, 3};
    complete((struct completion){
        .type = COMMAND_TRANSACT, .token = seen.last[COMMAND_TRANSACT].token, .u.transact = {seqs, 3, true}});
    expect(A, "{'op':'ok','id':1,'seqs':[1,2,3],'duplicate':true}");
}

/* ---- what the engine says --------------------------------------------------------------------------------------------------- */

static void test_deliveries(void **state)
{
    struct stored_message m[2];
    uint32_t attempts[] = {1, 4};
    say(A, "{'op':'subscribe','sub':3,'queue':'jobs','credit':5}");
    complete_ok(COMMAND_SUBSCRIBE);
    uint8_t *one = record(8, "x", 1, &m[0]), *two = record(9, "\xff", 1, &m[1]);
    struct delivery d = {seen.last[COMMAND_SUBSCRIBE].token, 100, m, attempts, 2};
    assert_true(clients_sink_ops.deliver(clients, &d));
    expect(A,
           "{'op':'message','sub':3,'seq':8,'time':'1970-01-01T00:00:00.000Z','time_ms':0,'attempt':1,'receipt':'100',"
           "'body':'x'}");
    expect(A,
           "{'op':'message','sub':3,'seq':9,'time':'1970-01-01T00:00:00.000Z','time_ms':0,'attempt':4,'receipt':'101',"
           "'body_base64':'/w=='}");
    clients_sink_ops.ended(clients, d.token, BROKER_QUEUE_NOT_FOUND, "it was deleted");
    expect(A, "{'op':'ended','sub':3,'code':'QUEUE_NOT_FOUND','status':404,'text':'it was deleted'}");
    free(one);
    free(two);
}

/* A client that takes nothing: its subscriptions are held, its reads wait, and both go on when it does. */
static void test_full_output(void **state)
{
    static char body[8000];
    struct stored_message m;
    uint32_t attempt = 1;
    memset(body, 'b', sizeof(body));
    say(A, "{'op':'subscribe','sub':1,'queue':'jobs','credit':500}");
    complete_ok(COMMAND_SUBSCRIBE);
    say(A, "{'op':'subscribe','sub':2,'queue':'jobs','from':1}");
    answer_read(1, body, sizeof(body)); /* begun: and it asks on */
    assert_int_equal(seen.read_count, 1);
    uint8_t *r = record(5, body, sizeof(body), &m);
    struct delivery d = {seen.last[COMMAND_SUBSCRIBE].token, 100, &m, &attempt, 1};
    unsigned delivered = 0;
    while (clients_sink_ops.deliver(clients, &d)) {
        net_turn(net, false);
        assert_true(++delivered < 20);
    }
    answer_read(2, body, sizeof(body));
    assert_int_equal(seen.read_count, 0); /* not while it is full */
    assert_int_equal(seen.by_type[COMMAND_UNHOLD], 0);
    unsigned got = 0;
    while (seen.by_type[COMMAND_UNHOLD] == 0)
        got += strstr(hear(A), "'op':'message'") != NULL;
    turn();
    assert_int_equal(seen.read_count, 1);
    assert_int_equal(seen.last[COMMAND_READ].u.read.from_seq, 3);
    for (; got < delivered + 3; got++)
        assert_non_null(strstr(hear(A), "'op':'message'"));
    expect_silence(A);
    free(r);
}

/* The same frame to many, in one turn; what differs by subscription differs. */
static void test_frames_are_shared(void **state)
{
    struct stored_message m;
    for (int i = 0; i < PEERS; i++)
        say(&peers[i], i < 2 ? "{'op':'subscribe','sub':1,'queue':'jobs','from':'end'}"
                             : "{'op':'subscribe','sub':1025,'queue':'jobs','from':'end'}"); /* the same slot */
    assert_int_equal(seen.read_count, PEERS);
    assert_true(seen.last[COMMAND_READ].u.read.from_end);
    assert_int_equal(seen.last[COMMAND_READ].u.read.wait_ms, 0);
    for (int i = 0; i < PEERS; i++)
        answer_read(10, NULL, 0);
    assert_int_equal(seen.last[COMMAND_READ].u.read.from_seq, 10);
    assert_int_equal(seen.last[COMMAND_READ].u.read.wait_ms, READ_WAIT_FOREVER);
    uint8_t *r = record(10, "to all", 6, &m);
    struct lent_key key = {&ws_format_json, 10, 7, 1, false};
    size_t len, before = websocket->lender.memory.bytes;
    for (int i = 0; i < PEERS; i++) {
        struct completion done = {
            .type = COMMAND_READ, .token = seen.reads[i], .u.read = {&m, 1, 7, 11, 1, 10, false, false}};
        complete(done);
        assert_int_equal(lender_find(&websocket->lender, &key, &len) != NULL, i < 2); /* the third one took its slot */
    }
    assert_true(websocket->lender.memory.bytes <= before + 65536);
    net_turn(net, false);
    free(r); /* of an earlier turn: what was lent is not touched again */
    for (int i = 0; i < PEERS; i++)
        assert_non_null(strstr(hear(&peers[i]), i < 2 ? "'sub':1,'seq':10" : "'sub':1025,'seq':10"));
    assert_null(lender_find(&websocket->lender, &key, &len));
}

static void test_position_credit(void **state)
{
    say(A, "{'op':'subscribe','id':1,'sub':1,'queue':'jobs','from':1,'credit':1}");
    assert_int_equal(seen.last[COMMAND_READ].u.read.max_messages, 1);
    answer_read(1, "x", 1);
    expect(A, "{'op':'ok','id':1,'next':1,'first':1,'last':1}");
    assert_non_null(strstr(hear(A), "'seq':1"));
    assert_int_equal(seen.read_count, 0);
    say(A, "{'op':'credit','sub':1,'messages':100}");
    assert_int_equal(seen.read_count, 1);
    assert_int_equal(seen.last[COMMAND_READ].u.read.max_messages, BATCH_MESSAGES);
    say(A, "{'op':'credit','sub':1,'messages':100}");
    assert_int_equal(seen.read_count, 1); /* one at a time */
    say(A, "{'op':'unsubscribe','id':2,'sub':1}");
    expect(A, "{'op':'ok','id':2}");
    assert_int_equal(seen.closed_count, 1); /* its read waits no more */
    assert_true(seen.closed[0] == seen.reads[0].conn);
    complete((struct completion){
        .type = COMMAND_READ, .token = seen.reads[0], .error = BROKER_QUEUE_NOT_FOUND, .text = "x"});
    expect_silence(A);
}

static void test_too_many_outstanding(void **state)
{
    for (int i = 0; i < 1100; i++)
        say(A, "{'op':'publish','id':1,'queue':'q','message':{}}");
    assert_int_equal(seen.publish_count, OUTSTANDING_MAX);
    for (int i = 0; i < OUTSTANDING_MAX / 2 - 1; i++)
        stored(seen.publishes[i], 1);
    turn();
    assert_int_equal(seen.publish_count, OUTSTANDING_MAX);
    for (int i = OUTSTANDING_MAX / 2 - 1; i < OUTSTANDING_MAX; i++)
        stored(seen.publishes[i], 1);
    while (seen.publish_count < 1100)
        turn();
    for (int i = 0; i < OUTSTANDING_MAX; i++)
        expect(A, "{'op':'ok','id':1,'seq':1}");
}

/* ---- the end ------------------------------------------------------------------------------------------------------------------ */

static void test_close_lets_go(void **state)
{
    say(A, "{'op':'subscribe','sub':1,'queue':'jobs','credit':1}");
    complete_ok(COMMAND_SUBSCRIBE);
    say(A, "{'op':'subscribe','sub':2,'queue':'jobs','from':'end'}");
    uint32_t open = clients_count(clients);
    peer_frame(A, 0x88, "\x03\xe8 bye", 6);
    expect(A, "close 1000 ");
    assert_int_equal(seen.closed_count, 2); /* its reader's, and its own: what is leased goes back */
    assert_int_equal(clients_count(clients), open - 2);
    expect(A, "the end");
    close(A->fd);
    A->fd = -1;
}

static void test_goaway_waits_for_answers(void **state)
{
    say(A, "{'op':'publish','id':1,'queue':'q','message':{}}");
    say(B, "{'op':'request','id':2,'name':'lease','args':{'queue':'q','wait_ms':60000}}");
    http_goaway(http, "it stops");
    expect(B, "{'op':'goaway','text':'it stops'}");
    expect(B, "close 1001 it stops"); /* a wait is not waited for */
    expect(A, "{'op':'goaway','text':'it stops'}");
    expect_silence(A);
    stored(seen.publishes[0], 4);
    expect(A, "{'op':'ok','id':1,'seq':4}");
    expect(A, "close 1001 it stops");
    peer_frame(A, 0x88, "\x03\xe9", 2);
    expect(A, "the end");
    expect(B, "the end"); /* it did not answer in time */
}

static void test_late_answers_find_nobody(void **state)
{
    say(A, "{'op':'publish','id':1,'queue':'q','message':{}}");
    close(A->fd);
    A->fd = -1;
    while (websocket_connections(websocket) == PEERS)
        turn();
    stored(seen.publishes[0], 4);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, start, stop)
    const struct CMUnitTest tests[] = {
        T(test_publish),
        T(test_settle),
        T(test_subscribe),
        T(test_transact),
        T(test_deliveries),
        T(test_full_output),
        T(test_frames_are_shared),
        T(test_position_credit),
        T(test_too_many_outstanding),
        T(test_close_lets_go),
        T(test_goaway_waits_for_answers),
        T(test_late_answers_find_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
