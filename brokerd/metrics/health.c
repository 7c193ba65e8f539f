/* For those who watch over the process: is it alive, is it of use, what is it? */
#include <stdio.h>
#include <string.h>

#include "metrics_internal.h"
#include "wire.h"

#ifndef METRICS_BUILD_TYPE
#define METRICS_BUILD_TYPE "unknown"
#endif
#ifndef METRICS_SANITIZE
#define METRICS_SANITIZE "none"
#endif

/* Whoever gets this answer knows that the loop turns. */
void metrics_get_healthz(void *arg, struct http_exchange *x, const struct http_request *r)
{
    metrics_respond(x, 200, "text/plain; charset=utf-8", "ok\n", 3);
}

void metrics_get_readyz(void *arg, struct http_exchange *x, const struct http_request *r)
{
    struct metrics *m = arg;
    struct metrics_now now;
    char text[256];
    metrics_look(m, &now);
    snprintf(text, sizeof(text), "%.250s\n", now.ready ? "ready" : now.why ? now.why : "not ready");
    metrics_respond(x, now.ready ? 200 : 503, "text/plain; charset=utf-8", text, strlen(text));
}

void metrics_get_version(void *arg, struct http_exchange *x, const struct http_request *r)
{
    static const char text[] =
        "{\"name\":\"brokerd\",\"version\":\"" BROKER_VERSION_STRING "\",\"build_type\":\"" METRICS_BUILD_TYPE
        "\",\"sanitizers\":\"" METRICS_SANITIZE "\",\"compiler\":\"" METRICS_COMPILER
        "\",\"features\":[\"tcp\",\"rest\",\"cloudevents\","
        "\"events\",\"websocket\",\"statistics\",\"page\"]}\n";
    metrics_respond(x, 200, "application/json", text, sizeof(text) - 1);
}
