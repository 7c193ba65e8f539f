/* The REST front over HTTP over a socket pair, with a double for the engine that notes commands and answers as the test says;
   and a client by hand. */
#ifndef REST_RIG_H
#define REST_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rest_internal.h"

struct seen {
    unsigned count, by_type[COMMAND_TYPES];
    struct command last;
    char queue[300], group[300];
    char filter[400];      /* of a read or a scan, as "topic|key|name=value,name=value" */
    uint8_t records[8192]; /* of the last publish, or of all publishes of a transaction */
    size_t records_len;
    struct receipt_range ranges[64];
    struct transact_part parts[64];
    char part_queues[64][64];
};
extern struct seen seen;
extern struct net *net;
extern struct http *http;
extern struct clients *clients;
extern struct door *door;
extern struct rest *rest;
extern struct rest_options options;

int start(void **state);
int stop(void **state);

extern int fd;
void dial(void); /* another client; the one before is closed */
void turn(bool wait);
void turns(int n);
void put(const char *text);
/* "POST", a path, fields as "Name: value\r\n…", a body: one request. */
void request(const char *method, const char *path, const char *fields, const char *body);
void request_bytes(const char *method, const char *path, const char *fields, const void *body, size_t len);
/* The next response: its status; head and body at these until the next one. */
int response(void);
extern char head[65536], body[1 << 20];
extern size_t body_len;
extern bool no_body;                 /* the next response is one to HEAD */
extern bool not_reading;             /* the client takes nothing */
const char *field(const char *name); /* of the last response; NULL: it has none */
void expect(int status, const char *the_body);
/* A problem with this status, whose detail has these words. */
void expect_problem(int status, const char *words);
void expect_silence(void);

/* Answer the last command. */
void answer(struct completion done);
void answer_error(broker_error error, const char *text);
void answer_published(uint64_t seq);
/* The i-th record of seen.records, taken apart. */
struct record_view record_at(unsigned i);
/* A record as the store has it, with this seq; kept until the next test. */
struct stored_message stored(uint64_t seq, struct record_spec spec);
/* As msgpack: {"name": "value"} …; NULL ends the list. */
struct record_spec with_headers(struct record_spec spec, ...);

#endif
