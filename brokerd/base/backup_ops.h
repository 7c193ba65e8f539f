/*
 * Copying a data directory while the broker runs: what a front asks of whoever keeps the data. daemon.c brings the two
 * together; neither knows the other.
 *
 * A backup is one consistent picture: a checkpoint taken after `begin`, the segments it refers to, and the log up to it. The
 * files written as `listing` says, each of its full size (zeros from data_end on), are a data directory that a broker starts
 * from. While a backup is open none of its files is freed, and everything else goes on. There is one at a time; it ends by
 * `end`, or by itself when nothing was asked of it for BACKUP_IDLE_MS.
 */
#ifndef BACKUP_OPS_H
#define BACKUP_OPS_H

#include <broker/broker.h>
#include <stddef.h>
#include <stdint.h>

enum {
    BACKUP_READ_MAX_BYTES = 1 << 20, /* of one read; more is cut down to it */
    BACKUP_READS_MAX = 8,            /* under way at once */
    BACKUP_IDLE_MS = 60000
};

struct backup_file {
    const char *name;  /* in the data directory; no directories in it */
    uint64_t bytes;    /* the file's size */
    uint64_t data_end; /* what is to be read of it: from here on it is zeros */
};

struct backup_listing {
    const struct backup_file *files; /* the checkpoint last: a copy that was cut short does not start */
    uint32_t count;
    uint64_t data_bytes; /* all there is to read: the sum of data_end */
    uint64_t log_index;  /* of the batch after which it is the picture */
};

/* For whom: `conn` is the front's number of the connection (never reused). */
struct backup_asker {
    uint64_t conn;
    uint32_t correlation;
};

/*
 * Answers: exactly one for each begin and each read, on the loop, during the call (if it is refused) or later, also when the
 * asker is long gone. `arg` is that of the call and must live until then. text: for a failure, a sentence for the user;
 * everything is borrowed for the duration of the call.
 */
typedef void backup_begun(void *arg, struct backup_asker asker, broker_error error, const char *text,
                          const struct backup_listing *listing);
typedef void backup_bytes(void *arg, struct backup_asker asker, broker_error error, const char *text,
                          const uint8_t *bytes, size_t len);

struct backup_ops {
    /* LIMIT_REACHED: another one is open (its idle time is what to wait for). IO, NO_MEMORY, SHUTTING_DOWN. The backup belongs
       to asker.conn: nobody else reads it or ends it. */
    void (*begin)(void *backup, struct backup_asker asker, backup_begun *done, void *arg);
    /* Bytes of file `file` of the listing from `offset` on, up to max_bytes, BACKUP_READ_MAX_BYTES or data_end; none at
       data_end. REFUSED: asker.conn has no backup open, or not any more. INVALID_ARGUMENT: no such file, offset behind data_end, or
       max_bytes 0. OVERLOADED: BACKUP_READS_MAX are under way. IO, NO_MEMORY. */
    void (*read)(void *backup, struct backup_asker asker, uint32_t file, uint64_t offset, uint32_t max_bytes,
                 backup_bytes *done, void *arg);
    /* The backup of this connection, if it has one, is over: to be called when the connection ends, too. A begin that was not
       answered yet is answered CANCELLED. REFUSED: it has none. */
    broker_error (*end)(void *backup, uint64_t conn);
};

#endif
