/*
 * Owns:            one run of `broker pub`, and telling what came of it.
 * May use:         cli.h, pub_message.
 * Never knows:     other commands.
 * Start reading at struct pub.
 */
#ifndef CLI_PUB_H
#define CLI_PUB_H

#include "pub_message.h"

struct pub_options {
    struct arg_list files, also;
    struct message_options message;
    struct arg_number window, max_bytes;
    int sync;
    bool lines, null, whole, create, quiet, unroutable_ok, atomic;
};

/* One run: what goes out, and what came back. */
struct pub {
    struct cli *cli;
    const struct pub_options *options;
    const char *queue; /* NULL: by topic */
    struct message_builder builder;
    broker_transaction *transaction; /* being filled; NULL: none */
    uint64_t transaction_messages;   /* in it, each of them to every queue */
    uint64_t queues;                 /* by topic: reached, all messages together */
    uint64_t sent, confirmed, refused, duplicates, bytes;
    uint64_t first_seq, last_seq;
    uint64_t start_ns, progress_ns, last_answer_ns;
    broker_error error;    /* the first one */
    char error_text[512];  /* and what the broker said */
    uint64_t error_number; /* of the message that got it, from 1 */
    const char *source;    /* being read: a file's name, "standard input", or NULL: the argument */
    uint64_t source_begin; /* `sent` when it began */
    bool draws_progress;
};

void pub_report(struct pub *p);
enum cli_exit pub_report_failure(struct pub *p);

#endif
