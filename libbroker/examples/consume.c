/*
 * consume: print the messages of a queue, one a line, and acknowledge each after it was printed; end when none came for a second.
 *
 *     cc consume.c $(pkg-config --cflags --libs libbroker) -o consume
 *     BROKER_URL=broker://127.0.0.1:7440 ./consume jobs
 */
#include <broker/broker.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    const char *queue = argc > 1 ? argv[1] : "jobs";
    const broker_msg *m;
    broker_subscription *s;
    broker *b;

    if (broker_open(&b, NULL) != BROKER_OK) {
        fprintf(stderr, "%s\n", broker_error_text(NULL));
        return 1;
    }
    broker_subscribe_options options = BROKER_OPTIONS_INIT(broker_subscribe_options);
    options.ack = BROKER_ACK_MANUAL;
    broker_error error = broker_subscribe(b, queue, &options, NULL, NULL, NULL, &s);
    while (error == BROKER_OK && (error = broker_receive(s, 1000, &m)) == BROKER_OK) {
        size_t len;
        const char *body = broker_msg_body(m, &len);
        printf("%llu %.*s\n", (unsigned long long)broker_msg_seq(m), (int)len, body);
        error = broker_ack(b, m); /* goes out soon, merged with its neighbours */
    }
    if (error == BROKER_TIMEOUT) /* nothing came: the acks must be on disk before we go */
        error = broker_flush(b);
    if (error != BROKER_OK)
        fprintf(stderr, "%s\n", broker_error_text(b));
    broker_close(b);
    return error == BROKER_OK ? 0 : 1;
}
