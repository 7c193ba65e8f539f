/*
 * Owns:            what the broker says of itself: /v1/stats (JSON and SSE), /metrics (Prometheus), /healthz, /readyz,
 *                  /v1/version; and the rates, which it computes from two looks at the counters.
 * May use:         http, sse (the event writer), door (clients), forms, net, base.
 * Never knows:     what is behind the numbers; the engine and the store hand in structs.
 * Start reading at metrics.c: the routes; then sample.c.
 */
#ifndef METRICS_H
#define METRICS_H

#include "clients.h"
#include "histogram.h"
#include "http.h"

enum metrics_way { WAY_TCP, WAY_HTTP, WAY_SSE, WAY_WEBSOCKET, WAYS };

struct metrics_now { /* the daemon's, at one moment */
    broker_stats broker;
    uint64_t epoch;
    uint32_t connections[WAYS];                 /* open, by way; HTTP: those that are neither SSE nor WebSocket */
    struct histogram sync_us;                   /* how long syncs of the log took */
    uint64_t disk_free_bytes, disk_total_bytes; /* of the data directory's file system */
    uint64_t open_files, max_files;
    bool ready;      /* recovered, listening, not stopping */
    const char *why; /* not ready: why */
};

struct metrics_options {
    uint32_t interval_ms; /* of the statistics stream; default 1000 */
    uint32_t
        max_queues; /* with figures of their own in one answer; the others are added up under one name. Default 1000 */
};

struct metrics;
struct metrics *metrics_new(const struct metrics_options *options, struct http *http, struct clients *clients,
                            void (*now)(void *arg, struct metrics_now *out), void *arg);
void metrics_free(struct metrics *m);
uint32_t metrics_streams(const struct metrics *m); /* event streams open now */

#endif
