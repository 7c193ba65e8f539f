/* A scan under way: what scan_command.c makes of COMMAND_SCAN and scan.c works on. */
#ifndef ENGINE_SCAN_H
#define ENGINE_SCAN_H

#include "engine_internal.h"

struct scan {
    TAILQ_ENTRY(scan) link; /* engine->scans; those that had their turn go to the end */
    struct token token;
    struct queue *queue;
    enum scan_action action;
    broker_scan_state state;
    uint64_t at, end; /* seqs still to look at */
    uint64_t from_ms, to_ms;
    struct filter *filter; /* owned */
    uint32_t max_messages, max_scanned;
    uint64_t max_bytes;
    uint64_t matched, skipped, scanned;
    uint64_t index; /* batch of the last change */
    bool reading;   /* a read is pending */
    bool over;      /* only its answer is missing */
    size_t target_len;
    char target[]; /* a queue's name */
};

#endif
