/*
 * publish: send each line of standard input to a queue, pipelined, and say how many are on disk.
 *
 *     cc publish.c $(pkg-config --cflags --libs libbroker) -o publish
 *     seq 1000 | BROKER_URL=broker://127.0.0.1:7440 ./publish jobs
 */
#include <broker/broker.h>
#include <stdio.h>

static void on_confirm(void *arg, broker_error error, const broker_publish_result *result)
{
    unsigned long *confirmed = arg;

    if (error == BROKER_OK)
        ++*confirmed; /* result->seq is its place in the queue */
    else
        fprintf(stderr, "a message was refused: %s\n", broker_strerror(error));
}

int main(int argc, char **argv)
{
    const char *queue = argc > 1 ? argv[1] : "jobs";
    unsigned long confirmed = 0, given = 0;
    char line[65536];
    broker *b;

    if (broker_open(&b, NULL) != BROKER_OK) { /* NULL: the options' defaults, and BROKER_URL */
        fprintf(stderr, "%s\n", broker_error_text(NULL));
        return 1;
    }
    broker_error error = broker_queue_create(b, queue, NULL); /* fine if it exists */
    while (error == BROKER_OK && fgets(line, sizeof(line), stdin)) {
        broker_message m = BROKER_OPTIONS_INIT(broker_message);
        m.body = line;
        while (m.body_len < sizeof(line) && line[m.body_len] != '\0' && line[m.body_len] != '\n')
            m.body_len++;
        /* Returns at once; the library makes frames of many messages by itself. A full outbox: let confirms come in. */
        while ((error = broker_publish_async(b, queue, &m, NULL, on_confirm, &confirmed)) == BROKER_OUTBOX_FULL) {
            if (broker_wait(b, -1) != BROKER_OK)
                break;
        }
        given++;
    }
    if (error == BROKER_OK)
        error = broker_flush(b);
    if (error != BROKER_OK)
        fprintf(stderr, "%s\n", broker_error_text(b));
    printf("%lu of %lu messages are on disk\n", confirmed, given);
    broker_close(b);
    return error == BROKER_OK && confirmed == given ? 0 : 1;
}
