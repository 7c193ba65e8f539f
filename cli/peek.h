/*
 * Owns:            looking at messages of a queue without leasing them, and printing them.
 * May use:         cli.h, selection, sub_format.
 * Never knows:     why one looks.
 * Start reading at peek_print.
 */
#ifndef CLI_PEEK_H
#define CLI_PEEK_H

#include "selection.h"
#include "sub_format.h"

struct peek_job {
    const char *queue;
    uint64_t count; /* most messages; UINT64_MAX: all */
    enum message_style style;
    /* NULL: as the style says; else it writes a line of MESSAGE_LONG */
    void (*line)(struct text *out, const broker_msg *m);
};

/* peek_print: to standard output, in order of seq. Exit code 4 if there is none. */
enum cli_exit peek_print(struct cli *cli, const struct peek_job *job, struct selection *s);

#define PEEK_STYLES "raw|json|long"

#endif
