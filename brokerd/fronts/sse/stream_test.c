#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "test/rig.h"

#define A "/v1/queues/a/events"

/* ---- by position ---------------------------------------------------------------------------------------------------- */

static void begins_at_the_end(void **state)
{
    struct peer p;
    publish_text("a", "old");
    peer_get(&p, A, NULL);
    const char *head = expect(&p, "\r\n\r\n");
    assert_non_null(strstr(head, "HTTP/1.1 200"));
    assert_non_null(strstr(head, "Content-Type: text/event-stream"));
    assert_non_null(strstr(head, "X-Accel-Buffering: no"));
    expect(&p, ": events of queue a\nretry: 2000\n\n");
    expect(&p, "id: 3.7-1\n\n"); /* epoch, queue id, what was there before */
    publish_text("a", "new\n\"x\"");
    expect(&p, "data: {\"queue\":\"a\",\"seq\":2,");
    expect(&p, "\"body\":\"new\\n\\\"x\\\"\"}\nid: 3.7-2\n\n");
    publish_text("a", "more");
    expect(&p, "\"seq\":3,");
    assert_int_equal(sse_streams(sse), 1);
    peer_close(&p);
    while (sse_streams(sse) > 0)
        turn();
    assert_int_equal(seen.by_type[COMMAND_CLOSE], 1);
    assert_int_equal(waiting_reads(), 0);
}

static void missing_queue(void **state)
{
    struct peer p, q;
    peer_get(&p, "/v1/queues/nowhere/events", NULL);
    expect(&p, "HTTP/1.1 404");
    expect(&p, "QUEUE_NOT_FOUND");
    peer_get(&q, "/v1/events?queue=a&queue=nowhere", NULL);
    expect(&q, "HTTP/1.1 404");
    for (int i = 0; i < 3; i++)
        turn();
    assert_int_equal(clients_count(clients), 0); /* nothing is left of them, though the connections stay */
    peer_close(&p);
    peer_close(&q);
}

static void starts_anywhere(void **state)
{
    static const struct {
        const char *query, *first;
    } starts[] = {{"?from=beginning", "\"seq\":1,"},           {"?from=3", "\"seq\":3,"},
                  {"?from_time=4000", "\"seq\":4,"},           {"?from_time=1970-01-01T00:00:03.5Z", "\"seq\":4,"},
                  {"?from=beginning&topic=t.2", "\"seq\":2,"}, {"?from_time=4000&topic=t.5", "\"seq\":5,"}};
    for (int i = 1; i <= 5; i++) {
        char topic[16];
        snprintf(topic, sizeof(topic), "t.%d", i);
        publish_topic("a", "x", topic);
    }
    for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++) {
        struct peer p;
        char path[128];
        snprintf(path, sizeof(path), A "%s", starts[i].query);
        peer_get(&p, path, NULL);
        expect(&p, "data: {\"queue\":\"a\",");
        assert_string_equal(expect(&p, ","), starts[i].first);
        peer_close(&p);
    }
}

static void resumes_exactly(void **state)
{
    struct peer p;
    char id[64];
    for (int i = 0; i < 10; i++)
        publish_text("a", "x");
    peer_get(&p, A "?from=beginning", NULL);
    expect(&p, "\"seq\":4,");
    snprintf(id, sizeof(id), "%s", next_id(&p));
    peer_close(&p);
    epoch = 4;                                                 /* the broker has been started again */
    peer_get(&p, A "?from=beginning&last_event_id=3.7-9", id); /* the field has the last word */
    expect(&p, "id: 4.7-4\n\n");
    assert_null(strstr(expect(&p, "data: {\"queue\":\"a\",\"seq\":5,"), "event: reset"));
    peer_close(&p);
    peer_get(&p, A "?last_event_id=3.7-9", NULL);
    expect(&p, "data: {\"queue\":\"a\",\"seq\":10,");
    peer_close(&p);
    peer_get(&p, A, ""); /* no id is none: at the end */
    expect(&p, "id: 4.7-a\n\n");
    peer_close(&p);
}

static void resets(void **state)
{
    static const struct {
        const char *id, *reason;
    } ids[] = {{"3.6-2", "other_queue"}, {"3.7-9", "beyond_end"}, {"3.7-1", "trimmed"}, {"9.7-4", "other_life"}};
    for (int i = 0; i < 6; i++)
        publish_text("a", "x");
    trim_queue("a", 4);
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        struct peer p;
        char event[128];
        snprintf(event, sizeof(event), "event: reset\ndata: {\"reason\":\"%s\",\"queue\":\"a\",\"from\":4,",
                 ids[i].reason);
        peer_get(&p, A, ids[i].id);
        expect(&p, event);
        expect(&p, "id: 3.7-3\n\n");
        expect(&p, "data: {\"queue\":\"a\",\"seq\":4,");
        expect_no(&p, "event: reset");
        peer_close(&p);
    }
}

static void refuses_ids_that_make_no_sense(void **state)
{
    static const char *const ids[] = {"x",
                                      "3",
                                      "3.7",
                                      "3.7-",
                                      "3.7-1.",
                                      "3.7-1x",
                                      ".7-1",
                                      "3.7--1",
                                      "3.7-1-1",
                                      "3.7-ffffffffffffffff",
                                      "3.123456789-1",
                                      "3.7-1.8-1.9-1.a-1.b-1"};
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        struct peer p;
        peer_get(&p, A, ids[i]);
        expect(&p, "HTTP/1.1 400");
        expect(&p, "event id '");
        peer_close(&p);
    }
}

static void several_queues(void **state)
{
    struct peer p;
    publish_text("a", "a1");
    peer_get(&p, "/v1/events?queue=a&queue=b", NULL);
    expect(&p, ": events of 2 queues\n");
    expect(&p, "id: 3.7-1.8-0\n\n");
    publish_text("b", "b1");
    expect(&p, "data: {\"queue\":\"b\",\"seq\":1,");
    expect(&p, "id: 3.7-1.8-1\n\n");
    publish_text("a", "a2");
    expect(&p, "data: {\"queue\":\"a\",\"seq\":2,");
    expect(&p, "id: 3.7-2.8-1\n\n");
    peer_close(&p);
    publish_text("b", "b2");
    publish_text("a", "a3");
    /* The id goes by queues, in whatever order they are named. */
    peer_get(&p, "/v1/events?queue=b&queue=a", "3.7-2.8-1");
    expect(&p, "id: 3.8-1.7-2\n\n");
    const char *got = expect(&p, "data: {\"queue\":\"a\",\"seq\":3,");
    assert_non_null(strstr(got, "data: {\"queue\":\"b\",\"seq\":2,"));
    assert_null(strstr(got, "reset"));
    assert_null(strstr(got, "\"seq\":1,"));
    expect_no(&p, "data:");
    peer_close(&p);
    /* Of a stream of other queues it knows only some. */
    peer_get(&p, "/v1/events?queue=a&queue=b", "3.7-2");
    expect(&p, "event: reset\ndata: {\"reason\":\"other_queue\",\"queue\":\"b\",\"from\":1,");
    peer_close(&p);
}

static void a_queue_that_ends(void **state)
{
    struct peer p, q;
    peer_get(&p, "/v1/events?queue=a&queue=b", NULL);
    peer_get(&q, "/v1/queues/b/events", NULL);
    expect(&p, "id: 3.");
    expect(&q, "id: 3.");
    turn();
    delete_queue("b");
    expect(&p, "event: end\ndata: {\"reason\":\"queue_deleted\",");
    expect(&p, "\"queue\":\"b\"}\n\n");
    publish_text("a", "on");
    expect(&p, "data: {\"queue\":\"a\",\"seq\":1,");
    expect(&q, "event: end\n");
    expect_end(&q);
    peer_close(&p);
    peer_close(&q);
}

static void a_queue_that_is_made_again(void **state)
{
    struct peer p;
    publish_text("a", "x");
    peer_get(&p, A, NULL);
    expect(&p, "id: 3.7-1\n\n");
    turn();
    publish_text("a", "x"); /* while its next read is not there yet … */
    make_queue("a");
    publish_text("a", "y"); /* … it is another one */
    expect(&p, "event: reset\ndata: {\"reason\":\"other_queue\",\"queue\":\"a\",\"from\":1,");
    expect(&p, "id: 3.9-0\n\n");
    expect(&p, "\"body\":\"y\"}\nid: 3.9-1\n\n");
    peer_close(&p);
}

/* ---- what events look like -------------------------------------------------------------------------------------------- */

static void bodies(void **state)
{
    struct peer p;
    peer_get(&p, A "?format=body", NULL);
    expect(&p, "id: 3.7-0\n\n");
    publish_text("a", "one");
    assert_string_equal(expect(&p, "id: 3.7-1\n\n"), "data: one\nid: 3.7-1\n\n");
    publish_text("a", "one\n\ntwo\n");
    assert_string_equal(expect(&p, "id: 3.7-2\n\n"), "data: one\ndata: \ndata: two\ndata: \nid: 3.7-2\n\n");
    publish_text("a", "");
    assert_string_equal(expect(&p, "id: 3.7-3\n\n"), "data: \nid: 3.7-3\n\n");
    publish("a", "\xff\x00\x01", 3);
    assert_string_equal(expect(&p, "id: 3.7-4\n\n"), "event: message-base64\ndata: /wAB\nid: 3.7-4\n\n");
    publish_text("a", "a\r\nb"); /* would come out without its CR */
    assert_string_equal(expect(&p, "id: 3.7-5\n\n"), "event: message-base64\ndata: YQ0KYg==\nid: 3.7-5\n\n");
    peer_close(&p);
}

static void names(void **state)
{
    struct peer p, q;
    peer_get(&p, A "?event=topic&format=body", NULL);
    peer_get(&q, A "?event=queue&format=body", NULL);
    expect(&p, "id: 3.7-0\n\n");
    expect(&q, "id: 3.7-0\n\n");
    publish_topic("a", "x", "orders.eu");
    publish_text("a", "y");
    publish_topic("a", "\xff", "orders.eu");
    assert_string_equal(expect(&p, "id: 3.7-1\n\n"), "event: orders.eu\ndata: x\nid: 3.7-1\n\n");
    assert_string_equal(expect(&p, "id: 3.7-2\n\n"), "data: y\nid: 3.7-2\n\n");
    assert_string_equal(expect(&p, "id: 3.7-3\n\n"), "event: orders.eu-base64\ndata: /w==\nid: 3.7-3\n\n");
    assert_string_equal(expect(&q, "id: 3.7-1\n\n"), "event: a\ndata: x\nid: 3.7-1\n\n");
    peer_close(&p);
    peer_close(&q);
}

/* ---- requests that are refused ------------------------------------------------------------------------------------------ */

static void refusals(void **state)
{
    static const struct {
        const char *path, *says;
    } bad[] = {
        {"/v1/events", "no queue is named"},
        {"/v1/events?queue=a&queue=a", "named twice"},
        {"/v1/events?queue=a&queue=b&queue=c&queue=d&queue=e", "at most 4"},
        {A "?queue=b", "the path names the queue already"},
        {A "?from=0", "from is '0'"},
        {A "?from=12x", "from is '12x'"},
        {A "?from=1&from_time=5", "from and from_time"},
        {A "?from=1&from=2", "from is there twice"},
        {A "?from_time=soon", "from_time is 'soon'"},
        {A "?header=x", "NAME:VALUE"},
        {A "?format=xml", "json or body"},
        {A "?event=id", "message, topic or queue"},
        {A "?frm=1", "unknown parameter 'frm'"},
        {A "?lease=10s", "goes with group"},
        {A "?group=g&from=1", "from does not go with group"},
        {A "?group=", "group has no name"},
        {A "?group=g&lease=5w", "lease is '5w'"},
        {A "?group=g&max_unsettled=0", "max_unsettled is '0'"},
        {A "?group=g&format=body", "no room for receipts"},
        {A "?topic=a..b", "is no pattern of topics"},
        {"/v1/queues/.x/events", "is not valid"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct peer p;
        peer_get(&p, bad[i].path, NULL);
        expect(&p, "HTTP/1.1 400");
        expect(&p, bad[i].says);
        peer_close(&p);
    }
    turn();
    assert_int_equal(clients_count(clients), 0);
}

static void filters_are_passed_on(void **state)
{
    struct peer p;
    peer_get(&p, A "?topic=orders.%3E&key=k%201&header=tenant:acme&header=x:", NULL);
    expect(&p, "id: ");
    const broker_filter *f = &seen.read.u.read.filter;
    assert_string_equal(f->topic, "orders.>");
    assert_string_equal(f->key, "k 1");
    assert_int_equal(f->header_count, 2);
    assert_string_equal(f->headers[0].name, "tenant");
    assert_string_equal(f->headers[0].value, "acme");
    assert_string_equal(f->headers[1].value, "");
    peer_close(&p);
}

/* ---- connections ---------------------------------------------------------------------------------------------------------- */

static void gone_before_the_first_answer(void **state)
{
    struct peer p;
    seen.mute = true;
    peer_get(&p, A, NULL);
    while (seen.by_type[COMMAND_READ] == 0)
        turn();
    assert_int_equal(clients_count(clients), 1);
    peer_close(&p);
    while (clients_count(clients) > 0)
        turn();
    assert_int_equal(seen.by_type[COMMAND_CLOSE], 1);
}

static void heartbeats(void **state)
{
    struct peer p;
    peer_get(&p, A, NULL);
    expect(&p, "id: 3.7-0\n\n");
    for (int i = 0; i < 3; i++)
        assert_string_equal(expect(&p, "\n\n"), ":\n\n");
    publish_text("a", "x");
    expect(&p, "\"seq\":1,");
    expect(&p, "\n\n:\n\n");
    peer_close(&p);
}

static void reads_no_further_for_who_does_not_read(void **state)
{
    struct peer p;
    char body[1000];
    memset(body, 'x', sizeof(body));
    peer_get(&p, A, NULL);
    expect(&p, "id: 3.7-0\n\n");
    for (int i = 0; i < 1000; i++)
        publish("a", body, sizeof(body));
    for (int i = 0; i < 50; i++)
        turn();
    unsigned reads = seen.by_type[COMMAND_READ];
    assert_true(reads < 100); /* each was answered with a message or more */
    for (int i = 0; i < 20; i++)
        turn();
    assert_int_equal(seen.by_type[COMMAND_READ], reads);
    for (int i = 1; i <= 1000; i++) { /* nothing is missing, nothing comes twice */
        char want[64];
        snprintf(want, sizeof(want), "data: {\"queue\":\"a\",\"seq\":%d,", i);
        const char *got = expect(&p, want);
        assert_ptr_equal(strstr(got, "data: "), got + strlen(got) - strlen(want));
    }
    peer_close(&p);
}

static void a_stalled_one_is_cut(void **state)
{
    struct peer p, q;
    char body[1000];
    memset(body, 'x', sizeof(body));
    peer_get(&p, A, NULL);
    peer_get(&q, A "?format=body", NULL);
    expect(&p, "id: 3.7-0\n\n");
    expect(&q, "id: 3.7-0\n\n");
    for (int i = 0; i < 300; i++)
        publish("a", body, sizeof(body));
    while (sse_streams(sse) == 2)
        expect(&q, "\n\n"); /* goes on all the while, until it has everything */
    struct sse_hub_stats stats;
    sse_hub_get_stats(sse->hub, &stats);
    assert_int_equal(stats.stalled, 1);
    publish_text("a", "after it");
    expect(&q, "data: after it\n");
    peer_close(&p);
    peer_close(&q);
}

static void says_goodbye(void **state)
{
    struct peer p, q;
    peer_get(&p, A, NULL);
    peer_get(&q, A "?group=g", NULL);
    expect(&p, "id: ");
    expect(&q, "retry: 2000\n\n");
    http_goaway(http, "the broker is shutting down");
    expect(&p, "event: end\ndata: {\"reason\":\"shutting_down\",\"text\":\"the broker is shutting down\"}\n\n");
    expect(&q, "event: end\n");
    expect_end(&p);
    expect_end(&q);
    peer_close(&p);
    peer_close(&q);
}

/* ---- a group's consumer ----------------------------------------------------------------------------------------------------- */

static void hands_out_receipts(void **state)
{
    struct peer p;
    peer_get(&p, A "?group=workers&lease=10s&max_unsettled=5", NULL);
    expect(&p, "retry: 2000\n\n");
    turn();
    assert_int_equal(seen.subscribe.u.subscribe.lease_ms, 10000);
    assert_int_equal(seen.subscribe.u.subscribe.max_unsettled, 5);
    assert_false(seen.subscribe.u.subscribe.settle_on_send);
    assert_int_equal(seen.by_type[COMMAND_CREDIT], 1);
    deliver_text("a", "job");
    const char *got = expect(&p, "\n\n");
    assert_non_null(strstr(got, "\"receipt\":\"1000\""));
    assert_non_null(strstr(got, "\"attempt\":1"));
    assert_non_null(strstr(got, "\"body\":\"job\""));
    assert_null(strstr(got, "id: ")); /* what it was given is not acked by coming back */
    deliver_text("a", "again");
    got = expect(&p, "\n\n");
    assert_non_null(strstr(got, "\"receipt\":\"1001\""));
    assert_non_null(strstr(got, "\"attempt\":2"));
    peer_close(&p);
    while (clients_count(clients) > 0)
        turn();
    assert_int_equal(seen.by_type[COMMAND_CLOSE], 1); /* its leases go back */
}

static void settles_on_send(void **state)
{
    struct peer p;
    peer_get(&p, A "?group=g&ack=on_send&format=body", NULL);
    expect(&p, "retry: 2000\n\n");
    turn();
    assert_true(seen.subscribe.u.subscribe.settle_on_send);
    deliver_text("a", "job");
    assert_string_equal(expect(&p, "\n\n"), "data: job\n\n");
    peer_close(&p);
}

static void a_full_consumer_is_held(void **state)
{
    struct peer p;
    char body[2001] = {0};
    memset(body, 'x', 2000);
    peer_get(&p, A "?group=g", NULL);
    expect(&p, "retry: 2000\n\n");
    turn();
    int given = 0;
    for (; given < 1000 && !seen.subscription_full; given++) {
        deliver_text("a", body);
        turn();
    }
    assert_true(given < 100);
    assert_int_equal(seen.by_type[COMMAND_UNHOLD], 0);
    for (int i = 0; i < given; i++)
        expect(&p, "\n\n");
    while (seen.by_type[COMMAND_UNHOLD] == 0)
        turn();
    deliver_text("a", "on");
    expect(&p, "\"body\":\"on\"");
    peer_close(&p);
}

static void a_subscription_that_ends(void **state)
{
    struct peer p;
    peer_get(&p, A "?group=g", NULL);
    expect(&p, "retry: 2000\n\n");
    turn();
    delete_queue("a");
    expect(&p,
           "event: end\ndata: {\"reason\":\"queue_deleted\",\"text\":\"the queue was deleted\",\"queue\":\"a\"}\n\n");
    expect_end(&p);
    peer_close(&p);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, start, stop)
    static int quick;
    const struct CMUnitTest tests[] = {
        TEST(begins_at_the_end),
        TEST(missing_queue),
        TEST(starts_anywhere),
        TEST(resumes_exactly),
        TEST(resets),
        TEST(refuses_ids_that_make_no_sense),
        TEST(several_queues),
        TEST(a_queue_that_ends),
        TEST(a_queue_that_is_made_again),
        TEST(bodies),
        TEST(names),
        TEST(refusals),
        TEST(filters_are_passed_on),
        TEST(gone_before_the_first_answer),
        cmocka_unit_test_prestate_setup_teardown(heartbeats, start, stop, &quick),
        TEST(reads_no_further_for_who_does_not_read),
        TEST(a_stalled_one_is_cut),
        TEST(says_goodbye),
        TEST(hands_out_receipts),
        TEST(settles_on_send),
        TEST(a_full_consumer_is_held),
        TEST(a_subscription_that_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
