/* A front over socket pairs, with a double for the engine that notes commands and answers as the test says; and a client by
   hand. Shared by the tests of this folder, which include cmocka.h first. */
#ifndef FRONT_TCP_RIG_H
#define FRONT_TCP_RIG_H

#include "front_internal.h"

struct seen {
    unsigned count, by_type[COMMAND_TYPES];
    struct command last;
    char queue[300], group[300], text[300]; /* text: a pattern, or a target */
    uint8_t records[4096];
    struct receipt_range ranges[16];
    struct transact_part parts[16];
    broker_queue_settings settings;
    char dead_letter[300];
    broker_group_settings group_settings;
    char filter[400]; /* of a group or a scan, as "topic|key|name=value,name=value" */
    bool answer;      /* at once, with success */
};
extern struct seen seen;
extern struct net *net;
extern struct front_tcp *front;
extern struct clients *clients;
extern struct door *door;
extern struct net_timer tick;
extern struct front_tcp_options options;
extern struct front_tcp_host host;
extern int fd;
extern size_t got_len;
extern uint8_t got[];

void answer_ok(const struct command *c);

void turn(bool wait);
void turns(int n);
void put(const void *bytes, size_t n);
void put_frame(uint8_t type, uint32_t correlation, uint32_t stream, const void *body, uint32_t len);
void put_flags(uint8_t type, uint8_t flags, uint32_t correlation, const void *body, uint32_t len);
void put_map(uint8_t type, uint32_t correlation, uint32_t stream, const char *hex);
/* A map as text: {'queue': 'jobs', 'max': 3, 'ok': true, 'filter': {}, 'list': []}; no escapes, no negative numbers. */
void put_text(uint8_t type, uint32_t correlation, uint32_t stream, const char *text);
/* The next frame that comes; its body is at *body until the next call. */
struct frame_head next_frame(const uint8_t **body);
void expect_answer(uint8_t type, uint32_t correlation);
void expect_error(uint32_t correlation, broker_error code, const char *scope, const char *says);
void expect_end(void); /* the broker closes */
extern const uint8_t PREAMBLE[8];
void greet(void);
void dial(void);

int start(void **state);
int stop(void **state);
int again(void **state); /* with the options as the test has changed them */

#endif
