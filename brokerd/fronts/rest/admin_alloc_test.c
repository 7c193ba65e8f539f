/* Every allocation of administrative calls fails once: each is answered or its connection ends, and nothing of it is left. */
#include <sys/socket.h>

#include "test/rig.h"
#include "test_alloc.h"

/* ---- who answers ---------------------------------------------------------------------------------------------------- */

static unsigned scans;

static void answer_any(bool missing)
{
    broker_header header = {"a", "1"};
    broker_group_info g = {.name = "default",
                           .settings.filter = {.topic = "x.>", .headers = &header, .header_count = 1}};
    broker_queue_info queue = {.name = "jobs", .last_seq = 100, .settings.lease_ms = 30000};
    const char *binding = "x.>";
    switch (seen.last.type) {
    case COMMAND_QUEUE_LIST: answer((struct completion){.u.list = {.queues = &queue, .count = 1}}); break;
    case COMMAND_QUEUE_DESCRIBE:
        if (missing && seen.count == 1)
            answer_error(BROKER_QUEUE_NOT_FOUND, "no queue");
        else
            answer((struct completion){.u.describe = {&queue, &g, 1, &binding, 1}});
        break;
    case COMMAND_SCAN:
        answer((struct completion){
            .u.scan = {.matched = 1, .next_seq = scans++ ? 0 : 7, .peek = seen.last.u.scan.action == SCAN_PEEK}});
        break;
    case COMMAND_CLOSE: break;
    default: answer((struct completion){0});
    }
}

static void backup_begin(void *backup, struct backup_asker asker, backup_begun *done, void *arg)
{
    static const struct backup_file files[] = {{"segment-1", 3000, 1500}, {"checkpoint-1", 10, 10}};
    done(arg, asker, BROKER_OK, NULL, &(struct backup_listing){files, 2, 1510, 1});
}

static void backup_read(void *backup, struct backup_asker asker, uint32_t file, uint64_t offset, uint32_t max_bytes,
                        backup_bytes *done, void *arg)
{
    static const uint8_t data[1500];
    done(arg, asker, BROKER_OK, NULL, data, file ? 10 : sizeof(data));
}

static broker_error backup_end(void *backup, uint64_t conn)
{
    return BROKER_OK;
}
static const struct backup_ops OPS = {backup_begin, backup_read, backup_end};

/* ---- what is asked -------------------------------------------------------------------------------------------------- */

static const struct scenario {
    const char *method, *path, *body;
    bool missing;
} SCENARIOS[] = {
    {"PUT", "/v1/queues/jobs", "{\"lease_ms\":5,\"dead_letter\":\"d\"}", true},
    {"PATCH", "/v1/queues/jobs", "{\"lease_ms\":5}", false},
    {"PUT", "/v1/queues/jobs", "{\"leese_ms\":5}", false},
    {"GET", "/v1/queues?prefix=j&after=a&limit=5", "", false},
    {"PUT", "/v1/queues/jobs/groups/default", "{\"filter\":{\"topic\":\"x.>\",\"headers\":{\"a\":\"1\"}}}", false},
    {"PUT", "/v1/queues/jobs/groups/new", "{\"start\":\"end\"}", false},
    {"GET", "/v1/queues/jobs/groups", "", false},
    {"PUT", "/v1/queues/jobs/bindings/x.%3E", "", false},
    {"POST", "/v1/queues/jobs/scan?all=true", "{\"action\":\"delete\",\"filter\":{\"key\":\"k\"}}", false},
    {"POST", "/v1/queues/jobs/dead/redrive", "{\"filter\":{\"headers\":{\"b\":\"2\"}}}", false},
    {"GET", "/v1/queues/jobs/dead?header=a:b&topic=x&key=k", "", false},
    {"DELETE", "/v1/queues/jobs/messages/5", "", false},
    {"GET", "/v1/definitions?prefix=j", "", false},
    {"POST", "/v1/definitions?alter=true",
     "{\"format\":\"brokerd definitions\",\"version\":1,\"queues\":[{\"name\":\"jobs\",\"paused\":true,"
     "\"settings\":{\"lease_ms\":5,\"backoff\":\"fixed\"},\"groups\":[{\"name\":\"default\",\"single_active\":true},"
     "{\"name\":\"g\",\"filter_key\":\"k\",\"filter_headers\":{\"a\":\"b\"}}],\"bindings\":[\"x.>\",\"y\"]}]}",
     false},
    {"POST", "/v1/definitions",
     "{\"format\":\"brokerd definitions\",\"version\":1,\"queues\":[{\"name\":\"jobs\",\"paused\":true}]}", true},
    {"GET", "/v1/backup", "", false},
    {"GET", "/errors/queue_full", "", false},
};

/* How many allocations it took. */
static uint64_t run(const struct scenario *s, uint64_t failing)
{
    unsigned answered = 0;
    void *state = NULL;
    scans = 0;
    start(&state);
    rest->host.backup_ops = &OPS;
    not_reading = true;
    test_alloc_calls = 0;
    test_alloc_fail_at = failing;
    request(s->method, s->path, "", s->body);
    for (int i = 0; i < 60; i++) {
        if (seen.count != answered) {
            answered = seen.count;
            answer_any(s->missing);
        }
        turn(false);
        char ignored[4096];
        while (recv(fd, ignored, sizeof(ignored), MSG_DONTWAIT) > 0)
            ;
    }
    test_alloc_fail_at = 0;
    if (rest->call_count > 0)
        fail_msg("%s %s is under way for ever when allocation %llu fails", s->method, s->path,
                 (unsigned long long)failing);
    stop(&state);
    return test_alloc_calls;
}

static void each_allocation_fails_once(void **state)
{
    json_set_alloc_funcs(test_alloc_malloc, free);
    for (size_t i = 0; i < sizeof(SCENARIOS) / sizeof(SCENARIOS[0]); i++) {
        uint64_t failed = 1;
        while (run(&SCENARIOS[i], failed) >= failed)
            failed++;
        assert_true(failed > 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_allocation_fails_once)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
