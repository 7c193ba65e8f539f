/*
 * libbroker against a broker that says anything: the input is what the broker sends, an answer at a time as the client asks
 * for something, and then the end of the connection. The client must come back from every call, with an error or not.
 */
#include <broker/broker.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "fuzz.h"

static char folder[] = "/tmp/broker-fuzz-XXXXXX", path[64], url[80];
static int listener = -1;

static void clean_up(void)
{
    unlink(path);
    rmdir(folder);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};

    if (!mkdtemp(folder))
        abort();
    snprintf(path, sizeof(path), "%s/socket", folder);
    snprintf(url, sizeof(url), "unix:%s", path);
    snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&a, sizeof(a)) != 0 || listen(listener, 8) != 0)
        abort();
    atexit(clean_up);
    return 0;
}

/* HELLO's answer, as a fuzzer would take long to find: {"server": "x", "max_frame": 1 MiB, "max_message": 1 MiB}. */
static const uint8_t welcome[] = "\x31\0\0\0\x81\0\0\0\1\0\0\0\0\0\0\0\x84\xa6server\xa1x\xa9max_"
                                 "frame\xce\0\x10\0\0\xabmax_message\xce\0\x10\0\0\xa5"
                                 "epoch\x01";

static bool on_queue(void *arg, const broker_queue_info *q)
{
    CHECK(q->name && strlen(q->name) < 70000);
    return true;
}

/* Touch every byte: ASan sees what does not belong to the message. */
static void touch(const void *bytes, size_t len)
{
    uint8_t sum = 0;
    for (size_t i = 0; i < len; i++)
        sum ^= ((const uint8_t *)bytes)[i];
    __asm__ volatile("" : : "r"(sum));
}

static bool on_group(void *arg, const broker_group_info *g)
{
    const broker_filter *f = &g->settings.filter;

    CHECK(g->name && g->queue);
    touch(f->topic, f->topic ? strlen(f->topic) : 0);
    touch(f->key, f->key ? strlen(f->key) : 0);
    for (size_t i = 0; i < f->header_count; i++) {
        touch(f->headers[i].name, strlen(f->headers[i].name));
        touch(f->headers[i].value, strlen(f->headers[i].value));
    }
    return true;
}

static bool on_pattern(void *arg, const char *pattern)
{
    touch(pattern, strlen(pattern));
    return true;
}

static bool on_header(void *arg, const char *name, size_t name_len, const char *value, size_t value_len)
{
    touch(name, name_len);
    touch(value, value_len);
    return true;
}

static void look_at(const broker_msg *m)
{
    size_t len = 0;
    const void *bytes = broker_msg_body(m, &len);

    touch(bytes, len);
    bytes = broker_msg_key(m, &len);
    touch(bytes, bytes ? len : 0);
    bytes = broker_msg_topic(m, &len);
    touch(bytes, len);
    bytes = broker_msg_id(m, &len);
    touch(bytes, len);
    CHECK(broker_msg_priority(m) <= 9);
    broker_msg_each_header(m, on_header, NULL);
    (void)broker_msg_header(m, "a", &len);
    (void)broker_msg_raw_headers(m, &len);
    broker_msg *kept = broker_msg_keep(m);
    CHECK(!kept || (broker_msg_seq(kept) == broker_msg_seq(m) && broker_msg_attempt(kept) == broker_msg_attempt(m)));
    broker_msg_free(kept);
}

static void on_message(void *arg, broker_subscription *s, const broker_msg *m)
{
    look_at(m);
}

static unsigned confirms;

static void on_confirm(void *arg, broker_error error, const broker_publish_result *result)
{
    confirms++;
    CHECK(error != BROKER_OK || result);
}

static void publish_some(broker *b, unsigned count)
{
    broker_message m = BROKER_OPTIONS_INIT(broker_message);

    confirms = 0;
    for (unsigned i = 0; i < count; i++) {
        m.body = "hello";
        m.body_len = i % 6;
        CHECK(broker_publish_async(b, "q", &m, NULL, on_confirm, NULL) == BROKER_OK);
    }
    (void)broker_flush(b);
}

static void consume_some(broker *b)
{
    broker_subscribe_options o = BROKER_OPTIONS_INIT(broker_subscribe_options);
    broker_subscription *s = NULL;
    const broker_msg *m;

    o.ack = BROKER_ACK_MANUAL;
    if (broker_subscribe(b, "q", &o, NULL, NULL, NULL, &s) != BROKER_OK)
        return;
    for (int i = 0; i < 64 && broker_receive(s, 100, &m) == BROKER_OK; i++) {
        look_at(m);
        if (i % 3 == 0)
            broker_nack(b, m, 5);
        else
            broker_ack(b, m);
    }
    (void)broker_flush(b);
    (void)broker_unsubscribe(s);
}

static void administer(broker *b)
{
    broker_stats stats = BROKER_OPTIONS_INIT(broker_stats);
    uint64_t number = 0;

    (void)broker_queue_list(b, "", on_queue, NULL);
    (void)broker_queue_describe(b, "q", on_queue, on_group, NULL);
    (void)broker_get_stats(b, &stats);
    CHECK(memchr(stats.version, '\0', sizeof(stats.version)));
    (void)broker_queue_purge(b, "q", &number);
    (void)broker_ping(b, &number);
    (void)broker_queue_bindings(b, "q", on_pattern, NULL);
}

static void transact(broker *b)
{
    broker_message m = {.size = sizeof(m), .topic = "a.b", .body = "hello", .body_len = 5};
    broker_transaction *t;
    uint64_t seqs[2];

    CHECK(broker_transaction_begin(b, &t) == BROKER_OK);
    CHECK(broker_transaction_publish(t, "q", &m) == BROKER_OK);
    CHECK(broker_transaction_publish(t, NULL, &m) == BROKER_OK);
    (void)broker_transaction_commit(t, NULL, seqs);
}

static bool on_peeked(void *arg, const broker_msg *m)
{
    look_at(m);
    return true;
}

static bool on_step(void *arg, const broker_scan_result *so_far)
{
    return so_far->matched < 1000;
}

static void look_around(broker *b)
{
    broker_scan_result result;

    (void)broker_peek(b, "q", NULL, on_peeked, NULL, &result);
    (void)broker_scan(b, "q", BROKER_SCAN_COUNT, NULL, on_step, NULL, &result);
}

/* Of a copy that failed nothing is left; one that is said to be good can be removed file by file. */
static void back_up(broker *b)
{
    char copy[64], command[80];
    bool good;

    snprintf(copy, sizeof(copy), "%s/copy", folder);
    good = broker_backup(b, copy, NULL, NULL) == BROKER_OK;
    CHECK(good == (access(copy, F_OK) == 0));
    snprintf(command, sizeof(command), "rm -r %s", copy);
    CHECK(!good || system(command) == 0);
}

static void use(broker *b, unsigned how)
{
    uint32_t count = 0;

    if (how >= 96) {
        static void (*const more[])(broker *) = {transact, look_around, back_up};
        more[how % 3](b);
        return;
    }
    switch (how % 5) {
    case 0: publish_some(b, 1 + how / 5 % 8); break;
    case 1: consume_some(b); break;
    case 2: (void)broker_lease(b, "q", NULL, 10, 0, 100, on_message, NULL, &count); break;
    case 3: administer(b); break;
    default:
        (void)broker_ack_receipt(b, 7);
        (void)broker_nack_receipt(b, 8, 0);
        break;
    }
}

/* ---- the broker's side ------------------------------------------------------------------------------------------------ */

enum { PATIENCE_MS = 20, FRAME_HEAD = 16, TYPE = 4, RESPONSE = 0x80, CREDIT = 0x40, CREDIT_BYTES = 32 };

struct peer {
    int fd;
    bool greet;
    struct input in;
    pthread_t thread;
};

/* How much to send at once: an answer and the one-way frames around it; broken ones and what follows them all at once. */
static size_t next_chunk(const struct input *in)
{
    size_t at = 0;
    bool answered = false;

    while (in->len - at >= FRAME_HEAD) {
        const uint8_t *head = in->bytes + at;
        size_t body = head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 | (size_t)head[3] << 24;
        if (body > in->len - at - FRAME_HEAD)
            return in->len;
        if (answered && (head[TYPE] & RESPONSE))
            return at;
        answered |= head[TYPE] & RESPONSE;
        at += FRAME_HEAD + body;
    }
    return in->len;
}

/* Wait for the client to ask something, and read it all; false: it says nothing more. Credit alone asks for nothing. */
static bool hear(struct peer *p)
{
    uint8_t bytes[4096];
    struct pollfd pfd = {p->fd, POLLIN, 0};
    ptrdiff_t n;

    do
        n = poll(&pfd, 1, PATIENCE_MS) == 1 ? recv(p->fd, bytes, sizeof(bytes), MSG_DONTWAIT) : 0;
    while (n == CREDIT_BYTES && bytes[TYPE] == CREDIT);
    return n > 0;
}

static bool say(struct peer *p, const uint8_t *bytes, size_t len)
{
    return send(p->fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)len;
}

static void *talk(void *arg)
{
    struct peer *p = arg;
    bool open = hear(p) && (!p->greet || say(p, welcome, sizeof(welcome) - 1));

    while (open && p->in.len > 0) {
        if (p->greet)
            hear(p);
        size_t n = next_chunk(&p->in);
        open = say(p, p->in.bytes, n);
        p->in.bytes += n;
        p->in.len -= n;
        p->greet = true;
    }
    shutdown(p->fd, SHUT_WR);
    return NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct peer peer = {.in = {bytes, len}};
    uint8_t how = (uint8_t)input_number(&peer.in, 1);
    broker_options o = BROKER_OPTIONS_INIT(broker_options);
    broker *b = NULL;

    if (peer.in.len > 60000) /* what a socket's buffer takes in one go */
        return 0;
    o.url = url;
    o.no_reconnect = true;
    o.timeout_ms = 2000;
    o.max_message_bytes = 1 << 20;
    if (broker_open(&b, &o) != BROKER_OK)
        return 0;
    peer.fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    peer.greet = !(how & 0x80);
    if (peer.fd < 0 || pthread_create(&peer.thread, NULL, talk, &peer) != 0)
        abort();
    use(b, how & 0x7f);
    CHECK(broker_error_text(b));
    broker_close(b);
    pthread_join(peer.thread, NULL);
    close(peer.fd);
    return 0;
}
