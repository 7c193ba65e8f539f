/* An HTTP front over a socket pair, with a few handlers, and a client by hand. */
#ifndef HTTP_RIG_H
#define HTTP_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "http.h"

extern struct net *net;
extern struct http *http;
extern struct http_options options; /* of the next start */
extern size_t read_buffer_bytes;

/* What the handlers saw:
     GET /hello: 200 "hello"; POST /echo: 200 with the body; GET /none: 204; GET /q/{queue}/m/{seq}: 200 "queue|seq|query";
     GET /keep/{name}, POST /keep/{name}: kept until kept_answer; GET /big: 200 of `big` bytes; GET /stream: kept, chunked by hand;
     GET /take: taken over; PUT /small: at most 10 bytes of body; GET /ui/<any rest>: the path */
struct kept {
    char name[32];
    struct http_exchange *x;
    unsigned gone, drained, sent_all, sent_not;
};
extern struct kept kept[128];
extern unsigned kept_count;
extern bool want_sent;
extern size_t big;
extern unsigned handled; /* calls of handlers */
extern char seen[65536]; /* the last body */
extern size_t seen_len;

struct taken { /* the last connection that was taken over */
    struct net_conn *conn;
    char input[4096];
    size_t input_len;
    unsigned closed, drained, goaway, stalled;
};
extern struct taken taken;

struct kept *kept_by(const char *name);               /* the last of that name */
void kept_answer(const char *name, const char *body); /* 200 */

int start(void **state);
int stop(void **state);
void again(void); /* with the options as the test has changed them */

extern int fd; /* the client's end */
extern char got[1 << 22];
extern size_t got_len;

void dial(void);
void turn(bool wait); /* of the loop; what came is appended to `got` */
void turns(int n);
void turn_unread(void); /* one that waits, with nothing received */
void put(const char *text);
void put_bytes(const void *bytes, size_t n);
/* The first response in `got` is complete and taken off it: its status; body and head at these until the next call. */
int response(void);
extern char head[65536], *body;
extern size_t body_len;
bool has_field(const char *line); /* of the last response's head, e.g. "Connection: close" */
void expect(int status, const char *the_body);
void expect_end(void);           /* the broker closes, and nothing else comes */
void expect_end_of_socket(void); /* the same, with other connections still there */
void expect_silence(void);
void request_head(const char *text); /* put, for one that is answered without a body: HEAD */

#endif
