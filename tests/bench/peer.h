/*
 * Owns:            what the drivers of other brokers share: options, a buffered connection, the window, the report.
 * May use:         cli_parts.
 * Never knows:     any of the protocols.
 * Start reading at struct peer.
 */
#ifndef BENCH_PEER_H
#define BENCH_PEER_H

#include "args.h"
#include "histogram.h"
#include "machine.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PEER_INPUT_BYTES ((size_t)8 << 20)
#define PEER_WINDOW_MAX  32768u

struct peer_options {
    struct arg_number port, pid, size, window, seconds_ms, warmup_ms, count, batch;
    int mode;
    bool json, help;
};
enum peer_mode { PEER_PUB = 1, PEER_SUB };

struct peer { /* one connection; any failure ends the program with a sentence */
    int fd;
    uint8_t *input;
    size_t have, taken; /* input[taken..have) is unread */
};

struct peer_options peer_parse(int argc, char **argv);
struct peer peer_connect(const struct peer_options *o);
void peer_close(struct peer *p);
void peer_send(struct peer *p, const void *bytes, size_t len);
void peer_receive(struct peer *p); /* waits for at least a byte more */
__attribute__((noreturn, format(printf, 1, 2))) void peer_die(const char *format, ...);

/*
 * Publishing in lockstep: `send` puts `count` messages on the way; `confirms` says how many of the input's answers
 * are whole, and takes them.
 */
struct peer_publisher {
    struct peer *peer;
    void (*send)(struct peer_publisher *p, uint32_t count);
    uint32_t (*confirms)(struct peer_publisher *p);
    void *arg;
    uint32_t window;
    uint64_t confirmed, sent;
    struct {
        uint64_t sent_ns;
        uint32_t left;
    } sends[PEER_WINDOW_MAX];
    uint32_t first, end;
    struct histogram latency;
};
/* Until `count` are confirmed or duration_ns is over (what is under way is waited for). */
void peer_publish(struct peer_publisher *p, uint64_t count, uint64_t duration_ns);

struct peer_result {
    uint64_t messages, start_ns, client_cpu_us, server_cpu_us;
};
struct peer_result peer_begin(const struct peer_options *o);
/* Prints the line: the rate from peer_begin to now. */
void peer_report(const struct peer_options *o, const char *name, const struct peer_result *begin, uint64_t messages,
                 const struct histogram *latency);

#endif
