/*
 * transaction: consume, transform, produce: each line of one queue goes to another in capitals. The acknowledgement of what was
 * read and the publishing of what was made of it are one step: a crash at any moment loses nothing and doubles nothing.
 *
 *     cc transaction.c $(pkg-config --cflags --libs libbroker) -o transaction
 *     BROKER_URL=broker://127.0.0.1:7440 ./transaction lines capitals
 */
#include <broker/broker.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    IN_ONE = 100
}; /* messages that share a transaction: fewer waits for the disk, more to do again after a failure */

static broker_error transform(broker_transaction *t, const char *queue, const broker_msg *m)
{
    broker_message out = BROKER_OPTIONS_INIT(broker_message);
    size_t len;
    const char *in = broker_msg_body(m, &len);
    char *capitals = malloc(len + 1);

    if (!capitals)
        return BROKER_NO_MEMORY;
    for (size_t i = 0; i < len; i++)
        capitals[i] = (char)toupper((unsigned char)in[i]);
    out.body = capitals;
    out.body_len = len;
    broker_error error = broker_transaction_publish(t, queue, &out); /* copies it */
    free(capitals);
    return error != BROKER_OK ? error : broker_transaction_ack(t, m);
}

/* Up to IN_ONE messages, then one commit. TIMEOUT: none came for a second. */
static broker_error step(broker *b, broker_subscription *s, const char *queue, unsigned long *done)
{
    broker_transaction *t;
    const broker_msg *m;
    unsigned n = 0;
    broker_error error = broker_receive(s, 1000, &m); /* the first is waited for, the rest as far as they are there */

    if (error != BROKER_OK)
        return error;
    error = broker_transaction_begin(b, &t);
    while (error == BROKER_OK) {
        error = transform(t, queue, m);
        if (error != BROKER_OK || ++n == IN_ONE || broker_receive(s, 0, &m) != BROKER_OK)
            break;
    }
    if (error != BROKER_OK) {
        broker_transaction_abort(t); /* nothing was sent; what was received comes again when its lease is over */
        return error;
    }
    error = broker_transaction_commit(t, NULL, NULL);
    if (error == BROKER_OK)
        *done += n;
    return error;
}

int main(int argc, char **argv)
{
    const char *from = argc > 1 ? argv[1] : "lines", *to = argc > 2 ? argv[2] : "capitals";
    unsigned long done = 0;
    broker_subscription *s;
    broker *b;

    if (broker_open(&b, NULL) != BROKER_OK) {
        fprintf(stderr, "%s\n", broker_error_text(NULL));
        return 1;
    }
    broker_error error = broker_queue_create(b, from, NULL);
    if (error == BROKER_OK)
        error = broker_queue_create(b, to, NULL);
    if (error == BROKER_OK)
        error = broker_subscribe(b, from, NULL, NULL, NULL, NULL, &s); /* acks are ours to give */
    while (error == BROKER_OK) {
        error = step(b, s, to, &done);
        /* After a lost connection or a lease that ran out the same messages come again: nothing of the step has happened, or
           all of it and the broker knows. */
        if (error == BROKER_STALE_RECEIPT || error == BROKER_CONNECTION_LOST)
            error = BROKER_OK;
    }
    if (error != BROKER_TIMEOUT)
        fprintf(stderr, "%s\n", broker_error_text(b));
    printf("%lu messages transformed\n", done);
    broker_close(b);
    return error == BROKER_TIMEOUT ? 0 : 1;
}
