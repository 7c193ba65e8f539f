/* The trie against matching each pattern on its own, with few tokens so that patterns and topics meet often. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine_internal.h"

enum { QUEUES = 8, PATTERNS = 60, ROUNDS = 5000 };

static uint64_t state = 88172645463325252u;

static uint32_t below(uint32_t n) /* xorshift64: Marsaglia, Xorshift RNGs, 2003 */
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state % n);
}

struct fixture {
    struct engine e;
    struct queue *queues[QUEUES];
};

static int setup(void **s)
{
    struct fixture *f = calloc(1, sizeof *f);
    f->e.topics = topics_new();
    assert_non_null(f->e.topics);
    for (uint32_t i = 0; i < QUEUES; i++) {
        f->queues[i] = calloc(1, sizeof(struct queue) + 1);
        f->queues[i]->id = i * 3 + 1;
        f->queues[i]->next_seq = 1;
    }
    *s = f;
    return 0;
}

static int teardown(void **s)
{
    struct fixture *f = *s;
    for (uint32_t i = 0; i < QUEUES; i++) {
        topics_forget_queue(&f->e, f->queues[i]);
        assert_int_equal(f->queues[i]->binding_count, 0);
        free(f->queues[i]);
    }
    topics_free(f->e.topics);
    free(f);
    return 0;
}

static void random_topic(char out[64], bool pattern)
{
    static const char *const tokens[] = {"a", "b", "cc", "*", "*", ">"};
    uint32_t n = 1 + below(5);
    size_t at = 0;
    for (uint32_t i = 0; i < n; i++) {
        const char *token = tokens[below(pattern ? (i + 1 == n ? 6 : 5) : 3)];
        at += (size_t)snprintf(out + at, 64 - at, "%s%s", i ? "." : "", token);
    }
}

static uint32_t found(struct fixture *f, const char *topic, struct queue *const **queues)
{
    uint32_t count = 99;
    assert_true(topics_match(&f->e, topic, strlen(topic), queues, &count));
    return count;
}

static void check(struct fixture *f, bool bound[QUEUES][PATTERNS], char patterns[PATTERNS][64], const char *topic)
{
    struct queue *const *queues;
    uint32_t count = found(f, topic, &queues), expected = 0;
    for (uint32_t i = 0; i < QUEUES; i++) {
        bool wanted = false;
        for (uint32_t k = 0; k < PATTERNS; k++) {
            wanted |= bound[i][k] && topic_matches(patterns[k], strlen(patterns[k]), topic, strlen(topic));
        }
        if (wanted) {
            assert_true(expected < count);
            assert_ptr_equal(queues[expected], f->queues[i]);
            expected++;
        }
    }
    assert_int_equal(count, expected);
}

static void test_as_each_pattern_alone(void **s)
{
    struct fixture *f = *s;
    static bool bound[QUEUES][PATTERNS];
    static char patterns[PATTERNS][64];
    for (uint32_t k = 0; k < PATTERNS; k++) {
        for (uint32_t twin = 0; twin <= k;) { /* distinct ones */
            twin = 0;
            random_topic(patterns[k], true);
            while (twin < k && strcmp(patterns[twin], patterns[k]) != 0) {
                twin++;
            }
            twin = twin == k ? k + 1 : 0;
        }
    }
    for (int round = 0; round < ROUNDS; round++) {
        uint32_t i = below(QUEUES), k = below(PATTERNS);
        size_t len = strlen(patterns[k]);
        bool growing = round / 250 % 2 == 0; /* by turns: many bindings, and nearly none */
        if (below(10) < (growing ? 9 : 1)) {
            assert_true(topics_bind(&f->e, f->queues[i], patterns[k], len));
            bound[i][k] = true;
        } else if (below(20)) {
            topics_unbind(&f->e, f->queues[i], patterns[k], len);
            bound[i][k] = false;
        } else {
            topics_forget_queue(&f->e, f->queues[i]);
            memset(bound[i], 0, sizeof bound[i]);
        }
        assert_int_equal(topics_has(f->queues[i], patterns[k], len), bound[i][k]);
        uint32_t n = 0;
        for (uint32_t j = 0; j < PATTERNS; j++) {
            n += bound[i][j];
        }
        assert_int_equal(f->queues[i]->binding_count, n);
        char topic[64];
        random_topic(topic, false);
        check(f, bound, patterns, topic);
    }
}

static void test_what_the_wildcards_mean(void **s)
{
    struct fixture *f = *s;
    struct queue *const *queues;
    struct queue *q = f->queues[0];
    assert_int_equal(found(f, "a", &queues), 0);
    assert_true(topics_bind(&f->e, q, "a.>", 3));
    assert_int_equal(found(f, "a", &queues), 0); /* '>' is one token or more */
    assert_int_equal(found(f, "a.b", &queues), 1);
    assert_int_equal(found(f, "a.b.c.d", &queues), 1);
    assert_true(topics_bind(&f->e, q, "*.b", 3));
    assert_true(topics_bind(&f->e, q, "a.b", 3));
    assert_int_equal(found(f, "a.b", &queues), 1); /* by three patterns, and once */
    assert_int_equal(found(f, "c.b", &queues), 1);
    assert_int_equal(found(f, "c.b.c", &queues), 0);
    topics_unbind(&f->e, q, "a.>", 3);
    assert_int_equal(found(f, "a.c", &queues), 0);
    assert_int_equal(found(f, "a.b", &queues), 1);
    assert_true(topics_bind(&f->e, q, ">", 1));
    char longest[TOPIC_MAX_TOKENS * 2];
    for (uint32_t i = 0; i < TOPIC_MAX_TOKENS; i++) {
        memcpy(longest + 2 * i, "x.", 2);
    }
    longest[sizeof longest - 1] = 0;
    assert_true(topic_is_valid(longest, strlen(longest)));
    assert_int_equal(found(f, longest, &queues), 1);
}

static void test_bindings_survive(void **s)
{
    struct fixture *f = *s;
    struct buf b;
    buf_init(&b, 0);
    struct queue *const *queues;
    topics_bind(&f->e, f->queues[0], "a.*", 3);
    topics_bind(&f->e, f->queues[0], "b.>", 3);
    assert_true(bindings_save(f->queues[0], &b));
    struct reader r = {.at = b.bytes, .left = b.len};
    assert_true(bindings_load(&f->e, f->queues[1], &r));
    assert_int_equal(r.left, 0);
    assert_int_equal(f->queues[1]->binding_count, 2);
    assert_int_equal(found(f, "b.x.y", &queues), 2);
    for (size_t len = 0; len < b.len; len++) { /* cut short */
        r = (struct reader){.at = b.bytes, .left = len};
        topics_forget_queue(&f->e, f->queues[2]);
        assert_false(bindings_load(&f->e, f->queues[2], &r));
        assert_int_equal(r.error, BROKER_MALFORMED);
    }
    r = (struct reader){.at = b.bytes, .left = b.len};
    assert_false(bindings_load(&f->e, f->queues[1], &r)); /* bound already: a queue is loaded once */
    memcpy(b.bytes + 8, "a..", 3);
    r = (struct reader){.at = b.bytes, .left = b.len};
    topics_forget_queue(&f->e, f->queues[2]);
    assert_false(bindings_load(&f->e, f->queues[2], &r));
    buf_release(&b);
}

static void test_records_are_checked(void **s)
{
    struct fixture *f = *s;
    const char *text = NULL;
    struct queue *const *queues;
    const uint8_t bind[] = {1, 0, 0, 0, 0, 0, 0, 0, 'a', '.', '*'};
    const uint8_t unbind[] = {0, 0, 0, 0, 0, 0, 0, 0, 'a', '.', '*'};
    const uint8_t neither[] = {2, 0, 0, 0, 0, 0, 0, 0, 'a', '.', '*'};
    const uint8_t no_pattern[] = {1, 0, 0, 0, 0, 0, 0, 0, 'a', '.', '.'};
    assert_int_equal(bind_replay(&f->e, f->queues[0], bind, sizeof bind, &text), BROKER_OK);
    assert_int_equal(bind_replay(&f->e, f->queues[0], bind, sizeof bind, &text), BROKER_OK);
    assert_int_equal(found(f, "a.b", &queues), 1);
    assert_int_equal(bind_replay(&f->e, f->queues[0], unbind, sizeof unbind, &text), BROKER_OK);
    assert_int_equal(bind_replay(&f->e, f->queues[0], unbind, sizeof unbind, &text), BROKER_OK);
    assert_int_equal(found(f, "a.b", &queues), 0);
    assert_null(text);
    assert_int_equal(bind_replay(&f->e, f->queues[0], neither, sizeof neither, &text), BROKER_MALFORMED);
    assert_int_equal(bind_replay(&f->e, f->queues[0], no_pattern, sizeof no_pattern, &text), BROKER_MALFORMED);
    assert_int_equal(bind_replay(&f->e, f->queues[0], bind, 8, &text), BROKER_MALFORMED);
    assert_int_equal(bind_replay(&f->e, f->queues[0], bind, 0, &text), BROKER_MALFORMED);
    assert_non_null(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_as_each_pattern_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_the_wildcards_mean, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bindings_survive, setup, teardown),
        cmocka_unit_test_setup_teardown(test_records_are_checked, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
