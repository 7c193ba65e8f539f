/*
 * A broker for the client's tests, driven by hand: it listens on 127.0.0.1 or a unix socket, and does what the test says, byte by
 * byte if need be. In the hand-driven tests it shares the thread with the client; for blocking calls fake_start runs a
 * script in a thread of its own.
 */
#ifndef FAKE_BROKER_H
#define FAKE_BROKER_H

#include <pthread.h>

#include "client_internal.h"

struct fake {
    int listener, conn; /* conn -1: none */
    char url[128], unix_path[64];
    uint8_t *in; /* received and not yet taken */
    size_t in_len, in_cap;
    uint32_t heartbeat_ms, max_frame; /* what HELLO is answered with */
    pthread_t thread;
    void (*script)(struct fake *f);
};

struct fake_frame {
    struct frame_head head;
    uint8_t *body; /* owned: fake_frame_free */
};

void fake_open(struct fake *f);
void fake_open_unix(struct fake *f);
void fake_close(struct fake *f);

/* Each of these drives the client `b` (NULL: it runs in another thread) until the thing has happened, or fails the test after 10 s. */
void fake_accept(struct fake *f, broker *b); /* takes the connection and its preamble */
struct fake_frame fake_expect(struct fake *f, broker *b, uint8_t type);
void fake_greet(struct fake *f, broker *b);  /* accept, HELLO, its answer */
bool fake_closed(struct fake *f, broker *b); /* waits until the client has closed; what came before is dropped */
void fake_frame_free(struct fake_frame *frame);
/* Takes a request whose body must be this map, as msgpack prints it: {"queue"=>"jobs"}; fails the test with both texts. */
struct fake_frame fake_expect_map(struct fake *f, broker *b, uint8_t type, const char *map);
/* fake_expect_map, answered {}. */
void fake_expect_call(struct fake *f, broker *b, uint8_t type, const char *map);

void fake_send_bytes(struct fake *f, const void *bytes, size_t len);
void fake_send(struct fake *f, uint8_t type, uint32_t correlation, uint32_t stream, const void *body, size_t len);
void fake_send_hello(struct fake *f, uint32_t correlation);
void fake_send_error(struct fake *f, uint32_t correlation, broker_error code, const char *text, const char *scope);
void fake_answer_publish(struct fake *f, const struct fake_frame *frame, uint64_t first_seq);
void fake_answer_empty(struct fake *f, const struct fake_frame *frame); /* {} */
void fake_answer_settle(struct fake *f, const struct fake_frame *frame, uint32_t settled, uint32_t stale);
/* One DELIVER of `count` messages with bodies "m<seq>", seqs from first_seq, receipts from first_receipt. */
void fake_deliver(struct fake *f, uint32_t stream, uint64_t first_receipt, uint64_t first_seq, uint32_t count);
void fake_drop(struct fake *f); /* closes the connection */

/* The records of a PUBLISH: how many, and the producer's number of the first and the last. */
uint32_t fake_publish_records(const struct fake_frame *frame, uint64_t *first_number, uint64_t *last_number);

/* One turn of the client: it waits up to 50 ms for something to happen. */
void fake_turn(struct fake *f, broker *b);

/* fake_start: run the script in a thread; fake_join waits for its end. */
void fake_start(struct fake *f, void (*script)(struct fake *f));
void fake_join(struct fake *f);

broker *client_open(struct fake *f,
                    const broker_options *options); /* options->url is set; the rest as given, or default */

#endif
