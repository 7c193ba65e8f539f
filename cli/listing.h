/*
 * Owns:            how queues and groups look on standard output.
 * May use:         cli.h.
 * Never knows:     who asks.
 * Start reading at listing_begin.
 */
#ifndef CLI_LISTING_H
#define CLI_LISTING_H

#include "cli.h"

struct listing {
    struct cli *cli;
    struct text out;
    struct json json;
    bool as_json;
    size_t rows;
};

/* listing_begin: with --json, open the bracket; listing_end closes it and prints. */
void listing_begin(struct listing *l, struct cli *cli, char bracket);
enum cli_exit listing_end(struct listing *l, char bracket);

/* Callbacks of broker_queue_list and broker_queue_describe; arg is the listing. */
bool listing_queue(void *arg, const broker_queue_info *q);
bool listing_queue_at_length(void *arg, const broker_queue_info *q); /* leaves the JSON array "groups" open */
bool listing_group(void *arg, const broker_group_info *g);

#endif
